"""Events of cluster-autoscaler. Cases that are not said to be recorded are synthetic, made from the project's facts."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import datafiles
from leptonami.readers.autoscaler.events import (
    AutoscalerEvent,
    Cause,
    Kind,
    Plan,
    Refusal,
    Step,
    autoscaler_events,
    latest,
    read_event_lines,
)
from leptonami.readers.objects import Objects, read_objects

NOW = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


def recorded(scenario: str) -> list[AutoscalerEvent]:
    data = datafiles.path(f"recorded/autoscaler/{scenario}/events.json").read_bytes()
    return autoscaler_events(read_objects(data, "events.json"))


def test_recorded_scale_up_and_removal():
    events = recorded("broken-nolabel")
    assert len(events) == 24
    assert [each.last for each in events] == sorted(each.last for each in events)
    ups = [plan for each in events if each.kind is Kind.SCALED_UP_GROUP for plan in each.plans]
    assert Counter(ups)[Plan("gpu-workers", 2, 4, 4)] == 2
    assert Counter(each.step for each in events if each.node) == {Step.MARKED: 4, Step.REMOVING: 4, Step.REMOVED: 4}
    assert {each.node for each in events if each.step is Step.REMOVED} == {
        f"gpu-workers-{each}" for each in ("2wxhw", "l4zcj", "wc8pw", "zzwn8")
    }
    refused = next(each for each in events if each.kind is Kind.NOT_TRIGGER_SCALE_UP)
    assert refused.refusals == (
        Refusal(1, "Insufficient nvidia.com/gpu", Cause.INSUFFICIENT),
        Refusal(1, "max node group size reached", Cause.MAX_SIZE),
    )
    up = latest(events, Kind.TRIGGERED_SCALE_UP, Kind.SCALED_UP_GROUP)
    assert up is not None
    assert up.last == datetime(2026, 11, 23, 16, 21, 25, tzinfo=UTC)


def test_recorded_unhealthy_cluster():
    unhealthy = [each for each in recorded("broken-fleet") if each.kind is Kind.CLUSTER_UNHEALTHY]
    assert [(each.count, each.last) for each in unhealthy] == [(91, datetime(2026, 11, 23, 17, 5, tzinfo=UTC))]


def event(reason: str, message: str, about=("Pod", "default", "web"), component="cluster-autoscaler") -> dict:
    kind, namespace, name = about
    return {
        "kind": "Event",
        "metadata": {"name": f"{name}.{reason}.{abs(hash(message))}", "namespace": namespace},
        "involvedObject": {"kind": kind, "namespace": namespace, "name": name},
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "lastTimestamp": "2026-11-23T16:54:00Z",
    }


def one(*args, **named) -> AutoscalerEvent:
    (found,) = autoscaler_events(Objects.of([("e", event(*args, **named))]))
    return found


MAP = ("ConfigMap", "kube-system", "cluster-autoscaler-status")
NODE = ("Node", "", "n1")


@pytest.mark.parametrize(
    ("reason", "message", "about", "node", "step"),
    [
        ("ScaleDown", "marked the node as toBeDeleted/unschedulable", NODE, "n1", Step.MARKED),
        ("ScaleDown", "node removed by cluster autoscaler", NODE, "n1", Step.REMOVED),
        ("ScaleDown", "Scale-down: node n2 removed with drain", MAP, "n2", Step.REMOVED),
        (
            "ScaleDown",
            "Scale-down: removing node n2, utilization: {0.1 0 0 cpu 0.1}, pods to reschedule: a,b",
            MAP,
            "n2",
            Step.REMOVING,
        ),
        ("ScaleDownEmpty", 'Scale-down: removing empty node "n2"', MAP, "n2", Step.REMOVING),
        ("ScaleDownEmpty", "Scale-down: removing empty node n2", MAP, "n2", Step.REMOVING),
        ("ScaleDownEmpty", "Scale-down: empty node n2 removed", MAP, "n2", Step.REMOVED),
        ("ScaleDownFailed", "failed to drain the node: timeout", NODE, "n1", Step.FAILED),
        ("ScaleDown", "deleting pod for node scale down", ("Pod", "default", "web"), "", Step.EVICTING),
        ("ClusterAutoscalerCleanup", "removed ToBeDeleted taints from node n1", NODE, "n1", Step.NONE),
    ],
)
def test_removal(reason, message, about, node, step):
    found = one(reason, message, about)
    assert (found.kind.value, found.node, found.step) == (reason, node, step)


def test_plans():
    found = one("TriggeredScaleUp", "pod triggered scale-up: [{a 0->2 (max: 6)} {b-1 1->2 (max: 3)}]")
    assert found.plans == (Plan("a", 0, 2, 6), Plan("b-1", 1, 2, 3))
    assert found.group == "a"
    assert one("ScaledUpGroup", "Scale-up: group a size set to 4", MAP).plans == (Plan("a", None, 4, None),)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FailedToScaleUpGroup", "Scale-up failed for group gpu-asg: could not launch"),
        ("ScaleUpTimedOut", "Nodes added to group gpu-asg failed to register within 15m1s"),
    ],
)
def test_failed_scale_up_names_its_group(reason, message):
    assert one(reason, message, MAP).group == "gpu-asg"


def test_reasons_with_commas_of_their_own():
    found = one(
        "NotTriggerScaleUp",
        "pod didn't trigger scale-up (it wouldn't fit if a new node is added): 3 node(s) had taint {nvidia.com/gpu: "
        "present}, that the pod didn't tolerate, 1 in backoff after failed scale-up, 2 max cluster cpu limit reached, "
        "1 not ready for scale-up",
    )
    assert [(each.groups, each.cause) for each in found.refusals] == [
        (3, Cause.NO_FIT),
        (1, Cause.BACKOFF),
        (2, Cause.CLUSTER_LIMIT),
        (1, Cause.NOT_READY),
    ]
    assert found.refusals[0].reason == "node(s) had taint {nvidia.com/gpu: present}, that the pod didn't tolerate"


def test_only_its_own():
    assert not autoscaler_events(Objects.of([("e", event("ScaleDown", "x", component="karpenter"))]))
    assert one("ScaleDown", "x", component="").kind is Kind.SCALE_DOWN
    assert not autoscaler_events(Objects.of([("e", event("Scheduled", "x", component=""))]))
    assert one("SomethingNew", "x").kind is Kind.OTHER


LINES = """LAST SEEN   TYPE      REASON             OBJECT          MESSAGE
5m12s       Normal    TriggeredScaleUp   pod/trainer-1   pod triggered scale-up: [{gpu 0->2 (max: 6)}]
4m (x3 over 10m)   Warning   ClusterUnhealthy   configmap/cluster-autoscaler-status   Cluster is unhealthy
3m   Normal   Scheduled   pod/other   Successfully assigned default/other to n1
default   2m   Normal   ScaleDown   node/n1      cluster-autoscaler   marked the node as toBeDeleted/unschedulable
<unknown>   Normal   ScaleDown   node/n2   node removed by cluster autoscaler
"""


def test_listing():
    up, unhealthy, marked, gone = read_event_lines(LINES, "e", NOW)
    assert (up.last, up.about_name, up.plans) == (
        NOW - timedelta(minutes=5, seconds=12),
        "trainer-1",
        (Plan("gpu", 0, 2, 6),),
    )
    assert (unhealthy.count, unhealthy.first, unhealthy.last) == (
        3,
        NOW - timedelta(minutes=10),
        NOW - timedelta(minutes=4),
    )
    assert (marked.node, marked.step, marked.message) == (
        "n1",
        Step.MARKED,
        "marked the node as toBeDeleted/unschedulable",
    )
    assert (gone.node, gone.step, gone.last) == ("n2", Step.REMOVED, None)
    assert up.proof.place == "line 2"
    assert all(each.last is None for each in read_event_lines(LINES, "e"))
    assert read_event_lines(LINES, "e", NOW.replace(tzinfo=None))[0].last == up.last


def test_description():
    found = read_event_lines(
        """Name:             trainer-1
