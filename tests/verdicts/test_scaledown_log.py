"""What an autoscaler's log says about nodes: the original, the recordings, and each branch from messages of our own."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from leptonami import recordings
from leptonami.proof import Proof
from leptonami.readers import lines as reading
from leptonami.readers.autoscaler import scan
from leptonami.readers.autoscaler.digest import Digest
from leptonami.verdicts.autoscaler_report import as_dict, plans_of, scale_ups, story, wrong
from leptonami.verdicts.scaledown import BRANCHES, Branch, NodeVerdict, State
from leptonami.verdicts.scaledown_log import Timer, Timers, judge, reason_of, timers

N = "node-a"


def header(message: str, at: str, site: str = "x.go:1") -> str:
    return f"I{at}       1 {site}] {message}"


def read(*rows: str) -> Digest:
    """SYNTHETIC: messages written here, a second apart unless they say when."""
    written = []
    for number, row in enumerate(rows):
        at, _, message = row.partition("| ") if "| " in row else ("", "", row)
        minute, second = divmod(number, 60)
        written.append(header(message, at or f"0624 20:{minute:02}:{second:02}.000000"))
    return scan.digest(reading.batches(["\n".join(written).encode()]), source="synthetic.log", year=2023)


def recorded(name: str) -> tuple[Digest, dict[str, NodeVerdict]]:
    digest = scan.digest(reading.batches([recordings.get(name).read("autoscaler-log")]), source=name)
    return digest, {each.node: each for each in judge(digest)}


def only(digest: Digest) -> NodeVerdict:
    (verdict,) = judge(digest)
    return verdict


def test_the_original_log() -> None:
    digest, verdicts = recorded("original")
    gone = verdicts["ip-10-0-2-185.ec2.internal"]
    assert gone.state is State.REMOVED
    assert gone.at == datetime(2023, 6, 24, 20, 45, 52, 503536, UTC)
    assert any(note.startswith("4 pods to reschedule: coredns") for note in gone.notes)
    assert "unneeded since 2023-06-24 20:38:45 UTC" in gone.notes
    assert any("log ends here" in note for note in gone.notes)
    assert [each.place for each in gone.proofs] == ["line 20", "line 11"]
    assert verdicts["ip-10-0-2-252.ec2.internal"].branch is Branch.MIN_SIZE
    assert not wrong(verdicts.values())
    told = " ".join(story(digest, list(verdicts.values())))
    assert "1.27.1 to 1.27.6" in told
    assert "ip-10-0-2-185.ec2.internal was removed at 2023-06-24 20:45:52" in told


# scenario -> (state, branch, further branches) of its GPU nodes, and how many there are.
RECORDED = {
    "healthy": (2, State.REMOVED, None, ()),
    "broken-toolkit": (2, State.BLOCKED, Branch.VALIDATOR_PODS, ()),
    "broken-driver": (2, State.REMOVED, None, (Branch.GPU_NOT_READY,)),
    "broken-nolabel": (4, State.REMOVED, None, ()),
    "broken-fleet": (5, State.BLOCKED, Branch.CLUSTER_NOT_READY, (Branch.GPU_NOT_READY,)),
}


@pytest.mark.parametrize("scenario", RECORDED)
def test_the_recordings(scenario: str) -> None:
    number, state, branch, also = RECORDED[scenario]
    digest, verdicts = recorded(f"autoscaler/{scenario}")
    gpu = [each for name, each in verdicts.items() if name.startswith("gpu-workers-")]
    assert len(gpu) == number
    for each in gpu:
        assert (each.state, each.branch, each.also) == (state, branch, also)
        assert each.proofs
        assert all(proof_is_there(proof, scenario) for proof in each.proofs)
    assert wrong(verdicts.values()) is scenario.startswith(("broken-toolkit", "broken-fleet"))
    assert as_dict(digest, list(verdicts.values()))["wrong"] is wrong(verdicts.values())


def proof_is_there(proof: Proof, scenario: str) -> bool:
    """A proof's line is the line of the file that it says it is."""
    content = recordings.get(f"autoscaler/{scenario}").read("autoscaler-log").decode().split("\n")
    number = int(proof.place.removeprefix("line "))
    return content[number - 1].startswith(proof.text.rstrip("…"))


