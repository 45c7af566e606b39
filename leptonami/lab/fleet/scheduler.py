"""The scheduler: each pending pod to the node that suits it best, or the reason why to none.

It works like kube-scheduler's default profile as far as leptonami's clients notice. Differences, all on purpose:

- no preemption: priority only decides who is served first;
- volumes, dynamic resources, image locality, topology spread and preferred pod affinity are not looked at;
- the event FailedScheduling is sent when the reason changes or after five minutes, and not at each attempt.

Pods that ask for the same share one ranking of the nodes, a heap in which only what has changed is weighed again: a pod
costs about the logarithm of the number of nodes, unless it depends on other pods (affinity).
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

from leptonami.lab.fleet.cluster import Cluster, Key, Object
from leptonami.lab.fleet.fitting import Demand, Refusal, Room, refusal, score, tie
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.neighbours import Neighbours
from leptonami.lab.fleet.recorder import mark

__all__ = ["NAME", "Scheduler", "explain"]

NAME = "default-scheduler"
BACKOFF_S, BACKOFF_MAX_S = 1.0, 10.0  # scheduling_queue.go DefaultPod{Initial,Max}BackoffDuration
FLUSH_S = 300.0  # DefaultPodMaxInUnschedulablePodsDuration: after it a pod is tried again though nothing has changed
TURN_S = 0.2  # of this machine: then the other controllers have their turn
LOG = 20_000
ELSEWHERE = Refusal(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), True)


def explain(refusals: list[Refusal]) -> str:
    """Give the message of FailedScheduling, one refusal for each node (framework.FitError)."""
    if not refusals:
        return "no nodes available to schedule pods"
    total = len(refusals)

    def told(counts: Counter[str]) -> str:
        return ", ".join(sorted(f"{many} {reason}" for reason, many in counts.items()))

    why = Counter(reason for each in refusals for reason in each.reasons)
    victims = Counter(
        "Preemption is not helpful for scheduling" if each.final else "No preemption victims found for incoming pod"
        for each in refusals
    )
    head = f"0/{total} nodes are available:"
    return f"{head} {told(why)}. preemption: {head} {told(victims)}."


@dataclass
class Ranking:
    """The nodes that take a demand, best first. An entry that is out of date is weighed anew when it comes up."""

    demand: Demand
    heap: list[tuple[float, int, str, int]] = field(default_factory=list)
    seen: int = 0

    def add(self, room: Room) -> None:
        """Put a node in if it takes the demand."""
        if room.known and refusal(self.demand, room) is None:
            heapq.heappush(self.heap, (-score(self.demand, room), tie(room.name), room.name, room.version))

    def best(self, rooms: dict[str, Room]) -> Generator[Room, None, None]:
        """Give the nodes from the best on. What was given stays in."""
        given = []
        try:
            while self.heap:
                entry = heapq.heappop(self.heap)
                room = rooms.get(entry[2])
                if room is None:
                    continue
                if entry[3] != room.version:
                    self.add(room)
                    continue
                given.append(entry)
                yield room
        finally:
            for entry in given:
                heapq.heappush(self.heap, entry)


@dataclass(slots=True)
class Waiting:
    """A pod without a node."""

    demand: Demand
    order: tuple[int, str, str]
    attempts: int = 0
    retry: float = 0.0
    flush: float = 0.0
    moved: int = -1
    told: str = ""


@dataclass
class Scheduler:
    """The scheduler as a controller of the loop."""

    clock: Clock
    rooms: dict[str, Room] = field(default_factory=dict)
    waiting: dict[Key, Waiting] = field(default_factory=dict)
    _parked: dict[Key, Waiting] = field(default_factory=dict)
    _active: list[tuple[tuple[int, str, str], Key, Waiting]] = field(default_factory=list)
    _placed: dict[Key, tuple[str, str, Demand]] = field(default_factory=dict)
    _demands: dict[tuple[str | None, bytes], Demand] = field(default_factory=dict)
    _rankings: dict[Demand, Ranking] = field(default_factory=dict)
    _freed: list[str] = field(default_factory=list)
    _moved: int = 0

    def __post_init__(self) -> None:
        """Count the neighbours on the same nodes."""
        self.neighbours = Neighbours(self.rooms)

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:
        """Take in the changes, and try the pods that are due."""
        for key in changes:
            if key[0] == "nodes":
                self._node(cluster.get("nodes", None, key[2]), key[2])
            elif key[0] == "pods":
                self._pod(cluster.get(*key), key, now)
        self._wake(now)
        refused: dict[Demand, str] = {}
        end = time.monotonic() + TURN_S
        while self._active:
            if time.monotonic() > end:
                return 0.0
            _, key, waiting = heapq.heappop(self._active)
            if self.waiting.get(key) is waiting:
                self._try(cluster, key, now, refused)
        later = [self._due(pod) for pod in self._parked.values()]
        return max(0.0, min(later) - now) if later else None

    def _wake(self, now: float) -> None:
        """Have the pods tried again that are due: when something has moved since, or after a long time."""
        for key, pod in [(key, pod) for key, pod in self._parked.items() if self._due(pod) <= now]:
            del self._parked[key]
            heapq.heappush(self._active, (pod.order, key, pod))

    def _due(self, pod: Waiting) -> float:
        return pod.retry if pod.moved != self._moved else pod.flush

    # --- what there is ------------------------------------------------------------------------------------------------

    def _node(self, node: Object | None, name: str) -> None:
        room = self.rooms.get(name)
        if node is None:
            if room is None:
                return
            room.known = False
            room.touch()
            if not room.pods:
                del self.rooms[name]
            self.neighbours.forget()
            return
        room = room or self.rooms.setdefault(name, Room(name))
        labels, known = room.labels, room.known
        if room.describe(node):
            if not known or labels != room.labels:
                self.neighbours.forget()
            self._free(name)

    def _free(self, name: str) -> None:
        """Note that a node may take more than before."""
        self._moved += 1
        self._freed.append(name)
        if len(self._freed) > LOG:
            self._freed.clear()
            self._rankings.clear()

    def _pod(self, pod: Object | None, key: Key, now: float) -> None:
        phase = ((pod or {}).get("status") or {}).get("phase")
        node = pod["spec"].get("nodeName") if pod and phase not in {"Succeeded", "Failed"} else None
        uid = pod["metadata"].get("uid") if pod else None
        placed, pause = self._placed.get(key), 0.0
        if placed and placed[:2] != (uid, node):
            self._leave(key)
            if placed[0] == uid:  # the server did not take the binding: not at once again
                pause = self.clock.again(BACKOFF_S)
            placed = None
        if pod is None or node or phase in {"Succeeded", "Failed"}:
            self._drop(key)
        if pod is not None and uid and node and not placed:
            self._enter(pod, key, node, self._demand(pod))
        elif pod is not None and uid and not node and phase not in {"Succeeded", "Failed"}:
            self._wait(pod, key, now, pause)

    def _wait(self, pod: Object, key: Key, now: float, pause: float) -> None:
        about, spec = pod["metadata"], pod["spec"]
        mine = (spec.get("schedulerName") or NAME) == NAME
        if not mine or about.get("deletionTimestamp") or spec.get("schedulingGates"):
            self._drop(key)
        elif (known := self.waiting.get(key)) is None or known.order[2] != about["uid"]:
            order = (-int(spec.get("priority") or 0), str(about.get("creationTimestamp") or ""), about["uid"])
            self.waiting[key] = self._parked[key] = Waiting(self._demand(pod), order, retry=now + pause)

    def _drop(self, key: Key) -> None:
        self.waiting.pop(key, None)
        self._parked.pop(key, None)

    def _demand(self, pod: Object) -> Demand:
        key = Demand.key(pod)
        if (found := self._demands.get(key)) is None:
            if len(self._demands) > LOG:
                self._demands.clear()
                self._rankings.clear()
            found = self._demands[key] = Demand.of(pod)
        return found

    def _enter(self, pod: Object, key: Key, node: str, demand: Demand) -> None:
        self._placed[key] = (pod["metadata"]["uid"], node, demand)
        self.rooms.setdefault(node, Room(node)).take(demand)
        self.neighbours.add(pod, node)

    def _leave(self, key: Key) -> None:
        uid, node, demand = self._placed.pop(key)
        room = self.rooms[node]
        room.take(demand, -1)
        self.neighbours.remove(uid)
        self._free(node)
        if not room.known and not room.pods:
            del self.rooms[node]

    # --- what is done about it ----------------------------------------------------------------------------------------

    def _try(self, cluster: Cluster, key: Key, now: float, refused: dict[Demand, str]) -> None:
        waiting, pod = self.waiting[key], cluster.get(*key)
        if pod is None:
            return
        demand = waiting.demand
        alone = self.neighbours.free_for_all(demand)
        message = refused.get(demand, "") if alone else ""
        if not message:
            room = self._pick(pod, demand, alone)
            if room is not None:
                del self.waiting[key]
                self._enter(pod, key, room.name, demand)
                # The event first, here and elsewhere: who sees what is done, and waits for all events, has it.
                text = f"Successfully assigned {key[1]}/{key[2]} to {room.name}"
                cluster.event(pod, "Normal", "Scheduled", text, NAME)
                cluster.bind(pod, room.name)
                return
            message = explain([self._why(pod, demand, each) for each in self.rooms.values() if each.known])
            if alone:
                refused[demand] = message
        waiting.attempts += 1
        pause = min(BACKOFF_S * 2 ** min(waiting.attempts - 1, 10), BACKOFF_MAX_S)
        waiting.retry = now + self.clock.again(pause)
        flushed, waiting.flush = waiting.flush <= now, now + self.clock.again(FLUSH_S)
        waiting.moved = self._moved
        self._parked[key] = waiting
        if message != waiting.told or flushed:
            waiting.told = message
            self._tell(cluster, pod, message)

    def _pick(self, pod: Object, demand: Demand, alone: bool) -> Room | None:
        if demand.pinned is not None:
            only = self.rooms.get(demand.pinned)
            if only is None or not only.known or refusal(demand, only):
                return None
            return only if alone or not self.neighbours.refusal(pod, only) else None
        ranking = self._rankings.get(demand)
        if ranking is None:
            ranking = self._rankings[demand] = Ranking(demand)
            for room in self.rooms.values():
                ranking.add(room)
        else:
            for name in set(self._freed[ranking.seen :]):
                if name in self.rooms:
                    ranking.add(self.rooms[name])
        ranking.seen = len(self._freed)
        nodes = ranking.best(self.rooms)
        found = next((room for room in nodes if alone or not self.neighbours.refusal(pod, room)), None)
        nodes.close()
        return found

    def _why(self, pod: Object, demand: Demand, room: Room) -> Refusal:
        if demand.pinned not in (None, room.name):
            return ELSEWHERE
        found = refusal(demand, room) or self.neighbours.refusal(pod, room)
        return found or Refusal(("node(s) changed meanwhile",), False)

    def _tell(self, cluster: Cluster, pod: Object, message: str) -> None:
        about, old = pod["metadata"], (pod.get("status") or {}).get("conditions") or []
        scheduled = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": self.clock.stamp(),
        }
        for each in old:
            if each["type"] == "PodScheduled" and each["status"] == "False":
                scheduled["lastTransitionTime"] = each.get("lastTransitionTime") or scheduled["lastTransitionTime"]
        others = [each for each in old if each["type"] != "PodScheduled"]
        body = {"status": {"conditions": [*others, scheduled]}, **mark(pod)}
        cluster.event(pod, "Warning", "FailedScheduling", message, NAME)
        cluster.patch("pods", about["namespace"], about["name"], body, "status")
