"""DaemonSets, held to the controller manager's rules and words."""

from __future__ import annotations

from typing import Any

from fleetworld import World, node, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.lab.conditions import is_ready
from leptonami.lab.fleet.controllers.daemonsets import eligible, tolerations

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
EVICTING = {"key": "broken", "value": "yes", "effect": "NoExecute"}
HASH = "controller-revision-hash"


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}}


def places(world: World) -> list[str]:
    return sorted(each["spec"]["nodeName"] for each in world.pods(app="plugin"))


def test_a_daemons_pod_names_its_node_and_tolerates_what_a_daemon_must() -> None:
    world = World()
    world.add(node("a"))
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    template = {"affinity": {"nodeAffinity": required}, "tolerations": [{"key": "own", "operator": "Exists"}]}
    world.add(workload("DaemonSet", "plugin", template=template))
    world.settle()
    [found] = world.pods()
    fields = [{"key": "metadata.name", "operator": "In", "values": ["a"]}]
    assert found["spec"]["affinity"]["nodeAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}
    }
    known = {(each["key"], each.get("effect", "")) for each in found["spec"]["tolerations"]}
    assert known == {
        ("own", ""),
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    }
    assert found["metadata"]["labels"]["pod-template-generation"] == "1"
    assert world.reasons("plugin") == [("SuccessfulCreate", f"Created pod: {found['metadata']['name']}")]


def test_the_status_is_what_kubectl_waits_for() -> None:
    world = World()
    for name in "abc":
        world.add(node(name))
    world.add(workload("DaemonSet", "plugin"))
    world.wait(1)
    status = world.status("daemonsets", "plugin")
    assert (status["desiredNumberScheduled"], status["numberReady"], status["numberUnavailable"]) == (3, 0, 3)
    world.settle()
    assert world.status("daemonsets", "plugin") == {
        "currentNumberScheduled": 3,
        "desiredNumberScheduled": 3,
        "numberAvailable": 3,
        "numberMisscheduled": 0,
        "numberReady": 3,
        "observedGeneration": 1,
        "updatedNumberScheduled": 3,
    }


def test_pods_come_and_go_with_their_nodes() -> None:
    world = World()
    world.add(node("a"))
    world.add(workload("DaemonSet", "plugin", template={"nodeSelector": {"gpu": "yes"}}))
    world.settle()
    assert places(world) == []
    world.add(node("b", labels={"gpu": "yes"}))
    world.patch("nodes", None, "a", {"metadata": {"labels": {"gpu": "yes"}}})
    world.settle()
    assert places(world) == ["a", "b"]
    world.patch("nodes", None, "b", {"metadata": {"labels": {"gpu": None}}})
    world.settle()
    assert places(world) == ["a"]
    world.patch("nodes", None, "a", {"spec": {"taints": [GPU_TAINT]}})
    world.settle()
    assert places(world) == ["a"]  # NoSchedule does not chase away what is there
    assert world.status("daemonsets", "plugin")["numberMisscheduled"] == 1
    world.patch("nodes", None, "a", {"spec": {"taints": [EVICTING]}})
    world.settle()
    assert places(world) == []


def test_pods_of_a_node_that_is_gone_are_collected() -> None:
    world = World()
    world.add(node("a"))
    world.add(workload("DaemonSet", "plugin"))
    world.settle()
    world.delete("nodes", None, "a")
    for _ in range(30):
        world.wait(1)
    assert places(world) == ["a"]  # it may come back
    for _ in range(20):
        world.wait(1)
    assert places(world) == [] and world.all("pods") == []


def test_a_pod_that_waits_for_a_node_that_is_gone_is_removed_at_once() -> None:
    world = World()
    world.add(node("a", pods="0"))
    world.add(workload("DaemonSet", "plugin"))
    world.settle()
    assert len(world.pods()) == 1
    world.delete("nodes", None, "a")
    world.settle(3)
    assert world.all("pods") == []


def test_a_failed_pod_is_replaced_after_a_while() -> None:
    world = World()
    world.add(node("a"))
    world.add(workload("DaemonSet", "plugin"))
    world.settle()
    [first] = world.pods()
    world.becomes(first, "Failed")
    for _ in range(15):
        world.wait(1)
        world.kubelets()
    [second] = world.pods()
    assert second["metadata"]["uid"] != first["metadata"]["uid"] and is_ready(second)
    name = first["metadata"]["name"]
    text = f"Found failed daemon pod default/{name} on node a, will try to kill it"
    assert ("FailedDaemonPod", text) in world.reasons("plugin")
    assert ("SuccessfulDelete", f"Deleted pod: {name}") in world.reasons("plugin")


