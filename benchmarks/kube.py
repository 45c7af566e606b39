"""How quick and how large the lab's Kubernetes API server is, alone: start, rates over HTTPS, and a large cluster.

    python benchmarks/kube.py [--nodes 5000] [--pods 50000]

The server runs as its own process, as `python -m leptonami.lab.kube` does; the clients are this process (one kept-open
connection per thread) and kubectl. Beside each time stands the CPU that the server took, which depends less on what
else the machine does. Every figure is measured, on the machine that runs this; nothing is compared, since
there is no peer: no package ships a real API server, and the mocks do not carry kubectl.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROUND = 2000
CREATES = 1000
WATCHES = 60


class Server:
    """An API server in a process of its own."""

    def __init__(self) -> None:
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leptonami.lab.kube"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.about = json.loads(self.process.stdout.readline())
        self.port = int(self.about["url"].rpartition(":")[2])
        self.started = time.perf_counter() - begun
        self.context = ssl.create_default_context(cadata=self.about["ca_pem"])

    def memory(self) -> float:
        """Give its resident memory in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError

    def cpu(self) -> float:
        """Give the seconds of CPU that it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> http.client.HTTPSConnection:
        """Open a connection."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=300)

    def ask(self, line: http.client.HTTPSConnection, method: str, path: str, body: Any = None) -> bytes:
        """Send a request and give the answer's body."""
        headers = {"Authorization": f"Bearer {self.about['token']}", "Content-Type": "application/json"}
        line.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        answer = line.getresponse()
        found = answer.read()
        assert answer.status < 300, found[:300]
        return found

    def stop(self) -> None:
        """End it by closing its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving() -> Iterator[Server]:
    """Serve for a while."""
    server = Server()
    try:
        yield server
    finally:
        server.stop()


def kubeconfig(server: Server) -> dict[str, Any]:
    """Give a kubeconfig for it."""
    ca = base64.b64encode(server.about["ca_pem"].encode()).decode()
    cluster = {"server": server.about["url"], "certificate-authority-data": ca}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": server.about["token"]}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }


def pod(number: int, nodes: int) -> dict[str, Any]:
    """Give a pod of the size that a real one has."""
    labels = {"app": f"app-{number % 50}", "pod-template-hash": "7d4b9c6f5"}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"app-{number % 50}", "uid": f"u{number % 50}"}
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    environment = [{"name": f"SETTING_{each}", "value": "a value"} for each in range(8)]
    main = {"name": "main", "image": "registry.example/app:1.2.3", "resources": resources, "env": environment}
    return {
        "metadata": {"name": f"app-{number:06}", "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [main], "nodeName": f"node-{number % max(nodes, 1):05}"},
    }


def node(number: int) -> dict[str, Any]:
    """Give a node."""
    labels = {"kubernetes.io/hostname": f"node-{number:05}", "node.kubernetes.io/instance-type": "g5.2xlarge"}
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "58", "nvidia.com/gpu": "1"}
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting"}]
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    return {"metadata": {"name": f"node-{number:05}", "labels": labels}, "status": status}


def rate(
    server: Server, count: int, method: str, path: str, bodies: Iterator[Any] | None = None, lines: int = 1
) -> str:
    """Say how many requests a second are answered over some connections, and what CPU each takes."""
    connections = [server.connect() for _ in range(lines)]
    lock = threading.Lock()
    left = iter(range(count))

    def work(line: http.client.HTTPSConnection) -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
                body = next(bodies) if bodies is not None else None
            server.ask(line, method, path, body)

    server.ask(connections[0], "GET", "/readyz")
    spent, begun = server.cpu(), time.perf_counter()
    threads = [threading.Thread(target=work, args=(each,)) for each in connections]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took, spent = time.perf_counter() - begun, server.cpu() - spent
    for line in connections:
        line.close()
    return f"{count / took:.0f}/s, {spent / count * 1000:.2f} ms CPU each"


def watched(server: Server) -> tuple[float, float]:
    """Give changes a second that reach all watches, and the longest time until the last watch saw a change."""
    lines = [server.connect() for _ in range(WATCHES)]
    headers = {"Authorization": f"Bearer {server.about['token']}"}
    answers = []
    for line in lines:
        line.request("GET", "/api/v1/configmaps?watch=true&resourceVersion=0", headers=headers)
        answers.append(line.getresponse())
    writer = server.connect()
    changes = 50
    worst = 0.0
    begun = time.perf_counter()
    for number in range(changes):
        sent = time.perf_counter()
        server.ask(writer, "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"w{number}"}})
        for answer in answers:
            assert b"ADDED" in answer.readline()
        worst = max(worst, time.perf_counter() - sent)
    took = time.perf_counter() - begun
    for line in (*lines, writer):
        line.close()
    return changes * WATCHES / took, worst


def kubectl(server: Server, *arguments: str) -> str:
    """Say how many seconds a kubectl takes, what CPU it costs the server, and how many lines it prints."""
    binary = Path(sys.executable).with_name("kubectl")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.write_text(json.dumps(kubeconfig(server)))
        environment = {"HOME": folder, "KUBECONFIG": str(file), "PATH": os.environ["PATH"]}
        spent, begun = server.cpu(), time.perf_counter()
        done = subprocess.run([str(binary), *arguments], capture_output=True, check=True, env=environment)
        took, spent = time.perf_counter() - begun, server.cpu() - spent
        return f"{took:.2f} s, {spent:.2f} s CPU of the server, {done.stdout.count(bytes([10]))} lines"


def fill(server: Server, path: str, bodies: Iterator[Any]) -> str:
    """Create objects over one connection; say how long it took."""
    line, count, spent, begun = server.connect(), 0, server.cpu(), time.perf_counter()
    for body in bodies:
        server.ask(line, "POST", path, body)
        count += 1
    line.close()
    took, spent = time.perf_counter() - begun, server.cpu() - spent
    return f"{took:.1f} s, {count / took:.0f}/s, {spent / count * 1000:.2f} ms CPU each"


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pods", type=int, default=5000)
    given = parser.parse_args()

    def tell(what: str, value: str) -> None:
        print(f"{what:<58} {value}", flush=True)

    tell("provenance", "measured (this machine) of a simulated cluster")
    busy = f"load {os.getloadavg()[0]:.0f} at the beginning"
    tell("machine", f"{os.cpu_count()} cores, Python {platform.python_version()}, {busy}")
    starts = []
    for _ in range(3):
        with serving() as server:
            starts.append(server.started)
    tell("process started to first answer possible, best of 3", f"{min(starts):.2f} s")
    with serving() as server:
        tell("memory of the process, empty", f"{server.memory():.0f} MiB")
        default = "/api/v1/namespaces/default"
        tell("GET of one object, 1 connection", rate(server, ROUND, "GET", default))
        tell("GET of one object, 4 connections", rate(server, ROUND, "GET", default, lines=4))
        tell("list of 4 namespaces, 1 connection", rate(server, ROUND, "GET", "/api/v1/namespaces"))
        bodies = iter([{"metadata": {"name": f"c{each}"}, "data": {"key": "value"}} for each in range(CREATES)])
        made = rate(server, CREATES, "POST", default + "/configmaps", bodies)
        tell("POST of a ConfigMap, 1 connection", made)
        events, worst = watched(server)
        tell(f"events to {WATCHES} watches", f"{events:.0f}/s, slowest change {worst * 1000:.0f} ms")
        tell("kubectl get namespaces, nothing cached", kubectl(server, "get", "namespaces"))
        tell("kubectl explain pod.spec.containers, nothing cached", kubectl(server, "explain", "pod.spec.containers"))
    with serving() as server:
        before = server.memory()
        nodes = (node(each) for each in range(given.nodes))
        tell(f"{given.nodes} nodes put in over one connection", fill(server, "/api/v1/nodes", nodes))
        after_nodes = server.memory()
        tell("memory for them", f"{after_nodes - before:.0f} MiB")
        path = "/api/v1/namespaces/default/pods"
        pods = (pod(each, given.nodes) for each in range(given.pods))
        tell(f"{given.pods} pods put in over one connection", fill(server, path, pods))
        tell("memory for them", f"{server.memory() - after_nodes:.0f} MiB")
        tell("kubectl get pods -A, pages of 500", kubectl(server, "get", "pods", "-A"))
        tell("kubectl get nodes, pages of 500", kubectl(server, "get", "nodes"))
        line = server.connect()
        begun = time.perf_counter()
        body = server.ask(line, "GET", "/api/v1/pods?resourceVersion=0")
        tell(f"whole list of pods in one answer, {len(body) >> 20} MiB", f"{time.perf_counter() - begun:.1f} s")
        line.close()
        one = rate(server, 200, "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-00001")
        tell("pods of one node by field selector", one)
        tell("memory of the process, in the end", f"{server.memory():.0f} MiB")


if __name__ == "__main__":
    main()
