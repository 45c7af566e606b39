"""The Kubernetes objects of one document or many: all of them as plain dicts, the ones that matter as typed views.

>>> found = read_objects(b'{"kind": "Node", "metadata": {"name": "a"}}', "nodes.json")
>>> [each.name for each in found.nodes]
['a']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.fields import text
from leptonami.readers.manifests import looks_like_objects, read_manifests
from leptonami.readers.quantity import parse_quantity, parse_time
from leptonami.readers.views import (
    Condition,
    ConfigMap,
    Container,
    DaemonSet,
    Event,
    Node,
    Owner,
    Pod,
    PodDisruptionBudget,
    Selector,
    Taint,
    Thing,
    Volume,
    Workload,
)

__all__ = [
    "Condition",
    "ConfigMap",
    "Container",
    "DaemonSet",
    "Event",
    "Node",
    "Objects",
    "Owner",
    "Pod",
    "PodDisruptionBudget",
    "Selector",
    "Taint",
    "Thing",
    "Volume",
    "Workload",
    "looks_like_objects",
    "object_proof",
    "parse_quantity",
    "parse_time",
    "read_objects",
]

WORKLOADS = ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "Job")


@dataclass(frozen=True, slots=True)
class Objects:
    """Kubernetes objects with the documents that they come from.

    Parameters
    ----------
    items
        Every object and its source (a file's name, or the context of a cluster), in the order of the documents.
    problems
        What could not be read, a sentence each.
    nodes, pods, daemonsets, workloads, budgets, events, configmaps
        The typed views. `workloads` are Deployments, ReplicaSets, ReplicationControllers, StatefulSets and Jobs.
    """

    items: tuple[tuple[str, dict[str, Any]], ...] = ()
    problems: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    daemonsets: tuple[DaemonSet, ...] = ()
    workloads: tuple[Workload, ...] = ()
    budgets: tuple[PodDisruptionBudget, ...] = ()
    events: tuple[Event, ...] = ()
    configmaps: tuple[ConfigMap, ...] = ()

    @classmethod
    def of(cls, items: Iterable[tuple[str, dict[str, Any]]], problems: Iterable[str] = ()) -> Objects:
        """Make it of plain objects, such as a client of the API gives them. The same object twice counts once.

        What is given last holds: `kubectl get pods` asked twice gives the later state.
        """
        unique: dict[tuple[str, str, str, str], tuple[str, dict[str, Any]]] = {}
        for index, (source, each) in enumerate(items):
            meta = each.get("metadata")
            name, kind = text(meta, "name"), text(each, "kind")
            # Without a name, nothing says that two are the same.
            key = (kind, text(meta, "namespace"), name, "" if name else str(index))
            unique[key] = (source, each)
        kept = tuple(unique.values())

        def views(*kinds: str) -> list[tuple[str, dict[str, Any]]]:
            return [(source, each) for source, each in kept if text(each, "kind") in kinds]

        return cls(
            items=kept,
            problems=tuple(problems),
            nodes=tuple(Node.of(each, source) for source, each in views("Node")),
            pods=tuple(Pod.of(each, source) for source, each in views("Pod")),
            daemonsets=tuple(DaemonSet.of(each, source) for source, each in views("DaemonSet")),
            workloads=tuple(Workload.of(each, source) for source, each in views(*WORKLOADS)),
            budgets=tuple(PodDisruptionBudget.of(each, source) for source, each in views("PodDisruptionBudget")),
            events=tuple(Event.of(each, source) for source, each in views("Event")),
            configmaps=tuple(ConfigMap.of(each, source) for source, each in views("ConfigMap")),
        )

    def of_kind(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Give the objects of a kind (`ClusterPolicy`) with their sources."""
        return [(source, each) for source, each in self.items if text(each, "kind") == kind]

    @property
    def kinds(self) -> Mapping[str, int]:
        """Count the objects of each kind."""
        return Counter(text(each, "kind") for _, each in self.items)

    def joined(self, *others: Objects) -> Objects:
        """Put several together, the later ones holding where both have an object."""
        together = (self, *others)
        return Objects.of(
            (each for one in together for each in one.items), (each for one in together for each in one.problems)
        )


def object_proof(obj: Mapping[str, Any], source: str, statement: str) -> Proof:
    """Prove something by an object that has no view."""
    namespace, name = text(obj.get("metadata"), "namespace"), text(obj.get("metadata"), "name")
    kind = text(obj, "kind").lower()
    return Proof.of(source, f"{kind} {namespace + '/' if namespace else ''}{name}", statement)


def read_objects(data: bytes | str, source: str) -> Objects:
    """Read the objects of one document: what `kubectl get ... -o json|yaml` printed, a manifest, a must-gather file.

    Parameters
    ----------
    data
        The document: JSON or YAML, one object, a List, or several documents.
    source
        Its name, for proofs and messages.

    Raises
    ------
    InputError
        If there is no object in it, or it is too large or nested too deeply, also by aliases.
    """
    found = read_manifests(data, source)
    return Objects.of(((source, each) for each in found.items), (f"{source}: {each}" for each in found.problems))
