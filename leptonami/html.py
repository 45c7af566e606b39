"""An executed notebook as one HTML file that can be passed on, printed and read by everybody.

What outputs show is untrusted (`leptonami.markup`). The page is laid out by the one template that we have for pages
(`leptonami.page`), not by nbconvert: its templates are 300 KB of styles, load scripts from elsewhere and drop figures'
descriptions. Of nbconvert only the Markdown is left, so that text means here what it means in Jupyter.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from leptonami import markup
from leptonami.errors import InputError
from leptonami.imports import prepare_nbformat
from leptonami.notebook import heading_of, is_code, number_of, provenance_of
from leptonami.page import OUR_ANCHORS, Cell, Fact, Failure, Output, Page, environment, styles, write

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Cell", "Fact", "Failure", "Output", "Page", "environment", "render", "styles", "when", "write"]

# A longer stream is folded away: it is there for whoever needs it and in nobody's way.
LONG_STREAM = 40


def render(notebook_path: Path | str, html_path: Path | str, *, strict: bool = True) -> Path:
    """Write a notebook as one self-contained HTML file.

    Parameters
    ----------
    notebook_path, html_path
        The notebook (executed, or with its outputs kept), and where the page goes.
    strict
        Whether a figure without a description, or an image that cannot be embedded, is an error. Without it the page
        says so in the figure's place: for a notebook that failed, a page is better than none.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the file is no notebook; and, if `strict`, for a figure without a description, naming the cell.
    """
    notebook_path, html_path = Path(notebook_path), Path(html_path)
    notebook = read(notebook_path)
    page = Builder(notebook, notebook_path, strict=strict).page()
    return write(page, html_path)


def read(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises
    ------
    InputError
        If it is none.
    """
    from leptonami.parameters import read_cells

    prepare_nbformat()
    import nbformat

    read_cells(path)  # for its errors: they say what is wrong in words
    try:
        notebook: NotebookNode = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__]
        raise InputError(f"this is no valid notebook: {reason[0][:200]}", resource=str(path)) from error
    return notebook


