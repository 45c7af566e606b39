"""The requests of a build that create or change something, as values.

`plan show` prints them, the build sends them: they come from the same functions, so they cannot drift apart. Pure: no
call is made here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from leptonami.build.names import EXPIRES
from leptonami.imagelist import ecr_registry, reference

if TYPE_CHECKING:
    from leptonami.build.base import BaseImage
    from leptonami.build.names import Names
    from leptonami.plan import Plan

__all__ = [
    "add_role_to_instance_profile",
    "builder_policy",
    "create_image",
    "create_instance_profile",
    "create_role",
    "create_security_group",
    "prolong",
    "protect_metadata",
    "put_role_policy",
    "run_instances",
]

# What an SSM agent needs to receive Run Command and answer, without AmazonSSMManagedInstanceCore's reading of
# parameters and inventories. https://docs.aws.amazon.com/service-authorization/latest/reference/ (Systems Manager,
# Message Gateway, Message Delivery); ec2messages is still used by agents before 3.3.40.
AGENT_ACTIONS = [
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
]
PULL_ACTIONS = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


def builder_policy(plan: Plan, *, partition: str = "aws") -> dict[str, Any]:
    """Give the policy of the builder's temporary role: the agent's channel, and pulling the plan's private images."""
    statements: list[dict[str, Any]] = [
        {"Sid": "SystemsManagerAgent", "Effect": "Allow", "Action": AGENT_ACTIONS, "Resource": "*"}
    ]
    repositories = set()
    for image in plan.images:
        if (registry := ecr_registry(image.ref)) is not None:
            account, region = registry
            repositories.add(f"arn:{partition}:ecr:{region}:{account}:repository/{reference(image.ref).repository}")
    if repositories:
        # GetAuthorizationToken cannot be limited to a resource.
        statements.append(
            {"Sid": "RegistryLogin", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
        )
        statements.append(
            {"Sid": "PullImages", "Effect": "Allow", "Action": PULL_ACTIONS, "Resource": sorted(repositories)}
        )
    return {"Version": "2012-10-17", "Statement": statements}


def create_role(plan: Plan, names: Names, *, partition: str = "aws") -> dict[str, Any]:
    """Give the request for the builder's temporary role."""
    service = "ec2.amazonaws.com.cn" if partition == "aws-cn" else "ec2.amazonaws.com"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    request: dict[str, Any] = {
        "RoleName": names.temporary,
        "AssumeRolePolicyDocument": json.dumps(trust),
        "Description": f"Temporary role of the builder of leptonami run {names.run}",
        "MaxSessionDuration": 3600,
        "Tags": names.tags("builder", plan.tags, temporary=True),
    }
    if plan.builder.permissions_boundary is not None:
        request["PermissionsBoundary"] = plan.builder.permissions_boundary
    return request


def put_role_policy(plan: Plan, names: Names, *, partition: str = "aws") -> dict[str, Any]:
    """Give the request for that role's one policy."""
    return {
        "RoleName": names.temporary,
        "PolicyName": "builder",
        "PolicyDocument": json.dumps(builder_policy(plan, partition=partition)),
    }


def create_instance_profile(plan: Plan, names: Names) -> dict[str, Any]:
    """Give the request for the builder's temporary instance profile."""
    return {
        "InstanceProfileName": names.temporary,
        "Tags": names.tags("builder", plan.tags, temporary=True),
    }


def add_role_to_instance_profile(names: Names) -> dict[str, Any]:
    """Give the request that puts the role into the profile."""
    return {"InstanceProfileName": names.temporary, "RoleName": names.temporary}


def create_security_group(plan: Plan, names: Names, vpc: str) -> dict[str, Any]:
    """Give the request for a security group without any inbound rule; nothing ever adds one."""
    return {
        "GroupName": names.temporary,
        "Description": f"Builder of leptonami run {names.run}: nothing comes in",
        "VpcId": vpc,
        "TagSpecifications": [
            {"ResourceType": "security-group", "Tags": names.tags("builder", plan.tags, temporary=True)}
        ],
    }


def run_instances(
    plan: Plan,
    names: Names,
    base: BaseImage,
    *,
    instance_type: str,
    subnet: str,
    groups: list[str],
    profile: str | None,
    spot: bool,
    generation: int = 0,
    expires: str | None = None,
) -> dict[str, Any]:
    """Give the request for the builder: IMDSv2 only, an encrypted root volume, no key pair, everything tagged.

    `expires` is what an earlier attempt with the same client token said: EC2 takes only the same request again.
    `generation` counts the builders that the run has lost: each has a client token of its own.
    """
    volume: dict[str, Any] = {
        "VolumeSize": plan.root_volume.size_gib,
        "VolumeType": plan.root_volume.type,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    optional = {
        "Iops": plan.root_volume.iops,
        "Throughput": plan.root_volume.throughput,
        "KmsKeyId": plan.root_volume.kms_key,
    }
    volume |= {key: value for key, value in optional.items() if value is not None}
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "SubnetId": subnet,
        "Groups": groups,
        "DeleteOnTermination": True,
    }
    if plan.builder.public_ip != "auto":
        interface["AssociatePublicIpAddress"] = plan.builder.public_ip
    tags = names.tags("builder", plan.tags, temporary=True)
    if expires is not None:
        tags = [{**each, "Value": expires} if each["Key"] == EXPIRES else each for each in tags]
    market = "spot" if spot else "on-demand"
    request: dict[str, Any] = {
        "ImageId": base.id,
        "InstanceType": instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": names.token("builder", str(generation), instance_type, subnet, market),
        "BlockDeviceMappings": [{"DeviceName": base.root_device, "Ebs": volume}],
        "NetworkInterfaces": [interface],
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "InstanceInitiatedShutdownBehavior": "stop",
        "TagSpecifications": [
            {"ResourceType": resource, "Tags": tags} for resource in ("instance", "volume", "network-interface")
        ],
    }
    if profile is not None:
        request["IamInstanceProfile"] = {"Name": profile}
    if spot:
        # One-time: nothing is left to cancel. Such an instance cannot be stopped, so its image is made with a reboot.
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return request


def create_image(
    plan: Plan, names: Names, base: BaseImage, *, instance: str, name: str, stopped: bool
) -> dict[str, Any]:
    """Give the request for the AMI: tags on the image and on its snapshots from the first moment."""
    more = {
        **plan.tags,
        "leptonami:base": base.id,
        "leptonami:base-name": base.name,
        "leptonami:family": plan.family,
        "leptonami:os": plan.os,
        "leptonami:kubernetes": plan.kubernetes,
        "leptonami:digest": plan.digest,
    }
    tags = names.tags("image", more, temporary=False)
    description = plan.image.description or f"{plan.family} {plan.os}, Kubernetes {plan.kubernetes}, by leptonami"
    return {
        "InstanceId": instance,
        "Name": name,
        "Description": description[:255],
        "NoReboot": stopped,
        "TagSpecifications": [{"ResourceType": resource, "Tags": tags} for resource in ("image", "snapshot")],
    }


def prolong(names: Names, resources: list[str]) -> dict[str, Any]:
    """Give the request that lets what is there live on."""
    return {"Resources": resources, "Tags": [{"Key": EXPIRES, "Value": names.expires}]}


def protect_metadata(image: str) -> dict[str, Any]:
    """Give the request that makes IMDSv2 the default of whatever starts from the image."""
    return {"ImageId": image, "ImdsSupport": {"Value": "v2.0"}}
