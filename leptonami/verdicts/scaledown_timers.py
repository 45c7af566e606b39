"""When a node that nothing blocks will be removed: the timers of cluster-autoscaler, and what holds them up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from leptonami.proof import Proof
from leptonami.readers.objects import Node
from leptonami.verdicts.clusterstate import CANDIDATE, taint_time
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_context import NEVER, Context, add, shown
from leptonami.verdicts.scaledown_log import short

__all__ = ["UNLESS", "timed"]

UNLESS = "unless its group is at its minimum size, which is not in the evidence"
OVERDUE = timedelta(minutes=5)  # loops take seconds; a node that is due for so long is kept by something


def timed(
    context: Context, node: Node, proofs: tuple[Proof, ...], notes: tuple[str, ...], also: tuple[Branch, ...]
) -> NodeVerdict:
    """Judge a node that is unneeded and could be drained, as far as the objects tell."""
    ready = context.ready(node)
    gpu = context.gpus[node.name]
    limit = context.flags.unneeded_time if ready else context.flags.unready_time
    option = "--scale-down-unneeded-time" if ready else "--scale-down-unready-time"
    branch = Branch.GPU_NOT_READY if gpu.unready else Branch.UNNEEDED_TIMER
    # Before 1.27 a node that had not started was a candidate as well, so that its timer ran from the start
    # (kubernetes/autoscaler pull request 5488; whether late releases of 1.24 to 1.26 have it was not checked).
    waits = context.flags.since(27) is not False
    first = context.flags.startup_time if waits else timedelta(0)
    started = add(node.created, first) if node.created and not ready else None
    marked = taint_time(node, CANDIDATE)
    since: datetime | None = None
    at: datetime | None = None
    said = list(notes)
    group = context.groups.get(node.name)
    if marked is None and (context.state.status is None or group is None or group.at_minimum is None):
        said.insert(0, UNLESS)  # one that is marked has passed that test
    if marked is not None:
        since, at = marked, add(marked, limit)
        proofs = (node.proof(f"taint {CANDIDATE} since {shown(marked)}"), *proofs)
        said.append(f"removed when it has been unneeded for {short(limit)} ({option})")
    elif started is not None and context.now < started:
        at = add(started, limit)
        said.append(
            f"created {shown(node.created or NEVER)}: not started until {shown(started)}, then unready for "
            f"{short(limit)} ({option})"
        )
    else:
        verdict = without_mark(context, node, proofs, tuple(said), also)
        if verdict is not None:
            return verdict
        said.append(not_before(context, started, limit, option))
    return held_up(
        context,
        NodeVerdict(node.name, State.WILL_BE_REMOVED, branch, at, since, proofs, tuple(said), also),
    )


def not_before(context: Context, started: datetime | None, limit: timedelta, option: str) -> str:
    """Say what is known of the time where no taint tells since when a node is unneeded."""
    if context.now == NEVER:
        return f"since when it has been unneeded is not told; it goes after {short(limit)} ({option})"
    latest = add(context.now, limit)
    early = add(started, limit) if started else None
    words = f"no taint {CANDIDATE} tells since when it has been unneeded"
    if early is not None:
        words += f"; not before {shown(early)}"
    return words + (f", at the latest about {shown(latest)} ({short(limit)}, {option})" if latest else "")


def without_mark(
    context: Context, node: Node, proofs: tuple[Proof, ...], notes: tuple[str, ...], also: tuple[Branch, ...]
) -> NodeVerdict | None:
    """Look whether the autoscaler says that it has no candidate in the node's group: then something is not seen."""
    status, group = context.state.status, context.groups.get(node.name)
    if status is None or context.alive is not True:
        return None
    activity = group.scale_down if group is not None else status.scale_down
    if activity.status != "NoCandidates":
        return None
    where = f"node group {group.name}" if group is not None else "the cluster"
    words = (
        "contradiction: nothing in the objects keeps this node, but the status of "
        f"{shown(status.latest or context.now)} has no candidate for removal in {where}: the autoscaler's log knows why"
    )
    proof = status.proof(f"scaleDown of {where}: NoCandidates")
    return NodeVerdict(node.name, State.NOT_DETERMINED, None, None, None, (*proofs, proof), (*notes, words), also)


