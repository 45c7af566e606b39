"""The kubelet's metrics (Prometheus text) that time the start of its node, on the node's clock.

`kubelet_node_startup_*_seconds` are gauges that follow each other: from the machine's boot to the kubelet's start, to
its first attempt to register, to the registered node, to the node's first Ready (kubernetes/kubernetes,
`pkg/kubelet/util/nodestartuplatencytracker.go`, since 1.26). They are the same on every operating system. A kubelet
that was restarted, or whose node existed before, has none: it only times a new node.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ["NodeStartup", "read"]

# The gauges have no labels; the exposition format allows some.
LINE = re.compile(r"^(?P<name>[a-z_]{1,80})(?:\{[^}\n]{0,500}\})? (?P<value>[-+0-9.eE]{1,40})(?: [0-9]{1,20})?$", re.M)
PREFIX = "kubelet_node_startup_"
FIELDS = {
    f"{PREFIX}pre_kubelet_duration_seconds": "pre_kubelet",
    f"{PREFIX}pre_registration_duration_seconds": "pre_registration",
    f"{PREFIX}registration_duration_seconds": "registration",
    f"{PREFIX}post_registration_duration_seconds": "post_registration",
    f"{PREFIX}duration_seconds": "total",
    "process_start_time_seconds": "process_start",
}


@dataclass(frozen=True, slots=True)
class NodeStartup:
    """Seconds of each part of a node's start; None where the metrics do not say.

    Attributes
    ----------
    pre_kubelet
        From the boot to the kubelet's start.
    pre_registration
        From there to its first attempt to register the node.
    registration
        From there to the registered node.
    post_registration
        From there to its first Ready.
    total
        From the boot to the first Ready.
    process_start
        When the kubelet's process started, in seconds since 1970.
    """

    pre_kubelet: float | None = None
    pre_registration: float | None = None
    registration: float | None = None
    post_registration: float | None = None
    total: float | None = None
    process_start: float | None = None

    def times(self) -> dict[str, float]:
        """Give when the kernel, the kubelet, the registered node and Ready were there (s since 1970), as far as known.

        Counted from the start of the kubelet's process, which the tracker's own start follows by milliseconds.
        """
        if self.process_start is None:
            return {}
        found = {"kubelet": self.process_start}
        if self.pre_kubelet is not None:
            found["kernel"] = self.process_start - self.pre_kubelet
        if self.pre_registration is not None and self.registration is not None:
            found["registered"] = self.process_start + self.pre_registration + self.registration
            if self.post_registration is not None:
                found["ready"] = found["registered"] + self.post_registration
        return found


def read(text: str) -> NodeStartup:
    """Read the metrics; what is no number, negative or not there stays None. Of several lines the last counts."""
    found: dict[str, float] = {}
    for match in LINE.finditer(text):
        field = FIELDS.get(match["name"])
        if field is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        # The gauges are 0 until their moment has come.
        if math.isfinite(value) and value > 0:
            found[field] = value
    return NodeStartup(**found)
