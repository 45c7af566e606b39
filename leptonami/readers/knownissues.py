"""The known issues of GPU nodes on EKS, as data, and where a text shows them.

`data/known-issues.yaml` has one entry for each: the symptom, the cause, the remedy and where it is known from. `match`
finds them in any text: a log, a listing, events. A finding names the lines that prove it. What the catalogue says is
only as sure as its `certainty`, and an issue that shows in a state instead of a message has `signs` for a person and no
symptom.

A text is searched once for the fixed parts of all symptoms, and with the patterns only where such a part stands, so
that 100 MB of log take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from leptonami import datafiles
from leptonami.errors import InputError
from leptonami.readers.issue import KINDS, NOT_AFFECTED, Affected, Issue, Match, Symptom
from leptonami.readers.issuesearch import Search, chunks
from leptonami.validation import Strict, validate
from leptonami.yamlfile import Document, Location, Problem, read, refuse

__all__ = ["KINDS", "NOT_AFFECTED", "Affected", "Issue", "Match", "Search", "Symptom", "catalogue", "load", "match"]


class CatalogueFile(Strict):
    """What `data/known-issues.yaml` holds."""

    schema_: Literal[1] = Field(alias="schema")
    source: str
    issues: list[Issue]


def match(
    text: str | Iterable[str],
    *,
    source: str = "",
    kind: str | None = None,
    versions: Mapping[str, str] | None = None,
    issues: Sequence[Issue] | None = None,
) -> list[Match]:
    """Find the known issues that a text shows, in one pass.

    Parameters
    ----------
    text
        The text, or its lines. Anything at all may stand in it.
    source
        The file's name, for the proofs.
    kind
        What kind of text it is, one of `KINDS`: only what shows in such a text is looked for. None looks for all.
    versions
        Which version of a component is in use, such as `{"cluster-autoscaler": "1.27.3"}`. An issue that this version
        does not have is found all the same, and marked.
    issues
        What to look for instead of the catalogue, for instance `load(path)`.

    Returns
    -------
    list of Match
        One for each issue, in the catalogue's order.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind of text: {kind!r}", resource="kind", hint="one of " + ", ".join(KINDS))
    search = Search((each for each in (catalogue() if issues is None else issues) if each.looked_for_in(kind)), source)
    for chunk in chunks(text):
        search.feed(chunk)
    return search.found(versions or {})


@lru_cache(maxsize=1)
def catalogue() -> tuple[Issue, ...]:
    """Give the known issues that come with the package.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    return load(datafiles.path("known-issues.yaml"))


def load(path: Path | str) -> tuple[Issue, ...]:
    """Read a file of known issues: the package's, or anybody's own.

    Raises
    ------
    InputError
        If there is no such file, or it has mistakes: all of them, each with its line. A pattern that could take long,
        an id that is there twice and an example that does not show its issue are mistakes.
    """
    document = read(path, what="list of known issues")
    model, problems = validate(CatalogueFile, document)
    refuse(problems, what="list of known issues")
    assert model is not None  # noqa: S101 - without problems there is a model
    refuse(list(mistakes(model.issues, document)), what="list of known issues")
    return tuple(model.issues)


def mistakes(issues: Sequence[Issue], document: Document) -> Iterator[Problem]:
    """Find what the entries get wrong among themselves, and whether each shows in its own examples."""
    ids: dict[str, int] = {}
    for number, issue in enumerate(issues):
        place: Location = ("issues", number)
        if issue.id in ids:
            yield document.problem((*place, "id"), f"{issue.id} is there twice")
        ids.setdefault(issue.id, number)
    for number, issue in enumerate(issues):
        place = ("issues", number)
        for position, other in enumerate(issue.overlaps):
            if other not in ids:
                yield document.problem((*place, "overlaps", position), f"there is no {other}")
        if not issue.symptoms:
            continue
        for position, example in enumerate(issue.examples):
            if not match(example, issues=[issue]):
                yield document.problem((*place, "examples", position), f"{issue.id} does not match its own example")
        for position, example in enumerate(issue.near_misses):
            if match(example, issues=[issue]):
                yield document.problem((*place, "near_misses", position), f"{issue.id} matches its near miss")
