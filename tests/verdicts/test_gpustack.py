"""The verdict on the GPU stack. Synthetic clusters (tests/gpu_samples.py) unless a test says "recorded"."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gpu_samples as make
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.documents import load_bundle
from leptonami.readers.gpuoperands import Link
from leptonami.readers.mustgather import read_evidence
from leptonami.readers.quantity import parse_time
from leptonami.verdicts.gpuchain import LinkVerdict
from leptonami.verdicts.gpustack import StackVerdict, judge_stack, matrix, story, table
from leptonami.verdicts.operands import Health

RECORDED = Path(__file__).parents[2] / "data" / "recorded"


def judge(*objects: Any, now: str | None = make.NOW, **more: str) -> StackVerdict:
    evidence = read_evidence(make.documents(*objects, **more))
    return judge_stack(evidence, now=parse_time(now) if now else None)


def recorded(name: str, now: str | None = None) -> StackVerdict:
    bundle = load_bundle(RECORDED / name)
    return judge_stack(read_evidence(bundle.documents, root=bundle.name), now=parse_time(now) if now else None)


def link(verdict: StackVerdict) -> LinkVerdict:
    found = verdict.nodes[0].first
    assert found is not None, verdict.headline
    assert found.proof is not None
    assert found.remedy
    return found


def first(verdict: StackVerdict) -> tuple[Link, Health]:
    return link(verdict).link, link(verdict).state


# --- what was recorded ---


def test_recorded_listing_is_healthy_as_far_as_a_listing_can_tell() -> None:
    """The original listing (recorded 2023-06-24), in which 0/1 Completed pods look broken and are not."""
    verdict = recorded("original/gpu-operator-get-all.txt")
    assert verdict.state is Health.OK
    assert verdict.headline.startswith("healthy as far as a listing can tell: all pods of 7 operands are well")
    assert "2 GPU nodes" in verdict.headline and "4 validator pods Completed" in verdict.headline
    assert any("which GPU nodes there are" in each for each in verdict.cannot_tell)
    assert any("version" in each for each in verdict.cannot_tell)
    (stack,) = verdict.nodes
    assert "it is on the host" in stack.link(Link.DRIVER).why
    assert not verdict.issues and not verdict.wrong
    assert 2 <= len(story(verdict)) <= 6


def test_recorded_log_proves_the_driver_is_on_the_host() -> None:
    """The original listing and device plugin log (recorded 2023-06-24)."""
    verdict = recorded("original")
    stack = verdict.nodes[0]
    assert "NVIDIA_DRIVER_ROOT=/" in stack.link(Link.DRIVER).why
    assert "registered nvidia.com/gpu" in stack.link(Link.DEVICE_PLUGIN).why


@pytest.mark.parametrize("name", ["healthy", "broken-driver", "broken-nolabel"])
def test_recorded_end_without_gpu_node_is_nothing_to_judge(name: str) -> None:
    """Recorded (real cluster-autoscaler, emulated nodes): in the end their GPU nodes are gone."""
    verdict = recorded(f"autoscaler/{name}")
    assert verdict.state is Health.NOT_DETERMINED
    assert verdict.headline == "no GPU node (1 other node): nothing to judge"
    assert not verdict.nodes


def test_recorded_broken_fleet() -> None:
    """Recorded (emulated nodes): five GPU nodes, nothing allocatable, every operand Pending for 30 minutes."""
    verdict = recorded("autoscaler/broken-fleet")
    assert verdict.wrong
    assert verdict.headline == "broken on 5 of 5 GPU nodes: the first link that is not whole is the driver"
    assert len(verdict.nodes) == 5
    assert {each.link(Link.ALLOCATABLE).state for each in verdict.nodes} == {Health.WAITING}
    assert {each.link(Link.NFD).state for each in verdict.nodes} == {Health.NOT_DETERMINED}
    # The emulated DaemonSets say DESIRED 0 and have pods: that is no K06.
    assert "K06" not in verdict.issues


def test_recorded_broken_toolkit_names_what_blocks_scale_down() -> None:
    """Recorded (emulated nodes): validator pods that belong to the ClusterPolicy and never end."""
    # The objects are as old as they are, says the autoscaler's last status; of themselves they seem new.
    verdict = recorded("autoscaler/broken-toolkit", "2026-11-23T17:05:00Z")
    assert verdict.state is Health.BROKEN
    assert "K33" in verdict.issues
    assert any("keeps cluster-autoscaler from removing the node" in each for each in story(verdict))


# --- healthy ---


def test_healthy() -> None:
    verdict = judge(make.node(), *make.stack(), make.policy())
    assert verdict.state is Health.OK
    assert verdict.headline == "healthy: the GPU node offers its GPUs"
    assert {each.state for each in verdict.nodes[0].links[:6]} == {Health.OK}
    assert verdict.version == "v23.3.2"
    assert not verdict.issues
    assert story(verdict)[0] == "Healthy: the GPU node offers its GPUs."
    assert len(story(verdict)) >= 2


@pytest.mark.parametrize(
    ("labels", "spec"),
    [
        ({"nvidia.com/gpu.deploy.driver": "pre-installed"}, {}),
        ({"nvidia.com/gpu.deploy.driver": "true"}, {"driver": {"enabled": False}}),
    ],
)
def test_no_driver_pod_is_fine_when_the_driver_is_on_the_host(labels: dict[str, str], spec: dict[str, Any]) -> None:
    verdict = judge(make.node(labels=labels), *make.stack(without=["driver"]), make.policy(spec=spec))
    assert verdict.state is Health.OK, verdict.headline
    assert "on the host" in verdict.nodes[0].link(Link.DRIVER).why
    assert "on the host" in " ".join(story(verdict))
    assert matrix(verdict).loc["driver", "gpu-a"] == "not expected"


def test_driver_pod_that_fails_for_a_minute_on_a_preinstalled_ami_is_normal() -> None:
    """k8s-driver-manager finds a driver, labels the node, ends with an error after 60 s, and the pod goes."""
    new = {"status": "Init:Error", "created": "2023-06-24T10:29:00Z"}
    verdict = judge(make.node(), *make.stack(driver=new))
    assert verdict.state is Health.OK, verdict.headline
    old = {"status": "Init:Error", "created": "2023-06-24T10:20:00Z"}
    verdict = judge(make.node(), *make.stack(driver=old))
    assert first(verdict) == (Link.DRIVER, Health.BROKEN)


def test_mig_and_mps_daemonsets_that_want_no_pod_are_fine() -> None:
    empty = {
        "kind": "DaemonSet",
        "metadata": {"name": "nvidia-mig-manager", "namespace": "gpu-operator"},
        "status": {"desiredNumberScheduled": 0},
    }
    mps = empty | {"metadata": {"name": "nvidia-device-plugin-mps-control-daemon", "namespace": "gpu-operator"}}
    verdict = judge(make.node(), *make.stack(), empty, mps)
    assert verdict.state is Health.OK
    assert not verdict.findings


@pytest.mark.parametrize(
    ("version", "env", "cell"),
    [
        ("v23.3.2", None, "not determined"),
        ("v23.6.0", None, "not expected"),
        ("v26.7.0", None, "not expected"),
        ("v26.7.0", "true", "not determined"),
        ("v23.3.2", "false", "not expected"),
    ],
)
def test_plugin_validator_is_expected_up_to_v23_3(version: str, env: str | None, cell: str) -> None:
    spec = {"validator": {"plugin": {"env": [{"name": "WITH_WORKLOAD", "value": env}]}}} if env else {}
    verdict = judge(make.node(), *make.stack(), make.policy(version=version, spec=spec))
    assert verdict.state is Health.OK  # the operator-validator is Running: it has passed
    assert matrix(verdict).loc["device-plugin-validator", "gpu-a"] == cell


def test_plugin_validator_that_fails_is_a_fault_whatever_the_version() -> None:
    failing = make.pod("nvidia-device-plugin-validator-a", status="UnexpectedAdmissionError", owner="ClusterPolicy")
    verdict = judge(make.node(), *make.stack(operator_validator="Init:3/4"), failing)
    assert first(verdict) == (Link.VALIDATOR, Health.BROKEN)
    assert "K33" in verdict.issues


# --- broken, link by link ---


def test_no_nfd_label() -> None:
    verdict = judge(make.node(gpus=None, labelled=False))
    assert first(verdict) == (Link.NFD, Health.BROKEN)
    assert "K06" in verdict.issues
    assert "instance-type=g4dn.xlarge" in str(link(verdict).proof)


def test_node_that_has_just_joined_is_given_time() -> None:
    verdict = judge(make.node(gpus=None, labelled=False, created="2023-06-24T10:29:30Z"))
    assert verdict.state is Health.WAITING


def test_driver_image_that_does_not_exist() -> None:
    """K01, as in the original document: `nvcr.io/nvidia/driver:525.105.17-amzn2: not found`."""
    image = "nvcr.io/nvidia/driver:525.105.17-amzn2"
    waiting = {f"{key}": "Init:0/1" for key in ("container_toolkit", "device_plugin", "dcgm_exporter")}
    pods = make.stack(
        driver={"status": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'},
        operator_validator="Init:0/4",
        gpu_feature_discovery="Init:0/1",
        without=["cuda-validator"],
        **waiting,
    )
    event = make.event("nvidia-driver-daemonset-gpu-a", "Failed", f'Failed to pull image "{image}": {image}: not found')
    verdict = judge(make.node(gpus=None, os=("amzn", "2")), *pods, event, make.policy(state="notReady"))
    assert first(verdict) == (Link.DRIVER, Health.BROKEN)
    assert "not found" in link(verdict).why
    assert "K01" in verdict.issues
    assert verdict.image is not None and verdict.image.image is not None
    assert verdict.image.image.image == image
    assert any(f"asks for {image}, which does not exist" in each.text for each in verdict.findings)
    # No cuda-validator was made, so nothing here keeps the autoscaler from removing the node.
    assert "K33" not in verdict.issues


def test_a_pod_whose_image_cannot_be_pulled_has_no_log_to_read() -> None:
    pods = make.stack(driver="ImagePullBackOff", operator_validator="Init:0/4", without=["cuda-validator"])
    remedy = link(judge(make.node(gpus=None), *pods)).remedy
    assert "kubectl describe pod" in remedy and "--os" in remedy and "log" not in remedy
    crashing = make.stack(driver="CrashLoopBackOff", operator_validator="Init:0/4", without=["cuda-validator"])
    assert "read the driver pod's log" in link(judge(make.node(gpus=None), *crashing)).remedy


def test_mixed_cluster() -> None:
    nodes = [make.node("a", os=("amzn", "2")), make.node("b", os=("ubuntu", "22.04"))]
    verdict = judge(*nodes, make.policy(), *make.stack("a"), *make.stack("b"))
    assert any("driver image of another OS" in each.text and each.state is Health.BROKEN for each in verdict.findings)


def test_toolkit_that_needs_a_newer_glibc() -> None:
    """K03: what is broken on AL2 with a driver, and what leaves a validator pod that blocks scale-down."""
    glibc = "nvidia-container-cli: /lib64/libc.so.6: version `GLIBC_2.27' not found"
    pods = make.stack(
        container_toolkit={"status": "CrashLoopBackOff", "last": glibc},
        device_plugin="Init:0/1",
        operator_validator={"status": "Init:CrashLoopBackOff", "done": 1},
        cuda_validator="Init:CrashLoopBackOff",
        without=["driver"],
    )
    verdict = judge(make.node(gpus=None, labels={"nvidia.com/gpu.deploy.driver": "pre-installed"}), *pods)
    stack = verdict.nodes[0]
    assert stack.link(Link.TOOLKIT).state is Health.BROKEN
    assert "GLIBC_2.27" in stack.link(Link.TOOLKIT).why
    assert {"K03", "K33"} <= set(verdict.issues)
    assert first(verdict) == (Link.TOOLKIT, Health.BROKEN)
    assert "toolkit.enabled=false" in link(verdict).remedy
    assert any("K03" in each for each in story(verdict))


def test_listing_of_a_broken_toolkit() -> None:
    """The same from a listing: the driver's validation is behind the toolkit's pod, so the driver is there."""
    listing = (
        "NAME READY STATUS RESTARTS AGE\n"
        "nvidia-container-toolkit-daemonset-x 0/1 CrashLoopBackOff 7 (2m ago) 14m\n"
        "nvidia-device-plugin-daemonset-x 0/1 Init:0/1 0 14m\n"
        "nvidia-operator-validator-x 0/1 Init:1/4 0 14m\n"
    )
    verdict = judge(list__txt=listing)
    assert first(verdict) == (Link.TOOLKIT, Health.BROKEN)
    assert verdict.nodes[0].link(Link.DRIVER).state is Health.OK
    assert "toolkit-validation" in verdict.nodes[0].link(Link.VALIDATOR).why


def test_listing_in_which_all_wait_for_the_driver() -> None:
    """K05."""
    waiting = ("container-toolkit-daemonset", "device-plugin-daemonset", "dcgm-exporter")
    rows = [f"pod/nvidia-{each}-68vvp   0/1   Init:0/1   0   5m30s" for each in waiting]
    rows.append("pod/nvidia-operator-validator-2qsjh   0/1   Init:0/4   0   5m30s")
    rows.append("pod/nvidia-driver-daemonset-abcde   0/1   CrashLoopBackOff   5 (10s ago)   5m30s")
    verdict = judge(list__txt="\n".join(rows))
    assert first(verdict) == (Link.DRIVER, Health.BROKEN)
    assert "K05" in verdict.issues


def test_stale_label_of_a_driver_that_is_not_there() -> None:
    """K22: an AMI was swapped for one without a driver, and the label stayed."""
    pods = make.stack(
        operator_validator="Init:0/4",
        container_toolkit="Init:0/1",
        device_plugin="Init:0/1",
        without=["driver", "cuda-validator", "gpu-feature-discovery", "dcgm-exporter"],
    )
    verdict = judge(make.node(gpus=None, labels={"nvidia.com/gpu.deploy.driver": "pre-installed"}), *pods)
    assert first(verdict) == (Link.DRIVER, Health.BROKEN)
    assert "K22" in verdict.issues


def test_driver_switched_off_and_not_on_the_host() -> None:
    pods = make.stack(operator_validator="Init:0/4", without=[key for key in make.GATES if key != "operator-validator"])
    pods = [each for each in pods if "cuda" not in each["metadata"]["name"]]
    verdict = judge(make.node(gpus=None), *pods, make.policy(spec={"driver": {"enabled": False}}))
    assert first(verdict) == (Link.DRIVER, Health.BROKEN)
    assert "there is none on the host" in link(verdict).why


def test_running_but_idle_device_plugin() -> None:
    """K16: the pod is Running, 1/1 ready, and the node has nothing to offer."""
    verdict = judge(make.node(gpus=None), *make.stack(operator_validator="Init:3/4"))
    assert first(verdict) == (Link.DEVICE_PLUGIN, Health.BROKEN)
    assert "K16" in verdict.issues


def test_device_plugin_log_tells_that_it_waits_for_ever() -> None:
    line = "I0624 10:01:18.773686       1 main.go:381] No devices found. Waiting indefinitely."
    verdict = judge(
        make.node(gpus=None),
        *make.stack(),
        **{"gpu_operand_pod_nvidia-device-plugin-daemonset-gpu-a__log": line},
    )
    assert first(verdict) == (Link.DEVICE_PLUGIN, Health.BROKEN)
    assert "Waiting indefinitely" in str(link(verdict).proof)


def test_device_plugin_without_the_operator() -> None:
    """EKS's GPU AMIs need only the plugin, which and by itself it proves neither driver nor toolkit."""
    plugin = make.pod("nvidia-device-plugin-daemonset-x", namespace="kube-system")
    verdict = judge(make.node(labelled=False), plugin)
    assert verdict.state is Health.OK
    stack = verdict.nodes[0]
    assert [stack.link(each).state for each in (Link.DRIVER, Link.TOOLKIT)] == [Health.OK, Health.OK]
    verdict = judge(make.node(labelled=False, gpus=None), plugin)
    assert first(verdict) == (Link.DEVICE_PLUGIN, Health.BROKEN)
    stack = verdict.nodes[0]
    assert [stack.link(each).state for each in (Link.DRIVER, Link.TOOLKIT)] == [Health.NOT_DETERMINED] * 2


