"""The scheduler, held to kube-scheduler's rules and words."""

from __future__ import annotations

from typing import Any

from fleetworld import World, node, pod, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.lab.fleet.fitting import Demand, Room, milli, refusal, requests, score
from leptonami.lab.fleet.matching import node_matches, selects, tolerates
from leptonami.lab.fleet.scheduler import Ranking, explain

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "true", "effect": "NoSchedule"}


def where(world: World, name: str) -> str | None:
    found = world.get("pods", "default", name)
    assert found is not None
    return found["spec"].get("nodeName")


def condition(world: World, name: str) -> dict[str, Any]:
    found = world.get("pods", "default", name)
    assert found is not None
    return next((each for each in found.get("status", {}).get("conditions", []) if each["type"] == "PodScheduled"), {})


def test_quantities_are_kept_whole() -> None:
    assert [milli(each) for each in ("100m", "1", 2, "1Ki", "1k", "0.5", "1.0005")] == [
        100,
        1000,
        2000,
        1024000,
        1000000,
        500,
        1001,
    ]
    assert milli("nonsense") == 0


def test_requests_by_the_rule_of_init_containers_and_sidecars() -> None:
    # https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    def container(cpu: str, **more: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [container("3"), container("500m", restartPolicy="Always"), container("2")],
        "containers": [container("1"), {"resources": {"limits": {GPU: "2"}}}],
        "overhead": {"cpu": "250m"},
    }
    assert requests(spec) == {"cpu": 3250, GPU: 2000}  # the first alone is the largest moment
    spec["initContainers"].pop(0)
    assert requests(spec) == {"cpu": 2750, GPU: 2000}  # the sidecar beside the last of them
    spec["initContainers"].pop()
    assert requests(spec) == {"cpu": 1750, GPU: 2000}  # the sidecar beside the containers
    spec["resources"] = {"requests": {"cpu": "5"}}
    assert requests(spec) == {"cpu": 5250, GPU: 2000}


def test_the_message_is_kube_schedulers() -> None:
    demand = Demand.of(pod("p", requests={GPU: "1"}))
    rooms = [Room(f"n{number}") for number in range(5)]
    for number, room in enumerate(rooms):
        room.describe(
            node(
                room.name,
                taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}] if number > 1 else [],
                **{"nvidia.com__gpu": "2"},
            )
        )
    for room in rooms[:2]:
        room.take(Demand.of(pod("other", requests={GPU: "2"})))
    refusals = [found for room in rooms if (found := refusal(demand, room))]
    assert explain(refusals) == (
        "0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) had untolerated taint {k: v}. "
        "preemption: 0/5 nodes are available: 2 No preemption victims found for incoming pod, "
        "3 Preemption is not helpful for scheduling."
    )
    assert explain([]) == "no nodes available to schedule pods"


def test_why_not_in_the_order_of_the_filters() -> None:
    def why(asked: dict[str, Any], **there: Any) -> tuple[str, ...]:
        room = Room("n")
        room.describe(node("n", **there))
        found = refusal(Demand.of(asked), room)
        return found.reasons if found else ()

    everything = pod("p", requests={"cpu": "9"}, nodeSelector={"a": "b"})
    assert why(everything, unschedulable=True, taints=[TAINT]) == ("node(s) were unschedulable",)
    assert why(everything, taints=[TAINT]) == ("node(s) had untolerated taint {nvidia.com/gpu: true}",)
    assert why(everything) == ("node(s) didn't match Pod's node affinity/selector",)
    assert why(everything, labels={"a": "b"}) == ("Insufficient cpu",)
    assert why(everything, labels={"a": "b"}, pods="0") == ("Too many pods", "Insufficient cpu")
    assert why(everything, labels={"a": "b"}, cpu="9") == ()
    assert why(pod("p"), taints=[{"key": "soft", "effect": "PreferNoSchedule"}]) == ()
    assert why(pod("p", tolerations=[{"operator": "Exists"}]), unschedulable=True, taints=[TAINT]) == ()


