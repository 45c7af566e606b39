"""Explaining a live cluster: the recorded objects, served over HTTPS on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kubeserver import KubeServer, serving, status

from leptonami import recordings
from leptonami.cli import cli
from leptonami.errors import CredentialsError, InputError
from leptonami.explain import live
from leptonami.explain.given import Given
from leptonami.kube import connect
from leptonami.verdicts.scaledown import Branch, State

POD = {
    "metadata": {"name": "cluster-autoscaler-7d9", "namespace": "kube-system", "labels": {"app": "cluster-autoscaler"}},
    "spec": {"containers": [{"name": "cluster-autoscaler", "image": "registry.k8s.io/autoscaling/cluster-autoscaler"}]},
    "status": {"phase": "Running"},
}
LOG = "/api/v1/namespaces/kube-system/pods/cluster-autoscaler-7d9/log"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    with serving(tmp_path) as running:
        recording = recordings.get("autoscaler/broken-toolkit")
        running.take(recording.path("pods").parent)
        running.lists["/api/v1/pods"].append(POD)
        running.logs[LOG] = recording.read("autoscaler-log")
        status_text = recording.read("autoscaler-status").decode()
        running.documents["/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"] = {
            "metadata": {"name": "cluster-autoscaler-status", "namespace": "kube-system"},
            "data": {"status": status_text},
        }
        yield running


def test_log_and_objects_of_a_live_cluster_are_joined(server: KubeServer) -> None:
    with connect(kubeconfig=server.kubeconfig, timeout=60) as cluster:
        found = live.autoscaler(cluster, Given(year=2026))
    verdict = found.node("gpu-workers-gznqd")
    assert (verdict.state, verdict.branch) == (State.BLOCKED, Branch.VALIDATOR_PODS)
    assert {each.source for each in verdict.proofs} == {"pod kube-system/cluster-autoscaler-7d9", "test"}
    assert (found.provenance, found.name, found.wrong) == ("simulated", "test", True)
    assert found.state is not None and found.state.status is not None
    assert {verb for verb, _ in server.asked} == {"GET"}


def test_without_a_pod_of_the_autoscaler_the_objects_tell(server: KubeServer) -> None:
    server.lists["/api/v1/pods"].remove(POD)
    with connect(kubeconfig=server.kubeconfig, timeout=60) as cluster:
        found = live.autoscaler(cluster, Given())
    assert found.log is None
    assert found.node("gpu-workers-gznqd").branch is Branch.VALIDATOR_PODS
    assert any("no pod of an autoscaler" in each for each in found.problems)


def test_of_several_pods_the_one_that_holds_the_lease_is_read(server: KubeServer) -> None:
    server.lists["/api/v1/pods"].insert(0, {**POD, "metadata": {**POD["metadata"], "name": "cluster-autoscaler-0"}})  # type: ignore[dict-item]
    server.documents["/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/cluster-autoscaler"] = {
        "spec": {"holderIdentity": "cluster-autoscaler-7d9"}
    }
    with connect(kubeconfig=server.kubeconfig, timeout=60) as cluster:
        assert live.autoscaler(cluster, Given()).log is not None
    assert not [path for _, path in server.asked if "cluster-autoscaler-0/log" in path]


def test_what_is_refused_and_not_needed_is_left_out_and_told(server: KubeServer) -> None:
    for path in ("/api/v1/events", LOG, "/apis/policy/v1/poddisruptionbudgets"):
        server.wrong[path] = lambda handler, query: status(handler, 403, "forbidden")
    with connect(kubeconfig=server.kubeconfig, timeout=60) as cluster:
        found = live.autoscaler(cluster, Given())
    assert found.log is None
    assert sum("not allowed to" in each for each in found.problems) == 3
    assert any("get pods/log of kube-system/cluster-autoscaler-7d9" in each for each in found.problems)


def test_nodes_and_pods_are_needed(server: KubeServer) -> None:
    server.wrong["/api/v1/pods"] = lambda handler, query: status(handler, 403, "forbidden")
    with (
        connect(kubeconfig=server.kubeconfig, timeout=60) as cluster,
        pytest.raises(CredentialsError, match="list pods"),
    ):
        live.autoscaler(cluster, Given())


def test_a_cluster_without_nodes(server: KubeServer) -> None:
    for path in server.lists:
        server.lists[path] = []
    with connect(kubeconfig=server.kubeconfig, timeout=60) as cluster, pytest.raises(InputError, match="no node"):
        live.autoscaler(cluster, Given())


def test_pods_of_any_shape_are_passed_over() -> None:
    odd: list[dict[str, Any]] = [
        {},
        {"metadata": None, "spec": 5},
        {"metadata": {"labels": []}, "spec": {"containers": [5, None, {"image": 7}]}},
    ]
    assert live.autoscaler_pods(odd) == []
    assert live.autoscaler_pods([*odd, POD], "kube-system") == [POD]
    assert live.autoscaler_pods([POD], "elsewhere") == []


def test_the_command_reads_a_live_cluster(server: KubeServer) -> None:
    arguments = ["explain", "autoscaler", "--context", "test", "--kubeconfig", str(server.kubeconfig)]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert (document["provenance"], document["source"], document["wrong"]) == ("simulated", "test", True)
    told = CliRunner().invoke(cli, arguments)
    assert "[branch 1, validator-pods]" in " ".join(told.stdout.split())
    assert "simulated: the cluster is on this machine" in " ".join(told.stdout.split())
