"""The parts of a build that need no AWS: names, clean-up, the live log, progress."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami import plan as plans
from leptonami.build.cleanup import Cleanup, uninterrupted
from leptonami.build.command import LiveLog
from leptonami.build.image import percent
from leptonami.build.names import AMI_NAME, Names
from leptonami.build.preflight import escape_filter, imagine, patience
from leptonami.errors import InputError, Timeout
from leptonami.progress import PlainProgress, Silent, Stages, printable
from leptonami.runs import Journal, parse_id
from leptonami.target import AwsError

NAMES = Names(run="20261123-211500-a1b2c3", plan="ubuntu", owner="me")


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ends: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def end(self, outcome: str) -> None:
        self.ends.append(outcome)


def test_names_are_derived_from_the_run() -> None:
    assert NAMES.image("leptonami-{plan}-{date}-{time}") == "leptonami-ubuntu-20261123-211500"
    assert NAMES.token("builder", "a") == NAMES.token("builder", "a")
    assert NAMES.token("builder", "a") != NAMES.token("builder", "b")
    assert len(NAMES.temporary) <= 64


@pytest.mark.parametrize("template", ["{nope}", "{plan", "a", "x" * 129, "naïve", "{plan.__class__}", "{0}"])
def test_bad_image_names(template: str) -> None:
    with pytest.raises(InputError, match=r"image\.name"):
        NAMES.image(template)


@given(st.text(max_size=140))
def test_an_image_name_is_one_that_ec2_takes_or_refused(template: str) -> None:
    try:
        name = NAMES.image(template)
    except InputError:
        return
    assert AMI_NAME.fullmatch(name)


def test_temporary_things_expire_and_say_whose_they_are() -> None:
    tags = {tag["Key"]: tag["Value"] for tag in NAMES.tags("builder", {"team": "gpu"}, temporary=True)}
    assert tags["leptonami:expires"] == "2026-11-24T09:15:00Z"
    assert (tags["team"], tags["leptonami:run"], tags["leptonami:owner"]) == ("gpu", NAMES.run, "me")
    patient = Names(run=NAMES.run, plan="ubuntu", owner="me", wait=7 * 86_400)
    later = {tag["Key"]: tag["Value"] for tag in patient.tags("builder", {}, temporary=True)}
    assert later["leptonami:expires"] == "2026-12-01T09:15:00Z", "a build that may still be waiting has not expired"
    assert "leptonami:expires" not in {tag["Key"] for tag in NAMES.tags("image", {}, temporary=False)}


def test_a_build_with_slow_steps_does_not_expire_while_it_runs() -> None:
    """Run Command allows a step two days; a sweep on another machine knows only what the tags say."""
    usual = plans.load("ubuntu-22.04-cpu")
    assert patience(usual) == usual.image.wait, "what steps usually take has room in the twelve hours"
    first, *rest = usual.steps
    slow = usual.model_copy(update={"steps": (dataclasses.replace(first, timeout=2 * 86_400), *rest)})
    until = imagine(slow, NAMES.run).names.expires
    longest = 2 * 86_400 + slow.image.wait
    assert datetime.fromisoformat(until) > parse_id(NAMES.run) + timedelta(seconds=longest)


def test_a_plan_cannot_take_over_our_tags() -> None:
    tags = {tag["Key"]: tag["Value"] for tag in NAMES.tags("builder", {"leptonami:run": "other"}, temporary=True)}
    assert tags["leptonami:run"] == NAMES.run


def test_filters_are_escaped() -> None:
    assert escape_filter(r"a*b?c\d") == r"a\*b\?c\\d"


@pytest.mark.parametrize(("text", "share"), [("42%", 0.42), ("100%", 1.0), ("", 0.0), ("??%", 0.0), ("250%", 1.0)])
def test_a_snapshots_progress(text: str, share: float) -> None:
    assert percent(text) == share


def test_removals_go_backwards_and_one_that_fails_does_not_stop_the_rest(tmp_path: Path) -> None:
    done: list[str] = []
    cleanup = Cleanup(Journal(tmp_path / "j"))

    def fail() -> None:
        raise AwsError("DependencyViolation", "DeleteSecurityGroup", "in use")

    def gone() -> None:
        raise AwsError("InvalidInstanceID.NotFound", "TerminateInstances", "no")

    cleanup.add("first", lambda: done.append("first"))
    cleanup.add("stuck", fail)
    cleanup.add("gone", gone)
    number = cleanup.add("vague", lambda: done.append("vague"))
    cleanup.replace(number, "exact", lambda: done.append("exact"))
    forgotten = cleanup.add("forgotten", lambda: done.append("forgotten"))
    cleanup.forget(forgotten)
    outcomes = [(each.what, each.outcome) for each in cleanup.run()]
    assert outcomes == [("exact", "removed"), ("gone", "was not there"), ("stuck", "failed"), ("first", "removed")]
    assert done == ["exact", "first"]
    assert [each.what for each in cleanup.left] == ["stuck"]
    assert len(cleanup.run()) == 4, "a second run removes nothing again"


def test_a_removal_that_times_out_is_a_failure_too(tmp_path: Path) -> None:
    cleanup = Cleanup(Journal(tmp_path / "j"))

    def slow() -> None:
        raise Timeout("too slow")

    cleanup.add("slow", slow)
    assert cleanup.run()[0].outcome == "failed"


def test_keeping_writes_down_what_is_kept(tmp_path: Path) -> None:
    cleanup = Cleanup(Journal(tmp_path / "j"))
    cleanup.add("builder", lambda: pytest.fail("must be kept"))
    cleanup.keep()
    assert cleanup.run() == cleanup.done
    assert [each.outcome for each in cleanup.done] == ["kept"]
    assert cleanup.journal.read()[0]["what"] == "builder"


def test_ctrl_c_waits_for_the_clean_up_but_not_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    reached = False
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached
    assert "cleaning up" in capsys.readouterr().err

    def press_three_times() -> None:
        with uninterrupted():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_three_times()


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_a_log_is_kept_byte_for_byte_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, cuts: list[int]
) -> None:
    told = Told()
    live = LiveLog(tmp_path_factory.mktemp("log") / "x.log", told)
    edges = [0, *sorted(cuts), len(raw)]
    for start, end in itertools.pairwise(edges):
        live.add(raw[start:end])
    live.close()
    assert live.path.read_bytes() == raw
    assert live.size == len(raw)
    assert "\n".join(told.lines).count("\n") <= raw.count(b"\n")


@given(st.text())
def test_untrusted_text_cannot_drive_the_terminal(text: str) -> None:
    shown = printable(text)
    assert "\x1b" not in shown
    assert all(each.isprintable() or each == "\t" for each in shown)
    assert len(shown) == len(text)


def test_stages_tell_how_they_ended() -> None:
    told = Told()
    stages = Stages(told)
    with stages.stage("one"):
        pass
    with pytest.raises(ValueError, match="x"), stages.stage("two"):
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt), stages.stage("three"):
        raise KeyboardInterrupt
    assert told.ends == ["done", "failed", "interrupted"]
    assert [each.title for each in stages.ended] == ["one", "two", "three"]


def test_a_log_of_ci_has_a_line_at_each_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress()
    progress.begin("launch")
    progress.line("\x1b[31mred")
    progress.end("done")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "launch ..."
    assert shown[1] == "  | \N{REPLACEMENT CHARACTER}[31mred"
    assert shown[2].startswith("launch: done (")
