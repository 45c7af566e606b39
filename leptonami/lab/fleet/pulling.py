"""A node pulls images: one after the other or side by side, sharing the wire and the disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from leptonami.lab.fleet.loop import Agenda

__all__ = ["Puller"]

Done = Callable[[float, float], None]


@dataclass
class Pull:
    """A pull: what is left to do, in seconds of the whole node, and who waits since when for its end."""

    left: float
    asked: float
    done: list[tuple[float, Done]]
    begun: float | None = None


@dataclass
class Puller:
    """The pulls of one node.

    Attributes
    ----------
    serial
        Whether they come one after the other (`serializeImagePulls`).
    """

    agenda: Agenda
    serial: bool
    pulls: dict[str, Pull] = field(default_factory=dict)
    _at: float = 0.0
    _round: int = 0

    def pull(self, image: str, work: float, now: float, done: Done) -> None:
        """Pull an image that takes `work` seconds on an idle node.

        `done` is told how long it pulled, and how long it took with waiting. Who asks for an image that is being
        pulled waits for the same pull, as containerd has it, and pulls for as long as that still takes.
        """
        self._advance(now)
        pull = self.pulls.setdefault(image, Pull(work, now, []))
        pull.done.append((now, done))
        self._plan(now)

    def forget(self) -> None:
        """Give up all pulls: the node is gone."""
        self.pulls.clear()
        self._round += 1

    def _active(self) -> list[Pull]:
        return list(itertools.islice(self.pulls.values(), 1 if self.serial else None))

    def _advance(self, now: float) -> None:
        active = self._active()
        for pull in active:
            pull.left -= (now - self._at) / len(active)
        self._at = now

    def _plan(self, now: float) -> None:
        """Put the next end on the agenda; what was planned before no longer counts."""
        self._round += 1
        active = self._active()
        if not active:
            return
        for pull in active:
            pull.begun = now if pull.begun is None else pull.begun
        number, next_end = self._round, now + max(0.0, min(pull.left for pull in active)) * len(active)
        self.agenda.at(next_end, lambda: self._end(number, next_end))

    def _end(self, number: int, now: float) -> None:
        if number != self._round:
            return
        self._advance(now)
        active = self._active()
        least = min(pull.left for pull in active)
        ended = [image for image, pull in self.pulls.items() if pull in active and pull.left <= least + 1e-9]
        over = [self.pulls.pop(image) for image in ended]
        self._plan(now)
        for pull in over:
            for asked, done in pull.done:
                begun = now if pull.begun is None else pull.begun
                done(now - max(begun, asked), now - asked)
