"""Figures: descriptions are required, colours can be told apart, and the same data gives the same picture."""

from __future__ import annotations

import base64
import itertools
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import sample_notebooks as notebooks
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from test_html import contrast

from leptonami import figures, html
from leptonami.errors import InputError
from leptonami.notebook import execute


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    with mpl.rc_context():
        mpl.use("Agg")
        yield
    plt.close("all")


def draw() -> Figure:
    figures.style()
    fig, axes = plt.subplots()
    for number in range(5):
        axes.plot(range(10), [number * each for each in range(10)], label=f"variant {number}")
    axes.set_xlabel("trial")
    axes.legend()
    return fig


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What was displayed."""
    found: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: found.append((data, options)))
    return found


ALT = "The custom image is ready after 74 s, the stock image after 206 s"


@pytest.mark.parametrize("alt", ["", "   ", "figure", "\n\t", "plot.png", "averylongsingleword"])
def test_a_description_is_needed(alt: str, shown: list[Any]) -> None:
    with pytest.raises(InputError, match="needs a description"):
        figures.show(draw(), alt=alt)
    assert shown == []


def test_a_figure_is_shown_once_and_closed(shown: list[tuple[Any, dict[str, Any]]]) -> None:
    fig = draw()
    figures.show(fig, alt=f"  {ALT}\n", caption="Median of 10.", provenance="measured")
    assert not plt.fignum_exists(fig.number)
    (data, options), (caption, about) = shown
    assert options["raw"] is True
    assert data["text/plain"] == f"Figure: {ALT}"
    own = options["metadata"]["image/png"]
    assert own["alt"] == ALT
    assert options["metadata"]["leptonami"] == {"role": "figure", "caption": "Median of 10.", "provenance": "measured"}
    width, height = struct.unpack(">II", base64.b64decode(data["image/png"])[16:24])
    assert (width, height) == (2 * own["width"], 2 * own["height"])
    assert own["width"] == 720
    assert caption == {"text/plain": "Median of 10."}
    assert about["metadata"]["leptonami"]["role"] == "caption"


def test_without_a_caption_there_is_one_output(shown: list[Any]) -> None:
    figures.show(draw(), alt=ALT)
    assert len(shown) == 1


def test_the_same_data_gives_the_same_bytes(shown: list[tuple[Any, dict[str, Any]]]) -> None:
    for _ in range(2):
        figures.show(draw(), alt=ALT)
    assert shown[0][0]["image/png"] == shown[1][0]["image/png"]
    assert b"Software" not in base64.b64decode(shown[0][0]["image/png"])


def test_the_style_does_not_depend_on_what_was_set_before(shown: list[tuple[Any, dict[str, Any]]]) -> None:
    figures.show(draw(), alt=ALT)
    mpl.rcParams.update({"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"})
    figures.show(draw(), alt=ALT)
    assert shown[0][0]["image/png"] == shown[1][0]["image/png"]


def test_in_a_notebook_and_on_its_page(tmp_path: Path) -> None:
    source = notebooks.write(
        tmp_path / "a.ipynb",
        notebooks.text("# T"),
        "from matplotlib import pyplot as plt\nfrom leptonami import figures\nfigures.style()\n"
        f"fig, axes = plt.subplots()\naxes.plot([1, 2])\nfigures.show(fig, alt={ALT!r}, caption='Ten <launches>')",
    )
    outcome = execute(source, tmp_path / "o.ipynb")
    assert outcome.error is None
    outputs = notebooks.read(outcome.output).cells[1].outputs
    assert len(outputs) == 2  # the inline backend does not show it again
    page = html.render(outcome.output, tmp_path / "o.html").read_text()
    assert page.count("<img ") == 1
    assert f'alt="{ALT}"' in page
    assert page.count("<figcaption>Ten &lt;launches&gt;</figcaption>") == 1


# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1.0, on linear RGB.
VISION = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "grey": ((0.2126, 0.7152, 0.0722),) * 3,
}


def lab(colour: str, vision: str) -> tuple[float, float, float]:
    """Give a colour as somebody sees it, in CIE L*a*b* (D65)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    red, green, blue = (
        min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, linear, strict=True))))
        for row in VISION[vision]
    )
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize(
    ("vision", "apart"), [("usual", 20), ("protanopia", 20), ("deuteranopia", 20), ("tritanopia", 20), ("grey", 8)]
)
def test_colours_can_be_told_apart(vision: str, apart: float) -> None:
    """A difference of 2.3 in L*a*b* is just seen between patches side by side; thin lines need several times that."""
    for first, second in itertools.combinations(figures.COLOURS, 2):
        assert math.dist(lab(first, vision), lab(second, vision)) >= apart, (first, second)


@pytest.mark.parametrize("colour", figures.COLOURS)
def test_colours_stand_out_against_white(colour: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1 for what is needed to understand a graphic."""
    assert contrast(colour, "#ffffff") >= 3


def test_lines_differ_in_more_than_colour() -> None:
    assert len({*figures.DASHES}) == len({*figures.MARKERS}) == len({*figures.COLOURS}) == 5
