"""IAM enforcement: who has a key that IAM made may do what IAM allows, and nothing else.

The lab's own key is its administrator's. A key of a user (`CreateAccessKey`) or of a role (`AssumeRole`) is judged by
the policies of that user or role: each call becomes the questions that AWS asks (one for each resource that the call is
about, one for each tag that it puts on, one for each role that it passes on). Which resources and condition keys there
are is data (`data/iam-actions.yaml`); what the lab does not know is refused as not implemented, never allowed.

Signatures are not checked: a key's id is enough here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.access_control import CreateAccessKeyFailure, create_access_key
from moto.iam.models import Policy, iam_backends
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition

from leptonami.lab import disks
from leptonami.lab.policies import Ask, allows, facts, parse
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT

__all__ = ["enforced", "issued", "may_delete"]

# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html: no permission is needed, and a Deny
# does not keep anybody from it.
FREE = {"sts:GetCallerIdentity"}
DENIED = {
    "ec2": ("UnauthorizedOperation", 403),
    "eks": ("AccessDeniedException", 403),
    "ssm": ("AccessDeniedException", 400),
}
# Where requests of EC2 name what exists.
NAMED = (
    ("ImageId", "image"),
    ("InstanceId", "instance"),
    ("InstanceIds", "instance"),
    ("GroupId", "security-group"),
    ("NetworkInterfaceId", "network-interface"),
    ("SnapshotId", "snapshot"),
    ("SourceSnapshotIds", "snapshot"),
    ("VolumeId", "volume"),
    ("VpcId", "vpc"),
)
KINDS = {
    "ami": "image",
    "eni": "network-interface",
    "i": "instance",
    "lt": "launch-template",
    "sg": "security-group",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}


def issued(key: str) -> bool:
    """Tell whether a key is one that the lab's IAM or STS has made."""
    users = iam_backends[ACCOUNT]["aws"].users.values()
    return any(key == each.access_key_id for user in users for each in user.access_keys) or any(
        key == each.access_key_id for each in sts_backends[ACCOUNT]["aws"].assumed_roles
    )


def enforced(responses: type[Any]) -> type[Any]:
    """Give a class of moto's that asks IAM before it answers."""

    class Enforced(responses):  # type: ignore[misc]
        """Answers what the caller may ask."""

        def call_action(self) -> Any:
            """Ask, then answer."""
            authorize(self)
            return super().call_action()

    return Enforced


def authorize(response: Any) -> None:
    """Refuse what the caller may not do.

    Raises
    ------
    ApiError
        As the service words a refusal.
    NotImplementedError
        If the lab does not know what IAM asks about the call.
    """
    key = response.get_access_key()
    if not issued(key):
        return
    service = response.service_name
    action = f"{service}:{response._get_action()}"
    if action in FREE:
        return
    if action not in facts():
        raise NotImplementedError(f"IAM's decision on {action} with a restricted key")
    caller, statements = caller_of(response, key)
    for ask in QUESTIONS[service](response, action):
        complete = everywhere(response, ask)
        if not allows(statements, complete):
            refuse(service, caller.arn, complete)


def caller_of(response: Any, key: str) -> tuple[Any, list[dict[str, Any]]]:
    """Give who has a key, and the statements that hold for them."""
    try:
        caller = create_access_key(response.current_account, get_partition(response.region), key, response.headers)
    except CreateAccessKeyFailure as problem:
        raise ApiError(
            "InvalidClientTokenId", "The security token included in the request is invalid.", 403
        ) from problem
    return caller, [each for policy in caller.collect_policies() for each in statements_of(policy)]


def everywhere(response: Any, ask: Ask) -> Ask:
    """Add what AWS gives with every call."""
    keys = {"aws:RequestedRegion": (response.region,), "aws:PrincipalAccount": (response.current_account,)}
    return replace(ask, context={**ask.context, **keys})


def may_delete(response: Any, snapshot: str) -> bool:
    """Tell whether the caller may delete a snapshot: DeregisterImage says so in its answer, and does not fail.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSnapshotReturnCode.html: missing-permissions
    """
    key = response.get_access_key()
    if not issued(key):
        return True
    _, statements = caller_of(response, key)
    asks = Ec2Questions(response, "ec2:DeleteSnapshot").existing("snapshot", snapshot)
    return all(allows(statements, everywhere(response, ask)) for ask in asks)


