"""The questions, the options and the claims about them, as `data/options.yaml` (or a team's own file) states them.

A claim is one statement about one option: for or against it, on one criterion, with its source. Whether it holds is not
in the file: its check says so (`leptonami.decide.checks`), on the evidence there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from leptonami import datafiles
from leptonami.bench.experiment import VariantKind
from leptonami.catalog import Date
from leptonami.catalog import load as load_catalog
from leptonami.decide.checks import CHECKS, version_key
from leptonami.errors import InputError
from leptonami.recordings import recordings
from leptonami.validation import Matching, Strict, choose, near, validate
from leptonami.verdicts.scaledown import Branch
from leptonami.yamlfile import Document, Problem, read, refuse

__all__ = ["CheckUse", "Claim", "Option", "Options", "Question", "load"]

ORIGINAL = "original decision document"
Id = Annotated[str, Matching(r"[a-z0-9]+(?:-[a-z0-9]+)*", "an id", "small letters, digits and hyphens")]
ClaimId = Annotated[
    str,
    Matching(r"[a-z0-9]+(?:-[a-z0-9]+)*\.[a-z0-9]+(?:-[a-z0-9]+)*", "a claim's id", "the option's id, a dot, a name"),
]
# No space, bracket or quote: a source goes into Markdown and HTML as a link.
Source = Annotated[
    str,
    Matching(
        rf"https://[A-Za-z0-9.-]+/[A-Za-z0-9._~/?=&%+#@:,;-]*|{ORIGINAL}",
        "a source",
        f"an https:// address, or {ORIGINAL!r}",
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Number = Annotated[str, Matching(r"[0-9]+(?:\.[0-9]+)*", "a version", "digits and dots, without a v")]
Digest = r"sha256:[0-9a-f]{64}"


class CheckUse(Strict):
    """Which check a claim is put to, and with what.

    Attributes
    ----------
    name
        One of `checks.CHECKS`.
    expect
        What it has to find to support the claim.
    evidence
        The recordings that bear on the claim. Evidence of a run counts besides, where it is about the claim's option.
    branch
        For `scale-down`: only nodes that are kept for this reason (`verdicts.scaledown.Branch`).
    claims
        For `image-claims`: the beginnings of the findings' ids.
    version
        For `driver-image`: the driver's version or digest, if not the question's.
    variants
        For `launch-benchmark`: two kinds of variants (`bench.experiment.VariantKind`), of which the first is up sooner,
        or later, than the second.
    drivers
        For `launch-benchmark`: the benchmark's drivers that can tell; any if left out.
    """

    name: str
    expect: str = ""
    evidence: list[str] = Field(default=[])
    branch: str | None = None
    claims: list[str] = Field(default=[])
    version: Annotated[str, Matching(rf"[0-9.]+|{Digest}", "a version", "digits and dots, or a digest")] | None = None
    variants: list[str] = Field(default=[])
    drivers: list[str] = Field(default=[])


class Claim(Strict):
    """One statement about an option; the attributes are described at the top of `data/options.yaml`."""

    id: ClaimId
    text: Text
    criterion: Id
    side: Literal["pro", "con"]
    decides: bool = False
    sources: Annotated[list[Source], Field(min_length=1)]
    about: dict[str, Annotated[tuple[Number, Number], Field(strict=False)]] = Field(default={})
    shelf_life: Annotated[int, Field(ge=1, le=3650)] = 1095
    check: CheckUse | None = None


class Option(Strict):
    """One option.

    Attributes
    ----------
    family
        Of the catalog; its end of life is computed from there.
    built_by_leptonami
        Whether a build by leptonami on that family is this option: then the run's evidence is about it.
    """

    id: Id
    title: Text
    what: Text
    maintainer: Text
    family: str
    built_by_leptonami: bool = False
    claims: Annotated[list[Claim], Field(min_length=1)]


class FallBack(Strict):
    """The way back if the chosen option goes wrong: to which option, how, when, and the runbook's name."""

    to: Id
    runbook: Id
    how: Text
    when: Annotated[list[Text], Field(min_length=1)]


class Question(Strict):
    """What is asked, of when, and for which versions.

    Attributes
    ----------
    date
        The day it is judged for; None for the day on which somebody asks.
    versions
        What it is about: `kubernetes`, `gpu-operator` and so on.
    systems
        The version of each family's operating system.
    fall_back
        The way back.
    """

    id: Id
    title: Text
    context: Text
    date: Date | None = None
    versions: dict[str, Number]
    systems: dict[str, str]
    options: Annotated[list[str], Field(min_length=2)]
    fall_back: FallBack | None = None

    @property
    def kubernetes(self) -> str:
        """The Kubernetes version."""
        return self.versions["kubernetes"]


