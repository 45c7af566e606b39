"""From instance to Node: phases, labels, taints, user data, the end of an instance; and Nodes that others made."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleets import Rig, custom, machine, ready, rig, untainted, until

from leptonami.lab.fleet import heartbeats
from leptonami.lab.fleet.api import Refused, events
from leptonami.lab.fleet.images import Image, Root
from leptonami.lab.fleet.kwok import Adoption
from leptonami.lab.fleet.launch import model
from leptonami.lab.fleet.nodes import Machine
from leptonami.lab.fleet.scheduler import Scheduler

CORDONED = "node.kubernetes.io/unschedulable"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Give a cluster; each test has instances of its own."""
    with rig(tmp_path_factory.mktemp("fleet")) as found:
        yield found


def test_an_instance_becomes_a_node_as_eks_has_it(cluster: Rig) -> None:
    images = (Image(("registry.example/app:1",), 5 << 20, baked=True),)
    taint = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
    root = Root(family="al2023", image_id="ami-1", kubelet="v1.33.1", containerd="2.1.5", kernel="6.12", images=images)
    new = machine(labels={"team": "ml"}, taints=(taint,), root=root)
    cluster.aws.say(machine(state="pending", root=Root()))
    until(lambda: cluster.phase_of(new)[0] == "pending")
    cluster.aws.say(new)
    node = cluster.wait_node(new)
    labels = node["metadata"]["labels"]
    assert node["metadata"]["name"] == "ip-10-0-0-1.us-west-2.compute.internal"
    assert node["spec"]["providerID"] == "aws:///us-west-2a/i-00000000000000001"
    assert node["spec"]["taints"] == [taint]
    expected = {
        "eks.amazonaws.com/nodegroup": "workers",
        "eks.amazonaws.com/nodegroup-image": "ami-1",
        "eks.amazonaws.com/capacityType": "ON_DEMAND",
        "team": "ml",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": new.private_dns,
        "node.kubernetes.io/instance-type": "m5.xlarge",
        "topology.kubernetes.io/zone": "us-west-2a",
        "topology.kubernetes.io/region": "us-west-2",
    }
    assert expected.items() <= labels.items()
    assert "k8s.amazonaws.com/accelerator" not in labels  # nothing sets it by itself
    info = node["status"]["nodeInfo"]
    assert re.fullmatch(r"v1\.33\.1-eks-[0-9a-f]{7}", info["kubeletVersion"])
    assert (info["containerRuntimeVersion"], info["kernelVersion"], info["kubeProxyVersion"]) == (
        "containerd://2.1.5",
        "6.12",
        "",
    )
    assert node["status"]["images"] == [{"names": ["registry.example/app:1"], "sizeBytes": 5 << 20}]
    assert node["status"]["capacity"]["pods"] == "58"
    assert node["metadata"]["annotations"]["lab.leptonami.dev/simulated"] == "speed=200"
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{new.private_dns}"
    lease = until(lambda: cluster.get(path))
    assert lease["spec"]["holderIdentity"] == new.private_dns
    until(lambda: cluster.get(path)["spec"]["renewTime"] > lease["spec"]["renewTime"])
    reasons = [reason for reason, _ in cluster.said(new.private_dns)]
    assert reasons[:2] == ["Starting", "NodeHasSufficientMemory"]
    assert reasons[-1] == "NodeReady"


