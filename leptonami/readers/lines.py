r"""Lines out of blocks of bytes, in memory that does not grow and in time linear in the bytes.

What everything that reads a log of any size stands on. The usual block costs one `bytes.split`; only the line that
goes over the edge of a block is put together by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["LONGEST", "Lines", "batches"]

LONGEST = (
    1 << 20
)  # bytes of a line that are kept; Kubernetes' collectors cut at 16 KiB, klog prints objects of some 100 KiB


@dataclass(slots=True)
class Lines:
    """What was counted while lines were read.

    Attributes
    ----------
    lines
        The lines given so far, the batch in hand included: its first line is number `lines - len(batch) + 1`.
    bytes
        The bytes taken in so far, line ends and what was cut off included.
    cut
        How many lines were longer than the limit and lost their end.
    first_cut
        The number of the first of them, from 1.
    """

    lines: int = 0
    bytes: int = 0
    cut: int = 0
    first_cut: int | None = None


def batches(blocks: Iterable[bytes], *, longest: int = LONGEST, lines: Lines | None = None) -> Iterator[list[bytes]]:
    r"""Give the lines of a stream, as many at a time as a block has.

    A line ends with `\n` or `\r\n`, which is taken off; the last one may have no end. How the stream is cut into
    blocks makes no difference to the lines.

    Parameters
    ----------
    blocks
        The stream. Blocks of about a megabyte are fast. Memory: one block, its lines, and `longest`.
    longest
        The bytes of a line that are kept. What goes beyond is thrown away and counted.
    lines
        Where to count, if the caller wants to know.

    Yields
    ------
    list[bytes]
        At least one line, in order.

    >>> list(batches([b"one\r\ntw", b"o\n\nthree"]))
    [[b'one'], [b'two', b''], [b'three']]
    """
    if longest < 1:
        raise ValueError("a line needs room for one byte at least")
    count = Lines() if lines is None else lines
    # The beginning of a line whose end has not come yet. One byte more than `longest` is kept, since that byte may turn
    # out to be the `\r` of the line's end.
    held = bytearray()
    started = False  # whether there is such a line
    room = longest + 1
    over = False
    for block in blocks:
        if not block:
            continue
        count.bytes += len(block)
        parts = block.split(b"\n")
        tail = parts.pop()
        if parts:
            cut_first = False
            if started:
                first = parts[0]
                if over or len(held) + len(first) > room:
                    held += first[: room - len(held)]
                    parts[0] = bytes(held[:longest])
                    cut_first = True
                else:
                    held += first
                    parts[0] = bytes(held)
                held.clear()
                started = over = False
            finish(parts, count, longest, cut_first=cut_first, returns=b"\r" in block, block=len(block))
            yield parts
        if tail:
            started = True
            if not over:
                space = room - len(held)
                over = len(tail) > space
                held += tail[:space] if over else tail
    if started:
        parts = [bytes(held[:longest]) if over else bytes(held)]
        finish(parts, count, longest, cut_first=over, returns=False, block=0)
        yield parts


def finish(parts: list[bytes], count: Lines, longest: int, *, cut_first: bool, returns: bool, block: int) -> None:
    r"""Take `\r` off, cut what is too long, and count; in place.

    Parameters
    ----------
    parts
        The lines; the first may have begun in an earlier block.
    cut_first
        Whether the first has been cut already: its last byte is then no line end.
    returns
        Whether the block has a `\r` anywhere. If not, only the first line can end with one.
    block
        The length of the block: no line but the first can be longer.
    """
    first = parts[0]
    if returns:
        parts[:] = [each[:-1] if each.endswith(b"\r") else each for each in parts]
    elif first.endswith(b"\r"):
        parts[0] = first[:-1]
    if cut_first:
        parts[0] = first
        note_cut(count, 1)
    if len(parts[0]) > longest or block > longest:
        for index, each in enumerate(parts):
            if len(each) > longest:
                parts[index] = each[:longest]
                note_cut(count, index + 1)
    count.lines += len(parts)


def note_cut(count: Lines, place: int) -> None:
    """Count a line that was cut, which is the `place`-th of the batch."""
    count.cut += 1
    if count.first_cut is None:
        count.first_cut = count.lines + place
