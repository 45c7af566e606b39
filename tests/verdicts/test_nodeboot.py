"""The verdict on a node's boot, from synthetic journals (tests/readers/samples, and lines written here)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.errors import InputError
from leptonami.readers.journal import read
from leptonami.readers.journal_marks import Family, Name
from leptonami.verdicts.nodeboot import NodeBoot, State, judge, table
from leptonami.verdicts.nodeboot_state import PATIENCE, READY_PATIENCE

SAMPLES = Path(__file__).parent.parent / "readers" / "samples"
ALL_SAMPLES = sorted(SAMPLES.glob("journal-*"))
START = datetime(2023, 6, 24, 20, 42, 0, tzinfo=UTC)


def sample(name: str, **options: int) -> NodeBoot:
    return judge(read([(SAMPLES / name).read_bytes()], source=name), **options)


def cut(name: str, last: str) -> NodeBoot:
    """Judge a sample that ends with the first line that has a text."""
    lines = (SAMPLES / name).read_text().splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if last in line)
    return judge(read(["".join(lines[: end + 1]).encode()], source=name))


def written(*messages: tuple[float, str]) -> NodeBoot:
    """Judge a journal of messages with their seconds after the start."""
    lines = [f"{(START + timedelta(seconds=at)).isoformat(timespec='microseconds')} h {text}" for at, text in messages]
    return judge(read(["\n".join(lines).encode()], source="t"))


KERNEL = (0, "kernel: Linux version 5.10.184-175.731.amzn2.x86_64")
REGISTERED = (30, 'kubelet[1]: I0624 x s.go:1] "Successfully registered node" node="h"')
READY = (40, 'kubelet[1]: I0624 x s.go:1] "Fast updating node status as it just became ready"')


@pytest.mark.parametrize(
    ("name", "family", "registered", "ready"),
    [
        ("journal-al2-messages.log", Family.AL2, 24.9, 37.6),
        ("journal-al2023-short.log", Family.AL2023, 23.4, 32.4),
        ("journal-al2023.json", Family.AL2023, 23.9, 32.9),
        ("journal-ubuntu-short-full.log", Family.UBUNTU, 53.0, 64.1),
        ("journal-bottlerocket-short-iso.log", Family.BOTTLEROCKET, 14.9, 26.9),
    ],
)
def test_a_node_that_came_up(name: str, family: Family, registered: float, ready: float) -> None:
    verdict = sample(name)
    assert (verdict.state, verdict.ok, verdict.journal.family) == (State.READY, True, family)
    assert verdict.missing == ()
    assert verdict.last is not None
    assert verdict.last.name is Name.NODE_READY
    assert verdict.proofs[0] == verdict.last.proof
    for mark, expected in ((Name.NODE_REGISTERED, registered), (Name.NODE_READY, ready)):
        stage = verdict.stage(mark)
        assert stage is not None
        assert stage.since_kernel == pytest.approx(expected, abs=0.06)
    assert f"came up: registered {registered} s, ready {ready} s after the kernel started" in verdict.story()[0]
    assert any("NVIDIA driver" in each and "device plugin has registered" in each for each in verdict.story())


def test_the_snap_race() -> None:
    verdict = sample("journal-ubuntu-snap-race.log")
    assert (verdict.state, verdict.failed_stage) == (State.FAILED, "bootstrap.sh")
    assert verdict.failed is not None
    assert (verdict.failed.name, verdict.failed.line) == (Name.SNAP_IN_PROGRESS, 13)
    assert [each.issue.id for each in verdict.issues] == ["K29"]
    assert Name.KUBELET_STARTED in verdict.missing
    assert verdict.proofs[0].place == "line 13"
    assert any("K29" in each and "snap refresh --hold" in each for each in verdict.story())


def test_the_user_data_of_amazon_linux_2_on_2023() -> None:
    verdict = sample("journal-al2023-al2-user-data.log")
    assert verdict.state is State.FAILED
    assert verdict.failed is not None
    assert verdict.failed.name is Name.NODEADM_FAILED
    assert [each.issue.id for each in verdict.issues] == ["K30"]
    assert verdict.last is not None
    assert verdict.last.name is Name.CLOUD_INIT_FINISHED


def test_no_sandbox_image() -> None:
    verdict = sample("journal-al2-no-sandbox-image.log")
    assert (verdict.state, verdict.failed_stage) == (State.REGISTERED, "sandbox image")
    assert [each.issue.id for each in verdict.issues] == ["K31"]
    assert any("2 boots" in each for each in verdict.notes)
    [slow] = [each for each in verdict.stages if each.slow]
    assert (slow.mark.name, slow.took) == (Name.KUBELET_STARTED, pytest.approx(101))


def test_the_boot_before() -> None:
    verdict = sample("journal-al2-no-sandbox-image.log", boot=0)
    assert verdict.state is State.NOT_DETERMINED
    assert verdict.issues == ()  # that was the next boot
    with pytest.raises(InputError, match="no boot 7"):
        sample("journal-al2-no-sandbox-image.log", boot=7)


def test_a_driver_that_is_missing_is_told_of_a_node_that_came_up() -> None:
    verdict = written(
        KERNEL, (9, "modprobe[7]: modprobe: FATAL: Module nvidia not found in directory /x"), REGISTERED, READY
    )
    assert (verdict.state, verdict.failed_stage) == (State.READY, "GPU driver")
    assert any("GPU driver missing" in each and "came up all the same" in each for each in verdict.story())
    assert verdict.failed is not None
    image = "nvcr.io/nvidia/driver:525.105.17-amzn2"
    pull = f'containerd[9]: level=error msg="PullImage \\"{image}\\" failed" error="rpc error: {image}: not found"'
    assert written(KERNEL, REGISTERED, READY, (90, pull)).failed_stage == "GPU driver"
    other = pull.replace("nvidia/driver", "x/driver")
    assert written(KERNEL, REGISTERED, READY, (90, other)).failed_stage == ""
    missing = (9, "modprobe[7]: modprobe: FATAL: Module nvidia not found in directory /x")
    verdict = written(KERNEL, missing, (10, "systemd[1]: Failed to start EKS Nodeadm Run."))
    assert (verdict.state, verdict.failed_stage) == (State.FAILED, "nodeadm-run")


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: path.name)
def test_a_journal_that_ends_before_registration_determines_nothing_good(path: Path) -> None:
    """Cut at every line: what is not in the journal is never claimed."""
    lines = path.read_text().splitlines(keepends=True)
    for end in range(len(lines)):
        verdict = judge(read(["".join(lines[:end]).encode()]))
        text = "".join(lines[:end])
        if verdict.state is State.READY:
            assert "became ready" in text or "NodeReady" in text
        if verdict.state is State.FAILED:
            assert "ailed" in text
            assert verdict.failed is not None
        if verdict.state is State.NOT_DETERMINED:
            assert verdict.why
            assert "not determined" in verdict.story()[0]
        else:
            assert verdict.proofs


def test_a_journal_that_ends_early() -> None:
    verdict = cut("journal-al2-messages.log", "running 'modules:final'")
    assert (verdict.state, verdict.failed) == (State.NOT_DETERMINED, None)
    assert verdict.last is not None
    assert verdict.last.name is Name.CLOUD_INIT_FINAL
    assert "the journal ends 12 s after the kernel started" in verdict.why
    assert Name.NODE_REGISTERED in verdict.missing
    verdict = cut("journal-al2-messages.log", "Successfully registered")
    assert "0 s after the node registered" in verdict.why


@pytest.mark.parametrize(("more", "state"), [(-1, State.NOT_DETERMINED), (1, State.FAILED)])
def test_a_node_that_never_registers(more: int, state: State) -> None:
    verdict = written(KERNEL, (PATIENCE.total_seconds() + more, "crond[1]: still here"))
    assert (verdict.state, verdict.failed) == (state, None)


@pytest.mark.parametrize(("more", "state"), [(-1, State.NOT_DETERMINED), (1, State.REGISTERED)])
def test_a_node_that_never_gets_ready(more: int, state: State) -> None:
    verdict = written(KERNEL, REGISTERED, (30 + READY_PATIENCE.total_seconds() + more, "crond[1]: still here"))
    assert verdict.state is state


def test_a_journal_without_the_boot() -> None:
    verdict = written((0, "crond[1]: m"), (5_000, "crond[1]: m"))
    assert (verdict.state, verdict.missing) == (State.NOT_DETERMINED, ())
    assert "beginning of the boot" in verdict.why
    assert written(REGISTERED, READY).state is State.READY
    assert judge(read([b"no journal"])).why == "there is no entry of a journal in it"
    assert judge(read([])).story()[0].startswith("Whether the node")


@pytest.mark.parametrize(
    ("line", "state"),
    [
        # tried again by systemd, or not needed
        ("systemd[1]: kubelet.service: Failed with result 'exit-code'.", State.NOT_DETERMINED),
        ("systemd[1]: Failed to start containerd container runtime.", State.NOT_DETERMINED),
        ("systemd[1]: Failed to start Postfix Mail Transport Agent.", State.NOT_DETERMINED),
        # nobody tries it again
        ("systemd[1]: Failed to start EKS Nodeadm Run.", State.FAILED),
    ],
)
def test_which_unit_is_final(line: str, state: State) -> None:
    assert written(KERNEL, (10, line)).state is state


def test_when_failed_user_data_is_final() -> None:
    failed = (10, "cloud-init[1]: util.py[WARNING]: Failed running /var/lib/cloud/instance/scripts/part-001 [2]")
    finished = (
        12,
        "cloud-init[1]: Cloud-init v. 19.3-46.amzn2 finished at x. Datasource DataSourceEc2.  Up 12 seconds",
    )
    kubelet = (11, "systemd[1]: Started Kubernetes Kubelet.")
    assert written(KERNEL, failed, finished).state is State.FAILED
    # Another part may still start the kubelet, or has started it.
    for messages in ((failed,), (failed, kubelet, finished)):
        verdict = written(KERNEL, *messages)
        assert (verdict.state, verdict.failed_stage) == (State.NOT_DETERMINED, "user data")
    # nodeadm does not wait for the user's scripts.
    al2023 = (0, "kernel: Linux version 6.1.124-134.200.amzn2023.x86_64")
    assert written(al2023, failed, finished).state is State.NOT_DETERMINED
    verdict = written(KERNEL, failed, REGISTERED, READY)
    assert verdict.state is State.READY
    assert any("came up all the same" in each for each in verdict.story())


def test_whole_seconds_are_not_taken_for_more_than_they_are() -> None:
    """Between 10:00:05 and 10:00:15 may lie 9 to 11 s: that is not surely slow."""
    verdict = judge(
        read(
            [
                b"Jun 24 10:00:00 h kernel: Linux version 5\nJun 24 10:00:05 h systemd: Reached target Network.\n"
                b"Jun 24 10:00:15 h systemd: Starting containerd container runtime...\n"
                b"Jun 24 10:00:30 h systemd: Started Kubernetes Kubelet.\n"
            ]
        )
    )
    found = {each.mark.name: each for each in verdict.stages}
    assert (found[Name.CONTAINERD_START].took, found[Name.CONTAINERD_START].uncertainty) == (10, 2)
    assert not found[Name.CONTAINERD_START].slow
    assert found[Name.KUBELET_STARTED].slow


def test_the_kernels_start_is_told_by_cloud_inits_clock() -> None:
    """journald heard of the kernel at 05:42:10; cloud-init, at 05:42:12, had been up for 8.1 s."""
    first, second, *_ = sample("journal-al2-messages.log").stages
    assert (first.mark.name, first.since_kernel) == (Name.KERNEL_START, 0.0)
    assert second.since_kernel == pytest.approx(5.88, abs=0.01)
    assert second.uncertainty > 5  # nobody knows when before that systemd started
    assert not second.slow


def test_a_clock_that_jumps_does_not_make_a_step_long() -> None:
    """The wall clock is set forward by an hour between two steps; the monotonic clock is not."""
    base = {"_BOOT_ID": "a" * 32, "_HOSTNAME": "h"}
    lines: list[dict[str, Any]] = [
        {"SYSLOG_IDENTIFIER": "kernel", "MESSAGE": "Linux version 6", "at": 0, "mono": 0},
        {"SYSLOG_IDENTIFIER": "systemd", "MESSAGE": "Reached target Network.", "at": 3600 + 5, "mono": 5},
        {"SYSLOG_IDENTIFIER": "systemd", "MESSAGE": "Started Kubernetes Kubelet.", "at": 3600 + 7, "mono": 7},
    ]
    raw = "\n".join(
        json.dumps(
            {
                **base,
                **each,
                "__REALTIME_TIMESTAMP": str(1_700_000_000_000_000 + each["at"] * 1_000_000),
                "__MONOTONIC_TIMESTAMP": str(each["mono"] * 1_000_000),
            }
        )
        for each in lines
    )
    verdict = judge(read([raw.encode()]))
    assert [each.took for each in verdict.stages] == [None, 5.0, 2.0]
    assert verdict.state is State.NOT_DETERMINED  # 7 s by the kernel's clock, not an hour


def test_the_table() -> None:
    frame = table(sample("journal-ubuntu-snap-race.log"))
    assert list(frame["mark"])[:2] == ["kernel start", "systemd start"]
    assert frame["trouble"].sum() == 4
    assert str(frame["at"].dtype).endswith("UTC]")
    assert frame["line"].is_monotonic_increasing
    assert frame.loc[frame["mark"] == "snap change in progress", "detail"].item() == "kubelet-eks"
    empty = table(judge(read([b""])))
    assert len(empty) == 0
    assert list(empty.columns) == list(frame.columns)
    # A year that nobody knows is not shown.
    unknown = table(judge(read([b"Jun 24 10:00:00 h kernel: Linux version 5"])))
    assert unknown["at"].isna().all()
    assert unknown["since_kernel"].item() == 0


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: path.name)
def test_as_dict_is_plain_data(path: Path) -> None:
    verdict = sample(path.name)
    data = json.loads(json.dumps(verdict.as_dict()))
    assert data["state"] == verdict.state
    assert data["story"] == verdict.story()
    assert all(each["proof"]["place"].startswith("line ") for each in data["stages"])


def test_untrusted_text_is_tame_in_the_story() -> None:
    evil = "\x1b[31m<script>"
    verdict = written((0, f"kernel: Linux version {evil}"), (5, f"systemd[1]: Failed to start EKS Nodeadm Run {evil}."))
    assert all("\x1b" not in each for each in verdict.story())
    assert "\x1b" not in " ".join(table(verdict)["detail"])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([line for path in ALL_SAMPLES for line in path.read_bytes().splitlines()]), max_size=40)
)
def test_lines_in_any_order_give_a_verdict(lines: list[bytes]) -> None:
    verdict = judge(read([b"\n".join(lines)]))
    json.dumps(verdict.as_dict())
    assert len(table(verdict)) == len(verdict.stages) + len(verdict.troubles)
    assert (verdict.state is State.NOT_DETERMINED) or verdict.proofs
