"""Builds that are killed go on: a spread of crash points here, all of them in `benchmarks/crashes.py`."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small import build_here

from leptonami import plan as plans
from leptonami.build import base as bases
from leptonami.build import builder, command, executor
from leptonami.build.names import LIFETIME
from leptonami.build.past import Past
from leptonami.cli import cli
from leptonami.errors import BuildError, InputError, Interrupted
from leptonami.lab import Lab
from leptonami.progress import Silent
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


BUILDER, IMAGE = ("instances", "volumes", "interfaces"), ("images", "snapshots")
KEPT = "swept, finished image kept"


# Two short steps and the verification: what is killed and gone on with is the same as with the steps that we ship,
# which cost ten times as much.
SHORT = crashes.PLAN.replace("[settle, versions, hygiene]", "[{script: {path: a.sh}}, {script: {path: b.sh}}]")


class Harness(crashes.Harness):
    """A build that nothing kills needs no process of its own: it is built in this one."""

    def __init__(self, lab: Lab, proxy: crashes.Proxy, folder: Path, plan: str, number: int) -> None:
        super().__init__(lab, proxy, folder)
        for name in ("a.sh", "b.sh"):
            (folder / name).write_text("#!/bin/bash\necho ran\n")
        self.plan.write_text(plan)
        # Several harnesses share a lab, and each has run ids of its own.
        self.number = number

    def build(self, run: str, *, resume: bool = False) -> tuple[int, str]:
        if self.proxy.point:
            return super().build(run, resume=resume)
        environment = {**self.lab.environment, "AWS_ENDPOINT_URL": self.proxy.url}
        return build_here(environment, self.plan, self.folder / "runs", run_id=run, resume=resume)


@pytest.fixture(scope="module")
def bench() -> Iterator[crashes.Harness]:
    with crashes.harness() as made:
        yield made


@pytest.fixture(scope="module")
def harness(bench: crashes.Harness, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(bench.lab, bench.proxy, tmp_path_factory.mktemp("short"), SHORT, 0)


@pytest.fixture(scope="module")
def whole(bench: crashes.Harness, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """The same with steps that we ship, and so with claims, findings and the record of versions."""
    return Harness(bench.lab, bench.proxy, tmp_path_factory.mktemp("whole"), crashes.PLAN, 0x100000)


@pytest.fixture(scope="module")
def peace(harness: Harness) -> Any:
    return harness.undisturbed()[1]


@pytest.fixture(scope="module")
def whole_peace(whole: Harness) -> Any:
    return whole.undisturbed()[1]


@pytest.fixture
def target(bench: crashes.Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in bench.lab.environment.items():
        monkeypatch.setenv(name, value)
    with connect("lab", region="us-west-2") as connected:
        yield connected


@pytest.mark.parametrize(("operation", "nth", "moment"), POINTS, ids=str)
def test_a_killed_build_goes_on_to_the_same_end(
    harness: Harness, peace: Any, operation: str, nth: int, moment: str
) -> None:
    trial = harness.resume_trial((operation, nth), moment, peace)
    assert trial.verdict == "resumed", trial


@pytest.mark.parametrize(
    ("operation", "nth", "moment"), [("SendCommand", 2, "after"), ("ModifyImageAttribute", 1, "before")], ids=str
)
def test_a_killed_build_with_claims_goes_on_to_the_same_findings(
    whole: Harness, whole_peace: Any, operation: str, nth: int, moment: str
) -> None:
    assert whole_peace["findings"] and whole_peace["versions"]
    trial = whole.resume_trial((operation, nth), moment, whole_peace)
    assert trial.verdict == "resumed", trial


@pytest.fixture(scope="module")
def publishing(bench: crashes.Harness, tmp_path_factory: pytest.TempPathFactory) -> tuple[Harness, Any]:
    folder = tmp_path_factory.mktemp("publishing")
    # What has passed no check is not published.
    plan = crashes.PLAN.replace("versions, ", "") + crashes.PUBLISH
    made = Harness(bench.lab, bench.proxy, folder, plan, 0x200000)
    made.wanted = crashes.PUBLISHED
    return made, made.undisturbed()[1]


@pytest.mark.parametrize(
    ("operation", "nth", "moment"),
    [("CopyImage", 1, "after"), ("EnableImageDeprecation", 2, "before"), ("PutParameter", 3, "after")],
    ids=str,
)
def test_a_build_that_was_killed_while_it_published_goes_on(
    publishing: tuple[Harness, Any], operation: str, nth: int, moment: str
) -> None:
    harness, wanted = publishing
    trial = harness.resume_trial((operation, nth), moment, wanted)
    assert trial.verdict == "resumed", trial
    published = list((harness.folder / "runs").glob("*/publish.json"))
    assert {json.loads(each.read_text())["state"] for each in published} == {"published"}


# The same for a sweep, with what is left then. Before the image is finished, while it is, and after.
SWEPT = [
    ("RunInstances", 1, "after", {*BUILDER, "security_groups", "roles", "profiles"}, "swept"),
    ("SendCommand", 2, "before", {*BUILDER, "security_groups", "roles", "profiles"}, "swept"),
    ("CreateImage", 1, "after", {*IMAGE, *BUILDER, "security_groups", "roles", "profiles"}, "swept"),
    ("ModifyImageAttribute", 1, "after", {*IMAGE, *BUILDER, "security_groups", "roles", "profiles"}, "swept"),
    ("TerminateInstances", 1, "before", {*IMAGE, *BUILDER, "security_groups", "roles", "profiles"}, KEPT),
    ("DeleteSecurityGroup", 1, "after", {*IMAGE}, KEPT),
]


@pytest.mark.parametrize(("operation", "nth", "moment", "left", "verdict"), SWEPT, ids=[each[0] for each in SWEPT])
def test_what_a_killed_build_leaves_is_swept(
    harness: Harness, operation: str, nth: int, moment: str, left: set[str], verdict: str
) -> None:
    trial = harness.sweep_trial((operation, nth), moment)
    # Whether a command still runs at that moment is a matter of how busy the machine is.
    assert set(trial.left) - {"commands"} == left
    assert trial.verdict == verdict, trial


def test_a_run_that_succeeded_gives_the_same_image_again(whole: Harness, target: Target, tmp_path: Path) -> None:
    plan = plans.load(whole.plan)
    first = executor.build(target, plan, runs=tmp_path)
    before = whole.state()
    again = executor.build(target, plan, runs=tmp_path, run_id=first.run.id, resume=True)
    assert again.image == first.image
    assert first.findings
    assert again.findings == first.findings
    assert whole.more(before) == {}


def test_a_run_that_is_done_is_not_built_again_when_its_image_is_gone(
    harness: Harness, target: Target, tmp_path: Path
) -> None:
    """It was retired: a notebook that is run again must not launch a builder for it."""
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path)
    target.client("ec2").deregister_image(ImageId=first.image.id, DeleteAssociatedSnapshots=True)
    before, manifest = harness.state(), first.manifest.read_text()
    with pytest.raises(InputError, match="its image is no more") as caught:
        executor.build(target, plan, runs=tmp_path, run_id=first.run.id, resume=True)
    assert "new run" in str(caught.value.hint)
    assert harness.more(before) == {}
    assert first.manifest.read_text() == manifest


def test_an_image_in_the_place_of_one_that_is_gone_is_as_it_should_be(harness: Harness, target: Target) -> None:
    run, before, ec2 = harness.run_id(), harness.state(), target.client("ec2")
    harness.proxy.arm(("TerminateInstances", 1), "after")
    harness.build(run)
    (gone,) = harness.state()["images"] - before["images"]
    ec2.deregister_image(ImageId=gone, DeleteAssociatedSnapshots=True)
    harness.proxy.arm(0, "before")
    assert harness.build(run, resume=True)[0] == 0
    (made,) = harness.state()["images"] - before["images"]
    assert ec2.describe_images(ImageIds=[made])["Images"][0].get("ImdsSupport") == "v2.0"


def test_a_failure_after_success_takes_nothing_away(
    harness: Harness, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    harness: Harness, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def expiries(harness: Harness, target: Target, run: str) -> dict[str, datetime]:
    """Read until when everything of a run may stay."""
    found: dict[str, Any] = {}
    wanted: Any = [{"Name": "tag:leptonami:run", "Values": [run]}]
    ec2, iam, name = target.client("ec2"), target.client("iam"), f"leptonami-{run}"
    for each in ec2.describe_instances(Filters=wanted)["Reservations"]:
        found["instance"] = each["Instances"][0]["Tags"]
    found["volume"] = ec2.describe_volumes(Filters=wanted)["Volumes"][0]["Tags"]
    found["interface"] = ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"][0]["TagSet"]
    found["group"] = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"][0]["Tags"]
    found["role"] = iam.get_role(RoleName=name)["Role"]["Tags"]
    found["profile"] = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Tags"]
    tags = {kind: {each["Key"]: each["Value"] for each in some} for kind, some in found.items()}
    assert {each["leptonami:run"] for each in tags.values()} == {run}
    return {kind: datetime.fromisoformat(some["leptonami:expires"]) for kind, some in tags.items()}


def test_what_a_run_made_long_ago_lives_on_when_it_goes_on(harness: Harness, target: Target) -> None:
    # The harness's runs began on a day that is long over, and so is what they made.
    run, before = harness.run_id(), harness.state()
    harness.proxy.arm(("StopInstances", 1), "before")
    harness.build(run)
    assert max(expiries(harness, target, run).values()) < datetime.now(UTC)
    begun = datetime.now(UTC).replace(microsecond=0)
    harness.proxy.arm(("StopInstances", 1), "before")
    harness.build(run, resume=True)
    lives = expiries(harness, target, run)
    wait = plans.load(harness.plan).image.wait
    assert min(lives.values()) >= begun + LIFETIME + timedelta(seconds=wait)
    harness.proxy.arm(0, "before")
    assert harness.build(run, resume=True)[0] == 0
    assert harness.more(before) == {"images": 1, "snapshots": 1}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_builder_that_is_launched_late_is_not_born_expired(harness: Harness, target: Target, moment: str) -> None:
    run, before = harness.run_id(), harness.state()
    harness.proxy.arm(("RunInstances", 1), moment)
    harness.build(run)
    begun = datetime.now(UTC).replace(microsecond=0)
    harness.proxy.arm(("StopInstances", 1), "before")
    # The list does not have the builder yet: its client token is all there is.
    harness.lab.set_faults({"kind": "stale", "operation": "ec2.DescribeInstances", "calls": 12})
    harness.build(run, resume=True)
    harness.lab.set_faults()
    assert len(harness.state()["instances"] - before["instances"]) == 1
    assert expiries(harness, target, run)["instance"] >= begun + LIFETIME
    harness.proxy.arm(0, "before")
    assert harness.build(run, resume=True)[0] == 0
    assert harness.more(before) == {"images": 1, "snapshots": 1}


def test_a_launch_is_unanswered_until_ec2_has_refused_it() -> None:
    def launch(event: str, **more: Any) -> dict[str, Any]:
        return {"event": event, "action": "ec2.RunInstances", **more}

    first, second = launch("intent", token="a", expires="1"), launch("intent", token="a", expires="2")
    refused, lost = launch("failed", error="AwsError: no room"), launch("failed", error="Timeout: gave up")
    other = launch("intent", token="b")
    for entries, wanted in (
        ([], None),
        ([first], first),
        ([first, refused], None),
        ([first, lost], first),
        ([first, second], first),
        ([first, refused, second], second),
        ([first, second, refused], first),
        ([first, other, refused], first),
        ([other], None),
    ):
        assert builder.unanswered(Past(entries), "a") == wanted, entries


def test_evidence_that_is_lost_is_called_that(whole: Harness, target: Target) -> None:
    run, before, plan = whole.run_id(), whole.state(), plans.load(whole.plan)
    runs = whole.folder / "runs"
    whole.proxy.arm(("ModifyImageAttribute", 1), "before")
    whole.build(run)
    path = runs / run / "evidence" / "image-contents.json"
    kept = path.read_text()
    for content in (None, '{"payload": {"findings": [{}], "versions": {}}}'):
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(BuildError, match="evidence of what was verified on the builder is lost") as caught:
            executor.build(target, plan, runs=runs, run_id=run, resume=True)
        assert "disk" not in f"{caught.value} {caught.value.hint}"
        assert "put the file back" in str(caught.value.hint)
        path.write_text(kept)
    again = executor.build(target, plan, runs=runs, run_id=run, resume=True)
    assert again.findings
    assert whole.more(before) == {"images": 1, "snapshots": 1}


def test_an_image_that_no_list_has_yet_is_found_by_its_id(
    harness: Harness, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = harness.run_id(), harness.state()
    harness.proxy.arm(("ModifyImageAttribute", 1), "before")
    harness.build(run)
    monkeypatch.setattr(executor.image, "find_ours", lambda *_: None)
    result = executor.build(target, plans.load(harness.plan), runs=harness.folder / "runs", run_id=run, resume=True)
    assert {result.image.id} == harness.state()["images"] - before["images"]


@pytest.mark.parametrize(
    ("answer", "status", "wanted"),
    [("done", "InProgress", "c-1"), ("done", "Success", None), (None, "InProgress", "c-1"), (None, "Success", None)],
)
def test_a_command_under_way_is_found_by_the_journal(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, status: str, wanted: str | None
) -> None:
    """By its id, or by its comment where the answer was lost; the list has it only the third time."""
    call = {"action": "ssm.SendCommand"}
    entries = [{"event": "intent", **call, "name": "01-x", "instance": "i-1", "comment": "leptonami r 01-x 77"}]
    if answer is not None:
        entries.append({"event": answer, **call, "id": "c-1"})
    entries += [
        {"event": "intent", **call, "name": "read-log", "instance": "i-1", "comment": "leptonami r read-log 78"},
        {"event": "done", **call, "id": "c-2"},
    ]
    shell = command.Shell(target, "i-1", Run.create(tmp_path).journal, Silent(), run_id="r")
    looks = iter(
        [
            [],
            [],
            [{"CommandId": "c-0", "Comment": "leptonami r 01-x"}],
            [{"CommandId": "c-1", "Comment": "leptonami r 01-x 77"}],
        ]
    )
    asked = []

    def call_(method: Any, **request: Any) -> Any:
        if method.__name__ == "list_commands":
            return {"Commands": next(looks)}
        asked.append(request["CommandId"])
        return {"Status": status}

    monkeypatch.setattr(target, "call", call_)
    assert shell.running("01-x", Past(entries)) == wanted
    assert asked == ["c-1"]
    assert shell.running("02-y", Past(entries)) is None


@pytest.mark.parametrize("operation", ["ec2.CreateTags", "iam.CreateRole"])
def test_a_run_that_cannot_go_on_leaves_nothing_either(harness: Harness, operation: str) -> None:
    run, before = harness.run_id(), harness.state()
    harness.proxy.arm(("StopInstances", 1), "before")
    harness.build(run)
    assert "instances" in harness.more(before)
    harness.proxy.arm(0, "before")
    harness.lab.set_faults({"kind": "error", "operation": operation, "code": "Boom"})
    code, said = harness.build(run, resume=True)
    harness.lab.set_faults()
    assert (code, "Boom" in said) == (1, True)
    assert harness.more(before) == {}
    written = json.loads((harness.folder / "runs" / run / "manifest.json").read_text())
    assert written["state"] == "failed"
    assert {each["outcome"] for each in written["removed"]} <= {"removed", "was not there"}


def test_an_image_that_is_not_to_be_goes_with_its_snapshots_in_one_call(harness: Harness) -> None:
    run, before = harness.run_id(), harness.state()
    harness.lab.set_faults({"kind": "image-fails", "times": 1})
    harness.proxy.arm(("DeregisterImage", 1), "after")
    harness.build(run)
    assert harness.proxy.struck
    assert not {"images", "snapshots"} & set(harness.more(before)), "a crash between two calls would leave a snapshot"
    harness.proxy.arm(0, "before")
    assert harness.build(run, resume=True)[0] == 0
    assert harness.more(before) == {"images": 1, "snapshots": 1}


def test_an_image_that_ec2_gave_up_meanwhile_is_made_anew(harness: Harness, target: Target) -> None:
    """It is nobody's to clean up, since it might have been finished; but it has the name."""
    run, before = harness.run_id(), harness.state()
    harness.lab.set_faults({"kind": "image-fails", "times": 1})
    harness.proxy.arm(("CreateImage", 1), "after")
    harness.build(run)
    assert harness.proxy.struck
    harness.proxy.arm(0, "before")
    images = target.client("ec2").describe_images
    (failed,) = harness.state()["images"] - before["images"]
    target.poll(lambda: images(ImageIds=[failed])["Images"][0]["State"] == "failed" or None, what="it", timeout=60)
    code, said = harness.build(run, resume=True)
    assert code == 0, said
    assert failed not in harness.state()["images"]
    assert harness.more(before) == {"images": 1, "snapshots": 1}


