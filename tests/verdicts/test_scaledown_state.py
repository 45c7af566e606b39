"""The scale-down verdict from a cluster's objects.

The recorded cases are of the real cluster-autoscaler 1.30.7 on emulated nodes (data/recorded/autoscaler). All others
are synthetic, made from the Kubernetes API and the decision tree in the project's facts.
"""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statehelp import DEFAULT, NOW, ago, budget, event, node, pod, stamp, state, status_text, verdict, verdicts

from leptonami import datafiles
from leptonami.errors import LeptonamiError
from leptonami.readers.objects import Objects, read_objects
from leptonami.verdicts.autoscaler_report import group_sentence
from leptonami.verdicts.clusterstate import CANDIDATE, group_names
from leptonami.verdicts.combine import combine
from leptonami.verdicts.flags import Flags, find_flags
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_state import ClusterState, judge
from leptonami.verdicts.scaledown_timers import UNLESS

RECORDED = Flags(
    version="1.30.7",
    unneeded_time=timedelta(minutes=2),
    unready_time=timedelta(minutes=4),
    delay_after_add=timedelta(minutes=2),
)
ENDS = {"healthy": "16:32:31", "broken-nolabel": "16:32:31"}


def recorded(scenario: str, *, flags: Flags | None = RECORDED, now: datetime | None = None) -> dict[str, NodeVerdict]:
    folder = datafiles.path(f"recorded/autoscaler/{scenario}")
    objects = Objects()
    for name in ("nodes", "pods", "daemonsets", "events"):
        objects = objects.joined(read_objects((folder / f"{name}.json").read_bytes(), f"{name}.json"))
    status = (folder / "cluster-autoscaler-status.yaml").read_bytes()
    moment = now or datetime.fromisoformat(f"2026-11-23T{ENDS.get(scenario, '17:05:15')}+00:00")
    read = ClusterState.of(objects, status=status, source="status.yaml")
    return {each.node: each for each in judge(read, now=moment, flags=flags)}


@pytest.mark.parametrize(
    ("scenario", "removed", "gone"),
    [("healthy", "16:27:01", 2), ("broken-driver", "16:54:05", 2), ("broken-nolabel", "16:23:40", 4)],
)
def test_recorded_removals(scenario, removed, gone):
    found = recorded(scenario)
    gpu = [each for name, each in found.items() if name.startswith("gpu-workers-")]
    assert len(gpu) == gone
    assert {(each.state, each.branch, each.at) for each in gpu} == {
        (State.REMOVED, None, datetime.fromisoformat(f"2026-11-23T{removed}+00:00"))
    }
    assert all(f"empty node {each.node} removed" in each.proofs[0].text for each in gpu)
    (cpu,) = [each for name, each in found.items() if name.startswith("cpu-workers-")]
    assert (cpu.state, cpu.branch) == (State.BLOCKED, Branch.MIN_SIZE)
    assert "cloudProviderTarget=1 (minSize=1" in cpu.proofs[0].text


def test_recorded_broken_toolkit():
    found = recorded("broken-toolkit")
    assert found["cpu-workers-55z26"].branch is Branch.MIN_SIZE
    for short in ("bsrl9", "gznqd"):
        each = found[f"gpu-workers-{short}"]
        assert (each.state, each.branch) == (State.BLOCKED, Branch.VALIDATOR_PODS)
        assert each.also == (Branch.GPU_NOT_READY,)
        assert each.proofs[0].place == f"pod gpu-operator/nvidia-cuda-validator-{short}"
        assert "controller ClusterPolicy cluster-policy" in each.proofs[0].text
        assert each.proofs[1].place == f"node gpu-workers-{short}"
        assert not each.notes


def test_recorded_broken_fleet():
    found = recorded("broken-fleet")
    assert len(found) == 6
    for name, each in found.items():
        assert (each.state, each.branch) == (State.BLOCKED, Branch.CLUSTER_NOT_READY)
        assert each.also == ((Branch.GPU_NOT_READY,) if name.startswith("gpu") else (Branch.MIN_SIZE,))
        assert each.since == datetime(2026, 11, 23, 16, 50, 0, 47823, tzinfo=UTC)
        assert "unready=5" in each.proofs[0].text
        assert "ClusterUnhealthy" in each.proofs[1].text


def timeline(scenario: str, at: str, candidates_since: str | None = None) -> dict[str, NodeVerdict]:
    """A recording in the middle, its nodes put together anew: the timeline has no whole objects.

    The values of the taints are the times at which the log says that they were added; of the pods, the DaemonSets' are
    there, as the recording's other moments show them.
    """
    nodes = []
    label = scenario != "broken-nolabel"
    created = {"broken-driver": "16:34:59", "broken-nolabel": "16:21:15"}[scenario]
    for name in ("g1", "g2"):
        taints = []
        if candidates_since:
            value = str(int(datetime.fromisoformat(f"2026-11-23T{candidates_since}+00:00").timestamp()))
            taints = [{"key": "DeletionCandidateOfClusterAutoscaler", "value": value, "effect": "PreferNoSchedule"}]
        made = node(name, label=label, taints=taints, labels={"node.kubernetes.io/instance-type": "g4dn.xlarge"})
        made["metadata"]["creationTimestamp"] = f"2026-11-23T{created}Z"
        nodes.append(made)
    daemons = [
        pod(f"plugin-{each}-{index}", each, owner=("apps/v1", "DaemonSet", "d"), requests={"cpu": "50m"})
        for each in ("g1", "g2")
        for index in range(4)
    ]
    events = json.loads(datafiles.path(f"recorded/autoscaler/{scenario}/events.json").read_text())["items"]
    earlier = [each for each in events if each["lastTimestamp"] <= f"2026-11-23T{at}Z"]
    everything = Objects.of([("o", each) for each in (*nodes, *daemons, *earlier, node("cpu", cpu="8"))])
    now = datetime.fromisoformat(f"2026-11-23T{at}+00:00")
    return {each.node: each for each in judge(ClusterState.of(everything), now=now, flags=RECORDED)}


