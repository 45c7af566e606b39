"""What an account holds that carries leptonami's tags, as values. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leptonami.build.names import PREFIX, Names
from leptonami.lifecycle.known import started
from leptonami.target import AwsError, Target, owner_of

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

__all__ = ["KINDS", "Marks", "Resource", "collect", "listed", "marks", "owner_of"]

# In the order in which they can be removed: what holds others goes first.
KINDS = ("command", "instance", "image", "snapshot", "interface", "volume", "group", "profile", "role")
PERMANENT = {"image", "snapshot"}
NAMED = {"group", "profile", "role"}
OUR_KEYS = tuple(PREFIX + name for name in ("run", "plan", "step", "owner", "expires"))
PAGE = 500
GONE = "InvalidInstanceID.NotFound"
GLOBAL = "global"


@dataclass(frozen=True)
class Resource:
    """One thing in an account.

    Attributes
    ----------
    region
        `global` for what IAM keeps.
    name
        The name it was given, where its kind has one: a group's, a profile's, a role's, an image's.
    created
        When, as far as AWS tells.
    holder
        The instance that an interface or a volume is attached to.
    parts
        Of an image its snapshots, of a profile its roles, of a role the profiles it is in, of a command its instances.
    size_gib
        Of a volume, a snapshot, or of all an image's devices.
    type
        Of an instance, or of a volume.
    """

    kind: str
    id: str
    region: str
    tags: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    name: str = ""
    created: datetime | None = None
    holder: str | None = None
    parts: tuple[str, ...] = ()
    size_gib: int = 0
    type: str = ""

    @property
    def run(self) -> str | None:
        """The run that its tag names, whether that is true or not."""
        return self.tags.get(PREFIX + "run")


@dataclass(frozen=True)
class Marks:
    """The tags with which a run marks what it makes."""

    run: str
    plan: str
    owner: str
    started: datetime
    expires: datetime | None


def marks(resource: Resource, now: datetime) -> Marks | str | None:
    """Read leptonami's tags from a resource.

    Gives None if it has none of them, and the reason, in words, if they are not just as a run sets them: then somebody
    else has been at it, or set some of them by hand, and nothing may be concluded from them.
    """
    tags = {key.removeprefix(PREFIX): value for key, value in resource.tags.items() if key in OUR_KEYS}
    if not tags:
        return None
    temporary = resource.kind not in PERMANENT
    wanted = {"run", "plan", "step", "owner"} | ({"expires"} if temporary else set())
    if missing := sorted(name for name in wanted if not tags.get(name)):
        return f"without {', '.join(PREFIX + name for name in missing)}"
    step = "builder" if temporary else "image"
    begun, expires = started(tags["run"]), moment(tags.get("expires"))
    # A day's grace for clocks that are wrong; what began later than that has been made up.
    if begun is None or (begun - now).total_seconds() > 86_400:
        problem = f"{PREFIX}run is not the id of a run"
    elif tags["step"] != step:
        problem = f"{PREFIX}step is not {step}"
    elif not temporary and "expires" in tags:
        problem = f"{PREFIX}expires does not belong on it"
    elif temporary and (expires is None or expires < begun):
        problem = f"{PREFIX}expires is not a time after the run's beginning"
    elif resource.kind in NAMED and resource.name != Names(tags["run"], tags["plan"], tags["owner"]).temporary:
        problem = "its name is not the one that its run gives"
    else:
        return Marks(tags["run"], tags["plan"], tags["owner"], begun, expires)
    return problem


def moment(value: str | datetime | None) -> datetime | None:
    """Read a time as AWS and our tags write it; None if it is none."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def tags_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Give tags as a mapping."""
    return {each["Key"]: each.get("Value", "") for each in found.get("Tags", [])}


def listed(target: Target, client: Any, operation: str, key: str, **request: Any) -> list[Any]:
    """Give all that an operation lists, page by page, with errors translated."""

    def ask() -> list[Any]:
        pages = client.get_paginator(operation).paginate(**request)
        return [each for page in pages for each in page.get(key, [])]

    ask.__name__ = operation
    return target.call(ask)


def collect(target: Target, regions: Sequence[str]) -> list[Resource]:
    """List what carries leptonami's tags in these regions and in IAM, and all images of the account.

    The images of others are there so that nobody takes a snapshot for an orphan which one of them needs.

    Raises
    ------
    CredentialsError
        If the credentials may not list.
    """
    found: list[Resource] = []
    for region in regions:
        found += regional(target, region)
    return [*found, *identities(target)]


def regional(target: Target, region: str) -> list[Resource]:
    """List one region."""
    ec2 = target.client("ec2", region)
    ours: list[FilterTypeDef] = [{"Name": "tag-key", "Values": list(OUR_KEYS)}]
    paged: dict[str, Any] = {"Filters": ours, "PaginationConfig": {"PageSize": PAGE}}
    found: list[Resource] = []
    for reservation in listed(target, ec2, "describe_instances", "Reservations", **paged):
        found += [instance(each, region) for each in reservation["Instances"]]
    everything: dict[str, Any] = {"Owners": ["self"], "PaginationConfig": {"PageSize": PAGE}}
    found += [image(each, region) for each in listed(target, ec2, "describe_images", "Images", **everything)]
    own: dict[str, Any] = {"OwnerIds": ["self"], **paged}
    found += [snapshot(each, region) for each in listed(target, ec2, "describe_snapshots", "Snapshots", **own)]
    for each in listed(target, ec2, "describe_network_interfaces", "NetworkInterfaces", **paged):
        found.append(interface(each, region))
    found += [volume(each, region) for each in listed(target, ec2, "describe_volumes", "Volumes", **paged)]
    for each in listed(target, ec2, "describe_security_groups", "SecurityGroups", **paged):
        found.append(Resource("group", each["GroupId"], region, tags_of(each), name=each["GroupName"]))
    running = [each for each in found if each.kind == "instance" and each.state != "terminated"]
    return [*commands(target, region, running), *found]


