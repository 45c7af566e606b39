"""The fleet's caches against the lab's API server: what is written shows at once, and the server has the last word."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leptonami.lab import kube
from leptonami.lab.fleet.api import Api, Refused, connect
from leptonami.lab.fleet.cluster import Cluster
from leptonami.lab.fleet.writes import Write

PLURALS = (("", "v1", "pods"), ("", "v1", "nodes"), ("", "v1", "configmaps"), ("example.org", "v1", "things"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the kubeconfig of a server."""
    with kube.start(cluster="lab", version="1.33") as server:
        path = tmp_path_factory.mktemp("kube") / "kubeconfig"
        path.write_text(json.dumps(server.kubeconfig()))
        yield path


@pytest.fixture
def api(config: Path) -> Iterator[Api]:
    found = connect(config)
    yield found
    found.close()


@pytest.fixture
def cluster(config: Path) -> Iterator[Cluster]:
    found = Cluster(connect(config), PLURALS)
    found.start()
    yield found
    found.close()
    assert not [thread.name for thread in found.carrier._threads if thread.is_alive()]


def settle(cluster: Cluster, good: Any = lambda: True) -> None:
    """Wait until all is written and seen."""
    end = time.monotonic() + 30
    while not (cluster.idle() and good()):
        assert time.monotonic() < end
        cluster.changed.wait(0.05)
        cluster.changed.clear()
        cluster.sync()


def config_map(name: str, **data: str) -> dict[str, Any]:
    about = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def pod(name: str = "", **about: Any) -> dict[str, Any]:
    meta = {**({"name": name} if name else {"generateName": "p-"}), "namespace": "default", **about}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def test_a_write_shows_at_once_and_the_servers_object_counts(cluster: Cluster) -> None:
    name = cluster.create("configmaps", config_map("a", x="1"))
    assert cluster.get("configmaps", "default", name)["data"] == {"x": "1"}  # type: ignore[index]
    assert "uid" not in cluster.get("configmaps", "default", name)["metadata"]  # type: ignore[index]
    settle(cluster)
    assert cluster.get("configmaps", "default", name)["metadata"]["uid"]  # type: ignore[index]
    assert ("configmaps", "default", "a") in cluster.changes()
    assert cluster.changes() == set()


def test_patches_that_wait_become_one(cluster: Cluster, api: Api) -> None:
    cluster.create("configmaps", config_map("many"))
    settle(cluster)
    before = cluster.sent
    for number in range(50):
        cluster.patch("configmaps", "default", "many", {"data": {f"k{number}": str(number), "last": str(number)}})
    assert cluster.get("configmaps", "default", "many")["data"]["last"] == "49"  # type: ignore[index]
    settle(cluster)
    assert cluster.sent - before == 2  # the first was on its way already
    data = api.ask("GET", "/api/v1/namespaces/default/configmaps/many")["data"]
    assert data == {**{f"k{number}": str(number) for number in range(50)}, "last": "49"}


def test_what_the_server_refuses_is_forgotten_and_told(cluster: Cluster, api: Api) -> None:
    api.ask("POST", "/api/v1/namespaces/default/configmaps", config_map("taken", by="another"))
    settle(cluster, lambda: cluster.get("configmaps", "default", "taken"))
    cluster.changes()
    cluster.create("configmaps", config_map("taken", by="us"))
    cluster.patch("configmaps", "default", "nothing", {"data": {"x": "1"}})
    settle(cluster)
    assert cluster.get("configmaps", "default", "taken")["data"] == {"by": "another"}  # type: ignore[index]
    assert cluster.get("configmaps", "default", "nothing") is None
    assert ("configmaps", "default", "taken") in cluster.changes()


def test_a_change_is_made_anew_if_somebody_was_quicker(cluster: Cluster, api: Api) -> None:
    cluster.create("configmaps", config_map("shared", all="a"))
    settle(cluster)
    path = "/api/v1/namespaces/default/configmaps/shared"

    def add(obj: dict[str, Any]) -> dict[str, Any] | None:
        return None if "us" in obj["data"]["all"] else {"data": {"all": obj["data"]["all"] + ",us"}}

    # The cache does not know of this yet when the change is made.
    api.ask("PATCH", path, {"data": {"all": "a,them"}}, "application/merge-patch+json")
    cluster.modify("configmaps", "default", "shared", add)
    settle(cluster)
    assert api.ask("GET", path)["data"]["all"] == "a,them,us"
    sent = cluster.sent
    cluster.modify("configmaps", "default", "shared", add)
    settle(cluster)
    assert cluster.sent == sent  # there was nothing to do


def test_pods_are_found_by_node_and_by_owner(cluster: Cluster) -> None:
    cluster.create("configmaps", config_map("owner"))
    settle(cluster)
    uid = (cluster.get("configmaps", "default", "owner") or {})["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": True}
    name = cluster.create("pods", pod(ownerReferences=[owner]))
    cluster.bind(cluster.get("pods", "default", name) or {}, "n1")
    assert [each["metadata"]["name"] for each in cluster.by_node("n1")] == [name]
    assert [each["metadata"]["name"] for each in cluster.by_owner(uid)] == [name]
    settle(cluster)
    cluster.patch("pods", "default", name, {"status": {"phase": "Running"}}, "status")
    assert cluster.by_node("n1")[0]["status"]["phase"] == "Running"
    cluster.delete("pods", "default", name, 0)
    assert cluster.by_node("n1") == cluster.by_owner(uid) == []
    settle(cluster, lambda: not cluster.all("pods"))


def test_a_late_event_of_its_creation_does_not_unbind_a_pod(cluster: Cluster, api: Api) -> None:
    name = cluster.create("pods", pod())
    settle(cluster)
    created = api.ask("GET", f"/api/v1/namespaces/default/pods/{name}")
    # The watch is slow: both answers are in before the event of the creation.
    carried, cluster.carrier.inbox = cluster.carrier.inbox, deque()
    write = Write("bind", cluster.resources["pods"], "default", name, "binding", {"target": {"name": "n1"}})
    cluster._entries["pods"]["default", name].flying = write
    cluster.carrier.inbox.extend([("pods", "answer", (write, {"kind": "Status"}, 201)), ("pods", "ADDED", created)])
    cluster.sync()
    cluster.carrier.inbox = carried
    assert [each["metadata"]["name"] for each in cluster.by_node("n1")] == [name]


def test_a_deletion_hits_only_the_object_that_was_meant(cluster: Cluster, api: Api) -> None:
    cluster.create("configmaps", config_map("again"))
    settle(cluster)
    path = "/api/v1/namespaces/default/configmaps"
    old = cluster.get("configmaps", "default", "again")
    api.ask("DELETE", f"{path}/again")
    new = api.ask("POST", path, config_map("again"))
    assert old
    body = {"preconditions": {"uid": old["metadata"]["uid"]}}
    with pytest.raises(Refused):
        api.ask("DELETE", f"{path}/again", body)
    settle(
        cluster,
        lambda: (cluster.get("configmaps", "default", "again") or old)["metadata"]["uid"] == new["metadata"]["uid"],
    )
    cluster.delete("configmaps", "default", "again")
    settle(cluster, lambda: cluster.get("configmaps", "default", "again") is None)


def test_a_resource_that_comes_later_is_watched_then(cluster: Cluster, api: Api) -> None:
    assert cluster.all("things") == []
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org",
            "names": names,
            "scope": "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    api.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}}
    api.ask("POST", "/apis/example.org/v1/things", thing)
    settle(cluster, lambda: cluster.get("things", None, "t"))
