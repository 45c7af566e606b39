"""ReplicaSets: as many pods as asked for (pkg/controller/replicaset)."""

from __future__ import annotations

from collections import Counter

from leptonami.lab.conditions import condition, is_ready
from leptonami.lab.fleet.controllers.plans import (
    BURST,
    MADE,
    REMOVED,
    Create,
    Delete,
    Object,
    Plan,
    View,
    active,
    claim,
    count,
    created,
    epoch,
    leaving,
    phase,
    pod_of,
)
from leptonami.lab.fleet.matching import selects

__all__ = ["first_to_go", "reconcile"]

COST = "controller.kubernetes.io/pod-deletion-cost"


def _cost(pod: Object) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(COST, 0))
    except ValueError:
        return 0


def first_to_go(pods: list[Object]) -> list[Object]:
    """Sort pods by who is removed first (controller_utils.go, ActivePodsWithRanks).

    Without a node, pending, not ready, cheap to delete, with many siblings on their node, ready for a short time,
    restarted often, young.
    """
    siblings = Counter(pod["spec"].get("nodeName") for pod in pods)

    def order(pod: Object) -> tuple[object, ...]:
        node, ready = pod["spec"].get("nodeName"), is_ready(pod)
        since = condition(pod, "Ready").get("lastTransitionTime") if ready else None
        restarts = ((pod.get("status") or {}).get("containerStatuses")) or ()
        return (
            bool(node),
            {"Pending": 0, "Unknown": 1}.get(phase(pod), 2),
            ready,
            _cost(pod),
            -siblings[node] if node else 0,
            -epoch(since) if since else 0.0,
            -max((each.get("restartCount", 0) for each in restarts), default=0),
            -created(pod)[0],
            pod["metadata"]["name"],
        )

    return sorted(pods, key=order)


def reconcile(replicaset: Object, view: View) -> Plan:
    """Make or remove pods, and count them."""
    plan, spec = Plan(), replicaset["spec"]
    pods = active(claim(view, replicaset, "pods", plan))
    missing = int(spec.get("replicas", 1)) - len(pods)
    if not leaving(replicaset):
        new = pod_of(replicaset, spec["template"])
        plan.do(*[Create("pods", new, MADE)] * min(missing, BURST))
        if missing < 0:
            plan.do(*(Delete("pods", pod, REMOVED) for pod in first_to_go(pods)[: min(-missing, BURST)]))
    ready, available = count(pods, int(spec.get("minReadySeconds") or 0), view, plan)
    labels = {"matchLabels": spec["template"]["metadata"].get("labels") or {}}
    plan.status(
        "replicasets",
        replicaset,
        {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(selects(labels, pod["metadata"].get("labels") or {}) for pod in pods) or None,
            "readyReplicas": ready or None,
            "availableReplicas": available or None,
            "observedGeneration": replicaset["metadata"].get("generation", 1),
        },
    )
    return plan
