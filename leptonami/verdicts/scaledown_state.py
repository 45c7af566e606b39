"""Why a node is, or is not, removed: the verdict from the objects of a cluster, in the order the autoscaler decides.

Already being removed; not one of its nodes; the cluster's health (the loop stops); the group's minimum size; the
annotation; utilization by GPU or by CPU and memory; the pods that cannot be drained; a place for the others; the
timers; the cooldown. What decides first is the verdict's branch, what would decide next stands in `also`: when one
cause is cured, the next keeps the node. The order was read in the sources and tried with the recordings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from leptonami.proof import Proof
from leptonami.readers.autoscaler.events import Step
from leptonami.readers.objects import Node
from leptonami.verdicts.clusterstate import ClusterState, taint_time
from leptonami.verdicts.draining import Drain
from leptonami.verdicts.flags import Flags
from leptonami.verdicts.gpunode import GpuView
from leptonami.verdicts.placing import TO_BE_DELETED
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_context import Context, shown
from leptonami.verdicts.scaledown_log import count, short
from leptonami.verdicts.scaledown_timers import timed
from leptonami.verdicts.utilization import Utilization, utilization_of

__all__ = ["ClusterState", "Flags", "judge"]

SCALE_DOWN_DISABLED = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
GIVE_UP = timedelta(minutes=5)  # MaxCloudProviderNodeDeletionTime: an older mark no longer counts as being deleted
MOST_PROOFS = 12
NOT_ITS_OWN = {
    ("eks.amazonaws.com/compute-type", "fargate"): "it is a Fargate node, which EKS manages",
    ("eks.amazonaws.com/compute-type", "auto"): "it is a node of EKS Auto Mode, which EKS manages",
}
# Blocked by these, a node would go with other options.
OPTIONAL = {
    Branch.NO_ACCELERATOR_LABEL,
    Branch.SCALE_UP_COOLDOWN,
    Branch.POD_KUBE_SYSTEM,
    Branch.POD_LOCAL_STORAGE,
    Branch.OPERATOR_LOCAL_STORAGE,
    Branch.POD_NOT_REPLICATED,
    Branch.VALIDATOR_PODS,
    Branch.POD_CONTROLLER,
}
KARPENTER = ("karpenter.sh/nodepool", "karpenter.sh/provisioner-name")


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a node stays."""

    branch: Branch
    proofs: tuple[Proof, ...]
    notes: tuple[str, ...] = ()
    state: State = State.BLOCKED
    since: datetime | None = None


def judge(state: ClusterState, *, now: datetime | None, flags: Flags | None = None) -> list[NodeVerdict]:
    """Judge every node of a cluster, and those that its events say were removed.

    Parameters
    ----------
    state
        The cluster. Without pods, little can be said of a node; without nodes, only what events tell.
    now
        When the state was taken; None takes the latest time in it and says so.
    flags
        The autoscaler's options; None takes those of the autoscaler's own pod where that is among the objects, else
        its defaults, and says which.

    Returns
    -------
    list of NodeVerdict
        By the nodes' names. Each has its proofs, except one that is not determined.
    """
    context = Context.of(state, now, flags)
    verdicts = [*(of_node(context, each) for each in state.objects.nodes), *gone(context), *unseen(context)]
    verdicts.sort(key=lambda each: each.node)
    return [
        replace(each, proofs=each.proofs[:MOST_PROOFS], notes=(*each.notes, *general(context, each)))
        for each in verdicts
    ]


def general(context: Context, verdict: NodeVerdict) -> Iterable[str]:
    """Say what a verdict rests on that nobody gave: the time, the options, what could not be read."""
    yield from context.problems
    if context.time_note and verdict.state not in {State.REMOVED, State.REMOVING}:
        yield context.time_note
    status = context.state.status
    if status is not None and status.form == "initializing" and verdict.state is State.WILL_BE_REMOVED:
        yield "the autoscaler has just started (its status is Initializing): its timers begin anew"
    if context.flags_note and (verdict.state in {State.WILL_BE_REMOVED, State.NEEDED} or verdict.branch in OPTIONAL):
        yield context.flags_note


def gone(context: Context) -> Iterable[NodeVerdict]:
    """Judge the nodes that are not there any more, by the events about them."""
    there = {each.name for each in context.state.objects.nodes}
    for node, told in context.events_of.items():
        events = [each for each in told if each.step is not Step.NONE]
        if node in there or not events:
            continue
        removed = [each for each in events if each.step is Step.REMOVED]
        begun = [each for each in events if each.step in {Step.MARKED, Step.REMOVING}]
        decisive = removed[-1] if removed else events[-1]
        proofs = tuple(dict.fromkeys(each.proof for each in (decisive, *begun)))
        failed = any(each.step is Step.FAILED for each in events)
        notes = ["an event says that removing it failed once"] if failed else []
        if removed or (begun and context.state.has_nodes):
            if not removed:
                notes.append("no event says that its removal ended, but the node is not there any more")
            yield NodeVerdict(node, State.REMOVED, None, decisive.last, decisive.last, proofs, tuple(notes))
        elif context.state.has_nodes:
            notes.append("the node is not there any more; no event says that the autoscaler removed it")
            yield NodeVerdict(node, State.NOT_DETERMINED, None, None, None, proofs, tuple(notes))
        else:
            state = State.REMOVING if begun and events[-1].step is not Step.FAILED else State.NOT_DETERMINED
            notes.append("nodes were not given: whether it is still there is not known")
            since = begun[0].last if begun else None
            yield NodeVerdict(node, state, None, None, since, proofs, tuple(notes))


