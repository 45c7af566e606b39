"""Whole builds on the lab: what they make, what they leave, and what they say when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small import load as plan_of
from small import scripts, write

from leptonami.build import builder, command, executor, planner, preflight
from leptonami.errors import (
    BuildError,
    CapacityError,
    CheckFailed,
    CredentialsError,
    InputError,
    LeptonamiError,
    Timeout,
)
from leptonami.lab import Lab, start
from leptonami.plan import Plan
from leptonami.target import Target, connect

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


@pytest.fixture
def target(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    lab.set_faults()
    with connect("lab", region="us-west-2") as connected:
        yield connected
    lab.set_faults()


def with_script(tmp_path: Path, body: str, **options: Any) -> Plan:
    # Not the last step: the log of that one is kept elsewhere.
    own, last = scripts(tmp_path, body, "true")["steps"]
    own["script"] |= options
    return plan_of(tmp_path, steps=[own, last])


def left(lab: Lab) -> dict[str, int]:
    """Count what costs money or could be in somebody's way. Images and their snapshots are counted apart."""
    counts: dict[str, int] = lab.state()
    return counts


@pytest.fixture
def nothing_left(lab: Lab) -> Iterator[None]:
    before = left(lab)
    yield
    assert left(lab) == before


def build(target: Target, plan: Plan, tmp_path: Path, **options: Any) -> executor.BuildResult:
    return executor.build(target, plan, runs=tmp_path / "runs", **options)


def manifest(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def test_a_build_makes_one_image_and_leaves_nothing_else(lab: Lab, target: Target, tmp_path: Path) -> None:
    before = left(lab)
    plan = plan_of(tmp_path)
    result = build(target, plan, tmp_path)
    calls = sum(target.calls.values())
    after = left(lab)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "images": 1,
        "snapshots": 1,
    }
    ec2 = target.client("ec2")
    (image,) = ec2.describe_images(ImageIds=[result.image.id])["Images"]
    assert image["State"] == "available"
    assert image["RootDeviceName"] == "/dev/sda1"
    assert image["ImdsSupport"] == "v2.0"
    assert not image["Public"]
    (mapping,) = [each for each in image["BlockDeviceMappings"] if each["DeviceName"] == "/dev/sda1"]
    assert mapping["Ebs"]["VolumeSize"] == 30
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"]
    assert snapshot["Encrypted"]
    for tags in (image["Tags"], snapshot["Tags"]):
        named = {tag["Key"]: tag["Value"] for tag in tags}
        assert named["leptonami:run"] == result.run.id
        assert named["leptonami:plan"] == "test"
        assert named["leptonami:digest"] == plan.digest
        assert named["team"] == "tests"
        assert "leptonami:expires" not in named
    assert result.findings
    assert all(each.ok for each in result.findings)
    assert result.provenance == "simulated"
    written = manifest(tmp_path)
    assert written["state"] == "succeeded"
    assert written["provenance"] == "simulated"
    assert written["image"]["id"] == result.image.id
    assert written["base"]["parameter_version"] >= 1
    assert written["versions"]["kubelet"]
    assert [each["exit_code"] for each in written["steps"]] == [0, 0, 0]
    assert all(each["log_complete"] for each in written["steps"])
    assert sum(written["calls"].values()) == calls
    evidence = json.loads((result.run.folder / "evidence" / "image-contents.json").read_text())
    assert evidence["provenance"] == "simulated"
    assert "123456789012" not in result.manifest.read_text(), "account ids stay out of records"


def test_the_builder_is_closed(lab: Lab, target: Target, tmp_path: Path) -> None:
    plan = with_script(tmp_path, "exit 3")
    with pytest.raises(BuildError):
        build(target, plan, tmp_path, keep_on_error=True)
    ec2 = target.client("ec2")
    run = manifest(tmp_path)["run"]
    found = ec2.describe_instances(Filters=[{"Name": "tag:leptonami:run", "Values": [run]}])
    (instance,) = found["Reservations"][0]["Instances"]
    try:
        assert "KeyName" not in instance
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        groups = [each["GroupId"] for each in instance["SecurityGroups"]]
        for group in ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]:
            assert group["IpPermissions"] == []
        volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}])
        assert [(each["Encrypted"], each["VolumeType"]) for each in volumes["Volumes"]] == [(True, "gp3")]
        tags = {tag["Key"] for tag in instance["Tags"]}
        assert {"leptonami:run", "leptonami:owner", "leptonami:expires", "leptonami:step"} <= tags
        assert {each["outcome"] for each in manifest(tmp_path)["removed"]} == {"kept"}
    finally:
        builder.terminate_tagged(target, run)
        for group in groups:
            ec2.delete_security_group(GroupId=group)
        iam, name = target.client("iam"), f"leptonami-{run}"
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        iam.delete_instance_profile(InstanceProfileName=name)
        iam.delete_role_policy(RoleName=name, PolicyName="builder")
        iam.delete_role(RoleName=name)


