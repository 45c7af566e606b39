"""The official Python client: its models parse every answer, and its verbs do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from leptonami.lab.kube import Server

client: Any = pytest.importorskip("kubernetes.client")
config: Any = pytest.importorskip("kubernetes.config")
watch: Any = pytest.importorskip("kubernetes.watch")
dynamic: Any = pytest.importorskip("kubernetes.dynamic")

POD = {"metadata": {"name": "one", "labels": {"app": "x"}}, "spec": {"containers": [{"name": "main", "image": "i"}]}}


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Any]:
    """Give a client of the server."""
    settings = type.__call__(client.Configuration)
    config.load_kube_config_from_dict(server.kubeconfig(), client_configuration=settings)
    with client.ApiClient(settings) as made:
        yield made
        made.rest_client.pool_manager.clear()


def test_objects_are_made_read_changed_and_deleted(api: Any) -> None:
    core = client.CoreV1Api(api)
    made = core.create_namespaced_pod("default", POD)
    assert made.metadata.uid and made.status.phase == "Pending"
    assert core.read_namespaced_pod("one", "default").metadata.resource_version == made.metadata.resource_version
    patched = core.patch_namespaced_pod("one", "default", {"metadata": {"annotations": {"a": "b"}}})
    assert patched.metadata.annotations["a"] == "b"
    made.metadata.labels["app"] = "y"
    with pytest.raises(client.ApiException) as caught:
        core.replace_namespaced_pod("one", "default", made)
    assert caught.value.status == 409
    made.metadata.resource_version = patched.metadata.resource_version
    assert core.replace_namespaced_pod("one", "default", made).metadata.labels["app"] == "y"
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert core.patch_namespaced_pod_status("one", "default", status).status.phase == "Running"
    core.delete_namespaced_pod("one", "default", grace_period_seconds=0)
    with pytest.raises(client.ApiException) as caught:
        core.read_namespaced_pod("one", "default")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "lister",
    [
        "CoreV1Api.list_node",
        "CoreV1Api.list_namespace",
        "CoreV1Api.list_pod_for_all_namespaces",
        "CoreV1Api.list_service_for_all_namespaces",
        "CoreV1Api.list_replication_controller_for_all_namespaces",
        "CoreV1Api.list_persistent_volume",
        "CoreV1Api.list_persistent_volume_claim_for_all_namespaces",
        "CoreV1Api.list_config_map_for_all_namespaces",
        "CoreV1Api.list_event_for_all_namespaces",
        "AppsV1Api.list_daemon_set_for_all_namespaces",
        "AppsV1Api.list_deployment_for_all_namespaces",
        "AppsV1Api.list_replica_set_for_all_namespaces",
        "AppsV1Api.list_stateful_set_for_all_namespaces",
        "BatchV1Api.list_job_for_all_namespaces",
        "BatchV1Api.list_cron_job_for_all_namespaces",
        "PolicyV1Api.list_pod_disruption_budget_for_all_namespaces",
        "CoordinationV1Api.list_lease_for_all_namespaces",
        "StorageV1Api.list_storage_class",
        "StorageV1Api.list_csi_node",
        "StorageV1Api.list_csi_driver",
        "StorageV1Api.list_csi_storage_capacity_for_all_namespaces",
        "StorageV1Api.list_volume_attachment",
        "SchedulingV1Api.list_priority_class",
        "EventsV1Api.list_event_for_all_namespaces",
        "ApiextensionsV1Api.list_custom_resource_definition",
        "NodeV1Api.list_runtime_class",
        "RbacAuthorizationV1Api.list_cluster_role",
        "ResourceV1Api.list_resource_claim_for_all_namespaces",
    ],
)
def test_everything_that_the_autoscaler_lists_is_a_list(api: Any, lister: str) -> None:
    group, _, method = lister.partition(".")
    found = getattr(getattr(client, group)(api), method)(limit=10)
    assert found.metadata.resource_version
    assert isinstance(found.items, list)


def test_kinds_with_statuses_are_parsed(api: Any) -> None:
    apps, template = client.AppsV1Api(api), {"metadata": {"labels": {"app": "x"}}, "spec": POD["spec"]}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    made = apps.create_namespaced_deployment("default", {"metadata": {"name": "d"}, "spec": {**spec, "replicas": 2}})
    assert made.spec.strategy.rolling_update.max_surge
    scale = apps.read_namespaced_deployment_scale("d", "default")
    assert (scale.spec.replicas, scale.status.selector) == (2, "app=x")
    scaled = apps.patch_namespaced_deployment_scale("d", "default", {"spec": {"replicas": 5}})
    assert scaled.spec.replicas == 5
    assert apps.read_namespaced_deployment("d", "default").spec.replicas == 5
    gone = apps.delete_namespaced_deployment("d", "default")
    assert gone["status"] == "Success"
    node = {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
    core = client.CoreV1Api(api)
    assert core.create_node(node).spec.taints[0].key == "a"
    assert core.patch_node("n", {"spec": {"unschedulable": True}}).spec.unschedulable
    assert core.delete_node("n")["status"] == "Success"


def test_a_watch_sees_what_happens_and_ends_in_time(api: Any) -> None:
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map("default").metadata.resource_version
    for name in ("w1", "w2"):
        core.create_namespaced_config_map("default", {"metadata": {"name": name}, "data": {"a": "b"}})
    core.delete_namespaced_config_map("w1", "default")
    stream = watch.Watch()
    events = stream.stream(core.list_namespaced_config_map, "default", resource_version=start, timeout_seconds=1)
    seen = [(each["type"], each["object"].metadata.name) for each in events]
    assert seen == [("ADDED", "w1"), ("ADDED", "w2"), ("DELETED", "w1")]


def test_a_watch_from_a_forgotten_version_is_gone(api: Any, server: Server) -> None:
    core = client.CoreV1Api(api)
    kind = server.store.kind("configmaps")
    core.create_namespaced_config_map("default", {"metadata": {"name": "gone"}})
    history = server.store.table(kind.storage).history
    history.forgotten, before = history.changes[-1].version + 1, history.forgotten
    try:
        with pytest.raises(client.ApiException) as caught:
            list(
                watch.Watch().stream(
                    core.list_namespaced_config_map, "default", resource_version="1", timeout_seconds=1
                )
            )
        assert caught.value.status == 410
    finally:
        history.forgotten = before


def test_eviction_asks_the_budget(api: Any) -> None:
    core, policy = client.CoreV1Api(api), client.PolicyV1Api(api)
    pod = {"metadata": {"name": "kept", "labels": {"app": "kept"}}, "spec": POD["spec"]}
    core.create_namespaced_pod("default", pod)
    core.patch_namespaced_pod_status("kept", "default", {"status": {"phase": "Running"}})
    budget = {"metadata": {"name": "kept"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}}
    policy.create_namespaced_pod_disruption_budget("default", budget)
    counted = {
        "disruptionsAllowed": 0,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
        "observedGeneration": 1,
    }
    core.patch_namespaced_pod_status(
        "kept", "default", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    )
    policy.patch_namespaced_pod_disruption_budget_status("kept", "default", {"status": counted})
    eviction = {"metadata": {"name": "kept", "namespace": "default"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    with pytest.raises(client.ApiException) as caught:
        core.create_namespaced_pod_eviction("kept", "default", eviction)
    assert caught.value.status == 429
    assert "DisruptionBudget" in caught.value.body
    policy.delete_namespaced_pod_disruption_budget("kept", "default")
    core.create_namespaced_pod_eviction("kept", "default", eviction)
    with pytest.raises(client.ApiException):
        core.read_namespaced_pod("kept", "default")


DEFINITION = """
metadata: {name: probes.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: probes, singular: probe, kind: Probe}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


