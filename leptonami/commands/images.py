"""`leptonami images`: the images of a plan, their age and who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options, runs_option

if TYPE_CHECKING:
    from leptonami.lifecycle.images import ImageRecord, Images

__all__ = ["images"]


@click.command()
@click.argument("plan", required=False)
@click.option("--all", "everything", is_flag=True, help="The images of every plan.")
@aws_options
@runs_option
@click.option("--region", "regions", multiple=True, help="Look here; by default in the plan's regions.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
def images(
    plan: str | None,
    everything: bool,
    aws: str,
    profile: str | None,
    runs: Path,
    regions: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the images of PLAN (its file, or its name) across its regions, newest first.

    Who uses them: instances, launch templates, Auto Scaling groups, node groups and parameters of the same account.
    """
    from leptonami.console import print_json
    from leptonami.errors import InputError
    from leptonami.lifecycle import images as listing
    from leptonami.lifecycle.known import read_runs
    from leptonami.lifecycle.where import open_where, regions_of

    if (plan is None) != everything:
        raise InputError("name a plan, or --all", resource="images", hint="leptonami images ubuntu-22.04-gpu")
    wanted = listing.named(plan) if plan is not None else None
    # The plan says where its images are; without one, the runs of this machine do.
    others = wanted.regions if wanted is not None and wanted.regions else regions_of(read_runs(runs))
    target, places = open_where(aws, profile=profile, regions=regions or others if wanted else regions, others=others)
    with target:
        found = listing.find(target, plan=wanted.name if wanted else None, regions=places)
    if as_json:
        print_json(found.as_dict())
    else:
        show(found, places)


def show(found: Images, places: tuple[str, ...]) -> None:
    """Write a table for each region of each plan, and the story."""
    from leptonami.console import print_table, say

    groups: dict[tuple[str, str], list[ImageRecord]] = {}
    for each in found.records:
        groups.setdefault((each.plan, each.region), []).append(each)
    for (name, region), records in groups.items():
        rows = [row(found, each) for each in records]
        print_table(("image", "age", "state", "launched", "used by"), rows, title=f"{name} in {region}")
    bases: dict[str, list[str]] = {}
    for each in found.records:
        bases.setdefault(each.base or "?", []).append(each.id)
    if bases:
        print_table(("base", "images"), [(base, ", ".join(ids)) for base, ids in bases.items()], title="Made from")
    if found.provenance == "simulated":
        say("simulated: this is the lab")
    if not found.records:
        say(f"no images in {', '.join(places)}")
    silent(found.unasked)


def row(found: Images, each: ImageRecord) -> tuple[str, ...]:
    """Give a line for one image."""
    from leptonami.lifecycle.known import started
    from leptonami.lifecycle.words import age

    state = each.state
    if each.state == "available" and each.deprecated is not None:
        when = f"{each.deprecated:%Y-%m-%d}"
        state = f"deprecated {when}" if each.deprecated <= found.at else f"until {when}"
    if each.protected:
        state += ", protected"
    if each.odd:
        state += f"; odd tags: {each.odd}"
    launched = age(each.launched, found.at) if each.launched else "never" if each.launched_known else "unknown"
    users = ", ".join(map(str, each.users)) or "nobody"
    return f"{each.id}\n{each.version}", age(started(each.version), found.at), state, launched, users


def silent(unasked: Mapping[str, str]) -> None:
    """Say which services did not tell who uses an image."""
    from leptonami.console import say

    for place, why in unasked.items():
        say(f"not asked who uses them: {place}: {why}")
