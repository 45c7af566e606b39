"""Claims: each one holds on a machine that was provisioned, fails when what it says is not so, and says why."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import FAMILIES, GPU, PLANS, Plan, fault, findings, fingerprint, needs_sandbox, ok, plan, provisioned, run

from leptonami.build import claims, steps
from leptonami.errors import BuildError
from leptonami.imagelist import Image
from leptonami.lab import node

EVERY = {claim.id: claim for claim in claims.claims(GPU)}


# --- what is claimed


def test_ids_are_unique_and_every_step_but_scripts_claims_something() -> None:
    for made in PLANS.values():
        found = claims.claims(made)
        assert len({claim.id for claim in found}) == len(found)
        assert {claim.step for claim in found} >= {use.name for use in made.steps} - {"settle"}


def test_claims_follow_the_plan() -> None:
    assert claims.claims(replace(GPU, steps=())) == ()
    small = plan("al2023", "2023", "1.35", without=("prefetch", "hygiene"))
    assert {claim.step for claim in claims.claims(small)} == {"versions"}
    images = [claim.id for claim in claims.claims(GPU) if claim.step == "prefetch"]
    assert len(images) == 3
    assert "image.registry.example.com/busybox:1.37" in images


def test_each_check_is_a_function_of_the_verification() -> None:
    text = (steps.SCRIPTS / "verify.sh").read_text()
    for made in PLANS.values():
        for claim in claims.claims(made):
            assert f"\ncheck_{claim.check[0]}() {{" in text


# --- all of them hold


@needs_sandbox
@pytest.mark.parametrize("name", [*FAMILIES, "ubuntu-20.04"])
def test_every_claim_holds_after_every_step(tmp_path: Path, name: str) -> None:
    made = PLANS[name]
    machine = provisioned(tmp_path, name)
    ignored = ("var/lib/amazon/ssm", "lab/", "run/lab")
    before = fingerprint(machine.root, lambda path: path.startswith(ignored))
    ran = ok(machine, made.verify())
    assert fingerprint(machine.root, lambda path: path.startswith(ignored)) == before, "it changed something"
    found = claims.parse(ran.out)
    assert [each for each in found if not each.ok] == []
    assert [each.claim for each in found] == [claim.id for claim in claims.claims(made)]
    assert [each.statement for each in found] == [claim.statement for claim in claims.claims(made)]
    assert all(each.expected and each.observed for each in found)
    assert claims.version_record(ran.out)["plan"] == made.name
    assert ran.err == ""


@needs_sandbox
def test_a_pin_that_containerd_ignores_is_a_fact_of_the_finding(tmp_path: Path) -> None:
    made = PLANS["ubuntu-20.04"]
    found = findings(provisioned(tmp_path, "ubuntu-20.04"), made, "image.docker.io/library/busybox:1.37")
    assert "pin ignored by containerd 1.6.12" in found["image.docker.io/library/busybox:1.37"].observed


# --- what was left out is found out

LEFT_OUT = ["nvidia-driver", "nvidia-toolkit", "prefetch", "gpu-guard", "versions", "hygiene"]


@needs_sandbox
@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_step_that_did_not_run_fails_its_claims(tmp_path: Path, name: str) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu", until=name)
    found = findings(machine, GPU)
    own = [each for claim, each in found.items() if EVERY[claim].step == name]
    # What a fresh machine does not have anyway cannot tell whether hygiene ran.
    clean = ("hygiene.credentials", "hygiene.kubelet", "hygiene.histories", "hygiene.crashes", "hygiene.registry-auth")
    clean += ("hygiene.snap-hold", "hygiene.temporary", "kubelet.version")
    assert [each.claim for each in own if each.ok and each.claim not in clean] == []
    assert all(each.observed for each in own)


# --- each claim, tampered with


def write(path: str, text: str = "x\n") -> Callable[[node.Machine], None]:
    def tamper(machine: node.Machine) -> None:
        place = machine.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    return tamper


def edit(path: str, old: str, new: str) -> Callable[[node.Machine], None]:
    def tamper(machine: node.Machine) -> None:
        place = machine.root / path
        text = place.read_text()
        assert old in text, text
        place.write_text(text.replace(old, new))

    return tamper


def remove(path: str) -> Callable[[node.Machine], None]:
    return lambda machine: (machine.root / path).unlink()


def shell(script: str) -> Callable[[node.Machine], None]:
    return lambda machine: (ok(machine, script), None)[1]


def old_log(machine: node.Machine) -> None:
    import os

    place = machine.root / "var/log/app.log"
    place.write_text("a line from before\n")
    os.utime(place, (1_700_000_000, 1_700_000_000))


META = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.json"
MODULE = "usr/lib/modules/6.8.0-1044-aws/kernel/drivers/video/nvidia/nvidia.ko"
SHARE = "usr/local/share/eks"
BUSYBOX = "docker.io/library/busybox:1.37"


def no_gpu(machine: node.Machine) -> None:
    machine.gpus = 0


TAMPERS: list[tuple[str, Callable[[node.Machine], None]]] = [
    ("packages.whole", write("lab/state/half-installed", "nvidia-utils is half configured\n")),
    ("driver.version", edit(MODULE, "535.309.01", "535.183.01")),
    ("driver.version", edit("lab/state/packages.json", "535.309.01", "535.183.01")),
    ("driver.version", remove(MODULE)),
    ("driver.kernel", edit(MODULE, "6.8.0-1044-aws SMP", "6.8.0-1050-aws SMP")),
    ("driver.kernel", write("boot/vmlinuz-6.8.0-1050-aws")),
    ("driver.licence", edit(MODULE, '"NVIDIA"', '"Dual MIT/GPL"')),
    ("driver.loads", lambda machine: fault(machine, gpus_lost=1)),
    ("driver.loads", no_gpu),
    ("driver.held", shell("apt-mark unhold nvidia-utils-535-server")),
    ("driver.held", shell("apt-mark unhold linux-image-6.8.0-1044-aws")),
    ("driver.nouveau", remove("etc/modprobe.d/leptonami-nouveau.conf")),
    (
        "toolkit.version",
        edit("lab/state/packages.json", '"libnvidia-container1": "1.17.8-1"', '"libnvidia-container1": "1.18.1-1"'),
    ),
    ("toolkit.held", shell("apt-mark unhold libnvidia-container1")),
    ("toolkit.key", edit("etc/apt/keyrings/leptonami-nvidia.gpg", "C95B", "D95B")),
    ("toolkit.key", edit("etc/apt/sources.list.d/leptonami-nvidia.list", "signed-by", "trusted=yes x")),
    (
        "toolkit.containerd-config.toml",
        edit(f"{SHARE}/containerd-config.toml", "SystemdCgroup = true", "SystemdCgroup = false"),
    ),
    ("toolkit.containerd-config.toml", edit(f"{SHARE}/containerd-config.toml", '"nvidia"', '"runc"')),
    ("toolkit.containerd-config.toml", remove(f"{SHARE}/containerd-config.toml")),
    (
        "toolkit.nvidia-runtime-config.toml",
        edit(f"{SHARE}/nvidia-runtime-config.toml", "sandbox_image", "sandbox_imag"),
    ),
    ("toolkit.nvidia-runtime-config.toml", edit(f"{SHARE}/nvidia-runtime-config.toml", "bin_dir", "bin_di")),
    ("toolkit.nvidia-runtime-config.toml", edit(f"{SHARE}/nvidia-runtime-config.toml", "version = 2", "version = = 2")),
    (f"image.{BUSYBOX}", shell(f"ctr -n k8s.io images rm {BUSYBOX}")),
    (f"image.{BUSYBOX}", edit(META, '"unpacked": true', '"unpacked": false')),
    (f"image.{BUSYBOX}", edit(META, '"linux/amd64"', '"linux/riscv64"')),
    (
        f"image.{BUSYBOX}",
        edit("etc/leptonami/image.json", f'"{BUSYBOX}", "digest": "sha256:', f'"{BUSYBOX}", "digest": "sha256:0'),
    ),
    (f"image.{BUSYBOX}", shell(f"ctr -n k8s.io images label {BUSYBOX} io.cri-containerd.pinned=")),
    (f"image.{BUSYBOX}", edit("run/containerd/lab-cri.json", f'"{BUSYBOX}": true', f'"{BUSYBOX}": false')),
    (f"image.{BUSYBOX}", lambda machine: fault(machine, no_cri=True)),
    ("image.registry.example.com/busybox:1.37", shell("ctr -n k8s.io images rm registry.example.com/busybox:1.37")),
    (
        "image.602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.10",
        shell("ctr -n k8s.io images rm 602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.10"),
    ),
    ("guard.passes", lambda machine: fault(machine, gpus_lost=1)),
    ("guard.passes", remove("usr/local/sbin/leptonami-gpu-guard")),
    ("guard.fails", edit("usr/local/sbin/leptonami-gpu-guard", "\nexit 1\n", "\nexit 0\n")),
    ("guard.fails", write("usr/local/sbin/leptonami-gpu-guard", "#!/bin/bash\nexit 1\n")),
    ("guard.enabled", shell("systemctl disable leptonami-gpu-guard")),
    ("guard.enabled", remove("etc/systemd/system/snap.kubelet-eks.daemon.service.d/10-leptonami-gpu-guard.conf")),
    ("record.whole", remove("etc/leptonami/image.json")),
    ("record.whole", edit("etc/leptonami/image.json", '"schema": 1', '"schema": 1,,')),
    ("record.whole", edit("etc/leptonami/image.json", '"version": "1.34.5", "from"', '"version": "", "from"')),
    ("record.whole", edit("etc/leptonami/image.json", "20261123-211500-a1b2c3", "20261123-211500-ffffff")),
    ("record.true", edit("etc/leptonami/image.json", '"containerd": "1.7.28"', '"containerd": "1.7.27"')),
    ("record.true", edit("etc/leptonami/image.json", '"toolkit": "1.17.8"', '"toolkit": null')),
    ("record.packages", shell("apt-get update; apt-get install -y htop")),
    ("record.packages", edit("etc/leptonami/packages.txt", "bash\t", "bsh\t")),
    ("kubelet.version", edit("var/lib/snapd/state.json", "v1.34.5", "v1.33.5")),
    ("hygiene.ssh-host-keys", write("etc/ssh/ssh_host_rsa_key")),
    ("hygiene.authorized-keys", write("home/ubuntu/.ssh/authorized_keys")),
    ("hygiene.cloud-init", write("var/lib/cloud/instances/i-1/x")),
    ("hygiene.credentials", write("root/.aws/credentials")),
    ("hygiene.credentials", write("home/ubuntu/.docker/config.json")),
    ("hygiene.kubelet", write("var/lib/kubelet/image_manager/pulled/sha256-x")),
    ("hygiene.histories", write("root/.bash_history")),
    ("hygiene.random-seed", write("var/lib/systemd/random-seed")),
    ("hygiene.package-lists", write("var/lib/apt/lists/ubuntu_Packages")),
    ("hygiene.leases", write("var/lib/dhcp/dhclient.ens5.leases")),
    ("hygiene.crashes", write("var/crash/core")),
    ("hygiene.working-files", write("var/lib/leptonami/prefetch.json")),
    ("hygiene.machine-id", write("etc/machine-id")),
    ("hygiene.machine-id", write("var/lib/dbus/machine-id")),
    ("hygiene.registry-auth", write("etc/containerd/certs.d/r/hosts.toml", '  authorization = "Basic x"\n')),
    ("hygiene.logs", old_log),
    ("hygiene.logs", write("var/log/syslog.2.gz")),
    ("hygiene.logs", remove("run/leptonami-clean")),
    ("hygiene.temporary", write("var/tmp/x y")),
    ("hygiene.ssm", shell("systemctl stop leptonami-seal")),
    ("hygiene.ssm", edit("run/leptonami-seal.sh", "/var/lib/amazon/ssm/*", "/nowhere")),
    ("hygiene.snap-hold", shell("snap refresh --unhold")),
]


def test_every_claim_is_tampered_with() -> None:
    assert {claim for claim, _ in TAMPERS} == set(EVERY)


@needs_sandbox
@pytest.mark.parametrize(("claim", "tamper"), TAMPERS, ids=[f"{n}-{claim}" for n, (claim, _) in enumerate(TAMPERS)])
def test_a_claim_fails_when_it_is_not_so(tmp_path: Path, claim: str, tamper: Callable[[node.Machine], None]) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu")
    tamper(machine)
    finding = findings(machine, GPU, claim)[claim]
    assert not finding.ok
    assert finding.expected
    assert finding.observed
    assert finding.observed != finding.expected


@needs_sandbox
def test_without_python_there_is_no_answer_at_all(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu")
    names = "for name in python3 /usr/libexec/platform-python python python2"
    text = GPU.verify("hygiene.machine-id")
    assert names in text
    ran = run(machine, text.replace(names, "for name in no-python"))
    assert ran.code == 1
    assert "there is no python" in ran.err
    assert claims.MARK not in ran.out


@needs_sandbox
def test_hostile_names_on_the_machine_stay_text(tmp_path: Path) -> None:
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu")
    (machine.root / 'tmp/$(touch pwned) "quoted\\" \n newline').write_text("x")
    (machine.root / "root/.ssh").mkdir(exist_ok=True)
    (machine.root / "root/.ssh/authorized_keys").symlink_to("/nowhere")
    found = findings(machine, GPU, "hygiene.temporary", "hygiene.authorized-keys")
    assert '$(touch pwned) "quoted\\"   newline' in found["hygiene.temporary"].observed
    assert not found["hygiene.authorized-keys"].ok, "a dangling link is left too"


@needs_sandbox
def test_a_hundred_images_fit_into_the_output(tmp_path: Path) -> None:
    name = "602401143452.dkr.ecr.us-west-2.amazonaws.com/platform/team/component-{}:v1.2.3-eksbuild.{}"
    images = tuple(Image(name.format(n, n), None, 1, 1) for n in range(100))
    made: Plan = replace(GPU, images=images)
    machine = provisioned(tmp_path, "ubuntu-22.04-gpu", until="prefetch")
    # What the step leaves, without its hundred pulls.
    from leptonami.lab.node.tools.containerd import digest

    labels = {"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}
    stored = {
        image.ref: {
            "digest": digest(image.ref, "amd64"),
            "labels": labels,
            "platforms": ["linux/amd64", "linux/arm64"],
            "unpacked": True,
            "mib": 1,
        }
        for image in images
    }
    path = machine.root / META
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored))
    record = [{"ref": ref, "digest": each["digest"], "pin": "verified"} for ref, each in stored.items()]
    (machine.root / "var/lib/leptonami/prefetch.json").write_text(json.dumps(record))
    ok(machine, "systemctl restart containerd")
    ok(machine, made.render("versions"))
    ran = ok(machine, made.verify())
    assert len(ran.out) < 24_000
    found = {each.claim: each for each in claims.parse(ran.out)}
    assert sum(each.ok for claim, each in found.items() if claim.startswith("image.")) == 100
    assert len(claims.version_record(ran.out)["images"]) == 100


# --- reading the answer


def packed(value: object) -> str:
    return claims.MARK + base64.b64encode(gzip.compress(json.dumps(value).encode())).decode()


GOOD = ["id", "statement", True, "e", "o", "x"]


def test_an_answer_is_read_wherever_it_stands() -> None:
    text = "noise\n" + packed({"findings": [GOOD], "record": {"a": 1}}) + "\nmore noise\n"
    assert claims.parse(text) == (claims.Finding("id", "statement", True, "e", "o", "x"),)
    assert claims.version_record(text) == {"a": 1}
    assert claims.version_record(packed({"findings": [], "record": None})) == {}
    assert claims.version_record(packed({"findings": [], "record": [1]})) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LEPTONAMI-FINDINGS:",
        "LEPTONAMI-FINDINGS:!!!!",
        packed({"findings": []})[:-9],
        packed({"findings": []}) + "\n" + packed({"findings": []}),
        packed([]),
        packed({"findings": {}}),
        packed({"findings": [[1, 2]]}),
        packed({"findings": [["id", "statement", "true", "e", "o", "x"]]}),
        packed({"findings": [["id", "statement", True, "e", None, "x"]]}),
        claims.MARK + base64.b64encode(gzip.compress(b"0" * 50_000_000)).decode(),
        claims.MARK + base64.b64encode(gzip.compress(b"[" * 100_000)).decode(),
    ],
    ids=range(12),
)
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(BuildError):
        claims.parse(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.binary().map(lambda data: claims.MARK + base64.b64encode(data).decode())))
def test_no_output_breaks_the_reader(text: str) -> None:
    with pytest.raises(BuildError):
        claims.parse(text)


def test_claims_reach_the_script_as_words() -> None:
    hostile = Image("docker.io/library/x:1", None, 1, 1, ("docker.io/library/$(reboot):1", "a b'c"))
    made = replace(GPU, images=(hostile,))
    lines = [line for line in made.verify().splitlines() if line.startswith("claim_image ")]
    assert [shlex.split(line)[1] for line in lines] == [hostile.ref, *hostile.also_tagged]
