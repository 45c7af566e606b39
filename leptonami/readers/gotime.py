"""Times and durations as Go's `time` package prints them.

The formats are those of the package's documentation (pkg.go.dev/time): `Duration.String`, `Time.String` with its
monotonic clock reading (`m=+318.403015344`), and RFC 3339 with nanoseconds, which collectors put before a line. Python
keeps microseconds: what is finer is cut off, never rounded up, so that nothing is later than the log says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["RFC3339", "TIME", "parse_duration", "parse_rfc3339", "parse_time"]

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\N{MICRO SIGN}s": 1_000,
    "\N{GREEK SMALL LETTER MU}s": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
PART = re.compile("([0-9]{0,20})(?:[.]([0-9]{0,20}))?(ns|us|\N{MICRO SIGN}s|\N{GREEK SMALL LETTER MU}s|ms|s|m|h)")
LONGEST_DURATION = 64  # characters; Go's own longest is about 30
MOST_NANOSECONDS = (1 << 63) - 1  # Go keeps a duration in an int64

# `2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344`; the zone's name may be a number again (`+0530 +0530`).
TIME = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.]([0-9]{1,9}))? "
    rb"([-+])([0-9]{2})([0-9]{2})(?: (?:[A-Za-z]{1,6}|[-+][0-9]{2,4}))?(?: m=([-+][0-9]{1,12}[.][0-9]{1,9}))?"
)
# `2023-06-24T20:42:30.904516Z`, `2023-06-24T22:42:30+02:00`; journald's short-iso prints the offset without a colon.
RFC3339 = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    rb"(?:([Zz])|([-+])([0-9]{2}):?([0-9]{2}))"
)


def parse_duration(text: str | bytes) -> timedelta | None:
    """Read a duration; nothing if it is none.

    >>> parse_duration("3m45.769776521s")
    datetime.timedelta(seconds=225, microseconds=769776)
    >>> parse_duration("-1.5h") == -timedelta(minutes=90)
    True
    >>> parse_duration("5 minutes") is None
    True
    """
    if len(text) > LONGEST_DURATION:
        return None
    word = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    negative = word.startswith("-")
    body = word[1:] if word[:1] in {"-", "+"} else word
    if body == "0":
        return timedelta(0)
    total = position = 0
    while position < len(body):
        match = PART.match(body, position)
        if match is None:
            return None
        whole, fraction, unit = match.groups()
        if not whole and not fraction:
            return None
        scale = NANOSECONDS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        position = match.end()
    if position == 0 or total > MOST_NANOSECONDS:
        return None
    return timedelta(microseconds=(-1 if negative else 1) * (total // 1000))


def parse_time(text: str | bytes) -> datetime | None:
    """Read what `Time.String` printed; nothing if the text as a whole is something else or no date.

    >>> parse_time("2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344").isoformat()
    '2023-06-24T20:38:45.129539+00:00'
    >>> parse_time("2023-06-24 22:38:45 +0200 CEST").utcoffset()
    datetime.timedelta(seconds=7200)
    """
    match = TIME.fullmatch(as_bytes(text))
    return None if match is None else time_of(match)


def parse_rfc3339(text: str | bytes) -> datetime | None:
    """Read a time of RFC 3339; nothing if the text as a whole is something else or no date.

    >>> parse_rfc3339("2023-06-24T20:42:30.904516789Z").isoformat()
    '2023-06-24T20:42:30.904516+00:00'
    """
    match = RFC3339.fullmatch(as_bytes(text))
    return None if match is None else rfc3339_of(match)


def time_of(match: re.Match[bytes]) -> datetime | None:
    """Make a time of a match of `TIME`."""
    *digits, fraction, sign, hours, minutes, _ = match.groups()
    return make(digits, fraction, zone(sign, hours, minutes))


def rfc3339_of(match: re.Match[bytes]) -> datetime | None:
    """Make a time of a match of `RFC3339`."""
    *digits, fraction, zulu, sign, hours, minutes = match.groups()
    return make(digits, fraction, UTC if zulu else zone(sign, hours, minutes))


def make(digits: list[bytes], fraction: bytes | None, where: timezone | None) -> datetime | None:
    """Put a time together, or tell that there is no such time."""
    if where is None:
        return None
    year, month, day, hour, minute, second = map(int, digits)
    micros = int(fraction[:6].ljust(6, b"0")) if fraction else 0
    try:
        return datetime(year, month, day, hour, minute, second, micros, where)
    except ValueError:
        return None


def zone(sign: bytes, hours: bytes, minutes: bytes) -> timezone | None:
    """Make a zone of its offset, or tell that there is no such one."""
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset >= timedelta(hours=24):
        return None
    if not offset:
        return UTC
    return timezone(-offset if sign == b"-" else offset)


def as_bytes(text: str | bytes) -> bytes:
    """Give text as bytes; what is no UTF-8 matches nothing."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")
