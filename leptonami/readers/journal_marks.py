r"""The marks of a boot: which line of the journal says that something was reached, or went wrong.

One table for all families. The messages are those of systemd (the descriptions of the units in amazon-eks-ami, in
bottlerocket-core-kit and in Canonical's image), cloud-init, containerd, the kubelet, nodeadm, snapd and NVIDIA's
driver.
For Amazon Linux 2 the lines are the ones that node-latency-for-k8s looks for; the systemd of newer images writes the
unit's name before its description, and Ubuntu's kubelet is the snap `kubelet-eks`.

A pattern is searched in the first `SEARCHED` characters of a message of the right program, and only if its `needle` is
in there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["RULES", "SEARCHED", "Family", "Name", "Rule", "program", "rules_for"]

SEARCHED = 4096


class Family(StrEnum):
    """What the node's operating system is."""

    AL2 = "al2"
    AL2023 = "al2023"
    UBUNTU = "ubuntu"
    BOTTLEROCKET = "bottlerocket"
    UNKNOWN = "unknown"


class Name(StrEnum):
    """What a mark says."""

    KERNEL_START = "kernel start"
    SYSTEMD_START = "systemd start"
    NETWORK_UP = "network up"
    NETWORK_ONLINE = "network online"
    CLOUD_INIT_LOCAL = "cloud-init local"
    CLOUD_INIT = "cloud-init network"
    CLOUD_INIT_CONFIG = "cloud-init config"
    CLOUD_INIT_FINAL = "cloud-init final"
    CLOUD_INIT_FINISHED = "cloud-init finished"
    NODEADM_CONFIG_START = "nodeadm-config start"
    NODEADM_CONFIG_FINISHED = "nodeadm-config finished"
    NODEADM_RUN_START = "nodeadm-run start"
    NODEADM_RUN_FINISHED = "nodeadm-run finished"
    SETTINGS_START = "settings start"
    SETTINGS_APPLIED = "settings applied"
    BOOTSTRAP_START = "bootstrap.sh start"
    BOOTSTRAP_FINISHED = "bootstrap.sh finished"
    CONTAINERD_START = "containerd start"
    CONTAINERD_STARTED = "containerd started"
    CONTAINERD_READY = "containerd ready"
    SANDBOX_IMAGE_START = "sandbox image pull start"
    SANDBOX_IMAGE_READY = "sandbox image ready"
    SNAP_REFRESH = "snap refresh"
    SNAP_HELD = "snap refreshes held"
    KUBELET_START = "kubelet start"
    KUBELET_STARTED = "kubelet started"
    KUBELET_RUNNING = "kubelet running"
    NODE_REGISTERED = "node registered"
    NODE_READY = "node ready"
    CNI_START = "aws-node started"
    KUBE_PROXY_START = "kube-proxy started"
    DKMS_START = "dkms start"
    DRIVER_LOADED = "GPU driver loaded"
    PERSISTENCED_STARTED = "nvidia-persistenced started"
    DEVICE_PLUGIN_REGISTERED = "device plugin registered"
    SSM_AGENT_STARTED = "ssm agent started"
    STARTUP_FINISHED = "systemd startup finished"
    # What went wrong.
    UNIT_FAILED = "unit failed"
    USER_DATA_FAILED = "user data failed"
    BOOTSTRAP_REMOVED = "bootstrap.sh is not there"
    SNAP_IN_PROGRESS = "snap change in progress"
    NODEADM_FAILED = "nodeadm failed"
    SANDBOX_IMAGE_FAILED = "sandbox image not there"
    IMAGE_PULL_FAILED = "image pull failed"
    REGISTRATION_FAILED = "registration failed"
    DRIVER_FAILED = "GPU driver missing"
    XID = "Xid"
    OUT_OF_MEMORY = "out of memory"


