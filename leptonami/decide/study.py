"""One call from names and files to a judged question: what the command line and the notebook both do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from leptonami.decide import criteria as criteria_files
from leptonami.decide import options as options_files
from leptonami.decide import store
from leptonami.decide.evidence import collect
from leptonami.decide.record import About, Body, make, new
from leptonami.errors import CheckFailed, InputError
from leptonami.tables import Table, facts

__all__ = ["as_day", "judge", "keep", "runs_of"]


def as_day(text: str | None, where: str = "as_of") -> date:
    """Read a day; today (UTC) if none is given.

    Raises
    ------
    InputError
        If it is none.
    """
    if not text:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"not a day: {text!r}", resource=where, hint="write year-month-day") from error


def judge(
    questions: Sequence[str],
    *,
    day: date,
    options: str | None = None,
    criteria: str | None = None,
    weights: Mapping[str, float] | None = None,
    runs: Path | None = None,
    about: About | None = None,
) -> Body:
    """Judge a question, and others beside it, on all the evidence there is.

    Parameters
    ----------
    questions
        The one that is decided, then those for comparison.
    day
        As of when.
    options, criteria
        Files of one's own; None or "" takes those of the package.
    weights
        Other weights for some criteria.
    runs
        The folder of the runs that `about.runs` names.

    Raises
    ------
    InputError
        If a file, a question or a weight is wrong.
    CheckFailed
        If some evidence is not what it was: its digest differs.
    """
    about = about or About()
    known = options_files.load(options or None)
    counted = criteria_files.load(criteria or None).with_weights(weights or {})
    if about.observed and about.observed not in {each.id for each in known.options}:
        hint = f"options: {', '.join(each.id for each in known.options)}"
        raise InputError(f"there is no option {about.observed!r}", resource="observed", hint=hint)
    question = known.question(questions[0])
    items, problems = collect(known, question, runs=runs, run_ids=about.runs, observed=about.observed)
    if problems:
        lines = "".join(f"\n  - {each}" for each in problems)
        hint = "git status shows what changed in a checkout; a run's folder has no other copy"
        raise CheckFailed(f"some evidence is not what it was:{lines}", hint=hint)
    return make(known, counted, list(dict.fromkeys(questions)), items, day=day, about=about)


def runs_of(folder: str | Path, run_id: str) -> tuple[str, ...]:
    """Give the run as one whose evidence counts, if it has a folder already."""
    return (run_id,) if run_id and (Path(folder) / run_id).is_dir() else ()


def keep(body: Body, folder: str | Path, run_id: str) -> Table:
    """Write the record of a judgement into a run's folder, as a proposal; without a run say that nothing is written."""
    if not run_id:
        rows = [("record", "not written: without a run there is no folder to keep it in")]
        return facts(rows, caption="The record")
    place = Path(folder) / run_id / "record"
    body = replace(body, number=store.next_number(place))
    path = store.write_new(new(body), place)
    names = [path.with_suffix(each).name for each in (".html", ".md", ".json")]
    return facts([(each, f"{run_id}/record") for each in names], caption="The record", columns=("file", "in"))
