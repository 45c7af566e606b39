"""What stands before a line. The lines are synthetic: each form is written from the documentation of what writes it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.klogline import Stamp
from leptonami.readers.prefixes import Stripped, begins, strip

LINE = b"I0624 20:42:30.904516       1 cluster.go:155] ip-10-0-2-185.ec2.internal for removal"
AT = datetime(2023, 6, 24, 20, 42, 30, 904516, UTC)
STAMP = Stamp(6, 24, ((20 * 60 + 42) * 60 + 30) * 1_000_000)


@pytest.mark.parametrize(
    ("prefix", "kinds", "at", "origin"),
    [
        (b"", (), None, None),
        (b"2023-06-24T20:42:30.904516789Z stderr F ", ("cri",), AT, None),
        (b"2023-06-24T22:42:30.904516+02:00 stderr F ", ("cri",), AT, None),
        (b"2023-06-24T20:42:30.904516Z stderr F:tag ", ("cri",), AT, None),
        (b"2023-06-24T20:42:30.904516Z ", ("timestamp",), AT, None),
        (b"2023-06-24T20:42:30.904516Z\t", ("timestamp",), AT, None),
        (b"[pod/ca-1/cluster-autoscaler] ", ("kubectl-prefix",), None, "pod/ca-1/cluster-autoscaler"),
        (b"[pod/ca-1/ca] 2023-06-24T20:42:30.904516Z ", ("kubectl-prefix", "timestamp"), AT, "pod/ca-1/ca"),
        (b"2023-06-24T20:42:30.904516Z [pod/ca-1/ca] ", ("timestamp", "kubectl-prefix"), AT, "pod/ca-1/ca"),
        (b"Jun 24 20:42:30 ip-10-0-2-185 kubelet[4321]: ", ("journal",), None, "ip-10-0-2-185/kubelet"),
        (b"<13>Jun 24 20:42:30 host kubelet[4321]: ", ("priority", "journal"), None, "host/kubelet"),
        (
            b"2023-06-24T20:42:30.904516+0000 host snap.kubelet-eks.daemon[1]: ",
            ("journal",),
            AT,
            "host/snap.kubelet-eks.daemon",
        ),
        (b"2023-06-24T20:42:30.904516+00:00 host kubelet: ", ("journal",), AT, "host/kubelet"),
        (b"Sat 2023-06-24 20:42:30.904516 UTC host kubelet[1]: ", ("journal",), AT, "host/kubelet"),
        (b"Sat 2023-06-24 22:42:30.904516 CEST host kubelet[1]: ", ("journal",), None, "host/kubelet"),
        (b'{app="ca", pod="ca-1", container="ca"} ', ("labels",), None, "pod/ca-1/ca"),
        (b'2023-06-24T20:42:30.904516Z {app="a\\"b"}\t', ("timestamp", "labels"), AT, '{app="a\\"b"}'),
        (b"2023-06-24T20:42:30.904516Z {} ", ("timestamp", "labels"), AT, None),
        (b"1687639350904516000\t2023-06-24T20:42:30.904516Z\t", ("timestamp", "timestamp"), AT, None),
        (b"ca-1 cluster-autoscaler ", ("words",), None, "ca-1/cluster-autoscaler"),
        (b"kube-system ca-1 ca 2023-06-24T20:42:30.904516Z ", ("words", "timestamp"), AT, "kube-system/ca-1/ca"),
        ("ca-1 › ca | ".encode(), ("words",), None, "ca-1/ca"),
        (b"2023-06-24T20:42:30.904516+00:00 ip-1-application.log ", ("timestamp", "words"), AT, "ip-1-application.log"),
        (b"\x1b[32mca-1\x1b[0m \x1b[1;31mca\x1b[0m ", ("colour", "words"), None, "ca-1/ca"),
        (b"# ", ("mark",), None, None),
        (b"> ", ("mark",), None, None),
        (b"// ", ("mark",), None, None),
        (b"//", ("mark",), None, None),
        (b"> > ", ("mark", "mark"), None, None),
        (b"    ", ("mark",), None, None),
        (b"17:", ("mark",), None, None),
        (b"17-", ("mark",), None, None),
        (b"    17\t", ("mark",), None, None),
        (b"logs/ca.log:17:", ("mark",), None, None),
        (b"\t2023-06-24T20:42:30.904516Z stderr F ", ("mark", "cri"), AT, None),
        (b"2023-06-24 22:42:30.904 ", ("mark",), None, None),
        (b"17:2023-06-24T20:42:30.904516Z stderr F ", ("mark", "cri"), AT, None),
    ],
)
def test_each_form(prefix, kinds, at, origin):
    found = strip(prefix + LINE)
    assert found.rest == LINE
    assert (found.kinds, found.at, found.origin) == (kinds, at, origin)
    assert begins(found.rest)


def test_journald_without_a_year_keeps_the_stamp():
    assert strip(b"Jun 24 20:42:30 h kubelet[1]: " + LINE).stamp == STAMP
    assert strip(b"Jun  4 20:42:30.25 h kernel: x").stamp == Stamp(6, 4, STAMP.micros + 250_000)
    assert strip(b"Jun 31 20:42:30 h kernel: x").kinds == ()


def test_cri_says_stream_and_whether_the_line_goes_on():
    found = strip(b"2023-06-24T20:42:30.904516Z stdout P I0624 20:42:30.904516       1 a.go:1] the beg")
    assert (found.stream, found.partial) == ("stdout", True)
    assert strip(b"2023-06-24T20:42:30.904516Z stdout F inning").partial is False
    assert strip(b"2023-06-24T20:42:30.904516Z stdout F").rest == b""
    assert strip(b"2023-06-24T20:42:30.904516Z stdout F ").rest == b""


@pytest.mark.parametrize(
    ("line", "rest", "partial", "origin"),
    [
        (b'{"log":"a \\u00e9\\n","stream":"stderr","time":"2023-06-24T20:42:30.904516Z"}', "a é", False, None),
        (b'{"log":"a","stream":"stderr","time":"2023-06-24T20:42:30.904516Z"}', "a", True, None),
        (b'{"time":"2023-06-24T20:42:30.904516Z","stream":"stderr","_p":"F","log":"a"}', "a", False, None),
        (b'{"time":"2023-06-24T20:42:30.904516Z","stream":"stderr","_p":"P","log":"a"}', "a", True, None),
        (
            b'{"@timestamp":"2023-06-24T20:42:30.904516Z","stream":"stderr","log":"a",'
            b'"kubernetes":{"pod_name":"ca-1","container_name":"ca"}}',
            "a",
            False,
            "pod/ca-1/ca",
        ),
    ],
)
def test_json_of_containers(line, rest, partial, origin):
    found = strip(line)
    assert found == Stripped(rest.encode(), AT, origin, "stderr", partial, kinds=("docker",))


@pytest.mark.parametrize(
    "line",
    [
        b"17: nothing known",
        b"# a comment",
        b"pod container nothing known",
        b"    indented",
        b"\tgoroutine 1 [running]:",
        b"[1] a list",
        b"[pod/a] too short",
        b'{"ts":1687639350904.5,"msg":"m"}',
        b'{"log":5}',
        b'{"log":"cut',
        b'{"log":' + b"[" * 100_000,
        b"{not labels} x",
        b"2023-06-31T20:42:30Z no such day",
        b"2023-06-24 20:42:30 of no form we know",
        b"Jun 24 20:42:30 nothing like a unit",
        b"12345678901234567890\tx",
        b"",
    ],
)
def test_ordinary_text_stays(line):
    found = strip(line)
    assert (found.rest, found.kinds, found.mark) == (line, (), b"")


def test_text_of_a_container_is_no_host_and_unit():
    found = strip(b"2023-06-24T20:42:30.904516Z some words: and more")
    assert (found.rest, found.origin) == (b"some words: and more", None)


def test_marks_are_told():
    assert strip(b"# " + LINE).mark == b"# "
    assert strip(b"ca-1 ca " + LINE).mark == b"ca-1 ca "


PIECES = [
    b"2023-06-24T20:42:30.904516Z stderr F ",
    b"2023-06-24T20:42:30.904516Z ",
    b"[pod/a/b] ",
    b"# ",
    b"17:",
    b"\t",
    b'{a="b"} ',
    b"\x1b[0m",
    b"Jun 24 20:42:30 h u[1]: ",
    b"word ",
]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=5))
def test_any_pile_of_prefixes_leaves_the_line(pieces):
    """Words are only taken in their usual place, right before the line or its time: not under a mark of other kind."""
    if b"word " in pieces[:-1]:
        pieces = [each for each in pieces if each != b"word "]
    assert strip(b"".join(pieces) + LINE).rest == LINE


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=8))
def test_arbitrary_bytes(pieces):
    line = b"".join(pieces)
    found = strip(line)
    assert len(found.rest) <= len(line)
    assert b"\x1b" in line or found.kinds or found.rest == line
    assert found.at is None or found.at.tzinfo is not None


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", [*PIECES, b"a ", b"a", b" ", b'{"log":"', b'{a="b\\', b'a="b",', b"# ", b"\x1b[", b"\x1b]"]
)
def test_megabytes_of_beginnings(unit):
    strip(unit * (2_000_000 // len(unit)))
    strip(b'{a="b",' + unit * (2_000_000 // len(unit)))


@pytest.mark.parametrize(
    ("wrapped", "at", "kind"),
    [
        ({"labels": {"app": "ca"}, "line": LINE.decode(), "timestamp": "2023-06-24T20:42:30.904516789Z"}, AT, "loki"),
        ({"MESSAGE": LINE.decode(), "__REALTIME_TIMESTAMP": "1687639350904516", "_HOSTNAME": "h"}, AT, "journal"),
        ({"MESSAGE": LINE.decode(), "__REALTIME_TIMESTAMP": "9" * 40}, None, "journal"),
    ],
)
def test_json_of_logcli_and_of_journalctl(wrapped: dict[str, object], at: datetime | None, kind: str) -> None:
    found = strip(json.dumps(wrapped).encode())
    assert found.rest == LINE
    assert (found.at, found.kinds) == (at, (kind,))


@pytest.mark.parametrize("wrapped", [{"line": 7, "timestamp": "x"}, {"MESSAGE": [73, 48], "__REALTIME_TIMESTAMP": "1"}])
def test_json_that_has_no_line_stays(wrapped: dict[str, object]) -> None:
    text = json.dumps(wrapped).encode()
    assert strip(text).rest == text
