"""`leptonami bench`: measure how long launches take, and say what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leptonami.commands.options import aws_options, quiet_option, runs_option
from leptonami.commands.signals import stop_as_by_ctrl_c

if TYPE_CHECKING:
    from leptonami.bench.experiment import Experiment
    from leptonami.bench.results import Results

__all__ = ["bench"]

# leptonami.bench.groups.ACROSS, which is not imported for the help alone; a test compares them.
ACROSS = ("driver", "machine", "instance-type", "zone", "accelerator", "image", "bandwidth", "provenance")
across_option = click.option(
    "--across", multiple=True, type=click.Choice(ACROSS), help="Compare although this differs. Repeatable."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")


@click.group()
def bench() -> None:
    """Measure how long launches take, with and without pre-fetched images, and say what differs."""


@bench.command()
@click.argument("experiment", required=False)
@click.option("--resume", metavar="RUN", help="Go on with a run; more trials with --trials.")
@click.option("--trials", type=click.IntRange(1, 1000), help="Instead of the experiment's number.")
@click.option("--dry-run", is_flag=True, help="Say what would be run and what it would cost; run nothing.")
@click.option("--context", help="Driver eks: the context of the kubeconfig.")
@aws_options
@runs_option
@json_option
@quiet_option
def run(
    experiment: str | None,
    resume: str | None,
    trials: int | None,
    dry_run: bool,
    context: str | None,
    aws: str,
    profile: str | None,
    runs: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run EXPERIMENT: a file, or the name of one of data/experiments.

    Each trial is written down before the next; a run that was killed goes on with --resume. A trial that fails is a
    result with a reason. docs/benchmark.md explains the file and the numbers.
    """
    from leptonami.bench import cost, runner
    from leptonami.bench.drivers import open_driver
    from leptonami.bench.model import Setup
    from leptonami.console import say
    from leptonami.progress import choose
    from leptonami.runs import Run

    chosen, command = choose_experiment(experiment, resume, trials, runs)
    if dry_run:
        plan(chosen, as_json=as_json)
        return
    stop_as_by_ctrl_c()
    place = Run.open(runs, resume) if resume else Run.create(runs)
    say(f"run {place.id}: {cost.estimate(chosen).words() if chosen.eks else 'nothing is bought'}")
    found = runner.run(
        chosen,
        place,
        lambda tell: open_driver(
            chosen.driver, Setup(chosen, place.id, place.folder, tell, aws=aws, profile=profile, context=context)
        ),
        progress=choose(quiet=quiet or as_json),
        command=command,
    )
    present(found, as_json=as_json)


def choose_experiment(
    experiment: str | None, resume: str | None, trials: int | None, runs: Path
) -> tuple[Experiment, str]:
    """Read what is to be run, from a file or from the run that is gone on with; and the command that does it again."""
    from leptonami.bench import experiment as experiments
    from leptonami.bench.results import from_journal
    from leptonami.errors import InputError
    from leptonami.runs import Run

    if (experiment is None) is (resume is None):
        raise InputError("name either an experiment or --resume RUN", resource="bench run")
    if resume is not None:
        before = from_journal(Run.open(runs, resume))
        chosen, command = before.experiment, before.command
    else:
        assert experiment is not None  # noqa: S101 - one of the two
        chosen = experiments.load(experiment)
        # The name alone: a path would be one of this machine.
        command = f"leptonami bench run {Path(experiment).name}" + (f" --trials {trials}" if trials else "")
    if trials is not None:
        if resume is not None and trials < chosen.trials:
            raise InputError(
                f"the run has {chosen.trials} trials of each variant",
                resource="--trials",
                hint="more is possible, fewer is not",
            )
        chosen = chosen.model_copy(update={"trials": trials})
    return chosen, command


def plan(experiment: Experiment, *, as_json: bool) -> None:
    """Say what would be run."""
    from leptonami.bench import cost
    from leptonami.bench.order import order
    from leptonami.console import print_json, print_table, say

    trials, estimate = order(experiment), cost.estimate(experiment)
    if as_json:
        print_json({"experiment": experiment.as_dict(), "trials": len(trials), "cost": estimate.as_dict()})
        return
    print_table(
        ("trial", "block", "variant", "image", "instance type", "Mbit/s", ""),
        [
            (
                each.number,
                each.block,
                each.variant,
                each.image,
                each.instance_type,
                each.bandwidth_mbit or "",
                "warm-up" if each.warmup else "",
            )
            for each in trials
        ],
        title=f"{experiment.name}: {len(trials)} trials on the driver {experiment.driver}",
    )
    say(estimate.words())
    for each in estimate.assumptions:
        say(f"  estimated: {each}")


