"""The Node object: what a kubelet registers and reports, as functions of the machine and its image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from leptonami.lab.fleet.cluster import Object
from leptonami.lab.fleet.images import Root
from leptonami.lab.fleet.recorder import SIMULATED
from leptonami.lab.fleet.wording import minor_of

__all__ = ["NOT_READY", "UNINITIALISED", "UNREACHABLE", "Machine", "allocatable", "capacity", "conditions", "node"]

UNINITIALISED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
AWS_BUILDS = {"al2", "al2023", "bottlerocket"}
WITHOUT_PROXY = 33  # kubernetes#129713: kubelets no longer say the version of a kube-proxy that they do not run
CPU_SHARES = ((1, 60.0), (1, 10.0), (2, 5.0))  # millicores of the first cores, and then
CPU_REST = 2.5
MEMORY_BASE, MEMORY_PER_POD, EVICTION = 255, 11, 100  # MiB
EPHEMERAL_RESERVED = 2**30
EPHEMERAL_KEPT = 0.1
VISIBLE = 0.96  # of the instance's memory; the rest is the hypervisor's and the kernel's: an estimate
PLUGIN_MESSAGE = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin "
    "returns error: cni plugin not initialized"
)
FINE = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(frozen=True)
class Machine:
    """An EC2 instance that is to be a node.

    Attributes
    ----------
    group
        Its node group, or its Auto Scaling group if it is in no node group.
    managed
        Whether it is of a node group of EKS.
    own_image
        Whether its image is of the user's own: EKS adds nothing to its user data then.
    labels, taints
        Of the node group.
    kind
        Its instance type, as DescribeInstanceTypes has it.
    disk
        Bytes of its root volume.
    """

    id: str
    state: str
    type: str
    zone: str
    private_ip: str
    private_dns: str
    group: str = ""
    managed: bool = False
    own_image: bool = False
    spot: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    kind: Mapping[str, Any] = field(default_factory=dict)
    disk: int = 20 * 2**30
    root: Root = field(default_factory=Root)

    @property
    def region(self) -> str:
        """Give the region of its zone."""
        found = re.match(r"[a-z]{2,}(?:-[a-z]+)+-\d", self.zone)
        return found[0] if found else self.zone

    @property
    def max_pods(self) -> int:
        """Give how many pods it takes, by the rule of its network interfaces.

        https://github.com/awslabs/amazon-eks-ami/blob/main/nodeadm/internal/kubelet/maxpods/maxpods.go: interfaces
        times (addresses of each less its own), and two pods of the host network; 110 for an unknown type.
        """
        network = self.kind.get("NetworkInfo") or {}
        interfaces, addresses = network.get("MaximumNetworkInterfaces"), network.get("Ipv4AddressesPerInterface")
        return int(interfaces * (addresses - 1) + 2) if interfaces and addresses else 110


def capacity(machine: Machine, max_pods: int) -> dict[str, str]:
    """Give what the machine has."""
    cores = (machine.kind.get("VCpuInfo") or {}).get("DefaultVCpus") or 2
    memory = (machine.kind.get("MemoryInfo") or {}).get("SizeInMiB") or 8192
    return {
        "cpu": str(cores),
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": f"{int(memory * 1024 * VISIBLE)}Ki",
        "pods": str(max_pods),
    }


def allocatable(has: Mapping[str, str]) -> dict[str, str]:
    """Give what is left for pods after what EKS's images reserve.

    https://github.com/awslabs/amazon-eks-ami/blob/main/nodeadm/internal/kubelet/config.go (as bootstrap.sh before it):
    6 % of the first core, 1 % of the second, 0.5 % of two more, 0.25 % of the rest; 255 MiB and 11 MiB for each pod;
    1 GiB of the disk; and the hard eviction thresholds, 100 MiB of memory and 10 % of the disk.
    """
    cores, left, reserved = int(has["cpu"]), int(has["cpu"]), 0.0
    for count, share in CPU_SHARES:
        taken = min(left, count)
        reserved += taken * share
        left -= taken
    reserved += left * CPU_REST
    memory = int(has["memory"].removesuffix("Ki"))
    memory -= (MEMORY_BASE + MEMORY_PER_POD * int(has["pods"]) + EVICTION) * 1024
    disk = int(has["ephemeral-storage"].removesuffix("Ki")) * 1024
    return {
        **has,
        "cpu": f"{int(cores * 1000 - reserved)}m",
        "ephemeral-storage": str(int(disk * (1 - EPHEMERAL_KEPT)) - EPHEMERAL_RESERVED),
        "memory": f"{max(memory, 0)}Ki",
    }


def conditions(now: str, *, ready: bool, since: Iterable[Mapping[str, Any]] = ()) -> list[Object]:
    """Give the kubelet's conditions; `since` are the former ones, whose transition times hold while nothing changes."""
    before = {each["type"]: each for each in since}
    found = [(name, "False", reason, message) for name, reason, message in FINE]
    message = "kubelet is posting ready status" if ready else PLUGIN_MESSAGE
    found.append(("Ready", "True" if ready else "False", "KubeletReady" if ready else "KubeletNotReady", message))
    own = [
        {
            "type": name,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": before[name]["lastTransitionTime"]
            if before.get(name, {}).get("status") == status and "lastTransitionTime" in before[name]
            else now,
        }
        for name, status, reason, message in found
    ]
    return own + [dict(each) for name, each in before.items() if name not in {item["type"] for item in own}]


