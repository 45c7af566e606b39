"""Marks in causal order whatever the input order; clocks that are apart, recovered; nothing negative is hidden."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest
from fakedriver import experiment
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.bench import report
from leptonami.bench.clocks import Bound, estimate, from_order, from_request
from leptonami.bench.marks import MARKS, PHASES, Mark, causes
from leptonami.bench.model import Bake, Check, Offset, Timeline, Trial, dump, load
from leptonami.bench.results import Results
from leptonami.errors import InputError

CLOCKS = ("aws", "api", "node", "host")
# Who says what, on EKS.
CLOCK_OF = {
    **dict.fromkeys(MARKS, "node"),
    **dict.fromkeys(("requested", "pending", "running"), "aws"),
    **dict.fromkeys(("registered", "ready", "gpu-allocatable", "pod-created", "scheduled", "pod-ready"), "api"),
    **dict.fromkeys(("first-output", "first-read-begun", "first-read"), "host"),
}


def true_times(delays: dict[str, float], start: float) -> dict[str, float]:
    """Give each mark a true time, after everything that causes it."""
    times: dict[str, float] = {}
    for name, kind in MARKS.items():
        times[name] = max((times[cause] for cause in kind.after), default=start) + delays[name]
    return times


def seen(times: dict[str, float], leads: dict[str, float], resolutions: dict[str, float]) -> list[Mark]:
    """Give the marks as the sources tell them: on clocks that are apart, cut to their resolution."""
    marks = []
    for name, at in times.items():
        clock = CLOCK_OF[name]
        grain = resolutions[clock]
        told = at + leads[clock]
        marks.append(Mark(name, math.floor(told / grain) * grain if grain else told, "test", clock, grain))
    return marks


launches = st.builds(
    lambda seed, start: (random.Random(seed), start), st.integers(0, 2**32), st.floats(1.7e9, 1.8e9)
).map(
    lambda drawn: (
        true_times({name: drawn[0].expovariate(1 / 5) for name in MARKS}, drawn[1]),
        {clock: 0.0 if clock == "host" else drawn[0].gauss(0, 30) for clock in CLOCKS},
        {clock: drawn[0].choice([0.0, 0.001, 1.0]) for clock in CLOCKS},
        drawn[0],
    )
)


def test_marks_are_causes_of_each_other_without_a_circle() -> None:
    for position, (name, kind) in enumerate(MARKS.items()):
        assert kind.name == name
        assert name not in causes(name)
        # In the table causes stand before what they cause, which ties are told apart by.
        assert all(list(MARKS).index(each) < position for each in causes(name))
    assert {each.begin for each in PHASES} | {each.end for each in PHASES} <= set(MARKS)


@given(launches, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_does_not_depend_on_the_input(launch: tuple, chance: random.Random) -> None:
    times, leads, resolutions, _ = launch
    marks = seen(times, leads, resolutions)
    shuffled = list(marks)
    chance.shuffle(shuffled)
    one, other = Timeline(tuple(marks)), Timeline(tuple(shuffled))
    assert one.ordered() == other.ordered()
    place = {mark.name: position for position, mark in enumerate(one.ordered())}
    for mark in one.ordered():
        assert all(place[cause] < place[mark.name] for cause in causes(mark.name) if cause in place)
    assert one.phases() == other.phases()
    assert one.problems() == other.problems()


@given(launches)
@settings(deadline=None)
def test_clocks_are_recovered_from_requests_and_order(launch: tuple) -> None:
    times, leads, resolutions, chance = launch
    marks = seen(times, leads, resolutions)
    bounds = list(from_order(marks))
    rtt = 0.05
    for clock in ("api", "node"):
        for _ in range(5):
            sent = times["ready"] + chance.uniform(0, 100)
            there, back = chance.uniform(0, rtt), chance.uniform(0, rtt)
            told = sent + there + leads[clock]
            stamped = math.floor(told)
            bounds += from_request(clock, sent=sent, answered=sent + there + back, stamped=stamped, resolution=1.0)
    offsets = estimate(bounds)
    found = {each.clock: each for each in offsets}
    assert {"api", "node"} <= set(found)
    for clock, each in found.items():
        # Whatever the launch: the truth is within what is said (1e-6: floats of 1970).
        assert abs(each.seconds - leads[clock]) <= each.uncertainty + 1e-6
    assert all(found[clock].uncertainty <= (1 + 2 * rtt) / 2 + 1e-6 for clock in ("api", "node"))
    line = Timeline(tuple(marks), offsets)
    # With the clocks known, nothing contradicts its cause by more than is uncertain; and every difference is right.
    for name, span in line.phases().items():
        phase = next(each for each in PHASES if each.name == name)
        truth = times[phase.end] - times[phase.begin]
        assert abs(span.seconds - truth) <= span.uncertainty + 1e-6
    assert all("within the uncertainty" in each for each in line.problems())


@given(launches)
@settings(deadline=None)
def test_skew_that_nobody_told_of_is_seen(launch: tuple) -> None:
    times, leads, resolutions, _ = launch
    marks = seen(times, {**leads, "api": 0.0, "node": 5_000.0}, dict.fromkeys(resolutions, 0.0))
    believed = (Offset("api", 0.0, 0.1, "believed"), Offset("node", 0.0, 0.1, "believed"))
    line = Timeline(tuple(marks), believed)
    told = [each for each in line.problems() if "kubelet" in each and "registered" in each]
    assert told
    assert "clocks node and api differ by at least" in told[0]
    span = line.span("kubelet", "registered")
    assert span is not None
    assert span.seconds < -4_000  # not cut to zero


def test_a_clock_of_which_nothing_is_known_makes_a_difference_uncertain() -> None:
    line = Timeline((Mark("requested", 1.0, "a", "aws"), Mark("running", 3.0, "b", "node")))
    span = line.span("requested", "running")
    assert span is not None
    assert span.seconds == 2.0
    assert span.uncertainty == math.inf


def test_one_clock_that_runs_backwards_is_said_to_have_been_set() -> None:
    line = Timeline((Mark("pulling", 5.0, "a", "node"), Mark("pulled", 3.0, "a", "node")))
    assert line.problems() == (
        "pulled (a) is 2.000 s before pulling (a), its cause, by one and the same clock: the clock was set meanwhile, "
        "or one of them is of another launch",
    )


def test_whole_seconds_that_tie_cannot_be_told_apart_and_that_is_said() -> None:
    line = Timeline((Mark("registered", 10.4, "journal", "node"), Mark("ready", 10.0, "Node", "node", 1.0)))
    assert line.problems() == ()  # in the middle of its second Ready is later
    line = Timeline((Mark("registered", 10.9, "journal", "node"), Mark("ready", 10.0, "Node", "node", 1.0)))
    assert "within the uncertainty of 0.500 s" in line.problems()[0]


def test_of_several_marks_the_one_that_is_known_best_counts() -> None:
    coarse = Mark("ready", 10.0, "Node", "api", 1.0)
    fine = Mark("ready", 11.2, "journal", "node", 0.001)
    offsets = (Offset("api", 0, 0.1, "x"), Offset("node", 0, 0.1, "x"))
    assert Timeline((coarse, fine), offsets).best("ready") == fine
    assert Timeline((coarse, fine), (offsets[0],)).best("ready") == coarse


def test_bounds_that_contradict_each_other_are_taken_widely() -> None:
    bounds = [
        *from_request("node", sent=0.0, answered=0.1, stamped=10.0, resolution=0.0),
        *from_request("node", sent=1.0, answered=1.1, stamped=31.0, resolution=0.0),  # the clock was set by 20 s
    ]
    (found,) = estimate(bounds)
    assert found.seconds - found.uncertainty <= 10.0
    assert found.seconds + found.uncertainty >= 29.9
    assert "contradictory" in found.how


def test_how_a_clock_was_bounded_is_said_in_some_words_however_many_marks_there_are() -> None:
    times = true_times(dict.fromkeys(MARKS, 1.0), 0.0)
    marks = [Mark(name, at, "x", "node" if place % 2 else "host") for place, (name, at) in enumerate(times.items())]
    bounds = [
        *from_order(marks),
        *from_request("node", sent=0.0, answered=0.1, stamped=0.05, resolution=1.0, how="Date"),
    ]
    (found,) = estimate(bounds)
    assert found.how == f"Date, the causal order of {len(bounds) - 2} pairs of marks"
    assert len(bounds) > 50
    # Trials that were recorded before have each pair in words.
    old = {"clock": "node", "seconds": 0.1, "uncertainty": 0.2, "how": "Date, kernel is not after cloud-init-local"}
    assert dump(load(Offset, old)) == old


def test_a_clock_bounded_from_one_side_is_not_known() -> None:
    marks = (Mark("requested", 1.0, "a", "host"), Mark("kernel", 3.0, "b", "node"))
    assert estimate(from_order(marks)) == ()


def silent_node(lead: float) -> list[Mark]:
    """Give a launch of 52.3 s as it is told without SSM and the kubelet's metrics: by a node whose clock is ahead."""
    node = {"ready": 48.0, "sandbox": 50.4, "pulled": 50.9, "started": 51.2}
    return [
        Mark("requested", 0.0, "ec2:RunInstances", "host"),
        *(Mark(name, math.floor(at + lead), "object", "node", 1.0) for name, at in node.items()),
        Mark("pod-created", 49.0, "create pod", "host", 0.1),
        Mark("first-output", 52.3 + lead, "pod log", "node"),
    ]


