"""The cells of tables that are computed: a pod's status, a node's roles, what a service exposes.

One function per kind gives its computed cells by column name. They follow
kubernetes/pkg/printers/internalversion/printers.go, word by word where a word is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from leptonami.lab.conditions import condition, holds
from leptonami.lab.kube.objects import Object, value_at
from leptonami.lab.kube.selectors import selector_text
from leptonami.lab.kube.tables import human_duration, seconds_of, since

__all__ = ["CELLS"]

Cells = dict[str, Any]
NONE, UNKNOWN, UNSET = "<none>", "<unknown>", "<unset>"
ROLE = "node-role.kubernetes.io/"
ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def joined(values: Iterable[Any], default: str = NONE) -> str:
    """Join with commas."""
    return ",".join(str(each) for each in values) or default


def labels(of: Mapping[str, str] | None) -> str:
    """Write labels as a selector."""
    return joined(f"{key}={value}" for key, value in sorted((of or {}).items()))


def containers(template: Object) -> Cells:
    """Name the containers and images of a pod template, for `-o wide`."""
    found = value_at(template, "spec.containers", [])
    return {
        "Containers": ",".join(each.get("name", "") for each in found),
        "Images": ",".join(each.get("image", "") for each in found),
    }


def workload(obj: Object, now: float) -> Cells:  # noqa: ARG001 - all have this shape
    """Give what workloads have in common."""
    wanted, ready = value_at(obj, "spec.replicas", 1), value_at(obj, "status.readyReplicas", 0)
    chosen = selector_text(value_at(obj, "spec.selector")) or NONE
    cells: Cells = {**containers(value_at(obj, "spec.template", {})), "Selector": chosen}
    if obj.get("kind") in {"Deployment", "StatefulSet"}:
        cells["Ready"] = f"{ready}/{wanted}"
    return cells


def daemon_set(obj: Object, now: float) -> Cells:
    """Give the cells of a DaemonSet."""
    return {**workload(obj, now), "Node Selector": labels(value_at(obj, "spec.template.spec.nodeSelector"))}


def job(obj: Object, now: float) -> Cells:
    """Give the cells of a Job."""
    done, wanted = value_at(obj, "status.succeeded", 0), value_at(obj, "spec.completions")
    parallel = value_at(obj, "spec.parallelism", 1)
    if wanted is not None:
        completions = f"{done}/{wanted}"
    else:
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    start, end = (seconds_of(value_at(obj, f"status.{each}")) for each in ("startTime", "completionTime"))
    if value_at(obj, "metadata.deletionTimestamp"):
        running = "Terminating"
    elif holds(obj, "Suspended"):
        running = "Suspended"
    elif holds(obj, "FailureTarget"):
        running = "FailureTarget"
    else:
        running = "SuccessCriteriaMet" if holds(obj, "SuccessCriteriaMet") else "Running"
    status = "Complete" if holds(obj, "Complete") else "Failed" if holds(obj, "Failed") else running
    duration = "" if start is None else human_duration((end or now) - start)
    return {**workload(obj, now), "Status": status, "Completions": completions, "Duration": duration}


def cron_job(obj: Object, now: float) -> Cells:
    """Give the cells of a CronJob."""
    last = value_at(obj, "status.lastScheduleTime")
    return {
        **containers(value_at(obj, "spec.jobTemplate.spec.template", {})),
        "Selector": selector_text(value_at(obj, "spec.jobTemplate.spec.selector")) or NONE,
        "Timezone": value_at(obj, "spec.timeZone", NONE),
        "Suspend": str(value_at(obj, "spec.suspend", False)),
        "Active": len(value_at(obj, "status.active", [])),
        "Last Schedule": since(last, now) if last else NONE,
    }


def node(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Give the cells of a Node."""
    ready = condition(obj, "Ready")
    status = ["Unknown"] if not ready else ["Ready" if ready.get("status") == "True" else "NotReady"]
    if value_at(obj, "spec.unschedulable"):
        status.append("SchedulingDisabled")
    of = value_at(obj, "metadata.labels", {})
    roles = {key.removeprefix(ROLE) for key in of if key.startswith(ROLE) and len(key) > len(ROLE)}
    roles |= {of["kubernetes.io/role"]} if of.get("kubernetes.io/role") else set()
    addresses = {each.get("type"): each.get("address") for each in reversed(value_at(obj, "status.addresses", []))}
    info = value_at(obj, "status.nodeInfo", {})
    return {
        "Status": ",".join(status),
        "Roles": joined(sorted(roles)),
        "Internal-IP": addresses.get("InternalIP", NONE),
        "External-IP": addresses.get("ExternalIP", NONE),
        "OS-Image": info.get("osImage") or UNKNOWN,
        "Kernel-Version": info.get("kernelVersion") or UNKNOWN,
        "Container-Runtime": info.get("containerRuntimeVersion") or UNKNOWN,
    }


