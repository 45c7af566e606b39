"""Running notebooks: typed parameters in, an executed notebook and the truth about it out.

    declared = parameters("notebooks/10_build_ami.ipynb")
    outcome = execute(source, output, coerce(declared, {"plan": "ubuntu-22.04-gpu"}))
    if outcome.error: raise outcome.error

papermill executes (`leptonami.engine`). Whether the notebook *completed* is decided here, from the notebook and from
what became of its kernel, because papermill calls a cell completed whose kernel died or timed out, and exits with 0
when a cell raised `SystemExit(0)` before the end. The exit codes are in `docs/exit-codes.md`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leptonami.errors import InputError, Interrupted, LeptonamiError, NotebookError, Timeout
from leptonami.imports import prepare_nbformat, prepare_papermill
from leptonami.parameters import Parameter, coerce, from_file, parameters, source_of

if TYPE_CHECKING:
    from leptonami.engine import Control
    from leptonami.progress import NotebookProgress
    from leptonami.target import Provenance

__all__ = [
    "CellFailed",
    "EndedEarly",
    "KernelDied",
    "Outcome",
    "Parameter",
    "Progress",
    "ShellFailed",
    "coerce",
    "execute",
    "from_file",
    "keep_outputs",
    "parameters",
    "progress",
    "provenance",
    "provenance_of",
]

Status = Literal[
    "completed", "failed", "shell command failed", "ended early", "kernel died", "timed out", "interrupted"
]

# Weakest last: what rests on a simulation is simulated, however much of it was measured.
STRENGTH = ("measured", "recorded", "simulated")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
VERSIONS = ("leptonami", "boto3", "papermill", "nbconvert", "pandas", "matplotlib")


class CellFailed(NotebookError):
    """A cell raised. One of leptonami's own errors keeps its exit code, its message and its way out.

    Attributes
    ----------
    kind
        The name of the exception's class.
    """

    def __init__(self, message: str, *, kind: str, resource: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, resource=resource, hint=hint)
        self.kind = kind

    def as_dict(self) -> dict[str, str | int | None]:
        """Give the error as plain data, under the name of what was raised."""
        return {**super().as_dict(), "error": self.kind}


class KernelDied(NotebookError):
    """The kernel's process ended (out of memory, a crash, `os._exit`), or did not start."""

    exit_code = 6


class EndedEarly(NotebookError):
    """The notebook left before its end (`SystemExit`, `exit()`); with whatever code, it did not do what it is for."""

    exit_code = 7


class ShellFailed(NotebookError):
    """A command that a cell ran in a shell failed (`!command`, `%%bash`, `subprocess.run(..., check=True)`)."""

    exit_code = 8


@dataclass(frozen=True)
class Progress:
    """Where an execution is: code cell `number` of `total` has begun, under this heading."""

    number: int
    total: int
    heading: str


@dataclass(frozen=True)
class Outcome:
    """What came of an execution.

    Attributes
    ----------
    status
        In a word or two; `completed` only if every cell ran and none failed.
    output
        The executed notebook, kept whatever happened.
    error
        What to tell and to exit with; None if completed.
    cell, heading
        The number of the code cell that failed or was stopped, and the heading it stands under.
    cells, executed
        How many code cells there are, and how many ran to their end.
    seconds
        How long it took, the kernel's start included.
    provenance
        Of everything the notebook showed, the weakest; None if it declared none.
    """

    status: Status
    output: Path
    error: LeptonamiError | None
    cell: int | None
    heading: str
    cells: int
    executed: int
    seconds: float
    provenance: Provenance | None

    @property
    def exit_code(self) -> int:
        """The exit code: 0 only if completed."""
        return 0 if self.error is None else self.error.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Give the outcome as plain data."""
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "cell": self.cell,
            "heading": self.heading,
            "cells": self.cells,
            "executed": self.executed,
            "seconds": self.seconds,
            "error": self.error.as_dict() if self.error else None,
        }


def execute(
    source: Path | str,
    output: Path | str,
    parameters: Mapping[str, object] | None = None,
    *,
    cell_timeout: float | None = None,
    timeout: float | None = None,
    on_cell: Callable[[Progress], None] | None = None,
    start_timeout: float = 60,
    grace: float = 300,
    cwd: Path | None = None,
    run_id: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a notebook and keep it, whatever comes of it.

    Parameters
    ----------
    source, output
        The notebook, and where the executed one is written.
    parameters
        Typed values, as `coerce` gives them.
    cell_timeout, timeout
        Seconds for one cell and for everything; None for no limit. A cell over its limit is interrupted, given
        `grace` to clean up, and then its kernel is killed.
    on_cell
        Called as each code cell begins.
    start_timeout
        Seconds for the kernel to answer.
    grace
        Seconds for an interrupted cell to clean up.
    cwd
        The kernel's working directory; by default the caller's, so that a path means to the notebook what it means
        to whoever typed it.
    run_id
        Kept in the executed notebook's metadata.
    say
        Told in a sentence when the run is being stopped.

    Raises
    ------
    InputError
        If the notebook or its parameters are wrong; then nothing was run. A notebook that fails raises nothing: see
        `Outcome.error`.
    LeptonamiError
        If the executed notebook cannot be written.
    """
    source, output = Path(source), Path(output)
    declared = parameters_of(source)
    values = coerce(declared, {}, values=parameters or {})
    if output.resolve() == source.resolve():
        raise InputError("the executed notebook would overwrite its source", resource=str(output))
    check_runnable(source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)

    prepare_papermill()
    from leptonami import engine

    control = engine.Control(cell_timeout=cell_timeout, timeout=timeout, grace=grace)
    control.say = say or control.say
    if on_cell is not None:
        told = on_cell
        control.began = lambda index: told(progress_of(control.notebook, index))
    started = datetime.now(UTC)
    clock = time.monotonic()
    with writing(output):
        engine.run(source, output, values, control, start_timeout=start_timeout, cwd=cwd)
    seconds = round(time.monotonic() - clock, 3)
    outcome = judge(control, source, output, seconds)
    stamp(control.notebook, outcome, control, started=started, run_id=run_id, source=source, digest=digest)
    with writing(output):
        import nbformat

        from leptonami.runs import write_whole

        write_whole(output, nbformat.writes(control.notebook) + "\n")  # type: ignore[no-untyped-call]
    return outcome


