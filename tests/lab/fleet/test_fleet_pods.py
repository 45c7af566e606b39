"""Kubelets: what happens to a pod is what the documentation of Kubernetes says, and events say it in its words."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from fleets import Rig, ready, rig, state, until

from leptonami.lab.fleet.api import Refused
from leptonami.lab.fleet.behaviours import ANNOTATION, Life, Step, exited
from leptonami.lab.fleet.podstatus import news

DONE = {"Succeeded", "Failed"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Give a cluster with one node."""
    with rig(tmp_path_factory.mktemp("fleet")) as found:
        found.kwok()
        yield found


def condition(pod: Any, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in pod["status"]["conditions"] if each["type"] == kind)
    return found


def test_a_pod_runs_and_its_events_tell_the_way(one: Rig) -> None:
    one.pod("plain", {"image": "docker.io/example/plain:1"})
    pod = one.wait_pod("plain", ready)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"] != pod["status"]["hostIP"]
    assert pod["status"]["startTime"]
    kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    assert {each["type"] for each in pod["status"]["conditions"] if each["status"] == "True"} == set(kinds)
    events = until(lambda: len(found := one.said("plain")) == 4 and found)
    assert [reason for reason, _ in events] == ["Pulling", "Pulled", "Created", "Started"]
    assert events[0][1] == 'Pulling image "docker.io/example/plain:1"'
    took = r"\d[\dm.s]*s"
    assert re.fullmatch(
        rf'Successfully pulled image "docker.io/example/plain:1" in {took} \({took} including waiting\)\. '
        r"Image size: 67108864 bytes\.",
        events[1][1],
    )
    assert events[2:] == [("Created", "Created container: main"), ("Started", "Started container main")]
    first = one.events("plain")[1]
    assert first["involvedObject"]["fieldPath"] == "spec.containers{main}"
    # What the fleet makes says that it is simulated.
    assert first["metadata"]["annotations"] == {"lab.leptonami.dev/simulated": "true"}
    assert pod["metadata"]["annotations"] == {"lab.leptonami.dev/simulated": "true"}
    assert first["reportingComponent"] == "lab.leptonami.dev/kubelet"


