"""What evidence says is text, wherever it is shown: it adds no element, no attribute, no script, and nothing is lost.

Every place is filled with a harmless name and with a hostile one. The two pages must be the same but for the text: that
finds what a list of forbidden things would miss.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat.v4 as v4
import pandas as pd
import pytest
import sample_notebooks as notebooks
from bs4 import BeautifulSoup, Tag
from sample_pages import PNG, cell, display, run_index, stream
from test_html import HOSTILE, loads, strictly_parsed

from leptonami import html, markup
from leptonami.decide import madr
from leptonami.decide.page import Picture, document
from leptonami.tables import Table, facts

HARMLESS = "a name of a pod, as it should be"
NAMES = [
    *(text for text in HOSTILE if len(text) < 500),
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "]]></script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "` onload=alert(1) `",
    "javascript:alert(1)",
    "data:text/html;base64,PHNjcmlwdD4=",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "\\x3cscript\\x3e \\u003cscript\\u003e",
    "{{ page.__class__.__mro__ }} {% include 'index.html.j2' %} {# gone #}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "{% raw %}{{ x }}",
    "[x](javascript:alert(1)) ![x](https://example.org/x.png) <https://example.org>",
    "**bold** _slanted_ `code` ~~gone~~ | cell | <b>b</b>\\",
    "# A heading",
    "- [ ] a task",
    "> quoted",
    "1. one",
    "[ref]: https://example.org 'x'",
    "| a | b |\n|---|---|\n| <b>1</b> | 2 |",
    "```\nfence\n```\n<script>alert(1)</script>",
    "---\nstatus: accepted\n---",
    "line\n\n## A heading\n\nline",
    "www.example.org someone@example.org https://example.org",
    "$$\\href{javascript:alert(1)}{x}$$ \\(<script>\\)",
    "\u202etxt.exe \u2066x\u2069 \u200fy \u200bz \ufeff \u2028 \U000e0041",
    "\x1b[31mred\x1b[0m \x1b]8;;javascript:alert(1)\x1b\\x\x1b]8;;\x1b\\ \x1b[2J \x9b31m",
    "\x00\x07\x7f\x85\ufffe",
    "a\rb\tc\x08d\x0ce",
    "\ud7ff\ue000\U0010fffd",
    "-->",
    "<!--",
    "<?php x ?><!DOCTYPE html>",
    "<plaintext>",
]


def lay_out_notebook(folder: Path, text: str) -> Path:
    """Fill every place that a notebook has for evidence."""
    frame = pd.DataFrame(
        {"column": [text, f"2 {text}"], f"of {text}": [text, 2], ("a", text): ["x", text]}, index=[f"i {text}", "j"]
    )
    frame.columns.name = text
    frame.index.name = f"index {text}"
    levels = pd.DataFrame(
        [[1, text]],
        index=pd.MultiIndex.from_tuples([(text, "b")], names=[text, "n"]),
        columns=pd.MultiIndex.from_tuples([("k", text), ("k", "b")], names=["m", text]),
    )
    with pd.option_context("display.max_colwidth", None):
        frames = [frame.to_html(), frame._repr_html_(), levels.to_html()]
    picture = {"alt": f"It shows {text}", "width": 720, "height": 400}
    said = {"role": "figure", "caption": f"Caption {text}"}
    shown = Table.of((f"h {text}", "b"), [(f"1 {text}", text), ("2", text)], caption=f"About {text}")
    cells = [
        notebooks.text("# A title"),
        cell(
            *(display(text_html=each) for each in frames),
            display(text_html=shown.html),
            display(text_html=facts([(f"f {text}", text), ("g", text)], caption=text).html),
            display(text_markdown=f"A word: {madr.plain(text)}, and {madr.code(text)}."),
            display(text_markdown=madr.pipes(shown)),
            display(text_plain=f"plain {text}"),
            display(text_latex=f"plain {text}"),
            display(application_json={text: [text, {"a": text}]}),
            display({"image/png": picture, "leptonami": said}, image_png=PNG),
            stream(f"out {text}\n"),
            stream(f"err {text}\n", "stderr"),
            v4.new_output("error", ename=f"E {text}", evalue=f"V {text}", traceback=[f"T {text}"]),
            v4.new_output("execute_result", {"text/plain": f"result {text}"}, execution_count=1),
        ),
        notebooks.text(
            f"## Built of evidence\n\nA word: {madr.plain(text)}, and {madr.code(text)}.\n\n{madr.pipes(shown)}"
        ),
    ]
    source = notebooks.write(
        folder / "n.ipynb",
        *cells,
        leptonami={
            "run": f"run {text}",
            "started": f"at {text}",
            "outcome": {"status": f"S {text}", "cell": 1, "error": {"message": text, "resource": text, "hint": text}},
            "source": {"name": f"name {text}", "sha256": "abc"},
            "versions": {f"one {text}": text},
        },
        papermill={"parameters": {f"p {text}": [text, {text: text}]}},
    )
    return html.render(source, folder / "n.html")


def lay_out_document(folder: Path, text: str) -> Path:
    """Fill every place that a decision record has for evidence."""
    plain, code = madr.plain(text), madr.code(text)
    body = document(
        f"Title {text}",
        [
            f"## Section {plain}\n\nA word: {plain}, and {code}.\n\n- {plain}",
            Table.of(("a", f"b {text}"), [("1", text), ("2", text)], caption=f"Caption {text}", provenance="recorded"),
            Picture(PNG, f"It shows {text}", f"Caption {text}", 720, 400, "recorded"),
        ],
        source=f"source {text}",
        provenance="recorded",
        facts=[(f"name {text}", f"value {text}")],
    )
    path = folder / "d.html"
    path.write_text(body, encoding="utf-8")
    return path


def lay_out_index(folder: Path, text: str) -> Path:
    """Fill every place that the index of a run has for what notebooks say."""
    return run_index(folder, text)


WAYS: dict[str, Callable[[Path, str], Path]] = {
    "notebook": lay_out_notebook,
    "document": lay_out_document,
    "index": lay_out_index,
}


def skeleton(text: str) -> list[str]:
    """Give a page without its text: its elements and their attributes, with the values that are not text.

    What depends on the text and is ours is left out: anchors, how long a cell is, colours of a terminal, addresses.
    """
    soup = BeautifulSoup(text, "html.parser")
    found = []
    for tag in soup.find_all(True):
        if tag.name == "span" and not tag.get("class"):
            found.append("span without a class")
        elif tag.name == "span" and re.match(r"ansi|bold", " ".join(tag["class"])):
            continue
        else:
            found.append(described(tag))
    return found


def described(tag: Tag) -> str:
    kept = []
    for name, value in sorted(tag.attrs.items()):
        text = " ".join(value) if isinstance(value, list) else str(value)
        if name == "class":
            text = " ".join(each for each in text.split() if each not in ("word", "sentence", "long", "number"))
            if not text:
                continue
        free = name in ("id", "alt", "aria-label", "data-column") or (name == "href" and text.startswith("#"))
        free = free or (name == "content" and tag.get("name") == "generator")
        kept.append(name if free else f"{name}={text}")
    return f"<{' '.join([tag.name, *kept])}>"


def words(text: str) -> str:
    """Give what is to be seen of a text: its letters and digits."""
    return "".join(re.findall(r"[^\W_]", text))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], int]]:
    """The pages with a harmless name: their skeletons, and how often the name is to be read."""
    folder = tmp_path_factory.mktemp("harmless")
    pages = {way: write(folder, HARMLESS).read_text(encoding="utf-8") for way, write in WAYS.items()}
    return {way: (skeleton(page), seen(page, HARMLESS)) for way, page in pages.items()}


def seen(page: str, text: str) -> int:
    """Count how often a text is to be read on a page."""
    return words(BeautifulSoup(page, "html.parser").get_text()).count(words(text))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", NAMES, ids=[str(number) for number in range(len(NAMES))])
def test_evidence_is_text_in_every_place(
    tmp_path: Path, harmless: dict[str, tuple[list[str], int]], way: str, text: str
) -> None:
    name = f"x{text}y"
    result = WAYS[way](tmp_path, name).read_text(encoding="utf-8")
    like, times = harmless[way]
    assert skeleton(result) == like
    assert [each for each in loads(result) if not each.startswith("a href=notebooks/")] == []
    strictly_parsed(result)
    assert not markup.CONTROL.search(result)
    # Nothing is lost, and nothing is worked out: what a terminal obeys and what JSON writes otherwise is not compared.
    assert times > 10
    assert seen(result, name) == times or not text.isprintable()


def test_the_comparison_sees_markup(tmp_path: Path, harmless: dict[str, tuple[list[str], int]]) -> None:
    """That pages are the same means something only if markup would have made them differ."""
    page = lay_out_notebook(tmp_path, HARMLESS).read_text(encoding="utf-8")
    like, times = harmless["notebook"]
    assert skeleton(page) == like
    for hostile in ("<b>x</b>", "<i class=word>x</i>", '<span class="k">x</span>', "<a href='#x'>x</a>"):
        changed = page.replace(HARMLESS, hostile)
        assert skeleton(changed) != like
        assert seen(changed, HARMLESS) < times
    changed = page.replace('<details class="code">', '<details class="code" ontoggle="x">')
    assert changed != page
    assert skeleton(changed) != like
