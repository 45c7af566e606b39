"""ControllerRevisions: the history of DaemonSets (pkg/controller/history), for `kubectl rollout`."""

from __future__ import annotations

from leptonami.lab.fleet.controllers.plans import Create, Delete, Object, Patch, Plan, View, owner_reference, safe_hash

__all__ = ["HASH", "history"]

HASH = "controller-revision-hash"


def history(owner: Object, view: View, plan: Plan, used: set[str]) -> str:
    """Note the template as the newest revision, and give its hash; of the others that nobody uses keep the latest.

    Parameters
    ----------
    used
        Names of revisions.
    """
    template = {**owner["spec"]["template"], "$patch": "replace"}
    current = safe_hash(template)
    known = sorted(view.children(owner, "controllerrevisions"), key=lambda each: int(each["revision"]))
    found = [each for each in known if each["metadata"].get("labels", {}).get(HASH) == current]
    newest = int(known[-1]["revision"]) if known else 0
    if not found:
        plan.do(Create("controllerrevisions", _revision(owner, template, current, newest + 1)))
    elif int(found[0]["revision"]) < newest:
        plan.do(Patch("controllerrevisions", found[0], {"revision": newest + 1}))
    limit = owner["spec"].get("revisionHistoryLimit")
    unused = [
        each
        for each in known
        if each not in found and HASH in each["metadata"].get("labels", {}) and each["metadata"]["name"] not in used
    ]
    for each in unused[: max(0, len(unused) - (10 if limit is None else int(limit)))]:
        plan.do(Delete("controllerrevisions", each))
    return current


def _revision(owner: Object, template: Object, current: str, number: int) -> Object:
    about = owner["metadata"]
    notes = {
        key: value
        for key, value in (about.get("annotations") or {}).items()
        if not key.endswith("last-applied-configuration")
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{about['name']}-{current}",
            "namespace": about["namespace"],
            "labels": {**(owner["spec"]["template"]["metadata"].get("labels") or {}), HASH: current},
            "annotations": notes,
            "ownerReferences": [owner_reference(owner)],
        },
        "data": {"spec": {"template": template}},
        "revision": number,
    }