def test_what_has_not_changed_is_not_written_again(one: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one.pod("settled")
    one.wait_pod("settled", ready)
    before = one.seen("settled")
    asked: list[str] = []
    ask = one.fleet.cluster.api.ask
    monkeypatch.setattr(one.fleet.cluster.api, "ask", lambda *all: (asked.append(all[1]), ask(*all))[1])
    path = "/api/v1/namespaces/default/pods/settled"
    one.ask("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, "application/merge-patch+json")
    one.pod("another")
    one.wait_pod("another", ready)
    assert any("another" in each for each in asked)
    assert not [each for each in asked if each.startswith(path)]
    assert one.seen("settled")["status"] == before["status"]
    # Real API servers give conditions a null where this one gives nothing.
    with_null = {"conditions": [{"type": "Ready", "lastProbeTime": None}], "phase": "Running"}
    assert news(with_null, {"conditions": [{"type": "Ready"}], "phase": "Running"}) == {}
    assert news(with_null, {"phase": "Failed"}) == {"phase": "Failed"}


def test_the_second_pod_finds_the_image_and_the_node_lists_it(one: Rig) -> None:
    one.pod("first", {"image": "docker.io/example/twice:1"})
    one.wait_pod("first", ready)
    one.pod("second", {"image": "example/twice:1"})  # the same image by its short name
    one.wait_pod("second", ready)
    said = until(lambda: len(found := one.said("second")) == 3 and found)
    assert said[0] == ("Pulled", 'Container image "example/twice:1" already present on machine')
    images = until(
        lambda: [
            each
            for each in one.get("/api/v1/nodes/node-1")["status"].get("images", [])
            if "docker.io/example/twice:1" in each["names"]
        ]
    )
    assert images[0]["sizeBytes"] == 64 << 20
    assert images[0]["names"][0].startswith("docker.io/example/twice@sha256:")


def test_a_policy_of_never_does_not_pull(one: Rig) -> None:
    one.pod("never", {"image": "example/absent:1", "imagePullPolicy": "Never"})
    pod = one.wait_pod("never", lambda pod: state(pod).get("waiting", {}).get("reason") == "ErrImageNeverPull")
    message = 'Container image "example/absent:1" is not present with pull policy of Never'
    assert state(pod)["waiting"]["message"] == message
    assert "Pulling" not in {reason for reason, _ in one.said("never")}


def test_a_container_that_fails_is_started_again_later_and_later(one: Rig) -> None:
    one.pod("crash", {"command": ["sh", "-c", "echo boom; exit 3"]})
    pod = one.wait_pod("crash", lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 3)
    waiting = until(lambda: state(one.seen("crash")).get("waiting"))
    assert waiting["reason"] == "CrashLoopBackOff"
    uid = pod["metadata"]["uid"]
    assert re.fullmatch(
        rf"back-off (10s|20s|40s|1m20s|2m40s|5m0s) restarting failed container=main pod=crash_default\({uid}\)",
        waiting["message"],
    )
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    back_off = f"Back-off restarting failed container main in pod crash_default({uid})"
    assert ("BackOff", back_off) in one.said("crash")
    assert one.log("crash") == "boom\n"
    assert one.log("crash", "previous=true") == "boom\n"
    assert not ready(pod)


def test_init_containers_run_in_order_and_a_sidecar_stays(one: Rig) -> None:
    one.pod(
        "inits",
        {"name": "main"},
        initContainers=[
            {"name": "a", "image": "busybox", "command": ["echo", "a"]},
            {"name": "side", "image": "busybox", "restartPolicy": "Always"},
            {"name": "b", "image": "busybox", "command": ["sh", "-c", "sleep 5; echo b"]},
        ],
    )
    pod = one.wait_pod("inits", ready)
    assert state(pod, "a")["terminated"]["reason"] == "Completed"
    assert "running" in state(pod, "side")
    started = [e["involvedObject"]["fieldPath"] for e in one.events("inits") if e["reason"] == "Started"]
    assert started == [
        *(f"spec.initContainers{{{name}}}" for name in ("a", "side", "b")),
        "spec.containers{main}",
    ]


def test_an_init_container_that_fails_for_good_fails_the_pod(one: Rig) -> None:
    one.pod(
        "badinit",
        {"name": "main"},
        initContainers=[{"name": "a", "image": "busybox", "command": ["false"]}],
        restartPolicy="Never",
    )
    pod = one.wait_pod("badinit", lambda pod: pod["status"]["phase"] == "Failed")
    assert state(pod)["waiting"]["reason"] == "PodInitializing"
    assert condition(pod, "Initialized")["message"] == "containers with incomplete status: [a]"


@pytest.mark.parametrize(
    ("command", "policy", "phase"),
    [("true", "Never", "Succeeded"), ("false", "Never", "Failed"), ("true", "OnFailure", "Succeeded")],
)
def test_a_pod_that_ends_is_over(one: Rig, command: str, policy: str, phase: str) -> None:
    name = f"ends-{command}-{policy.lower()}"
    one.pod(name, {"command": [command]}, restartPolicy=policy)
    pod = one.wait_pod(name, lambda pod: pod["status"]["phase"] in DONE)
    assert pod["status"]["phase"] == phase
    assert condition(pod, "Ready")["reason"] == ("PodCompleted" if phase == "Succeeded" else "PodFailed")
    # It goes at once when it is deleted: nothing runs any more.
    one.ask("DELETE", f"/api/v1/namespaces/default/pods/{name}")
    until(lambda: one.seen(name) is None)


def test_readiness_comes_with_its_probe(one: Rig) -> None:
    probe = {"httpGet": {"port": 80}, "initialDelaySeconds": 200, "periodSeconds": 10}
    pod = next(each for each in one.life(one.pod("slow", {"readinessProbe": probe}), ready) if "running" in state(each))
    assert not ready(pod)
    assert condition(pod, "Ready")["message"] == "containers with unready status: [main]"


def test_deletion_stops_the_containers_first(one: Rig) -> None:
    one.pod("goes")
    one.wait_pod("goes", ready)
    answer = one.ask("DELETE", "/api/v1/namespaces/default/pods/goes")
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 30
    until(lambda: one.seen("goes") is None)
    until(lambda: ("Killing", "Stopping container main") in one.said("goes"))


def test_a_pod_that_is_made_anew_under_the_same_name_is_another(one: Rig) -> None:
    one.pod("same")
    before = one.wait_pod("same", ready)
    one.ask("DELETE", "/api/v1/namespaces/default/pods/same", {"gracePeriodSeconds": 0})
    until(lambda: one.seen("same") is None)
    one.pod("same")
    after = one.wait_pod("same", ready)
    assert (
        before["status"]["containerStatuses"][0]["containerID"]
        != after["status"]["containerStatuses"][0]["containerID"]
    )


def test_taints_that_do_not_let_stay_evict(one: Rig) -> None:
    one.kwok("tainted")
    pinned = {"nodeName": "tainted"}
    own = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute"}
    one.pod("goes-now", **pinned)
    one.pod("goes-later", **pinned, tolerations=[{**own, "tolerationSeconds": 400}])
    one.pod("stays", **pinned, tolerations=[own])
    for name in ("goes-now", "goes-later", "stays"):
        one.wait_pod(name, ready)
    taint = {"spec": {"taints": [{"key": "maintenance", "effect": "NoExecute"}]}}
    begun, marked = time.monotonic(), dict[str, float]()

    def gone(event: dict[str, Any]) -> bool:
        about = event["object"]["metadata"]
        if "deletionTimestamp" in about:
            marked.setdefault(about["name"], time.monotonic() - begun)
        return event["type"] == "DELETED" and about["name"] == "goes-later"

    tainted = one.ask("PATCH", "/api/v1/nodes/tainted", taint, "application/merge-patch+json")
    one.story(tainted["metadata"]["resourceVersion"], gone)
    assert list(marked) == ["goes-now", "goes-later"] and marked["goes-later"] >= 400 / 200
    until(lambda: one.seen("goes-now") is None)
    assert "deletionTimestamp" not in one.seen("stays")["metadata"]
    said = one.said("goes-now", component="taint-eviction-controller")
    assert said == [("TaintManagerEviction", "Marking for deletion Pod default/goes-now")]


def test_host_network_pods_have_the_nodes_address(one: Rig) -> None:
    one.pod("host", hostNetwork=True)
    pod = one.wait_pod("host", ready)
    assert pod["status"]["podIP"] == pod["status"]["hostIP"]


class Waking:
    """Loads for a while, then serves, then fails."""

    def outcome(self, life: Life, now: float) -> Step:
        match life.steps:
            case 0:
                return Step(seconds=100, ready=False, log=("loading",))
            case 1:
                return Step(seconds=300, log=(f"serving after {now - life.started:.0f} s",))
        return exited(2, "lost", message="gave up")


class Never:
    """Cannot be started."""

    def outcome(self, life: Life, now: float) -> Step:
        return exited(128, reason="StartError", message="failed to create containerd task: no such file")


def test_behaviours_say_what_containers_do(one: Rig) -> None:
    behaviours = one.fleet.kubelets.behaviours
    behaviours.register(Waking(), image="example/waking:*")
    behaviours.register(Never(), name="never-starts")
    made = one.pod("waking", {"image": "example/waking:1"}, restartPolicy="Never")
    life = one.life(made, lambda pod: pod.get("status", {}).get("phase") == "Failed")
    running = [ready(pod) for pod in life if "running" in state(pod)]
    assert not running[0] and running[-1]
    assert state(life[-1])["terminated"]["message"] == "gave up"
    lines = one.log("waking").splitlines()
    assert lines[0] == "loading"
    assert re.fullmatch(r"serving after [1-9]\d\d+ s", lines[1])
    assert lines[2:] == ["lost"]
    about = {"name": "unstartable", "namespace": "default", "annotations": {ANNOTATION: "never-starts"}}
    spec = {"containers": [{"name": "main", "image": "nginx:1.27"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}
    one.ask("POST", "/api/v1/namespaces/default/pods", body)
    said = until(lambda: [each for each in one.said("unstartable") if each[0] == "Failed"])
    assert said[0][1] == "Error: failed to create containerd task: no such file"
    assert "Started" not in {reason for reason, _ in one.said("unstartable")}


def test_nodes_may_refuse_pods_and_sandboxes(one: Rig) -> None:
    behaviours = one.fleet.kubelets.behaviours
    asked: list[str] = []

    def admission(pod: Any, node: Any) -> str:
        return "Allocate failed, which is unexpected" if pod["metadata"]["name"] == "refused" else ""

    def sandbox(pod: Any, node: Any) -> str:
        name = pod["metadata"]["name"]
        asked.append(name)
        return 'no runtime for "nvidia" is configured' if name == "boxless" and asked.count(name) < 3 else ""

    behaviours.admission.append(admission)
    behaviours.sandbox.append(sandbox)
    try:
        one.pod("refused")
        pod = one.wait_pod("refused", lambda pod: pod["status"]["phase"] == "Failed")
        assert pod["status"]["reason"] == "UnexpectedAdmissionError"
        one.pod("boxless")
        one.wait_pod("boxless", ready)
        message = 'Failed to create pod sandbox: no runtime for "nvidia" is configured'
        events = [each for each in one.events("boxless") if each["reason"] == "FailedCreatePodSandBox"]
        assert [(each["message"], each["count"]) for each in events] == [(message, 2)]
    finally:
        behaviours.admission.remove(admission)
        behaviours.sandbox.remove(sandbox)


class Talking:
    """Says something, and then something else when it is to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def outcome(self, life: Life, now: float) -> Step:
        if self.go_on.is_set():
            return exited(0, "three")
        return Step(seconds=10, log=() if life.steps else ("one", "two"))


def test_logs_can_be_cut_stamped_and_followed(one: Rig) -> None:
    talking = Talking()
    one.fleet.kubelets.behaviours.register(talking, image="example/talks:*")
    one.pod("talks", {"image": "example/talks:1"}, restartPolicy="Never")
    one.wait_pod("talks", lambda pod: "running" in state(pod))
    assert one.log("talks", "tailLines=1") == "two\n"
    assert one.log("talks", "tailLines=0") == ""
    stamped = one.log("talks", "timestamps=true").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z one", stamped[0])
    # Of the kubelet itself: it ends when the container does.
    place = f"http://127.0.0.1:{one.fleet.port}/containerLogs/default/talks/main?follow=true&tailLines=1"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(place, timeout=120) as answer:
        assert answer.readline() == b"two\n"
        talking.go_on.set()
        assert answer.read() == b"three\n"


def test_logs_that_are_not_there_are_refused_in_the_kubelets_words(one: Rig) -> None:
    one.pod("waits", {"image": "example/absent:2", "imagePullPolicy": "Never"})
    one.wait_pod("waits", lambda pod: state(pod).get("waiting", {}).get("reason") == "ErrImageNeverPull")
    with pytest.raises(
        Refused, match='container "main" in pod "waits" is waiting to start: trying and failing to pull'
    ):
        one.log("waits")
    one.pod("young")
    one.wait_pod("young", ready)
    with pytest.raises(Refused, match='previous terminated container "main" in pod "young" not found'):
        one.log("young", "previous=true")
    with pytest.raises(Refused, match="cannot be read"):
        one.log("young", "tailLines=many")
