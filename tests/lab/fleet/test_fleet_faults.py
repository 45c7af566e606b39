"""The fault switches, all of them on one fleet: what a user sees of each, and that it strikes nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fleets import Rig, custom, machine, ready, rig, until

from leptonami.lab.fleet.faults import FAULTS
from leptonami.lab.fleet.gpu.manifests import device_plugin
from leptonami.lab.fleet.images import Root

GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Give a cluster; each test has instances and node groups of its own."""
    with rig(tmp_path_factory.mktemp("fleet")) as found:
        yield found


def test_there_is_a_test_for_each() -> None:
    assert {f"test_fault_{name.replace('-', '_')}" for name in FAULTS} <= globals().keys()


def test_fault_never_joins(cluster: Rig) -> None:
    bad, good = machine(1, group="bad"), machine(2, group="good")
    cluster.aws.say(bad, good, faults=[{"group": "bad", "fault": "never-joins"}])
    cluster.wait_node(good)
    assert until(lambda: (found := cluster.phase_of(bad))[0] == "never joins" and found)[1] == "a fault: never-joins"
    assert cluster.node(bad) is None


def test_fault_snap_refresh_race(cluster: Rig) -> None:
    """It spares images that hold their snaps."""
    bare, held = custom(3, group="snaps"), custom(4, group="snaps", root={"snap_hold": "forever"})
    cluster.aws.say(bare, held, faults=[{"group": "snaps", "fault": "snap-refresh-race"}])
    cluster.wait_node(held)
    why = 'error: snap "kubelet-eks" has "auto-refresh" change in progress'
    until(lambda: cluster.phase_of(bare) == ("never joins", why))
    assert cluster.node(bare) is None


