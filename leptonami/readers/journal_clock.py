"""The times that programs print in their own messages, which are finer than the journal's or say the year.

A line of /var/log/messages says `Jun 24 20:42:30`: no year, no zone, and a whole second. But containerd, nodeadm, the
kubelet and cloud-init print a time of their own, most of them to the microsecond and with the year. So the year of the
whole journal is known from the first of them, and a mark that rests on such a message is as fine as in a JSON journal.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from leptonami.readers.gotime import parse_rfc3339

__all__ = ["finer", "own_time", "uptime"]

# The message is written at once; a wall clock that is further away belongs to something else.
NEAR = timedelta(seconds=5)
QUARTER = timedelta(minutes=15)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CONTAINERD = re.compile(r'time="([0-9T:.+Z-]{20,40})"')
NODEADM = re.compile(r'"ts":([0-9]{10})(?:\.([0-9]{1,9}))?[,}]')
CLOUD_INIT = re.compile(
    r"(?:running '[a-z:-]{1,20}'|finished) at ([A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [-+][0-9]{4})"
)
BOOTSTRAP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[-+][0-9]{4}) \[eks-bootstrap\]")
KLOG = re.compile(r"[IWEF][0-9]{4} ([0-2][0-9]):([0-5][0-9]):([0-5][0-9])\.([0-9]{6}) ")
UP = re.compile(r"\bUp ([0-9]{1,7}(?:\.[0-9]{1,3})?) seconds")


def own_time(program: str, message: str) -> tuple[datetime, float] | None:
    """Give the full time in a message of a program that prints one, and how fine it is in seconds."""
    reader = {"containerd": containerd_time, "nodeadm": nodeadm_time, "cloud-init": cloud_init_time}.get(program)
    return reader(message) if reader else None


def containerd_time(message: str) -> tuple[datetime, float] | None:
    """Read `time="2023-06-24T20:42:30.904516789Z" level=…`."""
    found = CONTAINERD.match(message)
    at = parse_rfc3339(found[1]) if found else None
    return (at, 1e-6 if found and "." in found[1] else 1.0) if at else None


def nodeadm_time(message: str) -> tuple[datetime, float] | None:
    """Read `{"level":"info","ts":1716971262.7808166,…`."""
    found = NODEADM.search(message, 0, 200)
    if found is None:
        return None
    micros = int((found[2] or "")[:6].ljust(6, "0"))
    return EPOCH + timedelta(seconds=int(found[1]), microseconds=micros), 1e-6 if found[2] else 1.0


def cloud_init_time(message: str) -> tuple[datetime, float] | None:
    """Read `… running 'init' at Sat, 24 Jun 2023 20:42:30 +0000. Up 8.10 seconds.`, and bootstrap.sh's lines."""
    found = CLOUD_INIT.search(message, 0, 300)
    if found is None:
        found = BOOTSTRAP.search(message, 0, 200)
        at = parse_rfc3339(found[1]) if found else None
        return (at, 1.0) if at else None
    try:
        at = parsedate_to_datetime(found[1])
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC), 1.0


def finer(program: str, message: str, at: datetime | None, resolution: float) -> tuple[datetime, float] | None:
    """Give the time of a message by its own words, if that is finer than the journal's time and near it.

    Parameters
    ----------
    program, message
        Who wrote what.
    at, resolution
        The journal's time, and how fine it is.
    """
    own = own_time(program, message)
    if own is not None:
        if at is None:
            return own
        return own if own[1] < resolution and abs(own[0] - at) <= NEAR else None
    if program == "kubelet" and at is not None and resolution > 1e-6 and (found := KLOG.match(message)):
        hour, minute, second, micros = (int(each) for each in found.groups())
        # The kubelet prints the wall clock of some zone; zones are a quarter of an hour apart.
        wall = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micros)
        ours = timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
        off = (wall - ours + QUARTER / 2) % QUARTER - QUARTER / 2
        if abs(off) <= NEAR:
            try:
                return at + off, 1e-6
            except OverflowError:
                return None
    return None


def uptime(program: str, message: str) -> float | None:
    """Give the seconds since the kernel started that cloud-init prints with each of its stages."""
    found = UP.search(message, 0, 400) if program == "cloud-init" else None
    return float(found[1]) if found else None
