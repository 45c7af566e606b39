"""The figure of scores: sides by place and not by colour alone, a number on every bar, no wider than a page."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from leptonami import figures
from leptonami.decide.draw import Column, scores_figure

PAGE = 832  # CSS pixels: the widest column of text (52rem)


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    with mpl.rc_context():
        mpl.use("Agg")
        figures.style()
        yield
    plt.close("all")


def column(title: str, *scores: float | None, chosen: bool = False) -> Column:
    labels = tuple("–" if score is None else f"{score:+.2f}" for score in scores)
    return Column(title, "chosen" if chosen else "not chosen", scores, labels, chosen)


def test_for_is_on_the_right_of_the_zero_and_against_on_the_left() -> None:
    fig = scores_figure(["a", "b", "Total"], [column("one", 0.5, -1.0, None), column("two", 0.0, 1.0, -0.25)])
    spans = sorted((round(bar.get_x(), 2), round(bar.get_width(), 2)) for bar in fig.axes[0].patches)
    # Nothing is drawn for 0 and for "nothing counts"; a score of 1 stays within its column.
    assert spans == [(0.0, -0.36), (0.0, 0.18), (1.0, -0.09), (1.0, 0.36)]
    assert [text.get_text() for text in fig.axes[0].texts] == ["+0.50", "-1.00", "–", "+0.00", "+1.00", "-0.25"]


def test_what_is_chosen_and_what_fails_stand_out() -> None:
    failing = Column("two", "excluded", (-0.5, -0.5), ("−0.50 fails", "−0.50"))
    fig = scores_figure(["a", "Total"], [column("one", 1.0, 1.0, chosen=True), failing])
    names = [(label.get_text(), label.get_fontweight()) for label in fig.axes[0].get_xticklabels()]
    assert names == [("one\n(chosen)", "bold"), ("two\n(excluded)", "normal")]
    assert [text.get_fontweight() for text in fig.axes[0].texts] == ["normal", "bold", "bold", "bold"]


def test_six_options_fit_the_page_and_no_name_is_mathematics() -> None:
    columns = [column(f"An $option_{number}$ with a {'very ' * 6}long name", *[0.5] * 10) for number in range(6)]
    fig = scores_figure([f"A criterion ${number}^2$" for number in range(9)] + ["Total"], columns)
    _, width, height = figures.png(fig)
    assert width <= PAGE
    assert height <= PAGE


def test_no_options_are_a_figure_too() -> None:
    assert figures.png(scores_figure(["Total"], []))[1] > 0
