"""What the maker of logs takes from the recordings: where in the source each message comes from, and the noise.

The recorded autoscaler is 1.30.7 and a message's `file:line` is copied from a recorded line, so that a made log has the
fingerprint of that version. Two messages were not recorded: a node that is removed with pods on it, whose line is in
the table of fingerprints, and `is not suitable for removal`, which in the sources of 1.26.8 and 1.36.1 stands
three lines before `may be removed`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from leptonami import datafiles
from leptonami.recordings import recordings

__all__ = ["Noise", "Sites", "noise", "sites"]

VERSION = "1.30.7"
HEADER = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ (\S+?:\d+)\] (.*)")

# What the maker writes -> how the recordings write it.
RECORDED = {
    "version": "Cluster Autoscaler",
    "loop": "Starting main loop",
    "override": "Overriding status of node",
    "filter": "Filtering out schedulables",
    "schedulable": "0 pods marked as unschedulable can be scheduled",
    "none_schedulable": "No schedulable pods",
    "daemons": "Filtering out daemon set pods",
    "left": "Filtered out 0 daemon set pods",
    "no_pods": "No unschedulable pods",
    "unneeded": "Calculating unneeded nodes",
    "min_size": "Skipping .* - node group min size reached",
    "too_big": "Node .* unremovable: ",
    "klogx": "Node .* requested is",
    "gpu_unready": "node .* has unready GPU resource",
    "ignoring": "Scale-down calculation: ignoring",
    "simulate": "Simulating node",
    "cannot": "node .* cannot be removed",
    "may": "node .* may be removed",
    "recheck": ".* nodes found to be unremovable in simulation",
    "since": ".* is unneeded since",
    "status": "Scale down status:",
    "start": "Starting scale down",
    "was": ".* was unneeded for",
    "taint": "Successfully added ToBeDeleted",
    "soft": "Successfully added DeletionCandidate",
    "soft_template": "Removing autoscaler soft taint",
    "event": "Event",
    "removing_empty": "Scale-down: removing empty node",
    "waiting": "Scale-down: waiting",
    "drained": "All pods removed from",
    "upcoming": "Upcoming",
    "does_not_fit": "Pod .* can't be scheduled on",
    "similar": ".* other pods similar to",
    "no_fit": "No pod can fit to",
    "best": "Best option to resize",
    "estimated": "Estimated",
    "plan": "Final scale-up plan",
    "set_size": "Scale-up: setting group",
    "skipping_events": "Skipping event processing",
    "up_done": "Scale up in group",
    "nil_group": "Nodegroup is nil",
    "no_group": "No node group for node",
}


class Sites(dict[str, str]):
    """Name of a message -> `file:line`, with the severity before it: `I static_autoscaler.go:306`."""


@dataclass(frozen=True)
class Noise:
    """What stands between the loops.

    Parameters
    ----------
    lines
        Severity, `file:line` and text of recorded lines that come again and again.
    per_loop
        How many of them there are for each loop, on average.
    """

    lines: tuple[tuple[str, str, str], ...]
    per_loop: float


def recorded() -> list[tuple[str, str, str]]:
    """Give severity, `file:line` and text of every recorded line of the autoscaler's real log."""
    lines = []
    for recording in recordings():
        if recording.versions.get("cluster-autoscaler") == VERSION:
            text = recording.read("autoscaler-log").decode()
            lines += [found.group(1, 2, 3) for line in text.splitlines() if (found := HEADER.fullmatch(line))]
    return [(str(a), str(b), str(c)) for a, b, c in lines]


def sites(lines: list[tuple[str, str, str]]) -> Sites:
    """Find where each message comes from."""
    found = Sites()
    for name, text in RECORDED.items():
        pattern = re.compile(text)
        found[name] = next(f"{severity} {site}" for severity, site, words in lines if pattern.match(words))
    table = json.loads(datafiles.path("ca-line-fingerprints.json").read_text())["versions"][VERSION]
    file, (line,) = table["remove_drain"]
    found["removing"] = f"I {file}:{line}"
    severity, _, may = found["may"].partition(" ")
    file, _, number = may.partition(":")
    found["no_place"] = f"{severity} {file}:{int(number) - 3}"
    return found


def noise(lines: list[tuple[str, str, str]]) -> Noise:
    """Collect the watches that close and the cache that is refreshed, as often as they are in the recordings."""
    repeated = re.compile(r".*: Watch close - |Start refreshing cloud provider|Refresh cloud provider node instances")
    found = tuple(each for each in lines if repeated.match(each[2]))
    return Noise(found, len(found) / sum(text == "Starting main loop" for _, _, text in lines))
