"""Joining the verdicts of a log and of a cluster's objects: synthetic, but where a test says that they are recorded."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statehelp import node, pod, verdict

from leptonami import datafiles
from leptonami.proof import Proof
from leptonami.readers.autoscaler import scan
from leptonami.readers.objects import Objects, read_objects
from leptonami.verdicts import scaledown_log, scaledown_state
from leptonami.verdicts.combine import combine
from leptonami.verdicts.flags import Flags
from leptonami.verdicts.scaledown import Branch, NodeVerdict, State

AT = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


def line(text: str) -> Proof:
    return Proof.of("ca.log", "line 7", text)


def log(state: State, branch: Branch | None = None, text: str = "a line", **given) -> NodeVerdict:
    return NodeVerdict("n1", state, branch, proofs=(line(text),), **given)


def shown(state: State, branch: Branch | None = None, place: str = "node n1", **given) -> NodeVerdict:
    return NodeVerdict("n1", state, branch, proofs=(Proof.of("nodes.json", place, "an object"),), **given)


def one(from_log: NodeVerdict, from_state: NodeVerdict, **given) -> NodeVerdict:
    (found,) = combine([from_log], [from_state], **given)
    return found


POD = "pod gpu-operator/nvidia-cuda-validator-9zr76"
REFUSED = "node n1 cannot be removed: gpu-operator/nvidia-cuda-validator-9zr76 is not replicated"


def test_the_state_shows_that_the_pod_is_a_validator():
    found = one(
        log(State.BLOCKED, Branch.POD_NOT_REPLICATED, REFUSED),
        shown(State.BLOCKED, Branch.VALIDATOR_PODS, POD, also=(Branch.GPU_NOT_READY,)),
    )
    assert (found.state, found.branch) == (State.BLOCKED, Branch.VALIDATOR_PODS)
    assert [each.source for each in found.proofs] == ["ca.log", "nodes.json"]
    assert found.also == (Branch.GPU_NOT_READY,)
    assert found.notes == ("the log says pod-not-replicated; the objects show that it is validator-pods",)


def test_another_pod_explains_nothing():
    other = shown(State.BLOCKED, Branch.VALIDATOR_PODS, "pod gpu-operator/nvidia-cuda-validator-other")
    found = one(log(State.BLOCKED, Branch.POD_NOT_REPLICATED, REFUSED), other)
    assert (found.branch, found.also) == (Branch.POD_NOT_REPLICATED, (Branch.VALIDATOR_PODS,))
    assert found.notes == ("the log names pod-not-replicated, the objects validator-pods first",)


def test_a_pods_name_without_its_namespace():
    words = "Node n1 cannot be removed: pod with local storage present: gpu-operator-6d4f5b9c7-abcde"
    state = shown(State.BLOCKED, Branch.OPERATOR_LOCAL_STORAGE, "pod gpu-operator/gpu-operator-6d4f5b9c7-abcde")
    assert one(log(State.BLOCKED, Branch.POD_LOCAL_STORAGE, words), state).branch is Branch.OPERATOR_LOCAL_STORAGE
    longer = words.replace("abcde", "abcdefg")
    assert one(log(State.BLOCKED, Branch.POD_LOCAL_STORAGE, longer), state).branch is Branch.POD_LOCAL_STORAGE


@pytest.mark.parametrize(
    ("said", "state", "branch", "better"),
    [
        (State.NEEDED, State.BLOCKED, Branch.UTILIZATION, Branch.NO_ACCELERATOR_LABEL),
        (State.WILL_BE_REMOVED, State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER, Branch.GPU_NOT_READY),
    ],
)
def test_what_the_objects_show(said, state, branch, better):
    found = one(log(said, branch), shown(state, better))
    assert (found.state, found.branch) == (said, better)
    assert len(found.proofs) == 2


def test_agreement():
    found = one(log(State.BLOCKED, Branch.MIN_SIZE), shown(State.BLOCKED, Branch.MIN_SIZE, also=(Branch.UTILIZATION,)))
    assert (found.branch, found.also, found.notes) == (Branch.MIN_SIZE, (Branch.UTILIZATION,), ())
    assert len(found.proofs) == 2


def test_causes_that_hold_together_are_no_contradiction():
    state = shown(State.BLOCKED, Branch.MIN_SIZE, also=(Branch.POD_KUBE_SYSTEM,))
    assert one(log(State.BLOCKED, Branch.POD_KUBE_SYSTEM), state).notes == ()


def test_contradiction_is_told_and_the_log_counts():
    found = one(
        log(State.BLOCKED, Branch.POD_KUBE_SYSTEM),
        shown(State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER, at=AT),
        log_until=AT,
        state_at=AT + timedelta(minutes=5),
    )
    assert (found.state, found.branch, found.at) == (State.BLOCKED, Branch.POD_KUBE_SYSTEM, None)
    (note,) = found.notes
    assert note == (
        "contradiction: the log says blocked (pod-kube-system), the objects say will be removed (unneeded-timer) "
        "(the log ends 300 s before the objects were taken); the log counts"
    )


def test_undetermined_gives_way():
    undetermined = NodeVerdict("n1", State.NOT_DETERMINED, notes=("only mentioned",))
    found = one(undetermined, shown(State.BLOCKED, Branch.MIN_SIZE))
    assert (found.state, found.branch, found.notes) == (State.BLOCKED, Branch.MIN_SIZE, ("only mentioned",))
    assert one(log(State.NEEDED, Branch.UTILIZATION), undetermined).state is State.NEEDED


def test_removed_in_the_log_and_gone():
    found = one(log(State.REMOVED, at=AT), shown(State.REMOVED, at=AT + timedelta(seconds=5)))
    assert (found.state, found.at, found.notes) == (State.REMOVED, AT, ())


def test_gone_after_the_log_ends():
    found = one(log(State.BLOCKED, Branch.MIN_SIZE), shown(State.REMOVED, at=AT))
    assert (found.state, found.branch, found.at) == (State.REMOVED, None, AT)
    assert "its last word is blocked (min-size)" in found.notes[0]


def test_removed_in_the_log_and_still_there():
    found = one(log(State.REMOVED, at=AT), shown(State.BLOCKED, Branch.VALIDATOR_PODS))
    assert (found.state, found.at) == (State.REMOVED, AT)
    assert found.notes[0].startswith("contradiction: the log says that it was removed")
    assert one(log(State.REMOVED, at=AT), shown(State.REMOVING)).notes == ()


def test_being_removed_in_the_objects():
    found = one(log(State.NEEDED, Branch.UTILIZATION), shown(State.REMOVING, since=AT))
    assert (found.state, found.since) == (State.REMOVING, AT)
    assert found.notes[0].startswith("contradiction")


def test_not_started_in_the_log_has_its_time_from_the_objects():
    state = shown(State.WILL_BE_REMOVED, Branch.GPU_NOT_READY, at=AT)
    found = one(log(State.BLOCKED, Branch.GPU_NOT_READY), state)
    assert (found.state, found.branch, found.at, found.notes) == (
        State.WILL_BE_REMOVED,
        Branch.GPU_NOT_READY,
        AT,
        (),
    )


def test_nodes_of_one_side():
    gone = replace(log(State.REMOVED), node="a")
    blocked = replace(log(State.BLOCKED, Branch.MIN_SIZE), node="b")
    new = replace(shown(State.BLOCKED, Branch.ANNOTATION), node="c")
    found = combine([blocked, gone], [new])
    assert [each.node for each in found] == ["a", "b", "c"]
    assert [each.notes for each in found] == [
        (),
        ("the objects do not have this node",),
        ("the log does not mention this node",),
    ]


def test_with_a_verdict_of_the_state():
    policy = ("nvidia.com/v1", "ClusterPolicy", "cluster-policy")
    validator = pod("nvidia-cuda-validator-9zr76", namespace="gpu-operator", owner=policy, phase="Pending")
    state = verdict(node(gpus=1, label=True), validator)
    found = one(log(State.BLOCKED, Branch.POD_NOT_REPLICATED, REFUSED), state)
    assert found.branch is Branch.VALIDATOR_PODS
    assert found.proofs[0].text == REFUSED
    assert "controller ClusterPolicy" in found.proofs[1].text


def recorded(scenario: str, now: str) -> tuple[list[NodeVerdict], list[NodeVerdict]]:
    """Both sides of a recording: the real autoscaler's log, and the objects at its end."""
    folder = datafiles.path(f"recorded/autoscaler/{scenario}")
    lines = gzip.decompress((folder / "cluster-autoscaler.log.gz").read_bytes()).split(b"\n")
    read = scan.digest([lines], source="ca.log", year=2026, zone=UTC)
    objects = Objects()
    for name in ("nodes", "pods", "daemonsets", "events"):
        objects = objects.joined(read_objects((folder / f"{name}.json").read_bytes(), f"{name}.json"))
    status = (folder / "cluster-autoscaler-status.yaml").read_bytes()
    flags = Flags("1.30.7", timedelta(minutes=2), timedelta(minutes=4), delay_after_add=timedelta(minutes=2))
    moment = datetime.fromisoformat(f"2026-11-23T{now}+00:00")
    cluster = scaledown_state.ClusterState.of(objects, status=status, source="status.yaml")
    return scaledown_log.judge(read), scaledown_state.judge(cluster, now=moment, flags=flags)


