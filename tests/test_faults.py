"""A build under faults of AWS: it succeeds, makes nothing twice, and stays within a bound of calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small import build_here

from leptonami.lab import Lab

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import crashes
import faults

# Two short steps and the verification: AWS is called as with the steps that we ship, which cost ten times as much.
BODY = "#!/bin/bash\necho ran\n"


@pytest.fixture(scope="module", autouse=True)
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("a.sh", "b.sh"):
        (folder / name).write_text(BODY)
    steps = ", ".join(f"{{script: {{path: {folder / name}}}}}" for name in ("a.sh", "b.sh"))
    plan = crashes.PLAN.replace("settle, versions, hygiene", steps)
    assert plan != crashes.PLAN
    killable = crashes.Harness.build

    def build(lab: Lab, folder: Path) -> tuple[int, str, float]:
        (folder / "faults.yaml").write_text(plan)
        return *build_here(lab.environment, folder / "faults.yaml", folder / "runs"), 0.0

    def build_or_go_on(tried: crashes.Harness, run: str, *, resume: bool = False) -> tuple[int, str]:
        if tried.proxy.point:
            return killable(tried, run, resume=resume)
        environment = {**tried.lab.environment, "AWS_ENDPOINT_URL": tried.proxy.url}
        return build_here(environment, tried.plan, tried.folder / "runs", run_id=run, resume=resume)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(crashes, "PLAN", plan)
        # Only what is to be killed needs a process of its own.
        patched.setattr(faults, "build", build)
        patched.setattr(crashes.Harness, "build", build_or_go_on)
        yield


@pytest.fixture(scope="module")
def peace(short: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return faults.trial("none", 1, tmp_path_factory.mktemp("peace"))


@pytest.mark.parametrize("fault", [each for each in faults.FAULTS if each != "none"])
def test_a_build_survives(fault: str, peace: dict[str, Any], tmp_path: Path) -> None:
    assert peace["ok"], peace
    row = faults.trial(fault, 1, tmp_path)
    assert row["ok"], row
    assert row["calls"] <= faults.BOUND * peace["calls"]


@pytest.mark.parametrize(
    ("fault", "point"),
    [
        ("10 % of answers lost", ("RunInstances", 1)),
        ("10 % reset before", ("SendCommand", 2)),
        ("eventual consistency", ("RunInstances", 1)),
        ("stale lists", ("SendCommand", 2)),
        ("stale lists", ("CreateImage", 1)),
    ],
    ids=str,
)
def test_a_killed_build_goes_on_under_a_fault(fault: str, point: tuple[str, int], peace: dict[str, Any]) -> None:
    row = faults.killed(fault, point, 1)
    assert row["ok"], row
    assert row["calls"] <= faults.BOUND_KILLED * peace["calls"]
