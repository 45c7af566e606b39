"""Marks that the node itself tells, on its own clock: its journal, cloud-init, systemd and the kubelet's metrics.

Where the journal has the kernel's clock, marks are counted on it from the kernel's start and put onto the wall clock as
that is at the end: a clock that chrony sets while the node boots then does not stretch a phase.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from leptonami.bench.marks import Mark
from leptonami.readers import cloudinit, kubeletmetrics, systemdanalyze
from leptonami.readers.journal import Journal
from leptonami.readers.journal import Mark as Reached
from leptonami.readers.journal_marks import Name
from leptonami.target import Provenance

__all__ = ["from_cloud_init", "from_journal", "from_metrics", "from_systemd"]

# Several messages may say the same: Bottlerocket's settings and AL2023's nodeadm are what bootstrap.sh is elsewhere.
NAMES: dict[Name, str] = {
    Name.KERNEL_START: "kernel",
    Name.CLOUD_INIT_LOCAL: "cloud-init-local",
    Name.CLOUD_INIT: "cloud-init",
    Name.CLOUD_INIT_CONFIG: "cloud-init-config",
    Name.CLOUD_INIT_FINAL: "cloud-init-final",
    Name.NODEADM_CONFIG_START: "bootstrap",
    Name.SETTINGS_START: "bootstrap",
    Name.BOOTSTRAP_START: "bootstrap",
    Name.CONTAINERD_READY: "containerd",
    Name.KUBELET_STARTED: "kubelet",
    Name.NODE_REGISTERED: "registered",
    Name.NODE_READY: "ready",
    Name.DRIVER_LOADED: "driver",
}
STAGES = {
    "init-local": "cloud-init-local",
    "init-network": "cloud-init",
    "modules-config": "cloud-init-config",
    "modules-final": "cloud-init-final",
}


def from_journal(journal: Journal, *, image: str = "", provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the marks of the journal's last boot, and the pull of `image` (a part of its reference) if it was one."""
    if not journal.boots:
        return ()
    boot = journal.boots[-1].number
    reached = [
        each for each in journal.of_boot(boot) if each.name in NAMES and not each.trouble and each.at is not None
    ]
    start = kernel_start(reached)
    found = []
    for each in reached:
        at = each.at.timestamp() if each.at is not None else 0.0
        if start is not None and each.monotonic is not None and each.clock != "message":
            at = start + each.monotonic
        found.append(Mark(NAMES[each.name], at, "journal", "node", each.resolution, provenance, each.detail))
    for pull in journal.pulls:
        if pull.boot != boot or not pull.ok or not image or image not in pull.ref:
            continue
        for name, moment in (("pulling", pull.start), ("pulled", pull.end)):
            if moment is not None:
                found.append(Mark(name, moment.timestamp(), f"journal ({pull.by})", "node", 0.0, provenance, pull.ref))
    return tuple(found)


def kernel_start(marks: Iterable[Reached]) -> float | None:
    """Give when the kernel started by the wall clock of the boot's end; None without the kernel's clock."""
    leads = [
        each.at.timestamp() - each.monotonic
        for each in marks
        if each.at is not None and each.monotonic is not None and each.clock != "message"
    ]
    # The clock is set early in the boot: the later half of the marks has it right.
    return statistics.median(leads[len(leads) // 2 :]) if leads else None


def from_cloud_init(stages: Iterable[cloudinit.Stage], provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the beginning of each stage."""
    return tuple(
        Mark(STAGES[each.name], each.begun, "cloud-init analyze", "node", 0.0, provenance, each.result)
        for each in stages
    )


def from_metrics(metrics: kubeletmetrics.NodeStartup, provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the marks that the kubelet's own timing of its node implies."""
    # process_start_time_seconds has the kernel's tick: 10 ms.
    return tuple(Mark(name, at, "kubelet metrics", "node", 0.01, provenance) for name, at in metrics.times().items())


def from_systemd(
    startup: systemdanalyze.Startup, ended: float, provenance: Provenance = "measured"
) -> tuple[Mark, ...]:
    """Give the kernel's start, from when userspace had started (s since 1970, on the node's clock).

    Parameters
    ----------
    ended
        When userspace had finished starting: the journal's `Startup finished`, or the unit's timestamp.
    """
    return (Mark("kernel", ended - startup.since_kernel, "systemd-analyze", "node", 0.001, provenance),)
