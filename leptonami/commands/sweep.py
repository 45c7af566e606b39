"""`leptonami sweep`: remove what dead and expired runs left behind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options, quiet_option, runs_option
from leptonami.commands.signals import stop_as_by_ctrl_c

if TYPE_CHECKING:
    from leptonami.lifecycle.sweep import Swept, Verdict

__all__ = ["sweep"]


@click.command()
@aws_options
@runs_option
@click.option("--region", "regions", multiple=True, help="Look here; by default where this machine's runs were.")
@click.option("--owner", "owners", multiple=True, help="Also what NAME owns (leptonami:owner). Repeatable.")
@click.option("--kept", is_flag=True, help="Also what --keep-on-error left and what has not expired.")
@click.option("--yes", is_flag=True, help="Remove it. Without this, only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
@quiet_option
def sweep(
    aws: str,
    profile: str | None,
    runs: Path,
    regions: tuple[str, ...],
    owners: tuple[str, ...],
    kept: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find what dead and expired runs left behind, and remove it with --yes.

    Only what carries all of leptonami's tags, is yours, and belongs to a run that is over or has expired. A finished
    image is never swept, nor anything of a run that is being worked on. docs/lifecycle.md has the rules.
    """
    from leptonami.commands.outcome import conclude
    from leptonami.lifecycle import sweep as sweeping
    from leptonami.lifecycle.known import read_runs
    from leptonami.lifecycle.where import open_where, regions_of
    from leptonami.progress import choose

    stop_as_by_ctrl_c()
    target, places = open_where(aws, profile=profile, regions=regions, others=regions_of(read_runs(runs)))
    with target:
        swept = sweeping.sweep(
            target,
            runs=runs,
            regions=places,
            owners=owners,
            act=yes,
            even_kept=kept,
            progress=choose(quiet=quiet or as_json or not yes),
        )
    conclude(swept, show, as_json=as_json)


def show(swept: Swept) -> None:
    """Write tables, one for each run, and the story."""
    from leptonami.console import print_table
    from leptonami.lifecycle.known import started
    from leptonami.lifecycle.words import age, usd

    outcomes = {id(each.resource): each.outcome for each in swept.outcomes}
    total = 0.0
    for run, verdicts in by_run(swept.plan.removals).items():
        rows = []
        for each in verdicts:
            cost = swept.usd(each.resource)
            total += cost or 0.0
            end = [outcomes[id(each.resource)]] if swept.outcomes else []
            # What AWS tells no date of is about as old as its run.
            since = each.resource.created or started(run)
            rows.append((each.resource.kind, each.resource.id, age(since, swept.at), usd(cost), *end))
        whys = ", ".join(dict.fromkeys(each.why for each in verdicts))
        columns = ("kind", "id", "age", "USD", *(["outcome"] if swept.outcomes else []))
        print_table(columns, rows, title=f"run {run} of {verdicts[0].owner}, in {places(verdicts)}\n{whys}")
    odd: dict[str, list[Verdict]] = {}
    for each in swept.plan.left:
        if not each.expected:
            odd.setdefault(each.why, []).append(each)
    for why, verdicts in odd.items():
        # The reason over them: beside them it would fold the ids.
        lines = [(each.resource.kind, each.resource.id, each.resource.region) for each in verdicts]
        print_table(("kind", "id", "region"), lines, title=f"left alone: {why}")
    tell(swept, total)


def tell(swept: Swept, total: float) -> None:
    """Tell what was found, on standard error."""
    from leptonami.console import say

    plan, where = swept.plan, ", ".join(swept.regions)
    if swept.provenance == "simulated":
        say("simulated: this is the lab")
    if not plan.removals:
        say(f"nothing to sweep in {where}, for {', '.join(swept.owners)}")
    elif swept.run is None:
        say(f"{len(plan.removals)} would be removed in {where}; they have cost about USD {total:.2f} so far")
        say("dry run: repeat with --yes to remove them")
    else:
        counts = Counter(each.outcome for each in swept.outcomes)
        say(f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {swept.run.manifest_path}")
    finished = sum(each.expected and each.resource.kind == "image" for each in plan.left)
    if finished:
        say(f"{finished} finished images stay (leptonami images, leptonami retire)")
    others = {each.owner for each in plan.left if each.owner is not None and each.owner not in swept.owners}
    if others:
        say(f"what others own stays; to include it: {' '.join(f'--owner {quote(each)}' for each in sorted(others))}")
    if plan.removals:
        for each in swept.prices.assumptions:
            say(f"  estimated: {each}")


def by_run(verdicts: tuple[Verdict, ...]) -> dict[str, list[Verdict]]:
    """Group removals by their run; the order within a run stays."""
    grouped: dict[str, list[Verdict]] = {}
    for each in verdicts:
        grouped.setdefault(each.run or "?", []).append(each)
    return dict(sorted(grouped.items()))


def places(verdicts: list[Verdict]) -> str:
    """Name the regions of some removals."""
    return ", ".join(dict.fromkeys(each.resource.region for each in verdicts))
