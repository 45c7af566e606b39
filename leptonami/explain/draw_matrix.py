"""How each operand stands on each node, drawn as signs: healthy, broken, waiting, absent and fine, not determined.

Each sign has a shade or a hatch of its own besides, so nothing depends on colour. Nodes that stand the same are one
column, so that 200 nodes can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leptonami.explain.drawing import Look, common_suffix, empty_figure, shorten
from leptonami.explain.matrix import OTHERS, Column, columns_of, counted
from leptonami.verdicts.operands import Health

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["matrix_figure", "matrix_text"]

EDGE = "#b9bfcc"
SIGNS: dict[str, tuple[str, Look]] = {
    Health.OK: ("✓", Look("#eef0f4", line=EDGE)),
    Health.BROKEN: ("✗", Look("#93132c", line=EDGE, ink="white")),
    Health.WAITING: ("…", Look("#f3b571", "///", "#b06a12")),
    Health.NOT_DETERMINED: ("?", Look("white", line=EDGE)),
    Health.NOT_EXPECTED: ("–", Look("white", line=EDGE, ink="#6c6c6c")),
    OTHERS: ("≠", Look("#d3d7e2", "...", "#8f96ab")),
    "": ("", Look("white", line=EDGE)),
}
MEANINGS = {
    Health.OK: "healthy",
    Health.WAITING: "waiting",
    Health.BROKEN: "broken",
    Health.NOT_DETERMINED: "not determined",
    Health.NOT_EXPECTED: "absent, and fine",
    OTHERS: "differs",
}


def matrix_figure(frame: pd.DataFrame) -> Figure:
    """Draw how each operand (or link) stands on each node; nodes that stand the same are one column.

    Parameters
    ----------
    frame
        A row for each operand, a column for each node, the health in words: `gpustack.matrix`, `links_frame`.
    """
    from matplotlib import pyplot
    from matplotlib.patches import Patch, Rectangle

    columns = columns_of(frame)
    if not columns or not len(frame.index):
        return empty_figure("no operand on any node in the evidence")
    names = [str(each) for each in frame.index]
    width = min(7.2, 2.4 + 0.42 * len(columns) + 0.6)
    figure, axes = pyplot.subplots(figsize=(max(width, 4.6), 0.27 * len(names) + (1.1 if len(columns) <= 3 else 2.1)))
    for x, column in enumerate(columns):
        for y, state in enumerate(column.states):
            sign, look = SIGNS.get(state, SIGNS[""])
            axes.add_patch(
                Rectangle(
                    (x - 0.46, y - 0.44),
                    0.92,
                    0.88,
                    facecolor=look.fill,
                    hatch=look.hatch or None,
                    edgecolor=look.line,
                    linewidth=0.6,
                )
            )
            ground = {"facecolor": look.fill, "edgecolor": "none", "boxstyle": "round,pad=0.15"} if look.hatch else None
            axes.text(x, y, sign, ha="center", va="center", fontsize=10, color=look.ink, bbox=ground)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=9, parse_math=False)
    axes.set_xticks(range(len(columns)), [column_name(each, columns) for each in columns], fontsize=8, parse_math=False)
    flat = len(columns) <= 3
    axes.tick_params(axis="x", rotation=0 if flat else 55, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.tick_params(length=0)
    if not flat:
        pyplot.setp(axes.get_xticklabels(), ha="left", rotation_mode="anchor")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    present = {state for column in columns for state in column.states}
    handles = [
        Patch(
            facecolor=SIGNS[state][1].fill,
            hatch=SIGNS[state][1].hatch or None,
            edgecolor=SIGNS[state][1].line,
            linewidth=0.6,
            label=f"{SIGNS[state][0]} {words}",
        )
        for state, words in MEANINGS.items()
        if state in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), fontsize=8)
    return figure


def column_name(column: Column, columns: Sequence[Column]) -> str:
    """Name a column: a node, or how many."""
    suffix = common_suffix([name for each in columns for name in each.nodes])
    name = shorten(column.nodes[0].removesuffix(suffix), 22)
    if len(column.nodes) == 1:
        return name
    break_ = "\n" if len(columns) <= 3 else " "
    return f"{len(column.nodes):,} nodes:{break_}{shorten(name, 16)}, …"


def matrix_text(frame: pd.DataFrame) -> str:
    """Say what the matrix shows: on how many nodes all is well, and what is not on the others."""
    whole, groups = counted(frame)
    total = len(frame.columns)
    if not total:
        return "There is no matrix: the evidence shows no operand on any node."
    unnamed = total == 1 and frame.columns[0] == "(not named)"
    nodes = "the nodes, which the listing does not name," if unnamed else f"{total:,} node{'' if total == 1 else 's'}"
    if whole == total:
        return f"On {nodes} nothing is broken and nothing waits; {len(frame.index)} rows are shown."
    parts = [f"Of {nodes} {whole:,} {'has' if whole == 1 else 'have'} nothing that is broken or waits."]
    for number, broken, waiting in groups[:3]:
        words = [f"{word}: {', '.join(names)}" for word, names in (("broken", broken), ("waiting", waiting)) if names]
        parts.append(f"On {number:,}, {'; '.join(words)}.")
    if len(groups) > 3:
        parts.append(f"{sum(each[0] for each in groups[3:]):,} more stand otherwise.")
    return " ".join(parts)
