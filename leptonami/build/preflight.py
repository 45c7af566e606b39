"""Everything that can be known before the first call that costs something. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonami.build import base as bases
from leptonami.build import sizing, steps
from leptonami.build.names import LIFETIME, Names
from leptonami.errors import BuildError, InputError
from leptonami.runs import now
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leptonami.build.past import Past
    from leptonami.plan import Plan

__all__ = ["Machine", "Site", "Subnet", "survey"]

# The deadlines of all that a build waits for beside its steps and its image: 15 min to run, 15 to answer, 15 to be
# verified, 30 to stop, 15 to go; and what lies between.
REST_S = 3 * 3600
ARCHITECTURE = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True)
class Machine:
    """An instance type that the builder may be: its accelerators are what the image's driver is proved on."""

    type: str
    gpus: int
    gpu: str | None
    spot: bool


@dataclass(frozen=True)
class Subnet:
    """A subnet that the builder may be put into."""

    id: str
    zone: str
    vpc: str
    free: int
    public: bool


@dataclass(frozen=True)
class Site:
    """Where a build will take place, as found by `survey`."""

    account: str
    partition: str
    names: Names
    base: bases.BaseImage
    machines: tuple[Machine, ...]
    subnets: tuple[Subnet, ...]
    image_name: str
    budget: sizing.Budget

    @property
    def vpc(self) -> str:
        """The VPC of all its subnets."""
        return self.subnets[0].vpc


def survey(target: Target, plan: Plan, run_id: str, past: Past | None = None) -> Site:
    """Look at the account and the region, and refuse what cannot work.

    A run that goes on keeps the base image that it began with, and its image's name may be taken by itself.

    Raises
    ------
    InputError
        If the plan asks for something that is not there: an instance type, a subnet, a free name, enough disk.
    BuildError
        If the base image cannot be found or is not what it should be.
    CredentialsError
        If there are no credentials, or they may not look.
    """
    caller = target.identity()
    # What a run makes that goes on lives as long as what a new run makes.
    since = now() if past else None
    names = Names(run=run_id, plan=plan.name, owner=caller.name, wait=patience(plan), since=since)
    image_name = names.image(
        plan.image.name, family=plan.family, os=plan.os, kubernetes=plan.kubernetes, architecture=plan.architecture
    )
    recorded = past.base if past is not None else None
    base = bases.resolve(target, plan) if recorded is None else bases.again(target, plan, recorded)
    budget = sizing.budget(plan, base)
    if not budget.fits:
        raise InputError(
            f"the root volume of {plan.root_volume.size_gib} GiB is too small: {budget.explain()}",
            resource=f"{plan.path}: root_volume.size_gib",
            hint=f"make it at least {budget.needed_gib} GiB, or pre-fetch less",
        )
    check_name(target, image_name, plan, run_id)
    return Site(
        account=caller.account,
        partition=caller.partition,
        names=names,
        base=base,
        machines=find_machines(target, plan),
        subnets=find_subnets(target, plan),
        image_name=image_name,
        budget=budget,
    )


def patience(plan: Plan) -> int:
    """Give the seconds that what is temporary may be needed beyond `LIFETIME`: no live builder looks expired.

    The plan's deadline for the image, and what its steps may take more than leaves room for all the rest.
    """
    longest = sum(use.timeout or steps.catalogue()[use.name].timeout for use in plan.steps)
    return plan.image.wait + max(0, longest + REST_S - int(LIFETIME.total_seconds()))


def check_name(target: Target, name: str, plan: Plan, run_id: str) -> None:
    """Refuse an AMI name that is taken by another run or by anybody else."""
    taken = target.call(
        target.client("ec2").describe_images,
        Owners=["self"],
        # A disabled image has its name still.
        IncludeDisabled=True,
        Filters=[{"Name": "name", "Values": [escape_filter(name)]}],
    )["Images"]
    ours = {"Key": "leptonami:run", "Value": run_id}
    if taken and ours not in taken[0].get("Tags", []):
        raise InputError(
            f"the AMI name {name!r} is taken by {taken[0]['ImageId']}",
            resource=f"{plan.path}: image.name",
            hint="put {run} or {time} into image.name, or retire the old image",
        )


