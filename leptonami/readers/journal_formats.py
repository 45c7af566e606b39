r"""One line of a node's journal, in any of the forms in which people keep it.

| form | from | time |
|---|---|---|
| `Jun 24 20:42:30 host systemd[1]: …` | `journalctl`, `-o short`, /var/log/messages | no year, no zone, 1 s |
| `Jun 24 20:42:30.123456 host …` | `-o short-precise` | no year, no zone, 1 µs |
| `2023-06-24T20:42:30+0000 host …` | `-o short-iso`, rsyslog's own format | complete; 1 s or finer |
| `Sat 2023-06-24 20:42:30 UTC host …` | `-o short-full` | complete for UTC; other zones have only a name |
| `[   12.345678] host systemd[1]: …` | `-o short-monotonic` | seconds since the kernel started |
| `{"MESSAGE": "…", …}` | `-o json`, `-o json-seq` | microseconds, both clocks |

The forms are those of journalctl(1) and systemd.journal-fields(7). Lines such as `-- Boot 0123… --` and
`-- Logs begin at … --` are notes of journalctl's own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from leptonami.readers.gotime import parse_rfc3339
from leptonami.readers.klogline import DAYS, Stamp

__all__ = ["Note", "Record", "decode"]

LONGEST_MESSAGE = 1 << 16  # characters of a message that are kept
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}

SYSLOG = re.compile(r"([A-Z][a-z]{2}) {1,2}([0-9]{1,2}) ([0-2][0-9]):([0-5][0-9]):([0-6][0-9])(?:\.([0-9]{1,6}))? ")
ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,]([0-9]{1,9}))?(?:Z|[-+][0-9]{2}:?[0-9]{2})) "
)
FULL = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([0-9]{4})-([0-9]{2})-([0-9]{2}) "
    r"([0-2][0-9]):([0-5][0-9]):([0-6][0-9])(?:\.([0-9]{1,6}))? ([A-Z][A-Za-z]{1,5}|[-+][0-9]{2,4}) "
)
MONOTONIC = re.compile(r"\[ {0,9}([0-9]{1,9})\.([0-9]{6})\] ")
# Host, identifier, process: `ip-1 kubelet[3456]: `, `ip-1 kernel: `, `ip-1 (nodeadm)[1748]: `.
WRITER = re.compile(r"(\S{1,255}) (?:([^\s:\[\]]{1,128})(?:\[([0-9]{1,10})\])?: ?)?")
# rsyslog and dmesg leave the kernel's clock in the text.
KERNEL_CLOCK = re.compile(r"\[ {0,9}([0-9]{1,9})\.([0-9]{6})\] ")
BOOT = re.compile(r"-- Boot ([0-9a-f]{32}) --")
SECONDS_IN_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Note:
    """A line of journalctl's own.

    Attributes
    ----------
    kind
        `boot` (a new boot begins here) or `other`.
    boot_id
        The boot's id, if the line has it.
    """

    kind: str
    boot_id: str = ""


@dataclass(slots=True)
class Record:
    """A line that was taken apart. Its time may still lack the year, which `years.Calendar` finds.

    Attributes
    ----------
    line
        Its number, from 1.
    form
        `syslog`, `iso`, `full`, `monotonic` or `json`.
    at
        The full time, where the line has it.
    stamp, turn
        Month, day and microseconds where it has only these, and what the calendar said of them.
    resolution
        How fine the time is, in seconds.
    monotonic
        Seconds since the kernel started.
    clock
        Whose time it is: `journald` (when it received the message), `syslog`, or `kernel` (when the kernel wrote it).
    """

    line: int
    form: str
    at: datetime | None = None
    stamp: Stamp | None = None
    turn: int = 0
    resolution: float = 1.0
    monotonic: float | None = None
    clock: str = "syslog"
    boot_id: str = ""
    host: str = ""
    identifier: str = ""
    pid: int | None = None
    unit: str = ""
    priority: int | None = None
    message: str = ""
    more: list[str] = field(default_factory=list)


def decode(line: str, number: int, zone: tzinfo | None) -> Record | Note | None:  # noqa: PLR0911 - a form each
    """Take a line apart; None if it has none of the forms.

    Parameters
    ----------
    line, number
        The line, without its end, and its number.
    zone
        What a zone's name means in this journal, if it is not UTC. Without it such a line has no time.
    """
    first = line[:1]
    if first in {"{", "\x1e"}:
        return decode_json(line.lstrip("\x1e"), number)
    if first == "-" and line.startswith("-- "):
        return note(line)
    found = SYSLOG.match(line)
    if found:
        stamp = stamp_of(found)
        if stamp is None:
            return None
        fraction = found[6]
        record = Record(number, "syslog", stamp=stamp, resolution=resolution_of(fraction))
        record.clock = "journald" if fraction else "syslog"
        return writer(record, line, found.end())
    found = ISO.match(line)
    if found:
        at = parse_rfc3339(found[1])
        if at is None:
            return None
        return writer(Record(number, "iso", at=at, resolution=resolution_of(found[2])), line, found.end())
    found = FULL.match(line)
    if found:
        record = Record(number, "full", at=full_time(found, zone), resolution=resolution_of(found[7]), clock="journald")
        return writer(record, line, found.end())
    found = MONOTONIC.match(line)
    if found:
        since = int(found[1]) + int(found[2]) / 1e6
        record = Record(number, "monotonic", monotonic=since, resolution=1e-6, clock="journald")
        return writer(record, line, found.end(), strict=True)
    return None


def note(line: str) -> Note | None:
    """Read a line of journalctl's own."""
    found = BOOT.match(line)
    if found:
        return Note("boot", found[1])
    if line.startswith("-- Reboot --"):
        return Note("boot")
    return Note("other") if line.rstrip().endswith("--") else None


