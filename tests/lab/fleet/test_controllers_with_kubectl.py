"""The controllers and the scheduler on the lab's API server, as kubectl sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fleetworld import node, pod, workload
from simplekubelet import SimpleKubelet

from leptonami.lab import kube
from leptonami.lab.fleet.api import connect
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.controllers import PLURALS, Workloads
from leptonami.lab.fleet.loop import Clock, Loop
from leptonami.lab.fleet.scheduler import Scheduler

KUBECTL = Path(sys.executable).parent / "kubectl"
LATE_S = 120.0  # on however busy a machine


@dataclass
class Fleet:
    """A cluster with three nodes, and kubectl for it. A pod with the label `broken` never becomes ready."""

    kubeconfig: Path
    complaints: list[str] = field(default_factory=list)

    def __call__(self, *words: str, stdin: Any = None, fails: bool = False) -> str:
        done = subprocess.run(
            [str(KUBECTL), *words],
            input=None if stdin is None else json.dumps(stdin),
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=LATE_S,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def get(self, *words: str) -> Any:
        return json.loads(self("get", *words, "-o", "json"))

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + LATE_S
        while not holds():
            assert time.monotonic() < end, f"still not so; {self.complaints}"
            time.sleep(0.1)

    def images(self, app: str) -> dict[str, set[str]]:
        """Give which images an app's pods run on which nodes; one that is told to go may still be listed."""
        found: dict[str, set[str]] = {}
        for each in self.get("pods", "-l", f"app={app}")["items"]:
            if "deletionTimestamp" not in each["metadata"]:
                image = each["spec"]["containers"][0]["image"]
                found.setdefault(image, set()).add(each["spec"]["nodeName"])
        return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("fleet") / "kubeconfig"
    with kube.start() as server:
        path.write_text(json.dumps(server.kubeconfig()))
        path.chmod(0o600)
        cluster = Cluster(connect(path), PLURALS)
        cluster.start()
        found, clock, stop = Fleet(path), Clock(1.0), threading.Event()
        kubelet = SimpleKubelet(clock, ready=lambda pod: "broken" not in pod["metadata"].get("labels", {}))
        loop = Loop(cluster, clock, [Scheduler(clock), Workloads(clock), kubelet], found.complaints.append)
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        try:
            found.apply(*(node(f"node-{number}", cpu="16") for number in range(3)))
            yield found
        finally:
            stop.set()
            cluster.changed.set()
            thread.join(LATE_S)
            cluster.close()
    assert found.complaints == []


