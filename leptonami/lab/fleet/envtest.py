"""A real API server to run the fleet against: `etcd` and `kube-apiserver` from `KUBEBUILDER_ASSETS`, as envtest does.

https://book.kubebuilder.io/reference/envtest. Both listen on 127.0.0.1 only, live in a private folder, and end with the
`with` that started them, or with this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from leptonami.errors import InputError, LeptonamiError, Timeout

__all__ = ["assets", "start"]

VARIABLE = "KUBEBUILDER_ASSETS"
PROGRAMS = ("etcd", "kube-apiserver")
READY_S = 60.0
STOP_S = 10.0


def assets(environment: Mapping[str, str] = os.environ) -> Path:
    """Find the folder of the two programs.

    Raises
    ------
    InputError
        If it is not named, or one of them is not there.
    """
    named = environment.get(VARIABLE, "")
    for program in PROGRAMS:
        if not named or not os.access(Path(named) / program, os.X_OK):
            raise InputError(
                f"there is no {program}" if named else "it is not set",
                resource=f"{VARIABLE}={named}" if named else VARIABLE,
                hint="`setup-envtest use -p path` downloads etcd and kube-apiserver and prints the folder",
            )
    return Path(named)


@contextlib.contextmanager
def start(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Start both, give the kubeconfig of an administrator, and end them at the end.

    Raises
    ------
    InputError
        If a program is missing.
    LeptonamiError
        If one of them ends by itself, or is not ready in time.
    """
    programs = assets(environment)
    with contextlib.ExitStack() as stack:
        # Only we can read it: there is a key and a token in it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leptonami-envtest-")))
        client, peer, port = stack.enter_context(reserved_ports(3))
        url, authority = f"https://127.0.0.1:{port}", folder / "apiserver/apiserver.crt"
        token = secrets.token_urlsafe(32)
        (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n', encoding="utf-8")
        run(stack, folder, programs / "etcd", etcd_flags(folder, client, peer))
        server = run(stack, folder, programs / "kube-apiserver", server_flags(folder, client, port))
        wait_ready(server, url, folder, authority)
        cluster, user = {"server": url, "certificate-authority": str(authority)}, {"token": token}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "envtest", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "envtest", "context": {"cluster": "envtest", "user": "admin"}}],
            "current-context": "envtest",
        }
        (folder / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
        yield folder / "kubeconfig"


def etcd_flags(folder: Path, client: int, peer: int) -> dict[str, object]:
    """Give etcd's flags. It need not survive a crash of the machine."""
    return {
        "data-dir": folder / "etcd",
        "listen-client-urls": f"http://127.0.0.1:{client}",
        "advertise-client-urls": f"http://127.0.0.1:{client}",
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"default=http://127.0.0.1:{peer}",
        "unsafe-no-fsync": "true",
    }


def server_flags(folder: Path, etcd: int, port: int) -> dict[str, object]:
    """Give the API server's flags: envtest's, with a token in place of client certificates."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "service-account.key").write_bytes(key)
    return {
        "etcd-servers": f"http://127.0.0.1:{etcd}",
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "apiserver",
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "ServiceAccount",
        "service-cluster-ip-range": "10.0.0.0/24",
        "service-account-issuer": "https://127.0.0.1",
        "service-account-key-file": folder / "service-account.key",
        "service-account-signing-key-file": folder / "service-account.key",
        "allow-privileged": "true",
    }


def run(
    stack: contextlib.ExitStack, folder: Path, program: Path, flags: Mapping[str, object]
) -> subprocess.Popen[bytes]:
    """Start a program whose output goes into a file of the folder, and which ends with us, even if we are killed.

    That is the kernel's doing, which goes by the thread that starts it; on Linux only, where util-linux has `setpriv`.
    """
    bound = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    words = [*bound, str(program), *(f"--{name}={value}" for name, value in flags.items())]
    said = stack.enter_context((folder / f"{program.name}.log").open("wb"))
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder, process_group=0, umask=0o077
    )
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_ready(process: subprocess.Popen[bytes], url: str, folder: Path, authority: Path) -> None:
    """Wait until the API server says that it is ready.

    Raises
    ------
    LeptonamiError
        If it ends, or takes too long.
    """
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            log = (folder / "kube-apiserver.log").read_text(errors="replace").strip().splitlines()
            raise LeptonamiError(
                f"it ended with {process.returncode}: {log[-1] if log else 'it says nothing'}",
                resource="kube-apiserver",
            )
        with contextlib.suppress(OSError):  # it does not listen, or is not ready
            https = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority)))
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
            with opener.open(f"{url}/readyz", timeout=5):
                return
        time.sleep(0.1)
    raise Timeout(f"it is not ready after {READY_S:g} s", resource="kube-apiserver")


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Give ports on 127.0.0.1 that nobody else is given meanwhile.

    Linux lets a program listen where a socket is bound that does not listen itself, if both reuse addresses, as servers
    do; and it gives such a port to nobody who asks for any.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]