def test_tolerations_by_the_documentation() -> None:
    # https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
    assert tolerates({"key": GPU, "operator": "Equal", "value": "true"}, TAINT)
    assert tolerates({"key": GPU, "operator": "Exists", "effect": "NoSchedule"}, TAINT)
    assert tolerates({"operator": "Exists"}, TAINT)
    assert not tolerates({"key": GPU, "value": "false"}, TAINT)
    assert not tolerates({"key": GPU, "operator": "Exists", "effect": "NoExecute"}, TAINT)
    assert not tolerates({"key": "other", "operator": "Exists"}, TAINT)
    assert not tolerates({}, TAINT)


def test_affinity_operators() -> None:
    def matches(key: str, operator: str, *values: str) -> bool:
        term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
        required = {"nodeSelectorTerms": [term]}
        spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
        return node_matches(spec, "n", {"zone": "a", "gpus": "4"})

    assert matches("zone", "In", "a", "b") and not matches("zone", "In", "b") and not matches("none", "In", "a")
    assert matches("zone", "NotIn", "b") and matches("none", "NotIn", "b") and not matches("zone", "NotIn", "a")
    assert matches("zone", "Exists") and not matches("none", "Exists")
    assert matches("none", "DoesNotExist") and not matches("zone", "DoesNotExist")
    assert matches("gpus", "Gt", "3") and not matches("gpus", "Gt", "4") and not matches("zone", "Gt", "3")
    assert matches("gpus", "Lt", "5") and not matches("gpus", "Lt", "4") and not matches("none", "Lt", "5")
    assert not node_matches(
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}},
        "n",
        {},
    )
    assert selects({}, {"a": "b"}) and not selects(None, {"a": "b"})


def test_a_pod_goes_where_most_is_left() -> None:
    world = World()
    for name in "abc":
        world.add(node(name))
    world.add(pod("first", requests={"cpu": "3"}, nodeName="a"))
    world.add(pod("second", requests={"cpu": "1"}, nodeName="c"))
    world.add(pod("third", requests={"cpu": "1"}))
    world.turn()
    assert where(world, "third") == "b"
    assert ("default-scheduler", "third", "Scheduled", "Successfully assigned default/third to b") in world.events
    for number in range(60):
        world.add(pod(f"none-{number}"))
    world.wait(1)
    assert all(len(world.by_node(name)) > 5 for name in "abc")  # pods that ask for nothing are spread too


def test_unschedulable_is_what_the_autoscaler_reads_and_is_retried_when_something_changes() -> None:
    world = World()
    world.add(node("cpu"))
    world.add(pod("train", requests={GPU: "1"}))
    world.turn()
    found = condition(world, "train")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert found["message"].startswith("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: ")
    assert [reason for reason, _ in world.reasons("train")] == ["FailedScheduling"]
    world.settle()
    assert len(world.reasons("train")) == 1
    world.add(node("gpu", taints=[TAINT], **{"nvidia.com__gpu": "1"}))
    world.wait(10)
    assert "1 node(s) had untolerated taint {nvidia.com/gpu: true}" in condition(world, "train")["message"]
    world.patch("nodes", None, "gpu", {"spec": {"taints": None}})
    world.wait(10)
    assert where(world, "train") == "gpu"


def test_nothing_is_tried_again_at_once_and_everything_after_five_minutes() -> None:
    world = World()
    world.add(node("small", cpu="1"))
    world.add(pod("big", requests={"cpu": "2"}))
    world.turn()
    world.patch("nodes", None, "small", {"metadata": {"labels": {"new": "label"}}})
    world.wait(0.5)
    attempts = world.scheduler.waiting["pods", "default", "big"].attempts
    assert attempts == 1
    world.wait(0.6)
    assert world.scheduler.waiting["pods", "default", "big"].attempts == 2
    world.wait(100)
    assert world.scheduler.waiting["pods", "default", "big"].attempts == 2
    world.wait(250)
    assert world.scheduler.waiting["pods", "default", "big"].attempts == 3
    assert len(world.reasons("big")) == 2


def test_priority_is_served_first_and_others_keep_out() -> None:
    world = World()
    world.add(node("one", pods="1"))
    world.add(pod("low"))
    world.add(pod("high", priority=1000))
    world.add(pod("foreign", priority=2000, schedulerName="volcano"))
    world.add(pod("gated", priority=2000, schedulingGates=[{"name": "quota"}]))
    world.turn()
    assert [where(world, each) for each in ("high", "low", "foreign", "gated")] == ["one", None, None, None]
    assert "1 Too many pods" in condition(world, "low")["message"]
    assert not condition(world, "foreign") and not condition(world, "gated")


