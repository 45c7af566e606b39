"""The steps of a node's boot, with the time that each took and by how much that may be off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from leptonami.readers.journal import Mark
from leptonami.readers.journal_marks import RULES, Family, Name

__all__ = ["SLOW", "STAGES", "Stage", "missing", "steps"]

SLOW = 10.0  # seconds: a third of a whole boot of the published ones

STAGES: tuple[Name, ...] = (
    Name.KERNEL_START,
    Name.SYSTEMD_START,
    Name.NETWORK_UP,
    Name.NETWORK_ONLINE,
    Name.CLOUD_INIT_LOCAL,
    Name.NODEADM_CONFIG_START,
    Name.NODEADM_CONFIG_FINISHED,
    Name.CLOUD_INIT,
    Name.SETTINGS_START,
    Name.SETTINGS_APPLIED,
    Name.CLOUD_INIT_CONFIG,
    Name.CLOUD_INIT_FINAL,
    Name.BOOTSTRAP_START,
    Name.CONTAINERD_START,
    Name.CONTAINERD_READY,
    Name.SANDBOX_IMAGE_START,
    Name.SANDBOX_IMAGE_READY,
    Name.NODEADM_RUN_START,
    Name.KUBELET_START,
    Name.KUBELET_STARTED,
    Name.KUBELET_RUNNING,
    Name.BOOTSTRAP_FINISHED,
    Name.NODEADM_RUN_FINISHED,
    Name.CLOUD_INIT_FINISHED,
    Name.NODE_REGISTERED,
    Name.CNI_START,
    Name.NODE_READY,
    Name.DRIVER_LOADED,
    Name.DEVICE_PLUGIN_REGISTERED,
)

# Steps that the next one implies, or that not every node has.
OPTIONAL = {
    Name.SYSTEMD_START,
    Name.NETWORK_UP,
    Name.NETWORK_ONLINE,
    Name.CONTAINERD_START,
    Name.SANDBOX_IMAGE_START,
    Name.KUBELET_START,
    Name.KUBELET_RUNNING,
    Name.CNI_START,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the boot that was reached.

    Attributes
    ----------
    mark
        The mark of the journal.
    since_kernel
        Seconds after the kernel started; None if the journal has no time for it.
    took
        Seconds after the step before it.
    uncertainty
        By how much `took` may be off, in seconds, because the journal's times are only so fine.
    """

    mark: Mark
    since_kernel: float | None
    took: float | None
    uncertainty: float

    @property
    def slow(self) -> bool:
        """Whether it took long, whatever the uncertainty."""
        return self.took is not None and self.took - self.uncertainty >= SLOW


def origin(marks: Iterable[Mark]) -> tuple[datetime, float] | None:
    """Give the time at which the kernel started, and by how much it may be off, in seconds.

    A mark that has both clocks says that it was between `at - monotonic` and as much later as its time is not fine.
    They narrow each other down. Without any, it is when journald heard of the kernel, which is late by an unknown time.
    """
    spans: list[tuple[float, datetime]] = []
    late: datetime | None = None
    for mark in marks:
        if mark.at is None:
            continue
        if mark.name is Name.KERNEL_START:
            late = mark.at
        if mark.monotonic is not None and mark.monotonic < 1e9:
            try:
                spans.append((mark.resolution, mark.at - timedelta(seconds=mark.monotonic)))
            except OverflowError:
                continue
    if not spans:
        return (late, 0.0) if late else None
    fine, start = min(spans)
    low = max(begin for _, begin in spans)
    high = min(begin + timedelta(seconds=width) for width, begin in spans)
    if low <= high:
        return low + (high - low) / 2, (high - low).total_seconds() / 2
    # The clock was set in between, or messages were late. The finest is as good as any.
    return start, max(fine, (low - high).total_seconds())


def steps(reached: dict[Name, Mark]) -> tuple[Stage, ...]:
    """Put the steps in the order of their times, with the time that each took."""
    start = origin(reached.values())
    timed: list[tuple[float | None, float, Mark]] = []
    for mark in (reached[name] for name in STAGES if name in reached):
        since, fine = mark.monotonic, 0.01 if mark.resolution >= 0.01 else mark.resolution
        if since is None and mark.at is not None and start is not None:
            since, fine = (mark.at - start[0]).total_seconds(), mark.resolution + start[1]
            if mark.name is Name.KERNEL_START:
                # By its meaning it is the beginning. What its line says is when journald heard of it.
                since, fine = 0.0, fine + max(since, 0.0)
        timed.append((since, fine, mark))
    # Lines are in the order in which they were written, also where times are only whole seconds.
    timed.sort(key=lambda each: each[2].line)
    stages: list[Stage] = []
    before: tuple[float, float] | None = None
    for since, fine, mark in timed:
        took = None if since is None or before is None else max(0.0, round(since - before[0], 6))
        stages.append(Stage(mark, since, took, round(fine + before[1] if before else fine, 6)))
        if since is not None:
            before = (since, fine)
    return tuple(stages)


def missing(reached: dict[Name, Mark], family: Family) -> tuple[Name, ...]:
    """Give the steps before registration that a node of a family goes through, and that are not there."""
    expected = {each.name for each in RULES if family in each.families and not each.trouble} - OPTIONAL
    if Name.CONTAINERD_STARTED in reached:
        expected.discard(Name.CONTAINERD_READY)  # systemd says so too
    before = STAGES[: STAGES.index(Name.NODE_READY) + 1]
    return tuple(each for each in before if each in expected and each not in reached)
