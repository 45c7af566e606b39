"""Which recording of this package a file or folder is, and how its provenance is told."""

from __future__ import annotations

from pathlib import Path

from leptonami.recordings import Recording, recordings
from leptonami.target import Provenance

__all__ = ["provenance_words", "recorded"]


def recorded(where: str) -> Recording | None:
    """Find the recording that a file or folder is; None if it is none of this package's."""
    if where == "-":
        return None
    place = Path(where).resolve()
    for each in recordings():
        folder = each.files[0].path.resolve().parent
        if place == folder or (place.parent == folder and place.name in {file.name for file in each.files}):
            return each
    return None


def provenance_words(provenance: Provenance, recording: Recording | None) -> str:
    """Say where something comes from, and what it cannot show."""
    if recording is not None:
        cannot = "; ".join(recording.cannot_show)
        return f"Provenance: {provenance} on {recording.recorded} ({recording.id}). It cannot show {cannot}."
    words: dict[Provenance, str] = {
        "recorded": "recorded: read from files",
        "measured": "measured: read from the live cluster",
        "simulated": "simulated: the cluster is on this machine",
    }
    return f"Provenance: {words[provenance]}."
