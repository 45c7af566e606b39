"""Simulated machines for the tests of scripts, claims and the lab's machines."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from leptonami.build import claims, steps
from leptonami.imagelist import Image
from leptonami.lab import node

WORKS, WHY = node.sandbox()
if not WORKS and os.environ.get("CI"):
    pytest.fail(f"CI must be able to run scripts confined: {WHY}", pytrace=False)
needs_sandbox = pytest.mark.skipif(not WORKS, reason=WHY)

INSTANCE = "i-0123456789abcdef0"
ECR = "602401143452.dkr.ecr.us-west-2.amazonaws.com"
IMAGES = (
    Image("docker.io/library/busybox:1.37", None, 2, 4, ("registry.example.com/busybox:1.37",)),
    Image(f"{ECR}/eks/pause:3.10", None, 1, 1),
)


@dataclass(frozen=True)
class Plan:
    """What claims and scripts need of a plan."""

    name: str
    family: str
    os: str
    kubernetes: str
    architecture: str
    steps: tuple[steps.StepUse, ...]
    images: tuple[Image, ...] = IMAGES
    gpus: int = 0

    @property
    def context(self) -> steps.Context:
        """Give what the scripts are rendered with."""
        return steps.Context(
            plan_name=self.name,
            run_id="20261123-211500-a1b2c3",
            family=self.family,
            os=self.os,
            kubernetes=self.kubernetes,
            architecture=self.architecture,
            region="us-west-2",
            images=self.images,
            expected={"base_image": 'ami-0 "quoted" \\ $(id)'},
        )

    def use(self, name: str, **options: Any) -> steps.StepUse:
        """Give a step of the plan, with other options if any are given."""
        found = next(each for each in self.steps if each.name == name)
        return replace(found, options={**found.options, **options})

    def render(self, name: str, **options: Any) -> str:
        """Give the script of a step."""
        return steps.render(self.use(name, **options), self.context)

    def verify(self, *only: str) -> str:
        """Give the verification script, of some claims only if they are named."""
        text = claims.script(self, self.context)
        if not only:
            return text
        wanted = {claims._line(each) for each in claims.claims(self) if each.id in only}
        every = {claims._line(each) for each in claims.claims(self)}
        assert len(wanted) == len(only)
        return "\n".join(line for line in text.splitlines() if line not in every - wanted) + "\n"


OPTIONS: dict[str, dict[str, Any]] = {
    "nvidia-driver": {"branch": "535", "version": "535.309.01"},
    "nvidia-toolkit": {"version": "1.17.8-1"},
    "prefetch": {"images": "images.yaml"},
}


def plan(
    family: str,
    release: str,
    kubernetes: str,
    architecture: str = "amd64",
    *,
    gpus: int = 0,
    without: Sequence[str] = (),
) -> Plan:
    """Give a plan with every step that the family has (GPU steps where there is a GPU), but the own script."""
    graphics = ("nvidia-driver", "nvidia-toolkit", "gpu-guard")
    names = [
        name
        for name, step in steps.catalogue().items()
        if family in step.families and name != "script" and name not in without and (gpus or name not in graphics)
    ]
    uses = tuple(steps.StepUse(name, OPTIONS.get(name, {}), None, f"steps.{n}") for n, name in enumerate(names))
    return Plan(f"test-{family}", family, release, kubernetes, architecture, uses, gpus=gpus)


GPU = plan("ubuntu-eks", "22.04", "1.34", gpus=1)
PLANS = {
    "ubuntu-22.04-gpu": GPU,
    "ubuntu-20.04": plan("ubuntu-eks", "20.04", "1.26"),
    "ubuntu-24.04-arm64": plan("ubuntu-eks", "24.04", "1.35", "arm64"),
    "al2": plan("al2", "2", "1.32"),
    "al2-gpu": plan("al2-gpu", "2", "1.30", gpus=4),
    "al2023-arm64": plan("al2023", "2023", "1.35", "arm64"),
    "al2023-nvidia": plan("al2023-nvidia", "2023", "1.34", gpus=1),
}


# One plan for each family: what is the same for several releases need not be tried on all.
FAMILIES = ("ubuntu-22.04-gpu", "al2", "al2-gpu", "al2023-arm64", "al2023-nvidia")


def launch(
    folder: Path, made: Plan, *, root_gib: int = 60, profile: str | None = "role", boot: bool = True
) -> node.Machine:
    """Launch a machine from the base image of a plan."""
    root = folder / "root"
    node.seed(
        root,
        family=made.family,
        os=made.os,
        kubernetes=made.kubernetes,
        architecture=made.architecture,
        image_name="base",
    )
    machine = machine_at(root, made, root_gib=root_gib, profile=profile)
    if boot:
        node.first_boot(machine)
    return machine


def machine_at(
    root: Path, made: Plan, *, instance: str = INSTANCE, root_gib: int = 60, profile: str | None = "role"
) -> node.Machine:
    """Describe a machine on a node root."""
    return node.Machine(
        root=root,
        instance_id=instance,
        instance_type="g4dn.xlarge" if made.gpus else "m6i.large",
        architecture=made.architecture,
        gpus=made.gpus,
        gpu_name="Tesla T4" if made.gpus else None,
        region="us-west-2",
        availability_zone="us-west-2a",
        account="123456789012",
        image_id="ami-0",
        root_gib=root_gib,
        instance_profile=profile,
    )


@dataclass(frozen=True)
class Ran:
    """What a script did."""

    code: int
    out: str
    err: str
    reboots: int = 0

    @property
    def text(self) -> str:
        """Give all of its output."""
        return self.out + self.err


def run(machine: node.Machine, script: str, *, timeout: float = 180) -> Ran:
    """Run a script, and again after each reboot that it asks for."""
    out = err = ""
    for reboots in range(5):
        code, more, complaint = node.run(machine, script, timeout=timeout)
        out, err = out + more, err + complaint
        if code != 194:
            return Ran(code, out, err, reboots)
        node.reboot(machine)
    raise AssertionError("the script asks for one reboot after the other")


def ok(machine: node.Machine, script: str) -> Ran:
    """Run a script that must succeed."""
    ran = run(machine, script)
    assert ran.code == 0, ran.text
    return ran


def fault(machine: node.Machine, **faults: Any) -> None:
    """Switch faults on."""
    (machine.root / "lab/faults.json").write_text(json.dumps(faults))


def findings(machine: node.Machine, made: Plan, *only: str) -> dict[str, claims.Finding]:
    """Verify a machine."""
    ran = run(machine, made.verify(*only))
    assert ran.code == 0, ran.text
    return {each.claim: each for each in claims.parse(ran.out)}


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="leptonami-nodes-"))
    import atexit

    atexit.register(shutil.rmtree, folder, True)
    return folder


@functools.cache
def _provisioned(name: str) -> Path:
    """Provision a machine once, keeping a copy of its disk and memory from before each step and from the end."""
    made = PLANS[name]
    place = _folder() / name
    place.mkdir()
    machine = launch(place, made)
    for use in made.steps:
        shutil.copytree(machine.root, place / f"before-{use.name}", symlinks=True)
        ok(machine, made.render(use.name))
    return place


@functools.cache
def _settled(family: str, release: str, kubernetes: str, architecture: str) -> Path:
    made = Plan("x", family, release, kubernetes, architecture, (steps.StepUse("settle"),))
    place = _folder() / f"settled-{family}-{release}-{kubernetes}-{architecture}"
    place.mkdir()
    machine = launch(place, made)
    ok(machine, made.render("settle"))
    return machine.root


def provisioned(folder: Path, name: str, *, until: str | None = None, **more: Any) -> node.Machine:
    """Give a machine on which all steps of a plan have run (or those before `until`), as it runs, memory included."""
    root = folder / "provisioned"
    shutil.copytree(_provisioned(name) / (f"before-{until}" if until else "root"), root, symlinks=True)
    return machine_at(root, PLANS[name], **more)


def settled(folder: Path, made: Plan, **more: Any) -> node.Machine:
    """Give a machine of a plan's family on which `settle` has run."""
    root = folder / "settled"
    source = _settled(made.family, made.os, made.kubernetes, made.architecture)
    shutil.copytree(source, root, symlinks=True)
    return machine_at(root, made, **more)


@contextmanager
def unchanged(*paths: Path) -> Iterator[None]:
    """Check that nothing below some paths changes."""
    before = {path: fingerprint(path) for path in paths}
    yield
    assert {path: fingerprint(path) for path in paths} == before


def fingerprint(path: Path, skip: Callable[[str], bool] = lambda _: False) -> dict[str, tuple[int, int, bytes]]:
    """Give what is in a folder: each name with mode, size and content."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            place = Path(folder) / name
            relative = str(place.relative_to(path))
            if skip(relative):
                continue
            state = place.lstat()
            content = str(place.readlink()).encode() if place.is_symlink() else place.read_bytes()
            found[relative] = (state.st_mode, state.st_size, content)
    return found