def identity(machine: str) -> dict[str, str]:
    """Make the machine's, the system's and the boot's id, always the same for the same machine.

    An instance's UUID begins with ec2 (EC2 user guide, "Detect whether a host is an EC2 instance"), and systemd takes a
    virtual machine's for its machine-id (machine-id(5)).
    """
    digest = hashlib.sha256(machine.encode()).hexdigest()
    system, boot = UUID(f"ec2{digest[3:32]}"), UUID(digest[32:], version=4)
    return {"machineID": system.hex, "systemUUID": str(system), "bootID": str(boot)}


def kubelet_version(root: Root) -> str:
    """Give the version that the kubelet says: AWS's builds (EKS-D) end in `-eks-` and a commit's hash.

    Bottlerocket's too (bottlerocket#3236), Canonical's snap does not. Where a node root says the version without it,
    the hash is made up, the same for the same version.
    """
    if root.family not in AWS_BUILDS or "-eks-" in root.kubelet or not root.kubelet:
        return root.kubelet
    return f"{root.kubelet}-eks-{hashlib.sha256(root.kubelet.encode()).hexdigest()[:7]}"


def node(
    machine: Machine,
    *,
    labels: Mapping[str, str],
    taints: Iterable[Mapping[str, str]],
    max_pods: int,
    port: int,
    images: list[Object],
    now: str,
    mark: str,
) -> Object:
    """Give the Node as its kubelet registers it: not ready, and not yet known to the cloud controller.

    Parameters
    ----------
    labels, taints
        What the kubelet was started with.
    port
        Where its logs are served.
    mark
        The value of the annotation that says that it is simulated, and how fast.
    """
    root = machine.root
    name = machine.private_dns
    has, version = capacity(machine, max_pods), kubelet_version(root)
    architecture = root.architecture
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": architecture,
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                **labels,
            },
            "annotations": {
                "alpha.kubernetes.io/provided-node-ip": machine.private_ip,
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                SIMULATED: mark,
            },
        },
        "spec": {
            "providerID": f"aws:///{machine.zone}/{machine.id}",
            "taints": [*taints, UNINITIALISED, {"key": NOT_READY, "effect": "NoSchedule"}],
        },
        "status": {
            "capacity": has,
            "allocatable": allocatable(has),
            "addresses": [
                {"type": "InternalIP", "address": machine.private_ip},
                {"type": "InternalDNS", "address": name},
                {"type": "Hostname", "address": name},
            ],
            "conditions": conditions(now, ready=False),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                **identity(machine.id),
                "architecture": architecture,
                "containerRuntimeVersion": f"containerd://{root.containerd}",
                "kernelVersion": root.kernel,
                "kubeProxyVersion": "" if minor_of(version) >= WITHOUT_PROXY else version,
                "kubeletVersion": version,
                "operatingSystem": "linux",
                "osImage": root.os_image,
            },
            "images": images,
        },
    }


def cloud_labels(machine: Machine) -> dict[str, str]:
    """Give the labels of the cloud controller."""
    return {
        "beta.kubernetes.io/instance-type": machine.type,
        "failure-domain.beta.kubernetes.io/region": machine.region,
        "failure-domain.beta.kubernetes.io/zone": machine.zone,
        "node.kubernetes.io/instance-type": machine.type,
        "topology.kubernetes.io/region": machine.region,
        "topology.kubernetes.io/zone": machine.zone,
    }


def group_labels(machine: Machine) -> dict[str, str]:
    """Give the labels of its node group: those that EKS sets by itself, and those that the group was given."""
    if not machine.managed:
        return {}
    return {
        "eks.amazonaws.com/capacityType": "SPOT" if machine.spot else "ON_DEMAND",
        "eks.amazonaws.com/nodegroup": machine.group,
        "eks.amazonaws.com/nodegroup-image": machine.root.image_id,
        **machine.labels,
    }
