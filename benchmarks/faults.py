"""The same build under faults of AWS: does it succeed, makes it anything twice, how many calls and how long.

    .venv/bin/python benchmarks/faults.py [--seed 1] [--json]
    .venv/bin/python benchmarks/faults.py --killed       # killed at three points too, and resumed under the same fault

The faults are the lab's, seeded. The bound of calls is BOUND times those of the undisturbed build; for a build that was
killed and resumed, BOUND_KILLED times.
Provenance: measured on this machine, against a simulated AWS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from crashes import PLAN, harness

from leptonami.lab import Lab, start

# Three in ten throttled make 1 / 0.7 = 1.43 calls of each; a describe that does not know yet, and longer waits with
# it, make more of the few that poll.
BOUND = 3.0
# Two processes look at everything, and the second one at what the first has made.
BOUND_KILLED = 5.0
# Where what was made is hardest to find again: the answer has not come back.
KILLS = (("RunInstances", 1), ("SendCommand", 2), ("CreateImage", 1))
UNKNOWN = "not known yet"
FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "30 % throttled": [{"kind": "throttle", "probability": 0.3}],
    "10 % answered with 5xx": [{"kind": "error", "code": "InternalError", "status": 500, "probability": 0.1}],
    "10 % of answers lost": [{"kind": "lost-reply", "probability": 0.1}],
    "10 % reset before": [{"kind": "reset", "probability": 0.1}],
    "slow answers": [{"kind": "delay", "seconds": 0.2, "probability": 0.3}],
    "eventual consistency": [
        {
            "kind": "error",
            "operation": operation,
            "asks": asks,
            "code": code,
            "message": UNKNOWN,
            "probability": 0.5,
            "times": 8,
        }
        for operation, asks, code in (
            ("ec2.DescribeInstances", "id", "InvalidInstanceID.NotFound"),
            ("ec2.TerminateInstances", "id", "InvalidInstanceID.NotFound"),
            ("iam.PutRolePolicy", "*", "NoSuchEntity"),
            ("iam.AddRoleToInstanceProfile", "*", "NoSuchEntity"),
            ("ssm.GetCommandInvocation", "*", "InvocationDoesNotExist"),
        )
    ],
    "stale lists": [
        {"kind": "stale", "operation": operation, "calls": 12} for operation in ("ec2.Describe*", "ssm.List*")
    ],
    "everything at once": [
        {"kind": "throttle", "probability": 0.1},
        {"kind": "error", "code": "InternalError", "status": 500, "probability": 0.05},
        {"kind": "lost-reply", "probability": 0.05},
        {"kind": "reset", "probability": 0.05},
        {"kind": "stale", "calls": 12, "probability": 0.5},
    ],
}


def build(lab: Lab, folder: Path) -> tuple[int, str, float]:
    """Build once; gives exit code, what was said, and seconds."""
    plan = folder / "faults.yaml"
    plan.write_text(PLAN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "leptonami", "build", str(plan), "--quiet"],
        env={**os.environ, **lab.environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, time.perf_counter() - started


def trial(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Build under a fault, in a lab of its own, so that the luck is the same every time."""
    with start(speed=float("inf"), seed=seed) as lab:
        before = lab.state()
        lab.set_faults(*FAULTS[name])
        lab.reset_calls()
        code, said, seconds = build(lab, folder)
        calls = lab.calls()
        lab.set_faults()
        after = lab.state()
    more = {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
    return {
        "fault": name,
        "ok": code == 0 and more == {"images": 1, "snapshots": 1},
        "more": more,
        "calls": sum(calls.values()),
        "seconds": round(seconds, 2),
        "said": said.strip().splitlines()[-1] if code else "",
    }


def killed(name: str, point: tuple[str, int], seed: int) -> dict[str, Any]:
    """Kill a build after a call under a fault, and go on with it under the same fault."""
    started = time.perf_counter()
    with harness(seed) as tried:
        before, run = tried.state(), tried.run_id()
        tried.lab.set_faults(*FAULTS[name])
        tried.lab.reset_calls()
        tried.proxy.arm(point, "after")
        tried.build(run)
        struck = tried.proxy.struck
        tried.proxy.arm(0, "before")
        code, said = tried.build(run, resume=True)
        calls = tried.lab.calls()
        tried.lab.set_faults()
        more = tried.more(before)
    return {
        "fault": f"{name}, {point[0]}",
        "ok": bool(struck) and code == 0 and more == {"images": 1, "snapshots": 1},
        "more": more if struck else "not reached",
        "calls": sum(calls.values()),
        "seconds": round(time.perf_counter() - started, 2),
        "said": said.strip().splitlines()[-1] if code else "",
    }


def main() -> None:
    """Try every fault, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--killed", action="store_true", help="kill and resume under each fault too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [trial(fault, options.seed, Path(name)) for fault in FAULTS]
    base = rows[0]["calls"]
    good = all(row["ok"] and row["calls"] <= BOUND * base for row in rows)
    if options.killed:
        more = [killed(fault, point, options.seed) for fault in FAULTS for point in KILLS]
        good = good and all(row["ok"] and row["calls"] <= BOUND_KILLED * base for row in more)
        rows += more
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            verdict = "built" if row["ok"] else f"WRONG {row['more']} {row['said']}"
            share = f"({row['calls'] / base:.2f}x)"
            print(f"{row['fault']:38} {row['calls']:4} calls {share} {row['seconds']:6.2f} s  {verdict}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
