"""The driver `eks` from end to end against the lab: AWS, Kubernetes and a fleet, all simulated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import boto3
import pytest
from rehearsal import Stage, place_of

from leptonami.bench import report
from leptonami.bench.eks import driver
from leptonami.bench.eks.instance import Single
from leptonami.bench.eks.waiting import Watch
from leptonami.bench.experiment import Experiment
from leptonami.errors import LeptonamiError
from leptonami.lab.fleet.gpu.manifests import device_plugin

pytestmark = pytest.mark.usefixtures("nothing_stays")


def test_an_instance_joins_runs_a_pod_and_is_asked_by_everybody(stage: Stage, tmp_path: Path) -> None:
    found = stage.run(stage.experiment(), place_of(tmp_path))
    (trial,) = found.trials
    assert (trial.outcome, trial.reason) == ("ok", "")
    assert found.provenance == "simulated"
    assert {each.provenance for each in trial.marks} == {"simulated"}
    marks = {each.name for each in trial.marks}
    assert marks >= {
        *("requested", "pending", "running", "registered", "ready", "pod-created", "scheduled", "sandbox"),
        *("pulling", "pulled", "container-created", "started", "first-output"),
    }
    assert {each.clock for each in trial.marks} == {"host", "aws", "api", "node"}
    # One machine: the truth is that no clock is ahead of another.
    assert {each.clock for each in trial.offsets} == {"aws", "api", "node"}
    assert all(abs(each.seconds) <= each.uncertainty + 1e-3 for each in trial.offsets)
    assert "first output seen in the log" in {each.clock: each.how for each in trial.offsets}["node"]
    assert ("pod-created", "host") in {(each.name, each.clock) for each in trial.marks}
    launch = trial.timeline.phases()["launch"]
    assert 0 < launch.seconds < 180
    assert trial.cost is not None
    said = trial.conditions
    assert (said["volume type"], said["volume GiB"], said["fast snapshot restore"]) == ("gp3", 100, "disabled")
    assert said["accelerator"] == "none"
    assert "the node could not be asked" not in said


def test_a_pre_fetched_variant_has_a_second_volume_at_its_rate_and_gpus_are_not_waited_for(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at: dict[str, float] = {}
    billed: list[tuple[float, int]] = []
    begin, ask, usd = Single.ask, driver.EksDriver.ask, driver.launch_usd

    def timed_begin(*arguments: Any) -> Any:
        at["begun"] = time.monotonic()
        return begin(*arguments)

    def timed_ask(*arguments: Any) -> Any:
        told = ask(*arguments)
        at["told"] = time.monotonic()
        return told

    def counted(kind: str, seconds: float, volume: Any, gib: int) -> float | None:
        billed.append((seconds, gib))
        return usd(kind, seconds, volume, gib)

    monkeypatch.setattr(Single, "ask", timed_begin)
    monkeypatch.setattr(driver.EksDriver, "ask", timed_ask)
    monkeypatch.setattr(driver, "launch_usd", counted)
    ami = stage.image("ubuntu-eks", "1.33", "amd64")
    variant = {"name": "rate", "kind": "init-rate", "ami": ami, "initialization_rate": 200}
    place = place_of(tmp_path)
    (trial,) = stage.run(stage.experiment(variant, instance_types=["g5.xlarge"]), place).trials
    assert trial.outcome == "ok"
    assert trial.conditions["initialization rate MiB/s"] == 200
    assert trial.conditions["volume throughput MiB/s"] == 125
    # Billed until the last answer, with both volumes.
    ((seconds, gib),) = billed
    assert at["begun"] + seconds >= at["told"]
    assert gib == 2 * int(trial.conditions["volume GiB"])
    # The lab's instances have no block devices: what cannot be read is a condition, and the launch counts.
    assert "the node could not be asked" in trial.conditions
    assert "no device plugin" in str(trial.conditions["gpu"])


def test_node_groups_are_made_once_scaled_and_removed(stage: Stage, tmp_path: Path) -> None:
    place = place_of(tmp_path)
    found = stage.run(stage.experiment(eks={"by": "nodegroup"}, trials=2), place)
    assert [each.reason for each in found.trials] == ["", ""]
    requested = [each for each in found.trials[0].marks if each.name == "requested"]
    assert {each.source for each in requested} == {
        "eks:UpdateNodegroupConfig",
        "autoscaling:DescribeScalingActivities",
    }
    intents = [each["name"] for each in place.journal.read() if each["event"] == "intent"]
    assert intents == [f"leptonami-{place.id}-1-1"]


def over_once(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Let a trial's time be over once it waits for something with one of these words, however long that takes here."""
    wait = Watch.wait

    def waited(watch: Watch, what: str) -> None:
        if any(each in what for each in words):
            watch.deadline = 0.0
        wait(watch, what)

    monkeypatch.setattr(Watch, "wait", waited)


