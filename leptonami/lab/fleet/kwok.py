"""Nodes that somebody else made for kwok are ready and run pods; the cluster-autoscaler's kwok provider makes them.

https://github.com/kubernetes/autoscaler/tree/master/cluster-autoscaler/cloudprovider/kwok: nodes with the annotation
`kwok.x-k8s.io/node`, of which a kwok controller would be the kubelet.

No AMI says what is on such a node. An annotation can: JSON, as `GET /lab-api/nodes/<instance-id>` gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from leptonami.lab.fleet.behaviours import NodeFacts
from leptonami.lab.fleet.cluster import Cluster, Key, Object
from leptonami.lab.fleet.heartbeats import Hearts, Launched
from leptonami.lab.fleet.images import Image, Root, root_of
from leptonami.lab.fleet.launch import luck
from leptonami.lab.fleet.nodes import Machine
from leptonami.lab.fleet.recorder import mark

__all__ = ["KWOK", "ROOT", "Adoption"]

KWOK = "kwok.x-k8s.io/node"
ROOT = "lab.leptonami.dev/root"
GROUP = "eks.amazonaws.com/nodegroup"
NODE_INFO = (
    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion"),
    *("kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"),
)


@dataclass
class Adoption:
    """The controller.

    Attributes
    ----------
    version
        Of a kubelet of whose nobody says the version.
    """

    hearts: Hearts
    version: str
    seed: int | None = None
    adopted: dict[str, Launched] = field(default_factory=dict)

    def step(self, cluster: Cluster, now: float, changes: set[Key]) -> float | None:  # noqa: ARG002 - as any controller
        """Take up new nodes, and forget those that are gone."""
        for plural, _, name in changes:
            if plural == "nodes":
                self.look(cluster, name)
        return None

    def look(self, cluster: Cluster, name: str) -> None:
        """Look at a Node that has changed."""
        found, there = cluster.get("nodes", None, name), self.adopted.get(name)
        uid = found["metadata"].get("uid") if found else None
        if there is not None and there.machine.id != uid:
            there.dead = True
            del self.adopted[name]
            self.hearts.kubelets.remove(name)
        if found is None or uid is None or name in self.hearts.kubelets.hosts:
            return
        annotations = found["metadata"].get("annotations") or {}
        # A template may be a copy of a node of the lab: with its annotations, but with an id of the provider's own.
        if KWOK in annotations and not found.get("spec", {}).get("providerID", "").startswith("aws:"):
            self.adopt(cluster, found)

    def adopt(self, cluster: Cluster, found: Object) -> None:
        """Be the kubelet of a Node, which is ready at once."""
        name, labels, status = (
            found["metadata"]["name"],
            found["metadata"].get("labels") or {},
            found.get("status") or {},
        )
        given = status.get("addresses") or []
        address = next((each["address"] for each in given if each["type"] == "InternalIP"), "")
        address = address or self.hearts.kubelets.address()
        images = tuple(Image(tuple(each["names"]), each.get("sizeBytes", 0)) for each in status.get("images") or ())
        said = {key: value for key, value in (status.get("nodeInfo") or {}).items() if value}
        # What a real server fills in when a kubelet says nothing: clients with typed models want each of them.
        info = {
            **dict.fromkeys(NODE_INFO, ""),
            "kubeletVersion": self.version,
            "operatingSystem": "linux",
            "architecture": "amd64",
            **said,
        }
        root = self.root(cluster, found, info, images)
        kind = labels.get("node.kubernetes.io/instance-type", "")
        machine = Machine(
            found["metadata"]["uid"], "running", kind, "", address, name, labels.get(GROUP, ""), root=root
        )
        facts = NodeFacts(
            name, machine.group, root, lambda: cluster.get("nodes", None, name), dict, luck(self.seed, name)
        )
        there = self.adopted[name] = Launched(machine, facts)
        patch: Object = {"daemonEndpoints": {"kubeletEndpoint": {"Port": self.hearts.port}}, "nodeInfo": info}
        patch["addresses"] = given or [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name},
        ]
        if status.get("capacity") and not status.get("allocatable"):
            patch["allocatable"] = status["capacity"]
        cluster.patch("nodes", None, name, {"status": patch, **mark(found)}, "status")
        self.hearts.begin(there)
        self.hearts.ready(there)

    def root(self, cluster: Cluster, found: Object, info: Mapping[str, Any], images: tuple[Image, ...]) -> Root:
        """Give what is on the node: what its annotation says, on top of what its status says."""
        known = {"kubelet": info["kubeletVersion"], "architecture": info["architecture"]}
        try:
            stated = json.loads(found["metadata"]["annotations"].get(ROOT, "{}"))
            root = root_of({**known, **stated})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"the annotation {ROOT} cannot be read: {error}"
            cluster.event({"kind": "Node", "apiVersion": "v1", **found}, "Warning", "InvalidRoot", message, "kubelet")
            root = root_of(known)
        return replace(root, images=(*root.images, *images))
