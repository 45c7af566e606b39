"""Which cluster, and what is in it: the one seam to Kubernetes, and it only reads. `kubeconfig` finds the way there.

A `Cluster` is an API server as seen with a context of a kubeconfig. Time-outs, paging, repeats and the translation of
errors are set here and nowhere else. Objects stay as the API sent them, as plain dicts; the readers take them from
there. Nothing but GET is ever sent. As with AWS, whether what it answers is *measured* or *simulated* is decided by the
endpoint.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from leptonami.errors import CredentialsError, LeptonamiError, Timeout
from leptonami.kubeconfig import Access, open_access
from leptonami.proof import excerpt
from leptonami.target import Provenance, is_loopback

__all__ = ["RESOURCES", "Cluster", "KubeError", "KubeUnreachable", "Resource", "connect"]

PAGE = 500  # objects of one answer, as kubectl asks
MOST_OBJECTS = 500_000
LARGEST = 512 * 1024 * 1024  # bytes of one listing
BLOCK = 1 << 16
ATTEMPTS = 4
LONGEST_PAUSE = 5.0  # seconds, whatever Retry-After says
TRANSIENT = {429, 500, 502, 503, 504}


class KubeError(LeptonamiError):
    """The API server refused a request: `status` is the HTTP status."""

    def __init__(self, status: int, message: str, *, resource: str, hint: str | None = None) -> None:
        super().__init__(message, resource=resource, hint=hint)
        self.status = status


class KubeUnreachable(LeptonamiError):
    """The API server did not answer, or what answered was none."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: its plural, its kind, and the group versions that have it, the one to ask first first."""

    plural: str
    kind: str
    versions: tuple[str, ...]
    namespaced: bool = True
    optional: bool = False


# What is read, and nothing else. A cluster without the operator has no ClusterPolicy: optional ones may be missing.
RESOURCES: Mapping[str, Resource] = {
    each.plural: each
    for each in (
        Resource("nodes", "Node", ("v1",), namespaced=False),
        Resource("pods", "Pod", ("v1",)),
        Resource("events", "Event", ("v1",)),
        Resource("configmaps", "ConfigMap", ("v1",)),
        Resource("replicationcontrollers", "ReplicationController", ("v1",)),
        Resource("daemonsets", "DaemonSet", ("apps/v1",)),
        Resource("deployments", "Deployment", ("apps/v1",)),
        Resource("replicasets", "ReplicaSet", ("apps/v1",)),
        Resource("statefulsets", "StatefulSet", ("apps/v1",)),
        Resource("jobs", "Job", ("batch/v1",)),
        Resource("poddisruptionbudgets", "PodDisruptionBudget", ("policy/v1", "policy/v1beta1"), optional=True),
        Resource("leases", "Lease", ("coordination.k8s.io/v1",), optional=True),
        Resource("clusterpolicies", "ClusterPolicy", ("nvidia.com/v1",), namespaced=False, optional=True),
        Resource("nvidiadrivers", "NVIDIADriver", ("nvidia.com/v1alpha1",), namespaced=False, optional=True),
    )
}


