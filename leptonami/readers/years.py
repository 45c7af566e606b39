"""The year and the zone of a log whose lines have neither.

A klog header says `0624 20:42:30.904516`. Which year that was is known, in this order of trust,

1. because the caller says so,
2. from the collector's timestamp before the line (CRI, docker, `kubectl logs --timestamps`),
3. from a time with a monotonic clock reading in a message: `2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344`
   was read from the clock by the very process that logs it. Other times in messages prove nothing: a certificate
   that is made today and ends in a year has today's date and the wrong year,
4. from the file's time of modification, which the last line is not after,

and else it is not known. The same sources tell the zone; UTC is assumed without them, which is what containers have.

A log goes over New Year when the month and day jump back by more than half a year. Lines of several writers may be a
little out of order, around New Year too.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum

from leptonami.readers.gotime import TIME, time_of
from leptonami.readers.klogline import DAYS

__all__ = ["PLACEHOLDER", "Calendar", "From", "plain"]

PLACEHOLDER = 4  # a leap year, so that the 29th of February is a day of it
NEW_YEAR = 183  # days back that are a New Year and not disorder
DISORDER = 362  # days forward that are a line from before New Year: 4 days of disorder at most
NEAR = timedelta(days=2)  # a hint is about the same time as its line: an hour before, in any zone
WIDEST = timedelta(hours=14)  # no zone is further from UTC
SLACK = timedelta(days=1)  # the zone of the log may not be that of the file's time
ENOUGH = 64  # votes after which no more hints are wanted
MOST_TURNS = 64  # New Years that are remembered
STARTS = tuple(sum(DAYS[:month]) for month in range(13))  # day of the year before a month's first, in a leap year


class From(StrEnum):
    """How the year, or the zone, is known."""

    GIVEN = "given"
    PREFIX = "prefix"
    MESSAGE = "message"
    REFERENCE = "reference"
    UNKNOWN = "unknown"


class Calendar:
    """Finds the year of stamps (month, day, microseconds) that are fed to it in the order of the log.

    Feed first, resolve afterwards: hints and the end of the log make the answer better. `feed` is cheap, and need be
    called only when month or day change; a *turn* is the number of New Years between the first stamp and this one.

    Parameters
    ----------
    year
        The year of the first stamp, if the caller knows it.
    zone
        The zone of the stamps, if the caller knows it.
    reference
        A time that no stamp is after, such as the file's time of modification; aware.

    >>> calendar = Calendar(reference=datetime(2024, 1, 5, tzinfo=UTC))
    >>> before, after = (12, 31, 0), (1, 1, 0)
    >>> turns = [calendar.feed(before), calendar.feed(after)]
    >>> calendar.resolve(before, turns[0]).year, calendar.resolve(after, turns[1]).year, str(calendar.known)
    (2023, 2024, 'reference')
    """

    def __init__(
        self, *, year: int | None = None, zone: tzinfo | None = None, reference: datetime | None = None
    ) -> None:
        self.given = year
        self.given_zone = zone
        self.reference = reference
        self.turn = 0
        self.high = 0  # day of the year of the latest stamp of this turn
        self.last: tuple[int, int, int, int] | None = None  # turn, month, day, micros of the latest stamp of all
        self.ranges: dict[int, tuple[int, int]] = {}  # first and last day of the year of each turn
        self.leaps: set[int] = set()  # turns that have a 29th of February
        self.votes: dict[From, Counter[int]] = {From.PREFIX: Counter(), From.MESSAGE: Counter()}
        self.offsets: dict[From, Counter[int]] = {From.PREFIX: Counter(), From.MESSAGE: Counter()}
        self.answer: tuple[int, From] | None = None  # of the last question, while nothing new is known
        self.answer_zone: tuple[tzinfo, From] | None = None
        self.settled = False
        self.midnight: tuple[int, int, int, datetime | None] = (0, 0, 0, None)

    def feed(self, stamp: tuple[int, int, int]) -> int:
        """Take the next stamp of the log, and give its turn."""
        month, day, micros = stamp
        ordinal = STARTS[month] + day
        turn = self.turn
        if ordinal != self.high:
            turn = self.move(ordinal) if self.high else self.start(ordinal)
            self.note(turn, ordinal)
            if month == 2 and day == 29 and len(self.leaps) < MOST_TURNS:
                self.leaps.add(turn)
            self.forget()
        latest = (turn, month, day, micros)
        if self.last is None or latest > self.last:
            self.last = latest
        return turn

    def start(self, ordinal: int) -> int:
        """Begin with the first stamp."""
        self.high = ordinal
        return 0

    def move(self, ordinal: int) -> int:
        """Go on to another day, and give its turn."""
        jump = ordinal - self.high
        if jump < -NEW_YEAR:
            self.turn += 1
            self.high = ordinal
        elif jump > DISORDER:
            return self.turn - 1
        elif jump > 0:
            self.high = ordinal
        return self.turn

    def note(self, turn: int, ordinal: int) -> None:
        """Remember which days a turn has."""
        if turn in self.ranges:
            first, last = self.ranges[turn]
            self.ranges[turn] = min(first, ordinal), max(last, ordinal)
        elif len(self.ranges) < MOST_TURNS:
            self.ranges[turn] = ordinal, ordinal

    @property
    def curious(self) -> bool:
        """Whether hints could still change anything."""
        if self.settled or (self.given is not None and self.given_zone is not None):
            return False
        return max(sum(counter.values()) for counter in self.votes.values()) < ENOUGH

    def hint(self, at: datetime, stamp: tuple[int, int, int], turn: int = 0, *, kind: From = From.PREFIX) -> bool:
        """Take a full time that is known to be about that of a stamp; tell whether it was of use.

        Parameters
        ----------
        at
            An aware time.
        stamp, turn
            The stamp of the same line, and what `feed` gave for it.
        kind
            `PREFIX`: the time at which the line was collected. `MESSAGE`: a clock reading in the message.
        """
        try:
            naive = at.astimezone(UTC).replace(tzinfo=None)
        except (OverflowError, ValueError):
            return False
        for year in (naive.year, naive.year - 1, naive.year + 1):
            wall = moment(year, stamp)
            if wall is None or abs(wall - naive) > NEAR:
                continue
            self.votes[kind][year - turn] += 1
            if kind is From.PREFIX:
                # The line was collected at once, and zones are a quarter of an hour apart.
                quarters = round((wall - naive) / timedelta(minutes=15))
                near = abs(wall - naive - quarters * timedelta(minutes=15)) < timedelta(minutes=5)
                offset = timedelta(minutes=15 * quarters) if near else None
            else:
                offset = at.utcoffset()
            if offset is not None and abs(offset) <= WIDEST:
                self.offsets[kind][int(offset.total_seconds() // 60)] += 1
            self.forget()
            return True
        return False

    def listen(self, message: bytes, stamp: tuple[int, int, int], turn: int = 0) -> None:
        """Look for clock readings in a message, and take them as hints. Cheap for a message that has none."""
        place = message.find(b" m=", 0, 4096)
        if place < 0 or not self.curious:
            return
        for match in TIME.finditer(message, max(0, place - 64), 4096):
            if match[match.re.groups] is not None and (at := time_of(match)) is not None:
                self.hint(at, stamp, turn, kind=From.MESSAGE)

    @property
    def hints(self) -> int:
        """How many hints there are for the year that they say."""
        return max((max(votes.values()) for votes in self.votes.values() if votes), default=0)

    def settle(self) -> None:
        """Stay with what is known now. For a reader that gives its records before it has seen the end."""
        _ = self.first_year, self.zone
        self.settled = True

    def forget(self) -> None:
        """Think again when asked the next time."""
        if not self.settled:
            self.answer = self.answer_zone = None

    @property
    def first_year(self) -> int:
        """The year of the first stamp, or `PLACEHOLDER` (and up to three more) if it is not known."""
        return self.decide()[0]

    @property
    def known(self) -> From:
        """How the year is known."""
        return self.decide()[1]

    @property
    def zone(self) -> tzinfo:
        """The zone of the stamps."""
        return self.decide_zone()[0]

    @property
    def zone_known(self) -> From:
        """How the zone is known; `UNKNOWN` if UTC was only assumed."""
        return self.decide_zone()[1]

    def decide(self) -> tuple[int, From]:
        """Find the first year."""
        if self.answer is None:
            self.answer = self.find_year()
            self.midnight = (0, 0, 0, None)
        return self.answer

    def find_year(self) -> tuple[int, From]:
        """Go through the sources in the order of trust."""
        if self.given is not None:
            return self.given, From.GIVEN
        for kind, votes in self.votes.items():
            if votes:
                return most(votes), kind
        if self.reference is not None and self.last is not None:
            turn, *rest = self.last
            latest = self.reference.year + 1
            for year in range(latest, max(latest - 10, 1), -1):
                wall = moment(year, (rest[0], rest[1], rest[2]))
                if wall is not None and self.possible(year - turn) and not_after(wall, self.zone, self.reference):
                    return year - turn, From.REFERENCE
        for year in range(PLACEHOLDER, PLACEHOLDER + 4):
            if self.possible(year):
                return year, From.UNKNOWN
        return PLACEHOLDER, From.UNKNOWN

    def possible(self, first: int) -> bool:
        """Tell whether the years that follow from a first year have the leap days that the log has."""
        return all((first + turn) % 4 == 0 for turn in self.leaps)

    def decide_zone(self) -> tuple[tzinfo, From]:
        """Find the zone."""
        if self.answer_zone is None:
            self.answer_zone = self.find_zone()
            self.midnight = (0, 0, 0, None)
        return self.answer_zone

    def find_zone(self) -> tuple[tzinfo, From]:
        """Go through the sources in the order of trust."""
        if self.given_zone is not None:
            return self.given_zone, From.GIVEN
        for kind, offsets in self.offsets.items():
            if offsets:
                minutes = most(offsets)
                return (timezone(timedelta(minutes=minutes)) if minutes else UTC), kind
        return UTC, From.UNKNOWN

    def turn_of(self, stamp: tuple[int, int, int]) -> int:
        """Find the turn of a stamp whose own was not kept: the first one that has such a day.

        Exact for a log of less than a year. A longer one has a day twice; keep what `feed` gives.
        """
        if len(self.ranges) > 1:
            ordinal = STARTS[stamp[0]] + stamp[1]
            for turn, (first, last) in sorted(self.ranges.items()):
                if first <= ordinal <= last:
                    return turn
        return 0

    def resolve(self, stamp: tuple[int, int, int], turn: int | None = None) -> datetime | None:
        """Give the full time of a stamp.

        Returns
        -------
        datetime
            Aware. While the year is not `known`, its year is `PLACEHOLDER` or a little after, so that differences and
            the order are right; nobody should print such a year (`plain` does not). None if the year has no such day.
        """
        month, day, micros = stamp
        if turn is None:
            turn = self.turn_of(stamp)
        year = self.decide()[0] + turn
        zone = self.decide_zone()[0]
        if self.midnight[:3] != (year, month, day):
            try:
                self.midnight = (year, month, day, datetime(year, month, day, tzinfo=zone))
            except (ValueError, OverflowError):
                self.midnight = (year, month, day, None)
        start = self.midnight[3]
        return None if start is None else start + timedelta(microseconds=micros)


def plain(at: datetime) -> str:
    """Write a time for people: without the year if it is only a placeholder.

    >>> plain(datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC))
    '2023-06-24 20:42:30'
    >>> plain(datetime(PLACEHOLDER, 6, 24, 20, 42, 30, tzinfo=UTC))
    '06-24 20:42:30'
    """
    return f"{at:%m-%d %H:%M:%S}" if at.year < 1000 else f"{at.year}-{at:%m-%d %H:%M:%S}"


def moment(year: int, stamp: tuple[int, int, int]) -> datetime | None:
    """Give the wall clock's time of a stamp in a year, if that year has it."""
    month, day, micros = stamp
    try:
        return datetime(year, month, day) + timedelta(microseconds=micros)
    except (ValueError, OverflowError):
        return None


def not_after(wall: datetime, zone: tzinfo, reference: datetime) -> bool:
    """Tell whether a time of the wall clock is not after another time, as far as zones let one say."""
    try:
        return wall.replace(tzinfo=zone) <= reference + SLACK
    except (OverflowError, ValueError, TypeError):
        return False


def most(votes: Counter[int]) -> int:
    """Give what most votes are for; of equals the later."""
    return max(votes, key=lambda each: (votes[each], each))
