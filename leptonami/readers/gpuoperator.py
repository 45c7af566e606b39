"""The state of NVIDIA's GPU operator, out of whatever evidence there is: objects, listings, a must-gather, logs.

A listing and a JSON file tell of the same pods in other words; here they become the same pods, DaemonSets, nodes and
events, with what is unknown left unknown. Nothing is judged here: that is `leptonami.verdicts.gpustack`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.deviceplugin import DevicePluginLog, looks_like_device_plugin_log, read_device_plugin_log
from leptonami.readers.fields import boolean, dig, mappings, strings, text
from leptonami.readers.gpuoperands import (
    CLUSTER_WIDE,
    DEPLOY,
    PREINSTALLED,
    Operand,
    gpu_node_sign,
    operand_of,
    parse_version,
)
from leptonami.readers.kubectl import Row
from leptonami.readers.mustgather import Evidence, Log
from leptonami.readers.objects import Condition, Node, Objects, Pod, object_proof
from leptonami.readers.operandpods import OperandPod, pods_of, seconds, standing
from leptonami.readers.quantity import parse_time

__all__ = ["GpuNode", "Happening", "OperandSet", "OperatorState", "Policy", "Version", "operator_state"]

IMAGE = re.compile(
    r"/(?:gpu-operator|gpu-operator-validator):(v?[0-9]{1,4}\.[0-9]{1,4}(?:\.[0-9]{1,6})?[A-Za-z0-9.-]{0,40})"
)
CHART = re.compile(r"gpu-operator-(v?[0-9]{1,4}\.[0-9]{1,4}(?:\.[0-9]{1,6})?[A-Za-z0-9.-]{0,40})")
# The keys of a ClusterPolicy's spec that switch operands, by the operand's key.
SWITCHES = {
    "driver": "driver",
    "container-toolkit": "toolkit",
    "device-plugin": "devicePlugin",
    "dcgm": "dcgm",
    "dcgm-exporter": "dcgmExporter",
    "gpu-feature-discovery": "gfd",
    "mig-manager": "migManager",
    "node-status-exporter": "nodeStatusExporter",
}
TOLD = 2000  # events that are kept


@dataclass(frozen=True, slots=True)
class Version:
    """The operator's version and what says so."""

    text: str
    proof: Proof

    @property
    def number(self) -> tuple[int, int, int] | None:
        """Give it as numbers: (23, 3, 2)."""
        return parse_version(self.text)


@dataclass(frozen=True, slots=True)
class Policy:
    """The ClusterPolicy: its status and the parts of its specification that matter here.

    Parameters
    ----------
    state
        `ready`, `notReady`, `ignored`, or "" if the status does not tell. Ready is also written where no node has an
        NFD label and where no GPU node exists (`clusterpolicy_controller.go`), so it proves little alone.
    enabled
        Which operands are switched on, by their keys, as far as the specification tells.
    driver_*
        What the driver's image is made of.
    with_workload
        Whether the validator also runs a pod that asks for a GPU; None if the specification does not tell.
    driver_crd
        Whether drivers come from NVIDIADriver resources instead.
    created
        When it was made.
    """

    name: str
    proof: Proof
    state: str = ""
    conditions: tuple[Condition, ...] = ()
    enabled: Mapping[str, bool] = field(default_factory=dict)
    driver_repository: str = ""
    driver_image: str = ""
    driver_version: str = ""
    driver_precompiled: bool = False
    driver_crd: bool = False
    with_workload: bool | None = None
    default_runtime: str = ""
    mig_strategy: str = ""
    source: str = ""
    created: datetime | None = None

    def condition(self, kind: str) -> Condition | None:
        """Give one of its conditions (`Ready`, `Error`)."""
        return next((each for each in self.conditions if each.type == kind), None)


