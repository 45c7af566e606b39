"""Launch times, drawn: where the time goes, every trial, how they are distributed, and what the first read adds.

Parts differ in lightness and hatching, variants in dash and marker, so nothing depends on colour. Every figure has its
words beside it (`..._text`), with the finding and not the looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from leptonami.bench import statistics
from leptonami.bench.groups import Cell, Group, groups
from leptonami.bench.parts import parts
from leptonami.explain.drawing import INK, PALE, Look, bar, empty_figure
from leptonami.figures import COLOURS, DASHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leptonami.bench.results import Results

__all__ = [
    "distribution_figure",
    "distribution_text",
    "first_read_figure",
    "first_read_text",
    "trials_figure",
    "trials_text",
    "waterfall_figure",
    "waterfall_text",
]

# From dark to light to dark; neighbours in a launch are apart in grey.
PARTS: dict[str, Look] = {
    "instance or disk": Look("#14225c", ink="white"),
    "node": Look("#d3d7e2"),
    "pod": Look("#5b6478", ink="white"),
    "pull": Look("#f3b571", "///", "#b06a12"),
    "wire": Look("#f3b571", "///", "#b06a12"),
    "unpack": Look("#93132c", "xxx", "#c2707f", "white"),
    "start": Look("#7fc4bf", "...", "#1f6e69"),
}
WIDTH, ROW = 7.2, 0.34  # inches
READ = Look("#e9ebf1", "\\\\\\\\", "#5b6478")


def timed(results: Results) -> list[Group]:
    """Give the groups that have a time."""
    return [each for each in groups(results) if each.seconds(results.experiment.phase)]


def names(found: Sequence[Group]) -> list[str]:
    """Name rows: the variant, and the cell where there are several."""
    several = len({each.cell for each in found}) > 1
    return [f"{each.variant}\n{each.cell.words()}" if several else each.variant for each in found]


def rows_figure(found: Sequence[Group], *, extra: float = 0.0) -> tuple[Figure, Axes]:
    """Begin a figure with a row a group, a little apart where the cell changes."""
    from matplotlib import pyplot

    several = len({each.cell for each in found}) > 1
    height = (ROW * 1.35 if several else ROW) * len(found) + 1.0 + extra
    figure, axes = pyplot.subplots(figsize=(WIDTH, height), layout="constrained")
    axes.set_yticks(range(len(found)), names(found), fontsize=8, parse_math=False)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for place in range(1, len(found)):
        if found[place].cell != found[place - 1].cell:
            axes.axhline(place - 0.5, color="#8b919c", linewidth=0.8, linestyle="-")
    axes.set_xlabel("seconds")
    return figure, axes


# --- where the time goes ----------------------------------------------------------------------------------------------


def waterfall_figure(results: Results) -> Figure:
    """Draw the median launch of each variant, part after part."""
    from matplotlib.patches import Patch

    found = [each for each in timed(results) if parts(each)]
    if not found:
        return empty_figure("no trial that counts")
    figure, axes = rows_figure(found, extra=0.3)
    used: dict[str, None] = {}
    longest = max(sum(parts(each).values()) for each in found)
    for row, group in enumerate(found):
        begin = 0.0
        for name, length in parts(group).items():
            bar(axes, row, (begin, length), PARTS[name])
            if length > 0.09 * longest:
                axes.text(
                    begin + length / 2,
                    row,
                    f"{length:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=PARTS[name].ink,
                    bbox={"facecolor": PARTS[name].fill, "edgecolor": "none", "pad": 1},
                )
            begin += length
            used[name] = None
        whole = median(group.seconds(results.experiment.phase))  # which the parts' medians need not add up to
        axes.text(begin + 0.01 * longest, row, f"{whole:.1f} s", va="center", fontsize=8, color=INK)
    axes.set_xlim(0, longest * 1.12)
    order = [name for name in PARTS if name in used]
    handles = [
        Patch(facecolor=PARTS[name].fill, hatch=PARTS[name].hatch, edgecolor=PARTS[name].line, label=name)
        for name in order
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=6, fontsize=8, handlelength=1.6, columnspacing=1.2)
    return figure


def waterfall_text(results: Results) -> str:
    """Say where the time goes."""
    told = [
        f"{row_name(group)}: " + ", ".join(f"{name} {length:.2f} s" for name, length in parts(group).items())
        for group in timed(results)
        if parts(group)
    ]
    return f"Where the median launch spends its time. {'; '.join(told)}." if told else "No trial that counts."


def row_name(group: Group) -> str:
    """Name a group in a sentence."""
    return f"{group.variant} ({group.cell.words()})"


# --- every trial ------------------------------------------------------------------------------------------------------


def trials_figure(results: Results) -> Figure:
    """Draw every trial as a point, in the order in which they were run from the top of its row to the bottom.

    The median and the quartiles stand behind; outliers have a ring, warm-ups are crosses.
    """
    found = timed(results)
    if not found:
        return empty_figure("no trial that counts")
    phase = results.experiment.phase
    figure, axes = rows_figure(found)
    blocks = max(each.block for each in results.trials)
    for row, group in enumerate(found):
        times = group.seconds(phase)
        about = statistics.summary(times)
        axes.barh(row, about.q3 - about.q1, left=about.q1, height=0.7, color="#e3e6ee", zorder=1)
        axes.plot([about.median] * 2, [row - 0.36, row + 0.36], color=INK, marker="", linestyle="-", zorder=2)
        mine = [
            each
            for each in results.trials
            if each.variant == group.variant
            and Cell(each.image, each.instance_type, each.bandwidth_mbit) == group.cell
            and each.outcome == "ok"
        ]
        for each in mine:
            span = each.timeline.phases().get(phase)
            if span is None:
                continue
            at = row + 0.6 * ((each.block - 0.5) / blocks - 0.5)
            if each.warmup:
                axes.plot(span.seconds, at, "x", color=PALE, markersize=4, zorder=3)
                continue
            axes.plot(span.seconds, at, "o", color=COLOURS[2], markersize=3.5, zorder=3)
            if span.seconds in about.outliers:
                axes.plot(span.seconds, at, "o", color=COLOURS[1], markersize=8, fillstyle="none", zorder=3)
    axes.set_xlim(left=0)
    return figure


def trials_text(results: Results) -> str:
    """Say how the trials spread."""
    told = []
    for group in timed(results):
        about = statistics.summary(group.seconds(results.experiment.phase))
        odd = f", {len(about.outliers)} of them outliers" if about.outliers else ""
        told.append(
            f"{row_name(group)}: median {about.median:.2f} s, {about.lowest:.2f} to {about.highest:.2f} s in "
            f"{about.n} trials{odd}"
        )
    return f"Every trial. {'; '.join(told)}." if told else "No trial that counts."


# --- how they are distributed -----------------------------------------------------------------------------------------


def distribution_figure(results: Results) -> Figure:
    """Draw which share of the launches was done after how long: a panel for each cell, one below the other."""
    from matplotlib import pyplot

    found = timed(results)
    if not found:
        return empty_figure("no trial that counts")
    cells = list(dict.fromkeys(each.cell for each in found))
    variants = [str(each.name) for each in results.experiment.variants]
    figure, panels = pyplot.subplots(
        len(cells), 1, figsize=(WIDTH, 1.75 * len(cells) + 0.9), sharex=True, squeeze=False, layout="constrained"
    )
    for cell, axes in zip(cells, panels[:, 0], strict=True):
        for group in (each for each in found if each.cell == cell):
            times = sorted(group.seconds(results.experiment.phase))
            look = variants.index(group.variant) % len(COLOURS)
            axes.step(
                [times[0], *times],
                [0.0, *((each + 1) / len(times) for each in range(len(times)))],
                where="post",
                color=COLOURS[look],
                linestyle=DASHES[look],
                marker="",
                label=group.variant,
            )
        axes.set_title(cell.words(), fontsize=9)
        axes.set_yticks([0, 0.5, 0.9, 1], ["0", "half", "90 %", "all"], fontsize=8)
        axes.set_ylim(0, 1.03)
    # Now that all is drawn: the panels share their scale, which is fixed from here on.
    panels[-1, 0].set_xlim(left=0)
    panels[-1, 0].set_xlabel("seconds until the launch was done")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8, handlelength=3.5)
    return figure


def distribution_text(results: Results) -> str:
    """Say within what time nine launches out of ten were done."""
    told = [
        f"{row_name(each)}: half within {about.median:.2f} s, nine out of ten within {about.p90:.2f} s"
        for each in timed(results)
        if (about := statistics.summary(each.seconds(results.experiment.phase)))
    ]
    return f"How many launches were done by when. {'; '.join(told)}." if told else "No trial that counts."


# --- the first read ---------------------------------------------------------------------------------------------------


def first_read_figure(results: Results) -> Figure:
    """Draw the median launch, and behind it what reading every pre-fetched layer once would add at most."""
    found = timed(results)
    if not any(each.seconds("first-read") for each in found):
        return empty_figure("no first read was measured")
    figure, axes = rows_figure(found)
    for row, group in enumerate(found):
        launch = median(group.seconds(results.experiment.phase))
        read = group.seconds("first-read")
        bar(axes, row, (0.0, launch), PARTS["instance or disk"])
        if read:
            bar(axes, row, (launch, median(read)), READ)
        end = launch + (median(read) if read else 0.0)
        words = f"{launch:.1f} s" + (f" + first read {median(read):.1f} s" if read else "")
        axes.text(end, row, f" {words}", va="center", fontsize=8, color=INK)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.3)
    return figure


def first_read_text(results: Results) -> str:
    """Say what the first read adds."""
    told = [
        f"{row_name(each)}: launch {median(each.seconds(results.experiment.phase)):.2f} s, first read of all layers "
        f"{median(read):.2f} s"
        for each in timed(results)
        if (read := each.seconds("first-read"))
    ]
    return f"What the first read would add at most. {'; '.join(told)}." if told else "No first read was measured."
