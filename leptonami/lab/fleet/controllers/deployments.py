"""Deployments: ReplicaSets, one per template, and the way from one to the next (pkg/controller/deployment)."""

from __future__ import annotations

from typing import Any

from leptonami.lab.conditions import condition
from leptonami.lab.fleet.controllers.plans import (
    Create,
    Delete,
    Object,
    Patch,
    Plan,
    Tell,
    View,
    claim,
    created,
    finished,
    leaving,
    owner_reference,
    safe_hash,
)
from leptonami.lab.fleet.controllers.rollouts import MAXIMUM, Rollout, having, rolled, scaled, size
from leptonami.lab.fleet.recorder import SIMULATED

__all__ = ["reconcile"]

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
# Annotations of a Deployment that its ReplicaSets do not get from it: deployment_util.go annotationsToSkip, and ours.
SKIPPED = {REVISION, HISTORY, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration", SIMULATED}


def reconcile(deployment: Object, view: View) -> Plan:
    """Find or make the ReplicaSet of the template, take the next step, and report."""
    plan, spec = Plan(), deployment["spec"]
    sets = sorted(claim(view, deployment, "replicasets", plan), key=created)
    new = next((each for each in sets if _template(each) == _template(deployment)), None)
    old = [each for each in sets if each is not new]
    rollout = Rollout.of(deployment)
    report = _Report(deployment, view)
    if leaving(deployment):
        report.finish(plan, new, sets, rollout)
        return plan
    paused = bool(spec.get("paused"))
    recreate = (spec.get("strategy") or {}).get("type") == "Recreate"
    if new is not None:
        _number(plan, deployment, new, old)
    if _was_scaled(rollout, sets) or paused:
        report.pause(paused)
        _resize(plan, sets, scaled(rollout, deployment, new, old), rollout)
    elif recreate and any(size(each) for each in old):
        _resize(plan, sets, {each["metadata"]["name"]: 0 for each in old}, rollout)
    elif recreate and any(not finished(pod) for each in old for pod in view.children(each, "pods")):
        plan.look(1.0)  # the ReplicaSets do not count pods that are on their way out
    elif new is None:
        room = max(0, min(rollout.replicas, rollout.replicas + rollout.surge - sum(map(size, old))))
        made = _new_set(deployment, room, rollout, old)
        name = made["metadata"]["name"]
        text = f"Scaled up replica set {name} from 0 to {room}"
        plan.do(Create("replicasets", made, Tell("ScalingReplicaSet", text) if room else None))
        _revision(plan, deployment, made["metadata"]["annotations"][REVISION])
        report.progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    else:
        report.pause(paused)
        if not condition(deployment, "Progressing"):
            report.progress("True", "FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"')
        grown = {new["metadata"]["name"]: rollout.replicas} if recreate else rolled(rollout, new, old)
        _resize(plan, sets, grown, rollout)
    report.finish(plan, new, sets, rollout)
    if not paused and report.complete:
        _forget(plan, deployment, old)
    return plan


def _template(obj: Object) -> Object:
    template = obj["spec"]["template"]
    about = template.get("metadata") or {}
    labels = {key: value for key, value in (about.get("labels") or {}).items() if key != HASH}
    known = {key: value for key, value in about.items() if value and key != "creationTimestamp"}
    return {**template, "metadata": {**known, "labels": labels}}


def _was_scaled(rollout: Rollout, sets: list[Object]) -> bool:
    asked = [(each["metadata"].get("annotations") or {}).get(DESIRED) for each in sets if size(each) > 0]
    return any(each is not None and each != str(rollout.replicas) for each in asked)


def _notes(deployment: Object) -> dict[str, str]:
    return {
        key: value for key, value in (deployment["metadata"].get("annotations") or {}).items() if key not in SKIPPED
    }


def _limits(rollout: Rollout) -> dict[str, str]:
    return {DESIRED: str(rollout.replicas), MAXIMUM: str(rollout.replicas + rollout.surge)}


def revision(obj: Object) -> int:
    """Give the revision that an object is noted as."""
    return int((obj["metadata"].get("annotations") or {}).get(REVISION) or 0)


def _new_set(deployment: Object, replicas: int, rollout: Rollout, old: list[Object]) -> Object:
    about, spec = deployment["metadata"], deployment["spec"]
    template = _template(deployment)
    hashed = {HASH: safe_hash(template)}
    labels = {**template["metadata"]["labels"], **hashed}
    body: dict[str, Any] = {
        "replicas": replicas,
        "selector": {
            **spec["selector"],
            "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **hashed},
        },
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        body["minReadySeconds"] = spec["minReadySeconds"]
    number = str(max(map(revision, old), default=0) + 1)
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{about['name']}-{hashed[HASH]}",
            "namespace": about["namespace"],
            "labels": labels,
            "annotations": {**_notes(deployment), **_limits(rollout), REVISION: number, SIMULATED: "true"},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": body,
    }


def _revision(plan: Plan, deployment: Object, number: str) -> None:
    if (deployment["metadata"].get("annotations") or {}).get(REVISION) != number:
        plan.do(Patch("deployments", deployment, {"metadata": {"annotations": {REVISION: number}}}, "status"))


def _number(plan: Plan, deployment: Object, new: Object, old: list[Object]) -> None:
    """Make the ReplicaSet of the template the newest revision: after an undo it is one that had been before."""
    notes, ready = new["metadata"].get("annotations") or {}, int(deployment["spec"].get("minReadySeconds") or 0)
    wanted = {key: value for key, value in _notes(deployment).items() if notes.get(key) != value}
    number = max(revision(new), max(map(revision, old), default=0) + 1)
    if number != revision(new):
        wanted[REVISION] = str(number)
        if revision(new):
            wanted[HISTORY] = ",".join(filter(None, [notes.get(HISTORY), str(revision(new))]))
    body: Object = {"metadata": {"annotations": wanted}} if wanted else {}
    if int(new["spec"].get("minReadySeconds") or 0) != ready:
        body["spec"] = {"minReadySeconds": ready}
    if body:
        plan.do(Patch("replicasets", new, body))
    _revision(plan, deployment, str(number))


def _resize(plan: Plan, sets: list[Object], sizes: dict[str, int], rollout: Rollout) -> None:
    limits = _limits(rollout)
    for each in sets:
        name, before = each["metadata"]["name"], size(each)
        after, notes = sizes.get(name, before), each["metadata"].get("annotations") or {}
        body: Object = {} if after == before else {"spec": {"replicas": after}}
        if (after or before) and any(notes.get(key) != value for key, value in limits.items()):
            body["metadata"] = {"annotations": limits}
        if body:
            plan.do(Patch("replicasets", each, body))
        if after != before:
            word = "up" if after > before else "down"
            plan.do(Tell("ScalingReplicaSet", f"Scaled {word} replica set {name} from {before} to {after}"))


def _forget(plan: Plan, deployment: Object, old: list[Object]) -> None:
    """Remove the oldest of the ReplicaSets that are kept for an undo only."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    idle = [each for each in old if not size(each) and not having(each, "replicas") and not leaving(each)]
    for each in sorted(idle, key=revision)[: max(0, len(idle) - (10 if limit is None else int(limit)))]:
        plan.do(Delete("replicasets", each))


class _Report:
    """The status of a Deployment in the making."""

    def __init__(self, deployment: Object, view: View) -> None:
        self.deployment, self.view = deployment, view
        self.progressing = condition(deployment, "Progressing")
        self.complete = False

    def _condition(
        self, old: Object, kind: str, status: str, reason: str, message: str, *, touch: bool = False
    ) -> Object:
        """Give a condition, with the times of the old one as far as nothing changed."""
        same = old.get("status") == status
        if same and old.get("reason") == reason and old.get("message") == message and not touch:
            return old
        now = self.view.stamp()
        since = old.get("lastTransitionTime") if same else now
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": since,
        }

    def progress(self, status: str, reason: str, message: str, *, touch: bool = False) -> None:
        self.progressing = self._condition(self.progressing, "Progressing", status, reason, message, touch=touch)

    def pause(self, paused: bool) -> None:
        """Note that it was paused or resumed; nothing that was given up is told so (`checkPausedConditions`)."""
        was = self.progressing.get("reason") == "DeploymentPaused"
        if self.progressing.get("reason") == "ProgressDeadlineExceeded":
            return
        if paused and not was:
            self.progress("Unknown", "DeploymentPaused", "Deployment is paused")
        elif was and not paused:
            self.progress("Unknown", "DeploymentResumed", "Deployment is resumed")

    def finish(self, plan: Plan, new: Object | None, sets: list[Object], rollout: Rollout) -> None:
        """Set the status (`syncRolloutStatus`, `calculateStatus`)."""
        old = self.deployment.get("status") or {}
        available = sum(having(each, "availableReplicas") for each in sets)
        counts = {
            "replicas": sum(having(each, "replicas") for each in sets),
            "updatedReplicas": having(new, "replicas") if new else 0,
            "readyReplicas": sum(having(each, "readyReplicas") for each in sets),
            "availableReplicas": available,
            "unavailableReplicas": max(0, sum(map(size, sets)) - available),
        }
        self.complete = (
            counts["updatedReplicas"] == counts["replicas"] == available == rollout.replicas and new is not None
        )
        self._judge(plan, new, counts)
        enough = available >= rollout.replicas - rollout.unavailable
        word = "has" if enough else "does not have"
        conditions = [
            self._condition(
                condition(self.deployment, "Available"),
                "Available",
                "True" if enough else "False",
                f"MinimumReplicas{'Available' if enough else 'Unavailable'}",
                f"Deployment {word} minimum availability.",
            ),
            self.progressing,
        ]
        kept = [each for each in old.get("conditions") or () if each["type"] not in {"Available", "Progressing"}]
        plan.status(
            "deployments",
            self.deployment,
            {
                **{key: value or None for key, value in counts.items()},
                "observedGeneration": self.deployment["metadata"].get("generation", 1),
                "conditions": [each for each in conditions if each] + kept,
            },
        )

    def _judge(self, plan: Plan, new: Object | None, counts: dict[str, int]) -> None:
        """Say whether it is complete, moves, or takes too long."""
        old, deadline = self.deployment.get("status") or {}, self.deployment["spec"].get("progressDeadlineSeconds", 600)
        if self.deployment["spec"].get("paused") or new is None:
            return
        name = new["metadata"]["name"]
        moved = (
            counts["updatedReplicas"] > int(old.get("updatedReplicas") or 0)
            or counts["replicas"] - counts["updatedReplicas"]
            < int(old.get("replicas") or 0) - int(old.get("updatedReplicas") or 0)
            or counts["readyReplicas"] > int(old.get("readyReplicas") or 0)
            or counts["availableReplicas"] > int(old.get("availableReplicas") or 0)
        )
        done = self.progressing.get("reason") == "NewReplicaSetAvailable"
        if done and counts["replicas"] == counts["updatedReplicas"]:
            return  # a pod that is lost later does not make a roll-out that was complete begin anew
        if self.complete:
            self.progress("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        elif moved:
            self.progress("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', touch=True)
        elif self.progressing and self.progressing.get("reason") not in {
            "ProgressDeadlineExceeded",
            "NewReplicaSetAvailable",
        }:
            left = deadline - self.view.age(self.progressing["lastUpdateTime"])
            plan.look(max(left, 0.1))
            if left <= 0:
                self.progress("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
