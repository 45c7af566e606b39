"""Makes a cluster-autoscaler log of any size, and the right answers about it.

Every loop has the structure of the recorded ones (`data/recorded/autoscaler`): health, pods, eligibility, simulation,
timers, gate, removal. Timers are the autoscaler's defaults (a loop each 10 s, unneeded for 10 minutes, removal held
back for 10 minutes after a scale-up, another look at an unremovable node after 5 minutes); so are its quotas (20 lines
about utilization a loop). What is said is counted here as it is written, without leptonami's readers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from logbench.fleet import UNNEEDED, Fleet
from logbench.node import GROUPS, REGION, THREAD, Group, Node
from logbench.templates import VERSION, Noise, Sites, noise, recorded, sites
from logbench.writer import Page, Writer, go_duration, go_time

__all__ = ["Generator"]

LOOP = 10.0  # seconds
COOLDOWN = 60  # loops
RECHECK = 30
UTILIZATION_QUOTA = 20
MOST_EMPTY = 10


class Generator:
    """Writes a log loop by loop.

    Parameters
    ----------
    nodes
        How many nodes the fleet has when it is complete.
    seed
        The same seed makes the same log.
    start
        The time of its first line, UTC.
    """

    def __init__(self, *, nodes: int, seed: int, start: datetime) -> None:
        # A log for a benchmark, not a secret.
        self.dice = random.Random(seed)
        lines = recorded()
        self.sites: Sites = sites(lines)
        self.noise: Noise = noise(lines)
        self.start = start.replace(tzinfo=UTC)
        self.writer = Writer(self.dice, self.sites)
        self.loops_at: list[tuple[str, int]] = []
        self.last_up_ns = self.last_delete_ns = -360 * 1_000_000_000
        self.last_up_loop = -COOLDOWN
        self.next_up = self.dice.randrange(60, 120)
        self.fleet = Fleet(nodes, self.dice, self.sites)
        self.scale_ups = 0
        self.removed = Counter({"empty": 0, "with_pods": 0})
        self.later: list[tuple[float, Page]] = []

    # -- one loop ------------------------------------------------------------------------------------------------------

    def write_loop(self) -> bytes:
        """Give the lines of one loop and of the pause after it."""
        self.fleet.advance()
        when = self.start + timedelta(seconds=self.fleet.loop * LOOP * 1.0007 + self.dice.uniform(0, 0.004))
        nanoseconds = int((when - self.start).total_seconds() * 1e6) * 1000 + self.dice.randrange(1000)
        page = Page()
        self.later = []
        self.loops_at.append((go_time(when, nanoseconds), nanoseconds))
        self.say(page, "loop", "Starting main loop", "loop")
        self.health(page)
        if self.pods(page, nanoseconds):
            self.scale_down(page, when, nanoseconds)
        self.fleet.loop += 1
        return self.writer.write(when, page) + self.pause(when)

    def say(self, page: Page, site: str, text: str, kind: str = "other") -> None:
        """Add a line."""
        self.writer.say(page, site, text, kind)

    def event(self, page: Page, kind: str, reason: str, text: str, **words: str) -> None:
        """Add the line about an event."""
        self.writer.event(page, kind, reason, text, version=1000 + 7 * self.fleet.loop, **words)

    def health(self, page: Page) -> None:
        """Say which nodes have a GPU that is not ready."""
        unready = [node.override for node in self.fleet.nodes if node.broken]
        page.tails += unready
        self.writer.counts["gpu-unready-override"] += len(unready)
        if any(node.marked for node in self.fleet.nodes):
            self.say(page, "soft_template", "Removing autoscaler soft taint when creating template from node")

    def pods(self, page: Page, nanoseconds: int) -> bool:
        """Deal with pending pods; tell whether the loop goes on to scale down."""
        dice = self.dice
        self.say(page, "filter", "Filtering out schedulables")
        missing = [group for group in GROUPS if self.fleet.count(group) < self.fleet.wanted[group.name]]
        due = self.fleet.loop >= self.next_up and bool(missing)
        group = dice.choice(missing) if due else None
        short = self.fleet.wanted[group.name] - self.fleet.count(group) if group else 0
        pods = [f"default/trainer-{dice.getrandbits(40):010x}" for _ in range(min(20, 2 * short))]
        for pod in pods:
            self.say(
                page,
                "klogx",
                f"failed to find place for {pod}: cannot put pod {pod.partition('/')[2]} on any node",
                "pod-has-no-place",
            )
        self.say(page, "schedulable", "0 pods marked as unschedulable can be scheduled.")
        self.say(page, "none_schedulable", "No schedulable pods")
        self.say(page, "daemons", "Filtering out daemon set pods")
        self.say(page, "left", f"Filtered out 0 daemon set pods, {len(pods)} unschedulable pods left")
        if group is None:
            self.say(page, "no_pods", "No unschedulable pods")
            return True
        self.scale_up(page, group, pods, short)
        self.last_up_ns = nanoseconds
        self.last_up_loop = self.fleet.loop
        # Several groups grow in consecutive loops, then there is peace for a while.
        self.next_up = self.fleet.loop + (1 if len(missing) > 1 else dice.randrange(180, 300))
        return False

    def scale_up(self, page: Page, group: Group, pods: list[str], short: int) -> None:
        """Let a group grow back to its size."""
        now, most = self.fleet.count(group), 2 * self.fleet.wanted[group.name]
        plan = f"{group.name} {now}->{now + short} (max: {most})"
        for pod in pods:
            self.say(page, "klogx", f"Pod {pod} is unschedulable", "pod-unschedulable")
        self.say(page, "upcoming", "Upcoming 0 nodes", "upcoming-nodes")
        self.say(
            page,
            "does_not_fit",
            f"Pod {pods[0]} can't be scheduled on system, predicate checking error: Insufficient cpu; "
            "predicateName=NodeResourcesFit; reasons: Insufficient cpu; debugInfo=",
            "pod-does-not-fit",
        )
        self.say(
            page,
            "similar",
            f"{len(pods) - 1} other pods similar to {pods[0].partition('/')[2]} can't be scheduled on system",
        )
        self.say(page, "best", f"Best option to resize: {group.name}", "best-option")
        self.say(page, "estimated", f"Estimated {short} nodes needed in {group.name}", "estimated")
        self.say(page, "plan", f"Final scale-up plan: [{{{plan}}}]", "scale-up-plan")
        self.say(page, "set_size", f"Scale-up: setting group {group.name} size to {now + short}", "set-size")
        text = f"Scale-up: setting group {group.name} size to {now + short} instead of {now} (max: {most})"
        self.event(page, "ConfigMap", "ScaledUpGroup", text)
        self.say(
            page,
            "skipping_events",
            "Skipping event processing for unschedulable pods since there is a ScaleUp attempt this loop",
        )
        for pod in pods:
            self.event(page, "Pod", "TriggeredScaleUp", f"pod triggered scale-up: [{{{plan}}}]", name=pod)
        self.scale_ups += 1
        self.fleet.coming = [self.fleet.make(group) for _ in range(short)]
        done = f"Scale up in group {group.name} finished successfully in 9.{self.dice.randrange(10**9):09d}s"
        self.later.append((9.9, Page([self.writer.tail("up_done", done, "scale-up-done")])))

    def scale_down(self, page: Page, when: datetime, nanoseconds: int) -> None:
        """Look for nodes that are not needed, and remove those that have not been for long enough."""
        counts = self.writer.counts
        self.say(page, "unneeded", "Calculating unneeded nodes")
        for node in self.fleet.system:
            page.decide(node.skipped, node.skip)
        counts["skipped-min-size"] += len(self.fleet.system)
        candidates = self.eligible(page)
        idle = self.simulate(page, candidates, when, nanoseconds)
        durations = {}
        for node in idle:
            if node.since not in durations:
                since, at = self.loops_at[node.since]
                durations[node.since] = (f"{since} duration ", go_duration(nanoseconds - at) + "\n")
            since, duration = durations[node.since]
            page.decide(node.unneeded, f"{node.since_start}{since}{duration}")
        counts["unneeded-since"] += len(idle)
        cooling = self.fleet.loop - self.last_up_loop < COOLDOWN
        up, delete, never = (
            go_time(self.start + timedelta(microseconds=each // 1000), each)
            for each in (self.last_up_ns, self.last_delete_ns, -3_600_000_000_000)
        )
        self.say(
            page,
            "status",
            f"Scale down status: lastScaleUpTime={up} lastScaleDownDeleteTime={delete} lastScaleDownFailTime={never} "
            f"scaleDownForbidden=false scaleDownInCooldown={str(cooling).lower()}",
            "scale-down-status",
        )
        if not cooling:
            self.say(page, "start", "Starting scale down", "scale-down-start")
            for node in idle:
                page.decide(node.unneeded, f"{node.was_start}{durations[node.since][1]}")
            counts["was-unneeded"] += len(idle)
            self.remove(page, [node for node in idle if self.fleet.loop - node.since > UNNEEDED], nanoseconds)
        soft = [node for node in idle if not node.marked][:10]
        for node in soft:
            node.marked = True
            self.say(
                page,
                "soft",
                f"Successfully added DeletionCandidateOfClusterAutoscaler on node {node.name}",
                "soft-tainted",
            )

    def eligible(self, page: Page) -> list[Node]:
        """Say which nodes are used too much; give those that could go."""
        dice, counts, loop = self.dice, self.writer.counts, self.fleet.loop
        candidates, before = [], len(page.tails)
        quota, ignored, unready = UTILIZATION_QUOTA, 0, 0
        for node in self.fleet.nodes:
            if node.group.at_minimum or node.state == "starting":
                continue
            if node.state == "busy":
                page.decide(node.needed, node.too_big)
                continue
            if loop < node.ignored:
                ignored += 1
                continue
            if node.broken:
                unready += 1
                page.tails.append(node.gpu_unready)
            if quota > 0:
                page.tails.append(node.utilization)
            quota -= 1
            candidates.append(node)
        counts["utilization-too-big"] += len(page.tails) - before - unready - min(len(candidates), UTILIZATION_QUOTA)
        counts["gpu-unready"] += unready
        counts["utilization"] += min(len(candidates), UTILIZATION_QUOTA)
        if quota < 0:
            self.say(page, "klogx", f"Skipped logging utilization for {-quota} other nodes", "utilization-not-logged")
        if ignored:
            self.say(
                page,
                "ignoring",
                f"Scale-down calculation: ignoring {ignored} nodes unremovable in the last 5m0s",
                "skipped-recently-unremovable",
            )
        # Pods come and go on busy nodes: a few report another value.
        for node in dice.sample(self.fleet.nodes, max(1, len(self.fleet.nodes) // 60)):
            if node.state == "busy":
                node.use(dice)
        return candidates

    def simulate(
        self,
        page: Page,
        candidates: list[Node],
        when: datetime,
        nanoseconds: int,
    ) -> list[Node]:
        """Say what a simulated removal comes to; give the nodes that are not needed."""
        counts, idle, blocked, moves = self.writer.counts, [], 0, 0
        for node in candidates:
            page.tails.append(node.simulate)
            if node.moves:
                page.tails += node.moves
                moves += len(node.moves)
            if node.state == "idle":
                idle.append(node)
                page.decide(node.unneeded, node.verdict)
            else:
                blocked += 1
                node.ignored = self.fleet.loop + RECHECK
                page.decide(node.blocked, node.verdict)
                kind = "no-place-for-pods" if "only" in node.blocked[2] else "cannot-be-removed"
                counts[kind] += 1
        counts["simulating"] += len(candidates)
        counts["pod-movable"] += moves
        counts["may-be-removed"] += len(idle)
        if blocked:
            at = go_time(when + timedelta(minutes=5), nanoseconds + 300_000_000_000)
            text = f"{blocked} nodes found to be unremovable in simulation, will re-check them at {at}"
            self.say(page, "recheck", text, "unremovable-recheck")
        return idle

    def remove(self, page: Page, ready: list[Node], nanoseconds: int) -> None:
        """Remove empty nodes, and one that has pods."""
        going = [node for node in ready if not node.pods][:MOST_EMPTY]
        going += [node for node in ready if node.pods][:1]
        if not going:
            return
        for node in going:
            self.say(page, "klogx", f"Considering node {node.name} for standard scale down")
        for node in going:
            self.say(page, "taint", f"Successfully added ToBeDeletedByClusterAutoscaler on node {node.name}", "tainted")
            self.event(page, "Node", "ScaleDown", "marked the node as toBeDeleted/unschedulable", name=node.name)
        later = Page()
        for node in going:
            self.removed["with_pods" if node.pods else "empty"] += 1
            reason = "ScaleDown" if node.pods else "ScaleDownEmpty"
            if node.pods:
                pods = ",".join(pod.partition("/")[2] for pod in node.pods)
                use = "{0.12 0.07 0 cpu 0.12}" if not node.group.gpu else "{0 0 0 nvidia.com/gpu 0}"
                text = f"Scale-down: removing node {node.name}, utilization: {use}, pods to reschedule: {pods}"
                page.decide(node.removing, self.writer.tail("removing", text, "removing"))
            else:
                text = f'Scale-down: removing empty node "{node.name}"'
                page.decide(node.removing, self.writer.tail("removing_empty", text, "removing-empty"))
            self.event(page, "ConfigMap", reason, text)
            later.decide(node.removed, self.writer.tail("drained", f"All pods removed from {node.name}", "drained"))
            done = f"empty node {node.name} removed" if not node.pods else f"node {node.name} removed with drain"
            self.event(later, "ConfigMap", reason, f"Scale-down: {done}")
            self.fleet.names.free.append(node.name)
        self.say(page, "waiting", "Scale-down: waiting 5s before trying to delete nodes", "waiting-before-delete")
        self.later.append((5.0, later))
        self.last_delete_ns = nanoseconds
        leaving = set(map(id, going))
        self.fleet.nodes = [node for node in self.fleet.nodes if id(node) not in leaving]

    def pause(self, when: datetime) -> bytes:
        """Give what is written before the next loop: deletions that end, watches that close."""
        dice = self.dice
        often = self.noise.per_loop
        for _ in range(int(often) + (dice.random() < often % 1)):
            severity, site, text = dice.choice(self.noise.lines)
            self.writer.counts["other"] += 1
            self.later.append((dice.uniform(1, 9.8), Page([f" {THREAD} {site}] {text}\n"], severity=severity)))
        if self.removed.total() and dice.random() < 0.06:
            # An instance that the autoscaler deleted and the cloud still lists.
            node = f"aws:///{REGION}a/{self.fleet.names.free[-1]}"
            warnings = [
                self.writer.tail("nil_group", f"Nodegroup is nil for {node}", "other"),
                self.writer.tail("no_group", f"No node group for node {node}, skipping", "other"),
            ]
            self.later.append((9.95, Page(warnings, severity="W")))
        written = b""
        for seconds, page in sorted(self.later, key=lambda each: each[0]):
            written += self.writer.write(when + timedelta(seconds=seconds), page)
        return written

    # -- the whole log -------------------------------------------------------------------------------------------------

    def write(self, size: int, sink: Callable[[bytes], Any]) -> None:
        """Write loops until so many bytes have been written."""
        first = Page([self.writer.tail("version", f"Cluster Autoscaler {VERSION}", "other")])
        sink(self.writer.write(self.start - timedelta(seconds=10), first))
        while self.writer.bytes < size:
            sink(self.write_loop())

    def truth(self) -> dict[str, Any]:
        """Give the right answers about what was written."""
        reasons = Counter(decision[2] for decision, _ in self.writer.decisions.values() if decision[1] == "blocked")
        return {
            "bytes": self.writer.bytes,
            "lines": self.writer.lines,
            "loops": self.fleet.loop,
            "scale_ups": self.scale_ups,
            "removed": dict(self.removed),
            "blocked": dict(reasons),
            "severities": {name: count for name, count in sorted(self.writer.severities.items()) if count},
            "kinds": {name: count for name, count in sorted(self.writer.counts.items()) if count},
            "nodes": {
                name: [decision[1], decision[2], line[1:21]]
                for name, (decision, line) in sorted(self.writer.decisions.items())
            },
        }
