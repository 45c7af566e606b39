"""A fleet in this process, against the lab's API server over HTTPS, for the tests of the fleet."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from leptonami.lab import kube
from leptonami.lab.conditions import is_ready
from leptonami.lab.fleet.api import Api, Refused, connect, events
from leptonami.lab.fleet.faults import parse
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.instances import Sight
from leptonami.lab.fleet.nodes import Machine
from leptonami.lab.fleet.running import Fleet, Settings

DEADLINE_S = 120.0
TYPE = {
    "VCpuInfo": {"DefaultVCpus": 4},
    "MemoryInfo": {"SizeInMiB": 16384},
    "NetworkInfo": {"MaximumNetworkInterfaces": 4, "Ipv4AddressesPerInterface": 15},
}


@dataclass
class Told:
    """Stands for `Instances`: what AWS says is what the tests say, each of its own instances and node groups."""

    sight: Sight = field(default_factory=lambda: Sight({}, ()))
    started: bool = False

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.started = False

    def say(self, *machines: Machine, faults: list[dict[str, Any]] | None = None) -> None:
        """Say that there are some more instances, or what they are now, and what goes wrong in their node groups."""
        groups = {each.group for each in machines}
        kept = tuple(each for each in self.sight.faults if each.group not in groups)
        known = self.sight.machines | {each.id: each for each in machines}
        self.sight = Sight(known, (*kept, *parse(faults or [])))

    def lose(self, machine: Machine) -> None:
        """Say that an instance is no more."""
        left = {name: each for name, each in self.sight.machines.items() if name != machine.id}
        self.sight = Sight(left, self.sight.faults)


def machine(number: int = 1, **changed: Any) -> Machine:
    """Make an instance of a node group."""
    known: dict[str, Any] = {
        "id": f"i-{number:017x}",
        "state": "running",
        "type": "m5.xlarge",
        "zone": "us-west-2a",
        "private_ip": f"10.0.0.{number}",
        "private_dns": f"ip-10-0-0-{number}.us-west-2.compute.internal",
        "group": "workers",
        "managed": True,
        "kind": TYPE,
        "root": Root(family="al2023", image_id="ami-1", kubelet="v1.33.1-eks-1", containerd="2.1.5", os_image="AL2023"),
    }
    return Machine(**{**known, **changed})


UBUNTU = Root(family="ubuntu", image_id="ami-u", kubelet="v1.33.1", os_image="Ubuntu 22.04.5 LTS", containerd="1.7.28")
BOOTSTRAP = (
    "#!/bin/bash\n/etc/eks/bootstrap.sh {} --kubelet-extra-args "
    "'--node-labels=team=ml,eks.amazonaws.com/nodegroup=workers --register-with-taints=gpu=yes:NoSchedule'\n"
)


def custom(number: int, cluster: str = "lab", root: dict[str, Any] | None = None, **changed: Any) -> Machine:
    """Make an instance of an image of one's own, which joins by its user data."""
    known = {**vars(UBUNTU), "user_data": BOOTSTRAP.format(cluster), **(root or {})}
    return machine(number, own_image=True, root=Root(**known), **changed)


