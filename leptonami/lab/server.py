"""The lab's process: moto's server on 127.0.0.1, put together with what the lab changes, and its own small API.

`/lab-api/` (see `Application.own`) is for tests, for the fleet and for the curious. Every other path is AWS.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs

from leptonami.errors import InputError
from leptonami.lab.faults import Faults
from leptonami.lab.late import Late, by_id
from leptonami.lab.wire import ApiError, Call, error, identify
from leptonami.lab.world import ACCOUNT, DEFAULT_SPEED, Times, World, new_folder, remove_stale

__all__ = ["Settings", "main"]

SERVICES = {"ec2", "iam", "ssm", "sts"}
# Only where there are clusters: they take their time to be imported.
CLUSTER_SERVICES = {"autoscaling", "eks"}
LOOPBACK = {"127.0.0.1", "localhost"}
WATCH_PARENT_S = 1.0
LONGEST_SKIP_S = 1e9
LONGEST_BODY = 4 * 1024 * 1024
THROTTLED = {"ec2": ("RequestLimitExceeded", 503), "iam": ("Throttling", 400)}
StartResponse = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a lab is started with; see `leptonami.lab.start`."""

    region: str = "us-west-2"
    port: int = 0
    speed: float = DEFAULT_SPEED
    seed: int | None = None
    faults: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: str | None = None
    key: str = ""
    cluster: str = ""
    fleet: bool = True
    patience: float = 45.0


