"""Objects that the tests of the store send."""

from __future__ import annotations

from typing import Any

import pytest

from leptonami.lab.kube.errors import ApiError
from leptonami.lab.kube.store import Options, Store

Object = dict[str, Any]


def pod(name: str = "p", **more: Any) -> Object:
    """Give a pod; `labels` and `meta` go to its metadata, the rest to its spec."""
    meta = {"name": name, "labels": more.pop("labels", {"app": "x"}), **more.pop("meta", {})}
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "nginx:1"}], **more}}


def deployment(name: str = "d", **more: Any) -> Object:
    """Give a deployment."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **more},
    }


def definition(*versions: Object, plural: str = "widgets", kind: str = "Widget", scope: str = "Namespaced") -> Object:
    """Give a CustomResourceDefinition."""
    names = {"plural": plural, "kind": kind, "shortNames": ["wd"], "categories": ["all"]}
    spec = {"group": "x.io", "scope": scope, "names": names, "versions": list(versions)}
    return {"metadata": {"name": f"{plural}.x.io"}, "spec": spec}


def version(name: str = "v1", schema: Object | None = None, **more: Any) -> Object:
    """Give one version of a definition."""
    schema = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}


def owner(obj: Object, **more: Any) -> Object:
    """Give a reference to an owner."""
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": obj["metadata"]["name"],
            "uid": obj["metadata"]["uid"], **more}  # fmt: skip


class Client:
    """A store with fewer words: kinds by their plural name, and `test` as the manager."""

    def __init__(self, **settings: Any) -> None:
        self.store = Store(**settings)

    def kind(self, plural: str) -> Any:
        found = [each for each in self.store.registry.kinds() if each.plural == plural]
        assert found, f"there is no kind {plural}"
        return found[0]

    def options(self, **more: Any) -> Options:
        return Options(**{"manager": "test", **more})

    def create(self, plural: str, obj: Object, namespace: str | None = "default", **more: Any) -> Object:
        kind = self.kind(plural)
        return self.store.create(kind, namespace if kind.namespaced else None, obj, options=self.options(**more))

    def get(self, plural: str, name: str, namespace: str = "default") -> Object:
        return self.store.get(self.kind(plural), namespace, name)

    def has(self, plural: str, name: str, namespace: str = "default") -> bool:
        return self.store.peek(self.kind(plural), namespace, name) is not None

    def update(self, plural: str, obj: Object, subresource: str = "", **more: Any) -> Object:
        kind, name = self.kind(plural), obj["metadata"]["name"]
        namespace = obj["metadata"].get("namespace", "default") if kind.namespaced else None
        return self.store.update(kind, namespace, name, obj, subresource=subresource, options=self.options(**more))[0]

    def patch(
        self, plural: str, name: str, body: Any, how: str = "merge", subresource: str = "", **more: Any
    ) -> Object:
        types = {"merge": "merge-patch+json", "json": "json-patch+json", "strategic": "strategic-merge-patch+json",
                 "apply": "apply-patch+yaml"}  # fmt: skip
        kind = self.kind(plural)
        namespace = "default" if kind.namespaced else None
        if how == "apply":
            body = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        options = self.options(**more)
        content_type = "application/" + types[how]
        return self.store.patch(kind, namespace, name, body, content_type, subresource=subresource, options=options)[0]

    def names(self, plural: str, namespace: str | None = None, **query: Any) -> list[str]:
        return [each["metadata"]["name"] for each in self.store.list(self.kind(plural), namespace, **query).items]


def refused(code: int, reason: str = "") -> Any:
    """Expect an error of the API: `with refused(409) as error: ...; error.value.message`."""

    def check(error: BaseException) -> bool:
        return isinstance(error, ApiError) and error.code == code and (not reason or error.reason == reason)

    return pytest.raises(ApiError, check=check)
