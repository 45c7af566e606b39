"""Experiments run to their end, and go on after whatever stops them; no trial runs twice, nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakedriver import Died, FakeDriver, experiment

from leptonami.bench import report, results, runner
from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Trial
from leptonami.bench.order import order
from leptonami.bench.results import Results
from leptonami.errors import CheckFailed, InputError, Interrupted, LeptonamiError
from leptonami.progress import Silent
from leptonami.runs import Run


class Told(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.details: list[str] = []
        self.lines: list[str] = []

    def update(self, detail: str, fraction: float | None = None) -> None:
        self.details.append(detail)
        assert fraction is None or 0 <= fraction <= 1

    def line(self, text: str) -> None:
        self.lines.append(text)


def go(place: Run, wanted: Experiment | None = None, **faults: Any) -> tuple[FakeDriver, Results | BaseException]:
    """Run, or go on, in a new driver as a new process would; give what came of it, or what stopped it."""
    wanted = wanted or experiment()
    driver = FakeDriver(wanted, place.folder, **faults)
    try:
        return driver, runner.run(wanted, place, lambda _: driver, progress=Silent(), command="again")
    except (LeptonamiError, Died) as error:
        return driver, error


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    # No power is cut here, and a busy disk takes its time for every line of the journal.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return Run.create(tmp_path)


def test_every_trial_is_run_once_and_kept(place: Run) -> None:
    driver, found = go(place)
    assert isinstance(found, Results)
    assert found.complete
    assert driver.launched == driver.cleaned == [each.number for each in order(experiment())]
    assert sorted(driver.baked) == ["cold", "content-only", "prefetched"]
    assert driver.there == []
    assert driver.closed
    assert [each.outcome for each in found.trials] == ["ok"] * len(driver.launched)
    assert all(each.began and each.seconds > 0 and each.overhead >= 0 for each in found.trials)
    document = json.loads((place.folder / "evidence" / "launch-benchmark.json").read_text())
    assert (document["kind"], document["provenance"]) == ("launch-benchmark", "simulated")
    assert document["payload"] == json.loads(json.dumps(report.payload(found)))
    raw = (place.folder / "evidence" / "raw" / "launch-benchmark.txt").read_bytes()
    assert results.parse(raw, source="raw") == found
    assert results.from_journal(place) == found


def test_a_trial_that_fails_is_a_result_with_a_reason(place: Run) -> None:
    driver, found = go(place, faults={2: "fails", 5: "times-out", 9: "leaves", 11: "clean-fails"})
    assert isinstance(found, Results)
    told = {each.number: (each.outcome, each.reason) for each in found.trials if each.outcome != "ok"}
    assert told == {
        2: ("failed", "the pull failed: no space left on device"),
        5: ("timed-out", "the container's first output did not come within 60 s"),
        9: ("failed", "it left behind: a mount"),
        11: ("failed", "it left behind: its clean-up failed: device is busy"),
    }
    # What was seen before a time-out is kept.
    assert [each.name for each in found.trials[4].marks] == ["requested", "running", "containerd"]
    assert (found.trials[4].cost, found.trials[4].conditions) == (0.5, driver.conditions)
    assert found.trials[1].marks == ()
    assert found.complete
    assert driver.complete
    assert driver.there == ["trial-11", "trial-9"]
    assert sum("failed" in each for each in report.problems(found)) == 3
    assert len(found.counted) == len(found.trials) - 3 - 3  # warm-ups; one of the failed ones was one


def test_too_many_failures_in_a_row_stop_it_and_it_goes_on(place: Run) -> None:
    faults = dict.fromkeys(range(4, 12), "fails")
    driver, stopped = go(place, experiment(max_failures=3), faults=faults)
    assert isinstance(stopped, LeptonamiError)
    assert "3 trials in a row have failed" in str(stopped)
    assert driver.launched[-1] == 6
    assert driver.closed
    assert not driver.complete  # what is needed to go on stays
    driver, found = go(place, experiment(max_failures=3))
    assert isinstance(found, Results)
    assert driver.launched[0] == 7
    assert found.complete


@pytest.mark.parametrize("fault", ["dies", "ctrl-c"])
@pytest.mark.parametrize("number", [1, 2, 10, 27])
def test_it_goes_on_where_it_was_stopped(place: Run, number: int, fault: Any) -> None:
    first, stopped = go(place, faults={number: fault})
    assert first.launched[-1] == number
    if fault == "ctrl-c":
        assert isinstance(stopped, Interrupted)
        assert f"--resume {place.id}" in str(stopped.hint)
        assert first.there == []  # cleaned up at once
    else:
        assert isinstance(stopped, Died)
        assert first.there == [f"trial-{number}"]  # as after a SIGKILL
    second, found = go(place)
    assert isinstance(found, Results)
    assert second.there == []
    assert second.launched == list(range(number + 1, 28))
    assert found.complete
    half = found.trials[number - 1]
    assert half.outcome == "interrupted"
    assert half.reason
    assert not half.counts
    again, same = go(place)
    assert again.launched == []
    assert isinstance(same, Results)
    assert same.trials == found.trials


def test_a_line_that_a_crash_cut_off_does_not_stop_it(place: Run) -> None:
    go(place, faults={4: "dies"})
    with place.journal.path.open("a") as file:
        file.write('{"event": "tri')
    driver, found = go(place)
    assert isinstance(found, Results)
    assert driver.launched[0] == 5


def test_more_trials_of_the_same_experiment(place: Run) -> None:
    go(place, experiment(trials=6))
    driver, found = go(place, experiment(trials=7))
    assert isinstance(found, Results)
    assert driver.launched == [22, 23, 24]
    assert found.complete
    assert found.experiment.trials == 7


def test_another_experiment_or_machine_is_not_gone_on_with(place: Run) -> None:
    go(place, faults={4: "dies"})
    _, other = go(place, experiment(seed=99))
    assert isinstance(other, InputError)
    assert "another experiment" in str(other)
    _, moved = go(place, machine={"kernel": "another"})
    assert isinstance(moved, InputError)
    assert "another machine: kernel differ" in str(moved)


def test_a_driver_that_cannot_work_says_why_and_nothing_is_begun(place: Run) -> None:
    driver, refused = go(place, possible=False)
    assert isinstance(refused, InputError)
    assert "no containerd: apt-get install containerd" in str(refused)
    assert driver.launched == driver.baked == []
    assert driver.closed


def test_a_bake_that_is_not_what_it_should_be_is_not_launched(place: Run) -> None:
    driver, refused = go(place, good_bake=False)
    assert isinstance(refused, CheckFailed)
    assert driver.launched == []


def test_a_driver_that_hangs_is_stopped(place: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SLACK", -59.8)
    before = signal.getsignal(signal.SIGALRM)
    _, found = go(place, experiment(trials=1), faults={2: "hangs"})
    assert isinstance(found, Results)
    assert found.trials[1].outcome == "timed-out"
    assert "did not notice" in found.trials[1].reason
    assert signal.getsignal(signal.SIGALRM) is before


def test_outside_of_the_main_thread_it_runs_without_an_alarm(place: Run) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(go(place, experiment(trials=1))[1]))
    thread.start()
    thread.join()
    assert isinstance(found[0], Results)


def test_progress_says_which_trial_of_which_variant_and_when_it_ends(place: Run) -> None:
    told = Told()
    wanted = experiment()
    driver = FakeDriver(wanted, place.folder, faults={3: "fails"})
    runner.run(wanted, place, lambda _: driver, progress=told)
    first = order(wanted)[0]
    assert told.details[0] == f"trial 1 of 27: {first.variant}, small, 200 Mbit/s; no estimate yet"
    assert "; ends about " in told.details[10]
    assert any(each.startswith("trial 3 of 27: ") and "failed: the pull failed" in each for each in told.lines)


def test_the_end_is_estimated_from_trials_of_the_same_kind() -> None:
    now = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
    slow, quick = Trial(1, 1, "cold", seconds=600), Trial(2, 1, "prefetched", seconds=60)
    left = [replace(slow, number=3), replace(quick, number=4)]
    assert runner.ends([slow, quick], left, now=now) == "ends about 08:11 UTC, in 11 min"
    assert runner.ends([quick], [replace(slow, number=3)], now=now) == "ends about 08:01 UTC, in 1 min"


def test_two_processes_do_not_work_on_one_run(place: Run) -> None:
    with place.lock():
        driver, refused = go(place)
    assert isinstance(refused, InputError)
    assert driver.launched == []


def test_overhead_is_what_is_neither_the_launch_nor_the_first_read(place: Run) -> None:
    wanted = experiment(trials=1, warmup=0)

    class Slow(FakeDriver):
        def clean(self, trial: Trial) -> tuple[str, ...]:
            time.sleep(0.6)
            return super().clean(trial)

    # By its marks a launch takes about 0.13 s and the first read 0.3 s: less than passes.
    driver = Slow(wanted, place.folder, slower=0.0)
    found = runner.run(wanted, place, lambda _: driver, progress=Silent())
    for each in found.trials:
        at = {mark.name: mark.at for mark in each.marks}
        inside = at["first-output"] - at["requested"] + at.get("first-read", 0.0) - at.get("first-read-begun", 0.0)
        assert (inside > 0.4) is (each.variant != "cold")
        assert each.overhead == pytest.approx(each.seconds - inside, abs=1e-5)
        assert each.overhead > 0.1
    # Marks that say more seconds than passed leave nothing for it, and not less than nothing.
    hurried = FakeDriver(wanted, place.folder / "other", slower=100.0)
    found = runner.run(wanted, Run.create(place.folder), lambda _: hurried, progress=Silent())
    assert all(each.overhead == 0.0 for each in found.trials)
