"""A whole autoscaler log in one pass, for logs of many gigabytes.

Most lines of such a log say what a line before has said, with another time. So a message is understood once, remembered
by its bytes, and from then on costs one look-up; the few messages with a new number in each loop are cut at fixed
words. Memory is bounded by the number of nodes and of different messages, never by the length of the log.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo

from leptonami.readers import klog
from leptonami.readers.autoscaler.catalogue import Classifier, Kind, Message
from leptonami.readers.autoscaler.digest import MOST_PODS, Digest
from leptonami.readers.autoscaler.forms import Classic, Forms, whole_lines
from leptonami.readers.autoscaler.merge import GONE
from leptonami.readers.autoscaler.times import Times
from leptonami.readers.autoscaler.track import STATUS, Happening, Period, Phase, Seen, Status, Track

__all__ = ["BLOCK", "Scanner", "digest"]

BLOCK = 1 << 16  # bytes to read at a time: a block's lines stay in the processor's cache (measured: 1.5x over 1 MiB)
STAMP = 21  # `Lmmdd hh:mm:ss.uuuuuu`: from here on, lines with the same message are the same bytes
HEADER = 30  # where `file:line] ` begins, with the thread in its usual eight columns
MOST_HEADER = 300

MOST_MESSAGES = 1 << 14  # different messages remembered at a time: some 15 MB; a loop over 1,000 nodes has 10,000
MOST_NODES = 20_000  # nodes tracked; beyond that those that were removed are forgotten, the oldest first, and counted
MOST_HAPPENINGS = 2_000  # of each kind, the latest
MOST_FLAGS = 500
MOST_STATUSES = 1 << 14  # different reasons for being blocked told apart; they name pods
MOST_TEXT = 1 << 13  # bytes of a message that are looked at; the longest known ones list a node's pods
MOST_DIFFERENT = 32  # different texts of an unknown message from one place, after which they are only counted
MOST_PLACES = 4096  # places of unknown messages told apart

BY_REASON = {Kind.CANNOT_BE_REMOVED, Kind.NO_PLACE}
REMOVALS = {Kind.REMOVING, Kind.REMOVING_EMPTY}
KEPT = {
    Kind.SCALE_UP_PLAN,
    Kind.SCALE_UP_DONE,
    Kind.SCALE_UP_TIMED_OUT,
    Kind.BACKOFF,
    Kind.GROUP_NOT_READY,
    Kind.DELETE_FAILED,
    Kind.EVICTION_FAILED,
    Kind.TERMINATING,
    *REMOVALS,
}
# Messages that begin with a node. Others name one too: where a pod could go, which may be a node that is only planned.
ABOUT_NODE = {*BY_REASON, *STATUS, Kind.UTILIZATION, Kind.GPU_UNREADY}

Handler = Callable[[int, bytes], None]
# Takes a line's number, the line, and where its message begins.
Cut = Callable[[int, bytes, int], bool]


NOBODY = Track(b"")  # whom a message is about that is about no node


class Entry:
    """A message that was understood: what to do when its bytes come by again."""

    __slots__ = ("count", "handler", "kind", "line", "number", "pod", "status", "track")

    def __init__(self, kind: Kind, number: int, line: bytes) -> None:
        self.kind = kind
        self.number = number
        self.line = line
        self.count = 1
        self.track: Track = NOBODY
        self.status: Status | None = None
        self.handler: Handler | None = None
        self.pod = ""


class Scanner:
    """Feeds a `Digest` with lines.

    Parameters
    ----------
    digest
        What to feed.
    """

    def __init__(self, digest: Digest | None = None) -> None:
        self.digest = digest or Digest()
        self.classifier = Classifier()
        self.forms = Forms()
        self.memo: dict[bytes, Entry] = {}
        self.statuses: dict[str, Status] = {}
        # Places whose messages have a new number each time, and how to cut them.
        self.cuts: dict[bytes, Cut] = {}
        self.unknown: dict[bytes, set[bytes]] = {}

    # --- the hot loop -------------------------------------------------------------------------------------------------

    def feed(self, batch: Iterable[bytes]) -> None:
        """Take lines in, in their order.

        Counting a whole batch at once (`Counter`, `dict(zip(...))`) and going line by line only where something changes
        was tried: it is slower than this loop.
        """
        get = self.memo.get
        cut_at = self.cuts.get
        number = self.digest.lines
        for line in batch:
            number += 1
            entry = get(line[STAMP:])
            if entry is None:
                end = line.find(b"] ", HEADER, MOST_HEADER)
                cut = cut_at(line[HEADER:end])
                if cut is None or not cut(number, line, end + 2):
                    self.learn(number, line)
                continue
            entry.count += 1
            if entry.status is not None:
                track = entry.track
                if track.status is entry.status:
                    track.number = number
                    track.line = line
                else:
                    track.change(entry.status, number, line)
            elif entry.handler is not None:
                entry.handler(number, line)
            else:
                entry.number = number
                entry.line = line
        self.digest.lines = number

    def learn(self, number: int, line: bytes) -> None:
        """Understand a line whose bytes are new."""
        header = klog.HEADER.match(line)
        if header is None:
            self.strange(number, line)
        else:
            self.understand(number, line, header)

    def understand(self, number: int, line: bytes, header: re.Match[bytes]) -> None:
        """Find the message of a line with a header, remember what it means, and do it."""
        digest = self.digest
        seen = Seen(number, line)
        digest.last = seen
        if digest.first is None:
            digest.first = seen
        digest.times.note(seen)
        site = header[9] + b":" + header[10]
        found = self.classifier.find(site, line[header.end() : header.end() + MOST_TEXT])
        if found is None:
            self.other(number, line, site)
            return
        message, match = found
        digest.times.hear(seen)
        if message.site is not None:
            digest.sites.add(message.site, header[9].decode("utf-8", "replace").rpartition("/")[2], int(header[10]))
        if message.volatile:
            digest.counts[message.kind] += 1
            self.timer(message, match, seen)
            # Only where the header is as wide as it mostly is: the cut goes by columns.
            if header.start(9) == HEADER and len(self.cuts) < MOST_PLACES and message.kind in STATUS:
                self.cuts[site] = self.cut_of(message.kind)
            return
        entry = Entry(message.kind, number, line)
        self.prepare(entry, match)
        if len(self.memo) >= MOST_MESSAGES:
            self.fold()
        self.memo[line[STAMP:]] = entry
        if entry.status is not None:
            entry.track.say(entry.status, number, line)
        elif entry.handler is not None:
            entry.handler(number, line)

    # --- what a message means -----------------------------------------------------------------------------------------

    def prepare(self, entry: Entry, match: re.Match[bytes]) -> None:
        """Work out once what a message does each time it comes by."""
        kind = entry.kind
        fields = {name: text(value) for name, value in match.groupdict().items() if value is not None}
        entry.pod = fields.get("pod", "") if kind is Kind.UNSCHEDULABLE else ""
        if kind in KEPT:
            entry.handler = self.keeper(kind, fields)
        elif "node" in fields and kind in ABOUT_NODE:
            self.prepare_node(entry, self.track(match["node"]), fields)
        else:
            self.prepare_cluster(entry, fields)

    def prepare_node(self, entry: Entry, track: Track, fields: dict[str, str]) -> None:
        """Work out what a message about a node does."""
        kind = entry.kind
        entry.track = track
        if kind in BY_REASON:
            entry.status = self.blocked(kind, fields.get("reason", ""))
        elif kind is Kind.GPU_OVERRIDE:
            entry.handler = lambda number, line: self.override(track, number, line)
        elif kind is Kind.BEING_DELETED:
            entry.handler = lambda number, line: self.being_deleted(track, number, line)
        else:
            entry.status = STATUS.get(kind)

    def prepare_cluster(self, entry: Entry, fields: dict[str, str]) -> None:
        """Work out what a message about the cluster or the autoscaler does."""
        digest, kind = self.digest, entry.kind
        if kind is Kind.LOOP:
            entry.handler = self.loop
        elif kind is Kind.NOT_READY:
            entry.handler = lambda number, line: self.period(digest.not_ready, number, line)
        elif kind is Kind.SCALE_DOWN_STATUS and "scaleDownInCooldown=true" in fields.get("reason", ""):
            entry.handler = lambda number, line: self.period(digest.cooldown, number, line)
        elif kind is Kind.POD_DOES_NOT_FIT and "nvidia.com/gpu" in fields.get("reason", ""):
            digest.gpu_wanted = digest.gpu_wanted or Seen(entry.number, entry.line)
        elif kind is Kind.STARTED:
            digest.stated_version = fields.get("value", "").removeprefix("v")
        elif kind is Kind.FLAG and len(digest.flags) < MOST_FLAGS:
            digest.flags[fields.get("name", "")] = fields.get("value", "")

    def track(self, name: bytes) -> Track:
        """Give the track of a node, a new one for a new node."""
        tracks = self.digest.tracks
        found = tracks.get(name)
        if found is None:
            if len(tracks) >= MOST_NODES:
                self.forget()
            found = tracks[name] = Track(name)
        return found

    def forget(self) -> None:
        """Make room: forget the half of the nodes that were seen longest ago, those that are gone first."""
        self.fold()
        tracks = self.digest.tracks
        oldest = sorted(tracks.values(), key=lambda each: (not is_gone(each), each.number))
        for each in oldest[: len(oldest) // 2]:
            del tracks[each.name]
        self.digest.forgotten += len(oldest) // 2
        self.cuts.clear()

    def blocked(self, kind: Kind, reason: str) -> Status:
        """Give the status of a reason, always the same object for the same reason."""
        key = f"{kind}: {reason}"
        found = self.statuses.get(key)
        if found is None:
            if len(self.statuses) >= MOST_STATUSES:
                self.fold()
                self.statuses.clear()
            found = self.statuses[key] = Status(Phase.BLOCKED, key)
        return found

    # --- handlers -----------------------------------------------------------------------------------------------------

    def loop(self, number: int, line: bytes) -> None:
        """Note that a loop begins; it happens often enough to keep the calendar by."""
        digest = self.digest
        digest.loops += 1
        digest.last = Seen(number, line)
        digest.times.note(digest.last)

    def override(self, track: Track, number: int, line: bytes) -> None:
        """Note that a node's GPU is not ready; a stretch of such loops begins anew after one without."""
        seen = Seen(number, line)
        if track.override_loop < self.digest.loops - 1 or track.override_first is None:
            track.override_first = seen
            track.override_began = self.digest.loops
        track.override_loop = self.digest.loops
        track.override_last = seen
        if track.status is None or track.status.phase is Phase.GPU_NOT_READY:
            track.say(STATUS[Kind.GPU_OVERRIDE], number, line)

    def being_deleted(self, track: Track, number: int, line: bytes) -> None:
        """Note that a node is being deleted; that it was drained or is being removed says more."""
        if track.status is not None and track.status.phase in GONE:
            track.number, track.line = number, line
        else:
            track.deleting_first |= track.status is None
            track.change(STATUS[Kind.BEING_DELETED], number, line)

    def period(self, periods: deque[Period], number: int, line: bytes) -> None:
        """Note that something holds in this loop; loops in a row make one period."""
        seen = Seen(number, line)
        loop = self.digest.loops
        if periods and periods[-1].loop >= loop - 1:
            last = periods[-1]
            last.loops += last.loop < loop
            last.loop, last.last = loop, seen
        else:
            periods.append(Period(seen, seen, loop, loop))

    def keeper(self, kind: Kind, fields: dict[str, str]) -> Handler:
        """Make a handler that keeps every instance of a message."""
        happenings = self.digest.happenings.setdefault(kind, deque(maxlen=MOST_HAPPENINGS))
        name = fields.get("node")
        track = self.track(name.encode()) if name and kind in {*REMOVALS, Kind.DELETE_FAILED} else None

        def keep(number: int, line: bytes) -> None:
            seen = Seen(number, line)
            happenings.append(Happening(kind, seen, fields))
            if track is None:
                return
            if kind is Kind.DELETE_FAILED:
                track.failed = seen
            else:
                track.removals += 1
                track.removal, track.failed = seen, None
                track.say(STATUS[kind], number, line)

        return keep

    # --- messages with a new number in each loop ----------------------------------------------------------------------

    def timer(self, message: Message, match: re.Match[bytes], seen: Seen) -> None:
        """Note since when, or for how long, a node has been unneeded."""
        if message.kind is Kind.UNNEEDED_SINCE:
            track = self.track(match["node"])
            track.say(STATUS[message.kind], seen.number, seen.line)
            track.since, track.since_number, track.since_line = match["since"], seen.number, seen.line
        elif message.kind is Kind.WAS_UNNEEDED:
            track = self.track(match["node"])
            track.say(STATUS[message.kind], seen.number, seen.line)
            track.waited_number, track.waited_line = seen.number, seen.line

    def cut_of(self, kind: Kind) -> Cut:
        """Give the quick way to read a message; it says whether the line was such a one and changed nothing."""
        digest, tracks = self.digest, self.digest.tracks
        unneeded = STATUS[kind]
        counts = digest.counts
        words = b" is unneeded since " if kind is Kind.UNNEEDED_SINCE else b" was unneeded for "

        def cut(number: int, line: bytes, start: int) -> bool:
            middle = line.find(words, start)
            track = tracks.get(line[start:middle])
            # A node's first line of the kind, and a time that changed, are read with care.
            if middle < 0 or track is None or track.status is not unneeded:
                return False
            if kind is Kind.UNNEEDED_SINCE:
                since = track.since
                at = middle + 19
                if not since or line[at : at + len(since)] != since:
                    return False
                track.since_number = number
                track.since_line = line
            else:
                track.waited_number = number
                track.waited_line = line
            track.number = number
            track.line = line
            counts[kind] += 1
            return True

        return cut

    # --- what is not in the catalogue ---------------------------------------------------------------------------------

    def other(self, number: int, line: bytes, site: bytes) -> None:
        """Count a message that the catalogue does not hold, and remember it while its place has few different ones."""
        texts = self.unknown.get(site)
        if texts is None and len(self.unknown) < MOST_PLACES:
            texts = self.unknown[site] = set()
        if texts is not None and len(texts) < MOST_DIFFERENT and len(self.memo) < MOST_MESSAGES:
            key = line[STAMP:]
            texts.add(key)
            self.memo[key] = Entry(Kind.OTHER, number, line)
        else:
            self.digest.counts[Kind.OTHER] += 1

    def strange(self, number: int, line: bytes) -> None:
        """Read a line that does not begin with a header: a collector's prefix, JSON, or something else."""
        digest = self.digest
        form = self.forms.classic(line)
        if form is not None:
            if form.line:
                self.again(number, form)
            return
        if line.strip():
            digest.unread.add(number, line)

    def again(self, number: int, form: Classic) -> None:
        """Take in a line that was brought into the classic form."""
        line = form.line
        if form.at is not None:
            self.digest.times.tell(Seen(number, line), form.at)
        if line[STAMP:] in self.memo:
            self.digest.lines = number - 1
            self.feed((line,))
            return
        header = klog.HEADER.match(line)
        if header is None:
            self.digest.unread.add(number, line)
        else:
            self.understand(number, line, header)

    # --- the end ------------------------------------------------------------------------------------------------------

    def fold(self) -> None:
        """Bring what the remembered messages counted into the digest, and forget them."""
        digest = self.digest
        for entry in self.memo.values():
            digest.counts[entry.kind] += entry.count
            seen = Seen(entry.number, entry.line)
            if entry.kind in {Kind.UTILIZATION, Kind.GPU_UNREADY}:
                name = "judged" if entry.kind is Kind.UTILIZATION else "unready"
                old: Seen | None = getattr(entry.track, name)
                if old is None or old.number < seen.number:
                    setattr(entry.track, name, seen)
            elif entry.pod and (entry.pod in digest.pods or len(digest.pods) < MOST_PODS):
                _, count = digest.pods.get(entry.pod, (seen, 0))
                digest.pods[entry.pod] = (seen, count + entry.count)
        self.memo.clear()
        self.unknown.clear()

    def finish(self) -> Digest:
        """Give the digest, complete up to here; more lines may follow."""
        self.fold()
        for track in self.digest.tracks.values():
            track.finish()
        return self.digest


def digest(
    batches: Iterable[list[bytes]],
    *,
    source: str = "-",
    year: int | None = None,
    zone: tzinfo | None = None,
    reference: datetime | None = None,
) -> Digest:
    """Read a whole log.

    Parameters
    ----------
    batches
        Its lines (`lines.batches`), best in blocks of `BLOCK` bytes.
    source
        What it is called where proofs name it.
    year, zone
        Of its first line, if the caller knows; klog prints neither, but a message or a collector often tells.
    reference
        A time that no line is after, such as the file's time of modification.
    """
    scanner = Scanner(Digest(source=source, times=Times(year, zone, reference)))
    for batch in whole_lines(batches):
        scanner.feed(batch)
    return scanner.finish()


def is_gone(track: Track) -> bool:
    """Tell whether a node was removed, or its removal has begun."""
    return track.status is not None and track.status.phase in GONE


def text(value: bytes | None) -> str:
    """Decode a part of a message; what is no UTF-8 is shown as such."""
    return "" if value is None else value.decode("utf-8", "replace")
