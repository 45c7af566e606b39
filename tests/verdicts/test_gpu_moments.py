"""What a moment shows of a GPU stack: right after an install, and after a recovery. Synthetic clusters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import gpu_samples as make
import pytest

from leptonami.readers.gpuoperands import Link
from leptonami.readers.mustgather import read_evidence
from leptonami.readers.quantity import parse_time
from leptonami.verdicts.gpustack import StackVerdict, judge_stack, story
from leptonami.verdicts.operands import Health

NFD = "gpu-operator-node-feature-discovery-worker-abcde"
NO_RUNTIME = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: "
    'no runtime for "nvidia" is configured'
)
GLIBC = "/lib64/libc.so.6: version `GLIBC_2.27' not found (required by libnvidia-container.so.1)"


def ago(seconds: float) -> str:
    now = parse_time(make.NOW)
    assert now is not None
    return (now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def judge(*objects: Any, now: str | None = make.NOW, **more: str) -> StackVerdict:
    return judge_stack(read_evidence(make.documents(*objects, **more)), now=parse_time(now) if now else None)


def unlabelled() -> dict[str, Any]:
    """Make a node that has been there for long, and on which nothing has been found yet."""
    return make.node(gpus=None, labelled=False)


# --- right after an install -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fresh",
    [
        make.pod("gpu-operator-1-a", created=ago(20)),
        make.pod("gpu-operator-1-a", status="ContainerCreating", created=ago(200)),
        make.pod(NFD, created=ago(20)),
        make.pod(NFD, status="ContainerCreating", created=ago(200)),
        make.pod(NFD, on="", wanted="gpu-a", status="Pending", created=ago(20)),
        make.policy(state="notReady") | {"metadata": {"name": "cluster-policy", "creationTimestamp": ago(20)}},
    ],
)
def test_a_node_without_label_waits_for_what_has_just_been_installed(fresh: dict[str, Any]) -> None:
    verdict = judge(unlabelled(), fresh)
    assert verdict.state is Health.WAITING
    assert "K06" not in verdict.issues
    first = verdict.nodes[0].first
    assert first is not None
    assert (first.link, first.state) == (Link.NFD, Health.WAITING)
    # Of itself it says so no longer.
    assert judge(unlabelled(), fresh, now="2023-06-24T10:50:00Z").state is Health.BROKEN


def test_node_feature_discovery_that_has_just_come_to_another_node_excuses_nothing_here() -> None:
    other = make.pod(NFD, on="gpu-b", created=ago(20))
    verdict = judge(unlabelled(), make.node("gpu-b"), *make.stack("gpu-b"), other)
    assert {each.node: each.state for each in verdict.nodes} == {"gpu-a": Health.BROKEN, "gpu-b": Health.OK}
    failing = make.pod(NFD, on="gpu-b", status="CrashLoopBackOff")
    stack = next(each for each in judge(unlabelled(), make.node("gpu-b"), failing).nodes if each.node == "gpu-a")
    assert stack.first is not None
    assert NFD not in stack.first.why


def test_the_policy_misses_labels_that_are_about_to_come() -> None:
    policy = make.policy(reason="NFDLabelsMissing")
    policy["metadata"]["creationTimestamp"] = ago(30)
    assert judge(unlabelled(), policy, make.pod(NFD, created=ago(10))).state is Health.WAITING
    assert judge(policy).state is Health.WAITING
    policy["metadata"]["creationTimestamp"] = make.EARLIER
    verdict = judge(unlabelled(), policy, make.pod(NFD))
    assert verdict.wrong and "K06" in verdict.issues


def test_a_must_gather_taken_before_the_labels_can_be_there() -> None:
    gave_up = "FATAL: could not find nodes with NVIDIA PCI labels"
    verdict = judge(unlabelled(), make.pod(NFD, created=ago(10)), **{"must-gather__log": gave_up})
    assert verdict.state is Health.WAITING
    assert "K06" not in verdict.issues
    later = judge(unlabelled(), make.pod(NFD), **{"must-gather__log": gave_up})
    assert later.wrong and "K06" in later.issues
    alone = judge(**{"must-gather__log": gave_up})
    assert alone.wrong and "K06" in alone.issues


@pytest.mark.parametrize(
    ("age", "counted", "state"),
    [
        (5, False, Health.WAITING),
        (60, True, Health.WAITING),
        (400, False, Health.WAITING),
        (400, True, Health.BROKEN),
    ],
)
def test_daemonsets_that_nobody_has_counted_yet(age: int, counted: bool, state: Health) -> None:
    """The API server stores DESIRED 0; the controller's count comes with observedGeneration."""
    sets = [make.daemonset(key, 0, created=ago(age), counted=counted) for key in make.GATES]
    verdict = judge(make.node(gpus=None), make.pod("gpu-operator-1-a"), *sets)
    assert verdict.state is state
    assert ("K06" in verdict.issues) is (state is Health.BROKEN)


