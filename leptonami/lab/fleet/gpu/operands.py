"""The operator's operands by version (the facts: `operands.yaml`), and the DaemonSets that a ClusterPolicy makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from leptonami.errors import InputError
from leptonami.readers.gpuoperands import DEPLOY, parse_version
from leptonami.validation import Strict, validate
from leptonami.yamlfile import read, refuse

__all__ = [
    "NAMESPACE",
    "TABLE",
    "Operand",
    "Release",
    "daemonset",
    "enabled",
    "image_of",
    "operands_of",
    "product",
    "release",
]

NAMESPACE = "gpu-operator"
MANAGED = {"app.kubernetes.io/managed-by": "gpu-operator"}
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


class Named(Strict):
    """A container: its name, and the key of its image."""

    name: str
    image: str


class Operand(Strict):
    """An operand's DaemonSet; see the comments in `operands.yaml`."""

    name: str
    state: str
    switch: str
    gate: str
    init: list[Named]
    container: Named
    also: dict[str, str] = Field(default={})
    since: str = ""
    runtime: bool = False
    update: Literal["RollingUpdate", "OnDelete"] = "RollingUpdate"

    @property
    def selector(self) -> dict[str, str]:
        """Give the labels of the nodes that get a pod."""
        return {f"{DEPLOY}{self.gate}": "true", **self.also}


class Driver(Strict):
    """What the driver's image is made of."""

    repository: str
    image: str
    version: str


class Release(Strict):
    """A version of the operator."""

    with_workload: bool
    log_style: Literal["commands", "sentences"]
    local_storage: bool
    images: dict[str, str | Driver]

    @property
    def driver(self) -> Driver:
        """Give the driver that the chart installs."""
        found = self.images["driver"]
        assert isinstance(found, Driver)  # noqa: S101 - the file says so
        return found


class Figure(Strict):
    """How long something takes, and where that is from."""

    seconds: float
    source: str


class Tries(Strict):
    """How often something is tried, and where that is from."""

    times: int
    source: str


class Table(Strict):
    """What `operands.yaml` holds."""

    operands: dict[str, Operand]
    deploy_labels: list[str]
    versions: dict[str, Release]
    times: dict[str, Figure]
    tries: dict[str, Tries]
    products: dict[str, str]
    toolkit_glibc: str

    def seconds(self, what: str) -> float:
        """Give how long something takes, simulated."""
        return self.times[what].seconds


@lru_cache(maxsize=1)
def load() -> Table:
    """Read the file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    model, problems = validate(Table, read(Path(__file__).with_name("operands.yaml"), what="table of operands"))
    refuse(problems, what="table of operands")
    assert model is not None  # noqa: S101 - without problems there is a model
    return model


TABLE = load()


def release(version: str) -> tuple[str, Release]:
    """Find a version of the operator: `v23.3.2`, `23.3.2`, `v23.3` or `latest`.

    Raises
    ------
    InputError
        If the lab does not know it.
    """
    known = TABLE.versions
    if version == "latest":
        version = max(known, key=lambda each: parse_version(each) or (0, 0, 0))
    wanted = f"v{version.removeprefix('v')}"
    found = next((each for each in known if each == wanted or each.startswith(f"{wanted}.")), None)
    if found is None:
        raise InputError(f"the lab has no GPU operator {version}", hint=f"it has {', '.join(known)}")
    return found, known[found]


def operands_of(version: str) -> Iterator[tuple[str, Operand]]:
    """Give the operands that a version has, by key, in the order of its states."""
    number = parse_version(version) or (0, 0, 0)
    for key, each in TABLE.operands.items():
        if (parse_version(each.since) or (0, 0, 0)) <= number:
            yield key, each


def product(gpu: Mapping[str, Any]) -> str:
    """Give the driver's name of a card that DescribeInstanceTypes tells of."""
    name, memory = str(gpu.get("Name", "")), (gpu.get("MemoryInfo") or {}).get("SizeInMiB", 0)
    return TABLE.products.get(name, f"NVIDIA {name}").format(gib=memory // 1024)


def enabled(operand: Operand, policy: Mapping[str, Any]) -> bool:
    """Tell whether a ClusterPolicy's specification has an operand switched on."""
    return not operand.switch or bool((policy.get(operand.switch) or {}).get("enabled", True))


def image_of(key: str, version: str) -> str:
    """Give the name of an operand's image (not the driver's, which depends on the nodes)."""
    found = TABLE.versions[version].images[key]
    assert isinstance(found, str)  # noqa: S101 - only the driver's is something else
    return found


def daemonset(operand: Operand, version: str, policy: Mapping[str, Any], driver_image: str) -> dict[str, Any]:
    """Make an operand's DaemonSet.

    Parameters
    ----------
    policy
        The ClusterPolicy, which owns it.
    driver_image
        The driver's image, suffix and all.
    """

    def container(named: Named) -> dict[str, Any]:
        image = driver_image if named.image == "driver" else image_of(named.image, version)
        return {"name": named.name, "image": image, "imagePullPolicy": "IfNotPresent", "env": env_of(named, policy)}

    labels = {"app": operand.name, **MANAGED, "helm.sh/chart": f"gpu-operator-{version}"}
    pod: dict[str, Any] = {
        "nodeSelector": operand.selector,
        "tolerations": TOLERATIONS,
        "priorityClassName": "system-node-critical",
        "initContainers": [container(each) for each in operand.init],
        "containers": [container(operand.container)],
    }
    if operand.runtime:
        pod["runtimeClassName"] = "nvidia"
    update: dict[str, Any] = {"type": operand.update}
    if operand.update == "RollingUpdate":
        update["rollingUpdate"] = {"maxUnavailable": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": operand.name,
            "namespace": NAMESPACE,
            "labels": labels,
            "ownerReferences": [owner(policy)],
        },
        "spec": {
            "selector": {"matchLabels": {"app": operand.name}},
            "updateStrategy": update,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def owner(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Give the reference that `SetControllerReference` puts on whatever the ClusterPolicy owns."""
    about = policy["metadata"]
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def env_of(named: Named, policy: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give a container's variables, as far as somebody reads them: `WITH_WORKLOAD` tells what the validator will do."""
    if named.name == "plugin-validation":
        plugin = ((policy.get("spec") or {}).get("validator") or {}).get("plugin") or {}
        return [{"name": "COMPONENT", "value": "plugin"}, *(plugin.get("env") or [])]
    if named.name.endswith("-validation"):
        return [{"name": "COMPONENT", "value": named.name.removesuffix("-validation")}]
    return []