def test_late_not_never() -> None:
    digest, verdicts = recorded("autoscaler/broken-driver")
    (late,) = [each for name, each in verdicts.items() if name == "gpu-workers-8j9mb"]
    assert "from 16:35:09 to 16:50:00 nothing was decided about it, since its GPU was not ready" in late.notes
    assert any("late, not never" in sentence for sentence in story(digest, list(verdicts.values())))


def test_without_the_label_it_scales_on_and_then_down() -> None:
    digest, verdicts = recorded("autoscaler/broken-nolabel")
    assert [(each["group"], each["from"], each["to"]) for each in scale_ups(digest)][-2:] == [
        ("gpu-workers", 0, 2),
        ("gpu-workers", 2, 4),
    ]
    assert any("no-accelerator-label" in sentence for sentence in story(digest, list(verdicts.values())))


def test_timers_are_seen_in_the_log() -> None:
    for scenario, field, length in (("healthy", "unneeded", 120), ("broken-driver", "unready", 240)):
        timer = getattr(timers(recorded(f"autoscaler/{scenario}")[0]), field)
        assert timer.known == "observed"
        assert length <= timer.length.total_seconds() < length + 10
    assert timers(recorded("original")[0]).unready.known == "default"
    flagged = read('FLAG: --scale-down-unneeded-time="7m0s"', f"node {N} may be removed")
    assert timers(flagged).unneeded == Timer(timedelta(minutes=7), "flag")
    assert timers(flagged, unneeded=timedelta(minutes=1)).unneeded.known == "given"


REASONS = (
    ("gpu-operator/nvidia-cuda-validator-9zr76 is not replicated", Branch.VALIDATOR_PODS),
    ("gpu-operator/nvidia-device-plugin-validator-9zr76 is not replicated", Branch.VALIDATOR_PODS),
    ("default/nvidia-smi is not replicated", Branch.POD_NOT_REPLICATED),
    ("default/mine is not replicated", Branch.POD_NOT_REPLICATED),
    ("pod with local storage present: gpu-operator-7cfc9fb796-95l55", Branch.OPERATOR_LOCAL_STORAGE),
    ("pod with local storage present: my-gpu-operator", Branch.POD_LOCAL_STORAGE),
    ("pod with local storage present: default/cache", Branch.POD_LOCAL_STORAGE),
    ("non-daemonset, non-mirrored, non-pdb-assigned kube-system pod present: coredns-1", Branch.POD_KUBE_SYSTEM),
    ("pod annotated as not safe to evict present: a", Branch.POD_NOT_SAFE_TO_EVICT),
    ("not enough pod disruption budget to move default/a", Branch.POD_DISRUPTION_BUDGET),
    ("daemonset for default/a is not present", Branch.POD_CONTROLLER),
    ("job for default/a is not available", Branch.POD_CONTROLLER),
    ("replication controller for default/a has too few replicas", Branch.POD_CONTROLLER),
    ("something new in a later release", Branch.POD_OTHER),
)


@pytest.mark.parametrize(("reason", "branch"), REASONS)
def test_what_blocks(reason: str, branch: Branch) -> None:
    verdict = only(read(f"node {N} cannot be removed: {reason}"))
    assert (verdict.state, verdict.branch) == (State.BLOCKED, branch)
    assert verdict.remedy == BRANCHES[branch].remedy
    pod = reason_of(f"cannot-be-removed: {reason}")[1]
    assert pod == "" or f"the pod is {pod}" in verdict.notes