class Builder:
    """Turns a notebook into a page, cell by cell."""

    def __init__(self, notebook: NotebookNode, path: Path, *, strict: bool) -> None:
        self.notebook = notebook
        self.path = path
        self.strict = strict
        self.provenance = provenance_of(notebook)
        self.headings = markup.Headings(taken=set(OUR_ANCHORS))

    def page(self) -> Page:
        """Build everything."""
        about = self.notebook.metadata.get("leptonami") or {}
        page = Page(
            title="",
            source=str((about.get("source") or {}).get("name") or self.path.name),
            provenance=self.provenance,
        )
        page.cells = list(self.cells())
        page.title = self.headings.title or self.path.stem
        page.contents = [entry for entry in self.headings.entries if entry[2] <= 3]
        page.facts = facts(about, self.notebook)
        given = (self.notebook.metadata.get("papermill") or {}).get("parameters") or {}
        page.parameters = [(str(name), json.dumps(value, ensure_ascii=False)) for name, value in given.items()]
        page.failure = failure(about, page.cells)
        return page

    def cells(self) -> Iterator[Cell]:
        """Build the cells that show something."""
        for index, cell in enumerate(self.notebook.cells):
            tags = cell.metadata.get("tags") or []
            if "remove-cell" in tags:
                continue
            if cell.cell_type == "markdown":
                html = self.markdown(index, cell)
                if html.strip():
                    yield Cell("markdown", html=html)
            elif cell.cell_type == "code" and (is_code(cell) or cell.outputs):
                yield self.code(index, cell, tags)

    def where(self, index: int) -> str:
        """Name a cell for a message."""
        cell = self.notebook.cells[index]
        heading = heading_of(self.notebook, index)
        under = f" ({heading})" if heading else ""
        if cell.cell_type == "code":
            return f"{self.path.name}, cell {number_of(self.notebook, index)}{under}"
        return f"{self.path.name}, text cell {index + 1} of {len(self.notebook.cells)}{under}"

    def complain(self, index: int, message: str, hint: str) -> None:
        """Refuse the page, unless half a page is wanted.

        Raises
        ------
        InputError
            If strict.
        """
        if self.strict:
            raise InputError(message, resource=self.where(index), hint=hint)

    def markdown(self, index: int, cell: Any) -> Markup:
        """Build a text cell."""
        try:
            html = markup.markdown(cell.source, attachments=cell.get("attachments"))
        except ValueError as error:
            self.complain(index, f"an image is missing: {error}", "attach it again, or take it out")
            html = str(escape(cell.source))
        piece = markup.fragment(
            html,
            headings=self.headings,
            image=lambda address: markup.local_image(self.path.parent, address),
        )
        if piece.without_image:
            self.complain(
                index,
                f"an image cannot be embedded: {piece.without_image[0][:120]}",
                "put a PNG, JPEG, GIF or WebP file beside the notebook and name it by its relative path",
            )
        if piece.without_alt:
            self.complain(index, "an image has no description", "write it as ![what it shows](file.png)")
        return piece.html

    def code(self, index: int, cell: Any, tags: Sequence[str]) -> Cell:
        """Build a code cell with its outputs."""
        number = number_of(self.notebook, index)
        note = next((text for tag, text in NOTES.items() if tag in tags), "")
        hidden = "remove-input" in tags or not is_code(cell)
        outputs = [] if "remove-output" in tags else list(self.outputs(index, merged(cell.outputs)))
        said = cell.metadata.get("papermill") or {}
        return Cell(
            "code",
            number=number,
            anchor=self.headings.anchor(f"lp-cell-{number}"),
            source=Markup("") if hidden else markup.code(cell.source),
            note=note,
            failed=said.get("status") == "failed",
            outputs=tuple(outputs),
        )

    def outputs(self, index: int, outputs: Sequence[Any]) -> Iterator[Output]:
        """Build a cell's outputs."""
        for output in outputs:
            if output.output_type == "stream":
                yield stream(output)
            elif output.output_type == "error":
                trace = "\n".join(output.get("traceback") or [])
                html = markup.terminal(trace) if trace else Markup("")
                yield Output("error", name=str(output.ename), text=str(output.evalue), html=html)
            else:
                shown = self.data(index, output)
                if shown is not None:
                    yield shown

    def data(self, index: int, output: Any) -> Output | None:
        """Build an output that has one or several representations: the first that a page can show."""
        about = (output.metadata or {}).get("leptonami") or {}
        if about.get("role") in ("caption", "declaration"):
            return None  # a figure's caption, and what the title block says: both are on the page already
        data = {kind: text_of(value) for kind, value in output.data.items()}
        for kind in ("text/html", "text/markdown"):
            if kind in data:
                return self.rich(index, kind, data[kind], about)
        for kind in IMAGES:
            if kind in data:
                return self.figure(index, kind, data[kind], output.metadata or {}, about)
        for kind in ("text/latex", "text/plain", "application/json"):
            if kind in data:
                text = markup.terminal(data[kind])
                return Output("stream", name="result", html=text) if text.strip() else None
        return Output("note", text=f"An output of the type {', '.join(sorted(data)) or 'nothing'} is not shown here.")

    def rich(self, index: int, kind: str, text: str, about: Mapping[str, Any]) -> Output | None:
        """Build an output that is HTML or Markdown."""
        piece = markup.fragment(markup.markdown(text) if kind == "text/markdown" else text)
        if piece.without_alt:
            self.complain(index, "an image in an output has no description", "give the <img> an alt, or show a figure")
        if not piece.html.strip():
            return None
        return Output("html", html=piece.html, provenance=self.stated(about) if piece.tables else None)

    def figure(
        self, index: int, kind: str, content: str, metadata: Mapping[str, Any], about: Mapping[str, Any]
    ) -> Output:
        """Build a figure, which needs a description."""
        own = metadata.get(kind) or {}
        alt = " ".join(str(own.get("alt") or "").split())
        if not alt:
            self.complain(
                index,
                "a figure has no description (alternative text)",
                'show it with leptonami.figures.show(fig, alt="what it shows")',
            )
        encoded = (
            base64.b64encode(content.encode()).decode("ascii") if kind == "image/svg+xml" else "".join(content.split())
        )
        return Output(
            "figure",
            address=f"data:{kind};base64,{encoded}",
            alt=alt or "no description",
            caption=str(about.get("caption") or "") if alt else "This figure has no description.",
            width=number(own.get("width")),
            height=number(own.get("height")),
            provenance=self.stated(about),
        )

    def stated(self, about: Mapping[str, Any]) -> str | None:
        """Give an output's own provenance, or the notebook's. An output that says None is an input, or an estimate."""
        own = about.get("provenance", self.provenance)
        return str(own) if own in ("measured", "recorded", "simulated") else None


IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")
NOTES = {"injected-parameters": "the parameters of this run", "parameters": "parameters and their defaults"}


def text_of(value: Any) -> str:
    """Give a representation as text: nbformat allows lists of lines, and JSON for JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def number(value: object) -> int | None:
    """Give a size in pixels, where it is one."""
    return round(value) if isinstance(value, int | float) and 0 < value < 10_000 else None


def merged(outputs: Sequence[Any]) -> list[Any]:
    """Join streams that were cut into pieces on their way."""
    result: list[Any] = []
    for output in outputs:
        last = result[-1] if result else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            result[-1] = type(last)({**last, "text": text_of(last.text) + text_of(output.text)})
        else:
            result.append(output)
    return result


def stream(output: Any) -> Output:
    """Build what was printed; folded away if it is long."""
    html = markup.terminal(text_of(output.text).rstrip("\n"))
    lines = html.count("\n") + 1
    name = "stderr" if output.name == "stderr" else "stdout"
    what = "Messages" if name == "stderr" else "Output"
    return Output("stream", name=name, html=html, folded=f"{what}: {lines} lines" if lines > LONG_STREAM else "")


def facts(about: Mapping[str, Any], notebook: NotebookNode) -> list[Fact]:
    """Gather the title block: what was run, when, how it ended, with which versions."""
    outcome = about.get("outcome") or {}
    source = about.get("source") or {}
    run = about.get("run") or declared_run(notebook)
    rows = [
        ("Run", run),
        ("Ended", outcome.get("status")),
        ("Started", when(about.get("started"))),
        ("Took", took(outcome.get("seconds"))),
        ("Notebook", source.get("name")),
        ("SHA-256", str(source.get("sha256") or "")[:12]),
        ("Versions", ", ".join(f"{name} {number}" for name, number in (about.get("versions") or {}).items())),
    ]
    return [Fact(name, str(value)) for name, value in rows if value]


def declared_run(notebook: NotebookNode) -> str | None:
    """Find the run id that the notebook itself declared."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            run = ((output.get("metadata") or {}).get("leptonami") or {}).get("run")
            if run:
                return str(run)
    return None


def when(moment: object) -> str | None:
    """Write a time for readers."""
    from datetime import UTC, datetime

    try:
        return f"{datetime.fromisoformat(str(moment)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return None


def took(seconds: object) -> str | None:
    """Write a duration for readers."""
    if not isinstance(seconds, int | float):
        return None
    minutes, rest = divmod(float(seconds), 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def failure(about: Mapping[str, Any], cells: Sequence[Cell]) -> Failure | None:
    """Say at the top that the notebook did not complete, and where."""
    outcome = about.get("outcome") or {}
    error = outcome.get("error")
    if not error:
        return None
    where = f" in cell {outcome['cell']}" if outcome.get("cell") else ""
    anchor = next((cell.anchor for cell in cells if cell.kind == "code" and cell.number == outcome.get("cell")), None)
    place = f"{error['resource']}: " if error.get("resource") else ""
    return Failure(
        title=f"This notebook did not complete: {outcome.get('status')}{where}",
        message=f"{place}{error.get('message')}",
        hint=error.get("hint"),
        anchor=anchor,
    )
