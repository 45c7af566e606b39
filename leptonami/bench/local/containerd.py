"""A private containerd: a node without a kernel of its own, on this machine.

The node's first process has mount and process namespaces to itself (`node-init.sh`). There its disk is /var/lib, /run
is fresh, and what is written to /etc goes to the disk: containerd has its usual paths, so that provisioning scripts run
unchanged, and neither sees nor touches this machine's. When the first process ends, the kernel ends everything in the
node and takes its mounts and loop device away. It ends with the driver, even with one that is killed: its standard
input is a pipe from it, and the kernel sends it SIGKILL (`setpriv --pdeathsig`). Only control groups outlive a node;
they carry its name and are removed by it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from leptonami.bench.local import disks
from leptonami.bench.local.cri import POLL, Cri
from leptonami.bench.local.images import PAUSE
from leptonami.bench.local.oci import HOST
from leptonami.bench.model import Mark
from leptonami.errors import BuildError, InputError, Timeout

__all__ = ["Node", "clean", "config", "hosts", "version"]

HERE = Path(__file__).parent
SOCKET = "run/containerd/containerd.sock"
SNAPSHOTS = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
HOSTS = "/run/leptonami/hosts"
LOGS = "run/leptonami/pods"
CGROUPS = Path("/sys/fs/cgroup")
UNUSED = [
    *(f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "zfs", "devmapper", "blockfile", "erofs")),
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
]
VERSION_2 = """
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_cgroup = {groups}
  sandbox_image = "{pause}"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{hosts}"
"""
VERSION_3 = """
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_cgroup = {groups}
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{hosts}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
"""


def version() -> tuple[int, int, int]:
    """Give the version of this machine's containerd.

    Raises
    ------
    InputError
        If there is none, or it does not say.
    """
    found = re.search(r"\sv?(\d+)\.(\d+)\.(\d+)", disks.run("containerd", "--version"))
    if found is None:
        raise InputError("it does not say its version", resource="containerd")
    return int(found[1]), int(found[2]), int(found[3])


def config(release: tuple[int, int, int], hosts: str = HOSTS, *, cgroups: bool = True) -> str:
    """Give containerd's configuration: 1.6 and 1.7 read version 2, 2.x reads version 3.

    `restrict_oom_score_adj`: without CAP_SYS_RESOURCE, which containers of CI systems often lack, no sandbox would
    start ("can't get final child's PID from pipe"). AppArmor's profile would be loaded into the kernel, and stay.
    Without `cgroups`, containers get no groups: where the node's version 2 hierarchy has no controllers.
    """
    modern = release >= (2,)
    text = (VERSION_3 if modern else VERSION_2).format(
        pause=f"{HOST}/{PAUSE}:1", hosts=hosts, groups=json.dumps(not cgroups)
    )
    return f"version = {3 if modern else 2}\ndisabled_plugins = {json.dumps(UNUSED)}\n{text}"


def hosts(port: int) -> str:
    """Give the hosts.toml that leads the registry's name to a port of this machine."""
    address = f"http://127.0.0.1:{port}"
    return f'server = "{address}"\n[host."{address}"]\n  capabilities = ["pull", "resolve"]\n'


