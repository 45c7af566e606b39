"""The journal of a node: what happened while it booted, from whatever form of the journal somebody kept.

`entries` gives the journal line by line. `read` gives what it says about the boot: the operating system, the boots, the
marks (`journal_marks` has their table), the image pulls and the known issues, each with the line that proves it.
`verdicts.nodeboot` makes a judgement of that.

Two things to know of the times. journald starts some seconds after the kernel and gives all earlier messages the time
at which it took them over: in text forms the first marks are that much late (a JSON journal has the kernel's own clock,
and the marks say so). And a clock that is set while the node boots jumps; where the journal has the monotonic clock,
durations are to be taken from that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.journal_clock import finer, uptime
from leptonami.readers.journal_entries import JOURNALD_STARTS, Entry, Reader, entries
from leptonami.readers.journal_family import STRONGEST, family_of
from leptonami.readers.journal_marks import SEARCHED, Family, Name, program, rules_for
from leptonami.readers.journal_pulls import Pull, Pulls
from leptonami.readers.knownissues import Issue, Match, Search, catalogue
from leptonami.readers.years import From

__all__ = ["Boot", "Entry", "Journal", "Mark", "Reader", "entries", "read"]

MOST_OF_A_KIND = 20  # of one kind of trouble in one boot


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was reached, or went wrong.

    Attributes
    ----------
    name
        What.
    at, resolution, clock
        When, how fine that is in seconds, and whose time it is: see `Entry`, and `message` for a time that the program
        printed itself.
    monotonic
        Seconds since the kernel started, if they are known.
    boot
        In which boot.
    detail
        A version, a unit, a number: what the message is about.
    trouble
        Whether something went wrong.
    proof
        The line.
    line
        Its number.
    count
        How often the same was said in this boot; the other attributes are those of the first time.
    """

    name: Name
    at: datetime | None
    resolution: float
    clock: str
    monotonic: float | None
    boot: int
    detail: str
    trouble: bool
    proof: Proof
    line: int
    count: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "mark": str(self.name),
            "at": self.at.isoformat() if self.at else None,
            "resolution_seconds": self.resolution,
            "clock": self.clock,
            "seconds_since_kernel": self.monotonic,
            "boot": self.boot,
            "detail": self.detail,
            "trouble": self.trouble,
            "count": self.count,
            "proof": self.proof.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a journal.

    Attributes
    ----------
    number, boot_id
        Its number from 0, and journald's id if the journal has it.
    first, last
        The times of its first and last entry.
    first_line, last_line
        Their lines.
    entries
        How many it has.
    from_start
        Whether the journal has its beginning: the kernel's first message, or systemd's.
    up
        Seconds on the kernel's clock at its last entry, if the journal has that clock.
    """

    number: int
    boot_id: str
    first: datetime | None
    last: datetime | None
    first_line: int
    last_line: int
    entries: int
    from_start: bool
    up: float | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal says about its node.

    Attributes
    ----------
    source
        The file, as it was named.
    host
        The name that most entries have.
    family, family_proof
        The operating system, and the line that tells it; `Family.UNKNOWN` and None if none does.
    boots, marks, pulls, issues
        What was found, in the order of the journal.
    pulls_lost
        How many messages about pulls came after as many pulls as are kept.
    lines, entries
        How many lines there are, and how many entries they make.
    unread, unread_kept
        How many lines were no entry of any form, and the first of them.
    cut
        How many lines were too long and lost their end.
    forms
        How many entries each form has.
    year_known, zone_known
        How the year and the zone are known; None if the lines themselves say them.
    without_time
        How many entries have no time.
    """

    source: str
    host: str
    family: Family
    family_proof: Proof | None
    boots: tuple[Boot, ...]
    marks: tuple[Mark, ...]
    pulls: tuple[Pull, ...]
    pulls_lost: int
    issues: tuple[Match, ...]
    lines: int
    entries: int
    unread: int
    unread_kept: tuple[Proof, ...]
    cut: int
    forms: dict[str, int]
    year_known: From | None
    zone_known: From | None
    without_time: int

    def of_boot(self, number: int) -> tuple[Mark, ...]:
        """Give the marks of one boot."""
        return tuple(each for each in self.marks if each.boot == number)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "source": self.source,
            "host": self.host,
            "family": str(self.family),
            "family_proof": self.family_proof.as_dict() if self.family_proof else None,
            "boots": [
                {
                    "number": each.number,
                    "boot_id": each.boot_id,
                    "first": each.first.isoformat() if each.first else None,
                    "last": each.last.isoformat() if each.last else None,
                    "entries": each.entries,
                    "from_start": each.from_start,
                }
                for each in self.boots
            ],
            "marks": [each.as_dict() for each in self.marks],
            "pulls": [each.as_dict() for each in self.pulls],
            "pulls_lost": self.pulls_lost,
            "issues": [each.as_dict() for each in self.issues],
            "lines": self.lines,
            "entries": self.entries,
            "unread": self.unread,
            "unread_kept": [each.as_dict() for each in self.unread_kept],
            "cut": self.cut,
            "forms": self.forms,
            "year_known": self.year_known and str(self.year_known),
            "zone_known": self.zone_known and str(self.zone_known),
            "without_time": self.without_time,
        }


def read(
    blocks: Iterable[bytes],
    *,
    source: str = "-",
    year: int | None = None,
    zone: tzinfo | None = None,
    reference: datetime | None = None,
    issues: Sequence[Issue] | None = None,
) -> Journal:
    """Read what a journal says about its node, in one pass.

    Parameters
    ----------
    blocks, source, year, zone, reference
        See `entries`.
    issues
        Which known issues to look for; the package's catalogue if None.
    """
    chosen = catalogue() if issues is None else issues
    search = Search([each for each in chosen if each.looked_for_in("node-journal")], source)
    reader = Reader(source=source, year=year, zone=zone, reference=reference, search=search)
    digest = Digest(source)
    for entry in reader.entries(blocks):
        digest.see(entry)
    return digest.journal(reader, search)


