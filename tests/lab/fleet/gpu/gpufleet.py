"""The lab's API server and the whole fleet, on nodes that have no EC2 behind them but say what is on their disk."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from gpuhelp import AL2, AL2023, UBUNTU, baked

from leptonami.lab import kube
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.kwok import KWOK, ROOT
from leptonami.lab.fleet.running import Fleet as Running
from leptonami.lab.fleet.running import Settings

SPEED = 150.0
ROOTS: Mapping[str, Root] = {
    "al2": AL2,
    "al2-gpu": baked(AL2),
    "ubuntu": UBUNTU,
    "custom": baked(UBUNTU),
    "al2023": AL2023,
    "al2023-gpu": baked(AL2023),
}


@dataclass
class Fleet:
    """A cluster with nodes, and kubectl for it."""

    folder: Path
    speed: float = SPEED

    def __enter__(self) -> Fleet:
        self.server = kube.start()
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self.server.kubeconfig()))
        self.running = Running.open(Settings(kubeconfig=str(self.kubeconfig), speed=self.speed, seed=7))
        self.problems: list[str] = []
        self.running.loop.complain = self.problems.append
        self.thread = threading.Thread(target=self.running.run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running.end()
        self.thread.join(120)
        self.server.stop()
        assert not self.thread.is_alive()
        assert not self.problems, "".join(self.problems)

    def node(self, name: str, root: Root, **labels: str) -> None:
        """Make a node as the cluster-autoscaler's kwok provider does, and say what is on it."""
        has = {"cpu": "4", "memory": "16Gi", "pods": "58", "ephemeral-storage": "80Gi"}
        labels = {"kubernetes.io/hostname": name, "node.kubernetes.io/instance-type": "g4dn.xlarge", **labels}
        facts = {**asdict(root), "driver": {"version": root.driver, "library": root.driver}, "images": []}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": {KWOK: "fake", ROOT: json.dumps(facts)}},
            "status": {"capacity": has, "allocatable": has},
        }
        self.kubectl("create", "-f", "-", given=json.dumps(node))

    def fault(self, name: str, node: str) -> None:
        """Have something go wrong on a node."""
        self.wait(lambda: node in self.running.kubelets.hosts)
        self.running.kubelets.hosts[node].facts.faults = lambda: {name: {}}

    def kubectl(self, *words: str, given: str = "", check: bool = True) -> str:
        """Run kubectl."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("kubectl")), "--kubeconfig", str(self.kubeconfig), *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def install(self, objects: Any) -> None:
        """Apply objects, definitions first."""
        chosen = list(objects)
        for part in ([each for each in chosen if each["kind"] == "CustomResourceDefinition"], chosen):
            if part:
                self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(part))

    def pods(self) -> dict[str, tuple[str, str]]:
        """Give READY and STATUS of the pods as kubectl lists them, by what their name begins with and their node."""
        rows = self.kubectl("get", "pods", "-n", "gpu-operator", "-o", "wide", "--no-headers", check=False).splitlines()
        found = {}
        for row in rows:
            name, ready, status, *rest = row.split()
            node = rest[-3] if rest[-3] in self.running.kubelets.hosts else "?"
            found[f"{name.rsplit('-', 1)[0]} {node}"] = (ready, status)
        return found

    def wait(self, what: Callable[[], object], seconds: float = 150) -> Any:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, self.kubectl(
                "get", "pods,ds,clusterpolicies", "-A", "-o", "wide", check=False
            )
            time.sleep(0.2)
        return found
