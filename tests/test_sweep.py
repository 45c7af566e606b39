"""Sweep: what may go, what must stay, and that it really goes. The planner by itself, then whole sweeps on the lab."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small import write

from leptonami.build.names import Names
from leptonami.cli import cli
from leptonami.errors import CredentialsError, Interrupted, LeptonamiError
from leptonami.lab import Lab, start
from leptonami.lifecycle import sweep as sweeping
from leptonami.lifecycle.inventory import collect, is_temporary
from leptonami.lifecycle.known import KnownRun, is_locked, read_run, read_runs
from leptonami.lifecycle.removal import Remover
from leptonami.lifecycle.resources import BENCH, KINDS, NUMBERED, Resource, marks
from leptonami.lifecycle.sweep import plan
from leptonami.lifecycle.where import open_where
from leptonami.runs import Run, new_id
from leptonami.target import Target, connect, owner_of

NOW = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
REGION = "us-west-2"
ME = "ann"
TEMPORARY = tuple(kind for kind in KINDS if kind not in {"image", "snapshot"})

# The planner ---------------------------------------------------------------------------------------------------------

# One run of each sort; those of three days ago have expired, those of an hour ago have not.
OLD, YOUNG = NOW - timedelta(days=3), NOW - timedelta(hours=1)
SORTS = {
    "killed": ("killed", False, False),
    "failed": ("failed", False, False),
    "interrupted": ("interrupted", False, False),
    "succeeded": ("succeeded", False, False),
    "leftovers": ("succeeded, with leftovers", False, False),
    "live": ("running", True, False),
    "live-failed": ("failed", True, False),
    "kept": ("failed", False, True),
    "unreadable": ("unknown", False, False),
    # The image was finished, the manifest does not say so yet; and a journal that was lost with what it knew.
    "killed-late": ("killed", False, False),
    "lost": ("killed", False, False),
    "elsewhere": None,
}
FINISHERS = {"succeeded", "leftovers", "killed-late"}


def id_of(sort: str, *, old: bool) -> str:
    return f"{OLD if old else YOUNG:%Y%m%d-%H%M%S}-{list(SORTS).index(sort):06x}"


def known_runs() -> dict[str, KnownRun]:
    runs = {}
    for sort, known in SORTS.items():
        for old in (True, False):
            if known is not None:
                state, live, kept = known
                name = id_of(sort, old=old)
                runs[name] = KnownRun(
                    name,
                    Path("runs") / name,
                    state=state,
                    live=live,
                    kept=kept,
                    region=REGION,
                    finished=frozenset({f"ami-finished-{name}"} if sort in FINISHERS else ()),
                    asked=frozenset(() if sort == "lost" else (f"image-{name}-0", f"image-{name}-1")),
                )
    return runs


RUNS = known_runs()


def make(kind: str, run: str, *, owner: str = ME, number: int = 0, step: str = "", **more: Any) -> Resource:
    """Give a resource as a run makes it: a build, or with the step `bench` a benchmark."""
    names = Names(run, "test", owner)
    temporary = kind not in {"image", "snapshot"}
    step = step or ("bench" if kind in NUMBERED else "builder" if temporary else "image")
    tags = names.tags(step, {"team": "x", "leptonami:cluster": "c"}, temporary=temporary)
    fields: dict[str, Any] = {
        "kind": kind,
        "id": names.temporary if kind in {"profile", "role"} else f"{kind}-{run}-{number}",
        "region": "global" if kind in {"profile", "role"} else REGION,
        "tags": {each["Key"]: each["Value"] for each in tags},
        "name": names.group(1, number + 1) if kind in NUMBERED else names.temporary if kind in NAMED else "",
        "state": {"instance": "running", "image": "pending", "snapshot": "pending"}.get(kind, "available"),
        "created": names.started,
    }
    return Resource(**{**fields, **more})


NAMED = {"group", "profile", "role"}
sorts = st.sampled_from(list(SORTS))
owners = st.sampled_from([ME, "bob"])


@st.composite
def own(draw: st.DrawFn) -> Resource:
    """Something as a run makes it, of any run, of either owner, in any state."""
    kind = draw(st.sampled_from(KINDS))
    run = id_of(draw(sorts), old=draw(st.booleans()))
    number = draw(st.integers(0, 2))
    more: dict[str, Any] = {}
    match kind:
        case "instance":
            more["state"] = draw(st.sampled_from(["pending", "running", "stopped", "shutting-down", "terminated"]))
        case "image":
            more["state"] = draw(st.sampled_from(["pending", "available", "disabled", "failed", "error"]))
            more["parts"] = tuple(
                f"snapshot-{run}-{each}" for each in draw(st.lists(st.integers(0, 2), max_size=2, unique=True))
            )
            if draw(st.booleans()):
                more["id"] = f"ami-finished-{run}"
            more["region"] = draw(st.sampled_from([REGION, "eu-west-1"]))
        case "template":
            more["holder"] = draw(st.sampled_from([None, f"nodegroup-{run}-0", "somebodys/group"]))
        case "interface" | "volume":
            more["holder"] = draw(st.sampled_from([None, f"instance-{run}-0", "i-of-somebody"]))
        case "profile" | "role":
            name = f"leptonami-{run}"
            more["parts"] = draw(st.sampled_from([(), (name,), (name, "somebodys")]))
        case "command":
            more["parts"] = draw(st.sampled_from([(f"instance-{run}-0",), (f"instance-{run}-0", "i-of-somebody")]))
    step = draw(st.sampled_from(["", "bench"])) if kind in BENCH else ""
    return make(kind, run, owner=draw(owners), number=number, step=step, **more)


OURS = ("leptonami:run", "leptonami:plan", "leptonami:step", "leptonami:owner", "leptonami:expires")


@st.composite
def spoilt(draw: st.DrawFn) -> Resource:
    """Something with leptonami's tags that no run has made: a tag is missing, wrong, or the name is another."""
    resource = draw(own())
    tags = dict(resource.tags)
    temporary = resource.kind not in {"image", "snapshot"}
    ways = ["drop", "blank", "step", "run", "expires"]
    if resource.kind in NAMED | NUMBERED:
        ways.append("name")
    match draw(st.sampled_from(ways)):
        case "drop":
            del tags[draw(st.sampled_from([key for key in OURS if key in tags]))]
        case "blank":
            tags[draw(st.sampled_from([key for key in OURS if key in tags]))] = ""
        case "step":
            wrong = ["image" if temporary else "builder", "Builder", "x", "*"]
            wrong += [] if resource.kind in BENCH else ["bench"]
            tags["leptonami:step"] = draw(st.sampled_from(wrong + (["builder"] if resource.kind in NUMBERED else [])))
        case "run":
            tags["leptonami:run"] = draw(
                st.sampled_from(
                    ["*", "20261323-211500-a1b2c3", "20261123-211500", "29991123-211500-a1b2c3", "../x", "ü"]
                )
            )
        case "expires":
            tags["leptonami:expires"] = draw(st.sampled_from(["soon", "2020-01-01T00:00:00Z", "0", "9" * 50]))
        case "name":
            return dataclasses.replace(resource, name=draw(st.sampled_from(["", "prod", "leptonami-", "default"])))
    return dataclasses.replace(resource, tags=tags)