def test_broken_driver_before_it_counts_as_unready():
    # The autoscaler removed the nodes at 16:54:00; loops are ten seconds apart.
    each = timeline("broken-driver", "16:40:00")["g1"]
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY)
    assert each.at == datetime(2026, 11, 23, 16, 53, 59, tzinfo=UTC)


def test_broken_driver_as_a_candidate():
    each = timeline("broken-driver", "16:52:00", "16:50:00")["g1"]
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY)
    assert each.since == datetime(2026, 11, 23, 16, 50, tzinfo=UTC)
    assert each.at == datetime(2026, 11, 23, 16, 54, tzinfo=UTC)
    assert "DeletionCandidateOfClusterAutoscaler" in each.proofs[0].text


def test_no_label_goes_by_the_cpu_rule():
    # Removed at 16:23:35 in the recording; the log says "cpu requested is 5% of allocatable".
    each = timeline("broken-nolabel", "16:22:30", "16:21:35")["g1"]
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER)
    assert each.at == datetime(2026, 11, 23, 16, 23, 35, tzinfo=UTC)
    assert set(each.also) == {Branch.NO_ACCELERATOR_LABEL, Branch.SCALE_UP_COOLDOWN}
    assert any("cpu requested is 5% of allocatable" in note and "delays nothing" in note for note in each.notes)
    assert "instance type g4dn.xlarge" in " ".join(proof.text for proof in each.proofs)


# --- branch 1 -------------------------------------------------------------------------------------------------------

POLICY = ("nvidia.com/v1", "ClusterPolicy", "cluster-policy")


def validator(**given):
    return pod("nvidia-cuda-validator-x", namespace="gpu-operator", owner=POLICY, **{"phase": "Pending", **given})


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown", ""])
def test_validator_pod_blocks_until_it_has_ended(phase):
    each = verdict(node(gpus=1, label=True), validator(phase=phase))
    assert (each.state, each.branch, each.also) == (State.BLOCKED, Branch.VALIDATOR_PODS, ())
    assert "nvidia-cuda-validator-x is not replicated" in each.proofs[0].text


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_completed_validator_pod_does_not_block(phase):
    each = verdict(node(gpus=1, label=True), validator(phase=phase))
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER)


def test_validator_pod_that_is_safe_to_evict():
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    each = verdict(node(gpus=1, label=True), validator(annotations=annotations))
    assert each.state is State.WILL_BE_REMOVED


def test_custom_controllers_may_be_let_go():
    flags = Flags(version="1.30.7", skip_custom_controllers=False)
    assert verdict(node(gpus=1, label=True), validator(), flags=flags).state is State.WILL_BE_REMOVED
    # It drops the test of the controller's kind: without any controller the pod blocks all the same.
    each = verdict(node(gpus=1, label=True), validator(controller=False), flags=flags)
    assert (each.state, each.branch) == (State.BLOCKED, Branch.VALIDATOR_PODS)


def test_another_cluster_policy_is_no_validator():
    each = verdict(node(), pod(owner=("kyverno.io/v1", "ClusterPolicy", "x")))
    assert each.branch is Branch.POD_NOT_REPLICATED


def test_a_gpu_that_is_used_is_needed_before_pods_are_looked_at():
    each = verdict(node(gpus=1, label=True), pod("train", requests={"nvidia.com/gpu": "1"}), validator())
    assert (each.state, each.branch) == (State.NEEDED, Branch.UTILIZATION)
    assert Branch.VALIDATOR_PODS in each.also
    assert each.proofs[1].place == "pod default/train"


# --- branch 2 -------------------------------------------------------------------------------------------------------

HOST = [{"name": "host-os-release", "hostPath": {"path": "/etc/os-release"}}]
OPERATOR = ("apps/v1", "ReplicaSet", "gpu-operator-6d4f5b9c7")


def test_operator_with_its_host_path():
    each = verdict(node(), pod("gpu-operator-6d4f5b9c7-abcde", namespace="gpu-operator", owner=OPERATOR, volumes=HOST))
    assert (each.state, each.branch) == (State.BLOCKED, Branch.OPERATOR_LOCAL_STORAGE)
    assert "hostPath /etc/os-release" in each.proofs[0].text


def test_operator_without_host_path_goes():
    each = verdict(node(), pod("gpu-operator-6d4f5b9c7-abcde", namespace="gpu-operator", owner=OPERATOR))
    assert each.state is State.WILL_BE_REMOVED


def test_another_pod_with_a_host_path():
    assert verdict(node(), pod(volumes=HOST)).branch is Branch.POD_LOCAL_STORAGE


# --- branch 3 -------------------------------------------------------------------------------------------------------

EVIDENCE = [
    {"node.kubernetes.io/instance-type": "g4dn.xlarge"},
    {"node.kubernetes.io/instance-type": "p4de.24xlarge"},
    {"beta.kubernetes.io/instance-type": "gr6.4xlarge"},
    {"feature.node.kubernetes.io/pci-10de.present": "true"},
    {"feature.node.kubernetes.io/pci-0302_10de.present": "true"},
    {"nvidia.com/gpu.present": "true"},
    {"eks.amazonaws.com/nodegroup": "gpu-workers"},
]


