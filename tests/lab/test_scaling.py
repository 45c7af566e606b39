"""Auto Scaling groups, as AWS describes them: each test names what it follows in `leptonami/lab/groups.py`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import Account, eventually, refused

pytestmark = pytest.mark.lab
COUNT = iter(range(1000))


class Groups:
    """Makes groups of a launch template and takes them away at the end."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.client = account.autoscaling
        self.made: list[str] = []

    def template(self, **data: Any) -> str:
        name = f"template-{next(COUNT)}"
        data = {"ImageId": self.account.base(), "InstanceType": "g4dn.xlarge", **data}
        self.account.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return name

    def make(self, size: int, template: str = "", **more: Any) -> str:
        name = f"group-{next(COUNT)}"
        subnets = self.account.ec2.describe_subnets()["Subnets"]
        zones = {each["AvailabilityZone"]: each["SubnetId"] for each in subnets}
        chosen = {
            "MinSize": 0,
            "MaxSize": 5,
            "DesiredCapacity": size,
            "VPCZoneIdentifier": ",".join(zones[f"us-west-2{letter}"] for letter in "ab"),
            "LaunchTemplate": {"LaunchTemplateName": template or self.template(), "Version": "$Latest"},
            **more,
        }
        if "MixedInstancesPolicy" in more:
            del chosen["LaunchTemplate"]
        self.client.create_auto_scaling_group(AutoScalingGroupName=name, **chosen)
        self.made.append(name)
        return name

    def describe(self, name: str) -> Any:
        (found,) = self.client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return found

    def members(self, name: str, state: str = "InService") -> list[str]:
        return [each["InstanceId"] for each in self.describe(name)["Instances"] if each["LifecycleState"] == state]

    def settled(self, name: str, count: int) -> list[str]:
        eventually(
            lambda: len(self.members(name)) == len(self.describe(name)["Instances"]) == count, f"{count} in {name}"
        )
        return self.members(name)

    def activities(self, name: str) -> Any:
        return self.client.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]


@pytest.fixture
def groups(clustered: Account) -> Iterator[Groups]:
    made = Groups(clustered)
    yield made
    for name in made.made:
        if made.client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]:
            made.client.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def test_a_group_launches_what_is_wanted_and_says_so(groups: Groups) -> None:
    name = groups.make(2)
    ids = groups.settled(name, 2)
    activities = groups.activities(name)
    assert [each["StatusCode"] for each in activities] == ["Successful", "Successful"]
    assert {each["Description"] for each in activities} == {f"Launching a new EC2 instance: {each}" for each in ids}
    assert (
        "a user request created an AutoScalingGroup changing the desired capacity from 0 to 2."
        in activities[0]["Cause"]
    )
    assert "increasing the capacity from 1 to 2." in activities[0]["Cause"]
    assert all(each["StartTime"] <= each["EndTime"] for each in activities)
    zones = {each["AvailabilityZone"] for each in groups.describe(name)["Instances"]}
    assert zones == {"us-west-2a", "us-west-2b"}