@dataclass(frozen=True, slots=True)
class OperandSet:
    """An operand's DaemonSet; numbers are None where nothing tells.

    Parameters
    ----------
    age
        Seconds since it was made.
    counted
        Whether its controller has counted nodes for its present form: until then the API server writes DESIRED 0.
    """

    operand: Operand
    namespace: str
    name: str
    desired: int | None
    ready: int | None
    selector: Mapping[str, str]
    proof: Proof
    images: tuple[str, ...] = ()
    age: int | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class GpuNode:
    """A node with a GPU, or one that should have.

    Parameters
    ----------
    sign
        By what it is known for one: a label, an amount, an operand's pod on it.
    node
        The object; None if only its name is known, from pods.
    """

    name: str
    sign: str
    proof: Proof
    node: Node | None = None

    @property
    def preinstalled(self) -> bool:
        """Tell whether its label says that the driver is on the host, and none is to be brought."""
        return self.node is not None and self.node.labels.get(f"{DEPLOY}driver") == PREINSTALLED


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, from an object, a description or a row of a listing.

    Parameters
    ----------
    at
        The last time that it happened.
    container
        The pod's container that it happened to; "" if it was the pod, or nothing tells.
    """

    kind: str
    name: str
    reason: str
    message: str
    type: str
    count: int
    at: datetime | None
    proof: Proof
    container: str = ""


@dataclass(frozen=True)
class OperatorState:  # without slots: what is looked up for every node is indexed once
    """All that the evidence tells about the operator.

    Parameters
    ----------
    nodes
        The GPU nodes. `other_nodes` counts those without a GPU; `nodes_known` tells whether there is any list of nodes
        at all, without which "no GPU node" means nothing.
    workloads
        The pods, of whoever, that ask for a GPU; the validators' are among `pods`.
    taken
        The moment after which the evidence was collected: the latest time that stands in it.
    """

    version: Version | None = None
    policy: Policy | None = None
    no_policy: Proof | None = None
    no_nfd_label: Proof | None = None
    pods: tuple[OperandPod, ...] = ()
    sets: tuple[OperandSet, ...] = ()
    nodes: tuple[GpuNode, ...] = ()
    other_nodes: int = 0
    nodes_known: bool = False
    workloads: tuple[Pod, ...] = ()
    events: tuple[Happening, ...] = ()
    plugin_logs: tuple[DevicePluginLog, ...] = ()
    logs: tuple[Log, ...] = ()
    with_workload: bool | None = None
    taken: datetime | None = None
    problems: tuple[str, ...] = ()

    @cached_property
    def by_operand(self) -> Mapping[tuple[str, str | None], tuple[OperandPod, ...]]:
        """The pods by operand and node, those of all nodes by operand and None; without those that were replaced."""
        found: dict[tuple[str, str | None], list[OperandPod]] = {}
        for each in standing(self.pods):
            found.setdefault((each.operand.key, None), []).append(each)
            if each.node is not None:
                found.setdefault((each.operand.key, each.node), []).append(each)
        return {key: tuple(pods) for key, pods in found.items()}

    @cached_property
    def by_name(self) -> Mapping[str, OperandPod]:
        """The pods by name."""
        return {each.name: each for each in self.pods}

    @cached_property
    def by_node(self) -> Mapping[str, GpuNode]:
        """The GPU nodes by name."""
        return {each.name: each for each in self.nodes}

    @cached_property
    def events_by_name(self) -> Mapping[str, tuple[Happening, ...]]:
        """The events by what they are about."""
        found: dict[str, list[Happening]] = {}
        for each in self.events:
            found.setdefault(each.name, []).append(each)
        return {key: tuple(each) for key, each in found.items()}

    @cached_property
    def workloads_by_node(self) -> Mapping[str, tuple[Pod, ...]]:
        """The pods that ask for a GPU by node; "" has those on none."""
        found: dict[str, list[Pod]] = {}
        for each in self.workloads:
            found.setdefault(each.node, []).append(each)
        return {key: tuple(each) for key, each in found.items()}

    def of_operand(self, key: str, node: str | None = None) -> tuple[OperandPod, ...]:
        """Give the pods of an operand, on one node or (None) on all."""
        return self.by_operand.get((key, node), ())

    def events_of(self, name: str) -> tuple[Happening, ...]:
        """Give the events of a pod, a node or a DaemonSet."""
        return self.events_by_name.get(name, ())

    def workloads_on(self, node: str) -> tuple[Pod, ...]:
        """Give the pods that ask for a GPU on a node."""
        return self.workloads_by_node.get(node, ())


def operator_state(evidence: Evidence, *, now: datetime | None = None) -> OperatorState:
    """Put the evidence together.

    Parameters
    ----------
    evidence
        What `leptonami.readers.mustgather.read_evidence` gives, also of a single file.
    now
        When the evidence was collected, if the caller knows; ages are counted to it. Otherwise to the latest time
        that stands in the evidence, which makes them a little too young.
    """
    objects = evidence.objects
    policy = policy_of(objects, evidence.rows)
    taken = now or latest(objects)
    pods = pods_of(objects, evidence.rows, taken)
    plugin_logs, logs = logs_of(evidence.logs, pods)
    nodes, others, known = nodes_of(objects, evidence.rows, pods)
    return OperatorState(
        version=version_of(objects),
        policy=policy,
        no_policy=evidence.no_policy,
        no_nfd_label=evidence.no_nfd_label,
        pods=pods,
        sets=sets_of(objects, evidence.rows, taken),
        nodes=nodes,
        other_nodes=others,
        nodes_known=known,
        workloads=tuple(
            each
            for each in objects.pods
            if not operand_of(each.name)
            and any(is_requested(name) and amount for name, amount in each.requests.items())
        ),
        events=events_of(objects, evidence.rows),
        plugin_logs=plugin_logs,
        logs=logs,
        with_workload=with_workload_of(policy, objects),
        taken=taken,
        problems=evidence.problems,
    )


def is_requested(name: str) -> bool:
    return name.startswith(("nvidia.com/gpu", "nvidia.com/mig-"))


def version_of(objects: Objects) -> Version | None:
    """Find the operator's version: the tag of its image, or the chart's label."""
    for pod in objects.pods:
        operand = operand_of(pod.name)
        if operand and operand.key in {"gpu-operator", "operator-validator"}:
            for container in (*pod.containers, *pod.init_containers):
                if found := IMAGE.search(container.image):
                    return Version(found.group(1), pod.proof(f"image {container.image}"))
    templates = [(each, each.containers) for each in objects.workloads]
    sets = [(each, (*each.containers, *each.init_containers)) for each in objects.daemonsets]
    for thing, containers in (*templates, *sets):
        for container in containers:
            if found := IMAGE.search(container.image):
                return Version(found.group(1), thing.proof(f"image {container.image}"))
    for source, obj in objects.items:
        labels = strings(obj.get("metadata"), "labels")
        if found := CHART.fullmatch(labels.get("helm.sh/chart", "")):
            return Version(found.group(1), object_proof(obj, source, f"helm.sh/chart={labels['helm.sh/chart']}"))
        named = labels.get("app.kubernetes.io/version", "")
        if text(obj, "kind") == "ClusterPolicy" and parse_version(named):
            return Version(named, object_proof(obj, source, f"app.kubernetes.io/version={named}"))
    return None


def policy_of(objects: Objects, rows: Iterable[Row]) -> Policy | None:
    """Read the ClusterPolicy; of several, which is one too many, the one that is not ignored."""
    found = objects.of_kind("ClusterPolicy")
    if not found:
        row = next((each for each in rows if each.kind == "ClusterPolicy"), None)
        return Policy(row.name, row.proof, state=row.status) if row else None
    source, obj = min(found, key=lambda each: text(each[1], "status", "state") == "ignored")
    spec = obj.get("spec")
    enabled = {key: boolean(spec, switch, "enabled") for key, switch in SWITCHES.items()}
    state = text(obj, "status", "state")
    return Policy(
        name=text(obj, "metadata", "name"),
        proof=object_proof(obj, source, f"status.state: {state or 'none'}"),
        state=state,
        conditions=Condition.all_of(obj),
        enabled={key: each for key, each in enabled.items() if each is not None},
        driver_repository=text(spec, "driver", "repository"),
        driver_image=text(spec, "driver", "image"),
        driver_version=text(spec, "driver", "version"),
        driver_precompiled=boolean(spec, "driver", "usePrecompiled") is True,
        driver_crd=boolean(spec, "driver", "useNvidiaDriverCRD") is True,
        with_workload=env_flag(mappings(spec, "validator", "plugin", "env")),
        default_runtime=text(spec, "operator", "defaultRuntime"),
        mig_strategy=text(spec, "mig", "strategy"),
        source=source,
        created=parse_time(dig(obj, "metadata", "creationTimestamp")),
    )


def env_flag(env: Iterable[Mapping[str, Any]]) -> bool | None:
    """Read WITH_WORKLOAD from a list of variables."""
    for each in env:
        if text(dict(each), "name") == "WITH_WORKLOAD":
            return boolean(dict(each), "value")
    return None


def with_workload_of(policy: Policy | None, objects: Objects) -> bool | None:
    """Find out whether the validator runs a pod with a GPU: from the policy, or from the validator's own variables."""
    if policy and policy.with_workload is not None:
        return policy.with_workload
    sets = [(each.name, each.init_containers) for each in objects.daemonsets]
    for name, containers in (*sets, *((each.name, each.init_containers) for each in objects.pods)):
        operand = operand_of(name)
        if operand and operand.key == "operator-validator":
            for container in containers:
                told = boolean(dict(container.env), "WITH_WORKLOAD")
                if told is not None:
                    return told
    return None


