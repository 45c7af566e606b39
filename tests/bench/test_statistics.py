"""The statistics against published worked examples, and by simulation (a longer one: benchmarks/intervals.py)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.bench import statistics
from leptonami.bench.statistics import FEWEST, compare, holm, interval, outliers, summary, together

# NIST/SEMATECH e-Handbook of Statistical Methods, 7.1.6 "What are outliers in the data?":
# median 559.5, quartiles 429.75 and 742.25, inner fences -39 and 1211, one mild outlier, 1441.
# https://www.itl.nist.gov/div898/handbook/prc/section1/prc16.htm
NIST = [
    *(30, 171, 184, 201, 212, 250, 265, 270, 272, 289, 305, 306, 322, 322, 336, 346, 351, 370, 390, 404, 409, 411, 436),
    *(
        437,
        439,
        441,
        444,
        448,
        451,
        453,
        470,
        480,
        482,
        487,
        494,
        495,
        499,
        503,
        514,
        521,
        522,
        527,
        548,
        550,
        559,
        560,
    ),
    *(
        570,
        572,
        574,
        578,
        585,
        592,
        592,
        607,
        616,
        618,
        621,
        629,
        637,
        638,
        640,
        656,
        668,
        707,
        709,
        719,
        737,
        739,
        752,
    ),
    *(758, 766, 792, 792, 794, 802, 818, 830, 832, 843, 858, 860, 869, 918, 925, 953, 991, 1000, 1005, 1068, 1441),
]
# Efron and Tibshirani, "An Introduction to the Bootstrap" (1993). Table 14.1, the spatial test data A: the variance is
# 171.5, its 90 % BCa interval (115.8, 259.6). Table 2.1, the mouse data: the median's bootstrap standard error tends to
# 37.83 in the treatment group (table 2.2).
SPATIAL = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]
TREATED = [94, 197, 16, 38, 99, 141, 23]
CONTROL = [52, 104, 146, 10, 51, 30, 40, 27, 46]


def test_quartiles_and_outliers_of_the_nist_handbook() -> None:
    found = summary(NIST)
    assert (found.n, found.median, found.q1, found.q3) == (90, 559.5, 429.75, 742.25)
    assert found.outliers == (1441.0,)
    assert found.points == tuple(NIST)  # marked, not dropped
    assert found.highest == 1441


def test_bca_interval_of_the_spatial_test_data() -> None:
    found = interval([SPATIAL], lambda x, axis: np.var(x, axis=axis), seed=1, level=0.90, resamples=20_000)
    assert found.method == "BCa"
    assert found.estimate == pytest.approx(171.5, abs=0.05)
    # The book drew 2000 resamples, so its own end points are uncertain by some units.
    assert found.low == pytest.approx(115.8, abs=3)
    assert found.high == pytest.approx(259.6, abs=5)


def test_standard_error_of_the_median_of_the_mouse_data() -> None:
    found = interval([TREATED], lambda x, axis: np.median(x, axis=axis), seed=1, resamples=20_000)
    assert found.standard_error == pytest.approx(37.83, abs=0.8)
    both = interval([CONTROL, TREATED], statistics.difference_of_medians, seed=1)
    assert both.estimate == 94 - 46


def test_mann_whitney_of_aesops_tortoises_and_hares() -> None:
    # https://en.wikipedia.org/wiki/Mann-Whitney_U_test: they come in as T H H H H H T T T T T H; U is 11 for the
    # tortoises and 25 for the hares, of 36 pairs. The tortoises' places are the baseline's times here.
    tortoises = [place for place, who in enumerate("THHHHHTTTTTH", 1) if who == "T"]
    hares = [place for place, who in enumerate("THHHHHTTTTTH", 1) if who == "H"]
    found = compare(tortoises, hares, seconds=0.1, resamples=199)
    assert found.superiority == pytest.approx(25 / 36)
    assert found.delta == pytest.approx(1 - 50 / 36)
    assert compare(hares, tortoises, seconds=0.1, resamples=199).superiority == pytest.approx(11 / 36)


def test_exact_p_of_two_samples_that_do_not_overlap() -> None:
    # All 6 of one before all 6 of the other: 2 of binomial(12, 6) = 924 orders are as extreme.
    found = compare([10, 11, 12, 13, 14, 15], [1, 2, 3, 4, 5, 6], seconds=1.0, resamples=199)
    assert found.p == pytest.approx(2 / math.comb(12, 6))
    assert found.delta == -1
    assert found.verdict == "better"


def test_verdicts() -> None:
    slow = [10 + each / 10 for each in range(15)]
    quick = [each - 5 for each in slow]
    assert compare(slow, quick, seconds=0.5).verdict == "better"
    assert compare(quick, slow, seconds=0.5).verdict == "worse"
    assert compare(slow, slow, seconds=2.0).verdict == "no practical difference"
    assert compare(slow, quick, ratio=1.2).verdict == "better"
    assert compare(slow, quick, ratio=3.0).verdict == "no practical difference"
    unsure = compare(slow, [each - 0.5 for each in slow], seconds=0.6)
    assert unsure.verdict == "inconclusive"
    assert unsure.more is not None
    assert unsure.more > 15


def test_no_verdict_on_a_handful() -> None:
    few = compare([10, 11, 12], [1, 2, 3], seconds=0.5)
    assert few.verdict == "inconclusive"
    assert few.why == f"one of the two has 3 trials, and no verdict is given on fewer than {FEWEST}"
    assert few.more == FEWEST - 3


def test_times_that_do_not_vary() -> None:
    same = compare([2.0] * 10, [2.0] * 10, seconds=0.5)
    assert (same.difference.low, same.difference.high, same.difference.method) == (0.0, 0.0, "constant")
    assert (same.p, same.superiority, same.verdict) == (1.0, 0.5, "no practical difference")
    apart = compare([2.0] * 10, [1.0] * 10, seconds=0.5)
    assert apart.verdict == "better"
    # One of them varies in a single trial: BCa's jackknife sees nothing.
    nearly = compare([2.0] * 9 + [2.1], [1.0] * 10, seconds=0.5)
    assert nearly.difference.method == "percentile"
    assert nearly.difference.low <= -1.0 <= nearly.difference.high
    assert nearly.verdict == "better"
    zero = compare([0.0] * 10, [1.0] * 10, ratio=1.1)
    assert zero.ratio is None
    assert "no ratio" in zero.why


@given(
    st.lists(st.floats(0.01, 1e4), min_size=2, max_size=12),
    st.lists(st.floats(0.01, 1e4), min_size=2, max_size=12),
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_times_there_is_a_verdict_and_the_seed_decides_it(one: list[float], other: list[float]) -> None:
    found = compare(one, other, seconds=0.5, seed=3, resamples=199)
    assert found == compare(one, other, seconds=0.5, seed=3, resamples=199)
    assert math.isfinite(found.difference.low)
    assert math.isfinite(found.difference.high)
    assert found.difference.low <= found.difference.high
    assert 0 <= found.p <= 1
    assert found.delta == pytest.approx(-compare(other, one, seconds=0.5, seed=3, resamples=199).delta)
    if min(len(one), len(other)) < FEWEST:
        assert found.verdict == "inconclusive"
    assert set(outliers(one)) <= set(one)


def test_holm_of_a_worked_example() -> None:
    # 0.01, 0.04, 0.03 and 0.005: of four at 0.05 the first two stand. https://en.wikipedia.org/wiki/Holm-Bonferroni_method
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()


def test_a_difference_has_to_stand_among_many() -> None:
    slow, quick = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5], [5.0, 5.1, 5.2, 5.3, 5.4, 5.5]
    one = compare(slow, quick, seconds=0.5, resamples=199)
    assert (one.verdict, one.corrected) == ("better", one.p)
    assert [each.verdict for each in together([one] * 3)] == ["better"] * 3
    assert together([one] * 3)[0].corrected == pytest.approx(3 * one.p)
    # Six trials of each cannot have a p below 2 / 924: among thirty that is no surprise.
    many = together([one] * 30)
    assert {each.verdict for each in many} == {"inconclusive"}
    assert "among 30 comparisons" in many[0].why


def draws(kind: str, chance: np.random.Generator, n: int) -> np.ndarray:
    """Draw times whose median is 1 s."""
    if kind == "lognormal":
        return chance.lognormal(0, 0.3, n)
    return chance.exponential(1 / math.log(2), n)


@pytest.mark.parametrize("kind", ["lognormal", "exponential"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(kind: str) -> None:
    chance = np.random.default_rng(20261126)
    covered, repeats = 0, 300
    for seed in range(repeats):
        found = interval(
            [draws(kind, chance, 15), draws(kind, chance, 15) + 2],
            statistics.difference_of_medians,
            seed=seed,
            resamples=599,
        )
        covered += found.low <= 2 <= found.high
    # Binomial: at 95 % the share of 300 has a standard deviation of 1.3 %.
    assert 0.91 <= covered / repeats <= 0.99


def test_the_same_is_seldom_called_different_and_what_just_matters_is_seldom_called_better() -> None:
    chance = np.random.default_rng(20261126)
    different = better = 0
    repeats = 200
    for seed in range(repeats):
        one, other = draws("lognormal", chance, 10), draws("lognormal", chance, 10)
        # As `compare` judges, without asking how many more trials it would take, which is what takes long.
        found = interval([one, other], statistics.difference_of_medians, seed=seed, resamples=399)
        p, _ = statistics.ranks(one, other)
        judged = statistics.judge(found, 0.1, p=p, fewest=10, alpha=0.05, worth="")
        different += judged[0] in {"better", "worse"}
        # The true difference is the smallest one worth having: the worst case for `better`. The interval moves along.
        p, _ = statistics.ranks(one + 0.5, other)
        moved = replace(found, low=found.low - 0.5, high=found.high - 0.5)
        better += statistics.judge(moved, 0.5, p=p, fewest=10, alpha=0.05, worth="")[0] == "better"
    assert different / repeats <= 0.05
    assert better / repeats <= 0.05 + 2 * math.sqrt(0.025 * 0.975 / repeats)


@pytest.mark.parametrize(("low", "high"), [(-1.0, -1.0), (-2.0, -1.0), (1.0, 1.0), (1.0, 2.0)])
def test_an_interval_that_ends_at_the_smallest_difference_is_not_beyond_it(low: float, high: float) -> None:
    # Times of whole seconds do that often: in 12 of 100 experiments a difference of just the bound was called better.
    found = statistics.Interval((low + high) / 2, low, high, 0.1, "BCa")
    assert statistics.judge(found, 1.0, p=0.001, fewest=15, alpha=0.05, worth="1 s")[0] == "inconclusive"
    sure = "better" if high < 0 else "worse"
    assert statistics.judge(found, 0.99, p=0.001, fewest=15, alpha=0.05, worth="0.99 s")[0] == sure


def smoothed(points: tuple[float, ...], n: int, chance: np.random.Generator) -> np.ndarray:
    """Draw from what was seen, smoothed (Silverman's rule)."""
    x = np.asarray(points)
    q1, q3 = np.quantile(x, [0.25, 0.75])
    width = 0.9 * min(x.std(ddof=1), (q3 - q1) / 1.34) * len(x) ** -0.2
    return chance.choice(x, n) + width * chance.standard_normal(n)


def test_as_many_more_trials_as_it_says_do_tell() -> None:
    chance = np.random.default_rng(12)
    first = compare(chance.lognormal(2.3, 0.1, 12), chance.lognormal(2.2, 0.1, 12), seconds=0.3, resamples=999)
    assert first.verdict == "inconclusive"
    assert first.more is not None
    n = 12 + first.more
    # If what was seen is the truth: whole experiments, judged with the bootstrap, and not by the estimate's short cut.
    told = [
        compare(
            smoothed(first.baseline.points, n, chance),
            smoothed(first.candidate.points, n, chance),
            seconds=0.3,
            seed=seed,
            resamples=299,
        ).verdict
        for seed in range(40)
    ]
    share = sum(each != "inconclusive" for each in told) / len(told)
    assert 0.6 <= share <= 0.97  # a power of 0.8 is asked for; of 40 its share has a standard deviation of 6 %
