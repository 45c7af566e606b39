"""A node without time and without a network: enough of a kubelet and of a DaemonSet controller to walk the chain."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from leptonami.lab.fleet.behaviours import Behaviours, Life, NodeFacts, Step
from leptonami.lab.fleet.gpu import register
from leptonami.lab.fleet.gpu.manifests import device_plugin, gpu_operator
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.writes import merged

UBUNTU = Root(
    family="ubuntu",
    os_release={"ID": "ubuntu", "VERSION_ID": "22.04"},
    kernel="6.8.0-1044-aws",
    glibc="2.35",
    gpus=1,
    gpu_product="Tesla T4",
)
AL2 = Root(
    family="al2",
    os_release={"ID": "amzn", "VERSION_ID": "2"},
    kernel="5.10.245-245.983.amzn2.x86_64",
    glibc="2.26",
    gpus=1,
    gpu_product="Tesla T4",
)
AL2023 = Root(
    family="al2023",
    os_release={"ID": "amzn", "VERSION_ID": "2023"},
    kernel="6.12.58-82.121.amzn2023.x86_64",
    glibc="2.34",
    gpus=1,
    gpu_product="Tesla T4",
)


def baked(root: Root, *, driver: str = "535.309.01", toolkit: bool = True) -> Root:
    """Put a driver, and the toolkit with containerd's runtime, into an image."""
    more: dict[str, Any] = {"driver": driver}
    if toolkit:
        more |= {"toolkit": "1.17.8", "runtimes": ("nvidia", "runc"), "default_runtime": "nvidia"}
    return Root(**{name: getattr(root, name) for name in Root.__dataclass_fields__} | more)


