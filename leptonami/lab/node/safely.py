"""Writing into a node root from outside it, without following a link that a script may have planted there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["clear", "read", "remove", "write"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def _folder(root: Path, parts: tuple[str, ...], *, make: bool) -> Iterator[int]:
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if part in ("", ".", ".."):
                raise ValueError(f"not a path inside a node root: {'/'.join(parts)!r}")
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=current)
            following = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def _split(path: str) -> tuple[tuple[str, ...], str]:
    parts = PurePosixPath(path.lstrip("/")).parts
    if not parts or parts[-1] in (".", ".."):
        raise ValueError(f"not a path inside a node root: {path!r}")
    return parts[:-1], parts[-1]


def write(root: Path, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file inside a node root, making its folders.

    Raises
    ------
    OSError
        If any part of the path is a symbolic link: it could lead out of the node root.
    """
    folders, name = _split(path)
    with _folder(root, folders, make=True) as folder:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content.encode() if isinstance(content, str) else content)


def read(root: Path, path: str) -> bytes | None:
    """Read a file inside a node root; nothing if it is not there. Links are not followed."""
    folders, name = _split(path)
    try:
        with _folder(root, folders, make=False) as folder:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove(root: Path, path: str) -> None:
    """Remove a file, a link or a whole folder inside a node root; nothing if it is not there."""
    folders, name = _split(path)
    try:
        with _folder(root, folders, make=False) as folder:
            try:
                os.unlink(name, dir_fd=folder)
            except IsADirectoryError:
                shutil.rmtree(name, dir_fd=folder)
            except PermissionError:
                if not os.path.isdir(f"/proc/self/fd/{folder}/{name}"):  # noqa: PTH112
                    raise
                shutil.rmtree(name, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return


def clear(root: Path, path: str) -> None:
    """Empty a folder inside a node root, and make it if it is not there."""
    parts = PurePosixPath(path.lstrip("/")).parts
    with _folder(root, parts, make=True) as folder:
        for name in os.listdir(folder):  # noqa: PTH208 - a descriptor, not a path
            remove(root, f"{path}/{name}")
