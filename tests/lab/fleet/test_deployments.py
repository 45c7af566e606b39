"""Deployments and ReplicaSets, held to the controller manager's rules and words."""

from __future__ import annotations

from typing import Any

from fleetworld import World, node, pod, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.lab.conditions import is_ready
from leptonami.lab.fleet.controllers.plans import amount
from leptonami.lab.fleet.controllers.replicasets import first_to_go
from leptonami.lab.fleet.controllers.rollouts import Rollout

REVISION = "deployment.kubernetes.io/revision"


def cluster(nodes: int = 3) -> World:
    world = World()
    for number in range(nodes):
        world.add(node(f"n{number}", cpu="64"))
    return world


def sets(world: World) -> dict[str, int]:
    return {
        each["spec"]["template"]["spec"]["containers"][0]["image"]: each["spec"]["replicas"]
        for each in world.all("replicasets")
    }


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}}


def condition(world: World, kind: str) -> tuple[str, str, str]:
    found = next(each for each in world.status("deployments", "web")["conditions"] if each["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_percentages_as_int_or_string() -> None:
    assert amount("25%", 10, up=True) == 3 and amount("25%", 10, up=False) == 2 and amount(4, 10, up=True) == 4
    assert Rollout.of(workload("Deployment", "web", replicas=4)) == Rollout(4, 1, 1)
    nothing = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}}
    assert Rollout.of(workload("Deployment", "web", replicas=4, strategy=nothing)) == Rollout(4, 0, 1)


def test_a_deployment_comes_up_with_the_numbers_and_words_that_clients_wait_for() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=3))
    world.turn()
    assert condition(world, "Progressing")[1] == "NewReplicaSetCreated"
    assert condition(world, "Available") == (
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )
    world.settle()
    [replicaset] = world.all("replicasets")
    name = replicaset["metadata"]["name"]
    hashed = replicaset["metadata"]["labels"]["pod-template-hash"]
    assert name == f"web-{hashed}"
    assert replicaset["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hashed}
    assert condition(world, "Available") == ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    assert condition(world, "Progressing") == (
        "True",
        "NewReplicaSetAvailable",
        f'ReplicaSet "{name}" has successfully progressed.',
    )
    status = world.status("deployments", "web")
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    }
    assert world.get("deployments", "default", "web")["metadata"]["annotations"][REVISION] == "1"  # type: ignore[index]
    assert world.reasons("web") == [("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 3")]
    created = [message for reason, message in world.reasons(name) if reason == "SuccessfulCreate"]
    assert sorted(created) == sorted(f"Created pod: {each['metadata']['name']}" for each in world.pods())
    assert all(each["metadata"]["name"].startswith(f"{name}-") for each in world.pods())


def test_a_roll_out_an_undo_and_the_history() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=4, image="v1", revisionHistoryLimit=2))
    world.settle()
    for name in ("v2", "v3", "v4"):
        world.patch("deployments", "default", "web", image(name))
        world.settle()
    assert sets(world) == {"v2": 0, "v3": 0, "v4": 4}  # v1 is more than is to be kept
    world.patch("deployments", "default", "web", image("v2"))
    world.settle()
    assert sets(world) == {"v2": 4, "v3": 0, "v4": 0}
    notes = {
        each["spec"]["template"]["spec"]["containers"][0]["image"]: each["metadata"]["annotations"]
        for each in world.all("replicasets")
    }
    assert {name: each[REVISION] for name, each in notes.items()} == {"v2": "5", "v3": "3", "v4": "4"}
    assert notes["v2"]["deployment.kubernetes.io/revision-history"] == "2"
    assert world.get("deployments", "default", "web")["metadata"]["annotations"][REVISION] == "5"  # type: ignore[index]
    assert all(is_ready(each) for each in world.pods(app="web")) and len(world.pods()) == 4


def test_the_template_is_found_again_though_the_server_wrote_defaults_into_both() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=1))
    world.settle()
    for key in [key for key in world.objects if key[0] in {"deployments", "replicasets"}]:
        world.patch(
            *key,
            {"spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst"}, "metadata": {"creationTimestamp": None}}}},
        )
    world.settle()
    assert len(world.all("replicasets")) == 1


