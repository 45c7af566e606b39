"""The chain of causes, link by link, without a cluster: each cause taken away or put in moves the failure."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from gpuhelp import AL2, AL2023, UBUNTU, Bench, baked
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.cli import cli
from leptonami.errors import InputError
from leptonami.lab.fleet.gpu.driver import exists, image_for
from leptonami.lab.fleet.gpu.logs import lines, templates
from leptonami.lab.fleet.gpu.operands import TABLE, operands_of
from leptonami.lab.fleet.gpu.operator import gpu_labels
from leptonami.lab.fleet.gpu.stack import Stack, no_sandbox, older, start_error
from leptonami.lab.fleet.images import Root
from leptonami.readers.deviceplugin import PluginState, read_device_plugin_log
from leptonami.readers.gpuoperands import OPERANDS, operand_of
from leptonami.readers.knownissues import match

DRIVER, TOOLKIT = "nvidia-driver-daemonset", "nvidia-container-toolkit-daemonset"
PLUGIN, VALIDATOR = "nvidia-device-plugin-daemonset", "nvidia-operator-validator"
CUDA, PLUGIN_TEST = "nvidia-cuda-validator", "nvidia-device-plugin-validator"
NO_RUNTIME = 'no runtime for "nvidia" is configured'


def test_al2_has_no_driver_image_and_nothing_comes_after_the_driver() -> None:
    bench = Bench(AL2).settle()
    assert bench.state(DRIVER) == "ImagePullBackOff nvcr.io/nvidia/driver:525.105.17-amzn2"
    assert bench.state(TOOLKIT) == "waits in driver-validation"
    assert NO_RUNTIME in bench.state(PLUGIN)
    assert NO_RUNTIME in bench.state(VALIDATOR)
    assert bench.state(CUDA) == "", "no validator pod is made before the driver is there (facts 2.5, K01)"
    assert bench.gpus() == ""
    assert bench.policy["status"]["state"] == "notReady"


def test_al2_with_a_driver_fails_at_the_toolkit() -> None:
    """One cause put in, the failure is one link on: glibc 2.26 instead of the image."""
    bench = Bench(baked(AL2, toolkit=False)).settle()
    assert bench.state(DRIVER) == ""
    assert bench.state(TOOLKIT) == "Running"
    assert "GLIBC_2.27' not found" in bench.state(VALIDATOR)
    assert bench.state(VALIDATOR).startswith("toolkit-validation: StartError")
    assert bench.state(PLUGIN) == "waits in toolkit-validation"
    assert bench.state(CUDA) == ""
    assert bench.gpus() == ""


def test_the_al2_gpu_ami_gets_as_far_as_its_own_toolkit_takes_it() -> None:
    """Its own toolkit lets the validation pass, then the operator's breaks what follows (amazon-eks-ami #1892)."""
    bench = Bench(baked(AL2)).settle()
    assert bench.state(TOOLKIT) == "Running"
    assert "GLIBC_2.27' not found" in bench.state(CUDA)
    assert "GLIBC_2.27' not found" in bench.state(PLUGIN)
    assert bench.state(VALIDATOR) in {"waits in cuda-validation", "cuda-validation: Error"}
    pod = next(each for each in bench.cluster.all("pods") if each["metadata"]["name"].startswith(CUDA))
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "ClusterPolicy"
    assert pod["metadata"]["ownerReferences"][0]["controller"] is True
    assert pod["spec"]["restartPolicy"] == "OnFailure"
    assert bench.gpus() == ""


def test_al2_works_when_its_own_toolkit_is_left_alone() -> None:
    bench = Bench(baked(AL2), driver=False, toolkit=False).settle()
    assert bench.state(TOOLKIT) == bench.state(DRIVER) == ""
    assert (bench.state(PLUGIN), bench.state(VALIDATOR)) == ("Running", "Running")
    assert bench.gpus() == "1"