@pytest.mark.parametrize("labels", EVIDENCE)
def test_no_accelerator_label_and_much_cpu(labels):
    each = verdict(node(labels=labels), pod(requests={"cpu": "3"}))
    assert (each.state, each.branch) == (State.BLOCKED, Branch.NO_ACCELERATOR_LABEL)
    (value,) = labels.values()
    (key,) = labels
    said = each.proofs[0].text
    assert value in said or key in said
    assert "cpu requested is 75% of allocatable" in said
    assert each.proofs[1].place == "pod default/p"


def test_no_accelerator_label_and_little_cpu_goes():
    each = verdict(node(labels=EVIDENCE[0]), pod(requests={"cpu": "1"}))
    assert (each.state, each.also) == (State.WILL_BE_REMOVED, (Branch.NO_ACCELERATOR_LABEL,))
    assert any("delays nothing" in note for note in each.notes)


@pytest.mark.parametrize("kind", ["m5.xlarge", "g4ad.xlarge", "c5.large", "p", ""])
def test_no_gpu_node(kind):
    each = verdict(node(labels={"node.kubernetes.io/instance-type": kind}), pod(requests={"cpu": "3"}))
    assert (each.state, each.branch) == (State.NEEDED, Branch.UTILIZATION)


def test_daemonsets_count():
    daemon = pod(owner=("apps/v1", "DaemonSet", "d"), requests={"cpu": "3"})
    assert verdict(node(), daemon).state is State.NEEDED
    ignoring = Flags(version="1.30.7", ignore_daemonsets=True)
    assert verdict(node(), daemon, flags=ignoring).state is State.WILL_BE_REMOVED


def test_memory_decides_where_it_is_more():
    each = verdict(node(), pod(requests={"cpu": "1", "memory": "12Gi"}))
    assert "memory requested is 75% of allocatable, threshold 50%" in each.proofs[0].text


@pytest.mark.parametrize(("version", "kept"), [("1.30.7", True), (None, True), ("1.35.0", False)])
def test_at_the_threshold_versions_differ(version, kept):
    each = verdict(node(), pod(requests={"cpu": "2"}), flags=Flags(version=version))
    assert (each.state is State.NEEDED) is kept
    assert any("exactly at the threshold" in note for note in each.notes)


def test_ended_pods_do_not_count():
    assert verdict(node(), pod(requests={"cpu": "4"}, phase="Succeeded")).state is State.WILL_BE_REMOVED


def test_gpu_allocatable_without_a_label_goes_by_gpu():
    each = verdict(node(gpus=1), pod(requests={"cpu": "3"}))
    assert each.state is State.WILL_BE_REMOVED
    assert any("without the accelerator label it is a CPU node" in note for note in each.notes)


def test_mig_partitions_do_not_count():
    made = node(label=True)
    made["status"]["allocatable"]["nvidia.com/mig-1g.5gb"] = "7"
    each = verdict(made, pod("x", "spare"))
    assert each.branch is Branch.GPU_NOT_READY
    assert any("does not count nvidia.com/mig-1g.5gb" in note for note in each.notes)


# --- branch 4 -------------------------------------------------------------------------------------------------------


def test_gpu_not_ready_from_the_start():
    each = verdict(node(label=True, age=5), pod("x", "spare"))
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY)
    assert each.at == NOW + timedelta(minutes=30)  # 15 - 5 to be unready, and 20 of it
    assert any("not started until" in note for note in each.notes)


def test_gpu_not_ready_before_1_27_is_a_candidate_at_once():
    each = verdict(node(label=True, age=5), pod("x", "spare"), flags=Flags(version="1.26.8"))
    assert (each.state, each.branch, each.at) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY, None)
    assert any("not before 2026-11-23 17:15:00 UTC" in note for note in each.notes)


def test_gpu_not_ready_for_long():
    each = verdict(node(label=True, gpus=0, age=20), pod("x", "spare"))
    assert (each.state, each.branch, each.at) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY, None)
    assert any("not before 2026-11-23 17:15:00 UTC" in note for note in each.notes)


def test_gpu_ready_is_another_branch():
    assert verdict(node(label=True, gpus=1, age=5), pod("x", "spare")).branch is Branch.UNNEEDED_TIMER


def test_unready_nodes_may_be_kept():
    flags = Flags(version="1.30.7", scale_down_unready=False)
    each = verdict(node(label=True), pod("x", "spare"), flags=flags)
    assert (each.state, each.branch) == (State.BLOCKED, Branch.UNREADY_DISABLED)
    assert verdict(node(label=True, gpus=1), pod("x", "spare"), flags=flags).state is State.WILL_BE_REMOVED


def test_node_that_is_not_ready_has_the_longer_timer():
    each = verdict(node(ready="False", age=5), pod("x", "spare"))
    assert (each.branch, each.at) == (Branch.UNNEEDED_TIMER, NOW + timedelta(minutes=30))


# --- branch 5 -------------------------------------------------------------------------------------------------------


def fleet(unready: int, ready: int) -> list[dict]:
    return [node(f"bad{each}", label=True, age=60) for each in range(unready)] + [
        node(f"good{each}") for each in range(ready)
    ]


