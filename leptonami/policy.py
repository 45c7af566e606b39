"""The IAM policy that a plan needs, and nothing more.

It is made from the calls that `build.planner.outline` announces, which are those that a build makes: a call without a
rule here is an error, so a new one cannot be forgotten. What looks, what goes on with an interrupted run and what
cleans up after a failure is granted together with the call that makes it necessary.

Three things narrow the grants, each where AWS supports it
(https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html):

- the region, and for everything that leptonami makes the tag `leptonami:plan`: asked for in the request that creates
  it (`aws:RequestTag`), and on what exists (`aws:ResourceTag`). So somebody else's machine can be neither stopped nor
  scripted, another plan's neither;
- names: the role and the profile of a run are named after it (tags would not do: IAM tells its regions of a new tag
  over some seconds, and the next call comes at once);
- what the plan says: instance types, encryption, the owner of the base image, the accounts to share with.

Pure: nothing is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build import planner, preflight, requests
from leptonami.build.names import EXPIRES
from leptonami.errors import InputError
from leptonami.statements import (
    ACCOUNT,
    EXAMPLE_RUN,
    MANAGED_CHARACTERS,
    Conditions,
    Grants,
    Policy,
    Purpose,
    Statement,
    characters,
    partition_of,
)

if TYPE_CHECKING:
    from leptonami.build.planner import Action
    from leptonami.plan import Plan

__all__ = [
    "ACCOUNT",
    "DOCUMENT",
    "MANAGED_CHARACTERS",
    "PURPOSES",
    "USUAL",
    "Policy",
    "Purpose",
    "Statement",
    "builder_document",
    "characters",
    "for_plan",
    "partition_of",
    "sweep_looks",
    "sweep_parts",
]

PURPOSES: tuple[Purpose, ...] = ("build", "publish", "sweep", "images", "retire")
# What a plan asks for, and cleaning up after it. Who builds need not be able to let finished images go.
USUAL: tuple[Purpose, ...] = ("build", "publish", "sweep")

DOCUMENT = "AWS-RunShellScript"
# Amazon's own images carry an alias beside their owner's id, and ec2:Owner may be either.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-policies-for-amazon-ec2.html
CANONICAL = "099720109477"
ROLE_INLINE_CHARACTERS = 10_240


class Ground(Grants):
    """Where the policy of a plan holds, what a build of it calls, and the grants collected so far."""

    def __init__(
        self, plan: Plan, *, account: str = ACCOUNT, partition: str | None = None, builder_role: str | None = None
    ) -> None:
        super().__init__(plan.name, plan.region, account=account, partition=partition)
        self.plan = plan
        outline = planner.outline(plan, preflight.imagine(plan, EXAMPLE_RUN), EXAMPLE_RUN)
        # What a build publishes at its end is `publish`'s, which asks for more than what it announces.
        self.actions = tuple(action for action in outline.actions if action.purpose != "publish")
        self.builder_role = builder_role


# What a build does ------------------------------------------------------------------------------------------------


def survey(ground: Ground) -> None:
    """Allow what is looked at before the first call that costs something."""
    plan = ground.plan
    ground.look("ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeSubnets")
    if plan.base is None or plan.base.ssm is not None:
        name = plan.base.ssm if plan.base is not None and plan.base.ssm else plan.release.ssm_parameter
        ground.grant("BaseParameter", "where the base image is named", "ssm:GetParameter", ground.parameter(name))
    if plan.steps and plan.builder.instance_profile is not None:
        profile = ground.iam("instance-profile", plan.builder.instance_profile)
        ground.grant("PlansProfile", "is the plan's profile there", "iam:GetInstanceProfile", profile)


def create_security_group(ground: Ground) -> None:
    """Allow a group with the plan's tag, and its removal."""
    group = ground.arn("security-group")
    ground.look("ec2:DescribeSecurityGroups")
    ground.grant("NewGroup", "a group without inbound rules", "ec2:CreateSecurityGroup", group, ground.requested)
    ground.grant("NewGroupsVpc", "the VPC that it is made in", "ec2:CreateSecurityGroup", ground.arn("vpc"))
    ground.grant("OwnGroup", "the group goes again", "ec2:DeleteSecurityGroup", group, ground.tagged)


