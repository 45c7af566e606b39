"""The timeline of the autoscaler's decisions, drawn: needed, unneeded, blocked and why, drained, gone.

Phases differ in lightness, in hatching and in the words that stand on them, so nothing depends on colour. With many
nodes, those with the same story are one row; with many stories, nodes are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from leptonami.explain.autoscaler import Explanation
from leptonami.explain.drawing import INK, PALE, Look, bar, common_suffix, empty_figure, shorten, things
from leptonami.explain.timeline import Bar, Row, Timeline, timeline
from leptonami.proof import excerpt
from leptonami.readers.autoscaler.track import Phase
from leptonami.readers.years import PLACEHOLDER
from leptonami.verdicts import autoscaler_report as report
from leptonami.verdicts.scaledown import BRANCHES, NodeVerdict, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["timeline_figure", "timeline_text"]

GOING = Look("#14225c", ink="white")
# From light to dark; tests/test_explain_figures.py works out how far they are apart in grey.
LOOKS: dict[Phase, Look] = {
    Phase.NEEDED: Look("#e9ebf1"),
    Phase.SKIPPED: Look("#d3d7e2", "...", "#8f96ab"),
    Phase.GPU_NOT_READY: Look("#f3b571", "///", "#b06a12"),
    Phase.UNNEEDED: Look("#7d57c0", ink="white"),
    Phase.BLOCKED: Look("#93132c", "xxx", "#c2707f", "white"),
    Phase.REMOVING: GOING,
}
HELD, STOPPED = Look("#eef0f4", "\\\\\\\\", "#8f96ab"), Look("#404040", ink="white")
WORDS = {
    Phase.NEEDED: "needed",
    Phase.SKIPPED: "kept",
    Phase.GPU_NOT_READY: "GPU not ready",
    Phase.UNNEEDED: "unneeded",
    Phase.BLOCKED: "blocked",
    Phase.REMOVING: "being removed",
}
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 30 * 86400)
LONGEST = 30  # characters of a node's name beside a row
NARROWEST = 0.003  # of the width: what is shorter than that is still seen
CHARACTER = 0.0112  # of the width, at the size of the words on bars


def timeline_figure(found: Explanation) -> Figure:
    """Draw what the autoscaler thought of each node over time, with scale-ups, cooldowns and stopped loops.

    Parameters
    ----------
    found
        An explanation with a log. Without one, or without any decision about a node, the figure says so.
    """
    from matplotlib import pyplot

    shown = timeline(found.log) if found.log is not None else None
    if shown is None or shown.begin is None or not shown.rows:
        return empty_figure("no log of decisions about nodes")
    lanes = [name for name, any_ in (("scale-ups", shown.scale_ups), ("cluster", shown.stopped or shown.held)) if any_]
    body = 3.4 if shown.counted else 0.29 * len(shown.rows) + 0.1
    top = 0.3 * len(lanes)
    figure, axes = pyplot.subplots(
        1 + len(lanes),
        1,
        figsize=(7.2, body + top + 1.15),
        sharex=True,
        squeeze=False,
        height_ratios=[0.3] * len(lanes) + [body],
        layout="constrained",  # whether or not the caller has set the style
    )
    figure.get_layout_engine().set(h_pad=0.01, hspace=0)  # type: ignore[union-attr,call-arg] # it is there
    for name, lane in zip(lanes, axes[:-1, 0], strict=True):
        draw_lane(lane, name, shown)
    main = axes[-1, 0]
    if shown.counted:
        draw_counts(main, shown)
    else:
        draw_rows(main, shown)
    draw_time(main, shown)
    legend(figure, shown)
    return figure


def draw_lane(axes: Axes, name: str, shown: Timeline) -> None:
    """Draw a lane above the nodes: scale-ups, or what held for the whole cluster."""
    plain_lane(axes, name)
    if name == "scale-ups":
        axes.plot([each[0] for each in shown.scale_ups], [0.5] * len(shown.scale_ups), "^", color=INK, markersize=6)
        for first, last, words, room in clusters(shown):
            short = words if len(words) < room else f"{first:,} scale-ups"
            if len(short) < room:
                beside(axes, last, short, shown)
        return
    found = sorted((begin, end, HELD) for begin, end in shown.held)
    found = sorted([*found, *((begin, end, STOPPED) for begin, end in shown.stopped)], key=lambda each: each[:2])
    edge = 1.02 * shown.length  # what goes on for longer than any node ends there
    found = [(min(begin, edge), min(end, edge), look) for begin, end, look in found]
    for number, (begin, end, look) in enumerate(found):
        words = "cluster not ready: nothing is decided" if look is STOPPED else "scale-down held back"
        span = (begin, max(end - begin, NARROWEST * shown.length))
        bar(axes, 0.5, span, look, height=0.8)
        if not label(axes, 0.5, span, words, look, length=shown.length):
            following = found[number + 1][0] if number + 1 < len(found) else 1.02 * shown.length
            if following - end > (len(words) + 2) * CHARACTER * shown.length:
                beside(axes, end, words, shown)


def clusters(shown: Timeline) -> list[tuple[int, float, str, float]]:
    """Put scale-ups together that are too near to each other to be named apart.

    Returns
    -------
    list of tuple
        How many, the last one's time, what they are, and for how many characters there is room behind it.
    """
    near = 0.035 * shown.length
    groups: list[list[tuple[float, str, int]]] = []
    for each in shown.scale_ups:
        if groups and each[0] - groups[-1][-1][0] < near:
            groups[-1].append(each)
        else:
            groups.append([each])
    found = []
    for number, group in enumerate(groups):
        total: dict[str, int] = {}
        for _, name, nodes in group:
            total[name] = total.get(name, 0) + nodes
        words = ", ".join(f"+{nodes} {shorten(name, 18)}" for name, nodes in total.items())
        following = groups[number + 1][0][0] if number + 1 < len(groups) else 1.02 * shown.length
        found.append((len(group), group[-1][0], words, (following - group[-1][0]) / (CHARACTER * shown.length) - 3))
    return found


def beside(axes: Axes, second: float, words: str, shown: Timeline) -> None:
    """Write something to the right of a place in a lane."""
    axes.text(second + 0.012 * shown.length, 0.5, words, va="center", fontsize=8, parse_math=False)


def plain_lane(axes: Axes, name: str) -> None:
    """Take everything off an axis but its name."""
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], [name], fontsize=8, color=PALE)
    axes.tick_params(axis="both", length=0, labelbottom=False)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def draw_rows(axes: Axes, shown: Timeline) -> None:
    """Draw a row for each node, or for each group of nodes with the same story."""
    names = [row_name(row, shown) for row in shown.rows]
    for at, row in enumerate(shown.rows):
        for each in row.bars:
            span = (each.begin, max(each.end - each.begin, NARROWEST * shown.length))
            bar(axes, at, span, LOOKS[each.phase])
            label(axes, at, span, bar_words(each), LOOKS[each.phase], length=shown.length)
        if row.gone is not None:
            axes.plot([row.gone], [at], "X", color="black", markersize=7, markeredgecolor="white", zorder=5)
            words = f"gone at {clock(shown, row.gone)}"
            axes.text(row.gone + 0.015 * shown.length, at, words, ha="left", va="center", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def row_name(row: Row, shown: Timeline) -> str:
    """Name a row: a node, or how many."""
    suffix = common_suffix([name for each in shown.rows for name in each.nodes])
    name = shorten(row.nodes[0].removesuffix(suffix), LONGEST)
    return name if len(row.nodes) == 1 else f"{len(row.nodes):,} nodes: {shorten(name, 18)}, …"


def bar_words(each: Bar) -> str:
    """Say what a bar is."""
    if each.phase is Phase.BLOCKED:
        return f"blocked: {each.why}"
    return f"kept: {each.why}" if each.phase is Phase.SKIPPED and each.why else WORDS[each.phase]


def label(axes: Axes, at: float, span: tuple[float, float], words: str, look: Look, *, length: float) -> bool:
    """Write on a bar what it is, if there is room; a shorter word if there is only little. Tell whether there was."""
    begin, width = span
    ground = {"facecolor": look.fill, "edgecolor": "none", "pad": 0.8} if look.hatch else None
    for text in (words, words.partition(":")[0]):
        if width > (len(text) + 2) * CHARACTER * length:
            axes.text(
                begin + width / 2,
                at,
                text,
                ha="center",
                va="center",
                fontsize=8,
                color=look.ink,
                zorder=4,
                parse_math=False,
                bbox=ground,
            )
            return True
    return False


def draw_counts(axes: Axes, shown: Timeline) -> None:
    """Draw how many nodes are in each phase."""
    times, merged = shown.counts()
    # The darkest at the bottom, where differences are easiest to see.
    order = [phase for phase in reversed(LOOKS) if phase in merged]
    base = [0] * len(times)
    for phase in order:
        look = LOOKS[phase]
        upper = [a + b for a, b in zip(base, merged[phase], strict=True)]
        axes.fill_between(
            times,
            base,
            upper,
            step="post",
            facecolor=look.fill,
            hatch=look.hatch or None,
            edgecolor=look.line,
            linewidth=0.4,
            zorder=2,
        )
        most = max(range(len(times)), key=lambda at: merged[phase][at])
        if merged[phase][most] > 0.05 * max(map(sum, zip(*merged.values(), strict=True))):
            near = min(max(times[most], 0.1 * shown.length), 0.88 * shown.length)
            axes.text(
                near,
                (base[most] + upper[most]) / 2,
                WORDS[phase],
                ha="center",
                va="center",
                fontsize=8,
                color=look.ink,
                bbox={"facecolor": look.fill, "edgecolor": "none", "pad": 1.0},
                zorder=4,
            )
        base = upper
    axes.set_ylabel("nodes", fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(0, max(base) * 1.06 or 1)


def draw_time(axes: Axes, shown: Timeline) -> None:
    """Write the clock under the figure. The year stands there if it is known."""
    assert shown.begin is not None  # noqa: S101 - asked by the caller
    length = max(shown.length, 1.0)
    step = next((each for each in STEPS if length / each <= 8), STEPS[-1])
    midnight = shown.begin.replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (shown.begin - midnight).total_seconds()
    first = -(-offset // step) * step
    seconds = [first + number * step - offset for number in range(10) if first + number * step - offset <= length]
    axes.set_xticks(seconds, [tick(shown, each, step) for each in seconds], fontsize=8)
    # Room for the words behind the last that went.
    last = max((row.gone for row in shown.rows if row.gone is not None), default=0.0)
    axes.set_xlim(-0.01 * length, max(1.02 * length, 0.0 if shown.counted else last + 0.19 * length))
    zone = shown.begin.tzname() or "UTC"
    unknown = shown.begin.year == PLACEHOLDER
    day = f"{shown.begin:%d %B} (year not known)" if unknown else f"{shown.begin:%Y-%m-%d}"
    axes.set_xlabel(f"{day}, {zone}", fontsize=9)


def tick(shown: Timeline, second: float, step: float) -> str:
    """Write a time under the figure."""
    moment = moment_of(shown, second)
    if step >= 86400:
        return f"{moment:%m-%d}"
    text = f"{moment:%H:%M:%S}" if step < 60 else f"{moment:%H:%M}"
    return f"{text}\n{moment:%m-%d}" if moment.hour == moment.minute == moment.second == 0 else text


def moment_of(shown: Timeline, second: float) -> datetime:
    """Give the time of a second."""
    assert shown.begin is not None  # noqa: S101 - asked by the caller
    return shown.begin + timedelta(seconds=second)


def clock(shown: Timeline, second: float) -> str:
    """Write a time of the day."""
    return f"{moment_of(shown, second):%H:%M:%S}"


def legend(figure: Figure, shown: Timeline) -> None:
    """Name the phases that are in the figure, in one line under it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    phases = {bar.phase for row in shown.single for bar in row.bars}
    handles: list[Any] = [
        Patch(
            facecolor=LOOKS[phase].fill,
            hatch=LOOKS[phase].hatch or None,
            edgecolor=LOOKS[phase].line if LOOKS[phase].hatch else "#999999",
            linewidth=0.5,
            label=WORDS[phase],
        )
        for phase in WORDS
        if phase in phases
    ]
    if any(row.gone is not None for row in shown.single) and not shown.counted:
        handles.append(Line2D([], [], marker="X", linestyle="", color="black", label="gone"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        handletextpad=0.5,
        borderaxespad=0.2,  # the layout leaves room for the legend alone, so this moves it towards the axis
    )


def timeline_text(found: Explanation) -> str:
    """Say what the timeline shows: what became of the nodes, and what held them back."""
    shown = timeline(found.log) if found.log is not None else None
    if found.log is None or shown is None or shown.begin is None or not shown.rows:
        return "There is no timeline: the evidence has no log of decisions about nodes."
    seen = {name for row in shown.single for name in row.nodes}
    groups = report.grouped([each for each in found.verdicts if excerpt(each.node, 80) in seen])
    told = "; ".join(group_words(group) for group in groups[:6])
    parts = [f"Over {spoken(shown.length)}, of {things(len(shown.single), 'node')} {told}."]
    if shown.scale_ups:
        parts.append(f"It scaled up {things(len(shown.scale_ups), 'time')}.")
    if shown.stopped:
        total = sum(end - begin for begin, end in shown.stopped)
        parts.append(f"For {spoken(total)} the whole loop stopped, since the cluster was not ready.")
    late = [row for row in shown.single if any(each.phase is Phase.GPU_NOT_READY for each in row.bars)]
    if late:
        number = sum(len(row.nodes) for row in late)
        longest = max(each.end - each.begin for row in late for each in row.bars if each.phase is Phase.GPU_NOT_READY)
        parts.append(f"The GPU of {things(number, 'node')} was not ready for up to {spoken(longest)}.")
    return " ".join(parts)


def group_words(group: Sequence[NodeVerdict]) -> str:
    """Say what became of nodes with the same verdict."""
    first = group[0]
    number = len(group)
    if first.state is State.REMOVED:
        return f"{number:,} {'was' if number == 1 else 'were'} removed"
    why = f" by {first.branch} (branch {BRANCHES[first.branch].number})" if first.branch is not None else ""
    if first.state is State.WILL_BE_REMOVED:
        return f"{number:,} will be removed{why.replace(' by ', ', held back by ')}"
    return f"{number:,} {'is' if number == 1 else 'are'} {first.state}{why}"


def spoken(seconds: float) -> str:
    """Write a length of time in round words, with its unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
