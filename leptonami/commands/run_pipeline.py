"""`leptonami run` without a notebook: the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leptonami.errors import InputError

if TYPE_CHECKING:
    from leptonami.pipeline.definition import Pipeline
    from leptonami.pipeline.prepare import Assignments, Job
    from leptonami.pipeline.record import Record

__all__ = ["Asked", "run"]

MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; the names are those of the options."""

    file: Path | None
    assignments: tuple[str, ...]
    values: Path | None
    runs: Path
    pages: bool
    timeout: float | None
    cell_timeout: float | None
    grace: float | None
    start: str | None
    only: str | None
    resume: str | None
    jobs: int | None
    quiet: bool
    as_json: bool


def run(asked: Asked, *, list_parameters: bool, dry_run: bool) -> None:
    """Run the pipeline, or show what would be run.

    Raises
    ------
    InputError
        If anything that was given is wrong; then nothing was run.
    LeptonamiError
        That of the notebook that failed first in the order, when all has been kept and told.
    """
    from leptonami.pipeline import definition

    pipeline = definition.load(asked.file or shipped())
    if list_parameters:
        show_parameters(pipeline, as_json=asked.as_json)
        return
    run_id, assignments = read_assignments(pipeline, asked)
    if asked.start and asked.only:
        raise InputError("--from and --only exclude each other", resource="--from", hint="leave one of them out")
    if dry_run:
        jobs = decide(pipeline, assignments, asked, read_earlier(asked), run_id)
        show_plan(pipeline, jobs, asked, run_id)
        return
    execute(pipeline, assignments, asked, run_id)


def shipped() -> Path:
    """Give the file of the pipeline that comes with leptonami."""
    from leptonami.commands.run import home

    return home() / "pipeline.yaml"


def read_assignments(pipeline: Pipeline, asked: Asked) -> tuple[str, Assignments]:
    """Read `-p` and `-f`; give the run's id and what the notebooks are given.

    Raises
    ------
    InputError
        If one is no `name=value` or `notebook.name=value`, or stands twice.
    """
    import dataclasses

    from leptonami.notebook import from_file
    from leptonami.pipeline import prepare
    from leptonami.runs import new_id, parse_id

    texts: dict[str, object] = {}
    single: dict[str, dict[str, object]] = {}
    for assignment in asked.assignments:
        left, equals, value = assignment.partition("=")
        notebook, dot, name = left.rpartition(".")
        where = f"-p {assignment[:200]}"
        if not equals or not name.isidentifier() or (dot and not notebook):
            hint = "such as -p kubernetes=1.33, or -p 10_build_ami.plan=ubuntu-24.04-gpu"
            raise InputError("it is not name=value", resource=where, hint=hint)
        whose = single.setdefault(prepare.find_step(pipeline, notebook, where), {}) if dot else texts
        if name in whose:
            raise InputError(f"{left} is given twice", resource="-p")
        whose[name] = value
    given_id = texts.pop("run_id", None)
    if asked.resume and given_id not in (None, asked.resume):
        raise InputError("the run that is resumed has its id", resource="-p run_id", hint="leave one of them out")
    run_id = asked.resume or str(given_id or new_id())
    parse_id(run_id)
    from_yaml = prepare.split(pipeline, from_file(asked.values)) if asked.values else prepare.Assignments()
    return run_id, dataclasses.replace(from_yaml, texts=texts, single_texts=single)


def decide(
    pipeline: Pipeline, assignments: Assignments, asked: Asked, earlier: Record | None, run_id: str
) -> tuple[Job, ...]:
    """Say of each notebook what is done about it."""
    from leptonami.notebook import versions
    from leptonami.pipeline import prepare

    only = [prepare.find_step(pipeline, name.strip(), "--only") for name in (asked.only or "").split(",") if asked.only]
    return prepare.prepare(
        pipeline,
        assignments,
        limits=prepare.Limits(asked.timeout, asked.cell_timeout, asked.grace),
        start=prepare.find_step(pipeline, asked.start, "--from") if asked.start else None,
        only=only,
        earlier=earlier,
        folder=asked.runs / run_id,
        version=versions().get("leptonami", ""),
    )


