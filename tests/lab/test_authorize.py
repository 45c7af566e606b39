"""The lab's IAM decides as AWS documents it, and refuses to decide on what it does not know."""

from __future__ import annotations

import fnmatch
import itertools
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from helpers import UBUNTU, Account
from hypothesis import given
from hypothesis import strategies as st

from leptonami.lab import Lab
from leptonami.lab.policies import Ask, allows, facts, holds, matches, parse

NUMBERS = itertools.count()
INSTANCE = "arn:aws:ec2:us-west-2:123456789012:instance/i-1"
STOP = Ask(
    "ec2:StopInstances",
    INSTANCE,
    "instance",
    {"aws:ResourceTag/team": ("gpu",), "ec2:InstanceType": ("m5.large",), "aws:RequestedRegion": ("us-west-2",)},
)


def allow(action: Any = "ec2:StopInstances", resource: Any = "*", effect: str = "Allow", **condition: Any) -> Any:
    found = {"Effect": effect, "Action": action, "Resource": resource}
    return {**found, "Condition": condition} if condition else found


# Deciding -----------------------------------------------------------------------------------------------------------


def test_without_an_allow_the_answer_is_no() -> None:
    assert not allows([], STOP)
    assert not allows([allow("ec2:StartInstances")], STOP)
    assert allows([allow()], STOP)


def test_an_explicit_deny_wins_in_any_order() -> None:
    for statements in itertools.permutations([allow(), allow(effect="Deny"), allow("ec2:*")]):
        assert not allows(statements, STOP)


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("ec2:stopinstances", "*", True),
        ("ec2:Stop*", "*", True),
        ("*", "*", True),
        (["ec2:StartInstances", "ec2:StopInstances"], "*", True),
        ("ec2:StopInstance", "*", False),
        ("ec2:StopInstances", INSTANCE, True),
        ("ec2:StopInstances", INSTANCE.upper(), False),
        ("ec2:StopInstances", "arn:aws:ec2:*:*:instance/*", True),
        ("ec2:StopInstances", "arn:aws:ec2:us-west-2:123456789012:instance/i-?", True),
        ("ec2:StopInstances", "arn:aws:ec2:us-west-2:123456789012:volume/*", False),
        ("ec2:StopInstances", ["arn:aws:s3:::x", INSTANCE], True),
        # Not a wildcard of IAM's.
        ("ec2:StopInstances", "arn:aws:ec2:us-west-2:123456789012:instance/i-[0-9]", False),
    ],
)
def test_actions_and_resources(action: Any, resource: Any, expected: bool) -> None:
    assert allows([allow(action, resource)], STOP) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_those_of_a_shell(pattern: str, value: str) -> None:
    assert matches(pattern, value) == fnmatch.fnmatchcase(value, pattern)


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "expected"),
    [
        ("StringEquals", "aws:ResourceTag/team", ["gpu"], True),
        ("StringEquals", "aws:ResourceTag/team", ["cpu", "gpu"], True),
        ("StringEquals", "aws:ResourceTag/team", ["GPU"], False),
        ("StringEquals", "aws:ResourceTag/team", ["g*"], False),
        ("StringLike", "aws:ResourceTag/team", ["g*"], True),
        ("StringNotEquals", "aws:ResourceTag/team", ["cpu"], True),
        ("StringNotEquals", "aws:ResourceTag/team", ["gpu"], False),
        ("StringEquals", "aws:ResourceTag/other", ["gpu"], False),
        ("StringNotEquals", "aws:ResourceTag/other", ["gpu"], True),
        ("StringEqualsIfExists", "aws:ResourceTag/other", ["gpu"], True),
        ("StringEqualsIfExists", "aws:ResourceTag/team", ["cpu"], False),
        ("Null", "aws:ResourceTag/other", ["true"], True),
        ("Null", "aws:ResourceTag/team", ["true"], False),
        ("Null", "aws:ResourceTag/team", ["false"], True),
        ("ForAnyValue:StringEquals", "aws:ResourceTag/other", ["gpu"], False),
        ("ForAllValues:StringEquals", "aws:ResourceTag/other", ["gpu"], True),
        ("ForAllValues:StringEquals", "aws:ResourceTag/team", ["gpu"], True),
        # AWS gives StopInstances no tags of the request: a policy that asks for one allows nothing.
        ("StringEquals", "aws:RequestTag/team", ["gpu"], False),
    ],
)
def test_conditions(operator: str, key: str, wanted: list[str], expected: bool) -> None:
    ask = Ask(STOP.action, STOP.resource, STOP.kind, {**STOP.context, "aws:RequestTag/team": ("gpu",)})
    assert holds(operator, key, wanted, ask) is expected