@pytest.mark.parametrize("lead", [7.0, -7.0, 0.0])
def test_the_clock_of_a_node_that_tells_nothing_is_known_from_its_pod(lead: float) -> None:
    marks = silent_node(lead)
    seen = Bound("host", "node", 52.8 - marks[-1].at, "first output seen in the log")
    (found,) = estimate([seen, *from_order(marks)])
    assert abs(found.seconds - lead) <= found.uncertainty <= 1.5
    assert found.how.startswith("first output seen in the log")
    span = Timeline(tuple(marks), (found,)).phases()["launch"]
    assert abs(span.seconds - 52.3) <= span.uncertainty <= 1.5


def measured(trials: dict[int, tuple[Offset, ...]], **smallest: float) -> Results:
    """Give trials of the silent node with the offsets that were found, two of a variant."""
    return Results(
        "20261126-080000-abcdef",
        experiment(smallest=smallest),
        "eks",
        "simulated",
        trials=tuple(
            Trial(number, 1, "cold", image="small", outcome="ok", marks=tuple(silent_node(7.0)), offsets=offsets)
            for number, offsets in trials.items()
        ),
    )


def test_a_clock_that_is_not_known_well_enough_is_a_problem_of_the_trials_that_count() -> None:
    well, badly = (Offset("node", 6.8, 0.3, "date over SSM"),), (Offset("node", 27.0, 20.0, "order"),)
    told = [
        each
        for each in report.problems(measured({1: well, 2: (), 3: well, 4: badly}, seconds=5))
        if "is uncertain" in each
    ]
    assert told == [
        "cold (small): launch is uncertain by an unknown amount, more than the smallest difference worth having, "
        "since clocks are not known better: trials 2, 4"
    ]
    assert report.problems(measured({1: well, 3: well}, seconds=5)) == ()
    # 0.3 s are more than a difference of 0.2 s, or of half a percent.
    for smallest in ({"seconds": 0.2}, {"ratio": 1.005}):
        (only,) = report.problems(measured({1: well, 3: well}, **smallest))
        assert "by up to 0.30 s" in only
    assert report.problems(measured({1: well, 3: well}, ratio=1.01)) == ()


