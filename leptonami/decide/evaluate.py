"""One question judged on one day: every claim, the outcome, and what would turn it over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from leptonami.decide.bearing import Direction
from leptonami.decide.checks import confirmations
from leptonami.decide.claims import ClaimResult, judge_all
from leptonami.decide.criteria import Criteria
from leptonami.decide.evidence import Evidence, Item, weakest
from leptonami.decide.options import Options, Question
from leptonami.decide.score import Decision, Flip, Turn, decide, flips, turns, without_musts
from leptonami.target import Provenance

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out for one question.

    Parameters
    ----------
    question, day
        What was asked, and as of when it was judged.
    claims
        Every claim about the question's options.
    decision
        The outcome.
    flips, turns, without
        Which weights, which evidence, and which must-have that nobody needs would turn it over.
    confirm
        The commands with which a reader looks at the same evidence.
    """

    question: Question
    day: date
    claims: tuple[ClaimResult, ...]
    decision: Decision
    flips: tuple[Flip, ...]
    turns: tuple[Turn, ...]
    without: tuple[Turn, ...]
    confirm: tuple[str, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every piece of evidence that bears on a claim, in the order of their ids."""
        found = {each.evidence.id: each.evidence for claim in self.claims for each in claim.bearings}
        return tuple(found[id] for id in sorted(found))

    @property
    def provenance(self) -> Provenance | None:
        """The weakest provenance of the observations that bear on claims; of looked-up facts if there are none."""
        bearing = [
            each.evidence for claim in self.claims for each in claim.bearings if each.direction is not Direction.NEITHER
        ]
        return weakest(each.provenance for each in bearing if each.observed) or weakest(e.provenance for e in bearing)

    def claims_of(self, option: str | None, criterion: str | None = None) -> tuple[ClaimResult, ...]:
        """Pick the claims about an option, or about one criterion of it."""
        return tuple(each for each in self.claims if each.option == option and criterion in (None, each.criterion))

    @property
    def observations(self) -> tuple[Evidence, ...]:
        """What was observed, and not only looked up, that speaks for the chosen option and still counts."""
        found = {
            each.evidence.id: each.evidence
            for claim in self.claims_of(self.decision.chosen)
            if claim.side == "pro"
            for each in claim.bearings
            if each.direction is Direction.FOR and not each.stale and each.evidence.observed
        }
        return tuple(found[id] for id in sorted(found))


def evaluate(options: Options, criteria: Criteria, question: Question, day: date, items: Sequence[Item]) -> Evaluation:
    """Judge a question on the evidence there is.

    Parameters
    ----------
    day
        The day on which somebody asks; a question with a date of its own is judged for that.

    Raises
    ------
    InputError
        If a claim bears on a criterion that there is not.
    """
    criteria.fitting(options)
    as_of = question.date or day
    claims = judge_all(options, question, as_of, items)
    decision = decide(claims, criteria)
    return Evaluation(
        question=question,
        day=as_of,
        claims=claims,
        decision=decision,
        flips=flips(decision, criteria),
        turns=turns(claims, criteria),
        without=without_musts(claims, criteria),
        confirm=tuple(dict.fromkeys(commands(options, question))),
    )


def commands(options: Options, question: Question) -> Iterable[str]:
    """Give the commands that show what the checks of a question have looked at."""
    for option in (options.option(id) for id in question.options):
        for claim in option.claims:
            if claim.check is not None:
                yield from (each for each in confirmations(claim.check, option, question) if "PATH" not in each)
