"""The builder: the instance that the image is made from, with its temporary role and security group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build import requests
from leptonami.errors import BuildError, CapacityError, InputError
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.build.preflight import Site
    from leptonami.build.work import Work
    from leptonami.runs import Journal

__all__ = ["Builder", "create_group", "create_profile", "launch", "wait_online", "wait_running", "wait_stopped"]

# Errors after which another type or another subnet may do.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
CAPACITY_CODES = {
    "InsufficientCapacityOnHost",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "Unsupported",
    "VcpuLimitExceeded",
}
PROPAGATION_S = 120.0
RUNNING_S = 900.0
ONLINE_S = 900.0
STOPPED_S = 1800.0


@dataclass(frozen=True)
class Builder:
    """The instance, as it was launched."""

    instance: str
    type: str
    subnet: str
    zone: str
    spot: bool
    refused: tuple[str, ...]


def create_profile(work: Work, site: Site) -> str:
    """Make the temporary role and instance profile, or check the plan's own profile; give the profile's name."""
    target, plan, journal, cleanup = work.target, work.plan, work.journal, work.cleanup
    iam = target.client("iam")
    if plan.builder.instance_profile is not None:
        name = plan.builder.instance_profile
        try:
            target.call(iam.get_instance_profile, InstanceProfileName=name)
        except AwsError as error:
            if error.code != "NoSuchEntity":
                raise
            raise InputError(
                f"there is no instance profile {name!r}",
                resource=f"{plan.path}: builder.instance_profile",
                hint="leave it out, and a temporary one with a narrow policy is made",
            ) from error
        return name
    names, role = site.names, site.names.temporary
    # What is made last is removed first. The removal is noted before the creating call: a call whose answer is lost
    # may have taken effect.
    cleanup.add(f"role {role}", lambda: target.call(iam.delete_role, RoleName=role))
    with journal.action("iam.CreateRole", name=role):
        target.call(iam.create_role, **requests.create_role(plan, names, partition=site.partition))
    cleanup.add("its policy", lambda: target.call(iam.delete_role_policy, RoleName=role, PolicyName="builder"))
    with journal.action("iam.PutRolePolicy", name=role):
        target.call(iam.put_role_policy, **requests.put_role_policy(plan, names, partition=site.partition))
    cleanup.add(f"instance profile {role}", lambda: target.call(iam.delete_instance_profile, InstanceProfileName=role))
    with journal.action("iam.CreateInstanceProfile", name=role):
        target.call(iam.create_instance_profile, **requests.create_instance_profile(plan, names))
    cleanup.add(
        "the role in the profile",
        lambda: target.call(iam.remove_role_from_instance_profile, InstanceProfileName=role, RoleName=role),
    )
    with journal.action("iam.AddRoleToInstanceProfile", name=role):
        target.call(iam.add_role_to_instance_profile, **requests.add_role_to_instance_profile(names))
    return role


def create_group(work: Work, site: Site) -> list[str]:
    """Make the temporary security group, or take the plan's own; give the groups' ids."""
    target, plan, journal, cleanup = work.target, work.plan, work.journal, work.cleanup
    if plan.builder.security_groups:
        return list(plan.builder.security_groups)
    ec2 = target.client("ec2")
    name, vpc = site.names.temporary, site.vpc

    def remove() -> None:
        # By name: the id may have been lost with the answer. A group is in use until its interface is gone.
        found = target.call(
            ec2.describe_security_groups,
            Filters=[{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}],
        )["SecurityGroups"]
        for group in found:
            remove_group(target, group["GroupId"])

    undo = cleanup.add(f"security group {name}", remove)
    with journal.action("ec2.CreateSecurityGroup", name=name) as outcome:
        made = target.call(ec2.create_security_group, **requests.create_security_group(plan, site.names, vpc))
        outcome["id"] = made["GroupId"]
    group_id = made["GroupId"]
    cleanup.replace(undo, f"security group {group_id}", lambda: remove_group(target, group_id))
    return [group_id]


def remove_group(target: Target, group: str) -> None:
    """Delete a security group, waiting until nothing uses it."""
    ec2 = target.client("ec2")

    def attempt() -> bool | None:
        try:
            target.call(ec2.delete_security_group, GroupId=group)
        except AwsError as error:
            if error.code == "DependencyViolation":
                return None
            raise
        return True

    target.poll(attempt, what=f"{group} to be unused", timeout=300)


def launch(work: Work, site: Site, *, groups: list[str], profile: str | None) -> Builder:
    """Launch the builder where there is room: every type in every subnet, spot first where the plan wants it.

    Raises
    ------
    CapacityError
        If AWS has no room anywhere that the plan allows.
    """
    target, plan, cleanup = work.target, work.plan, work.cleanup
    refused: list[str] = []
    markets = [True, False] if plan.builder.spot else [False]
    for spot in markets:
        for machine in site.machines:
            if spot and not machine.spot:
                continue
            for subnet in site.subnets:
                where = f"{machine.type} in {subnet.zone}" + (" (spot)" if spot else "")
                work.progress.update(where)
                request = requests.run_instances(
                    plan,
                    site.names,
                    site.base,
                    instance_type=machine.type,
                    subnet=subnet.id,
                    groups=groups,
                    profile=profile,
                    spot=spot,
                )
                undo = cleanup.add("the builder", lambda: terminate_tagged(target, site.names.run))
                try:
                    instance = run(target, request, work.journal, where)
                except AwsError as error:
                    if error.code not in CAPACITY_CODES:
                        raise
                    cleanup.forget(undo)
                    refused.append(f"{where}: {error.code}")
                    work.progress.line(f"no room for {where} ({error.code}), trying the next")
                    continue
                cleanup.replace(undo, f"builder {instance}", partial(terminate, target, [instance]))
                return Builder(instance, machine.type, subnet.id, subnet.zone, spot, tuple(refused))
    raise CapacityError(
        "AWS has no room for the builder: " + "; ".join(refused),
        resource=f"{plan.path}: builder.instance_types",
        hint="add instance types or subnets in other zones, or try again later",
    )


def run(target: Target, request: dict[str, Any], journal: Journal, where: str) -> str:
    """Send RunInstances, again while the new instance profile is not known everywhere yet; give the instance's id."""
    ec2 = target.client("ec2")

    def attempt() -> str | None:
        try:
            return target.call(ec2.run_instances, **request)["Instances"][0]["InstanceId"]
        except AwsError as error:
            # IAM tells its regions over some seconds. https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html
            if error.code == "InvalidParameterValue" and "iam instance profile" in error.aws_message.lower():
                return None
            raise

    with journal.action("ec2.RunInstances", where=where, token=request["ClientToken"]) as outcome:
        instance = target.poll(attempt, what="the instance profile to be known to EC2", timeout=PROPAGATION_S)
        outcome["id"] = instance
    return instance


