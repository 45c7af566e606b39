"""The disk of a node: an ext4 file system in a sparse file, made once by a bake and copied for each launch.

Where the file system underneath can share blocks (btrfs, xfs), the copy is a reflink; which it was is recorded. Copying
stands for what EBS does in no time, so it happens before a launch is requested. A copy is evicted from the page cache
unless the cache is to be kept: what a launch reads then comes from this machine's storage, whose own caches nobody can
see from here. That is a cold cache, not EBS's lazy loading.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from leptonami.errors import BuildError, InputError

__all__ = ["attached", "copy", "create", "evict", "resident_mib", "run", "stored_bytes"]


def run(*command: str | Path, timeout: float = 600) -> str:
    """Run a program to its end and give its output.

    Raises
    ------
    BuildError
        With what it said, if it failed.
    InputError
        If it is not installed.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=True
        )
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed", resource=str(command[0])) from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {timeout:.0f} s", resource=str(command[0])) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip()[-500:]
        raise BuildError(f"failed with {error.returncode}: {said}", resource=str(command[0])) from error
    return done.stdout


def create(path: Path, mib: int) -> None:
    """Make an empty disk image with ext4; it needs no mount and no privilege."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(mib * 1024 * 1024)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1", path)


def copy(source: Path, target: Path) -> str:
    """Copy a disk image; give `reflink` or `copy`. Holes stay holes."""
    target.unlink(missing_ok=True)
    if subprocess.run(
        ["cp", "--reflink=always", str(source), str(target)], capture_output=True, check=False
    ).returncode:
        run("cp", "--reflink=never", "--sparse=always", source, target)
        return "copy"
    return "reflink"


def evict(paths: Iterable[Path], *, written: bool = True) -> None:
    """Drop files from the page cache, once they are on the disk. Of what is mapped somewhere, pages stay."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if written:
                os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def resident_mib(path: Path) -> int:
    """Give how much of a file is in the page cache; -1 where `fincore` is missing."""
    if shutil.which("fincore") is None:
        return -1
    return int(run("fincore", "--noheadings", "--bytes", "--output", "RES", path).strip() or 0) // 2**20


def stored_bytes(path: Path) -> int:
    """Give what a sparse file takes on its disk."""
    return path.stat().st_blocks * 512


def attached(path: Path) -> list[str]:
    """Give the loop devices that hold a file, also one that has been deleted."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = entry.read_text().strip()
        except OSError:  # it was detached just now
            continue
        if backing.removesuffix(" (deleted)") == str(path):
            found.append(f"/dev/{entry.parent.parent.name}")
    return found


def filesystem(path: Path) -> str:
    """Give the type of the file system that a folder is on."""
    return run("stat", "--file-system", "--format=%T", path).strip()