def read_earlier(asked: Asked) -> Record | None:
    """Read what the run that is resumed has left; None for a new run."""
    from leptonami.pipeline import record as records

    if not asked.resume:
        return None
    earlier = records.load(asked.runs, asked.resume)
    for entry in earlier.notebooks:
        if entry.state == "running":
            records.recover(entry, asked.runs / asked.resume)
    return earlier


def execute(pipeline: Pipeline, assignments: Assignments, asked: Asked, run_id: str) -> None:
    """Run it, tell how it went, and leave with the exit code."""
    from leptonami.console import print_json, say
    from leptonami.pipeline import board, execution, index
    from leptonami.pipeline import record as records

    folder = asked.runs / run_id
    if not asked.resume:
        decide(pipeline, assignments, asked, None, run_id)  # for its errors: what is refused makes no folder
        claim(asked.runs, run_id)
    elif not (folder / records.FILE).is_file():
        records.load(asked.runs, run_id)  # for its error; a lock must not make a folder
    with records.holding(folder) as lock:
        earlier = read_earlier(asked)
        jobs = decide(pipeline, assignments, asked, earlier, run_id)
        at_once = asked.jobs or min(execution.cores(), MOST_AT_ONCE)
        record = begin_record(pipeline, jobs, earlier, run_id, at_once)
        shown = board.choose([job.step.name for job in jobs if job.choice.action == "run"], quiet=asked.quiet)
        for job in jobs:
            for warning in job.choice.warnings:
                shown.note(f"{job.step.name}: {warning}")
        execution.execute(
            jobs, record, folder, runs=asked.runs, at_once=at_once, board=shown, lock=lock, pages=asked.pages
        )
    tell(record, folder, quiet=asked.quiet)
    page = folder / index.FILE
    # The newest is this run's; older ones are there if it has decided before. The index page links them all.
    decisions = [folder / each for each in index.decision_records(folder)][:1]
    if asked.as_json:
        document = {"index": str(page), "decision_record": str(decisions[0]) if decisions else None}
        print_json(document | record.model_dump(mode="json"))
    else:
        for path in (page, *decisions):
            click.echo(str(path))
    error = execution.problem(record, [job.step for job in jobs if job.choice.action == "run"])
    if error is not None:
        others = [each.name for each in record.notebooks if each.state == "skipped"]
        if others and not asked.quiet:
            say(f"skipped: {', '.join(others)}")
        raise error


def claim(runs: Path, run_id: str) -> None:
    """Make the folder of a new run, which nobody has used, and begin its journal.

    The journal is there before the first notebook: several that begin at once all open the run, and none makes it.

    Raises
    ------
    InputError
        If the run exists, or the folder cannot be made.
    """
    from leptonami.runs import Run

    folder = runs / run_id
    if folder.exists():
        raise InputError(
            f"the run {run_id} has been used",
            resource=str(folder),
            hint=f"leave the run id out for a new one, or go on with it: leptonami run --resume {run_id}",
        )
    Run.create(runs, run_id).journal.write("begun", by="pipeline")


def begin_record(pipeline: Pipeline, jobs: Sequence[Job], earlier: Record | None, run_id: str, at_once: int) -> Record:
    """Make the record of this attempt: what is kept keeps its entry, everything else begins anew."""
    from leptonami.notebook import versions
    from leptonami.pipeline.record import NotebookRecord, Record
    from leptonami.runs import now

    before = {each.name: each for each in earlier.notebooks} if earlier else {}
    entries = []
    for job in jobs:
        step, old = job.step, before.get(job.step.name)
        entry = NotebookRecord(name=step.name)
        if job.choice.action != "run" and old is not None:
            entry = old
        elif job.choice.action == "leave out":
            entry.state, entry.why = "left out", job.choice.why
        entry.title, entry.purpose, entry.needs = step.title, step.purpose, list(step.needs)
        entry.given = dict(job.given)
        entries.append(entry)
    return Record(
        run=run_id,
        pipeline=pipeline.path.name,
        sha256=pipeline.sha256,
        jobs=at_once,
        attempts=earlier.attempts + 1 if earlier else 1,
        started=earlier.started if earlier else now().isoformat(),
        seconds=earlier.seconds if earlier else None,
        versions=versions(),
        notebooks=entries,
    )