@dataclass
class Node:
    """A node that runs. `folder` has its disk and everything else of it; `name` is that of its control groups.

    Times are of `time.monotonic`.
    """

    init: ClassVar[str] = "node-init.sh"

    name: str
    folder: Path
    process: subprocess.Popen[bytes]
    pid: int = 0
    disk_at: float = 0.0

    @classmethod
    def start(cls, name: str, folder: Path, port: int, deadline: float) -> Self:
        """Start a node on `folder / "disk.ext4"`, whose registry listens on a port, until its containerd is started.

        Raises
        ------
        BuildError, Timeout
            With what the node said.
        """
        files = folder / "files"
        shutil.rmtree(files, ignore_errors=True)
        (files / "hosts" / HOST).mkdir(parents=True)
        (files / "hosts" / HOST / "hosts.toml").write_text(hosts(port))
        cls.prepare(files, name)
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["--mount-proc", "sh", str(HERE / cls.init), str(folder / "disk.ext4"), str(files), name]
        with (folder / "node.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, bufsize=0
            )
        node = cls(name, folder, process)
        try:
            node._wait_for(b"disk", deadline)
            node.disk_at = time.monotonic()
            node.pid = _child(process.pid)
            _remember(folder, node.pid)
            node._wait_for(b"started", deadline)
            node.settle(deadline)
        except BaseException:
            node.kill()
            raise
        return node

    @classmethod
    def prepare(cls, files: Path, name: str) -> None:  # noqa: ARG003 - other nodes are told their name
        """Write what the node's first process takes with it."""
        (files / "containerd.toml").write_text(config(version()))
        (files / "bin").mkdir()
        shutil.copy(HERE / "node-systemctl.sh", files / "bin" / "systemctl")
        (files / "bin" / "systemctl").chmod(0o755)

    def settle(self, deadline: float) -> None:
        """Do what has to be done once it is started: here nothing."""

    def _wait_for(self, word: bytes, deadline: float) -> None:
        import selectors

        output = self.process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            line = b""
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Timeout(f"the node did not get as far as {word.decode()!r}", resource=self.name)
                more = output.read(1)
                if not more:
                    raise BuildError(f"the node ended: {self.said()}", resource=self.name)
                line += more
        if line.strip() != word:
            raise BuildError(f"the node said {line!r}, not {word.decode()!r}", resource=self.name)

    def said(self) -> str:
        """Give the end of what the node's first process and its containerd said."""
        texts = [self.folder / "node.log", self.root / "run/leptonami/containerd.log"]
        return " ".join(path.read_text(errors="replace")[-500:] for path in texts if path.exists()).strip()

    @property
    def root(self) -> Path:
        """Its root folder, as this machine sees it."""
        return Path(f"/proc/{self.pid}/root")

    def connect(self, deadline: float) -> Cri:
        """Connect to its containerd once that answers."""
        socket = self.root / SOCKET
        while not socket.exists():
            self._check(deadline)
            time.sleep(POLL)
        cri = Cri(str(socket), deadline)
        try:
            while not cri.ready():
                self._check(deadline)
                time.sleep(POLL)
        except BaseException:
            cri.channel.close()
            raise
        return cri

    def _check(self, deadline: float) -> None:
        if self.process.poll() is not None:
            raise BuildError(f"the node ended: {self.said()}", resource=self.name)
        if time.monotonic() > deadline:
            raise Timeout(f"containerd did not answer: {self.said()}", resource=self.name)

    def script(self, text: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell script on the node, as provisioning does."""
        path = f"/run/leptonami/bin:{os.environ.get('PATH', os.defpath)}"
        return self.enter(self.pid, text, timeout, PATH=path, LEPTONAMI_HOSTS_DIR=HOSTS)

    def enter(self, pid: int, text: str, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the namespaces of a process."""
        command = ["nsenter", f"--target={pid}", "--mount", "--pid", "bash", "-s"]
        environment["HOME"] = "/root"
        try:
            return subprocess.run(
                command, input=text, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Timeout(f"a script took more than {timeout:.0f} s", resource=self.name) from error

    def marks(self, deadline: float) -> tuple[Mark, ...]:  # noqa: ARG002 - other nodes' journals come late
        """Give none: it has no journal."""
        return ()

    def end(self, timeout: float = 60) -> None:
        """Let the node end cleanly, so that its disk can be copied.

        Raises
        ------
        BuildError
            If it did not.
        """
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        self.process.stdin.close()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = -1
        self.kill()
        if code:
            raise BuildError(f"the node did not end cleanly ({code}): {self.said()}", resource=self.name)

    def kill(self) -> None:
        """End the node at once."""
        for pid in (self.pid, self.process.pid):
            if pid and self.process.poll() is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _child(pid: int) -> int:
    """Give the only child of a process."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            return int(path.parent.name)
    raise BuildError("the node's first process is gone", resource=str(pid))


def _began(pid: int) -> str:
    """Give when a process began, in clock ticks since boot; empty if there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _remember(folder: Path, pid: int) -> None:
    (folder / "node.json").write_text(json.dumps({"pid": pid, "began": _began(pid)}))


def clean(name: str, folder: Path, patience: float = 30) -> tuple[str, ...]:
    """Remove all that a node made, whoever started it and however it ended; say what is still there.

    It ends one process only: the first one of the node as it was recorded, if it is still the same.
    """
    try:
        noted = json.loads((folder / "node.json").read_text())
        if noted["began"] and noted["began"] == _began(noted["pid"]):
            os.kill(noted["pid"], signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
        noted = {}
    deadline = time.monotonic() + patience
    while True:
        left = [f"loop device {device} of {folder.name}" for device in disks.attached(folder / "disk.ext4")]
        left += [f"control group {path}" for path in _remove_groups(name)]
        if noted.get("began") and noted["began"] == _began(noted["pid"]):
            left.append(f"process {noted['pid']}")
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
        left += [f"folder {folder.name}"] if folder.exists() else []
    return tuple(left)


def _remove_groups(name: str) -> list[str]:
    """Remove the control groups of a name; give those that are still in use.

    They are looked for everywhere: with some hierarchies of version 1, runc makes them below the group of its caller.
    """
    left = []
    for top in [Path(parent, name) for parent, folders, _ in os.walk(CGROUPS) if name in folders]:
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(folder)
    return left
