"""The lab's machines: confined whatever a script tries, believable, and honest about what they cannot do."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes import GPU, PLANS, fault, fingerprint, launch, machine_at, needs_sandbox, ok, run

from leptonami import catalog
from leptonami.lab import node
from leptonami.lab.node import safely
from leptonami.lab.node.tools import TOOLS

sandbox_module = sys.modules["leptonami.lab.node.sandbox"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> node.Machine:
    """Give a machine for tests that leave it as it was."""
    return launch(tmp_path_factory.mktemp("shared"), GPU)


# --- confinement


@needs_sandbox
def test_nothing_outside_the_node_root_can_be_written(shared: node.Machine) -> None:
    script = """
    for place in /usr/x /usr/bin/x /usr/lib/x /usr/share/x /x /lab/x /lab/python/x /lab/code/x /lab/tool /dev/x; do
      if echo bad 2>/dev/null >"$place"; then echo "wrote $place"; fi
    done
    for place in /proc/sys/vm/swappiness /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
      if echo 1 2>/dev/null >"$place"; then echo "wrote $place"; fi
    done
    rm -rf /usr/bin/true /lab/code /lab/python 2>/dev/null; [ -x /usr/bin/true ] && [ -d /lab/code ] && echo intact
    """
    assert ok(shared, script).out == "intact\n"


@needs_sandbox
@pytest.mark.parametrize(
    "attack",
    [
        "mount -o remount,rw /usr",
        "mount -o remount,bind,rw /usr/share",
        "umount /usr/share",
        "mount -t tmpfs none /usr",
        "mount --bind /etc /usr",
        "unshare -Urm mount -o remount,bind,rw /usr/share",
        "unshare -Urm umount -l /proc/sys",
        "unshare -Urm sh -c 'mount -o remount,bind,rw /proc/sys && echo 1 >/proc/sys/vm/swappiness'",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "chroot /proc/1/root touch /usr/x",
        "head -c 1 /dev/vda || head -c 1 /dev/nvme0n1 || head -c 1 /dev/sda",
        "hostname elsewhere",
        "kill -9 1; kill -0 $PPID && kill -9 $PPID && sleep 5",
        "curl --version",
    ],
)
def test_the_confinement_cannot_be_undone(shared: node.Machine, attack: str) -> None:
    before = fingerprint(Path("/etc/alternatives"))
    ran = run(shared, f"({attack}) 2>&1 && echo BROKEN OUT", timeout=120)
    assert "BROKEN OUT" not in ran.out
    assert fingerprint(Path("/etc/alternatives")) == before


@needs_sandbox
def test_there_is_no_network(shared: node.Machine) -> None:
    script = """
    cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '
    (exec 3<>/dev/tcp/127.0.0.1/1) 2>&1 | tail -1
    """
    out = ok(shared, f"#!/bin/bash\n{script}").out.splitlines()
    assert out[0] == "lo"
    assert "unreachable" in out[-1] or "refused" in out[-1]
    outside = run(shared, "curl -fsS https://example.com/")
    assert (outside.code, outside.err) == (6, "curl: (6) Could not resolve host: example.com\n")


@needs_sandbox
def test_a_script_sees_nothing_of_the_host(shared: node.Machine) -> None:
    ran = ok(shared, "cat /etc/passwd; hostname 2>/dev/null; ls /home /root /srv; ps -e 2>/dev/null | wc -l; env")
    assert "ubuntu:x:1000" in ran.out
    assert os.environ.get("HOME", "/nowhere") + "/" not in ran.out.replace("/home/ubuntu", "")
    secrets = [name for name in os.environ if name.startswith(("PYTEST", "VIRTUAL", "SSH"))]
    assert not [name for name in secrets if f"{name}=" in ran.out]


@needs_sandbox
def test_a_planted_link_leads_nowhere_but_into_the_node_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    machine = launch(tmp_path, GPU)
    ok(
        machine,
        f"""
        rm -rf /var/lib/amazon /var/lib/cloud /etc/ssh /var/log /run/lab /tmp/x
        for place in /var/lib/amazon /var/lib/cloud /etc/ssh /var/log /tmp/x /run/x; do ln -s {outside} $place; done
        rm -f /etc/machine-id && ln -s {outside}/keep /etc/machine-id
        rm -f /lab/state/packages.json && ln -s {outside}/keep /lab/state/packages.json
        """,
    )
    for act in (node.first_boot, node.reboot, node.stop):
        try:
            act(machine)
        except OSError as error:
            assert error.errno in (40, 20), "a link or no folder"  # ELOOP, ENOTDIR
    node.copy(machine.root, tmp_path / "copy")
    assert [path.name for path in outside.iterdir()] == ["keep"]
    assert (outside / "keep").read_text() == "keep"
    assert (tmp_path / "copy/etc/machine-id").is_symlink()


def test_writing_from_outside_follows_no_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "file").write_text("keep")
    (root / "folder").symlink_to(outside)
    (root / "name").symlink_to(outside / "file")
    with pytest.raises(OSError, match=r"folder|Too many|Not a directory"):
        safely.write(root, "folder/file", "bad")
    with pytest.raises(OSError, match="Too many"):
        safely.write(root, "name", "bad")
    with pytest.raises(OSError, match=r"folder|Too many|Not a directory"):
        safely.clear(root, "folder")
    assert safely.read(root, "folder/file") is None
    safely.remove(root, "name")
    safely.remove(root, "folder")
    assert not (root / "name").is_symlink()
    assert (outside / "file").read_text() == "keep"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "", "/", "a/./../b"])
def test_a_path_out_of_the_node_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        safely.write(tmp_path / "root", path, "x") if (tmp_path / "root").mkdir() is None else None


def test_safe_writing_works(tmp_path: Path) -> None:
    safely.write(tmp_path, "/a/b/c", "text", mode=0o600)
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o600
    assert safely.read(tmp_path, "a/b/c") == b"text"
    assert safely.read(tmp_path, "a/b/none") is None
    safely.clear(tmp_path, "a")
    assert list((tmp_path / "a").iterdir()) == []
    safely.remove(tmp_path, "a")
    safely.remove(tmp_path, "a")
    assert not (tmp_path / "a").exists()


# --- running


@needs_sandbox
def test_exit_codes_and_output_are_the_scripts_own(shared: node.Machine) -> None:
    ran = run(shared, "echo out; echo err >&2; exit 7")
    assert (ran.code, ran.out, ran.err) == (7, "out\n", "err\n")
    assert run(shared, "kill -TERM $$").code == 128 + signal.SIGTERM
    assert run(shared, "#!/usr/bin/awk -f\nBEGIN { print 1 + 1 }").out == "2\n"
    assert run(shared, "no-such-program").code == 127


@needs_sandbox
def test_output_grows_while_the_script_runs(shared: node.Machine, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    execution = node.start(shared, "echo first; sleep 600", stdout=out, stderr=err)
    assert eventually(lambda: execution.output()[0])
    assert execution.output() == (b"first\n", b"")
    assert execution.wait(0.05) is None
    execution.cancel()
    execution.cancel()
    assert execution.wait(60) == 128 + signal.SIGKILL


def eventually(condition: Callable[[], object]) -> bool:
    """Wait until something is so; False if it does not come."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(mark: str) -> list[int]:
    """Give the processes with a word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]


def gone(mark: str) -> bool:
    return eventually(lambda: not alive(mark))


@needs_sandbox
def test_a_cancelled_script_leaves_nothing_running(shared: node.Machine, tmp_path: Path) -> None:
    mark = f"98765.{os.getpid()}4321"  # nobody else's, who runs these tests too
    script = f"(setsid sleep {mark} &) ; trap '' TERM INT; echo ready; sleep {mark}"
    execution = node.start(shared, script, stdout=tmp_path / "out", stderr=tmp_path / "err")
    assert eventually(lambda: execution.output()[0] == b"ready\n")
    assert eventually(lambda: len(alive(mark)) == 2)  # it says so before either of them is a `sleep`
    execution.cancel()
    assert gone(mark)


@needs_sandbox
def test_what_a_script_leaves_in_the_background_ends_with_it(shared: node.Machine) -> None:
    mark = f"98765.{os.getpid()}1111"
    ok(shared, f"setsid sleep {mark} & echo started")
    assert gone(mark)


@needs_sandbox
def test_a_script_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    mark = f"98765.{os.getpid()}2222"
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from nodes import GPU, machine_at
from leptonami.lab import node
machine = machine_at(Path({str(machine.root)!r}), GPU)
out = Path({str(tmp_path / "out")!r})
running = node.start(machine, "echo on; sleep {mark}", stdout=out, stderr=out)
print("started", flush=True)
import time
time.sleep(600)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], 60)[0]
    child.stdout.readline()
    assert eventually(lambda: alive(f"sleep\x00{mark}"))
    child.kill()
    child.wait()
    child.stdout.close()
    assert gone(f"sleep\x00{mark}")


@needs_sandbox
def test_many_scripts_run_at_once_on_machines_of_their_own(tmp_path: Path) -> None:
    node.seed(tmp_path / "image", family="al2", os="2", kubernetes="1.32", architecture="amd64", image_name="x")
    running = []
    for number in range(6):
        root = tmp_path / f"m{number}"
        node.copy(tmp_path / "image", root)
        machine = machine_at(root, PLANS["al2"], instance=f"i-{number}")
        node.first_boot(machine)
        script = f"sleep 0.2; echo {number} >/etc/number; yum install -y htop >/dev/null; cat /etc/number; rpm -q htop"
        running.append(node.start(machine, script, stdout=tmp_path / f"o{number}", stderr=tmp_path / f"e{number}"))
    for number, execution in enumerate(running):
        assert execution.wait(120) == 0
        assert execution.output() == (f"{number}\nhtop-1.0-1.x86_64\n".encode(), b"")


@needs_sandbox
def test_the_agents_folder_holds_the_script_under_the_commands_id(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    out = tmp_path / "out"
    node.start(machine, "pwd", stdout=out, stderr=out, execution="cmd-1").wait(60)
    folder = (
        f"var/lib/amazon/ssm/{machine.instance_id}/document/orchestration/cmd-1/awsrunShellScript/0.awsrunShellScript"
    )
    assert out.read_text() == f"/{folder}\n"
    assert (machine.root / folder / "_script.sh").read_text() == "pwd"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@needs_sandbox
def test_it_works_without_any_privilege() -> None:
    """As another user, with an interpreter that this user may read; the node package needs nothing else."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    mine = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for python in (mine, Path("/usr/bin/python3")):
        if subprocess.run([*other, "/usr/bin/test", "-x", python], check=False).returncode == 0:
            break
    else:
        pytest.skip("no interpreter that another user may run")
    program = (
        "import sys\n"
        "if sys.version_info < (3, 11): sys.exit('too old')\n"
        f"sys.path[:0] = {[str(Path(node.__file__).parents[3])]!r}\n"
        "from leptonami.lab import node; print(node.sandbox())"
    )
    done = subprocess.run([*other, python, "-c", program], capture_output=True, text=True, check=False, cwd="/usr")
    if done.stderr == "too old\n":
        pytest.skip("no new enough interpreter that another user may run")
    assert done.stdout == "(True, 'user namespaces work')\n", done.stderr


