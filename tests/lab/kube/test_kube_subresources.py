"""Binding, eviction and scale, held to what the real server does (registry/core/pod/storage)."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import Client, definition, deployment, pod, refused, version

from leptonami.lab.kube import subresources
from leptonami.lab.kube.store import DeleteOptions

Object = dict[str, Any]


@pytest.fixture
def client() -> Client:
    return Client()


def bound(client: Client, name: str = "p", *, ready: bool = True, **more: Any) -> None:
    client.create("pods", pod(name, **more))
    subresources.bind(client.store, "default", name, {"target": {"kind": "Node", "name": "n"}}, client.options())
    conditions = [{"type": "Ready", "status": str(ready)}]
    client.patch(
        "pods", name, {"status": {"phase": "Running", "conditions": conditions}}, "strategic", subresource="status"
    )


def test_a_binding_assigns_once(client: Client) -> None:
    client.create("pods", pod())
    body = {"metadata": {"name": "p", "annotations": {"why": "test"}}, "target": {"name": "n"}}
    assert subresources.bind(client.store, "default", "p", body, client.options())["code"] == 201
    made = client.get("pods", "p")
    assert (made["spec"]["nodeName"], made["metadata"]["annotations"]) == ("n", {"why": "test"})
    assert [(each["type"], each["status"]) for each in made["status"]["conditions"]] == [("PodScheduled", "True")]
    with refused(409, "Conflict") as error:
        subresources.bind(client.store, "default", "p", body, client.options())
    assert error.value.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"'
    )
    with refused(422):
        subresources.bind(client.store, "default", "p", {"target": {}}, client.options())
    with refused(404):
        subresources.bind(client.store, "default", "q", body, client.options())


def budget(client: Client, name: str = "b", status: Object | None = None, **spec: Any) -> None:
    client.create(
        "poddisruptionbudgets",
        {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "x"}}, **spec}},
    )
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
        **(status or {}),
    }
    client.patch("poddisruptionbudgets", name, {"status": status}, subresource="status")


def rescale(client: Client, kind: Any, name: str, wanted: Object) -> Object:
    return subresources.rescale(client.store, kind, "default", name, lambda _: wanted, options=client.options())


def evict(client: Client, name: str = "p", **more: Any) -> Object:
    return subresources.evict(client.store, "default", name, {"metadata": {"name": name}}, DeleteOptions(**more))


def test_an_eviction_spends_the_budget(client: Client) -> None:
    for name in ("p", "q"):
        bound(client, name)
    budget(client)
    assert evict(client)["status"] == "Success"
    gone = client.get("pods", "p")
    assert gone["metadata"]["deletionTimestamp"]
    assert {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}.items() <= gone["status"][
        "conditions"
    ][-1].items()
    status = client.get("poddisruptionbudgets", "b")["status"]
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, ["p"])
    with refused(429, "TooManyRequests") as error:
        evict(client, "q")
    assert error.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert error.value.details["causes"] == [
        {"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 2 currently"}
    ]
    assert "deletionTimestamp" not in client.get("pods", "q")["metadata"]


def test_a_budget_that_its_controller_has_not_seen_says_so(client: Client) -> None:
    bound(client)
    budget(client, status={"observedGeneration": 0})
    with refused(429) as error:
        evict(client)
    assert (
        error.value.details["causes"][0]["message"] == "The disruption budget b is still being processed by the server."
    )
    assert error.value.details["retryAfterSeconds"] == 10


def test_two_budgets_are_one_too_many(client: Client) -> None:
    bound(client)
    budget(client)
    budget(client, "c")
    with refused(500, "InternalError") as error:
        evict(client)
    assert (
        error.value.message
        == "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )


def test_pods_that_serve_nobody(client: Client) -> None:
    budget(client, status={"disruptionsAllowed": 0})
    client.create("pods", pod("pending"))
    bound(client, "unready", ready=False)
    bound(client, "other", labels={"app": "y"})
    bound(client, "ready")
    for name in ("pending", "unready", "other"):
        evict(client, name)
    assert client.get("pods", "other")["status"]["conditions"][-1]["type"] == "DisruptionTarget", (
        "without a budget, too"
    )
    with refused(429):
        evict(client, "ready")
    client.patch("poddisruptionbudgets", "b", {"status": {"currentHealthy": 0}}, subresource="status")
    bound(client, "broken", ready=False)
    with refused(429):
        evict(client, "broken")
    client.patch("poddisruptionbudgets", "b", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    evict(client, "broken")


def test_a_dry_run_of_an_eviction_spends_nothing(client: Client) -> None:
    bound(client)
    budget(client)
    version = client.store.resource_version
    evict(client, dry_run=True)
    assert client.store.resource_version == version
    with refused(400):
        subresources.evict(client.store, "default", "p", {"metadata": {"name": "q"}}, DeleteOptions())


def test_scales(client: Client) -> None:
    client.create("deployments", deployment())
    kind = client.kind("deployments")
    scale = subresources.scale(kind, client.store.get(kind, "default", "d"))
    assert (scale["kind"], scale["apiVersion"], scale["spec"], scale["status"]) == (
        "Scale", "autoscaling/v1", {"replicas": 1}, {"replicas": 0, "selector": "app=d"},
    )  # fmt: skip
    made = rescale(client, kind, "d", {"spec": {"replicas": 4}})
    assert made["spec"] == {"replicas": 4}
    assert client.get("deployments", "d")["spec"]["replicas"] == 4
    with refused(409, "Conflict"):
        rescale(client, kind, "d", scale | {"spec": {"replicas": 9}})
    with refused(422):
        rescale(client, kind, "d", {"spec": {"replicas": -1}})
    with refused(404):
        subresources.scale(client.kind("daemonsets"), client.store.get(client.kind("daemonsets"), "default", "d"))


def test_a_custom_kind_says_where_its_scale_is(client: Client) -> None:
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.sel"}
    client.create("customresourcedefinitions", definition(version(subresources={"status": {}, "scale": scale})))
    client.create("widgets", {"metadata": {"name": "w"}, "spec": {"size": 2}})
    client.patch("widgets", "w", {"status": {"size": 1, "sel": "a=b"}}, subresource="status")
    kind = client.kind("widgets")
    got = subresources.scale(kind, client.store.get(kind, "default", "w"))
    assert (got["spec"], got["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    rescale(client, kind, "w", {"spec": {"replicas": 5}})
    assert client.get("widgets", "w")["spec"]["size"] == 5


def test_finalizing_a_namespace_by_hand_lets_it_go(client: Client) -> None:
    client.create("namespaces", {"metadata": {"name": "ns"}})
    client.create("configmaps", {"metadata": {"name": "a", "finalizers": ["x.io/f"]}}, "ns")
    client.store.delete(client.kind("namespaces"), None, "ns")
    held = client.get("namespaces", "ns")
    held = client.update("namespaces", {**held, "spec": {}})
    assert held["spec"] == {"finalizers": ["kubernetes"]}, "only by the subresource"
    client.update("namespaces", {**held, "spec": {"finalizers": []}}, subresource="finalize")
    assert not client.has("namespaces", "ns")
