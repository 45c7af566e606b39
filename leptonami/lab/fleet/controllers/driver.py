"""Calls the controllers: which object is to be looked at when, and what comes of it.

An object is looked at when it, one of its children or what it depends on has changed, or when it asked for it. All that
takes at most a fifth of the loop's time: with thousands of pods, an object is looked at less often than it changes.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from leptonami.lab.fleet.cluster import Cluster, Key
from leptonami.lab.fleet.controllers import budgets, daemonsets, deployments, jobs, orphans, replicasets
from leptonami.lab.fleet.controllers.plans import Create, Delete, Object, Patch, Plan, Tell, View, controller_of, epoch
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.matching import selects

__all__ = ["PLURALS", "Workloads"]

# plural: kind, API version, controller, the component that its events name.
KINDS: dict[str, tuple[str, str, Callable[[Object, View], Plan], str]] = {
    "daemonsets": ("DaemonSet", "apps/v1", daemonsets.reconcile, "daemonset-controller"),
    "deployments": ("Deployment", "apps/v1", deployments.reconcile, "deployment-controller"),
    "replicasets": ("ReplicaSet", "apps/v1", replicasets.reconcile, "replicaset-controller"),
    "jobs": ("Job", "batch/v1", jobs.reconcile, "job-controller"),
    "poddisruptionbudgets": ("PodDisruptionBudget", "policy/v1", budgets.reconcile, "controllermanager"),
}
PLURALS = (
    ("", "v1", "nodes"),
    ("", "v1", "pods"),
    ("apps", "v1", "controllerrevisions"),
    ("apps", "v1", "daemonsets"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "replicasets"),
    ("batch", "v1", "jobs"),
    ("policy", "v1", "poddisruptionbudgets"),
)
BY_KIND = {kind: plural for plural, (kind, *_) in KINDS.items()}
ADOPTING = {"pods": ("daemonsets", "replicasets"), "replicasets": ("deployments",)}
TURN_S = 0.2  # of this machine: then the other controllers have their turn
FLOOR_S = 0.05  # of this machine: nothing is looked at more often without a change
PAUSE = 4  # times what a turn took
WRONG_S = 60.0  # until an object that made no sense is looked at again
REFUSED_S, REFUSED_MAX_S = 1.0, 60.0  # back-off when the server does not take what a controller makes


@dataclass
class Seen:
    """The cluster as a controller sees it."""

    cluster: Cluster
    clock: Clock
    loose: dict[tuple[str, str], set[str]]

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        return self.cluster.all(plural, namespace)

    def get(self, plural: str, namespace: str | None, name: str) -> Object | None:
        return self.cluster.get(plural, namespace, name)

    def children(self, owner: Object, plural: str) -> list[Object]:
        found, place = self.cluster.by_owner(owner["metadata"].get("uid", "")), owner["metadata"]["namespace"]
        return [each for each in found if self.cluster.get(plural, place, each["metadata"]["name"]) is each]

    def orphans(self, plural: str, namespace: str) -> list[Object]:
        names = self.loose.get((plural, namespace), ())
        return [found for name in names if (found := self.cluster.get(plural, namespace, name)) is not None]

    def stamp(self) -> str:
        return self.clock.stamp()

    def age(self, stamp: str) -> float:
        return (self.clock.wall() - epoch(stamp)) * self.clock.speed


@dataclass
class Workloads:
    """The controllers of workloads and budgets, and the collector of what they leave, as one controller of the loop."""

    clock: Clock
    _due: dict[Key, float] = field(default_factory=dict)
    _owner: dict[Key, Key] = field(default_factory=dict)
    _loose: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    _made: dict[Key, set[Key]] = field(default_factory=dict)
    _refused: dict[Key, int] = field(default_factory=dict)
    _nodes: dict[str, object] = field(default_factory=dict)
    _missing: dict[str, float] = field(default_factory=dict)
    _pause: float = 0.0

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        """Look at what is due."""
        view = Seen(cluster, self.clock, self._loose)
        for change in changes:
            self._note(cluster, change, now)
        began = time.monotonic()
        for key in [] if now < self._pause else [key for key, when in self._due.items() if when <= now]:
            if time.monotonic() - began > TURN_S:
                break
            del self._due[key]
            self._look(cluster, view, key, now)
        self._pause = max(self._pause, now + self.clock.speed * PAUSE * (time.monotonic() - began))
        soonest = min(self._due.values(), default=math.inf)
        return None if math.isinf(soonest) else max(0.0, soonest - now, self._pause - now)

    def _mark(self, key: Key, when: float) -> None:
        self._due[key] = min(self._due.get(key, math.inf), when)

    def _note(self, cluster: Cluster, change: Key, now: float) -> None:
        """Mark what has to be looked at because of a change."""
        plural, namespace, name = change
        if plural == "nodes":
            self._node(cluster, name, now)
            return
        obj = cluster.get(*change)
        if plural in KINDS:
            self._mark(change, now)
        if plural in {"pods", "replicasets", "controllerrevisions", "jobs"}:
            self._child(cluster, change, obj, now)
        if plural == "pods":
            for budget in cluster.all("poddisruptionbudgets", namespace):
                self._mark(("poddisruptionbudgets", namespace, budget["metadata"]["name"]), now)
            node = obj["spec"].get("nodeName") if obj else None
            if obj and (obj["metadata"].get("deletionTimestamp") or (node and node not in self._nodes)):
                self._mark(change, now)

    def _child(self, cluster: Cluster, change: Key, obj: Object | None, now: float) -> None:
        plural, namespace, name = change
        reference = controller_of(obj) if obj else None
        keys = {old} if (old := self._owner.pop(change, None)) else set()
        if reference and reference["kind"] in BY_KIND:
            self._owner[change] = (BY_KIND[reference["kind"]], namespace, reference["name"])
            keys.add(self._owner[change])
        for key in keys:
            self._mark(key, now)
        if obj is None or reference:
            self._loose[plural, namespace].discard(name)
        elif plural in ADOPTING:
            self._loose[plural, namespace].add(name)
            labels = obj["metadata"].get("labels") or {}
            for kind in ADOPTING[plural]:
                for each in cluster.all(kind, namespace):
                    if selects(each["spec"].get("selector"), labels):
                        self._mark((kind, namespace, each["metadata"]["name"]), now)

    def _node(self, cluster: Cluster, name: str, now: float) -> None:
        """Tell the DaemonSets only what they ask about: a heartbeat is none of it."""
        node = cluster.get("nodes", None, name)
        if node is None:
            known = self._nodes.pop(name, None)
            for pod in cluster.by_node(name):
                self._mark(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]), now)
        else:
            self._missing.pop(name, None)
            known = self._nodes.get(name)
            spec, about = node.get("spec") or {}, node["metadata"]
            self._nodes[name] = (about.get("labels"), spec.get("taints"), bool(about.get("deletionTimestamp")))
        if known != self._nodes.get(name):
            for each in cluster.all("daemonsets"):
                self._mark(("daemonsets", each["metadata"]["namespace"], each["metadata"]["name"]), now)

    def _look(self, cluster: Cluster, view: Seen, key: Key, now: float) -> None:
        """Have one object reconciled, and carry out what comes of it."""
        plural, namespace, name = key
        obj = cluster.get(plural, namespace, name)
        if obj is None or not obj["metadata"].get("uid"):
            self._made.pop(key, None)
            self._refused.pop(key, None)
            return
        if plural == "pods":
            plan, component = orphans.reconcile(obj, self._gone(obj, now), view), "pod-garbage-collector"
        else:
            if (wait := self._backoff(cluster, key)) > 0:
                self._due[key] = now + wait
                return
            kind, version, reconcile, component = KINDS[plural]
            obj = {**obj, "kind": kind, "apiVersion": version}
            plan = self._plan(reconcile, obj, view)
        for action in plan.actions:
            self._do(cluster, key, obj, action, component)
        if key in self._made:
            self._mark(key, now + self.clock.again(REFUSED_S))
        if plan.again is not None:
            self._mark(key, now + max(plan.again, FLOOR_S * self.clock.speed))

    def _plan(self, reconcile: Callable[[Object, View], Plan], obj: Object, view: Seen) -> Plan:
        """Have an object reconciled; one that makes no sense must not stop the others, and is told so."""
        try:
            return reconcile(obj, view)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            text = f"leptonami lab: {type(problem).__name__}: {problem}"
            return Plan([Tell("FailedSync", text, "Warning")], self.clock.again(WRONG_S))

    def _gone(self, pod: Object, now: float) -> float | None:
        """Give for how long a pod's node has been missing."""
        node = pod["spec"].get("nodeName")
        if not node or node in self._nodes:
            return None
        return now - self._missing.setdefault(node, now)

    def _backoff(self, cluster: Cluster, key: Key) -> float:
        """Give how long to wait because the server did not take what was made: it is not there and never had a uid."""
        made = self._made.pop(key, set())
        found = {child: cluster.get(*child) for child in made}
        waiting = {child for child, obj in found.items() if obj is not None and not obj["metadata"].get("uid")}
        if waiting:
            self._made[key] = waiting
        if any(obj is None for obj in found.values()):
            self._refused[key] = self._refused.get(key, 0) + 1
            seconds = min(REFUSED_S * 2 ** (self._refused[key] - 1), REFUSED_MAX_S)
            return self.clock.again(seconds)
        if found and not waiting:
            self._refused.pop(key, None)
        return 0.0

    def _do(
        self, cluster: Cluster, key: Key, obj: Object, action: Create | Patch | Delete | Tell, component: str
    ) -> None:
        about, name = obj["metadata"], ""
        event = action if isinstance(action, Tell) else None
        match action:
            case Create(plural, new, event):
                name = cluster.create(plural, new)
                self._made.setdefault(key, set()).add((plural, about.get("namespace") or "", name))
            case Patch(plural, old, body, subresource):
                meta = old["metadata"]
                cluster.patch(plural, meta.get("namespace"), meta["name"], body, subresource)
            case Delete(plural, old, event, grace):
                name = old["metadata"]["name"]
                cluster.delete(plural, old["metadata"].get("namespace"), name, grace)
        if event:
            cluster.event(obj, event.type, event.reason, event.message.replace("{name}", name), component)