@pytest.mark.parametrize(
    ("unready", "ready", "stopped"), [(4, 4, True), (3, 0, False), (4, 5, False), (5, 6, True), (9, 11, False)]
)
def test_too_many_unready_nodes(unready, ready, stopped):
    # More than 3 and more than 45 %: 4 of 8 are 50 %, 4 of 9 are 44.4 %, 5 of 11 are 45.5 %, 9 of 20 are 45 %.
    found = verdicts(*fleet(unready, ready), pod("x", "bad0"))
    branches = {each.branch for each in found.values()}
    assert (branches == {Branch.CLUSTER_NOT_READY}) is stopped
    assert (Branch.CLUSTER_NOT_READY in branches) is stopped


def test_nodes_that_may_still_start_do_not_count():
    young = [node(f"bad{each}", label=True, age=10) for each in range(5)]
    assert Branch.CLUSTER_NOT_READY not in {each.branch for each in verdicts(*young, pod("x", "bad0")).values()}


def test_more_unready_nodes_may_be_allowed():
    flags = Flags(ok_unready_count=10)
    found = verdicts(*fleet(5, 1), pod("x", "bad0"), flags=flags)
    assert Branch.CLUSTER_NOT_READY not in {each.branch for each in found.values()}


def test_what_the_autoscaler_says_of_its_health_counts():
    healthy = verdicts(*fleet(5, 1), pod("x", "bad0"), status=status_text(down="CandidatesPresent"))
    assert all(each.branch is not Branch.CLUSTER_NOT_READY for each in healthy.values())
    assert any("contradiction" in note and "5 of 6 nodes are unready" in note for note in healthy["bad1"].notes)
    sick = verdict(node(), pod(), status=status_text(health="Unhealthy", unready=5, registered=6))
    assert (sick.state, sick.branch) == (State.BLOCKED, Branch.CLUSTER_NOT_READY)
    assert sick.since == NOW - timedelta(minutes=30)
    assert any("contradiction" in note for note in sick.notes)


def test_an_old_status_says_nothing_of_health():
    old = verdict(node(), pod(), status=status_text(health="Unhealthy", unready=5, registered=6, minutes=30))
    assert old.branch is not Branch.CLUSTER_NOT_READY


# --- branch 6 -------------------------------------------------------------------------------------------------------

UP = event("TriggeredScaleUp", "pod triggered scale-up: [{gpu 1->2 (max: 6)}]", ("Pod", "waits"), minutes=4)
WAITS = pod("waits", "", phase="Pending", requests={"nvidia.com/gpu": "1"})
MARK = {
    "key": "DeletionCandidateOfClusterAutoscaler",
    "value": str(int((NOW - timedelta(minutes=9)).timestamp())),
    "effect": "PreferNoSchedule",
}


def test_candidate_goes_after_its_timer():
    each = verdict(node(taints=[MARK]), pod())
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER)
    assert (each.since, each.at) == (NOW - timedelta(minutes=9), NOW + timedelta(minutes=1))


def test_cooldown_after_a_scale_up():
    each = verdict(node(taints=[MARK]), pod(), UP)
    assert (each.state, each.branch) == (State.WILL_BE_REMOVED, Branch.SCALE_UP_COOLDOWN)
    assert each.at == NOW + timedelta(minutes=6)
    assert Branch.UNNEEDED_TIMER in each.also
    assert "TriggeredScaleUp" in each.proofs[0].text


def test_cooldown_that_never_ends():
    each = verdict(node(taints=[MARK]), pod(), UP, WAITS, node("broken", label=True))
    assert (each.state, each.branch, each.at) == (State.BLOCKED, Branch.SCALE_UP_COOLDOWN, None)
    assert [proof.place for proof in each.proofs[1:3]] == ["pod default/waits", "node broken"]
    assert any("begins it anew" in note for note in each.notes)


@pytest.mark.parametrize(
    ("items", "given"),
    [
        ([WAITS, node("fine", label=True, gpus=1)], {}),  # a GPU pod that waits for a healthy node
        ([node("broken", label=True)], {}),  # nothing waits
        ([WAITS, node("broken", label=True)], {"status": status_text(target=6)}),  # the group cannot grow
    ],
)
def test_cooldown_that_ends(items, given):
    each = verdict(node(taints=[MARK]), pod(), UP, *items, **given)
    assert (each.state, each.at) == (State.WILL_BE_REMOVED, NOW + timedelta(minutes=6))


def test_cooldown_that_is_over():
    old = event(
        "ScaledUpGroup", "Scale-up: group gpu size set to 2 instead of 1 (max: 6)", ("ConfigMap", "s"), minutes=11
    )
    each = verdict(node(taints=[MARK]), pod(), old, WAITS, node("broken", label=True))
    assert (each.branch, each.also) == (Branch.UNNEEDED_TIMER, ())


def test_cooldown_after_a_failure():
    failed = event("ScaleDownFailed", "failed to delete empty node: x", ("Node", "other"), minutes=1)
    each = verdict(node(taints=[MARK]), pod(), failed)
    assert (each.branch, each.at) == (Branch.DELETE_FAILED, NOW + timedelta(minutes=2))


# --- branch 7 -------------------------------------------------------------------------------------------------------


def test_minimum_size():
    grouped = node(labels={"eks.amazonaws.com/nodegroup": "gpu"})
    each = verdict(grouped, pod(), status=status_text(target=2, minimum=2))
    assert (each.state, each.branch) == (State.BLOCKED, Branch.MIN_SIZE)
    assert verdict(grouped, pod(), status=status_text(target=3, minimum=2)).state is State.WILL_BE_REMOVED
    assert verdict(node(), pod(), status=status_text(target=2, minimum=2)).branch is not Branch.MIN_SIZE


