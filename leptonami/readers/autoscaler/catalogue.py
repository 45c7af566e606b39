"""What cluster-autoscaler says in its log on the way up and down, from 1.12 to today, and what each message means.

A message is known by its words. `file:line` is no part of it, so that vendors' forks are read too; it tells the version
(`version.py`). The wordings and the releases in which they changed were read in the sources (1.12.0 to 1.36.1); at 1.15
the resource got its name, at 1.24 `evaluation:` went, at 1.26 the group's size came, at 1.29 `utilization` became
`requested`, at 1.30 the taints got their own names, at 1.33 `node` became `Node`. Most of it needs `-v=4`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["MESSAGES", "Classifier", "Kind", "Message"]


class Kind(StrEnum):
    """What a message is about."""

    # the loop
    STARTED = "started"
    FLAG = "flag"
    LOOP = "loop"
    NOT_READY = "cluster-not-ready"
    GPU_OVERRIDE = "gpu-unready-override"
    # which nodes may go
    MIN_SIZE = "skipped-min-size"
    NOT_AUTOSCALED = "skipped-not-autoscaled"
    BEING_DELETED = "skipped-being-deleted"
    ANNOTATED = "skipped-annotation"
    UNREADY_DISABLED = "skipped-unready"
    RECENTLY_UNREMOVABLE = "skipped-recently-unremovable"
    UTILIZATION = "utilization"
    NOT_ALL_UTILIZATION = "utilization-not-logged"
    TOO_BIG = "utilization-too-big"
    GPU_UNREADY = "gpu-unready"
    # the simulation
    SIMULATING = "simulating"
    CANNOT_BE_REMOVED = "cannot-be-removed"
    NO_PLACE = "no-place-for-pods"
    MAY_BE_REMOVED = "may-be-removed"
    POD_MOVABLE = "pod-movable"
    POD_HAS_NO_PLACE = "pod-has-no-place"
    RECHECK = "unremovable-recheck"
    # the timers and gates
    UNNEEDED_SINCE = "unneeded-since"
    WAS_UNNEEDED = "was-unneeded"
    SCALE_DOWN_STATUS = "scale-down-status"
    SCALE_DOWN_START = "scale-down-start"
    RESOURCE_LIMIT = "skipped-resource-limit"
    # the removal
    TAINTED = "tainted"
    SOFT_TAINTED = "soft-tainted"
    UNTAINTED = "untainted"
    REMOVING_EMPTY = "removing-empty"
    REMOVING = "removing"
    WAITING = "waiting-before-delete"
    DRAINED = "drained"
    EVICTION_FAILED = "eviction-failed"
    TERMINATING = "terminating-instance"
    DELETE_FAILED = "delete-failed"
    # the way up
    UNSCHEDULABLE = "pod-unschedulable"
    POD_DOES_NOT_FIT = "pod-does-not-fit"
    UPCOMING = "upcoming-nodes"
    NO_OPTIONS = "no-expansion-options"
    MAX_SIZE = "group-max-size"
    BEST_OPTION = "best-option"
    ESTIMATED = "estimated"
    SCALE_UP_PLAN = "scale-up-plan"
    SET_SIZE = "set-size"
    SCALE_UP_DONE = "scale-up-done"
    SCALE_UP_TIMED_OUT = "scale-up-timed-out"
    BACKOFF = "group-backoff"
    GROUP_NOT_READY = "group-not-ready"
    UNREGISTERED = "unregistered-nodes"
    EVENT = "event"
    # a message with a header that this catalogue does not hold
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Message:
    """One wording of one message.

    Parameters
    ----------
    kind
        What it is about.
    pattern
        Matches the message from its start. Groups: `node`, `group`, `pod`, `resource`, `value`, `reason`, `since`,
        `duration`, `count`, `name`. No part of it can match the same text in two ways, so matching takes linear time.
    releases
        The releases that print it, as first and last minor; None is open.
    site
        Its name in the table of call sites (`data/ca-line-fingerprints.json`), where it has one.
    volatile
        Whether each loop prints it with another number, so that remembering it is of no use.
    """

    kind: Kind
    pattern: re.Pattern[bytes]
    releases: tuple[str | None, str | None] = (None, None)
    site: str | None = None
    volatile: bool = False


def message(
    kind: Kind,
    pattern: str,
    releases: tuple[str | None, str | None] = (None, None),
    *,
    site: str | None = None,
    volatile: bool = False,
) -> Message:
    """Write a row of the table: `{N}` stands for a node's name, `{G}` for a group's, `{P}` for a pod's."""
    written = pattern.replace("{N}", r"(?P<node>[^\s,\"]+)").replace("{G}", r"(?P<group>\S+)")
    written = written.replace("{P}", r"(?P<pod>[^\s,:]+)").replace("{V}", r"(?P<value>[0-9.e+-]+)")
    return Message(kind, re.compile(written.encode(), re.DOTALL), releases, site, volatile)


