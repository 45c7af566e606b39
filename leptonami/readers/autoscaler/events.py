"""The Kubernetes events that cluster-autoscaler writes, as typed values.

It writes on its status ConfigMap (what it did to groups and nodes), on nodes (marked, removed, failed) and on pods (a
scale-up for them, or why there is none; their eviction). It says the same thing once in five minutes unless it runs
with --record-duplicated-events, and the API server forgets events after an hour by default: what no event tells may
have happened all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from leptonami.proof import Proof, excerpt
from leptonami.readers.manifests import decode
from leptonami.readers.objects import Event, Objects
from leptonami.readers.quantity import age_seconds

__all__ = ["AutoscalerEvent", "Cause", "Kind", "Plan", "Refusal", "Step", "autoscaler_events", "read_event_lines"]

COMPONENT = "cluster-autoscaler"
LONGEST = 20_000  # characters of a message that are looked at: the API server keeps 1,024
MOST_PARTS = 200  # plans or reasons in one message


class Kind(StrEnum):
    """The event's reason, as it stands in it."""

    TRIGGERED_SCALE_UP = "TriggeredScaleUp"
    NOT_TRIGGER_SCALE_UP = "NotTriggerScaleUp"
    SCALED_UP_GROUP = "ScaledUpGroup"
    FAILED_TO_SCALE_UP_GROUP = "FailedToScaleUpGroup"
    SCALE_UP_TIMED_OUT = "ScaleUpTimedOut"
    FAILED_TO_REVERT_SCALE_UP = "FailedToRevertScaleUp"
    SCALE_DOWN = "ScaleDown"
    SCALE_DOWN_EMPTY = "ScaleDownEmpty"
    SCALE_DOWN_FAILED = "ScaleDownFailed"
    CLEANUP = "ClusterAutoscalerCleanup"
    CLUSTER_UNHEALTHY = "ClusterUnhealthy"
    MAX_NODES_TOTAL_REACHED = "MaxNodesTotalReached"
    DELETE_UNREGISTERED = "DeleteUnregistered"
    DELETE_UNREGISTERED_FAILED = "DeleteUnregisteredFailed"
    OTHER = "other"


class Step(StrEnum):
    """How far the removal of a node is."""

    MARKED = "marked"
    REMOVING = "removing"
    REMOVED = "removed"
    EVICTING = "evicting a pod"
    FAILED = "failed"
    NONE = ""


class Cause(StrEnum):
    """Why a group is not scaled up for a pod."""

    BACKOFF = "in back-off after a failed scale-up"
    MAX_SIZE = "at its maximum size"
    NOT_READY = "not ready for scale-up"
    CLUSTER_LIMIT = "a limit of the whole cluster is reached"
    INSUFFICIENT = "a new node would not have enough"
    NO_FIT = "the pod would not fit on a new node"


@dataclass(frozen=True, slots=True)
class Plan:
    """A group's size before and after; None where the message does not tell."""

    group: str
    before: int | None
    after: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One of the reasons of a NotTriggerScaleUp: for how many groups, in the event's words, and what kind it is."""

    groups: int
    reason: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class AutoscalerEvent:
    """One event of the autoscaler.

    Parameters
    ----------
    kind
        Its reason; `OTHER` for one that is not known here: `message` has it.
    first, last, count
        When, and how often. None where a listing gives an age and nobody says what the time was.
    about_kind, about_namespace, about_name
        What it happened to.
    message
        As it stands, cut to a length.
    node
        The node that it is about, from the object or the message; "" if none.
    group
        The node group, "" if none.
    step
        How far a removal is.
    plans, refusals
        Of a scale-up, or of its absence.
    proof
        The event.
    """

    kind: Kind
    first: datetime | None
    last: datetime | None
    count: int
    about_kind: str
    about_namespace: str
    about_name: str
    message: str
    node: str
    group: str
    step: Step
    plans: tuple[Plan, ...]
    refusals: tuple[Refusal, ...]
    proof: Proof


NAME = r"([^\s\"',{}]{1,300})"
PLAN = re.compile(rf"\{{{NAME} ([0-9]{{1,9}})->([0-9]{{1,9}}) \(max: ([0-9]{{1,9}})\)", re.ASCII)
SIZE = re.compile(
    rf"group {NAME} size (?:set )?to ([0-9]{{1,9}})(?: instead of ([0-9]{{1,9}}))?(?: \(max: ([0-9]{{1,9}})\))?",
    re.ASCII,
)
FAILED_GROUP = re.compile(rf"(?:for|to|in) (?:node )?group {NAME}")
REMOVING = re.compile(rf"removing (?:empty |un)?(?:registered )?node \"?{NAME}")
REMOVED = re.compile(rf"(?:empty )?node \"?{NAME}\"? removed")
NEXT_REASON = re.compile(r", (?=[0-9]{1,6} )", re.ASCII)
REASON = re.compile(r"([0-9]{1,6}) (.{1,500})", re.ASCII)


