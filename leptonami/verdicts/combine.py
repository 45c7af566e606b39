"""One verdict of two: what the autoscaler said in its log, and what the objects of the cluster show.

The log decides, because it is the autoscaler's own word; the state explains, because it shows the objects that the log
only names: a pod that "is not replicated" is a validator pod when its controller is the ClusterPolicy. Where the two
contradict each other a note says so, with how far apart they were taken if that is known. Only where a node is gone, or
is going, do the objects overrule the log: they are there or they are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from leptonami.proof import Proof
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_timers import UNLESS

__all__ = ["combine"]

MOST_PROOFS = 16
MOST_NOTES = 40

# What the log says in general, and what the state may show it to be in particular.
EXPLAINS: dict[Branch, tuple[Branch, ...]] = {
    Branch.POD_NOT_REPLICATED: (Branch.VALIDATOR_PODS,),
    Branch.POD_LOCAL_STORAGE: (Branch.OPERATOR_LOCAL_STORAGE,),
    Branch.UTILIZATION: (Branch.NO_ACCELERATOR_LABEL,),
    Branch.UNNEEDED_TIMER: (Branch.GPU_NOT_READY,),
}
# Of these the log names the pod: it is the same cause only if the state's proof is about that pod.
OF_A_POD = frozenset({Branch.POD_NOT_REPLICATED, Branch.POD_LOCAL_STORAGE})
GOING = frozenset({State.REMOVED, State.REMOVING})
STAYING = frozenset({State.BLOCKED, State.NEEDED})


def combine(
    from_log: Iterable[NodeVerdict],
    from_state: Iterable[NodeVerdict],
    *,
    log_until: datetime | None = None,
    state_at: datetime | None = None,
) -> list[NodeVerdict]:
    """Join the verdicts of both sides.

    Parameters
    ----------
    from_log, from_state
        What `scaledown_log` and `scaledown_state` found.
    log_until, state_at
        The time of the log's last line and when the state was taken, for the notes about contradictions; with zones.

    Returns
    -------
    list of NodeVerdict
        One for each node that either side knows, by name.
    """
    logged = {each.node: each for each in from_log}
    shown = {each.node: each for each in from_state}
    apart = distance(log_until, state_at)
    verdicts = []
    for node in sorted({*logged, *shown}):
        log, state = logged.get(node), shown.get(node)
        if log is None and state is not None:
            verdicts.append(noted(state, "the log does not mention this node"))
        elif state is None and log is not None:
            verdicts.append(log if log.state is State.REMOVED else noted(log, "the objects do not have this node"))
        elif log is not None and state is not None:
            verdicts.append(both(log, state, apart))
    return verdicts


def distance(log_until: datetime | None, state_at: datetime | None) -> str:
    """Say how far apart the two were taken, "" if that is not known."""
    if log_until is None or state_at is None or (log_until.tzinfo is None) != (state_at.tzinfo is None):
        return ""
    seconds = round((state_at - log_until).total_seconds())
    if seconds == 0:
        return " (both of the same second)"
    return f" (the log ends {abs(seconds)} s {'before' if seconds > 0 else 'after'} the objects were taken)"


def noted(verdict: NodeVerdict, note: str) -> NodeVerdict:
    """Add a note."""
    return replace(verdict, notes=(*verdict.notes, note))


def both(log: NodeVerdict, state: NodeVerdict, apart: str) -> NodeVerdict:
    """Join two verdicts about one node."""
    if log.state is State.NOT_DETERMINED:
        return joined(state, log, ())
    # The log has come past that test.
    state = replace(state, notes=tuple(each for each in state.notes if each != UNLESS))
    if state.state is State.NOT_DETERMINED:
        return joined(log, state, ())
    if log.state is State.REMOVED or state.state in GOING:
        return leaving(log, state, apart)
    if log.branch is Branch.GPU_NOT_READY and state.state is State.WILL_BE_REMOVED and state.branch is log.branch:
        # The log only says that nothing is decided yet; the objects say when the node may go.
        return joined(state, log, ())
    return explain(log, state) or joined(log, state, contradictions(log, state, apart))


def leaving(log: NodeVerdict, state: NodeVerdict, apart: str) -> NodeVerdict:
    """Join two verdicts of which one says that the node is gone or going: whether it is there, the objects know."""
    if state.state is State.REMOVED and log.state is not State.REMOVED:
        words = f"the log does not come to the end of the removal: its last word is {described(log)}{apart}"
        return joined(state, log, (words,))
    if state.state is State.REMOVING and log.state not in GOING:
        words = f"contradiction: the log says {described(log)}, but the node is being removed{apart}"
        return joined(state, log, (words,))
    if state.state not in GOING:
        words = (
            "contradiction: the log says that it was removed, but its Node object is there, "
            f"{described(state)}{apart}: the objects are older than the log, or the removal did not end"
        )
        return joined(log, state, (words,))
    return joined(log, state, ())


def described(verdict: NodeVerdict) -> str:
    """Say a verdict in a few words."""
    return f"{verdict.state} ({verdict.branch})" if verdict.branch else str(verdict.state)


def contradictions(log: NodeVerdict, state: NodeVerdict, apart: str) -> tuple[str, ...]:
    """Say where two verdicts do not go together. Two causes that hold at the same time do."""
    if log.state is state.state or (log.state in STAYING and state.state in STAYING):
        if log.branch is state.branch or state.branch is None or log.branch is None:
            return ()
        if log.branch in state.also or state.branch in log.also:
            return ()
        return (f"the log names {log.branch}, the objects {state.branch} first{apart}",)
    return (f"contradiction: the log says {described(log)}, the objects say {described(state)}{apart}; the log counts",)


def explain(log: NodeVerdict, state: NodeVerdict) -> NodeVerdict | None:
    """Find what the state shows the log's branch to be; None if it shows nothing of the kind."""
    if log.branch is None:
        return None
    found = (state.branch, *state.also)
    better = next((each for each in EXPLAINS.get(log.branch, ()) if each in found), None)
    if better is None:
        return None
    shows = tuple(each for each in state.proofs if about(log, each)) if log.branch in OF_A_POD else state.proofs
    if not shows:
        return None
    verdict = replace(joined(log, state, ()), branch=better)
    others = [each for each in verdict.proofs if each not in (log.proofs[0], *shows)] if log.proofs else verdict.proofs
    proofs = tuple(dict.fromkeys((*log.proofs[:1], *shows, *others)))[:MOST_PROOFS]
    words = f"the log says {log.branch}; the objects show that it is {better}"
    return replace(
        verdict,
        proofs=proofs,
        notes=(words, *verdict.notes),
        also=tuple(each for each in verdict.also if each is not better),
    )


def about(log: NodeVerdict, proof: Proof) -> bool:
    """Tell whether a proof is about a pod that the log names."""
    kind, _, name = proof.place.partition(" ")
    short = name.rpartition("/")[2]
    return kind == "pod" and bool(short) and any(short in words(each) for each in log.proofs)


def words(proof: Proof) -> set[str]:
    """Give the words of a line; a pod stands in it with its namespace or without."""
    parts = proof.text.replace(",", " ").replace('"', " ").split()
    return {each.rpartition("/")[2].rstrip(".:;") for each in parts}


def joined(first: NodeVerdict, second: NodeVerdict, notes: tuple[str, ...]) -> NodeVerdict:
    """Put two verdicts together; the first decides."""
    also = dict.fromkeys(
        each for each in (*first.also, second.branch, *second.also) if each is not None and each is not first.branch
    )
    return replace(
        first,
        at=first.at if first.at is not None or first.state is not second.state else second.at,
        since=first.since if first.since is not None or first.state is not second.state else second.since,
        proofs=tuple(dict.fromkeys((*first.proofs, *second.proofs)))[:MOST_PROOFS],
        notes=tuple(dict.fromkeys((*notes, *first.notes, *second.notes)))[:MOST_NOTES],
        also=tuple(also),
    )