def probe(monkeypatch: pytest.MonkeyPatch) -> tuple[bool, str]:
    """Ask anew whether the sandbox works."""
    asked: tuple[bool, str] = sandbox_module.sandbox.__wrapped__()  # type: ignore[attr-defined]
    del monkeypatch
    return asked


def test_a_missing_sandbox_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert probe(monkeypatch) == (False, "Darwin has no user namespaces")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe(monkeypatch) == (False, "unshare (util-linux) is not installed")
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    works, why = probe(monkeypatch)
    assert not works
    assert why == "user namespaces do not work here: unshare: unshare failed: Operation not permitted"


def test_without_a_sandbox_a_machine_still_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("leptonami.lab.node.life.sandbox", lambda: (False, "not here"))
    machine = launch(tmp_path, GPU)
    node.reboot(machine)
    node.stop(machine)
    node.copy(machine.root, tmp_path / "copy")
    assert (tmp_path / "copy/etc/os-release").exists()


# --- the life of a machine


@pytest.mark.parametrize(
    "release",
    {(r.family, r.os, r.architecture): r for r in catalog.load().releases()}.values(),
    ids=lambda r: f"{r.family}-{r.os}-{r.architecture}",
)
def test_every_family_of_the_catalog_has_a_disk(tmp_path: Path, release: catalog.Release) -> None:
    node.seed(
        tmp_path / "root",
        family=release.family,
        os=release.os,
        kubernetes=release.kubernetes,
        architecture=release.architecture,
        image_name="name",
    )
    assert release.os in (tmp_path / "root/etc/os-release").read_text()
    assert (tmp_path / "root/etc/machine-id").read_text() == ""
    size = sum(path.stat().st_size for path in (tmp_path / "root").rglob("*") if path.is_file())
    assert size < 1_000_000


