"""What EKS allows in a managed node group: pure rules, in the words of its refusals where they are known.

https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html,
https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateNodegroup.html. The words are from reports of users
(pulumi-eks 1463, terraform-aws-eks 1386 and 3459, eksctl 5999, terraform-provider-aws 15118 among others).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leptonami.lab.ekstate import invalid
from leptonami.lab.wire import ApiError

__all__ = ["AMI_TYPES", "check_labels", "check_template", "check_types", "check_update", "sizes", "unavailable"]

# Family, operating system and architecture as in the catalog.
AMI_TYPES = {
    "AL2_x86_64": ("al2", "2", "amd64"),
    "AL2_x86_64_GPU": ("al2-gpu", "2", "amd64"),
    "AL2_ARM_64": ("al2", "2", "arm64"),
    "AL2023_x86_64_STANDARD": ("al2023", "2023", "amd64"),
    "AL2023_ARM_64_STANDARD": ("al2023", "2023", "arm64"),
    "AL2023_x86_64_NVIDIA": ("al2023-nvidia", "2023", "amd64"),
    "AL2023_ARM_64_NVIDIA": ("al2023-nvidia", "2023", "arm64"),
    "BOTTLEROCKET_x86_64": ("bottlerocket", "1", "amd64"),
    "BOTTLEROCKET_ARM_64": ("bottlerocket", "1", "arm64"),
    "BOTTLEROCKET_x86_64_NVIDIA": ("bottlerocket-nvidia", "1", "amd64"),
    "BOTTLEROCKET_ARM_64_NVIDIA": ("bottlerocket-nvidia", "1", "arm64"),
}
MOST_TAINTS, LONGEST = 50, 63
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
RESERVED = ("kubernetes.io/", "k8s.io/", "eks.amazonaws.com/")
# What a launch template of a managed node group must not have.
FORBIDDEN = {
    "IamInstanceProfile": "An instance profile is",
    "InstanceMarketOptions": "Instance market options are",
    "InstanceInitiatedShutdownBehavior": "A shutdown behavior is",
    "HibernationOptions": "Hibernation options are",
}
LARGEST_PERCENTAGE = 100


def check_template(asked: Mapping[str, Any], data: Mapping[str, Any] | None) -> None:
    """Refuse what does not go together with a launch template (None without one).

    Raises
    ------
    ApiError
        As EKS words it.
    """
    if data is None:
        if asked.get("amiType") == "CUSTOM":
            raise invalid("Launch template details can't be null for Custom ami type node group")
        return
    if "diskSize" in asked:
        raise invalid("Disk size must be specified within the launch template.")
    if "remoteAccess" in asked:
        raise invalid("Remote access configuration cannot be specified with a launch template.")
    for field, words in FORBIDDEN.items():
        if data.get(field):
            raise invalid(f"{words} not supported with the launch template.")
    if any(each.get("SubnetId") for each in data.get("NetworkInterfaces", [])):
        raise invalid("Subnets are not supported with the launch template.")
    if data.get("InstanceType") and asked.get("instanceTypes"):
        raise ApiError("InvalidRequestException", "Cannot specify instance types in launch template and API request")
    check_image(asked, bool(data.get("ImageId")))


def check_image(asked: Mapping[str, Any], own: bool) -> None:
    """Refuse what does not go together with an image id in the template, or with none there."""
    custom = asked.get("amiType") == "CUSTOM"
    if not own:
        if custom:
            raise invalid("You must specify an image id in the launch template for the AMI Type CUSTOM.")
        return
    if asked.get("amiType") and not custom:
        raise invalid(
            "You cannot specify an AMI Type other than CUSTOM, when specifying an image id in your launch template."
        )
    for field, words in (("version", "a kubernetes version"), ("releaseVersion", "a release version")):
        if asked.get(field):
            raise invalid(
                f"You cannot specify {words} to use when specifying an image id to use within the launch template."
            )


def check_update(asked: Mapping[str, Any], before: Mapping[str, Any], data: Mapping[str, Any] | None) -> None:
    """Refuse an update of the version that EKS does not make.

    Parameters
    ----------
    before
        The node group as DescribeNodegroup gives it.
    data
        The launch template's, as it is to be; None if the request names none.
    """
    custom = before["amiType"] == "CUSTOM"
    if custom:
        for field, name in (("version", "kubernetesVersion"), ("releaseVersion", "releaseVersion")):
            if asked.get(field):
                raise invalid(f"You cannot specify the field {name} when using custom AMIs.")
        if data is None:
            raise invalid("Launch template details can't be null for Custom ami type node group")
    if data is None:
        return
    if not before.get("launchTemplate"):
        raise invalid("You cannot specify a launch template for a node group that was created without one.")
    if custom != bool(data.get("ImageId")):
        raise invalid(
            "You cannot change the node group from an image id to an EKS optimized AMI."
            if custom
            else "You cannot specify an image id within the launch template, since your nodegroup is configured to use "
            "an EKS optimized AMI."
        )


def sizes(asked: Mapping[str, int], before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Give the sizes of a group, those not named as they were (or 1, 2, 2), in their order.

    Raises
    ------
    ApiError
        If they are in no order.
    """
    found = {**(before or {"minSize": 1, "maxSize": 2, "desiredSize": 2}), **asked}
    low, high, desired = found["minSize"], found["maxSize"], found["desiredSize"]
    if low > desired:
        raise invalid(f"Minimum capacity {low} can't be greater than desired size {desired}")
    if desired > high:
        raise invalid(f"desired capacity {desired} can't be greater than max size {high}")
    if low < 0 or high < 1:
        raise invalid("minSize must not be negative, and maxSize at least 1")
    return found


