"""EC2 in the lab follows the real API where moto does not. Each test names the documented behaviour."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from helpers import CORE, UBUNTU, Account, code, eventually, refused

from leptonami.lab import start

pytestmark = pytest.mark.lab
ROOT = "/dev/sda1"


def gp3(size: int, **more: Any) -> list[dict[str, Any]]:
    return [{"DeviceName": ROOT, "Ebs": {"VolumeSize": size, "VolumeType": "gp3", **more}}]


def volumes(account: Account, instance: str) -> Any:
    return account.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"]


# https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html


def test_a_client_token_launches_once(account: Account) -> None:
    first = account.launch(ClientToken="once")
    assert account.launch(ClientToken="once") == first
    assert account.launch(ClientToken="twice") != first


def test_an_instance_is_found_by_its_client_token(account: Account) -> None:
    instance = account.launch(ClientToken="findable")
    filters = [{"Name": "client-token", "Values": ["findable"]}]
    (found,) = account.ec2.describe_instances(Filters=filters)["Reservations"]
    assert [each["InstanceId"] for each in found["Instances"]] == [instance]


def test_a_client_token_with_other_parameters_is_refused(account: Account) -> None:
    account.launch(ClientToken="mismatch")
    with pytest.raises(ClientError) as caught:
        account.launch(ClientToken="mismatch", InstanceType="g5.xlarge")
    assert code(caught.value) == "IdempotentParameterMismatch"


def test_a_client_token_of_a_refused_launch_is_still_free(account: Account) -> None:
    account.lab.set_faults({"kind": "capacity", "times": 1})
    with pytest.raises(ClientError):
        account.launch(ClientToken="free")
    assert account.launch(ClientToken="free", InstanceType="g5.xlarge").startswith("i-")
    account.lab.set_faults()


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html


def test_instances_pass_through_their_states(account: Account) -> None:
    with account.lab.held():
        instance = account.launch()
        assert account.state(instance) == "pending"
        account.lab.skip(14)
        assert account.state(instance) == "pending"
        account.lab.skip(2)
        assert account.state(instance) == "running"
        answer = account.ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]
        assert (answer["PreviousState"]["Name"], answer["CurrentState"]["Name"]) == ("running", "stopping")
        assert account.state(instance) == "stopping"
    account.wait_state(instance, "stopped")  # its services take what they need
    with account.lab.held():
        account.ec2.start_instances(InstanceIds=[instance])
        assert account.state(instance) == "pending"
        account.lab.skip(16)
        assert account.state(instance) == "running"
        account.ec2.terminate_instances(InstanceIds=[instance])
        assert account.state(instance) == "shutting-down"
        assert volumes(account, instance), "a volume lives until its instance is terminated"
    account.wait_state(instance, "terminated")
    assert not volumes(account, instance)


def test_terminating_takes_volumes_and_interfaces_along(account: Account) -> None:
    instance = account.launch(BlockDeviceMappings=gp3(30))
    assert account.describe(instance)["NetworkInterfaces"][0]["Attachment"]["DeleteOnTermination"] is True
    interface = account.describe(instance)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    volume = volumes(account, instance)[0]["VolumeId"]
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.wait_state(instance, "terminated")
    account.ec2.terminate_instances(InstanceIds=[instance])  # a second time is no error
    found = account.lab.state(ids=True)
    assert volume not in found["volumes"] and interface not in found["interfaces"]


def test_a_volume_that_is_to_stay_stays(account: Account) -> None:
    instance = account.launch(BlockDeviceMappings=gp3(20, DeleteOnTermination=False))
    volume = volumes(account, instance)[0]["VolumeId"]
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.wait_state(instance, "terminated")
    assert account.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    account.ec2.delete_volume(VolumeId=volume)


def test_stopping_what_does_not_run_is_refused(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    account.ec2.terminate_instances(InstanceIds=[instance])
    refused("IncorrectInstanceState", account.ec2.stop_instances, InstanceIds=[instance])
    refused("InvalidInstanceID.NotFound", account.ec2.stop_instances, InstanceIds=["i-0123456789abcdef0"])


def test_termination_protection_is_kept(account: Account) -> None:
    instance = account.launch(DisableApiTermination=True)
    refused("OperationNotPermitted", account.ec2.terminate_instances, InstanceIds=[instance])
    account.ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
    account.ec2.terminate_instances(InstanceIds=[instance])


def test_a_security_group_in_use_cannot_be_deleted(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="in-use", Description="x")["GroupId"]
    with account.lab.held():
        instance = account.launch(SecurityGroupIds=[group])
        refused("DependencyViolation", account.ec2.delete_security_group, GroupId=group)
        account.ec2.terminate_instances(InstanceIds=[instance])
        refused("DependencyViolation", account.ec2.delete_security_group, GroupId=group)
    account.wait_state(instance, "terminated")
    account.ec2.delete_security_group(GroupId=group)


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html


def test_the_root_volume_is_as_asked_for(account: Account) -> None:
    instance = account.launch(BlockDeviceMappings=gp3(60, Encrypted=True, Iops=4000, Throughput=250))
    (volume,) = volumes(account, instance)
    found = {name: volume[name] for name in ("Size", "VolumeType", "Encrypted", "Iops", "Throughput")}
    assert found == {"Size": 60, "VolumeType": "gp3", "Encrypted": True, "Iops": 4000, "Throughput": 250}
    assert volume["KmsKeyId"].startswith("arn:aws:kms:")


def test_without_a_mapping_the_volume_is_the_images(account: Account) -> None:
    (volume,) = volumes(account, account.launch())
    assert (volume["Size"], volume["VolumeType"], volume["Iops"], volume["Encrypted"]) == (20, "gp3", 3000, False)


@pytest.mark.parametrize(
    ("ebs", "wanted"),
    [
        ({"VolumeSize": 19}, "InvalidBlockDeviceMapping"),
        ({"VolumeSize": 30, "VolumeType": "gp2", "Iops": 3000}, "InvalidParameterCombination"),
        ({"VolumeSize": 30, "VolumeType": "gp2", "Throughput": 125}, "InvalidParameterCombination"),
        ({"VolumeSize": 30, "VolumeType": "io2"}, "MissingParameter"),
        ({"VolumeSize": 30, "VolumeType": "gp3", "Iops": 200}, "InvalidParameterValue"),
        ({"VolumeSize": 30, "VolumeType": "gp3", "Iops": 3000, "Throughput": 2000}, "InvalidParameterValue"),
        ({"VolumeSize": 30, "KmsKeyId": "alias/mine"}, "InvalidParameterDependency"),
    ],
)
def test_impossible_volumes_are_refused(account: Account, ebs: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.launch(BlockDeviceMappings=[{"DeviceName": ROOT, "Ebs": ebs}])
    assert code(caught.value) == wanted


def test_encryption_by_default_encrypts(account: Account) -> None:
    other = Account(account.lab, "eu-west-1")
    other.ec2.enable_ebs_encryption_by_default()
    assert volumes(other, other.launch())[0]["Encrypted"] is True


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"image": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"image": "ami-nonsense"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "g99.xlarge"}, "InvalidParameterValue"),
        ({"InstanceType": "g5g.xlarge"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"IamInstanceProfile": {"Name": "there-is-none"}}, "InvalidParameterValue"),
        ({"LaunchTemplate": {"LaunchTemplateId": "lt-0"}}, "InvalidLaunchTemplateId.Malformed"),
        ({"CreditSpecification": {"CpuCredits": "standard"}}, "LabNotImplemented"),
    ],
)
def test_what_aws_refuses_is_refused(account: Account, change: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.launch(**change)
    assert code(caught.value) == wanted
    if change.get("InstanceType") == "g5g.xlarge":
        assert "does not match the architecture 'x86_64'" in str(caught.value)


def test_a_type_that_a_zone_lacks_is_refused_with_the_zones_that_have_it(account: Account) -> None:
    offered = account.ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["p3dn.24xlarge"]}]
    )["InstanceTypeOfferings"]
    zones = {each["ZoneName"] for each in account.ec2.describe_availability_zones()["AvailabilityZones"]}
    without = sorted(zones - {each["Location"] for each in offered})
    assert without, "every zone has it: choose another type for this test"
    request = {"MinCount": 1, "MaxCount": 1, "ImageId": account.base(), "InstanceType": "p3dn.24xlarge"}
    refused(
        "Unsupported",
        account.ec2.run_instances,
        says=offered[0]["Location"],
        Placement={"AvailabilityZone": without[0]},
        **request,
    )


def test_a_launch_that_names_no_place_finds_one_that_has_the_type(account: Account) -> None:
    instance = account.launch(InstanceType="p5e.48xlarge")
    assert account.describe(instance)["Placement"]["AvailabilityZone"] == "us-west-2c"


def test_groups_of_another_network_are_refused(account: Account) -> None:
    vpc = account.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = account.ec2.create_security_group(GroupName="elsewhere", Description="x", VpcId=vpc)["GroupId"]
    subnet = account.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0]
    refused(
        "InvalidParameter",
        account.ec2.run_instances,
        says="different networks",
        ImageId=account.base(),
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [group]}],
    )


def test_an_interface_specification_is_followed(account: Account) -> None:
    group = account.ec2.create_security_group(GroupName="followed", Description="x")["GroupId"]
    subnet = account.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][1]
    instance = account.launch(
        NetworkInterfaces=[
            {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [group], "AssociatePublicIpAddress": False}
        ],
        TagSpecifications=[
            {"ResourceType": kind, "Tags": [{"Key": "run", "Value": "r1"}]}
            for kind in ("instance", "volume", "network-interface")
        ],
    )
    found = account.describe(instance)
    assert "PublicIpAddress" not in found
    assert found["SubnetId"] == subnet["SubnetId"]
    assert [each["GroupId"] for each in found["SecurityGroups"]] == [group]
    assert found["Tags"] == volumes(account, instance)[0]["Tags"] == [{"Key": "run", "Value": "r1"}]
    interface = account.ec2.describe_network_interfaces(
        NetworkInterfaceIds=[found["NetworkInterfaces"][0]["NetworkInterfaceId"]]
    )["NetworkInterfaces"][0]
    assert interface["TagSet"] == [{"Key": "run", "Value": "r1"}]


def test_a_launch_without_a_subnet_takes_place_in_a_default_one(account: Account) -> None:
    found = account.describe(account.launch())
    subnet = account.ec2.describe_subnets(SubnetIds=[found["SubnetId"]])["Subnets"][0]
    assert subnet["DefaultForAz"] and found["VpcId"] == subnet["VpcId"] and "PublicIpAddress" in found


def test_an_image_named_by_its_parameter_is_resolved(account: Account) -> None:
    instance = account.launch(image=f"resolve:ssm:{UBUNTU}")
    assert account.describe(instance)["ImageId"] == account.base()


def test_every_instance_of_a_launch_has_the_profile(account: Account) -> None:
    name = account.profile("several")
    account.launch(profile=name)  # waits until the profile is known
    made = account.ec2.run_instances(
        ImageId=account.base(),
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=3,
        IamInstanceProfile={"Name": name},
    )["Instances"]
    assert len(made) == 3
    arn = account.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    for each in made:
        assert account.describe(each["InstanceId"])["IamInstanceProfile"]["Arn"] == arn


def test_a_dry_run_launches_nothing(account: Account) -> None:
    before = account.lab.state()["instances"]
    with pytest.raises(ClientError) as caught:
        account.launch(DryRun=True)
    assert code(caught.value) == "DryRunOperation"
    assert account.lab.state()["instances"] == before


# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html: changes are not immediately visible


def test_a_new_profile_is_not_usable_at_once(account: Account) -> None:
    request = {"ImageId": account.base(), "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1}
    with account.lab.held():
        name = account.profile("fresh")
        refused(
            "InvalidParameterValue",
            account.ec2.run_instances,
            says="Invalid IAM Instance Profile name",
            IamInstanceProfile={"Name": name},
            **request,
        )
    account.launch(profile=name)


def test_a_profile_without_a_role_is_refused(account: Account) -> None:
    account.iam.create_instance_profile(InstanceProfileName="empty")
    with pytest.raises(ClientError) as caught:
        account.launch(profile="empty")
    assert "has no associated IAM Roles" in str(caught.value)


def test_a_profile_named_by_its_arn_is_found(account: Account) -> None:
    account.launch(profile=account.profile("by-arn", policy=CORE))
    arn = account.iam.get_instance_profile(InstanceProfileName="by-arn")["InstanceProfile"]["Arn"]
    instance = account.launch(IamInstanceProfile={"Arn": arn})
    assert account.describe(instance)["IamInstanceProfile"]["Arn"] == arn


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html


def test_metadata_options_are_kept(account: Account) -> None:
    instance = account.launch(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3})
    options = account.describe(instance)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 3)
    account.ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="enabled")
    options = account.describe(instance)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 3)


def test_an_image_that_wants_imdsv2_gets_it(account: Account) -> None:
    amazon = account.base("/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/nvidia/recommended/image_id")
    options = account.describe(account.launch(image=amazon))["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html#troubleshooting-launch-capacity


def test_capacity_is_missing_where_the_fault_says(account: Account) -> None:
    account.lab.set_faults({"kind": "capacity", "instance_type": "g4dn.*", "zone": "us-west-2a"})
    request = {"ImageId": account.base(), "MinCount": 1, "MaxCount": 1}
    place = {"Placement": {"AvailabilityZone": "us-west-2a"}}
    error = refused(
        "InsufficientInstanceCapacity", account.ec2.run_instances, InstanceType="g4dn.xlarge", **place, **request
    )
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert account.ec2.run_instances(InstanceType="g5.xlarge", **place, **request)["Instances"]
    elsewhere = {"Placement": {"AvailabilityZone": "us-west-2b"}}
    assert account.ec2.run_instances(InstanceType="g4dn.xlarge", **elsewhere, **request)["Instances"]
    account.lab.set_faults()


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-requests.html


def test_a_spot_launch_leaves_its_request_and_cannot_be_stopped(account: Account) -> None:
    tags = [{"ResourceType": "spot-instances-request", "Tags": [{"Key": "run", "Value": "r1"}]}]
    market = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    instance = account.launch(InstanceMarketOptions=market, TagSpecifications=tags)
    account.wait_state(instance, "running")
    found = account.describe(instance)
    assert found["InstanceLifecycle"] == "spot"
    (request,) = account.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[found["SpotInstanceRequestId"]])[
        "SpotInstanceRequests"
    ]
    assert (request["State"], request["InstanceId"]) == ("active", instance)
    assert request["Tags"] == [{"Key": "run", "Value": "r1"}]
    refused("UnsupportedOperation", account.ec2.stop_instances, InstanceIds=[instance])
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.wait_state(instance, "terminated")
    assert account.lab.state()["spot_requests"] == 0


def test_a_spot_instance_is_interrupted_on_order(account: Account) -> None:
    account.lab.set_faults({"kind": "interrupt", "seconds": 0.1})
    instance = account.launch(InstanceMarketOptions={"MarketType": "spot"})
    account.wait_state(instance, "terminated")
    assert account.describe(instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    account.lab.set_faults()


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html


def test_instance_types_know_their_gpus_and_come_in_pages(account: Account) -> None:
    wanted = ["g4dn.xlarge", "g5.48xlarge", "p5.48xlarge", "m5.large"]
    found = account.ec2.describe_instance_types(InstanceTypes=wanted)["InstanceTypes"]
    gpus = {
        each["InstanceType"]: (gpu["Name"], gpu["Count"], gpu["MemoryInfo"]["SizeInMiB"])
        for each in found
        for gpu in each.get("GpuInfo", {}).get("Gpus", [])
    }
    assert gpus == {
        "g4dn.xlarge": ("T4", 1, 16384),
        "g5.48xlarge": ("A10G", 8, 22888),
        "p5.48xlarge": ("H100", 8, 81920),
    }
    refused("InvalidInstanceType", account.ec2.describe_instance_types, InstanceTypes=["g4dn.xlarge", "g99.large"])
    page = account.ec2.describe_instance_types()
    assert len(page["InstanceTypes"]) == 100 and page["NextToken"]
    names = {
        each["InstanceType"]
        for page in account.ec2.get_paginator("describe_instance_types").paginate(
            Filters=[{"Name": "processor-info.supported-architecture", "Values": ["arm64"]}]
        )
        for each in page["InstanceTypes"]
    }
    assert "g5g.xlarge" in names and "g5.xlarge" not in names


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html


def test_an_image_has_its_instances_disks_and_tags(account: Account) -> None:
    instance = account.launch(BlockDeviceMappings=gp3(40, Encrypted=True, Iops=3500, Throughput=200))
    account.wait_state(instance, "running")
    account.ec2.stop_instances(InstanceIds=[instance])
    account.wait_state(instance, "stopped")
    tags = [{"Key": "leptonami:run", "Value": "r1"}]
    image = account.image(
        instance,
        "with-tags",
        Description="a test",
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")],
    )
    found = account.described_image(image)
    (mapping,) = found["BlockDeviceMappings"]
    snapshot = mapping["Ebs"].pop("SnapshotId")
    assert mapping == {
        "DeviceName": ROOT,
        "Ebs": {
            "VolumeSize": 40,
            "VolumeType": "gp3",
            "Encrypted": True,
            "Iops": 3500,
            "Throughput": 200,
            "DeleteOnTermination": True,
        },
    }
    assert (found["RootDeviceName"], found["RootDeviceType"]) == (ROOT, "ebs")
    assert (found["Architecture"], found["OwnerId"], found["Public"]) == ("x86_64", "123456789012", False)
    assert found["SourceInstanceId"] == instance and found["Tags"] == tags
    shown = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert (shown["State"], shown["Progress"], shown["VolumeSize"], shown["Tags"]) == ("completed", "100%", 40, tags)


def test_an_image_takes_time_and_its_snapshot_shows_how_far_it_is(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    with account.lab.held():
        account.ec2.stop_instances(InstanceIds=[instance])
        refused("IncorrectState", account.ec2.create_image, InstanceId=instance, Name="too-early")
    account.wait_state(instance, "stopped")

    def progress() -> int:
        shown = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        assert shown["State"] == "pending"
        return int(shown["Progress"].rstrip("%"))

    with account.lab.held():
        image = account.ec2.create_image(InstanceId=instance, Name="slowly")["ImageId"]
        found = account.described_image(image)
        assert found["State"] == "pending"
        snapshot = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        first = progress()
        account.lab.skip(120)
        assert progress() > first
        refused(
            "InvalidAMIID.Unavailable",
            account.ec2.run_instances,
            ImageId=image,
            MinCount=1,
            MaxCount=1,
            InstanceType="g4dn.xlarge",
        )
        account.lab.skip(121)
    # Its machine's disk is copied too, which takes this machine's time; and the lab looks again by its own.
    eventually(lambda: account.described_image(image)["State"] == "available", "the image")


def test_names_of_images_are_checked_and_unique(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    image = account.image(instance, "the-only-one", NoReboot=True)
    refused("InvalidAMIName.Duplicate", account.ec2.create_image, says=image, InstanceId=instance, Name="the-only-one")
    for name in ("x" * 129, "no:colons", "no\nnewlines"):
        refused("InvalidAMIName.Malformed", account.ec2.create_image, InstanceId=instance, Name=name)


def test_an_image_fails_on_order(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    account.lab.set_faults({"kind": "image-fails"})
    image = account.ec2.create_image(InstanceId=instance, Name="fails", NoReboot=True)["ImageId"]
    eventually(lambda: account.described_image(image)["State"] == "failed", "failure")
    assert account.described_image(image)["StateReason"]["Message"]
    account.lab.set_faults()


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html


def test_deregistering_leaves_the_snapshots_unless_told_otherwise(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    for name, more in (("leaves", {}), ("takes", {"DeleteAssociatedSnapshots": True})):
        image = account.image(instance, name, NoReboot=True)
        snapshot = account.described_image(image)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        refused("InvalidSnapshot.InUse", account.ec2.delete_snapshot, SnapshotId=snapshot)
        account.ec2.deregister_image(ImageId=image, **more)
        refused("InvalidAMIID.Unavailable", account.ec2.deregister_image, ImageId=image)
        if not more:
            account.ec2.delete_snapshot(SnapshotId=snapshot)
        refused("InvalidSnapshot.NotFound", account.ec2.delete_snapshot, SnapshotId=snapshot)


def test_deprecation_protection_and_imds_support_are_kept(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    image = account.image(instance, "attributes", NoReboot=True)
    when = datetime.datetime(2027, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    account.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=when)
    assert account.described_image(image)["DeprecationTime"] == "2027-02-03T04:05:00.000Z"
    account.ec2.disable_image_deprecation(ImageId=image)
    assert "DeprecationTime" not in account.described_image(image)
    account.ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
    assert account.described_image(image)["ImdsSupport"] == "v2.0"
    shown = account.ec2.describe_image_attribute(ImageId=image, Attribute="imdsSupport")
    assert shown["ImdsSupport"] == {"Value": "v2.0"}
    account.ec2.enable_image_deregistration_protection(ImageId=image)
    refused("OperationNotPermitted", account.ec2.deregister_image, ImageId=image)
    account.ec2.disable_image_deregistration_protection(ImageId=image)
    account.ec2.deregister_image(ImageId=image)


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/disable-an-ami.html


def test_a_disabled_image_is_left_out_unless_asked_for_and_shared_with_nobody(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    image = account.image(instance, "disabled", NoReboot=True)
    permission = {"Add": [{"UserId": "210987654321"}]}
    account.ec2.modify_image_attribute(ImageId=image, LaunchPermission=permission)
    account.ec2.disable_image(ImageId=image)
    for asked in ({"ImageIds": [image]}, {"Owners": ["self"], "Filters": [{"Name": "name", "Values": ["disabled"]}]}):
        assert account.ec2.describe_images(**asked)["Images"] == []
        (found,) = account.ec2.describe_images(**asked, IncludeDisabled=True)["Images"]
        assert (found["ImageId"], found["State"]) == (image, "disabled")
    shown = account.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
    assert shown["LaunchPermissions"] == []
    refused("InvalidAMIID.Unavailable", account.launch, image=image)
    refused("InvalidAMIName.Duplicate", account.ec2.create_image, InstanceId=instance, Name="disabled")
    refused("AuthFailure", account.ec2.disable_image, ImageId=account.base())
    account.ec2.enable_image(ImageId=image)
    assert account.described_image(image)["State"] == "available"
    account.ec2.deregister_image(ImageId=image)


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageAttribute.html: LastLaunchedTime


def test_a_launch_is_reported_a_day_later(account: Account, slow: Account) -> None:
    def last(of: Account, image: str) -> Any:
        return of.ec2.describe_image_attribute(ImageId=image, Attribute="lastLaunchedTime")["LastLaunchedTime"]

    image = slow.base()
    slow.launch(image=image)
    assert last(slow, image) == {}
    with start(speed=float("inf")) as lab:
        hurried = Account(lab)
        image = hurried.base()
        assert last(hurried, image) == {}
        hurried.launch(image=image)
        told = datetime.datetime.fromisoformat(last(hurried, image)["Value"])
    assert abs(datetime.datetime.now(datetime.UTC) - told) < datetime.timedelta(minutes=5)


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-public-access-to-amis.html


def test_sharing_with_everybody_is_blocked_until_allowed(account: Account) -> None:
    other = Account(account.lab, "us-east-1")
    instance = other.launch()
    other.wait_state(instance, "running")
    image = other.image(instance, "public", NoReboot=True)
    everybody = {"ImageId": image, "LaunchPermission": {"Add": [{"Group": "all"}]}}
    assert other.ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == "block-new-sharing"
    refused("OperationNotPermitted", other.ec2.modify_image_attribute, **everybody)
    other.ec2.disable_image_block_public_access()
    other.ec2.modify_image_attribute(**everybody)
    assert other.described_image(image)["Public"] is True
    someone = [{"UserId": "123456789012"[::-1]}]
    other.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": someone})
    shown = other.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    assert someone[0] in shown


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html


def test_a_copy_is_encrypted_tagged_and_idempotent(account: Account) -> None:
    instance = account.launch()
    account.wait_state(instance, "running")
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
    source = account.image(instance, "to-copy", NoReboot=True, TagSpecifications=tags)
    other = Account(account.lab, "eu-central-1")
    request = {
        "SourceImageId": source,
        "SourceRegion": "us-west-2",
        "Name": "copied",
        "Encrypted": True,
        "CopyImageTags": True,
        "ClientToken": "copy",
    }
    copy = other.ec2.copy_image(**request)["ImageId"]
    assert other.ec2.copy_image(**request)["ImageId"] == copy
    eventually(lambda: other.described_image(copy)["State"] == "available", "the copy")
    found = other.described_image(copy)
    assert found["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    assert (found["SourceImageId"], found["SourceImageRegion"]) == (source, "us-west-2")


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html


def test_public_images_belong_to_whom_they_belong(account: Account) -> None:
    canonical = account.described_image(account.base())
    assert canonical["OwnerId"] == "099720109477" and "ImageOwnerAlias" not in canonical
    amazon = account.described_image(
        account.base("/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/standard/recommended/image_id")
    )
    assert (amazon["OwnerId"], amazon["ImageOwnerAlias"]) == ("602401143452", "amazon")
    mine = account.ec2.describe_images(Owners=["amazon"])["Images"]
    assert mine and "099720109477" not in {each["OwnerId"] for each in mine}


def test_names_are_found_by_pattern_the_newest_with_its_owner_only(account: Account) -> None:
    name = account.described_image(account.base())["Name"]
    pattern = name[:-8] + "*"
    ours = account.ec2.describe_images(Owners=["099720109477"], Filters=[{"Name": "name", "Values": [pattern]}])[
        "Images"
    ]
    assert [each["Name"] for each in sorted(ours, key=lambda each: each["CreationDate"])][-1] == name
    assert len(ours) == 2
    dated = account.ec2.describe_images(
        Owners=["099720109477"],
        Filters=[{"Name": "name", "Values": [pattern]}, {"Name": "creation-date", "Values": ["2026-09-*"]}],
    )["Images"]
    assert [each["Name"] for each in dated] == [name]


def test_somebody_imitates_the_newest_ubuntu_name(account: Account) -> None:
    found = account.ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu-eks/*"]}])["Images"]
    newest = max(found, key=lambda each: each["CreationDate"])
    assert newest["OwnerId"] not in {"099720109477", "123456789012"}


def test_unknown_ids_are_errors_beside_known_ones_too(account: Account) -> None:
    known = account.base()
    refused("InvalidAMIID.NotFound", account.ec2.describe_images, ImageIds=[known, "ami-0123456789abcdef0"])
    refused("InvalidAMIID.Malformed", account.ec2.describe_images, ImageIds=["ami-xyz"])


def test_snapshots_of_public_images_are_not_ones_own(account: Account) -> None:
    shown = account.ec2.describe_snapshots()["Snapshots"]
    assert {each["OwnerId"] for each in shown} <= {"123456789012"}
    theirs = account.described_image(account.base())["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    refused("InvalidSnapshot.NotFound", account.ec2.describe_snapshots, SnapshotIds=[theirs])
    refused("AuthFailure", account.ec2.deregister_image, ImageId=account.base())


@pytest.mark.usefixtures("scripts")
def test_an_image_keeps_what_a_script_wrote(account: Account) -> None:
    instance = account.builder("writer")
    account.run(instance, "echo baked >/etc/baked; echo gone >/run/gone")
    account.ec2.stop_instances(InstanceIds=[instance])
    account.wait_state(instance, "stopped")
    image = account.image(instance, "baked")
    account.ec2.terminate_instances(InstanceIds=[instance])
    second = account.launch(profile="writer", image=image)
    eventually(lambda: account.online(second), "the second one")
    found = account.run(second, "cat /etc/baked; ls /run/gone; cat /etc/machine-id")
    assert found["StandardOutputContent"].startswith("baked\n")
    assert "No such file" in found["StandardErrorContent"]


def test_an_attached_interface_cannot_be_deleted(account: Account) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: InvalidNetworkInterface.InUse."""
    made = account.describe(account.launch())
    delete, interface = account.ec2.delete_network_interface, made["NetworkInterfaces"][0]["NetworkInterfaceId"]
    refused("InvalidNetworkInterface.InUse", delete, NetworkInterfaceId=interface)
    loose = account.ec2.create_network_interface(SubnetId=made["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    delete(NetworkInterfaceId=loose)
    account.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])


def test_a_role_that_is_not_in_a_profile_is_no_such_entity(account: Account) -> None:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_RemoveRoleFromInstanceProfile.html: NoSuchEntity."""
    remove, given = account.iam.remove_role_from_instance_profile, {"InstanceProfileName": account.profile("emptied")}
    remove(**given, RoleName="emptied")
    refused("NoSuchEntity", remove, says="cannot be found", **given, RoleName="emptied")
