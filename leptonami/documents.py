"""A file, a folder or an archive as named documents in memory: what the readers of clusters' evidence are given.

A must-gather is a folder or a tarball that somebody sent, so nothing in it is trusted: an archive is read in memory and
never extracted, links and whatever is no plain file are left out, and sizes are bounded before anything is kept.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from leptonami.errors import InputError
from leptonami.readers.compression import LONGEST_MAGIC, kind_of, unpack

__all__ = ["Bundle", "load_bundle"]

LARGEST = 64 * 1024 * 1024  # bytes of one document
LARGEST_OF_ALL = 512 * 1024 * 1024  # bytes of all documents, and of what an archive unpacks to
MOST = 5_000  # documents
DEEPEST = 8  # folders
TOLD = 20  # documents that were left out and are named

BROKEN = (OSError, EOFError, ValueError, tarfile.TarError)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Documents by name.

    Parameters
    ----------
    name
        What was opened, as the user named it.
    documents
        The contents by name; names are relative to what was opened, with `/`.
    skipped
        What was left out and why, a sentence each.
    """

    name: str
    documents: dict[str, bytes]
    skipped: tuple[str, ...] = ()


class TooMuch(Exception):
    """An archive unpacks to more than is read."""


class Bounded(io.RawIOBase):
    """A stream that gives so many bytes and no more, however well it is packed."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream = stream
        self.left = limit

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read; fails when the limit is passed."""
        view = memoryview(buffer).cast("B")
        block = self.stream.read(len(view))
        self.left -= len(block)
        if self.left < 0:
            raise TooMuch
        view[: len(block)] = block
        return len(block)


class Unpacked:
    """A compressed stream, to be read like a plain one. What is wrong with it is told to `note`, and ends it."""

    def __init__(self, stream: IO[bytes], first: bytes, note: Callable[[str], None]) -> None:
        self.pieces = unpack(stream.read, first, note)
        self.held = b""

    def read(self, size: int) -> bytes:
        """Read at most so many bytes; none at the end."""
        if not self.held:
            self.held = next(self.pieces, b"")
        block, self.held = self.held[:size], self.held[size:]
        return block


def bounded(stream: IO[bytes], limit: int) -> io.BufferedReader:
    """Bound a stream."""
    return cast("io.BufferedReader", io.BufferedReader(Bounded(stream, limit), 1 << 16))


def load_bundle(path: Path | str) -> Bundle:
    """Load a file, a folder or an archive (`.tar`, also compressed), or standard input (`-`).

    Parameters
    ----------
    path
        What to open. A compressed file that is no archive is one document, unpacked.

    Raises
    ------
    InputError
        If there is no such thing, it cannot be read, holds nothing, or is a damaged archive with nothing readable.
    """
    name = str(path)
    if name == "-":
        return from_stream(sys.stdin.buffer, "-")
    path = Path(path)
    try:
        if path.is_dir():
            bundle = from_folder(path, name)
        else:
            with path.open("rb") as stream:
                bundle = from_stream(stream, name)
    except FileNotFoundError as error:
        raise InputError("there is no such file or folder", resource=name) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"it cannot be read: {reason}", resource=name) from error
    if not bundle.documents:
        reason = bundle.skipped[0] if bundle.skipped else "there is nothing in it"
        raise InputError(reason, resource=name, hint="name a listing, a JSON or YAML file, or a must-gather")
    return bundle


def from_folder(folder: Path, name: str) -> Bundle:
    """Read a folder and those in it, in the order of their names; links are not followed."""
    collected = Collected()
    for root, folders, files in os.walk(folder, followlinks=False):
        inside = Path(root).relative_to(folder)
        folders.sort()
        if len(inside.parts) >= DEEPEST:
            folders.clear()
        for each in sorted(files):
            place = Path(root) / each
            short = (inside / each).as_posix()
            if place.is_symlink() or not place.is_file():
                collected.skip(short, "a link or no plain file")
            elif collected.room(short, place.stat().st_size):
                try:
                    with place.open("rb") as stream:
                        collected.add(short, unpacked(stream, short, collected))
                except OSError as error:
                    collected.skip(short, error.strerror or "cannot be read")
    return collected.bundle(name)


