"""Jobs and PodDisruptionBudgets, held to the controller manager's rules and words."""

from __future__ import annotations

from typing import Any

from fleetworld import World, node, pod, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.lab.conditions import is_ready

TRACKING = "batch.kubernetes.io/job-tracking"


def cluster() -> World:
    world = World()
    for name in "abc":
        world.add(node(name, cpu="64"))
    return world


def end(world: World, phase: str, how_many: int = 99) -> None:
    """Have running pods end."""
    for each in [each for each in world.pods() if each.get("status", {}).get("phase") == "Running"][:how_many]:
        world.becomes(each, phase)


def condition(world: World, kind: str, plural: str = "jobs", name: str = "train") -> tuple[str, str, str] | None:
    for each in world.status(plural, name).get("conditions") or ():
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return None


def test_a_job_runs_its_completions_so_many_at_a_time() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=5, parallelism=2))
    world.settle()
    status = world.status("jobs", "train")
    assert (len(world.pods()), status["active"], status["ready"]) == (2, 2, 2)
    labels = world.pods()[0]["metadata"]["labels"]
    uid = world.get("jobs", "default", "train")["metadata"]["uid"]  # type: ignore[index]
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "train"
    assert labels["batch.kubernetes.io/controller-uid"] == labels["controller-uid"] == uid
    assert world.pods()[0]["metadata"]["finalizers"] == [TRACKING]
    for _ in range(3):
        end(world, "Succeeded")
        world.settle()
    assert world.status("jobs", "train")["succeeded"] == 5 and len(world.pods()) == 5
    assert condition(world, "Complete") == ("True", "CompletionsReached", "Reached expected number of succeeded pods")
    assert condition(world, "SuccessCriteriaMet") is not None and world.status("jobs", "train")["completionTime"]
    assert "active" not in world.status("jobs", "train")
    assert ("Completed", "Job completed") in world.reasons("train")
    assert all(not each["metadata"].get("finalizers") for each in world.pods())


def test_a_job_without_completions_is_done_when_one_is_and_the_others_have_ended() -> None:
    world = cluster()
    world.add(workload("Job", "train", parallelism=3))
    world.settle()
    end(world, "Succeeded", 1)
    world.settle()
    assert len(world.pods()) == 3 and condition(world, "Complete") is None
    end(world, "Succeeded")
    world.settle()
    assert condition(world, "Complete") is not None and world.status("jobs", "train")["succeeded"] == 3


def test_failures_are_tried_again_ever_later_up_to_the_limit() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1, backoffLimit=2))
    gaps = []
    for _ in range(3):
        world.settle()
        end(world, "Failed")
        before, pods = world.seconds, len(world.pods())
        for _ in range(60):
            world.wait(1)
            if len(world.pods()) > pods or condition(world, "Failed"):
                break
        gaps.append(world.seconds - before)
    assert 9 <= gaps[0] <= 12 and 19 <= gaps[1] <= 22 and gaps[2] <= 3
    world.settle()
    assert condition(world, "Failed") == ("True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert world.status("jobs", "train")["failed"] == 3 and len(world.pods()) == 3
    assert ("BackoffLimitExceeded", "Job has reached the specified backoff limit") in world.reasons("train")


def test_a_pod_lost_with_its_node_counts_once_and_is_made_again() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=2, parallelism=2))
    world.settle()
    end(world, "Succeeded", 1)
    [done] = [each for each in world.pods() if each["status"]["phase"] == "Succeeded"]
    [runs] = [each for each in world.pods() if each["status"]["phase"] == "Running"]
    for each in (done, runs):  # deleted before the controller has seen it: what the finalizer is for
        world.delete("pods", "default", each["metadata"]["name"])
    for _ in range(30):
        world.wait(1)
        world.kubelets()
    assert world.get("pods", "default", done["metadata"]["name"]) is None
    assert world.get("pods", "default", runs["metadata"]["name"]) is None
    status = world.status("jobs", "train")
    assert (status["succeeded"], status["failed"], status["active"]) == (1, 1, 1)
    end(world, "Succeeded")
    world.settle()
    assert condition(world, "Complete") is not None


def test_a_pod_whose_finalizer_stays_for_a_while_is_not_counted_again() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=2))
    world.settle()
    write, refused = world.patch, []

    def patch(plural: str, namespace: str | None, name: str, body: Any, subresource: str = "") -> None:
        if plural == "pods" and "finalizers" in (body.get("metadata") or {}) and len(refused) < 3:
            refused.append(name)
            world._changes.add((plural, namespace or "", name))
        else:
            write(plural, namespace, name, body, subresource)

    world.patch = patch  # type: ignore[method-assign]
    end(world, "Succeeded")
    world.settle()
    assert len(refused) == 3 and world.status("jobs", "train")["succeeded"] == 1
    assert condition(world, "Complete") is None


