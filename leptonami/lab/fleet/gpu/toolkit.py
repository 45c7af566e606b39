"""The operator's container toolkit: installs itself on the host and gives containerd the runtime `nvidia`.

Where the AMI has a toolkit of its own there is a race in reality: what starts before the operator's has restarted
containerd runs by the AMI's, what starts after it by the operator's. The lab decides it as users saw it on Amazon
Linux 2 (amazon-eks-ami #1892, gpu-operator #755): the toolkit's validation passes, what comes after it does not.
"""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

from leptonami.lab.fleet.behaviours import Life, Step
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.gpu.logs import lines
from leptonami.lab.fleet.gpu.operands import TABLE
from leptonami.lab.fleet.gpu.stack import TOOLKIT, app_of, mark, pause, stack_of
from leptonami.lab.fleet.loop import Clock

__all__ = ["Toolkit", "coming"]

NAME = TABLE.operands["container-toolkit"].name
PATIENCE = 30  # looks at whether the validator is through, which may be switched off


class Toolkit:
    """The toolkit's container."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        stack = stack_of(life.node, self.cluster)
        if life.steps == 0:
            on_host = str(bool(stack.root.driver)).lower()
            log = lines("toolkit", on_host=on_host, root=stack.driver_root)
            return Step(seconds=TABLE.seconds("toolkit_install"), ready=False, log=log)
        if stack.root.has_runtime and not stack.toolkit_ready and life.steps < PATIENCE:
            return Step(seconds=pause(self.clock, 1), ready=False)
        mark(life, TOOLKIT)
        return Step(log=lines("toolkit-done"))


def coming(life: Life, cluster: Cluster) -> bool:
    """Tell whether the operator's toolkit is on its way to a node, and not there yet."""
    return not stack_of(life.node, cluster).toolkit and any(
        app_of(pod) == NAME for pod in cluster.by_node(life.node.name)
    )