AL2, AL2023, UBUNTU, BOTTLEROCKET = Family.AL2, Family.AL2023, Family.UBUNTU, Family.BOTTLEROCKET
ALL = frozenset({AL2, AL2023, UBUNTU, BOTTLEROCKET})
CLOUD_INIT = ALL - {BOTTLEROCKET}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one mark shows.

    Attributes
    ----------
    name
        The mark.
    families
        In whose journals the message is known to stand. It is taken wherever it stands: the table says what to expect.
    programs
        Who writes it, as `program` gives it; empty for anybody.
    needle
        Text that every such message has.
    pattern
        The message. Its group `detail`, if it has one, is kept: a version, a unit, a number.
    trouble
        Whether it says that something went wrong.
    """

    name: Name
    families: frozenset[Family]
    programs: tuple[str, ...]
    needle: str
    pattern: re.Pattern[str]
    trouble: bool = False


def rule(
    name: Name, families: frozenset[Family] | Family, programs: str, needle: str, pattern: str, *, trouble: bool = False
) -> Rule:
    """Write a rule shortly."""
    group = frozenset({families}) if isinstance(families, Family) else families
    return Rule(name, group, tuple(programs.split()), needle, re.compile(pattern), trouble)


def unit(name: Name, families: frozenset[Family] | Family, verb: str, unit_name: str, title: str) -> Rule:
    """Write the rule of a unit: `Started TITLE`, or with newer systemds `Started UNIT - TITLE`."""
    pattern = rf"^(?:{verb}) (?:{re.escape(unit_name)} - )?{title}"
    needle = title.replace("\\", "").rpartition(")?")[2]  # without the word that may be missing
    return rule(name, families, "systemd", needle, pattern)


STAGE = r"Cloud-init v\. {0,2}(?P<detail>\S{1,60}) running '"
RULES: tuple[Rule, ...] = (
    rule(Name.KERNEL_START, ALL, "kernel", "Linux version ", r"^Linux version (?P<detail>\S{1,120})"),
    rule(Name.SYSTEMD_START, ALL, "systemd", " running in ", r"^systemd (?P<detail>\S{1,60}) running in system mode"),
    rule(Name.NETWORK_UP, ALL, "systemd", "Network", r"^Reached target (?:network\.target - )?Network\.?$"),
    rule(Name.NETWORK_ONLINE, ALL, "systemd", "Network is Online", r"^Reached target .{0,40}Network is Online"),
    rule(Name.CLOUD_INIT_LOCAL, CLOUD_INIT, "cloud-init", "running 'init-local'", STAGE + "init-local'"),
    rule(Name.CLOUD_INIT, CLOUD_INIT, "cloud-init", "running 'init'", STAGE + "init'"),
    rule(Name.CLOUD_INIT_CONFIG, CLOUD_INIT, "cloud-init", "running 'modules:config'", STAGE + "modules:config'"),
    rule(Name.CLOUD_INIT_FINAL, CLOUD_INIT, "cloud-init", "running 'modules:final'", STAGE + "modules:final'"),
    rule(
        Name.CLOUD_INIT_FINISHED,
        CLOUD_INIT,
        "cloud-init",
        " finished at ",
        r"Cloud-init v\. {0,2}\S{1,60} finished at .{0,200}\bUp (?P<detail>[0-9.]{1,12}) seconds",
    ),
    unit(Name.NODEADM_CONFIG_START, AL2023, "Starting", "nodeadm-config.service", "EKS Nodeadm Config"),
    unit(Name.NODEADM_CONFIG_FINISHED, AL2023, "Finished", "nodeadm-config.service", "EKS Nodeadm Config"),
    unit(Name.NODEADM_RUN_START, AL2023, "Starting", "nodeadm-run.service", "EKS Nodeadm Run"),
    unit(Name.NODEADM_RUN_FINISHED, AL2023, "Finished", "nodeadm-run.service", "EKS Nodeadm Run"),
    unit(
        Name.SETTINGS_START, BOTTLEROCKET, "Starting", "settings-applier.service", "Applies settings to create config"
    ),
    unit(
        Name.SETTINGS_APPLIED, BOTTLEROCKET, "Finished", "settings-applier.service", "Applies settings to create config"
    ),
    rule(Name.BOOTSTRAP_START, AL2, "cloud-init", "[eks-bootstrap]", r"\[eks-bootstrap\] INFO: starting"),
    rule(Name.BOOTSTRAP_FINISHED, AL2, "cloud-init", "[eks-bootstrap]", r"\[eks-bootstrap\] INFO: complete"),
    # Canonical's script is not public; its first lines are quoted in eksctl's issue 110.
    rule(Name.BOOTSTRAP_START, UBUNTU, "cloud-init", " EKS ", r"Aliasing EKS k8s snap|Configuring EKS node via"),
    unit(Name.CONTAINERD_START, ALL, "Starting", "containerd.service", "containerd container runtime"),
    unit(Name.CONTAINERD_STARTED, ALL, "Started", "containerd.service", "containerd container runtime"),
    rule(
        Name.CONTAINERD_READY,
        ALL,
        "containerd",
        "successfully booted in",
        r"containerd successfully booted in (?P<detail>[0-9.]{1,12}s)",
    ),
    unit(Name.SANDBOX_IMAGE_START, AL2, "Starting", "sandbox-image.service", "pull sandbox image"),
    unit(Name.SANDBOX_IMAGE_READY, AL2, "Started|Finished", "sandbox-image.service", "pull sandbox image"),
    rule(
        Name.SNAP_REFRESH,
        UBUNTU,
        "snapd snap cloud-init",
        "refresh",
        r"(?P<detail>Auto-refresh.{1,80}|auto-refresh: (?!all snaps are up).{1,80}|kubelet-eks .{0,60}refreshed)",
    ),
    rule(Name.SNAP_HELD, UBUNTU, "snapd snap cloud-init", " held", r"(?i)refresh(?:es)? of (?P<detail>.{1,60}) held"),
    unit(Name.KUBELET_START, ALL - {UBUNTU}, "Starting", "kubelet.service", "(?:Kubernetes )?Kubelet"),
    unit(Name.KUBELET_STARTED, ALL - {UBUNTU}, "Started", "kubelet.service", "(?:Kubernetes )?Kubelet"),
    unit(
        Name.KUBELET_STARTED,
        UBUNTU,
        "Started",
        "snap.kubelet-eks.daemon.service",
        r"Service for snap application kubelet-eks\.daemon",
    ),
    rule(Name.KUBELET_RUNNING, ALL, "kubelet", "Started kubelet", r'\] "?Started kubelet'),
    rule(
        Name.NODE_REGISTERED,
        ALL,
        "kubelet",
        "Successfully registered node",
        r'Successfully registered node(?:(?:" node="?| )(?P<detail>[^\s"]{1,253}))?',
    ),
    rule(
        Name.NODE_READY,
        ALL,
        "kubelet",
        "eady",
        r'Fast updating node status as it just became ready|event="?NodeReady"?|Node became ready',
    ),
    rule(
        Name.CNI_START, ALL, "containerd", "Name:aws-node,", r"CreateContainer within sandbox .{1,600}returns container"
    ),
    rule(
        Name.KUBE_PROXY_START,
        ALL,
        "containerd",
        "Name:kube-proxy,",
        r"CreateContainer within sandbox .{1,600}returns container",
    ),
    unit(Name.DKMS_START, UBUNTU, "Starting", "dkms.service", "Builds and install new kernel modules"),
    rule(
        Name.DRIVER_LOADED,
        ALL,
        "kernel",
        "NVRM: loading NVIDIA",
        r"NVRM: loading NVIDIA UNIX .{1,60}? {1,4}(?P<detail>[0-9]{2,4}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)\b",
    ),
    rule(Name.PERSISTENCED_STARTED, ALL, "nvidia-persistenced", "Started (", r"^Started \("),
    rule(
        Name.DEVICE_PLUGIN_REGISTERED,
        ALL,
        "kubelet",
        "Got registration request from device plugin",
        r"Got registration request from device plugin with resource.{0,40}?(?P<detail>nvidia\.com/[a-z0-9.-]{1,60})",
    ),
    rule(
        Name.SSM_AGENT_STARTED,
        ALL,
        "systemd",
        "amazon-ssm-agent",
        r"^Started (?:\S{1,80} - )?(?:Service for snap application )?amazon-ssm-agent",
    ),
    rule(
        Name.STARTUP_FINISHED,
        ALL,
        "systemd",
        "Startup finished in ",
        r"^Startup finished in .{1,200}= (?P<detail>[0-9.a-z ]{1,40})\.",
    ),
    rule(
        Name.UNIT_FAILED,
        ALL,
        "systemd",
        "Failed to start ",
        r"^Failed to start (?P<detail>.{1,160}?)\.?$",
        trouble=True,
    ),
    rule(
        Name.UNIT_FAILED,
        ALL - {AL2},
        "systemd",
        "Failed with result",
        r"^(?P<detail>\S{1,160}): Failed with result",
        trouble=True,
    ),
    rule(
        Name.UNIT_FAILED, AL2, "systemd", "entered failed", r"^Unit (?P<detail>\S{1,160}) entered failed", trouble=True
    ),
    rule(
        Name.USER_DATA_FAILED,
        CLOUD_INIT,
        "cloud-init",
        "Failed r",
        r"Failed running (?P<detail>/var/lib/cloud/\S{1,120})",
        trouble=True,
    ),
    rule(
        Name.BOOTSTRAP_REMOVED,
        AL2023,
        "",
        "bootstrap.sh has been removed",
        r"bootstrap\.sh has been removed from AL2023",
        trouble=True,
    ),
    rule(
        Name.SNAP_IN_PROGRESS,
        UBUNTU,
        "",
        "change in progress",
        r'snap \\?"(?P<detail>[a-z0-9-]{1,60})\\?" has \\?"[a-z-]{1,40}\\?" change in progress',
        trouble=True,
    ),
    rule(
        Name.NODEADM_FAILED,
        AL2023,
        "nodeadm",
        '"level":"',
        r'"level":"(?:error|fatal|panic)".{0,400}?"msg":"(?P<detail>[^"]{1,160})',
        trouble=True,
    ),
    rule(
        Name.SANDBOX_IMAGE_FAILED,
        ALL,
        "containerd kubelet",
        "failed to get sandbox image",
        r'failed to get sandbox image \\{0,3}"(?P<detail>[^"\\\s]{1,255})',
        trouble=True,
    ),
    rule(
        Name.IMAGE_PULL_FAILED,
        ALL,
        "containerd",
        "failed",
        r'PullImage \\?"(?P<detail>[^"\\\s]{1,255})\\?" failed',
        trouble=True,
    ),
    rule(
        Name.REGISTRATION_FAILED,
        ALL,
        "kubelet",
        "Unable to register node with API server",
        r"Unable to register node with API server",
        trouble=True,
    ),
    rule(
        Name.DRIVER_FAILED,
        ALL,
        "",
        "NVIDIA",
        r"Failed to query NVIDIA devices|NVRM: No NVIDIA (?:GPU|graphics adapter)|NVIDIA-SMI has failed",
        trouble=True,
    ),
    rule(Name.DRIVER_FAILED, ALL, "", "Module nvidia not found", r"Module nvidia not found", trouble=True),
    rule(Name.XID, ALL, "kernel", "NVRM: Xid (", r"NVRM: Xid \(PCI:[^)]{1,40}\): (?P<detail>[0-9]{1,4})", trouble=True),
    rule(
        Name.OUT_OF_MEMORY,
        ALL,
        "kernel",
        "ut of memory",
        r"ut of memory: Kill(?:ed)? process [0-9]{1,10} \((?P<detail>[^)]{1,64})\)",
        trouble=True,
    ),
)


def program(identifier: str) -> str:
    """Give the program that an identifier stands for.

    >>> program("kubelet-eks.daemon"), program("(nodeadm)"), program("/usr/bin/containerd")
    ('kubelet', 'nodeadm', 'containerd')
    """
    name = identifier.strip("()").rpartition("/")[2]
    return name.removesuffix(".daemon").removesuffix("-eks") if name.endswith(".daemon") else name


def index() -> tuple[dict[str, tuple[Rule, ...]], tuple[Rule, ...]]:
    """Put the rules in the order in which they are needed: by program, and those for all."""
    anybody = tuple(each for each in RULES if not each.programs)
    names = {name for each in RULES for name in each.programs}
    return {
        name: tuple(each for each in RULES if name in each.programs or not each.programs) for name in names
    }, anybody


BY_PROGRAM, ANYBODY = index()


def rules_for(name: str) -> tuple[Rule, ...]:
    """Give the rules for what a program writes."""
    return BY_PROGRAM.get(name, ANYBODY)
