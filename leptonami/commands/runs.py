"""`leptonami runs`: the runs of this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options, runs_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leptonami.lifecycle.known import KnownRun
    from leptonami.lifecycle.overview import Overview
    from leptonami.lifecycle.resources import Resource

__all__ = ["runs"]


@click.command("runs")
@aws_options
@runs_option
@click.option("--offline", is_flag=True, help="Do not ask AWS what they own; their journals have to do.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
def runs(aws: str, profile: str | None, runs: Path, offline: bool, as_json: bool) -> None:
    """List the runs of this machine: how each stands, what it owns, and about what it has cost so far."""
    from leptonami.console import print_json
    from leptonami.lifecycle.costs import Prices
    from leptonami.lifecycle.known import read_runs
    from leptonami.lifecycle.overview import overview
    from leptonami.runs import now

    known = read_runs(runs)
    inventory, why = (None, "not asked: --offline") if offline else ask(known, aws, profile)
    rows = overview(known.values(), inventory, now())
    if as_json:
        print_json(
            {
                "asked_aws": inventory is not None,
                "why": why,
                "assumptions": list(Prices.load().assumptions),
                "runs": [each.as_dict() for each in rows],
            }
        )
        return
    show(rows, why, runs)


def ask(known: Mapping[str, KnownRun], aws: str, profile: str | None) -> tuple[list[Resource] | None, str]:
    """Ask AWS what there is with leptonami's tags, if it can be asked; and say who was asked, or why nobody was."""
    from leptonami.errors import LeptonamiError
    from leptonami.lifecycle.inventory import collect
    from leptonami.lifecycle.where import open_where, regions_of

    places = regions_of(known)
    if not places:
        return None, "not asked: no run names a region"
    try:
        target, _ = open_where(aws, profile=profile, regions=places)
        with target:
            found = collect(target, places)
            simulated = " (simulated)" if target.provenance == "simulated" else ""
            return found, f"asked in {', '.join(places)}{simulated}"
    except LeptonamiError as error:
        return None, f"not asked: {error}"


def show(rows: list[Overview], why: str, folder: Path) -> None:
    """Write a table, and the story."""
    from leptonami.console import print_table, say
    from leptonami.lifecycle.costs import Prices
    from leptonami.lifecycle.overview import swept
    from leptonami.lifecycle.words import age, usd
    from leptonami.runs import now

    if not rows:
        say(f"no runs in {folder}")
        return
    lines = []
    for each in rows:
        known = each.known
        counts = Counter(thing.partition(" ")[0] for thing in each.owns)
        # A line each: the ids of runs are to be copied from here, and must not be folded.
        owns = "\n".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
        state = known.state + (", live" if known.live else "") + (", swept" if swept(known) else "")
        what = known.plan or "?"
        name = what if known.kind == "build" else known.kind + (f" {what}" if known.plan else "")
        row = (f"{known.id}\n{name}", state.replace(", ", ",\n"), age(known.started, now()), owns, usd(each.usd))
        lines.append(row)
    print_table(("run, plan", "state", "age", "owns", "USD"), lines)
    for each in rows:
        for note in each.known.notes:
            say(f"{each.known.id}: {note}")
    say(f"what they own: AWS was {why}" + ("; this is from their journals" if why.startswith("not") else ""))
    for assumption in Prices.load().assumptions[:2]:
        say(f"  estimated: {assumption}")