@pytest.mark.parametrize(
    ("message", "state", "branch"),
    [
        (
            f"node {N} is not suitable for removal: can reschedule only 0 out of 1 pods",
            State.BLOCKED,
            Branch.NO_PLACE_FOR_PODS,
        ),
        (f"Skipping {N} - node group min size reached (current: 1, min: 1)", State.BLOCKED, Branch.MIN_SIZE),
        (f"Node {N} should not be processed by cluster autoscaler", State.BLOCKED, Branch.NOT_AUTOSCALED),
        (
            f"Skipping {N} from delete consideration - the node is marked as no scale down",
            State.BLOCKED,
            Branch.ANNOTATION,
        ),
        (f"Skipping unready node {N} from delete consideration - disabled", State.BLOCKED, Branch.UNREADY_DISABLED),
        (f"Skipping {N} - minimal limit exceeded for [cpu]", State.BLOCKED, Branch.RESOURCE_LIMIT),
        (f"Node {N} unremovable: cpu requested (80% of allocatable) is above", State.NEEDED, Branch.UTILIZATION),
        (f"Overriding status of node {N}, which seems to have unready GPU", State.BLOCKED, Branch.GPU_NOT_READY),
        (f"Successfully added ToBeDeletedTaint on node {N}", State.REMOVING, None),
        (f"Skipping {N} from delete consideration - the node is currently being deleted", State.REMOVING, None),
        (f"Node {N} - cpu requested is 5% of allocatable", State.NOT_DETERMINED, None),
        (f"{N} was unneeded for 1m0s", State.WILL_BE_REMOVED, Branch.UNNEEDED_TIMER),
        (f'Scale-down: removing empty node "{N}"', State.REMOVED, None),
    ],
)
def test_each_message_by_itself(message: str, state: State, branch: Branch | None) -> None:
    verdict = only(read(message))
    assert (verdict.state, verdict.branch) == (state, branch)
    assert verdict.proofs[0].place == "line 1"
    assert verdict.proofs[0].source == "synthetic.log"


def unneeded(at: str = "0624 20:00:00.000000", more: str = "") -> str:
    return f"{at}| {N} is unneeded since 2023-06-24 20:00:00.0 +0000 UTC m=+1.0 duration 0s{more}"


def test_when_an_unneeded_node_goes() -> None:
    verdict = only(read(unneeded()))
    assert verdict.state is State.WILL_BE_REMOVED
    assert verdict.at == datetime(2023, 6, 24, 20, 10, tzinfo=UTC)
    assert any("10 min (the default; the log does not say)" in note for note in verdict.notes)
    shorter = Timers(*[Timer(timedelta(minutes=3), "given")] * 3)
    assert judge(read(unneeded()), shorter)[0].at == datetime(2023, 6, 24, 20, 3, tzinfo=UTC)


def test_a_node_whose_gpu_is_not_ready_waits_longer() -> None:
    override = f"0624 20:00:00.000000| Overriding status of node {N}, which seems to have unready GPU"
    verdict = only(read("0624 20:00:00.000000| Starting main loop", override, unneeded()))
    assert (verdict.state, verdict.branch) == (State.WILL_BE_REMOVED, Branch.GPU_NOT_READY)
    assert verdict.at == datetime(2023, 6, 24, 20, 20, tzinfo=UTC)
    assert verdict.wrong


def test_cooldown_after_a_scale_up() -> None:
    gate = (
        "0624 20:05:00.000000| Scale down status: lastScaleUpTime=2023-06-24 20:04:00.0 +0000 UTC m=+1.0 "
        "lastScaleDownDeleteTime=x lastScaleDownFailTime=x scaleDownForbidden=false scaleDownInCooldown=true"
    )
    plan = "0624 20:04:00.000000| Final scale-up plan: [{gpu 0->2 (max: 6)}]"
    loop = "0624 20:05:00.000000| Starting main loop"
    verdict = only(read(plan, loop, unneeded(), gate))
    assert (verdict.state, verdict.branch) == (State.WILL_BE_REMOVED, Branch.SCALE_UP_COOLDOWN)
    assert verdict.at == datetime(2023, 6, 24, 20, 14, tzinfo=UTC)
    assert verdict.also == (Branch.UNNEEDED_TIMER,)
    over = gate.replace("Cooldown=true", "Cooldown=false")
    assert only(read(plan, loop, unneeded(), over)).branch is Branch.UNNEEDED_TIMER


def test_overdue_without_a_reason_is_not_determined() -> None:
    verdict = only(read(unneeded(), "0624 20:30:00.000000| Starting main loop"))
    assert verdict.state is State.NOT_DETERMINED
    assert any("due before the log ends" in note for note in verdict.notes)