class Application:
    """The WSGI application: checks the lab's key, strikes with faults, counts calls, and lets moto answer the rest."""

    def __init__(
        self, world: World, settings: Settings, moto: Callable[..., Iterable[bytes]], seed: Callable[[str], None]
    ) -> None:
        self.world = world
        self.settings = settings
        self.moto = moto
        self.seed = seed
        self.seeded: set[str] = set()
        self.late = Late()
        self.services = SERVICES | (CLUSTER_SERVICES if settings.cluster else set())
        self.fleet_faults: list[dict[str, Any]] = []
        self.log = Path(settings.log).open("a", buffering=1) if settings.log else None  # noqa: SIM115 - as long as we live

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("HTTP_HOST", "").rpartition(":")[0] not in LOOPBACK:
            # A page in a browser could reach this port under a name of its own making.
            return plain(start_response, "403 Forbidden", {"error": "this lab answers on 127.0.0.1 only"})
        length = environ.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()) or int(length) > LONGEST_BODY:
            return plain(start_response, "413 Content Too Large", {"error": f"at most {LONGEST_BODY} bytes"})
        if environ.get("PATH_INFO", "").startswith("/lab-api/"):
            return self.answer_own(environ, start_response)
        call = identify(environ)
        if not call.key:
            text = "this is a leptonami lab: a simulated AWS; requests must be signed with its key (leptonami lab up)"
            return plain(start_response, "403 Forbidden", {"error": text})
        begun = time.monotonic()
        lost, delay, status, headers, body = False, None, 400, list[tuple[str, str]](), b""
        try:
            with self.world.lock:
                self.world.advance()
                self.world.calls[call.name] += 1
                delay = self.world.faults.hit("delay", operation=call.name)
                self.refuse(call, request_of(environ))
                if self.world.faults.hit("reset", operation=call.name) is not None:
                    lost = True
                else:
                    lost = self.world.faults.hit("lost-reply", operation=call.name) is not None
                    status, headers, body = self.ask_moto(call, environ)
                    headers, body = self.be_late(call, environ, headers, body)
        except ApiError as problem:
            status = problem.status
            headers, body = error(call, problem)
        if delay is not None:
            time.sleep(delay.seconds)
        if self.log is not None:
            took = round((time.monotonic() - begun) * 1000, 1)
            self.log.write(json.dumps({"call": call.name, "status": status, "ms": took, "lost": lost}) + "\n")
        if lost and (connection := environ.get("werkzeug.socket")) is not None:
            connection.shutdown(socket.SHUT_RDWR)
        start_response(f"{status} {'OK' if status < 300 else 'Error'}", headers)
        return [body]

    def refuse(self, call: Call, request: bytes) -> None:
        """Refuse what must not reach moto: other keys, services the lab lacks, and what a fault strikes."""
        # Here and not above: moto must be imported after its settings are set.
        from leptonami.lab.authorize import issued

        if call.key != self.settings.key and not issued(call.key):
            code = {"ssm": "UnrecognizedClientException", "ec2": "AuthFailure"}.get(
                call.service, "InvalidClientTokenId"
            )
            raise ApiError(
                code, "leptonami lab: not this lab's key; use the environment that `leptonami lab up` prints", 403
            )
        if call.service not in self.services:
            raise lacking(call)
        if fault := self.world.faults.hit("throttle", operation=call.name):
            code, status = THROTTLED.get(call.service, ("ThrottlingException", 400))
            raise ApiError(code, "Request limit exceeded.", status)
        asks = "id" if by_id(request) else "filter"
        if fault := self.world.faults.hit("error", operation=call.name, asks=asks):
            raise ApiError(fault.code, fault.message, fault.status)

    def ask_moto(self, call: Call, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        """Let moto (with the lab's classes) answer; what it lacks or breaks on is said so, never hidden."""
        caught: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            caught.update(status=int(status.split(maxsplit=1)[0]), headers=headers)
            return lambda _: None

        try:
            if call.region not in self.seeded:
                self.seed(call.region)
                self.seeded.add(call.region)
            body = b"".join(self.moto(environ, start_response))
        except ApiError:
            raise
        except NotImplementedError as problem:
            raise lacking(call, str(problem)) from problem
        except Exception as problem:
            # 400, not 500: a client that tries again would only see it again.
            raise ApiError(
                "LabInternalError", f"leptonami lab: {call.name}: {type(problem).__name__}: {problem}"
            ) from problem
        if caught["status"] >= 400 and (not body or body.lower().startswith(b"<!doctype")):
            # Flask's own page: no such path.
            raise lacking(call)
        return caught["status"], caught["headers"], body

    def be_late(
        self, call: Call, environ: dict[str, Any], headers: list[tuple[str, str]], body: bytes
    ) -> tuple[list[tuple[str, str]], bytes]:
        """Leave out of a list what is new, if a fault says that lists are late."""
        if not self.world.faults.ordered("stale"):
            return headers, body
        self.late.note(call, body)
        fault = self.world.faults.hit("stale", operation=call.name)
        if fault is None:
            return headers, body
        body = self.late.without_new(call, request_of(environ), body, fault.calls)
        return [each for each in headers if each[0].lower() != "content-length"], body

    def answer_own(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer the lab's own API."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix("/lab-api/")
        if method != "GET" and environ.get("CONTENT_TYPE", "").partition(";")[0] != "application/json":
            # A form that a browser sends without asking cannot have this type.
            return plain(start_response, "415 Unsupported Media Type", {"error": "send application/json"})
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        words = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        ids = "ids" in words
        try:
            with self.world.lock:
                self.world.advance()
                answer = self.own(method, path, body, ids=ids)
            if path == "clusters" and answer and "brief" not in words:
                from leptonami.lab.clusters import count_nodes

                count_nodes(answer)
        except InputError as problem:
            return plain(start_response, "400 Bad Request", problem.as_dict())
        except ValueError as problem:
            return plain(start_response, "400 Bad Request", {"error": f"not JSON: {problem}"})
        except Exception as problem:  # the answer must be JSON whatever happens
            return plain(start_response, "500 Internal Server Error", {"error": f"{type(problem).__name__}: {problem}"})
        if answer is None:
            return plain(start_response, "404 Not Found", {"error": "there is no such thing in the lab"})
        return plain(start_response, "200 OK", answer)

    def own(self, method: str, path: str, body: bytes, *, ids: bool) -> Any:
        """Do what the lab's own API is asked for; None if there is no such thing."""
        what, _, name = path.partition("/")
        ways: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "state"): lambda: self.state(ids=ids),
            ("GET", "calls"): lambda: dict(self.world.calls),
            ("DELETE", "calls"): self.forget_calls,
            ("GET", "faults"): self.world.faults.as_data,
            ("PUT", "faults"): lambda: self.set_faults(json.loads(body)),
            ("GET", "fleet-faults"): lambda: self.fleet_faults,
            ("PUT", "fleet-faults"): lambda: self.set_fleet_faults(json.loads(body)),
            ("PUT", "patience"): lambda: self.set_patience(json.loads(body)),
            ("PUT", "time"): lambda: self.set_time(json.loads(body)),
            ("GET", "clusters"): self.clusters,
            ("GET", "nodes"): lambda: self.node(name),
        }
        way = ways.get((method, what))
        return way() if way is not None and (not name or what == "nodes") else None

    def state(self, *, ids: bool) -> Any:
        """Count what there is, or name it."""
        from leptonami.lab.inventory import inventory

        found = inventory()
        return found if ids else {name: len(each) for name, each in found.items()}

    def forget_calls(self) -> Any:
        """Count from nothing again."""
        self.world.calls.clear()
        return {}

    def set_faults(self, wanted: Any) -> Any:
        """Replace the faults."""
        self.world.faults.replace(wanted)
        return self.world.faults.as_data()

    def set_fleet_faults(self, wanted: Any) -> Any:
        """Replace the faults of nodes, which the fleet asks for."""
        from leptonami.lab.fleet.faults import parse

        parse(wanted)
        self.fleet_faults = wanted
        return wanted

    def set_patience(self, wanted: Any) -> Any:
        """Let EKS wait longer or shorter for nodes and pods, also where it is waiting already."""
        if isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or not wanted >= 0:
            raise InputError(f"not a number of seconds: {wanted!r}", resource="patience")
        self.world.patience = float(wanted)
        return self.world.patience

    def set_time(self, wanted: Any) -> Any:
        """Let time stand still (`{"held": true}`), go on, or let seconds of AWS pass at once (`{"skip": 15}`)."""
        given = wanted if isinstance(wanted, dict) else {}
        held, skip = given.get("held"), given.get("skip", 0)
        well = isinstance(skip, (int, float)) and not isinstance(skip, bool) and 0 <= skip < LONGEST_SKIP_S
        if not given or given.keys() - {"held", "skip"} or held not in (None, True, False) or not well:
            raise InputError(f"neither held nor skip: {wanted!r}", resource="time")
        if held is not None:
            self.world.hold(held=held)
        self.world.skip(skip)
        return given

    def clusters(self) -> Any:
        """Describe the clusters."""
        if not self.settings.cluster:
            return []
        from leptonami.lab.clusters import report

        return report()

    def node(self, instance: str) -> Any:
        """Tell what is on the disk of an instance; None if there is no such instance, or no disk any more."""
        from leptonami.lab.ec2 import LabEC2, every_instance
        from leptonami.lab.nodefacts import facts

        root = LabEC2.machines.instance_root(instance)
        found = next((each for each in every_instance() if each.id == instance), None)
        return facts(found, root) if found is not None and root.is_dir() else None


