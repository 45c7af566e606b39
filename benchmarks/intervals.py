"""How often the benchmark's statistics are right: `python benchmarks/intervals.py [REPEATS]`.

Prints, for several shapes and numbers of trials: how often the 95 % interval of the difference of medians covers the
truth; how often two variants that are the same are called different; how often one that is better by exactly the
smallest difference worth having is called better (the worst case); and how often the number of trials that an
inconclusive comparison asks for is enough. 1,000 repeats take some two minutes of one core.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from leptonami.bench.needed import FEWEST
from leptonami.bench.statistics import Interval, compare, difference_of_medians, interval, judge, ranks

RESAMPLES = 999
SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda chance, n: chance.normal(3, 0.3, n),
    "lognormal": lambda chance, n: 3 * chance.lognormal(0, 0.3, n),
    "exponential": lambda chance, n: 2 + chance.exponential(1 / math.log(2), n),
    "two peaks": lambda chance, n: chance.normal(3, 0.2, n) + 1.5 * (chance.random(n) < 0.3),
    "whole seconds": lambda chance, n: np.round(chance.normal(30, 1.5, n)),
}


def verdict(found: Interval, baseline: np.ndarray, candidate: np.ndarray, bound: float) -> str:
    """Judge as `compare` does."""
    p, _ = ranks(baseline, candidate)
    return judge(found, bound, p=p, fewest=len(baseline), alpha=0.05, worth="")[0]


def of_shape(shape: str, n: int, repeats: int) -> tuple[float, float, float]:
    """Give the coverage, and the shares of `different` where nothing differs and of `better` at the bound."""
    chance = np.random.default_rng([n, *shape.encode()])
    draw = SHAPES[shape]
    covered = different = better = 0
    for seed in range(repeats):
        one, other = draw(chance, n), draw(chance, n)
        # The interval moves with the times, so one bootstrap serves all three: the truth is 0, then 0, then -1.
        found = interval([one, other], difference_of_medians, seed=seed, resamples=RESAMPLES)
        covered += found.low <= 0 <= found.high
        different += verdict(found, one, other, 0.1) in {"better", "worse"}
        moved = replace(found, low=found.low - 1, high=found.high - 1)
        better += verdict(moved, one + 1, other, 1.0) == "better"
    return covered / repeats, different / repeats, better / repeats


def smoothed(points: tuple[float, ...], n: int, chance: np.random.Generator) -> np.ndarray:
    """Draw from what was seen, smoothed (Silverman's rule)."""
    seen = np.asarray(points)
    q1, q3 = np.quantile(seen, [0.25, 0.75])
    width = 0.9 * min(seen.std(ddof=1), (q3 - q1) / 1.34) * len(seen) ** -0.2
    return chance.choice(seen, n) + width * chance.standard_normal(n)


def of_more_trials(repeats: int) -> tuple[int, float]:
    """Give how many inconclusive comparisons were followed up, and how often the trials they asked for did tell."""
    chance = np.random.default_rng(20261126)
    asked = told = drawn = 0
    while asked < repeats:
        one, other = 10 * chance.lognormal(0, 0.1, 12), 9 * chance.lognormal(0, 0.1, 12)
        first = compare(one, other, seconds=0.3, resamples=RESAMPLES)
        if first.verdict != "inconclusive" or first.more is None:
            continue
        asked += 1
        n = 12 + first.more
        for seed in range(10):
            drawn += 1
            pair = [smoothed(each.points, n, chance) for each in (first.baseline, first.candidate)]
            again = interval(pair, difference_of_medians, seed=seed, resamples=RESAMPLES)
            told += verdict(again, pair[0], pair[1], 0.3) != "inconclusive"
    return asked, told / drawn


def main() -> None:
    """Print the table of `docs/benchmark.md`."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    print(f"{repeats} repeats of each; an interval of 95 %")
    print("| times | n | interval covers | same, called different | at the bound, called better |")
    print("| --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        for n in (FEWEST, 10, 15, 30):
            covered, different, better = of_shape(shape, n, repeats)
            print(f"| {shape} | {n} | {covered:.1%} | {different:.1%} | {better:.1%} |", flush=True)
    asked, share = of_more_trials(max(10, repeats // 50))
    print(f"as many more trials as it asked for told {share:.0%} of the time ({asked} inconclusive comparisons)")


if __name__ == "__main__":
    main()
