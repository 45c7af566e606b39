"""PodDisruptionBudgets: how many pods may be evicted now (pkg/controller/disruption)."""

from __future__ import annotations

from leptonami.errors import InputError
from leptonami.lab.conditions import condition, is_ready
from leptonami.lab.fleet.controllers.plans import (
    Object,
    Plan,
    Tell,
    View,
    amount,
    controller_of,
    finished,
    leaving,
)
from leptonami.lab.fleet.matching import selects

__all__ = ["allowed", "reconcile"]

DISRUPTED_S = 120.0  # disruption.go DeletionTimeout: an evicted pod that is still there after it counts again
SCALED = {"ReplicaSet": "replicasets", "Deployment": "deployments"}


def _expected(pods: list[Object], view: View) -> int:
    """Give how many pods their controllers are to have; pods without one do not count."""
    found: dict[str, int] = {}
    for pod in pods:
        reference, namespace = controller_of(pod), pod["metadata"]["namespace"]
        while reference is not None and reference["uid"] not in found:
            plural = SCALED.get(reference["kind"])
            if plural is None:
                raise InputError(
                    f"{reference['kind'].lower()}s.{_group(reference)} does not implement the scale subresource"
                )
            owner = view.get(plural, namespace, reference["name"])
            if owner is None:
                break
            higher = controller_of(owner)
            if higher is None:
                found[reference["uid"]] = int(owner["spec"].get("replicas", 1))
            reference = higher
    return sum(found.values())


def _group(reference: Object) -> str:
    return str(reference["apiVersion"].rpartition("/")[0])


def needed(spec: Object, pods: list[Object], view: View) -> tuple[int, int]:
    """Give how many pods are expected, and how many of them must be healthy. Percentages are rounded up."""
    if spec.get("maxUnavailable") is not None:
        expected = _expected(pods, view)
        return expected, max(0, expected - amount(spec["maxUnavailable"], expected, up=True))
    least = spec.get("minAvailable", 1)
    if isinstance(least, str) and least.endswith("%"):
        expected = _expected(pods, view)
        return expected, amount(least, expected, up=True)
    return len(pods), int(least)


def allowed(expected: int, healthy: int, least: int) -> int:
    """Give how many pods may be evicted."""
    return max(0, healthy - least) if expected > 0 else 0


def reconcile(budget: Object, view: View) -> Plan:
    """Count pods, and forget evicted ones that stayed.

    The status is written only over the version that was read, since evictions write it too.
    """
    plan, spec, about = Plan(), budget["spec"], budget["metadata"]
    old = budget.get("status") or {}
    everything = view.all("pods", about["namespace"])
    pods = [
        pod
        for pod in everything
        if selects(spec.get("selector"), pod["metadata"].get("labels") or {}) and not finished(pod)
    ]
    status: Object = {"observedGeneration": about.get("generation", 1)}
    try:
        expected, least = needed(spec, pods, view)
    except (InputError, ValueError) as problem:
        status |= {
            "disruptionsAllowed": 0,
            "conditions": _conditions(budget, "False", "SyncFailed", str(problem), view),
        }
        for field in ("currentHealthy", "desiredHealthy", "expectedPods"):
            status.setdefault(field, old.get(field, 0))
    else:
        disrupted = _disrupted(plan, budget, pods, view)
        healthy = sum(is_ready(pod) and not leaving(pod) and pod["metadata"]["name"] not in disrupted for pod in pods)
        free = allowed(expected, healthy, least)
        gone = {name: None for name in old.get("disruptedPods") or {} if name not in disrupted}
        reason = "SufficientPods" if free else "InsufficientPods"
        status |= {
            "currentHealthy": healthy,
            "desiredHealthy": least,
            "expectedPods": expected,
            "disruptionsAllowed": free,
            "conditions": _conditions(budget, "True" if free else "False", reason, "", view),
        }
        if gone:
            status["disruptedPods"] = gone
    plan.status("poddisruptionbudgets", budget, status, guarded=True)
    return plan


def _disrupted(plan: Plan, budget: Object, pods: list[Object], view: View) -> dict[str, str]:
    """Give the pods whose eviction was granted and that are not being deleted yet."""
    here = {pod["metadata"]["name"]: pod for pod in pods}
    kept = {}
    for name, since in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        if name not in here or leaving(here[name]):
            continue
        left = DISRUPTED_S - view.age(since)
        if left > 0:
            kept[name] = since
            plan.look(left)
        else:
            about = budget["metadata"]
            text = f"Pod was expected by PDB {about['namespace']}/{about['name']} to be deleted but it wasn't"
            plan.do(Tell("NotDeleted", text, "Warning"))
    return kept


def _conditions(budget: Object, status: str, reason: str, message: str, view: View) -> list[Object]:
    old = condition(budget, "DisruptionAllowed")
    about = {
        "type": "DisruptionAllowed",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": budget["metadata"].get("generation", 1),
    }
    since = old.get("lastTransitionTime") if old.get("status") == status else None
    others = [each for each in (budget.get("status") or {}).get("conditions") or () if each["type"] != about["type"]]
    return [{**about, "lastTransitionTime": since or view.stamp()}, *others]
