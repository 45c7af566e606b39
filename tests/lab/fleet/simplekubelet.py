"""A kubelet in a few lines: what is bound runs, and is ready unless told otherwise; what is deleted goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leptonami.lab.fleet.cluster import Cluster, Key
from leptonami.lab.fleet.loop import Clock

Object = dict[str, Any]


@dataclass
class SimpleKubelet:
    """All kubelets of a cluster."""

    clock: Clock
    ready: Callable[[Object], bool] = lambda _: True

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        for plural, namespace, name in changes:
            pod = cluster.get(plural, namespace, name) if plural == "pods" else None
            if pod is None or not pod["metadata"].get("uid") or not pod["spec"].get("nodeName"):
                continue
            if pod["metadata"].get("deletionTimestamp"):
                cluster.delete("pods", namespace, name, 0)
            elif (pod.get("status") or {}).get("phase", "Pending") == "Pending":
                stamp, ready = self.clock.stamp(), str(self.ready(pod))
                conditions = [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp},
                    {"type": "Ready", "status": ready, "lastTransitionTime": stamp},
                ]
                status = {"phase": "Running", "conditions": conditions}
                cluster.patch("pods", namespace, name, {"status": status}, "status")
        return None
