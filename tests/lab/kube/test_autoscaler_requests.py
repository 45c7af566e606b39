"""The requests of the cluster-autoscaler (1.26 to 1.36, kwok provider), with their parameters, one by one.

Read off its sources: main.go, utils/kubernetes/listers.go, utils/taints, core/scaledown/actuation,
clusterstate/utils/status.go, cloudprovider/kwok; and client-go's reflectors, leader election and event recorders.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import quote

import pytest
from test_kube_watch import Client

from leptonami.lab.kube import Server

NODES, PODS = "/api/v1/nodes", "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/kube-system/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
ENDED = "status.phase!=Succeeded,status.phase!=Failed"
INFORMERS = (
    "/api/v1/nodes",
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/api/v1/services",
    "/api/v1/replicationcontrollers",
    "/api/v1/persistentvolumes",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/namespaces/kube-system/configmaps",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/storage.k8s.io/v1/csinodes",
    "/apis/storage.k8s.io/v1/csidrivers",
    "/apis/storage.k8s.io/v1/csistoragecapacities",
    "/apis/storage.k8s.io/v1/volumeattachments",
    "/apis/resource.k8s.io/v1/resourceclaims",
    "/apis/resource.k8s.io/v1/resourceslices",
    "/apis/resource.k8s.io/v1/deviceclasses",
)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as made:
        yield made


def send(client: Client, method: str, path: str, body: Any = None, media: str = "application/json") -> tuple[int, Any]:
    accept = "application/json, */*"
    response = client.ask(method, path, body, Content_Type=media, Accept=accept, User_Agent="cluster-autoscaler/1.35")
    return response.status, json.loads(response.read())


def node(name: str) -> dict[str, Any]:
    """Give what the kwok provider creates: a template from its ConfigMap, decoded and written by Go."""
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "creationTimestamp": None,
            "labels": {"kubernetes.io/hostname": "template", "kwok-nodegroup": "ng"},
            "annotations": {"kwok.x-k8s.io/node": "fake", "cluster-autoscaler.kwok.nodegroup/name": "ng-1700000000"},
        },
        "spec": {
            "providerID": f"kwok:{name}",
            "taints": [{"key": "kwok-provider", "value": "true", "effect": "NoSchedule"}],
        },
        "status": {
            "capacity": {"cpu": "12", "memory": "32781516Ki", "nvidia.com/gpu": "1", "pods": "110"},
            "allocatable": {"cpu": "11500m", "memory": "32781516Ki", "nvidia.com/gpu": "1", "pods": "110"},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "lastHeartbeatTime": None,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "osImage"), ""),
                **dict.fromkeys(("containerRuntimeVersion", "kubeProxyVersion"), ""),
                "kubeletVersion": "fake",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }


def pod(name: str, on: str = "") -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}], **({"nodeName": on} if on else {})}
    return {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec}


def test_informers_list_with_version_0_then_watch(client: Client, server: Server) -> None:
    with ExitStack() as stack:
        watches = []
        for path in INFORMERS:
            status, found = send(client, "GET", f"{path}?limit=500&resourceVersion=0")
            assert status == 200
            assert found["kind"].endswith("List")
            query = f"allowWatchBookmarks=true&resourceVersion={found['metadata']['resourceVersion']}&watch=true"
            watching = stack.enter_context(closing(Client(server)))
            watches.append(watching.ask("GET", f"{path}?{query}&timeoutSeconds=1"))
        for each in watches:
            [last] = each.read().splitlines()
            assert json.loads(last)["type"] == "BOOKMARK", "a watch ends at its time, with a bookmark and no error"


@pytest.mark.parametrize("path", INFORMERS[:2])
def test_watch_list_of_client_go_1_35(client: Client, path: str) -> None:
    send(client, "POST", NODES, node("first"))
    send(client, "POST", PODS, pod("first"))
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&watch=true"
    kinds = []
    for kind, obj in client.events(f"{path}?{query}"):
        kinds.append(kind)
        if obj["metadata"].get("annotations", {}).get("k8s.io/initial-events-end") == "true":
            break
    client.close()
    assert kinds == ["ADDED"] * (len(kinds) - 1) + ["BOOKMARK"] != ["BOOKMARK"]


def test_pod_listers_select_by_node_name_and_phase(client: Client) -> None:
    send(client, "POST", PODS, pod("waits"))
    send(client, "POST", PODS, pod("runs", on="somewhere"))
    names = {}
    for selector in (f"spec.nodeName=,{ENDED}", f"spec.nodeName!=,{ENDED}", ENDED):
        found = client.get(f"/api/v1/pods?limit=500&resourceVersion=0&fieldSelector={quote(selector)}")
        names[selector[:15]] = {each["metadata"]["name"] for each in found["items"]} & {"waits", "runs"}
    assert list(names.values()) == [{"waits"}, {"runs"}, {"waits", "runs"}]


def test_kwok_creates_a_node_with_its_status_and_deletes_it(client: Client) -> None:
    status, made = send(client, "POST", NODES, node("kwok-1"))
    assert status == 201
    assert made["status"]["allocatable"] == node("")["status"]["allocatable"]
    assert made["status"]["conditions"][0]["status"] == "True"
    # Its templates may be nodes of the cluster, cleaned of version, uid and time only.
    copy = {**made, "metadata": {key: made["metadata"][key] for key in ("labels", "annotations", "managedFields")}}
    copy["metadata"]["name"] = "kwok-2"
    assert send(client, "POST", NODES, copy)[0] == 201
    assert send(client, "POST", NODES, node("kwok-1"))[1]["reason"] == "AlreadyExists"
    assert send(client, "DELETE", f"{NODES}/kwok-1", {"kind": "DeleteOptions", "apiVersion": "v1"})[0] == 200
    assert send(client, "GET", f"{NODES}/kwok-1")[1]["reason"] == "NotFound"
    assert send(client, "DELETE", f"{NODES}/kwok-1")[1]["reason"] == "NotFound"


def test_taints_are_put_and_taken_by_updates_that_conflict(client: Client) -> None:
    send(client, "POST", NODES, node("tainted"))
    _, old = send(client, "GET", f"{NODES}/tainted")
    for key in ("DeletionCandidateOfClusterAutoscaler", "ToBeDeletedByClusterAutoscaler"):
        _, now = send(client, "GET", f"{NODES}/tainted")
        now["spec"]["taints"].append({"key": key, "value": "1700000000", "effect": "NoSchedule"})
        now["spec"]["unschedulable"] = True
        status, now = send(client, "PUT", f"{NODES}/tainted", now)
        assert (status, now["spec"]["taints"][-1]["key"]) == (200, key)
    status, problem = send(client, "PUT", f"{NODES}/tainted", old)
    assert (status, problem["reason"], problem["details"]["kind"]) == (409, "Conflict", "nodes")
    assert send(client, "PUT", f"{NODES}/tainted", {**now, "spec": old["spec"]})[1]["spec"] == old["spec"]
    assert now["status"] == old["status"], "an update of the node leaves its status"


def budget(allowed: int) -> dict[str, Any]:
    return {
        "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 1, "currentHealthy": 1}
    }


@pytest.mark.parametrize("version", ["policy/v1", "policy/v1beta1"])
def test_eviction_of_either_version_asks_the_budget(client: Client, version: str) -> None:
    name, budgets = version.replace("/", "-"), "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    send(client, "POST", PODS, pod(name, on="somewhere"))
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    send(client, "PATCH", f"{PODS}/{name}/status", running, "application/merge-patch+json")
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    assert send(client, "POST", budgets, {"metadata": {"name": name}, "spec": spec})[0] == 201
    send(client, "PATCH", f"{budgets}/{name}/status", budget(0), "application/merge-patch+json")
    about = {"name": name, "namespace": "default", "creationTimestamp": None}
    body = {"kind": "Eviction", "apiVersion": version, "metadata": about, "deleteOptions": {"gracePeriodSeconds": 17}}
    status, problem = send(client, "POST", f"{PODS}/{name}/eviction", body)
    assert (status, problem["reason"]) == (429, "TooManyRequests")
    assert problem["details"]["causes"][0]["reason"] == "DisruptionBudget"
    send(client, "PATCH", f"{budgets}/{name}/status", budget(1), "application/merge-patch+json")
    assert send(client, "POST", f"{PODS}/{name}/eviction", body)[0] == 201
    assert client.get(f"{PODS}/{name}")["metadata"]["deletionGracePeriodSeconds"] == 17
    send(client, "DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
    assert send(client, "POST", f"{PODS}/{name}/eviction", body)[1]["reason"] == "NotFound"
    send(client, "DELETE", f"{budgets}/{name}")


def part(number: int, content: bytes | int) -> bytes:
    """Write a field of a protobuf message that is shorter than 128 bytes."""
    return (
        bytes([number << 3, content]) if isinstance(content, int) else bytes([number << 3 | 2, len(content)]) + content
    )


def message(version: str, kind: str, content: bytes) -> bytes:
    return b"k8s\0" + part(1, part(1, version.encode()) + part(2, kind.encode())) + part(2, content)


def test_protobuf_which_it_sends_unless_told_otherwise(client: Client) -> None:
    media = "application/vnd.kubernetes.protobuf"
    handler = part(1, b"runc") + part(2, part(1, 1))
    about = part(10, part(1, b"v") + part(2, b"/dev/x")) + part(12, handler) + part(13, part(1, 0))
    status, made = send(client, "POST", NODES, message("v1", "Node", part(1, part(1, b"pb")) + part(3, about)), media)
    assert status == 201, made
    assert made["status"]["volumesAttached"] == [{"name": "v", "devicePath": "/dev/x"}]
    assert made["status"]["runtimeHandlers"] == [{"name": "runc", "features": {"recursiveReadOnlyMounts": True}}]
    assert made["status"]["features"] == {"supplementalGroupsPolicy": False}
    send(client, "POST", PODS, pod("pb", on="somewhere"))
    body = part(1, part(1, b"pb") + part(3, b"default")) + part(2, part(1, 19))
    assert send(client, "POST", f"{PODS}/pb/eviction", message("policy/v1beta1", "Eviction", body), media)[0] == 201
    assert client.get(f"{PODS}/pb")["metadata"]["deletionGracePeriodSeconds"] == 19


def test_leader_election_on_a_lease(client: Client) -> None:
    path = f"{LEASES}/cluster-autoscaler"
    assert send(client, "GET", path)[1]["reason"] == "NotFound"
    times = {"acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"}
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0, **times}
    about = {"name": "cluster-autoscaler", "namespace": "kube-system", "creationTimestamp": None}
    lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": about, "spec": spec}
    assert send(client, "POST", LEASES, lease)[0] == 201
    assert send(client, "POST", LEASES, lease)[1]["reason"] == "AlreadyExists"
    _, held = send(client, "GET", path)
    assert held["spec"] == spec, "the times keep their microseconds"
    status, renewed = send(client, "PUT", path, {**held, "spec": {**spec, "renewTime": "2026-01-01T00:00:02.000001Z"}})
    assert (status, renewed["spec"]["renewTime"]) == (200, "2026-01-01T00:00:02.000001Z")
    assert send(client, "PUT", path, {**held, "spec": {**spec, "holderIdentity": "two"}})[1]["reason"] == "Conflict"


def test_status_config_map_is_created_and_updated(client: Client) -> None:
    path = f"{MAPS}/cluster-autoscaler-status"
    assert send(client, "GET", path)[1]["reason"] == "NotFound"
    about = {"name": "cluster-autoscaler-status", "namespace": "kube-system", "creationTimestamp": None}
    _, made = send(client, "POST", MAPS, {"metadata": about, "data": {"status": "Initializing"}})
    note = {"cluster-autoscaler.kubernetes.io/last-updated": "2026-01-01 00:00:00.5 +0000 UTC"}
    told = {**made, "metadata": {**made["metadata"], "annotations": note}, "data": {"status": "time: now\n"}}
    assert send(client, "PUT", path, told)[1]["data"] == {"status": "time: now\n"}
    assert send(client, "PUT", path, told)[1]["reason"] == "Conflict"


def test_events_are_created_and_their_count_patched(client: Client) -> None:
    path = "/api/v1/namespaces/default/events"
    event = {
        "metadata": {"name": "first.17f", "namespace": "default", "creationTimestamp": None},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "first", "apiVersion": "v1", "uid": "u"},
        "reason": "TriggeredScaleUp",
        "message": "pod triggered scale-up",
        "source": {"component": "cluster-autoscaler"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "type": "Normal",
        "eventTime": None,
        "reportingComponent": "cluster-autoscaler",
        "reportingInstance": "",
    }
    assert send(client, "POST", path, event)[0] == 201
    patch = {"count": 2, "lastTimestamp": "2026-01-01T00:00:09Z"}
    status, told = send(client, "PATCH", f"{path}/first.17f", patch, "application/strategic-merge-patch+json")
    assert (status, told["count"], told["message"]) == (200, 2, "pod triggered scale-up")
    same = client.get("/apis/events.k8s.io/v1/namespaces/default/events/first.17f")
    assert (same["note"], same["deprecatedCount"]) == ("pod triggered scale-up", 2)


def test_what_makes_no_sense_is_refused_and_leaves_nothing(client: Client) -> None:
    bodies: tuple[Any, ...] = (
        {"metadata": None},
        {"metadata": {"name": 1}},
        {"metadata": {"generateName": 5}},
        {"kind": 5, "apiVersion": 6, "metadata": {"name": "q"}},
        {"metadata": {"name": "q", "ownerReferences": [1]}},
        {"metadata": {"name": "q", "ownerReferences": [{}]}},
    )
    for path in (PODS, NODES, MAPS, "/api/v1/namespaces", "/apis/batch/v1/namespaces/default/jobs"):
        assert {send(client, "POST", path, each)[0] for each in bodies} <= {400, 422}
        assert send(client, "GET", f"{path}/q")[0] == 404
    for media, patch in (
        ("application/json-patch+json", "x"),
        ("application/strategic-merge-patch+json", {"metadata": {"ownerReferences": [1]}}),
    ):
        body = json.dumps(patch).encode()
        assert send(client, "PATCH", "/api/v1/namespaces/default", body, media)[0] == 400
    for options in ({"preconditions": 5}, {"gracePeriodSeconds": "x"}, {"propagationPolicy": []}, {"dryRun": "All"}):
        assert send(client, "DELETE", f"{PODS}/none", options)[0] == 400
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert send(client, "POST", reviews, {"metadata": "x"})[0] == 400
    odd = {"fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": 1}}, "manager": "x", "operation": "Apply"}
    status, made = send(client, "POST", MAPS, {"metadata": {"name": "odd", "managedFields": [odd]}, "data": {"a": "b"}})
    assert (status, made["data"]) == (201, {"a": "b"})
