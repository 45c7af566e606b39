"""The Kubernetes side of a lab's cluster: its API server, a kubeconfig for people, and the fleet that runs its nodes.

The API server lives in the lab's process. The fleet is a process of its own which only knows addresses; when it ends by
itself it is started again, and that is counted and said (`/lab-api/clusters`, `leptonami lab status`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonami.lab.world import World, clean_environment, client_environment

__all__ = ["Client", "Fleet", "Plane", "open_plane"]

ANSWER_S, STOP_S = 30.0, 5.0
LONGEST_PAUSE_S = 30.0
OK, CONFLICT = 200, 409
FLEET = "leptonami.lab.fleet"
ADMIN = "lab-admin"
# What EKS itself is called in a cluster's audit log.
CONTROLLER = "eks:node-manager"


class Client:
    """Speaks to a cluster's API server over HTTP, as EKS does."""

    def __init__(self, url: str, ca_pem: str, token: str) -> None:
        import urllib3

        self.url = url
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self.pool = urllib3.PoolManager(
            ssl_context=ssl.create_default_context(cadata=ca_pem), retries=False, timeout=ANSWER_S, maxsize=4
        )

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; give status and document, status 0 if there is no answer."""
        import urllib3

        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self.pool.request(
                method, self.url + path, body=data, headers={**self.headers, "Content-Type": kind}
            )
            found: dict[str, Any] = answer.json()
        except (urllib3.exceptions.HTTPError, ValueError):
            return 0, {}
        return answer.status, found

    def items(self, path: str) -> list[dict[str, Any]]:
        """List objects; nothing if there is no answer."""
        found: list[dict[str, Any]] = self.ask("GET", path)[1].get("items") or []
        return found

    def merge(self, path: str, patch: dict[str, Any]) -> int:
        """Patch an object; give the status."""
        return self.ask("PATCH", path, patch, "application/merge-patch+json")[0]

    def change(self, path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
        """Send the patch that `change` makes of an object, and make it anew if somebody else was quicker.

        For lists to which others add too, such as taints. Gives the status.
        """
        while True:
            status, found = self.ask("GET", path)
            if status != OK:
                return status
            patch = change(found)
            about = {**patch.get("metadata", {}), "resourceVersion": found["metadata"]["resourceVersion"]}
            status = self.merge(path, {**patch, "metadata": about})
            if status != CONFLICT:
                return status


@dataclass
class Fleet:
    """The process that runs a cluster's nodes, kept alive.

    Attributes
    ----------
    restarts
        How often it ended by itself and was started again.
    """

    settings: dict[str, Any]
    environment: dict[str, str]
    errors: Path
    closing: threading.Event
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    _thread: threading.Thread | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _last: str = ""

    def start(self) -> None:
        """Start it, and a thread that looks after it; not if this leptonami has no fleet."""
        if importlib.util.find_spec(FLEET + ".__main__") is None:
            return
        self._thread = threading.Thread(target=self._keep, name="fleet", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        pause = 0.5
        while (process := self._begin()) is not None:
            process.wait()
            self._last = self.said
            if self.closing.wait(pause):
                break
            self.restarts += 1
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _begin(self) -> subprocess.Popen[bytes] | None:
        """Start the process, unless it is to be no more: `stop` must not miss one that is just being started."""
        with self._lock:
            if self.closing.is_set():
                return None
            with self.errors.open("wb") as said:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", FLEET, json.dumps(self.settings)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=self.environment,
                )
            return self.process

    @property
    def said(self) -> str:
        """Give the last line of its complaints; of the process before it, where this one has none."""
        with contextlib.suppress(OSError):
            lines = self.errors.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else self._last
        return self._last

    def stop(self) -> None:
        """End it: it watches its standard input."""
        self.closing.set()
        with self._lock:
            process = self.process
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._thread is not None:
            self._thread.join(STOP_S)


@dataclass
class Plane:
    """The API server of one cluster, with what reaches it."""

    server: Any
    client: Client
    kubeconfig: Path
    fleet: Fleet

    def stop(self) -> None:
        """End the fleet, then the server; remove the kubeconfig."""
        self.fleet.stop()
        self.client.pool.clear()
        self.server.stop()
        self.kubeconfig.unlink(missing_ok=True)


def open_plane(
    world: World,
    *,
    cluster: str,
    region: str,
    version: str,
    endpoint: str,
    key: str,
    seed: int | None,
    secret_of: Callable[[str], str | None] | None,
    fleet: bool,
) -> Plane:
    """Start the API server of a cluster, and its fleet.

    Parameters
    ----------
    endpoint
        The lab's own URL.
    key
        The lab's access key.
    secret_of
        Gives the secret of an access key.
    fleet
        Whether a fleet is started; otherwise nodes are somebody else's.
    """
    from leptonami.lab import kube

    token, own = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    server: Any = kube.start(
        cluster=cluster, tokens={token: ADMIN, own: CONTROLLER}, version=version, secret_of=secret_of
    )
    folder = world.folder / "clusters" / region
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = folder / f"{cluster}.kubeconfig"
    # JSON is YAML. Nobody else may read the token.
    with os.fdopen(os.open(kubeconfig, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(server.kubeconfig(), file, indent=1)
    runner = Fleet(
        {
            "lab": endpoint,
            "cluster": cluster,
            "region": region,
            "kubeconfig": str(kubeconfig),
            "speed": str(world.speed),
            "seed": seed,
        },
        {
            **clean_environment(),
            **client_environment(endpoint, key, region),
            "KUBECONFIG": str(kubeconfig),
        },
        folder / f"{cluster}.fleet.log",
        threading.Event(),
    )
    if fleet:
        runner.start()
    return Plane(server, Client(server.url, server.ca_pem, own), kubeconfig, runner)