def test_a_node_goes_through_its_phases_and_takes_its_time(cluster: Rig) -> None:
    new = machine(20)
    version = cluster.ask("GET", "/api/v1/nodes?limit=1")["metadata"]["resourceVersion"]
    began = time.monotonic()
    cluster.aws.say(new)
    seen: list[dict[str, Any]] = []
    query = {"resourceVersion": version, "fieldSelector": f"metadata.name={new.private_dns}"}
    answer = cluster.api.watch("/api/v1/nodes", query, 60)
    for event in itertools.chain.from_iterable(events(answer)):
        if event["type"] == "ADDED":
            # As long as the model says, which was drawn: half of the medians, on this clock, is the least.
            times = [model().data["times"][each] for each in ("boot", "bootstrap", "register")]
            least = sum(float(each.get("by", {}).get("al2023", each["seconds"])) for each in times) / 2
            assert time.monotonic() - began > least / 200
        if event["type"] != "BOOKMARK":
            seen.append(event["object"])
        if seen and ready(seen[-1]) and untainted(seen[-1]):
            break
    answer.close()
    first, last = seen[0], seen[-1]
    told = next(each for each in first["status"]["conditions"] if each["type"] == "Ready")
    assert (told["status"], told["reason"]) == ("False", "KubeletNotReady")
    assert "cni plugin not initialized" in told["message"]
    taints = {(each["key"], each["effect"]) for each in first["spec"]["taints"]}
    assert ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule") in taints
    assert ("node.kubernetes.io/not-ready", "NoSchedule") in taints
    assert "topology.kubernetes.io/zone" not in first["metadata"]["labels"]
    assert last["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-west-2a"


def test_a_baked_image_is_not_pulled(cluster: Rig) -> None:
    images = (Image(("docker.io/library/nginx:1.27",), 1 << 20, baked=True),)
    new = machine(2, root=Root(family="al2023", kubelet="v1.31.2", images=images))
    cluster.aws.say(new)
    cluster.wait_node(new)
    cluster.pod("baked", {"image": "nginx:1.27"}, nodeName=new.private_dns)
    cluster.wait_pod("baked", ready)
    said = until(lambda: len(found := cluster.said("baked")) == 3 and found)
    assert said == [
        ("Pulled", 'Container image "nginx:1.27" already present on machine'),
        ("Created", "Created container main"),  # as kubelets before 1.32 word it
        ("Started", "Started container main"),
    ]


def test_an_own_image_joins_by_its_user_data_and_eks_labels_it_later(cluster: Rig) -> None:
    new = custom(3, labels={"team": "infra"}, taints=({"key": "late", "effect": "NoSchedule"},))
    cluster.aws.say(new)
    node = until(lambda: (found := cluster.wait_node(new))["metadata"]["labels"]["team"] == "infra" and found)
    assert {each["key"] for each in node["spec"]["taints"]} == {"gpu", "late"}
    assert node["metadata"]["labels"]["eks.amazonaws.com/nodegroup-image"] == "ami-u"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.33.1"  # Canonical's snap


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (custom(4, "other"), "it joins a cluster 'other', not 'lab': its token is not accepted here"),
        (
            custom(5, root={"user_data": "#!/bin/bash\ntrue\n"}),
            "the user data has not a call of /etc/eks/bootstrap.sh",
        ),
    ],
    ids=["another cluster", "no bootstrap"],
)
def test_an_own_image_that_does_not_bootstrap_never_joins(cluster: Rig, new: Machine, why: str) -> None:
    cluster.aws.say(new)
    _, said = until(lambda: (found := cluster.phase_of(new))[0] == "never joins" and found)
    assert said.startswith(why)
    assert cluster.node(new) is None


def test_an_instance_that_is_gone_takes_its_node_and_pods_with_it(cluster: Rig) -> None:
    first, second = machine(6), machine(7)
    cluster.aws.say(first, second)
    for each in (first, second):
        cluster.wait_node(each)
    cluster.pod("lost", nodeName=first.private_dns)
    cluster.wait_pod("lost", ready)
    cluster.aws.lose(first)
    until(lambda: cluster.node(first) is None)
    until(lambda: cluster.seen("lost") is None)  # the pod garbage collector
    assert ready(cluster.node(second))
    said = until(lambda: cluster.said(first.private_dns, component="cloud-node-lifecycle-controller"))
    message = f"Deleting node {first.private_dns} because it does not exist in the cloud provider"
    assert said == [("DeletingNode", message)]


