"""Running a pipeline: a process for each notebook, as many at once as there are cores for.

Ctrl-C goes to this process alone (each notebook's process has a session of its own) and is passed on, so that every
cell that runs is interrupted once and gets its grace. A process that dies takes its kernel with it. Whatever happens
is in `pipeline.json` before it is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from leptonami.errors import Interrupted, LeptonamiError
from leptonami.notebook import KernelDied
from leptonami.pipeline import index
from leptonami.pipeline.board import Board
from leptonami.pipeline.definition import Step
from leptonami.pipeline.planning import Schedule, Skipped
from leptonami.pipeline.prepare import Job
from leptonami.pipeline.record import NotebookRecord, Record, digest, save, weakest
from leptonami.runs import now

__all__ = ["Failed", "cores", "execute", "problem"]

# What a notebook's process gets beyond its limit and its grace, to start, to end its kernel and to make the page.
# Only one that hangs needs it.
PATIENCE = 120.0
MAX_LINE = 1024 * 1024
NOT_BEGUN = "the pipeline was interrupted before it began"


class Failed(LeptonamiError):
    """A notebook of the pipeline failed: its error, with its exit code."""


def cores() -> int:
    """Give how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Worker:
    """The process of a notebook that is running.

    Attributes
    ----------
    errors
        Where what it writes to standard error goes: nothing, unless it breaks.
    deadline
        When it is killed, if it has not ended by itself; None while it has no limit.
    told
        What it said came of it.
    """

    job: Job
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    deadline: float | None
    buffer: bytes = b""
    told: dict[str, Any] | None = None
    killed: bool = False

    def signal(self, number: int) -> None:
        """Send it a signal; it may be gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once. Its kernel sees that and ends too."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def execute(
    jobs: Sequence[Job],
    record: Record,
    folder: Path,
    *,
    runs: Path,
    at_once: int,
    board: Board,
    lock: int | None = None,
    pages: bool = True,
) -> Record:
    """Run what is to run, and keep what comes of it.

    Parameters
    ----------
    jobs
        The notebooks in their order.
    record
        The run's record, with an entry for each notebook; it is changed and written to the folder as things happen.
    folder, runs
        The run's folder, and the folder of all runs as the notebooks are told of it.
    at_once
        How many processes there are at a time.
    board
        Where progress is shown.
    lock
        A descriptor that the notebooks' processes inherit, and with it the lock.
    pages
        Whether the notebooks' pages are made.

    Returns
    -------
    Record
        The same. A notebook that fails raises nothing: see `problem`.

    Raises
    ------
    OSError
        If the record cannot be written. Whatever runs has been interrupted and has ended.
    """
    running = Running(jobs, record, folder, runs=runs, at_once=at_once, board=board, lock=lock, pages=pages)
    with running.signals(), board.showing():
        running.loop()
    return record


class Running:
    """The state of an execution."""

    def __init__(
        self,
        jobs: Sequence[Job],
        record: Record,
        folder: Path,
        *,
        runs: Path,
        at_once: int,
        board: Board,
        lock: int | None,
        pages: bool,
    ) -> None:
        self.jobs = {job.step.name: job for job in jobs}
        self.record, self.folder, self.runs = record, folder, runs
        self.at_once, self.board, self.lock, self.pages = at_once, board, lock, pages
        self.schedule = Schedule(
            {job.step.name: job.step.needs for job in jobs},
            [job.step.name for job in jobs if job.choice.action == "run"],
        )
        self.selector = selectors.DefaultSelector()
        self.workers: dict[str, Worker] = {}
        self.stopping = False
        self.pressed = 0
        self.clock = time.monotonic()
        # What earlier attempts took counts as well.
        self.seconds_before = record.seconds or 0.0

    # ---- the loop ----

    def loop(self) -> None:
        """Begin what may begin, listen to what runs, until nothing is left."""
        try:
            self.keep()
            while not self.schedule.over:
                self.begin_what_may()
                self.listen()
                self.check_deadlines()
            self.conclude()
        finally:
            self.end_all()
            self.selector.close()

    def begin_what_may(self) -> None:
        """Begin as many notebooks as may run and have a core."""
        if self.stopping:
            self.skip(self.schedule.stop(NOT_BEGUN))
        for name in self.schedule.ready()[: max(0, self.at_once - len(self.workers))]:
            # An interrupt may come between one and the next.
            if not self.stopping:
                self.begin(self.jobs[name])

    def listen(self) -> None:
        """Take in what the processes say; wait for it for a moment."""
        for key, _ in self.selector.select(timeout=0.25):
            worker: Worker = key.data
            data = os.read(key.fd, 65536)
            if not data:
                self.end(worker)
                continue
            *lines, worker.buffer = (worker.buffer + data).split(b"\n")
            if len(worker.buffer) > MAX_LINE:
                worker.buffer = b""
            for line in lines:
                self.hear(worker, line)

    def hear(self, worker: Worker, line: bytes) -> None:
        """Take in one event."""
        name = worker.job.step.name
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            match event["event"]:
                case "cell":
                    self.show("cell", name, int(event["number"]), int(event["total"]), str(event["heading"]))
                case "say":
                    self.show("note", f"{name}: {event['text']}")
                case "page":
                    self.show("page", name)
                case "done":
                    worker.told = event

    def check_deadlines(self) -> None:
        """Kill a process that hangs. What a notebook takes too long is stopped by its own process, long before."""
        for worker in self.workers.values():
            if worker.deadline is not None and time.monotonic() > worker.deadline and not worker.killed:
                self.show("note", f"{worker.job.step.name}: its process does not end: killing it")
                worker.kill()

    # ---- a notebook ----

    def begin(self, job: Job) -> None:
        """Start a notebook's process."""
        step, entry = job.step, self.record.of(job.step.name)
        fresh = NotebookRecord(
            **{name: getattr(entry, name) for name in ("name", "title", "purpose", "needs")},
            state="running",
            why=job.choice.why,
            warnings=list(job.choice.warnings),
            given=dict(job.given),
            parameters=dict(job.used),
            sha256=step.sha256,
            version=self.record.versions.get("leptonami", ""),
            attempt=self.record.attempts,
            started=now().isoformat(),
        )
        self.record.notebooks[self.record.notebooks.index(entry)] = fresh
        self.schedule.begin(step.name)
        # On the disk before it begins: whatever becomes of us, it is known what was running.
        self.keep()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "leptonami.pipeline.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            pass_fds=() if self.lock is None else (self.lock,),
        )
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101
        limit = None if job.timeout is None else time.monotonic() + job.timeout + job.grace + PATIENCE
        worker = Worker(job, process, errors, limit)
        self.workers[step.name] = worker
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        self.show("begin", step.name)
        if self.stopping:
            worker.signal(signal.SIGINT)  # Ctrl-C came while the process was being made
        # A process that died at once is told by its end, like any other.
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(self.order_for(job)).encode() + b"\n")
            process.stdin.flush()

    def order_for(self, job: Job) -> dict[str, Any]:
        """Write down what a notebook's process is to do."""
        kept = self.folder / "notebooks"
        texts = {parameter.name for parameter in job.step.declared if parameter.type.kind == "str"}
        own = {"run_id": self.record.run, "runs_folder": str(self.runs)}
        return {
            "source": str(job.step.source),
            "output": str(kept / f"{job.step.name}.ipynb"),
            "html": str(kept / f"{job.step.name}.html") if self.pages else None,
            "values": {**job.values, **{name: value for name, value in own.items() if name in texts}},
            "timeout": job.timeout,
            "cell_timeout": job.cell_timeout,
            "grace": job.grace,
            "run": self.record.run,
        }

    def end(self, worker: Worker) -> None:
        """Take in that a notebook's process has ended."""
        assert worker.process.stdout is not None  # noqa: S101 - it is a pipe
        self.selector.unregister(worker.process.stdout)
        name = worker.job.step.name
        entry = self.record.of(name)
        fill(entry, worker.told or lost(worker, stopping=self.stopping), self.folder)
        release(worker)
        del self.workers[name]
        skipped = self.schedule.end(name, completed=entry.state == "completed", how=how(entry))
        self.skip(skipped)
        self.keep()
        error = entry.error or {}
        self.show("end", name, entry.state, "" if entry.state == "completed" else str(error.get("message") or ""))

    def skip(self, skipped: Sequence[Skipped]) -> None:
        """Write down what will not run, and why."""
        for each in skipped:
            entry = self.record.of(each.name)
            entry.state, entry.why = "skipped", each.why
            self.show("end", each.name, "skipped", each.why)

    # ---- what is kept ----

    def keep(self) -> None:
        """Write the record and the page."""
        record = self.record
        record.provenance = weakest([each.provenance for each in record.notebooks])
        record.seconds = round(self.seconds_before + time.monotonic() - self.clock, 3)
        save(record, self.folder)
        # A page that cannot be made must not stop what runs; the record is what counts.
        try:
            index.write(record, self.folder)
        except (OSError, LeptonamiError) as error:
            self.show("note", f"the index page cannot be written: {error}")

    def conclude(self) -> None:
        """Write down how all of it ended."""
        record = self.record
        ran = [name for name, job in self.jobs.items() if job.choice.action == "run"]
        entries = [record.of(name) for name in ran]
        failed = next((each for each in entries if each.state in ("failed", "interrupted")), None)
        if self.stopping and any(each.state != "completed" for each in entries):
            record.state, record.exit_code = "interrupted", Interrupted.exit_code
        elif failed is not None:
            record.state, record.exit_code = "failed", failed.exit_code or LeptonamiError.exit_code
        else:
            record.state, record.exit_code = "completed", 0
        record.finished = now().isoformat()
        self.keep()

    def show(self, what: str, *arguments: Any) -> None:
        """Show something. A closed terminal must stop neither a build nor its clean-up."""
        try:
            getattr(self.board, what)(*arguments)
        except Exception:
            self.board = Board()

    # ---- being stopped ----

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the notebooks, once each time."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set signal handlers
            return
        before = {
            number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle(self, number: int, _: object) -> None:
        """Stop: nothing more begins, and what runs is interrupted. A second Ctrl-C stops that at once."""
        if number == signal.SIGINT:
            self.pressed += 1
        if self.stopping and self.pressed < 2:
            return
        self.stopping = True
        for worker in list(self.workers.values()):
            worker.signal(number)
            worker.deadline = time.monotonic() + (PATIENCE if self.pressed > 1 else worker.job.grace + PATIENCE)

    def end_all(self) -> None:
        """Leave no process behind, whatever has happened to us: they are interrupted and given their grace."""
        for worker in self.workers.values():
            worker.signal(signal.SIGTERM)
        for worker in self.workers.values():
            try:
                worker.process.wait(worker.job.grace + PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
            release(worker)


def release(worker: Worker) -> None:
    """Give back what a process had."""
    for stream in (worker.process.stdin, worker.process.stdout, worker.errors):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        worker.process.wait(10)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.process.wait()


def lost(worker: Worker, *, stopping: bool) -> dict[str, Any]:
    """Tell of a process that ended without saying what came of the notebook."""
    code = worker.process.wait()
    name = worker.job.step.source.name
    if stopping:
        left = "it did not end and was killed, so what it had begun may be left behind" if worker.killed else None
        stopped = Interrupted("interrupted", resource=name, hint=left)
        return {"outcome": {"status": "interrupted", "exit_code": stopped.exit_code, "error": stopped.as_dict()}}
    how_it_ended = f"exit status {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how_it_ended = signal.Signals(-code).name
    worker.errors.seek(max(0, worker.errors.seek(0, os.SEEK_END) - 2000))
    words = [line.strip() for line in worker.errors.read().decode(errors="replace").splitlines() if line.strip()]
    what = "did not end and was killed" if worker.killed else f"died ({how_it_ended})"
    hint = f"its last words: {' | '.join(words[-3:])[:500]}" if words else "often it is out of memory: dmesg says so"
    error = KernelDied(f"the notebook's process {what}", resource=name, hint=hint)
    return {"outcome": {"status": "kernel died", "exit_code": error.exit_code, "error": error.as_dict()}}


def fill(entry: NotebookRecord, told: Mapping[str, Any], folder: Path) -> None:
    """Write what came of a notebook into its entry."""
    outcome = told["outcome"]
    entry.finished = now().isoformat()
    entry.status = outcome["status"]
    entry.exit_code = outcome["exit_code"]
    entry.error = outcome["error"]
    entry.state = state_of(str(entry.status))
    for name in ("seconds", "cell", "cells", "executed"):
        setattr(entry, name, outcome.get(name))
    entry.heading = outcome.get("heading") or ""
    entry.provenance = told.get("provenance")
    entry.page_seconds = told.get("page_seconds")
    kept = folder / "notebooks" / f"{entry.name}.ipynb"
    # Only what this execution made: an earlier attempt's may still lie there.
    if outcome.get("seconds") is not None and kept.is_file():
        entry.notebook, entry.notebook_sha256 = f"notebooks/{kept.name}", digest(kept)
        if told.get("page_seconds") is not None and kept.with_suffix(".html").is_file():
            entry.html = f"notebooks/{entry.name}.html"


def state_of(status: str) -> Literal["completed", "failed", "interrupted"]:
    """Give the pipeline's word for how an execution ended."""
    if status == "completed":
        return "completed"
    return "interrupted" if status == "interrupted" else "failed"


def how(entry: NotebookRecord) -> str:
    """Say how a notebook ended, for those that needed it."""
    return "was interrupted" if entry.state == "interrupted" else "failed"


def problem(record: Record, ran: Sequence[Step]) -> LeptonamiError | None:
    """Give the error to leave with: that of the failed notebook that comes first; None if all completed."""
    entries = [record.of(step.name) for step in ran]
    if record.state == "interrupted":
        stopped = [each.name for each in entries if each.state == "interrupted"]
        return Interrupted(
            f"interrupted{' in ' + ', '.join(stopped) if stopped else ''}",
            resource=f"run {record.run}",
            hint=f"leptonami run --resume {record.run} goes on",
        )
    # Somebody may have interrupted one notebook and not the pipeline.
    failed = [each for each in entries if each.state in ("failed", "interrupted")]
    if not failed:
        return None
    told = failed[0].error or {}
    error = Failed(
        str(told.get("message") or "it failed"),
        resource=str(told.get("resource") or f"{failed[0].name}.ipynb"),
        hint=f"{told['hint']}; then: leptonami run --resume {record.run}"
        if told.get("hint")
        else f"when that is mended: leptonami run --resume {record.run}",
    )
    error.exit_code = record.exit_code or LeptonamiError.exit_code
    return error