def test_custom_objects_and_the_dynamic_client(api: Any) -> None:
    made = client.ApiextensionsV1Api(api).create_custom_resource_definition(yaml.safe_load(DEFINITION))
    assert made.spec.names.plural == "probes"
    custom = client.CustomObjectsApi(api)
    probe = {"apiVersion": "example.com/v1", "kind": "Probe", "metadata": {"name": "p"}, "spec": {"a": 1}}
    custom.create_cluster_custom_object("example.com", "v1", "probes", probe)
    custom.patch_cluster_custom_object_status("example.com", "v1", "probes", "p", {"status": {"state": "ready"}})
    assert custom.get_cluster_custom_object("example.com", "v1", "probes", "p")["status"] == {"state": "ready"}
    finder = dynamic.DynamicClient(api)
    probes = finder.resources.get(api_version="example.com/v1", kind="Probe")
    assert [each.metadata.name for each in probes.get().items] == ["p"]
    assert finder.resources.get(api_version="apps/v1", kind="Deployment").name == "deployments"
    applied = probes.server_side_apply(
        {"apiVersion": "example.com/v1", "kind": "Probe", "metadata": {"name": "p"}, "spec": {"b": 2}},
        field_manager="tests",
    )
    assert dict(applied.spec) == {"a": 1, "b": 2}
    assert probes.delete("p").status == "Success"