def refuse(service: str, caller: str, ask: Ask) -> None:
    """Answer no, in the service's words."""
    code, status = DENIED.get(service, ("AccessDenied", 403))
    text = (
        f"User: {caller} is not authorized to perform: {ask.action} on resource: {ask.resource} because no "
        f"identity-based policy allows the {ask.action} action"
    )
    raise ApiError(
        code, f"You are not authorized to perform this operation. {text}." if service == "ec2" else text, status
    )


def statements_of(policy: Any) -> list[dict[str, Any]]:
    """Give the statements of a policy, in whichever form moto keeps it."""
    if isinstance(policy, Policy):
        return parse(next(each.document for each in policy.versions if each.is_default))
    return parse(policy if isinstance(policy, str) else policy["policy_document"])


def tags_of(tags: Iterable[Mapping[str, str]], prefix: str) -> dict[str, tuple[str, ...]]:
    """Give tags (in either spelling) as condition keys."""
    found = {each.get("Key", each.get("key")): each.get("Value", each.get("value", "")) for each in tags}
    return {f"{prefix}/{key}": (str(value),) for key, value in found.items()}


# EC2 --------------------------------------------------------------------------------------------------------------


class Ec2Questions:
    """What EC2 asks about one call."""

    def __init__(self, response: Any, action: str, backend: Any = None) -> None:
        self.response, self.action = response, action
        self.backend: Any = backend or ec2_backends[response.current_account][response.region]
        self.get = response._get_param

    def ask(self) -> Iterator[Ask]:
        """Give the questions."""
        match self.action.partition(":")[2]:
            case "RunInstances":
                yield from self.run_instances()
            case "CreateImage":
                yield from self.existing("instance", self.get("InstanceId"))
                yield from (self.new(kind) for kind in ("image", "snapshot"))
            case "CopyImage":
                yield from self.copy_image()
            case "ModifySnapshotAttribute":
                yield from self.existing("snapshot", self.get("SnapshotId"), self.added())
            case "CreateLaunchTemplate":
                yield self.new("launch-template")
            case "DeleteLaunchTemplate":
                yield from self.template(self.get("LaunchTemplateId"), self.get("LaunchTemplateName"))
            case "CreateSecurityGroup":
                yield self.new("security-group")
                yield from self.existing("vpc", self.get("VpcId") or self.backend.default_vpc.id)
            case "CreateTags" | "DeleteTags":
                given = self.get("Tags", [])
                tags = {**tags_of(given, "aws:RequestTag"), "aws:TagKeys": tuple(each["Key"] for each in given)}
                for name in self.get("Resources", []):
                    kind = KINDS.get(name.partition("-")[0])
                    if kind is None:
                        raise NotImplementedError(f"IAM's decision on {self.action} of {name}")
                    yield from self.existing(kind, name, tags)
            case _:
                yield from self.named()
        yield from self.tags_at_creation()

    def copy_image(self) -> Iterator[Ask]:
        """Ask about the source, in its region, and about what comes out.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/copy-ami-permissions.html
        """
        region = self.get("SourceRegion")
        there = Ec2Questions(self.response, self.action, ec2_backends[self.response.current_account][region])
        yield from there.existing("image", self.get("SourceImageId"))
        yield from (self.new(kind) for kind in ("image", "snapshot"))

    def added(self) -> dict[str, tuple[str, ...]]:
        """Give who is to be let in, as conditions see it."""
        given = self.get("CreateVolumePermission") or {}
        users = [each["UserId"] for each in given.get("Add", []) if "UserId" in each]
        groups = [each["Group"] for each in given.get("Add", []) if "Group" in each]
        if self.get("OperationType") == "add":
            users += self.get("UserIds", [])
            groups += self.get("GroupNames", [])
        return {"ec2:Add/userId": tuple(users), "ec2:Add/group": tuple(groups)}

    def arn(self, kind: str, name: str = "*") -> str:
        """Give an ARN; images and snapshots have no account in theirs."""
        account = "" if kind in {"image", "snapshot"} else self.backend.account_id
        return f"arn:{self.backend.partition}:ec2:{self.backend.region_name}:{account}:{kind}/{name}"

    def named(self) -> Iterator[Ask]:
        """Ask about each thing that the request names; about nothing in particular where AWS knows nothing narrower."""
        kinds = facts()[self.action].resources
        if not kinds:
            yield Ask(self.action)
        for parameter, kind in NAMED:
            value = self.get(parameter)
            if kind in kinds and value:
                for name in value if isinstance(value, list) else [value]:
                    yield from self.existing(kind, name)

    def existing(self, kind: str, name: str, more: Mapping[str, tuple[str, ...]] | None = None) -> Iterator[Ask]:
        """Ask about something that should be there; that it is not is moto's to say."""
        context = self.describe(kind, name)
        yield Ask(self.action, self.arn(kind, name), kind, {**(context or {}), **(more or {})}, context is not None)

    def template(self, id_: str | None, name: str | None) -> Iterator[Ask]:
        """Ask about a launch template, which is named by either."""
        yield from self.existing("launch-template", id_ or self.backend.launch_template_name_to_ids.get(name) or "*")

    def new(self, kind: str, **more: tuple[str, ...]) -> Ask:
        """Ask about something that is to be made, with the tags that the request gives it."""
        return Ask(self.action, self.arn(kind), kind, {**tags_of(self.requested(kind), "aws:RequestTag"), **more})

    def requested(self, kind: str) -> list[Mapping[str, str]]:
        """Give the tags that the request puts on a kind of resource."""
        return [
            tag for each in self.get("TagSpecifications", []) if each["ResourceType"] == kind for tag in each["Tags"]
        ]

    def tags_at_creation(self) -> Iterator[Ask]:
        """Ask for CreateTags on what a creating call tags.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
        """
        for kind in dict.fromkeys(each["ResourceType"] for each in self.get("TagSpecifications", [])):
            context = tags_of(self.requested(kind), "aws:RequestTag")
            context["aws:TagKeys"] = tuple(each["Key"] for each in self.requested(kind))
            context["ec2:CreateAction"] = (self.action.partition(":")[2],)
            yield Ask("ec2:CreateTags", self.arn(kind), kind, context)

    def describe(self, kind: str, name: str) -> dict[str, tuple[str, ...]] | None:
        """Give the condition keys of something that is there; None if it is not."""
        backend = self.backend
        kept = {
            "image": backend.amis,
            "launch-template": backend.launch_templates,
            "network-interface": backend.enis,
            "snapshot": backend.snapshots,
            "volume": backend.volumes,
            "vpc": backend.vpcs,
        }
        found: Any = kept.get(kind, {}).get(name)
        match kind:
            case "instance":
                found = next((each for each in backend.all_instances() if each.id == name), None)
            case "security-group":
                found = backend.get_security_group_from_id(name)
            case "subnet":
                found = next((zones[name] for zones in backend.subnets.values() if name in zones), None)
        if found is None:
            return None
        tags = found.get_tags()
        context = {**tags_of(tags, "aws:ResourceTag"), **tags_of(tags, "ec2:ResourceTag")}
        if kind == "image":
            context["ec2:Owner"] = owner_of(self.backend, name)
            context["ec2:Public"] = (str(bool(found.is_public)).lower(),)
        elif kind == "snapshot":
            context["ec2:Owner"] = (found.owner_id,)
        elif kind == "instance":
            context["ec2:InstanceType"] = (found.instance_type,)
        return context

    def run_instances(self) -> Iterator[Ask]:
        """Ask about everything that a launch uses and makes.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html#iam-example-runinstances
        """
        if self.get("LaunchTemplate"):
            raise NotImplementedError("IAM's decision on RunInstances with a launch template")
        image = self.backend.amis.get(self.response._resolve(self.get("ImageId", "")))
        if image is None:
            return
        yield from self.existing("image", image.id)
        for device in self.get("BlockDeviceMappings", []):
            if snapshot := device.get("Ebs", {}).get("SnapshotId"):
                yield from self.existing("snapshot", snapshot)
        nics = self.get("NetworkInterfaces", [])
        subnets = [each.get("SubnetId") for each in nics] or [self.get("SubnetId")]
        for subnet in subnets:
            if subnet:
                yield from self.existing("subnet", subnet)
            else:
                yield Ask(self.action, self.arn("subnet"), "subnet")
        groups = {group for each in nics for group in each.get("Groups", [])} | set(self.get("SecurityGroupIds", []))
        for group in sorted(groups):
            yield from self.existing("security-group", group)
        if not groups:
            yield Ask(self.action, self.arn("security-group"), "security-group")
        tokens = self.get("MetadataOptions", {}).get("HttpTokens") or (
            "required" if image.imds_support == "v2.0" else "optional"
        )
        yield self.new(
            "instance",
            **{"ec2:InstanceType": (self.get("InstanceType", "m1.small"),), "ec2:MetadataHttpTokens": (tokens,)},
        )
        yield self.new("network-interface")
        for device in disks.overlay(image, self.get("BlockDeviceMappings", []), self.response._encrypt_all()):
            volume = device["Ebs"]
            encrypted = str(bool(volume.get("Encrypted"))).lower()
            kind = str(volume.get("VolumeType", "gp2"))
            yield self.new("volume", **{"ec2:Encrypted": (encrypted,), "ec2:VolumeType": (kind,)})
        profile = self.get("IamInstanceProfile") or {}
        for each in iam_backends[ACCOUNT]["aws"].get_instance_profiles():
            if profile and each.roles and (profile.get("Name") == each.name or profile.get("Arn") == each.arn):
                yield pass_role(each.roles[0].arn)


