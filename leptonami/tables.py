"""Tables for notebooks and pages: values in, a caption, a header, no truncation, no markup that comes from the data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonami.target import Provenance

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "facts"]


@dataclass(frozen=True)
class Table:
    """A table that JupyterLab, nbconvert and `print` all show well.

    Attributes
    ----------
    columns
        The names of the columns.
    rows
        The cells, as text.
    caption
        What the table shows.
    provenance
        Of its numbers. None for what is neither measured nor simulated: an input, an estimate.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    provenance: Provenance | None = None

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        caption: str,
        provenance: Provenance | None = None,
    ) -> Table:
        """Make a table of values."""
        cells = tuple(tuple("" if cell is None else str(cell) for cell in row) for row in rows)
        return cls(tuple(columns), cells, caption, provenance)

    @property
    def frame(self) -> pd.DataFrame:
        """The same as a DataFrame, to work with."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(self.columns))

    @property
    def html(self) -> str:
        """The same as HTML; every cell is text."""
        head = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in self.rows
        )
        return (
            f"<table>\n<caption>{html.escape(self.caption)}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
        )

    def __repr__(self) -> str:
        """Give the table as aligned text."""
        widths = [
            max((len(row[index]) for row in (self.columns, *self.rows)), default=0)
            for index in range(len(self.columns))
        ]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, *self.rows)
        ]
        return "\n".join([self.caption, "", *lines])

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        about = {"role": "table", "provenance": self.provenance}
        return {"text/html": self.html, "text/plain": repr(self)}, {"leptonami": about}


def facts(
    pairs: Iterable[tuple[str, object]],
    *,
    caption: str,
    columns: tuple[str, str] = ("what", "value"),
    provenance: Provenance | None = None,
) -> Table:
    """Make a table of names and values."""
    return Table.of(columns, pairs, caption=caption, provenance=provenance)
