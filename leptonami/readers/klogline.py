"""One line of klog, in any of its three forms: classic header, structured text, JSON.

The classic header is `Lmmdd hh:mm:ss.uuuuuu thread file:line] message` (k8s.io/klog/v2). It has neither a year nor a
zone; `years` finds the year. The JSON form is that of k8s.io/component-base/logs/json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple

from leptonami.readers.gotime import parse_rfc3339
from leptonami.readers.klogfields import structured

__all__ = ["DAYS", "HEADER", "Parsed", "Stamp", "parse"]

# A month has as many days as in a leap year: the header does not say which year it is.
DAYS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAY = 86_400_000_000  # microseconds

HEADER = re.compile(
    rb"([IWEF])([01][0-9])([0-3][0-9]) ([0-2][0-9]):([0-5][0-9]):([0-5][0-9])[.]([0-9]{6}) {1,8}([0-9]{1,10}) "
    rb"([^\s:\]]{1,250}):([0-9]{1,7})\] ?"
)

LEVELS = {
    "trace": "I",
    "debug": "I",
    "info": "I",
    "notice": "I",
    "warn": "W",
    "warning": "W",
    "error": "E",
    "err": "E",
    "critical": "F",
    "dpanic": "F",
    "panic": "F",
    "fatal": "F",
}
CALLER = re.compile(r"([^\s:]{1,250}):([0-9]{1,7})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_JSON = 1 << 20  # characters


class Stamp(NamedTuple):
    """The time of a header: no year, no zone.

    Attributes
    ----------
    micros
        Microseconds since midnight.
    """

    month: int
    day: int
    micros: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """A line of klog, taken apart. All text in it is untrusted.

    Attributes
    ----------
    severity
        `I`, `W`, `E` or `F`.
    stamp
        The header's time, of a classic or structured line.
    at
        The full time, of a JSON line that has one.
    thread
        The header's thread (in a container nearly always 1); None in JSON.
    file, line
        Where in the source the message was written: `cluster.go` and 155; empty and 0 if a JSON line does not say.
    message
        The text; of a structured line without its quotes and fields.
    fields
        The fields of a structured or JSON line. The fields that have a place of their own here are not repeated.
    """

    severity: str
    stamp: Stamp | None
    at: datetime | None
    thread: int | None
    file: str
    line: int
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def parse(line: bytes) -> Parsed | None:
    """Take one line without prefix apart; nothing if it is no line of klog.

    >>> parse(b'I0624 20:42:30.905398       1 binder.go:892] "All bound" pod="grafana/g-1"').fields
    {'pod': 'grafana/g-1'}
    """
    first = line[:1]
    if first == b"{":
        return parse_json(line)
    match = HEADER.match(line)
    if match is None:
        return None
    severity, month, day, hour, minute, second, micros, thread, file, number = match.groups()
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
    stamp = make_stamp(int(month), int(day), seconds * 1_000_000 + int(micros))
    if stamp is None:
        return None
    message = line[match.end() :].decode("utf-8", "replace")
    fields: Mapping[str, Any] = {}
    if message.startswith('"') and (parts := structured(message)) is not None:
        message, fields = parts
    return Parsed(
        severity.decode("ascii"),
        stamp,
        None,
        int(thread),
        file.decode("utf-8", "replace").rpartition("/")[2],
        int(number),
        message,
        fields,
    )


def make_stamp(month: int, day: int, micros: int) -> Stamp | None:
    """Make a stamp of a month, a day and the microseconds since midnight, or tell that no year has such a time."""
    if 1 <= month <= 12 and 1 <= day <= DAYS[month] and 0 <= micros < DAY:
        return Stamp(month, day, micros)
    return None


def parse_json(line: bytes) -> Parsed | None:
    """Take a JSON line apart; nothing if it is not JSON or has no message."""
    if len(line) > LONGEST_JSON:
        return None
    try:
        data = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    message = data.pop("msg", None)
    if not isinstance(message, str):
        return None
    at: datetime | None = None
    for key in ("ts", "time", "timestamp"):
        if key in data and (at := json_time(data[key])) is not None:
            del data[key]
            break
    file, number = "", 0
    caller = data.get("caller")
    if isinstance(caller, str) and (place := CALLER.fullmatch(caller)):
        del data["caller"]
        file, number = place[1].rpartition("/")[2], int(place[2])
    return Parsed(json_severity(data), None, at, None, file, number, message, data)


def json_severity(data: dict[str, Any]) -> str:
    """Tell the severity. klog's JSON has no level: information has a verbosity `v`, an error has `err` and no `v`."""
    level = data.get("level")
    if isinstance(level, str) and level.lower() in LEVELS:
        return LEVELS[data.pop("level").lower()]
    return "E" if "err" in data and "v" not in data else "I"


def json_time(value: object) -> datetime | None:
    """Read a JSON time: RFC 3339, or seconds, milli-, micro- or nanoseconds since 1970, told apart by their size."""
    if isinstance(value, str):
        return parse_rfc3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
        if not isfinite(seconds):
            return None
        # 1e11 seconds are the year 5138; 1e11 milliseconds are 1973.
        while seconds >= 1e11:
            seconds /= 1000
        return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    except OverflowError:  # beyond the years 1 to 9999
        return None
