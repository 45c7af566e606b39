"""The only thing that is created in a cluster: pods. Against a server that answers as the API does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leptonami.errors import CredentialsError
from leptonami.kube import Cluster, KubeError, connect
from leptonami.kubepods import Pods
from leptonami.lab import kube

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "launch"},
    "spec": {"containers": [{"name": "launch", "image": "busybox"}]},
}


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    server = kube.start()
    file = tmp_path_factory.mktemp("kube") / "config"
    file.write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
    yield file
    server.stop()


@pytest.fixture
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    with connect(kubeconfig=kubeconfig, timeout=60) as opened:
        yield opened
        Pods(opened).delete("launch")


def test_a_pod_is_created_and_deleted_at_once(cluster: Cluster) -> None:
    pods = Pods(cluster)
    made = pods.create(POD)
    assert made["metadata"]["uid"]
    assert cluster.object("pods", "launch", "default") == made
    assert pods.delete("launch") is True
    assert pods.delete("launch") is False
    assert cluster.object("pods", "launch", "default") is None
    assert [each.partition(" ")[0] for each in cluster.requests] == ["POST", "GET", "DELETE", "DELETE", "GET"]


def test_one_that_is_there_already_is_given_since_an_answer_may_have_been_lost(cluster: Cluster) -> None:
    pods = Pods(cluster)
    first = pods.create(POD)
    assert pods.create(POD)["metadata"]["uid"] == first["metadata"]["uid"]


def test_what_the_api_server_refuses_is_said_in_its_words(cluster: Cluster) -> None:
    with pytest.raises(KubeError, match=r"spec\.containers") as refused:
        Pods(cluster).create({**POD, "spec": {"containers": []}})
    assert refused.value.status == 422
    assert "create pods/launch in namespace default" in str(refused.value)
    with pytest.raises(KubeError):
        Pods(cluster, "nowhere").create({**POD, "metadata": {"name": "launch"}})


def test_whoever_may_not_create_pods_is_told_which_right_is_missing(tmp_path: Path) -> None:
    from kubeserver import serving, status

    with serving(tmp_path) as server, connect(kubeconfig=server.kubeconfig, timeout=60) as cluster:

        def refuse(handler: Any) -> None:
            status(handler, 403, 'pods is forbidden: User "me" cannot create resource "pods"')

        server.writes = refuse
        with pytest.raises(CredentialsError, match="create pods/launch in namespace default"):
            Pods(cluster).create(POD)
        with pytest.raises(CredentialsError, match="delete pods/launch in namespace default"):
            Pods(cluster).delete("launch")
