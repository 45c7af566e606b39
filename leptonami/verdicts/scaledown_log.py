"""What an autoscaler's log says about each node: removed, going to be, or blocked, and by what."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from leptonami.readers.autoscaler.catalogue import Kind
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.track import Period, Phase, Seen, Track
from leptonami.readers.gotime import parse_duration, parse_time
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State

__all__ = ["Timer", "Timers", "judge", "reason_of", "short", "timers"]

# What stands behind "cannot be removed:", and which branch it is. The first group is the pod. The texts are those of
# simulator/drain.go, later simulator/drainability.
REASONS: tuple[tuple[re.Pattern[str], Branch], ...] = tuple(
    (re.compile(pattern), branch)
    for pattern, branch in (
        (r"(\S+/nvidia-[a-z0-9-]*validator-\S+) is not replicated", Branch.VALIDATOR_PODS),
        (r"(\S+) is not replicated", Branch.POD_NOT_REPLICATED),
        (
            r"pod with local storage present: (\S*gpu-operator-[0-9a-f]{6,10}-[0-9a-z]{5})$",
            Branch.OPERATOR_LOCAL_STORAGE,
        ),
        (r"pod with local storage present: (\S+)", Branch.POD_LOCAL_STORAGE),
        (r"non-daemonset, non-mirrored, non-pdb-assigned kube-system pod present: (\S+)", Branch.POD_KUBE_SYSTEM),
        (r"pod annotated as not safe to evict present: (\S+)", Branch.POD_NOT_SAFE_TO_EVICT),
        (r"not enough pod disruption budget to move (\S+)", Branch.POD_DISRUPTION_BUDGET),
        (r"daemonset for (\S+) is not present", Branch.POD_CONTROLLER),
        (r"(?:replication controller|job|replicaset|statefulset) for (\S+) is not available", Branch.POD_CONTROLLER),
        (r".{0,200}?for (\S+) has too few replicas", Branch.POD_CONTROLLER),
    )
)
SKIPPED: dict[str, Branch] = {
    Kind.MIN_SIZE: Branch.MIN_SIZE,
    Kind.NOT_AUTOSCALED: Branch.NOT_AUTOSCALED,
    Kind.ANNOTATED: Branch.ANNOTATION,
    Kind.UNREADY_DISABLED: Branch.UNREADY_DISABLED,
    Kind.RESOURCE_LIMIT: Branch.RESOURCE_LIMIT,
}
DURATION = re.compile(rb"(?:duration|unneeded for) (\S+)")
PODS = re.compile(rb"pods to reschedule: ?(.*)", re.DOTALL)
RESOURCE = re.compile(rb"Node \S+ (?:unremovable: |- |is not suitable for removal - )(\S+) (?:requested|utilization)")
# cluster-autoscaler's defaults (main.go, FAQ.md).
UNNEEDED_TIME, UNREADY_TIME, DELAY_AFTER_ADD = timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=10)
START_TIME = timedelta(minutes=15)  # MaxNodeStartupTime, a constant of clusterstate.go


@dataclass(frozen=True, slots=True)
class Timer:
    """How long one of the autoscaler's timers is, and how that is known: `flag`, `observed` or `default`."""

    length: timedelta
    known: str

    def __str__(self) -> str:
        """Say it in words."""
        words = {
            "flag": "by its command line",
            "given": "as given",
            "observed": "as other nodes of this log waited",
            "default": "the default; the log does not say",
        }
        return f"{short(self.length)} ({words[self.known]})"


@dataclass(frozen=True, slots=True)
class Timers:
    """The timers that decide when an unneeded node goes."""

    unneeded: Timer
    unready: Timer
    after_add: Timer


