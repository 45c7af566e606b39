"""The GPU operator: labels the nodes, makes DaemonSets of the ClusterPolicy, and writes down how it stands.

It does so only while its own pod runs. Its status has the trap of the real one: `ready` where no node has a label of
NFD, and where no node has a GPU, since nothing is then asked for that could be unready.
"""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from leptonami.lab.fleet.behaviours import Life, Step
from leptonami.lab.fleet.cluster import Cluster, Object
from leptonami.lab.fleet.gpu.driver import image_for
from leptonami.lab.fleet.gpu.logs import lines
from leptonami.lab.fleet.gpu.nfd import PREFIX
from leptonami.lab.fleet.gpu.operands import NAMESPACE, TABLE, Operand, daemonset, enabled, operands_of
from leptonami.lab.fleet.gpu.stack import pause
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.recorder import mark
from leptonami.lab.fleet.writes import merged, now_text
from leptonami.readers.gpuoperands import DEPLOY, NFD_LABELS, PRESENT

__all__ = ["Operator", "conditions", "gpu_labels", "set_ready"]

REQUEUE = 5  # seconds: clusterpolicy_controller.go, while something is not ready
SHARE = 20  # of the loop's time: with thousands of nodes it looks less often
HASH = "nvidia.com/last-applied-hash"
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "nvidia",
}


class Operator:
    """The operator's container."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock
        self.said = ""

    def outcome(self, life: Life, now: float) -> Step:
        """Reconcile."""
        began = time.monotonic()
        version = life.container["image"].rpartition(":")[2]
        log: list[str] = []
        policies = sorted(self.cluster.all("clusterpolicies"), key=lambda each: each["metadata"].get("uid") or "~")
        policies.sort(key=lambda each: each["metadata"].get("creationTimestamp") or "~")
        if version in TABLE.versions and policies and policies[0]["metadata"].get("uid"):
            log += self.reconcile(policies[0], version)
            for each in policies[1:]:
                self.write(each, {"state": "ignored"})
        elif version not in TABLE.versions and life.steps == 0:
            log.append(f"the lab has no GPU operator {version}, only {', '.join(TABLE.versions)}: nothing is done")
        least = max(0.2, SHARE * (time.monotonic() - began))
        return Step(seconds=pause(self.clock, REQUEUE, least), log=tuple(log))

    def reconcile(self, policy: Object, version: str) -> Iterator[str]:
        """Bring the cluster to what the ClusterPolicy asks for."""
        if self.cluster.get("runtimeclasses", None, "nvidia") is None:
            self.cluster.create("runtimeclasses", RUNTIME_CLASS)
        nodes = self.cluster.all("nodes")
        for node in nodes:
            labels = node["metadata"].get("labels") or {}
            if wanted := gpu_labels(labels):
                self.cluster.patch("nodes", None, node["metadata"]["name"], {"metadata": {"labels": wanted}})
                yield from lines("operator-labels", node=node["metadata"]["name"])
        labelled = {
            each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in self.cluster.all("nodes")
        }
        gpus = {name: labels for name, labels in labelled.items() if labels.get(PRESENT) == "true"}
        waiting = list(self.operands(policy, version, gpus))
        discovered = any(key.startswith(PREFIX) for labels in labelled.values() for key in labels)
        ready, reason, message = verdict(waiting, discovered=discovered, gpus=bool(gpus))
        status = {"state": "ready" if ready else "notReady", "namespace": NAMESPACE}
        self.write(policy, status | {"conditions": conditions(policy, ready=ready, reason=reason, message=message)})
        if reason + message != self.said:
            self.said = reason + message
            told = {"NFDLabelsMissing": "operator-no-nfd", "NoGPUNodes": "operator-no-gpu"}.get(reason)
            yield from lines(told or ("operator-ready" if ready else "operator-not-ready"), message=message)

    def operands(self, policy: Object, version: str, gpus: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        """Make the DaemonSets, and give the names of the states that are not ready."""
        spec = policy.get("spec") or {}
        stated = {key: value for key, value in (spec.get("driver") or {}).items() if value}
        image = image_for(gpus, TABLE.versions[version].driver.model_dump() | stated, version)
        for _, operand in operands_of(version):
            there = self.cluster.get("daemonsets", NAMESPACE, operand.name)
            if not enabled(operand, spec):
                if there is not None:
                    self.cluster.delete("daemonsets", NAMESPACE, operand.name)
            elif gpus:  # else "No GPU node in the cluster, do not create DaemonSets"; those that are there stay
                if image or operand.container.image != "driver":
                    self.apply(operand, policy, version, image, there)
                if there is None or not set_ready(there):
                    yield operand.state

    def apply(self, operand: Operand, policy: Object, version: str, image: str, there: Object | None) -> None:
        """Make one DaemonSet, or bring it up to date where what is wanted has changed since it was written."""
        wanted = daemonset(operand, version, policy, image)
        digest = hashlib.sha256(orjson.dumps(wanted["spec"], option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]
        wanted = merged(wanted, {"metadata": {"annotations": {HASH: digest}}})
        if there is None:
            self.cluster.create("daemonsets", wanted)
        elif (there["metadata"].get("annotations") or {}).get(HASH) != digest:
            self.cluster.patch(
                "daemonsets", NAMESPACE, operand.name, {key: wanted[key] for key in ("metadata", "spec")}
            )

    def write(self, policy: Object, status: Object) -> None:
        """Write a ClusterPolicy's status if it says something new, and the first time that it is simulated."""
        name = policy["metadata"]["name"]
        if any((policy.get("status") or {}).get(key) != value for key, value in status.items()):
            self.cluster.patch("clusterpolicies", None, name, {"status": status}, subresource="status")
            if marked := mark(policy):
                self.cluster.patch("clusterpolicies", None, name, marked)


