"""The pods of the GPU operator's operands, from objects and from rows of a listing, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from leptonami.proof import Proof
from leptonami.readers.decisive import decisive
from leptonami.readers.gpuoperands import CLUSTER_WIDE, Operand, operand_of
from leptonami.readers.kubectl import Row
from leptonami.readers.objects import Container, Objects, Pod

__all__ = ["OperandPod", "pods_of", "seconds", "standing"]

# Of these a pod that takes another's place may be on another node; DaemonSets replace theirs where they were.
DEPLOYED = CLUSTER_WIDE - {"nfd-worker"}
TOLD = 250  # characters of a message in a proof, which has other things to say too


@dataclass(frozen=True, slots=True)
class OperandPod:
    """A pod of an operand, from an object or from a row of a listing.

    Parameters
    ----------
    node
        Where it is, or where its DaemonSet wants it; None if a listing does not tell, "" if it is nowhere yet.
    status
        The word of kubectl's STATUS.
    ready
        Containers that are ready, and all of them; None if unknown.
    age
        Seconds; None if unknown.
    pod
        The object, if there is one.
    """

    operand: Operand
    namespace: str
    name: str
    node: str | None
    status: str
    ready: tuple[int, int] | None
    restarts: int | None
    age: int | None
    proof: Proof
    pod: Pod | None = None

    @property
    def terminal(self) -> bool:
        """Tell whether it has ended for good."""
        return self.pod.terminal if self.pod else self.status in {"Completed", "Succeeded"}

    @property
    def going(self) -> bool:
        """Tell whether it is being deleted, or has failed for good: whoever made it makes another one."""
        if self.pod:
            return self.pod.deleted is not None or self.pod.phase == "Failed"
        return self.status in {"Terminating", "Evicted"}

    @property
    def healthy(self) -> bool:
        """Tell whether it is as it should be: Completed if it is one that ends, else Running and all ready."""
        if self.operand.completes and self.status in {"Completed", "Succeeded"}:
            return True
        if self.operand.completes and self.pod and self.pod.phase == "Succeeded":
            return True
        all_ready = self.ready is None or (self.ready[0] == self.ready[1] and self.ready[1] > 0)
        return not self.operand.completes and self.status == "Running" and all_ready

    @property
    def waiting_containers(self) -> Iterator[Container]:
        """Give the containers that are not running or done, those that run first coming first."""
        if self.pod:
            for each in (*self.pod.init_containers, *self.pod.containers):
                if not (each.done or (each.state == "running" and (each.ready or each.init))):
                    yield each


def pods_of(objects: Objects, rows: Iterable[Row], taken: datetime | None) -> tuple[OperandPod, ...]:
    """Put the operands' pods together; where a pod is in both, the object tells more.

    Parameters
    ----------
    taken
        When the evidence was collected: ages are counted to it.
    """
    found: dict[str, OperandPod] = {}
    for row in rows:
        operand = operand_of(row.name) if row.kind == "Pod" else None
        if operand:
            node = row.node if row.node is not None else found[row.name].node if row.name in found else None
            found[row.name] = OperandPod(
                operand, row.namespace or "", row.name, node, row.status, row.ready, row.restarts, row.age, row.proof
            )
    for pod in objects.pods:
        operand = operand_of(pod.name)
        if operand:
            age = seconds(pod.created, taken)
            listed = found.get(pod.name)
            found[pod.name] = OperandPod(
                operand=operand,
                namespace=pod.namespace,
                name=pod.name,
                node=pod.node or pod.destined,
                status=pod.status,
                ready=pod.ready,
                restarts=pod.restarts,
                age=age if age is not None else listed.age if listed else None,
                proof=pod.proof(summary(pod)),
                pod=pod,
            )
    return tuple(found.values())


def seconds(since: datetime | None, taken: datetime | None) -> int | None:
    """Count the seconds from a moment to that of the collection, no fewer than 0; None if either is unknown."""
    return int(max(0.0, (taken - since).total_seconds())) if since and taken else None


def standing(pods: Iterable[OperandPod]) -> Iterator[OperandPod]:
    """Give the pods that count: not one that goes or has failed for good, once a younger one is in its place.

    An evicted pod of a Deployment stays for ever, and the pod of a DaemonSet that is rolled out goes while the next
    one comes.
    """
    several = list(pods)
    youngest: dict[tuple[str, str], int] = {}
    for each in several:
        if (place := place_of(each)) and not each.going and each.age is not None:
            youngest[place] = min(youngest.get(place, each.age), each.age)
    for each in several:
        place = place_of(each)
        if not (each.going and place in youngest and each.age is not None and each.age > youngest[place]):
            yield each


def place_of(pod: OperandPod) -> tuple[str, str] | None:
    """Name the place in which another pod takes over from this one; None if it is not known."""
    if pod.operand.key in DEPLOYED:
        return pod.operand.key, ""
    return (pod.operand.key, pod.node) if pod.node else None


def summary(pod: Pod) -> str:
    """Say in one line how a pod stands, with the words of the container that explains it."""
    ready, all_of = pod.ready
    words = [f"{pod.status}, {ready}/{all_of} ready, {pod.restarts} restarts"]
    words += [f"on {pod.node}"] if pod.node else ["on no node"]
    for each in (*pod.init_containers, *pod.containers):
        message = each.message or each.last_message
        if each.state != "running" and message:
            words.append(f"{each.name}: {each.reason or each.last_reason}: {decisive([message], TOLD)}")
            break
    if pod.message:
        words.append(pod.message)
    return "; ".join(words)