def state(status: Object, kind: str) -> Object | None:
    """Give a state of a container, if it is in that one."""
    found = (status.get("state") or {}).get(kind)
    return found if isinstance(found, dict) else None


def exit_words(terminated: Object) -> str:
    """Say how a container ended."""
    if terminated.get("reason"):
        return str(terminated["reason"])
    signal = terminated.get("signal", 0)
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode', 0)}"


def last_end(statuses: Iterable[Object]) -> str:
    """Tell when containers were last terminated; empty if never."""
    ends = (value_at(each, "lastState.terminated.finishedAt", "") for each in statuses)
    return max(ends, default="")


def initializing(spec: Object, status: Object, sidecars: set[str]) -> tuple[str, int]:
    """Say what the init containers are at (empty: done with), and how many sidecars are ready."""
    ready = 0
    for place, each in enumerate(status.get("initContainerStatuses") or ()):
        terminated, waiting = state(each, "terminated"), state(each, "waiting")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if each.get("name") in sidecars and each.get("started"):
            ready += bool(each.get("ready"))
            continue
        if terminated is not None:
            return "Init:" + exit_words(terminated), ready
        if waiting and waiting.get("reason") not in {None, "", "PodInitializing"}:
            return "Init:" + waiting["reason"], ready
        return f"Init:{place}/{len(spec.get('initContainers') or ())}", ready
    return "", ready


def running(status: Object, reason: str, *, ready_pod: bool) -> tuple[str, int]:
    """Say what the containers are at, and how many are ready."""
    ready, alive = 0, False
    for each in reversed(status.get("containerStatuses") or ()):
        terminated, waiting = state(each, "terminated"), state(each, "waiting")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = exit_words(terminated)
        elif each.get("ready") and state(each, "running") is not None:
            alive, ready = True, ready + 1
    if reason == "Completed" and alive:
        reason = "Running" if ready_pod else "NotReady"
    return reason, ready


def pod(obj: Object, now: float) -> Cells:
    """Give the cells of a Pod."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    true = {kind for kind, each in conditions.items() if each.get("status") == "True"}
    sidecars = {each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}
    reason = status.get("reason") or status.get("phase") or ""
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    before, main = status.get("initContainerStatuses") or [], status.get("containerStatuses") or []
    begun, ready = initializing(spec, status, sidecars)
    # While init containers are at work it is their restarts that count; then those of sidecars and containers.
    counted = before
    if begun:
        reason = begun
    if not begun or "Initialized" in true:
        reason, more = running(status, reason, ready_pod="Ready" in true)
        ready += more
        counted = [*(each for each in before if each.get("name") in sidecars), *main]
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in {"Succeeded", "Failed"}:
            reason = "Terminating"
    restarts = sum(each.get("restartCount", 0) for each in counted)
    last = last_end(counted) if restarts else ""
    gates, addresses = spec.get("readinessGates") or (), status.get("podIPs")
    return {
        "Ready": f"{ready}/{len(spec.get('containers') or ()) + len(sidecars)}",
        "Status": reason,
        "Restarts": f"{restarts} ({since(last, now)} ago)" if last else str(restarts),
        "IP": (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        "Node": spec.get("nodeName") or NONE,
        "Nominated Node": status.get("nominatedNodeName") or NONE,
        "Readiness Gates": f"{sum(each['conditionType'] in true for each in gates)}/{len(gates)}" if gates else NONE,
    }


def event(obj: Object, now: float) -> Cells:
    """Give the cells of an Event, of either API."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    times = [obj.get(f"{each}Timestamp") or obj.get(f"deprecated{each.title()}Timestamp") for each in ("first", "last")]
    first = since(times[0] or obj.get("eventTime"), now)
    last = since(times[1], now) if times[1] else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series := obj.get("series"):
        last, count = since(series.get("lastObservedTime"), now), series.get("count", count)
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    kind = str(about.get("kind", "")).lower()
    return {
        "Last Seen": last,
        "Object": f"{kind}/{about['name']}" if about.get("name") else kind,
        "Source": f"{component}, {host}" if host else component,
        "Message": str(obj.get("message") or obj.get("note") or "").strip(),
        "First Seen": first,
        "Count": count,
    }


