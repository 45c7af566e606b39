"""Two records beside each other: what is otherwise, and which evidence or weight moved the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leptonami.decide.claims import ClaimResult, ClaimState
from leptonami.decide.criteria import Criteria
from leptonami.decide.record import Body
from leptonami.decide.score import decide

__all__ = ["ClaimChange", "Difference", "diff"]


@dataclass(frozen=True, slots=True)
class ClaimChange:
    """A claim that stands otherwise.

    Parameters
    ----------
    before, after
        Its states; None where the record does not have the claim.
    why
        Why it stands as it does in the second record.
    came, went
        The evidence that bears on it in the second record only, and in the first only. What was altered is in both.
    moves
        Whether this claim alone moved the outcome: with its old state the second record would decide as the first.
    """

    id: str
    before: ClaimState | None
    after: ClaimState | None
    why: str
    came: tuple[str, ...]
    went: tuple[str, ...]
    moves: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What is otherwise in a second record.

    Parameters
    ----------
    chosen
        The chosen options of both.
    claims
        The claims that stand otherwise.
    weights
        The criteria whose weight or must is otherwise, with both as text.
    weights_move
        Whether the criteria alone moved the outcome: with the old ones the second record would decide as the first.
    came, went, altered
        Evidence by id.
    """

    chosen: tuple[str | None, str | None]
    claims: tuple[ClaimChange, ...]
    weights: tuple[tuple[str, str, str], ...]
    weights_move: bool
    came: tuple[str, ...]
    went: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """Whether the outcome is another."""
        return self.chosen[0] != self.chosen[1]

    @property
    def same(self) -> bool:
        """Whether nothing that bears on the decision is otherwise."""
        return not (self.moved or self.claims or self.weights or self.came or self.went or self.altered)

    def told(self) -> str:
        """Say in a sentence or two what moved the outcome."""
        first, second = (each or "no option" for each in self.chosen)
        if not self.moved:
            return f"The outcome is the same: {first}."
        movers = [
            f"{each.id} ({each.before or 'absent'} -> {each.after or 'absent'})" for each in self.claims if each.moves
        ]
        if self.weights_move:
            movers.append("the weights")
        why = (
            "each of these alone moved it: " + ", ".join(movers)
            if movers
            else "no single claim or weight moved it alone, but what follows did together"
        )
        return f"The outcome moved from {first} to {second}; {why}."

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "moved": self.moved,
            "chosen": list(self.chosen),
            "told": self.told(),
            "claims": [
                {
                    "id": each.id,
                    "before": each.before,
                    "after": each.after,
                    "why": each.why,
                    "evidence_came": list(each.came),
                    "evidence_went": list(each.went),
                    "moves_the_outcome": each.moves,
                }
                for each in self.claims
            ],
            "weights": [{"criterion": name, "before": a, "after": b} for name, a, b in self.weights],
            "weights_move_the_outcome": self.weights_move,
            "evidence": {"came": list(self.came), "went": list(self.went), "altered": list(self.altered)},
        }


def diff(first: Body, second: Body) -> Difference:
    """Compare what two records decided."""
    before = {each.id: each for each in first.main.claims}
    after = {each.id: each for each in second.main.claims}
    chosen = (first.main.decision.chosen, second.main.decision.chosen)
    rows = {each.id: each for each in first.main.evidence}
    now = {each.id: each for each in second.main.evidence}
    altered = {id for id in rows.keys() & now.keys() if rows[id].sha256 != now[id].sha256}
    changes = []
    for id in sorted(before.keys() | after.keys()):
        was, is_now = before.get(id), after.get(id)
        if was and is_now and (was.state, was.counted) == (is_now.state, is_now.counted):
            continue
        old = {each.evidence.id for each in was.bearings} if was else set()
        new = {each.evidence.id for each in is_now.bearings} if is_now else set()
        changes.append(
            ClaimChange(
                id=id,
                before=was.state if was else None,
                after=is_now.state if is_now else None,
                why=is_now.why if is_now else "the claim is gone",
                came=tuple(sorted(new - old | new & altered)),
                went=tuple(sorted(old - new | old & altered)),
                moves=chosen[0] != chosen[1]
                and decide(reverted(second.main.claims, was, is_now), second.criteria).chosen == chosen[0],
            )
        )
    weights = tuple(weights_of(first.criteria, second.criteria))
    return Difference(
        chosen=chosen,
        claims=tuple(changes),
        weights=weights,
        weights_move=bool(weights)
        and chosen[0] != chosen[1]
        and decide(second.main.claims, first.criteria).chosen == chosen[0],
        came=tuple(sorted(now.keys() - rows.keys())),
        went=tuple(sorted(rows.keys() - now.keys())),
        altered=tuple(sorted(altered)),
    )


def reverted(claims: Sequence[ClaimResult], was: ClaimResult | None, now: ClaimResult | None) -> list[ClaimResult]:
    """Give claims with one of them as it was before: in its old state, gone again, or there again."""
    if now is None:
        return [*claims, *([was] if was else [])]
    if was is None:
        return [each for each in claims if each.id != now.id]
    return [was if each.id == now.id else each for each in claims]


def weights_of(first: Criteria, second: Criteria) -> list[tuple[str, str, str]]:
    """Give the criteria that count otherwise."""
    old = {each.id: f"{each.weight:g}{' must' if each.must else ''}" for each in first.criteria}
    new = {each.id: f"{each.weight:g}{' must' if each.must else ''}" for each in second.criteria}
    found = [(id, old.get(id, "absent"), new.get(id, "absent")) for id in dict.fromkeys([*old, *new])]
    found = [each for each in found if each[1] != each[2]]
    if first.untested != second.untested:
        found.append(("(untested claims)", f"{first.untested:g}", f"{second.untested:g}"))
    return found
