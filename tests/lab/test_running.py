"""Labs are found by the word they leave, and nothing else is taken for one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from leptonami.errors import InputError, LeptonamiError
from leptonami.lab import running
from leptonami.lab.running import Running, choose, is_lab, labs


def word(folder: Path, name: str, **known: object) -> None:
    (folder / name).mkdir()
    (folder / name / "lab.json").write_text(json.dumps(known))


def test_only_ones_own_labs_that_run_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    alive = {101, 102, 103}
    monkeypatch.setattr(running, "is_lab", lambda pid: pid in alive)
    known = {"url": "http://127.0.0.1:1", "region": "us-west-2", "kubeconfig": ""}
    word(tmp_path, "leptonami-lab-102-b", pid=102, **known)
    word(tmp_path, "leptonami-lab-101-a", pid=101, **known)
    word(tmp_path, "leptonami-lab-99-dead", pid=99, **known)
    # A folder that names another process than its word, a word that is none, and a link.
    word(tmp_path, "leptonami-lab-50-c", pid=103, **known)
    word(tmp_path, "leptonami-lab-103-d", nonsense=True)
    (tmp_path / "leptonami-lab-101-link").symlink_to(tmp_path / "leptonami-lab-101-a")
    assert [each.pid for each in labs()] == [101, 102]


def test_another_process_is_no_lab() -> None:
    assert not is_lab(os.getpid()) and not is_lab(2**22 + 1)


def test_a_lab_that_ends_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Running(101, "http://127.0.0.1:1", "us-west-2", "")]
    # It takes its word away before anything else, so a process that is still there need not be a lab.
    monkeypatch.setattr(running, "is_lab", lambda pid: pid == 101)
    monkeypatch.setattr(running, "labs", lambda: [])
    assert running.described(found) == []
    monkeypatch.setattr(running, "labs", lambda: found)
    with pytest.raises(LeptonamiError, match="does not answer"):
        running.described(found)


def test_a_lab_that_ends_before_it_is_told_to_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([True, False])
    monkeypatch.setattr(running, "is_lab", lambda pid: next(asked))
    running.end(Running(2**22 + 1, "http://127.0.0.1:1", "us-west-2", ""))
    assert next(asked, None) is None


def test_which_lab_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEPTONAMI_LAB", raising=False)
    first, second = (Running(pid, f"http://127.0.0.1:{pid}", "us-west-2", "") for pid in (1, 2))
    assert choose([first], None) is first and choose([first, second], 2) is second
    for found, pid, says in (([], None, "no lab runs"), ([first], 9, "process id 9"), ([first, second], None, "1, 2")):
        with pytest.raises(InputError, match=says):
            choose(found, pid)
    # Where the exports of one were pasted, it is that one, and no other when that one has ended.
    monkeypatch.setenv("LEPTONAMI_LAB", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", second.url)
    assert choose([first, second], None) is second and choose([first, second], 1) is first
    with pytest.raises(InputError, match=f"{second.url}, has ended") as caught:
        choose([first], None)
    assert "--pid 1" in str(caught.value.hint)