@pytest.mark.parametrize(
    ("scenario", "now", "expected"),
    [
        ("healthy", "16:32:31", {"cpu": (State.BLOCKED, Branch.MIN_SIZE), "gpu": (State.REMOVED, None)}),
        (
            "broken-toolkit",
            "17:05:15",
            {"cpu": (State.BLOCKED, Branch.MIN_SIZE), "gpu": (State.BLOCKED, Branch.VALIDATOR_PODS)},
        ),
        ("broken-driver", "17:05:15", {"cpu": (State.BLOCKED, Branch.MIN_SIZE), "gpu": (State.REMOVED, None)}),
        ("broken-nolabel", "16:32:31", {"cpu": (State.BLOCKED, Branch.MIN_SIZE), "gpu": (State.REMOVED, None)}),
        (
            "broken-fleet",
            "17:05:15",
            {"cpu": (State.BLOCKED, Branch.CLUSTER_NOT_READY), "gpu": (State.BLOCKED, Branch.CLUSTER_NOT_READY)},
        ),
    ],
)
def test_both_sides_of_a_recording_agree(scenario, now, expected):
    from_log, from_state = recorded(scenario, now)
    assert {each.node for each in from_log} == {each.node for each in from_state}
    for each in combine(from_log, from_state):
        assert (each.state, each.branch) == expected[each.node[:3]]
        assert not [note for note in each.notes if "contradiction" in note]
        assert {proof.source for proof in each.proofs} - {"ca.log"}
        assert each.proofs[0].source == "ca.log"


BRANCHES = st.none() | st.sampled_from(list(Branch))
VERDICTS = st.builds(
    NodeVerdict,
    st.sampled_from(["n1", "n2", ""]),
    st.sampled_from(list(State)),
    BRANCHES,
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none(),
    st.lists(st.builds(Proof.of, st.text(max_size=3), st.sampled_from([POD, "line 3", ""]), st.text(max_size=9))).map(
        tuple
    ),
    st.lists(st.text(max_size=5)).map(tuple),
    st.lists(st.sampled_from(list(Branch))).map(tuple),
).map(lambda each: replace(each, also=tuple(other for other in each.also if other is not each.branch)))


@given(st.lists(VERDICTS, max_size=4), st.lists(VERDICTS, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_verdicts(from_log, from_state):
    found = combine(from_log, from_state, log_until=AT, state_at=AT)
    assert [each.node for each in found] == sorted({each.node for each in (*from_log, *from_state)})
    for each in found:
        known = [other for other in (*from_log, *from_state) if other.node == each.node]
        assert each.state in {other.state for other in known}
        assert each.branch not in each.also
