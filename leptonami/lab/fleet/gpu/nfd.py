"""Node feature discovery: the labels of a node that has a worker. Without them the operator does nothing for it."""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

import re

from leptonami.lab.fleet.behaviours import Life, Step
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.gpu.stack import pause
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.loop import Clock

__all__ = ["PREFIX", "Worker", "labels_of"]

PREFIX = "feature.node.kubernetes.io/"
INTERVAL = 60  # seconds between two looks: core.sleepInterval's default


def labels_of(root: Root) -> dict[str, str]:
    """Give the labels of a machine with this root: those that the operator and its driver's image go by.

    The chart has NFD label PCI devices of the classes 02 and 03 by their vendor: NVIDIA's is 10de. Every instance has
    Amazon's network card (1d0f), so that no node is without a label.
    """
    found = {f"{PREFIX}pci-1d0f.present": "true"} | ({f"{PREFIX}pci-10de.present": "true"} if root.gpus else {})
    version = root.os_release.get("VERSION_ID", "")
    found |= {
        f"{PREFIX}system-os_release.ID": root.os_release.get("ID", ""),
        f"{PREFIX}system-os_release.VERSION_ID": version,
        f"{PREFIX}kernel-version.full": root.kernel,
    }
    for name, text in (("system-os_release.VERSION_ID", version), ("kernel-version", root.kernel)):
        parts = dict(zip(("major", "minor", "revision"), re.findall(r"\d+", text), strict=False))
        found |= {f"{PREFIX}{name}.{part}": number for part, number in parts.items()}
    return found


class Worker:
    """The worker's container on each node. The master has no part of its own here: what it would write, workers do."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        if "worker" not in life.pod["metadata"]["name"]:
            return Step()
        has = (life.node.object() or {"metadata": {}})["metadata"].get("labels") or {}
        wanted = labels_of(life.node.root)
        if any(has.get(key) != value for key, value in wanted.items()):
            self.cluster.patch("nodes", None, life.node.name, {"metadata": {"labels": wanted}})
        return Step(seconds=pause(self.clock, INTERVAL, 5.0))
