"""From the states of claims to an outcome: scores, must-haves, and how little would have to change to turn it over.

An option's score on a criterion is the mean of what its claims count: 1 for what was tested and holds (less for what
only a source states), with the sign of its side. A refuted advantage counts against the option; a refuted objection
falls away. What is contested counts nothing, what has expired is left out, and what only the lab has shown counts as
not tested. The total is the mean of these scores by
weight, from -1 to 1. A must-have that fails excludes an option whatever its total.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from leptonami.decide.claims import ClaimResult, ClaimState
from leptonami.decide.criteria import Criteria, Criterion

__all__ = ["EXACT", "Decision", "Flip", "Must", "Scored", "Turn", "decide", "flips", "turns", "without_musts"]

EXACT = 1e-9  # totals that differ by less are the same: what is left is rounding


class Must(StrEnum):
    """How an option stands to a must-have."""

    SHOWN = "shown"
    FAILS = "fails"
    CONTESTED = "contested"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True, slots=True)
class Scored:
    """An option's result.

    Parameters
    ----------
    option
        Its id.
    scores
        By criterion, from -1 to 1; None where no claim that counts bears on it (which adds nothing).
    musts
        How it stands to each must-have.
    total
        The mean of the scores by weight.
    """

    option: str
    scores: dict[str, float | None]
    musts: dict[str, Must]
    total: float

    @property
    def excluded(self) -> bool:
        """Whether it fails a must-have."""
        return Must.FAILS in self.musts.values()


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome.

    Parameters
    ----------
    options
        Every option, the best first; the excluded ones last.
    chosen
        The best that no must-have excludes; None if there is none.
    tied
        Those with the same total as the chosen one; the order of the question decided between them.
    """

    options: tuple[Scored, ...]
    chosen: str | None
    tied: tuple[str, ...] = ()

    def of(self, option: str) -> Scored:
        """Find the result of an option."""
        return next(each for each in self.options if each.option == option)

    @property
    def left(self) -> tuple[Scored, ...]:
        """The options that no must-have excludes, the best first."""
        return tuple(each for each in self.options if not each.excluded)


def counts(claim: ClaimResult, untested: float) -> float | None:
    """Say how much a claim counts for its option; None if it is left out."""
    pro = claim.side == "pro"
    match claim.counted:
        case ClaimState.SUPPORTED:
            return 1.0 if pro else -1.0
        case ClaimState.REFUTED:
            return -1.0 if pro else 0.0
        case ClaimState.CONTESTED:
            return 0.0
        case ClaimState.NOT_TESTED:
            return untested if pro else -untested
    return None


def must_of(claims: Iterable[ClaimResult]) -> Must:
    """Say how an option stands to a must-have, by the claims on it that decide."""
    deciding = [each for each in claims if each.decides]
    shown = any(each.side == "pro" and each.counted is ClaimState.SUPPORTED for each in deciding)
    failed = any(
        each.counted is (ClaimState.SUPPORTED if each.side == "con" else ClaimState.REFUTED) for each in deciding
    )
    if failed:
        return Must.CONTESTED if shown else Must.FAILS
    if any(each.counted is ClaimState.CONTESTED for each in deciding):
        return Must.CONTESTED
    return Must.SHOWN if shown else Must.NOT_SHOWN


def decide(claims: Sequence[ClaimResult], criteria: Criteria) -> Decision:
    """Score every option and choose.

    Parameters
    ----------
    claims
        The claims and their states; the options come in the order in which they first appear.
    criteria
        The criteria and their weights.
    """
    scored = [
        score([each for each in claims if each.option == option], option, criteria)
        for option in dict.fromkeys(each.option for each in claims)
    ]
    ordered = sorted(scored, key=lambda each: (each.excluded, -round(each.total, 9)))
    left = [each for each in ordered if not each.excluded]
    if not left:
        return Decision(tuple(ordered), None)
    tied = tuple(each.option for each in left[1:] if abs(each.total - left[0].total) < EXACT)
    return Decision(tuple(ordered), left[0].option, tied)


def score(claims: Sequence[ClaimResult], option: str, criteria: Criteria) -> Scored:
    """Score one option."""
    scores: dict[str, float | None] = {}
    for criterion in criteria.criteria:
        values = [counts(each, criteria.untested) for each in claims if each.criterion == criterion.id]
        counted = [each for each in values if each is not None]
        scores[criterion.id] = sum(counted) / len(counted) if counted else None
    musts = {
        each.id: must_of(claim for claim in claims if claim.criterion == each.id)
        for each in criteria.criteria
        if each.must
    }
    return Scored(option, scores, musts, total(scores, criteria.criteria))


