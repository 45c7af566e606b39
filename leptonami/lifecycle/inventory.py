"""What an account holds that carries leptonami's tags, as values. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonami.build.names import CLUSTER
from leptonami.lifecycle.known import started
from leptonami.lifecycle.resources import OUR_KEYS, Resource, moment
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import FilterTypeDef

__all__ = ["collect", "listed", "nodegroup"]

PAGE = 500
GLOBAL = "global"


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
    # A disabled image holds its snapshots too, and EC2 leaves it out by default.
    everything: dict[str, Any] = {"Owners": ["self"], "IncludeDisabled": True, "PaginationConfig": {"PageSize": PAGE}}
    found += [image(each, region) for each in listed(target, ec2, "describe_images", "Images", **everything)]
    own: dict[str, Any] = {"OwnerIds": ["self"], **paged}
    found += [snapshot(each, region) for each in listed(target, ec2, "describe_snapshots", "Snapshots", **own)]
    for each in listed(target, ec2, "describe_network_interfaces", "NetworkInterfaces", **paged):
        found.append(interface(each, region))
    found += [volume(each, region) for each in listed(target, ec2, "describe_volumes", "Volumes", **paged)]
    for each in listed(target, ec2, "describe_security_groups", "SecurityGroups", **paged):
        found.append(Resource("group", each["GroupId"], region, tags_of(each), name=each["GroupName"]))
    for each in listed(target, ec2, "describe_launch_templates", "LaunchTemplates", **paged):
        found += template(target, each, region)
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


def template(target: Target, found: Mapping[str, Any], region: str) -> list[Resource]:
    """Read a launch template, and the node group that a benchmark made with it, which has its name.

    The group is made after its template and goes before it: what has no template has no group.
    """
    tags, name = tags_of(found), str(found["LaunchTemplateName"])
    group = nodegroup(target, tags[CLUSTER], name, region) if tags.get(CLUSTER) else None
    made: dict[str, Any] = {"name": name, "created": found.get("CreateTime"), "holder": group.id if group else None}
    return [*([group] if group else []), Resource("template", found["LaunchTemplateId"], region, tags, **made)]


def nodegroup(target: Target, cluster: str, name: str, region: str) -> Resource | None:
    """Read a node group; None if there is none."""
    eks = target.client("eks", region)
    try:
        found: Any = target.call(eks.describe_nodegroup, clusterName=cluster, nodegroupName=name)["nodegroup"]
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return None
    return Resource(
        "nodegroup",
        f"{cluster}/{name}",
        region,
        found.get("tags", {}),
        state=found.get("status", ""),
        name=name,
        created=found.get("createdAt"),
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