def test_a_dry_run_writes_nothing_and_tells_the_truth(lab: Lab, target: Target, tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    run = "20261123-211500-a1b2c3"
    before = left(lab)
    lab.reset_calls()
    outline = planner.outline(plan, preflight.survey(target, plan, run), run)
    looked = lab.calls()
    assert left(lab) == before
    assert all(name.split(".")[1].startswith(("Describe", "Get", "List")) for name in looked), looked
    lab.reset_calls()
    build(target, plan, tmp_path, run_id=run)
    made = {
        name: count
        for name, count in lab.calls().items()
        if not name.split(".")[1].startswith(("Describe", "Get", "List"))
    }
    announced: dict[str, int] = {}
    for action in outline.actions:
        announced[action.call] = announced.get(action.call, 0) + 1
    # Reading a log while a step runs sends more commands; nothing else may differ.
    assert made.pop("ssm.SendCommand") >= announced.pop("ssm.SendCommand")
    assert made == announced


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("step", ["01-script", "02-script", "verify"])
def test_a_step_that_fails_fails_the_build(
    target: Target, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command.Shell.run

    def run(self: command.Shell, name: str, script: str, **options: Any) -> command.Outcome:
        broken = "#!/bin/bash\necho the disk is on fire >&2\nexit 7\n"
        return real(self, name, broken if name == step else script, **options)

    monkeypatch.setattr(command.Shell, "run", run)
    with pytest.raises(BuildError, match="exit code 7") as caught:
        build(target, with_script(tmp_path, "true"), tmp_path)
    assert "the disk is on fire" in str(caught.value)
    assert step in str(caught.value)
    written = manifest(tmp_path)
    assert written["state"] == "failed"
    assert "image" not in written
    assert {each["outcome"] for each in written["removed"]} == {"removed"}


@pytest.mark.usefixtures("nothing_left")
def test_a_claim_that_does_not_hold_makes_no_image(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command.Shell.run

    def run(self: command.Shell, name: str, script: str, **options: Any) -> command.Outcome:
        if name == "verify":
            script = script.replace(
                "#!/bin/bash", "#!/bin/bash\nssh-keygen -A 2>/dev/null; echo key > /etc/ssh/ssh_host_x_key", 1
            )
        return real(self, name, script, **options)

    monkeypatch.setattr(command.Shell, "run", run)
    with pytest.raises(CheckFailed, match="no image is made") as caught:
        build(target, plan_of(tmp_path, steps=["settle", "hygiene"]), tmp_path)
    assert caught.value.exit_code == 3
    assert any(not each["ok"] for each in manifest(tmp_path)["findings"])


@pytest.mark.usefixtures("nothing_left")
def test_a_verification_that_says_nothing_is_a_failure(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = command.Shell.run

    def run(self: command.Shell, name: str, script: str, **options: Any) -> command.Outcome:
        return real(self, name, "#!/bin/bash\ntrue\n" if name == "verify" else script, **options)

    monkeypatch.setattr(command.Shell, "run", run)
    with pytest.raises(LeptonamiError):
        build(target, with_script(tmp_path, "true"), tmp_path)
    assert manifest(tmp_path)["state"] == "failed"


@pytest.mark.usefixtures("nothing_left")
def test_a_script_that_takes_too_long_is_stopped(target: Target, tmp_path: Path) -> None:
    plan = with_script(tmp_path, "echo before; sleep 600", timeout="1s")
    started = time.monotonic()
    with pytest.raises(Timeout, match="stopped after its 1 s") as caught:
        build(target, plan, tmp_path)
    assert caught.value.exit_code == 5
    assert time.monotonic() - started < 300


def test_a_long_output_is_kept_whole_and_streamed(target: Target, tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(executor.Silent):
        def line(self, text: str) -> None:
            told.append(text)

    body = "for n in $(seq 1 20000); do echo \"line $n of a long output\"; done; printf 'no newline at the end'"
    result = build(target, with_script(tmp_path, body), tmp_path, progress=Listening())
    log = (result.run.folder / "logs" / "01-script.log").read_text()
    lines = [line for line in log.splitlines() if line.startswith("line ")]
    assert lines == [f"line {n} of a long output" for n in range(1, 20001)]
    assert "no newline at the end" in log
    assert [line for line in told if line.startswith("line ")] == lines


def test_output_that_is_not_text_is_kept_as_it_is(target: Target, tmp_path: Path) -> None:
    raw = bytes(range(256)) * 3
    octal = "".join(f"\\{byte:03o}" for byte in raw)
    result = build(target, with_script(tmp_path, f"printf '{octal}'"), tmp_path)
    log = (result.run.folder / "logs" / "01-script.log").read_bytes()
    assert raw in log


def test_exit_code_194_reboots_and_goes_on(target: Target, tmp_path: Path) -> None:
    body = (
        "if [ -e /var/tmp/rebooted ]; then echo second time; rm /var/tmp/rebooted; exit 0; fi\n"
        "touch /var/tmp/rebooted; echo first time; exit 194"
    )
    result = build(target, with_script(tmp_path, body), tmp_path)
    log = (result.run.folder / "logs" / "01-script.log").read_text()
    assert "first time" in log
    assert "second time" in log


@pytest.mark.usefixtures("nothing_left")
def test_an_agent_that_never_comes_online(
    lab: Lab, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.set_faults({"kind": "ssm-offline"})
    monkeypatch.setattr(builder.wait_online, "__kwdefaults__", {"timeout": 2.0})
    with pytest.raises(Timeout, match="SSM agent") as caught:
        build(target, plan_of(tmp_path), tmp_path)
    assert "ssmmessages" in str(caught.value.hint)


@pytest.mark.usefixtures("nothing_left")
def test_no_capacity_anywhere(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "capacity"})
    with pytest.raises(CapacityError, match=r"m5\.large in us-west-2") as caught:
        build(target, plan_of(tmp_path), tmp_path)
    assert "m6i.large" in str(caught.value)
    assert "add instance types" in str(caught.value.hint)


def test_no_capacity_moves_on(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "capacity", "instance_type": "m5.large"})
    result = build(target, plan_of(tmp_path, steps=[]), tmp_path)
    written = manifest(tmp_path)["builder"]
    assert written["type"] == "m6i.large"
    assert all("InsufficientInstanceCapacity" in each for each in written["refused"])
    assert result.image.state == "available"


def test_spot_falls_back_to_on_demand(lab: Lab, target: Target, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, builder={"instance_types": ["m5.large"], "spot": True}, steps=[])
    build(target, plan, tmp_path / "a")
    assert manifest(tmp_path / "a")["builder"]["spot"] is True
    subnets = len(preflight.find_subnets(target, plan))
    lab.set_faults({"kind": "capacity", "times": subnets})
    build(target, plan, tmp_path / "b")
    written = manifest(tmp_path / "b")["builder"]
    assert (written["spot"], len(written["refused"])) == (False, subnets)


@pytest.mark.usefixtures("nothing_left")
def test_an_image_that_ec2_gives_up(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "image-fails"})
    with pytest.raises(BuildError, match="failed"):
        build(target, plan_of(tmp_path, steps=[]), tmp_path)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "operation",
    [
        "ec2.CreateSecurityGroup",
        "iam.CreateRole",
        "iam.PutRolePolicy",
        "iam.CreateInstanceProfile",
        "iam.AddRoleToInstanceProfile",
        "ec2.RunInstances",
        "ec2.StopInstances",
        "ec2.CreateImage",
        "ec2.ModifyImageAttribute",
    ],
)
@pytest.mark.parametrize("kind", ["error", "lost-reply"])
def test_whatever_call_fails_nothing_is_left(
    lab: Lab, target: Target, tmp_path: Path, operation: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(builder, "PROPAGATION_S", 1.0)
    lab.set_faults({"kind": kind, "operation": operation, "code": "Boom", "message": "on order"})
    with pytest.raises(LeptonamiError) as caught:
        build(target, plan_of(tmp_path, **scripts(tmp_path, "true")), tmp_path)
    assert caught.value.exit_code != 0
    written = manifest(tmp_path)
    assert written["state"] == "failed"
    assert "failed" not in {each["outcome"] for each in written["removed"]}, written["removed"]


@pytest.mark.usefixtures("nothing_left")
def test_a_command_that_is_refused_fails_the_build(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "error", "operation": "ssm.SendCommand", "code": "Boom", "message": "on order"})
    with pytest.raises(BuildError, match="on order"):
        build(target, with_script(tmp_path, "true"), tmp_path)


def test_a_command_whose_answer_is_lost_is_found_and_not_sent_twice(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "lost-reply", "operation": "ssm.SendCommand"})
    result = build(target, with_script(tmp_path, "echo once >> /var/tmp/count; cat /var/tmp/count"), tmp_path)
    log = (result.run.folder / "logs" / "01-script.log").read_text()
    assert log.count("once") == 1
    commands = target.client("ssm").list_commands()["Commands"]
    assert sum(f"{result.run.id} 01-script" in each["Comment"] for each in commands) == 1


def test_a_lost_reply_once_creates_nothing_twice(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "lost-reply", "operation": "ec2.RunInstances", "times": 1})
    before = left(lab)
    result = build(target, plan_of(tmp_path, steps=[]), tmp_path)
    after = left(lab)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "images": 1,
        "snapshots": 1,
    }
    assert result.image.state == "available"


