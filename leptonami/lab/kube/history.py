"""What happened to the objects of one storage: a bounded log, and the watches that read from it.

A writer appends and wakes; a watch reads forward from its own place, selects and makes events outside of the lock.
So a slow watcher costs nothing but its place, and loses it (410) when the log has been cut behind it, as it would when
the real server's watch cache overflows.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from leptonami.lab.kube.errors import expired
from leptonami.lab.kube.objects import Object
from leptonami.lab.kube.selectors import Selector

__all__ = ["BOOKMARK_SECONDS", "Event", "History", "Watch"]

BOOKMARK_SECONDS = 60.0
"""How often the real server sends one: k8s.io/apiserver storage/cacher, bookmarkFrequency."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a watch reports: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`."""

    type: str
    obj: Object
    resource_version: int


@dataclass(frozen=True, slots=True)
class Change:
    """A write: what was there before (None: nothing), and what is there now."""

    version: int
    old: Object | None
    new: Object | None


@dataclass
class History:
    """The last changes of one storage. Its lock is the store's."""

    limit: int
    woken: threading.Condition
    changes: list[Change] = field(default_factory=list)
    cut: int = 0
    """How many changes have been forgotten; a watch counts its place from the first change ever."""
    forgotten: int = 0
    """The version of the last change that is forgotten."""
    closed: bool = False

    def add(self, change: Change) -> None:
        """Note a change and wake those who wait. The log is cut in halves, since cutting costs its length."""
        self.changes.append(change)
        if len(self.changes) > 2 * self.limit:
            self.forgotten = self.changes[self.limit].version
            del self.changes[: self.limit + 1]
            self.cut += self.limit + 1
        self.woken.notify_all()

    def place(self, version: int) -> int:
        """Give the place of the first change after a version.

        Raises
        ------
        ApiError
            410: the log does not reach back so far.
        """
        if version < self.forgotten:
            raise expired(f"too old resource version: {version} ({self.forgotten})")
        return self.cut + bisect_right(self.changes, version, key=lambda each: each.version)

    def since(self, version: int) -> list[Change]:
        """Give the changes after a version; a 410 if the log does not reach back so far."""
        return self.changes[self.place(version) - self.cut :]

    def end(self) -> int:
        """Give the place after the last change."""
        return self.cut + len(self.changes)


@dataclass(eq=False)
class Watch:
    """One watch. `next` is called by a single thread, `close` by any.

    Attributes
    ----------
    history
        The log that it reads.
    convert
        Gives an object in the version that is watched; `about` is that version and its kind.
    current
        Gives the version of the last write of all, for bookmarks.
    first
        What it reports before anything else: the objects there are, for a watch that starts with them.
    place
        Where in the log it goes on.
    """

    history: History
    namespace: str | None
    selector: Selector
    convert: Callable[[Object], Object]
    current: Callable[[], int]
    about: tuple[str, str]
    first: list[Event]
    place: int
    bookmarks: bool
    marked: float = field(default_factory=time.monotonic)
    closed: bool = False

    def next(self, timeout: float) -> list[Event]:
        """Wait for something to report, for at most `timeout` seconds; nothing is an empty list.

        Raises
        ------
        ApiError
            410: the log was cut behind this watch; the client has to list again.
        """
        if self.first:
            first, self.first = self.first, []
            return first
        until = time.monotonic() + timeout
        while True:
            with self.history.woken:
                left = until - time.monotonic()
                if self.place == self.history.end() and left > 0 and not self.ended:
                    self.history.woken.wait(left)
                if self.place < self.history.cut:
                    raise expired(f"too old resource version: {self.history.forgotten} is the last that is forgotten")
                changes = self.history.changes[self.place - self.history.cut :]
                self.place = self.history.end()
                version = self.current()
            events = [event for change in changes if (event := self._event(change))]
            now = time.monotonic()
            if self.bookmarks and not events and now - self.marked >= BOOKMARK_SECONDS:
                events = [bookmark(self.about, version)]
            if events or now >= until or self.ended:
                self.marked = now if events else self.marked
                return events

    @property
    def ended(self) -> bool:
        """Tell whether nothing will come any more: it was closed, or its kind was removed."""
        return self.closed or self.history.closed

    def bookmark(self) -> Event | None:
        """Give a bookmark for the last moment before a time-out, unless something is left to report."""
        with self.history.woken:
            caught_up = not self.first and self.place == self.history.end()
            return bookmark(self.about, self.current()) if self.bookmarks and caught_up else None

    def close(self) -> None:
        """End it; a `next` that waits returns."""
        with self.history.woken:
            self.closed = True
            self.history.woken.notify_all()

    def _event(self, change: Change) -> Event | None:
        """See a change through the selectors: what enters is ADDED, what leaves is DELETED."""
        before = change.old is not None and self._sees(change.old)
        after = change.new is not None and self._sees(change.new)
        if after and change.new is not None:
            return Event("MODIFIED" if before else "ADDED", self.convert(change.new), change.version)
        if before and change.old is not None:
            last = self.convert(change.old)
            last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(change.version)}}
            return Event("DELETED", last, change.version)
        return None

    def _sees(self, obj: Object) -> bool:
        if self.namespace is not None and obj["metadata"].get("namespace") != self.namespace:
            return False
        return self.selector.matches(obj)


def bookmark(about: tuple[str, str], version: int, *, initial_end: bool = False) -> Event:
    """Give a bookmark: an object of the kind that has nothing but a version."""
    meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return Event("BOOKMARK", {"kind": about[1], "apiVersion": about[0], "metadata": meta}, version)
