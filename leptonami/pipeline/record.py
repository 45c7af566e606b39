"""What is kept of a pipeline's run: `runs/<id>/pipeline.json`, and the lock that keeps a second process away.

A file of its own, beside the build's manifest, journal and lock: the build notebook is a run in the same folder, and
neither writes into what is the other's. It is written whole at every change, so that after a crash it says what had
been running; what became of that is in the executed notebooks (`recover`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from leptonami.errors import InputError
from leptonami.pipeline.definition import NAME
from leptonami.runs import now, parse_id, write_whole
from leptonami.target import Provenance

__all__ = ["FILE", "NotebookRecord", "Record", "holding", "load", "recover", "save", "weakest"]

FILE = "pipeline.json"
LOCK = "pipeline.lock"
SCHEMA = 1
# A pipeline has at most 100 notebooks; a larger file is none of ours.
MAX_BYTES = 32 * 1024 * 1024

# What an executed notebook says of itself that the record repeats.
TOLD = ("provenance", "finished", "seconds", "cell", "heading", "cells", "executed", "exit_code", "status", "error")

State = Literal["waiting", "running", "completed", "failed", "interrupted", "skipped", "left out"]


class Kept(BaseModel):
    """What is read back from the disk is checked, and what a newer version has added is let through."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True, validate_by_name=True, serialize_by_alias=True)


class NotebookRecord(Kept):
    """What is kept of a notebook.

    Attributes
    ----------
    state, status, why
        How it stands; how its execution ended, in the words of `leptonami.notebook.Outcome`; why it was
        run, or was not.
    warnings
        What a reader of its result must know, such as that something it needs was left out.
    given, parameters
        What the caller gave, and every parameter with the value that was used (without the run's own two).
    sha256, version
        The digest of the notebook's file, and the leptonami that ran it.
    attempt
        Which process of the run executed it last.
    seconds, page_seconds
        The execution, and the making of the page.
    notebook, html
        Where the executed notebook and the page are, relative to the run's folder; None if there is none.
    notebook_sha256
        The digest of the executed notebook, to see whether it is still the one that was made.
    """

    name: str = Field(pattern=f"^{NAME}$")
    title: str = ""
    purpose: str = ""
    needs: list[str] = []
    state: State = "waiting"
    status: str | None = None
    why: str | None = None
    warnings: list[str] = []
    given: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    sha256: str = ""
    version: str = ""
    attempt: int = 0
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    page_seconds: float | None = None
    exit_code: int | None = None
    cell: int | None = None
    heading: str = ""
    cells: int | None = None
    executed: int | None = None
    error: dict[str, Any] | None = None
    provenance: Provenance | None = None
    notebook: str | None = None
    notebook_sha256: str | None = None
    html: str | None = None


class Record(Kept):
    """What is kept of a pipeline's run: one entry a notebook, in their order."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    run: str
    state: Literal["running", "completed", "failed", "interrupted"] = "running"
    exit_code: int | None = None
    provenance: Provenance | None = None
    pipeline: str = ""
    sha256: str = ""
    jobs: int = 1
    attempts: int = 1
    started: str = ""
    finished: str | None = None
    seconds: float | None = None
    versions: dict[str, str] = {}
    notebooks: list[NotebookRecord] = []

    def of(self, name: str) -> NotebookRecord:
        """Give the entry of a notebook."""
        return next(each for each in self.notebooks if each.name == name)


def weakest(values: Sequence[Provenance | None]) -> Provenance | None:
    """Give the weakest provenance: what rests on one simulated number is simulated."""
    from leptonami.notebook import STRENGTH

    found: list[Provenance] = [each for each in values if each is not None]
    return max(found, key=STRENGTH.index, default=None)


def save(record: Record, folder: Path) -> None:
    """Write the record in one piece and see it onto the disk."""
    write_whole(folder / FILE, json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")


def load(root: Path, run_id: str) -> Record:
    """Read the record of a run that is to be resumed.

    Raises
    ------
    InputError
        If there is no such run, or its record cannot be read.
    """
    parse_id(run_id)
    path = root / run_id / FILE
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError("this is no record of a pipeline: it is too large", resource=str(path))
        record = Record.model_validate_json(raw, strict=False)
    except FileNotFoundError as error:
        there = root / run_id
        hint = "it is a run of one notebook or of a build" if there.is_dir() else "choose its folder with --runs"
        raise InputError(f"there is no pipeline run {run_id}", resource=str(root), hint=hint) from error
    except OSError as error:
        raise InputError(f"the record cannot be read: {error.strerror}", resource=str(path)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"the record is damaged: {where}: {first['msg']}"[:300],
            resource=str(path),
            hint="begin a new run; what this one has made stays in its folder",
        ) from error
    if record.run != run_id:
        raise InputError(f"the record is that of another run, {record.run[:40]!r}", resource=str(path))
    return record


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[int]:
    """Keep every other pipeline process away from the run; give the lock's descriptor.

    Whoever inherits the descriptor holds the lock too: the notebooks' processes do, so that a run whose first process
    was killed is free only when they have cleaned up.

    Raises
    ------
    InputError
        If another process has it, with its pid.
    """
    path = folder / LOCK
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).strip()
            first = owner.split(",")[0].removeprefix("process ")
            gone = first.isdecimal() and not Path(f"/proc/{first}").exists() and Path("/proc/self").exists()
            raise InputError(
                f"the pipeline is being run by {owner or 'another process'}"
                + (": it is gone, and its notebooks are still cleaning up" if gone else ""),
                resource=f"run {folder.name}",
                hint="wait until they are done"
                if gone
                else "wait until it is done, or stop that process: it cleans up",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}, which started at {now().isoformat()}\n")
        file.flush()
        yield file.fileno()


def digest(path: Path) -> str | None:
    """Give the digest of a file; None if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def recover(entry: NotebookRecord, folder: Path) -> None:
    """Find out what became of a notebook that was running when the pipeline's process died.

    Its own process may have brought it to an end, or has stopped it. The executed notebook says so, if it is of that
    very execution; otherwise it counts as interrupted.
    """
    entry.state, entry.status, entry.why = "interrupted", "interrupted", "the pipeline's process died while it ran"
    path = folder / "notebooks" / f"{entry.name}.ipynb"
    about = stamped(path)
    outcome = about.get("outcome")
    this = about.get("run") == folder.name and str(about.get("started") or "")[:19] >= str(entry.started or "")[:19]
    if not isinstance(outcome, Mapping) or not this:
        return
    entry.notebook, entry.notebook_sha256 = f"notebooks/{entry.name}.ipynb", digest(path)
    told = {"provenance": about.get("provenance"), "finished": about.get("finished"), **outcome}
    for name in TOLD:
        if told.get(name) is not None:
            with contextlib.suppress(ValidationError):
                setattr(entry, name, told[name])
    if outcome.get("status") not in ("completed", "interrupted"):
        entry.state = "failed"
    page = folder / "notebooks" / f"{entry.name}.html"
    if outcome.get("status") == "completed" and page.is_file() and page.stat().st_mtime >= path.stat().st_mtime:
        entry.state, entry.why, entry.html = "completed", None, f"notebooks/{entry.name}.html"


def stamped(path: Path) -> Mapping[str, Any]:
    """Read what `leptonami.notebook.execute` has written into an executed notebook; empty if that cannot be read."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))["metadata"]["leptonami"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return about if isinstance(about, Mapping) else {}
