"""What the timeline shows, as values: the nodes' spans, nodes with the same story as one, the cluster's periods.

Nothing is drawn here; `figures` does that. Times are seconds since the log's first line, so that nothing depends on
whether the year is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from leptonami.proof import excerpt
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.track import Period, Phase, Span, Track
from leptonami.verdicts import autoscaler_report as report
from leptonami.verdicts.scaledown_log import SKIPPED, reason_of

__all__ = ["Bar", "Row", "Timeline", "timeline"]

LATE = 330.0  # seconds: a node that cannot be removed is looked at again after 5 minutes only
ROUGH = 30.0  # seconds that stories may differ by and still be the same
GOING = {Phase.TAINTED, Phase.REMOVING, Phase.REMOVED}
MOST_ROWS = 40  # rows that can be read one by one


@dataclass(frozen=True, slots=True)
class Bar:
    """A time during which the autoscaler thought the same of a node; from its taint to its end it is `REMOVING`."""

    phase: Phase
    why: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Row:
    """One node, or several with the same story.

    Attributes
    ----------
    nodes
        Their names.
    bars
        What the autoscaler thought of the first of them, in order.
    gone
        When they were removed; None if they were not.
    """

    nodes: tuple[str, ...]
    bars: tuple[Bar, ...]
    gone: float | None


@dataclass(frozen=True)
class Timeline:
    """All of it.

    Attributes
    ----------
    begin
        The time of second 0.
    length
        Seconds that the log spans.
    rows
        The nodes, in the order in which they were first seen; nodes with the same story are one row if there are many.
    single
        One row for each node, whatever there are.
    scale_ups
        When, which group, and by how many nodes.
    stopped, held
        When the whole loop stopped since the cluster was not ready, and when scale-down was held back.
    """

    begin: datetime | None
    length: float
    rows: tuple[Row, ...]
    single: tuple[Row, ...]
    scale_ups: tuple[tuple[float, str, int], ...]
    stopped: tuple[tuple[float, float], ...]
    held: tuple[tuple[float, float], ...]

    @property
    def counted(self) -> bool:
        """Whether there are so many stories that only numbers of nodes can be shown."""
        return len(self.rows) > MOST_ROWS

    def counts(self, steps: int = 400) -> tuple[list[float], Mapping[Phase, list[int]]]:
        """Count the nodes of each phase over time.

        Parameters
        ----------
        steps
            At so many times, evenly spread.
        """
        width = max(self.length, 1.0) / steps
        changes: dict[Phase, Counter[int]] = {phase: Counter() for phase in Phase}
        for row in self.single:
            for bar in row.bars:
                first, last = int(bar.begin / width), int(bar.end / width)
                changes[bar.phase][first] += len(row.nodes)
                changes[bar.phase][max(last, first + 1)] -= len(row.nodes)
        found: dict[Phase, list[int]] = {}
        for phase, change in changes.items():
            if change:
                number, line = 0, []
                for at in range(steps + 1):
                    number += change[at]
                    line.append(number)
                found[phase] = line
        return [at * width for at in range(steps + 1)], found


def timeline(log: Digest) -> Timeline:
    """Make a timeline of a log."""
    begin, end = log.when(log.first), log.when(log.last)
    if begin is None or end is None:
        return Timeline(None, 0.0, (), (), (), (), ())

    def at(moment: datetime) -> float:
        return max(0.0, (moment - begin).total_seconds())

    length = max(at(end), 1.0)
    tracks = sorted(log.tracks.values(), key=lambda each: each.spans[0].first.number if each.spans else 0)
    single = tuple(row for each in tracks if (row := row_of(log, each, at, length)) is not None)
    few = len(single) <= MOST_ROWS // 3
    ups = [
        (at(each["at"]), excerpt(str(each["group"]), 40), each["to"] - each["from"])
        for each in report.scale_ups(log)
        if each["at"] is not None
    ]
    # A log of several writers may end with a line that is older than others.
    times = [each.end for row in single for each in row.bars] + [each[0] for each in ups]
    length = max([length, *times, *(row.gone or 0.0 for row in single)])
    return Timeline(
        begin=begin,
        length=length,
        rows=single if few else alike(single),
        single=single,
        scale_ups=tuple(ups),
        stopped=tuple(periods(log, log.not_ready, at)),
        held=tuple(periods(log, log.cooldown, at)),
    )


def row_of(log: Digest, track: Track, at: Callable[[datetime], float], length: float) -> Row | None:
    """Make the row of one node; None if the log says nothing of it."""
    bars: list[Bar] = []
    spans = list(track.spans)
    for number, span in enumerate(spans):
        begin, end = log.when(span.first), log.when(span.last)
        if begin is None or end is None:
            continue
        after = log.when(spans[number + 1].first) if number + 1 < len(spans) else None
        until = at(end)
        if after is not None:
            # It is asked once in a loop: between two loops nothing has changed.
            until = max(until, at(after))
        elif span.status.phase not in GOING and length - until < LATE:
            until = length if span.status.phase is Phase.BLOCKED else min(length, until + loop_length(log, length))
        until = max(until, at(begin))
        phase = Phase.REMOVING if span.status.phase in GOING else span.status.phase
        if phase is Phase.REMOVING and bars and bars[-1].phase is phase:
            bars[-1] = Bar(phase, "", bars[-1].begin, max(bars[-1].end, until))
        else:
            bars.append(Bar(phase, why_of(span), at(begin), until))
    if not bars:
        return None
    removal = log.when(track.removal) if track.removal is not None and track.failed is None else None
    present = track.status is not None and track.status.phase in {Phase.REMOVING, Phase.REMOVED}
    gone = at(removal) if removal is not None and present else None
    return Row((excerpt(track.name.decode("utf-8", "replace"), 80),), tuple(bars), gone)


def loop_length(log: Digest, length: float) -> float:
    """Give how long a loop takes, roughly."""
    return 2 * length / log.loops if log.loops else length


def why_of(span: Span) -> str:
    """Name the branch of a span; "" if the phase says it all."""
    if span.status.phase is Phase.BLOCKED:
        return str(reason_of(span.status.reason)[0])
    branch = SKIPPED.get(span.status.reason) if span.status.phase is Phase.SKIPPED else None
    return "" if branch is None else str(branch)


def alike(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Put nodes with the same story together."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        story = tuple((bar.phase, bar.why, round(bar.begin / ROUGH), round(bar.end / ROUGH)) for bar in row.bars)
        groups[(*story, None if row.gone is None else round(row.gone / ROUGH))].append(row)
    return tuple(
        Row(tuple(name for each in group for name in each.nodes), group[0].bars, group[0].gone)
        for group in groups.values()
    )


def periods(log: Digest, found: Sequence[Period], at: Callable[[datetime], float]) -> Iterator[tuple[float, float]]:
    """Give when something held for the whole cluster."""
    for each in found:
        begin, end = log.when(each.first), log.when(each.last)
        if begin is not None and end is not None:
            yield at(begin), at(end)
