"""What keeps a Node alive: its kubelet, its lease, its conditions; and the faults that stop them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from leptonami.lab.conditions import is_ready
from leptonami.lab.fleet.api import Resource
from leptonami.lab.fleet.behaviours import NodeFacts
from leptonami.lab.fleet.cluster import Cluster, Key
from leptonami.lab.fleet.kubelet import Kubelets
from leptonami.lab.fleet.launch import Model
from leptonami.lab.fleet.lifecycle import Lifecycle
from leptonami.lab.fleet.loop import Agenda, Clock
from leptonami.lab.fleet.nodes import Machine, conditions
from leptonami.lab.fleet.recorder import SIMULATED

__all__ = ["Hearts", "Launched", "say"]

LEASES = Resource("coordination.k8s.io", "v1", "leases")
LEASE_NAMESPACE = "kube-node-lease"
LEASES_PER_S = 50.0  # of this machine, of all nodes together; a lease is renewed less often where that is not enough
QUICKEST_S = 1.0  # of this machine, between two renewals
REPORT_S = 60.0  # of this machine, between two reports without news: each is a line of `kubectl get nodes --watch`


@dataclass
class Launched:
    """A machine on its way, or there."""

    machine: Machine
    facts: NodeFacts
    phase: str = "pending"
    why: str = ""
    dead: bool = False
    leased: bool = False
    flapping: bool = False
    reported: float = 0.0


@dataclass
class Hearts:
    """The controller: one heart for each kubelet.

    Attributes
    ----------
    port
        Where the kubelets' logs are served.
    """

    clock: Clock
    model: Model
    cluster: Cluster
    kubelets: Kubelets
    lifecycle: Lifecycle
    port: int = 0
    agenda: Agenda = field(default_factory=Agenda)

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:  # noqa: ARG002 - as any controller
        """Do what is due."""
        return self.agenda.run(now)

    def begin(self, there: Launched) -> None:
        """Start a machine's kubelet, and have its heart beat from now on."""
        root = there.machine.root
        self.kubelets.add(there.facts, there.machine.private_ip, root.images, root.family, root.kubelet)
        there.reported = self.clock.now()
        self.lifecycle.heard(there.facts.name)
        self.after(there, there.facts.rng.random() * self.interval(), lambda: self.beat(there))

    def flap(self, there: Launched) -> None:
        """Have the kubelet stop by and by, if a fault says so: also one that comes when the Node is there already."""
        if not there.flapping and (flapping := there.facts.faults().get("notready-flapping")):
            there.flapping = True
            self.after(there, self.clock.again(flapping["up"]), lambda: self.stop(there, flapping["down"]))

    def ready(self, there: Launched) -> None:
        """Say that a Node is ready."""
        name = there.facts.name
        found = self.cluster.get("nodes", None, name)
        if found is None:
            return
        there.phase = "ready"
        known = conditions(self.clock.stamp(), ready=True, since=found.get("status", {}).get("conditions") or ())
        say(self.cluster, name, "NodeReady", f"Node {name} status is now: NodeReady")
        self.cluster.patch("nodes", None, name, {"status": {"conditions": known}}, "status")

    def interval(self) -> float:
        """Give the simulated seconds between two renewals of a lease."""
        floor = max(QUICKEST_S, len(self.kubelets.hosts) / LEASES_PER_S)
        return self.clock.at_least(self.model.wait("lease"), floor)

    def beat(self, there: Launched) -> None:
        """Renew the lease, and from time to time the conditions; again and again.

        The conditions at once where the cluster takes the Node for not ready: this process had no turn for so long
        that the node controller lost patience, or somebody else has said so.
        """
        name = there.facts.name
        host = self.kubelets.hosts.get(name)
        if host is None or there.facts is not host.facts:
            return
        self.after(there, self.interval(), lambda: self.beat(there))
        if not host.alive:
            return
        self.flap(there)
        self.lifecycle.heard(name)
        self.lease(there)
        now, found = self.clock.now(), self.cluster.get("nodes", None, name)
        if found and there.phase == "ready" and not is_ready(found):
            there.reported = now
            self.ready(there)
        elif found and now - there.reported > self.clock.at_least(self.model.wait("report"), REPORT_S):
            there.reported = now
            ready = there.phase == "ready"
            known = conditions(self.clock.stamp(), ready=ready, since=found["status"].get("conditions") or ())
            self.cluster.patch("nodes", None, name, {"status": {"conditions": known}}, "status")

    def lease(self, there: Launched) -> None:
        """Write the Node's lease: made once, patched after that."""
        name, found = there.facts.name, self.cluster.get("nodes", None, there.facts.name)
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": max(1, round(4 * self.clock.wait(self.interval()))),
            "renewTime": self.clock.micro(),
        }
        if there.leased:
            self.cluster.blind("patch", LEASES, LEASE_NAMESPACE, name, {"spec": spec})
            return
        uid = found["metadata"].get("uid") if found else None
        if uid is None:
            return
        there.leased = True
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
        about = {
            "name": name,
            "namespace": LEASE_NAMESPACE,
            "annotations": {SIMULATED: "true"},
            "ownerReferences": [owner],
        }
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": about, "spec": spec}
        self.cluster.blind("create", LEASES, LEASE_NAMESPACE, name, body)

    def stop(self, there: Launched, down: float) -> None:
        """Stop the kubelet for a while."""
        self.kubelets.suspend(there.facts.name)
        # As long after the node controller has noticed as in reality, though its grace may be longer here.
        silent = self.clock.again(down) + self.lifecycle.grace() - self.model.wait("unreachable")
        self.after(there, silent, lambda: self.restart(there))

    def restart(self, there: Launched) -> None:
        """Start it again: it reports at once."""
        name = there.facts.name
        self.kubelets.resume(name)
        self.lifecycle.heard(name)
        say(self.cluster, name, "Starting", "Starting kubelet.")
        self.ready(there)
        there.flapping = False

    def after(self, there: Launched, seconds: float, action: Callable[[], None]) -> None:
        """Do something later, if the machine is still there then."""
        self.agenda.at(self.clock.now() + seconds, lambda: None if there.dead else action())


def say(cluster: Cluster, name: str, reason: str, message: str, component: str = "kubelet") -> None:
    """Record an event about a Node, which kubelets and controllers name by its name."""
    about = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name}}
    cluster.event(about, "Normal", reason, message, component, host=name if component == "kubelet" else "")
