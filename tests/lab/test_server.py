"""The lab's process and its own API: who may call, what it says of itself, how it ends, what goes wrong on order."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from helpers import LATE_S, Account, code, eventually, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import Lab, start
from leptonami.lab.faults import KINDS, Fault, Faults
from leptonami.lab.world import Clock, Times, World, remove_stale

pytestmark = pytest.mark.lab


def folder(pid: int) -> Path:
    """Give the folder of a lab's process. Other labs may run on this machine at the same time."""
    (found,) = Path(tempfile.gettempdir()).glob(f"leptonami-lab-{pid}-*")
    return found


def ask(lab: Lab, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    host, _, port = lab.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LATE_S)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


# What the lab lacks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "request_"),
    [
        ("ec2", "export_image", {"DiskImageFormat": "RAW", "ImageId": "ami-0", "S3ExportLocation": {"S3Bucket": "b"}}),
        ("ec2", "register_image", {"Name": "made-up"}),
        ("ec2", "describe_capacity_reservations", {}),
        ("ec2", "describe_instances", {"Filters": [{"Name": "made-up", "Values": ["x"]}]}),
        ("ssm", "start_session", {"Target": "i-0123456789abcdef0"}),
        ("iam", "generate_service_last_accessed_details", {"Arn": "arn:aws:iam::123456789012:role/x"}),
        ("s3", "list_buckets", {}),
        ("eks", "list_clusters", {}),
        ("lambda", "list_functions", {}),
        ("sqs", "list_queues", {}),
        ("dynamodb", "list_tables", {}),
        ("cloudwatch", "list_metrics", {}),
        ("route53", "list_hosted_zones", {}),
        ("autoscaling", "describe_auto_scaling_groups", {}),
    ],
)
def test_what_the_lab_lacks_it_says_by_name(
    account: Account, service: str, operation: str, request_: dict[str, Any]
) -> None:
    client = account.session.client(
        service, endpoint_url=account.lab.url, config=Config(retries={"total_max_attempts": 1})
    )
    error = refused("LabNotImplemented", getattr(client, operation), says="leptonami lab", **request_)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error.operation_name.lower() in str(error.response["Error"]["Message"]).lower()