def owner_of(backend: Any, image: str) -> tuple[str, ...]:
    """Give the owner of an image as conditions see it: AWS's own by their alias."""
    found = backend.amis.get(image)
    return () if found is None else (found.image_owner_alias or found.owner_id,)


def pass_role(role: str) -> Ask:
    """Ask whether a role may be handed to EC2."""
    return Ask("iam:PassRole", role, "role", {"iam:PassedToService": ("ec2.amazonaws.com",)})


def ask_ec2(response: Any, action: str) -> Iterator[Ask]:
    """Give what EC2 asks."""
    yield from Ec2Questions(response, action).ask()


# IAM, SSM, STS ----------------------------------------------------------------------------------------------------


def ask_iam(response: Any, action: str) -> Iterator[Ask]:
    """Give what IAM asks: about a role or a profile by its name, and for the tags on it."""
    account, get = response.current_account, response._get_param
    kinds = facts()[action].resources
    tags = tags_of(get("Tags", []), "aws:RequestTag")
    if "instance-profile" in kinds:
        kind, name = "instance-profile", get("InstanceProfileName")
    elif "role" in kinds:
        kind, name = "role", get("RoleName")
    else:
        yield Ask(action)
        return
    arn = f"arn:aws:iam::{account}:{kind}{get('Path') or '/'}{name}"
    yield Ask(action, arn, kind, {**tags, "iam:PermissionsBoundary": boundary_of(response, action, name)})
    if tags and action in {"iam:CreateRole", "iam:CreateInstanceProfile"}:
        yield Ask(action.replace("Create", "Tag"), arn, kind, tags)
    if action == "iam:AddRoleToInstanceProfile":
        yield pass_role(f"arn:aws:iam::{account}:role/{get('RoleName')}")


