"""Server-side apply, held to https://kubernetes.io/docs/reference/using-api/server-side-apply/."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import Client, definition, deployment, pod, refused, version

Object = dict[str, Any]


@pytest.fixture
def client() -> Client:
    return Client()


def managers(obj: Object) -> dict[str, Object]:
    return {f"{each['manager']}/{each['operation']}": each["fieldsV1"] for each in obj["metadata"]["managedFields"]}


def applied(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def apply(client: Client, obj: Object, manager: str, plural: str = "configmaps", **more: Any) -> Object:
    return client.patch(plural, obj["metadata"]["name"], obj, "apply", manager=manager, **more)


def test_an_apply_creates_and_notes_who_manages_what(client: Client) -> None:
    kind = client.kind("configmaps")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "data": {"k": "v"},
    }
    made, created = client.store.patch(
        kind, "default", "a", body, "application/apply-patch+yaml", options=client.options(manager="me")
    )
    assert created
    [entry] = made["metadata"]["managedFields"]
    assert {key: entry[key] for key in entry.keys() - {"time"}} == {
        "manager": "me",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:x": {}}}},
    }
    again, created = client.store.patch(
        kind, "default", "a", body, "application/apply-patch+yaml", options=client.options(manager="me")
    )
    assert not created
    assert again == made, "to apply the same again changes nothing"


def test_another_value_of_another_manager_is_a_conflict(client: Client) -> None:
    apply(client, applied(k="v"), "one")
    with refused(409, "Conflict") as error:
        apply(client, applied(k="w"), "two")
    assert error.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert error.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}
    ]
    assert client.get("configmaps", "a")["data"] == {"k": "v"}
    forced = apply(client, applied(k="w"), "two", force=True)
    assert forced["data"] == {"k": "w"}
    assert managers(forced) == {"two/Apply": {"f:data": {"f:k": {}}}}


def test_conflicts_with_updates_name_the_version(client: Client) -> None:
    client.create("deployments", deployment(replicas=2), manager="kubectl-create")
    body = {**deployment(replicas=3), "apiVersion": "apps/v1", "kind": "Deployment"}
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    with refused(409) as error:
        apply(client, body, "me", "deployments")
    assert error.value.message == (
        'Apply failed with 2 conflicts: conflicts with "kubectl-create" using apps/v1:\n- .spec.replicas\n'
        '- .spec.template.spec.containers[name="c"].image'
    )


def test_the_same_value_is_shared_and_goes_with_its_last_manager(client: Client) -> None:
    apply(client, applied(k="v", mine="1"), "one")
    both = apply(client, applied(k="v"), "two")
    assert managers(both)["two/Apply"] == {"f:data": {"f:k": {}}}
    left = apply(client, applied(), "one")
    assert left["data"] == {"k": "v"}, "what one applies no longer goes, unless another manages it"
    gone = apply(client, applied(), "two")
    assert not gone.get("data")


def test_items_of_a_list_with_keys_are_managed_one_by_one(client: Client) -> None:
    def body(*containers: Object) -> Object:
        made = {**deployment(), "apiVersion": "apps/v1", "kind": "Deployment"}
        made["spec"]["template"]["spec"]["containers"] = list(containers)
        return made

    first, second = {"name": "a", "image": "x", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "y"}
    made = apply(client, body(first, second), "one", "deployments")
    fields = managers(made)["one/Apply"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert fields['k:{"name":"a"}']["f:ports"]['k:{"containerPort":80,"protocol":"TCP"}'] == {
        ".": {},
        "f:containerPort": {},
    }
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "z"}]}}}, "metadata": {"name": "d"}}
    both = apply(client, sidecar, "two", "deployments")
    assert [each["name"] for each in both["spec"]["template"]["spec"]["containers"]] == ["a", "b", "s"]
    left = apply(client, body(first), "one", "deployments")["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in left] == ["a", "s"]
    assert left[0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_an_update_takes_what_it_changes_and_everybody_loses_what_it_removes(client: Client) -> None:
    apply(client, applied(k="v", l="v", m="v"), "one")
    made = client.patch("configmaps", "a", {"data": {"k": "w", "l": None}}, manager="kubectl-edit")
    assert managers(made) == {"one/Apply": {"f:data": {"f:m": {}}}, "kubectl-edit/Update": {"f:data": {"f:k": {}}}}


def test_status_is_managed_apart(client: Client) -> None:
    client.create("pods", pod(), manager="kubectl")
    made = client.patch("pods", "p", {"status": {"phase": "Running"}}, subresource="status", manager="kubelet")
    entries = {each["manager"]: each for each in made["metadata"]["managedFields"]}
    assert entries["kubelet"]["subresource"] == "status"
    assert entries["kubelet"]["fieldsV1"] == {"f:status": {"f:phase": {}}}
    assert "f:status" not in entries["kubectl"]["fieldsV1"]


def test_an_apply_needs_a_manager_and_brings_no_managed_fields(client: Client) -> None:
    with refused(422, "Invalid") as error:
        apply(client, applied(), "")
    assert "fieldManager: Required value: is required for apply patch" in error.value.message
    with refused(400):
        apply(client, {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}, "me")


def test_after_a_client_side_apply_the_fields_are_taken_over_as_kubectl_does_it(client: Client) -> None:
    """What `kubectl apply --server-side` sends: csaupgrade's JSON patch of the managers, then the apply."""
    made = client.create("configmaps", applied(k="v", gone="1"), manager="kubectl-client-side-apply")
    [entry] = made["metadata"]["managedFields"]
    moved = [{**entry, "manager": "kubectl", "operation": "Apply"}]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]
    made = client.patch("configmaps", "a", patch, "json", manager="kubectl-client-side-apply")
    assert list(managers(made)) == ["kubectl/Apply"]
    made = apply(client, applied(k="w"), "kubectl")
    assert made["data"] == {"k": "w"}
    assert list(managers(made)) == ["kubectl/Apply"]


