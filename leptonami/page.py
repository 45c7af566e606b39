"""The one template of every page: notebooks, decision records, the index of a run.

A page is one file without a script that loads nothing; a content security policy in it forbids both, should anything
ever slip through. Whatever is not `Markup` comes out as text, and `Markup` comes from `leptonami.markup` alone, which
makes untrusted text and HTML safe. Another kind of page is a `Page` with its blocks, given to `write`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from leptonami import markup
from leptonami.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment

    from leptonami.target import Provenance

__all__ = [
    "OUR_ANCHORS",
    "Cell",
    "Fact",
    "Failure",
    "Output",
    "Page",
    "environment",
    "lay_out",
    "put",
    "styles",
    "version",
    "write",
]

TEMPLATES = Path(__file__).parent / "templates" / "leptonami"
# The template's own anchors, which no heading may take.
OUR_ANCHORS = {"lp-content"}


def version() -> str:
    """Give the version of leptonami, for the last line of a page."""
    from importlib.metadata import version as of

    return of("leptonami")


@cache
def styles() -> tuple[Markup, str]:
    """Give the style sheet and the content security policy that allows it, by its digest, and nothing else."""
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return Markup(css), policy  # noqa: S704 - our own file


@dataclass(frozen=True)
class Fact:
    """A line of the title block."""

    name: str
    value: str


@dataclass(frozen=True)
class Failure:
    """What is told at the top of a notebook that did not complete."""

    title: str
    message: str
    hint: str | None
    anchor: str | None


@dataclass(frozen=True)
class Output:
    """An output, ready to be laid out; `kind` says which of the rest there is."""

    kind: str
    html: Markup = Markup("")  # noqa: RUF009 - immutable, as text is
    text: str = ""
    name: str = ""
    folded: str = ""
    address: str = ""
    alt: str = ""
    caption: str = ""
    width: int | None = None
    height: int | None = None
    provenance: str | None = None


@dataclass(frozen=True)
class Cell:
    """A cell, ready to be laid out."""

    kind: str
    html: Markup = Markup("")  # noqa: RUF009 - immutable, as text is
    number: int = 0
    anchor: str = ""
    source: Markup = Markup("")  # noqa: RUF009 - immutable, as text is
    note: str = ""
    failed: bool = False
    outputs: tuple[Output, ...] = ()


@dataclass
class Page:
    """Everything that the template lays out."""

    title: str
    source: str
    version: str = field(default_factory=version)
    provenance: Provenance | None = None
    css: Markup = field(default_factory=lambda: styles()[0])
    policy: str = field(default_factory=lambda: styles()[1])
    facts: list[Fact] = field(default_factory=list)
    parameters: list[tuple[str, str]] = field(default_factory=list)
    contents: list[tuple[str, str, int]] = field(default_factory=list)
    failure: Failure | None = None
    cells: list[Cell] = field(default_factory=list)


@cache
def environment() -> Environment:
    """Give jinja with our templates, and with its escaping on."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)


def lay_out(page: Page) -> str:
    """Give a page's HTML."""
    body = environment().get_template("index.html.j2").render(page=page)
    # Control characters are no HTML at all, and the invisible ones that turn text around can make it lie.
    return markup.CONTROL.sub("\N{REPLACEMENT CHARACTER}", body.strip()) + "\n"


def write(page: Page, path: Path) -> Path:
    """Write a page.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    return put(lay_out(page), path)


def put(body: str, path: Path) -> Path:
    """Write a file in one piece.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    from leptonami.runs import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, body)
    except OSError as error:
        raise InputError(f"the page cannot be written: {error.strerror or error}", resource=str(path)) from error
    return path