@bench.command()
@click.argument("results", metavar="RUN")
@click.option("--phase", help="Of another phase than the experiment's.")
@across_option
@runs_option
@json_option
def show(results: str, phase: str | None, across: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Show what a run, a recording or a file of results has yielded: numbers, verdicts, and what they cannot tell."""
    from leptonami.bench.results import read

    present(read(results, runs=runs), phase=phase, across=across, as_json=as_json)


@bench.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--phase", help="Of another phase than the experiment's.")
@across_option
@runs_option
@json_option
def compare(first: str, second: str, phase: str | None, across: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Hold the variants of run B against the same ones of run A; ends with 3 if one is worse."""
    from leptonami.bench.groups import compare_runs
    from leptonami.bench.results import read
    from leptonami.console import print_json
    from leptonami.errors import CheckFailed

    one, other = read(first, runs=runs), read(second, runs=runs)
    check_phase(phase)
    found = compare_runs(one, other, across=across, phase=phase)
    if as_json:
        print_json({"first": one.run, "second": other.run, "comparisons": [each.as_dict() for each in found]})
    else:
        for each in found:
            click.echo(each.sentence())
            if each.across:
                click.echo(f"  although this differs: {', '.join(each.across)}")
    worse = [each for each in found if each.found.verdict == "worse"]
    if worse:
        raise CheckFailed(
            f"{len(worse)} of {len(found)} comparisons are worse",
            resource=f"{first} and {second}",
            hint=worse[0].sentence(),
        )


@bench.command()
@click.option("--driver", help="This one alone; ends with 3 if it cannot work here.")
@json_option
def probe(driver: str | None, as_json: bool) -> None:
    """Say which drivers can work on this machine, and why others cannot."""
    from leptonami.bench.probing import probe_all
    from leptonami.console import print_json, print_mapping, print_table
    from leptonami.errors import CheckFailed

    found = probe_all([driver] if driver else None)
    if as_json:
        print_json([each.as_dict() for each in found])
    else:
        rows = [(each.name, "yes" if each.probe.possible else "no", "\n".join(each.probe.reasons)) for each in found]
        print_table(("driver", "possible", "why"), rows)
        print_mapping(next((each.probe.machine for each in found if each.probe.machine), {}))
    if driver and not found[0].probe.possible:
        raise CheckFailed(f"the driver {driver} cannot work here", hint="; ".join(found[0].probe.reasons) or None)


@bench.command()
@click.argument("results", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@runs_option
def record(results: str, folder: Path, runs: Path) -> None:
    """Write a run's results into FOLDER as a recording, and print its entry for data/recorded/index.yaml."""
    from leptonami.bench.recording import record as write
    from leptonami.bench.results import read

    click.echo(write(read(results, runs=runs), folder), nl=False)


@bench.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from leptonami.bench.experiment import json_schema
    from leptonami.console import print_json

    print_json(json_schema())


def check_phase(phase: str | None) -> None:
    """Refuse a phase that there is not."""
    from leptonami.bench.marks import PHASES
    from leptonami.errors import InputError
    from leptonami.validation import near

    names = [each.name for each in PHASES]
    if phase is not None and phase not in names:
        raise InputError(f"no such phase: {phase!r}", resource="--phase", hint=near(phase, names) or ", ".join(names))


def present(results: Results, *, phase: str | None = None, across: tuple[str, ...] = (), as_json: bool = False) -> None:
    """Write what came of an experiment."""
    from leptonami.bench import cost, report
    from leptonami.bench.groups import compare_variants, groups
    from leptonami.bench.parts import line
    from leptonami.console import print_json, print_table, say

    check_phase(phase)
    rows = compare_variants(results, across=across, phase=phase)
    numbers = report.numbers(results, phase)
    spent = cost.count(results.experiment, (*results.bakes, *results.trials))
    if as_json:
        print_json(
            {
                **report.payload(results),
                "provenance": results.provenance,
                "numbers": numbers,
                "comparisons": [each.as_dict() for each in rows],
                "cost": spent.as_dict(),
                "results": results.as_dict(),
            }
        )
        return
    title = phase or results.experiment.phase
    columns = ("variant", "n", "median", "quartiles", "p90", "not ok")
    cells = [(each["image"], each["instance type"], each["Mbit/s"]) for each in numbers]
    found = groups(results)
    for image, kind, bandwidth in dict.fromkeys(cells):
        mine = [
            (each, group)
            for each, group, cell in zip(numbers, found, cells, strict=True)
            if cell == (image, kind, bandwidth)
        ]
        network = "" if bandwidth == "unlimited" else f"{bandwidth} Mbit/s"
        print_table(
            columns,
            [
                (
                    each["variant"],
                    each["n"],
                    *(
                        (f"{each['median']:.2f} s", f"{each['q1']:.2f} to {each['q3']:.2f} s", f"{each['p90']:.2f} s")
                        if each["n"]
                        else ("", "", "")
                    ),
                    each["not ok"] or "",
                )
                for each, _ in mine
            ],
            title=f"{title}: {', '.join(filter(None, (image, kind, network)))} ({results.provenance})",
        )
        for _, group in mine:
            click.echo(line(group))
        click.echo()
    for verdict in rows:
        click.echo(verdict.sentence())
    for each in report.clock_lines(results):
        say(each)
    for problem in report.problems(results):
        say(f"  {problem}")
    if not results.complete:
        say(f"not complete: leptonami bench run --resume {results.run}")
    if spent.usd or spent.unknown:
        say(f"spent: {spent.words()}")
    for each in report.cannot_tell(results):
        say(f"cannot tell: {each}")
