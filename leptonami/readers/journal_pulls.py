"""The image pulls in a node's journal: what containerd and the kubelet say of them.

containerd writes `PullImage "REF"` when it begins, and when it is done either `Pulled image "REF" with image id …, size
"N" in 1.2s` (since 1.7) or `PullImage "REF" returns image reference …` (before). The kubelet's events stand in the
journal too when it logs them: `Successfully pulled image "REF" in 1m2.3s (1m5s including waiting)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leptonami.proof import Proof
from leptonami.readers.gotime import parse_duration

__all__ = ["Pull", "Pulls"]

MOST = 2_000  # pulls that are kept; a node of a busy cluster makes a few hundred a day

REF = r'\\?"(?P<ref>[^"\\\s]{1,300})\\?"'
TOOK = r"(?P<took>[0-9.hmsnuµμ]{1,32})"
CALL = re.compile(rf"PullImage {REF}(?P<end> returns image reference| failed)?")
PULLED = re.compile(rf'Pulled image {REF} with image id .{{1,1200}}?, size \\?"(?P<size>[0-9]{{1,18}})\\?" in {TOOK}')
EVENT = re.compile(
    rf"Successfully pulled image {REF} in {TOOK}(?: \([^)]{{1,60}} including waiting\))?"
    r"(?:\. Image size: (?P<size>[0-9]{1,18}) bytes)?"
)


@dataclass(frozen=True, slots=True)
class Pull:
    """One image pull.

    Attributes
    ----------
    ref
        The image, as it was asked for.
    start, end
        When it began and ended; None where the journal does not say.
    seconds
        How long it took: by the message itself, else the difference of the two times.
    size
        The image's size in bytes (compressed, as the registry has it), if the message says it.
    by
        Who says so: `containerd` or `kubelet`.
    ok
        Whether it ended well; None if its end is not in the journal.
    boot
        In which boot.
    proof
        The line of its end, or of its beginning.
    """

    ref: str
    start: datetime | None
    end: datetime | None
    seconds: float | None
    size: int | None
    by: str
    ok: bool | None
    boot: int
    proof: Proof

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "ref": self.ref,
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
            "seconds": self.seconds,
            "size": self.size,
            "by": self.by,
            "ok": self.ok,
            "boot": self.boot,
            "proof": self.proof.as_dict(),
        }


class Pulls:
    """Puts the beginnings and ends of pulls together."""

    def __init__(self) -> None:
        self.done: list[Pull] = []
        self.open: dict[tuple[int, str], tuple[datetime | None, Callable[[], Proof]]] = {}

    @property
    def full(self) -> bool:
        """Whether no more pulls are kept."""
        return len(self.done) >= MOST

    def see(self, program: str, message: str, at: datetime | None, boot: int, proof: Callable[[], Proof]) -> None:
        """Look at a message of containerd or the kubelet, with its time and how to make a proof of it."""
        if program == "kubelet":
            self.event(message, at, boot, proof)
            return
        found = PULLED.search(message, 0, 4096)
        if found:
            self.ended(found, at, boot, proof, ok=True, size=int(found["size"]), took=found["took"])
            return
        found = CALL.search(message, 0, 4096)
        if found is None:
            return
        if found["end"]:
            self.ended(found, at, boot, proof, ok=found["end"] != " failed")
        elif len(self.open) < MOST:
            self.open.setdefault((boot, found["ref"]), (at, proof))

    def ended(
        self,
        found: re.Match[str],
        at: datetime | None,
        boot: int,
        proof: Callable[[], Proof],
        *,
        ok: bool,
        size: int | None = None,
        took: str = "",
    ) -> None:
        """Note the end of a pull of containerd's."""
        ref = found["ref"]
        start = self.open.pop((boot, ref), None)
        if start is None and not took:
            # Newer ones write both forms, one right after the other; of an older one the beginning is missing.
            if ok and any(each.ref == ref and each.boot == boot and each.ok for each in self.done[-20:]):
                return
            self.done.append(Pull(ref, None, at, None, size, "containerd", ok, boot, proof()))
            return
        duration = parse_duration(took) if took else None
        begun = start[0] if start else None
        if begun is None and duration is not None and at is not None:
            try:
                begun = at - duration
            except OverflowError:
                begun = None
        seconds = duration.total_seconds() if duration is not None else None
        if seconds is None and begun is not None and at is not None:
            seconds = (at - begun).total_seconds()
        self.done.append(Pull(ref, begun, at, seconds, size, "containerd", ok, boot, proof()))

    def event(self, message: str, at: datetime | None, boot: int, proof: Callable[[], Proof]) -> None:
        """Note a pull of which the kubelet tells, unless containerd told of it before."""
        found = EVENT.search(message, 0, 4096)
        if found is None or any(each.ref == found["ref"] and each.boot == boot for each in self.done[-200:]):
            return
        duration = parse_duration(found["took"])
        try:
            begun = at - duration if at is not None and duration is not None else None
        except OverflowError:
            begun = None
        seconds = duration.total_seconds() if duration is not None else None
        size = int(found["size"]) if found["size"] else None
        self.done.append(Pull(found["ref"], begun, at, seconds, size, "kubelet", True, boot, proof()))

    def all(self) -> tuple[Pull, ...]:
        """Give all pulls: those that ended, then those whose end is not in the journal."""
        never = [
            Pull(ref, at, None, None, None, "containerd", None, boot, proof())
            for (boot, ref), (at, proof) in self.open.items()
        ]
        return (*self.done, *never)
