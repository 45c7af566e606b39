"""The IAM policy that an experiment of the driver eks needs, and nothing more. Pure: nothing is called.

Everything that a run makes carries the tag `leptonami:plan` with the experiment's name, so it holds the policy, as
a plan's name does (`leptonami.policy`). Node groups are held by their names, which begin like those of runs: EKS is
also asked about groups that are not there, and what is not there has no tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from leptonami.errors import InputError
from leptonami.policy import DOCUMENT, sweep_looks, sweep_parts
from leptonami.statements import ACCOUNT, Conditions, Grants, Policy, Purpose

if TYPE_CHECKING:
    from leptonami.bench.experiment import Eks, Experiment

__all__ = ["for_experiment"]

LOOKS = (
    *("ec2:DescribeFastSnapshotRestores", "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances"),
    *("ec2:DescribeSubnets", "ec2:DescribeVolumes"),
    *("ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommands"),
)
GROUP_LOOKS = (
    *("autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"),
    "ec2:DescribeLaunchTemplateVersions",
)
# EKS makes sure that it is there, with the rights of whoever makes a node group.
# https://github.com/terraform-aws-modules/terraform-aws-eks/issues/823
LINKED = "aws-service-role/eks-nodegroup.amazonaws.com/AWSServiceRoleForAmazonEKSNodegroup"


class Ground(Grants):
    """The grants of an experiment."""

    def __init__(self, experiment: Experiment, eks: Eks, *, account: str, partition: str | None) -> None:
        super().__init__(str(experiment.name), str(eks.region), account=account, partition=partition)
        self.experiment = experiment
        self.eks = eks

    @property
    def cluster(self) -> str:
        """The ARN of the experiment's cluster."""
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.eks.cluster}"

    @property
    def groups(self) -> str:
        """The ARN of the node groups of runs, in the experiment's cluster."""
        return self.nodegroups(self.eks.cluster)

    def allow(
        self,
        sid: str,
        why: str,
        actions: str | Iterable[str],
        what: str | Iterable[str],
        when: Conditions | None = None,
    ) -> None:
        """Add a grant."""
        self.grant(sid, why, actions, what, when, purpose="bench")


def for_experiment(
    experiment: Experiment,
    *,
    purposes: Iterable[Purpose] = ("bench", "sweep"),
    account: str = ACCOUNT,
    partition: str | None = None,
    node_role: str | None = None,
) -> Policy:
    """Give the policy that an experiment needs.

    Parameters
    ----------
    purposes
        `bench` to run it, `sweep` to remove what a killed run of it left.
    account, partition
        Of the ARNs; the partition by default the region's.
    node_role
        The role in the experiment's instance profile, if it is not named like the profile.

    Raises
    ------
    InputError
        If the experiment is for another driver, or the account id or the partition are not such.
    """
    eks = experiment.eks
    if eks is None:
        raise InputError(
            f"an experiment of the driver {experiment.driver} calls nothing of AWS", resource=str(experiment.name)
        )
    ground = Ground(experiment, eks, account=account, partition=partition)
    role = node_role or str(eks.instance_profile)
    if "bench" in purposes:
        look(ground)
        launch(ground, role)
        ask(ground)
        if eks.by == "nodegroup":
            group(ground, role)
        if node_role is None:
            ground.notes.append(
                f"the role in the instance profile {role} is taken to have the profile's name; if it has another one, "
                "name it with --node-role"
            )
    if "sweep" in purposes:
        sweep_looks(ground)
        sweep_parts(ground)
        if eks.by == "nodegroup":
            end_groups(ground, "sweep")
    return Policy(str(experiment.name), ground.statements, tuple(ground.notes))


def look(ground: Ground) -> None:
    """Allow what is looked at."""
    looks = (*LOOKS, *(GROUP_LOOKS if ground.eks.by == "nodegroup" else ()))
    ground.allow("BenchLook", "reads; AWS knows no narrower resource for these", looks, "*", ground.here)
    ground.allow("BenchCluster", "what a node has to know to join", "eks:DescribeCluster", ground.cluster)