def tell(record: Record, folder: Path, *, quiet: bool) -> None:
    """Tell how all of it went, in a line or two."""
    from leptonami.console import say
    from leptonami.pipeline.board import span

    states = [each.state for each in record.notebooks]
    if not quiet:
        done = f"{states.count('completed')} of {len(states)} notebooks completed"
        say(f"{record.state}: {done} in {span(record.seconds or 0)}; kept in {folder}")
    if record.provenance == "simulated":
        say("simulated: nothing in it was measured on AWS")


def show_parameters(pipeline: Pipeline, *, as_json: bool) -> None:
    """Show what the notebooks can be told, and what the pipeline's file tells them."""
    from leptonami.commands.run import written
    from leptonami.console import print_json, print_table

    rows = [(step, each) for step in pipeline.steps for each in step.declared]
    if as_json:
        print_json(
            [
                {
                    "notebook": step.name,
                    "name": each.name,
                    "type": str(each.type),
                    "default": step.values.get(each.name, each.default),
                    "help": each.help,
                }
                for step, each in rows
            ]
        )
        return
    print_table(
        ["Notebook", "Parameter", "Type", "Default", "Help"],
        [
            [step.name, each.name, each.type, written(step.values.get(each.name, each.default)), each.help]
            for step, each in rows
        ],
    )


def show_plan(pipeline: Pipeline, jobs: Sequence[Job], asked: Asked, run_id: str) -> None:
    """Show what would be run, in which order, side by side with what, and with which values."""
    from leptonami.commands.run import written
    from leptonami.console import print_json, print_table, say
    from leptonami.pipeline.board import span
    from leptonami.pipeline.execution import cores
    from leptonami.pipeline.planning import levels

    at_once = asked.jobs or min(cores(), MOST_AT_ONCE)
    grouped = levels(pipeline.needs)
    level = {name: number for number, names in enumerate(grouped, start=1) for name in names}
    if asked.as_json:
        print_json(
            {
                "pipeline": str(pipeline.path),
                "run": run_id,
                "folder": str(asked.runs / run_id),
                "jobs": at_once,
                "levels": grouped,
                "notebooks": [planned(job) for job in jobs],
            }
        )
        return
    print_table(
        ["Level", "Notebook", "Does", "Why", "Needs", "Time-out"],
        [
            [
                level[job.step.name],
                job.step.name,
                job.choice.action,
                job.choice.why,
                ", ".join(job.step.needs),
                "none" if job.timeout is None else span(job.timeout),
            ]
            for job in jobs
        ],
    )
    print_table(
        ["Notebook", "Parameter", "Value", "From"],
        [
            [job.step.name, name, written(value), origin(job, name)]
            for job in jobs
            if job.choice.action == "run"
            for name, value in job.used.items()
        ],
    )
    say(f"would run up to {at_once} at a time, into {asked.runs / run_id}")


def planned(job: Job) -> dict[str, Any]:
    """Give what is planned for a notebook as plain data."""
    used: Mapping[str, object] = job.used
    return {
        "name": job.step.name,
        "title": job.step.title,
        "for": job.step.purpose,
        "needs": list(job.step.needs),
        "action": job.choice.action,
        "why": job.choice.why,
        "warnings": list(job.choice.warnings),
        "parameters": dict(used),
        "timeout": job.timeout,
        "cell_timeout": job.cell_timeout,
        "grace": job.grace,
        "source": str(job.step.source),
    }


def origin(job: Job, name: str) -> str:
    """Say where a value comes from."""
    if name in job.given:
        return "given"
    return "pipeline" if name in job.step.values else "default"
