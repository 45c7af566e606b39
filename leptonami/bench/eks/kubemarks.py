"""Marks that the API server tells: of the Node, of the pod, of their events; and the first line of the pod's log.

Which clock a time is on: `creationTimestamp` is the API server's. A condition's transition, a container's `startedAt`
and the kubelet's events are the node's. `Scheduled` is the scheduler's, which runs beside the API server on EKS and is
taken for its clock. Times of objects are whole seconds, cut; events of newer components have microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from leptonami.bench.marks import Clock, Mark
from leptonami.readers.fields import dig, mapping, mappings
from leptonami.readers.gotime import parse_rfc3339
from leptonami.target import Provenance

__all__ = ["from_events", "from_log", "from_node", "from_pod", "moment"]

Object = Mapping[str, Any]
# An event's reason, of which component, and the mark that it is.
EVENTS: dict[str, tuple[str, Clock]] = {
    "Scheduled": ("scheduled", "api"),
    "Pulling": ("pulling", "node"),
    "Pulled": ("pulled", "node"),
    "Created": ("container-created", "node"),
    "Started": ("started", "node"),
}
PRESENT = re.compile(r"already present on machine")


def moment(text: Any) -> tuple[float, float] | None:
    """Read a time of the API: seconds since 1970, and how fine it is (1 s without a fraction); None if it is none."""
    if not isinstance(text, str) or len(text) > 64 or (at := parse_rfc3339(text)) is None:
        return None
    return at.timestamp(), 1e-6 if "." in text else 1.0


def from_node(node: Object, provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give when a node was registered, and when it became Ready (if it is)."""
    name = "get node"
    found = one("registered", dig(node, "metadata", "creationTimestamp"), name, "api", provenance)
    return found + condition(node, "Ready", "ready", clock="node", provenance=provenance)


def from_pod(pod: Object, provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the marks of a pod's object: created, scheduled, sandbox, its first container's start, Ready."""
    name = "get pod"
    found = one("pod-created", dig(pod, "metadata", "creationTimestamp"), name, "api", provenance)
    found += condition(pod, "PodScheduled", "scheduled", clock="api", provenance=provenance)
    # Since Kubernetes 1.29: the sandbox and its network are there.
    found += condition(pod, "PodReadyToStartContainers", "sandbox", clock="node", provenance=provenance)
    found += condition(pod, "Ready", "pod-ready", clock="node", provenance=provenance)
    for status in mappings(pod, "status", "containerStatuses")[:1]:
        started = dig(status, "state", "running", "startedAt") or dig(status, "state", "terminated", "startedAt")
        found += one("started", started, name, "node", provenance)
    return found


def from_events(events: Iterable[Object], uid: str, provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the marks of a pod's events: the first of each reason.

    Parameters
    ----------
    uid
        The pod's: a pod of the same name that was there before has another.
    """
    first: dict[str, Mark] = {}
    for event in events:
        about = mapping(event, "involvedObject") or mapping(event, "regarding")
        known = EVENTS.get(str(event.get("reason")))
        if known is None or about.get("uid") != uid:
            continue
        name, clock = known
        times = (moment(event.get(field)) for field in ("eventTime", "firstTimestamp", "deprecatedFirstTimestamp"))
        at = next((each for each in times if each is not None), None)
        if at is None:
            continue
        said = str(event.get("message") or event.get("note") or "")
        detail = "already present on machine" if PRESENT.search(said[:500]) else ""
        mark = Mark(name, at[0], f"event {event['reason']}", clock, at[1], provenance, detail)
        if name not in first or mark.at < first[name].at:
            first[name] = mark
    return tuple(first.values())


def from_log(lines: Iterable[bytes], provenance: Provenance = "measured") -> tuple[Mark, ...]:
    """Give the first output of a container from its log with timestamps, which the node's runtime writes."""
    for line in lines:
        stamp, _, said = line.partition(b" ")
        at = moment(stamp.decode("ascii", "replace"))
        if at is not None and said.strip():
            return (Mark("first-output", at[0], "pod log", "node", 0.0, provenance),)
    return ()


def condition(thing: Object, kind: str, name: str, *, clock: Clock, provenance: Provenance) -> tuple[Mark, ...]:
    """Give a mark from a condition that is True."""
    for each in mappings(thing, "status", "conditions"):
        if each.get("type") == kind and each.get("status") == "True":
            return one(name, each.get("lastTransitionTime"), f"condition {kind}", clock, provenance)
    return ()


def one(name: str, text: Any, source: str, clock: Clock, provenance: Provenance) -> tuple[Mark, ...]:
    """Give a mark at a time of the API, if it is one."""
    at = moment(text)
    return () if at is None else (Mark(name, at[0], source, clock, at[1], provenance),)
