"""How far the clocks of a launch are apart: AWS's, the API server's, the node's, and the measuring machine's.

Nothing here assumes that clocks agree. Everything known is an upper bound of one clock's lead over another:

- A request, sent and answered on the reference clock, whose answer carries another clock's time (the `Date` of an HTTP
  answer, `date` over SSM), was stamped in between (Cristian, "Probabilistic clock synchronization", Distributed
  Computing 3, 1989). That bounds the lead from both sides, to half the round trip and the resolution.
- A mark that causes another is not later than it, whichever clocks they are on. That bounds from one side, for free.

Bounds chain: what is known of a and b, and of b and c, bounds a and c. So the tightest bounds are shortest paths in a
graph of four clocks. Bounds that contradict each other (a cycle of negative length) say that a clock was set meanwhile,
or that a mark is of another launch; then only what bounds a clock directly counts, widened until it covers both sides.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from leptonami.bench.marks import Clock, Mark, causes
from leptonami.bench.timeline import Offset, Timeline

__all__ = ["Bound", "estimate", "from_order", "from_request", "in_words"]

ORDER = "order"
"""How a bound of the causal order is named. Of which marks it is: `marks.MARKS`, and those that the trial has."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The clock `fast` is ahead of the clock `slow` by `at_most` seconds (which may be negative).

    `how` says where that comes from.
    """

    fast: Clock
    slow: Clock
    at_most: float
    how: str


def from_request(
    clock: Clock,
    *,
    sent: float,
    answered: float,
    stamped: float,
    resolution: float,
    reference: Clock = "host",
    how: str = "request",
) -> tuple[Bound, Bound]:
    """Bound a clock's lead by a request.

    Parameters
    ----------
    clock
        The clock of the one who answered.
    sent, answered
        When it was sent, and when the answer was there (s, on the reference clock).
    stamped
        The time in the answer (s, on `clock`); the true one is in `[stamped, stamped + resolution]`.
    resolution
        Of `stamped` (s); 1 for an HTTP `Date`.
    """
    return (
        Bound(clock, reference, stamped + resolution - sent, how),
        Bound(reference, clock, answered - stamped, how),
    )


def from_order(marks: Sequence[Mark]) -> tuple[Bound, ...]:
    """Bound clocks by the causal order of the marks of one launch that are on different clocks."""
    return tuple(
        # On true time: cause.at - lead(cause) <= effect.at + resolution - lead(effect).
        Bound(
            effect.clock,
            cause.clock,
            effect.at + effect.resolution - cause.at,
            ORDER,
        )
        for effect in marks
        for cause in marks
        if cause.clock != effect.clock and cause.name in causes(effect.name)
    )


def estimate(bounds: Iterable[Bound], reference: Clock = "host") -> tuple[Offset, ...]:
    """Estimate every clock's lead over the reference: the middle of what the bounds allow, and half of it.

    A clock that is bounded from one side only, or not at all, is left out: nothing is known about it, and `Timeline`
    takes it so.
    """
    known = tuple(bounds)
    clocks = sorted({each.fast for each in known} | {each.slow for each in known} | {reference})
    longest: dict[tuple[Clock, Clock], float] = {}
    for each in known:
        pair = (each.fast, each.slow)
        longest[pair] = min(each.at_most, longest.get(pair, float("inf")))
    chained = shortest(longest, clocks)
    contradiction = any(chained[each, each] < -1e-9 for each in clocks)
    offsets = []
    for clock in clocks:
        if clock == reference:
            continue
        table = longest if contradiction else chained
        upper = table.get((clock, reference), float("inf"))
        lower = -table.get((reference, clock), float("inf"))
        if abs(upper) == float("inf") or abs(lower) == float("inf"):
            continue
        how = told(each for each in known if clock in (each.fast, each.slow))
        if contradiction:
            how = f"contradictory, so taken widely: {how}"
        offsets.append(Offset(clock, (upper + lower) / 2, abs(upper - lower) / 2, how))
    return tuple(offsets)


def told(bounds: Iterable[Bound]) -> str:
    """Say what bounds a clock: the requests by name, and of how many pairs of marks the order does.

    In a few words, since it is kept with each trial, beside the marks that all of it can be worked out from again.
    """
    counts = Counter(each.how for each in bounds)
    pairs = counts.pop(ORDER, 0)
    return ", ".join([*counts, *([f"the causal order of {pairs} pairs of marks"] if pairs else [])])


def in_words(timelines: Iterable[Timeline]) -> tuple[str, ...]:
    """Say of each clock but the reference how far it was ahead in these launches, how well that is known, and how.

    A launch whose marks are on a clock of which nothing is known is counted too.
    """
    found: dict[Clock, list[Offset]] = {}
    for each in timelines:
        for clock in sorted({mark.clock for mark in each.marks} - {each.reference}):
            found.setdefault(clock, []).append(each.offset(clock))
    lines = []
    for clock, offsets in sorted(found.items()):
        known = [each for each in offsets if each.uncertainty < float("inf")]
        told = f"clock {clock}: "
        if known:
            worst = max(each.uncertainty for each in known)
            hows = Counter(re.sub(r"of \d+ pairs", "of pairs", each.how) for each in known)
            told += f"{median(each.seconds for each in known):+.3f} s (median of {len(known)} trials), known to "
            told += f"{worst:.3f} s or better, by {hows.most_common(1)[0][0]}"
        unknown = len(offsets) - len(known)
        lines.append(told + ("; " if known and unknown else "") + (f"unknown in {unknown} trials" if unknown else ""))
    return tuple(lines)


def shortest(edges: dict[tuple[Clock, Clock], float], clocks: Sequence[Clock]) -> dict[tuple[Clock, Clock], float]:
    """Chain bounds (Floyd and Warshall)."""
    path = {(a, b): edges.get((a, b), 0.0 if a == b else float("inf")) for a, b in itertools.product(clocks, repeat=2)}
    for middle, a, b in itertools.product(clocks, repeat=3):
        path[a, b] = min(path[a, b], path[a, middle] + path[middle, b])
    return path
