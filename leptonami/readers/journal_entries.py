"""The entries of a node's journal, in the order of the file: line by line, with full times and numbered boots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo

from leptonami.proof import Proof
from leptonami.readers.journal_clock import own_time
from leptonami.readers.journal_formats import LONGEST_MESSAGE, Note, Record, decode
from leptonami.readers.journal_marks import program
from leptonami.readers.knownissues import Search
from leptonami.readers.lines import Lines, batches
from leptonami.readers.years import Calendar

__all__ = ["JOURNALD_STARTS", "Entry", "Reader", "entries"]

AHEAD = 5_000  # entries that are read before the first is given, to find the year and the zone
AHEAD_SIZE = 8 << 20  # characters of their messages
KEPT_UNREAD = 20
MOST_BOOTS = 200
SETTLED = 20  # entries after which a new kernel can only be a new boot: rsyslog may write a few before the kernel's
# systemd's last words, and journald's first. rsyslog writes journald's before the kernel's.
SHUTDOWN = ("Reached target Shutdown", "Reached target shutdown.target", "Shutting down.", "Rebooting.")
JOURNALD_STARTS = ("Runtime journal ", "Runtime Journal ", "Journal started")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a journal.

    Attributes
    ----------
    line
        The line of the file on which it begins.
    at
        When; aware. None if the journal does not say it. If the year is not known it is `years.PLACEHOLDER`.
    resolution
        How fine the time is, in seconds.
    clock
        Whose time it is: `journald` and `syslog` note when a message reached them, `kernel` when it was written.
    boot
        The number of the boot in this journal, from 0.
    host, identifier, pid, unit, priority
        Who wrote it, as far as the form says it. The unit is only in JSON.
    message
        What it says. Untrusted, and maybe of several lines.
    monotonic
        Seconds since the kernel started, if the journal has them.
    """

    line: int
    at: datetime | None
    resolution: float
    clock: str
    boot: int
    host: str
    identifier: str
    pid: int | None
    unit: str
    priority: int | None
    message: str
    monotonic: float | None = None


@dataclass(slots=True)
class Stretch:
    """A boot while it is read."""

    number: int
    boot_id: str = ""
    entries: int = 0
    kernel: bool = False
    from_start: bool = False
    ended: bool = False


