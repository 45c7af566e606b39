"""`leptonami build PLAN`."""

from __future__ import annotations

from pathlib import Path

import click

from leptonami.commands.options import aws_options, quiet_option, runs_option
from leptonami.commands.signals import stop_as_by_ctrl_c

__all__ = ["build"]


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@aws_options
@runs_option
@click.option("--run", "run_id", help="The run's id; a new one by default.")
@click.option(
    "--resume", "resumed", metavar="RUN", help="Go on with a run that was killed; PLAN must not have changed."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; call nothing that writes.")
@click.option("--keep-on-error", is_flag=True, help="Leave the builder (tagged, with its expiry) after a failure.")
@click.option("--json", "as_json", is_flag=True, help="Write the manifest (or the dry run) as JSON.")
@quiet_option
def build(
    plan_file: Path,
    aws: str,
    profile: str | None,
    runs: Path,
    run_id: str | None,
    resumed: str | None,
    dry_run: bool,
    keep_on_error: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build an AMI from a plan: look, launch, provision over SSM, verify, image, clean up.

    Standard output gets the image's id. Everything else is in runs/<id>/: manifest.json, journal.jsonl, logs, evidence.
    """
    from leptonami import plan as plans
    from leptonami.build import executor
    from leptonami.commands.plan_show import show
    from leptonami.console import print_json, say
    from leptonami.errors import InputError
    from leptonami.progress import choose
    from leptonami.runs import Run
    from leptonami.target import connect

    stop_as_by_ctrl_c()
    if resumed is not None:
        if run_id not in {None, resumed}:
            raise InputError(
                "--run is for a new run, --resume goes on with one", resource="--run", hint="give one of them"
            )
        Run.open(runs, resumed)
        run_id = resumed
    plan = plans.load(plan_file)
    for warning in plan.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    with connect(aws, region=plan.region, profile=profile) as target:
        if dry_run:
            show(plan, target, as_json=as_json, brief=False)
            return
        result = executor.build(
            target,
            plan,
            runs=runs,
            run_id=run_id,
            progress=choose(quiet=quiet),
            keep_on_error=keep_on_error,
            resume=resumed is not None,
        )
    if result.provenance == "simulated":
        say("simulated: this image exists in the lab only")
    held = sum(each.ok for each in result.findings)
    say(f"{held} of {len(result.findings)} claims verified; {sum(target.calls.values())} AWS calls")
    say(f"{result.image.id}: {result.manifest}")
    for removal in result.removals:
        if removal.outcome == "failed":
            click.secho(f"warning: left behind: {removal.what}: {removal.error}", fg="yellow", err=True)
    if as_json:
        import json

        print_json(json.loads(result.manifest.read_text(encoding="utf-8")))
    else:
        click.echo(result.image.id)