def test_lost_gpus() -> None:
    verdict = judge(make.node(gpus=3, capacity=4), *make.stack())
    assert first(verdict) == (Link.ALLOCATABLE, Health.BROKEN)
    assert "3 of 4" in link(verdict).why
    verdict = judge(make.node(gpus=3, labels={"nvidia.com/gpu.count": "4"}), *make.stack())
    assert first(verdict) == (Link.ALLOCATABLE, Health.BROKEN)
    verdict = judge(
        make.node(gpus=8, labels={"nvidia.com/gpu.count": "4", "nvidia.com/gpu.replicas": "2"}), *make.stack()
    )
    assert verdict.state is Health.OK
    verdict = judge(make.node(gpus=0, capacity=4), *make.stack())
    assert first(verdict) == (Link.ALLOCATABLE, Health.BROKEN)
    assert "K10" in verdict.issues


@pytest.mark.parametrize(("status", "step"), [("Init:2/4", "cuda-validation"), ("Init:3/4", "plugin-validation")])
def test_validator_says_which_step_waits(status: str, step: str) -> None:
    verdict = judge(make.node(), *make.stack(operator_validator=status))
    assert first(verdict)[0] is Link.VALIDATOR
    assert step in link(verdict).why


@pytest.mark.parametrize(
    ("now", "state"), [("2023-06-24T10:05:00Z", Health.WAITING), ("2023-06-24T10:16:00Z", Health.BROKEN)]
)
def test_waiting_has_an_end(now: str, state: Health) -> None:
    """gpu-operator's own tests give the operands 15 minutes."""
    verdict = judge(make.node(), *make.stack(container_toolkit="Init:0/1"), now=now)
    assert first(verdict) == (Link.TOOLKIT, state)


