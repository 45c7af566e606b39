"""systemd-analyze, cloud-init analyze and the kubelet's metrics of a node's start."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.errors import InputError
from leptonami.readers import cloudinit, kubeletmetrics, systemdanalyze

AL2023 = """Startup finished in 845ms (kernel) + 2.011s (initrd) + 1min 12.500s (userspace) = 1min 15.356s.
graphical.target reached after 12.401s in userspace.
"""


def test_systemd_analyze_is_read() -> None:
    found = systemdanalyze.read(AL2023)
    assert found is not None
    assert dict(found.parts) == {"kernel": 0.845, "initrd": 2.011, "userspace": 72.5}
    assert found.total == 75.356
    assert found.since_kernel == pytest.approx(75.356)


def test_firmware_and_loader_come_before_the_kernel() -> None:
    found = systemdanalyze.read(
        "Startup finished in 1.2s (firmware) + 3s (loader) + 2s (kernel) + 5s (userspace) = 11.2s"
    )
    assert found is not None
    assert found.since_kernel == 7.0
    assert found.total == pytest.approx(11.2)


@pytest.mark.parametrize(
    "text", ["", "Bootup is not yet finished.", "Startup finished in", "Startup finished in 5 (x)"]
)
def test_what_has_no_such_line_gives_nothing(text: str) -> None:
    assert systemdanalyze.read(text) is None


@given(st.text(alphabet="Startup finished in 0123456789.smhund() +=\n", max_size=300))
def test_systemd_analyze_never_raises(text: str) -> None:
    systemdanalyze.read("Startup finished in " + text)


def event(kind: str, name: str, at: float, result: str | None = None) -> dict[str, object]:
    return {
        "event_type": kind,
        "name": name,
        "timestamp": at,
        "origin": "cloudinit",
        "description": "",
        "result": result,
    }


def boot(at: float) -> list[dict[str, object]]:
    return [
        event("start", "init-local", at),
        event("finish", "init-local", at + 0.5, "SUCCESS"),
        event("start", "init-network", at + 2),
        event("start", "init-network/config-ssh", at + 2.1),
        event("finish", "init-network/config-ssh", at + 2.4, "SUCCESS"),
        event("finish", "init-network", at + 3, "SUCCESS"),
        event("start", "modules-config", at + 4),
        event("finish", "modules-config", at + 5, "FAIL"),
        event("start", "modules-final", at + 6),
    ]


def test_the_stages_of_the_last_boot_count() -> None:
    found = cloudinit.read(json.dumps(boot(1000.0) + boot(5000.25)))
    assert [(each.name, each.begun, each.ended, each.result) for each in found] == [
        ("init-local", 5000.25, 5000.75, "SUCCESS"),
        ("init-network", 5002.25, 5003.25, "SUCCESS"),
        ("modules-config", 5004.25, 5005.25, "FAIL"),
        ("modules-final", 5006.25, None, ""),
    ]


@pytest.mark.parametrize("text", ["", "No events found.", "{}", "[" * 100_000])
def test_what_is_no_dump_is_said(text: str) -> None:
    with pytest.raises(InputError, match="nodes/dump"):
        cloudinit.read(text, source="nodes/dump")


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["event_type", "name", "timestamp", "result"]), st.none() | st.text() | st.floats()
        )
    )
)
def test_odd_events_are_left_out(events: list[dict[str, object]]) -> None:
    cloudinit.read(json.dumps(events))


METRICS = """# HELP kubelet_node_startup_duration_seconds [ALPHA] Duration in seconds of node startup in total.
# TYPE kubelet_node_startup_duration_seconds gauge
kubelet_node_startup_duration_seconds 31.25
kubelet_node_startup_pre_kubelet_duration_seconds 23.95
kubelet_node_startup_pre_registration_duration_seconds 0.3
kubelet_node_startup_registration_duration_seconds 1.5
kubelet_node_startup_post_registration_duration_seconds 5.5
process_start_time_seconds 1.73e+09
"""


def test_the_kubelets_own_timing_gives_four_times() -> None:
    found = kubeletmetrics.read(METRICS)
    assert found.total == 31.25
    assert found.times() == {
        "kubelet": 1.73e9,
        "kernel": pytest.approx(1.73e9 - 23.95),
        "registered": pytest.approx(1.73e9 + 1.8),
        "ready": pytest.approx(1.73e9 + 7.3),
    }
    # The parts are the whole: what the tracker computes them from.
    parts = (found.pre_kubelet, found.pre_registration, found.registration, found.post_registration)
    assert sum(each or 0.0 for each in parts) == pytest.approx(found.total)


def test_a_gauge_that_is_still_zero_says_nothing() -> None:
    text = METRICS.replace("registration_duration_seconds 1.5", "registration_duration_seconds 0")
    assert set(kubeletmetrics.read(text).times()) == {"kubelet", "kernel"}
    assert kubeletmetrics.read(METRICS.replace("1.73e+09", "NaN")).times() == {}


@given(st.text(max_size=300))
def test_metrics_never_raise(text: str) -> None:
    kubeletmetrics.read(METRICS + text)
