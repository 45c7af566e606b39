"""What the real server fills in: the defaults that clients notice, and what it allocates.

From SetDefaults_* of k8s.io/kubernetes/pkg/apis/*/v1/defaults.go, the PrepareForCreate of the strategies, and the
admission plug-ins DefaultTolerationSeconds, ServiceAccount and Priority.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from leptonami.lab.kube.errors import forbidden
from leptonami.lab.kube.objects import Object, clone, value_at
from leptonami.lab.kube.resources import Kind

if TYPE_CHECKING:
    from leptonami.lab.kube.memory import Memory

__all__ = ["allocate", "on_create", "on_update"]

SERVICES = ipaddress.ip_network("10.100.0.0/16")
"""EKS's default service range: https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html"""
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def beginnings() -> Iterator[tuple[str, Object]]:
    """Give what a real API server makes when it starts, with the storage that it belongs to."""
    for name in NAMESPACES:
        yield "namespaces", {"metadata": {"name": name}}
    for name, value in PRIORITIES.items():
        yield "priorityclasses.scheduling.k8s.io", {"metadata": {"name": name}, "value": value}
    address = str(next(SERVICES.hosts()))
    ports = [{"name": "https", "port": 443}]
    yield (
        "services",
        {
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {"clusterIP": address, "clusterIPs": [address], "ports": ports},
        },
    )


def on_create(kind: Kind, obj: Object) -> None:
    """Fill in a new object."""
    if "status" in kind.subresources and kind.storage != "nodes":
        obj.pop("status", None)
    on_update(kind, {}, obj)
    if made := STATUS.get(kind.storage):
        made(obj)


def on_update(kind: Kind, old: Object, obj: Object) -> None:
    """Fill in what a new version of an object does not say."""
    if kind.storage == "services" and old:
        for each in ("clusterIP", "clusterIPs"):
            if not obj["spec"].get(each) and each in old["spec"] and obj["spec"].get("type") != "ExternalName":
                obj["spec"][each] = old["spec"][each]
    if fill := DEFAULTS.get(kind.storage):
        fill(obj)
    if kind.storage == "pods" and not old:
        _tolerations(obj["spec"])


def allocate(store: Memory, kind: Kind, obj: Object) -> None:
    """Give a new service its address, a pod the number of its priority; for those who hold the lock."""
    if (
        kind.storage == "services"
        and value_at(obj, "spec.type") != "ExternalName"
        and not value_at(obj, "spec.clusterIP")
    ):
        taken = {value_at(each, "spec.clusterIP") for each in store.table("services").objects.values()}
        free = next(str(each) for each in SERVICES.hosts() if str(each) not in taken)
        obj["spec"] |= {"clusterIP": free, "clusterIPs": [free]}
    elif kind.storage == "services" and value_at(obj, "spec.clusterIP"):
        obj["spec"].setdefault("clusterIPs", [obj["spec"]["clusterIP"]])
    if kind.storage == "pods":
        name = value_at(obj, "spec.priorityClassName", "")
        held = store.table("priorityclasses.scheduling.k8s.io").objects.get(("", name))
        if name and held is None:
            raise forbidden("", "pods", obj["metadata"]["name"], f"no PriorityClass with name {name} was found")
        obj["spec"].setdefault("priority", value_at(held, "value", 0))
        obj["spec"].setdefault("preemptionPolicy", value_at(held, "preemptionPolicy", "PreemptLowerPriority"))


def fill(obj: Object, values: Object) -> None:
    """Set what is not set; objects within are filled in the same way."""
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(obj.get(key), dict):
            fill(obj[key], value)
        elif obj.get(key) is None:
            obj[key] = clone(value)


