"""Experiment files: what is wrong is said with its line; the order is interleaved, shuffled and the same every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fakedriver import experiment

from leptonami import datafiles
from leptonami.bench import cost
from leptonami.bench.drivers import DRIVERS
from leptonami.bench.experiment import Experiment, json_schema, load
from leptonami.bench.model import Bake, Trial
from leptonami.bench.order import order
from leptonami.errors import InputError

ROOT = Path(__file__).parent.parent.parent
SHIPPED = sorted(datafiles.path("experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=../experiment.schema.json\n")
    found = load(path.stem)
    assert found == load(path)
    assert found.name == path.stem
    assert found.driver in DRIVERS
    assert found.trials >= (6 if path.stem.endswith("-quick") else 15)
    assert Experiment.model_validate(json.loads(json.dumps(found.as_dict()))) == found


def test_shipped_experiments_fit_the_schema() -> None:
    import jsonschema
    import yaml

    schema = json.loads(datafiles.path("experiment.schema.json").read_text())
    assert schema == json_schema()
    for path in SHIPPED:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def mistaken(tmp_path: Path, old: str, new: str) -> str:
    text = (datafiles.path("experiments") / "process.yaml").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load(path)
    return str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: unpacked", "kind: unpaked", "variants"),
        ("smallest: {seconds: 0.5}", "smallest: {seconds: 0.5, ratio: 1.1}", "either `seconds` or `ratio`"),
        ("timeout: 3m", "timeout: 3", "has no unit"),
        ("timeout: 3m", "time-out: 3m", "unknown key 'time-out'"),
        ("baseline: cold", "baseline: could", "did you mean cold?"),
        ("name: medium", "name: small", "a second image small"),
        ("trials: 15", "trials: 0", "at least 1"),
        ("seed: 20261126", "phase: lunch\nseed: 1", "did you mean launch?"),
        ("kind: no-images", "kind: init-rate", "initialization_rate"),
        ("driver: process", "driver: eks", "the driver eks needs `eks`"),
        ("unpacked_mib: 100", "ref: nginx:1.27\n    unpacked_mib: 100", "either `ref` or `unpacked_mib`"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in mistaken(tmp_path, old, new)


def test_blocks_hold_every_variant_once_and_are_shuffled() -> None:
    trials = order(experiment(trials=20, local={"bandwidth_mbit": [200, 1000]}))
    assert [each.number for each in trials] == list(range(1, len(trials) + 1))
    assert len(trials) == 3 * 2 * 21
    firsts = Counter()
    for block in range(1, 22):
        mine = [each for each in trials if each.block == block]
        assert len({(each.variant, each.bandwidth_mbit) for each in mine}) == len(mine) == 6
        assert {each.warmup for each in mine} == {block == 1}
        firsts[mine[0].variant] += 1
    assert len(firsts) == 3  # not always the same one first


def test_the_order_is_the_same_every_time_and_more_trials_leave_it_as_it_was() -> None:
    few, many = order(experiment(trials=3)), order(experiment(trials=9))
    assert many[: len(few)] == few
    assert order(experiment(trials=3)) == few
    assert order(experiment(trials=3, seed=8)) != few
    assert experiment(trials=3).digest == experiment(trials=9).digest
    assert experiment(seed=8).digest != experiment().digest


def eks(**changes: object) -> Experiment:
    return load(datafiles.path("experiments/eks.yaml")).model_copy(update=changes)


def test_the_cost_of_eks_is_estimated_and_what_is_not_known_is_said() -> None:
    found = eks()
    assert found.eks is not None
    estimate = cost.estimate(found)
    launches = len(order(found))
    assert estimate.hours == round(launches * cost.ASSUMED_SECONDS / 3600, 2)
    hourly = cost.prices()["instance_hour"][found.instance_types[0]]
    assert estimate.usd >= hourly * launches * cost.ASSUMED_SECONDS / 3600 * 0.99
    kinds = {each.kind for each in found.variants}
    assert "init-rate" in kinds
    assert "the provisioned rate of volume initialisation" in estimate.unknown
    assert any("Fast Snapshot Restore" in each for each in estimate.assumptions)
    assert estimate.words().startswith("at least USD ")
    unknown = cost.estimate(eks(instance_types=["u-6tb1.metal"]))
    assert any("u-6tb1.metal" in each for each in unknown.unknown)
    assert cost.estimate(experiment()).words() == "about USD 0.00"


def test_a_launch_is_billed_for_a_minute_at_least() -> None:
    volume = eks().eks.volume  # type: ignore[union-attr]
    assert cost.launch_usd("m7i.large", 5, volume, 100) == cost.launch_usd("m7i.large", 60, volume, 100)
    assert cost.launch_usd("no.such", 5, volume, 100) is None
    # An hour of 730 of a month's USD 0.08 for each GiB.
    one, two = (cost.launch_usd("m7i.large", 3600, volume, gib) or 0 for gib in (100, 200))
    assert two - one == pytest.approx(100 * 0.08 / 730)


def test_a_second_volume_is_estimated_where_there_is_a_first_read() -> None:
    found = eks(variants=[each for each in eks().variants if each.kind in {"no-images", "unpacked"}], baseline=None)
    assert found.eks is not None
    without = found.model_copy(update={"eks": found.eks.model_copy(update={"first_read": False})})
    launches = sum(each.variant == found.variants[1].name for each in order(found))
    more = launches * found.eks.volume.size_gib * 0.08 / 730 * cost.ASSUMED_SECONDS / 3600
    assert cost.estimate(found).usd - cost.estimate(without).usd == pytest.approx(more, abs=0.0101)
    assert more > 0.0101


def test_what_was_spent_is_counted() -> None:
    plain = eks(variants=[each for each in eks().variants if each.kind in {"no-images", "unpacked"}])
    items = [Trial(1, 1, "a", cost=0.5), Trial(2, 1, "a"), Bake("a", "ami", cost=0.25)]
    spent = cost.count(plain, items)
    assert (spent.usd, spent.unknown) == (0.75, ("what 1 launches or bakes cost",))
    assert cost.count(plain, items[:1]).words() == "about USD 0.50"
    # Billed beside the launches.
    spent = cost.count(eks(), items[:1])
    assert [each.partition(",")[0] for each in spent.unknown] == [
        "Fast Snapshot Restore",
        "the provisioned rate of volume initialisation",
    ]
    assert spent.words().startswith("at least USD 0.50; not known: Fast Snapshot Restore, ")
    assert cost.count(experiment(), items).usd == 0.0


if __name__ == "__main__":
    (ROOT / "data" / "experiment.schema.json").write_text(
        json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    )
