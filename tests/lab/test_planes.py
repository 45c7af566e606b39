"""A cluster of the lab with its fleet: nodes come by themselves, a fleet that dies is replaced, nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers import Account, eventually
from test_nodegroups import Nodegroups

from leptonami.lab import start

pytestmark = pytest.mark.lab
LATE_S = 120.0


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
