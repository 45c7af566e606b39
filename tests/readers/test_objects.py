"""Kubernetes objects out of text. Every case is synthetic, from the Kubernetes API, unless it says "recorded"."""

from __future__ import annotations

import contextlib
import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.errors import InputError, LeptonamiError
from leptonami.readers.manifests import looks_like_objects, read_manifests
from leptonami.readers.objects import Event, Node, Objects, Pod, PodDisruptionBudget, Selector, read_objects
from leptonami.readers.quantity import age_seconds, parse_quantity, parse_time

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "labels": {"x": "1"}}}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("200m", Decimal("0.2")),
        ("16Gi", Decimal(16 * 1024**3)),
        ("1", Decimal(1)),
        ("1e3", Decimal(1000)),
        ("1E3", Decimal(1000)),
        ("1E", Decimal(10) ** 18),
        ("1Ei", Decimal(1024) ** 6),
        ("1k", Decimal(1000)),
        ("1Ki", Decimal(1024)),
        (".5", Decimal("0.5")),
        ("5.", Decimal(5)),
        ("-3", Decimal(-3)),
        ("100n", Decimal("1e-7")),
        ("3u", Decimal("3e-6")),
        (4, Decimal(4)),
        (0.5, Decimal("0.5")),
        ("7e-2", Decimal("0.07")),
    ],
)
def test_quantity(written: object, value: Decimal) -> None:
    assert parse_quantity(written) == value


@pytest.mark.parametrize(
    "written", ["", "lots", "1 Gi", "1GiB", "1e999", "0x10", "١", None, True, [], "9" * 50, 10**50, float("nan"), "1ki"]
)
def test_no_quantity(written: object) -> None:
    assert parse_quantity(written) is None


def test_quantities_add_up_exactly() -> None:
    """Ten times 200m are two cores, not a hair less: the autoscaler's threshold is compared with such sums."""
    assert sum([parse_quantity("200m") or Decimal(0)] * 10) == 2


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5m30s", 330), ("3m", 180), ("2d3h", 183600), ("1y20d", 385 * 86400), ("0s", 0), ("", None), ("Completed", None)],
)
def test_age(written: str, seconds: int | None) -> None:
    assert age_seconds(written) == seconds


def test_time() -> None:
    assert parse_time("2026-11-23T16:34:59.123456789Z") == parse_time("2026-11-23T17:34:59.123456+01:00")
    assert parse_time("0001-01-01T00:00:00+14:00") is None
    assert parse_time(17) is None


def test_json_in_every_shape() -> None:
    """A List, an API server's NodeList whose items have no kind, several documents, one object, prompts between."""
    one = json.dumps(NODE)
    bare = json.dumps({"metadata": {"name": "b"}})
    text = (
        "$ kubectl get nodes -o json\n"
        + json.dumps({"kind": "List", "items": [NODE]}, indent=4)
        + "\n$ kubectl get --raw /api/v1/nodes\n"
        + f'{{"kind": "NodeList", "items": [{bare}]}}'
        + one.replace('"a"', '"c"')
        + "\n"
        + one.replace('"a"', '"d"')
        + "\nuser@host:~$ \n"
    )
    assert [each.name for each in read_objects(text, "x").nodes] == ["a", "b", "c", "d"]


def test_yaml_in_every_shape() -> None:
    text = """root@host:~# kubectl get nodes -o yaml
apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: a
    creationTimestamp: 2023-06-24T10:01:18Z
    labels: {yes: no, n: 1, t: true}
  status:
    allocatable: {cpu: 4, memory: 1e3, "nvidia.com/gpu": "1"}
kind: List
---
kind: Node
metadata: {name: b}
---
$ kubectl get node c -o yaml
kind: Node
metadata:
  name: c
"""
    found = read_objects(text.encode(), "x")
    assert [each.name for each in found.nodes] == ["a", "b", "c"]
    first = found.nodes[0]
    assert first.labels == {"yes": "no", "n": "1", "t": "true"}
    assert first.allocatable == {"cpu": 4, "memory": 1000, "nvidia.com/gpu": 1}
    assert first.created == parse_time("2023-06-24T10:01:18Z")