@pytest.mark.parametrize(
    ("name", "label", "value"),
    [
        ("eks-gpu-aac47e3b-5f2c-46d1-b04e-2a5ee6ec6a6f", "eks.amazonaws.com/nodegroup", "gpu"),
        ("eksctl-prod-nodegroup-gpu-NodeGroup-1ABCDEFGHIJKL", "alpha.eksctl.io/nodegroup-name", "gpu"),
    ],
)
def test_groups_are_found_in_the_names_of_scaling_groups(name, label, value):
    assert group_names(name) == [value]
    each = verdict(node(labels={label: value}), pod(), status=status_text(group=name, target=1, minimum=1))
    assert each.branch is Branch.MIN_SIZE
    other = verdict(node(labels={label: "other"}), pod(), status=status_text(group=name, target=1, minimum=1))
    assert other.branch is not Branch.MIN_SIZE


def test_two_groups_of_one_name_are_not_guessed():
    first = "eks-gpu-aac47e3b-5f2c-46d1-b04e-2a5ee6ec6a6f"
    status = status_text(group=first, target=1, minimum=1)
    status += f"- name: {first[:-1]}e\n  health: {{cloudProviderTarget: 4, minSize: 0}}\n"
    assert (
        verdict(node(labels={"eks.amazonaws.com/nodegroup": "gpu"}), pod(), status=status).branch is not Branch.MIN_SIZE
    )


def test_annotation():
    key = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
    each = verdict(node(annotations={key: "true"}), pod())
    assert (each.state, each.branch) == (State.BLOCKED, Branch.ANNOTATION)
    assert verdict(node(annotations={key: "false"}), pod()).state is State.WILL_BE_REMOVED


EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SYSTEM = {"namespace": "kube-system"}
EMPTY = [{"name": "tmp", "emptyDir": {}}]
LONG_GONE = {"deleted": ago(5)}


@pytest.mark.parametrize(
    ("given", "branch"),
    [
        ({"owner": None}, Branch.POD_NOT_REPLICATED),
        ({"owner": ("example.com/v1", "Thing", "x")}, Branch.POD_NOT_REPLICATED),
        ({"controller": False}, Branch.POD_NOT_REPLICATED),
        ({"owner": ("batch/v1", "Job", "x")}, None),
        ({"owner": ("apps/v1", "StatefulSet", "x")}, None),
        ({"owner": ("v1", "ReplicationController", "x")}, None),
        ({"owner": ("apps/v1", "DaemonSet", "x")}, None),
        ({"owner": None, "annotations": {"cluster-autoscaler.kubernetes.io/daemonset-pod": "true"}}, None),
        ({"owner": ("v1", "Node", "n1")}, None),
        ({"owner": None, "annotations": {"kubernetes.io/config.mirror": "x"}}, None),
        ({"owner": None, "annotations": {EVICT: "true"}}, None),
        ({"annotations": {EVICT: "false"}}, Branch.POD_NOT_SAFE_TO_EVICT),
        ({"annotations": {EVICT: "maybe"}}, None),
        ({"owner": None, "phase": "Failed"}, None),
        ({"owner": None, **LONG_GONE}, None),
        ({"owner": None, **LONG_GONE, "terminationGracePeriodSeconds": 3600}, Branch.POD_NOT_REPLICATED),
        ({"owner": None, "deleted": ago(0.5)}, Branch.POD_NOT_REPLICATED),
        ({"owner": None, "deleted": ago(0.75)}, Branch.POD_NOT_REPLICATED),  # beyond its grace period, not for long
        (SYSTEM, Branch.POD_KUBE_SYSTEM),
        ({**SYSTEM, "owner": ("apps/v1", "DaemonSet", "x")}, None),
        ({**SYSTEM, "annotations": {EVICT: "true"}}, None),
        ({"volumes": EMPTY}, Branch.POD_LOCAL_STORAGE),
        ({"volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}]}, None),
        ({"volumes": [{"name": "c", "configMap": {"name": "c"}}]}, None),
        ({"volumes": EMPTY, "annotations": {EVICT: "true"}}, None),
        ({"volumes": EMPTY, "annotations": {f"{EVICT}-local-volumes": "a,tmp"}}, None),
        ({"volumes": EMPTY, "annotations": {f"{EVICT}-local-volumes": "a, tmp"}}, Branch.POD_LOCAL_STORAGE),
        ({"volumes": EMPTY, "owner": ("apps/v1", "DaemonSet", "x")}, None),
    ],
)
def test_pods_that_block(given, branch):
    each = verdict(node(), pod(**given))
    assert each.branch is (branch or Branch.UNNEEDED_TIMER)
    assert each.state is (State.BLOCKED if branch else State.WILL_BE_REMOVED)
    if branch:
        assert each.proofs[0].place == f"pod {given.get('namespace', 'default')}/p"


def test_memory_counted_as_local_storage_before_1_27():
    volumes = [{"name": "tmp", "emptyDir": {"medium": "Memory"}}]
    each = verdict(node(), pod(volumes=volumes), flags=Flags(version="1.26.8"))
    assert each.branch is Branch.POD_LOCAL_STORAGE
    assert verdict(node(), pod(volumes=volumes), flags=Flags()).state is State.WILL_BE_REMOVED


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        (Flags(skip_local_storage=False), {"volumes": EMPTY}),
        (Flags(skip_system_pods=False), SYSTEM),
        (Flags(version="1.33.0"), {**SYSTEM, "age": 61}),
    ],
)
def test_options_that_let_pods_go(flags, given):
    assert verdict(node(), pod(**given), flags=flags).state is State.WILL_BE_REMOVED