def test_plain_ubuntu_gets_everything_from_the_operator() -> None:
    bench = Bench(UBUNTU).settle()
    states = {name: bench.state(name) for name in (DRIVER, TOOLKIT, PLUGIN, VALIDATOR, CUDA, PLUGIN_TEST)}
    assert states == {
        **dict.fromkeys((DRIVER, TOOLKIT, PLUGIN, VALIDATOR), "Running"),
        **dict.fromkeys((CUDA, PLUGIN_TEST), "Succeeded"),
    }
    assert bench.gpus() == "1"
    status = bench.policy["status"]
    assert status["state"] == "ready"
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("Ready", "True", "Reconciled"),
        ("Error", "False", "Ready"),
    ]
    assert "NVIDIA_DRIVER_ROOT=/run/nvidia/driver" in bench.log(PLUGIN, "nvidia-device-plugin")


@pytest.mark.parametrize("switched", [{}, {"driver": False}, {"driver": False, "toolkit": False}])
def test_a_custom_ubuntu_image_brings_its_driver(switched: Any) -> None:
    bench = Bench(baked(UBUNTU), **switched).settle()
    labels = bench.cluster.get("nodes", None, "node-0")["metadata"]["labels"]
    assert labels["nvidia.com/gpu.deploy.driver"] == ("true" if "driver" in switched else "pre-installed")
    assert bench.state(DRIVER) == "", "its pod has left by the label, or never was"
    assert bool(bench.state(TOOLKIT)) is ("toolkit" not in switched)
    assert bench.state(PLUGIN_TEST) == "Succeeded"
    assert bench.gpus() == "1"
    assert "NVIDIA_DRIVER_ROOT=/" in bench.log(PLUGIN, "nvidia-device-plugin")


def test_a_driver_that_is_switched_off_and_nowhere_is_waited_for() -> None:
    bench = Bench(UBUNTU, driver=False).settle()
    assert bench.state(TOOLKIT) == "waits in driver-validation"
    assert "command failed, retrying after 5 seconds" in bench.log(TOOLKIT, "driver-validation")
    assert bench.gpus() == ""


def test_al2023() -> None:
    assert Bench(AL2023).settle().state(DRIVER) == "ImagePullBackOff nvcr.io/nvidia/driver:525.105.17-amzn2023"
    assert Bench(baked(AL2023), driver=False, toolkit=False).settle().gpus() == "1"


@pytest.mark.parametrize("root", [UBUNTU, AL2])
def test_without_nfd_nothing_happens_and_the_policy_is_ready(root: Root) -> None:
    bench = Bench(baked(root), nfd=False).settle()
    assert [name for name in bench.pods() if name.startswith("nvidia")] == []
    status = bench.policy["status"]
    assert status["state"] == "ready"
    assert status["conditions"][0]["reason"] == "NFDLabelsMissing"


def test_without_a_gpu_node_the_policy_is_ready_too() -> None:
    bench = Bench(replace(UBUNTU, gpus=0)).settle()
    assert bench.policy["status"]["conditions"][0]["reason"] == "NoGPUNodes"
    assert [
        each["metadata"]["name"] for each in bench.cluster.all("daemonsets") if "nvidia" in each["metadata"]["name"]
    ] == []


def test_a_silent_device_plugin_stops_the_chain_at_what_the_node_offers() -> None:
    bench = Bench(UBUNTU, faults={"device-plugin-silent": {}}).settle()
    assert bench.state(PLUGIN) == "Running"
    assert bench.gpus() == ""
    log = "\n".join(bench.log(PLUGIN, "nvidia-device-plugin"))
    assert read_device_plugin_log(log, "x").state is PluginState.STARTING
    assert bench.state(VALIDATOR) in {"waits in plugin-validation", "plugin-validation: Error"}
    assert bench.state(CUDA) == "Succeeded"
    assert bench.state(PLUGIN_TEST) == ""


