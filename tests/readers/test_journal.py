"""The node journal: forms, times, boots, marks and pulls. The samples are synthetic, and say so in their first line."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers import journal_entries
from leptonami.readers.journal import Entry, Journal, entries, read
from leptonami.readers.journal_marks import RULES, Family, Name, program, rules_for
from leptonami.readers.years import From

SAMPLES = Path(__file__).parent / "samples"
WHOLE = {
    Family.AL2: "journal-al2-messages.log",
    Family.AL2023: "journal-al2023-short.log",
    Family.UBUNTU: "journal-ubuntu-short-full.log",
    Family.BOTTLEROCKET: "journal-bottlerocket-short-iso.log",
}
ALL_SAMPLES = sorted(each.name for each in SAMPLES.glob("journal-*"))


def sample(name: str, **options: Any) -> Journal:
    return read([(SAMPLES / name).read_bytes()], source=name, **options)


def text(*lines: str, **options: Any) -> Journal:
    return read(["\n".join(lines).encode()], source="t", **options)


def names(journal: Journal) -> list[str]:
    return [str(each.name) for each in journal.marks]


@pytest.mark.parametrize("name", ALL_SAMPLES)
def test_a_sample_says_that_it_is_synthetic_and_names_nobody(name: str) -> None:
    content = (SAMPLES / name).read_text()
    assert "SYNTHETIC" in content
    assert not re.search(r"(?<![\d.])(?:10|172\.(?:1[6-9]|2\d|3[01])|192\.168)(?:[.-]\d{1,3}){3}\b", content)
    assert not re.search(r"\b\d{12}\.dkr", content)


@pytest.mark.parametrize(("family", "name"), WHOLE.items())
def test_the_family_is_told_by_the_journal(family: Family, name: str) -> None:
    journal = sample(name)
    assert journal.family is family
    assert journal.family_proof is not None
    line = int(journal.family_proof.place.removeprefix("line "))
    assert journal.family_proof.text.split(": ", 1)[1][:40] in (SAMPLES / name).read_text().splitlines()[line - 1]


@pytest.mark.parametrize(("family", "name"), WHOLE.items())
def test_the_marks_of_a_whole_boot_are_those_of_the_table(family: Family, name: str) -> None:
    """Each rule that the table has for a family is met by that family's sample, and by the line that it is about."""
    lines = (SAMPLES / name).read_text().splitlines()
    journal = sample(name)
    found = {each.name: each for each in journal.marks if not each.trouble}
    # A refresh is trouble for some and not there for most; the snap-race sample has it too.
    for rule in RULES:
        if family in rule.families and not rule.trouble:
            assert rule.name in found, rule.name
            assert rule.pattern.search(lines[found[rule.name].line - 1].split(": ", 1)[1]), rule.name
    assert len(journal.boots) == 1
    assert journal.boots[0].from_start


def test_every_rule_of_trouble_has_its_line() -> None:
    """One line for each, for those that no sample has."""
    by_sample = {each.name for name in ALL_SAMPLES for each in sample(name).marks if each.trouble}
    lines = {
        Name.REGISTRATION_FAILED: 'kubelet[1]: E0624 1 s.go:92] "Unable to register node with API server" err="no"',
        Name.DRIVER_FAILED: "modprobe[7]: modprobe: FATAL: Module nvidia not found in directory /lib/modules/5.15",
        Name.XID: "kernel: NVRM: Xid (PCI:0000:00:1e): 79, pid='<unknown>', GPU has fallen off the bus.",
        Name.OUT_OF_MEMORY: "kernel: Memory cgroup out of memory: Killed process 4711 (python3) total-vm:1kB",
    }
    details = {Name.XID: "79", Name.OUT_OF_MEMORY: "python3"}
    for name, line in lines.items():
        [mark] = text(f"Jun 24 20:42:30 ip-1 {line}").marks
        assert (mark.name, mark.trouble) == (name, True)
        assert mark.detail == details.get(name, "")
    assert {each.name for each in RULES if each.trouble} == by_sample | set(lines)


