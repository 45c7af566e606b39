"""Real nodes: containerd, runc, CRI and the product's pre-fetch step, cold and pre-fetched, and what stays: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from localnodes import leftovers

from leptonami.bench.drivers import open_driver
from leptonami.bench.experiment import Experiment
from leptonami.bench.local import containerd, disks, nspawn
from leptonami.bench.local.driver import LocalDriver
from leptonami.bench.model import Bake, Launch, Setup, Timeline, Trial
from leptonami.errors import BuildError, InputError, LeptonamiError, Timeout
from leptonami.runs import Journal

KINDS = {"cold": "no-images", "content": "content-only", "pre": "unpacked"}
DATA = {
    "schema": 1,
    "name": "pair",
    "driver": "process",
    "variants": [{"name": name, "kind": kind} for name, kind in KINDS.items()],
    "images": [{"name": "tiny", "unpacked_mib": 8, "small_files": 100, "large_files": 2, "layers": 2}],
    "trials": 1,
    "warmup": 0,
    "seed": 1,
    "timeout": "60s",
    "smallest": {"seconds": 0.5},
}
RUN = f"test{os.getpid()}"


def opened(folder: Path, run: str = RUN, **changes: object) -> LocalDriver:
    folder.mkdir(exist_ok=True)
    experiment = Experiment.model_validate({**DATA, **changes})
    driver = open_driver(experiment.driver, Setup(experiment, run, folder))
    assert isinstance(driver, LocalDriver)
    return driver


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalDriver, dict[str, Bake]]]:
    """Give a driver with both bakes, or skip with the probe's reasons."""
    driver = opened(tmp_path_factory.mktemp("run"))
    probe = driver.probe()
    if not probe.possible:
        if os.environ.get("CI"):
            pytest.fail(f"CI must be able to launch nodes: {'; '.join(probe.reasons)}")
        pytest.skip("; ".join(probe.reasons))
    journal = Journal(driver.setup.folder / "journal.jsonl")
    bakes = {each.name: driver.bake(each, journal) for each in driver.experiment.variants}
    assert [entry["event"] for entry in journal.read()] == ["intent", "done"] * len(KINDS)
    yield driver, bakes
    driver.close()


