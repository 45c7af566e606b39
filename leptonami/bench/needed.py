"""How many more trials an inconclusive comparison takes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["FEWEST", "MOST", "more_trials"]

FEWEST = 6
"""Trials of a variant below which there is no verdict: the interval of a median of fewer covers too little
(`benchmarks/intervals.py`), and the lowest p that Mann and Whitney's test can give nears the level."""
MOST = 1_000
"""Trials of a variant beyond which more trials are no way out."""
POWER = 0.8
DRAWS = 400
"""Experiments that are simulated to tell how many trials are needed."""


def more_trials(
    baseline: Sequence[float], candidate: Sequence[float], bound: float, *, seed: int, level: float = 0.95
) -> int | None:
    """Estimate how many more trials of each make a verdict likely (power 0.8), if what was seen is the truth.

    By simulation: experiments with more trials are drawn from what was seen, smoothed (Silverman 1986, 3.31, else the
    median of a large sample could only be one of the few times that were seen), and it is counted how many of them
    would have an interval that is clear of the bound. The smallest number for which that is likely is searched for.

    Parameters
    ----------
    baseline, candidate
        Times (s), or their logarithms if the bound is that of a ratio.
    """
    import numpy as np
    from scipy.stats import norm

    chance = np.random.default_rng(seed)
    seen = [np.asarray(each, dtype=float) for each in (baseline, candidate)]
    widths = []
    for each in seen:
        q1, q3 = np.quantile(each, [0.25, 0.75])
        spread = min(float(each.std(ddof=1)), float(q3 - q1) / 1.34) or float(each.std(ddof=1))
        widths.append(0.9 * spread * len(each) ** -0.2)
    reach = float(norm.ppf(0.5 + level / 2))

    def likely(n: int) -> bool:
        medians = [
            np.median(chance.choice(each, (DRAWS, n)) + width * chance.standard_normal((DRAWS, n)), axis=1)
            for each, width in zip(seen, widths, strict=True)
        ]
        apart = np.abs(medians[1] - medians[0])
        uncertain = reach * float(np.std(medians[1] - medians[0]))
        clear = (apart - uncertain >= bound) | (apart + uncertain < bound)
        return float(np.mean(clear)) >= POWER

    fewest = min(map(len, seen))
    low, high = fewest, max(FEWEST, fewest + 1)
    while not likely(high):
        if high == MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if likely(middle) else (middle, high)
    return max(high, FEWEST) - fewest
