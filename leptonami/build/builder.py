"""The builder: the instance that the image is made from, with its temporary role and security group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build import agent, requests
from leptonami.errors import BuildError, CapacityError, InputError
from leptonami.target import TRANSIENT_CODES, AwsError, AwsUnreachable, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from types_boto3_ec2.type_defs import FilterTypeDef

    from leptonami.build.past import Past
    from leptonami.build.preflight import Site
    from leptonami.build.work import Work
    from leptonami.runs import Journal

__all__ = [
    "Builder",
    "create_group",
    "create_profile",
    "launch",
    "prolong",
    "recalled",
    "revive",
    "wait_online",
    "wait_running",
    "wait_stopped",
]

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
# How often in a row EC2 must say that it does not know an instance that it launched, before that is believed.
FORGOTTEN_AFTER = 6
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


def recalled(past: Past) -> Builder:
    """Read the builder from the journal.

    Raises
    ------
    BuildError
        If the journal has lost it, or another version wrote it.
    """
    entry = past.require("builder")["builder"]
    try:
        return Builder(**{**entry, "refused": tuple(entry["refused"])})
    except (KeyError, TypeError) as error:
        raise BuildError(
            f"the run's journal describes the builder as this version does not: {error}",
            resource="journal.jsonl",
            hint="go on with the version that began the run, or start a new one and sweep what this one left",
        ) from error


def create_profile(work: Work, site: Site) -> str:
    """Make the temporary role and instance profile, or check the plan's own profile; give the profile's name."""
    target, plan, journal = work.target, work.plan, work.journal
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
    names, role, partition = site.names, site.names.temporary, site.partition
    # What is made last is removed first. The removals are noted before the creating calls: a call whose answer is lost
    # may have taken effect. For the same reason, and for a run that goes on, what exists by these names is ours: they
    # are derived from the run.
    owe_profile(work, site)
    with journal.action("iam.CreateRole", name=role):
        unless_there(lambda: target.call(iam.create_role, **requests.create_role(plan, names, partition=partition)))
    with journal.action("iam.PutRolePolicy", name=role):
        request = requests.put_role_policy(plan, names, partition=partition)
        once_known(target, lambda: target.call(iam.put_role_policy, **request))
    with journal.action("iam.CreateInstanceProfile", name=role):
        unless_there(lambda: target.call(iam.create_instance_profile, **requests.create_instance_profile(plan, names)))
    with journal.action("iam.AddRoleToInstanceProfile", name=role):
        pair = requests.add_role_to_instance_profile(names)
        # LimitExceeded: a profile takes one role, and ours is in it.
        once_known(
            target,
            lambda: unless_there(lambda: target.call(iam.add_role_to_instance_profile, **pair), "LimitExceeded"),
        )
    return role


def once_known(target: Target, change: Callable[[], object]) -> None:
    """Change something that was made a moment ago: IAM tells its own parts over some seconds."""

    def attempt() -> bool | None:
        try:
            change()
        except AwsError as error:
            if error.code != "NoSuchEntity":
                raise
            return None
        return True

    target.poll(attempt, what="IAM to know what was just made", timeout=PROPAGATION_S)


def owe_profile(work: Work, site: Site) -> None:
    """Note the removal of the temporary role and profile; what is not there counts as removed."""
    iam, call, role, owe = work.target.client("iam"), work.target.call, site.names.temporary, work.cleanup.add
    owe(f"role {role}", lambda: call(iam.delete_role, RoleName=role))
    owe("its policy", lambda: call(iam.delete_role_policy, RoleName=role, PolicyName="builder"))
    owe(f"instance profile {role}", lambda: call(iam.delete_instance_profile, InstanceProfileName=role))
    owe(
        "the role in the profile",
        lambda: call(iam.remove_role_from_instance_profile, InstanceProfileName=role, RoleName=role),
    )


def owe(work: Work, site: Site) -> None:
    """Note the removal of everything temporary that an earlier process of this run may have made."""
    if not work.plan.builder.security_groups:
        work.cleanup.add(f"security group {site.names.temporary}", partial(remove_groups, work.target, site))
    if work.plan.steps and work.plan.builder.instance_profile is None:
        owe_profile(work, site)
    work.cleanup.add("the builder", partial(terminate_tagged, work.target, site.names.run))


def unless_there(create: Callable[[], object], *codes: str) -> bool:
    """Create something whose name is derived from the run; False if it is there already."""
    try:
        create()
    except AwsError as error:
        if error.code not in {"EntityAlreadyExists", *codes}:
            raise
        return False
    return True


def create_group(work: Work, site: Site) -> list[str]:
    """Make the temporary security group, or take the plan's own; give the groups' ids."""
    target, plan, journal, cleanup = work.target, work.plan, work.journal, work.cleanup
    if plan.builder.security_groups:
        return list(plan.builder.security_groups)
    ec2 = target.client("ec2")
    name = site.names.temporary
    undo = cleanup.add(f"security group {name}", partial(remove_groups, target, site))
    with journal.action("ec2.CreateSecurityGroup", name=name) as outcome:
        try:
            group = target.call(
                ec2.create_security_group, **requests.create_security_group(plan, site.names, site.vpc)
            )["GroupId"]
        except AwsError as error:
            if error.code != "InvalidGroup.Duplicate":
                raise
            # Ours, from an earlier process of this run or from a call whose answer was lost. Lists may be late.
            group = target.poll(
                lambda: next(iter(find_groups(target, site)), None),
                what=f"EC2 to list the security group {name}",
                timeout=PROPAGATION_S,
            )
        outcome["id"] = group
    cleanup.replace(undo, f"security group {group}", partial(remove_group, target, group))
    return [group]


def find_groups(target: Target, site: Site) -> list[str]:
    """Find the run's temporary security group by its name."""
    filters: list[FilterTypeDef] = [
        {"Name": "group-name", "Values": [site.names.temporary]},
        {"Name": "vpc-id", "Values": [site.vpc]},
    ]
    found = target.call(target.client("ec2").describe_security_groups, Filters=filters)["SecurityGroups"]
    return [group["GroupId"] for group in found]


