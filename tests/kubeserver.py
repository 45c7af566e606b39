"""A small HTTPS server on 127.0.0.1 that answers like a Kubernetes API server, and can misbehave. For tests only."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a-token-of-this-test"


@dataclass
class KubeServer:
    """The server: what it has, what it was asked, and how it misbehaves.

    `lists` maps a path to its objects, `documents` a path to one object, `logs` a path to text. `wrong` maps a path to
    a function that answers in its own way and returns True, or False to let the usual answer go on. `writes` answers
    what is no GET, which is refused otherwise.
    """

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    wrong: dict[str, Callable[[BaseHTTPRequestHandler, dict[str, list[str]]], bool]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    writes: Callable[[BaseHTTPRequestHandler], object] | None = None
    kubeconfig: Path = Path()
    url: str = ""

    def take(self, folder: Path) -> None:
        """Serve the recorded objects of a folder: nodes, pods, daemonsets, events."""
        for name, path in (
            ("nodes", "/api/v1/nodes"),
            ("pods", "/api/v1/pods"),
            ("events", "/api/v1/events"),
            ("daemonsets", "/apis/apps/v1/daemonsets"),
        ):
            items = json.loads((folder / f"{name}.json").read_text())["items"]
            # A listing of the API has no kind in its items.
            self.lists[path] = [
                {key: value for key, value in each.items() if key not in {"kind", "apiVersion"}} for each in items
            ]
        for path in (
            "/apis/apps/v1/replicasets",
            "/apis/apps/v1/deployments",
            "/apis/apps/v1/statefulsets",
            "/apis/batch/v1/jobs",
            "/api/v1/replicationcontrollers",
            "/apis/policy/v1/poddisruptionbudgets",
            "/apis/coordination.k8s.io/v1/leases",
            "/api/v1/configmaps",
        ):
            self.lists.setdefault(path, [])


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> bool:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def status(handler: BaseHTTPRequestHandler, code: int, message: str) -> bool:
    document = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return answer(handler, code, json.dumps(document).encode())


def make_handler(server: KubeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            server.asked.append(("GET", self.path))
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or token != TOKEN:
                status(self, 401, "Unauthorized")
            elif parts.path in server.wrong and server.wrong[parts.path](self, query):
                pass
            elif parts.path in server.lists:
                self.page(server.lists[parts.path], query)
            elif parts.path in server.documents:
                answer(self, 200, json.dumps(server.documents[parts.path]).encode())
            elif parts.path in server.logs:
                answer(self, 200, server.logs[parts.path], "text/plain")
            else:
                status(self, 404, "the server could not find the requested resource")

        def page(self, items: list[dict[str, Any]], query: dict[str, list[str]]) -> None:
            begin = int(query.get("continue", ["0"])[0])
            limit = int(query.get("limit", ["1000000"])[0])
            rest = len(items) > begin + limit
            about = {"resourceVersion": "1", **({"continue": str(begin + limit)} if rest else {})}
            page = items[begin : begin + limit]
            answer(self, 200, json.dumps({"kind": "List", "metadata": about, "items": page}).encode())

        def refuse(self) -> None:
            server.asked.append((self.command, self.path))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if server.writes:
                server.writes(self)
                return
            status(self, 405, "nothing but GET is expected here")

        do_POST = do_PUT = do_PATCH = do_DELETE = refuse

    return Handler


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's API server")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "server.crt", folder / "server.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def kubeconfig(url: str, certificate: Path, *, token: str = TOKEN, trusted: bool = True) -> dict[str, Any]:
    data = base64.b64encode(certificate.read_bytes()).decode()
    cluster = {"server": url, **({"certificate-authority-data": data} if trusted else {})}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me"}}],
    }


@contextmanager
def serving(folder: Path) -> Iterator[KubeServer]:
    """Serve, with a kubeconfig in a folder."""
    server = KubeServer()
    files = certificate(folder)
    http = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(server))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    http.daemon_threads = True
    http.block_on_close = False
    server.url = f"https://127.0.0.1:{http.server_address[1]}"
    server.kubeconfig = folder / "kubeconfig"
    server.kubeconfig.write_text(json.dumps(kubeconfig(server.url, files[0])))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def hang(seconds: float) -> Callable[[BaseHTTPRequestHandler, dict[str, list[str]]], bool]:
    """Answer nothing for a while."""

    def wait(handler: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> bool:
        time.sleep(seconds)
        handler.close_connection = True
        return True

    return wait