def test_the_newer_version_makes_no_pod_with_a_gpu() -> None:
    bench = Bench(UBUNTU, version="v26.7.1").settle()
    assert bench.state(VALIDATOR) == "Running"
    assert bench.state(CUDA) == "Succeeded"
    assert bench.state(PLUGIN_TEST) == ""
    assert any("mps-control-daemon" in each["metadata"]["name"] for each in bench.cluster.all("daemonsets"))
    assert "IS_HOST_DRIVER=false" in bench.log(PLUGIN, "nvidia-device-plugin")


def test_a_policy_that_says_little_gets_what_the_chart_says() -> None:
    bench = Bench(AL2)
    bench.cluster.patch("clusterpolicies", None, "cluster-policy", {"spec": {"driver": None}})
    assert bench.settle().state(DRIVER) == "ImagePullBackOff nvcr.io/nvidia/driver:525.105.17-amzn2"
    second = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "another"}, "spec": {}}
    bench.cluster.create("clusterpolicies", second)
    bench.cluster.patch("clusterpolicies", None, "cluster-policy", {"spec": {"driver": {"enabled": False}}})
    bench.settle(3)
    assert bench.cluster.get("clusterpolicies", None, "another")["status"] == {"state": "ignored"}
    assert bench.cluster.get("daemonsets", "gpu-operator", DRIVER) is None, "switched off, it goes"


def test_two_systems_get_one_tag() -> None:
    """The first node decides: the other's driver is of another OS and finds no headers (1.6, K02)."""
    bench = Bench(UBUNTU, replace(UBUNTU, os_release={"ID": "ubuntu", "VERSION_ID": "20.04"})).settle()
    assert bench.state(DRIVER, "node-0") == "Running"
    assert bench.state(DRIVER, "node-1") == "nvidia-driver-ctr: Error"
    assert (bench.gpus("node-0"), bench.gpus("node-1")) == ("1", "")


@pytest.mark.parametrize(
    ("root", "registered"), [(baked(AL2), True), (baked(AL2023), True), (UBUNTU, False), (AL2023, False)]
)
def test_the_plugin_alone(root: Root, registered: bool) -> None:
    """Without the operator it runs whatever it finds (K16)."""
    bench = Bench(root, plugin_only=True).settle()
    log = read_device_plugin_log("\n".join(bench.log(PLUGIN, "nvidia-device-plugin-ctr")), "x")
    assert bench.state(PLUGIN) == "Running"
    assert (log.state, bench.gpus()) == ((PluginState.SERVING, "1") if registered else (PluginState.IDLE, ""))
    assert registered or [
        each.issue.id for each in match("\n".join(bench.log(PLUGIN, "nvidia-device-plugin-ctr")), source="x")
    ]


def test_a_plugin_that_goes_takes_its_gpus_with_it() -> None:
    bench = Bench(UBUNTU).settle()
    pod = next(each for each in bench.cluster.all("pods") if each["metadata"]["name"].startswith(PLUGIN + "-"))
    bench.cluster.delete("pods", "gpu-operator", pod["metadata"]["name"])
    for each in bench.controllers:
        each.step(bench.cluster, 0.0, {("pods", "gpu-operator", "x")})
    node = bench.cluster.get("nodes", None, "node-0")["status"]
    assert (node["capacity"]["nvidia.com/gpu"], node["allocatable"]["nvidia.com/gpu"]) == ("1", "0")
    assert bench.settle().gpus() == "1", "another takes its place"


def test_all_gpus_taken_refuses_the_plugins_test() -> None:
    """K18: the validator puts its pod on the node itself, and the kubelet does not admit it."""
    bench = Bench(UBUNTU).settle()
    hook = bench.behaviours.admission[-1]
    pod: dict[str, Any] = {
        "metadata": {"name": "late"},
        "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
    }
    assert hook(pod, bench.facts["node-0"]) == ""
    holder = {"metadata": {"name": "job", "namespace": "a"}, "spec": {**pod["spec"], "nodeName": "node-0"}}
    bench.cluster.create("pods", holder)
    message = hook(pod, bench.facts["node-0"])
    assert "Requested: 1, Available: 0" in message
    assert match(f"Warning UnexpectedAdmissionError pod/x {message}", source="x")[0].issue.id == "K18"


