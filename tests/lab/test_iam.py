"""The lab's IAM keeps to the documented behaviour."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from leptonami.lab import Lab, start


def test_a_role_that_is_not_in_a_profile_is_no_such_entity() -> None:
    """RemoveRoleFromInstanceProfile answers NoSuchEntity (its API reference, Errors); moto has an exception for it."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    with start(speed=float("inf")) as lab:
        iam = client(lab)
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(trust))
        iam.create_instance_profile(InstanceProfileName="p")
        with pytest.raises(ClientError) as caught:
            iam.remove_role_from_instance_profile(InstanceProfileName="p", RoleName="r")
        assert caught.value.response["Error"]["Code"] == "NoSuchEntity"
        assert "cannot be found" in caught.value.response["Error"]["Message"]


def client(lab: Lab) -> Any:
    return boto3.client(
        "iam",
        endpoint_url=lab.url,
        region_name="us-west-2",
        aws_access_key_id=lab.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=lab.environment["AWS_SECRET_ACCESS_KEY"],
    )
