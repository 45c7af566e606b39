"""The status ConfigMap of cluster-autoscaler. The text forms are synthetic, made from the project's facts."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import datafiles
from leptonami.errors import InputError, LeptonamiError
from leptonami.readers.autoscaler.status import LAST_UPDATED, Counts, find_status, read_status
from leptonami.readers.objects import read_objects

WRITTEN = datetime(2023, 6, 24, 20, 42, 30, 904516, tzinfo=UTC)

# Synthetic, as 1.24 to 1.29 print it.
SIZES = {
    "%GPU%": "longUnregistered=0 cloudProviderTarget=5 (minSize=0, maxSize=6)",
    "%CPU%": "longUnregistered=0 cloudProviderTarget=3 (minSize=3, maxSize=9)",
    "%ALL%": "notStarted=1 longNotStarted=0",
    "%NONE%": "notStarted=0 longNotStarted=0",
}
TEXT = """Cluster-autoscaler status at 2023-06-24 20:42:30.904516789 +0000 UTC:
Cluster-wide:
  Health:      Healthy (ready=5 unready=2 (resourceUnready=1) %ALL% registered=8 longUnregistered=3)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 2023-06-24 20:33:37.421 +0000 UTC m=+10.69
  ScaleUp:     InProgress (ready=5 registered=8)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 2023-06-24 20:41:00 +0000 UTC m=+453.2
  ScaleDown:   CandidatesPresent (candidates=2)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 0001-01-01 00:00:00 +0000 UTC

NodeGroups:
  Name:        eks-gpu-workers-aac47e3b
  Health:      Healthy (ready=2 unready=2 (resourceUnready=1) %ALL% registered=5 %GPU%)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 2023-06-24 20:33:37.421 +0000 UTC m=+10.69
  ScaleUp:     Backoff (ready=2 cloudProviderTarget=5)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 2023-06-24 20:41:00 +0000 UTC m=+453.2
  ScaleDown:   CandidatesPresent (candidates=2)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
               LastTransitionTime: 2023-06-24 20:38:45 +0000 UTC m=+318

  Name:        eks-cpu-workers-bb
  Health:      Healthy (ready=3 unready=0 (resourceUnready=0) %NONE% registered=3 %CPU%)
               LastProbeTime:      2023-06-24 20:42:30.119881 +0000 UTC m=+543.39
  ScaleUp:     NoActivity (ready=3 cloudProviderTarget=3)
  ScaleDown:   NoCandidates (candidates=0)
"""
for key, words in SIZES.items():
    TEXT = TEXT.replace(key, words)
OLD = TEXT.replace(" (resourceUnready=1)", "").replace(" (resourceUnready=0)", "")


def check_text(status) -> None:
    assert status.form == "text"
    assert status.time == WRITTEN
    assert status.health.status == "Healthy"
    counts = status.health.counts
    assert (counts.registered, counts.ready, counts.unready, counts.not_started) == (8, 5, 2, 1)
    assert (counts.long_not_started, counts.long_unregistered, counts.being_deleted) == (0, 3, None)
    assert status.health.since == datetime(2023, 6, 24, 20, 33, 37, 421000, tzinfo=UTC)
    assert status.scale_up.status == "InProgress"
    assert (status.scale_down.status, status.scale_down.candidates) == ("CandidatesPresent", 2)
    assert status.scale_down.since is None  # Go's zero time
    gpu, cpu = status.groups
    assert (gpu.name, gpu.target, gpu.minimum, gpu.maximum) == ("eks-gpu-workers-aac47e3b", 5, 0, 6)
    assert gpu.scale_up.status == "Backoff"
    assert gpu.at_minimum is False
    assert (cpu.name, cpu.target, cpu.minimum, cpu.at_minimum) == ("eks-cpu-workers-bb", 3, 3, True)
    assert cpu.scale_down.candidates == 0


def test_text_form():
    status = read_status(TEXT, "s")
    check_text(status)
    assert status.health.counts.resource_unready == 1


def test_text_form_before_1_24_has_no_nested_parenthesis():
    status = read_status(OLD, "s")
    check_text(status)
    assert status.health.counts.resource_unready is None


@pytest.mark.parametrize("joint", [" ", "\\n", "\r\n"])
def test_text_form_flattened(joint):
    check_text(read_status(joint.join(TEXT.split("\n")), "s"))


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump, lambda each: yaml.safe_dump(each, default_style='"')])
def test_inside_the_object(dump):
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "cluster-autoscaler-status",
            "namespace": "kube-system",
            "annotations": {LAST_UPDATED: "2023-06-24 20:43:00.5 +0000 UTC"},
        },
        "data": {"status": TEXT},
    }
    status = read_status(dump(config_map), "cm")
    check_text(status)
    assert status.updated == datetime(2023, 6, 24, 20, 43, 0, 500000, tzinfo=UTC)
    assert status.latest == status.updated
    assert status.place == "configmap kube-system/cluster-autoscaler-status"
    assert find_status(read_objects(dump({"kind": "List", "items": [config_map]}), "l")).groups == status.groups


def test_renamed_config_map_is_found_by_its_annotation():
    renamed = {
        "kind": "ConfigMap",
        "metadata": {"name": "gpu-pool-scaler", "annotations": {LAST_UPDATED: "x"}},
        "data": {"status": TEXT},
    }
    other = {"kind": "ConfigMap", "metadata": {"name": "status"}, "data": {"status": TEXT}}
    assert find_status(read_objects(json.dumps({"kind": "List", "items": [other, renamed]}), "l")) is not None
    assert find_status(read_objects(json.dumps({"kind": "List", "items": [other]}), "l")) is None


def test_described():
    described = f"""Name:         cluster-autoscaler-status
