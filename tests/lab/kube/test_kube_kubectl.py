"""kubectl is the judge: every row of the table in docs/lab-kubernetes.md is run, in its order, against one API server.

There are no controllers here. What they would do (statuses, revisions, ending pods) is done through the API by the
test's own hands, so that only the API server is looked at.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kubectls import Kubectl

from leptonami.lab.kube import Server
from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.objects import timestamp
from leptonami.lab.kube.store import DeleteOptions, Options

DOCUMENT = Path(__file__).parents[3] / "docs" / "lab-kubernetes.md"
ROW = re.compile(r"^\| `(?P<command>kubectl .+?)` \| (?P<outcome>works|refused) \| (?P<words>.*?) ?\|$")
LINES = ["first line", "second line", "third line"]


def rows() -> list[tuple[str, str, str]]:
    """Read the table: a command, whether it works, and words that it prints."""
    found = [ROW.match(line) for line in DOCUMENT.read_text().splitlines() if line.startswith("| `kubectl")]
    assert all(found), "a row of the table has another form"
    return [(each["command"], each["outcome"], each["words"].strip("`")) for each in found if each]


class Kubelet(BaseHTTPRequestHandler):
    """Answers for the logs of containers, as the kubelet does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(target.query).items()}
        _, kind, namespace, pod, container = target.path.split("/")
        assert (kind, namespace) == ("containerLogs", "default")
        lines = ["previous line"] if "previous" in query else [*LINES, f"of {pod}/{container}"]
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        if "timestamps" in query:
            lines = [f"2026-01-01T00:00:00.000000000Z {line}" for line in lines]
        body = "".join(f"{line}\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def kubelet() -> Iterator[int]:
    """Give the port of a kubelet."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def container(name: str, image: str = "registry.example/app:1") -> dict[str, Any]:
    return {"name": name, "image": image, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}


def ready(name: str, **more: Any) -> dict[str, Any]:
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return {"name": name, "ready": True, "restartCount": 0, "state": running, "image": "app", "imageID": "x", **more}


class World:
    """Puts objects there with their statuses, as controllers and kubelets would."""

    def __init__(self, server: Server) -> None:
        self.store = server.store

    def put(self, plural: str, body: dict[str, Any], group: str = "", status: dict[str, Any] | None = None) -> Any:
        kind = self.store.kind(plural, group)
        namespace = "default" if kind.namespaced else None
        made = self.store.create(kind, namespace, body, options=Options(manager="world"))
        if status is not None:
            name = body["metadata"]["name"]
            made, _ = self.store.update(
                kind,
                namespace,
                name,
                {**made, "status": status},
                subresource="status",
                options=Options(manager="world"),
            )
        return made

    def node(self, name: str, port: int, *, up: bool = True) -> None:
        conditions = [{"type": "Ready", "status": "True" if up else "False", "reason": "KubeletReady"}]
        status = {
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "58", "nvidia.com/gpu": "1"},
            "allocatable": {"cpu": "7910m", "memory": "30Gi", "pods": "58", "nvidia.com/gpu": "1"},
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "kubeletVersion": "v1.37.0-eks-lab",
                "osImage": "Ubuntu 22.04.5 LTS",
                "kernelVersion": "6.8.0-1030-aws",
                "containerRuntimeVersion": "containerd://1.7.27",
                "architecture": "amd64",
                "operatingSystem": "linux",
                "machineID": "m",
                "systemUUID": "u",
                "bootID": "b",
                "kubeProxyVersion": "v1.37.0",
            },
        }
        labels = {"node.kubernetes.io/instance-type": "g5.2xlarge", "kubernetes.io/hostname": name}
        self.put("nodes", {"metadata": {"name": name, "labels": labels}}, status=status)

    def pod(self, name: str, node: str, status: dict[str, Any], owner: Any = None, **spec: Any) -> None:
        meta: dict[str, Any] = {"name": name, "labels": {"app": name.partition("-")[0]}}
        if owner:
            about = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
            meta["ownerReferences"] = [{**about, "uid": owner["metadata"]["uid"], "controller": True}]
        body = {"metadata": meta, "spec": {"containers": [container("main")], "nodeName": node, **spec}}
        base = {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "startTime": timestamp()}
        self.put("pods", body, status={**base, **status})

    def fill(self, port: int) -> None:
        self.node("node-a", port)
        self.node("node-b", port)
        self.node("node-c", port, up=False)
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container("main")]}}
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        counted = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}
        conditions = [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "True"}]
        status = {**counted, "observedGeneration": 1, "conditions": conditions}
        note = "deployment.kubernetes.io/revision"
        about = {"name": "web", "annotations": {note: "2"}}
        web = self.put("deployments", {"metadata": about, "spec": spec}, "apps", status)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": web["metadata"]["uid"]}
        sets = []
        for revision, image in (("1", "registry.example/app:0"), ("2", "registry.example/app:1")):
            labels = {"app": "web", "pod-template-hash": f"hash{revision}"}
            body = {
                "metadata": {
                    "name": f"web-{revision}",
                    "labels": labels,
                    "annotations": {note: revision},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {
                    "replicas": 2 * (revision == "2"),
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container("main", image)]}},
                },
            }
            sets.append(self.put("replicasets", body, "apps", {"replicas": 2 * (revision == "2")}))
        good = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [ready("main")]}
        self.pod("web-2-a", "node-a", good, sets[1])
        self.pod("web-2-b", "node-b", good, sets[1])
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}}
        failing = {**ready("main"), "ready": False, "restartCount": 7, "state": waiting, "lastState": ended}
        self.pod("crash-1", "node-b", {"containerStatuses": [failing]})
        begun = [{"name": "first", "state": {"running": {}}}, {"name": "second", "state": {"waiting": {}}}]
        starting = [{**each, "ready": False, "restartCount": 0, "image": "i", "imageID": ""} for each in begun]
        first, second = container("first"), container("second")
        pending = {"phase": "Pending", "initContainerStatuses": starting}
        self.pod("init-1", "node-b", pending, initContainers=[first, second])
        daemon = {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {**template, "metadata": {"labels": {"app": "agent"}}},
        }
        numbers = (
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        )
        status = {**dict.fromkeys(numbers, 1), "numberMisscheduled": 0, "observedGeneration": 1}
        agent = self.put("daemonsets", {"metadata": {"name": "agent"}, "spec": daemon}, "apps", status)
        self.pod("agent-1", "node-a", good, agent)
        budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
        allowed = {
            "disruptionsAllowed": 0,
            "currentHealthy": 2,
            "desiredHealthy": 2,
            "expectedPods": 2,
            "observedGeneration": 1,
        }
        self.put("poddisruptionbudgets", {"metadata": {"name": "web"}, "spec": budget}, "policy", allowed)
        uid = self.store.get(self.store.kind("pods"), "default", "crash-1")["metadata"]["uid"]
        event = {
            "metadata": {"name": "crash-1.1"},
            "involvedObject": {
                "kind": "Pod",
                "name": "crash-1",
                "namespace": "default",
                "apiVersion": "v1",
                "uid": uid,
            },
            "reason": "BackOff",
            "message": "Back-off restarting failed container",
            "type": "Warning",
            "count": 5,
            "firstTimestamp": timestamp(-60),
            "lastTimestamp": timestamp(),
            "source": {"component": "kubelet", "host": "node-b"},
        }
        self.put("events", event)
        lease = {"holderIdentity": "node-a", "leaseDurationSeconds": 40}
        self.put("leases", {"metadata": {"name": "node-a"}, "spec": lease}, "coordination.k8s.io")


class Hands(threading.Thread):
    """Ends pods that are on their way out, as kubelets do."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.store = server.store
        self.watch = self.store.watch(self.store.kind("pods"), resource_version="0")
        self.over = threading.Event()

    def run(self) -> None:
        kind = self.store.kind("pods")
        while not self.over.is_set():
            for event in self.watch.next(0.2):
                meta = event.obj["metadata"]
                if event.type != "DELETED" and meta.get("deletionTimestamp"):
                    try:
                        self.store.delete(kind, meta["namespace"], meta["name"], options=DeleteOptions(grace=0))
                    except ApiError as problem:
                        assert problem.code == 404

    def stop(self) -> None:
        self.over.set()
        self.watch.close()
        self.join()


MANIFESTS = {
    "app.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: main, image: "registry.example/shop:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80}]}