def gpu_labels(labels: Mapping[str, str]) -> dict[str, str | None]:
    """Give the labels of the operator's that a node lacks, or (None) has in vain. Existing values stay."""
    deploy = [f"{DEPLOY}{each}" for each in TABLE.deploy_labels]
    if any(labels.get(key) == "true" for key in NFD_LABELS):
        found: dict[str, str | None] = {key: "true" for key in deploy if key not in labels}
        return found | ({} if labels.get(PRESENT) == "true" else {PRESENT: "true"})
    if labels.get(PRESENT) == "true":
        return {key: None for key in deploy if key in labels} | {PRESENT: "false"}
    return {}


def set_ready(daemonset: Object) -> bool:
    """Tell whether a DaemonSet is ready: also if it wants no pod (`isDaemonSetReady`)."""
    status = daemonset.get("status") or {}
    if status.get("observedGeneration") != daemonset["metadata"].get("generation"):
        return False
    wanted = status.get("desiredNumberScheduled", 0)
    return bool(wanted == 0 or status.get("numberAvailable", 0) >= wanted)


def verdict(waiting: list[str], *, discovered: bool, gpus: bool) -> tuple[bool, str, str]:
    """Give whether the policy is ready, the reason and the message (clusterpolicy_controller.go)."""
    if waiting:
        return False, "OperandNotReady", f"ClusterPolicy is not ready, states not ready: [{' '.join(waiting)}]"
    if not discovered:
        return True, "NFDLabelsMissing", "No NFD labels found"
    if not gpus:
        return True, "NoGPUNodes", "No GPU node found, watching for new nodes to join the cluster."
    return True, "Reconciled", "ClusterPolicy is ready as all resources have been successfully reconciled"


def conditions(policy: Mapping[str, Any], *, ready: bool, reason: str, message: str) -> list[Object]:
    """Give the conditions (internal/conditions); the time is that of the last change of a status."""
    before = {each["type"]: each for each in (policy.get("status") or {}).get("conditions") or ()}
    found = []
    for kind, holds in (("Ready", ready), ("Error", not ready)):
        told = (reason, message) if holds else ("Ready" if ready else "Error", "")
        status = "True" if holds else "False"
        old = before.get(kind, {})
        since = old["lastTransitionTime"] if old.get("status") == status else now_text()
        found.append(
            {"type": kind, "status": status, "reason": told[0], "message": told[1], "lastTransitionTime": since}
        )
    return found
