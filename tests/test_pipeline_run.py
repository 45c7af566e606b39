"""Running a pipeline of tiny notebooks: side by side, failing, interrupted, killed and gone on with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample_notebooks as notebooks

from leptonami.cli import main

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "exit-codes.md"
PARAMETERS = 'run_id: str = ""\nruns_folder: str = "../runs"\nword: str = "plain"'

pytestmark = pytest.mark.timeout(180)


class Made:
    """A pipeline in a folder of its own, and the ways to run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.entries: list[str] = []
        self.processes: list[subprocess.Popen[str]] = []

    def add(self, name: str, *cells: Any, needs: str = "", more: str = "", title: str | None = None) -> None:
        """Add a notebook: with a title, the parameters, and these cells."""
        parameters = notebooks.code(PARAMETERS, "parameters")
        heading = notebooks.text(f"# {title or name}\n\n## Part of {name}")
        notebooks.write(self.folder / f"{name}.ipynb", heading, parameters, *cells)
        self.entries.append(f"  - notebook: {name}\n    for: what {name} is for\n    needs: [{needs}]\n{more}")
        (self.folder / "pipeline.yaml").write_text("schema: 1\nnotebooks:\n" + "".join(self.entries))

    def replace(self, name: str, *cells: Any) -> None:
        """Change a notebook."""
        parameters = notebooks.code(PARAMETERS, "parameters")
        notebooks.write(self.folder / f"{name}.ipynb", notebooks.text(f"# {name}"), parameters, *cells)

    def command(self, *options: str) -> list[str]:
        file = [] if options and options[0].endswith(".ipynb") else ["--pipeline", str(self.folder / "pipeline.yaml")]
        return [sys.executable, "-m", "leptonami", "run", *file, "--runs", str(self.runs), *options]

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=self.folder,
            env={**os.environ, **environment},
        )
        self.processes.append(process)
        return process

    def run(self, *options: str, code: int = 0) -> SimpleNamespace:
        """Run it to its end; give what it wrote and what it kept."""
        return self.wait(self.start(*options), code)

    def wait(self, process: subprocess.Popen[str], code: int = 0) -> SimpleNamespace:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        assert "Traceback" not in stderr
        return SimpleNamespace(stdout=stdout, stderr=stderr, **(self.kept() if self.runs.is_dir() else {}))

    def refused(self, *options: str) -> str:
        """Give what is said of options that are refused. Nothing runs then, so it needs no process of its own."""
        said = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as left:
            main(self.command(*options)[3:])
        assert left.value.code == 2, said.getvalue()
        return said.getvalue()

    def kept(self) -> dict[str, Any]:
        """Give the record, the index page and the folder of the run."""
        folder = max(self.runs.iterdir())
        record = json.loads((folder / "pipeline.json").read_text())
        states = {each["name"]: each["state"] for each in record["notebooks"]}
        of = {each["name"]: each for each in record["notebooks"]}
        return {"folder": folder, "record": record, "states": states, "of": of, "id": folder.name}

    def until(self, condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            if process is not None:
                assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def left(self) -> list[str]:
        """Name the processes that were started for this pipeline and are alive: kernels and workers know its folder."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdecimal():
                try:
                    there = str((each / "cwd").readlink())
                    line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    state = (each / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if there == str(self.folder) and state != "Z":
                    found.append(line)
        return found


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    it = Made(tmp_path)
    yield it
    for process in it.processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
    it.until(lambda: not it.left())


def touch(path: Path) -> str:
    return f"from pathlib import Path\nPath({str(path)!r}).touch()"


def wait_for(path: Path, seconds: int = 30) -> str:
    """A cell that ends when a file is there, and fails when it does not come."""
    return (
        f"import time\nfrom pathlib import Path\nend = time.monotonic() + {seconds}\n"
        f"while not Path({str(path)!r}).exists():\n    assert time.monotonic() < end\n    time.sleep(0.02)"
    )


def sleeper(folder: Path, name: str, cleaning: float = 0.3) -> str:
    """A cell that says that it has begun, sleeps, and says that it has cleaned up."""
    return notebooks.sleeper(folder / f"begun-{name}", folder / f"clean-{name}", cleaning)


def cleaning_until(gate: Path, folder: Path, name: str) -> str:
    """The same, but that it also says when it begins to clean up, which takes until a file is there."""
    waiting = f"{touch(folder / f'cleaning-{name}')}\n{wait_for(gate, 120)}".replace("\n", "\n    ")
    begun = touch(folder / f"begun-{name}").replace("\n", "\n    ")
    return (
        f"import time\ntry:\n    {begun}\n    time.sleep(60)\n"
        f"finally:\n    {waiting}\n    Path({str(folder / f'clean-{name}')!r}).touch()"
    )


def test_all_go_into_one_run_folder(made: Made) -> None:
    evidence = "from pathlib import Path\nroot = Path(runs_folder) / run_id / 'evidence'"
    made.add("10_a", f"{evidence}\n(root / 'a.txt').write_text(word)")
    made.add("20_b", f"{evidence}\nprint(run_id, (root / 'a.txt').read_text(), word)", needs="10_a")
    done = made.run("-p", "word=one", "-p", "b.word=two")
    assert done.states == {"10_a": "completed", "20_b": "completed"}
    assert done.record["state"] == "completed"
    assert done.record["exit_code"] == 0
    assert done.stdout.splitlines() == [str(done.folder / "index.html")]
    kept = notebooks.read(done.folder / "notebooks" / "20_b.ipynb")
    assert kept.cells[3].outputs[0].text == f"{done.id} one two\n"
    assert kept.metadata.leptonami.run == done.id
    entry = done.of["20_b"]
    assert entry["parameters"] == {"word": "two"}
    assert (entry["cells"], entry["executed"], entry["exit_code"], entry["attempt"]) == (3, 3, 0, 1)
    assert entry["seconds"] > 0
    assert entry["notebook"] == "notebooks/20_b.ipynb"
    assert (done.folder / entry["html"]).is_file()
    page = (done.folder / "index.html").read_text()
    assert 'href="notebooks/10_a.html"' in page
    assert 'href="notebooks/20_b.ipynb"' in page
    assert "2 of 2 completed" in page
    assert "20_b: cell 1 of 3: Part of 20_b" in done.stderr
    assert done.stderr.index("10_a: completed") < done.stderr.index("20_b: begins")


def test_independent_notebooks_run_side_by_side(made: Made) -> None:
    """Each waits for the other's file: one after another they could not end."""
    one, two = made.folder / "one", made.folder / "two"
    made.add("10_a", touch(one) + "\n" + wait_for(two))
    made.add("20_b", touch(two) + "\n" + wait_for(one))
    done = made.run("--jobs", "2", "--no-html")
    assert done.states == {"10_a": "completed", "20_b": "completed"}
    assert done.of["20_b"]["started"] < done.of["10_a"]["finished"]


def test_jobs_1_runs_one_after_another(made: Made) -> None:
    marker = made.folder / "busy"
    cell = f"import time\nfrom pathlib import Path\nit = Path({str(marker)!r})\nit.mkdir()\ntime.sleep(0.3)\nit.rmdir()"
    for name in ("10_a", "20_b"):
        made.add(name, cell)  # mkdir fails if another one is at it
    done = made.run("--jobs", "1", "--no-html")
    assert set(done.states.values()) == {"completed"}
    assert done.record["jobs"] == 1


def test_a_failure_stops_what_needs_it_and_nothing_else(made: Made) -> None:
    made.add("10_a", "from leptonami.errors import CheckFailed\nraise CheckFailed('wrong <b>', hint='mend <i>it</i>')")
    made.add("20_b", "1", needs="10_a")
    made.add("30_c", "1")
    made.add("40_d", "1", needs="20_b, 30_c")
    made.add("50_e", "1", needs="30_c")
    done = made.run(code=3)
    assert done.states == {
        "10_a": "failed",
        "20_b": "skipped",
        "30_c": "completed",
        "40_d": "skipped",
        "50_e": "completed",
    }
    assert done.of["20_b"]["why"] == "it needs 10_a, which failed"
    assert done.of["40_d"]["why"] == "it needs 20_b, which was skipped because 10_a failed"
    assert (done.of["10_a"]["cell"], done.of["10_a"]["heading"]) == (3, "Part of 10_a")
    assert done.record["state"] == "failed"
    assert done.record["exit_code"] == 3
    assert "error: 10_a.ipynb, cell 3 (Part of 10_a): wrong <b>" in done.stderr
    assert f"leptonami run --resume {done.id}" in done.stderr
    page = (done.folder / "index.html").read_text()
    assert "wrong &lt;b&gt;" in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "it needs 10_a, which failed" in page
    assert "1 failed, 2 skipped" in page
    assert 'href="notebooks/10_a.html"' in page
    assert 'href="notebooks/20_b.html"' not in page


# Each row of the pipeline's table in docs/exit-codes.md: what does it.
ENDS: list[tuple[int, str, str]] = [
    (0, "1", ""),
    (1, "1/0", ""),
    (2, "from leptonami.errors import InputError\nraise InputError('no')", ""),
    (3, "from leptonami.errors import CheckFailed\nraise CheckFailed('no')", ""),
    (4, "from leptonami.errors import CredentialsError\nraise CredentialsError('no')", ""),
    (5, "import time\ntime.sleep(60)", "    timeout: 2s\n    grace: 1s\n"),
    (6, "import os\nos._exit(3)", ""),
    (7, "raise SystemExit(0)", ""),
    (8, "!exit 3", ""),
]


@pytest.mark.parametrize(("code", "source", "more"), ENDS, ids=[str(row[0]) for row in ENDS])
def test_the_exit_code_is_that_of_the_notebook_that_failed(made: Made, code: int, source: str, more: str) -> None:
    # That others complete changes nothing: see the failure above.
    made.add("10_a", source, more=more)
    made.add("20_b", "1", needs="10_a")
    done = made.run("--no-html", code=code)
    assert done.record["exit_code"] == code
    assert done.of["10_a"]["exit_code"] == code
    assert done.states["20_b"] == ("completed" if code == 0 else "skipped")


def test_every_row_of_the_table_is_tested() -> None:
    section = DOCUMENT.read_text().partition("## The pipeline")[2]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert documented == {row[0] for row in ENDS} | {130}


def test_of_several_that_failed_the_first_in_the_order_counts(made: Made) -> None:
    gate = made.folder / "gate"
    made.add("10_a", wait_for(gate) + "\n1/0")
    made.add("20_b", touch(gate) + "\nraise SystemExit(1)")
    done = made.run("--jobs", "2", "--no-html", code=1)
    assert (done.of["10_a"]["exit_code"], done.of["20_b"]["exit_code"]) == (1, 7)


def test_a_figure_without_a_description_fails_its_notebook(made: Made) -> None:
    made.add("10_a", "from IPython.display import display\ndisplay({'image/png': 'AAAA'}, raw=True)")
    made.add("20_b", "1", needs="10_a")
    done = made.run(code=2)
    assert done.of["10_a"]["status"] == "no page"
    assert done.states["20_b"] == "skipped"
    assert (done.folder / "notebooks" / "10_a.html").is_file()


def test_provenance_is_the_weakest(made: Made) -> None:
    made.add("10_a", "from leptonami import notebook\nnotebook.provenance('measured')")
    made.add("20_b", "from leptonami import notebook\nnotebook.provenance('simulated')")
    done = made.run("--json", "-q")
    told = json.loads(done.stdout)
    assert told["provenance"] == "simulated"
    assert [each["provenance"] for each in told["notebooks"]] == ["measured", "simulated"]
    assert told["index"] == str(done.folder / "index.html")
    page = (done.folder / "index.html").read_text()
    assert "<title>Simulated: " in page
    assert '<p class="provenance simulated">' in page
    assert done.stderr == "simulated: nothing in it was measured on AWS\n"


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_all_that_run_clean_up_and_nothing_is_left(self, made: Made, number: int) -> None:
        made.add("10_a", sleeper(made.folder, "a"))
        made.add("20_b", sleeper(made.folder, "b"))
        made.add("30_c", "1", needs="10_a")
        made.add("40_d", "1")
        process = made.start("--jobs", "2")
        made.until(lambda: (made.folder / "begun-a").exists() and (made.folder / "begun-b").exists(), process)
        # As a terminal does it: the whole foreground group gets it.
        os.killpg(process.pid, number)
        done = made.wait(process, 130)
        assert (made.folder / "clean-a").exists()
        assert (made.folder / "clean-b").exists()
        assert done.states == {"10_a": "interrupted", "20_b": "interrupted", "30_c": "skipped", "40_d": "skipped"}
        for name in ("30_c", "40_d"):
            assert done.of[name]["why"] == "the pipeline was interrupted before it began"
        assert done.record["state"] == "interrupted"
        assert done.record["exit_code"] == 130
        assert done.stdout.strip() == str(done.folder / "index.html")
        assert "time to clean up" in done.stderr
        assert (
            notebooks.read(done.folder / "notebooks" / "10_a.ipynb").metadata.leptonami.outcome.status == "interrupted"
        )
        assert "2 interrupted, 2 skipped" in (done.folder / "index.html").read_text()
        made.until(lambda: not made.left())

    def test_a_second_interrupt_does_not_wait_for_the_grace(self, made: Made) -> None:
        gate = made.folder / "gate"
        made.add("10_a", cleaning_until(gate, made.folder, "a"))
        process = made.start()
        made.until((made.folder / "begun-a").exists, process)
        process.send_signal(signal.SIGINT)
        # Two that come at once would be one.
        made.until((made.folder / "cleaning-a").exists, process)
        process.send_signal(signal.SIGINT)
        done = made.wait(process, 130)
        assert not (made.folder / "clean-a").exists()
        assert "may be left behind" in done.stderr
        made.until(lambda: not made.left())

    def test_a_cell_that_does_not_end_is_killed_after_its_own_grace(self, made: Made) -> None:
        made.add("10_a", sleeper(made.folder, "a", cleaning=60), more="    grace: 1s\n")
        process = made.start()
        made.until((made.folder / "begun-a").exists, process)
        process.send_signal(signal.SIGINT)
        done = made.wait(process, 130)
        assert not (made.folder / "clean-a").exists()
        assert done.states == {"10_a": "interrupted"}

    def test_before_any_cell_runs(self, made: Made) -> None:
        made.add("10_a", touch(made.folder / "ran"))
        made.add("20_b", "1", needs="10_a")
        # A kernel that takes its time to start: the interrupt comes before its cells, however busy the machine is.
        slow = "import sys, time\nif any('ipykernel' in each for each in sys.orig_argv):\n    time.sleep(120)"
        (made.folder / "sitecustomize.py").write_text(slow)
        process = made.start(PYTHONPATH=str(made.folder))
        made.until(lambda: made.runs.is_dir() and any(made.runs.glob("*/pipeline.json")), process)
        process.send_signal(signal.SIGINT)
        done = made.wait(process, 130)
        assert set(done.states.values()) <= {"interrupted", "skipped"}
        assert not (made.folder / "ran").exists()
        made.until(lambda: not made.left())

    def test_what_was_interrupted_goes_on(self, made: Made) -> None:
        made.add("10_a", touch(made.folder / "a"))
        made.add("20_b", sleeper(made.folder, "b", cleaning=0), needs="10_a")
        process = made.start("--no-html")
        made.until((made.folder / "begun-b").exists, process)
        process.send_signal(signal.SIGINT)
        first = made.wait(process, 130)
        (made.folder / "a").unlink()
        made.replace("20_b", "1")
        done = made.run("--resume", first.id, "--no-html")
        assert done.states == {"10_a": "completed", "20_b": "completed"}
        assert not (made.folder / "a").exists()


class TestKilled:
    def test_a_kernel(self, made: Made) -> None:
        made.add("10_a", "import os\nos.kill(os.getpid(), 9)")
        made.add("20_b", "1")
        done = made.run("--no-html", code=6)
        assert done.states == {"10_a": "failed", "20_b": "completed"}
        assert "the kernel died (SIGKILL)" in done.stderr

    def test_a_notebook_s_process(self, made: Made) -> None:
        """Killed like by the kernel's out-of-memory killer: it takes its kernel with it, and the rest goes on."""
        made.add("10_a", "import os\nos.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)")
        made.add("20_b", "1", needs="10_a")
        made.add("30_c", "1")
        done = made.run("--no-html", code=6)
        assert done.states == {"10_a": "failed", "20_b": "skipped", "30_c": "completed"}
        assert "the notebook's process died (SIGKILL)" in done.of["10_a"]["error"]["message"]
        assert done.of["10_a"]["notebook"] is None

    def test_the_pipeline_itself(self, made: Made) -> None:
        """Its notebooks see that it is gone and clean up; until they have, nobody else may begin; then it goes on."""
        made.add("10_a", touch(made.folder / "a"))
        gate = made.folder / "gate"
        made.add("20_b", cleaning_until(gate, made.folder, "b"), needs="10_a")
        made.add("30_c", "1", needs="20_b")
        process = made.start("-p", "word=kept", "--no-html")
        made.until((made.folder / "begun-b").exists, process)
        process.kill()
        process.communicate()
        kept = made.kept()
        assert kept["states"] == {"10_a": "completed", "20_b": "running", "30_c": "waiting"}
        refused = made.run("--resume", kept["id"], code=2)
        assert f"process {process.pid}" in refused.stderr
        assert "still cleaning up" in refused.stderr
        gate.touch()
        made.until(lambda: not made.left())
        assert (made.folder / "clean-b").exists()
        (made.folder / "a").unlink()
        made.replace("20_b", "print(word)")
        done = made.run("--resume", kept["id"], "--no-html")
        assert set(done.states.values()) == {"completed"}
        assert not (made.folder / "a").exists()
        # What was given at the beginning holds on.
        assert notebooks.read(done.folder / "notebooks" / "20_b.ipynb").cells[3].outputs[0].text == "kept\n"
        assert done.of["20_b"]["why"] == "it was interrupted before"
        assert (done.of["10_a"]["attempt"], done.of["20_b"]["attempt"], done.record["attempts"]) == (1, 2, 2)

    def test_what_ended_after_the_pipeline_was_killed_is_not_repeated(self, made: Made) -> None:
        """The cell sees its pipeline die and completes all the same: its notebook says so, and that is believed."""
        gate = made.folder / "gate"
        cell = f"try:\n    {wait_for(gate).replace(chr(10), chr(10) + '    ')}\nexcept KeyboardInterrupt:\n    pass"
        made.add("10_a", touch(made.folder / "begun") + "\n" + cell)
        process = made.start()
        made.until((made.folder / "begun").exists, process)
        process.kill()
        process.communicate()
        made.until(lambda: not made.left())
        kept = made.kept()
        outcome = notebooks.read(kept["folder"] / "notebooks" / "10_a.ipynb").metadata.leptonami.outcome
        done = made.run("--resume", kept["id"], "--dry-run", "--json", "-q")
        action = json.loads(done.stdout)["notebooks"][0]["action"]
        assert (outcome.status, action) in {("completed", "keep"), ("interrupted", "run")}


class TestResume:
    def test_repeats_nothing_that_completed(self, made: Made) -> None:
        for name in "abc":
            made.add(f"{ord(name) - 87}_{name}", touch(made.folder / name), needs="10_a" if name == "c" else "")

        def ran() -> set[str]:
            """Name the notebooks that have run since the last look."""
            found = {name for name in "abc" if (made.folder / name).exists()}
            for name in found:
                (made.folder / name).unlink()
            return found

        first = made.run("--no-html")
        assert ran() == set("abc")
        again = made.run("--resume", first.id, "--no-html")
        assert ran() == set()
        assert again.record["exit_code"] == 0
        # A changed notebook runs again, and so does what needs it; one with a changed parameter too.
        made.replace("10_a", touch(made.folder / "a"))
        again = made.run("--resume", first.id, "--no-html")
        assert ran() == {"a", "c"}
        assert again.of["10_a"]["why"] == "the notebook has changed"
        again = made.run("--resume", first.id, "-p", "11_b.word=new", "--no-html")
        assert ran() == {"b"}
        assert again.of["11_b"]["why"] == "its parameters have changed: word"
        assert again.record["attempts"] == 4

    def test_what_failed_runs_again(self, made: Made) -> None:
        made.add("10_a", touch(made.folder / "a"))
        made.add("20_b", "1/0", needs="10_a")
        made.add("30_c", "1", needs="20_b")
        first = made.run("--no-html", code=1)
        (made.folder / "a").unlink()
        made.replace("20_b", "1")
        done = made.run("--resume", first.id, "--no-html")
        assert set(done.states.values()) == {"completed"}
        assert done.of["20_b"]["error"] is None
        assert not (made.folder / "a").exists()
        assert "did not complete" not in (done.folder / "index.html").read_text()

    def test_an_executed_notebook_that_was_altered_is_made_again(self, made: Made) -> None:
        made.add("10_a", "1")
        first = made.run("--no-html")
        path = first.folder / "notebooks" / "10_a.ipynb"
        path.write_text(path.read_text() + " ")
        told = json.loads(made.run("--resume", first.id, "--dry-run", "--json").stdout)
        assert told["notebooks"][0]["why"] == "its executed notebook has been altered"
        path.unlink()
        done = made.run("--resume", first.id, "--no-html")
        assert done.of["10_a"]["why"] == "its executed notebook is gone"
        assert path.is_file()

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "the record is damaged"),
            ('{"schema": 2, "run": "x"}', "damaged"),
            ('{"schema": 1, "run": "x"}', "another run"),
            ('{"schema": 1, "run": "RUN", "notebooks": [{"name": "../x"}]}', "damaged"),
        ],
    )
    def test_a_damaged_record(self, made: Made, text: str, said: str) -> None:
        made.add("10_a", "1")
        folder = made.runs / "20260102-030405-abcdef"
        folder.mkdir(parents=True)
        (folder / "pipeline.json").write_text(text.replace("RUN", folder.name))
        assert said in made.refused("--resume", folder.name)

    def test_a_run_that_is_none(self, made: Made) -> None:
        made.add("10_a", "1")
        assert "no pipeline run" in made.refused("--resume", "20260102-030405-abcdef")
        assert not made.runs.exists()
        assert "not a run id" in made.refused("--resume", "../x")


