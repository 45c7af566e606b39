"""What others have written to check pages: axe-core for accessibility, html-validate for the rules of HTML.

Both come from `tests/web/package-lock.json`; `make web` installs them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

WEB = Path(__file__).parent / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
VALIDATOR = WEB / "node_modules" / "html-validate" / "bin" / "html-validate.mjs"


def needed(path: Path) -> Path:
    """Give a checker's file. CI must have it; elsewhere the test is skipped."""
    if path.is_file() and shutil.which("node"):
        return path
    if os.environ.get("CI"):
        pytest.fail(f"CI has no {path.name}: make web must install it")
    pytest.skip("the checkers of pages are not installed: apt-get install npm, then make web")


@dataclass(frozen=True)
class Finding:
    """One rule that a page breaks, where, and how somebody has to look at it for that."""

    rule: str
    impact: str
    where: tuple[str, ...]
    view: str = ""

    def __str__(self) -> str:
        return f"{self.view} {self.impact} {self.rule}: {'; '.join(self.where[:3])} ({len(self.where)} in all)"


@dataclass(frozen=True)
class View:
    """How somebody looks at a page."""

    width: int
    dark: bool = False
    media: str = ""

    def __str__(self) -> str:
        return f"{self.width}px-{self.media or ('dark' if self.dark else 'light')}"


VIEWS = (View(390), View(390, dark=True), View(1280), View(1280, dark=True), View(1280, media="print"))

# Folded parts are read too, so they are opened. What axe cannot decide ("incomplete") is not counted, but for contrast:
# there nothing on our pages is undecidable, except what a table has scrolled out of its box at that width.
RUN = """(async () => {
  document.querySelectorAll('details').forEach(each => each.open = %s);
  const told = await axe.run(document, {resultTypes: ['violations', 'incomplete']});
  const scrolledOut = node => document.querySelector(node.target[0])?.closest('.scroll') &&
    node.any.every(check => check.data?.messageKey === 'elmPartiallyObscured');
  const short = each => ({
    rule: each.id, impact: each.impact || 'unknown',
    where: each.nodes.map(node => node.html.slice(0, 120) + ' | ' + (node.failureSummary || '').slice(0, 200))
  });
  return {
    found: told.violations.map(short), passes: told.passes.length,
    unsure: told.incomplete.filter(each => each.id === 'color-contrast').map(each => ({
      ...each, nodes: each.nodes.filter(node => !scrolledOut(node))
    })).filter(each => each.nodes.length).map(short)
  };
})()"""


def axe(window: Browser, page: Path, *views: View) -> list[Finding]:
    """Open a page, look at it in several ways and give everything that axe finds, the harmless included."""
    window.open(page)
    window.evaluate(needed(AXE).read_text(encoding="utf-8") + "\n;0")
    found = []
    for view in views:
        window.size(view.width)
        window.emulate(dark=view.dark, media=view.media)
        try:
            told: dict[str, Any] = window.evaluate(RUN % ("false" if view.media == "print" else "true"))
        finally:
            window.emulate()
        assert told["passes"] >= 10, "axe has hardly looked at anything"
        every = [*told["found"], *({**each, "rule": f"{each['rule']} (undecided)"} for each in told["unsure"])]
        found += [Finding(each["rule"], each["impact"], tuple(each["where"]), str(view)) for each in every]
    return found


def html_validate(pages: Sequence[Path]) -> list[Finding]:
    """Give everything that html-validate finds in pages, in one go: node takes a second to start."""
    command = ["node", str(needed(VALIDATOR)), "--config", str(WEB / "htmlvalidate.json"), "--formatter", "json"]
    with tempfile.TemporaryFile("w+") as told:  # a file: into a pipe node writes the first 64 KiB and ends
        done = subprocess.run(
            [*command, *map(str, pages)], stdout=told, stderr=subprocess.PIPE, text=True, timeout=280, check=False
        )
        told.seek(0)
        reports = told.read()
    assert done.returncode in (0, 1), done.stderr[:2000]
    assert reports.lstrip().startswith("["), done.stderr[:2000]
    return [
        Finding(each["ruleId"], "error" if each["severity"] == 2 else "warning", (place(report, each),))
        for report in json.loads(reports)
        for each in report["messages"]
    ]


def place(report: dict[str, Any], message: dict[str, Any]) -> str:
    name = Path(report["filePath"]).name
    return f"{name}:{message['line']}: {message['message']} {message.get('selector') or ''}"
