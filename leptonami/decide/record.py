"""The decision record: a value that says everything its text does, kept in a file that shows when it was altered.

All but its status is immutable: a digest covers the value and its Markdown, and statuses form a chain in which each has
a digest of all before it. That shows a change; it does not show who made it, for which there is git. `store` keeps
records in files, `verify` checks them, `madr` writes them for readers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from pydantic import TypeAdapter

from leptonami.decide.criteria import Criteria
from leptonami.decide.evaluate import Evaluation, evaluate
from leptonami.decide.evidence import Evidence, Item, weakest
from leptonami.decide.options import Options
from leptonami.errors import InputError
from leptonami.target import Provenance

__all__ = [
    "STATUSES",
    "STATUS_LINE",
    "About",
    "Body",
    "Entry",
    "Record",
    "Status",
    "add_status",
    "canonical",
    "digest_of",
    "link",
    "make",
    "new",
    "plain",
    "sha256",
    "unstatused",
]

Status = Literal["proposed", "rejected", "accepted", "deprecated", "superseded"]
STATUSES: tuple[Status, ...] = ("proposed", "rejected", "accepted", "deprecated", "superseded")
STATUS_LINE = re.compile(r"^status: .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Body:
    """What never changes.

    Parameters
    ----------
    number, title, day
        Of the record.
    decision_makers, consulted, informed
        People, as MADR has them.
    options, criteria
        What was judged, whole: so that the record can be judged again when the files have changed.
    evaluations
        The question that is decided, and further ones for comparison.
    runs, observed
        The runs whose evidence was used besides the recordings, and the option that their cluster had.
    """

    number: int
    title: str
    day: date
    decision_makers: tuple[str, ...]
    consulted: tuple[str, ...]
    informed: tuple[str, ...]
    options: Options
    criteria: Criteria
    evaluations: tuple[Evaluation, ...]
    runs: tuple[str, ...] = ()
    observed: str = ""

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.number:04d}-{slug(self.title)}"

    @property
    def main(self) -> Evaluation:
        """The evaluation that is the decision."""
        return self.evaluations[0]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All evidence of all its evaluations, in the order of the ids."""
        found = {each.id: each for evaluation in self.evaluations for each in evaluation.evidence}
        return tuple(found[id] for id in sorted(found))

    @property
    def provenance(self) -> Provenance | None:
        """The weakest provenance of anything in it."""
        return weakest(each.provenance for each in self.evaluations if each.provenance)


@dataclass(frozen=True, slots=True)
class Entry:
    """One status.

    Parameters
    ----------
    status, on
        What it was, from when.
    by
        The record that supersedes it.
    note
        Why.
    override
        Why it is accepted although nothing but simulation speaks for it.
    sha256
        Of this entry, the record, and every entry before it.
    """

    status: Status
    on: date
    by: str = ""
    note: str = ""
    override: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.status} by {self.by}" if self.by else self.status


@dataclass(frozen=True, slots=True)
class Record:
    """A record with its statuses; the last one holds.

    Parameters
    ----------
    body
        What it says.
    written
        The same as JSON, as it was written: a later version may know more fields, and the digest must stay.
    digest, text_sha256, page_sha256
        Of what never changes; of the Markdown without its status; of the page.
    history
        The statuses.
    """

    body: Body
    written: str
    digest: str
    text_sha256: str
    page_sha256: str
    history: tuple[Entry, ...]

    @property
    def status(self) -> Entry:
        """The status that holds."""
        return self.history[-1]


def slug(title: str) -> str:
    """Make a file's name of a title.

    Raises
    ------
    InputError
        If nothing is left of it.

    >>> slug("Node group AMI")
    'node-group-ami'
    """
    found = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80].strip("-")
    if not found:
        raise InputError(f"no name can be made of the title {title!r}", resource="title", hint="use letters")
    return found


# --- making one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    """What a person says about a record: number, title (the question's by default), who took part, which evidence."""

    number: int = 1
    title: str = ""
    decision_makers: tuple[str, ...] = ()
    consulted: tuple[str, ...] = ()
    informed: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    observed: str = ""


