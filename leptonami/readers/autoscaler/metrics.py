"""The metrics of cluster-autoscaler (Prometheus text) that say something about scale-down.

`cluster_autoscaler_unremovable_nodes_count` is labelled with an integer: the type of the reason prints no name, so
`reason="13"` is a place in a list, and the list has changed: a blocking pod on 1.30, an unexpected error on 1.26. It is
decoded only where the version of the autoscaler is known, which its log tells (`readers.autoscaler.version`).

Two traps more. The metric exists from 1.20 on. And nothing sets a reason back to 0 when no node is left for it: in the
sources that were read (1.2x to 1.36) a number stands until the reason occurs again or the autoscaler is restarted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from leptonami.proof import Proof, excerpt

__all__ = ["REASONS", "Metrics", "ReasonTable", "Unremovable", "decode_reason", "read_metrics", "version_key"]

MOST_LINES = 2_000_000  # a scrape of the autoscaler has some hundreds
LONGEST_LINE = 20_000

BASE = (
    "NoReason",
    "ScaleDownDisabledAnnotation",
    "NotAutoscaled",
    "NotUnneededLongEnough",
    "NotUnreadyLongEnough",
    "NodeGroupMinSizeReached",
    "MinimalResourceLimitExceeded",
    "CurrentlyBeingDeleted",
    "NotUnderutilized",
    "NotUnneededOtherReason",
    "RecentlyUnremovable",
    "NoPlaceToMovePods",
    "BlockedByPod",
    "UnexpectedError",
)
WITH_UNREADY = (*BASE[:2], "ScaleDownUnreadyDisabled", *BASE[2:])
WITH_GROUPS = (*WITH_UNREADY[:7], "NodeGroupMaxDeletionCountReached", "AtomicScaleDownFailed", *WITH_UNREADY[7:])


@dataclass(frozen=True, slots=True)
class ReasonTable:
    """The list of reasons in one range of versions.

    Parameters
    ----------
    since, before
        The range: `since` is in it, `before` is not; None is open.
    names
        The reasons in their order; None where the order could not be verified, so that nothing is decoded.
    evidence
        How the order and the range were verified.
    """

    since: tuple[int, int, int] | None
    before: tuple[int, int, int] | None
    names: tuple[str, ...] | None
    evidence: str


# The order was read in `simulator/cluster.go`. Where a range begins and ends follows from the places of BlockedByPod
# and NotUnderutilized and from the lengths of the list, read at the tags. It agrees with how the line numbers of that
# file's messages move from version to version (data/recorded/ca_line_fingerprints.json): a constant adds two lines.
REASONS: tuple[ReasonTable, ...] = (
    ReasonTable(
        None,
        (1, 22, 0),
        None,
        "not verified: the list is older (1.18), but its order before 1.22 was not read",
    ),
    ReasonTable(
        (1, 22, 0),
        (1, 27, 0),
        BASE,
        "read in the source; 14 reasons, NotUnderutilized 8 and BlockedByPod 12 from 1.22 to 1.26",
    ),
    ReasonTable(
        (1, 27, 0),
        (1, 32, 0),
        WITH_UNREADY,
        "read in the source; 15 reasons, NotUnderutilized 9 and BlockedByPod 13 from 1.27 to 1.31; the lines of 1.27.1 "
        "moved by two",
    ),
    ReasonTable(
        (1, 32, 0),
        (1, 36, 0),
        (*WITH_GROUPS, "NoNodeInfo"),
        "read in the source; NotUnderutilized 11 and BlockedByPod 15 from 1.32 on. NoNodeInfo came at the end, with "
        "1.35.0 and by correction with 1.32.5, 1.33.3 and 1.34.2 (kubernetes/autoscaler pull requests 8449, 8696 and "
        "8697; the lines moved there by ten); versions before these never write 17",
    ),
    ReasonTable(
        (1, 36, 0),
        (1, 37, 0),
        (*WITH_GROUPS, "NoNodeInfo", "BlockedByOnCompletionPod"),
        "read in the source of 1.36.1; 19 reasons",
    ),
    ReasonTable((1, 37, 0), None, None, "not verified: later than the versions that were read"),
)


@dataclass(frozen=True, slots=True)
class Unremovable:
    """How many nodes are unremovable for one reason.

    Parameters
    ----------
    reason
        The label as it stands: a number, or a name where a version or a fork writes one.
    name
        The name of the reason; None if the number cannot be decoded.
    count
        How many nodes.
    proof
        The line.
    """

    reason: str
    name: str | None
    count: int
    proof: Proof

    @property
    def shown(self) -> str:
        """The reason in words, or why it has none."""
        if self.name is not None:
            return self.name
        return f"reason {self.reason} (cannot be decoded: the autoscaler's version is not known)"


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the metrics say. What they do not say is None or empty.

    Parameters
    ----------
    unremovable
        Unremovable nodes by reason; what counts no node is left out.
    safe_to_autoscale
        False: the loop stops before scaling in either direction (branch 5).
    in_cooldown
        Whether scale-down waits after a scale-up, a deletion or a failure (branch 6).
    unneeded
        How many nodes are unneeded.
    unschedulable_pods
        How many pods wait for a node, of all types.
    nodes
        How many nodes by state (`ready`, `unready`, `notStarted`, `longUnregistered`, `unregistered`).
    last_activity
        When the autoscaler last did what, by activity (`main`, `scaleUp`, `scaleDown`, `autoscaling`).
    proofs
        The lines of what is told here, by the name of the metric without its prefix.
    unread
        Lines of the autoscaler's that could not be read.
    """

    unremovable: tuple[Unremovable, ...] = ()
    safe_to_autoscale: bool | None = None
    in_cooldown: bool | None = None
    unneeded: int | None = None
    unschedulable_pods: int | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)
    last_activity: Mapping[str, datetime] = field(default_factory=dict)
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    unread: int = 0