class Cluster:
    """Objects in a dictionary, with what behaviours ask of a `leptonami.lab.fleet.cluster.Cluster`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.uids = itertools.count(1)

    def get(self, plural: str, namespace: str | None, name: str) -> Any:
        return self.objects.get((plural, namespace or "", name))

    def all(self, plural: str, namespace: str | None = None) -> list[Any]:
        return [obj for (kind, _, _), obj in list(self.objects.items()) if kind == plural]

    def by_node(self, node: str) -> list[Any]:
        return [each for each in self.all("pods") if each["spec"].get("nodeName") == node]

    def create(self, plural: str, obj: dict[str, Any]) -> str:
        about = obj["metadata"]
        uid = f"{next(self.uids):06}"
        name = about.get("name") or about["generateName"] + uid
        about = {"generation": 1, **about, "name": name, "uid": uid}
        self.objects[plural, about.get("namespace", ""), name] = {"status": {}, **obj, "metadata": about}
        return str(name)

    def patch(self, plural: str, namespace: str | None, name: str, patch: Any, subresource: str = "") -> None:
        key = (plural, namespace or "", name)
        self.objects[key] = merged(self.objects[key], patch)

    def delete(self, plural: str, namespace: str | None, name: str, grace: int | None = None) -> None:
        self.objects.pop((plural, namespace or "", name), None)


@dataclass
class Run:
    """How far a pod is: the container that is next, its life, and what went wrong with it last."""

    number: int = 0
    life: Life | None = None
    forever: bool = False
    problem: str = ""
    attempts: int = 0
    log: dict[str, list[str]] = field(default_factory=dict)


class Bench:
    """A cluster of nodes with an operator, run in rounds until nothing changes any more."""

    def __init__(
        self,
        *roots: Root,
        version: str = "v23.3.2",
        faults: dict[str, Any] | None = None,
        plugin_only: bool = False,
        **more: bool,
    ) -> None:
        self.cluster = cast(Any, Cluster())
        self.behaviours = Behaviours()
        self.faults = faults or {}
        self.controllers = register(self.behaviours, self.cluster, Clock(speed=1e6))
        self.facts: dict[str, NodeFacts] = {}
        self.runs: dict[str, Run] = {}
        for number, root in enumerate(roots):
            self.add(f"node-{number}", root)
        for obj in device_plugin(version) if plugin_only else gpu_operator(version, **more):
            plural = {"ClusterPolicy": "clusterpolicies", "DaemonSet": "daemonsets", "Deployment": "deployments"}
            if obj["kind"] in plural:
                self.cluster.create(plural[obj["kind"]], obj)
            if obj["kind"] == "Deployment":
                self.pod_of(obj, "node-0")

    def add(self, name: str, root: Root) -> None:
        node = {"metadata": {"name": name, "labels": {}}, "status": {"capacity": {}, "allocatable": {}}}
        self.cluster.create("nodes", node)
        self.facts[name] = NodeFacts(
            name, "", root, lambda: self.cluster.get("nodes", None, name), lambda: self.faults, random.Random(0)
        )

    def pod_of(self, owner: dict[str, Any], node: str) -> None:
        template = owner["spec"]["template"]
        about = {
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": [
                {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": "o", "controller": True}
            ],
        }
        self.cluster.create("pods", {"metadata": about, "spec": {**template["spec"], "nodeName": node}})

    def daemonsets(self) -> None:
        for each in self.cluster.all("daemonsets"):
            name, spec = each["metadata"]["name"], each["spec"]["template"]["spec"]
            wanted = ready = 0
            for node in self.facts:
                labels = self.cluster.get("nodes", None, node)["metadata"]["labels"]
                fits = all(labels.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
                mine = [p for p in self.cluster.by_node(node) if p["metadata"]["ownerReferences"][0]["name"] == name]
                wanted += fits
                ready += sum(pod["status"].get("phase") == "Running" for pod in mine)
                if fits and not mine:
                    self.pod_of(each, node)
                for pod in mine if not fits else ():
                    self.cluster.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
            status = {"observedGeneration": 1, "desiredNumberScheduled": wanted, "numberAvailable": ready}
            self.cluster.patch("daemonsets", each["metadata"]["namespace"], name, {"status": status})

    def step(self, pod: dict[str, Any]) -> None:
        run = self.runs.setdefault(pod["metadata"]["uid"], Run())
        spec, node = pod["spec"], self.facts[pod["spec"]["nodeName"]]
        row = [*spec.get("initContainers", ()), *spec["containers"]]
        if run.forever or run.number == len(row):
            return
        for hook in self.behaviours.sandbox if run.number == 0 and run.life is None else ():
            if message := hook(pod, node):
                run.problem = message
                return
        container = row[run.number]
        for pull in self.behaviours.pull:
            if pull(container["image"], node):
                run.problem = f"ImagePullBackOff {container['image']}"
                return
        run.life = run.life or Life(pod, container, node, run.attempts, 0.0)
        run.life.pod = self.cluster.get("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.took(run, self.behaviours.find(pod, container).outcome(run.life, 0.0), row)

    def took(self, run: Run, step: Step, row: list[Any]) -> None:
        assert run.life
        about = run.life.pod["metadata"]
        run.log.setdefault(run.life.container["name"], []).extend(step.log)
        run.life.steps += 1
        phase = ""
        if step.state == "terminated":
            run.life = None
            run.problem = (
                "" if step.exit_code == 0 else f"{row[run.number]['name']}: {step.reason} {step.message}".strip()
            )
            run.number, run.attempts = run.number + (step.exit_code == 0), run.attempts + (step.exit_code != 0)
            phase = "Succeeded" if run.number == len(row) else ""
        elif step.seconds is None:
            run.forever, run.problem, phase = True, "", "Running"
        if phase and self.cluster.get("pods", about["namespace"], about["name"]):
            self.cluster.patch("pods", about["namespace"], about["name"], {"status": {"phase": phase}})

    def settle(self, rounds: int = 70) -> Bench:
        for _ in range(rounds):
            self.daemonsets()
            for pod in self.cluster.all("pods"):
                if self.cluster.get("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]):
                    self.step(pod)
            for each in self.controllers:
                each.step(self.cluster, 0.0, {("pods", "", "")})
        return self

    def state(self, name: str, node: str = "node-0") -> str:
        """Say how a pod stands: `Running`, `Succeeded`, what is wrong, `waits in CONTAINER`, or "" without one."""
        for pod in self.cluster.by_node(node):
            if (
                pod["metadata"]["name"].startswith(name + "-")
                and pod["metadata"]["name"].removeprefix(name + "-").isdecimal()
            ):
                run = self.runs[pod["metadata"]["uid"]]
                waits = f"waits in {run.life.container['name']}" if run.life else ""
                return pod["status"].get("phase") or waits or run.problem
        return ""

    def log(self, name: str, container: str) -> list[str]:
        for pod in self.cluster.all("pods"):
            if pod["metadata"]["name"].startswith(name):
                return self.runs[pod["metadata"]["uid"]].log.get(container, [])
        return []

    def gpus(self, node: str = "node-0") -> str:
        return str(self.cluster.get("nodes", None, node)["status"]["allocatable"].get("nvidia.com/gpu", ""))

    @property
    def policy(self) -> dict[str, Any]:
        return dict(self.cluster.all("clusterpolicies")[0])

    def pods(self) -> Iterator[str]:
        yield from (each["metadata"]["name"] for each in self.cluster.all("pods"))