@dataclass(slots=True)
class Span:
    """A boot while it is read."""

    first: datetime | None
    first_line: int
    last: datetime | None = None
    last_line: int = 0
    entries: int = 0
    up: float | None = None


class Digest:
    """Collects the marks, pulls and boots of entries."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.marks: dict[tuple[int, Name, str], Mark] = {}
        self.kinds: Counter[tuple[int, Name]] = Counter()
        self.pulls = Pulls()
        self.pulls_lost = 0
        self.spans: dict[int, Span] = {}
        self.family = Family.UNKNOWN
        self.family_rank = 0
        self.family_proof: Proof | None = None
        self.hosts: Counter[str] = Counter()
        self.entries = 0
        self.without_time = 0

    def see(self, entry: Entry) -> None:
        """Take the next entry."""
        self.entries += 1
        if entry.at is None:
            self.without_time += 1
        if len(self.hosts) < 100 or entry.host in self.hosts:
            self.hosts[entry.host] += 1
        name = program(entry.identifier)
        self.see_boot(entry)
        if self.family_rank < STRONGEST:
            self.see_family(name, entry)
        message = entry.message
        for rule in rules_for(name):
            if rule.needle in message and (found := rule.pattern.search(message, 0, SEARCHED)):
                detail = found.groupdict().get("detail") or ""
                self.mark(rule.name, entry, name, detail, trouble=rule.trouble)
        if name in {"containerd", "kubelet"} and ("PullImage" in message or "ulled image" in message):
            if self.pulls.full:
                self.pulls_lost += 1
                return
            at, _, _ = self.time_of(entry, name)
            self.pulls.see(name, message, at, entry.boot, lambda: self.proof(entry))

    def see_boot(self, entry: Entry) -> None:
        """Stretch the boot over an entry."""
        span = self.spans.get(entry.boot)
        if span is None:
            span = self.spans[entry.boot] = Span(entry.at, entry.line)
        span.entries += 1
        span.last_line = entry.line
        # After a crash this may be the next boot's first line, before its kernel's: it does not make a boot longer.
        if entry.at is not None and not entry.message.startswith(JOURNALD_STARTS):
            span.last = entry.at
            span.first = span.first or entry.at
        if entry.monotonic is not None:
            span.up = entry.monotonic

    def see_family(self, name: str, entry: Entry) -> None:
        """Look whether an entry tells the operating system."""
        family, rank = family_of(name, entry.identifier, entry.message)
        if rank > self.family_rank:
            self.family, self.family_rank, self.family_proof = family, rank, self.proof(entry)

    def mark(self, name: Name, entry: Entry, writer: str, detail: str, *, trouble: bool) -> None:
        """Note a mark: each once in a boot, and trouble once for each detail."""
        key = (entry.boot, name, detail if trouble else "")
        known = self.marks.get(key)
        if known is not None:
            self.marks[key] = replace(known, count=known.count + 1)
            return
        self.kinds[entry.boot, name] += 1
        if self.kinds[entry.boot, name] > MOST_OF_A_KIND:
            return
        at, resolution, clock = self.time_of(entry, writer)
        monotonic = entry.monotonic if entry.monotonic is not None else uptime(writer, entry.message)
        self.marks[key] = Mark(
            name, at, resolution, clock, monotonic, entry.boot, detail, trouble, self.proof(entry), entry.line
        )

    def time_of(self, entry: Entry, writer: str) -> tuple[datetime | None, float, str]:
        """Give the time of an entry, how fine it is and whose: the message's own if that is finer."""
        own = finer(writer, entry.message, entry.at, entry.resolution)
        return (own[0], own[1], "message") if own else (entry.at, entry.resolution, entry.clock)

    def proof(self, entry: Entry) -> Proof:
        """Give the line of an entry as a proof."""
        who = f"{entry.identifier}: " if entry.identifier else ""
        return Proof.of(self.source, f"line {entry.line}", who + entry.message[:1_000])

    def journal(self, reader: Reader, search: Search) -> Journal:
        """Give the result."""
        starts = {each.boot for each in self.marks.values() if each.name in {Name.KERNEL_START, Name.SYSTEMD_START}}
        boots = tuple(
            Boot(
                number=number,
                boot_id=reader.boots[number].boot_id,
                first=span.first,
                last=span.last,
                first_line=span.first_line,
                last_line=span.last_line,
                entries=span.entries,
                from_start=number in starts,
                up=span.up,
            )
            for number, span in sorted(self.spans.items())
        )
        bare = "syslog" in reader.forms  # only such lines lack the year
        return Journal(
            source=self.source,
            host=self.hosts.most_common(1)[0][0] if self.hosts else "",
            family=self.family,
            family_proof=self.family_proof,
            boots=boots,
            marks=tuple(sorted(self.marks.values(), key=lambda each: (each.boot, each.line))),
            pulls=self.pulls.all(),
            pulls_lost=self.pulls_lost,
            issues=tuple(search.found({})),
            lines=reader.lines.lines,
            entries=self.entries,
            unread=reader.unread,
            unread_kept=tuple(reader.unread_kept),
            cut=reader.lines.cut,
            forms=dict(sorted(reader.forms.items())),
            year_known=reader.calendar.known if bare else None,
            zone_known=reader.calendar.zone_known if bare else None,
            without_time=self.without_time,
        )