def sets_of(objects: Objects, rows: Iterable[Row], taken: datetime | None) -> tuple[OperandSet, ...]:
    """Put the operands' DaemonSets together."""
    found: dict[str, OperandSet] = {}
    for row in rows:
        operand = operand_of(row.name) if row.kind == "DaemonSet" else None
        if operand:
            counts = row.counts
            found[row.name] = OperandSet(
                operand,
                row.namespace or "",
                row.name,
                counts.get("desired"),
                counts.get("ready"),
                row.selector or {},
                row.proof,
                age=row.age,
            )
    for each in objects.daemonsets:
        operand = operand_of(each.name)
        if operand:
            proof = each.proof(f"desiredNumberScheduled: {each.desired}, numberReady: {each.ready}")
            images = tuple(one.image for one in (*each.containers, *each.init_containers) if one.image)
            found[each.name] = OperandSet(
                operand,
                each.namespace,
                each.name,
                each.desired,
                each.ready,
                each.node_selector,
                proof,
                images,
                age=seconds(each.created, taken),
                counted=each.counted,
            )
    return tuple(found.values())


def nodes_of(
    objects: Objects, rows: Iterable[Row], pods: Iterable[OperandPod]
) -> tuple[tuple[GpuNode, ...], int, bool]:
    """Find the GPU nodes: by labels and amounts, and by the operands' pods on them."""
    found: dict[str, GpuNode] = {}
    by_name = {each.name: each for each in objects.nodes}
    for node in objects.nodes:
        sign = gpu_node_sign(node.labels, {**node.capacity, **{k: v for k, v in node.allocatable.items() if v}})
        if sign:
            found[node.name] = GpuNode(node.name, sign, node.proof(sign), node)
    for pod in pods:
        if pod.node and pod.operand.key not in CLUSTER_WIDE and pod.node not in found:
            sign = f"{pod.name} is on it"
            found[pod.node] = GpuNode(pod.node, sign, pod.proof, by_name.get(pod.node))
    listed = {each.name for each in rows if each.kind == "Node"} | set(by_name)
    return tuple(found.values()), len(listed - set(found)), bool(listed)


