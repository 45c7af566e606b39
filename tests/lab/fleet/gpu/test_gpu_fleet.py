"""The GPU stack on the lab's cluster: kubectl sees what is documented, and the product finds the cause in it.

Ages are this machine's, so that what has to be old enough to be judged is judged at a later time than it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from gpufleet import ROOTS, Fleet
from gpuhelp import UBUNTU

from leptonami import recordings
from leptonami.explain import live
from leptonami.explain.given import Given
from leptonami.explain.gpuoperator import StackExplanation
from leptonami.kube import connect
from leptonami.lab.fleet.gpu.manifests import gpu_operator
from leptonami.lab.fleet.images import Root
from leptonami.readers.deviceplugin import read_device_plugin_log
from leptonami.readers.gpuoperands import Link
from leptonami.verdicts.gpuchain import NodeStack
from leptonami.verdicts.operands import Health
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State

CPU = Root(os_release={"ID": "ubuntu", "VERSION_ID": "22.04"}, kernel=UBUNTU.kernel, glibc="2.35")
LATER = timedelta(minutes=40)
ACCELERATOR = {"k8s.amazonaws.com/accelerator": "nvidia-tesla-t4"}


def explained(fleet: Fleet, later: timedelta = LATER) -> StackExplanation:
    with closing(connect(kubeconfig=fleet.kubeconfig)) as cluster:
        return live.gpu_operator(cluster, now=datetime.now(UTC) + later)


def stack_of(found: StackExplanation, node: str) -> NodeStack:
    return next(each for each in found.verdict.nodes if each.node == node)


def scale_down(fleet: Fleet, node: str) -> NodeVerdict:
    with closing(connect(kubeconfig=fleet.kubeconfig)) as cluster:
        return live.autoscaler(cluster, Given(now=datetime.now(UTC) + LATER)).node(node)


def allocatable(fleet: Fleet, node: str) -> str:
    return fleet.kubectl("get", "node", node, "-o", r"jsonpath={.status.allocatable.nvidia\.com/gpu}")


def policy(fleet: Fleet, path: str) -> str:
    return fleet.kubectl("get", "clusterpolicy", "cluster-policy", "-o", f"jsonpath={{{path}}}")


# --- three images that bring a driver, operator v23.3.2 ---------------------------------------------------------------


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("baked")) as fleet:
        fleet.node("cpu", CPU, **{"node.kubernetes.io/instance-type": "m5.xlarge"})
        for kind in ("custom", "al2-gpu", "al2023-gpu"):
            fleet.node(kind, ROOTS[kind], **ACCELERATOR)
        fleet.install(gpu_operator("v23.3.2"))
        fleet.wait(lambda: settled(fleet.pods()))
        yield fleet


def settled(pods: dict[str, tuple[str, str]]) -> bool:
    """Tell whether two nodes are well and the third is as broken as it will be."""
    well = ("nvidia-operator-validator", "gpu-feature-discovery", "nvidia-dcgm-exporter")
    broken = ("nvidia-device-plugin-daemonset", "nvidia-cuda-validator")
    return all(
        pods.get(f"{name} {node}") == ("1/1", "Running") for name in well for node in ("custom", "al2023-gpu")
    ) and all("Crash" in pods.get(f"{name} al2-gpu", ("", ""))[1] for name in broken)


def test_a_custom_image_lists_as_the_original_did(baked: Fleet) -> None:
    """The pods of data/recorded/original/gpu-operator-get-all.txt: no driver pod, both validators Completed."""
    original = {
        "gpu-feature-discovery": ("1/1", "Running"),
        "nvidia-container-toolkit-daemonset": ("1/1", "Running"),
        "nvidia-cuda-validator": ("0/1", "Completed"),
        "nvidia-dcgm-exporter": ("1/1", "Running"),
        "nvidia-device-plugin-daemonset": ("1/1", "Running"),
        "nvidia-device-plugin-validator": ("0/1", "Completed"),
        "nvidia-operator-validator": ("1/1", "Running"),
        "gpu-operator-node-feature-discovery-worker": ("1/1", "Running"),
    }
    found = {name.removesuffix(" custom"): row for name, row in baked.pods().items() if name.endswith(" custom")}
    assert {name: row for name, row in found.items() if name in original} == original
    assert "nvidia-driver-daemonset" not in found
    assert allocatable(baked, "custom") == "1"


def test_the_product_finds_each_nodes_cause(baked: Fleet) -> None:
    found = explained(baked)
    assert found.provenance == "simulated"
    for node in ("custom", "al2023-gpu"):
        assert stack_of(found, node).state is Health.OK, node
        assert "pre-installed" in stack_of(found, node).link(Link.DRIVER).why
    broken = stack_of(found, "al2-gpu")
    assert broken.state is Health.BROKEN
    assert broken.link(Link.DRIVER).state is Health.OK
    assert broken.first is not None
    assert (broken.first.link, broken.first.issues) == (Link.DEVICE_PLUGIN, ("K03",))
    assert {"K03", "K33"} <= set(found.verdict.issues)
    assert "cpu" not in {each.node for each in found.verdict.nodes}


def test_a_validator_pod_that_has_not_ended_keeps_its_node(baked: Fleet) -> None:
    """Branch 1 of the facts' 2.5, and only where the pod has not ended."""
    stuck = scale_down(baked, "al2-gpu")
    assert (stuck.state, stuck.branch) == (State.BLOCKED, Branch.VALIDATOR_PODS)
    assert scale_down(baked, "custom").branch is not Branch.VALIDATOR_PODS