def test_an_update_may_clear_the_managers(client: Client) -> None:
    made = client.create("configmaps", applied(k="v"))
    kept = client.update("configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert kept["metadata"]["managedFields"] == made["metadata"]["managedFields"], "one that is silent keeps them"
    cleared = client.update("configmaps", {"metadata": {"name": "a", "managedFields": []}, "data": {"k": "v"}})
    assert "managedFields" not in cleared["metadata"]


def test_custom_objects_are_merged_by_their_schema(client: Client) -> None:
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["id"],
        "items": {"type": "object", "properties": {"id": {"type": "integer"}, "to": {"type": "string"}}},
    }
    plain = {"type": "array", "items": {"type": "string"}}
    spec = {
        "type": "object",
        "properties": {"ports": ports, "plain": plain, "set": {**plain, "x-kubernetes-list-type": "set"}},
    }
    client.create(
        "customresourcedefinitions", definition(version(schema={"type": "object", "properties": {"spec": spec}}))
    )

    def body(**spec: Any) -> Object:
        return {"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}

    apply(client, body(ports=[{"id": 1, "to": "a"}], set=["a"], plain=["a"]), "one", "widgets")
    made = apply(client, body(ports=[{"id": 2, "to": "b"}], set=["b"]), "two", "widgets")
    assert made["spec"] == {"ports": [{"id": 1, "to": "a"}, {"id": 2, "to": "b"}], "set": ["a", "b"], "plain": ["a"]}
    with refused(409) as error:
        apply(client, body(plain=["b"]), "two", "widgets")
    assert error.value.message.endswith('conflict with "one": .spec.plain')
    left = apply(client, body(set=["c"]), "one", "widgets")
    assert left["spec"] == {"ports": [{"id": 2, "to": "b"}], "set": ["b", "c"]}


def test_an_apply_of_an_old_version_is_a_conflict(client: Client) -> None:
    made = apply(client, applied(k="v"), "one")
    apply(client, applied(k="w"), "one")
    body = applied(k="x")
    body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with refused(409, "Conflict") as error:
        apply(client, body, "one")
    assert "the object has been modified" in error.value.message
