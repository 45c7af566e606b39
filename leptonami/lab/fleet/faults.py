"""What can go wrong with the nodes of a node group, on order: names with data, and their documented symptoms.

The lab has them under `/lab-api/fleet-faults`; elsewhere a file has them. A list of objects: `group` (a node group's
name, wildcards allowed), `fault`, and the fault's own data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from leptonami.errors import InputError

__all__ = ["FAULTS", "Fault", "of_group", "parse"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its symptoms, where they are documented, and the data that it takes with the defaults."""

    symptoms: str
    source: str
    data: Mapping[str, Any] = field(default_factory=dict)


FAULTS: Mapping[str, Kind] = {
    "never-joins": Kind(
        "The instance runs and no Node appears; EKS tells NodeCreationFailure in the end.",
        "https://docs.aws.amazon.com/eks/latest/userguide/troubleshooting.html#worker-node-fail",
    ),
    "notready-flapping": Kind(
        "The kubelet stops and comes back: Ready is Unknown (NodeStatusUnknown), then True again.",
        "https://kubernetes.io/docs/concepts/architecture/nodes/#condition",
        {"up": 300.0, "down": 120.0},
    ),
    "pull-denied": Kind(
        "Pulls of images that fit `image` end in 401: ErrImagePull, then ImagePullBackOff.",
        "https://repost.aws/knowledge-center/eks-ecr-troubleshooting",
        {"image": "*"},
    ),
    "device-plugin-silent": Kind(
        "The device plugin runs and registers nothing: the Pod is Running, nvidia.com/gpu never appears.",
        "https://github.com/awslabs/amazon-eks-ami/issues/1817",
    ),
    "snap-refresh-race": Kind(
        "On Ubuntu whose snaps are not held, bootstrap meets a refresh of kubelet-eks in progress and fails.",
        "https://bugs.launchpad.net/cloud-images/+bug/2023284",
        {"probability": 1.0},
    ),
    "slow-disk": Kind(
        "The volume gives its snapshot's blocks at about 10 MB/s: pulls, and starts of baked images, take minutes.",
        "bottlerocket-images-cache#13 and https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html",
    ),
}


@dataclass(frozen=True)
class Fault:
    """A fault of the node groups whose names fit `group`."""

    group: str
    fault: str
    data: Mapping[str, Any] = field(default_factory=dict)


def parse(value: object) -> tuple[Fault, ...]:
    """Read faults from data.

    Raises
    ------
    InputError
        If one is wrong.
    """
    if not isinstance(value, list):
        raise InputError("faults are a list of objects", resource="fleet faults")
    return tuple(one(each, f"fleet faults[{number}]") for number, each in enumerate(value))


def one(value: object, where: str) -> Fault:
    """Read one."""
    if not isinstance(value, Mapping):
        raise InputError("not an object", resource=where)
    data = {str(key): item for key, item in value.items()}
    name, group = data.pop("fault", None), data.pop("group", "*")
    if name not in FAULTS:
        raise InputError(f"there is no fault {name!r}", resource=where, hint=f"there are: {', '.join(FAULTS)}")
    known = FAULTS[name].data
    for key, item in data.items():
        if key not in known:
            raise InputError(f"{name} takes no {key!r}", resource=where, hint=f"it takes: {', '.join(known) or 'none'}")
        wanted = (int, float) if isinstance(known[key], float) else (str,)
        if isinstance(item, bool) or not isinstance(item, wanted) or (isinstance(item, int | float) and item < 0):
            raise InputError(f"{key} is wrong: {item!r}", resource=where)
    if not isinstance(group, str):
        raise InputError(f"group is wrong: {group!r}", resource=where)
    return Fault(group, str(name), {**known, **data})


def of_group(faults: tuple[Fault, ...], group: str) -> dict[str, Mapping[str, Any]]:
    """Give the faults of a node group, by name; the first of a name counts."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in faults:
        if fnmatchcase(group, each.group):
            found.setdefault(each.fault, each.data)
    return found
