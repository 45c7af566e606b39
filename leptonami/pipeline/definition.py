"""The pipeline's file: which notebooks there are, what each needs and is given, and how long it may take.

`load` checks all of it before anything runs: unknown keys, notebooks that are not there, needs that nothing meets or
that go round in a circle, parameters that a notebook does not declare or that are of another type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from leptonami.errors import InputError
from leptonami.parameters import Parameter, coerce, parameters, read_cells, source_of
from leptonami.pipeline.planning import cycle, order
from leptonami.plan import Duration
from leptonami.validation import Matching, Strict, near, validate
from leptonami.yamlfile import Document, Location, Problem, read, refuse

__all__ = ["GIVEN", "NAME", "Pipeline", "Step", "load"]

# A notebook's name becomes a file name, a link and a part of an option, so it is nothing but a word.
NAME = r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}"
# What every notebook that declares them is told by the run itself.
GIVEN = ("run_id", "runs_folder")
MAX_NOTEBOOKS = 100

NotebookName = Annotated[str, Matching(NAME, "the name of a notebook", "its file without .ipynb, such as 10_build_ami")]


class NotebookEntry(Strict):
    """A notebook of the file."""

    notebook: NotebookName = Field(description="Its file beside this one, without .ipynb.")
    purpose: str = Field(alias="for", min_length=1, max_length=300, description="What it is there for, in a sentence.")
    needs: Annotated[tuple[NotebookName, ...], Field(strict=False)] = Field(
        default=(), max_length=MAX_NOTEBOOKS, description="The notebooks that must have completed before it."
    )
    parameters: dict[str, Any] = Field(default={}, description="What differs from the notebook's own defaults.")
    timeout: Duration | None = Field(default=None, description="The limit of the whole notebook.")
    cell_timeout: Duration | None = Field(default=None, description="The limit of one cell.")
    grace: Duration = Field(default=300, description="What an interrupted cell gets to clean up.")


class PipelineFile(Strict):
    """The file as a whole."""

    schema_: Literal[1] = Field(alias="schema", description="The version of this format.")
    notebooks: Annotated[tuple[NotebookEntry, ...], Field(strict=False)] = Field(
        min_length=1, max_length=MAX_NOTEBOOKS, description="In their order."
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A notebook of the pipeline, checked.

    Attributes
    ----------
    name
        The file's name without `.ipynb`.
    source, sha256, title
        The notebook, the digest of its file, and its first heading.
    purpose, needs
        As the file says.
    declared
        Its parameters.
    values
        What the file gives to them, of exactly the declared types.
    timeout, cell_timeout, grace
        Seconds; None for no limit.
    """

    name: str
    source: Path
    sha256: str
    title: str
    purpose: str
    needs: tuple[str, ...] = ()
    declared: tuple[Parameter, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
    timeout: float | None = None
    cell_timeout: float | None = None
    grace: float = 300.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A checked pipeline: `steps` stand in an order in which each comes after all that it needs."""

    path: Path
    sha256: str
    steps: tuple[Step, ...]

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """What each notebook needs, in the order of the steps."""
        return {step.name: step.needs for step in self.steps}

    def step(self, name: str) -> Step:
        """Give the step of that name."""
        return next(step for step in self.steps if step.name == name)


def load(path: Path | str) -> Pipeline:
    """Read a pipeline's file and the notebooks that it names, and check all of it.

    Raises
    ------
    InputError
        With everything that was found wrong, each with file, line and the way out.
    """
    path = Path(path)
    document = read(path, what="pipeline")
    model, problems = validate(PipelineFile, document)
    if model is None:
        refuse(problems, what="pipeline")
        raise AssertionError("a file without a model has problems")
    problems += check_needs(model, document)
    steps: dict[str, Step] = {}
    for position, entry in enumerate(model.notebooks):
        step, wrong = read_step(entry, path.parent, position, document)
        problems += wrong
        if step is not None:
            steps[step.name] = step
    refuse(problems, what="pipeline")
    arranged = order({step.name: step.needs for step in steps.values()})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Pipeline(path, digest, tuple(steps[name] for name in arranged))


def check_needs(model: PipelineFile, document: Document) -> list[Problem]:
    """Find notebooks that stand twice, needs that nothing meets, and circles."""
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for position, entry in enumerate(model.notebooks):
        if entry.notebook in first:
            line = document.where(("notebooks", first[entry.notebook], "notebook")).rpartition(":")[2]
            problems.append(
                document.problem(
                    ("notebooks", position, "notebook"),
                    f"{entry.notebook} is already on line {line}",
                    "a notebook may stand once: remove one of them",
                )
            )
        first.setdefault(entry.notebook, position)
    for position, entry in enumerate(model.notebooks):
        for index, need in enumerate(entry.needs):
            place: Location = ("notebooks", position, "needs", index)
            if need == entry.notebook:
                problems.append(document.problem(place, f"{need} needs itself", "remove it"))
            elif need not in first:
                hint = near(need, first) or f"there are: {', '.join(first)}"
                problems.append(document.problem(place, f"no notebook {need!r} is named in this file", hint))
            elif need in entry.needs[:index]:
                problems.append(document.problem(place, f"{need} stands twice", "list it once"))
    if not problems and (circle := cycle({entry.notebook: entry.needs for entry in model.notebooks})):
        circle_at = ("notebooks", first[circle[0]], "needs")
        told = " needs ".join([*circle, circle[0]])
        problems.append(document.problem(circle_at, f"a circle: {told}", "one of these must not need the other"))
    return problems


def read_step(
    entry: NotebookEntry, folder: Path, position: int, document: Document
) -> tuple[Step | None, list[Problem]]:
    """Read a notebook that the file names, and check what the file gives to it."""
    source = folder / f"{entry.notebook}.ipynb"
    try:
        cells = read_cells(source)
        declared = parameters(source)
        raw = source.read_bytes()
    except InputError as error:
        place: Location = ("notebooks", position, "notebook")
        missing = not source.exists()
        message = f"there is no notebook {source.name} beside this file" if missing else f"{source.name}: {error}"
        hint = "take it out, or put the notebook there" if missing and not error.hint else error.hint
        return None, [document.problem(place, message, hint)]
    values: dict[str, object] = {}
    problems = []
    for name, value in entry.parameters.items():
        at = ("notebooks", position, "parameters", name)
        if name in GIVEN:
            problems.append(document.problem(at, f"{name} is the run's own", "remove it: the run fills it in"))
            continue
        try:
            values |= coerce(declared, {}, values={name: value})
        except InputError as error:
            problems.append(document.problem(at, f"{source.name}: {error.message}", error.hint))
    return (
        Step(
            name=entry.notebook,
            source=source,
            sha256=hashlib.sha256(raw).hexdigest(),
            title=title_of(cells) or entry.notebook,
            purpose=entry.purpose,
            needs=entry.needs,
            declared=declared,
            values=values,
            timeout=entry.timeout,
            cell_timeout=entry.cell_timeout,
            grace=float(entry.grace),
        ),
        problems,
    )


def title_of(cells: list[dict[str, Any]]) -> str:
    """Give a notebook's first heading, as text; empty if it has none."""
    for cell in cells:
        if cell.get("cell_type") == "markdown":
            for line in source_of(cell).splitlines():
                if line.startswith("# "):
                    return line[2:].strip().rstrip("#").strip()[:200]
    return ""
