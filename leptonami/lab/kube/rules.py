"""The rules of each kind that no schema holds: names, enumerations, what may not change, what must fit together.

From the validation functions of k8s.io/kubernetes/pkg/apis/*/validation and k8s.io/apimachinery; only those that
clients run into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from leptonami.lab.kube.errors import Cause, cause, forbidden_value, required, too_long, unsupported_value, wrong_value
from leptonami.lab.kube.objects import Object, drop, value_at
from leptonami.lab.kube.resources import Kind
from leptonami.lab.kube.selectors import KEY, LABEL_VALUE, QUALIFIED, VALUE, label_matcher

__all__ = ["ENUMERATIONS", "MAY_BE_MISSING", "metadata", "problems"]

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
# Pattern, longest, and the words of k8s.io/apimachinery/pkg/util/validation.
NAMES = {
    "subdomain": (
        re.compile(SUBDOMAIN),
        253,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
        f" and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')",
    ),
    "label": (
        re.compile(LABEL),
        63,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"
        f" with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')",
    ),
    "1035": (
        re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?"),
        63,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
        " character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation"
        " is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    ),
}
MOST_NOTES = 256 << 10  # bytes of all annotations: TotalAnnotationSizeLimitB
MOST_DATA = 1 << 20  # bytes in a ConfigMap or Secret: MaxSecretSize
NAMED = {"namespaces": "label", "services": "1035"}

MAY_BE_MISSING = frozenset({
    ("EndpointSlice", "endpoints"), ("StatefulSetSpec", "serviceName"), ("NetworkPolicySpec", "podSelector"),
    ("CSINodeSpec", "drivers"), ("ControllerRevision", "revision"), ("PriorityClass", "value"), ("Event", "eventTime"),
    ("CustomResourceDefinitionVersion", "served"), ("CustomResourceDefinitionVersion", "storage"),
})  # fmt: skip
"""Fields that the schemas call required and the validation does not miss: Go's zero value will do."""

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ENUMERATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "PodSpec": {
        "restartPolicy": ("Always", "OnFailure", "Never"),
        "dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    },
    "Container": {"imagePullPolicy": ("Always", "IfNotPresent", "Never")},
    "ContainerPort": {"protocol": ("SCTP", "TCP", "UDP")},
    "Taint": {"effect": EFFECTS},
    "Toleration": {"effect": (*EFFECTS, ""), "operator": ("Equal", "Exists", "Gt", "Lt", "")},
    "ServiceSpec": {"type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")},
    "DaemonSetUpdateStrategy": {"type": ("OnDelete", "RollingUpdate")},
    "DeploymentStrategy": {"type": ("Recreate", "RollingUpdate")},
    "LabelSelectorRequirement": {"operator": ("DoesNotExist", "Exists", "In", "NotIn")},
    "CronJobSpec": {"concurrencyPolicy": ("Allow", "Forbid", "Replace")},
}
"""The values there are, by definition and field: the OpenAPI files leave them out."""


