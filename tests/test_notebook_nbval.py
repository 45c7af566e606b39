"""nbval, strict, on kept outputs: what has to be done for a live display, and what the sanitising hides."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sample_notebooks as notebooks
from hypothesis import given
from hypothesis import strategies as st

from leptonami.errors import InputError
from leptonami.notebook import execute, keep_outputs

CONFIG = Path(__file__).parent / "nbval_sanitize.cfg"
PATTERNS = re.findall(r"^regex: (.*)$\n^replace: (.*)$", CONFIG.read_text(), re.MULTILINE)  # as nbval reads it

pytestmark = pytest.mark.timeout(300)

LIVE = """
p = {make}
for title in ('launch', 'provision'):
    p.begin(title)
    p.update('waiting', 0.5)
    p.line('a line of output')
    p.end('done')
p.close()
"""


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "--nbval", "--nbval-current-env", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(path.parent)]
    command += ["--nbval-sanitize-with", str(CONFIG), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Path]:
    """Make a notebook with its outputs kept."""

    def make(*cells: Any) -> Path:
        source = notebooks.write(tmp_path / "10_some.ipynb", notebooks.text("# T"), *cells)
        outcome = execute(source, tmp_path / "out" / "10_some.ipynb")
        assert outcome.error is None
        keep_outputs(outcome.output, source)
        return source

    return make


def test_the_live_display_is_stable(kept: Callable[..., Path]) -> None:
    path = kept("from leptonami import notebook", LIVE.format(make="notebook.progress()"))
    live, last = notebooks.read(path).cells[2].outputs
    assert live.data["text/html"] == '<ol class="leptonami-stages"></ol>'
    assert "✓ provision" in last.data["text/html"]
    done = nbval(path)
    assert done.returncode == 0, done.stdout


def test_a_different_last_state_is_found(kept: Callable[..., Path]) -> None:
    path = kept("from leptonami import notebook", LIVE.format(make="notebook.progress()"))
    path.write_text(path.read_text().replace("✓ provision", "✗ provision"))
    done = nbval(path)
    assert done.returncode == 1
    assert "provision" in done.stdout


def test_why_a_display_updated_in_place_would_not_do(kept: Callable[..., Path]) -> None:
    """If nbval learns about updates, `NotebookProgress` need not end as it began: this test then fails."""
    path = kept(
        "from IPython.display import HTML, display",
        "handle = display(HTML('first'), display_id=True)\nhandle.update(HTML('last'))",
    )
    assert nbval(path).returncode == 1


def test_everything_of_ours_is_stable(kept: Callable[..., Path]) -> None:
    # The first process that draws looks for fonts, and says so after five seconds: not in the notebook.
    importlib.import_module("matplotlib.font_manager")
    path = kept(
        "import pandas as pd, secrets, time\n"
        "from matplotlib import pyplot as plt\n"
        "from leptonami import figures, notebook, runs\n"
        "figures.style()",
        "run = runs.new_id()\nnotebook.provenance('simulated', run=run)",
        "pd.DataFrame({'id': ['ami-' + secrets.token_hex(8)], 'took': [f'{time.time() % 100:.1f} s'], 'run': [run]})",
        "fig, axes = plt.subplots()\naxes.plot([1, 2])\n"
        "figures.show(fig, alt=f'The build took {time.time() % 100:.1f} s', caption='One run.')",
        "print(time.strftime('%Y-%m-%dT%H:%M:%SZ'), object())",
    )
    assert "run" not in notebooks.read(path).cells[2].outputs[0].metadata.leptonami
    done = nbval(path)
    assert done.returncode == 0, done.stdout


def test_only_outputs_change(kept: Callable[..., Path], tmp_path: Path) -> None:
    path = kept(notebooks.code("a: int = 1", "parameters"), "a + 1")
    notebook = notebooks.read(path)
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2]
    assert notebook.metadata == {}
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["parameters"]}, {}]


def test_outputs_of_something_else_are_refused(tmp_path: Path) -> None:
    source = notebooks.write(tmp_path / "a.ipynb", notebooks.code("a: int = 1", "parameters"), "a")
    outcome = execute(source, tmp_path / "o.ipynb", {"a": 2})
    with pytest.raises(InputError, match="not those of the source"):
        keep_outputs(outcome.output, source)
    notebooks.write(source, "1/0")
    outcome = execute(source, tmp_path / "o.ipynb")
    with pytest.raises(InputError, match="did not complete"):
        keep_outputs(outcome.output, source)


def sanitize(text: str) -> str:
    for regex, replacement in PATTERNS:
        text = re.sub(regex, replacement, text)
    return text


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("ami-0123456789abcdef0", "ami-ID"),
        ("(i-0123456789abcdef0)", "(i-ID)"),
        ("snap-01234567", "snap-ID"),
        ("subnet-0123456789abcdef0,sg-0123456789abcdef0", "subnet-ID,sg-ID"),
        ("20261123-211500-a1b2c3", "RUN-ID"),
        ("leptonami-gpu-20261123-20261123-211500-a1b2c3", "leptonami-gpu-DATE-RUN-ID"),
        ("2026-11-23T21:15:00Z", "MOMENT"),
        ("2026-11-23T21:15:00.123+00:00", "MOMENT"),
        ("2026-11-23 21:15:00 UTC", "MOMENT"),
        ("took 12.3 s", "took DURATION"),
        ("took 3 min 12 s", "took DURATION"),
        ("in 1 h 5 min", "in DURATION"),
        ("412 ms", "DURATION"),
        ("6b1b36cb-9c8c-4b1c-9d7b-2a9a2f6a0c11", "UUID"),
        ("<object at 0x7f4aaa9926d0>", "<object at ADDRESS>"),
        ("a      b", "a b"),
        ("12.3 s |", "DURATION |"),
        ("   9.1 s |", " DURATION |"),
    ],
)
def test_what_is_hidden(text: str, result: str) -> None:
    assert sanitize(text) == result.replace(" ", "_")


@pytest.mark.parametrize(
    "text",
    [
        "1.33",
        "Kubernetes 1.30",
        "535.183.01-0ubuntu1",
        "5.15.0-1083-aws",
        "g4dn.xlarge",
        "us-west-2a",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "24 claims",
        "2 of 3 spots",
        "ubuntu/images/22.04",
        "099720109477",
        "end of life 2027-04-01",
        "60 GiB, 3000 IOPS, 125 MiB/s",
        "v1.17.8",
        "10 snaps",
        "exit status 3",
    ],
)
def test_what_must_not_be_hidden(text: str) -> None:
    assert sanitize(text) == text.replace(" ", "_")


@given(st.text())
def test_sanitising_twice_changes_nothing(text: str) -> None:
    assert sanitize(sanitize(text)) == sanitize(text)
