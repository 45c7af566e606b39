"""What an explanation leaves in a run: its verdicts, with where they come from and the digests of what was read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leptonami.errors import InputError
from leptonami.explain.autoscaler import Explanation
from leptonami.explain.gpuoperator import StackExplanation
from leptonami.runs import Run, parse_id
from leptonami.tables import Table, facts
from leptonami.target import Provenance

__all__ = ["keep_scale_down", "keep_stack", "open_run"]

SCALE_DOWN, STACK = "scale-down-verdicts", "gpu-stack-verdict"
# Spans and counts of messages can be read from the log again; a decision rests on verdicts.
LEFT_OUT = {"spans", "messages", "unschedulable_pods", "operands"}


def open_run(runs_folder: str | Path, run_id: str) -> Run:
    """Open the run of an id, or make it: several notebooks leave their evidence in one run.

    Raises
    ------
    InputError
        If it is no run id, or the folder cannot be written.
    """
    parse_id(run_id)
    root = Path(runs_folder)
    if (root / run_id / "journal.jsonl").exists():
        return Run.open(root, run_id)
    run = Run.create(root, run_id)
    run.journal.write("begun", by="explain")
    return run


def keep_scale_down(
    run: Run, found: Explanation, others: Mapping[str, Explanation] | None = None, *, name: str = SCALE_DOWN
) -> Table:
    """Keep why each node is, or is not, removed.

    Parameters
    ----------
    run
        The run.
    found
        What it is about.
    others
        What it was compared with, by name; kept in a second file.
    name
        The file's stem.

    Returns
    -------
    Table
        What was kept.
    """
    kept = [write(run, name, SCALE_DOWN, found.provenance, found.name, found.as_dict(), inputs_of(found))]
    if others:
        payload = {"recordings": {key: trimmed(each.as_dict()) for key, each in others.items()}}
        read = [each for other in others.values() for each in inputs_of(other)]
        kept.append(write(run, f"{name}-compared", SCALE_DOWN, "recorded", "data/recorded", payload, read))
    return table_of(kept, found.provenance)


def keep_stack(
    run: Run, found: StackExplanation, others: Mapping[str, StackExplanation] | None = None, *, name: str = STACK
) -> Table:
    """Keep how the GPU stack of each node stands. Parameters and result are those of `keep_scale_down`."""
    kept = [write(run, name, STACK, found.provenance, found.name, found.as_dict(), found.inputs)]
    if others:
        payload = {"recordings": {key: trimmed(each.as_dict()) for key, each in others.items()}}
        read = [(f"{key}/{one[0]}", *one[1:]) for key, other in others.items() for one in other.inputs]
        kept.append(write(run, f"{name}-compared", STACK, "recorded", "data/recorded", payload, read))
    return table_of(kept, found.provenance)


def write(  # noqa: PLR0917 - the parts of one document, each once
    run: Run,
    name: str,
    kind: str,
    provenance: Provenance,
    source: str,
    payload: dict[str, Any],
    inputs: Iterable[tuple[str, str, int]],
) -> tuple[str, str, str]:
    """Write a file of evidence; its digest is that of the list of what was read, as `sha256sum` writes it."""
    read = list(inputs)
    listing = "".join(f"{digest}  {each}\n" for each, digest, _ in read)
    document = {
        **trimmed(payload),
        "inputs": [{"name": each, "sha256": digest, "bytes": size} for each, digest, size in read],
    }
    path = run.write_evidence(
        name, kind=kind, provenance=provenance, source=source, payload=document, raw=listing.encode()
    )
    digest = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    return f"evidence/{path.name}", kind, str(digest)[:16]


def trimmed(payload: dict[str, Any]) -> dict[str, Any]:
    """Leave out what can be read again."""
    return {key: value for key, value in payload.items() if key not in LEFT_OUT}


def inputs_of(found: Explanation) -> list[tuple[str, str, int]]:
    """Give what an explanation was made of: the name, the SHA-256 and the length of each file as it stands there.

    Raises
    ------
    InputError
        If a file is gone.
    """
    if found.inputs:
        return list(found.inputs)
    read = []
    for each in found.read:
        path = Path(each)
        if each == "-" or not path.is_file():
            continue
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"it cannot be read any more: {error.strerror}", resource=each) from error
        name = f"{found.recording.id}/{path.name}" if found.recording else each
        read.append((name, digest, path.stat().st_size))
    return read


def table_of(kept: Iterable[tuple[str, str, str]], provenance: Provenance) -> Table:
    """Show what was kept."""
    rows = [(name, f"{kind}, inputs {digest}") for name, kind, digest in kept]
    caption = "Kept in the run's folder; the digest is that of the list of inputs in evidence/raw"
    return facts(rows, caption=caption, columns=("file", "kind"), provenance=provenance)
