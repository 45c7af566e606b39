"""The provisioning scripts, really run on the lab's machines: what they do, and how they fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import (
    ECR,
    FAMILIES,
    GPU,
    IMAGES,
    PLANS,
    Plan,
    fault,
    fingerprint,
    launch,
    needs_sandbox,
    ok,
    provisioned,
    run,
    settled,
)

from leptonami.build import steps
from leptonami.imagelist import Image
from leptonami.lab import node
from leptonami.lab.node.tools.containerd import digest

SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def shellcheck(path: Path) -> None:
    done = subprocess.run([SHELLCHECK, "-s", "bash", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# What a second run may change: the agent's files, the record's time, the lab's own state, memory.
CHANGING = ("var/lib/amazon", "etc/leptonami/image.json", "lab", "run", "var/log/dpkg.log")


# --- all of them


@pytest.mark.parametrize("name", steps.catalogue())
def test_rendered_scripts_are_clean(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own.sh"
    own.write_text("echo own\n")
    options = {
        **next((u.options for u in GPU.steps if u.name == name), {}),
        **({"path": str(own)} if name == "script" else {}),
    }
    path = tmp_path / "script.sh"
    path.write_text(steps.render(steps.StepUse(name, options), GPU.context))
    shellcheck(path)


def test_the_verification_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "verify.sh"
    path.write_text(GPU.verify())
    shellcheck(path)


@needs_sandbox
@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_runs_twice_on_every_family(tmp_path: Path, name: str) -> None:
    made = PLANS[name]
    machine = provisioned(tmp_path, name, until="hygiene")
    before = fingerprint(machine.root, lambda path: path.startswith(CHANGING))
    for use in made.steps:
        again = ok(machine, made.render(use.name))
        assert "attempt" not in again.text
        if use.name == "versions":
            assert fingerprint(machine.root, lambda path: path.startswith(CHANGING)) == before
    assert not (machine.root / "var/lib/leptonami").exists()
    ok(machine, made.render("hygiene"))


def test_every_family_of_every_step_is_tried() -> None:
    tried = {PLANS[name].family for name in FAMILIES}
    assert tried == {family for step in steps.catalogue().values() for family in step.families}


# --- settle


@needs_sandbox
def test_settle_holds_snaps_and_hygiene_releases_only_what_it_held(tmp_path: Path) -> None:
    state = "var/lib/snapd/state.json"
    for name, before in (("ubuntu-20.04", None), ("ubuntu-24.04-arm64", "forever")):
        machine = launch(tmp_path / name, PLANS[name])
        assert json.loads((machine.root / state).read_text())["hold"] == before
        for _ in range(2):
            ok(machine, PLANS[name].render("settle"))
            assert json.loads((machine.root / state).read_text())["hold"] == "forever"
        ok(machine, PLANS[name].render("hygiene"))
        assert json.loads((machine.root / state).read_text())["hold"] == before


@needs_sandbox
def test_a_hold_until_a_date_comes_back(tmp_path: Path) -> None:
    made = PLANS["ubuntu-24.04-arm64"]
    machine = launch(tmp_path, made)
    path = machine.root / "var/lib/snapd/state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hold": "2027-01-01T00:00:00Z"}))
    ok(machine, made.render("settle"))
    assert json.loads(path.read_text())["hold"] == "forever"
    ok(machine, made.render("hygiene"))
    assert json.loads(path.read_text())["hold"] == "2027-01-01T00:00:00Z"


@needs_sandbox
def test_an_old_snapd_is_held_until_a_date(tmp_path: Path) -> None:
    made = PLANS["ubuntu-20.04"]
    machine = launch(tmp_path, made)
    old = """snap() { case "$*" in *hold) echo "error: unknown flag" >&2; return 1;; *) command snap "$@";; esac; }\n"""
    path = machine.root / "var/lib/snapd/state.json"
    for step, held in (("settle", True), ("hygiene", False)):
        ok(machine, made.render(step).replace("set -euo pipefail\n", "set -euo pipefail\n" + old, 1))
        hold = json.loads(path.read_text())["hold"]
        assert (hold is not None and hold.endswith("Z")) if held else hold is None


@needs_sandbox
@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ("error", 1, "cloud-init ended with an error"),
        ("degraded", 0, "recoverable"),
        ("hangs", 1, "not done after 1 s"),
    ],
)
def test_settle_judges_cloud_init(tmp_path: Path, state: str, code: int, says: str) -> None:
    machine = launch(tmp_path, GPU)
    fault(machine, cloud_init=state)
    ran = run(machine, GPU.render("settle", wait=1))
    assert ran.code == code, ran.text
    assert says in ran.text


@needs_sandbox
def test_settle_waits_for_snaps_and_the_package_lock(tmp_path: Path) -> None:
    machine = launch(tmp_path, GPU)
    fault(machine, snap_changes=2, apt_lock_seconds=1.5)
    ran = ok(machine, GPU.render("settle"))
    assert "waiting for snap changes to end" in ran.out
    assert "waiting for the package lock" in ran.out


@needs_sandbox
def test_settle_stops_background_upgrades_for_this_boot_only(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ask = "systemctl is-active unattended-upgrades.service apt-daily.timer; systemctl is-enabled apt-daily.timer; true"
    assert ok(machine, ask).out.split() == ["inactive", "inactive", "masked"]
    node.reboot(machine)
    assert ok(machine, ask).out.split() == ["active", "active", "enabled"]


# --- NVIDIA driver


@needs_sandbox
def test_the_driver_fits_and_is_held(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = ok(machine, GPU.render("nvidia-driver"))
    assert "1 GPU(s) answer with driver 535.309.01" in ran.out
    held = ok(machine, "apt-mark showhold").out.split()
    kernel = "6.8.0-1044-aws"
    for name in (
        "nvidia-utils-535-server",
        f"linux-modules-nvidia-535-server-{kernel}",
        f"linux-image-{kernel}",
        "linux-aws",
    ):
        assert name in held
    again = ok(
        machine,
        "apt-get install -y -s nvidia-utils-535-server=535.183.01-0ubuntu0.22.04.1 || echo held",
    )
    assert "held" in again.out


@needs_sandbox
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"version": "535.1.2"}, "there is no nvidia-utils-535-server 535.1.2; the archive has: 535.183.01"),
        ({"branch": "999", "version": "999.1"}, "there is no nvidia-utils-999-server 999.1"),
        ({"version": "535.183.01"}, "the module is 535.309.01, the libraries are 535.183.01"),
        ({"kernel": "6.8.0-9999-aws"}, "apt cannot install linux-image-6.8.0-9999-aws"),
    ],
)
def test_a_driver_that_cannot_work_fails_with_what_there_is(tmp_path: Path, options: dict[str, str], says: str) -> None:
    machine = settled(tmp_path, GPU)
    ran = run(machine, GPU.render("nvidia-driver", **options))
    assert ran.code == 1
    assert says in ran.err


@needs_sandbox
def test_dkms_builds_for_an_older_pin_and_the_open_module_is_told_apart(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    options = {"version": "535.183.06-0ubuntu0.22.04.1", "modules": "dkms", "kernel_module": "open"}
    ran = ok(machine, GPU.render("nvidia-driver", **options))
    assert "dkms open module" in ran.out
    assert "535.183.06" in ok(machine, "dkms status").out
    wrong = run(machine, GPU.render("nvidia-driver", version="535.183.06", modules="dkms", kernel_module="proprietary"))
    assert wrong.code == 0, "the proprietary module replaces the open one"


@needs_sandbox
@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"module_vermagic": "5.4.0-1-aws"}, "the nvidia module is for kernel '5.4.0-1-aws'"),
        ({"module_version": "535.1"}, "the module is 535.1, the libraries are 535.309.01"),
        ({"module_license": "Dual MIT/GPL"}, "the plan wants the proprietary module"),
        ({"module_does_not_load": True}, "does not load"),
        ({"tool_fails": {"nvidia-smi": -1}}, "nvidia-smi says ''"),
    ],
)
def test_a_driver_that_does_not_fit_fails(tmp_path: Path, faults: dict[str, object], says: str) -> None:
    machine = settled(tmp_path, GPU)
    fault(machine, **faults)
    script = GPU.render("nvidia-driver").replace("retry 3 2 nvidia-smi", "retry 1 1 nvidia-smi")
    ran = run(machine, script)
    assert ran.code != 0
    if "nvidia-smi" not in says:
        assert says in ran.err


@needs_sandbox
def test_another_kernel_is_booted_before_the_module_is_chosen(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = run(machine, GPU.render("nvidia-driver", kernel="6.8.0-1050-aws"))
    assert ran.code == 0, ran.text
    assert ran.reboots == 1
    assert "asking for a reboot: kernel 6.8.0-1044-aws runs, 6.8.0-1050-aws is the one that boots" in ran.out
    assert ok(machine, "uname -r; modinfo -F vermagic nvidia | cut -d' ' -f1").out.split() == ["6.8.0-1050-aws"] * 2


@needs_sandbox
def test_a_kernel_that_does_not_boot_is_no_endless_loop(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    fault(machine, boots_old_kernel=True)
    ran = run(machine, GPU.render("nvidia-driver", kernel="6.8.0-1050-aws"))
    assert (ran.code, ran.reboots) == (1, 1)
    assert "still runs after the reboot" in ran.err


@needs_sandbox
def test_a_reboot_that_did_not_happen_is_noticed(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    script = GPU.render("nvidia-driver", kernel="6.8.0-1050-aws")
    assert node.run(machine, script)[0] == 194
    code, _, err = node.run(machine, script)
    assert code == 1
    assert "has not rebooted" in err


@needs_sandbox
def test_a_builder_without_gpu_is_told_what_is_not_verified(tmp_path: Path) -> None:
    made = replace(GPU, gpus=0)
    machine = settled(tmp_path, made)
    ran = ok(machine, made.render("nvidia-driver"))
    assert "whether it loads is not verified" in ran.err


@needs_sandbox
def test_nothing_else_is_upgraded_on_the_way(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    library = steps.body(steps.SCRIPTS / "lib.sh")
    before = ok(machine, "dpkg-query -W -f '${Version}' containerd").out
    ran = run(
        machine, f"#!/bin/bash\nLEPTONAMI_STEP=t\n{library}\napt_get update\napt_install needs-newer-containerd\n"
    )
    assert ran.code == 1
    assert f"would also change: containerd [{before}] would become" in ran.err
    assert ok(machine, "dpkg-query -W -f '${Version}' containerd").out == before


@needs_sandbox
def test_a_lock_that_is_held_for_a_while_is_waited_for(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    fault(machine, apt_lock_seconds=1.5)
    ok(machine, GPU.render("nvidia-driver"))


# --- NVIDIA container toolkit


@needs_sandbox
def test_a_key_that_is_not_the_pinned_one_stops_the_build(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    fault(machine, wrong_key=True)
    ran = run(machine, GPU.render("nvidia-toolkit"))
    assert ran.code == 1
    assert "has the fingerprint 0000" in ran.err
    assert not (machine.root / "etc/apt/keyrings/leptonami-nvidia.gpg").exists()
    assert not (machine.root / "etc/apt/sources.list.d/leptonami-nvidia.list").exists()


@needs_sandbox
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"version": "9.9.9"}, "there is no nvidia-container-toolkit 9.9.9; the archive has: 1.13.5-1"),
        ({"key_url": "https://mirror.example.com/key"}, "cannot fetch https://mirror.example.com/key"),
    ],
)
def test_a_toolkit_that_is_not_there_fails(tmp_path: Path, options: dict[str, str], says: str) -> None:
    machine = settled(tmp_path, GPU)
    ran = run(machine, GPU.render("nvidia-toolkit", **options).replace("retry 5 2 curl", "retry 1 1 curl"))
    assert ran.code == 1
    assert says in ran.err


@needs_sandbox
def test_a_mirror_on_the_machine_works(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    key = machine.root / "srv/key"
    key.write_text(f"lab-fingerprint: {'AB' * 20}\nlab-fingerprint: C95B321B61E88C1809C4F759DDCAE044F796ECB0\n")
    options = {"repository": "file:///srv/mirror", "key_url": "file:///srv/key"}
    two = run(machine, GPU.render("nvidia-toolkit", **options))
    assert two.code == 1, "a file with a second key would let its owner sign too"
    key.write_text("lab-fingerprint: C95B321B61E88C1809C4F759DDCAE044F796ECB0\n")
    ok(machine, GPU.render("nvidia-toolkit", **options))


def tables(machine: node.Machine, path: str) -> dict[str, object]:
    import tomllib

    value = tomllib.loads((machine.root / path).read_text())
    plugins = value["plugins"]
    found: dict[str, object] = plugins.get("io.containerd.cri.v1.runtime") or plugins["io.containerd.grpc.v1.cri"]
    return found


@needs_sandbox
@pytest.mark.parametrize("release", ["20.04", "22.04", "26.04"])
@pytest.mark.parametrize("default", ["nvidia", "runc"])
def test_both_templates_give_pods_what_they_need(tmp_path: Path, release: str, default: str) -> None:
    made = replace(GPU, os=release, kubernetes={"20.04": "1.26", "22.04": "1.34", "26.04": "1.35"}[release])
    machine = launch(tmp_path, made)
    ok(machine, made.render("nvidia-toolkit", default_runtime=default))
    for name, expected in (("containerd-config.toml", default), ("nvidia-runtime-config.toml", "nvidia")):
        cri = tables(machine, f"usr/local/share/eks/{name}")
        runtimes = cri["containerd"]["runtimes"]  # type: ignore[index]
        assert cri["containerd"]["default_runtime_name"] == expected  # type: ignore[index]
        for runtime in ("runc", "nvidia"):
            assert runtimes[runtime]["runtime_type"] == "io.containerd.runc.v2"
            assert runtimes[runtime]["options"]["SystemdCgroup"] is True
        assert runtimes["nvidia"]["options"]["BinaryName"] == "/usr/bin/nvidia-container-runtime"
        assert cri["cni"] == {"bin_dir": "/opt/cni/bin", "conf_dir": "/etc/cni/net.d"}
    # The placeholder that bootstrap fills in stays in its own template; the other needs a real image.
    first = (machine.root / "usr/local/share/eks/containerd-config.toml").read_text()
    second = (machine.root / "usr/local/share/eks/nvidia-runtime-config.toml").read_text()
    assert '"SANDBOX_IMAGE"' in first
    assert "public.ecr.aws/eks-distro/kubernetes/pause" in second
    # What bootstrap writes is left alone: it would be overwritten.
    assert (machine.root / "etc/containerd/config.toml").read_text() == "version = 2\n"


@pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg on this machine")
def test_fingerprints_are_read_as_the_real_gpg_writes_them(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        folder.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", str(home), "--passphrase", "", "--pinentry-mode", "loopback"]
    for name in ("one@example.com", "two@example.com"):
        # Each with a subkey, whose fingerprint is not the one that is pinned.
        subprocess.run([*gpg, "--quick-generate-key", name, "default"], check=True, capture_output=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False, capture_output=True)
    for names, count in ((("one@example.com",), 1), (("one@example.com", "two@example.com"), 2)):
        key = tmp_path / f"key{count}"
        key.write_bytes(subprocess.run([*gpg, "--armor", "--export", *names], check=True, capture_output=True).stdout)
        program = f"{steps.body(steps.SCRIPTS / 'lib.sh')}\nkey_fingerprints {key} {other}"
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        found = done.stdout.split()
        assert len(found) == count
        assert all(len(each) == 40 and each.isalnum() and each.isupper() for each in found)


TOML = """\
version = 2 # comment

