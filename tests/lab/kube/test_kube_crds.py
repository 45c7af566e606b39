"""CustomResourceDefinitions: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/."""

from __future__ import annotations

from typing import Any

import pytest
from manifests import Client, definition, refused, version

Object = dict[str, Any]
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "nick": {"type": "string", "pattern": "^x", "maxLength": 3},
        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "list": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "void": {"type": "string", "nullable": True},
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"spec": SPEC, "status": {"type": "object", "properties": {"state": {"type": "string"}}}},
}


@pytest.fixture
def client() -> Client:
    found = Client()
    columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}]
    found.create(
        "customresourcedefinitions",
        definition(version(schema=SCHEMA, subresources={"status": {}}, additionalPrinterColumns=columns)),
    )
    return found


def widget(name: str = "w", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"size": 1, **spec}}


def test_a_definition_serves_a_kind_and_says_so(client: Client) -> None:
    status = client.get("customresourcedefinitions", "widgets.x.io")["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert (status["acceptedNames"]["kind"], status["storedVersions"]) == ("Widget", ["v1"])
    kind = client.store.kind("widgets", "x.io")
    assert (kind.kind, kind.list_kind, kind.singular, kind.short, kind.categories) == (
        "Widget",
        "WidgetList",
        "widget",
        ("wd",),
        ("all",),
    )
    assert [(each.name, each.path, each.priority) for each in kind.columns] == [
        ("Name", ".metadata.name", 0),
        ("Size", ".spec.size", 1),
    ]
    assert client.store.registry.by_kind("x.io/v1", "Widget") == kind


def test_unknown_fields_are_pruned_and_defaults_filled_in(client: Client) -> None:
    options = client.options()
    sent = widget(
        typo=1,
        free={"any": 1},
        list=[{"k": "v", "l": 1}],
        void=None,
        template={"kind": "Pod", "metadata": {"name": "x"}},
    )
    made = client.store.create(client.kind("widgets"), "default", sent, options=options)
    assert made["spec"] == {
        "size": 1,
        "mode": "a",
        "free": {"any": 1},
        "list": [{"k": "v"}],
        "void": None,
        "template": {"kind": "Pod", "metadata": {"name": "x"}},
    }
    assert sorted(options.warnings) == ['unknown field "spec.list[0].l"', 'unknown field "spec.typo"']
    with refused(400, "BadRequest") as error:
        client.create("widgets", widget("v", typo=1), field_validation="Strict")
    assert error.value.message == (
        'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.typo"'
    )


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"size": "1"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": True}, 'spec.size: Invalid value: "boolean": spec.size in body must be of type integer: "boolean"'),
        ({"size": None}, "spec.size: Required value"),
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": 10}, "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"),
        ({"mode": "c"}, 'spec.mode: Unsupported value: "c": supported values: "a", "b"'),
        ({"nick": "y"}, "spec.nick: Invalid value: \"y\": spec.nick in body should match '^x'"),
        ({"nick": "xxxx"}, 'spec.nick: Invalid value: "xxxx": spec.nick in body should be at most 3 chars long'),
        (
            {"port": 1.5},
            'spec.port: Invalid value: "number": spec.port in body must be of type integer or string: "number"',
        ),
        ({"list": [{}, {}, {}]}, "spec.list in body should have at most 2 items"),
        (
            {"list": [{"k": 1}]},
            'spec.list[0].k: Invalid value: "integer": spec.list[0].k in body must be of type string: "integer"',
        ),
        ({"map": {"a": "b"}}, 'spec.map.a in body must be of type boolean: "string"'),
    ],
)
def test_what_the_schema_refuses(client: Client, spec: Object, told: str) -> None:
    with refused(422, "Invalid") as error:
        client.create("widgets", widget(**spec))
    assert error.value.message.startswith('Widget.x.io "w" is invalid: ')
    assert told in error.value.message


