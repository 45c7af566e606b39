"""Lines that belong together: messages of several lines, writers that mix, pieces of one line, broken lines.

`assemble` puts the lines of a log together to drafts, in the order of their first lines; what a draft says is for
`records` to find out.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from leptonami.readers.klogline import parse
from leptonami.readers.leftover import Leftover
from leptonami.readers.lines import LONGEST
from leptonami.readers.prefixes import Stripped, begins, strip
from leptonami.readers.wrapping import Wrapping, detect

__all__ = ["MOST_HELD", "Draft", "assemble"]

SAMPLE = 1_000  # lines from which wrapping is told
MOST_LINES = 1_000  # of one record; what follows is left over
MOST_BYTES = 1 << 18  # of one record, beyond its first line
IDLE = 200  # lines after which a record is complete, though its writer has written nothing else
MOST_HELD = 8 << 20  # bytes of lines that are held back anywhere: for the year, for other writers, for other parts
MOST_WRITERS = 256
MOST_MARKS = 64
# Where somebody left something out: what follows does not belong to the record before.
ELISIONS = frozenset(
    {b"...", b"[...]", b"(...)", b"\xe2\x80\xa6", b"[\xe2\x80\xa6]", b"<snip>", b"[snip]", b"--", b"```"}
)

NUMBER = re.compile(rb"(?:[^\s:]{1,250}:)?[ \t]{0,8}[0-9]{1,9}[:\t-](?![0-9])")

Writer = tuple[str | None, str | None]  # origin and stream


@dataclass(slots=True, eq=False)
class Draft:
    """A record whose lines are still coming."""

    writer: Writer
    first: int
    last: int
    raw: bytes
    before: bytes  # the last line taken, to tell whether it was wrapped
    at: datetime | None
    pieces: list[bytes]
    size: int
    count: int = 1
    open: bool = True


@dataclass(slots=True)
class Piece:
    """A line of a container that the runtime has cut into parts, of which the last has not come yet."""

    first: int
    raw: bytes
    found: Stripped
    body: bytearray = field(default_factory=bytearray)


def assemble(batches: Iterable[list[bytes]], left: Leftover) -> Iterator[Draft]:
    """Put lines together to drafts, in the order of their first lines."""
    lines = chain.from_iterable(batches)
    sample: list[bytes] = []
    size = 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) >= SAMPLE or size >= MOST_HELD:
            break
    desk = Desk(left, wrapping_of(sample))
    for number, line in enumerate(chain(sample, lines), 1):
        desk.take(number, line)
        if desk.ready(number):
            yield from desk.complete()
    desk.close()
    yield from desk.complete()


def wrapping_of(sample: Iterable[bytes]) -> Wrapping | None:
    """Tell how a log was wrapped."""
    seen: list[tuple[bytes, bytes, bool]] = []
    mark = b""
    for line in sample:
        found = strip(line)
        first = begins(found.rest)
        mark = found.mark if first else mark
        seen.append((line, found.rest if first else found.rest.removeprefix(mark), first))
    return detect(seen)


class Desk:
    """Where lines are sorted by their writers."""

    def __init__(self, left: Leftover, wrapping: Wrapping | None) -> None:
        self.left = left
        self.wrapping = wrapping
        self.drafts: deque[Draft] = deque()  # in the order of their first lines
        self.latest: Draft | None = None  # the one that the last line went to
        self.numbered = False  # whether lines have numbers, as `grep -n` writes them
        self.size = 0  # bytes in drafts
        self.waiting = 0  # bytes in parts
        self.current: OrderedDict[Writer, Draft] = OrderedDict()  # the one that each writer is at
        self.parts: OrderedDict[Writer, Piece] = OrderedDict()
        self.marks: OrderedDict[bytes, str | None] = OrderedDict()  # that stood before records, and whose they are

    def take(self, number: int, line: bytes) -> None:
        """Take one line of the file."""
        found = strip(line)
        writer = (found.origin, found.stream)
        piece = self.parts.pop(writer, None) if self.parts else None
        if not found.partial and piece is None:
            self.sort(number, number, line, found)
            return
        if piece is None:
            piece = Piece(number, line, found)
        added = found.rest[: LONGEST - len(piece.body)]
        piece.body += added
        self.waiting += len(added)
        if not found.partial:
            self.release(piece, number)
            return
        self.parts[writer] = piece
        while len(self.parts) > MOST_WRITERS or self.waiting > MOST_HELD:
            self.release(self.parts.popitem(last=False)[1], number)

    def release(self, piece: Piece, number: int) -> None:
        """Go on with a line that was in parts. What stands in it may have a prefix of its own."""
        self.waiting -= len(piece.body)
        inner = strip(bytes(piece.body))
        found = piece.found
        joined = Stripped(
            inner.rest,
            inner.at or found.at,
            found.origin or inner.origin,
            found.stream,
            mark=inner.mark,
            kinds=found.kinds + inner.kinds,
        )
        self.sort(piece.first, number, piece.raw, joined)

    def sort(self, first: int, last: int, raw: bytes, found: Stripped) -> None:
        """Begin a draft with a line, or add it to the one that its writer is at."""
        rest = found.rest
        # JSON of something else is no record; but where lines are broken, JSON is complete only later.
        if begins(rest) and (self.wrapping is not None or not rest.startswith(b"{") or parse(rest) is not None):
            writer = (found.origin, found.stream)
            self.begin(Draft(writer, first, last, raw, raw, found.at, [rest], len(rest)))
            if found.mark:
                self.note_mark(found)
            return
        origin = found.origin
        if (self.marks or self.numbered) and not found.mark:
            rest, origin = self.unmark(rest, origin)
        draft = self.current.get((origin, found.stream)) or self.broken_off(first, rest, found)
        if rest.strip() in ELISIONS:
            if draft is not None:
                self.end(draft)
            self.left.add(first, raw)
        elif draft is None:
            # A mark before nothing may be the line itself, unless a record has had one as well.
            if rest.strip() or (found.mark and not self.numbered and found.mark not in self.marks):
                self.left.add(first, raw)
        elif rest.startswith(b'{"') and draft.pieces[0].startswith(b"{"):
            self.left.add(first, raw)  # JSON of something else between records in JSON
        elif draft.count >= MOST_LINES or draft.size + len(rest) > len(draft.pieces[0]) + MOST_BYTES:
            self.left.add(first, raw)
        else:
            self.extend(draft, last, raw, rest)

    def broken_off(self, number: int, rest: bytes, found: Stripped) -> Draft | None:
        """Find the record that a line without any prefix was broken off."""
        draft = self.latest
        if self.wrapping is None or found.kinds or draft is None or not draft.open or draft.last != number - 1:
            return None
        return None if self.wrapping.joint(draft.before, rest) is None else draft

    def note_mark(self, found: Stripped) -> None:
        """Remember what stood before a record: it stands before the lines that follow, too."""
        if NUMBER.match(found.mark):
            self.numbered = True
        elif found.mark not in self.marks:
            self.marks[found.mark] = found.origin
            if len(self.marks) > MOST_MARKS:
                self.marks.popitem(last=False)

    def unmark(self, rest: bytes, origin: str | None) -> tuple[bytes, str | None]:
        """Take off what stands before a line if it stood before a record: it is not recognised by itself."""
        if self.numbered and (number := NUMBER.match(rest)):
            rest = rest[number.end() :]
        for mark, whose in self.marks.items():
            if rest.startswith(mark):
                return rest[len(mark) :], origin or whose
            if rest == mark.rstrip():
                return b"", origin or whose
        return rest, origin

    def begin(self, draft: Draft) -> None:
        """Begin with the next record of a writer."""
        previous = self.current.pop(draft.writer, None)
        if previous is not None:
            previous.open = False
        self.current[draft.writer] = draft
        self.drafts.append(draft)
        self.size += draft.size
        self.latest = draft
        if len(self.current) > MOST_WRITERS:
            self.current.popitem(last=False)[1].open = False

    def extend(self, draft: Draft, last: int, raw: bytes, rest: bytes) -> None:
        """Add a line to a record."""
        joint = None
        if self.wrapping is not None and last == draft.last + 1:
            joint = self.wrapping.joint(draft.before, rest)
        between = b"\n" if joint is None else joint
        draft.pieces += [between, rest]
        draft.size += len(between) + len(rest)
        draft.count += 1
        draft.last = last
        draft.before = raw
        self.size += len(between) + len(rest)
        self.latest = draft

    def end(self, draft: Draft) -> None:
        """Take no more lines for a record."""
        draft.open = False
        self.current.pop(draft.writer, None)

    def ready(self, number: int) -> bool:
        """Tell whether there is a draft to give."""
        if not self.drafts:
            return False
        head = self.drafts[0]
        if head.open and (number - head.last >= IDLE or self.size > MOST_HELD):
            self.end(head)
        return not head.open

    def complete(self) -> Iterator[Draft]:
        """Give the drafts that are complete, as long as none before them is not."""
        while self.drafts and not self.drafts[0].open:
            draft = self.drafts.popleft()
            self.size -= draft.size
            yield draft

    def close(self) -> None:
        """End everything: the log is over."""
        for piece in self.parts.values():
            self.release(piece, piece.first)
        self.parts.clear()
        for draft in self.current.values():
            draft.open = False
        self.current.clear()