def test_workload() -> None:
    wants = {"namespace": "default", "requests": {"nvidia.com/gpu": "1"}, "owner": "ReplicaSet"}
    running = make.pod("trainer-a", **wants)
    verdict = judge(make.node(), *make.stack(), running)
    assert verdict.nodes[0].link(Link.WORKLOAD).state is Health.OK
    verdict = judge(make.node(), *make.stack(), make.pod("trainer-b", on="", status="Pending", **wants))
    assert any("1 pod(s) that ask for a GPU are on no node" in each.text for each in verdict.findings)


def test_paused_for_driver_upgrade() -> None:
    labels = dict.fromkeys((f"nvidia.com/gpu.deploy.{key}" for key in make.GATES), "paused-for-driver-upgrade")
    verdict = judge(make.node(labels=labels, gpus=None))
    assert first(verdict)[1] is Health.WAITING
    assert "K21" in verdict.issues


def test_istio_keeps_a_validator_alive() -> None:
    """K24, from a listing alone."""
    listing = (
        "NAME READY STATUS RESTARTS AGE\n"
        "nvidia-cuda-validator-x 1/2 NotReady 0 5m\n"
        "nvidia-operator-validator-x 0/1 Init:2/5 0 5m\n"
    )
    verdict = judge(list__txt=listing)
    assert verdict.wrong
    assert "K24" in verdict.issues