def test_system_pod_of_the_first_hour():
    assert verdict(node(), pod(**SYSTEM, age=59), flags=Flags(version="1.33.0")).branch is Branch.POD_KUBE_SYSTEM
    unknown = verdict(node(), pod(**SYSTEM, age=61), flags=Flags())
    assert unknown.branch is Branch.POD_KUBE_SYSTEM
    assert any("from autoscaler 1.33 on" in note for note in unknown.notes)


def test_budgets():
    web = pod(labels={"app": "web"})
    each = verdict(node(), web, budget(0))
    assert (each.state, each.branch) == (State.BLOCKED, Branch.POD_DISRUPTION_BUDGET)
    assert each.proofs[0].place == "poddisruptionbudget default/pdb"
    assert verdict(node(), web, budget(1)).state is State.WILL_BE_REMOVED
    assert verdict(node(), web, budget(0, namespace="other")).state is State.WILL_BE_REMOVED
    assert verdict(node(), web, budget(0, match={"app": "db"})).state is State.WILL_BE_REMOVED
    assert verdict(node(), web, budget(0, match={})).branch is Branch.POD_DISRUPTION_BUDGET


def test_system_pod_with_a_budget():
    dns = pod("coredns", **SYSTEM, labels={"k8s-app": "dns"})
    allowing = budget(1, namespace="kube-system", match={"k8s-app": "dns"})
    assert verdict(node(), dns, allowing).state is State.WILL_BE_REMOVED
    forbidding = budget(0, namespace="kube-system", match={"k8s-app": "dns"})
    assert verdict(node(), dns, forbidding).branch is Branch.POD_DISRUPTION_BUDGET
    assert any("no PodDisruptionBudget was given" in note for note in verdict(node(), dns).notes)


def replica_set(name: str, replicas: int = 1) -> dict:
    return {"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": replicas}}


def test_controllers():
    assert verdict(node(), pod(), replica_set("web")).state is State.WILL_BE_REMOVED
    lost = verdict(node(), pod(), replica_set("other"))
    assert (lost.state, lost.branch) == (State.BLOCKED, Branch.POD_CONTROLLER)
    few = verdict(node(), pod(), replica_set("web"), flags=Flags(min_replica_count=2))
    assert few.branch is Branch.POD_CONTROLLER
    assert (
        verdict(node(), pod(), replica_set("web", 2), flags=Flags(min_replica_count=2)).state is State.WILL_BE_REMOVED
    )


@pytest.mark.parametrize(
    ("other", "given", "placed"),
    [
        (node("n2"), {}, True),
        (node("n2", cpu="50m"), {}, False),
        (node("n2", ready="False"), {}, False),
        (node("n2"), {"nodeSelector": {"zone": "a"}}, False),
        (node("n2", labels={"zone": "a"}), {"nodeSelector": {"zone": "a"}}, True),
        (node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]), {}, False),
        (node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"}]), {}, True),
        (
            node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            True,
        ),
        (
            node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            {"tolerations": [{"key": "gpu", "value": "no", "effect": "NoSchedule"}]},
            False,
        ),
        (
            node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            {"tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
            True,
        ),
        (
            node("n2", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]),
            {"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]},
            False,
        ),
    ],
)
def test_a_place_for_its_pods(other, given, placed):
    each = verdicts(node(), other, pod(**given))["n1"]
    assert each.branch is (Branch.UNNEEDED_TIMER if placed else Branch.NO_PLACE_FOR_PODS)


def test_a_full_node_is_no_place():
    full = [node("n2"), pod("big", "n2", requests={"cpu": "3950m"})]
    assert verdicts(node(), *full, pod())["n1"].branch is Branch.NO_PLACE_FOR_PODS


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"eks.amazonaws.com/compute-type": "fargate"}, "Fargate"),
        ({"eks.amazonaws.com/compute-type": "auto"}, "Auto Mode"),
        ({"karpenter.sh/nodepool": "gpu"}, "Karpenter"),
    ],
)
def test_nodes_of_others(labels, words):
    each = verdict(node(labels=labels), pod())
    assert (each.state, each.branch) == (State.BLOCKED, Branch.NOT_AUTOSCALED)
    assert words in each.proofs[0].text


# --- removed, being removed, not determined -------------------------------------------------------------------------


def delete_mark(minutes: float) -> dict[str, str]:
    value = str(int((NOW - timedelta(minutes=minutes)).timestamp()))
    return {"key": "ToBeDeletedByClusterAutoscaler", "value": value, "effect": "NoSchedule"}


def test_being_removed():
    marked = event("ScaleDown", "marked the node as toBeDeleted/unschedulable", minutes=2)
    each = verdict(node(taints=[delete_mark(2)]), validator(), marked)
    assert (each.state, each.branch, each.since) == (State.REMOVING, None, NOW - timedelta(minutes=2))
    assert "ToBeDeletedByClusterAutoscaler" in each.proofs[0].text
    assert not each.notes


def test_being_removed_for_too_long():
    each = verdict(node(taints=[delete_mark(20)]), pod())
    assert each.state is State.REMOVING
    assert any("no longer counts it as being deleted" in note for note in each.notes)


def test_deleted_by_somebody_else():
    each = verdict(node(deleted=ago(1)), pod())
    assert (each.state, each.since) == (State.REMOVING, NOW - timedelta(minutes=1))
    assert any("somebody else" in note for note in each.notes)


