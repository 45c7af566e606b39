"""Untrusted text and HTML in, safe and readable markup out.

A pod's name, a log line, the output of a script: whatever a notebook shows may hold markup that somebody else wrote.
HTML goes through nh3 (Rust's ammonia, on a browser-grade parser) with a short list of what may stay; text is escaped.
What is done to the structure afterwards (tables that scroll, headings that nest, scopes) only adds attributes of ours.

nh3 and not bleach, which nbconvert would use: bleach ended in June 2026 (its README; nbconvert issue 2289).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from leptonami.imports import prepare_nbformat

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ["Fragment", "Headings", "code", "fragment", "local_image", "markdown", "terminal"]

# fmt: off
TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "dd", "del", "details", "div", "dl", "dt", "em",
    "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol",
    "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "u", "ul", "var",
}
# fmt: on
# The text of these is no text to a reader, so it goes with its element.
DROPPED_WITH_CONTENT = {"script", "style", "title", "template", "iframe", "object", "noscript", "textarea", "select"}
ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href"},
    "abbr": {"title"},
    "img": {"src", "alt", "width", "height"},
    "ol": {"start", "class"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "div": {"class"},
    "span": {"class"},
}
# Our own list of build stages, the highlighter's box, and its token classes (k, s2, nf ...).
CLASSES = re.compile(r"leptonami-[a-z]+|highlight|[a-z]{1,2}[a-z0-9]?")
DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
LINK = re.compile(r"https?://\S+|mailto:\S+|#\S+", re.IGNORECASE)
NUMBER = re.compile(r"[-+−]?\d[\d,\u202f_]*(?:\.\d+)?(?:e[-+]?\d+)?\s?(?:%|[a-zA-Zµ/]{1,5})?|nan|NaN|[-–—]?")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
MAX_IMAGE = 5 * 1024 * 1024
MAX_DEPTH = 100
MAX_SPAN = 1000  # as browsers have it
MAX_COLUMNS = 5000
# On paper a table with more columns than this is told row by row: on A4 its columns would be 2 cm wide, or cut off.
WIDE = 8
LONG_WORD = 20


@dataclass
class Headings:
    """The headings of a page: the first `h1` is its title, the others nest without gaps and each has an anchor."""

    title: str | None = None
    entries: list[tuple[str, str, int]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    level: int = 1

    def place(self, tag: Tag) -> bool:
        """Take a heading in; False if it was the title, which stands elsewhere on the page."""
        text = " ".join(tag.get_text().split())
        wanted = int(tag.name[1])
        if wanted == 1 and self.title is None:
            self.title = text
            return False
        # One h1 a page, and no level left out on the way down: that is what a screen reader's outline is made of.
        self.level = min(max(wanted, 2), self.level + 1)
        tag.name = f"h{self.level}"
        tag.attrs = {"id": self.anchor(text)}
        self.entries.append((str(tag["id"]), text, self.level))
        return True

    def anchor(self, text: str) -> str:
        """Make an anchor as Jupyter does (spaces become hyphens), so that its links work here too; each only once."""
        base = re.sub(r"\s+", "-", text.strip()) or "section"
        anchor, number = base, 1
        while anchor in self.taken:
            number += 1
            anchor = f"{base}-{number}"
        self.taken.add(anchor)
        return anchor


@dataclass(frozen=True)
class Fragment:
    """A piece of HTML that is safe to put on the page.

    Attributes
    ----------
    html
        The markup.
    tables
        How many tables are in it.
    without_alt, without_image
        How many images had no description; what the images that cannot be embedded were called.
    """

    html: Markup
    tables: int = 0
    without_alt: int = 0
    without_image: tuple[str, ...] = ()


def fragment(
    html: str, *, headings: Headings | None = None, image: Callable[[str], str | None] = lambda _: None
) -> Fragment:
    """Make untrusted HTML safe.

    Parameters
    ----------
    html
        The HTML.
    headings
        Where its headings belong; without it they become bold paragraphs, so that an output cannot write itself into
        the page's outline.
    image
        Turns the address of an image into one that is embedded (`data:`), or gives None.
    """
    import nh3
    from bs4 import BeautifulSoup

    def allow(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) == ("img", "src"):
            return value if DATA_IMAGE.fullmatch(value) else image(value)
        if (tag, attribute) == ("a", "href"):
            return value if LINK.fullmatch(value) else None
        if attribute == "class":
            return " ".join(name for name in value.split() if CLASSES.fullmatch(name)) or None
        if attribute in ("colspan", "rowspan", "width", "height", "start"):
            return value if value.isascii() and value.isdigit() and len(value) <= 5 else None
        return value

    if too_deep(html):
        return Fragment(Markup("<pre>{}</pre>").format(html))
    clean = nh3.clean(
        html,
        tags=TAGS,
        clean_content_tags=DROPPED_WITH_CONTENT,
        attributes=ATTRIBUTES,
        attribute_filter=allow,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer",
    )
    soup = BeautifulSoup(clean, "html.parser")
    place_headings(soup, headings)
    without_alt, without_image = settle_images(soup)
    settle_links(soup)
    tables = settle_tables(soup)
    return Fragment(Markup(str(soup)), tables, without_alt, without_image)  # noqa: S704 - nh3 has just made it safe


def too_deep(html: str) -> bool:
    """Tell whether elements are nested so deeply that it can only be an attack on whatever parses it recursively."""
    depth = deepest = 0
    for match in re.finditer(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)", html):
        if match[2].lower() not in ("br", "hr", "img", "p", "li", "td", "th", "tr", "dd", "dt"):
            depth += -1 if match[1] else 1
            deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def place_headings(soup: BeautifulSoup, headings: Headings | None) -> None:
    """Put the headings into the page's outline, or take them out of it."""
    for tag in soup.find_all(HEADINGS):
        if headings is None or tag.find_parent("table") or not tag.get_text(strip=True):
            tag.name = "p"
            tag.attrs = {"class": "heading"}
        elif not headings.place(tag):
            tag.decompose()


