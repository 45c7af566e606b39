"""Subresources: what may be changed through each, and those that act: binding, eviction, scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leptonami.lab.conditions import is_ready
from leptonami.lab.kube import errors
from leptonami.lab.kube.errors import ApiError, Cause
from leptonami.lab.kube.objects import Object, clone, drop, put, timestamp, value_at
from leptonami.lab.kube.options import DeleteOptions, Options
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.selectors import label_matcher, selector_text

if TYPE_CHECKING:
    from leptonami.lab.kube.store import Store

__all__ = ["bind", "counts", "evict", "rescale", "restrict", "scale", "watch_problem"]

KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName")
DISRUPTION = "Cannot evict pod as it would violate the pod's disruption budget."
MAX_DISRUPTED = 2000
# What of the metadata comes with a status, by group or resource: these keep only their spec, a Deployment its labels
# too (`PrepareForUpdate` of pkg/registry/*/*/strategy.go). The others, and custom resources, keep all.
STATUS_WITH = {
    **dict.fromkeys(("", "apps", "batch", "policy"), ("annotations", "labels")),
    "deployments.apps": ("annotations",),
}


def restrict(kind: Kind, old: Object, new: Object, subresource: str) -> None:
    """Take back what a request may not change: the server's own metadata, and what another subresource is for.

    Raises
    ------
    ApiError
        409: the request is about another version of the object, or another object of that name.
    """
    meta, before = new["metadata"], old["metadata"]
    name = before["name"]
    if meta.get("resourceVersion") not in {None, "", "0", before["resourceVersion"]}:
        raise errors.conflict(kind.group, kind.plural, name)
    if meta.get("uid") not in {None, "", before["uid"]}:
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before['uid']}"
        raise errors.conflict(kind.group, kind.plural, name, why)
    for key in (*KEPT, "resourceVersion"):
        meta.pop(key, None)
        if key in before:
            meta[key] = before[key]
    if "managedFields" not in meta and "managedFields" in before:
        meta["managedFields"] = before["managedFields"]
    if subresource in {"status", "finalize"}:
        status, spec = new.get("status"), new.get("spec") or {}
        for key in new.keys() - {"metadata", "apiVersion", "kind"}:
            del new[key]
        new.update(drop(old, "metadata", "status"))
        if subresource == "finalize":
            status = old.get("status")
            new["spec"] = {**new.get("spec", {}), "finalizers": spec.get("finalizers") or []}
        if status is not None:
            new["status"] = status
        shown = ("managedFields", *STATUS_WITH.get(kind.storage, STATUS_WITH.get(kind.group, ())))
        new["metadata"] = drop(before, *shown) | {key: meta[key] for key in shown if key in meta}
    elif "status" in kind.subresources:
        # What a namespace waits for is for `finalize`.
        for key in ("status", "spec") if kind.storage == "namespaces" else ("status",):
            new.pop(key, None)
            if key in old:
                new[key] = old[key]


def counts(kind: Kind, old: Object, new: Object) -> bool:
    """Tell whether a change counts in `metadata.generation`."""
    if drop(old, "metadata", "status") != drop(new, "metadata", "status"):
        return True
    # Deployments hand their annotations on to their ReplicaSets.
    notes = (value_at(each, "metadata.annotations", {}) for each in (old, new))
    return kind.storage == "deployments.apps" and next(notes) != next(notes)


def watch_problem(initial: bool | None, match: str) -> Cause | None:
    """Give what is wrong with the options of a watch: k8s.io/apimachinery/pkg/apis/internalversion/validation."""
    if initial is not None and match not in {"", "NotOlderThan"}:
        return errors.unsupported_value("resourceVersionMatch", match, ["NotOlderThan"])
    if (initial is None) == (not match):
        return None
    why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    if match:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    return errors.forbidden_value("resourceVersionMatch", why)


def bind(store: Store, namespace: str, name: str, body: Object, options: Options) -> Object:
    """Assign a pod to a node. Gives a Status.

    Raises
    ------
    ApiError
        409: it is assigned, or on its way out.
    """
    pods = store.kind("pods")
    node = value_at(body, "target.name", "")
    if not node:
        raise errors.invalid("", "Binding", name, [errors.required("target.name")])

    with store.writing():
        pod = store.held(pods, namespace, name)
        spec, meta, status = pod["spec"], pod["metadata"], pod.get("status") or {}
        uid = value_at(body, "metadata.uid")
        why = ""
        if uid and uid != meta["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        elif meta.get("deletionTimestamp"):
            why = f"pod {name} is being deleted, cannot be assigned to a host"
        elif spec.get("nodeName"):
            why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
        elif spec.get("schedulingGates"):
            why = f"pod {name} has non-empty .spec.schedulingGates"
        if why:
            raise errors.conflict("", "pods/binding", name, why)
        annotations = {**(meta.get("annotations") or {}), **value_at(body, "metadata.annotations", {})}
        new = {
            **pod,
            "metadata": {**meta, **({"annotations": annotations} if annotations else {})},
            "spec": {**spec, "nodeName": node},
            "status": {**status, "conditions": _with_condition(status, type="PodScheduled", status="True")},
        }
        if not options.dry_run:
            store.commit(pods.storage, pod, new)
    return errors.status_body("Success", 201)


def _with_condition(holder: Object, **condition: str) -> list[Object]:
    """Give a status' conditions with one set now."""
    others = [each for each in holder.get("conditions") or () if each.get("type") != condition["type"]]
    return [*others, {**condition, "lastProbeTime": None, "lastTransitionTime": timestamp()}]