def writer(record: Record, line: str, at: int, *, strict: bool = False) -> Record | None:
    """Read who wrote a line, and what."""
    found = WRITER.match(line, at)
    if found is None or (strict and found[2] is None):
        return None
    record.host = found[1]
    record.identifier = found[2] or ""
    record.pid = int(found[3]) if found[3] else None
    set_message(record, line[found.end() : found.end() + LONGEST_MESSAGE])
    return record


def set_message(record: Record, message: str) -> None:
    """Keep a message; of the kernel, without the clock that some writers leave in front of it."""
    if record.identifier == "kernel" and (found := KERNEL_CLOCK.match(message)):
        record.monotonic = int(found[1]) + int(found[2]) / 1e6
        message = message[found.end() :]
    record.message = message


def stamp_of(found: re.Match[str]) -> Stamp | None:
    """Give the month, day and microseconds of a syslog time; None if there is no such day."""
    month, day = MONTHS.get(found[1], 0), int(found[2])
    if not month or not 1 <= day <= DAYS[month]:
        return None
    seconds = int(found[3]) * 3600 + int(found[4]) * 60 + min(int(found[5]), 59)
    if seconds >= SECONDS_IN_DAY:
        return None
    return Stamp(month, day, seconds * 1_000_000 + int((found[6] or "").ljust(6, "0")))


def resolution_of(fraction: str | None) -> float:
    """Say how fine a time with such a fraction is, in seconds; Python's times end at a microsecond."""
    return 10.0 ** -min(len(fraction), 6) if fraction else 1.0


def full_time(found: re.Match[str], zone: tzinfo | None) -> datetime | None:
    """Give the time of a `short-full` line; None if its zone is only a name, or there is no such time."""
    name = found[8]
    if name in {"UTC", "GMT"}:
        zone = UTC
    elif name[0] in "+-":
        return parse_rfc3339(
            f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:{found[5]}:{found[6]}{('.' + found[7]) if found[7] else ''}"
            f"{name if len(name) == 5 else name[:3] + '00'}"
        )
    if zone is None:
        return None
    micros = int((found[7] or "").ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = (int(found[index]) for index in range(1, 7))
        return datetime(year, month, day, hour, minute, min(second, 59), micros, zone)
    except (ValueError, OverflowError):
        return None


def decode_json(line: str, number: int) -> Record | None:
    """Read an entry of `journalctl -o json`; None if it is none."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not ("MESSAGE" in data or "__REALTIME_TIMESTAMP" in data):
        return None
    record = Record(number, "json", resolution=1e-6, clock="journald")
    record.host = text_of(data, "_HOSTNAME")
    record.unit = text_of(data, "_SYSTEMD_UNIT")
    record.identifier = text_of(data, "SYSLOG_IDENTIFIER") or text_of(data, "_COMM")
    record.boot_id = text_of(data, "_BOOT_ID")
    record.pid = int_of(data, "_PID")
    if record.pid is None:
        record.pid = int_of(data, "SYSLOG_PID")
    record.priority = int_of(data, "PRIORITY")
    set_message(record, text_of(data, "MESSAGE", LONGEST_MESSAGE))
    received = int_of(data, "__MONOTONIC_TIMESTAMP")
    written = int_of(data, "_SOURCE_MONOTONIC_TIMESTAMP")
    realtime = int_of(data, "__REALTIME_TIMESTAMP")
    # journald starts seconds after the kernel, and gives all it finds the time at which it found it. The kernel says
    # when it wrote each message.
    late = received - written if received is not None and written is not None and received >= written else 0
    if written is not None:
        record.clock = "kernel"
        record.monotonic = written / 1e6
    elif received is not None:
        record.monotonic = received / 1e6
    if realtime is not None:
        try:
            record.at = EPOCH + timedelta(microseconds=realtime - late)
        except OverflowError:
            record.at = None
    return record


def text_of(data: dict[str, Any], name: str, limit: int = 256) -> str:
    """Give a field as text: what is no UTF-8 is a list of bytes, and a repeated field a list of texts."""
    value = data.get(name)
    if isinstance(value, list):
        if all(isinstance(each, int) and 0 <= each <= 255 for each in value[:limit]):
            return bytes(value[:limit]).decode("utf-8", "replace")
        value = next((each for each in value if isinstance(each, str)), "")
    if not isinstance(value, str):
        return ""
    value = value[:limit]
    # JSON may hold halves of surrogate pairs, which no file and no terminal takes.
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def int_of(data: dict[str, Any], name: str) -> int | None:
    """Give a field as a number: journald writes all of them as text."""
    value = data.get(name)
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None
