"""Typed views of Kubernetes objects: what the verdicts need of a Node, a Pod, a DaemonSet, an Event and so on.

Each is made of a plain dict with `of`, which never fails: a field that is missing or of another type than the API says
is None, "" or empty. Sums and words follow Kubernetes' own code, so that what is shown is what `kubectl` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from leptonami.proof import Proof
from leptonami.readers.fields import boolean, dig, integer, listing, mapping, mappings, strings, text
from leptonami.readers.quantity import parse_quantity, parse_time

__all__ = [
    "Condition",
    "ConfigMap",
    "Container",
    "DaemonSet",
    "Event",
    "Node",
    "Owner",
    "Pod",
    "PodDisruptionBudget",
    "Selector",
    "Taint",
    "Thing",
    "Volume",
    "Workload",
]


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner reference."""

    kind: str
    name: str
    controller: bool
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of an object's status; `status` is `True`, `False` or `Unknown`."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None

    @classmethod
    def all_of(cls, obj: Any) -> tuple[Self, ...]:
        """Take the conditions out of an object."""
        return tuple(
            cls(
                text(each, "type"),
                text(each, "status"),
                text(each, "reason"),
                text(each, "message"),
                parse_time(each.get("lastTransitionTime")),
            )
            for each in mappings(obj, "status", "conditions")
        )


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Volume:
    """A pod's volume: its name, its kind (`hostPath`, `emptyDir`, `configMap`, …) and its path on the host."""

    name: str
    kind: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container or init container, what it is made of and how it stands.

    Parameters
    ----------
    state
        `running`, `waiting`, `terminated`; "" if the status does not tell (not yet started).
    reason, message, exit_code
        Of the current state.
    since
        When the current state began (running) or ended (terminated).
    last_reason, last_message, last_exit_code
        Of the termination before, the one that explains a CrashLoopBackOff.
    sidecar
        An init container that goes on running (`restartPolicy: Always`).
    """

    name: str
    image: str
    init: bool
    ready: bool
    restarts: int
    state: str
    reason: str
    message: str
    exit_code: int | None
    signal: int | None
    started: bool
    since: datetime | None
    last_reason: str
    last_message: str
    last_exit_code: int | None
    sidecar: bool
    env: Mapping[str, str]

    @property
    def done(self) -> bool:
        """Tell whether it has ended well."""
        return self.state == "terminated" and self.exit_code == 0

    @classmethod
    def of(cls, spec: Mapping[str, Any], status: Mapping[str, Any], *, init: bool) -> Self:
        """Join what is wanted (the specification) and what is (the status)."""
        states = mapping(status, "state")
        state = next((each for each in ("running", "waiting", "terminated") if isinstance(states.get(each), dict)), "")
        now = mapping(states, state)
        last = mapping(status, "lastState", "terminated")
        env = {text(each, "name"): text(each, "value") for each in mappings(spec, "env") if "value" in each}
        return cls(
            name=text(spec, "name") or text(status, "name"),
            image=text(spec, "image") or text(status, "image"),
            init=init,
            ready=boolean(status, "ready") is True,
            restarts=integer(status, "restartCount") or 0,
            state=state,
            reason=text(now, "reason"),
            message=text(now, "message"),
            exit_code=integer(now, "exitCode"),
            signal=integer(now, "signal"),
            started=boolean(status, "started") is True,
            since=parse_time(now.get("finishedAt") if state == "terminated" else now.get("startedAt")),
            last_reason=text(last, "reason"),
            last_message=text(last, "message"),
            last_exit_code=integer(last, "exitCode"),
            sidecar=init and text(spec, "restartPolicy") == "Always",
            env=env,
        )


def containers_of(obj: Any, *, init: bool) -> tuple[Container, ...]:
    """Take the containers out of a pod; those whose status alone is there count as well."""
    specs, states = ("initContainers", "initContainerStatuses") if init else ("containers", "containerStatuses")
    by_name = {text(each, "name"): each for each in mappings(obj, "status", states)}
    wanted = mappings(obj, "spec", specs)
    named = {text(each, "name") for each in wanted}
    joined = [(each, by_name.get(text(each, "name"), {})) for each in wanted]
    joined += [({}, each) for name, each in by_name.items() if name not in named]
    return tuple(Container.of(spec, status, init=init) for spec, status in joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What every object has. `source` is the document (or context) that it comes from."""

    source: str
    kind: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[Owner, ...]
    created: datetime | None
    deleted: datetime | None
    uid: str

    @property
    def place(self) -> str:
        """Name the object: `pod gpu-operator/nvidia-cuda-validator-9zr76`."""
        return f"{self.kind.lower()} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @property
    def controller(self) -> Owner | None:
        """Give the owner that manages it, if one does."""
        return next((each for each in self.owners if each.controller), None)

    def proof(self, statement: str) -> Proof:
        """Prove something by this object; `statement` says which of its fields and what they are."""
        return Proof.of(self.source, self.place, statement)


