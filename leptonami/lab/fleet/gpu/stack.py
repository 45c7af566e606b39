"""The chain of causes on one node, as rules: what is there decides what starts, and that decides what comes next.

Driver, toolkit, device plugin, validator: each needs the one before it. Nothing here is a switch. What is there is the
node root (an AMI's driver, toolkit and glibc) and what pods of the operator have left on the node, which lasts as long
as they do: a real one takes its files in /run/nvidia and its part of containerd's configuration with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from leptonami.lab.fleet.behaviours import Life, NodeFacts
from leptonami.lab.fleet.cluster import Cluster, Object
from leptonami.lab.fleet.gpu.operands import TABLE
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.loop import Clock

__all__ = ["Stack", "app_of", "mark", "no_sandbox", "pause", "stack_of", "start_error"]

Runtime = Literal["", "ami", "operator"]
MEMORY = "nvidia"  # in a node's memory: mark -> the uid of the pod that set it
DRIVER, TOOLKIT, TOOLKIT_READY = "driver", "toolkit", "toolkit-ready"
SANDBOX = 'rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured'
HOOK = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: error running hook #0: error running hook: exit "
    "status 1, stdout: , stderr: "
)
GLIBC = (
    "/usr/local/nvidia/toolkit/nvidia-container-cli.real: /lib64/libc.so.6: version `GLIBC_{version}' not found "
    "(required by /usr/local/nvidia/toolkit/libnvidia-container.so.1): unknown"
)
NO_LIBRARY = (
    "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object "
    "file: no such file or directory: unknown"
)


@dataclass(frozen=True, slots=True)
class Stack:
    """How far a node has come.

    Attributes
    ----------
    container_driver
        The version of the driver whose container is ready; "" if there is none.
    toolkit
        Whether the operator's toolkit is installed: containerd then uses it, whatever the AMI has.
    toolkit_ready
        Whether the validator has written its barrier file, for which device plugin and exporters wait.
    """

    root: Root
    container_driver: str = ""
    toolkit: bool = False
    toolkit_ready: bool = False

    @property
    def driver(self) -> str:
        """Give the driver's version: the host's comes first, as the validator looks there first; "" if none."""
        return self.root.driver or self.container_driver

    @property
    def driver_root(self) -> str:
        """Give where the driver is, as the validator writes it down."""
        return "/" if self.root.driver else "/run/nvidia/driver"

    @property
    def runtime(self) -> Runtime:
        """Tell whose runtime `nvidia` containerd has; "" if nobody's."""
        return "operator" if self.toolkit else "ami" if self.root.has_runtime else ""

    def runs_by(self, pod: Object) -> Runtime:
        """Tell by whose runtime `nvidia` a pod runs; "" if by plain runc, where no container sees a driver."""
        asked = pod["spec"].get("runtimeClassName") == "nvidia" or self.toolkit or self.root.has_default_runtime
        return self.runtime if asked else ""

    def sees_gpu(self, pod: Object) -> bool:
        """Tell whether a pod's containers find a GPU and its driver."""
        return bool(self.runs_by(pod) and self.driver and self.root.gpus)


def start_error(stack: Stack, pod: Object) -> str:
    """Say why a container that uses a GPU does not start; "" if it does, be it without a driver inside."""
    runtime = stack.runs_by(pod)
    if runtime == "operator" and older(stack.root.glibc, TABLE.toolkit_glibc):
        return HOOK + GLIBC.format(version=TABLE.toolkit_glibc)
    return HOOK + NO_LIBRARY if runtime and not stack.driver else ""


def older(version: str, than: str) -> bool:
    """Compare versions such as `2.26`; what is unknown is not older."""
    numbers = [tuple(int(part) for part in re.findall(r"\d+", each)) for each in (version, than)]
    return bool(numbers[0]) and numbers[0] < numbers[1]


def no_sandbox(runtime_class: str, stack: Stack) -> str:
    """Say why a pod gets no sandbox; "" if it does. Normal until the toolkit is there (gpu-operator #413)."""
    return SANDBOX if runtime_class == "nvidia" and not stack.runtime else ""


# --- where it comes from ----------------------------------------------------------------------------------------------


def stack_of(node: NodeFacts, cluster: Cluster) -> Stack:
    """See how far a node has come: by its root, and by the marks of pods that are still there."""
    there = {pod["metadata"].get("uid") for pod in cluster.by_node(node.name)}
    marks = {what: note for what, (uid, note) in node.memory.get(MEMORY, {}).items() if uid in there}
    return Stack(node.root, marks.get(DRIVER, ""), TOOLKIT in marks, TOOLKIT_READY in marks)


def mark(life: Life, what: str, note: str = "") -> None:
    """Leave something on the node, for as long as the pod is there."""
    life.node.memory.setdefault(MEMORY, {})[what] = (life.pod["metadata"]["uid"], note)


def pause(clock: Clock, seconds: float, least: float = 0.2) -> float:
    """Give how long to wait until something is looked at again: simulated seconds, `least` of this machine.

    There may be hundreds of nodes on which everything waits for a driver.
    """
    return max(clock.again(seconds), least * clock.speed)


def app_of(pod: Object) -> str:
    """Give a pod's label `app`, which names its operand."""
    return str((pod["metadata"].get("labels") or {}).get("app", ""))


def variable(container: Mapping[str, Any], name: str) -> str:
    """Give a container's variable; "" if it has none."""
    return next((str(each.get("value", "")) for each in container.get("env") or () if each["name"] == name), "")