def test_removed_but_its_object_is_left():
    gone = event("ScaleDownEmpty", "Scale-down: empty node n1 removed", ("ConfigMap", "s"), minutes=1)
    assert verdict(node(), pod(), gone).state is State.REMOVING
    assert verdict(node(age=0.5), pod(), gone).state is State.WILL_BE_REMOVED  # a new node of the same name


def test_removed_by_events():
    marked = event("ScaleDown", "marked the node as toBeDeleted/unschedulable", ("Node", "old"), minutes=3)
    found = verdicts(node(), pod(), marked)["old"]
    assert (found.state, found.at) == (State.REMOVED, NOW - timedelta(minutes=3))
    assert any("not there any more" in note for note in found.notes)
    without = verdicts(pod("p", ""), marked)["old"]
    assert (without.state, without.at) == (State.REMOVING, None)
    assert any("nodes were not given" in note for note in without.notes)


def test_failed_removal_of_a_node_that_is_gone():
    failed = event("ScaleDownFailed", "failed to drain the node", ("Node", "old"), minutes=3)
    assert verdicts(node(), pod(), failed)["old"].state is State.NOT_DETERMINED


def test_a_removal_that_failed_is_told():
    failed = event("ScaleDownFailed", "failed to drain the node: timeout", minutes=5)
    each = verdict(node(), pod(owner=None), failed)
    assert each.branch is Branch.POD_NOT_REPLICATED
    assert "removing it failed at 2026-11-23 16:55:00 UTC: failed to drain the node: timeout" in each.notes


def test_an_autoscaler_that_has_just_started():
    each = verdict(node(taints=[MARK]), pod(), status="Initializing")
    assert each.state is State.WILL_BE_REMOVED
    assert any("Initializing" in note for note in each.notes)


def test_without_pods():
    each = verdicts(node(label=True))["n1"]
    assert (each.state, each.branch) == (State.NOT_DETERMINED, None)
    assert any("pods were not given" in note for note in each.notes)
    annotated = node(annotations={"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"})
    assert verdicts(annotated)["n1"].branch is Branch.ANNOTATION


def test_without_its_node():
    found = verdicts(pod(on="elsewhere"), node())
    assert found["elsewhere"].state is State.NOT_DETERMINED


def test_without_resources():
    bare = node()
    bare["status"] = {}
    assert verdict(bare, pod()).state is State.NOT_DETERMINED


def test_a_dead_autoscaler_removes_nothing():
    each = verdict(node(taints=[MARK]), pod(), status=status_text(minutes=30))
    assert (each.state, each.branch) == (State.NOT_DETERMINED, None)
    assert "written 2026-11-23 16:30:00 UTC" in each.proofs[0].text
    blocked = verdict(node(), pod(owner=None), status=status_text(minutes=30))
    assert blocked.branch is Branch.POD_NOT_REPLICATED


def test_overdue():
    old = {**MARK, "value": str(int((NOW - timedelta(minutes=30)).timestamp()))}
    each = verdict(node(taints=[old]), pod())
    assert (each.state, each.branch) == (State.NOT_DETERMINED, None)
    assert any("it was due at 2026-11-23 16:40:00 UTC" in note for note in each.notes)


def test_the_autoscaler_has_no_candidate():
    grouped = node(labels={"eks.amazonaws.com/nodegroup": "gpu"})
    each = verdict(grouped, pod(), status=status_text(down="NoCandidates"))
    assert each.state is State.NOT_DETERMINED
    assert any("has no candidate" in note for note in each.notes)


# --- the time and the options ---------------------------------------------------------------------------------------


def test_time_from_the_evidence():
    each = verdict(node(taints=[MARK]), pod(), UP, now=None)
    assert any("the latest in the evidence is taken: 2026-11-23 16:56:00 UTC" in note for note in each.notes)
    nothing = judge(ClusterState.of(Objects.of([("o", {"kind": "Node", "metadata": {"name": "n1"}})])), now=None)
    assert any("no time was given and none was found" in note for note in nothing[0].notes)


def test_a_time_without_a_zone_is_utc():
    each = verdict(node(taints=[MARK]), pod(), now=NOW.replace(tzinfo=None))
    assert each.at == NOW + timedelta(minutes=1)


def autoscaler(**container) -> dict:
    made = pod("cluster-autoscaler-7d", "spare", namespace="kube-system")
    made["spec"]["containers"] = [
        {
            "name": "cluster-autoscaler",
            "image": "registry.k8s.io/autoscaling/cluster-autoscaler:v1.33.1",
            "command": [
                "./cluster-autoscaler",
                "--v=4",
                "--scale-down-unneeded-time=2m",
                "--skip-nodes-with-local-storage",
            ],
            "args": ["--scale-down-utilization-threshold", "0.7", "--skip-nodes-with-system-pods=false"],
            **container,
        }
    ]
    return made


def test_options_of_the_autoscalers_own_pod():
    fresh = {**MARK, "value": str(int((NOW - timedelta(minutes=1)).timestamp()))}
    each = verdict(node(taints=[fresh]), pod(), autoscaler(), flags=None)
    assert (each.state, each.at) == (State.WILL_BE_REMOVED, NOW + timedelta(minutes=1))
    assert any("those of pod kube-system/cluster-autoscaler-7d" in note for note in each.notes)
    found = find_flags(Objects.of([("o", autoscaler())]))
    assert found is not None
    flags, proof = found
    assert flags == Flags(
        version="v1.33.1",
        unneeded_time=timedelta(minutes=2),
        utilization_threshold=Decimal("0.7"),
        skip_system_pods=False,
        skip_local_storage=True,
    )
    assert "--scale-down-unneeded-time=0:02:00" in proof.text
    assert find_flags(Objects.of([("o", pod())])) is None


