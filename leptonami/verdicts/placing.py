"""Whether the pods of a node could run elsewhere, as far as that can be told without the scheduler.

The autoscaler simulates the scheduler. Here each pod is held against every other node by itself: resources, node
selector, taints. If one fits nowhere, it fits nowhere for the scheduler either, so that "no place" is certain; the
opposite is not (affinity, volumes, and several pods that want the same place are not looked at).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from leptonami.readers.fields import mappings, text
from leptonami.readers.objects import Node, Pod, Taint

__all__ = ["TO_BE_DELETED", "Places"]

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
POD_COUNT = "pods"
Shape = tuple[tuple[tuple[str, Decimal], ...], tuple[tuple[str, str], ...], tuple[tuple[str, str, str, str], ...]]


@dataclass(frozen=True, slots=True)
class Room:
    """A node that pods could go to, and what is free on it."""

    node: Node
    free: Mapping[str, Decimal]
    taints: tuple[Taint, ...]


@dataclass(slots=True)
class Places:
    """The room in a cluster."""

    rooms: list[Room]
    raw: Mapping[tuple[str, str], Mapping[str, Any]]
    # Pods of one controller look alike: what fits one of them is asked once, not once for every pod and node.
    known: dict[Shape, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        nodes: Iterable[Node],
        pods_on: Mapping[str, list[Pod]],
        raw: Mapping[tuple[str, str], Mapping[str, Any]],
        *,
        is_gone: Callable[[Pod], bool],
    ) -> Places:
        """Add up what is free where."""
        rooms = []
        for node in nodes:
            if node.unschedulable or node.ready is False or node.deleted is not None:
                continue
            if any(each.key == TO_BE_DELETED for each in node.taints):
                continue
            staying = [each for each in pods_on.get(node.name, []) if not each.terminal and not is_gone(each)]
            free = dict(node.allocatable)
            for pod in staying:
                for name, amount in pod.requests.items():
                    free[name] = free.get(name, Decimal(0)) - amount
            if POD_COUNT in free:
                free[POD_COUNT] -= len(staying)
            hard = tuple(each for each in node.taints if each.effect in {"NoSchedule", "NoExecute"})
            rooms.append(Room(node, free, hard))
        return cls(rooms, raw)

    def elsewhere(self, pod: Pod, node: str) -> str | None:
        """Name another node that the pod could go to by itself; None if there is none."""
        shape = self.shape(pod)
        if shape not in self.known:
            fitting: list[str] = []
            for room in self.rooms:
                if self.fits(shape, room):
                    fitting.append(room.node.name)
                    if len(fitting) == 2:  # of two nodes, one is another than that which the pod is on
                        break
            self.known[shape] = tuple(fitting)
        return next((each for each in self.known[shape] if each != node), None)

    def shape(self, pod: Pod) -> Shape:
        """Say what a pod asks of a node."""
        tolerations = (
            (text(each, "key"), text(each, "operator") or "Equal", text(each, "value"), text(each, "effect"))
            for each in mappings(self.raw.get((pod.namespace, pod.name)), "spec", "tolerations")
        )
        asked = ((name, amount) for name, amount in pod.requests.items() if amount > 0)
        return tuple(sorted(asked)), tuple(sorted(pod.node_selector.items())), tuple(sorted(set(tolerations)))

    def fits(self, shape: Shape, room: Room) -> bool:
        """Hold what a pod asks against a node."""
        requests, selector, tolerations = shape
        if any(room.free.get(name, Decimal(0)) < amount for name, amount in requests):
            return False
        if room.free.get(POD_COUNT, Decimal(1)) < 1:
            return False
        if any(room.node.labels.get(key) != value for key, value in selector):
            return False
        return all(any(tolerates(each, taint) for each in tolerations) for taint in room.taints)


def tolerates(toleration: tuple[str, str, str, str], taint: Taint) -> bool:
    """Tell whether a toleration (key, operator, value, effect) is for a taint."""
    key, operator, value, effect = toleration
    if effect and effect != taint.effect:
        return False
    if operator == "Exists":
        return not key or key == taint.key
    return operator == "Equal" and key == taint.key and value == taint.value
