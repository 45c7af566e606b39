"""How large a fleet the lab carries, and how long a node group takes to be ready. Wall times of simulated nodes.

    .venv/bin/python benchmarks/fleet.py                             # 500 nodes, 5,000 pods
    .venv/bin/python benchmarks/fleet.py --nodes 5000 --pods 50000
    .venv/bin/python benchmarks/fleet.py --nodegroup                 # CreateNodegroup until Ready, at default speed

Three processes as in the lab: the API server, the fleet, and this one, which only counts. The instances are told to the
fleet in place of asking EC2: what moto takes for 5,000 instances is not the fleet's. The pods are one Deployment's, so
the fleet's controllers and its scheduler are part of the time. Phase by phase: all nodes Ready, all pods Running.

Provenance: measured on this machine; what is timed is the simulation of nodes, and no node.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import boto3

from leptonami.lab import start
from leptonami.lab.fleet.api import Api, connect, events
from leptonami.lab.fleet.images import Image, Root
from leptonami.lab.fleet.instances import Sight
from leptonami.lab.fleet.nodes import Machine
from leptonami.lab.fleet.running import Fleet, Settings
from leptonami.lab.server import wait_for_end

DEADLINE_S = 3600
KIND = {
    "VCpuInfo": {"DefaultVCpus": 4},
    "MemoryInfo": {"SizeInMiB": 16384},
    "NetworkInfo": {"MaximumNetworkInterfaces": 4, "Ipv4AddressesPerInterface": 15},
}


class Told:
    """Stands for `Instances`: so many m5.xlarge of one AMI, with the image of the pods baked in."""

    def __init__(self, count: int) -> None:
        baked = Image(("registry.example/app:1",), 50 << 20, baked=True)
        root = Root(family="al2023", image_id="ami-1", kubelet="v1.33.1", containerd="2.1.5", images=(baked,))
        machines = [
            Machine(
                f"i-{number:017x}",
                "running",
                "m5.xlarge",
                f"us-west-2{'abc'[number % 3]}",
                address := f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
                f"ip-{address.replace('.', '-')}.us-west-2.compute.internal",
                "workers",
                managed=True,
                kind=KIND,
                root=root,
            )
            for number in range(count)
        ]
        self.sight = Sight({each.id: each for each in machines}, ())

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""


def fleet(kubeconfig: str, nodes: int, speed: float) -> None:
    """Run a fleet with instances of our own until standard input closes."""
    running = Fleet.open(Settings(kubeconfig=kubeconfig, speed=speed, seed=1))
    running.machines.instances = Told(nodes)  # type: ignore[assignment]
    stop = threading.Event()
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_for_end(stop)
    sys.stdout.write(
        json.dumps({"writes": running.cluster.sent, "writes left (events)": running.cluster.carrier.waiting()}) + "\n"
    )
    sys.stdout.flush()
    os._exit(0)


def resident(pid: int) -> int:
    """Give a process's resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10


