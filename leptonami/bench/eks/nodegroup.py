"""Launching by a managed node group: one of each variant and instance type, scaled to one node and back to none.

The groups and their launch templates are named after the run and made while baking, so that a killed run finds them;
without a node they cost nothing. They go at the end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.bench.eks import awsmarks, launching, requests
from leptonami.errors import LeptonamiError, Timeout
from leptonami.target import AwsError

if TYPE_CHECKING:
    from leptonami.bench.eks.account import Account
    from leptonami.bench.eks.requests import Ami
    from leptonami.bench.experiment import Variant
    from leptonami.bench.marks import Mark
    from leptonami.bench.model import Trial
    from leptonami.runs import Journal
    from leptonami.target import Provenance

__all__ = ["NodeGroups"]

# EKS drains a node before it lets it go, which may take a quarter of an hour.
# https://docs.aws.amazon.com/eks/latest/userguide/managed-node-update-behavior.html
SETTLES_S = 1200
BUSY = {"CREATING", "UPDATING"}
ABSENT = {"ResourceNotFoundException", "InvalidLaunchTemplateName.NotFoundException"}


class NodeGroups:
    """Launches by the scaling of node groups."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.cluster = {"clusterName": account.eks.cluster}

    def name(self, variant: str, instance_type: str) -> str:
        """Name a group and its template."""
        experiment = self.account.setup.experiment
        place = [str(each.name) for each in experiment.variants].index(variant) + 1
        return self.account.names.group(place, experiment.instance_types.index(instance_type) + 1)

    def of(self, trial: Trial) -> str:
        """Name the group of a trial."""
        return self.name(trial.variant, trial.instance_type)

    # --- what lasts ---------------------------------------------------------------------------------------------------

    def prepare(self, variant: Variant, ami: Ami, journal: Journal) -> None:
        """Make a variant's groups, or find them again."""
        for kind in self.account.setup.experiment.instance_types:
            name = self.name(str(variant.name), str(kind))
            status = self.status(name)
            if status in {"CREATE_FAILED", "DELETING", "DELETE_FAILED"}:
                self.discard(name)
                status = ""
            if not status:
                journal.write("intent", action="eks.CreateNodegroup", name=name, variant=variant.name)
                self.create(name, variant, ami, str(kind))
        for kind in self.account.setup.experiment.instance_types:
            self.settle(self.name(str(variant.name), str(kind)))

    def create(self, name: str, variant: Variant, ami: Ami, instance_type: str) -> None:
        """Make a template and a group without a node."""
        account, target = self.account, self.account.target
        data = requests.template_data(
            account.names,
            account.eks,
            variant,
            ami,
            instance_type=instance_type,
            groups=account.cluster[1],
            user_data=account.user_data(ami, instance_type, "group"),
        )
        template = requests.template(account.names, account.eks, name, data)
        try:
            target.call(target.client("ec2").create_launch_template, **template)
        except AwsError as error:
            if error.code != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise
        group = requests.node_group(account.names, account.eks, name, self.role())
        try:
            target.call(target.client("eks").create_nodegroup, **group)
        except AwsError as error:
            if error.code != "ResourceInUseException":
                raise

    def role(self) -> str:
        """Give the ARN of the role in the experiment's instance profile."""
        target = self.account.target
        profile = str(self.account.eks.instance_profile)
        found: Any = target.call(target.client("iam").get_instance_profile, InstanceProfileName=profile)
        roles = found["InstanceProfile"]["Roles"]
        if not roles:
            raise LeptonamiError("the instance profile has no role", resource=profile)
        return str(roles[0]["Arn"])

    def describe(self, name: str) -> Any:
        """Describe a group; an empty one if there is none."""
        target = self.account.target
        try:
            return target.call(target.client("eks").describe_nodegroup, **self.cluster, nodegroupName=name)["nodegroup"]
        except AwsError as error:
            if error.code not in ABSENT:
                raise
            return {}

    def status(self, name: str) -> str:
        """Give a group's status; "" if there is none."""
        return str(self.describe(name).get("status", ""))

    def settle(self, name: str) -> None:
        """Wait until nothing is under way with a group."""

        def check() -> bool | None:
            found = self.describe(name)
            status = found.get("status", "")
            if status in {"CREATE_FAILED", ""}:
                issues = (found.get("health") or {}).get("issues") or [{}]
                raise LeptonamiError(f"EKS did not make it: {issues[0].get('message', 'it is gone')}", resource=name)
            return None if status in BUSY else True

        self.account.target.poll(check, what=f"the node group {name}", timeout=SETTLES_S)

    def remove(self) -> None:
        """Remove the groups and templates of the experiment."""
        experiment = self.account.setup.experiment
        names = [
            self.name(str(each.name), str(kind)) for each in experiment.variants for kind in experiment.instance_types
        ]
        for name in names:
            self.end(name)
        for name in names:
            self.discard(name)

    def end(self, name: str) -> None:
        """Ask for a group's end."""
        target = self.account.target
        try:
            target.call(target.client("eks").delete_nodegroup, **self.cluster, nodegroupName=name)
        except AwsError as error:
            if error.code not in ABSENT | {"ResourceInUseException"}:
                raise

    def discard(self, name: str) -> None:
        """Wait for the end of a group, and remove its template."""
        target = self.account.target

        def gone() -> bool | None:
            if not (status := self.status(name)):
                return True
            # What was under way when we asked has to end first.
            if status not in BUSY | {"DELETING"}:
                self.end(name)
            return None

        target.poll(gone, what=f"the end of the node group {name}", timeout=SETTLES_S)
        try:
            target.call(target.client("ec2").delete_launch_template, LaunchTemplateName=name)
        except AwsError as error:
            if error.code not in ABSENT:
                raise

    # --- a launch -----------------------------------------------------------------------------------------------------

    def scale(self, name: str, nodes: int) -> launching.Asked:
        """Ask for so many nodes."""
        target = self.account.target
        request = {
            **self.cluster,
            "nodegroupName": name,
            "scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": nodes},
        }
        call = target.client("eks").update_nodegroup_config
        return launching.ask(target, "eks:UpdateNodegroupConfig", call, request)[0]

    def ask(self, trial: Trial, variant: Variant, ami: Ami) -> launching.Asked:  # noqa: ARG002 - the group knows them
        """Ask for a node."""
        return self.scale(self.of(trial), 1)

    def scaled(self, name: str) -> tuple[str, list[str]]:
        """Give the name of a group's Auto Scaling group, and its instances."""
        target = self.account.target
        groups = (self.describe(name).get("resources") or {}).get("autoScalingGroups") or []
        if not groups:
            return "", []
        inner = str(groups[0]["name"])
        found: Any = target.call(
            target.client("autoscaling").describe_auto_scaling_groups, AutoScalingGroupNames=[inner]
        )
        members = [each["InstanceId"] for one in found["AutoScalingGroups"] for each in one["Instances"]]
        return inner, members

    def activities(self, name: str) -> list[Any]:
        """Give the last activities of a group, the newest first."""
        target = self.account.target
        inner, _ = self.scaled(name)
        if not inner:
            return []
        call = target.client("autoscaling").describe_scaling_activities
        found: Any = target.call(call, AutoScalingGroupName=inner, MaxRecords=20)
        return list(found["Activities"])

    def instance(self, trial: Trial) -> str:
        """Give the instance that the group has launched."""
        _, members = self.scaled(self.of(trial))
        if members:
            return members[0]
        newest: Any = next(iter(self.activities(self.of(trial))), {})
        if newest.get("StatusCode") == "Failed":
            raise LeptonamiError(
                f"the group cannot launch: {newest.get('StatusMessage', 'it does not say why')}",
                resource=self.of(trial),
            )
        return ""

    def marks(self, trial: Trial, instance: str, provenance: Provenance) -> tuple[Mark, ...]:
        """Give the start of the activity that launched the instance."""
        return awsmarks.from_activity(self.activities(self.of(trial)), instance, provenance)

    def clean(self, trial: Trial) -> tuple[str, ...]:
        """Scale the trial's group to none, and wait for the end of its instance."""
        name = self.of(trial)
        if not self.status(name):
            return ()
        try:
            self.settle(name)
            self.scale(name, 0)
            what = f"the end of the instances of {name}"
            self.account.target.poll(partial(self.none_left, name), what=what, timeout=SETTLES_S)
            self.settle(name)
        except Timeout as error:
            return (f"node group {name}: {error}", *self.scaled(name)[1])
        return ()

    def none_left(self, name: str) -> bool | None:
        """Tell whether a group has no instance any more."""
        inner, members = self.scaled(name)
        if members:
            return None
        return None if inner and self.account.living(("tag:aws:autoscaling:groupName", inner)) else True
