"""NVIDIA's GPU stack in the fleet: NFD, the GPU operator and its operands, the device plugin (docs/lab-gpu.md).

Simulated: it does what decides whether a node offers GPUs, for the reason for which a real one does or does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leptonami.lab.fleet.behaviours import Behaviour, Behaviours, Life, Step
    from leptonami.lab.fleet.cluster import Cluster
    from leptonami.lab.fleet.loop import Clock, Controller

__all__ = ["PLURALS", "register"]

# What a `Cluster` must watch for it, besides what the fleet watches anyway.
PLURALS = (("nvidia.com", "v1", "clusterpolicies"), ("node.k8s.io", "v1", "runtimeclasses"))


@dataclass
class ByName:
    """What the containers of one image do, by their name."""

    named: Mapping[str, Behaviour]
    others: Behaviour

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        return self.named.get(life.container["name"], self.others).outcome(life, now)


def register(behaviours: Behaviours, cluster: Cluster, clock: Clock) -> list[Controller]:
    """Teach the kubelets the GPU stack's images, and give the controllers that belong to it."""
    from leptonami.lab.fleet.gpu.driver import DriverContainer, DriverManager, not_found
    from leptonami.lab.fleet.gpu.nfd import Worker
    from leptonami.lab.fleet.gpu.operator import Operator
    from leptonami.lab.fleet.gpu.plugin import Devices, Exporter, Plugin, refused
    from leptonami.lab.fleet.gpu.stack import no_sandbox, stack_of
    from leptonami.lab.fleet.gpu.toolkit import Toolkit
    from leptonami.lab.fleet.gpu.validator import Validator

    devices, exporter, validator = Devices(), Exporter(cluster), Validator(cluster, clock)
    operator = Operator(cluster, clock)
    plugin = Plugin(cluster, devices)
    by_image: dict[str, Behaviour] = {
        "gpu-operator-validator": validator,
        "gpu-operator": ByName({"gpu-operator": operator}, validator),
        "driver": DriverContainer(),
        "k8s-driver-manager": DriverManager(cluster),
        "container-toolkit": Toolkit(cluster, clock),
        "k8s-device-plugin": ByName({"nvidia-device-plugin": plugin, "nvidia-device-plugin-ctr": plugin}, exporter),
        "gpu-feature-discovery": exporter,
        "dcgm-exporter": exporter,
        "k8s-mig-manager": exporter,
        "node-feature-discovery": Worker(cluster, clock),
    }
    for name, behaviour in by_image.items():
        behaviours.register(behaviour, image=f"*/{name}[:@]*")
    behaviours.sandbox.append(
        lambda pod, node: no_sandbox(pod["spec"].get("runtimeClassName", ""), stack_of(node, cluster))
    )
    behaviours.pull.append(lambda image, _: not_found(image))
    behaviours.admission.append(lambda pod, node: refused(pod, node, cluster))
    return [devices]