def test_a_deployment_is_rolled_undone_restarted_paused_and_scaled(fleet: Fleet) -> None:
    fleet.apply(workload("Deployment", "web", image="lab/web:1", replicas=3))
    assert "successfully rolled out" in fleet("rollout", "status", "deployment/web", "--timeout=60s")
    fleet("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    fleet("set", "image", "deployment/web", "main=lab/web:2")
    fleet("rollout", "status", "deployment/web", "--timeout=60s")
    assert [line.split()[0] for line in fleet("rollout", "history", "deployment/web").splitlines()[2:4]] == ["1", "2"]
    assert "lab/web:1" in fleet("rollout", "history", "deployment/web", "--revision=1")
    fleet("rollout", "undo", "deployment/web")
    fleet("rollout", "status", "deployment/web", "--timeout=60s")
    assert fleet.images("web").keys() == {"lab/web:1"}
    fleet("rollout", "restart", "deployment/web")
    fleet("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(fleet.get("replicasets", "-l", "app=web")["items"]) == 3
    fleet("rollout", "pause", "deployment/web")
    fleet("scale", "deployment/web", "--replicas=5")
    fleet("wait", "--for=jsonpath={.status.readyReplicas}=5", "deployment/web", "--timeout=60s")
    fleet("rollout", "resume", "deployment/web")
    text = fleet("describe", "deployment", "web")
    assert (
        "Scaled up replica set web-" in text and "5 desired | 5 updated | 5 total | 5 available | 0 unavailable" in text
    )
    lost = fleet.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    fleet("delete", "pod", lost, "--timeout=60s")
    fleet("wait", "--for=jsonpath={.status.readyReplicas}=5", "deployment/web", "--timeout=60s")
    fleet("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
    assert fleet.get("pods,replicasets", "-l", "app=web")["items"] == []


def test_statuses_say_that_they_are_simulated_and_nobody_is_disturbed(fleet: Fleet) -> None:
    made = [
        workload("Deployment", "marked"),
        workload("DaemonSet", "marked"),
        workload("Job", "marked", template={"restartPolicy": "Never"}),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "marked", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "marked"}}},
        },
    ]
    fleet.apply(*made)
    for each in ("deployment", "daemonset"):
        fleet("rollout", "status", f"{each}/marked", "--timeout=60s")
    fleet.until(lambda: fleet.get("job", "marked")["status"].get("ready"))

    def versions() -> dict[str, str] | None:
        found = fleet.get("deployments,replicasets,daemonsets,jobs,pdb")["items"]
        notes = [each["metadata"]["annotations"].get("lab.leptonami.dev/simulated") for each in found]
        # Notes come with the status: they are no change of what somebody wants.
        assert {each["metadata"]["generation"] for each in found} == {1}
        held = {each["kind"]: each["metadata"]["resourceVersion"] for each in found}
        return held if notes == ["true"] * 5 else None

    fleet.until(versions)
    pods = len(fleet.get("pods", "-l", "app=marked")["items"])
    fleet.until(lambda: fleet.get("pdb", "marked")["status"].get("currentHealthy") == pods)
    before = versions()
    manifest = {"apiVersion": "v1", "kind": "List", "items": made}
    assert fleet("diff", "-f", "-", stdin=manifest) == ""
    # Of a budget kubectl always says that it is configured: a patch of its selector replaces it, by the same here.
    said = [line.split()[-1] for line in fleet("apply", "-f", "-", stdin=manifest).splitlines()]
    assert said == ["unchanged", "unchanged", "unchanged", "configured"]
    assert versions() == before
    fleet("delete", "deployment,daemonset,job,pdb", "marked")


def test_a_roll_out_that_hangs_is_told_and_can_be_undone(fleet: Fleet) -> None:
    fleet.apply(workload("Deployment", "hang", replicas=2))
    fleet("rollout", "status", "deployment/hang", "--timeout=60s")
    # Only of this one: the others come through, however long that takes here.
    broken = {"spec": {"progressDeadlineSeconds": 2, "template": {"metadata": {"labels": {"broken": "yes"}}}}}
    fleet("patch", "deployment", "hang", "-p", json.dumps(broken))
    assert "exceeded its progress deadline" in fleet(
        "rollout", "status", "deployment/hang", "--timeout=60s", fails=True
    )
    fleet("patch", "deployment", "hang", "-p", '{"spec": {"progressDeadlineSeconds": 600}}')
    fleet("rollout", "undo", "deployment/hang")
    fleet("rollout", "status", "deployment/hang", "--timeout=60s")
    fleet("delete", "deployment", "hang")


def test_a_daemonset_is_on_every_node_and_rolled(fleet: Fleet) -> None:
    fleet.apply(workload("DaemonSet", "plugin", image="lab/plugin:1"))
    assert "successfully rolled out" in fleet("rollout", "status", "daemonset/plugin", "--timeout=60s")
    fleet("set", "image", "daemonset/plugin", "main=lab/plugin:2")
    fleet("rollout", "status", "daemonset/plugin", "--timeout=60s")
    assert "lab/plugin:1" in fleet("rollout", "history", "daemonset/plugin", "--revision=1")
    fleet("rollout", "undo", "daemonset/plugin")
    fleet("rollout", "status", "daemonset/plugin", "--timeout=60s")
    assert fleet.images("plugin") == {"lab/plugin:1": {"node-0", "node-1", "node-2"}}
    fleet.apply(node("node-3"))
    fleet.until(lambda: fleet.get("daemonset", "plugin")["status"].get("numberReady") == 4)
    fleet("delete", "node", "node-3")
    fleet.until(lambda: fleet.get("daemonset", "plugin")["status"]["desiredNumberScheduled"] == 3)
    fleet("delete", "daemonset", "plugin")