def test_log_of_a_device_plugin_alone() -> None:
    """The original log (recorded 2023-06-24), and one that waits for ever."""
    verdict = recorded("original/device-plugin.log")
    assert verdict.state is Health.NOT_DETERMINED
    assert "registered nvidia.com/gpu" in verdict.headline
    assert "on the host" in verdict.nodes[0].link(Link.DRIVER).why
    assert verdict.nodes[0].link(Link.TOOLKIT).state is Health.NOT_DETERMINED
    verdict = judge(a__log="I0624 10:01:18.773686       1 main.go:381] No devices found. Waiting indefinitely.\n")
    assert first(verdict) == (Link.DEVICE_PLUGIN, Health.BROKEN)
    assert "K16" in verdict.issues


def test_page_of_markdown_with_several_sessions() -> None:
    """A listing and a log, copied into one page with their prompts; the proofs name the lines of the page."""
    page = (
        "# What we saw\n\nText.\n\n```bash\n$ kubectl -n gpu-operator get pods\n\n"
        "NAME READY STATUS RESTARTS AGE\n"
        "nvidia-device-plugin-daemonset-x 1/1 Running 0 5m\n```\n\n```bash\n"
        "$ kubectl -n gpu-operator logs pod/nvidia-device-plugin-daemonset-x\n"
        "I0624 10:01:18.773686       1 main.go:381] No devices found. Waiting indefinitely.\n```\n"
    )
    verdict = judge(page__md=page)
    assert first(verdict) == (Link.DEVICE_PLUGIN, Health.BROKEN)
    proof = link(verdict).proof
    assert proof is not None
    assert page.splitlines()[int(proof.place.removeprefix("line ")) - 1] == proof.text
    assert "Running" in link(verdict).why


