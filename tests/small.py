"""The small plan that the tests build: it takes seconds in the lab, and changes one thing at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from leptonami import plan as plans
from leptonami.build import executor
from leptonami.errors import LeptonamiError
from leptonami.plan import Plan
from leptonami.target import connect

__all__ = ["NO_STEPS", "PLAN", "build_here", "load", "scripts", "write"]

PLAN: dict[str, Any] = {
    "schema": 1,
    "name": "test",
    "family": "ubuntu-eks",
    "os": "22.04",
    "kubernetes": "1.33",
    "architecture": "amd64",
    "region": "us-west-2",
    "builder": {"instance_types": ["m5.large", "m6i.large"]},
    "root_volume": {"size_gib": 30},
    "steps": ["settle", "versions", "hygiene"],
    "image": {"name": "test-{run}"},
    "tags": {"team": "tests"},
}
NO_STEPS: dict[str, Any] = {"steps": []}


def scripts(folder: Path, *bodies: str) -> dict[str, Any]:
    """Write scripts as a plan's steps, for what is not about the steps that we ship: those cost ten times as much."""
    for number, body in enumerate(bodies, start=1):
        (folder / f"own-{number}.sh").write_text(f"#!/bin/bash\n{body}\n")
    return {"steps": [{"script": {"path": f"own-{number}.sh"}} for number in range(1, len(bodies) + 1)]}


def write(folder: Path, **changes: Any) -> Path:
    """Write the plan with some sections replaced; gives its file."""
    path = folder / "plan.yaml"
    # JSON is YAML, and quotes what must be quoted.
    path.write_text(json.dumps({**PLAN, **changes}))
    return path


def load(folder: Path, **changes: Any) -> Plan:
    """Write the plan with some sections replaced, and load it."""
    return plans.load(write(folder, **changes))


def build_here(
    environment: Mapping[str, str], plan: Path, runs: Path, *, run_id: str | None = None, resume: bool = False
) -> tuple[int, str]:
    """Build in a lab without a process of its own, which takes as long to start; gives exit code and error."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        loaded = plans.load(plan)
        try:
            with connect("lab", region=loaded.region) as target:
                executor.build(target, loaded, runs=runs, run_id=run_id, resume=resume)
        except LeptonamiError as error:
            return error.exit_code, str(error)
    return 0, ""
