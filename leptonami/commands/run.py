"""`leptonami run NOTEBOOK`; without one, `leptonami run` is the pipeline (`leptonami.commands.run_pipeline`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leptonami.commands.options import quiet_option, runs_option
from leptonami.errors import InputError

if TYPE_CHECKING:
    from leptonami.notebook import Outcome, Parameter, Progress

__all__ = ["run"]

UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}
# What a notebook may declare and gets without being asked: its run's id, and the folder that runs are kept in.
GIVEN = ("run_id", "runs_folder")


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read one."""
        match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)([smh]?)", str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no duration: write it as 90s, 30m or 4h", param, ctx)
        return float(match[1]) * UNITS[match[2]]


@click.command()
@click.argument("notebook", metavar="[NOTEBOOK]", required=False)
@click.option(
    "-p",
    "assignments",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set a parameter; may be repeated. For one notebook of a pipeline: NOTEBOOK.NAME=VALUE.",
)
@click.option(
    "-f",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parameters from a YAML file; -p comes before it.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder for the executed notebook and its page; by default runs/<id>/notebooks.",
)
@runs_option
@click.option("--html/--no-html", "page", default=True, show_default=True, help="Make the HTML page.")
@click.option("--cell-timeout", type=Duration(), help="The limit of one cell: 90s, 30m, 4h. None by default.")
@click.option("--timeout", type=Duration(), help="The limit of the whole notebook. None by default.")
@click.option(
    "--grace",
    type=Duration(),
    default="5m",
    show_default=True,
    help="What an interrupted cell gets to clean up before its kernel is killed.",
)
@click.option("--list-parameters", is_flag=True, help="Show what the notebook's parameters are, and run nothing.")
@click.option(
    "--keep-outputs",
    is_flag=True,
    help="For authors: run it in its own folder, without parameters, and write the outputs into NOTEBOOK itself.",
)
@click.option(
    "--pipeline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The pipeline's file; by default the pipeline.yaml that comes with leptonami.",
)
@click.option("--from", "start", metavar="NB", help="Pipeline: run this notebook and those after it.")
@click.option("--only", metavar="NB[,NB]", help="Pipeline: run these notebooks and no others.")
@click.option("--resume", metavar="RUN", help="Pipeline: go on with a run; what completed is kept.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Pipeline: notebooks at a time; by default min(cores, 4).")
@click.option("--dry-run", is_flag=True, help="Check everything and show what would be run, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write what came of it (or the parameters) as JSON.")
@quiet_option
@click.pass_context
def run(
    context: click.Context,
    notebook: str | None,
    assignments: tuple[str, ...],
    file: Path | None,
    output: Path | None,
    runs: Path,
    page: bool,
    cell_timeout: float | None,
    timeout: float | None,
    grace: float,
    list_parameters: bool,
    keep_outputs: bool,
    pipeline: Path | None,
    start: str | None,
    only: str | None,
    resume: str | None,
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a notebook with typed parameters, or all of them as a pipeline, and keep what was run with HTML pages.

    NOTEBOOK is a path, or the name of one that comes with leptonami (10_build_ami, or build_ami). Without it the
    notebooks of the pipeline run in their order, side by side as cores allow, into one run folder.

    Standard output gets the path of the page; of a pipeline, the index page and the decision record. The exit code
    says how the notebook, or the first one that failed, ended: docs/exit-codes.md.
    """
    if notebook is None:
        from leptonami.commands import run_pipeline

        if output is not None or keep_outputs:
            option = "--keep-outputs" if keep_outputs else "--output"
            raise InputError("this is for one notebook", resource=option, hint="name the notebook, or leave it out")
        run_pipeline.run(
            run_pipeline.Asked(
                file=pipeline,
                assignments=assignments,
                values=file,
                runs=runs,
                pages=page,
                timeout=timeout,
                cell_timeout=cell_timeout,
                grace=None if is_default(context, "grace") else grace,
                start=start,
                only=only,
                resume=resume,
                jobs=jobs,
                quiet=quiet,
                as_json=as_json,
            ),
            list_parameters=list_parameters,
            dry_run=dry_run,
        )
        return
    for option, value in (
        ("--pipeline", pipeline),
        ("--from", start),
        ("--only", only),
        ("--resume", resume),
        ("--jobs", jobs),
    ):
        if value is not None:
            raise InputError("this is for the pipeline", resource=option, hint="leave the notebook's name out")
    from leptonami import notebook as notebooks
    from leptonami.console import print_json

    source = find(notebook)
    declared = notebooks.parameters(source)
    if list_parameters:
        show_parameters(declared, as_json=as_json)
        return
    given = parse(assignments)
    values = notebooks.coerce(declared, given, values=notebooks.from_file(file) if file else None)
    if keep_outputs and values:
        raise InputError("outputs are kept of the defaults only", resource="--keep-outputs", hint="leave -p and -f out")
    run_id = fill([] if keep_outputs else declared, values, runs)
    folder = output or runs / run_id / "notebooks"
    executed, html = folder / source.name, folder / f"{source.stem}.html" if page else None
    if dry_run:
        show_plan(source, declared, values, executed, html, as_json=as_json)
        return
    with reporter(quiet=quiet) as (on_cell, say):
        outcome = notebooks.execute(
            source,
            executed,
            values,
            cell_timeout=cell_timeout,
            timeout=timeout,
            grace=grace,
            on_cell=on_cell,
            cwd=source.parent if keep_outputs else None,
            run_id=run_id,
            say=say,
        )
    made = make_page(outcome, html)
    if keep_outputs and outcome.error is None:
        notebooks.keep_outputs(outcome.output, source)
    tell(outcome, quiet=quiet)
    if as_json:
        print_json({"run": run_id, "notebook": str(executed), "html": str(made) if made else None} | outcome.as_dict())
    else:
        click.echo(str(made or executed))
    if outcome.error is not None:
        raise outcome.error


def is_default(context: click.Context, name: str) -> bool:
    """Tell whether an option was left out."""
    from click.core import ParameterSource

    return context.get_parameter_source(name) in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def find(name: str) -> Path:
    """Find a notebook by its path, or one that comes with leptonami by its name.

    Raises
    ------
    InputError
        If there is none, with the nearest names.
    """
    path = Path(name)
    if path.suffix == ".ipynb" or path.exists():
        return path
    shipped = {each.stem: each for each in sorted(home().glob("*.ipynb"))}
    by_subject = {re.sub(r"^\d+_", "", stem): each for stem, each in shipped.items()}
    if found := shipped.get(name) or by_subject.get(name):
        return found
    import difflib

    near = difflib.get_close_matches(name, [*shipped, *by_subject], n=3, cutoff=0.5)
    known = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(shipped) or 'none'}"
    raise InputError("there is no such notebook", resource=name, hint=f"{known} A path ends in .ipynb.")


def home() -> Path:
    """Give the folder of the notebooks that come with leptonami: in an installed wheel, or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_notebooks"
    return installed if installed.is_dir() else package.parent / "notebooks"


def parse(assignments: Sequence[str]) -> dict[str, str | object]:
    """Read `name=value`, each name once.

    Raises
    ------
    InputError
        If one is something else.
    """
    result: dict[str, str | object] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise InputError("it is not name=value", resource=f"-p {assignment}", hint="such as -p kubernetes=1.33")
        if name in result:
            raise InputError(f"{name} is given twice", resource="-p")
        result[name] = value
    return result


def fill(declared: Sequence[Parameter], values: dict[str, object], runs: Path) -> str:
    """Tell the notebook the run's id and the folder of the runs, where it declares them and nobody set them.

    Returns
    -------
    str
        The run's id: what was asked for, or a new one.
    """
    from leptonami.runs import new_id, parse_id

    asked = values.get("run_id")
    run_id = asked if isinstance(asked, str) and asked else new_id()
    parse_id(run_id)
    texts = {parameter.name for parameter in declared if parameter.type.kind == "str"}
    for name, value in zip(GIVEN, (run_id, str(runs)), strict=True):
        if name in texts and not values.get(name):
            values[name] = value
    return run_id


def show_parameters(declared: Sequence[Parameter], *, as_json: bool) -> None:
    """Show what a notebook can be told."""
    from leptonami.console import print_json, print_table

    if as_json:
        print_json(
            [
                {"name": each.name, "type": str(each.type), "default": each.default, "help": each.help}
                for each in declared
            ]
        )
        return
    print_table(
        ["Parameter", "Type", "Default", "Help"],
        [[each.name, each.type, written(each.default), each.help] for each in declared],
    )


def show_plan(
    source: Path,
    declared: Sequence[Parameter],
    values: Mapping[str, object],
    executed: Path,
    html: Path | None,
    *,
    as_json: bool,
) -> None:
    """Show what would be run with which values, and where it would be kept."""
    from leptonami.console import print_json, print_table, say

    used = {each.name: values.get(each.name, each.default) for each in declared}
    if as_json:
        print_json(
            {"source": str(source), "parameters": used, "notebook": str(executed), "html": str(html) if html else None}
        )
        return
    print_table(
        ["Parameter", "Value", "From"],
        [[name, written(value), "given" if name in values else "default"] for name, value in used.items()],
    )
    say(f"would run {source}, keep it as {executed}" + (f" and make {html}" if html else ""))


def written(value: object) -> str:
    """Write a value so that text and numbers can be told apart."""
    import json

    return json.dumps(value, ensure_ascii=False)


@contextmanager
def reporter(*, quiet: bool) -> Iterator[tuple[Callable[[Progress], None] | None, Callable[[str], None]]]:
    """Show where the notebook is: a bar on a terminal, a line for each section in a log."""
    from leptonami.console import say
    from leptonami.progress import printable

    if quiet:
        yield None, say
        return
    if sys.stderr.isatty():
        with bar() as shown:
            yield shown
        return
    last = ""

    def line(progress: Progress) -> None:
        nonlocal last
        heading = printable(progress.heading)
        if heading != last:
            say(f"cell {progress.number} of {progress.total}: {heading}")
        last = heading

    yield line, say


@contextmanager
def bar() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """Show a bar: cells done, and the heading of the one that is running."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from leptonami.progress import printable

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        SpinnerColumn(),
        TextColumn("cell {task.fields[number]} of {task.fields[cells]}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[heading]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, number="-", cells="-", heading="the kernel is starting")

        def move(progress: Progress) -> None:
            bars.update(
                task,
                total=progress.total,
                completed=progress.number - 1,
                number=progress.number,
                cells=progress.total,
                heading=printable(progress.heading),
            )

        yield move, console.print


def make_page(outcome: Outcome, html: Path | None) -> Path | None:
    """Make the page. Of a notebook that failed it is made in any case: a figure without a description is its least."""
    if html is None:
        return None
    from leptonami.html import render

    return render(outcome.output, html, strict=outcome.error is None)


def tell(outcome: Outcome, *, quiet: bool) -> None:
    """Tell how it went, in a line or two; the error itself is reported by the command line."""
    from leptonami.console import say

    if outcome.error is not None:
        where = f" in cell {outcome.cell}" if outcome.cell else ""
        under = f" ({outcome.heading})" if outcome.heading else ""
        say(
            f"{outcome.status}{where}{under}: {outcome.executed} of {outcome.cells} cells ran; kept as {outcome.output}"
        )
    elif not quiet:
        say(f"completed: {outcome.cells} cells in {outcome.seconds:.1f} s; kept as {outcome.output}")
    if outcome.provenance == "simulated":
        say("simulated: nothing in it was measured on AWS")
