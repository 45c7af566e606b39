"""What is given of a cluster, put in order for the scale-down verdict: objects, the autoscaler's status, its events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from leptonami.errors import InputError
from leptonami.readers.autoscaler.events import AutoscalerEvent, Kind, autoscaler_events, latest, read_event_lines
from leptonami.readers.autoscaler.status import GroupStatus, Status, find_status, read_status
from leptonami.readers.fields import mappings, text
from leptonami.readers.objects import Node, Objects, Pod, parse_time
from leptonami.verdicts.gpunode import GPU

__all__ = ["ClusterState", "group_names", "taint_time"]

CANDIDATE = "DeletionCandidateOfClusterAutoscaler"
# How the names of node groups stand on a node; the last is kwok's, which the recordings were made with.
GROUP_LABELS = ("eks.amazonaws.com/nodegroup", "alpha.eksctl.io/nodegroup-name")
GROUP_ANNOTATIONS = ("cluster-autoscaler.kwok.nodegroup/name",)
UP = (Kind.TRIGGERED_SCALE_UP, Kind.SCALED_UP_GROUP)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster at one moment.

    Parameters
    ----------
    objects
        Nodes, pods, budgets, controllers and whatever else was given.
    status
        What the autoscaler last wrote about itself; None if it was not given.
    events
        The autoscaler's events, the oldest first.
    problems
        What could not be read.
    """

    objects: Objects
    status: Status | None = None
    events: tuple[AutoscalerEvent, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        objects: Objects,
        *,
        status: str | bytes | None = None,
        events: str | bytes | None = None,
        source: str = "-",
        now: datetime | None = None,
    ) -> ClusterState:
        """Put it together.

        Parameters
        ----------
        objects
            What `readers.objects` read. A status ConfigMap and Events among them are used.
        status
            The status as text, if it is not among the objects.
        events
            Events as `kubectl get events` or `kubectl describe` print them, besides those among the objects.
        source
            The name of these texts, for the proofs.
        now
            When the events' ages were printed.
        """
        problems = list(objects.problems)
        found = None
        if status is not None:
            try:
                found = read_status(status, source)
            except InputError as error:
                problems.append(str(error))
        known = autoscaler_events(objects)
        if events is not None:
            known += read_event_lines(events, source, now)
            known.sort(key=lambda each: (each.last is not None, each.last))
        return cls(objects, found or find_status(objects), tuple(known), tuple(problems))

    @property
    def has_nodes(self) -> bool:
        """Tell whether nodes were given."""
        return bool(self.objects.nodes)

    @property
    def has_pods(self) -> bool:
        """Tell whether pods were given."""
        return bool(self.objects.pods)

    def pods_by_node(self) -> dict[str, list[Pod]]:
        """Give the pods on each node."""
        found: dict[str, list[Pod]] = {}
        for pod in self.objects.pods:
            if pod.node:
                found.setdefault(pod.node, []).append(pod)
        return found

    def waiting_for_gpu(self) -> list[Pod]:
        """Give the pods that want a GPU and have no node."""
        zero = Decimal(0)
        return [
            each
            for each in self.objects.pods
            if not each.node and each.phase in {"Pending", ""} and each.requests.get(GPU, zero) > 0
        ]

    def last_scale_up(self) -> AutoscalerEvent | None:
        """Give the last event of a scale-up."""
        return latest(self.events, *UP)

    def last_failure(self) -> AutoscalerEvent | None:
        """Give the last event of a removal that failed."""
        return latest(self.events, Kind.SCALE_DOWN_FAILED)

    def group_of(self, node: Node) -> GroupStatus | None:
        """Find a node's group in the status; None if it is not there or more than one may be meant."""
        return self.groups_of([node]).get(node.name)

    def groups_of(self, nodes: Iterable[Node]) -> dict[str, GroupStatus]:
        """Find the groups of nodes in the status, by the nodes' names."""
        groups = self.status.groups if self.status else ()
        by_name: dict[str, GroupStatus] = {}
        by_short: dict[str, list[GroupStatus]] = {}
        for group in groups:
            by_name[group.name] = group
            for short in group_names(group.name):
                by_short.setdefault(short, []).append(group)
        found: dict[str, GroupStatus] = {}
        for node in nodes:
            names = [node.labels[each] for each in GROUP_LABELS if node.labels.get(each)]
            names += [node.annotations[each] for each in GROUP_ANNOTATIONS if node.annotations.get(each)]
            candidates = [by_name[each] for each in names if each in by_name]
            candidates = candidates or [each for name in names for each in by_short.get(name, [])]
            if len({each.name for each in candidates}) == 1:
                found[node.name] = candidates[0]
        return found

    def latest_time(self) -> datetime | None:
        """Find the latest time in everything that was given, for who does not know when it was collected."""
        times: list[datetime | None] = [self.status.latest if self.status else None]
        times += [each.last for each in self.events]
        times += [each.last for each in self.objects.events]
        for _, each in self.objects.items:
            times.append(parse_time(text(each.get("metadata"), "creationTimestamp")))
        for node in self.objects.nodes:
            times += [condition.since for condition in node.conditions]
            times += [taint_time(node, taint.key) for taint in node.taints]
        for pod in self.objects.pods:
            times += [condition.since for condition in pod.conditions]
            times += [container.since for container in (*pod.containers, *pod.init_containers)]
        for _, raw in self.objects.of_kind("Node"):
            times += [
                parse_time(condition.get("lastHeartbeatTime")) for condition in mappings(raw, "status", "conditions")
            ]
        return max((each for each in times if each is not None), default=None)


EKS_GROUP = re.compile(r"eks-(.{1,200})-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
EKSCTL_GROUP = re.compile(r"eksctl-.{1,200}?-nodegroup-(.{1,200})-NodeGroup-[A-Za-z0-9]{4,20}", re.ASCII)


def group_names(scaling_group: str) -> list[str]:
    """Give the node group's name that is inside the name of an Auto Scaling group.

    >>> group_names("eks-gpu-workers-aac47e3b-5f2c-46d1-b04e-2a5ee6ec6a6f")
    ['gpu-workers']
    >>> group_names("eksctl-prod-nodegroup-gpu-NodeGroup-1ABCDEFGHIJKL")
    ['gpu']
    """
    name = scaling_group[:500]
    return [match[1] for match in (EKS_GROUP.fullmatch(name), EKSCTL_GROUP.fullmatch(name)) if match]


def taint_time(node: Node, key: str) -> datetime | None:
    """Read the time in one of the autoscaler's taints, whose value is in seconds since 1970."""
    value = next((each.value for each in node.taints if each.key == key), "")
    if not re.fullmatch(r"[0-9]{9,11}", value, re.ASCII):
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(value))
