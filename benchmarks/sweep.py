"""A sweep of an account with 1,000 foreign and 50 own resources: how long it takes and what it calls.

The foreign ones are of every kind that a sweep looks at, half of them with tags and names that come near to ours. The
own ones are what five killed builds left: builder with volume and interface, group, role, profile, half-made image with
its snapshot, and a volume and an interface that nobody has. The lab answers without delays: what is measured is the
tool. After the sweep every foreign resource must be there as before, and no own one.

    .venv/bin/python benchmarks/sweep.py [--rounds 5] [--json]

Provenance: measured on this machine, against a simulated AWS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from leptonami.build.names import Names
from leptonami.lab import Lab, start
from leptonami.lifecycle import sweep as sweeping
from leptonami.runs import Run, new_id, now
from leptonami.target import Target, open_target

REGION = "us-west-2"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
# Adds up to 1,000; an instance brings its volume and its interface, an image its snapshot.
FOREIGN = {"volume": 250, "group": 200, "interface": 140, "role": 150, "profile": 90, "snapshot": 90, "instance": 20}
FOREIGN_IMAGES = 10
OWN_RUNS = 5
OWN = 50


class Maker:
    """Fills an account."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ec2: Any = target.client("ec2")
        self.iam: Any = target.client("iam")
        images = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["ubuntu-eks/k8s_1.33/*amd64*"]}])
        self.base = images["Images"][0]["ImageId"]
        zone: Any = {"Name": "availability-zone", "Values": [f"{REGION}a"]}
        self.subnet = self.ec2.describe_subnets(Filters=[zone])["Subnets"][0]["SubnetId"]

    def spec(self, tags: list[dict[str, str]], *kinds: str) -> list[dict[str, Any]]:
        """Give tags for what a call makes."""
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds] if tags else []

    def make(self, kind: str, name: str, tags: list[dict[str, str]]) -> str:
        """Make one thing; gives its id."""
        ec2, iam = self.ec2, self.iam
        match kind:
            case "volume":
                spec = self.spec(tags, "volume")
                made = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8, TagSpecifications=spec)
                return str(made["VolumeId"])
            case "snapshot":
                volume = self.make("volume", name, [])
                made = ec2.create_snapshot(VolumeId=volume, TagSpecifications=self.spec(tags, "snapshot"))
                ec2.delete_volume(VolumeId=volume)
                return str(made["SnapshotId"])
            case "group":
                spec = self.spec(tags, "security-group")
                return str(
                    ec2.create_security_group(GroupName=name, Description="x", TagSpecifications=spec)["GroupId"]
                )
            case "interface":
                spec = self.spec(tags, "network-interface")
                made = ec2.create_network_interface(SubnetId=self.subnet, TagSpecifications=spec)
                return str(made["NetworkInterface"]["NetworkInterfaceId"])
            case "role":
                iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=tags)
            case "profile":
                iam.create_instance_profile(InstanceProfileName=name, Tags=tags)
            case "instance":
                nic = {"DeviceIndex": 0, "SubnetId": self.subnet}
                spec = self.spec(tags, "instance", "volume", "network-interface")
                made = ec2.run_instances(
                    ImageId=self.base,
                    InstanceType="m5.large",
                    MinCount=1,
                    MaxCount=1,
                    NetworkInterfaces=[nic],
                    TagSpecifications=spec,
                )
                return str(made["Instances"][0]["InstanceId"])
        return name

    def image(self, instance: str, name: str, tags: list[dict[str, str]]) -> str:
        """Make an image of an instance; gives its id."""
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1})
        spec = self.spec(tags, "image", "snapshot")
        made = self.ec2.create_image(InstanceId=instance, Name=name, NoReboot=True, TagSpecifications=spec)
        return str(made["ImageId"])

    def near(self, kind: str, number: int) -> tuple[str, list[dict[str, str]]]:
        """Give a foreign thing's name and tags; every other one comes near to ours."""
        if number % 2:
            return f"{kind}-{number}", [{"Key": "Name", "Value": f"{kind} {number}"}]
        run = new_id(now() - timedelta(days=3, seconds=number))
        temporary = kind != "snapshot"
        whole = Names(run, "plan", "somebody").tags("builder" if temporary else "image", {}, temporary=temporary)
        # Another owner's, or with a tag missing.
        return f"leptonami-{run}", whole if number % 4 else whole[:-1]

    def foreign(self) -> None:
        """Fill it with what is not ours."""
        wanted = [(kind, number) for kind, count in FOREIGN.items() for number in range(count)]

        def one(what: tuple[str, int]) -> tuple[str, str]:
            return what[0], self.make(what[0], *self.near(*what))

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(one, wanted))
        instances = [name for kind, name in made if kind == "instance"]
        for number, instance in enumerate(instances[:FOREIGN_IMAGES]):
            self.image(instance, f"foreign {number}", [{"Key": "Name", "Value": "foreign"}])

    def own(self, runs: Path) -> None:
        """Leave what killed builds leave."""
        owner = self.target.identity().name
        for number in range(OWN_RUNS):
            names = Names(new_id(now() - timedelta(minutes=number + 1)), "plan", owner)
            tags = names.tags("builder", {}, temporary=True)
            for kind in ("role", "profile", "group", "volume", "interface"):
                self.make(kind, names.temporary, tags)
            self.iam.add_role_to_instance_profile(InstanceProfileName=names.temporary, RoleName=names.temporary)
            instance = self.make("instance", "", tags)
            run = Run.create(runs, names.run)
            run.journal.write("build", plan="plan")
            with run.journal.action("ec2.CreateImage", name=names.temporary) as outcome:
                outcome["id"] = self.image(instance, names.temporary, names.tags("image", {}, temporary=False))
            run.write_manifest({"schema": 1, "state": "running", "target": {"region": REGION}})


