"""Deletion and what follows: https://kubernetes.io/docs/concepts/architecture/garbage-collection/."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import Client, owner, pod, refused

from leptonami.lab.kube import subresources
from leptonami.lab.kube.store import DeleteOptions

Object = dict[str, Any]


@pytest.fixture
def client() -> Client:
    return Client()


def delete(client: Client, plural: str, name: str, namespace: str | None = "default", **options: Any) -> Object:
    kind = client.kind(plural)
    return client.store.delete(kind, namespace if kind.namespaced else None, name, options=DeleteOptions(**options))


def configmap(name: str, *owners: Object, **meta: Any) -> Object:
    return {"metadata": {"name": name, "ownerReferences": list(owners), **meta}}


def test_the_answer_is_a_status_or_for_some_kinds_the_object(client: Client) -> None:
    made = client.create("configmaps", configmap("a"))
    answer = delete(client, "configmaps", "a")
    assert answer == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]},
    }  # fmt: skip
    client.create("pods", pod())
    assert delete(client, "pods", "p")["kind"] == "Pod"
    with refused(404, "NotFound"):
        delete(client, "pods", "p")


def test_a_pod_on_a_node_waits_for_its_kubelet(client: Client) -> None:
    client.create("pods", pod(terminationGracePeriodSeconds=20))
    subresources.bind(client.store, "default", "p", {"target": {"name": "n"}}, client.options())
    made = delete(client, "pods", "p")
    assert made["metadata"]["deletionGracePeriodSeconds"] == 20
    assert made["metadata"]["deletionTimestamp"] > made["metadata"]["creationTimestamp"]
    assert delete(client, "pods", "p")["metadata"] == made["metadata"], "asking again changes nothing"
    assert delete(client, "pods", "p", grace=5)["metadata"]["deletionGracePeriodSeconds"] == 5
    assert delete(client, "pods", "p", grace=9)["metadata"]["deletionGracePeriodSeconds"] == 5, "it only gets shorter"
    delete(client, "pods", "p", grace=0)
    assert not client.has("pods", "p")


def test_a_pod_that_has_ended_goes_at_once(client: Client) -> None:
    client.create("pods", pod())
    subresources.bind(client.store, "default", "p", {"target": {"name": "n"}}, client.options())
    client.patch("pods", "p", {"status": {"phase": "Succeeded"}}, subresource="status")
    delete(client, "pods", "p")
    assert not client.has("pods", "p")


def test_preconditions(client: Client) -> None:
    made = client.create("configmaps", configmap("a"))
    with refused(409, "Conflict") as error:
        delete(client, "configmaps", "a", uid="other")
    assert "Precondition failed: UID in precondition: other, UID in object meta: " in error.value.message
    with refused(409, "Conflict"):
        delete(client, "configmaps", "a", resource_version="1")
    delete(client, "configmaps", "a", uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])


def test_a_dry_run_deletes_nothing(client: Client) -> None:
    client.create("configmaps", configmap("a"))
    delete(client, "configmaps", "a", dry_run=True)
    assert client.has("configmaps", "a")


def test_finalizers_hold_an_object_until_they_are_gone(client: Client) -> None:
    client.create("configmaps", configmap("a", finalizers=["x.io/f"]))
    made = delete(client, "configmaps", "a")
    assert made["metadata"]["deletionTimestamp"]
    with refused(422, "Invalid") as error:
        client.patch("configmaps", "a", {"metadata": {"finalizers": ["x.io/f", "x.io/g"]}})
    assert (
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
        in error.value.message
    )
    client.patch("configmaps", "a", {"metadata": {"deletionTimestamp": None}})
    assert client.get("configmaps", "a")["metadata"]["deletionTimestamp"], "nobody takes it back"
    watch = client.store.watch(client.kind("configmaps"), resource_version=str(client.store.resource_version))
    client.patch("configmaps", "a", {"metadata": {"finalizers": None}})
    assert not client.has("configmaps", "a")
    assert [each.type for each in watch.next(0)] == ["MODIFIED", "DELETED"]


def family(client: Client, **reference: Any) -> None:
    """Make an owner, its child, and the child's child."""
    top = client.create("configmaps", configmap("top"))
    middle = client.create("configmaps", configmap("middle", owner(top, **reference)))
    client.create("configmaps", configmap("low", owner(middle, **reference)))


def left(client: Client) -> list[str]:
    return client.names("configmaps", "default")


@pytest.mark.parametrize("propagation", ["", "Background", "Foreground"])
def test_dependents_go_with_their_owner(client: Client, propagation: str) -> None:
    family(client, blockOwnerDeletion=True)
    delete(client, "configmaps", "top", propagation=propagation)
    assert left(client) == []


