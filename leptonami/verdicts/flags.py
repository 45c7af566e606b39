"""The options of cluster-autoscaler that decide about scale-down, with their defaults and what its versions changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.autoscaler.metrics import version_key
from leptonami.readers.fields import listing, mappings, text
from leptonami.readers.gotime import parse_duration
from leptonami.readers.objects import Objects, object_proof

__all__ = ["ACCELERATOR", "Flags", "find_flags"]

ACCELERATOR = "k8s.amazonaws.com/accelerator"  # the GPU label of the autoscaler's AWS provider
MOST_ARGUMENTS = 500


@dataclass(frozen=True, slots=True)
class Flags:
    """What the autoscaler was started with; the defaults are its own.

    An Auto Scaling group's tags (`k8s.io/cluster-autoscaler/node-template/autoscaling-options/...`) can change the
    thresholds and the timers of its nodes: they stand in no object of the cluster, so they have to be given here.

    Parameters
    ----------
    version
        The autoscaler's version; None if it is not known.
    unneeded_time, unready_time
        How long a ready and an unready node must have been unneeded.
    startup_time
        How long a node may take to start before it counts as unready; an option from 1.35 on, a constant before.
    utilization_threshold, gpu_utilization_threshold
        Below this share of what is allocatable a node is unneeded.
    delay_after_add, delay_after_failure
        How long nothing is removed after a scale-up and after a removal that failed.
    ok_unready_count, unready_percentage
        More unready nodes than both of them allow: nothing is scaled at all.
    skip_system_pods, skip_local_storage, skip_custom_controllers
        Whether kube-system pods without a budget, local storage and unknown controllers block.
    system_pod_timeout
        From 1.33 on: a kube-system pod without a budget blocks for only so long after its creation.
    gpu_label
        The label by which the cloud provider marks a GPU node.
    """

    version: str | None = None
    unneeded_time: timedelta = timedelta(minutes=10)
    unready_time: timedelta = timedelta(minutes=20)
    startup_time: timedelta = timedelta(minutes=15)
    utilization_threshold: Decimal = Decimal("0.5")
    gpu_utilization_threshold: Decimal = Decimal("0.5")
    delay_after_add: timedelta = timedelta(minutes=10)
    delay_after_failure: timedelta = timedelta(minutes=3)
    ok_unready_count: int = 3
    unready_percentage: Decimal = Decimal(45)
    skip_system_pods: bool = True
    skip_local_storage: bool = True
    skip_custom_controllers: bool = True
    system_pod_timeout: timedelta = timedelta(hours=1)
    ignore_daemonsets: bool = False
    ignore_mirror_pods: bool = False
    scale_down_unready: bool = True
    min_replica_count: int = 0
    gpu_label: str = ACCELERATOR

    def since(self, minor: int) -> bool | None:
        """Tell whether the version is 1.`minor` or later; None if it is not known."""
        key = version_key(self.version) if self.version else None
        return None if key is None else key >= (1, minor, 0)

    @classmethod
    def of_arguments(cls, arguments: Iterable[str] | Mapping[str, str], version: str | None = None) -> Flags:
        """Read them from a command line (`--scale-down-unneeded-time=2m`) or a mapping of option to value.

        What cannot be read, and options that do not matter here, are passed over.
        """
        if isinstance(arguments, Mapping):
            given = {name.lstrip("-"): value for name, value in arguments.items()}
        else:
            given = split(arguments)
        changed: dict[str, Any] = {"version": version}
        for option, field in OPTIONS.items():
            if option in given:
                value = convert(given[option], getattr(cls(), field))
                if value is not None:
                    changed[field] = value
        return cls(**changed)


OPTIONS = {
    "scale-down-unneeded-time": "unneeded_time",
    "scale-down-unready-time": "unready_time",
    "max-node-startup-time": "startup_time",
    "scale-down-utilization-threshold": "utilization_threshold",
    "scale-down-gpu-utilization-threshold": "gpu_utilization_threshold",
    "scale-down-delay-after-add": "delay_after_add",
    "scale-down-delay-after-failure": "delay_after_failure",
    "ok-total-unready-count": "ok_unready_count",
    "max-total-unready-percentage": "unready_percentage",
    "skip-nodes-with-system-pods": "skip_system_pods",
    "skip-nodes-with-local-storage": "skip_local_storage",
    "skip-nodes-with-custom-controller-pods": "skip_custom_controllers",
    "blocking-system-pod-distruption-timeout": "system_pod_timeout",  # upstream's spelling
    "ignore-daemonsets-utilization": "ignore_daemonsets",
    "ignore-mirror-pods-utilization": "ignore_mirror_pods",
    "scale-down-unready-enabled": "scale_down_unready",
    "min-replica-count": "min_replica_count",
}
NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
BOOLEANS = {"true": True, "t": True, "1": True, "": True, "false": False, "f": False, "0": False}


def split(arguments: Iterable[str]) -> dict[str, str]:
    """Take a command line apart: `--a=b`, `--a b`, `-a=b`, `--a` alone for true."""
    found: dict[str, str] = {}
    waiting = ""
    for index, argument in enumerate(arguments):
        if index >= MOST_ARGUMENTS:
            break
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-")[:500].partition("=")
            found[name] = value
            waiting = "" if equals else name
        else:
            # Go's flags take no separate value for a boolean: `--flag false` is true.
            if waiting in OPTIONS and not isinstance(getattr(Flags(), OPTIONS[waiting]), bool):
                found[waiting] = argument[:500]
            waiting = ""
    return found


def convert(written: str, like: Any) -> Any:
    """Read a value of the kind of another; None if it is none."""
    value = written.strip().strip("\"'")
    if isinstance(like, bool):
        return BOOLEANS.get(value.lower())
    if isinstance(like, timedelta):
        return parse_duration(value)
    if not NUMBER.fullmatch(value):
        return None
    if isinstance(like, int):
        return int(value) if value.isdecimal() else None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None


def find_flags(objects: Objects) -> tuple[Flags, Proof] | None:
    """Find the autoscaler among pods or Deployments, and read its options and the version of its image.

    Returns
    -------
    tuple of Flags and Proof, or None
        None if it is not among them.
    """
    for kind in ("Pod", "Deployment"):
        for source, each in objects.of_kind(kind):
            spec = each.get("spec")
            if kind == "Deployment" and isinstance(spec, dict):
                template = spec.get("template")
                spec = template.get("spec") if isinstance(template, dict) else None
            for container in mappings(spec, "containers")[:50]:
                words = [text({"w": word}, "w") for name in ("command", "args") for word in listing(container, name)]
                image = text(container, "image")
                if not any(word.rsplit("/", 1)[-1] == "cluster-autoscaler" for word in (*words[:3], repository(image))):
                    continue
                flags = Flags.of_arguments(words, version_of(image))
                changed = [
                    f"--{option}={getattr(flags, field)}"
                    for option, field in OPTIONS.items()
                    if getattr(flags, field) != getattr(Flags(), field)
                ]
                said = f"{image}: {', '.join(changed) or 'defaults'}"
                return flags, object_proof(each, source, said)
    return None


def repository(image: str) -> str:
    """Give an image's name without its tag and digest."""
    name = image.split("@", 1)[0]
    head, _, last = name.rpartition("/")
    return f"{head}/{last.split(':', 1)[0]}"


def version_of(image: str) -> str | None:
    """Give the version in an image's tag, None if there is none."""
    tag = image.split("@", 1)[0].rpartition("/")[2].partition(":")[2]
    return tag if version_key(tag) is not None else None
