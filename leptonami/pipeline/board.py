"""Telling people how a pipeline is getting on: a line a notebook on a terminal, plain lines in a log, or nothing.

Everything shown is text and never markup: headings and messages come out of notebooks.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leptonami.console import say
from leptonami.progress import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Board", "PlainBoard", "TerminalBoard", "choose", "span"]

MARKS = {"completed": "✓", "failed": "✗", "interrupted": "✗", "running": "…"}


def span(seconds: float) -> str:
    """Write a duration for people: `8.2 s`, `3 min 20 s`, `4 h 0 min`."""
    minutes, rest = divmod(seconds, 60)
    if minutes >= 60:
        return f"{int(minutes) // 60} h {int(minutes) % 60} min"
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


class Board:
    """Shows nothing; the others show what it is told."""

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show while the block runs."""
        yield

    def begin(self, name: str) -> None:
        """Say that a notebook has begun."""

    def cell(self, name: str, number: int, total: int, heading: str) -> None:
        """Say which cell runs."""

    def page(self, name: str) -> None:
        """Say that the page is being made."""

    def end(self, name: str, state: str, text: str) -> None:
        """Say that a notebook has ended, or will not begin, and how."""

    def note(self, text: str) -> None:
        """Say a sentence about the whole. It is shown even where nothing else is."""
        say(text)


class PlainBoard(Board):
    """A line for each section, and for each beginning and end."""

    def __init__(self) -> None:
        self.headings: dict[str, str] = {}

    def begin(self, name: str) -> None:
        """Say that a notebook has begun."""
        self.headings.pop(name, None)
        say(f"{name}: begins")

    def cell(self, name: str, number: int, total: int, heading: str) -> None:
        """Say which section runs, once."""
        if self.headings.get(name) != heading:
            self.headings[name] = heading
            say(f"{name}: cell {number} of {total}: {printable(heading)}")

    def end(self, name: str, state: str, text: str) -> None:
        """Say that a notebook has ended, or will not begin, and how."""
        say(f"{name}: {state}" + (f": {printable(text)}" if text else ""))


@dataclass
class Row:
    """What a line of the terminal says."""

    state: str = "waiting"
    text: str = ""
    since: float | None = None
    took: float | None = None


class TerminalBoard(Board):
    """A line for each notebook, which moves."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rows = {name: Row() for name in names}

    def __rich__(self) -> Table:
        """Draw the lines; rich asks for them a few times a second."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        now = time.monotonic()
        for name, row in self.rows.items():
            took = row.took if row.took is not None else (now - row.since if row.since is not None else None)
            style = {"completed": "green", "failed": "red", "interrupted": "red", "waiting": "dim"}.get(row.state, "")
            table.add_row(
                Text(MARKS.get(row.state, "·"), style=style),
                Text(name),
                Text(row.state, style=style),
                Text("" if took is None else span(took)),
                Text(printable(row.text)),
            )
        return table

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show while the block runs; the last state stays."""
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        with Live(self, console=console, refresh_per_second=4, redirect_stdout=False):
            yield

    def begin(self, name: str) -> None:
        """Begin to count its time."""
        self.rows[name] = Row("running", "the kernel is starting", time.monotonic())

    def cell(self, name: str, number: int, total: int, heading: str) -> None:
        """Show which cell runs."""
        self.rows[name].text = f"cell {number} of {total}: {heading}"

    def page(self, name: str) -> None:
        """Show that the page is being made."""
        self.rows[name].text = "making the page"

    def end(self, name: str, state: str, text: str) -> None:
        """Show how it ended."""
        row = self.rows.setdefault(name, Row())
        row.state, row.text = state, text
        row.took = time.monotonic() - row.since if row.since is not None else None


def choose(names: Sequence[str], *, quiet: bool = False) -> Board:
    """Choose by where we are."""
    if quiet:
        return Board()
    return TerminalBoard(names) if sys.stderr.isatty() else PlainBoard()
