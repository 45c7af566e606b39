"""`leptonami publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leptonami.commands.options import aws_options, quiet_option, runs_option
from leptonami.commands.signals import stop_as_by_ctrl_c

if TYPE_CHECKING:
    from leptonami.publish.model import Order
    from leptonami.publish.parameters import Move
    from leptonami.publish.publishing import Outline, Published
    from leptonami.publish.subject import Subject

__all__ = ["publish"]


@click.command()
@click.argument("image", metavar="[IMAGE|RUN]", required=False)
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="The plan; by default as the run's manifest has it."
)
@click.option("--rollback", metavar="PARAMETER", help="Let this SSM parameter name the image that it named before.")
@click.option("--region", "regions", multiple=True, help="With --rollback: where; several are possible.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option("--unchecked", is_flag=True, help="Publish although the evidence of the image's checks is not here.")
@click.option("--set-latest", is_flag=True, help="Move `latest` although it names a newer image, or was rolled back.")
@click.option("--json", "as_json", is_flag=True, help="Write the record as JSON.")
@aws_options
@runs_option
@quiet_option
def publish(
    image: str | None,
    plan_file: Path | None,
    rollback: str | None,
    regions: tuple[str, ...],
    dry_run: bool,
    unchecked: bool,
    set_latest: bool,
    as_json: bool,
    aws: str,
    profile: str | None,
    runs: Path,
    quiet: bool,
) -> None:
    """Copy an image to regions, share it, and let SSM parameters name it: what the plan's section `publish` orders.

    Doing it again changes nothing, and goes on after a failure. The parameters change last, and only for an image that
    passed its checks. An image is never made public. The record is runs/<id>/publish.json.
    """
    from leptonami.errors import InputError

    stop_as_by_ctrl_c()
    if rollback is not None:
        wrong = image or plan_file or unchecked or set_latest
        if wrong:
            raise InputError("--rollback takes no image, and of the options --region, --dry-run and --json only")
        go_back(rollback, regions, aws=aws, profile=profile, runs=runs, dry_run=dry_run, as_json=as_json)
        return
    if image is None:
        raise InputError("which image?", resource="IMAGE", hint="name a run or an image, or use --rollback PARAMETER")
    if regions:
        raise InputError("--region is for --rollback; copies go where the plan says", resource="--region")
    from leptonami import plan as plans
    from leptonami.publish.model import Order
    from leptonami.publish.subject import find
    from leptonami.target import connect

    subject = find(image, runs)
    if plan_file is not None:
        plan = plans.load(plan_file)
        for warning in plan.warnings:
            click.secho(f"warning: {warning}", fg="yellow", err=True)
        order = Order.of_plan(plan)
    elif subject.manifest:
        assert subject.run is not None  # noqa: S101 - a manifest comes from a run's folder
        order = Order.of_manifest(subject.manifest, where=str(subject.run.manifest_path))
    else:
        raise InputError(
            "the run that made the image is not on this machine, so what is ordered is not known",
            resource=image,
            hint="give its plan with --plan, and with --runs where the runs are",
        )
    if order.publish.asks_for_nothing:
        raise InputError(
            "the plan's section publish asks for nothing",
            resource=order.plan,
            hint="say in the plan where it goes, who may use it or what names it, and give it with --plan",
        )
    with connect(aws, region=order.region, profile=profile) as target:
        if dry_run:
            from leptonami.publish.publishing import outline

            show(outline(target, order, subject), as_json=as_json)
            return
        result, record = act(target, order, subject, runs, unchecked=unchecked, set_latest=set_latest, quiet=quiet)
    report(result, record, as_json=as_json)


def act(
    target: Any, order: Order, subject: Subject, runs: Path, *, unchecked: bool, set_latest: bool, quiet: bool
) -> tuple[Published, Path]:
    """Publish, in the folder of the run that made the image or in a new one."""
    from leptonami.progress import choose
    from leptonami.publish.publishing import RECORD
    from leptonami.publish.publishing import publish as act_on
    from leptonami.runs import Run

    run = subject.run or Run.create(runs)
    own = subject.run is None
    with run.lock():
        if own:
            note(run, "running", image=subject.image, plan=order.plan, provenance=target.provenance)
        state = "failed"
        try:
            result = act_on(
                target, order, subject.image, run, choose(quiet=quiet), unchecked=unchecked, set_latest=set_latest
            )
            state = "succeeded"
        finally:
            if own:
                note(run, state, image=subject.image, plan=order.plan, provenance=target.provenance)
    return result, run.folder / RECORD


def note(run: Any, state: str, **more: Any) -> None:
    """Write the manifest of a run that only publishes."""
    from leptonami.runs import now

    run.journal.write("run", kind="publish", state=state)
    image, plan = more.pop("image", None), more.pop("plan", None)
    run.write_manifest(
        {
            "schema": 1,
            "kind": "publish",
            "run": run.id,
            "state": state,
            "updated": now().isoformat(),
            "published": image,
            "plan": {"name": plan},
            **more,
        }
    )


def show(outline: Outline, *, as_json: bool) -> None:
    """Print what would be done."""
    from leptonami.console import print_json, print_table, say

    if as_json:
        print_json(outline.as_dict())
        return
    if not outline.changes:
        click.echo(f"{outline.image} stands as ordered: nothing would be changed")
    else:
        print_table(
            ["#", "region", "call", "why"],
            [
                (number, each.region, each.call.partition(".")[2], each.purpose)
                for number, each in enumerate(outline.changes, start=1)
            ],
        )
    found = outline.checked
    if found.ok:
        say(f"checked: {found.claims} claims verified ({found.basis})")
    else:
        click.secho("not checked, so it would be refused without --unchecked:", fg="yellow", err=True)
        for problem in found.problems:
            say(f"  {problem}")
    for each in outline.notes:
        say(f"note: {each}")


def report(result: Published, record: Path, *, as_json: bool) -> None:
    """Print what came of it."""
    import json

    from leptonami.console import print_json, print_table, say

    if result.provenance == "simulated":
        say("simulated: these images exist in the lab only")
    if as_json:
        print_json(json.loads(record.read_text(encoding="utf-8")))
        return
    rows = [
        (each.region, each.live.id, "copied" if each.made else "was there", len(each.done), len(each.live.launch))
        for each in result.regions
        if each.live is not None
    ]
    print_table(["region", "image", "", "changes", "shared with"], rows)
    if result.parameters:
        print_moves(result.parameters)
    template = result.as_dict()["launch_template"]
    if template is not None:
        click.echo("in your launch template (aws ec2 create-launch-template-version --launch-template-data):")
        click.echo(json.dumps(template))
    for each in result.notes:
        say(f"note: {each}")
    for region in result.regions:
        for who in region.also:
            say(f"note: {who} may use it in {region.region}, which the plan does not say")
    say(f"{'changed' if result.changed else 'nothing had to be changed'}; {record}")


def print_moves(moves: list[Move]) -> None:
    """Print what came of parameters: their names are long, so each has a line of its own."""
    from leptonami.console import print_table
    from leptonami.progress import printable

    for name in dict.fromkeys(each.name for each in moves):
        click.echo(name)
        print_table(
            ["region", "", "image", "before"],
            [
                # What a parameter held before may be anybody's text.
                (each.region, each.outcome, each.value, printable(each.before or "-"))
                for each in moves
                if each.name == name
            ],
        )


def go_back(
    name: str,
    regions: tuple[str, ...],
    *,
    aws: str,
    profile: str | None,
    runs: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Roll a parameter back in each region."""
    from leptonami.console import print_json, say
    from leptonami.publish.parameters import rollback
    from leptonami.runs import Run
    from leptonami.target import connect

    with connect(aws, region=regions[0] if regions else None, profile=profile) as target:
        places = dict.fromkeys(regions or (target.region,))
        # Every region is looked at before one is changed.
        moves = [rollback(target, region, name, None) for region in places]
        if not dry_run:
            run = Run.create(runs)
            with run.lock():
                note(run, "running", provenance=target.provenance)
                state = "failed"
                try:
                    moves = [rollback(target, region, name, run.journal) for region in places]
                    state = "succeeded"
                finally:
                    note(run, state, provenance=target.provenance, parameters=[vars(each) for each in moves])
            say(f"journal: {run.folder / 'journal.jsonl'}")
        if target.provenance == "simulated":
            say("simulated: in the lab only")
    if as_json:
        print_json([vars(each) for each in moves])
        return
    print_moves(moves)
