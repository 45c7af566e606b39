"""Tables of `kubectl get`. Every case is synthetic, written in kubectl's layout, unless it says "recorded"."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.kubectl import looks_like_table, read_tables

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "original" / "gpu-operator-get-all.txt"


def one(line: str, header: str = "") -> object:
    tables = read_tables(f"{header}\n{line}\n", "x")
    assert len(tables.rows) == 1, tables.others
    return tables.rows[0]


def test_recorded_listing() -> None:
    """The original listing (recorded 2023-06-24): 21 pods, the namespace from the prompt, nothing left over."""
    tables = read_tables(RECORDED.read_bytes(), "listing")
    assert len(tables.rows) == 21
    assert {each.kind for each in tables.rows} == {"Pod"}
    assert {each.namespace for each in tables.rows} == {"gpu-operator"}
    assert tables.other_lines == 0
    assert tables.commands == ("-n gpu-operator get all",)
    row = next(each for each in tables.rows if each.name == "nvidia-cuda-validator-9zr76")
    assert (row.status, row.ready, row.restarts, row.age) == ("Completed", (0, 1), 0, 224)
    assert row.proof.place == "line 15"


@pytest.mark.parametrize(
    "line",
    [
        "pod/p-1   0/1   Init:CrashLoopBackOff   3 (5m ago)   12m",
        "p-1   0/1   Init:CrashLoopBackOff   3 (5m ago)   12m",
        "p-1 0/1 Init:CrashLoopBackOff 3 (5m ago) 12m",
        "ns   p-1   0/1   Init:CrashLoopBackOff   3 (5m ago)   12m",
        "ns   pod/p-1   0/1   Init:CrashLoopBackOff   3 (5m ago)   12m   192.0.2.1   node-a   <none>   <none>",
        "> pod/p-1   0/1   Init:CrashLoopBackOff   3 (5m ago)   12m",
        "| p-1 | 0/1 | Init:CrashLoopBackOff | 3 (5m ago) | 12m |".replace(" | ", "   "),
        "pod/p-1   0/1   Init:CrashLoopBackOff   3\n (5m ago)   12m",
        "pod/p-1   0/1\n   Init:CrashLoopBackOff   3 (5m\nago)   12m",
    ],
)
def test_pod_rows(line: str) -> None:
    row = one(line)
    assert (row.kind, row.name, row.status, row.ready) == ("Pod", "p-1", "Init:CrashLoopBackOff", (0, 1))
    assert (row.restarts, row.restarted, row.age) == (3, 300, 720)
    assert row.namespace == ("ns" if "ns " in line else None)
    assert row.node == ("node-a" if "node-a" in line else None)


def test_pod_row_that_lost_its_last_columns() -> None:
    row = one("p-1   1/1   Running")
    assert (row.status, row.restarts, row.age) == ("Running", None, None)


def test_pod_on_no_node() -> None:
    row = one("p-1   0/1   Pending   0   5s   <none>   <none>   <none>   <none>")
    assert row.node is None


def test_get_all_has_many_tables() -> None:
    text = """$ kubectl get all -n gpu-operator
NAME                     READY   STATUS    RESTARTS   AGE
pod/gpu-operator-1-a     1/1     Running   0          5m

NAME                   TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)    AGE
service/gpu-operator   ClusterIP   192.0.2.2     <none>        8080/TCP   5m

NAME                                DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR   AGE
daemonset.apps/nvidia-mig-manager   0   0   0   0   0   nvidia.com/gpu.deploy.mig-manager=true   5m
daemonset.apps/nfd                  2   2   1   2   1   <none>   5m

NAME                           READY   UP-TO-DATE   AVAILABLE   AGE
deployment.apps/gpu-operator   1/1     1            1           5m

NAME                                 DESIRED   CURRENT   READY   AGE
replicaset.apps/gpu-operator-1       1         1         1       5m

NAME                    READY   AGE
statefulset.apps/web    2/3     4d

