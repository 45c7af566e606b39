"""A known issue: how it shows, why, and what to do; and the finding that a text shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from leptonami.proof import Proof
from leptonami.readers.patterns import Pattern, compile_pattern
from leptonami.validation import Matching, Strict, Wrong

__all__ = ["KINDS", "NOT_AFFECTED", "Affected", "Issue", "Match", "Symptom"]

NOT_AFFECTED = "not affected according to the catalogue"

Kind = Literal[
    "any",
    "asg-activities",
    "autoscaler-log",
    "cloud-init-log",
    "device-plugin-log",
    "driver-log",
    "events",
    "node-journal",
    "node-labels",
    "nvidia-smi",
    "operator-listing",
    "operator-log",
    "toolkit-log",
    "validator-log",
    "workload-log",
]
KINDS: tuple[str, ...] = tuple(each for each in get_args(Kind) if each != "any")


def to_pattern(value: Any) -> Any:
    """Read a pattern; `compile_pattern` says what is wrong with it."""
    if isinstance(value, str):
        compile_pattern(value)
    return value


Regex = Annotated[str, BeforeValidator(to_pattern)]
Id = Annotated[str, Matching(r"[A-Z]{1,4}[0-9]{2,4}", "the id of an issue", "write it like K01, or TEAM07")]
Version = Annotated[
    str, Matching(r"v?[0-9]{1,5}(?:\.[0-9]{1,5}){0,3}", "a version", 'write it like "1.27.1" or "v25.10", in quotes')
]
Source = Annotated[
    str,
    Matching(
        r"https://[a-z0-9.-]+/\S*|docs|source|a public repository|the original decision document",
        "a source",
        "an https address, or one of: docs, source, a public repository, the original decision document",
    ),
]


class Symptom(Strict):
    """A pattern, and how many lines must match it.

    Attributes
    ----------
    pattern
        A regular expression for one line, as `leptonami.readers.patterns` allows it.
    at_least
        How many lines must match.
    """

    pattern: Regex
    at_least: Annotated[int, Field(ge=1, le=100)] = 1

    @property
    def compiled(self) -> Pattern:
        """The pattern, ready to be used."""
        return compile_pattern(self.pattern)


class Affected(Strict):
    """Which versions of which component have the issue.

    Attributes
    ----------
    component
        `gpu-operator`, `cluster-autoscaler`, …
    first, last
        The first and the last version that has it; None where nobody knows. `v25.10` stands for all of its patches.
    """

    component: str
    first: Version | None = None
    last: Version | None = None

    def has(self, version: str) -> bool | None:
        """Tell whether a version is among them; None if the version cannot be read."""
        number = parts(version)
        if number is None:
            return None
        for bound, sign in ((self.first, -1), (self.last, 1)):
            limit = parts(bound) if bound else None
            # As many parts as both have: 1.34.2 is not past 1.34.
            if limit and (cmp := compare(number, limit)) and cmp == sign:
                return False
        return True


class Issue(Strict):
    """One known issue.

    Attributes
    ----------
    id, title
        What it is called.
    where
        In which kinds of text it shows; `any` if it does not matter.
    symptoms
        The patterns by which a text shows it. Empty for an issue that only a state shows.
    need
        Whether any of the symptoms is enough, or all are needed.
    signs
        What a person looks for, in words, where the patterns do not say it all.
    cause, remedy
        Why it happens, and what to do.
    sources
        Where it is known from.
    affected
        The versions that have it, where they are known.
    certainty
        `documented` by the project, `reported` in a public issue, read in the `source`, or an `inference` of ours.
    examples, near_misses
        Texts that show it and a text that does not. Synthetic; a file whose own examples fail is refused.
    overlaps
        Issues whose examples show this one too.
    """

    id: Id
    title: str
    where: Annotated[list[Kind], Field(min_length=1)]
    symptoms: list[Symptom] = Field(default=[])
    need: Literal["any", "all"] = "any"
    signs: str | None = None
    cause: str
    remedy: str
    sources: Annotated[list[Source], Field(min_length=1)]
    affected: Affected | None = None
    certainty: Literal["documented", "reported", "source", "inference"]
    examples: list[str] = Field(default=[])
    near_misses: list[str] = Field(default=[])
    overlaps: list[Id] = Field(default=[])

    @model_validator(mode="after")
    def something_to_go_by(self) -> Issue:
        """Refuse an issue that nobody could recognise."""
        if not self.symptoms and not self.signs:
            raise Wrong(f"{self.id} has neither symptoms nor signs", "give a pattern, or say in words what to look for")
        return self

    def looked_for_in(self, kind: str | None) -> bool:
        """Tell whether it may show in a kind of text; None is any kind."""
        return kind is None or "any" in self.where or kind in self.where


@dataclass(frozen=True, slots=True)
class Match:
    """A known issue that a text shows.

    Attributes
    ----------
    issue
        The entry of the catalogue.
    count
        On how many lines it shows.
    proofs
        The first of them.
    affected
        Whether the version in use has the issue according to the catalogue; None if either is not known.
    """

    issue: Issue
    count: int
    proofs: tuple[Proof, ...]
    affected: bool | None = None

    @property
    def note(self) -> str:
        """What to know about the finding; empty if there is nothing."""
        if self.affected is False:
            return NOT_AFFECTED
        return "an inference, not tested on a cluster" if self.issue.certainty == "inference" else ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, for `--json`."""
        return {
            "id": self.issue.id,
            "title": self.issue.title,
            "cause": self.issue.cause,
            "remedy": self.issue.remedy,
            "certainty": self.issue.certainty,
            "sources": list(self.issue.sources),
            "affected": self.affected,
            "note": self.note,
            "count": self.count,
            "proofs": [each.as_dict() for each in self.proofs],
        }


def parts(version: str) -> tuple[int, ...] | None:
    """Give a version's numbers, without what follows them (`-eks-a1b2c3`); None if it has none."""
    found = re.match(r"\s{0,9}v?([0-9]{1,9}(?:\.[0-9]{1,9}){0,3})", version)
    return tuple(int(each) for each in found[1].split(".")) if found else None


def compare(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Compare as many parts as both have: -1, 0 or 1."""
    length = min(len(one), len(other))
    return (one[:length] > other[:length]) - (one[:length] < other[:length])