def test_paused_does_not_roll_but_scales() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=2, image="v1"))
    world.settle()
    world.patch("deployments", "default", "web", {"spec": {"paused": True}})
    world.patch("deployments", "default", "web", image("v2"))
    world.patch("deployments", "default", "web", {"spec": {"replicas": 3}})
    world.settle()
    assert sets(world) == {"v1": 3}
    assert condition(world, "Progressing") == ("Unknown", "DeploymentPaused", "Deployment is paused")
    world.patch("deployments", "default", "web", {"spec": {"paused": False}})
    world.settle()
    assert sets(world) == {"v1": 0, "v2": 3}
    assert condition(world, "Progressing")[1] == "NewReplicaSetAvailable"


def test_recreate_lets_the_old_pods_go_first() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=3, image="v1", strategy={"type": "Recreate"}))
    world.settle()
    world.patch("deployments", "default", "web", image("v2"))
    for _ in range(5):
        world.wait(1)  # no kubelet: the old pods are on their way out and stay
    assert len(world.all("pods")) == 3 and "v2" not in sets(world)
    world.settle()
    assert sets(world) == {"v1": 0, "v2": 3} and len(world.pods()) == 3


def test_scaling_amid_a_roll_out_keeps_the_proportion() -> None:
    # https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling
    world = cluster()
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    world.add(workload("Deployment", "web", replicas=10, image="v1", strategy=strategy))
    world.settle()
    world.patch("deployments", "default", "web", image("broken"))
    for _ in range(6):
        world.wait(1)
        for each in world.all("pods"):
            if each["metadata"].get("deletionTimestamp"):
                world.gone(each)
    assert sets(world) == {"v1": 8, "broken": 5}
    world.patch("deployments", "default", "web", {"spec": {"replicas": 15}})
    world.wait(1)
    world.wait(1)
    assert sets(world) == {"v1": 11, "broken": 7}


def test_a_roll_out_that_does_not_move_is_said_to_have_failed() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=2, image="v1", progressDeadlineSeconds=60))
    world.settle()
    world.patch("deployments", "default", "web", image("broken"))
    for _ in range(10):
        world.wait(1)
    assert condition(world, "Progressing")[:2] == ("True", "ReplicaSetUpdated")
    for _ in range(3):
        world.wait(30)
    name = next(
        each["metadata"]["name"]
        for each in world.all("replicasets")
        if each["spec"]["template"]["spec"]["containers"][0]["image"] == "broken"
    )
    assert condition(world, "Progressing") == (
        "False",
        "ProgressDeadlineExceeded",
        f'ReplicaSet "{name}" has timed out progressing.',
    )
    assert condition(world, "Available")[0] == "True"
    world.settle()
    assert condition(world, "Progressing")[1] == "NewReplicaSetAvailable"


def test_available_is_later_than_ready() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=1, minReadySeconds=30))
    world.settle(8)
    assert (
        world.status("deployments", "web").get("readyReplicas"),
        world.status("deployments", "web").get("availableReplicas"),
    ) == (1, None)
    for _ in range(31):
        world.wait(1)
    assert world.status("deployments", "web")["availableReplicas"] == 1


limits = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "20%", "25%", "50%", "100%"]))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), limits, limits, st.lists(st.integers(0, 30), max_size=60))
def test_a_rolling_update_keeps_both_limits_whatever_happens_when(
    replicas: int, surge: Any, unavailable: Any, luck: list[int]
) -> None:
    world = cluster()
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    rollout = Rollout.of(world.add(workload("Deployment", "web", replicas=replicas, image="v1", strategy=strategy)))
    world.settle()
    world.patch("deployments", "default", "web", image("v2"))

    def check() -> None:
        living = world.pods(app="web")
        assert len(living) <= rollout.replicas + rollout.surge
        assert sum(map(is_ready, living)) >= rollout.replicas - rollout.unavailable

    for number, each in enumerate(luck):
        waiting = [
            one for one in world.all("pods") if one["metadata"].get("deletionTimestamp") or not one.get("status")
        ]
        if waiting and each % 3:
            one = waiting[each % len(waiting)]
            if one["metadata"].get("deletionTimestamp"):
                world.gone(one)
            elif one["spec"].get("nodeName"):
                world.becomes(one)
        else:
            world.wait(1)
        if number == 20:
            world.patch("deployments", "default", "web", image("v3"))
        check()
    for _ in range(200):
        world.wait(1)
        check()
        world.kubelets()
        check()
        if not world._changes:
            break
    wanted = "v3" if len(luck) > 20 else "v2"
    assert {name: size for name, size in sets(world).items() if size} == {wanted: replicas}
    assert len(world.pods()) == replicas and condition(world, "Progressing")[1] == "NewReplicaSetAvailable"


