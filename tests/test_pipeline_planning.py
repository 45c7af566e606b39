"""The pipeline's plan: order, choice and what a failure stops, on random graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.pipeline.planning import Choice, Earlier, Schedule, choose, cycle, levels, order

Needs = dict[str, tuple[str, ...]]


@st.composite
def graphs(draw: st.DrawFn, *, most: int = 9) -> Needs:
    """Draw a pipeline without circles, whose file has it in any order."""
    names = [f"{number}_n" for number in range(draw(st.integers(1, most)))]
    needs = {
        name: tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=3)) if place else ())
        for place, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


def ancestors(needs: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """Give all that a notebook needs, directly or not: written differently from the code under test."""
    found: set[str] = set()
    todo = list(needs[name])
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo += needs[each]
    return found


@given(graphs())
def test_the_order_respects_needs_and_loses_nothing(needs: Needs) -> None:
    arranged = order(needs)
    assert sorted(arranged) == sorted(needs)
    for name, wanted in needs.items():
        assert all(arranged.index(need) < arranged.index(name) for need in wanted)
    assert cycle(needs) == []


@given(graphs())
def test_a_file_that_is_in_order_stays_as_it_is(needs: Needs) -> None:
    arranged = order(needs)
    assert order({name: needs[name] for name in arranged}) == arranged


@given(graphs())
def test_a_level_is_one_more_than_the_highest_that_it_needs(needs: Needs) -> None:
    grouped = levels(needs)
    at = {name: number for number, names in enumerate(grouped) for name in names}
    assert sorted(at) == sorted(needs)
    assert all(grouped)
    for name, wanted in needs.items():
        assert at[name] == max((at[need] + 1 for need in wanted), default=0)


@given(graphs(), st.data())
def test_a_circle_is_found_and_is_one(needs: Needs, data: st.DataObject) -> None:
    """Closing a way from a notebook to one that rests on it makes a circle, and what is told is really one."""
    last = data.draw(st.sampled_from(list(needs)))
    first = data.draw(st.sampled_from([last, *sorted(ancestors(needs, last))]))
    closed = {**needs, first: (*needs[first], last)}
    circle = cycle(closed)
    assert circle
    assert len(set(circle)) == len(circle)
    assert all(following in closed[name] for name, following in zip(circle, [*circle[1:], circle[0]], strict=True))
    assert set(order(closed)).isdisjoint(circle)


@given(graphs(), st.data())
def test_a_failure_skips_exactly_what_needs_it(needs: Needs, data: st.DataObject) -> None:
    """Play executions through, with failures and any number at once: what did not run rests on a failure."""
    failing = set(data.draw(st.lists(st.sampled_from(list(needs)), unique=True)))
    at_once = data.draw(st.integers(1, 4))
    schedule = Schedule(needs, needs)
    ran: list[str] = []
    skipped: dict[str, str] = {}
    ended: set[str] = set()
    while not schedule.over:
        for name in schedule.ready()[: at_once - len(schedule.running)]:
            assert set(needs[name]) <= ended - failing
            schedule.begin(name)
            ran.append(name)
        assert 0 < len(schedule.running) <= at_once
        name = data.draw(st.sampled_from(sorted(schedule.running)))
        ended.add(name)
        skipped |= {each.name: each.why for each in schedule.end(name, completed=name not in failing)}
    # A notebook that would fail but is skipped itself fails nothing: what it needs had failed already.
    assert set(skipped) == {name for name in needs if ancestors(needs, name) & failing}
    assert sorted([*ran, *skipped]) == sorted(needs)
    for name, why in skipped.items():
        assert any(why.startswith(f"it needs {need}, which ") for need in needs[name])


@given(graphs(), st.data())
def test_only_and_from_choose_what_they_say(needs: Needs, data: st.DataObject) -> None:
    names = order(needs)
    only = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    chosen = choose(needs, only=only)
    assert list(chosen) == names
    assert {name for name in names if chosen[name].action == "run"} == set(only)
    for name in only:
        missing = [need for need in needs[name] if need not in only]
        assert len(chosen[name].warnings) == len(missing)
    start = data.draw(st.sampled_from(names))
    chosen = choose(needs, start=start)
    assert [name for name in names if chosen[name].action == "run"] == names[names.index(start) :]


@given(graphs(), st.data())
def test_a_resumed_run_repeats_what_did_not_complete_and_what_rests_on_it(needs: Needs, data: st.DataObject) -> None:
    states = ["completed", "failed", "interrupted", "skipped", "waiting", "left out", "running"]
    earlier = {
        name: Earlier(
            data.draw(st.sampled_from(states)), data.draw(st.sampled_from([None, None, "the notebook has changed"]))
        )
        for name in needs
        if data.draw(st.booleans())
    }
    chosen = choose(needs, earlier=earlier)

    def good(name: str) -> bool:
        return earlier.get(name) == Earlier("completed")

    for name in needs:
        keep = good(name) and all(good(each) for each in ancestors(needs, name))
        assert chosen[name].action == ("keep" if keep else "run")
        assert chosen[name].warnings == ()


def test_what_is_said_of_each_choice() -> None:
    needs = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    earlier = {
        "a": Earlier("completed", "the notebook has changed"),
        "b": Earlier("completed"),
        "c": Earlier("skipped"),
    }
    assert choose(needs, earlier=earlier) == {
        "a": Choice("run", "the notebook has changed"),
        "b": Choice("run", "a, which it needs, runs again"),
        "c": Choice("run", "it was skipped before"),
        "d": Choice("run", "it has not run yet"),
    }
    assert choose(needs, only=["b"], earlier={"a": Earlier("failed")})["b"] == Choice(
        "run", "asked for", ("it ran without a, which it needs: that had failed",)
    )
    # A need that completed is no matter of a warning.
    chosen = choose(needs, only=["b"], earlier={"a": Earlier("completed")})
    assert (chosen["a"].action, chosen["b"].warnings) == ("keep", ())


def test_why_a_notebook_is_skipped() -> None:
    schedule = Schedule({"a": (), "b": ("a",), "c": ("b",), "d": ()}, "abcd")
    schedule.begin("a")
    skipped = schedule.end("a", completed=False)
    assert [(each.name, each.why) for each in skipped] == [
        ("b", "it needs a, which failed"),
        ("c", "it needs b, which was skipped because a failed"),
    ]
    assert schedule.ready() == ["d"]
    assert [each.name for each in schedule.stop("no more")] == ["d"]
    assert schedule.over


@pytest.mark.parametrize("run", ["b", "ab"])
def test_what_is_not_to_run_counts_as_met(run: str) -> None:
    schedule = Schedule({"a": (), "b": ("a",)}, run)
    assert schedule.ready() == [run[0]]
