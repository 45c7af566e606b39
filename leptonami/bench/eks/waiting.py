"""What a trial waits for on EKS: its node, its pod's first output, its GPUs. Found by asking again and again.

What is found so is as fine as it was asked, and marked so; finer sources of the same mark win where they exist.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leptonami import kube
from leptonami.bench.clocks import Bound
from leptonami.bench.eks import awsmarks, kubemarks
from leptonami.errors import LeptonamiError, Timeout

if TYPE_CHECKING:
    from leptonami.bench.eks.account import Account
    from leptonami.bench.eks.launching import Launcher
    from leptonami.bench.marks import Mark
    from leptonami.bench.model import Trial, Value
    from leptonami.target import Provenance

__all__ = ["Waiting", "Watch"]

GONE = {"shutting-down", "terminated", "stopping", "stopped"}
# What a pod waits for in vain: https://kubernetes.io/docs/concepts/containers/images/ and pkg/kubelet/images.
HOPELESS = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
GPU = "nvidia.com/gpu"
# How long the kubelet may take for the events of a container that it has started; it drops some when it has too many.
EVENTS_S = 10.0


@dataclass
class Watch:
    """What is found by asking: a mark when the answer changes, as fine as it was asked; what it tells of clocks."""

    provenance: Provenance
    deadline: float
    pause: float
    marks: list[Mark] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)

    def see(self, name: str, reached: bool, source: str) -> bool:
        """Take an answer; tell whether it has been reached."""
        now = time.time()
        if reached and all(each.name != name for each in self.marks):
            before = self.asked.get(name, now)
            self.marks.append(awsmarks.from_asking(name, now, before, source, self.provenance))
        self.asked[name] = now
        return reached

    def wait(self, what: str) -> None:
        """Pause before asking again.

        Raises
        ------
        Timeout
            If there is no time left.
        """
        if time.monotonic() + self.pause > self.deadline:
            raise Timeout(f"the trial's time-out passed while waiting for {what}")
        time.sleep(self.pause)


@dataclass(frozen=True)
class Waiting:
    """Waits for one trial after the other; the trial's `Watch` has the deadline, and takes the marks."""

    account: Account
    cluster: kube.Cluster
    by: Launcher
    provenance: Provenance

    def joined(self, trial: Trial, watch: Watch) -> tuple[str, Any]:
        """Wait until the trial's instance runs and its node is registered; give its id and the node."""
        running, instance = False, ""
        while True:
            instance = instance or self.by.instance(trial)
            if instance and not running:
                machine = self.account.describe(instance)
                state = machine.get("State", {}).get("Name", "")
                if state in GONE:
                    why = machine.get("StateReason", {}).get("Message") or machine.get("StateTransitionReason") or state
                    raise LeptonamiError(f"the instance did not live: {why}", resource=instance)
                running = watch.see("running", state == "running", "ec2:DescribeInstances")
            for each in self.cluster.objects("nodes") if instance else []:
                if str((each.get("spec") or {}).get("providerID", "")).endswith(f"/{instance}"):
                    return instance, each
            what = f"{instance} to join the cluster" if running else f"{instance or 'an instance'} to run"
            watch.wait(what)

    def spoke(self, pod: Any, watch: Watch) -> Any:
        """Wait for the pod's first output, and mark it; give the pod as it is then.

        The node stamped it before it was seen here: its clock is ahead by what the stamp is ahead, at least. That
        needs neither SSM nor the kubelet's metrics.
        """
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        while True:
            found = self.cluster.object("pods", name, namespace)
            if found is None:
                raise LeptonamiError("somebody has deleted the trial's pod", resource=f"pod {namespace}/{name}")
            phase, problem, waiting = state_of(found)
            if problem in HOPELESS:
                raise LeptonamiError(f"the pod cannot start: {problem}: {waiting}", resource=f"pod {namespace}/{name}")
            if phase in {"Running", "Succeeded", "Failed"}:
                marks = kubemarks.from_log(self.lines(namespace, name), self.provenance)
                if marks:
                    seen = time.time() - marks[0].at
                    watch.marks += marks
                    watch.bounds.append(Bound("host", marks[0].clock, seen, "first output seen in the log"))
                    return self.cluster.object("pods", name, namespace) or found
                if phase != "Running":
                    raise LeptonamiError(
                        f"the container ended ({phase}) and wrote nothing",
                        resource=f"pod {namespace}/{name}",
                        hint="give the image a `command` that writes a line when it is of use",
                    )
            watch.wait(f"the pod's first output ({problem or phase or 'not scheduled'})")

    def told(self, uid: str, namespace: str, pause: float) -> tuple[Mark, ...]:
        """Give the marks of a pod's events, once the start of its container is among them: it is the last of them.

        The kubelet writes events aside, after what they tell; the container's output may be there first.
        """
        until = time.monotonic() + EVENTS_S
        while True:
            events = self.cluster.objects("events", namespace=namespace)
            found = kubemarks.from_events(events, uid, self.provenance)
            if any(each.name == "started" for each in found) or time.monotonic() > until:
                return found
            time.sleep(pause)

    def gpu_there(self, node: str, gpus: int, watch: Watch) -> dict[str, Value]:
        """Wait for the node's GPUs to be allocatable, if it has some and a device plugin to say so."""
        if not gpus:
            return {}
        while not watch.see("gpu-allocatable", self.allocatable(node) > 0, "node.status.allocatable"):
            if not any(on_node(each, node) for each in self.cluster.objects("pods")):
                return {"gpu": "no device plugin runs on the node, so no GPU is allocatable"}
            try:
                watch.wait("the GPU to be allocatable")
            except Timeout:
                return {"gpu": "not allocatable by the end of the trial's time"}
        return {"gpu": self.allocatable(node)}

    def allocatable(self, node: str) -> int:
        """Count a node's allocatable GPUs."""
        found = self.cluster.object("nodes", node) or {}
        count = str(((found.get("status") or {}).get("allocatable") or {}).get(GPU, "0"))
        return int(count) if count.isdecimal() else 0

    def lines(self, namespace: str, name: str) -> Iterator[bytes]:
        """Give the first lines of the pod's log; none while there is no log."""
        try:
            yield from b"".join(self.cluster.log(namespace, name)).splitlines()[:100]
        except kube.KubeError as error:
            if error.status not in {400, 404}:
                raise


def on_node(pod: Any, node: str) -> bool:
    """Tell whether a pod is a device plugin on a node."""
    return (pod.get("spec") or {}).get("nodeName") == node and "device-plugin" in pod["metadata"]["name"]


def state_of(pod: Any) -> tuple[str, str, str]:
    """Give a pod's phase, and the reason and message with which its container waits."""
    status = pod.get("status") or {}
    containers: Sequence[Any] = status.get("containerStatuses") or [{}]
    waiting = (containers[0].get("state") or {}).get("waiting") or {}
    return str(status.get("phase", "")), str(waiting.get("reason", "")), str(waiting.get("message", ""))[:300]