# Who may call -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["ec2", "ssm", "iam", "sts"])
def test_other_keys_are_refused_as_aws_does(lab: Lab, service: str) -> None:
    client = boto3.client(
        service,
        endpoint_url=lab.url,
        region_name="us-west-2",
        aws_access_key_id="AKIA" + "A" * 16,
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    calls = {"ec2": "describe_vpcs", "ssm": "list_commands", "iam": "list_roles", "sts": "get_caller_identity"}
    codes = {"ec2": "AuthFailure", "ssm": "UnrecognizedClientException"}
    refused(codes.get(service, "InvalidClientTokenId"), getattr(client, calls[service]), says="not this lab's key")


def test_browsers_and_unsigned_requests_reach_nothing(lab: Lab) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(lab, "POST", "/", "Action=DescribeVpcs&Version=2016-11-15", **form)[0] == 403
    assert ask(lab, "GET", "/")[0] == 403
    for path in ("/moto-api/", "/moto-api/reset", "/latest/meta-data/"):
        assert ask(lab, "POST", path)[0] == 403
    for host in ("attacker.example", "attacker.example:80", f"127.0.0.1.attacker.example:{lab.url[-5:]}"):
        assert ask(lab, "GET", "/lab-api/state", Host=host)[0] == 403
    status, text = ask(lab, "PUT", "/lab-api/faults", "[]", **form)
    assert status == 415 and "json" in text
    assert ask(lab, "GET", "/lab-api/state")[0] == 200
    assert ask(lab, "GET", "/lab-api/other")[0] == 404
    assert ask(lab, "POST", "/", "x", **{"Content-Length": "999999999"})[0] == 413


HEADERS = st.dictionaries(
    st.sampled_from(["Authorization", "X-Amz-Target", "Content-Type", "Content-Length", "Host", "User-Agent"]),
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
        st.sampled_from(
            [
                "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=0",
                "AWS4-HMAC-SHA256 Credential=KEY/20260101/mars-1/ssm/aws4_request, SignedHeaders=host, Signature=0",
                "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-west-2/no-such-service/aws4_request",
                "AWS4-HMAC-SHA256 Credential=KEY/us-west-2/ec2/aws4_request",
                "AmazonSSM.SendCommand",
                "AmazonSSM.NoSuchThing",
                "application/x-www-form-urlencoded",
                "application/x-amz-json-1.1",
                "127.0.0.1:80",
                "-1",
                "7",
            ]
        ),
    ),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"Action=RunInstances&Version=2016-11-15",
            b"Action=RunInstances&ImageId=resolve:ssm:/x&Version=2016-11-15&MinCount=1&MaxCount=x",
            b"Action=DescribeImages&ImageId.1=ami-%00&Version=2016-11-15",
            b"Action=NoSuchThing&Version=2016-11-15",
            b"Action=CreateImage&Action=RunInstances",
            b'{"InstanceIds": 7}',
            b"{}",
            b"[",
        ]
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]), st.sampled_from(["/", "/x", "/lab-api/faults"]), HEADERS, BODIES
)
def test_whatever_comes_gets_an_answer_of_our_own(
    lab: Lab, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    host, _, port = lab.url.removeprefix("http://").partition(":")
    given_headers = {
        name: value.replace("KEY", lab.environment["AWS_ACCESS_KEY_ID"]).strip() for name, value in headers.items()
    }
    # A promise of more than comes would only make both sides wait.
    if given_headers.get("Content-Length", "0").isdigit():
        given_headers.pop("Content-Length", None)
    connection = http.client.HTTPConnection(host, int(port), timeout=LATE_S)
    try:
        connection.request(method, path, body=body, headers=given_headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    assert answer.status < 500, text
    assert b"<html" not in text.lower() and b"Traceback" not in text


def test_many_clients_at_once_make_one_instance_of_one_token(lab: Lab, account: Account) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(12) as pool:
        same = set(pool.map(lambda _: account.launch(ClientToken="many"), range(12)))
        different = set(pool.map(lambda _: account.launch(), range(12)))
        list(pool.map(lambda _: account.ec2.describe_instances(), range(12)))
    assert len(same) == 1 and len(different) == 12
    account.ec2.terminate_instances(InstanceIds=[*same, *different])


def test_the_key_is_not_for_everybody_to_read(lab: Lab) -> None:
    line = Path(f"/proc/{lab.process.pid}/cmdline").read_bytes()
    assert b"leptonami.lab" in line and lab.environment["AWS_ACCESS_KEY_ID"].encode() not in line


def test_two_labs_do_not_take_each_others_keys(lab: Lab) -> None:
    with start(speed=0) as other:
        assert other.environment["AWS_ACCESS_KEY_ID"] != lab.environment["AWS_ACCESS_KEY_ID"]
        mixed = Account(Lab(other.url, lab.environment, "", other.process))
        refused("InvalidClientTokenId", mixed.sts.get_caller_identity)


# Its own API --------------------------------------------------------------------------------------------------------


def test_calls_are_counted_by_service_and_operation(lab: Lab, account: Account) -> None:
    lab.reset_calls()
    account.ec2.describe_vpcs()
    account.ec2.describe_vpcs()
    account.sts.get_caller_identity()
    assert lab.calls() == {"ec2.DescribeVpcs": 2, "sts.GetCallerIdentity": 1}


def test_nothing_is_counted_as_left_that_an_account_has_anyway() -> None:
    with start(speed=0) as lab:
        account = Account(lab)
        for region in ("us-west-2", "eu-west-1"):
            Account(lab, region).ec2.describe_vpcs()
        assert set(lab.state().values()) == {0}
        instance = account.launch(profile=account.profile("left"))
        group = account.ec2.create_security_group(GroupName="left", Description="x")["GroupId"]
        found = lab.state(ids=True)
        assert found["instances"] == [instance] and found["security_groups"] == [group]
        assert found["roles"] == found["profiles"] == ["left"]
        assert len(found["volumes"]) == len(found["interfaces"]) == 1


def test_a_seed_makes_the_ids_the_same_again() -> None:
    def ids() -> list[str]:
        with start(speed=0, seed=7) as lab:
            account = Account(lab)
            return [account.launch(), account.ec2.describe_vpcs()["Vpcs"][0]["VpcId"], account.base()]

    assert ids() == ids()


def test_without_delays_states_are_there_at_once() -> None:
    with start(speed=float("inf")) as lab:
        account = Account(lab)
        instance = account.launch(profile=account.profile("at-once"))
        assert account.state(instance) == "running" and account.online(instance)
        account.ec2.stop_instances(InstanceIds=[instance])
        account.wait_state(instance, "stopped")
        image = account.image(instance, "at-once")
        account.ec2.terminate_instances(InstanceIds=[instance])
        assert account.state(instance) == "terminated"
        assert account.described_image(image)["State"] == "available"


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(lab: Lab) -> Any:
    """Give the lab, without faults afterwards."""
    yield lab
    lab.set_faults()


def test_an_error_strikes_its_call_only(faulty: Lab, account: Account) -> None:
    faulty.set_faults(
        {
            "kind": "error",
            "operation": "ec2.DescribeVpcs",
            "code": "VcpuLimitExceeded",
            "message": "no",
            "nth": 2,
            "times": 1,
        }
    )
    account.ec2.describe_vpcs()
    refused("VcpuLimitExceeded", account.ec2.describe_vpcs, says="no")
    account.ec2.describe_vpcs()
    account.ec2.describe_subnets()
    (fault,) = faulty.faults()
    assert (fault["seen"], fault["hits"]) == (3, 1)


def test_throttling_has_the_services_own_code(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "throttle"})
    error = refused("RequestLimitExceeded", account.ec2.describe_vpcs)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    refused("ThrottlingException", account.ssm.list_commands)
    refused("Throttling", account.iam.list_roles)


def test_a_client_with_retries_gets_through_throttling(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "throttle", "times": 2})
    patient = account.session.client(
        "ec2", endpoint_url=faulty.url, config=Config(retries={"mode": "standard", "max_attempts": 5})
    )
    assert patient.describe_vpcs()["Vpcs"]


