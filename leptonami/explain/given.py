"""What goes in and comes out of an explanation besides the evidence: the year, the zone, timers; times as text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from leptonami.errors import InputError
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.gotime import parse_duration
from leptonami.readers.objects import Objects
from leptonami.readers.years import PLACEHOLDER
from leptonami.verdicts.flags import Flags, find_flags

__all__ = ["Given", "parse_length", "parse_zone", "written"]


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller knows and the evidence may not tell.

    Parameters
    ----------
    year, zone
        Of the log's first line.
    unneeded, unready, after_add
        The autoscaler's timers: `--scale-down-unneeded-time`, `--scale-down-unready-time`,
        `--scale-down-delay-after-add`.
    now
        When the objects were taken; None takes the latest time in them.
    """

    year: int | None = None
    zone: tzinfo | None = None
    unneeded: timedelta | None = None
    unready: timedelta | None = None
    after_add: timedelta | None = None
    now: datetime | None = None

    def flags(self, log: Digest | None, objects: Objects) -> Flags | None:
        """Put the autoscaler's options together; None if nothing is known of them."""
        timers = {"unneeded_time": self.unneeded, "unready_time": self.unready, "delay_after_add": self.after_add}
        given = {name: value for name, value in timers.items() if value is not None}
        pod = find_flags(objects)
        if log is not None and log.flags:
            flags = Flags.of_arguments(log.flags, version_of(log))
        elif pod is not None:
            flags = pod[0]
        elif given:
            flags = Flags(version=version_of(log) if log is not None else None)
        else:
            return None
        return replace(flags, **given)  # type: ignore[arg-type] # fields of the right kinds, by name


def version_of(log: Digest) -> str | None:
    """Give the version that wrote a log, as far as rules depend on it; None if that may be several minors."""
    version = log.version
    if version.stated:
        return version.stated
    return version.releases[-1] if version.minor and version.releases else None


def parse_length(text: str, option: str) -> timedelta:
    """Read a duration as the autoscaler's own options take it.

    Raises
    ------
    InputError
        If it is none.
    """
    found = parse_duration(text)
    if found is None or found < timedelta(0):
        raise InputError(
            f"not a duration: {text!r}", resource=option, hint="as the autoscaler takes it: 10m, 1h30m, 90s"
        )
    return found


def parse_zone(text: str) -> tzinfo:
    """Read a zone: `UTC`, `+02:00`, `Europe/Berlin`.

    Raises
    ------
    InputError
        If it is none.
    """
    word = text.strip()
    digits = word[1:].replace(":", "")
    if word[:1] in {"+", "-"} and len(digits) == 4 and digits.isdecimal() and int(digits[:2]) < 24:
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        return timezone(-offset if word[0] == "-" else offset)
    try:
        return ZoneInfo(word)
    except Exception as error:  # ZoneInfoNotFoundError, ValueError, IsADirectoryError and others, by the name
        raise InputError(
            f"not a time zone: {text!r}", resource="--zone", hint="UTC, +02:00, or a name such as Europe/Berlin"
        ) from error


def written(value: Any) -> Any:
    """Write times as text, in ISO 8601 with a T; without the year where it is not known."""
    if isinstance(value, dict):
        return {key: written(each) for key, each in value.items()}
    if isinstance(value, list):
        return [written(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat() if value.year != PLACEHOLDER else f"--{value:%m-%dT%H:%M:%S.%f}"
    return value
