"""Writes a log's lines, counts them, and remembers what was said last about each node."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from logbench.node import THREAD, Decision
from logbench.templates import Sites

__all__ = ["REACH", "Page", "Writer", "go_duration", "go_time"]

GAP = (4, 5, 6, 8, 9, 10, 11, 14, 17, 26, 38)  # microseconds between lines, as in the recordings
REACH = max(GAP)
GAPS = 1 << 16
STATUS = "kube-system/cluster-autoscaler-status"
STATUS_UID = "28531e43-9237-4ae1-b820-a820456ac841"


def go_duration(nanoseconds: int) -> str:
    """Write a duration as Go does: `3m45.769776521s`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{second}{fraction}s"
    if minutes:
        text = f"{minute}m{text}"
    return f"{hours}h{text}" if hours else text


def go_time(when: datetime, nanoseconds: int) -> str:
    """Write a time as Go does, with its monotonic clock."""
    sign = "-" if nanoseconds < 0 else "+"
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{when:%Y-%m-%d %H:%M:%S.%f}{abs(nanoseconds) % 1000:03d} +0000 UTC m={sign}{seconds}.{rest:09d}"


@dataclass(slots=True)
class Page:
    """Lines that are written at about the same time.

    Parameters
    ----------
    tails
        The lines without their time.
    decided
        Which of them say what was decided about a node.
    severity
        Of all of them.
    """

    tails: list[str] = field(default_factory=list)
    decided: list[tuple[int, Decision]] = field(default_factory=list)
    severity: str = "I"

    def decide(self, decision: Decision, tail: str) -> None:
        """Add a line that says what was decided about a node."""
        self.decided.append((len(self.tails), decision))
        self.tails.append(tail)


class Writer:
    """Makes lines of text.

    Attributes
    ----------
    counts, severities, lines, bytes
        What has been written.
    decisions
        Node -> the last decision about it, and the line that says so.
    """

    def __init__(self, dice: random.Random, sites: Sites) -> None:
        self.dice = dice
        self.sites = sites
        self.gaps = [dice.choice(GAP) for _ in range(GAPS)]
        self.counts: Counter[str] = Counter()
        self.severities: Counter[str] = Counter()
        self.decisions: dict[str, tuple[Decision, str]] = {}
        self.lines = self.bytes = 0

    def tail(self, site: str, text: str, kind: str) -> str:
        """Give a line without its time, and count it."""
        self.counts[kind] += 1
        return f" {THREAD} {self.sites[site].partition(' ')[2]}] {text}\n"

    def say(self, page: Page, site: str, text: str, kind: str = "other") -> None:
        """Add a line that decides nothing about a node."""
        page.tails.append(self.tail(site, text, kind))

    def event(self, page: Page, kind: str, reason: str, text: str, *, name: str = STATUS, version: int) -> None:
        """Add the line about an event."""
        namespace, _, short = name.rpartition("/")
        uid = STATUS_UID if name == STATUS else f"{self.dice.getrandbits(32):08x}-c947-49c6-96ed-da30a2acec70"
        reference = (
            f'Kind:"{kind}", Namespace:"{namespace}", Name:"{short}", UID:"{uid}", APIVersion:"v1", '
            f'ResourceVersion:"{version}", FieldPath:""'
        )
        text = f"Event(v1.ObjectReference{{{reference}}}): type: 'Normal' reason: '{reason}' {text}"
        self.say(page, "event", text, "event")

    def write(self, when: datetime, page: Page) -> bytes:
        """Put a time before each line of a page, some microseconds after the one before."""
        count = len(page.tails)
        if when.microsecond + REACH * count > 999_999:
            when = when.replace(microsecond=999_999 - REACH * count)
        head = f"{page.severity}{when:%m%d %H:%M:%S}."
        at = self.dice.randrange(GAPS - count)
        times = itertools.accumulate(self.gaps[at : at + count], initial=when.microsecond)
        out = [f"{head}{time:06d}{tail}" for time, tail in zip(times, page.tails, strict=False)]
        for index, decision in page.decided:
            self.decisions[decision[0]] = (decision, out[index])
        self.lines += count
        self.severities[page.severity] += count
        text = "".join(out).encode()
        self.bytes += len(text)
        return text
