"""Launch templates: what EC2 keeps of them and makes of them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from helpers import Account, refused

pytestmark = pytest.mark.lab


@pytest.fixture
def account(clustered: Account) -> Account:
    return clustered


def test_a_launch_takes_what_its_template_says_and_the_request_wins(account: Account) -> None:
    data = {
        "ImageId": account.base(),
        "InstanceType": "g4dn.xlarge",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 4},
        "UserData": base64.b64encode(b"hello").decode(),
    }
    made = account.ec2.create_launch_template(LaunchTemplateName="whole", LaunchTemplateData=data)["LaunchTemplate"]
    given = {"LaunchTemplateId": made["LaunchTemplateId"]}
    (found,) = account.ec2.run_instances(LaunchTemplate=given, MinCount=1, MaxCount=1, InstanceType="g5.xlarge")[
        "Instances"
    ]
    assert (found["InstanceType"], found["ImageId"]) == ("g5.xlarge", data["ImageId"])
    assert found["MetadataOptions"]["HttpPutResponseHopLimit"] == 4
    tags = {each["Key"]: each["Value"] for each in account.describe(found["InstanceId"])["Tags"]}
    assert tags == {"aws:ec2launchtemplate:id": made["LaunchTemplateId"], "aws:ec2launchtemplate:version": "1"}
    kept = account.ec2.describe_instance_attribute(InstanceId=found["InstanceId"], Attribute="userData")
    assert kept["UserData"]["Value"] == data["UserData"]
    account.ec2.terminate_instances(InstanceIds=[found["InstanceId"]])


def test_a_version_is_made_from_its_source(account: Account) -> None:
    ebs = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 80, "VolumeInitializationRate": 300}}]
    data = {"ImageId": account.base(), "InstanceType": "g4dn.xlarge", "BlockDeviceMappings": ebs}
    account.ec2.create_launch_template(LaunchTemplateName="versions", LaunchTemplateData=data)
    make, name = account.ec2.create_launch_template_version, {"LaunchTemplateName": "versions"}
    second = make(**name, SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.xlarge"})["LaunchTemplateVersion"]
    assert second["LaunchTemplateData"] == {**data, "InstanceType": "g5.xlarge"}
    third = make(**name, LaunchTemplateData={"InstanceType": "g6.xlarge"})["LaunchTemplateVersion"]
    assert third["LaunchTemplateData"] == {"InstanceType": "g6.xlarge"}
    describe = account.ec2.describe_launch_template_versions

    def numbers(**asked: Any) -> list[tuple[int, bool]]:
        found = describe(**name, **asked)["LaunchTemplateVersions"]
        return [(each["VersionNumber"], each["DefaultVersion"]) for each in found]

    assert numbers(Versions=["$Latest", "$Default"]) == [(3, False), (1, True)]
    account.ec2.modify_launch_template(**name, DefaultVersion="2")
    assert numbers(Versions=["$Default"]) == [(2, True)]
    for _ in range(15):
        make(**name, LaunchTemplateData=data)
    assert len(numbers()) == 18


def test_versions_are_deleted_but_for_the_default_one_and_their_numbers_do_not_come_again(account: Account) -> None:
    data, name = {"InstanceType": "g4dn.xlarge"}, {"LaunchTemplateName": "shrinks"}
    made = account.ec2.create_launch_template(**name, LaunchTemplateData=data)["LaunchTemplate"]
    make, delete = account.ec2.create_launch_template_version, account.ec2.delete_launch_template_versions
    for _ in range(3):
        make(**name, LaunchTemplateData=data)

    def numbers(**asked: Any) -> list[int]:
        found = account.ec2.describe_launch_template_versions(**name, **asked)["LaunchTemplateVersions"]
        return [each["VersionNumber"] for each in found]

    done = delete(**name, Versions=["1", "2", "4", "9"])
    gone, kept = (done[f"{each}essfullyDeletedLaunchTemplateVersions"] for each in ("Succ", "Unsucc"))
    row = {"LaunchTemplateId": made["LaunchTemplateId"], **name}
    assert gone == [{**row, "VersionNumber": 2}, {**row, "VersionNumber": 4}]
    codes = {each["VersionNumber"]: each["ResponseError"]["Code"] for each in kept}
    assert codes == {1: "unexpectedError", 9: "launchTemplateVersionDoesNotExist"}
    assert (numbers(), numbers(Versions=["$Latest"]), numbers(MinVersion="2")) == ([1, 3], [3], [3])
    assert make(**name, LaunchTemplateData=data)["LaunchTemplateVersion"]["VersionNumber"] == 5
    (shown,) = account.ec2.describe_launch_templates(LaunchTemplateNames=["shrinks"])["LaunchTemplates"]
    assert (shown["DefaultVersionNumber"], shown["LatestVersionNumber"]) == (1, 5)
    assert numbers(MaxVersion="4") == [1, 3]
    absent = "InvalidLaunchTemplateId.VersionNotFound"
    refused(absent, make, **name, SourceVersion="2", LaunchTemplateData=data)
    refused(absent, account.ec2.describe_launch_template_versions, **name, Versions=["4"])
    account.ec2.modify_launch_template(**name, DefaultVersion="3")
    assert delete(**name, Versions=["1"])["UnsuccessfullyDeletedLaunchTemplateVersions"] == []
    assert (numbers(), numbers(Versions=["$Default"])) == ([3, 5], [3])
    refused("InvalidParameterValue", delete, **name, Versions=[str(each) for each in range(201)])
    refused("InvalidLaunchTemplateName.NotFoundException", delete, LaunchTemplateName="nobody", Versions=["1"])
    account.ec2.delete_launch_template(**name)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"LaunchTemplateId": "lt-0"}, "InvalidLaunchTemplateId.Malformed"),
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidLaunchTemplateId.NotFound"),
        ({"LaunchTemplateName": "nobody"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateName": "one", "Version": "7"}, "InvalidLaunchTemplateId.VersionNotFound"),
        ({"LaunchTemplateName": "one"}, "LabNotImplemented"),
    ],
)
def test_templates_that_cannot_be_launched(account: Account, given: dict[str, str], code: str) -> None:
    if not account.ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": ["one"]}])[
        "LaunchTemplates"
    ]:
        # What RunInstances would refuse, the template does not smuggle in.
        data = {"ImageId": account.base(), "CreditSpecification": {"CpuCredits": "standard"}}
        account.ec2.create_launch_template(LaunchTemplateName="one", LaunchTemplateData=data)
    refused(code, account.ec2.run_instances, LaunchTemplate=given, MinCount=1, MaxCount=1)