[plugins."io.containerd.grpc.v1.cri"]
  a = 1
[plugins.'io.containerd.grpc.v1.cri'.containerd]  # a table
  default_runtime_name = "runc"
  default_runtime_name_not = "x"

[other]
default_runtime_name = "keep"
"""


def test_toml_values_are_set_where_they_belong(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(TOML)
    own_part = steps.body(steps.SCRIPTS / "nvidia-toolkit.sh").split('installed=""')[0]
    library = f"{steps.body(steps.SCRIPTS / 'lib.sh')}\n{own_part}"
    table = 'plugins."io.containerd.grpc.v1.cri".containerd'
    program = f"""{library}
toml_get {file} '{table}' default_runtime_name
toml_set {file} '{table}' default_runtime_name '"nv\\&idia"'
toml_set {file} '{table}' new true
toml_set {file} 'other' default_runtime_name 3
toml_set {file} 'fresh."a b"' key '"v"'
toml_get {file} 'fresh."a b"' key
toml_get {file} 'none' key
"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, '"runc"\n"v"\n', "")
    text = file.read_text()
    assert '"nv\\&idia"' in text
    assert 'default_runtime_name_not = "x"' in text
    assert text.count("default_runtime_name = ") == 2
    assert "[other]\ndefault_runtime_name = 3" in text
    assert text.endswith('[fresh."a b"]\nkey = "v"\n')