def make(
    options: Options, criteria: Criteria, questions: Sequence[str], items: Sequence[Item], *, day: date, about: About
) -> Body:
    """Judge the questions and put a record's value together.

    Parameters
    ----------
    questions
        The question that is decided, then those for comparison.
    items
        The evidence.
    day
        The record's date.

    Raises
    ------
    InputError
        If there is no such question, or no file can be named after the title.
    """
    writable(about.title, *about.decision_makers, *about.consulted, *about.informed)
    title = " ".join((about.title or options.question(questions[0]).title).split())
    slug(title)
    return Body(
        number=about.number,
        title=title,
        day=day,
        decision_makers=about.decision_makers,
        consulted=about.consulted,
        informed=about.informed,
        options=options,
        criteria=criteria,
        evaluations=tuple(evaluate(options, criteria, options.question(id), day, items) for id in questions),
        runs=about.runs,
        observed=about.observed,
    )


def new(body: Body, status: Status = "proposed", *, note: str = "", override: str = "") -> Record:
    """Make a record of a value, with its first status.

    Raises
    ------
    InputError
        If it is to be accepted and nothing measured or recorded speaks for the chosen option, unless `override` says
        why.
    """
    from leptonami.decide import madr

    text = sha256(madr.markdown(body, ""))
    written = json.dumps(plain(body), ensure_ascii=False)
    record = Record(body, written, digest_of(written, text), text, "", ())
    return add_status(record, status, body.day, note=note, override=override)


def add_status(record: Record, status: Status, on: date, *, by: str = "", note: str = "", override: str = "") -> Record:
    """Give a record a new status; the old ones stay.

    Raises
    ------
    InputError
        If the status is none, is of an earlier day than the last, or is not allowed on this evidence.
    """
    if status not in STATUSES:
        raise InputError(f"no such status: {status!r}", resource="status", hint=f"one of {', '.join(STATUSES)}")
    if (status == "superseded") is not bool(by):
        raise InputError("a record is superseded by another", resource="status", hint="name it with --by 0002")
    if by == record.body.name:
        raise InputError("a record cannot supersede itself", resource="status", hint="name the newer one with --by")
    if record.history and on < record.status.on:
        raise InputError(f"{on} is before its last status, of {record.status.on}", resource="status")
    writable(by, note, override)
    if status == "accepted":
        refuse_simulated(record.body, override)
    entry = Entry(status, on, by=by, note=note, override=override)
    entry = replace(entry, sha256=link(record.digest, record.history, entry))
    return replace(record, history=(*record.history, entry))


def writable(*texts: str) -> None:
    """Refuse what no file can hold: bytes of a command line that are no UTF-8.

    Raises
    ------
    InputError
        Naming the text.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"not UTF-8: {text!r}", resource="record", hint="type it again, as UTF-8") from error


def refuse_simulated(body: Body, override: str) -> None:
    """Refuse to accept what nothing but simulation speaks for.

    Raises
    ------
    InputError
        Unless `override` says why.
    """
    if any(each.provenance != "simulated" for each in body.main.observations) or override.strip():
        return
    what = "only simulated evidence" if body.main.observations else "no observation"
    raise InputError(
        f"it cannot be accepted: {what} speaks for {body.main.decision.chosen or 'any option'}",
        resource=body.name,
        hint='collect evidence on a cluster, or say why it is accepted all the same: --override "..."',
    )


# --- digests ----------------------------------------------------------------------------------------------------------


def sha256(text: str) -> str:
    """Give a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Give a value as plain data."""
    return adapter(type(value)).dump_python(value, mode="json", by_alias=True)


ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Give what turns values of a kind into plain data and back; it is made once."""
    if kind.__name__ not in ADAPTERS:
        ADAPTERS[kind.__name__] = TypeAdapter(kind)
    return ADAPTERS[kind.__name__]


def canonical(value: Any) -> str:
    """Write plain data in its one form."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest_of(written: str, text_sha256: str) -> str:
    """Give the digest of what never changes."""
    return sha256(canonical([json.loads(written), text_sha256]))


def link(digest: str, before: Iterable[Entry], entry: Entry) -> str:
    """Give the digest of a status, the record, and the statuses before it."""
    last = [each.sha256 for each in before][-1:]
    said = {name: value for name, value in plain(replace(entry, sha256="")).items() if value}
    return sha256(canonical([digest, last, said]))


def unstatused(text: str) -> str:
    """Take the status out of a record's Markdown: all else must stay as it is."""
    return STATUS_LINE.sub("status: ", text, count=1)