@pytest.mark.parametrize(
    ("line", "mark", "detail"),
    [
        ("systemd[1]: Started Kubernetes Kubelet.", Name.KUBELET_STARTED, ""),
        ("systemd[1]: Started kubelet.service - Kubernetes Kubelet.", Name.KUBELET_STARTED, ""),
        ("systemd[1]: Started Kubelet.", Name.KUBELET_STARTED, ""),
        (
            "systemd[1]: Started snap.kubelet-eks.daemon.service - Service for snap application kubelet-eks.daemon.",
            Name.KUBELET_STARTED,
            "",
        ),
        ("systemd: Reached target Network.", Name.NETWORK_UP, ""),
        ("systemd[1]: Reached target network.target - Network.", Name.NETWORK_UP, ""),
        ("systemd[1]: Finished nodeadm-run.service - EKS Nodeadm Run.", Name.NODEADM_RUN_FINISHED, ""),
        ("systemd[1]: Finished EKS Nodeadm Run.", Name.NODEADM_RUN_FINISHED, ""),
        (
            "kernel: NVRM: loading NVIDIA UNIX x86_64 Kernel Module  525.105.17  Tue Mar 28 18:02:59 UTC 2023",
            Name.DRIVER_LOADED,
            "525.105.17",
        ),
        (
            "kernel: NVRM: loading NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build",
            Name.DRIVER_LOADED,
            "580.95.05",
        ),
        ("kubelet: I0624 1 kubelet_node_status.go:70] Successfully registered node ip-1", Name.NODE_REGISTERED, "ip-1"),
        (
            'kubelet-eks.daemon[9]: I0624 1 s.go:1] "Successfully registered node" node="n.ec2.internal"',
            Name.NODE_REGISTERED,
            "n.ec2.internal",
        ),
        (
            'kubelet[1]: I0624 Got registration request from device plugin with resource name "nvidia.com/gpu"',
            Name.DEVICE_PLUGIN_REGISTERED,
            "nvidia.com/gpu",
        ),
        (
            'cloud-init[9]: snap "kubelet-eks" has "refresh-snap" change in progress',
            Name.SNAP_IN_PROGRESS,
            "kubelet-eks",
        ),
        ("systemd: Unit kubelet.service entered failed state.", Name.UNIT_FAILED, "kubelet.service"),
        ("cloud-init: Jun 24 cloud-init[1]: Cloud-init v. 19.3-46.amzn2 finished at X. Datasource Y.  Up 22.73 seconds",
         Name.CLOUD_INIT_FINISHED, "22.73"),
    ],
)  # fmt: skip
def test_wordings_of_old_and_new_versions(line: str, mark: Name, detail: str) -> None:
    [found] = text(f"Jun 24 20:42:30 host {line}").marks
    assert (found.name, found.detail) == (mark, detail)


@pytest.mark.parametrize(
    "line",
    [
        "systemd[1]: Reached target Network (Pre).",
        "systemd[1]: Stopped Kubernetes Kubelet.",
        "sshd[1]: Started Kubernetes Kubelet.",
        "snapd[702]: autorefresh.go:536: auto-refresh: all snaps are up-to-date",
        'kubelet[1]: I0624 1 s.go:1] "Attempting to register node" node="n"',
        "kernel: NVRM: API mismatch: the client has the version 525.105.17",
        "cloud-init[1]: Linux version 5.10 is what the script echoed",
    ],
)
def test_near_misses(line: str) -> None:
    assert text(f"Jun 24 20:42:30 host {line}").marks == ()


# --- forms and times


