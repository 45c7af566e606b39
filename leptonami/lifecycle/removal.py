"""Removing what a sweep decided to remove: in order, each by itself, each with intent and outcome in the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build.image import deregister
from leptonami.errors import BuildError, LeptonamiError, Timeout
from leptonami.lifecycle.inventory import listed, nodegroup
from leptonami.lifecycle.resources import Resource
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

    from leptonami.progress import Progress
    from leptonami.runs import Journal

__all__ = ["Outcome", "Remover"]

# EKS drains the nodes first, for at most a quarter of an hour.
# https://docs.aws.amazon.com/eks/latest/userguide/delete-managed-node-group.html
GROUP_S = 1800.0
TERMINATED_S = 900.0
UNUSED_S = 300.0
BATCH = 50
GONE = {
    "InvalidAMIID.NotFound",
    "InvalidAMIID.Unavailable",
    "InvalidCommandId",
    "InvalidGroup.NotFound",
    "InvalidInstanceID.NotFound",
    "InvalidLaunchTemplateId.NotFound",
    "InvalidNetworkInterfaceID.NotFound",
    "InvalidSnapshot.NotFound",
    "InvalidVolume.NotFound",
    "NoSuchEntity",
    "ResourceNotFoundException",
}
# What passes by itself: the holder is still letting go.
BUSY = {
    "DependencyViolation",
    "IncorrectState",
    "InvalidNetworkInterface.InUse",
    "InvalidSnapshot.InUse",
    "ResourceInUseException",
    "VolumeInUse",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one removal: `removed`, `was not there` or `failed`, and then why."""

    resource: Resource
    outcome: str
    error: str | None = None


