"""Labs of the speeds that the tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import Account

from leptonami.lab import Lab, start
from leptonami.lab.node import sandbox

__all__: list[str] = []
LONG_S = 120.0  # for what comes sooner or later, on however busy a machine


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Start a lab that hurries; nothing here depends on how long a state lasts."""
    with start(speed=600) as running:
        yield running


@pytest.fixture(scope="module")
def account(lab: Lab) -> Account:
    """Give the clients of the module's lab."""
    return Account(lab)


@pytest.fixture(scope="module")
def slow() -> Iterator[Account]:
    """Give a lab in which passing states last long enough to be seen on a busy machine."""
    with start(speed=15) as running:
        yield Account(running)


@pytest.fixture
def scripts() -> None:
    """Skip where scripts cannot run."""
    works, why = sandbox()
    if not works:
        pytest.skip(why)


@pytest.fixture(scope="session")
def clustered() -> Iterator[Account]:
    """Give a lab with a cluster and without a fleet: its nodes are the tests' to make (`helpers.Joining`).

    One for all modules: starting it takes longer than most of their tests. So each takes away what it made.
    """
    with start(speed=1200, cluster=True, fleet=False, patience=LONG_S) as running:
        yield Account(running)


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Account]:
    """Give a lab whose cluster may be changed; `held` lets passing states be seen."""
    with start(speed=1200, cluster=True, fleet=False, patience=LONG_S) as running:
        yield Account(running)