keys = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["Name", "leptonami", "leptonami:", "Leptonami:run", "leptonami:runs", "xleptonami:run", "run"]),
).filter(lambda key: key not in OURS)


@st.composite
def foreign(draw: st.DrawFn) -> Resource:
    """Something of somebody else's: any tags but ours, even with values and names that look like ours."""
    run = id_of(draw(sorts), old=draw(st.booleans()))
    values = st.one_of(st.text(max_size=20), st.sampled_from([run, "builder", "image", ME, "2020-01-01T00:00:00Z"]))
    resource = draw(own())
    return dataclasses.replace(
        resource,
        id=f"foreign-{draw(st.integers(0, 50))}",
        tags=draw(st.dictionaries(keys, values, max_size=6)),
        name=draw(st.sampled_from(["", "web", f"leptonami-{run}"])),
    )


def over(run: str) -> bool:
    known = RUNS.get(run)
    return known is not None and not known.live and known.state != "unknown"


def may_go(resource: Resource, owner: set[str]) -> bool:
    """Say what the rules allow, written down once more and by themselves."""
    tags = resource.tags
    run = tags.get("leptonami:run", "")
    known = RUNS.get(run)
    if tags.get("leptonami:owner") not in owner or (known is not None and known.live):
        return False
    if resource.kind in {"image", "snapshot"}:
        if resource.id in {name for each in RUNS.values() for name in each.finished}:
            return False
        if resource.kind == "image" and resource.state in {"failed", "error"}:
            return True
        if known is None or not over(run) or known.succeeded or known.finished or not known.asked or known.kept:
            return False
        return resource.kind == "snapshot" or (resource.id in known.asked and resource.state != "disabled")
    until = datetime.fromisoformat(tags["leptonami:expires"])
    return until <= NOW or (over(run) and known is not None and not known.kept)


def goes_with_its_image(resource: Resource, inventory: list[Resource], owner: set[str]) -> bool:
    """Say whether a snapshot is only of images that EC2 gave up: it goes with them, in one call."""
    users = [
        each
        for each in inventory
        if each.kind == "image" and each.region == resource.region and resource.id in each.parts
    ]
    return (
        resource.kind == "snapshot"
        and resource.tags.get("leptonami:owner") in owner
        and bool(users)
        and all(each.state in {"failed", "error"} and may_go(each, owner) for each in users)
    )


mixed = st.lists(st.one_of(own(), own(), spoilt(), foreign()), max_size=30)


@settings(max_examples=400, deadline=None)
@given(mixed, st.sets(owners))
def test_only_what_the_rules_allow_goes(inventory: list[Resource], owner: set[str]) -> None:
    found = plan(inventory, RUNS, NOW, owner)
    for each in found.removals:
        assert may_go(each.resource, owner) or goes_with_its_image(each.resource, inventory, owner), each
    # Everything with one of our tags is either removed or accounted for; nothing without is even named.
    named = {id(each.resource) for each in (*found.removals, *found.left)}
    for resource in inventory:
        if not set(resource.tags) & set(OURS):
            assert id(resource) not in named


@settings(max_examples=400, deadline=None)
@given(st.lists(own(), max_size=8), st.lists(foreign(), max_size=20), st.randoms(use_true_random=False))
def test_what_others_have_does_not_matter_and_is_never_touched(
    ours: list[Resource], others: list[Resource], random: Any
) -> None:
    # An image of somebody else's that needs one of our snapshots does matter: it is tested below.
    others = [dataclasses.replace(each, parts=()) for each in others]
    alone = plan(ours, RUNS, NOW, {ME})
    inventory = [*ours, *others]
    random.shuffle(inventory)
    together = plan(inventory, RUNS, NOW, {ME})
    assert {id(each.resource) for each in together.removals} <= {id(each) for each in ours}
    assert {each.resource.id for each in together.removals} == {each.resource.id for each in alone.removals}


@settings(max_examples=400, deadline=None)
@given(spoilt(), st.booleans())
def test_what_no_run_has_made_like_this_stays(resource: Resource, kept: bool) -> None:
    found = plan([resource], RUNS, NOW, {ME, "bob"}, even_kept=kept)
    assert not found.removals
    if resource.state != "terminated" and set(resource.tags) & set(OURS):
        assert [each.resource for each in found.left] == [resource]


@settings(max_examples=200, deadline=None)
@given(mixed)
def test_holders_go_first(inventory: list[Resource]) -> None:
    kinds = [each.resource.kind for each in plan(inventory, RUNS, NOW, {ME, "bob"}).removals]
    assert kinds == sorted(kinds, key=KINDS.index)


@given(st.lists(own(), max_size=20))
def test_nobody_named_means_nothing_goes(inventory: list[Resource]) -> None:
    assert not plan(inventory, RUNS, NOW, set()).removals


