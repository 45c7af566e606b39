"""Metrics of cluster-autoscaler. The scrape is synthetic, made from the names and labels in the project's facts."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.autoscaler.metrics import REASONS, decode_reason, read_metrics, version_key

SCRAPE = """# HELP cluster_autoscaler_unremovable_nodes_count [ALPHA] Number of nodes that CA holds unremovable.
# TYPE cluster_autoscaler_unremovable_nodes_count gauge
cluster_autoscaler_unremovable_nodes_count{reason="13"} 2
cluster_autoscaler_unremovable_nodes_count{reason="6"} 0
cluster_autoscaler_cluster_safe_to_autoscale 1
cluster_autoscaler_scale_down_in_cooldown 0
cluster_autoscaler_unneeded_nodes_count 3
cluster_autoscaler_unschedulable_pods_count{type="scheduler_unprocessed"} 1
cluster_autoscaler_unschedulable_pods_count{type="unschedulable"} 4
cluster_autoscaler_nodes_count{state="ready"} 5
cluster_autoscaler_nodes_count{state="unready"} 2
cluster_autoscaler_last_activity{activity="main"} 1.700825e+09
cluster_autoscaler_last_activity{activity="scaleDown"} 0
go_goroutines 200
cluster_autoscaler_broken{ 1
"""


def test_a_scrape():
    read = read_metrics(SCRAPE, "m", ["1.30.7"])
    ((reason, name, count, proof),) = [(each.reason, each.name, each.count, each.proof) for each in read.unremovable]
    assert (reason, name, count, proof.place) == ("13", "BlockedByPod", 2, "line 3")
    assert (read.safe_to_autoscale, read.in_cooldown, read.unneeded, read.unschedulable_pods) == (True, False, 3, 5)
    assert read.nodes == {"ready": 5, "unready": 2}
    assert read.last_activity == {"main": datetime(2023, 11, 24, 11, 23, 20, tzinfo=UTC)}
    assert read.unread == 1
    assert read.proofs["nodes_count"].text.endswith('{state="ready"} 5')


def test_without_a_version_the_number_stays_a_number():
    (found,) = read_metrics(SCRAPE, "m").unremovable
    assert found.name is None
    assert found.shown == "reason 13 (cannot be decoded: the autoscaler's version is not known)"


@pytest.mark.parametrize(
    ("number", "versions", "name"),
    [
        ("12", ["1.26.8"], "BlockedByPod"),
        ("13", ["1.26.8"], "UnexpectedError"),
        ("13", ["1.27.1"], "BlockedByPod"),
        ("13", ["v1.31.9-eks-1"], "BlockedByPod"),
        ("13", ["1.32.0"], "RecentlyUnremovable"),
        ("15", ["1.32.0", "1.35.1"], "BlockedByPod"),
        ("8", ["1.22.0"], "NotUnderutilized"),
        ("9", ["1.30.7"], "NotUnderutilized"),
        ("11", ["1.36.1"], "NotUnderutilized"),
        ("5", ["1.26.0"], "NodeGroupMinSizeReached"),
        ("6", ["1.27.0"], "NodeGroupMinSizeReached"),
        ("18", ["1.36.1"], "BlockedByOnCompletionPod"),
        ("17", ["1.35.0"], "NoNodeInfo"),
        ("1", ["1.26.0", "1.36.1"], "ScaleDownDisabledAnnotation"),
        ("13", ["1.26.8", "1.27.1"], None),  # they disagree
        ("13", ["1.21.3"], None),  # order not verified
        ("13", ["1.99.0"], None),
        ("18", ["1.35.0"], None),
        ("99", ["1.30.7"], None),
        ("13", [], None),
        ("13", ["HEAD"], None),
        ("BlockedByPod", [], "BlockedByPod"),
        ("<script>", ["1.30.7"], None),
    ],
)
def test_reasons(number, versions, name):
    assert decode_reason(number, versions) == name


def test_the_lists_have_the_lengths_that_were_read():
    # Facts 2.3: 14, 15 and 19 reasons at 1.22, 1.27 and 1.36; 18 at 1.35.
    lengths = {each.since: len(each.names) for each in REASONS if each.names}
    assert lengths == {(1, 22, 0): 14, (1, 27, 0): 15, (1, 32, 0): 18, (1, 36, 0): 19}
    for before, after in itertools.pairwise(REASONS):
        assert before.before == after.since
    assert REASONS[0].since is None
    assert REASONS[-1].before is None


@pytest.mark.parametrize("version", ["", "1", "x1.2", "1.2345678.1"])
def test_no_version(version):
    assert version_key(version) is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "x"])
def test_no_number(value):
    read = read_metrics(f"cluster_autoscaler_unneeded_nodes_count {value}\n", "m")
    assert (read.unneeded, read.unread) == (None, 1)


@given(st.one_of(st.text(), st.binary(), st.text(alphabet='cluster_autoscaler_nodes_count{}="\\ 1\n', max_size=200)))
@settings(max_examples=200, deadline=None)
def test_any_text(data):
    read_metrics(data, "m", ["1.30.7"])


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_label(label, value):
    read_metrics(f'cluster_autoscaler_unremovable_nodes_count{{reason="{label}"}} {value}', "m", [label])


def test_hostile_lines_cost_little():
    start = time.process_time()
    for tail in ("{" * 10**6, '{a="' + "\\" * 19_000, "{" + 'a="b",' * 3000, " " * 10**6, "{" + '"' * 19_000 + "} 1"):
        read_metrics("cluster_autoscaler_nodes_count" + tail, "m")
    read_metrics("cluster_autoscaler_x 1\n" * 10**5, "m")
    assert time.process_time() - start < 5
