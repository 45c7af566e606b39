"""The index page of a pipeline's run in a real browser: the same demands as on every other page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pagechecks
import pytest
from test_pipeline_index import HOSTILE, done, hostile, record

from leptonami.pipeline import index
from leptonami.pipeline.record import NotebookRecord

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def window(chromium: str) -> Iterator[browser.Browser]:
    with browser.start(chromium) as started:
        yield started


@pytest.fixture(scope="module", params=["good", "failed", "hostile"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that completed, one with everything that can go wrong, and one in which every text is hostile."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "record").mkdir()
    (folder / "record" / "0001-a.html").write_text("<title>Which image?</title>")
    error = {"message": "too slow " + "x" * 200, "resource": "20_b.ipynb", "hint": "more time"}
    failed = NotebookRecord(name="20_b", title="B", state="failed", status="timed out", cell=3, error=error)
    skipped = NotebookRecord(
        name="30_c", title="C", purpose="for it", state="skipped", why="it needs 20_b", needs=["20_b"]
    )
    good = done("10_a", provenance="simulated", parameters={"word": "x"}, started="2026-01-02T03:05:00+00:00")
    made = {
        "good": lambda: record(good, done("20_b", provenance="recorded"), state="completed", provenance="simulated"),
        "failed": lambda: record(good, failed, skipped, state="failed", provenance="simulated"),
        "hostile": lambda: hostile(HOSTILE),
    }[request.param]()
    return index.write(made, folder)


def test_axe_finds_nothing(window: browser.Browser, page: Path) -> None:
    assert [str(each) for each in pagechecks.axe(window, page, *pagechecks.VIEWS)] == []


def test_the_validator_finds_nothing(page: Path) -> None:
    assert [str(each) for each in pagechecks.html_validate([page])] == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out(window: browser.Browser, page: Path, width: int) -> None:
    window.open(page)
    window.size(width)
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert window.complaints() == []
