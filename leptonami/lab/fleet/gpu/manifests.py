"""The objects that install the GPU operator, or the device plugin alone: `manifests.yaml` with versions filled in."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from leptonami import datafiles
from leptonami.lab.fleet.gpu.operands import TABLE, image_of, release

__all__ = ["device_plugin", "gpu_operator"]


@cache
def parsed(version: str) -> dict[str, Any]:
    """Read the file's parts for a version."""
    images = TABLE.versions[version].images
    values = {key: image_of(key, version) for key in images if key != "driver"}
    values |= {"version": version, "with_workload": str(TABLE.versions[version].with_workload).lower()}
    text = Path(__file__).with_name("manifests.yaml").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", value)
    found: dict[str, Any] = datafiles.parsed(text)
    return found


def gpu_operator(
    version: str, *, driver: bool = True, toolkit: bool = True, nfd: bool = True
) -> Iterator[dict[str, Any]]:
    """Give the objects that install a version of the operator, in the order in which they can be applied.

    Parameters
    ----------
    version
        See `operands.release`.
    driver, toolkit
        `driver.enabled` and `toolkit.enabled`.
    nfd
        Whether node feature discovery comes with it.

    Raises
    ------
    InputError
        If the lab does not know the version.
    """
    name, facts = release(version)
    parts = deepcopy(parsed(name))
    yield from (parts["namespace"], parts["crd"], *parts["rbac"])
    yield from parts["nfd"] if nfd else ()
    if not facts.local_storage:
        pod = parts["operator"]["spec"]["template"]["spec"]
        del pod["volumes"], pod["containers"][0]["volumeMounts"]
    yield parts["operator"]
    spec = parts["policy"]["spec"]
    spec["driver"] = {"enabled": driver, **facts.driver.model_dump()}
    spec["toolkit"] = {"enabled": toolkit}
    yield parts["policy"]


def device_plugin(version: str) -> Iterator[dict[str, Any]]:
    """Give the DaemonSet of the device plugin that a version of the operator has, without the operator."""
    yield deepcopy(parsed(release(version)[0])["device-plugin"])
