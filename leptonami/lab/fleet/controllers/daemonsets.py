"""DaemonSets: one pod on each node that fits (pkg/controller/daemon).

Left out: `maxSurge` (a set that asks for it is updated with one pod unavailable at a time).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from leptonami.lab.fleet.controllers.plans import (
    BURST,
    MADE,
    REMOVED,
    Create,
    Delete,
    Object,
    Plan,
    Tell,
    View,
    amount,
    claim,
    count,
    created,
    finished,
    leaving,
    phase,
    pod_of,
    until_available,
)
from leptonami.lab.fleet.controllers.revisions import HASH, history
from leptonami.lab.fleet.fitting import pinned_to
from leptonami.lab.fleet.matching import node_matches, untolerated

__all__ = ["eligible", "reconcile"]

AGAIN_S = 10.0  # the age at which a daemon's pod that ended is replaced; the controller's own back-off is 1 s to 15 min
GENERATION = "pod-template-generation"
# util.AddOrUpdateDaemonPodTolerations: a daemon stays on, and comes to, a node in trouble.
TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def tolerations(spec: Object) -> list[Object]:
    """Give a template's tolerations with those that every daemon has."""
    added = [*TOLERATED, NETWORK] if spec.get("hostNetwork") else TOLERATED
    more = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in added]
    return [*(spec.get("tolerations") or []), *(each for each in more if each not in (spec.get("tolerations") or []))]


def eligible(spec: Object, node: Object) -> tuple[bool, bool]:
    """Tell whether a node should get a pod, and whether one there may stay (`nodeShouldRunDaemonPod`)."""
    about = node["metadata"]
    if spec.get("nodeName") not in (None, "", about["name"]):
        return False, False
    if not node_matches(spec, about["name"], about.get("labels") or {}):
        return False, False
    bad = untolerated(spec["tolerations"], (node.get("spec") or {}).get("taints") or (), "NoSchedule", "NoExecute")
    return not bad, not any(taint["effect"] == "NoExecute" for taint in bad)


def _node_of(pod: Object) -> str:
    return pod["spec"].get("nodeName") or pinned_to(pod["spec"]) or ""


def _pod_for(daemonset: Object, spec: Object, node: str, current: str) -> Object:
    """Make the pod for a node: its affinity names the node, and takes the place of the template's terms."""
    affinity: dict[str, Any] = {**(spec.get("affinity") or {})}
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]},
    }
    template = {**daemonset["spec"]["template"], "spec": {**spec, "affinity": affinity}}
    labels = {HASH: current, GENERATION: str(daemonset["metadata"].get("generation", 1))}
    return pod_of(daemonset, template, labels)


@dataclass
class _Sync:
    """One look at a DaemonSet: of each node whether a pod should and may be there, and its pods by node."""

    plan: Plan
    view: View
    daemonset: Object
    spec: Object
    nodes: dict[str, tuple[bool, bool]]
    pods: dict[str, list[Object]]
    hash: str
    seconds: int

    def place(self) -> None:
        """Make a pod where there is none, and remove what is too many or not to be there (`podsShouldBeOnNode`)."""
        made: list[Create] = []
        for name, (wanted, stays) in self.nodes.items():
            here = [pod for pod in self.pods.get(name, ()) if not leaving(pod)]
            running = [pod for pod in here if not finished(pod)]
            over = running[1:] if stays else running
            over += [pod for pod in here if finished(pod) and self._ended(pod, name)]
            self.plan.do(*(Delete("pods", pod, REMOVED) for pod in over))
            if wanted and not self.pods.get(name):
                made.append(Create("pods", _pod_for(self.daemonset, self.spec, name, self.hash), MADE))
        self.plan.do(*made[:BURST])
        if len(made) > BURST:
            self.plan.look(0.0)
        for name in self.pods.keys() - self.nodes.keys():
            # A pod that was bound there is the business of the collector of orphaned pods.
            lost = [pod for pod in self.pods[name] if not pod["spec"].get("nodeName") and not leaving(pod)]
            self.plan.do(*(Delete("pods", pod, REMOVED) for pod in lost))

    def _ended(self, pod: Object, node: str) -> bool:
        """Say that a pod has ended; tell whether it is to be removed already."""
        about, failed = pod["metadata"], phase(pod) == "Failed"
        left = AGAIN_S - self.view.age(about["creationTimestamp"])
        if left > 0:
            self.plan.look(left)
            return False
        word, act = ("failed", "kill") if failed else ("succeeded", "delete")
        text = f"Found {word} daemon pod {about['namespace']}/{about['name']} on node {node}, will try to {act} it"
        self.plan.do(Tell(f"{word.capitalize()}DaemonPod", text, "Warning" if failed else "Normal"))
        return True

    def roll(self) -> None:
        """Remove old pods: all that are not available, and of the others as many as may be unavailable (update.go)."""
        strategy = self.daemonset["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        wanted = [name for name, (runs, _) in self.nodes.items() if runs]
        limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable")
        may = max(1, amount(limit, len(wanted), up=True, default=1))
        unavailable, sick, candidates = 0, list[Object](), list[Object]()
        for name in wanted:
            here = self.pods.get(name, [])
            if len(here) != 1 or leaving(here[0]) or finished(here[0]):
                unavailable += 1
                continue
            available = until_available(here[0], self.seconds, self.view) == 0
            unavailable += not available
            if not self._is_new(here[0]):
                (candidates if available else sick).append(here[0])
        going = sick + candidates[: max(0, may - unavailable)]
        self.plan.do(*(Delete("pods", pod, REMOVED) for pod in going))

    def count(self) -> None:
        """Set the status."""
        wanted = {name for name, (runs, _) in self.nodes.items() if runs}
        oldest = [here[0] for name, here in self.pods.items() if name in wanted]
        living = [pod for pod in oldest if not leaving(pod)]
        ready, available = count(living, self.seconds, self.view, self.plan)
        others = [here for name, here in self.pods.items() if name in self.nodes and name not in wanted]
        self.plan.status(
            "daemonsets",
            self.daemonset,
            {
                "desiredNumberScheduled": len(wanted),
                "currentNumberScheduled": len(oldest),
                "numberMisscheduled": sum(not all(map(leaving, here)) for here in others),
                "numberReady": ready,
                "numberAvailable": available or None,
                "numberUnavailable": len(wanted) - available or None,
                "updatedNumberScheduled": sum(map(self._is_new, living)) or None,
                "observedGeneration": self.daemonset["metadata"].get("generation", 1),
            },
        )

    def _is_new(self, pod: Object) -> bool:
        return bool((pod["metadata"].get("labels") or {}).get(HASH) == self.hash)


def reconcile(daemonset: Object, view: View) -> Plan:
    """Make the pods that are missing, remove those that are too many, roll the others, and count."""
    plan, template = Plan(), daemonset["spec"]["template"]["spec"]
    spec = {**template, "tolerations": tolerations(template)}
    nodes = {node["metadata"]["name"]: eligible(spec, node) for node in view.all("nodes") if not leaving(node)}
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in sorted(claim(view, daemonset, "pods", plan), key=created):
        pods[_node_of(pod)].append(pod)
    name = daemonset["metadata"]["name"]
    used = {f"{name}-{pod['metadata']['labels'].get(HASH)}" for here in pods.values() for pod in here}
    current = history(daemonset, view, plan, used)
    seconds = int(daemonset["spec"].get("minReadySeconds") or 0)
    sync = _Sync(plan, view, daemonset, spec, nodes, pods, current, seconds)
    if not leaving(daemonset):
        sync.place()
        sync.roll()
    sync.count()
    return plan