def create_role(ground: Ground) -> None:
    """Allow a role with a run's name and the plan's tag, with the plan's boundary if there is one."""
    role, boundary = ground.iam("role", ground.temporary), ground.plan.builder.permissions_boundary
    make, tag, fill = "iam:CreateRole", "iam:TagRole", "iam:PutRolePolicy"
    why = "the builder's temporary role"
    if boundary is None:
        ground.grant("NewRole", why, [make, tag], role, ground.requested)
        ground.grant("OwnRole", "its one policy, and its removal", fill, role)
        ground.notes.append(
            "whoever may make a role, fill it and pass it to an instance can give that instance any right in the "
            "account. Name builder.permissions_boundary in the plan, or a builder.instance_profile of your own: then "
            "this policy cannot be used for that"
        )
        return
    bound = {"iam:PermissionsBoundary": boundary}
    conditions = {"StringEquals": {**ground.requested["StringEquals"], **bound}}
    ground.grant("NewRole", f"{why}, within the boundary", make, role, conditions)
    ground.grant("TagRole", "its tags", tag, role, ground.requested)
    ground.grant("FillRole", "its one policy, within the boundary", fill, role, {"StringEquals": bound})


def own_role(ground: Ground) -> None:
    """Allow removing a role with a run's name."""
    names = ["iam:DeleteRolePolicy", "iam:DeleteRole"]
    ground.grant("OwnRole", "its removal", names, ground.iam("role", ground.temporary))


def create_profile(ground: Ground) -> None:
    """Allow an instance profile with a run's name and the plan's tag."""
    ground.grant(
        "NewProfile",
        "the builder's temporary profile",
        ["iam:CreateInstanceProfile", "iam:TagInstanceProfile"],
        ground.iam("instance-profile", ground.temporary),
        ground.requested,
    )


def own_profile(ground: Ground) -> None:
    """Allow filling and removing a profile with a run's name."""
    names = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"]
    profile = ground.iam("instance-profile", ground.temporary)
    ground.grant("OwnProfile", "the role into it, out of it, and its removal", names, profile)


def pass_role(ground: Ground, role: str) -> None:
    """Allow handing a role to EC2, which is asked for beside the call that does it."""
    condition = {"StringEquals": {"iam:PassedToService": ground.service("ec2")}}
    ground.grant("PassRole", "the builder's role, to EC2 only", "iam:PassRole", ground.iam("role", role), condition)


def run_instances(ground: Ground) -> None:
    """Allow launching the builder that the plan describes."""
    plan, call = ground.plan, "ec2:RunInstances"
    request = next(action.request for action in ground.actions if action.call == "ec2.RunInstances")
    ground.look("ec2:DescribeInstances")
    if plan.base is not None and plan.base.ami is not None:
        ground.grant("LaunchFrom", "the plan's base image", call, ground.arn("image", plan.base.ami))
    else:
        owners = [plan.release.owner] if plan.release.owner == CANONICAL else ["amazon", plan.release.owner]
        condition = {"StringEquals": {"ec2:Owner": owners}}
        ground.grant("LaunchFrom", "images of the family's publisher", call, ground.arn("image"), condition)
    subnets = [ground.arn("subnet", each) for each in plan.builder.subnets] or [ground.arn("subnet")]
    ground.grant("LaunchInto", "the builder's subnet", call, subnets)
    if plan.builder.security_groups:
        groups = [ground.arn("security-group", each) for each in plan.builder.security_groups]
        ground.grant("LaunchWithGroup", "the plan's groups", call, groups)
    else:
        group = ground.arn("security-group")
        ground.grant("LaunchWithGroup", "the temporary group", call, group, ground.tagged)
    tag = ground.requested["StringEquals"]
    ground.grant(
        "LaunchBuilder",
        "the plan's types, IMDSv2 only, tagged",
        call,
        ground.arn("instance"),
        {
            "StringEquals": {
                **tag,
                "ec2:InstanceType": plan.builder.instance_types,
                "ec2:MetadataHttpTokens": request["MetadataOptions"]["HttpTokens"],
            }
        },
    )
    ground.grant(
        "LaunchVolume",
        "encrypted, tagged",
        call,
        ground.arn("volume"),
        {"StringEquals": {**tag, "ec2:VolumeType": plan.root_volume.type}, "Bool": {"ec2:Encrypted": "true"}},
    )
    interface = ground.arn("network-interface")
    ground.grant("LaunchInterface", "tagged", call, interface, ground.requested)
    prolong(ground)
    if "IamInstanceProfile" in request:
        if plan.builder.instance_profile is None:
            pass_role(ground, ground.temporary)
        else:
            role = ground.builder_role or plan.builder.instance_profile
            pass_role(ground, role)
            if ground.builder_role is None:
                ground.notes.append(
                    f"the role in the instance profile {plan.builder.instance_profile} is taken to have the profile's "
                    "name; if it has another one, name it with --builder-role"
                )
    if plan.builder.spot:
        ground.notes.append(
            "the first spot instance of an account needs the service-linked role AWSServiceRoleForEC2Spot, which is "
            "made once (aws iam create-service-linked-role --aws-service-name spot.amazonaws.com) and is not in here"
        )


