"""Whole klog logs. The recorded one is the original decision's; all others are synthetic."""

import textwrap
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptonami import datafiles
from leptonami.readers.klog import Record, read
from leptonami.readers.leftover import Leftover
from leptonami.readers.lines import batches
from leptonami.readers.wrapping import detect
from leptonami.readers.years import PLACEHOLDER, Calendar, From

LOGS = sorted((datafiles.root() / "recorded").rglob("cluster-autoscaler.log"))

ORIGINAL = b"""\
I0624 20:42:30.906992       1 cluster.go:178] node ip-10-0-2-185.ec2.internal may be removed
I0624 20:42:30.907001       1 nodes.go:84] ip-10-0-2-185.ec2.internal is unneeded since 2023-06-24 20:38:45.129539464 \
+0000 UTC m=+318.403015344 duration 3m45.769776521s
...
I0624 20:45:52.503388       1 taints.go:162] Successfully added ToBeDeletedTaint on node ip-10-0-2-185.ec2.internal
"""


def records(data: bytes, **options) -> list[Record]:
    return list(read(batches([data]), **options))


def header(second: int, message: str = "", day: str = "0624") -> str:
    return f"I{day} 20:42:{second:02d}.000000       1 a.go:7] {message}"


def test_the_original_log():
    left = Leftover()
    first, second, third = records(ORIGINAL, leftover=left)
    assert first.at == datetime(2023, 6, 24, 20, 42, 30, 906992, UTC)
    assert {each.year_from for each in (first, second, third)} == {From.MESSAGE}
    assert (third.file, third.line, third.first, third.last) == ("taints.go", 162, 4, 4)
    assert (left.total, left.kept) == (1, [(3, "...")])
    assert str(third.proof("a.log")).startswith("a.log, line 4: I0624 20:45:52.503388")


@pytest.mark.parametrize(
    ("options", "year", "known"),
    [
        ({}, PLACEHOLDER, From.UNKNOWN),
        ({"year": 2021}, 2021, From.GIVEN),
        ({"reference": datetime(2022, 1, 1, tzinfo=UTC)}, 2021, From.REFERENCE),
    ],
)
def test_the_year_is_said_with_where_it_is_from(options, year, known):
    (record,) = records(header(1, "x").encode(), **options)
    assert (record.at.year, record.year_from) == (year, known)


def test_the_year_of_a_prefix_and_its_zone():
    data = f"2023-06-24T18:42:01.000100Z stderr F {header(1, 'x')}\n".encode()
    (record,) = records(data, reference=datetime(2026, 1, 1, tzinfo=UTC))
    assert record.at == datetime(2023, 6, 24, 18, 42, 1, tzinfo=UTC)
    assert record.at.utcoffset() == timedelta(hours=2)
    assert record.collected == datetime(2023, 6, 24, 18, 42, 1, 100, UTC)
    assert record.year_from is From.PREFIX
    (record,) = records(data, zone=UTC)
    assert record.at == datetime(2023, 6, 24, 20, 42, 1, tzinfo=UTC)


def test_new_year():
    data = f"{header(1, 'x', '1231')}\n{header(2, 'y', '0101')}\n{header(3, 'z', '1231')}\n".encode()
    assert [each.at.year for each in records(data, year=2023)] == [2023, 2024, 2023]
    calendar = Calendar(reference=datetime(2024, 1, 1, 21, tzinfo=UTC))
    assert [each.at.year for each in records(data, calendar=calendar)] == [2023, 2024, 2023]
    assert calendar.known is From.REFERENCE


def test_lines_without_header_belong_to_the_record_before():
    data = f"{header(1, 'panic:')}\n\ngoroutine 1 [running]:\n\tmain.go:1\n\n{header(2, 'next')}\n\n".encode()
    first, second = records(data)
    assert first.message == "panic:\n\ngoroutine 1 [running]:\n\tmain.go:1"
    assert (first.first, first.last, second.first, second.message) == (1, 5, 6, "next")


def test_a_field_of_several_lines():
    data = f'{header(1)}"m" diff=<\n\tone\n\ttwo\n > after=1\n'.encode()
    (record,) = records(data)
    assert (record.message, record.fields) == ("m", {"diff": "one\ntwo", "after": 1})


