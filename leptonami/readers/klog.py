"""klog, the log of Kubernetes' components: `parse` takes one line apart, `read` a whole log.

The parts: `klogline` (one line), `klogfields` (its fields), `prefixes` (what stands before it), `drafts` (lines that
belong together), `wrapping` (lines that were broken), `years` (the year, which a line does not have), `records`.
"""

from __future__ import annotations

from leptonami.readers.klogline import HEADER, Parsed, Stamp, parse
from leptonami.readers.records import Record, read

__all__ = ["HEADER", "Parsed", "Record", "Stamp", "parse", "read"]