def remove_groups(target: Target, site: Site) -> None:
    """Delete the run's temporary security group, whatever its id is."""
    for group in find_groups(target, site):
        remove_group(target, group)


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


def prolong(work: Work, site: Site) -> None:
    """Let what this run has made live on from now: an earlier process may have made it long ago.

    Else a sweep on another machine, which knows only what the tags say, could take it from under this one.
    """
    target, iam = work.target, work.target.client("iam")
    found = [name for each in find_tagged(target, site.names.run) for name in parts(each)]
    if not work.plan.builder.security_groups:
        found += find_groups(target, site)
    if found:
        prolong_some(work, site, found)
    if not work.plan.steps or work.plan.builder.instance_profile is not None:
        return
    name = site.names.temporary
    tags: Any = site.names.tags("builder", work.plan.tags, temporary=True)
    change: tuple[tuple[str, Callable[[], object]], ...] = (
        ("iam.TagRole", lambda: target.call(iam.tag_role, RoleName=name, Tags=tags)),
        ("iam.TagInstanceProfile", lambda: target.call(iam.tag_instance_profile, InstanceProfileName=name, Tags=tags)),
    )
    for call, tag in change:
        with work.journal.action(call, name=name) as outcome:
            outcome["there"] = if_there(tag)


def prolong_some(work: Work, site: Site, resources: list[str]) -> None:
    """Let some resources of EC2 live on."""
    ec2, request = work.target.client("ec2"), requests.prolong(site.names, resources)

    def attempt() -> bool | None:
        try:
            work.target.call(ec2.create_tags, **request)
        except AwsError as error:
            # What was made a moment ago, EC2 may not know yet everywhere.
            if not error.code.endswith(".NotFound"):
                raise
            return None
        return True

    with work.journal.action("ec2.CreateTags", id=resources, expires=site.names.expires):
        work.target.poll(attempt, what=f"EC2 to tag {', '.join(resources)}", timeout=PROPAGATION_S)


def parts(described: Any) -> list[str]:
    """Name an instance, its volumes and its interfaces."""
    volumes = [each["Ebs"]["VolumeId"] for each in described.get("BlockDeviceMappings", []) if "Ebs" in each]
    interfaces = [each["NetworkInterfaceId"] for each in described.get("NetworkInterfaces", [])]
    return [described["InstanceId"], *volumes, *interfaces]


def if_there(change: Callable[[], object]) -> bool:
    """Change something in IAM; False if it is not there."""
    try:
        change()
    except AwsError as error:
        if error.code != "NoSuchEntity":
            raise
        return False
    return True


