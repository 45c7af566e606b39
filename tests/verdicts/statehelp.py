"""Synthetic clusters for the tests of the scale-down verdict, made from the Kubernetes API and the project's facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from leptonami.readers.objects import Objects
from leptonami.verdicts.flags import ACCELERATOR, Flags
from leptonami.verdicts.scaledown import NodeVerdict
from leptonami.verdicts.scaledown_state import ClusterState, judge

NOW = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
DEFAULT = Flags(version="1.30.7")


def stamp(moment: datetime) -> str:
    """Write a time as objects have it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(minutes: float) -> str:
    """Write the time so many minutes before now."""
    return stamp(NOW - timedelta(minutes=minutes))


def node(
    name: str = "n1",
    *,
    gpus: int | None = None,
    label: bool = False,
    age: float = 600,
    ready: str | None = "True",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    cpu: str = "4",
    deleted: str | None = None,
) -> dict[str, Any]:
    """Make a node; `age` in minutes."""
    resources = {"cpu": cpu, "memory": "16Gi", "pods": "58"}
    if gpus is not None:
        resources["nvidia.com/gpu"] = str(gpus)
    every = {**(labels or {})}
    if label:
        every[ACCELERATOR] = "nvidia-tesla-t4"
    meta: dict[str, Any] = {
        "name": name,
        "creationTimestamp": ago(age),
        "labels": every,
        "annotations": annotations or {},
    }
    if deleted:
        meta["deletionTimestamp"] = deleted
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": ago(age)}] if ready else []
    return {
        "kind": "Node",
        "metadata": meta,
        "spec": {"taints": taints or []},
        "status": {"capacity": resources, "allocatable": resources, "conditions": conditions},
    }


def pod(
    name: str = "p",
    on: str = "n1",
    *,
    namespace: str = "default",
    owner: tuple[str, str, str] | None = ("apps/v1", "ReplicaSet", "web"),
    controller: bool = True,
    phase: str = "Running",
    requests: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    volumes: list[dict[str, Any]] | None = None,
    deleted: str | None = None,
    age: float = 300,
    **spec: Any,
) -> dict[str, Any]:
    """Make a pod; `owner` is apiVersion, kind and name."""
    meta: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": ago(age),
        "annotations": annotations or {},
        "labels": labels or {},
    }
    if owner:
        version, kind, owned = owner
        meta["ownerReferences"] = [{"apiVersion": version, "kind": kind, "name": owned, "controller": controller}]
    if deleted:
        meta["deletionTimestamp"] = deleted
    containers = [{"name": "c", "image": "x", "resources": {"requests": requests or {"cpu": "100m"}}}]
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"nodeName": on, "containers": containers, "volumes": volumes or [], **spec},
        "status": {"phase": phase},
    }


def event(
    reason: str, message: str, about: tuple[str, str] = ("Node", "n1"), minutes: float = 1, count: int = 1
) -> dict[str, Any]:
    """Make an event of the autoscaler."""
    kind, name = about
    return {
        "kind": "Event",
        "metadata": {"name": f"{name}.{reason}.{minutes}.{len(message)}", "namespace": "default"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "count": count,
        "source": {"component": "cluster-autoscaler"},
        "lastTimestamp": ago(minutes),
    }


def budget(allowed: int, *, namespace: str = "default", match: dict[str, str] | None = None) -> dict[str, Any]:
    """Make a PodDisruptionBudget."""
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "pdb", "namespace": namespace},
        "spec": {"selector": {"matchLabels": match if match is not None else {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed},
    }


def status_text(
    *,
    group: str = "gpu",
    target: int = 2,
    minimum: int = 0,
    maximum: int = 6,
    health: str = "Healthy",
    down: str = "CandidatesPresent",
    minutes: float = 0.1,
    unready: int = 0,
    registered: int = 2,
) -> str:
    """Make a status of the YAML form, written so many minutes ago."""
    at = ago(minutes)
    return f"""
time: "{at}"
autoscalerStatus: Running
clusterWide:
  health:
    status: {health}
    nodeCounts: {{registered: {{total: {registered}, ready: {registered - unready}, unready: {{total: {unready}}}}}}}
    lastProbeTime: "{at}"
    lastTransitionTime: "{ago(30)}"
  scaleDown: {{status: {down}, lastProbeTime: "{at}"}}
nodeGroups:
- name: {group}
  health: {{status: Healthy, cloudProviderTarget: {target}, minSize: {minimum}, maxSize: {maximum}}}
  scaleDown: {{status: {down}}}
"""


def state(*items: dict[str, Any], **given: Any) -> ClusterState:
    """Put a cluster together."""
    return ClusterState.of(Objects.of([("objects.json", each) for each in items]), **given)


def verdicts(
    *items: dict[str, Any], flags: Flags | None = DEFAULT, now: Any = NOW, **given: Any
) -> dict[str, NodeVerdict]:
    """Judge a cluster, by the nodes' names."""
    return {each.node: each for each in judge(state(*items, **given), now=now, flags=flags)}


def verdict(*items: dict[str, Any], flags: Flags | None = DEFAULT, now: Any = NOW, **given: Any) -> NodeVerdict:
    """Judge node n1 of a cluster; `spare` is put beside it so that pods find a place."""
    spare = node("spare", cpu="64")
    return verdicts(*items, spare, flags=flags, now=now, **given)["n1"]