POD = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
CONTAINER = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def _pod_spec(spec: Object) -> None:
    fill(spec, POD)
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for each in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        _container(each, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        for name in ("configMap", "secret", "projected", "downwardAPI"):
            if name in volume:
                volume[name].setdefault("defaultMode", 0o644)
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")
        if volume.keys() == {"name"}:
            volume["emptyDir"] = {}


def _container(container: Object, *, host_network: bool) -> None:
    fill(container, CONTAINER)
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition(":")[2] or ("" if "@" in image else "latest")
    container.setdefault("imagePullPolicy", "Always" if tag == "latest" else "IfNotPresent")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network:
            port.setdefault("hostPort", port.get("containerPort"))
    for probe in (container[name] for name in ("livenessProbe", "readinessProbe", "startupProbe") if name in container):
        fill(probe, PROBE)
        if "httpGet" in probe:
            fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    for variable in container.get("env") or ():
        if value_at(variable, "valueFrom.fieldRef") is not None:
            variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    # A limit without a request requests as much.
    if limits := value_at(container, "resources.limits"):
        fill(container["resources"], {"requests": limits})


def _pod(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    _pod_spec(spec)
    fill(spec, {"serviceAccountName": "default", "serviceAccount": "default", "enableServiceLinks": True})


def _tolerations(spec: Object) -> None:
    """Tolerate a node that is not ready or out of reach for 300 s: the admission plug-in DefaultTolerationSeconds."""
    found = spec.get("tolerations") or []
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(each.get("key", "") in {"", key} and each.get("effect", "") in {"", "NoExecute"} for each in found):
            found = [*found, {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
    spec["tolerations"] = found


def quality(spec: Object) -> str:
    """Give a pod's class of service, as https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ has it."""
    wanted = [
        (value_at(each, "resources.requests", {}), value_at(each, "resources.limits", {}))
        for each in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    ]
    counted = [
        tuple({name: size for name, size in each.items() if name in {"cpu", "memory"}} for each in pair)
        for pair in wanted
    ]
    if not any(requests or limits for requests, limits in counted):
        return "BestEffort"
    if all(requests == limits and limits.keys() == {"cpu", "memory"} for requests, limits in counted):
        return "Guaranteed"
    return "Burstable"


def _spec(values: Object, *, template: bool = False, rolling: Object | None = None) -> Callable[[Object], None]:
    """Give the function that fills in a spec, the pod template in it, and how it rolls if it is to roll."""

    def filled(obj: Object) -> None:
        obj["spec"] = obj.get("spec") or {}
        fill(obj["spec"], values)
        for name, how in (rolling or {}).items():
            fill(obj["spec"], {name: {"type": "RollingUpdate"}})
            if obj["spec"][name]["type"] == "RollingUpdate":
                fill(obj["spec"][name], {"rollingUpdate": how})
        spec = value_at(obj, "spec.template.spec")
        if template and isinstance(spec, dict):
            _pod_spec(spec)

    return filled


def _job(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _spec({"parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False,
           "podReplacementPolicy": "TerminatingOrFailed"}, template=True)(obj)  # fmt: skip
    uid = obj["metadata"].get("uid")
    if uid and not spec.get("manualSelector") and not spec.get("selector"):
        name = obj["metadata"]["name"]
        labels = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        if not isinstance(spec.get("template"), dict):
            spec["template"] = {}
        meta = spec["template"].setdefault("metadata", {})
        meta["labels"] = {**(meta.get("labels") or {}), **labels}
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _service(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    fill(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    if spec["type"] != "ExternalName":
        fill(spec, {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"})
    for port in spec.get("ports") or ():
        fill(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _namespace(obj: Object) -> None:
    fill(obj, {"metadata": {"labels": {"kubernetes.io/metadata.name": obj["metadata"]["name"]}}})
    if "resourceVersion" not in obj["metadata"]:
        obj["spec"] = {"finalizers": ["kubernetes"]}


def _secret(obj: Object) -> None:
    """Take `stringData`, which is for writing only."""
    obj.setdefault("type", "Opaque")
    for key, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


DEFAULTS: dict[str, Callable[[Object], None]] = {
    "pods": _pod,
    "services": _service,
    "namespaces": _namespace,
    "nodes": _spec({}),
    "deployments.apps": _spec(
        {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
        template=True,
        rolling={"strategy": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    ),
    "daemonsets.apps": _spec(
        {"revisionHistoryLimit": 10}, template=True, rolling={"updateStrategy": {"maxSurge": 0, "maxUnavailable": 1}}
    ),
    "statefulsets.apps": _spec(
        {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"},
        template=True,
        rolling={"updateStrategy": {"partition": 0}},
    ),
    "replicasets.apps": _spec({"replicas": 1}, template=True),
    "replicationcontrollers": _spec({"replicas": 1}, template=True),
    "jobs.batch": _job,
    "cronjobs.batch": _spec(
        {"concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}
    ),
    "persistentvolumes": _spec({"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}),
    "persistentvolumeclaims": _spec({"volumeMode": "Filesystem"}),
    "storageclasses.storage.k8s.io": lambda obj: fill(
        obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}
    ),
    "secrets": _secret,
    "priorityclasses.scheduling.k8s.io": lambda obj: fill(
        obj, {"preemptionPolicy": "PreemptLowerPriority", "value": 0}
    ),
    "endpointslices.discovery.k8s.io": lambda obj: fill(obj, {"endpoints": [], "ports": []}),
    "horizontalpodautoscalers.autoscaling": _spec({"minReplicas": 1}),
}


def _status(value: Any) -> Callable[[Object], None]:
    def made(obj: Object) -> None:
        obj["status"] = clone(value)

    return made


def _zeros(*names: str) -> Callable[[Object], None]:
    return _status(dict.fromkeys(names, 0))


STATUS: dict[str, Callable[[Object], None]] = {
    "pods": lambda obj: obj.update(status={"phase": "Pending", "qosClass": quality(obj["spec"])}),
    "namespaces": _status({"phase": "Active"}),
    "persistentvolumes": _status({"phase": "Pending"}),
    "persistentvolumeclaims": _status({"phase": "Pending"}),
    "services": _status({"loadBalancer": {}}),
    "deployments.apps": _status({}),
    "daemonsets.apps": _zeros("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"),
    "replicasets.apps": _zeros("replicas"),
    "statefulsets.apps": _zeros("replicas", "availableReplicas"),
    "replicationcontrollers": _zeros("replicas"),
    "jobs.batch": _status({}),
    "cronjobs.batch": _status({}),
    "poddisruptionbudgets.policy": _zeros("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"),
}
"""The status that a new object begins with."""