def unseen(context: Context) -> Iterable[NodeVerdict]:
    """Name the nodes that pods stand on and whose objects were not given."""
    there = {each.name for each in context.state.objects.nodes} | {each.node for each in context.state.events}
    for name in context.pods_on:
        if name not in there:
            yield NodeVerdict(name, State.NOT_DETERMINED, notes=("its Node object was not given",))


def of_node(context: Context, node: Node) -> NodeVerdict:
    """Judge one node."""
    early = removing(context, node) or not_autoscaled(node)
    if early is not None:
        return early
    gpu = context.gpus[node.name]
    before = [each for each in (cluster(context), minimum(context, node), annotated(node)) if each is not None]
    if not context.state.has_pods:
        if before:
            return conclude(
                node, before, (*context.health.notes, "pods were not given: what else keeps it is not known")
            )
        note = "pods were not given: neither its utilization nor what blocks it can be told"
        return NodeVerdict(node.name, State.NOT_DETERMINED, proofs=(node.proof(str(gpu)),), notes=(note,))
    pods = context.pods_on.get(node.name, [])
    rules = context.rules
    used = utilization_of(
        node, pods, gpu, context.flags, is_daemon=rules.is_daemon, is_mirror=rules.is_mirror, is_gone=rules.is_gone
    )
    drain = rules.drain(pods)
    found = [
        *before,
        *unready_kept(context, node),
        *(utilization(context, node, gpu, used) if used else ()),
        *blocked(drain),
        *no_place(context, node, drain),
    ]
    notes = (
        *context.health.notes,
        *gpu.notes,
        *used_notes(used, gpu, context.flags),
        *drain.notes,
        *failed_before(context, node),
    )
    also = contributing(gpu)
    if found:
        # What contributes has its proof as well, behind what decides.
        named = {each.branch for each in found}
        found += [Finding(each, (node.proof(str(gpu)),)) for each in also if each not in named]
        return conclude(node, found, notes)
    if used is None:
        words = "its object does not tell what CPU and memory are allocatable, so its utilization is not known"
        return NodeVerdict(
            node.name, State.NOT_DETERMINED, proofs=(node.proof(words),), notes=(*notes, words), also=also
        )
    proofs = (node.proof(f"{gpu}; {used}"),)
    if drain.moving:
        notes = (
            *notes,
            f"{count(len(drain.moving), 'pod')} to move: each fits elsewhere by itself; all together was not tried",
        )
    return timed(context, node, proofs, notes, tuple(each for each in also if each is not Branch.GPU_NOT_READY))


def failed_before(context: Context, node: Node) -> tuple[str, ...]:
    """Say that removing it was tried and failed."""
    events = [each for each in context.events_of.get(node.name, ()) if each.step is not Step.NONE]
    last = events[-1] if events else None
    if last is None or last.step is not Step.FAILED or last.last is None:
        return ()
    return (f"removing it failed at {shown(last.last)}: {last.message}",)


def conclude(node: Node, found: list[Finding], notes: tuple[str, ...]) -> NodeVerdict:
    """Make the verdict: the first finding decides, the others would decide after it."""
    first = found[0]
    proofs = tuple(dict.fromkeys(proof for each in found for proof in each.proofs))
    said = tuple(dict.fromkeys((*(note for each in found for note in each.notes), *notes)))
    further = dict.fromkeys(each.branch for each in found[1:])
    return NodeVerdict(
        node.name,
        first.state,
        first.branch,
        None,
        first.since,
        proofs,
        said,
        tuple(each for each in further if each is not first.branch),
    )


def removing(context: Context, node: Node) -> NodeVerdict | None:
    """Find out whether it is being removed already."""
    events = context.events_of.get(node.name, [])
    marked = any(each.key == TO_BE_DELETED for each in node.taints)
    notes: list[str] = []
    if not marked and node.deleted is None:
        last = events[-1] if events else None
        fresh = last is not None and (node.created is None or last.last is None or last.last > node.created)
        if last is None or last.step is not Step.REMOVED or not fresh:
            return None
        note = "its instance is gone, says the autoscaler; its Node object is still there"
        return NodeVerdict(node.name, State.REMOVING, None, None, last.last, (last.proof,), (note,))
    since = taint_time(node, TO_BE_DELETED) if marked else node.deleted
    proofs = []
    if marked:
        when = f" since {shown(since)}" if since else ""
        proofs.append(node.proof(f"taint {TO_BE_DELETED}{when}"))
        if since is not None and context.now - since > GIVE_UP:
            notes.append(
                f"the taint is {short(context.now - since)} old: after {short(GIVE_UP)} the autoscaler no longer "
                "counts it as being deleted; look whether draining hangs"
            )
    if node.deleted is not None:
        proofs.append(node.proof(f"deletionTimestamp {shown(node.deleted)}"))
        if not marked:
            notes.append("it has no taint of the autoscaler: somebody else deletes it")
    proofs += [each.proof for each in events if each.step in {Step.MARKED, Step.REMOVING, Step.FAILED}][-3:]
    return NodeVerdict(node.name, State.REMOVING, None, None, since, tuple(proofs), tuple(notes))


