"""The launch template that EKS makes of a node group: its image, its user data, its tags, over what the user's says.

https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html. For an image id of one's own, the user data is
exactly the template's: who brings an image brings its bootstrap too.
"""

from __future__ import annotations

import base64
import email
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from typing import Any

from moto.ec2.utils import parse_user_data

from leptonami import catalog
from leptonami.lab.ec2 import RUN_PARAMETERS
from leptonami.lab.ekstate import Cluster, invalid
from leptonami.lab.grouprules import AMI_TYPES
from leptonami.lab.templates import merged
from leptonami.lab.world import ACCOUNT

__all__ = ["template_data"]

# https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html: two hops, so that pods reach the metadata too
HOPS = 2
SCRIPT = "text/x-shellscript"
TAGGED = ("instance", "volume", "network-interface")
EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


def template_data(
    cluster: Cluster, group: dict[str, Any], data: dict[str, Any], image: str, profile: str
) -> dict[str, Any]:
    """Write the data of EKS's own launch template.

    Parameters
    ----------
    group
        The node group, as DescribeNodegroup gives it.
    data
        The data of the user's template; empty without one.
    image, profile
        The image's id, the instance profile's name.
    """
    found = merged(data, {"ImageId": image})
    found.pop("InstanceType", None)
    found["IamInstanceProfile"] = {"Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}"}
    found["MetadataOptions"] = {"HttpPutResponseHopLimit": HOPS, **found.get("MetadataOptions", {})}
    shared = cluster.data["resourcesVpcConfig"]["clusterSecurityGroupId"]
    if not any(found.get(key) for key in ("SecurityGroupIds", "SecurityGroups", "NetworkInterfaces")):
        found["SecurityGroupIds"] = [shared]
    if "diskSize" in group:
        device = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": group["diskSize"], "VolumeType": "gp3"}}
        if group["amiType"].startswith("BOTTLEROCKET"):
            device["DeviceName"] = "/dev/xvdb"  # the data volume: the system's is what it is
        found["BlockDeviceMappings"] = [device]
    own = {"eks:cluster-name": cluster.name, "eks:nodegroup-name": group["nodegroupName"]}
    asked = {
        each["ResourceType"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        for each in found.get("TagSpecifications", [])
        if each["ResourceType"] in TAGGED
    }
    found["TagSpecifications"] = [
        {"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in {**asked.get(kind, {}), **own}.items()]}
        for kind in TAGGED
    ]
    if extra := set(found) - RUN_PARAMETERS:
        raise NotImplementedError(f"a node group with a launch template that has {', '.join(sorted(extra))}")
    if group["amiType"] != "CUSTOM":
        text = user_data(cluster, group, image, found.get("UserData", ""))
        found["UserData"] = base64.b64encode(text.encode()).decode()
    # In the form that moto keeps.
    return {**found, "UserData": parse_user_data(found.get("UserData"))}


def user_data(cluster: Cluster, group: dict[str, Any], image: str, given: str) -> str:
    """Write the user data of an AMI type: the user's parts, if there are any, and EKS's own.

    Raises
    ------
    ApiError
        If the user's is not in parts.
    """
    family, os, architecture = AMI_TYPES[group["amiType"]]
    release = catalog.load().release(family, os, group["version"], architecture, region=cluster.region)
    labels = {
        "eks.amazonaws.com/nodegroup": group["nodegroupName"],
        "eks.amazonaws.com/nodegroup-image": image,
        "eks.amazonaws.com/capacityType": group["capacityType"],
        **group["labels"],
    }
    if template := group.get("launchTemplate"):
        labels["eks.amazonaws.com/sourceLaunchTemplateId"] = template["id"]
        labels["eks.amazonaws.com/sourceLaunchTemplateVersion"] = template["version"]
    flags = ["--node-labels=" + ",".join(f"{key}={value}" for key, value in labels.items())]
    if group["taints"]:
        taints = ",".join(
            f"{each['key']}={each.get('value', '')}:{EFFECTS[each['effect']]}" for each in group["taints"]
        )
        flags.append(f"--register-with-taints={taints}")
    info = catalog.ClusterInfo(
        cluster.name,
        cluster.data["endpoint"],
        cluster.data["certificateAuthority"]["data"],
        cluster.data["kubernetesNetworkConfig"]["serviceIpv4Cidr"],
    )
    own = catalog.user_data(release, cluster=info, kubelet_args=flags)
    if release.bootstrap == "settings":
        if given:
            raise NotImplementedError("CreateNodegroup with user data for Bottlerocket")
        return own
    mine = parts_of(own) if release.bootstrap == "nodeadm" else [part(SCRIPT, own)]
    theirs: list[Message] = []
    if given:
        theirs = parts_of(base64.b64decode(given).decode(errors="replace"))
        if not theirs:
            raise invalid("User data was not in the MIME multipart format.")
    whole = MIMEMultipart(boundary="//")
    for each in [*theirs, *mine]:
        whole.attach(each)
    return whole.as_string()


def parts_of(text: str) -> list[Message]:
    """Give the parts of a MIME document; none if it is something else."""
    found = email.message_from_string(text)
    return [each for each in found.walk() if not each.is_multipart()] if found.is_multipart() else []


def part(kind: str, text: str) -> Message:
    """Make a part."""
    made = MIMENonMultipart(*kind.split("/"))
    made.set_payload(text)
    return made
