"""`leptonami plan show PLAN`, and what `leptonami build --dry-run` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options

if TYPE_CHECKING:
    from leptonami.build.planner import Outline
    from leptonami.plan import Plan
    from leptonami.target import Target

__all__ = ["show", "show_command"]


@click.command("show")
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@aws_options
@click.option("--offline", is_flag=True, help="Look nothing up: ids stay open.")
@click.option("--brief", is_flag=True, help="Leave out the requests and the scripts.")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
def show_command(plan_file: Path, aws: str, profile: str | None, offline: bool, brief: bool, as_json: bool) -> None:
    """Show what building a plan will do: base image, calls that write, scripts, time and cost. Writes nothing."""
    from leptonami import plan as plans
    from leptonami.console import say
    from leptonami.errors import CredentialsError
    from leptonami.target import connect

    plan = plans.load(plan_file)
    for warning in plan.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    if not offline:
        try:
            with connect(aws, region=plan.region, profile=profile) as target:
                show(plan, target, as_json=as_json, brief=brief)
                return
        except CredentialsError as error:
            say(f"not looked up in AWS, so ids stay open: {error}")
    show(plan, None, as_json=as_json, brief=brief)


def show(plan: Plan, target: Target | None, *, as_json: bool, brief: bool) -> None:
    """Print what a build will do; `target` None leaves open what only AWS knows."""
    from leptonami import runs
    from leptonami.build import planner, preflight
    from leptonami.console import print_json

    run_id = runs.new_id()
    site = preflight.imagine(plan, run_id) if target is None else preflight.survey(target, plan, run_id)
    outline = planner.outline(plan, site, run_id)
    if as_json:
        from dataclasses import asdict

        from leptonami.publish import fastlaunch

        launches = [asdict(each) for each in fastlaunch.choices(plan)]
        print_json({"plan": plan.name, "warnings": list(plan.warnings), **outline.as_dict(), "fast_launch": launches})
        return
    print_outline(plan, outline, brief=brief)


def print_outline(plan: Plan, outline: Outline, *, brief: bool) -> None:
    """Print an outline for people: the long parts first, the summary last, where the eye ends up."""
    from leptonami.console import print_table

    if not brief:
        for name, script in outline.scripts.items():
            click.secho(f"# script {name}", bold=True)
            click.echo(script)
        for action in outline.actions:
            click.secho(f"# {action.call}: {action.purpose}", bold=True)
            click.echo(json.dumps(action.request, indent=2, default=str))
    base = outline.base
    click.secho(f"\n{plan.name}: {outline.image_name}", bold=True)
    click.echo(f"base image: {base['id']} {base['name']}")
    if base["parameter"]:
        version = f", version {base['parameter_version']}" if base["parameter_version"] else ""
        click.echo(f"  from {base['parameter']}{version}")
    print_table(
        ["#", "call that writes", "why", ""],
        [
            (number, each.call, each.purpose, "temporary" if each.temporary else "stays")
            for number, each in enumerate(outline.actions, start=1)
        ],
    )
    estimate = outline.estimate
    print_table(
        ["estimated", "about", "rests on"],
        [(each.name, f"{each.seconds / 60:.1f} min", each.basis) for each in estimate.phases],
    )
    cost = "not known" if estimate.builder_usd is None else f"about ${estimate.builder_usd:.2f}"
    click.echo(
        f"in all about {estimate.seconds / 60:.0f} min; builder {cost}; "
        f"snapshot ${estimate.snapshot_usd_month:.2f} a month"
    )
    for assumption in estimate.assumptions:
        click.echo(f"  assuming: {assumption}")
    print_choices(plan)


def print_choices(plan: Plan) -> None:
    """Print what each way to launch nodes from the image fast costs and buys; the plan's own is marked."""
    from leptonami.console import print_table
    from leptonami.publish import fastlaunch

    print_table(
        ["fast launch", "costs", "buys"],
        [
            (("> " if each.chosen else "") + each.name.replace("_", " "), each.costs, each.buys)
            for each in fastlaunch.choices(plan)
        ],
    )
    click.echo("  > is the plan's choice (publish.fast_launch); estimates with list prices, see docs/publish.md")