def boundary_of(response: Any, action: str, role: str) -> tuple[str, ...]:
    """Give the boundary that a role is to have, or has."""
    if action == "iam:CreateRole":
        found = response._get_param("PermissionsBoundary")
    else:
        found = next(
            (each.permissions_boundary_arn for each in response.backend.get_roles() if each.name == role), None
        )
    return (found,) if found else ()


def ask_ssm(response: Any, action: str) -> Iterator[Ask]:
    """Give what Systems Manager asks: about parameters, and about the document and the instances of a command."""
    account, region, get = response.current_account, response.region, response._get_param
    if action == "ssm:SendCommand":
        name = get("DocumentName", "")
        owner = "" if name.startswith("AWS-") else account
        arn = name if name.startswith("arn:") else f"arn:aws:ssm:{region}:{owner}:document/{name}"
        yield Ask(action, arn, "document")
        for instance in response._targets():
            arn = f"arn:aws:ec2:{region}:{account}:instance/{instance.id}"
            yield Ask(action, arn, "instance", tags_of(instance.get_tags(), "aws:ResourceTag"))
        return
    if "parameter" not in facts()[action].resources:
        yield Ask(action)
        return
    names = get("Names") or [get("Name") or get("ResourceId") or get("Path") or ""]
    context = tags_of(get("Tags", []), "aws:RequestTag")
    if action == "ssm:PutParameter":
        context["ssm:Overwrite"] = (str(bool(get("Overwrite", False))).lower(),)
    for name in names:
        owner = "" if name.startswith("/aws/") else account
        parameter = name if name.startswith("/") else f"/{name}"
        tags = {} if name.startswith("/aws/") else parameter_tags(response, name)
        arn = f"arn:aws:ssm:{region}:{owner}:parameter{parameter}"
        yield Ask(action, arn, "parameter", {**tags, **context})
        if action == "ssm:PutParameter" and get("Tags"):
            yield Ask("ssm:AddTagsToResource", arn, "parameter", {**tags, **context})


