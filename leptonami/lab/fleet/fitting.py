"""Whether a pod fits a node, why not, and how well: the scheduler's filters and scores, as functions of two values.

A `Demand` is what a pod asks for, a `Room` what a node has left. The filters, their order and their words are
kube-scheduler's (`pkg/scheduler/framework/plugins`): NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts,
NodeResourcesFit. The score is NodeResourcesFit's LeastAllocated, with preferred node affinity (weight 2) and
PreferNoSchedule taints (weight 3).
Quantities are integers in thousandths (millicores, milli-bytes), so that nothing is rounded down.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_UP
from functools import lru_cache
from typing import Any, Self
from zlib import crc32

import orjson

from leptonami.lab.fleet.matching import node_matches, required_terms, term_matches, untolerated
from leptonami.readers.quantity import parse_quantity

__all__ = ["UNSCHEDULABLE", "Demand", "Refusal", "Room", "milli", "refusal", "requests", "score"]

Object = dict[str, Any]

# What LeastAllocated takes for a container that asks for nothing (util.DefaultMilliCPURequest, DefaultMemoryRequest):
# without it all pods without requests would go to one node.
ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024 * 1000}
VERSIONS = itertools.count(1)
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@lru_cache(maxsize=4096)
def milli(quantity: str | int | float) -> int:
    """Give a Kubernetes quantity in thousandths, rounded up. What cannot be read asks for nothing."""
    found = parse_quantity(quantity)
    return 0 if found is None else int((found * 1000).to_integral_value(ROUND_UP))


def _asked(container: Mapping[str, Any], assumed: Mapping[str, int]) -> dict[str, int]:
    """Give a container's requests; a limit without a request is one, as the API server's defaults have it."""
    resources = container.get("resources") or {}
    named = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {**assumed, **{name: milli(value) for name, value in named.items()}}


def _add(into: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    for name, value in more.items():
        into[name] = into.get(name, 0) + value
    return into


def requests(spec: Mapping[str, Any], assumed: Mapping[str, int] | None = None) -> dict[str, int]:
    """Give what a pod asks for in thousandths: containers and sidecars together, or the largest moment of the start-up.

    Init containers run one after the other, beside the sidecars (`restartPolicy: Always`) started before them. The
    pod's own `resources` take the place of the sum, and `overhead` comes on top.
    """
    assumed, running, peak = assumed or {}, dict[str, int](), dict[str, int]()
    for container in spec.get("initContainers") or ():
        asked = _asked(container, assumed)
        moment = _add(running if container.get("restartPolicy") == "Always" else dict(running), asked)
        peak = {name: max(moment.get(name, 0), peak.get(name, 0)) for name in moment | peak}
    for container in spec.get("containers") or ():
        _add(running, _asked(container, assumed))
    total = {name: max(running.get(name, 0), peak.get(name, 0)) for name in running | peak}
    total |= _asked(spec, {})
    return _add(total, {name: milli(value) for name, value in (spec.get("overhead") or {}).items()})


@dataclass(slots=True, eq=False)
class Demand:
    """What a pod asks of a node. Pods of one template share one."""

    spec: Object
    requests: dict[str, int]
    weighed: dict[str, int]
    ports: frozenset[tuple[str, str, int]]
    tolerations: list[Object]
    preferred: list[Object]
    pinned: str | None
    neighbours: bool

    @staticmethod
    def key(pod: Mapping[str, Any]) -> tuple[str | None, bytes]:
        """Give what makes two pods alike: the node that a DaemonSet pins it to, and the rest as bytes."""
        spec = pod["spec"]
        pinned, affinity = pinned_to(spec), spec.get("affinity")
        parts: list[Any] = [
            [
                [each.get("resources"), each.get("restartPolicy"), each.get("ports")]
                for each in spec.get(containers) or ()
            ]
            for containers in ("initContainers", "containers")
        ]
        parts += [spec.get(name) for name in ("resources", "overhead", "nodeSelector", "tolerations")]
        neighbours = any(name != "nodeAffinity" for name in affinity or ())
        parts += [
            None if pinned and not neighbours else affinity,
            [pod["metadata"].get("namespace"), pod["metadata"].get("labels")] if neighbours else None,
        ]
        return pinned, orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> Self:
        """Read a pod."""
        spec = pod["spec"]
        affinity = spec.get("affinity") or {}
        ports = {
            (port.get("protocol") or "TCP", port.get("hostIP") or "0.0.0.0", port["hostPort"])  # noqa: S104 - a value
            for container in spec.get("containers") or ()
            for port in container.get("ports") or ()
            if port.get("hostPort")
        }
        weighed = requests(spec, ASSUMED)
        return cls(
            spec=spec,
            requests={name: value for name, value in requests(spec).items() if value},
            weighed={name: weighed.get(name, 0) for name in ASSUMED},
            ports=frozenset(ports),
            tolerations=spec.get("tolerations") or [],
            preferred=(affinity.get("nodeAffinity") or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or [],
            pinned=pinned_to(spec),
            neighbours=bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity")),
        )


def pinned_to(spec: Mapping[str, Any]) -> str | None:
    """Give the only node that a pod's affinity names, if there is one: how the DaemonSet controller places pods."""
    terms = required_terms(spec)
    fields: list[Object] = (terms[0].get("matchFields") or []) if terms and len(terms) == 1 else []
    if len(fields) != 1 or fields[0].get("operator") != "In" or len(fields[0].get("values") or ()) != 1:
        return None
    return str(fields[0]["values"][0])