@pytest.fixture(scope="module", params=["process", "nspawn"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDriver]:
    """Give a driver of each kind with the bake of `cold`; a whole node's needs programs and a root file system."""
    if request.param == "process":
        yield request.getfixturevalue("baked")[0]
        return
    driver = opened(tmp_path_factory.mktemp("whole"), driver="nspawn")
    probe = driver.probe()
    if not probe.possible:
        pytest.skip("; ".join(probe.reasons))
    if not nspawn.cached().exists():
        pytest.skip("there is no root file system yet: the first run of an experiment with nspawn makes it")
    driver.bake(driver.experiment.variant("cold"), Journal(driver.setup.folder / "journal.jsonl"))
    yield driver
    driver.close()


def trial(number: int, variant: str, mbit: int = 200) -> Trial:
    return Trial(number, 1, variant, image="tiny", bandwidth_mbit=mbit)


def launch(driver: LocalDriver, each: Trial, timeout: float = 60) -> Launch:
    try:
        return driver.launch(each, timeout)
    finally:
        assert driver.clean(each) == ()
        assert leftovers(driver) == []


def seconds(found: Launch) -> dict[str, float]:
    return {mark.name: mark.at - found.marks[0].at for mark in found.marks}


def test_a_cold_and_a_prefetched_launch(baked: tuple[LocalDriver, dict[str, Bake]]) -> None:
    driver, bakes = baked
    # The product's own checks, on a real containerd: unpacked, right platform and digest, the pin as CRI has it.
    assert [check.ok for check in bakes["cold"].checks] == [True]
    assert [check.name.rpartition("/")[2] for check in bakes["pre"].checks] == ["pause:1", "app:tiny"]
    assert all(check.ok and "unpacked, linux/" in check.detail for check in bakes["pre"].checks)
    cold = launch(driver, trial(1, "cold"))
    pre = launch(driver, trial(2, "pre"))
    spine = ["requested", "running", "containerd", "sandbox", "pulling", "fetched", "pulled", "container-created"]
    spine += ["started", "first-output"]
    assert [mark.name for mark in cold.marks] == spine
    assert {mark.provenance for mark in cold.marks} == {"measured"}
    times = seconds(cold)
    assert Timeline(cold.marks).problems() == ()
    packed = driver.image(driver.experiment.images[0])[1].packed
    assert cold.conditions["registry bytes"] >= packed
    # What the bucket guarantees, whatever else the machine does.
    assert times["fetched"] - times["pulling"] >= (packed - 2**17) / 25e6
    warm = seconds(pre)
    assert "pulling" not in warm
    assert "first-read" in warm
    assert pre.conditions["registry bytes"] == 0
    assert pre.conditions["first read MiB"] >= 8
    assert pre.conditions["disk in page cache MiB"] in {0, -1}
    assert next(mark.detail for mark in pre.marks if mark.name == "pulled") == "already present"


def test_a_launch_from_content_alone(baked: tuple[LocalDriver, dict[str, Bake]]) -> None:
    """The layers are on the disk and not unpacked: nothing crosses the wire but what containerd asks anew."""
    driver, bakes = baked
    # The product's step pre-fetches the pause image alone, as on stock images.
    assert [(check.name.rpartition("/")[2], check.ok) for check in bakes["content"].checks] == [("pause:1", True)]
    found = launch(driver, trial(5, "content"))
    packed = sum(each.packed for each in driver.image(driver.experiment.images[0]))
    assert found.conditions["registry bytes"] < packed / 10
    assert abs(float(found.conditions["first read MiB"]) - packed / 2**20) < 0.5
    assert Timeline(found.marks).problems() == ()
    assert next(mark.detail for mark in found.marks if mark.name == "pulled") == "already present, not unpacked"


def test_bakes_are_found_again(baked: tuple[LocalDriver, dict[str, Bake]]) -> None:
    driver, bakes = baked
    again = opened(driver.setup.folder)
    journal = Journal(driver.setup.folder / "second.jsonl")
    assert again.bake(again.experiment.variant("pre"), journal) == bakes["pre"]
    assert journal.read() == []


def test_a_registry_that_lacks_the_image_fails_the_trial(baked: tuple[LocalDriver, dict[str, Bake]]) -> None:
    driver, _ = baked
    index = driver.layout.folder / "index.json"
    kept = index.read_text()
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": []}))
    try:
        with pytest.raises(BuildError, match=r"app:tiny.*not found"):
            launch(driver, trial(3, "cold"))
    finally:
        index.write_text(kept)


def test_a_wrong_digest_fails_the_bake(baked: tuple[LocalDriver, dict[str, Bake]], tmp_path: Path) -> None:
    """The product's step meets a registry that gives something else than the list says."""
    driver, _ = baked
    from dataclasses import replace

    pause, app = driver.image(driver.experiment.images[0])
    driver.folder.joinpath("wrong.ext4").unlink(missing_ok=True)
    disk = driver.folder / "wrong.ext4"
    disks.create(disk, 512)
    wrong = replace(app, digest="sha256:" + "0" * 64)
    with pytest.raises(BuildError, match="the list says sha256:0000"):
        driver._fill(disk, (pause, wrong), "unpacked")
    assert driver._clean(driver.folder / "trials" / "bake") == ()
    assert leftovers(driver) == []


def test_a_disk_that_is_too_small_fails_the_bake(baked: tuple[LocalDriver, dict[str, Bake]]) -> None:
    driver, _ = baked
    disk = driver.folder / "small.ext4"
    disks.create(disk, 16)
    with pytest.raises(BuildError, match="take a larger root volume"):
        driver._fill(disk, driver.image(driver.experiment.images[0]), "unpacked")
    assert driver._clean(driver.folder / "trials" / "bake") == ()
    assert leftovers(driver) == []


@pytest.mark.timeout(300)
def test_time_that_is_over(either: LocalDriver) -> None:
    with pytest.raises(Timeout):
        launch(either, trial(4, "cold", mbit=1), timeout=2 if either.name == "process" else 5)


PROGRAM = """
import json, sys
from pathlib import Path
from leptonami.bench.drivers import open_driver
from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Setup, Trial
data, run, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
driver = open_driver(data["driver"], Setup(Experiment.model_validate(data), run, folder))
trial = Trial(9, 1, "cold", image="tiny", bandwidth_mbit=1)
try:
    driver.launch(trial, 60)
except KeyboardInterrupt:
    print("interrupted", driver.clean(trial))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.timeout(300)
def test_nothing_stays_after_a_signal(either: LocalDriver, how: signal.Signals) -> None:
    """In the middle of a pull: Ctrl-C cleans up at once; what a killed driver left goes when the next one starts."""
    driver, data = either, {**DATA, "driver": either.name}
    command = [sys.executable, "-c", PROGRAM, json.dumps(data), driver.setup.run, str(driver.setup.folder)]
    note = driver.folder / "trials" / "00009" / "node.json"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            socket = None
            while time.monotonic() < deadline and not (socket and socket.exists()):
                time.sleep(0.02)
                if note.exists() and (text := note.read_text()):
                    first = json.loads(text)["pid"]
                    whole = driver.name == "nspawn"  # in it a systemd is the first process
                    pids = filter(nspawn._is_systemd, nspawn._descendants(first)) if whole else iter([first])
                    socket = next((Path(f"/proc/{pid}/root") / containerd.SOCKET for pid in pids), None)
            assert socket is not None
            assert socket.exists(), "the node never came up"
            node = json.loads(note.read_text())
            process.send_signal(how)
            said, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    if how is signal.SIGINT:
        assert said.strip() == "interrupted ()"
    else:
        # The kernel has ended the node with its driver; what is left is a folder and perhaps a control group.
        deadline = time.monotonic() + 60
        while containerd._began(node["pid"]) == node["began"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert containerd._began(node["pid"]) != node["began"]
        opened(driver.setup.folder, driver=driver.name)
    assert leftovers(driver) == []


def test_what_it_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no fast-snapshot-restore"):
        opened(tmp_path, variants=[{"name": "x", "kind": "fast-snapshot-restore"}])
    with pytest.raises(LeptonamiError) as caught:
        opened(tmp_path, images=[{"name": "x", "ref": "docker.io/library/busybox:1"}])
    assert caught.value.hint == "say unpacked_mib instead of ref"
