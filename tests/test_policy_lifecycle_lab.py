"""The policies for publishing and for sweeping, enforced in the lab."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small import load
from test_policy_lab import ACCOUNT, admin, difference, manifest, open_as, wait_at_most

from leptonami import plan as plans
from leptonami.build import executor
from leptonami.errors import BuildError, CredentialsError
from leptonami.lab import Lab, start
from leptonami.lifecycle import images
from leptonami.lifecycle.retire import Retired, retire
from leptonami.lifecycle.sweep import sweep
from leptonami.plan import Plan
from leptonami.policy import Purpose, Statement, for_plan
from leptonami.publish.publishing import publish
from leptonami.runs import now
from leptonami.target import AwsError, Target, connect

HOME, EUROPE, OTHER = "us-west-2", "eu-central-1", "111122223333"
pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


@pytest.fixture(autouse=True)
def hurry(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wait_at_most(monkeypatch, 60.0)
    lab.set_faults()
    yield
    lab.set_faults()


def plan_of(tmp_path: Path, **changes: Any) -> Plan:
    # The lab cannot check the statements about keys, and the default key would not do for sharing.
    publish = {
        "regions": [EUROPE],
        "kms_keys": {EUROPE: "alias/europe"},
        "accounts": [OTHER],
        "ssm_parameter": f"/images/{tmp_path.name}",
        "deprecate_after": "90d",
        "protect": True,
        **changes,
    }
    volume = {"size_gib": 30, "kms_key": "alias/home"}
    return load(tmp_path, steps=[], publish=publish, root_volume=volume)


def statements_of(plan: Plan, purpose: Purpose, *without: str) -> tuple[Statement, ...]:
    chosen = for_plan(plan, account=ACCOUNT, purposes=[purpose]).statements
    assert set(without) <= {each.sid for each in chosen}, f"no statement {without}"
    return tuple(each for each in chosen if each.sid not in without)


def built(lab: Lab, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> executor.BuildResult:
    """Build with the administrator's key, and publish nothing yet."""
    plan = plan.model_copy(update={"publish": plans.Publish()})
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    with connect("lab", region=HOME) as target:
        return executor.build(target, plan, runs=tmp_path / "runs")


def test_with_the_policy_an_image_is_published(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, fast_launch={"fast_snapshot_restore": {"zones": ["us-west-2a"]}})
    made = built(lab, plan, tmp_path, monkeypatch)
    with open_as(lab, statements_of(plan, "publish"), monkeypatch) as target:
        lab.reset_calls()
        result = publish(target, plan, made.image.id, made.run, unchecked=True)
        called = {name.replace(".", ":") for name in lab.calls()}
        again = publish(target, plan, made.image.id, made.run, unchecked=True)
    assert {each.region: each.made for each in result.regions} == {HOME: False, EUROPE: True}
    assert not again.changed
    allowed = for_plan(plan, purposes=["publish"]).actions
    assert called <= allowed | {"sts:GetCallerIdentity"}
    # Asked for beside other calls; and what a copy that EC2 gives up makes necessary.
    rest = {each for each in allowed - called if not each.startswith("kms:")}
    assert rest <= {
        *("ec2:CreateTags", "ssm:AddTagsToResource", "ec2:DeregisterImage", "ec2:DeleteSnapshot"),
        *("ssm:ListTagsForResource", "ec2:GetEbsDefaultKmsKeyId"),
    }


# Statement -> the call that is refused.
REFUSED = {
    "PublishLook": "DescribeImages",
    "PublishImage": "DescribeImageAttribute",
    "PublishSnapshot": "DescribeSnapshotAttribute",
    "ShareSnapshot": "ModifySnapshotAttribute",
    "CopyFrom": "CopyImage",
    "CopyTo": "CopyImage",
    "TagCopies": "CopyImage",
    "Parameters": "GetParameterHistory",
    "NewParameter": "PutParameter",
}


def test_every_statement_of_publishing_has_its_test(tmp_path: Path) -> None:
    sids = {each.sid for each in statements_of(plan_of(tmp_path), "publish")}
    assert {sid for sid in sids if "Key" not in sid} == set(REFUSED)


