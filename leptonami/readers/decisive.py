"""The part of a long message that says what is wrong.

What a kubelet or a container says begins with what was being done, one wrapper around the other, and ends with the
cause: `failed to create containerd task: … error running hook #0: … version `GLIBC_2.27' not found`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from leptonami.proof import excerpt
from leptonami.readers.issuesearch import find
from leptonami.readers.knownissues import catalogue
from leptonami.readers.patterns import Pattern

__all__ = ["decisive"]

LIMIT = 300  # characters that are shown
LARGEST = 20_000  # characters of a message's end that are looked at; Kubernetes itself keeps 4,096
BEFORE = 80  # characters that are shown before a known symptom
ERROR = re.compile(
    r"error|fail|fatal|panic|denied|refused|cannot|could not|unable|not found|no such|invalid", re.IGNORECASE
)


def decisive(messages: Iterable[str], limit: int = LIMIT) -> str:
    """Choose what says most, on one line and without control characters.

    It is the first line that shows a known issue, from a little before the symptom on; else, of the first message that
    is not empty, the last line that speaks of an error, or its last line. Of a long one its beginning and its end are
    given.

    Parameters
    ----------
    messages
        The most telling one first. Untrusted: anything may stand in them.
    limit
        How many characters to give at most.
    """
    several = [[line for each in one[-LARGEST:].splitlines() if (line := each.strip())] for one in messages]
    for line in (line for lines in several for line in lines):
        if (at := symptom(line)) is not None:
            start = max(0, min(at - BEFORE, len(line) - limit + 1))
            return excerpt(f"{'…' if start else ''}{line[start:]}", limit)
    lines = next((each for each in several if each), [""])
    line = next((each for each in reversed(lines) if ERROR.search(each)), lines[-1])
    if len(line) > limit:
        line = f"{line[: limit // 3]} … {line[limit // 3 + 3 - limit :]}"
    return excerpt(line, limit)


def symptom(line: str) -> int | None:
    """Tell where a known issue shows in a line; None if none does."""
    for pattern in patterns():
        for literal in pattern.literals:
            for _, _, at in find(line, literal, pattern):
                return at
    return None


@lru_cache(maxsize=1)
def patterns() -> tuple[Pattern, ...]:
    """Give the symptoms of which a single line is enough."""
    return tuple(
        each.compiled for issue in catalogue() if issue.need == "any" for each in issue.symptoms if each.at_least == 1
    )