def prolong(ground: Ground) -> None:
    """Allow a run that goes on to set anew until when what it has made may stay, and no other tag."""
    kinds = ["instance", "volume", "network-interface"]
    if not ground.plan.builder.security_groups:
        kinds.append("security-group")
    conditions: Conditions = {
        **ground.tagged,
        "ForAllValues:StringEquals": {"aws:TagKeys": EXPIRES},
        # ForAllValues holds of nothing too.
        "Null": {"aws:TagKeys": "false"},
    }
    own = [ground.arn(kind) for kind in kinds]
    ground.grant("ProlongOwn", "until when it may stay, when a run goes on", "ec2:CreateTags", own, conditions)


def send_command(ground: Ground) -> None:
    """Allow one document on the plan's builders, its answer and its cancellation."""
    ground.look("ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommands")
    name = f"arn:{ground.partition}:ssm:{ground.plan.region}::document/{DOCUMENT}"
    ground.grant("ScriptDocument", "the one document that is used", "ssm:SendCommand", name)
    instance = ground.arn("instance")
    ground.grant("ScriptOnBuilder", "only on the plan's builders", "ssm:SendCommand", instance, ground.tagged)
    why = "after a failure or Ctrl-C; AWS knows no narrower resource"
    ground.grant("CancelScript", why, "ssm:CancelCommand", "*", ground.here)


def own_builder(ground: Ground) -> None:
    """Allow stopping, starting (a run that goes on) and terminating the plan's builders.

    Stopping also where the plan asks for spot, which cannot be stopped: without spot capacity it is on demand.
    """
    names = ["ec2:StopInstances", "ec2:StartInstances", "ec2:TerminateInstances"]
    ground.grant("OwnBuilder", "stop it, start it again, terminate it", names, ground.arn("instance"), ground.tagged)


def create_image(ground: Ground) -> None:
    """Allow an image with the plan's tag of a builder of the plan, and its removal when it is not to be."""
    call, made = "ec2:CreateImage", [ground.arn("image"), ground.arn("snapshot")]
    ground.look("ec2:DescribeSnapshots")
    ground.grant("ImageOfBuilder", "only of the plan's builders", call, ground.arn("instance"), ground.tagged)
    ground.grant("NewImage", "image and snapshots, tagged", call, made, ground.requested)
    discard = ["ec2:DeregisterImage", "ec2:DeleteSnapshot"]
    ground.grant("DiscardImage", "an image that is not to be", discard, made, ground.tagged)


def own_image(ground: Ground) -> None:
    """Allow making IMDSv2 the default of the plan's images."""
    call = "ec2:ModifyImageAttribute"
    ground.grant("OwnImage", "IMDSv2 by default", call, ground.arn("image"), ground.tagged)


