"""The node controller: silence makes a Node unknown, cordoned ones get their taint, NoExecute taints evict pods.

https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller and
https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions. It goes by the
kubelets' heartbeats themselves and not by their leases, which say the same, so that it judges the fleet's own nodes
only. Cordoning is seen to on every Node. Where a controller manager does so too, both want the same of the version that
they saw, and who is second finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonami.lab.conditions import condition, is_ready
from leptonami.lab.fleet.cluster import Cluster, Key, Object
from leptonami.lab.fleet.fitting import UNSCHEDULABLE
from leptonami.lab.fleet.kubelet import Kubelets
from leptonami.lab.fleet.launch import Model
from leptonami.lab.fleet.loop import Agenda, Clock
from leptonami.lab.fleet.matching import tolerates
from leptonami.lab.fleet.nodes import NOT_READY, UNREACHABLE

__all__ = ["Lifecycle", "retainted", "tolerated"]

STOPPED = "Kubelet stopped posting node status."
BY_READY = {"False": NOT_READY, "Unknown": UNREACHABLE}
EFFECTS = ("NoSchedule", "NoExecute")


@dataclass
class Lifecycle:
    """The controller."""

    clock: Clock
    model: Model
    cluster: Cluster
    kubelets: Kubelets
    interval: Callable[[], float] = lambda: 10.0
    agenda: Agenda = field(default_factory=Agenda)
    _heard: dict[str, float] = field(default_factory=dict)
    _watched: set[str] = field(default_factory=set)
    _tainted: set[str] = field(default_factory=set)
    _evicting: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        """See to taints that have changed, and do what is due."""
        for plural, namespace, name in changes:
            if plural == "nodes":
                self.node(name)
            elif plural == "pods":
                pod = cluster.get("pods", namespace, name)
                if pod and (node := cluster.get("nodes", None, pod["spec"].get("nodeName") or "")):
                    self.pod(pod, no_execute(node))
        return self.agenda.run(now)

    def grace(self) -> float:
        """Give how long a kubelet may be silent: four of its intervals, as the defaults are 40 and 10 s."""
        return max(self.model.wait("unreachable"), 4 * self.interval())

    def heard(self, name: str) -> None:
        """Note that a kubelet gave a sign of life."""
        self._heard[name] = self.clock.now()
        if name not in self._watched:
            self._watched.add(name)
            self.agenda.at(self.clock.now() + self.grace(), lambda: self.check(name))

    def check(self, name: str) -> None:
        """See whether a kubelet has been silent for too long."""
        if name not in self.kubelets.hosts:
            self._watched.discard(name)
            self._heard.pop(name, None)
            return
        left = self._heard[name] + self.grace() - self.clock.now()
        if left > 0:
            self.agenda.at(self.clock.now() + left, lambda: self.check(name))
            return
        self._watched.discard(name)  # its next sign of life puts it back
        self.unknown(name)

    def unknown(self, name: str) -> None:
        """Say that nobody knows how a Node is."""
        found = self.cluster.get("nodes", None, name)
        if found is None:
            return
        now = self.clock.stamp()
        doubt = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": STOPPED, "lastTransitionTime": now}
        known = [{**each, **doubt} for each in found["status"].get("conditions") or ()]
        about = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name}}
        message = f"Node {name} status is now: NodeNotReady"
        self.cluster.event(about, "Normal", "NodeNotReady", message, "node-controller")
        self.cluster.patch("nodes", None, name, {"status": {"conditions": known}}, "status")
        for pod in self.cluster.by_node(name):
            place, own = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if is_ready(pod):
                held = pod["status"]["conditions"]
                lost = {"status": "False", "lastTransitionTime": now}
                doubtful = [{**each, **lost} if each["type"] == "Ready" else each for each in held]
                self.cluster.patch("pods", place, own, {"status": {"conditions": doubtful}}, "status")

    # --- taints -------------------------------------------------------------------------------------------------------

    def node(self, name: str) -> None:
        """Keep a Node's taints as it is, and evict what does not tolerate them."""
        found, ours = self.cluster.get("nodes", None, name), name in self.kubelets.hosts
        taints = no_execute(found) if found else []
        if found and retainted(found, "", ours=ours):
            now = self.clock.stamp()
            self.cluster.modify("nodes", None, name, lambda node: retainted(node, now, ours=ours))
        if taints or name in self._tainted:
            for pod in self.cluster.by_node(name):
                self.pod(pod, taints)
        (self._tainted.add if taints else self._tainted.discard)(name)

    def pod(self, pod: Object, taints: list[Object]) -> None:
        """Have a pod evicted when its tolerations are used up."""
        about = pod["metadata"]
        key = about["namespace"], about["name"]
        wait = tolerated(pod["spec"].get("tolerations") or (), taints) if taints else None
        if wait is None or "deletionTimestamp" in about or not about.get("uid"):
            self._evicting.pop(key, None)
            return
        planned = self._evicting.get(key)
        due = self.clock.now() + wait
        if planned and planned[0] == about["uid"] and planned[1] <= due:
            return
        self._evicting[key] = about["uid"], due
        self.agenda.at(due, lambda: self.evict(key, about["uid"], due))

    def evict(self, key: tuple[str, str], uid: str, due: float) -> None:
        """Evict a pod, unless that was called off."""
        if self._evicting.get(key) != (uid, due):
            return
        del self._evicting[key]
        found = self.cluster.get("pods", *key)
        if found and found["metadata"].get("uid") == uid:
            about = {"kind": "Pod", "apiVersion": "v1", **found}
            message = f"Marking for deletion Pod {key[0]}/{key[1]}"
            self.cluster.event(about, "Normal", "TaintManagerEviction", message, "taint-eviction-controller")
            self.cluster.delete("pods", *key)


def retainted(found: Object, now: str, *, ours: bool) -> Object | None:
    """Give the patch for the taints that a Node is to have; None if it has them.

    Parameters
    ----------
    ours
        Whether its Ready condition is to be followed too, and not only whether it is cordoned.
    """
    spec = found.get("spec", {})
    held, cordoned = spec.get("taints") or [], (UNSCHEDULABLE["key"], UNSCHEDULABLE["effect"])
    managed, wanted = {cordoned}, {cordoned} if spec.get("unschedulable") else set()
    if ready := ours and condition(found, "Ready").get("status"):
        managed |= {(key, effect) for key in BY_READY.values() for effect in EFFECTS}
        wanted |= {(BY_READY[ready], effect) for effect in EFFECTS if ready in BY_READY}
    has = managed & {(each["key"], each["effect"]) for each in held}
    if has == wanted:
        return None
    kept = [each for each in held if (each["key"], each["effect"]) not in managed - wanted]
    added = [{"key": key, "effect": effect, "timeAdded": now} for key, effect in sorted(wanted - has, reverse=True)]
    return {"spec": {"taints": [*kept, *added] or None}}


def no_execute(node: Object) -> list[Object]:
    """Give a Node's taints that evict."""
    return [each for each in node.get("spec", {}).get("taints") or () if each["effect"] == "NoExecute"]


def tolerated(tolerations: Iterable[Mapping[str, Any]], taints: Iterable[Mapping[str, Any]]) -> float | None:
    """Give how many seconds a pod may stay on a node with these taints; None for ever."""
    shortest: float | None = None
    for taint in taints:
        fitting = [each for each in tolerations if tolerates(each, taint)]
        if not fitting:
            return 0.0
        limits = [float(each["tolerationSeconds"]) for each in fitting if each.get("tolerationSeconds") is not None]
        if limits:
            shortest = min([max(0.0, min(limits)), *([] if shortest is None else [shortest])])
    return shortest