class TestChoosing:
    def test_only_and_from(self, made: Made) -> None:
        for name, needs in (("10_a", ""), ("20_b", "10_a"), ("30_c", "20_b")):
            made.add(name, "1", needs=needs)
        done = made.run("--only", "c", "--no-html")
        assert done.states == {"10_a": "left out", "20_b": "left out", "30_c": "completed"}
        assert "it ran without 20_b, which it needs" in done.stderr
        assert "it ran without 20_b" in (done.folder / "index.html").read_text()
        # Going on with it runs what was left out, and what rests on that again.
        done = made.run("--resume", done.id, "--no-html")
        assert set(done.states.values()) == {"completed"}
        assert done.of["30_c"]["warnings"] == []
        told = json.loads(made.run("--resume", done.id, "--only", "10_a,20_b", "--dry-run", "--json").stdout)
        assert [each["action"] for each in told["notebooks"]] == ["run", "run", "keep"]
        done = made.run("--resume", done.id, "--only", "20_b", "--no-html")
        assert done.of["30_c"]["attempt"] == 2
        assert "20_b, which it needs, has run again since" in (done.folder / "index.html").read_text()
        done = made.run("--resume", done.id, "--from", "b", "--no-html")
        assert [each["attempt"] for each in done.record["notebooks"]] == [2, 4, 4]

    def test_a_dry_run_runs_nothing(self, made: Made) -> None:
        made.add("10_a", "1", more="    parameters: {word: from the file}\n")
        made.add("20_b", "1", needs="10_a")
        done = made.run("--dry-run", "-p", "20_b.word=given", "--json")
        told = json.loads(done.stdout)
        assert told["levels"] == [["10_a"], ["20_b"]]
        assert [each["parameters"] for each in told["notebooks"]] == [{"word": "from the file"}, {"word": "given"}]
        shown = made.run("--dry-run", "-p", "20_b.word=given").stdout
        assert re.search(r"10_a +word +\"from the file\" +pipeline", shown)
        assert re.search(r"20_b +word +\"given\" +given", shown)
        assert not made.runs.exists()
        listed = json.loads(made.run("--list-parameters", "--json").stdout)
        assert {(each["notebook"], each["name"]) for each in listed} >= {("10_a", "word"), ("20_b", "run_id")}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--only", "nope"], "no notebook 'nope'"),
            (["--from", "nope"], "no notebook 'nope'"),
            (["--only", "a", "--from", "a"], "exclude each other"),
            (["-p", "nope=1"], "no notebook of the pipeline has a parameter"),
            (["-p", "x.word=1"], "no notebook 'x'"),
            (["-p", "a.word=1", "-p", "10_a.word=2"], "given twice"),
            (["-p", "word"], "it is not name=value"),
            (["-p", ".word=1"], "it is not name=value"),
            (["-p", "run_id=../x"], "not a run id"),
            (["-p", "runs_folder=x"], "the same for all"),
            (["--output", "x"], "for one notebook"),
            (["--keep-outputs"], "for one notebook"),
            (["--jobs", "0"], "0 is not in the range"),
            (["10_a.ipynb", "--jobs", "2"], "this is for the pipeline"),
            (["10_a.ipynb", "--resume", "x"], "this is for the pipeline"),
        ],
    )
    def test_what_is_refused_runs_nothing(self, made: Made, options: list[str], said: str) -> None:
        made.add("10_a", "1")
        assert said in made.refused(*options)
        assert not made.runs.exists()

    def test_a_run_id_of_our_own_is_taken_once(self, made: Made) -> None:
        made.add("10_a", "1")
        assert made.run("-p", "run_id=20260102-030405-abcdef", "--no-html").id == "20260102-030405-abcdef"
        assert "has been used" in made.run("-p", "run_id=20260102-030405-abcdef", code=2).stderr


