"""The only thing that leptonami creates in a cluster: pods of a benchmark, each with its own name, and gone after it.

Everything else about a cluster is read (`kube.py`), and roll-outs are the cloud's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from leptonami.kube import RESOURCES, Cluster, KubeError, path_of

__all__ = ["Pods"]


class Pods:
    """Creates and deletes pods of one namespace.

    Parameters
    ----------
    cluster
        Where.
    namespace
        Of the pods.
    """

    def __init__(self, cluster: Cluster, namespace: str = "default") -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.place = path_of(RESOURCES["pods"], "v1", namespace)

    def create(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Create a pod. One of that name that is there already is given instead: an answer may have been lost.

        Raises
        ------
        CredentialsError
            If that is not allowed.
        KubeError, KubeUnreachable, Timeout
            If it does not work.
        """
        name = str(pod["metadata"]["name"])
        try:
            return self._send("POST", self.place, f"create pods/{name} in namespace {self.namespace}", pod)
        except KubeError as error:
            found = self.cluster.object("pods", name, self.namespace) if error.status == 409 else None
            if found is None:
                raise
            return found

    def delete(self, name: str) -> bool:
        """Delete a pod at once; tell whether there was one."""
        try:
            self._send(
                "DELETE",
                f"{self.place}/{quote(name, safe='')}",
                f"delete pods/{name} in namespace {self.namespace}",
                {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0},
            )
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _send(self, method: str, url: str, words: str, body: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self.cluster
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "leptonami",
            **cluster.access.headers(),
        }
        cluster.requests.append(f"{method} {url}")
        try:
            answer = cluster.access.request(method, cluster.host + url, headers, cluster.timeout, body).response
            content = answer.read(decode_content=True)
            answer.close()
        except Exception as error:
            raise cluster.translate(error, words) from error
        if answer.status >= 300:
            raise cluster.refused(answer.status, content, words)
        found: dict[str, Any] = json.loads(content)
        return found