def test_daemonsets_that_nobody_counts_are_no_proof() -> None:
    sets = [make.daemonset(key, 0, created=ago(1200), counted=False) for key in make.GATES]
    verdict = judge(make.node(), *sets)
    assert any("not kept up" in each.text for each in verdict.findings)
    assert "K06" not in verdict.issues


def test_a_listing_of_daemonsets_has_ages_too() -> None:
    row = "daemonset.apps/nvidia-{0}-daemonset 0 0 0 0 0 nvidia.com/gpu.deploy.{0}=true {1}\n"
    young, old = (row.format("device-plugin", each) + row.format("container-toolkit", each) for each in ("9s", "9m"))
    assert judge(make.node(gpus=None), get__txt=young).state is Health.WAITING
    assert judge(make.node(gpus=None), get__txt=old).state is Health.BROKEN


def test_old_daemonsets_want_no_pod_on_a_node_that_has_just_joined() -> None:
    """A group that grew from zero: the DaemonSets have wanted no pod for weeks."""
    sets = [make.daemonset(key, 0) for key in make.GATES]
    new = make.node(gpus=None, labelled=False, created=ago(30))
    assert judge(new, *sets).state is Health.WAITING
    assert judge(new, make.node("gpu-b", gpus=None, labelled=False), *sets).state is Health.BROKEN


def test_a_pod_that_is_not_bound_yet_is_its_nodes() -> None:
    """As the DaemonSet controller makes it, the pod names its node by affinity."""
    later = [
        make.pod(f"{name}-x", on="", wanted="gpu-a", status="Pending", created=ago(1))
        for key, name in make.DAEMONSETS.items()
        if key != "driver"
    ]
    verdict = judge(make.node(gpus=None, labels={"nvidia.com/gpu.deploy.driver": "pre-installed"}), *later)
    assert [each.node for each in verdict.nodes] == ["gpu-a"]
    assert verdict.state is Health.WAITING
    assert not verdict.issues
    assert "on no node yet" in verdict.nodes[0].link(Link.TOOLKIT).why


def test_operands_that_are_starting_are_not_broken() -> None:
    """A minute after the install: images are pulled, and sandboxes fail until the toolkit has made the runtime."""
    made = ago(60)
    pods = make.stack(
        driver={"status": "Init:0/1", "created": made},
        container_toolkit={"status": "Init:0/1", "created": made},
        device_plugin={"status": "Pending", "created": made},
        operator_validator={"status": "Init:0/4", "created": made},
        gpu_feature_discovery={"status": "ContainerCreating", "created": made},
        dcgm_exporter={"status": "Pending", "created": made},
        without=["cuda-validator"],
    )
    tried = make.event("nvidia-device-plugin-daemonset-gpu-a", "FailedCreatePodSandBox", NO_RUNTIME)
    sets = [make.daemonset(key, 0, created=made, counted=False) for key in make.GATES]
    verdict = judge(make.node(gpus=None), *pods, *sets, tried, make.policy(state="notReady"))
    assert verdict.state is Health.WAITING, verdict.headline
    assert not verdict.issues
    # Half an hour later the same is a fault, and known.
    verdict = judge(make.node(gpus=None), *pods, tried, now="2023-06-24T11:00:00Z")
    assert verdict.wrong and "K04" in verdict.issues


