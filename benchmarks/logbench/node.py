"""The nodes of a made-up fleet: their groups, their names, and what the autoscaler keeps saying about them.

Names are made of addresses that are reserved for documentation and benchmarks (RFC 5737, RFC 2544). They come back
after a while, as addresses do.
"""

from __future__ import annotations

import ipaddress
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from logbench.templates import Sites

__all__ = ["GROUPS", "Decision", "Group", "Names", "Node"]

REGION = "us-west-2"
THREAD = "      1"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"

# node, state, reason
Decision = tuple[str, str, str]


@dataclass(frozen=True)
class Group:
    """A node group.

    Parameters
    ----------
    share
        Of the fleet's nodes.
    gpu
        Whether its nodes have a GPU.
    at_minimum
        Whether it may not shrink: the autoscaler skips its nodes in every loop.
    idle
        How likely a busy node is to become idle, per loop.
    """

    name: str
    share: float
    gpu: bool = False
    at_minimum: bool = False
    idle: float = 0.0


GROUPS = (
    Group("system", 0.08, at_minimum=True),
    Group("web-a", 0.22, idle=0.0012),
    Group("web-b", 0.20, idle=0.0012),
    Group("batch", 0.18, idle=0.004),
    Group("gpu-a10g", 0.20, gpu=True, idle=0.0025),
    Group("gpu-h100", 0.12, gpu=True, idle=0.002),
)

# What keeps an idle node without GPU, and how often.
BLOCKERS = (
    "gpu-operator/gpu-operator-{hash}-{tail}",
    "kube-system/metrics-server-{hash}-{tail}",
    "payments/ledger-{digit}",
)
REASONS = (
    "pod with local storage present: {pod}",
    "non-daemonset, non-mirrored, non-pdb-assigned kube-system pod present: {pod}",
    "not enough pod disruption budget to move {pod}",
)
APPS = (
    "web/frontend",
    "web/checkout",
    "batch/etl",
    "search/indexer",
    "monitoring/prometheus-adapter",
    "kube-system/coredns",
)


class Names:
    """Hands out names of nodes; a name that was given back is used again when all others have been."""

    def __init__(self, nodes: int) -> None:
        self.free: deque[str] = deque()
        self.addresses = self.all_addresses()
        while len(self.free) < 2 * nodes:
            self.more()

    def all_addresses(self) -> Iterator[ipaddress.IPv4Address]:
        """Give every address there is for this."""
        for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"):
            yield from ipaddress.IPv4Network(network).hosts()

    def more(self) -> None:
        """Make one more name free."""
        address = str(next(self.addresses)).replace(".", "-")
        self.free.append(f"ip-{address}.{REGION}.compute.internal")

    def take(self) -> str:
        """Give the name that has been free for longest."""
        if not self.free:
            self.more()
        return self.free.popleft()


class Node:
    """A node: what is said about it, ready to be written, and what it is going through.

    Parameters
    ----------
    broken
        Its GPU never becomes allocatable; its validator pod waits.

    Attributes
    ----------
    state
        `busy`, `idle` (the autoscaler would remove it), `blocked` or `starting` (not looked at yet).
    change
        The loop in which the state changes by itself.
    since
        The loop since which it is idle.
    ignored
        The loop until which the autoscaler does not look at it again, after it could not be removed.
    """

    def __init__(self, name: str, group: Group, dice: random.Random, sites: Sites, *, broken: bool = False) -> None:
        self.name = name
        self.group = group
        self.broken = broken
        self.sites = sites
        self.state = "busy"
        self.change = 0
        self.since = 0
        self.ignored = 0
        self.marked = False
        self.reason = ""
        self.pods: list[str] = []
        self.resource = "nvidia.com/gpu" if group.gpu else dice.choice(("cpu", "cpu", "memory"))
        self.skipped: Decision = (name, "skipped", "")
        self.needed: Decision = (name, "needed", "")
        self.unneeded: Decision = (name, "unneeded", "")
        self.removing: Decision = (name, "removing", "")
        self.removed: Decision = (name, "removed", "")
        self.blocked: Decision = (name, "blocked", "")
        self.override = self.tail("override", f"Overriding status of node {name}, which seems to have unready GPU")
        self.simulate = self.tail("simulate", f"Simulating node {name} removal")
        self.may = self.tail("may", f"node {name} may be removed")
        self.gpu_unready = self.tail("gpu_unready", f"node {name} has unready GPU resource: nvidia.com/gpu")
        self.since_start = f"{self.prefix('since')}{name} is unneeded since "
        self.was_start = f"{self.prefix('was')}{name} was unneeded for "
        self.skip = ""
        self.verdict = self.may
        self.moves: list[str] = []
        self.too_big = self.utilization = ""
        self.use(dice)

    def skip_at(self, size: int) -> None:
        """Let its group be at its minimum, which is this size."""
        self.skip = self.tail(
            "min_size", f"Skipping {self.name} - node group min size reached (current: {size}, min: {size})"
        )

    def prefix(self, site: str) -> str:
        """Give what stands between the time and the message."""
        return f" {THREAD} {self.sites[site].partition(' ')[2]}] "

    def tail(self, site: str, text: str) -> str:
        """Give a line without its time."""
        return f"{self.prefix(site)}{text}\n"

    def use(self, dice: random.Random) -> None:
        """Let it be used more or less than before; above the threshold of one half when it is busy."""
        busy = self.state in {"busy", "starting"}
        if self.resource == "nvidia.com/gpu":
            value = "100" if busy else "0"
        else:
            value = f"{dice.uniform(50.5, 99) if busy else dice.uniform(3, 49):.6g}"
        self.too_big = self.tail(
            "too_big",
            f"Node {self.name} unremovable: {self.resource} requested ({value}% of allocatable) is above the "
            "scale-down utilization threshold",
        )
        self.utilization = self.tail(
            "klogx", f"Node {self.name} - {self.resource} requested is {value}% of allocatable"
        )

    def give_pods(self, dice: random.Random, targets: list[Node]) -> None:
        """Give it pods that could go to other nodes."""
        self.pods = [
            f"{dice.choice(APPS)}-{word(dice, 9)}-{word(dice, 5)}" for _ in range(dice.choice((0, 1, 2, 2, 3, 5)))
        ]
        self.moves = [self.tail("klogx", f"Pod {pod} can be moved to {dice.choice(targets).name}") for pod in self.pods]

    def block(self, dice: random.Random) -> None:
        """Let something keep it from being removed, from now on."""
        self.state = "blocked"
        self.ignored = 0
        if self.broken:
            reason = f"gpu-operator/nvidia-cuda-validator-{word(dice, 5)} is not replicated"
            self.verdict = self.tail("cannot", f"node {self.name} cannot be removed: {reason}")
        elif self.pods and dice.random() < 0.3:
            reason = f"can reschedule only {dice.randrange(len(self.pods))} out of {len(self.pods)} pods"
            self.verdict = self.tail("no_place", f"node {self.name} is not suitable for removal: {reason}")
            self.moves = self.moves[: int(reason.split()[3])]
        else:
            at = dice.randrange(3)
            pod = BLOCKERS[at].format(hash=word(dice, 9), tail=word(dice, 5), digit=dice.randrange(3))
            reason = REASONS[at].format(pod=pod)
            self.verdict = self.tail("cannot", f"node {self.name} cannot be removed: {reason}")
            self.moves = []
        self.blocked = (self.name, "blocked", reason)


def word(dice: random.Random, length: int) -> str:
    """Make a random word of a pod's name."""
    return "".join(dice.choices(LETTERS, k=length))
