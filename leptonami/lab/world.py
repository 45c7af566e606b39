"""What the parts of the lab share: its clock, its lock, its agenda of things to come, its folder.

States over time are an agenda, not timers: each request first does what has fallen due. So nothing happens in the
background, the order is the same in every run, and a lab without delays is simply a lab whose agenda is due at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from leptonami.lab.faults import Faults

__all__ = [
    "ACCOUNT",
    "DEFAULT_SPEED",
    "OWNER",
    "SECRET",
    "Clock",
    "Times",
    "World",
    "clean_environment",
    "client_environment",
    "remove_stale",
]

ACCOUNT = "123456789012"
# Who has the lab's own key.
OWNER = f"arn:aws:iam::{ACCOUNT}:user/lab"
DEFAULT_SPEED = 100.0
FOLDER_PREFIX = "leptonami-lab-"
# Of the lab's own access key; nothing checks it but a cluster, of whose tokens it is a part.
SECRET = "simulated"  # noqa: S105


@dataclass(frozen=True)
class Times:
    """How long things take, in seconds of the real AWS; the lab divides them by its speed.

    The figures are plausible orders of magnitude for the waits to be exercised, not measurements.

    Attributes
    ----------
    pending
        RunInstances or StartInstances until the instance is running.
    online
        Running until the SSM agent answers.
    profile
        A new instance profile, or a role put into it, until RunInstances accepts it (IAM is eventually consistent).
    register
        SendCommand until GetCommandInvocation knows the invocation.
    stop, terminate, reboot
        How long these take.
    image
        CreateImage or CopyImage until available.
    scaling
        A change to an Auto Scaling group until it launches or terminates.
    cluster, upgrade, addon
        CreateCluster, an update of a cluster, and an add-on, until they are through.
    join
        How long EKS waits for the nodes of a group to be ready, and for pods to leave a node.
    drained
        How long an update keeps a node that is drained, so that load balancers forget it.
    """

    pending: float = 15.0
    online: float = 25.0
    profile: float = 8.0
    register: float = 1.0
    stop: float = 30.0
    terminate: float = 30.0
    reboot: float = 20.0
    image: float = 240.0
    scaling: float = 5.0
    cluster: float = 540.0
    upgrade: float = 480.0
    addon: float = 30.0
    join: float = 900.0
    drained: float = 60.0

    def at(self, speed: float) -> Times:
        """Give the times at a speed; `inf` and 0 mean no delays at all."""
        factor = 0.0 if speed in (0.0, float("inf")) else 1.0 / speed
        return replace(self, **{item.name: getattr(self, item.name) * factor for item in fields(self)})


@dataclass(order=True)
class Due:
    """One thing to come."""

    at: float
    number: int
    action: Callable[[], None] = field(compare=False)


class Clock:
    """Seconds that pass as this machine's do, unless they are held: then they pass when somebody says so.

    For who wants to see a passing state, on however busy a machine. Any thread may ask.
    """

    def __init__(self) -> None:
        self._state: tuple[float | None, float] = (None, 0.0)  # since when they are held, and what does not count

    def __call__(self) -> float:
        """Give the seconds since some moment."""
        held, lost = self._state
        return (time.monotonic() if held is None else held) - lost

    def hold(self) -> None:
        """Let none pass. Harmless where none does."""
        held, lost = self._state
        self._state = (time.monotonic() if held is None else held, lost)

    def go_on(self) -> None:
        """Let them pass again, from where they were."""
        held, lost = self._state
        if held is not None:
            self._state = (None, lost + time.monotonic() - held)

    def skip(self, seconds: float) -> None:
        """Let some seconds pass at once."""
        held, lost = self._state
        self._state = (held, lost - seconds)


@dataclass
class World:
    """The state of one lab beside what moto keeps.

    Attributes
    ----------
    times
        The delays, already at the lab's speed.
    folder
        Where node roots and outputs of commands live; removed at the end.
    lock
        Held during every request: moto's backends are not made for threads.
    patience
        Seconds of this machine's clock that EKS waits at least for nodes and pods, whatever the speed: they take real
        time.
    calls
        Requests so far, by `service.Operation`.
    """

    times: Times
    speed: float
    folder: Path
    faults: Faults
    patience: float = 45.0
    lock: threading.RLock = field(default_factory=threading.RLock)
    calls: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = field(default_factory=Clock)
    closing: threading.Event = field(default_factory=threading.Event)
    _agenda: list[Due] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def later(self, seconds: float, action: Callable[[], None]) -> float:
        """Put something on the agenda and give the moment it is due."""
        at = self.clock() + seconds
        heapq.heappush(self._agenda, Due(at, next(self._number), action))
        return at

    def advance(self) -> None:
        """Do what has fallen due, in its order. Call it with the lock held."""
        while self._agenda and self._agenda[0].at <= self.clock():
            heapq.heappop(self._agenda).action()

    def hold(self, *, held: bool) -> None:
        """Let the lab's time stand still, or go on."""
        if isinstance(self.clock, Clock):
            (self.clock.hold if held else self.clock.go_on)()

    def skip(self, seconds: float) -> None:
        """Let so many seconds of the real AWS pass at once."""
        if isinstance(self.clock, Clock):
            self.clock.skip(self.scaled(seconds))
            self.advance()

    def scaled(self, seconds: float) -> float:
        """Bring a number of seconds of the real AWS to the lab's speed."""
        return 0.0 if self.speed in (0.0, float("inf")) else seconds / self.speed

    def close(self) -> None:
        """Remove the folder."""
        self.closing.set()
        remove(self.folder)


def clean_environment() -> dict[str, str]:
    """Give the environment without credentials or settings of a real account, or of moto."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}


def client_environment(url: str, key: str, region: str) -> dict[str, str]:
    """Give the variables with which clients of AWS use a lab."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_folder() -> Path:
    """Make the folder of this process's lab, with its pid in the name so that a later lab can clear it away."""
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))


def remove(folder: Path) -> None:
    """Remove a tree, also where a node's script has taken away the permission to look into a directory."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                inner = Path(parent, name)
                if not inner.is_symlink():
                    inner.chmod(stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> int:
    """Remove the folders of labs that were killed, and tell how many. Other users' folders are not touched."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        found = re.fullmatch(rf"{FOLDER_PREFIX}(\d+)-\w+", folder.name)
        try:
            ours = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
        except OSError:
            continue
        if found and ours and not Path(f"/proc/{found[1]}").exists():
            remove(folder)
            removed += 1
    return removed