def test_orphans_stay_and_forget_their_owner(client: Client) -> None:
    family(client)
    delete(client, "configmaps", "top", propagation="Orphan")
    assert left(client) == ["low", "middle"]
    assert "ownerReferences" not in client.get("configmaps", "middle")["metadata"]
    assert client.get("configmaps", "low")["metadata"]["ownerReferences"]


def test_an_owner_in_the_foreground_waits_for_those_that_block_it(client: Client) -> None:
    top = client.create("configmaps", configmap("top"))
    client.create("configmaps", configmap("child", owner(top, blockOwnerDeletion=True), finalizers=["x.io/f"]))
    client.create("configmaps", configmap("free", owner(top), finalizers=["x.io/f"]))
    delete(client, "configmaps", "top", propagation="Foreground")
    held = client.get("configmaps", "top")["metadata"]
    assert held["finalizers"] == ["foregroundDeletion"]
    client.patch("configmaps", "child", {"metadata": {"finalizers": None}})
    assert left(client) == ["free"]


def test_a_dependent_of_several_goes_with_the_last(client: Client) -> None:
    one, two = (client.create("configmaps", configmap(name)) for name in ("one", "two"))
    client.create("configmaps", configmap("child", owner(one), owner(two)))
    delete(client, "configmaps", "one", propagation="Foreground")
    assert left(client) == ["child", "two"]
    delete(client, "configmaps", "two")
    assert left(client) == []


def test_dependents_of_owners_that_never_were(client: Client) -> None:
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "name": "g", "uid": "no-such"}
    client.create("configmaps", configmap("child", ghost))
    assert left(client) == []
    client.create("configmaps", configmap("unknown", {**ghost, "apiVersion": "y.io/v1", "kind": "Thing"}))
    assert left(client) == ["unknown"], "an owner of a kind that is not served may well exist"


def test_jobs_leave_their_pods_unless_told_otherwise(client: Client) -> None:
    """The default of batch/v1 is Orphan: what surprises users of every client but kubectl."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    for name, propagation in (("one", ""), ("two", "Background")):
        job = client.create("jobs", {"metadata": {"name": name}, "spec": {"template": template}})
        client.create("pods", pod(name, meta={"ownerReferences": [owner(job)]}))
        delete(client, "jobs", name, propagation=propagation)
    assert client.names("pods") == ["one"]


def test_a_namespace_empties_itself_and_goes(client: Client) -> None:
    client.create("namespaces", {"metadata": {"name": "ns"}})
    client.create("configmaps", configmap("a"), "ns")
    client.create("pods", pod(), "ns")
    answer = delete(client, "namespaces", "ns")
    assert (answer["status"]["phase"], "deletionTimestamp" in answer["metadata"]) == ("Terminating", True)
    assert not client.has("namespaces", "ns")
    assert client.names("configmaps", "ns") == client.names("pods", "ns") == []


def test_what_is_held_in_a_namespace_holds_it(client: Client) -> None:
    client.create("namespaces", {"metadata": {"name": "ns"}})
    client.create("configmaps", configmap("a", finalizers=["x.io/f"]), "ns")
    delete(client, "namespaces", "ns")
    held = client.get("namespaces", "ns")
    told = {each["type"]: each["message"] for each in held["status"]["conditions"] if each["status"] == "True"}
    assert told["NamespaceContentRemaining"] == "Some resources are remaining: configmaps has 1 resource instances"
    assert "x.io/f in 1 resource instances" in told["NamespaceFinalizersRemaining"]
    with refused(403, "Forbidden") as error:
        client.create("configmaps", configmap("b"), "ns")
    assert error.value.message == (
        'configmaps "b" is forbidden: unable to create new content in namespace ns because it is being terminated'
    )
    assert error.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    kind = client.kind("configmaps")
    client.store.patch(
        kind, "ns", "a", {"metadata": {"finalizers": None}}, "application/merge-patch+json", options=client.options()
    )
    assert not client.has("namespaces", "ns")


def test_the_first_namespaces_stay(client: Client) -> None:
    with refused(403, "Forbidden") as error:
        delete(client, "namespaces", "default")
    assert error.value.message == 'namespaces "default" is forbidden: this namespace may not be deleted'


def test_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name, label in (("a", "1"), ("b", "2"), ("c", "1")):
        client.create("configmaps", configmap(name, labels={"k": label}))
    gone = client.store.delete_collection(client.kind("configmaps"), "default", labels="k=1")
    assert [each["metadata"]["name"] for each in gone] == ["a", "c"]
    assert left(client) == ["b"]