def timers(
    digest: Digest,
    *,
    unneeded: timedelta | None = None,
    unready: timedelta | None = None,
    after_add: timedelta | None = None,
) -> Timers:
    """Find how long the timers were when a log was written: given, from its flags, observed, or the defaults."""
    ready: list[timedelta] = []
    late: list[timedelta] = []
    for track in digest.tracks.values():
        waited = waited_for(track)
        if track.removal is not None and waited is not None and track.waited_number < track.removal.number:
            (late if was_unready(digest, track, track.removal) else ready).append(waited)
    return Timers(
        choose(digest, "scale-down-unneeded-time", unneeded, ready, UNNEEDED_TIME),
        choose(digest, "scale-down-unready-time", unready, late, UNREADY_TIME),
        choose(digest, "scale-down-delay-after-add", after_add, [], DELAY_AFTER_ADD),
    )


def choose(digest: Digest, flag: str, given: timedelta | None, seen: list[timedelta], default: timedelta) -> Timer:
    """Take the best of what is known of a timer."""
    if given is not None:
        return Timer(given, "given")
    written = parse_duration(digest.flags.get(flag, ""))
    if written is not None:
        return Timer(written, "flag")
    return Timer(min(seen), "observed") if seen else Timer(default, "default")


def judge(digest: Digest, lengths: Timers | None = None) -> list[NodeVerdict]:
    """Judge every node of a log as of its end.

    Parameters
    ----------
    digest
        The log.
    lengths
        The autoscaler's timers, if they are known better than the log tells.

    Returns
    -------
    list[NodeVerdict]
        By node name. A node that the log only mentions is `NOT_DETERMINED`.
    """
    known = lengths or timers(digest)
    stopped = at_the_end(digest, digest.not_ready)
    verdicts = [judge_node(digest, track, known, stopped) for track in digest.tracks.values()]
    return sorted(verdicts, key=lambda each: each.node)


def judge_node(digest: Digest, track: Track, known: Timers, stopped: Period | None) -> NodeVerdict:
    """Judge one node."""
    name = track.name.decode("utf-8", "replace")
    if track.status is None:
        return not_determined(digest, track, name)
    phase = track.status.phase
    if track.removal is not None and phase in {Phase.REMOVING, Phase.REMOVED}:
        return removed(digest, track, name, track.removal)
    if stopped is not None:
        return held_by_cluster(digest, track, name, stopped)
    if phase is Phase.UNNEEDED:
        return unneeded(digest, track, name, known)
    return kept(digest, track, name, phase)


def kept(digest: Digest, track: Track, name: str, phase: Phase) -> NodeVerdict:
    """Judge a node that is used, skipped or blocked, or tainted already."""
    last = digest.proof(Seen(track.number, track.line))
    since = digest.when(track.spans[-1].first) if track.spans else None
    if phase is Phase.GPU_NOT_READY:
        note = (
            f"it counts as not started for {short(START_TIME)} after it was made; only then can it become a candidate"
        )
        return NodeVerdict(name, State.BLOCKED, Branch.GPU_NOT_READY, since=since, proofs=(last,), notes=(note,))
    pod = reason_of(track.status.reason)[1] if track.status is not None and phase is Phase.BLOCKED else ""
    return NodeVerdict(
        name,
        {Phase.TAINTED: State.REMOVING, Phase.NEEDED: State.NEEDED}.get(phase, State.BLOCKED),
        branch_of(track),
        since=since,
        proofs=(last,),
        notes=(*((f"the pod is {pod}",) if pod else ()), *history(digest, track)),
    )


def held_by_cluster(digest: Digest, track: Track, name: str, stopped: Period) -> NodeVerdict:
    """Judge a node of a cluster whose loop stops before it comes to nodes."""
    own = branch_of(track)
    return NodeVerdict(
        name,
        State.BLOCKED,
        Branch.CLUSTER_NOT_READY,
        since=digest.when(stopped.first),
        proofs=(digest.proof(stopped.last), digest.proof(Seen(track.number, track.line))),
        notes=(f"the loop stopped {count(stopped.loops, 'time')} in a row, the last time as the log ends",),
        also=(own,) if own else (),
    )