def test_markdown_fence_and_utf16() -> None:
    fenced = "```yaml\nkind: Node\nmetadata:\n  name: a\n```\n"
    assert read_objects(fenced, "x").nodes[0].name == "a"
    assert read_objects(("\ufeff" + json.dumps(NODE)).encode("utf-16-le"), "x").nodes[0].name == "a"


def test_prompt_like_line_inside_text_stays() -> None:
    text = "kind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: |\n    $ kubectl get pods\n    ```\n  b: x\n"
    (found,) = read_objects(text, "x").configmaps
    assert found.data == {"a": "$ kubectl get pods\n```\n", "b": "x"}


@pytest.mark.parametrize("cut", [200, 330, 470])
def test_cut_off_json_keeps_what_is_whole(cut: int) -> None:
    text = json.dumps({"kind": "List", "items": [NODE | {"metadata": {"name": f"n{i}"}} for i in range(9)]})
    found = read_objects(text[:cut], "x")
    assert 0 < len(found.nodes) < 9
    assert f"{len(found.nodes)} object(s) before it were read" in found.problems[0]


def test_cut_off_yaml_keeps_what_is_whole() -> None:
    text = (
        "kind: List\nitems:\n"
        + "".join(f"- kind: Node\n  metadata:\n    name: n{i}\n" for i in range(4))
        + '- kind: "No'
    )
    found = read_objects(text, "x")
    assert [each.name for each in found.nodes] == ["n0", "n1", "n2", "n3"]
    assert "line 15" in found.problems[0]


def test_control_characters_do_not_hide_a_cluster() -> None:
    assert read_objects("kind: Node\nmetadata: {name: a\x1bb}\n", "x").nodes[0].name == "a\ufffdb"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [*x]\n", "alias stands inside"),
        ("[" * 100_000, "nested|not JSON"),
        ('{"a":' * 100_000, "nested|not JSON"),
        ("- " * 200 + "a", "nested deeper"),
        ("no objects here", "no Kubernetes object"),
        ("", "no Kubernetes object"),
        ('{"kind": ', "not JSON"),
        ("{" + '"a": ' + "1" * 10_000 + "}", "not JSON|no Kubernetes|number"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_objects(text, "some/file.yaml")
    assert str(caught.value).startswith("some/file.yaml")


def test_alias_bomb_ends_at_once() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    began = time.process_time()
    with pytest.raises(InputError, match="aliases expand"):
        read_objects("kind: Node\n" + bomb, "x")
    chain = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(500))
    with pytest.raises(InputError, match="nested deeper"):
        read_objects("kind: Node\n" + chain, "x")
    assert time.process_time() - began < 1


def test_aliases_are_read() -> None:
    """PyYAML writes an object that stands twice in a structure as an alias; kubectl never does."""
    import yaml

    shared = {"team": "a"}
    nodes = [{"kind": "Node", "metadata": {"name": name, "labels": shared}} for name in "ab"]
    text = yaml.safe_dump({"kind": "List", "items": nodes})
    assert "*id001" in text
    assert [each.labels for each in read_objects(text, "x").nodes] == [shared, shared]


def test_later_state_of_the_same_object_holds() -> None:
    early = read_objects(json.dumps({**NODE, "spec": {"unschedulable": False}}), "early")
    late = read_objects(json.dumps({**NODE, "spec": {"unschedulable": True}}), "late")
    (node,) = early.joined(late).nodes
    assert (node.unschedulable, node.source) == (True, "late")


