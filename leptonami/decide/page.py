"""A document as one HTML page, by the same template as the notebooks: Markdown, tables and figures in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leptonami import markup
from leptonami.page import OUR_ANCHORS, Cell, Fact, Output, Page, lay_out
from leptonami.tables import Table
from leptonami.target import Provenance

__all__ = ["Picture", "document"]


@dataclass(frozen=True)
class Picture:
    """A figure: a PNG in base64, its description, its caption, and the size that it is shown with."""

    png: str
    alt: str
    caption: str
    width: int
    height: int
    provenance: Provenance | None = None


def document(
    title: str,
    blocks: Sequence[str | Table | Picture],
    *,
    source: str,
    provenance: Provenance | None,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """Give a page that is no notebook.

    Parameters
    ----------
    title
        The one `h1`.
    blocks
        What is on the page, in order: Markdown (its headings from `##` on make the contents), tables, figures.
    source
        What it was made from, for the last line.
    provenance
        The weakest of anything on it.
    facts
        Names and values of the title block; those without a value are left out.
    """
    headings = markup.Headings(title=title, taken=set(OUR_ANCHORS))
    page = Page(title, source, provenance=provenance)
    page.facts = [Fact(name, value) for name, value in facts if value]
    page.cells = [cell(block, number, headings) for number, block in enumerate(blocks, 1)]
    page.contents = [entry for entry in headings.entries if entry[2] <= 3]
    return lay_out(page)


def cell(block: str | Table | Picture, number: int, headings: markup.Headings) -> Cell:
    """Make one piece of a document ready to be laid out."""
    if isinstance(block, str):
        return Cell("markdown", html=markup.fragment(markup.markdown(block), headings=headings).html)
    if isinstance(block, Picture):
        shown = Output(
            "figure",
            address=f"data:image/png;base64,{block.png}",
            alt=block.alt,
            caption=block.caption,
            width=block.width,
            height=block.height,
            provenance=block.provenance,
        )
    else:
        shown = Output("html", html=markup.fragment(block.html).html, provenance=block.provenance)
    return Cell("code", anchor=headings.anchor(f"lp-block-{number}"), outputs=(shown,))