def test_lines_before_any_record_are_left_over():
    left = Leftover()
    data = f"$ kubectl logs x\nI0624 20:42\n\n{header(1, 'x')}\n```\nafter\n".encode()
    (record,) = records(data, leftover=left)
    assert record.message == "x"
    assert left.total == 4
    assert [number for number, _ in left.kept] == [1, 2, 5, 6]


def test_a_header_that_is_none_is_left_over_with_its_lines():
    left = Leftover()
    assert records(b"I0624 20:42:01.00 cut off\nmore\n", leftover=left) == []
    assert left.total == 2


def test_writers_that_mix_keep_their_lines():
    lines = [
        "[pod/a/c] " + header(1, "a1"),
        "[pod/b/c] " + header(2, "b1"),
        "[pod/a/c] a goes on",
        "[pod/b/c] b goes on",
        "[pod/b/c] " + header(3, "b2"),
        "[pod/a/c] a goes on again",
    ]
    found = records("\n".join(lines).encode())
    assert [(each.origin, each.message, each.first, each.last) for each in found] == [
        ("pod/a/c", "a1\na goes on\na goes on again", 1, 6),
        ("pod/b/c", "b1\nb goes on", 2, 4),
        ("pod/b/c", "b2", 5, 5),
    ]


def test_a_silent_writer_holds_nobody_up():
    lines = ["[pod/a/c] " + header(1, "a")] + ["[pod/b/c] " + header(2, f"b{n}") for n in range(1000)]
    taken = 0

    def feed():
        nonlocal taken
        for line in lines:
            taken += 1
            yield [line.encode()]

    stream = read(feed(), year=2023, zone=UTC)
    assert next(stream).message == "a"
    assert [each.message for each in islice(stream, 3)] == ["b0", "b1", "b2"]
    assert len(list(stream)) == 997


def test_parts_of_a_line_are_joined():
    whole = header(1, "a message of three parts")
    lines = [
        f"2023-06-24T20:42:01Z stderr P {whole[:20]}",
        f"2023-06-24T20:42:01Z stdout F {header(2, 'of the other stream')}",
        f"2023-06-24T20:42:01Z stderr P {whole[20:70]}",
        f"2023-06-24T20:42:01Z stderr F {whole[70:]}",
        f"2023-06-24T20:42:03Z stderr P {header(3, 'the end is missing')}",
    ]
    found = records("\n".join(lines).encode())
    assert [(each.message, each.first, each.last) for each in found] == [
        ("of the other stream", 2, 2),
        ("a message of three parts", 1, 4),
        ("the end is missing", 5, 5),
    ]


@pytest.mark.parametrize("mark", ["# ", "> ", "// ", "    ", "ca-1 cluster-autoscaler "])
def test_marks_stand_before_further_lines_too(mark):
    lines = [header(1, "one"), "goes on", header(2, "two")]
    found = records("\n".join(mark + line for line in lines).encode())
    assert [each.message for each in found] == ["one\ngoes on", "two"]


@pytest.mark.parametrize("form", ["{}:", "{}-", "{:6}\t", "a.log:{}:"])
def test_numbered_lines(form):
    lines = [header(1, "one"), "\tgoes on", header(2, "two")]
    found = records("\n".join(form.format(number) + line for number, line in enumerate(lines, 8)).encode())
    assert [each.message for each in found] == ["one\n\tgoes on", "two"]


MESSAGES = [
    "Pod kube-system/coredns-55fb5d545d-tqnxm can be moved to ip-10-0-1-55.ec2.internal and the like",
    "No unschedulable pods",
    "node ip-10-0-2-185.ec2.internal may be removed, and this is longer than any line that is not broken",
    "ip-10-0-2-185.ec2.internal is unneeded for some time, which is said here in words to make the line long",
]


def test_a_log_that_a_terminal_has_broken():
    lines = [header(n, f"{n} {MESSAGES[n % 4]}") for n in range(20)]
    prefix = "[pod/ca-1/ca] "
    for before in ("", prefix):
        broken = [(before + line)[at : at + 60] for line in lines for at in range(0, len(before + line), 60)]
        assert [each.message for each in records("\n".join(broken).encode())] == [
            f"{n} {MESSAGES[n % 4]}" for n in range(20)
        ]


