"""Evidence from a live cluster, in the same forms as from files: objects, and the logs of the pods that matter.

Only what the caller may see is read: nodes and pods are needed, the rest is left out with a note when it is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from leptonami.documents import Bundle
from leptonami.errors import CredentialsError, InputError, LeptonamiError, Timeout
from leptonami.explain.autoscaler import Explanation, explain_sources
from leptonami.explain.given import Given
from leptonami.explain.gpuoperator import Driver, StackExplanation, explain_bundle
from leptonami.explain.reading import Found
from leptonami.explain.recognise import What
from leptonami.kube import Cluster
from leptonami.progress import Progress, Silent
from leptonami.readers.fields import listing, mapping, text
from leptonami.readers.gpuoperands import is_gpu_resource
from leptonami.sources import Source

__all__ = ["autoscaler", "autoscaler_pods", "collect", "device_plugin_pods", "gpu_operator"]

# What scale-down is judged by; without the first two there is nothing to say.
FOR_AUTOSCALER = (
    "nodes",
    "pods",
    "daemonsets",
    "replicasets",
    "deployments",
    "statefulsets",
    "jobs",
    "replicationcontrollers",
    "poddisruptionbudgets",
    "events",
)
NEEDED = {"nodes", "pods"}
NAME = "cluster-autoscaler"
LABELS = ("app", "k8s-app", "app.kubernetes.io/name", "app.kubernetes.io/instance")


def autoscaler(
    cluster: Cluster, given: Given, *, namespace: str | None = None, progress: Progress | None = None
) -> Explanation:
    """Explain what the autoscaler of a live cluster does with its nodes.

    Parameters
    ----------
    cluster
        The cluster; it is only read.
    given
        What the caller knows; `now` is the present.
    namespace
        Where the autoscaler runs; by default every namespace is looked through.

    Raises
    ------
    CredentialsError, KubeError, KubeUnreachable, Timeout
        If nodes or pods cannot be read.
    InputError
        If the cluster has no node.
    """
    shown = progress or Silent()
    objects, notes = collect(cluster, FOR_AUTOSCALER, shown)
    pods = autoscaler_pods(objects["pods"], namespace)
    where = {text(each.get("metadata"), "namespace") for each in pods} | ({namespace} if namespace else {"kube-system"})
    for each in sorted(where):
        status = attempt(notes, lambda each=each: cluster.object("configmaps", f"{NAME}-status", each))
        if status is not None:
            objects["configmaps"] = [{"apiVersion": "v1", "kind": "ConfigMap", **status}]
    listing = documents(objects)
    taken = [Taken(cluster.name)]
    found = [Found(Source(cluster.name), What.OBJECTS, taken[0].blocks(iter([listing])))]
    pod = chosen(cluster, pods, notes)
    if pod is None:
        notes.append("no pod of an autoscaler was found: what follows is from the objects alone (--namespace helps)")
    else:
        blocks = attempt(notes, lambda: log_of(cluster, pod, shown))
        if blocks is not None:
            taken.append(Taken(f"pod {text(pod.get('metadata'), 'namespace')}/{name_of(pod)}"))
            found.append(Found(Source(taken[1].name), What.AUTOSCALER_LOG, taken[1].blocks(blocks)))
    explained = explain_sources(found, cluster.name, given, progress, provenance=cluster.provenance)
    return replace(explained, problems=(*notes, *explained.problems), inputs=tuple(each.as_tuple() for each in taken))


class Taken:
    """What a cluster gave, counted and hashed as it goes by: nobody can ask for it again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self.digest = hashlib.sha256()

    def blocks(self, given: Iterator[bytes]) -> Iterator[bytes]:
        """Give what is given."""
        for block in given:
            self.digest.update(block)
            self.size += len(block)
            yield block

    def as_tuple(self) -> tuple[str, str, int]:
        """Give the name, the SHA-256 and the length."""
        return self.name, self.digest.hexdigest(), self.size