def common(obj: Any, source: str, kind: str) -> dict[str, Any]:
    """Read what every object has."""
    meta = mapping(obj, "metadata")
    return {
        "source": source,
        "kind": text(obj, "kind") or kind,
        "namespace": text(meta, "namespace"),
        "name": text(meta, "name"),
        "labels": strings(meta, "labels"),
        "annotations": strings(meta, "annotations"),
        "owners": tuple(
            Owner(text(each, "kind"), text(each, "name"), boolean(each, "controller") is True, text(each, "uid"))
            for each in mappings(meta, "ownerReferences")
        ),
        "created": parse_time(meta.get("creationTimestamp")),
        "deleted": parse_time(meta.get("deletionTimestamp")),
        "uid": text(meta, "uid"),
    }


def amounts(obj: Any, *path: str) -> dict[str, Decimal]:
    """Read a list of resources; what is no quantity is left out."""
    read = {text(name): parse_quantity(each) for name, each in mapping(obj, *path).items()}
    return {name: each for name, each in read.items() if name and each is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Thing):
    """A node. Amounts are cores, bytes and pieces."""

    taints: tuple[Taint, ...]
    unschedulable: bool
    capacity: Mapping[str, Decimal]
    allocatable: Mapping[str, Decimal]
    conditions: tuple[Condition, ...]
    os_image: str
    kernel: str
    kubelet: str
    runtime: str
    architecture: str
    provider_id: str
    images: tuple[str, ...]

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        info = mapping(obj, "status", "nodeInfo")
        return cls(
            **common(obj, source, "Node"),
            taints=tuple(
                Taint(text(each, "key"), text(each, "value"), text(each, "effect"))
                for each in mappings(obj, "spec", "taints")
            ),
            unschedulable=boolean(obj, "spec", "unschedulable") is True,
            capacity=amounts(obj, "status", "capacity"),
            allocatable=amounts(obj, "status", "allocatable"),
            conditions=Condition.all_of(obj),
            os_image=text(info, "osImage"),
            kernel=text(info, "kernelVersion"),
            kubelet=text(info, "kubeletVersion"),
            runtime=text(info, "containerRuntimeVersion"),
            architecture=text(info, "architecture"),
            provider_id=text(obj, "spec", "providerID"),
            images=tuple(
                text({"name": name}, "name")
                for each in mappings(obj, "status", "images")
                for name in listing(each, "names")
                if isinstance(name, str)
            ),
        )

    @property
    def ready(self) -> bool | None:
        """Tell whether its Ready condition is True; None if it has none."""
        return next((each.status == "True" for each in self.conditions if each.type == "Ready"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Thing):
    """A pod.

    `requests` is what the scheduler and the autoscaler count: the sum over the containers and the sidecars, or the
    largest init container if that is more, and the overhead (`k8s.io/component-helpers/resource`). `destined` is the
    node for which the DaemonSet controller made the pod, also before the scheduler has bound it.
    """

    phase: str
    node: str
    reason: str
    message: str
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]
    requests: Mapping[str, Decimal]
    conditions: tuple[Condition, ...]
    node_selector: Mapping[str, str]
    restart_policy: str
    destined: str

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        return cls(
            **common(obj, source, "Pod"),
            phase=text(obj, "status", "phase"),
            node=text(obj, "spec", "nodeName"),
            reason=text(obj, "status", "reason"),
            message=text(obj, "status", "message"),
            containers=containers_of(obj, init=False),
            init_containers=containers_of(obj, init=True),
            volumes=volumes_of(obj),
            requests=requests_of(obj),
            conditions=Condition.all_of(obj),
            node_selector=strings(obj, "spec", "nodeSelector"),
            restart_policy=text(obj, "spec", "restartPolicy"),
            destined=destined(obj),
        )

    @property
    def terminal(self) -> bool:
        """Tell whether it has ended for good: such a pod holds nothing and blocks nothing."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def ready(self) -> tuple[int, int]:
        """Count the containers that are ready, and all of them, as kubectl's READY does (sidecars count)."""
        counted = [*self.containers, *(each for each in self.init_containers if each.sidecar)]
        return sum(each.ready and each.state == "running" for each in counted), len(counted)

    @property
    def restarts(self) -> int:
        """Count the restarts of all containers."""
        return sum(each.restarts for each in (*self.containers, *self.init_containers))

    @property
    def status(self) -> str:
        """Say how it stands in the word of kubectl's STATUS: `Running`, `Init:CrashLoopBackOff`, `Completed`."""
        word = self.reason or self.phase or "Unknown"
        initial = initial_word(self.init_containers)
        initialized = any(each.type == "Initialized" and each.status == "True" for each in self.conditions)
        if initial and not initialized:
            word = initial
        else:
            running = False
            for each in reversed(self.containers):
                if each.state == "waiting" and each.reason:
                    word = each.reason
                elif each.state == "terminated":
                    word = each.reason or ended(each)
                elif each.state == "running" and each.ready:
                    running = True
            if word == "Completed" and running:
                ready = any(each.type == "Ready" and each.status == "True" for each in self.conditions)
                word = "Running" if ready else "NotReady"
        if self.deleted:
            return "Unknown" if self.reason == "NodeLost" else word if self.terminal else "Terminating"
        return word


