"""A pod's status, worked out from its containers: phase and conditions, as kubelets report them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from leptonami.lab.fleet.behaviours import Life
from leptonami.lab.fleet.cluster import Object

__all__ = ["Box", "Log", "boxes_of", "news", "quality", "status"]

Role = Literal["init", "sidecar", "main"]
# new: not looked at yet; preparing: its image and its start are under way; waiting: for the next try
Stage = Literal["new", "preparing", "waiting", "running", "ended"]
MOST_LINES = 5000  # of a container's log that are kept


class Log:
    """The lines that a container wrote, each with its time. Written by one thread, read by others.

    Attributes
    ----------
    kept
        How many of the oldest lines were dropped, and a list of the others, which only grows: one value, since who
        reads the two one after the other may take lines for what they are not.
    """

    def __init__(self) -> None:
        self.kept: tuple[int, list[tuple[str, str]]] = (0, [])
        self.ended = False

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Give the lines that are kept."""
        return self.kept[1]

    def add(self, stamp: str, lines: Iterable[str]) -> None:
        """Add lines; a text of several lines is as many."""
        dropped, held = self.kept
        held += [(stamp, line) for text in lines for line in text.split("\n")]
        if len(held) > 2 * MOST_LINES:
            self.kept = dropped + len(held) - MOST_LINES, held[-MOST_LINES:]


@dataclass
class Box:
    """A container of a pod on a node: its place in the spec, its state, and what it is doing."""

    spec: Object
    role: Role
    state: Object
    last: Object = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restarts: int = 0
    image_id: str = ""
    container_id: str = ""
    life: Life | None = None
    log: Log | None = None
    previous: Log | None = None
    crash_wait: float = 0.0
    pull_wait: float = 0.0
    stage: Stage = "new"

    @property
    def name(self) -> str:
        """Give its name."""
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Give its exit code; None unless it has ended and waits for nothing."""
        code = self.state.get("terminated", {}).get("exitCode")
        return None if code is None else int(code)

    @property
    def done(self) -> bool:
        """Tell whether the next container may start, as far as it is up to this one."""
        return self.exit_code == 0 if self.role == "init" else self.started

    def report(self) -> Object:
        """Give its status."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.image_id,
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "restartCount": self.restarts,
            "started": self.started,
            **({"containerID": self.container_id} if self.container_id else {}),
        }


def boxes_of(pod: Object) -> list[Box]:
    """Give a pod's containers in the order in which they start."""
    spec = pod["spec"]
    inits = spec.get("initContainers") or []
    reason = "PodInitializing" if inits else "ContainerCreating"
    waiting = {"waiting": {"reason": reason}}
    roles: list[tuple[Object, Role]] = [
        (each, "sidecar" if each.get("restartPolicy") == "Always" else "init") for each in inits
    ]
    roles += [(each, "main") for each in spec["containers"]]
    return [Box(each, role, waiting) for each, role in roles]


def phase(boxes: Sequence[Box], policy: str) -> str:
    """Give the pod's phase (getPhase in pkg/kubelet/kubelet_pods.go)."""
    mains = [box for box in boxes if box.role == "main"]
    if any(box.role == "init" and not box.done for box in boxes):
        failed = any(box.role == "init" and (box.exit_code or 0) > 0 for box in boxes)
        return "Failed" if failed and policy == "Never" else "Pending"
    codes = [box.exit_code for box in mains]
    if policy != "Always" and all(code is not None and (code == 0 or policy == "Never") for code in codes):
        return "Failed" if any(codes) else "Succeeded"
    if any("waiting" in box.state and not box.last for box in mains):
        return "Pending"
    return "Running"


