"""Pages to look at: those that the project ships, and one with the worst that evidence can hold (synthetic)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat.v4 as v4
import sample_notebooks as notebooks

from leptonami import html
from leptonami.pipeline import index
from leptonami.pipeline.record import NotebookRecord, Record

ROOT = Path(__file__).parent.parent
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
LONG = "gpu-operator-node-feature-discovery-worker-" + "0123456789abcdef" * 14
RIGHT_TO_LEFT = "שלום עולם gpu-node مرحبا بالعالم"
ODD = ["<b>pod</b>", "&amp;", "\x1b[31mred", "a\u202eb", "emoji 👩‍🔬", "漢字" * 20, RIGHT_TO_LEFT, "", "  ", "-", LONG]


def display(metadata: dict[str, Any] | None = None, **kinds: Any) -> Any:
    data = {kind.replace("_", "/"): value for kind, value in kinds.items()}
    return v4.new_output("display_data", data, metadata=metadata or {})


def stream(text: str, name: str = "stdout") -> Any:
    return v4.new_output("stream", name=name, text=text)


def cell(*outputs: Any, source: str = "show()") -> Any:
    return notebooks.code(source, outputs=list(outputs), count=1)


def table(columns: int, rows: int, caption: str) -> str:
    """Make a DataFrame as pandas shows it, with a name in the first column."""
    import pandas as pd

    values = {
        f"metric {n}": [f"{n}.{row}" if n % 3 else ODD[row % len(ODD)] for row in range(rows)]
        for n in range(columns - 1)
    }
    frame = pd.DataFrame({"node": [f"ip-{row}.internal" for row in range(rows)], **values})
    return frame.to_html().replace(">\n", f">\n<caption>{caption}</caption>\n", 1)


def drawn() -> str:
    """Draw a figure as wide as ours are, in base64."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from leptonami import figures

    with rc_context():
        figures.style()
        fig = Figure()
        axes = fig.subplots()
        for number in range(5):
            axes.plot([0, 1, 2], [number, number + 1, number], label=f"variant {number}")
        axes.legend()
        return figures.png(fig)[0]


def extreme(folder: Path) -> Path:
    """Render a notebook of everything that is hard to lay out."""
    lines = "".join(
        f"\x1b[3{n % 8}mline {n}\x1b[0m \x1b[1;9{n % 8}m{RIGHT_TO_LEFT}\x1b[0m {LONG}\n" for n in range(120)
    )
    about = {"leptonami": {"role": "declaration", "provenance": "simulated", "run": "the-run"}}
    picture = {"image/png": {"alt": "Nodes are ready after 74 s", "width": 720, "height": 400}}
    said = {"role": "figure", "caption": "Ten launches. " + LONG, "provenance": "measured"}
    deep = "\n\n".join(f"{'#' * level} Level {level} {RIGHT_TO_LEFT}\n\nWords." for level in range(2, 7))
    cells = [
        notebooks.text(f"# Build {LONG}\n\nWords, `code`, [a link](https://example.org/a?b=c&d) and " + "long" * 60),
        notebooks.code('plan: str = "gpu"', "parameters", count=1),
        notebooks.text(
            "## Tables\n\n```python\nx = 1\n```\n\n> A quote\n\n- one\n  1. two\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        ),
        cell(
            display(about, text_plain="x"),
            display(text_html=table(60, 11, "Sixty columns, and a caption that is longer than a phone is wide")),
            display(text_html=table(4, 400, "Four hundred rows")),
            display(text_html=table(3, 3, LONG)),
            display(text_html="<table><tr><td>no header</td></tr></table>"),
        ),
        notebooks.text("## Figures"),
        cell(
            display({**picture, "leptonami": said}, image_png=drawn()),
            display({"image/png": {"alt": RIGHT_TO_LEFT}}, image_png=PNG),
        ),
        notebooks.text(f"## Words\n\n{deep}\n\n## {RIGHT_TO_LEFT}\n\n###### Too deep"),
        cell(
            stream(lines),
            stream("w" * 3000 + "\n", "stderr"),
            stream("\n".join(ODD)),
            v4.new_output(
                "error", ename="ValueError", evalue=LONG, traceback=[f"\x1b[31mTraceback\x1b[0m {LONG}"] * 30
            ),
            display(text_plain=LONG),
            display(application_json={"a": [LONG, {"b": RIGHT_TO_LEFT}]}),
            display(application_javascript="alert(1)"),
            source="y = 'long' # " + "z" * 300,
        ),
    ]
    source = notebooks.write(
        folder / "extreme.ipynb",
        *cells,
        leptonami={
            "run": "20261123-211500-a1b2c3",
            "outcome": {"status": "failed", "seconds": 3, "cell": 2, "error": {"message": LONG, "hint": "mend it"}},
            "versions": {"python": "3.11.7", "leptonami": LONG},
        },
        papermill={"parameters": {"plan": "gpu", LONG: [LONG, RIGHT_TO_LEFT]}},
    )
    return html.render(source, folder / "extreme.html", strict=False)


def run_index(folder: Path, text: str = "a pod of another node") -> Path:
    """Write the index page of a run with a notebook in each state; `text` is what the notebooks say."""
    states = ("completed", "failed", "skipped", "running", "waiting", "left out", "interrupted")
    entries = [
        NotebookRecord(
            name=f"notebook_{number}",
            title=f"Notebook {number}: {text}",
            purpose=f"Finds out: {text}",
            needs=[f"notebook_{number - 1}"] if number else [],
            state=state,  # type: ignore[arg-type]  # one of the names above
            status=text if state == "failed" else None,
            why=f"it rests on {text}",
            warnings=[f"needs {text}"],
            parameters={"plan": text, "trials": 3},
            started="2026-11-23T21:15:00+00:00",
            seconds=12.5 if state == "completed" else None,
            cell=3 if state == "failed" else None,
            heading=text if state == "failed" else "",
            error={"message": text, "hint": text, "resource": text} if state == "failed" else None,
            provenance="recorded" if state == "completed" else None,
            notebook=f"notebooks/notebook_{number}.ipynb",
            html=f"notebooks/notebook_{number}.html" if state == "completed" else None,
        )
        for number, state in enumerate(states)
    ]
    record = Record(
        run=text,
        state="failed",
        provenance="recorded",
        pipeline=text,
        sha256="abc",
        attempts=2,
        started="2026-11-23T21:15:00+00:00",
        seconds=61,
        versions={"leptonami": text, text: "1"},
        notebooks=entries,
    )
    return index.write(record, folder)


def shipped(folder: Path) -> dict[str, Path]:
    """Give every page that the project ships: the notebooks with their kept outputs, and the decision records."""
    pages = {each.stem: each for each in sorted((ROOT / "docs" / "records").glob("*.html"))}
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[notebook.stem] = html.render(notebook, folder / f"{notebook.stem}.html")
    return pages


def every(folder: Path) -> dict[str, Path]:
    """Give the shipped pages, an index and the extreme page."""
    return {**shipped(folder), "index": run_index(folder / "run"), "extreme": extreme(folder)}