@dataclass
class Cluster:
    """A cluster that is read.

    Attributes
    ----------
    name
        The context's name, which proofs name as their source.
    host
        The API server's URL.
    provenance
        `measured`, or `simulated` on a loopback endpoint.
    timeout
        Seconds in which an answer must begin, and go on.
    deadline
        Seconds that one listing or one log may take in all.
    requests
        What was sent so far, `GET /api/v1/nodes?limit=500` and so on.
    """

    name: str
    host: str
    provenance: Provenance
    access: Access = field(repr=False)
    timeout: float = 15.0
    deadline: float = 300.0
    requests: list[str] = field(default_factory=list, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.access.close()

    # --- what it gives ------------------------------------------------------------------------------------------------

    def objects(self, plural: str, *, namespace: str | None = None, labels: str = "") -> list[dict[str, Any]]:
        """List objects.

        Parameters
        ----------
        plural
            One of `RESOURCES`.
        namespace
            Only this one; by default every namespace.
        labels
            A label selector, such as `app=nvidia-device-plugin-daemonset`.

        Returns
        -------
        list[dict]
            As the API sent them, with `kind` and `apiVersion` as `kubectl get -o json` puts them in. Nothing if the
            cluster does not have such a resource and need not have.

        Raises
        ------
        CredentialsError
            If that is not allowed, naming the verb and the resource.
        KubeError, KubeUnreachable, Timeout
            If there is no answer, or one that makes no sense.
        """
        resource = RESOURCES[plural]
        words = f"list {plural}" + (f" in namespace {namespace}" if namespace else " in the whole cluster")
        query = {"labelSelector": labels} if labels else {}
        for version in resource.versions:
            place = path_of(resource, version, namespace)
            try:
                return self.pages(place, query, words, resource.kind, version)
            except KubeError as error:
                if error.status != 404:
                    raise
        if resource.optional:
            return []
        raise KubeError(404, f"the cluster has no {plural}", resource=self.name, hint="is it a Kubernetes API server?")

    def object(self, plural: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Give one object; None if there is none."""
        resource = RESOURCES[plural]
        words = f"get {plural}/{name}" + (f" in namespace {namespace}" if namespace else "")
        try:
            found = self.document(f"{path_of(resource, resource.versions[0], namespace)}/{quote(name, safe='')}", words)
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        return found

    def log(self, namespace: str, pod: str, *, container: str = "", previous: bool = False) -> Iterator[bytes]:
        """Give the log of a pod's container as blocks of bytes, each line with its time in front (which has a year).

        Raises
        ------
        KubeError, KubeUnreachable, CredentialsError, Timeout
            At the first block, or while it goes on.
        """
        query = {"timestamps": "true"}
        query |= {"container": container} if container else {}
        query |= {"previous": "true"} if previous else {}
        place = f"{path_of(RESOURCES['pods'], 'v1', namespace)}/{quote(pod, safe='')}/log"
        yield from self.stream(place, query, f"get pods/log of {namespace}/{pod}")

    # --- how it asks --------------------------------------------------------------------------------------------------

    def pages(self, place: str, query: Mapping[str, str], words: str, kind: str, version: str) -> list[dict[str, Any]]:
        """Ask for a listing, page after page."""
        found: list[dict[str, Any]] = []
        token, seen = "", set[str]()
        limit: dict[str, str] = {"limit": str(PAGE)}
        until = self.clock() + self.deadline
        while True:
            try:
                page = self.document(
                    place, words, {**query, **limit, **({"continue": token} if token else {})}, until=until
                )
            except KubeError as error:
                if error.status != 410 or not token:
                    raise
                # The pages have expired: ask anew and for all at once, as client-go does.
                found, token, limit = [], "", {}
                seen.clear()
                continue
            items = page.get("items")
            if items is None and isinstance(page.get("metadata"), dict):
                items = []  # Go writes an empty list as null
            if not isinstance(items, list):
                raise KubeUnreachable(
                    "the answer has no list of objects", resource=f"{self.name}, {words}", hint=NOT_KUBERNETES
                )
            found += [{"apiVersion": version, "kind": kind, **each} for each in items if isinstance(each, dict)]
            about = page.get("metadata")
            token = str(about.get("continue") or "") if isinstance(about, dict) else ""
            if not token:
                return found
            if token in seen or len(found) > MOST_OBJECTS:
                raise KubeUnreachable(
                    f"the listing does not end ({len(found):,} objects so far)", resource=f"{self.name}, {words}"
                )
            seen.add(token)

    def document(
        self, place: str, words: str, query: Mapping[str, str] | None = None, *, until: float | None = None
    ) -> dict[str, Any]:
        """Ask for one JSON object."""
        parts: list[bytes] = []
        size = 0
        for block in self.stream(place, query or {}, words, until=until):
            size += len(block)
            if size > LARGEST:
                raise KubeUnreachable(f"the answer is larger than {LARGEST >> 20} MiB", resource=words)
            parts.append(block)
        try:
            found = json.loads(b"".join(parts))
        except (ValueError, RecursionError) as error:
            raise KubeUnreachable(
                "the answer is not JSON", resource=f"{self.name}, {words}", hint=NOT_KUBERNETES
            ) from error
        if not isinstance(found, dict):
            raise KubeUnreachable("the answer is no object", resource=f"{self.name}, {words}", hint=NOT_KUBERNETES)
        return found

    def stream(
        self, place: str, query: Mapping[str, str], words: str, *, until: float | None = None
    ) -> Iterator[bytes]:
        """Send a GET and give the body, a block at a time."""
        end = until if until is not None else self.clock() + self.deadline
        response = self.ask(place, query, words, end)
        try:
            for block in response.stream(BLOCK, decode_content=True):
                if self.clock() > end:
                    raise Timeout(f"it took more than {self.deadline:g} s", resource=f"{self.name}, {words}")
                yield block
        except Exception as error:
            raise self.translate(error, words) from error
        finally:
            response.close()

    def ask(self, place: str, query: Mapping[str, str], words: str, end: float) -> Any:
        """Send a GET, again after a pause where the server is busy, and give the answer, its body still unread."""
        url = place + (f"?{urlencode(query)}" if query else "")
        for attempt in range(1, ATTEMPTS + 1):
            self.requests.append(f"GET {url}")
            try:
                response = self.send(url).response
                if response.status < 300:
                    return response
                body = response.read(BLOCK, decode_content=True)
                response.close()
            except Exception as error:
                raise self.translate(error, words) from error
            if response.status not in TRANSIENT or attempt == ATTEMPTS or self.clock() > end:
                raise self.refused(response.status, body, words)
            self.sleep(pause_of(response.headers.get("Retry-After"), attempt))
        raise AssertionError  # the last attempt returned or raised

    def send(self, url: str) -> Any:
        """Send one GET. There is no other verb in this module."""
        headers = {"Accept": "application/json, */*", "User-Agent": "leptonami", **self.access.headers()}
        return self.access.get(self.host + url, headers, self.timeout)

    # --- errors -------------------------------------------------------------------------------------------------------

    def refused(self, status: int, body: bytes, words: str) -> LeptonamiError:
        """Say in our words why the server refused."""
        where = f"{self.name}, {words}"
        message = message_of(body)
        if status == 401:
            return CredentialsError(
                f"the cluster does not know who we are (401{f': {message}' if message else ''})",
                resource=where,
                hint="log in again (aws sso login, aws eks update-kubeconfig), or choose another --context",
            )
        if status == 403:
            verb, _, what = words.partition(" ")
            return CredentialsError(
                f"not allowed to {words} (403{f': {message}' if message else ''})",
                resource=self.name,
                hint=f"a role with the verb {verb!r} on {what.split(' ')[0]}; to check: kubectl auth can-i {words}",
            )
        hint = NOT_KUBERNETES if status < 400 else None
        return KubeError(status, f"the API server answered {status}: {message or 'nothing'}", resource=where, hint=hint)

    def translate(self, error: Exception, words: str) -> Exception:
        """Say in our words what went wrong on the way."""
        if isinstance(error, LeptonamiError):
            return error
        from urllib3 import exceptions

        where = f"{self.name}, {words}"
        reason: Any = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
        if isinstance(reason, exceptions.TimeoutError) and not isinstance(reason, exceptions.NewConnectionError):
            return Timeout(
                f"{self.host} gave no answer for {self.timeout:g} s",
                resource=where,
                hint="is the VPN up, and does the cluster's endpoint let this machine in? --timeout waits longer",
            )
        text = excerpt(str(reason), 200)
        if isinstance(reason, exceptions.SSLError) or "SSLError" in text or "CERTIFICATE" in text.upper():
            return KubeUnreachable(
                f"{self.host} cannot be trusted: {text}",
                resource=where,
                hint="the kubeconfig needs the cluster's certificate-authority-data (aws eks update-kubeconfig)",
            )
        if isinstance(reason, (exceptions.HTTPError, OSError)):
            return KubeUnreachable(
                f"{self.host} cannot be reached: {text}",
                resource=where,
                hint="check the context, the network and the VPN: kubectl --context ... get nodes",
            )
        return KubeUnreachable(f"{type(error).__name__}: {text}", resource=where)


NOT_KUBERNETES = "is that a Kubernetes API server, or a proxy in front of it?"


def path_of(resource: Resource, version: str, namespace: str | None) -> str:
    """Give the path of a resource."""
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
    return f"{base}{inside}/{resource.plural}"


def message_of(body: bytes) -> str:
    """Read the message of a Status; what is none is shown as it is, cut."""
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            text = found["message"]
    return excerpt(text, 200)


def pause_of(header: object, attempt: int) -> float:
    """Give how long to wait before the next try, by the Retry-After header if it is a number of seconds."""
    text = str(header or "")
    wanted = float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.25 * 2**attempt
    return min(wanted, LONGEST_PAUSE)


def connect(
    context: str | None = None, *, kubeconfig: str | Path | None = None, timeout: float = 15.0, deadline: float = 300.0
) -> Cluster:
    """Open a cluster. Nothing is sent yet.

    Parameters
    ----------
    context
        The context's name; by default the current one.
    kubeconfig
        Its file; by default `KUBECONFIG`, then `~/.kube/config`, then, inside a pod, its service account.
    timeout, deadline
        See `Cluster`.

    Raises
    ------
    InputError
        If there is no kubeconfig, it cannot be read, or it has no such context.
    CredentialsError
        If the kubeconfig's credential plug-in failed.
    """
    access = open_access(context, kubeconfig)
    return Cluster(
        name=access.name,
        host=access.host,
        provenance="simulated" if is_loopback(access.host) else "measured",
        access=access,
        timeout=timeout,
        deadline=deadline,
    )
