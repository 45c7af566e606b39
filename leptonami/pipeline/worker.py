"""The process of one notebook: `python -m leptonami.pipeline.worker`, started by `leptonami.pipeline.execution`.

A process and not a thread: papermill's working directory and the signal handlers are those of the whole process. It
reads its job, one line of JSON, from standard input, and writes what happens as lines of JSON to standard output:

    {"event": "cell", "number": 3, "total": 14, "heading": "The build"}
    {"event": "say", "text": "..."}
    {"event": "page"}                                   the notebook is executed, its page is being made
    {"event": "done", "outcome": {...}, ...}            always the last

Standard input stays open for as long as whoever started it lives. When it ends, that one is gone, and the notebook is
interrupted as by Ctrl-C, so that it cleans up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from leptonami.errors import Interrupted, LeptonamiError
from leptonami.notebook import Outcome, Progress, execute

__all__ = ["main"]


class Early:
    """Remembers a signal that comes before the notebook's kernel can be interrupted, or after it has ended."""

    def __init__(self) -> None:
        self.number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.handle)

    def handle(self, number: int, _: object) -> None:
        """Remember it."""
        self.number = number

    def pass_on(self) -> None:
        """Send it again, now that somebody listens."""
        number, self.number = self.number, None
        if number is not None:
            os.kill(os.getpid(), number)


def watch(stream: TextIO) -> None:
    """Interrupt this process when whoever started it is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            while stream.readline():
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="leptonami-parent", daemon=True).start()


class Teller:
    """Writes events; nobody may be reading any more, and that is no reason to stop."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lock = threading.Lock()

    def tell(self, event: str, **details: Any) -> None:
        """Write one."""
        with self.lock, contextlib.suppress(OSError, ValueError):
            self.stream.write(json.dumps({"event": event, **details}, default=str) + "\n")
            self.stream.flush()


def run(job: dict[str, Any], early: Early, teller: Teller) -> dict[str, Any]:
    """Execute the notebook and make its page; give what came of it."""
    if early.number is not None:
        error = Interrupted("interrupted before it began", resource=Path(job["source"]).name)
        return {"outcome": {"status": "interrupted", "exit_code": error.exit_code, "error": error.as_dict()}}

    def on_cell(progress: Progress) -> None:
        early.pass_on()
        teller.tell("cell", number=progress.number, total=progress.total, heading=progress.heading)

    outcome = execute(
        job["source"],
        job["output"],
        job["values"],
        cell_timeout=job["cell_timeout"],
        timeout=job["timeout"],
        grace=job["grace"],
        on_cell=on_cell,
        run_id=job["run"],
        say=lambda text: teller.tell("say", text=text),
    )
    told: dict[str, Any] = {"outcome": outcome.as_dict(), "provenance": outcome.provenance, "page_seconds": None}
    if job["html"]:
        teller.tell("page")
        told |= make_page(outcome, Path(job["html"]))
    return told


def make_page(outcome: Outcome, html: Path) -> dict[str, Any]:
    """Make the page. Without one, a notebook that otherwise completed has not: a figure in it has no description."""
    from leptonami.html import render

    clock = time.monotonic()
    # The page of an earlier attempt must not pass for that of this one.
    html.unlink(missing_ok=True)
    try:
        render(outcome.output, html, strict=outcome.error is None)
    except Exception as raised:
        # What a notebook shows may be anything; that its page cannot be made must not hide how it ended.
        error = raised if isinstance(raised, LeptonamiError) else unexpected(raised, outcome.output)
        if outcome.error is not None:
            return {}
        with contextlib.suppress(Exception):
            render(outcome.output, html, strict=False)
        failed = {"status": "no page", "exit_code": error.exit_code, "error": error.as_dict()}
        return {"outcome": outcome.as_dict() | failed, "page_seconds": round(time.monotonic() - clock, 3)}
    return {"page_seconds": round(time.monotonic() - clock, 3)}


def unexpected(raised: Exception, output: Path) -> LeptonamiError:
    """Tell of an error that should not be."""
    return LeptonamiError(
        f"its page cannot be made: {type(raised).__name__}: {raised}"[:500],
        resource=output.name,
        hint="this is a mistake in leptonami; the executed notebook is kept",
    )


def main() -> None:
    """Do the job that standard input names, and leave."""
    early = Early()
    # Whatever else writes to standard output must not get between the events.
    teller = Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    watch(sys.stdin)
    try:
        told = run(job, early, teller)
    except LeptonamiError as error:
        told = {"outcome": {"status": "failed", "exit_code": error.exit_code, "error": error.as_dict()}}
    teller.tell("done", **told)
    # Everything is on the disk: what an interpreter does at its end has nothing more to add, and takes its time.
    os._exit(0)


if __name__ == "__main__":
    main()
