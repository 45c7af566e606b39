"""Every page that the project ships, an index and the worst that evidence holds, checked by what others have written.

axe-core looks for what keeps people from reading a page, html-validate for what a browser would have to guess about.
Neither may find anything at all. That they can find something is tested first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
import sample_pages
from bs4 import BeautifulSoup
from pagechecks import VIEWS, View, axe, html_validate

from leptonami.page import TEMPLATES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MAX_SIZE = 1_500_000
SHIPPED = sorted(
    {each.stem for each in (sample_pages.ROOT / "notebooks").glob("*.ipynb")}
    | {each.stem for each in (sample_pages.ROOT / "docs" / "records").glob("*.html")}
)
NAMES = [*SHIPPED, "index", "extreme"]


@pytest.fixture(scope="module")
def window(chromium: str) -> Iterator[browser.Browser]:
    with browser.start(chromium) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sample_pages.every(tmp_path_factory.mktemp("pages"))


FAULTS = """<!DOCTYPE html>
<html>
<head><meta charset="utf-8"><title>Faults</title>
<style>
  .faint { color: #bbb; background: #fff; }
  .box { width: 100px; overflow-x: scroll; }
  @media (prefers-color-scheme: dark) { .night { color: #333; background: #222; } }
  @media print { .paper { color: #ddd; background: #fff; } }
</style></head>
<body>
<h1>A page with faults that are known</h1>
<img src="data:image/png;base64,">
<p class="faint">This cannot be read by many.</p>
<p class="night">This cannot be read by night.</p>
<p class="paper">This cannot be read on paper.</p>
<a href="https://example.org"></a>
<div class="box" role="nonsense"><pre>wide</pre></div>
<p id="twice">1</p><p id="twice">2</p>
<ul><p>not an item</p></ul>
<table><tr><th scope="nonsense">a</th></tr></table>
</body>
</html>
"""
# Filler that is right, so that axe has something to pass.
RIGHT = FAULTS.replace("<ul><p>not an item</p></ul>", "<ul><li>an item</li></ul>")


class TestTheCheckersSee:
    """That nothing was found means something only if something would have been."""

    @pytest.mark.parametrize("view", VIEWS, ids=str)
    def test_axe(self, window: browser.Browser, tmp_path: Path, view: View) -> None:
        page = tmp_path / "faults.html"
        page.write_text(RIGHT)
        found = {each.rule: each for each in axe(window, page, view)}
        assert {"image-alt", "html-has-lang", "link-name", "aria-roles", "color-contrast", "region"} <= found.keys()
        assert found["image-alt"].impact == "critical"
        seen = " ".join(found["color-contrast"].where)
        assert "by many" in seen
        assert ("by night" in seen) == view.dark
        assert ("on paper" in seen) == (view.media == "print")

    def test_axe_opens_what_is_folded(self, window: browser.Browser, tmp_path: Path) -> None:
        page = tmp_path / "folded.html"
        page.write_text(RIGHT.replace('<p class="faint">', "<details><summary>More</summary><p class='faint'>"))
        assert "color-contrast" in {each.rule for each in axe(window, page, View(1280))}

    def test_axe_says_what_it_cannot_decide(self, window: browser.Browser, tmp_path: Path) -> None:
        page = tmp_path / "gradient.html"
        page.write_text(RIGHT.replace("background: #fff; }", "background: linear-gradient(#fff, #777); }", 1))
        assert "color-contrast (undecided)" in {each.rule for each in axe(window, page, View(1280))}

    def test_html_validate(self, tmp_path: Path) -> None:
        page = tmp_path / "faults.html"
        page.write_text(FAULTS)
        rules = {each.rule for each in html_validate([page])}
        assert {"no-dup-id", "element-permitted-content", "wcag/h37", "attribute-allowed-values"} <= rules


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing(window: browser.Browser, pages: dict[str, Path], name: str) -> None:
    assert [str(each) for each in axe(window, pages[name], *VIEWS)] == []


def test_html_validate_finds_nothing(pages: dict[str, Path]) -> None:
    assert [str(each) for each in html_validate(list(pages.values()))] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_small_and_whole(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_SIZE
    soup = BeautifulSoup(text, "html.parser")
    assert [len(soup.find_all(tag)) for tag in ("h1", "main", "header", "footer", "title")] == [1, 1, 1, 1, 1]
    assert soup.html is not None
    assert soup.html["lang"] == "en"
    first = soup.body.find(True) if soup.body else None
    assert first is not None
    assert first["href"] == "#lp-content"
    contents = soup.find("nav")
    assert contents is not None
    ids = {tag["id"] for tag in soup.find_all(id=True)}
    assert all(str(link["href"])[1:] in ids for link in contents.find_all("a"))
    for image in soup.find_all("img"):
        assert len(str(image["alt"])) > 15 or name == "extreme"
    for table in soup.find_all("table"):
        box = table.parent
        assert box is not None
        assert (box["class"][0], box["tabindex"]) == ("scroll", "0")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_told_in_full(pages: dict[str, Path], name: str) -> None:
    """Tables have a caption and headers, figures a caption; nothing says that a description is missing."""
    soup = BeautifulSoup(pages[name].read_text(encoding="utf-8"), "html.parser")
    for table in soup.find_all("table"):
        caption = table.find("caption")
        assert caption is not None, table.get_text(" ", strip=True)[:200]
        assert caption.get_text(strip=True)
        heads = table.select("thead th[scope]")
        assert heads, caption.get_text()
    for figure in soup.find_all("figure"):
        caption = figure.find("figcaption")
        assert caption is not None
        assert caption.get_text(strip=True)
    assert "no description" not in soup.get_text()
    assert soup.body is not None
    assert soup.body["class"][0] in ("measured", "recorded", "simulated")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out(window: browser.Browser, pages: dict[str, Path], name: str) -> None:
    """WCAG 2.2, 1.4.10: on a phone too the page scrolls in one direction only, and what is wider says so."""
    window.size(390)
    window.open(pages[name])
    window.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = window.evaluate(SCROLLING)
    assert all(each["hint"] == each["wide"] and each["reached"] for each in boxes), boxes
    if name == "extreme":
        assert sum(each["wide"] for each in boxes) >= 4


# Two frames, so that what depends on how far a box can scroll has settled.
SCROLLING = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(
  [...document.querySelectorAll('.scroll')].map(each => ({
    name: each.getAttribute('aria-label').slice(0, 60),
    wide: each.scrollWidth > each.clientWidth,
    hint: getComputedStyle(each, '::before').content.includes('scroll sideways'),
    reached: each.tabIndex === 0
  }))))))"""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_on_paper(window: browser.Browser, pages: dict[str, Path], name: str) -> None:
    """On A4 between the margins (178 mm) nothing is wider than the sheet, and no word of a header is broken."""
    window.size(672)
    window.emulate(media="print")
    try:
        window.open(pages[name])
        wide = window.evaluate(
            "[...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > 673)"
            ".map(each => each.outerHTML.slice(0, 200))"
        )
    finally:
        window.emulate()
    assert wide == []


def test_each_provenance_is_in_the_margin_of_every_sheet() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    for provenance in ("simulated", "recorded", "measured", "unstated"):
        assert re.search(rf'@page {provenance} {{ @top-right {{ content: "[^"]+"', style)
        assert f"body.{provenance} {{ page: {provenance}; }}" in style
