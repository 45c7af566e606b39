"""Systems Manager in the lab follows the real API where moto does not. Each test names the documented behaviour."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from helpers import UBUNTU, Account, code, eventually, refused

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("scripts")]
NOBODY = "i-0123456789abcdef0"


@pytest.fixture(scope="module")
def node(account: Account) -> str:
    """Give an instance that is online."""
    return account.builder("node")


# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html


def test_a_script_really_runs_as_root(account: Account, node: str) -> None:
    found = account.run(node, "id -u; . /etc/os-release; echo $ID; echo complaint >&2")
    assert found["StandardOutputContent"] == "0\nubuntu\n"
    assert found["StandardErrorContent"] == "complaint\n"
    assert (found["Status"], found["StatusDetails"], found["ResponseCode"]) == ("Success", "Success", 0)
    assert found["ExecutionElapsedTime"].startswith("PT") and found["ExecutionStartDateTime"].endswith("Z")
    assert (found["DocumentName"], found["PluginName"]) == ("AWS-RunShellScript", "aws:runShellScript")


def test_the_first_line_chooses_the_shell(account: Account, node: str) -> None:
    assert account.run(node, "#!/bin/bash\necho ${BASH_VERSION:0:1}")["StandardOutputContent"] == "5\n"


def test_a_failing_script_has_its_code_and_the_agents_last_line(account: Account, node: str) -> None:
    found = account.run(node, "echo no >&2; exit 7")
    assert (found["Status"], found["StatusDetails"], found["ResponseCode"]) == ("Failed", "Failed", 7)
    assert found["StandardErrorContent"] == "no\nfailed to run commands: exit status 7"


def test_instances_are_found_by_tag(account: Account, node: str) -> None:
    account.ec2.create_tags(Resources=[node], Tags=[{"Key": "role", "Value": "one"}])
    sent = account.ssm.send_command(
        Targets=[{"Key": "tag:role", "Values": ["one", "two"]}],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": ["echo", "exit 0"]},
    )["Command"]
    assert sent["InstanceIds"] == [node] and sent["TargetCount"] == 1
    assert account.ended(sent["CommandId"], node)["Status"] == "Success"


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"InstanceIds": [NOBODY]}, "InvalidInstanceId"),
        ({"DocumentName": "AWS-RunPowerShellScript"}, "InvalidDocument"),
        ({"Parameters": {"commands": ["true"], "timeout": ["1"]}}, "InvalidParameters"),
        ({"Parameters": {}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "executionTimeout": ["172801"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "executionTimeout": ["10m"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["true"], "workingDirectory": ["/tmp"]}}, "LabNotImplemented"),
        ({"OutputS3BucketName": "bucket"}, "LabNotImplemented"),
    ],
)
def test_what_systems_manager_refuses_is_refused(
    account: Account, node: str, request_: dict[str, Any], wanted: str
) -> None:
    whole = {
        "InstanceIds": [node],
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["true"]},
        **request_,
    }
    refused(wanted, account.ssm.send_command, **whole)


def test_a_long_comment_is_refused(account: Account, node: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.send(node, "true", Comment="x" * 101)
    assert code(caught.value) == "ValidationException"
    assert account.run(node, "true", Comment="x" * 100)["Comment"] == "x" * 100


# https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html


def test_an_invocation_is_not_known_at_once(account: Account, node: str) -> None:
    with account.lab.held():
        command = account.send(node, "true")
        refused("InvocationDoesNotExist", account.ssm.get_command_invocation, CommandId=command, InstanceId=node)
    assert account.ended(command, node)["Status"] == "Success"
    refused("InvocationDoesNotExist", account.ssm.get_command_invocation, CommandId=command, InstanceId=NOBODY)


def test_output_is_cut_and_is_not_there_before_the_end(account: Account, node: str) -> None:
    said = "printf 'x%.0s' $(seq 30000); printf 'y%.0s' $(seq 9000) >&2; touch /run/said"
    command = account.send(node, f"{said}; while [ ! -e /run/heard ]; do sleep 0.05; done")
    eventually(lambda: account.run(node, "ls /run/said")["Status"] == "Success", "its output")
    assert account.invocation(command, node)["Status"] == "InProgress"
    assert account.invocation(command, node)["StandardOutputContent"] == ""
    assert account.invocation(command, node)["ResponseCode"] == -1
    account.run(node, "touch /run/heard")
    found = account.ended(command, node)
    assert len(found["StandardOutputContent"]) == 24_000
    assert found["StandardOutputContent"].endswith("x\n---Output truncated---")
    assert len(found["StandardErrorContent"]) == 8_000
    assert found["StandardErrorContent"].endswith("y\n---Error truncated----")
    listed = account.ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"][0]
    assert len(listed["CommandPlugins"][0]["Output"]) == 2_500
    short = account.ssm.list_command_invocations(CommandId=command)["CommandInvocations"][0]
    assert not short.get("CommandPlugins") and short["Status"] == "Success"


def test_output_that_is_no_text_does_not_break_the_answer(account: Account, node: str) -> None:
    found = account.run(node, r"printf '\377\000\033[31m<script>&amp;'")
    assert "\N{REPLACEMENT CHARACTER}" in found["StandardOutputContent"]
    assert "<script>&amp;" in found["StandardOutputContent"]


def test_commands_are_listed_newest_first(account: Account, node: str) -> None:
    first, second = account.send(node, "true"), account.send(node, "exit 1")
    for command in (first, second):
        account.ended(command, node)
    listed = account.ssm.list_commands(InstanceId=node, MaxResults=2)
    assert [each["CommandId"] for each in listed["Commands"]] == [second, first] and listed["NextToken"]
    assert [each["Status"] for each in listed["Commands"]] == ["Failed", "Success"]
    failed = account.ssm.list_command_invocations(InstanceId=node, Filters=[{"key": "Status", "value": "Failed"}])
    assert second in {each["CommandId"] for each in failed["CommandInvocations"]}
    assert first not in {each["CommandId"] for each in failed["CommandInvocations"]}
    refused("InvalidCommandId", account.ssm.list_commands, CommandId="0" * 36)


def test_two_commands_run_at_once(account: Account, node: str) -> None:
    long = account.send(
        node, "i=0; while [ ! -e /run/go ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done; echo went"
    )
    eventually(lambda: account.invocation(long, node)["Status"] == "InProgress", "its start")
    assert account.run(node, "touch /run/go")["Status"] == "Success"
    assert account.ended(long, node)["StandardOutputContent"] == "went\n"


# https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html


def test_a_script_that_takes_too_long_is_killed(account: Account, node: str) -> None:
    found = account.run(node, "echo begun; sleep 60; touch /etc/never", execution=2)
    assert (found["Status"], found["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    assert found["StandardOutputContent"] == "begun\n" and found["ResponseCode"] != 0
    assert account.run(node, "ls /etc/never; ps ax | grep -c '[s]leep 60'")["StandardOutputContent"] == "0\n"


def test_a_cancelled_script_is_killed_with_all_it_started(account: Account, node: str) -> None:
    waits = "touch /run/waits; while [ ! -e /run/cancelled ]; do sleep 0.05; done; touch /etc/after-cancel"
    command = account.send(node, f"({waits}) & sleep 60")
    eventually(lambda: account.run(node, "ls /run/waits")["Status"] == "Success", "its start")
    account.ssm.cancel_command(CommandId=command)
    found = account.ended(command, node)
    assert (found["Status"], found["StatusDetails"]) == ("Cancelled", "Cancelled")
    assert account.run(node, "touch /run/cancelled; sleep 1; ls /etc/after-cancel")["Status"] == "Failed"
    account.ssm.cancel_command(CommandId=command)  # a second time changes nothing
    assert account.ended(command, node)["Status"] == "Cancelled"


def test_a_command_that_nobody_takes_is_not_delivered(slow: Account) -> None:
    instance = slow.builder("away")
    slow.ec2.stop_instances(InstanceIds=[instance])
    slow.wait_state(instance, "stopped")
    shown = slow.ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [instance]}])
    assert shown["InstanceInformationList"][0]["PingStatus"] == "ConnectionLost"
    command = slow.send(instance, "true", TimeoutSeconds=30)
    assert slow.ended(command, instance)["StatusDetails"] == "DeliveryTimedOut"
    waiting = slow.send(instance, "true", TimeoutSeconds=3600)
    slow.ssm.cancel_command(CommandId=waiting)
    found = slow.ended(waiting, instance)
    assert (found["Status"], found["ResponseCode"]) == ("Cancelled", -1)
    later = slow.send(instance, "echo back", TimeoutSeconds=3600)
    slow.ec2.start_instances(InstanceIds=[instance])
    assert slow.ended(later, instance)["StandardOutputContent"] == "back\n"
    with slow.lab.held():
        slow.ec2.reboot_instances(InstanceIds=[instance])
        assert not slow.online(instance)
    eventually(lambda: slow.online(instance), "it back")


# https://docs.aws.amazon.com/systems-manager/latest/userguide/send-commands-reboot.html


def test_exit_194_reboots_and_runs_the_same_script_again(account: Account, node: str) -> None:
    script = """
    echo "boot $(cat /proc/sys/kernel/random/boot_id)"
    touch /run/memory
    if [ -e /etc/rebooted ]; then exit 5; fi
    touch /etc/rebooted
    exit 194
    """
    found = account.run(node, script)
    first, second = found["StandardOutputContent"].splitlines()
    assert first != second, "the second run is in another boot"
    assert found["ResponseCode"] == 5
    assert account.state(node) == "running"


def test_a_reboot_by_somebody_lets_the_agent_begin_anew(account: Account, node: str) -> None:
    script = "echo run >>/etc/runs; if [ $(wc -l </etc/runs) = 1 ]; then sleep 60; fi; cat /etc/runs"
    command = account.send(node, script)
    eventually(lambda: account.run(node, "cat /etc/runs")["Status"] == "Success", "its start")
    account.ec2.reboot_instances(InstanceIds=[node])
    found = account.ended(command, node)
    assert found["Status"] == "Success" and found["StandardOutputContent"] == "run\nrun\n"


def test_terminating_under_a_command_leaves_it_to_its_time(account: Account) -> None:
    instance = account.builder("ends")
    command = account.send(instance, "sleep 60", execution=2)
    eventually(lambda: account.invocation(command, instance)["Status"] == "InProgress", "its start")
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.wait_state(instance, "terminated")
    # Its own two seconds have ended it, and not the instance's end a moment after its start.
    found = account.ended(command, instance)
    assert found["StatusDetails"] == "ExecutionTimedOut"
    assert float(found["ExecutionElapsedTime"].removeprefix("PT").removesuffix("S")) >= 2
    with pytest.raises(ClientError) as caught:
        account.send(instance, "true")
    assert code(caught.value) == "InvalidInstanceId"


# https://docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-setting-up-ec2.html

AGENT = ["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel"]


def allow(*actions: str, effect: str = "Allow") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": {"Effect": effect, "Action": list(actions), "Resource": "*"}}


@pytest.mark.parametrize(
    ("name", "document", "works"),
    [
        ("inline", allow(*AGENT), True),
        ("wildcards", allow("ssm:*", "ec2messages:*"), True),
        ("half", allow("ssm:UpdateInstanceInformation"), False),
        ("denied", allow(*AGENT, effect="Deny"), False),
        ("other", allow("s3:*"), False),
    ],
)
def test_the_role_decides_whether_the_agent_registers(
    account: Account, name: str, document: dict[str, Any], works: bool
) -> None:
    instance = account.launch(profile=account.profile(name, policy=None, document=document))
    account.wait_state(instance, "running")
    if works:
        eventually(lambda: account.online(instance), "it online")
    else:
        time.sleep(0.3)  # six times as long as it takes at this lab's speed
        assert not account.online(instance)
        with pytest.raises(ClientError) as caught:
            account.send(instance, "true")
        assert code(caught.value) == "InvalidInstanceId"


def test_an_instance_without_a_profile_never_registers(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    time.sleep(0.3)
    assert not account.online(instance)


def private_subnet(account: Account) -> tuple[str, str]:
    vpc = account.ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    subnet = account.ec2.create_subnet(VpcId=vpc, CidrBlock="10.8.1.0/24", AvailabilityZone="us-west-2a")["Subnet"]
    return vpc, subnet["SubnetId"]


def test_a_subnet_without_a_way_out_keeps_the_agent_away_until_it_has_endpoints(account: Account) -> None:
    vpc, subnet = private_subnet(account)
    instance = account.launch(profile=account.profile("private"), SubnetId=subnet)
    account.wait_state(instance, "running")
    time.sleep(0.3)
    assert not account.online(instance)
    for service in ("ssm", "ssmmessages", "ec2messages"):
        assert not account.online(instance)
        account.ec2.create_vpc_endpoint(
            VpcId=vpc,
            ServiceName=f"com.amazonaws.us-west-2.{service}",
            VpcEndpointType="Interface",
            SubnetIds=[subnet],
        )
    eventually(lambda: account.online(instance), "it online through the endpoints")


def test_a_nat_gateway_is_a_way_out(account: Account) -> None:
    vpc, subnet = private_subnet(account)
    nat = account.ec2.create_nat_gateway(SubnetId=subnet, ConnectivityType="public")["NatGateway"]["NatGatewayId"]
    table = account.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    account.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    account.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    instance = account.launch(profile=account.profile("nat"), SubnetId=subnet)
    eventually(lambda: account.online(instance), "it online through NAT")


def test_a_group_that_lets_nothing_out_keeps_the_agent_away(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="closed", Description="x")["GroupId"]
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    account.ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
    instance = account.launch(profile=account.profile("closed"), SecurityGroupIds=[group])
    account.wait_state(instance, "running")
    time.sleep(0.3)
    assert not account.online(instance)
    https = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    account.ec2.authorize_security_group_egress(GroupId=group, IpPermissions=https)
    eventually(lambda: account.online(instance), "it online over 443")


def test_the_agent_takes_a_while(account: Account) -> None:
    profile = account.profile("while")
    account.launch(profile=profile)  # it is usable by now
    with account.lab.held():
        instance = account.launch(profile=profile)
        account.lab.skip(16)
        assert account.state(instance) == "running" and not account.online(instance)
        account.lab.skip(24)
        assert not account.online(instance)
        account.lab.skip(2)
        assert account.online(instance)
    shown = account.ssm.describe_instance_information()["InstanceInformationList"]
    (found,) = [each for each in shown if each["InstanceId"] == instance]
    assert (found["PlatformType"], found["PlatformName"], found["PlatformVersion"]) == ("Linux", "Ubuntu", "22.04")


# https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters.html


def test_public_parameters_can_be_read_with_their_version(account: Account) -> None:
    found = account.ssm.get_parameter(Name=UBUNTU)["Parameter"]
    assert (found["Version"], found["Type"]) == (2, "String")
    assert found["ARN"] == f"arn:aws:ssm:us-west-2::parameter{UBUNTU}"
    older = account.ssm.get_parameter(Name=f"{UBUNTU}:1")["Parameter"]["Value"]
    dates = [account.described_image(each)["CreationDate"] for each in (older, found["Value"])]
    assert dates == sorted(dates) and older != found["Value"]
    path = "/aws/service/canonical/ubuntu/eks/22.04"
    pages = account.ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True)
    names = [each["Name"] for page in pages for each in page["Parameters"]]
    assert UBUNTU in names and all(name.startswith(path) for name in names)


def test_every_release_of_the_catalog_has_its_image(account: Account) -> None:
    from leptonami import catalog

    for release in catalog.load().releases():
        image = account.described_image(account.base(release.ssm_parameter))
        assert (image["OwnerId"], image["RootDeviceName"]) == (release.owner, release.root_device)
        assert image["Architecture"] == {"amd64": "x86_64"}.get(release.architecture, release.architecture)
        assert image["State"] == "available"


def test_public_parameters_cannot_be_changed(account: Account) -> None:
    for request in ({"Overwrite": True}, {}):
        refused(
            "AccessDeniedException", account.ssm.put_parameter, Name=UBUNTU, Value="ami-0", Type="String", **request
        )
    refused("AccessDeniedException", account.ssm.delete_parameter, Name=UBUNTU)
    refused("AccessDeniedException", account.ssm.delete_parameters, Names=["mine", UBUNTU])
    refused("AccessDeniedException", account.ssm.label_parameter_version, Name=UBUNTU, Labels=["x"])
    refused("ParameterNotFound", account.ssm.get_parameter, Name=UBUNTU.replace("1.33", "1.99"))
    account.ssm.put_parameter(Name="/leptonami/mine", Value="1", Type="String")
    assert account.lab.state()["parameters"] == 1
    account.ssm.delete_parameter(Name="/leptonami/mine")
    assert account.lab.state()["parameters"] == 0
