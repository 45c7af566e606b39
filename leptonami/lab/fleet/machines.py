"""From instance to Node and away again: the controller of launches.

Pending, running, boot, bootstrap, registered, ready: each phase is put on the agenda when the one before it is over. A
machine whose user data does not join it to this cluster gets no Node, as in reality; `GET /machines` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonami.lab.fleet.behaviours import NodeFacts
from leptonami.lab.fleet.cluster import Cluster, Key, Object
from leptonami.lab.fleet.faults import of_group
from leptonami.lab.fleet.heartbeats import Hearts, Launched, say
from leptonami.lab.fleet.images import Root, Store
from leptonami.lab.fleet.instances import Instances, Sight
from leptonami.lab.fleet.kubelet import Kubelets
from leptonami.lab.fleet.launch import Model, luck
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.nodes import UNINITIALISED, Machine, cloud_labels, group_labels, node
from leptonami.lab.fleet.userdata import Join, read

__all__ = ["Machines"]

GLANCE_S = 0.1  # of this machine: how often to see whether AWS was asked again


@dataclass
class Machines:
    """The controller."""

    clock: Clock
    model: Model
    cluster: Cluster
    kubelets: Kubelets
    hearts: Hearts
    name: str
    instances: Instances | None = None
    seed: int | None = None
    launched: dict[str, Launched] = field(default_factory=dict)
    sight: Sight | None = None

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:  # noqa: ARG002 - as any controller
        """Take in what AWS says, and do what is due."""
        if self.instances and self.instances.sight is not self.sight:
            self.sight = self.instances.sight
            self.look(self.sight.machines if self.sight else {})
        left = self.hearts.agenda.run(now)
        if self.instances is None:
            return left
        glance = self.clock.at_least(0, GLANCE_S)
        return glance if left is None else min(left, glance)

    def faults(self, group: str) -> Mapping[str, Mapping[str, Any]]:
        """Give what is to go wrong in a node group."""
        return of_group(self.sight.faults, group) if self.sight else {}

    def report(self) -> list[dict[str, str]]:
        """Tell how far each machine is. Any thread may ask."""
        return [
            {
                "instance": name,
                "group": each.machine.group,
                "node": each.facts.name,
                "phase": each.phase,
                "why": each.why,
            }
            for name, each in list(self.launched.items())
        ]

    # --- instances ----------------------------------------------------------------------------------------------------

    def look(self, machines: Mapping[str, Machine]) -> None:
        """Compare what AWS has with what is known."""
        for name in [name for name in self.launched if name not in machines]:
            self.gone(self.launched.pop(name))
        for name, machine in machines.items():
            there = self.launched.get(name)
            if there is None:
                there = self.launched[name] = Launched(
                    machine, self.facts(machine.private_dns, machine.group, machine.root)
                )
            if machine.state == "running" and there.phase == "pending":
                there.machine, there.facts.root = machine, machine.root
                self.boot(there)

    def facts(self, name: str, group: str, root: Root) -> NodeFacts:
        """Give a node's facts."""
        return NodeFacts(
            name=name,
            group=group,
            root=root,
            object=lambda: self.cluster.get("nodes", None, name),
            faults=lambda: self.faults(group),
            rng=luck(self.seed, name),
        )

    def boot(self, there: Launched) -> None:
        """Boot a machine that runs, as far as EC2 can tell; then its user data is run."""
        machine, known = there.machine, self.cluster.get("nodes", None, there.facts.name)
        if known and known.get("spec", {}).get("providerID", "").endswith(f"/{machine.id}"):
            there.phase = "ready"  # this fleet is new, the node is not
            self.hearts.begin(there)
            return
        there.phase = "booting"
        self.hearts.after(there, self.draw("boot", there), lambda: self.bootstrap(there))

    def bootstrap(self, there: Launched) -> None:
        """Run the user data."""
        machine, there.phase = there.machine, "bootstrapping"
        if not machine.managed or machine.own_image:
            endpoint = self.sight.endpoint if self.sight else ""
            joins = read(machine.root.user_data, machine.root.family, self.name, endpoint)
        else:
            # EKS wrote the user data, and it always joins: what it has beside the group's labels is taken from it.
            told = read(machine.root.user_data, machine.root.family, self.name).labels
            joins = Join(labels={**told, **group_labels(machine)}, taints=machine.taints)
        there.why = joins.why_not or self.broken(there)
        if there.why:
            there.phase = "never joins"
            return
        wait = self.draw("bootstrap", there) + self.draw("register", there)
        self.hearts.after(there, wait, lambda: self.register(there, joins))

    def broken(self, there: Launched) -> str:
        """Say which fault keeps the machine from joining; "" if none does."""
        faults, root = self.faults(there.machine.group), there.machine.root
        if "never-joins" in faults:
            return "a fault: never-joins"
        race = faults.get("snap-refresh-race")
        if race and root.family == "ubuntu" and not root.snap_hold and there.facts.rng.random() < race["probability"]:
            return 'error: snap "kubelet-eks" has "auto-refresh" change in progress'
        return ""

    def register(self, there: Launched, joins: Join) -> None:
        """Have the kubelet make its Node; the cloud controller and the network do the rest."""
        machine, now = there.machine, self.clock.stamp()
        there.phase = "registered"
        made = node(
            machine,
            labels=joins.labels,
            taints=joins.taints,
            max_pods=joins.max_pods or machine.max_pods,
            port=self.hearts.port,
            images=[],
            now=now,
            mark=f"speed={self.clock.speed:g}",
        )
        made["status"]["images"] = Store(machine.root.images).listed()
        self.cluster.create("nodes", made)
        self.hearts.begin(there)
        name = there.facts.name
        say(self.cluster, name, "Starting", "Starting kubelet.")
        for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"):
            say(self.cluster, name, reason, f"Node {name} status is now: {reason}")
        say(self.cluster, name, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
        say(
            self.cluster,
            name,
            "RegisteredNode",
            f"Node {name} event: Registered Node {name} in Controller",
            "node-controller",
        )
        self.hearts.after(there, self.draw("initialise", there), lambda: self.initialise(there))
        self.hearts.after(there, self.draw("ready", there), lambda: self.hearts.ready(there))
        if machine.managed and machine.own_image:
            self.hearts.after(there, self.draw("eks-labels", there), lambda: self.label(there))

    def initialise(self, there: Launched) -> None:
        """Label the Node, as the cloud controller does, and take its taint off."""
        name, labels = there.facts.name, cloud_labels(there.machine)
        self.cluster.modify("nodes", None, name, lambda node: relabelled(node, labels, without=UNINITIALISED["key"]))
        say(self.cluster, name, "Synced", "Node synced successfully", "cloud-node-controller")

    def label(self, there: Launched) -> None:
        """Put the node group's labels and taints on a Node whose user data knows nothing of them, as EKS does."""
        labels, taints = group_labels(there.machine), there.machine.taints
        self.cluster.modify("nodes", None, there.facts.name, lambda node: relabelled(node, labels, more=taints))

    def gone(self, there: Launched) -> None:
        """Forget an instance that is no more. The cloud controller finds out by and by, and removes its Node."""
        there.dead = True
        name = there.facts.name
        if name not in self.kubelets.hosts:
            return
        self.kubelets.remove(name)
        wait = self.model.wait("unreachable") + self.model.wait("cloud") / 2
        self.hearts.agenda.at(self.clock.now() + wait, lambda: self.removed(name, there.machine.id))

    def removed(self, name: str, instance: str) -> None:
        """Remove the Node of an instance that is no more."""
        found = self.cluster.get("nodes", None, name)
        if found and found.get("spec", {}).get("providerID", "").endswith(f"/{instance}"):
            message = f"Deleting node {name} because it does not exist in the cloud provider"
            say(self.cluster, name, "DeletingNode", message, "cloud-node-lifecycle-controller")
            self.cluster.delete("nodes", None, name)

    # --- small things -------------------------------------------------------------------------------------------------

    def draw(self, name: str, there: Launched) -> float:
        """Draw how long something takes on a machine."""
        return self.model.draw(name, there.facts.rng, there.machine.root.family)


def relabelled(
    node: Object, labels: Mapping[str, str], *, without: str = "", more: Iterable[Mapping[str, str]] = ()
) -> Object:
    """Give the patch that changes a Node's labels and taints."""
    added = {each["key"] for each in more}
    taints = [each for each in node.get("spec", {}).get("taints") or () if each["key"] not in {without, *added}]
    return {"metadata": {"labels": dict(labels)}, "spec": {"taints": [*taints, *more] or None}}
