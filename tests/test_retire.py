"""Retiring images: the decision by itself, then on the lab."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.build.names import Names
from leptonami.cli import cli
from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import Lab, start
from leptonami.lifecycle import images
from leptonami.lifecycle import retire as retiring
from leptonami.lifecycle.images import ImageRecord
from leptonami.lifecycle.retire import plan
from leptonami.lifecycle.usage import Use
from leptonami.runs import new_id, now
from leptonami.target import Target, connect, owner_of

NOW = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
REGION = "us-west-2"
GRACE = timedelta(days=30)
RULES: dict[str, Any] = {"keep": 1, "grace": GRACE, "now": NOW, "owners": {"ann"}, "unasked": {}}


def record(days: int, number: int = 0, **more: Any) -> ImageRecord:
    """Give an image that was made so many days ago."""
    made = NOW - timedelta(days=days)
    fields: dict[str, Any] = {
        "id": f"ami-{days:04d}{number}",
        "region": REGION,
        "name": f"image-{days}",
        "plan": "test",
        "version": f"{made:%Y%m%d-%H%M%S}-{number:06x}",
        "owner": "ann",
        "base": "b",
        "created": made,
        "state": "available",
        "launched_known": True,
    }
    return ImageRecord(**{**fields, **more})


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def actions(*records: ImageRecord, **rules: Any) -> dict[str, str]:
    return {each.image.id: each.action for each in plan(records, **{**RULES, **rules})}


def test_an_image_is_deprecated_first_then_waits_then_goes() -> None:
    new, old = record(1), record(90)
    assert actions(new, old) == {new.id: "keep", old.id: "deprecate"}
    for days, action in ((0, "wait"), (29, "wait"), (30, "deregister"), (300, "deregister")):
        assert actions(new, dataclasses.replace(old, deprecated=ago(days)))[old.id] == action, days


def test_a_deprecation_to_come_is_none_yet() -> None:
    new, old = record(1), record(90, deprecated=NOW + timedelta(days=60))
    assert actions(new, old)[old.id] == "deprecate"


def test_the_last_ones_stay_even_if_they_are_deprecated() -> None:
    records = [record(days, deprecated=ago(200)) for days in (210, 220, 230)]
    assert list(actions(*records, keep=2).values()) == ["keep", "keep", "deregister"]
    assert list(actions(*records, keep=0).values()) == ["deregister"] * 3
    assert list(actions(*records, keep=9).values()) == ["keep"] * 3


def test_the_last_ones_are_counted_by_region_and_plan_and_by_the_run_that_made_them() -> None:
    west, east = record(5), record(6, region="us-east-1")
    assert set(actions(west, east).values()) == {"keep"}
    assert set(actions(record(5), record(6, plan="other")).values()) == {"keep"}
    # Somebody copied the newest within its region: it counts once.
    new, old = record(5), record(6)
    copy = dataclasses.replace(new, id="ami-copy")
    assert actions(new, copy, old, keep=2) == {new.id: "keep", "ami-copy": "keep", old.id: "keep"}
    # Copied long after it was made.
    late = record(50, created=ago(1))
    assert actions(record(5), late)[late.id] == "deprecate"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"users": (Use("launch template", "web:3"),)}, "launch template web:3"),
        ({"users": (Use("node group", "a/b"), Use("instance", "i-1"))}, "node group a/b and 1 more"),
        ({"launched": ago(3)}, "launched"),
        ({"state": "disabled"}, "disabled"),
        ({"protected": True}, "protected"),
        ({"owner": "bob"}, "bob"),
        ({"state": "pending"}, "pending"),
        ({"odd": "without leptonami:run"}, "without"),
        ({"version": "x"}, "tags"),
    ],
)
def test_what_stays_whatever_its_age(more: dict[str, Any], why: str) -> None:
    old = dataclasses.replace(record(900, deprecated=ago(800)), **more)
    (found,) = [each for each in plan([record(1), old], **RULES) if each.image == old]
    assert found.action == "keep"
    assert why in found.why


@pytest.mark.parametrize("deprecated", [None, ago(800)])
def test_an_image_whose_last_launch_nobody_can_tell_waits(deprecated: datetime | None) -> None:
    old = record(900, deprecated=deprecated, launched_known=False)
    (found,) = [each for each in plan([record(1), old], **RULES) if each.image == old]
    assert found.action == "wait"
    assert "nobody can tell when it was last launched" in found.why


def test_old_versions_of_templates_do_not_hold_an_image() -> None:
    old = record(900, deprecated=ago(800), users=(Use("launch template", "web:1", current=False),))
    assert actions(record(1), old)[old.id] == "deregister"


def test_nothing_goes_where_somebody_did_not_say_who_uses_it() -> None:
    old, fresh = record(900, deprecated=ago(800)), record(90)
    found = actions(record(1), old, fresh, unasked={REGION: ("eks",)})
    assert (found[old.id], found[fresh.id]) == ("wait", "deprecate")
    assert actions(record(1), old, unasked={"us-east-1": ("eks",)})[old.id] == "deregister"


def test_images_of_others_are_not_counted_either() -> None:
    mine, bobs = record(50), record(1, owner="bob")
    assert actions(mine, bobs)[mine.id] == "keep"
    assert actions(mine, bobs, owners=None)[mine.id] == "deprecate"


times = st.one_of(st.none(), st.integers(-100, 400).map(ago))
use = st.builds(Use, st.sampled_from(["instance", "launch template", "parameter"]), st.just("x"), st.booleans())


@st.composite
def any_image(draw: st.DrawFn) -> ImageRecord:
    """Any image, of anybody, in any state."""
    return record(
        draw(st.integers(0, 400)),
        draw(st.integers(0, 0xFFFFFF)),
        region=draw(st.sampled_from([REGION, "us-east-1"])),
        plan=draw(st.sampled_from(["test", "other", ""])),
        owner=draw(st.sampled_from(["ann", "bob", ""])),
        state=draw(st.sampled_from(["available", "available", "pending", "failed"])),
        deprecated=draw(times),
        launched=draw(times),
        launched_known=draw(st.booleans()),
        protected=draw(st.booleans()),
        users=tuple(draw(st.lists(use, max_size=2))),
        odd=draw(st.sampled_from(["", "", "odd"])),
    )


@settings(max_examples=500, deadline=None)
@given(st.lists(any_image(), max_size=25), st.integers(0, 4), st.integers(0, 60), st.randoms(use_true_random=False))
def test_only_what_the_rules_allow_is_retired(records: list[ImageRecord], keep: int, grace: int, random: Any) -> None:
    rules: dict[str, Any] = {**RULES, "keep": keep, "grace": timedelta(days=grace), "unasked": {"us-east-1": ("eks",)}}
    found = plan(records, **rules)
    assert sorted(id(each.image) for each in found) == sorted(map(id, records)), "each is decided about, once"
    for each in found:
        image = each.image
        if each.action in {"deprecate", "deregister"}:
            assert image.owner == "ann"
            assert image.state == "available"
            assert not image.current_users
            assert not image.odd
            assert image.launched is not None or image.launched_known
            # There are enough newer ones of the same plan and region that stay.
            newer = [
                other
                for other in found
                if (other.image.plan, other.image.region) == (image.plan, image.region)
                and other.image.version > image.version
                and other.action == "keep"
                and other.image.owner == "ann"
            ]
            assert len({other.image.version for other in newer}) >= keep
        if each.action == "deregister":
            assert image.deprecated is not None
            assert image.deprecated + rules["grace"] <= NOW
            assert not image.protected
            assert image.region != "us-east-1"
    shuffled = list(records)
    random.shuffle(shuffled)
    again = {id(each.image): each.action for each in plan(shuffled, **rules)}
    if len({(each.version, each.created, each.id) for each in records}) == len(records):
        assert again == {id(each.image): each.action for each in found}, "the order does not matter"


# On the lab ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with start(speed=1000) as running:
        yield running


@pytest.fixture
def target(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    lab.set_faults()
    with connect("lab", region=REGION) as connected:
        yield connected
    lab.set_faults()


@pytest.fixture(scope="module")
def instance(lab: Lab) -> str:
    """Give an instance to make images of."""
    import boto3

    keys: Any = {"aws_access_key_id": lab.environment["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": "simulated"}
    ec2: Any = boto3.client("ec2", region_name=REGION, endpoint_url=lab.url, **keys)
    base = ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu-eks/k8s_1.33/*amd64*"]}])["Images"][0]
    made = ec2.run_instances(ImageId=base["ImageId"], InstanceType="m5.large", MinCount=1, MaxCount=1)["Instances"][0]
    ec2.get_waiter("instance_running").wait(InstanceIds=[made["InstanceId"]], WaiterConfig={"Delay": 1})
    return str(made["InstanceId"])


class Shop:
    """Makes images of a plan of its own."""

    def __init__(self, target: Target, instance: str) -> None:
        self.target, self.instance = target, instance
        self.ec2: Any = target.client("ec2")
        self.plan = f"plan-{new_id()[-6:]}"
        self.me = owner_of(target.client("sts").get_caller_identity()["Arn"])
        self.count = 0

    def make(self, **more: str) -> str:
        self.count += 1
        run = new_id(datetime.now(UTC) - timedelta(days=100 - self.count))
        tags: Any = Names(run, self.plan, more.get("owner", self.me)).tags("image", {}, temporary=False)
        spec = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
        image = self.ec2.create_image(InstanceId=self.instance, Name=f"{self.plan}-{run}", TagSpecifications=spec)
        self.ec2.get_waiter("image_available").wait(ImageIds=[image["ImageId"]], WaiterConfig={"Delay": 1})
        return str(image["ImageId"])

    def retire(self, runs: Path, **options: Any) -> retiring.Retired:
        rules: dict[str, Any] = {"keep": 1, "grace": GRACE, "regions": [REGION], "act": True}
        return retiring.retire(self.target, self.plan, runs=runs, **{**rules, **options})

    def state(self) -> dict[str, str | None]:
        found = self.ec2.describe_images(
            Owners=["self"], Filters=[{"Name": "tag:leptonami:plan", "Values": [self.plan]}]
        )
        return {each["ImageId"]: each.get("DeprecationTime") for each in found["Images"]}


@pytest.fixture
def shop(target: Target, instance: str) -> Shop:
    return Shop(target, instance)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the decision be made forty days from now."""
    monkeypatch.setattr(images, "now", lambda: now() + timedelta(days=40))


