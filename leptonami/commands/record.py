"""`leptonami record`: write a decision record, check it, compare two, list them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leptonami.commands.options import runs_option
from leptonami.console import print_json, print_table, say

if TYPE_CHECKING:
    from leptonami.decide.record import Body, Record

__all__ = ["record"]


OVERRIDE = "Why it is accepted although nothing but simulation speaks for it. This is recorded."


def folder_option(command: Any) -> Any:
    """Say where records are kept."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("docs/records"),
        show_default=True,
        help="The folder of the records.",
    )(command)


@click.group()
def record() -> None:
    """Write decision records, check that they still hold, and compare them."""


@record.command()
@click.option("--question", default="gpu-nodes", show_default=True, help="The question of the options file.")
@click.option("--compare", multiple=True, help="Another question to judge beside it; several times.")
@click.option("--title", default="", help="The record's title; by default the question.")
@click.option("--decision-maker", "makers", multiple=True, help="Who decides; several times.")
@click.option("--consulted", multiple=True, help="Who was asked.")
@click.option("--informed", multiple=True, help="Who is told.")
@click.option("--options", "options_file", help="An options file of your own.")
@click.option("--criteria", "criteria_file", help="A criteria file of your own.")
@click.option("--weight", "weights", multiple=True, help="Another weight for one criterion: cost=3.")
@click.option("--run", "run_ids", multiple=True, help="A run whose evidence counts too.")
@click.option("--observed", default="", help="The option that the cluster of these runs had.")
@click.option("--as-of", help="The record's day; by default today (UTC).")
@click.option("--status", default="proposed", show_default=True, help="Its first status.")
@click.option("--note", default="", help="Why it has this status.")
@click.option(
    "--override", default="", help="Why it is accepted although only simulation speaks for it. It is recorded."
)
@click.option("--dry-run", is_flag=True, help="Show the outcome and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write what came out as JSON.")
@folder_option
@runs_option
def new(
    question: str,
    compare: tuple[str, ...],
    makers: tuple[str, ...],
    options_file: str | None,
    criteria_file: str | None,
    weights: tuple[str, ...],
    run_ids: tuple[str, ...],
    as_of: str | None,
    status: str,
    override: str,
    dry_run: bool,
    as_json: bool,
    folder: Path,
    runs: Path,
    **texts: Any,
) -> None:
    """Judge a question now, and write the next record."""
    from leptonami.decide import criteria, store, study
    from leptonami.decide import record as records

    about = records.About(
        number=store.next_number(folder),
        title=texts["title"],
        decision_makers=makers,
        consulted=texts["consulted"],
        informed=texts["informed"],
        runs=run_ids,
        observed=texts["observed"],
    )
    body = study.judge(
        (question, *compare),
        day=study.as_day(as_of, "--as-of"),
        options=options_file,
        criteria=criteria_file,
        weights=criteria.parse_weights(weights),
        runs=runs,
        about=about,
    )
    made = records.new(body, status, note=texts["note"], override=override)  # type: ignore[arg-type] # checked there
    path = None if dry_run else store.write_new(made, folder)
    if as_json:
        print_json({"path": str(path) if path else None, **summary(made)})
    else:
        show(body, path)


def summary(made: Record) -> dict[str, Any]:
    """Give what a record says, as plain data."""
    from leptonami.decide.record import plain

    body = made.body
    return {
        "name": body.name,
        "title": body.title,
        "date": body.day.isoformat(),
        "status": str(made.status),
        "chosen": body.main.decision.chosen,
        "provenance": body.provenance,
        "decision": plain(body.main.decision),
        "claims": {each.id: each.state for each in body.main.claims},
    }


def show(body: Body, path: Path | None) -> None:
    """Tell what came out."""
    from leptonami.decide.report import Report

    told = Report(body.main, body.options, body.criteria)
    matrix = told.matrix()
    # Six options fit 80 columns only so; where they do not fit, the table breaks within words.
    columns = [narrow(str(each), 6) for each in matrix.columns]
    rows = [
        [
            narrow(first.replace("weight ", "×"), 11),
            *(narrow("out" if each == "excluded" else each, 6) for each in cells),
        ]
        for first, *cells in ([str(each) for each in row] for row in matrix.rows)
    ]
    print_table(columns, rows, title=matrix.caption)
    say(told.outcome())
    for each in (*told.exclusions(), *told.not_shown()):
        say(f"  {each}")
    say(f"provenance: {body.provenance or 'no evidence'}")
    if path is not None:
        click.echo(path.with_suffix(".html"))