class Options(Strict):
    """The whole file."""

    schema_: Literal[1] = Field(alias="schema")
    read: Date
    questions: Annotated[list[Question], Field(min_length=1)]
    options: Annotated[list[Option], Field(min_length=2)]

    def question(self, id: str) -> Question:
        """Find a question.

        Raises
        ------
        InputError
            If there is none, naming what there is.
        """
        for each in self.questions:
            if each.id == id:
                return each
        hint = choose(id, [each.id for each in self.questions], "questions")
        raise InputError(f"there is no question {id!r}", resource="question", hint=hint)

    def option(self, id: str) -> Option:
        """Find an option whose id is known to be there."""
        return next(each for each in self.options if each.id == id)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data, as it would stand in a file."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """The SHA-256 of what it says, whatever its layout and comments."""
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path | str | None = None) -> Options:
    """Read the options that come with the package, or a file of one's own.

    Raises
    ------
    InputError
        If there is no such file, or it has mistakes: all of them, with their lines.
    """
    document = read(path or datafiles.path("options.yaml"), what="options file")
    model, problems = validate(Options, document)
    if model is not None:
        problems += mistakes(model, document)
    refuse(problems, what="options file")
    assert model is not None  # noqa: S101 - without problems there is a model
    return model


def mistakes(model: Options, document: Document) -> list[Problem]:
    """Find what does not fit together: ids that are there twice, names that nothing has."""
    return [document.problem(*each) for each in (*of_questions(model), *of_options(model))]


Mistake = tuple[tuple[str | int, ...], str, str | None]


def of_questions(model: Options) -> Iterator[Mistake]:
    """Find mistakes in the questions."""
    families = load_catalog().families
    options = {each.id: each for each in model.options}
    if len({each.id for each in model.questions}) < len(model.questions):
        yield ("questions",), "two questions have the same id", None
    for at, question in enumerate(model.questions):
        if "kubernetes" not in question.versions:
            yield ("questions", at, "versions"), "the question names no version of kubernetes", None
        for n, name in enumerate(question.options):
            place = ("questions", at, "options", n)
            if name not in options:
                yield place, f"there is no option {name!r}", near(name, options)
            elif options[name].family not in question.systems:
                yield place, f"`systems` names no version of {options[name].family}, which {name} is of", None
        if question.fall_back and question.fall_back.to not in options:
            yield ("questions", at, "fall_back", "to"), f"there is no option {question.fall_back.to!r}", None
        for family, system in question.systems.items():
            if family not in families or system not in families[family].systems:
                yield (
                    ("questions", at, "systems", family),
                    f"the catalog has no {family} {system}",
                    "leptonami catalog list",
                )


def of_options(model: Options) -> Iterator[Mistake]:
    """Find mistakes in the options and their claims."""
    families = load_catalog().families
    if len({each.id for each in model.options}) < len(model.options):
        yield ("options",), "two options have the same id", None
    seen: set[str] = set()
    for at, option in enumerate(model.options):
        if option.family not in families:
            yield ("options", at, "family"), f"no such family: {option.family!r}", near(option.family, families)
        for n, claim in enumerate(option.claims):
            place: tuple[str | int, ...] = ("options", at, "claims", n)
            start, _, rest = claim.id.partition(".")
            if claim.id in seen:
                yield (*place, "id"), f"a second claim {claim.id!r}", None
            if start != option.id:
                yield (*place, "id"), "a claim's id begins with its option's", f"{option.id}.{rest}"
            seen.add(claim.id)
            for name, (first, last) in claim.about.items():
                if version_key(first) > version_key(last):
                    yield (*place, "about", name), f"{first} comes after {last}", None
            for message, hint in of_check(claim.check) if claim.check else ():
                yield (*place, "check"), message, hint


def of_check(use: CheckUse) -> list[tuple[str, str | None]]:
    """Find what is wrong with the use of a check."""
    check = CHECKS.get(use.name)
    if check is None:
        return [(f"there is no check {use.name!r}", near(use.name, CHECKS) or f"checks: {', '.join(CHECKS)}")]
    found: list[tuple[str, str | None]] = []
    if use.expect not in check.expects:
        found.append((f"{use.name} cannot expect {use.expect!r}", f"one of {', '.join(check.expects)}"))
    known = [each.id for each in recordings()]
    found += [
        (f"there is no recording {each!r}", near(each, known) or f"recordings: {', '.join(known)}")
        for each in use.evidence
        if each not in known
    ]
    if use.name == "launch-benchmark" and (len(use.variants) != 2 or not {*use.variants} <= {*get_args(VariantKind)}):
        kinds = ", ".join(get_args(VariantKind))
        found.append((f"{use.name} compares two kinds of variants, not {use.variants}", f"two of {kinds}"))
    if use.branch is not None and use.branch not in list(Branch):
        found.append((f"there is no branch {use.branch!r}", near(use.branch, list(Branch))))
    return found
