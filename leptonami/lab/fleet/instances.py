"""Which EC2 instances are to be nodes of the cluster: asked of AWS in a thread of its own, as AWS tells nobody.

Node groups (EKS), and Auto Scaling groups and single instances with the tag `kubernetes.io/cluster/NAME`, through
boto3. What is known of an instance is asked once; again and again only what the groups hold, which instances have the
tag, and those that are not running yet or any more.
"""

from __future__ import annotations

import threading
import time
import urllib.error
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from leptonami.lab.fleet.faults import Fault, parse
from leptonami.lab.fleet.gpu.operands import product
from leptonami.lab.fleet.images import Root, root_of
from leptonami.lab.fleet.nodes import Machine
from leptonami.lab.running import ask

__all__ = ["Instances", "Sight"]

BATCH = 100
LIVING = {"pending", "running"}
SOONEST_S, LATEST_S = 0.5, 10.0  # of this machine, between two looks
LOOK_S = 20.0  # of the simulated time
EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


@dataclass(frozen=True)
class Sight:
    """What was seen in one look.

    Attributes
    ----------
    machines
        The machines that are there, by instance id.
    faults
        What is to go wrong.
    endpoint
        The cluster's endpoint as EKS has it; "" where there is no EKS.
    """

    machines: dict[str, Machine]
    faults: tuple[Fault, ...]
    endpoint: str = ""


@dataclass
class Group:
    """An Auto Scaling group of the cluster, and its node group if it is of one; nameless for a single instance."""

    name: str
    managed: dict[str, Any] | None

    @property
    def label(self) -> str:
        """Give the name that the nodes know their group by."""
        return str(self.managed["nodegroupName"]) if self.managed else self.name


