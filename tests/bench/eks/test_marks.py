"""What AWS, the API server and the node tell of a launch becomes marks on the right clock, as fine as it was told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.bench.eks import awsmarks, kubemarks, nodemarks
from leptonami.bench.marks import Mark
from leptonami.readers import cloudinit, journal, kubeletmetrics, systemdanalyze

NODE = {
    "metadata": {"creationTimestamp": "2026-11-26T10:00:40Z"},
    "status": {
        "conditions": [
            {"type": "MemoryPressure", "status": "False", "lastTransitionTime": "2026-11-26T10:00:39Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-26T10:00:52Z"},
        ]
    },
}
POD = {
    "metadata": {"uid": "u1", "creationTimestamp": "2026-11-26T10:00:02Z"},
    "status": {
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-26T10:00:53Z"},
            {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-11-26T10:00:55Z"},
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-26T10:00:53Z"},
        ],
        "containerStatuses": [{"state": {"running": {"startedAt": "2026-11-26T10:01:12Z"}}}],
    },
}


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def by_name(marks: tuple[Mark, ...]) -> dict[str, Mark]:
    assert len({each.name for each in marks}) == len(marks)
    return {each.name: each for each in marks}


def test_a_node_says_when_it_was_registered_and_ready() -> None:
    found = by_name(kubemarks.from_node(NODE))
    assert (found["registered"].at, found["registered"].clock) == (at("2026-11-26T10:00:40+00:00"), "api")
    assert (found["ready"].at, found["ready"].clock) == (at("2026-11-26T10:00:52+00:00"), "node")
    assert {each.resolution for each in found.values()} == {1.0}


def test_a_pods_conditions_count_only_when_they_are_true() -> None:
    found = by_name(kubemarks.from_pod(POD))
    assert set(found) == {"pod-created", "scheduled", "sandbox", "started"}
    assert found["started"].at == at("2026-11-26T10:01:12+00:00")


def event(reason: str, uid: str = "u1", message: str = "", **times: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}, **times}


def test_the_first_event_of_this_pod_counts_as_finely_as_it_was_written() -> None:
    found = by_name(
        kubemarks.from_events(
            [
                event("Scheduled", eventTime="2026-11-26T10:00:53.123456Z", firstTimestamp=None),
                event("Pulling", firstTimestamp="2026-11-26T10:00:56Z"),
                event("Pulling", firstTimestamp="2026-11-26T10:00:54Z"),
                event("Pulling", uid="another", firstTimestamp="2026-11-26T09:00:00Z"),
                event(
                    "Pulled",
                    message='Container image "x" already present on machine',
                    firstTimestamp="2026-11-26T10:00:57Z",
                ),
                event("BackOff", firstTimestamp="2026-11-26T10:00:58Z"),
                event("Started", firstTimestamp="nonsense"),
            ],
            "u1",
        )
    )
    assert set(found) == {"scheduled", "pulling", "pulled"}
    assert found["scheduled"].at == pytest.approx(at("2026-11-26T10:00:53.123456+00:00"))
    assert found["scheduled"].resolution == 1e-6
    assert found["pulling"].at == at("2026-11-26T10:00:54+00:00")
    assert found["pulled"].detail == "already present on machine"
    assert found["pulled"].clock == "node"


def test_the_first_line_with_words_is_the_first_output() -> None:
    lines = [b"2026-11-26T10:01:12.000000001Z \n", b"2026-11-26T10:01:13.5Z READY\n", b"2026-11-26T10:01:14Z more\n"]
    (found,) = kubemarks.from_log(lines)
    assert found.at == at("2026-11-26T10:01:13.5+00:00")
    assert kubemarks.from_log([b"no time here\n", b""]) == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "status", "conditions", "type", "containerStatuses", "state", "reason"]), inner
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["metadata", "status", "involvedObject", "reason", "eventTime"]), json_values))
def test_odd_objects_give_no_marks_and_no_errors(thing: dict[str, Any]) -> None:
    for found in (kubemarks.from_node(thing), kubemarks.from_pod(thing), kubemarks.from_events([thing], "u1")):
        assert all(isinstance(each, Mark) for each in found)


def test_aws_tells_the_launch_and_the_activity_that_names_it() -> None:
    launched = datetime(2026, 11, 26, 10, 0, 1, tzinfo=UTC)
    (pending,) = awsmarks.from_instance({"LaunchTime": launched})
    assert (pending.name, pending.at, pending.clock, pending.resolution) == (
        "pending",
        launched.timestamp(),
        "aws",
        1.0,
    )
    activities = [
        {"Description": "Launching a new EC2 instance: i-0other", "StartTime": launched},
        {"Description": "Launching a new EC2 instance: i-0mine", "StartTime": launched.replace(microsecond=250_000)},
    ]
    (requested,) = awsmarks.from_activity(activities, "i-0mine")
    assert (requested.name, requested.resolution) == ("requested", 1e-3)
    assert requested.at == pytest.approx(launched.timestamp() + 0.25)
    assert awsmarks.from_activity(activities, "i-0none") == ()
    assert awsmarks.from_instance({}) == ()


def test_what_is_found_by_asking_is_as_fine_as_it_was_asked() -> None:
    found = awsmarks.from_asking("running", asked=107.5, before=106.0, source="ec2:DescribeInstances")
    assert (found.at, found.resolution, found.clock) == (106.0, 1.5, "host")


def line(message: str, program: str, wall: float, up: float) -> str:
    return json.dumps(
        {
            "__REALTIME_TIMESTAMP": str(int(wall * 1e6)),
            "__MONOTONIC_TIMESTAMP": str(int(up * 1e6)),
            "_BOOT_ID": "0" * 32,
            "SYSLOG_IDENTIFIER": program,
            "_HOSTNAME": "ip",
            "MESSAGE": message,
        }
    )


def test_a_clock_that_is_set_while_the_node_boots_stretches_no_phase() -> None:
    # The node thinks it is 100 s earlier until chrony sets the clock, 9 s after the kernel's start.
    start = 1_790_000_000.0
    said = [
        line("Linux version 6.8.0-1021-aws (buildd@lcy02)", "kernel", start - 100, 0.0),
        line("Cloud-init v. 24.1 running 'init-local' at x. Up 4.00 seconds.", "cloud-init", start - 100 + 4, 4.0),
        line("Started containerd.service - containerd container runtime.", "systemd", start + 10, 10.0),
        line("Started Service for snap application kubelet-eks.daemon.", "systemd", start + 12, 12.0),
        line(
            'I1126 10:00:15.000000 1 kubelet_node_status.go:73] "Successfully registered node" node="ip"',
            "kubelet-eks.daemon",
            start + 15,
            15.0,
        ),
        line("Startup finished in 2s (kernel) + 14s (userspace) = 16s.", "systemd", start + 16, 16.0),
    ]
    found = by_name(nodemarks.from_journal(journal.read(["\n".join(said).encode()], source="j")))
    assert found["kernel"].at == pytest.approx(start, abs=0.01)
    assert found["cloud-init-local"].at == pytest.approx(start + 4, abs=0.01)
    assert found["kubelet"].at == pytest.approx(start + 12, abs=0.01)
    assert {each.clock for each in found.values()} == {"node"}


def test_the_node_tells_the_same_in_three_other_ways() -> None:
    stages = (cloudinit.Stage("init-local", 5.0, 6.0, "SUCCESS"), cloudinit.Stage("modules-final", 9.0))
    assert [(each.name, each.at) for each in nodemarks.from_cloud_init(stages)] == [
        ("cloud-init-local", 5.0),
        ("cloud-init-final", 9.0),
    ]
    startup = systemdanalyze.read("Startup finished in 1s (firmware) + 2s (kernel) + 5s (userspace) = 8s")
    assert startup is not None
    (kernel,) = nodemarks.from_systemd(startup, 107.0)
    assert (kernel.name, kernel.at) == ("kernel", 100.0)
    metrics = kubeletmetrics.NodeStartup(pre_kubelet=10.0, process_start=110.0)
    assert {each.name: each.at for each in nodemarks.from_metrics(metrics)} == {"kubelet": 110.0, "kernel": 100.0}
