"""`leptonami runs`: how runs stand, what they own by AWS or by their journals, what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import load

from leptonami.build import executor
from leptonami.cli import cli
from leptonami.lab import Lab, start
from leptonami.lifecycle.known import read_run
from leptonami.lifecycle.overview import from_journal, overview
from leptonami.lifecycle.resources import Resource
from leptonami.lifecycle.words import age, usd
from leptonami.runs import Run
from leptonami.target import Target, connect

RUN = "20261123-211500-a1b2c3"
NOW = datetime(2026, 11, 23, 23, 15, tzinfo=UTC)
REGION = "us-west-2"
AT = datetime(2026, 11, 23, 21, 15, tzinfo=UTC)


def write(root: Path, lines: list[dict[str, Any]], manifest: dict[str, Any] | None = None, tail: str = "") -> Path:
    folder = root / RUN
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(
        json.dumps({"at": (AT + timedelta(minutes=number)).isoformat(), **line}) + "\n"
        for number, line in enumerate(lines)
    )
    (folder / "journal.jsonl").write_text(text + tail)
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps({"schema": 1, **manifest}))
    return folder


def intent(action: str, **more: Any) -> dict[str, Any]:
    return {"event": "intent", "action": action, **more}


def done(action: str, **more: Any) -> dict[str, Any]:
    return {"event": "done", "action": action, **more}


def removed(what: str) -> list[dict[str, Any]]:
    return [intent("remove", what=what), done("remove")]


MADE = [
    {"event": "build", "plan": "test", "provenance": "measured"},
    intent("ec2.CreateSecurityGroup", name=f"leptonami-{RUN}"),
    done("ec2.CreateSecurityGroup", id="sg-1"),
    intent("iam.CreateRole", name=f"leptonami-{RUN}"),
    done("iam.CreateRole"),
    intent("iam.CreateInstanceProfile", name=f"leptonami-{RUN}"),
    done("iam.CreateInstanceProfile"),
    intent("ec2.RunInstances", where="x"),
    done("ec2.RunInstances", id="i-1"),
]


def owns(tmp_path: Path, lines: list[dict[str, Any]], tail: str = "") -> list[str]:
    return from_journal(read_run(write(tmp_path, lines, {"state": "running"}, tail)))


def test_the_journal_tells_what_was_made_and_not_removed(tmp_path: Path) -> None:
    name = f"leptonami-{RUN}"
    assert owns(tmp_path, MADE) == ["group sg-1", f"role {name}", f"profile {name}", "instance i-1"]
    assert owns(tmp_path, [*MADE, *removed("builder i-1")]) == ["group sg-1", f"role {name}", f"profile {name}"]
    rest = [*removed("builder i-1"), *removed(f"instance profile {name}"), *removed(f"role {name}")]
    assert owns(tmp_path, [*MADE, *rest]) == ["group sg-1"]
    assert owns(tmp_path, [*MADE, *rest, *removed("security group sg-1")]) == []
    failed = [intent("remove", what="builder i-1"), {"event": "failed", "action": "remove"}]
    assert "instance i-1" in owns(tmp_path, [*MADE, *failed])
    assert owns(tmp_path, [*MADE, {"event": "swept", "by": "x"}]) == []


def test_a_call_without_an_outcome_may_have_made_something(tmp_path: Path) -> None:
    assert owns(tmp_path, [intent("ec2.RunInstances", where="x")]) == ["instance (perhaps)"]
    refused = [intent("ec2.RunInstances", where="x"), {"event": "failed", "action": "ec2.RunInstances"}]
    assert owns(tmp_path, refused) == []


def test_a_journal_that_a_crash_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert "instance i-1" in owns(tmp_path, MADE, tail='{"at": "2026-11-23T21:30:00+00:00", "event": "inte')


def cost_of(tmp_path: Path, lines: list[dict[str, Any]], manifest: dict[str, Any]) -> float | None:
    return overview([read_run(write(tmp_path, lines, manifest))], None, NOW)[0].usd


def test_what_a_run_has_cost(tmp_path: Path) -> None:
    manifest: dict[str, Any] = {
        "state": "failed",
        "provenance": "measured",
        "builder": {"type": "m5.large"},
        "plan": {"parameters": {"root_volume": {"size_gib": 100}}},
    }
    # From minute 8 to minute 20 of the journal.
    minutes = [*MADE, *[{"event": "x"}] * 10, *removed("builder i-1")]
    short = (0.096 + 100 * 0.08 / 730) * 12 / 60
    assert cost_of(tmp_path, minutes, manifest) == pytest.approx(short)
    # It is still there.
    still = (0.096 + 100 * 0.08 / 730) * 112 / 60
    assert cost_of(tmp_path, MADE, manifest) == pytest.approx(still)
    assert cost_of(tmp_path, MADE, {**manifest, "builder": {"type": "x9.huge"}}) is None
    assert cost_of(tmp_path, MADE, {**manifest, "provenance": "simulated"}) == 0
    assert cost_of(tmp_path, MADE[:3], manifest) == 0


def test_what_an_image_has_cost(tmp_path: Path) -> None:
    lines = [*MADE, *removed("builder i-1"), intent("ec2.CreateImage"), done("ec2.CreateImage", id="ami-1")]
    manifest: dict[str, Any] = {
        "state": "succeeded",
        "provenance": "measured",
        "builder": {"type": "m5.large"},
        "plan": {"parameters": {"root_volume": {"size_gib": 100}}},
        "image": {"id": "ami-1", "size_gib": 100},
    }
    builder = (0.096 + 100 * 0.08 / 730) * 2 / 60
    assert cost_of(tmp_path, lines, manifest) == pytest.approx(builder + 100 * 0.05 / 730 * 108 / 60)


def test_aws_counts_for_more_than_the_journal(tmp_path: Path) -> None:
    known = read_run(write(tmp_path, MADE, {"state": "running", "target": {"region": REGION}}))
    there = [
        Resource("volume", "vol-1", REGION, {"leptonami:run": RUN}),
        Resource("volume", "vol-2", REGION, {"leptonami:run": "another"}),
        Resource("instance", "i-1", REGION, {"leptonami:run": RUN}, state="terminated"),
    ]
    (row,) = overview([known], there, NOW)
    assert (row.owns, row.source) == (("volume vol-1",), "AWS")
    (row,) = overview([known], None, NOW)
    assert row.source == "journal"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["event", "action", "id", "what", "at", "builder", "name", "x"]),
            st.one_of(
                st.sampled_from(
                    ["intent", "done", "failed", "swept", "builder", "remove", "ec2.RunInstances", "builder i-1"]
                ),
                st.text(max_size=10),
                st.integers(),
                st.none(),
                st.just({"type": "m5.large"}),
            ),
        ),
        max_size=15,
    ),
    st.dictionaries(
        st.sampled_from(["state", "plan", "image", "builder", "target", "removed", "provenance"]),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2),
                st.dictionaries(st.sampled_from(["id", "name", "type", "parameters", "region"]), inner),
            ),
        ),
    ),
)
def test_any_folder_can_be_shown(tmp_path: Path, lines: list[dict[str, Any]], manifest: dict[str, Any]) -> None:
    known = read_run(write(tmp_path, lines, manifest))
    (row,) = overview([known], None, NOW)
    json.dumps(row.as_dict())


def test_ages_and_amounts() -> None:
    assert [age(NOW - each, NOW) for each in (timedelta(minutes=5), timedelta(hours=30), timedelta(days=3))] == [
        "5 min",
        "30 h",
        "3 d",
    ]
    assert age(NOW + timedelta(hours=1), NOW) == "0 min"
    assert age(None, NOW) == "?"
    assert [usd(each) for each in (None, 0.0, 0.001, 0.126, 12.0)] == ["?", "", "<0.01", "0.13", "12.00"]


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


@pytest.fixture
def target(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    with connect("lab", region=REGION) as connected:
        yield connected


def test_the_command_shows_runs_and_what_they_own(target: Target, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    result = executor.build(target, load(tmp_path, steps=[]), runs=runs)
    write(runs, MADE, {"state": "running", "plan": {"name": "other"}, "target": {"region": REGION}, "schema": 9})
    runner, options = CliRunner(), ["--aws", "lab", "--runs", str(runs)]
    shown = runner.invoke(cli, ["runs", *options])
    assert shown.exit_code == 0, shown.output
    assert result.run.id in shown.stdout
    assert "killed" in shown.stdout
    assert "1 image" in shown.stdout
    assert "schema 9" in shown.stderr
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    told = json.loads(runner.invoke(cli, ["runs", "--json", *options]).stdout)
    by_id = {each["id"]: each for each in told["runs"]}
    assert told["asked_aws"]
    assert by_id[result.run.id]["owns"][0] == f"image {result.image.id}"
    assert by_id[result.run.id]["finished_images"] == [result.image.id]
    assert by_id[result.run.id]["owns_according_to"] == "AWS"
    assert by_id[RUN]["owns"] == [], "AWS has nothing of it"
    offline = json.loads(runner.invoke(cli, ["runs", "--offline", "--json", *options]).stdout)
    owned = {each["id"]: each["owns"] for each in offline["runs"]}
    assert owned[result.run.id] == [f"image {result.image.id}"]
    assert "instance i-1" in owned[RUN]


def test_an_id_can_be_copied_from_a_narrow_terminal(tmp_path: Path) -> None:
    manifest = {"state": "succeeded, with leftovers", "plan": {"name": "a-plan-with-quite-a-long-name"}, "schema": 1}
    write(tmp_path, MADE, manifest)
    shown = CliRunner().invoke(cli, ["runs", "--offline", "--runs", str(tmp_path)])
    assert RUN in shown.stdout
    assert "a-plan-with-quite-a-long-name" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())


def test_without_credentials_the_journal_has_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, MADE, {"state": "running", "target": {"region": REGION}})
    told = json.loads(CliRunner().invoke(cli, ["runs", "--json", "--runs", str(tmp_path)]).stdout)
    assert not told["asked_aws"]
    assert "credentials" in told["why"]
    assert told["runs"][0]["owns_according_to"] == "journal"
    assert "instance i-1" in told["runs"][0]["owns"]


def test_no_runs_is_no_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["runs", "--runs", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert "no runs" in result.stderr
    assert result.stdout == ""


def test_a_live_run_is_shown_as_one(tmp_path: Path) -> None:
    run = Run.create(tmp_path, RUN)
    run.journal.write("build", plan="test")
    run.write_manifest({"schema": 1, "state": "running"})
    with run.lock():
        told = json.loads(CliRunner().invoke(cli, ["runs", "--offline", "--json", "--runs", str(tmp_path)]).stdout)
    assert (told["runs"][0]["state"], told["runs"][0]["live"]) == ("running", True)


def test_what_a_run_calls_itself_cannot_drive_the_terminal(tmp_path: Path) -> None:
    write(tmp_path, MADE, {"state": "\x1b[2Jfailed", "plan": {"name": "\x1b]0;x\x07[bold]"}})
    result = CliRunner().invoke(cli, ["runs", "--offline", "--runs", str(tmp_path)])
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