def from_stream(stream: IO[bytes], name: str) -> Bundle:
    """Read a file: an archive, a compressed document or a plain one."""
    collected = Collected()
    short = "-" if name == "-" else Path(name).name
    opened = decompressed(stream, collected.note)
    limited = bounded(opened, LARGEST_OF_ALL)
    try:
        if is_archive(limited):
            for member, content in members(limited, collected):
                collected.add(member, content)
        else:
            content = limited.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise InputError(f"it is larger than {LARGEST // 1024**2} MiB", resource=name)
            collected.add(short.removesuffix(".gz").removesuffix(".zst"), content)
    except TooMuch:
        collected.skip("the rest of it", f"it unpacks to more than {LARGEST_OF_ALL // 1024**2} MiB")
    except BROKEN as error:
        collected.skip("the rest of it", f"it is damaged ({type(error).__name__})")
    return collected.bundle(name)


class Collected:
    """The documents so far, within the limits."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.skipped: list[str] = []
        self.left_out = 0
        self.size = 0

    def room(self, name: str, size: int) -> bool:
        """Tell whether a document of this size is taken; note it if not."""
        if size > LARGEST:
            self.skip(name, f"larger than {LARGEST // 1024**2} MiB")
        elif len(self.documents) >= MOST or self.size + size > LARGEST_OF_ALL:
            self.skip(name, f"more than {MOST} documents or {LARGEST_OF_ALL // 1024**2} MiB")
        else:
            return True
        return False

    def skip(self, name: str, why: str) -> None:
        """Note that something was left out."""
        if len(self.skipped) < TOLD:
            self.skipped.append(f"{name} was left out: {why}")
        else:
            self.left_out += 1

    def note(self, problem: str) -> None:
        """Note that something is wrong with what was read all the same."""
        if len(self.skipped) < TOLD:
            self.skipped.append(problem)

    def add(self, name: str, content: bytes | None) -> None:
        """Keep a document."""
        if content is not None and self.room(name, len(content)):
            self.documents[name] = content
            self.size += len(content)

    def bundle(self, name: str) -> Bundle:
        """Give what was collected."""
        more = [f"{self.left_out} more were left out"] if self.left_out else []
        return Bundle(name, self.documents, (*self.skipped, *more))


def unpacked(stream: IO[bytes], name: str, collected: Collected) -> bytes | None:
    """Read one document, unpacked if it is compressed; None (and noted) if that fails. Archives inside stay closed."""
    opened = decompressed(stream, lambda problem: collected.note(f"{name}: {problem}"))
    try:
        return bounded(opened, LARGEST).read()
    except TooMuch:
        collected.skip(name, f"it unpacks to more than {LARGEST // 1024**2} MiB")
    except BROKEN as error:
        collected.skip(name, f"it is damaged ({type(error).__name__})")
    return None


def decompressed(stream: IO[bytes], note: Callable[[str], None]) -> IO[bytes]:
    """Open what is compressed, by its first bytes; what is not is given as it is."""
    peekable = cast("io.BufferedReader", stream)
    if kind_of(peekable.peek(LONGEST_MAGIC)[:LONGEST_MAGIC]) is None:
        return stream
    return cast("IO[bytes]", Unpacked(stream, stream.read(LONGEST_MAGIC), note))


def is_archive(stream: io.BufferedReader) -> bool:
    """Tell whether a stream is a tar archive, by the mark in its first header."""
    return stream.peek(512)[257:262] == b"ustar"


def members(stream: io.BufferedReader, collected: Collected) -> Iterator[tuple[str, bytes]]:
    """Give the plain files of an archive, one after another, without going back in it."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = member.name.replace("\\", "/").removeprefix("./")
            if member.isdir():
                continue
            if not member.isreg() or name.startswith("/") or ".." in name.split("/"):
                collected.skip(name[:200], "no plain file, or it leads out of the archive")
            elif collected.room(name, member.size):
                content = archive.extractfile(member)
                kept = unpacked(content, name, collected) if content else None
                if kept is not None:
                    yield name, kept