def test_the_logs_are_those_that_are_documented(baked: Fleet) -> None:
    """The device plugin's are the recorded ones, line by line, but for the time and the configuration."""
    name = baked.kubectl(
        "get", "pod", "-n", "gpu-operator", "-l", "app=nvidia-device-plugin-daemonset", "-o", "name",
        "--field-selector", "spec.nodeName=custom",
    ).strip()  # fmt: skip
    shown = baked.kubectl("logs", "-n", "gpu-operator", name)
    recorded = recordings.get("original").read("device-plugin-log").decode()
    assert told(shown) == told(recorded)
    assert read_device_plugin_log(shown, "x").driver_on_host is True
    log = baked.kubectl("logs", "-n", "gpu-operator", "-l", "app=nvidia-cuda-validator", "-c", "cuda-validation")
    assert "Test PASSED" in log
    assert "states not ready" in baked.kubectl("logs", "-n", "gpu-operator", "deployment/gpu-operator")


def told(log: str) -> list[str]:
    """Give the lines of a plugin's log without prompts, times and the configuration."""
    lines = [re.sub(r"^[IEW]\d{4} [\d:.]+ +\d+ ", "", line).rstrip() for line in log.splitlines()]
    lines = lines[next(number for number, line in enumerate(lines) if line.startswith("NVIDIA_DRIVER_ROOT")) :]
    return [line for line in lines if line and line[0] not in " {}"]


def test_the_policy_and_the_driver_label(baked: Fleet) -> None:
    assert policy(baked, ".status.state") == "notReady"
    assert "state-operator-validation" in policy(baked, ".status.conditions[?(@.type=='Error')].message")
    label = r"jsonpath={.metadata.labels.nvidia\.com/gpu\.deploy\.driver}"
    assert baked.kubectl("get", "node", "custom", "-o", label) == "pre-installed"
    assert policy(baked, r".metadata.annotations.lab\.leptonami\.dev/simulated") == "true"
    assert "State:" in baked.kubectl("describe", "clusterpolicy", "cluster-policy")


def test_the_operator_stops_with_its_pod(baked: Fleet) -> None:
    """The node labels come back within seconds, but only while the operator runs."""
    label = "nvidia.com/gpu.deploy.dcgm"
    shown = r"jsonpath={.metadata.labels.nvidia\.com/gpu\.deploy\.dcgm}"
    baked.kubectl("scale", "deployment", "gpu-operator", "-n", "gpu-operator", "--replicas=0")
    baked.wait(lambda: not any(name.startswith("gpu-operator-6") for name in baked.pods()))
    baked.kubectl("label", "node", "custom", f"{label}-")
    assert baked.kubectl("get", "node", "custom", "-o", shown) == ""
    baked.kubectl("scale", "deployment", "gpu-operator", "-n", "gpu-operator", "--replicas=1")
    baked.wait(lambda: baked.kubectl("get", "node", "custom", "-o", shown) == "true")


def test_what_the_policy_owns_goes_with_it(baked: Fleet) -> None:
    """The last of this module: the DaemonSets, their pods and the validator's pods are collected."""
    baked.kubectl("delete", "clusterpolicy", "cluster-policy", "--wait=false")
    baked.wait(lambda: not any(name.startswith("nvidia") for name in baked.pods()))
    assert baked.kubectl("get", "ds", "-n", "gpu-operator", "-o", "name").split() == [
        "daemonset.apps/gpu-operator-node-feature-discovery-worker"
    ]
    baked.wait(lambda: allocatable(baked, "custom") == "0")


