"""Publishing on the lab: copies, permissions, parameters; again and again, and with everything that can go wrong."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import threading
import time
import unittest.mock
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small import load

from leptonami import plan as plans
from leptonami.build import executor
from leptonami.cli import cli, main
from leptonami.errors import BuildError, CheckFailed, CredentialsError, InputError, Interrupted, Timeout
from leptonami.lab import Lab, start
from leptonami.publish import parameters, publishing
from leptonami.publish.live import look
from leptonami.publish.model import Order
from leptonami.publish.subject import Subject, find, read_manifest
from leptonami.runs import Run
from leptonami.target import Target, connect

HOME, EAST, EUROPE = "us-west-2", "us-east-1", "eu-central-1"
OTHER = "210987654321"
ORGANIZATION = f"arn:aws:organizations::{OTHER}:organization/o-abcdefghij"
UNIT = f"arn:aws:organizations::{OTHER}:ou/o-abcdefghij/ou-abcd-12345678"
PUBLISH: dict[str, Any] = {
    "regions": [EAST, EUROPE],
    "kms_keys": {EAST: "alias/east", EUROPE: "alias/europe"},
    "copy_within": "30m",
    "accounts": [OTHER],
    "organizations": [ORGANIZATION, UNIT],
    "ssm_parameter": "/images/test",
    "deprecate_after": "90d",
    "protect": True,
}
HERE: dict[str, Any] = {"regions": None, "kms_keys": None}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


@pytest.fixture
def target(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    lab.set_faults()
    with connect("lab", region=HOME) as connected:
        yield connected
    lab.set_faults()


class Shop:
    """A folder of runs, a plan, and the images built from it."""

    def __init__(self, target: Target, folder: Path, name: str) -> None:
        self.target, self.folder, self.name = target, folder, name
        self.runs = folder / "runs"
        self.built = 0
        self.parameter = f"/images/{name}/ubuntu-eks/22.04/1.33/amd64"

    def plan(self, **changes: Any) -> plans.Plan:
        publish = {**PUBLISH, "ssm_parameter": f"/images/{self.name}", **changes.pop("publish", {})}
        publish = {key: value for key, value in publish.items() if value is not None}
        sections = {"name": self.name, "steps": [], "root_volume": {"size_gib": 30, "kms_key": "alias/home"}}
        return load(self.folder, **{**sections, "publish": publish, **changes})

    def build(self, **changes: Any) -> executor.BuildResult:
        # One second after the other, however fast the lab is: the time in a run's id says which is newer.
        self.built += 1
        run_id = f"20261101-0000{self.built:02d}-{secrets.token_hex(3)}"
        # A build publishes by itself what its plan orders; here the two are looked at one after the other.
        with unittest.mock.patch.object(executor.publishing, "publish"):
            return executor.build(self.target, self.plan(**changes), runs=self.runs, run_id=run_id)

    def publish(self, made: executor.BuildResult, **options: Any) -> publishing.Published:
        order = options.pop("order", None) or self.plan(publish=options.pop("publish", {}))
        return publishing.publish(self.target, order, made.image.id, made.run, **options)

    def record(self, made: executor.BuildResult) -> Any:
        return json.loads((made.run.folder / "publish.json").read_text())

    def value(self, version: str = "latest", region: str = HOME) -> str | None:
        found = parameters.history(self.target, region, f"{self.parameter}/{version}")
        return found[-1].value if found else None

    def copies(self, made: executor.BuildResult, region: str = EAST) -> list[Any]:
        ec2: Any = self.target.client("ec2", region)
        wanted = [{"Name": "tag:leptonami:copy-of", "Values": [made.image.id]}]
        found: list[Any] = ec2.describe_images(Owners=["self"], Filters=wanted)["Images"]
        return found


@pytest.fixture
def shop(target: Target, tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    # Each test has a plan, and so names and parameters, of its own in the one lab.
    return Shop(target, tmp_path, f"p{zlib.crc32(request.node.name.encode())}")


def writes(lab: Lab) -> dict[str, int]:
    reading = ("Describe", "Get", "List")
    return {name: n for name, n in lab.calls().items() if not name.partition(".")[2].startswith(reading)}


# --- what is done ---------------------------------------------------------------------------------


def test_everything_that_a_plan_orders_is_done_and_doing_it_again_changes_nothing(lab: Lab, shop: Shop) -> None:
    made = shop.build(steps=["settle", "versions", "hygiene"])
    result = shop.publish(made)
    assert result.state == "published" and result.changed and result.checked.ok and result.checked.claims > 5
    assert [each.region for each in result.regions] == [HOME, EAST, EUROPE]
    source = result.regions[0].live
    assert source is not None and source.id == made.image.id
    for each in result.regions:
        live = each.live
        assert live is not None
        assert live.launch == {OTHER, ORGANIZATION, UNIT}
        assert set(live.readers.values()) == {frozenset({OTHER})}
        assert not live.public and live.block_public == "block-new-sharing"
        assert live.encrypted and live.protected and live.imds == "v2.0"
        assert live.deprecated is not None and (live.deprecated - source.created).days in {89, 90}
        assert live.deprecated == source.deprecated
        assert live.name == source.name
        assert {key: live.tags[key] for key in source.tags} == dict(source.tags), "the tags are copied"
        assert shop.value(region=each.region) == shop.value(made.run.id, each.region) == live.id
        snapshots = shop.target.client("ec2", each.region).describe_snapshots(SnapshotIds=list(live.snapshots))
        tags = {tag["Key"]: tag["Value"] for tag in snapshots["Snapshots"][0]["Tags"]}
        assert tags["leptonami:run"] == made.run.id and tags["team"] == "tests"
    keys = {each.live.keys for each in result.regions if each.live}
    assert len(keys) == 3, "each region has a key of its own"
    record = shop.record(made)
    assert record["state"] == "published" and record["provenance"] == "simulated"
    assert [each["outcome"] for each in record["parameters"]] == ["set"] * 6
    assert "123456789012" not in json.dumps(record), "our own account id stays out of records"
    journal = made.run.journal.read()
    intents = [each for each in journal if each["event"] == "intent" and each["action"] == "ec2.CopyImage"]
    assert {each["region"] for each in intents} == {EAST, EUROPE}
    lab.reset_calls()
    again = shop.publish(made)
    assert writes(lab) == {}
    assert again.state == "published" and not again.changed
    assert {each.outcome for each in again.parameters} == {"unchanged"}
    assert len(shop.copies(made)) == 1


def test_a_dry_run_tells_the_truth_and_a_policy_could_rely_on_the_list_of_calls(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    order = Order.of_plan(shop.plan())
    lab.reset_calls()
    outline = publishing.outline(shop.target, order, find(made.run.id, shop.runs))
    assert writes(lab) == {} and outline.checked.ok
    announced: dict[str, int] = {}
    for change in outline.changes:
        announced[change.call] = announced.get(change.call, 0) + 1
    shop.publish(made)
    assert writes(lab) == announced
    assert set(lab.calls()) <= {*publishing.calls(order)}
    assert publishing.outline(shop.target, order, find(made.run.id, shop.runs)).changes == ()


def test_a_time_based_copy_asks_for_its_time(shop: Shop) -> None:
    made = shop.build()
    outline = publishing.outline(shop.target, Order.of_plan(shop.plan()), find(made.run.id, shop.runs))
    requests = [each.request for each in outline.changes if each.call == "ec2.CopyImage"]
    assert [each["SnapshotCopyCompletionDurationMinutes"] for each in requests] == [30, 30]
    assert [each["KmsKeyId"] for each in requests] == ["alias/east", "alias/europe"]


def test_an_account_that_is_added_later_is_added_and_nobody_is_taken_away(lab: Lab, shop: Shop) -> None:
    made = shop.build(publish={"regions": None, "kms_keys": None})
    shop.publish(made, publish={"regions": None, "kms_keys": None})
    third = "345678901234"
    lab.reset_calls()
    result = shop.publish(made, publish={"regions": None, "kms_keys": None, "accounts": [third]})
    assert writes(lab) == {"ec2.ModifyImageAttribute": 1, "ec2.ModifySnapshotAttribute": 1}
    assert result.regions[0].live is not None and result.regions[0].live.launch >= {OTHER, third}
    assert result.regions[0].also == (OTHER,)


def test_a_plan_that_orders_nothing_calls_nothing(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    nothing = dict.fromkeys(PUBLISH) | {"ssm_parameter": None}
    lab.reset_calls()
    assert shop.publish(made, publish=nothing).state == "nothing to do"
    assert lab.calls() == {}


# --- only what passed its checks ------------------------------------------------------------------


def test_what_did_not_pass_its_checks_is_refused_and_nothing_is_changed(lab: Lab, shop: Shop) -> None:
    made = shop.build(steps=["settle", "versions", "hygiene"], publish=HERE)
    plan = shop.plan(publish=HERE)
    digest = read_manifest(made.run.folder)["plan"]["digest"]

    def tag(value: str) -> None:
        tags = [{"Key": "leptonami:digest", "Value": value}]
        shop.target.client("ec2").create_tags(Resources=[made.image.id], Tags=tags)  # type: ignore[list-item]

    for spoiled in (
        "state",
        "finding",
        "evidence",
        "raw",
        "no evidence",
        "no findings",
        "other image",
        "tag",
        "no run",
    ):
        # The same run again and again, each time with something else wrong.
        folder = shop.folder / spoiled / made.run.id
        shutil.copytree(made.run.folder, folder)
        run = Run(made.run.id, folder)
        evidence, manifest = folder / "evidence" / "image-contents.json", read_manifest(folder)
        findings = manifest["findings"]
        match spoiled:
            case "state":
                manifest["state"] = "failed"
            case "finding":
                manifest["findings"] = [{**findings[0], "ok": False}, *findings[1:]]
            case "evidence":
                document = json.loads(evidence.read_text())
                document["payload"]["findings"][0]["ok"] = None
                evidence.write_text(json.dumps(document))
            case "raw":
                (folder / "evidence" / "raw" / "image-contents.txt").write_text("something else")
            case "no evidence":
                evidence.unlink()
            case "no findings":
                evidence.unlink()
                manifest["findings"] = []
            case "other image":
                manifest["image"]["id"] = "ami-0123456789abcdef0"
            case "tag":
                tag("0" * 64)
            case "no run":
                run = Run.create(shop.runs)
        if spoiled != "no run":
            run.write_manifest(manifest)
        lab.reset_calls()
        with pytest.raises(CheckFailed) as caught:
            publishing.publish(shop.target, plan, made.image.id, run)
        assert caught.value.exit_code == 3 and "--unchecked" in str(caught.value.hint), spoiled
        assert writes(lab) == {}, spoiled
        tag(digest)
    result = publishing.publish(shop.target, plan, made.image.id, run, unchecked=True)
    assert result.state == "published" and "unchecked" in result.notes[0] and not result.checked.ok


def make_public(target: Target, image: str, region: str = HOME) -> None:
    ec2 = target.client("ec2", region)
    ec2.disable_image_block_public_access()
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")


def test_an_image_that_is_public_is_refused(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    make_public(shop.target, made.image.id)
    lab.reset_calls()
    with pytest.raises(CheckFailed, match="public") as caught:
        shop.publish(made, unchecked=True)
    assert writes(lab) == {} and "reset-image-attribute" in str(caught.value.hint)


def test_a_copy_that_somebody_makes_public_in_between_is_not_announced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shop.build()
    real, struck = publishing.apply, threading.Event()

    def meddle(target: Target, change: Any, journal: Any) -> Any:
        answer = real(target, change, journal)
        if change.region == EAST and change.call == "ec2.EnableImageDeprecation":
            make_public(target, change.request["ImageId"], EAST)
            struck.set()
        return answer

    monkeypatch.setattr(publishing, "apply", meddle)
    with pytest.raises(CheckFailed, match="public"):
        shop.publish(made)
    assert struck.is_set() and shop.value() is None and shop.value(region=EUROPE) is None
    states = {each["region"]: each["error"] for each in shop.record(made)["regions"]}
    assert states[EUROPE] is None and "public" in states[EAST]["message"]


def test_no_request_can_name_everybody(shop: Shop) -> None:
    made = shop.build()
    outline = publishing.outline(shop.target, Order.of_plan(shop.plan()), find(made.run.id, shop.runs))
    text = json.dumps([each.request for each in outline.changes], default=str)
    assert '"Group' not in text and '"all"' not in text


# --- what cannot work is said before anything is done ---------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"regions": ["me-south-1"], "kms_keys": {"me-south-1": "alias/x"}}, "publish.regions", "not enabled"),
        ({"kms_keys": {EAST: "alias/east"}}, "publish.kms_keys", f"in {EUROPE}"),
        ({"kms_keys": {EAST: "alias/east", EUROPE: "alias/aws/ebs"}}, "publish.kms_keys", f"in {EUROPE}"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(
    lab: Lab, shop: Shop, changes: dict[str, Any], where: str, says: str
) -> None:
    made = shop.build()
    lab.reset_calls()
    with pytest.raises(InputError, match=says) as caught:
        shop.publish(made, publish=changes)
    assert caught.value.resource == where and caught.value.hint
    assert writes(lab) == {}


def test_an_image_with_aws_own_key_cannot_be_shared_and_may_be_copied(shop: Shop) -> None:
    made = shop.build(root_volume={"size_gib": 30})
    order = dataclasses.replace(Order.of_plan(shop.plan()), root_key=None)
    with pytest.raises(InputError, match="AWS's own key") as caught:
        shop.publish(made, order=order)
    assert caught.value.resource == "root_volume.kms_key"
    alone = order.publish.model_copy(update={"accounts": (), "organizations": ()})
    assert shop.publish(made, order=dataclasses.replace(order, publish=alone)).state == "published"


def test_an_image_too_old_for_its_date_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.build()
    order = Order.of_plan(shop.plan())
    late = publishing.now() + timedelta(days=1500)
    monkeypatch.setattr(publishing, "now", lambda: late)
    with pytest.raises(InputError, match="would have been deprecated"):
        shop.publish(made, order=order)


def test_the_image_must_be_there_and_be_the_plans(shop: Shop) -> None:
    made = shop.build()
    order = Order.of_plan(shop.plan())
    for changed, says in (
        (dataclasses.replace(order, architecture="arm64"), "x86_64"),
        (dataclasses.replace(order, plan="other"), "was made from the plan"),
    ):
        with pytest.raises(InputError, match=says):
            shop.publish(made, order=changed)
    with pytest.raises(InputError, match="no such image"):
        publishing.publish(shop.target, order, "ami-00000000000000000", made.run)
    with pytest.raises(InputError, match="the target is us-west-2"):
        shop.publish(made, order=dataclasses.replace(order, region=EAST))


# --- failures, and going on -----------------------------------------------------------------------


def test_a_lost_answer_makes_no_second_copy(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    lab.set_faults({"kind": "lost-reply", "operation": "ec2.CopyImage", "times": 1})
    assert shop.publish(made).state == "published"
    assert len(shop.copies(made)) == len(shop.copies(made, EUROPE)) == 1


@pytest.mark.parametrize(
    "operation",
    [
        "ec2.CopyImage",
        "ec2.ModifyImageAttribute",
        "ec2.ModifySnapshotAttribute",
        "ec2.EnableImageDeprecation",
        "ec2.EnableImageDeregistrationProtection",
        "ssm.PutParameter",
        "ec2.DescribeImageAttribute",
        "ssm.GetParameterHistory",
    ],
)
def test_stopped_at_any_call_it_goes_on_and_ends_the_same(lab: Lab, shop: Shop, operation: str) -> None:
    made = shop.build()
    lab.set_faults({"kind": "error", "operation": operation, "code": "Broken", "nth": 2, "times": 1})
    with pytest.raises(BuildError, match="Broken"):
        shop.publish(made)
    assert shop.record(made)["state"] == "failed"
    if operation != "ssm.PutParameter":
        assert shop.value() is None, "no parameter is moved before everything else is done"
    result = shop.publish(made)
    assert result.state == "published"
    for region in (EAST, EUROPE):
        (copy,) = shop.copies(made, region)
        assert shop.value(region=region) == shop.value(made.run.id, region) == copy["ImageId"]
    assert all(
        not publishing.changes(result.order, r0, each.live)
        for each in result.regions
        if (r0 := result.regions[0].live) and each.live
    )


def test_a_copy_that_fails_is_replaced(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    lab.set_faults({"kind": "image-fails", "times": 1})
    with pytest.raises(BuildError, match="the copy is failed") as caught:
        shop.publish(made)
    assert "publish" in str(caught.value.hint) and shop.value() is None
    assert shop.publish(made).state == "published"
    for region in (EAST, EUROPE):
        assert [each["State"] for each in shop.copies(made, region)] == ["available"]
    assert any(each["event"] == "discarded copy" for each in made.run.journal.read())


def test_both_regions_fail_and_both_are_named(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    lab.set_faults({"kind": "error", "operation": "ec2.CopyImage", "code": "UnauthorizedOperation", "status": 403})
    with pytest.raises(CredentialsError) as caught:
        shop.publish(made)
    assert EAST in str(caught.value) and EUROPE in str(caught.value)


def test_where_too_many_copies_are_on_their_way_it_waits(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    lab.set_faults({"kind": "error", "operation": "ec2.CopyImage", "code": "ResourceLimitExceeded", "times": 3})
    assert shop.publish(made).state == "published"


def test_a_name_that_is_taken_is_said(shop: Shop) -> None:
    made = shop.build()
    ec2 = shop.target.client("ec2", EAST)
    base = ec2.describe_images(Owners=["099720109477"])["Images"][0]["ImageId"]
    taken = ec2.copy_image(SourceImageId=base, SourceRegion=EAST, Name=made.image.name)["ImageId"]
    with pytest.raises(BuildError, match=f"{taken} has the name"):
        shop.publish(made)


def test_the_deadline_ends_the_wait_and_the_copy_is_taken_up_later(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    order = Order.of_plan(shop.plan())
    # No copy is done while the lab's time stands still.
    with lab.held(), pytest.raises(Timeout) as caught:
        shop.publish(made, order=dataclasses.replace(order, wait=0))
    assert caught.value.exit_code == 5
    before = [each["ImageId"] for each in shop.copies(made)]
    assert shop.publish(made).state == "published"
    assert [each["ImageId"] for each in shop.copies(made)] == before


def test_an_interrupt_stops_the_waits_and_leaves_the_copies(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.build()
    real = publishing.wait_for

    def interrupted(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, "wait_for", interrupted)
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="publishing again takes them up"):
        shop.publish(made)
    assert time.monotonic() - begun < 120
    assert shop.record(made)["state"] == "interrupted"
    monkeypatch.undo()
    # The environment of the lab is gone with the patch; the clients have been made.
    assert shop.publish(made).state == "published"


def test_throttling_and_lost_answers_everywhere(lab: Lab, shop: Shop) -> None:
    made = shop.build()
    lab.set_faults(
        {"kind": "throttle", "probability": 0.1},
        {"kind": "lost-reply", "operation": "*.*Image*", "probability": 0.1},
        {"kind": "lost-reply", "operation": "ssm.PutParameter", "times": 1},
    )
    result = shop.publish(made)
    lab.set_faults()
    assert result.state == "published"
    assert len(shop.copies(made)) == len(shop.copies(made, EUROPE)) == 1


# --- parameters -----------------------------------------------------------------------------------


def test_latest_goes_forward_back_and_forward_again(shop: Shop) -> None:
    first, second, third = (shop.build(publish=HERE) for _ in range(3))
    for made in (first, second, third):
        shop.publish(made, publish=HERE)
    name = f"{shop.parameter}/latest"
    assert shop.value() == third.image.id
    # An older image does not move it back.
    held = shop.publish(first, publish=HERE)
    assert [each.outcome for each in held.parameters] == ["unchanged", "held"]
    assert "newer" in held.notes[-1] and shop.value() == third.image.id
    # Rolling back goes one step, and then one more.
    move = parameters.rollback(shop.target, HOME, name, None)
    assert (move.value, shop.value()) == (second.image.id, third.image.id), "without a journal nothing is changed"
    assert parameters.rollback(shop.target, HOME, name, third.run.journal).value == second.image.id
    assert parameters.rollback(shop.target, HOME, name, third.run.journal).value == first.image.id
    with pytest.raises(InputError, match="no earlier image"):
        parameters.rollback(shop.target, HOME, name, third.run.journal)
    # A job of CI that publishes once more does not undo the rollback; somebody who means it does.
    held = shop.publish(third, publish=HERE)
    assert "went back from" in held.notes[-1] and shop.value() == first.image.id
    assert shop.publish(third, publish=HERE, set_latest=True).parameters[-1].outcome == "set"
    assert shop.value() == third.image.id
    assert shop.value(first.run.id) == first.image.id, "the parameters of the versions never move"


def test_a_rollback_passes_over_images_that_are_gone(shop: Shop) -> None:
    first, second, third = (shop.build(publish={**HERE, "protect": False}) for _ in range(3))
    for made in (first, second, third):
        shop.publish(made, publish={**HERE, "protect": False})
    shop.target.client("ec2").deregister_image(ImageId=second.image.id)
    name = f"{shop.parameter}/latest"
    assert parameters.rollback(shop.target, HOME, name, third.run.journal).value == first.image.id
    shop.target.client("ec2").deregister_image(ImageId=third.image.id)
    with pytest.raises(InputError, match="no such parameter"):
        parameters.rollback(shop.target, HOME, f"{name}x", third.run.journal)


def test_somebody_elses_parameter_is_left_alone(shop: Shop) -> None:
    made = shop.build(publish=HERE)
    ssm = shop.target.client("ssm")
    name = f"{shop.parameter}/latest"
    ssm.put_parameter(Name=name, Value="ami-0123456789abcdef0", Type="String")
    with pytest.raises(InputError, match="somebody else"):
        shop.publish(made, publish=HERE)
    with pytest.raises(InputError, match="somebody else"):
        parameters.rollback(shop.target, HOME, name, made.run.journal)
    ssm.add_tags_to_resource(
        ResourceType="Parameter", ResourceId=name, Tags=[{"Key": "leptonami:plan", "Value": "other"}]
    )
    with pytest.raises(InputError, match="belongs to the plan 'other'"):
        shop.publish(made, publish=HERE)
    ssm.delete_parameter(Name=name)
    ssm.put_parameter(Name=name, Value="a,b", Type="StringList")
    with pytest.raises(InputError, match="StringList"):
        shop.publish(made, publish=HERE)


# --- fast snapshot restore ------------------------------------------------------------------------


def fast(**more: Any) -> dict[str, Any]:
    return {**HERE, "fast_launch": {"fast_snapshot_restore": {"zones": ["us-west-2a", "us-west-2b"], **more}}}


def states(shop: Shop, made: executor.BuildResult) -> set[str]:
    live = look(shop.target, HOME, made.image.id, restores=True)
    assert live is not None
    return {zone for _, zone in live.restores}


def test_fast_snapshot_restore_is_enabled_and_that_of_older_images_ended_if_the_plan_says_so(shop: Shop) -> None:
    first, second = shop.build(publish=HERE), shop.build(publish=HERE)
    result = shop.publish(first, publish=fast())
    assert states(shop, first) == {"us-west-2a", "us-west-2b"}
    assert result.regions[0].live is not None and len(result.regions[0].live.restores) == 2
    result = shop.publish(second, publish=fast())
    assert states(shop, first) == states(shop, second) == {"us-west-2a", "us-west-2b"}
    assert any("costs by the hour" in each for each in result.notes)
    result = shop.publish(second, publish=fast(replace=True))
    assert states(shop, first) == set() and states(shop, second) == {"us-west-2a", "us-west-2b"}
    assert result.changed
    # An older image, published again, takes nothing from the one that `latest` names.
    assert shop.publish(first, publish=fast(replace=True)).notes
    assert states(shop, second) == {"us-west-2a", "us-west-2b"}
    ec2 = shop.target.client("ec2")
    for made in (first, second):
        ec2.disable_fast_snapshot_restores(
            AvailabilityZones=["us-west-2a", "us-west-2b"], SourceSnapshotIds=list(made.image.snapshots)
        )


def test_a_refusal_in_the_answer_is_an_error(shop: Shop) -> None:
    made = shop.build(publish=HERE)
    order = Order.of_plan(shop.plan(publish=fast()))
    publish = order.publish.model_copy(deep=True)
    restore = publish.fast_launch and publish.fast_launch.fast_snapshot_restore
    assert restore
    bad = restore.model_copy(update={"zones": ("us-west-2z",)})
    launch = publish.fast_launch.model_copy(update={"fast_snapshot_restore": bad}) if publish.fast_launch else None
    order = dataclasses.replace(order, publish=publish.model_copy(update={"fast_launch": launch}))
    with pytest.raises(BuildError, match="Invalid availability zone: us-west-2z"):
        shop.publish(made, order=order)
    assert shop.value() is None


# --- the command ----------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=True)


def test_the_command_shows_publishes_and_goes_back(lab: Lab, shop: Shop) -> None:
    first, second = shop.build(), shop.build()
    common = ("--aws", "lab", "--runs", shop.runs)
    lab.reset_calls()
    shown = run("publish", first.run.id, "--dry-run", *common)
    assert shown.exit_code == 0 and writes(lab) == {}
    assert "CopyImage" in shown.stdout and max(map(len, shown.stdout.splitlines())) <= 80
    shown = run("publish", first.image.id, "--dry-run", "--json", *common)
    assert {each["call"] for each in json.loads(shown.stdout)["changes"]} >= {"ec2.CopyImage", "ssm.PutParameter"}
    done = run("publish", first.run.id, "-q", *common)
    assert done.exit_code == 0 and "simulated" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
    assert shop.value() == first.image.id
    done = run("publish", second.image.id, "--json", "-q", *common)
    assert json.loads(done.stdout)["state"] == "published" and shop.value(region=EUROPE) != shop.value()
    again = run("publish", second.run.id, "--dry-run", *common)
    assert "nothing would be changed" in again.stdout
    name = f"{shop.parameter}/latest"
    where = [text for region in (HOME, EAST, EUROPE) for text in ("--region", region)]
    back = run("publish", "--rollback", name, *where, "--dry-run", "--json", *common)
    assert [each["outcome"] for each in json.loads(back.stdout)] == ["would be set"] * 3
    back = run("publish", "--rollback", name, *where, *common)
    assert back.exit_code == 0 and shop.value() == first.image.id
    assert shop.value(region=EAST) == shop.copies(first)[0]["ImageId"]
    assert max(map(len, back.stdout.splitlines())) <= 80
    (kept,) = [each for each in shop.runs.iterdir() if read_manifest(each).get("kind") == "publish"]
    assert read_manifest(kept)["state"] == "succeeded"


def test_an_image_whose_run_is_elsewhere_needs_its_plan_and_a_word(shop: Shop, tmp_path: Path) -> None:
    made = shop.build(publish=HERE)
    plan = tmp_path / "plan.yaml"
    shop.plan(publish=HERE)
    common = ("--aws", "lab", "--runs", tmp_path / "elsewhere", "-q")
    assert isinstance(run("publish", made.image.id, *common).exception, InputError)
    assert isinstance(run("publish", made.image.id, "--plan", plan, *common).exception, CheckFailed)
    shown = run("publish", made.image.id, "--plan", plan, "--dry-run", *common)
    assert shown.exit_code == 0 and "not checked" in shown.stderr
    done = run("publish", made.image.id, "--plan", plan, "--unchecked", *common)
    assert done.exit_code == 0 and shop.value() == made.image.id
    folders = [each for each in (tmp_path / "elsewhere").iterdir() if (each / "publish.json").exists()]
    assert len(folders) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["nonsense"], 2),
        (["20261123-211500-a1b2c3"], 2),
        (["ami-0123456789abcdef0"], 2),
        (["--rollback", "/x", "--set-latest"], 2),
        (["ami-0123456789abcdef0", "--region", "us-east-1"], 2),
        (["--rollback", "/leptonami/nothing"], 2),
    ],
)
def test_bad_input_has_its_exit_code(shop: Shop, arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["publish", *arguments, "--aws", "lab", "--runs", str(shop.runs)])
    assert caught.value.code == code


def test_a_run_that_is_being_worked_on_is_left_alone(shop: Shop) -> None:
    made = shop.build(publish=HERE)
    with made.run.lock():
        result = run("publish", made.run.id, "--aws", "lab", "--runs", shop.runs)
    assert isinstance(result.exception, InputError) and "being worked on" in str(result.exception)


def test_a_subject_is_found_by_run_and_by_image_among_broken_folders(shop: Shop) -> None:
    made = shop.build(publish=HERE)
    for name, text in (("20261123-211500-aaaaaa", "{"), ("20261123-211500-bbbbbb", "[]"), ("x", "{}")):
        (shop.runs / name).mkdir()
        (shop.runs / name / "journal.jsonl").write_text("")
        (shop.runs / name / "manifest.json").write_text(text)
    assert find(made.image.id, shop.runs).run == made.run == find(made.run.id, shop.runs).run
    with pytest.raises(InputError, match="made no image"):
        find("20261123-211500-aaaaaa", shop.runs)
    assert find("ami-0123456789abcdef0", shop.runs) == Subject("ami-0123456789abcdef0", None, {})
