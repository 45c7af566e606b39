"""What a statement rests on: the line of a log, or the object of a cluster, word for word.

No reader and no verdict says anything without one of these. The text is untrusted: it is a log line or comes from a
cluster, so it is only ever shown as text (`console.print_table`, a DataFrame, an escaped template).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LONGEST", "Proof", "excerpt"]

LONGEST = 400  # characters of a proof's text: enough for any message of the autoscaler, and a bound on what is kept


def excerpt(text: str, limit: int = LONGEST) -> str:
    r"""Cut a text to a length, on one line and without control characters.

    >>> excerpt("a\tb\x1b[31m", 80)
    'a b\ufffd[31m'
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    spaced = "".join(" " if each in "\t\r\n" else each for each in cut)
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in spaced)


@dataclass(frozen=True, slots=True)
class Proof:
    """The line or the object that proves something.

    Parameters
    ----------
    source
        The file as it was named (`-` for standard input), or the context of a cluster.
    place
        Where in it: `line 17`, `pod gpu-operator/nvidia-cuda-validator-9zr76`, `node ip-10-0-2-185.ec2.internal`.
    text
        What stands there, cut to `LONGEST` characters.
    """

    source: str
    place: str
    text: str

    @classmethod
    def of(cls, source: str, place: str, text: str) -> Proof:
        """Make one from a text of any length and kind."""
        return cls(source, excerpt(place, 200), excerpt(text))

    def __str__(self) -> str:
        return f"{self.source}, {self.place}: {self.text}"

    def as_dict(self) -> dict[str, str]:
        """Give it as plain data, for `--json`."""
        return {"source": self.source, "place": self.place, "text": self.text}