def test_a_lost_reply_leaves_what_was_done(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "lost-reply", "operation": "ec2.RunInstances", "times": 1})
    before = set(faulty.state(ids=True)["instances"])
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        account.launch(ClientToken="lost")
    (made,) = set(faulty.state(ids=True)["instances"]) - before
    assert account.launch(ClientToken="lost") == made


def test_a_reset_leaves_nothing_done(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "reset", "operation": "ec2.RunInstances", "times": 1})
    before = set(faulty.state(ids=True)["instances"])
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        account.launch(ClientToken="reset")
    assert set(faulty.state(ids=True)["instances"]) == before
    assert account.launch(ClientToken="reset") not in before


def test_a_late_list_lacks_what_is_new_and_an_id_finds_it(faulty: Lab, account: Account) -> None:
    old = account.launch()
    faulty.set_faults({"kind": "stale", "operation": "ec2.Describe*", "calls": 3})

    def listed() -> set[str]:
        found = account.ec2.describe_instances(Filters=[{"Name": "instance-type", "Values": ["g4dn.xlarge"]}])
        return {each["InstanceId"] for one in found["Reservations"] for each in one["Instances"]}

    assert old in listed()
    new = account.launch()
    assert account.describe(new)["InstanceId"] == new
    first = listed()
    assert old in first
    assert new not in first
    account.ec2.describe_vpcs()
    assert new in listed(), "four calls later it is there"
    group = account.ec2.create_security_group(GroupName="late", Description="x")["GroupId"]
    assert group not in {each["GroupId"] for each in account.ec2.describe_security_groups()["SecurityGroups"]}
    assert account.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    account.ec2.delete_security_group(GroupId=group)


def test_a_late_list_of_commands_lacks_the_new_one(faulty: Lab, account: Account) -> None:
    instance = account.builder("late")
    faulty.set_faults({"kind": "stale", "operation": "ssm.List*", "calls": 1})
    command = account.send(instance, "true")
    assert account.ssm.list_commands(InstanceId=instance)["Commands"] == []
    assert [each["CommandId"] for each in account.ssm.list_commands(InstanceId=instance)["Commands"]] == [command]


def test_a_fault_of_those_who_ask_by_id_spares_lists(faulty: Lab, account: Account) -> None:
    instance = account.launch()
    fault = {"kind": "error", "operation": "ec2.DescribeInstances", "code": "InvalidInstanceID.NotFound"}
    faulty.set_faults({**fault, "asks": "id"})
    refused("InvalidInstanceID.NotFound", account.ec2.describe_instances, InstanceIds=[instance])
    assert account.ec2.describe_instances()["Reservations"]
    faulty.set_faults({**fault, "asks": "filter"})
    refused("InvalidInstanceID.NotFound", account.ec2.describe_instances)
    assert account.describe(instance)["InstanceId"] == instance


def test_a_delay_delays(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "delay", "operation": "ec2.DescribeVpcs", "seconds": 0.5})
    begun = time.monotonic()
    account.ec2.describe_vpcs()
    assert time.monotonic() - begun >= 0.5