parameters_of = parameters  # `execute` has a parameter of that name


@contextlib.contextmanager
def writing(output: Path) -> Iterator[None]:
    """Say in our words that the executed notebook cannot be written."""
    try:
        yield
    except OSError as error:
        raise LeptonamiError(
            f"the executed notebook cannot be written: {error.strerror or error}",
            resource=str(output),
            hint="choose another folder with --output, or make room",
        ) from error


def check_runnable(source: Path) -> None:
    """Refuse what no Python kernel can run.

    Raises
    ------
    InputError
        If the notebook is not valid, or is for another language.
    """
    prepare_nbformat()
    import nbformat

    try:
        notebook = nbformat.reads(source.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__]
        raise InputError(
            f"this is no valid notebook: {reason[0][:200]}", resource=str(source), hint="open and save it in JupyterLab"
        ) from error
    language = notebook.metadata.get("kernelspec", {}).get("language") or "python"
    if language != "python":
        raise InputError(f"this notebook is for {language}, not for Python", resource=str(source))


def is_code(cell: Mapping[str, Any]) -> bool:
    """Tell whether a cell is one that is to be run."""
    return cell.get("cell_type") == "code" and bool(source_of(cell).strip())


def number_of(notebook: Any, index: int) -> int:
    """Give the number of a code cell, counted from 1 as the prompts in Jupyter are."""
    return sum(is_code(cell) for cell in notebook.cells[: index + 1])


def heading_of(notebook: Any, index: int) -> str:
    """Give the nearest heading above a cell."""
    for cell in reversed(notebook.cells[: index + 1]):
        if cell.get("cell_type") == "markdown":
            headings = re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", source_of(cell), re.MULTILINE)
            if headings:
                return str(headings[-1]).strip()
    return ""


def progress_of(notebook: Any, index: int) -> Progress:
    """Say where the execution is."""
    return Progress(number_of(notebook, index), sum(map(is_code, notebook.cells)), heading_of(notebook, index))


def judge(control: Control, source: Path, output: Path, seconds: float) -> Outcome:
    """Decide what came of an execution, from the notebook and from what became of its kernel."""
    notebook = control.notebook
    index = control.current
    status, error = verdict(control, source, output)
    if error is None:
        index = None
    code = [(position, cell) for position, cell in enumerate(notebook.cells) if is_code(cell)]
    executed = sum(cell.get("execution_count") is not None and position != index for position, cell in code)
    return Outcome(
        status=status,
        output=output,
        error=error,
        cell=None if index is None else number_of(notebook, index),
        heading="" if index is None else heading_of(notebook, index),
        cells=len(code),
        executed=executed,
        seconds=seconds,
        provenance=provenance_of(notebook),
    )


