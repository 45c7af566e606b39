"""Images and who uses them: the search against moto's Auto Scaling and EKS, the listing on the lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from moto import mock_aws

from leptonami.cli import cli
from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import Lab, start
from leptonami.lifecycle import images, usage
from leptonami.lifecycle.images import Launches, named
from leptonami.lifecycle.usage import Use
from leptonami.target import Pace, Target, connect

REGION = "us-west-2"
TAGS = {
    "leptonami:run": "20261123-211500-a1b2c3",
    "leptonami:plan": "test",
    "leptonami:step": "image",
    "leptonami:owner": "ann",
    "leptonami:base-name": "ubuntu-eks/k8s_1.33/images/x-20260901",
}


@pytest.fixture
def account() -> Iterator[Target]:
    """Give an account of moto's, in this process, with the services that the lab does not have yet."""
    with mock_aws():
        session = boto3.Session(region_name=REGION)
        yield Target(session=session, region=REGION, pace=Pace(0.01, 0.02))


def template(target: Target, name: str, *amis: str, default: int = 1) -> str:
    """Make a launch template with a version for each image."""
    ec2: Any = target.client("ec2")
    made = ec2.create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"ImageId": amis[0], "InstanceType": "m5.large"}
    )["LaunchTemplate"]
    for ami in amis[1:]:
        ec2.create_launch_template_version(
            LaunchTemplateId=made["LaunchTemplateId"], LaunchTemplateData={"ImageId": ami, "InstanceType": "m5.large"}
        )
    ec2.modify_launch_template(LaunchTemplateId=made["LaunchTemplateId"], DefaultVersion=str(default))
    return str(made["LaunchTemplateId"])


def amis(target: Target, count: int) -> list[str]:
    """Register some images."""
    ec2: Any = target.client("ec2")
    return [
        ec2.register_image(Name=f"image-{number}", RootDeviceName="/dev/sda1")["ImageId"] for number in range(count)
    ]


def group(target: Target, name: str, **more: Any) -> None:
    client = target.client("autoscaling")
    client.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=0,
        DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"],
        **more,
    )


def test_versions_of_templates_count_if_something_can_start_from_them(account: Target) -> None:
    oldest, pinned, default, between, latest = amis(account, 5)
    made = template(account, "web", oldest, pinned, default, between, latest, default=3)
    group(account, "old", LaunchTemplate={"LaunchTemplateId": made, "Version": "2"})
    found = usage.find(account, REGION, [oldest, pinned, default, between, latest])
    assert found.unasked == {}
    current = {
        ami: [str(use) for use in found.of(ami) if use.current] for ami in (oldest, pinned, default, between, latest)
    }
    assert current[oldest] == current[between] == []
    assert current[pinned] == ["Auto Scaling group old", "launch template web:2"]
    assert current[default] == ["launch template web:3"]
    assert current[latest] == ["launch template web:5"]
    assert [str(use) for use in found.of(oldest)] == ["launch template web:1 (old)"]


def test_every_way_of_a_group_to_name_a_template_counts(account: Target) -> None:
    mixed, override, plain, nobody = amis(account, 4)
    for name, ami in (("mixed", mixed), ("override", override), ("plain", plain)):
        template(account, name, ami)
    group(
        account,
        "mixed-group",
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "mixed", "Version": "$Latest"},
                "Overrides": [
                    {
                        "InstanceType": "m5.large",
                        "LaunchTemplateSpecification": {"LaunchTemplateName": "override", "Version": "$Default"},
                    }
                ],
            }
        },
    )
    group(account, "plain-group", LaunchTemplate={"LaunchTemplateName": "plain"})
    found = usage.find(account, REGION, [mixed, override, plain, nobody])
    assert Use("Auto Scaling group", "mixed-group") in found.of(mixed)
    assert Use("Auto Scaling group", "mixed-group") in found.of(override)
    assert Use("Auto Scaling group", "plain-group") in found.of(plain)
    assert found.of(nobody) == ()