def test_an_instance_is_as_its_template_says(groups: Groups) -> None:
    user_data = base64.b64encode(b"#!/bin/bash\ntrue\n").decode()
    template = groups.template(
        UserData=user_data,
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3},
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 90, "VolumeInitializationRate": 200}}],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "of", "Value": "template"}]}],
    )
    tags = [{"Key": "of", "Value": "group", "PropagateAtLaunch": True}, {"Key": "not", "Value": "propagated"}]
    name = groups.make(1, template, Tags=tags)
    (instance,) = groups.settled(name, 1)
    found = groups.account.describe(instance)
    assert (found["MetadataOptions"]["HttpTokens"], found["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        3,
    )
    shown = {each["Key"]: each["Value"] for each in found["Tags"]}
    assert shown["of"] == "group" and "not" not in shown
    assert (shown["aws:autoscaling:groupName"], shown["aws:ec2launchtemplate:version"]) == (name, "1")
    volume = found["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    (disk,) = groups.account.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert (disk["Size"], disk.get("VolumeInitializationRate")) == (90, 200)
    kept = groups.account.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    assert kept["UserData"]["Value"] == user_data
    assert groups.account.lab._ask("GET", f"nodes/{instance}")["user_data"] == "#!/bin/bash\ntrue\n"


def test_capacity_is_changed_within_its_limits(groups: Groups) -> None:
    name = groups.make(3, MinSize=1)
    groups.settled(name, 3)
    wanted = groups.client.set_desired_capacity
    says = "New SetDesiredCapacity value 6 is above max value 5 for the AutoScalingGroup."
    refused("ValidationError", wanted, says=says, AutoScalingGroupName=name, DesiredCapacity=6)
    refused("ValidationError", wanted, says="below min value 1", AutoScalingGroupName=name, DesiredCapacity=0)
    wanted(AutoScalingGroupName=name, DesiredCapacity=1)
    groups.settled(name, 1)
    gone = [each for each in groups.activities(name) if "Terminating" in each["Description"]]
    assert len(gone) == 2
    assert "changing the desired capacity from 3 to 1." in gone[-1]["Cause"]
    assert "shrinking the capacity from 3 to 2." in gone[-1]["Cause"]


def test_an_update_keeps_what_it_does_not_name(groups: Groups) -> None:
    template = groups.template()
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "1"},
            "Overrides": [{"InstanceType": "g4dn.2xlarge"}],
        }
    }
    name = groups.make(1, MixedInstancesPolicy=policy)
    groups.settled(name, 1)
    groups.client.update_auto_scaling_group(AutoScalingGroupName=name, MinSize=2)
    groups.settled(name, 2)
    kinds = {each["InstanceType"] for each in groups.describe(name)["Instances"]}
    assert kinds == {"g4dn.2xlarge"}
    assert groups.describe(name)["DesiredCapacity"] == 2
    assert (
        "a user request update of AutoScalingGroup constraints to min: 2, max: 5" in groups.activities(name)[0]["Cause"]
    )


def test_terminating_with_and_without_a_replacement(groups: Groups) -> None:
    name = groups.make(2, MinSize=1)
    first, second = groups.settled(name, 2)
    terminate = groups.client.terminate_instance_in_auto_scaling_group
    answer = terminate(InstanceId=first, ShouldDecrementDesiredCapacity=False)["Activity"]
    assert answer["Description"] == f"Terminating EC2 instance: {first}" and answer["StatusCode"] == "InProgress"
    eventually(lambda: first not in groups.members(name), "the first is gone")
    assert len(groups.settled(name, 2)) == 2
    answer = terminate(InstanceId=second, ShouldDecrementDesiredCapacity=True)["Activity"]
    assert "shrinking the capacity from 2 to 1" in answer["Cause"]
    (left,) = groups.settled(name, 1)
    refused("ValidationError", terminate, says="minSize", InstanceId=left, ShouldDecrementDesiredCapacity=True)
    refused(
        "ValidationError",
        terminate,
        says="No managed instance found for instance ID",
        InstanceId=first,
        ShouldDecrementDesiredCapacity=False,
    )


def test_what_dies_is_replaced(groups: Groups) -> None:
    name = groups.make(1)
    (instance,) = groups.settled(name, 1)
    groups.account.ec2.terminate_instances(InstanceIds=[instance])
    eventually(lambda: groups.members(name) not in ([], [instance]), "another instance")
    causes = [each["Cause"] for each in groups.activities(name)]
    assert any("EC2 health check indicating it has been terminated or stopped" in each for each in causes)
    assert any("in response to an unhealthy instance needing to be replaced" in each for each in causes)
    (other,) = groups.settled(name, 1)
    groups.client.set_instance_health(InstanceId=other, HealthStatus="Unhealthy")
    eventually(lambda: groups.members(name) not in ([], [other]), "a third one")


def test_without_capacity_another_zone_is_taken_and_then_it_is_tried_again(groups: Groups) -> None:
    fault = {"kind": "capacity", "instance_type": "g4dn.xlarge"}
    groups.account.lab.set_faults({**fault, "zone": "us-west-2a"})
    try:
        name = groups.make(2)
        groups.settled(name, 2)
        assert {each["AvailabilityZone"] for each in groups.describe(name)["Instances"]} == {"us-west-2b"}
        groups.account.lab.set_faults(fault)
        groups.client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=3)
        eventually(lambda: groups.activities(name)[0]["StatusCode"] == "Failed", "a failed launch")
        failed = groups.activities(name)[0]
        assert failed["StatusMessage"].startswith("We currently do not have sufficient g4dn.xlarge capacity")
        assert failed["StatusMessage"].endswith("Launching EC2 instance failed.")
    finally:
        groups.account.lab.set_faults()
    groups.settled(name, 3)