""",
    "crd.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rockets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: rockets, singular: rocket, kind: Rocket, shortNames: [rk]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Stages, type: integer, jsonPath: .spec.stages}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {stages: {type: integer, description: How many engines burn one after the other., minimum: 1}}
""",
    "rocket.yaml": """
apiVersion: example.com/v1
kind: Rocket
metadata: {name: saturn}
spec: {stages: 3}
""",
    "wrong.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec: {containers: [{name: main, image: i, imagePullPolcy: Never}]}
""",
}
MANIFESTS["changed.yaml"] = MANIFESTS["app.yaml"].replace("shop:1", "shop:2").replace("replicas: 1", "replicas: 3")


@pytest.fixture(scope="module")
def cluster(server: Server, kubectl: Kubectl, kubelet: int) -> Iterator[Kubectl]:
    """Give a kubectl whose cluster is filled and whose pods end."""
    World(server).fill(kubelet)
    for name, text in MANIFESTS.items():
        (kubectl.folder / name).write_text(text)
    hands = Hands(server)
    hands.start()
    yield kubectl
    hands.stop()


@pytest.mark.parametrize(("command", "outcome", "words"), rows(), ids=[each[0] for each in rows()])
def test_every_command_of_the_table_does_what_it_says(cluster: Kubectl, command: str, outcome: str, words: str) -> None:
    arguments = shlex.split(command)[1:]
    done = cluster.run(*arguments, EDITOR="sed -i s/first/second/")
    said = done.stdout + done.stderr
    # 1 is diff's way to say that there is a difference.
    assert (done.returncode == 0 or (arguments[0] == "diff" and done.returncode == 1)) == (outcome == "works"), said
    assert squeezed(words) in squeezed(said), said


def squeezed(text: str) -> str:
    """Leave out how wide columns are, and how old things are."""
    return re.sub(r"\s+", " ", re.sub(r"\b\d+(s|m\d+s|m)\b", "AGE", text)).strip()


def test_the_table_is_long_enough() -> None:
    assert len(rows()) > 80
    verbs = {shlex.split(command)[1] for command, _, _ in rows()}
    assert verbs >= {
        "get",
        "describe",
        "logs",
        "apply",
        "diff",
        "create",
        "patch",
        "label",
        "annotate",
        "taint",
        "cordon",
    }
    assert verbs >= {
        "drain",
        "wait",
        "rollout",
        "scale",
        "delete",
        "events",
        "explain",
        "auth",
        "top",
        "run",
        "edit",
        "exec",
    }


def test_the_manifests_are_yaml() -> None:
    assert all(list(yaml.safe_load_all(text)) for text in MANIFESTS.values())
