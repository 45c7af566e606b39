"""How each operand of the GPU operator stands on each GPU node, knowing what healthy looks like.

What looks wrong and is not: validator pods that are Completed, 0/1 ready; no driver pod where the driver is on the
host; its `Init:Error` for about a minute there; DaemonSets for MIG or MPS that want no pod. What looks right and is not
is told by the chain (`leptonami.verdicts.gpuchain`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.decisive import decisive
from leptonami.readers.gpuoperands import CLUSTER_WIDE, DEPLOY, OPERANDS, PREINSTALLED, Operand
from leptonami.readers.gpuoperator import GpuNode, OperatorState
from leptonami.readers.operandpods import OperandPod, seconds
from leptonami.verdicts.gpuissues import explain
from leptonami.verdicts.waiting import STEP, WAITS, just_come, starting, waited

__all__ = [
    "Health",
    "OperandHealth",
    "host_driver",
    "judge_operands",
    "judge_pod",
    "plugin_validator_expected",
    "step_of",
]

# k8s-driver-manager ends with an error 60 s after it found a driver on the host; then the pod goes.
PREINSTALLED_ERROR = 120
LAST_WITH_WORKLOAD = (23, 3, 2)  # WITH_WORKLOAD of the validator is true up to here, false from v23.6 on
PAUSED = "paused-for-driver-upgrade"

FAILURES = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "ContainerCannotRun",
        "StartError",
        "Error",
        "OOMKilled",
        "Evicted",
        "Failed",
        "UnexpectedAdmissionError",
        "ContainerStatusUnknown",
        "DeadlineExceeded",
        "PreStartHookError",
        "PostStartHookError",
        "NodeAffinity",
        "OutOfnvidia.com/gpu",
        "Preempting",
        "NodeLost",
        "Unknown",
    }
)
EXIT = re.compile(r"(?:ExitCode|Signal):[0-9]{1,6}")
# The init containers of pods of which only a listing tells; with Istio's the validator has five, and nobody can tell.
LISTED_STEPS = {
    ("operator-validator", 4): ("driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation"),
    ("container-toolkit", 1): ("driver-validation",),
    ("device-plugin", 1): ("toolkit-validation",),
    ("gpu-feature-discovery", 1): ("toolkit-validation",),
    ("dcgm-exporter", 1): ("toolkit-validation",),
}


class Health(StrEnum):
    """How something stands."""

    OK = "ok"
    BROKEN = "broken"
    WAITING = "waiting"
    NOT_DETERMINED = "not determined"
    NOT_EXPECTED = "not expected"


@dataclass(frozen=True, slots=True)
class OperandHealth:
    """How an operand stands on a node.

    Parameters
    ----------
    operand
        Its key, as in `leptonami.readers.gpuoperands.OPERANDS`.
    node
        The node; None if the evidence does not tell where its pods are.
    why
        In one sentence.
    proof
        The pod, row or label; None only where nothing is determined or expected.
    issues
        The ids of the known issues that the pod's messages and events show.
    """

    operand: str
    node: str | None
    health: Health
    why: str
    proof: Proof | None = None
    issues: tuple[str, ...] = ()
    pod: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "operand": self.operand,
            "node": self.node,
            "health": self.health.value,
            "why": self.why,
            "pod": self.pod,
            "issues": list(self.issues),
            "proof": self.proof.as_dict() if self.proof else None,
        }


def judge_operands(state: OperatorState) -> tuple[OperandHealth, ...]:
    """Judge every operand on every GPU node, and what runs once in the cluster.

    Where no node is known, each pod of a listing is judged by itself, with `node` None.
    """
    found: list[OperandHealth] = []
    for operand in OPERANDS:
        pods = state.of_operand(operand.key)
        elsewhere = operand.key in CLUSTER_WIDE
        found += [judge_pod(each, state) for each in pods if elsewhere or each.node not in state.by_node]
        if operand.key in CLUSTER_WIDE:
            continue
        # What is rare and nowhere is left out: a dozen operands are for virtual machines only.
        if not (operand.usual or pods or operand.key == "device-plugin-validator"):
            continue
        for node in state.nodes:
            on_node = state.of_operand(operand.key, node.name)
            if on_node:
                found.append(worst(judge_pod(each, state) for each in on_node))
            else:
                found.append(judge_absence(operand, node, state))
    return tuple(found)


def worst(several: Iterable[OperandHealth]) -> OperandHealth:
    """Choose the one that stands worst: a pod that is going and one that has come in its place."""
    order = (Health.BROKEN, Health.WAITING, Health.NOT_DETERMINED, Health.OK, Health.NOT_EXPECTED)
    return min(several, key=lambda each: order.index(each.health))


def judge_pod(pod: OperandPod, state: OperatorState) -> OperandHealth:
    """Judge one pod by its status, its readiness and its age."""
    key = pod.operand.key
    node = pod.node or None
    if pod.healthy:
        restarted = f", after {pod.restarts} restarts" if pod.restarts else ""
        return OperandHealth(key, node, Health.OK, f"{pod.name} is {pod.status}{restarted}", pod.proof, pod=pod.name)
    detail, issues = explain(pod, state)
    says = f"{pod.name} is {pod.status}{readiness(pod)}"
    inner = pod.status.removeprefix("Init:")
    health, more = Health.NOT_DETERMINED, "which we do not know"
    if key == "driver" and pod.status in {"Init:Error", "Init:CrashLoopBackOff"} and leaving(pod, state):
        health, more = Health.WAITING, "as it is for about a minute where the AMI has a driver; then it goes"
    elif inner in FAILURES or EXIT.fullmatch(inner):
        health, more = Health.BROKEN, ""
    elif pod.operand.completes and pod.status == "NotReady":
        health, more = Health.BROKEN, "since a sidecar keeps running when the validation is done"
        issues = (*issues, *(["K24"] if "K24" not in issues else []))
    elif starting(pod, state):
        health, more = Health.WAITING, waits_for(pod)
    elif pod.status in WAITS or STEP.fullmatch(pod.status):
        more = ", ".join(each for each in (waits_for(pod), f"for {duration(waited(pod, state) or 0)}") if each)
        health, more = Health.BROKEN, f"{more} (15 minutes are enough for a healthy one)"
    why = ", ".join(each for each in (says, more) if each) + (f": {detail}" if detail else "")
    return OperandHealth(key, node, health, why, pod.proof, issues, pod.name)


def duration(seconds: int) -> str:
    """Write for how long a pod has waited."""
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 60 // 24} days"


def leaving(pod: OperandPod, state: OperatorState) -> bool:
    """Tell whether a driver pod that failed to start is one that is about to leave, since there is a driver already."""
    node = state.by_node.get(pod.node or "")
    if node and node.preinstalled:
        return True
    inits = pod.pod.init_containers if pod.pod else ()
    ended = next((each.since for each in inits if each.state == "terminated" and each.exit_code), None)
    ago = seconds(ended, state.taken) if ended else pod.age
    return pod.status == "Init:Error" and not pod.restarts and ago is not None and ago <= PREINSTALLED_ERROR


def readiness(pod: OperandPod) -> str:
    """Say how many of its containers are ready, where that matters."""
    return f", {pod.ready[0]} of {pod.ready[1]} ready" if pod.ready and pod.status in {"Running", "NotReady"} else ""


def waits_for(pod: OperandPod) -> str:
    """Say what a pod waits for."""
    if pod.node == "" or (pod.pod and not pod.pod.node):
        unplaced = next(
            (each.message for each in (pod.pod.conditions if pod.pod else ()) if each.status == "False"), ""
        )
        return f"on no node yet{': ' + decisive([unplaced]) if unplaced else ''}"
    step = step_of(pod)
    if step:
        return f"in its init container {step}"
    return f"waiting for the {pod.operand.waits_for}" if STEP.fullmatch(pod.status) and pod.operand.waits_for else ""


def step_of(pod: OperandPod) -> str | None:
    """Tell which init container a pod is in: its name, "" if all are done, None if nobody can tell."""
    if pod.pod and pod.pod.init_containers:
        if not any(each.state for each in (*pod.pod.init_containers, *pod.pod.containers)):
            return None
        open_ones = (each.name for each in pod.pod.init_containers if each.state != "terminated" or each.exit_code)
        return next(open_ones, "")
    if step := STEP.fullmatch(pod.status):
        number, count = int(step.group(1)), int(step.group(2))
        names = LISTED_STEPS.get((pod.operand.key, count), ())
        return names[number] if number < len(names) else None
    return (
        ""
        if pod.status in {"Running", "Completed"} or pod.status in FAILURES - {"Unknown", "NodeLost", "Evicted"}
        else None
    )


def judge_absence(operand: Operand, node: GpuNode, state: OperatorState) -> OperandHealth:
    """Judge that an operand has no pod on a GPU node."""
    return next(absences(operand, node, state))


def absences(operand: Operand, node: GpuNode, state: OperatorState) -> Iterator[OperandHealth]:
    """Give every reason why an operand has no pod on a node, the one that holds first; the last holds always."""
    key = operand.key

    def cell(health: Health, why: str, proof: Proof | None = None, *issues: str) -> OperandHealth:
        return OperandHealth(key, node.name, health, why, proof, issues)

    label = node.node.labels.get(f"{DEPLOY}{operand.gate}") if node.node and operand.gate else None
    proof = node.node.proof(f"{DEPLOY}{operand.gate}={label}") if node.node and label is not None else None
    if label == PAUSED:
        yield cell(Health.WAITING, "it is paused for a driver upgrade", proof, "K21")
    if key == "driver" and (host := host_driver(node, state)):
        yield cell(Health.NOT_EXPECTED, f"the driver is on the host: {host[0]}", host[1])
    if state.policy and state.policy.enabled.get(key) is False:
        yield cell(Health.NOT_EXPECTED, "it is switched off in the ClusterPolicy", state.policy.proof)
    if key == "device-plugin-validator":
        expected = plugin_validator_expected(state)
        if expected is False:
            yield cell(Health.NOT_EXPECTED, "the validator runs no pod with a GPU (the default from v23.6 on)")
        if expected is None:
            yield cell(Health.NOT_DETERMINED, "up to v23.3.2 there would be one; the operator's version is unknown")
        yield cell(Health.NOT_DETERMINED, "it is created last, when the device plugin has registered")
    if key == "cuda-validator":
        if any(each.healthy for each in state.of_operand("operator-validator", node.name)):
            yield cell(Health.NOT_EXPECTED, "the operator-validator has all its validations done")
        yield cell(Health.NOT_DETERMINED, "it is created when the driver and the toolkit are validated")
    if not operand.usual:
        yield cell(Health.NOT_EXPECTED, "off, or not for such nodes, by default")
    if label is not None and label != "true":
        yield cell(Health.NOT_EXPECTED, "its label is off", proof)
    if label == "true" and state.pods and node.node:
        if came := just_come(state, node, key):
            yield cell(Health.WAITING, f"the node's label asks for it, and it has no pod there yet: {came}", proof)
        taints = ", ".join(f"{each.key}:{each.effect}" for each in node.node.taints)
        why = f"the node's label asks for it and it has no pod there{f' (taints: {taints})' if taints else ''}"
        yield cell(Health.BROKEN, why, proof, "K06")
    yield cell(Health.NOT_DETERMINED, "it has no pod there")


def host_driver(node: GpuNode | None, state: OperatorState) -> tuple[str, Proof] | None:
    """Find out whether the driver is on the host and not in a container: what says so, and its proof.

    Parameters
    ----------
    node
        The node; None for a listing that does not tell nodes apart.
    """
    if node and node.node and node.preinstalled:
        return f"{DEPLOY}driver={PREINSTALLED}", node.node.proof(f"{DEPLOY}driver={PREINSTALLED}")
    names = {each.name for each in state.of_operand("device-plugin", node.name if node else None)}
    for log in state.plugin_logs:
        proof = log.environment_proof if log.driver_on_host else None
        if proof and (log.pod in names or (node is None and not log.pod)):
            return f"the device plugin's log says {proof.text}", proof
    if state.policy and state.policy.enabled.get("driver") is False:
        return "driver.enabled is false in the ClusterPolicy", state.policy.proof
    return None


def plugin_validator_expected(state: OperatorState) -> bool | None:
    """Tell whether the validator ends with a pod that asks for a GPU; None if neither setting nor version tells."""
    if state.with_workload is not None:
        return state.with_workload
    number = state.version.number if state.version else None
    return None if number is None else number <= LAST_WITH_WORKLOAD
