"""Cells, as `kubectl get` shows them: the words of kubernetes/pkg/printers/internalversion/printers.go."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.lab.kube import tables
from leptonami.lab.kube.cells import CELLS
from leptonami.lab.kube.resources import Column, Kind, Registry, builtin

REGISTRY = Registry(builtin())
NOW = 1_800_000_000.0  # ages are of this moment: on a clock that runs, every so often a second is over meanwhile
RUNNING = {"running": {}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables be made at one moment."""
    monkeypatch.setattr(tables, "time", SimpleNamespace(time=lambda: NOW))


def stamp(later: float) -> str:
    return datetime.fromtimestamp(NOW + later, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cells(obj: dict[str, Any], plural: str = "pods", group: str = "") -> dict[str, Any]:
    kind = REGISTRY.find(group, "v1", plural)
    obj = {**obj, "metadata": {"name": "x", "creationTimestamp": stamp(-65), **obj.get("metadata", {})}}
    made = tables.table(kind, [obj], "v1", include="None")
    return dict(zip([each.name for each in kind.columns], made["rows"][0]["cells"], strict=True))


def container(name: str = "c", *, state: Any = None, ready: bool = False, **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": 0, "state": state or {}, **more}


def pod(*statuses: Any, init: Any = (), phase: str = "Running", **more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": each["name"]} for each in statuses] or [{"name": "c"}]}
    spec["initContainers"] = [{"name": each["name"], **each.pop("spec", {})} for each in init]
    status = {"phase": phase, "containerStatuses": list(statuses), "initContainerStatuses": list(init)}
    return {"spec": spec, "status": {**status, **more.pop("status", {})}, **more}


WAITING = {"waiting": {"reason": "PodInitializing"}}
SIDECAR = {"spec": {"restartPolicy": "Always"}, "started": True}


@pytest.mark.parametrize(
    ("given", "status", "ready"),
    [
        (pod(container(state=RUNNING, ready=True)), "Running", "1/1"),
        (pod(phase="Pending"), "Pending", "0/1"),
        (pod(container(state={"waiting": {"reason": "ImagePullBackOff"}}), phase="Pending"), "ImagePullBackOff", "0/1"),
        (pod(container(state=DONE), phase="Succeeded"), "Completed", "0/1"),
        (pod(container(state={"terminated": {"exitCode": 3}}), phase="Failed"), "ExitCode:3", "0/1"),
        (pod(container(state={"terminated": {"exitCode": 137, "signal": 9}}), phase="Failed"), "Signal:9", "0/1"),
        (pod(container("a", state=RUNNING, ready=True), container("b", state=DONE)), "NotReady", "1/2"),
        (
            pod(
                container("a", state=RUNNING, ready=True),
                container("b", state=DONE),
                status={"conditions": [{"type": "Ready", "status": "True"}]},
            ),
            "Running",
            "1/2",
        ),
        (pod(container(state=WAITING), init=[container("i", state=RUNNING), container("j")]), "Init:0/2", "0/1"),
        (pod(container(state=WAITING), init=[container("i", state=DONE), container("j")]), "Init:1/2", "0/1"),
        (
            pod(container(state=WAITING), init=[container("i", state={"waiting": {"reason": "CrashLoopBackOff"}})]),
            "Init:CrashLoopBackOff",
            "0/1",
        ),
        (
            pod(
                container(state=WAITING),
                init=[container("i", state={"terminated": {"exitCode": 1, "reason": "Error"}})],
            ),
            "Init:Error",
            "0/1",
        ),
        (
            pod(container(state=WAITING), init=[container("i", state={"terminated": {"exitCode": 2}})]),
            "Init:ExitCode:2",
            "0/1",
        ),
        (pod(container(state=WAITING), init=[container("i", state=DONE)], phase="Pending"), "PodInitializing", "0/1"),
        (
            pod(container(state=RUNNING, ready=True), init=[container("s", state=RUNNING, ready=True, **SIDECAR)]),
            "Running",
            "2/2",
        ),
        (
            pod(container(state=RUNNING, ready=True), metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            "Terminating",
            "1/1",
        ),
        (
            pod(container(state=DONE), phase="Succeeded", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            "Completed",
            "0/1",
        ),
        (
            pod(container(), status={"reason": "NodeLost"}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            "Unknown",
            "0/1",
        ),
        (pod(phase="Failed", status={"reason": "Evicted"}), "Evicted", "0/1"),
        (
            pod(phase="Pending", status={"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "SchedulingGated",
            "0/1",
        ),
    ],
)
def test_a_pods_status_is_kubectls_word(given: dict[str, Any], status: str, ready: str) -> None:
    found = cells(given)
    assert (found["Status"], found["Ready"]) == (status, ready)


def test_restarts_tell_when_the_last_one_was() -> None:
    ended = {"terminated": {"finishedAt": stamp(-301)}}
    found = cells(pod(container(state=RUNNING, ready=True, restartCount=3, lastState=ended) | {"restartCount": 3}))
    assert found["Restarts"].startswith("3 (5m") and found["Restarts"].endswith("s ago)")
    assert cells(pod(container(state=RUNNING)))["Restarts"] == "0"


def test_a_nodes_roles_addresses_and_status() -> None:
    found = cells(
        {
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "gpu"}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "::1"}],
            },
        },
        "nodes",
    )
    assert (found["Status"], found["Roles"]) == ("NotReady,SchedulingDisabled", "gpu,worker")
    assert (found["Internal-IP"], found["External-IP"], found["OS-Image"]) == ("10.0.0.1", "<none>", "<unknown>")
    assert cells({}, "nodes")["Status"] == "Unknown"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "ClusterIP", "clusterIP": "None"}, ("None", "<none>", "<none>")),
        ({"type": "LoadBalancer", "clusterIP": "1.1.1.1"}, ("1.1.1.1", "<pending>", "<none>")),
        ({"type": "ExternalName", "externalName": "a.b"}, ("<none>", "a.b", "<none>")),
        (
            {"type": "NodePort", "clusterIP": "1.1.1.1", "ports": [{"port": 80, "nodePort": 30000, "protocol": "UDP"}]},
            ("1.1.1.1", "<none>", "80:30000/UDP"),
        ),
    ],
)
def test_what_a_service_exposes(spec: dict[str, Any], expected: tuple[str, str, str]) -> None:
    found = cells({"spec": spec}, "services")
    assert (found["Cluster-IP"], found["External-IP"], found["Port(s)"]) == expected


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"completions": 3}, {"succeeded": 1}, ("Running", "1/3")),
        ({"parallelism": 4}, {}, ("Running", "0/1 of 4")),
        ({}, {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}, ("Complete", "1/1")),
        ({}, {"conditions": [{"type": "Failed", "status": "True"}]}, ("Failed", "0/1")),
        ({}, {"conditions": [{"type": "Suspended", "status": "True"}]}, ("Suspended", "0/1")),
    ],
)
def test_a_jobs_status(spec: dict[str, Any], status: dict[str, Any], expected: tuple[str, str]) -> None:
    found = cells({"spec": spec, "status": status}, "jobs", "batch")
    assert (found["Status"], found["Completions"]) == expected


