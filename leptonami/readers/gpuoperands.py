"""What the GPU operator runs on a node: its operands, how their pods are told apart, and how each looks when healthy.

Read in gpu-operator's `assets/` and `cmd/nvidia-validator` from v23.3 to v26.7. The gates are node labels: an operand's
DaemonSet selects `nvidia.com/gpu.deploy.<gate>=true`, which the operator sets on nodes that have one of NFD's labels
for a PCI device of NVIDIA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "DEPLOY",
    "NFD_LABELS",
    "OPERANDS",
    "PREINSTALLED",
    "Link",
    "Operand",
    "gpu_node_sign",
    "operand_of",
    "parse_version",
]


DEPLOY = "nvidia.com/gpu.deploy."
PREINSTALLED = "pre-installed"  # of the driver: k8s-driver-manager found one on the host
PRESENT = "nvidia.com/gpu.present"
ACCELERATOR = "k8s.amazonaws.com/accelerator"
NFD_LABELS = (
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
    "feature.node.kubernetes.io/pci-0300_10de.present",
)
INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
# The instance families with NVIDIA GPUs (EC2, accelerated computing); g4ad has AMD's.
GPU_FAMILY = re.compile(r"(?:p[2-9]|g[2-9])[a-z]{0,4}(?:-[a-z0-9]{1,12})?\.[a-z0-9-]{2,16}")
NOT_NVIDIA = ("g4ad.",)


class Link(StrEnum):
    """The links of the chain that ends in a running workload, in its order."""

    NFD = "NFD label"
    DRIVER = "driver"
    TOOLKIT = "toolkit"
    DEVICE_PLUGIN = "device plugin"
    ALLOCATABLE = "allocatable"
    VALIDATOR = "validator"
    WORKLOAD = "workload"


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand.

    Parameters
    ----------
    key
        Its short name.
    names
        How the names of its pods begin; also the name of the DaemonSet, with what a cluster of several OSes or a
        standalone device plugin adds.
    gate
        The last part of the label that gates it; "" if none does.
    link
        Which link of the chain it carries; None if no workload depends on it.
    completes
        Whether its pods end (Completed, 0/1) when all is well, instead of running.
    usual
        Whether it has a pod on every GPU node by default. The driver has, unless it is on the host.
    waits_for
        The link that its init containers wait for.
    """

    key: str
    names: tuple[str, ...]
    gate: str
    link: Link | None
    completes: bool = False
    usual: bool = True
    waits_for: Link | None = None


