"""Many builds at once from one process, against one build, and against as many packer processes.

    make setup && apt-get install packer
    .venv/bin/python benchmarks/concurrency.py [--builds 20]

The plain build of `benchmarks/packer.py`, on one lab without delays. The lab is one process that answers one request
at a time, so this says how little the tool adds, not how much AWS would take.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packer import PLAN, base_image, packer_template

from leptonami import plan as plans
from leptonami.build import executor
from leptonami.lab import Lab, start
from leptonami.plan import Plan
from leptonami.target import connect


def timed(work: Callable[[], object]) -> float:
    """Give the seconds that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def leptonami(plan: Plan, runs: Path, count: int) -> None:
    """Build `count` times at once in this process."""
    with connect("lab", region=plan.region) as target, ThreadPoolExecutor(count) as pool:
        results = [pool.submit(executor.build, target, plan, runs=runs) for _ in range(count)]
        images = {each.result().image.id for each in results}
    if len(images) != count:
        sys.exit(f"{len(images)} images from {count} builds")


def packers(lab: Lab, base: str, folder: Path, count: int) -> None:
    """Run `count` packer processes at once."""
    environment = {**os.environ, **lab.environment, "AWS_POLL_DELAY_SECONDS": "1", "CHECKPOINT_DISABLE": "1"}
    running = []
    for number in range(count):
        template = folder / f"{time.time_ns()}.json"
        template.write_text(json.dumps(packer_template(lab, base, number)))
        command = ["packer", "build", str(template)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    failed = sum(each.wait() != 0 for each in running)
    if failed:
        sys.exit(f"{failed} of {count} packer builds failed")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=20)
    count = parser.parse_args().builds
    with tempfile.TemporaryDirectory() as name, start(speed=float("inf")) as lab:
        os.environ.update(lab.environment)
        folder = Path(name)
        base = base_image(lab)
        (folder / "plain.yaml").write_text(PLAN.format(base=base))
        plan = plans.load(folder / "plain.yaml")
        leptonami(plan, folder / "runs", 1)
        before = lab.state()
        one = timed(lambda: leptonami(plan, folder / "runs", 1))
        many = timed(lambda: leptonami(plan, folder / "runs", count))
        after = lab.state()
        more = {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
        print(f"leptonami: 1 build {one:.2f} s, {count} at once {many:.2f} s ({many / one:.1f}x); made {more}")
        single = timed(lambda: packers(lab, base, folder, 1))
        crowd = timed(lambda: packers(lab, base, folder, count))
        print(f"packer:    1 build {single:.2f} s, {count} at once {crowd:.2f} s ({crowd / single:.1f}x)")
        print(f"ratio leptonami/packer for {count} at once: {many / crowd:.2f}")


if __name__ == "__main__":
    main()
