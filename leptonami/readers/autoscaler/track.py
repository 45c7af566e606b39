"""What is remembered of a node and of the cluster while a log goes by, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from leptonami.readers.autoscaler.catalogue import Kind

__all__ = ["MOST_SPANS", "STATUS", "Happening", "Period", "Phase", "Seen", "Span", "Status", "Track"]

MOST_SPANS = 256  # changes kept of one node, the latest: one that flaps for weeks must not fill the memory


class Phase(StrEnum):
    """What the autoscaler thinks of a node."""

    GPU_NOT_READY = "GPU not ready"
    NEEDED = "needed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    UNNEEDED = "unneeded"
    TAINTED = "tainted"
    REMOVING = "removing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Status:
    """A node's phase. `reason` is the message's kind where it was skipped, its own text where it was blocked."""

    phase: Phase
    reason: str = ""


UNNEEDED, TAINTED, REMOVING = Status(Phase.UNNEEDED), Status(Phase.TAINTED), Status(Phase.REMOVING)

# What a message about a node makes of it. Equal statuses are one object, so that they can be compared by identity.
STATUS: Mapping[Kind, Status] = {
    Kind.TOO_BIG: Status(Phase.NEEDED),
    Kind.MAY_BE_REMOVED: UNNEEDED,
    Kind.UNNEEDED_SINCE: UNNEEDED,
    Kind.WAS_UNNEEDED: UNNEEDED,
    Kind.UNTAINTED: UNNEEDED,
    Kind.GPU_OVERRIDE: Status(Phase.GPU_NOT_READY),
    Kind.MIN_SIZE: Status(Phase.SKIPPED, Kind.MIN_SIZE),
    Kind.NOT_AUTOSCALED: Status(Phase.SKIPPED, Kind.NOT_AUTOSCALED),
    Kind.ANNOTATED: Status(Phase.SKIPPED, Kind.ANNOTATED),
    Kind.UNREADY_DISABLED: Status(Phase.SKIPPED, Kind.UNREADY_DISABLED),
    Kind.RESOURCE_LIMIT: Status(Phase.SKIPPED, Kind.RESOURCE_LIMIT),
    Kind.BEING_DELETED: TAINTED,
    Kind.TAINTED: TAINTED,
    Kind.REMOVING: REMOVING,
    Kind.REMOVING_EMPTY: REMOVING,
    Kind.DRAINED: Status(Phase.REMOVED),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A line that was seen: its number in the whole input, and its bytes without what a collector put before it."""

    number: int
    line: bytes


@dataclass(slots=True)
class Span:
    """A time during which a node's status did not change: from the line that said it first to the last that did."""

    status: Status
    first: Seen
    last: Seen


@dataclass(slots=True)
class Track:
    """Everything that is remembered of one node.

    Parameters
    ----------
    status, number, line
        Its status, and the last line that said so.
    spans
        Its statuses so far, the latest `MOST_SPANS`; `changes` counts all.
    since, since_number, since_line
        The time from which on it is unneeded, as the autoscaler printed it, and the last line with it.
    waited_number, waited_line
        The last line that said for how long it had been unneeded, when it was to be seen whether that is long enough.
    removals
        How often its removal began; `removal` is the last line that said so, `failed` the one that
        said that it failed.
    judged
        The last line about its utilization.
    override_first, override_last
        The first and the last line, of the latest stretch of loops, that said that its GPU was not ready; the loops are
        `override_began` and `override_loop`.
    deleting_first
        Whether it was first heard of as being deleted, which says nothing new of a node that is gone.
    unready
        Whether the autoscaler went by its unready GPU when it worked out its utilization, and the last line of that.
    """

    name: bytes
    status: Status | None = None
    number: int = 0
    line: bytes = b""
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=MOST_SPANS))
    changes: int = 0
    since: bytes = b""
    since_number: int = 0
    since_line: bytes = b""
    waited_number: int = 0
    waited_line: bytes = b""
    removals: int = 0
    removal: Seen | None = None
    failed: Seen | None = None
    judged: Seen | None = None
    override_first: Seen | None = None
    override_last: Seen | None = None
    override_began: int = -1
    override_loop: int = -1
    unready: Seen | None = None
    deleting_first: bool = False

    def change(self, status: Status, number: int, line: bytes) -> None:
        """Begin a new status with a line; the one before ends with the last line that said it."""
        self.finish()
        seen = Seen(number, line)
        self.spans.append(Span(status, seen, seen))
        self.status = status
        self.changes += 1
        self.number = number
        self.line = line

    def say(self, status: Status, number: int, line: bytes) -> None:
        """Note a line that says a status, the present one or a new one."""
        if self.status is status:
            self.number = number
            self.line = line
        else:
            self.change(status, number, line)

    def finish(self) -> None:
        """Bring the last span up to the last line."""
        if self.spans:
            self.spans[-1].last = Seen(self.number, self.line)


@dataclass(slots=True)
class Period:
    """A stretch of loops in which something held for the whole cluster: its first and last line, and its loops.

    Parameters
    ----------
    begin, loop
        The numbers of its first and its last loop.
    loops
        In how many of them it was said.
    """

    first: Seen
    last: Seen
    begin: int
    loop: int
    loops: int = 1


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened once: the line, its kind and the parts of its message."""

    kind: Kind
    seen: Seen
    fields: Mapping[str, str]
