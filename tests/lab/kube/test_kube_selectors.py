"""Selectors, held to the documentation of labels and field selectors of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import refused

from leptonami.lab.kube.resources import Registry, builtin
from leptonami.lab.kube.selectors import label_matcher, selector

KINDS = Registry(builtin())
PODS = KINDS.find("", "v1", "pods")


def matches(labels: str, have: dict[str, str]) -> bool:
    return selector(PODS, labels).matches({"metadata": {"labels": have}})


@pytest.mark.parametrize(
    ("text", "fits", "fits_not"),
    [
        ("a=1", {"a": "1"}, {"a": "2"}),
        ("a==1,b=2", {"a": "1", "b": "2"}, {"a": "1"}),
        ("a!=1", {}, {"a": "1"}),
        ("a", {"a": ""}, {}),
        ("!a", {}, {"a": "1"}),
        ("a in (1, 2)", {"a": "2"}, {}),
        ("a notin (1,2)", {}, {"a": "1"}),
        ("a in ()", {"a": ""}, {"a": "1"}),
        ("a=", {"a": ""}, {"a": "1"}),
        ("a>3", {"a": "4"}, {"a": "3"}),
        ("a<3,x.io/b-c in (d)", {"a": "-4", "x.io/b-c": "d"}, {"a": "x", "x.io/b-c": "d"}),
        (" a = 1 , !b ", {"a": "1"}, {"a": "1", "b": ""}),
        ("in in (in),notin", {"in": "in", "notin": ""}, {"in": "in"}),
    ],
)
def test_label_selectors(text: str, fits: dict[str, str], fits_not: dict[str, str]) -> None:
    assert matches(text, fits)
    assert not matches(text, fits_not)


@pytest.mark.parametrize(
    "text", ["a=1,", "=1", "a in 1", "a in (1", "a b", "a=1 b=2", ",a", "-a", "a>x", "a=b*c", "a=(1)"]
)
def test_a_label_selector_that_cannot_be_read_is_refused(text: str) -> None:
    with refused(400, "BadRequest"):
        selector(PODS, text)


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]))


@settings(deadline=None, max_examples=100)
@given(have=labels, key=st.sampled_from("abc"), values=st.sets(st.sampled_from(["", "1", "2"]), min_size=1))
def test_the_set_based_form_says_the_same_as_the_expressions(have: dict[str, str], key: str, values: set[str]) -> None:
    listed = ",".join(values)
    assert matches(f"{key} in ({listed})", have) == (have.get(key) in values)
    assert matches(f"{key} notin ({listed})", have) != matches(f"{key} in ({listed})", have)
    expression = {"matchExpressions": [{"key": key, "operator": "In", "values": sorted(values)}]}
    assert label_matcher(expression)(have) == matches(f"{key} in ({listed})", have)


def test_an_empty_label_selector_takes_all_and_none_takes_nothing() -> None:
    assert label_matcher({})({"a": "1"})
    assert not label_matcher(None)({"a": "1"})


POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"nodeName": "a,b"},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("metadata.name=p,metadata.namespace==n", True),
        ("status.phase!=Running", False),
        ("status.phase!=Failed,status.phase!=Succeeded", True),
        (r"spec.nodeName=a\,b", True),
        ("spec.schedulerName=", True),
        ("spec.hostNetwork=false", True),
        ("", True),
    ],
)
def test_field_selectors(text: str, fits: bool) -> None:
    assert selector(PODS, fields=text).matches(POD) is fits


def test_nodes_are_schedulable_unless_they_say_otherwise() -> None:
    wanted = selector(KINDS.find("", "v1", "nodes"), fields="spec.unschedulable=false")
    assert wanted.matches({"metadata": {}, "spec": {}})
    assert not wanted.matches({"metadata": {}, "spec": {"unschedulable": True}})


def test_a_field_that_a_kind_is_not_selected_by_is_refused_in_the_words_of_the_real_server() -> None:
    with refused(400) as error:
        selector(PODS, fields="spec.foo=1")
    assert error.value.message == "field label not supported: spec.foo"
    with refused(400) as error:
        selector(KINDS.find("apps", "v1", "deployments"), fields="spec.replicas=1")
    assert error.value.message.startswith('"spec.replicas" is not a known field selector: only "metadata.name"')
    with refused(400) as error:
        selector(PODS, fields="nonsense")
    assert error.value.message == "invalid selector: 'nonsense'; can't understand 'nonsense'"
