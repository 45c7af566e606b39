"""The question that every engine answers about a log, and the words of the answer.

1. How many messages of each kind are there?
2. What was decided last about each node, why, and when was that said last?

A kind is a wording of cluster-autoscaler 1.29 to 1.32 (the logs are of 1.30.7). Of a decision the answer keeps the
state, the text that follows `cannot be removed:` or `is not suitable for removal:`, and the time as the line has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DECISIONS", "KINDS", "OTHER", "WHICH", "WORDS", "Answer"]

OTHER = "other"

# kind -> the message from its start, as a regular expression that Python, Rust and RE2 read alike. The node's name is
# the group that DECISIONS need. The commonest come first, which is what an engine with alternations wants.
NODE = r'([^ ",\n]+)'
KINDS: dict[str, str] = {
    "utilization-too-big": rf"Node {NODE} unremovable: ",
    "pod-movable": r"Pod [^ ]+ can be moved to ",
    "simulating": r"Simulating node ",
    "may-be-removed": rf"node {NODE} may be removed",
    "unneeded-since": rf"{NODE} is unneeded since ",
    "was-unneeded": rf"{NODE} was unneeded for ",
    "skipped-min-size": rf"Skipping {NODE} - node group min size reached",
    "gpu-unready-override": r"Overriding status of node ",
    "utilization": r"Node [^ ]+ - [^ ]+ requested is ",
    "cannot-be-removed": rf"node {NODE} cannot be removed: (.*)",
    "no-place-for-pods": rf"node {NODE} is not suitable for removal: (.*)",
    "gpu-unready": r"node [^ ]+ has unready GPU",
    "loop": r"Starting main loop",
    "scale-down-status": r"Scale down status: ",
    "scale-down-start": r"Starting scale down",
    "skipped-recently-unremovable": r"Scale-down calculation: ignoring ",
    "utilization-not-logged": r"Skipped logging utilization for ",
    "unremovable-recheck": r"\d+ nodes found to be unremovable in simulation",
    "event": r"Event\(v1\.ObjectReference",
    "soft-tainted": r"Successfully added DeletionCandidate[^ ]* on node ",
    "tainted": r"Successfully added ToBeDeleted[^ ]* on node ",
    "removing-empty": rf'Scale-down: removing empty node "{NODE}"',
    "removing": rf"Scale-down: removing node {NODE}, utilization: ",
    "waiting-before-delete": r"Scale-down: waiting ",
    "drained": rf"All pods removed from {NODE}",
    "pod-has-no-place": r"failed to find place for ",
    "pod-unschedulable": r"Pod [^ ]+ is unschedulable",
    "pod-does-not-fit": r"Pod [^ ]+ can't be scheduled on ",
    "upcoming-nodes": r"Upcoming \d+ nodes",
    "best-option": r"Best option to resize: ",
    "estimated": r"Estimated \d+ nodes needed in ",
    "scale-up-plan": r"Final scale-up plan: ",
    "set-size": r"Scale-up: setting group ",
    "scale-up-done": r"Scale up in group ",
}

# kind -> what it makes of the node that it names.
DECISIONS = {
    "skipped-min-size": "skipped",
    "utilization-too-big": "needed",
    "may-be-removed": "unneeded",
    "unneeded-since": "unneeded",
    "was-unneeded": "unneeded",
    "cannot-be-removed": "blocked",
    "no-place-for-pods": "blocked",
    "removing-empty": "removing",
    "removing": "removing",
    "drained": "removed",
}


# kind -> words that only this kind has, for engines that look for many words faster than for one regular expression.
# They are looked for in the whole line, so this is right for these logs and not for any log. The first that a line has
# decides.
WORDS = {
    OTHER: " other pods similar to ",
    "event": "Event(v1",
    "utilization-too-big": " unremovable: ",
    "pod-movable": " can be moved to ",
    "simulating": "Simulating node ",
    "may-be-removed": " may be removed",
    "unneeded-since": " is unneeded since ",
    "was-unneeded": " was unneeded for ",
    "skipped-min-size": " - node group min size reached",
    "gpu-unready-override": "Overriding status of node ",
    "utilization": " requested is ",
    "cannot-be-removed": " cannot be removed: ",
    "no-place-for-pods": " is not suitable for removal: ",
    "gpu-unready": " has unready GPU",
    "loop": "Starting main loop",
    "scale-down-status": "Scale down status: ",
    "scale-down-start": "Starting scale down",
    "skipped-recently-unremovable": "Scale-down calculation: ignoring ",
    "utilization-not-logged": "Skipped logging utilization for ",
    "unremovable-recheck": " nodes found to be unremovable in simulation",
    "soft-tainted": "Successfully added DeletionCandidate",
    "tainted": "Successfully added ToBeDeleted",
    "removing-empty": "Scale-down: removing empty node ",
    "removing": "Scale-down: removing node ",
    "waiting-before-delete": "Scale-down: waiting ",
    "drained": "All pods removed from ",
    "pod-has-no-place": "failed to find place for ",
    "pod-unschedulable": " is unschedulable",
    "pod-does-not-fit": " can't be scheduled on ",
    "upcoming-nodes": "] Upcoming ",
    "best-option": "Best option to resize: ",
    "estimated": "] Estimated ",
    "scale-up-plan": "Final scale-up plan: ",
    "set-size": "Scale-up: setting group ",
    "scale-up-done": "Scale up in group ",
}
# The node of a decision.
WHICH = r'\] (?:[Nn]ode |Skipping |Scale-down: removing (?:empty )?node "?|All pods removed from )?([^ ",\n]+)'


@dataclass
class Answer:
    """What an engine found.

    Parameters
    ----------
    lines
        How many lines the log has.
    kinds
        How many messages of each kind, `other` included.
    nodes
        Node -> state, reason (empty but for `blocked`) and time (`mmdd hh:mm:ss.uuuuuu`) of the last decision.
    """

    lines: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, in an order of its own."""
        return {
            "lines": self.lines,
            "kinds": {name: count for name, count in sorted(self.kinds.items()) if count},
            "nodes": {name: list(each) for name, each in sorted(self.nodes.items())},
        }

    @classmethod
    def read(cls, path: Path) -> Answer:
        """Read the right answer from a truth file."""
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of(cls, found: dict[str, Any]) -> Answer:
        """Make an answer of plain data."""
        nodes = {name: (each[0], each[1], each[2]) for name, each in found["nodes"].items()}
        return cls(found["lines"], found["kinds"], nodes)

    def differences(self, other: Answer) -> list[str]:
        """Name what differs, at most ten things."""
        mine, theirs = self.as_dict(), other.as_dict()
        found = [f"lines: {mine['lines']}, {theirs['lines']}"] if mine["lines"] != theirs["lines"] else []
        for part in ("kinds", "nodes"):
            found += [
                f"{part} {name}: {mine[part].get(name)}, {theirs[part].get(name)}"
                for name in sorted({*mine[part], *theirs[part]})
                if mine[part].get(name) != theirs[part].get(name)
            ]
        return found[:10]
