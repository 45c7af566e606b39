"""Records out of a klog log: what its lines say, with full times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.drafts import MOST_HELD, Draft, assemble
from leptonami.readers.klogline import Parsed, parse
from leptonami.readers.leftover import Leftover
from leptonami.readers.years import Calendar, From

__all__ = ["Record", "read"]

LOOK_AHEAD = 2_000  # records that are held back at most until the year is known
HINTS = 3  # that agree are enough to go on


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a klog log. All text in it is untrusted.

    Attributes
    ----------
    at
        The time; aware. None if the line has none, or the year has no such day. See `year_from`.
    year_from
        How the year is known. While it is `unknown` the year in `at` is a placeholder (`years.PLACEHOLDER`): order and
        differences are right. A JSON line brings its own year: `given`.
    collected
        The collector's time before the line, if there is one.
    severity, thread, file, line, message, fields
        As in `klogline.Parsed`. A message of several lines has line ends in it.
    first, last
        The numbers of its first and last line, from 1. Lines of other writers may be between them.
    origin
        Whose line it is, if a prefix says.
    raw
        Its first line as it stood there.
    """

    at: datetime | None
    year_from: From
    collected: datetime | None
    severity: str
    thread: int | None
    file: str
    line: int
    message: str
    fields: Mapping[str, Any]
    first: int
    last: int
    origin: str | None
    raw: bytes

    def proof(self, source: str) -> Proof:
        """Give it as a proof."""
        return Proof.of(source, f"line {self.first}", self.raw[:4096].decode("utf-8", "replace"))


def read(
    batches: Iterable[list[bytes]],
    *,
    year: int | None = None,
    zone: tzinfo | None = None,
    reference: datetime | None = None,
    leftover: Leftover | None = None,
    calendar: Calendar | None = None,
) -> Iterator[Record]:
    """Read a klog log.

    Parameters
    ----------
    batches
        The lines (`lines.batches`).
    year
        The year of the first record, if known.
    zone
        The zone of the headers' times. Without it the zone is what the prefixes or messages say, and else UTC.
    reference
        A time that no record is after: the file's time of modification.
    leftover
        Where lines go that belong to no record.
    calendar
        Instead of `year`, `zone` and `reference`: a calendar that the caller keeps, to see afterwards how year and
        zone were known, or that has been fed with the whole log before.

    Yields
    ------
    Record
        In the order of their first lines. Up to 2,000 are held back until the year is known.
    """
    left = Leftover() if leftover is None else leftover
    dates = Calendar(year=year, zone=zone, reference=reference) if calendar is None else calendar
    held: deque[tuple[Draft, Parsed, int]] = deque()
    size = 0
    settled = dates.settled
    for draft in assemble(batches, left):
        parsed = take_apart(draft)
        if parsed is None:
            # It began like a record, and is none: a header that was cut off, JSON of something else.
            left.add(draft.first, draft.raw)
            left.total += sum(1 for piece in draft.pieces[1:] if piece.strip())
            continue
        turn = 0
        if parsed.stamp is not None:
            turn = dates.feed(parsed.stamp)
            if dates.curious:
                if draft.at is not None:
                    dates.hint(draft.at, parsed.stamp, turn)
                dates.listen(parsed.message.encode("utf-8", "replace"), parsed.stamp, turn)
        held.append((draft, parsed, turn))
        if not settled:
            size += draft.size
            enough = dates.hints >= HINTS or not dates.curious
            settled = enough or len(held) >= LOOK_AHEAD or size >= MOST_HELD
            if not settled:
                continue
            dates.settle()
        while held:
            yield finish(*held.popleft(), dates)
    while held:
        yield finish(*held.popleft(), dates)


def take_apart(draft: Draft) -> Parsed | None:
    """Read what a draft has. Further lines of a JSON record (a panic's, say) stand after its JSON, not in it."""
    parsed = parse(b"".join(draft.pieces).rstrip(b"\n"))
    if parsed is None and len(draft.pieces) > 1 and draft.pieces[0].startswith(b"{"):
        parsed = parse(draft.pieces[0])
        if parsed is not None:
            more = b"".join(draft.pieces[1:]).rstrip(b"\n").decode("utf-8", "replace")
            parsed = replace(parsed, message=parsed.message + more)
    return parsed


def finish(draft: Draft, parsed: Parsed, turn: int, dates: Calendar) -> Record:
    """Make a record, now that the year is known as well as it will be."""
    at, known = parsed.at, From.UNKNOWN if parsed.at is None else From.GIVEN
    if parsed.stamp is not None:
        at, known = dates.resolve(parsed.stamp, turn), dates.known
    return Record(
        at=at,
        year_from=known,
        collected=draft.at,
        severity=parsed.severity,
        thread=parsed.thread,
        file=parsed.file,
        line=parsed.line,
        message=parsed.message,
        fields=parsed.fields,
        first=draft.first,
        last=draft.last,
        origin=draft.writer[0],
        raw=draft.raw,
    )
