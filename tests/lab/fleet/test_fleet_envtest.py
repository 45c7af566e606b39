"""The real API server's runner, with stand-ins for its two programs: there is no kube-apiserver to install here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fleets import ready, until

from leptonami.errors import InputError, LeptonamiError
from leptonami.lab.fleet import envtest
from leptonami.lab.fleet.api import connect

ETCD = """\
import sys, time
flags = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
assert flags["--listen-client-urls"].startswith("http://127.0.0.1:"), flags
assert flags["--listen-peer-urls"].startswith("http://127.0.0.1:"), flags
open(sys.argv[0] + ".pid", "w").write(str(__import__("os").getpid()))
time.sleep(600)
"""
# Serves what a kube-apiserver does as far as it goes: its own certificate, /readyz to anybody, the rest to the token.
SERVER = """\
import http.server, json, os, pathlib, ssl, sys
from cryptography.hazmat.primitives import serialization
from leptonami.lab.kube.tls import server_context
flags = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
if os.environ.get("BROKEN"):
    sys.exit("Error: bad flag")
assert flags["--bind-address"] == "127.0.0.1"
assert pathlib.Path(flags["--service-account-key-file"]).parent.stat().st_mode & 0o77 == 0
token = pathlib.Path(flags["--token-auth-file"]).read_text().split(",")[0]
context, authority = server_context()
folder = pathlib.Path(flags["--cert-dir"])
folder.mkdir()
(folder / "apiserver.crt").write_text(authority)
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        allowed = self.path == "/readyz" or self.headers.get("Authorization") == "Bearer " + token
        body = json.dumps({"gitVersion": "v1.33.0", "etcd": flags["--etcd-servers"]}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", int(flags["--secure-port"])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
open(sys.argv[0] + ".pid", "w").write(str(os.getpid()))
server.serve_forever()
"""

# One that does all that the lab's does: what the fleet needs, on the other's port, with its token and its certificate.
WHOLE_SERVER = """\
import pathlib, sys, time
from leptonami.lab import kube
flags = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
token = pathlib.Path(flags["--token-auth-file"]).read_text().split(",")[0]
server = kube.start(port=int(flags["--secure-port"]), tokens={token: "admin"}, version="1.33")
folder = pathlib.Path(flags["--cert-dir"])
folder.mkdir()
(folder / "apiserver.crt").write_text(server.ca_pem)
time.sleep(600)
"""


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Make the stand-ins."""
    for name, text in (("etcd", ETCD), ("kube-apiserver", SERVER)):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n{text}")
        program.chmod(0o755)
    return tmp_path


def test_both_run_and_end_with_their_user(assets: Path) -> None:
    with envtest.start({"KUBEBUILDER_ASSETS": str(assets)}) as kubeconfig:
        folder = kubeconfig.parent
        assert folder.stat().st_mode & 0o77 == 0
        api = connect(kubeconfig)
        assert api.host.startswith("https://127.0.0.1:")
        assert api.ask("GET", "/version")["etcd"].startswith("http://127.0.0.1:")
        api.close()
        pids = pids_of(assets)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not folder.exists()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not here")
def test_both_end_with_a_fleet_that_is_killed(assets: Path) -> None:
    program = (
        "import time; from leptonami.lab.fleet import envtest\n"
        "with envtest.start(): print(1, flush=True); time.sleep(600)"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "KUBEBUILDER_ASSETS": str(assets), "TMPDIR": str(assets)},
    )
    with user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"1\n"
        pids = pids_of(assets)
        assert all(alive(pid) for pid in pids)
        user.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def pids_of(assets: Path) -> list[int]:
    """Give the processes of both; that one answers does not say that the other has come to write its number."""
    files = [assets / f"{name}.pid" for name in envtest.PROGRAMS]
    until(lambda: all(each.exists() and each.read_text() for each in files))
    return [int(each.read_text()) for each in files]


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ports_are_nobody_elses_until_they_are_used() -> None:
    with envtest.reserved_ports(2) as ports:
        taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(50)]
        assert not {each.getsockname()[1] for each in taken} & set(ports)
        servers = [socket.create_server(("127.0.0.1", port)) for port in ports]
        for server, port in zip(servers, ports, strict=True):
            with socket.create_connection(("127.0.0.1", port), 60):
                server.accept()[0].close()
        for each in (*taken, *servers):
            each.close()


def test_a_server_that_does_not_start_is_told_with_its_last_words(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with (
        pytest.raises(LeptonamiError, match="ended with 1: Error: bad flag"),
        envtest.start({**os.environ, "KUBEBUILDER_ASSETS": str(assets)}),
    ):
        pass


@pytest.mark.parametrize("environment", [{}, {"KUBEBUILDER_ASSETS": "/nowhere"}])
def test_missing_programs_are_named(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="KUBEBUILDER_ASSETS"):
        envtest.assets(environment)


def test_a_fleet_runs_pods_on_the_server_that_it_started(assets: Path) -> None:
    (assets / "kube-apiserver").write_text(f"#!{sys.executable}\n{WHOLE_SERVER}")
    command = [sys.executable, "-m", "leptonami.lab.fleet", "--envtest", "--speed", "200"]
    environment = {**os.environ, "KUBEBUILDER_ASSETS": str(assets), "TMPDIR": str(assets)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as fleet:
        assert fleet.stdin is not None
        assert fleet.stdout is not None
        kubeconfig = Path(json.loads(fleet.stdout.readline())["kubeconfig"])
        api = connect(kubeconfig)
        has = {"cpu": "4", "memory": "16Gi", "pods": "58"}
        about = {"name": "one", "annotations": {"kwok.x-k8s.io/node": "fake"}}
        api.ask("POST", "/api/v1/nodes", {"metadata": about, "status": {"capacity": has, "allocatable": has}})
        spec = {"containers": [{"name": "main", "image": "nginx:1.27"}]}
        api.ask("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "one"}, "spec": spec})
        until(lambda: ready(api.ask("GET", "/api/v1/namespaces/default/pods/one")))
        api.close()
        fleet.stdin.close()
        assert fleet.wait(120) == 0
    assert not kubeconfig.exists()