def ended(container: Container) -> str:
    """Say how a container ended that gives no reason."""
    return f"Signal:{container.signal}" if container.signal else f"ExitCode:{container.exit_code or 0}"


def initial_word(containers: tuple[Container, ...]) -> str:
    """Say how far the init containers are, as kubectl does; "" if they are done or there are none."""
    for index, each in enumerate(containers):
        if each.done:
            continue
        if each.sidecar and each.started:
            continue
        if each.state == "terminated":
            return f"Init:{each.reason or ended(each)}"
        if each.state == "waiting" and each.reason and each.reason != "PodInitializing":
            return f"Init:{each.reason}"
        if each.state or any(other.state for other in containers):
            return f"Init:{index}/{len(containers)}"
        return ""
    return ""


def destined(obj: Any) -> str:
    """Find the one node that a pod's affinity names, as the DaemonSet controller writes it; "" if there is none."""
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for term in mappings(obj, "spec", "affinity", "nodeAffinity", required, "nodeSelectorTerms"):
        for each in mappings(term, "matchFields"):
            names = listing(each, "values")
            if text(each, "key") == "metadata.name" and text(each, "operator") == "In" and len(names) == 1:
                return text(names[0])
    return ""


def volumes_of(obj: Any) -> tuple[Volume, ...]:
    """Take the volumes out of a pod or a pod template."""
    return tuple(
        Volume(
            text(each, "name"),
            next((text({"k": key}, "k") for key, value in each.items() if key != "name" and value is not None), ""),
            text(each, "hostPath", "path"),
        )
        for each in mappings(obj, "spec", "volumes")
    )