@dataclass
class Rig:
    """A cluster with a fleet."""

    server: kube.Server
    fleet: Fleet
    api: Api
    aws: Told
    complaints: list[str] = field(default_factory=list)

    def kubectl(self, *words: str) -> str:
        """Run kubectl."""
        kubectl = Path(sys.executable).parent / "kubectl"
        command = [str(kubectl), "--kubeconfig", self.fleet.settings.kubeconfig, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        return self.api.ask(method, path, body, kind)

    def get(self, path: str) -> Any:
        """Get an object; None if there is none."""
        try:
            return self.api.ask("GET", path)
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def kwok(self, name: str = "node-1", **annotations: str) -> None:
        """Make a node as the autoscaler's kwok provider does, and wait until the fleet has taken it."""
        has = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
        about = {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake", **annotations}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": about, "status": {"capacity": has, "allocatable": has}}
        self.ask("POST", "/api/v1/nodes", node)
        until(lambda: ready(self.get(f"/api/v1/nodes/{name}")))

    def pod(self, name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
        """Make a pod."""
        about = {"name": name, "namespace": "default"}
        made = {"containers": [{"name": "main", "image": "nginx:1.27", **each} for each in containers or ({},)], **spec}
        found: dict[str, Any] = self.ask(
            "POST",
            "/api/v1/namespaces/default/pods",
            {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": made},
        )
        return found

    def seen(self, name: str) -> Any:
        return self.get(f"/api/v1/namespaces/default/pods/{name}")

    def node(self, machine: Machine) -> Any:
        return self.get(f"/api/v1/nodes/{machine.private_dns}")

    def wait_node(self, machine: Machine) -> Any:
        """Wait until a machine is a node that is ready, and give it."""
        return until(lambda: ready(found := self.node(machine)) and untainted(found) and found)

    def phase_of(self, machine: Machine) -> tuple[str, str]:
        """Give how far a machine is, and why it is not further."""
        told = self.fleet.machines.report()
        return next(((each["phase"], each["why"]) for each in told if each["instance"] == machine.id), ("", ""))

    def wait_pod(self, name: str, good: Callable[[Any], object]) -> Any:
        """Wait until a pod is as it should be, and give it."""
        return until(lambda: (pod := self.seen(name)) and good(pod) and pod)

    def story(self, version: str, over: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
        """Give all that a watch tells of pods after a version, up to an event: what passes quickly is in it too."""
        answer = self.api.watch("/api/v1/namespaces/default/pods", {"resourceVersion": version}, int(DEADLINE_S))
        found: list[dict[str, Any]] = []
        try:
            for event in itertools.chain.from_iterable(events(answer)):
                if event["type"] != "BOOKMARK":
                    found.append(event)
                    if over(event):
                        return found
        finally:
            answer.close()
        pytest.fail("it did not come to pass in time")

    def life(self, made: dict[str, Any], over: Callable[[Any], object]) -> list[Any]:
        """Give a pod as it was after each change since it was made, until it is as it should be."""
        name = made["metadata"]["name"]
        story = self.story(
            made["metadata"]["resourceVersion"],
            lambda event: event["object"]["metadata"]["name"] == name and over(event["object"]),
        )
        return [event["object"] for event in story if event["object"]["metadata"]["name"] == name]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give an object's events in their order, once all is sent: they come after everything else."""
        until(lambda: self.fleet.cluster.carrier.waiting() == 0)
        found = self.ask("GET", f"/api/v1/events?fieldSelector=involvedObject.name%3D{name}")["items"]
        return sorted(found, key=lambda each: int(each["metadata"]["name"].rpartition(".")[2], 16))

    def said(self, name: str, *, component: str = "kubelet") -> list[tuple[str, str]]:
        """Give what a component's events about an object say."""
        return [(e["reason"], e["message"]) for e in self.events(name) if e["source"]["component"] == component]

    def log(self, name: str, query: str = "") -> str:
        """Read a pod's log through the API server."""
        answer = self.api.open("GET", f"/api/v1/namespaces/default/pods/{name}/log?{query}", None, "", 30)
        return str(answer.data.decode())


def ready(obj: Any) -> bool:
    """Tell whether a node or a pod is ready."""
    return is_ready(obj or {})


def untainted(node: Any) -> bool:
    """Tell whether a node is without the taints of those that are not ready or not known to the cloud."""
    return not any(each["key"].startswith("node.") for each in node["spec"].get("taints") or ())


def state(pod: Any, container: str = "main") -> dict[str, Any]:
    """Give the state of a container; nothing if it has none."""
    status = pod.get("status") or {}
    every = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    return next((each["state"] for each in every if each["name"] == container), {})


def until(look: Callable[[], Any], seconds: float = DEADLINE_S) -> Any:
    """Look until there is something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            pytest.fail("it did not come to pass in time")
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def rig(folder: Path, speed: float = 200.0, cluster: str = "lab") -> Iterator[Rig]:
    """Run a cluster with a fleet; whatever a controller complains about fails the test."""
    with kube.start(cluster=cluster, version="1.33") as server:
        config = folder / "kubeconfig"
        config.write_text(json.dumps(server.kubeconfig()))
        fleet = Fleet.open(Settings(kubeconfig=str(config), speed=speed, seed=1))
        aws = Told()
        fleet.machines.instances = aws  # type: ignore[assignment]
        fleet.machines.name = cluster
        complaints: list[str] = []
        fleet.loop.complain = complaints.append
        thread = threading.Thread(target=fleet.run)
        thread.start()
        api = connect(config)
        try:
            yield Rig(server, fleet, api, aws, complaints)
        finally:
            api.close()
            fleet.end()
            thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert complaints == []
