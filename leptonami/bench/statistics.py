"""The statistics of launch times: skewed, few, and to be bet money on.

Medians and quantiles, never means alone; every point kept; outliers marked and never dropped. A difference is judged
by where its confidence interval lies against the smallest difference worth having, which was stated beforehand:
`better` and `worse` need the whole interval beyond it, `no practical difference` the whole interval within it,
everything else is `inconclusive`. So two variants that are the same are called different far less often than the level
allows, and "no difference" is a finding and not a lack of data (Schuirmann 1987; Lakens 2017, "Equivalence Tests").
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from leptonami.bench.needed import FEWEST, more_trials

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FEWEST",
    "LEVEL",
    "Comparison",
    "Interval",
    "Summary",
    "Verdict",
    "compare",
    "holm",
    "interval",
    "outliers",
    "summary",
    "together",
]

Verdict = Literal["better", "worse", "no practical difference", "inconclusive"]

LEVEL = 0.95
RESAMPLES = 9_999
EXACT = 10_000
"""Pairs up to which Mann and Whitney's p is computed exactly."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Some times in numbers (s). Quantiles by `(n + 1) p`, as NIST's e-Handbook and most textbooks have them."""

    n: int
    median: float
    q1: float
    q3: float
    p90: float
    lowest: float
    highest: float
    points: tuple[float, ...]
    outliers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    `method` is `BCa`, `percentile` where BCa is not defined (a jackknife without variation), or `constant` where
    neither sample varies: then the interval is the estimate and says nothing about what was not sampled.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    method: Literal["BCa", "percentile", "constant"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate held against a baseline; times, so less is better.

    Attributes
    ----------
    difference
        Of the medians, candidate less baseline (s).
    ratio
        Of the medians, candidate by baseline; None if the baseline's median, or that of a resample, may be zero.
    p
        Two-sided, of Mann and Whitney's test.
    corrected
        The same for all the comparisons that were made together (`together`).
    superiority
        Vargha and Delaney's A12: how often a launch of the candidate is quicker than one of the baseline; ties half.
    delta
        Cliff's delta, `1 - 2 A12` of that: below zero if the candidate is quicker.
    verdict, why
        The judgement, and what it rests on.
    more
        Trials of each variant that are needed beyond those there are, if inconclusive; None if that is more than
        `needed.MOST`, or cannot be told.
    """

    baseline: Summary
    candidate: Summary
    difference: Interval
    ratio: Interval | None
    p: float
    corrected: float
    superiority: float
    delta: float
    verdict: Verdict
    why: str
    more: int | None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return asdict(self)


def summary(points: Sequence[float]) -> Summary:
    """Put times into numbers; at least one."""
    import numpy as np

    values = np.sort(np.asarray(points, dtype=float))
    q1, median, q3, p90 = (float(each) for each in np.quantile(values, [0.25, 0.5, 0.75, 0.9], method="weibull"))
    return Summary(
        n=len(values),
        median=median,
        q1=q1,
        q3=q3,
        p90=p90,
        lowest=float(values[0]),
        highest=float(values[-1]),
        points=tuple(float(each) for each in points),
        outliers=outliers(points),
    )


def outliers(points: Sequence[float]) -> tuple[float, ...]:
    """Give what lies beyond Tukey's inner fences: one and a half times the quartiles' distance outside of them.

    Marked, never dropped: a slow launch is what somebody waited for.
    https://www.itl.nist.gov/div898/handbook/prc/section1/prc16.htm
    """
    import numpy as np

    if len(points) < 4:
        return ()
    q1, q3 = (float(each) for each in np.quantile(np.asarray(points, dtype=float), [0.25, 0.75], method="weibull"))
    reach = 1.5 * (q3 - q1)
    return tuple(float(each) for each in points if not q1 - reach <= each <= q3 + reach)