class TestBadInput:
    """Refused before anything is created."""

    @pytest.fixture(autouse=True)
    def nothing(self, nothing_left: None) -> None:
        pass

    def refuse(
        self, target: Target, plan: Plan, tmp_path: Path, kind: type[LeptonamiError], match: str
    ) -> LeptonamiError:
        with pytest.raises(kind, match=match) as caught:
            build(target, plan, tmp_path)
        assert caught.value.hint
        return caught.value

    def test_a_name_that_is_taken(self, lab: Lab, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, steps=[], image={"name": "always-the-same"})
        first = build(target, plan, tmp_path / "first")
        ec2 = target.client("ec2")
        try:
            self.refuse(target, plan, tmp_path, InputError, "is taken by ami-")
            # A list leaves a disabled image out, and its name is taken all the same.
            ec2.disable_image(ImageId=first.image.id)
            self.refuse(target, plan, tmp_path, InputError, "is taken by ami-")
        finally:
            ec2.deregister_image(ImageId=first.image.id)
            ec2.delete_snapshot(SnapshotId=first.image.snapshots[0])

    def test_a_parameter_that_does_not_exist(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, base={"ssm": "/aws/service/canonical/nothing/here"})
        self.refuse(target, plan, tmp_path, BuildError, "does not exist in us-west-2")

    def test_an_image_that_does_not_exist(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, base={"ami": "ami-0123456789abcdef0"})
        self.refuse(target, plan, tmp_path, BuildError, "no such image")

    def test_an_image_of_somebody_else(self, target: Target, tmp_path: Path) -> None:
        foreign = target.client("ssm").get_parameter(
            Name="/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/standard/recommended/image_id"
        )["Parameter"]["Value"]
        plan = plan_of(tmp_path, base={"ami": foreign})
        self.refuse(target, plan, tmp_path, BuildError, "belongs to 602401143452")

    def test_a_name_that_matches_nothing(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, base={"name": "no-such-image-*"})
        self.refuse(target, plan, tmp_path, BuildError, "matches")

    def test_an_instance_type_that_does_not_exist(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, builder={"instance_types": ["m99.large"]})
        self.refuse(target, plan, tmp_path, InputError, "m99.large")

    def test_a_subnet_that_does_not_exist(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, builder={"instance_types": ["m5.large"], "subnets": ["subnet-0123456789abcdef0"]})
        self.refuse(target, plan, tmp_path, InputError, "subnet-0123456789abcdef0")

    def test_a_profile_that_does_not_exist(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, builder={"instance_types": ["m5.large"], "instance_profile": "nobody"})
        self.refuse(target, plan, tmp_path, InputError, "no instance profile 'nobody'")

    def test_a_volume_that_is_too_small(self, target: Target, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, root_volume={"size_gib": 8})
        self.refuse(target, plan, tmp_path, InputError, "too small")

    def test_a_plan_for_another_region(self, target: Target, tmp_path: Path) -> None:
        self.refuse(target, plan_of(tmp_path, region="eu-west-1"), tmp_path, InputError, "eu-west-1")