def test_fault_notready_flapping(cluster: Rig) -> None:
    new = machine(5, group="flaps")
    cluster.aws.say(new)
    cluster.wait_node(new)
    stays = {"operator": "Exists", "effect": "NoExecute"}
    cluster.pod("stays", nodeName=new.private_dns, tolerations=[stays])
    cluster.pod("evicted", nodeName=new.private_dns, tolerations=[{**stays, "tolerationSeconds": 1}])
    for name in ("stays", "evicted"):
        cluster.wait_pod(name, ready)
    # Only now: a pod that is not ready yet when the node goes is evicted before it ever is.
    fault = {"group": "flaps", "fault": "notready-flapping", "up": 100.0, "down": 100.0}
    cluster.aws.say(new, faults=[fault])

    def unknown() -> Any:
        found = cluster.node(new)
        keys = {(each["key"], each["effect"]) for each in found["spec"].get("taints") or ()}
        both = {("node.kubernetes.io/unreachable", effect) for effect in ("NoSchedule", "NoExecute")}
        return keys == both and found

    condition = next(each for each in until(unknown)["status"]["conditions"] if each["type"] == "Ready")
    assert (condition["status"], condition["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert condition["message"] == "Kubelet stopped posting node status."
    said = until(lambda: cluster.said(new.private_dns, component="node-controller")[1:])
    assert said[0] == ("NodeNotReady", f"Node {new.private_dns} status is now: NodeNotReady")
    cluster.wait_node(new)
    until(lambda: cluster.seen("evicted") is None)  # by the taint; the kubelet lets go of it when it is back
    cluster.wait_pod("stays", ready)
    cluster.aws.say(new)  # and no more


def test_fault_pull_denied(cluster: Rig) -> None:
    new = machine(6, group="denied")
    cluster.aws.say(new, faults=[{"group": "denied", "fault": "pull-denied", "image": "*.amazonaws.com/*"}])
    cluster.wait_node(new)
    image = "123456789012.dkr.ecr.us-west-2.amazonaws.com/app:1"
    cluster.pod("denied", {"image": image}, nodeName=new.private_dns)
    cluster.pod("allowed", nodeName=new.private_dns)
    cluster.wait_pod("allowed", ready)

    def backs_off(pod: Any) -> bool:
        states = [each["state"] for each in pod["status"].get("containerStatuses") or ()]
        return [each.get("waiting", {}).get("reason") for each in states] == ["ImagePullBackOff"]

    cluster.wait_pod("denied", backs_off)
    said = until(lambda: ("Failed", "Error: ImagePullBackOff") in (found := cluster.said("denied")) and found)
    assert said[1][0] == "Failed"
    assert said[1][1].startswith(f'Failed to pull image "{image}": rpc error: code = Unknown desc = failed to pull')
    assert "401 Unauthorized" in said[1][1]
    assert said[2] == ("Failed", "Error: ErrImagePull")
    assert ("BackOff", f'Back-off pulling image "{image}"') in said
    # What was wrong is mended: the next try succeeds.
    cluster.aws.say(new)
    cluster.wait_pod("denied", ready)


def test_fault_slow_disk(cluster: Rig) -> None:
    fast, slow = machine(7, group="fast"), machine(8, group="slow")
    cluster.aws.say(fast, slow, faults=[{"group": "slow", "fault": "slow-disk"}])
    for each in (fast, slow):
        cluster.wait_node(each)
        cluster.pod(each.group, {"image": "example/driver:1"}, nodeName=each.private_dns)
    took = {}
    for each in (fast, slow):
        cluster.wait_pod(each.group, ready)
        took[each.group] = until(lambda each=each: dict(cluster.said(each.group)).get("Pulled"))  # type: ignore[misc]
    # 600 MiB, 2.15 times as much unpacked: at gp3's rate, and at that of lazily loaded blocks.
    assert re.search(r" in 1[01]\.\d+s ", took["fast"])
    assert re.search(r" in 2m1[56]\.\d+s ", took["slow"])


def test_fault_device_plugin_silent(cluster: Rig) -> None:
    """The plugin's pod runs and nothing is offered: who wants a GPU finds it on the other node, or waits."""
    root = Root(
        family="al2023",
        kubelet="v1.33.1",
        driver="580.95.05",
        toolkit="1.17.8",
        runtimes=("nvidia", "runc"),
        default_runtime="nvidia",
        gpus=1,
        gpu_product="Tesla T4",
    )
    mute, well = (
        machine(number, group=group, root=root, type="g4dn.xlarge", labels={"gpu": group})
        for number, group in ((9, "mute"), (10, "well"))
    )
    cluster.aws.say(mute, well, faults=[{"group": "mute", "fault": "device-plugin-silent"}])
    for plugin in device_plugin("v26.7.1"):
        plugin["spec"]["template"]["spec"]["nodeSelector"] = {"node.kubernetes.io/instance-type": "g4dn.xlarge"}
        cluster.ask("POST", "/apis/apps/v1/namespaces/kube-system/daemonsets", plugin)
    until(lambda: (cluster.wait_node(well)["status"]["allocatable"]).get(GPU) == "1")
    path = f"/api/v1/namespaces/kube-system/pods?fieldSelector=spec.nodeName%3D{mute.private_dns}"
    plugin = until(lambda: [each for each in cluster.ask("GET", path)["items"] if ready(each)])[0]
    assert GPU not in cluster.wait_node(mute)["status"]["capacity"]
    log = cluster.api.open("GET", f"{plugin_path(plugin)}/log", None, "", 30).data.decode()
    assert "Starting" in log and "Registered" not in log
    wants = {"resources": {"limits": {GPU: "1"}}}
    for name in ("mute", "well"):
        cluster.pod(f"cuda-{name}", wants, nodeSelector={"gpu": name})
    cluster.wait_pod("cuda-well", ready)
    until(lambda: cluster.said("cuda-mute", component="default-scheduler"))
    reason, message = cluster.said("cuda-mute", component="default-scheduler")[0]
    assert reason == "FailedScheduling"
    assert f"1 Insufficient {GPU}" in message


def plugin_path(pod: Any) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
