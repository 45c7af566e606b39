"""What is known of an autoscaler's log after one pass: its nodes, its cluster-wide periods, its version."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime

from leptonami.proof import Proof
from leptonami.readers.autoscaler.catalogue import Kind
from leptonami.readers.autoscaler.times import Times
from leptonami.readers.autoscaler.track import Happening, Period, Seen, Track
from leptonami.readers.autoscaler.version import Sites, VersionGuess
from leptonami.readers.leftover import Leftover
from leptonami.readers.years import From

__all__ = ["MOST_PODS", "Digest"]

MOST_PERIODS = 2_000
MOST_PODS = 2_000  # unschedulable pods told apart


@dataclass
class Digest:
    """What is known of a log.

    Parameters
    ----------
    tracks
        The nodes, by name.
    counts
        How many messages of each kind; `Kind.OTHER` are those that the catalogue does not hold.
    unread
        The lines that are no line of klog.
    not_ready, cooldown
        When the whole loop stopped because the cluster was not ready, and when scale-down was held back after a
        scale-up or a failure.
    happenings
        Scale-ups, time-outs, back-offs, removals, failures: the latest of each kind.
    pods
        Pods that were unschedulable: the last line that said so, and how many did.
    gpu_wanted
        The first line that says that a pod fits nowhere for want of a GPU.
    flags
        The autoscaler's command line, if the log begins with it.
    lines, loops
        How many were read.
    first, last
        The first and the last line of klog.
    forgotten
        How many nodes were left out to keep the memory bounded.
    source
        What the log is called where proofs name it.
    times
        What finds the year, which klog does not print.
    """

    tracks: dict[bytes, Track] = field(default_factory=dict)
    counts: Counter[Kind] = field(default_factory=Counter)
    sites: Sites = field(default_factory=Sites)
    unread: Leftover = field(default_factory=Leftover)
    not_ready: deque[Period] = field(default_factory=lambda: deque(maxlen=MOST_PERIODS))
    cooldown: deque[Period] = field(default_factory=lambda: deque(maxlen=MOST_PERIODS))
    happenings: dict[Kind, deque[Happening]] = field(default_factory=dict)
    pods: dict[str, tuple[Seen, int]] = field(default_factory=dict)
    gpu_wanted: Seen | None = None
    flags: dict[str, str] = field(default_factory=dict)
    stated_version: str = ""
    lines: int = 0
    loops: int = 0
    first: Seen | None = None
    last: Seen | None = None
    forgotten: int = 0
    source: str = "-"
    times: Times = field(default_factory=Times)

    @property
    def version(self) -> VersionGuess:
        """Which version wrote it."""
        return self.sites.guess(self.stated_version)

    @property
    def year_known(self) -> From:
        """How the year of its times is known."""
        return self.times.known

    def when(self, seen: Seen | None) -> datetime | None:
        """Give the time of a line; None if it has none. `years.plain` writes it, whether or not the year is known."""
        return None if seen is None else self.times.when(seen)

    def proof(self, seen: Seen) -> Proof:
        """Give a line as a proof."""
        return Proof.of(self.source, f"line {seen.number}", seen.line.decode("utf-8", "replace"))
