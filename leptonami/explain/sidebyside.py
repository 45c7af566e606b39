"""A large autoscaler log read in parts, side by side, one process for each core.

The parts begin where a loop begins, and `readers.autoscaler.merge` puts their digests together. A part is read by this
module called as a program, so that it works from a notebook and a script alike; what it answers comes back as a pickle
from our own child, never from anybody else.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from leptonami.readers.autoscaler import scan
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.merge import merge
from leptonami.readers.autoscaler.times import Times
from leptonami.readers.lines import batches

if TYPE_CHECKING:
    from leptonami.progress import Progress

__all__ = ["cores", "digest_file", "edges"]

PART = 64 << 20  # bytes that are worth a process of their own (which takes 0.2 s to start)
LOOK = 8 << 20  # bytes in which the beginning of a loop must be found, or there is no cut
MOST_PARTS = 2  # each process holds up to 70 MB, and 150 MB for all of them is what we promise
STEP = 16 << 20  # bytes between two words of progress
LOOP = re.compile(rb"\n(?=[^\n]{0,400}\] Starting main loop\r?\n)")


def cores() -> int:
    """Tell how many processes can work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest_file(
    path: Path,
    *,
    source: str,
    year: int | None = None,
    zone: tzinfo | None = None,
    reference: datetime | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Digest:
    """Read a log from a plain file, in parts where it is large: the same as `scan.digest`, sooner.

    Parameters
    ----------
    path
        A file that is not compressed.
    jobs
        How many parts at the most; by default two, if there are two cores.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    size = path.stat().st_size
    wanted = min(jobs or min(cores(), MOST_PARTS), max(1, size // PART))
    bounds = list(pairwise(edges(path, size, wanted)))
    children = [start(path, begin, end) for begin, end in bounds[1:]]
    try:
        whole = read(path, *bounds[0], progress)
        for child, (begin, end) in zip(children, bounds[1:], strict=True):
            merge(whole, answer(child) or read(path, begin, end))
    finally:
        for child in children:
            stop(child)
    whole.source = source
    times = whole.times
    whole.times = Times(year, zone, reference, times.days, times.last, times.heard, times.told, times.day)
    return whole


def edges(path: Path, size: int, parts: int) -> list[int]:
    """Find where to cut a file into parts of about the same size: before the first line of a loop."""
    found = [0]
    with path.open("rb") as file:
        for part in range(1, parts):
            file.seek(max(size * part // parts, found[-1]))
            begin = file.tell()
            match = LOOP.search(file.read(LOOK))
            if match is not None and begin + match.end() < size:
                found.append(begin + match.end())
    return sorted({*found, size}) if size else [0, 0]


def read(path: Path, begin: int, end: int, progress: Progress | None = None) -> Digest:
    """Read one part."""
    with path.open("rb", buffering=0) as file:
        return scan.digest(batches(blocks(file, begin, end, progress)))


def blocks(file: BinaryIO, begin: int, end: int, progress: Progress | None = None) -> Iterator[bytes]:
    """Give the bytes of one part."""
    file.seek(begin)
    left, told = end - begin, 0
    while left > 0 and (block := file.read(min(scan.BLOCK, left))):
        left -= len(block)
        done = end - begin - left
        if progress is not None and done - told >= STEP:
            told = done
            progress.update(f"{done / max(end - begin, 1):.0%}", done / max(end - begin, 1))
        yield block


def start(path: Path, begin: int, end: int) -> subprocess.Popen[bytes]:
    """Let a process of its own read a part."""
    command = [sys.executable, "-m", __name__, str(path.resolve()), str(begin), str(end)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def answer(child: subprocess.Popen[bytes]) -> Digest | None:
    """Take a process's answer; nothing if it failed, and then the part is read here."""
    content, _ = child.communicate()
    if child.returncode != 0:
        return None
    with contextlib.suppress(pickle.UnpicklingError, EOFError):
        digest = pickle.loads(content)  # noqa: S301 - from the process that was started above
        return digest if isinstance(digest, Digest) else None
    return None


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process that is still there: whoever started it has stopped for another reason."""
    if child.poll() is None:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def main(arguments: list[str]) -> None:
    """Read the part that the arguments name, and write its digest to standard output."""
    path, begin, end = arguments
    with contextlib.suppress(KeyboardInterrupt):  # the parent gets it too, and says so
        pickle.dump(read(Path(path), int(begin), int(end)), sys.stdout.buffer)


if __name__ == "__main__":
    main(sys.argv[1:])
