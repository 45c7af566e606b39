"""Figures that everybody can read: one style, a description that says what the figure shows, and a caption.

The colours differ in lightness as well as in hue, so they stay apart for colour-blind readers and in a grey print, and
each line has its own dash and marker besides. Nothing in a figure depends on the clock or on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leptonami.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leptonami.target import Provenance

__all__ = ["COLOURS", "show", "style"]

# From dark to light. Every one has at least 3:1 against white (WCAG 2.2, 1.4.11), and any two are apart under
# protanopia, deuteranopia and tritanopia as well (tests/test_figures.py works both out).
COLOURS = ("#14225c", "#93132c", "#006f69", "#8c66cb", "#df7a10")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
DPI = 100
SCALE = 2  # the file has twice the pixels that it is shown with, for sharp screens and print


def style() -> None:
    """Set matplotlib to the house style, for all figures that follow; call it once, where the imports are."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": DPI,
            "figure.constrained_layout.use": True,
            "savefig.dpi": DPI * SCALE,
            "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES) + cycler(marker=MARKERS),
            "grid.color": "#dddddd",
            "grid.linewidth": 0.8,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "legend.frameon": False,
            "svg.hashsalt": "leptonami",
        }
    )


def show(fig: Figure, *, alt: str, caption: str = "", provenance: Provenance | None = None) -> None:
    """Show a figure in the notebook, with what it says in words, and close it.

    Parameters
    ----------
    fig
        The figure.
    alt
        What it shows, for those who cannot see it: the finding, not the looks ("Nodes from the custom image are ready
        in 74 s, from the stock image in 206 s" and not "a bar chart"). It is in the HTML and is what nbval compares.
    caption
        What stands under it, as plain text: where the data comes from, how many trials.
    provenance
        Of the data; shown with the caption.

    Raises
    ------
    InputError
        If `alt` is empty, or too short to say anything.
    """
    from IPython.display import display

    described = " ".join(alt.split())
    if len(described) < 15 or " " not in described:
        raise InputError(
            f"a figure needs a description that says what it shows, not {alt!r}",
            resource="figures.show(alt=...)",
            hint="a sentence with the finding: what differs, by how much",
        )
    image, width, height = png(fig)
    close(fig)
    about: dict[str, Any] = {"role": "figure", "caption": " ".join(caption.split())}
    if provenance:
        about["provenance"] = provenance
    display(  # type: ignore[no-untyped-call]
        {"image/png": image, "text/plain": f"Figure: {described}"},
        raw=True,
        metadata={"image/png": {"alt": described, "width": width, "height": height}, "leptonami": about},
    )
    if about["caption"]:
        # JupyterLab shows no caption of an image; the HTML has this one from the metadata and leaves the line out.
        display(  # type: ignore[no-untyped-call]
            {"text/plain": about["caption"]}, raw=True, metadata={"leptonami": {"role": "caption"}}
        )


def png(fig: Figure) -> tuple[str, int, int]:
    """Draw a figure: the PNG in base64, and the width and height in CSS pixels that it is to be shown with."""
    import base64
    import io
    import struct

    file = io.BytesIO()
    # Without this the file names the version of matplotlib.
    fig.savefig(file, format="png", dpi=DPI * SCALE, metadata={"Software": None}, facecolor="white")
    content = file.getvalue()
    width, height = struct.unpack(">II", content[16:24])
    return base64.b64encode(content).decode("ascii"), round(width / SCALE), round(height / SCALE)


def close(fig: Figure) -> None:
    """Close a figure, so that the notebook does not show it a second time, without a description."""
    from matplotlib import pyplot

    pyplot.close(fig)
