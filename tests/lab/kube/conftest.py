"""API servers and clients for the tests of the lab's Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubectls import Kubectl

from leptonami.lab.kube import Server, start

__all__: list[str] = []


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Start an API server for a module."""
    with start("a-cluster") as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Give a kubectl that talks to it."""
    return Kubectl(server, tmp_path_factory.mktemp("kubectl"))
