"""Options and criteria as one figure: a small bar for each score, to the right of its zero for and to the left against.

The side and the number say what the colour says, so nothing is lost in grey. What excludes an option is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leptonami.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Column", "scores_figure"]

FOR, AGAINST, ZERO = COLOURS[0], COLOURS[4], "#8b919c"
HALF = 0.36  # of a column's width, from the zero to a score of 1
ROW, NAMES, COLUMN = 0.42, 2.3, 0.98  # inches
NARROW = 13  # characters of an option's name in a line


@dataclass(frozen=True, slots=True)
class Column:
    """An option, ready to be drawn.

    Attributes
    ----------
    title, fate
        Its name; what became of it.
    scores
        On each criterion, from -1 to 1 (None where nothing counts), the total last.
    labels
        The same in words, with what else is to be said, such as that a must-have fails.
    chosen
        Whether it is the one.
    """

    title: str
    fate: str
    scores: tuple[float | None, ...]
    labels: tuple[str, ...]
    chosen: bool = False


def scores_figure(rows: Sequence[str], columns: Sequence[Column]) -> Figure:
    """Draw scores.

    Parameters
    ----------
    rows
        The criteria, and what the last row is.
    columns
        The options, the best first.
    """
    from matplotlib import pyplot

    size = (NAMES + COLUMN * len(columns), 1.1 + ROW * len(rows))
    fig, axes = pyplot.subplots(figsize=size)
    for x, column in enumerate(columns):
        axes.plot([x, x], [-0.5, len(rows) - 0.5], color=ZERO, linewidth=0.8, linestyle="-", marker="", zorder=1)
        for y, (value, label) in enumerate(zip(column.scores, column.labels, strict=True)):
            draw_score(axes, (x, y), value, label, total=y == len(rows) - 1)
    names = [f"{wrapped(each.title)}\n({each.fate})" for each in columns]
    axes.set_xticks(range(len(columns)), names, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, fontsize=9, parse_math=False)
    axes.xaxis.tick_top()
    axes.get_yticklabels()[-1].set_fontweight("bold")
    for name, column in zip(axes.get_xticklabels(), columns, strict=True):
        name.set_fontweight("bold" if column.chosen else "normal")
    axes.set_xlim(-0.5, max(len(columns), 1) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axhline(len(rows) - 1.5, color="#444444", linewidth=1.2, linestyle="-")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return fig


def draw_score(axes: Axes, place: tuple[int, int], value: float | None, label: str, *, total: bool) -> None:
    """Draw one score: its bar, and its number above the bar."""
    x, y = place
    if value:
        axes.barh(y + 0.2, value * HALF, left=x, height=0.24, color=FOR if value > 0 else AGAINST, zorder=2)
    axes.text(
        x,
        y - 0.16,
        label,
        ha="center",
        va="center",
        fontsize=8.5,
        weight="bold" if total or label[-1:].isalpha() else "normal",
        zorder=3,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def wrapped(text: str, width: int = NARROW) -> str:
    """Break a title into lines."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