def launch(ground: Ground, role: str) -> None:
    """Allow launching the experiment's nodes, and what their requests ask for beside that.

    A node group's too: EKS asks whether whoever makes it may launch from its template.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/permissions-for-launch-templates.html
    """
    eks, call, tag = ground.eks, "ec2:RunInstances", ground.requested["StringEquals"]
    grouped = eks.by == "nodegroup"
    images = [ground.arn("image", str(each)) for each in dict.fromkeys(each.ami for each in ground.experiment.variants)]
    ground.allow("NodeImages", "the variants' images", call, images)
    if any(each.is_read(eks) for each in ground.experiment.variants):
        # Whose, cannot be told from an image's id.
        ground.allow("NodeSnapshots", "the second volume, for the first read", call, ground.arn("snapshot"))
    ground.allow("NodeSubnet", "the first of the subnets", call, ground.arn("subnet", str(eks.subnets[0])))
    why = "the nodes' security groups"
    if eks.security_groups:
        ground.allow(
            "NodeFirewall", why, call, [ground.arn("security-group", str(each)) for each in eks.security_groups]
        )
    else:
        # EKS puts this tag on the group that it makes for a cluster.
        whose: Conditions = {"StringEquals": {"aws:ResourceTag/aws:eks:cluster-name": eks.cluster}}
        ground.allow("NodeFirewall", why, call, ground.arn("security-group"), whose)
    types = [str(each) for each in ground.experiment.instance_types]
    asked: Conditions = {"StringEquals": {**tag, "ec2:InstanceType": types, "ec2:MetadataHttpTokens": "required"}}
    ground.allow("NodeInstance", "the experiment's types, IMDSv2 only, tagged", call, ground.arn("instance"), asked)
    volume: Conditions = {"StringEquals": {**tag, "ec2:VolumeType": eks.volume.type}}
    ground.allow("NodeVolume", "of the experiment's type, tagged", call, ground.arn("volume"), volume)
    interface = ground.arn("network-interface")
    kinds, creators = ["instance", "volume"], ["RunInstances"]
    if grouped:
        ground.allow("NodeInterface", "the nodes' own", call, interface)
        ground.allow("UseTemplate", "the node groups' own", call, ground.arn("launch-template"), ground.tagged)
        kinds.append("launch-template")
        creators.append("CreateLaunchTemplate")
    else:
        ground.allow("NodeInterface", "tagged", call, interface, ground.requested)
        kinds.append("network-interface")
        end = "ec2:TerminateInstances"
        ground.allow("EndNodes", "after each trial", end, ground.arn("instance"), ground.tagged)
    made: Conditions = {"StringEquals": {**tag, "ec2:CreateAction": creators}}
    why = "no tag can be put on what exists"
    ground.allow("TagNodes", why, "ec2:CreateTags", [ground.arn(each) for each in kinds], made)
    services = [ground.service(each) for each in ("ec2", *(("eks",) if grouped else ()))]
    passed: Conditions = {"StringEquals": {"iam:PassedToService": services if grouped else services[0]}}
    ground.allow("PassNodeRole", "to the nodes, and to nothing else", "iam:PassRole", ground.iam("role", role), passed)


def ask(ground: Ground) -> None:
    """Allow asking a node over SSM, and for the first read."""
    name = f"arn:{ground.partition}:ssm:{ground.region}::document/{DOCUMENT}"
    ground.allow("ScriptDocument", "the one document that is used", "ssm:SendCommand", name)
    why = "only on the experiment's nodes"
    ground.allow("ScriptOnNode", why, "ssm:SendCommand", ground.arn("instance"), ground.tagged)
    why = "after a failure or Ctrl-C; AWS knows no narrower resource"
    ground.allow("CancelScript", why, "ssm:CancelCommand", "*", ground.here)


def group(ground: Ground, role: str) -> None:
    """Allow making the node groups, scaling them, and what EKS looks at with the caller's rights meanwhile."""
    profile = ground.iam("instance-profile", str(ground.eks.instance_profile))
    ground.allow("NodeProfile", "which role is in it", "iam:GetInstanceProfile", profile)
    roles = [ground.iam("role", each) for each in (role, LINKED)]
    looks = ["iam:GetRole", "iam:ListAttachedRolePolicies"]
    ground.allow("NodeRole", "EKS looks at it with the caller's rights", looks, roles)
    template = ground.arn("launch-template")
    ground.allow("NewTemplate", "tagged", "ec2:CreateLaunchTemplate", template, ground.requested)
    ground.allow("NewNodeGroup", "tagged", "eks:CreateNodegroup", ground.cluster, ground.requested)
    ground.allow("TagNodeGroup", "when it is made", "eks:TagResource", ground.groups, ground.requested)
    scale = ["eks:DescribeNodegroup", "eks:UpdateNodegroupConfig"]
    ground.allow("ScaleNodeGroup", "to one node and back to none", scale, ground.groups)
    end_groups(ground, "bench")
    ground.notes.append(
        "the first node group of an account needs the service-linked role AWSServiceRoleForAmazonEKSNodegroup, which "
        "is made once and is not in here: "
        "aws iam create-service-linked-role --aws-service-name eks-nodegroup.amazonaws.com"
    )


def end_groups(ground: Ground, purpose: Purpose) -> None:
    """Allow removing node groups and their launch templates."""
    ground.grant("EndNodeGroup", "its removal", "eks:DeleteNodegroup", ground.groups, purpose=purpose)
    template = ground.arn("launch-template")
    call = "ec2:DeleteLaunchTemplate"
    ground.grant("EndTemplate", "its removal", call, template, ground.tagged, purpose=purpose)
