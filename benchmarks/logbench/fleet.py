"""The fleet over time: nodes become idle, busy, blocked or well again; new ones come, removed ones go."""

from __future__ import annotations

import random

from logbench.node import GROUPS, Group, Names, Node
from logbench.templates import Sites

__all__ = ["UNNEEDED", "Fleet"]

UNNEEDED = 60  # loops after which a node that is not needed may be removed
NOT_STARTED = 90  # loops in which a node without allocatable GPU counts as starting
BROKEN = 0.12  # of GPU nodes


class Fleet:
    """Nodes, loop by loop.

    Parameters
    ----------
    nodes
        How many there are when it is complete.

    Attributes
    ----------
    nodes
        Those that there are, in the order in which the autoscaler looks at them.
    system
        Those of groups at their minimum.
    wanted
        How many nodes each group has when it is complete.
    coming
        Those that were added in the loop before.
    """

    def __init__(self, nodes: int, dice: random.Random, sites: Sites) -> None:
        self.dice = dice
        self.sites = sites
        self.names = Names(nodes)
        self.nodes: list[Node] = []
        self.system: list[Node] = []
        self.coming: list[Node] = []
        self.wanted: dict[str, int] = {}
        self.loop = 0
        self.fill(nodes)

    def fill(self, nodes: int) -> None:
        """Make the fleet as it is when the log begins."""
        for group in GROUPS:
            count = max(1, round(nodes * group.share))
            self.wanted[group.name] = count
            for _ in range(count):
                node = self.make(group)
                node.skip_at(count)
                node.change = self.after(group.idle)
                if node.broken:
                    node.change = self.dice.randrange(1, NOT_STARTED)
        self.system = [node for node in self.nodes if node.group.at_minimum]
        self.dice.shuffle(self.nodes)

    def make(self, group: Group) -> Node:
        """Add a node to the fleet."""
        broken = group.gpu and self.dice.random() < BROKEN
        node = Node(self.names.take(), group, self.dice, self.sites, broken=broken)
        if broken:
            node.state = "starting"
        self.nodes.append(node)
        return node

    def after(self, chance: float) -> int:
        """Draw the loop in which something happens that is so likely per loop."""
        return self.loop + 1 + int(self.dice.expovariate(chance)) if chance else 1 << 60

    def count(self, group: Group) -> int:
        """Count a group's nodes."""
        return sum(node.group is group for node in self.nodes)

    def advance(self) -> None:
        """Let nodes become idle, busy, blocked or well, and new ones come up."""
        dice = self.dice
        for node in self.coming:
            node.change = self.after(node.group.idle) if not node.broken else self.loop + NOT_STARTED
        self.coming = []
        for node in self.nodes:
            if self.loop < node.change:
                continue
            if node.state == "starting":
                # Not started for 15 minutes, then unready; the validator pod waits for hours.
                node.resource = "nvidia.com/gpu"
                node.block(dice)
                node.use(dice)
                node.change = self.loop + dice.randrange(720, 2880)
            elif node.state == "blocked":
                node.broken = False
                node.verdict = node.may
                self.become(node, "idle" if dice.random() < 0.5 else "busy")
            elif node.state == "idle":
                self.become(node, "busy")
            else:
                self.become(node, "idle")

    def become(self, node: Node, state: str) -> None:
        """Change a node's state, and draw when it changes next."""
        dice = self.dice
        node.state = state
        node.ignored = 0
        node.use(dice)
        if state == "busy":
            node.marked = False
            node.change = self.after(node.group.idle)
            return
        node.since = self.loop
        node.verdict = node.may
        if node.group.gpu and dice.random() < 0.6:
            node.pods, node.moves = [], []
        else:
            node.give_pods(dice, self.system)
        if not node.group.gpu and dice.random() < 0.15:
            node.block(dice)
            node.change = self.loop + dice.randrange(60, 1440)
        else:
            # Half of them are used again before their time is over.
            node.change = self.loop + dice.randrange(5, 2 * UNNEEDED) if dice.random() < 0.6 else 1 << 60