def test_a_fleet_that_is_new_knows_the_nodes_that_are_there(cluster: Rig) -> None:
    new = machine(8)
    cluster.aws.say(new)
    before = cluster.wait_node(new)
    # As if it had just been started: it has not seen the instance yet.
    cluster.fleet.kubelets.remove(new.private_dns)
    del cluster.fleet.machines.launched[new.id]
    cluster.aws.say(new)
    until(lambda: cluster.phase_of(new)[0] == "ready")
    assert cluster.node(new)["metadata"]["uid"] == before["metadata"]["uid"]
    cluster.pod("again", nodeName=new.private_dns)
    cluster.wait_pod("again", ready)


def test_a_kubelet_that_is_taken_for_silent_says_at_once_that_it_is_not(
    cluster: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a moment in which this machine was so busy that the node controller lost patience."""
    monkeypatch.setattr(heartbeats, "REPORT_S", 3600.0)
    new = machine(21)
    cluster.aws.say(new)
    conditions = cluster.wait_node(new)["status"]["conditions"]
    doubt = {"status": {"conditions": [{**each, "status": "Unknown"} for each in conditions]}}
    path = f"/api/v1/nodes/{new.private_dns}/status"
    cluster.ask("PATCH", path, doubt, "application/merge-patch+json")
    cluster.wait_node(new)
    until(lambda: [reason for reason, _ in cluster.said(new.private_dns)].count("NodeReady") == 1)
    assert next(each["count"] for each in cluster.events(new.private_dns) if each["reason"] == "NodeReady") == 2


# --- nodes that others made -------------------------------------------------------------------------------------------


def test_cordoned_nodes_have_their_taint_whoever_runs_them(cluster: Rig) -> None:
    own = machine(9, taints=({"key": "dedicated", "effect": "NoSchedule"},))
    cluster.aws.say(own)
    cluster.kwok("adopted")
    stranger = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stranger"}}
    cluster.ask("POST", "/api/v1/nodes", stranger)
    cluster.wait_node(own)
    names = (own.private_dns, "adopted", "stranger")

    def taints(name: str) -> dict[str, Any]:
        found = cluster.get(f"/api/v1/nodes/{name}")["spec"].get("taints") or ()
        return {f"{each['key']}:{each['effect']}": each for each in found}

    cluster.kubectl("cordon", *names)
    for name in names:
        found = until(lambda name=name: taints(name).get(f"{CORDONED}:NoSchedule"))  # type: ignore[misc]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["timeAdded"])
    # Both had it: the daemon's pods tolerate the taint, the scheduler names the reason of the flag.
    cluster.pod("kept-out", nodeSelector={"kubernetes.io/hostname": own.private_dns})
    pod = cluster.wait_pod("kept-out", lambda pod: pod.get("status", {}).get("conditions"))
    assert "node(s) were unschedulable" in pod["status"]["conditions"][0]["message"]
    cluster.kubectl("uncordon", *names)
    for name in names:
        until(lambda name=name: f"{CORDONED}:NoSchedule" not in taints(name))  # type: ignore[misc]
    assert taints(own.private_dns).keys() == {"dedicated:NoSchedule"}


def test_the_autoscalers_kwok_nodes_come_and_go(cluster: Rig) -> None:
    """What its kwok provider and its scale-down send, in their order, to a ReplicaSet that needs a node."""
    place, group = "/api/v1/namespaces/default", {"kwok-nodegroup": "ml"}
    spec = {
        "nodeSelector": group,
        "tolerations": [{"key": "kwok-provider", "operator": "Exists"}],
        "containers": [{"name": "main", "image": "nginx:1.27"}],
    }
    template = {"metadata": {"labels": {"app": "ml"}}, "spec": spec}
    replicas = {
        "metadata": {"name": "ml"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "ml"}}, "template": template},
    }
    cluster.ask("POST", "/apis/apps/v1/namespaces/default/replicasets", replicas)

    def pods(good: Any) -> Any:
        path = f"{place}/pods?labelSelector=app%3Dml"
        return until(lambda: [each for each in cluster.ask("GET", path)["items"] if good(each)])

    def unschedulable(pod: Any) -> bool:
        found = [each for each in pod["status"].get("conditions") or () if each["type"] == "PodScheduled"]
        return [(each["status"], each["reason"]) for each in found] == [("False", "Unschedulable")]

    waiting = pods(unschedulable)[0]["metadata"]["name"]
    assert cluster.said(waiting, component="default-scheduler")[0][0] == "FailedScheduling"

    # Scale-up: IncreaseSize of cloudprovider/kwok, a template without what belongs to a node that lives.
    name = "ml-1764150000-x7k2p"
    path, has = f"/api/v1/nodes/{name}", {"cpu": "8", "memory": "32Gi", "pods": "110"}
    annotations = {"kwok.x-k8s.io/node": "fake", "cluster-autoscaler.kwok.nodegroup/name": "ml-1764150000"}
    empty = ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion")
    empty += ("kubeProxyVersion", "operatingSystem", "architecture")
    info = {**dict.fromkeys(empty, ""), "kubeletVersion": "fake"}
    condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "of the template"}
    node = {
        "metadata": {"name": name, "labels": group, "annotations": annotations, "creationTimestamp": None},
        "spec": {
            "providerID": f"kwok:{name}",
            "taints": [{"key": "kwok-provider", "value": "true", "effect": "NoSchedule"}],
        },
        "status": {"capacity": has, "allocatable": has, "conditions": [condition], "nodeInfo": info},
    }
    cluster.ask("POST", "/api/v1/nodes", node)
    pod = cluster.wait_pod(waiting, ready)
    assert (pod["spec"]["nodeName"], pod["status"]["phase"]) == (name, "Running")
    made = cluster.get(path)
    assert ready(made)
    assert made["status"]["nodeInfo"]["kubeletVersion"] == "fake"
    assert made["metadata"]["annotations"]["lab.leptonami.dev/simulated"] == "true"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
    until(lambda: cluster.get(lease))
    cluster.pod("left", nodeName=name, tolerations=[{"operator": "Exists"}])
    cluster.wait_pod("left", ready)

    # Scale-down: an update taints and cordons the node, its pods are evicted, the node is deleted.
    def tainted() -> Any:
        found, taint = cluster.get(path), {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
        taints = [*found["spec"]["taints"], {**taint, "value": "1764150600"}]
        found["spec"] = {**found["spec"], "unschedulable": True, "taints": taints}
        try:
            return cluster.ask("PUT", path, found)
        except Refused as error:  # somebody was quicker, as with any update
            assert error.status == 409
            return None

    until(tainted)
    expected = {"kwok-provider", "ToBeDeletedByClusterAutoscaler", CORDONED}
    until(lambda: {each["key"] for each in cluster.get(path)["spec"]["taints"]} == expected)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": waiting, "namespace": "default"}}
    cluster.ask("POST", f"{place}/pods/{waiting}/eviction", {**eviction, "deleteOptions": {"gracePeriodSeconds": 600}})
    until(lambda: cluster.seen(waiting) is None)
    assert pods(unschedulable)[0]["metadata"]["name"] != waiting
    assert ready(cluster.seen("left"))
    cluster.ask("DELETE", path)
    until(lambda: cluster.seen("left") is None)
    until(lambda: cluster.get(lease) is None)
    assert cluster.get(path) is None

    # Nothing of it stays in the fleet either, once that has heard of it.
    def left() -> list[object]:
        kubelets = cluster.fleet.kubelets
        found: list[object] = [key for key, worker in list(kubelets.pods.items()) if worker.host.name == name]
        found += [kubelets] if name in kubelets.hosts else []
        for each in cluster.fleet.loop.controllers:
            if isinstance(each, Adoption):
                found += [each] if name in each.adopted else []
            if isinstance(each, Scheduler):
                found += [each] if name in each.rooms else []
        return found

    until(lambda: not left())

    # A node of that name that comes again is another one.
    cluster.ask("POST", "/api/v1/nodes", node)
    assert len(pods(ready)) == 1
    cluster.ask("DELETE", "/apis/apps/v1/namespaces/default/replicasets/ml")