def test_how_far_clocks_were_apart_is_said_in_a_line_each() -> None:
    one = (Offset("node", 6.8, 0.3, "date over SSM, the causal order of 91 pairs of marks"),)
    other = (Offset("node", 7.0, 0.5, "date over SSM, the causal order of 76 pairs of marks"),)
    assert report.clock_lines(measured({1: one, 2: (), 3: other}, seconds=5)) == (
        "clock node: +6.900 s (median of 2 trials), known to 0.500 s or better, by date over SSM, the causal order of "
        "pairs of marks; unknown in 1 trials",
    )
    assert report.clock_lines(measured({1: ()}, seconds=5)) == ("clock node: unknown in 1 trials",)
    assert report.payload(measured({1: one, 3: other}, seconds=5))["clocks"]


def test_the_waterfall_has_no_gap() -> None:
    times = true_times(dict.fromkeys(MARKS, 1.0), 0.0)
    line = Timeline(
        tuple(seen(times, dict.fromkeys(CLOCKS, 0.0), dict.fromkeys(CLOCKS, 0.0))),
        tuple(Offset(clock, 0.0, 0.0, "x") for clock in CLOCKS),
    )
    spans = line.waterfall()
    assert all(one.end == other.begin for one, other in itertools.pairwise(spans))
    whole = line.span(spans[0].begin.name, spans[-1].end.name)
    assert whole is not None
    assert sum(each.seconds for each in spans) == pytest.approx(whole.seconds)


def test_values_come_back_from_json() -> None:
    trial = Trial(
        3,
        1,
        "cold",
        marks=(Mark("requested", 1.5, "x", "host", 0.001, "simulated", "detail"),),
        offsets=(Offset("node", 0.1, 0.2, "request"),),
        conditions={"load": 0.3, "cache": "dropped", "cores": 2, "root": True},
        outcome="failed",
        reason="no space",
    )
    bake = Bake("cold", "a.img", checks=(Check("pinned", True),))
    for value in (trial, bake):
        back = load(type(value), json.loads(json.dumps(dump(value))))
        assert back == value
    conditions = load(Trial, json.loads(json.dumps(dump(trial)))).conditions
    assert [type(each) for each in conditions.values()] == [float, str, int, bool]
    with pytest.raises(InputError, match="outcome"):
        load(Trial, {**dump(trial), "outcome": "perfect"})
