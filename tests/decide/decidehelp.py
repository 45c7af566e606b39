"""Small options, evidence and runs for the tests of deciding. Everything here is synthetic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from leptonami.decide.checks import Context
from leptonami.decide.claims import ClaimResult, ClaimState, judge
from leptonami.decide.criteria import Criteria
from leptonami.decide.evidence import Evidence, Item, of_run
from leptonami.decide.options import Options
from leptonami.runs import Run

DAY = date(2026, 11, 25)
RUN_ID = "20261120-101010-abcdef"
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](javascript:alert(1)) [x](http://evil.example)",
    "a | b\n| --- |\n# heading",
    "``` ` `` <b>bold</b> `` ` ```",
    "\x1b[31mred\x1b[0m \u202eturned\u2066",
    "</td></tr></table><h1>title</h1>",
    "$x$ \\(y\\) $$z$$ \\begin{a}",
    "https://evil.example www.evil.example <https://evil.example>",
    "&lt;script&gt; &#60;b&#62; {{ 7*7 }} {% raw %}",
)

LINE = "I0624 20:42:30.904516       1 {where}] {text}"


def log(*lines: str) -> bytes:
    """Write lines of an autoscaler's log: a message after the place that 1.27 writes it from."""
    return "".join(
        LINE.format(where=where, text=text) + "\n" for where, text in (each.split("|", 1) for each in lines)
    ).encode()


def removed(node: str) -> bytes:
    """Give the log of a node that was removed."""
    return log(
        "static_autoscaler.go:276|Starting main loop",
        f"klogx.go:87|Node {node} - nvidia.com/gpu utilization 0.000000",
        f"actuator.go:161|Scale-down: removing empty node {node}",
    )


def kept(node: str, pod: str = "gpu-operator/nvidia-cuda-validator-abcde") -> bytes:
    """Give the log of a node that a validator pod holds."""
    return log(
        "static_autoscaler.go:276|Starting main loop",
        f"klogx.go:87|Node {node} - nvidia.com/gpu utilization 0.000000",
        f"cluster.go:153|{node} for removal",
        f"cluster.go:162|node {node} cannot be removed: {pod} is not replicated",
    )


def item(
    raw: bytes = b"",
    *,
    kind: str = "autoscaler-log",
    id: str = "some/log",
    group: str = "some",
    day: str = "2026-11-20",
    option: str | None = "one",
    payload: Any = None,
    provenance: Any = "measured",
    versions: dict[str, str] | None = None,
) -> Item:
    """Make a piece of evidence."""
    row = Evidence(id, kind, provenance, "a source", "1 thing", day, "0" * 64, None, versions or {}, option)
    return Item(row, group, raw, payload)


def options(claims: Sequence[dict[str, Any]], **question: Any) -> Options:
    """Make an options file of two options of one family; the claims are about the first, unless their id says else."""
    base = {
        "criterion": "works",
        "side": "pro",
        "text": "It works",
        "sources": ["original decision document"],
    }
    told = [{**base, **each} for each in claims]
    filler = {**base, "id": "two.fine", "criterion": "other", "text": "It is fine"}
    return Options.model_validate(
        {
            "schema": 1,
            "read": "2026-11-01",
            "questions": [
                {
                    "id": "which",
                    "title": "Which one?",
                    "context": "A test.",
                    "versions": {"kubernetes": "1.33", "gpu-operator": "23.3.2", "driver": "525.105.17"},
                    "systems": {"ubuntu-eks": "22.04", "al2-gpu": "2"},
                    "options": ["one", "two"],
                    **question,
                }
            ],
            "options": [
                {
                    "id": "one",
                    "title": "The first",
                    "what": "An option",
                    "maintainer": "we",
                    "family": "ubuntu-eks",
                    "built_by_leptonami": True,
                    "claims": [each for each in told if each["id"].startswith("one.")],
                },
                {
                    "id": "two",
                    "title": "The second",
                    "what": "Another option",
                    "maintainer": "they",
                    "family": "al2-gpu",
                    "claims": [each for each in told if each["id"].startswith("two.")] or [filler],
                },
            ],
        }
    )


def criteria(works: float = 1, other: float = 1, *, must: bool = False) -> Criteria:
    """Make criteria: `works` and `other`."""
    return Criteria.model_validate(
        {
            "schema": 1,
            "untested": 0.5,
            "criteria": [
                {"id": "works", "title": "Works", "what": "It works", "weight": works, "must": must},
                {"id": "other", "title": "Other", "what": "Something else", "weight": other},
            ],
        }
    )


def judged(check: dict[str, Any], *items: Item, day: date = DAY, **claim: Any) -> ClaimResult:
    """Judge one claim about the first option."""
    known = options([{"id": "one.claim", "check": check, **claim}])
    option = known.option("one")
    return judge(option.claims[0], option, known.questions[0], day, items, read=known.read)


def state(check: dict[str, Any], *items: Item, **claim: Any) -> ClaimState:
    """Judge one claim, and give its state."""
    return judged(check, *items, **claim).state


def context(*items: Item) -> Context:
    """Give what a check is given."""
    known = options([{"id": "one.claim"}])
    return Context(known.option("one"), known.questions[0], DAY, items)


def run_with(root: Path, *evidence: dict[str, Any], manifest: dict[str, Any] | None = None, id: str = RUN_ID) -> Run:
    """Make a run with evidence."""
    run = Run.create(root, id)
    run.journal.write("created")
    for each in evidence:
        run.write_evidence(**{"kind": "autoscaler-log", "provenance": "measured", "source": "a test", **each})
    if manifest is not None:
        run.write_manifest(manifest)
    return run


def items_of(run: Run, observed: str = "") -> tuple[list[Item], list[str]]:
    """Read a run's evidence."""
    known = options([{"id": "one.claim"}])
    return of_run(run.folder, known, known.questions[0], observed)


def built(os: str = "22.04", kubernetes: str = "1.33") -> dict[str, Any]:
    """Give the manifest of a build of the first option."""
    return {"plan": {"parameters": {"family": "ubuntu-eks", "os": os, "kubernetes": kubernetes}}}


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
