"""What measured launches say about a claim: whether nodes of one kind are up sooner or later than those of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from leptonami.decide.bearing import Bearing, Direction
from leptonami.decide.evidence import LAUNCHES, Item
from leptonami.errors import InputError
from leptonami.proof import Proof, excerpt

if TYPE_CHECKING:
    from leptonami.decide.checks import Context
    from leptonami.decide.options import CheckUse

__all__ = ["launches"]

OPPOSITE = {"better": "worse", "worse": "better"}
# What a verdict on the candidate says to a claim that it is up sooner, or later. That it makes no practical difference
# refutes both; an inconclusive one says nothing.
SAYS = {
    ("better", "sooner"): Direction.FOR,
    ("worse", "sooner"): Direction.AGAINST,
    ("better", "later"): Direction.AGAINST,
    ("worse", "later"): Direction.FOR,
    ("no practical difference", "sooner"): Direction.AGAINST,
    ("no practical difference", "later"): Direction.AGAINST,
}


def launches(use: CheckUse, context: Context) -> Iterator[Bearing]:
    """See in launch benchmarks whether the first of the claim's two kinds of variants is up sooner than the second.

    Every benchmark counts, recorded or of a run, unless it is about another option: it compares kinds, not options. A
    claim may name the drivers that can tell (only EC2 shows EBS and GPUs).
    """
    for item in context.items:
        if item.about.kind != LAUNCHES or item.about.option not in {None, context.option.id}:
            continue
        payload = payload_of(item)
        # What a notebook kept of a recording would count twice.
        if payload.get("recording"):
            continue
        driver = excerpt(str(payload.get("driver")), 40)
        if use.drivers and driver not in use.drivers:
            needed = " or ".join(use.drivers)
            yield Bearing(
                item.about, Direction.NEITHER, f"measured on the driver {driver}, and it takes {needed} to tell"
            )
            continue
        if (other := context.other_version(item)) is not None:
            yield Bearing(item.about, Direction.NEITHER, other, stale=True)
            continue
        found = [*comparisons(payload, *use.variants)] if len(use.variants) == 2 else []
        if not found:
            yield Bearing(item.about, Direction.NEITHER, f"it does not compare {' with '.join(use.variants)}")
        for verdict, sentence in found:
            toward = SAYS.get((verdict, use.expect), Direction.NEITHER)
            yield Bearing(item.about, toward, sentence, Proof.of(item.about.id, "comparison", sentence))


def comparisons(payload: Mapping[str, Any], candidate: str, baseline: str) -> Iterator[tuple[str, str]]:
    """Find the verdicts on two kinds of variants, whichever of them was the baseline. The text is untrusted."""
    kinds, rows = payload.get("variants"), payload.get("comparisons")
    if not isinstance(kinds, Mapping) or not isinstance(rows, list):
        return
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        pair = tuple(kinds.get(str(row.get(name))) for name in ("candidate", "baseline"))
        verdict = str(row.get("verdict"))
        sentence = excerpt(str(row.get("sentence")), 600)
        if pair == (candidate, baseline):
            yield verdict, sentence
        elif pair == (baseline, candidate):
            yield OPPOSITE.get(verdict, verdict), sentence


def payload_of(item: Item) -> Mapping[str, Any]:
    """Give the numbers and verdicts of a benchmark: as a run kept them, or worked out from a recording's trials."""
    if isinstance(item.payload, Mapping):
        return item.payload
    return worked_out(item.raw, item.about.id) if item.payload is None else {}


@lru_cache(maxsize=8)
def worked_out(raw: bytes, source: str) -> Mapping[str, Any]:
    """Work the verdicts out of the trials; the same trials once, however many claims they bear on."""
    from leptonami.bench.report import payload
    from leptonami.bench.results import parse

    try:
        return payload(parse(raw, source=source))
    except InputError:
        return {}