def test_many_values() -> None:
    ask = Ask("ec2:ModifySnapshotAttribute", "x", "snapshot", {"ec2:Add/userId": ("1", "2")})
    assert not holds("ForAllValues:StringEquals", "ec2:Add/userId", ["1"], ask)
    assert holds("ForAllValues:StringEquals", "ec2:Add/userId", ["1", "2", "3"], ask)
    assert holds("ForAnyValue:StringEquals", "ec2:Add/userId", ["2"], ask)


def test_all_conditions_must_hold() -> None:
    team, kind = {"aws:ResourceTag/team": "gpu"}, {"ec2:InstanceType": "m5.large"}
    assert allows([allow(StringEquals={**team, **kind})], STOP)
    assert not allows([allow(StringEquals={**team, "ec2:InstanceType": "x"})], STOP)
    assert not allows([allow(StringEquals=team, StringLike={"ec2:InstanceType": "c*"})], STOP)


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "ec2:*", "NotResource": "*"},
        allow(resource="arn:aws:ec2:us-west-2:${aws:PrincipalAccount}:instance/*"),
        allow(NumericLessThan={"ec2:InstanceType": "3"}),
        allow(**{"Some:StringEquals": {"ec2:InstanceType": "x"}}),
        allow(StringEquals={"ec2:Tenancy": "default"}),
    ],
)
def test_what_it_cannot_decide_it_does_not_decide(statement: Any) -> None:
    with pytest.raises(NotImplementedError, match="an IAM policy with"):
        allows([statement], STOP)


def test_documents_are_read_in_every_form() -> None:
    one = {"Version": "2012-10-17", "Statement": allow()}
    assert parse(json.dumps(one)) == [allow()]
    assert parse("%7B%22Statement%22%3A%5B%5D%7D") == []


def test_the_facts_are_whole() -> None:
    assert len(facts()) > 80
    for action, found in facts().items():
        assert ":" in action
        assert all(":" in key for keys in [found.keys, *found.resources.values()] for key in keys)


# Asking -------------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.lab


def user(account: Account, *statements: Any) -> str:
    name = f"user-{next(NUMBERS)}"
    account.iam.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    account.iam.put_user_policy(UserName=name, PolicyName="it", PolicyDocument=document)
    return name


def clients(lab: Lab, key: dict[str, str]) -> Any:
    session = boto3.Session(
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        region_name="us-west-2",
    )
    return lambda service: session.client(service, endpoint_url=lab.url)  # type: ignore[call-overload]


def opened(lab: Lab, account: Account, *statements: Any) -> Any:
    return clients(lab, account.iam.create_access_key(UserName=user(account, *statements))["AccessKey"])


@pytest.mark.parametrize(
    ("service", "method", "given", "code", "status"),
    [
        ("ec2", "describe_images", {"Owners": ["self"]}, "UnauthorizedOperation", 403),
        ("iam", "list_roles", {}, "AccessDenied", 403),
        ("ssm", "get_parameter", {"Name": UBUNTU}, "AccessDeniedException", 400),
    ],
)
def test_each_service_refuses_in_its_own_words(
    lab: Lab, account: Account, service: str, method: str, given: Any, code: str, status: int
) -> None:
    who = opened(lab, account, allow("s3:*"))
    with pytest.raises(ClientError, match=r"User: arn:aws:iam::123456789012:user/user-\d+ is not auth") as caught:
        getattr(who(service), method)(**given)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_who_one_is_can_always_be_asked(lab: Lab, account: Account) -> None:
    who = opened(lab, account, allow("*", effect="Deny"))
    assert who("sts").get_caller_identity()["Arn"].startswith("arn:aws:iam::123456789012:user/user-")