def verdict(  # noqa: PLR0911 - one return a way of not completing, in the order in which they count
    control: Control, source: Path, output: Path
) -> tuple[Status, LeptonamiError | None]:
    """Find the reason why a notebook did not complete, the one from outside first."""
    notebook = control.notebook
    here = place(notebook, control.current, source)
    failure = first_error(notebook)
    if control.reason is not None:
        return stopped(control, here, failure, output)
    if control.not_started is not None:
        return "kernel died", KernelDied(
            f"the kernel did not start: {control.not_started}", resource=source.name, hint=last_words(control)
        )
    if control.died:
        killed = "often it is out of memory: dmesg or the container's events say so"
        hint = last_words(control) or (killed if control.ended_by == "SIGKILL" else "its process ended under the cell")
        return "kernel died", KernelDied(
            "the kernel died" + (f" ({control.ended_by})" if control.ended_by else ""), resource=here, hint=hint
        )
    if failure is not None:
        position, raised = failure
        return raised_error(control, position, raised, place(notebook, position, source), output)
    if control.asked_to_exit:
        return "ended early", EndedEarly("exit() ended the kernel", resource=here, hint=NOT_TO_LEAVE)
    account = control.accounts.get(-1 if control.current is None else control.current, {})
    if control.current is not None and account.get("shell") and not allows_errors(notebook.cells[control.current]):
        return "shell command failed", ShellFailed(
            f"a shell command exited with {account['shell']}", resource=here, hint=f"its output is in {output.name}"
        )
    left = [position for position, cell in enumerate(notebook.cells) if unexecuted(cell)]
    if left:
        return "ended early", EndedEarly(
            f"{len(left)} cells were not executed", resource=place(notebook, left[0], source), hint=NOT_TO_LEAVE
        )
    return "completed", None


NOT_TO_LEAVE = "a notebook that cannot go on should raise an error that says why"


def place(notebook: Any, index: int | None, source: Path) -> str:
    """Name a cell as a reader finds it."""
    if index is None:
        return source.name
    heading = heading_of(notebook, index)
    return f"{source.name}, cell {number_of(notebook, index)}" + (f" ({heading})" if heading else "")


def allows_errors(cell: Mapping[str, Any]) -> bool:
    """Tell whether a cell is there to show an error."""
    return "raises-exception" in (cell.get("metadata") or {}).get("tags", [])


def unexecuted(cell: Mapping[str, Any]) -> bool:
    """Tell whether a cell should have been run and was not."""
    skipped = "skip-execution" in (cell.get("metadata") or {}).get("tags", [])
    return is_code(cell) and not skipped and cell.get("execution_count") is None


def first_error(notebook: Any) -> tuple[int, Any] | None:
    """Find the first error in the outputs that no tag allows, and where it is."""
    for position, cell in enumerate(notebook.cells):
        if is_code(cell) and not allows_errors(cell):
            for output in cell.outputs:
                if output.output_type == "error":
                    return position, output
    return None


def stopped(
    control: Control, here: str, failure: tuple[int, Any] | None, output: Path
) -> tuple[Status, LeptonamiError]:
    """Tell of an execution that was stopped from outside."""
    words = [f"what there is of it is in {output.name}"]
    if control.killed and control.phase != "starting" and control.current is not None:
        words.append("its kernel was killed, so what the cell had begun may be left behind")
    elif failure is not None and failure[1].ename != "KeyboardInterrupt":
        words.append(f"the cell ended with {one_line(failure[1])}")
    hint = "; ".join(words)
    if control.reason == "interrupted":
        return "interrupted", Interrupted("interrupted", resource=here, hint=hint)
    limit, option = (
        (control.cell_timeout, "--cell-timeout") if control.reason == "cell timeout" else (control.timeout, "--timeout")
    )
    what = "the cell" if control.reason == "cell timeout" else "the notebook"
    return "timed out", Timeout(
        f"{what} took longer than {limit:g} s", resource=here, hint=f"{hint}; raise the limit with {option}"
    )


def raised_error(
    control: Control, position: int, raised: Any, here: str, output: Path
) -> tuple[Status, LeptonamiError]:
    """Tell of an error that a cell raised."""
    told = control.accounts.get(position, {}).get("error")
    if told:
        error = CellFailed(
            str(told.get("message")),
            kind=str(told.get("error")),
            resource=told.get("resource") or here,
            hint=told.get("hint"),
        )
        code = told.get("exit_code")
        error.exit_code = code if isinstance(code, int) and 0 < code < 256 else NotebookError.exit_code
        return "failed", error
    kept = f"the traceback is in {output.name}"
    if raised.ename == "SystemExit":
        return "ended early", EndedEarly(f"SystemExit({raised.evalue}) ended it", resource=here, hint=NOT_TO_LEAVE)
    if raised.ename == "CalledProcessError":
        return "shell command failed", ShellFailed(one_line(raised), resource=here, hint=kept)
    return "failed", CellFailed(one_line(raised), kind=str(raised.ename), resource=here, hint=kept)


def one_line(raised: Any) -> str:
    """Give an error output in one line, without colours."""
    text = ESCAPES.sub("", f"{raised.ename}: {raised.evalue}".strip().removesuffix(":"))
    lines = text.splitlines() or [""]
    return lines[0][:300] + (" ..." if len(lines) > 1 or len(lines[0]) > 300 else "")


