"""The state of each claim: supported, refuted, contested, not tested, or expired; with the evidence that says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Literal

from leptonami.decide.bearing import Bearing, Direction
from leptonami.decide.checks import CHECKS, Context, version_key
from leptonami.decide.evidence import Item, weakest
from leptonami.decide.options import Claim, Option, Options, Question
from leptonami.target import Provenance

__all__ = ["ClaimResult", "ClaimState", "judge", "judge_all"]


class ClaimState(StrEnum):
    """How a claim stands."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    CONTESTED = "contested"
    NOT_TESTED = "not tested"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim and how it stands.

    Parameters
    ----------
    id, option, criterion, side, decides, text, sources
        As the options file has them.
    state, why
        How it stands, and why in a sentence.
    bearings
        The evidence that was looked at, and where each piece points.
    check
        The check's name; None if there is none.
    """

    id: str
    option: str
    criterion: str
    side: Literal["pro", "con"]
    decides: bool
    text: str
    sources: tuple[str, ...]
    state: ClaimState
    why: str
    bearings: tuple[Bearing, ...] = ()
    check: str | None = None

    @property
    def provenance(self) -> Provenance | None:
        """The weakest provenance of what its state rests on; None if that is no evidence."""
        return weakest(each.evidence.provenance for each in self.bearings if each.direction is not Direction.NEITHER)

    @property
    def counted(self) -> ClaimState:
        """How it counts: what only the lab has shown counts as not tested, for nothing in it is a driver or a GPU."""
        telling = [
            each.evidence for each in self.bearings if each.direction is not Direction.NEITHER and not each.stale
        ]
        simulated = bool(telling) and all(each.provenance == "simulated" for each in telling)
        return ClaimState.NOT_TESTED if simulated and self.state is not ClaimState.EXPIRED else self.state


def judge_all(options: Options, question: Question, day: date, items: Sequence[Item]) -> tuple[ClaimResult, ...]:
    """Judge every claim about the options of a question, as of a day."""
    return tuple(
        judge(claim, option, question, day, items, read=options.read)
        for option in (options.option(id) for id in question.options)
        for claim in option.claims
    )


def judge(
    claim: Claim, option: Option, question: Question, day: date, items: Sequence[Item], *, read: date
) -> ClaimResult:
    """Judge one claim.

    Parameters
    ----------
    read
        When its sources were read: a claim without a check expires when that is longer ago than its shelf life.
    """
    bearings: tuple[Bearing, ...] = ()
    if claim.check is not None and claim.check.name in CHECKS:
        context = Context(option, question, day, items)
        bearings = tuple(CHECKS[claim.check.name].run(claim.check, context))
        life = timedelta(days=claim.shelf_life)
        bearings = tuple(
            replace(each, stale=day - each.evidence.day > life) if each.direction is not Direction.NEITHER else each
            for each in bearings
        )
    state, why = state_of(claim, question, bearings, old=day - read > timedelta(days=claim.shelf_life), read=read)
    return ClaimResult(
        id=claim.id,
        option=option.id,
        criterion=claim.criterion,
        side=claim.side,
        decides=claim.decides,
        text=" ".join(claim.text.split()),
        sources=tuple(claim.sources),
        state=state,
        why=why,
        bearings=bearings,
        check=claim.check.name if claim.check else None,
    )


def state_of(
    claim: Claim, question: Question, bearings: Sequence[Bearing], *, old: bool, read: date
) -> tuple[ClaimState, str]:
    """Work out how a claim stands, and say why.

    Parameters
    ----------
    old
        Whether its sources were read longer ago than its shelf life.
    """
    if (gone := out_of_use(claim, question)) is not None:
        return ClaimState.EXPIRED, gone
    telling = [each for each in bearings if each.direction is not Direction.NEITHER]
    fresh = [each for each in telling if not each.stale]
    if telling and not fresh:
        last = max(each.evidence.day for each in telling)
        return ClaimState.EXPIRED, f"its newest evidence is of {last}, older than {claim.shelf_life} days"
    if fresh:
        return weighed(fresh)
    # Somebody tested it, with what is no longer in use: that is another thing than never tested. The lab tests nothing.
    outdated = (each for each in bearings if each.stale and each.evidence.provenance != "simulated")
    if (former := next(outdated, None)) is not None:
        return ClaimState.EXPIRED, f"its evidence does not count: {former.text}"
    if old:
        return ClaimState.EXPIRED, f"its sources were read on {read}, longer ago than {claim.shelf_life} days"
    return ClaimState.NOT_TESTED, untested(claim, bearings)


def weighed(fresh: Sequence[Bearing]) -> tuple[ClaimState, str]:
    """Work out how a claim stands that there is evidence for."""
    speaking = [each for each in fresh if each.direction is Direction.FOR]
    against = [each for each in fresh if each.direction is Direction.AGAINST]
    if speaking and against:
        return ClaimState.CONTESTED, f"{count(speaking)} for it, {count(against)} against it"
    if speaking:
        return ClaimState.SUPPORTED, f"{count(speaking)} for it, none against it"
    return ClaimState.REFUTED, f"{count(against)} against it, none for it"


def untested(claim: Claim, bearings: Sequence[Bearing]) -> str:
    """Say why a claim has not been tested."""
    if claim.check is None:
        return "stated by its source, and there is no check for it"
    if bearings:
        return f"the evidence does not tell: {bearings[0].text}"
    return CHECKS[claim.check.name].lacking


def out_of_use(claim: Claim, question: Question) -> str | None:
    """Say that a claim is about versions that the question is not about; None if it is about them."""
    asked = {**question.systems, **question.versions}
    for name, (first, last) in claim.about.items():
        version = asked.get(name)
        if version is not None and not within(version, first, last):
            span = first if first == last else f"{first} to {last}"
            return f"it is about {name} {span}, and the question is about {version}"
    return None


def within(version: str, first: str, last: str) -> bool:
    """Tell whether a version is in a range; releases of its last version are, as 1.32.4 is of 1.32.

    >>> within("1.32.4", "1.21", "1.32"), within("1.33", "1.21", "1.32"), within("1.21", "1.21.0", "1.32")
    (True, False, True)
    """
    start, end = version_key(first), version_key(last)
    key = version_key(version)
    padded = key + (0,) * (len(start) - len(key))
    return start <= padded and key[: len(end)] <= end


def count(bearings: Iterable[Bearing]) -> str:
    """Count pieces of evidence."""
    number = len({each.evidence.id for each in bearings})
    return f"{number} piece{'s' if number != 1 else ''} of evidence"
