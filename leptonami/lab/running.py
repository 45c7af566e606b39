"""The labs that run on this machine and are this user's: found by the word that each leaves in its own folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leptonami.errors import InputError, LeptonamiError
from leptonami.lab.world import FOLDER_PREFIX

__all__ = ["Running", "ask", "choose", "described", "end", "labs"]

END_S = 60.0  # a few seconds where nothing else is at work; it ends clusters and scripts first, and removes its files
ANSWER_S = 30.0


def ask(url: str, method: str, path: str, value: Any = None) -> Any:
    """Ask a lab's own API.

    Raises
    ------
    OSError
        If it does not answer, or refuses (`urllib.error.HTTPError`).
    ValueError
        If it answers something else than JSON.
    """
    request = urllib.request.Request(  # noqa: S310 - the URL is a lab's
        f"{url}/lab-api/{path}",
        method=method,
        data=None if value is None else json.dumps(value).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Straight to 127.0.0.1: a proxy of the environment has no business here.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_S) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Running:
    """A lab that runs.

    Attributes
    ----------
    pid
        Its process, checked to be one of ours and a lab.
    """

    pid: int
    url: str
    region: str
    kubeconfig: str

    def ask(self, path: str) -> Any:
        """Ask its own API.

        Raises
        ------
        LeptonamiError
            If it does not answer.
        """
        try:
            return ask(self.url, "GET", path)
        except (OSError, ValueError) as problem:
            raise LeptonamiError(f"the lab does not answer: {problem}", resource=self.url) from problem

    def as_dict(self) -> dict[str, Any]:
        """Describe it, with what is in it."""
        calls: dict[str, int] = self.ask("calls")
        return {
            **vars(self),
            "simulated": True,
            "calls": sum(calls.values()),
            "state": self.ask("state"),
            "clusters": self.ask("clusters"),
        }


def labs() -> list[Running]:
    """Find the labs of this user, in the order of their processes."""
    found = []
    for word in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/lab.json"):
        try:
            if word.parent.is_symlink() or word.stat().st_uid != os.getuid():
                continue
            known = Running(**json.loads(word.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if is_lab(known.pid) and word.parent.name.startswith(f"{FOLDER_PREFIX}{known.pid}-"):
            found.append(known)
    return sorted(found, key=lambda each: each.pid)


def described(found: list[Running]) -> list[dict[str, Any]]:
    """Describe labs; one that has ended since it was found, or that is about to, is left out.

    Raises
    ------
    LeptonamiError
        If one that runs does not answer.
    """
    rows = []
    for each in found:
        try:
            rows.append(each.as_dict())
        except LeptonamiError:
            if each in labs():
                raise
    return rows


def is_lab(pid: int) -> bool:
    """Tell whether a process is this user's and a lab, and not another that got the number of one."""
    here = Path(f"/proc/{pid}")
    try:
        words = here.joinpath("cmdline").read_bytes().split(b"\0")
        return here.stat().st_uid == os.getuid() and b"leptonami.lab" in words
    except OSError:
        return False


def choose(found: list[Running], pid: int | None) -> Running:
    """Give the lab that is meant: the one of a process id, the one whose environment this is, or the only one.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    chosen = [each for each in found if pid in (None, each.pid)]
    if chosen and pid is None and "LEPTONAMI_LAB" in os.environ:
        here = os.environ.get("AWS_ENDPOINT_URL")
        chosen = [each for each in found if each.url == here]
        if not chosen:
            others = ", ".join(str(each.pid) for each in found)
            raise InputError(f"the lab of this environment, {here}, has ended", hint=f"others: --pid {others}")
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise InputError(
            "no lab runs here" if pid is None else f"no lab of yours has the process id {pid}",
            hint="leptonami lab up starts one; leptonami lab status shows those that run",
        )
    pids = ", ".join(str(each.pid) for each in chosen)
    raise InputError(f"{len(chosen)} labs run here: {pids}", hint="say which: --pid PID")


def end(lab: Running) -> None:
    """End a lab by its own process id, and wait until it is gone.

    Raises
    ------
    LeptonamiError
        If it does not end.
    """
    if not is_lab(lab.pid):
        return
    with contextlib.suppress(ProcessLookupError):  # it has ended since we looked
        os.kill(lab.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while is_lab(lab.pid):
        if time.monotonic() > deadline:
            raise LeptonamiError(f"process {lab.pid} does not end", resource=lab.url, hint=f"kill -KILL {lab.pid}")
        time.sleep(0.05)
