"""The fields of a structured klog message: `"msg" key="value" key2=123 key3={"a":1} err="..."`.

klog writes text quoted as Go quotes it, text of several lines as `key=<`, the lines with a tab before each, ` >`,
lists and structures as JSON (older versions: as Go's `%+v`), and everything else plainly. A key has no quotes.
Source: klog's text format (k8s.io/klog/v2, internal/serialize).
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["structured", "unquote"]

QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
KEY = re.compile(r' ([^\s="]{1,128})=')
# Where a value ends that is neither quoted nor JSON: before the next key. Go prints structures with spaces in them.
NEXT_KEY = re.compile(r" [A-Za-z0-9_./-]{1,128}=")
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER = re.compile(r"[-+]?[0-9]{1,18}[.][0-9]{1,18}(?:e[-+]?[0-9]{1,3})?")
CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "<nil>": None}

MOST_FIELDS = 200  # of one message; what follows stays in the message's text
# A JSON value that does not end is read to the end of the line in vain. Once or twice is a truncated line; a line made
# of such beginnings must not be read as often as it has them.
MOST_FAILURES = 3

DECODER = json.JSONDecoder()


def structured(text: str) -> tuple[str, dict[str, Any]] | None:
    r"""Take a structured message apart; nothing if it is an ordinary one.

    Parameters
    ----------
    text
        What follows the header, all its lines.

    Returns
    -------
    tuple
        The message without its quotes, and the fields in their order. Text is unquoted, numbers are numbers, `nil` is
        None; JSON is what it stands for; what is none of these is its text. A message that was cut off gives the
        fields before the cut, and what there is of the last one.

    >>> structured('"All bound" pod="grafana/grafana-1" count=2 took="1.5s" plugins={"a":[1]}')
    ('All bound', {'pod': 'grafana/grafana-1', 'count': 2, 'took': '1.5s', 'plugins': {'a': [1]}})
    >>> structured('"quoted" but not structured') is None
    True
    """
    match = QUOTED.match(text)
    if match is None:
        return None
    position = match.end()
    if text[position:].strip() and KEY.match(text, position) is None:
        return None
    fields: dict[str, Any] = {}
    failures = 0
    while len(fields) < MOST_FIELDS and (key := KEY.match(text, position)):
        value, position, failed = read_value(text, key.end(), tolerant=failures < MOST_FAILURES)
        failures += failed
        fields[key[1]] = value
    return unquote(match[1]), fields


def read_value(text: str, start: int, *, tolerant: bool) -> tuple[Any, int, bool]:
    """Read the value that begins at a place: the value, where it ends, and whether JSON was tried in vain."""
    failed = False
    first = text[start : start + 1]
    if first == '"':
        quoted = QUOTED.match(text, start)
        if quoted:
            return unquote(quoted[1]), quoted.end(), False
        return unquote(text[start + 1 :]), len(text), False  # cut off before the closing quote
    if text.startswith("<\n", start):
        end = text.find("\n >", start)
        body = text[start + 2 : end if end >= 0 else len(text)]
        lines = [line.removeprefix("\t") for line in body.split("\n")]
        return "\n".join(lines), (end + 3 if end >= 0 else len(text)), False
    if first in {"{", "["} and tolerant:
        try:
            value, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            failed = True
        else:
            if end == len(text) or text[end] in " \n":
                return value, end, False
    following = NEXT_KEY.search(text, start)
    end = following.start() if following else len(text)
    return plain(text[start:end]), end, failed


def plain(word: str) -> Any:
    """Tell what an unquoted value is."""
    word = word.rstrip("\n")
    if word in CONSTANTS:
        return CONSTANTS[word]
    if INTEGER.fullmatch(word):
        return int(word)
    if NUMBER.fullmatch(word):
        return float(word)
    return word


def unquote(body: str) -> str:
    r"""Undo Go's quoting; the quotes themselves are off already.

    A byte that is no UTF-8 (`\xff`) becomes the replacement character; an escape that Go does not know stays as it is.

    >>> unquote(r"a\tb \"c\" é \u00e9")
    'a\tb "c" é é'
    """
    return ESCAPE.sub(unescape, body) if "\\" in body else body


def unescape(match: re.Match[str]) -> str:
    """Give the character of one escape."""
    byte, short, long, octal, simple = match.groups()
    if simple is not None:
        return SIMPLE.get(simple, simple if simple in "\\\"'" else match[0])
    number = int(octal, 8) if octal else int(byte or short or long, 16)
    if (byte or octal) and number >= 0x80:
        return "\N{REPLACEMENT CHARACTER}"
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    return chr(number)
