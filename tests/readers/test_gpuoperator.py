"""The operator's state out of mixed evidence. Synthetic clusters (tests/gpu_samples.py)."""

from __future__ import annotations

from typing import Any

import gpu_samples as make
import pytest

from leptonami.readers.gpuoperands import OPERANDS, gpu_node_sign, operand_of, parse_version
from leptonami.readers.gpuoperator import OperatorState, operator_state
from leptonami.readers.mustgather import read_evidence
from leptonami.readers.quantity import parse_time


def state(*objects: Any, **more: str) -> OperatorState:
    return operator_state(read_evidence(make.documents(*objects, **more)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("nvidia-driver-daemonset-abcde", "driver"),
        ("nvidia-driver-daemonset", "driver"),
        ("nvidia-gpu-driver-ubuntu22.04-7c6d7bd86b-abcde", "driver"),
        ("nvidia-device-plugin-daemonset-gtcpb", "device-plugin"),
        ("nvidia-device-plugin-validator-bpd4m", "device-plugin-validator"),
        ("nvidia-device-plugin-mps-control-daemon-x", "mps-control-daemon"),
        ("nvdp-nvidia-device-plugin-abcde", "device-plugin"),
        ("nvidia-dcgm-exporter-6vwzp", "dcgm-exporter"),
        ("nvidia-dcgm-6vwzp", "dcgm"),
        ("nvidia-cuda-validator-9zr76", "cuda-validator"),
        ("nvidia-operator-validator-2qsjh", "operator-validator"),
        ("gpu-operator-7cfc9fb796-95l55", "gpu-operator"),
        ("gpu-operator-node-feature-discovery-worker-b9j8g", "nfd-worker"),
        ("my-release-node-feature-discovery-master-7bc-s46d6", "nfd-master"),
        ("nvidia-vgpu-device-manager-x", "vgpu-device-manager"),
        ("nvidia-driver-daemonsets", None),
        ("trainer-abc", None),
    ],
)
def test_whose_pod_a_name_is(name: str, key: str | None) -> None:
    found = operand_of(name)
    assert (found.key if found else None) == key


def test_every_operand_is_told_by_its_own_names() -> None:
    assert all(operand_of(f"{name.rstrip('-')}-x1") is operand for operand in OPERANDS for name in operand.names)


@pytest.mark.parametrize(
    ("labels", "amounts", "known"),
    [
        ({make.PCI: "true"}, {}, True),
        ({make.PCI: "false"}, {}, False),
        ({"k8s.amazonaws.com/accelerator": "nvidia-tesla-t4"}, {}, True),
        ({"node.kubernetes.io/instance-type": "g4dn.xlarge"}, {}, True),
        ({"node.kubernetes.io/instance-type": "p5.48xlarge"}, {}, True),
        ({"node.kubernetes.io/instance-type": "p6-b200.48xlarge"}, {}, True),
        ({"node.kubernetes.io/instance-type": "g4ad.xlarge"}, {}, False),  # AMD's
        ({"node.kubernetes.io/instance-type": "m5.large"}, {}, False),
        ({}, {"nvidia.com/mig-1g.5gb": 2}, True),
        ({}, {"nvidia.com/gpu": 0}, False),
    ],
)
def test_gpu_nodes(labels: dict[str, str], amounts: dict[str, object], known: bool) -> None:
    assert bool(gpu_node_sign(labels, amounts)) == known


def test_version_from_image_chart_or_nothing() -> None:
    operator = make.pod("gpu-operator-1-a", image="nvcr.io/nvidia/gpu-operator:v23.3.2")
    assert state(operator).version.text == "v23.3.2"
    validator = make.pod(
        "nvidia-operator-validator-a", image="nvcr.io/nvidia/cloud-native/gpu-operator-validator:v24.9.0"
    )
    assert state(validator).version.text == "v24.9.0"
    found = state(make.policy(version="v26.7.0")).version
    assert (found.number, found.proof.text) == ((26, 7, 0), "helm.sh/chart=gpu-operator-v26.7.0")
    nfd = make.node() | {"metadata": {"name": "a", "labels": {"helm.sh/chart": "node-feature-discovery-0.12.1"}}}
    assert state(nfd).version is None
    assert parse_version("v25.10") == (25, 10, 0)


def test_policy() -> None:
    spec = {
        "driver": {"enabled": False, "version": "550.1", "useNvidiaDriverCRD": True},
        "validator": {"plugin": {"env": [{"name": "WITH_WORKLOAD", "value": "false"}]}},
        "mig": {"strategy": "mixed"},
    }
    ignored = make.policy(state="ignored") | {"metadata": {"name": "second"}}
    found = state(ignored, make.policy(state="notReady", reason="OperandNotReady", spec=spec))
    assert found.policy is not None
    assert (found.policy.name, found.policy.state) == ("cluster-policy", "notReady")
    assert found.policy.enabled == {"driver": False, "container-toolkit": True}
    assert (found.policy.driver_version, found.policy.driver_crd, found.policy.mig_strategy) == ("550.1", True, "mixed")
    assert found.policy.default_runtime == "containerd"
    assert found.with_workload is False
    ready = found.policy.condition("Ready")
    assert ready is not None and ready.reason == "OperandNotReady"


def test_with_workload_from_the_validator_itself() -> None:
    validator = make.pod("nvidia-operator-validator-a", inits=make.STEPS)
    validator["spec"]["initContainers"][3]["env"] = [{"name": "WITH_WORKLOAD", "value": "true"}]
    assert state(validator).with_workload is True


def test_object_and_row_of_one_pod_are_one() -> None:
    listing = (
        "NAME READY STATUS RESTARTS AGE IP NODE\n"
        "nvidia-device-plugin-daemonset-gpu-a 0/1 Pending 0 5m 192.0.2.1 gpu-a\n"
        "nvidia-dcgm-exporter-b 1/1 Running 0 5m 192.0.2.2 gpu-b\n"
    )
    found = state(*make.stack(), list__txt=listing)
    (plugin,) = found.of_operand("device-plugin")
    assert (plugin.status, plugin.node, plugin.pod is not None) == ("Running", "gpu-a", True)
    assert {each.name for each in found.nodes} == {"gpu-a", "gpu-b"}
    assert [each.name for each in found.of_operand("dcgm-exporter", "gpu-b")] == ["nvidia-dcgm-exporter-b"]


def test_ages_count_to_the_latest_time_in_the_evidence() -> None:
    found = state(make.node(), *make.stack())
    assert found.taken == parse_time(make.NOW)
    assert {each.age for each in found.pods} == {1800}


def test_events_of_both_forms() -> None:
    listing = "LAST SEEN TYPE REASON OBJECT MESSAGE\n4m Warning Failed pod/nvidia-dcgm-exporter-x no such image\n"
    found = state(make.event("nvidia-dcgm-exporter-x", "Failed", "not found"), list__txt=listing)
    assert [each.message for each in found.events_of("nvidia-dcgm-exporter-x")] == ["not found", "no such image"]


def test_what_asks_for_a_gpu() -> None:
    found = state(
        make.pod("trainer", requests={"nvidia.com/gpu": "1"}),
        make.pod("web", requests={"cpu": "1"}),
        make.pod("nvidia-device-plugin-validator-a", requests={"nvidia.com/gpu": "1"}),
    )
    assert [each.name for each in found.workloads] == ["trainer"]