def check_labels(labels: Mapping[str, str], taints: list[Mapping[str, str]]) -> None:
    """Refuse labels and taints that Kubernetes or EKS does not take."""
    for key, value in labels.items():
        if key.startswith(RESERVED):
            raise invalid(f"Label cannot contain reserved prefixes [{', '.join(RESERVED)}]")
        check_pair("label", key, value)
    if len(taints) > MOST_TAINTS:
        raise invalid(f"Number of taints can't be greater than {MOST_TAINTS}")
    for each in taints:
        check_pair("taint", each.get("key", ""), each.get("value", ""))
        if each.get("effect") not in {"NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"}:
            raise invalid(f"The effect of a taint is not valid: {each.get('effect')}")


def check_pair(what: str, key: str, value: str) -> None:
    """Refuse a key or a value that Kubernetes does not take."""
    short = len(key.rpartition("/")[2]) <= LONGEST and len(value) <= LONGEST
    if not KEY.fullmatch(key) or not VALUE.fullmatch(value) or not short:
        raise invalid(f"The {what} is not valid: {key}={value}")


def unavailable(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give how many nodes may be away during an update, or which part of them: one of the two."""
    given = dict(asked or {"maxUnavailable": 1})
    if "maxUnavailable" in given and "maxUnavailablePercentage" in given:
        raise invalid("You cannot specify both maxUnavailable and maxUnavailablePercentage")
    number = given.get("maxUnavailable", given.get("maxUnavailablePercentage", 1))
    if not 1 <= number <= LARGEST_PERCENTAGE:
        raise invalid("maxUnavailable and maxUnavailablePercentage must be between 1 and 100")
    if given.get("updateStrategy", "DEFAULT") not in {"DEFAULT", "MINIMAL"}:
        raise invalid(f"The update strategy is not valid: {given['updateStrategy']}")
    given.setdefault("updateStrategy", "DEFAULT")
    if "maxUnavailablePercentage" not in given:
        given.setdefault("maxUnavailable", 1)
    return given


def check_types(types: list[str], kind: str, architectures: Mapping[str, list[str]]) -> None:
    """Refuse instance types that do not exist, or that are of another architecture than the AMI type.

    Parameters
    ----------
    architectures
        Those of each type that there is, in EC2's words.
    """
    for each in types:
        if each not in architectures:
            raise invalid(f"The following supplied instance types do not exist: [{each}]")
        if kind != "CUSTOM":
            wanted = {"amd64": "x86_64", "arm64": "arm64"}[AMI_TYPES[kind][2]]
            if wanted not in architectures[each]:
                raise invalid(f"[{each}] is not a valid instance type for requested amiType {kind}")