def settle_images(soup: BeautifulSoup) -> tuple[int, tuple[str, ...]]:
    """Replace images without content by their description; count those without one, and name those without content."""
    without_alt, without_image = 0, []
    for tag in soup.find_all("img"):
        description = " ".join(str(tag.get("alt") or "").split())
        if not tag.get("src"):
            tag.replace_with(f"[{description or 'image'}]")
            without_image.append(description or "an image without a description")
        elif not description:
            tag["alt"] = "no description"
            without_alt += 1
    return without_alt, tuple(without_image)


def settle_links(soup: BeautifulSoup) -> None:
    """Mark the links that show their address, which a print then does not repeat."""
    for link in soup.find_all("a", href=True):
        if link.get_text(strip=True) == link["href"]:
            link["class"] = "bare"


def settle_tables(soup: BeautifulSoup) -> int:
    """Give tables scopes and a box of their own to scroll in; give the number of them."""
    tables = [table for table in soup.find_all("table") if table.find_parent("table") is None]
    for table in tables:
        name_rows(table)
        for cell in table.find_all(["th", "td"]):
            text = cell.get_text(strip=True)
            across = cell.find_parent("thead") is not None
            if shape := [each for each in shape_of(text) if each == "long" or not across]:
                cell["class"] = " ".join(shape)
            if cell.name == "th" and not text:
                cell.name = "td"  # pandas leaves the corner empty; a header that says nothing is no header
            elif cell.name == "th":
                span = str(cell.get("colspan" if across else "rowspan") or "1")
                cell["scope"] = ("col" if across else "row") + ("group" if span != "1" else "")
        wide = settle_columns(table)
        box = soup.new_tag("div", attrs={"class": "scroll wide" if wide else "scroll", "tabindex": "0"})
        box["role"] = "group"
        caption = table.find("caption")
        said = " ".join(caption.get_text().split()) if caption else ""
        box["aria-label"] = f"Table: {said}" if said else "Table"
        if caption is not None:
            stay = soup.new_tag("span", attrs={"class": "stay"})  # in sight, however far the table is scrolled
            for part in list(caption.contents):
                stay.append(part.extract())
            caption.append(stay)
        table.wrap(box)
    return len(tables)


def name_rows(table: Tag) -> None:
    """Make headers of a first column that names the rows: its cells are all there, all different and no numbers."""
    body = table.find("tbody")
    if body is None or table.find("thead") is None or body.find("th") or body.find("table"):
        return
    first = [row.find("td") for row in body.find_all("tr")]
    texts = [cell.get_text(strip=True) if cell else "" for cell in first]
    spans = any(cell.get("rowspan") or cell.get("colspan") for cell in body.find_all("td"))
    if spans or not all(texts) or len(set(texts)) < len(texts) or all(NUMBER.fullmatch(text) for text in texts):
        return
    for cell in first:
        if cell is not None:
            cell.name = "th"


def shape_of(text: str) -> list[str]:
    """Tell what a table's cell holds, so that ids stay in one piece and sentences do not become columns of words.

    A cell is `long` if a word of it is: on paper such a word may be broken anywhere, and no other.
    """
    words = text.split()
    long = ["long"] if any(len(word) > LONG_WORD for word in words) else []
    if len(words) == 1 and len(text) <= 40:
        return ["word", *long]
    return ["sentence", *long] if len(text) > 16 else long


def settle_columns(table: Tag) -> bool:
    """See to the columns; tell whether there are too many for a sheet of paper.

    Those that hold nothing but numbers are aligned, headers included (a version among words is no number). In a wide
    table each cell learns the name of its column, for the print.
    """
    columns: dict[int, list[Tag]] = {}
    headers: dict[int, list[Tag]] = {}
    for column, cell in grid(table):
        (headers if cell.find_parent("thead") else columns).setdefault(column, []).append(cell)
    for column, cells in columns.items():
        texts = [cell.get_text(strip=True) for cell in cells]
        if all(NUMBER.fullmatch(text) for text in texts) and any(re.search(r"\d", text) for text in texts):
            for cell in [*cells, *headers.get(column, [])]:
                if cell.name == "td" or cell.get("scope") == "col":
                    cell["class"] = "number"
    wide = max([*columns, *headers], default=0) >= WIDE
    if wide:
        for column, cells in columns.items():
            name = " ".join(part for each in headers.get(column, []) if (part := each.get_text(strip=True)))
            for cell in cells if name else []:
                cell["data-column"] = name
    return wide


