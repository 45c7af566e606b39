"""SSM parameters that name an image: `latest`, which moves, and one for each version, which does not.

The history that Systems Manager keeps (100 versions) is what a rollback goes back in; each version's description says
how it came about, so that a second rollback goes further back and not to and fro.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from leptonami.errors import BuildError, InputError
from leptonami.publish.live import apply, describe
from leptonami.publish.model import Change, Live, Order
from leptonami.runs import RUN_ID
from leptonami.target import AwsError, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leptonami.runs import Journal

__all__ = ["Entry", "Move", "back", "decide", "history", "rollback", "settle"]

NOT_OURS = "somebody else (it has no tag leptonami:plan)"
SET = "leptonami: {image} of {version}"
BACK = "leptonami: back from version {current} to version {chosen}"
TIME = len("20261123-211500")
WENT_BACK = re.compile(r"leptonami: back from version (\d+) to version (\d+)")


@dataclass(frozen=True)
class Entry:
    """One version of a parameter."""

    version: int
    value: str
    description: str
    at: datetime | None


@dataclass(frozen=True)
class Move:
    """What came of one parameter: `set`, `unchanged`, or `held` and why; what it was before, for a rollback."""

    name: str
    region: str
    outcome: str
    value: str
    before: str | None
    version: int | None = None
    why: str = ""


def history(target: Target, region: str, name: str) -> tuple[Entry, ...]:
    """Read all versions of a parameter, the oldest first; none if there is no such parameter.

    Raises
    ------
    InputError
        If it is no plain text.
    """
    ssm: Any = target.client("ssm", region)
    found: list[Entry] = []
    more: dict[str, Any] = {}
    while True:
        try:
            page = target.call(ssm.get_parameter_history, Name=name, MaxResults=50, **more)
        except AwsError as error:
            if error.code == "ParameterNotFound":
                return ()
            raise
        for each in page["Parameters"]:
            if each["Type"] != "String":
                raise InputError(
                    f"the parameter is a {each['Type']}",
                    resource=f"{name} in {region}",
                    hint="an image's id is kept in a String; choose another name",
                )
            found.append(Entry(each["Version"], each["Value"], each.get("Description", ""), each["LastModifiedDate"]))
        if not page.get("NextToken"):
            return tuple(sorted(found, key=lambda entry: entry.version))
        more = {"NextToken": page["NextToken"]}


def decide(versions: Sequence[Entry], image: str, run: str, current_run: str | None, *, force: bool) -> str | None:
    """Say why `latest` must stay where it is; None if it may be moved to the image. Pure.

    Parameters
    ----------
    run, current_run
        The runs that made the image and the one that the parameter names; None where that is gone.
    force
        Somebody says that it is to be moved all the same.
    """
    if not versions or force or versions[-1].value == image:
        return None
    # The ids of runs begin with their time; what comes after the seconds is random.
    if current_run is not None and RUN_ID.fullmatch(current_run) and current_run[:TIME] > run[:TIME]:
        return f"it names {versions[-1].value} of {current_run}, which is newer"
    for entry in reversed(versions):
        went = WENT_BACK.fullmatch(entry.description)
        left = next((each.value for each in versions if went and each.version == int(went[1])), None)
        if left == image:
            return f"somebody went back from {image} in its version {entry.version}"
        if entry.value == image:
            return None
    return None


def settle(target: Target, order: Order, live: Live, name: str, journal: Journal, *, latest: bool, force: bool) -> Move:
    """Have a parameter name an image, if it may; the value before stays in its history.

    Raises
    ------
    InputError
        If the parameter is somebody else's.
    BuildError
        If the version's parameter names another image that is still there.
    """
    region = live.region
    versions = history(target, region, name)
    before = versions[-1].value if versions else None
    if before == live.id:
        return Move(name, region, "unchanged", live.id, before, versions[-1].version)
    description = SET.format(image=live.id, version=live.version)
    request: dict[str, Any] = {"Name": name, "Value": live.id, "Type": "String", "Description": description}
    if before is None:
        tags = {"leptonami:plan": order.plan, "leptonami:family": order.family}
        request["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    else:
        check_owner(target, order, region, name)
        current = described_version(target, region, before)
        if latest:
            why = decide(versions, live.id, live.version, current, force=force)
            if why is not None:
                return Move(name, region, "held", before, before, versions[-1].version, why)
        elif current is not None:
            raise BuildError(
                f"it names {before}, which is still there",
                resource=f"{name} in {region}",
                hint=f"deregister {before}, or the other image of the same run, whichever is not meant",
            )
        request["Overwrite"] = True
    purpose = "where the newest is" if latest else "where this version is"
    try:
        answer = apply(target, Change("ssm.PutParameter", region, purpose, request), journal)
    except AwsError as error:
        if error.code != "ParameterAlreadyExists":
            raise
        # The answer to our own first attempt was lost, or somebody was faster: whichever it was, look again.
        return settle(target, order, live, name, journal, latest=latest, force=force)
    return Move(name, region, "set", live.id, before, answer["Version"])


def described_version(target: Target, region: str, image: str) -> str | None:
    """Name the version of the image that a parameter points to; None if it is gone."""
    described = describe(target, region, image) if image.startswith("ami-") else None
    if described is None or described["State"] != "available":
        return None
    tags = {each["Key"]: each["Value"] for each in described.get("Tags", [])}
    return str(tags.get("leptonami:run", ""))


def plan_of(target: Target, region: str, name: str) -> str | None:
    """Name the plan whose parameter it is, by its tag."""
    ssm = target.client("ssm", region)
    tags = target.call(ssm.list_tags_for_resource, ResourceType="Parameter", ResourceId=name)["TagList"]
    return next((each["Value"] for each in tags if each["Key"] == "leptonami:plan"), None)


def check_owner(target: Target, order: Order, region: str, name: str) -> None:
    """Refuse to change a parameter that another plan, or somebody else, has made."""
    plan = plan_of(target, region, name)
    if plan != order.plan:
        raise InputError(
            "the parameter belongs to " + (f"the plan {plan!r}" if plan else NOT_OURS),
            resource=f"{name} in {region}",
            hint="choose another publish.ssm_parameter, or tag it with leptonami:plan if it is this plan's",
        )


def back(versions: Sequence[Entry], usable: Sequence[str]) -> Entry | None:
    """Choose the version to go back to: the latest before the current one with another image, which is still there.

    Where the current version is itself a step back, what lies before the version that it went back to counts. Pure.
    """
    if not versions:
        return None
    current = versions[-1]
    limit = current.version
    while went := WENT_BACK.fullmatch(next((e.description for e in versions if e.version == limit), "")):
        if int(went[2]) >= limit:
            break
        limit = int(went[2])
    found = [each for each in versions if each.version < limit and each.value != current.value and each.value in usable]
    return found[-1] if found else None


def rollback(target: Target, region: str, name: str, journal: Journal | None) -> Move:
    """Let a parameter name the image that it named before, if that is still there.

    Parameters
    ----------
    journal
        Where it is written down; without one nothing is changed (a dry run).

    Raises
    ------
    InputError
        If there is no such parameter, it is not leptonami's, or there is nothing to go back to.
    """
    versions = history(target, region, name)
    where = f"{name} in {region}"
    if not versions:
        raise InputError(
            "there is no such parameter",
            resource=where,
            hint="give its whole name, .../latest, as `leptonami publish` printed it",
        )
    if plan_of(target, region, name) is None:
        raise InputError(f"the parameter belongs to {NOT_OURS}", resource=where, hint="leptonami changes only its own")
    current = versions[-1]
    others = {each.value for each in versions} - {current.value}
    usable = [each for each in others if described_version(target, region, each) is not None]
    chosen = back(versions, usable)
    if chosen is None:
        gone = len(others) - len(usable)
        raise InputError(
            "there is no earlier image to go back to" + (f" ({gone} of the earlier ones are gone)" if gone else ""),
            resource=where,
            hint="publish the image that is wanted with --set-latest",
        )
    if journal is None:
        return Move(name, region, "would be set", chosen.value, current.value, None)
    request = {
        "Name": name,
        "Value": chosen.value,
        "Type": "String",
        "Overwrite": True,
        "Description": BACK.format(current=current.version, chosen=chosen.version),
    }
    answer = apply(target, Change("ssm.PutParameter", region, "back to the image before", request), journal)
    return Move(name, region, "set", chosen.value, current.value, answer["Version"])
