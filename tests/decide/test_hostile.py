"""What evidence says can never become markup: in Markdown, on the page, in tables, in JSON, on a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import html5lib
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from decidehelp import DAY, HOSTILE, RUN_ID, built, criteria, kept, options, removed, run_with
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import markup
from leptonami.cli import cli
from leptonami.decide import madr, store
from leptonami.decide import record as records
from leptonami.decide.evidence import collect
from leptonami.decide.record import About, Body
from leptonami.decide.report import Report

CLAIMS: list[dict[str, Any]] = [
    {"id": "one.scales", "check": {"name": "scale-down", "expect": "removed"}},
    {"id": "one.kept", "check": {"name": "scale-down", "expect": "kept"}, "side": "con"},
    {
        "id": "one.driver",
        "criterion": "other",
        "check": {"name": "image-claims", "expect": "hold", "claims": ["driver."]},
    },
    {"id": "one.stack", "criterion": "other", "check": {"name": "gpu-stack", "expect": "healthy"}},
]
LISTING = (
    "NAME READY STATUS RESTARTS AGE\n"
    "pod/nvidia-operator-validator-{x} 0/1 CrashLoopBackOff 5 30m\n"
    "pod/nvidia-device-plugin-daemonset-{x} 1/1 Running 0 30m\n"
)


def hostile_body(root: Path, text: str) -> Body:
    """Make a record in which everything that can be hostile is: names, logs, findings, sources, versions, people."""
    word = re.sub(r"\s", "-", text)
    versions = {"os": "22.04", text[:30]: text}
    run_with(
        root,
        {
            "name": "log",
            "source": text,
            "payload": {"option": "one", "versions": versions},
            "raw": removed(word) + kept(f"b-{word}", pod=f"ns/{word}"),
        },
        {"name": word.replace("/", "")[:60] or "x", "source": text, "payload": {"option": text}, "raw": text.encode()},
        {"name": "other", "kind": "findings", "payload": {"option": "one", "versions": {"kubernetes": text}}},
        {
            "name": "contents",
            "kind": "findings",
            "source": text,
            "payload": {
                "findings": [
                    {"claim": f"driver.{text}", "ok": False, "statement": text, "expected": text, "observed": text}
                ]
            },
        },
        {
            "name": "listing",
            "kind": "gpu-operator-listing",
            "payload": {"option": "one"},
            "raw": LISTING.format(x=word).encode(),
        },
        manifest=built(),
    )
    known = options(CLAIMS)
    items, problems = collect(known, known.questions[0], runs=root, run_ids=[RUN_ID])
    assert problems == []
    about = About(title="A test", decision_makers=(text,), consulted=(text,), informed=(text,), runs=(RUN_ID,))
    return records.make(known, criteria(), ["which"], items, day=DAY, about=about)


def harmless(page: str) -> BeautifulSoup:
    """See that a page is well-formed, runs nothing, loads nothing, and has none of what the hostile text tried."""
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find_all(["script", "iframe", "object", "embed", "form", "input", "base"])
    assert len(soup.find_all("h1")) == 1
    assert len(soup.find_all("html")) == 1
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on")], tag
        for name in ("href", "src"):
            value = str(tag.get(name) or "#")
            assert value.startswith(("#", "https://", "data:image/png;base64,", "data:,")), value
            assert value.startswith("#") or "evil" not in value
    for tag in soup.find_all(["b", "i", "em"]):
        assert tag.get_text() not in ("bold", "x")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    return soup


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_evidence_in_every_place_stays_text(tmp_path: Path, text: str) -> None:
    made = records.new(hostile_body(tmp_path / "runs", text), note=text)
    files = store.render(made)
    soup = harmless(files["0001-a-test.html"])
    # It is shown, and not swallowed: the beginning of it can be read on the page.
    shown = re.sub(r"\W", "", text.replace("\x1b", "").splitlines()[0])[:12]
    assert shown in re.sub(r"\W", "", soup.get_text())
    text_of = files["0001-a-test.md"]
    harmless_markdown(text_of)
    assert json.loads(files["0001-a-test.json"])["body"]["decision_makers"] == [text]
    path = store.write_new(made, tmp_path / "records")
    assert store.read(path) == store.read(path)


def harmless_markdown(text: str) -> None:
    """See that the Markdown has no HTML and no link but those of the options' sources, by Jupyter's renderer."""
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert all(
        re.fullmatch(r"(status|date|decision-makers|consulted|informed): .*", line) for line in head.splitlines()
    )
    rendered = markup.markdown(body)
    soup = BeautifulSoup(rendered, "html.parser")
    assert not soup.find_all(["script", "img", "iframe", "b"])
    assert all("evil" not in str(tag.get("href")) for tag in soup.find_all("a"))
    assert all(not str(tag.get("href")).startswith("javascript") for tag in soup.find_all("a"))
    # A hostile heading, row or cell would change the structure.
    assert not [tag for tag in soup.find_all(re.compile("h[1-6]")) if tag.get_text() in ("heading", "title")]
    for table in soup.find_all("table"):
        widths = {len(row.find_all(["td", "th"])) for row in table.find_all("tr")}
        assert len(widths) == 1, table


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_options_file_stays_text_too(text: str) -> None:
    claims = [{"id": "one.a", "text": text}, {"id": "one.b", "text": text, "side": "con", "criterion": "other"}]
    back = {"to": "two", "runbook": "some-runbook", "how": text, "when": [text]}
    known = options(claims, title=text, context=text, fall_back=back)
    told = [each.model_copy(update={"title": text, "what": text, "maintainer": text}) for each in known.options]
    known = known.model_copy(update={"options": told})
    counted = criteria().model_copy(
        update={"criteria": [e.model_copy(update={"title": text, "what": text}) for e in criteria().criteria]}
    )
    body = records.make(known, counted, ["which"], [], day=DAY, about=About(title=f"A test {text}"))
    files = store.render(records.new(body))
    harmless(next(content for name, content in files.items() if name.endswith(".html")))
    harmless_markdown(next(content for name, content in files.items() if name.endswith(".md")))
    assert all(re.fullmatch(r"0001-[a-z0-9-]+\.(json|md|html)", name) for name in files)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_evidence_in_the_notebooks_tables_stays_text(tmp_path: Path, text: str) -> None:
    body = hostile_body(tmp_path, text)
    told = Report(body.main, body.options, body.criteria)
    for table in (told.matrix(), told.claims_table(), told.evidence_table(), told.flips_table(), told.turns_table()):
        piece = markup.fragment(table.html)
        soup = BeautifulSoup(str(piece.html), "html.parser")
        assert not soup.find_all(["script", "img", "b", "a"])
        assert len(soup.find_all("table")) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_evidence_on_a_terminal_drives_nothing(tmp_path: Path, text: str) -> None:
    path = store.write_new(records.new(hostile_body(tmp_path / "runs", text)), tmp_path / "records")
    (tmp_path / "runs" / RUN_ID / "evidence" / "raw" / "log.txt").write_bytes(removed(text.replace("\n", " ")))
    where = ["--folder", str(path.parent), "--runs", str(tmp_path / "runs")]
    for command in (["check", "1"], ["diff", "1", "1"], ["list"]):
        result = CliRunner().invoke(cli, ["record", *command, *(where if command[0] == "check" else where[:2])])
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output


@given(st.text(max_size=60))
@settings(deadline=None)
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    rendered = markup.markdown(f"x {madr.plain(text)} y")
    soup = BeautifulSoup(str(markup.fragment(rendered).html), "html.parser")
    assert [tag.name for tag in soup.find_all(True)] == ["p"]


@given(st.text(alphabet="ab`|\\<>[]()*_$~& \n", max_size=40))
@settings(deadline=None)
def test_a_code_span_cannot_be_left(text: str) -> None:
    rendered = markup.markdown(f"- x {madr.code(text)} y")
    soup = BeautifulSoup(str(markup.fragment(rendered).html), "html.parser")
    assert [tag.name for tag in soup.find_all(True)] == ["ul", "li", "code"]
    assert soup.find("code").get_text().strip() == " ".join(text.split())