def test_two_processes_on_one_run(made: Made) -> None:
    made.add("10_a", sleeper(made.folder, "a", cleaning=0))
    process = made.start()
    made.until((made.folder / "begun-a").exists, process)
    before = made.kept()
    refused = made.run("--resume", before["id"], code=2)
    assert f"process {process.pid}" in refused.stderr
    assert "stop that process" in refused.stderr
    assert made.kept()["record"] == before["record"]
    process.send_signal(signal.SIGINT)
    made.wait(process, 130)


def test_a_record_that_cannot_be_written_leaves_nothing_running(made: Made) -> None:
    """The run's folder vanishes under it: what runs is interrupted, cleans up, and the command says what happened."""
    gate = made.folder / "gate"
    made.add("10_a", touch(made.folder / "begun-x") + "\n" + wait_for(gate))
    made.add("20_b", sleeper(made.folder, "b"))
    process = made.start("--jobs", "2")
    made.until(lambda: (made.folder / "begun-x").exists() and (made.folder / "begun-b").exists(), process)
    folder = made.kept()["folder"]
    folder.rename(made.folder / "moved")
    gate.touch()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert (made.folder / "clean-b").exists()
    made.until(lambda: not made.left())


def test_on_a_terminal_there_is_a_line_a_notebook(made: Made) -> None:
    gate = made.folder / "gate"  # it runs until that has been shown
    made.add("10_a", wait_for(gate, 120), title="x")
    made.add("20_b", "1/0", needs="10_a")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        made.command(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        cwd=made.folder,
        env={**os.environ, "COLUMNS": "120"},
    )
    made.processes.append(process)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
        if re.search(r"… +10_a +running +[\d.]+ s +cell \d of 3: Part of 10_a", text):
            gate.touch()
    os.close(ours)
    assert process.wait(120) == 1
    assert gate.exists(), text
    assert re.search(r"· +20_b +waiting", text)
    # The last state stays on the screen.
    assert re.search(r"✓ +10_a +completed +[\d.]+ s", text)
    assert re.search(r"✗ +20_b +failed +[\d.]+ s +ZeroDivisionError: division by zero", text)
    assert process.stdout is not None
    assert process.stdout.read().strip().endswith("index.html")
    process.stdout.close()


def test_a_notebook_s_process_starts_quickly_and_still_checks_notebooks() -> None:
    """Without the grammar of internationalised addresses and the clients of S3 and HDFS; with the notebooks' schema."""
    code = (
        "import sys\nfrom leptonami.imports import prepare_papermill\nprepare_papermill()\n"
        "import leptonami.engine, nbconvert.exporters, nbformat\n"
        "assert not {'rfc3987_syntax', 'boto3', 'pyarrow'} & set(sys.modules)\n"
        "try:\n    nbformat.validate({'nbformat': 4, 'nbformat_minor': 5, 'metadata': {}, 'cells': [{}]})\n"
        "except nbformat.ValidationError:\n    print('checked')\n"
        "import boto3, pyarrow.fs"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "checked\n"