@pytest.mark.parametrize("sort", ["killed", "failed", "interrupted", "succeeded", "leftovers"])
@pytest.mark.parametrize("kind", TEMPORARY)
def test_everything_temporary_of_a_run_that_is_over_goes(sort: str, kind: str) -> None:
    run = id_of(sort, old=False)
    resource = make(kind, run)
    assert [each.resource for each in plan([resource], RUNS, NOW, {ME}).removals] == [resource]
    assert not plan([resource], {}, NOW, {ME}).removals, "nobody knows whether it is over, and it has not expired"
    assert not plan(
        [dataclasses.replace(resource, tags={**resource.tags, "leptonami:owner": "bob"})], RUNS, NOW, {ME}
    ).removals


@pytest.mark.parametrize("kind", TEMPORARY)
def test_a_run_of_another_machine_goes_when_it_has_expired(kind: str) -> None:
    resource = make(kind, id_of("elsewhere", old=True))
    until = resource_expires(resource)
    assert not plan([resource], RUNS, until - timedelta(seconds=1), {ME}).removals
    assert len(plan([resource], RUNS, until, {ME}).removals) == 1
    longer = dataclasses.replace(resource, tags={**resource.tags, "leptonami:expires": "2026-12-01T00:00:00Z"})
    assert not plan([longer], RUNS, NOW, {ME}).removals, "somebody gave it more time"


def resource_expires(resource: Resource) -> datetime:
    return datetime.fromisoformat(resource.tags["leptonami:expires"])


def test_what_was_kept_on_purpose_stays_until_it_expires() -> None:
    young, old = make("instance", id_of("kept", old=False)), make("instance", id_of("kept", old=True))
    found = plan([young, old], RUNS, NOW, {ME})
    assert [each.resource for each in found.removals] == [old]
    assert "on purpose" in found.left[0].why
    assert len(plan([young, old], RUNS, NOW, {ME}, even_kept=True).removals) == 2


@pytest.mark.parametrize("state", ["pending", "available", "failed"])
def test_a_half_made_image_goes_with_its_snapshots(state: str) -> None:
    run = id_of("killed", old=False)
    snapshot = make("snapshot", run)
    image = make("image", run, state=state, parts=(snapshot.id,))
    found = plan([snapshot, image], RUNS, NOW, {ME})
    assert [each.resource.kind for each in found.removals] == ["image", "snapshot"]


@pytest.mark.parametrize("sort", ["killed-late", "succeeded", "leftovers", "lost", "elsewhere", "unreadable"])
def test_a_finished_image_never_goes(sort: str) -> None:
    for old in (True, False):
        run = id_of(sort, old=old)
        snapshot = make("snapshot", run, state="completed")
        image = make("image", run, id=f"ami-finished-{run}", state="available", parts=(snapshot.id,))
        found = plan([snapshot, image], RUNS, NOW, {ME})
        assert not found.removals
        assert all(each.expected for each in found.left)


@pytest.mark.parametrize("state", ["pending", "available"])
def test_what_the_journal_did_not_ask_for_is_not_taken_for_half_made(state: str) -> None:
    """A copy in the run's own region carries its tags; so does the image of a run whose journal is lost."""
    run = id_of("killed", old=False)
    mine, copy = make("image", run, state=state), make("image", run, state=state, id="ami-copy", name="a copy")
    assert [each.resource for each in plan([mine, copy], RUNS, NOW, {ME}).removals] == [mine]
    # Where the answer was not written down the image's name has to do, which no copy can have.
    unanswered = dataclasses.replace(RUNS[run], asked=frozenset({"test-image"}))
    named = dataclasses.replace(mine, name="test-image")
    assert [each.resource for each in plan([named, copy], {run: unanswered}, NOW, {ME}).removals] == [named]
    lost = id_of("lost", old=True)
    snapshot = make("snapshot", lost, state="completed")
    found = plan([make("image", lost, state=state, parts=(snapshot.id,)), snapshot], RUNS, NOW, {ME})
    assert not found.removals
    assert "journal does not say" in found.left[0].why
    assert not plan([make("snapshot", lost)], RUNS, NOW, {ME}).removals


@pytest.mark.parametrize("kind", ["image", "snapshot"])
def test_nothing_half_made_is_looked_for_beside_a_finished_image(kind: str) -> None:
    assert not plan([make(kind, id_of("killed-late", old=True), state="available")], RUNS, NOW, {ME}).removals


def test_an_image_that_somebody_disabled_stays_with_its_snapshots() -> None:
    run = id_of("killed", old=False)
    snapshot = make("snapshot", run, state="completed")
    found = plan([make("image", run, state="disabled", parts=(snapshot.id,)), snapshot], RUNS, NOW, {ME})
    assert not found.removals
    assert "disabled" in found.left[0].why


def test_a_half_made_image_that_was_kept_on_purpose_stays() -> None:
    run = id_of("kept", old=True)
    assert not plan([make("image", run), make("snapshot", run)], RUNS, NOW, {ME}).removals
    assert len(plan([make("image", run), make("snapshot", run)], RUNS, NOW, {ME}, even_kept=True).removals) == 2


@pytest.mark.parametrize("sort", ["succeeded", "leftovers"])
def test_an_image_of_a_run_that_succeeded_never_goes(sort: str) -> None:
    for old in (True, False):
        run = id_of(sort, old=old)
        snapshot = make("snapshot", run, state="completed")
        image = make("image", run, state="available", parts=(snapshot.id,))
        found = plan([snapshot, image], RUNS, NOW, {ME})
        assert not found.removals
        assert all(each.expected for each in found.left)


def test_an_image_that_was_published_stays_whatever_its_run_says(tmp_path: Path) -> None:
    run = id_of("killed", old=False)
    image = make("image", run, state="available")
    assert plan([image], RUNS, NOW, {ME}).removals
    lines = [{"event": "publish", "image": image.id, "plan": "test", "checked": False}]
    publishing = read_run(folder(tmp_path, "20261123-211500-a1b2c3", {"schema": 1, "kind": "publish"}, lines))
    assert not plan([image], {**RUNS, publishing.id: publishing}, NOW, {ME}).removals


