"""A lab with a cluster, and the small experiments that are rehearsed there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from leptonami.bench import runner
from leptonami.bench.eks import open_driver
from leptonami.bench.experiment import Experiment
from leptonami.bench.model import Setup
from leptonami.bench.policy import for_experiment
from leptonami.bench.results import Results
from leptonami.lab import Lab
from leptonami.progress import Silent
from leptonami.runs import Run

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
POLICIES = ("AmazonSSMManagedInstanceCore", "AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly")


@dataclass
class Stage:
    """The lab, its images by name, a subnet, what the lab had before, and which calls the driver has made."""

    lab: Lab
    images: dict[str, str]
    subnet: str
    before: dict[str, int]
    called: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, lab: Lab) -> Stage:
        """Make the nodes' role and profile, and look around."""
        ec2, iam = boto3.Session().client("ec2"), boto3.Session().client("iam")
        iam.create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps(TRUST))
        for each in POLICIES:
            iam.attach_role_policy(RoleName="bench", PolicyArn=f"arn:aws:iam::aws:policy/{each}")
        iam.create_instance_profile(InstanceProfileName="bench")
        iam.add_role_to_instance_profile(InstanceProfileName="bench", RoleName="bench")
        owners = ["099720109477", "602401143452"]
        images = {each["Name"]: each["ImageId"] for each in ec2.describe_images(Owners=owners)["Images"]}
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        for client in (ec2, iam):
            client.close()
        return cls(lab, images, subnet, lab.state())

    def image(self, *parts: str) -> str:
        """Find the newest image whose name has all of these."""
        return [self.images[name] for name in sorted(self.images) if all(each in name for each in parts)][-1]

    def experiment(self, *variants: dict[str, Any], eks: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        """Give an experiment of one trial a variant."""
        base = {"name": "ubuntu", "kind": "base", "ami": self.image("ubuntu-eks", "1.33", "amd64")}
        data: dict[str, Any] = {
            "schema": 1,
            "name": "rehearsal",
            "driver": "eks",
            "variants": list(variants or (base,)),
            "images": [
                {
                    "name": "web",
                    "ref": "docker.io/library/busybox:1.36",
                    "command": ["sh", "-c", "echo READY; sleep 86400"],
                }
            ],
            "instance_types": ["m7i.large"],
            "trials": 1,
            "warmup": 0,
            "seed": 1,
            "timeout": "3m",
            "smallest": {"seconds": 5},
            "eks": {
                "cluster": "leptonami",
                "region": "us-west-2",
                "subnets": [self.subnet],
                "instance_profile": "bench",
                **(eks or {}),
            },
            **changes,
        }
        return Experiment.model_validate(data)

    def run(self, experiment: Experiment, place: Run) -> Results:
        """Run an experiment, or go on with it."""
        setup = Setup(experiment, place.id, place.folder)
        opened: list[Any] = []

        def remembered(_: Callable[[str], None]) -> Any:
            opened.append(open_driver(setup))
            return opened[-1]

        try:
            return runner.run(experiment, place, remembered, progress=Silent(), command="again")
        finally:
            self.called |= {each for driver in opened for each in driver.target.calls}

    def left(self) -> dict[str, int]:
        """Count what is there and was not before; commands stay for ever."""
        now = self.lab.state()
        return {kind: now[kind] - self.before[kind] for kind in now if now[kind] != self.before[kind]}

    def gone(self) -> dict[str, int]:
        """Wait until nothing is left, and give what is: one that shuts down has its volumes until it has ended."""
        until = time.monotonic() + 60
        while (left := {kind: n for kind, n in self.left().items() if kind != "commands"}) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def allowed(stage: Stage) -> set[str]:
    """Give the calls that the policy of an experiment allows, as `service.Operation`, launched either way."""
    policies = [
        for_experiment(stage.experiment(eks={"by": by}), purposes=["bench"]) for by in ("instance", "nodegroup")
    ]
    return {"sts.GetCallerIdentity"} | {action.replace(":", ".") for each in policies for action in each.actions}


def kill_in_first_trial(stage: Stage, experiment: Experiment, runs: Path) -> Run:
    """Run an experiment from the command line, in which nothing joins, and kill it once it has its first instance."""
    assert stage.gone() == {}  # an instance of before, on its way out, would be taken for the first one
    stage.lab.set_fleet_faults({"group": "*", "fault": "never-joins"})
    runs.mkdir(exist_ok=True)
    file = runs / "experiment.yaml"
    file.write_text(json.dumps(experiment.as_dict()), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "leptonami", "bench", "run", str(file), "--runs", str(runs), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while stage.lab.state()["instances"] == stage.before["instances"]:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert stage.left()["instances"] == 1
    stage.lab.set_fleet_faults()
    (folder,) = [each for each in runs.iterdir() if each.is_dir()]
    return Run.open(runs, folder.name)


def place_of(tmp_path: Path) -> Run:
    """Make a run's folder."""
    return Run.create(tmp_path)
