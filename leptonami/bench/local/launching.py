"""A launch, once there is a node: the kubelet's part of it through CRI, its marks, and the first read of the layers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from leptonami.bench.local import containerd, disks
from leptonami.bench.local.cri import POLL, Cri
from leptonami.bench.model import Mark, Value
from leptonami.errors import BuildError, Timeout

if TYPE_CHECKING:
    from leptonami.bench.local.driver import Node
    from leptonami.bench.local.oci import Built
    from leptonami.bench.local.registry import Registry

__all__ = ["Stopwatch", "first_read", "pod"]

MIB = 2**20


class Stopwatch:
    """Collects marks on this machine's clock: seconds since 1970, that go on evenly whatever is done to the clock."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.offset = time.time() - time.monotonic()
        self.marks: list[Mark] = []

    def begin(self) -> None:
        """Note that the launch is requested: from now on the time counts."""
        self.deadline = time.monotonic() + self.timeout
        self.mark("requested", "driver")

    def mark(
        self, name: str, source: str, *, at: float | None = None, resolution: float = 0.0, detail: str = ""
    ) -> None:
        """Note that something has been reached: now, or within the resolution after a time of `time.monotonic`."""
        reached = self.offset + (time.monotonic() if at is None else at)
        self.marks.append(Mark(name, reached, source, "host", resolution, detail=detail))


def pod(node: Node, cri: Cri, app: Built, stopwatch: Stopwatch, *, registry: Registry, unpacked: bool) -> None:
    """Do what a kubelet does for a pod with one container."""
    logs = f"/{containerd.LOGS}"
    sandbox = cri.sandbox("app", logs, node.name)
    stopwatch.mark("sandbox", "cri")
    if app.ref in cri.listed():
        # CRI (1.6.20) shows an image as present whose content is there, and unpacks it when a container is created.
        stopwatch.mark("pulled", "cri", detail=f"already present{'' if unpacked else ', not unpacked'}")
    else:
        stopwatch.mark("pulling", "cri")
        cri.pull(app.ref)
        pulled = time.monotonic()
        registry.settle()
        sent = [each.ended for each in registry.sent if each.digest in app.layers]
        if sent:
            # The registry notes an end after it, and a busy machine may have finished the pull in between.
            stopwatch.mark("fetched", "registry", at=min(max(sent), pulled))
        stopwatch.mark("pulled", "cri", at=pulled, detail="" if sent else "its content was there")
    container = cri.create(sandbox, app.ref, "app.log")
    stopwatch.mark("container-created", "cri")
    cri.start(container)
    stopwatch.mark("started", "cri")
    log = node.root / containerd.LOGS / "app.log"
    asked = before = looked = time.monotonic()
    # It was not there when the container started, or when it was looked for the time before.
    while not (log.exists() and log.read_bytes().endswith(b"\n")):
        if looked > stopwatch.deadline:
            raise Timeout("the container's first output did not come in time", resource=app.ref)
        if looked - asked > 0.2:
            asked = looked
            if how := cri.exited(container):
                raise BuildError(f"the container ended without a word: {how}", resource=app.ref)
        time.sleep(POLL)
        before, looked = looked, time.monotonic()
    stopwatch.mark("first-output", "container log", at=before, resolution=time.monotonic() - before)
    if b" READY" not in (said := log.read_bytes()[:300]):
        raise BuildError(f"the container's first output is {said!r}", resource=app.ref)


def _files(root: Path, places: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        for folder, _, names in os.walk(root / place):
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink():
                    yield path


def first_read(root: Path, places: tuple[str, ...], disk: Path, stopwatch: Stopwatch) -> dict[str, Value]:
    """Read the pre-fetched layers once, one file after the other, on a cold cache.

    What comes from the cache again is evicted before: the files in the node's file system, then the disk's image. Names
    and inodes stay cached. It is this machine's storage that is measured.
    """
    files = sorted(_files(root, places))
    disks.evict(files, written=False)
    disks.evict([disk])
    stopwatch.mark("first-read-begun", "driver")
    begun = time.monotonic()
    count = 0
    buffer = bytearray(MIB)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while got := file.readinto(buffer):
                count += got
        if time.monotonic() > stopwatch.deadline:
            raise Timeout("the first read did not end in time", resource="layers")
    seconds = time.monotonic() - begun
    stopwatch.mark("first-read", "driver")
    return {
        "first read MiB": round(count / MIB, 1),
        "first read files": len(files),
        "first read MiB/s": round(count / MIB / seconds, 1),
    }