def last_words(control: Control) -> str | None:
    """Give what the kernel's process wrote at its end, where it wrote anything."""
    lines = [line.strip() for line in control.last_words.splitlines() if line.strip()]
    return "its last words: " + " | ".join(lines[:6])[:600] if lines else None


def stamp(
    notebook: Any,
    outcome: Outcome,
    control: Control,
    *,
    started: datetime,
    run_id: str | None,
    source: Path,
    digest: str,
) -> None:
    """Write into the notebook's metadata what happened, and put right what papermill said of it."""
    for position, cell in enumerate(notebook.cells):
        said = cell.metadata.setdefault("papermill", {})
        if outcome.error is None:
            continue
        if position == control.current:
            said.update(status="failed", exception=True)
        elif control.current is None or position > control.current:
            said.update(status="pending", exception=None, start_time=None, end_time=None, duration=None)
    # Names, not paths: an executed notebook is passed on, and where it was run is nobody's business.
    notebook.metadata.papermill.update(
        exception=outcome.error is not None, input_path=source.name, output_path=outcome.output.name
    )
    finished = datetime.now(UTC)
    notebook.metadata["leptonami"] = {
        **notebook.metadata.get("leptonami", {}),
        "run": run_id,
        "provenance": outcome.provenance,
        "outcome": outcome.as_dict(),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "source": {"name": source.name, "sha256": digest},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Give the versions that a result depends on most."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def provenance_of(notebook: Mapping[str, Any]) -> Provenance | None:
    """Give the weakest provenance that any output of a notebook declares; None if none does."""
    found = {
        ((output.get("metadata") or {}).get("leptonami") or {}).get("provenance")
        for cell in notebook.get("cells", [])
        for output in cell.get("outputs", [])
        if isinstance(output.get("metadata"), Mapping)
    }
    for each in reversed(STRENGTH):
        if each in found:
            return each  # type: ignore[return-value]
    return None


def keep_outputs(executed: Path | str, source: Path | str) -> None:
    """Copy the outputs of an executed notebook into its source, for nbval to compare with and for readers to see.

    Only outputs and execution counts change, so the difference in git is what came out differently. Run ids are left
    out: they ride in metadata, where nbval does not need them.

    Parameters
    ----------
    executed
        The executed notebook: completed, and run without parameters.
    source
        The notebook that it was made from.

    Raises
    ------
    InputError
        If the executed notebook did not complete, or is not that of the source.
    """
    from leptonami.runs import write_whole

    prepare_nbformat()
    import nbformat

    executed, source = Path(executed), Path(source)
    there = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    here = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    outcome = there.metadata.get("leptonami", {}).get("outcome", {})
    if outcome.get("status") != "completed":
        raise InputError("it did not complete, so its outputs are not kept", resource=str(executed))
    if [cell.source for cell in there.cells] != [cell.source for cell in here.cells]:
        raise InputError(
            "its cells are not those of the source",
            resource=str(executed),
            hint="run it without parameters, and do not edit it meanwhile",
        )
    for cell, kept in zip(here.cells, there.cells, strict=True):
        if cell.cell_type != "code":
            continue
        cell.execution_count, cell.outputs = kept.execution_count, kept.outputs
        for output in cell.outputs:
            (output.get("metadata") or {}).get("leptonami", {}).pop("run", None)
    write_whole(source, nbformat.writes(here) + "\n")  # type: ignore[no-untyped-call]


MEANING = {
    "measured": "Measured: what follows was read from AWS or from real components.",
    "recorded": "Recorded: what follows was read from a file that somebody recorded.",
    "simulated": "Simulated: what follows comes from the embedded lab. Nothing here was measured on AWS.",
}


def provenance(value: Provenance, *, run: str | None = None) -> None:
    """Say in a notebook where its numbers come from; call it as soon as that is known.

    The sentence is an output like any other and the same in every run, so that nbval can compare it. The run id rides
    in the output's metadata, which nbval leaves alone and the HTML's title block shows.

    Parameters
    ----------
    value
        `Target.provenance`, or `recorded` for a notebook that reads files.
    run
        The run's id.

    Raises
    ------
    InputError
        If there is no such provenance.
    """
    if value not in MEANING:
        raise InputError(f"no such provenance: {value!r}", hint=f"one of {', '.join(STRENGTH)}")
    from IPython.display import display

    display(  # type: ignore[no-untyped-call]
        {"text/plain": MEANING[value]},
        raw=True,
        metadata={"leptonami": {"role": "declaration", "provenance": value, "run": run}},
    )


def progress() -> NotebookProgress:
    """Give the live progress display of a notebook."""
    from leptonami.progress import NotebookProgress

    return NotebookProgress()