def escape_filter(value: str) -> str:
    """Escape what has a meaning in an EC2 filter (`*`, `?` and the backslash)."""
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def find_machines(target: Target, plan: Plan) -> tuple[Machine, ...]:
    """Check the plan's instance types, in the plan's order."""
    where = f"{plan.path}: builder.instance_types"
    wanted: Sequence[Any] = plan.builder.instance_types
    try:
        found = target.call(target.client("ec2").describe_instance_types, InstanceTypes=list(wanted))["InstanceTypes"]
    except AwsError as error:
        if error.code != "InvalidInstanceType":
            raise
        raise InputError(
            f"not in {target.region}: {error.aws_message}", resource=where, hint="choose types that the region has"
        ) from error
    facts: Mapping[str, Any] = {each["InstanceType"]: each for each in found}
    machines = []
    for name in wanted:
        fact = facts[name]
        architectures = [
            ARCHITECTURE[each] for each in fact["ProcessorInfo"]["SupportedArchitectures"] if each in ARCHITECTURE
        ]
        if plan.architecture not in architectures:
            raise InputError(
                f"{name} is {' and '.join(architectures) or 'neither amd64 nor arm64'}, the plan {plan.architecture}",
                resource=where,
                hint=f"choose an instance type for {plan.architecture}",
            )
        gpus = fact.get("GpuInfo", {}).get("Gpus", [])
        nvidia = [each for each in gpus if each.get("Manufacturer") == "NVIDIA"]
        if plan.needs_gpu and not nvidia:
            raise InputError(
                f"{name} has no NVIDIA GPU, and the plan has steps that are proved on one",
                resource=where,
                hint="choose a type of the g or p families, such as g4dn.xlarge",
            )
        machines.append(
            Machine(
                type=name,
                gpus=sum(int(each.get("Count", 1)) for each in nvidia),
                gpu=str(nvidia[0].get("Name")) if nvidia else None,
                spot="spot" in fact.get("SupportedUsageClasses", ["on-demand", "spot"]),
            )
        )
    return tuple(machines)


def find_subnets(target: Target, plan: Plan) -> tuple[Subnet, ...]:
    """Check the plan's subnets, or take the default VPC's; the one with most free addresses comes first there."""
    ec2 = target.client("ec2")
    where = f"{plan.path}: builder.subnets"
    if plan.builder.subnets:
        try:
            found = target.call(ec2.describe_subnets, SubnetIds=list(plan.builder.subnets))["Subnets"]
        except AwsError as error:
            if not error.code.startswith("InvalidSubnet"):
                raise
            raise InputError(
                error.aws_message, resource=where, hint=f"use subnets of this account in {target.region}"
            ) from error
        order = {name: index for index, name in enumerate(plan.builder.subnets)}
        found.sort(key=lambda each: order[each["SubnetId"]])
    else:
        found = target.call(
            ec2.describe_subnets,
            Filters=[{"Name": "default-for-az", "Values": ["true"]}, {"Name": "state", "Values": ["available"]}],
        )["Subnets"]
        if not found:
            raise InputError(
                f"{target.region} has no default VPC", resource=where, hint="name the subnets in builder.subnets"
            )
        found.sort(key=lambda each: (-each["AvailableIpAddressCount"], each["AvailabilityZone"]))
    subnets = tuple(
        Subnet(
            id=each["SubnetId"],
            zone=each["AvailabilityZone"],
            vpc=each["VpcId"],
            free=each["AvailableIpAddressCount"],
            public=each.get("MapPublicIpOnLaunch", False),
        )
        for each in found
        if each["AvailableIpAddressCount"] > 0
    )
    if not subnets:
        raise BuildError("no subnet has a free address", resource=where, hint="free some, or name other subnets")
    vpcs = {each.vpc for each in subnets}
    if len(vpcs) > 1:
        raise InputError(
            f"the subnets are in {len(vpcs)} VPCs ({', '.join(sorted(vpcs))})",
            resource=where,
            hint="name subnets of one VPC: the builder's security group belongs to one",
        )
    return subnets


def imagine(plan: Plan, run_id: str) -> Site:
    """Give a site without looking, for a plan without credentials: what only AWS knows stands in angle brackets."""
    names = Names(run=run_id, plan=plan.name, owner="<you>", wait=patience(plan))
    base = bases.BaseImage(
        id=(plan.base.ami if plan.base is not None else None) or "<from SSM>",
        name=f"<like {plan.release.image_name_example}>",
        owner=plan.release.owner,
        architecture=plan.architecture,
        root_device=plan.release.root_device,
        root_gib=0,
        created="",
        deprecated=None,
        source="not looked up",
        parameter=plan.release.ssm_parameter if plan.base is None else plan.base.ssm,
    )
    subnets = plan.builder.subnets or ("<a subnet of the default VPC>",)
    return Site(
        account="<account>",
        partition="aws",
        names=names,
        base=base,
        machines=tuple(Machine(each, 0, None, True) for each in plan.builder.instance_types),
        subnets=tuple(Subnet(each, "<its zone>", "<its VPC>", 0, False) for each in subnets),
        image_name=names.image(
            plan.image.name, family=plan.family, os=plan.os, kubernetes=plan.kubernetes, architecture=plan.architecture
        ),
        budget=sizing.budget(plan, base),
    )
