"""What publishing needs of EC2, in the lab as in the real API. Each test names the documented behaviour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from helpers import Account, refused

pytestmark = pytest.mark.lab
ROOT = "/dev/sda1"
OTHER = "123456789012"[::-1]


def image_of(account: Account, name: str, **ebs: Any) -> str:
    mapping = [{"DeviceName": ROOT, "Ebs": {"VolumeSize": 20, "VolumeType": "gp3"} | ebs}]
    instance = account.launch(BlockDeviceMappings=mapping)
    account.wait_state(instance, "running")
    made = account.image(instance, name, NoReboot=True)
    account.ec2.terminate_instances(InstanceIds=[instance])
    return made


def snapshot_of(account: Account, image: str) -> Any:
    (mapping,) = account.described_image(image)["BlockDeviceMappings"]
    return account.ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"][0]


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html


def test_a_copy_has_the_key_that_it_was_given(account: Account) -> None:
    source = image_of(account, "keys", Encrypted=True)
    other = Account(account.lab, "eu-central-1")
    request = {"SourceImageId": source, "SourceRegion": "us-west-2", "Name": "keys"}
    refused("InvalidParameterDependency", other.ec2.copy_image, **request, KmsKeyId="alias/own")
    copy = other.ec2.copy_image(**request, Encrypted=True, KmsKeyId="alias/own")["ImageId"]
    key = snapshot_of(other, copy)["KmsKeyId"]
    assert key.startswith("arn:aws:kms:eu-central-1:123456789012:key/")
    plain = other.ec2.copy_image(**{**request, "Name": "keys-2"})["ImageId"]
    found = snapshot_of(other, plain)
    assert found["Encrypted"] is True, "the copy of an encrypted image is encrypted, with the default key"
    assert found["KmsKeyId"] not in {key, snapshot_of(account, source)["KmsKeyId"]}


@pytest.mark.parametrize("minutes", [10, 20, 2895])
def test_a_time_based_copy_takes_quarters_of_an_hour(account: Account, minutes: int) -> None:
    request = {"SourceImageId": account.base(), "SourceRegion": "us-west-2", "Name": f"timed-{minutes}"}
    refused("InvalidParameterValue", account.ec2.copy_image, **request, SnapshotCopyCompletionDurationMinutes=minutes)
    assert account.ec2.copy_image(**request, SnapshotCopyCompletionDurationMinutes=45)["ImageId"]


# https://docs.aws.amazon.com/ebs/latest/userguide/encryption-by-default.html (default key)


def test_the_default_key_is_an_alias_until_it_is_changed(account: Account) -> None:
    other = Account(account.lab, "eu-west-2")
    assert other.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    chosen = other.ec2.modify_ebs_default_kms_key_id(KmsKeyId="alias/own")["KmsKeyId"]
    assert other.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == chosen
    request = {"SourceImageId": account.base(), "SourceRegion": "us-west-2", "Name": "default", "Encrypted": True}
    assert snapshot_of(other, other.ec2.copy_image(**request)["ImageId"])["KmsKeyId"] == chosen
    other.ec2.reset_ebs_default_kms_key_id()
    assert other.ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-intro.html
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html


def test_what_aws_own_key_encrypts_cannot_be_shared(account: Account) -> None:
    image = image_of(account, "aws-key", Encrypted=True)
    snapshot = snapshot_of(account, image)["SnapshotId"]
    someone = [{"UserId": OTHER}]
    permit = {"SnapshotId": snapshot, "Attribute": "createVolumePermission", "OperationType": "add"}
    refused(
        "OperationNotPermitted", account.ec2.modify_image_attribute, ImageId=image, LaunchPermission={"Add": someone}
    )
    refused("OperationNotPermitted", account.ec2.modify_snapshot_attribute, **permit, UserIds=[OTHER])
    refused("OperationNotPermitted", account.ec2.modify_snapshot_attribute, **permit, GroupNames=["all"])


@pytest.mark.parametrize("style", ["list", "map"])
def test_what_ones_own_key_encrypts_can_be_shared(account: Account, style: str) -> None:
    image = image_of(account, f"own-key-{style}", Encrypted=True, KmsKeyId="alias/own")
    snapshot = snapshot_of(account, image)["SnapshotId"]
    arn = f"arn:aws:organizations::{OTHER}:organization/o-abcdefghij"
    account.ec2.modify_image_attribute(
        ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}, {"OrganizationArn": arn}]}
    )
    shown = account.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    assert {"UserId": OTHER} in shown and {"OrganizationArn": arn} in shown
    if style == "list":
        account.ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHER]
        )
    else:
        account.ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": OTHER}]})
    found = account.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert found["CreateVolumePermissions"] == [{"UserId": OTHER}]
    refused(
        "OperationNotPermitted",
        account.ec2.modify_snapshot_attribute,
        SnapshotId=snapshot,
        CreateVolumePermission={"Add": [{"Group": "all"}]},
    )


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html


def test_a_date_of_deprecation_in_the_past_is_refused(account: Account) -> None:
    image = image_of(account, "old")
    now = datetime.now(UTC)
    call = account.ec2.enable_image_deprecation
    refused("InvalidParameterValue", call, ImageId=image, DeprecateAt=now - timedelta(days=1))
    call(ImageId=image, DeprecateAt=now + timedelta(days=1))


# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html


def test_fast_snapshot_restore_is_enabled_optimized_and_ended(account: Account) -> None:
    image = image_of(account, "fast", VolumeSize=100)
    snapshot = snapshot_of(account, image)["SnapshotId"]
    request = {"AvailabilityZones": ["us-west-2a", "us-west-2b"], "SourceSnapshotIds": [snapshot]}

    def states() -> dict[str, str]:
        found = account.ec2.describe_fast_snapshot_restores(Filters=[{"Name": "snapshot-id", "Values": [snapshot]}])
        return {each["AvailabilityZone"]: each["State"] for each in found["FastSnapshotRestores"]}

    with account.lab.held():
        answer = account.ec2.enable_fast_snapshot_restores(**request)
        assert [each["State"] for each in answer["Successful"]] == ["enabling", "enabling"]
        assert answer["Unsuccessful"] == []
        for seconds, state in ((0, "enabling"), (60, "optimizing"), (300, "enabled")):  # 60 minutes a TiB
            account.lab.skip(seconds)
            assert states() == {"us-west-2a": state, "us-west-2b": state}
    account.ec2.disable_fast_snapshot_restores(AvailabilityZones=["us-west-2a"], SourceSnapshotIds=[snapshot])
    assert states() == {"us-west-2b": "enabled"}


def test_what_cannot_be_enabled_is_said_in_the_answer_and_not_as_an_error(account: Account) -> None:
    image = image_of(account, "nowhere")
    snapshot = snapshot_of(account, image)["SnapshotId"]
    answer = account.ec2.enable_fast_snapshot_restores(
        AvailabilityZones=["us-west-2a", "us-west-2z"], SourceSnapshotIds=[snapshot]
    )
    assert [each["AvailabilityZone"] for each in answer["Successful"]] == ["us-west-2a"]
    (wrong,) = answer["Unsuccessful"]
    assert wrong["SnapshotId"] == snapshot
    assert wrong["FastSnapshotRestoreStateErrors"][0]["AvailabilityZone"] == "us-west-2z"
