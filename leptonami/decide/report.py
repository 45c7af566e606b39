"""An evaluation in tables, sentences and one figure: what the notebook and the record both show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from leptonami.decide.claims import ClaimResult, ClaimState
from leptonami.decide.criteria import Criteria
from leptonami.decide.evaluate import Evaluation
from leptonami.decide.evidence import LAUNCHES, Evidence
from leptonami.decide.options import Options
from leptonami.decide.score import EXACT, Flip, Must, Scored, Turn
from leptonami.proof import excerpt
from leptonami.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report", "evidence_table", "number"]


def number(value: float | None) -> str:
    """Write a score: with its sign, two digits; a dash where nothing counts.

    >>> number(0.5), number(-1.0), number(None), number(-0.0)
    ('+0.50', '−1.00', '–', '0.00')
    """
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


class Report:
    """One evaluation, told.

    Parameters
    ----------
    evaluation
        What came out.
    options, criteria
        What it was made from, for the titles.
    """

    def __init__(self, evaluation: Evaluation, options: Options, criteria: Criteria) -> None:
        self.evaluation = evaluation
        self.decision = evaluation.decision
        self.criteria = criteria.criteria
        self.titles: Mapping[str, str] = {each.id: each.title for each in options.options}
        self.criterion: Mapping[str, str] = {each.id: each.title for each in criteria.criteria}
        self.claim: Mapping[str, ClaimResult] = {each.id: each for each in evaluation.claims}

    def title(self, option: str | None) -> str:
        """Name an option."""
        return "none" if option is None else self.titles[option]

    # --- sentences ---

    def outcome(self) -> str:
        """Say what was chosen, in a sentence."""
        if self.decision.chosen is None:
            return "No option is left: every one fails a must-have."
        return f"Chosen option: {self.title(self.decision.chosen)}, because {self.because()}."

    def because(self) -> str:
        """Say why the chosen option was chosen."""
        chosen, left = self.decision.left[0], self.decision.left
        reasons = []
        shown = [each for each in left if each.musts and set(each.musts.values()) == {Must.SHOWN}]
        if chosen in shown:
            alone = "the only option that was shown" if len(shown) == 1 else "one of those that were shown"
            reasons.append(f"it is {alone} to meet every must-have")
        if len(left) > 1:
            lead = (
                f"it has the best total ({number(chosen.total)}) of the {len(left)} options that no must-have excludes"
            )
            reasons.append(f"{lead}, before {self.title(left[1].option)} ({number(left[1].total)})")
        else:
            reasons.append(f"no must-have excludes it (total {number(chosen.total)})")
        if self.decision.tied:
            level = listed([self.title(each) for each in self.decision.tied])
            reasons.append(f"it is level with {level}, and only comes first in the question's order")
        better = self.advantages(chosen, left[1]) if len(left) > 1 and not self.decision.tied else []
        if better:
            reasons.append(f"what puts it before {self.title(left[1].option)} is its score on {listed(better)}")
        return "; ".join(reasons)

    def advantages(self, chosen: Scored, rival: Scored) -> list[str]:
        """Name the criteria on which the chosen option does better, the weightiest first."""
        gains = {
            each.title: each.weight * ((chosen.scores[each.id] or 0.0) - (rival.scores[each.id] or 0.0))
            for each in self.criteria
        }
        return [f"{name!r}" for name, gain in sorted(gains.items(), key=lambda item: -item[1]) if gain > 0][:4]

    def exclusions(self) -> list[str]:
        """Say of each excluded option which must-have it fails, and by which claim."""
        told = []
        for each in self.decision.options:
            for criterion, must in each.musts.items():
                if must is Must.FAILS:
                    claims = [claim for claim in self.evaluation.claims_of(each.option, criterion) if failing(claim)]
                    why = "; ".join(f"{claim.text} ({claim.state})" for claim in claims)
                    told.append(f"{self.title(each.option)} fails the must-have {self.criterion[criterion]!r}: {why}")
        return told

    def not_shown(self) -> list[str]:
        """Say what nobody has shown about the chosen option, and what the evidence contradicts itself about."""
        told = []
        if self.decision.chosen is not None:
            for criterion, must in self.decision.of(self.decision.chosen).musts.items():
                if must in {Must.NOT_SHOWN, Must.CONTESTED}:
                    claims = self.evaluation.claims_of(self.decision.chosen, criterion)
                    why = "; ".join(f"{each.text} ({each.state}: {each.why})" for each in claims if each.decides)
                    name = self.criterion[criterion]
                    told.append(f"The must-have {name!r} is {must} for {self.title(self.decision.chosen)}: {why}")
        told += [
            f"Contested: {each.text} ({each.why})"
            for each in self.evaluation.claims
            if each.state is ClaimState.CONTESTED
        ]
        lab = [each.id for each in self.evaluation.claims if each.counted is not each.state]
        if lab:
            told.append(f"Shown by the lab alone, and counted as not tested: {listed(lab)}")
        states = [each.state for each in self.evaluation.claims]
        untested = states.count(ClaimState.NOT_TESTED)
        told.append(
            f"Of {len(states)} claims {untested} rest on their source alone and were not tested here; "
            f"{states.count(ClaimState.EXPIRED)} have expired"
        )
        launches = [each for each in self.evaluation.claims if each.check == LAUNCHES]
        stated = sum(each.counted is ClaimState.NOT_TESTED for each in launches)
        if stated:
            told.append(
                f"Launch times: of {len(launches)} claims about them {stated} are no more than stated: no launch that "
                "was measured tells"
            )
        return told

    # --- tables ---

    def question_table(self) -> Table:
        """Say what is asked, of when, and for which versions."""
        question = self.evaluation.question
        rows = [
            ("question", question.title),
            ("context", question.context),
            ("as of", self.evaluation.day),
            *question.versions.items(),
            *((f"system of {name}", version) for name, version in question.systems.items()),
        ]
        return Table.of(("what", "value"), rows, caption="What is asked")

    def sentences(self, caption: str, sentences: list[str]) -> Table:
        """Give sentences as a table."""
        rows = [(each,) for each in sentences or ["none"]]
        return Table.of(("what",), rows, caption=caption, provenance=self.evaluation.provenance)

    def matrix(self) -> Table:
        """Give options × criteria: the score on each criterion, and how each option stands to the must-haves."""
        options = self.decision.options
        rows: list[list[str]] = []
        for each in self.criteria:
            cells = [number(option.scores[each.id]) for option in options]
            if each.must:
                cells = [f"{cell}, {option.musts[each.id]}" for cell, option in zip(cells, options, strict=True)]
            rows.append([f"{each.title} (weight {each.weight:g}{', must' if each.must else ''})", *cells])
        rows.append(["Total", *(number(each.total) for each in options)])
        rows.append(["Outcome", *(self.fate(each) for each in options)])
        return Table.of(
            ["Criterion", *(self.title(each.option) for each in options)],
            rows,
            caption=f"Scores from −1 to +1, as of {self.evaluation.day}; – where no claim counts",
            provenance=self.evaluation.provenance,
        )

    def fate(self, scored: Scored) -> str:
        """Say what became of an option."""
        if scored.option == self.decision.chosen:
            return "chosen"
        return "excluded" if scored.excluded else "not chosen"

    def claims_table(self, option: str | None = None) -> Table:
        """Give every claim with its state and the decisive proof, or those about one option."""
        rows = [
            (each.id, each.side, each.text, each.state, each.provenance or "", each.why, proof_of(each))
            for each in self.evaluation.claims
            if option in (None, each.option)
        ]
        return Table.of(
            ("claim", "side", "text", "state", "provenance", "why", "proof"),
            rows,
            caption=f"Every claim and how it stands as of {self.evaluation.day}",
            provenance=self.evaluation.provenance,
        )

    def evidence_table(self) -> Table:
        """Give the evidence that claims rest on."""
        return evidence_table(self.evaluation.evidence)

    def flips_table(self) -> Table:
        """Give the weights at which the outcome turns over."""
        nearest = {(each.criterion, each.above): each for each in self.evaluation.flips}
        rows = []
        for each in self.criteria:
            cells = []
            for above in (False, True):
                found = nearest.get((each.id, above))
                cells.append(f"{beyond(found)}: {self.title(found.option)}" if found else "never")
            rows.append((each.title, f"{each.weight:g}", *cells))
        return Table.of(
            ("Criterion", "Weight", "Lower weight turns it over", "Higher weight turns it over"),
            rows,
            caption="Which weight would have to change, all others as they are, for another option to lead",
            provenance=self.evaluation.provenance,
        )

    def turns_table(self) -> Table:
        """Give what else would turn the outcome over: must-haves that nobody needs, and evidence."""
        rows = [
            (f"nobody needs {self.criterion[each.what[0]]!r}: no must-have, weight 0", *self.then(each))
            for each in self.evaluation.without
        ]
        rows += [
            (f"{self.claim[each.what[0]].text} ({listed(list(each.what))}): {each.state}", *self.then(each))
            for each in self.evaluation.turns
        ]
        return Table.of(
            ("If", "Then chosen", "Before", "By"),
            rows,
            caption="What would be chosen if a must-have did not matter, or if evidence decided one claim otherwise",
            provenance=self.evaluation.provenance,
        )

    def then(self, turn: Turn) -> tuple[str, str, str]:
        """Say what would be chosen, before which option, and by how much."""
        chosen = self.title(turn.chosen) + (" (as now)" if turn.chosen == self.decision.chosen else "")
        if turn.second is None:
            return chosen, "none", "–"
        return chosen, self.title(turn.second), "level" if turn.lead < EXACT else number(turn.lead)

    # --- the figure ---

    def figure_text(self) -> str:
        """Say in words what the figure shows: its alternative text."""
        parts = [
            f"{self.title(each.option)} {number(each.total)} ({self.fate(each)})" for each in self.decision.options
        ]
        return f"Scores of {len(parts)} options on {len(self.criteria)} criteria. Totals: {'; '.join(parts)}."

    def figure(self) -> Figure:
        """Draw options × criteria: each score as a bar and as a number."""
        from leptonami.decide.draw import Column, scores_figure

        columns = []
        for each in self.decision.options:
            labels = [
                f"{number(each.scores[c.id])}{' fails' if each.musts.get(c.id) is Must.FAILS else ''}"
                for c in self.criteria
            ]
            scores = tuple(each.scores[c.id] for c in self.criteria)
            chosen = each.option == self.decision.chosen
            columns.append(
                Column(
                    excerpt(self.title(each.option), 60),
                    self.fate(each),
                    (*scores, each.total),
                    (*labels, number(each.total)),
                    chosen,
                )
            )
        rows = [f"{excerpt(each.title, 30)}{' (must)' if each.must else ''} ×{each.weight:g}" for each in self.criteria]
        return scores_figure([*rows, "Total"], columns)


def evidence_table(evidence: Iterable[Evidence]) -> Table:
    """Give evidence as a table: id, provenance, source, sample, when, and the beginning of its digest."""
    rows = [
        (each.id, each.label, each.source, each.sample, each.collected_at, f"{each.sha256[:16]}…") for each in evidence
    ]
    return Table.of(
        ("id", "provenance", "source", "sample", "collected at", "SHA-256"),
        rows,
        caption="The evidence; the digest is that of the content, unpacked",
    )


def beyond(flip: Flip) -> str:
    """Say from where on a weight turns the outcome over.

    >>> beyond(Flip("cost", 1.0, 5.583, True, "x")), beyond(Flip("cost", 1.0, 0.0, False, "x"))
    ('above 5.58', 'level at 0')
    """
    if flip.at < EXACT and not flip.above:
        return "level at 0"
    return f"{'above' if flip.above else 'below'} {flip.at:.2f}"


def failing(claim: ClaimResult) -> bool:
    """Tell whether a claim is one that makes its option fail."""
    wanted = ClaimState.SUPPORTED if claim.side == "con" else ClaimState.REFUTED
    return claim.decides and claim.counted is wanted


def proof_of(claim: ClaimResult) -> str:
    """Give the first proof of a claim's state, as text."""
    proof = next((each.proof for each in claim.bearings if each.proof and not each.stale), None)
    return excerpt(str(proof), 300) if proof else ""


def listed(words: list[str]) -> str:
    """Write a list as people do.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