class Remover:
    """Removes resources of one target; a removal that fails does not keep the others from being tried."""

    def __init__(self, target: Target, journal: Journal, progress: Progress) -> None:
        self.target, self.journal, self.progress = target, journal, progress
        self.gone: set[tuple[str, str]] = set()
        # Runs of which a node group, an instance or an image did not go: what that holds stays, however long one waits.
        self.stuck: set[str | None] = set()

    def run(self, resources: Sequence[Resource]) -> list[Outcome]:
        """Remove them, in the order they are given in, which is that of their kinds."""
        outcomes: list[Outcome] = []
        together = {"nodegroup": self.end_groups, "instance": self.terminate}
        for each in resources:
            self.progress.update(f"{each.kind} {each.id}")
            if each.kind in together:
                alike = [one for one in resources if one.kind == each.kind]
                ended = together[each.kind](alike) if each is alike[0] else []
            else:
                ended = [self.remove(each)]
            if each.kind in {"nodegroup", "instance", "image"}:
                self.stuck |= {one.resource.run for one in ended if one.outcome == "failed"}
            outcomes += ended
        return outcomes

    def remove(self, resource: Resource) -> Outcome:
        """Remove one."""
        removals: dict[str, Callable[[Resource], bool]] = {
            "command": self.command,
            "image": self.image,
            "snapshot": self.snapshot,
            "interface": self.interface,
            "volume": self.volume,
            "template": self.template,
            "group": self.group,
            "profile": self.profile,
            "role": self.role,
        }
        return self.attempt(resource, removals[resource.kind])

    def attempt(self, resource: Resource, remove: Callable[[Resource], bool]) -> Outcome:
        """Remove one and write down what came of it; `remove` says False if there was nothing to do any more."""
        try:
            with self.journal.action("remove", kind=resource.kind, id=resource.id, region=resource.region) as outcome:
                try:
                    done = remove(resource)
                except AwsError as error:
                    if error.code not in GONE:
                        raise
                    done = False
                outcome["outcome"] = "removed" if done else "was not there"
        except LeptonamiError as error:
            return Outcome(resource, "failed", str(error))
        return Outcome(resource, "removed" if done else "was not there")

    def patiently(self, resource: Resource, method: Callable[..., Any], **request: Any) -> bool:
        """Call until what still holds the thing has let go."""
        what, patience = resource.id, 0.0 if resource.run in self.stuck else UNUSED_S

        def once() -> bool | None:
            try:
                self.target.call(method, **request)
            except AwsError as error:
                if error.code in BUSY:
                    busy.append(error)
                    return None
                raise
            return True

        busy: list[AwsError] = []
        try:
            return self.target.poll(once, what=f"{what} to be unused", timeout=patience)
        except Timeout as error:
            raise BuildError(f"still in use: {busy[-1].aws_message}", resource=what) from error

    # Node groups and instances go together, since each takes its time ------------------------------------------------

    def end_groups(self, groups: Sequence[Resource]) -> list[Outcome]:
        """Delete node groups, all at once, and wait until they are gone, with their instances."""
        outcomes = []
        for outcome in [self.attempt(each, self.nodegroup) for each in groups]:
            group, error = outcome.resource, outcome.error
            if outcome.outcome == "removed":
                try:
                    gone = partial(self.group_gone, group)
                    self.target.poll(gone, what=f"the node group {group.id} to be gone", timeout=GROUP_S)
                except LeptonamiError as problem:
                    error = str(problem)
            outcomes.append(Outcome(group, "failed", error) if error else outcome)
        return outcomes

    def nodegroup(self, resource: Resource) -> bool:
        """Delete a node group; one that is being deleted already is as good."""
        if self.group_gone(resource) is None and resource.state != "DELETING":
            cluster, _, name = resource.id.partition("/")
            eks = self.target.client("eks", resource.region)
            return self.patiently(resource, eks.delete_nodegroup, clusterName=cluster, nodegroupName=name)
        return True

    def group_gone(self, group: Resource) -> bool | None:
        """Tell whether a node group is gone.

        Raises
        ------
        BuildError
            If EKS has given up, with its reason.
        """
        cluster, _, name = group.id.partition("/")
        found = nodegroup(self.target, cluster, name, group.region)
        if found is not None and found.state == "DELETE_FAILED" and group.state != "DELETE_FAILED":
            raise BuildError("EKS could not delete it; its console says why", resource=group.id)
        return True if found is None else None

    def terminate(self, instances: Sequence[Resource]) -> list[Outcome]:
        """Terminate instances, all at once, and wait until they are gone."""
        outcomes: list[Outcome] = []
        for region in dict.fromkeys(each.region for each in instances):
            here = [each for each in instances if each.region == region]
            for start in range(0, len(here), BATCH):
                outcomes += self.terminate_batch(region, here[start : start + BATCH])
        return outcomes

    def terminate_batch(self, region: str, instances: Sequence[Resource]) -> list[Outcome]:
        """Terminate some of one region; if EC2 refuses all for the sake of one, each by itself."""
        ec2 = self.target.client("ec2", region)

        def ask(some: Sequence[Resource]) -> list[Outcome]:
            names = [each.id for each in some]
            try:
                with self.journal.action("remove", kind="instance", id=names, region=region):
                    self.target.call(ec2.terminate_instances, InstanceIds=names)
            except LeptonamiError as error:
                if len(some) > 1:
                    return [outcome for each in some for outcome in ask([each])]
                gone = isinstance(error, AwsError) and error.code in GONE
                return [Outcome(some[0], "was not there" if gone else "failed", None if gone else str(error))]
            return [Outcome(each, "removed") for each in some]

        outcomes = ask(instances)
        asked = [each.resource.id for each in outcomes if each.outcome == "removed"]
        if not asked:
            return outcomes
        filters: list[FilterTypeDef] = [{"Name": "instance-id", "Values": asked}]

        def check() -> bool | None:
            found = listed(self.target, ec2, "describe_instances", "Reservations", Filters=filters)
            left = [each for one in found for each in one["Instances"] if each["State"]["Name"] != "terminated"]
            self.progress.update(f"{len(left)} of {len(asked)} instances are still going")
            return None if left else True

        try:
            self.target.poll(check, what=f"{len(asked)} instances to be terminated", timeout=TERMINATED_S)
        except LeptonamiError as error:
            # What hangs on them is tried all the same, and says for itself what is in the way.
            return [
                Outcome(each.resource, "failed", str(error)) if each.outcome == "removed" else each for each in outcomes
            ]
        return outcomes

    # The others, one by one ------------------------------------------------------------------------------------------

    def command(self, resource: Resource) -> bool:
        """Cancel a command that still runs."""
        self.target.call(
            self.target.client("ssm", resource.region).cancel_command,
            CommandId=resource.id,
            InstanceIds=list(resource.parts),
        )
        return True

    def image(self, resource: Resource) -> bool:
        """Deregister an image with its snapshots, unless somebody has started something from it."""
        ec2 = self.target.client("ec2", resource.region)
        filters: list[FilterTypeDef] = [{"Name": "image-id", "Values": [resource.id]}]
        found = listed(self.target, ec2, "describe_instances", "Reservations", Filters=filters)
        running = [
            each["InstanceId"] for one in found for each in one["Instances"] if each["State"]["Name"] != "terminated"
        ]
        if running:
            raise BuildError(f"{running[0]} was launched from it", resource=resource.id)
        self.gone |= {(resource.region, each) for each in deregister(self.target, resource.id, resource.region)}
        return True

    def snapshot(self, resource: Resource) -> bool:
        """Delete a snapshot; its image took most of them along."""
        if (resource.region, resource.id) in self.gone:
            return True
        ec2 = self.target.client("ec2", resource.region)
        return self.patiently(resource, ec2.delete_snapshot, SnapshotId=resource.id)

    def interface(self, resource: Resource) -> bool:
        """Delete an interface; with its instance it went by itself."""
        ec2 = self.target.client("ec2", resource.region)
        return self.patiently(resource, ec2.delete_network_interface, NetworkInterfaceId=resource.id)

    def volume(self, resource: Resource) -> bool:
        """Delete a volume; with its instance it went by itself."""
        ec2 = self.target.client("ec2", resource.region)
        return self.patiently(resource, ec2.delete_volume, VolumeId=resource.id)

    def template(self, resource: Resource) -> bool:
        """Delete a launch template, unless its node group is still there, which only it leads to."""
        if resource.holder is not None and resource.run in self.stuck:
            raise BuildError(f"the node group {resource.holder} is still there", resource=resource.id)
        ec2 = self.target.client("ec2", resource.region)
        self.target.call(ec2.delete_launch_template, LaunchTemplateId=resource.id)
        return True

    def group(self, resource: Resource) -> bool:
        """Delete a security group."""
        ec2 = self.target.client("ec2", resource.region)
        return self.patiently(resource, ec2.delete_security_group, GroupId=resource.id)

    def profile(self, resource: Resource) -> bool:
        """Delete an instance profile, without its role first."""
        iam, call = self.target.client("iam"), self.target.call
        for role in resource.parts:
            try:
                call(iam.remove_role_from_instance_profile, InstanceProfileName=resource.id, RoleName=role)
            except AwsError as error:
                if error.code not in GONE:
                    raise
        call(iam.delete_instance_profile, InstanceProfileName=resource.id)
        return True

    def role(self, resource: Resource) -> bool:
        """Delete a role, without its policies first."""
        iam, call = self.target.client("iam"), self.target.call
        for name in listed(self.target, iam, "list_role_policies", "PolicyNames", RoleName=resource.id):
            call(iam.delete_role_policy, RoleName=resource.id, PolicyName=name)
        for policy in listed(self.target, iam, "list_attached_role_policies", "AttachedPolicies", RoleName=resource.id):
            call(iam.detach_role_policy, RoleName=resource.id, PolicyArn=policy["PolicyArn"])
        call(iam.delete_role, RoleName=resource.id)
        return True