def conditions(pod: Object, boxes: Sequence[Box], now: str, *, sandbox: bool, ended: str) -> list[Object]:
    """Give the kubelet's conditions, and those of others as they are."""
    before = {each["type"]: each for each in pod.get("status", {}).get("conditions") or ()}
    late = [box.name for box in boxes if box.role != "main" and not box.done]
    unready = [box.name for box in boxes if box.role != "init" and not box.ready]
    gates = [each["conditionType"] for each in pod["spec"].get("readinessGates") or ()]
    closed = [each for each in gates if before.get(each, {}).get("status") != "True"]
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(ended, "")
    not_ready = (reason or "ContainersNotReady", "" if reason else f"containers with unready status: {listed(unready)}")
    initialised = ("", "")
    if reason == "PodCompleted":
        initialised = (reason, "")
    elif late:
        initialised = ("ContainersNotInitialized", f"containers with incomplete status: {listed(late)}")
    gated = (
        "ReadinessGatesNotReady",
        "; ".join(f'corresponding condition of pod readiness gate "{each}" does not exist.' for each in closed),
    )
    found = [
        ("PodReadyToStartContainers", sandbox and not ended, ("", "")),
        ("Initialized", not late or reason == "PodCompleted", initialised),
        ("Ready", not unready and not closed and not ended, not_ready if unready or ended else gated),
        ("ContainersReady", not unready and not ended, not_ready),
        ("PodScheduled", True, ("", "")),
    ]
    return [
        condition(kind, good, () if good and kind != "Initialized" else why, before.get(kind), now)
        for kind, good, why in found
    ] + [each for kind, each in before.items() if kind not in {item[0] for item in found}]


def condition(kind: str, good: bool, why: Sequence[str], before: Mapping[str, Any] | None, now: str) -> Object:
    """Give a condition, whose transition time is the former one's while its status is."""
    value = "True" if good else "False"
    since = before.get("lastTransitionTime") if before and before["status"] == value else None
    words = {key: word for key, word in zip(("reason", "message"), why, strict=False) if word}
    return {"type": kind, "status": value, "lastTransitionTime": since or now, **words}


def news(held: Mapping[str, Any], found: Object) -> Object:
    """Give what of a status the cluster does not have yet.

    Real API servers give conditions a `lastProbeTime: null`, the lab's gives none: it says nothing, and a kubelet that
    took it for a difference would write for ever.
    """
    return {key: value for key, value in found.items() if bare(held.get(key)) != value}


def bare(value: Any) -> Any:
    """Give a status' field without the nulls in its parts."""
    if isinstance(value, list):
        return [
            {key: part for key, part in each.items() if part is not None} if isinstance(each, dict) else each
            for each in value
        ]
    return value


def listed(names: Sequence[str]) -> str:
    """Write names as Go prints a slice."""
    return f"[{' '.join(names)}]"


def status(
    pod: Object,
    boxes: Sequence[Box],
    now: str,
    *,
    host_ip: str,
    pod_ip: str,
    start: str,
    refused: tuple[str, str] | None,
) -> Object:
    """Give a pod's status.

    Parameters
    ----------
    pod_ip
        Its address; "" while it has no sandbox.
    start
        When the kubelet took note of it.
    refused
        Reason and message with which the kubelet refused it.
    """
    current = "Failed" if refused else phase(boxes, pod["spec"].get("restartPolicy", "Always"))
    ended = current if current in {"Succeeded", "Failed"} else ""
    found: Object = {
        "phase": current,
        "conditions": conditions(pod, boxes, now, sandbox=bool(pod_ip), ended=ended),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": start,
        "qosClass": quality(pod),
    }
    if refused:
        return {**found, "reason": refused[0], "message": refused[1]}
    if pod_ip:
        found |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    inits = [box.report() for box in boxes if box.role != "main"]
    if inits:
        found["initContainerStatuses"] = inits
    return {**found, "containerStatuses": [box.report() for box in boxes if box.role == "main"]}


def quality(pod: Object) -> str:
    """Give the class of a pod's quality of service."""
    every = [
        (each.get("resources") or {}) for each in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]
    ]
    asked = [(each.get("requests") or {}, each.get("limits") or {}) for each in every]
    kinds = ("cpu", "memory")
    if not any(kind in requests or kind in limits for requests, limits in asked for kind in kinds):
        return "BestEffort"
    sure = all(
        kind in limits and requests.get(kind, limits[kind]) == limits[kind]
        for requests, limits in asked
        for kind in kinds
    )
    return "Guaranteed" if sure else "Burstable"
