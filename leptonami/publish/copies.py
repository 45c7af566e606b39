"""Copies of an image in other regions: found again if they are there, asked for once, waited for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonami.build.image import deregister, percent, snapshots_of
from leptonami.build.names import Names
from leptonami.errors import BuildError, Interrupted
from leptonami.publish.live import describe
from leptonami.publish.model import COPY_OF, Live, Order, copy_image
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from leptonami.runs import Journal

__all__ = ["Copy", "ensure", "find"]

# "You might have too many snapshot copies in progress": EC2 takes more when some are done.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
FULL_CODES = {"ResourceLimitExceeded", "ResourceCountExceeded"}


@dataclass(frozen=True)
class Copy:
    """A copy that is available: `made` by this call or found, and how long it was waited for (s)."""

    image: str
    made: bool
    seconds: float


def find(target: Target, region: str, source: str) -> list[Any]:
    """Find the copies of an image that are in a region, by their tag; what is good comes first, then the oldest."""
    ec2 = target.client("ec2", region)
    filters: Any = [{"Name": f"tag:{COPY_OF}", "Values": [source]}]
    request: Any = {"Owners": ["self"], "Filters": filters, "IncludeDisabled": True}
    found: list[Any] = list(target.call(ec2.describe_images, **request)["Images"])
    ranks = {"available": 0, "pending": 1, "transient": 1}
    return sorted(found, key=lambda each: (ranks.get(each["State"], 2), each.get("CreationDate", "")))


def ensure(
    target: Target,
    order: Order,
    source: Live,
    region: str,
    journal: Journal,
    *,
    stop: threading.Event,
    tick: Callable[[float], None],
) -> Copy:
    """Have an available copy in a region, and only one, however often this is called.

    Parameters
    ----------
    stop
        Set by somebody who does not want to wait any longer.
    tick
        Gets how much of the copy is done, from 0 to 1.

    Raises
    ------
    BuildError
        If EC2 gives the copy up, or its name is taken by something else.
    Timeout
        If the plan's deadline passes; EC2 goes on with the copy.
    Interrupted
        If `stop` was set; EC2 goes on with the copy.
    """
    begun = time.monotonic()
    good = next((each for each in find(target, region, source.id) if usable(each)), None)
    made = good is None
    image = begin(target, order, source, region, journal, stop=stop) if good is None else good["ImageId"]
    wait(target, order, region, image, stop=stop, tick=tick)
    return Copy(image, made, round(time.monotonic() - begun, 3))


def usable(described: Any) -> bool:
    """Tell whether an image is available, or on its way to be."""
    return described["State"] in {"available", "pending", "transient"}


def begin(target: Target, order: Order, source: Live, region: str, journal: Journal, *, stop: threading.Event) -> str:
    """Ask for the copy; where too many copies are on their way, ask again until the plan's deadline."""
    for failed in find(target, region, source.id):
        # It holds the name, and its token.
        discard(target, region, failed, journal)
    # Of this region: the others' are discarded beside it, in any order.
    here = [each for each in journal.read() if each.get("region") == region]
    attempts = len([each for each in here if each.get("event") == "discarded copy"])
    request = copy_image(order, source, region)
    # The token stands for the whole request: a changed plan asks for another copy, a lost answer for the same one.
    token = Names(source.version, order.plan, "").token(
        "copy", region, str(attempts), json.dumps(request, sort_keys=True)
    )
    ec2: Any = target.client("ec2", region)

    def ask() -> str | None:
        halt(stop)
        with journal.action("ec2.CopyImage", region=region, source=source.id) as outcome:
            try:
                made: str = target.call(ec2.copy_image, **request, ClientToken=token)["ImageId"]
            except AwsError as error:
                if error.code in FULL_CODES:
                    outcome["full"] = error.code
                    return None
                if error.code != "InvalidAMIName.Duplicate":
                    raise
                made = namesake(target, source, region)
            outcome["id"] = made
            return made

    return target.poll(ask, what=f"room for one more copy in {region}", timeout=order.wait)


def namesake(target: Target, source: Live, region: str) -> str:
    """Give the image that has the copy's name already, if it is a copy of the same image.

    Raises
    ------
    BuildError
        If it is something else.
    """
    filters: Any = [{"Name": "name", "Values": [source.name]}]
    request: Any = {"Owners": ["self"], "Filters": filters, "IncludeDisabled": True}
    found = target.call(target.client("ec2", region).describe_images, **request)["Images"]
    ours = [each for each in found if each.get("SourceImageId") == source.id and usable(each)]
    if ours:
        return ours[0]["ImageId"]
    there = found[0]["ImageId"] if found else "an image"
    raise BuildError(
        f"{there} has the name {source.name!r} and is no copy of {source.id}",
        resource=region,
        hint="deregister it, or give the plan's images another name (image.name)",
    )


def discard(target: Target, region: str, failed: Any, journal: Journal) -> None:
    """Take away a copy of ours that EC2 has given up, with what there is of its snapshots."""
    if failed["State"] not in {"failed", "error", "invalid"}:
        raise BuildError(
            f"the copy {failed['ImageId']} is {failed['State']}",
            resource=region,
            hint="enable it again, or deregister it; then publish once more",
        )
    with journal.action("ec2.DeregisterImage", region=region, id=failed["ImageId"]):
        gone = deregister(target, failed["ImageId"], region)
    ec2 = target.client("ec2", region)
    for snapshot in snapshots_of(failed):
        if snapshot in gone:
            continue
        with journal.action("ec2.DeleteSnapshot", region=region, id=snapshot):
            target.call(ec2.delete_snapshot, SnapshotId=snapshot)
    journal.write("discarded copy", region=region, id=failed["ImageId"])


def halt(stop: threading.Event) -> None:
    """End a wait that nobody wants any more."""
    if stop.is_set():
        raise Interrupted("stopped waiting; EC2 goes on with the copy")


def wait(
    target: Target, order: Order, region: str, image: str, *, stop: threading.Event, tick: Callable[[float], None]
) -> None:
    """Wait until an image is available. Only the plan's deadline ends the wait."""
    ec2 = target.client("ec2", region)

    def check() -> bool | None:
        halt(stop)
        described = describe(target, region, image)
        if described is None:
            return None
        if described["State"] == "available":
            return True
        if not usable(described):
            reason = described.get("StateReason", {}).get("Message", "EC2 gives no reason")
            raise BuildError(
                f"the copy is {described['State']}: {reason}",
                resource=f"{image} in {region}",
                hint="may this account use the keys on both sides? then publish again: the failed copy is replaced",
            )
        if names := snapshots_of(described):
            shown = target.call(ec2.describe_snapshots, SnapshotIds=names)["Snapshots"]
            shares = [percent(each.get("Progress", "")) for each in shown]
            tick(sum(shares) / len(shares) if shares else 0.0)
        return None

    target.poll(
        check,
        what=f"the copy {image} in {region} to be available",
        timeout=order.wait,
        hint="EC2 goes on with it: publish again later, or raise image.wait in the plan",
    )
    tick(1.0)
