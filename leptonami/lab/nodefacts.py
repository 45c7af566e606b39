"""What is on a machine's disk, as its Node in the cluster says it: read from the node root, so an AMI shows itself.

`GET /lab-api/nodes/<instance-id>` answers with it. The fleet makes kubelet's node info, the image list and the GPU
stack's causes from it; nothing here is decided by the image's name.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from leptonami.lab.node import safely
from leptonami.lab.node.seeds import GLIBC
from leptonami.lab.node.tools.core import version_key

__all__ = ["facts"]

STORE = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.json"
# What the bootstrap goes by; other IDs (ubuntu, bottlerocket) are families themselves.
FAMILIES = {("amzn", "2"): "al2", ("amzn", "2023"): "al2023"}
MODULE = "usr/lib/modules/{}/kernel/drivers/video/nvidia/nvidia.ko"


def facts(instance: Any, root: Path) -> dict[str, Any]:
    """Describe a machine.

    Parameters
    ----------
    instance
        moto's instance.
    root
        Its node root.
    """
    release = os_release(root)
    versions = document(root, "lab/state/versions.json")
    installed: dict[str, str] = document(root, "lab/state/packages.json").get("installed", {})
    snaps = document(root, "var/lib/snapd/state.json")
    kernel = kernel_of(root, versions)
    image = instance.ec2_backend.amis.get(instance.image_id)
    runtime = containerd_config(root)
    has_toolkit = toolkit(installed, versions)
    if has_toolkit and release.get("ID") != "ubuntu" and runtime.get("default_runtime_name") != "nvidia":
        # nodeadm, AL2's bootstrap and Bottlerocket write this at boot where the toolkit is part of the image.
        runtime = {"default_runtime_name": "nvidia", "runtimes": {**runtime.get("runtimes", {}), "nvidia": {}}}
    return {
        "instance_id": instance.id,
        "instance_type": instance.instance_type,
        "image_id": instance.image_id,
        "image_name": image.name if image is not None else "",
        "family": FAMILIES.get((release.get("ID", ""), release.get("VERSION_ID", "").partition(".")[0]), "")
        or release.get("ID", ""),
        "region": instance.region_name,
        "zone": instance.availability_zone,
        "architecture": {"x86_64": "amd64"}.get(instance.architecture, instance.architecture),
        "private_ip": instance.private_ip,
        "private_dns": instance.private_dns_name,
        "user_data": user_data(instance),
        "os_release": release,
        "os_image": release.get("PRETTY_NAME", release.get("NAME", "")),
        "kernel": kernel,
        "containerd": versions.get("containerd", ""),
        "runc": versions.get("runc", ""),
        "default_runtime": runtime.get("default_runtime_name", "runc"),
        "runtimes": sorted(runtime.get("runtimes", {})),
        "kubelet": kubelet(versions, snaps),
        "glibc": GLIBC.get((release.get("ID", ""), release.get("VERSION_ID", "").partition(".")[0]), ""),
        "driver": driver(root, kernel, installed, versions),
        "toolkit": has_toolkit,
        "images": images(root),
        "snaps": {name: each["version"] for name, each in snaps.get("snaps", {}).items()},
        "snap_hold": snaps.get("hold"),
    }


def document(root: Path, path: str) -> Any:
    """Read a JSON file of the node root; nothing if there is none."""
    raw = safely.read(root, path)
    return json.loads(raw) if raw else {}


def os_release(root: Path) -> dict[str, str]:
    """Read /etc/os-release."""
    lines = (safely.read(root, "etc/os-release") or b"").decode(errors="replace").splitlines()
    return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines) if name}


def kernel_of(root: Path, versions: dict[str, str]) -> str:
    """Give the kernel that boots: the newest that is there, as the stand-in for `uname` has it."""
    there = [each.name.removeprefix("vmlinuz-") for each in (root / "boot").glob("vmlinuz-*")]
    return max(there, key=version_key) if there else versions.get("kernel", "")


def kubelet(versions: dict[str, str], snaps: dict[str, Any]) -> str:
    """Give the version of the kubelet, which is a snap on Ubuntu."""
    snap = snaps.get("snaps", {}).get("kubelet-eks", {}).get("version", "")
    version = versions.get("kubelet", "") or snap
    return f"v{version.removeprefix('v')}" if version else ""


def driver(root: Path, kernel: str, installed: dict[str, str], versions: dict[str, str]) -> dict[str, Any] | None:
    """Give the NVIDIA driver for the kernel that boots; None without a module for it."""
    module = document(root, MODULE.format(kernel))
    if not module:
        built_in = versions.get("nvidia")
        return {"version": built_in, "library": built_in, "open": True} if built_in else None
    library = next((v for n, v in installed.items() if re.match(r"nvidia-(utils|driver)", n)), "").partition("-")[0]
    return {"version": module["version"], "library": library, "open": module.get("license", "").startswith("Dual")}


def toolkit(installed: dict[str, str], versions: dict[str, str]) -> str | None:
    """Give the version of NVIDIA's container toolkit; None without one."""
    names = ("nvidia-container-toolkit-base", "nvidia-container-toolkit")
    found = next((installed[name] for name in names if name in installed), versions.get("nvidia-toolkit", ""))
    return found.partition("-")[0] or None


def containerd_config(root: Path) -> dict[str, Any]:
    """Give containerd's runtimes: of its file, or of the one that the bootstrap script puts there."""
    for path in ("etc/containerd/config.toml", "usr/local/share/eks/nvidia-runtime-config.toml"):
        try:
            parsed = tomllib.loads((safely.read(root, path) or b"").decode(errors="replace"))
        except tomllib.TOMLDecodeError:
            continue
        for plugin in parsed.get("plugins", {}).values():
            found: dict[str, Any] = plugin.get("containerd", {})
            if found.get("default_runtime_name"):
                return found
    return {}


def images(root: Path) -> list[dict[str, Any]]:
    """Give the images that containerd has whole, as kubelet lists them: names and bytes."""
    found = []
    for ref, image in sorted(document(root, STORE).items()):
        repository = re.sub(r"(:[^:/]+)?(@.*)?$", "", ref)
        names = [f"{repository}@{image['digest']}", *([] if "@" in ref else [ref])]
        pinned = image["labels"].get("io.cri-containerd.pinned") == "pinned"
        found.append({"names": names, "size": image["mib"] << 20, "pinned": pinned, "unpacked": image["unpacked"]})
    return found


def user_data(instance: Any) -> str:
    """Give the user data as text."""
    import base64

    raw = str(instance.user_data or "")
    return base64.b64decode(raw).decode(errors="replace") if raw else ""
