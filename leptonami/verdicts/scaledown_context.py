"""What holds for the whole cluster when nodes are judged: the time, the options, its health, the cooldown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from leptonami.proof import Proof
from leptonami.readers.autoscaler.events import AutoscalerEvent, Kind, latest
from leptonami.readers.autoscaler.status import STALE, GroupStatus, Status
from leptonami.readers.objects import Node, Pod
from leptonami.verdicts.clusterstate import ClusterState
from leptonami.verdicts.draining import Rules
from leptonami.verdicts.flags import Flags, find_flags
from leptonami.verdicts.gpunode import GpuView, gpu_view
from leptonami.verdicts.placing import TO_BE_DELETED, Places
from leptonami.verdicts.scaledown import Branch

__all__ = ["NEVER", "ClusterHealth", "Context", "Cooldown", "add", "shown"]

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def shown(moment: datetime) -> str:
    """Show a time in a note."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """Whether the autoscaler works at all (branch 5).

    Parameters
    ----------
    stopped
        Its loop stops because too many nodes are unready.
    proofs, since, notes
        What says so, since when, and what contradicts it.
    """

    stopped: bool
    proofs: tuple[Proof, ...] = ()
    since: datetime | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Nothing is removed until then, because of a scale-up or a removal that failed."""

    until: datetime
    branch: Branch
    proof: Proof
    group: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster and everything that is worked out once for all of its nodes.

    Parameters
    ----------
    now
        The time to judge at; 1970 if nobody says and nothing has a time.
    problems
        What could not be read: it may matter for every verdict.
    time_note, flags_note
        Where the time and the options come from, if nobody gave them; "" otherwise.
    gpus
        How each node's GPU stands.
    events_of
        The autoscaler's events about each node.
    alive
        False: the autoscaler's status is so old that it is dead. None: nothing tells.
    """

    state: ClusterState
    now: datetime
    flags: Flags
    problems: tuple[str, ...]
    time_note: str
    flags_note: str
    rules: Rules
    places: Places
    pods_on: Mapping[str, list[Pod]]
    groups: Mapping[str, GroupStatus]
    gpus: Mapping[str, GpuView]
    health: ClusterHealth
    cooldowns: tuple[Cooldown, ...]
    waiting: tuple[Pod, ...]
    alive: bool | None
    events_of: Mapping[str, list[AutoscalerEvent]]

    @classmethod
    def of(cls, state: ClusterState, now: datetime | None, flags: Flags | None) -> Context:
        """Work it out."""
        moment = now or state.latest_time()
        time_note = flags_note = ""
        if moment is None:
            moment = NEVER
            time_note = "no time was given and none was found: nothing is said about timers"
        elif now is None:
            time_note = f"no time was given; the latest in the evidence is taken: {shown(moment)}"
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        if flags is None:
            found = find_flags(state.objects)
            flags = found[0] if found else Flags()
            flags_note = f"the autoscaler's options are those of {found[1].place}" if found else DEFAULTS
        nodes = state.objects.nodes
        pods_on = state.pods_by_node()
        rules = Rules.of(state.objects, flags, moment)
        gpus = {each.name: gpu_view(each, flags) for each in nodes}
        events_of: dict[str, list[AutoscalerEvent]] = {}
        for event in state.events:
            if event.node:
                events_of.setdefault(event.node, []).append(event)
        fresh = state.status is None or state.status.is_stale(moment) is not True
        return cls(
            state=state,
            now=moment,
            flags=flags,
            problems=state.problems,
            time_note=time_note,
            flags_note=flags_note,
            rules=rules,
            places=Places.of(nodes, pods_on, rules.raw, is_gone=rules.is_gone),
            pods_on=pods_on,
            groups=state.groups_of(nodes),
            gpus=gpus,
            health=health_of(state, moment, flags, gpus),
            cooldowns=tuple(cooldowns_of(state, moment, flags)),
            waiting=tuple(state.waiting_for_gpu()),
            events_of=events_of,
            alive=None if state.status is None or state.status.latest is None else fresh,
        )

    def ready(self, node: Node) -> bool:
        """Tell whether the autoscaler counts a node as ready: a GPU that is missing makes it unready."""
        return node.ready is not False and not self.gpus[node.name].unready


DEFAULTS = "the autoscaler's options are not known; its defaults are assumed"


def unready_nodes(nodes: tuple[Node, ...], now: datetime, flags: Flags, gpus: Mapping[str, GpuView]) -> list[Node]:
    """Find the nodes that count as unready: not ready, and past the time that they may take to start."""
    found = []
    for node in nodes:
        if any(each.key == TO_BE_DELETED for each in node.taints):
            continue
        ready = node.ready is not False and not gpus[node.name].unready
        starting = node.created is not None and now - node.created < flags.startup_time
        if not ready and not starting:
            found.append(node)
    return found


def health_of(state: ClusterState, now: datetime, flags: Flags, gpus: Mapping[str, GpuView]) -> ClusterHealth:
    """Tell whether too many nodes are unready: the autoscaler's own word counts, else the nodes are counted."""
    nodes = state.objects.nodes
    unready = unready_nodes(nodes, now, flags, gpus)
    limit = flags.unready_percentage / Decimal(100) * len(nodes)
    counted = len(unready) > flags.ok_unready_count and len(unready) > limit
    words = f"{len(unready)} of {len(nodes)} nodes are unready"
    status = state.status
    usable = status is not None and status.health.status is not None and status.is_stale(now) is False
    if not usable or status is None:
        proofs = tuple(each.proof(f"unready: {why_unready(each, gpus[each.name])}") for each in unready[:5])
        return ClusterHealth(
            counted, proofs if counted else (), None, (f"{words}, by their objects",) if counted else ()
        )
    stopped = status.health.status == "Unhealthy"
    notes = []
    if nodes and stopped != counted:
        said = "Unhealthy" if stopped else "Healthy"
        notes.append(
            f"contradiction: the status of {shown(status.latest or now)} says {said}, but {words} by their objects"
        )
    if not stopped:
        return ClusterHealth(False, (), None, tuple(notes))
    said_so = [status.proof(f"Health: Unhealthy ({counts_of(status)})")]
    event = latest(state.events, Kind.CLUSTER_UNHEALTHY)
    if event is not None and event.last is not None and now - event.last <= STALE:
        said_so.append(event.proof)
    return ClusterHealth(True, tuple(said_so), status.health.since, tuple(notes))


