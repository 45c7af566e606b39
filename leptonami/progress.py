"""Telling people how far the work is: on a terminal, in a notebook, in a log of CI, or not at all.

What works reports *stages* ("wait for SSM"), how far one is where that is known, and lines of live output. Where it
goes is somebody else's choice. Everything shown is text, never markup: output comes from machines and scripts.
"""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["NotebookProgress", "PlainProgress", "Progress", "Silent", "Stage", "TerminalProgress", "choose"]


class Progress(Protocol):
    """Where progress goes."""

    def begin(self, title: str) -> None:
        """Begin a stage."""

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Say how far the stage is; `fraction` is 0 to 1 where known."""

    def line(self, text: str) -> None:
        """Show a line of live output of the stage."""

    def end(self, outcome: str) -> None:
        """End the stage: `done`, `failed` or another word."""

    def close(self) -> None:
        """Leave the screen in order."""


@dataclass(frozen=True)
class Stage:
    """A stage that has ended: its title, its outcome and how long it took."""

    title: str
    outcome: str
    seconds: float


class Steady:
    """Passes progress on until that fails: a closed terminal or pipe must not stop a build, nor its clean-up."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def _tell(self, what: str, *arguments: Any) -> None:
        try:
            getattr(self._progress, what)(*arguments)
        except Exception:
            self._progress = Silent()

    def begin(self, title: str) -> None:
        """Begin a stage."""
        self._tell("begin", title)

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Say how far the stage is."""
        self._tell("update", detail, fraction)

    def line(self, text: str) -> None:
        """Show a line of live output."""
        self._tell("line", text)

    def end(self, outcome: str) -> None:
        """End the stage."""
        self._tell("end", outcome)

    def close(self) -> None:
        """Leave the screen in order."""
        self._tell("close")


class Stages:
    """Runs stages one after another, reports them, and remembers how long each took."""

    def __init__(self, progress: Progress) -> None:
        self.progress = Steady(progress)
        self.ended: list[Stage] = []

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Progress]:
        """Report a block as one stage."""
        started = time.monotonic()
        self.progress.begin(title)
        try:
            yield self.progress
        except BaseException as error:
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._end(title, outcome, started)
            raise
        self._end(title, "done", started)

    def _end(self, title: str, outcome: str, started: float) -> None:
        self.ended.append(Stage(title, outcome, round(time.monotonic() - started, 3)))
        self.progress.end(outcome)


class Silent:
    """Shows nothing."""

    def begin(self, title: str) -> None:
        """Show nothing."""

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Show nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""

    def end(self, outcome: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class PlainProgress(Silent):
    """Lines on standard error, for logs: one when a stage begins and one when it ends, and the live output."""

    def __init__(self) -> None:
        self.title = ""
        self.started = 0.0

    def begin(self, title: str) -> None:
        """Say that a stage begins."""
        self.title, self.started = title, time.monotonic()
        print(f"{title} ...", file=sys.stderr, flush=True)  # noqa: T201

    def line(self, text: str) -> None:
        """Show a line of output, indented under its stage."""
        print(f"  | {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201

    def end(self, outcome: str) -> None:
        """Say how it ended."""
        seconds = time.monotonic() - self.started
        print(f"{self.title}: {outcome} ({seconds:.1f} s)", file=sys.stderr, flush=True)  # noqa: T201


class TerminalProgress(Silent):
    """A live line with a bar for the stage that is running; ended stages and output scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False, style="dim"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self.bars.start()
        self.task: Any = None
        self.title = ""
        self.started = 0.0

    def begin(self, title: str) -> None:
        """Begin a bar."""
        self.title, self.started = title, time.monotonic()
        self.task = self.bars.add_task(title, total=None, detail="")

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Move the bar where the fraction is known."""
        if self.task is None:
            return
        if fraction is None:
            self.bars.update(self.task, detail=printable(detail))
        else:
            self.bars.update(self.task, detail=printable(detail), total=1.0, completed=fraction)

    def line(self, text: str) -> None:
        """Let a line scroll above the bar."""
        self.bars.console.print(f"  {printable(text)}", style="dim")

    def end(self, outcome: str) -> None:
        """Replace the bar by a line that stays."""
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
        mark, style = ("✓", "green") if outcome == "done" else ("✗", "red")
        seconds = time.monotonic() - self.started
        self.bars.console.print(f"{mark} {self.title}", f"{seconds:6.1f} s", style=style)

    def close(self) -> None:
        """Give the terminal back."""
        self.bars.stop()


class NotebookProgress(Silent):
    """One display in a notebook, updated in place, whose kept output is the same in every run.

    What it shows in the end has no times in it: those are in the run's manifest, where they are data. nbval takes the
    first state of a display for its last, since it knows no updates. So the live display begins empty and is emptied
    again in the end, and what came of the stages is a second output, shown once.
    """

    lines_shown = 8

    def __init__(self) -> None:
        from importlib import import_module

        # IPython's display functions are untyped.
        ipython: Any = import_module("IPython.display")
        self.display, self.html = ipython.display, ipython.HTML
        self.rows: list[tuple[str, str]] = []
        self.tail: list[str] = []
        self.detail = ""
        self.shown_at = 0.0
        self.handle: Any = self.display(self.html(self._render()), display_id=True)

    def _render(self) -> str:
        mark = {"done": "✓", "running": "…"}
        items = "".join(
            f"<li>{mark.get(outcome, '✗')} {html.escape(title)}"
            + (f" <em>{html.escape(outcome)}</em>" if outcome not in mark else "")
            + (f" <small>{html.escape(self.detail)}</small>" if outcome == "running" and self.detail else "")
            + "</li>"
            for title, outcome in self.rows
        )
        tail = f"<pre>{html.escape(chr(10).join(self.tail))}</pre>" if self.tail else ""
        return f'<ol class="leptonami-stages">{items}</ol>{tail}'

    def _show(self, *, now: bool = False) -> None:
        # A notebook that gets a message for every line of output drowns in them.
        if now or time.monotonic() - self.shown_at > 0.5:
            self.handle.update(self.html(self._render()))
            self.shown_at = time.monotonic()

    def begin(self, title: str) -> None:
        """Add a stage to the list."""
        self.rows.append((title, "running"))
        self.detail, self.tail = "", []
        self._show()

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Show the detail beside the stage."""
        self.detail = printable(detail) if fraction is None else f"{printable(detail)} ({fraction:.0%})"
        self._show()

    def line(self, text: str) -> None:
        """Show the last few lines of output under the list."""
        self.tail = [*self.tail, printable(text)][-self.lines_shown :]
        self._show()

    def end(self, outcome: str) -> None:
        """Tick the stage off; the output of one that failed stays."""
        self.rows[-1] = (self.rows[-1][0], outcome)
        if outcome == "done":
            self.tail = []
        self._show(now=outcome != "done")

    def close(self) -> None:
        """Empty the display and leave its last state behind, once."""
        if not self.rows:
            return
        last = self.html(self._render())
        self.rows, self.tail = [], []
        self._show(now=True)
        self.display(last)


def printable(text: str) -> str:
    """Take control characters out of untrusted text, so that a log cannot drive the terminal."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def choose(*, quiet: bool = False) -> Progress:
    """Choose by where we are: a notebook, a terminal, or a log."""
    if quiet:
        return Silent()
    if "ipykernel" in sys.modules:
        return NotebookProgress()
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()
