"""The device plugin: what it finds becomes what the node offers. And what else needs a driver in its container.

`failOnInitError` decides what happens when it finds nothing: the operator sets it, so that the container fails; without
the operator it is off by default, and the plugin is Running and waits for ever (K16).
"""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

import json
from typing import Any

from leptonami.lab.fleet.behaviours import Life, NodeFacts, Step, exited
from leptonami.lab.fleet.cluster import Cluster, Key, Object
from leptonami.lab.fleet.gpu.logs import lines
from leptonami.lab.fleet.gpu.operands import TABLE
from leptonami.lab.fleet.gpu.stack import stack_of, start_error, variable
from leptonami.lab.fleet.images import Root

__all__ = ["RESOURCE", "SILENT", "Devices", "Exporter", "Plugin", "gfd_labels", "refused"]

RESOURCE = "nvidia.com/gpu"
SILENT = "device-plugin-silent"  # the fault: it starts, finds nothing and says nothing


class Devices:
    """What device plugins have registered: a controller that takes a node's GPUs away when its plugin has gone.

    The kubelet leaves the capacity and sets what is allocatable to nought.
    """

    def __init__(self) -> None:
        self.serving: dict[str, tuple[str, str, str]] = {}  # node -> namespace, name and uid of the plugin's pod

    def register(self, cluster: Cluster, life: Life, amount: int) -> None:
        """Put a node's GPUs into its status, as the kubelet does when a plugin registers."""
        about = life.pod["metadata"]
        self.serving[life.node.name] = (about["namespace"], about["name"], about["uid"])
        offer(cluster, life.node.name, {"capacity": amount, "allocatable": amount})

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        """Look after plugins that have gone."""
        if any(plural == "pods" for plural, _, _ in changes):
            for node, (namespace, name, uid) in list(self.serving.items()):
                pod = cluster.get("pods", namespace, name)
                if pod is None or pod["metadata"].get("uid") != uid or stopped(pod):
                    del self.serving[node]
                    offer(cluster, node, {"allocatable": 0})
        return None


def offer(cluster: Cluster, node: str, amounts: dict[str, int]) -> None:
    """Write a node's GPUs, unless they stand there already."""
    status = (cluster.get("nodes", None, node) or {}).get("status") or {}
    if any((status.get(field) or {}).get(RESOURCE) != str(amount) for field, amount in amounts.items()):
        patch = {"status": {field: {RESOURCE: str(amount)} for field, amount in amounts.items()}}
        cluster.patch("nodes", None, node, patch, subresource="status")


def stopped(pod: Object) -> bool:
    """Tell whether a container of a pod has ended, for good or until the next try."""
    states = [each.get("state") or {} for each in pod["status"].get("containerStatuses") or ()]
    return any(
        "terminated" in each or (each.get("waiting") or {}).get("reason") == "CrashLoopBackOff" for each in states
    )


class Plugin:
    """The device plugin's container."""

    def __init__(self, cluster: Cluster, devices: Devices) -> None:
        self.cluster, self.devices = cluster, devices

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        stack = stack_of(life.node, self.cluster)
        if error := start_error(stack, life.pod):
            return exited(128, reason="StartError", message=error)
        fails = variable(life.container, "FAIL_ON_INIT_ERROR") == "true"
        style = "v0.18" if version_of(life.container["image"]) >= (0, 15) else "v0.14"
        if life.steps == 0:
            mounted = "/host" if stack.driver_root == "/" else "/driver-root"
            values = {"root": stack.driver_root, "mounted": mounted, "on_host": str(mounted == "/host").lower()}
            log = lines(f"plugin-start-{style}", **values, version=life.container["image"].rpartition(":")[2])
            if SILENT in life.node.faults():
                return Step(log=log)
            log += lines(f"plugin-config-{style}", config=config(stack.driver_root, fails=fails))
            return Step(seconds=TABLE.seconds("plugin_register"), log=log)
        if not stack.sees_gpu(life.pod):
            log = lines(f"plugin-no-nvml-{style}")
            if fails:
                return exited(1, *log, *lines(f"plugin-gives-up-{style}"))
            return Step(log=(*log, *lines(f"plugin-idles-{style}")))
        self.devices.register(self.cluster, life, stack.root.gpus)
        return Step(log=lines(f"plugin-serving-{style}"))


def version_of(image: str) -> tuple[int, int]:
    """Read the plugin's version out of its image's tag; the newest if there is none."""
    numbers = image.rpartition(":")[2].removeprefix("v").split(".")
    return (
        (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 and all(n.isdecimal() for n in numbers[:2]) else (99, 0)
    )


def config(root: str, *, fails: bool) -> str:
    """Write the configuration that the plugin prints, as the recorded log has it."""
    flags: dict[str, Any] = {
        "migStrategy": "single",
        "failOnInitError": fails,
        "nvidiaDriverRoot": root,
        "gdsEnabled": False,
        "mofedEnabled": False,
        "plugin": {"passDeviceSpecs": True, "deviceListStrategy": ["envvar"], "deviceIDStrategy": "uuid"},
    }
    resources = {kind: [{"pattern": "*", "name": RESOURCE}] for kind in ("gpus", "mig")}
    return json.dumps(
        {"version": "v1", "flags": flags, "resources": resources, "sharing": {"timeSlicing": {}}}, indent=2
    )


class Exporter:
    """The DCGM exporter, GPU feature discovery and the like: they run where a driver can be seen."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        stack = stack_of(life.node, self.cluster)
        if error := start_error(stack, life.pod):
            return exited(128, reason="StartError", message=error)
        if not stack.sees_gpu(life.pod):
            return exited(1, "Failed to initialize NVML: could not load NVML library")
        if life.container["name"] == "gpu-feature-discovery":
            labels = gfd_labels(stack.root, stack.driver)
            self.cluster.patch("nodes", None, life.node.name, {"metadata": {"labels": labels}})
        return Step()


def gfd_labels(root: Root, driver: str) -> dict[str, str]:
    """Give the labels of GPU feature discovery, those that do not need the card's data sheet."""
    major, minor, rev = (*driver.split("."), "", "")[:3]
    return {
        "nvidia.com/gpu.count": str(root.gpus),
        "nvidia.com/gpu.product": root.gpu_product.replace(" ", "-"),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/mig.capable": "false",
        "nvidia.com/cuda.driver.major": major,
        "nvidia.com/cuda.driver.minor": minor,
        "nvidia.com/cuda.driver.rev": rev,
    }


def refused(pod: Object, node: NodeFacts, cluster: Cluster) -> str:
    """Say why a kubelet does not admit a pod that wants GPUs: others hold them (K18). The scheduler was not asked."""
    wanted = wants(pod)
    held = sum(
        wants(each)
        for each in cluster.by_node(node.name)
        if each["metadata"]["name"] != pod["metadata"]["name"]
        and (each.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    )
    offers = ((node.object() or {}).get("status") or {}).get("allocatable") or {}
    free = int(offers.get(RESOURCE, 0)) - held
    if wanted <= max(free, 0):
        return ""
    return (
        f"Allocate failed due to requested number of devices unavailable for {RESOURCE}. Requested: {wanted}, "
        f"Available: {max(free, 0)}, which is unexpected"
    )


def wants(pod: Object) -> int:
    """Give how many GPUs a pod asks for: its containers together, or the most that an init container does."""

    def of(containers: Any) -> list[int]:
        return [int(((each.get("resources") or {}).get("limits") or {}).get(RESOURCE, 0)) for each in containers or ()]

    return max(sum(of(pod["spec"].get("containers"))), *of(pod["spec"].get("initContainers")), 0)
