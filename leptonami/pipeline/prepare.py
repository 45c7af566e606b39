"""From a pipeline, the caller's parameters and an earlier attempt to a job sheet: what will run with what values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.parameters import closest, coerce
from leptonami.pipeline import planning
from leptonami.pipeline.definition import GIVEN, Pipeline, Step
from leptonami.pipeline.record import NotebookRecord, Record, digest

__all__ = ["Assignments", "Job", "Limits", "assign", "find_step", "prepare", "split"]


@dataclass(frozen=True, slots=True)
class Assignments:
    """What the caller gives: to every notebook that declares the name, and to single ones.

    Attributes
    ----------
    typed, single_typed
        Values from a file: of their type already.
    texts, single_texts
        Values from the command line: read as the declared type. They come before those from a file.
    """

    typed: Mapping[str, object] = field(default_factory=dict)
    single_typed: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    texts: Mapping[str, object] = field(default_factory=dict)
    single_texts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the caller sets for every notebook, instead of what the file says; None leaves the file's."""

    timeout: float | None = None
    cell_timeout: float | None = None
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A notebook as this attempt treats it.

    Attributes
    ----------
    choice
        Whether it runs, and why.
    given
        What the caller gave, now or when the run began.
    values
        What is given to the notebook: the file's values under the caller's.
    used
        Every declared parameter with its value, but for those that the run fills in.
    """

    step: Step
    choice: planning.Choice
    given: Mapping[str, object]
    values: Mapping[str, object]
    used: Mapping[str, object]
    timeout: float | None
    cell_timeout: float | None
    grace: float


def find_step(pipeline: Pipeline, name: str, where: str) -> str:
    """Find a notebook by its name, with or without its number.

    Raises
    ------
    InputError
        If the pipeline has none, or several, of that name.
    """
    names = [step.name for step in pipeline.steps]
    if name in names:
        return name
    subjects = [each for each in names if re.sub(r"^\d+_", "", each) == name]
    if len(subjects) == 1:
        return subjects[0]
    hint = f"which one: {', '.join(subjects)}?" if subjects else closest(name, names)
    raise InputError(f"the pipeline has no notebook {name[:80]!r}", resource=where, hint=hint)


def split(pipeline: Pipeline, values: Mapping[str, object]) -> Assignments:
    """Sort the content of a parameters file: `name: value` for all, `notebook: {name: value}` for one.

    Raises
    ------
    InputError
        If one is for a notebook that the pipeline has not.
    """
    declared = {parameter.name for step in pipeline.steps for parameter in step.declared}
    typed: dict[str, object] = {}
    single: dict[str, Mapping[str, object]] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in declared:
            single[find_step(pipeline, name, "-f")] = value
        else:
            typed[name] = value
    return Assignments(typed=typed, single_typed=single)


def assign(pipeline: Pipeline, given: Assignments) -> dict[str, dict[str, object]]:
    """Give each notebook what the caller gives it, of exactly the declared types.

    Raises
    ------
    InputError
        For a name that nothing declares, a value of another type, or what is the run's own.
    """
    result: dict[str, dict[str, object]] = {step.name: {} for step in pipeline.steps}
    known = sorted({parameter.name for step in pipeline.steps for parameter in step.declared} - set(GIVEN))
    for names in (given.typed, given.texts, *given.single_typed.values(), *given.single_texts.values()):
        for own in GIVEN:
            if own in names:
                raise InputError(
                    f"{own} is the same for all notebooks of a run",
                    resource="-p",
                    hint="choose the folder with --runs" if own == "runs_folder" else "give it as -p run_id=...",
                )
    for everybody in (given.typed, given.texts):
        for name in everybody:
            if name not in known:
                raise InputError(
                    f"no notebook of the pipeline has a parameter {name!r}", resource="-p", hint=closest(name, known)
                )
    for step in pipeline.steps:
        own_names = {parameter.name for parameter in step.declared}
        # Later ones come first: a file's, then the command line's; what is for one notebook before what is for all.
        layers: Sequence[tuple[Mapping[str, Any], bool]] = (
            ({name: value for name, value in given.typed.items() if name in own_names}, True),
            (given.single_typed.get(step.name, {}), True),
            ({name: value for name, value in given.texts.items() if name in own_names}, False),
            (given.single_texts.get(step.name, {}), False),
        )
        for values, typed in layers:
            result[step.name] |= coerce(step.declared, {}, values=values) if typed else coerce(step.declared, values)
    return result


def prepare(
    pipeline: Pipeline,
    assignments: Assignments,
    *,
    limits: Limits | None = None,
    start: str | None = None,
    only: Sequence[str] = (),
    earlier: Record | None = None,
    folder: Path | None = None,
    version: str = "",
) -> tuple[Job, ...]:
    """Decide for each notebook what is done about it and with which values.

    Parameters
    ----------
    start, only
        `--from` and `--only`, by the pipeline's own names.
    earlier, folder
        The record of the run that is resumed, and its folder: what was given then holds on, what is given now comes
        before it.
    version
        leptonami's, to compare with the one that made what might be kept.

    Raises
    ------
    InputError
        If a parameter is wrong.
    """
    limits = limits or Limits()
    now = assign(pipeline, assignments)
    entries = {each.name: each for each in earlier.notebooks} if earlier else {}
    jobs: dict[str, tuple[dict[str, object], dict[str, object], dict[str, object]]] = {}
    before: dict[str, planning.Earlier] = {}
    for step in pipeline.steps:
        entry = entries.get(step.name)
        given = {**(coerce(step.declared, {}, values=entry.given) if entry else {}), **now[step.name]}
        values = {**step.values, **given}
        used = {each.name: values.get(each.name, each.default) for each in step.declared if each.name not in GIVEN}
        jobs[step.name] = (given, values, used)
        if entry is not None:
            changed = difference(step, entry, used, folder or Path(), version) if entry.state == "completed" else None
            before[step.name] = planning.Earlier(entry.state, changed)
    choices = planning.choose(pipeline.needs, start=start, only=only, earlier=before if earlier is not None else None)
    return tuple(
        Job(
            step,
            choices[step.name],
            *jobs[step.name],
            timeout=limits.timeout or step.timeout,
            cell_timeout=limits.cell_timeout or step.cell_timeout,
            grace=limits.grace or step.grace,
        )
        for step in pipeline.steps
    )


def difference(  # noqa: PLR0911 - one return a reason
    step: Step, entry: NotebookRecord, used: Mapping[str, object], folder: Path, version: str
) -> str | None:
    """Say why what a notebook made before cannot be kept; None if it can."""
    names = sorted(name for name in {*used, *entry.parameters} if not same(used, entry.parameters, name))
    if names:
        return f"its parameters have changed: {', '.join(names)}"
    if entry.sha256 != step.sha256:
        return "the notebook has changed"
    if entry.version != version:
        return f"leptonami {entry.version or '(unknown)'} ran it, and this is {version}"
    kept = digest(folder / "notebooks" / f"{step.name}.ipynb")
    if kept is None:
        return "its executed notebook is gone"
    if kept != entry.notebook_sha256:
        return "its executed notebook has been altered"
    if entry.html is not None and not (folder / "notebooks" / f"{step.name}.html").is_file():
        return "its page is gone"
    return None


def same(one: Mapping[str, object], other: Mapping[str, object], name: str) -> bool:
    """Tell whether a parameter is there twice with the same value; True is not 1, and 1.0 is 1."""
    if name not in one or name not in other:
        return False
    return one[name] == other[name] and isinstance(one[name], bool) == isinstance(other[name], bool)