Rule = Callable[[Ground], None]
RULES: dict[str, Rule] = {
    "ec2.CreateImage": create_image,
    "ec2.CreateSecurityGroup": create_security_group,
    "ec2.DeleteSecurityGroup": create_security_group,
    "ec2.ModifyImageAttribute": own_image,
    "ec2.RunInstances": run_instances,
    "ec2.StopInstances": own_builder,
    "ec2.TerminateInstances": own_builder,
    "iam.AddRoleToInstanceProfile": own_profile,
    "iam.CreateInstanceProfile": create_profile,
    "iam.CreateRole": create_role,
    "iam.DeleteInstanceProfile": own_profile,
    "iam.DeleteRole": own_role,
    "iam.DeleteRolePolicy": own_role,
    "iam.PutRolePolicy": create_role,
    "iam.RemoveRoleFromInstanceProfile": own_profile,
    "ssm.SendCommand": send_command,
}


def tag_at_creation(ground: Ground) -> None:
    """Allow tags on what is being created, by the calls and for the kinds that the requests name, and no other tags."""
    creators, kinds = list[str](), list[str]()
    for action in ground.actions:
        for each in action.request.get("TagSpecifications", []):
            creators.append(action.call.partition(".")[2])
            kinds.append(each["ResourceType"])
    tag = ground.requested["StringEquals"]
    ground.grant(
        "TagAtCreation",
        "no tag can be put on what exists",
        "ec2:CreateTags",
        [ground.arn(kind) for kind in dict.fromkeys(kinds)],
        {"StringEquals": {**tag, "ec2:CreateAction": list(dict.fromkeys(creators))}},
    )


