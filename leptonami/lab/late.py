"""Lists that are late: eventual consistency of what is asked by filter, where the new is not in the answer yet.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html. What a writing call's answer names for the
first time is new, for as many calls as the fault says; whoever asks for it by its id is told of it.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from leptonami.lab.wire import Call

__all__ = ["Late", "by_id"]

IDS = re.compile(rb"\b(?:(?:i|ami|sg|snap|vol|eni)-[0-9a-f]{17}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
BY_ID = re.compile(rb"(?:^|&)(?:InstanceId|ImageId|GroupId|SnapshotId|VolumeId|NetworkInterfaceId)\.1=")
READS = ("Describe", "Get", "List")


def by_id(request: bytes) -> bool:
    """Tell whether a request to EC2 asks for something by its id."""
    return BY_ID.search(request) is not None


class Late:
    """Remembers what is new, and leaves it out of lists."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: set[str] = set()
        self.born: dict[str, int] = {}

    def note(self, call: Call, body: bytes) -> None:
        """Note what an answer names; of a writing call, what nobody has seen before is new."""
        self.count += 1
        names = {each.decode() for each in IDS.findall(body)} - self.seen
        self.seen |= names
        if not call.operation.startswith(READS):
            self.born |= dict.fromkeys(names, self.count)

    def without_new(self, call: Call, request: bytes, body: bytes, calls: int) -> bytes:
        """Give the answer to a list without what is newer than so many calls; any other answer as it is."""
        new = {name for name, born in self.born.items() if self.count - born <= calls}
        if not new or not call.operation.startswith(READS) or call.operation.startswith("Get") or by_id(request):
            return body
        return without_json(body, new) if call.form == "json" else without_xml(body, new)


def without_json(body: bytes, new: set[str]) -> bytes:
    """Take rows out of the lists at the top of a JSON answer."""
    answer: dict[str, Any] = json.loads(body)
    for key, value in answer.items():
        if isinstance(value, list):
            answer[key] = [row for row in value if not mentions(json.dumps(row).encode(), new)]
    return json.dumps(answer).encode()


def without_xml(body: bytes, new: set[str]) -> bytes:
    """Take items out of the lists at the top of an answer of EC2."""
    root = ElementTree.fromstring(body)  # noqa: S314 - our own answer
    if namespace := re.match(r"\{(.*)\}", root.tag):
        ElementTree.register_namespace("", namespace[1])
    for rows in root:
        for row in list(rows):
            if mentions(ElementTree.tostring(row), new):
                rows.remove(row)
    whole: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole


def mentions(row: bytes, new: set[str]) -> bool:
    """Tell whether a row is about something new."""
    return any(each.decode() in new for each in IDS.findall(row))
