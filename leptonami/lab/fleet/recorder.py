"""Events as client-go's recorder makes them: one that repeats is counted, and one object cannot flood the cluster.

https://github.com/kubernetes/client-go/blob/master/tools/record/events_cache.go: an LRU of 4,096 events, and a bucket
of 25 events per source and object that fills again by one every 300 s.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

__all__ = ["SIMULATED", "Recorder", "mark"]

SIMULATED = "lab.leptonami.dev/simulated"  # the annotation on what the fleet makes
REPORTER = "lab.leptonami.dev"
KEPT = 4096
BURST = 25
REFILL_S = 300.0


def mark(obj: dict[str, Any]) -> dict[str, Any]:
    """Give the part of a patch that says of an object that its status is simulated; {} if it says so.

    The core group's kinds, and those of apps, batch and policy, take it with a patch of the status.
    """
    held = obj["metadata"].get("annotations") or {}
    return {} if SIMULATED in held else {"metadata": {"annotations": {SIMULATED: "true"}}}


class Recorder:
    """Makes the requests of events."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, ...], tuple[str, int]] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()
        self._number = itertools.count(time.time_ns())

    def record(
        self,
        obj: dict[str, Any],
        type: str,
        reason: str,
        message: str,
        *,
        component: str,
        host: str = "",
        field_path: str = "",
    ) -> tuple[str, str, str, dict[str, Any]] | None:
        """Give verb, namespace, name and body of the request; None where client-go would drop the event."""
        about = obj["metadata"]
        # A kubelet names a node by its name where others have the uid.
        uid = about.get("uid") or about["name"]
        namespace = about.get("namespace") or "default"
        if not self._allowed((component, host, uid)):
            return None
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = (component, host, uid, field_path, type, reason, message)
        if key in self._seen:
            self._seen.move_to_end(key)
            name, count = self._seen[key]
            self._seen[key] = name, count + 1
            return "patch", namespace, name, {"count": count + 1, "lastTimestamp": now}
        name = f"{about['name']}.{next(self._number):x}"
        self._seen[key] = name, 1
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        involved = {
            "kind": obj.get("kind"),
            "apiVersion": obj.get("apiVersion"),
            "name": about["name"],
            "uid": uid,
            "namespace": about.get("namespace"),
            "resourceVersion": about.get("resourceVersion"),
            "fieldPath": field_path,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace, "annotations": {SIMULATED: "true"}},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": type,
            "reason": reason,
            "message": message,
            "source": {"component": component, **({"host": host} if host else {})},
            "reportingComponent": f"{REPORTER}/{component}",
            "reportingInstance": host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        return "create", namespace, name, body

    def _allowed(self, key: tuple[str, ...]) -> bool:
        now = time.monotonic()
        tokens, then = self._buckets.pop(key, (float(BURST), now))
        tokens = min(BURST, tokens + (now - then) / REFILL_S)
        self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens), now
        if len(self._buckets) > KEPT:
            self._buckets.popitem(last=False)
        return tokens >= 1