# To 1.23 the simulation named its round; later it does not.
ROUND = r"(?:(?:Fast|Detailed) evaluation: )?"

MESSAGES: tuple[Message, ...] = (
    message(Kind.STARTED, r"Cluster Autoscaler (?P<value>\d+\.\d+\.\S+)"),
    message(Kind.FLAG, r'FLAG: --(?P<name>[\w-]+)="(?P<value>[^"]*)"'),
    message(Kind.LOOP, r"Starting main loop", site="main_loop"),
    message(Kind.NOT_READY, r"Cluster is not ready for autoscaling", site="not_ready"),
    message(
        Kind.GPU_OVERRIDE,
        r"Overriding status of node {N}, which seems to have unready GPU",
        site="unready_gpu_override",
    ),
    message(
        Kind.MIN_SIZE,
        r"Skipping {N} - node group min size reached(?: \(current: (?P<count>\d+), min: (?P<value>\d+)\))?",
        site="prefilter_minsize",
    ),
    message(Kind.NOT_AUTOSCALED, r"Node {N} should not be processed by cluster autoscaler"),
    message(Kind.NOT_AUTOSCALED, r"Skipp(?:ed|ing) {N} from delete consideration - the node is not autoscaled"),
    message(Kind.NOT_AUTOSCALED, r"Skipping {N} - no node group config"),
    message(Kind.BEING_DELETED, r"Skipping {N} from delete consideration - the node is currently being deleted"),
    message(Kind.ANNOTATED, r"Skipping {N} from delete consideration - the node is marked as no scale down"),
    message(Kind.ANNOTATED, r"Skipping {N} - scale down disabled annotation found"),
    message(Kind.UNREADY_DISABLED, r"Skipping unready node {N} from delete consideration", ("1.27", None)),
    message(
        Kind.RECENTLY_UNREMOVABLE,
        r"Scale-down calculation: ignoring (?P<count>\d+) nodes,?(?: that were)? unremovable in the last "
        r"(?P<duration>\S+)",
        site="elig_ignoring",
    ),
    message(
        Kind.UTILIZATION,
        r"Node {N} - (?P<resource>\S+) requested is {V}% of allocatable",
        ("1.29", None),
        volatile=False,
    ),
    message(Kind.UTILIZATION, r"Node {N} - (?:(?P<resource>\S+) )?utilization {V}", (None, "1.28")),
    message(Kind.NOT_ALL_UTILIZATION, r"Skipped logging utilization for (?P<count>\d+) other nodes"),
    message(
        Kind.TOO_BIG,
        r"Node {N} unremovable: (?P<resource>\S+) requested \({V}% of allocatable\)",
        ("1.29", None),
        site="elig_toobig",
    ),
    message(
        Kind.TOO_BIG,
        r"Node {N} is not suitable for removal - (?:(?P<resource>\S+) )?utilization too big \({V}\)",
        (None, "1.28"),
        site="elig_toobig",
    ),
    message(Kind.GPU_UNREADY, r"node {N} has unready GPU(?: resource: (?P<resource>\S+))?", site="unready_gpu_util"),
    message(Kind.SIMULATING, r"Simulating node {N} removal", ("1.29", None), site="sim_for_removal"),
    message(Kind.SIMULATING, ROUND + r"{N} for removal", (None, "1.28"), site="sim_for_removal"),
    message(Kind.CANNOT_BE_REMOVED, ROUND + r"[Nn]ode {N} cannot be removed: (?P<reason>.*)", site="sim_cannot"),
    message(Kind.NO_PLACE, ROUND + r"[Nn]ode {N} is not suitable for removal: (?P<reason>.*)"),
    message(Kind.MAY_BE_REMOVED, ROUND + r"[Nn]ode {N} may be removed", site="sim_may"),
    message(Kind.POD_MOVABLE, r"Pod {P} can be moved to {N}"),
    message(Kind.POD_HAS_NO_PLACE, r"failed to find place for {P}(?:: (?P<reason>.*))?"),
    message(
        Kind.RECHECK,
        r"(?P<count>\d+) nodes found to be unremovable in simulation, will re-check them at (?P<since>.*)",
        volatile=True,
    ),
    message(
        Kind.UNNEEDED_SINCE,
        r"{N} is unneeded since (?P<since>\S+ \S+ \S+ \S+)(?: m=\S+)? duration (?P<duration>\S+)",
        site="unneeded_since",
        volatile=True,
    ),
    message(Kind.WAS_UNNEEDED, r"{N} was unneeded for (?P<duration>\S+)", site="was_unneeded", volatile=True),
    message(
        Kind.SCALE_DOWN_STATUS,
        r"Scale down status: (?:unneededOnly=(?P<name>\w+) )?lastScaleUpTime=(?P<since>\S+ \S+ \S+ \S+)(?P<reason>.*)",
        site="sd_status",
    ),
    message(Kind.SCALE_DOWN_START, r"Starting scale down(?P<reason>: no scale down candidates.*)?", site="sd_start"),
    message(Kind.RESOURCE_LIMIT, r"Skipping {N} - minimal limit exceeded for (?P<reason>.*)"),
    message(Kind.RESOURCE_LIMIT, r"Skipping scale down of {N} in this batch(?P<reason>.*)"),
    message(Kind.SOFT_TAINTED, r"Successfully added (?P<name>DeletionCandidate\S*) on node {N}", site="taint_added"),
    message(Kind.TAINTED, r"Successfully added (?P<name>ToBeDeleted\S*) on node {N}", site="taint_added"),
    message(Kind.UNTAINTED, r"Successfully released (?P<name>ToBeDeleted\S*) on node {N}"),
    message(Kind.REMOVING_EMPTY, r"Scale-down: removing empty node \"?{N}\"?", site="remove_empty"),
    message(
        Kind.REMOVING,
        r"Scale-down: removing node {N}, utilization: (?P<value>\{[^}]*\}), pods to reschedule: (?P<reason>.*)",
        site="remove_drain",
    ),
    message(Kind.WAITING, r"Scale-down: waiting (?P<duration>\S+) before trying to delete nodes"),
    message(Kind.DRAINED, r"All pods removed from {N}"),
    message(Kind.EVICTION_FAILED, r"Failed to evict pod (?P<pod>[^\s,:]+)(?P<reason>.*)"),
    message(Kind.TERMINATING, r"Terminating EC2 instance: (?P<name>i-\w+)"),
    message(Kind.DELETE_FAILED, r"(?:Scale-down: )?[Cc]ouldn't delete (?:empty )?node \"?{N}\"?,?(?P<reason>.*)"),
    message(Kind.UNSCHEDULABLE, r"Pod {P} is unschedulable"),
    message(
        Kind.POD_DOES_NOT_FIT,
        r"Pod {P} can't be scheduled on (?P<group>[^\s,]+),? (?:predicate (?:checking error|failed): )?(?P<reason>.*)",
    ),
    message(Kind.UPCOMING, r"Upcoming (?P<count>\d+) nodes"),
    message(Kind.NO_OPTIONS, r"No expansion options"),
    message(Kind.MAX_SIZE, r"Skipping node group {G} - max size reached"),
    message(Kind.BEST_OPTION, r"Best option to resize: {G}", site="best_option"),
    message(Kind.ESTIMATED, r"Estimated (?P<count>\d+) nodes needed in {G}"),
    message(Kind.SCALE_UP_PLAN, r"Final scale-up plan: \[(?P<reason>.*)\]", site="final_plan"),
    message(Kind.SET_SIZE, r"Scale-up: setting group {G} size to (?P<count>\d+)", site="set_size"),
    message(Kind.SCALE_UP_DONE, r"Scale up in group {G} finished successfully in (?P<duration>\S+)"),
    message(Kind.SCALE_UP_TIMED_OUT, r"Scale-up timed out for node group {G} after (?P<duration>\S+)"),
    message(Kind.BACKOFF, r"Disabling scale-up for node group {G} until (?P<since>[^;]*)(?:; (?P<reason>.*))?"),
    message(Kind.GROUP_NOT_READY, r"Node group {G} is not ready for scaleup - (?P<reason>.*)"),
    message(Kind.UNREGISTERED, r"(?P<count>\d+) unregistered nodes present"),
    message(
        Kind.EVENT,
        r"Event\(v1\.ObjectReference\{(?P<value>[^}]*)\}\): type: '\w*' reason: '(?P<name>\w*)' (?P<reason>.*)",
    ),
)


class Classifier:
    """Finds the row of a message; it learns where each call site's messages are, so that most take one match.

    klog names the place in the source that a message comes from. One place prints one message, but for `klogx.go`, a
    wrapper that prints several.
    """

    def __init__(self, messages: Sequence[Message] = MESSAGES) -> None:
        self.messages = tuple(messages)
        self.learnt: dict[bytes, list[Message]] = {}

    def find(self, site: bytes, text: bytes) -> tuple[Message, re.Match[bytes]] | None:
        """Give the row that a message is an instance of, and its match.

        Parameters
        ----------
        site
            `file:line`, empty if it is not known.
        text
            The message without its header.
        """
        likely = self.learnt.get(site, ())
        for row in likely:
            found = row.pattern.match(text)
            if found is not None:
                return row, found
        for row in self.messages:
            found = row.pattern.match(text)
            if found is not None:
                if site and row not in likely and len(self.learnt) < MOST_SITES:
                    self.learnt.setdefault(site, []).append(row)
                return row, found
        return None


MOST_SITES = 4096  # a log has some hundred; a hostile one cannot make the table grow for ever
