"""How launches, and what pre-fetching saves, change with the image's size and with the bandwidth: numbers and a figure.

Only what one driver measured on one machine is put beside each other; it may be of several runs, such as one with more
sizes and one with more bandwidths.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from leptonami.bench import statistics
from leptonami.bench.groups import Cell, Group, groups
from leptonami.explain.drawing import PALE, empty_figure
from leptonami.figures import COLOURS, DASHES, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leptonami.bench.results import Results
    from leptonami.bench.statistics import Interval

__all__ = ["Series", "along_bandwidth", "along_size", "scaling_figure", "scaling_text"]

WIDTH, HEIGHT = 7.2, 5.4  # inches
NOTHING = "No size and no bandwidth changes here"


@dataclass(frozen=True)
class Series:
    """The groups along one thing that changes, while all else stays.

    Attributes
    ----------
    stays
        What stays, in words.
    axis, unit
        What changes.
    places
        Where on that axis which variant's group is.
    base
        The variant that the others are held against.
    """

    stays: str
    axis: str
    unit: str
    places: dict[float, dict[str, Group]]
    base: str

    @property
    def variants(self) -> list[str]:
        """The variants, in the experiment's order."""
        return list(dict.fromkeys(name for at in sorted(self.places) for name in self.places[at]))

    def launches(self, variant: str) -> list[tuple[float, Group]]:
        """Give the groups of a variant along the axis."""
        return [(at, there[variant]) for at, there in sorted(self.places.items()) if variant in there]

    def savings(self, variant: str) -> list[tuple[float, Interval]]:
        """Give what a variant saves against the base along the axis, with its interval (s)."""
        pairs = [(at, there.get(self.base), there.get(variant)) for at, there in sorted(self.places.items())]
        return [(at, saving(one, other)) for at, one, other in pairs if one and other and one.results is other.results]


def times(group: Group) -> tuple[float, ...]:
    """Give the times of a group."""
    return tuple(group.seconds(group.results.experiment.phase))


def middle(group: Group) -> Interval:
    """Give a group's median with its interval (s)."""
    return estimated((times(group),), group.results.experiment.seed)


def saving(base: Group, group: Group) -> Interval:
    """Give what a group saves against a base: the difference of the medians, with its interval (s)."""
    return estimated((times(group), times(base)), group.results.experiment.seed)


@cache
def estimated(samples: tuple[tuple[float, ...], ...], seed: int) -> Interval:
    """Estimate a median, or a difference of two; the same sample once, however often it is drawn and told."""
    import numpy as np

    return statistics.interval(samples, statistics.difference_of_medians if len(samples) > 1 else np.median, seed=seed)


def alike(shown: Sequence[Results]) -> list[Group]:
    """Give the groups, with two times or more, that the same driver measured on the same machine as the first results.

    Of two with the same variant in the same cell, the first. An image of the same name counts if it is the same.
    """

    def setting(results: Results) -> Hashable:
        wanted = results.experiment
        local = (wanted.local.latency_ms, wanted.local.page_cache)
        return (results.driver, tuple(sorted(results.machine.items())), results.provenance, wanted.phase, *local)

    found: dict[tuple[str, Cell], Group] = {}
    images = {str(each.name): each for results in reversed(shown) for each in results.experiment.images}
    for results in shown:
        if setting(results) == setting(shown[0]):
            for each in groups(results):
                same = images[each.cell.image] == results.experiment.image(each.cell.image)
                if same and len(times(each)) > 1:
                    found.setdefault((each.variant, each.cell), each)
    return list(found.values())


def size(group: Group) -> float:
    """Give the size of a group's image on the disk (MiB): as a bake found it, or as it was to be; 0 if not known."""
    name = group.cell.image
    told = [bake.conditions.get(f"{name} unpacked MiB") for bake in group.results.bakes]
    found = [float(each) for each in told if isinstance(each, int | float)]
    return found[0] if found else float(group.results.experiment.image(name).unpacked_mib or 0)


def along(
    shown: Sequence[Results],
    place: Callable[[Group], float],
    stays: Callable[[Cell], tuple[str, ...]],
    axis: str,
    unit: str,
) -> Series | None:
    """Sort groups by what stays, and give those of which the most places are known; None if they are fewer than two."""
    found: dict[tuple[str, ...], dict[float, dict[str, Group]]] = {}
    for each in alike(shown):
        if place(each):
            found.setdefault(stays(each.cell), {}).setdefault(place(each), {})[each.variant] = each
    best = max(found, key=lambda key: len(found[key]), default=None)
    if best is None or len(found[best]) < 2:
        return None
    return Series(", ".join(filter(None, best)), axis, unit, found[best], shown[0].experiment.base)


