"""Seeing a pod's first output bounds its node's clock, also if the node tells nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from leptonami.bench.eks.waiting import Waiting, Watch


class Cluster:
    """A pod that runs, whose node's clock is ahead, and whose log is there when it is asked for the second time."""

    def __init__(self, lead: float) -> None:
        self.lead = lead
        self.asked = 0
        self.wrote = 0.0

    def object(self, plural: str, name: str, namespace: str) -> dict[str, Any]:
        assert plural == "pods"
        return {"metadata": {"name": name, "namespace": namespace}, "status": {"phase": "Running"}}

    def log(self, namespace: str, name: str) -> list[bytes]:
        assert (namespace, name) == ("default", "p")
        self.asked += 1
        if self.asked == 1:
            return []
        self.wrote = time.time()
        stamp = datetime.fromtimestamp(self.wrote + self.lead, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return [f"{stamp} READY\n".encode()]


@pytest.mark.parametrize("lead", [7.0, -7.0])
def test_the_first_output_is_marked_and_bounds_its_nodes_clock(lead: float) -> None:
    cluster = Cluster(lead)
    watch = Watch("simulated", time.monotonic() + 60, 0.01)
    waiting = Waiting(cast("Any", None), cast("Any", cluster), cast("Any", None), "simulated")
    pod = waiting.spoke({"metadata": {"name": "p", "namespace": "default"}}, watch)
    assert pod["status"]["phase"] == "Running"
    (mark,) = watch.marks
    assert (mark.name, mark.clock) == ("first-output", "node")
    (bound,) = watch.bounds
    assert (bound.fast, bound.slow, bound.how) == ("host", "node", "first output seen in the log")
    # The host is behind by what the node is ahead, but for what seeing it took.
    assert -lead - 1e-3 <= bound.at_most <= -lead + time.time() - cluster.wrote
