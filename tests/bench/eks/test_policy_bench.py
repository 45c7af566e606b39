"""The policy of an experiment, enforced in the lab: with it the driver runs; what a part of it is for, needs that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rehearsal import Stage, kill_in_first_trial, place_of
from test_policy_lab import ACCOUNT, open_as

from leptonami.bench.experiment import Experiment
from leptonami.bench.policy import for_experiment
from leptonami.errors import LeptonamiError
from leptonami.lifecycle.sweep import sweep
from leptonami.statements import Purpose, Statement
from leptonami.target import connect

pytestmark = pytest.mark.usefixtures("nothing_stays")


def experiment_of(stage: Stage, by: str) -> Experiment:
    """Give an experiment with a second volume, so that its snapshot is asked about too."""
    variant = {"name": "prefetched", "kind": "unpacked", "ami": stage.image("ubuntu-eks", "1.33", "amd64")}
    return stage.experiment(variant, eks={"by": by})


def statements(experiment: Experiment, *without: str, purpose: Purpose = "bench") -> tuple[Statement, ...]:
    chosen = for_experiment(experiment, account=ACCOUNT, purposes=[purpose]).statements
    assert set(without) <= {each.sid for each in chosen}, f"no statement {without}"
    return tuple(each for each in chosen if each.sid not in without)


@pytest.mark.parametrize("by", ["instance", "nodegroup"])
def test_with_the_policy_an_experiment_runs_and_what_a_kill_left_is_swept(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    experiment = experiment_of(stage, by)
    with monkeypatch.context() as patch, open_as(stage.lab, statements(experiment), patch):
        (trial,) = stage.run(experiment, place_of(tmp_path)).trials
    assert (trial.outcome, trial.reason) == ("ok", "")
    place = kill_in_first_trial(stage, experiment, tmp_path / "killed")
    with connect("lab", region="us-west-2") as target:
        me = target.identity().name
    with (
        monkeypatch.context() as patch,
        open_as(stage.lab, statements(experiment, purpose="sweep"), patch) as target,
    ):
        done = sweep(target, runs=tmp_path / "killed", owners=[me], act=True)
    assert done.plan.runs == (place.id,)
    assert not done.failed


# Statement -> what is refused: to the whole run, to the trial, to its clean-up, or to its questions to the node.
REFUSED = {
    "instance": {
        "BenchLook": "DescribeSubnets",
        "BenchCluster": "DescribeCluster",
        "NodeImages": "ec2:RunInstances on resource: .*:image/ami-",
        "NodeSnapshots": "ec2:RunInstances on resource: .*:snapshot/snap-",
        "NodeSubnet": "ec2:RunInstances on resource: .*:subnet/subnet-",
        "NodeFirewall": "ec2:RunInstances on resource: .*:security-group/sg-",
        "NodeInstance": "ec2:RunInstances on resource: .*:instance/",
        "NodeVolume": "ec2:RunInstances on resource: .*:volume/",
        "NodeInterface": "ec2:RunInstances on resource: .*:network-interface/",
        "TagNodes": "ec2:CreateTags on resource",
        "PassNodeRole": "iam:PassRole on resource: .*:role/bench",
        "EndNodes": "its clean-up failed: .*ec2:TerminateInstances",
        "ScriptDocument": "ssm:SendCommand on resource: .*document/AWS-RunShellScript",
        "ScriptOnNode": "ssm:SendCommand on resource: .*:instance/i-",
    },
    "nodegroup": {
        "UseTemplate": "ec2:RunInstances on resource: .*:launch-template/lt-",
        "NodeProfile": "iam:GetInstanceProfile on resource: .*:instance-profile/bench",
        "NodeRole": "iam:GetRole on resource: .*:role/bench",
        "NewTemplate": "ec2:CreateLaunchTemplate on resource",
        "NewNodeGroup": "eks:CreateNodegroup on resource: .*:cluster/leptonami",
        "TagNodeGroup": "eks:TagResource on resource: .*:nodegroup/leptonami/leptonami-",
        "ScaleNodeGroup": "eks:DescribeNodegroup on resource",
        "EndNodeGroup": "eks:DeleteNodegroup on resource",
        "EndTemplate": "ec2:DeleteLaunchTemplate on resource",
    },
}


def test_every_statement_has_its_test(stage: Stage) -> None:
    both = {each.sid for by in REFUSED for each in statements(experiment_of(stage, by))}
    # Only after a time-out or Ctrl-C, while something runs on a node.
    assert both - {"CancelScript"} == {*REFUSED["instance"], *REFUSED["nodegroup"]}


@pytest.mark.parametrize(("by", "sid"), [(by, sid) for by, sids in REFUSED.items() for sid in sids])
def test_without_one_statement_that_part_is_refused(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, sid: str
) -> None:
    experiment, place = experiment_of(stage, by), place_of(tmp_path)
    with monkeypatch.context() as patch, open_as(stage.lab, statements(experiment, sid), patch) as target:
        me = target.identity().name
        try:
            (trial,) = stage.run(experiment, place).trials
            told = f"{trial.reason} {trial.conditions.get('the node could not be asked', '')}"
        except LeptonamiError as error:
            told = f"{error} {error.hint}"
    assert re.search(REFUSED[by][sid], told), told
    # Whoever may, takes what could not be removed.
    if set(stage.left()) - {"commands"}:
        with connect("lab", region="us-west-2") as target:
            assert not sweep(target, runs=tmp_path, owners=[me], act=True).failed
