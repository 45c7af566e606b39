"""What explains how an operand's pod stands, and which known issues show now.

An event tells of the moment at which it happened. What a pod has recovered from since, and what happened to a pod that
is no more, is history: it makes no finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from leptonami.proof import Proof
from leptonami.readers.decisive import decisive
from leptonami.readers.gpuoperands import operand_of
from leptonami.readers.gpuoperator import Happening, OperatorState
from leptonami.readers.knownissues import Match, match
from leptonami.readers.mustgather import Log
from leptonami.readers.operandpods import OperandPod, standing
from leptonami.verdicts.waiting import starting

__all__ = ["explain", "known_issues"]

LARGEST = 200_000  # characters of a pod's messages that are searched
LOG_KINDS = {
    "driver": "driver-log",
    "container-toolkit": "toolkit-log",
    "device-plugin": "device-plugin-log",
    "operator-validator": "validator-log",
    "cuda-validator": "validator-log",
    "gpu-operator": "operator-log",
}
# These say that something failed; what failed, the event before says.
EMPTY_WORDS = ("back-off", "error: errimagepull", "error: imagepullbackoff", "error: crashloopbackoff")


def explain(pod: OperandPod, state: OperatorState) -> tuple[str, tuple[str, ...]]:
    """Give the words that explain best how a pod stands, and the ids of the known issues that it shows."""
    said, warnings = messages(pod), warnings_of(pod, state)
    told = [*said, *(each.message for each in warnings)]
    telling = [each for each in told if each and not each.lower().startswith(EMPTY_WORDS)]
    text = "\n".join((pod.proof.text, *said, *(each.message for each in warnings if counts(each, pod, state))))
    issues = tuple(each.issue.id for each in match(text[:LARGEST], source=pod.proof.source))
    return decisive(telling or told), issues


def messages(pod: OperandPod) -> list[str]:
    """Give what a pod's containers and the pod itself say of why they are not running, without repetitions."""
    several = [each for one in pod.waiting_containers for each in (one.message, one.last_message)]
    several += [pod.pod.message] if pod.pod else []
    return list(dict.fromkeys(each for each in several if each))


def warnings_of(pod: OperandPod, state: OperatorState) -> list[Happening]:
    """Give the warnings about a pod that are not over."""
    return [each for each in state.events_of(pod.name) if each.type == "Warning" and not over(each, state)]


def over(event: Happening, state: OperatorState) -> bool:
    """Tell whether an event is of the past.

    It is when the pod is no more, or younger; and when the pod has become ready since, or the container that it
    happened to (any of them, if it happened to the whole pod) has begun to run or has done its work. Where times are
    missing, a pod that is healthy now has left behind what was warned of.
    """
    if event.kind.lower() not in {"pod", "pods"} or not state.pods:
        return False
    pod = state.by_name.get(event.name)
    if pod is None:
        return operand_of(event.name) is not None
    if not pod.pod:
        return pod.healthy
    times = [each.since for each in pod.pod.conditions if (each.type, each.status) == ("Ready", "True")]
    times += [
        each.since
        for each in (*pod.pod.init_containers, *pod.pod.containers)
        if event.container in {"", each.name} and (each.state == "running" or each.done)
    ]
    known = [each for each in times if each]
    if event.at is None or not known:
        return pod.healthy
    came = max(*known, pod.pod.created or known[0])
    # In the second in which an init container ends, the next container may fail: that is not over.
    return came > event.at or (pod.healthy and came == event.at)


def counts(event: Happening, pod: OperandPod, state: OperatorState) -> bool:
    """Tell whether a warning is a finding: a pod that is starting and gets no sandbox yet is tried again."""
    return event.container != "" or not starting(pod, state)


def known_issues(state: OperatorState, *, broken: bool) -> tuple[Match, ...]:
    """Find the known issues in events, pods' messages and logs, the first document that shows one holding.

    Parameters
    ----------
    broken
        Whether any pod is broken. Where all wait for the driver that is no finding yet (K05).
    """
    found: dict[str, Match] = {}
    versions = {"gpu-operator": state.version.text} if state.version else {}

    def search(text: str, proofs: Iterable[Proof], kind: str | None = None) -> None:
        """Search a text whose lines are proven by objects or rows."""
        by_text = {each.text: each for each in proofs}
        for each in match(text[:LARGEST], kind=kind, versions=versions):
            shown = tuple(by_text[one.text] for one in each.proofs if one.text in by_text)
            found.setdefault(each.issue.id, replace(each, proofs=shown or tuple(by_text.values())[:1]))

    for event in state.events:
        about = state.by_name.get(event.name)
        if event.type == "Warning" and not over(event, state) and (about is None or counts(event, about, state)):
            search(f"{event.kind} {event.name} {event.message}", [event.proof], "events")
    for pod in standing(state.pods):
        if not pod.healthy:
            search("\n".join((pod.proof.text, *messages(pod))), [pod.proof])
    rows = [each.proof for each in state.pods if each.pod is None] if broken else []
    search("\n".join(each.text for each in rows), rows, "operator-listing")
    for log in state.logs:
        if (kind := log_kind(log, state)) and not (log.previous and recovered(log, state)):
            for each in match(log.text, source=log.name, kind=None if kind == "any" else kind, versions=versions):
                found.setdefault(each.issue.id, each)
    return tuple(sorted(found.values(), key=lambda each: each.issue.id))


def recovered(log: Log, state: OperatorState) -> bool:
    """Tell whether whose log it is, or the operator if its name does not tell, is healthy now."""
    pods = [state.by_name[log.pod]] if log.pod in state.by_name else state.of_operand("" if log.pod else "gpu-operator")
    return bool(pods) and all(each.healthy for each in pods)


def log_kind(log: Log, state: OperatorState) -> str:
    """Tell what kind of log it is to the catalogue of known issues: `any`, or "" for one that is not of the stack."""
    operand = operand_of(log.pod) if log.pod else None
    base = log.name.rpartition("/")[2]
    if operand:
        return LOG_KINDS.get(operand.key, "")
    if base.startswith("nvidia-bug-report"):
        return "any"
    if base.startswith("gpu_operator_pod"):
        return "operator-log"
    return "device-plugin-log" if any(each.name == log.name for each in state.plugin_logs) else ""
