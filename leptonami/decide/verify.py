"""Checking a record: whether it was altered, whether its evidence was, and whether the outcome still follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from leptonami.decide.claims import ClaimState
from leptonami.decide.evaluate import Evaluation, evaluate
from leptonami.decide.evidence import collect
from leptonami.decide.record import Body, Record, digest_of, link, sha256, unstatused
from leptonami.decide.store import as_json, read
from leptonami.errors import InputError

__all__ = ["Change", "Checked", "check", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not as it was.

    Parameters
    ----------
    what
        `text`, `evidence`, `expired`, `claim` or `outcome`.
    where
        The file, the evidence, the claim or the question. Untrusted.
    text
        What is otherwise.
    """

    what: str
    where: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Give it as plain data."""
        return {"what": self.what, "where": self.where, "text": self.text}


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found; nothing means that the record holds."""

    name: str
    day: date
    changes: tuple[Change, ...]
    claims: int
    evidence: int

    @property
    def holds(self) -> bool:
        """Whether everything is as it was."""
        return not self.changes

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "record": self.name,
            "as_of": self.day.isoformat(),
            "holds": self.holds,
            "claims": self.claims,
            "evidence": self.evidence,
            "changes": [each.as_dict() for each in self.changes],
        }


# What nobody goes by any more need not follow any more; that it was not altered still matters.
OUT_OF_FORCE = frozenset({"rejected", "deprecated", "superseded"})


def check(path: Path, *, runs: Path | None, day: date, whole: bool = True) -> Checked:
    """Check a record.

    Parameters
    ----------
    path
        Its JSON file.
    runs
        The folder of runs, where evidence of runs was used.
    day
        As of when: what has expired by then is reported. A question with a date of its own does not age.
    whole
        Whether to judge it again even if it is out of force; otherwise only its text is checked then.
    """
    try:
        record = read(path)
    except InputError as error:
        return Checked(path.stem, day, (Change("text", path.name, str(error)),), 0, 0)
    changes = list(of_text(record, path))
    if whole or record.status.status not in OUT_OF_FORCE:
        changes += of_judgement(record.body, runs, day)
    claims = sum(len(each.claims) for each in record.body.evaluations)
    return Checked(record.body.name, day, tuple(changes), claims, len(record.body.evidence))


def of_text(record: Record, path: Path) -> Iterator[Change]:
    """Find what was altered in the record's own files."""
    if content_of(path) != as_json(record):
        yield Change("text", path.name, "its form is not the one in which it was written")
    if digest_of(record.written, record.text_sha256) != record.digest:
        yield Change("text", path.name, "what it says was altered: its digest differs")
    for at, entry in enumerate(record.history):
        if link(record.digest, record.history[:at], entry) != entry.sha256:
            yield Change("text", path.name, f"the status of {entry.on} was altered: its digest differs")
    text = content_of(path.with_suffix(".md"))
    if text is None:
        yield Change("text", path.with_suffix(".md").name, "it is missing")
    else:
        if sha256(unstatused(text)) != record.text_sha256:
            yield Change("text", path.with_suffix(".md").name, "its text was altered: its digest differs")
        if f"\nstatus: {record.status}\n" not in text:
            yield Change("text", path.with_suffix(".md").name, f"its status is not {str(record.status)!r}")
    page = content_of(path.with_suffix(".html"))
    if page is None:
        yield Change("text", path.with_suffix(".html").name, "it is missing; leptonami record render writes it again")
    elif sha256(page) != record.page_sha256:
        yield Change("text", path.with_suffix(".html").name, "it was altered; leptonami record render writes it again")
    if path.stem != record.body.name:
        yield Change("text", path.name, f"its name is not {record.body.name}")


def content_of(path: Path) -> str | None:
    """Read a file as it stands; bytes that are no UTF-8 make it another text, whatever stood in their place."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return f"not UTF-8: {content!r}"


def of_judgement(body: Body, runs: Path | None, day: date) -> Iterator[Change]:
    """Find what is otherwise when the record is judged again, on the evidence as it is now."""
    for before in body.evaluations:
        items, problems = collect(body.options, before.question, runs=runs, run_ids=body.runs, observed=body.observed)
        if before is body.main:
            yield from (Change("evidence", body.name, each) for each in problems)
        try:
            after = evaluate(body.options, body.criteria, before.question, day, items)
        except InputError as error:
            yield Change("outcome", before.question.id, f"it cannot be judged again: {error.message}")
            continue
        there = {each.about.id: each.about for each in items} | {each.id: each for each in after.evidence}
        for row in before.evidence:
            now = there.get(row.id)
            if now is None:
                yield Change("evidence", row.id, "it is missing")
            elif now.sha256 != row.sha256 or now.file_sha256 != row.file_sha256:
                yield Change("evidence", row.id, "its content is not what it was: the digest differs")
            elif now != row:
                yield Change("evidence", row.id, "what is said about it (source, date, versions) is not what it was")
        yield from compare(before, after)


def compare(before: Evaluation, after: Evaluation) -> Iterator[Change]:
    """Find the claims whose state is otherwise, and whether the outcome still follows."""
    old = {each.id: each for each in before.claims}
    for claim in after.claims:
        was = old.get(claim.id)
        if was is None:
            yield Change("claim", claim.id, f"it is new: {claim.state}")
        elif was.state is not claim.state:
            what = "expired" if claim.state is ClaimState.EXPIRED else "claim"
            yield Change(what, claim.id, f"it was {was.state} and is {claim.state}: {claim.why}")
    for id in old.keys() - {each.id for each in after.claims}:
        yield Change("claim", id, "it is gone")
    if before.decision.chosen != after.decision.chosen:
        words = f"{before.decision.chosen or 'none'} was chosen; now it would be {after.decision.chosen or 'none'}"
        yield Change("outcome", before.question.id, words)