@dataclass
class Instances:
    """Looks at AWS from time to time.

    Parameters
    ----------
    session
        A boto3 session.
    cluster
        The name of the EKS cluster.
    lab
        The URL of a lab; "" on any other AWS.
    speed
        How many times faster than reality the fleet is.
    faults
        What is to go wrong where there is no lab to say so.
    """

    session: Any
    cluster: str
    lab: str
    speed: float
    faults: tuple[Fault, ...] = ()
    complain: Callable[[str], object] = print
    sight: Sight | None = None
    _known: dict[str, Machine] = field(default_factory=dict)
    _kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self.ec2, self.eks, self.groups = (self.session.client(name) for name in ("ec2", "eks", "autoscaling"))
        self._thread = threading.Thread(target=self._run, name="instances", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread:
            self._thread.join(10)
            for client in (self.ec2, self.eks, self.groups):
                client.close()

    def _run(self) -> None:
        said = ""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.sight, said = self.look(), ""
            except Exception as error:  # AWS, the network or the lab: the next look may find them well
                if str(error) != said:
                    said = str(error)
                    self.complain(f"AWS: {type(error).__name__}: {error}\n")
            took = time.monotonic() - began
            self._stop.wait(max(min(max(LOOK_S / self.speed, SOONEST_S), LATEST_S), 3 * took))

    def look(self) -> Sight:
        """Look once."""
        from botocore.exceptions import ClientError

        endpoint, managed = "", []
        try:
            about = self.eks.describe_cluster(name=self.cluster)["cluster"]
            endpoint = about.get("endpoint") or ""
            managed = list(self._node_groups())
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
        member = {
            each["InstanceId"]: group
            for group, found in self._auto_scaling(managed)
            for each in found.get("Instances") or ()
        }
        # A group no longer lists what is gone; a single instance keeps its tag, so it is looked at each time.
        single = [each for each in self._single() if each not in member]
        member |= dict.fromkeys(single, Group("", None))
        running = {each for each in member if each in self._known and self._known[each].state == "running"}
        fresh = [each for each in member if each not in running or each in single]
        lost = [each for each in self._known if each not in member]
        seen = {each["InstanceId"]: each for each in self._described([*fresh, *lost])}
        for name in lost:
            if seen.get(name, {}).get("State", {}).get("Name") not in LIVING:
                self._known.pop(name)
        for name in fresh:
            if name in seen:
                self._take(name, seen[name], member[name])
        for name, group in member.items():
            if name in self._known and group.managed:
                self._known[name] = replace(self._known[name], **of_group(group.managed))
        return Sight(dict(self._known), self._faults(), endpoint)

    def _take(self, name: str, seen: dict[str, Any], group: Group) -> None:
        """Take note of an instance, and once it runs of what is on its disk."""
        state = seen["State"]["Name"]
        if state not in LIVING:
            self._known.pop(name, None)
            return
        kind = self._kind(seen["InstanceType"])
        machine = Machine(
            id=name,
            state=state,
            type=seen["InstanceType"],
            zone=seen["Placement"]["AvailabilityZone"],
            private_ip=seen.get("PrivateIpAddress") or "",
            private_dns=seen.get("PrivateDnsName") or name,
            group=group.label,
            spot=seen.get("InstanceLifecycle") == "spot",
            kind=kind,
        )
        if group.managed:
            machine = replace(machine, managed=True, **of_group(group.managed))
        if state == "running":
            machine = replace(machine, root=self._root(seen, kind), disk=self._disk(seen) or machine.disk)
        self._known[name] = machine

    # --- AWS ----------------------------------------------------------------------------------------------------------

    def _node_groups(self) -> Iterator[dict[str, Any]]:
        for page in self.eks.get_paginator("list_nodegroups").paginate(clusterName=self.cluster):
            for name in page["nodegroups"]:
                yield self.eks.describe_nodegroup(clusterName=self.cluster, nodegroupName=name)["nodegroup"]

    def _auto_scaling(self, managed: Iterable[dict[str, Any]]) -> Iterator[tuple[Group, dict[str, Any]]]:
        """Give the cluster's groups: those of its node groups, and those that are tagged for it."""
        of = {
            each["name"]: group
            for group in managed
            for each in (group.get("resources") or {}).get("autoScalingGroups") or ()
        }
        for page in self.groups.get_paginator("describe_auto_scaling_groups").paginate():
            for found in page["AutoScalingGroups"]:
                name = found["AutoScalingGroupName"]
                tags = {each["Key"] for each in found.get("Tags") or ()}
                if name in of or f"kubernetes.io/cluster/{self.cluster}" in tags:
                    yield Group(name, of.get(name)), found

    def _single(self) -> list[str]:
        """Name the instances with the cluster's tag that are of no group; some may be gone."""
        mine, grouped = f"kubernetes.io/cluster/{self.cluster}", "aws:autoscaling:groupName"
        filters = [{"Name": "key", "Values": [mine, grouped]}, {"Name": "resource-type", "Values": ["instance"]}]
        tags: dict[str, set[str]] = {}
        for page in self.ec2.get_paginator("describe_tags").paginate(Filters=filters):
            for each in page["Tags"]:
                tags.setdefault(each["ResourceId"], set()).add(each["Key"])
        return [name for name, keys in tags.items() if grouped not in keys]

    def _described(self, names: list[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(names), BATCH):
            # By filter and not by id: an id that is gone fails the whole call.
            filters = [{"Name": "instance-id", "Values": names[start : start + BATCH]}]
            for page in self.ec2.get_paginator("describe_instances").paginate(Filters=filters):
                for reservation in page["Reservations"]:
                    yield from reservation["Instances"]

    def _kind(self, name: str) -> dict[str, Any]:
        if name not in self._kinds:
            self._kinds[name] = self.ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"][0]
        return self._kinds[name]

    def _disk(self, seen: dict[str, Any]) -> int:
        """Give the bytes of the root volume; 0 if it is not known."""
        root = seen.get("RootDeviceName")
        ids = [each["Ebs"]["VolumeId"] for each in seen.get("BlockDeviceMappings") or () if each["DeviceName"] == root]
        found = self.ec2.describe_volumes(VolumeIds=ids)["Volumes"] if ids else []
        return int(found[0]["Size"]) << 30 if found else 0

    # --- the disk -----------------------------------------------------------------------------------------------------

    def _root(self, seen: dict[str, Any], kind: dict[str, Any]) -> Root:
        """Give what the node root says, and the instance type of its GPUs."""
        facts = self._lab(f"nodes/{seen['InstanceId']}") if self.lab else None
        gpus = (kind.get("GpuInfo") or {}).get("Gpus") or ()
        nvidia = [each for each in gpus if each.get("Manufacturer", "").upper() == "NVIDIA"]
        name = product(nvidia[0]) if nvidia else ""
        return replace(root_of(facts or {}), gpus=sum(int(each.get("Count", 1)) for each in nvidia), gpu_product=name)

    def _faults(self) -> tuple[Fault, ...]:
        ordered = self._lab("fleet-faults") if self.lab else None
        return self.faults if ordered is None else (*self.faults, *parse(ordered))

    def _lab(self, path: str) -> Any:
        """Ask the lab's own API; None if it does not know."""
        try:
            return ask(self.lab.rstrip("/"), "GET", path)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise


def of_group(group: dict[str, Any]) -> dict[str, Any]:
    """Give what a machine has of its node group."""
    taints = tuple(
        {"key": each["key"], "effect": EFFECTS.get(each["effect"], each["effect"])}
        | ({"value": each["value"]} if each.get("value") else {})
        for each in group.get("taints") or ()
    )
    return {
        "own_image": group.get("amiType") == "CUSTOM",
        "labels": dict(group.get("labels") or {}),
        "taints": taints,
        "spot": group.get("capacityType") == "SPOT",
    }