def test_a_cluster_that_got_ready_again_blocks_nobody() -> None:
    stopped = [
        "Starting main loop",
        f"node {N} may be removed",
        "Starting main loop",
        "Cluster is not ready for autoscaling",
    ]
    assert only(read(*stopped)).branch is Branch.CLUSTER_NOT_READY
    assert only(read(*stopped, "Starting main loop", f"{N} was unneeded for 0s")).branch is Branch.UNNEEDED_TIMER


def test_a_removal_that_failed() -> None:
    removing = f'Scale-down: removing empty node "{N}"'
    failed = only(read(removing, f'Scale-down: couldn\'t delete empty node "{N}", status error: timeout'))
    assert (failed.state, failed.branch) == (State.BLOCKED, Branch.DELETE_FAILED)
    assert failed.proofs[0].place == "line 2"
    again = only(read(removing, f'Scale-down: couldn\'t delete empty node "{N}", x', removing))
    assert again.state is State.REMOVED
    assert "its removal began 2 times" in again.notes


def test_a_name_that_comes_back_is_judged_anew() -> None:
    rows = [f'Scale-down: removing empty node "{N}"', f"All pods removed from {N}"]
    assert only(read(*rows)).state is State.REMOVED
    assert only(read(*rows, f"Node {N} unremovable: cpu requested (80% of allocatable) is above")).state is State.NEEDED


def test_every_branch_says_why_and_what_to_do() -> None:
    assert set(BRANCHES) == set(Branch)
    for about in BRANCHES.values():
        assert 1 <= about.number <= 7
        assert about.cause
        assert about.remedy
        assert not about.cause.endswith(".")


def test_hostile_names_stay_text() -> None:
    name = "<script>alert(1)</script>\x1b[31m"
    digest = read(f"node {name} cannot be removed: default/<b> is not replicated")
    verdicts = judge(digest)
    assert verdicts[0].node == name  # as it is: whoever shows it escapes it
    assert "\x1b" not in " ".join(story(digest, verdicts)) + verdicts[0].proofs[0].text


def test_what_could_not_be_scaled_up_is_told() -> None:
    digest = read(
        "Starting main loop",
        "Pod default/train-1 is unschedulable",
        "No expansion options",
        "Scale-up timed out for node group gpu-asg after 15m3.1s",
        "Disabling scale-up for node group gpu-asg until 2026-06-15 10:05:10.1 +0000 UTC; errorClass=Other; code=x",
        "Scale-up timed out for node group \x1b[31m after 15m0s",
    )
    told = story(digest, judge(digest))
    assert "1 pod had no place (default/train-1), and it did not scale up: no group would have helped." in told
    failed = next(each for each in told if each.startswith("Scaling up failed"))
    assert "gpu-asg 1 time, the last at " in failed and "(errorClass=Other; code=x)" in failed
    assert "no node within 15m0s" in failed and "\x1b" not in failed
    rows = as_dict(digest, [])["scale_up_failures"]
    assert [(each["what"], each["line"]) for each in rows] == [
        ("scale-up-timed-out", 4),
        ("group-backoff", 5),
        ("scale-up-timed-out", 6),
    ]
    assert rows[1]["until"] == "2026-06-15 10:05:10.1 +0000 UTC"


def test_why_nothing_is_determined_comes_before_the_timer() -> None:
    digest = read(
        "Starting main loop",
        "a is unneeded since 2000-01-01 00:00:00 +0000 UTC m=+1.0 duration 10m1s",
        "Starting main loop",
    )
    verdicts = judge(digest)
    assert verdicts[0].state is State.NOT_DETERMINED
    assert "What becomes of node a is not determined: it was due before the log ends" in " ".join(
        story(digest, verdicts)
    )


def test_plans() -> None:
    assert plans_of("{a 0->2 (max: 6)} {b 1->3 (max: 4)}")[1] == {"group": "b", "from": 1, "to": 3, "max": 4}
    for junk in ("", "{", "{a}", "{a x->y (max: 6)}", "{a 0->" + "9" * 5000 + " (max: 6)}"):
        assert plans_of(junk) == []


def test_an_empty_log() -> None:
    digest = read()
    assert judge(digest) == []
    assert re.search("no line of an autoscaler", story(digest, [])[0])
