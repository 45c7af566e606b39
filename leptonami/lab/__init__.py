"""The embedded AWS on 127.0.0.1: an optional extra that nothing else in leptonami imports.

It is a simulation. What it can and cannot tell stands in `docs/lab.md`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from leptonami.errors import LeptonamiError
from leptonami.lab.world import DEFAULT_SPEED

__all__ = ["Lab", "start"]

STARTUP_S = 60
STOP_S = 10
POLL = "0.05:0.5"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass
class Lab:
    """A running lab. It ends with `stop`, at the end of a `with`, or when this process does, however it ends.

    Attributes
    ----------
    url
        The endpoint of all its services.
    environment
        The variables with which boto3, the AWS CLI and leptonami use it.
    recorded
        Why scripts are recorded and not run on this machine; empty where they run.
    """

    url: str
    environment: dict[str, str]
    recorded: str
    process: subprocess.Popen[bytes]

    def __enter__(self) -> Lab:
        """Give the lab itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    def stop(self) -> None:
        """End the lab and wait until it has removed its files. Harmless when it has ended."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def state(self, *, ids: bool = False) -> Any:
        """Count what there is, by kind; with `ids`, name it."""
        return self._ask("GET", "state?ids" if ids else "state")

    def calls(self) -> dict[str, int]:
        """Count the requests so far, by `service.Operation`."""
        found: dict[str, int] = self._ask("GET", "calls")
        return found

    def reset_calls(self) -> None:
        """Count from nothing again."""
        self._ask("DELETE", "calls")

    def faults(self) -> list[dict[str, Any]]:
        """Give the faults with how often each was `seen` and `hits`."""
        found: list[dict[str, Any]] = self._ask("GET", "faults")
        return found

    def set_faults(self, *faults: Mapping[str, Any]) -> None:
        """Replace the faults; `leptonami.lab.faults` says what there is. Without arguments, nothing goes wrong."""
        self._ask("PUT", "faults", [dict(each) for each in faults])

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the URL is our own
            f"{self.url}/lab-api/{path}",
            method=method,
            data=None if value is None else json.dumps(value).encode(),
            headers={"Content-Type": "application/json"},
        )
        # Straight to 127.0.0.1: a proxy of the environment has no business here.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)


def start(
    *,
    region: str = "us-west-2",
    speed: float = DEFAULT_SPEED,
    seed: int | None = None,
    faults: Iterable[Mapping[str, Any]] = (),
    port: int = 0,
    log: str | None = None,
) -> Lab:
    """Start a lab in a child process.

    Parameters
    ----------
    region
        The region that the environment names; the others exist too.
    speed
        How many times faster than AWS things happen; `inf` (or 0) without any delay.
    seed
        Makes ids and the luck of faults the same in every lab with this seed.
    faults
        What goes wrong; see `leptonami.lab.faults`.
    port
        The port on 127.0.0.1; by default a free one.
    log
        A file that gets a line for each request; by default there is none.

    Raises
    ------
    LeptonamiError
        If it does not start.
    """
    key = "LKIA" + "".join(secrets.choice(ALPHABET) for _ in range(16))
    settings = {
        "region": region,
        "speed": str(speed),
        "seed": seed,
        "faults": [dict(each) for each in faults],
        "port": port,
        "log": str(Path(log).absolute()) if log else None,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    # Not with the settings: everybody on the machine can read a command line.
    environment["LEPTONAMI_LAB_KEY"] = key
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "leptonami.lab", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
            # Of its own session: a Ctrl-C is for us, and the lab must be there while we clean up.
            start_new_session=True,
        )
        ready = first_line(process.stdout, STARTUP_S)
        if ready is None:
            process.kill()
            process.communicate()
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()
            raise LeptonamiError(
                f"the lab does not start: {last[-1] if last else 'it says nothing'}",
                hint="is the port free? is leptonami[lab] installed?",
            )
    url = f"http://127.0.0.1:{ready['port']}"
    return Lab(
        url=url,
        recorded=ready["recorded"],
        process=process,
        environment={
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LEPTONAMI_LAB": "1",
            "LEPTONAMI_POLL": POLL,
        },
    )


def first_line(stream: IO[bytes] | None, seconds: float) -> dict[str, Any] | None:
    """Read the line with which the process says that it is ready; nothing if it ends or takes too long."""
    import select

    if stream is None or not select.select([stream], [], [], seconds)[0]:
        return None
    line = stream.readline()
    found: dict[str, Any] | None = json.loads(line) if line else None
    return found