def settle(lab: Lab) -> dict[str, list[str]]:
    """Give the ids of everything, by kind."""
    found: dict[str, list[str]] = lab.state(ids=True)
    return {kind: sorted(ids) for kind, ids in found.items()}


def once(number: int) -> dict[str, Any]:
    """Fill a lab, sweep it and count."""
    with start(speed=float("inf"), seed=number) as lab, tempfile.TemporaryDirectory() as folder:
        target = open_target(lab.environment, region=REGION, alone=True)
        maker = Maker(target)
        empty = sum(map(len, settle(lab).values()))
        maker.foreign()
        before = settle(lab)
        runs = Path(folder)
        maker.own(runs)
        filled = settle(lab)
        own = sum(map(len, filled.values())) - sum(map(len, before.values()))
        lab.reset_calls()
        began = time.perf_counter()
        dry = sweeping.sweep(target, runs=runs)
        looked = time.perf_counter() - began
        dry_calls = lab.calls()
        lab.reset_calls()
        began = time.perf_counter()
        done = sweeping.sweep(target, runs=runs, act=True)
        took = time.perf_counter() - began
        after = settle(lab)
        return {
            "foreign": sum(map(len, before.values())) - empty,
            "own": own,
            "removals": len(dry.plan.removals),
            "failed": len(done.failed),
            "foreign_untouched": after == before,
            "dry_run_s": round(looked, 3),
            "dry_run_calls": sum(dry_calls.values()),
            "sweep_s": round(took, 3),
            "calls": dict(sorted(lab.calls().items(), key=lambda item: (-item[1], item[0]))),
        }


def main() -> int:
    """Run it; exit code 1 if a foreign resource was touched or an own one is left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = [once(number) for number in range(options.rounds)]
    good = all(each["foreign_untouched"] and not each["failed"] and each["own"] == OWN for each in rounds)
    if options.json:
        print(json.dumps({"provenance": "measured, against a simulated AWS", "good": good, "rounds": rounds}, indent=2))
        return 0 if good else 1
    last = rounds[-1]
    print(f"{last['foreign']} foreign and {last['own']} own resources; {last['removals']} removals")
    for name, label in (("dry_run_s", "dry run"), ("sweep_s", "sweep")):
        times = [each[name] for each in rounds]
        print(
            f"{label}: {statistics.median(times):.2f} s (median of {len(times)}; {min(times):.2f} to {max(times):.2f})"
        )
    print(f"calls of the dry run: {last['dry_run_calls']}; of the sweep: {sum(last['calls'].values())}")
    for name, count in last["calls"].items():
        print(f"  {count:5d}  {name}")
    print("foreign resources untouched, nothing of ours left" if good else "NOT as it should be: see --json")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