def test_a_job_lasted_from_its_start_to_its_end() -> None:
    times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:03:05Z"}
    assert cells({"spec": {}, "status": times}, "jobs", "batch")["Duration"] == "3m5s"


def test_numbers_that_are_not_there_are_zero_and_ages_are_ages() -> None:
    found = cells({"spec": {}}, "daemonsets", "apps")
    assert (found["Desired"], found["Node Selector"], found["Age"]) == (0, "<none>", "65s")
    created = cells({}, "customresourcedefinitions", "apiextensions.k8s.io")["Created At"]
    assert created.endswith("Z")


def test_both_faces_of_an_event_look_alike() -> None:
    core = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "source": {"component": "kubelet", "host": "n"},
        "count": 4,
        "firstTimestamp": stamp(-30),
        "lastTimestamp": stamp(-20),
        "reason": "BackOff",
        "message": " text\n",
    }
    names = {
        "involvedObject": "regarding",
        "source": "deprecatedSource",
        "count": "deprecatedCount",
        "firstTimestamp": "deprecatedFirstTimestamp",
        "lastTimestamp": "deprecatedLastTimestamp",
        "message": "note",
    }
    new = {names.get(key, key): value for key, value in core.items()}
    first, second = cells(core, "events"), cells(new, "events", "events.k8s.io")
    assert first == second
    assert (first["First Seen"], first["Last Seen"]) == ("30s", "20s")
    assert (first["Object"], first["Source"], first["Message"], first["Count"]) == ("pod/p", "kubelet, n", "text", 4)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (48 * 3600 - 1, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (2 * 365 * 86400, "2y"),
        (2 * 365 * 86400 + 86400, "2y1d"),
        (8 * 365 * 86400, "8y"),
    ],
)
def test_durations_are_written_as_kubernetes_writes_them(seconds: float, text: str) -> None:
    assert tables.human_duration(seconds) == text


CUSTOM = Kind("g", "v1", "things", "Thing", "thing", True, custom=True, storage="things.g")


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        (".spec.a", "string", "text"),
        (".spec.n", "integer", 3),
        (".spec.a", "integer", None),
        (".spec.none", "string", None),
        (".spec['dotted.key']", "string", "d"),
        (r".metadata.annotations.example\.com/x", "string", "noted"),
        ('.status.conditions[?(@.type=="Ready")].status', "string", "True"),
        (".status.conditions[0].type", "string", "Other"),
        (".status.conditions[-1].type", "string", "Ready"),
        (".status.conditions[*].type", "string", "Other"),
        (".spec.list", "string", "[1 2]"),
        (".spec.yes", "boolean", True),
        (".spec.yes", "string", "true"),
        (".metadata.creationTimestamp", "date", "65s"),
    ],
)
def test_columns_of_custom_kinds(path: str, kind: str, expected: Any) -> None:
    obj = {
        "metadata": {"name": "x", "creationTimestamp": stamp(-65), "annotations": {"example.com/x": "noted"}},
        "spec": {"a": "text", "n": 3, "dotted.key": "d", "list": [1, 2], "yes": True},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert tables.cell(CUSTOM, Column("C", kind, path=path), obj, {}, NOW) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, st.text(max_size=30))
def test_a_path_of_any_text_finds_something_or_nothing(obj: Any, path: str) -> None:
    tables.at_path(obj, path)


@pytest.mark.parametrize("kind", REGISTRY.kinds(), ids=lambda each: each.resource)
def test_every_kind_has_a_row_even_for_an_empty_object(kind: Kind) -> None:
    made = tables.table(kind, [{"metadata": {"name": "x"}}], "v1", include="Object")
    row = made["rows"][0]
    assert len(row["cells"]) == len(made["columnDefinitions"]) == len(kind.columns)
    assert all(isinstance(each, str | int | bool) for each in row["cells"]), row["cells"]


def test_every_computed_column_is_computed() -> None:
    for kind in REGISTRY.kinds():
        missing = {each.name for each in kind.columns if not each.path}
        compute = CELLS.get(kind.storage)
        assert not missing or compute, kind.resource
        if compute:
            assert missing <= compute({"metadata": {"name": "x"}, "kind": kind.kind}, 0.0).keys(), kind.resource
