"""What is left behind: pods of nodes that are gone, pods that a lost Job holds (pkg/controller/podgc, job)."""

from __future__ import annotations

from leptonami.lab.fleet.controllers.jobs import released, stray
from leptonami.lab.fleet.controllers.plans import Delete, Object, Patch, Plan, View, finished, leaving

__all__ = ["reconcile"]

QUARANTINE_S = 40.0  # gc_controller.go quarantineTime: a node may come back


def reconcile(pod: Object, missing: float | None, view: View) -> Plan:
    """Remove a pod whose node has been missing for so many simulated seconds (None: it is there)."""
    plan = Plan()
    if leaving(pod) and stray(pod, view):
        plan.do(released(pod))
    if missing is None:
        return plan
    if missing < QUARANTINE_S:
        plan.look(QUARANTINE_S - missing)
        return plan
    if not finished(pod):
        now = view.stamp()
        reason = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": now,
        }
        others = (pod.get("status") or {}).get("conditions") or []
        body = {"status": {"phase": "Failed", "conditions": [*others, reason]}}
        plan.do(Patch("pods", pod, body, "status"))
    plan.do(Delete("pods", pod, grace=0))
    return plan
