"""A log that is read in parts by several processes says what it says when it is read as a whole."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from leptonami import recordings
from leptonami.explain import sidebyside
from leptonami.readers import lines as reading
from leptonami.readers.autoscaler import scan
from leptonami.verdicts.scaledown_log import judge


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sidebyside, "PART", 50_000)
    path = tmp_path / "cluster-autoscaler.log"
    path.write_bytes(recordings.get("autoscaler/broken-driver").read("autoscaler-log"))
    return path


def test_parts_begin_where_loops_begin(log: Path) -> None:
    content = log.read_bytes()
    bounds = sidebyside.edges(log, len(content), 4)
    assert len(bounds) == 5
    for begin, end in pairwise(bounds):
        part = content[begin:end]
        assert part
        assert begin == 0 or part.split(b"\n", 1)[0].endswith(b"] Starting main loop")
    assert b"".join(content[begin:end] for begin, end in pairwise(bounds)) == content


def test_a_log_without_loops_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"no loop here\n" * 1000)
    assert sidebyside.edges(path, path.stat().st_size, 4) == [0, path.stat().st_size]
    path.write_bytes(b"")
    assert sidebyside.digest_file(path, source="x").lines == 0


def test_several_processes_say_the_same(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    original = subprocess.Popen

    def counted(command: list[str], **options: object) -> object:
        started.append(command)
        return original(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", counted)
    ours = sidebyside.digest_file(log, source="log", jobs=3)
    assert len(started) == 2
    theirs = scan.digest(reading.batches([log.read_bytes()]), source="log")
    assert judge(ours) == judge(theirs)
    assert (ours.counts, ours.lines, ours.loops) == (theirs.counts, theirs.lines, theirs.loops)


def test_a_process_that_fails_is_made_up_for(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidebyside.sys, "executable", "/bin/false")
    ours = sidebyside.digest_file(log, source="log", jobs=3)
    assert judge(ours) == judge(scan.digest(reading.batches([log.read_bytes()]), source="log"))


def test_an_interrupt_leaves_no_process(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    start = sidebyside.start
    monkeypatch.setattr(sidebyside, "start", lambda *given: children.append(start(*given)) or children[-1])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sidebyside, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sidebyside.digest_file(log, source="log", jobs=3)
    assert len(children) == 2
    assert all(child.poll() is not None for child in children)
