"""SYNTHETIC GPU clusters for tests: nodes, pods, DaemonSets, a ClusterPolicy and events.

Written from the API and from what gpu-operator's assets are; no recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

NOW = "2023-06-24T10:30:00Z"
EARLIER = "2023-06-24T10:00:00Z"
PCI = "feature.node.kubernetes.io/pci-10de.present"
OS_ID = "feature.node.kubernetes.io/system-os_release.ID"
OS_VERSION = "feature.node.kubernetes.io/system-os_release.VERSION_ID"
DAEMONSETS = {
    "driver": "nvidia-driver-daemonset",
    "container-toolkit": "nvidia-container-toolkit-daemonset",
    "device-plugin": "nvidia-device-plugin-daemonset",
    "dcgm-exporter": "nvidia-dcgm-exporter",
    "gpu-feature-discovery": "gpu-feature-discovery",
    "operator-validator": "nvidia-operator-validator",
}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
GATES = tuple(DAEMONSETS)
STEPS = ["driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation"]


def node(
    name: str = "gpu-a",
    *,
    gpus: int | None = 1,
    capacity: int | None = None,
    labels: dict[str, str] | None = None,
    labelled: bool = True,
    os: tuple[str, str] = ("ubuntu", "22.04"),
    created: str = EARLIER,
    ready: str = "True",
) -> dict[str, Any]:
    """Make a node; without `gpus` it offers none."""
    own: dict[str, str] = {"node.kubernetes.io/instance-type": "g4dn.xlarge"}
    if labelled:
        own |= {PCI: "true", "nvidia.com/gpu.present": "true", OS_ID: os[0], OS_VERSION: os[1]}
        own |= {f"nvidia.com/gpu.deploy.{gate}": "true" for gate in GATES}
    has = gpus if capacity is None else capacity
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": own | (labels or {}), "creationTimestamp": created},
        "status": {
            "capacity": {"cpu": "4"} | ({} if has is None else {"nvidia.com/gpu": str(has)}),
            "allocatable": {"cpu": "4"} | ({} if gpus is None else {"nvidia.com/gpu": str(gpus)}),
            "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": NOW}],
        },
    }


def pod(
    name: str,
    on: str = "gpu-a",
    *,
    status: str = "Running",
    message: str = "",
    inits: Iterable[str] = (),
    owner: str = "DaemonSet",
    created: str = EARLIER,
    image: str = "nvcr.io/nvidia/x:1",
    requests: dict[str, str] | None = None,
    namespace: str = "gpu-operator",
    last: str = "",
    done: int = 0,
    wanted: str = "",
) -> dict[str, Any]:
    """Make a pod that kubectl would show with this status (`Init:0/4`, `Init:CrashLoopBackOff`, `Completed`, …).

    `done` is how many init containers are through before the one that fails; `wanted` the node that its DaemonSet
    wants.
    """
    inits = list(inits)
    init_states: list[dict[str, Any]] = []
    state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
    phase = "Pending"
    waiting = {"reason": status.removeprefix("Init:")} | ({"message": message} if message else {})
    if status.startswith("Init:") and "/" in status:
        init_states = [DONE] * int(status[5:].partition("/")[0]) + [{"running": {}}]
    elif status == "Init:Error":
        init_states = [DONE] * done + [{"terminated": {"exitCode": 1, "reason": "Error", "message": message}}]
    elif status.startswith("Init:"):
        init_states = [DONE] * done + [{"waiting": waiting}]
    elif status == "Running":
        state, phase = {"running": {"startedAt": created}}, "Running"
    elif status == "Completed":
        state, phase = {"terminated": {"exitCode": 0, "reason": "Completed"}}, "Succeeded"
    elif status != "Pending":
        state = {"waiting": waiting}
    named = inits or [f"init-{index}" for index in range(len(init_states))]
    if status != "Pending" and not status.startswith("Init:"):
        init_states = [DONE] * len(named)
    init_states += [{"waiting": {"reason": "PodInitializing"}}] * (len(named) - len(init_states))
    found: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "ownerReferences": [{"kind": owner, "name": "o", "controller": True}],
        },
        "spec": {
            "nodeName": on,
            "containers": [{"name": "main", "image": image, "resources": {"requests": requests or {}}}],
            "initContainers": [{"name": each, "image": image} for each in named],
        },
        "status": {"phase": phase},
    }
    if not on:
        del found["spec"]["nodeName"]
    if wanted:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [wanted]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        found["spec"]["affinity"] = {"nodeAffinity": required}
    if status != "Pending":
        ready = status == "Running"
        main: dict[str, Any] = {"name": "main", "ready": ready, "restartCount": 0, "state": state}
        if last:
            main["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "message": last}}
        found["status"]["containerStatuses"] = [main]
        found["status"]["initContainerStatuses"] = [
            {"name": each, "state": one} for each, one in zip(named, init_states, strict=False)
        ]
    return found


def stack(on: str = "gpu-a", *, without: Iterable[str] = (), **changed: dict[str, Any] | str) -> list[dict[str, Any]]:
    """Make the healthy pods of a node; `changed` replaces an operand's status (or more), `_` for `-` in its key."""
    pods = []
    for key, name in DAEMONSETS.items():
        if key in without:
            continue
        change = changed.get(key.replace("-", "_"), {})
        change = {"status": change} if isinstance(change, str) else change
        inits = STEPS if key == "operator-validator" else ["driver-validation"]
        pods.append(pod(f"{name}-{on}", on, **({"inits": inits} | change)))
    if "cuda-validator" not in without:
        change = changed.get("cuda_validator", {})
        change = {"status": change} if isinstance(change, str) else change
        pods.append(
            pod(f"nvidia-cuda-validator-{on}", on, **({"status": "Completed", "owner": "ClusterPolicy"} | change))
        )
    return pods