def held_up(context: Context, verdict: NodeVerdict) -> NodeVerdict:
    """Put the cooldown, the dead autoscaler and the node that is overdue into a verdict."""
    if context.alive is False:
        return dead(context, verdict)
    cooldown = context.cooldowns[0] if context.cooldowns else None
    if cooldown is None:
        return overdue(context, verdict)
    why = f"nothing is removed before {shown(cooldown.until)}"
    if verdict.at is not None and verdict.at >= cooldown.until:
        return extended(verdict, notes=(why,), also=(cooldown.branch,))
    endless = again_and_again(context, cooldown.group) if cooldown.branch is Branch.SCALE_UP_COOLDOWN else ()
    if endless:
        return extended(
            replace(verdict, state=State.BLOCKED, branch=cooldown.branch, at=None),
            first=(cooldown.proof, *endless),
            notes=(f"{why}, and every further scale-up for pods that wait for a GPU begins it anew",),
            also=(verdict.branch,),
        )
    if verdict.at is None:
        return extended(verdict, proofs=(cooldown.proof,), notes=(why,), also=(cooldown.branch,))
    return extended(
        replace(verdict, branch=cooldown.branch, at=cooldown.until),
        first=(cooldown.proof,),
        notes=(why,),
        also=(verdict.branch,),
    )


def again_and_again(context: Context, group: str) -> tuple[Proof, ...]:
    """Prove that scale-ups go on: pods wait for a GPU beside GPU nodes that have none, and the group may still grow."""
    broken = [
        each
        for each in context.state.objects.nodes
        if context.gpus[each.name].unready or context.gpus[each.name].unknown_gpu
    ]
    sized = context.state.status.group(group) if context.state.status else None
    full = (
        sized is not None and sized.target is not None and sized.maximum is not None and sized.target >= sized.maximum
    )
    if not context.waiting or not broken or full:
        return ()
    pod = context.waiting[0]
    return (
        pod.proof(
            f"phase {pod.phase or 'unknown'}, on no node, requests nvidia.com/gpu ({len(context.waiting)} such pods)"
        ),
        broken[0].proof("a GPU node without allocatable nvidia.com/gpu"),
    )


def overdue(context: Context, verdict: NodeVerdict) -> NodeVerdict:
    """Tell a node that should be gone: then something keeps it that is not seen here."""
    if verdict.at is None or context.now - verdict.at <= OVERDUE:
        return verdict
    words = f"contradiction: it was due at {shown(verdict.at)} and is still there; the autoscaler's log knows why"
    return extended(undetermined(verdict), notes=(words,), also=(verdict.branch,))


def undetermined(verdict: NodeVerdict) -> NodeVerdict:
    """Take back what a verdict decided."""
    return replace(verdict, state=State.NOT_DETERMINED, branch=None, at=None)


def dead(context: Context, verdict: NodeVerdict) -> NodeVerdict:
    """Say that nothing will happen: the autoscaler does not write its status any more."""
    status = context.state.status
    if status is None or status.latest is None:
        return verdict
    age = context.now - status.latest
    words = f"the autoscaler wrote its status last {short(age)} ago: if it does not run, nothing is removed"
    proof = status.proof(f"written {shown(status.latest)}")
    return extended(undetermined(verdict), first=(proof,), notes=(words,), also=(verdict.branch,))


def extended(
    verdict: NodeVerdict,
    *,
    first: tuple[Proof, ...] = (),
    proofs: tuple[Proof, ...] = (),
    notes: tuple[str, ...] = (),
    also: tuple[Branch | None, ...] = (),
) -> NodeVerdict:
    """Add to a verdict: `first` goes before its proofs, the rest behind what it has."""
    further = dict.fromkeys(each for each in (*also, *verdict.also) if each is not None)
    return replace(
        verdict,
        proofs=(*first, *verdict.proofs, *proofs),
        notes=(*verdict.notes, *notes),
        also=tuple(each for each in further if each is not verdict.branch),
    )