def grid(table: Tag) -> Iterator[tuple[int, Tag]]:
    """Give each cell of one column with the number of that column, joined cells above it counted."""
    below: dict[int, int] = {}  # column -> how many further rows a cell from above reaches into
    for row in table.find_all("tr"):
        column = 0
        reaching, below = below, {each: rows - 1 for each, rows in below.items() if rows > 1}
        for cell in row.find_all(["th", "td"], recursive=False):
            while column in reaching:
                column += 1
            if column > MAX_COLUMNS:
                return  # no table that anybody reads
            across, down = (min(int(str(cell.get(name) or 1)), MAX_SPAN) or 1 for name in ("colspan", "rowspan"))
            if across == 1:
                yield column, cell
            if down > 1:
                below |= dict.fromkeys(range(column, column + across), down - 1)
            column += across


def markdown(source: str, *, attachments: dict[str, dict[str, str]] | None = None) -> str:
    """Turn Markdown into HTML as Jupyter does. It is *not* safe yet: give it to `fragment`.

    Raises
    ------
    ValueError
        If it names an attachment that is not there.
    """
    prepare_nbformat()
    from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True, attachments=attachments or {})
    try:
        return str(MarkdownWithMath(renderer=renderer).render(source))
    except InvalidNotebook as error:
        raise ValueError(str(error)) from error


def local_image(folder: Path, address: str) -> str | None:
    """Embed an image file that stands beside a notebook; None for anything else, wherever it is."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    try:
        path = (folder / unquote(parts.path)).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > MAX_IMAGE:
            return None
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    kind = next((name for signature, name in SIGNATURES.items() if content.startswith(signature)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else None


# What a terminal would do and a page cannot: everything but colours (cursor movements, titles, hyperlinks).
ESCAPE = re.compile(
    r"\x1b\[([0-9;:]*)m|\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*\x1b\\|.)?", re.DOTALL
)
# No HTML at all (control characters, non-characters), or invisible: what turns text around, stands for nothing, or
# hides words in other words. The joiners of scripts and emoji (U+200C, U+200D) stay.
CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff"
    r"\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)


def terminal(text: str) -> Markup:
    """Show what was written to a terminal: its colours kept, overwritten lines gone, nothing else obeyed."""
    pieces: list[Markup] = []
    colour, bold = 0, False
    position = 0
    text = overwritten(text)
    for match in ESCAPE.finditer(text):
        pieces.append(coloured(text[position : match.start()], colour, bold=bold))
        position = match.end()
        if match[1] is not None:
            colour, bold = selected(match[1], colour, bold=bold)
    pieces.append(coloured(text[position:], colour, bold=bold))
    return Markup("").join(pieces)


def overwritten(text: str) -> str:
    """Leave of each line what stands on the screen in the end: progress bars go back to its start again and again."""
    text = text.replace("\r\n", "\n")
    if "\r" not in text and "\b" not in text:
        return text
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return re.sub(r"[^\n\x08]?\x08", "", "\n".join(lines))


def selected(codes: str, colour: int, *, bold: bool) -> tuple[int, bool]:
    """Read the numbers of a colour sequence (ECMA-48, SGR): only the eight colours and bold are kept."""
    numbers = [int(code) if code.isdigit() else 0 for code in codes.replace(":", ";")[:200].split(";")]
    while numbers:
        number = numbers.pop(0)
        if number in (38, 48):
            del numbers[: 2 if numbers[:1] == [5] else 4]  # a colour out of 256, or of 16 million: too fine for us
        elif number == 0:
            colour, bold = 0, False
        elif number in (1, 22):
            bold = number == 1
        elif 30 <= number <= 37 or 90 <= number <= 97:
            colour = number % 10
        elif number == 39:
            colour = 0
    return colour, bold


def coloured(text: str, colour: int, *, bold: bool) -> Markup:
    """Escape a piece of text and give it its classes. Black and white are the page's own, or they would vanish."""
    safe = escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
    names = ([f"ansi{colour}"] if 1 <= colour <= 6 else []) + (["bold"] if bold else [])
    return Markup('<span class="{}">{}</span>').format(" ".join(names), safe) if names and text else safe


def code(source: str) -> Markup:
    """Highlight a code cell."""
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    cleaned = CONTROL.sub("\N{REPLACEMENT CHARACTER}", source)
    # Pygments escapes what it highlights; a span of the highlighter has a class and nothing else.
    return Markup(highlight(cleaned, get_lexer_by_name("ipython3"), HtmlFormatter(nowrap=True)))  # noqa: S704