def fold(line: str, width: int) -> list[str]:
    """What `fold -s` does: the space stays at the end, and a word that is too long is broken."""
    parts = []
    while len(line) > width:
        edge = line.rfind(" ", 0, width) + 1 or width
        parts.append(line[:edge])
        line = line[edge:]
    return [*parts, line]


def wrap(line: str, width: int) -> list[str]:
    """What editors do."""
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


@pytest.mark.parametrize("breaker", [fold, wrap])
@pytest.mark.parametrize("mark", ["", "# "])
def test_a_log_that_was_broken_between_words(breaker, mark):
    lines = [header(n, f"{n} {MESSAGES[n % 4]}") for n in range(20)]
    broken = [mark + part for line in lines for part in breaker(line, 70)]
    assert [each.message for each in records("\n".join(broken).encode())] == [
        f"{n} {MESSAGES[n % 4]}" for n in range(20)
    ]


def anywhere(line: str, width: int) -> list[str]:
    """What terminals do."""
    return [line[at : at + width] for at in range(0, len(line), width)]


def copied(line: str, width: int) -> list[str]:
    """What is copied from a terminal: without the spaces at its edge."""
    return [part.removesuffix(" ") for part in anywhere(line, width)]


@pytest.mark.skipif(not LOGS, reason="the recordings are not part of this checkout")
@pytest.mark.parametrize("breaker", [anywhere, copied, fold, wrap])
@pytest.mark.parametrize("width", [80, 120])
def test_the_recorded_logs_broken_and_mended(width, breaker):
    for log in LOGS[:3]:
        whole = log.read_text().splitlines()
        expected = [each.message for each in records("\n".join(whole).encode())]
        broken = "\n".join(part for line in whole for part in breaker(line, width))
        assert [each.message for each in records(broken.encode())] == expected


def test_messages_of_several_lines_are_no_wrapping():
    lines = [header(n, "panic") + "\ngoroutine 1 [running]:\n\tmain.go:1\nshort\n" for n in range(20)]
    data = "".join(lines).encode()
    assert detect([(line, line, line.startswith(b"I")) for line in data.splitlines()]) is None
    assert {each.message for each in records(data)} == {"panic\ngoroutine 1 [running]:\n\tmain.go:1\nshort"}


@pytest.mark.parametrize("more", ["goes on", "\tgoes on"])
def test_lines_of_one_length_are_no_wrapping(more):
    """Each record is as long as the longest line, and each has a second line: so does a message that is repeated."""
    lines = [f"{header(n, 'the same again and again')}\n{more}" for n in range(20)]
    assert {each.message for each in records("\n".join(lines).encode())} == {f"the same again and again\n{more}"}


def test_json_lines():
    data = b"""\
{"ts":1687639350904.516,"caller":"cluster/cluster.go:155","msg":"one","v":4}
{"something":"else"}
goroutine 1
{"ts":1687639351904.516,"caller":"cluster/cluster.go:178","msg":"two","err":"x"}
"""
    left = Leftover()
    first, second = records(data, leftover=left)
    assert (first.message, first.line, second.severity) == ("one\ngoroutine 1", 155, "E")
    assert left.kept == [(2, '{"something":"else"}')]
    assert first.at.year == 2023
    assert first.year_from is From.GIVEN
    assert (first.first, first.last, second.first) == (1, 3, 4)


def test_json_without_a_time_has_no_year():
    (record,) = records(b'{"msg":"m"}', year=2023)
    assert (record.at, record.year_from) == (None, From.UNKNOWN)


def test_a_record_is_bounded_and_the_rest_reachable():
    left = Leftover()
    (record,) = records((header(1, "x") + "\nmore" * 5000).encode(), leftover=left)
    assert record.message.count("\n") == 999
    assert left.total == 4001