ASKED = {"skip": ["autoscaling", "eks"]}


def test_a_dry_run_writes_nothing(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    shop.make()
    shop.make()
    lab.reset_calls()
    found = shop.retire(tmp_path, act=False)
    assert [each.action for each in found.decisions] == ["keep", "deprecate"]
    assert all(name.split(".")[1].startswith(("Describe", "Get", "List")) for name in lab.calls()), lab.calls()
    assert list(tmp_path.iterdir()) == []


def test_from_the_newest_to_nothing(lab: Lab, shop: Shop, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    old, new = shop.make(), shop.make()
    first = shop.retire(tmp_path)
    assert [each.outcome for each in first.outcomes] == ["deprecated"]
    assert shop.state()[old] is not None
    assert shop.state()[new] is None
    again = shop.retire(tmp_path)
    assert again.outcomes == (), "it is deprecated, and waits"
    request.getfixturevalue("later")
    unsure = shop.retire(tmp_path)
    assert unsure.outcomes == (), "a lab without a cluster has no EKS to ask"
    assert "eks" in {each.image.id: each.why for each in unsure.decisions}[old]
    before = lab.state()
    last = shop.retire(tmp_path, **ASKED)
    assert [each.outcome for each in last.outcomes] == ["deregistered"]
    assert list(shop.state()) == [new]
    after = lab.state()
    assert (before["images"] - after["images"], before["snapshots"] - after["snapshots"]) == (1, 1)
    assert last.run is not None
    written = json.loads(last.run.manifest_path.read_text())
    assert (written["kind"], written["state"], written["provenance"]) == ("retire", "succeeded", "simulated")
    events = [(each["event"], each.get("action")) for each in last.run.journal.read()]
    assert events == [("retire", None), ("intent", "deregister"), ("done", "deregister")]


@pytest.mark.usefixtures("later")
def test_what_is_in_use_or_protected_stays(shop: Shop, tmp_path: Path) -> None:
    by_template, protected, old, new = (shop.make() for _ in range(4))
    for image in (by_template, protected, old):
        shop.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime.now(UTC) + timedelta(minutes=2))
    shop.ec2.create_launch_template(LaunchTemplateName=shop.plan, LaunchTemplateData={"ImageId": by_template})
    shop.ec2.enable_image_deregistration_protection(ImageId=protected)
    found = shop.retire(tmp_path, **ASKED)
    assert [(each.image.id, each.outcome) for each in found.outcomes] == [(old, "deregistered")]
    assert set(shop.state()) == {by_template, protected, new}


@pytest.mark.usefixtures("later")
def test_what_was_undeprecated_meanwhile_stays(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = shop.make(), shop.make()
    shop.retire(tmp_path)
    real = retiring.Retirer.run

    def run(self: retiring.Retirer, decisions: Any) -> Any:
        shop.ec2.disable_image_deprecation(ImageId=old)
        return real(self, decisions)

    monkeypatch.setattr(retiring.Retirer, "run", run)
    found = shop.retire(tmp_path, **ASKED)
    assert [each.outcome for each in found.failed] == ["failed"]
    assert old in shop.state()


def test_an_image_that_somebody_disabled_is_seen_and_stays(shop: Shop, tmp_path: Path) -> None:
    old, disabled, _ = shop.make(), shop.make(), shop.make()
    shop.ec2.disable_image(ImageId=disabled)
    found = shop.retire(tmp_path, act=False)
    assert {each.image.id: each.action for each in found.decisions if each.action != "keep"} == {old: "deprecate"}
    assert {each.image.id: each.why for each in found.decisions}[disabled].startswith("somebody has disabled it")


@pytest.mark.usefixtures("later")
def test_what_was_disabled_meanwhile_stays(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = shop.make(), shop.make()
    shop.retire(tmp_path)
    real = retiring.Retirer.run

    def run(self: retiring.Retirer, decisions: Any) -> Any:
        shop.ec2.disable_image(ImageId=old)
        return real(self, decisions)

    monkeypatch.setattr(retiring.Retirer, "run", run)
    (failed,) = shop.retire(tmp_path, **ASKED).failed
    assert "disabled meanwhile" in str(failed.error)
    assert shop.ec2.describe_images(ImageIds=[old], IncludeDisabled=True)["Images"]


def test_nothing_goes_where_the_last_launch_cannot_be_asked(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    shop.make()
    shop.make()
    lab.set_faults({"kind": "error", "operation": "ec2.DescribeImageAttribute", "code": "UnauthorizedOperation"})
    found = shop.retire(tmp_path)
    assert found.acts == ()
    assert "wait" in {each.action for each in found.decisions}


@pytest.mark.usefixtures("later")
def test_a_snapshot_that_cannot_go_is_named(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    first, second, _ = shop.make(), shop.make(), shop.make()
    shop.retire(tmp_path)
    lab.set_faults({"kind": "error", "operation": "ec2.DeregisterImage", "code": "OperationNotPermitted", "times": 1})
    found = shop.retire(tmp_path, **ASKED)
    assert len(found.failed) == 1, "the other one is tried all the same"
    assert found.run is not None
    assert json.loads(found.run.manifest_path.read_text())["state"] == "failed"
    assert len(shop.state()) == 2
    lab.set_faults()
    assert not shop.retire(tmp_path, **ASKED).failed
    assert len(shop.state()) == 1
    assert not {first, second} & set(shop.state())


@pytest.mark.usefixtures("later")
def test_the_parameter_of_a_version_goes_with_it(target: Target, shop: Shop, tmp_path: Path) -> None:
    old, new = shop.make(), shop.make()
    ssm: Any = target.client("ssm")
    tags = [{"Key": "leptonami:plan", "Value": shop.plan}]
    version = {each.id: each.version for each in shop.retire(tmp_path).found.records}
    names = {image: f"/{shop.plan}/{version[image]}" for image in (old, new)}
    for image, name in (*names.items(), (new, f"/{shop.plan}/latest")):
        ssm.put_parameter(Name=name, Value=image, Type="String", Tags=tags)
    ssm.put_parameter(Name=f"/{shop.plan}/note", Value=old, Type="String")
    assert not shop.retire(tmp_path, **ASKED).failed
    left = {each["Name"] for each in ssm.get_parameters_by_path(Path=f"/{shop.plan}", Recursive=True)["Parameters"]}
    assert left == {names[new], f"/{shop.plan}/latest", f"/{shop.plan}/note"}


@pytest.mark.usefixtures("later")
def test_the_intent_of_every_removal_is_written_down(target: Target, shop: Shop, tmp_path: Path) -> None:
    old, _ = shop.make(), shop.make()
    (version,) = [each.version for each in shop.retire(tmp_path).found.records if each.id == old]
    name, tags = f"/{shop.plan}/{version}", [{"Key": "leptonami:plan", "Value": shop.plan}]
    target.client("ssm").put_parameter(Name=name, Value=old, Type="String", Tags=tags)  # type: ignore[arg-type]
    done = shop.retire(tmp_path, **ASKED)
    assert done.run is not None
    intents = [(each["action"], each["id"]) for each in done.run.journal.read() if each["event"] == "intent"]
    assert intents == [("deregister", old), ("ssm.DeleteParameters", [name])]


@pytest.mark.usefixtures("later")
def test_an_image_that_latest_names_stays(target: Target, shop: Shop, tmp_path: Path) -> None:
    old, _ = shop.make(), shop.make()
    tags: Any = [{"Key": "leptonami:plan", "Value": shop.plan}]
    target.client("ssm").put_parameter(Name=f"/{shop.plan}/latest", Value=old, Type="String", Tags=tags)
    assert shop.retire(tmp_path, **ASKED).acts == ()
    assert len(shop.state()) == 2


def test_another_owners_images_stay_unless_named(shop: Shop, tmp_path: Path) -> None:
    bobs, mine = shop.make(owner="bob"), shop.make()
    assert shop.retire(tmp_path, keep=0, act=False).acts[0].image.id == mine
    named = shop.retire(tmp_path, keep=0, owners=["bob"], act=False)
    assert {each.image.id for each in named.acts} == {bobs, mine}
    assert len(shop.retire(tmp_path, keep=0, any_owner=True, act=False).acts) == 2


def test_a_lost_answer_is_no_failure(lab: Lab, shop: Shop, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    old, new = shop.make(), shop.make()
    shop.retire(tmp_path)
    request.getfixturevalue("later")
    lab.set_faults({"kind": "lost-reply", "operation": "ec2.DeregisterImage", "times": 1})
    found = shop.retire(tmp_path, **ASKED)
    assert not found.failed
    assert list(shop.state()) == [new]
    assert old not in shop.state()


def test_the_command(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    old, new = shop.make(), shop.make()
    runner = CliRunner()
    options = ["--keep", "1", "--aws", "lab", "--runs", str(tmp_path), "-q"]
    dry = runner.invoke(cli, ["retire", shop.plan, *options])
    assert dry.exit_code == 0, dry.output
    assert "--yes" in dry.stderr
    assert all(len(line) <= 80 for line in dry.stdout.splitlines())
    assert shop.state()[old] is None
    done = runner.invoke(cli, ["retire", shop.plan, *options, "--yes", "--json"])
    assert done.exit_code == 0, done.output
    told = {each["id"]: (each["action"], each.get("outcome")) for each in json.loads(done.stdout)["images"]}
    assert told == {old: ("deprecate", "deprecated"), new: ("keep", None)}
    assert shop.state()[old] is not None
    nothing = runner.invoke(cli, ["retire", shop.plan, *options, "--yes"])
    assert nothing.exit_code == 0
    assert "nothing to do" in nothing.stderr


def test_the_command_fails_when_something_did(lab: Lab, shop: Shop, tmp_path: Path) -> None:
    shop.make()
    shop.make()
    lab.set_faults({"kind": "error", "operation": "ec2.EnableImageDeprecation", "code": "SomeError"})
    options = ["--keep", "1", "--aws", "lab", "--runs", str(tmp_path), "-q", "--yes"]
    result = CliRunner().invoke(cli, ["retire", shop.plan, *options])
    assert isinstance(result.exception, LeptonamiError)
    assert result.exception.exit_code == 1


@pytest.mark.parametrize("grace", ["30", "x", "", "-1d", "99999999999999d"])
def test_a_grace_that_is_none_is_refused(grace: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["retire", "test", "--keep", "1", "--grace", grace, "--runs", str(tmp_path)])
    assert isinstance(result.exception, InputError), result.output
