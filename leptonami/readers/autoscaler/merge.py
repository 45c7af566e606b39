"""Two parts of a log that were read apart, as if they had been read in one pass: for reading parts side by side.

The later part begins with the first line of a loop, so that no loop is in both. `merge(read(a), read(b))` is what
`read(a + b)` is, but for a node that changed more than `MOST_SPANS` times and for what a bound cuts off.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from leptonami.readers.autoscaler.digest import MOST_PODS, Digest
from leptonami.readers.autoscaler.track import Period, Phase, Seen, Span, Track
from leptonami.readers.leftover import KEEP

__all__ = ["GONE", "merge"]

GONE = frozenset({Phase.TAINTED, Phase.REMOVING, Phase.REMOVED})


def merge(first: Digest, later: Digest) -> Digest:
    """Take the digest of a later part into that of an earlier one, and give that. The later one is used up."""
    shift, loops = first.lines, first.loops
    for name, track in later.tracks.items():
        known = first.tracks.get(name)
        counted = move(track, shift, loops)
        first.tracks[name] = counted if known is None else follow(known, counted)
    for periods, more in ((first.not_ready, later.not_ready), (first.cooldown, later.cooldown)):
        for each in more:
            begin, end = each.begin + loops, each.loop + loops
            if periods and begin - periods[-1].loop <= 1:
                before = periods[-1]
                before.last, before.loop = at(each.last, shift), end
                before.loops += each.loops
            else:
                periods.append(Period(at(each.first, shift), at(each.last, shift), begin, end, each.loops))
    for kind, happened in later.happenings.items():
        moved = [replace(happening, seen=at(happening.seen, shift)) for happening in happened]
        first.happenings.setdefault(kind, deque(maxlen=happened.maxlen)).extend(moved)
    for pod, (seen, count) in later.pods.items():
        if pod in first.pods or len(first.pods) < MOST_PODS:
            first.pods[pod] = (at(seen, shift), first.pods.get(pod, (seen, 0))[1] + count)
    first.counts.update(later.counts)
    for key, places in later.sites.places.items():
        for place in places:
            first.sites.add(key, *place)
    first.unread.kept += [(number + shift, text) for number, text in later.unread.kept[: KEEP - len(first.unread.kept)]]
    first.unread.total += later.unread.total
    first.flags = {**first.flags, **later.flags}
    first.stated_version = later.stated_version or first.stated_version
    first.gpu_wanted = first.gpu_wanted or (at(later.gpu_wanted, shift) if later.gpu_wanted else None)
    first.first = first.first or (at(later.first, shift) if later.first else None)
    first.last = at(later.last, shift) if later.last else first.last
    first.times.join(later.times, shift)
    first.forgotten += later.forgotten
    first.lines += later.lines
    first.loops += later.loops
    return first


def at(seen: Seen, shift: int) -> Seen:
    """Count a line from the beginning of the earlier part."""
    return Seen(seen.number + shift, seen.line)


def maybe(seen: Seen | None, shift: int) -> Seen | None:
    """Count a line that may not be there."""
    return None if seen is None else at(seen, shift)


def move(track: Track, shift: int, loops: int) -> Track:
    """Count the lines and loops of a node's track from the beginning of the earlier part."""
    for span in track.spans:
        span.first, span.last = at(span.first, shift), at(span.last, shift)
    track.number += shift if track.line else 0
    track.since_number += shift if track.since_line else 0
    track.waited_number += shift if track.waited_line else 0
    for name in ("removal", "failed", "judged", "override_first", "override_last", "unready"):
        setattr(track, name, maybe(getattr(track, name), shift))
    if track.override_first is not None:
        track.override_began += loops
        track.override_loop += loops
    return track


def follow(track: Track, later: Track) -> Track:
    """Let a node's later track follow its earlier one."""
    track.changes += later.changes
    for index, span in enumerate(later.spans):
        if index == 0 and track.status is not None and repeats(track, span, deleting=later.deleting_first):
            track.changes -= 1
            # A GPU that is not ready says nothing of a node that something was decided about.
            if span.status.phase is not Phase.GPU_NOT_READY or track.status.phase is Phase.GPU_NOT_READY:
                extend(track, span)
        elif index <= 1 and track.status == span.status:
            track.changes -= 1
            extend(track, span)
        else:
            track.spans.append(span)
            track.status = span.status
            track.number, track.line = span.last.number, span.last.line
    if track.status is None:
        track.deleting_first = later.deleting_first
    if later.since_line:
        track.since, track.since_number, track.since_line = later.since, later.since_number, later.since_line
    if later.waited_line:
        track.waited_number, track.waited_line = later.waited_number, later.waited_line
    if later.removal is not None:
        track.removal, track.failed = later.removal, later.failed
    elif later.failed is not None:
        track.failed = later.failed
    track.removals += later.removals
    track.judged = later.judged or track.judged
    track.unready = later.unready or track.unready
    if later.override_first is not None:
        if track.override_first is None or later.override_began - track.override_loop > 1:
            track.override_first, track.override_began = later.override_first, later.override_began
        track.override_last, track.override_loop = later.override_last, later.override_loop
    return track


def repeats(track: Track, span: Span, *, deleting: bool) -> bool:
    """Tell whether the later part's first status would not have changed the earlier part's last."""
    status = track.status
    if status is None:
        return False
    if span.status.phase is Phase.GPU_NOT_READY:
        return True
    return status == span.status or (deleting and status.phase in GONE)


def extend(track: Track, span: Span) -> None:
    """Let the last status go on to the end of a span."""
    track.number, track.line = span.last.number, span.last.line
    if track.spans:
        track.spans[-1].last = span.last
