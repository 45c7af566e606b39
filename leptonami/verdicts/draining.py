"""Which pods keep cluster-autoscaler from draining a node: its rules, in its order.

The order is that of `simulator/drainability/rules` (1.28 and later; `utils/drain` before has the same rules): static
pods, pods that are terminating for long, missing controllers and too few replicas, DaemonSets, `safe-to-evict`, pods
that have ended; then what blocks: not replicated, kube-system without a budget, not safe to evict, local storage, the
budget. The autoscaler names the first pod that blocks and stops; here all are found, since a remedy must cure all of
them. A DaemonSet that is missing is not looked for: the versions differ about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.fields import integer, mappings, text
from leptonami.readers.objects import Objects, Pod, PodDisruptionBudget, Workload
from leptonami.verdicts.flags import Flags
from leptonami.verdicts.scaledown import Branch

__all__ = ["SAFE_TO_EVICT", "Blocker", "Drain", "Rules"]

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
DAEMONSET_POD = "cluster-autoscaler.kubernetes.io/daemonset-pod"
MIRROR = "kubernetes.io/config.mirror"
REPLICATED = frozenset({"ReplicationController", "Job", "ReplicaSet", "StatefulSet"})
CONTROLLERS = {
    "ReplicationController": "replication controller",
    "ReplicaSet": "replication controller",  # the autoscaler says so of both
    "Job": "job",
    "StatefulSet": "statefulset",
}
GRACE = timedelta(seconds=30)  # of a pod that does not say; the API's default
EXTRA = timedelta(seconds=30)  # beyond its grace period a terminating pod is taken for gone
LONGEST_GRACE = 10**7  # seconds

# The one to tell first: what this project is about, then the autoscaler's own order.
RANK = {
    each: index
    for index, each in enumerate(
        (
            Branch.VALIDATOR_PODS,
            Branch.OPERATOR_LOCAL_STORAGE,
            Branch.POD_CONTROLLER,
            Branch.POD_NOT_REPLICATED,
            Branch.POD_KUBE_SYSTEM,
            Branch.POD_NOT_SAFE_TO_EVICT,
            Branch.POD_LOCAL_STORAGE,
            Branch.POD_DISRUPTION_BUDGET,
        )
    )
}


@dataclass(frozen=True, slots=True)
class Blocker:
    """A pod that blocks: why, in the autoscaler's own words, and the object that proves it."""

    pod: Pod
    branch: Branch
    words: str
    proof: Proof
    note: str = ""


