"""Keeping a run's results as a recording of the package: the file, and its entry for `data/recorded/index.yaml`."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from leptonami.bench.report import cannot_tell, verdicts
from leptonami.bench.results import KIND, Results, text
from leptonami.errors import InputError

__all__ = ["NAME", "record"]

NAME = "trials.json.gz"
TOOLS = ("containerd", "runc", "systemd", "cloud-init", "kubelet", "python")  # what of a machine are versions


def record(results: Results, folder: Path) -> str:
    """Write the results' file into a folder, and give the entry of the index as YAML.

    Raises
    ------
    InputError
        If the results are simulated or not complete: neither is a recording of what was measured.
    """
    if results.provenance == "simulated":
        raise InputError("simulated results are no recording", resource=f"run {results.run}")
    if not results.complete:
        raise InputError(
            "the run is not complete",
            resource=f"run {results.run}",
            hint=f"go on with: leptonami bench run --resume {results.run}",
        )
    content = text(results)
    packed = gzip.compress(content, mtime=0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(packed)
    return entry(results, folder, packed, content)


def entry(results: Results, folder: Path, packed: bytes, content: bytes) -> str:
    """Write the entry of the index."""
    import yaml

    machine = "; ".join(f"{name}: {value}" for name, value in results.machine.items())
    counts = f"{len(results.trials)} trials, of which {len(results.counted)} count"
    names = [str(each.name) for each in results.experiment.variants]
    # Whoever reads them reads what was recorded, not measured now.
    shown = [each.sentence() for each in verdicts(results.recorded())]
    described = {
        "id": "/".join(folder.parts[-2:]),
        "title": f"Measured launches on the driver {results.driver}: {', '.join(names)}",
        "provenance": "recorded",
        "recorded": min(each.began for each in results.trials)[:10],
        "how": (
            f"Measured by `{results.command}` on the driver {results.driver} (run {results.run}), {counts}; every "
            f"trial is in the file with its marks and its raw times. The machine: {machine}."
        ),
        "versions": {
            **results.versions,
            **{name: str(results.machine[name]) for name in TOOLS if name in results.machine},
            **used(results, "containerd"),
        },
        "shows": shown or ["how long each trial took, by phase"],
        "cannot_show": list(cannot_tell(results)),
        "files": [
            {
                "name": NAME,
                "kind": KIND,
                "bytes": len(packed),
                "sha256": hashlib.sha256(packed).hexdigest(),
                "unpacked": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
            }
        ],
    }
    plain: str = yaml.safe_dump([described], sort_keys=False, allow_unicode=True, width=118)
    return "".join(f"  {line}\n" for line in plain.splitlines())


def used(results: Results, tool: str) -> dict[str, str]:
    """Give the version of a tool that the trials themselves name: that of their nodes, and not of the machine."""
    found = {str(each.conditions[tool]) for each in results.trials if tool in each.conditions}
    return {tool: ", ".join(sorted(found))} if found else {}