def processor(pid: int) -> float:
    """Give a process's processor seconds so far, which other work on this machine does not lengthen much."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 1)


def follow(api: Api, path: str, good: Any, wanted: int, times: dict[str, float]) -> None:
    """Watch objects until so many are good, noting when a tenth, half, nine tenths and all were."""
    seen: set[str] = set()
    marks = {max(1, wanted * part // 100): f"{part} %" for part in (10, 50, 90, 100)}
    version = str(api.ask("GET", f"{path}?limit=1")["metadata"]["resourceVersion"])
    for block in events(api.watch(path, {"resourceVersion": version}, DEADLINE_S)):
        for event in block:
            if event["type"] != "BOOKMARK" and good(event["object"]):
                seen.add(event["object"]["metadata"]["uid"])
                if len(seen) in marks:
                    times[marks[len(seen)]] = time.monotonic()
        if len(seen) >= wanted:
            return


def node_ready(node: dict[str, Any]) -> bool:
    """Tell whether a node is ready and pods may go there."""
    conditions = node.get("status", {}).get("conditions") or ()
    taints = {each["key"] for each in node.get("spec", {}).get("taints") or ()}
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions) and not taints


def scale(nodes: int, pods: int, speed: float) -> dict[str, Any]:
    """Bring up so many nodes, then so many pods on them."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "leptonami.lab.kube", json.dumps({"cluster": "bench", "version": "1.33"})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        about = json.loads(server.stdout.readline())
        authority = Path(folder, "ca.pem")
        authority.write_text(about["ca_pem"], encoding="ascii")
        kubeconfig = Path(folder, "kubeconfig")
        config = {
            "clusters": [{"name": "b", "cluster": {"server": about["url"], "certificate-authority": str(authority)}}],
            "users": [{"name": "b", "user": {"token": about["token"]}}],
            "contexts": [{"name": "b", "context": {"cluster": "b", "user": "b"}}],
            "current-context": "b",
        }
        kubeconfig.write_text(json.dumps(config), encoding="ascii")
        api = connect(kubeconfig)
        ready: dict[str, float] = {}
        running: dict[str, float] = {}
        first = threading.Thread(target=follow, args=(api, "/api/v1/nodes", node_ready, nodes, ready))
        first.start()
        time.sleep(0.5)
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, __file__, "--fleet", str(kubeconfig), "--nodes", str(nodes), "--speed", str(speed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            first.join()
            memory_nodes = resident(child.pid), resident(server.pid)
            busy_nodes = processor(child.pid), processor(server.pid)
            second = threading.Thread(
                target=follow,
                args=(
                    api,
                    "/api/v1/pods",
                    lambda pod: (pod.get("status") or {}).get("phase") == "Running",
                    pods,
                    running,
                ),
            )
            second.start()
            time.sleep(0.5)
            created = time.monotonic()
            api.ask("POST", "/apis/apps/v1/namespaces/default/deployments", deployment(pods))
            second.join()
            memory = resident(child.pid), resident(server.pid)
            busy = processor(child.pid), processor(server.pid)
            spread = Counter(
                pod["spec"]["nodeName"] for page in api.pages("/api/v1/pods") for pod in page["items"]
            ).values()
            listed = time.monotonic()
            for _ in api.pages("/api/v1/pods", 500):
                pass
            listed = time.monotonic() - listed
        finally:
            assert child.stdin is not None
            child.stdin.close()
            said = child.stdout.read() if child.stdout else b""
            child.wait(30)
            api.close()
            assert server.stdin is not None
            server.stdin.close()
            server.wait(30)
    return {
        "nodes": nodes,
        "pods": pods,
        "speed": speed,
        "seconds until nodes are Ready (from the fleet's start)": marks_of(ready, began),
        "seconds until pods are Running (from the Deployment)": marks_of(running, created),
        "pods per node, least and most": [min(spread), max(spread)],
        "fleet MiB with nodes, with pods": [memory_nodes[0], memory[0]],
        "API server MiB with nodes, with pods": [memory_nodes[1], memory[1]],
        "fleet processor seconds with nodes, with pods": [busy_nodes[0], busy[0]],
        "API server processor seconds with nodes, with pods": [busy_nodes[1], busy[1]],
        "seconds to list all pods, 500 a page": round(listed, 1),
        **(json.loads(said) if said else {}),
        "provenance": "measured (wall) of simulated nodes",
    }


def marks_of(times: dict[str, float], since: float) -> dict[str, float]:
    """Give times since a moment, in seconds."""
    return {name: round(at - since, 1) for name, at in times.items()}


def deployment(pods: int) -> dict[str, Any]:
    """Make a Deployment of so many small pods."""
    small = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    container = {"name": "app", "image": "registry.example/app:1", "resources": small}
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"replicas": pods, "selector": {"matchLabels": {"app": "a"}}, "template": template},
    }


def nodegroup(trials: int) -> dict[str, Any]:
    """Time CreateNodegroup until its two nodes are Ready, in labs at their default speed."""
    took = []
    with start(cluster=True, seed=1) as lab:
        os.environ.update(lab.environment)
        eks = boto3.client("eks")
        about = lab.clusters()[0]
        subnets = eks.describe_cluster(name=about["name"])["cluster"]["resourcesVpcConfig"]["subnetIds"]
        role = boto3.client("iam").get_role(RoleName="leptonami-node")["Role"]["Arn"]
        for trial in range(trials):
            began, name = time.monotonic(), f"bench-{trial}"
            eks.create_nodegroup(
                clusterName=about["name"],
                nodegroupName=name,
                nodeRole=role,
                subnets=subnets,
                amiType="AL2023_x86_64_STANDARD",
                instanceTypes=["m5.large"],
                scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 2},
            )
            while sum(each["nodes"]["ready"] for each in lab.clusters()) < 2 * (trial + 1):
                if time.monotonic() - began > DEADLINE_S:
                    raise SystemExit(f"not ready: {lab.clusters()}")
                time.sleep(0.02)
            took.append(round(time.monotonic() - began, 2))
    name = "seconds from CreateNodegroup until two nodes are Ready, speed 100"
    return {name: took, "provenance": "measured (wall) of simulated nodes"}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--speed", type=float, default=100.0)
    parser.add_argument("--nodegroup", action="store_true")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--fleet", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fleet:
        fleet(given.fleet, given.nodes, given.speed)
    busy = f"load {os.getloadavg()[0]:.1f} at the beginning"
    machine = {"machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, {busy}"}
    found = nodegroup(given.trials) if given.nodegroup else scale(given.nodes, given.pods, given.speed)
    for name, value in {**machine, **found}.items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, each in parts.items():
            print(f"{f'{name}: {part}' if part else name:<66} {str(each).strip('[]')}")


if __name__ == "__main__":
    main()