NAME              COMPLETIONS   DURATION   AGE
job.batch/migr    1/1           8s         5m
"""
    tables = read_tables(text, "x")
    assert tables.other_lines == 0
    assert [each.kind for each in tables.rows] == [
        "Pod", "Service", "DaemonSet", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet", "Job",
    ]  # fmt: skip
    mig, nfd = tables.of_kind("DaemonSet")
    assert mig.counts == {"desired": 0, "current": 0, "ready": 0, "updated": 0, "available": 0}
    assert mig.selector == {"nvidia.com/gpu.deploy.mig-manager": "true"}
    assert (nfd.counts["ready"], nfd.selector) == (1, {})
    assert tables.of_kind("Deployment")[0].counts == {"updated": 1, "available": 1}
    assert tables.of_kind("StatefulSet")[0].ready == (2, 3)
    assert {each.age for each in tables.rows} == {300, 4 * 86400}


def test_daemonsets_without_header_or_prefix() -> None:
    row = one("gpu-operator  nvidia-driver-daemonset  2  2  0  2  0  nvidia.com/gpu.deploy.driver=true  3d")
    assert (row.kind, row.namespace, row.counts["desired"], row.age) == ("DaemonSet", "gpu-operator", 2, 3 * 86400)


def test_nodes() -> None:
    header = "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    row = one(
        "ip-a.ec2.internal   Ready,SchedulingDisabled   <none>   5d   v1.26.4-eks-0a21954   192.0.2.1   <none>   "
        "Ubuntu 20.04.6 LTS   5.15.0-1036-aws   containerd://1.6.12",
        header,
    )
    assert (row.kind, row.status) == ("Node", "Ready,SchedulingDisabled")
    assert row.cells["os-image"] == "Ubuntu 20.04.6 LTS"
    assert row.cells["version"] == "v1.26.4-eks-0a21954"


@pytest.mark.parametrize(
    "line",
    [
        '4m   Warning   Failed   pod/nvidia-driver-daemonset-x   Failed to pull image "a:b": not found',
        'ns   4m   Warning   Failed   pod/nvidia-driver-daemonset-x   Failed to pull image "a:b": not found',
        '4m (x7 over 9m)   Warning   Failed   pod/nvidia-driver-daemonset-x   Failed to pull image "a:b": not found',
    ],
)
def test_events(line: str) -> None:
    row = one(line, "LAST SEEN   TYPE   REASON   OBJECT   MESSAGE")
    assert (row.kind, row.status, row.cells["object"]) == ("Event", "Failed", "Pod/nvidia-driver-daemonset-x")
    assert row.cells["message"] == 'Failed to pull image "a:b": not found'
    assert row.cells["count"] == ("7" if "x7" in line else "1")


def test_clusterpolicy_and_custom_columns() -> None:
    assert one("cluster-policy   notReady   2023-06-24T10:00:00Z", "NAME   STATUS   AGE").status == "notReady"
    row = one("p-1   node-a   Running", "NAME   NODE   STATUS")
    assert (row.name, row.node, row.status) == ("p-1", "node-a", "Running")


def test_what_is_no_row_is_kept() -> None:
    tables = read_tables("NAME READY STATUS RESTARTS AGE\nhello there\np 1/1 Running 0 5m\n", "x")
    assert [each.text for each in tables.others] == ["hello there"]
    assert len(tables.rows) == 1


def test_markdown_fence() -> None:
    text = "Here it is:\n```\nNAME   READY   STATUS   RESTARTS   AGE\np-1   1/1   Running   0   5m\n```\n"
    assert [each.name for each in read_tables(text, "x").rows] == ["p-1"]


def test_looks_like_table() -> None:
    assert looks_like_table(RECORDED.read_text())
    assert not looks_like_table("I0624 10:01:18.772290       1 main.go:154] Starting FS watcher.\n")


PIECES = """
    NAME READY STATUS RESTARTS AGE NODE NAMESPACE pod/a ns 1/1 0/1 Running Completed 3 (5m ago) 5m <none> 192.0.2.1
    Warning Failed LAST SEEN REASON OBJECT Ready v1.26.1 ready a=b,c=d $ kubectl -n x get pods ``` > |
"""
WORDS = st.sampled_from(PIECES.split())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=9).map("  ".join), max_size=6).map("\n".join) | st.binary(max_size=300))
def test_any_text(data: str | bytes) -> None:
    tables = read_tables(data, "x")
    for each in tables.rows:
        assert each.name
        assert each.proof.source == "x"
    if isinstance(data, str):
        looks_like_table(data)


@pytest.mark.parametrize(
    "unit", ["a " * 200 + "\n", "NAME READY STATUS\n", "a/b " * 99 + "\n", "x 1/1\n", "=a " * 500 + "\n"]
)
def test_linear(unit: str) -> None:
    def took(count: int) -> float:
        began = time.process_time()
        read_tables(unit * count, "x")
        return time.process_time() - began

    took(10)
    assert took(4000) < max(1.5, 30 * took(500))  # eight times as much, and not sixty-four times as long
