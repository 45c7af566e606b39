"""`leptonami retire`: deprecate old images, and deregister them later."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options, quiet_option, runs_option
from leptonami.commands.signals import stop_as_by_ctrl_c

if TYPE_CHECKING:
    from leptonami.lifecycle.retire import Retired

__all__ = ["retire"]


@click.command()
@click.argument("plan")
@click.option("--keep", type=click.IntRange(min=0), required=True, help="Keep the last N in each region.")
@click.option(
    "--grace", default="30d", show_default=True, help="How long an image stays deprecated before it goes: 30d, 12h."
)
@aws_options
@runs_option
@click.option("--region", "regions", multiple=True, help="Only here; by default in the plan's regions.")
@click.option("--owner", "owners", multiple=True, help="Also what NAME owns (leptonami:owner). Repeatable.")
@click.option("--any-owner", is_flag=True, help="Whoever owns it.")
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(["autoscaling", "eks"]),
    help="Do not ask this service who uses the images: you know that nobody does.",
)
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
@quiet_option
def retire(
    plan: str,
    keep: int,
    grace: str,
    aws: str,
    profile: str | None,
    runs: Path,
    regions: tuple[str, ...],
    owners: tuple[str, ...],
    any_owner: bool,
    skip: tuple[str, ...],
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Deprecate the old images of PLAN (its file, or its name), and deregister those that have been long enough.

    The last N stay, and so does whatever is in use. An image is deprecated first; it is deregistered, with its
    snapshots, once it has been deprecated for the grace period. docs/lifecycle.md has the rules.
    """
    from datetime import timedelta

    from leptonami import plan as plans
    from leptonami.commands.outcome import conclude
    from leptonami.errors import InputError
    from leptonami.lifecycle import images as listing
    from leptonami.lifecycle import retire as retiring
    from leptonami.lifecycle.known import read_runs
    from leptonami.lifecycle.where import open_where, regions_of
    from leptonami.progress import choose

    stop_as_by_ctrl_c()
    try:
        length = timedelta(seconds=plans.seconds(grace))
    except (ValueError, OverflowError) as error:
        raise InputError(f"not a duration: {grace!r}", resource="--grace", hint="such as 30d or 12h") from error
    wanted = listing.named(plan)
    others = wanted.regions or regions_of(read_runs(runs))
    target, places = open_where(aws, profile=profile, regions=regions or others, others=others)
    with target:
        retired = retiring.retire(
            target,
            wanted.name,
            keep=keep,
            grace=length,
            regions=places,
            runs=runs,
            owners=owners,
            any_owner=any_owner,
            skip=skip,
            act=yes,
            progress=choose(quiet=quiet or as_json or not yes),
        )
    conclude(retired, show, as_json=as_json)


def show(retired: Retired) -> None:
    """Write a table for each region, and the story."""
    from leptonami.commands.images import silent
    from leptonami.console import print_table, say

    outcomes = {(each.image.region, each.image.id): each.outcome for each in retired.outcomes}
    for region in dict.fromkeys(each.image.region for each in retired.decisions):
        rows = []
        for each in retired.decisions:
            if each.image.region == region:
                end = [outcomes.get((region, each.image.id), "")] if retired.outcomes else []
                rows.append((f"{each.image.id}\n{each.image.version}", each.action, each.why, *end))
        columns = ("image", "action", "why", *(["outcome"] if retired.outcomes else []))
        print_table(columns, rows, title=f"{region}: keep {retired.keep}, grace {retired.grace.days} d")
    if retired.found.provenance == "simulated":
        say("simulated: this is the lab")
    silent(retired.found.unasked)
    if not retired.decisions:
        say("there are no images of this plan")
    elif retired.run is not None:
        counts = Counter(each.outcome for each in retired.outcomes)
        say(f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {retired.run.manifest_path}")
    elif retired.acts:
        counts = Counter(each.action for each in retired.acts)
        say(f"to {', '.join(f'{action} {count}' for action, count in counts.items())}")
        say("dry run: repeat with --yes to do it")
    else:
        say("nothing to do")
