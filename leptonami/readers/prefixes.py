r"""What collectors, tools and people put before a line of a log, taken off and told.

Read are, in any order and several of them on one line:

- the container runtime's files: CRI (`2023-06-24T20:42:30.904516Z stderr F msg`) and docker's json-file
  (`{"log":"msg\n","stream":"stderr","time":"..."}`, also with Fluent Bit's `kubernetes` and `_p`);
- JSON of `logcli -o jsonl` (`line`, `timestamp`) and of `journalctl -o json` (`MESSAGE`, `__REALTIME_TIMESTAMP`);
- `kubectl logs --timestamps` and `--prefix` (`[pod/x/container] `);
- journald's short, short-precise, short-iso and short-full, and syslog;
- labels (`{app="x", pod="y"} `) and timestamps as Loki and Grafana write them, `pod container msg` as stern writes it,
  the stream's name of `aws logs tail`;
- colours; comment marks (`# `, `> `, `// `), line numbers (`grep -n`, `cat -n`, with the file's name too), indentation,
  times without a zone, as Grafana shows them.

Some of these look like ordinary text (`17:`, `pod container`): they are only taken off where a line of klog, JSON or
one of the unmistakable ones follows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from leptonami.readers.gotime import RFC3339, parse_rfc3339, rfc3339_of
from leptonami.readers.klogline import Stamp, make_stamp

__all__ = ["Stripped", "begins", "strip"]


@dataclass(frozen=True, slots=True)
class Stripped:
    """A line without what was put before it.

    Attributes
    ----------
    rest
        The line itself.
    at
        When it was collected or written; aware. None if there is no such time or it has no year.
    origin
        Whose line it is, as far as the prefix says: `pod/x/container`, `host/unit`, the labels.
    stream
        `stdout` or `stderr`, if the prefix says.
    partial
        Whether the line goes on in the next line of the same origin and stream.
    stamp
        The time of a prefix without a year (journald's short, syslog), in the zone of the machine.
    mark
        What was taken off that looks like ordinary text: a comment mark, `pod container `. It may stand before further
        lines that are not recognised by themselves.
    kinds
        What was taken off, outermost first.
    """

    rest: bytes
    at: datetime | None = None
    origin: str | None = None
    stream: str | None = None
    partial: bool = False
    stamp: Stamp | None = None
    mark: bytes = b""
    kinds: tuple[str, ...] = ()


HEADER_START = re.compile(rb"[IWEF][01][0-9][0-3][0-9] [0-2][0-9]:[0-5]")
ANSI = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[()][0-9A-B])")
CRI = re.compile(rb" (stdout|stderr) ([PF])(?::[^ ]{0,64})?(?: |$)")
CRI_LINE = re.compile(rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{1,9})Z (stdout|stderr) ([PF]) ")
KUBECTL = re.compile(rb"\[(pod/[^\s\]/]{1,253}/[^\s\]]{1,253})\][ \t]?")
PRIORITY = re.compile(rb"<[0-9]{1,3}>")
# `Jun  4 20:42:30.123456 `
SYSLOG = re.compile(
    rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([ 0-3][0-9]) ([0-2][0-9]):([0-5][0-9]):([0-6][0-9])"
    rb"(?:[.]([0-9]{1,6}))? "
)
# `Sat 2023-06-24 20:42:30 UTC `
FULL = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6})?) "
    rb"([A-Z]{2,5}|[-+][0-9]{2,4}) "
)
# `ip-10-0-2-185 kubelet[1234]: `; the kernel has no process.
UNIT = re.compile(rb"([^\s:\[\]]{1,255}) ([^\s:\[\]]{1,255})(\[[0-9]{1,10}\])?:(?: |$)")
LABEL = re.compile(rb'\s?([A-Za-z_][A-Za-z0-9_]{0,127})="((?:[^"\\]|\\.){0,1024})"(,?)')
NANOSECONDS = re.compile(rb"([0-9]{19})\t")
# Nothing that looks like ordinary text is taken off unless one of these follows.
WORTH = re.compile(
    rb'[IWEF][01][0-9][0-3][0-9] [0-2][0-9]:|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]|\{"|\[pod/|[1-3][0-9] [0-2][0-9]:'
)
WORDS = re.compile(rb"[+]?\s?(?:[A-Za-z0-9][A-Za-z0-9._/-]{0,252}(?:[ \t]{1,8}[|\xe2\x80\xba]{0,3}[ \t]{0,4})){1,3}")
WEAK = re.compile(
    rb"[ \t]{0,16}(?:#{1,3}|>{1,3}|//)[ \t]{0,4}"  # a comment mark
    rb"|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?[ \t]{1,4}"  # a time without a zone
    rb"|[ \t]{0,8}(?![0-9]{4}-[0-9]{2}-[0-9]{2})[0-9]{1,9}(?:[:\t-][ \t]{0,4}|[ \t]{1,4})"  # a line's number
    rb"|[^\s:]{1,250}:[0-9]{1,9}:"  # a file's name and a line's number
    rb"|[ \t]{1,32}"
)
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROUNDS = 8  # prefixes of one line
MOST_LABELS = 64
MOST_PREFIX = 1024  # bytes
LONGEST_JSON = 1 << 20
WRAPPED = re.compile(rb'"(?:log|line|MESSAGE)" ?:')


def begins(rest: bytes) -> bool:
    """Tell whether a line without prefix looks like the first of a record: a klog header, or JSON with a message."""
    return HEADER_START.match(rest) is not None or (rest.startswith(b'{"') and b'"msg":' in rest)


def strip(line: bytes) -> Stripped:
    """Take off what stands before a line, and tell what it was.

    >>> found = strip(b"2023-06-24T20:42:30.904516Z stderr F I0624 20:42:30.904516       1 a.go:1] x")
    >>> found.kinds, found.stream, found.at.isoformat()
    (('cri',), 'stderr', '2023-06-24T20:42:30.904516+00:00')
    >>> strip(b"17: nothing known follows").rest
    b'17: nothing known follows'
    """
    if HEADER_START.match(line):
        return Stripped(line)
    usual = CRI_LINE.match(line)
    if usual is not None:
        quick = container_line(line, usual)
        if quick is not None:
            return quick
    found = Stripped(line)
    if b"\x1b" in line:
        plain = ANSI.sub(b"", line)
        if plain != line:
            found = Stripped(plain, kinds=("colour",))
    weak: Stripped | None = None  # where we stood before what looks like ordinary text
    for _ in range(ROUNDS):
        rest = found.rest
        if not rest or HEADER_START.match(rest):
            return found
        stronger = strong(found)
        if stronger is not None:
            found, weak = stronger, None
            continue
        if rest.startswith(b'{"'):
            return found
        softer = soft(found)
        if softer is None:
            break
        weak = weak or found
        found = softer
    return weak or found


def container_line(line: bytes, match: re.Match[bytes]) -> Stripped | None:
    """Take off what CRI writes, for the usual case that nothing else stands before the line: the same, only faster."""
    rest = line[match.end() :]
    if rest and not HEADER_START.match(rest):
        return None
    try:
        at = datetime.fromisoformat(match[1].decode("ascii") + "+00:00")
    except ValueError:
        return None
    return Stripped(rest, at, None, text_of(match[2]), match[3] == b"P", kinds=("cri",))


def strong(found: Stripped) -> Stripped | None:
    """Take off one unmistakable prefix."""
    rest = found.rest
    first = rest[0]
    if 0x30 <= first <= 0x39:
        return timestamp(found)
    if first == 0x5B:  # [
        match = KUBECTL.match(rest)
        return None if match is None else peel(found, match.end(), "kubectl-prefix", origin=text_of(match[1]))
    if first == 0x7B:  # {
        return container_json(found) if rest.startswith(b'{"') else labels(found)
    if first == 0x3C:  # <
        match = PRIORITY.match(rest)
        if match is not None and SYSLOG.match(rest, match.end()):
            return peel(found, match.end(), "priority")
        return None
    return journal(found)


def timestamp(found: Stripped) -> Stripped | None:
    """Take off a time of RFC 3339, and what belongs to it: CRI's stream and tag, or journald's host and unit."""
    rest = found.rest
    match = RFC3339.match(rest)
    if match is None:
        # Grafana's downloads have nanoseconds since 1970 in the first column.
        number = NANOSECONDS.match(rest)
        at = None if number is None else EPOCH + timedelta(microseconds=int(number[1]) // 1000)
        return None if number is None else peel(found, number.end(), "timestamp", at=at)
    at_or_none = rfc3339_of(match)
    if at_or_none is None:
        return None
    end = match.end()
    cri = CRI.match(rest, end)
    if cri is not None:
        return replace(peel(found, cri.end(), "cri", at=at_or_none), stream=text_of(cri[1]), partial=cri[2] == b"P")
    if rest[end : end + 1] not in {b" ", b"\t", b""}:
        return None
    unit = UNIT.match(rest, end + 1)
    # kubectl writes UTC as Z, journald as an offset: `2023-06-24T20:42:30Z word word: text` is text of a container.
    if unit is not None and (unit[3] or match[8] is None):
        return peel(found, unit.end(), "journal", at=at_or_none, origin=text_of(unit[1] + b"/" + unit[2]))
    return peel(found, end + 1, "timestamp", at=at_or_none)


def journal(found: Stripped) -> Stripped | None:
    """Take off journald's or syslog's time, host and unit."""
    rest = found.rest
    match = SYSLOG.match(rest)
    at: datetime | None = None
    stamp: Stamp | None = None
    if match is not None:
        name, day, hour, minute, second, fraction = match.groups()
        seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
        micros = int(fraction.ljust(6, b"0")) if fraction else 0
        stamp = make_stamp(MONTHS[name], int(day), seconds * 1_000_000 + micros)
        if stamp is None:
            return None
    else:
        match = FULL.match(rest)
        if match is None:
            return None
        if match[3] in {b"UTC", b"GMT"}:
            at = parse_rfc3339(match[1] + b"T" + match[2] + b"Z")
    unit = UNIT.match(rest, match.end())
    if unit is None:
        return None
    peeled = peel(found, unit.end(), "journal", at=at, origin=text_of(unit[1] + b"/" + unit[2]))
    return peeled if stamp is None else replace(peeled, stamp=stamp)


def container_json(found: Stripped) -> Stripped | None:
    """Take a line out of docker's, Fluent Bit's, Loki's or journald's JSON."""
    rest = found.rest
    if len(rest) > LONGEST_JSON or not WRAPPED.search(rest):
        return None
    try:
        data = json.loads(rest.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    log = data.get("log")
    if not isinstance(log, str):
        return message_json(found, data)
    tag = data.get("_p", data.get("logtag"))
    partial = tag == "P" if isinstance(tag, str) else "kubernetes" not in data and not log.endswith("\n")
    time = data.get("time", data.get("@timestamp"))
    stream = data.get("stream")
    line = log.encode("utf-8", "replace").removesuffix(b"\n").removesuffix(b"\r")
    peeled = replace(found, rest=line, partial=partial, kinds=(*found.kinds, "docker"))
    at = parse_rfc3339(time) if isinstance(time, str) and len(time) < 64 else None
    return replace(
        peeled,
        at=at or found.at,
        stream=stream if stream in {"stdout", "stderr"} else found.stream,
        origin=found.origin or pod_of(data.get("kubernetes")),
    )


def message_json(found: Stripped, data: dict[str, Any]) -> Stripped | None:
    """Take a line out of what `logcli -o jsonl` or `journalctl -o json` print, whose lines are whole."""
    for key, written, kind in (("line", "timestamp", "loki"), ("MESSAGE", "__REALTIME_TIMESTAMP", "journal")):
        line, time = data.get(key), data.get(written)
        if not isinstance(line, str) or not isinstance(time, str) or len(time) >= 64:
            continue
        at = parse_rfc3339(time)
        if at is None and time.isascii() and time.isdecimal() and len(time) < 18:
            at = EPOCH + timedelta(microseconds=int(time))
        rest = line.encode("utf-8", "replace").removesuffix(b"\n")
        return replace(found, rest=rest, kinds=(*found.kinds, kind), at=at or found.at)
    return None


def pod_of(value: Any) -> str | None:
    """Name the pod of Fluent Bit's metadata."""
    if not isinstance(value, dict):
        return None
    return named(value.get("pod_name"), value.get("container_name"))


def named(pod: object, container: object) -> str | None:
    """Name a container as `kubectl logs --prefix` does."""
    if not isinstance(pod, str) or not pod:
        return None
    where = f"pod/{pod[:253]}"
    return f"{where}/{container[:253]}" if isinstance(container, str) and container else where


def labels(found: Stripped) -> Stripped | None:
    """Take off a set of labels, as Loki writes them."""
    rest = found.rest
    position = 1
    values: dict[bytes, bytes] = {}
    for _ in range(MOST_LABELS):
        match = LABEL.match(rest, position)
        if match is None:
            break
        values[match[1]] = match[2]
        position = match.end()
    if rest[position : position + 1] != b"}" or rest[position + 1 : position + 2] not in {b" ", b"\t"}:
        return None
    end = position + 2
    while rest[end : end + 1] in {b" ", b"\t"} and end < position + 10:
        end += 1
    pod = next((values[key] for key in (b"pod", b"pod_name", b"kubernetes_pod_name") if key in values), None)
    container = next((values[key] for key in (b"container", b"container_name") if key in values), None)
    origin = named(text_of(pod), text_of(container)) if pod else text_of(rest[: position + 1]) if values else None
    return peel(found, end, "labels", origin=origin)


def soft(found: Stripped) -> Stripped | None:
    """Take off one prefix that looks like ordinary text."""
    rest = found.rest
    if WORTH.search(rest, 0, MOST_PREFIX) is None:
        return None
    match = WEAK.match(rest)
    if match is not None and match.end():
        return replace(peel(found, match.end(), "mark"), mark=found.mark + match[0])
    words = WORDS.match(rest)
    if words is None:
        return None
    # `{1,3}` words are taken, and one of them may already be the time that stands after two.
    for end in ends_of_words(rest, words.end()):
        following = rest[end : end + 64]
        if HEADER_START.match(following) or RFC3339.match(following) or following.startswith(b'{"'):
            names = re.split(rb"[ \t|\xe2\x80\xba+]+", rest[:end].strip(b" \t|+\xe2\x80\xba"))
            origin = text_of(b"/".join(names))
            return replace(peel(found, end, "words", origin=origin), mark=found.mark + rest[:end])
    return None


def ends_of_words(rest: bytes, limit: int) -> list[int]:
    """Give where the words of the beginning end, with the space after them."""
    gaps = re.finditer(rb"[ \t]{1,8}(?:[|]|\xe2\x80\xba)?[ \t]{0,4}", rest[:limit])
    return [gap.end() for gap in gaps]


def peel(found: Stripped, end: int, kind: str, *, at: datetime | None = None, origin: str | None = None) -> Stripped:
    """Take off the bytes before a place. Of several times the innermost counts, of several origins the outermost."""
    return replace(
        found,
        rest=found.rest[end:],
        at=at or found.at,
        origin=found.origin or origin,
        kinds=(*found.kinds, kind),
    )


def text_of(value: bytes | None) -> str:
    """Give the text of bytes, bounded."""
    return (value or b"")[:1024].decode("utf-8", "replace")