def test_the_drivers_image_may_not_exist_while_a_driver_is_looked_for() -> None:
    """On an AMI with a driver the node gets its label by the driver pod's init container, and nobody pulls."""
    node, wants = make.node(gpus=None, os=("amzn", "2"), created=ago(60)), make.policy(state="notReady")
    new = {"status": "Init:0/1", "created": ago(20)}
    pods = make.stack(driver=new, without=[key for key in make.GATES if key != "driver"] + ["cuda-validator"])
    verdict = judge(node, *pods, wants)
    assert (verdict.state, verdict.issues) == (Health.WAITING, ())
    assert any("which does not exist" in each.text for each in verdict.findings)
    pods[0]["status"]["initContainerStatuses"][0]["state"] = make.DONE
    pods[0]["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull"}}
    verdict = judge(node, *pods, wants)
    assert verdict.wrong and "K01" in verdict.issues


def test_a_plugin_that_has_just_started_has_time_to_register() -> None:
    """Its pod waited for the driver for half an hour; what counts is since when it runs."""
    validator = {"status": "Init:3/4", "created": ago(100)}
    started = make.stack(operator_validator=validator, without=["cuda-validator"])
    for each in started:
        if "device-plugin" in each["metadata"]["name"]:
            each["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": ago(3)}}
    assert judge(make.node(gpus=None), *started).state is Health.WAITING
    # Restarted: the kubelet still has the capacity, and nothing to offer.
    verdict = judge(make.node(gpus=0, capacity=1), *started)
    assert (verdict.state, verdict.issues) == (Health.WAITING, ())
    verdict = judge(make.node(gpus=None), *started, now="2023-06-24T10:40:00Z")
    assert verdict.wrong and "K16" in verdict.issues


def test_gpus_are_not_sick_because_the_plugin_is_not_there() -> None:
    verdict = judge(make.node(gpus=0, capacity=4), *make.stack(device_plugin="CrashLoopBackOff"))
    assert "K10" not in verdict.issues
    first = verdict.nodes[0].first
    assert first is not None and first.link is Link.DEVICE_PLUGIN


def test_an_image_that_is_being_pulled_is_no_missing_driver() -> None:
    """The driver is the host's; for five minutes the validator's image has been on its way."""
    pods = make.stack(
        operator_validator={"status": "Init:ContainerCreating", "created": ago(300)},
        container_toolkit={"status": "Init:0/1", "created": ago(300)},
        without=["driver", "device-plugin", "gpu-feature-discovery", "dcgm-exporter", "cuda-validator"],
    )
    for each in pods:
        each["status"]["initContainerStatuses"][0]["state"] = {"waiting": {"reason": "PodInitializing"}}
        for other in each["status"]["initContainerStatuses"][1:]:
            other["state"] = {"waiting": {"reason": "PodInitializing"}}
    node = make.node(gpus=None, labels={"nvidia.com/gpu.deploy.driver": "pre-installed"}, created=ago(60))
    verdict = judge(node, *pods)
    assert verdict.state is Health.WAITING, story(verdict)
    assert "K22" not in verdict.issues


def test_patience_counts_from_when_a_pod_ceased_to_be_ready() -> None:
    """A pod of three days is rolled out, or its container has just restarted: both come right by waiting."""
    pods = make.stack()
    toolkit = next(each for each in pods if "toolkit" in each["metadata"]["name"])
    toolkit["metadata"] |= {"creationTimestamp": "2023-06-20T10:00:00Z", "deletionTimestamp": ago(5)}
    verdict = judge(make.node(), *pods)
    assert verdict.nodes[0].link(Link.TOOLKIT).state is Health.WAITING
    del toolkit["metadata"]["deletionTimestamp"]
    toolkit["status"]["containerStatuses"][0]["ready"] = False
    toolkit["status"]["conditions"] = [{"type": "Ready", "status": "False", "lastTransitionTime": ago(5)}]
    assert judge(make.node(), *pods).nodes[0].link(Link.TOOLKIT).state is Health.WAITING
    toolkit["status"]["conditions"][0]["lastTransitionTime"] = ago(1000)
    assert judge(make.node(), *pods).nodes[0].link(Link.TOOLKIT).state is Health.BROKEN