def policy(
    *, state: str = "ready", reason: str = "", spec: dict[str, Any] | None = None, version: str = "v23.3.2"
) -> dict[str, Any]:
    """Make a ClusterPolicy."""
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": "cluster-policy", "labels": {"helm.sh/chart": f"gpu-operator-{version}"}},
        "spec": {
            "driver": {"enabled": True, "repository": "nvcr.io/nvidia", "image": "driver", "version": "525.105.17"},
            "toolkit": {"enabled": True},
            "operator": {"defaultRuntime": "containerd"},
        }
        | (spec or {}),
        "status": {
            "state": state,
            "conditions": [{"type": "Ready", "status": "True", "reason": reason or "Reconciled", "message": ""}],
        },
    }


def daemonset(key: str, desired: int, *, created: str = EARLIER, counted: bool = True) -> dict[str, Any]:
    """Make an operand's DaemonSet, `counted` by its controller or as the API server has just stored it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": DAEMONSETS[key],
            "namespace": "gpu-operator",
            "generation": 1,
            "creationTimestamp": created,
        },
        "spec": {"template": {"spec": {"nodeSelector": {f"nvidia.com/gpu.deploy.{key}": "true"}, "containers": []}}},
        "status": {"desiredNumberScheduled": desired, "numberReady": desired}
        | ({"observedGeneration": 1} if counted else {}),
    }


def event(name: str, reason: str, message: str, *, at: str = NOW, container: str = "") -> dict[str, Any]:
    """Make a warning about a pod, or about one of its containers."""
    field = {"fieldPath": f"spec.containers{{{container}}}"} if container else {}
    return {
        "kind": "Event",
        "metadata": {"name": f"{name}.1"},
        "involvedObject": {"kind": "Pod", "name": name, "namespace": "gpu-operator"} | field,
        "reason": reason,
        "message": message,
        "type": "Warning",
        "lastTimestamp": at,
    }


def documents(*objects: Any, **more: str) -> dict[str, bytes]:
    """Make the documents of a folder: the objects in one, further texts by name (`__` for a dot)."""
    files = {"objects.json": json.dumps({"kind": "List", "items": list(objects)}).encode()} if objects else {}
    return files | {name.replace("__", "."): text.encode() for name, text in more.items()}