def test_on_delete_waits_for_the_user_and_an_undo_is_an_old_revision_again() -> None:
    world = World()
    world.add(node("a"))
    world.add(workload("DaemonSet", "plugin", image="v1", updateStrategy={"type": "OnDelete"}))
    world.settle()
    [first] = world.pods()
    world.patch("daemonsets", "default", "plugin", image("v2"))
    world.settle()
    assert world.pods() == [first]
    assert world.status("daemonsets", "plugin").get("updatedNumberScheduled") is None
    world.delete("pods", "default", first["metadata"]["name"])
    world.settle()
    [second] = world.pods()
    assert second["spec"]["containers"][0]["image"] == "v2"
    revisions = {each["metadata"]["name"]: each for each in world.all("controllerrevisions")}
    assert sorted(each["revision"] for each in revisions.values()) == [1, 2]
    old = revisions[f"plugin-{first['metadata']['labels'][HASH]}"]
    assert old["data"]["spec"]["template"]["$patch"] == "replace"
    world.patch("daemonsets", "default", "plugin", image("v1"))  # what `kubectl rollout undo` comes to
    world.settle()
    assert sorted(each["revision"] for each in world.all("controllerrevisions")) == [2, 3]
    assert world.get("controllerrevisions", "default", old["metadata"]["name"])["revision"] == 3  # type: ignore[index]


def test_history_is_limited_but_what_pods_use_stays() -> None:
    world = World()
    world.add(node("a"))
    spec = {"updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 2}
    world.add(workload("DaemonSet", "plugin", image="v0", **spec))
    world.settle()
    for number in range(1, 6):
        world.patch("daemonsets", "default", "plugin", image(f"v{number}"))
        world.settle()
    images = [
        each["data"]["spec"]["template"]["spec"]["containers"][0]["image"] for each in world.all("controllerrevisions")
    ]
    assert sorted(images) == ["v0", "v3", "v4", "v5"]


nodes = st.lists(
    st.tuples(st.sampled_from(["", "yes"]), st.sampled_from([None, GPU_TAINT, EVICTING]), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(nodes, nodes, st.booleans(), st.booleans())
def test_a_daemonset_comes_to_exactly_the_nodes_that_fit(
    before: list[Any], after: list[Any], selects: bool, tolerates: bool
) -> None:
    world, template = World(), dict[str, Any]()
    if selects:
        template["nodeSelector"] = {"gpu": "yes"}
    if tolerates:
        template["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    world.add(workload("DaemonSet", "plugin", template=template))

    def become(wanted: list[Any]) -> None:
        for number in range(6):
            world.delete("nodes", None, f"n{number}") if number >= len(wanted) else None
        for number, (label, taint, cordoned) in enumerate(wanted):
            taints = ([taint] if taint else []) + (
                [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}] if cordoned else []
            )
            new = node(f"n{number}", labels={"gpu": label}, taints=taints, unschedulable=cordoned)
            if world.get("nodes", None, f"n{number}"):
                world.patch(
                    "nodes",
                    None,
                    f"n{number}",
                    {"metadata": new["metadata"], "spec": {"taints": taints or None, "unschedulable": cordoned}},
                )
            else:
                world.add(new)
        for _ in range(45):
            world.wait(1)
            world.kubelets()

    become(before)
    become(after)
    spec = {**template, "tolerations": tolerations(template)}
    fits = {each["metadata"]["name"]: eligible(spec, each) for each in world.all("nodes")}
    here = places(world)
    assert len(here) == len(set(here))
    assert (
        {name for name, (wanted, _) in fits.items() if wanted}
        <= set(here)
        <= {name for name, (_, stays) in fits.items() if stays}
    )
    status = world.status("daemonsets", "plugin")
    assert status["desiredNumberScheduled"] == status["numberReady"] == sum(wanted for wanted, _ in fits.values())
    assert status["numberMisscheduled"] == len(here) - status["desiredNumberScheduled"]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 6),
    st.one_of(st.integers(1, 3), st.sampled_from(["10%", "50%", "100%"])),
    st.lists(st.integers(0, 20), max_size=40),
)
def test_a_roll_out_leaves_no_more_nodes_without_a_pod_than_allowed(size: int, limit: Any, luck: list[int]) -> None:
    world = World()
    for number in range(size):
        world.add(node(f"n{number}"))
    world.add(workload("DaemonSet", "plugin", image="v1", updateStrategy={"rollingUpdate": {"maxUnavailable": limit}}))
    world.settle()
    world.patch("daemonsets", "default", "plugin", image("v2"))
    may = -(-int(limit[:-1]) * size // 100) if isinstance(limit, str) else limit

    def check() -> None:
        assert sum(map(is_ready, world.pods(app="plugin"))) >= size - may

    for each in luck:
        waiting = [
            one for one in world.all("pods") if one["metadata"].get("deletionTimestamp") or not one.get("status")
        ]
        if waiting and each % 3:
            one = waiting[each % len(waiting)]
            world.gone(one) if one["metadata"].get("deletionTimestamp") else world.becomes(one)
        else:
            world.wait(1)
        check()
    for _ in range(100):
        world.wait(1)
        world.kubelets()
        check()
    assert {each["spec"]["containers"][0]["image"] for each in world.pods()} == {"v2"}
    assert world.status("daemonsets", "plugin")["updatedNumberScheduled"] == size
