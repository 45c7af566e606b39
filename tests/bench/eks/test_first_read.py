"""The scripts that a node is sent are clean for shellcheck; the first read is done for real, on a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leptonami.bench import report
from leptonami.bench.eks import node
from leptonami.bench.experiment import Experiment
from leptonami.bench.marks import Mark
from leptonami.bench.model import Trial
from leptonami.bench.results import Results
from leptonami.errors import LeptonamiError

SHELLCHECK = Path(sys.executable).parent / "shellcheck"
LAYERS = "var/lib/containerd/" + node.FOLDERS["unpacked"]


@pytest.mark.parametrize("prefetch", ["unpacked", "content", None])
def test_the_scripts_are_clean(tmp_path: Path, prefetch: str | None) -> None:
    script = node.first_read_script("vol-0123456789abcdef0", prefetch) if prefetch else node.SCRIPT
    file = tmp_path / "script.sh"
    file.write_text(f"#!/bin/bash\n{script}", encoding="utf-8")
    found = subprocess.run([SHELLCHECK, str(file)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("volume", ["", "vol-1", "vol-0123456789abcdef0; reboot", "$(reboot)"])
def test_only_the_id_of_a_volume_gets_into_the_script(volume: str) -> None:
    with pytest.raises(LeptonamiError, match="not the id of a volume"):
        node.first_read_script(volume, "unpacked")


def say(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """Make a disk with 3 MiB of layers, in an ext4 that was not unmounted for all that the journal says."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or shutil.which("lsblk") is None:
        pytest.skip("needs root, mkfs.ext4 and lsblk")
    tree = tmp_path / "tree"
    (tree / LAYERS / "1/fs").mkdir(parents=True)
    (tree / LAYERS / "1/fs/library").write_bytes(os.urandom(3 << 20))
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    say("mkfs.ext4", "-q", "-d", str(tree), str(image))
    try:
        device = say("losetup", "--find", "--show", "--read-only", str(image))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device: {error.stderr.strip()}")
    try:
        probe = tmp_path / "probe"
        probe.mkdir()
        if subprocess.run(["mount", "-o", "ro,norecovery", device, probe], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        say("umount", str(probe))
        yield device
    finally:
        say("losetup", "--detach", device)


def test_the_layers_are_read_and_the_mount_is_gone(disk: str) -> None:
    script = node.reading(disk, node.FOLDERS["unpacked"])
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    read = node.read_first(found.stdout, "measured")
    assert [each.name for each in read.marks] == ["first-read-begun", "first-read"]
    assert read.marks[0].at < read.marks[1].at
    size = read.conditions["first read MiB"]
    assert isinstance(size, float)
    assert 3 <= size < 4
    assert disk not in Path("/proc/mounts").read_text(encoding="utf-8")
    assert not list(Path("/run").glob("leptonami-first-read.*"))


def test_what_was_read_gives_the_break_even() -> None:
    """Reading 400 MiB takes 4 s, and pre-fetching saves 8 s: it would lose below 50 MiB/s."""
    answer = f"\n{node.MARK}first-read\n1795000020.0 1795000024.0 {400 << 20}\n"
    first = node.read_first(answer, "simulated")
    wanted = Experiment.model_validate(
        {
            "schema": 1,
            "name": "break-even",
            "driver": "process",
            "variants": [{"name": "cold", "kind": "no-images"}, {"name": "quick", "kind": "unpacked"}],
            "images": [{"name": "small", "unpacked_mib": 400}],
            "trials": 1,
            "seed": 1,
            "timeout": "1m",
            "smallest": {"seconds": 0.5},
        }
    )
    trials = []
    for number, (variant, ended) in enumerate((("cold", 10.0), ("quick", 2.0)), 1):
        marks = [
            Mark(name, 1_795_000_000.0 + at, "x", "node") for name, at in (("requested", 0), ("first-output", ended))
        ]
        told = node.FirstRead((), {}) if variant == "cold" else first
        trials.append(
            Trial(
                number, 1, variant, image="small", outcome="ok", marks=(*marks, *told.marks), conditions=told.conditions
            )
        )
    (row,) = report.first_reads(Results("20261126-080000-abcdef", wanted, "eks", "simulated", trials=tuple(trials)))
    assert (row["variant"], row["MiB"], row["MiB/s"], row["break even"]) == ("quick", 400.0, 100.0, 50.0)


def test_a_volume_without_layers_says_so_and_the_mount_is_gone(disk: str) -> None:
    script = node.reading(disk, node.FOLDERS["content"])
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (3, "")
    assert "no layers of containerd" in found.stderr
    assert disk not in Path("/proc/mounts").read_text(encoding="utf-8")


def test_a_volume_that_is_not_there_says_so() -> None:
    script = node.first_read_script("vol-0123456789abcdef0", "unpacked")
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 3
    assert "not there" in found.stderr
