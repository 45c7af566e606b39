"""Streams of bytes in blocks of about one size, as UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator

__all__ = ["as_utf8", "fill", "gather", "plain"]


def fill(read: Callable[[int], bytes], size: int) -> bytes:
    """Read so many bytes, or to the end."""
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            break
        data += more
    return data


def plain(read: Callable[[int], bytes], first: bytes, size: int) -> Iterator[bytes]:
    """Give a stream's bytes as they are."""
    block = first
    while block:
        yield block
        block = read(size)


def gather(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Make blocks of about one size out of pieces of any size."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        if len(piece) > size:
            if held:
                yield b"".join(held)
                held, length = [], 0
            for start in range(0, len(piece), size):
                yield piece[start : start + size]
            continue
        if length + len(piece) > size:
            yield b"".join(held)
            held, length = [], 0
        held.append(piece)
        length += len(piece)
    if held:
        yield b"".join(held)


def as_utf8(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Take off a byte order mark, and make UTF-8 of UTF-16 that has one."""
    first = next(pieces, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield from gather(recoded(decoder, first, pieces), size)
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    if first:
        yield first
    yield from pieces


def recoded(decoder: codecs.IncrementalDecoder, first: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decode pieces, and encode them as UTF-8."""
    yield decoder.decode(first).encode("utf-8", "replace")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")
