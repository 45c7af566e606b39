"""What is temporary is removed, whatever happened: in reverse order, each removal tried, each outcome written down."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leptonami.console import say
from leptonami.errors import LeptonamiError
from leptonami.target import AwsError

if TYPE_CHECKING:
    from leptonami.runs import Journal

__all__ = ["Cleanup", "Removal", "uninterrupted"]

GONE_CODES = {
    "InvalidAMIID.NotFound",
    "InvalidAMIID.Unavailable",
    "InvalidGroup.NotFound",
    "InvalidInstanceID.NotFound",
    "InvalidSnapshot.NotFound",
    "NoSuchEntity",
}


@dataclass(frozen=True)
class Removal:
    """What came of removing one thing: `removed`, `was not there`, `kept` or `failed`, and then why."""

    what: str
    outcome: str
    error: str | None = None


class Cleanup:
    """The removals that a build owes, newest first."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._owed: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._next = 0
        self.done: list[Removal] = []

    def add(self, what: str, remove: Callable[[], Any]) -> int:
        """Note a removal *before* the creating call; gives its number. What is owed already keeps its place."""
        for number, (owed, _) in self._owed.items():
            if owed == what:
                self._owed[number] = (what, remove)
                return number
        self._next += 1
        self._owed[self._next] = (what, remove)
        return self._next

    def replace(self, number: int, what: str, remove: Callable[[], Any]) -> None:
        """Replace a removal by a more exact one, now that the id is known."""
        self._owed[number] = (what, remove)

    def forget(self, number: int) -> None:
        """Take back a removal: nothing was made, or it is not temporary after all."""
        self._owed.pop(number, None)

    def keep(self) -> None:
        """Keep everything, for somebody who wants to look; it is tagged, expires and is written down."""
        for _, (what, _remove) in sorted(self._owed.items(), reverse=True):
            self.journal.write("kept", what=what)
            self.done.append(Removal(what, "kept"))
        self._owed.clear()

    def run(self) -> list[Removal]:
        """Remove everything owed. One that fails does not keep the others from being tried."""
        with uninterrupted():
            for number, (what, remove) in sorted(self._owed.items(), reverse=True):
                self.done.append(self._remove(what, remove))
                self._owed.pop(number)
        return self.done

    def _remove(self, what: str, remove: Callable[[], Any]) -> Removal:
        # Nothing keeps a removal from being tried: neither a journal that cannot be written nor the removal before it.
        with contextlib.suppress(OSError):
            self.journal.write("intent", action="remove", what=what)
        done = attempt(what, remove)
        with contextlib.suppress(OSError):
            self.journal.write("done", action="remove", **asdict(done))
        return done

    @property
    def left(self) -> list[Removal]:
        """What is still there although it should not be."""
        return [each for each in self.done if each.outcome == "failed"]


def attempt(what: str, remove: Callable[[], Any]) -> Removal:
    """Remove one thing, and say what came of it whatever it was."""
    try:
        remove()
    except AwsError as error:
        if error.code in GONE_CODES:
            return Removal(what, "was not there")
        return Removal(what, "failed", str(error))
    except LeptonamiError as error:
        return Removal(what, "failed", str(error))
    except Exception as error:  # a fault of ours must not leave the rest behind
        return Removal(what, "failed", f"{type(error).__name__}: {error}")
    return Removal(what, "removed")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C wait until the block is done: what is left behind costs money. The third one goes through.

    So does what ends a job or a terminal (SIGTERM, SIGHUP): it waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def held(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed += 1
        if pressed >= 3 and number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            signal.default_int_handler(number, frame)
        say("cleaning up what was temporary; this takes a minute (Ctrl-C three times leaves it behind, tagged)")

    before = {each: signal.signal(each, held) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