def use_key(
    ground: Ground, key: str, *, region: str, more: Sequence[str] = (), purpose: Purpose, sid: str = ""
) -> None:
    """Allow a customer's key of a region through EC2, in that region and in `more`.

    EBS needs these five for encrypted volumes and snapshots; with the default key `aws/ebs`, that key's own policy
    allows them to everybody in the account. https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
    """
    # Which domain KMS means in China is not clear from its documentation: either will do.
    domains = ["amazonaws.com", "amazonaws.com.cn"] if ground.partition == "aws-cn" else ["amazonaws.com"]
    through = [f"ec2.{each}.{domain}" for each in dict.fromkeys([region, *more]) for domain in domains]
    service: dict[str, str | Sequence[str]] = {"kms:ViaService": through[0] if len(through) == 1 else through}
    text, alias = key, None
    if found := re.fullmatch(r"(?:(arn:[^:]+:kms:[^:]+:\d{12}):)?(alias/.+)", key):
        # An alias is no resource of a policy. https://docs.aws.amazon.com/kms/latest/developerguide/alias-authorization.html
        text, alias = f"{found[1] or f'arn:{ground.partition}:kms:{region}:{ground.account}'}:key/*", found[2]
    elif not key.startswith("arn:"):
        text = f"arn:{ground.partition}:kms:{region}:{ground.account}:key/{key}"
    conditions: dict[str, Mapping[str, str | Sequence[str]]] = {"StringEquals": service}
    if alias is not None:
        conditions["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
    use = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom"]
    use.append("kms:ReEncryptTo")
    ground.grant(f"UseKey{sid}", "the volumes' key, through EC2", use, text, conditions, purpose=purpose)
    grants = {**conditions, "Bool": {"kms:GrantIsForAWSResource": "true"}}
    ground.grant(f"GrantKey{sid}", "lets EC2 use it", "kms:CreateGrant", text, grants, purpose=purpose)


def build(ground: Ground) -> None:
    """Allow what a build of the plan does."""
    survey(ground)
    for rule in rules(ground.actions):
        rule(ground)
    tag_at_creation(ground)
    if ground.plan.root_volume.kms_key is not None:
        use_key(ground, ground.plan.root_volume.kms_key, region=ground.plan.region, purpose="build")


def rules(actions: Iterable[Action]) -> Iterable[Rule]:
    """Give the rules for the calls of a build, each once, in the order of the calls.

    Raises
    ------
    NotImplementedError
        If a build makes a call that no rule is for: then this module has to learn it.
    """
    found: dict[Rule, None] = {}
    for action in actions:
        if action.call not in RULES:
            raise NotImplementedError(f"leptonami.policy has no rule for {action.call}")
        found[RULES[action.call]] = None
    return found


# What publishing, sweeping and retiring do --------------------------------------------------------------------------


def publish(ground: Ground) -> None:
    """Allow what publishing the plan's images calls, in the plan's regions.

    Raises
    ------
    NotImplementedError
        If it makes a call that is not known here.
    """
    plan = ground.plan
    if plan.publish.asks_for_nothing:
        return
    from leptonami.publish.model import COPY_OF, Order
    from leptonami.publish.publishing import calls

    order = Order.of_plan(plan)
    wanted = {call.replace(".", ":") for call in calls(order)}
    regions, copies = list(order.regions), list(plan.publish.regions)
    images = [ground.arn("image", region=each) for each in regions]
    snapshots = [ground.arn("snapshot", region=each) for each in regions]
    tag = ground.tagged["StringEquals"]

    def grant(sid: str, why: str, actions: set[str], resources: Sequence[str], conditions: Conditions | None) -> None:
        nonlocal wanted
        if chosen := sorted(wanted & actions):
            ground.grant(sid, why, chosen, resources, conditions, purpose="publish")
        wanted -= actions

    everywhere: Conditions = {"StringEquals": {"aws:RequestedRegion": regions}}
    grant("PublishLook", "reads; AWS knows no narrower resource for these", PUBLISH_LOOKS, ["*"], everywhere)
    grant("PublishImage", "attributes of the plan's images", IMAGE_CHANGES, images, ground.tagged)
    grant("PublishSnapshot", "attributes of their snapshots", SNAPSHOT_CHANGES, snapshots, ground.tagged)
    share: Conditions = {
        "StringEquals": tag,
        "ForAllValues:StringEquals": {"ec2:Add/userId": plan.publish.accounts},
        "Null": {"ec2:Add/group": "true"},
    }
    grant(
        "ShareSnapshot", "with the plan's accounts, never everybody", {"ec2:ModifySnapshotAttribute"}, snapshots, share
    )
    if "ec2:CopyImage" in wanted:
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/copy-ami-permissions.html: the source is asked about too,
        # and by no tag; what comes out is asked about by the tags of the request.
        source = [ground.arn("image"), ground.arn("snapshot")]
        there: Conditions = {"StringEquals": {"aws:RequestedRegion": copies}}
        ground.grant("CopyFrom", "the image that is copied", "ec2:CopyImage", source, there, purpose="publish")
        made = [ground.arn(kind, region=each) for each in copies for kind in ("image", "snapshot")]
        marked: Conditions = {"StringLike": {f"aws:RequestTag/{COPY_OF}": "ami-*"}}
        grant("CopyTo", "its copy, marked as one", {"ec2:CopyImage"}, made, marked)
        # Which of the copied tags count as requested, AWS does not say: so none is asked for.
        at_copy: Conditions = {"StringEquals": {"ec2:CreateAction": "CopyImage"}}
        grant("TagCopies", "no tag can be put on what exists", {"ec2:CreateTags"}, made, at_copy)
    if plan.publish.ssm_parameter is not None:
        names = [ground.parameter(str(order.parameter("*")), region=each) for each in regions]
        grant("Parameters", "where the newest image is, and each version", PARAMETER_CHANGES, names, None)
        grant("NewParameter", "with the plan's tag", {"ssm:AddTagsToResource"}, names, ground.requested)
    if wanted:
        raise NotImplementedError(f"leptonami.policy has no rule for {', '.join(sorted(wanted))}")
    for number, region in enumerate(copies, start=1):
        if (key := order.key(region)) is not None:
            use_key(ground, key, region=region, purpose="publish", sid=f"OfCopy{number}")
    if copies and order.root_key is not None:
        use_key(ground, order.root_key, region=plan.region, more=copies, purpose="publish", sid="OfSource")


PUBLISH_LOOKS = {
    "ec2:DescribeFastSnapshotRestores",
    "ec2:DescribeImages",
    "ec2:DescribeRegions",
    "ec2:DescribeSnapshots",
    "ec2:GetEbsDefaultKmsKeyId",
    "ec2:GetImageBlockPublicAccessState",
}
IMAGE_CHANGES = {
    "ec2:DeregisterImage",
    "ec2:DescribeImageAttribute",
    "ec2:EnableImageDeprecation",
    "ec2:EnableImageDeregistrationProtection",
    "ec2:ModifyImageAttribute",
}
SNAPSHOT_CHANGES = {
    "ec2:DeleteSnapshot",
    "ec2:DescribeSnapshotAttribute",
    "ec2:DisableFastSnapshotRestores",
    "ec2:EnableFastSnapshotRestores",
}
PARAMETER_CHANGES = {"ssm:GetParameterHistory", "ssm:ListTagsForResource", "ssm:PutParameter"}


def sweep_looks(ground: Grants) -> None:
    """Allow finding what is tagged, whatever made it: a sweep looks for all of it."""
    looks = ["Images", "Instances", "LaunchTemplates", "NetworkInterfaces", "SecurityGroups", "Snapshots", "Volumes"]
    ground.look(*(f"ec2:Describe{each}" for each in looks), "ssm:ListCommands", purpose="sweep")

    grant = partial(ground.grant, purpose="sweep")
    # IAM is global: the region of these calls is us-east-1 wherever one is, so it says nothing.
    names = ["iam:ListInstanceProfiles", "iam:ListRoles"]
    grant("LookForRoles", "reads; AWS knows no narrower resource for these", names, ["*"])
    own = [ground.iam(kind, ground.temporary) for kind in ("role", "instance-profile")]
    grant("LookAtRoles", "whose they are", ["iam:GetInstanceProfile", "iam:GetRole"], own)
    grant("LookAtGroups", "what a benchmark left", ["eks:DescribeNodegroup"], [ground.nodegroups()])


def sweep_parts(ground: Grants) -> None:
    """Allow removing what builds and benchmarks both leave."""
    grant = partial(ground.grant, purpose="sweep")
    why = "what still runs on a builder; AWS knows no narrower resource"
    grant("CancelScript", why, ["ssm:CancelCommand"], ["*"], ground.here)
    grant("OwnBuilder", "terminate it", ["ec2:TerminateInstances"], [ground.arn("instance")], ground.tagged)
    loose, removals = ["volume", "network-interface"], ["ec2:DeleteVolume", "ec2:DeleteNetworkInterface"]
    what = [ground.arn(each) for each in loose]
    grant("LooseParts", "left without their instance", removals, what, ground.tagged)


def sweep(ground: Ground) -> None:
    """Allow finding what is tagged, and removing what is the plan's."""
    sweep_looks(ground)

    grant = partial(ground.grant, purpose="sweep")
    own = [ground.iam(kind, ground.temporary) for kind in ("role", "instance-profile")]
    removals = ["DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies"]
    grant("OwnRole", "its removal, and that of its policies", [f"iam:{each}" for each in removals], own[:1], None)
    removals = ["iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile"]
    grant("OwnProfile", "the role out of it, and its removal", removals, own[1:], None)
    group = [ground.arn("security-group")]
    grant("OwnGroup", "its removal", ["ec2:DeleteSecurityGroup"], group, ground.tagged)
    made = [ground.arn("image"), ground.arn("snapshot")]
    discard = ["ec2:DeregisterImage", "ec2:DeleteSnapshot"]
    grant("DiscardImage", "an image that is not to be", discard, made, ground.tagged)
    sweep_parts(ground)


def images(ground: Ground, purpose: Purpose = "images") -> None:
    """Allow listing the plan's images in its regions, and asking who uses them."""
    plan = ground.plan
    regions = [plan.region, *plan.publish.regions]

    grant = partial(ground.grant, purpose=purpose)
    everywhere: Conditions = {"StringEquals": {"aws:RequestedRegion": regions}}
    reads = ["Images", "Instances", "LaunchTemplateVersions", "LaunchTemplates"]
    looks = [*(f"ec2:Describe{each}" for each in reads), "ssm:DescribeParameters", *GROUP_LOOKS, "eks:ListClusters"]
    grant("ImagesLook", "reads; AWS knows no narrower resource for these", looks, ["*"], everywhere)
    own = [ground.arn("image", region=each) for each in regions]
    grant("LastLaunch", "when it was last launched", ["ec2:DescribeImageAttribute"], own, ground.tagged)
    clusters = [f"arn:{ground.partition}:eks:{each}:{ground.account}:cluster/*" for each in regions]
    groups = [f"arn:{ground.partition}:eks:{each}:{ground.account}:nodegroup/*/*/*" for each in regions]
    why = "which launch templates node groups name"
    grant("NodeGroups", why, ["eks:ListNodegroups", "eks:DescribeNodegroup"], [*clusters, *groups], everywhere)
    if names := parameters_of(ground, regions):
        why = "which image the plan's parameters name"
        grant("ReadParameters", why, ["ssm:GetParameter", "ssm:GetParameters"], names, None)
    ground.notes.append(
        "a launch template that names its image by a parameter (resolve:ssm:) of somebody else's needs "
        "ssm:GetParameter for that one too; without it nobody can tell who uses an image, and retire lets none go"
    )


def parameters_of(ground: Ground, regions: Sequence[str]) -> list[str]:
    """Name the plan's parameters in some regions."""
    from leptonami.publish.model import Order

    name = Order.of_plan(ground.plan).parameter("*")
    return [ground.parameter(name, region=each) for each in regions] if name is not None else []


def retire(ground: Ground) -> None:
    """Allow deprecating the plan's images, and letting them go with their snapshots and parameters."""
    images(ground, "retire")
    regions = [ground.plan.region, *ground.plan.publish.regions]
    own = [ground.arn("image", region=each) for each in regions]
    parts = [ground.arn("snapshot", region=each) for each in regions]
    changes = ["ec2:EnableImageDeprecation", "ec2:DeregisterImage"]
    ground.grant("RetireImage", "deprecated first, deregistered later", changes, own, ground.tagged, purpose="retire")
    ground.grant("RetireSnapshot", "with their image", "ec2:DeleteSnapshot", parts, ground.tagged, purpose="retire")
    if names := parameters_of(ground, regions):
        why = "the parameter of its version"
        ground.grant("RetireParameter", why, "ssm:DeleteParameters", names, ground.tagged, purpose="retire")


GROUP_LOOKS = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeLaunchConfigurations"]


def for_plan(
    plan: Plan,
    *,
    purposes: Iterable[Purpose] = USUAL,
    account: str = ACCOUNT,
    partition: str | None = None,
    builder_role: str | None = None,
) -> Policy:
    """Give the policy that a plan needs.

    Parameters
    ----------
    purposes
        What it is to be good for; a plan that publishes nothing needs nothing for that.
    account
        The account id in the ARNs.
    partition
        Of the ARNs; by default the region's.
    builder_role
        The role in the plan's own instance profile, if it is not named like the profile.

    Raises
    ------
    InputError
        If the account id, the partition or the role's name are not such.
    """
    if builder_role is not None and re.fullmatch(r"[A-Za-z0-9_+=,.@/-]{1,512}", builder_role) is None:
        raise InputError(f"not a role's name: {builder_role!r}", resource="builder role", hint="its name, not its ARN")
    ground = Ground(plan, account=account, partition=partition, builder_role=builder_role)
    wanted = set(purposes)
    if "build" in wanted:
        build(ground)
        if "publish" not in wanted and not plan.publish.asks_for_nothing:
            ground.notes.append("the plan publishes at the end of its build, which --for publish allows")
    if "publish" in wanted:
        publish(ground)
    if "sweep" in wanted:
        sweep(ground)
    if "images" in wanted:
        images(ground)
    if "retire" in wanted:
        retire(ground)
    return Policy(plan.name, ground.statements, tuple(dict.fromkeys(ground.notes)))


def builder_document(plan: Plan, *, partition: str | None = None) -> dict[str, Any]:
    """Give the policy of the builder's own role: what a build puts into the temporary one, for a role of your own.

    Raises
    ------
    InputError
        If it is longer than a role's inline policies may be.
    """
    policy = requests.builder_policy(plan, partition=partition or partition_of(plan.region))
    if (size := characters(policy)) > ROLE_INLINE_CHARACTERS:
        raise InputError(
            f"the builder's policy has {size} characters, a role takes {ROLE_INLINE_CHARACTERS}",
            resource=plan.name,
            hint="pre-fetch from fewer private repositories, or name an instance profile of your own",
        )
    return policy
