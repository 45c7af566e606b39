"""What people and machines see: tables and JSON on standard output, the story on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "print_json", "print_table", "say"]


def console(stream: TextIO | None = None) -> Console:
    """Give a rich console for a stream (standard output by default): colour only on a terminal, NO_COLOR honoured."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=False, emoji=False, markup=False)


def tame(text: str) -> str:
    """Take out what could drive a terminal; what comes from a log, a tag or a file may hold it."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


def say(text: str) -> None:
    """Tell the story: a line on standard error, so that standard output stays data."""
    # Nobody may be listening any more (a closed terminal, `2>&1 | head`): that is no reason to stop.
    with contextlib.suppress(OSError, ValueError):
        print(tame(text), file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """Write a value as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Write a table that fits the screen. Cells are text, never markup: they may come from a cluster or a log."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = None if title is None else Text(tame(title))
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else tame(str(cell))) for cell in row))
    console().print(table)


def print_mapping(pairs: Mapping[str, object]) -> None:
    """Write names and values, aligned."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        console().print(f"{name:<{width}}  {value}", soft_wrap=True)
