"""Filters with several values, as https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html has them."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import Account


def tagged(account: Account, **tags: str) -> str:
    spec = [{"ResourceType": "volume", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
    made = account.ec2.create_volume(AvailabilityZone="us-west-2a", Size=1, TagSpecifications=spec)
    return str(made["VolumeId"])


def found(account: Account, *filters: dict[str, Any]) -> set[str]:
    return {each["VolumeId"] for each in account.ec2.describe_volumes(Filters=list(filters))["Volumes"]}


def test_values_are_joined_with_or_and_filters_with_and(account: Account) -> None:
    one, two, both = tagged(account, a="1"), tagged(account, b="2"), tagged(account, a="1", b="2", c="3")
    neither = tagged(account, d="1")
    keys = {"Name": "tag-key", "Values": ["a", "b"]}
    assert found(account, keys) == {one, two, both}
    assert found(account, {"Name": "tag-key", "Values": ["a", "zzz"]}) == {one, both}
    assert found(account, keys, {"Name": "tag-key", "Values": ["c"]}) == {both}
    assert found(account, {"Name": "tag-key", "Values": ["?"]}) >= {one, two, both, neither}
    assert found(account, {"Name": "tag-key", "Values": ["zzz"]}) == set()
    assert found(account, {"Name": "tag-value", "Values": ["2", "3"]}) == {two, both}


@pytest.mark.parametrize("kind", ["snapshots", "network_interfaces", "security_groups", "images"])
def test_so_for_every_kind(account: Account, kind: str) -> None:
    ec2 = account.ec2
    tags = [{"Key": "mine", "Value": "x"}]
    match kind:
        case "snapshots":
            made = ec2.create_snapshot(VolumeId=tagged(account, x="y"))["SnapshotId"]
        case "network_interfaces":
            subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
            made = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        case "security_groups":
            made = ec2.create_security_group(GroupName="filters", Description="x")["GroupId"]
        case _:
            instance = account.launch()
            ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
            made = ec2.create_image(InstanceId=instance, Name="filters")["ImageId"]
    ec2.create_tags(Resources=[made], Tags=tags)
    answer = getattr(ec2, f"describe_{kind}")(Filters=[{"Name": "tag-key", "Values": ["mine", "other"]}])
    name = {"snapshots": "SnapshotId", "images": "ImageId", "security_groups": "GroupId"}.get(
        kind, "NetworkInterfaceId"
    )
    (rows,) = [value for value in answer.values() if isinstance(value, list)]
    assert [each[name] for each in rows] == [made]