# --- rules ------------------------------------------------------------------------------------------------------------

roots = st.builds(
    lambda base, driver, toolkit, glibc, gpus: replace(
        baked(base, driver=driver, toolkit=toolkit), glibc=glibc or base.glibc, gpus=gpus
    ),
    st.sampled_from([UBUNTU, AL2, AL2023]),
    st.sampled_from(["", "535.309.01"]),
    st.booleans(),
    st.sampled_from(["", "2.26", "2.27", "2.35"]),
    st.sampled_from([0, 1, 4]),
)


@given(
    root=roots,
    driver=st.booleans(),
    toolkit=st.booleans(),
    nfd=st.booleans(),
    version=st.sampled_from(list(TABLE.versions)),
)
@settings(max_examples=40, deadline=None)
def test_the_first_broken_link_decides(root: Root, driver: bool, toolkit: bool, nfd: bool, version: str) -> None:
    """GPUs are offered exactly where every link is there, each judged by itself from the causes."""
    bench = Bench(root, version=version, driver=driver, toolkit=toolkit, nfd=nfd).settle()
    os = root.os_release["ID"] + root.os_release["VERSION_ID"]
    in_container = driver and exists(f"nvcr.io/nvidia/driver:{TABLE.versions[version].driver.version}-{os}")
    has_driver = bool(root.driver) or in_container
    has_runtime = (toolkit and not older(root.glibc, "2.27")) or (not toolkit and bool(root.toolkit))
    whole = bool(nfd and root.gpus and has_driver and has_runtime)
    assert (bench.gpus() == str(root.gpus)) is whole
    assert (bench.state(VALIDATOR) == "Running") is whole
    links = [nfd and root.gpus > 0, has_driver]
    made = [name for name in bench.pods() if name.startswith((CUDA, PLUGIN_TEST))]
    assert not made or all(links), "no validator pod where an earlier link is broken"
    if not (nfd and root.gpus):
        assert bench.policy["status"]["state"] == "ready"
    else:
        assert bench.policy["status"]["state"] == ("ready" if whole else "notReady")


@pytest.mark.parametrize(
    ("image", "there"),
    [
        ("nvcr.io/nvidia/driver:525.105.17-amzn2", False),
        ("nvcr.io/nvidia/driver:580.173.02-amzn2023", False),
        ("nvcr.io/nvidia/driver:550.90.07-debian12", False),
        ("nvcr.io/nvidia/driver:525.105.17-ubuntu22.04", True),
        ("nvcr.io/nvidia/driver:580.173.02-ubuntu26.04", False),
        ("nvcr.io/nvidia/driver:595.10-ubuntu26.04", True),
        ("nvcr.io/nvidia/driver:580.173.02-rhel9", True),
        ("nvcr.io/nvidia/driver@sha256:00", True),
        ("nvcr.io/nvidia/k8s-device-plugin:v0.14.0-ubi8", True),
        ("mirror.example/nvidia/driver:1-amzn2", True),
    ],
)
def test_which_driver_images_there_are(image: str, there: bool) -> None:
    assert exists(image) is there


def test_the_first_nodes_os_makes_the_tag() -> None:
    os = "feature.node.kubernetes.io/system-os_release."
    nodes = {name: {f"{os}ID": "ubuntu", f"{os}VERSION_ID": v} for name, v in (("b", "22.04"), ("a", "20.04"))}
    spec = {"repository": "nvcr.io/nvidia", "image": "driver", "version": "525.105.17"}
    assert image_for(nodes, spec, "v23.3.2") == "nvcr.io/nvidia/driver:525.105.17-ubuntu20.04"
    assert image_for(nodes, {**spec, "version": "sha256:ab"}, "v23.3.2") == "nvcr.io/nvidia/driver@sha256:ab"
    assert image_for({}, spec, "v23.3.2") == image_for({"a": {}}, spec, "v23.3.2") == ""


