"""The kubelets of all nodes: which pods run where, on one agenda; `podworker` has what happens to each pod."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from leptonami.lab.fleet.behaviours import Behaviours, NodeFacts
from leptonami.lab.fleet.cluster import Cluster, Key
from leptonami.lab.fleet.images import Image, Store
from leptonami.lab.fleet.launch import Model
from leptonami.lab.fleet.loop import Agenda, Clock
from leptonami.lab.fleet.podstatus import Log
from leptonami.lab.fleet.podworker import Worker
from leptonami.lab.fleet.pulling import Puller
from leptonami.lab.fleet.wording import minor_of

__all__ = ["Host", "Kubelets"]

ENDED = {"Succeeded", "Failed"}
POD_NETWORK = 100 << 24 | 64 << 16  # 100.64.0.0/10, the usual secondary range of EKS pods


@dataclass
class Host:
    """A node whose kubelet this is.

    Attributes
    ----------
    alive
        Whether the kubelet runs. What falls due meanwhile is done when it is back.
    """

    facts: NodeFacts
    ip: str
    minor: int
    store: Store
    puller: Puller
    rng: random.Random
    alive: bool = True
    read: set[Image] = field(default_factory=set)
    held: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Give the Node's name."""
        return self.facts.name


@dataclass
class Kubelets:
    """The controller of all kubelets' pods."""

    clock: Clock
    model: Model
    behaviours: Behaviours
    cluster: Cluster
    seed: int | None = None
    hosts: dict[str, Host] = field(default_factory=dict)
    pods: dict[tuple[str, str], Worker] = field(default_factory=dict)
    agenda: Agenda = field(default_factory=Agenda)
    _dirty: dict[Worker, None] = field(default_factory=dict)
    _listed: set[str] = field(default_factory=set)
    _address: int = POD_NETWORK

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:  # noqa: ARG002 - as any controller
        """Take up pods, do what is due, and report what has changed."""
        # By way of the agenda: a pod that cannot be dealt with is tried again, and the others do not wait for it.
        for plural, namespace, name in changes:
            if plural == "pods":
                self.agenda.at(0.0, partial(self.look, namespace, name))
        try:
            return self.agenda.run(now)
        finally:
            self.report()

    def report(self) -> None:
        """Write what has changed about pods and nodes."""
        dirty, self._dirty = self._dirty, {}
        for worker in dirty:
            worker.report()
        listed, self._listed = self._listed, set()
        for node in listed & self.hosts.keys():
            images = {"status": {"images": self.hosts[node].store.listed()}}
            self.cluster.patch("nodes", None, node, images, "status")

    # --- nodes --------------------------------------------------------------------------------------------------------

    def add(self, facts: NodeFacts, ip: str, images: Iterable[Image], family: str, version: str) -> Host:
        """Start a kubelet."""
        puller = Puller(self.agenda, self.model.serial(family))
        host = Host(facts, ip, minor_of(version), Store(tuple(images)), puller, facts.rng)
        self.hosts[facts.name] = host
        self.look_at(host)
        return host

    def look_at(self, host: Host) -> None:
        """Take up all pods of a node."""
        for pod in self.cluster.by_node(host.name):
            self.look(pod["metadata"]["namespace"], pod["metadata"]["name"])

    def suspend(self, name: str) -> None:
        """Stop a kubelet. Its containers go on; nobody hears of them."""
        self.hosts[name].alive = False

    def resume(self, name: str) -> None:
        """Start it again."""
        host = self.hosts[name]
        host.alive = True
        held, host.held = host.held, []
        for action in held:
            action()
        self.look_at(host)

    def remove(self, name: str) -> None:
        """Forget a machine that is gone, and all that ran on it."""
        host = self.hosts.pop(name, None)
        if host is None:
            return
        host.puller.forget()
        for key in [key for key, worker in self.pods.items() if worker.host is host]:
            self.pods.pop(key).dead = True

    # --- pods ---------------------------------------------------------------------------------------------------------

    def look(self, namespace: str, name: str) -> None:
        """Look at a pod that has changed."""
        pod = self.cluster.get("pods", namespace, name)
        worker = self.pods.get((namespace, name))
        uid = pod["metadata"].get("uid") if pod else None
        if worker is not None and (pod is None or worker.uid != uid):
            self.pods.pop((namespace, name)).dead = True
            worker = None
        if pod is None or uid is None:
            return
        host = self.hosts.get(pod["spec"].get("nodeName") or "")
        if host is None or not host.alive:
            return
        if worker is None:
            if pod.get("status", {}).get("phase") in ENDED:
                if "deletionTimestamp" in pod["metadata"]:
                    self.cluster.delete("pods", namespace, name, 0)
                return
            worker = Worker(self, host, pod)
            worker.begin()
            self.pods[namespace, name] = worker
        worker.changed(pod)

    def dirty(self, worker: Worker) -> None:
        """Note that a pod's status is to be reported."""
        self._dirty[worker] = None

    def images_changed(self, host: Host) -> None:
        """Note that a node's list of images is to be reported."""
        self._listed.add(host.name)

    def address(self) -> str:
        """Give a pod its address."""
        self._address += 1
        return ".".join(str(self._address >> shift & 255) for shift in (24, 16, 8, 0))

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> Log | str:
        """Give a container's log; in its place, the kubelet's words if there is none. Any thread may ask."""
        worker = self.pods.get((namespace, pod))
        if worker is None:
            return f'pod "{pod}" not found'
        box = next((box for box in worker.boxes if box.name == container), None)
        if box is None:
            return f'container "{container}" in pod "{pod}" is not available'
        if previous:
            return box.previous or f'previous terminated container "{container}" in pod "{pod}" not found'
        if box.log is not None:
            return box.log
        reason = box.state.get("waiting", {}).get("reason", "")
        if "Image" in reason and reason != "ContainerCreating":
            return f'container "{container}" in pod "{pod}" is waiting to start: trying and failing to pull image'
        return f'container "{container}" in pod "{pod}" is waiting to start: {reason}'
