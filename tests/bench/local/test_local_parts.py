"""The parts that need no privilege: configurations, what the machine is, disks, and who is cleaned away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from leptonami.bench.local import bakes, containerd, cri, disks, probe
from leptonami.bench.local.oci import HOST, Built
from leptonami.build.steps import StepUse, render
from leptonami.errors import BuildError, InputError

needs_mke2fs = pytest.mark.skipif(shutil.which("mke2fs") is None, reason="e2fsprogs is not installed")


@pytest.mark.parametrize(("release", "version"), [((1, 6, 20), 2), ((1, 7, 24), 2), ((2, 0, 0), 3), ((2, 2, 3), 3)])
def test_the_configuration_is_of_the_version_that_containerd_reads(release: tuple[int, int, int], version: int) -> None:
    found = tomllib.loads(containerd.config(release))
    assert found["version"] == version
    plugins = found["plugins"]
    if version == 2:
        cri_ = plugins["io.containerd.grpc.v1.cri"]
        assert cri_["restrict_oom_score_adj"] is True
        assert cri_["sandbox_image"] == f"{HOST}/pause:1"
        path = cri_["registry"]["config_path"]
    else:
        assert plugins["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is True
        images = plugins["io.containerd.cri.v1.images"]
        assert images["pinned_images"]["sandbox"] == f"{HOST}/pause:1"
        path = images["registry"]["config_path"]
    assert path == "/run/leptonami/hosts"
    hosts = tomllib.loads(containerd.hosts(5001))
    assert hosts["server"] == "http://127.0.0.1:5001"
    assert list(hosts["host"]) == ["http://127.0.0.1:5001"]


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n", "v1"),
        ("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n", "v2"),
        ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", "hybrid"),
        ("proc /proc proc rw 0 0\n", "none"),
    ],
)
def test_modes_of_control_groups(mounts: str, mode: str) -> None:
    assert probe.cgroups(mounts) == mode


def test_capabilities() -> None:
    # As facts/local-nodes.md has them: everything but CAP_SYS_RESOURCE; and Docker's default set.
    assert "CAP_SYS_RESOURCE" not in probe.capabilities("CapEff:\t000001fffeffffff\n")
    assert "CAP_SYS_ADMIN" in probe.capabilities("CapEff:\t000001fffeffffff\n")
    assert probe.capabilities("CapEff:\t00000000a80425fb\n") == {"CAP_SYS_CHROOT", "CAP_MKNOD"}
    assert probe.capabilities("") == frozenset()


def test_the_machine_is_described_and_not_named(tmp_path: Path) -> None:
    found = probe.machine(tmp_path)
    assert {"processor", "cores", "memory_mib", "kernel", "filesystem", "cgroups"} <= set(found)
    text = json.dumps(dict(found))
    assert os.uname().nodename not in text
    assert str(tmp_path) not in text


def test_what_is_missing_is_named_with_the_package(tmp_path: Path) -> None:
    found = probe.probe(tmp_path, {"no-such-program": "no-such-package"})
    assert not found.possible
    assert any("no-such-program" in why and "apt-get install" in why for why in found.reasons)


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = probe.probe(tmp_path)
    assert not found.possible
    assert any("sudo" in why for why in found.reasons)


class Kernel:
    """Stands for libc: refuses a namespace, or gives it."""

    def __init__(self, answer: int) -> None:
        self.answer = answer

    def unshare(self, flags: int) -> int:
        return self.answer if flags == probe.CLONE_NEWNS else 0


@pytest.mark.parametrize(
    ("lacking", "answer", "why"),
    [
        ({"CAP_SYS_ADMIN"}, 0, "CAP_SYS_ADMIN is missing"),
        (set(), -1, "a mount namespace of one's own is refused"),
    ],
)
def test_what_a_container_may_not_do_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: set[str], answer: int, why: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(probe, "capabilities", lambda _: frozenset(probe.CAPABILITIES) - lacking)
    # In the child, which really asks it.
    monkeypatch.setattr(probe.ctypes, "CDLL", lambda *_, **__: Kernel(answer))
    found = probe.probe(tmp_path)
    assert not found.possible
    assert found.reasons[0].startswith(why)
    monkeypatch.setattr(probe, "capabilities", lambda _: frozenset(probe.CAPABILITIES))
    monkeypatch.setattr(probe.ctypes, "CDLL", lambda *_, **__: Kernel(0))
    assert not any(each.startswith(why) for each in probe.probe(tmp_path).reasons)


@pytest.mark.parametrize("missing", ["grpc", "cri_api.v1"])
def test_without_the_extra_it_is_named(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from leptonami.bench.local.cri import Cri\nfrom leptonami.errors import InputError\n"
        "try: Cri('/nowhere', 0)\nexcept InputError as error: print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'leptonami[bench]'"


def test_nobody_answers(tmp_path: Path) -> None:
    import time

    with cri.Cri(str(tmp_path / "no.sock"), time.monotonic() + 60) as client:
        assert not client.ready()
        with pytest.raises(BuildError, match="ListImages failed"):
            client.listed()


@needs_mke2fs
def test_a_disk_is_made_copied_and_evicted(tmp_path: Path) -> None:
    disk, twin = tmp_path / "a.ext4", tmp_path / "b.ext4"
    disks.create(disk, 64)
    assert disk.stat().st_size == 64 * 2**20
    assert disks.copy(disk, twin) in {"copy", "reflink"}
    assert twin.read_bytes() == disk.read_bytes()
    assert disks.stored_bytes(twin) < 32 * 2**20
    disks.evict([twin])
    assert disks.resident_mib(twin) in {0, -1}
    assert "clean" in disks.run("dumpe2fs", "-h", twin)
    assert not disks.attached(twin)


def test_a_program_that_fails_or_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="No such file"):
        disks.run("ls", tmp_path / "nothing")
    with pytest.raises(InputError, match="not installed"):
        disks.run("no-such-program")
    with pytest.raises(BuildError, match=r"more than 0 s"):
        disks.run("sleep", "5", timeout=0.05)


def test_cleaning_ends_only_the_process_that_was_recorded(tmp_path: Path) -> None:
    """A process id that belongs to somebody else by now is left alone."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            folder = tmp_path / "00001"
            folder.mkdir()
            (folder / "node.json").write_text(json.dumps({"pid": other.pid, "began": "1"}))
            assert containerd.clean("leptonami-test-none", folder) == ()
            assert not folder.exists()
            assert other.poll() is None
            folder.mkdir()
            containerd._remember(folder, other.pid)
            assert containerd.clean("leptonami-test-none", folder) == ()
            assert other.wait(60) == -9
        finally:
            other.kill()
    assert containerd.clean("leptonami-test-none", tmp_path / "never") == ()


def test_the_step_that_is_baked_with_is_the_products() -> None:
    built = Built(f"{HOST}/pause:1", "sha256:" + "1" * 64, (), 2**20 + 1, 2**21, 1)
    made = bakes.plan([built])
    assert made.images[0].size_mib == 2
    assert made.images[0].digest == built.digest
    text = render(made.steps[0], made.context)
    assert text == render(StepUse("prefetch", {"images": "images.yaml", "reserve_gib": 0}), made.context)
    assert f"{HOST}/pause:1" in text
