"""What the figures have in common: looks that can be told apart without colour, and names that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INK", "PALE", "Look", "bar", "common_suffix", "empty_figure", "shorten", "things"]

INK, PALE = "#14225c", "#5b6478"


@dataclass(frozen=True, slots=True)
class Look:
    """How something looks: its fill, its hatch and the hatch's colour, and the colour of words on it."""

    fill: str
    hatch: str = ""
    line: str = "white"
    ink: str = "black"


def bar(axes: Axes, at: float, span: tuple[float, float], look: Look, *, height: float = 0.74) -> None:
    """Draw a bar from a begin over a width, with its hatch in a colour of its own and a white edge."""
    begin, width = span
    axes.barh(
        at,
        width,
        left=begin,
        height=height,
        color=look.fill,
        hatch=look.hatch or None,
        edgecolor=look.line,
        linewidth=0,
        zorder=2,
    )
    axes.barh(at, width, left=begin, height=height, color="none", edgecolor="white", linewidth=0.8, zorder=3)


def empty_figure(words: str) -> Figure:
    """Draw that there is nothing to draw."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 1.0))
    axes.text(0.5, 0.5, words, ha="center", va="center", color=PALE)
    axes.set_axis_off()
    return figure


def common_suffix(names: Sequence[str]) -> str:
    """Give the domain that all names end with, from its dot on; "" if there is none, or only one name."""
    if len(names) < 2 or any("." not in each for each in names):
        return ""
    domains = {each[each.index(".") :] for each in names}
    return domains.pop() if len(domains) == 1 else ""


def shorten(text: str, limit: int) -> str:
    """Cut a name in its middle: its end tells nodes apart.

    >>> shorten("gpu-workers-abcdefgh", 11)
    'gpu-w…defgh'
    """
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[-half:]}"


def things(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