def events_of(objects: Objects, rows: Iterable[Row]) -> tuple[Happening, ...]:
    """Put the events together: warnings, and whatever happened to operands and nodes."""
    found = [
        Happening(
            each.about_kind,
            each.about_name,
            each.reason,
            each.message,
            each.type,
            each.count,
            each.last,
            each.proof(),
            each.about_container,
        )
        for each in objects.events
        if each.type == "Warning" or operand_of(each.about_name) or each.about_kind == "Node"
    ]
    for row in rows:
        if row.kind == "Event":
            kind = row.cells.get("object", "").partition("/")[0]
            count = row.cells.get("count", "1")
            message, severity = row.cells.get("message", ""), row.cells.get("type", "")
            found.append(Happening(kind, row.name, row.status, message, severity, int(count or 1), None, row.proof))
    return tuple(found[-TOLD:])


def logs_of(logs: Iterable[Log], pods: Iterable[OperandPod]) -> tuple[tuple[DevicePluginLog, ...], tuple[Log, ...]]:
    """Read the device plugins' logs; the log of a run before the present one says nothing about the state."""
    read: list[DevicePluginLog] = []
    kept: list[Log] = []
    known = {each.name for each in pods if each.operand.key == "device-plugin"}
    for log in logs:
        operand = operand_of(log.pod) if log.pod else None
        belongs = log.pod in known or (operand is not None and operand.key == "device-plugin")
        if not log.previous and (belongs or (not log.pod and looks_like_device_plugin_log(log.text))):
            found = read_device_plugin_log(log.text, log.name)
            read.append(found.of_pod(log.pod) if log.pod else found)
        kept.append(log)
    return tuple(read), tuple(kept)


def latest(objects: Objects) -> datetime | None:
    """Find the latest time in the evidence: it was collected no earlier than that."""
    times = [each.created for each in (*objects.nodes, *objects.pods, *objects.daemonsets)]
    times += [each.last for each in objects.events]
    for pod in objects.pods:
        times += [each.since for each in (*pod.containers, *pod.init_containers)]
        times += [each.since for each in pod.conditions]
    for _, obj in objects.of_kind("Node"):
        times += [parse_time(each.get("lastHeartbeatTime")) for each in mappings(obj, "status", "conditions")]
    return max((each for each in times if each), default=None)