OPERANDS: tuple[Operand, ...] = (
    Operand(
        "driver",
        ("nvidia-driver-daemonset", "nvidia-gpu-driver-"),  # the second: one pool of the NVIDIADriver resource
        "driver",
        Link.DRIVER,
    ),
    Operand(
        "container-toolkit",
        ("nvidia-container-toolkit-daemonset",),
        "container-toolkit",
        Link.TOOLKIT,
        waits_for=Link.DRIVER,
    ),
    Operand(
        "mps-control-daemon",
        ("nvidia-device-plugin-mps-control-daemon",),
        "device-plugin",
        None,
        usual=False,
        waits_for=Link.TOOLKIT,
    ),
    Operand(
        "device-plugin-validator",
        ("nvidia-device-plugin-validator",),
        "",
        Link.WORKLOAD,
        completes=True,
        usual=False,
        waits_for=Link.DEVICE_PLUGIN,
    ),
    Operand(
        "device-plugin",
        ("nvidia-device-plugin-daemonset", "nvidia-device-plugin", "nvdp-nvidia-device-plugin"),
        "device-plugin",
        Link.DEVICE_PLUGIN,
        waits_for=Link.TOOLKIT,
    ),
    Operand("cuda-validator", ("nvidia-cuda-validator",), "", Link.VALIDATOR, completes=True, waits_for=Link.TOOLKIT),
    Operand(
        "operator-validator",
        ("nvidia-operator-validator",),
        "operator-validator",
        Link.VALIDATOR,
        waits_for=Link.DRIVER,
    ),
    Operand(
        "gpu-feature-discovery",
        ("gpu-feature-discovery", "nvdp-gpu-feature-discovery"),
        "gpu-feature-discovery",
        None,
        waits_for=Link.TOOLKIT,
    ),
    Operand("dcgm-exporter", ("nvidia-dcgm-exporter",), "dcgm-exporter", None, waits_for=Link.TOOLKIT),
    Operand("dcgm", ("nvidia-dcgm",), "dcgm", None, usual=False, waits_for=Link.TOOLKIT),
    Operand("mig-manager", ("nvidia-mig-manager",), "mig-manager", None, usual=False, waits_for=Link.TOOLKIT),
    Operand("node-status-exporter", ("nvidia-node-status-exporter",), "node-status-exporter", None, usual=False),
    # For virtual machines, by the label nvidia.com/gpu.workload.config; none of them carries a container workload.
    Operand("vfio-manager", ("nvidia-vfio-manager",), "vfio-manager", None, usual=False),
    Operand("sandbox-validator", ("nvidia-sandbox-validator",), "sandbox-validator", None, usual=False),
    Operand("sandbox-device-plugin", ("nvidia-sandbox-device-plugin",), "sandbox-device-plugin", None, usual=False),
    Operand("vgpu-manager", ("nvidia-vgpu-manager",), "vgpu-manager", None, usual=False),
    Operand("vgpu-device-manager", ("nvidia-vgpu-device-manager",), "vgpu-device-manager", None, usual=False),
    Operand("cc-manager", ("nvidia-cc-manager",), "cc-manager", None, usual=False),
    Operand("kata-manager", ("nvidia-kata-manager",), "kata-manager", None, usual=False),
    # What is not the operator's own, but what it stands on.
    Operand("nfd-worker", ("node-feature-discovery-worker", "nfd-worker"), "", None, usual=False),
    Operand("nfd-master", ("node-feature-discovery-master", "nfd-master"), "", Link.NFD, usual=False),
    Operand("nfd-gc", ("node-feature-discovery-gc", "nfd-gc"), "", None, usual=False),
    Operand("gpu-operator", ("gpu-operator",), "", None, usual=False),
)
BY_KEY = {each.key: each for each in OPERANDS}
CLUSTER_WIDE = frozenset({"nfd-worker", "nfd-master", "nfd-gc", "gpu-operator"})


def operand_of(name: str) -> Operand | None:
    """Tell whose pod or DaemonSet a name is; None if it is none of the operator's.

    >>> operand_of("nvidia-device-plugin-validator-bpd4m").key
    'device-plugin-validator'
    >>> operand_of("gpu-operator-node-feature-discovery-worker-b9j8g").key
    'nfd-worker'
    """
    inner = name.split("-node-feature-discovery-", 1)
    name = f"node-feature-discovery-{inner[1]}" if len(inner) == 2 else name
    best: tuple[int, Operand] | None = None
    for operand in OPERANDS:
        for each in operand.names:
            fits = name == each or name.startswith(each if each.endswith("-") else f"{each}-")
            if fits and (best is None or len(each) > best[0]):
                best = (len(each), operand)
    return best[1] if best else None


def gpu_node_sign(labels: Mapping[str, str], amounts: Mapping[str, object]) -> str:
    """Say by what a node is known for a GPU node: a label or an amount, as it stands there; "" if by nothing.

    Parameters
    ----------
    labels
        The node's labels.
    amounts
        Its capacity or allocatable resources.
    """
    for key in (*NFD_LABELS, PRESENT):
        if labels.get(key) == "true":
            return f"{key}=true"
    for name, each in amounts.items():
        if is_gpu_resource(name) and each:
            return f"{name}: {each}"
    if ACCELERATOR in labels:
        return f"{ACCELERATOR}={labels[ACCELERATOR]}"
    for key in INSTANCE_TYPES:
        kind = labels.get(key, "")
        if GPU_FAMILY.fullmatch(kind) and not kind.startswith(NOT_NVIDIA):
            return f"{key}={kind}"
    return ""


def is_gpu_resource(name: str) -> bool:
    """Tell whether a resource is one that the device plugin offers: `nvidia.com/gpu`, shared ones, MIG slices."""
    return name.startswith(("nvidia.com/gpu", "nvidia.com/mig-"))


VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,6}))?")


def parse_version(written: str) -> tuple[int, int, int] | None:
    """Take a version of the operator apart: `v23.3.2` is (23, 3, 2); None if it is none."""
    match = VERSION.match(written)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)) if match else None
