"""Compressed streams, told by their first bytes and unpacked in bounded memory: gzip, zstd, xz, bzip2.

The end of an archive may be missing or damaged; what was good before it is given all the same, and that is noted.
However much a few bytes expand to, no more than a few megabytes are in memory at a time.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

__all__ = ["LONGEST_MAGIC", "kind_of", "unpack"]

CHUNK = 1 << 14  # bytes read at a time: what is lost at most before a damaged place
OUTPUT = 1 << 20  # bytes unpacked at a time
# zstd's own object has no limit of output. Its densest block is 4 bytes for 128 KiB: 256 bytes become 8 MiB at most.
ZSTD_STEP = 1 << 8
XZ_MEMORY = 128 << 20  # bytes; `xz -9` needs 65 MiB
LONGEST_MAGIC = 6


class Member(Protocol):
    """One member (gzip), frame (zstd) or stream (xz, bzip2) of an archive."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""

    @property
    def hungry(self) -> bool:
        """Whether it can give nothing more without more input."""

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in some bytes: what came out, and what was not taken."""


class Gzip:
    """A member of a gzip file."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(31)  # 31: with gzip's header and checksum
        self.hungry = True

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        return self.inner.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in some bytes: what came out, and what was not taken."""
        out = self.inner.decompress(data, OUTPUT)
        self.hungry = len(out) < OUTPUT
        return out, self.inner.unused_data if self.inner.eof else self.inner.unconsumed_tail


class Stream:
    """A stream of xz or bzip2."""

    def __init__(self, inner: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> None:
        self.inner = inner

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        return self.inner.eof

    @property
    def hungry(self) -> bool:
        """Whether it can give nothing more without more input."""
        return self.inner.needs_input

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in some bytes: what came out, and what was not taken."""
        if self.inner.needs_input:
            out = self.inner.decompress(data, OUTPUT)
            data = b""
        else:
            out = self.inner.decompress(b"", OUTPUT)
        return out, self.inner.unused_data + data if self.inner.eof else data


class Zstd:
    """A frame of zstd."""

    hungry = True

    def __init__(self) -> None:
        self.inner = zstandard.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        return self.inner.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in some bytes: what came out, and what was not taken."""
        parts: list[bytes] = []
        room = OUTPUT
        taken = 0
        while taken < len(data) and room > 0 and not self.inner.eof:
            parts.append(self.inner.decompress(data[taken : taken + ZSTD_STEP]))
            room -= len(parts[-1])
            taken += ZSTD_STEP
        rest = data[taken:]
        return b"".join(parts), self.inner.unused_data + rest if self.inner.eof else rest


OPENERS: dict[str, Callable[[], Member]] = {
    "gzip": Gzip,
    "zstd": Zstd,
    "xz": lambda: Stream(lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)),
    "bzip2": lambda: Stream(bz2.BZ2Decompressor()),
}


def kind_of(first: bytes) -> str | None:
    r"""Tell the kind of compression by the first bytes; None if there is none that we know.

    >>> kind_of(b"\x1f\x8b\x08\x00"), kind_of(b"I0624 20:42")
    ('gzip', None)
    """
    if first.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    # A skippable frame, of which pzstd writes one first, has a first byte of 0x50 to 0x5f.
    if first.startswith(b"\x28\xb5\x2f\xfd") or (first[1:4] == b"\x2a\x4d\x18" and first[0] & 0xF0 == 0x50):
        return "zstd"
    if first.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if first.startswith(b"BZh") and first[3:4].isdigit():
        return "bzip2"
    return None


def unpack(read: Callable[[int], bytes], first: bytes, note: Callable[[str], None]) -> Iterator[bytes]:
    """Unpack a stream that begins with one of the magics.

    Parameters
    ----------
    read
        Gives up to so many bytes more of the stream, or none at its end.
    first
        The first bytes of it, at least `LONGEST_MAGIC` unless the stream is shorter.
    note
        Takes what is wrong with the archive, in words.

    Yields
    ------
    bytes
        What was packed, in pieces of any size.
    """
    kind = kind_of(first)
    if kind is None:
        raise ValueError("not a compressed stream")
    member = OPENERS[kind]()
    pending = first
    given = 0
    while True:
        if not pending and member.hungry:
            pending = read(CHUNK)
            if not pending:
                note(f"the {kind} archive is cut off: {given} bytes could be unpacked, the rest is missing")
                return
        try:
            out, pending = member.step(pending)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError, EOFError, MemoryError) as error:
            note(f"the {kind} archive is damaged: {given} bytes could be unpacked ({error})")
            return
        given += len(out)
        if out:
            yield out
        if member.eof:
            pending = next_member(read, pending)
            if not pending:
                return
            if kind_of(pending) != kind:
                note(f"after the {kind} archive follow bytes that are not part of it; they are left out")
                return
            member = OPENERS[kind]()


def next_member(read: Callable[[int], bytes], pending: bytes) -> bytes:
    """Go to the next member, over the zeros that may fill up a block (tapes, and xz by its format)."""
    pending = pending.lstrip(b"\0")
    while len(pending) < LONGEST_MAGIC:
        more = read(CHUNK)
        if not more:
            break
        pending = (pending + more).lstrip(b"\0")
    return pending