def cli(lab: Lab | None, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, **(lab.environment if lab is not None else {})}
    return subprocess.Popen(
        [sys.executable, "-m", "leptonami", *arguments],
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_the_remote_command_and_cleans_up(lab: Lab, tmp_path: Path, number: signal.Signals) -> None:
    with_script(tmp_path, "echo sleeping; sleep 300")
    process = cli(lab, "build", "plan.yaml", "--aws", "lab", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any("sleeping" in each.read_text() for each in tmp_path.glob("runs/*/logs/01-script.log")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "what was temporary has been removed" in err
    assert "Traceback" not in err
    assert out == ""
    assert manifest(tmp_path)["state"] == "interrupted"


def test_the_command_line_prints_the_image_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    write(tmp_path, steps=[])
    process = cli(lab, "build", "plan.yaml", "--aws", "lab", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == manifest(tmp_path)["image"]["id"]
    assert "simulated" in err


def test_missing_credentials_are_exit_code_4(tmp_path: Path) -> None:
    write(tmp_path)
    process = cli(None, "build", "plan.yaml", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "no usable AWS credentials" in err
    assert manifest(tmp_path)["state"] == "failed"


def test_denied_is_a_credentials_error(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults({"kind": "error", "operation": "ec2.RunInstances", "code": "UnauthorizedOperation", "message": "no"})
    with pytest.raises(CredentialsError, match="may not"):
        build(target, plan_of(tmp_path), tmp_path)


def test_plan_show_needs_no_credentials(tmp_path: Path) -> None:
    write(tmp_path)
    process = cli(None, "plan", "show", "plan.yaml", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "not looked up" in err
    for expected in ("ec2.RunInstances", "# script 01-settle", "HttpTokens", "assuming:", "ec2.CreateImage"):
        assert expected in out
    process = cli(None, "plan", "show", "plan.yaml", "--offline", "--json", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["actions"][0]["call"] == "ec2.CreateSecurityGroup"


def test_a_plan_that_publishes_is_published_after_its_checks(lab: Lab, target: Target, tmp_path: Path) -> None:
    publish = {"ssm_parameter": "/leptonami/tests", "deprecate_after": "90d"}
    plan = plan_of(tmp_path, publish=publish, steps=["settle", "hygiene"])
    result = build(target, plan, tmp_path)
    record = json.loads((result.run.folder / "publish.json").read_text())
    assert record["state"] == "published"
    name = "/leptonami/tests/ubuntu-eks/22.04/1.33/amd64/latest"
    ssm = target.client("ssm")
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == result.image.id
    (image,) = target.client("ec2").describe_images(ImageIds=[result.image.id])["Images"]
    assert image["DeprecationTime"]
    outline = planner.outline(plan, preflight.imagine(plan, result.run.id), result.run.id)
    assert "ssm.PutParameter" in [each.call for each in outline.actions]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("how", ["terminal", "pipe"])
def test_a_lost_terminal_or_pipe_does_not_stop_the_clean_up(lab: Lab, tmp_path: Path, how: str) -> None:
    with_script(tmp_path, "echo sleeping; sleep 300")
    process = cli(lab, "build", "plan.yaml", "--aws", "lab", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not any("sleeping" in each.read_text() for each in tmp_path.glob("runs/*/logs/01-script.log")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    # The reader goes first, as `tee` does at a Ctrl-C, and as a closed terminal does.
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGHUP if how == "terminal" else signal.SIGINT)
    assert process.wait(60) == 130
    assert manifest(tmp_path)["state"] == "interrupted"


@pytest.mark.usefixtures("nothing_left")
def test_a_run_folder_that_vanishes_does_not_stop_the_clean_up(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builder.wait_online

    def vanish(work: Any, instance: str) -> str:
        version = real(work, instance)
        shutil.rmtree(tmp_path / "runs")
        return version

    monkeypatch.setattr(builder, "wait_online", vanish)
    with pytest.raises(BuildError, match="cannot be written") as caught:
        build(target, plan_of(tmp_path), tmp_path)
    assert "--runs" in str(caught.value.hint)


def test_a_machine_without_git_or_a_users_name_builds_too(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(executor.getpass, "getuser", nobody)
    executor.tools.cache_clear()
    try:
        build(target, plan_of(tmp_path, steps=[]), tmp_path)
    finally:
        executor.tools.cache_clear()
    assert manifest(tmp_path)["tools"]["git"] is None
    assert manifest(tmp_path)["tools"]["user"] is None


def test_a_stale_profile_does_not_reach_the_lab(lab: Lab, tmp_path: Path) -> None:
    write(tmp_path, steps=[])
    environment = {**os.environ, **lab.environment, "AWS_PROFILE": "nonesuch"}
    command_line = [sys.executable, "-m", "leptonami", "build", "plan.yaml", "--aws", "lab", "-q"]
    done = subprocess.run(command_line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_record_names_no_place_of_this_machine(target: Target, tmp_path: Path) -> None:
    (own,) = scripts(tmp_path, "true")["steps"]
    own["script"]["after"] = "settle"
    result = build(target, plan_of(tmp_path, steps=["settle", own, "versions", "hygiene"]), tmp_path)
    assert str(tmp_path) not in result.manifest.read_text()
    assert manifest(tmp_path)["steps"][1]["options"]["path"] == "own-1.sh"


def test_a_disk_full_of_output_is_one_line(lab: Lab, tmp_path: Path) -> None:
    write(tmp_path, steps=[])
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "leptonami", "build", "plan.yaml", "--aws", "lab"],
            env={**os.environ, **lab.environment},
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert manifest(tmp_path)["image"]["id"] in done.stderr