def test_spec_and_status_of_a_custom_object(client: Client) -> None:
    made = client.create("widgets", {**widget(), "status": {"state": "early"}})
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    made = client.patch(
        "widgets", "w", {"status": {"state": "ready"}, "metadata": {"labels": {"a": "b"}}}, subresource="status"
    )
    assert (made["status"], made["metadata"]["generation"], made["metadata"].get("labels")) == (
        {"state": "ready"},
        1,
        None,
    )
    made = client.patch("widgets", "w", {"spec": {"size": 2}, "status": {"state": "x"}})
    assert (made["status"], made["metadata"]["generation"]) == ({"state": "ready"}, 2)
    with refused(422) as error:
        client.update("widgets", widget())
    assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in error.value.message
    with refused(415):
        client.patch("widgets", "w", {}, "strategic")


def test_versions_share_their_objects(client: Client) -> None:
    held = client.get("customresourcedefinitions", "widgets.x.io")
    versions = [{**held["spec"]["versions"][0], "storage": False}, version("v2", schema=SCHEMA)]
    client.create("widgets", widget())
    client.update("customresourcedefinitions", {**held, "spec": {**held["spec"], "versions": versions}})
    assert client.get("customresourcedefinitions", "widgets.x.io")["status"]["storedVersions"] == ["v1", "v2"]
    one, two = client.store.kind("widgets", "x.io", "v1"), client.store.kind("widgets", "x.io", "v2")
    assert client.store.get(two, "default", "w")["apiVersion"] == "x.io/v2"
    watch = client.store.watch(one, resource_version=str(client.store.resource_version))
    client.store.create(two, "default", widget("v"), options=client.options())
    assert [each.obj["apiVersion"] for each in watch.next(0)] == ["x.io/v1"]
    held = client.get("customresourcedefinitions", "widgets.x.io")
    client.update("customresourcedefinitions", {**held, "spec": {**held["spec"], "versions": versions[1:]}})
    with refused(404):
        client.store.kind("widgets", "x.io", "v1")
    assert [each["apiVersion"] for each in client.store.list(two).items] == ["x.io/v2", "x.io/v2"]


def test_a_kind_goes_with_its_definition_and_takes_its_objects_along(client: Client) -> None:
    client.create("widgets", widget())
    client.create("widgets", {"metadata": {"name": "held", "finalizers": ["x.io/f"]}, "spec": {"size": 1}})
    kind = client.kind("widgets")
    watch = client.store.watch(kind, resource_version=str(client.store.resource_version))
    client.store.delete(client.kind("customresourcedefinitions"), None, "widgets.x.io")
    assert client.has("customresourcedefinitions", "widgets.x.io"), "an object is held"
    assert client.names("widgets") == ["held"]
    client.patch("widgets", "held", {"metadata": {"finalizers": None}})
    assert not client.has("customresourcedefinitions", "widgets.x.io")
    with refused(404, "NotFound") as error:
        client.store.kind("widgets", "x.io")
    assert error.value.message == "the server could not find the requested resource"
    assert [each.type for each in watch.next(0)] == ["DELETED", "MODIFIED", "MODIFIED", "DELETED"]
    assert watch.ended
    client.create("customresourcedefinitions", definition(version()))
    assert client.names("widgets") == []


@pytest.mark.parametrize(
    ("crd", "told"),
    [
        ({**definition(version()), "metadata": {"name": "wrong.x.io"}}, 'must be spec.names.plural+"."+spec.group'),
        (definition(version(), version("v2")), "must have exactly one version marked as storage version"),
        (
            definition({"name": "v1", "served": True, "storage": True}),
            "spec.versions[0].schema.openAPIV3Schema: Required value",
        ),
        (definition(), "spec.versions: Required value"),
    ],
)
def test_definitions_that_are_refused(crd: Object, told: str) -> None:
    with refused(422, "Invalid") as error:
        Client().create("customresourcedefinitions", crd)
    assert told in error.value.message
