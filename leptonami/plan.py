"""The plan file: what to build, checked before anything is called.

`load` reads a plan, checks all of it at once against the rules of AWS, the catalog and the provisioning steps, and
gives a frozen `Plan` in which nothing is left to guess: durations are seconds, the image list is read, the steps are
in the order in which they run. `docs/plan.md` is the reference for people, `json_schema` the one for editors.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import string
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from leptonami import catalog, datafiles, imagelist
from leptonami.build import steps as provisioning
from leptonami.build.names import AMI_NAME
from leptonami.build.steps import StepUse
from leptonami.catalog import Release
from leptonami.errors import InputError
from leptonami.imagelist import Image
from leptonami.validation import Matching, Strict, Wrong, near, show, validate
from leptonami.yamlfile import Document, FileError, Float, Int, Location, Problem, quoted, read, refuse

__all__ = ["Plan", "duration", "find", "is_arm64", "is_nvidia", "json_schema", "load", "seconds"]

DURATION = r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?"
UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

# Steps that are proved on a GPU before the image is made, so the builder needs one.
GPU_STEPS = frozenset({"nvidia-driver", "nvidia-toolkit", "gpu-guard"})

# https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html: 50 tags a resource; the rest
# is ours (run, plan, step, owner, expiry, Name, and what the image says about itself).
MAX_TAGS = 35
TAG_TEXT = re.compile(r"[\w\s+\-=.:/@]*")

# What `image.name` may contain; leptonami.build.names fills it in.
PLACEHOLDERS = {
    "plan": "ubuntu",
    "run": "20261123-211500-a1b2c3",
    "date": "20261123",
    "time": "211500",
    "family": "ubuntu-eks",
    "os": "22.04",
    "kubernetes": "1.33",
    "architecture": "amd64",
}


def seconds(text: str) -> int:
    """Read a duration: `90s`, `10m`, `1h30m`, `4h`, `90d`.

    Raises
    ------
    Wrong
        If it is none.
    """
    found = re.fullmatch(DURATION, text)
    if found is None or not text:
        raise Wrong(f"not a duration: {show(text)}", "a number with its unit (s, m, h or d): 90s, 10m, 1h30m, 90d")
    return sum(int(number) * unit for number, (_, unit) in zip(found.groups(), UNITS, strict=True) if number)


def duration(value: int) -> str:
    """Write seconds as a duration.

    >>> duration(5400)
    '1h30m'
    """
    text = ""
    for name, unit in UNITS:
        count, value = divmod(value, unit)
        text += f"{count}{name}" if count else ""
    return text or "0s"


def to_seconds(value: Any) -> Any:
    """Read a duration for pydantic; a bare number is refused, since nobody can see its unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Wrong(
            f"{show(value)} has no unit", f"write {show(value)}s, {show(value)}m, {show(value)}h or {show(value)}d"
        )
    return seconds(value) if isinstance(value, str) else value