def narrow(text: str, width: int) -> str:
    """Break text into lines at its spaces only."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


@record.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
@folder_option
def list_(as_json: bool, folder: Path) -> None:
    """List the records of a folder."""
    from leptonami.decide import store

    found = [store.read(each) for each in store.listed(folder)]
    if as_json:
        print_json([summary(each) for each in found])
        return
    print_table(
        ("record", "status", "date", "chosen", "evidence"),
        [
            (r.body.name, str(r.status), r.body.day, r.body.main.decision.chosen or "none", r.body.provenance or "none")
            for r in found
        ],
    )


@record.command()
@click.argument("names", nargs=-1)
@click.option("--as-of", help="Judge the claims as of this day; by default today (UTC).")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
@folder_option
@runs_option
def check(names: tuple[str, ...], as_of: str | None, as_json: bool, folder: Path, runs: Path) -> None:
    """Check records: their text, their evidence, and whether the outcome still follows. All of them by default.

    Of a record that is rejected, deprecated or superseded only the text is checked, unless you name it. The exit code
    is 3 if anything was altered, has expired or no longer follows.
    """
    from leptonami.decide import store, study, verify
    from leptonami.errors import CheckFailed, InputError

    day = study.as_day(as_of, "--as-of")
    paths = [store.find(folder, each) for each in names] or store.listed(folder)
    if not paths:
        raise InputError("there is no record", resource=str(folder), hint="leptonami record new writes one")
    results = [verify.check(each, runs=runs, day=day, whole=bool(names)) for each in paths]
    if as_json:
        print_json([each.as_dict() for each in results])
    else:
        for result in results:
            say(f"{result.name}: {'holds' if result.holds else f'{len(result.changes)} changes'}, as of {result.day}")
        rows = [(result.name, each.what, each.where, each.text) for result in results for each in result.changes]
        if rows:
            print_table(("record", "what", "where", "change"), rows)
    broken = [each for each in results if not each.holds]
    if broken:
        raise CheckFailed(
            f"{len(broken)} of {len(results)} records no longer hold as they stand",
            resource=", ".join(each.name for each in broken),
            hint="altered files: git log; otherwise write a new record that supersedes it: leptonami record new",
        )


@record.command()
@click.argument("name")
@folder_option
def render(name: str, folder: Path) -> None:
    """Write a record's HTML page again, by the template of this version."""
    from leptonami.decide import store

    path = store.find(folder, name)
    store.write_again(unaltered(path), path)
    click.echo(path.with_suffix(".html"))


def unaltered(path: Path) -> Record:
    """Read a record that is to be written again, and see that nobody altered it. Its page may be any.

    Raises
    ------
    CheckFailed
        If somebody did.
    """
    from leptonami.decide import store, verify
    from leptonami.errors import CheckFailed

    made = store.read(path)
    wrong = [each for each in verify.of_text(made, path) if not each.where.endswith(".html")]
    if wrong:
        raise CheckFailed(wrong[0].text, resource=wrong[0].where, hint="git log tells what changed")
    return made


@record.command()
@click.argument("name")
@click.argument("status")
@click.option("--by", default="", help="The record that supersedes it, such as 0002.")
@click.option("--on", "on", help="From which day; by default today (UTC).")
@click.option("--note", default="", help="Why.")
@click.option(
    "--override", default="", help="Why it is accepted although only simulation speaks for it. It is recorded."
)
@folder_option
def status(name: str, status: str, by: str, on: str | None, note: str, override: str, folder: Path) -> None:
    """Give a record a new status; everything else in it stays, the old statuses too."""
    from leptonami.decide import store, study
    from leptonami.decide.record import add_status

    path = store.find(folder, name)
    other = store.find(folder, by).stem if by else ""
    made = add_status(unaltered(path), status, study.as_day(on, "--on"), by=other, note=note, override=override)  # type: ignore[arg-type] # checked there
    store.write_again(made, path)
    say(f"{made.body.name}: {made.status}")


@record.command()
@click.argument("first")
@click.argument("second")
@click.option("--json", "as_json", is_flag=True, help="Write it as JSON.")
@folder_option
def diff(first: str, second: str, as_json: bool, folder: Path) -> None:
    """Say what is otherwise in a second record, and which evidence or weight moved the outcome."""
    from leptonami.decide import store
    from leptonami.decide.diff import diff as compare

    found = compare(*(store.read(store.find(folder, each)).body for each in (first, second)))
    if as_json:
        print_json(found.as_dict())
        return
    say(found.told())
    rows: list[tuple[object, ...]] = [
        (
            "claim",
            each.id,
            each.before or "absent",
            each.after or "absent",
            "yes" if each.moves else "",
            evidence_of(each),
        )
        for each in found.claims
    ]
    rows += [("weight", name, a, b, "yes" if found.weights_move else "", "") for name, a, b in found.weights]
    rows += [("evidence", each, "absent", "there", "", "") for each in found.came]
    rows += [("evidence", each, "there", "absent", "", "") for each in found.went]
    rows += [("evidence", each, "there", "altered", "", "") for each in found.altered]
    print_table(("what", "which", first, second, "moved the outcome", "evidence"), rows)


def evidence_of(change: Any) -> str:
    """Say which evidence came and went for a claim."""
    words = [f"+ {each}" for each in change.came] + [f"- {each}" for each in change.went]
    return ", ".join(words) or change.why