# --- plain images, causes put in one after the other ------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("plain")) as fleet:
        fleet.node("al2", ROOTS["al2"], **ACCELERATOR)
        yield fleet


def test_amazon_linux_2_from_no_nfd_to_no_driver(plain: Fleet) -> None:
    """Nothing is labelled, and the policy is ready; with NFD the next link breaks: the driver's image."""
    plain.install(gpu_operator("v23.3.2", nfd=False))
    plain.wait(lambda: policy(plain, ".status.state") == "ready")
    assert policy(plain, ".status.conditions[?(@.type=='Ready')].reason") == "NFDLabelsMissing"
    found = explained(plain)
    assert found.verdict.state is Health.BROKEN
    first = stack_of(found, "al2").first
    assert first is not None and first.link is Link.NFD
    assert "K06" in found.verdict.issues

    plain.install(gpu_operator("v23.3.2"))
    plain.wait(lambda: plain.pods().get("nvidia-driver-daemonset al2", ("", ""))[1] == "ImagePullBackOff")
    plain.wait(lambda: "no runtime" in plain.kubectl("get", "events", "-n", "gpu-operator"))
    listed = plain.pods()
    assert listed["nvidia-operator-validator al2"] == ("0/1", "Init:0/4")
    assert listed["nvidia-device-plugin-daemonset al2"] == ("0/1", "Init:0/1")
    assert not any(name.startswith("nvidia-cuda-validator") for name in listed)
    found = explained(plain)
    first = stack_of(found, "al2").first
    assert first is not None
    assert (first.link, "K01" in first.issues) == (Link.DRIVER, True)
    assert "525.105.17-amzn2" in first.why
    verdict = scale_down(plain, "al2")
    assert verdict.branch is not Branch.VALIDATOR_PODS, "K01 blocks by other branches than 1 (facts 2.5)"


# --- the driver in a container, operator v26.7.1, and a plugin that says nothing --------------------------------------


@pytest.fixture(scope="module")
def ubuntu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("ubuntu")) as fleet:
        fleet.node("plain", ROOTS["ubuntu"], **ACCELERATOR)
        fleet.install(gpu_operator("v26.7.1"))
        yield fleet


def test_from_the_install_to_the_last_link_nothing_is_called_broken(ubuntu: Fleet) -> None:
    seen: list[tuple[Health, tuple[str, ...]]] = []

    def well() -> bool:
        verdict = explained(ubuntu, timedelta()).verdict
        seen.append((verdict.state, verdict.issues))
        return verdict.state is Health.OK

    assert not well()
    ubuntu.wait(lambda: policy(ubuntu, ".status.state") == "notReady")
    ubuntu.wait(well)
    assert {each for each, _ in seen} == {Health.WAITING, Health.OK}
    assert "K06" not in str(seen)
    assert seen[-1][1] == ()


def test_plain_ubuntu_gets_its_driver_in_a_container(ubuntu: Fleet) -> None:
    ubuntu.wait(lambda: policy(ubuntu, ".status.state") == "ready" and allocatable(ubuntu, "plain") == "1")
    listed = ubuntu.pods()
    assert listed["nvidia-driver-daemonset plain"] == ("1/1", "Running")
    assert listed["nvidia-cuda-validator plain"] == ("0/1", "Completed")
    assert not any(name.startswith("nvidia-device-plugin-validator") for name in listed), "gone since v23.6"
    found = explained(ubuntu)
    assert found.verdict.state is Health.OK
    assert found.verdict.version == "v26.7.1"
    assert found.verdict.image is not None and found.verdict.image.image is not None
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert found.verdict.image.image.image == ubuntu.kubectl(
        "get", "ds", "nvidia-driver-daemonset", "-n", "gpu-operator", "-o", image
    )


def test_a_silent_plugin(ubuntu: Fleet) -> None:
    """The driver is there and the plugin runs, and says no more than that it has started: nothing is offered."""
    ubuntu.node("mute", ROOTS["ubuntu"])
    ubuntu.fault("device-plugin-silent", "mute")
    ubuntu.wait(lambda: ubuntu.pods().get("nvidia-device-plugin-daemonset mute") == ("1/1", "Running"))
    ubuntu.wait(lambda: ubuntu.pods().get("nvidia-cuda-validator mute") == ("0/1", "Completed"))
    assert allocatable(ubuntu, "mute") == ""
    first = stack_of(explained(ubuntu), "mute").first
    assert first is not None
    assert (first.link, first.state, first.issues) == (Link.DEVICE_PLUGIN, Health.BROKEN, ("K16",))
    assert stack_of(explained(ubuntu), "plain").state is Health.OK
