"""A cluster in a dictionary, with a clock that stands still: the fleet's controllers cannot tell it from `Cluster`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from leptonami.lab.fleet.cluster import Key, owner_of
from leptonami.lab.fleet.controllers.driver import KINDS, Workloads
from leptonami.lab.fleet.loop import Clock
from leptonami.lab.fleet.scheduler import Scheduler
from leptonami.lab.fleet.writes import merged

Object = dict[str, Any]
START = 1_700_000_000.0


class World:
    """Objects, what was changed, and the events. `seconds` passes by `wait` only."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.events: list[tuple[str, str, str, str]] = []
        self.seconds = 0.0
        self.clock = Clock(1.0, monotonic=lambda: self.seconds, wall=lambda: START + self.seconds)
        self.scheduler, self.workloads = Scheduler(self.clock), Workloads(self.clock)
        self.refuses: Callable[[str, str, Object], bool] = lambda verb, plural, obj: False
        self._changes: set[Key] = set()
        self._number = itertools.count(1)

    # --- what the controllers use -------------------------------------------------------------------------------------

    def all(self, plural: str, namespace: str | None = None) -> list[Object]:
        return [obj for (kind, place, _), obj in self.objects.items() if kind == plural and namespace in (None, place)]

    def get(self, plural: str, namespace: str | None, name: str) -> Object | None:
        return self.objects.get((plural, namespace or "", name))

    def by_node(self, node: str) -> list[Object]:
        return [pod for pod in self.all("pods") if pod["spec"].get("nodeName") == node]

    def by_owner(self, uid: str) -> list[Object]:
        return [obj for obj in self.objects.values() if owner_of(obj) == uid]

    def create(self, plural: str, obj: Object) -> str:
        about, number = obj["metadata"], next(self._number)
        name = about.get("name") or f"{about['generateName']}{number:05}"
        key = (plural, about.get("namespace") or "", name)
        self._changes.add(key)
        if self.refuses("create", plural, obj) or key in self.objects:
            return name
        meta = {"generation": 1, **about, "name": name, "uid": f"uid-{number}", "creationTimestamp": self.stamp()}
        self.objects[key] = {**obj, "metadata": {**meta, "resourceVersion": str(number)}}
        return name

    def patch(self, plural: str, namespace: str | None, name: str, body: Object, subresource: str = "") -> None:
        key = (plural, namespace or "", name)
        if (old := self.objects.get(key)) is None:
            return
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted not in (None, old["metadata"]["resourceVersion"]):
            return
        # As the real ones of apps, batch and policy: annotations go with a status.
        notes = {"annotations": (body.get("metadata") or {}).get("annotations") or {}}
        kept = {"metadata": notes, subresource: body.get(subresource) or {}} if subresource else body
        new = merged(old, kept)
        about = {**new["metadata"], "resourceVersion": str(next(self._number))}
        if not subresource and new.get("spec") != old.get("spec"):
            about["generation"] = old["metadata"]["generation"] + 1
        self._put(key, {**new, "metadata": about})

    def delete(self, plural: str, namespace: str | None, name: str, grace: int | None = None) -> None:
        key = (plural, namespace or "", name)
        if (old := self.objects.get(key)) is None:
            return
        stays = plural == "pods" and grace != 0 and old["spec"].get("nodeName")
        if stays or old["metadata"].get("finalizers"):
            self._put(key, merged(old, {"metadata": {"deletionTimestamp": self.stamp()}}))
        else:
            del self.objects[key]
            self._changes.add(key)

    def bind(self, pod: Object, node: str) -> None:
        about = pod["metadata"]
        if not self.refuses("bind", "pods", pod):
            self.patch("pods", about["namespace"], about["name"], {"spec": {"nodeName": node}})
        self._changes.add(("pods", about["namespace"], about["name"]))

    def event(self, obj: Object, type: str, reason: str, message: str, component: str) -> None:
        self.events.append((component, obj["metadata"]["name"], reason, message))

    # --- what the tests use -------------------------------------------------------------------------------------------

    def _put(self, key: Key, obj: Object) -> None:
        self._changes.add(key)
        self.objects[key] = obj
        held = obj["metadata"].get("finalizers") if key[0] != "pods" else obj["spec"].get("nodeName")
        if obj["metadata"].get("deletionTimestamp") and not held:
            del self.objects[key]

    def stamp(self) -> str:
        return datetime.fromtimestamp(START + self.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def wait(self, seconds: float) -> None:
        """Let time pass, and the controllers have their say."""
        self.seconds += seconds
        self.turn()

    def turn(self) -> None:
        """Let each controller have one step."""
        changes, self._changes = self._changes, set()
        for controller in (self.scheduler, self.workloads):
            controller.step(self, self.clock.now(), changes)  # type: ignore[arg-type]

    def settle(self, rounds: int = 60) -> None:
        """Let a second pass at a time, with kubelets that do at once what they are told, until nothing happens."""
        for _ in range(rounds):
            self.wait(1.0)
            self.kubelets()
            if not self._changes:
                return

    def kubelets(self) -> None:
        """Run what is bound and make it ready; let go of what is deleted."""
        for pod in self.all("pods"):
            if pod["spec"].get("nodeName") and pod["metadata"].get("deletionTimestamp"):
                self.gone(pod)
            elif pod["spec"].get("nodeName") and not pod.get("status", {}).get("phase"):
                self.becomes(pod)

    def gone(self, pod: Object) -> None:
        """Have a pod's containers ended; it goes away unless something holds it."""
        about = pod["metadata"]
        if about.get("finalizers"):
            if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
                self.becomes(pod, "Failed")
        else:
            self.delete("pods", about["namespace"], about["name"], 0)

    def becomes(self, pod: Object, phase: str = "Running", *, ready: bool | None = None) -> None:
        """Give a pod a phase, and by default make a running one ready."""
        about = pod["metadata"]
        word = str(phase == "Running" if ready is None else ready)
        ended = {"state": {"terminated": {"finishedAt": self.stamp()}}} if phase in {"Succeeded", "Failed"} else {}
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": self.stamp()}],
            "containerStatuses": [{"restartCount": 0, **ended}],
        }
        self.patch("pods", about["namespace"], about["name"], {"status": status}, "status")

    def pods(self, **labels: str) -> list[Object]:
        """Give the pods with some labels that are not on their way out."""
        return [
            pod
            for pod in self.all("pods")
            if not pod["metadata"].get("deletionTimestamp")
            and all((pod["metadata"].get("labels") or {}).get(key) == value for key, value in labels.items())
        ]

    def add(self, obj: Object, plural: str = "") -> Object:
        """Create an object and give it."""
        plural = plural or next(
            (name for name, (kind, *_) in KINDS.items() if kind == obj["kind"]), f"{obj['kind'].lower()}s"
        )
        name = self.create(plural, obj)
        found = self.get(plural, obj["metadata"].get("namespace"), name)
        assert found is not None
        return found

    def status(self, plural: str, name: str) -> Object:
        found = self.get(plural, "default", name)
        assert found is not None
        return found.get("status") or {}

    def reasons(self, name: str) -> list[tuple[str, str]]:
        """Give the events of an object."""
        return [(reason, message) for _, about, reason, message in self.events if about == name]


def node(
    name: str, *, labels: Object | None = None, taints: Iterable[Object] = (), unschedulable: bool = False, **has: str
) -> Object:
    """Give a Node that is ready."""
    amounts = {
        "cpu": "4",
        "memory": "16Gi",
        "pods": "110",
        **{key.replace("__", "/"): value for key, value in has.items()},
    }
    spec: Object = {"taints": list(taints)} if taints else {}
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def pod(name: str, *, labels: Object | None = None, requests: Object | None = None, **spec: Any) -> Object:
    """Give a Pod of one container."""
    container = {"name": "main", "image": "lab/main", "resources": {"requests": requests or {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def workload(kind: str, name: str, *, image: str = "lab/main:1", template: Object | None = None, **spec: Any) -> Object:
    """Give a workload whose pods carry the label app=<name>; `template` adds to the pod's spec."""
    labels = {"app": name}
    body: Object = {
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": image}], **(template or {})},
        },
        **spec,
    }
    if kind != "Job":
        body["selector"] = {"matchLabels": labels}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": body}