# --- what looks right and is not ---


def test_ready_without_gpu_node_is_not_healthy() -> None:
    plain = make.node(labelled=False, gpus=None, labels={"node.kubernetes.io/instance-type": "m5.large"})
    for reason in ("", "NoGPUNodes"):
        verdict = judge(plain, make.policy(reason=reason))
        assert verdict.state is Health.NOT_DETERMINED
        assert "no GPU node" in verdict.headline
        assert any("ready" in each.text for each in verdict.findings)


def test_ready_without_nfd_labels_is_broken() -> None:
    verdict = judge(make.policy(reason="NFDLabelsMissing"))
    assert verdict.wrong
    assert "NFDLabelsMissing" in verdict.headline
    assert "K06" in verdict.issues


def test_must_gather_that_found_no_label_is_broken() -> None:
    verdict = judge(**{"must-gather__log": "FATAL: could not find nodes with NVIDIA PCI labels\n"})
    assert verdict.wrong


def test_desired_zero() -> None:
    sets = [make.daemonset(key, 0) for key in make.GATES]
    alone = judge(*sets)
    assert alone.state is Health.NOT_DETERMINED
    assert "DESIRED 0" in alone.headline
    with_node = judge(*sets, make.node(gpus=None))
    assert with_node.wrong
    assert "K06" in with_node.issues


