"""From a stopped builder to an AMI that is available."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leptonami.build import requests
from leptonami.build.builder import FORGOTTEN_AFTER
from leptonami.errors import BuildError, Timeout
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leptonami.build.builder import Builder
    from leptonami.build.preflight import Site
    from leptonami.build.work import Work

__all__ = ["DEAD", "Ami", "create", "deregister", "discard", "find_earlier", "find_ours", "stop", "wait_available"]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html: states from which no image comes back.
DEAD = {"error", "failed", "invalid"}
# How long a list of images may be late.
LISTED_S = 60.0


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
    if work.past:
        discard_dead(work, site)
    undo = cleanup.add(f"half-made image {site.image_name}", lambda: discard_ours(target, site))
    request = requests.create_image(
        work.plan, site.names, site.base, instance=builder.instance, name=site.image_name, stopped=stopped
    )
    with work.journal.action("ec2.CreateImage", name=site.image_name) as outcome:
        try:
            made = target.call(target.client("ec2").create_image, **request)["ImageId"]
        except AwsError as error:
            if error.code != "InvalidAMIName.Duplicate":
                raise
            # The answer to an earlier attempt may have been lost; and lists may be late.
            try:
                made = target.poll(
                    lambda: find_ours(target, site), what=f"EC2 to list the image {site.image_name}", timeout=LISTED_S
                )
            except Timeout:
                raise error from None
        outcome["id"] = made
    cleanup.replace(undo, f"half-made image {made}", partial(discard, target, made))
    return made, undo


def find_earlier(work: Work, site: Site) -> str | None:
    """Find the image that an earlier process of this run has asked for, if it has.

    A list may not show yet what is there; the id that the journal has is the better question then.
    """
    found = find_ours(work.target, site)
    asked = work.past.last("done", action="ec2.CreateImage")
    if found is not None or asked is None:
        return found
    if work.past.last("done", action="remove", what=f"half-made image {asked['id']}", outcome="removed") is not None:
        return None
    for _ in patience(work.target):
        described = find(work.target, asked["id"])
        if described is not None:
            return None if described["State"] in DEAD else str(asked["id"])
    return None


def patience(target: Target) -> Iterator[int]:
    """Give the attempts that it takes to believe EC2 that it does not know something, with time between them."""
    for attempt, delay in zip(range(FORGOTTEN_AFTER), target.pace.delays(), strict=False):
        if attempt:
            target.sleep(delay)
        yield attempt


def find_ours(target: Target, site: Site) -> str | None:
    """Find the image that this run has asked for already, if it has."""
    ours = [each["ImageId"] for each in tagged(target, site) if each["State"] not in DEAD]
    return ours[0] if ours else None


def tagged(target: Target, site: Site) -> list[Any]:
    """Describe what has the run's tag and the name of its image, whatever became of it."""
    found = target.call(
        target.client("ec2").describe_images,
        Owners=["self"],
        IncludeDisabled=True,
        Filters=[{"Name": "tag:leptonami:run", "Values": [site.names.run]}],
    )["Images"]
    return [each for each in found if each.get("Name") == site.image_name]


def discard_dead(work: Work, site: Site) -> None:
    """Discard an image of an earlier process that EC2 gave up: it still has the name that the new one is to have."""
    for each in tagged(work.target, site):
        if each["State"] in DEAD:
            what = f"half-made image {each['ImageId']}"
            with work.journal.action("remove", what=what) as outcome:
                discard(work.target, each["ImageId"])
                outcome |= {"what": what, "outcome": "removed"}


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
    gone = deregister(target, image)
    for snapshot in snapshots_of(described):
        if snapshot not in gone:
            target.call(ec2.delete_snapshot, SnapshotId=snapshot)


def deregister(target: Target, image: str, region: str | None = None) -> set[str]:
    """Deregister an image, and delete its snapshots in the same call; give the snapshots that are gone.

    In one call there is no moment at which a crash leaves snapshots without their image. EC2 keeps those that another
    image needs.
    """
    answer = target.call(target.client("ec2", region).deregister_image, ImageId=image, DeleteAssociatedSnapshots=True)
    results = answer.get("DeleteSnapshotResults", [])
    return {each["SnapshotId"] for each in results if each.get("ReturnCode") == "success"}


def discard_ours(target: Target, site: Site) -> None:
    """Discard the image that this run has asked for: for a CreateImage whose answer never came.

    By the run's tag, never by the name alone: somebody else may have taken the name in the meantime.
    """
    image = find_ours(target, site)
    if image is not None:
        discard(target, image)