def test_an_agent_can_be_kept_offline(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "ssm-offline", "times": 1})
    profile = account.profile("offline")
    never = account.launch(profile=profile)
    account.wait_state(never, "running")
    other = account.launch(profile=profile)
    eventually(lambda: account.online(other), "the other one")
    assert not account.online(never)


@pytest.mark.usefixtures("scripts")
def test_a_fault_of_the_node_reaches_its_scripts(faulty: Lab, account: Account) -> None:
    faulty.set_faults({"kind": "script", "name": "tool_fails", "value": {"snap": -1}, "times": 1})
    instance = account.builder("broken-tool")
    assert account.run(instance, "snap list")["Status"] == "Failed"
    sound = account.launch(profile="broken-tool")
    eventually(lambda: account.online(sound), "the sound one")
    assert account.run(sound, "snap list")["Status"] == "Success"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "nonsense"},
        {"kind": "error", "nht": 1},
        {"kind": "error", "times": "1"},
        {"kind": "error", "times": True},
        {},
        "error",
        None,
        7,
    ],
)
def test_wrong_faults_are_refused_and_the_old_ones_stay(faulty: Lab, wrong: Any) -> None:
    faulty.set_faults({"kind": "delay"})
    status, text = ask(faulty, "PUT", "/lab-api/faults", json.dumps([wrong]), **{"Content-Type": "application/json"})
    assert status == 400 and "faults[0]" in text
    assert [each["kind"] for each in faulty.faults()] == ["delay"]
    with pytest.raises(urllib.error.HTTPError):
        faulty.set_faults({"kind": "nonsense"})
    assert ask(faulty, "PUT", "/lab-api/faults", "{", **{"Content-Type": "application/json"})[0] == 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Fault.__dataclass_fields__, "x"]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_whatever_is_no_fault_is_an_input_error(value: Any) -> None:
    faults = Faults()
    try:
        faults.replace(value)
    except InputError as error:
        assert error.exit_code == 2 and not faults.faults
    else:
        assert all(fault.kind in KINDS for fault in faults.faults)


@given(st.integers(1, 5), st.integers(1, 5) | st.none(), st.integers(0, 20))
def test_nth_and_times_hit_what_they_say(nth: int, times: int | None, calls: int) -> None:
    faults = Faults(faults=[Fault("error", nth=nth, times=times)])
    hits = [index for index in range(1, calls + 1) if faults.hit("error", operation="ec2.X")]
    last = calls if times is None else min(calls, nth + times - 1)
    assert hits == list(range(nth, last + 1))