def test_room_is_given_back_when_pods_end_or_go() -> None:
    world = World()
    world.add(node("one", pods="1"))
    first = world.add(pod("first"))
    world.turn()
    world.add(pod("second"))
    world.wait(1)
    assert where(world, "second") is None
    world.becomes(first | {"spec": {}}, "Succeeded")
    world.wait(20)
    assert where(world, "second") == "one"
    world.add(pod("third"))
    world.wait(20)
    assert where(world, "third") is None
    world.delete("pods", "default", "second", 0)
    world.wait(20)
    assert where(world, "third") == "one"


def test_a_binding_that_is_refused_is_tried_again_later() -> None:
    world = World()
    world.add(node("one", pods="1"))
    world.add(pod("first"))
    world.refuses = lambda verb, plural, obj: verb == "bind"
    world.turn()
    world.wait(0.1)
    assert where(world, "first") is None and world.scheduler.rooms["one"].pods == 0
    world.refuses = lambda verb, plural, obj: False
    world.wait(2)
    assert where(world, "first") == "one" and world.scheduler.rooms["one"].pods == 1


def test_host_ports_are_had_once() -> None:
    world = World()
    for name in "ab":
        world.add(node(name))
    port = {"containerPort": 80, "hostPort": 9400}
    for name in ("x", "y", "z"):
        world.add(pod(name, containers=[{"name": "m", "image": "i", "ports": [port]}]))
    world.turn()
    assert sorted(str(where(world, each)) for each in "xyz") == ["None", "a", "b"]
    lost = next(each for each in "xyz" if where(world, each) is None)
    assert "2 node(s) didn't have free ports for the requested pod ports" in condition(world, lost)["message"]


def test_a_daemons_pod_goes_to_its_node_only() -> None:
    world = World()
    for number in range(5):
        world.add(node(f"n{number}", cpu="1"))
    world.add(pod("full", requests={"cpu": "1"}, nodeName="n3"))
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    world.add(pod("daemon", requests={"cpu": "500m"}, affinity=affinity))
    world.turn()
    assert condition(world, "daemon")["message"] == (
        "0/5 nodes are available: 1 Insufficient cpu, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
        "preemption: 0/5 nodes are available: 1 No preemption victims found for incoming pod, "
        "4 Preemption is not helpful for scheduling."
    )
    world.delete("pods", "default", "full", 0)
    world.wait(10)
    assert where(world, "daemon") == "n3"


def beside(kind: str, key: str = "kubernetes.io/hostname") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_pod_affinity_and_anti_affinity() -> None:
    world = World()
    for name in "abc":
        world.add(node(name, labels={"zone": "1" if name < "c" else "2"}))
    for number in range(4):
        world.add(pod(f"web-{number}", labels={"app": "web"}, **beside("podAntiAffinity")))
    world.turn()
    assert sorted(str(where(world, f"web-{number}")) for number in range(4)) == ["None", "a", "b", "c"]
    lost = next(f"web-{number}" for number in range(4) if where(world, f"web-{number}") is None)
    assert "3 node(s) didn't match pod anti-affinity rules" in condition(world, lost)["message"]
    world.add(pod("plain", labels={"app": "web"}))  # says nothing, and yet the others do not want it
    world.wait(10)
    assert "3 node(s) didn't satisfy existing pods anti-affinity rules" in condition(world, "plain")["message"]
    for number in range(4):
        world.delete("pods", "default", f"web-{number}", 0)
    world.delete("pods", "default", "plain")
    world.wait(20)
    for number in range(6):
        world.add(pod(f"near-{number}", labels={"app": "web"}, **beside("podAffinity", "zone")))
    world.add(pod("far", **beside("podAffinity", "no-such-label")))
    world.wait(20)
    zones = {
        world.get("nodes", None, str(where(world, f"near-{number}")))["metadata"]["labels"]["zone"]
        for number in range(6)
    }  # type: ignore[index]
    assert len(zones) == 1  # the first one may go anywhere since it matches itself, the others follow
    assert "3 node(s) didn't match pod affinity rules" in condition(world, "far")["message"]


