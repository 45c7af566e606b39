"""Where a pod may go because of the pods that are there: required pod affinity and anti-affinity.

Counted per topology domain and kept up to date as pods come and go, so that a question costs as much as its terms.
Left out: topology spread and preferred pod (anti-)affinity. A `namespaceSelector` sees of a namespace only its label
`kubernetes.io/metadata.name`; `matchLabelKeys` are the API server's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from leptonami.lab.fleet.fitting import Demand, Refusal, Room
from leptonami.lab.fleet.matching import selects

__all__ = ["Neighbours"]

Object = dict[str, Any]


def _required(spec: Mapping[str, Any], kind: str) -> list[Object]:
    found = (spec.get("affinity") or {}).get(kind) or {}
    return list(found.get("requiredDuringSchedulingIgnoredDuringExecution") or ())


def _sees(term: Mapping[str, Any], home: str, pod: Mapping[str, Any]) -> bool:
    """Tell whether a term of a pod in the namespace `home` looks at a pod."""
    about = pod["metadata"]
    namespace, names, selector = about.get("namespace", ""), term.get("namespaces") or (), term.get("namespaceSelector")
    if not names and selector is None:
        there = namespace == home
    else:
        there = namespace in names or selects(selector, {"kubernetes.io/metadata.name": namespace})
    return there and selects(term.get("labelSelector"), about.get("labels") or {})


@dataclass
class _Count:
    """Pods by domain of a term: those that it looks at or, if `had`, those that have it as their anti-affinity."""

    term: Object
    home: str
    had: bool
    domains: Counter[str] = field(default_factory=Counter)

    def add(self, pod: Mapping[str, Any], room: Room | None, sign: int) -> None:
        value = room.labels.get(self.term["topologyKey"]) if room else None
        if value is None:
            return
        if not self.had:
            self.domains[value] += sign * _sees(self.term, self.home, pod)
        elif pod["metadata"].get("namespace", "") == self.home:
            self.domains[value] += sign * _required(pod["spec"], "podAntiAffinity").count(self.term)


@dataclass
class Neighbours:
    """The pods that have a node, counted by whoever asks about them."""

    rooms: Mapping[str, Room]
    placed: dict[str, tuple[Mapping[str, Any], str]] = field(default_factory=dict)
    _counts: dict[bytes, _Count] = field(default_factory=dict)
    _guards: dict[bytes, tuple[Object, str, int]] = field(default_factory=dict)

    def add(self, pod: Mapping[str, Any], node: str) -> None:
        """Note that a pod has a node. Only what is asked about is kept of it."""
        about, spec = pod["metadata"], pod["spec"]
        kept: Object = {
            "metadata": {"namespace": about.get("namespace", ""), "labels": about.get("labels") or {}},
            "spec": {"affinity": spec.get("affinity")},
        }
        self.placed[about["uid"]] = (kept, node)
        self._note(kept, node, 1)

    def remove(self, uid: str) -> None:
        """Note that a pod is gone or done."""
        if found := self.placed.pop(uid, None):
            self._note(*found, -1)

    def forget(self) -> None:
        """Count anew when asked next: labels of nodes changed."""
        self._counts.clear()

    def _note(self, pod: Mapping[str, Any], node: str, sign: int) -> None:
        for count in self._counts.values():
            count.add(pod, self.rooms.get(node), sign)
        for term in _required(pod["spec"], "podAntiAffinity"):
            home = pod["metadata"]["namespace"]
            key = orjson.dumps([term, home], option=orjson.OPT_SORT_KEYS)
            number = self._guards.get(key, (term, home, 0))[2] + sign
            self._guards[key] = (term, home, number)
            if not number:
                del self._guards[key]

    def _domains(self, term: Object, home: str, *, had: bool = False) -> Counter[str]:
        name = orjson.dumps([term, home, had], option=orjson.OPT_SORT_KEYS)
        if name not in self._counts:
            count = self._counts[name] = _Count(term, home, had)
            for pod, node in self.placed.values():
                count.add(pod, self.rooms.get(node), 1)
        return self._counts[name].domains

    def free_for_all(self, demand: Demand) -> bool:
        """Tell whether no pod has anything to say about where this one goes, so that no node needs to be asked."""
        return not demand.neighbours and not self._guards

    def refusal(self, pod: Mapping[str, Any], room: Room) -> Refusal | None:
        """Say why the pods that are there keep a pod from a node; None if they do not."""
        home, spec, labels = pod["metadata"].get("namespace", ""), pod["spec"], room.labels
        for term in _required(spec, "podAffinity"):
            seen, value = self._domains(term, home), labels.get(term["topologyKey"])
            first = not any(seen.values()) and _sees(term, home, pod)
            if value is None or not (seen[value] > 0 or first):
                return Refusal(("node(s) didn't match pod affinity rules",), True)
        for term in _required(spec, "podAntiAffinity"):
            if self._domains(term, home)[labels.get(term["topologyKey"], "")] > 0:
                return Refusal(("node(s) didn't match pod anti-affinity rules",), False)
        for term, owner, _ in self._guards.values():
            value = labels.get(term["topologyKey"])
            if value is not None and _sees(term, owner, pod) and self._domains(term, owner, had=True)[value] > 0:
                return Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",), False)
        return None