def version_key(version: str) -> tuple[int, int, int] | None:
    """Make a version comparable: `1.27.3`, `v1.27.3`, `1.27`, `1.27.3-eks-1`; None if it is none.

    >>> version_key("v1.30.7"), version_key("1.26"), version_key("HEAD")
    ((1, 30, 7), (1, 26, 0), None)
    """
    match = re.match(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?![0-9])", version.strip(), re.ASCII)
    if match is None:
        return None
    return int(match[1]), int(match[2]), int(match[3] or 0)


def decode_reason(reason: str, versions: Iterable[str]) -> str | None:
    """Name a reason of `unremovable_nodes_count`.

    Parameters
    ----------
    reason
        The label: a number is looked up, a name is taken as it is.
    versions
        The version of the autoscaler, or all that it may be. Only what means the same in all of them is decoded.

    Returns
    -------
    str or None
        None if no version is given, one of them is no version or not in the table, or they disagree.
    """
    if not re.fullmatch(r"[0-9]{1,4}", reason, re.ASCII):
        return reason if re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,99}", reason, re.ASCII) else None
    number = int(reason)
    found: set[str | None] = set()
    for version in versions:
        key = version_key(version)
        names = table_of(key).names if key is not None else None
        found.add(names[number] if names is not None and number < len(names) else None)
    return found.pop() if len(found) == 1 else None


def table_of(key: tuple[int, int, int]) -> ReasonTable:
    """Find the list of reasons of a version."""
    return next(
        each
        for each in REASONS
        if (each.since is None or each.since <= key) and (each.before is None or key < each.before)
    )


SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]{0,200})(\{.*\})?[ \t]+([^ \t]{1,60})(?:[ \t]+[-+0-9.eE]{1,40})?[ \t]*")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]{0,200})[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*,?[ \t]*')
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
PREFIX = "cluster_autoscaler_"


def sample_of(line: str) -> tuple[str, dict[str, str], float] | None:
    """Take a line apart: the name, the labels, the value."""
    match = SAMPLE.fullmatch(line)
    if match is None:
        return None
    try:
        value = float(match[3])
    except ValueError:
        return None
    labels: dict[str, str] = {}
    inside = match[2][1:-1].strip() if match[2] else ""
    position = 0
    while position < len(inside):
        label = LABEL.match(inside, position)
        if label is None:
            return None
        labels[label[1]] = re.sub(r'\\[\\"n]', lambda each: ESCAPES[each[0]], label[2])
        position = label.end()
    return match[1], labels, value


def read_metrics(text: str | bytes, source: str, versions: Iterable[str] = ()) -> Metrics:
    """Read what the autoscaler answers at `/metrics`; other metrics beside its own are passed over.

    Parameters
    ----------
    text
        Prometheus text.
    source
        Its name, for the proofs.
    versions
        The version of the autoscaler, or all that it may be, for the reasons.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    known = tuple(versions)
    unread = 0
    unremovable: list[Unremovable] = []
    single: dict[str, float] = {}
    nodes: dict[str, int] = {}
    activity: dict[str, datetime] = {}
    pods: int | None = None
    proofs: dict[str, Proof] = {}
    for number, raw in enumerate(text.split("\n", MOST_LINES)[:MOST_LINES], 1):
        line = raw.strip()
        if not line.startswith(PREFIX):
            continue
        found = sample_of(line) if len(line) <= LONGEST_LINE else None
        if found is None or not math.isfinite(found[2]):
            unread += 1
            continue
        name, labels, value = found[0].removeprefix(PREFIX), found[1], found[2]
        proof = Proof.of(source, f"line {number}", line)
        count = round(value) if abs(value) < 1e15 else 0
        if name == "unremovable_nodes_count" and "reason" in labels:
            if count > 0:
                reason = excerpt(labels["reason"], 100)
                unremovable.append(Unremovable(reason, decode_reason(reason, known), count, proof))
        elif name == "nodes_count" and "state" in labels:
            nodes[excerpt(labels["state"], 100)] = count
        elif name == "last_activity" and "activity" in labels:
            when = moment(value)
            if when is not None:
                activity[excerpt(labels["activity"], 100)] = when
        elif name == "unschedulable_pods_count":
            # One number up to 1.28, one by `type` after it.
            pods = (pods or 0) + count
        elif name in SINGLE and not labels:
            single[name] = value
        else:
            continue
        proofs.setdefault(name, proof)
    return Metrics(
        tuple(unremovable),
        flag(single.get("cluster_safe_to_autoscale")),
        flag(single.get("scale_down_in_cooldown")),
        round(single["unneeded_nodes_count"]) if "unneeded_nodes_count" in single else None,
        pods,
        nodes,
        activity,
        proofs,
        unread,
    )


SINGLE = frozenset({"cluster_safe_to_autoscale", "scale_down_in_cooldown", "unneeded_nodes_count"})


def flag(value: float | None) -> bool | None:
    """Read a gauge that is 0 or 1."""
    return None if value is None else value != 0


def moment(seconds: float) -> datetime | None:
    """Read seconds since 1970; None for 0, which means never, and for what is no time."""
    if not 0 < seconds < 32_503_680_000:  # the year 3000
        return None
    return datetime.fromtimestamp(seconds, UTC)