# --- prefetch


def prefetch(made: Plan, **options: object) -> str:
    return made.render("prefetch", **options).replace("PULL_DELAY=3", "PULL_DELAY=0")


@needs_sandbox
def test_images_are_there_pinned_under_every_name_and_recorded(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = ok(machine, prefetch(GPU))
    assert "1 of 2: docker.io/library/busybox:1.37" in ran.out
    assert "pins: verified" in ran.out
    record = json.loads((machine.root / "var/lib/leptonami/prefetch.json").read_text())
    names = ["docker.io/library/busybox:1.37", "registry.example.com/busybox:1.37", f"{ECR}/eks/pause:3.10"]
    assert [each["ref"] for each in record] == names
    assert {each["pin"] for each in record} == {"verified"}
    assert record[0]["digest"] == record[1]["digest"] == digest(names[0], "amd64")
    again = ok(machine, prefetch(GPU))
    assert again.out.count("is there already") == 2


@needs_sandbox
def test_no_login_is_written_down(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = ok(machine, prefetch(GPU))
    # The stand-in's token is computed from the machine, so it can be looked for.
    import hashlib

    token = "lab" + hashlib.sha256(f"ecr us-west-2 {machine.instance_id}".encode()).hexdigest()
    places = [path for path in machine.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in places if token.encode() in path.read_bytes()]
    assert token not in ran.text
    assert "lab-secret" not in ran.text
    assert not list((machine.root / "run").glob("**/hosts.toml"))


@needs_sandbox
def test_the_login_is_on_no_command_line(tmp_path: Path) -> None:
    """Every program that the script starts is noted with its arguments; none holds a secret."""
    machine = settled(tmp_path, GPU)
    note = 'note() { printf "%s " "$@" >>/srv/commands; echo >>/srv/commands; }\n'
    wrapped = "".join(
        f'{name}() {{ note {name} "$@"; command {name} "$@"; }}\n' for name in ("ctr", "curl", "timeout", "python3")
    )
    script = prefetch(GPU).replace("set -euo pipefail\n", "set -euo pipefail\n" + note + wrapped, 1)
    ok(machine, script)
    noted = (machine.root / "srv/commands").read_text()
    assert "--hosts-dir" in noted
    for secret in ("lab-secret", "lab-session-token", "lab-imds-token", "ASIALAB", "Basic", "--user"):
        assert secret not in noted


@needs_sandbox
@pytest.mark.parametrize("name", ["ubuntu-22.04-gpu", "al2"])
def test_without_permission_a_private_registry_is_a_clear_failure(tmp_path: Path, name: str) -> None:
    made = PLANS[name]
    machine = settled(tmp_path, made, profile=None)
    ran = run(machine, prefetch(made, attempts=2))
    assert ran.code == 1
    assert "may the builder's instance profile call ecr:GetAuthorizationToken?" in ran.err
    assert f"cannot pull {ECR}/eks/pause:3.10" in ran.err


@needs_sandbox
@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image("docker.io/library/does-not-exist:1", None, 1, 1), "cannot pull docker.io/library/does-not-exist:1"),
        (Image("docker.io/library/busybox:missing", None, 1, 1), "not found"),
        (Image("docker.io/library/busybox:1", "sha256:" + "0" * 64, 1, 1), "the list says sha256:0000"),
        (Image("docker.io/library/x-arm64-only:1", None, 1, 1), "is for linux/arm64, not for linux/amd64"),
        (Image("docker.io/library/x-no-snapshot:1", None, 1, 1), "pulled but not usable"),
        (Image("docker.io/library/busybox:1", None, 30_000, None), "do not fit into the"),
        (Image("docker.io/library/busybox:1", None, None, 60_000), "do not fit into the"),
    ],
)
def test_an_image_that_is_not_right_fails_the_build(tmp_path: Path, image: Image, says: str) -> None:
    made = replace(GPU, images=(image,))
    machine = settled(tmp_path, made)
    ran = run(machine, prefetch(made, attempts=2))
    assert ran.code == 1
    assert says in ran.err, ran.text
    assert not (machine.root / "var/lib/leptonami/prefetch.json").exists()


