"""Which image a managed node group runs: one of its own, or the release of an AMI type that EKS would take."""

from __future__ import annotations

import re
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ssm.models import ssm_backends

from leptonami import catalog
from leptonami.lab.ekstate import Cluster, invalid
from leptonami.lab.grouprules import AMI_TYPES
from leptonami.lab.node.seeds import KUBELET
from leptonami.lab.wire import ApiError
from leptonami.lab.world import ACCOUNT

__all__ = ["ARCHITECTURES", "image_of", "release_of"]

ARCHITECTURES = {name: each["ProcessorInfo"]["SupportedArchitectures"] for name, each in INSTANCE_TYPES.items()}


def image_of(
    region: str, cluster: Cluster, kind: str, asked: dict[str, Any], image: str | None
) -> tuple[str, str, str]:
    """Find the image of a group; give its Kubernetes version, its release and its id.

    An image of one's own is its own release. The images of a type are those that the region's public parameter has had.
    """
    if kind == "CUSTOM":
        return cluster.version, str(image), str(image)
    version = asked.get("version", cluster.version)
    family, os, architecture = AMI_TYPES[kind]
    exists = catalog.load().kubernetes_of(family, os, architecture)
    minors = [int(each.partition(".")[2]) for each in (version, cluster.version)]
    if minors[0] > minors[1]:
        raise invalid(f"Nodegroup Kubernetes version {version} cannot be newer than the cluster's, {cluster.version}")
    if version not in exists:
        raise ApiError(
            "InvalidRequestException",
            f"AMI Type {kind} is only supported for kubernetes versions {exists[-1]} or earlier"
            if exists and minors[0] > int(exists[-1].partition(".")[2])
            else f"Requested AMI for this version {version} is not supported",
        )
    release = catalog.load().release(family, os, version, architecture, region=region)
    images: Any = ec2_backends[ACCOUNT][region].amis
    parameters: Any = ssm_backends[ACCOUNT][region]._parameters
    known = {release_of(images[each.value].name, version): each.value for each in parameters[release.ssm_parameter]}
    wanted = asked.get("releaseVersion") or list(known)[-1]
    if wanted not in known:
        raise invalid(
            f"Requested release version {wanted} is not valid for kubernetes version {version}. "
            f"(known here: {', '.join(known)})"
        )
    return version, wanted, known[wanted]


def release_of(image: str, kubernetes: str) -> str:
    """Give the release version that EKS names an image by, such as `1.33.8-20260923`, or `1.58.0-c5c37032`."""
    stamp = image.rpartition("-v")[2]
    return f"{KUBELET[kubernetes]}-{stamp}" if re.fullmatch(r"\d{8}", stamp) else stamp
