"""Where evidence is read from: real files in a temporary folder, whole, cut off and damaged."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import sources
from leptonami.errors import InputError
from leptonami.readers.compression import kind_of, unpack
from leptonami.readers.rotation import in_order, is_log, place
from leptonami.sources import Source, open_sources

TEXT = b"".join(b"I0624 20:42:%02d.%06d       1 a.go:1] line %d\n" % (n % 60, n, n * n) for n in range(20_000))
PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lambda data: lzma.compress(data, preset=1),
    "bzip2": bz2.compress,
}
each_kind = pytest.mark.parametrize("kind", PACKERS)


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def only(where, **options) -> Source:
    (source,) = open_sources(where, **options)
    return source


def test_a_plain_file(tmp_path):
    name = write(tmp_path / "x.log", TEXT)
    os.utime(name, (1_687_639_350, 1_687_639_350))
    source = only(name)
    assert source.name == name
    assert source.modified == datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)
    blocks = list(source.blocks(1000))
    assert b"".join(blocks) == TEXT
    assert max(map(len, blocks)) <= 1000
    assert b"".join(source.blocks()) == TEXT, "a file can be read again"
    assert source.problems == []


@each_kind
def test_compression_is_told_by_the_bytes_and_not_the_name(tmp_path, kind):
    source = only(write(tmp_path / "x.log", PACKERS[kind](TEXT)))
    blocks = list(source.blocks(5000))
    assert b"".join(blocks) == TEXT
    assert max(map(len, blocks)) <= 5000
    assert source.problems == []
    plain = only(write(tmp_path / "y.log.gz", b"plain"))
    assert list(plain.blocks()) == [b"plain"]


@each_kind
def test_several_members_with_padding(tmp_path, kind):
    pack = PACKERS[kind]
    source = only(write(tmp_path / "x", pack(TEXT) + pack(b"") + b"\0" * 8 + pack(b"end") + b"\0" * 512))
    assert source.read_bytes() == TEXT + b"end"
    assert source.problems == []


def test_a_skippable_frame_of_zstd(tmp_path):
    frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    source = only(write(tmp_path / "x", frame + PACKERS["zstd"](TEXT) + frame))
    assert source.read_bytes() == TEXT
    assert source.problems == []


@each_kind
def test_what_is_left_of_an_archive_without_its_end(tmp_path, kind):
    whole = PACKERS[kind](TEXT)
    source = only(write(tmp_path / "x", whole[: len(whole) * 2 // 3]))
    data = source.read_bytes()
    assert TEXT.startswith(data)
    assert len(data) > len(TEXT) // 4 or kind == "bzip2"  # bzip2 has blocks of 900 KB
    (problem,) = source.problems
    assert "cut off" in problem
    assert str(len(data)) in problem
    source.read_bytes()
    assert len(source.problems) == 1


@each_kind
def test_a_damaged_archive(tmp_path, kind):
    whole = bytearray(PACKERS[kind](TEXT))
    whole[len(whole) // 2 : len(whole) // 2 + 200] = b"\xaa" * 200
    source = only(write(tmp_path / "x", bytes(whole)))
    data = source.read_bytes()
    assert len(data) <= len(TEXT)
    assert any("damaged" in problem for problem in source.problems)


def test_bytes_after_an_archive(tmp_path):
    source = only(write(tmp_path / "x", gzip.compress(b"text") + b"something else"))
    assert source.read_bytes() == b"text"
    assert "follow bytes" in source.problems[0]


@each_kind
def test_a_bomb_is_read_in_little_memory(tmp_path, kind):
    bomb = PACKERS[kind](b"\0" * (64 << 20))
    source = only(write(tmp_path / "x", bomb))
    tracemalloc.start()
    try:
        total = sum(len(block) for block in source.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 32 << 20
    with pytest.raises(InputError, match="larger than 1 MiB"):
        source.read_text(1 << 20)


def test_a_document_within_its_limit(tmp_path):
    source = only(write(tmp_path / "x.json", b'{"a":"\xff"}'))
    assert source.read_text(9) == '{"a":"\ufffd"}'
    with pytest.raises(InputError, match="over 8 bytes"):
        source.read_text(8)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_byte_order_marks(tmp_path, encoding):
    text = "one é \U0001f600\nzwei\n" * 500
    source = only(write(tmp_path / "x", ("\ufeff" + text).encode(encoding)))
    assert b"".join(source.blocks(777)).decode() == text


@pytest.mark.parametrize("packed", [False, True])
def test_archives_of_several_files_are_refused(tmp_path, packed):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.log"))
    data = inner.getvalue()
    source = only(write(tmp_path / "x", gzip.compress(data) if packed else data))
    with pytest.raises(InputError, match="tar archive") as caught:
        list(source.blocks())
    assert caught.value.hint
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.log", "x")
    with pytest.raises(InputError, match="zip archive"):
        list(only(write(tmp_path / "y", zipped.getvalue())).blocks())


def test_a_gzip_file_brings_the_time_of_what_was_packed(tmp_path):
    packed = gzip.compress(b"x", mtime=1_687_639_350)
    assert only(write(tmp_path / "x.gz", packed)).modified == datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)
    name = write(tmp_path / "y.gz", gzip.compress(b"x", mtime=0))
    os.utime(name, (1_700_000_000, 1_700_000_000))
    assert only(name).modified == datetime.fromtimestamp(1_700_000_000, UTC)


def test_standard_input():
    source = only("-", stdin=io.BytesIO(gzip.compress(TEXT)))
    assert (source.name, source.modified) == ("-", None)
    assert source.read_bytes() == TEXT
    with pytest.raises(InputError, match="only once"):
        source.read_bytes()
    with pytest.raises(InputError, match="nothing came"):
        list(only("-", stdin=io.BytesIO()).blocks())


def test_a_pipe_by_name(tmp_path):
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = only(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(TEXT,))
    writer.start()
    assert source.read_bytes() == TEXT
    writer.join()


def test_what_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path / "cluster-autoscaler.log", b"x")
    with pytest.raises(InputError, match="no such file") as caught:
        open_sources(tmp_path / "cluster-autoscaler.lgo")
    assert "cluster-autoscaler.log" in caught.value.hint
    for name in ("", "a\0b"):
        with pytest.raises(InputError):
            open_sources(name)
    with pytest.raises(InputError, match="empty"):
        open_sources(write(tmp_path / "empty.log", b""))
    with pytest.raises(InputError, match="cannot be read"):
        open_sources(tmp_path / "cluster-autoscaler.log" / "x")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    source = only(tmp_path / "cluster-autoscaler.log")
    monkeypatch.setattr(sources, "open_file", denied)
    with pytest.raises(InputError, match="permission denied") as caught:
        open_sources(tmp_path / "cluster-autoscaler.log")
    assert caught.value.resource == str(tmp_path / "cluster-autoscaler.log")
    with pytest.raises(InputError, match="Permission denied"):
        list(source.blocks())
    with pytest.raises(InputError, match="no file of this folder can be read"):
        open_sources(tmp_path)


def test_a_folder_without_logs(tmp_path):
    with pytest.raises(InputError, match="no log in this folder"):
        open_sources(tmp_path)
    write(tmp_path / "nodes.json", b"{}")
    with pytest.raises(InputError) as caught:
        open_sources(tmp_path)
    assert "nodes.json" in caught.value.hint
    assert [each.name for each in open_sources(tmp_path, wanted=lambda name: name.endswith(".json"))] == [
        str(tmp_path / "nodes.json")
    ]


def test_a_folder_of_rotated_files(tmp_path):
    write(tmp_path / "x.log", b"3\n")
    write(tmp_path / "x.log.1", b"2\n")
    write(tmp_path / "x.log.2.gz", gzip.compress(b"1\n"))
    write(tmp_path / "x.log.3", b"")
    write(tmp_path / "pods.yaml", b"a: 1")
    write(tmp_path / ".hidden.log", b"x")
    (tmp_path / "x.INFO").symlink_to("x.log")
    (tmp_path / "gone.log").symlink_to("nowhere")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "y.log", b"not read: the folder itself has logs")
    found = open_sources(tmp_path)
    assert [Path(each.name).name for each in found] == ["x.log.2.gz", "x.log.1", "x.log"]
    assert b"".join(block for each in found for block in each.blocks()) == b"1\n2\n3\n"


def test_the_folders_below_are_read_if_there_is_nothing_else(tmp_path):
    for path in ("ns_pod_uid/ca/0.log", "ns_pod_uid/ca/1.log", "ns_pod_uid/ca/0.log.20230624-120000"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / path, path.encode())
    (tmp_path / "loop").symlink_to(tmp_path)
    names = [Path(each.name).name for each in open_sources(tmp_path)]
    assert names == ["0.log.20230624-120000", "0.log", "1.log"]


def test_one_bad_file_of_a_folder_is_a_problem_of_its_own(tmp_path, monkeypatch):
    write(tmp_path / "a.log", b"a")
    write(tmp_path / "b.log", b"b")
    with tarfile.open(tmp_path / "c.log", "w") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    real = sources.open_file

    def mostly(path):
        if path.name == "b.log":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(sources, "open_file", mostly)
    good, bad, archive = open_sources(tmp_path)
    assert [list(each.blocks()) for each in (good, bad, archive)] == [[b"a"], [], []]
    assert good.problems == []
    assert "Permission denied" in bad.problems[0]
    assert "tar archive" in archive.problems[0]


@pytest.mark.parametrize(
    "names",
    [
        [
            "0.log.20230624-120000.gz",
            "0.log.20230624-130000.gz",
            "0.log.20230625-000000",
            "0.log",
            "1.log",
            "2.log",
            "10.log",
        ],
        ["x.log.10.gz", "x.log.9.gz", "x.log.2", "x.log.1", "x.log"],
        ["x.log-20230623.gz", "x.log-20230624", "x.log"],
        ["x-2023-06-24T20-42-30.000.log.gz", "x-2023-06-24T21-42-30.000.log", "x.log"],
        ["ca.host.root.log.INFO.20230624-204230.1", "ca.host.root.log.INFO.20230625-204230.1"],
        ["messages-1687639350", "messages-1687639351", "messages"],
        ["a.log.1", "a.log", "b.log.1", "b.log"],
        ["cluster-autoscaler.log.1", "cluster-autoscaler.log"],
    ],
)
def test_the_order_of_files(names):
    assert in_order(sorted(names)) == names
    assert in_order(reversed(names)) == names


def test_names_with_digits_that_are_no_time():
    assert place("cluster-autoscaler-6ffb6f7466-bfl5l.log").time == ""
    assert place("ip-10-0-2-185.log").series == "ip-10-0-2-185.log"
    assert place("20230624.log").series == ".log"


@given(st.lists(st.text(alphabet="x.log-0123456789gzT_", min_size=1, max_size=24), max_size=12))
def test_any_names_are_ordered(names):
    ordered = in_order(names)
    assert set(ordered) <= set(names)
    assert ordered == in_order(reversed(names))
    for name in names:
        is_log(name)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(PACKERS)),
    st.binary(max_size=200),
    st.binary(max_size=30),
    st.integers(0, 300),
    st.integers(1, 64),
)
def test_any_bytes_unpack_or_say_why(kind, data, junk, cut, chunk):
    """Whole archives come back in any chunks; cut off or with junk in them they give a beginning and a note."""
    whole = PACKERS[kind](data)
    for raw, good in ((whole, True), (whole[:cut] + junk, False), (whole[:6] + junk, False)):
        if kind_of(raw[:6]) is None:
            continue
        stream = io.BytesIO(raw)
        notes: list[str] = []
        first = stream.read(8)
        out = b"".join(unpack(lambda _, stream=stream: stream.read(chunk), first, notes.append))
        if good:
            assert (out, notes) == (data, [])
        elif not notes:
            assert data.startswith(out) or junk


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600), st.integers(6, 100))
def test_any_bytes_are_given_or_refused(data, size):
    source = Source("-", stream=io.BytesIO(data))
    try:
        out = b"".join(source.blocks(size))
    except InputError:
        assert not data or b"ustar" in data or data.startswith(b"PK")
    else:
        marked = data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"))
        assert out == data or marked or kind_of(data) is not None
