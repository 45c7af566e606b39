"""An autoscaler's log as typed events, one a message: for questions that a `Digest` does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from leptonami.readers import klog
from leptonami.readers.autoscaler.catalogue import MESSAGES, Classifier, Kind
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.forms import Forms, whole_lines
from leptonami.readers.autoscaler.scan import MOST_TEXT, STAMP, text
from leptonami.readers.autoscaler.track import Seen
from leptonami.readers.gotime import parse_duration, parse_time

__all__ = ["Event", "events"]

MOST_REMEMBERED = 1 << 15  # different messages remembered at a time
VOLATILE = {each.kind for each in MESSAGES if each.volatile}  # never twice the same


class Event(NamedTuple):
    """One message of the autoscaler. What it does not name is empty or None.

    Attributes
    ----------
    line
        Its number in the input.
    at
        When it was written; None if the year has no such day. See `Digest.year_known`.
    severity
        `I`, `W`, `E` or `F`.
    kind
        What it is about; `OTHER` for what the catalogue does not hold.
    place
        `file:line` in the autoscaler's source.
    node, group, pod, resource
        What it names. `node` is a node of the cluster, or where a pod could go.
    value
        A utilization, as a fraction of what can be allocated (0.05 is 5 %).
    number
        A number of nodes or pods.
    duration
        For how long a node has been unneeded, or a time-out.
    since
        Since when a node has been unneeded, or until when a group is disabled.
    reason
        Why a node cannot be removed or a pod does not fit, or the plan, in the message's own words.
    """

    line: int
    at: datetime | None
    severity: str
    kind: Kind
    place: str
    node: str = ""
    group: str = ""
    pod: str = ""
    resource: str = ""
    value: float | None = None
    number: int | None = None
    duration: timedelta | None = None
    since: datetime | None = None
    reason: str = ""


def events(batches: Iterable[list[bytes]], digest: Digest, *, others: bool = False) -> Iterator[Event]:
    """Read a log that was read before, message by message.

    Parameters
    ----------
    batches
        The log's lines, the same as before.
    digest
        What the first pass found out: the year.
    others
        Also give the messages that the catalogue does not hold.

    Yields
    ------
    Event
        In the order of the log. Lines that are none of klog are left out: `Digest.unread` has counted them.
    """
    reader = Reader()
    number = 0
    for batch in whole_lines(batches):
        for line in batch:
            number += 1
            found = reader.read(line)
            if found is None or (found[1].kind is Kind.OTHER and not others):
                continue
            classic, said = found
            yield Event(number, digest.when(Seen(number, classic)), *said[2:])


class Reader:
    """Understands lines one by one; one that says what a line before has said is not understood again."""

    def __init__(self) -> None:
        self.classifier = Classifier()
        self.forms = Forms()
        self.memo: dict[bytes, Event] = {}

    def read(self, line: bytes) -> tuple[bytes, Event] | None:
        """Give a line in the classic form and its event, without number and time; nothing for what is no such line."""
        said = self.memo.get(line[STAMP:])
        if said is not None:
            return line, said
        header = klog.HEADER.match(line)
        if header is None:
            form = self.forms.classic(line)
            header = klog.HEADER.match(form.line) if form is not None else None
            if form is None or header is None:
                return None
            line = form.line
        said = self.understand(line, header)
        if said.kind not in VOLATILE:
            if len(self.memo) >= MOST_REMEMBERED:
                self.memo.clear()
            self.memo[line[STAMP:]] = said
        return line, said

    def understand(self, line: bytes, header: re.Match[bytes]) -> Event:
        """Make an event of a line with a header."""
        place = header[9] + b":" + header[10]
        message = line[header.end() : header.end() + MOST_TEXT]
        said = Event(0, None, header[1].decode("ascii"), Kind.OTHER, text(place))
        found = self.classifier.find(place, message)
        if found is None:
            return said._replace(reason=text(message))
        kind = found[0].kind
        fields = {name: text(value) for name, value in found[1].groupdict().items() if value is not None}
        since = fields.get("since")
        return said._replace(
            kind=kind,
            node=fields.get("node", ""),
            group=fields.get("group", ""),
            pod=fields.get("pod", ""),
            resource=fields.get("resource", ""),
            value=fraction(kind, fields.get("value"), message),
            number=number_of(fields.get("count")),
            duration=parse_duration(fields["duration"]) if "duration" in fields else None,
            since=parse_time(since.strip()) if since else None,
            reason=fields.get("reason", "") or fields.get("name", ""),
        )


def fraction(kind: Kind, value: str | None, message: bytes) -> float | None:
    """Read a utilization. To 1.28 it is a fraction, from 1.29 on a percentage."""
    if value is None or kind not in {Kind.UTILIZATION, Kind.TOO_BIG}:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number / 100 if b"% of allocatable" in message else number


def number_of(value: str | None) -> int | None:
    """Read a count."""
    return int(value) if value is not None and value.isdecimal() and len(value) < 10 else None