def not_autoscaled(node: Node) -> NodeVerdict | None:
    """Find out whether it is somebody else's to remove."""
    why = next((note for (label, value), note in NOT_ITS_OWN.items() if node.labels.get(label) == value), "")
    label = next((each for each in KARPENTER if each in node.labels), "")
    if label:
        why = f"it is Karpenter's (label {label} = {node.labels[label]})"
    if not why:
        return None
    return NodeVerdict(node.name, State.BLOCKED, Branch.NOT_AUTOSCALED, proofs=(node.proof(why),), notes=(why,))


def cluster(context: Context) -> Finding | None:
    """Branch 5: the whole loop stops."""
    health = context.health
    if not health.stopped:
        return None
    return Finding(Branch.CLUSTER_NOT_READY, health.proofs, health.notes, since=health.since)


def minimum(context: Context, node: Node) -> Finding | None:
    """Find out whether its group is at its minimum size."""
    group, status = context.groups.get(node.name), context.state.status
    if group is None or status is None or group.at_minimum is not True:
        return None
    notes = (f"the status of {shown(status.latest)} is old",) if context.alive is False and status.latest else ()
    return Finding(Branch.MIN_SIZE, (status.proof(f"node group {group}"),), notes)


def annotated(node: Node) -> Finding | None:
    """Find the annotation that forbids it."""
    if node.annotations.get(SCALE_DOWN_DISABLED) != "true":
        return None
    return Finding(Branch.ANNOTATION, (node.proof(f'annotation {SCALE_DOWN_DISABLED}: "true"'),))


def unready_kept(context: Context, node: Node) -> list[Finding]:
    """Find out whether unready nodes are kept."""
    if context.flags.scale_down_unready or context.ready(node):
        return []
    return [Finding(Branch.UNREADY_DISABLED, (node.proof("not ready, with --scale-down-unready-enabled=false"),))]


def utilization(context: Context, node: Node, gpu: GpuView, used: Utilization) -> list[Finding]:
    """Find out whether its use keeps it; branch 3 if that is because the autoscaler does not know its GPU."""
    if not used.needed(context.flags):
        return []
    pods = tuple(each.proof(f"requests {used.resource} = {each.requests[used.resource]:f}") for each in used.pods[:3])
    if gpu.unknown_gpu:
        proofs = (node.proof(f"{gpu}; {used}"), *pods)
        return [Finding(Branch.NO_ACCELERATOR_LABEL, proofs)]
    return [Finding(Branch.UTILIZATION, (node.proof(str(used)), *pods), state=State.NEEDED)]


def blocked(drain: Drain) -> list[Finding]:
    """Give a finding for each branch by which a pod blocks."""
    by_branch: dict[Branch, list[Proof]] = {}
    for each in drain.blockers:
        by_branch.setdefault(each.branch, []).append(each.proof)
    return [Finding(branch, tuple(proofs[:4])) for branch, proofs in by_branch.items()]


def no_place(context: Context, node: Node, drain: Drain) -> list[Finding]:
    """Find out whether a pod that would have to move fits on no other node."""
    homeless = [each for each in drain.moving if context.places.elsewhere(each, node.name) is None]
    if not homeless:
        return []
    proofs = tuple(each.proof(f"fits on no other node by itself: {asked(each.requests)}") for each in homeless[:4])
    note = "a place was looked for among the nodes that were given: what is free on them, their labels and taints"
    return [Finding(Branch.NO_PLACE_FOR_PODS, proofs, (note,))]


def asked(requests: object) -> str:
    """Show what a pod requests."""
    if not isinstance(requests, dict) or not requests:
        return "requests nothing"
    return "requests " + ", ".join(f"{name} = {amount:f}" for name, amount in sorted(requests.items()))


def contributing(gpu: GpuView) -> tuple[Branch, ...]:
    """Give the branches of its GPU that play a part whatever decides."""
    if gpu.unready:
        return (Branch.GPU_NOT_READY,)
    return (Branch.NO_ACCELERATOR_LABEL,) if gpu.unknown_gpu else ()


def used_notes(used: Utilization | None, gpu: GpuView, flags: Flags) -> tuple[str, ...]:
    """Say what its utilization comes to where that is the point."""
    if used is None:
        return ()
    notes = []
    if gpu.unknown_gpu:
        verdict = (
            "which keeps it" if used.needed(flags) else "so that this delays nothing, but the group over-scales first"
        )
        notes.append(f"the autoscaler goes by CPU and memory, DaemonSets counted: {used}, {verdict}")
    if used.exact:
        notes.append("it is exactly at the threshold: that counts as used up to 1.34 and as unneeded from 1.35 on")
    return tuple(notes)
