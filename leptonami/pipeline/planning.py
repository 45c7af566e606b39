"""What will run, in which order, and what a failure stops. Pure: no file, no process, no clock.

`order` and `levels` arrange the notebooks; `choose` says for each whether it runs, is kept from an earlier attempt or
is left out, and why; `Schedule` is the state of an execution: what may begin now, and what a failure skips.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Choice", "Earlier", "Schedule", "Skipped", "choose", "cycle", "levels", "order"]

Needs = Mapping[str, Sequence[str]]
Action = Literal["run", "keep", "leave out"]


def order(needs: Needs) -> list[str]:
    """Arrange the notebooks so that each comes after all that it needs; otherwise they stay as the file has them.

    What is in a circle, or needs something that is not there, is missing in the result.
    """
    arranged: list[str] = []
    left = list(needs)
    while found := next((name for name in left if all(need in arranged for need in needs[name])), None):
        arranged.append(found)
        left.remove(found)
    return arranged


def cycle(needs: Needs) -> list[str]:
    """Find a circle: each needs the next, the last needs the first. Empty if there is none."""
    arranged = set(order(needs))
    rest = {name: [need for need in needs[name] if need in needs and need not in arranged] for name in needs}
    # Whatever could not be arranged leads, need by need, into a circle, unless a need is not there at all.
    for start in (name for name in needs if name not in arranged):
        way = [start]
        while rest[way[-1]]:
            following = rest[way[-1]][0]
            if following in way:
                return way[way.index(following) :]
            way.append(following)
    return []


def levels(needs: Needs) -> list[list[str]]:
    """Group the notebooks: those of a level need only earlier levels, so they can run side by side."""
    level: dict[str, int] = {}
    for name in order(needs):
        level[name] = max((level[need] + 1 for need in needs[name]), default=0)
    return [[name for name in level if level[name] == number] for number in range(max(level.values(), default=-1) + 1)]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier attempt of the run left of a notebook.

    Attributes
    ----------
    state
        `completed`, `failed`, `interrupted`, `skipped`, ...
    changed
        Why what completed cannot be kept; None if it can.
    """

    state: str
    changed: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What is done about a notebook, and why; `warnings` are what the reader of its result must know."""

    action: Action
    why: str
    warnings: tuple[str, ...] = ()


def choose(
    needs: Needs,
    *,
    start: str | None = None,
    only: Collection[str] = (),
    earlier: Mapping[str, Earlier] | None = None,
) -> dict[str, Choice]:
    """Decide for each notebook whether it runs.

    Parameters
    ----------
    needs
        The notebooks in their order, with what each needs.
    start
        `--from`: this one and all after it in the order.
    only
        `--only`: exactly these.
    earlier
        What the run that is resumed left; None for a new run.

    Returns
    -------
    dict
        In the order of the notebooks. With `start` or `only`, what is asked for runs even if it had completed.
        Without, what completed is kept, unless something it rests on runs again.
    """
    names = order(needs)
    wanted = set(only) or set(names[names.index(start) :] if start is not None else names)
    asked = bool(only) or start is not None
    before = earlier or {}
    choices: dict[str, Choice] = {}
    for name in names:
        had = before.get(name)
        if name not in wanted:
            kept = had is not None and had.state == "completed"
            choices[name] = Choice("keep" if kept else "leave out", "not asked for")
            continue
        again = [need for need in needs[name] if choices[need].action == "run"]
        if asked:
            why = "asked for"
        elif had is None or had.state in ("waiting", "left out"):
            why = "it has not run yet" if earlier is not None else "it is part of the pipeline"
        elif had.state != "completed":
            why = (
                "it was skipped before" if had.state == "skipped" else f"it {REASONS.get(had.state, had.state)} before"
            )
        elif had.changed:
            why = had.changed
        elif again:
            why = f"{again[0]}, which it needs, runs again"
        else:
            choices[name] = Choice("keep", "it completed with the same parameters, notebook and version")
            continue
        missing = [need for need in needs[name] if choices[need].action == "leave out"]
        warnings = tuple(f"it ran without {need}, which it needs: that {missed(before.get(need))}" for need in missing)
        choices[name] = Choice("run", why, warnings)
    return choices


def missed(earlier: Earlier | None) -> str:
    """Say why there is nothing of a notebook that another one needs."""
    return "had failed" if earlier is not None and earlier.state == "failed" else "was left out"


REASONS = {"interrupted": "was interrupted", "running": "was interrupted", "skipped": "was skipped"}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A notebook that will not run, and why."""

    name: str
    why: str


class Schedule:
    """What may begin, and what a failure stops.

    Parameters
    ----------
    needs
        The notebooks in their order, with what each needs.
    run
        Those that are to run. What else somebody needs counts as met: it was kept, or left out on purpose.
    """

    def __init__(self, needs: Needs, run: Iterable[str]) -> None:
        chosen = set(run)
        self.waiting = [name for name in order(needs) if name in chosen]
        self.needs = {name: [need for need in needs[name] if need in chosen] for name in self.waiting}
        self.running: set[str] = set()
        self.completed: set[str] = set()

    @property
    def over(self) -> bool:
        """Tell whether nothing runs and nothing will."""
        return not (self.waiting or self.running)

    def ready(self) -> list[str]:
        """Name those that may begin now, in their order."""
        return [name for name in self.waiting if all(need in self.completed for need in self.needs[name])]

    def begin(self, name: str) -> None:
        """Note that one has begun."""
        self.waiting.remove(name)
        self.running.add(name)

    def end(self, name: str, *, completed: bool, how: str = "failed") -> list[Skipped]:
        """Note that one has ended; give those that can never begin now: what needs it, directly or not."""
        self.running.remove(name)
        if completed:
            self.completed.add(name)
            return []
        lost = {name: f"which {how}"}
        skipped = []
        for waiting in list(self.waiting):
            cause = next((need for need in self.needs[waiting] if need in lost), None)
            if cause is None:
                continue
            skipped.append(Skipped(waiting, f"it needs {cause}, {lost[cause]}"))
            lost[waiting] = f"which was skipped because {name} {how}"
            self.waiting.remove(waiting)
        return skipped

    def stop(self, why: str) -> list[Skipped]:
        """Let nothing more begin; give those that now will not."""
        skipped = [Skipped(name, why) for name in self.waiting]
        self.waiting = []
        return skipped