def test_luck_is_the_same_for_the_same_seed() -> None:
    def hits(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.replace([{"kind": "error", "probability": 0.3}])
        return [faults.hit("error") is not None for _ in range(200)]

    assert hits(1) == hits(1) != hits(2)
    assert 30 < sum(hits(1)) < 90


# Time ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.floats(0, 10), max_size=12), st.lists(st.floats(0, 3), min_size=1, max_size=12))
def test_the_agenda_is_done_in_its_order_and_never_early(delays: list[float], steps: list[float]) -> None:
    now = 0.0
    world = World(Times(), 1.0, Path("/nonexistent"), Faults(), clock=lambda: now)
    done: list[tuple[float, float]] = []
    for delay in delays:
        world.later(delay, lambda delay=delay: done.append((delay, now)))  # type: ignore[misc]
    for step in steps:
        now += step
        world.advance()
        assert sorted(each for each, _ in done) == sorted(each for each in delays if each <= now)
    assert [due for due, _ in done] == sorted(due for due, _ in done)
    assert all(due <= at for due, at in done)


def test_time_stands_still_while_it_is_held_and_passes_as_told() -> None:
    clock, done = Clock(), list[str]()
    world = World(Times(), 10.0, Path("/nonexistent"), Faults(), clock=clock)
    world.hold(held=True)
    world.hold(held=True)
    begun = clock()
    world.later(world.scaled(100), lambda: done.append("due"))
    time.sleep(0.01)
    assert clock() == begun
    world.skip(99)
    assert clock() == pytest.approx(begun + 9.9) and not done
    world.skip(2)
    assert done == ["due"]
    held = clock()
    world.hold(held=False)
    world.hold(held=False)
    time.sleep(0.01)
    assert held + 0.01 <= clock()


@pytest.mark.parametrize("wrong", ["true", "[]", "{}", '{"held": 1.5}', '{"skip": -1}', '{"skip": true}', '{"x": 1}'])
def test_what_says_nothing_of_time_is_refused(lab: Lab, wrong: str) -> None:
    assert ask(lab, "PUT", "/lab-api/time", wrong, **{"Content-Type": "application/json"})[0] == 400


def test_speed_divides_and_none_means_none() -> None:
    assert Times().at(10).image == Times().image / 10
    assert Times().at(float("inf")) == Times().at(0)
    assert set(dataclasses.astuple(Times().at(0))) == {0.0}


# How it ends --------------------------------------------------------------------------------------------------------


def test_stopping_removes_everything_and_can_be_done_twice() -> None:
    lab = start(speed=0)
    account = Account(lab)
    account.launch()
    made = folder(lab.process.pid)
    assert any(made.rglob("os-release"))
    lab.stop()
    lab.stop()
    assert lab.process.returncode == 0 and not made.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    lab = start(speed=0)
    made = folder(lab.process.pid)
    lab.process.send_signal(number)
    assert lab.process.wait(LATE_S) == 0 and not made.exists()
    lab.stop()


PARENT = """
import json, sys, time
from leptonami.lab import start
lab = start(speed=0)
print(json.dumps([lab.process.pid, lab.environment]), flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("scripts")
def test_it_dies_with_its_parent_and_takes_scripts_and_files_along() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid, environment = json.loads(parent.stdout.readline())
    account = Account(Lab(environment["AWS_ENDPOINT_URL"], environment, "", parent))
    instance = account.builder("orphan")
    marker = f"86399.{os.getpid()}"
    command = account.send(instance, f"sleep {marker}")
    eventually(lambda: account.invocation(command, instance)["Status"] == "InProgress", "the script's start")
    eventually(lambda: sleeping(marker), "the sleep")
    made = folder(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the lab's end")
    eventually(lambda: not sleeping(marker), "the script's end")
    assert not made.exists()


def sleeping(marker: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{marker}\0".encode():
                return True
        except OSError:
            continue
    return False


def test_folders_of_dead_labs_are_cleared_away_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not in the folder of all: every lab that starts there clears away what is dead.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = Path(tempfile.gettempdir())
    dead = here / "leptonami-lab-999999999-abcdefgh"
    alive = here / f"leptonami-lab-{os.getpid()}-abcdefgh"
    strange = here / "leptonami-lab-notes"
    link = here / "leptonami-lab-999999998-abcdefgh"
    for folder in (dead / "closed", alive, strange):
        folder.mkdir(parents=True, exist_ok=True)
    (dead / "closed" / "file").touch()
    (dead / "closed").chmod(0)
    link.symlink_to(strange)
    assert remove_stale() == 1
    assert not dead.exists() and alive.exists() and strange.exists() and link.is_symlink()


def test_a_port_that_is_taken_is_said_so(lab: Lab) -> None:
    port = int(lab.url.rpartition(":")[2])
    with pytest.raises(LeptonamiError, match="does not start") as caught:
        start(port=port)
    assert "port" in str(caught.value.hint)


def test_a_region_that_aws_does_not_have_is_said_so(lab: Lab) -> None:
    with pytest.raises(LeptonamiError, match="AWS has no region 'nowhere-1'"):
        start(region="nowhere-1")
    refused("LabNoSuchRegion", Account(lab, "nowhere-1").ec2.describe_vpcs)


def test_where_scripts_cannot_run_nothing_claims_that_they_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without unshare there is no sandbox
    with start(speed=0) as lab:
        assert "unshare" in lab.recorded
        account = Account(lab)
        instance = account.builder("recorded")
        found = account.run(instance, "touch /etc/ran")
        assert (found["Status"], found["StatusDetails"], found["ResponseCode"]) == ("Failed", "LabRecordedNotRun", -1)
        assert found["StandardOutputContent"].startswith("leptonami lab: recorded, not run: ")


def test_the_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "lab.log"
    with start(speed=0, log=str(log)) as lab:
        account = Account(lab)
        account.ec2.describe_vpcs()
        with pytest.raises(ClientError) as caught:
            account.ec2.describe_images(ImageIds=["ami-x"])
        assert code(caught.value) == "InvalidAMIID.Malformed"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["call"], each["status"]) for each in lines] == [
        ("ec2.DescribeVpcs", 200),
        ("ec2.DescribeImages", 400),
    ]


def test_starting_takes_little_time() -> None:
    with start() as lab:
        used = Path(f"/proc/{lab.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    # Of the processor, not of the clock: others may be at work. 1.3 s where this was written, 3 on a busy machine.
    assert sum(map(int, used)) / os.sysconf("SC_CLK_TCK") < 6
