"""What became of a node that booted, and what went wrong first of that which keeps a node from joining."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from leptonami.readers.journal import Boot, Mark
from leptonami.readers.journal_marks import Family, Name

__all__ = ["PATIENCE", "READY_PATIENCE", "State", "decide", "first_failure"]

# Published boots reach a ready node in 24 to 70 s, and in 2 to 7 minutes when the driver is built at boot (the
# README of node-latency-for-k8s; amazon-eks-ami, issue 1751; karpenter, issue 3102). What has not happened by then
# will not.
PATIENCE = timedelta(minutes=10)
# From registered to ready the node waits for its CNI plugin: 2 to 15 s in the same sources.
READY_PATIENCE = timedelta(minutes=5)
# Without these a node does not join; what their failure is called, and whether systemd tries again.
UNITS: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (re.compile(r"nodeadm-config|EKS Nodeadm Config"), "nodeadm-config", False),
    (re.compile(r"nodeadm-run|EKS Nodeadm Run"), "nodeadm-run", False),
    (re.compile(r"settings-applier|Applies settings"), "settings", False),
    (re.compile(r"sandbox[ -]image"), "sandbox image", False),
    (re.compile(r"containerd"), "containerd", True),
    (re.compile(r"[Kk]ubelet"), "kubelet", True),
    (re.compile(r"wait-online|Wait for Network"), "network", True),
    (re.compile(r"cloud-(?:init|config|final)|Execute cloud user"), "cloud-init", False),
)
GPU_DRIVER = "GPU driver"
DRIVER_IMAGE = re.compile(r"/nvidia/driver[:@]")
FAILURES = {
    Name.SNAP_IN_PROGRESS: "bootstrap.sh",
    Name.BOOTSTRAP_REMOVED: "user data",
    Name.USER_DATA_FAILED: "user data",
    Name.NODEADM_FAILED: "nodeadm",
    Name.SANDBOX_IMAGE_FAILED: "sandbox image",
    Name.REGISTRATION_FAILED: "registration",
    Name.DRIVER_FAILED: GPU_DRIVER,
}


class State(StrEnum):
    """What became of a node that booted."""

    READY = "ready"
    REGISTERED = "registered, not ready"
    FAILED = "did not come up"
    NOT_DETERMINED = "not determined"


def first_failure(troubles: Iterable[Mark], reached: dict[Name, Mark], family: Family) -> tuple[Mark | None, str, bool]:
    """Find what went wrong first of that which keeps a node from joining, at which step, and whether it is final.

    Final is what nobody tries again: user data run once, and so do the units of nodeadm and others of a single run.
    """
    first: Mark | None = None
    stage, final = "", False
    for mark in sorted(troubles, key=lambda each: each.line):
        where, again = "", True
        if mark.name is Name.UNIT_FAILED:
            where, again = next(
                ((title, retried) for pattern, title, retried in UNITS if pattern.search(mark.detail)), ("", True)
            )
        elif mark.name in FAILURES:
            where = FAILURES[mark.name]
            again = mark.name not in {Name.USER_DATA_FAILED, Name.BOOTSTRAP_REMOVED}
        elif mark.name is Name.IMAGE_PULL_FAILED and DRIVER_IMAGE.search(mark.detail):
            where = "" if Name.DRIVER_LOADED in reached else GPU_DRIVER
        if not where:
            continue
        if first is None or (stage == GPU_DRIVER and where != GPU_DRIVER):
            first, stage = mark, where  # a node joins without a driver: that is only named if nothing else failed
        if not again and not may_join(where, reached, family):
            final = True
    return first, stage, final


def may_join(where: str, reached: dict[Name, Mark], family: Family) -> bool:
    """Tell whether a node may still join although a step failed."""
    if where in {"user data", "cloud-init"}:
        # nodeadm does not wait for the user's scripts. Elsewhere one of them starts the kubelet; cloud-init goes on
        # with the others when one fails, so that nothing is final before it has finished.
        started, finished = Name.KUBELET_STARTED in reached, Name.CLOUD_INIT_FINISHED in reached
        return family is Family.AL2023 or started or not finished
    return where == "sandbox image"


def decide(boot: Boot, reached: dict[Name, Mark], failed_stage: str, *, final: bool) -> tuple[State, str]:
    """Say what became of the node, and why that is so."""
    if Name.NODE_READY in reached:
        return State.READY, "the kubelet reported the node ready"
    at_fault = f"; {failed_stage} failed" if failed_stage else ""
    registered = reached.get(Name.NODE_REGISTERED)
    if registered is not None:
        return never(State.REGISTERED, until(registered.at, boot.last), READY_PATIENCE, "the node registered", at_fault)
    if final:
        return State.FAILED, f"{failed_stage} failed, and nothing tries it again"
    if not boot.from_start:
        return State.NOT_DETERMINED, "the journal does not have the beginning of the boot"
    went_on = timedelta(seconds=min(boot.up, 1e9)) if boot.up is not None else until(boot.first, boot.last)
    return never(State.FAILED, went_on, PATIENCE, "the kernel started", at_fault)


def never(state: State, went_on: timedelta | None, patience: timedelta, since: str, at_fault: str) -> tuple[State, str]:
    """Say that the next step never came, if the journal goes on for long enough."""
    if went_on is None:
        return State.NOT_DETERMINED, f"the journal has no times that say how long it goes on after {since}"
    if went_on < patience:
        return State.NOT_DETERMINED, f"the journal ends {seconds(went_on)} after {since}{at_fault}"
    return state, f"the journal goes on for {seconds(went_on)} after {since}{at_fault}"


def until(start: datetime | None, end: datetime | None) -> timedelta | None:
    """Give the time between two times, if both are known."""
    return None if start is None or end is None else end - start


def seconds(span: timedelta) -> str:
    """Write a span of time for people."""
    total = span.total_seconds()
    return f"{total:.0f} s" if total < 600 else f"{total / 60:.0f} min"