def test_daemonsets_in_a_listing() -> None:
    row = "daemonset.apps/nvidia-device-plugin-daemonset 0 0 0 0 0 nvidia.com/gpu.deploy.device-plugin=true 5m\n"
    verdict = judge(get__txt=row)
    assert verdict.state is Health.NOT_DETERMINED
    assert "DESIRED 0" in " ".join(story(verdict))


def test_policy_not_ready_and_missing() -> None:
    assert judge(make.node(), *make.stack(), make.policy(state="notReady")).state is Health.WAITING
    assert judge(**{"cluster_policy__missing": "x", "a__txt": "x"}).wrong


def test_operator_itself() -> None:
    verdict = judge(make.node(), *make.stack(), make.pod("gpu-operator-1-a", status="OOMKilled"))
    assert verdict.wrong
    assert "K12" in verdict.issues


def test_wide_listing_names_the_broken_node() -> None:
    rows = ["NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"]
    for node, status in (("node-a", "Running"), ("node-b", "CrashLoopBackOff")):
        ready = "1/1" if status == "Running" else "0/1"
        rows.append(f"nvidia-container-toolkit-daemonset-{node} {ready} {status} 0 9m 192.0.2.1 {node} <none> <none>")
        rows.append(f"nvidia-operator-validator-{node} {ready} {status} 0 9m 192.0.2.1 {node} <none> <none>")
    verdict = judge(list__txt="\n".join(rows))
    assert verdict.nodes[0].node == "node-b"
    assert first(verdict) == (Link.TOOLKIT, Health.BROKEN)
    assert verdict.nodes[1].state is Health.OK
    assert "node-b" in story(verdict)[1]