def parameter_tags(response: Any, name: str) -> dict[str, tuple[str, ...]]:
    """Give the tags of a parameter, as far as it is there."""
    found: Mapping[str, str] = response.ssm_backend._resource_tags.get("Parameter", {}).get(name, {})
    return {f"aws:ResourceTag/{key}": (value,) for key, value in found.items()}


def ask_sts(_: Any, action: str) -> Iterator[Ask]:
    """Give what STS asks."""
    yield Ask(action)


def ask_autoscaling(_: Any, action: str) -> Iterator[Ask]:
    """Give what Auto Scaling asks: its descriptions are about nothing in particular."""
    if facts()[action].resources:
        raise NotImplementedError(f"IAM's decision on {action}")
    yield Ask(action)


def ask_nodegroup(response: Any, arn: str, tags: Mapping[str, tuple[str, ...]]) -> Iterator[Ask]:
    """Give what is asked beside a new node group: about its tags, its role, and a launch from its template.

    Of the launch the lab asks about the template only; AWS asks about all that the template names.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/permissions-for-launch-templates.html
    """
    if tags:
        yield Ask("eks:TagResource", arn, "nodegroup", tags)
    role = response.params["nodeRole"]
    yield Ask("iam:PassRole", role, "role", {"iam:PassedToService": ("eks.amazonaws.com",)})
    for each in ("iam:GetRole", "iam:ListAttachedRolePolicies"):
        yield Ask(each, role, "role")
    given = response.params.get("launchTemplate")
    if given is not None:
        questions = Ec2Questions(response, "ec2:RunInstances", ec2_backends[response.current_account][response.region])
        yield Ask("ec2:DescribeLaunchTemplateVersions")
        yield from questions.template(given.get("id"), given.get("name"))


def ask_eks(response: Any, action: str) -> Iterator[Ask]:
    """Give what EKS asks: about a cluster, or a node group of it."""
    kinds, name = facts()[action].resources, response.params.get("clusterName") or response.params.get("name")
    cluster = response.clusters.get((response.region, name))
    start = f"arn:aws:eks:{response.region}:{response.current_account}"
    if not kinds:
        yield Ask(action)
    if action == "eks:TagResource":
        raise NotImplementedError(f"IAM's decision on {action} of what is there")
    given = response.params.get("tags") or {}
    tags = tags_of([{"Key": key, "Value": value} for key, value in given.items()], "aws:RequestTag")
    if "cluster" in kinds:
        yield Ask(action, f"{start}:cluster/{name}", "cluster", tags, exists=cluster is not None)
    if action == "eks:CreateNodegroup":
        yield from ask_nodegroup(response, f"{start}:nodegroup/{name}/{response.params['nodegroupName']}/new", tags)
    if "nodegroup" in kinds:
        group = response.params.get("nodegroupName")
        found = cluster.groups.get(group) if cluster is not None else None
        arn = found.data["nodegroupArn"] if found is not None else f"{start}:nodegroup/{name}/{group}/*"
        yield Ask(action, arn, "nodegroup", exists=found is not None)


QUESTIONS = {
    "autoscaling": ask_autoscaling,
    "eks": ask_eks,
    "ec2": ask_ec2,
    "iam": ask_iam,
    "ssm": ask_ssm,
    "sts": ask_sts,
}
