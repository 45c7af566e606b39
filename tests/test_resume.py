"""Builds that are killed go on: a spread of crash points here, all of them in `benchmarks/crashes.py`."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leptonami import plan as plans
from leptonami.build import executor
from leptonami.build.past import Past
from leptonami.errors import BuildError, InputError, Interrupted
from leptonami.runs import Run
from leptonami.target import Target, connect

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import crashes

# The call at which the build is killed, which one of its kind, and when.
POINTS = [
    ("CreateSecurityGroup", 1, "after"),
    ("PutRolePolicy", 1, "before"),
    ("AddRoleToInstanceProfile", 1, "after"),
    ("RunInstances", 1, "after"),
    ("SendCommand", 2, "after"),
    ("GetCommandInvocation", 3, "before"),
    ("StopInstances", 1, "after"),
    ("CreateImage", 1, "after"),
    ("ModifyImageAttribute", 1, "before"),
    ("TerminateInstances", 1, "after"),
    ("DeleteRole", 1, "after"),
]


@pytest.fixture(scope="module")
def harness() -> Iterator[crashes.Harness]:
    with crashes.harness() as made:
        yield made


@pytest.fixture(scope="module")
def peace(harness: crashes.Harness) -> tuple[list[str], Any]:
    return harness.undisturbed()


@pytest.fixture
def target(harness: crashes.Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in harness.lab.environment.items():
        monkeypatch.setenv(name, value)
    with connect("lab", region="us-west-2") as connected:
        yield connected


@pytest.mark.parametrize(("operation", "nth", "moment"), POINTS, ids=str)
def test_a_killed_build_goes_on_to_the_same_end(
    harness: crashes.Harness, peace: tuple[list[str], Any], operation: str, nth: int, moment: str
) -> None:
    trial = harness.resume_trial((operation, nth), moment, peace[1])
    assert trial.verdict == "resumed", trial


def test_what_a_killed_build_leaves_is_swept(harness: crashes.Harness) -> None:
    trial = harness.sweep_trial(("StopInstances", 1), "after")
    assert trial.left["instances"] == 1
    assert trial.verdict == "swept", trial


def test_a_run_that_succeeded_gives_the_same_image_again(
    harness: crashes.Harness, target: Target, tmp_path: Path
) -> None:
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path)
    before = harness.state()
    again = executor.build(target, plan, runs=tmp_path, run_id=first.run.id, resume=True)
    assert again.image == first.image
    assert again.findings == first.findings
    assert harness.more(before) == {}


def test_a_failure_after_success_takes_nothing_away(
    harness: crashes.Harness, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path)
    # A node that somebody tagged with the run that its image came from.
    tags = [{"Key": "leptonami:run", "Value": first.run.id}, {"Key": "Name", "Value": "prod-node"}]
    node = target.client("ec2").run_instances(
        ImageId=first.image.id,
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"][0]["InstanceId"]
    before = first.manifest.read_text()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor.image, "wait_available", interrupt)
    with pytest.raises(Interrupted):
        executor.build(target, plan, runs=tmp_path, run_id=first.run.id, resume=True)
    (image,) = target.client("ec2").describe_images(ImageIds=[first.image.id])["Images"]
    assert image["State"] == "available"
    assert first.manifest.read_text() == before
    described = target.client("ec2").describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"][0]
    assert described["State"]["Name"] in {"pending", "running"}
    target.client("ec2").terminate_instances(InstanceIds=[node])


def test_a_list_that_is_late_makes_no_second_builder(
    harness: crashes.Harness, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.load(harness.plan)
    before = harness.state()
    monkeypatch.setattr(executor.builders, "wait_running", lambda *_: (_ for _ in ()).throw(BuildError("killed")))
    with pytest.raises(BuildError, match="killed"):
        executor.build(target, plan, runs=tmp_path, run_id=(run := harness.run_id()), keep_on_error=True)
    monkeypatch.undo()
    for name, value in harness.lab.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(executor.builders, "find_tagged", lambda *_: [])
    result = executor.build(target, plan, runs=tmp_path, run_id=run, resume=True)
    assert result.image.state == "available"
    assert harness.more(before) == {"images": 1, "snapshots": 1}


def test_a_builder_that_is_gone_is_launched_anew(harness: crashes.Harness, target: Target) -> None:
    run = harness.run_id()
    before = harness.state()
    harness.proxy.arm(("StopInstances", 1), "before")
    harness.build(run)
    (lost,) = harness.state()["instances"] - before["instances"]
    target.client("ec2").terminate_instances(InstanceIds=[lost])
    harness.proxy.arm(0, "before")
    code, said = harness.build(run, resume=True)
    assert code == 0, said
    written = json.loads((harness.folder / "runs" / run / "manifest.json").read_text())
    assert written["builder"]["instance"] != lost
    assert [each["exit_code"] for each in written["steps"]] == [0, 0, 0]
    more = harness.more(before)
    # A command that was under way on the lost builder never ends there.
    more.pop("commands", None)
    assert more == {"images": 1, "snapshots": 1}


def test_the_notebook_run_again_with_the_runs_id_goes_on(harness: crashes.Harness) -> None:
    run = harness.run_id()
    before = harness.state()
    harness.proxy.arm(("StopInstances", 1), "after")
    harness.build(run)
    harness.proxy.arm(0, "before")
    parameters = ["-p", f"plan={harness.plan}", "-p", f"run_id={run}", "-p", "runs_folder=runs"]
    notebook = str(Path(__file__).parent.parent / "notebooks" / "10_build_ami.ipynb")
    code, said = harness.leptonami("run", notebook, *parameters, "--no-html", "--quiet")
    assert code == 0, said
    assert "RunInstances" not in harness.proxy.seen
    assert harness.more(before) == {"images": 1, "snapshots": 1}


def test_two_processes_on_one_run_are_one_too_many(harness: crashes.Harness, target: Target, tmp_path: Path) -> None:
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path)
    with first.run.lock(), pytest.raises(InputError, match=f"process {os.getpid()}, which started at 20") as caught:
        executor.build(target, plan, runs=tmp_path, run_id=first.run.id, resume=True)
    assert caught.value.exit_code == 2


def test_a_lock_that_nobody_holds_is_no_hindrance(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    (run.folder / "lock").write_text("process 1, which started at some time")
    with run.lock(), (run.folder / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with run.lock():
        pass


def test_a_plan_that_changed_is_not_gone_on_with(harness: crashes.Harness, target: Target, tmp_path: Path) -> None:
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path / "runs")
    changed = tmp_path / "changed.yaml"
    changed.write_text(crashes.PLAN.replace("size_gib: 30", "size_gib: 31"))
    with pytest.raises(InputError, match="has changed since the run began") as caught:
        executor.build(target, plans.load(changed), runs=tmp_path / "runs", run_id=first.run.id, resume=True)
    assert caught.value.hint


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run"):
        Run.open(tmp_path, "20261123-211500-a1b2c3")


def test_a_journal_that_lost_what_it_must_know_says_so() -> None:
    with pytest.raises(BuildError, match="journal has no 'builder'") as caught:
        Past([{"event": "build"}, {"event": "odd"}]).require("builder")
    assert caught.value.hint