def test_a_copy_is_independent_and_has_no_memory(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    (machine.root / "run/memory").write_text("x")
    os.mkfifo(machine.root / "srv/pipe")
    (machine.root / "srv/link").symlink_to("/etc/passwd")
    (machine.root / "srv/file").write_text("before")
    node.copy(machine.root, tmp_path / "copy")
    (machine.root / "srv/file").write_text("after")
    assert (tmp_path / "copy/srv/file").read_text() == "before"
    assert (tmp_path / "copy/srv/link").readlink() == Path("/etc/passwd")
    assert not (tmp_path / "copy/srv/pipe").exists()
    assert list((tmp_path / "copy/run").iterdir()) == []


def test_identities_come_from_the_instance(tmp_path: Path) -> None:
    node.seed(tmp_path / "i", family="al2", os="2", kubernetes="1.32", architecture="amd64", image_name="x")
    ids = []
    for name, instance in (("a", "i-1"), ("b", "i-2"), ("c", "i-1")):
        node.copy(tmp_path / "i", tmp_path / name)
        node.first_boot(machine_at(tmp_path / name, PLANS["al2"], instance=instance))
        ids.append(
            (tmp_path / name / "etc/machine-id").read_text()
            + (tmp_path / name / "etc/ssh/ssh_host_rsa_key").read_text()
        )
    assert ids[0] == ids[2] != ids[1]


def test_a_machine_id_that_is_there_stays(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU, boot=False)
    (machine.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    node.first_boot(machine)
    assert (machine.root / "etc/machine-id").read_text() == "0123456789abcdef0123456789abcdef\n"


@needs_sandbox
def test_a_reboot_loses_memory_and_runs_the_newest_kernel(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    boot = "cat /proc/sys/kernel/random/boot_id; uname -r; ls /run/x /tmp/x /var/tmp/x 2>/dev/null; true"
    ok(machine, "touch /run/x /tmp/x /var/tmp/x")
    first = ok(machine, boot).out.split()
    assert first[1:] == ["6.8.0-1044-aws", "/run/x", "/tmp/x", "/var/tmp/x"]
    ok(machine, "apt-get update && apt-get install -y linux-image-6.8.0-1050-aws")
    assert ok(machine, boot).out.split()[1] == "6.8.0-1044-aws"
    node.reboot(machine)
    second = ok(machine, boot).out.split()
    assert second[0] != first[0]
    assert second[1:] == ["6.8.0-1050-aws", "/var/tmp/x"]


@needs_sandbox
def test_services_that_stop_write_what_they_write(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    ok(machine, "rm -f /var/lib/systemd/random-seed")
    node.stop(machine)
    assert (machine.root / "var/lib/systemd/random-seed").exists()


# --- stand-ins


@needs_sandbox
def test_what_a_stand_in_does_not_do_it_refuses(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    for name in TOOLS:
        (machine.root / "lab/bin" / name).unlink(missing_ok=True)
        (machine.root / "lab/bin" / name).symlink_to("/lab/tool")
    calls = "\n".join(
        f"{name} --no-such-option 2>&1; echo {name} $?" for name in sorted(TOOLS) if name != "lab-shutdown"
    )
    lines = ok(machine, calls).out.splitlines()
    for name in sorted(set(TOOLS) - {"lab-shutdown"}):
        assert f"{name} 64" in lines, name
        if TOOLS[name] != "systemd.refuse":
            assert f"leptonami lab: {name} does not do: --no-such-option" in lines


@needs_sandbox
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("apt-get dist-upgrade -y", 64, "does not do"),
        ("snap install hello", 64, "does not do"),
        ("ctr -n default images ls", 64, "does not do"),
        ("ctr -n k8s.io run x y", 64, "does not do"),
        ("systemctl isolate rescue", 64, "does not do"),
        ("reboot", 64, "ending with status 194"),
        ("apt-get install -y nvidia-utils-535-server=1", 100, "Unable to locate package"),
        (
            "apt-get update && apt-get install -y nvidia-utils-535-server=1",
            100,
            "Version '1' for 'nvidia-utils-535-server' was",
        ),
        ("apt-get update && apt-get install -y no-such-package", 100, "Unable to locate package no-such-package"),
        ("apt-mark hold no-such-package", 100, "Can't select"),
        ("dpkg-query -W no-such-package", 1, "no packages found"),
        ("systemctl start no-such-unit", 5, "not found"),
        ("systemctl enable no-such-unit", 1, "does not exist"),
        ("systemctl mask apt-daily.timer && systemctl start apt-daily.timer", 1, "is masked"),
        ("snap refresh --hold no-such-snap", 1, "is not installed"),
        ("modinfo nvidia", 1, "not found"),
        ("nvidia-smi", 127, "not found"),
        ("dnf install x", 127, "not found"),
        ("systemctl stop containerd && ctr -n k8s.io images ls", 1, "failed to dial"),
        ("ctr -n k8s.io images pull 'not a ref'", 1, "invalid reference format"),
        ("ctr -n k8s.io images pull docker.io/library/does-not-exist:1", 1, "not found"),
        ("ctr -n k8s.io images label docker.io/x/y:1 a=b", 1, "not found"),
        ("curl -fsS http://169.254.169.254/latest/meta-data/instance-id", 22, "401"),
        ("df /no/such/place", 1, "No such file"),
        ("containerd -c /etc/hostname config dump", 1, "failed to load TOML"),
    ],
)
def test_stand_ins_fail_as_the_real_ones_do(tmp_path: Path, command: str, code: int, says: str) -> None:
    ran = run(launch(tmp_path, GPU), command)
    assert ran.code == code, ran.text
    assert says in ran.text


@needs_sandbox
def test_metadata_answers_with_the_machines_values(shared: node.Machine) -> None:
    script = """
    token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    for path in instance-id instance-type placement/region iam/security-credentials/; do
      curl -fsS -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/$path && echo
    done
    """
    assert ok(shared, script).out.split() == [shared.instance_id, "g4dn.xlarge", "us-west-2", "role"]


@needs_sandbox
def test_the_machines_architecture_shows(tmp_path: Path) -> None:
    machine = launch(tmp_path, PLANS["al2023-arm64"])
    assert ok(machine, "uname -m; rpm -q --qf '%{ARCH}' bash").out.split() == ["aarch64", "aarch64"]


@needs_sandbox
def test_gpus_show_on_the_bus_without_a_driver(tmp_path: Path) -> None:
    machine = launch(tmp_path, PLANS["al2-gpu"])
    assert ok(machine, "grep -l 0x10de /sys/bus/pci/devices/*/vendor | wc -l; nvidia-smi -L | wc -l").out.split() == [
        "4",
        "4",
    ]
    machine.gpus = 0
    assert run(machine, "cat /sys/bus/pci/devices/*/vendor; nvidia-smi").out.splitlines() == [
        "0x1d0f",
        "No devices were found",
    ]


@needs_sandbox
def test_a_driver_that_does_not_fit_its_library_says_so(tmp_path: Path) -> None:
    machine = launch(tmp_path, PLANS["al2-gpu"])
    path = next((machine.root / "usr/lib/modules").rglob("nvidia.ko"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "1.0"}))
    ran = run(machine, "nvidia-smi")
    assert (ran.code, ran.out.splitlines()[0]) == (18, "Failed to initialize NVML: Driver/library version mismatch")


@needs_sandbox
def test_disk_space_follows_the_volume_and_the_images(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU, root_gib=20)
    free = "df -Pk / | awk 'NR == 2 { print $4 }'"
    before = int(ok(machine, free).out)
    assert before == 16 * 1024 * 1024
    ok(machine, "ctr -n k8s.io images pull docker.io/library/big:1")
    assert int(ok(machine, free).out) < before


@needs_sandbox
def test_units_are_started_in_their_order_and_really_run(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    units = machine.root / "etc/systemd/system"
    log = '/bin/sh -c "echo {} >>/srv/log"'
    (units / "a.service").write_text(
        "[Unit]\nBefore=b.service\n[Service]\nType=oneshot\nEnvironment=WORD=hello\n"
        f"ExecStart={log.format('$WORD')}\nExecStop={log.format('a stops')}\n[Install]\nWantedBy=multi-user.target\n"
    )
    (units / "b.service").write_text(
        f"[Unit]\nRequires=a.service\n[Service]\nExecStart={log.format('b')}\nExecStop={log.format('b stops')}\n"
    )
    ok(machine, "systemctl daemon-reload && systemctl enable a && systemctl start b")
    assert (machine.root / "srv/log").read_text() == "hello\nb\n"
    node.stop(machine)
    assert (machine.root / "srv/log").read_text() == "hello\nb\nb stops\na stops\n"


@needs_sandbox
def test_faults_are_spent(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    fault(machine, tool_fails={"snap": 2})
    ran = run(machine, "for n in 1 2 3; do snap list >/dev/null 2>&1; echo $?; done")
    assert ran.out.split() == ["1", "1", "0"]


@needs_sandbox
def test_a_pipe_of_stand_ins_does_not_wait_for_itself(shared: node.Machine) -> None:
    script = "snap list | head -n 1; dpkg-query -W | apt-cache madison x | curl -fsS -K - file:///etc/hostname"
    assert run(shared, f"{script}; snap list | true", timeout=120).code == 0
