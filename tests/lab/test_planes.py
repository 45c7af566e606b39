"""A cluster of the lab with its fleet: nodes come by themselves, a fleet that dies is replaced, nothing is left."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import LATE_S, Account, eventually
from test_nodegroups import Nodegroups

from leptonami.lab import kube, planes, start

pytestmark = pytest.mark.lab


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # nobody may be there to ask how an orphan ended


def test_a_node_group_becomes_nodes_and_the_fleet_dies_only_with_its_lab() -> None:
    with start(cluster=True, speed=600, patience=LATE_S) as lab:
        account = Account(lab)

        def fleet() -> Any:
            return lab.clusters(nodes=False)[0]["fleet"]

        eventually(lambda: fleet()["pid"], "a fleet", LATE_S)
        first = fleet()["pid"]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: fleet()["restarts"] == 1 and fleet()["pid"] not in {None, first}, "another fleet", LATE_S)
        nodegroups = Nodegroups(account)
        name = nodegroups.make(launchTemplate=nodegroups.custom(), labels={"team": "gpu"})
        eventually(lambda: nodegroups.describe(name)["status"] != "CREATING", "the node group", LATE_S)
        found = nodegroups.describe(name)
        assert (found["status"], found["health"]["issues"]) == ("ACTIVE", [])
        assert lab.clusters()[0]["nodes"] == {"count": 1, "ready": 1}
        # A lab that is killed takes its fleet along; one that is ended does too (`test_commands`).
        last = fleet()["pid"]
        lab.process.kill()
        eventually(lambda: gone(last), "the fleet's end", LATE_S)


class Process:
    """Stands for a fleet's process, which ends when its standard input is closed."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.stdin = self

    def close(self) -> None:
        self.ended.set()

    def wait(self, seconds: float | None = None) -> int:
        assert self.ended.wait(LATE_S)
        return 0


@pytest.fixture
def fleet(tmp_path: Path) -> planes.Fleet:
    return planes.Fleet({}, {}, tmp_path / "errors", threading.Event())


def test_a_fleet_that_is_just_being_started_is_ended_too(fleet: planes.Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, process = threading.Event(), threading.Event(), Process()

    def popen(*_: Any, **__: Any) -> Any:
        begun.set()
        assert go_on.wait(LATE_S)
        return process

    monkeypatch.setattr(planes.subprocess, "Popen", popen)
    fleet.start()
    assert begun.wait(LATE_S)
    stopper = threading.Thread(target=fleet.stop)
    stopper.start()
    assert fleet.closing.wait(LATE_S)
    stopper.join(0.2)  # it must not come to its end before there is something to end
    go_on.set()
    stopper.join(LATE_S)
    assert process.ended.is_set() and not stopper.is_alive()


def test_what_a_fleet_said_last_is_kept_when_it_is_started_again(
    fleet: planes.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Process] = []

    def popen(*_: Any, stderr: Any, **__: Any) -> Any:
        made.append(Process())
        if len(made) == 1:
            stderr.write(b"first\nout of memory\n")
            made[0].close()
        return made[-1]

    monkeypatch.setattr(planes.subprocess, "Popen", popen)
    fleet.start()
    eventually(lambda: len(made) == 2 and fleet.process is made[1], "the second one")
    assert (fleet.restarts, fleet.said) == (1, "out of memory")
    fleet.errors.write_text("something new\n")
    assert fleet.said == "something new"
    fleet.stop()


def test_a_change_of_a_list_is_made_anew_if_somebody_was_quicker() -> None:
    with kube.start() as server:
        client = planes.Client(server.url, server.ca_pem, server.token)
        path = "/api/v1/nodes/n"

        def taint(key: str) -> dict[str, str]:
            return {"key": key, "effect": "NoSchedule"}

        assert client.change(path, lambda node: {}) == 404
        spec = {"taints": [taint("new"), taint("kept")]}
        client.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n"}, "spec": spec})
        seen: list[list[str]] = []

        def change(node: dict[str, Any]) -> dict[str, Any]:
            there = node["spec"]["taints"]
            seen.append([each["key"] for each in there])
            if len(seen) == 1:  # its fleet says meanwhile that the node is known to the cloud
                client.merge(path, {"spec": {"taints": [taint("kept")]}})
            return {"metadata": {"labels": {"a": "b"}}, "spec": {"taints": [*there, taint("gpu")]}}

        assert client.change(path, change) == 200
        assert seen == [["new", "kept"], ["kept"]]
        node = client.ask("GET", path)[1]
        assert [each["key"] for each in node["spec"]["taints"]] == ["kept", "gpu"]
        assert node["metadata"]["labels"]["a"] == "b"
        client.pool.clear()