def launch(work: Work, site: Site, *, groups: list[str], profile: str | None) -> Builder:
    """Launch the builder where there is room: every type in every subnet, spot first where the plan wants it.

    Raises
    ------
    CapacityError
        If AWS has no room anywhere that the plan allows.
    """
    target, plan, cleanup = work.target, work.plan, work.cleanup
    refused: list[str] = []
    # A client token stands for one instance for ever: a builder that is gone needs another one.
    generation = work.past.count("builder-lost")
    if work.past:
        adopted = adopt(work, site)
        if adopted is not None:
            return adopted
        if work.past.last("done", action="ec2.RunInstances") is not None:
            work.journal.write("builder-lost")
            generation += 1
    markets = [True, False] if plan.builder.spot else [False]
    for spot in markets:
        for machine in site.machines:
            if spot and not machine.spot:
                continue
            for subnet in site.subnets:
                where = f"{machine.type} in {subnet.zone}" + (" (spot)" if spot else "")
                work.progress.update(where)
                describe = partial(
                    requests.run_instances,
                    plan,
                    site.names,
                    site.base,
                    instance_type=machine.type,
                    subnet=subnet.id,
                    groups=groups,
                    profile=profile,
                    spot=spot,
                    generation=generation,
                )
                request = describe()
                before = unanswered(work.past, request["ClientToken"])
                expires = site.names.expires
                if before is not None:
                    # With this token EC2 takes only the very same request, and gives the builder that it may have made.
                    expires = before.get("expires") or replace(site.names, since=None).expires
                    request = describe(expires=expires)
                undo = cleanup.add("the builder", lambda: terminate_tagged(target, site.names.run))
                try:
                    instance = run(target, request, work.journal, where, expires)
                except AwsError as error:
                    if error.code not in CAPACITY_CODES:
                        raise
                    cleanup.forget(undo)
                    refused.append(f"{where}: {error.code}")
                    work.journal.write("no-room", where=refused[-1])
                    work.progress.line(f"no room for {where} ({error.code}), trying the next")
                    continue
                cleanup.replace(undo, f"builder {instance}", partial(terminate, target, instance))
                if expires != site.names.expires:
                    prolong_some(work, site, [instance])
                return Builder(instance, machine.type, subnet.id, subnet.zone, spot, tuple(refused))
    raise CapacityError(
        "AWS has no room for the builder\n" + "\n".join(f"    {each}" for each in refused),
        resource=f"{plan.path}: builder.instance_types",
        hint="add instance types or subnets in other zones, or try again later",
    )


def adopt(work: Work, site: Site) -> Builder | None:
    """Take over the builder that an earlier process of this run launched, if it is still there.

    Raises
    ------
    BuildError
        If there are several: then something is wrong that nobody should build on.
    """
    found = find_tagged(work.target, site.names.run)
    launched = work.past.last("done", action="ec2.RunInstances")
    if not found and launched is not None and (alive := last_seen(work.target, launched["id"])) is not None:
        # A list may not show yet what is there; the id that the journal has is the better question.
        found = [alive]
    if not found:
        return None
    if len(found) > 1:
        raise BuildError(
            "the run has several builders: " + ", ".join(each["InstanceId"] for each in found),
            resource=f"run {site.names.run}",
            hint="terminate them and start a new run",
        )
    instance = found[0]
    work.cleanup.add(f"builder {instance['InstanceId']}", partial(terminate, work.target, instance["InstanceId"]))
    work.journal.write("builder-adopted", instance=instance["InstanceId"], state=instance["State"]["Name"])
    return Builder(
        instance=instance["InstanceId"],
        type=instance["InstanceType"],
        subnet=instance["SubnetId"],
        zone=instance["Placement"]["AvailabilityZone"],
        spot=instance.get("InstanceLifecycle") == "spot",
        refused=work.past.refused(),
    )


def last_seen(target: Target, instance: str) -> Any:
    """Describe an instance by its id; None if it is gone, which EC2 must say several times in a row to be believed."""
    unknown = 0

    def check() -> list[Any] | None:
        nonlocal unknown
        described = state(target, instance)
        if described is None:
            unknown += 1
            return [] if unknown >= FORGOTTEN_AFTER else None
        return [] if described["State"]["Name"] in {"shutting-down", "terminated"} else [described]

    seen = target.poll(check, what=f"EC2 to say what became of {instance}", timeout=RUNNING_S)
    return seen[0] if seen else None


def unanswered(past: Past, token: str) -> dict[str, Any] | None:
    """Give the first launch with a client token of which nobody knows that EC2 refused it; None if there is none."""
    first: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    for entry in past.entries:
        if entry.get("action") != "ec2.RunInstances":
            continue
        if entry.get("event") == "intent":
            first = first or pending
            pending = entry if entry.get("token") == token else None
        elif str(entry.get("error", "")).startswith(AwsError.__name__):
            pending = None
    return first or pending