@dataclass(slots=True)
class Room:
    """What a node has, and what its pods take of it. `version` changes with everything that a score depends on."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[Object] = field(default_factory=list)
    unschedulable: bool = False
    allocatable: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    weighed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ASSUMED, 0))
    ports: list[tuple[str, str, int]] = field(default_factory=list)
    pods: int = 0
    version: int = 0
    known: bool = False

    def describe(self, node: Mapping[str, Any]) -> bool:
        """Take over what a Node says; tell whether anything changed that the scheduler looks at."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        given = status.get("allocatable") or status.get("capacity") or {}
        new = (
            node["metadata"].get("labels") or {},
            spec.get("taints") or [],
            bool(spec.get("unschedulable")),
            {name: milli(value) for name, value in given.items()},
        )
        if self.known and new == (self.labels, self.taints, self.unschedulable, self.allocatable):
            return False
        self.labels, self.taints, self.unschedulable, self.allocatable = new
        self.known = True
        self.touch()
        return True

    def touch(self) -> None:
        """Note that whatever was worked out about the node is out of date."""
        self.version = next(VERSIONS)

    def take(self, demand: Demand, sign: int = 1) -> None:
        """Count a pod in, or out with `sign=-1`."""
        for name, value in demand.requests.items():
            self.used[name] = self.used.get(name, 0) + sign * value
        for name, value in demand.weighed.items():
            self.weighed[name] += sign * value
        for port in demand.ports:
            if sign > 0:
                self.ports.append(port)
            elif port in self.ports:
                self.ports.remove(port)
        self.pods += sign
        self.touch()


@dataclass(frozen=True)
class Refusal:
    """Why a node does not take a pod; `final` when the removal of other pods would not help."""

    reasons: tuple[str, ...]
    final: bool


def _clash(ports: frozenset[tuple[str, str, int]], taken: list[tuple[str, str, int]]) -> bool:
    return any(
        port == other and protocol == its and (address == there or "0.0.0.0" in (address, there))  # noqa: S104 - a value
        for protocol, address, port in ports
        for its, there, other in taken
    )


def refusal(demand: Demand, room: Room) -> Refusal | None:
    """Say why a node does not take a pod, in the words of the first filter that refuses; None if it fits."""
    if room.unschedulable and untolerated(demand.tolerations, [UNSCHEDULABLE], "NoSchedule"):
        return Refusal(("node(s) were unschedulable",), True)
    if room.taints and (bad := untolerated(demand.tolerations, room.taints, "NoSchedule", "NoExecute")):
        taint = bad[0]
        return Refusal((f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}",), True)
    if not node_matches(demand.spec, room.name, room.labels):
        return Refusal(("node(s) didn't match Pod's node affinity/selector",), True)
    if demand.ports and _clash(demand.ports, room.ports):
        return Refusal(("node(s) didn't have free ports for the requested pod ports",), False)
    return _short(demand, room)


def _short(demand: Demand, room: Room) -> Refusal | None:
    reasons, final = [], False
    if (room.pods + 1) * 1000 > room.allocatable.get("pods", 0):
        reasons.append("Too many pods")
    for name, value in demand.requests.items():
        has = room.allocatable.get(name, 0)
        if value > has - room.used.get(name, 0):
            reasons.append(f"Insufficient {name}")
            final = final or value > has
    return Refusal(tuple(reasons), final) if reasons else None


def score(demand: Demand, room: Room) -> float:
    """Say how well a node that takes a pod suits it: the more is left over and the more wishes hold, the higher."""
    free = 0.0
    for name, asked in demand.weighed.items():
        has = room.allocatable.get(name, 0)
        free += max(0.0, (has - room.weighed[name] - asked) / has) if has else 0.0
    total = 100 * free / len(ASSUMED)
    if demand.preferred:
        held = sum(
            item["weight"]
            for item in demand.preferred
            if term_matches(item.get("preference") or {}, room.name, room.labels)
        )
        total += 2 * 100 * held / max(1, sum(item["weight"] for item in demand.preferred))
    if room.taints:
        total -= 3 * 100 * min(1, len(untolerated(demand.tolerations, room.taints, "PreferNoSchedule")))
    return total


def tie(name: str) -> int:
    """Give an order among equal nodes that is not that of their names, and the same in every run."""
    return crc32(name.encode())