@needs_sandbox
def test_room_is_checked_before_anything_is_pulled(tmp_path: Path) -> None:
    many = tuple(Image(f"docker.io/library/x:{n}", None, None, None) for n in range(10))
    made = replace(GPU, images=many)
    machine = settled(tmp_path, made, root_gib=20)
    ran = run(machine, prefetch(made))
    assert ran.code == 1
    assert (
        "41980 MiB for 10 images (10 sizes estimated) and a reserve of 4096 MiB do not fit into the 16384 MiB"
        in ran.err
    )
    assert ok(machine, "ctr -n k8s.io images ls -q").out == ""


@needs_sandbox
def test_a_right_digest_passes_and_a_failing_pull_is_tried_again(tmp_path: Path) -> None:
    image = Image("docker.io/library/busybox:1", digest("docker.io/library/busybox:1", "amd64"), 1, 1)
    made = replace(GPU, images=(image,))
    machine = settled(tmp_path, made)
    fault(machine, pull_fails=2)
    ran = ok(machine, prefetch(made, attempts=3))
    assert "attempt 2 of 3" in ran.err
    fault(machine, pull_fails=9)
    other = replace(GPU, images=(Image("docker.io/library/other:1", None, 1, 1),))
    failed = run(machine, prefetch(other, attempts=2))
    assert failed.code == 1
    assert "503" in failed.err