def run(target: Target, request: dict[str, Any], journal: Journal, where: str, expires: str) -> str:
    """Send RunInstances, again while that can help; give the instance's id.

    EC2 says that it has no capacity with HTTP status 500, which botocore would retry: half a minute for each place
    that has no room. So the retries of this call are ours; its client token makes them safe.
    """
    ec2 = target.client("ec2", attempts=1)

    def attempt() -> str | None:
        try:
            return target.call(ec2.run_instances, **request)["Instances"][0]["InstanceId"]
        except AwsUnreachable:
            return None
        except AwsError as error:
            # IAM tells its regions over some seconds. https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html
            profile = error.code == "InvalidParameterValue" and "iam instance profile" in error.aws_message.lower()
            # The security group was made a moment ago.
            if profile or error.code == "InvalidGroup.NotFound" or error.code in TRANSIENT_CODES:
                return None
            raise

    with journal.action("ec2.RunInstances", where=where, token=request["ClientToken"], expires=expires) as outcome:
        instance = target.poll(attempt, what=f"EC2 to launch {where}", timeout=PROPAGATION_S)
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

    work.target.poll(check, what=f"the builder {instance} to be {wanted}", timeout=timeout, patient=True)


def wait_running(work: Work, instance: str) -> None:
    """Wait until the builder runs."""
    dead = {"terminated", "shutting-down", "stopping", "stopped"}
    wait_state(work, instance, "running", dead=dead, timeout=RUNNING_S)


def revive(work: Work, instance: str) -> None:
    """Wait until the builder runs; one that an interrupted run had stopped is started again."""
    described = state(work.target, instance) if work.past else None
    if described is not None and described["State"]["Name"] in {"stopping", "stopped"}:
        wait_stopped(work, instance)
        with work.journal.action("ec2.StartInstances", id=instance):
            work.target.call(work.target.client("ec2").start_instances, InstanceIds=[instance])
    wait_running(work, instance)


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

    def look() -> None:
        described = state(target, instance)
        if described is not None and described["State"]["Name"] != "running":
            raise BuildError(f"the builder is {described['State']['Name']}", resource=instance)

    return agent.wait_online(
        target,
        instance,
        timeout=timeout,
        hint="the subnet needs a way to SSM (NAT, a public address, or VPC endpoints for ssm, ssmmessages and "
        "ec2messages), the profile the agent's actions, and the base image the agent; docs/aws.md shows how to check",
        look=look,
        tick=lambda waited: work.progress.update(f"{waited:.0f} s"),
    )


def terminate(target: Target, instance: str) -> None:
    """Terminate an instance and wait until it is gone; its volumes and interfaces go with it.

    An instance that EC2 does not know was launched a moment ago, or has been gone for an hour: EC2 must say so several
    times in a row before the latter is believed, and it is told again for as long as it shows the instance alive.
    """
    ec2 = target.client("ec2")
    unknown = 0

    def ask() -> None:
        try:
            target.call(ec2.terminate_instances, InstanceIds=[instance])
        except AwsError as error:
            if error.code != "InvalidInstanceID.NotFound":
                raise

    def check() -> bool | None:
        nonlocal unknown
        described = state(target, instance)
        if described is None:
            unknown += 1
            return unknown >= FORGOTTEN_AFTER or None
        unknown = 0
        if described["State"]["Name"] not in {"shutting-down", "terminated"}:
            ask()
        return described["State"]["Name"] == "terminated" or None

    ask()
    target.poll(check, what=f"{instance} to be terminated", timeout=RUNNING_S, patient=True)


def find_tagged(target: Target, run_id: str) -> list[Any]:
    """Describe the builders of a run that are not gone."""
    found = target.call(
        target.client("ec2").describe_instances,
        Filters=[
            {"Name": "tag:leptonami:run", "Values": [run_id]},
            # A node that somebody tagged with the run its image came from is not a builder.
            {"Name": "tag:leptonami:step", "Values": ["builder"]},
            {"Name": "tag-key", "Values": ["leptonami:expires"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ],
    )["Reservations"]
    return [each for reservation in found for each in reservation["Instances"]]


def terminate_tagged(target: Target, run_id: str) -> None:
    """Terminate whatever this run launched: for a launch whose answer never came."""
    for each in find_tagged(target, run_id):
        terminate(target, each["InstanceId"])