def total(scores: Mapping[str, float | None], criteria: Sequence[Criterion]) -> float:
    """Give the mean of scores by weight; 0 if no criterion has any."""
    weights = sum(each.weight for each in criteria)
    return sum(each.weight * (scores[each.id] or 0.0) for each in criteria) / weights if weights else 0.0


# --- what would turn it over ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flip:
    """The weight of one criterion beyond which another option leads, all other weights as they are.

    Parameters
    ----------
    criterion, weight
        Whose weight, and what it is now.
    at, above
        Where the outcome turns over, and whether above or below that.
    option
        Which option leads then.
    """

    criterion: str
    weight: float
    at: float
    above: bool
    option: str


def flips(decision: Decision, criteria: Criteria) -> tuple[Flip, ...]:
    """Find for each criterion the nearest weights, above and below, at which the outcome turns over.

    The lead of the chosen option over another is a sum of weight times difference in score, so each weight has one
    value at which that lead is nought, in closed form; the nearest of all rivals' is where the outcome turns over.
    Must-haves exclude whatever the weights are.
    """
    if decision.chosen is None:
        return ()
    chosen = decision.of(decision.chosen)
    found: list[Flip] = []
    for criterion in criteria.criteria:
        crossings = list(crossings_of(chosen, decision.left, criterion, criteria))
        above = [each for each in crossings if each.above]
        below = [each for each in crossings if not each.above]
        found += [min(above, key=lambda each: each.at)] if above else []
        found += [max(below, key=lambda each: each.at)] if below else []
    return tuple(found)


def crossings_of(chosen: Scored, left: Iterable[Scored], criterion: Criterion, criteria: Criteria) -> Iterator[Flip]:
    """Give the weights of one criterion at which each rival draws level with the chosen option.

    A rival that is level already leads at the least change towards it: its weight is the one there is.
    """
    for rival in left:
        if rival.option == chosen.option:
            continue
        # Below nought is only rounding: nobody is before the chosen one.
        lead = max(0.0, sum(each.weight * difference(chosen, rival, each.id) for each in criteria.criteria))
        step = difference(chosen, rival, criterion.id)
        if abs(step) < EXACT:
            continue
        at = criterion.weight - lead / step
        # Nobody can give a weight below nought. At nought the two are level, and the order of the question decides.
        if step < 0 or (at >= 0 and criterion.weight > 0):
            yield Flip(criterion.id, criterion.weight, at, step < 0, rival.option)


def difference(one: Scored, other: Scored, criterion: str) -> float:
    """By how much one option scores higher than another on a criterion."""
    return (one.scores[criterion] or 0.0) - (other.scores[criterion] or 0.0)


@dataclass(frozen=True, slots=True)
class Turn:
    """What would be chosen if one thing were otherwise.

    Parameters
    ----------
    what
        The claims whose state changes, by their ids; or the must-have that nobody needs any more.
    state
        The state that the claims would have; None for a must-have.
    chosen, second, lead
        What would be chosen, None if nothing is left; what would come second, and by how much it would trail.
    """

    what: tuple[str, ...]
    state: ClaimState | None
    chosen: str | None
    second: str | None = None
    lead: float = 0.0


def turns(claims: Sequence[ClaimResult], criteria: Criteria) -> tuple[Turn, ...]:
    """Find the claims that by themselves turn the outcome over if evidence supports or refutes them.

    Claims of several options that say the same change together: what refutes one refutes them all.
    """
    now = decide(claims, criteria).chosen
    same: dict[tuple[str, str, str], list[str]] = {}
    for each in claims:
        same.setdefault((each.criterion, each.side, each.text), []).append(each.id)
    found = []
    for ids in same.values():
        for state in (ClaimState.SUPPORTED, ClaimState.REFUTED):
            changed = [replace(each, state=state, bearings=()) if each.id in ids else each for each in claims]
            if (after := turn(tuple(ids), state, changed, criteria)).chosen != now:
                found.append(after)
    return tuple(found)


def without_musts(claims: Sequence[ClaimResult], criteria: Criteria) -> tuple[Turn, ...]:
    """Say for each must-have what would be chosen if it did not matter at all."""
    return tuple(turn((each.id,), None, claims, criteria.without(each.id)) for each in criteria.criteria if each.must)


def turn(what: tuple[str, ...], state: ClaimState | None, claims: Sequence[ClaimResult], criteria: Criteria) -> Turn:
    """Decide anew, and say what came out."""
    decision = decide(claims, criteria)
    left = decision.left
    if len(left) < 2:
        return Turn(what, state, decision.chosen)
    return Turn(what, state, decision.chosen, left[1].option, round(left[0].total - left[1].total, 9))