def test_memory_is_bounded():
    """What is held back for the year, for silent writers and for missing parts is bounded in bytes."""
    big = "y" * 100_000

    def feed():
        for n in range(1500):
            yield [f"2023-06-24T20:42:01Z stderr P [pod/p{n}/c] {header(1, big)}".encode()]
            yield [f"[pod/q{n % 300}/c] {header(1, big)}".encode(), f"[pod/q{n % 300}/c] {big}".encode()]

    tracemalloc.start()
    try:
        count = sum(1 for _ in read(feed()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count > 2900
    assert peak < 100 << 20


ZONES = st.integers(-48, 56).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))
word = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)),
    st.lists(st.tuples(st.integers(0, 30 * 86400), word, st.booleans()), min_size=1, max_size=30),
    ZONES,
    st.integers(1, 200),
)
def test_a_generated_log_comes_back(start, entries, zone, size):
    """Generated: times, messages and lines come back, whatever the blocks and the zone."""
    at = start.replace(tzinfo=zone)
    lines, expected = [], []
    for gap, message, more in entries:
        at += timedelta(seconds=gap)
        number = len(lines) + 1
        lines.append(f"W{at:%m%d %H:%M:%S.%f}   12345 x/file.go:99] m {message}")
        expected.append((at, f"m {message}" + ("\n\tmore" if more else ""), number, number + more))
        if more:
            lines.append("\tmore")
    data = "\n".join(lines).encode()
    blocks = [data[each : each + size] for each in range(0, len(data), size)]
    found = list(read(batches(blocks), zone=zone, reference=at))
    assert [(each.at, each.message, each.first, each.last) for each in found] == expected


PIECES = [
    header(1, "x").encode(),
    header(2, '"m" k="').encode(),
    b"I0624 20:42",
    b"2023-06-24T20:42:01Z stderr P ",
    b"2023-06-24T20:42:01Z stderr F ",
    b"[pod/a/b] ",
    b'{"msg":"m"}',
    b'{"msg":',
    b"# ",
    b"17:",
    b"...",
    b"\n",
    b"\n",
    b"\r\n",
    b" m=+1.0 2023-06-24 20:38:45.1 +0000 UTC m=+318.4",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=40))
@example([b"...", b'{"msg":', b"17:"])
def test_arbitrary_bytes(pieces):
    """Never an exception, and every line that is not blank is in a record or counted."""
    data = b"".join(pieces)
    left = Leftover()
    found = records(data, leftover=left)
    total = len(data.split(b"\n"))
    assert all(1 <= each.first <= each.last <= total for each in found)
    assert [each.first for each in found] == sorted(each.first for each in found) or b" P " in data
    assert left.total <= total
    if data.strip() and not found and b"stderr" not in data and b"[pod" not in data and b"log" not in data:
        assert left.total


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "make",
    [
        lambda n: f"2023-06-24T20:42:01Z stderr P {n}",
        lambda n: f"[pod/p{n}/c] {header(1, 'x')}",
        lambda n: f"word{n} {header(1, 'x')}\nword{n} goes on",
        lambda n: f"I0624 20:42 {n}",
        lambda n: '{"msg":' + str(n),
        str,
        lambda n: header(n % 60, "x", "0101" if n % 2 else "1231"),
    ],
    ids=["parts", "writers", "marks", "headers", "json", "junk", "years"],
)
def test_many_lines_of_one_kind_end(make):
    """What is kept of writers, marks, parts and years is bounded, so the time is linear."""
    left = Leftover()
    data = "\n".join(make(n) for n in range(30_000)).encode()
    found = records(data, leftover=left)
    assert len(found) + left.total > 0


@pytest.mark.timeout(30)
def test_twenty_megabytes_in_one_line():
    left = Leftover()
    blocks = [b"z" * (1 << 16)] * 320
    assert list(read(batches(blocks), leftover=left)) == []
    assert left.total == 1


@pytest.mark.skipif(not LOGS, reason="the recordings are not part of this checkout")
def test_the_recorded_logs_are_read_whole():
    for log in LOGS:
        left = Leftover()
        found = records(log.read_bytes(), leftover=left)
        assert found[0].year_from is From.MESSAGE
        assert len(found) + left.total == len(log.read_bytes().splitlines())
        assert {text for _, text in left.kept} <= {"..."}
