"""A build under faults of AWS: it succeeds, makes nothing twice, and stays within a bound of calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import faults


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
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