def request_of(environ: dict[str, Any]) -> bytes:
    """Give the form of a request, which `identify` has read and put back; nothing for other protocols."""
    stream = environ["wsgi.input"]
    return stream.getvalue() if isinstance(stream, io.BytesIO) else b""


def lacking(call: Call, text: str = "") -> ApiError:
    """Say that the lab has no such operation."""
    what = text if text and " with " in text else call.name
    return ApiError("LabNotImplemented", f"leptonami lab: {what} is not implemented")


def plain(start_response: StartResponse, status: str, value: Any) -> list[bytes]:
    """Answer with JSON."""
    start_response(status, [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")])
    return [json.dumps(value).encode() + b"\n"]


def assemble(settings: Settings, world: World) -> tuple[Application, str]:
    """Import moto with the lab's settings and put the lab's classes into it.

    Gives the application, and why scripts are only recorded (empty where they run).
    """
    nothing = world.folder / "amis.json"
    nothing.write_text("[]")
    os.environ.update(
        # Read by moto when it is imported: without it moto loads 1,300 images of its own.
        MOTO_AMIS_PATH=str(nothing),
        MOTO_ACCOUNT_ID=ACCOUNT,
        MOTO_DISABLE_GLOBAL_CORS="true",
        # moto and botocore must find no credentials or settings of the user's.
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )
    from leptonami.lab import node

    tried: list[tuple[bool, str]] = []
    # The sandbox's canary runs while moto is imported: both take most of a second.
    canary = threading.Thread(target=lambda: tried.append(node.sandbox()))
    canary.start()
    from leptonami.lab import quick

    quick.read_models()
    import moto.ec2.urls
    import moto.iam.urls
    import moto.ssm.urls
    import moto.sts.urls
    from moto.moto_api._internal import mock_random
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from leptonami.lab import authorize, iam, seeds
    from leptonami.lab.ec2 import LabEC2
    from leptonami.lab.iam import LabIAM, LabSTS
    from leptonami.lab.machines import Machines
    from leptonami.lab.publishing import PublishingEC2
    from leptonami.lab.ssm import LabSSM

    quick.remember_modules()
    if settings.seed is not None:
        mock_random.seed(settings.seed)
    iam.seed()
    application = Application(world, settings, DomainDispatcherApplication(create_backend_app), seeds.seed)
    with world.lock:
        seeds.seed(settings.region)
        application.seeded.add(settings.region)
    canary.join()
    works, why = tried[0]
    machines = Machines(world, "" if works else why)
    LabEC2.world = LabSSM.world = LabIAM.world = world
    LabEC2.machines = LabSSM.machines = machines
    served: list[tuple[Any, type[Any]]] = [
        (moto.ec2.urls, PublishingEC2),
        (moto.ssm.urls, LabSSM),
        (moto.iam.urls, LabIAM),
        (moto.sts.urls, LabSTS),
    ]
    if settings.cluster:
        served += cluster_services(world, settings)
    for urls, responses in served:
        urls.url_paths = dict.fromkeys(urls.url_paths, authorize.enforced(responses).dispatch)
    return application, machines.recorded


def cluster_services(world: World, settings: Settings) -> list[tuple[Any, type[Any]]]:
    """Import EKS and Auto Scaling with the lab's behaviour."""
    import moto.autoscaling.urls
    import moto.eks.urls

    from leptonami.lab import scaling
    from leptonami.lab.eks import LabEKS

    scaling.install(world)
    LabEKS.world, LabEKS.key, LabEKS.seed, LabEKS.fleet = world, settings.key, settings.seed, settings.fleet
    # Every path: moto lists those of its own operations only.
    eks_urls: Any = moto.eks.urls
    eks_urls.url_paths = {"{0}/.*": None}
    return [(moto.autoscaling.urls, scaling.LabAutoScaling), (eks_urls, LabEKS)]


def note(world: World, settings: Settings, url: str) -> str:
    """Seed a cluster if there is to be one, and leave word of this lab for `leptonami lab status`."""
    kubeconfig = ""
    if settings.cluster:
        from leptonami.lab.clusters import seed

        with world.lock:
            plane = seed(url, settings.region, settings.cluster).plane
        kubeconfig = str(plane.kubeconfig) if plane is not None else ""
    word = {"pid": os.getpid(), "url": url, "region": settings.region, "kubeconfig": kubeconfig}
    (world.folder / "lab.json").write_text(json.dumps(word))
    return kubeconfig


def serve(settings: Settings) -> None:
    """Run the lab until standard input closes, the parent is gone or a signal comes."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        """Serves and says nothing."""

        # Connections are kept open: boto3 makes many small calls.
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            """Drop werkzeug's log: it would go to standard error."""

    remove_stale()
    times = Times().at(settings.speed)
    faults = Faults(settings.seed or 0)
    faults.replace(settings.faults)
    world = World(times, settings.speed, new_folder(), faults, settings.patience)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        application, recorded = assemble(settings, world)
        server = make_server("127.0.0.1", settings.port, application, threaded=True, request_handler=Silent)
        server.daemon_threads = True  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kubeconfig = note(world, settings, f"http://127.0.0.1:{server.server_port}")
        ready = {"port": server.server_port, "recorded": recorded, "kubeconfig": kubeconfig}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        wait_for_end(stop)
    finally:
        # First of all: who finds a lab may ask it everything.
        (world.folder / "lab.json").unlink(missing_ok=True)
        world.closing.set()
        world.hold(held=False)
        if (clusters := sys.modules.get("leptonami.lab.clusters")) is not None:
            clusters.close_all()
        end_commands(world)
        world.close()


def wait_for_end(stop: threading.Event) -> None:
    """Wait for a signal, for the end of standard input, or for another parent: whoever started us is gone then."""
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], WATCH_PARENT_S)
        if ready and not os.read(sys.stdin.fileno(), 1024):
            return


def end_commands(world: World) -> None:
    """Kill the scripts that still run."""
    ssm = sys.modules.get("leptonami.lab.ssm")
    if ssm is None:
        return
    running = [
        each for command in list(ssm.LabSSM.commands.values()) for each in command.invocations.values() if not each.over
    ]
    for each in running:
        each.cancelled.set()
    deadline = world.clock() + 3
    while any(not each.over for each in running) and world.clock() < deadline:
        time.sleep(0.01)


def main(arguments: list[str]) -> NoReturn:
    """Read the settings (one JSON object) from the command line, the key from LEPTONAMI_LAB_KEY, and serve."""
    given = json.loads(arguments[0])
    # JSON has no infinity: the speed comes as text.
    settings = Settings(
        **{**given, "speed": float(given.get("speed", DEFAULT_SPEED)), "key": os.environ.pop("LEPTONAMI_LAB_KEY", "")}
    )
    try:
        serve(settings)
    except ApiError as problem:
        sys.exit(problem.message)
    # Without taking moto's half a million objects apart one by one.
    sys.stdout.flush()
    os._exit(0)
