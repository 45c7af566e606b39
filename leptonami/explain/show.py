"""How an explanation is printed: the story first, then the table, on a screen of 80 columns or more."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence

from leptonami.console import console, print_table, say, tame
from leptonami.progress import Silent, TerminalProgress

__all__ = ["SHOWN", "Patient", "blank", "quietly", "show_notes", "show_records", "show_story", "show_table"]

SHOWN = 30  # rows, unless all are asked for
PROOF = 3  # lines of a proof under a row; --node and --json have all of it
WIDEST = 100  # columns of text: longer lines are hard to read


class Patient(Silent):
    """Progress that begins to show only when something takes longer than `wait` seconds, and leaves nothing behind."""

    def __init__(self, title: str, *, wait: float = 1.0) -> None:
        self.title = title
        self.wait = wait
        self.started = time.monotonic()
        self.shown: TerminalProgress | None = None

    def update(self, detail: str, fraction: float | None = None) -> None:
        """Say how far it is."""
        if self.shown is None:
            if time.monotonic() - self.started < self.wait:
                return
            self.shown = TerminalProgress()
            self.shown.begin(self.title)
        self.shown.update(detail, fraction)

    def close(self) -> None:
        """Take it off the screen."""
        if self.shown is not None:
            self.shown.close()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Write to a pipe that may be closed (`| head`): whoever reads has seen enough, and that is no error.

    The exit code stays that of the explanation.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        forget_output()
    except SystemExit:
        # rich leaves with 1 when the pipe is closed; nothing else in here leaves.
        forget_output()


def forget_output() -> None:
    """Let what is still to be written go nowhere: Python would complain about it at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def width() -> int:
    """Give how wide text is written."""
    return min(console().width, WIDEST)


def show_story(sentences: Sequence[str]) -> None:
    """Write a story, a paragraph a sentence, wrapped. Its text may come from a log: it is tamed."""
    for each in sentences:
        write(textwrap.fill(tame(" ".join(each.split())), width(), subsequent_indent="  ", break_on_hyphens=False))


def show_records(
    columns: Sequence[str], rows: Sequence[Sequence[str]], proofs: Sequence[str], *, everything: bool
) -> None:
    """Write short columns, and under each row what proves it: a proof is a sentence, and no column is wide enough.

    Parameters
    ----------
    columns, rows
        The short cells.
    proofs
        What stands under each row, cut to `PROOF` lines.
    everything
        Write all rows.
    """
    shown = rows if everything else rows[:SHOWN]
    cells = [[tame(each) for each in columns], *([tame(each) for each in row] for row in shown)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    room = console().width
    # Names of nodes can be long: then what stands behind them goes to a line of its own.
    broken = sum(widths) + 2 * (len(widths) - 1) > room
    for number, row in enumerate(cells):
        padded = [cell.ljust(length) for cell, length in zip(row, widths, strict=True)]
        line = f"{row[0]}\n  {'  '.join(padded[1:])}" if broken else "  ".join(padded)
        write(line.rstrip())
        if number == 0:
            write("─" * min(room, sum(widths) + 2 * (len(widths) - 1)))
        elif proofs[number - 1]:
            lines = textwrap.wrap(
                tame(proofs[number - 1]), max(20, room - 4), max_lines=PROOF, placeholder=" …", break_on_hyphens=False
            )
            write("\n".join(f"    {each}" for each in lines))
    if len(rows) > len(shown):
        write(more(len(rows) - len(shown)))


def more(number: int) -> str:
    """Say that there are more rows."""
    return f"… and {number:,} more (--all shows them, --json has all)"


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, everything: bool, title: str | None = None
) -> None:
    """Write a table, its first rows only unless all are asked for."""
    print_table(columns, rows if everything else rows[:SHOWN], title=title)
    if not everything and len(rows) > SHOWN:
        write(more(len(rows) - SHOWN))


def blank() -> None:
    """Write an empty line."""
    write("")


def write(text: str) -> None:
    """Write a line on standard output."""
    sys.stdout.write(text + "\n")


def show_notes(notes: Sequence[str]) -> None:
    """Tell on standard error what could not be read, or was not."""
    for each in notes[:10]:
        say(f"note: {each}")
    if len(notes) > 10:
        say(f"note: and {len(notes) - 10} more; --json has all")