def why_unready(node: Node, gpu: GpuView) -> str:
    """Say why a node counts as unready."""
    if node.ready is False:
        return "its condition Ready is not True"
    return "it has the accelerator label and no allocatable GPU" if gpu.unready else "it has no condition Ready"


def counts_of(status: Status) -> str:
    """Show the counts of the status that matter."""
    counts = status.health.counts
    given = {
        "ready": counts.ready,
        "unready": counts.unready,
        "resourceUnready": counts.resource_unready,
        "notStarted": counts.not_started,
        "longNotStarted": counts.long_not_started,
        "registered": counts.registered,
    }
    return " ".join(f"{name}={number}" for name, number in given.items() if number is not None)


def cooldowns_of(state: ClusterState, now: datetime, flags: Flags) -> list[Cooldown]:
    """Find what still holds scale-down back, the longest first."""
    found = []
    for event, delay, branch in (
        (state.last_scale_up(), flags.delay_after_add, Branch.SCALE_UP_COOLDOWN),
        (state.last_failure(), flags.delay_after_failure, Branch.DELETE_FAILED),
    ):
        until = add(event.last, delay) if event is not None and event.last is not None else None
        if event is not None and until is not None and until > now:
            found.append(Cooldown(until, branch, event.proof, event.group))
    return sorted(found, key=lambda each: each.until, reverse=True)


def add(moment: datetime, length: timedelta) -> datetime | None:
    """Add a time and a length; None beyond what a date can be."""
    try:
        return moment + length
    except OverflowError:
        return None