def test_launch_configurations_count_when_a_group_has_them(account: Target) -> None:
    used, unused = amis(account, 2)
    client = account.client("autoscaling")
    for name, ami in (("used", used), ("unused", unused)):
        client.create_launch_configuration(LaunchConfigurationName=name, ImageId=ami, InstanceType="m5.large")
    group(account, "classic", LaunchConfigurationName="used")
    found = usage.find(account, REGION, [used, unused])
    assert {str(use) for use in found.of(used)} == {"Auto Scaling group classic", "launch configuration used"}
    assert [(use.kind, use.current) for use in found.of(unused)] == [("launch configuration", False)]


def test_node_groups_count(account: Target) -> None:
    pinned, latest = amis(account, 2)
    made = template(account, "nodes", pinned, latest)
    eks, iam = account.client("eks"), account.client("iam")
    trust = {"Version": "2012-10-17", "Statement": []}
    role: Any = iam.create_role(RoleName="node", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    subnets = [each["SubnetId"] for each in account.client("ec2").describe_subnets()["Subnets"]]
    eks.create_cluster(name="prod", roleArn=role, resourcesVpcConfig={"subnetIds": subnets[:2]})
    eks.create_nodegroup(
        clusterName="prod",
        nodegroupName="gpu",
        nodeRole=role,
        subnets=subnets[:1],
        launchTemplate={"id": made, "version": "1"},
    )
    found = usage.find(account, REGION, [pinned, latest])
    assert Use("node group", "prod/gpu") in found.of(pinned)
    assert Use("node group", "prod/gpu") not in found.of(latest)


def test_instances_count_until_they_are_terminated(account: Target) -> None:
    (ami,) = amis(account, 1)
    ec2 = account.client("ec2")
    instance = ec2.run_instances(ImageId=ami, InstanceType="m5.large", MinCount=1, MaxCount=1)["Instances"][0]
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    assert usage.find(account, REGION, [ami]).of(ami) == (Use("instance", instance["InstanceId"]),)
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert usage.find(account, REGION, [ami]).of(ami) == ()


def test_parameters_count_and_templates_that_name_them(account: Target) -> None:
    newest, version, by_template = amis(account, 3)
    ssm = account.client("ssm")
    tags: Any = [{"Key": "leptonami:plan", "Value": "test"}]
    for name, ami in (("/x/latest", newest), ("/x/20261123-211500-a1b2c3", version)):
        ssm.put_parameter(Name=name, Value=ami, Type="String", Tags=tags)
    ssm.put_parameter(Name="/somebody/ami", Value=by_template, Type="String")
    template(account, "resolved", "resolve:ssm:/somebody/ami")
    template(account, "broken", "resolve:ssm:/not/there")
    found = usage.find(account, REGION, [newest, version, by_template], plans=["test"])
    assert [(str(use), use.current) for use in found.of(newest)] == [("parameter /x/latest", True)]
    assert [use.current for use in found.of(version)] == [False]
    assert {use.kind for use in found.of(by_template)} == {"launch template", "parameter"}


def failing(target: Target, service: str, code: str) -> None:
    """Let a service refuse everything."""

    def refuse(model: Any, **_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, model.name)

    target.client(service).meta.events.register_first("before-call", refuse)  # type: ignore[call-overload]


@pytest.mark.parametrize("code", ["AccessDenied", "LabNotImplemented", "SomethingElse"])
def test_who_cannot_be_asked_is_named_and_every_version_counts(account: Target, code: str) -> None:
    old, new = amis(account, 2)
    template(account, "web", old, new, default=2)
    assert [use.current for use in usage.find(account, REGION, [old]).of(old)] == [False]
    failing(account, "eks", code)
    found = usage.find(account, REGION, [old])
    assert list(found.unasked) == ["eks"]
    assert [use.current for use in found.of(old)] == [True], "a node group may name it"
    skipped = usage.find(account, REGION, [old], skip=["eks"])
    assert (skipped.unasked, skipped.skipped) == ({}, ("eks",))
    assert [use.current for use in skipped.of(old)] == [True]


def test_a_template_with_many_versions_is_read_to_its_end(account: Target) -> None:
    first, *rest = amis(account, 2)
    template(account, "many", first, *(rest * 30))
    for number in range(20):
        template(account, f"t{number}", rest[0])
    found = usage.find(account, REGION, [first, *rest])
    assert len([use for use in found.of(rest[0]) if use.kind == "launch template"]) == 50


# When it was last launched -------------------------------------------------------------------------------------------


class Answers:
    """An EC2 that knows when images were launched."""

    def __init__(self, value: str | None = None, error: str | None = None) -> None:
        self.value, self.error, self.calls = value, error, 0

    def describe_image_attribute(self, **request: Any) -> Any:
        self.calls += 1
        assert request["Attribute"] == "lastLaunchedTime"
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": "no"}}, "DescribeImageAttribute")
        return {"LastLaunchedTime": {"Value": self.value} if self.value else {}}


def test_the_last_launch_is_known_never_or_unknown(account: Target) -> None:
    when = datetime(2026, 11, 1, 12, tzinfo=UTC)
    described = {"ImageId": "ami-1", "LastLaunchedTime": "2026-11-01T12:00:00Z"}
    never = Answers()
    assert Launches(account, never).of(described) == (when, True)
    assert never.calls == 0, "DescribeImages has told it"
    assert Launches(account, Answers("2026-11-01T12:00:00Z")).of({"ImageId": "ami-1"}) == (when, True)
    assert Launches(account, never).of({"ImageId": "ami-1"}) == (None, True)
    for code in ("LabNotImplemented", "UnauthorizedOperation"):
        silent = Answers(error=code)
        launches = Launches(account, silent)
        assert launches.of({"ImageId": "ami-1"}) == launches.of({"ImageId": "ami-2"}) == (None, False)
        assert silent.calls == 1, "asked no more"


# A plan's name -------------------------------------------------------------------------------------------------------


def test_a_plan_is_named_by_its_file_or_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("name: mine\nregion: eu-west-1\nkubernetes: '1.2'\npublish: {regions: [us-east-1, eu-west-1]}\n")
    assert named(str(path)) == images.Named("mine", ("eu-west-1", "us-east-1")), "it need not be valid any more"
    assert named("some-plan") == images.Named("some-plan", ())
    assert named("ubuntu-22.04-gpu").regions
    for content in ("[]", "name: 5", "publish: x", ""):
        path.write_text(content)
        with pytest.raises(InputError):
            named(str(path))
    path.write_text("name: mine\nregion: 5\npublish: [x]\n")
    assert named(str(path)) == images.Named("mine", ())
    for wrong in ("Not A Name", "missing.yaml", "*", "-"):
        with pytest.raises(InputError):
            named(wrong)


# On the lab ----------------------------------------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[dict[str, str]]:
    """Make three images: one of a plan, its copy in another region, and one of somebody else's."""
    keys: Any = {
        "aws_access_key_id": lab.environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": "simulated",
        "endpoint_url": lab.url,
    }
    ec2: Any = boto3.client("ec2", region_name=REGION, **keys)
    base = ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu-eks/k8s_1.33/*amd64*"]}])["Images"][0]
    instance = ec2.run_instances(ImageId=base["ImageId"], InstanceType="m5.large", MinCount=1, MaxCount=1)["Instances"][
        0
    ]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 1})
    found = {}
    for name, tags in (("own", TAGS), ("foreign", {"Name": "x"}), ("odd", {"leptonami:plan": "test"})):
        spec = [{"ResourceType": "image", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
        found[name] = ec2.create_image(InstanceId=instance["InstanceId"], Name=f"image-{name}", TagSpecifications=spec)[
            "ImageId"
        ]
        ec2.get_waiter("image_available").wait(ImageIds=[found[name]], WaiterConfig={"Delay": 1})
    east: Any = boto3.client("ec2", region_name="us-east-1", **keys)
    found["copy"] = east.copy_image(
        SourceImageId=found["own"], SourceRegion=REGION, Name="image-own", CopyImageTags=True
    )["ImageId"]
    ec2.create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData={"ImageId": found["own"]})
    ec2.enable_image_deprecation(ImageId=found["own"], DeprecateAt=datetime.now(UTC) + timedelta(days=2))
    yield found


def test_the_images_of_a_plan_across_regions(target: Target, made: dict[str, str]) -> None:
    found = images.find(target, plan="test", regions=[REGION, "us-east-1"])
    assert {each.id for each in found.records} == {made["own"], made["copy"], made["odd"]}
    (own,) = [each for each in found.records if each.id == made["own"]]
    assert (own.plan, own.version, own.owner) == ("test", TAGS["leptonami:run"], "ann")
    assert own.base == TAGS["leptonami:base-name"]
    assert own.deprecated is not None
    assert timedelta(days=1) < own.deprecated - found.at < timedelta(days=3)
    assert [str(use) for use in own.users] == ["launch template nodes:1"]
    assert not own.protected
    assert (own.launched, own.launched_known) == (None, True), "the lab tells that nobody has launched it"
    assert own.odd == ""
    (odd,) = [each for each in found.records if each.id == made["odd"]]
    assert "leptonami:run" in odd.odd
    assert {name.rpartition("/")[2] for name in found.unasked} == {"autoscaling", "eks"}
    assert found.provenance == "simulated"
    assert images.find(target, plan="another", regions=[REGION]).records == ()


def test_a_disabled_image_is_listed(target: Target, made: dict[str, str]) -> None:
    target.client("ec2").disable_image(ImageId=made["odd"])
    states = {each.id: each.state for each in images.find(target, plan="test", regions=[REGION]).records}
    target.client("ec2").enable_image(ImageId=made["odd"])
    assert states == {made["own"]: "available", made["odd"]: "disabled"}


def test_the_command_lists_them(lab: Lab, target: Target, made: dict[str, str], tmp_path: Path) -> None:
    runner = CliRunner()
    options = ["--aws", "lab", "--runs", str(tmp_path), "--region", REGION]
    shown = runner.invoke(cli, ["images", "test", *options])
    assert shown.exit_code == 0, shown.output
    assert made["own"] in shown.stdout
    assert made["copy"] not in shown.stdout
    assert "nodes:1" in shown.stdout
    assert "eks" in shown.stderr
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    told = json.loads(runner.invoke(cli, ["images", "test", "--json", *options, "--region", "us-east-1"]).stdout)
    assert {each["id"] for each in told["images"]} == {made["own"], made["copy"], made["odd"]}
    assert told["provenance"] == "simulated"
    everything = json.loads(runner.invoke(cli, ["images", "--all", "--json", *options]).stdout)
    assert {each["id"] for each in everything["images"]} == {made["own"], made["odd"]}
    nothing = runner.invoke(cli, ["images", "another", *options])
    assert nothing.exit_code == 0
    assert "no images" in nothing.stderr


@pytest.mark.parametrize("arguments", [[], ["test", "--all"]])
def test_a_plan_or_all_of_them(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["images", *arguments])
    assert isinstance(result.exception, LeptonamiError)
    assert result.exception.exit_code == 2


def test_listing_writes_nothing(lab: Lab, target: Target, made: dict[str, str]) -> None:
    lab.reset_calls()
    images.find(target, plan=None, regions=[REGION, "us-east-1"])
    assert all(name.split(".")[1].startswith(("Describe", "Get", "List")) for name in lab.calls()), lab.calls()
