"""The order of a rotated log's files, from their names.

- kubelet: `0.log.20230624-120000.gz`, `0.log.20230624-130000`, `0.log`; then `1.log`, of the container's next start
- logrotate: `x.log.2.gz`, `x.log.1`, `x.log`; with `dateext` `x.log-20230624.gz`
- lumberjack: `x-2023-06-24T20-42-30.000.log`, `x.log`; klog: `x.host.user.log.INFO.20230624-204230.1`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Place", "in_order", "is_log", "place"]

PACKED = re.compile(r"[.](?:gz|zst|zstd|xz|bz2)$", re.IGNORECASE)
NUMBER = re.compile(r"^(.*[A-Za-z].*)[.]([0-9]{1,5})$")
TIME = re.compile(
    r"[-._]?(?<![0-9])((?:19|20)[0-9]{2})[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12][0-9]|3[01])"
    r"(?:[-T_.]?([01][0-9]|2[0-3])[-:._]?([0-5][0-9])?[-:._]?([0-5][0-9])?(?:[.]([0-9]{3,9}))?)?Z?(?![0-9])"
)
EPOCH = re.compile(r"[-._]([12][0-9]{9})(?![0-9])")
DIGITS = re.compile(r"([0-9]{1,18})")
# What stands beside logs and is none. Unfinished compression leaves `.tmp`.
OTHERS = re.compile(
    r"[.](?:json|ya?ml|md|html?|png|jpe?g|svg|pdf|csv|parquet|py|ipynb|sh|toml|tar|tgz|tbz2?|txz|zip|7z|rpm|deb|so|pem|crt|key"
    r"|journal|jsonl|sha256|sig|tmp|swp|bak|pid|sock|kubeconfig)$|~$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file stands among the files of one log.

    Attributes
    ----------
    series
        The name that all of them share: `0.log`.
    time
        The time in its name as digits that sort, or nothing.
    number
        The number of its rotation: the higher, the older.
    packed
        Whether its name says that it is compressed.
    """

    series: str
    time: str
    number: int | None
    packed: bool

    @property
    def age(self) -> tuple[int, str, int]:
        """A key that sorts oldest first: dated files, numbered ones from the highest, the one that is written to."""
        if self.time:
            return 0, self.time, self.number or 0
        if self.number is not None:
            return 1, "", -self.number
        return 2, "", 0


def place(name: str) -> Place:
    """Tell the place of a file by its name, without its folder.

    >>> place("0.log.20230624-120000.gz")
    Place(series='0.log', time='20230624120000', number=None, packed=True)
    >>> place("x.log.2").age < place("x.log.1").age < place("x.log").age
    True
    """
    bare = PACKED.sub("", name)
    packed = bare != name
    time = ""
    number: int | None = None
    numbered = NUMBER.match(bare)
    if numbered is not None:
        bare, number = numbered[1], int(numbered[2])
    dated = None
    for dated in TIME.finditer(bare):  # noqa: B007 - the last one counts: it is what rotation has added
        pass
    if dated is not None:
        time = "".join(part or "" for part in dated.groups())
        bare = bare[: dated.start()] + bare[dated.end() :]
    elif (since := EPOCH.search(bare)) is not None:
        time = since[1]
        bare = bare[: since.start()] + bare[since.end() :]
    return Place(bare or name, time, number, packed)


def in_order(names: Iterable[str]) -> list[str]:
    """Put the files of a folder in order: log by log, each oldest first.

    A file that is there unpacked and packed (`x.log.2` and `x.log.2.gz`, while it is being compressed) is taken once.

    >>> in_order(["x.log", "x.log.1", "x.log.10.gz", "x.log.2.gz", "x.log.2"])
    ['x.log.10.gz', 'x.log.2', 'x.log.1', 'x.log']
    """
    everything = sorted(set(names))
    present = set(everything)
    once = [name for name in everything if PACKED.sub("", name) == name or PACKED.sub("", name) not in present]
    places = {name: place(name) for name in once}
    return sorted(once, key=lambda name: (natural(places[name].series), *places[name].age, natural(name)))


def is_log(name: str) -> bool:
    """Tell whether a file may be a log, by its name: hidden files and files of other kinds are none.

    >>> [is_log(name) for name in ("0.log", "messages", "nodes.json", ".hidden", "logs.tar.gz", "x.json.1")]
    [True, True, False, False, False, False]
    """
    if name.startswith("."):
        return False
    numbered = NUMBER.match(name)
    bare = PACKED.sub("", numbered[1] if numbered else name)
    return OTHERS.search(name) is None and OTHERS.search(bare) is None


def natural(name: str) -> list[tuple[int, int, str]]:
    """Give a key that sorts numbers in names as numbers: `2.log` before `10.log`."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in DIGITS.split(name) if part]