def test_a_builder_that_is_gone_is_launched_anew(harness: Harness, target: Target) -> None:
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
    assert [each["exit_code"] for each in written["steps"]] == [0, 0]
    more = harness.more(before)
    # A command that was under way on the lost builder never ends there.
    more.pop("commands", None)
    assert more == {"images": 1, "snapshots": 1}


def test_the_notebook_run_again_with_the_runs_id_goes_on(harness: Harness) -> None:
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


def test_two_processes_on_one_run_are_one_too_many(harness: Harness, target: Target, tmp_path: Path) -> None:
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


def test_a_plan_that_changed_is_not_gone_on_with(harness: Harness, target: Target, tmp_path: Path) -> None:
    plan = plans.load(harness.plan)
    first = executor.build(target, plan, runs=tmp_path / "runs")
    changed = harness.folder / "changed.yaml"
    changed.write_text(SHORT.replace("size_gib: 30", "size_gib: 31"))
    with pytest.raises(InputError, match="has changed since the run began") as caught:
        executor.build(target, plans.load(changed), runs=tmp_path / "runs", run_id=first.run.id, resume=True)
    assert caught.value.hint


@pytest.mark.parametrize("what", ["provenance", "account"])
def test_a_run_does_not_go_on_somewhere_else(harness: Harness, target: Target, tmp_path: Path, what: str) -> None:
    """Else it would be built a second time there, and what it left here would be forgotten."""
    plan, run, before = plans.load(harness.plan), Run.create(tmp_path), harness.state()
    site = executor.place_mark(run.id, "999999999999" if what == "account" else target.identity().account)
    provenance = "measured" if what == "provenance" else target.provenance
    run.journal.write("build", plan=plan.name, digest=plan.digest, provenance=provenance)
    run.journal.write("base", image={}, account=site)
    with pytest.raises(InputError, match="began in") as caught:
        executor.build(target, plan, runs=tmp_path, run_id=run.id, resume=True)
    assert caught.value.hint
    assert harness.more(before) == {}
    assert len(run.journal.read()) == 2, "it has not begun here"
    assert not run.manifest_path.exists()