def collect(
    cluster: Cluster, plurals: Iterable[str], progress: Progress, *, needed: Iterable[str] = NEEDED
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """List objects of several kinds; what is refused and not needed is left out and noted."""
    notes: list[str] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for plural in plurals:
        progress.update(plural)
        if plural in needed:
            found[plural] = cluster.objects(plural)
        else:
            found[plural] = attempt(notes, lambda plural=plural: cluster.objects(plural)) or []
    return found, notes


def attempt(notes: list[str], read: Any) -> Any:
    """Read something that can be done without; note it if that fails."""
    try:
        return read()
    except Timeout:
        raise
    except (CredentialsError, LeptonamiError) as error:
        notes.append(f"left out: {error}")
        return None


def documents(objects: dict[str, list[dict[str, Any]]]) -> bytes:
    """Make one document of objects, as `kubectl get -o json` would."""
    items = [each for several in objects.values() for each in several]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


def autoscaler_pods(pods: Iterable[dict[str, Any]], namespace: str | None = None) -> list[dict[str, Any]]:
    """Find the autoscaler's pods, by label or by image and name; those that run first.

    >>> pod = {"metadata": {"name": "x", "labels": {"app": "cluster-autoscaler"}}}
    >>> autoscaler_pods([pod, {"metadata": {"name": "web"}}]) == [pod]
    True
    """
    found = []
    for each in pods:
        about, spec = mapping(each, "metadata"), mapping(each, "spec")
        if namespace and text(about, "namespace") != namespace:
            continue
        labels = mapping(about, "labels")
        labelled = any(str(labels.get(label, "")).endswith(NAME) for label in LABELS)
        images = [text(container, "image") for container in listing(spec, "containers") if isinstance(container, dict)]
        if labelled or any(f"/{NAME}" in f"/{image}" for image in images):
            found.append(each)
    return sorted(found, key=lambda each: (text(mapping(each, "status"), "phase") != "Running", name_of(each)))


def name_of(pod: dict[str, Any]) -> str:
    """Give a pod's name."""
    return text(pod.get("metadata"), "name")


def chosen(cluster: Cluster, pods: Sequence[dict[str, Any]], notes: list[str]) -> dict[str, Any] | None:
    """Choose the pod that decides: of several, the one that holds the lease."""
    if len(pods) < 2:
        return pods[0] if pods else None
    namespace = text(pods[0].get("metadata"), "namespace")
    lease = attempt(notes, lambda: cluster.object("leases", NAME, namespace))
    holder = text(mapping(lease, "spec"), "holderIdentity") if lease is not None else ""
    for each in pods:
        if name_of(each) == holder:
            return each
    notes.append(f"{len(pods)} pods of an autoscaler, and no lease tells which decides: {name_of(pods[0])} was read")
    return pods[0]


def log_of(cluster: Cluster, pod: dict[str, Any], progress: Progress) -> Iterator[bytes]:
    """Open the log of a pod. Its first block is read here, so that a refusal comes now."""
    namespace, name = text(pod.get("metadata"), "namespace"), name_of(pod)
    containers = [text(each, "name") for each in listing(mapping(pod, "spec"), "containers") if isinstance(each, dict)]
    container = next((each for each in containers if NAME in each), containers[0] if len(containers) > 1 else "")
    progress.update(f"the log of {name}")
    blocks = cluster.log(namespace, name, container=container)
    first = next(blocks, None)
    if first is None:
        raise InputError("its log is empty", resource=f"pod {namespace}/{name}")
    return together(first, blocks)


def together(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Give a first block and the rest."""
    yield first
    yield from rest


# --- the GPU operator -------------------------------------------------------------------------------------------------

FOR_GPU_OPERATOR = ("nodes", "pods", "daemonsets", "clusterpolicies", "nvidiadrivers", "deployments", "events")
DEVICE_PLUGIN = "nvidia-device-plugin"
VALIDATOR_POD = "device-plugin-validator"
MOST_LOGS = 20  # device plugins whose logs are read: those of nodes that offer nothing first
LARGEST_LOG = 4 << 20  # bytes of a device plugin's log


def gpu_operator(
    cluster: Cluster,
    *,
    now: datetime,
    namespace: str | None = None,
    version: str | None = None,
    driver: Driver | None = None,
    progress: Progress | None = None,
) -> StackExplanation:
    """Explain the GPU stack of a live cluster.

    Parameters
    ----------
    cluster
        The cluster; it is only read.
    now
        The present.
    namespace
        Where the operator runs: only device plugins there have their logs read; by default those of every namespace.
    version, driver
        As for `gpuoperator.explain`.

    Raises
    ------
    CredentialsError, KubeError, KubeUnreachable, Timeout
        If nodes or pods cannot be read.
    InputError
        If the cluster has no node.
    """
    shown = progress or Silent()
    objects, notes = collect(cluster, FOR_GPU_OPERATOR, shown)
    contents = {"objects.json": documents(objects)}
    for pod in device_plugin_pods(objects["pods"], objects["nodes"], namespace)[:MOST_LOGS]:
        shown.update(f"the log of {name_of(pod)}")
        content = attempt(notes, lambda pod=pod: plugin_log(cluster, pod))
        if content:
            contents[f"gpu_operand_pod_{name_of(pod)}.log"] = content
    bundle = Bundle(cluster.name, contents, tuple(notes))
    return explain_bundle(bundle, version=version, driver=driver, now=now, provenance=cluster.provenance)


def device_plugin_pods(
    pods: Iterable[dict[str, Any]], nodes: Iterable[dict[str, Any]], namespace: str | None
) -> list[dict[str, Any]]:
    """Find the device plugins' pods that run, those on nodes that offer no GPU first."""
    offering = {
        text(node.get("metadata"), "name")
        for node in nodes
        if any(is_gpu_resource(name) and text({"n": each}, "n") not in {"", "0"} for name, each in offered(node))
    }
    found = [
        each
        for each in pods
        if name_of(each).startswith(DEVICE_PLUGIN)
        and VALIDATOR_POD not in name_of(each)
        and text(mapping(each, "status"), "phase") == "Running"
        and namespace in {None, text(each.get("metadata"), "namespace")}
    ]
    return sorted(found, key=lambda each: (text(mapping(each, "spec"), "nodeName") in offering, name_of(each)))


def offered(node: dict[str, Any]) -> list[tuple[str, Any]]:
    """Give what a node offers."""
    return list(mapping(node, "status", "allocatable").items())


def plugin_log(cluster: Cluster, pod: dict[str, Any]) -> bytes:
    """Read the log of a device plugin, as much of it as matters: what it found stands at its beginning."""
    parts: list[bytes] = []
    containers = [text(each, "name") for each in listing(mapping(pod, "spec"), "containers") if isinstance(each, dict)]
    container = next((each for each in containers if each.startswith(DEVICE_PLUGIN)), "") if len(containers) > 1 else ""
    size = 0
    for block in cluster.log(text(pod.get("metadata"), "namespace"), name_of(pod), container=container):
        parts.append(block)
        size += len(block)
        if size > LARGEST_LOG:
            break
    return b"".join(parts)