def autoscaler_events(objects: Objects) -> list[AutoscalerEvent]:
    """Find the autoscaler's events among objects, the oldest first; those without a time come before them."""
    found = [from_view(each) for each in objects.events if is_ours(each.component, each.reason)]
    return sorted(found, key=lambda each: (each.last is not None, each.last))


def is_ours(component: str, reason: str) -> bool:
    """Tell whether an event is the autoscaler's: by its component, or where none is given by its reason."""
    return component == COMPONENT if component else reason in KINDS


KINDS = {each.value for each in Kind if each is not Kind.OTHER}


def from_view(event: Event) -> AutoscalerEvent:
    """Make a typed value of an event object."""
    return make(
        event.reason,
        event.message,
        about=(event.about_kind, event.about_namespace, event.about_name),
        when=(event.first, event.last, event.count),
        proof=event.proof(),
    )


def make(
    reason: str,
    message: str,
    *,
    about: tuple[str, str, str],
    when: tuple[datetime | None, datetime | None, int],
    proof: Proof,
) -> AutoscalerEvent:
    """Read what the message says."""
    kind = Kind(reason) if reason in KINDS else Kind.OTHER
    said = message[:LONGEST]
    node = about[2] if about[0].lower() == "node" else ""
    step = step_of(kind, about[0].lower(), said)
    named = None if node else REMOVED.search(said) or REMOVING.search(said)
    if named:
        node = named[1]
    plans = plans_of(said) if kind in {Kind.TRIGGERED_SCALE_UP, Kind.SCALED_UP_GROUP, Kind.OTHER} else ()
    group = plans[0].group if plans else ""
    failed_group = FAILED_GROUP.search(said) if kind in GROUP_FAILED else None
    if failed_group:
        group = failed_group[1].rstrip(":,.")
    refusals = refusals_of(said) if kind is Kind.NOT_TRIGGER_SCALE_UP else ()
    return AutoscalerEvent(kind, *when, *about, excerpt(said), node, group, step, plans, refusals, proof)


GROUP_FAILED = frozenset({Kind.FAILED_TO_SCALE_UP_GROUP, Kind.SCALE_UP_TIMED_OUT, Kind.FAILED_TO_REVERT_SCALE_UP})


def step_of(kind: Kind, about: str, message: str) -> Step:
    """Tell how far a removal is."""
    if kind is Kind.SCALE_DOWN_FAILED:
        return Step.FAILED
    if kind not in {Kind.SCALE_DOWN, Kind.SCALE_DOWN_EMPTY}:
        return Step.NONE
    if about == "pod":
        return Step.EVICTING
    if REMOVED.search(message) or "node removed by cluster autoscaler" in message:
        return Step.REMOVED
    if REMOVING.search(message):
        return Step.REMOVING
    return Step.MARKED if "marked the node" in message else Step.NONE


def plans_of(message: str) -> tuple[Plan, ...]:
    """Read `[{ng 0->2 (max: 6)} {other 1->2 (max: 4)}]`, or `group ng size set to 2 instead of 0 (max: 6)`."""
    found: list[Plan] = []
    for each in PLAN.finditer(message):
        found.append(Plan(each[1], int(each[2]), int(each[3]), int(each[4])))
        if len(found) == MOST_PARTS:
            break
    size = None if found else SIZE.search(message)
    if size:
        before, maximum = (int(size[index]) if size[index] else None for index in (3, 4))
        found.append(Plan(size[1], before, int(size[2]), maximum))
    return tuple(found)


def refusals_of(message: str) -> tuple[Refusal, ...]:
    """Read `pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu, 1 max node group size reached`.

    A reason may have commas of its own (`{taint: }, that the pod didn't tolerate`): the next one begins with a number.
    """
    start = re.search(r"didn't trigger scale-up[^:]{0,200}:\s*", message)
    reasons = message[start.end() :] if start else ""
    found: list[Refusal] = []
    for part in NEXT_REASON.split(reasons, MOST_PARTS)[:MOST_PARTS]:
        match = REASON.match(part.strip())
        if match:
            reason = excerpt(match[2].strip(), 300)
            found.append(Refusal(int(match[1]), reason, cause_of(reason)))
    return tuple(found)


def cause_of(reason: str) -> Cause:
    """Tell what kind of reason it is."""
    if "in backoff" in reason:
        return Cause.BACKOFF
    if "max node group size reached" in reason:
        return Cause.MAX_SIZE
    if "not ready for scale-up" in reason:
        return Cause.NOT_READY
    if "limit reached" in reason and "max" in reason:
        return Cause.CLUSTER_LIMIT
    return Cause.INSUFFICIENT if reason.startswith("Insufficient") else Cause.NO_FIT


