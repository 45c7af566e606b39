"""The index page of a pipeline's run: everything a notebook says is text, every link is relative, one template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import html5lib
import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptonami import html
from leptonami.pipeline import index
from leptonami.pipeline.record import NotebookRecord, Record, weakest

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\" ' & {{ 7*7 }} \x1b[31m \u202eevil </title></style>"


def record(*entries: NotebookRecord, **more: Any) -> Record:
    return Record(
        run="20260102-030405-abcdef",
        started="2026-01-02T03:04:05+00:00",
        seconds=83.0,
        pipeline="pipeline.yaml",
        notebooks=list(entries),
        versions={"leptonami": "0.1.0"},
        **more,
    )


def done(name: str, **more: Any) -> NotebookRecord:
    return NotebookRecord(
        name=name,
        title=f"Title of {name}",
        purpose="a purpose",
        state="completed",
        status="completed",
        seconds=1.5,
        notebook=f"notebooks/{name}.ipynb",
        html=f"notebooks/{name}.html",
        **more,
    )


def page(made: Record, folder: Path) -> tuple[str, BeautifulSoup]:
    text = index.write(made, folder).read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    return text, BeautifulSoup(text, "html.parser")


def test_what_a_reader_finds(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    for name in ("0001-old.html", "0002-which image?.html", "0002-which image?.md"):
        (tmp_path / "record" / name).write_text("<title>Simulated: a &lt;b&gt; &amp; c</title>" if "2" in name else "")
    failed = NotebookRecord(
        name="20_b",
        state="failed",
        status="timed out",
        cell=3,
        heading="Launch",
        error={"message": "too slow", "resource": "20_b.ipynb", "hint": "give it more time"},
        notebook="notebooks/20_b.ipynb",
    )
    skipped = NotebookRecord(name="30_c", state="skipped", why="it needs 20_b, which failed", needs=["20_b"])
    made = record(
        done("10_a", provenance="measured", parameters={"word": "x"}),
        failed,
        skipped,
        state="failed",
        exit_code=5,
        provenance="measured",
    )
    _, soup = page(made, tmp_path)
    assert [link["href"] for link in soup.main.find_all("a")] == [
        "record/0002-which%20image%3F.html",
        "record/0001-old.html",
        "notebooks/10_a.html",
        "notebooks/10_a.ipynb",
        "notebooks/20_b.ipynb",
    ]
    words = " ".join(soup.get_text().split())
    for said in (
        "Measured.",
        "Simulated: a <b> & c",
        "0001-old.html",
        "Needs 20_b.",
        "1 of 3 completed, 1 failed, 1 skipped",
        "1 min 23 s",
        "failed: timed out in cell 3 (Launch): 20_b.ipynb: too slow",
        "What to do: give it more time",
        "skipped: it needs 20_b, which failed",
        "leptonami run --resume 20260102-030405-abcdef",
        "10_a.word",
    ):
        assert said in words
    assert [each.get_text() for each in soup.find_all(["h1", "h2", "h3"])] == [
        "Pipeline run 20260102-030405-abcdef",
        "The decision",
        "The notebooks",
        "What to know about them",
        "20_b",
        "30_c",
    ]
    targets = {each["id"] for each in soup.find_all(id=True)}
    assert {link["href"][1:] for link in soup.nav.find_all("a")} <= targets
    assert all(cell.get("scope") for cell in soup.find_all("th"))


@pytest.mark.parametrize("weak", ["simulated", "recorded", "measured", None])
def test_the_weakest_provenance_is_in_the_title_block(tmp_path: Path, weak: Any) -> None:
    values = {"simulated": ["measured", "simulated", "recorded"], "recorded": ["recorded", "measured", None]}
    entries = values.get(weak or "", [weak])
    assert weakest(entries) == weak
    _, soup = page(record(done("10_a"), provenance=weak), tmp_path)
    assert soup.header.find("p", class_="provenance")["class"] == ["provenance", weak or "unstated"]
    assert soup.title.get_text().startswith("Simulated: ") is (weak == "simulated")


def hostile(text: str) -> Record:
    entry = done("10_a", parameters={text: text}, needs=[text], warnings=[text])
    entry.title = entry.purpose = text
    error = {"message": text, "resource": text, "hint": text}
    failed = NotebookRecord(name="20_b", title=text, state="failed", status=text, heading=text, cell=1, error=error)
    skipped = NotebookRecord(name="30_c", purpose=text, state="skipped", why=text)
    made = record(entry, failed, skipped, state="failed")
    made.pipeline = made.run = text
    made.versions = {text: text}
    return made


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    text, soup = page(hostile(HOSTILE), tmp_path)
    assert soup.find_all(["script", "img", "iframe", "object"]) == []
    assert not [tag for tag in soup.find_all(True) if any(name.startswith("on") for name in tag.attrs)]
    assert "49" not in soup.main.get_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(soup.find_all("style")) == 1
    assert soup.main.get_text().count("<script>alert(1)</script>") >= 8


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_makes_the_same_tags(tmp_path: Path, text: str) -> None:
    def shape(word: str) -> list[str]:
        _, soup = page(hostile(word), tmp_path)
        return [tag.name for tag in soup.find_all(True)]

    assert shape(text or "x") == shape("x")


def test_a_link_is_made_from_the_name_and_not_from_what_the_record_says(tmp_path: Path) -> None:
    entry = done("10_a")
    entry.html = "javascript:alert(1)"
    _, soup = page(record(entry), tmp_path)
    assert "notebooks/10_a.html" in [link["href"] for link in soup.main.find_all("a")]
    with pytest.raises(ValueError, match="name"):
        NotebookRecord(name="../x")


def test_one_template_no_script_nothing_loaded(tmp_path: Path) -> None:
    text, soup = page(record(done("10_a")), tmp_path)
    css, policy = html.styles()
    assert soup.style.get_text() == str(css)
    assert soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"] == policy
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "One file: it loads nothing and runs nothing." in text
    assert len(text.encode()) < 40_000


def test_what_rests_on_something_that_ran_again_says_so(tmp_path: Path) -> None:
    first = done("10_a", started="2026-01-02T04:00:00+00:00")
    second = done("20_b", started="2026-01-02T03:30:00+00:00", needs=["10_a", "30_gone"])
    _, soup = page(record(first, second), tmp_path)
    assert "10_a, which it needs, has run again since" in soup.get_text()
    second.started = "2026-01-02T04:30:00+00:00"
    _, soup = page(record(first, second), tmp_path)
    assert "has run again since" not in soup.get_text()
