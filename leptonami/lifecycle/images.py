"""The images of a plan, across regions: how old, how they are used, and what is known of them. Reads only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from leptonami.build.names import PREFIX
from leptonami.errors import CredentialsError, InputError
from leptonami.lifecycle import usage
from leptonami.lifecycle.inventory import PAGE, listed, tags_of
from leptonami.lifecycle.inventory import image as as_resource
from leptonami.lifecycle.resources import marks, moment
from leptonami.runs import now
from leptonami.target import AwsError, Provenance, Target

if TYPE_CHECKING:
    from leptonami.lifecycle.usage import Usage, Use

__all__ = ["ImageRecord", "Images", "Named", "find", "named"]

PLAN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class ImageRecord:
    """An image that a run of leptonami made, or a copy of one.

    Attributes
    ----------
    version
        The run that made it; runs are in the order of their ids.
    base
        The name (or else the id) of the image it was made from.
    deprecated
        When it is, or was, deprecated.
    launched
        When it was last launched, as AWS knows a day later; None if never.
    launched_known
        Whether AWS tells at all.
    protected
        It cannot be deregistered before the protection is taken away.
    odd
        Why its tags are not as a run sets them; empty if they are.
    """

    id: str
    region: str
    name: str
    plan: str
    version: str
    owner: str
    base: str
    created: datetime | None
    state: str
    deprecated: datetime | None = None
    launched: datetime | None = None
    launched_known: bool = False
    protected: bool = False
    snapshots: tuple[str, ...] = ()
    size_gib: int = 0
    users: tuple[Use, ...] = ()
    odd: str = ""

    @property
    def current_users(self) -> tuple[Use, ...]:
        """Those who would start something from it as things are."""
        return tuple(each for each in self.users if each.current)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        times = {name: getattr(self, name) for name in ("created", "deprecated", "launched")}
        return {
            **{name: getattr(self, name) for name in ("id", "region", "name", "plan", "version", "owner", "base")},
            **{name: value.isoformat() if value else None for name, value in times.items()},
            "launched_known": self.launched_known,
            "state": self.state,
            "protected": self.protected,
            "snapshots": list(self.snapshots),
            "size_gib": self.size_gib,
            "used_by": [{"kind": use.kind, "name": use.name, "current": use.current} for use in self.users],
            "odd": self.odd or None,
        }


@dataclass(frozen=True)
class Images:
    """The images that were found, newest first, and what could not be asked, by region."""

    records: tuple[ImageRecord, ...]
    usage: Mapping[str, Usage]
    at: datetime
    provenance: Provenance

    @property
    def unasked(self) -> dict[str, str]:
        """The services that did not answer, as `region/service`, with the reason."""
        return {
            f"{region}/{service}": why for region, found in self.usage.items() for service, why in found.unasked.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "provenance": self.provenance,
            "at": self.at.isoformat(),
            "unasked": self.unasked,
            "images": [each.as_dict() for each in self.records],
        }


@dataclass(frozen=True)
class Named:
    """A plan as far as its images need it: the file may be of a plan that can be built no more."""

    name: str
    regions: tuple[str, ...]


def named(plan: str) -> Named:
    """Read a plan's name and its regions from its file, or take the name itself.

    The plan is not validated: images outlive what their plan was made for.

    Raises
    ------
    InputError
        If the file cannot be read or has no name in it, or what is given can be neither a file nor a name.
    """
    from leptonami import plan as plans
    from leptonami.yamlfile import read

    try:
        path = plans.find(plan)
    except InputError:
        if PLAN_NAME.fullmatch(plan):
            return Named(plan, ())
        raise
    document = read(path, what="plan")
    data = document.data if isinstance(document.data, dict) else {}
    name, region, publish = data.get("name"), data.get("region"), data.get("publish")
    if not isinstance(name, str):
        raise InputError("there is no name in it", resource=document.where(("name",)), hint="name a plan's file")
    more = publish.get("regions") if isinstance(publish, dict) else None
    regions = [region, *(more if isinstance(more, list) else [])]
    return Named(name, tuple(dict.fromkeys(each for each in regions if isinstance(each, str))))


def find(
    target: Target,
    *,
    plan: str | None,
    regions: Sequence[str],
    skip: Collection[str] = (),
) -> Images:
    """Find the images of a plan (by its name; of every plan without one) in these regions.

    Parameters
    ----------
    skip
        Services that are not to be asked who uses the images; see `usage.SERVICES`.

    Raises
    ------
    CredentialsError
        If the credentials may not list images.
    """
    moment_ = now()
    records: list[ImageRecord] = []
    uses: dict[str, Usage] = {}
    for region in dict.fromkeys(regions):
        ec2 = target.client("ec2", region)
        filters = [{"Name": "tag-key", "Values": [PREFIX + "run", PREFIX + "plan"]}]
        if plan is not None:
            filters = [{"Name": f"tag:{PREFIX}plan", "Values": [plan]}]
        request: dict[str, Any] = {"Owners": ["self"], "Filters": filters, "IncludeDisabled": True}
        request["PaginationConfig"] = {"PageSize": PAGE}
        found = listed(target, ec2, "describe_images", "Images", **request)
        plans = {tags_of(each).get(PREFIX + "plan", "") for each in found} - {""}
        names = [each["ImageId"] for each in found]
        uses[region] = usage.find(target, region, names, plans=plans, skip=skip) if found else usage.Usage()
        launches = Launches(target, ec2)
        records += [record(each, region, moment_, uses[region].of(each["ImageId"]), launches) for each in found]
    records.sort(key=lambda each: (each.plan, each.version, each.region, each.id), reverse=True)
    return Images(tuple(records), uses, moment_, target.provenance)


class Launches:
    """When images were last launched; asks no more once it is clear that nobody can tell."""

    def __init__(self, target: Target, ec2: Any) -> None:
        self.target, self.ec2, self.works = target, ec2, True

    def of(self, described: Mapping[str, Any]) -> tuple[datetime | None, bool]:
        """Give the time (None: never, in what AWS keeps), and whether it is known."""
        if value := described.get("LastLaunchedTime"):
            return moment(value), True
        if not self.works:
            return None, False
        # DescribeImages leaves it out for an image that was never launched, and so does whoever does not know it.
        try:
            answer = self.target.call(
                self.ec2.describe_image_attribute, ImageId=described["ImageId"], Attribute="lastLaunchedTime"
            )
        except (AwsError, CredentialsError) as error:
            if not isinstance(error, AwsError) or error.code == "LabNotImplemented":
                self.works = False
            return None, False
        return moment(answer.get("LastLaunchedTime", {}).get("Value")), True


def record(
    described: Mapping[str, Any], region: str, now: datetime, users: tuple[Use, ...], launches: Launches
) -> ImageRecord:
    """Make the record of an image as EC2 describes it."""
    resource = as_resource(described, region)
    tags = resource.tags
    read = marks(resource, now)
    launched, known = launches.of(described)
    return ImageRecord(
        id=resource.id,
        region=region,
        name=resource.name,
        plan=tags.get(PREFIX + "plan", ""),
        version=tags.get(PREFIX + "run", ""),
        owner=tags.get(PREFIX + "owner", ""),
        base=tags.get(PREFIX + "base-name") or tags.get(PREFIX + "base", ""),
        created=resource.created,
        state=resource.state,
        deprecated=moment(described.get("DeprecationTime")),
        launched=launched,
        launched_known=known,
        protected=str(described.get("DeregistrationProtection", "disabled")).startswith("enabled"),
        snapshots=resource.parts,
        size_gib=resource.size_gib,
        users=users,
        odd=read if isinstance(read, str) else "",
    )
