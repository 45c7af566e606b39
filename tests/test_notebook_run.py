"""Running notebooks: how each way of not completing is told, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample_notebooks as notebooks
from click.testing import CliRunner

from leptonami import engine, errors, notebook
from leptonami.commands.run import run as command
from leptonami.errors import InputError, Interrupted, LeptonamiError
from leptonami.notebook import Outcome, execute
from leptonami.parameters import coerce, parameters

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "exit-codes.md"

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., tuple[Outcome, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a notebook made of these cells; give what came of it and the notebook that was kept."""

    def go(*cells: Any, parameters: dict[str, object] | None = None, **options: Any) -> tuple[Outcome, Any]:
        source = notebooks.write(tmp_path / "some.ipynb", notebooks.text("# Title"), notebooks.text("## Part"), *cells)
        outcome = execute(source, tmp_path / "out" / "some.ipynb", parameters, **options)
        return outcome, notebooks.read(outcome.output)

    return go


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a file that a cell makes once it is where it shall be interrupted: until then no time passes for limits."""
    file = tmp_path / "begun"
    came: list[float] = []

    def clock() -> float:
        if not came and file.exists():
            came.append(time.monotonic())
        return time.monotonic() - came[0] if came else 0.0

    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=clock))
    return file


def states(kept: Any) -> list[str]:
    """What each code cell says of itself."""
    return [cell.metadata.papermill.status for cell in kept.cells if cell.cell_type == "code"]


# Each row of docs/exit-codes.md that a notebook can end with: what does it, and what is said.
ROWS = [
    (0, "x = 1", "completed"),
    (1, "1/0", "ZeroDivisionError: division by zero"),
    (1, "input('name?')", "StdinNotImplementedError"),
    (1, "get_ipython().run_cell('1/0');", "ZeroDivisionError"),
    (1, "from leptonami.errors import BuildError\nraise BuildError('no')", "no"),
    (2, "from leptonami.errors import InputError\nraise InputError('bad plan', hint='mend it')", "bad plan"),
    (3, "from leptonami.errors import CheckFailed\nraise CheckFailed('found it')", "found it"),
    (4, "from leptonami.errors import CredentialsError\nraise CredentialsError('who?')", "who?"),
    (5, "from leptonami.errors import Timeout\nraise Timeout('too late')", "too late"),
    (6, "import os\nos._exit(0)", "the kernel died (exit status 0)"),
    (6, "import os\nos.kill(os.getpid(), 9)", "the kernel died (SIGKILL)"),
    (7, "raise SystemExit(0)", "SystemExit(0) ended it"),
    (7, "raise SystemExit(3)", "SystemExit(3) ended it"),
    (7, "exit()", "exit() ended the kernel"),
    (8, "!exit 3", "exit status 3"),
    (8, "!false\n!true", "exit status 1"),
    (8, "lines = !false", "exit status 1"),
    (8, "%%bash\nexit 4", "exit status 4"),
    (8, "import subprocess\nsubprocess.run(['false'], check=True)", "exit status 1"),
]


@pytest.mark.parametrize(("code", "source", "said"), ROWS, ids=[f"{row[0]}-{row[1][:24]}" for row in ROWS])
def test_exit_codes(run: Run, code: int, source: str, said: str) -> None:
    ends(*run(source, "'the last cell'"), code, said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cell_timeout": 0.5}, "the cell took longer than 0.5 s"),
        ({"timeout": 1.5}, "the notebook took longer than 1.5 s"),
    ],
)
def test_the_exit_code_of_a_time_out(run: Run, begun: Path, options: dict[str, Any], said: str) -> None:
    source = f"import time\nfrom pathlib import Path\nPath({str(begun)!r}).touch()\ntime.sleep(60)"
    ends(*run(source, "'the last cell'", **options), 5, said)


def ends(outcome: Outcome, kept: Any, code: int, said: str) -> None:
    """Check that a notebook of two cells ended so, in its first cell unless it completed."""
    assert outcome.exit_code == code
    assert said in (outcome.error.message if outcome.error else outcome.status)
    assert kept.metadata.leptonami.outcome.exit_code == code
    assert kept.metadata.papermill.exception is (code != 0)
    if code == 0:
        assert states(kept) == ["completed", "completed"]
        assert (outcome.executed, outcome.cells, outcome.cell) == (2, 2, None)
    else:
        assert states(kept) == ["failed", "pending"]
        assert (outcome.executed, outcome.cells, outcome.cell) == (0, 2, 1)
        assert outcome.heading == "Part"
        assert kept.cells[3].outputs == []
        assert outcome.error is not None
        assert outcome.error.resource


def test_every_row_of_the_table_is_tested_or_is_a_code_of_the_package() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)}
    tested = {row[0] for row in ROWS} | {5, 130}
    assert documented == tested
    classes = [getattr(errors, name) for name in errors.__all__]
    classes += [notebook.CellFailed, notebook.KernelDied, notebook.EndedEarly, notebook.ShellFailed]
    assert {each.exit_code for each in classes} | {0} == documented


def test_a_leptonami_error_is_told_with_its_way_out(run: Run) -> None:
    outcome, kept = run(
        "from leptonami.errors import InputError\nraise InputError('m', resource='plan.yaml:3', hint='h')"
    )
    assert outcome.error is not None
    assert outcome.error.as_dict() == {
        "error": "InputError",
        "message": "m",
        "resource": "plan.yaml:3",
        "hint": "h",
        "exit_code": 2,
    }
    assert kept.metadata.leptonami.outcome.error.hint == "h"
    assert kept.cells[2].outputs[0].ename == "InputError"


def test_an_error_is_not_taken_for_one_that_was_caught_before(run: Run) -> None:
    outcome, _ = run(
        notebooks.code("from leptonami.errors import InputError\nraise InputError('shown')", "raises-exception"), "1/0"
    )
    assert (outcome.exit_code, outcome.cell) == (1, 2)
    outcome, _ = run(notebooks.code("!exit 3", "raises-exception"), "1")
    assert outcome.exit_code == 0


def test_tagged_cells_may_raise_or_be_left_out(run: Run) -> None:
    outcome, kept = run(notebooks.code("1/0", "raises-exception"), notebooks.code("1/0", "skip-execution"), "", "2")
    assert outcome.error is None
    assert kept.cells[2].outputs[0].ename == "ZeroDivisionError"
    assert kept.cells[3].outputs == []


def test_a_crash_leaves_the_python_stack(run: Run) -> None:
    outcome, _ = run("import ctypes\nctypes.string_at(0)")
    assert outcome.error is not None
    assert outcome.exit_code == 6
    assert "SIGSEGV" in outcome.error.message
    assert "string_at" in str(outcome.error.hint)


def test_what_the_kernel_process_prints_does_not_reach_our_output(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run("import os, sys\nos.write(1, b'raw\\n'); sys.__stdout__.write('x\\n'); sys.__stderr__.write('y\\n')")
    assert capfd.readouterr() == ("", "")


def test_parameters_arrive_as_they_were_meant(run: Run, tmp_path: Path) -> None:
    cell = notebooks.code(
        'a: str = ""\nb: list[str] = []\nc: dict[str, str] = {}\nd: float = 1\ne: bool = True\nf: str | None = "x"',
        "parameters",
    )
    nasty = 'it\'s "quoted" \\n \\\\ \n {a} ${b} \t é 😀 \x07 # no comment'
    values = {"a": nasty, "b": ["1.30", "012", nasty], "c": {nasty: nasty}, "d": 1e-300, "e": False, "f": None}
    outcome, kept = run(cell, "import json\nprint(json.dumps([a, b, c, d, e, f]))", parameters=values)
    assert outcome.error is None
    assert json.loads(kept.cells[4].outputs[0].text) == list(values.values())
    assert kept.metadata.papermill.parameters == values


def test_wrong_parameters_run_nothing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parameter 'b'"):
        run(notebooks.code("a: int = 1", "parameters"), parameters={"b": 1})
    with pytest.raises(InputError, match="is not int"):
        run(notebooks.code("a: int = 1", "parameters"), parameters={"a": "1"})
    assert not (tmp_path / "out").exists()


def test_a_path_with_braces_is_a_path(tmp_path: Path) -> None:
    source = notebooks.write(tmp_path / "a {x} b.ipynb", "1")
    outcome = execute(source, tmp_path / "{pm}" / "{0}.ipynb")
    assert outcome.error is None
    assert outcome.output.is_file()


def test_the_kernel_is_this_python_whatever_is_installed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "share" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "other", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    outcome, kept = run("import sys\nprint(sys.executable)")
    assert outcome.error is None
    assert kept.cells[2].outputs[0].text.strip() == sys.executable


def test_a_kernel_that_does_not_start(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    outcome, kept = run("1")
    assert outcome.exit_code == 6
    assert outcome.error is not None
    assert "no kernel today" in str(outcome.error.hint)
    assert states(kept) == ["pending"]
    assert outcome.executed == 0


def test_a_kernel_that_never_answers(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ipykernel_launcher.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    started = time.monotonic()
    outcome, _ = run("1", start_timeout=1)
    assert outcome.exit_code == 6
    outcome, _ = run("1", timeout=1)
    assert outcome.exit_code == 5
    # Neither limit is the other one's, nor `start_timeout`'s usual 60 s.
    assert time.monotonic() - started < 55


def test_a_limit_that_is_over_while_the_kernel_is_being_made_ends_it() -> None:
    kernel = subprocess.Popen(["sleep", "600"], start_new_session=True)
    control = engine.Control(timeout=1)
    control.check(2)
    assert kernel.poll() is None
    control.started(kernel.pid)
    assert kernel.wait(30) == -signal.SIGKILL
    assert (control.reason, control.killed) == ("timeout", True)


def test_a_kernel_that_does_not_answer_between_two_cells_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(engine, "time", clock)
    told: list[str] = []
    control = engine.Control(grace=5, say=told.append)
    now = 100.0
    assert control.begin(0)
    control.end("between")
    control.stop("interrupted")
    now += 5 + engine.OUTPUT_S - 1  # it has cleaned up, and is being asked how it went
    control.check(now)
    assert not control.killed
    now += 2
    control.check(now)
    assert control.killed
    assert told == ["the kernel does not answer any more: killing it"]


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_just_before_a_cell_leaves_it_out(run: Run, number: int) -> None:
    """The process of a pipeline's notebook passes on, as its first cell begins, what came too early for the kernel."""
    told: list[int] = []

    def on_cell(progress: notebook.Progress) -> None:
        told.append(progress.number)
        if progress.number == number:
            signal.raise_signal(signal.SIGINT)

    outcome, kept = run("1", "2", "3", on_cell=on_cell)
    assert outcome.exit_code == Interrupted.exit_code
    assert told == list(range(1, number + 1))
    assert outcome.cells == 3
    assert [cell.execution_count for cell in kept.cells[2:]] == [1 if each < number else None for each in (1, 2, 3)]