def test_a_new_run_and_one_to_go_on_with_are_not_both_meant(tmp_path: Path) -> None:
    run = Run.create(tmp_path)
    run.journal.write("build")
    before = run.journal.read()
    options = ["--resume", run.id, "--run", "20261123-211500-a1b2c3", "--aws", "lab", "--runs", str(tmp_path)]
    result = CliRunner().invoke(cli, ["build", "ubuntu-22.04-cpu", *options])
    assert isinstance(result.exception, InputError)
    assert "--run is for a new run" in str(result.exception)
    assert run.journal.read() == before


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run"):
        Run.open(tmp_path, "20261123-211500-a1b2c3")


@pytest.mark.parametrize(
    "entry",
    [
        {"event": "base", "picture": {}},
        {"event": "builder", "builder": "i-1"},
        {"event": "agent"},
        {"event": "finished", "name": "01-settle", "record": None},
        {"event": "no-room", "where": 5},
        {"event": "done", "action": "ec2.RunInstances"},
        {"event": "done", "action": "ec2.CreateImage", "id": None},
        {"event": 7},
        {},
    ],
    ids=str,
)
def test_what_another_version_wrote_is_read_as_far_as_it_goes(entry: dict[str, Any]) -> None:
    known = {"event": "builder", "builder": {}}
    assert Past([known, entry]).entries == (known,)


