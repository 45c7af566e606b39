"""How an image stands: asking EC2, and making changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leptonami.errors import BuildError, CredentialsError
from leptonami.publish.model import Change, Live
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.runs import Journal

__all__ = ["apply", "describe", "look", "method"]


def moment(text: str) -> datetime:
    """Read a time as EC2 writes it."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def describe(target: Target, region: str, image: str) -> Any:
    """Describe an image; None if EC2 does not know it (yet)."""
    ec2 = target.client("ec2", region)
    try:
        found = target.call(ec2.describe_images, ImageIds=[image], IncludeDisabled=True)["Images"]
    except AwsError as error:
        if error.code in {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"}:
            return None
        raise
    return found[0] if found else None


def look(target: Target, region: str, image: str, *, restores: bool = False) -> Live | None:
    """Ask EC2 how an image stands; None if it does not know it.

    Parameters
    ----------
    restores
        Whether to ask for fast snapshot restores too.

    Raises
    ------
    AwsError, CredentialsError
        What EC2 answers.
    """
    described = describe(target, region, image)
    if described is None:
        return None
    ec2, call = target.client("ec2", region), target.call
    devices = [
        each["Ebs"] for each in described.get("BlockDeviceMappings", []) if each.get("Ebs", {}).get("SnapshotId")
    ]
    names = [each["SnapshotId"] for each in devices]
    permitted = call(ec2.describe_image_attribute, ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    snapshots = call(ec2.describe_snapshots, SnapshotIds=names)["Snapshots"] if names else []
    public = described.get("Public", False) or any(each.get("Group") for each in permitted)
    readers: dict[str, frozenset[str]] = {}
    for name in names:
        allowed = call(ec2.describe_snapshot_attribute, SnapshotId=name, Attribute="createVolumePermission")
        rows = allowed.get("CreateVolumePermissions", [])
        readers[name] = frozenset(each["UserId"] for each in rows if "UserId" in each)
        public = public or any(each.get("Group") for each in rows)
    fast: dict[tuple[str, str], str] = {}
    if restores and names:
        wanted: Any = [{"Name": "snapshot-id", "Values": names}]
        for row in call(ec2.describe_fast_snapshot_restores, Filters=wanted)["FastSnapshotRestores"]:
            if row["State"] not in {"disabling", "disabled"}:
                fast[row["SnapshotId"], row["AvailabilityZone"]] = row["State"]
    deprecated = described.get("DeprecationTime")
    return Live(
        id=image,
        region=region,
        state=described["State"],
        name=described.get("Name", ""),
        created=moment(described["CreationDate"]),
        architecture=described["Architecture"],
        root_device=described.get("RootDeviceName", ""),
        snapshots=tuple(names),
        volumes_gib=tuple(each.get("VolumeSize", 0) for each in devices),
        encrypted=bool(devices) and all(each.get("Encrypted") for each in devices),
        keys=tuple(each["KmsKeyId"].rpartition(":")[2] for each in snapshots if each.get("KmsKeyId")),
        description=described.get("Description", ""),
        imds=described.get("ImdsSupport"),
        deprecated=moment(deprecated) if deprecated else None,
        protected=str(described.get("DeregistrationProtection", "disabled")).startswith("enabled"),
        tags={each["Key"]: each["Value"] for each in described.get("Tags", [])},
        launch=frozenset(
            value for each in permitted for key, value in each.items() if key != "Group" and isinstance(value, str)
        ),
        readers=readers,
        public=bool(public),
        block_public=block_of(target, region),
        restores=fast,
        reason=described.get("StateReason", {}).get("Message", ""),
    )


def block_of(target: Target, region: str) -> str:
    """Tell whether the account blocks public images in a region; `unknown` where we may not ask."""
    ec2 = target.client("ec2", region)
    try:
        answer: Any = target.call(ec2.get_image_block_public_access_state)
    except (AwsError, CredentialsError):
        return "unknown"
    return str(answer.get("ImageBlockPublicAccessState", "unknown"))


def method(target: Target, call: str, region: str) -> Callable[..., Any]:
    """Give the method of boto3 that a call such as `ec2.CopyImage` names."""
    service, operation = call.split(".")
    client: Any = target.client(service, region)  # type: ignore[call-overload]
    names = {api: name for name, api in client.meta.method_to_api_mapping.items()}
    found: Callable[..., Any] = getattr(client, names[operation])
    return found


def apply(target: Target, change: Change, journal: Journal) -> Any:
    """Make a change, with its intent on the disk before and its outcome after.

    Raises
    ------
    BuildError
        If EC2 accepts the call and refuses what it asks for, as EnableFastSnapshotRestores does.
    AwsError, CredentialsError
        If it refuses the call.
    """
    request = change.request
    what = (
        request.get("ImageId") or request.get("SnapshotId") or request.get("SourceSnapshotIds") or request.get("Name")
    )
    with journal.action(change.call, region=change.region, id=what, purpose=change.purpose) as outcome:
        answer = target.call(method(target, change.call, change.region), **request)
        refused = [
            f"{snapshot['SnapshotId']} in {row.get('AvailabilityZone')}: "
            f"{row.get('Error', {}).get('Code')}: {row.get('Error', {}).get('Message')}"
            for snapshot in answer.get("Unsuccessful", [])
            for row in snapshot.get("FastSnapshotRestoreStateErrors", [])
        ]
        if refused:
            raise BuildError(
                f"{change.call} was refused for {'; '.join(refused)}",
                resource=change.region,
                hint="by default five snapshots a Region can have fast snapshot restore; end it for older ones "
                "(fast_snapshot_restore.replace), or ask for a higher quota",
            )
        if "Version" in answer:
            outcome["version"] = answer["Version"]
    return answer
