"""A controller that fails: nothing else stands still because of it, and nothing is forgotten."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fleets import ready, rig

from leptonami.lab.fleet.cluster import Key
from leptonami.lab.fleet.loop import RETRY_S, Agenda, Clock, Loop


def test_what_fails_is_done_again_and_the_rest_is_done() -> None:
    agenda, done, tries = Agenda(), list[str](), list[float]()

    def fails() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise KeyError("status")

    agenda.at(1, fails)
    agenda.at(2, lambda: done.append("other"))
    with pytest.raises(KeyError):
        agenda.run(2)
    assert done == ["other"]
    with pytest.raises(KeyError):
        agenda.run(2 + RETRY_S)
    assert agenda.run(2 + 2 * RETRY_S) is None
    assert (len(tries), done) == (3, ["other"])


def test_a_controller_that_fails_hears_of_the_same_changes_again() -> None:
    seen: list[set[Key]] = []

    class Failing:
        def step(self, cluster: Any, now: float, changes: set[Key]) -> float | None:
            seen.append(changes)
            if len(seen) == 1:
                raise KeyError("status")
            return None

    controller, complaints = Failing(), list[str]()
    cluster: Any = None
    loop = Loop(cluster, Clock(), [controller], complaints.append)
    first, second = ("pods", "a", "one"), ("pods", "a", "two")
    assert loop.call(0, controller, {first}) < float("inf")
    assert loop.call(0, controller, {second}) == float("inf")
    loop.call(0, controller, set())
    assert seen == [{first}, {first, second}, set()]
    assert len(complaints) == 1


def test_a_loop_that_is_stopped_while_it_begins_a_round_ends() -> None:
    stop = threading.Event()

    class Told(threading.Event):
        """Somebody stops the loop at the last moment before it forgets that it was told of something."""

        def clear(self) -> None:
            stop.set()
            self.set()
            super().clear()

    class Nothing:
        changed = Told()

        def sync(self) -> None: ...

        def changes(self) -> set[Key]:
            return set()

        def has_changes(self) -> bool:
            return False

    cluster: Any = Nothing()
    thread = threading.Thread(target=Loop(cluster, Clock(), []).run, args=(stop,), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_pod_that_cannot_be_dealt_with_is_tried_again_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    with rig(tmp_path) as one:
        one.kwok()
        failed: list[str] = []

        def hook(pod: Any, node: Any) -> str:
            name = pod["metadata"]["name"]
            if name == "odd" and len(failed) < 3:
                failed.append(name)
                raise KeyError("status")
            return ""

        one.fleet.kubelets.behaviours.admission.append(hook)
        names = ["odd", *(f"plain-{number}" for number in range(5))]
        for name in names:
            one.pod(name)
        for name in names:
            one.wait_pod(name, ready)
        assert len(failed) == 3
        assert all("KeyError: 'status'" in each for each in one.complaints)
        one.complaints.clear()