def instance(found: Mapping[str, Any], region: str) -> Resource:
    """Read an instance."""
    return Resource(
        "instance",
        found["InstanceId"],
        region,
        tags_of(found),
        state=found["State"]["Name"],
        created=found.get("LaunchTime"),
        type=found.get("InstanceType", ""),
    )


def image(found: Mapping[str, Any], region: str) -> Resource:
    """Read an image."""
    devices = [each["Ebs"] for each in found.get("BlockDeviceMappings", []) if "Ebs" in each]
    return Resource(
        "image",
        found["ImageId"],
        region,
        tags_of(found),
        state=found.get("State", ""),
        name=found.get("Name", ""),
        created=moment(found.get("CreationDate")),
        parts=tuple(each["SnapshotId"] for each in devices if each.get("SnapshotId")),
        size_gib=sum(each.get("VolumeSize", 0) for each in devices),
    )


def snapshot(found: Mapping[str, Any], region: str) -> Resource:
    """Read a snapshot."""
    return Resource(
        "snapshot",
        found["SnapshotId"],
        region,
        tags_of(found),
        state=found.get("State", ""),
        created=found.get("StartTime"),
        size_gib=found.get("VolumeSize", 0),
    )


def interface(found: Mapping[str, Any], region: str) -> Resource:
    """Read an interface; its tags are in a field of their own."""
    attachment = found.get("Attachment") or {}
    # What a service attaches for itself has no instance, and is held all the same.
    holder = attachment.get("InstanceId") or attachment.get("InstanceOwnerId")
    tags = {each["Key"]: each.get("Value", "") for each in found.get("TagSet", [])}
    return Resource(
        "interface", found["NetworkInterfaceId"], region, tags, state=found.get("Status", ""), holder=holder
    )


def volume(found: Mapping[str, Any], region: str) -> Resource:
    """Read a volume."""
    attached = [each.get("InstanceId", "something") for each in found.get("Attachments", [])]
    return Resource(
        "volume",
        found["VolumeId"],
        region,
        tags_of(found),
        state=found.get("State", ""),
        created=found.get("CreateTime"),
        holder=attached[0] if attached else None,
        size_gib=found.get("Size", 0),
        type=found.get("VolumeType", ""),
    )


def commands(target: Target, region: str, instances: Iterable[Resource]) -> list[Resource]:
    """List the commands that still run on these instances. They have no tags; what they run on has."""
    ssm = target.client("ssm", region)
    builders = {each.id: each for each in instances}
    found: dict[str, Resource] = {}
    for status in ("Pending", "InProgress") if builders else ():
        filters = [{"key": "Status", "value": status}]
        for command in listed(target, ssm, "list_commands", "Commands", Filters=filters):
            machines = tuple(command.get("InstanceIds", []))
            builder = next((builders[each] for each in machines if each in builders), None)
            # Somebody who looks at a builder may have sent one of their own.
            if builder is None or not command.get("Comment", "").startswith(f"leptonami {builder.run} "):
                continue
            # The listing of one status may be over when the other begins: one command, once.
            found[command["CommandId"]] = Resource(
                "command",
                command["CommandId"],
                region,
                builder.tags,
                state=command.get("Status", status),
                name=command.get("Comment", ""),
                created=command.get("RequestedDateTime"),
                holder=builder.id,
                parts=machines,
            )
    return list(found.values())


def identities(target: Target) -> list[Resource]:
    """List IAM's roles and profiles with the names that runs give. Their tags take a call each."""
    iam = target.client("iam")
    found: list[Resource] = []
    # By role: the profiles that hold it, whosever they are.
    holders: dict[str, list[str]] = {}
    paged: dict[str, Any] = {"PaginationConfig": {"PageSize": PAGE}}
    for profile in listed(target, iam, "list_instance_profiles", "InstanceProfiles", **paged):
        name = profile["InstanceProfileName"]
        roles = tuple(role["RoleName"] for role in profile.get("Roles", []))
        for role in roles:
            holders.setdefault(role, []).append(name)
        # What lists them leaves their tags out.
        if is_temporary(name) and (asked := unless_gone(target, iam.get_instance_profile, InstanceProfileName=name)):
            each = asked["InstanceProfile"]
            known = {"name": name, "created": each.get("CreateDate"), "parts": roles}
            found.append(Resource("profile", name, GLOBAL, tags_of(each), **known))
    for role in listed(target, iam, "list_roles", "Roles", **paged):
        name = role["RoleName"]
        if is_temporary(name) and (asked := unless_gone(target, iam.get_role, RoleName=name)):
            each = asked["Role"]
            known = {"name": name, "created": each.get("CreateDate"), "parts": tuple(holders.get(name, []))}
            found.append(Resource("role", name, GLOBAL, tags_of(each), **known))
    return found


def unless_gone(target: Target, method: Any, **request: Any) -> Any:
    """Ask for a role or a profile; None if it has gone in the meantime."""
    try:
        return target.call(method, **request)
    except AwsError as error:
        if error.code == "NoSuchEntity":
            return None
        raise


def is_temporary(name: str) -> bool:
    """Tell whether a name is one that a run gives to what is temporary."""
    prefix, _, run_id = name.partition("-")
    return prefix == "leptonami" and started(run_id) is not None