def test_suspended_and_resumed() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1, suspend=True))
    world.settle()
    assert world.pods() == [] and condition(world, "Suspended") == ("True", "JobSuspended", "Job suspended")
    assert "startTime" not in world.status("jobs", "train")
    world.patch("jobs", "default", "train", {"spec": {"suspend": False}})
    world.settle()
    assert len(world.pods()) == 1 and condition(world, "Suspended") == ("False", "JobResumed", "Job resumed")
    world.patch("jobs", "default", "train", {"spec": {"suspend": True}})
    world.settle()
    assert world.all("pods") == [] and "failed" not in world.status("jobs", "train")
    assert [reason for reason, _ in world.reasons("train") if reason in {"Suspended", "Resumed"}] == [
        "Suspended",
        "Resumed",
        "Suspended",
    ]


def test_a_deadline_and_the_removal_after_the_end() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1, activeDeadlineSeconds=30, ttlSecondsAfterFinished=100))
    world.settle()
    for _ in range(31):
        world.wait(1)
    assert condition(world, "Failed") == ("True", "DeadlineExceeded", "Job was active longer than specified deadline")
    world.kubelets()
    world.settle()
    assert world.pods() == []
    world.wait(60)
    assert world.get("jobs", "default", "train") is not None
    world.wait(60)
    assert world.get("jobs", "default", "train") is None


def test_restarts_within_the_pod_count_as_well() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1, backoffLimit=3, template={"restartPolicy": "OnFailure"}))
    world.settle()
    [found] = world.pods()
    for restarts in (2, 3):
        status = {"containerStatuses": [{"restartCount": restarts}]}
        world.patch("pods", "default", found["metadata"]["name"], {"status": status}, "status")
        assert condition(world, "Failed") is None
        world.wait(5)
    assert condition(world, "Failed") is not None


def test_a_pod_does_not_wait_for_a_job_that_is_gone() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1))
    world.settle()
    world.delete("jobs", "default", "train")
    world.delete("pods", "default", world.pods()[0]["metadata"]["name"])
    world.settle()
    assert world.all("pods") == []


def test_what_is_not_run_says_so() -> None:
    world = cluster()
    world.add(workload("Job", "train", completions=1, completionMode="Indexed"))
    world.settle()
    found = condition(world, "Failed")
    assert found is not None and "Indexed" in found[2] and world.pods() == []


# --- PodDisruptionBudgets ---------------------------------------------------------------------------------------------


def budget(**spec: Any) -> dict[str, Any]:
    body = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    about = {"name": "keep", "namespace": "default"}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": body}


def numbers(world: World) -> tuple[int, int, int, int]:
    status = world.status("poddisruptionbudgets", "keep")
    return status["expectedPods"], status["currentHealthy"], status["desiredHealthy"], status["disruptionsAllowed"]


def test_the_numbers_are_rounded_as_the_documentation_has_it() -> None:
    # https://kubernetes.io/docs/tasks/run-application/configure-pdb/#rounding-logic-when-specifying-percentages
    for spec, wanted in (
        ({"minAvailable": 5}, (7, 7, 5, 2)),
        ({"minAvailable": "50%"}, (7, 7, 4, 3)),
        ({"maxUnavailable": "30%"}, (7, 7, 4, 3)),
        ({"maxUnavailable": 2}, (7, 7, 5, 2)),
        ({"maxUnavailable": 0}, (7, 7, 7, 0)),
        ({"minAvailable": 9}, (7, 7, 9, 0)),
        ({"maxUnavailable": 9}, (7, 7, 0, 7)),
    ):
        world = cluster()
        world.add(workload("Deployment", "web", replicas=7))
        world.settle()
        world.add(budget(**spec))
        world.settle()
        assert numbers(world) == wanted, spec
        status = world.status("poddisruptionbudgets", "keep")
        assert status["observedGeneration"] == 1
        expected = ("True", "SufficientPods", "") if wanted[3] else ("False", "InsufficientPods", "")
        assert condition(world, "DisruptionAllowed", "poddisruptionbudgets", "keep") == expected


def test_pods_that_are_not_healthy_do_not_count_and_pods_without_a_controller_are_not_expected() -> None:
    world = cluster()
    world.add(workload("ReplicaSet", "web", replicas=3))
    world.add(pod("alone", labels={"app": "other"}))
    world.settle()
    world.becomes(world.pods(app="web")[0], ready=False)
    both = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "other"]}]}
    world.add(budget(selector=both, minAvailable="100%"))
    world.wait(1)
    assert numbers(world) == (3, 3, 3, 0)
    world.patch("poddisruptionbudgets", "default", "keep", {"spec": {"minAvailable": 2}})
    world.wait(1)
    assert numbers(world) == (4, 3, 2, 1)