def metadata(kind: Kind, new: Object, old: Object | None) -> Iterator[Cause]:
    """Look at the metadata that all kinds have."""
    meta = new["metadata"]
    if not meta.get("name"):
        yield required("metadata.name", "name or generateName is required")
    elif old is None:
        yield from _name(kind, meta["name"])
    for each in meta.get("ownerReferences") or ():
        for key in ("apiVersion", "kind", "name", "uid"):
            if not each.get(key):
                words = "version must not be empty" if key == "apiVersion" else "must not be empty"
                yield wrong_value(f"metadata.ownerReferences.{key}", "", words)
    for field in ("labels", "annotations"):
        for key, value in (meta.get(field) or {}).items():
            prefix, slash, _ = key.rpartition("/")
            if not KEY.fullmatch(key if field == "labels" else key.lower()) or (slash and not prefix):
                yield wrong_value(f"metadata.{field}", key, QUALIFIED)
            if field == "labels" and not VALUE.fullmatch(value):
                yield wrong_value("metadata.labels", value, LABEL_VALUE)
    notes = sum(len(key.encode()) + len(value.encode()) for key, value in (meta.get("annotations") or {}).items())
    if notes > MOST_NOTES:
        yield too_long("metadata.annotations", MOST_NOTES)
    if old is not None and old["metadata"].get("deletionTimestamp"):
        more = set(meta.get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
        if more:
            told = "no new finalizers can be added if the object is being deleted, found new finalizers"
            shown = ", ".join(f'"{each}"' for each in sorted(more))
            yield forbidden_value("metadata.finalizers", f"{told} []string{{{shown}}}")


def _name(kind: Kind, name: str) -> Iterator[Cause]:
    if kind.group == "rbac.authorization.k8s.io":
        for part in ("/", "%"):
            if part in name:
                yield wrong_value("metadata.name", name, f"may not contain '{part}'")
        return
    pattern, longest, words = NAMES[NAMED.get(kind.storage, "subdomain")]
    if len(name) > longest:
        yield wrong_value("metadata.name", name, f"must be no more than {longest} characters")
    elif not pattern.fullmatch(name):
        yield wrong_value("metadata.name", name, words)


def problems(kind: Kind, new: Object, old: Object | None) -> Iterator[Cause]:
    """Look at what only this kind has."""
    for path, words in FIXED.get(kind.storage, ()) if old is not None else ():
        before, now = value_at(old, path), value_at(new, path)
        if before is not None and before != now:
            yield wrong_value(path, now, words)
    if rule := RULES.get(kind.storage):
        yield from rule(new, old)


IMMUTABLE = "field is immutable"
FIXED: dict[str, tuple[tuple[str, str], ...]] = {
    "deployments.apps": (("spec.selector", IMMUTABLE),),
    "replicasets.apps": (("spec.selector", IMMUTABLE),),
    "daemonsets.apps": (("spec.selector", IMMUTABLE),),
    "jobs.batch": (("spec.selector", IMMUTABLE), ("spec.completionMode", IMMUTABLE)),
    "services": (("spec.clusterIP", "may not change once set"),),
    "rolebindings.rbac.authorization.k8s.io": (("roleRef", "cannot change roleRef"),),
    "clusterrolebindings.rbac.authorization.k8s.io": (("roleRef", "cannot change roleRef"),),
    "nodes": (("spec.providerID", 'node updates may not change providerID except from "" to valid'),),
    "storageclasses.storage.k8s.io": (("provisioner", IMMUTABLE), ("parameters", IMMUTABLE)),
    "priorityclasses.scheduling.k8s.io": (("value", IMMUTABLE),),
    "customresourcedefinitions.apiextensions.k8s.io": (
        ("spec.group", IMMUTABLE),
        ("spec.scope", IMMUTABLE),
        ("spec.names.plural", IMMUTABLE),
        ("spec.names.kind", IMMUTABLE),
    ),
}
"""What may not change once it is there."""


def _workload(new: Object, _: Object | None) -> Iterator[Cause]:
    labels = value_at(new, "spec.template.metadata.labels", {})
    selector = value_at(new, "spec.selector", {})
    if not selector or not label_matcher(selector)(labels):
        if not selector:
            yield wrong_value("spec.selector", selector, "empty selector is invalid for deployment")
        yield wrong_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    policy = value_at(new, "spec.template.spec.restartPolicy", "Always")
    if policy != "Always":
        yield unsupported_value("spec.template.spec.restartPolicy", policy, ("Always",))
    yield from _not_negative(new, "spec.replicas")


def _not_negative(obj: Object, *paths: str) -> Iterator[Cause]:
    for path in paths:
        if value_at(obj, path, 0) < 0:
            yield wrong_value(path, value_at(obj, path), "must be greater than or equal to 0")


POD_UPDATES = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _pod(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, each in enumerate(spec.get(field) or ()):
            if each["name"] in names:
                yield cause("FieldValueDuplicate", f"spec.{field}[{index}].name", f'Duplicate value: "{each["name"]}"')
            names.add(each["name"])
            if not each.get("image"):
                yield required(f"spec.{field}[{index}].image")
            for name, limit in value_at(each, "resources.limits", {}).items():
                if "/" in name and value_at(each, "resources.requests", {}).get(name, limit) != limit:
                    at = f"spec.{field}[{index}].resources.requests"
                    yield wrong_value(
                        at, each["resources"]["requests"][name], f"must be equal to {name} limit of {limit}"
                    )
    if old is not None and _fixed_spec(spec) != _fixed_spec(old["spec"]):
        yield forbidden_value("spec", POD_UPDATES)
    before, now = (
        [drop(toleration, "tolerationSeconds") for toleration in each.get("tolerations") or ()]
        for each in ((old or new)["spec"], spec)
    )
    if any(each not in now for each in before):
        yield forbidden_value(
            "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
        )


def _fixed_spec(spec: Object) -> Object:
    """Give the part of a pod's spec that may not change."""
    left = drop(spec, "activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "ephemeralContainers")
    for field in ("containers", "initContainers"):
        if field in left:
            left[field] = [drop(each, "image") for each in left[field]]
    if left.get("schedulingGates"):
        return left
    return drop(left, "schedulingGates")


def _job(new: Object, old: Object | None) -> Iterator[Cause]:
    policy = value_at(new, "spec.template.spec.restartPolicy", "Always")
    if policy == "Always":
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    yield from _not_negative(new, "spec.parallelism", "spec.completions", "spec.backoffLimit")
    if old is not None and new["spec"]["template"] != old["spec"]["template"] and not old["spec"].get("suspend"):
        yield wrong_value("spec.template", new["spec"]["template"], IMMUTABLE)


STATEFUL = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy',"
    " 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def _stateful(new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _workload(new, old)
    free = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "minReadySeconds",
            "persistentVolumeClaimRetentionPolicy")  # fmt: skip
    if old is not None and drop(new["spec"], *free) != drop(old["spec"], *free):
        yield forbidden_value("spec", STATEFUL)


FROZEN = "field is immutable when `immutable` is set"


def _frozen(new: Object, old: Object | None) -> Iterator[Cause]:
    """Look at a ConfigMap or Secret."""
    plain, encoded = ([*(new.get(key) or {}).values()] for key in ("data", "binaryData"))
    field = "[]"
    if new["kind"] == "Secret":
        plain, encoded, field = [], plain, "data"
    if sum(len(each.encode()) for each in plain) + sum(len(each) * 3 // 4 for each in encoded) > MOST_DATA:
        yield too_long(field, MOST_DATA)
    if old is not None and old.get("immutable"):
        if not new.get("immutable"):
            yield forbidden_value("immutable", FROZEN)
        if any(new.get(key) != old.get(key) for key in ("data", "binaryData")):
            yield forbidden_value("data", FROZEN)


def _budget(new: Object, _: Object | None) -> Iterator[Cause]:
    if value_at(new, "spec.minAvailable") is not None and value_at(new, "spec.maxUnavailable") is not None:
        yield wrong_value("spec", drop(new["spec"], "selector"), "minAvailable and maxUnavailable cannot be both set")


def _definition(new: Object, _: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if new["metadata"]["name"] != f"{spec['names']['plural']}.{spec['group']}":
        yield wrong_value("metadata.name", new["metadata"]["name"], 'must be spec.names.plural+"."+spec.group')
    if sum(bool(each.get("storage")) for each in spec["versions"]) != 1:
        yield wrong_value(
            "spec.versions",
            [each["name"] for each in spec["versions"]],
            "must have exactly one version marked as storage version",
        )
    for index, each in enumerate(spec["versions"]):
        if value_at(each, "schema.openAPIV3Schema") is None:
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")


def _taints(new: Object, _: Object | None) -> Iterator[Cause]:
    seen = set()
    for index, each in enumerate(value_at(new, "spec.taints", [])):
        if (each["key"], each.get("effect")) in seen:
            yield cause(
                "FieldValueDuplicate",
                f"spec.taints[{index}]",
                "Duplicate value: taints must be unique by key and effect pair",
            )
        seen.add((each["key"], each.get("effect")))


RULES: dict[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "pods": _pod,
    "nodes": _taints,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "daemonsets.apps": _workload,
    "statefulsets.apps": _stateful,
    "jobs.batch": _job,
    "configmaps": _frozen,
    "secrets": _frozen,
    "poddisruptionbudgets.policy": _budget,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
}
"""What must fit together, by storage."""