DURATION_SCHEMA = {"type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "examples": ["10m", "4h"]}
Duration = Annotated[int, BeforeValidator(to_seconds), WithJsonSchema(DURATION_SCHEMA)]


def is_arm64(instance_type: str) -> bool:
    """Tell from an instance type's name whether it is arm64.

    The `g` right after the generation is for Graviton (m7g, c6gn, g5g, im4gn), `a1` was the first, and the `gb` of
    p6e-gb200 is for Grace. https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
    """
    family = instance_type.partition(".")[0]
    return family == "a1" or re.fullmatch(r"[a-z]+[0-9]+g[a-z]*(?:-[a-z0-9]+)?", family) is not None or "-gb" in family


def is_nvidia(instance_type: str) -> bool:
    """Tell from an instance type's name whether it has an NVIDIA GPU: P and G instances but g4ad (AMD).

    https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
    """
    family = instance_type.partition(".")[0]
    return re.match(r"(?:p[2-9]|g[3-9]|gr[6-9])", family) is not None and not family.startswith("g4ad")


Name = Annotated[
    str,
    Matching(
        r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?",
        "a name",
        "up to 63 of a-z, 0-9, . and -, beginning with a letter or digit",
    ),
]
Region = Annotated[str, Matching(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]", "an AWS region", "such as us-west-2")]
Kubernetes = Annotated[str, Matching(r"1\.[0-9]{1,2}", "a Kubernetes version of EKS", 'major and minor only: "1.33"')]
AmiId = Annotated[str, Matching(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})", "an AMI id", "ami- and 17 hexadecimal digits")]
SubnetId = Annotated[
    str, Matching(r"subnet-(?:[0-9a-f]{8}|[0-9a-f]{17})", "a subnet id", "subnet- and 17 hexadecimal digits")
]
GroupId = Annotated[
    str, Matching(r"sg-(?:[0-9a-f]{8}|[0-9a-f]{17})", "a security group id", "sg- and 17 hexadecimal digits")
]
Parameter = Annotated[
    str, Matching(r"/[A-Za-z0-9_./-]{1,1010}", "the name of an SSM parameter", "it begins with / and has no spaces")
]
# The names that leptonami makes of it have five levels more (docs/publish.md), and SSM allows fifteen; names that begin
# with aws or ssm are AWS's. https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
OwnParameter = Annotated[
    str,
    Matching(
        r"/(?!(?i:aws|ssm))[A-Za-z0-9_.-]{1,100}(?:/[A-Za-z0-9_.-]{1,100}){0,5}",
        "the name of an SSM parameter of your own",
        "such as /leptonami/ubuntu-22.04-gpu: up to six parts of letters, digits, - _ and ., without a / at the end; "
        "names that begin with aws or ssm belong to AWS",
    ),
]
Zone = Annotated[
    str, Matching(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9][a-z]", "an Availability Zone", "such as us-west-2a; no Local Zone")
]
InstanceType = Annotated[
    str,
    Matching(
        r"[a-z][a-z0-9-]*[0-9][a-z0-9-]*\.(?:nano|micro|small|medium|large|[0-9]*xlarge|metal(?:-[a-z0-9]+)?)",
        "an instance type",
        "such as g5.xlarge",
    ),
]
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateInstanceProfile.html
ProfileName = Annotated[
    str,
    Matching(r"[A-Za-z0-9_+=,.@-]{1,128}", "the name of an instance profile", "the name alone, not its ARN"),
]
# https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
PolicyArn = Annotated[
    str,
    Matching(
        r"arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]{1,640}",
        "the ARN of an IAM policy",
        "such as arn:aws:iam::123456789012:policy/image-builders",
    ),
]
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
KmsKey = Annotated[
    str,
    Matching(
        r"alias/[A-Za-z0-9/_-]{1,250}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}"
        r"|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key/(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})"
        r"|alias/[A-Za-z0-9/_-]{1,250})",
        "a KMS key",
        "a key id, alias/name, or the ARN of either",
    ),
]


def no_everybody(value: Any) -> Any:
    """Refuse to share with everybody, by whatever name."""
    if isinstance(value, str) and value.lower() in {"all", "public", "*", "everyone"}:
        raise Wrong("an image is never made public", "list the accounts that may use it, each as 12 digits in quotes")
    return value


AccountId = Annotated[
    str,
    Matching(r"[0-9]{12}", "an AWS account id", 'twelve digits in quotes: "123456789012"'),
    BeforeValidator(no_everybody),
]
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LaunchPermission.html takes ARNs of organizations and OUs.
Organization = Annotated[
    str,
    Matching(
        r"arn:aws[a-z-]*:organizations::[0-9]{12}:(?:organization/o-[a-z0-9]{10,32}"
        r"|ou/o-[a-z0-9]{10,32}/ou-[a-z0-9]{4,32}-[a-z0-9]{8,32})",
        "the ARN of an organization or organizational unit",
        "arn:aws:organizations::<management account>:organization/o-... (aws organizations describe-organization)",
    ),
    BeforeValidator(no_everybody),
]


class Base(Strict):
    """Where to find the image to build on, if not through the catalog's SSM parameter: one of three ways."""

    ssm: Parameter | None = Field(default=None, description="An SSM parameter whose value is an AMI id.")
    ami: AmiId | None = Field(
        default=None, description="One AMI. The only way to build on exactly the same base again."
    )
    name: Annotated[str, Matching(r"[^\s].{1,126}[^\s]", "a name or name pattern", "3 to 128 characters")] | None = (
        Field(default=None, description="A name pattern with * and ?; the newest match of the family's owner is taken.")
    )

    @model_validator(mode="after")
    def one_way(self) -> Base:
        """Take exactly one way."""
        given = [name for name in ("ssm", "ami", "name") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "is empty"
            raise Wrong(f"base {found}", "give one of ssm, ami and name, or leave base out")
        return self


def each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what stands twice."""
    for each in value:
        if value.count(each) > 1:
            raise Wrong(f"{each} stands twice", "list it once")
    return value


class Builder(Strict):
    """The EC2 instance that the image is made from."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(strict=False)] = Field(
        min_length=1, max_length=20, description="Tried in this order until one has capacity."
    )
    subnets: Annotated[tuple[SubnetId, ...], Field(strict=False)] = Field(
        default=(), max_length=50, description="Tried in this order; without any, the default VPC's."
    )
    security_groups: Annotated[tuple[GroupId, ...], Field(strict=False)] = Field(
        default=(), max_length=5, description="Without any: a temporary one without inbound rules."
    )
    instance_profile: ProfileName | None = Field(default=None, description="Without one: a temporary, narrow one.")
    permissions_boundary: PolicyArn | None = Field(
        default=None, description="What the temporary profile's role can never exceed, whatever it is given."
    )
    spot: bool = Field(default=False, description="Try spot capacity first, then on demand.")
    public_ip: Literal["auto", True, False] = Field(
        default="auto", description="Whether the builder gets a public address; auto is what the subnet does."
    )

    @model_validator(mode="after")
    def one_role(self) -> Builder:
        """Refuse a boundary for a role that is not ours to make."""
        if self.instance_profile is not None and self.permissions_boundary is not None:
            raise Wrong(
                "builder has instance_profile and permissions_boundary",
                "the boundary is for the temporary role: put it on the role in your profile yourself, and leave it out",
            )
        return self

    @field_validator("instance_types", "subnets", "security_groups")
    @classmethod
    def once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what stands twice."""
        return each_once(value)


class RootVolume(Strict):
    """The builder's root volume, which becomes the image's. It is always encrypted."""

    size_gib: int = Field(default=40, ge=8, le=65_536, description="GiB. At least what the base image has.")
    type: Literal["gp3", "gp2", "io1", "io2"] = "gp3"
    iops: int | None = Field(default=None, ge=100, le=256_000)
    throughput: int | None = Field(default=None, ge=125, le=2_000, description="MiB/s, for gp3.")
    kms_key: KmsKey | None = Field(default=None, description="Without one: the account's default key for EBS.")

    @model_validator(mode="after")
    def possible(self) -> RootVolume:
        """Refuse what EBS refuses.

        https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html#gp3-ebs-volume-type and
        https://docs.aws.amazon.com/ebs/latest/userguide/provisioned-iops.html
        """
        if self.type == "gp2" and self.iops is not None:
            raise Wrong("a gp2 volume takes no iops", "leave iops out, or use gp3")
        if self.type != "gp3" and self.throughput is not None:
            raise Wrong(f"a {self.type} volume takes no throughput", "leave throughput out, or use gp3")
        if self.type in {"io1", "io2"} and self.iops is None:
            raise Wrong(f"an {self.type} volume needs iops")
        iops = self.iops if self.iops is not None else 3_000
        if self.type == "gp3":
            if iops < 3_000 or iops > max(3_000, min(80_000, 500 * self.size_gib)):
                most = max(3_000, min(80_000, 500 * self.size_gib))
                raise Wrong(f"{iops} iops", f"a gp3 volume of {self.size_gib} GiB has 3000 to {most}")
            if self.throughput is not None and self.throughput > iops / 4:
                raise Wrong(f"{self.throughput} MiB/s with {iops} iops", "gp3 gives 0.25 MiB/s for each of its iops")
        ratio = {"io1": 50, "io2": 1_000}.get(self.type)
        if ratio is not None and iops > ratio * self.size_gib:
            raise Wrong(
                f"{iops} iops", f"an {self.type} volume of {self.size_gib} GiB has at most {ratio * self.size_gib}"
            )
        return self


class ImageSettings(Strict):
    """The AMI."""

    name: str = Field(
        default="leptonami-{plan}-{date}-{run}",
        description="A template; placeholders: " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS),
    )
    description: (
        Annotated[str, Matching(r"[ -~]{0,255}", "a description", "up to 255 printable ASCII characters on one line")]
        | None
    ) = None
    wait: Duration = Field(
        default=4 * 3_600, ge=60, le=7 * 86_400, description="How long to wait until EC2 has made the image."
    )

    @field_validator("name")
    @classmethod
    def expands(cls, value: str) -> str:
        """Check the template; the name that comes out is checked by `check_image_name`."""
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise Wrong(
                f"not a template: {error}", "a placeholder is {plan}; a brace of its own is {{ or }}"
            ) from error
        for _, field, spec, conversion in parts:
            if field is None:
                continue
            if field not in PLACEHOLDERS:
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                raise Wrong(f"unknown placeholder {{{field}}}", near(field, PLACEHOLDERS) or f"there are {known}")
            if spec or conversion:
                raise Wrong(f"the placeholder {{{field}}} takes no format", f"write {{{field}}}")
        return value


class FastSnapshotRestore(Strict):
    """EBS Fast Snapshot Restore of the image's snapshots; it is billed for every hour in every zone."""

    zones: Annotated[tuple[Zone, ...], Field(strict=False)] = Field(
        min_length=1, max_length=20, description="In the plan's region, or in one that copies go to."
    )
    replace: bool = Field(
        default=False, description="End it for the plan's other images in these zones, once this one is published."
    )

    @field_validator("zones")
    @classmethod
    def once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what stands twice."""
        return each_once(value)


class FastLaunch(Strict):
    """How volumes made from the image get their blocks, which EBS loads lazily: one of three ways."""

    volume_initialization_rate: int | None = Field(
        default=None,
        ge=100,
        le=300,
        description="MiB/s at which each new volume is filled; a launch template's setting.",
    )
    fast_snapshot_restore: FastSnapshotRestore | None = None
    pre_read: Literal[True] | None = Field(
        default=None, description="Read the files that a node needs first at its boot; a launch template's user data."
    )

    @model_validator(mode="after")
    def one_way(self) -> FastLaunch:
        """Take exactly one way: an initialization rate overrides Fast Snapshot Restore, which still costs."""
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "is empty"
            hint = f"give one of {', '.join(type(self).model_fields)}, or leave fast_launch out"
            raise Wrong(f"fast_launch {found}", hint)
        return self


class Publish(Strict):
    """What `leptonami publish` does with the image: copies, who may use it, where its id is written, how it ages."""

    regions: Annotated[tuple[Region, ...], Field(strict=False)] = Field(
        default=(), max_length=40, description="Copies go there."
    )
    kms_keys: dict[Region, KmsKey] = Field(
        default={}, description="The key of each copy; without one, the default key for EBS of its region."
    )
    copy_within: Duration | None = Field(
        default=None, ge=900, le=172_800, description="A time-based copy, which costs more: 15m to 48h in steps of 15m."
    )
    accounts: Annotated[tuple[AccountId, ...], Field(strict=False)] = Field(
        default=(), max_length=500, description="Accounts that may launch it, and read its snapshots. Never everybody."
    )
    organizations: Annotated[tuple[Organization, ...], Field(strict=False)] = Field(
        default=(), max_length=100, description="Organizations and OUs (ARNs) that may launch it."
    )
    ssm_parameter: OwnParameter | None = Field(
        default=None,
        description="Where the image's id is kept: below it, /<family>/<os>/<kubernetes>/<architecture>/latest.",
    )
    deprecate_after: Duration | None = Field(
        default=None, ge=60, le=10 * 365 * 86_400, description="Counted from when the image was made."
    )
    protect: bool = Field(default=False, description="Protect the image against being deregistered.")
    fast_launch: FastLaunch | None = Field(
        default=None, description="Without it, volumes made from the image are filled as they are read."
    )

    @field_validator("regions", "accounts", "organizations")
    @classmethod
    def once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what stands twice."""
        return each_once(value)

    @field_validator("copy_within")
    @classmethod
    def in_quarters(cls, value: int | None) -> int | None:
        """Take what EC2 takes. https://docs.aws.amazon.com/ebs/latest/userguide/time-based-copies.html."""
        if value is not None and value % 900:
            raise Wrong(f"{duration(value)} is no multiple of 15 minutes", "15m, 30m, 1h, ... up to 48h")
        return value

    @property
    def asks_for_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return self == Publish()


class Common(Strict):
    """What the plan's file and the checked plan have in common."""

    schema_: Literal[1] = Field(alias="schema", description="The version of this format.")
    name: Name = Field(description="Names everything that the plan makes.")
    family: str = Field(description="A family of the catalog (leptonami catalog list).")
    os: str = Field(description='The version of the operating system, in quotes: "22.04".')
    kubernetes: Kubernetes = Field(description='The Kubernetes version, in quotes: "1.33".')
    architecture: Literal["amd64", "arm64"]
    region: Region
    base: Base | None = Field(default=None, description="Without it: the catalog's SSM parameter.")
    builder: Builder
    root_volume: RootVolume = RootVolume()
    image: ImageSettings = ImageSettings()
    tags: dict[str, str] = Field(default={}, max_length=MAX_TAGS)
    publish: Publish = Publish()

    @field_validator("tags")
    @classmethod
    def tags_of_aws(cls, value: dict[str, str]) -> dict[str, str]:
        """Refuse tags that AWS refuses, and those that are leptonami's own."""
        for key, text in value.items():
            if key.lower().startswith("aws:"):
                raise Wrong(f"the tag {key!r} begins with aws:, which AWS keeps for itself", "choose another name")
            if key.lower().startswith("leptonami:"):
                raise Wrong(
                    f"the tag {key!r} begins with leptonami:, by which leptonami knows its own", "choose another name"
                )
            if not 1 <= len(key) <= 128 or TAG_TEXT.fullmatch(key) is None:
                raise Wrong(
                    f"not the key of a tag: {show(key)}", "1 to 128 letters, digits, spaces and + - = . _ : / @"
                )
            if len(text) > 256 or TAG_TEXT.fullmatch(text) is None:
                hint = "up to 256 letters, digits, spaces and + - = . _ : / @"
                raise Wrong(f"not the value of the tag {key!r}: {show(text)}", hint)
        return value


class PlanFile(Common):
    """What a plan's file holds. The steps are checked against what they declare, in `StepReader`."""

    steps: Any = Field(default=(), description="Provisioning steps, in the order in which they run.")


class Plan(Common):
    """A plan that has been checked: the file's content, and what it refers to.

    Attributes
    ----------
    path
        The file.
    steps
        In the order in which they run, paths resolved.
    images
        What the step `prefetch` pulls, for the plan's architecture.
    release
        The catalog's entry for the base image.
    digest
        SHA-256 of what is built: the plan, its image list and its scripts; not their places, and not `publish`.
    warnings
        What a reader should know before building.
    """

    path: Path
    steps: tuple[StepUse, ...]
    images: tuple[Image, ...]
    release: Release
    digest: str
    warnings: tuple[str, ...]

    @property
    def needs_gpu(self) -> bool:
        """Whether the builder must have an NVIDIA GPU."""
        return any(use.name in GPU_STEPS for use in self.steps)


class StepReader:
    """Reads the steps of a plan's file and checks each of them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.uses: list[StepUse] = []
        # Where each use stands, by its place as text: that is what errors of the steps carry.
        self.locations: dict[str, Location] = {}
        self.image_list: imagelist.ImageList | None = None
        # What goes into the plan's digest in place of paths.
        self.content: list[dict[str, Any]] = []

    def read(self) -> None:
        """Read all steps; what is wrong is in `problems`."""
        raw = self.document.data.get("steps")
        if raw is None:
            return
        if not isinstance(raw, list):
            self.wrong(("steps",), "a list of steps is wanted", "write each step on a line of its own: - settle")
            return
        for index, entry in enumerate(raw):
            self.step(("steps", index), entry)

    def wrong(self, location: Location, message: str, hint: str | None = None) -> None:
        """Note a problem."""
        self.problems.append(self.document.problem(location, message, hint))

    def step(self, location: Location, entry: Any) -> None:
        """Read one step: a name, or a mapping of one name to its options."""
        options: Any
        if isinstance(entry, str):
            name, options, place = entry, {}, location
        elif isinstance(entry, dict) and len(entry) == 1:
            name, options = next(iter(entry.items()))
            place = (*location, name)
        elif isinstance(entry, dict) and entry:
            hint = f"indent the options under {next(iter(entry))}: or give each step a `-` of its own"
            self.wrong(location, f"one step has {len(entry)} keys: {', '.join(map(str, entry))}", hint)
            return
        else:
            self.wrong(location, f"not a step: {show(entry)}", "write its name, or name: {option: value}")
            return
        known = provisioning.catalogue()
        if name not in known:
            self.wrong(place, f"there is no step {name!r}", near(name, known) or f"there are {', '.join(known)}")
            return
        if options is None:
            options = {}
        if not isinstance(options, dict):
            self.wrong(place, f"the options of {name} are {show(options)}", f"write {name}: {{option: value}}")
            return
        self.use(place, known[name], options)

    def use(self, place: Location, step: provisioning.Step, given: Mapping[str, Any]) -> None:
        """Read the options of one step, each by its declared kind."""
        before = len(self.problems)
        timeout: int | None = None
        options: dict[str, Any] = {}
        content: dict[str, Any] = {}
        for name, value in given.items():
            here = (*place, name)
            option = step.option(name)
            if name == "timeout" and option is None:
                timeout = self.timeout(here, value)
                content[name] = timeout
            elif option is None:
                known = [*(each.name for each in step.options), "timeout"]
                self.wrong(
                    here, f"{step.name} has no option {name!r}", near(name, known) or f"there are {', '.join(known)}"
                )
            else:
                options[name], content[name] = self.option(here, step, option, value)
        for option in step.options:
            if option.required and option.name not in given:
                self.wrong(place, f"{step.name} needs the option {option.name!r}", option.help)
        if len(self.problems) > before:
            return
        # A place is text to the steps; it has to name one use only.
        where = self.document.problem(place, "").resource
        use = StepUse(step.name, options, timeout, where)
        try:
            provisioning.check(use)
        except InputError as error:
            self.wrong(place, error.message, error.hint)
            return
        self.locations[where] = place
        self.uses.append(use)
        self.content.append({"step": step.name, "options": content})

    def timeout(self, here: Location, value: Any) -> int | None:
        """Read a step's timeout. Run Command allows two days."""
        try:
            found = to_seconds(value)
        except Wrong as error:
            self.wrong(here, str(error), error.hint)
            return None
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= 172_800:
            self.wrong(here, f"{show(value)} is no timeout", "1s to 2d")
            return None
        return found

    def option(
        self, here: Location, step: provisioning.Step, option: provisioning.StepOption, value: Any
    ) -> tuple[Any, Any]:
        """Read one option; give what the step gets, and what the digest is made of."""
        if option.kind in {"string", "choice", "path"} and not isinstance(value, str):
            if isinstance(value, (Int, Float, bool)):
                text = quoted("true" if value is True else "false" if value is False else value)
                kind = "true/false" if isinstance(value, bool) else "a number"
                self.wrong(here, f"{show(value)} is {kind} to YAML, and text is wanted here", f"write {text}")
            else:
                self.wrong(here, f"{show(value)}, where text is wanted", option.help)
            return None, None
        plain = int(value) if isinstance(value, Int) else value
        if wrong := option.wrong(plain):
            self.wrong(here, wrong, option.help)
            return None, None
        if option.kind != "path":
            return plain, plain
        return self.path(here, step, value)

    def path(self, here: Location, step: provisioning.Step, value: str) -> tuple[Any, Any]:
        """Find a file that a step names, relative to the plan, and read it."""
        found = (Path(self.document.name).parent / value).absolute()
        if step.name == "prefetch":
            try:
                self.image_list = imagelist.load(Path(self.document.name).parent / value)
            except FileError as error:
                self.problems += error.problems
            except InputError as error:
                self.wrong(here, str(error), error.hint)
            return str(found), None
        try:
            if not stat.S_ISREG(found.stat().st_mode):
                self.wrong(here, f"{value} cannot be read: it is not a file", "the path is relative to the plan's file")
                return None, None
            with found.open("rb") as file:
                content = file.read(provisioning.MAX_OWN_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.wrong(here, f"{value} cannot be read: {reason}", "the path is relative to the plan's file")
            return None, None
        if len(content) > provisioning.MAX_OWN_BYTES:
            most = provisioning.MAX_OWN_BYTES // 1024
            self.wrong(
                here, f"{value} is larger than the {most} KiB that Run Command takes", "let it fetch what it needs"
            )
            return None, None
        return str(found), hashlib.sha256(content).hexdigest()

    def arranged(self, *, family: str, architecture: str) -> tuple[StepUse, ...]:
        """Put the steps in order; what stands against it becomes a problem."""
        try:
            return provisioning.arrange(self.uses, family=family, architecture=architecture)
        except InputError as error:
            location = self.locations.get(error.resource or "", ("steps",))
            self.wrong(location, error.message, error.hint)
            return ()


def find(name: Path | str) -> Path:
    """Find a plan: a file, or by the stem of its name one of those in `data/plans`.

    Raises
    ------
    InputError
        If there is neither; the plans that there are get named.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml", ".json"} or len(path.parts) != 1 or path.exists():
        return path
    shipped = sorted(each.stem for each in datafiles.path("plans").glob("*.yaml"))
    if str(name) in shipped:
        return datafiles.path(f"plans/{name}.yaml")
    raise InputError(
        "there is no such plan",
        resource=str(name),
        hint=" ".join(filter(None, [near(str(name), shipped), f"name a file, or one of {', '.join(shipped)}"])),
    )


def load(path: Path | str, *, today: date | None = None) -> Plan:
    """Read a plan and everything it refers to, and check all of it.

    Parameters
    ----------
    path
        The plan's file, or the name of a shipped one. Paths in it are relative to it.
    today
        The day that decides what has ended; today in UTC if not given.

    Raises
    ------
    InputError
        With everything that was found wrong, each with file, line, path in the file, and the way out
        (`yamlfile.FileError` if the file could be read at all).
    """
    path = find(path)
    document = read(path, what="plan")
    model, problems = validate(PlanFile, document)
    if not isinstance(document.data, dict):
        refuse(problems, what="plan")
    reader = StepReader(document)
    reader.read()
    release, against_catalog = find_release(document)
    problems += [*reader.problems, *against_catalog]
    steps: tuple[StepUse, ...] = ()
    if release is not None and not reader.problems:
        steps = reader.arranged(family=release.family, architecture=release.architecture)
        problems += reader.problems
    if model is not None:
        problems += check_regions(model, document)
        problems += [*check_image_name(model, document), *check_builder(model, reader.uses, document)]
        problems += check_publish(model, document)
    refuse(problems, what="plan")
    assert model is not None  # noqa: S101 - without problems there is a model, and a release
    assert release is not None  # noqa: S101
    images = reader.image_list.images(model.architecture) if reader.image_list else ()
    listed = reader.image_list.warnings if reader.image_list else ()
    day = today or datetime.now(UTC).date()
    fields = {name: getattr(model, name) for name in Common.model_fields}
    # Everything has been validated above; model_construct does not look at the dataclasses of others again.
    return Plan.model_construct(
        **fields,
        path=Path(path),
        steps=steps,
        images=images,
        release=release,
        digest=digest(model, reader, images),
        warnings=(*release.warnings(day), *listed, *remarks(model, steps, images)),
    )


def find_release(document: Document) -> tuple[Release | None, list[Problem]]:
    """Find the plan's release in the catalog, as far as what is needed for it is there."""
    data = document.data
    words = {name: data.get(name) for name in ("family", "os", "kubernetes", "architecture")}
    if not all(isinstance(word, str) for word in words.values()):
        return None, []
    region = data.get("region")
    try:
        release = catalog.load().release(
            words["family"],
            words["os"],
            words["kubernetes"],
            words["architecture"],
            region=region if isinstance(region, str) else "us-west-2",
        )
    except InputError as error:
        return None, [document.problem((error.resource or "family",), error.message, error.hint)]
    if not release.buildable:
        buildable = [name for name, family in catalog.load().families.items() if family.not_buildable is None]
        problem = document.problem(
            ("family",),
            f"{release.family} cannot be built on: {release.not_buildable}",
            f"one of {', '.join(buildable)}",
        )
        return None, [problem]
    return release, []


def check_regions(model: PlanFile, document: Document) -> list[Problem]:
    """Check that the regions are there: a build would refuse them when it connects."""
    from leptonami.target import known_regions

    places: list[tuple[Location, str]] = [(("region",), model.region)]
    places += [(("publish", "regions", index), each) for index, each in enumerate(model.publish.regions)]
    known, problems = known_regions(), []
    for location, region in places:
        if region not in known:
            hint = " ".join(filter(None, [near(region, known), "a new region needs a newer botocore"]))
            problems.append(document.problem(location, f"unknown AWS region {show(region)}", hint))
    return problems


def check_image_name(model: PlanFile, document: Document) -> list[Problem]:
    """Check the AMI's name that the template gives, with this plan's values and some run's."""
    own = {name: getattr(model, name) for name in ("family", "os", "kubernetes", "architecture")}
    name = model.image.name.format_map({**PLACEHOLDERS, **own, "plan": model.name})
    if AMI_NAME.fullmatch(name):
        return []
    what = f"this becomes a name of {len(name)} characters" if len(name) > 128 else f"this becomes {show(name)}"
    hint = "an AMI's name has 3 to 128 of letters, digits and ( ) [ ] space . / - ' @ _"
    return [document.problem(("image", "name"), f"{what}, which is no AMI name", hint)]


def check_builder(model: PlanFile, uses: list[StepUse], document: Document) -> list[Problem]:
    """Check that the instance types fit the architecture and the steps, as far as their names tell."""
    problems = []
    gpu_step = next((use.name for use in uses if use.name in GPU_STEPS), None)
    for index, name in enumerate(model.builder.instance_types):
        location = ("builder", "instance_types", index)
        found = "arm64" if is_arm64(name) else "amd64"
        if found != model.architecture:
            hint = (
                "for arm64: m7g.xlarge, c7g.xlarge, g5g.xlarge"
                if found == "amd64"
                else "for amd64: m7i.xlarge, g5.xlarge"
            )
            problems.append(document.problem(location, f"{name} is {found}, the plan {model.architecture}", hint))
        elif gpu_step and not is_nvidia(name):
            hint = (
                "such as g5g.xlarge" if model.architecture == "arm64" else "such as g4dn.xlarge, g5.xlarge, g6.xlarge"
            )
            message = f"{name} has no NVIDIA GPU, on which the step {gpu_step} is proved"
            problems.append(document.problem(location, message, hint))
    return problems


def partition(region: str) -> str:
    """Give the partition of a region, by its name; nothing can be copied from one to another."""
    for beginning, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-iso", "aws-iso"), ("eusc-", "aws-eusc")):
        if region.startswith(beginning):
            return name
    return "aws"


def check_publish(model: PlanFile, document: Document) -> list[Problem]:
    """Check that copies, their keys and zones fit together."""
    publish, problems = model.publish, []
    for index, region in enumerate(publish.regions):
        location: Location = ("publish", "regions", index)
        if region == model.region:
            problems.append(
                document.problem(location, f"{region} is where the image is made", "list the other regions only")
            )
        elif partition(region) != partition(model.region):
            message = f"{region} is in another partition than {model.region}, so no image can be copied there"
            problems.append(document.problem(location, message))
    for region, key in publish.kms_keys.items():
        location = ("publish", "kms_keys", region)
        if region not in publish.regions:
            own = region == model.region
            hint = (
                "the key of the plan's own region is root_volume.kms_key" if own else "list it in publish.regions too"
            )
            problems.append(document.problem(location, f"no copy goes to {region}", hint))
        elif key.startswith("arn:") and key.split(":")[3] != region:
            problems.append(document.problem(location, f"the key is of {key.split(':')[3]}", f"name one of {region}"))
    restore = publish.fast_launch.fast_snapshot_restore if publish.fast_launch else None
    for index, zone in enumerate(restore.zones if restore else ()):
        if zone[:-1] not in (model.region, *publish.regions):
            location = ("publish", "fast_launch", "fast_snapshot_restore", "zones", index)
            hint = f"a zone of {' or '.join((model.region, *publish.regions))}, or list {zone[:-1]} in publish.regions"
            problems.append(document.problem(location, f"the image is not in {zone[:-1]}", hint))
    return problems


def remarks(model: PlanFile, steps: tuple[StepUse, ...], images: tuple[Image, ...]) -> tuple[str, ...]:
    """Say what is allowed and may still not be meant."""
    found = []
    if not any(each in model.image.name for each in ("{run}", "{time}")):
        found.append("image.name has neither {run} nor {time}: the second build of a day finds its name taken")
    if any(use.name == "prefetch" for use in steps) and not images:
        found.append(f"the image list has nothing for {model.architecture}")
    found += remarks_on_types(model)
    found += remarks_on_publishing(model)
    if model.base is not None and model.base.ami is None:
        found.append("base follows whatever is newest; base: {ami: ...} builds on the same image again")
    return tuple(found)


def remarks_on_types(model: PlanFile) -> list[str]:
    """Name the instance types that are not known here: mistyped ones, or newer ones than botocore has."""
    from leptonami.target import known_types

    known = known_types()
    return [
        " ".join(
            filter(None, [f"builder.instance_types: {name} is not known to botocore;", near(name, sorted(known))])
        ).rstrip(";")
        for name in model.builder.instance_types
        if name not in known
    ]


def remarks_on_publishing(model: PlanFile) -> list[str]:
    """Say what AWS will refuse unless the account's own settings allow it, and what will not be waited for."""
    found, publish = [], model.publish
    keys = {model.region: model.root_volume.kms_key} | {each: publish.kms_keys.get(each) for each in publish.regions}
    default = [region for region, key in keys.items() if (key or "alias/aws/ebs").endswith("alias/aws/ebs")]
    if (publish.accounts or publish.organizations) and default:
        where = "root_volume.kms_key" if default == [model.region] else "root_volume.kms_key and publish.kms_keys"
        found.append(
            f"publish: an image that is encrypted with AWS's own default key cannot be shared ({', '.join(default)}); "
            f"name a key of your own in {where}, and let the accounts use it"
        )
    if publish.copy_within is not None and publish.copy_within > model.image.wait:
        found.append("publish.copy_within is longer than image.wait, which is how long copies are waited for")
    return found


def digest(model: PlanFile, reader: StepReader, images: tuple[Image, ...]) -> str:
    """Give the SHA-256 of what the plan builds, wherever its files stand.

    Not of `publish`: who may use an image does not change what is in it.
    """
    content = {
        "plan": model.model_dump(mode="json", by_alias=True, exclude={"steps", "publish"}),
        "steps": reader.content,
        "images": [image.as_dict() for image in images],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of plan files, for editors: families, steps and options included."""
    schema = PlanFile.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A plan of leptonami"
    schema["description"] = "What to build an AMI from, and how. The reference is docs/plan.md."
    families = catalog.load().families
    schema["properties"]["family"]["enum"] = [name for name, each in families.items() if each.not_buildable is None]
    schema["properties"]["os"]["enum"] = sorted({os for each in families.values() for os in each.systems})
    schema["properties"]["kubernetes"]["enum"] = list(catalog.load().kubernetes)
    schema["properties"]["steps"] = {
        "description": PlanFile.model_fields["steps"].description,
        "type": "array",
        "items": {"anyOf": step_schemas()},
    }
    return schema


def step_schemas() -> list[dict[str, Any]]:
    """Give the JSON Schema of each step: its name alone where nothing is required, or its name with options."""
    schemas: list[dict[str, Any]] = []
    for step in provisioning.catalogue().values():
        required = [option.name for option in step.options if option.required]
        if not required:
            schemas.append({"const": step.name, "description": step.summary})
        options = {option.name: option_schema(option) for option in step.options}
        options.setdefault("timeout", {**DURATION_SCHEMA, "default": duration(step.timeout)})
        schema: dict[str, Any] = {"type": "object", "properties": options, "additionalProperties": False}
        if required:
            schema["required"] = required
        schemas.append(
            {
                "type": "object",
                "description": step.summary,
                "properties": {step.name: schema},
                "required": [step.name],
                "additionalProperties": False,
            }
        )
    return schemas


def option_schema(option: provisioning.StepOption) -> dict[str, Any]:
    """Give the JSON Schema of one option of a step."""
    schema: dict[str, Any] = {"description": option.help}
    if option.choices:
        schema["enum"] = list(option.choices)
    else:
        schema["type"] = option.kind if option.kind in {"integer", "boolean"} else "string"
    if option.pattern:
        schema["pattern"] = f"^(?:{option.pattern})$"
    if option.default is not None:
        schema["default"] = option.default
    return schema
