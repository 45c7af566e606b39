"""How much of a node is requested, by the rule of cluster-autoscaler (`simulator/utilization/info.go`).

A GPU node is judged by its GPUs alone, any other node by its CPU or its memory, whichever is used more. What the pods
request counts, not what they use; DaemonSets count unless told otherwise; pods that have ended do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from leptonami.readers.objects import Node, Pod
from leptonami.verdicts.flags import Flags
from leptonami.verdicts.gpunode import GPU, GpuView

__all__ = ["Utilization", "utilization_of"]


@dataclass(frozen=True, slots=True)
class Utilization:
    """What is requested of the resource that decides.

    Parameters
    ----------
    resource
        `nvidia.com/gpu`, `cpu` or `memory`.
    share
        Requested divided by allocatable.
    threshold
        The share from which on the node is needed.
    pods
        The pods that request of it, the largest first.
    gpu_unready
        The GPU that the label promises is not there, for which the autoscaler sets the share to 0.
    """

    resource: str
    share: Decimal
    threshold: Decimal
    pods: tuple[Pod, ...]
    gpu_unready: bool = False

    @property
    def exact(self) -> bool:
        """Tell whether it is exactly at the threshold, where versions differ."""
        return self.share == self.threshold

    def needed(self, flags: Flags) -> bool:
        """Tell whether the node counts as used. At the threshold it did until 1.34, and from 1.35 on it does not."""
        return self.share > self.threshold or (self.exact and flags.since(35) is not True)

    def __str__(self) -> str:
        return f"{self.resource} requested is {percent(self.share)} of allocatable, threshold {percent(self.threshold)}"


def percent(share: Decimal) -> str:
    """Show a share as the autoscaler does: `5%`, `33.3333%`.

    >>> percent(Decimal("0.05")), percent(Decimal(1) / 3)
    ('5%', '33.3333%')
    """
    return f"{float(share * 100):.6g}%"


def utilization_of(
    node: Node,
    pods: Iterable[Pod],
    gpu: GpuView,
    flags: Flags,
    *,
    is_daemon: Callable[[Pod], bool],
    is_mirror: Callable[[Pod], bool],
    is_gone: Callable[[Pod], bool],
) -> Utilization | None:
    """Compute a node's utilization.

    Parameters
    ----------
    node, pods
        The node and the pods on it.
    gpu, flags
        How its GPU stands, and the autoscaler's options.
    is_daemon, is_mirror, is_gone
        Tell of a pod whether it is a DaemonSet's, a static one, and terminating for long.

    Returns
    -------
    Utilization or None
        None if the node's object does not tell what is allocatable.
    """
    counted: list[Pod] = []
    aside: list[Pod] = []
    for pod in pods:
        if pod.terminal:
            continue
        if (flags.ignore_daemonsets and is_daemon(pod)) or (flags.ignore_mirror_pods and is_mirror(pod)):
            aside.append(pod)
        elif not is_gone(pod):
            counted.append(pod)

    def share(resource: str) -> Utilization | None:
        whole = node.allocatable.get(resource, Decimal(0))
        if whole <= 0:
            return None
        zero = Decimal(0)
        free = whole - sum((pod.requests.get(resource, zero) for pod in aside), zero)
        asking = [pod for pod in counted if pod.requests.get(resource, zero) > 0]
        asking.sort(key=lambda pod: (-pod.requests[resource], pod.namespace, pod.name))
        requested = sum((pod.requests[resource] for pod in asking), zero)
        limit = flags.gpu_utilization_threshold if resource == GPU else flags.utilization_threshold
        # DaemonSets that ask for more than there is leave nothing to divide by; Go's division makes that infinite.
        part = requested / free if free > 0 else Decimal(1) if requested else zero
        return Utilization(resource, part, limit, tuple(asking))

    if gpu.known:
        found = share(GPU)
        return found or Utilization(GPU, Decimal(0), flags.gpu_utilization_threshold, (), gpu_unready=True)
    cpu, memory = share("cpu"), share("memory")
    if cpu is None or memory is None:
        return None
    return cpu if cpu.share > memory.share else memory
