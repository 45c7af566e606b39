"""The policy of a plan, enforced: in the lab, whose IAM checks actions, resources, tags and most condition keys.

What the lab cannot check is in docs/policy.md: keys of KMS, and how AWS words some of its own values.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from small import NO_STEPS, scripts
from small import load as plan_of

from leptonami import policy
from leptonami.build import command, executor
from leptonami.errors import BuildError, CredentialsError, Interrupted
from leptonami.lab import Lab, start
from leptonami.plan import Plan
from leptonami.policy import Policy, Statement, for_plan
from leptonami.target import Target, connect

ACCOUNT = "123456789012"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
NUMBERS = itertools.count()
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


def wait_at_most(monkeypatch: pytest.MonkeyPatch, seconds: float, of: float | None = None) -> None:
    """Shorten every wait, or those that would take so long."""
    real = Target.poll

    def poll(self: Target, check: Any, *, timeout: float, **more: Any) -> Any:
        return real(self, check, timeout=min(timeout, seconds) if of in {None, timeout} else timeout, **more)

    monkeypatch.setattr(Target, "poll", poll)


@pytest.fixture(autouse=True)
def hurry(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait for nothing for minutes, and no less than a busy machine may need."""
    wait_at_most(monkeypatch, 60.0)
    lab.set_faults()
    yield
    lab.set_faults()


def admin(lab: Lab, service: str, region: str = "us-west-2") -> Any:
    return made(service, lab.url, region, lab.environment["AWS_ACCESS_KEY_ID"])


@functools.lru_cache(maxsize=16)
def made(service: str, url: str, region: str, key: str) -> Any:
    """Make a client of the administrator's; it takes a while, so once."""
    secret = "simulated"
    where: dict[str, Any] = {"endpoint_url": url, "region_name": region}
    return boto3.client(service, **where, aws_access_key_id=key, aws_secret_access_key=secret)  # type: ignore[call-overload]


def open_as(lab: Lab, statements: tuple[Statement, ...], monkeypatch: pytest.MonkeyPatch) -> Target:
    """Open a target with the key of a new user who has these statements as managed policies."""
    iam, user = admin(lab, "iam"), f"ci-{next(NUMBERS)}"
    iam.create_user(UserName=user)
    for number, document in enumerate(Policy("test", statements, ()).documents()):
        made = iam.create_policy(PolicyName=f"{user}-{number}", PolicyDocument=json.dumps(document))
        iam.attach_user_policy(UserName=user, PolicyArn=made["Policy"]["Arn"])
    key = iam.create_access_key(UserName=user)["AccessKey"]
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    return connect("lab", region="us-west-2")


def statements_of(plan: Plan, *without: str) -> tuple[Statement, ...]:
    chosen = for_plan(plan, account=ACCOUNT, purposes=["build"]).statements
    assert set(without) <= {each.sid for each in chosen}, f"no statement {without}"
    return tuple(each for each in chosen if each.sid not in without)


def difference(lab: Lab, before: dict[str, int]) -> dict[str, int]:
    after: dict[str, int] = lab.state()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def manifest(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "runs").glob("*/manifest.json")
    read: dict[str, Any] = json.loads(path.read_text())
    return read


MADE = {"images": 1, "snapshots": 1}


# With the whole policy ----------------------------------------------------------------------------------------------