def along_size(shown: Sequence[Results]) -> Series | None:
    """Give how launches change with the image's size, at one bandwidth; None if there is one size only."""

    def stays(cell: Cell) -> tuple[str, ...]:
        return (cell.instance_type, f"{cell.bandwidth_mbit} Mbit/s" if cell.bandwidth_mbit else "bandwidth not limited")

    return along(shown, size, stays, "image on the disk", "MiB")


def along_bandwidth(shown: Sequence[Results]) -> Series | None:
    """Give how launches of one image change with the bandwidth; None if there is one only. Not limited is no place."""

    def stays(cell: Cell) -> tuple[str, ...]:
        return (cell.instance_type, f"image {cell.image}")

    return along(shown, lambda group: float(group.cell.bandwidth_mbit), stays, "bandwidth of the registry", "Mbit/s")


def scaling_figure(shown: Sequence[Results]) -> Figure:
    """Draw launches, and under them what is saved, by the image's size and by bandwidth.

    Every trial that counts is a point; medians have their 95 % intervals, and lines between them are to guide the eye.
    """
    from matplotlib import pyplot

    series = [each for each in (along_size(shown), along_bandwidth(shown)) if each is not None]
    if not series:
        return empty_figure(NOTHING)
    figure, panels = pyplot.subplots(
        2, len(series), figsize=(WIDTH, HEIGHT), sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    names = [str(each.name) for each in shown[0].experiment.variants]
    names += [name for each in series for name in each.variants if name not in names]
    for number, each in enumerate(series):
        upper, lower = panels[:, number]
        draw(upper, lower, each, names)
        upper.set_title(each.stays, fontsize=9)
        lower.set_xlabel(f"{each.axis} ({each.unit})", fontsize=9)
        places = sorted(each.places)
        if each.unit == "Mbit/s":
            lower.set_xscale("log")
            lower.set_xlim(places[0] * 0.7, places[-1] * 1.4)
            lower.minorticks_off()
        else:
            lower.set_xlim(0, places[-1] * 1.1)
        lower.set_xticks(places, [f"{at:.0f}" for at in places])
        lower.axhline(0, color=PALE, linewidth=0.8, linestyle="-")
        for axes in (upper, lower):
            axes.tick_params(labelsize=9)
    # Now that all is drawn: the panels of a row share their scale.
    panels[0, 0].set_ylim(bottom=-0.02 * panels[0, 0].get_ylim()[1])
    panels[0, 0].set_ylabel("launch (s)", fontsize=9)
    panels[1, 0].set_ylabel(f"saved against {series[0].base} (s)", fontsize=9)
    handles = {
        name: handle for axes in panels[0] for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=3, fontsize=8, handlelength=3.5)
    return figure


def draw(upper: Axes, lower: Axes, series: Series, names: Sequence[str]) -> None:
    """Draw the variants of a series: launches above, what they save below."""
    span = max(series.places) - min(series.places)
    for variant in series.variants:
        place = names.index(variant)
        look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        line = {**look, "linestyle": DASHES[place % len(DASHES)], "capsize": 3, "markersize": 5, "elinewidth": 1.2}

        def beside(at: float, place: int = place) -> float:
            """Put a variant a little beside the others that are at the same place."""
            step = (place - 1) * 0.02
            return at * (1 + 2 * step) if series.unit == "Mbit/s" else at + step * span

        found = series.launches(variant)
        for at, group in found:
            spots = times(group)
            upper.plot([beside(at)] * len(spots), spots, linestyle="", alpha=0.35, markersize=3, zorder=2, **look)
        ranges = [(beside(at), middle(group)) for at, group in found]
        bars(upper, ranges, {**line, "label": variant})
        if variant != series.base:
            bars(lower, [(beside(at), each) for at, each in series.savings(variant)], line)


def bars(axes: Axes, found: Sequence[tuple[float, Interval]], look: dict[str, Any]) -> None:
    """Draw estimates with their intervals."""
    below = [each.estimate - each.low for _, each in found]
    above = [each.high - each.estimate for _, each in found]
    middles = [each.estimate for _, each in found]
    axes.errorbar([at for at, _ in found], middles, yerr=[below, above], zorder=3, **look)


def scaling_text(shown: Sequence[Results]) -> str:
    """Say how launches, and what is saved, change with size and bandwidth."""
    told = []
    for series in (along_size(shown), along_bandwidth(shown)):
        if series is None:
            continue
        launches = [
            f"{variant} "
            + ", ".join(f"{middle(group).estimate:.1f} s at {at:.0f}" for at, group in series.launches(variant))
            for variant in series.variants
        ]
        saved = [
            f"{variant} saves "
            + ", ".join(
                f"{each.estimate:.1f} s ({each.low:.1f} to {each.high:.1f}) at {at:.0f}" for at, each in savings
            )
            for variant in series.variants
            if variant != series.base and (savings := series.savings(variant))
        ]
        told.append(f"By {series.axis} ({series.unit}), {series.stays}: {'; '.join([*launches, *saved])}.")
    return " ".join(told) if told else f"{NOTHING}."