def test_a_build_that_does_not_say_of_which_plan_is_not_gone_on_with(
    harness: Harness, target: Target, tmp_path: Path
) -> None:
    run = Run.create(tmp_path)
    run.journal.write("build", plan="crash")
    assert Past(run.journal.read())
    with pytest.raises(InputError, match="has changed since the run began"):
        executor.build(target, plans.load(harness.plan), runs=tmp_path, run_id=run.id, resume=True)


def test_a_builder_and_a_base_of_another_version_are_called_that(target: Target) -> None:
    with pytest.raises(BuildError, match="describes the builder as this version does not"):
        builder.recalled(Past([{"event": "builder", "builder": {"instance": "i-1"}}]))
    whole = {"instance": "i-1", "type": "m5.large", "subnet": "s", "zone": "z", "spot": False, "refused": ["x"]}
    assert builder.recalled(Past([{"event": "builder", "builder": whole}])).refused == ("x",)
    with pytest.raises(BuildError, match="describes the base image as this version does not"):
        bases.again(target, plans.load("ubuntu-22.04-cpu"), {"id": "ami-1", "color": "blue"})


def test_a_journal_that_lost_what_it_must_know_says_so() -> None:
    with pytest.raises(BuildError, match="journal has no 'builder'") as caught:
        Past([{"event": "build"}, {"event": "odd"}]).require("builder")
    assert caught.value.hint
