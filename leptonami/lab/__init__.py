"""The embedded AWS on 127.0.0.1: an optional extra that nothing else in leptonami imports.

It is a simulation. What it can and cannot tell stands in `docs/lab.md`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from leptonami.errors import LeptonamiError
from leptonami.lab.running import ask
from leptonami.lab.world import DEFAULT_SPEED, clean_environment, client_environment

__all__ = ["Lab", "start"]

STARTUP_S = 120  # two or three of the processor, which others may be at
STOP_S = 60  # until it is killed, and leaves its files: it takes a second or two, more where others are at work
POLL = "0.05:0.5"
DEFAULT_KUBERNETES = "1.33"
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
    kubeconfig
        The file with which the cluster that the lab began with is reached; empty without one. It goes with the lab.
    """

    url: str
    environment: dict[str, str]
    recorded: str
    process: subprocess.Popen[bytes]
    kubeconfig: str = ""

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

    def clusters(self, *, nodes: bool = True) -> list[dict[str, Any]]:
        """Describe the clusters with their fleets and node groups, and count their nodes if that is wanted."""
        found: list[dict[str, Any]] = self._ask("GET", "clusters" if nodes else "clusters?brief")
        return found

    def set_fleet_faults(self, *faults: Mapping[str, Any]) -> None:
        """Replace what goes wrong on nodes; `leptonami.lab.fleet.faults` says what there is."""
        self._ask("PUT", "fleet-faults", [dict(each) for each in faults])

    def set_patience(self, seconds: float) -> None:
        """Let EKS wait at least so long for nodes and pods; what waits already goes by it too."""
        self._ask("PUT", "patience", seconds)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the lab's time stand still, so that a passing state can be looked at; `skip` lets some of it pass."""
        self._ask("PUT", "time", {"held": True})
        try:
            yield
        finally:
            self._ask("PUT", "time", {"held": False})

    def skip(self, seconds: float) -> None:
        """Let seconds of the real AWS pass at once."""
        self._ask("PUT", "time", {"skip": seconds})

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
        return ask(self.url, method, path, value)


def start(
    *,
    region: str = "us-west-2",
    speed: float = DEFAULT_SPEED,
    seed: int | None = None,
    faults: Iterable[Mapping[str, Any]] = (),
    port: int = 0,
    log: str | None = None,
    cluster: bool | str = False,
    fleet: bool = True,
    patience: float = 45.0,
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
    cluster
        Whether there are EKS and Auto Scaling, and a cluster named `leptonami`; or its Kubernetes version.
    fleet
        Whether clusters get nodes by themselves; without, the nodes are the caller's to make.
    patience
        Seconds that EKS waits at least for nodes and for pods, whatever the speed.

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
        "cluster": DEFAULT_KUBERNETES if cluster is True else cluster or "",
        "fleet": fleet,
        "patience": patience,
    }
    # The key is not with the settings: everybody on the machine can read a command line.
    environment = {**clean_environment(), "LEPTONAMI_LAB_KEY": key}
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
                hint="is the port free, the region one of AWS's, and leptonami[lab] installed?",
            )
    url = f"http://127.0.0.1:{ready['port']}"
    return Lab(
        url=url,
        recorded=ready["recorded"],
        process=process,
        kubeconfig=ready["kubeconfig"],
        environment={
            **client_environment(url, key, region),
            "LEPTONAMI_LAB": "1",
            **({"KUBECONFIG": ready["kubeconfig"]} if ready["kubeconfig"] else {}),
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