Namespace:        ml
Events:
  Type     Reason             Age                 From                Message
  ----     ------             ----                ----                -------
  Warning  FailedScheduling   2m18s               default-scheduler   0/3 nodes are available
  Normal   NotTriggerScaleUp  67s (x2 over 5m7s)  cluster-autoscaler pod didn't trigger scale-up: 1 max node group size\
 reached
Name:   n1
Events:
  Normal  ScaleDown  5s  cluster-autoscaler  node removed by cluster autoscaler
""",
        "d",
        NOW,
    )
    pod, node = found
    assert (pod.about_kind, pod.about_namespace, pod.about_name, pod.count) == ("Pod", "ml", "trainer-1", 2)
    assert pod.refusals == (Refusal(1, "max node group size reached", Cause.MAX_SIZE),)
    assert (node.node, node.step) == ("n1", Step.REMOVED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["metadata", "involvedObject", "reason", "message", "source", "lastTimestamp", "count", "series", "eventTime"]
)


@given(st.lists(st.dictionaries(FIELDS, JSON | st.sampled_from([each.value for each in Kind])), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_events(items):
    autoscaler_events(Objects.of([("e", {**each, "kind": "Event"}) for each in items]))


@given(st.one_of(st.text(), st.binary(), st.lists(st.sampled_from(LINES.split()), max_size=20).map(" ".join)))
@settings(max_examples=200, deadline=None)
def test_any_text(data):
    read_event_lines(data, "e", NOW)


def test_hostile_messages_cost_little():
    start = time.process_time()
    for hostile in ("{a 1->2 " * 300_000, "group x size " * 200_000, "removing node " * 200_000, ", 1 " * 500_000):
        for reason in ("TriggeredScaleUp", "NotTriggerScaleUp", "ScaleDown"):
            found = one(reason, "pod didn't trigger scale-up: " + hostile)
            assert len(found.plans) <= 200
            assert len(found.refusals) <= 200
            json.dumps(found.message)
    read_event_lines("1s Normal ScaleDown node/" + "x" * 10**6 + " Normal" * 10**5, "e", NOW)
    assert time.process_time() - start < 5
