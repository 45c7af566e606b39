"""The driver: pre-installed, or in a container whose image's tag exists or does not.

The tag is made by `leptonami.verdicts.driverimage`, which states the operator's own rule. Whether there is such an
image is decided here, by `data/driver-images.yaml`, for whatever image a kubelet is asked to pull.
"""

# ruff: noqa: ARG002 - a behaviour is told the time, whether it asks for it or not

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leptonami.lab.fleet.behaviours import Life, Step, exited
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.gpu.logs import lines
from leptonami.lab.fleet.gpu.operands import TABLE
from leptonami.lab.fleet.gpu.stack import DRIVER, mark
from leptonami.lab.fleet.images import Root
from leptonami.readers.gpuoperands import DEPLOY
from leptonami.verdicts.driverimage import images_file, predict_driver_image

__all__ = ["DriverContainer", "DriverManager", "exists", "image_for", "not_found"]

IMAGE = re.compile(
    r"nvcr\.io/nvidia/driver:(?P<version>[0-9.]+)-(?:(?P<kernel>\S+)-)?(?P<os>[a-z]+)(?P<os_version>[0-9.]+)"
)


def exists(image: str) -> bool:
    """Tell whether the registry has an image. Only the driver's own are ever missing; digests are taken for there."""
    found = IMAGE.fullmatch(image)
    if found is None:
        return not image.startswith("nvcr.io/nvidia/driver:")
    family = next((each for each in images_file().families if each.id == found["os"]), None)
    if family is None or family.published is not True:
        return False
    if not family.versions:
        return True
    entry = family.find(found["os_version"])
    return entry is not None and int(found["version"].partition(".")[0]) >= (entry.first_branch or 0)


def not_found(image: str) -> str:
    """Say what containerd says of an image that does not exist; "" of one that does."""
    if exists(image):
        return ""
    return (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to resolve reference '
        f'"{image}": {image}: not found'
    )


def image_for(nodes: Mapping[str, Mapping[str, str]], spec: Mapping[str, Any], version: str) -> str:
    """Give the driver's image for a cluster: by the labels of its first GPU node, whatever the others are (1.6).

    Parameters
    ----------
    nodes
        The labels of the GPU nodes by name.
    spec
        `spec.driver` of the ClusterPolicy.
    version
        The operator's.
    """
    if not nodes:
        return ""
    return predict_driver_image(
        nodes[min(nodes)],
        str(spec.get("repository", "")),
        str(spec.get("image", "")),
        str(spec.get("version", "")),
        operator=version,
        precompiled=bool(spec.get("usePrecompiled")),
    ).image


class DriverManager:
    """`k8s-driver-manager`: finds a driver on the host and takes its own pod away by a label, or goes on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        driver = life.node.root.driver
        if not driver:
            if life.steps:
                return exited(0)
            return Step(seconds=TABLE.seconds("driver_manager"), ready=False, log=lines("manager-goes-on"))
        if life.steps:
            return exited(1, *lines("manager-ends"))
        labels = {f"{DEPLOY}driver": "pre-installed"}
        self.cluster.patch("nodes", None, life.node.name, {"metadata": {"labels": labels}})
        log = lines("manager-preinstalled", driver=driver, node=life.node.name)
        return Step(seconds=TABLE.seconds("preinstalled_sleep"), ready=False, log=log)


class DriverContainer:
    """The driver's container: builds the module for the running kernel, if it is of the node's OS."""

    def outcome(self, life: Life, now: float) -> Step:
        """Give the next step."""
        root: Root = life.node.root
        found = IMAGE.fullmatch(life.container["image"])
        version = found["version"] if found else life.container["image"].rpartition(":")[2].partition("-")[0]
        own = f"{root.os_release.get('ID', '')}{root.os_release.get('VERSION_ID', '')}"
        if life.steps == 0:
            log = lines("driver-begins", driver=version, kernel=root.kernel)
            if found and found["os"] + found["os_version"] not in {own, own.partition(".")[0]}:
                # Another OS's repository has no headers for this kernel (K02).
                log = (
                    *log[: log.index("Resolving Linux kernel version...") + 1],
                    "Could not resolve Linux kernel version",
                )
                return exited(1, *log)
            return Step(seconds=TABLE.seconds("driver_install"), ready=False, log=log)
        mark(life, DRIVER, version)
        return Step(log=lines("driver-done"))
