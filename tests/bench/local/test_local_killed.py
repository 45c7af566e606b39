"""The command line on real nodes, killed in the middle of a bake and of a trial, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from localnodes import leftovers

from leptonami.bench.local.process import open_driver
from leptonami.bench.model import Setup
from leptonami.bench.results import Results, from_journal
from leptonami.runs import Run

DATA = {
    "schema": 1,
    "name": "killed",
    "driver": "process",
    "variants": [{"name": "cold", "kind": "no-images"}, {"name": "pre", "kind": "unpacked"}],
    "images": [{"name": "tiny", "unpacked_mib": 8, "small_files": 100, "large_files": 2, "layers": 2}],
    "trials": 2,
    "warmup": 0,
    "seed": 1,
    "timeout": "2m",
    "smallest": {"seconds": 0.5},
    # So slow that a cold launch takes some seconds: it is killed in the middle.
    "local": {"bandwidth_mbit": [10], "first_read": False},
}


def begin(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "leptonami", "bench", "run", *arguments, "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_a_bake_and_in_a_trial_it_goes_on_and_nothing_is_twice_or_left(tmp_path: Path) -> None:
    from leptonami.bench.experiment import load

    (tmp_path / "killed.yaml").write_text(yaml.safe_dump(DATA))
    runs = tmp_path / "runs"
    wanted = load(tmp_path / "killed.yaml")
    probe = open_driver(Setup(wanted, "probe", tmp_path)).probe()
    if not probe.possible:
        if os.environ.get("CI"):
            pytest.fail(f"CI must be able to launch nodes: {'; '.join(probe.reasons)}")
        pytest.skip("; ".join(probe.reasons))

    def nodes(pattern: str) -> list[Path]:
        return [each for each in runs.glob(f"*/driver/trials/{pattern}/node.json") if each.stat().st_size]

    def entries() -> list[dict[str, object]]:
        path = next(runs.glob("*/journal.jsonl"))
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    with begin(str(tmp_path / "killed.yaml"), "--runs", str(runs)) as process:
        wait(process, lambda: bool(nodes("bake")))
        process.send_signal(signal.SIGKILL)
    (folder,) = runs.glob("2*")
    run = folder.name
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        seen = sum(each["event"] == "trial-begins" for each in entries())
        with begin("--resume", run, "--runs", str(runs)) as process:
            wait(process, lambda seen=seen: sum(e["event"] == "trial-begins" for e in entries()) > seen)  # type: ignore[misc]
            process.send_signal(how)
            code = process.wait(120)
        assert code == (-9 if how is signal.SIGKILL else 130)
    with begin("--resume", run, "--runs", str(runs)) as process:
        assert process.wait(240) == 0
    found: Results = from_journal(Run.open(runs, run))
    assert found.complete
    begun = [each["number"] for each in entries() if each["event"] == "trial-begins"]
    assert begun == [1, 2, 3, 4]
    assert [each.outcome for each in found.trials] == ["interrupted"] * 3 + ["ok"]
    # Images and bakes were kept until now, and are gone.
    assert not (folder / "driver" / "bakes").exists()
    assert not (folder / "driver" / "images").exists()
    driver = open_driver(Setup(wanted, run, folder))
    assert leftovers(driver) == []  # type: ignore[arg-type]