def pod(**parts: object) -> Pod:
    return Pod.of({"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, **parts}, "x")


def test_pod_requests_are_the_schedulers() -> None:
    """Containers and sidecars add up; one large init container lifts it; limits stand in for requests."""

    def needs(name: str, **requests: str) -> dict[str, object]:
        return {"name": name, "resources": {"requests": requests}}

    found = pod(
        spec={
            "containers": [
                needs("a", cpu="200m"),
                needs("b", cpu="300m", memory="1Gi"),
                {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}},
            ],
            "initContainers": [
                {**needs("side", cpu="100m"), "restartPolicy": "Always"},
                needs("big", cpu="2", memory="10Mi"),
            ],
            "overhead": {"cpu": "50m"},
        }
    )
    assert found.requests == {
        "cpu": Decimal("2.15"),  # the sidecar and the large init container, and the overhead
        "memory": 1024**3,
        "nvidia.com/gpu": 1,
    }


def container(name: str, **state: object) -> dict[str, object]:
    return {"name": name, "ready": False, "state": state}


@pytest.mark.parametrize(
    ("status", "spec", "word"),
    [
        ({"phase": "Pending"}, {}, "Pending"),
        ({"phase": "Running", "containerStatuses": [container("a", running={})]}, {}, "Running"),
        (
            {"phase": "Pending", "containerStatuses": [container("a", waiting={"reason": "ImagePullBackOff"})]},
            {},
            "ImagePullBackOff",
        ),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": [container("a", terminated={"reason": "Completed", "exitCode": 0})],
            },
            {},
            "Completed",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    container("i", terminated={"exitCode": 0}),
                    container("j", waiting={"reason": "CrashLoopBackOff"}),
                ],
                "containerStatuses": [container("a", waiting={"reason": "PodInitializing"})],
            },
            {},
            "Init:CrashLoopBackOff",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    container("i", running={}),
                    container("j", waiting={"reason": "PodInitializing"}),
                ],
            },
            {},
            "Init:0/2",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [container("i", terminated={"exitCode": 1, "reason": "Error"})],
            },
            {},
            "Init:Error",
        ),
        (
            {"phase": "Failed", "containerStatuses": [container("a", terminated={"exitCode": 0, "signal": 9})]},
            {},
            "Signal:9",
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    container("a", terminated={"reason": "Completed", "exitCode": 0}),
                    {**container("istio", running={}), "ready": True},
                ],
            },
            {},
            "NotReady",
        ),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, {}, "UnexpectedAdmissionError"),
        ({}, {}, "Unknown"),
    ],
)
def test_pod_status_is_kubectls_word(status: dict[str, object], spec: dict[str, object], word: str) -> None:
    assert pod(status=status, spec=spec).status == word


def test_pod_being_deleted() -> None:
    found = Pod.of(
        {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}, "x"
    )
    assert found.status == "Terminating"


def test_controller_and_proof() -> None:
    found = Pod.of(
        {
            "metadata": {
                "name": "p",
                "namespace": "n",
                "ownerReferences": [
                    {"kind": "Lease", "name": "l"},
                    {"kind": "ClusterPolicy", "name": "cluster-policy", "controller": True},
                ],
            }
        },
        "pods.json",
    )
    assert found.controller is not None
    assert (found.controller.kind, found.controller.name) == ("ClusterPolicy", "cluster-policy")
    assert str(found.proof("phase Pending")) == "pods.json, pod n/p: phase Pending"


def test_selectors() -> None:
    budget = PodDisruptionBudget.of(
        {
            "metadata": {"namespace": "n"},
            "spec": {
                "selector": {
                    "matchLabels": {"app": "a"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "NotIn", "values": ["x"]},
                        {"key": "app", "operator": "Exists"},
                    ],
                }
            },
            "status": {"disruptionsAllowed": 0},
        },
        "x",
    )
    assert budget.selector.matches({"app": "a"})
    assert not budget.selector.matches({"app": "a", "tier": "x"})
    assert not budget.selector.matches({"tier": "y"})
    assert budget.disruptions_allowed == 0
    assert Selector.of({}).matches({"anything": "at all"})  # policy/v1: an empty selector selects every pod
    assert not Selector.of(None).matches({})