def test_suspended_processes_wait(groups: Groups) -> None:
    name = groups.make(1)
    groups.settled(name, 1)
    groups.client.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    groups.client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=2)
    shown = [each["ProcessName"] for each in groups.describe(name)["SuspendedProcesses"]]
    assert shown == ["Launch"]
    # A round of something that does run: the group has had its turn.
    other = groups.make(1)
    groups.settled(other, 1)
    assert len(groups.describe(name)["Instances"]) == 1
    groups.client.resume_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    groups.settled(name, 2)


def test_a_protected_instance_stays(groups: Groups) -> None:
    name = groups.make(2)
    first, _ = groups.settled(name, 2)
    groups.client.set_instance_protection(AutoScalingGroupName=name, InstanceIds=[first], ProtectedFromScaleIn=True)
    groups.client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
    assert groups.settled(name, 1) == [first]


def test_a_group_with_instances_is_deleted_only_by_force(groups: Groups) -> None:
    name = groups.make(1)
    (instance,) = groups.settled(name, 1)
    refused("ResourceInUse", groups.client.delete_auto_scaling_group, AutoScalingGroupName=name)
    groups.client.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    eventually(
        lambda: not groups.client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"],
        "the group's end",
    )
    assert groups.account.state(instance) == "terminated"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"DesiredCapacity": 9}, "ValidationError", "Desired capacity:9 must be between"),
        ({"MinSize": 6}, "ValidationError", "Max bound, 5, must be greater than or equal to min bound, 6"),
        ({"VPCZoneIdentifier": "subnet-0"}, "ValidationError", "The subnet ID 'subnet-0' does not exist"),
        ({"LaunchTemplate": {"LaunchTemplateName": "none"}}, "InvalidLaunchTemplateName.NotFoundException", ""),
        ({"TerminationPolicies": ["NewestInstance"]}, "LabNotImplemented", "TerminationPolicies"),
        ({"InstanceMaintenancePolicy": {"MinHealthyPercentage": 90}}, "LabNotImplemented", "InstanceMaintenancePolicy"),
    ],
)
def test_what_auto_scaling_refuses(groups: Groups, change: dict[str, Any], code: str, says: str) -> None:
    template = {"LaunchTemplateName": groups.template()}
    subnet = groups.account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    request = {"MinSize": 0, "MaxSize": 5, "VPCZoneIdentifier": subnet, "LaunchTemplate": template, **change}
    refused(code, groups.client.create_auto_scaling_group, says=says, AutoScalingGroupName="refused", **request)
    assert not groups.client.describe_auto_scaling_groups(AutoScalingGroupNames=["refused"])["AutoScalingGroups"]


def test_names_are_unique_and_must_be_known(groups: Groups) -> None:
    name = groups.make(0)
    request: Any = {"MinSize": 0, "MaxSize": 1, "AvailabilityZones": ["us-west-2a"]}
    template = {"LaunchTemplateName": groups.template()}
    refused(
        "AlreadyExists",
        groups.client.create_auto_scaling_group,
        AutoScalingGroupName=name,
        LaunchTemplate=template,
        **request,
    )
    for operation in ("set_desired_capacity", "describe_scaling_activities", "suspend_processes"):
        more = {"DesiredCapacity": 1} if operation == "set_desired_capacity" else {}
        call = getattr(groups.client, operation)
        refused("ValidationError", call, says="not found", AutoScalingGroupName="nobody", **more)


def test_activities_come_in_pages(groups: Groups) -> None:
    name = groups.make(3)
    groups.settled(name, 3)
    first = groups.client.describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=2)
    rest = groups.client.describe_scaling_activities(AutoScalingGroupName=name, NextToken=first["NextToken"])
    assert (len(first["Activities"]), len(rest["Activities"]), "NextToken" in rest) == (2, 1, False)


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("start_instance_refresh", {}),
        ("put_warm_pool", {}),
        ("enter_standby", {"InstanceIds": [], "ShouldDecrementDesiredCapacity": True}),
        ("detach_instances", {"InstanceIds": [], "ShouldDecrementDesiredCapacity": True}),
        ("attach_instances", {}),
        ("put_scaling_policy", {"PolicyName": "p"}),
        ("put_lifecycle_hook", {"LifecycleHookName": "h"}),
        ("put_scheduled_update_group_action", {"ScheduledActionName": "s"}),
    ],
)
def test_what_auto_scaling_lacks_in_the_lab_it_says(groups: Groups, operation: str, request_: dict[str, Any]) -> None:
    refused("LabNotImplemented", getattr(groups.client, operation), AutoScalingGroupName="any", **request_)