def test_with_the_policy_a_build_succeeds_and_calls_nothing_else(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, before = plan_of(tmp_path), lab.state()
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        lab.reset_calls()
        result = executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == MADE
    assert all(each.ok for each in result.findings)
    called = {name.replace(".", ":") for name in lab.calls()}
    allowed = for_plan(plan, purposes=["build"]).actions
    assert called - allowed == {"sts:GetCallerIdentity"}, "which needs no permission"
    # And nothing that a build does not call, but for these, each for its reason.
    assert allowed - called == {
        # asked for beside another call
        *("iam:PassRole", "iam:TagRole", "iam:TagInstanceProfile", "ec2:CreateTags"),
        # when a run goes on
        *("ec2:StartInstances", "ssm:ListCommands", "ec2:DescribeSecurityGroups"),
        # when something has gone wrong
        *("ssm:CancelCommand", "ec2:DeregisterImage", "ec2:DeleteSnapshot"),
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "no steps": {"steps": []},
    "spot": {"steps": [], "builder": {"instance_types": ["m5.large"], "spot": True}},
    "by name": {"steps": [], "base": {"name": "ubuntu-eks/k8s_1.33/images/hvm-ssd/ubuntu-jammy-22.04-amd64*"}},
    "amazon": {"steps": [], "family": "al2023", "os": "2023", "kubernetes": "1.34"},
    "arm64": {"steps": [], "architecture": "arm64", "builder": {"instance_types": ["m7g.large"]}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_plans_build_with_theirs(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plan, before = plan_of(tmp_path, **VARIANTS[name]), lab.state()
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == MADE


def test_a_spot_plan_without_spot_capacity_falls_back_and_stops_its_builder(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, **VARIANTS["spot"])
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        zones = len(target.client("ec2").describe_subnets()["Subnets"])
        lab.set_faults({"kind": "capacity", "times": zones})
        executor.build(target, plan, runs=tmp_path / "runs")
    assert manifest(tmp_path)["builder"]["spot"] is False


def test_a_plan_with_its_own_network_and_profile(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2, iam = admin(lab, "ec2"), admin(lab, "iam")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="team", Description="the team's", VpcId=subnet["VpcId"])["GroupId"]
    plan = plan_of(
        tmp_path,
        builder={
            "instance_types": ["m5.large"],
            "subnets": [subnet["SubnetId"]],
            "security_groups": [group],
            "instance_profile": "image-builder",
        },
        **scripts(tmp_path, "true"),
    )
    iam.create_role(RoleName="the-builders", AssumeRolePolicyDocument=TRUST)
    document = json.dumps(policy.builder_document(plan))
    iam.put_role_policy(RoleName="the-builders", PolicyName="builder", PolicyDocument=document)
    iam.create_instance_profile(InstanceProfileName="image-builder")
    iam.add_role_to_instance_profile(InstanceProfileName="image-builder", RoleName="the-builders")
    before = lab.state()
    chosen = for_plan(plan, account=ACCOUNT, builder_role="the-builders", purposes=["build"])
    with open_as(lab, chosen.statements, monkeypatch) as target:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == MADE
    wrong = for_plan(plan, account=ACCOUNT, purposes=["build"])
    with (
        open_as(lab, wrong.statements, monkeypatch) as target,
        pytest.raises(CredentialsError, match=r"iam:PassRole on resource: .*role/the-builders"),
    ):
        executor.build(target, plan, runs=tmp_path / "other")


BOUNDARY = "arn:aws:iam::123456789012:policy/image-builders"


@pytest.fixture(scope="module")
def boundary(lab: Lab) -> dict[str, Any]:
    """A plan's changes that name a boundary, and the boundary."""
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}]}
    admin(lab, "iam").create_policy(PolicyName="image-builders", PolicyDocument=json.dumps(document))
    return {"builder": {"instance_types": ["m5.large"], "permissions_boundary": BOUNDARY}}


def test_a_plan_with_a_boundary_builds_within_it(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boundary: dict[str, Any]
) -> None:
    plan, before = plan_of(tmp_path, **boundary, **scripts(tmp_path, "true")), lab.state()
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        executor.build(target, plan, runs=tmp_path / "runs")
        # And the same credentials make and fill no role without it.
        iam, name = target.client("iam"), "leptonami-20261123-211500-a1b2c3"
        tags = [{"Key": "leptonami:plan", "Value": "test"}]
        role = {"RoleName": name, "AssumeRolePolicyDocument": TRUST, "Tags": tags}
        with pytest.raises(CredentialsError, match="iam:CreateRole"):
            target.call(iam.create_role, **role)
        other = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
        with pytest.raises(CredentialsError, match="iam:CreateRole"):
            target.call(iam.create_role, **role, PermissionsBoundary=other)
        admin(lab, "iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        with pytest.raises(CredentialsError, match="iam:PutRolePolicy"):
            target.call(iam.put_role_policy, RoleName=name, PolicyName="x", PolicyDocument=TRUST)
        admin(lab, "iam").delete_role(RoleName=name)
    assert difference(lab, before) == MADE


@pytest.mark.parametrize(
    ("sid", "call", "named", "left"),
    [
        ("NewRole", "CreateRole", "iam:CreateRole", {}),
        ("TagRole", "CreateRole", "iam:TagRole", {}),
        ("FillRole", "PutRolePolicy", "iam:PutRolePolicy", {}),
        ("OwnRole", "SendCommand", "", {"roles": 1}),
    ],
)
def test_with_a_boundary_and_without_one_statement(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    boundary: dict[str, Any],
    sid: str,
    call: str,
    named: str,
    left: dict[str, int],
) -> None:
    plan, before = plan_of(tmp_path, **boundary), lab.state()
    # OwnRole is only missed at the end, so that something else has to fail for it to be seen.
    without = (sid, "ScriptDocument") if sid == "OwnRole" else (sid,)
    with open_as(lab, statements_of(plan, *without), monkeypatch) as target, pytest.raises(CredentialsError) as caught:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert caught.value.resource == call
    assert named in caught.value.message
    assert difference(lab, before) == left


# Without one statement ----------------------------------------------------------------------------------------------

# Statement -> (the call that is refused, what the refusal names, what nobody may remove then, changes of the plan).
REFUSED: dict[str, tuple[str, str, dict[str, int], dict[str, Any]]] = {
    "Look": ("DescribeImages", "ec2:DescribeImages", {}, NO_STEPS),
    "BaseParameter": ("GetParameter", "ssm:GetParameter", {}, NO_STEPS),
    "NewGroup": ("CreateSecurityGroup", "security-group/*", {}, NO_STEPS),
    "NewGroupsVpc": ("CreateSecurityGroup", ":vpc/vpc-", {}, NO_STEPS),
    "TagAtCreation": ("CreateSecurityGroup", "ec2:CreateTags", {}, NO_STEPS),
    "NewRole": ("CreateRole", "iam:CreateRole", {}, {}),
    "OwnRole": ("PutRolePolicy", "iam:PutRolePolicy", {"roles": 1}, {}),
    "NewProfile": ("CreateInstanceProfile", "iam:CreateInstanceProfile", {}, {}),
    "OwnProfile": ("AddRoleToInstanceProfile", "iam:AddRoleToInstanceProfile", {"profiles": 1}, {}),
    "PassRole": ("AddRoleToInstanceProfile", "iam:PassRole", {}, {}),
    "LaunchFrom": ("RunInstances", ":image/ami-", {}, NO_STEPS),
    "LaunchInto": ("RunInstances", ":subnet/subnet-", {}, NO_STEPS),
    "LaunchWithGroup": ("RunInstances", ":security-group/sg-", {}, NO_STEPS),
    "LaunchBuilder": ("RunInstances", ":instance/*", {}, NO_STEPS),
    "LaunchVolume": ("RunInstances", ":volume/*", {}, NO_STEPS),
    "LaunchInterface": ("RunInstances", ":network-interface/*", {}, NO_STEPS),
    "ScriptDocument": ("SendCommand", ":document/AWS-RunShellScript", {}, {}),
    "ScriptOnBuilder": ("SendCommand", ":instance/i-", {}, {}),
    # Who may not terminate the builder keeps it, and the group that it uses.
    "OwnBuilder": (
        "StopInstances",
        "ec2:StopInstances",
        {"instances": 1, "volumes": 1, "interfaces": 1, "security_groups": 1},
        NO_STEPS,
    ),
    "ImageOfBuilder": ("CreateImage", ":instance/i-", {}, NO_STEPS),
    "NewImage": ("CreateImage", ":image/*", {}, NO_STEPS),
    "OwnImage": ("ModifyImageAttribute", ":image/ami-", {}, NO_STEPS),
}
# Needed only when something else has happened; each has a test of its own below.
LATER = {"OwnGroup", "CancelScript", "DiscardImage", "ProlongOwn"}


def test_every_statement_has_its_test(tmp_path: Path) -> None:
    assert {each.sid for each in statements_of(plan_of(tmp_path))} == {*REFUSED, *LATER}


@pytest.mark.parametrize("sid", REFUSED)
def test_without_one_statement_the_build_fails_where_expected(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    call, named, left, changes = REFUSED[sid]
    if "instances" in left:
        # The builder stays and its group in use, however long one waits for that.
        wait_at_most(monkeypatch, 1.0, of=300)
    plan, before = plan_of(tmp_path, **changes), lab.state()
    with open_as(lab, statements_of(plan, sid), monkeypatch) as target, pytest.raises(CredentialsError) as caught:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert caught.value.resource == call
    assert named in caught.value.message
    assert caught.value.exit_code == 4
    assert difference(lab, before) == left
    written = manifest(tmp_path)
    assert written["state"] == "failed"
    failed = [each for each in written["removed"] if each["outcome"] == "failed"]
    assert bool(failed) == bool(left)
    if left:
        assert f"left behind, tagged leptonami:run={written['run']}" in str(caught.value.hint)


def test_without_own_group_the_image_is_made_and_the_group_is_said_to_stay(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, before = plan_of(tmp_path, steps=[]), lab.state()
    with open_as(lab, statements_of(plan, "OwnGroup"), monkeypatch) as target:
        result = executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == {**MADE, "security_groups": 1}
    (left,) = [each for each in result.removals if each.outcome == "failed"]
    assert "ec2:DeleteSecurityGroup" in str(left.error)
    assert manifest(tmp_path)["state"] == "succeeded, with leftovers"


@pytest.mark.parametrize("allowed", [True, False])
def test_an_image_that_is_not_to_be_goes_only_with_discard_image(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    plan, before = plan_of(tmp_path, steps=[]), lab.state()
    lab.set_faults({"kind": "image-fails"})
    without = () if allowed else ("DiscardImage",)
    with open_as(lab, statements_of(plan, *without), monkeypatch) as target, pytest.raises(BuildError) as caught:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == ({} if allowed else MADE)
    assert ("half-made image" in str(caught.value.hint)) is not allowed


@pytest.mark.parametrize("allowed", [True, False])
def test_a_script_is_cancelled_only_with_cancel_script(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    plan, before = plan_of(tmp_path), lab.state()
    real = command.Shell._invocation
    pressed: list[str] = []

    def invocation(self: command.Shell, name: str) -> Any:
        if not pressed:
            pressed.append(name)
            raise KeyboardInterrupt
        return real(self, name)

    monkeypatch.setattr(command.Shell, "_invocation", invocation)
    without = () if allowed else ("CancelScript",)
    with open_as(lab, statements_of(plan, *without), monkeypatch) as target, pytest.raises(Interrupted):
        executor.build(target, plan, runs=tmp_path / "runs")
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    assert ("cancel-unconfirmed" in journal.read_text()) is not allowed
    # The builder goes either way. What it ran is over then, but Run Command only finds out after a while.
    left = difference(lab, before)
    assert set(left) <= (set() if allowed else {"commands"})


def test_a_run_that_goes_on_starts_its_builder_again(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, before = plan_of(tmp_path, steps=[]), lab.state()
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        lab.set_faults({"kind": "error", "operation": "ec2.CreateImage", "code": "Boom", "message": "on order"})
        with pytest.raises(BuildError):
            executor.build(target, plan, runs=tmp_path / "runs", keep_on_error=True)
        lab.set_faults()
        run = manifest(tmp_path)["run"]
        executor.build(target, plan, runs=tmp_path / "runs", run_id=run, resume=True)
    assert lab.calls()["ec2.StartInstances"]
    assert difference(lab, before) == MADE


# What it does not allow ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(lab: Lab) -> dict[str, str]:
    """Somebody else's things, one with another plan's tag."""
    ec2, iam = admin(lab, "ec2"), admin(lab, "iam")
    tags = [{"Key": "leptonami:plan", "Value": "other"}]
    image = next(
        each for each in ec2.describe_images(Owners=["099720109477"])["Images"] if each["Architecture"] == "x86_64"
    )["ImageId"]
    found = ec2.run_instances(
        ImageId=image,
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    instance = found["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    own = ec2.create_image(InstanceId=instance, Name="other's")["ImageId"]
    iam.create_role(RoleName="admin", AssumeRolePolicyDocument='{"Version":"2012-10-17","Statement":[]}')
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    return {
        "base": image,
        "instance": instance,
        "image": own,
        "group": ec2.create_security_group(GroupName="other", Description="x", VpcId=vpc)["GroupId"],
        "subnet": ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        "vpc": vpc,
    }


@pytest.fixture(scope="module")
def scriptable(lab: Lab, world: dict[str, str]) -> str:
    """Somebody else's instance with an agent that is online, so that the refusal is about the caller."""
    ec2, iam, ssm = (admin(lab, name) for name in ("ec2", "iam", "ssm"))
    iam.create_role(RoleName="agents", AssumeRolePolicyDocument=TRUST)
    iam.attach_role_policy(RoleName="agents", PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    iam.create_instance_profile(InstanceProfileName="agents")
    iam.add_role_to_instance_profile(InstanceProfileName="agents", RoleName="agents")
    specification = {"ResourceType": "instance", "Tags": [{"Key": "leptonami:plan", "Value": "other"}]}
    made, deadline = "", time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(ClientError):
            made = (
                made
                or ec2.run_instances(
                    ImageId=world["base"],
                    InstanceType="m5.large",
                    MinCount=1,
                    MaxCount=1,
                    IamInstanceProfile={"Name": "agents"},
                    TagSpecifications=[specification],
                )["Instances"][0]["InstanceId"]
            )
        online = [each["InstanceId"] for each in ssm.describe_instance_information()["InstanceInformationList"]]
        if made in online:
            return str(made)
        time.sleep(0.05)
    pytest.fail("the agent does not come online")


class TestOthers:
    """With the whole policy, whatever belongs to somebody else, or to another plan, stays as it is."""

    @pytest.fixture
    def target(self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
        with open_as(lab, statements_of(plan_of(tmp_path)), monkeypatch) as opened:
            yield opened

    def refused(self, target: Target, service: str, method: str, /, **given: Any) -> None:
        client: Any = target.client(service)  # type: ignore[call-overload]
        with pytest.raises(CredentialsError):
            target.call(getattr(client, method), **given)

    def test_instances(self, target: Target, world: dict[str, str]) -> None:
        for method in ("terminate_instances", "stop_instances", "start_instances"):
            self.refused(target, "ec2", method, InstanceIds=[world["instance"]])
        self.refused(target, "ec2", "create_image", InstanceId=world["instance"], Name="mine-now")

    def test_scripts(self, target: Target, scriptable: str) -> None:
        send = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["id"]}}
        self.refused(target, "ssm", "send_command", InstanceIds=[scriptable], **send)
        by_tag = [{"Key": "tag:leptonami:plan", "Values": ["other"]}]
        self.refused(target, "ssm", "send_command", Targets=by_tag, **send)

    def test_images(self, target: Target, world: dict[str, str]) -> None:
        self.refused(target, "ec2", "deregister_image", ImageId=world["image"])
        everybody = {"Add": [{"Group": "all"}]}
        self.refused(target, "ec2", "modify_image_attribute", ImageId=world["image"], LaunchPermission=everybody)

    def test_groups(self, target: Target, world: dict[str, str]) -> None:
        self.refused(target, "ec2", "delete_security_group", GroupId=world["group"])
        self.refused(target, "ec2", "create_security_group", GroupName="mine", Description="x", VpcId=world["vpc"])

    def test_tags_on_what_exists(self, target: Target, world: dict[str, str]) -> None:
        tags = [{"Key": "leptonami:plan", "Value": "test"}]
        self.refused(target, "ec2", "create_tags", Resources=[world["instance"]], Tags=tags)
        self.refused(target, "ec2", "create_tags", Resources=[world["image"]], Tags=tags)

    def test_roles(self, target: Target) -> None:
        self.refused(target, "iam", "put_role_policy", RoleName="admin", PolicyName="x", PolicyDocument="{}")
        self.refused(target, "iam", "delete_role", RoleName="admin")
        self.refused(target, "iam", "create_role", RoleName="mine", AssumeRolePolicyDocument="{}")
        self.refused(target, "iam", "create_role", RoleName=self.name, AssumeRolePolicyDocument="{}")

    def test_a_role_of_somebody_elses_is_not_passed_on(self, target: Target) -> None:
        tags = [{"Key": "leptonami:plan", "Value": "test"}]
        iam = target.client("iam")
        iam.create_instance_profile(InstanceProfileName=self.name, Tags=tags)
        self.refused(target, "iam", "add_role_to_instance_profile", InstanceProfileName=self.name, RoleName="admin")

    name = "leptonami-20261123-211500-a1b2c3"

    def test_parameters(self, target: Target) -> None:
        self.refused(target, "ssm", "get_parameter", Name="/team/secret")
        self.refused(target, "ssm", "get_parameter", Name="/aws/service/ami-amazon-linux-latest/al2023")

    def test_other_regions(self, target: Target) -> None:
        ec2 = target.client("ec2", "eu-central-1")
        with pytest.raises(CredentialsError):
            target.call(ec2.describe_images, Owners=["self"])

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"InstanceType": "m5.xlarge"},
            {"MetadataOptions": {"HttpTokens": "optional"}},
            {"Encrypted": False},
            {"Tags": "other"},
            {"Untagged": "volume"},
            {"Untagged": "network-interface"},
            {"Group": True},
            {"Image": True},
        ],
        ids=str,
    )
    def test_launches(self, target: Target, world: dict[str, str], change: dict[str, Any]) -> None:
        """The launch of a builder, with one thing changed; as it is, it is allowed."""
        tags = [{"Key": "leptonami:plan", "Value": change.get("Tags", "test")}]
        ec2 = target.client("ec2")
        group = ec2.create_security_group(
            GroupName=f"test-{next(NUMBERS)}",
            Description="x",
            VpcId=world["vpc"],
            TagSpecifications=[
                {"ResourceType": "security-group", "Tags": [{"Key": "leptonami:plan", "Value": "test"}]}
            ],
        )["GroupId"]
        disk = {"VolumeSize": 30, "VolumeType": "gp3", "Encrypted": change.get("Encrypted", True)}
        request: dict[str, Any] = {
            "ImageId": world["image"] if change.get("Image") else world["base"],
            "InstanceType": change.get("InstanceType", "m5.large"),
            "MinCount": 1,
            "MaxCount": 1,
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": world["subnet"],
                    "Groups": [world["group"] if change.get("Group") else group],
                }
            ],
            "MetadataOptions": change.get("MetadataOptions", {"HttpTokens": "required"}),
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": tags}
                for kind in ("instance", "volume", "network-interface")
                if kind != change.get("Untagged")
            ],
        }
        if change:
            self.refused(target, "ec2", "run_instances", **request)
        else:
            made = target.call(ec2.run_instances, **request)["Instances"][0]["InstanceId"]
            target.call(ec2.terminate_instances, InstanceIds=[made])


def test_a_run_that_goes_on_sets_anew_until_when_it_may_stay_and_no_other_tag(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, before = plan_of(tmp_path, **scripts(tmp_path, "true")), lab.state()
    run_id = "20261101-000000-a1b2c3"

    def stop(*_: object) -> None:
        raise BuildError("stopped by the test")

    with open_as(lab, statements_of(plan), monkeypatch) as target, monkeypatch.context() as patched:
        patched.setattr(executor.builders, "wait_running", stop)
        with pytest.raises(BuildError, match="stopped by the test"):
            executor.build(target, plan, runs=tmp_path / "runs", run_id=run_id, keep_on_error=True)
    with (
        open_as(lab, statements_of(plan, "ProlongOwn"), monkeypatch) as target,
        pytest.raises(CredentialsError, match="ec2:CreateTags") as caught,
    ):
        executor.build(target, plan, runs=tmp_path / "runs", run_id=run_id, resume=True, keep_on_error=True)
    assert caught.value.resource == "CreateTags"
    (builder,) = admin(lab, "ec2").describe_instances(
        Filters=[
            {"Name": "tag:leptonami:run", "Values": [run_id]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )["Reservations"][0]["Instances"]
    foreign = admin(lab, "ec2").create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
    later = {"Key": "leptonami:expires", "Value": "2027-01-01T00:00:00Z"}
    with open_as(lab, statements_of(plan), monkeypatch) as target:
        ec2 = target.client("ec2")
        owner = {"Key": "leptonami:owner", "Value": "me"}
        for name, tags in (
            (builder["InstanceId"], [owner]),
            (builder["InstanceId"], [later, owner]),
            (foreign, [later]),
        ):
            with pytest.raises(CredentialsError):
                target.call(ec2.create_tags, Resources=[name], Tags=tags)
        target.call(ec2.create_tags, Resources=[builder["InstanceId"]], Tags=[later])
        executor.build(target, plan, runs=tmp_path / "runs", run_id=run_id, resume=True)
    admin(lab, "ec2").delete_volume(VolumeId=foreign)
    assert difference(lab, before) == MADE
