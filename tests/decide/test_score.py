"""Scores, must-haves and sensitivity: on cases worked out by hand, and on any case at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from decidehelp import criteria
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from leptonami.decide.claims import ClaimResult, ClaimState
from leptonami.decide.criteria import Criteria
from leptonami.decide.report import number
from leptonami.decide.score import Must, decide, flips, turns, without_musts

NAMES = ("works", "other", "third")
STATES = list(ClaimState)


def claim(
    id: str,
    state: str = "supported",
    *,
    criterion: str = "works",
    side: str = "pro",
    decides: bool = False,
    text: str = "",
) -> ClaimResult:
    option = id.partition(".")[0]
    return ClaimResult(id, option, criterion, side, decides, text or id, ("x",), ClaimState(state), "because")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "state", "wanted"),
    [
        ("pro", "supported", 1.0),
        ("con", "supported", -1.0),
        ("pro", "refuted", -1.0),
        ("con", "refuted", 0.0),
        ("pro", "contested", 0.0),
        ("con", "contested", 0.0),
        ("pro", "not tested", 0.5),
        ("con", "not tested", -0.5),
        ("pro", "expired", None),
        ("con", "expired", None),
    ],
)
def test_what_a_claim_counts(side: str, state: str, wanted: float | None) -> None:
    found = decide([claim("one.a", state, side=side)], criteria())
    assert found.of("one").scores == {"works": wanted, "other": None}


def test_a_score_is_the_mean_of_the_claims_that_count() -> None:
    claims = [claim("one.a"), claim("one.b", "not tested", side="con"), claim("one.c", "expired")]
    found = decide([*claims, claim("two.a", "not tested", criterion="other")], criteria(works=3, other=1))
    assert found.of("one").scores["works"] == 0.25
    assert found.of("one").total == pytest.approx(3 * 0.25 / 4)
    assert found.of("two").total == pytest.approx(0.5 / 4)
    assert (found.chosen, found.tied) == ("one", ())


def test_without_any_weight_all_are_level_and_the_first_is_chosen() -> None:
    found = decide([claim("one.a", "refuted"), claim("two.a")], criteria(works=0, other=0))
    assert (found.chosen, found.tied) == ("one", ("two",))


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ([("pro", "supported")], Must.SHOWN),
        ([("con", "supported")], Must.FAILS),
        ([("pro", "refuted")], Must.FAILS),
        ([("pro", "supported"), ("con", "supported")], Must.CONTESTED),
        ([("pro", "supported"), ("con", "contested")], Must.CONTESTED),
        ([("con", "contested")], Must.CONTESTED),
        ([("con", "supported"), ("pro", "contested")], Must.FAILS),
        ([("pro", "not tested")], Must.NOT_SHOWN),
        ([("pro", "expired")], Must.NOT_SHOWN),
        ([("con", "refuted")], Must.NOT_SHOWN),
        ([], Must.NOT_SHOWN),
    ],
)
def test_how_an_option_stands_to_a_must_have(claims: list[tuple[str, str]], wanted: Must) -> None:
    told = [claim(f"one.c{n}", state, side=side, decides=True) for n, (side, state) in enumerate(claims)]
    # A claim that does not decide changes nothing about the must, whatever its state.
    told += [claim("one.more", state, side=side) for side in ("pro", "con") for state in STATES]
    assert decide(told, criteria(must=True)).of("one").musts == {"works": wanted}


def test_a_must_have_that_fails_excludes_whatever_the_score() -> None:
    claims = [
        claim("one.bad", side="con", decides=True),
        claim("one.good", criterion="other"),
        claim("two.poor", "refuted", criterion="other"),
    ]
    assert decide(claims, criteria(works=0, other=1000, must=True)).chosen == "two"
    assert decide(claims, criteria(works=0, other=1000)).chosen == "one"
    (without,) = without_musts(claims, criteria(works=0, other=1000, must=True))
    assert (without.what, without.chosen, without.second) == (("works",), "one", "two")
    assert decide(claims[:2], criteria(must=True)).chosen is None
    assert flips(decide(claims[:2], criteria(must=True)), criteria(must=True)) == ()


def test_where_a_weight_turns_the_outcome_over() -> None:
    # One leads by works (1 against 0), two by other (1 against 0): level at equal weights.
    claims = [claim("one.a"), claim("two.b", criterion="other")]
    found = flips(decide(claims, criteria(works=3, other=1)), criteria(works=3, other=1))
    assert [(each.criterion, each.at, each.above, each.option) for each in found] == [
        ("works", pytest.approx(1.0), False, "two"),
        ("other", pytest.approx(3.0), True, "two"),
    ]


def test_options_that_are_level_turn_over_at_the_weight_that_there_is() -> None:
    claims = [claim("one.a"), claim("two.b", criterion="other")]
    found = flips(decide(claims, criteria(works=2, other=2)), criteria(works=2, other=2))
    assert [(each.criterion, each.at, each.above, each.option) for each in found] == [
        ("works", 2.0, False, "two"),
        ("other", 2.0, True, "two"),
    ]
    # Less than nothing cannot be given.
    found = flips(decide(claims, criteria(works=0, other=0)), criteria(works=0, other=0))
    assert [(each.criterion, each.at, each.above) for each in found] == [("other", 0.0, True)]


def test_claims_that_say_the_same_turn_together() -> None:
    claims = [
        claim("one.same", "not tested", text="same"),
        claim("two.same", "not tested", text="same"),
        claim("one.own", "not tested", criterion="other"),
        claim("two.own", "not tested", criterion="other", side="con"),
    ]
    found = turns(claims, criteria())
    # Refuting what both say leaves their order: only what is said of one of them can turn it.
    assert [(each.what, each.state, each.chosen) for each in found] == [(("one.own",), "refuted", "two")]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[ClaimResult], Criteria]:
    states, sides = st.sampled_from(STATES), st.sampled_from(["pro", "con"])
    claims = [
        claim(
            f"{o}.c{n}",
            draw(states),
            criterion=draw(st.sampled_from(NAMES)),
            side=draw(sides),
            decides=draw(st.booleans()),
        )
        for o in ("one", "two", "three")[: draw(st.integers(2, 3))]
        for n in range(draw(st.integers(1, 5)))
    ]
    weights = [draw(st.integers(0, 40)) / 4 for _ in NAMES]
    made = Criteria.model_validate(
        {
            "schema": 1,
            "untested": draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
            "criteria": [
                {"id": name, "title": name, "what": name, "weight": weight, "must": draw(st.booleans())}
                for name, weight in zip(NAMES, weights, strict=True)
            ],
        }
    )
    return claims, made


def with_weight(made: Criteria, name: str, weight: float) -> Criteria:
    return made.with_weights({name: weight})


@given(cases())
@settings(deadline=None)
def test_the_chosen_one_is_never_excluded_and_has_the_best_total(case: tuple[list[ClaimResult], Criteria]) -> None:
    claims, made = case
    found = decide(claims, made)
    assert all(-1 <= each.total <= 1 for each in found.options)
    left = [each for each in found.options if not each.excluded]
    assert (found.chosen is None) == (not left)
    if found.chosen is not None:
        assert not found.of(found.chosen).excluded
        assert found.of(found.chosen).total >= max(each.total for each in left) - 1e-9


@given(cases(), st.sampled_from([0.125, 0.5, 3.0, 10.0]))
@settings(deadline=None)
def test_scaling_all_weights_changes_nothing(case: tuple[list[ClaimResult], Criteria], factor: float) -> None:
    claims, made = case
    scaled = made.with_weights({each.id: each.weight * factor for each in made.criteria})
    before, after = decide(claims, made), decide(claims, scaled)
    assert [each.option for each in before.options] == [each.option for each in after.options]
    assert before.chosen == after.chosen
    assert [(f.criterion, f.above, f.option) for f in flips(before, made)] == [
        (f.criterion, f.above, f.option) for f in flips(after, scaled)
    ]


@given(cases())
@settings(deadline=None, max_examples=150)
@example(([claim("one.a"), claim("two.b", criterion="other")], criteria(works=3, other=1)))
def test_flips_really_flip(case: tuple[list[ClaimResult], Criteria]) -> None:
    claims, made = case
    now = decide(claims, made)
    step = 1e-4
    for each in flips(now, made):
        sign = 1 if each.above else -1
        beyond, before = each.at + sign * step, each.at - sign * step
        if 0 <= beyond <= 1000:
            assert decide(claims, with_weight(made, each.criterion, beyond)).chosen != now.chosen
        # Options that are level have nothing before the turn: it is where they stand.
        if 0 <= before <= 1000 and not now.tied:
            assert decide(claims, with_weight(made, each.criterion, before)).chosen == now.chosen


@given(cases(), st.sampled_from(NAMES), st.floats(0, 60))
@settings(deadline=None, max_examples=150)
def test_between_the_flips_nothing_flips(case: tuple[list[ClaimResult], Criteria], name: str, weight: float) -> None:
    claims, made = case
    now = decide(claims, made)
    assume(not now.tied)
    found = {each.above: each.at for each in flips(now, made) if each.criterion == name}
    assume(found.get(False, -1) + 1e-4 < weight < found.get(True, 1e9) - 1e-4)
    after = decide(claims, with_weight(made, name, weight))
    # At a weight of nought for all there is nothing to tell options apart by.
    assume(sum(each.weight for each in with_weight(made, name, weight).criteria) > 1e-3)
    assert after.chosen == now.chosen


@given(cases())
@settings(deadline=None)
def test_turns_really_turn(case: tuple[list[ClaimResult], Criteria]) -> None:
    claims, made = case
    now = decide(claims, made).chosen
    found = turns(claims, made)
    told = {(id, each.state): each.chosen for each in found for id in each.what}
    for at, each in enumerate(claims):
        for state in (ClaimState.SUPPORTED, ClaimState.REFUTED):
            after = decide([*claims[:at], replace(each, state=state), *claims[at + 1 :]], made).chosen
            assert told.get((each.id, state), now) == after


@given(cases())
@settings(deadline=None)
def test_support_for_the_chosen_one_never_dethrones_it(case: tuple[list[ClaimResult], Criteria]) -> None:
    claims, made = case
    now = decide(claims, made).chosen
    for at, each in enumerate(claims):
        if each.option == now and each.side == "pro" and each.state is ClaimState.NOT_TESTED:
            better = [*claims[:at], replace(each, state=ClaimState.SUPPORTED), *claims[at + 1 :]]
            assert decide(better, made).chosen == now


def test_numbers_show_their_sign() -> None:
    assert [number(each) for each in (0.5, -1.0, None, -0.0, 0.001, -0.001)] == [
        "+0.50",
        "−1.00",
        "–",
        "0.00",
        "0.00",
        "0.00",
    ]
