"""The page of a pipeline's run: `runs/<id>/index.html`, which links every executed notebook.

Laid out by the same template as the notebooks' pages (`leptonami.html`); its body is a small template of its own, with
jinja's escaping on. Links are relative, so the run's folder can be moved and passed on whole. What a notebook says
(its title, its error) is text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from leptonami import html
from leptonami.pipeline.board import span
from leptonami.pipeline.record import NotebookRecord, Record

__all__ = ["FILE", "decision_records", "page", "write"]

FILE = "index.html"
TEMPLATE = "pipeline.html.j2"
WORDS = {
    "running": "still running",
    "completed": "completed",
    "failed": "failed",
    "interrupted": "interrupted",
}

OTHERS = ("failed", "interrupted", "skipped", "left out", "running", "waiting")


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the page: a relative address and its text."""

    address: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A notebook's line, ready to be laid out."""

    name: str
    title: str
    purpose: str
    state: str
    took: str
    provenance: str
    started: str
    needs: str
    page: Link | None
    notebook: Link | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A notebook that did not complete, or whose result needs a word of caution."""

    anchor: str
    name: str
    what: str
    message: str
    hint: str
    warnings: tuple[str, ...]
    page: Link | None


def write(record: Record, folder: Path) -> Path:
    """Write the page of a run into its folder.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    decisions = [Link(quote(each.as_posix()), title_of(folder / each)) for each in decision_records(folder)]
    return html.write(page(record, decisions), folder / FILE)


def decision_records(folder: Path) -> list[Path]:
    """Find the decision records that a run has made, relative to its folder: the newest first.

    They are numbered (`record/0001-title.html`, by `leptonami.decide.study.keep`): a run that decides again adds one.
    """
    return [each.relative_to(folder) for each in sorted(folder.glob("record/*.html"), reverse=True) if each.is_file()]


def page(record: Record, decisions: list[Link]) -> html.Page:
    """Lay out what there is to say about a run."""
    lines = [line(each, record) for each in record.notebooks]
    troubles = [found for each in record.notebooks if (found := trouble(each, record)) is not None]
    sections = []
    if decisions:
        sections.append(("lp-decision", "The decision", 2))
    sections.append(("lp-notebooks", "The notebooks", 2))
    if troubles:
        sections.append(("lp-troubles", "What to know about them", 2))
    body = html.environment().get_template(TEMPLATE)
    markup = body.render(
        record=record,
        decisions=decisions,
        lines=lines,
        troubles=troubles,
        unfinished=record.state in ("failed", "interrupted"),
    )
    return html.Page(
        title=f"Pipeline run {record.run}",
        source=record.pipeline or "a pipeline",
        version=record.versions.get("leptonami", ""),
        provenance=record.provenance,
        facts=facts(record),
        parameters=[
            (f"{each.name}.{name}", json.dumps(value, ensure_ascii=False))
            for each in record.notebooks
            for name, value in each.parameters.items()
        ],
        contents=sections,
        failure=failure(record),
        cells=[html.Cell("markdown", html=Markup(markup))],  # noqa: S704 - by our template, which escapes
    )


def facts(record: Record) -> list[html.Fact]:
    """Gather the title block."""
    counted: list[str] = [each.state for each in record.notebooks]
    done = f"{counted.count('completed')} of {len(counted)} completed"
    others = [f"{counted.count(state)} {state}" for state in OTHERS]
    rows = [
        ("Run", record.run),
        ("Ended", WORDS[record.state]),
        ("Notebooks", ", ".join([done, *(each for each in others if not each.startswith("0 "))])),
        ("Started", html.when(record.started)),
        ("Took", span(record.seconds) if record.seconds is not None else None),
        ("Attempts", str(record.attempts) if record.attempts > 1 else None),
        ("At once", str(record.jobs)),
        ("Pipeline", record.pipeline),
        ("SHA-256", record.sha256[:12]),
        ("Versions", ", ".join(f"{name} {number}" for name, number in record.versions.items())),
    ]
    return [html.Fact(name, str(value)) for name, value in rows if value]


def line(entry: NotebookRecord, record: Record) -> Line:
    """Build a notebook's line."""
    return Line(
        name=entry.name,
        title=entry.title or entry.name,
        purpose=entry.purpose,
        state=entry.state,
        took="" if entry.seconds is None else span(entry.seconds),
        provenance=entry.provenance or ("not stated" if entry.state == "completed" else ""),
        started=moment(entry.started, record.started),
        needs=", ".join(entry.needs),
        page=link(entry, "html"),
        notebook=link(entry, "ipynb"),
    )


def moment(started: str | None, run_started: str) -> str:
    """Write when a notebook began: the time is enough on the day on which the run began."""
    text, run = html.when(started) or "", html.when(run_started) or ""
    return text[11:] if text[:10] == run[:10] else text


def title_of(path: Path) -> str:
    """Give the title of a decision record's page; its file name if there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search(r"<title>([^<]{1,300})</title>", file.read(4096))
    except OSError:
        found = None
    return unescape(found[1]).strip() if found else path.name


def link(entry: NotebookRecord, suffix: str) -> Link | None:
    """Link what is kept of a notebook. The address is made from its name, which is a word, and not from the record."""
    there = entry.html if suffix == "html" else entry.notebook
    return Link(f"notebooks/{quote(entry.name)}.{suffix}", f"{entry.name}.{suffix}") if there else None


def trouble(entry: NotebookRecord, record: Record) -> Trouble | None:
    """Say what is to be known about a notebook's result, or about why there is none."""
    warnings = [*entry.warnings, *outdated(entry, record)]
    ended = entry.state in ("completed", "running", "waiting")
    if ended and not warnings:
        return None
    error = entry.error or {}
    where = f" in cell {entry.cell}" if entry.cell else ""
    under = f" ({entry.heading})" if entry.heading else ""
    what = entry.state if entry.status in (None, entry.state) else f"{entry.state}: {entry.status}"
    place = f"{error['resource']}: " if error.get("resource") else ""
    return Trouble(
        anchor=f"lp-{entry.name}",
        name=entry.name,
        what=what if ended else f"{what}{where}{under}",
        message=f"{place}{error['message']}" if error.get("message") else "" if ended else entry.why or "",
        hint=str(error.get("hint") or ""),
        warnings=tuple(warnings),
        page=link(entry, "html"),
    )


def outdated(entry: NotebookRecord, record: Record) -> list[str]:
    """Find what a notebook rests on that has run again since."""
    if entry.state != "completed" or entry.started is None:
        return []
    known = {each.name: each for each in record.notebooks}
    later = [
        need
        for need in entry.needs
        if need in known and known[need].state != "skipped" and (known[need].started or "") > entry.started
    ]
    return [f"{need}, which it needs, has run again since: run this one again too" for need in later]


def failure(record: Record) -> html.Failure | None:
    """Say at the top that not everything completed."""
    if record.state not in ("failed", "interrupted"):
        return None
    states: list[str] = [each.state for each in record.notebooks]
    counts = [f"{states.count(state)} {state}" for state in ("failed", "interrupted", "skipped") if state in states]
    first = next((each for each in record.notebooks if each.state in ("failed", "interrupted")), None)
    error = (first.error if first else None) or {}
    place = f"{error['resource']}: " if error.get("resource") else ""
    return html.Failure(
        title=f"This run did not complete: {', '.join(counts) or record.state}",
        message=f"{place}{error.get('message') or record.state}",
        hint=f"leptonami run --resume {record.run} goes on, when the cause is mended; what completed is kept.",
        anchor=None,
    )
