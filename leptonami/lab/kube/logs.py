"""Logs of pods: the API server has none, it asks the kubelet of the pod's node, and hands on what comes.

The kubelet is asked on 127.0.0.1 at the port that its node declares, whatever the node's address is: nodes of the lab
have addresses that lead nowhere.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

from leptonami.lab.kube.errors import ApiError, bad_request
from leptonami.lab.kube.objects import Object, value_at
from leptonami.lab.kube.server import Response

__all__ = ["open_log"]

HANDED_ON = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes")
BLOCK = 1 << 16
CONNECT_S, ANSWER_S = 5.0, 60.0
LOOK_S = 1.0  # how often a log that is followed looks whether the client is still there


def container_of(pod: Object, wanted: str) -> str:
    """Find the container that is meant, in the words of the real server (pkg/registry/core/pod/strategy.go)."""
    name = pod["metadata"]["name"]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    named = {kind: [each["name"] for each in value_at(pod, f"spec.{kind}", [])] for kind in kinds}
    if wanted:
        if not any(wanted in each for each in named.values()):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(named["containers"]) == 1:
        return str(named["containers"][0])
    if not named["containers"]:
        raise bad_request(f"a container name must be specified for pod {name}")
    choices = f"choose one of: [{' '.join(named['containers'])}]"
    if named["initContainers"]:
        choices += f" or one of the init containers: [{' '.join(named['initContainers'])}]"
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")


def open_log(pod: Object, node: Object | None, query: dict[str, str], alive: Callable[[], bool]) -> Response:
    """Ask the kubelet for a container's log.

    Raises
    ------
    ApiError
        If the pod has no node yet, or its kubelet does not answer, or refuses.
    """
    meta = pod["metadata"]
    container = container_of(pod, query.get("container", ""))
    if not value_at(pod, "spec.nodeName"):
        # The real server says just as little: a pod without a node has an empty log.
        return Response(b"", 200, "text/plain")
    name = pod["spec"]["nodeName"]
    if node is None:
        raise ApiError(404, "NotFound", f'nodes "{name}" not found', {"name": name, "kind": "nodes"})
    port = value_at(node, "status.daemonEndpoints.kubeletEndpoint.Port", 0)
    path = "/containerLogs/" + "/".join(quote(each, safe="") for each in (meta["namespace"], meta["name"], container))
    asked = {key: query[key] for key in HANDED_ON if key in query}
    if asked:
        path += "?" + urlencode(asked)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CONNECT_S)
    try:
        if not port:
            raise ConnectionRefusedError
        connection.connect()
        line = connection.sock
        line.settimeout(ANSWER_S)
        connection.request("GET", path)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        address = next((each["address"] for each in value_at(node, "status.addresses", [])), name)
        reason = "i/o timeout" if isinstance(error, TimeoutError) else "connect: connection refused"
        message = f'Get "https://{address}:{port}{path}": dial tcp {address}:{port}: {reason}'
        raise ApiError(500, "InternalError", message) from error
    if response.status >= 400:
        with contextlib.closing(connection), contextlib.closing(response):
            text = response.read(BLOCK).decode("utf-8", "replace").strip()
        if response.status == 404:
            raise ApiError(
                404, "NotFound", f"the server could not find the requested resource ( pods/log {meta['name']})"
            )
        raise bad_request(text or f"the kubelet answered {response.status}")
    if not query.get("follow") or query["follow"] in {"false", "0"}:
        with contextlib.closing(connection), contextlib.closing(response):
            return Response(response.read(), 200, "text/plain")
    return Response(follow(connection, line, response, alive), 200, "text/plain")


def follow(
    connection: http.client.HTTPConnection, line: socket.socket, response: Any, alive: Callable[[], bool]
) -> Iterator[bytes]:
    """Hand on blocks as they come, until the log ends or the client goes."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    with contextlib.closing(connection), contextlib.closing(response):
        while alive():
            # What was read ahead no poll tells of. Without blocking, peek looks there, and into the socket.
            line.settimeout(0)
            here = response.fp.peek(1) if response.fp else b"end"
            line.settimeout(ANSWER_S)
            if not response.chunk_left:
                here = here.lstrip(b"\r\n")  # the end of a chunk is nothing to read
            if not here and not poll.poll(LOOK_S * 1000):
                continue
            try:
                block = response.read1(BLOCK)
            except (OSError, http.client.HTTPException):
                return
            if not block:
                return
            yield block