AGE = re.compile(r"([0-9ydhms]{2,20}|<unknown>|<invalid>)(?: \(x([0-9]{1,9}) over ([0-9ydhms]{2,20}|<[a-z]{1,10}>)\))?")
TYPE = re.compile(r"(?:Normal|Warning)(?=[ \t])")
WORD = re.compile(r"[ \t]*([^ \t]{1,300})[ \t]*")
HEADING = re.compile(r"(Name|Namespace|Kind):[ \t]+([^ \t]{1,300})[ \t]*")


def read_event_lines(data: str | bytes, source: str, now: datetime | None = None) -> list[AutoscalerEvent]:
    """Read the autoscaler's events out of what `kubectl get events`, `kubectl events` or `kubectl describe` printed.

    Parameters
    ----------
    data
        The text; lines that are no events of the autoscaler are passed over.
    source
        Its name, for the proofs.
    now
        When it was printed, since it gives ages: without it no event has a time. UTC is meant if it has no zone.
    """
    if now is not None and now.tzinfo is None:
        now = now.replace(tzinfo=UTC)
    found: list[AutoscalerEvent] = []
    described = {"Name": "", "Namespace": "", "Kind": ""}
    for number, raw in enumerate(decode(data).split("\n"), 1):
        line = raw.rstrip("\r")[:LONGEST]
        heading = HEADING.fullmatch(line)
        if heading:
            if heading[1] == "Name":
                described = {"Name": heading[2], "Namespace": "", "Kind": ""}
            else:
                described[heading[1]] = heading[2]
            continue
        event = of_line(line, described, now, Proof.of(source, f"line {number}", line.strip()))
        if event is not None:
            found.append(event)
    return found


def of_line(line: str, described: dict[str, str], now: datetime | None, proof: Proof) -> AutoscalerEvent | None:
    """Read one line: columns before the type and columns behind it tell which of the listings it is."""
    mark = next(
        (each for each in TYPE.finditer(line, 0, 400) if each.start() == 0 or line[each.start() - 1] in " \t"), None
    )
    if mark is None:
        return None
    before = line[: mark.start()].strip()
    reason, position = word_at(line, mark.end())
    if before:  # kubectl get events: [namespace] age type reason kind/name [subobject] [source] message
        head, _, rest = before.partition(" ")
        namespace, aged = ("", before) if AGE.match(before) else (head, rest.strip())
        target, position = word_at(line, position)
        about_kind, slash, about_name = target.partition("/")
        message, component = line[position:].strip(), ""
        if message.startswith(COMPONENT) and message[len(COMPONENT) : len(COMPONENT) + 1] in {" ", "\t", ","}:
            component, message = COMPONENT, message[len(COMPONENT) :].lstrip(" \t,")
        if not slash:
            return None
    else:  # kubectl describe: type reason age from message
        age = AGE.match(line, position)
        if age is None:
            return None
        aged = age[0]
        component, position = word_at(line, age.end())
        message = line[position:].strip()
        about_kind, about_name = described["Kind"] or guess_kind(reason, described), described["Name"]
        namespace = described["Namespace"]
    if not is_ours(component, reason):
        return None
    last, first, count = times(aged, now)
    about = (about_kind, "" if about_kind.lower() == "node" else namespace, about_name)
    return make(reason, message, about=about, when=(first, last, count), proof=proof)


def word_at(line: str, position: int) -> tuple[str, int]:
    """Give the next word and where the one behind it begins."""
    match = WORD.match(line, position)
    return (match[1], match.end()) if match else ("", len(line))


def guess_kind(reason: str, described: dict[str, str]) -> str:
    """Tell what was described: `kubectl describe` names no kind, but a node has no namespace."""
    if reason in {Kind.TRIGGERED_SCALE_UP, Kind.NOT_TRIGGER_SCALE_UP}:
        return "Pod"
    return "Pod" if described["Namespace"] else "Node" if described["Name"] else ""


def times(aged: str, now: datetime | None) -> tuple[datetime | None, datetime | None, int]:
    """Make times of `5m12s (x3 over 10m)`: the last, the first, how often."""
    match = AGE.match(aged)
    if match is None:
        return None, None, 1
    last = ago(match[1], now)
    return last, ago(match[3], now) if match[3] else last, int(match[2] or 1)


def ago(age: str, now: datetime | None) -> datetime | None:
    """Take an age from the time; None if one of them is not known, or the result would lie before the year 1."""
    seconds = age_seconds(age)
    if now is None or seconds is None:
        return None
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        return None


def latest(events: Iterable[AutoscalerEvent], *kinds: Kind) -> AutoscalerEvent | None:
    """Give the last event of some kinds that has a time."""
    timed = [each for each in events if each.kind in kinds and each.last is not None]
    return max(timed, key=lambda each: (each.last is not None, each.last), default=None)