def test_a_node_that_never_joins_times_out_and_goes(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.lab.set_fleet_faults({"group": "*", "fault": "never-joins"})
    over_once(monkeypatch, "to join the cluster")
    (trial,) = stage.run(stage.experiment(eks={"by": "nodegroup"}), place_of(tmp_path)).trials
    assert trial.outcome == "timed-out"
    assert "to join the cluster" in trial.reason
    # What it had come to is kept, with what it has cost.
    assert "requested" in {each.name for each in trial.marks}
    assert trial.cost is not None


def test_an_image_that_is_not_given_says_so(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.lab.set_fleet_faults({"group": "*", "fault": "pull-denied"})
    over_once(monkeypatch, "ErrImagePull", "ImagePullBackOff")
    (trial,) = stage.run(stage.experiment(), place_of(tmp_path)).trials
    assert trial.outcome == "timed-out"
    assert "ErrImagePull" in trial.reason or "ImagePullBackOff" in trial.reason


def test_without_capacity_the_trial_fails_with_the_reason(stage: Stage, tmp_path: Path) -> None:
    stage.lab.set_faults({"kind": "capacity"})
    (trial,) = stage.run(stage.experiment(), place_of(tmp_path)).trials
    assert trial.outcome == "failed"
    assert "InsufficientInstanceCapacity" in trial.reason


def test_another_cluster_than_the_contexts_is_refused(stage: Stage, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        Path(stage.lab.kubeconfig).read_text(encoding="utf-8").replace("https://127.0.0.1:", "https://127.0.0.2:"),
        encoding="utf-8",
    )
    before = os.environ["KUBECONFIG"]
    os.environ["KUBECONFIG"] = str(config)
    try:
        with pytest.raises(LeptonamiError, match="another cluster"):
            stage.run(stage.experiment(), place_of(tmp_path))
    finally:
        os.environ["KUBECONFIG"] = before


def test_variants_do_not_share_a_snapshot_that_is_restored_fast(stage: Stage) -> None:
    fast = {"name": "fast", "kind": "fast-snapshot-restore", "ami": "ami-00000001"}
    with pytest.raises(ValueError, match="would have it too"):
        stage.experiment(fast, {"name": "plain", "kind": "unpacked", "ami": "ami-00000001"})
    rate = {"name": "rate", "kind": "init-rate", "ami": "ami-00000001", "initialization_rate": 100}
    assert isinstance(stage.experiment(fast, rate), Experiment)


def test_fast_snapshot_restore_has_to_be_on_before(stage: Stage, tmp_path: Path) -> None:
    fast = {"name": "fast", "kind": "fast-snapshot-restore", "ami": stage.image("ubuntu-eks", "1.33", "amd64")}
    with pytest.raises(LeptonamiError, match="is disabled") as refused:
        stage.run(stage.experiment(fast), place_of(tmp_path))
    assert "enable-fast-snapshot-restores" in str(refused.value.hint)


def test_fast_snapshot_restore_is_refused_where_a_variant_does_not_name_it(stage: Stage, tmp_path: Path) -> None:
    ec2 = boto3.Session().client("ec2")
    ami = stage.image("ubuntu-eks", "1.33", "amd64")
    (disk, *_) = ec2.describe_images(ImageIds=[ami])["Images"][0]["BlockDeviceMappings"]
    zone = ec2.describe_subnets(SubnetIds=[stage.subnet])["Subnets"][0]["AvailabilityZone"]
    where = {"SourceSnapshotIds": [disk["Ebs"]["SnapshotId"]], "AvailabilityZones": [zone]}
    ec2.enable_fast_snapshot_restores(**where)
    try:
        plain = {"name": "plain", "kind": "unpacked", "ami": ami}
        with pytest.raises(LeptonamiError, match="the variant is to be without it") as refused:
            stage.run(stage.experiment(plain), place_of(tmp_path / "plain"))
        assert "an image of its own" in str(refused.value.hint)
        until = time.monotonic() + 60
        while ec2.describe_fast_snapshot_restores()["FastSnapshotRestores"][0]["State"] != "enabled":
            assert time.monotonic() < until
            time.sleep(0.05)
        fast = {"name": "fast", "kind": "fast-snapshot-restore", "ami": ami}
        found = stage.run(stage.experiment(fast), place_of(tmp_path / "fast"))
        (trial,) = found.trials
        assert (trial.outcome, trial.conditions["fast snapshot restore"]) == ("ok", "enabled")
        # The lab's volumes are never restored fast: as one is without a credit.
        assert trial.conditions["fast restored"] is False
        assert any("was not restored fast" in each for each in report.problems(found))
    finally:
        ec2.disable_fast_snapshot_restores(**where)
        ec2.close()


def kubectl(stage: Stage, *arguments: str, objects: Iterable[dict[str, Any]] = ()) -> None:
    command = [str(Path(sys.executable).with_name("kubectl")), "--kubeconfig", stage.lab.kubeconfig, *arguments]
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}) if objects else None
    subprocess.run(command, input=content, text=True, check=True, capture_output=True)


def test_gpus_are_waited_for_where_a_device_plugin_runs(stage: Stage, tmp_path: Path) -> None:
    objects = list(device_plugin("latest"))
    kubectl(stage, "apply", "-f", "-", objects=objects)
    try:
        variant = {"name": "gpu", "kind": "al2023", "ami": stage.image("al2023", "nvidia", "x86_64", "1.33")}
        experiment = stage.experiment(variant, instance_types=["g5.xlarge"])
        (trial,) = stage.run(experiment, place_of(tmp_path)).trials
    finally:
        kubectl(stage, "delete", "--wait", "-f", "-", objects=objects)
    assert (trial.outcome, trial.reason) == ("ok", "")
    assert (trial.conditions["gpu"], trial.conditions["accelerator"]) == (1, "1 NVIDIA A10G")
    (mark,) = [each for each in trial.marks if each.name == "gpu-allocatable"]
    assert (mark.source.split(",")[0], mark.clock) == ("node.status.allocatable", "host")
    assert "gpu" in trial.timeline.phases()
    # The lab's launches are quicker than the whole seconds that objects tell: then marks cannot be told apart.
    assert all("within the uncertainty" in each for each in trial.timeline.problems())
