"""What goes between the fleet and an API server: threads that list and watch, and threads that send.

They only carry. What came in waits in `inbox` until the loop's thread takes it; `changed` says that something is there.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from leptonami.lab.fleet.api import Api, Refused, Resource, events
from leptonami.lab.fleet.writes import Object, Write

__all__ = ["CONFLICT", "LATER", "Carrier"]

SENDERS = 4
SHARE = 10  # writes that let one event pass, when both wait
FIRST, LATER, LAST = 0, 1, 2
WATCH_S = 240
RELIST_S = 1.0
ABSENT_S = 2.0  # until a resource that does not exist (a CRD to come) is looked for again
RETRIES = (0.1, 0.5, 2.0)
CONFLICT = 409
TRANSIENT = {0, 429, 500, 502, 503, 504}


class Carrier:
    """The threads of one cluster.

    Parameters
    ----------
    api
        The way there.
    resources
        What is watched. One that the server does not have (yet) is looked for again and again.

    Attributes
    ----------
    inbox
        (plural, what, value): `listed` with the list's version and all objects; `answer` with the write, the object if
        there is one, and the status; else a watch's ADDED, MODIFIED or DELETED with the object.
    sent
        How many writes were answered.
    """

    def __init__(self, api: Api, resources: Iterable[Resource]) -> None:
        self.api = api
        self.resources = {each.plural: each for each in resources}
        self.changed = threading.Event()
        self.inbox: deque[tuple[str, str, Any]] = deque()
        self.sent = 0
        # Events come after everything else, as real components send them, but not never: each write has its turn by the
        # clock of what was sent (fair queueing), and an event's is as many turns after the last event's.
        self._outbox: queue.PriorityQueue[tuple[float, int, Write | None]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._turns: dict[int, float] = {FIRST: 0.0, LATER: 0.0}
        self._turn = 0.0
        self._lock = threading.Lock()
        # Of each object with a write under way, those that come after it: an event is made before it is counted.
        self._behind: dict[tuple[str, str, str], deque[Write]] = {}
        self._places: dict[str, str] = {}  # the version that each watch has come to
        self._listed = {plural: threading.Event() for plural in self.resources}
        self._stopping = threading.Event()
        self._watches: set[Any] = set()
        self._threads: list[threading.Thread] = []

    def start(self, seconds: float) -> None:
        """Start, and wait until each resource that exists has been listed once."""
        for plural in self.resources:
            self._threads.append(threading.Thread(target=self._read, args=(plural,), name=f"watch {plural}"))
        for number in range(SENDERS):
            self._threads.append(threading.Thread(target=self._send, name=f"send {number}"))
        for thread in self._threads:
            thread.daemon = True
            thread.start()
        end = time.monotonic() + seconds
        for plural, listed in self._listed.items():
            if not listed.wait(max(0, end - time.monotonic())):
                raise Refused(0, f"{plural} cannot be listed", self.api.host)

    def close(self) -> None:
        """Send what still waits, stop watching and close the connections."""
        self._stopping.set()
        for _ in range(SENDERS):
            self.put(None, LAST)
        for answer in list(self._watches):
            with contextlib.suppress(Exception):
                answer.shutdown()
        for thread in self._threads:
            thread.join(5)
        self.api.close()

    def put(self, write: Write | None, when: int = FIRST) -> None:
        """Have a write sent; of `LATER` ones one for every `SHARE` of the others."""
        with self._lock:
            turn = math.inf
            if when != LAST:
                turn = self._turns[when] = max(self._turns[when], self._turn) + (SHARE if when == LATER else 1)
            self._outbox.put((turn, next(self._number), write))

    def take(self) -> Write | None:
        """Wait for the write whose turn it is; None at the end."""
        turn, _, write = self._outbox.get()
        with self._lock:
            self._turn = max(self._turn, turn if write else self._turn)
        return write

    def waiting(self) -> int:
        """Give how many writes wait or are under way."""
        return self._outbox.unfinished_tasks

    def _deliver(self, plural: str, what: str, value: Any) -> None:
        self.inbox.append((plural, what, value))
        self.changed.set()

    def _read(self, plural: str) -> None:
        """List and watch one resource, for ever."""
        path = self.resources[plural].path()
        while not self._stopping.is_set():
            try:
                if plural not in self._places:
                    found: list[Object] = []
                    version = ""
                    for page in self.api.pages(path):
                        found += map(slim, page.get("items") or [])
                        version = version or str(page["metadata"]["resourceVersion"])
                    self._deliver(plural, "listed", (int(version), found))
                    self._listed[plural].set()
                    self._places[plural] = version
                self._follow(plural, path)
            except Refused as problem:
                absent = problem.status == 404
                if absent:
                    self._listed[plural].set()
                if problem.status != 0:
                    self._places.pop(plural, None)
                self._stopping.wait(ABSENT_S if absent else RELIST_S)
            except Exception:  # a connection that broke in the middle of a line, as any other end of it
                if self._stopping.is_set():
                    return
                self._stopping.wait(RELIST_S)

    def _follow(self, plural: str, path: str) -> None:
        """Watch until the server ends it or the connection breaks, and note how far that was; not if it is no use."""
        answer = self.api.watch(path, {"resourceVersion": self._places[plural]}, WATCH_S)
        self._watches.add(answer)
        try:
            if self._stopping.is_set():  # `close` did not know of it yet
                return
            for block in events(answer):
                for each in block:
                    what, obj = each["type"], each["object"]
                    if what == "ERROR":
                        del self._places[plural]
                        return
                    if what != "BOOKMARK":
                        self.inbox.append((plural, what, slim(obj)))
                    self._places[plural] = obj["metadata"]["resourceVersion"]
                self.changed.set()
        finally:
            self._watches.discard(answer)
            answer.close()

    def _send(self) -> None:
        """Send writes, one after the other; one of an object that somebody is sending a write of is left to them."""
        while (taken := self.take()) is not None:
            about = taken.resource.plural, taken.namespace, taken.name
            with self._lock:
                if about in self._behind:
                    self._behind[about].append(taken)
                    continue
                behind = self._behind[about] = deque([taken])
            while behind:
                write = behind[0]
                answer, status = self._sent(write)
                with self._lock:
                    self.sent += 1
                    behind.popleft()
                    if not behind:
                        del self._behind[about]
                if write.resource is self.resources.get(write.resource.plural):
                    self._deliver(write.resource.plural, "answer", (write, answer, status))
                self._outbox.task_done()

    def _sent(self, write: Write) -> tuple[Object | None, int]:
        method, path, body, kind = write.request()
        for pause in (*RETRIES, None):
            try:
                return slim(self.api.ask(method, path, body, kind)), 200
            except Refused as problem:
                if problem.status == CONFLICT and write.change:
                    return self._fresh(path), CONFLICT
                if problem.status not in TRANSIENT or pause is None or self._stopping.wait(pause):
                    return None, problem.status
        raise AssertionError  # the last attempt returned

    def _fresh(self, path: str) -> Object | None:
        """Get an object that somebody else has changed meanwhile."""
        try:
            return self.api.ask("GET", path)
        except Refused:
            return None


def slim(obj: Object) -> Object:
    """Take from an object what nobody here reads, as client-go's transforms do: it is half of a pod."""
    if "metadata" in obj:
        obj["metadata"].pop("managedFields", None)
    return obj