def test_wishes_outweigh_free_room() -> None:
    world = World()
    world.add(node("wished", labels={"disk": "ssd"}, cpu="2"))
    world.add(node("roomy", cpu="64"))
    world.add(node("soft", cpu="96", taints=[{"key": "soft", "effect": "PreferNoSchedule"}]))
    wish = {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}
    world.add(pod("wishing", requests={"cpu": "1"}, affinity=affinity))
    world.add(pod("plain", requests={"cpu": "1"}))
    world.turn()
    assert (where(world, "wishing"), where(world, "plain")) == ("wished", "roomy")


sizes = st.sampled_from(["0", "250m", "1", "2", "3500m"])
pods = st.lists(st.tuples(sizes, st.sampled_from(["", "a", "b"]), st.booleans()), max_size=25)
nodes = st.lists(st.tuples(st.sampled_from(["1", "4", "8"]), st.sampled_from(["a", "b"]), st.booleans()), max_size=6)


@settings(max_examples=60, deadline=None)
@given(nodes, pods, st.lists(st.integers(0, 24), max_size=10))
def test_what_waits_fits_nowhere_and_nothing_is_overfull(hosts: list[Any], asks: list[Any], ends: list[int]) -> None:
    world = World()
    for number, (cpu, zone, tainted) in enumerate(hosts):
        world.add(node(f"n{number}", cpu=cpu, pods="6", labels={"zone": zone}, taints=[TAINT] if tainted else []))
    for number, (cpu, zone, tolerant) in enumerate(asks):
        more: dict[str, Any] = {"nodeSelector": {"zone": zone}} if zone else {}
        if tolerant:
            more["tolerations"] = [{"key": GPU, "operator": "Exists"}]
        world.add(pod(f"p{number}", requests={"cpu": cpu}, **more))
    world.turn()
    for number in ends:
        world.delete("pods", "default", f"p{number}", 0)
    for _ in range(4):
        world.wait(11)
    rooms = {}
    for host in world.all("nodes"):
        name = host["metadata"]["name"]
        rooms[name] = Room(name)
        rooms[name].describe(host)
        for each in world.by_node(name):
            assert refusal(Demand.of(each), rooms[name]) is None
            rooms[name].take(Demand.of(each))
        known = world.scheduler.rooms[name]
        assert (known.pods, {key: value for key, value in known.used.items() if value}) == (
            rooms[name].pods,
            {key: value for key, value in rooms[name].used.items() if value},
        )
    for each in world.pods():
        if not each["spec"].get("nodeName"):
            assert all(refusal(Demand.of(each), room) for room in rooms.values())
            assert condition(world, each["metadata"]["name"])["reason"] == "Unschedulable"


@settings(max_examples=60, deadline=None)
@given(nodes, st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["250m", "1"]), st.booleans()), max_size=20))
def test_the_ranking_gives_the_best_node_whatever_happened_meanwhile(hosts: list[Any], moves: list[Any]) -> None:
    rooms: dict[str, Room] = {}
    for number, (cpu, zone, _) in enumerate(hosts):
        rooms[f"n{number}"] = Room(f"n{number}")
        rooms[f"n{number}"].describe(node(f"n{number}", cpu=cpu, labels={"zone": zone}))
    demand, held = Demand.of(pod("p", requests={"cpu": "500m"})), []
    ranking = Ranking(demand)
    for room in rooms.values():
        ranking.add(room)
    for number, cpu, takes in moves:
        room = rooms.get(f"n{number}")
        other = Demand.of(pod("q", requests={"cpu": cpu}))
        if room and takes and refusal(other, room) is None:
            room.take(other)
            held.append((room, other))
        elif held and not takes:
            room, other = held.pop()
            room.take(other, -1)
            ranking.add(room)
        fitting = [score(demand, room) for room in rooms.values() if refusal(demand, room) is None]
        best = ranking.best(rooms)
        found = next(best, None)
        best.close()
        assert (None if found is None else score(demand, found)) == max(fitting, default=None)


def test_a_deployments_pods_share_one_demand() -> None:
    world = World()
    world.add(node("a"))
    world.add(workload("ReplicaSet", "web", replicas=5))
    world.settle()
    assert len(world.pods(app="web")) == 5
    assert len(world.scheduler._demands) == 1