@pytest.mark.parametrize("line", ["current", "phase", "_executing", "_cell_since", "_pending"])
def test_an_interrupt_while_a_cell_is_being_sent_reaches_it(line: str) -> None:
    """A signal's handler runs between any two lines of the thread that it interrupts, and has its lock."""

    class Struck(engine.Control):
        armed = False

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == line and self.armed:
                self.armed = False
                self.stop("interrupted")

    heard: list[int] = []
    control = Struck()
    control.started(os.getpid())
    control.armed = True
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        assert control.begin(0)
        assert heard == []
        control.executing()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_makes_the_kernel_forget_the_cell_ends_the_wait(
    run: Run, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between telling that it begins with a cell and running it, an interrupt hits ipykernel: no reply ever comes."""
    slow = f"""
import time
from pathlib import Path
kernel = get_ipython().kernel
async def do_execute(code, silent, **options):
    if not silent and code == "1":
        Path({str(begun)!r}).touch()
        time.sleep(600)
    return await type(kernel).do_execute(kernel, code, silent, **options)
kernel.do_execute = do_execute
"""
    monkeypatch.setattr(engine, "REPLY_S", 0.1)
    outcome, kept = run(slow, "1", "2", cell_timeout=0.1)
    assert outcome.exit_code == 5
    assert (outcome.cell, outcome.executed) == (2, 1)
    assert "left behind" not in str(outcome.error.hint if outcome.error else "")  # nothing was killed
    assert states(kept) == ["completed", "failed", "pending"]


def test_a_cell_over_its_time_cleans_up(run: Run, begun: Path, tmp_path: Path) -> None:
    outcome, kept = run(notebooks.sleeper(begun, tmp_path / "clean", 0.5), "1", cell_timeout=0.5)
    assert outcome.exit_code == 5
    assert (tmp_path / "clean").exists()
    assert kept.cells[2].outputs[0].ename == "KeyboardInterrupt"
    assert "--cell-timeout" in str(outcome.error.hint if outcome.error else "")


def test_a_cell_that_does_not_end_is_killed_after_its_grace(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, begun = tmp_path / "pid", tmp_path / "begun"
    source = f"""
import subprocess, time
from pathlib import Path
Path({str(pid)!r}).write_text(str(subprocess.Popen(['sleep', '60']).pid))
while True:
    try:
        Path({str(begun)!r}).touch()
        time.sleep(60)
    except KeyboardInterrupt:
        print('no')
"""
    told: list[str] = []
    heard: list[bool] = []
    real = engine.Client.process_message

    def process_message(client: engine.Client, message: Any, *arguments: Any) -> Any:
        given = real(client, message, *arguments)
        if message["msg_type"] == "stream":
            heard.append(True)
        return given

    def clock() -> float:
        """The cell is over its limit once it sleeps, and its grace is over once what it then said has come."""
        return 10.0 if heard else float(begun.exists())

    monkeypatch.setattr(engine.Client, "process_message", process_message)
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=clock))
    outcome, kept = run(source, "1", cell_timeout=0.5, grace=1, say=told.append)
    assert outcome.exit_code == 5
    assert "may be left behind" in str(outcome.error.hint if outcome.error else "")
    assert any("killing the kernel" in sentence for sentence in told)
    assert "no" in kept.cells[2].outputs[0].text  # what there was of it is kept
    assert gone(int(pid.read_text()))  # and it leaves no orphans


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is being read
        return False


def gone(pid: int) -> bool:
    """Wait until a process has ended; False if it does not."""
    deadline = time.monotonic() + 60
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_handled_time_out_is_a_time_out(run: Run) -> None:
    """A cell that swallows the interrupt and goes on has not kept its time."""
    outcome, _ = run("import time\ntry:\n    time.sleep(9)\nexcept KeyboardInterrupt:\n    pass", "1", cell_timeout=0.5)
    assert outcome.exit_code == 5


def test_progress_names_cell_and_heading(run: Run) -> None:
    seen: list[notebook.Progress] = []
    run("1", notebooks.text("### Deeper ###\n\ntext"), "", "2", on_cell=seen.append)
    assert [(each.number, each.total, each.heading) for each in seen] == [(1, 2, "Part"), (2, 2, "Deeper")]


def test_the_metadata_tells_the_truth_and_no_paths(run: Run, tmp_path: Path) -> None:
    outcome, kept = run("from leptonami import notebook\nnotebook.provenance('measured', run='r')", run_id="r1")
    about = kept.metadata.leptonami
    assert about.run == "r1"
    assert about.provenance == outcome.provenance == "measured"
    assert about.source.name == "some.ipynb"
    assert len(about.source.sha256) == 64
    assert about.versions.python == sys.version.split()[0]
    assert str(tmp_path) not in json.dumps(kept.metadata)


@pytest.mark.parametrize(
    ("declared", "weakest"),
    [
        (["measured", "simulated"], "simulated"),
        (["recorded", "measured"], "recorded"),
        ([], None),
        (["measured"] * 2, "measured"),
    ],
)
def test_the_weakest_provenance_counts(run: Run, declared: list[str], weakest: str | None) -> None:
    cells = [f"from leptonami import notebook\nnotebook.provenance({each!r})" for each in declared]
    outcome, _ = run(*cells, "1")
    assert outcome.provenance == weakest


def test_an_unknown_provenance_is_refused() -> None:
    with pytest.raises(InputError, match="no such provenance"):
        notebook.provenance("guessed")  # type: ignore[arg-type]


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    source = notebooks.write(tmp_path / "a.ipynb", "1")
    with pytest.raises(InputError, match="overwrite its source"):
        execute(source, tmp_path / "x" / ".." / "a.ipynb")
    julia = notebooks.write(
        tmp_path / "j.ipynb", "1", kernelspec={"name": "julia", "language": "julia", "display_name": "J"}
    )
    with pytest.raises(InputError, match="for julia"):
        execute(julia, tmp_path / "o.ipynb")
    document = json.loads(source.read_text())
    del document["cells"][0]["outputs"]
    source.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no valid notebook"):
        execute(source, tmp_path / "o.ipynb")


def test_an_output_that_cannot_be_written_says_so_first(tmp_path: Path) -> None:
    source = notebooks.write(tmp_path / "a.ipynb", "1")
    (tmp_path / "file").touch()
    with pytest.raises(LeptonamiError, match="cannot be written"):
        execute(source, tmp_path / "file" / "o.ipynb")


def test_cells_that_were_not_executed_are_no_success(tmp_path: Path) -> None:
    """The judgement itself, with a notebook that lacks what no way of stopping explains."""
    kept = notebooks.read(notebooks.write(tmp_path / "a.ipynb", notebooks.code("1", count=1), "2"))
    control = engine.Control(notebook=kept, current=0)
    outcome = notebook.judge(control, Path("a.ipynb"), Path("o.ipynb"), 1.0)
    assert outcome.exit_code == 7
    assert "1 cells were not executed" in str(outcome.error)


def test_a_shell_failure_that_raised_nothing_is_found(tmp_path: Path) -> None:
    """An IPython too old to raise still leaves the exit status behind."""
    kept = notebooks.read(notebooks.write(tmp_path / "a.ipynb", notebooks.code("!false", count=1)))
    control = engine.Control(notebook=kept, current=0, accounts={0: {"shell": 2, "error": None}})
    outcome = notebook.judge(control, Path("a.ipynb"), Path("o.ipynb"), 1.0)
    assert outcome.exit_code == 8
    assert "exited with 2" in str(outcome.error)


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Start `leptonami run` as a process of its own, and wait until its cell is running."""

    def go(cleaning: float = 0.5, *options: str) -> SimpleNamespace:
        begun, clean = tmp_path / "begun", tmp_path / "clean"
        source = notebooks.sleeper(begun, clean, cleaning)
        path = notebooks.write(tmp_path / "sleep.ipynb", notebooks.text("# T"), source, "1")
        process = subprocess.Popen(
            [sys.executable, "-m", "leptonami", "run", str(path), "--output", str(tmp_path / "out"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        return SimpleNamespace(
            process=process, clean=clean, kept=tmp_path / "out" / "sleep.ipynb", out=tmp_path / "out"
        )

    return go


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_cell_clean_up(started: Callable[..., SimpleNamespace], number: int) -> None:
    it = started()
    # The whole foreground group gets Ctrl-C in a terminal; the kernel has a session of its own.
    os.killpg(it.process.pid, number)
    stdout, stderr = it.process.communicate(timeout=60)
    assert it.process.returncode == Interrupted.exit_code
    assert it.clean.exists()
    assert stdout.strip() == str(it.out / "sleep.html")
    assert "time to clean up" in stderr
    assert "Traceback" not in stderr
    kept = notebooks.read(it.kept)
    assert states(kept) == ["failed", "pending"]
    assert kept.metadata.leptonami.outcome.status == "interrupted"
    assert "interrupted in cell 1" in (it.out / "sleep.html").read_text()


def until(stream: Any, text: str) -> str:
    """Read up to the line with this text, or to the end, and give the last line read."""
    line = ""
    for line in stream:
        if text in line:
            break
    return str(line)


def test_a_second_interrupt_stops_at_once(started: Callable[..., SimpleNamespace]) -> None:
    it = started(60)
    os.kill(it.process.pid, signal.SIGINT)
    assert "time to clean up" in until(it.process.stderr, "interrupted: ")  # two at once would count as one
    time.sleep(0.5)
    assert it.process.poll() is None
    os.kill(it.process.pid, signal.SIGTERM)  # impatient, but no second Ctrl-C
    time.sleep(0.3)
    assert it.process.poll() is None
    os.kill(it.process.pid, signal.SIGINT)
    _, stderr = it.process.communicate(timeout=60)
    assert it.process.returncode == Interrupted.exit_code
    assert not it.clean.exists()
    assert "may be left behind" in stderr


def test_the_kernel_does_not_outlive_a_runner_that_was_killed(started: Callable[..., SimpleNamespace]) -> None:
    it = started(0)
    children = Path(f"/proc/{it.process.pid}/task/{it.process.pid}/children").read_text().split()
    assert len(children) == 1
    it.process.kill()
    it.process.communicate()
    assert gone(int(children[0]))


class TestCommand:
    def invoke(self, *arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(command, list(arguments))
        if isinstance(result.exception, LeptonamiError):
            assert result.exception.exit_code == code
        else:
            assert result.exit_code == code, result.output
        return result

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        cell = notebooks.code(
            'kubernetes: str = "1.33"  # the version\nrun_id: str = ""\nruns_folder: str = "../runs"', "parameters"
        )
        return notebooks.write(
            tmp_path / "some.ipynb", notebooks.text("# Title"), cell, "print(kubernetes, run_id, runs_folder)"
        )

    def test_a_run_keeps_notebook_and_page_in_its_folder(self, source: Path, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        result = self.invoke(str(source), "-p", "kubernetes=1.30", "--runs", str(runs))
        page = Path(result.stdout.strip())
        assert page.is_file()
        run_id = page.relative_to(runs).parts[0]
        assert page.relative_to(runs).parts[1:] == ("notebooks", "some.html")
        kept = notebooks.read(page.with_suffix(".ipynb"))
        assert kept.cells[3].outputs[0].text == f"1.30 {run_id} {runs}\n"
        assert kept.metadata.leptonami.run == run_id
        assert run_id in page.read_text()
        assert "\r" not in result.stderr
        assert "\x1b" not in result.stderr

    def test_a_run_id_of_our_own(self, source: Path, tmp_path: Path) -> None:
        result = self.invoke(
            str(source), "-p", "run_id=20260102-030405-abcdef", "--runs", str(tmp_path), "--no-html", "--json", "-q"
        )
        told = json.loads(result.stdout)
        assert told["run"] == "20260102-030405-abcdef"
        assert told["html"] is None
        assert told["status"] == "completed"
        assert Path(told["notebook"]) == tmp_path / told["run"] / "notebooks" / "some.ipynb"
        self.invoke(str(source), "-p", "run_id=../../etc", code=2)

    def test_a_file_of_parameters(self, source: Path, tmp_path: Path) -> None:
        file = tmp_path / "p.yaml"
        file.write_text('kubernetes: "1.31"\n')
        result = self.invoke(str(source), "-f", str(file), "--dry-run", "--json")
        assert json.loads(result.stdout)["parameters"]["kubernetes"] == "1.31"
        result = self.invoke(str(source), "-f", str(file), "-p", "kubernetes=1.32", "--dry-run", "--json")
        assert json.loads(result.stdout)["parameters"]["kubernetes"] == "1.32"
        file.write_text("kubernetes: 1.31\n")
        self.invoke(str(source), "-f", str(file), code=2)

    def test_a_dry_run_runs_nothing(self, source: Path, tmp_path: Path) -> None:
        result = self.invoke(str(source), "--dry-run", "--runs", str(tmp_path / "runs"))
        assert "would run" in result.stderr
        assert "default" in result.stdout
        assert not (tmp_path / "runs").exists()

    def test_the_parameters_are_listed(self, source: Path) -> None:
        assert "the version" in self.invoke(str(source), "--list-parameters").stdout
        listed = json.loads(self.invoke(str(source), "--list-parameters", "--json").stdout)
        assert listed[0] == {"name": "kubernetes", "type": "str", "default": "1.33", "help": "the version"}

    @pytest.mark.parametrize("assignment", ["kubernetes", "=1", "a b=1", "a-b=1"])
    def test_what_is_no_assignment(self, source: Path, assignment: str) -> None:
        self.invoke(str(source), "-p", assignment, code=2)

    def test_a_name_given_twice(self, source: Path) -> None:
        self.invoke(str(source), "-p", "kubernetes=1", "-p", "kubernetes=2", code=2)

    @pytest.mark.parametrize("text", ["0", "-1", "1d", "x", "1e9", ""])
    def test_what_is_no_duration(self, source: Path, text: str) -> None:
        assert "duration" in self.invoke(str(source), "--timeout", text, code=2).output

    def test_durations(self, source: Path, tmp_path: Path) -> None:
        source = notebooks.write(tmp_path / "s.ipynb", "import time; time.sleep(60)")
        result = self.invoke(str(source), "--cell-timeout", "0.5s", "--output", str(tmp_path / "o"), code=5)
        assert "timed out in cell 1" in result.stderr

    def test_a_failure_is_told_and_its_page_is_made(self, tmp_path: Path) -> None:
        source = notebooks.write(tmp_path / "s.ipynb", notebooks.text("# T\n## Launch"), "1/0")
        result = self.invoke(str(source), "--output", str(tmp_path / "o"), code=1)
        assert "failed in cell 1 (Launch)" in result.stderr
        assert "did not complete" in Path(result.stdout.strip()).read_text()

    def test_a_figure_without_a_description_ends_with_2(self, tmp_path: Path) -> None:
        source = notebooks.write(
            tmp_path / "s.ipynb",
            "from IPython.display import display\ndisplay({'image/png': 'AAAA'}, raw=True)",
        )
        self.invoke(str(source), "--output", str(tmp_path / "o"), code=2)
        assert (tmp_path / "o" / "s.ipynb").is_file()

    def test_shipped_notebooks_are_found_by_name(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        module = sys.modules["leptonami.commands.run"]
        monkeypatch.setattr(module, "home", lambda: tmp_path)
        path = notebooks.write(tmp_path / "10_build_ami.ipynb", "1")
        find = module.find
        assert find("10_build_ami") == find("build_ami") == path
        with pytest.raises(InputError) as caught:
            find("build_amy")
        assert "build_ami" in str(caught.value.hint)

    def test_the_command_leaves_with_the_code(self, tmp_path: Path) -> None:
        source = notebooks.write(
            tmp_path / "s.ipynb",
            "from leptonami.errors import CredentialsError\nraise CredentialsError('expired', hint='log in')",
        )
        done = subprocess.run(
            [sys.executable, "-m", "leptonami", "run", str(source), "--output", str(tmp_path / "o")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4
        assert "error: s.ipynb, cell 1: expired" in done.stderr
        assert "what to do: log in" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_values_of_a_parameters_cell_go_through_papermill(tmp_path: Path) -> None:
    """What `coerce` gives for text is what the notebook gets."""
    cell = notebooks.code('version: str = ""\naccount: str = ""', "parameters")
    source = notebooks.write(tmp_path / "a.ipynb", cell, "print(version, account)")
    values = coerce(parameters(source), {"version": "1.30", "account": "012345678901"})
    outcome = execute(source, tmp_path / "o.ipynb", values)
    assert notebooks.read(outcome.output).cells[2].outputs[0].text == "1.30 012345678901\n"