def service(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Give the cells of a Service."""
    spec = obj.get("spec") or {}
    kind, external = spec.get("type", "ClusterIP"), spec.get("externalIPs") or []
    if kind == "LoadBalancer":
        found = [
            each.get("ip") or each.get("hostname", "") for each in value_at(obj, "status.loadBalancer.ingress", [])
        ]
        outside = joined([*found, *external], "<pending>")
    else:
        outside = spec.get("externalName", "") if kind == "ExternalName" else joined(external)
    ports = [
        f"{each['port']}:{each['nodePort']}/{each.get('protocol', 'TCP')}"
        if each.get("nodePort")
        else f"{each['port']}/{each.get('protocol', 'TCP')}"
        for each in spec.get("ports") or []
    ]
    return {
        "Cluster-IP": spec.get("clusterIP") or NONE,
        "External-IP": outside,
        "Port(s)": joined(ports),
        "Selector": labels(spec.get("selector")),
    }


def budget(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Give the cells of a PodDisruptionBudget."""
    least, most = value_at(obj, "spec.minAvailable"), value_at(obj, "spec.maxUnavailable")
    return {
        "Min Available": "N/A" if least is None else str(least),
        "Max Unavailable": "N/A" if most is None else str(most),
    }


def modes(of: Iterable[str]) -> str:
    """Write access modes."""
    return ",".join(dict.fromkeys(ACCESS_MODES.get(each, each) for each in of))


def claim(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Give the cells of a PersistentVolumeClaim."""
    gone, bound = value_at(obj, "metadata.deletionTimestamp"), value_at(obj, "spec.volumeName")
    return {
        "Status": "Terminating" if gone else value_at(obj, "status.phase", ""),
        "Capacity": value_at(obj, "status.capacity.storage", "0") if bound else "",
        "Access Modes": modes(value_at(obj, "status.accessModes", [])) if bound else "",
        "StorageClass": value_at(obj, "spec.storageClassName", ""),
        "VolumeAttributesClass": value_at(obj, "spec.volumeAttributesClassName", UNSET),
    }


def storage_class(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Give the cells of a StorageClass."""
    notes = value_at(obj, "metadata.annotations", {})
    chosen = notes.get("storageclass.kubernetes.io/is-default-class") == "true"
    return {
        "Name": obj["metadata"]["name"] + (" (default)" if chosen else ""),
        "AllowVolumeExpansion": bool(obj.get("allowVolumeExpansion")),
    }


def data(obj: Object, now: float) -> Cells:  # noqa: ARG001
    """Count the entries of a ConfigMap or Secret."""
    return {"Data": len(obj.get("data") or {}) + len(obj.get("binaryData") or {})}


CELLS: dict[str, Callable[[Object, float], Cells]] = {
    "configmaps": data,
    "cronjobs.batch": cron_job,
    "daemonsets.apps": daemon_set,
    "deployments.apps": workload,
    "events": event,
    "jobs.batch": job,
    "nodes": node,
    "persistentvolumeclaims": claim,
    "poddisruptionbudgets.policy": budget,
    "pods": pod,
    "replicasets.apps": workload,
    "replicationcontrollers": workload,
    "secrets": data,
    "services": service,
    "statefulsets.apps": workload,
    "storageclasses.storage.k8s.io": storage_class,
}