def test_events_of_both_apis() -> None:
    old = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "m",
        "count": 3,
        "lastTimestamp": "2026-01-01T00:00:05Z",
        "firstTimestamp": "2026-01-01T00:00:00Z",
    }
    new = {
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "m",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:05Z"},
    }
    read = [Event.of(each, "x") for each in (old, new)]
    assert {(each.about_name, each.message, each.count, each.first, each.last) for each in read} == {
        ("p", "m", 3, parse_time("2026-01-01T00:00:00Z"), parse_time("2026-01-01T00:00:05Z"))
    }


def test_recorded_cluster_state() -> None:
    """Recorded (real cluster-autoscaler 1.30.7, emulated nodes): `broken-toolkit` as it stood at the end."""
    folder = Path(__file__).parents[2] / "data" / "recorded" / "autoscaler" / "broken-toolkit"
    if not folder.is_dir():
        pytest.skip("the recordings are not in data/recorded")
    found = Objects().joined(
        *(
            read_objects((folder / f"{name}.json").read_bytes(), name)
            for name in ("nodes", "pods", "daemonsets", "events")
        )
    )
    assert not found.problems
    assert [each.name for each in found.nodes if each.labels.get("k8s.amazonaws.com/accelerator")] == [
        "gpu-workers-bsrl9",
        "gpu-workers-gznqd",
    ]
    owned = [each for each in found.pods if each.controller and each.controller.kind == "ClusterPolicy"]
    assert [each.status for each in owned] == ["Pending", "Pending"]
    assert found.nodes[0].allocatable["memory"] == 16 * 1024**3
    assert {each.desired for each in found.daemonsets} == {0}
    assert all(each.last for each in found.events)


FIELDS = """
kind metadata name labels spec status items containers initContainers containerStatuses state waiting
terminated running conditions taints capacity allocatable ownerReferences resources requests limits volumes
nodeInfo images names selector matchExpressions involvedObject series env template
"""
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(
    ANYTHING,
    st.sampled_from(["Node", "Pod", "DaemonSet", "Deployment", "Job", "PodDisruptionBudget", "Event", "ConfigMap"]),
)
def test_any_type_anywhere(value: object, kind: str) -> None:
    obj = {"kind": kind, "metadata": value, "spec": value, "status": value, "involvedObject": value, "data": value}
    found = Objects.of([("x", obj)])
    for each in (*found.pods, *found.nodes, *found.events):
        assert isinstance(each.proof("s").text, str)
    for each in found.pods:
        assert isinstance(each.status, str)
        assert each.ready[0] <= each.ready[1]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200))
def test_any_bytes(data: bytes | str) -> None:
    looks_like_objects(data if isinstance(data, str) else data.decode("latin-1"))
    with contextlib.suppress(LeptonamiError):
        assert read_manifests(data, "x").items


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.sampled_from(["json", "yaml"]))
def test_any_cut(at: int, form: str) -> None:
    import yaml

    obj = {"kind": "List", "items": [{"kind": "Node", "metadata": {"name": f"n{i}"}} for i in range(5)]}
    text = (json.dumps(obj, indent=1) if form == "json" else yaml.safe_dump(obj))[:at]
    try:
        names = [each.name for each in read_objects(text, "x").nodes]
    except InputError:
        return
    assert names[:-1] == [f"n{i}" for i in range(5)][: max(0, len(names) - 1)]  # the last one may have been cut


def test_linear_in_its_size() -> None:
    """Eight times as much text takes about eight times as long, not sixty-four: nothing backtracks or starts again."""

    def took(text: str) -> float:
        began = time.process_time()
        with contextlib.suppress(InputError):
            read_objects(text, "x")
        return time.process_time() - began

    for unit in ('"items": [', "x$ " * 50 + "kubectl\n", "- a: 1\n", "{\n", "\n", "# # # kubectl get\n", '{"a": [1]} '):
        small, large = took(unit * 1_500), took(unit * 12_000)
        assert large < max(1.0, 30 * small), unit


def test_node_view_of_a_null_status() -> None:
    assert Node.of({"metadata": {"labels": None}, "status": None}, "x").ready is None
