"""What a stopped or killed run of the driver `eks` leaves is taken by the run that goes on, or by a sweep."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rehearsal import Stage, kill_in_first_trial, place_of

from leptonami.bench.eks.waiting import Waiting
from leptonami.build.names import Names
from leptonami.errors import Interrupted
from leptonami.lifecycle.known import read_run
from leptonami.lifecycle.sweep import sweep
from leptonami.target import Target, connect

REGION = "us-west-2"
pytestmark = pytest.mark.usefixtures("nothing_stays")


def test_ctrl_c_leaves_nothing_and_the_run_goes_on(stage: Stage, tmp_path: Path) -> None:
    place, experiment = place_of(tmp_path), stage.experiment(eks={"by": "nodegroup"}, trials=2)

    def press(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Waiting, "spoke", press)
        stage.run(experiment, place)
    assert stage.gone() == {}
    assert read_run(place.folder).state == "interrupted"
    found = stage.run(experiment, place)
    assert [each.outcome for each in found.trials] == ["interrupted", "ok"]
    assert (read_run(place.folder).kind, read_run(place.folder).state) == ("bench", "succeeded")


@pytest.mark.parametrize("by", ["instance", "nodegroup"])
def test_a_killed_run_is_cleaned_up_by_the_one_that_goes_on(stage: Stage, tmp_path: Path, by: str) -> None:
    experiment = stage.experiment(eks={"by": by}, trials=2)
    place = kill_in_first_trial(stage, experiment, tmp_path)
    assert [each.outcome for each in stage.run(experiment, place).trials] == ["interrupted", "ok"]


def kinds(found: Any) -> list[str]:
    return [each.resource.kind for each in found]


@pytest.mark.parametrize("by", ["instance", "nodegroup"])
def test_what_a_killed_run_left_is_swept(stage: Stage, tmp_path: Path, by: str) -> None:
    place = kill_in_first_trial(stage, stage.experiment(eks={"by": by}), tmp_path)
    assert read_run(place.folder).state == "killed"
    with connect("lab", region=REGION) as target:
        dry = sweep(target, runs=tmp_path)
        with place.lock():
            assert not sweep(target, runs=tmp_path, act=True).plan.removals, "somebody goes on with it"
        # Another machine knows nothing of the run, and it has not expired.
        assert not sweep(target, runs=tmp_path / "elsewhere", act=True).plan.removals
        done = sweep(target, runs=tmp_path, act=True)
    expected = {"instance": ["instance", "interface", "volume"], "nodegroup": ["nodegroup", "template"]}[by]
    assert kinds(dry.plan.removals) == kinds(done.plan.removals) == expected
    # The group's instance and its disk are not named as something odd.
    assert [each.why for each in done.plan.left if not each.expected] == []
    assert not done.failed
    assert {each.outcome for each in done.outcomes} <= {"removed", "was not there"}


def group_of(stage: Stage, target: Target, names: Names, *, nodes: int = 0) -> str:
    """Make a node group with its template as a run makes them; give its name."""
    ec2, eks, name = target.client("ec2"), target.client("eks"), names.group(1, 1)
    tags = names.tags("bench", {"leptonami:cluster": "leptonami"}, temporary=True)
    data: Any = {"ImageId": stage.image("ubuntu-eks", "1.33", "amd64"), "InstanceType": "m7i.large"}
    spec: Any = [{"ResourceType": "launch-template", "Tags": tags}]
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=spec)
    eks.create_nodegroup(
        clusterName="leptonami",
        nodegroupName=name,
        scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": nodes},
        subnets=[stage.subnet],
        nodeRole="arn:aws:iam::123456789012:role/bench",
        launchTemplate={"name": name},
        tags={each["Key"]: each["Value"] for each in tags},
    )
    return name


def wait(target: Target, name: str, *wanted: str) -> None:
    eks, until = target.client("eks"), time.monotonic() + 60
    while eks.describe_nodegroup(clusterName="leptonami", nodegroupName=name)["nodegroup"]["status"] not in wanted:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_node_groups_of_others_and_templates_without_a_cluster_stay(stage: Stage, tmp_path: Path) -> None:
    begun = datetime.now(UTC) - timedelta(days=3)
    with connect("lab", region=REGION) as target:
        me = target.identity().name
        mine, bobs = (
            Names(f"{begun:%Y%m%d-%H%M%S}-{each}", "rehearsal", owner)
            for each, owner in (("aaaaaa", me), ("bbbbbb", "bob"))
        )
        own, other = group_of(stage, target, mine), group_of(stage, target, bobs)
        odd: Any = [{"ResourceType": "launch-template", "Tags": mine.tags("bench", {}, temporary=True)}]
        data: Any = {"InstanceType": "m7i.large"}
        ec2 = target.client("ec2")
        ec2.create_launch_template(LaunchTemplateName="theirs", LaunchTemplateData=data, TagSpecifications=odd)
        # They have expired, so no folder is needed.
        done = sweep(target, runs=tmp_path, act=True)
        assert [each.resource.name for each in done.plan.removals] == [own, own]
        assert not done.failed
        whys = {each.resource.name: each.why for each in done.plan.left}
        assert whys == {
            other: "it belongs to bob",
            "theirs": "its tags are not as a run sets them: its name is not the one that its run gives",
        }
        ec2.delete_launch_template(LaunchTemplateName="theirs")
        assert kinds(sweep(target, runs=tmp_path, owners=["bob"], act=True).outcomes) == ["nodegroup", "template"]


def test_a_node_group_that_eks_could_not_make_is_made_anew_by_the_run_that_goes_on(
    stage: Stage, tmp_path: Path
) -> None:
    place = place_of(tmp_path)
    stage.lab.set_fleet_faults({"group": "*", "fault": "never-joins"})
    stage.lab.set_patience(1)
    with connect("lab", region=REGION) as target:
        name = group_of(stage, target, Names(place.id, "rehearsal", target.identity().name), nodes=1)
        wait(target, name, "CREATE_FAILED")
    stage.lab.set_patience(45)
    stage.lab.set_fleet_faults()
    found = stage.run(stage.experiment(eks={"by": "nodegroup"}), place)
    assert [each.outcome for each in found.trials] == ["ok"]
    made = [each["action"] for each in place.journal.read() if each["event"] == "intent"]
    assert made == ["eks.CreateNodegroup"]