def removed(digest: Digest, track: Track, name: str, removal: Seen) -> NodeVerdict:
    """Judge a node whose removal began."""
    proofs = [digest.proof(removal)]
    if track.since_line:
        proofs.append(digest.proof(Seen(track.since_number, track.since_line)))
    notes = []
    if track.failed is not None:
        return NodeVerdict(
            name,
            State.BLOCKED,
            Branch.DELETE_FAILED,
            since=digest.when(track.failed),
            proofs=(digest.proof(track.failed), *proofs),
        )
    pods = PODS.search(removal.line)
    if pods is not None:
        names = [each for each in pods[1].decode("utf-8", "replace").split(",") if each.strip()]
        notes.append(
            f"{count(len(names), 'pod')} to reschedule: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        )
    if track.removals > 1:
        notes.append(f"its removal began {track.removals} times")
    begun = parse_time(track.since) if track.since else None
    if begun is not None:
        notes.append(f"unneeded since {begun:%Y-%m-%d %H:%M:%S %Z}")
    if digest.last is None or digest.last.number <= removal.number:
        notes.append("the log ends here: whether the removal succeeded is not in it")
    return NodeVerdict(
        name,
        State.REMOVED,
        at=digest.when(removal),
        since=digest.when(removal),
        proofs=tuple(proofs),
        notes=(*notes, *history(digest, track)),
        also=(Branch.GPU_NOT_READY,) if late_by_gpu(track) else (),
        unneeded_since=begun,
    )


def unneeded(digest: Digest, track: Track, name: str, known: Timers) -> NodeVerdict:
    """Judge a node whose timer runs: when it will go, if nothing changes."""
    last = Seen(track.since_number, track.since_line) if track.since_line else Seen(track.number, track.line)
    begun = parse_time(track.since) if track.since else (digest.when(track.spans[-1].first) if track.spans else None)
    slow = was_unready(digest, track, last)
    timer, branch = (known.unready, Branch.GPU_NOT_READY) if slow else (known.unneeded, Branch.UNNEEDED_TIMER)
    notes = [f"the timer is {timer}"]
    proofs = [digest.proof(last)]
    due = begun + timer.length if begun is not None else None
    also: list[Branch] = []
    held = at_the_end(digest, digest.cooldown)
    if held is not None:
        until = cooldown_end(digest, known)
        proofs.append(digest.proof(held.last))
        if until is not None and (due is None or until > due):
            also.append(branch)
            due, branch = until, Branch.SCALE_UP_COOLDOWN
            notes.append(f"scale-down is held back; the delay after a scale-up is {known.after_add}")
        else:
            also.append(Branch.SCALE_UP_COOLDOWN)
    now = digest.when(digest.last)
    if due is not None and now is not None and now > due + timedelta(minutes=1) and held is None:
        notes.insert(0, "it was due before the log ends, and was not removed: why not is not in the log")
        return NodeVerdict(name, State.NOT_DETERMINED, None, since=begun, proofs=tuple(proofs), notes=tuple(notes))
    return NodeVerdict(
        name,
        State.WILL_BE_REMOVED,
        branch,
        at=due,
        since=begun,
        proofs=tuple(proofs),
        notes=(*notes, *history(digest, track)),
        also=tuple(also),
        unneeded_since=parse_time(track.since) if track.since else None,
    )


def not_determined(digest: Digest, track: Track, name: str) -> NodeVerdict:
    """Judge a node that is only mentioned."""
    seen = track.judged or track.unready
    proofs = (digest.proof(seen),) if seen else ()
    return NodeVerdict(
        name,
        State.NOT_DETERMINED,
        proofs=proofs,
        notes=("the log has no decision about it; the autoscaler prints most of them only with -v=4",),
    )


def history(digest: Digest, track: Track) -> tuple[str, ...]:
    """Tell of a node's past what explains its present: a GPU that was not ready."""
    notes = []
    for span in track.spans:
        if span.status.phase is Phase.GPU_NOT_READY:
            begun, ended = digest.when(span.first), digest.when(span.last)
            if begun is not None and ended is not None:
                stretch = f"from {begun:%H:%M:%S} to {ended:%H:%M:%S}"
                notes.append(f"{stretch} nothing was decided about it, since its GPU was not ready")
    if track.judged is not None and (found := RESOURCE.search(track.judged.line)) is not None:
        resource = found[1].decode("utf-8", "replace")
        if resource in {"cpu", "memory"} and track.override_first is None:
            notes.append(f"it was judged by its {resource}: to the autoscaler it is no GPU node")
    return tuple(notes[-4:])


def branch_of(track: Track) -> Branch | None:
    """Give the branch of a node's own status."""
    status = track.status
    if status is None:
        return None
    if status.phase is Phase.SKIPPED:
        return SKIPPED.get(status.reason)
    if status.phase is Phase.BLOCKED:
        return reason_of(status.reason)[0]
    return {
        Phase.NEEDED: Branch.UTILIZATION,
        Phase.UNNEEDED: Branch.UNNEEDED_TIMER,
        Phase.GPU_NOT_READY: Branch.GPU_NOT_READY,
    }.get(status.phase)


def reason_of(reason: str) -> tuple[Branch, str]:
    """Read why a node cannot be removed: the branch, and the pod that stands in the way (empty if it names none).

    >>> reason_of("cannot-be-removed: gpu-operator/nvidia-cuda-validator-9zr76 is not replicated")
    (<Branch.VALIDATOR_PODS: 'validator-pods'>, 'gpu-operator/nvidia-cuda-validator-9zr76')
    """
    kind, _, text = reason.partition(": ")
    if kind == Kind.NO_PLACE:
        return Branch.NO_PLACE_FOR_PODS, ""
    for pattern, branch in REASONS:
        found = pattern.match(text)
        if found is not None:
            return branch, found[1]
    return Branch.POD_OTHER, ""


def late_by_gpu(track: Track) -> bool:
    """Tell whether a node waited because its GPU was not ready."""
    return any(span.status.phase is Phase.GPU_NOT_READY for span in track.spans)


def was_unready(digest: Digest, track: Track, seen: Seen) -> bool:
    """Tell whether a node's GPU was not ready when a line was written: the longer timer holds then."""
    if track.override_last is None:
        return False
    said, asked = digest.when(track.override_last), digest.when(seen)
    return said is not None and asked is not None and abs(asked - said) < timedelta(minutes=1)


def waited_for(track: Track) -> timedelta | None:
    """Give for how long a node had been unneeded when that was last looked at."""
    found = DURATION.search(track.waited_line)
    return parse_duration(found[1]) if found else None


def at_the_end(digest: Digest, periods: deque[Period]) -> Period | None:
    """Give the period that goes on when the log ends."""
    return periods[-1] if periods and periods[-1].loop >= digest.loops else None


def cooldown_end(digest: Digest, known: Timers) -> datetime | None:
    """Give when scale-down goes on after the last scale-up."""
    plans = digest.happenings.get(Kind.SCALE_UP_PLAN)
    last = digest.when(plans[-1].seen) if plans else None
    return None if last is None else last + known.after_add.length


def short(length: timedelta) -> str:
    """Write a duration for people.

    >>> short(timedelta(minutes=2, seconds=0.4))
    '2 min'
    >>> short(timedelta(seconds=95))
    '1 min 35 s'
    >>> short(timedelta(hours=3, minutes=12, seconds=53)), short(timedelta(days=9, hours=4))
    ('3 h 12 min', '9 d 4 h')
    """
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    days, hours = divmod(minutes // 60, 24)
    if minutes < 120:  # nobody says "1 h 15 min" of a timer
        parts = ((minutes, "min"), (seconds, "s"))
    else:
        parts = ((days, "d"), (hours, "h")) if days > 1 else ((minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def count(number: int, what: str) -> str:
    """Write a number of things.

    >>> count(1, "pod"), count(4, "pod")
    ('1 pod', '4 pods')
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")