def test_one_that_makes_no_sense_does_not_stop_the_others() -> None:
    world = cluster()
    world.add(workload("Deployment", "bad", replicas=1, strategy={"rollingUpdate": {"maxSurge": "some"}}))
    world.add(workload("Deployment", "web", replicas=1))
    world.settle()
    assert condition(world, "Available")[0] == "True"
    [(reason, message)] = world.reasons("bad")
    assert reason == "FailedSync" and "some" in message


# --- ReplicaSets ------------------------------------------------------------------------------------------------------


def test_who_goes_first() -> None:
    def one(
        name: str,
        node: str = "",
        phase: str = "Running",
        ready: bool = True,
        since: int = 0,
        age: int = 0,
        cost: str = "",
        restarts: int = 0,
    ) -> Any:
        stamp = f"2026-01-01T00:00:{since:02}Z"
        found = pod(name, **({"nodeName": node} if node else {}))
        found["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{age:02}Z"
        if cost:
            found["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": stamp}]
        return {
            **found,
            "status": {"phase": phase, "conditions": conditions, "containerStatuses": [{"restartCount": restarts}]},
        }

    pods = [
        one("no-node", phase="Pending", ready=False),
        one("pending", "a", phase="Pending", ready=False),
        one("not-ready", "b", ready=False),
        one("cheap", "c", cost="-5"),
        one("crowded", "d", since=1),
        one("crowded-too", "d"),
        one("just-ready", "e", since=30),
        one("restarted", "f", since=2, restarts=3),
        one("young", "g", since=2, age=9),
        one("old", "h", since=2),
        one("dear", "d", cost="9"),
    ]
    assert [each["metadata"]["name"] for each in first_to_go(pods[::-1])] == [each["metadata"]["name"] for each in pods]


def test_orphans_are_adopted_and_others_let_go() -> None:
    world = cluster()
    world.add(pod("lost", labels={"app": "web"}))
    world.add(workload("ReplicaSet", "web", replicas=2))
    world.settle()
    assert sorted(each["metadata"]["name"] for each in world.pods(app="web"))[0] == "lost" and len(world.pods()) == 2
    world.patch("pods", "default", "lost", {"metadata": {"labels": {"app": "taken-out"}}})
    world.settle()
    lost = world.get("pods", "default", "lost")
    assert lost is not None and not lost["metadata"].get("ownerReferences")
    assert len(world.pods(app="web")) == 2 and len(world.pods()) == 3
    assert world.status("replicasets", "web")["availableReplicas"] == 2


def test_an_ended_pod_is_replaced_and_a_refused_one_not_asked_for_again_and_again() -> None:
    world = cluster()
    world.add(workload("ReplicaSet", "web", replicas=1))
    world.settle()
    world.becomes(world.pods()[0], "Failed")
    world.settle()
    assert [each["status"]["phase"] for each in world.pods()] == ["Failed", "Running"]
    asked = []

    def refuses(verb: str, plural: str, obj: Any) -> bool:
        asked.append(verb)
        return verb == "create" and plural == "pods"

    world.refuses = refuses
    world.patch("replicasets", "default", "web", {"spec": {"replicas": 2}})
    for _ in range(60):
        world.wait(1)
    assert 3 <= asked.count("create") <= 8
    world.refuses = lambda verb, plural, obj: False
    for _ in range(70):
        world.wait(1)
    assert len(world.pods()) == 3