def state(target: Target, instance: str) -> Any:
    """Describe the builder; None while EC2 does not know it yet."""
    try:
        found = target.call(target.client("ec2").describe_instances, InstanceIds=[instance])["Reservations"]
    except AwsError as error:
        if error.code == "InvalidInstanceID.NotFound":
            return None
        raise
    return found[0]["Instances"][0] if found else None


def wait_state(work: Work, instance: str, wanted: str, *, dead: set[str], timeout: float) -> None:
    """Wait for a state of the builder.

    Raises
    ------
    BuildError
        If it goes where it cannot come back from.
    Timeout
        If it takes too long.
    """

    def check() -> bool | None:
        described = state(work.target, instance)
        if described is None:
            return None
        name = described["State"]["Name"]
        if name == wanted:
            return True
        work.progress.update(name)
        if name in dead:
            reason = described.get("StateReason", {}).get("Message") or described.get("StateTransitionReason")
            raise BuildError(
                f"the builder is {name} instead of {wanted}: {reason or 'AWS gives no reason'}",
                resource=instance,
                hint="a spot builder may have been interrupted, or the volume's KMS key may be out of reach",
            )
        return None

    work.target.poll(check, what=f"the builder {instance} to be {wanted}", timeout=timeout)


def wait_running(work: Work, instance: str) -> None:
    """Wait until the builder runs."""
    dead = {"terminated", "shutting-down", "stopping", "stopped"}
    wait_state(work, instance, "running", dead=dead, timeout=RUNNING_S)


def wait_stopped(work: Work, instance: str) -> None:
    """Wait until the builder has stopped."""
    wait_state(work, instance, "stopped", dead={"terminated", "shutting-down"}, timeout=STOPPED_S)


def wait_online(work: Work, instance: str, *, timeout: float = ONLINE_S) -> str:
    """Wait until the builder's SSM agent answers; give the agent's version.

    Raises
    ------
    Timeout
        If it never does, with what usually keeps it from it.
    """
    target = work.target
    ssm = target.client("ssm")

    def check() -> str | None:
        found = target.call(ssm.describe_instance_information, Filters=[{"Key": "InstanceIds", "Values": [instance]}])[
            "InstanceInformationList"
        ]
        if found and found[0].get("PingStatus") == "Online":
            return found[0].get("AgentVersion", "unknown")
        described = state(target, instance)
        if described is not None and described["State"]["Name"] != "running":
            raise BuildError(f"the builder is {described['State']['Name']}", resource=instance)
        return None

    return target.poll(
        check,
        what=f"the SSM agent of {instance} to come online",
        timeout=timeout,
        tick=lambda waited: work.progress.update(f"{waited:.0f} s"),
        hint="the subnet needs a way to SSM (NAT, a public address, or VPC endpoints for ssm, ssmmessages and "
        "ec2messages), the profile the agent's actions, and the base image the agent; docs/aws.md shows how to check",
    )


def terminate(target: Target, instances: list[str]) -> None:
    """Terminate instances and wait until they are gone; their volumes and interfaces go with them."""
    ec2 = target.client("ec2")
    try:
        target.call(ec2.terminate_instances, InstanceIds=instances)
    except AwsError as error:
        if error.code == "InvalidInstanceID.NotFound":
            return
        raise

    def check() -> bool | None:
        states = [state(target, instance) for instance in instances]
        return all(each is None or each["State"]["Name"] == "terminated" for each in states) or None

    target.poll(check, what=f"{', '.join(instances)} to be terminated", timeout=RUNNING_S)


def terminate_tagged(target: Target, run_id: str) -> None:
    """Terminate whatever this run launched: for a launch whose answer never came."""
    found = target.call(
        target.client("ec2").describe_instances,
        Filters=[
            {"Name": "tag:leptonami:run", "Values": [run_id]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ],
    )["Reservations"]
    instances = [each["InstanceId"] for reservation in found for each in reservation["Instances"]]
    if instances:
        terminate(target, instances)
