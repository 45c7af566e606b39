"""What is in use cannot be deleted, as EC2's errors are documented."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from helpers import Account

pytestmark = pytest.mark.lab


def test_an_attached_interface_cannot_be_deleted(account: Account) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html: InvalidNetworkInterface.InUse."""
    ec2 = account.ec2
    image = ec2.describe_images(Owners=["099720109477"], Filters=[{"Name": "architecture", "Values": ["x86_64"]}])
    made = ec2.run_instances(ImageId=image["Images"][0]["ImageId"], InstanceType="m5.large", MinCount=1, MaxCount=1)[
        "Instances"
    ][0]
    interface = made["NetworkInterfaces"][0]["NetworkInterfaceId"]
    with pytest.raises(ClientError) as caught:
        ec2.delete_network_interface(NetworkInterfaceId=interface)
    assert caught.value.response["Error"]["Code"] == "InvalidNetworkInterface.InUse"
    loose = ec2.create_network_interface(SubnetId=made["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.delete_network_interface(NetworkInterfaceId=loose)
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
