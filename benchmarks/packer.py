"""The same plain build by leptonami and by Debian's packer, on the same lab: calls and wall time.

The work: a known base image, a security group, launch, stop, image with tags on image and snapshot, removal of all
that was temporary. No provisioning (`communicator none`). The lab answers without delays: what is measured is the tool.

    make setup && apt-get install packer
    .venv/bin/python benchmarks/packer.py [--rounds 7] [--json]

Provenance: measured on this machine, against a simulated AWS. The two take turns, so that a noisy neighbour hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from leptonami.lab import Lab, start

REGION = "us-west-2"
PLAN = """\
schema: 1
name: plain
family: ubuntu-eks
os: "22.04"
kubernetes: "1.33"
architecture: amd64
region: us-west-2
base: {{ami: {base}}}
builder: {{instance_types: [m5.large]}}
root_volume: {{size_gib: 30}}
steps: []
image: {{name: "plain-{{run}}"}}
tags: {{benchmark: "yes"}}
"""


def base_image(lab: Lab) -> str:
    """Find the base image once, so that both are given the same id."""
    ssm = boto3.client(
        "ssm",
        region_name=REGION,
        endpoint_url=lab.url,
        aws_access_key_id=lab.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=lab.environment["AWS_SECRET_ACCESS_KEY"],
    )
    name = "/aws/service/canonical/ubuntu/eks/22.04/1.33/stable/current/amd64/hvm/ebs-gp2/ami-id"
    return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])


def packer_template(lab: Lab, base: str, number: int) -> dict[str, Any]:
    """Give packer the same work."""
    return {
        "builders": [
            {
                "type": "amazon-ebs",
                "access_key": lab.environment["AWS_ACCESS_KEY_ID"],
                "secret_key": lab.environment["AWS_SECRET_ACCESS_KEY"],
                "region": REGION,
                "custom_endpoint_ec2": lab.url,
                "skip_metadata_api_check": True,
                "skip_region_validation": True,
                "communicator": "none",
                "source_ami": base,
                "instance_type": "m5.large",
                "ami_name": f"packer-{number}-{time.time_ns()}",
                "tags": {"benchmark": "yes"},
                "snapshot_tags": {"benchmark": "yes"},
                "run_tags": {"benchmark": "yes"},
                "launch_block_device_mappings": [
                    {
                        "device_name": "/dev/sda1",
                        "volume_size": 30,
                        "volume_type": "gp3",
                        "iops": 3000,
                        "throughput": 125,
                        "encrypted": True,
                        "delete_on_termination": True,
                    }
                ],
            }
        ]
    }


def run_packer(lab: Lab, base: str, number: int, folder: Path) -> dict[str, Any]:
    """Run packer once."""
    template = folder / f"packer-{number}.json"
    template.write_text(json.dumps(packer_template(lab, base, number)))
    environment = {
        **os.environ,
        **lab.environment,
        "AWS_POLL_DELAY_SECONDS": "1",
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CONFIG_DIR": str(folder),
    }
    lab.reset_calls()
    started = time.perf_counter()
    result = subprocess.run(
        ["packer", "build", str(template)], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if result.returncode != 0:
        sys.exit(f"packer failed:\n{result.stdout[-3000:]}{result.stderr[-1000:]}")
    return {"seconds": seconds, "calls": lab.calls()}


CHILD = """\
import json, sys, time
started = time.perf_counter()
from pathlib import Path
from leptonami import plan as plans
from leptonami.build import executor
from leptonami.target import connect
import boto3
target = connect("account", region="us-west-2")
target.client("ec2"), target.client("sts")
plan = plans.load(Path(sys.argv[1]))
ready = time.perf_counter()
executor.build(target, plan, runs=Path(sys.argv[2]))
done = time.perf_counter()
print(json.dumps({"set_up": ready - started, "seconds": done - ready}))
"""


def run_leptonami(lab: Lab, plan: Path, runs: Path) -> dict[str, Any]:
    """Run leptonami once, in an interpreter of its own, as packer has a process of its own."""
    lab.reset_calls()
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(plan), str(runs)],
        env={**os.environ, **lab.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - started
    if result.returncode != 0:
        sys.exit(f"leptonami failed:\n{result.stderr[-3000:]}")
    return {**json.loads(result.stdout), "process": whole, "calls": lab.calls()}


def main() -> None:
    """Take turns, and print the medians with their ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if shutil.which("packer") is None:
        sys.exit("packer is missing: apt-get install packer")
    trials: dict[str, list[dict[str, Any]]] = {"leptonami": [], "packer": []}
    with tempfile.TemporaryDirectory() as name, start(speed=float("inf")) as lab:
        folder = Path(name)
        base = base_image(lab)
        plan = folder / "plain.yaml"
        plan.write_text(PLAN.format(base=base))
        for number in range(options.rounds + 1):
            pair = {
                "leptonami": run_leptonami(lab, plan, folder / "runs"),
                "packer": run_packer(lab, base, number, folder),
            }
            if number == 0:
                continue  # the first round warms moto and the disk cache up, for both
            for tool, trial in pair.items():
                trials[tool].append(trial)
    if options.json:
        print(json.dumps(trials, indent=2))
        return
    for tool, rounds in trials.items():
        for what in ("seconds", "set_up", "process"):
            if what in rounds[0]:
                values = [each[what] for each in rounds]
                spread = f"[{min(values):.3f}-{max(values):.3f}]"
                print(f"{tool:10} {what:8} median {statistics.median(values):.3f} s {spread}")
        calls = rounds[-1]["calls"]
        print(f"{tool:10} calls    {sum(calls.values())}: " + ", ".join(f"{k} {v}" for k, v in sorted(calls.items())))
    medians = {tool: statistics.median(each["seconds"] for each in rounds) for tool, rounds in trials.items()}
    ratio = medians["leptonami"] / medians["packer"]
    print(f"ratio leptonami/packer of the build, the interpreter's set-up apart: {ratio:.2f}")


if __name__ == "__main__":
    main()