def test_listing_in_which_a_node_lacks_an_operand() -> None:
    rows = [
        f"nvidia-{kind}-daemonset-{i}x{i}x{i} 1/1 Running 0 9m"
        for kind in ("container-toolkit", "device-plugin")
        for i in "ab"
    ]
    verdict = judge(list__txt="NAME READY STATUS RESTARTS AGE\n" + "\n".join(rows[:-1]))
    assert verdict.state is Health.WAITING
    assert "not every GPU node" in verdict.headline


# --- for people and machines ---


def test_tables_and_json() -> None:
    verdict = judge(
        make.node("a"), make.node("b", gpus=None), *make.stack("a"), *make.stack("b", driver="CrashLoopBackOff")
    )
    frame = table(verdict)
    assert list(frame["node"]) == ["b", "a"]
    assert list(frame["state"]) == ["broken", "ok"]
    assert frame.loc[0, "first"] == "driver"
    assert "pod gpu-operator/nvidia-driver-daemonset-b" in frame.loc[0, "proof"]
    grid = matrix(verdict)
    assert list(grid.columns) == ["a", "b"]
    assert grid.loc["driver", "b"] == "broken"
    assert verdict.headline == "broken on 1 of 2 GPU nodes: the first link that is not whole is the driver"
    assert json.loads(json.dumps(verdict.as_dict()))["nodes"][0]["first"] == "driver"
    assert 2 <= len(story(verdict)) <= 6


def test_nothing_known_gives_empty_tables() -> None:
    verdict = judge(a__txt="hello\n")
    assert verdict.state is Health.NOT_DETERMINED
    assert table(verdict).empty and matrix(verdict).empty
    assert len(story(verdict)) >= 2


def test_many_nodes() -> None:
    """Time grows with the nodes, not with their square."""
    objects = [each for i in range(400) for each in (make.node(f"n{i}"), *make.stack(f"n{i}"))]
    evidence = read_evidence(make.documents(*objects))
    began = time.process_time()
    verdict = judge_stack(evidence)
    assert verdict.headline == "healthy: all 400 GPU nodes offer their GPUs"
    assert time.process_time() - began < 3


ODD = st.sampled_from([None, 0, "", "x", [], {}, [None], {"a": 1}, True, "<script>", "\x1b[31m", -1, 1e99])
PATHS = st.sampled_from(
    [
        ("metadata",),
        ("metadata", "name"),
        ("metadata", "labels"),
        ("metadata", "ownerReferences"),
        ("spec",),
        ("spec", "nodeName"),
        ("spec", "initContainers"),
        ("status",),
        ("status", "phase"),
        ("status", "allocatable"),
        ("status", "capacity"),
        ("status", "conditions"),
        ("status", "containerStatuses"),
        ("status", "initContainerStatuses"),
        ("status", "desiredNumberScheduled"),
        ("status", "state"),
    ]
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), PATHS, ODD), max_size=4))
def test_any_field_may_be_anything(changes: list[tuple[int, tuple[str, ...], Any]]) -> None:
    objects: list[Any] = [
        make.node(), *make.stack(), make.pod("gpu-operator-1-a"), make.policy(), make.daemonset("driver", 1),
        make.event("nvidia-driver-daemonset-gpu-a", "Failed", "x"), make.pod("w", requests={"nvidia.com/gpu": "1"}),
    ]  # fmt: skip
    for index, path, value in changes:
        place = objects[index]
        for key in path[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[path[-1]] = value
    verdict = judge(*objects)
    assert 2 <= len(story(verdict)) <= 6
    json.dumps(verdict.as_dict())
    table(verdict)
    matrix(verdict)
    for node in verdict.nodes:
        for each in node.links:
            assert each.proof or each.state in {Health.NOT_DETERMINED, Health.WAITING}
