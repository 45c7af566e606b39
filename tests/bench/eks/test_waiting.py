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


class Late(Cluster):
    """The events of a pod come one by one, after its output."""

    reasons = ("Scheduled", "Pulling", "Pulled", "Created", "Started")

    def objects(self, plural: str, namespace: str) -> list[dict[str, Any]]:
        assert (plural, namespace) == ("events", "default")
        self.asked += 1
        stamp = "2026-11-26T10:00:00Z"
        return [
            {"reason": each, "involvedObject": {"uid": "u"}, "firstTimestamp": stamp}
            for each in self.reasons[: self.asked]
        ]


def test_the_last_event_of_a_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(cast("Any", None), cast("Any", Late(0)), cast("Any", None), "simulated")
    names = [each.name for each in waiting.told("u", "default", 0.001)]
    assert names == ["scheduled", "pulling", "pulled", "container-created", "started"]
    # One that is never written is not waited for for ever.
    monkeypatch.setattr("leptonami.bench.eks.waiting.EVENTS_S", 0.01)
    monkeypatch.setattr(Late, "reasons", Late.reasons[:-1])
    assert "started" not in {each.name for each in waiting.told("u", "default", 0.001)}


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
