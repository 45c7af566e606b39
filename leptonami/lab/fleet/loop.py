"""The fleet's clock, its agenda of what comes due, and the one thread in which everything is decided."""

from __future__ import annotations

import heapq
import itertools
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from leptonami.lab.fleet.cluster import Cluster, Key

__all__ = ["Agenda", "Clock", "Controller", "Loop"]

UNDELAYED = 1e6  # what a speed of `inf` (or 0) is: no wait of the model is noticed then
FASTEST_AGAIN = 100.0
RETRY_S = 100.0  # until a controller that failed is called again
GATHER_S = 0.005  # of this machine: what arrives meanwhile is handled in one round


@dataclass
class Clock:
    """Simulated seconds since the start, and the only place that divides by the speed.

    Time stamps that objects get are those of this machine, since clients compare them with their own clock. What
    passes between two of them is simulated, and shorter by the speed.
    """

    speed: float = 1.0
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        """Start at nought."""
        self.speed = UNDELAYED if self.speed == 0 or math.isinf(self.speed) else self.speed
        self._start = self.monotonic()

    def now(self) -> float:
        """Give the simulated seconds since the start."""
        return (self.monotonic() - self._start) * self.speed

    def wait(self, simulated: float) -> float:
        """Give how many seconds of this machine so many simulated ones are."""
        return simulated / self.speed

    def at_least(self, simulated: float, floor: float) -> float:
        """Lengthen simulated seconds to `floor` seconds of this machine.

        For what repeats (heartbeats, probes, back-off): at a high speed it would never let go of the processor.
        """
        return max(simulated, floor * self.speed)

    def again(self, simulated: float) -> float:
        """Lengthen the simulated seconds of something that repeats to a hundredth of them on this machine."""
        return self.at_least(simulated, simulated / FASTEST_AGAIN)

    def stamp(self) -> str:
        """Give the time of this machine as Kubernetes writes it."""
        return datetime.fromtimestamp(self.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def micro(self) -> str:
        """Give it with microseconds, as leases and logs have it."""
        return datetime.fromtimestamp(self.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Agenda:
    """What comes due, in the order in which it does. Nothing else is looked at until then."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Put something on the agenda for a simulated time."""
        heapq.heappush(self._heap, (when, next(self._number), action))

    def run(self, now: float) -> float | None:
        """Do what is due, and give how many simulated seconds are left until the next thing; None if there is none.

        What fails is done again later and keeps nothing else from being done; then its exception is raised.
        """
        failed: Exception | None = None
        while self._heap and self._heap[0][0] <= now:
            action = heapq.heappop(self._heap)[2]
            try:
                action()
            except Exception as error:
                failed = error
                self.at(now + RETRY_S, action)
        if failed:
            raise failed
        return self._heap[0][0] - now if self._heap else None


class Controller(Protocol):
    """Something that looks at the cluster and acts on it. All run in one thread, one after the other."""

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        """Act.

        Parameters
        ----------
        now
            Simulated seconds.
        changes
            What has changed since the last call, as (plural, namespace, name); what is gone is among it.

        Returns
        -------
        float or None
            After how many simulated seconds it wants to be called again if nothing changes; None for not at all.
        """


@dataclass
class Loop:
    """Calls each controller when something has changed or when it wanted to be called."""

    cluster: Cluster
    clock: Clock
    controllers: Sequence[Controller]
    complain: Callable[[str], object] = sys.stderr.write
    _owed: dict[int, set[Key]] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set; setting `cluster.changed` after it ends the wait."""
        due = [0.0] * len(self.controllers)
        while True:
            # In this order: who sets both after we have looked is noticed by the wait, who did before it by the look.
            self.cluster.changed.clear()
            if stop.is_set():
                return
            self.cluster.sync()
            changes = self.cluster.changes()
            for number, controller in enumerate(self.controllers):
                if changes or due[number] <= self.clock.now():
                    due[number] = self.call(number, controller, changes)
            seconds = self.clock.wait(min(due, default=math.inf) - self.clock.now())
            # What the controllers wrote themselves is a change too, and the others see it at once.
            if not self.cluster.has_changes() and seconds > 0:
                self.cluster.changed.wait(None if math.isinf(seconds) else seconds)
                stop.wait(min(GATHER_S, max(seconds, 0)))

    def call(self, number: int, controller: Controller, changes: set[Key]) -> float:
        """Call one, and give when it wants to be called again.

        One that fails must not take the others with it, and hears of the same changes again.
        """
        changes = changes | self._owed.pop(number, set())
        try:
            wanted = controller.step(self.cluster, self.clock.now(), changes)
        except Exception:
            self.complain(f"{type(controller).__name__}: {traceback.format_exc()}\n")
            self._owed[number] = changes
            wanted = self.clock.again(RETRY_S)
        return math.inf if wanted is None else self.clock.now() + wanted
