"""The marks of one launch on one clock: differences with their uncertainty, and what contradicts the causal order.

Marks of one clock can be subtracted; for marks of two clocks the clocks' offset is needed (`clocks.py`), and its
uncertainty goes into the difference. A phase that comes out negative is never cut to zero: it says that a clock, a
source or the order is not what was believed, and `Span.problem` says which.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from leptonami.bench.marks import MARKS, PHASES, Clock, Mark, causes

__all__ = ["Offset", "Span", "Timeline"]


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a clock is ahead of the reference clock, and how well that is known.

    Attributes
    ----------
    clock
        The clock.
    seconds
        What it is ahead (subtract it to get the reference clock's time).
    uncertainty
        Seconds to both sides; infinite if nothing is known.
    how
        What it was estimated from.
    """

    clock: Clock
    seconds: float
    uncertainty: float
    how: str


@dataclass(frozen=True, slots=True)
class Span:
    """The time between two marks.

    Attributes
    ----------
    begin, end
        The marks.
    seconds
        The difference; negative if that is what the sources say.
    uncertainty
        Seconds to both sides: resolutions, and the clocks' offset if they are two.
    problem
        Empty, or why the number cannot be taken as it stands.
    """

    begin: Mark
    end: Mark
    seconds: float
    uncertainty: float
    problem: str = ""


@dataclass(frozen=True)
class Timeline:
    """The marks of one launch on one clock.

    Parameters
    ----------
    marks
        In any order. Of several with one name, the one whose time is known best stands for it (`best`).
    offsets
        Of the clocks other than the reference. A clock without one is taken to agree with the reference by an unknown
        amount: differences that need it have infinite uncertainty.
    reference
        The clock that times are given on.
    """

    marks: tuple[Mark, ...]
    offsets: tuple[Offset, ...] = ()
    reference: Clock = "host"

    def offset(self, clock: Clock) -> Offset:
        """Give what is known about a clock."""
        if clock == self.reference:
            return Offset(clock, 0.0, 0.0, "the reference")
        for each in self.offsets:
            if each.clock == clock:
                return each
        return Offset(clock, 0.0, float("inf"), "nothing is known about this clock")

    def time(self, mark: Mark) -> float:
        """Give a mark's time on the reference clock: the middle of where it may lie."""
        return mark.at + mark.resolution / 2 - self.offset(mark.clock).seconds

    def best(self, name: str) -> Mark | None:
        """Give the mark of a name whose time is known best; of equals the earliest."""
        found = [each for each in self.marks if each.name == name]
        if not found:
            return None
        return min(found, key=lambda mark: (mark.resolution / 2 + self.offset(mark.clock).uncertainty, self.time(mark)))

    def ordered(self) -> tuple[Mark, ...]:
        """Give the best mark of each name, causes first; what has no cause in common, by time.

        The order is the same whatever the order of the input.
        """
        best = {name: mark for name in MARKS if (mark := self.best(name)) is not None}
        order: list[Mark] = []
        waiting = dict(best)
        while waiting:
            free = [name for name in waiting if not (causes(name) & set(waiting))]
            name = min(free, key=lambda each: (self.time(waiting[each]), list(MARKS).index(each)))
            order.append(waiting.pop(name))
        return tuple(order)

    def span(self, begin: str, end: str) -> Span | None:
        """Give the time between two marks; None if one is missing."""
        first, last = self.best(begin), self.best(end)
        return None if first is None or last is None else self.between(first, last)

    def between(self, first: Mark, last: Mark) -> Span:
        """Give the time between two marks, and say so if it contradicts their causal order."""
        seconds = self.time(last) - self.time(first)
        uncertainty = (first.resolution + last.resolution) / 2
        if first.clock != last.clock:
            uncertainty += self.offset(first.clock).uncertainty + self.offset(last.clock).uncertainty
        problem = ""
        if seconds < 0 and first.name in causes(last.name):
            problem = self.explain(first, last, seconds, uncertainty)
        return Span(first, last, seconds, uncertainty, problem)

    def explain(self, first: Mark, last: Mark, seconds: float, uncertainty: float) -> str:
        """Say what a negative time between a cause and its effect can mean."""
        what = f"{last.name} ({last.source}) is {-seconds:.3f} s before {first.name} ({first.source}), its cause"
        if -seconds <= uncertainty:
            return f"{what}: within the uncertainty of {uncertainty:.3f} s, so they cannot be told apart"
        if first.clock != last.clock:
            beyond = -seconds - uncertainty
            return (
                f"{what}: the clocks {first.clock} and {last.clock} differ by at least {beyond:.3f} s more than was "
                "estimated, or one of the two marks is of another launch"
            )
        return f"{what}, by one and the same clock: the clock was set meanwhile, or one of them is of another launch"

    def phases(self) -> dict[str, Span]:
        """Give every phase of `PHASES` that both marks are there for."""
        return {each.name: span for each in PHASES if (span := self.span(each.begin, each.end)) is not None}

    def waterfall(self) -> tuple[Span, ...]:
        """Cut the launch at the marks of the spine that are there: spans that follow each other without a gap."""
        spine = [mark for mark in self.ordered() if MARKS[mark.name].spine]
        return tuple(self.between(first, last) for first, last in itertools.pairwise(spine))

    def problems(self) -> tuple[str, ...]:
        """Say where the marks contradict their causal order."""
        marks = self.ordered()
        spans = (
            self.between(first, last)
            for last in marks
            for first in marks
            if first.name in causes(last.name) and first is not last
        )
        return tuple(span.problem for span in spans if span.problem)