def evict(store: Store, namespace: str, name: str, body: Object, options: DeleteOptions) -> Object:
    """Evict a pod if its disruption budget allows it. Gives a Status.

    k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go.

    Raises
    ------
    ApiError
        429: the budget does not allow it; 500: there is more than one.
    """
    pods, budgets = store.kind("pods"), store.kind("poddisruptionbudgets", "policy")
    if value_at(body, "metadata.name", name) != name:
        given = body["metadata"]["name"]
        raise errors.bad_request(f'name in URL does not match name in Eviction object: "{name}" vs "{given}"')
    with store.writing():
        pod = store.held(pods, namespace, name)
        counted = not _free(pod)
        found = _budgets(store, budgets, pod) if counted else []
        if len(found) > 1:
            message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise ApiError(500, "InternalError", message)
        if found and not _unready(pod, found[0]):
            spent = _spend(budgets, found[0], name)
            if not options.dry_run:
                store.commit(budgets.storage, found[0], spent)
        if counted and not options.dry_run:
            why = {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
            conditions = _with_condition(pod["status"], type="DisruptionTarget", status="True", **why)
            changed = {**pod, "status": {**pod["status"], "conditions": conditions}}
            store.commit(pods.storage, pod, changed)
        store.delete(pods, namespace, name, options=options)
    return errors.status_body("Success", 201)


def _free(pod: Object) -> bool:
    """Tell whether no budget counts a pod: it has ended, has not begun, or is on its way out."""
    ended = value_at(pod, "status.phase") in {"Succeeded", "Failed", "Pending"}
    return ended or bool(pod["metadata"].get("deletionTimestamp"))


def _budgets(store: Store, kind: Kind, pod: Object) -> list[Object]:
    labels = pod["metadata"].get("labels") or {}
    found = store.list(kind, pod["metadata"]["namespace"]).items
    return [each for each in found if label_matcher(value_at(each, "spec.selector"))(labels)]


def _unready(pod: Object, budget: Object) -> bool:
    """Tell whether a pod may go without counting because it serves nobody."""
    if is_ready(pod):
        return False
    if value_at(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, wanted = value_at(budget, "status.currentHealthy", 0), value_at(budget, "status.desiredHealthy", 0)
    return bool(healthy >= wanted > 0)


def _spend(kind: Kind, budget: Object, pod: str) -> Object:
    """Give the budget after one disruption."""
    status, name = budget.get("status") or {}, budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", 10)
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise errors.forbidden(kind.group, kind.plural, name, "pdb disruptions allowed is negative")
    if len(disrupted) > MAX_DISRUPTED:
        raise errors.forbidden(
            kind.group,
            kind.plural,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        )
    if allowed == 0:
        wanted, have = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _too_many(f"The disruption budget {name} needs {wanted} healthy pods and has {have} currently", 0)
    status = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": {**disrupted, pod: timestamp()}}
    return {**budget, "status": status}


def _too_many(why: str, seconds: int) -> ApiError:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    return ApiError(429, "TooManyRequests", DISRUPTION, details | ({"retryAfterSeconds": seconds} if seconds else {}))


def scale(kind: Kind, obj: Object) -> Object:
    """Give an object's scale."""
    if kind.scale is None:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    meta = {
        key: obj["metadata"][key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in obj["metadata"]
    }
    status = {"replicas": value_at(obj, kind.scale.status, 0)}
    said = value_at(obj, kind.scale.selector) if kind.scale.selector else value_at(obj, "spec.selector")
    if text := said if isinstance(said, str) else selector_text(said):
        status["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": value_at(obj, kind.scale.spec, 0)},
        "status": status,
    }


def rescale(
    store: Store, kind: Kind, namespace: str | None, name: str, change: Callable[[Object], Object], *, options: Options
) -> Object:
    """Change an object's scale. Gives it."""
    with store.writing():
        held = store.held(kind, namespace, name)
        new = scaled(kind, held, change(scale(kind, held)))
        return scale(kind, store.change(kind, held, lambda _: new, subresource="scale", options=options))


def scaled(kind: Kind, obj: Object, body: Object) -> Object:
    """Give an object with the replicas that a scale asks for, and what the scale says of its version."""
    wanted, name = value_at(body, "spec.replicas", 0), obj["metadata"]["name"]
    if kind.scale is None:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    if not isinstance(wanted, int) or wanted < 0:
        problem = errors.wrong_value("spec.replicas", wanted, "must be greater than or equal to 0")
        raise errors.invalid("autoscaling", "Scale", name, [problem])
    new: Object = clone(obj)
    new["metadata"] |= {key: value_at(body, f"metadata.{key}") for key in ("resourceVersion", "uid")}
    put(new, kind.scale.spec, wanted)
    return new