def interval(
    samples: Sequence[Sequence[float]],
    statistic: Callable[..., Any],
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Give a statistic of independent samples with its bootstrap interval.

    BCa: Efron 1987, "Better Bootstrap Confidence Intervals", JASA 82. scipy does the work; what it does not do is data
    that do not vary.

    Parameters
    ----------
    statistic
        Of the samples, vectorised: it is given `axis`.
    seed
        Of the resampling: the same data give the same interval.
    """
    import numpy as np
    from scipy import stats

    arrays: Any = [np.asarray(each, dtype=float) for each in samples]
    estimate = float(statistic(*arrays, axis=-1))
    if all(np.ptp(each) == 0 for each in arrays):
        return Interval(estimate, estimate, estimate, 0.0, "constant")

    def bootstrap(method: Literal["BCa", "percentile"]) -> Any:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # DegenerateDataWarning: the result is NaN, and is looked at
            return stats.bootstrap(
                arrays,
                statistic,
                n_resamples=resamples,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
                vectorized=True,
            )

    method: Literal["BCa", "percentile"] = "BCa"
    found = bootstrap(method)
    if not all(map(math.isfinite, found.confidence_interval)):
        method = "percentile"
        found = bootstrap(method)
    low, high = (float(each) for each in found.confidence_interval)
    return Interval(estimate, low, high, float(found.standard_error), method)


def difference_of_medians(baseline: Any, candidate: Any, axis: int = -1) -> Any:
    """Take the medians' difference."""
    import numpy as np

    return np.median(candidate, axis=axis) - np.median(baseline, axis=axis)


def ratio_of_medians(baseline: Any, candidate: Any, axis: int = -1) -> Any:
    """Take the medians' ratio."""
    import numpy as np

    return np.median(candidate, axis=axis) / np.median(baseline, axis=axis)


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    seconds: float | None = None,
    ratio: float | None = None,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Hold a candidate's times against a baseline's.

    Parameters
    ----------
    baseline, candidate
        Times (s), at least two each: one does not say how times spread.
    seconds, ratio
        The smallest difference of the medians that is worth having: one of the two.
    """
    drawn: dict[str, Any] = {"seed": seed, "level": level, "resamples": resamples}
    samples = (baseline, candidate)
    difference = interval(samples, difference_of_medians, **drawn)
    relative = interval(samples, ratio_of_medians, **drawn) if min(*baseline, *candidate) > 0 else None
    found, bound, worth = (
        (difference, seconds, f"{seconds:g} s")
        if seconds is not None
        else (logarithm(relative), math.log(ratio or 1), f"a factor of {ratio:g}")
    )
    # A ratio is judged by logarithms: a factor and its inverse are equally far from none.
    times = (
        samples if seconds is not None or found is None else ([*map(math.log, baseline)], [*map(math.log, candidate)])
    )
    fewest = min(len(baseline), len(candidate))
    p, superiority = ranks(baseline, candidate)
    verdict, why = judge(found, bound, p=p, fewest=fewest, alpha=1 - level, worth=worth)
    return Comparison(
        baseline=summary(baseline),
        candidate=summary(candidate),
        difference=difference,
        ratio=relative,
        p=p,
        corrected=p,
        superiority=superiority,
        delta=1 - 2 * superiority,
        verdict=verdict,
        why=why,
        more=None if verdict != "inconclusive" or found is None else more_trials(*times, bound, seed=seed, level=level),
    )


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """Correct the p of tests that are made together, so that all of them are wrong with the chance of one at most.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6.
    """
    corrected = [0.0] * len(ps)
    highest = 0.0
    for done, at in enumerate(sorted(range(len(ps)), key=lambda each: ps[each])):
        highest = max(highest, min(1.0, (len(ps) - done) * ps[at]))
        corrected[at] = highest
    return tuple(corrected)


def together(found: Sequence[Comparison], *, level: float = LEVEL) -> tuple[Comparison, ...]:
    """Judge comparisons that are looked at together: a difference has to stand Holm's correction, too.

    The intervals stay as they are, each with its own level.
    """
    judged = []
    for each, p in zip(found, holm([each.p for each in found]), strict=True):
        kept = replace(each, corrected=p)
        if each.verdict in {"better", "worse"} and p >= 1 - level:
            why = f"{each.why}, but among {len(found)} comparisons that is no surprise (p = {p:.2g} by Holm)"
            kept = replace(kept, verdict="inconclusive", why=why)
        judged.append(kept)
    return tuple(judged)


def ranks(baseline: Sequence[float], candidate: Sequence[float]) -> tuple[float, float]:
    """Give Mann and Whitney's two-sided p, exact where nothing is tied, and the candidate's superiority (A12)."""
    import numpy as np
    from scipy import stats

    pairs = len(baseline) * len(candidate)
    distinct = len({*baseline, *candidate})
    if distinct == 1:
        return 1.0, 0.5
    exact = distinct == len(baseline) + len(candidate) and pairs <= EXACT
    u, p = stats.mannwhitneyu(np.asarray(baseline), np.asarray(candidate), method="exact" if exact else "asymptotic")
    return float(p), float(u) / pairs


def logarithm(relative: Interval | None) -> Interval | None:
    """Give the logarithm of a ratio."""
    if relative is None or relative.low <= 0:
        return None
    return Interval(
        math.log(relative.estimate),
        math.log(relative.low),
        math.log(relative.high),
        relative.standard_error / relative.estimate,  # to first order
        relative.method,
    )


def judge(
    found: Interval | None, bound: float, *, p: float, fewest: int, alpha: float, worth: str
) -> tuple[Verdict, str]:
    """Judge where an interval lies against the smallest difference worth having, and say why."""
    if fewest < FEWEST:
        return "inconclusive", f"one of the two has {fewest} trials, and no verdict is given on fewer than {FEWEST}"
    if found is None:
        return "inconclusive", "a time of zero has no ratio: state the smallest difference in seconds"
    if -bound < found.low and found.high < bound:
        return "no practical difference", f"the whole interval is within {worth}"
    if p < alpha and found.high < -bound:
        return "better", f"the whole interval is beyond {worth}"
    if p < alpha and found.low > bound:
        return "worse", f"the whole interval is beyond {worth}"
    return "inconclusive", f"the interval reaches over {worth}"