@pytest.mark.parametrize(
    ("line", "at", "resolution", "pid"),
    [
        ("Jun 24 20:42:30 h systemd[1]: m", datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC), 1.0, 1),
        ("Jun  4 20:42:30 h systemd: m", datetime(2023, 6, 4, 20, 42, 30, tzinfo=UTC), 1.0, None),
        ("Jun 24 20:42:30.123456 h systemd[1]: m", datetime(2023, 6, 24, 20, 42, 30, 123456, UTC), 1e-6, 1),
        ("2022-06-24T20:42:30+0000 h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, tzinfo=UTC), 1.0, 1),
        ("2022-06-24T22:42:30+02:00 h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, tzinfo=UTC), 1.0, 1),
        ("2022-06-24T20:42:30.123456Z h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, 123456, UTC), 1e-6, 1),
        ("2022-06-24T20:42:30,123+0000 h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, 123000, UTC), 1e-3, 1),
        ("Fri 2022-06-24 20:42:30 UTC h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, tzinfo=UTC), 1.0, 1),
        ("Fri 2022-06-24 20:42:30.5 GMT h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, 500000, UTC), 0.1, 1),
        ("Fri 2022-06-24 22:42:30 +02 h systemd[1]: m", datetime(2022, 6, 24, 20, 42, 30, tzinfo=UTC), 1.0, 1),
        ("Fri 2022-06-24 22:42:30 CEST h systemd[1]: m", None, 1.0, 1),
        ("[   12.345678] h systemd[1]: m", None, 1e-6, 1),
    ],
)
def test_forms_of_time(line: str, at: datetime | None, resolution: float, pid: int | None) -> None:
    [entry] = entries([line.encode()], year=2023)
    assert (entry.at, entry.resolution) == (at, pytest.approx(resolution))
    assert (entry.host, entry.identifier, entry.pid, entry.message) == ("h", "systemd", pid, "m")


def test_a_zone_that_is_only_a_name_needs_the_caller() -> None:
    [entry] = entries([b"Fri 2022-06-24 22:42:30 CEST h a: m"], zone=timezone(timedelta(hours=2)))
    assert entry.at == datetime(2022, 6, 24, 20, 42, 30, tzinfo=UTC)


def test_monotonic_and_kernel_clock() -> None:
    [first, second] = entries([b"[   12.345678] h kernel: m\nJun 24 20:42:30 h kernel: [   14.062975] ACPI Warning"])
    assert first.monotonic == pytest.approx(12.345678)
    assert (second.monotonic, second.message) == (pytest.approx(14.062975), "ACPI Warning")


def test_the_year_and_the_zone_are_found_in_the_messages() -> None:
    journal = sample(WHOLE[Family.AL2])
    first = journal.boots[0].first
    assert first == datetime(2023, 6, 24, 20, 42, 10, tzinfo=UTC)
    assert first is not None
    assert first.utcoffset() == timedelta(hours=9)
    assert (journal.year_known, journal.zone_known) == (From.PREFIX, From.PREFIX)


def test_what_the_caller_knows_comes_first_and_new_year_is_gone_over() -> None:
    lines = ("Dec 31 23:59:59 h a: m", "Jan  1 00:00:01 h a: m")
    [one, two] = entries(["\n".join(lines).encode()], year=2019)
    assert (one.at, two.at) == (
        datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC),
    )
    [one, two] = entries(["\n".join(lines).encode()], reference=datetime(2024, 1, 5, tzinfo=UTC))
    assert one.at is not None
    assert one.at.year == 2023
    journal = text(*lines)
    assert (journal.year_known, journal.zone_known) == (From.UNKNOWN, From.UNKNOWN)
    assert sample(WHOLE[Family.UBUNTU]).year_known is None  # its lines say it


def test_the_year_is_found_behind_the_first_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint stands later than entries that are given before it; up to `AHEAD` of them wait for it."""
    lines = ["Jun 24 20:42:30 h a: m"] * 30
    lines.append(
        "Jun 24 20:42:31 h cloud-init: Cloud-init v. 2 running 'init' at Fri, 24 Jun 2022 20:42:31 +0000. Up 1 seconds."
    )
    assert {each.at.year for each in entries(["\n".join(lines).encode()]) if each.at} == {2022}
    monkeypatch.setattr(journal_entries, "AHEAD", 10)
    assert 2022 not in {each.at.year for each in entries(["\n".join(lines).encode()]) if each.at}


def test_a_message_tells_a_finer_time_than_its_line() -> None:
    marks = {each.name: each for each in sample(WHOLE[Family.AL2]).marks}
    registered, ready = marks[Name.NODE_REGISTERED], marks[Name.CONTAINERD_READY]
    assert registered.at == datetime(2023, 6, 24, 20, 42, 29, 20003, UTC)
    assert ready.at == datetime(2023, 6, 24, 20, 42, 23, 502345, UTC)
    assert {registered.resolution, ready.resolution} == {1e-6}
    assert {registered.clock, ready.clock} == {"message"}
    assert marks[Name.CLOUD_INIT_LOCAL].monotonic == pytest.approx(8.10)
    # A time that is not near the line's is about something else.
    late = 'Jun 24 20:42:30 h containerd: time="2023-06-24T20:41:30.5Z" msg="containerd successfully booted in 0.1s"'
    assert text(late, year=2023).marks[0].at == datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)
    other = text(
        'Jun 24 20:42:30 h kubelet[1]: I0624 20:40:10.020003 1 s.go:1] "Successfully registered node" node="n"',
        year=2023,
    )
    assert other.marks[0].at == datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)


def test_the_json_form_has_both_clocks() -> None:
    journal = sample("journal-al2023.json")
    plain = sample(WHOLE[Family.AL2023])
    assert names(journal) == names(plain)
    assert journal.forms == {"json": 41}
    assert (journal.family, journal.unread) == (Family.AL2023, 0)
    kernel = journal.marks[0]
    # journald took the kernel's first message over 3.656 s after the kernel wrote it.
    assert (kernel.name, kernel.clock, kernel.monotonic) == (Name.KERNEL_START, "kernel", 0.0)
    assert kernel.at == datetime(2025, 2, 2, 3, 47, 37, 90000, UTC)
    assert journal.boots[0].boot_id == "1" * 32
    assert [each.name for each in journal.marks if each.name is Name.PERSISTENCED_STARTED]  # a list of bytes


def test_odd_json_entries() -> None:
    lines = [
        {"MESSAGE": None, "__REALTIME_TIMESTAMP": "1738468060746000"},
        {"MESSAGE": [72, 105, 255], "_PID": ["7", "8"], "PRIORITY": 3},
        {"MESSAGE": ["first", "second"], "_HOSTNAME": 5, "_PID": "x", "__REALTIME_TIMESTAMP": "9" * 19},
        {"MESSAGE": {"a": 1}, "SYSLOG_IDENTIFIER": [1, 2], "_COMM": None},
        {"MESSAGE": "\ud800 half", "_PID": -1, "PRIORITY": True},
    ]
    raw = "\n".join(("\x1e" if n else "") + json.dumps(each) for n, each in enumerate(lines))
    found = list(entries([raw.encode()]))
    assert [each.message for each in found] == ["", "Hi\N{REPLACEMENT CHARACTER}", "first", "", "? half"]
    assert [each.pid for each in found] == [None, 7, None, None, None]
    assert found[1].priority == 3
    assert found[2].at is None
    assert text('{"some": "other json"}', "[]", "{", '"x"').unread == 4


def test_unread_lines_are_counted_and_kept() -> None:
    journal = text(
        "no journal", "", "Jun 24 20:42:30 h a: m", "  goes on", "Foo 99 20:42:30 h a: m", "Jun 31 20:42:30 h a: m"
    )
    assert (journal.entries, journal.unread, journal.lines) == (1, 3, 6)
    assert [each.place for each in journal.unread_kept] == ["line 1", "line 5", "line 6"]


def test_a_message_of_several_lines() -> None:
    [first, second] = entries([b"Jun 24 20:42:30 h a[1]: one\n                two\n\tthree\nJun 24 20:42:31 h a: four"])
    assert first.message == "one\ntwo\nthree"
    assert (second.line, second.message) == (4, "four")


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_blocks_of_any_size_give_the_same(size: int) -> None:
    raw = (SAMPLES / WHOLE[Family.UBUNTU]).read_bytes()
    whole = read([raw])
    assert read(raw[at : at + size] for at in range(0, len(raw), size)) == whole


# --- boots


def test_boots_of_text_journals() -> None:
    journal = text(
        "-- Logs begin at Sat 2023-06-24 20:00:00 UTC. --",
        f"-- Boot {'a' * 32} --",
        "Jun 24 20:42:30 h kernel: Linux version 5.10",
        "Jun 24 20:42:31 h systemd[1]: Reached target Network.",
        f"-- Boot {'b' * 32} --",
        "Jun 24 21:00:00 h kernel: Linux version 5.11",
        "-- Reboot --",
        "Jun 24 22:00:00 h kernel: Linux version 5.12",
        "-- No entries --",
    )
    assert [(each.number, each.boot_id[:1], each.entries) for each in journal.boots] == [
        (0, "a", 2),
        (1, "b", 1),
        (2, "", 1),
    ]
    assert [each.detail for each in journal.marks if each.name is Name.KERNEL_START] == ["5.10", "5.11", "5.12"]
    assert journal.unread == 0


def test_boots_of_a_syslog_are_told_by_the_kernel() -> None:
    journal = sample("journal-al2-no-sandbox-image.log")
    assert [each.entries for each in journal.boots] == [5, 16]
    [one, two] = [each.at for each in journal.marks if each.name is Name.KERNEL_START]
    assert one is not None
    assert two is not None
    assert (one.year, two.year) == (2023, 2024)


def test_what_rsyslog_writes_before_the_kernel_is_the_same_boot() -> None:
    """The runtime journal's own line comes first in /var/log/messages."""
    assert len(sample(WHOLE[Family.AL2]).boots) == 1


def test_the_next_boots_first_line_does_not_make_a_crashed_one_longer() -> None:
    journal = text(
        "Jun 24 20:00:00 h kernel: Linux version 1",
        "Jun 24 20:00:05 h a: m",
        "Jun 24 21:00:00 h journal: Runtime journal is using 8.0M",
        "Jun 24 21:00:00 h kernel: Linux version 2",
        year=2023,
    )
    assert [each.last for each in journal.boots] == [
        datetime(2023, 6, 24, 20, 0, 5, tzinfo=UTC),
        datetime(2023, 6, 24, 21, 0, 0, tzinfo=UTC),
    ]


def test_boots_of_json_may_be_interleaved() -> None:
    lines = [{"MESSAGE": "m", "_BOOT_ID": each} for each in "aabbab"]
    found = [each.boot for each in entries(["\n".join(map(json.dumps, lines)).encode()])]
    assert found == [0, 0, 1, 1, 0, 1]


def test_an_unknown_family_is_unknown() -> None:
    journal = text("Jun 24 20:42:30 h kernel: Linux version 6.1.0-13-amd64 (debian-kernel) (gcc-12 (Debian 12.2.0-14))")
    assert (journal.family, journal.family_proof) == (Family.UNKNOWN, None)


def test_programs() -> None:
    assert program("kubelet-eks.daemon") == "kubelet"
    assert program("(nodeadm)") == "nodeadm"
    assert {each.name for each in rules_for("sshd")} <= {each.name for each in RULES if not each.programs}


# --- pulls


def test_pulls_of_all_wordings() -> None:
    old = sample(WHOLE[Family.AL2]).pulls
    assert [(each.ref, each.seconds, each.size, each.ok) for each in old] == [
        ("registry.example/eks/kube-proxy:v1.26.4", 1.75, None, True),
        ("registry.example/amazon-k8s-cni:v1.12.6", 4.2, None, True),
    ]
    [new] = sample(WHOLE[Family.AL2023]).pulls
    assert (new.seconds, new.size, new.by) == (1.498765, 31412043, "containerd")
    assert new.start == datetime(2025, 2, 2, 3, 48, 2, 100000, UTC)
    [event] = sample(WHOLE[Family.UBUNTU]).pulls
    assert (event.seconds, event.size, event.by) == (62.3, 9512345678, "kubelet")
    failed, done = sample(WHOLE[Family.BOTTLEROCKET]).pulls
    assert (failed.ok, failed.seconds, done.ok, done.seconds) == (False, 3.0, True, 2.0)


def test_a_pull_without_its_beginning_or_end() -> None:
    head = "Jun 24 20:42:30 h containerd[1]: level=info msg="
    journal = text(
        head + r'"PullImage \"a:1\" returns image reference \"sha256:0\""', head + r'"PullImage \"b:1\""', year=2023
    )
    assert [(each.ref, each.start is None, each.end is None, each.ok) for each in journal.pulls] == [
        ("a:1", True, False, True),
        ("b:1", False, True, None),
    ]


# --- issues, trouble, limits


def test_known_issues_are_looked_for_in_every_form() -> None:
    assert [each.issue.id for each in sample("journal-ubuntu-snap-race.log").issues] == ["K29"]
    message = 'error: snap "kubelet-eks" has "auto-refresh" change in progress'
    [found] = text(json.dumps({"MESSAGE": message, "SYSLOG_IDENTIFIER": "cloud-init"})).issues
    assert found.issue.id == "K29"
    assert sample("journal-ubuntu-snap-race.log", issues=[]).issues == ()


def test_repeated_marks_are_counted() -> None:
    lines = [f"Jun 24 20:42:30 h kernel: NVRM: Xid (PCI:0000:00:1e): {number % 40}, pid=1" for number in range(200)]
    journal = text(*lines)
    assert len(journal.marks) == 20  # of one kind, with different details
    assert {each.count for each in journal.marks} == {5}
    assert journal.marks[0].proof.place == "line 1"


def test_as_dict_is_plain_data() -> None:
    for name in ALL_SAMPLES:
        assert json.loads(json.dumps(sample(name).as_dict()))["lines"] > 10


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [line for name in ALL_SAMPLES for line in (SAMPLES / name).read_bytes().splitlines()]
        + [b"\x1e{", b"-- Boot ", b" more", b"Jun 24 20:42:30 h kernel: Linux version 1", b'{"MESSAGE":[1,999]}']
    ),
    st.text(max_size=40).map(lambda each: b"Feb 29 23:59:60 h containerd: " + each.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(PIECES, max_size=25), st.integers(1, 500), st.sampled_from([None, 2023, 1, 9999]))
def test_any_bytes_give_a_journal(pieces: list[bytes], size: int, year: int | None) -> None:
    raw = b"\n".join(pieces)
    journal = read((raw[at : at + size] for at in range(0, len(raw), size)), year=year)
    json.dumps(journal.as_dict())
    assert sum(each.entries for each in journal.boots) == journal.entries
    assert journal.unread + journal.entries <= journal.lines == len(raw.removesuffix(b"\n").split(b"\n")) - (raw == b"")
    assert all(isinstance(each, Entry) for each in entries([raw], year=year))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ALL_SAMPLES), st.integers(0, 20_000), st.integers(0, 3))
def test_a_cut_sample_gives_a_part_of_its_marks(name: str, cut: int, flip: int) -> None:
    raw = (SAMPLES / name).read_bytes()
    part = bytearray(raw[: cut % len(raw)])
    whole = {(each.name, each.line) for each in read([raw]).marks}
    found = {(each.name, each.line) for each in read([bytes(part)]).marks}
    last = bytes(part).count(b"\n") + 1
    assert {each for each in found if each[1] < last} <= whole
    for each in range(flip):
        if part:
            part[(cut * (each + 7)) % len(part)] ^= 0x5A
    read([bytes(part)])


@pytest.mark.parametrize(
    "line",
    [
        b"Jun 24 20:42:30 h containerd: " + b'PullImage \\"' * 50_000,
        b"Jun 24 20:42:30 h systemd[1]: " + b"Failed to start " * 50_000,
        b"Jun 24 20:42:30 h kernel: NVRM: Xid (PCI:" + b"0" * 800_000,
        b"Jun 24 20:42:30 h kernel: NVRM: loading NVIDIA UNIX" + b" " * 800_000,
        b"Jun 24 20:42:30 " + b"h" * 900_000,
        b"{" * 900_000,
        b'{"MESSAGE":' + b"[" * 500_000,
        b"[" + b" " * 900_000 + b"1.000000] h a: m",
        b"Jun 24 20:42:30 h cloud-init: " + b"Cloud-init v. 1 finished at " * 30_000,
        b"Jun 24 20:42:30 h containerd: " + b"Pulled image \"a\" with image id , size " * 20_000,
    ],
    ids=range(10),
)  # fmt: skip
def test_a_hostile_line_costs_little(line: bytes) -> None:
    started = time.process_time()
    journal = read([line + b"\n"] * 3)
    assert journal.lines == 3
    assert time.process_time() - started < 3


def test_memory_does_not_grow_with_the_journal() -> None:
    line = (
        b'Jun 24 20:42:%02d h kubelet[1]: E0624 20:42:%02d.000000 1 s.go:1] "failed to get sandbox image \\"a:%d\\""\n'
    )
    block = b"".join(line % (n % 60, n % 60, n) for n in range(2_000))

    def peak(blocks: int) -> int:
        tracemalloc.start()
        read(block for _ in range(blocks))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(12) < peak(4) + (1 << 20)
