"""What a trial sends, as values: the instance and the pod. Pure, so that it can be shown and tested."""

from __future__ import annotations

import base64
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonami.build.names import CLUSTER, PREFIX, Names
from leptonami.catalog import Catalog, Release
from leptonami.errors import InputError

if TYPE_CHECKING:
    from leptonami.bench.experiment import Eks, Variant

__all__ = ["Ami", "node_group", "pod", "release_of", "run_instances", "template", "template_data"]

# The second volume of a trial: another copy of the AMI's snapshot, which nobody has read from yet.
PRISTINE = "/dev/sdp"
TRIAL = f"{PREFIX}trial"
# Pods on the node must reach the metadata only if they are on its network: one hop.
METADATA = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
# Taints that say that a node is not ready yet, or cannot work: a pod that tolerates them would start too early.
STATES = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "node.cilium.io/")


@dataclass(frozen=True)
class Ami:
    """What is known about a variant's image: its id, name and tags, and its root volume."""

    id: str
    name: str
    architecture: str
    root_device: str
    snapshot: str
    size_gib: int
    tags: Mapping[str, str]


def release_of(ami: Ami, catalog: Catalog, *, region: str) -> Release:
    """Find out what an AMI is, or was built on: its user data has to speak to that.

    Raises
    ------
    InputError
        If neither its name nor its tag `leptonami:base-name` is one of the catalog's.
    """
    names = [each for each in (ami.tags.get(f"{PREFIX}base-name"), ami.name) if each]
    for release in catalog.releases(region=region):
        if any(fnmatch.fnmatchcase(name, release.name_pattern) for name in names):
            return release
    raise InputError(
        f"neither its name {ami.name!r} nor a tag {PREFIX}base-name says what the image was built on",
        resource=ami.id,
        hint="an image that leptonami built has the tag; on another one set it, to the name of its base image",
    )


def run_instances(
    names: Names,
    eks: Eks,
    variant: Variant,
    ami: Ami,
    *,
    number: int,
    instance_type: str,
    groups: Sequence[str],
    user_data: str,
) -> dict[str, Any]:
    """Give the request for a trial's instance: IMDSv2, no key pair, gone with its shutdown."""
    tags = [
        *names.tags("bench", {}, temporary=True),
        {"Key": TRIAL, "Value": str(number)},
        {"Key": f"kubernetes.io/cluster/{eks.cluster}", "Value": "owned"},
    ]
    return {
        "ImageId": ami.id,
        "InstanceType": instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": names.token("bench", str(number)),
        "IamInstanceProfile": {"Name": str(eks.instance_profile)},
        # As text: boto3 encodes it for this call (and for no other).
        "UserData": user_data,
        "BlockDeviceMappings": disks(eks, variant, ami),
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": str(eks.subnets[0]), "Groups": list(groups), "DeleteOnTermination": True}
        ],
        "MetadataOptions": METADATA,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
    }


def disks(eks: Eks, variant: Variant, ami: Ami) -> list[dict[str, Any]]:
    """Give the volumes: the root, and with `first_read` another one from the same snapshot, in the same way."""
    volume: dict[str, Any] = {"VolumeType": eks.volume.type, "DeleteOnTermination": True}
    size = max(eks.volume.size_gib, ami.size_gib)
    optional = {
        "Iops": eks.volume.iops,
        "Throughput": eks.volume.throughput,
        "VolumeInitializationRate": variant.initialization_rate,
    }
    volume |= {key: value for key, value in optional.items() if value is not None}
    mappings = [{"DeviceName": ami.root_device, "Ebs": {**volume, "VolumeSize": size}}]
    if variant.is_read(eks):
        mappings.append({"DeviceName": PRISTINE, "Ebs": {**volume, "VolumeSize": size, "SnapshotId": ami.snapshot}})
    return mappings


def template_data(
    names: Names,
    eks: Eks,
    variant: Variant,
    ami: Ami,
    *,
    instance_type: str,
    groups: Sequence[str],
    user_data: str,
) -> dict[str, Any]:
    """Give the data of a node group's launch template: the same instance as a single one, less what EKS sees to.

    Its instances carry no `leptonami:expires`: a sweep that terminated one would only make its group launch another,
    and takes the group instead.
    """
    tags = names.tags("bench", {f"{PREFIX}variant": str(variant.name)}, temporary=False)
    return {
        "ImageId": ami.id,
        "InstanceType": instance_type,
        "UserData": base64.b64encode(user_data.encode()).decode(),
        "BlockDeviceMappings": disks(eks, variant, ami),
        "SecurityGroupIds": list(groups),
        "MetadataOptions": METADATA,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }


def template(names: Names, eks: Eks, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Give the request for a launch template, which says for which cluster's node group it is: so a sweep finds that.

    Without a token of ours: botocore makes one for each call, and a run that goes on makes it again after its removal.
    """
    tags = names.tags("bench", {CLUSTER: eks.cluster}, temporary=True)
    return {
        "LaunchTemplateName": name,
        "LaunchTemplateData": dict(data),
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
    }


def node_group(names: Names, eks: Eks, name: str, role: str) -> dict[str, Any]:
    """Give the request for a node group without a node; one of the subnets, as a single instance has."""
    return {
        "clusterName": eks.cluster,
        "nodegroupName": name,
        "scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": 0},
        "subnets": [str(eks.subnets[0])],
        "nodeRole": role,
        "launchTemplate": {"name": name},
        "tags": {each["Key"]: each["Value"] for each in names.tags("bench", {}, temporary=True)},
    }


def pod(name: str, node: Mapping[str, Any], image: str, command: Sequence[str]) -> dict[str, Any]:
    """Give the pod that waits for a node: on that node only, with its taints tolerated but for those of its state."""
    spec = node.get("spec") or {}
    taints = [each for each in spec.get("taints") or [] if not str(each.get("key", "")).startswith(STATES)]
    container: dict[str, Any] = {"name": "launch", "image": image, "imagePullPolicy": "IfNotPresent"}
    if command:
        container["command"] = list(command)
    affinity = {"key": "metadata.name", "operator": "In", "values": [node["metadata"]["name"]]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "leptonami"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchFields": [affinity]}]
                    }
                }
            },
            "tolerations": [
                {"key": each["key"], "operator": "Exists", "effect": each.get("effect", "")} for each in taints
            ],
            "containers": [container],
        },
    }