def test_a_validator_pod_keeps_a_node_when_it_does_not_end() -> None:
    new = {"status": "Init:0/1", "created": ago(60)}
    pods = make.stack(cuda_validator=new, operator_validator={"status": "Init:2/4", "created": ago(70)})
    assert not judge(make.node(), *pods).issues
    assert "K33" in judge(make.node(), *pods, now="2023-06-24T10:50:00Z").issues


# --- after a recovery -------------------------------------------------------------------------------------------------


def test_what_a_pod_has_recovered_from_is_no_finding() -> None:
    past = make.event("nvidia-device-plugin-daemonset-gpu-a", "FailedCreatePodSandBox", NO_RUNTIME, at=ago(3600))
    verdict = judge(make.node(), *make.stack(), past)
    assert verdict.state is Health.OK
    assert not verdict.issues and not verdict.known
    # In the second in which it began to run, as on a lab in a hurry.
    past["lastTimestamp"] = make.EARLIER
    assert not judge(make.node(), *make.stack(), past).issues
    # An event without a time does not speak against a pod that is well; nor one against a pod without times.
    past.pop("lastTimestamp")
    assert not judge(make.node(), *make.stack(), past).issues
    done = make.event("nvidia-cuda-validator-gpu-a", "Failed", GLIBC, at=ago(60))
    assert not judge(make.node(), *make.stack(), done).issues


def test_what_happens_to_a_healthy_pod_now_is_a_finding() -> None:
    verdict = judge(make.node(), *make.stack(), make.event("nvidia-dcgm-exporter-gpu-a", "Failed", GLIBC))
    assert verdict.issues == ("K03",)
    (proof,) = verdict.known[0].proofs
    assert proof.place == "event nvidia-dcgm-exporter-gpu-a.1"


def test_an_event_is_over_when_its_own_container_runs() -> None:
    """The toolkit's pod has a second container, which began to run after the first had failed."""
    pods = make.stack(container_toolkit="CrashLoopBackOff")
    toolkit = next(each for each in pods if "toolkit" in each["metadata"]["name"])
    side = {"name": "side", "ready": True, "state": {"running": {"startedAt": ago(60)}}}
    toolkit["status"]["containerStatuses"].append(side)
    name = toolkit["metadata"]["name"]
    assert "K03" in judge(make.node(), *pods, make.event(name, "Failed", GLIBC, at=ago(300), container="main")).issues
    for container, at in (("side", 300), ("", 300)):
        past = make.event(name, "Failed", GLIBC, at=ago(at), container=container)
        assert "K03" not in judge(make.node(), *pods, past).issues
    # Its init container ended in the very second in which the container failed.
    toolkit["status"]["initContainerStatuses"][0]["state"]["terminated"] = {"exitCode": 0, "finishedAt": ago(300)}
    toolkit["status"]["containerStatuses"].pop()
    assert "K03" in judge(make.node(), *pods, make.event(name, "Failed", GLIBC, at=ago(300))).issues


def test_the_event_of_a_pod_that_is_gone_is_no_finding() -> None:
    gone = make.event("nvidia-driver-daemonset-zzzzz", "Failed", "nvcr.io/nvidia/driver:525-amzn2: not found")
    assert not judge(make.node(), *make.stack(without=["driver"]), gone).issues
    assert judge(make.node(), gone).issues == ("K01",)  # no pods in the evidence: it is all that tells


def test_the_log_before_a_restart_is_no_finding_of_a_pod_that_is_well() -> None:
    name = "gpu_operand_pod_nvidia-container-toolkit-daemonset-gpu-a__previous__log"
    assert not judge(make.node(), *make.stack(), **{name: GLIBC}).issues
    assert "K03" in judge(make.node(), *make.stack(container_toolkit="CrashLoopBackOff"), **{name: GLIBC}).issues


