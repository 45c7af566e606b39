"""When the lines of an autoscaler's log were written: what tells the year is noted in the pass, and weighed at its end.

A pass over a part of a log notes the same as one over all of it would, so that parts can be put together.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from leptonami.readers.autoscaler.track import Seen
from leptonami.readers.klogline import Stamp, make_stamp
from leptonami.readers.years import Calendar, From

__all__ = ["Times", "stamp_of"]

MOST_DAYS = 1 << 12  # changes of the day: eleven years of log
MOST_HINTS = 64  # what a `Calendar` wants of each kind


@dataclass(slots=True)
class Times:
    """What a log tells of its times.

    Parameters
    ----------
    year, zone, reference
        What the caller knows: of the first line, and a time that no line is after.
    days
        The first line of each day.
    last
        The last line.
    heard
        Lines with a clock reading in their message.
    told
        Lines before which a collector put a time, and that time.
    """

    year: int | None = None
    zone: tzinfo | None = None
    reference: datetime | None = None
    days: list[Seen] = field(default_factory=list)
    last: Seen | None = None
    heard: list[Seen] = field(default_factory=list)
    told: list[tuple[Seen, datetime]] = field(default_factory=list)
    day: bytes = b""
    calendar: Calendar | None = None
    turns: list[int] = field(default_factory=list)

    def note(self, seen: Seen) -> None:
        """Note a line's day, if it is a new one."""
        self.last = seen
        day = seen.line[1:5]
        if day != self.day and len(self.days) < MOST_DAYS and stamp_of(seen.line) is not None:
            self.day = day
            self.days.append(seen)
        self.calendar = None

    def hear(self, seen: Seen) -> None:
        """Note a line whose message may tell the year."""
        if len(self.heard) < MOST_HINTS and b" m=" in seen.line:
            self.heard.append(seen)

    def tell(self, seen: Seen, at: datetime) -> None:
        """Note the time that a collector put before a line."""
        if len(self.told) < MOST_HINTS:
            self.told.append((seen, at))

    def join(self, later: Times, shift: int) -> None:
        """Take over what a later part of the log tells; its lines are counted from `shift` on."""
        for seen in later.days:
            self.note(Seen(seen.number + shift, seen.line))
        self.last = Seen(later.last.number + shift, later.last.line) if later.last is not None else self.last
        for seen in later.heard[: MOST_HINTS - len(self.heard)]:
            self.heard.append(Seen(seen.number + shift, seen.line))
        for seen, at in later.told[: MOST_HINTS - len(self.told)]:
            self.told.append((Seen(seen.number + shift, seen.line), at))

    def weigh(self) -> Calendar:
        """Find the year and the zone from all that was noted."""
        if self.calendar is not None:
            return self.calendar
        calendar = Calendar(year=self.year, zone=self.zone, reference=self.reference)
        self.turns = []
        for seen in (*self.days, *((self.last,) if self.last is not None else ())):
            stamp = stamp_of(seen.line)
            if stamp is not None and calendar.feed(stamp) > len(self.turns):
                self.turns.append(seen.number)
        for seen in self.heard:
            stamp = stamp_of(seen.line)
            if stamp is not None:
                calendar.listen(seen.line, stamp, self.turn(seen.number))
        for seen, at in self.told:
            stamp = stamp_of(seen.line)
            if stamp is not None:
                calendar.hint(at, stamp, self.turn(seen.number))
        self.calendar = calendar
        return calendar

    def turn(self, number: int) -> int:
        """Give how many New Years went by before a line."""
        return bisect_right(self.turns, number)

    @property
    def known(self) -> From:
        """How the year is known."""
        return self.weigh().known

    def when(self, seen: Seen) -> datetime | None:
        """Give the time of a line; None if it has none."""
        stamp = stamp_of(seen.line)
        return None if stamp is None else self.weigh().resolve(stamp, self.turn(seen.number))


def stamp_of(line: bytes) -> Stamp | None:
    """Read the time of a line that begins like a header."""
    try:
        seconds = (int(line[6:8]) * 60 + int(line[9:11])) * 60 + int(line[12:14])
        return make_stamp(int(line[1:3]), int(line[3:5]), seconds * 1_000_000 + int(line[15:21]))
    except ValueError:
        return None
