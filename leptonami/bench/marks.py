"""The marks of a launch, as data: their names, what they mean, and what causes what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from leptonami.target import Provenance

__all__ = ["MARKS", "PHASES", "Clock", "Mark", "MarkKind", "Phase", "causes"]

Clock = Literal["aws", "api", "node", "host"]
"""Whose clock: AWS's APIs, the cluster's API server, the node itself, the machine that measures."""


@dataclass(frozen=True, slots=True)
class MarkKind:
    """What a mark of this name means.

    Attributes
    ----------
    name
        As it stands in files and on the command line.
    words
        For a reader: what has been reached.
    after
        What cannot be later: the direct causes. They make a partial order; a mark that is missing is passed through.
    spine
        Whether it is one of those that a waterfall is cut at: they follow each other in every launch.
    """

    name: str
    words: str
    after: tuple[str, ...] = ()
    spine: bool = False


MARKS: Mapping[str, MarkKind] = {
    each.name: each
    for each in (
        MarkKind("requested", "launch requested", (), spine=True),
        MarkKind("pending", "instance pending", ("requested",)),
        # `running` is what EC2 says; the kernel may be at work before EC2 says so. For a driver without instances: the
        # node's disk is there and its first process has been started.
        MarkKind("running", "instance running", ("pending",), spine=True),
        MarkKind("kernel", "kernel started", ("pending",)),
        MarkKind("cloud-init-local", "cloud-init, local stage", ("kernel",)),
        MarkKind("cloud-init", "cloud-init, network stage", ("cloud-init-local",)),
        MarkKind("cloud-init-config", "cloud-init, config stage", ("cloud-init",)),
        MarkKind("cloud-init-final", "cloud-init, final stage", ("cloud-init-config",)),
        MarkKind("bootstrap", "bootstrap or nodeadm started", ("kernel",)),
        MarkKind("containerd", "containerd answers", ("kernel",), spine=True),
        MarkKind("kubelet", "kubelet started", ("kernel", "bootstrap"), spine=True),
        MarkKind("registered", "node registered", ("kubelet",), spine=True),
        MarkKind("ready", "node Ready", ("registered", "containerd"), spine=True),
        MarkKind("driver", "GPU driver loaded", ("kernel",)),
        MarkKind("gpu-allocatable", "GPU allocatable", ("driver", "registered"), spine=True),
        MarkKind("pod-created", "pod created"),
        MarkKind("scheduled", "pod scheduled", ("pod-created", "registered")),
        MarkKind("sandbox", "pod sandbox started", ("scheduled", "containerd"), spine=True),
        MarkKind("pulling", "image pull begun", ("scheduled", "containerd"), spine=True),
        # The last byte of the image has left the registry (or arrived); from here to `pulled` is unpacking alone.
        MarkKind("fetched", "last byte of the image received", ("pulling",), spine=True),
        # Also when the image was present already: then `detail` says so, and there is no `pulling`.
        # And if only its content was there: then the next step, the container's creation, is what unpacks it (CRI 1.6).
        MarkKind("pulled", "image there", ("pulling", "fetched", "containerd"), spine=True),
        MarkKind("container-created", "container created", ("sandbox", "pulled"), spine=True),
        MarkKind("started", "container started", ("container-created",), spine=True),
        MarkKind("first-output", "first output of the container", ("started",), spine=True),
        MarkKind("pod-ready", "pod Ready", ("started",)),
        # Reading the pre-fetched layers once, on a volume as it came from its snapshot.
        MarkKind("first-read-begun", "first read of the layers begun", ("kernel",)),
        MarkKind("first-read", "layers read once", ("first-read-begun",)),
    )
}


@dataclass(frozen=True, slots=True)
class Phase:
    """A named stretch between two marks."""

    name: str
    words: str
    begin: str
    end: str


PHASES: tuple[Phase, ...] = (
    Phase("launch", "from the request to the container's first output", "requested", "first-output"),
    Phase("instance", "from the request to a running instance or disk", "requested", "running"),
    Phase("node", "from the request to a Ready node", "requested", "ready"),
    Phase("containerd", "from the request to a containerd that answers", "requested", "containerd"),
    Phase("registration", "from the kubelet's start to a registered node", "kubelet", "registered"),
    Phase("gpu", "from a Ready node to an allocatable GPU", "ready", "gpu-allocatable"),
    Phase("pull", "the image's pull: wire and unpacking", "pulling", "pulled"),
    Phase("wire", "the image on the wire", "pulling", "fetched"),
    Phase("unpack", "unpacking after the last byte", "fetched", "pulled"),
    Phase(
        "create",
        "making the container; of an image whose content alone was there, this is unpacking",
        "pulled",
        "container-created",
    ),
    Phase("start", "from the created container to its first output", "container-created", "first-output"),
    Phase("pod", "from the pod's creation to its first output", "pod-created", "first-output"),
    Phase("first-read", "reading the pre-fetched layers once", "first-read-begun", "first-read"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was reached.

    Attributes
    ----------
    name
        One of `MARKS`.
    at
        Seconds since 1970 as `clock` has them. The true time lies in `[at, at + resolution]`: a time that was cut to
        whole seconds has `resolution` 1.
    source
        Who said it: `ec2:DescribeInstances`, `event Pulled`, `journal`, `cri`, ...
    clock
        Whose time it is.
    resolution
        Seconds.
    provenance
        `measured`, `recorded` or `simulated`.
    detail
        What else is known, such as `already present on machine`.
    """

    name: str
    at: float
    source: str
    clock: Clock
    resolution: float = 0.0
    provenance: Provenance = "measured"
    detail: str = ""


def causes(name: str) -> set[str]:
    """Give every mark that cannot be later than this one, directly or not."""
    found: set[str] = set()
    waiting = list(MARKS[name].after)
    while waiting:
        cause = waiting.pop()
        if cause not in found:
            found.add(cause)
            waiting += MARKS[cause].after
    return found