def test_defaults_are_said_to_be_assumed():
    each = verdict(node(), pod(), flags=None)
    assert any("its defaults are assumed" in note for note in each.notes)


def test_what_needs_no_option_says_nothing_of_options():
    annotations = {"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"}
    assert not verdict(node(annotations=annotations), pod(), flags=None).notes
    assert not verdict(node(taints=[delete_mark(2)]), pod(), flags=None, now=None).notes


def test_every_decided_verdict_has_a_proof():
    found = verdicts(
        node(),
        validator(),
        node("a", label=True),
        node("b", taints=[MARK]),
        node("c", gpus=1),
        pod("y", "c"),
        UP,
        WAITS,
    )
    for each in found.values():
        assert each.proofs or each.state is State.NOT_DETERMINED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(["Node", "Pod", "Event", "PodDisruptionBudget", "ReplicaSet", "ConfigMap", "Deployment", "X"])
TIMES = st.sampled_from([stamp(NOW), "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
SHAPED = st.fixed_dictionaries(
    {"kind": KINDS},
    optional={
        "metadata": JSON
        | st.fixed_dictionaries(
            {"name": st.sampled_from(["n1", "p"])},
            optional={
                "labels": JSON,
                "annotations": JSON,
                "creationTimestamp": JSON
                | st.sampled_from([stamp(NOW), "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]),
                "deletionTimestamp": JSON | st.sampled_from([stamp(NOW), "9999-12-31T23:59:59Z"]),
                "ownerReferences": JSON | st.lists(st.fixed_dictionaries({"kind": JSON, "controller": JSON})),
            },
        ),
        "spec": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "nodeName": JSON | st.just("n1"),
                "taints": JSON
                | st.just([{"key": "DeletionCandidateOfClusterAutoscaler", "value": "99999999999"}])
                | st.just([{"key": "ToBeDeletedByClusterAutoscaler", "value": "x"}]),
                "volumes": JSON,
                "containers": JSON | st.just([{"resources": {"requests": {"cpu": "-1", "nvidia.com/gpu": "1e9"}}}]),
                "terminationGracePeriodSeconds": JSON,
                "tolerations": JSON,
            },
        ),
        "status": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "allocatable": JSON | st.just({"cpu": "1", "memory": "1", "nvidia.com/gpu": "0"}),
                "conditions": JSON | st.just([{"type": "Ready", "status": "False"}]),
            },
        ),
        "data": JSON,
        "lastTimestamp": JSON | TIMES,
        "reason": JSON | st.just("ScaleDown"),
        "message": JSON | st.just("marked the node as toBeDeleted/unschedulable"),
        "involvedObject": JSON | st.just({"kind": "Node", "name": "n1"}),
    },
)


@given(st.lists(SHAPED, max_size=6), st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)), JSON)
@settings(max_examples=300, deadline=None)
def test_any_objects(items, now, status):
    with contextlib.suppress(LeptonamiError):
        read = ClusterState.of(Objects.of([("o", each) for each in items]), status=json.dumps(status))
        for each in judge(read, now=now):
            assert each.proofs or each.state is State.NOT_DETERMINED


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_times_at_the_ends(end):
    made = node(ready="False", taints=[{**MARK, "value": "99999999999"}])
    made["metadata"]["creationTimestamp"] = end
    late = {**UP, "lastTimestamp": end}
    failed = {**event("ScaleDownFailed", "x"), "lastTimestamp": end}
    leaving = pod(owner=None, deleted=end)
    for now in (NOW, None, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        verdict(made, late, failed, leaving, now=now)
        verdict({**made, "spec": {}}, late, failed, leaving, now=now)


def test_a_large_cluster_takes_seconds():
    nodes = [node(f"n{each}", labels={"zone": f"z{each % 7}"}) for each in range(1000)]
    pods = [
        pod(f"p{each}", f"n{each % 1000}", labels={"app": f"a{each % 50}"}, requests={"cpu": f"{each % 90 + 1}m"})
        for each in range(15_000)
    ]
    budgets = [
        {**budget(1, match={"app": f"a{each}"}), "metadata": {"name": f"b{each}", "namespace": "default"}}
        for each in range(50)
    ]
    objects = Objects.of([("o", each) for each in (*nodes, *pods, *budgets)])
    start = time.process_time()
    assert len(judge(ClusterState.of(objects), now=NOW, flags=DEFAULT)) == 1000
    assert time.process_time() - start < 20


def test_state_keeps_what_could_not_be_read():
    read = state(node(), status="no status at all")
    assert read.status is None
    assert any("no status" in each for each in read.problems)
    assert any("no status" in note for note in judge(read, now=NOW)[0].notes)


def test_a_minimum_that_is_not_known_is_said_and_a_log_that_is_past_it_takes_it_back():
    found = verdict(node(), pod())
    assert found.state is State.WILL_BE_REMOVED and found.notes[0] == UNLESS
    told = group_sentence([found])
    assert told.startswith("Node n1 will be removed, unless its group is at its minimum size, which is not in the evid")
    logged = NodeVerdict("n1", State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER)
    assert not any(UNLESS in each.notes for each in combine([logged], [found]))
    marked = verdict(node(taints=[{"key": CANDIDATE, "value": str(int(NOW.timestamp()) - 60), "effect": "x"}]), pod())
    assert marked.state is State.WILL_BE_REMOVED and UNLESS not in marked.notes