def test_pages_show_one_moment(api: Any) -> None:
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": "paged"}})
    for number in range(5):
        core.create_namespaced_config_map("paged", {"metadata": {"name": f"c{number}"}})
    first = core.list_namespaced_config_map("paged", limit=2)
    assert first.metadata.remaining_item_count == 3
    core.delete_namespaced_config_map("c3", "paged")
    names = [each.metadata.name for each in first.items]
    token = first.metadata._continue
    while token:
        page = core.list_namespaced_config_map("paged", limit=2, _continue=token)
        assert page.metadata.resource_version == first.metadata.resource_version
        names += [each.metadata.name for each in page.items]
        token = page.metadata._continue
    assert names == ["c0", "c1", "c2", "c3", "c4"]


def test_a_log_of_a_pod_without_a_node_is_empty_and_one_without_a_kubelet_says_so(api: Any) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod("default", {**POD, "metadata": {"name": "silent"}})
    assert core.read_namespaced_pod_log("silent", "default") == ""
    core.create_node({"metadata": {"name": "deaf"}})
    core.create_namespaced_pod("default", {"metadata": {"name": "bound"}, "spec": {**POD["spec"], "nodeName": "deaf"}})
    with pytest.raises(client.ApiException) as caught:
        core.read_namespaced_pod_log("bound", "default")
    assert caught.value.status == 500
    assert "connection refused" in caught.value.body


def test_versions_and_reviews_are_parsed(api: Any) -> None:
    assert client.VersionApi(api).get_code().minor == "37"
    assert {"apps", "batch", "policy"} <= {each.name for each in client.ApisApi(api).get_api_versions().groups}
    review = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}
    assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed
    who = client.AuthenticationV1Api(api).create_self_subject_review({})
    assert who.status.user_info.username == "lab-admin"
    token = client.AuthenticationV1Api(api).create_token_review({"spec": {"token": "none"}})
    assert not token.status.authenticated


def test_an_event_without_a_time_of_its_own_is_read_in_both_versions(api: Any) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": "one"}
    times = {"firstTimestamp": "2026-11-26T10:00:00Z", "lastTimestamp": "2026-11-26T10:00:05Z"}
    said = {"reason": "Pulled", "message": "it is there"}
    body = {"metadata": {"name": "one.1"}, "involvedObject": about, **said, **times}
    client.CoreV1Api(api).create_namespaced_event("default", body)
    found = {each.metadata.name: each for each in client.EventsV1Api(api).list_namespaced_event("default").items}
    assert found["one.1"].event_time.isoformat() == "2026-11-26T10:00:00+00:00"
    assert found["one.1"].note == "it is there"
    plain = client.CoreV1Api(api).read_namespaced_event("one.1", "default")
    assert (plain.event_time, plain.message) == (None, "it is there")
