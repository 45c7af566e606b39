"""The store, held to the API concepts of Kubernetes: https://kubernetes.io/docs/reference/using-api/api-concepts/."""

from __future__ import annotations

import itertools
import re
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import Client, deployment, pod, refused

from leptonami.lab.kube import subresources
from leptonami.lab.kube.history import Event
from leptonami.lab.kube.options import DeleteOptions

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared() -> Client:
    """Give one store for the properties; every example has its namespace."""
    return Client()


@pytest.fixture
def client() -> Client:
    return Client()


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


# Writing


def test_a_new_object_has_what_the_server_gives_it(client: Client) -> None:
    sent = configmap("a")
    made = client.create("configmaps", sent)
    assert sent == configmap("a"), "the object that was sent was changed"
    meta = made["metadata"]
    assert (made["apiVersion"], made["kind"], meta["namespace"]) == ("v1", "ConfigMap", "default")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert int(meta["resourceVersion"]) == client.store.resource_version
    assert client.get("configmaps", "a") == made
    with refused(409, "AlreadyExists") as error:
        client.create("configmaps", sent)
    assert error.value.message == 'configmaps "a" already exists'
    assert error.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "a" already exists',
        "reason": "AlreadyExists",
        "details": {"name": "a", "kind": "configmaps"},
        "code": 409,
    }