def test_a_job_ends_and_its_pods_go_with_it(fleet: Fleet) -> None:
    fleet.apply(workload("Job", "train", completions=2, template={"restartPolicy": "Never"}))
    fleet.until(lambda: fleet.get("job", "train")["status"].get("ready"))
    for done in range(2):
        fleet.until(lambda: running(fleet))
        fleet(
            "patch",
            "pod",
            *running(fleet),
            "--subresource=status",
            "-p",
            json.dumps({"status": {"phase": "Succeeded"}}),
        )
        fleet.until(lambda done=done: fleet.get("job", "train")["status"].get("succeeded") == done + 1)  # type: ignore[misc]
    fleet("wait", "--for=condition=Complete", "job/train", "--timeout=60s")
    assert fleet.get("job", "train")["status"]["succeeded"] == 2
    assert "Completed" in fleet("describe", "job", "train")
    fleet("delete", "job", "train", "--timeout=60s")
    fleet.until(lambda: fleet.get("pods", "-l", "job-name=train")["items"] == [])


def running(fleet: Fleet) -> list[str]:
    pods = fleet.get("pods", "-l", "job-name=train")["items"]
    return [each["metadata"]["name"] for each in pods if each.get("status", {}).get("phase") == "Running"]


def test_drain_is_held_up_by_a_budget_and_let_go(fleet: Fleet) -> None:
    fleet.apply(
        workload("Deployment", "kept", replicas=3),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "kept", "namespace": "default"},
            "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "kept"}}},
        },
    )
    fleet("rollout", "status", "deployment/kept", "--timeout=60s")
    fleet("wait", "--for=jsonpath={.status.currentHealthy}=3", "pdb/kept", "--timeout=60s")
    host = fleet.get("pods", "-l", "app=kept")["items"][0]["spec"]["nodeName"]
    drain = ("drain", host, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    assert "would violate the pod's disruption budget" in fleet(*drain, "--timeout=3s", fails=True)
    fleet("patch", "pdb", "kept", "-p", json.dumps({"spec": {"minAvailable": 2}}))
    fleet("wait", "--for=jsonpath={.status.disruptionsAllowed}=1", "pdb/kept", "--timeout=60s")  # else drain rests 5 s
    assert "drained" in fleet(*drain, "--timeout=60s")
    fleet("rollout", "status", "deployment/kept", "--timeout=60s")
    assert host not in {each["spec"]["nodeName"] for each in fleet.get("pods", "-l", "app=kept")["items"]}
    fleet("uncordon", host)
    fleet("delete", "deployment,pdb", "kept")


def test_what_cannot_be_scheduled_says_why(fleet: Fleet) -> None:
    fleet.apply(
        pod(
            "gpu",
            requests={},
            containers=[{"name": "m", "image": "lab/m", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        )
    )
    fleet("wait", "--for=condition=PodScheduled=False", "pod/gpu", "--timeout=60s")
    [found] = [each for each in fleet.get("pod", "gpu")["status"]["conditions"] if each["type"] == "PodScheduled"]
    assert found["reason"] == "Unschedulable"
    assert found["message"].startswith("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes")
    fleet.until(lambda: "FailedScheduling" in fleet("events", "--for", "pod/gpu"))
    fleet.apply(node("gpu-node", **{"nvidia.com__gpu": "1"}))
    fleet("wait", "--for=condition=Ready", "pod/gpu", "--timeout=60s")
    fleet.until(lambda: "Successfully assigned default/gpu to gpu-node" in fleet("events", "--for", "pod/gpu"))
    fleet("delete", "pod", "gpu", "--timeout=60s")
    fleet("delete", "node", "gpu-node")
