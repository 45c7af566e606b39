"""The base image: found through SSM, by id or by a name with its owner, and checked before anything is built on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leptonami.errors import BuildError, InputError
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.plan import Plan

__all__ = ["BaseImage", "again", "resolve"]

EC2_ARCHITECTURE = {"amd64": "x86_64", "arm64": "arm64"}


@dataclass(frozen=True)
class BaseImage:
    """The image that a build starts from, and how it was found.

    Attributes
    ----------
    root_gib
        The size of its root snapshot; the builder's volume cannot be smaller.
    source
        `ssm`, `ami` or `name`.
    parameter, parameter_version, parameter_modified
        The SSM parameter it was found through: its value changes with each release, so its version is recorded.
    """

    id: str
    name: str
    owner: str
    architecture: str
    root_device: str
    root_gib: int
    created: str
    deprecated: str | None
    source: str
    parameter: str | None = None
    parameter_version: int | None = None
    parameter_modified: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data for the manifest."""
        return asdict(self)


def resolve(target: Target, plan: Plan) -> BaseImage:
    """Find the plan's base image and check that it is what the plan takes it for.

    Raises
    ------
    BuildError
        If the parameter does not exist, nothing matches, or the image has another owner or architecture.
    """
    found: dict[str, Any] = {}
    base = plan.base
    if base is not None and base.ami:
        source, image = "ami", describe(target, base.ami)
    elif base is not None and base.name:
        source, image = "name", newest(target, plan, base.name)
    else:
        source = "ssm"
        name = base.ssm if base is not None and base.ssm else plan.release.ssm_parameter
        parameter = read_parameter(target, name, plan)
        found = {
            "parameter": name,
            "parameter_version": parameter.get("Version"),
            "parameter_modified": str(parameter.get("LastModifiedDate") or "") or None,
        }
        image = describe(target, parameter["Value"])
    checked = check(image, plan, source=source, account=None if source != "ami" else target.identity().account)
    root = checked["RootDeviceName"]
    mappings = {each["DeviceName"]: each.get("Ebs", {}) for each in checked.get("BlockDeviceMappings", [])}
    return BaseImage(
        id=checked["ImageId"],
        name=checked.get("Name", ""),
        owner=checked["OwnerId"],
        architecture=plan.architecture,
        root_device=root,
        root_gib=int(mappings.get(root, {}).get("VolumeSize", 0)),
        created=checked.get("CreationDate", ""),
        deprecated=checked.get("DeprecationTime"),
        source=source,
        **found,
    )


def again(target: Target, plan: Plan, recorded: dict[str, Any]) -> BaseImage:
    """Take the base image that the run began with, and check that it is still there and still what it was."""
    try:
        base = BaseImage(**recorded)
    except TypeError as error:
        raise BuildError(
            f"the run's journal describes the base image as this version does not: {error}",
            resource="journal.jsonl",
            hint="go on with the version that began the run, or start a new one and sweep what this one left",
        ) from error
    check(describe(target, base.id), plan, source=base.source, account=base.owner)
    return base


def read_parameter(target: Target, name: str, plan: Plan) -> Any:
    """Read an SSM parameter; a public one that does not exist gets a hint."""
    try:
        return target.call(target.client("ssm").get_parameter, Name=name)["Parameter"]
    except AwsError as error:
        if error.code not in {"ParameterNotFound", "ValidationException"}:
            raise
        raise BuildError(
            f"the SSM parameter does not exist in {target.region} ({error.code})",
            resource=name,
            hint=f"is {plan.family} {plan.os} published for Kubernetes {plan.kubernetes} on {plan.architecture} in "
            "this region? `leptonami catalog list` shows what exists; `base: {ami: ...}` in the plan pins an image",
        ) from error


def describe(target: Target, image_id: str) -> Any:
    """Describe one image."""
    try:
        images = target.call(target.client("ec2").describe_images, ImageIds=[image_id])["Images"]
    except AwsError as error:
        if not error.code.startswith("InvalidAMIID"):
            raise
        images = []
    if not images:
        raise BuildError(
            f"no such image in {target.region}, or it is not shared with this account",
            resource=image_id,
            hint="AMI ids differ from region to region: check `region` and `base` in the plan",
        )
    return images[0]


def newest(target: Target, plan: Plan, pattern: str) -> Any:
    """Find the newest image of the family's owner whose name matches."""
    images = target.call(
        target.client("ec2").describe_images,
        Owners=[plan.release.owner],
        Filters=[
            {"Name": "name", "Values": [pattern]},
            {"Name": "architecture", "Values": [EC2_ARCHITECTURE[plan.architecture]]},
            {"Name": "state", "Values": ["available"]},
        ],
    )["Images"]
    if not images:
        raise BuildError(
            f"no image of owner {plan.release.owner} matches",
            resource=pattern,
            hint=f"the names of this family look like {plan.release.image_name_example}",
        )
    return max(images, key=lambda image: image.get("CreationDate", ""))


def check(image: Any, plan: Plan, *, source: str, account: str | None) -> Any:
    """Refuse an image of another owner, another architecture, or one that is not usable.

    A name or a parameter can be made to point anywhere: the owner is what cannot be imitated.
    """
    owners = {plan.release.owner}
    if account is not None:
        owners.add(account)
    where = f"{image['ImageId']} ({image.get('Name', 'no name')})"
    if image["OwnerId"] not in owners:
        raise BuildError(
            f"the image belongs to {image['OwnerId']}, not to {plan.release.owner}, who publishes {plan.family}",
            resource=where,
            hint="do not build on it unless you know whose it is; `base: {ami: ...}` takes images of your own account",
        )
    if image["Architecture"] != EC2_ARCHITECTURE[plan.architecture]:
        raise BuildError(
            f"the image is for {image['Architecture']}, the plan for {plan.architecture}",
            resource=where,
            hint="change `architecture` or `base` in the plan",
        )
    if image.get("State") != "available":
        raise BuildError(f"the image is {image.get('State')}", resource=where, hint="choose another with `base`")
    if image.get("RootDeviceType") != "ebs":
        raise BuildError("the image's root device is not an EBS volume", resource=where)
    if source == "ami" and not image.get("Name"):
        raise InputError("the image has no name", resource=where)
    return image