def requests_of(obj: Any) -> dict[str, Decimal]:
    """Sum what a pod requests. A limit without a request is one, as the API server makes it."""

    def of(container: Any) -> dict[str, Decimal]:
        return {**amounts(container, "resources", "limits"), **amounts(container, "resources", "requests")}

    def add(left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> dict[str, Decimal]:
        return {name: left.get(name, Decimal(0)) + right.get(name, Decimal(0)) for name in {**left, **right}}

    total: dict[str, Decimal] = {}
    for each in mappings(obj, "spec", "containers"):
        total = add(total, of(each))
    sidecars: dict[str, Decimal] = {}
    largest: dict[str, Decimal] = {}
    for each in mappings(obj, "spec", "initContainers"):
        if text(each, "restartPolicy") == "Always":
            sidecars = add(sidecars, of(each))
            needed = sidecars
        else:
            needed = add(sidecars, of(each))
        largest = {
            name: max(largest.get(name, Decimal(0)), needed.get(name, Decimal(0))) for name in {**largest, **needed}
        }
    total = add(total, sidecars)
    total = {name: max(total.get(name, Decimal(0)), largest.get(name, Decimal(0))) for name in {**total, **largest}}
    return add(total, amounts(obj, "spec", "overhead"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet(Thing):
    """A DaemonSet; a number is None where the status does not have it.

    `counted` tells whether the status is about the present specification (`observedGeneration`).
    """

    counted: bool
    desired: int | None
    current: int | None
    ready: int | None
    available: int | None
    updated: int | None
    node_selector: Mapping[str, str]
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        status = mapping(obj, "status")
        template = {"spec": dig(obj, "spec", "template", "spec")}
        return cls(
            **common(obj, source, "DaemonSet"),
            counted=(integer(status, "observedGeneration") or 0) >= (integer(obj, "metadata", "generation") or 0),
            desired=integer(status, "desiredNumberScheduled"),
            current=integer(status, "currentNumberScheduled"),
            ready=integer(status, "numberReady"),
            available=integer(status, "numberAvailable"),
            updated=integer(status, "updatedNumberScheduled"),
            node_selector=strings(template, "spec", "nodeSelector"),
            containers=containers_of(template, init=False),
            init_containers=containers_of(template, init=True),
            volumes=volumes_of(template),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(Thing):
    """A Deployment, ReplicaSet, ReplicationController, StatefulSet or Job, as far as replicas are concerned.

    `desired` is `spec.replicas`, and `spec.parallelism` of a Job; both are 1 if the specification does not tell.
    """

    desired: int
    current: int | None
    ready: int | None
    available: int | None
    succeeded: int | None
    failed: int | None
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]

    @classmethod
    def of(cls, obj: Any, source: str, kind: str = "") -> Self:
        """Make it of a plain object."""
        status = mapping(obj, "status")
        template = {"spec": dig(obj, "spec", "template", "spec")}
        known = common(obj, source, kind)
        wanted = integer(obj, "spec", "parallelism" if known["kind"] == "Job" else "replicas")
        return cls(
            **known,
            desired=1 if wanted is None else wanted,
            current=integer(status, "active" if known["kind"] == "Job" else "replicas"),
            ready=integer(status, "ready" if known["kind"] == "Job" else "readyReplicas"),
            available=integer(status, "availableReplicas"),
            succeeded=integer(status, "succeeded"),
            failed=integer(status, "failed"),
            containers=containers_of(template, init=False),
            volumes=volumes_of(template),
        )


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector. An empty one matches everything, a missing one (`present=False`) nothing."""

    match_labels: Mapping[str, str]
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...]
    present: bool = True

    @classmethod
    def of(cls, value: Any) -> Self:
        """Make it of a plain object."""
        expressions = tuple(
            (
                text(each, "key"),
                text(each, "operator"),
                tuple(text({"v": one}, "v") for one in listing(each, "values")),
            )
            for each in mappings(value, "matchExpressions")
        )
        return cls(strings(value, "matchLabels"), expressions, isinstance(value, dict))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with these labels is selected."""
        return (
            self.present
            and all(labels.get(key) == value for key, value in self.match_labels.items())
            and all(expression_holds(labels, *each) for each in self.expressions)
        )


def expression_holds(labels: Mapping[str, str], key: str, operator: str, values: Iterable[str]) -> bool:
    """Judge one expression of a selector; an operator that Kubernetes does not know selects nothing."""
    if operator in {"Exists", "DoesNotExist"}:
        return (key in labels) == (operator == "Exists")
    inside = key in labels and labels[key] in set(values)
    return inside if operator == "In" else operator == "NotIn" and not inside


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDisruptionBudget(Thing):
    """A PodDisruptionBudget; a number is None where the status does not have it."""

    selector: Selector
    disruptions_allowed: int | None
    current_healthy: int | None
    desired_healthy: int | None
    expected: int | None

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        status = mapping(obj, "status")
        return cls(
            **common(obj, source, "PodDisruptionBudget"),
            selector=Selector.of(dig(obj, "spec", "selector")),
            disruptions_allowed=integer(status, "disruptionsAllowed"),
            current_healthy=integer(status, "currentHealthy"),
            desired_healthy=integer(status, "desiredHealthy"),
            expected=integer(status, "expectedPods"),
        )

    def covers(self, pod: Pod) -> bool:
        """Tell whether it is this pod's budget."""
        return self.namespace == pod.namespace and self.selector.matches(pod.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Thing):
    """An event, of `v1` or of `events.k8s.io/v1`: `about_*` is what it happened to."""

    about_kind: str
    about_namespace: str
    about_name: str
    about_container: str
    reason: str
    message: str
    type: str
    count: int
    first: datetime | None
    last: datetime | None
    component: str
    host: str

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        about = mapping(obj, "involvedObject") or mapping(obj, "regarding")
        known = common(obj, source, "Event")
        happened = parse_time(dig(obj, "eventTime"))
        first = parse_time(dig(obj, "firstTimestamp")) or parse_time(dig(obj, "deprecatedFirstTimestamp"))
        last = (
            parse_time(dig(obj, "series", "lastObservedTime"))
            or parse_time(dig(obj, "lastTimestamp"))
            or parse_time(dig(obj, "deprecatedLastTimestamp"))
        )
        counts = (integer(obj, "series", "count"), integer(obj, "count"), integer(obj, "deprecatedCount"))
        return cls(
            **known,
            about_kind=text(about, "kind"),
            about_namespace=text(about, "namespace"),
            about_name=text(about, "name"),
            about_container=text(about, "fieldPath").partition("{")[2].rstrip("}"),  # spec.initContainers{NAME}
            reason=text(obj, "reason"),
            message=text(obj, "message") or text(obj, "note"),
            type=text(obj, "type"),
            count=next((each for each in counts if each), 1),
            first=first or happened or known["created"],
            last=last or happened or known["created"],
            component=text(obj, "source", "component")
            or text(obj, "reportingComponent")
            or text(obj, "reportingController"),
            host=text(obj, "source", "host"),
        )

    def proof(self, statement: str = "") -> Proof:
        """Prove something by this event; without a statement by its reason and message."""
        # `super()` without arguments does not work in a dataclass with slots before Python 3.14.
        return Thing.proof(self, statement or f"{self.reason} {self.about_kind} {self.about_name}: {self.message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap(Thing):
    """A ConfigMap's text."""

    data: Mapping[str, str]

    @classmethod
    def of(cls, obj: Any, source: str) -> Self:
        """Make it of a plain object."""
        return cls(**common(obj, source, "ConfigMap"), data=strings(obj, "data"))
