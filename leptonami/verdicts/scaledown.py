"""Why a node is, or is not, removed by cluster-autoscaler: the words of the verdict.

The branches are those of a decision tree that was read in the sources of gpu-operator (v1.11.1 to v26.7.0) and
cluster-autoscaler (1.12 to 1.36) and reproduced with the real autoscaler on
emulated nodes (`data/recorded/autoscaler`).
`scaledown_log` finds them in a log, `scaledown_state` in the objects of a cluster, and `combine` joins the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from leptonami.proof import Proof

__all__ = ["BRANCHES", "Branch", "NodeVerdict", "State"]


class State(StrEnum):
    """What becomes of a node."""

    REMOVED = "removed"
    REMOVING = "being removed"
    WILL_BE_REMOVED = "will be removed"
    BLOCKED = "blocked"
    NEEDED = "needed"
    NOT_DETERMINED = "not determined"


class Branch(StrEnum):
    """Which branch of the decision tree fired: the reason why a node is not (or not yet) removed."""

    VALIDATOR_PODS = "validator-pods"
    OPERATOR_LOCAL_STORAGE = "operator-local-storage"
    NO_ACCELERATOR_LABEL = "no-accelerator-label"
    GPU_NOT_READY = "gpu-not-ready"
    CLUSTER_NOT_READY = "cluster-not-ready"
    SCALE_UP_COOLDOWN = "scale-up-cooldown"
    MIN_SIZE = "min-size"
    UTILIZATION = "utilization"
    POD_NOT_REPLICATED = "pod-not-replicated"
    POD_LOCAL_STORAGE = "pod-local-storage"
    POD_KUBE_SYSTEM = "pod-kube-system"
    POD_NOT_SAFE_TO_EVICT = "pod-not-safe-to-evict"
    POD_DISRUPTION_BUDGET = "pod-disruption-budget"
    POD_CONTROLLER = "pod-controller"
    POD_OTHER = "pod-other"
    NO_PLACE_FOR_PODS = "no-place-for-pods"
    ANNOTATION = "annotation"
    NOT_AUTOSCALED = "not-autoscaled"
    RESOURCE_LIMIT = "resource-limit"
    UNREADY_DISABLED = "unready-disabled"
    DELETE_FAILED = "delete-failed"
    UNNEEDED_TIMER = "unneeded-timer"


@dataclass(frozen=True, slots=True)
class About:
    """What a branch means and what to do.

    Parameters
    ----------
    number
        The branch's number in the decision tree (`docs/autoscaler.md`), 1 to 7.
    cause
        Why the autoscaler keeps the node, in one sentence.
    remedy
        What to do about it.
    wrong
        Whether it is something to mend. A group at its minimum, a node in use, an annotation that somebody set are not.
    """

    number: int
    cause: str
    remedy: str
    wrong: bool = True


BRANCHES: dict[Branch, About] = {
    Branch.VALIDATOR_PODS: About(
        1,
        "a validator pod of the GPU operator has not completed; its controller is the ClusterPolicy, which the "
        "autoscaler does not count as something that would start it again elsewhere",
        "mend the GPU stack so that the validator completes (leptonami explain gpu-operator); until then annotate the "
        'pod cluster-autoscaler.kubernetes.io/safe-to-evict="true", or from 1.27 on run the autoscaler with '
        "--skip-nodes-with-custom-controller-pods=false",
    ),
    Branch.OPERATOR_LOCAL_STORAGE: About(
        2,
        "the gpu-operator pod mounts a hostPath (up to v25.10), which the autoscaler takes for local storage",
        "put the operator on a node without GPU, annotate it "
        'cluster-autoscaler.kubernetes.io/safe-to-evict="true", or upgrade it to v26.3.0 or later',
    ),
    Branch.NO_ACCELERATOR_LABEL: About(
        3,
        "the node has no accelerator label and no allocatable GPU, so the autoscaler does not know it for a GPU node "
        "and goes by its CPU and memory, DaemonSets counted",
        "let nodes register with --node-labels=k8s.amazonaws.com/accelerator=TYPE, and mend the GPU stack",
    ),
    Branch.GPU_NOT_READY: About(
        4,
        "the node has the accelerator label and no allocatable GPU: the autoscaler counts it as not started for 15 "
        "minutes, then as unready, with a timer of its own (--scale-down-unready-time, 20 minutes by default)",
        "mend the GPU stack (leptonami explain gpu-operator); it is late, not stuck",
    ),
    Branch.CLUSTER_NOT_READY: About(
        5,
        "more than 3 nodes and more than 45 % of them are unready (nodes without allocatable GPU count): the whole "
        "loop stops before scaling in either direction, and forgets since when nodes have been unneeded",
        "mend the GPU stack; or raise --ok-total-unready-count while you do",
    ),
    Branch.SCALE_UP_COOLDOWN: About(
        6,
        "the cluster scaled up shortly before (--scale-down-delay-after-add, 10 minutes by default); pods that wait "
        "for a GPU which never becomes allocatable make it scale up again and again",
        "mend the GPU stack so that the pods run, or remove the pods that cannot run",
        wrong=False,
    ),
    Branch.MIN_SIZE: About(7, "the node group is at its minimum size", "lower the group's minimum", wrong=False),
    Branch.UTILIZATION: About(
        7,
        "what its pods request is above the threshold",
        "none: it is used; --scale-down-utilization-threshold moves it",
        wrong=False,
    ),
    Branch.POD_NOT_REPLICATED: About(
        7,
        "a pod on it has no controller that would start it again elsewhere",
        'run it from a Deployment, or annotate it cluster-autoscaler.kubernetes.io/safe-to-evict="true"',
    ),
    Branch.POD_LOCAL_STORAGE: About(
        7,
        "a pod on it has an emptyDir or hostPath volume",
        'annotate it cluster-autoscaler.kubernetes.io/safe-to-evict="true", or run with '
        "--skip-nodes-with-local-storage=false",
    ),
    Branch.POD_KUBE_SYSTEM: About(
        7,
        "a kube-system pod on it has no PodDisruptionBudget",
        "give it one, or run with --skip-nodes-with-system-pods=false (from 1.33 on it blocks for its first hour only)",
    ),
    Branch.POD_NOT_SAFE_TO_EVICT: About(
        7,
        'a pod on it is annotated cluster-autoscaler.kubernetes.io/safe-to-evict="false"',
        "remove the annotation, or let the pod end",
        wrong=False,
    ),
    Branch.POD_DISRUPTION_BUDGET: About(
        7,
        "a PodDisruptionBudget allows no further disruption",
        "add replicas, or loosen the budget",
    ),
    Branch.POD_CONTROLLER: About(
        7,
        "a pod's controller is gone, or has too few replicas",
        "look at the controller; --min-replica-count sets how few are too few",
    ),
    Branch.POD_OTHER: About(7, "a pod on it cannot be moved", "look at the pod that the proof names"),
    Branch.NO_PLACE_FOR_PODS: About(
        7, "its pods fit on no other node", "add room elsewhere, or lower what the pods request", wrong=False
    ),
    Branch.ANNOTATION: About(
        7,
        'the node is annotated cluster-autoscaler.kubernetes.io/scale-down-disabled="true"',
        "remove the annotation",
        wrong=False,
    ),
    Branch.NOT_AUTOSCALED: About(
        7,
        "its node group is not one that the autoscaler manages",
        "none, if Karpenter, EKS Auto Mode or Fargate owns the node; else tag its Auto Scaling group "
        "k8s.io/cluster-autoscaler/enabled",
        wrong=False,
    ),
    Branch.RESOURCE_LIMIT: About(
        7, "the cluster would fall below a resource limit", "lower --cores-total, --memory-total or --gpu-total"
    ),
    Branch.UNREADY_DISABLED: About(
        7, "unready nodes are not removed (--scale-down-unready-enabled=false)", "mend the node, or set it to true"
    ),
    Branch.DELETE_FAILED: About(
        7,
        "the cloud could not delete a node shortly before (--scale-down-delay-after-failure, 3 minutes by default)",
        "read the error in the log; look at the Auto Scaling group's activities",
    ),
    Branch.UNNEEDED_TIMER: About(
        7,
        "it has not been unneeded for long enough (--scale-down-unneeded-time, 10 minutes by default)",
        "none: wait",
        wrong=False,
    ),
}


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What becomes of one node, why, and what proves it.

    Parameters
    ----------
    node
        Its name.
    state
        What becomes of it.
    branch
        Why it is not removed (or not yet); None where it is removed, or nothing is determined.
    at
        When it was removed or will be; None if nobody can tell.
    since
        Since when it has been in this state, as far as the evidence goes back.
    proofs
        What it rests on, the decisive one first. Only `NOT_DETERMINED` may have none.
    notes
        What else there is to know, a sentence each: contributing branches, contradictions, what is missing.
    also
        Further branches that fired or contributed.
    unneeded_since
        Since when the autoscaler held it for unneeded, by its own word; None if it does not say.
    """

    node: str
    state: State
    branch: Branch | None = None
    at: datetime | None = None
    since: datetime | None = None
    proofs: tuple[Proof, ...] = ()
    notes: tuple[str, ...] = ()
    also: tuple[Branch, ...] = field(default=())
    unneeded_since: datetime | None = None

    @property
    def remedy(self) -> str:
        """What to do about it; empty if nothing is to be done."""
        return BRANCHES[self.branch].remedy if self.branch else ""

    @property
    def wrong(self) -> bool:
        """Whether there is something to mend: the node is kept, or late, for a reason that nobody wants."""
        return self.state in {State.BLOCKED, State.WILL_BE_REMOVED} and bool(
            self.branch and BRANCHES[self.branch].wrong
        )

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "node": self.node,
            "state": self.state,
            "branch": self.branch,
            "branch_number": BRANCHES[self.branch].number if self.branch else None,
            "wrong": self.wrong,
            "at": self.at,
            "since": self.since,
            "unneeded_since": self.unneeded_since,
            "cause": self.cause or None,
            "remedy": self.remedy or None,
            "also": list(self.also),
            "notes": list(self.notes),
            "proofs": [each.as_dict() for each in self.proofs],
        }

    @property
    def cause(self) -> str:
        """Why, in one sentence; empty if there is nothing to explain."""
        return BRANCHES[self.branch].cause if self.branch else ""
