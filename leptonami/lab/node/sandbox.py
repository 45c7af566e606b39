"""Running a script on a simulated machine: confined to its node root, without network, never bare on the host.

The confinement is `unshare` from util-linux and `enter.py`; see there for what a script can and cannot see.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from leptonami.lab.node import safely, tools
from leptonami.lab.node.enter import NODE_DIRS
from leptonami.lab.node.machine import Machine

__all__ = ["Execution", "layout", "run", "sandbox", "start"]

HERE = Path(__file__).parent
# Enough for the canary on a busy machine; it takes about 0.1 s.
CANARY_SECONDS = 20


class Execution:
    """A script that was started on a simulated machine. Keep it: a script ends with the object that stands for it.

    Parameters
    ----------
    process
        The `unshare` process; killing it kills everything in the machine's process namespace.
    stdout, stderr
        The files in which the output gathers while the script runs.
    lifeline
        Our end of a pipe: when it closes, as it does when this process dies, the script is killed.
    """

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path, lifeline: int) -> None:
        self._process = process
        self._stdout = stdout
        self._stderr = stderr
        self._lifeline: int | None = lifeline
        self._lock = threading.Lock()
        self.pid = process.pid
        self.started = time.monotonic()

    def output(self) -> tuple[bytes, bytes]:
        """Give what the script wrote so far on standard output and standard error."""
        return self._stdout.read_bytes(), self._stderr.read_bytes()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end: the exit status, 128 + n after signal n, nothing if it runs on after `timeout` seconds."""
        if self._process.poll() is None:
            # Popen.wait with a limit looks every 50 ms only; a script may take 30.
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], timeout)[0]:
                    return None
            finally:
                os.close(descriptor)
        code = self._process.wait()
        self._release()
        return code if code >= 0 else 128 - code

    def cancel(self) -> None:
        """Kill the script and all it started. Harmless when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._release()

    def _release(self) -> None:
        with self._lock:
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None

    def __del__(self) -> None:
        if getattr(self, "_lifeline", None) is not None:
            self._release()


def layout(root: Path) -> None:
    """Make the folders that every node root has."""
    for name in (*NODE_DIRS, "lab/view", "lab/state", "lab/bin", "etc/alternatives", "usr/local/bin", "usr/local/sbin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/ld.so.cache").touch()
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)


@functools.lru_cache(maxsize=1)
def sandbox() -> tuple[bool, str]:
    """Tell whether scripts can really run here, and if not, why.

    It tries: a canary script is run in an empty node root. Linux with unprivileged user namespaces is needed (Ubuntu
    24.04 and later restrict them by AppArmor, some containers forbid mounting /proc, other systems have none).
    """
    if platform.system() != "Linux":
        return False, f"{platform.system()} has no user namespaces"
    if shutil.which("unshare") is None:
        return False, "unshare (util-linux) is not installed"
    if not hasattr(os, "pidfd_open"):
        return False, "this Python knows no pidfd_open"
    with tempfile.TemporaryDirectory(prefix="leptonami-canary-") as folder:
        root = Path(folder) / "root"
        layout(root)
        machine = Machine(root, "i-0", "canary", "amd64", 0, None, "us-west-2", "us-west-2a", "0", "ami-0")
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        try:
            execution = start(machine, "echo canary > /etc/canary; cat < /etc/canary\n", stdout=stdout, stderr=stderr)
            code = execution.wait(CANARY_SECONDS)
            execution.cancel()
        except OSError as error:
            return False, f"the sandbox does not start: {error}"
        if code == 0 and stdout.read_bytes() == b"canary\n" and (root / "etc/canary").exists():
            return True, "user namespaces work"
        said = stderr.read_text(errors="replace").strip().splitlines()
        why = said[-1] if said else f"the canary ended with {code}"
        return False, f"user namespaces do not work here: {why}"


@functools.lru_cache(maxsize=1)
def _compiled() -> None:
    """Compile the stand-ins once, if they are not: each of their calls would do it again (60 ms instead of 20)."""
    import compileall

    with contextlib.suppress(OSError):
        compileall.compile_dir(HERE / "tools", quiet=2)


def start(machine: Machine, script: str, *, stdout: Path, stderr: Path, execution: str | None = None) -> Execution:
    """Run a script on a machine as the SSM agent does: as root, by `sh -c`, so that its first line chooses the shell.

    It comes back when the script begins (or cannot): what building the machine's view takes, on a busy machine more
    than a second, is none of the script's time.

    Parameters
    ----------
    machine
        The machine; its node root keeps whatever the script changes.
    script
        The whole script.
    stdout, stderr
        Files for its output, written while it runs.
    execution
        Name of the execution (a command id), for the agent's folder on the machine; by default a new one. Empty: the
        script is not the agent's, and leaves nothing in its folder.

    Returns
    -------
    Execution
        The running script.
    """
    _compiled()
    base = Path(sys.base_prefix).resolve()
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    if not interpreter.is_relative_to(base):
        raise OSError(f"the interpreter {interpreter.name} is not inside its own prefix")
    received, held = os.pipe()
    begun, begins = os.pipe()
    spec = {
        "root": str(machine.root.resolve()),
        "machine": machine.facts(),
        "python": str(base),
        "interpreter": str(interpreter.relative_to(base)),
        "code": str(HERE),
        "stand_ins": sorted(tools.TOOLS),
        "faults": json.loads(safely.read(machine.root, "lab/faults.json") or b"{}"),
        "lifeline": received,
        "begins": begins,
        "execution": str(uuid.uuid4()) if execution is None else execution,
        "boot_id": (safely.read(machine.root, "lab/boot_id") or b"").decode().strip() or str(uuid.UUID(int=0)),
    }
    command = [
        *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--uts", "--ipc"),
        *("--fork", "--kill-child", "--"),
        *(str(interpreter), "-I", "-S", str(HERE / "enter.py"), json.dumps(spec)),
    ]
    try:
        with tempfile.TemporaryFile() as given, stdout.open("wb") as out, stderr.open("wb") as err:
            given.write(script.encode())
            given.seek(0)
            process = subprocess.Popen(
                command,
                stdin=given,
                stdout=out,
                stderr=err,
                pass_fds=(received, begins),
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                start_new_session=True,
            )
    except BaseException:
        os.close(held)
        os.close(begun)
        raise
    finally:
        os.close(received)
        os.close(begins)
    running = Execution(process, stdout, stderr, held)
    os.read(begun, 1)  # nothing comes where all that could say so has ended
    os.close(begun)
    return running


def run(machine: Machine, script: str, *, timeout: float = 60, execution: str | None = None) -> tuple[int, str, str]:
    """Run a script to its end; give exit status, standard output and standard error."""
    with tempfile.TemporaryDirectory(prefix="leptonami-run-") as folder:
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        running = start(machine, script, stdout=out, stderr=err, execution=execution)
        code = running.wait(timeout)
        if code is None:
            running.cancel()
            code = 128 + signal.SIGKILL
        said, complained = running.output()
        return code, said.decode(errors="replace"), complained.decode(errors="replace")
