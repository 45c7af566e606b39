"""What a piece of evidence is, and how several files are read as one log; also of bytes that nobody would write."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import datafiles
from leptonami.errors import LeptonamiError
from leptonami.explain.autoscaler import explain_sources, message_of
from leptonami.explain.given import Given
from leptonami.explain.reading import Found, Log, find, recognised
from leptonami.explain.recognise import HEAD, What, command_for, recognise
from leptonami.proof import Proof
from leptonami.sources import Source

RECORDED = datafiles.path("recorded")
SAMPLES = Path(__file__).parent / "readers" / "samples"
ORIGINAL = (RECORDED / "original" / "cluster-autoscaler.log").read_bytes()


def test_the_recordings_are_what_the_index_says() -> None:
    from leptonami.recordings import recordings

    kinds = {
        "autoscaler-log": What.AUTOSCALER_LOG,
        "autoscaler-status": What.AUTOSCALER_STATUS,
        "device-plugin-log": What.DEVICE_PLUGIN_LOG,
        "gpu-operator-listing": What.LISTING,
        "timeline": What.TEXT,
        # Of the launch benchmark, not of a cluster.
        "launch-benchmark": What.TEXT,
    }
    for recording in recordings():
        for each in recording.files:
            assert recognise(each.read()) is kinds.get(each.kind, What.OBJECTS), each.name


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_journals(path: Path) -> None:
    assert recognise(path.read_bytes()) is What.JOURNAL


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", What.NOTHING),
        (b" \n\t\n", What.NOTHING),
        (b"\x7fELF" + bytes(range(32)) * 20, What.BINARY),
        (b"Initializing\n", What.AUTOSCALER_STATUS),
        (b"Initializing the machine\n", What.TEXT),
        (b"kind: Pod\nmetadata:\n  name: a\n", What.OBJECTS),
        (b'{"ts": 1, "msg": "x"}\n', What.KLOG),
        (b'{"t": 5.0, "nodes": []}\n', What.TEXT),
        (b"I1123 16:00:00.000000       1 scheduler.go:12] Starting scheduler\n", What.KLOG),
        (b"NAME  READY  STATUS  RESTARTS  AGE\nx-1  1/1  Running  0  5m\n", What.LISTING),
        (b"Lorem ipsum dolor sit amet\n", What.TEXT),
    ],
)
def test_other_things(content: bytes, what: What) -> None:
    assert recognise(content) is what


def test_only_the_head_counts() -> None:
    assert recognise(b"Lorem ipsum\n" * (HEAD // 12 + 1) + ORIGINAL) is What.TEXT


def test_every_kind_that_is_read_names_its_command() -> None:
    assert command_for(What.JOURNAL, "x") == "leptonami explain node-journal x"
    assert command_for(What.TEXT, "x") is None


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=2000), st.text(max_size=800).map(lambda text: text.encode("utf-8", "replace"))))
def test_anything_is_something(content: bytes) -> None:
    assert isinstance(recognise(content), What)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(ORIGINAL.splitlines()),
            st.binary(max_size=120),
            st.just(b"I0624 20:42:30.904516       1 x.go:1] " + b"y" * 3000),
        ),
        max_size=30,
    )
)
def test_any_mixture_is_explained_or_refused_in_our_words(lines: list[bytes]) -> None:
    source = Source("-", stream=io.BytesIO(b"\n".join(lines)))
    try:
        found = explain_sources([recognised(source)], "-", Given())
    except LeptonamiError:
        return
    assert found.story()
    assert len(found.rows()) == len(found.verdicts)
    assert all(each.isprintable() for row in found.rows() for each in row[:3])


def test_standard_input_is_read_once_and_whole() -> None:
    found = recognised(Source("-", stream=io.BytesIO(ORIGINAL * 100)))
    assert found.what is What.AUTOSCALER_LOG
    assert b"".join(found.blocks()) == ORIGINAL * 100
    assert b"".join(found.blocks()) == b""


def test_a_file_is_read_as_often_as_wanted(tmp_path: Path) -> None:
    (tmp_path / "ca.log").write_bytes(ORIGINAL)
    found = find(str(tmp_path / "ca.log"))[0]
    assert b"".join(found.blocks()) == b"".join(found.blocks()) == ORIGINAL
    assert Log([found], "ca.log").again


def test_files_are_joined_at_lines_and_places_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "ca.log.2").write_bytes(b"one\ntwo\n")
    (tmp_path / "ca.log.1.gz").write_bytes(gzip.compress(b"three\nfour"))
    (tmp_path / "ca.log").write_bytes(b"five\nsix\n")
    log = Log(find(str(tmp_path)), "all")
    assert b"".join(log.blocks()) == b"one\ntwo\nthree\nfour\nfive\nsix\n"
    assert [Path(log.place(line)[0]).name for line in range(1, 7)] == [
        "ca.log.2", "ca.log.2", "ca.log.1.gz", "ca.log.1.gz", "ca.log", "ca.log",
    ]  # fmt: skip
    assert [log.place(line)[1] for line in range(1, 7)] == [1, 2, 1, 2, 1, 2]
    settled = log.settle(Proof("all", "line 4", "x"))
    assert (Path(settled.source).name, settled.place) == ("ca.log.1.gz", "line 2")
    other = Proof("pods.json", "pod a", "x")
    assert log.settle(other) is other
    assert log.size is None and log.plain_file() is None


def test_only_a_plain_file_is_read_in_parts(tmp_path: Path) -> None:
    for name, content, plain in (
        ("a.log", ORIGINAL, True),
        ("b.log.gz", gzip.compress(ORIGINAL), False),
        ("c.log", "\ufeffI0624".encode("utf-16"), False),
    ):
        (tmp_path / name).write_bytes(content)
        found = Found(Source(name, path=tmp_path / name), What.AUTOSCALER_LOG)
        assert (Log([found], name).plain_file() is not None) is plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I0624 20:42:30.904516       1 a.go:67] Skipping x", "Skipping x"),
        ("no header] here", "no header] here"),
        ("I am no header", "I am no header"),
    ],
)
def test_the_message_of_a_line(text: str, message: str) -> None:
    assert message_of(text) == message
