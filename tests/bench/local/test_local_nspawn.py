"""A whole node: systemd, cloud-init with user data, containerd, baked and launched. It needs a root file system."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from localnodes import leftovers

from leptonami.bench.experiment import Experiment
from leptonami.bench.local import containerd, nspawn
from leptonami.bench.model import Setup, Timeline, Trial
from leptonami.runs import Journal

DATA = {
    "schema": 1,
    "name": "whole",
    "driver": "nspawn",
    "variants": [{"name": "pre", "kind": "unpacked"}],
    "images": [{"name": "tiny", "unpacked_mib": 8, "small_files": 100, "large_files": 2, "layers": 2}],
    "trials": 1,
    "warmup": 0,
    "seed": 1,
    "timeout": "120s",
    "smallest": {"seconds": 0.5},
}


@pytest.mark.timeout(300)
def test_a_whole_node_is_baked_and_launched(tmp_path: Path) -> None:
    driver = nspawn.open_driver(Setup(Experiment.model_validate(DATA), f"test{os.getpid()}", tmp_path))
    assert isinstance(driver, nspawn.NspawnDriver)
    found = driver.probe()
    if not found.possible:
        pytest.skip("; ".join(found.reasons))
    if not nspawn.cached().exists():
        pytest.skip("there is no root file system yet: the first run of an experiment with nspawn makes it")
    bake = driver.bake(driver.experiment.variants[0], Journal(tmp_path / "journal.jsonl"))
    # Debian 13's containerd shows pins through CRI, so here the product's check of the pin has something to see.
    assert [check.detail.split(", sha256")[0] for check in bake.checks] == [
        "complete, unpacked, linux/amd64, pinned"
    ] * 2
    assert all(check.ok for check in bake.checks)
    trial = Trial(1, 1, "pre", image="tiny", bandwidth_mbit=200)
    try:
        launched = driver.launch(trial, 120)
    finally:
        assert driver.clean(trial) == ()
        assert leftovers(driver) == []
    names = {mark.name for mark in launched.marks}
    assert {"cloud-init-local", "cloud-init", "cloud-init-config", "cloud-init-final", "first-output"} <= names
    assert Timeline(launched.marks).problems() == ()
    assert launched.conditions["registry bytes"] == 0


def test_with_control_groups_of_version_1_alone_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = nspawn.open_driver(Setup(Experiment.model_validate(DATA), "test-groups", tmp_path))
    why = "the node's systemd needs control groups of version 2, and here is only version 1"
    for mode, refused in (("v1", True), ("hybrid", False), ("v2", False)):
        monkeypatch.setattr(nspawn.probe, "cgroups", lambda _, mode=mode: mode)
        found = driver.probe()
        assert found.machine["cgroups"] == mode
        assert (why in found.reasons) is refused
        assert not (refused and found.possible)


def test_its_containerd_is_told_what_the_groups_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, disabled in (("v2", False), ("hybrid", True)):
        monkeypatch.setattr(nspawn.probe, "cgroups", lambda _, mode=mode: mode)
        (tmp_path / mode).mkdir()
        nspawn.NspawnNode.prepare(tmp_path / mode, "leptonami-run-00001")
        cri = tomllib.loads((tmp_path / mode / "containerd.toml").read_text())["plugins"]["io.containerd.grpc.v1.cri"]
        assert cri["disable_cgroup"] is disabled
        assert cri["registry"]["config_path"] == nspawn.CERTS
        assert "instance-id: leptonami-run-00001" in (tmp_path / mode / "seed" / "meta-data").read_text()
    assert (
        tomllib.loads(containerd.config((1, 6, 20)))["plugins"]["io.containerd.grpc.v1.cri"]["disable_cgroup"] is False
    )