@pytest.mark.parametrize("sid", REFUSED)
def test_without_one_statement_publishing_fails_where_expected(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    plan = plan_of(tmp_path)
    made = built(lab, plan, tmp_path, monkeypatch)
    before = lab.state()
    with (
        open_as(lab, statements_of(plan, "publish", sid), monkeypatch) as target,
        pytest.raises(CredentialsError, match=REFUSED[sid]),
    ):
        publish(target, plan, made.image.id, made.run, unchecked=True)
    # A parameter is never moved before everything else is done.
    assert "parameters" not in difference(lab, before)


def test_whatever_the_caller_asks_for_nobody_else_is_let_in(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    made = built(lab, plan, tmp_path, monkeypatch)
    with open_as(lab, statements_of(plan, "publish"), monkeypatch) as target:
        ec2 = target.client("ec2")
        share = {
            "SnapshotId": made.image.snapshots[0],
            "Attribute": "createVolumePermission",
            "OperationType": "add",
        }
        for given in ({"UserIds": ["444455556666"]}, {"UserIds": [OTHER, "444455556666"]}, {"GroupNames": ["all"]}):
            with pytest.raises(CredentialsError):
                target.call(ec2.modify_snapshot_attribute, **share, **given)
        with pytest.raises(AwsError, match="block public access"):
            # No condition key of AWS is about whom an image is shared with: there the account's own block stands.
            everybody: Any = {"Add": [{"Group": "all"}]}
            target.call(ec2.modify_image_attribute, ImageId=made.image.id, LaunchPermission=everybody)
        ssm = target.client("ssm")
        with pytest.raises(CredentialsError):
            target.call(ssm.put_parameter, Name="/images/other", Value="x", Type="String")


# Sweeping ------------------------------------------------------------------------------------------------------------


def leave(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Plan:
    """Leave what a failed build leaves with --keep-on-error: builder, disk, interface, group, role and profile."""
    plan = load(tmp_path, **changes)
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    lab.set_faults({"kind": "error", "operation": "ssm.SendCommand", "code": "Boom", "message": "on order"})
    with connect("lab", region=HOME) as target, pytest.raises(BuildError):
        executor.build(target, plan, runs=tmp_path / "runs", keep_on_error=True)
    lab.set_faults()
    assert manifest(tmp_path)["state"] == "failed"
    return plan


def run_sweep(target: Target, tmp_path: Path) -> Any:
    # The run was begun with another key, so its owner is named. A sweep has a run of its own, maybe of the same second.
    manifests = [json.loads(each.read_text()) for each in (tmp_path / "runs").glob("*/manifest.json")]
    (owner,) = [each["owner"] for each in manifests if "owner" in each]
    return sweep(target, runs=tmp_path / "runs", regions=[HOME], owners=[owner], act=True, even_kept=True)


def test_with_the_policy_a_sweep_takes_what_is_left(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lab.state()
    plan = leave(lab, tmp_path, monkeypatch)
    assert set(difference(lab, before)) == {
        "instances",
        "volumes",
        "interfaces",
        "security_groups",
        "roles",
        "profiles",
    }
    with open_as(lab, statements_of(plan, "sweep"), monkeypatch) as target:
        lab.reset_calls()
        swept = run_sweep(target, tmp_path)
    assert swept.failed == ()
    assert difference(lab, before) == {}
    called = {name.replace(".", ":") for name in lab.calls()}
    assert called <= for_plan(plan, purposes=["sweep"]).actions | {"sts:GetCallerIdentity"}


def test_another_plans_leftovers_stay_whatever_the_sweep_tries(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, mine = tmp_path / "other", tmp_path / "mine"
    other.mkdir()
    mine.mkdir()
    leave(lab, other, monkeypatch, name="other")
    statements = statements_of(load(mine), "sweep")
    before = lab.state()
    with open_as(lab, statements, monkeypatch) as target:
        swept = run_sweep(target, other)
    left = difference(lab, before)
    # Roles and profiles are held by their names, which do not say the plan.
    assert set(left) <= {"roles", "profiles"}
    refused = {each.resource.kind for each in swept.failed}
    assert "instance" in refused
    run_sweep_as_admin(lab, other, monkeypatch)


def run_sweep_as_admin(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    with connect("lab", region=HOME) as target:
        run_sweep(target, tmp_path)


@pytest.mark.parametrize(
    ("sid", "stays"),
    [
        ("Look", None),
        ("LookForRoles", None),
        ("LookAtRoles", None),
        ("OwnBuilder", {"instances", "volumes", "interfaces", "security_groups"}),
        ("OwnGroup", {"security_groups"}),
        ("OwnRole", {"roles"}),
        ("OwnProfile", {"profiles", "roles"}),
    ],
)
def test_without_one_statement_a_sweep_leaves_what_it_was_for(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str, stays: set[str] | None
) -> None:
    before = lab.state()
    plan = leave(lab, tmp_path, monkeypatch)
    full = difference(lab, before)
    with open_as(lab, statements_of(plan, "sweep", sid), monkeypatch) as target:
        if stays is None:
            with pytest.raises(CredentialsError):
                run_sweep(target, tmp_path)
            assert difference(lab, before) == full
        else:
            swept = run_sweep(target, tmp_path)
            assert set(difference(lab, before)) == stays
            assert any("not authorized" in str(each.error) for each in swept.failed)
    run_sweep_as_admin(lab, tmp_path, monkeypatch)
    assert difference(lab, before) == {}


@pytest.mark.parametrize("allowed", [True, False])
def test_loose_parts_go_only_with_their_statement(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """Such as a volume that is left without its instance."""
    before = lab.state()
    plan = leave(lab, tmp_path, monkeypatch)
    ec2 = admin(lab, "ec2")
    found = [
        each
        for one in ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])[
            "Reservations"
        ]
        for each in one["Instances"]
    ]
    tags = found[-1]["Tags"]
    zone = found[-1]["Placement"]["AvailabilityZone"]
    ec2.create_volume(AvailabilityZone=zone, Size=8, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}])
    without = () if allowed else ("LooseParts",)
    with open_as(lab, statements_of(plan, "sweep", *without), monkeypatch) as target:
        swept = run_sweep(target, tmp_path)
    assert difference(lab, before) == ({} if allowed else {"volumes": 1})
    assert bool(swept.failed) is not allowed
    if not allowed:
        run_sweep_as_admin(lab, tmp_path, monkeypatch)


def test_a_build_that_publishes_succeeds_with_both(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, before = plan_of(tmp_path), lab.state()
    chosen = for_plan(plan, account=ACCOUNT, purposes=["build", "publish"])
    with open_as(lab, chosen.statements, monkeypatch) as target:
        executor.build(target, plan, runs=tmp_path / "runs")
    assert difference(lab, before) == {"images": 2, "snapshots": 2, "parameters": 4}


# Images and retiring ------------------------------------------------------------------------------------------------


def two_images(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, str]:
    """Build two images, each with the parameter of its version; give the older one."""
    plan = plan_of(tmp_path)
    ssm, old = admin(lab, "ssm"), ""
    for second in (1, 2):
        run_id = f"20261101-00000{second}-{secrets.token_hex(3)}"
        unpublished = plan.model_copy(update={"publish": plans.Publish()})
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        with connect("lab", region=HOME) as target:
            made = executor.build(target, unpublished, runs=tmp_path / "runs", run_id=run_id)
        name = f"/images/{tmp_path.name}/ubuntu-eks/22.04/1.33/amd64/{run_id}"
        tags = [{"Key": "leptonami:plan", "Value": plan.name}]
        ssm.put_parameter(Name=name, Value=made.image.id, Type="String", Tags=tags)
        old = old or made.image.id
    return plan, old


def let_go(target: Target, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Retired:
    """Deprecate all but the last, and let it go forty days later. This lab has no cluster: no Auto Scaling, no EKS."""
    options: dict[str, Any] = {"regions": [HOME], "runs": tmp_path / "retired", "any_owner": True, "act": True}
    options |= {"keep": 1, "grace": timedelta(days=30), "skip": ["autoscaling", "eks"]}
    retire(target, plan.name, **options)
    with monkeypatch.context() as patched:
        patched.setattr(images, "now", lambda: now() + timedelta(days=40))
        return retire(target, plan.name, **options)


def tidy(lab: Lab) -> None:
    """Take away what the tests' images have left."""
    for region in (HOME, EUROPE):
        ec2, ssm = admin(lab, "ec2", region), admin(lab, "ssm", region)
        for each in ec2.describe_images(Owners=["self"])["Images"]:
            ec2.disable_image_deregistration_protection(ImageId=each["ImageId"])
            ec2.deregister_image(ImageId=each["ImageId"], DeleteAssociatedSnapshots=True)
        for page in ssm.get_paginator("describe_parameters").paginate():
            for each in page["Parameters"]:
                if each["Name"].startswith("/images/"):
                    ssm.delete_parameter(Name=each["Name"])


def test_with_the_policy_images_are_listed_and_retired(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy(lab)
    plan, old = two_images(lab, tmp_path, monkeypatch)
    with open_as(lab, statements_of(plan, "images"), monkeypatch) as target:
        lab.reset_calls()
        found = images.find(target, plan=plan.name, regions=[HOME, EUROPE])
        called = {name.replace(".", ":") for name in lab.calls()}
    assert len(found.records) == 2
    assert {name.rpartition("/")[2] for name in found.unasked} == {"autoscaling", "eks"}
    assert all(each.launched_known and each.users for each in found.records)
    asked = {"autoscaling:DescribeAutoScalingGroups", "eks:ListClusters"}
    assert called - {"autoscaling:", "eks:"} <= for_plan(plan, purposes=["images"]).actions | asked
    before = lab.state()
    with open_as(lab, statements_of(plan, "retire"), monkeypatch) as target:
        lab.reset_calls()
        done = let_go(target, plan, tmp_path, monkeypatch)
        called = {name.replace(".", ":") for name in lab.calls()}
    assert [(each.image.id, each.outcome) for each in done.outcomes] == [(old, "deregistered")]
    assert difference(lab, before) == {"images": -1, "snapshots": -1, "parameters": -1}
    assert called <= for_plan(plan, purposes=["retire"]).actions | {"sts:GetCallerIdentity"}


# Statement -> what comes of retiring without it.
WITHOUT = {
    "ImagesLook": "ec2:DescribeImages",
    "LastLaunch": "nobody can tell when it was last launched",
    "ReadParameters": "nobody can tell who uses it: ssm did not answer",
    "RetireImage": "ec2:EnableImageDeprecation",
    "RetireSnapshot": "ec2:DeleteSnapshot",
    "RetireParameter": "ssm:DeleteParameters",
}
# This lab has no cluster, and so no EKS.
UNTRIED = {"NodeGroups"}


def test_every_statement_of_retiring_has_its_test(tmp_path: Path) -> None:
    assert {each.sid for each in statements_of(plan_of(tmp_path), "retire")} == {*WITHOUT, *UNTRIED}


@pytest.mark.parametrize("sid", WITHOUT)
def test_without_one_statement_retiring_lets_nothing_go_unseen(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    tidy(lab)
    plan, old = two_images(lab, tmp_path, monkeypatch)
    before = lab.state()
    with open_as(lab, statements_of(plan, "retire", sid), monkeypatch) as target:
        if sid == "ImagesLook":
            with pytest.raises(CredentialsError, match=WITHOUT[sid]):
                let_go(target, plan, tmp_path, monkeypatch)
            assert difference(lab, before) == {}
            return
        done = let_go(target, plan, tmp_path, monkeypatch)
    said = {each.image.id: each.why for each in done.decisions}[old]
    said += "".join(str(each.error) for each in done.failed)
    assert WITHOUT[sid] in said
    # The image goes first, then what is left of its snapshots, and the parameter last.
    gone = {"RetireSnapshot": {"images": -1}, "RetireParameter": {"images": -1, "snapshots": -1}}
    assert difference(lab, before) == gone.get(sid, {})


def test_another_plans_images_stay_whoever_retires(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tidy(lab)
    plan, _ = two_images(lab, tmp_path, monkeypatch)
    other = tmp_path / "other"
    other.mkdir()
    before = lab.state()
    with open_as(lab, statements_of(load(other, name="other"), "retire"), monkeypatch) as target:
        done = let_go(target, plan, tmp_path, monkeypatch)
    assert done.acts == ()
    assert difference(lab, before) == {}
