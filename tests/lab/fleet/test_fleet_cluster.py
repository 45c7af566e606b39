"""The fleet's caches against the lab's API server: what is written shows at once, and the server has the last word."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from leptonami.lab import kube
from leptonami.lab.fleet.api import Api, Refused, Resource, connect
from leptonami.lab.fleet.carrier import LATER, Carrier
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
    end = time.monotonic() + 120
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


class Slow:
    """A cluster whose senders and watches are the test: what it was to send, and what comes in, in whatever order."""

    def __init__(self) -> None:
        self.cluster = Cluster(cast(Any, None), PLURALS)

    def sent(self) -> Write:
        """Give what was to be sent next."""
        found = self.cluster.carrier.take()
        assert found
        return found

    def answer(self, write: Write, answer: Any, status: int = 200) -> None:
        self.come("answer", (write, answer, status))

    def come(self, what: str, value: Any) -> None:
        self.cluster.carrier.inbox.append(("pods", what, value))
        self.cluster.sync()

    def names(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.cluster.all("pods")]

    def made(self, version: int = 5) -> dict[str, Any]:
        """Make a pod, of whose creation there is the answer and not yet the event."""
        self.cluster.create("pods", pod("p"))
        found = held(version)
        self.answer(self.sent(), found)
        return found


def held(version: int, uid: str = "u1", name: str = "p", **spec: Any) -> dict[str, Any]:
    """Give a pod as a server has it."""
    found = pod(name, uid=uid, resourceVersion=str(version))
    return {**found, "spec": {**found["spec"], **spec}}


SUCCESS = {"kind": "Status", "status": "Success"}


@pytest.mark.parametrize("late", [5, 6])  # of the creation; of what somebody else changed before the binding
def test_a_late_event_from_before_its_binding_does_not_unbind_a_pod(late: int) -> None:
    slow = Slow()
    slow.cluster.bind(slow.made(5), "n1")
    slow.answer(slow.sent(), SUCCESS, 201)
    slow.come("ADDED", held(late))
    assert [each["metadata"]["name"] for each in slow.cluster.by_node("n1")] == ["p"]
    slow.come("MODIFIED", held(7, nodeName="n1", hostname="h"))
    assert slow.cluster.by_node("n1")[0]["spec"]["hostname"] == "h"


@pytest.mark.parametrize(("answer", "status"), [(held(7), 200), (SUCCESS, 200), (None, 404)])
def test_late_events_do_not_bring_back_what_was_deleted(answer: Any, status: int) -> None:
    slow = Slow()
    slow.made(5)
    slow.cluster.changes()
    slow.cluster.delete("pods", "default", "p", 0)
    slow.answer(slow.sent(), answer, status)
    slow.come("ADDED", held(5))
    slow.come("MODIFIED", held(6))
    slow.come("listed", (6, [held(6)]))
    assert slow.names() == []
    slow.come("DELETED", held(7))
    assert slow.names() == [] and not slow.cluster._entries["pods"]
    slow.come("ADDED", held(8, "u2"))
    assert slow.names() == ["p"]


def test_what_comes_after_a_deleted_object_under_its_name_is_seen_whatever_comes_first() -> None:
    slow = Slow()
    slow.made(5)
    slow.cluster.delete("pods", "default", "p", 0)
    slow.answer(slow.sent(), held(6))
    slow.cluster.create("pods", pod("p"))
    slow.answer(slow.sent(), held(7, "u2"))
    slow.come("DELETED", held(6))
    assert slow.cluster.all("pods")[0]["metadata"]["uid"] == "u2"
    # The other way round: the watch has told of the new one before the answer says that the old one is gone.
    slow.cluster.delete("pods", "default", "p", 0)
    late = slow.sent()
    slow.come("DELETED", held(8, "u2"))
    slow.come("ADDED", held(9, "u3"))
    slow.answer(late, None, 404)
    assert slow.cluster.all("pods")[0]["metadata"]["uid"] == "u3"


def test_a_list_does_not_take_away_what_was_made_after_it() -> None:
    slow = Slow()
    slow.made(5)
    slow.come("listed", (4, []))
    assert slow.names() == ["p"]
    slow.come("listed", (6, []))
    assert slow.names() == []


def test_a_watch_that_breaks_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leptonami.lab.fleet.carrier.RELIST_S", 0.01)
    asked, over = list[str](), threading.Event()

    class Answer:
        """A watch's answer, which ends in the middle of a line."""

        def __init__(self, version: int) -> None:
            self.version = version

        def stream(self, size: int) -> Iterator[bytes]:
            yield json.dumps({"type": "ADDED", "object": held(self.version)}).encode() + b'\n{"ty'
            raise OSError("broken")

        def close(self) -> None: ...

        def shutdown(self) -> None: ...

    class Broken:
        """A server whose watches break, and whose third one does not come."""

        host = "h"

        def pages(self, path: str) -> list[Any]:
            asked.append("list")
            return [{"metadata": {"resourceVersion": "3"}, "items": []}]

        def watch(self, path: str, query: dict[str, str], seconds: int) -> Any:
            asked.append(query["resourceVersion"])
            if len(asked) == 4:
                over.wait(30)
                raise Refused(0, "over", path)
            return Answer(len(asked) + 5)

        def close(self) -> None:
            over.set()

    server: Any = Broken()
    carrier = Carrier(server, [Resource("", "v1", "pods")])
    carrier.start(30)
    try:
        end = time.monotonic() + 60
        while len(asked) < 4:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        over.set()
        carrier.close()
    assert asked[:4] == ["list", "3", "7", "8"]


def test_writes_of_one_object_keep_their_order_and_others_do_not_wait() -> None:
    begun, over, go_on = list[str](), list[str](), threading.Event()

    class Stuck:
        """A server that takes its time for what is created."""

        host = "h"

        def ask(self, method: str, path: str, body: Any, kind: str) -> Any:
            begun.append(f"{method} {body['n']}")
            if method == "POST":
                assert go_on.wait(60)
            over.append(f"{method} {body['n']}")
            return {}

        def close(self) -> None: ...

    server: Any = Stuck()
    events = Resource("", "v1", "events")
    carrier = Carrier(server, [])
    for number, (verb, name) in enumerate([("create", "a"), ("patch", "a"), ("patch", "b"), ("patch", "a")]):
        carrier.put(Write(verb, events, "default", name, "", {"n": number}), LATER)
    carrier.start(30)
    try:
        end = time.monotonic() + 60
        while not over:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert over == ["PATCH 2"] and "POST 0" in begun and carrier.waiting() == 3
    finally:
        go_on.set()
        carrier.close()
    assert over == ["PATCH 2", "POST 0", "PATCH 1", "PATCH 3"] and begun[-2:] == over[-2:]
    assert (carrier.waiting(), carrier.sent) == (4, 4)  # of those that wait, the four that said to end


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