Namespace:    kube-system
Annotations:  {LAST_UPDATED}: 2023-06-24 20:43:00.5 +0000 UTC

Data
====
status:
----
{TEXT}

BinaryData
====

Events:
  Type    Reason         Age   From                Message
  Normal  ScaledUpGroup  5m    cluster-autoscaler  Scale-up: group Health: 3
"""
    status = read_status(described, "d")
    check_text(status)
    assert status.updated == datetime(2023, 6, 24, 20, 43, 0, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("scenario", "health", "counts", "at_minimum"),
    [
        ("healthy", "Healthy", (1, 1, 0, 0), True),
        ("broken-toolkit", "Healthy", (3, 1, 2, 2), False),
        ("broken-driver", "Healthy", (1, 1, 0, 0), True),
        ("broken-nolabel", "Healthy", (1, 1, 0, 0), True),
        ("broken-fleet", "Unhealthy", (6, 1, 5, 5), False),
    ],
)
def test_recorded_yaml_form(scenario, health, counts, at_minimum):
    text = datafiles.path(f"recorded/autoscaler/{scenario}/cluster-autoscaler-status.yaml").read_text()
    status = read_status(text, scenario)
    assert (status.form, status.state, status.health.status) == ("yaml", "Running", health)
    found = status.health.counts
    assert (found.registered, found.ready, found.unready, found.resource_unready) == counts
    assert found.being_deleted == 0
    assert found.long_not_started is None
    cpu, gpu = status.groups
    assert (cpu.name, cpu.target, cpu.minimum, cpu.maximum, cpu.at_minimum) == ("cpu-workers", 1, 1, 4, True)
    assert (gpu.name, gpu.minimum, gpu.at_minimum) == ("gpu-workers", 0, at_minimum)
    assert status.scale_down.status == "NoCandidates"
    assert status.scale_down.candidates == 0


# Synthetic: keys sorted anew, zeros left out, a group in back-off.
YAML = """
autoscalerStatus: Running
clusterWide:
  health: {nodeCounts: {longUnregistered: 0, registered: {beingDeleted: 1, ready: 2, total: 3}}, status: Healthy}
  scaleDown: {candidates: 1, status: CandidatesPresent}
nodeGroups:
- scaleUp:
    status: Backoff
    backoffInfo: {errorCode: OutOfResource, errorMessage: "Could not launch Spot Instances. UnfulfillableCapacity"}
  health: {maxSize: 6, status: Unhealthy}
  name: gpu
time: "2025-01-02T03:04:05Z"
"""


def test_yaml_form_without_its_zeros():
    status = read_status(YAML, "s")
    assert status.time == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    counts = Counts(
        registered=3,
        ready=2,
        unready=0,
        resource_unready=0,
        not_started=0,
        being_deleted=1,
        unregistered=0,
        long_unregistered=0,
    )
    assert status.health.counts == counts
    assert status.scale_down.candidates == 1
    (group,) = status.groups
    assert (group.target, group.minimum, group.maximum, group.at_minimum) == (0, 0, 6, True)
    assert group.scale_up.error_code == "OutOfResource"
    assert group.scale_up.error_message.startswith("Could not launch")


def test_initializing():
    status = read_status("Initializing\n", "s")
    assert (status.form, status.state, status.groups, status.is_stale(WRITTEN)) == (
        "initializing",
        "Initializing",
        (),
        None,
    )


def test_stale():
    status = read_status(TEXT, "s")
    assert status.is_stale(WRITTEN + timedelta(minutes=4)) is False
    assert status.is_stale(WRITTEN + timedelta(minutes=6)) is True
    assert status.is_stale(WRITTEN + timedelta(minutes=6), timedelta(minutes=10)) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "a: 1",
        '{"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"status": "?"}}',
        "- 1\n- 2",
        "{[",
    ],
)
def test_what_is_no_status_is_refused(text):
    with pytest.raises(InputError):
        read_status(text, "s")


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="Health:NameScaleUp(=1) \n", max_size=300)))
@settings(max_examples=150, deadline=None)
def test_any_text(data):
    with contextlib.suppress(LeptonamiError):
        read_status(data, "s")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["health", "scaleUp", "scaleDown", "nodeCounts"]), JSON),
    st.lists(JSON | st.dictionaries(st.sampled_from(["name", "health", "scaleUp"]), JSON), max_size=3) | JSON,
)
@settings(max_examples=150, deadline=None)
def test_any_tree(whole, groups):
    tree = {"autoscalerStatus": "Running", "clusterWide": whole, "nodeGroups": groups}
    with contextlib.suppress(LeptonamiError):
        read_status(json.dumps(tree), "s").is_stale(WRITTEN)


def test_hostile_text_costs_little():
    start = time.process_time()
    for hostile in (
        "Cluster-wide: " + "Health: Healthy (" * 100_000,
        "Cluster-wide:" + " Name: x" * 200_000,
        "(" * 10**6,
    ):
        with contextlib.suppress(InputError):
            assert len(read_status(hostile, "s").groups) <= 10_000
    assert time.process_time() - start < 10