def test_a_controller_that_cannot_be_scaled_fails_the_sync_and_allows_nothing() -> None:
    world = cluster()
    world.add(workload("DaemonSet", "web"))
    world.settle()
    world.add(budget(maxUnavailable=1))
    world.settle()
    assert world.status("poddisruptionbudgets", "keep")["disruptionsAllowed"] == 0
    found = condition(world, "DisruptionAllowed", "poddisruptionbudgets", "keep")
    assert found == ("False", "SyncFailed", "daemonsets.apps does not implement the scale subresource")


def evict(world: World, name: str) -> bool:
    """Do what the eviction subresource does (registry/core/pod/storage/eviction.go), all but the deletion."""
    found = world.get("poddisruptionbudgets", "default", "keep")
    assert found is not None
    status = found.get("status") or {}
    if status.get("observedGeneration") != found["metadata"]["generation"] or status["disruptionsAllowed"] < 1:
        return False
    new = {"disruptionsAllowed": status["disruptionsAllowed"] - 1, "disruptedPods": {name: world.stamp()}}
    world.patch("poddisruptionbudgets", "default", "keep", {"status": new}, "status")
    return True


def test_an_eviction_that_was_granted_counts_until_it_happens_or_for_two_minutes() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=3))
    world.settle()
    world.add(budget(minAvailable=2))
    world.settle()
    name = world.pods()[0]["metadata"]["name"]
    assert evict(world, name)
    world.wait(1)
    assert numbers(world) == (3, 2, 2, 0)  # granted, though the pod is still there and ready
    for _ in range(118):
        world.wait(1)
    assert numbers(world)[3] == 0
    for _ in range(4):
        world.wait(1)
    assert numbers(world) == (3, 3, 2, 1)
    assert not world.status("poddisruptionbudgets", "keep").get("disruptedPods")
    assert ("NotDeleted", "Pod was expected by PDB default/keep to be deleted but it wasn't") in world.reasons("keep")
    assert evict(world, name)
    world.delete("pods", "default", name)
    world.wait(1)
    assert not world.status("poddisruptionbudgets", "keep").get("disruptedPods")
    assert numbers(world)[3] == 0
    world.settle()
    assert numbers(world) == (3, 3, 2, 1)


def test_a_status_that_was_worked_out_from_an_older_version_is_not_written() -> None:
    world = cluster()
    world.add(workload("Deployment", "web", replicas=3))
    world.add(budget(minAvailable=2))
    world.settle()
    write, raced = world.patch, []

    def patch(plural: str, namespace: str | None, name: str, body: Any, subresource: str = "") -> None:
        if plural == "poddisruptionbudgets" and not raced and "disruptionsAllowed" in body["status"]:
            raced.append(name)
            write(plural, namespace, name, {"status": {"disruptionsAllowed": 0}}, "status")  # an eviction in between
        write(plural, namespace, name, body, subresource)

    world.patch = patch  # type: ignore[method-assign]
    world.patch("deployments", "default", "web", {"spec": {"replicas": 4}})
    world.turn()
    while not raced:
        world.wait(1)
        world.kubelets()
    assert world.status("poddisruptionbudgets", "keep")["disruptionsAllowed"] == 0
    world.settle()
    assert numbers(world) == (4, 4, 2, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.sampled_from(["minAvailable", "maxUnavailable"]),
    st.one_of(st.integers(0, 6), st.sampled_from(["0%", "30%", "50%", "100%"])),
    st.lists(st.tuples(st.sampled_from(["evict", "kubelets", "wait", "one"]), st.integers(0, 9)), max_size=40),
)
def test_evictions_never_break_the_budget(replicas: int, which: str, value: Any, luck: list[Any]) -> None:
    world = cluster()
    world.add(workload("ReplicaSet", "web", replicas=replicas))
    world.settle()
    world.add(budget(**{which: value}))
    world.settle()
    if which == "minAvailable":
        least = -(-int(value[:-1]) * replicas // 100) if isinstance(value, str) else value
    else:
        least = replicas - (-(-int(value[:-1]) * replicas // 100) if isinstance(value, str) else value)
    for what, number in luck:
        ready = [each for each in world.pods(app="web") if is_ready(each)]
        if what == "evict" and ready:
            name = ready[number % len(ready)]["metadata"]["name"]
            if evict(world, name):
                assert len(ready) - 1 >= least
                world.delete("pods", "default", name)
        elif what == "kubelets":
            world.kubelets()
        elif what == "one" and (
            late := [each for each in world.all("pods") if each["metadata"].get("deletionTimestamp")]
        ):
            world.gone(late[0])
        else:
            world.wait(1)
    world.settle()
    assert numbers(world) == (replicas, replicas, max(0, least), max(0, replicas - max(0, least)))
