"""How long something may be missing or not ready before that is a fault.

Right after an install nothing is there yet, and DaemonSets say DESIRED 0 until their controller has counted. All is
counted on the objects' own times, to the moment at which the evidence was collected.
"""

from __future__ import annotations

import re

from leptonami.readers.gpuoperator import GpuNode, OperandSet, OperatorState
from leptonami.readers.operandpods import OperandPod, seconds

__all__ = ["PATIENCE", "SETTLING", "STEP", "WAITS", "early", "just_come", "running", "starting", "waited"]

# Node feature discovery's worker looks at a node every 60 s (`core.sleepInterval`). That the operator then labels the
# node and makes its DaemonSets, and their controller the pods, takes seconds.
JOINING = 120
# For so long nvidia-validator's step plugin-validation waits for the node to offer its GPUs: 30 times 5 s.
SETTLING = 150
# gpu-operator's own end-to-end tests give the operands 15 minutes, in which images are pulled and a driver may be
# built; what waits longer will not come by itself.
PATIENCE = 15 * 60

WAITS = frozenset(
    {"Pending", "ContainerCreating", "PodInitializing", "Running", "Terminating", "NotReady", "Succeeded"}
)
STEP = re.compile(r"Init:([0-9]{1,3})/([0-9]{1,3})")


def waited(pod: OperandPod, state: OperatorState) -> int | None:
    """Count the seconds for which a pod has not been ready, since it was made, bound, last ready or deleted.

    Of a pod in a listing only the age is known, which says nothing of one that is Terminating.
    """
    if not pod.pod:
        return None if pod.status == "Terminating" else pod.age
    began = [pod.pod.created, pod.pod.deleted]
    began += [
        each.since
        for each in pod.pod.conditions
        if (each.type, each.status) in {("Ready", "False"), ("PodScheduled", "True")}
    ]
    return seconds(max((each for each in began if each), default=None), state.taken)


def running(pod: OperandPod, state: OperatorState) -> int | None:
    """Count the seconds since the last of a pod's containers started; its age where nothing tells."""
    started = [each.since for each in (pod.pod.containers if pod.pod else ()) if each.state == "running" and each.since]
    return seconds(max(started), state.taken) if started else pod.age


def starting(pod: OperandPod, state: OperatorState) -> bool:
    """Tell whether a pod is on its way, and has not been for too long."""
    known = pod.status in WAITS or STEP.fullmatch(pod.status)
    return bool(known and not pod.healthy and (waited(pod, state) or 0) <= PATIENCE)


def early(each: OperandSet) -> bool:
    """Tell whether a DaemonSet's controller has not counted its nodes, and may still be about to."""
    return not each.counted and (each.age or 0) <= PATIENCE


def just_come(state: OperatorState, node: GpuNode | None, key: str = "") -> str:
    """Say what has come so lately that nothing which needs it can be expected yet; "" if nothing has.

    Parameters
    ----------
    node
        The node on which something is missing; None for any.
    key
        The operand whose DaemonSet it takes, beside that of node feature discovery; "" for none.
    """

    def young(age: int | None) -> bool:
        return age is not None and age < JOINING

    if node and node.node and young(seconds(node.node.created, state.taken)):
        return "the node has just joined"
    worker = state.of_operand("nfd-worker", node.name if node else None)
    for pod in (*state.of_operand("gpu-operator"), *state.of_operand("nfd-master"), *worker):
        if starting(pod, state):
            return f"{pod.name} is {pod.status}"
        if pod.healthy and young(running(pod, state)):
            return f"{pod.name} has just started"
    for each in state.sets:
        if each.operand.key in {"nfd-worker", key}:
            if young(each.age):
                return f"the DaemonSet {each.name} has just been made"
            if early(each):
                return f"the DaemonSet {each.name} has not been looked at yet"
    made = seconds(state.policy.created, state.taken) if state.policy else None
    return "the ClusterPolicy has just been made" if young(made) else ""
