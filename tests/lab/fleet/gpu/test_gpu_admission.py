"""What a kubelet admits that wants GPUs, when pods of the node have no status yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from leptonami.lab.fleet.gpu.plugin import refused


def test_a_pod_without_a_status_counts_as_one_that_holds_its_gpus() -> None:
    wants = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    young = {"metadata": {"name": "young"}, "spec": wants}
    ended = {"metadata": {"name": "ended"}, "spec": wants, "status": {"phase": "Succeeded"}}
    offers = {"status": {"allocatable": {"nvidia.com/gpu": "1"}}}
    node: Any = SimpleNamespace(name="node-1", object=lambda: offers)
    pods: Any = SimpleNamespace(by_node=lambda name: [ended, young])
    late = {"metadata": {"name": "late"}, "spec": wants}
    assert "Requested: 1, Available: 0" in refused(late, node, pods)
    assert refused(young, node, pods) == ""
    assert refused({"metadata": {"name": "plain"}, "spec": {"containers": [{}]}}, node, pods) == ""
