"""What EBS says of a trial's volume, and how many of its kind there can have been."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from leptonami.bench import report
from leptonami.bench.eks import asking, requests, volumes
from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Trial, Value
from leptonami.bench.results import Results

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "restored"), [({"FastRestored": True}, True), ({"FastRestored": False}, False), ({}, False)]
)
def test_a_volume_says_whether_it_was_restored_fast(told: dict[str, Any], restored: bool) -> None:
    found = volumes.of_volume({"VolumeType": "gp3", "Size": 100, "Iops": 3000, **told})
    assert found == {"volume type": "gp3", "volume GiB": 100, "volume IOPS": 3000, "fast restored": restored}


def restores(state: str = "enabled", hours: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"AvailabilityZone": "us-west-2b", "State": "disabled"},
        {"AvailabilityZone": "us-west-2a", "State": state, "EnabledTime": NOW - timedelta(hours=hours)},
    ]


# A snapshot of 128 GiB has 8 credits an hour: https://docs.aws.amazon.com/ebs/latest/userguide/volume-creation-credits.html
@pytest.mark.parametrize(
    ("gib", "hours", "credits"), [(128, 0.5, 4.0), (128, 9, 8.0), (20, 0.5, 5.0), (4096, 2, 0.5), (4096, 9, 1.0)]
)
def test_credits_fill_by_the_snapshots_size_up_to_the_bucket(gib: int, hours: float, credits: float) -> None:
    found = volumes.of_restore(restores(hours=hours), "us-west-2a", gib, NOW)
    assert found == {"fast snapshot restore": "enabled", "fast snapshot restore credits at most": credits}


def test_where_it_is_not_enabled_there_are_no_credits() -> None:
    assert volumes.of_restore(restores("optimizing"), "us-west-2a", 20, NOW) == {"fast snapshot restore": "optimizing"}
    assert volumes.of_restore(restores(), "us-west-2c", 20, NOW) == {"fast snapshot restore": "disabled"}


def asked(**restored: bool) -> dict[str, Any]:
    """Ask for the surroundings of an instance with 500 GiB volumes from a snapshot of 128 GiB, restored fast or not."""
    client = SimpleNamespace(describe_volumes="volumes", describe_fast_snapshot_restores="restores")
    answers = {
        "volumes": {
            # In any order.
            "Volumes": [
                {"VolumeId": name, "VolumeType": "gp3", "Size": 500, "FastRestored": fast}
                for name, fast in reversed(restored.items())
            ]
        },
        "restores": {"FastSnapshotRestores": restores(hours=2_000)},
    }
    account: Any = SimpleNamespace(
        zone="us-west-2a",
        accelerator=lambda kind: {"m7i.large": "none"}[kind],
        eks=SimpleNamespace(volume=SimpleNamespace(size_gib=500)),
        target=SimpleNamespace(client=lambda _: client, call=lambda what, **_: answers[what]),
    )
    machine = {
        "InstanceType": "m7i.large",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [
            {"DeviceName": device, "Ebs": {"VolumeId": name}}
            for device, name in zip(("/dev/xvda", requests.PRISTINE), restored, strict=False)
        ],
    }
    ami = requests.Ami("ami-1", "x", "x86_64", "/dev/xvda", "snap-1", 128, {})
    return dict(asking.surroundings(account, machine, ami))


@pytest.mark.parametrize(
    ("restored", "fast"),
    [
        ({"vol-1": True}, True),
        ({"vol-1": True, "vol-2": True}, True),
        ({"vol-1": True, "vol-2": False}, False),
        ({"vol-1": False, "vol-2": True}, False),
    ],
)
def test_a_trial_was_restored_fast_if_all_its_volumes_were_and_credits_are_the_snapshots(
    restored: dict[str, bool], fast: bool
) -> None:
    found = asked(**restored)
    assert (found["volume GiB"], found["fast restored"]) == (500, fast)
    assert found["fast snapshot restore credits at most"] == 8.0


def test_a_trial_whose_volume_was_not_restored_fast_is_a_problem_of_its_variant() -> None:
    variants = [
        {"name": name, "kind": kind, "ami": f"ami-0000000{number}"}
        for number, (name, kind) in enumerate((("plain", "unpacked"), ("fast", "fast-snapshot-restore")))
    ]
    wanted = Experiment.model_validate(
        {
            "schema": 1,
            "name": "fast",
            "driver": "eks",
            "variants": variants,
            "images": [{"name": "web", "ref": "docker.io/library/busybox:1.36"}],
            "instance_types": ["m7i.large"],
            "trials": 2,
            "seed": 1,
            "timeout": "3m",
            "smallest": {"seconds": 5},
            "eks": {"cluster": "c", "region": "us-west-2", "subnets": ["subnet-00000001"], "instance_profile": "bench"},
        }
    )
    told: list[dict[str, Value]] = [{"fast restored": True}, {"fast restored": False}, {}]
    trials = tuple(
        Trial(number, 1, variant, "m7i.large", "web", outcome="ok", conditions=conditions)
        for number, (variant, conditions) in enumerate((v, c) for v in ("plain", "fast") for c in told)
    )
    found = report.problems(Results("20261126-080000-abcdef", wanted, "eks", "simulated", trials=trials))
    assert [each.split(":")[0] for each in found if "was not restored fast" in each] == [
        "trial 4 (fast)",
        "trial 5 (fast)",
    ]