class Reader:
    """Reads the entries of one journal, and counts what is no entry.

    Parameters
    ----------
    source
        The file's name, for proofs.
    year, zone, reference
        What the caller knows about a journal whose lines do not say it: see `years.Calendar`.
    search
        Known issues to look for on the way.
    """

    def __init__(
        self,
        *,
        source: str = "-",
        year: int | None = None,
        zone: tzinfo | None = None,
        reference: datetime | None = None,
        search: Search | None = None,
    ) -> None:
        self.source = source
        self.zone = zone
        self.search = search
        self.calendar = Calendar(year=year, zone=zone, reference=reference)
        self.lines = Lines()
        self.unread = 0
        self.unread_kept: list[Proof] = []
        self.boots = [Stretch(0)]
        self.ids: dict[str, int] = {}
        self.forms: Counter[str] = Counter()

    def entries(self, blocks: Iterable[bytes]) -> Iterator[Entry]:
        """Give the entries. The first comes when the year is known, or after `AHEAD` of them."""
        held: list[tuple[Record, int]] = []
        size = 0
        settled = False
        for record, boot in self.placed(blocks):
            if settled:
                yield self.entry(record, boot)
                continue
            held.append((record, boot))
            size += len(record.message)
            if len(held) >= AHEAD or size >= AHEAD_SIZE:
                settled = True
                self.calendar.settle()
                yield from (self.entry(*each) for each in held)
                held.clear()
        self.calendar.settle()
        yield from (self.entry(*each) for each in held)

    def entry(self, record: Record, boot: int) -> Entry:
        """Make an entry of a record, with its full time."""
        at = record.at
        if at is None and record.stamp is not None:
            at = self.calendar.resolve(record.stamp, record.turn)
        return Entry(
            record.line,
            at,
            record.resolution,
            record.clock,
            boot,
            record.host,
            record.identifier,
            record.pid,
            record.unit,
            record.priority,
            record.message,
            record.monotonic,
        )

    def placed(self, blocks: Iterable[bytes]) -> Iterator[tuple[Record, int]]:
        """Give the records, each with the number of its boot, and feed the calendar."""
        for record in self.records(blocks):
            if record.more:
                record.message = "\n".join((record.message, *record.more))[:LONGEST_MESSAGE]
                record.more = []
            self.forms[record.form] += 1
            if record.stamp is not None:
                record.turn = self.calendar.feed(record.stamp)
                if self.calendar.curious and (own := own_time(program(record.identifier), record.message)):
                    self.calendar.hint(own[0], record.stamp, record.turn)
            yield record, self.boot_of(record)

    def records(self, blocks: Iterable[bytes]) -> Iterator[Record]:
        """Take the lines apart. A line that begins with white space goes on with the message before it."""
        last: Record | None = None
        number = 0
        for batch in batches(blocks, lines=self.lines):
            text = b"\n".join(batch).decode("utf-8", "replace")
            if self.search is not None:
                self.search.feed(text + "\n")
            for line in text.split("\n"):
                number += 1
                found = decode(line, number, self.zone)
                if isinstance(found, Record):
                    if last is not None:
                        yield last
                    last = found
                elif isinstance(found, Note):
                    if last is not None:
                        yield last
                        last = None
                    self.note(found)
                elif last is not None and last.form != "json" and line[:1] in {" ", "\t"}:
                    if len(last.more) < 1_000:
                        last.more.append(line.strip()[:4_000])
                elif line.strip():
                    self.unread += 1
                    if len(self.unread_kept) < KEPT_UNREAD:
                        self.unread_kept.append(Proof.of(self.source, f"line {number}", line))
        if last is not None:
            yield last

    def note(self, note: Note) -> None:
        """Take a line of journalctl's own: a new boot may begin."""
        if note.kind == "boot":
            if self.boots[-1].entries:
                self.begin(note.boot_id)
            else:
                self.boots[-1].boot_id = note.boot_id

    def begin(self, boot_id: str = "") -> Stretch:
        """Begin a new boot, unless there are too many."""
        if len(self.boots) < MOST_BOOTS:
            self.boots.append(Stretch(len(self.boots), boot_id))
        return self.boots[-1]

    def boot_of(self, record: Record) -> int:
        """Tell to which boot a record belongs."""
        boot = self.boots[-1]
        if record.boot_id:
            known = self.ids.get(record.boot_id)
            if known is None:
                if boot.entries:
                    boot = self.begin(record.boot_id)
                boot.boot_id = record.boot_id
                known = self.ids[record.boot_id] = boot.number
            boot = self.boots[known]
        elif record.identifier == "kernel" and record.message.startswith("Linux version "):
            if boot.kernel or boot.ended or boot.entries >= SETTLED:
                boot = self.begin()
            boot.kernel = True
        elif boot.ended and record.message.startswith(JOURNALD_STARTS):
            boot = self.begin()
        elif record.identifier.startswith("systemd") and record.message.startswith(SHUTDOWN):
            boot.ended = True
        boot.entries += 1
        return boot.number


def entries(
    blocks: Iterable[bytes],
    *,
    source: str = "-",
    year: int | None = None,
    zone: tzinfo | None = None,
    reference: datetime | None = None,
) -> Iterator[Entry]:
    """Give the entries of a journal of any form; the forms may be mixed.

    Parameters
    ----------
    blocks
        The bytes, in blocks of any size. Whatever they are, this ends, and takes time linear in them.
    source
        The file's name.
    year, zone, reference
        For journals whose lines have no year or zone: the year of the first line, the zone of all lines, or a time
        that no line is after (the file's modification). Without them the times that cloud-init, containerd and
        nodeadm print in their messages are used, and UTC.
    """
    return Reader(source=source, year=year, zone=zone, reference=reference).entries(blocks)
