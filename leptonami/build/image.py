"""From a stopped builder to an AMI that is available."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build import requests
from leptonami.errors import BuildError
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.build.builder import Builder
    from leptonami.build.preflight import Site
    from leptonami.build.work import Work

__all__ = ["Ami", "create", "discard", "find_ours", "stop", "wait_available"]


@dataclass(frozen=True)
class Ami:
    """The image that was made."""

    id: str
    name: str
    region: str
    architecture: str
    root_device: str
    snapshots: tuple[str, ...]
    size_gib: int
    encrypted: bool
    state: str


def stop(work: Work, builder: Builder) -> bool:
    """Stop the builder, so that its file system is whole; a one-time spot builder cannot be stopped (False)."""
    if builder.spot:
        return False
    with work.journal.action("ec2.StopInstances", id=builder.instance):
        work.target.call(work.target.client("ec2").stop_instances, InstanceIds=[builder.instance])
    return True


def create(work: Work, site: Site, builder: Builder, *, stopped: bool) -> tuple[str, int]:
    """Ask for the image; give its id and the number of the removal that it is owed.

    The removal is to be forgotten when the image has become available, or when EC2 is left to finish it.
    """
    target, cleanup = work.target, work.cleanup
    undo = cleanup.add(f"half-made image {site.image_name}", lambda: discard_ours(target, site))
    request = requests.create_image(
        work.plan, site.names, site.base, instance=builder.instance, name=site.image_name, stopped=stopped
    )
    with work.journal.action("ec2.CreateImage", name=site.image_name) as outcome:
        try:
            made = target.call(target.client("ec2").create_image, **request)["ImageId"]
        except AwsError as error:
            # The answer to an earlier attempt may have been lost.
            found = find_ours(target, site) if error.code == "InvalidAMIName.Duplicate" else None
            if found is None:
                raise
            made = found
        outcome["id"] = made
    cleanup.replace(undo, f"half-made image {made}", partial(discard, target, made))
    return made, undo


def find_ours(target: Target, site: Site) -> str | None:
    """Find the image that this run has asked for already, if it has."""
    found = target.call(
        target.client("ec2").describe_images,
        Owners=["self"],
        Filters=[{"Name": "tag:leptonami:run", "Values": [site.names.run]}],
    )["Images"]
    ours = [each["ImageId"] for each in found if each.get("Name") == site.image_name and each["State"] != "failed"]
    return ours[0] if ours else None


def snapshots_of(image: Any) -> list[str]:
    """Give the ids of an image's snapshots."""
    return [
        each["Ebs"]["SnapshotId"]
        for each in image.get("BlockDeviceMappings", [])
        if each.get("Ebs", {}).get("SnapshotId")
    ]


def find(target: Target, image: str) -> Any:
    """Describe the image; None while EC2 does not know it yet."""
    try:
        found = target.call(target.client("ec2").describe_images, ImageIds=[image])["Images"]
    except AwsError as error:
        if error.code == "InvalidAMIID.NotFound":
            return None
        raise
    return found[0] if found else None


def wait_available(work: Work, image: str) -> Ami:
    """Wait until the image is available, showing how far its snapshots are. Only the plan's deadline ends the wait.

    Raises
    ------
    BuildError
        If EC2 gives the image up.
    Timeout
        If the plan's deadline passes; EC2 may still finish the image.
    """
    target = work.target
    ec2 = target.client("ec2")

    def check() -> Any:
        described = find(target, image)
        if described is None:
            return None
        if described["State"] == "available":
            return described
        if described["State"] not in {"pending", "transient"}:
            reason = described.get("StateReason", {}).get("Message", "EC2 gives no reason")
            raise BuildError(
                f"the image is {described['State']}: {reason}",
                resource=image,
                hint="run the build again; if it happens twice, look at the volume's KMS key and at AWS's health page",
            )
        snapshots = snapshots_of(described)
        if snapshots:
            shown = target.call(ec2.describe_snapshots, SnapshotIds=snapshots)["Snapshots"]
            shares = [percent(each.get("Progress", "")) for each in shown]
            work.progress.update("snapshot", sum(shares) / len(shares) if shares else None)
        return None

    described = target.poll(
        check,
        what=f"the image {image} to be available",
        timeout=work.plan.image.wait,
        patient=True,
        hint="EC2 goes on: the image may still become available. Raise image.wait in the plan for large volumes",
    )
    root = next(
        each["Ebs"] for each in described["BlockDeviceMappings"] if each["DeviceName"] == described["RootDeviceName"]
    )
    return Ami(
        id=image,
        name=described["Name"],
        region=target.region,
        architecture=described["Architecture"],
        root_device=described["RootDeviceName"],
        snapshots=tuple(snapshots_of(described)),
        size_gib=root["VolumeSize"],
        encrypted=bool(root.get("Encrypted")),
        state=described["State"],
    )


def percent(text: str) -> float:
    """Read a snapshot's progress, such as `42%`; 0 for anything else, since the text is only for show."""
    digits = text.rstrip("%")
    return min(int(digits) / 100, 1.0) if digits.isdigit() else 0.0


def discard(target: Target, image: str) -> None:
    """Deregister an image that is not to be, and delete its snapshots."""
    ec2 = target.client("ec2")
    described = find(target, image)
    if described is None:
        return
    snapshots = snapshots_of(described)
    target.call(ec2.deregister_image, ImageId=image)
    for snapshot in snapshots:
        target.call(ec2.delete_snapshot, SnapshotId=snapshot)


def discard_ours(target: Target, site: Site) -> None:
    """Discard the image that this run has asked for: for a CreateImage whose answer never came.

    By the run's tag, never by the name alone: somebody else may have taken the name in the meantime.
    """
    image = find_ours(target, site)
    if image is not None:
        discard(target, image)
