"""One line of klog in its three forms. Lines of the recorded logs, and synthetic ones that say so."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.klog import Parsed, Stamp, parse
from leptonami.readers.klogfields import structured, unquote

RECORDED = (
    b"I0624 20:42:30.904516       1 pre_filtering_processor.go:67] Skipping ip-10-0-2-252.ec2.internal"
    b" - node group min size reached (current: 1, min: 1)"
)

HEAD = RECORDED[: RECORDED.index(b"Skipping")]


def test_a_recorded_line():
    assert parse(RECORDED) == Parsed(
        severity="I",
        stamp=Stamp(6, 24, ((20 * 60 + 42) * 60 + 30) * 1_000_000 + 904516),
        at=None,
        thread=1,
        file="pre_filtering_processor.go",
        line=67,
        message="Skipping ip-10-0-2-252.ec2.internal - node group min size reached (current: 1, min: 1)",
        fields={},
    )


def test_a_recorded_structured_line():
    line = parse(
        b'I0624 20:42:30.905398       1 binder.go:892] "All bound volumes for pod match with node"'
        b' pod="grafana/grafana-d6bc8f9-phs2m" node="ip-10-0-2-252.ec2.internal"'
    )
    assert line is not None
    assert line.message == "All bound volumes for pod match with node"
    assert line.fields == {"pod": "grafana/grafana-d6bc8f9-phs2m", "node": "ip-10-0-2-252.ec2.internal"}


def synthetic(message: str) -> Parsed:
    line = parse(b"E1231 23:59:59.999999   12138 dir/some_file.go:7] " + message.encode())
    assert line is not None
    assert (line.severity, line.file, line.line, line.thread) == ("E", "some_file.go", 7, 12138)
    return line


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            '"m" n=12 f=-1.5 yes=true no=false nil=<nil> null=null',
            {"n": 12, "f": -1.5, "yes": True, "no": False, "nil": None, "null": None},
        ),
        ('"m" err="a \\"quoted\\" one: \\u00e9\\n"', {"err": 'a "quoted" one: é\n'}),
        ('"m" pods=["ns/a","ns/b"] x={"a":{"b":[1]}}', {"pods": ["ns/a", "ns/b"], "x": {"a": {"b": [1]}}}),
        (
            '"m" obj=&{Name:foo Bar:baz} map=map[a:b c:d] last=1m0s',
            {"obj": "&{Name:foo Bar:baz}", "map": "map[a:b c:d]", "last": "1m0s"},
        ),
        ('"m" pods=[ns/a ns/b] y=1', {"pods": "[ns/a ns/b]", "y": 1}),
        ('"m" cut={"a":1,"b', {"cut": '{"a":1,"b'}),
        ('"m" cut="half', {"cut": "half"}),
        ('"m" diff=<\n\tone\n\ttwo\n > after=1', {"diff": "one\ntwo", "after": 1}),
        ('"m" a.b/c-d="x"', {"a.b/c-d": "x"}),
        ('"m" big=123456789012345678901234567890', {"big": "123456789012345678901234567890"}),
        ('"m"', {}),
    ],
)
def test_fields_synthetic(message, fields):
    line = synthetic(message)
    assert line.message == "m"
    assert line.fields == fields
    assert list(line.fields) == list(fields)


@pytest.mark.parametrize("message", ['"quoted" but not structured', '"open', 'plain key="value"', '"m"key=1', ""])
def test_ordinary_messages_synthetic(message):
    line = synthetic(message)
    assert line.message == message
    assert line.fields == {}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"I0624",
        b"...",
        b"X0624 20:42:30.904516       1 a.go:1] x",
        b"I1324 20:42:30.904516       1 a.go:1] no such month",
        b"I0230 20:42:30.904516       1 a.go:1] no such day",
        b"I0624 24:42:30.904516       1 a.go:1] no such hour",
        b"I0624 20:42:30.904516       1 a.go: x",
        b" I0624 20:42:30.904516       1 a.go:1] indented",
        b'{"ts":1,"v":0}',
        b'{"msg":5}',
        b"[1]",
        b'{"msg":"cut',
        b"{" * 100_000,
        b'{"msg":"m","a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_line_of_klog(line):
    assert parse(line) is None


def test_the_leap_day_is_a_day():
    line = parse(b"I0229 00:00:00.000000       1 a.go:1] x")
    assert line is not None
    assert line.stamp == Stamp(2, 29, 0)


@pytest.mark.parametrize(
    "ts",
    [
        "1687639350.904516",
        "1687639350904.516",
        "1687639350904516",
        "1687639350904516000",
        '"2023-06-24T20:42:30.904516Z"',
    ],
)
def test_json_synthetic(ts):
    line = parse(
        b'{"ts":%s,"caller":"cluster/cluster.go:155","msg":"ip-1 for removal","v":4,"pod":{"name":"a"}}' % ts.encode()
    )
    assert line is not None
    assert line.at is not None
    assert abs(line.at - datetime(2023, 6, 24, 20, 42, 30, 904516, UTC)).total_seconds() < 1e-3
    assert (line.severity, line.file, line.line, line.stamp, line.thread) == ("I", "cluster.go", 155, None, None)
    assert line.message == "ip-1 for removal"
    assert line.fields == {"v": 4, "pod": {"name": "a"}}


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ('{"msg":"m","v":0}', "I"),
        ('{"msg":"m","err":"x"}', "E"),
        ('{"msg":"m","err":"x","v":0}', "I"),
        ('{"msg":"m","level":"WARN"}', "W"),
        ('{"msg":"m","level":"fatal"}', "F"),
        ('{"msg":"m","level":7}', "I"),
    ],
)
def test_json_severity_synthetic(text, severity):
    line = parse(text.encode())
    assert line is not None
    assert line.severity == severity


@pytest.mark.parametrize(
    "ts", ["1e400", "-1e400", "NaN", "-1e300", "1e17", "true", "null", "[]", '"yesterday"', "9" * 400]
)
def test_json_times_that_are_none_synthetic(ts):
    line = parse(b'{"msg":"m","ts":%s}' % ts.encode())
    assert line is not None
    assert line.at is None or ts == "1e17"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"{", HEAD, HEAD + b'"m" ', RECORDED[:20]]))
def test_arbitrary_bytes(junk, before):
    line = parse(before + junk)
    assert line is None or isinstance(line, Parsed)
    if before == HEAD:
        assert line is not None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='"\\=[]{}<>, k1\n\té', max_size=60))
def test_arbitrary_fields_end(text):
    structured('"m"' + text)
    structured('"m" k=' + text)


go_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    go_text,
    st.dictionaries(
        st.text("abcXYZ_-./0", min_size=1, max_size=8),
        st.one_of(
            go_text,
            st.integers(-(10**17), 10**17),
            st.booleans(),
            st.none(),
            st.lists(go_text | st.integers(), max_size=3),
        ),
        max_size=5,
    ),
)
def test_fields_come_back(message, fields):
    """JSON's quoting is one that Go's unquoting reads, but for surrogate pairs, which are left unescaped here."""
    written = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
    text = json.dumps(message, ensure_ascii=False).replace("\\/", "/") + (f" {written}" if written else "")
    assert structured(text) == (message, fields)


def test_escapes_that_are_none():
    assert unquote(r"\q \xff \ud800 \U00110000 \400 \101") == "\\q \ufffd \ufffd \ufffd \ufffd A"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    ['k=[" ', ' k={"a":', ' k="\\"', " k=<\n", " k=", '\\"', "\\", ' k=["\\" ', "[", ' k=["a",', ' k=[1,"'],
)
def test_a_megabyte_of_beginnings_synthetic(unit):
    parse(HEAD + b'"m"' + unit.encode() * (1_000_000 // len(unit)))
    parse(HEAD + unit.encode() * (1_000_000 // len(unit)))
