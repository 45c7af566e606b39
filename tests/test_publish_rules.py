"""The rules of publishing, without any account: what is still to be done, what a parameter may do, what fast costs."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from leptonami import datafiles, plan
from leptonami.errors import InputError
from leptonami.plan import Publish
from leptonami.publish import fastlaunch
from leptonami.publish.model import Live, Order, changes, copy_image, extra, imagined
from leptonami.publish.parameters import BACK, SET, Entry, back, decide

ACCOUNTS = ("111111111111", "222222222222", "333333333333")
ORGANIZATIONS = (
    "arn:aws:organizations::111111111111:organization/o-abcdefghij",
    "arn:aws:organizations::111111111111:ou/o-abcdefghij/ou-abcd-12345678",
)
MADE = datetime(2026, 11, 23, 21, 15, 33, tzinfo=UTC)
ROOT = Path(__file__).parent.parent


def order(**publish: Any) -> Order:
    section = Publish.model_validate(publish)
    return Order("p", "ubuntu-eks", "22.04", "1.33", "amd64", "us-west-2", None, 3600, section)


def live(**changed: Any) -> Live:
    found = Live(
        id="ami-0123456789abcdef0",
        region="us-west-2",
        state="available",
        name="an image",
        created=MADE,
        architecture="x86_64",
        root_device="/dev/sda1",
        snapshots=("snap-1", "snap-2"),
        volumes_gib=(30, 20),
        encrypted=True,
        imds="v2.0",
        tags={"leptonami:run": "20261123-211500-a1b2c3", "team": "x", "aws:cloudformation:stack": "y"},
    )
    return dataclasses.replace(found, **changed)


def simulate(state: Live, request: dict[str, Any], call: str) -> Live:
    """What EC2 does with a change, as far as its documentation says."""
    change = dataclasses.replace
    match call:
        case "ec2.ModifyImageAttribute" if "LaunchPermission" in request:
            added = {value for each in request["LaunchPermission"]["Add"] for value in each.values()}
            return change(state, launch=state.launch | added)
        case "ec2.ModifyImageAttribute":
            return change(state, imds=request["ImdsSupport"]["Value"])
        case "ec2.ModifySnapshotAttribute":
            name = request["SnapshotId"]
            readers = {**state.readers, name: state.readers.get(name, frozenset()) | set(request["UserIds"])}
            return change(state, readers=readers)
        case "ec2.EnableImageDeprecation":
            return change(state, deprecated=request["DeprecateAt"])
        case "ec2.EnableImageDeregistrationProtection":
            return change(state, protected=True)
        case "ec2.EnableFastSnapshotRestores":
            pairs = [(s, z) for s in request["SourceSnapshotIds"] for z in request["AvailabilityZones"]]
            return change(state, restores={**dict.fromkeys(pairs, "enabling"), **state.restores})
    raise AssertionError(call)


some = st.sets(st.sampled_from(ACCOUNTS))
orgs = st.sets(st.sampled_from(ORGANIZATIONS))
zones = st.sets(st.sampled_from(["us-west-2a", "us-west-2b", "eu-west-1a"]), min_size=1)


@given(
    accounts=some,
    organizations=orgs,
    deprecate=st.sampled_from([None, "1d", "90d"]),
    protect=st.booleans(),
    fast=st.one_of(st.none(), zones),
    launch=some,
    readers=st.dictionaries(st.sampled_from(["snap-1", "snap-2"]), some.map(frozenset)),
    imds=st.sampled_from([None, "v2.0"]),
    protected=st.booleans(),
    restores=st.dictionaries(
        st.tuples(st.sampled_from(["snap-1", "snap-2"]), st.sampled_from(["us-west-2a", "us-west-2b"])),
        st.just("enabled"),
    ),
)
def test_changes_bring_any_state_into_order_and_then_there_are_none(
    accounts: set[str],
    organizations: set[str],
    deprecate: str | None,
    protect: bool,
    fast: set[str] | None,
    launch: set[str],
    readers: dict[str, frozenset[str]],
    imds: str | None,
    protected: bool,
    restores: dict[tuple[str, str], str],
) -> None:
    wanted: dict[str, Any] = {
        "regions": ["eu-west-1"],
        "accounts": sorted(accounts),
        "organizations": sorted(organizations),
        "protect": protect,
    }
    if deprecate is not None:
        wanted["deprecate_after"] = deprecate
    if fast is not None:
        wanted["fast_launch"] = {"fast_snapshot_restore": {"zones": sorted(fast)}}
    ordered = order(**wanted)
    state = live(launch=frozenset(launch), readers=readers, imds=imds, protected=protected, restores=restores)
    before = state
    todo = changes(ordered, live(), state)
    for each in todo:
        assert "Group" not in json.dumps(each.request, default=str), "nobody is ever everybody"
        assert each.region == "us-west-2"
        state = simulate(state, each.request, each.call)
    assert changes(ordered, live(), state) == ()
    assert state.launch == before.launch | accounts | organizations, "nobody is taken away"
    for snapshot in state.snapshots:
        assert state.readers.get(snapshot, frozenset()) == before.readers.get(snapshot, frozenset()) | accounts
    assert state.protected == (protect or protected)
    assert not {zone for _, zone in state.restores} - {"us-west-2a", "us-west-2b"}
    assert set(extra(ordered, state)) == (launch | set().union(*readers.values())) - accounts - organizations
    if todo and protect and not protected:
        assert todo[-1].call == "ec2.EnableImageDeregistrationProtection"


def test_a_copy_that_is_not_there_yet_has_everything_to_be_done() -> None:
    ordered = order(regions=["eu-west-1"], accounts=[ACCOUNTS[0]], protect=True)
    done = live(launch=frozenset(ACCOUNTS), protected=True, readers={"snap-1": frozenset(ACCOUNTS)})
    copy = imagined(done, "eu-west-1")
    assert [each.call for each in changes(ordered, done, copy)] == [
        "ec2.ModifyImageAttribute",
        "ec2.ModifySnapshotAttribute",
        "ec2.ModifySnapshotAttribute",
        "ec2.EnableImageDeregistrationProtection",
    ]
    assert copy.id.startswith("<")


def test_a_copys_request_is_encrypted_and_carries_no_tag_that_is_awss() -> None:
    ordered = order(regions=["eu-west-1"])
    request = copy_image(ordered, live(), "eu-west-1")
    assert request["Encrypted"] is True and request["CopyImageTags"] is True
    assert "KmsKeyId" not in request and "SnapshotCopyCompletionDurationMinutes" not in request
    keys = {tag["Key"] for each in request["TagSpecifications"] for tag in each["Tags"]}
    assert "leptonami:copy-of" in keys and not any(key.startswith("aws:") for key in keys)
    most = {f"tag {number}": "x" for number in range(48)}
    request = copy_image(ordered, live(tags=most), "eu-west-1")
    assert max(len(each["Tags"]) for each in request["TagSpecifications"]) <= 50


def test_names_of_parameters() -> None:
    ordered = order(ssm_parameter="/a/b")
    assert ordered.parameter("latest") == "/a/b/ubuntu-eks/22.04/1.33/amd64/latest"
    assert order().parameter("latest") is None
    assert live().version == "20261123-211500-a1b2c3"
    assert live(tags={}).version == live().id
    assert live(tags={"leptonami:run": "../x"}).version == live().id, "a tag is not trusted to be a name"
    assert live(tags={"leptonami:copy-of": "ami-1"}).version == "ami-1"
    deepest = order(ssm_parameter="/a/b/c/d/e/f").parameter("20261123-211500-a1b2c3")
    assert deepest is not None and deepest.count("/") <= 15, "SSM's hierarchy has fifteen levels"


def test_an_order_is_read_back_from_a_manifest(tmp_path: Path) -> None:
    shutil.copytree(datafiles.path("images"), tmp_path / "images")
    (tmp_path / "plans").mkdir()
    path = tmp_path / "plans" / "plan.yaml"
    document = yaml.safe_load(datafiles.path("plans/ubuntu-22.04-gpu.yaml").read_text())
    document["publish"] = {
        "regions": ["eu-west-1"],
        "kms_keys": {"eu-west-1": "alias/x"},
        "copy_within": "45m",
        "deprecate_after": "1d12h",
        "accounts": [ACCOUNTS[0]],
        "fast_launch": {"fast_snapshot_restore": {"zones": ["eu-west-1a"], "replace": True}},
    }
    path.write_text(yaml.safe_dump(document))
    loaded = plan.load(path)
    manifest = json.loads(json.dumps({"plan": {"parameters": loaded.model_dump(mode="json")}}))
    assert Order.of_manifest(manifest, where="m") == Order.of_plan(loaded)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said.clear(),
        lambda said: said.update(publish={"accounts": ["all"]}),
        lambda said: said.update(publish={"public": True}),
        lambda said: said.update(publish={"deprecate_after": "x"}),
        lambda said: said.update(publish=[1]),
        lambda said: said.update(root_volume=None),
        lambda said: said["image"].pop("wait"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(spoil: Any) -> None:
    said = json.loads(json.dumps(plan.load(datafiles.path("plans/ubuntu-22.04-gpu.yaml")).model_dump(mode="json")))
    spoil(said)
    with pytest.raises(InputError) as caught:
        Order.of_manifest({"plan": {"parameters": said}}, where="manifest.json")
    assert caught.value.exit_code == 2 and "--plan" in str(caught.value.hint)


# --- parameters -----------------------------------------------------------------------------------

IMAGES = tuple(f"ami-{number:017x}" for number in range(5))


def entries(*values: str) -> list[Entry]:
    return [
        Entry(n, value, SET.format(image=value, version="20261123-211500-a1b2c3"), None)
        for n, value in enumerate(values, start=1)
    ]


@given(published=st.lists(st.sampled_from(IMAGES), min_size=1, max_size=8), gone=st.sets(st.sampled_from(IMAGES)))
def test_going_back_again_and_again_goes_through_the_past_once_and_ends(published: list[str], gone: set[str]) -> None:
    versions = entries(*published)
    usable = [each for each in IMAGES if each not in gone]
    visited = []
    while (chosen := back(versions, usable)) is not None:
        assert chosen.value in usable and chosen.value != versions[-1].value
        visited.append(chosen.version)
        text = BACK.format(current=versions[-1].version, chosen=chosen.version)
        versions.append(Entry(versions[-1].version + 1, chosen.value, text, None))
        assert len(visited) <= len(published), "it ends"
    assert visited == sorted(visited, reverse=True)
    assert all(version <= len(published) for version in visited)


@pytest.mark.parametrize("text", [BACK.format(current=9, chosen=9), BACK.format(current=1, chosen=99), "x", ""])
def test_a_description_that_makes_no_sense_does_no_harm(text: str) -> None:
    versions = [*entries(*IMAGES[:2]), Entry(3, IMAGES[2], text, None)]
    chosen = back(versions, IMAGES)
    assert chosen is not None and chosen.value == IMAGES[1]
    assert back([], IMAGES) is None


def test_what_latest_may_do() -> None:
    old, new = "20261101-000000-ffffff", "20261102-000000-000000"
    a, b = IMAGES[:2]
    assert decide([], a, old, None, force=False) is None
    assert decide(entries(a), b, new, old, force=False) is None
    assert "newer" in str(decide(entries(b), a, old, new, force=False))
    assert decide(entries(b), a, old, new, force=True) is None
    assert decide(entries(b), a, old, None, force=False) is None, "an image that is gone keeps nobody away"
    same = "20261102-000000-ffffff"
    assert decide(entries(b), a, new, same, force=False) is None, "of the same second neither is newer"
    assert decide(entries(b), a, old, "zzz", force=False) is None, "a tag that is no run says nothing"
    went = [*entries(a, b), Entry(3, a, BACK.format(current=2, chosen=1), None)]
    assert "went back from" in str(decide(went, b, new, old, force=False))
    again = [*went, Entry(4, b, SET.format(image=b, version=new), None), *entries(a)[:0]]
    assert decide([*again, Entry(5, a, "", None)], b, new, old, force=False) is None


# --- fast launch ----------------------------------------------------------------------------------


# https://docs.aws.amazon.com/ebs/latest/userguide/volume-creation-credits.html has 128 GiB; facts/ami.md 300 and 100.
@pytest.mark.parametrize(
    ("gib", "bucket", "per_hour"), [(128, 8, 8), (300, 3.413, 3.413), (100, 10, 10), (4096, 1, 0.25), (8, 10, 10)]
)
def test_the_credits_are_as_documented(gib: float, bucket: float, per_hour: float) -> None:
    found = fastlaunch.credits_of(gib)
    assert found.bucket == pytest.approx(bucket, abs=1e-3)
    assert found.per_hour == pytest.approx(per_hour, abs=1e-3)
    assert found.optimize_min == pytest.approx(60 * gib / 1024)


@given(gib=st.floats(0.5, 65_536), more=st.floats(1, 10), volumes=st.integers(1, 50))
def test_a_larger_snapshot_never_has_more_credits(gib: float, more: float, volumes: int) -> None:
    small, large = fastlaunch.credits_of(gib), fastlaunch.credits_of(gib * more)
    assert 1 <= large.bucket <= small.bucket <= 10
    assert 0 < large.per_hour <= small.per_hour <= 10
    assert large.minutes_for(volumes) >= small.minutes_for(volumes) > volumes * 60 / 10 - 1e-9


def test_a_snapshot_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        fastlaunch.credits_of(0)


def test_what_it_costs_and_how_long_it_takes() -> None:
    assert fastlaunch.restore_usd(0.75, snapshots=1, zones=1, hours=0.1) == 0.75, "one hour at least"
    assert fastlaunch.restore_usd(0.75, snapshots=2, zones=3, hours=24) == pytest.approx(108)
    assert fastlaunch.fill_seconds(20, 300) == pytest.approx(68.3, abs=0.1), "facts/ami.md: 20 GiB at 300 are 68 s"


def test_the_choices_mark_the_plans_own_and_name_prices_that_are_not_known() -> None:
    prices = yaml.safe_load(datafiles.path("prices.yaml").read_text())
    chosen = Publish.model_validate({"fast_launch": {"volume_initialization_rate": 200}}).fast_launch
    rows = {each.name: each for each in fastlaunch.compare(chosen, volume_gib=80, data_gib=40, prices=prices)}
    assert [name for name, each in rows.items() if each.chosen] == ["volume_initialization_rate"]
    assert "not in data/prices.yaml" in rows["volume_initialization_rate"].costs
    assert "205 s at 200 MiB/s" in rows["volume_initialization_rate"].buys
    assert "$18.00 a day" in rows["fast_snapshot_restore"].costs
    known = fastlaunch.compare(
        chosen, volume_gib=80, data_gib=40, prices={**prices, "volume_initialization_gib": {200: 0.5}}
    )
    assert "about $20.000 a launch at 200 MiB/s" in known[1].costs
    none = fastlaunch.compare(None, volume_gib=80, data_gib=40, prices=prices)
    assert [each.name for each in none if each.chosen] == ["none"]
    assert all(each.costs and each.buys for each in none)


def test_what_a_launch_template_needs() -> None:
    from botocore.session import get_session

    template = fastlaunch.launch_template(order(fast_launch={"volume_initialization_rate": 250}), live())
    assert template == {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeInitializationRate": 250}}]}
    model = get_session().get_service_model("ec2")
    from botocore.validate import ParamValidator

    shape = model.shape_for("RequestLaunchTemplateData")
    for fast in ({"volume_initialization_rate": 250}, {"pre_read": True}):
        data = fastlaunch.launch_template(order(fast_launch=fast), live())
        assert not ParamValidator().validate(data, shape).has_errors()
    restore = {"fast_snapshot_restore": {"zones": ["us-west-2a"]}}
    assert fastlaunch.launch_template(order(fast_launch=restore), live()) is None
    assert fastlaunch.launch_template(order(), live()) is None
    data = fastlaunch.launch_template(order(fast_launch={"pre_read": True}), live())
    assert data is not None and len(data["UserData"]) < 16_384, "what EC2 takes"
    assert base64.b64decode(data["UserData"]).startswith(b"#!/bin/bash\n")


def test_the_script_that_reads_ahead_is_sound(tmp_path: Path) -> None:
    path = ROOT / "leptonami" / "publish" / "pre-read.sh"
    shellcheck = shutil.which("shellcheck") or str(ROOT / ".venv" / "bin" / "shellcheck")
    subprocess.run([shellcheck, "--shell=bash", path], check=True)
    # It reads what is there, and is done at once: the reading goes on behind the boot.
    store = tmp_path / "store"
    (store / "a b").mkdir(parents=True)
    (store / "a b" / "layer\n1").write_bytes(b"x" * 1000)
    text = (
        path.read_text()
        .replace("/var/lib/containerd", str(store))
        .replace("cat -- >/dev/null 2>&1", f"cat -- >>{tmp_path}/read 2>&1")
    )
    (tmp_path / "script.sh").write_text(text.replace(") </dev/null >/dev/null 2>&1 &", ")"))
    subprocess.run(["bash", tmp_path / "script.sh"], check=False, timeout=60)
    assert (tmp_path / "read").stat().st_size == 1000