def test_a_snapshot_that_another_image_needs_stays() -> None:
    run = id_of("killed", old=False)
    snapshot = make("snapshot", run)
    image = make("image", run, parts=(snapshot.id,))
    other = Resource("image", "ami-other", REGION, {"Name": "somebody's"}, state="available", parts=(snapshot.id,))
    assert [each.resource for each in plan([snapshot, image, other], RUNS, NOW, {ME}).removals] == [image]
    assert not plan([snapshot, other], RUNS, NOW, {ME}).removals


def test_orphaned_snapshots_go_only_when_their_run_is_known_to_have_failed() -> None:
    for sort, gone in {"killed": 1, "failed": 1, "succeeded": 0, "elsewhere": 0, "live": 0, "unreadable": 0}.items():
        assert len(plan([make("snapshot", id_of(sort, old=True))], RUNS, NOW, {ME}).removals) == gone, sort


def test_copies_in_other_regions_stay() -> None:
    copy = make("image", id_of("killed", old=False), region="eu-west-1")
    assert not plan([copy], RUNS, NOW, {ME}).removals


def test_what_hangs_on_somebody_else_stays() -> None:
    run = id_of("killed", old=False)
    name = f"leptonami-{run}"
    held = [
        make("volume", run, holder="i-of-somebody"),
        make("interface", run, holder="i-of-somebody"),
        make("role", run, parts=(name, "somebodys")),
        make("profile", run, parts=("somebodys",)),
        make("command", run, parts=("i-of-somebody",)),
    ]
    found = plan(held, RUNS, NOW, {ME})
    assert [each.resource.kind for each in found.removals] == []
    assert len(found.left) == len(held)
    builder = make("instance", run)
    volume = make("volume", run, holder=builder.id)
    command = make("command", run, parts=(builder.id,))
    assert len(plan([volume, command, builder], RUNS, NOW, {ME}).removals) == 3


def test_a_terminated_instance_is_nothing() -> None:
    found = plan([make("instance", id_of("killed", old=True), state="terminated")], RUNS, NOW, {ME})
    assert (found.removals, found.left) == ((), ())


@given(st.text(max_size=60))
def test_no_text_is_taken_for_one_of_our_names(text: str) -> None:
    assert is_temporary("leptonami-20261123-211500-a1b2c3")
    assume(not text.startswith("leptonami-20"))
    assert not is_temporary(text)


@given(st.dictionaries(st.one_of(st.sampled_from(OURS), st.text(max_size=8)), st.text(max_size=40), max_size=8))
def test_any_tags_can_be_read(tags: dict[str, str]) -> None:
    for kind in KINDS:
        found = marks(Resource(kind, "x", REGION, tags), NOW)
        assert (found is None) == (not set(tags) & set(OURS))


def test_the_owner_is_what_a_build_writes() -> None:
    assert owner_of("arn:aws:iam::123456789012:user/team/ann") == "ann"
    assert owner_of("arn:aws:sts::123456789012:assumed-role/Role/ann@example.com") == "ann@example.com"
    assert owner_of("arn:aws:iam::123456789012:root") == "root"


# Run folders ---------------------------------------------------------------------------------------------------------


def folder(root: Path, run_id: str, manifest: Mapping[str, Any] | str | None, lines: list[Any] = []) -> Path:  # noqa: B006
    made = root / run_id
    made.mkdir(parents=True)
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (made / "manifest.json").write_text(text)
    (made / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


def test_a_run_that_says_running_and_has_no_process_was_killed(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "20261123-211500-a1b2c3")
    run.write_manifest({"schema": 1, "state": "running", "target": {"region": REGION}})
    with run.lock():
        assert is_locked(run.folder)
        assert read_run(run.folder).live
        assert read_run(run.folder).state == "running"
    assert not is_locked(run.folder)
    assert read_run(run.folder).state == "killed"
    assert read_run(run.folder).over


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_copy_of_a_folder_says_nothing_about_who_works_on_the_run(tmp_path: Path, state: str) -> None:
    """The lock of a copy is free, whatever the process with the original does."""
    run = Run.create(tmp_path / "runs", "20261123-211500-a1b2c3")
    with run.lock():
        run.journal.write("build", plan="test", lock=run.lock_number)
        run.write_manifest({"schema": 1, "state": state, "target": {"region": REGION}})
        shutil.copytree(tmp_path / "runs", tmp_path / "copy")
        copy = read_run(tmp_path / "copy" / run.id)
        assert (copy.live, copy.copied, copy.over, copy.state) == (False, True, False, state)
        assert any("copy" in each for each in copy.notes)
    own = read_run(run.folder)
    assert (own.copied, own.over, own.notes) == (False, True, ())
    # Somebody goes on with the copy: it is this machine's own from then on.
    adopted = Run.open(tmp_path / "copy", run.id)
    with adopted.lock():
        adopted.journal.write("build", plan="test", lock=adopted.lock_number)
    assert read_run(adopted.folder).over
    (run.folder / "lock").unlink()
    assert not read_run(run.folder).over, "the lock was deleted, perhaps under somebody who had it"


def test_a_folder_of_an_earlier_version_is_no_copy(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "20261123-211500-a1b2c3")
    run.journal.write("build", plan="test")
    run.write_manifest({"schema": 1, "state": "running"})
    assert read_run(run.folder).over


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "20261123-211500-a1b2c3")
    with run.lock():
        text = (run.folder / "lock").read_text()
        is_locked(run.folder)
        assert (run.folder / "lock").read_text() == text
    is_locked(run.folder)
    with run.lock():
        pass


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "",
        '{"state": "fail',
        "[]",
        "null",
        '{"schema": 7, "state": 5, "plan": [], "target": "x", "removed": {"outcome": "kept"}, "image": 1}',
        "\x00\xff",
        "[" * 5000,
    ],
)
def test_a_manifest_that_cannot_be_read_concludes_nothing(tmp_path: Path, manifest: str | None) -> None:
    known = read_run(folder(tmp_path, "20261123-211500-a1b2c3", manifest))
    assert not known.over
    assert known.finished == frozenset()
    assert known.notes


