"""The HTML page in a real browser, offline: it asks for nothing, complains of nothing, and can be read everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import browser
import nbformat.v4 as v4
import pytest
import sample_notebooks as notebooks
from test_html import HOSTILE, TABLE, data, figure, output

from leptonami import html

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def window(chromium: str) -> Iterator[browser.Browser]:
    with browser.start(chromium) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything in it, the hostile things included."""
    folder = tmp_path_factory.mktemp("page")
    wide = TABLE.replace("RunInstances", "averylongid" * 12)
    cells = [
        notebooks.text("# Build a GPU node image\n\nWords, `code`, [a link](https://example.org/a) and " + "long" * 60),
        notebooks.code('plan: str = "gpu"', "parameters", count=1),
        notebooks.text("## What will be done\n\n```python\nx = 1\n```\n\n> A quote\n\n- one\n- two"),
        output(
            data({"leptonami": {"role": "declaration", "provenance": "simulated", "run": "the-run"}}, text_plain="x"),
            data(text_html=wide),
            figure(caption="One pixel"),
        ),
        notebooks.text("### Deeper"),
        output(
            v4.new_output("stream", name="stdout", text="".join(f"\x1b[3{n % 8}mline {n}\x1b[0m\n" for n in range(90))),
            v4.new_output("stream", name="stderr", text="w" * 500),
            v4.new_output(
                "error", ename="ValueError", evalue="no", traceback=["\x1b[31mTraceback\x1b[0m " + "x" * 300]
            ),
            source="y = 'long' # " + "z" * 300,
        ),
        notebooks.text("## Hostile"),
        *(output(data(text_html=text), data(text_markdown=text)) for text in HOSTILE),
    ]
    source = notebooks.write(
        folder / "some.ipynb",
        *cells,
        leptonami={
            "run": "20261123-211500-a1b2c3",
            "outcome": {"status": "failed", "seconds": 3, "cell": 2, "error": {"message": "no", "hint": "mend it"}},
            "versions": {"python": "3.11.7", "leptonami": "0.1.0"},
        },
        papermill={"parameters": {"plan": "gpu"}},
    )
    return html.render(source, folder / "some.html", strict=False)


def test_it_loads_nothing_and_complains_of_nothing(window: browser.Browser, page: Path) -> None:
    window.open(page)
    assert window.complaints() == []
    assert window.requests() == [page.as_uri()]
    assert window.evaluate("document.title") == "Simulated: Build a GPU node image"
    assert window.evaluate("getComputedStyle(document.body).maxWidth") != "none"  # the policy lets our styles in
    assert window.evaluate("location.href") == page.as_uri()


def test_the_looking_glass_itself_sees(window: browser.Browser, page: Path, tmp_path: Path) -> None:
    """That nothing was seen means something only if something would have been."""
    policy = re.search(r"<meta http-equiv[^>]*>", page.read_text())
    assert policy is not None
    bad = tmp_path / "bad.html"
    body = "<script>console.error('ran')</script><img src='x.png' alt=''><p style='color:red'>x</p>"
    bad.write_text(f"<!DOCTYPE html><title>x</title>{body}")
    window.open(bad)
    assert any("ran" in complaint for complaint in window.complaints())
    assert window.requests() == [bad.as_uri(), (tmp_path / "x.png").as_uri()]
    bad.write_text(f"<!DOCTYPE html><title>x</title>{policy[0]}{body}")
    window.open(bad)
    said = " ".join(window.complaints())
    assert "ran" not in said
    assert "Content Security Policy" in said or "contentSecurityPolicy" in said
    assert window.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(0, 0, 0)"


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_nothing_sticks_out(window: browser.Browser, page: Path, width: int) -> None:
    """WCAG 2.2, 1.4.10: no scrolling in two directions; wide tables scroll in their own box."""
    window.open(page)
    window.size(width)
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    inside = window.evaluate("document.querySelector('main .scroll').scrollWidth")
    assert inside > window.evaluate("document.querySelector('main .scroll').clientWidth") or width > 400
    small = window.evaluate(
        "[...document.querySelectorAll('main p, main li, main td')].filter(e => e.innerText.trim() && "
        "parseFloat(getComputedStyle(e).fontSize) < 12).length"
    )
    assert small == 0


def test_it_can_be_used_with_the_keyboard(window: browser.Browser, page: Path) -> None:
    window.open(page)

    def press(key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            window.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        if key == "Enter":
            window.call("Input.dispatchKeyEvent", type="char", text="\r", key=key, windowsVirtualKeyCode=code)

    press("Tab", 9)
    assert window.evaluate("document.activeElement.className") == "skip"
    assert window.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert window.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # Every box that scrolls sideways can be reached.
    assert window.evaluate(
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
        "['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).every(e => e.tabIndex === 0)"
    )


def test_the_outline_as_a_screen_reader_has_it(window: browser.Browser, page: Path) -> None:
    window.open(page)
    window.call("Accessibility.enable")
    nodes = window.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = str(node.get("role", {}).get("value"))
            roles.setdefault(role, []).append(str(node.get("name", {}).get("value", "")))
    assert len(roles["main"]) == 1
    assert roles["navigation"] == ["Contents"]
    assert len(roles["banner"]) == 1
    assert len(roles["contentinfo"]) == 1
    assert roles["heading"][:3] == ["Build a GPU node image", "What will be done", "Deeper"]
    assert all(roles["image"])
    assert "columnheader" in roles
    assert "rowheader" in roles
    assert all(name for name in roles["DisclosureTriangle"])
    levels = window.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_as_drawn(window: browser.Browser, page: Path, dark: bool) -> None:
    """The colours that the browser works out, with the background that is really behind each text."""
    window.dark(on=dark)
    try:
        window.open(page)
        worst = window.evaluate(WORST_CONTRAST)
    finally:
        window.dark(on=False)
    assert worst["ratio"] >= 4.5, worst


WORST_CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const lum = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  let worst = {ratio: 99};
  document.querySelectorAll('details').forEach(e => e.open = true);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.getClientRects().length) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const back = behind ? getComputedStyle(behind).backgroundColor : 'rgb(255,255,255)';
    const pair = [lum(parse(getComputedStyle(element).color)), lum(parse(back))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < worst.ratio) worst = {ratio, text: text.slice(0, 40), element: element.outerHTML.slice(0, 120), back};
  }
  return worst;
})()"""


def test_print_leaves_code_away_and_says_simulated(window: browser.Browser, page: Path, tmp_path: Path) -> None:
    window.open(page)
    window.call("Emulation.setEmulatedMedia", media="print")
    try:
        shown = window.evaluate(
            "[...document.querySelectorAll('details.code')].filter(e => e.getClientRects().length).length"
        )
        assert shown == 0
        assert window.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert window.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
        assert window.evaluate("getComputedStyle(document.querySelector('tr')).breakInside") == "avoid"
    finally:
        window.call("Emulation.setEmulatedMedia", media="")
    window.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