@dataclass(frozen=True, slots=True)
class Drain:
    """What draining a node comes to.

    Parameters
    ----------
    blockers
        The pods that block, the one to tell first in front.
    moving
        The pods that would have to find another place.
    notes
        What could not be told, or comes close.
    """

    blockers: tuple[Blocker, ...]
    moving: tuple[Pod, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, with what they need to know of the cluster: make it once with `of` and ask it about many nodes."""

    flags: Flags
    now: datetime
    raw: Mapping[tuple[str, str], Mapping[str, Any]]
    budgets: Mapping[str, tuple[PodDisruptionBudget, ...]]
    workloads: Mapping[tuple[str, str, str], Workload]
    listed: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, objects: Objects, flags: Flags, now: datetime) -> Rules:
        """Look up the cluster's budgets and controllers."""
        budgets: dict[str, list[PodDisruptionBudget]] = {}
        for each in objects.budgets:
            budgets.setdefault(each.namespace, []).append(each)
        raw = {
            (text(each.get("metadata"), "namespace"), text(each.get("metadata"), "name")): each
            for _, each in objects.of_kind("Pod")
        }
        workloads = {(each.kind, each.namespace, each.name): each for each in objects.workloads}
        return cls(
            flags,
            now,
            raw,
            {namespace: tuple(each) for namespace, each in budgets.items()},
            workloads,
            frozenset((kind, namespace) for kind, namespace, _ in workloads),
        )

    def drain(self, pods: Iterable[Pod]) -> Drain:
        """Go through the pods of a node."""
        blockers: list[Blocker] = []
        moving: list[Pod] = []
        notes: list[str] = []
        for pod in pods:
            if pod.terminal or self.is_mirror(pod) or self.is_gone(pod):
                continue
            blocker = self.controller_gone(pod)
            if blocker is None:
                if self.is_daemon(pod):
                    continue
                if pod.annotations.get(SAFE_TO_EVICT) == "true":
                    moving.append(pod)
                    held = self.without_budget(pod)
                    if held:
                        notes.append(f"{pod.place} is safe to evict, but its budget {held.name} allows no eviction now")
                    continue
                blocker = self.blocked(pod)
            if blocker is None:
                moving.append(pod)
            else:
                blockers.append(blocker)
        blockers.sort(key=lambda each: (RANK[each.branch], each.pod.namespace, each.pod.name))
        notes += dict.fromkeys(each.note for each in blockers if each.note)
        return Drain(tuple(blockers), tuple(moving), tuple(notes))

    def is_mirror(self, pod: Pod) -> bool:
        """Tell whether it is a static pod, which the kubelet started from a file."""
        owner = pod.controller
        return MIRROR in pod.annotations or (owner is not None and owner.kind == "Node")

    def is_daemon(self, pod: Pod) -> bool:
        """Tell whether it is a DaemonSet's pod, or marked as one."""
        owner = pod.controller
        return (owner is not None and owner.kind == "DaemonSet") or pod.annotations.get(DAEMONSET_POD) == "true"

    def is_gone(self, pod: Pod) -> bool:
        """Tell whether it has been terminating for so long that it counts as gone."""
        if pod.deleted is None:
            return False
        written = integer(self.raw.get((pod.namespace, pod.name)), "spec", "terminationGracePeriodSeconds")
        known = written is not None and 0 <= written <= LONGEST_GRACE
        grace = timedelta(seconds=written) if known and written is not None else GRACE
        return self.now - pod.deleted > grace + EXTRA

    def controller_gone(self, pod: Pod) -> Blocker | None:
        """Find a controller that is gone or has too few replicas, as far as controllers were given."""
        owner = pod.controller
        if owner is None or owner.kind not in CONTROLLERS or not self.flags.skip_custom_controllers:
            return None
        found = self.workloads.get((owner.kind, pod.namespace, owner.name))
        word = CONTROLLERS[owner.kind]
        if found is None:
            # A listing that has none of this kind in the namespace says nothing about this one.
            if (owner.kind, pod.namespace) not in self.listed:
                return None
            words = f"{word} for {pod.namespace}/{pod.name} is not available"
            note = f"the {owner.kind}s of namespace {pod.namespace} that were given do not have {owner.name}"
            return Blocker(
                pod, Branch.POD_CONTROLLER, words, pod.proof(f"controlled by {owner.kind} {owner.name}"), note
            )
        if owner.kind in {"ReplicaSet", "ReplicationController"} and found.desired < self.flags.min_replica_count:
            words = (
                f"{word} for {pod.namespace}/{pod.name} has too few replicas spec: {found.desired} "
                f"min: {self.flags.min_replica_count}"
            )
            return Blocker(pod, Branch.POD_CONTROLLER, words, found.proof(f"spec.replicas = {found.desired}"))
        return None

    def blocked(self, pod: Pod) -> Blocker | None:
        """Apply the rules that block."""
        return self.not_replicated(pod) or self.system(pod) or self.unsafe(pod) or self.storage(pod) or self.budget(pod)

    def not_replicated(self, pod: Pod) -> Blocker | None:
        """Find out whether nobody whom the autoscaler knows would start it again."""
        owner = pod.controller
        if owner is not None and (not self.flags.skip_custom_controllers or owner.kind in REPLICATED):
            return None
        words = f"{pod.namespace}/{pod.name} is not replicated"
        policy = next((each for each in pod.owners if each.kind == "ClusterPolicy"), None)
        if policy is not None and self.is_nvidia(pod):
            role = "controller" if policy.controller else "owner"
            said = f"phase {pod.phase or 'unknown'} ({pod.status}), {role} ClusterPolicy {policy.name}: {words}"
            return Blocker(pod, Branch.VALIDATOR_PODS, words, pod.proof(said))
        held = f"controller {owner.kind} {owner.name}" if owner else "no controller"
        note = (
            f"from 1.27 on --skip-nodes-with-custom-controller-pods=false would let {pod.place} go, since {owner.kind} "
            f"{owner.name} controls it"
            if owner
            else ""
        )
        said = f"phase {pod.phase or 'unknown'}, {held}: {words}"
        return Blocker(pod, Branch.POD_NOT_REPLICATED, words, pod.proof(said), note)

    def is_nvidia(self, pod: Pod) -> bool:
        """Tell whether the ClusterPolicy that owns it is the GPU operator's (others have a kind of that name)."""
        owners = mappings(self.raw.get((pod.namespace, pod.name)), "metadata", "ownerReferences")
        versions = [text(each, "apiVersion") for each in owners if text(each, "kind") == "ClusterPolicy"]
        return any(not each or each.startswith("nvidia.com/") for each in versions) or not versions

    def system(self, pod: Pod) -> Blocker | None:
        """Find out whether it is a kube-system pod without a budget."""
        if not self.flags.skip_system_pods or pod.namespace != "kube-system" or self.covering(pod):
            return None
        limited = self.flags.since(33)
        age = self.now - pod.created if pod.created else None
        if limited and age is not None and age > self.flags.system_pod_timeout:
            return None
        words = f"non-daemonset, non-mirrored, non-pdb-assigned kube-system pod present: {pod.name}"
        notes = []
        if not self.budgets:
            notes.append("no PodDisruptionBudget was given: if kube-system pods have one, it was not seen")
        if limited is None:
            notes.append("from autoscaler 1.33 on such a pod blocks only for the first hour after its creation")
        said = f"namespace kube-system, no PodDisruptionBudget covers it: {words}"
        return Blocker(pod, Branch.POD_KUBE_SYSTEM, words, pod.proof(said), "; ".join(notes))

    def unsafe(self, pod: Pod) -> Blocker | None:
        """Find out whether it is annotated not to be evicted."""
        if pod.annotations.get(SAFE_TO_EVICT) != "false":
            return None
        words = f"pod annotated as not safe to evict present: {pod.name}"
        return Blocker(pod, Branch.POD_NOT_SAFE_TO_EVICT, words, pod.proof(f'annotation {SAFE_TO_EVICT}: "false"'))

    def storage(self, pod: Pod) -> Blocker | None:
        """Find out whether it has local storage that counts."""
        if not self.flags.skip_local_storage:
            return None
        safe = set(pod.annotations.get(SAFE_VOLUMES, "").split(","))
        memory = {
            text(each, "name")
            for each in mappings(self.raw.get((pod.namespace, pod.name)), "spec", "volumes")
            if text(each, "emptyDir", "medium") == "Memory"
        }
        for volume in pod.volumes:
            if volume.kind not in {"hostPath", "emptyDir"} or volume.name in safe:
                continue
            if volume.name in memory and self.flags.since(27) is not False:
                continue  # kubernetes/autoscaler pull request 5551, of 2023
            what = f"{volume.kind} {volume.path}".strip()
            words = f"pod with local storage present: {pod.name}"
            operator = volume.kind == "hostPath" and is_operator(pod)
            branch = Branch.OPERATOR_LOCAL_STORAGE if operator else Branch.POD_LOCAL_STORAGE
            return Blocker(pod, branch, words, pod.proof(f"volume {volume.name} is {what}: {words}"))
        return None

    def budget(self, pod: Pod) -> Blocker | None:
        """Find out whether a budget allows no disruption."""
        held = self.without_budget(pod)
        if held is None:
            return None
        words = f"not enough pod disruption budget to move {pod.namespace}/{pod.name}"
        said = f"disruptionsAllowed = {held.disruptions_allowed}, covers pod {pod.namespace}/{pod.name}: {words}"
        return Blocker(pod, Branch.POD_DISRUPTION_BUDGET, words, held.proof(said))

    def covering(self, pod: Pod) -> list[PodDisruptionBudget]:
        """Give the budgets that cover a pod."""
        return [each for each in self.budgets.get(pod.namespace, ()) if each.covers(pod)]

    def without_budget(self, pod: Pod) -> PodDisruptionBudget | None:
        """Give a budget of the pod that allows no disruption."""
        allowed = ((each, each.disruptions_allowed) for each in self.covering(pod))
        return next((each for each, number in allowed if number is not None and number < 1), None)


def is_operator(pod: Pod) -> bool:
    """Tell whether it is the GPU operator's own pod (`gpu-operator-<hash>`), and not one of its operands."""
    labels = pod.labels
    component = labels.get("app.kubernetes.io/component") or labels.get("app")
    owner = pod.controller
    named = owner is not None and owner.kind == "ReplicaSet" and owner.name.startswith("gpu-operator-")
    if named and owner is not None and "node-feature-discovery" in owner.name:
        return False
    return component == "gpu-operator" or named