def test_a_later_version_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    manifest = {
        "schema": 2,
        "state": "failed",
        "plan": {"name": "x", "new": 1},
        "target": {"region": REGION},
        "more": {},
    }
    known = read_run(folder(tmp_path, "20261123-211500-a1b2c3", manifest))
    assert (known.state, known.plan, known.region) == ("failed", "x", REGION)
    assert "schema 2" in known.notes[0]


def test_an_image_is_finished_when_its_last_call_was_answered(tmp_path: Path) -> None:
    call = "ec2.ModifyImageAttribute"
    lines: list[Any] = [{"event": "intent", "action": call, "id": "ami-1"}]
    first = read_run(folder(tmp_path / "1", "20261123-211500-a1b2c3", {"schema": 1, "state": "running"}, lines))
    assert first.finished == frozenset()
    lines.append({"event": "failed", "action": call})
    lines.append({"event": "intent", "action": call, "id": "ami-1"})
    lines.append({"event": "done", "action": call})
    second = read_run(folder(tmp_path / "2", "20261123-211500-a1b2c3", {"schema": 1, "state": "running"}, lines))
    assert second.finished == {"ami-1"}


@pytest.mark.parametrize(
    ("events", "asked"),
    [
        ([], set()),
        ([{"event": "intent", "name": "x-1"}], {"x-1"}),
        ([{"event": "intent", "name": "x-1"}, {"event": "done", "id": "ami-1"}], {"ami-1"}),
        ([{"event": "intent", "name": "x-1"}, {"event": "failed", "error": "no answer"}], {"x-1"}),
        ([{"event": "intent", "name": "x-1"}, {"event": "failed"}, {"event": "intent", "name": "x-1"}], {"x-1"}),
        ([{"event": "intent", "name": 5}, {"event": "done", "id": 6}, {"event": "intent"}], set()),
    ],
)
def test_what_a_run_asked_for_is_in_its_journal(tmp_path: Path, events: list[dict[str, Any]], asked: set[str]) -> None:
    lines: list[Any] = [{"action": "ec2.CreateImage", **each} for each in events]
    lines.append({"event": "done", "action": "ec2.RunInstances", "id": "i-1"})
    known = read_run(folder(tmp_path, "20261123-211500-a1b2c3", {"schema": 1, "state": "running"}, lines))
    assert known.asked == asked


def test_only_run_folders_are_read(tmp_path: Path) -> None:
    for name in ("notes", "20261123-211500", ".hidden", "20261399-211500-a1b2c3"):
        (tmp_path / name).mkdir()
    (tmp_path / "20261123-211500-a1b2c3").write_text("a file")
    assert read_runs(tmp_path) == {}
    assert read_runs(tmp_path / "missing") == {}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_can_be_read(tmp_path: Path, manifest: bytes, journal: bytes) -> None:
    made = tmp_path / "20261123-211500-a1b2c3"
    made.mkdir(exist_ok=True)
    (made / "manifest.json").write_bytes(manifest)
    (made / "journal.jsonl").write_bytes(journal)
    assert not read_run(made).live


# Whole sweeps on the lab ---------------------------------------------------------------------------------------------


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


@pytest.fixture
def me(target: Target) -> str:
    return owner_of(target.client("sts").get_caller_identity()["Arn"])


TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ssm:UpdateInstanceInformation", "ssmmessages:*"], "Resource": "*"}],
}