def test_what_is_allowed_is_answered(lab: Lab, account: Account) -> None:
    who = opened(lab, account, allow("ssm:GetParameter", "arn:aws:ssm:us-west-2::parameter/aws/service/canonical/*"))
    assert who("ssm").get_parameter(Name=UBUNTU)["Parameter"]["Value"].startswith("ami-")


def test_policies_of_groups_and_managed_ones_count(lab: Lab, account: Account) -> None:
    name = user(account, allow("s3:*"))
    who = clients(lab, account.iam.create_access_key(UserName=name)["AccessKey"])
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("iam:ListRoles")]})
    made = account.iam.create_policy(PolicyName=f"{name}-p", PolicyDocument=document)["Policy"]["Arn"]
    with pytest.raises(ClientError):
        who("iam").list_roles()
    account.iam.attach_user_policy(UserName=name, PolicyArn=made)
    who("iam").list_roles()
    account.iam.detach_user_policy(UserName=name, PolicyArn=made)
    with pytest.raises(ClientError):
        who("iam").list_roles()
    account.iam.create_group(GroupName=f"{name}-g")
    account.iam.attach_group_policy(GroupName=f"{name}-g", PolicyArn=made)
    account.iam.add_user_to_group(GroupName=f"{name}-g", UserName=name)
    who("iam").list_roles()


def test_a_session_of_a_role_has_the_roles_policies(lab: Lab, account: Account) -> None:
    trust = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
    role = account.iam.create_role(RoleName="ci", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("iam:ListRoles")]})
    account.iam.put_role_policy(RoleName="ci", PolicyName="it", PolicyDocument=document)
    admin = boto3.client(
        "sts",
        endpoint_url=lab.url,
        region_name="us-west-2",
        aws_access_key_id=lab.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="simulated",
    )
    who = clients(lab, admin.assume_role(RoleArn=role, RoleSessionName="job")["Credentials"])
    who("iam").list_roles()
    with pytest.raises(ClientError, match="assumed-role/ci/job is not authorized"):
        who("ec2").describe_images(Owners=["self"])


def test_a_key_that_nobody_made_is_refused(lab: Lab) -> None:
    who = clients(lab, {"AccessKeyId": "AKIA" + "A" * 16, "SecretAccessKey": "x"})
    with pytest.raises(ClientError, match="not this lab's key"):
        who("ec2").describe_images(Owners=["self"])


def test_a_deleted_key_is_refused(lab: Lab, account: Account) -> None:
    name = user(account, allow("*"))
    key = account.iam.create_access_key(UserName=name)["AccessKey"]
    who = clients(lab, key)
    who("iam").list_roles()
    account.iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    with pytest.raises(ClientError, match="not this lab's key"):
        who("iam").list_roles()


def test_a_call_whose_rules_the_lab_does_not_know_is_not_allowed(lab: Lab, account: Account) -> None:
    who = opened(lab, account, allow("*"))
    with pytest.raises(ClientError, match="LabNotImplemented"):
        who("ec2").create_vpc(CidrBlock="10.9.0.0/16")


def test_what_is_not_there_is_said_to_whoever_might_have_done_it(lab: Lab, account: Account) -> None:
    tagged = {"StringEquals": {"aws:ResourceTag/team": "gpu"}}
    may = opened(lab, account, allow("ec2:TerminateInstances", "*", **tagged))
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        may("ec2").terminate_instances(InstanceIds=["i-0123456789abcdef0"])
    may_not = opened(lab, account, allow("ec2:StopInstances"))
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        may_not("ec2").terminate_instances(InstanceIds=["i-0123456789abcdef0"])


def test_a_dry_run_is_judged_too(lab: Lab, account: Account) -> None:
    who = opened(lab, account, allow("s3:*"))
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        who("ec2").terminate_instances(InstanceIds=["i-0123456789abcdef0"], DryRun=True)