def test_a_listing_in_which_all_have_just_begun_is_no_known_issue() -> None:
    waiting = ("container-toolkit-daemonset", "device-plugin-daemonset", "dcgm-exporter", "driver-daemonset")
    rows = [f"pod/nvidia-{each}-68vvp   0/1   Init:0/1   0   40s" for each in waiting]
    rows.append("pod/nvidia-operator-validator-2qsjh   0/1   Init:0/4   0   40s")
    verdict = judge(list__txt="\n".join(rows))
    assert (verdict.state, verdict.issues) == (Health.WAITING, ())


@pytest.mark.parametrize("state", ["evicted", "terminating"])
def test_a_pod_that_was_replaced_does_not_count(state: str) -> None:
    """An evicted pod of a Deployment stays; a pod that goes hangs on beside the one in its place."""
    old = [make.pod("gpu-operator-1-old", on="gpu-b", created="2023-06-24T09:00:00Z")]
    old += [make.pod("nvidia-container-toolkit-daemonset-old", created="2023-06-24T09:00:00Z")]
    for each in old:
        if state == "evicted":
            each["status"] = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource"}
        else:
            each["metadata"]["deletionTimestamp"] = ago(3)
    verdict = judge(make.node(), *make.stack(), make.pod("gpu-operator-1-new"), *old)
    assert verdict.state is Health.OK, story(verdict)
    assert not verdict.findings
    alone = judge(make.node(), *make.stack(without=["container-toolkit"]), *old)
    assert alone.state is (Health.BROKEN if state == "evicted" else Health.WAITING)


# --- nodes do not speak for each other --------------------------------------------------------------------------------


def test_a_custom_node_is_well_whatever_its_neighbours_are() -> None:
    """The end-to-end case: AL2 crash-looping, Canonical's image without driver, and a custom image between them."""
    host = {"nvidia.com/gpu.deploy.driver": "pre-installed"}
    al2 = make.stack(
        "al2", driver="Terminating", device_plugin={"status": "CrashLoopBackOff", "last": GLIBC},
        operator_validator={"status": "Init:CrashLoopBackOff", "done": 2}, cuda_validator="RunContainerError",
        gpu_feature_discovery="CrashLoopBackOff", dcgm_exporter="CrashLoopBackOff", without=["driver"],
    )  # fmt: skip
    for each in al2:
        for one in each["status"].get("initContainerStatuses", []):
            one["restartCount"] = 38
    plain = make.stack(
        "plain", driver={"status": "ImagePullBackOff", "message": "Back-off pulling image"},
        container_toolkit="Init:0/1", device_plugin="Pending", operator_validator="Init:0/4",
        gpu_feature_discovery="Pending", dcgm_exporter="Pending", without=["cuda-validator"],
    )  # fmt: skip
    custom = make.stack("custom", without=["driver"])
    events = [
        make.event(f"nvidia-device-plugin-daemonset-{node}", "FailedCreatePodSandBox", NO_RUNTIME, at=ago(3000))
        for node in ("al2", "plain", "custom")
    ]
    # Of the driver's pod that was there until the node had its label, and of a validator's pod before this one.
    events.append(make.event("nvidia-driver-daemonset-custom", "Failed", "driver:525.105.17-amzn2: not found"))
    events.append(make.event("nvidia-cuda-validator-custom", "Failed", GLIBC, at=ago(3000)))
    for each in custom:
        if "operator-validator" in each["metadata"]["name"]:
            each["status"]["initContainerStatuses"][0]["restartCount"] = 5
    verdict = judge(
        make.node("al2", gpus=None, labels=host, os=("amzn", "2")),
        make.node("plain", gpus=None),
        make.node("custom", labels=host),
        *al2, *plain, *custom, *events, make.policy(state="notReady"),
    )  # fmt: skip
    assert {each.node: each.state for each in verdict.nodes} == {
        "al2": Health.BROKEN, "plain": Health.BROKEN, "custom": Health.OK
    }  # fmt: skip
    assert not [issue for each in verdict.nodes if each.node == "custom" for one in each.links for issue in one.issues]