class Maker:
    """Makes what a build would have made, up to some point."""

    def __init__(self, target: Target, run_id: str, owner: str) -> None:
        self.target, self.names = target, Names(run_id, "test", owner)
        self.ec2, self.iam = target.client("ec2"), target.client("iam")
        self.temporary: Any = self.names.tags("builder", {}, temporary=True)
        self.permanent: Any = self.names.tags("image", {}, temporary=False)

    def group(self, **more: Any) -> str:
        spec: Any = [{"ResourceType": "security-group", "Tags": more.pop("tags", self.temporary)}]
        name = more.pop("name", self.names.temporary)
        return str(self.ec2.create_security_group(GroupName=name, Description="x", TagSpecifications=spec)["GroupId"])

    def identity(self) -> str:
        name = self.names.temporary
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=self.temporary)
        self.iam.put_role_policy(RoleName=name, PolicyName="builder", PolicyDocument=json.dumps(POLICY))
        self.iam.create_instance_profile(InstanceProfileName=name, Tags=self.temporary)
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return name

    def volume(self, **more: Any) -> str:
        tags = more.pop("tags", self.temporary)
        spec: Any = [{"ResourceType": "volume", "Tags": tags}] if tags else []
        made = self.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, TagSpecifications=spec)
        return str(made["VolumeId"])

    def instance(self, group: str | None = None, profile: str | None = None) -> str:
        base = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu-eks/k8s_1.33/*amd64*"]}])["Images"]
        spec: Any = [
            {"ResourceType": kind, "Tags": self.temporary} for kind in ("instance", "volume", "network-interface")
        ]
        (subnet, *_) = self.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [f"{REGION}a"]}])[
            "Subnets"
        ]
        nic: Any = {"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], **({"Groups": [group]} if group else {})}
        more: Any = {"IamInstanceProfile": {"Name": profile}} if profile else {}
        made = self.ec2.run_instances(
            ImageId=base[0]["ImageId"],
            InstanceType="m5.large",
            MinCount=1,
            MaxCount=1,
            NetworkInterfaces=[nic],
            TagSpecifications=spec,
            **more,
        )
        instance = made["Instances"][0]["InstanceId"]
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        return str(instance)

    def image(self, instance: str, *, available: bool) -> str:
        spec: Any = [{"ResourceType": kind, "Tags": self.permanent} for kind in ("image", "snapshot")]
        name = f"{self.names.plan}-{self.names.run}"
        image = self.ec2.create_image(InstanceId=instance, Name=name, NoReboot=True, TagSpecifications=spec)["ImageId"]
        if available:
            self.ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig={"Delay": 1})
        return str(image)


def killed(root: Path, run_id: str, *, image: str | None = None, state: str = "running", **more: Any) -> Run:
    run = Run.create(root, run_id)
    run.journal.write("build", plan="test", provenance="simulated")
    if image is not None:
        with run.journal.action("ec2.CreateImage", name=f"test-{run_id}") as outcome:
            outcome["id"] = image
    run.write_manifest({"schema": 1, "state": state, "plan": {"name": "test"}, "target": {"region": REGION}, **more})
    return run


def counts(lab: Lab) -> dict[str, int]:
    found: dict[str, int] = lab.state()
    return found


def test_a_run_that_was_killed_is_swept_clean(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    before = counts(lab)
    maker = Maker(target, new_id(), me)
    group = maker.group()
    maker.identity()
    instance = maker.instance(group)
    maker.volume()
    killed(tmp_path, maker.names.run, image=maker.image(instance, available=False))
    between = counts(lab)
    assert between != before
    lab.reset_calls()
    dry = sweeping.sweep(target, runs=tmp_path)
    assert counts(lab) == between
    assert all(name.split(".")[1].startswith(("Describe", "Get", "List")) for name in lab.calls()), lab.calls()
    assert dry.run is None
    kinds = [each.resource.kind for each in dry.plan.removals]
    # The builder's own volume and interface, and one of each that nobody has.
    assert {kind: kinds.count(kind) for kind in kinds} == {
        **dict.fromkeys(("instance", "image", "snapshot", "interface", "group", "profile", "role"), 1),
        "volume": 2,
    }
    assert len(list(tmp_path.iterdir())) == 1, "a dry run leaves no folder"
    done = sweeping.sweep(target, runs=tmp_path, act=True)
    assert counts(lab) == before
    assert not done.failed
    assert {each.outcome for each in done.outcomes} <= {"removed", "was not there"}
    assert len(done.outcomes) == len(dry.plan.removals)
    assert done.run is not None
    written = json.loads(done.run.manifest_path.read_text())
    assert (written["kind"], written["state"], written["provenance"]) == ("sweep", "succeeded", "simulated")
    intents = [each for each in done.run.journal.read() if each["event"] == "intent"]
    assert {"instance", "image", "group", "profile", "role", "volume"} <= {each["kind"] for each in intents}
    assert read_run(tmp_path / maker.names.run).entries[-1]["event"] == "swept"
    again = sweeping.sweep(target, runs=tmp_path, act=True)
    assert again.plan.removals == ()
    assert again.run is None


def test_a_live_run_is_not_touched(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    maker = Maker(target, new_id(), me)
    maker.group()
    maker.volume()
    run = killed(tmp_path, maker.names.run)
    before = counts(lab)
    with run.lock():
        found = sweeping.sweep(target, runs=tmp_path, act=True)
        assert found.plan.removals == ()
        assert {each.why for each in found.plan.left if each.run == run.id} == {"its run is being worked on"}
    assert counts(lab) == before
    assert len(sweeping.sweep(target, runs=tmp_path, act=True).outcomes) == 2


def test_a_run_that_comes_alive_between_looking_and_removing_is_left(
    lab: Lab, target: Target, me: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Maker(target, new_id(), me)
    maker.volume()
    run = killed(tmp_path, maker.names.run)
    before = counts(lab)
    real = read_runs
    with run.lock():
        # It was read just before it was locked.
        stale = {name: dataclasses.replace(each, live=False, state="killed") for name, each in real(tmp_path).items()}
        monkeypatch.setattr(sweeping, "read_runs", lambda _: stale)
        found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert found.outcomes == ()
    assert counts(lab) == before
    monkeypatch.undo()
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    assert len(sweeping.sweep(target, runs=tmp_path, act=True).outcomes) == 1


def test_a_finished_image_stays_although_its_run_was_killed(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    maker = Maker(target, new_id(), me)
    instance = maker.instance()
    image = maker.image(instance, available=True)
    call = "ec2.ModifyImageAttribute"
    lines = [{"event": "intent", "action": call, "id": image}, {"event": "done", "action": call}]
    run = Run.create(tmp_path, maker.names.run)
    for line in lines:
        event = line.pop("event")
        run.journal.write(event, **line)
    run.write_manifest({"schema": 1, "state": "running", "target": {"region": REGION}})
    before = counts(lab)
    sweeping.sweep(target, runs=tmp_path, act=True)
    after = counts(lab)
    assert (after["images"], after["snapshots"]) == (before["images"], before["snapshots"])
    assert after["instances"] == before["instances"] - 1
    target.client("ec2").deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)


def test_an_image_that_somebody_has_launched_stays(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    maker = Maker(target, new_id(), me)
    instance = maker.instance()
    image = maker.image(instance, available=True)
    ec2 = target.client("ec2")
    started = ec2.run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)["Instances"][0]
    killed(tmp_path, maker.names.run, image=image)
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert ec2.describe_images(ImageIds=[image])["Images"]
    (failed,) = [each for each in found.failed if each.resource.kind == "image"]
    assert "launched from it" in str(failed.error)
    ec2.terminate_instances(InstanceIds=[started["InstanceId"]])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[started["InstanceId"]], WaiterConfig={"Delay": 1})
    sweeping.sweep(target, runs=tmp_path, act=True)
    assert not [each for each in ec2.describe_images(Owners=["self"])["Images"] if each["ImageId"] == image]


def test_a_disabled_image_keeps_its_snapshots(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    maker = Maker(target, new_id(), me)
    image = maker.image(maker.instance(), available=True)
    target.client("ec2").disable_image(ImageId=image)
    killed(tmp_path, maker.names.run, image=image)
    before = counts(lab)
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert {each.resource.kind for each in found.outcomes} == {"instance", "volume", "interface"}
    after = counts(lab)
    assert (after["images"], after["snapshots"]) == (before["images"], before["snapshots"])
    target.client("ec2").deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)


def test_other_peoples_things_survive(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    """All that looks like ours and is not: no tags, some, another owner's, another name, another's snapshot."""
    run_id = new_id()
    maker, bobs = Maker(target, run_id, me), Maker(target, run_id, "bob")
    ec2, iam = target.client("ec2"), target.client("iam")
    tags = {each["Key"]: each["Value"] for each in maker.temporary}
    for dropped in OURS:
        maker.volume(tags=[{"Key": key, "Value": value} for key, value in tags.items() if key != dropped])
    maker.volume(tags=[])
    bobs.volume()
    maker.group(name="web")
    maker.group(name="leptonami-web", tags=[{"Key": "Name", "Value": "x"}])
    iam.create_role(RoleName=f"leptonami-{new_id()}", AssumeRolePolicyDocument="{}")
    iam.create_role(RoleName="leptonami-team", AssumeRolePolicyDocument="{}", Tags=maker.temporary)
    plain = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    spec: Any = [{"ResourceType": "snapshot", "Tags": maker.temporary}]
    # A backup tool that copies a volume's tags.
    ec2.create_snapshot(VolumeId=plain, TagSpecifications=spec)
    killed(tmp_path, run_id)
    before = lab.state(ids=True)
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert found.outcomes == ()
    assert lab.state(ids=True) == before
    assert any(each.owner == "bob" for each in found.plan.left)
    # What has some of our tags, or has them where no run puts them, is named.
    odd = [each.resource.kind for each in found.plan.left if "not as a run sets them" in each.why]
    assert odd.count("volume") == len(OURS)
    assert {"snapshot", "group"} <= set(odd)
    named = sweeping.sweep(target, runs=tmp_path, owners=["bob"], act=True)
    assert [each.resource.kind for each in named.outcomes] == ["volume"]


def test_a_failure_is_told_and_does_not_keep_the_others(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    before = counts(lab)
    maker = Maker(target, new_id(), me)
    maker.identity()
    maker.volume()
    maker.group()
    killed(tmp_path, maker.names.run)
    fault = {"kind": "error", "operation": "ec2.DeleteVolume", "code": "UnauthorizedOperation", "status": 403}
    lab.set_faults(fault)
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert [each.resource.kind for each in found.failed] == ["volume"]
    assert found.run is not None
    assert json.loads(found.run.manifest_path.read_text())["state"] == "failed"
    lab.set_faults()
    assert counts(lab)["volumes"] == before["volumes"] + 1
    assert not sweeping.sweep(target, runs=tmp_path, act=True).failed
    assert counts(lab) == before


def test_an_instance_that_does_not_go_is_not_waited_for_by_others(
    lab: Lab, target: Target, me: str, tmp_path: Path
) -> None:
    before = counts(lab)
    maker = Maker(target, new_id(), me)
    group = maker.group()
    first, second = maker.instance(group), maker.instance(group)
    ec2 = target.client("ec2")
    ec2.modify_instance_attribute(InstanceId=first, DisableApiTermination={"Value": True})
    killed(tmp_path, maker.names.run)
    begun = time.monotonic()
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert time.monotonic() - begun < 60
    failed = {each.resource.id for each in found.failed}
    assert first in failed
    assert group in failed
    assert second not in failed
    ec2.modify_instance_attribute(InstanceId=first, DisableApiTermination={"Value": False})
    assert not sweeping.sweep(target, runs=tmp_path, act=True).failed
    assert counts(lab) == before


def test_the_sweep_of_a_crowd_of_faults_ends_clean(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    before = counts(lab)
    maker = Maker(target, new_id(), me)
    group = maker.group()
    maker.identity()
    maker.instance(group)
    maker.volume()
    killed(tmp_path, maker.names.run)
    # An answer that is lost: botocore asks again, and finds nothing there.
    lab.set_faults(
        {"kind": "lost-reply", "operation": "ec2.Delete*", "times": 2},
        {"kind": "lost-reply", "operation": "iam.Delete*", "times": 2},
        {"kind": "throttle", "probability": 0.1, "times": 5},
    )
    found = sweeping.sweep(target, runs=tmp_path, act=True)
    assert not found.failed
    assert counts(lab) == before


def test_every_region_that_is_named_is_swept(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    names = Names(new_id(), "test", me)
    tags: Any = names.tags("builder", {}, temporary=True)
    ec2 = target.client("ec2", "eu-west-1")
    spec: Any = [{"ResourceType": "volume", "Tags": tags}]
    ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1, TagSpecifications=spec)
    killed(tmp_path, names.run)
    assert sweeping.sweep(target, runs=tmp_path).plan.removals == ()
    found = sweeping.sweep(target, runs=tmp_path, regions=[REGION, "eu-west-1"], act=True)
    assert [each.resource.region for each in found.outcomes] == ["eu-west-1"]


def test_credentials_that_may_not_look_end_it(lab: Lab, target: Target, tmp_path: Path) -> None:
    lab.set_faults(
        {"kind": "error", "operation": "ec2.DescribeVolumes", "code": "UnauthorizedOperation", "status": 403}
    )
    with pytest.raises(CredentialsError, match="DescribeVolumes"):
        sweeping.sweep(target, runs=tmp_path, act=True)


def test_commands_of_others_on_the_builder_are_not_ours(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    before = counts(lab)
    maker = Maker(target, new_id(), me)
    profile = maker.identity()
    time.sleep(0.1)  # IAM takes a moment to tell EC2
    instance = maker.instance(profile=profile)
    ssm = target.client("ssm")
    filters: Any = [{"Key": "InstanceIds", "Values": [instance]}]
    target.poll(
        lambda: ssm.describe_instance_information(Filters=filters)["InstanceInformationList"] or None,
        what="the agent",
        timeout=60,
    )
    sent = [
        ssm.send_command(
            InstanceIds=[instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": ["sleep 60"]},
            Comment=comment,
        )["Command"]["CommandId"]
        for comment in (f"leptonami {maker.names.run} 01-settle", "somebody debugs", "leptonami of another run")
    ]
    found = [each for each in collect(target, [REGION]) if each.kind == "command"]
    assert [each.id for each in found] == sent[:1]
    killed(tmp_path, maker.names.run)
    assert not sweeping.sweep(target, runs=tmp_path, act=True).failed
    assert counts(lab) == {**before, "commands": 2}
    for command in sent[1:]:
        ssm.cancel_command(CommandId=command)


@pytest.mark.parametrize("after", ["ec2.CreateSecurityGroup", "ec2.RunInstances", "ssm.SendCommand", "ec2.CreateImage"])
def test_a_build_that_was_killed_is_swept_from_the_command_line(
    lab: Lab, target: Target, tmp_path: Path, after: str
) -> None:
    before = counts(lab)
    write(tmp_path)
    command = [sys.executable, "-m", "leptonami"]
    options = ["--aws", "lab", "--runs", str(tmp_path / "runs")]
    building = subprocess.Popen(
        [*command, "build", str(tmp_path / "plan.yaml"), "-q", *options],
        env={**os.environ, **lab.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lab.reset_calls()
    deadline = time.monotonic() + 60
    while not lab.calls().get(after) and time.monotonic() < deadline and building.poll() is None:
        time.sleep(0.01)
    runner = CliRunner()
    # A copy of the folder of a build that goes on must not be the end of it.
    building.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, building.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # it writes no file any more
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    copied = runner.invoke(cli, ["sweep", "--yes", "--json", "--aws", "lab", "--runs", str(tmp_path / "copy")])
    assert copied.exit_code == 0, copied.output
    assert json.loads(copied.stdout)["removals"] == []
    building.kill()
    building.wait()
    dry = runner.invoke(cli, ["sweep", *options])
    assert dry.exit_code == 0, dry.output
    assert "--yes" in dry.stderr
    assert all(len(line) <= 80 for line in dry.stdout.splitlines())
    done = runner.invoke(cli, ["sweep", "--yes", "--json", *options])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["provenance"] == "simulated"
    after_sweep = counts(lab)
    finished = read_runs(tmp_path / "runs")
    images = sum(len(each.finished) for each in finished.values())
    assert {name: after_sweep[name] - before[name] for name in before} == {
        name: images if name in {"images", "snapshots"} else 0 for name in before
    }
    clean = runner.invoke(cli, ["sweep", "--yes", "-q", *options])
    assert clean.exit_code == 0
    assert "nothing to sweep" in clean.stderr


def test_the_command_says_what_is_left_and_fails(
    lab: Lab, target: Target, me: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Maker(target, new_id(), me)
    maker.volume()
    killed(tmp_path, maker.names.run)
    lab.set_faults({"kind": "error", "operation": "ec2.DeleteVolume", "code": "OperationNotPermitted"})
    result = CliRunner().invoke(cli, ["sweep", "--yes", "-q", "--aws", "lab", "--runs", str(tmp_path)])
    assert isinstance(result.exception, LeptonamiError)
    assert result.exception.exit_code == 1
    assert "failed" in result.stdout
    lab.set_faults()
    sweeping.sweep(target, runs=tmp_path, act=True)


def test_an_interrupted_sweep_says_so_and_goes_on(
    lab: Lab, target: Target, me: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Maker(target, new_id(), me)
    maker.volume()
    maker.group()
    killed(tmp_path, maker.names.run)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Remover, "group", interrupt)
        with pytest.raises(Interrupted, match="sweeping again goes on") as caught:
            sweeping.sweep(target, runs=tmp_path, act=True)
    assert caught.value.exit_code == 130
    (own,) = (each for each in read_runs(tmp_path).values() if each.kind == "sweep")
    assert own.state == "interrupted"
    (first, *_) = (each["id"] for each in own.entries if each.get("event") == "intent")
    assert first.startswith("vol-")
    assert [each.resource.kind for each in sweeping.sweep(target, runs=tmp_path, act=True).outcomes] == ["group"]


@pytest.mark.parametrize(
    "command", [["sweep"], ["retire", "test", "--keep", "1"], ["publish", "ami-0123456789abcdef0"]]
)
def test_a_job_that_is_stopped_is_interrupted(command: list[str], tmp_path: Path) -> None:
    """CI sends SIGTERM to a job that it stops, a terminal that is closed SIGHUP."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        CliRunner().invoke(cli, [*command, "--runs", str(tmp_path), "--aws", "nowhere"])
        assert {signal.getsignal(number) for number in before} == {signal.default_int_handler}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_run_that_was_kept_is_swept_with_kept(lab: Lab, target: Target, me: str, tmp_path: Path) -> None:
    maker = Maker(target, new_id(), me)
    maker.volume()
    killed(tmp_path, maker.names.run, state="failed", removed=[{"what": "the builder", "outcome": "kept"}])
    runner, options = CliRunner(), ["--aws", "lab", "--runs", str(tmp_path)]
    first = runner.invoke(cli, ["sweep", "--yes", "-q", *options])
    assert "kept on purpose" in first.stdout.replace("\n", " ")
    second = runner.invoke(cli, ["sweep", "--yes", "--kept", "--json", *options])
    assert [each["outcome"] for each in json.loads(second.stdout)["removals"]] == ["removed"]


def test_where_to_look(lab: Lab, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def places(*regions: str, others: tuple[str, ...] = ()) -> tuple[str, ...]:
        opened, found = open_where("lab", profile=None, regions=regions, others=others)
        opened.close()
        assert opened.region == found[0]
        return found

    assert places(others=("eu-west-1", REGION)) == (REGION, "eu-west-1"), "the environment's comes first"
    assert places("eu-west-1", "eu-west-1", others=(REGION,)) == ("eu-west-1",), "only what was asked for"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert places(others=("eu-west-1",)) == ("eu-west-1",)
    with pytest.raises(LeptonamiError, match="no region"):
        places()
    with pytest.raises(LeptonamiError, match="unknown AWS region"):
        places(others=("eu-west-1", "nowhere"))


def test_a_region_that_is_none_is_refused(lab: Lab, target: Target, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["sweep", "--aws", "lab", "--region", "us-wset-2", "--runs", str(tmp_path)])
    assert isinstance(result.exception, LeptonamiError)
    assert result.exception.exit_code == 2
