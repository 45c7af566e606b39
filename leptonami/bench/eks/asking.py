"""What everybody is asked after a launch on EKS: EC2, the node over SSM, its kubelet; and all of them for the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from leptonami import kube
from leptonami.bench import clocks
from leptonami.bench.eks import node, requests, volumes
from leptonami.build.agent import wait_online
from leptonami.build.command import Shell
from leptonami.errors import LeptonamiError
from leptonami.progress import Silent
from leptonami.runs import Journal
from leptonami.target import AwsError

if TYPE_CHECKING:
    from leptonami.bench.eks.account import Account
    from leptonami.bench.experiment import Variant
    from leptonami.bench.marks import Clock, Mark
    from leptonami.bench.model import Value
    from leptonami.target import Provenance

__all__ = ["Told", "ask_node", "clock_of_api", "restore", "stamped", "surroundings"]

NODE_ANSWERS_S = 300
SCRIPT_S = 120
FIRST_READ_S = 3600


def restore(account: Account, ami: requests.Ami) -> dict[str, Value]:
    """Ask for the state of Fast Snapshot Restore of an image's snapshot."""
    target = account.target
    wanted: Any = [{"Name": "snapshot-id", "Values": [ami.snapshot]}]
    try:
        found: Any = target.call(target.client("ec2").describe_fast_snapshot_restores, Filters=wanted)
    except AwsError as error:
        return {"fast snapshot restore": f"not known: {error.code}"}
    return volumes.of_restore(found["FastSnapshotRestores"], account.zone, ami.size_gib, datetime.now(UTC))


def surroundings(account: Account, machine: Any, ami: requests.Ami) -> dict[str, Value]:
    """Give what a launch ran under: zone, accelerator, volume, and how that came from its snapshot."""
    zone = machine.get("Placement", {}).get("AvailabilityZone", account.zone)
    accelerator = account.accelerator(machine["InstanceType"])
    found: dict[str, Value] = {"ami": ami.id, "zone": zone, "accelerator": accelerator}
    devices = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in machine.get("BlockDeviceMappings", [])}
    root = devices.get(machine.get("RootDeviceName"))
    if root is not None:
        target, ids = account.target, [root, *(devices[each] for each in (requests.PRISTINE,) if each in devices)]
        described: Any = target.call(target.client("ec2").describe_volumes, VolumeIds=ids)
        told = {each["VolumeId"]: volumes.of_volume(each) for each in described["Volumes"]}
        # The second volume takes a credit of its own.
        found |= told[root] | {"fast restored": all(each["fast restored"] for each in told.values())}
    return found | restore(account, ami)


@dataclass
class Told:
    """What a node told: marks, bounds of its clock, and conditions."""

    marks: list[Mark] = field(default_factory=list)
    bounds: list[clocks.Bound] = field(default_factory=list)
    conditions: dict[str, Value] = field(default_factory=dict)


def ask_node(
    account: Account,
    cluster: kube.Cluster,
    machine: Any,
    *,
    variant: Variant,
    image: str,
    name: str,
    provenance: Provenance,
) -> Told:
    """Ask a node over SSM. What it cannot tell is a condition, not an error: the launch was measured.

    Parameters
    ----------
    machine
        Its instance, as EC2 describes it.
    image
        What was launched on it, as its journal names it.
    name
        The node's.
    """
    told, instance, folder = Told(), str(machine["InstanceId"]), account.setup.folder
    journal = Journal(folder / "driver-commands.jsonl")
    shell = Shell(account.target, instance, journal, Silent(), run_id=account.setup.run)
    try:
        hint = "the nodes' role needs AmazonSSMManagedInstanceCore"
        wait_online(account.target, instance, timeout=NODE_ANSWERS_S, hint=hint)
        log = folder / "raw" / f"node-{instance}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        sent = time.time()
        shell.run("bench-node", node.SCRIPT, timeout=SCRIPT_S, log=log, keep_remote_log=False)
        answered = time.time()
        answer = log.read_text(encoding="utf-8", errors="replace")
        read = node.read(answer, metrics=kubelet_metrics(cluster, name), image=image, provenance=provenance)
        told.marks += read.marks
        if read.clock is not None:
            told.bounds += clocks.from_request(
                "node", sent=sent, answered=answered, stamped=read.clock, resolution=1e-6, how="date over SSM"
            )
        if read.silent:
            told.conditions["the node did not tell"] = ", ".join(read.silent)
        for each in machine.get("BlockDeviceMappings", []):
            if each["DeviceName"] == requests.PRISTINE:
                script = node.first_read_script(each["Ebs"]["VolumeId"], variant.prefetch)
                outcome = shell.run("bench-first-read", script, timeout=FIRST_READ_S, log=None)
                first = node.read_first(outcome.stdout, provenance)
                told.marks += first.marks
                told.conditions |= first.conditions
    except LeptonamiError as error:
        told.conditions["the node could not be asked"] = str(error)[:300]
    return told


def kubelet_metrics(cluster: kube.Cluster, name: str) -> str:
    """Give the kubelet's metrics, by way of the API server; nothing if that is not allowed or not there."""
    place = f"{kube.path_of(kube.RESOURCES['nodes'], 'v1', None)}/{name}/proxy/metrics"
    try:
        return b"".join(cluster.stream(place, {}, f"get nodes/{name}/proxy")).decode("utf-8", "replace")
    except LeptonamiError:
        return ""


def stamped(clock: Clock, sent: float, answered: float, date: str) -> list[clocks.Bound]:
    """Bound a clock by an answer's Date; not at all if it has none."""
    try:
        told = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return []
    return list(clocks.from_request(clock, sent=sent, answered=answered, stamped=told, resolution=1.0, how="Date"))


def clock_of_api(cluster: kube.Cluster) -> list[clocks.Bound]:
    """Bound the API server's clock."""
    sent = time.time()
    answer = cluster.send("/version").response
    answered = time.time()
    answer.read()
    answer.close()
    return stamped("api", sent, answered, str(answer.headers.get("Date", "")))
