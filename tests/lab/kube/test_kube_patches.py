"""Patches, held to the RFCs, to the reference library and to the documentation of Kubernetes."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import deployment, refused

from leptonami.lab.kube import patches
from leptonami.lab.kube.objects import clone
from leptonami.lab.kube.resources import Registry, builtin
from leptonami.lab.kube.schemas import Schemas

SCHEMAS = Schemas()
KINDS = Registry(builtin())
PODS = KINDS.find("", "v1", "pods")
NODES = KINDS.find("", "v1", "nodes")
DEPLOYMENTS = KINDS.find("apps", "v1", "deployments")

keys = st.sampled_from("abc")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "y"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=3)


def rfc7386(target: Any, patch: Any) -> Any:
    """Give the pseudo-code of RFC 7386, section 2, as it stands there."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = rfc7386(target.get(name), value)
        return target
    return patch


@settings(deadline=None, max_examples=100)
@given(target=values, patch=values)
def test_a_merge_patch_is_what_rfc_7386_says(target: Any, patch: Any) -> None:
    before = clone(target)
    made = patches.merge(target, patch)
    assert target == before, "the target was changed"
    assert made == rfc7386(clone(target), patch)


@settings(deadline=None, max_examples=100)
@given(old=objects, new=objects)
def test_a_json_patch_leads_from_one_object_to_another(old: Any, new: Any) -> None:
    patch = jsonpatch.make_patch(old, new).patch
    before = clone(old)
    assert patches.json_patch(old, patch) == new
    assert old == before, "the object was changed"


def test_a_json_patch_that_does_not_fit_is_refused() -> None:
    for patch in (
        [{"op": "test", "path": "/a", "value": 2}],
        [{"op": "remove", "path": "/b"}],
        [{"op": "no"}],
    ):
        with refused(422, "Invalid"):
            patches.json_patch({"a": 1}, patch)


def strategic(target: Any, patch: Any, kind: Any = DEPLOYMENTS) -> Any:
    return patches.patcher(SCHEMAS, kind, patch, patches.STRATEGIC)(target)


def template(spec: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def test_containers_merge_by_name_and_their_ports_by_number() -> None:
    old = deployment()
    old["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "name": "web"}]
    patch = template(
        {
            "containers": [
                {"name": "c", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]},
                {"name": "e", "image": "busybox"},
            ]
        }
    )
    made = strategic(old, patch)["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in made] == ["c", "e"]
    assert made[0] == {
        "name": "c",
        "image": "nginx:1",
        "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}],
    }


def test_lists_without_a_merge_key_are_replaced() -> None:
    old = template({"tolerations": [{"key": "a"}], "containers": [{"name": "c", "command": ["x", "y"]}]})
    made = strategic(old, template({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "command": ["z"]}]}))
    assert made == template({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "command": ["z"]}]})


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ({"containers": [{"name": "a", "$patch": "delete"}]}, ["b", "c"]),
        ({"containers": [{"$patch": "replace"}, {"name": "z"}]}, ["z"]),
        (
            {
                "containers": [{"name": "z"}],
                "$setElementOrder/containers": [{"name": "z"}, {"name": "c"}, {"name": "a"}],
            },
            ["z", "b", "c", "a"],
        ),
        ({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}, ["c", "b", "a"]),
        ({"containers": None}, None),
    ],
    ids=["delete", "replace", "order", "order only", "null"],
)
def test_directives_of_lists(patch: dict[str, Any], left: list[str] | None) -> None:
    old = template({"containers": [{"name": each} for each in "abc"]})
    made = strategic(old, template(patch))["spec"]["template"]["spec"]
    assert (left and [each["name"] for each in made["containers"]]) == left
    assert "containers" in made or left is None


def test_directives_of_objects_and_of_lists_of_values() -> None:
    old = {
        "metadata": {"finalizers": ["a", "b"]},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
    }
    patch = {
        "metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
        "spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}},
    }
    assert strategic(old, patch) == {"metadata": {"finalizers": ["b", "c"]}, "spec": {"strategy": {"type": "Recreate"}}}
    assert strategic(old, {"spec": {"strategy": {"$patch": "replace", "type": "X"}}})["spec"] == {
        "strategy": {"type": "X"}
    }
    assert strategic(old, {"spec": {"strategy": {"$patch": "delete"}}})["spec"] == {}


def test_an_item_without_its_merge_key_is_refused() -> None:
    with refused(400) as error:
        strategic(deployment(), template({"containers": [{"image": "x"}]}))
    assert "does not contain declared merge key: name" in error.value.message


taints = st.lists(
    st.fixed_dictionaries({"key": keys, "effect": st.sampled_from(["NoSchedule", "NoExecute"])}), max_size=3
)
nodes = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": st.dictionaries(keys, st.sampled_from(["1", "2"]))}),
        "spec": st.fixed_dictionaries({}, optional={"taints": taints, "unschedulable": st.booleans() | st.none()}),
        "status": st.fixed_dictionaries(
            {},
            optional={
                "conditions": st.lists(
                    st.fixed_dictionaries({"type": keys, "status": st.sampled_from(["True", "False"])}),
                    max_size=3,
                    unique_by=lambda each: each["type"],
                )
            },
        ),
    },
)


@settings(deadline=None, max_examples=100)
@given(old=nodes, patch=nodes)
def test_a_strategic_patch_twice_is_the_patch_once(old: Any, patch: Any) -> None:
    before = clone(old)
    once = strategic(old, patch, NODES)
    assert old == before, "the object was changed"
    assert strategic(once, patch, NODES) == once
    conditions = {each["type"]: each["status"] for each in once.get("status", {}).get("conditions", [])}
    wanted = {each["type"]: each["status"] for each in patch.get("status", {}).get("conditions", [])}
    assert wanted.items() <= conditions.items()
    assert conditions.keys() == wanted.keys() | {each["type"] for each in old.get("status", {}).get("conditions", [])}


def test_other_media_types_are_told_which_are_taken() -> None:
    with refused(415, "UnsupportedMediaType") as error:
        patches.patcher(SCHEMAS, PODS, {}, "application/json")
    assert error.value.message == (
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json,"
        " application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
    )


def test_copies_of_copies_end() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(60)]
    with refused(413, "RequestEntityTooLarge"):
        patches.json_patch({"a": {"b": "c" * 100_000}}, doubling)