def test_labels_of_the_operator_come_stay_and_go() -> None:
    pci = "feature.node.kubernetes.io/pci-10de.present"
    first: dict[str, Any] = dict(gpu_labels({pci: "true"}))
    assert first["nvidia.com/gpu.present"] == "true"
    assert first["nvidia.com/gpu.deploy.driver"] == "true"
    kept: dict[str, Any] = {pci: "true", **first, "nvidia.com/gpu.deploy.driver": "pre-installed"}
    assert gpu_labels(kept) == {}
    del kept[pci]
    gone = gpu_labels(kept)
    assert gone["nvidia.com/gpu.present"] == "false"
    assert gone["nvidia.com/gpu.deploy.driver"] is None


def test_the_table_agrees_with_what_the_product_knows() -> None:
    """Two tables of the same operands, made from the same sources by different hands."""
    known = {each.key: each for each in OPERANDS}
    for version in TABLE.versions:
        for key, operand in operands_of(version):
            found = operand_of(f"{operand.name}-abcde")
            assert found is not None
            assert (found.key, found.gate) == (key, operand.gate)
            assert known[key].usual is (key not in {"mps-control-daemon", "mig-manager"})


def test_a_sandbox_needs_a_runtime_of_that_name() -> None:
    bench = Bench(UBUNTU)
    bare = Stack(bench.facts["node-0"].root)
    assert NO_RUNTIME in no_sandbox("nvidia", bare)
    assert no_sandbox("", bare) == ""
    pod = {"spec": {"runtimeClassName": "nvidia"}}
    assert "libnvidia-ml.so.1" in start_error(replace(bare, toolkit=True), pod)
    assert start_error(replace(bare, toolkit=True, container_driver="525.105.17"), pod) == ""


def printed(*options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["lab", "gpu-operator", *options])
    assert done.exit_code == 0, done.output
    return [dict(each) for each in yaml.safe_load_all(done.output)]


def test_the_command_prints_what_is_to_be_applied() -> None:
    whole = {(each["kind"], each["metadata"]["name"]): each for each in printed("23.3")}
    policy = whole["ClusterPolicy", "cluster-policy"]["spec"]
    assert policy["driver"] == {
        "enabled": True, "repository": "nvcr.io/nvidia", "image": "driver", "version": "525.105.17",
    }  # fmt: skip
    assert policy["validator"]["plugin"]["env"] == [{"name": "WITH_WORKLOAD", "value": "true"}]
    assert "hostPath" in whole["Deployment", "gpu-operator"]["spec"]["template"]["spec"]["volumes"][0], "K34"
    assert [each["kind"] for each in printed("--crds")] == ["CustomResourceDefinition"]
    newer = {(each["kind"], each["metadata"]["name"]): each for each in printed("latest", "--no-driver", "--no-nfd")}
    assert newer["ClusterPolicy", "cluster-policy"]["spec"]["driver"]["enabled"] is False
    assert "volumes" not in newer["Deployment", "gpu-operator"]["spec"]["template"]["spec"], "gone after v25.10"
    assert not any("feature" in name for _, name in newer)
    assert [each["kind"] for each in printed("--device-plugin-only")] == ["DaemonSet"]
    refused = CliRunner().invoke(cli, ["lab", "gpu-operator", "v1.0"])
    assert isinstance(refused.exception, InputError)
    assert "v23.3.2, v26.7.1" in str(refused.exception.hint)


def test_the_page_says_what_the_table_says() -> None:
    page = (Path(__file__).parents[4] / "docs/lab-gpu.md").read_text(encoding="utf-8")
    assert all(version in page for version in TABLE.versions)
    assert all(operand.name in page for operand in TABLE.operands.values())
    assert set(re.findall(r"`(test_\w+)`", page)) <= {
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }


def test_every_line_can_be_written() -> None:
    values = dict.fromkeys(
        (
            "root",
            "mounted",
            "on_host",
            "version",
            "config",
            "driver",
            "node",
            "kernel",
            "pod",
            "phase",
            "what",
            "number",
        ),
        "x",
    )
    for name in templates():
        assert lines(name, **values, product="T4", message="m") or name == "driver-found-commands"