def test_generate_name_makes_a_name_of_its_own(client: Client) -> None:
    made = [client.create("configmaps", {"metadata": {"generateName": "a-"}})["metadata"]["name"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(re.fullmatch(r"a-[bcdfghjklmnpqrstvwxz2456789]{5}", each) for each in made)
    long = client.create("configmaps", {"metadata": {"generateName": "a" * 100}})["metadata"]["name"]
    assert re.fullmatch(r"a{58}.{5}", long), "it is cut, so that the name can be a label's value"


@pytest.mark.parametrize(
    ("plural", "meta", "told"),
    [
        ("configmaps", {}, "metadata.name: Required value: name or generateName is required"),
        (
            "configmaps",
            {"name": "A_b"},
            'metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of',
        ),
        ("configmaps", {"name": "a" * 254}, "must be no more than 253"),
        ("namespaces", {"name": "a.b"}, "a lowercase RFC 1123 label must consist of"),
        ("services", {"name": "1a"}, "a DNS-1035 label must consist of"),
        (
            "configmaps",
            {"name": "a", "labels": {"k": "no spaces"}},
            'metadata.labels: Invalid value: "no spaces": a valid label',
        ),
        ("configmaps", {"name": "a", "labels": {"-k": "v"}}, "name part must consist of alphanumeric characters"),
    ],
)
def test_names_and_labels_are_looked_at(client: Client, plural: str, meta: dict[str, Any], told: str) -> None:
    with refused(422, "Invalid") as error:
        client.create(
            plural, {"metadata": meta, **({"spec": {"ports": [{"port": 1}]}} if plural == "services" else {})}
        )
    assert told in error.value.message
    assert error.value.details["causes"][0]["field"].startswith("metadata.")


def test_an_object_keeps_to_the_place_that_it_is_sent_to(client: Client) -> None:
    kind = client.kind("configmaps")
    with refused(400) as error:
        client.store.create(kind, "default", {"metadata": {"name": "a", "namespace": "b"}}, options=client.options())
    assert "does not match the namespace sent on the request" in error.value.message
    with refused(400) as error:
        client.store.create(kind, "default", {"kind": "Secret", "metadata": {"name": "a"}}, options=client.options())
    assert "does not match the expected API version" in error.value.message
    client.create("configmaps", configmap("a"))
    with refused(400) as error:
        client.store.update(kind, "default", "a", configmap("b"), options=client.options())
    assert error.value.message == "the name of the object (b) does not match the name on the URL (a)"
    with refused(404) as error:
        client.store.create(kind, "nowhere", configmap("a"), options=client.options())
    assert error.value.message == 'namespaces "nowhere" not found'


def test_an_update_of_an_old_version_is_a_conflict(client: Client) -> None:
    first = client.create("configmaps", configmap("a"))
    second = client.update("configmaps", {**first, "data": {"x": "1"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    with refused(409, "Conflict") as error:
        client.update("configmaps", {**first, "data": {"x": "2"}})
    assert error.value.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes'
        " to the latest version and try again"
    )
    client.update("configmaps", configmap("a", x="3"))  # without a version: whatever there is
    with refused(409, "Conflict") as error:
        client.update("configmaps", {"metadata": {"name": "a", "namespace": "default", "uid": "other"}})
    assert "Precondition failed: UID in precondition: other" in error.value.message


def test_an_update_that_changes_nothing_is_no_write(client: Client) -> None:
    made = client.create("deployments", deployment())
    version = client.store.resource_version
    assert client.update("deployments", made) == made
    assert client.patch("deployments", "d", {"metadata": {"labels": None}}) == made
    assert client.store.resource_version == version


def test_put_on_what_is_missing(client: Client) -> None:
    with refused(404, "NotFound"):
        client.update("configmaps", {"metadata": {"name": "a", "namespace": "default"}})
    made = client.update("endpoints", {"metadata": {"name": "a", "namespace": "default"}})
    assert made["metadata"]["uid"]
    lease = client.update(
        "leases", {"metadata": {"name": "l", "namespace": "default"}, "spec": {"holderIdentity": "x"}}
    )
    with refused(422, "Invalid") as error:
        client.update("leases", {"metadata": {"name": "l", "namespace": "default"}})
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in error.value.message
    client.update("leases", lease | {"spec": {"holderIdentity": "y"}})
    with refused(409, "Conflict"):
        client.update("leases", lease)


def test_the_generation_counts_changes_of_the_spec_only(client: Client) -> None:
    assert client.create("deployments", deployment())["metadata"]["generation"] == 1
    assert client.patch("deployments", "d", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert (
        client.patch("deployments", "d", {"status": {"replicas": 1}}, subresource="status")["metadata"]["generation"]
        == 1
    )
    assert client.patch("deployments", "d", {"spec": {"replicas": 2}})["metadata"]["generation"] == 2
    noted = {"metadata": {"annotations": {"a": "b"}}}
    assert client.patch("deployments", "d", noted)["metadata"]["generation"] == 3, "its ReplicaSets get them"
    client.create("daemonsets", deployment())
    assert client.patch("daemonsets", "d", noted)["metadata"]["generation"] == 1
    assert "generation" not in client.create("configmaps", configmap("a"))["metadata"]


def test_status_and_spec_are_changed_apart(client: Client) -> None:
    client.create("deployments", {**deployment(), "status": {"replicas": 9}})
    assert client.get("deployments", "d")["status"] == {}
    client.patch("deployments", "d", {"spec": {"replicas": 5}, "status": {"replicas": 7}}, subresource="status")
    client.patch("deployments", "d", {"spec": {"paused": True}, "status": {"replicas": 8}})
    made = client.get("deployments", "d")
    assert (made["spec"]["replicas"], made["spec"]["paused"], made["status"]) == (1, True, {"replicas": 7})


def test_a_node_brings_its_status_and_takes_labels_with_it(client: Client) -> None:
    client.create("nodes", {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": 4}}})
    made = client.patch(
        "nodes", "n", {"metadata": {"labels": {"a": "b"}}, "spec": {"unschedulable": True}}, subresource="status"
    )
    assert made["status"]["capacity"] == {"cpu": "4"}
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["spec"] == {} or "unschedulable" not in made["spec"]


def test_a_dry_run_changes_nothing(client: Client) -> None:
    version = client.store.resource_version
    assert client.create("deployments", deployment(), dry_run=True)["spec"]["replicas"] == 1
    assert not client.has("deployments", "d")
    assert client.store.resource_version == version
    client.create("deployments", deployment())
    version = client.store.resource_version
    assert client.patch("deployments", "d", {"spec": {"replicas": 3}}, dry_run=True)["spec"]["replicas"] == 3
    assert client.get("deployments", "d")["spec"]["replicas"] == 1
    assert client.store.resource_version == version


def test_what_was_given_out_is_never_changed(client: Client) -> None:
    made = client.create("deployments", deployment())
    before = repr(made)
    client.patch(
        "deployments",
        "d",
        {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}},
        "strategic",
    )
    client.patch("deployments", "d", [{"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}}], "json")
    client.patch("deployments", "d", {"status": {"replicas": 1}}, subresource="status")
    assert repr(made) == before


def test_events_have_two_faces_and_one_storage(client: Client) -> None:
    core, new = client.store.kind("events"), client.store.kind("events", "events.k8s.io")
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    event = {
        "metadata": {"name": "e"},
        "involvedObject": about,
        "message": "hello",
        "reason": "Said",
        "type": "Normal",
        "source": {"component": "me"},
        "count": 1,
    }
    client.store.create(core, "default", event, options=client.options())
    seen = client.store.get(new, "default", "e")
    assert (seen["apiVersion"], seen["regarding"], seen["note"], seen["deprecatedCount"]) == (
        "events.k8s.io/v1",
        about,
        "hello",
        1,
    )
    assert client.store.list(new, fields="regarding.name=p").items == [seen]
    assert client.store.list(core, fields="involvedObject.name=p,reason=Said,source=me").items[0]["message"] == "hello"
    client.store.patch(new, "default", "e", {"note": "bye"}, "application/merge-patch+json", options=client.options())
    assert client.store.get(core, "default", "e")["message"] == "bye"


# Lists


def test_lists_are_in_order_and_select(client: Client) -> None:
    client.create("namespaces", {"metadata": {"name": "other"}})
    for namespace, name in (("other", "a"), ("default", "b"), ("default", "a")):
        client.create("configmaps", {"metadata": {"name": name, "labels": {"at": namespace}}}, namespace)
    assert client.names("configmaps") == ["a", "b", "a"]
    assert client.names("configmaps", "other") == ["a"]
    assert client.names("configmaps", labels="at=default") == ["a", "b"]
    assert client.names("configmaps", fields="metadata.name=a") == ["a", "a"]
    assert client.names("configmaps", fields="metadata.name=a,metadata.namespace=other") == ["a"]
    assert client.names("configmaps", "defaul") == []
    client.create("namespaces", {"metadata": {"name": "other-b"}})
    client.create("configmaps", configmap("z"), "other-b")
    assert client.names("configmaps") == ["a", "b", "z", "a"], "as etcd has it: other-b/z before other/a"
    assert client.names("configmaps", "other") == ["a"]


def test_the_pods_of_a_node_are_those_that_name_it(client: Client) -> None:
    client.create("namespaces", {"metadata": {"name": "other"}})
    for name, node in (("c", "n"), ("a", "n"), ("b", "m"), ("d", "")):
        client.create("pods", pod(name, **({"nodeName": node} if node else {})))
    client.create("pods", pod("a", nodeName="n"), "other")
    assert client.names("pods", fields="spec.nodeName=n") == ["a", "c", "a"]
    assert client.names("pods", "other", fields="spec.nodeName=n") == ["a"]
    subresources.bind(
        client.store,
        "default",
        "d",
        {"metadata": {"name": "d"}, "target": {"kind": "Node", "name": "n"}},
        client.options(),
    )
    client.store.delete(client.kind("pods"), "default", "c", options=DeleteOptions(grace=0))
    assert client.names("pods", "default", fields="spec.nodeName=n") == ["a", "d"]
    page = client.store.list(client.kind("pods"), fields="spec.nodeName=n", limit=2)
    rest = client.store.list(client.kind("pods"), fields="spec.nodeName=n", limit=2, token=page.token)
    assert [each["metadata"]["name"] for each in page.items + rest.items] == ["a", "d", "a"]
    assert client.names("pods", fields="spec.nodeName=nowhere") == []


@settings(deadline=None, max_examples=60)
@given(
    names=st.sets(st.text("ab", min_size=1, max_size=4), max_size=12),
    limit=st.integers(1, 5),
    labelled=st.booleans(),
    more=st.sets(st.text("bc", min_size=1, max_size=3), max_size=3),
)
def test_pages_hold_each_object_of_their_moment_once(
    shared: Client, names: set[str], limit: int, labelled: bool, more: set[str]
) -> None:
    namespace = f"pages-{next(NUMBERS)}"
    shared.create("namespaces", {"metadata": {"name": namespace}})
    for name in names:
        shared.create("configmaps", {"metadata": {"name": name, "labels": {"odd": str(len(name) % 2)}}}, namespace)
    kind, query = shared.kind("configmaps"), "odd=1" if labelled else ""
    whole = shared.store.list(kind, namespace, labels=query)
    seen, token = [], ""
    for _ in itertools.count():
        page = shared.store.list(kind, namespace, labels=query, limit=limit, token=token)
        assert len(page.items) <= limit
        assert page.resource_version == whole.resource_version
        seen += page.items
        if page.token and not labelled:
            assert page.remaining == len(whole.items) - len(seen)
        token = page.token
        for name in sorted(more):  # What happens between two pages does not show.
            if not shared.store.peek(kind, namespace, "z" + name):
                shared.create("configmaps", configmap("z" + name), namespace)
        for name in sorted(names)[:1]:
            if shared.store.peek(kind, namespace, name):
                shared.store.delete(kind, namespace, name)
        if not token:
            break
        whole_version = whole.resource_version
        assert page.resource_version == whole_version
    assert seen == whole.items


def test_tokens_that_are_wrong_or_too_old() -> None:
    client = Client(history=5)
    for each in "abc":
        client.create("configmaps", configmap(each))
    kind = client.kind("configmaps")
    token = client.store.list(kind, limit=1).token
    for number in range(5):
        client.create("configmaps", configmap(f"d{number}"))
    page = client.store.list(kind, limit=1, token=token)
    assert [each["metadata"]["name"] for each in page.items] == ["b"]
    assert page.remaining == 1, "what came later does not count"
    for number in range(5):
        client.create("configmaps", configmap(f"e{number}"))
    with refused(410, "Expired") as error:
        client.store.list(kind, limit=1, token=token)
    assert error.value.message.startswith(
        "The provided continue parameter is too old to display a consistent list result."
    )
    with refused(400, "BadRequest"):
        client.store.list(kind, token="nonsense")


def test_versions_of_lists(client: Client) -> None:
    kind = client.kind("configmaps")
    now = client.store.resource_version
    assert client.store.list(kind, resource_version="0").resource_version == now
    assert client.store.list(kind, resource_version=str(now), match="Exact").resource_version == now
    client.create("configmaps", configmap("a"))
    assert len(client.store.list(kind, resource_version=str(now), match="NotOlderThan").items) == 1
    assert len(client.store.list(kind, resource_version=str(now), match="NotOlderThan", limit=9).items) == 1
    client.create("configmaps", configmap("b"))
    client.patch("configmaps", "a", {"data": {"x": "1"}})
    client.store.delete(kind, "default", "a")
    then = [client.store.list(kind, resource_version=str(now + each), match="Exact") for each in range(5)]
    assert [each.resource_version for each in then] == [now + each for each in range(5)]
    assert [[(each["metadata"]["name"], each.get("data")) for each in page.items] for page in then] == [
        [], [("a", {})], [("a", {}), ("b", {})], [("a", {"x": "1"}), ("b", {})], [("b", {})]
    ]  # fmt: skip
    assert client.store.list(kind, resource_version=str(now), limit=9).items == [], "with a limit it is exact"
    now += 3
    forgetful = Client(history=1)
    for each in "abc":
        forgetful.create("configmaps", configmap(each))
    with refused(410, "Expired"):
        forgetful.store.list(kind, resource_version="1", match="Exact")
    with refused(504, "Timeout") as error:
        client.store.list(kind, resource_version="999")
    assert error.value.message == f"Too large resource version: 999, current: {now + 1}"
    assert error.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"
    with refused(400):
        client.store.list(kind, resource_version="x")


# Watches


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(each.type, each.obj["metadata"].get("name", "")) for each in events]


def test_a_watch_reports_what_comes_after_its_version(client: Client) -> None:
    kind = client.kind("configmaps")
    first = client.create("configmaps", configmap("a"))
    watch = client.store.watch(kind, resource_version=first["metadata"]["resourceVersion"])
    assert watch.next(0) == []
    client.patch("configmaps", "a", {"data": {"x": "1"}})
    client.store.delete(kind, "default", "a")
    events = watch.next(0)
    assert told(events) == [("MODIFIED", "a"), ("DELETED", "a")]
    assert events[1].obj["data"] == {"x": "1"}, "the last state"
    versions = [int(each.obj["metadata"]["resourceVersion"]) for each in events]
    assert versions == [each.resource_version for each in events]
    assert versions[0] < versions[1] == client.store.resource_version


def test_a_watch_without_a_version_begins_with_what_there_is(client: Client) -> None:
    kind = client.kind("configmaps")
    client.create("configmaps", configmap("a"))
    for version in ("", "0"):
        watch = client.store.watch(kind, resource_version=version)
        assert told(watch.next(0)) == [("ADDED", "a")]
    client.create("configmaps", configmap("b"))
    assert told(watch.next(0)) == [("ADDED", "b")]


def test_initial_events_end_with_the_bookmark_that_says_so(client: Client) -> None:
    kind = client.kind("configmaps")
    client.create("configmaps", configmap("a"))
    watch = client.store.watch(kind, initial=True, bookmarks=True, match="NotOlderThan")
    added, mark = watch.next(0)
    assert (added.type, mark.type) == ("ADDED", "BOOKMARK")
    assert mark.obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark.obj["metadata"]["resourceVersion"] == str(client.store.resource_version)
    assert (mark.obj["kind"], mark.obj["apiVersion"]) == ("ConfigMap", "v1")
    assert client.store.watch(kind, initial=False, match="NotOlderThan").next(0) == []
    with refused(422, "Invalid") as error:
        client.store.watch(kind, initial=True)
    assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in error.value.message
    later = watch.bookmark()
    assert later is not None
    assert "annotations" not in later.obj["metadata"]


def test_what_enters_a_selector_is_added_and_what_leaves_it_deleted(client: Client) -> None:
    watch = client.store.watch(client.kind("pods"), fields="spec.nodeName=n")
    client.create("pods", pod("p"))
    assert watch.next(0) == []
    subresources.bind(client.store, "default", "p", {"target": {"name": "n"}}, client.options())
    assert told(watch.next(0)) == [("ADDED", "p")]
    client.patch("pods", "p", {"metadata": {"labels": {"b": "c"}}})
    assert told(watch.next(0)) == [("MODIFIED", "p")]
    labelled = client.store.watch(client.kind("pods"), labels="b=c")
    labelled.next(0)
    client.patch("pods", "p", {"metadata": {"labels": {"b": None}}})
    [gone] = labelled.next(0)
    assert (gone.type, gone.obj["metadata"]["labels"]) == ("DELETED", {"app": "x", "b": "c"})
    assert gone.obj["metadata"]["resourceVersion"] == str(client.store.resource_version)


def test_a_watch_that_falls_behind_the_history_is_gone() -> None:
    client = Client(history=5)
    kind = client.kind("configmaps")
    first = client.create("configmaps", configmap("a"))["metadata"]["resourceVersion"]
    slow = client.store.watch(kind, resource_version=first)
    for number in range(12):
        client.patch("configmaps", "a", {"data": {"x": str(number)}})
    with refused(410, "Expired") as error:
        client.store.watch(kind, resource_version=first)
    assert error.value.message.startswith(f"too old resource version: {first} (")
    with refused(410, "Expired"):
        slow.next(0)
    recent = client.store.watch(kind, resource_version=str(client.store.resource_version - 2))
    assert len(recent.next(0)) == 2


def test_a_watch_waits_until_something_comes_or_it_is_closed(client: Client) -> None:
    kind = client.kind("configmaps")
    watch = client.store.watch(kind, resource_version=str(client.store.resource_version))
    got: list[Any] = []
    for action in (lambda: client.create("configmaps", configmap("a")), watch.close):
        waiting = threading.Thread(target=lambda: got.append(told(watch.next(60))))
        waiting.start()
        action()
        waiting.join(60)
        assert not waiting.is_alive()
    assert got == [[("ADDED", "a")], []]


steps = st.lists(
    st.tuples(st.sampled_from(["put", "label", "delete", "read"]), st.sampled_from("abc"), st.sampled_from(["1", "2"])),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(before=steps, after=steps, labels=st.sampled_from(["", "k=1", "k!=1"]))
def test_a_list_and_the_watch_after_it_give_the_state_of_a_list(
    shared: Client, before: list[tuple[str, str, str]], after: list[tuple[str, str, str]], labels: str
) -> None:
    namespace = f"watch-{next(NUMBERS)}"
    shared.create("namespaces", {"metadata": {"name": namespace}})
    kind = shared.kind("configmaps")

    def act(action: str, name: str, value: str) -> None:
        body = {"metadata": {"name": name, "namespace": namespace, "labels": {"k": value}}}
        there = shared.store.peek(kind, namespace, name) is not None
        if action == "put" and not there:
            shared.create("configmaps", body, namespace)
        elif action == "label" and there:
            shared.store.update(kind, namespace, name, body, options=shared.options())
        elif action == "delete" and there:
            shared.store.delete(kind, namespace, name)
        elif action == "read":
            follow()

    state: dict[str, Any] = {}

    def follow() -> None:
        for event in watch.next(0):
            name = event.obj["metadata"]["name"]
            assert (name in state) is (event.type != "ADDED"), "what is added is new, what changes or goes was there"
            if event.type == "DELETED":
                del state[name]
            else:
                state[name] = event.obj

    watch = shared.store.watch(kind, namespace, resource_version=str(shared.store.resource_version), labels=labels)
    for step in before:
        act(*step)
    follow()
    page = shared.store.list(kind, namespace, labels=labels)
    assert state == {each["metadata"]["name"]: each for each in page.items}
    watch = shared.store.watch(kind, namespace, resource_version=str(page.resource_version), labels=labels)
    for step in after:
        act(*step)
    follow()
    assert state == {each["metadata"]["name"]: each for each in shared.store.list(kind, namespace, labels=labels).items}


def test_writers_and_watches_in_threads_agree(client: Client) -> None:
    kind = client.kind("configmaps")
    watch = client.store.watch(kind, resource_version=str(client.store.resource_version))
    client.create("configmaps", configmap("sum", n="0"))

    def add() -> None:
        for _ in range(20):
            while True:
                held = client.get("configmaps", "sum")
                number = int(held["data"]["n"]) + 1
                try:
                    client.update("configmaps", {**held, "data": {"n": str(number)}})
                    break
                except Exception as error:
                    assert getattr(error, "reason", "") == "Conflict"

    threads = [threading.Thread(target=add) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert client.get("configmaps", "sum")["data"]["n"] == "60"
    assert [each.obj["data"]["n"] for each in watch.next(0)] == [str(number) for number in range(61)]