@needs_sandbox
def test_pins_that_containerd_ignores_are_said_and_recorded(tmp_path: Path) -> None:
    made = PLANS["ubuntu-20.04"]
    machine = settled(tmp_path, made)
    ran = ok(machine, prefetch(made))
    assert "the kubelet may remove the images" in ran.err
    record = json.loads((machine.root / "var/lib/leptonami/prefetch.json").read_text())
    assert {each["pin"] for each in record} == {"ignored by containerd 1.6.12"}


@needs_sandbox
def test_pins_are_seen_only_after_containerd_has_been_started_again(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    script = prefetch(GPU).replace("systemctl stop containerd\nsync\nsystemctl start containerd\n", "")
    assert script != prefetch(GPU)
    ran = run(machine, script)
    assert ran.code == 1
    assert "CRI does not show docker.io/library/busybox:1.37 as pinned" in ran.err


@needs_sandbox
def test_pins_that_cannot_be_seen_need_the_plans_consent(tmp_path: Path) -> None:
    made = PLANS["al2"]
    machine = settled(tmp_path, made)
    fault(machine, no_cri=True)
    ran = run(machine, prefetch(made))
    assert ran.code == 1
    assert "'pins: reported' accepts that" in ran.err
    ok(machine, prefetch(made, pins="reported"))
    record = json.loads((machine.root / "var/lib/leptonami/prefetch.json").read_text())
    assert {each["pin"] for each in record} == {"not verified"}


@needs_sandbox
def test_containerd_is_left_as_it_was_found(tmp_path: Path) -> None:
    for name, state in (("ubuntu-24.04-arm64", "active"), ("al2023-arm64", "inactive")):
        machine = settled(tmp_path / name, PLANS[name])
        ask = "systemctl is-active containerd || true"
        assert ok(machine, ask).out.strip() == state
        ok(machine, prefetch(PLANS[name]))
        assert ok(machine, ask).out.strip() == state


@needs_sandbox
def test_a_list_without_images_for_the_architecture_is_no_failure(tmp_path: Path) -> None:
    made = replace(GPU, images=())
    machine = settled(tmp_path, made)
    ok(machine, prefetch(made))
    assert json.loads((machine.root / "var/lib/leptonami/prefetch.json").read_text()) == []


# --- GPU guard

KUBELET = "snap.kubelet-eks.daemon.service"


@needs_sandbox
@pytest.mark.parametrize("on_failure", ["block", "report"])
def test_the_guard_keeps_a_broken_node_from_joining(tmp_path: Path, on_failure: str) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu", until="gpu-guard")
    ok(machine, GPU.render("gpu-guard", on_failure=on_failure, wait=0))
    shellcheck(machine.root / "usr/local/sbin/leptonami-gpu-guard")
    start = f"systemctl start {KUBELET}"
    node.reboot(machine)
    ok(machine, start)
    for broken in ({"module_does_not_load": True}, {"gpus_lost": 1}, {"tool_fails": {"nvidia-smi": -1}}):
        fault(machine, **broken)
        node.reboot(machine)
        ran = run(machine, f"systemctl is-active leptonami-gpu-guard.service; {start}")
        assert ran.out.split()[0] == "failed"
        assert "GPU FAILURE" in (machine.root / "var/log/journal/lab.txt").read_text()
        if on_failure == "block":
            assert ran.code != 0
            assert "A dependency job" in ran.err
        else:
            assert ran.code == 0, ran.text


@needs_sandbox
def test_the_guard_counts_the_gpus(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "al2-gpu", until="gpu-guard")
    ok(machine, PLANS["al2-gpu"].render("gpu-guard", wait=0))
    fault(machine, gpus_lost=1)
    node.reboot(machine)
    ran = run(machine, "LEPTONAMI_GUARD_WAIT=0 leptonami-gpu-guard")
    assert ran.code == 1
    assert "3 of 4 GPUs answer (4 on the PCI bus" in ran.err


@needs_sandbox
def test_the_guard_is_silent_on_a_machine_without_gpu(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu")
    machine.gpus = 0
    node.reboot(machine)
    ran = ok(machine, f"leptonami-gpu-guard && systemctl start {KUBELET}")
    assert ran.text == ""


@needs_sandbox
def test_a_builder_that_fails_its_own_guard_fails_the_build(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu", until="gpu-guard")
    fault(machine, gpus_lost=1)
    ran = run(machine, GPU.render("gpu-guard", wait=0))
    assert ran.code == 1
    assert "the guard fails on the builder: leptonami-gpu-guard: GPU FAILURE: nvidia-smi fails: No devices" in ran.err


# --- the plan's own script


def own(folder: Path, text: str) -> str:
    path = folder / "own.sh"
    path.write_text(text)
    return steps.render(steps.StepUse("script", {"path": str(path)}), GPU.context)


@needs_sandbox
def test_own_scripts_run_as_they_are(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ok(machine, own(tmp_path, 'echo "$LEPTONAMI_PLAN in $PWD, $# arguments" >/opt/shell\n'))
    assert (machine.root / "opt/shell").read_text() == "test-ubuntu-eks in /, 0 arguments\n"
    ok(machine, own(tmp_path, "#!/usr/bin/env python3\nopen('/opt/python', 'w').write('python')\n"))
    assert (machine.root / "opt/python").read_text() == "python"
    assert not list((machine.root / "var/lib/leptonami").glob("script.*"))


@needs_sandbox
def test_own_scripts_fail_truthfully(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = run(machine, own(tmp_path, "false\necho unreachable\n"))
    assert ran.code == 1
    assert "unreachable" not in ran.text
    assert run(machine, own(tmp_path, "exit 7\n")).code == 7
    assert not list((machine.root / "var/lib/leptonami").glob("script.*"))


@needs_sandbox
def test_own_scripts_may_ask_for_a_reboot(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    ran = run(machine, own(tmp_path, "[ -e /opt/again ] && exit 0\ntouch /opt/again\nexit 194\n"))
    assert (ran.code, ran.reboots) == (0, 1)


# --- versions


@needs_sandbox
@pytest.mark.parametrize("name", FAMILIES)
def test_the_record_is_whole(tmp_path: Path, name: str) -> None:
    made = PLANS[name]
    machine = provisioned(tmp_path, name)
    record = json.loads((machine.root / "etc/leptonami/image.json").read_text())
    assert record["plan"] == made.name
    assert record["kubelet"]["version"].startswith(made.kubernetes + ".")
    assert record["kubelet"]["from"] == ("snap" if made.family == "ubuntu-eks" else "binary")
    for field in ("kernel", "containerd", "runc", "os_release"):
        assert record[field]
    assert (record["nvidia"]["driver"] is not None) == bool(made.gpus)
    names = {ref for image in IMAGES for ref in (image.ref, *image.also_tagged)}
    assert {each["ref"] for each in record["images"]} == {each["ref"] for each in record["prefetched"]} == names
    assert all(each["digest"].startswith("sha256:") for each in record["images"])
    assert record["more"] == {"base_image": 'ami-0 "quoted" \\ $(id)'}
    listed = (machine.root / "etc/leptonami/packages.txt").read_text().splitlines()
    assert record["packages"]["count"] == len(listed) > 20
    assert listed == sorted(listed)


@needs_sandbox
def test_two_builds_differ_in_time_and_run_only(tmp_path: Path) -> None:
    records = []
    for name in ("a", "b"):
        machine = provisioned(tmp_path / name, "ubuntu-24.04-arm64", until="versions")
        ok(machine, PLANS["ubuntu-24.04-arm64"].render("versions"))
        records.append(json.loads((machine.root / "etc/leptonami/image.json").read_text()))
        del records[-1]["built_at"]
    assert records[0] == records[1]


@needs_sandbox
def test_what_cannot_be_found_out_is_an_error(tmp_path: Path) -> None:
    made = PLANS["ubuntu-24.04-arm64"]
    machine = provisioned(tmp_path, "ubuntu-24.04-arm64", until="versions")
    path = machine.root / "var/lib/snapd/state.json"
    state = json.loads(path.read_text())
    del state["snaps"]["kubelet-eks"]
    path.write_text(json.dumps(state))
    ran = run(machine, made.render("versions"))
    assert ran.code == 1
    assert "cannot find out the kubelet's version" in ran.err
    assert not (machine.root / "etc/leptonami/image.json").exists()


# --- hygiene, and the node that is launched from the image


@needs_sandbox
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_of_the_builder_is_in_the_image(tmp_path: Path, name: str) -> None:
    machine = provisioned(tmp_path, name)
    root = machine.root
    node.stop(machine)
    image = tmp_path / "image"
    node.copy(root, image)
    for gone in (
        "etc/ssh",
        "var/lib/cloud",
        "var/lib/amazon/ssm",
        "var/log/amazon/ssm",
        "var/log/journal",
        "tmp",
        "run",
    ):
        left = [path for path in (image / gone).rglob("*") if path.is_file() and path.name != "sshd_config"]
        assert left == [], gone
    assert (image / "etc/machine-id").read_bytes() == b""
    assert not (image / "var/lib/leptonami").exists()
    assert not (image / "var/lib/systemd/random-seed").exists()
    assert not list(image.rglob("authorized_keys"))
    assert sum(path.stat().st_size for path in (image / "var/log").rglob("*") if path.is_file()) == 0
    # The id of the builder is nowhere on the disk.
    files = [path for path in image.rglob("*") if path.is_file() and "lab" not in path.relative_to(image).parts[:1]]
    assert not [path for path in files if machine.instance_id.encode() in path.read_bytes()]
    assert not [path for path in image.rglob("*") if machine.instance_id in path.name]


@needs_sandbox
def test_credentials_and_histories_are_removed(tmp_path: Path) -> None:
    machine = settled(tmp_path, GPU)
    planted = [
        *("root/.aws/credentials", "home/ubuntu/.aws/config", "root/.docker/config.json", "root/.netrc"),
        *("home/ubuntu/.bash_history", "root/.python_history", "root/.kube/config", "var/lib/kubelet/kubeconfig"),
        *("var/lib/kubelet/image_manager/pulled/x", "var/lib/apt/lists/x", "var/cache/apt/archives/x.deb"),
        *("tmp/with space/x", "var/tmp/x", "var/crash/x", "var/log/app.log.1", "var/log/app.log.2.gz"),
    ]
    for path in planted:
        (machine.root / path).parent.mkdir(parents=True, exist_ok=True)
        (machine.root / path).write_text("secret")
    (machine.root / "var/log/app.log").write_text("secret")
    # A link out of a removed folder must not take anything with it.
    (machine.root / "root/.aws/link").symlink_to("/etc/passwd")
    ok(machine, GPU.render("hygiene"))
    assert [path for path in planted if (machine.root / path).exists()] == []
    assert (machine.root / "var/log/app.log").read_text() == ""
    assert (machine.root / "etc/passwd").read_text() != ""


@needs_sandbox
def test_the_seal_is_not_in_the_image(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu")
    shellcheck(machine.root / "run/leptonami-seal.sh")
    node.stop(machine)
    assert not list(machine.root.rglob("*leptonami-seal*"))


@needs_sandbox
@pytest.mark.parametrize("runtime", ["containerd", "nvidia-container-runtime"])
def test_a_launched_node_has_what_the_image_promised(tmp_path: Path, runtime: str) -> None:
    builder = provisioned(tmp_path, "ubuntu-22.04-gpu")
    node.stop(builder)
    image, root = tmp_path / "image", tmp_path / "node"
    node.copy(builder.root, image)
    node.copy(image, root)
    launched = replace_machine(builder, root, "i-00000000000000002")
    node.first_boot(launched)
    ran = ok(launched, f"/etc/eks/bootstrap.sh cluster --container-runtime {runtime}")
    assert "joined cluster" in ran.out
    cri = tables(launched, "etc/containerd/config.toml")
    assert cri["containerd"]["runtimes"]["nvidia"]["options"]["SystemdCgroup"] is True  # type: ignore[index]
    assert "/pause:" in str(cri["sandbox_image"])
    library = steps.body(steps.SCRIPTS / "lib.sh")
    seen = ok(
        launched,
        f"#!/bin/bash\nLEPTONAMI_STEP=t\n{library}\ncri_images\nnvidia-smi -L\nsystemctl is-active {KUBELET}\n",
    )
    for image_ in IMAGES:
        for ref in (image_.ref, *image_.also_tagged):
            assert f"{ref} true\n" in seen.out
    assert "GPU 0: Tesla T4" in seen.out
    for path in ("etc/machine-id", "etc/ssh/ssh_host_ed25519_key"):
        assert (root / path).read_bytes() not in (b"", (image / path).read_bytes() if (image / path).exists() else b"")


def replace_machine(machine: node.Machine, root: Path, instance: str) -> node.Machine:
    return replace(machine, root=root, instance_id=instance)
