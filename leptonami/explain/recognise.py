"""What a piece of evidence is, by its first bytes: so that a wrong file is told to go where it is wanted."""

from __future__ import annotations

import re
from enum import StrEnum

from leptonami.readers import journal_formats
from leptonami.readers.autoscaler.catalogue import Kind
from leptonami.readers.autoscaler.scan import digest
from leptonami.readers.autoscaler.status import read_status
from leptonami.readers.describe import looks_like_describe
from leptonami.readers.deviceplugin import looks_like_device_plugin_log
from leptonami.readers.kubectl import looks_like_table
from leptonami.readers.lines import batches
from leptonami.readers.objects import looks_like_objects

__all__ = ["HEAD", "What", "command_for", "recognise"]

HEAD = 1 << 16  # bytes that are looked at
LINES = 200  # lines of it that are tried as a journal's
ABOUT_OBJECTS = re.compile(r"\"?(?:apiVersion|kind|items|metadata)\"?\s{0,9}:")
METRICS = re.compile(r"^(?:# (?:HELP|TYPE) )?cluster_autoscaler_\w{1,80}[ {]", re.MULTILINE)
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x7f]")


class What(StrEnum):
    """A kind of evidence, in the words in which it is told."""

    AUTOSCALER_LOG = "the log of an autoscaler"
    AUTOSCALER_STATUS = "the status of an autoscaler"
    AUTOSCALER_METRICS = "the metrics of an autoscaler"
    DEVICE_PLUGIN_LOG = "the log of a device plugin"
    OBJECTS = "Kubernetes objects"
    LISTING = "a listing of kubectl"
    JOURNAL = "the journal of a node"
    KLOG = "the log of another Kubernetes component"
    TEXT = "some other text"
    BINARY = "no text"
    NOTHING = "nothing"


COMMANDS = {
    What.AUTOSCALER_LOG: "autoscaler",
    What.AUTOSCALER_STATUS: "autoscaler",
    What.AUTOSCALER_METRICS: "autoscaler",
    What.DEVICE_PLUGIN_LOG: "gpu-operator",
    What.LISTING: "gpu-operator",
    What.OBJECTS: "gpu-operator",
    What.JOURNAL: "node-journal",
}


def command_for(what: What, name: str) -> str | None:
    """Give the command that reads such evidence, to be tried; None if none does."""
    command = COMMANDS.get(what)
    return None if command is None else f"leptonami explain {command} {name}"


def recognise(head: bytes) -> What:  # noqa: PLR0911 - one return a kind, the surest first
    """Tell what something is.

    Parameters
    ----------
    head
        Its first bytes, unpacked; `HEAD` of them are looked at. The last line may be cut off.
    """
    start = head[:HEAD]
    if not start.strip():
        return What.NOTHING
    if len(BINARY.findall(start[:4096])) > 40:
        return What.BINARY
    text = start.decode("utf-8", "replace")
    if (looks_like_objects(text) or looks_like_describe(text)) and ABOUT_OBJECTS.search(text):
        return What.AUTOSCALER_STATUS if is_status(text) else What.OBJECTS
    if is_status(text):
        return What.AUTOSCALER_STATUS
    if METRICS.search(text):
        return What.AUTOSCALER_METRICS
    lines = digest(batches([start]))
    if sum(lines.counts.values()) > lines.counts[Kind.OTHER]:
        return What.AUTOSCALER_LOG
    if looks_like_device_plugin_log(text):
        return What.DEVICE_PLUGIN_LOG
    if looks_like_describe(text):
        return What.OBJECTS
    if looks_like_table(text):
        return What.LISTING
    if lines.first is not None and lines.unread.total <= lines.lines // 2:
        return What.KLOG
    return What.JOURNAL if is_journal(text) else What.TEXT


def is_status(text: str) -> bool:
    """Tell whether a text is the autoscaler's status, whole or its beginning."""
    if "autoscalerStatus:" in text or "Cluster-autoscaler status at" in text:
        return True
    if "Initializing" not in text[:200]:
        return False
    try:
        read_status(text, "")
    except Exception:
        return False
    return True


def is_journal(text: str) -> bool:
    """Tell whether most lines are a journal's."""
    lines = [each for each in text.split("\n")[:LINES] if each.strip()]
    known = sum(journal_formats.decode(each[:4096], number, None) is not None for number, each in enumerate(lines, 1))
    return known * 2 > len(lines)
