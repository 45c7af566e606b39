"""How a notebook is run: papermill with a client of our own, which can be stopped without leaving a mess behind.

Three things differ from papermill's own engine.

- The kernel is this very Python, whatever kernelspecs are installed.
- A deadline or Ctrl-C *interrupts* the cell and gives it time to clean up (a build has an EC2 instance to terminate);
  only then is the kernel killed. Ctrl-C in a terminal does not reach a kernel by itself: it has a session of its own.
- Nothing is called completed that was not: each way of stopping is noted in `Control`, for `leptonami.notebook`.

Imported when a notebook is run, and only then: papermill takes half a second.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, execute_notebook

__all__ = ["Control", "run"]

ENGINE = "leptonami"
CALL = "__import__('leptonami.kernelside', fromlist=['_']).{}({})"
CRASH = "crash.txt"
SKIP_TAG = "skip-execution"
# How long the kernel's last words on a cell may take once it has replied; nbclient's 4 s are too few on a busy machine.
OUTPUT_S = 60
# How long the reply to an interrupted cell may take once the kernel is idle again: it is sent before that, and one that
# has not come was lost.
REPLY_S = 5.0

Reason = Literal["interrupted", "cell timeout", "timeout"]
Phase = Literal["starting", "between", "cell", "ending"]


@dataclass
class Control:
    """The state of one execution, shared by the client, the watchdog's thread and the signal handlers.

    Attributes
    ----------
    cell_timeout, timeout
        Seconds for one cell and for the whole; None for no limit.
    grace
        Seconds that an interrupted cell has to clean up before the kernel is killed.
    began
        Called with the position of each code cell that begins.
    say
        Called with a sentence when the run is being stopped.
    reason
        Why it was stopped from outside, if it was.
    killed, died, not_started, ended_by, asked_to_exit
        What became of the kernel. `not_started` is the reason why, `ended_by` a signal or an exit status.
    current
        The position of the cell that ran last.
    accounts
        What the kernel said of each cell (`leptonami.kernelside.account`), by position.
    folder
        A private folder for the kernel's sockets.
    last_words
        The end of what the kernel's process itself wrote.
    """

    cell_timeout: float | None = None
    timeout: float | None = None
    grace: float = 300.0
    began: Callable[[int], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    reason: Reason | None = None
    killed: bool = False
    died: bool = False
    not_started: str | None = None
    ended_by: str = ""
    asked_to_exit: bool = False
    current: int | None = None
    accounts: dict[int, dict[str, Any]] = field(default_factory=dict)
    notebook: Any = None
    folder: Path = Path()
    last_words: str = ""
    phase: Phase = "starting"
    _pid: int | None = None
    _executing: bool = False
    _pending: bool = False
    _cell_since: float = 0.0
    _stopped_at: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def started(self, pid: int | None) -> None:
        """Note the kernel's process. What was to end it may have come while it was being made."""
        with self._lock:
            self._pid = pid
            if self.killed:
                self._kill()

    def begin(self, index: int) -> bool:
        """Note that a cell is about to be sent to the kernel; False if the run has been stopped, and it must not be."""
        self.began(index)
        with self._lock:
            if self.reason is not None:
                return False
            self.current, self.phase = index, "cell"
            self._executing, self._cell_since = False, time.monotonic()
            # A signal's handler runs in this thread, which has the lock: what stops the run may come between any two
            # lines here.
            self._pending = self.reason is not None
            return True

    def executing(self) -> None:
        """Note that the kernel runs the cell: from here on it hears an interrupt. Before, it ignores one."""
        with self._lock:
            self._executing = True
            if self._pending:
                self._pending = False
                self._signal(signal.SIGINT)

    def end(self, phase: Phase) -> None:
        """Note that no cell is running."""
        with self._lock:
            self.phase, self._executing = phase, False

    def stop(self, reason: Reason) -> None:
        """Stop: interrupt the cell, once; it is then cleaning up and must not be disturbed again."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason, self._stopped_at = reason, time.monotonic()
            if self.phase == "starting":
                self._kill()
            elif self.phase == "cell" and self._executing:
                self._signal(signal.SIGINT)
            elif self.phase == "cell":
                self._pending = True

    def insist(self) -> None:
        """Stop at once: what the cell was cleaning up stays behind."""
        with self._lock:
            if self.reason is None:
                self.reason = "interrupted"
            self._kill()

    def check(self, since_start: float) -> None:
        """Compare the clock with the deadlines; called by the watchdog a few times a second."""
        with self._lock:
            now = time.monotonic()
            if self.reason is not None:
                late = now - self._stopped_at - self.grace
                if not self.killed and self.phase == "cell" and late > 0:
                    self.say(f"the cell did not end within {self.grace:g} s of being interrupted: killing the kernel")
                    self._kill()
                elif not self.killed and self.phase == "between" and late > OUTPUT_S:
                    self.say("the kernel does not answer any more: killing it")
                    self._kill()
            elif self.timeout is not None and since_start > self.timeout and self.phase != "ending":
                self.say(f"the notebook has taken {self.timeout:g} s, its limit: interrupting it")
                self.stop("timeout")
            elif self.cell_timeout is not None and self.phase == "cell" and now - self._cell_since > self.cell_timeout:
                self.say(f"the cell has taken {self.cell_timeout:g} s, its limit: interrupting it")
                self.stop("cell timeout")

    def _signal(self, number: int) -> None:
        # To the kernel alone and not to its process group, as jupyter_client would: what a cell has started is the
        # cell's to end, in the order that its clean-up needs.
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _kill(self) -> None:
        self.killed = True
        if self._pid is not None:
            # The kernel leads its group (jupyter_client starts it in a session of its own): leave no orphans.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)


class Kernel(AsyncKernelManager):
    """A kernel of the Python that runs this, whichever `python3` kernelspec is installed where.

    It is reached by sockets in a folder that only this user can enter: jupyter_client's default is unencrypted TCP
    ports on the loopback interface, which everybody on the machine can connect to.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        """Describe how the kernel is started."""
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class Client(PapermillNotebookClient):
    """papermill's client, which reports to a `Control` and stops where a cell fails in a way that IPython forgives."""

    control: Control
    # When the kernel was through with the cell whose reply is awaited.
    idle_since: float | None = None

    def execute(self, **kwargs: Any) -> Any:
        """Start the kernel, run the cells, end the kernel."""
        self.reset_execution_trackers()
        self.skip_cells_with_tag = SKIP_TAG
        self.on_cell_executed = self.executed
        # The client makes the manager itself, so that it also cleans up after one that failed to start.
        self.km = Kernel(transport="ipc", connection_file=str(self.control.folder / "kernel.json"))
        self.start_new_kernel(**kwargs)
        self.control.started(getattr(self.km.provisioner, "pid", None))
        with self.setup_kernel():
            assert self.kc is not None  # noqa: S101 - that is what setup_kernel does
            info = self.wait_for_reply(self.kc.kernel_info()) or {"content": {}}
            self.nb.metadata["language_info"] = info["content"].get("language_info", {"name": "python"})
            watching = self.ask("watch", str(self.control.folder / CRASH))
            if watching is None:
                raise RuntimeError("the kernel cannot import leptonami")
            self.control.end("between")
            try:
                self.papermill_execute_cells()
                self.set_widgets_metadata()
                if not (self.control.died or self.control.asked_to_exit):
                    self.ask("finish")
            finally:
                self.control.end("ending")
        return self.nb

    def ask(self, function: str, *arguments: str) -> Any:
        """Call a function of `leptonami.kernelside` in the kernel, leaving no trace; None if that cannot be done."""
        assert self.kc is not None  # noqa: S101 - only called while there is a kernel
        call = CALL.format(function, ", ".join(map(repr, arguments)))
        reply = self.wait_for_reply(
            self.kc.execute("", silent=True, store_history=False, user_expressions={"it": call})
        )
        answer = ((reply or {}).get("content", {}).get("user_expressions") or {}).get("it", {})
        if answer.get("status") != "ok":
            return None
        value = ast.literal_eval(answer["data"]["text/plain"])
        return json.loads(value) if isinstance(value, str) else {}

    def papermill_execute_cells(self) -> None:
        """Run the cells up to the first that fails."""
        for index, cell in enumerate(self.nb.cells):
            if self.control.reason is not None:
                return
            runs = cell.cell_type == "code" and bool(cell.source.strip())
            if not runs:
                self.nb_man.cell_start(cell, index)
                self.nb_man.cell_complete(cell, cell_index=index)
                continue
            if not self.control.begin(index):
                return
            try:
                self.nb_man.cell_start(cell, index)
                self.execute_cell(cell, index)
                if self.failed_quietly(index):
                    self.nb_man.cell_exception(self.nb.cells[index], cell_index=index)
                    return
            except CellExecutionError as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                self.control.accounts[index] = self.ask("account") or {}
                return
            except DeadKernelError:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index)
                self.control.died, self.control.ended_by = True, self.how_it_ended()
                return
            finally:
                self.nb_man.cell_complete(self.nb.cells[index], cell_index=index)
                self.control.end("between")

    def how_it_ended(self) -> str:
        """Name the signal that ended the kernel's process, or give its exit status; empty if it cannot be known."""
        status = getattr(getattr(self.km.provisioner, "process", None), "returncode", None) if self.km else None
        if status is None:
            return ""
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"signal {-status}"

    def failed_quietly(self, index: int) -> bool:
        """Tell whether a cell failed without saying so: it asked to exit, a `!command` failed, it shows an error."""
        if self.control.asked_to_exit:
            return True
        account = self.ask("account") or {}
        self.control.accounts[index] = account
        cell = self.nb.cells[index]
        shows_error = any(output.output_type == "error" for output in cell.outputs)
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        return (bool(account.get("shell")) or shows_error) and not allowed

    def executed(self, *, execute_reply: dict[str, Any], **_: Any) -> None:
        """Look into the kernel's reply: `exit()` is a payload there, and nothing else tells of it.

        The cell is over, and what is asked of the kernel from here on must not be interrupted: its reply would be lost.
        """
        self.control.end("between")
        self.idle_since = None
        payloads = execute_reply.get("content", {}).get("payload") or []
        self.control.asked_to_exit |= any(payload.get("source") == "ask_exit" for payload in payloads)

    def process_message(self, msg: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Note when the kernel begins with a cell, and when it is idle again."""
        if msg["msg_type"] == "execute_input":
            self.control.executing()
        elif msg["msg_type"] == "status" and msg["content"].get("execution_state") == "idle":
            self.idle_since = time.monotonic()
        return super().process_message(msg, *arguments, **keywords)  # type: ignore[no-untyped-call]

    async def _async_check_alive(self) -> None:
        """Take a kernel for dead that will not reply to the cell; nbclient asks every second while it waits for that.

        An interrupt that comes just before the cell's own code, or just after it, hits ipykernel itself. It forgets the
        request and is idle, and nothing else would end the wait before the grace is over.
        """
        idle = self.idle_since
        if self.control.reason is not None and idle is not None and time.monotonic() - idle > REPLY_S:
            raise DeadKernelError("the kernel has forgotten the cell")
        await super()._async_check_alive()


class LeptonamiEngine(Engine):
    """The engine that papermill is told to use."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
        """Run the cells and note what became of the kernel."""
        control: Control = options["control"]
        control.notebook = nb_man.nb
        client = Client(  # type: ignore[no-untyped-call]
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=options["start_timeout"],
            timeout=None,
            iopub_timeout=OUTPUT_S,
            log=logging.getLogger("papermill"),
        )
        client.control = control
        try:
            # What the kernel's process writes past IPython (a crash, a C library) must not reach our standard output.
            client.execute(stdout=options["kernel_output"], stderr=subprocess.STDOUT)
        except DeadKernelError:
            control.died = True
        except RuntimeError as error:
            if control.phase != "starting":
                raise
            control.not_started = str(error)


@contextlib.contextmanager
def watchdog(control: Control) -> Iterator[None]:
    """Keep an eye on the deadlines while the block runs."""
    over = threading.Event()
    since = time.monotonic()

    def watch() -> None:
        while not over.wait(0.1):
            control.check(time.monotonic() - since)

    thread = threading.Thread(target=watch, name="leptonami-deadlines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def signals(control: Control) -> Iterator[None]:
    """Turn Ctrl-C (and SIGTERM, which CI sends) into an interrupt of the cell; a second Ctrl-C kills the kernel."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    pressed = 0

    def handle(number: int, _: object) -> None:
        nonlocal pressed
        if number == signal.SIGINT:
            pressed += 1
        if pressed > 1:
            control.say("stopping at once: what the cell had begun may be left behind")
            control.insist()
        elif control.reason is None:
            control.say(
                "interrupted: the cell is given time to clean up "
                f"(up to {control.grace:g} s; press Ctrl-C again to stop at once)"
            )
            control.stop("interrupted")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    source: Path,
    output: Path,
    parameters: dict[str, object],
    control: Control,
    *,
    start_timeout: float,
    cwd: Path | None,
) -> None:
    """Run a notebook with papermill; what came of it is in `control` and in the notebook it points to."""
    papermill_engines.register(ENGINE, LeptonamiEngine)  # type: ignore[no-untyped-call]
    log = logging.getLogger("papermill")
    level = log.level
    # papermill reads the parameters cell by regular expression and warns of every type it does not know; whether a
    # name exists has been decided before, and what fails is told once, at the end.
    log.setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="leptonami-") as folder, tempfile.TemporaryFile() as kernel_output:
        control.folder = Path(folder)
        try:
            with watchdog(control), signals(control), contextlib.suppress(PapermillExecutionError):
                execute_notebook(  # type: ignore[no-untyped-call]
                    literal(source),
                    literal(output),
                    parameters=parameters,
                    engine_name=ENGINE,
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    start_timeout=start_timeout,
                    cwd=cwd,
                    control=control,
                    kernel_output=kernel_output,
                )
        finally:
            log.setLevel(level)
            kernel_output.seek(max(0, kernel_output.seek(0, os.SEEK_END) - 4000))
            control.last_words = kernel_output.read().decode(errors="replace")
            with contextlib.suppress(OSError):
                # The fault handler writes the most recent call first, which is the end that counts.
                control.last_words += (control.folder / CRASH).read_text(errors="replace")[:1000]
    if control.notebook is not None:
        # papermill has put red banners into the notebook; what failed is told by its metadata and its own output.
        control.notebook.cells = [
            cell for cell in control.notebook.cells if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])
        ]


def literal(path: Path) -> str:
    """Write a path so that papermill, which formats paths with the parameters, leaves it as it is."""
    return str(path).replace("{", "{{").replace("}", "}}")
