"""Where the time of a group of launches goes: medians of the spans that all have, and what these are parts of."""

from __future__ import annotations

import itertools
from statistics import median
from typing import TYPE_CHECKING

from leptonami.bench.marks import MARKS
from leptonami.bench.results import overhead

if TYPE_CHECKING:
    from leptonami.bench.groups import Group

__all__ = ["because", "first_read", "line", "part", "parts", "split"]

NODE = frozenset({"containerd", "kubelet", "registered", "ready", "gpu-allocatable"})


def split(group: Group) -> list[tuple[str, str, float, float]]:
    """Say where a group's time went: the waterfall's spans that every trial has, in their order.

    Returns
    -------
    list
        For each span the marks that it is between, its median length and its median begin (s from the first mark).
        Medians of parts do not add up to the median of the whole; they nearly do where nothing is odd.
    """
    if not group.trials:
        return []
    paths = [each.timeline.waterfall() for each in group.trials]
    shared = set.intersection(*({mark for span in path for mark in (span.begin.name, span.end.name)} for path in paths))
    lines = [each.timeline for each in group.trials]
    starts = [line.time(path[0].begin) if path else 0.0 for line, path in zip(lines, paths, strict=True)]
    at = {
        name: median(
            line.time(mark) - start
            for line, start in zip(lines, starts, strict=True)
            if (mark := line.best(name)) is not None
        )
        for name in shared
    }
    order = sorted(shared, key=lambda name: (at[name], list(MARKS).index(name)))
    return [
        (one, other, length, at[one])
        for one, other in itertools.pairwise(order)
        if (length := median_span(group, one, other)) is not None
    ]


def median_span(group: Group, begin: str, end: str) -> float | None:
    """Give the median of the time between two marks."""
    spans = [span.seconds for each in group.trials if (span := each.timeline.span(begin, end)) is not None]
    return median(spans) if spans else None


def part(begin: str, end: str, *, content: bool = False) -> str:
    """Tell which part of a launch a span is.

    `content` says that the layers were on the disk, not unpacked. CRI 1.6 shows such an image as present and unpacks it
    when a container is created; newer ones pull it again, and find all of it there.
    """
    if end in {"pending", "running"}:
        return "instance or disk"
    if end in NODE:
        return "node"
    if end == "fetched":
        return "wire"
    if end == "pulled" and begin in {"fetched", "pulling"}:
        return "unpack" if begin == "fetched" or content else "pull"
    if content and end == "container-created":
        return "unpack"
    return "start" if end == "first-output" else "pod"


def parts(group: Group) -> dict[str, float]:
    """Add up a group's launch by part, in the order in which they come (s)."""
    content = group.results.experiment.variant(group.variant).prefetch == "content"
    found: dict[str, float] = {}
    for begin, end, length, _ in split(group):
        name = part(begin, end, content=content)
        found[name] = found.get(name, 0.0) + length
    return found


def first_read(group: Group) -> tuple[float, float | None, float | None] | None:
    """Give the median seconds, MiB and MiB/s of a group's first reads; None if it has none."""
    times = group.seconds("first-read")
    if not times:
        return None
    sizes = [size for each in group.trials if isinstance(size := each.conditions.get("first read MiB"), int | float)]
    seconds, mib = median(times), float(median(sizes)) if sizes else None
    return seconds, mib, mib / seconds if mib and seconds > 0 else None


def line(group: Group) -> str:
    """Say in a line where a group's time went, and what came beside it: the first read, and the harness."""
    if not group.trials:
        return f"{group.variant}: no trial that counts"
    told = [", ".join(f"{name} {length:.2f} s" for name, length in parts(group).items())]
    if read := first_read(group):
        seconds, mib, rate = read
        told.append(f"first read {seconds:.2f} s" + (f" ({mib:.0f} MiB, {rate:.0f} MiB/s)" if mib and rate else ""))
    told.append(f"harness {median(map(overhead, group.trials)):.2f} s")
    return f"{group.variant}: {'; '.join(told)}"


def because(baseline: Group, candidate: Group, difference: float) -> str:
    """Say which parts make a difference between two groups: those of at least a tenth of it. Empty if none does."""
    one, other = parts(baseline), parts(candidate)
    changes = {name: other.get(name, 0.0) - one.get(name, 0.0) for name in {**one, **other}}
    told = [
        f"{name} {change:+.2f} s" for name, change in changes.items() if abs(change) >= max(0.01, abs(difference) / 10)
    ]
    return ", ".join(told)
