"""Labs of the speeds that the tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import Account

from leptonami.lab import Lab, start
from leptonami.lab.node import sandbox

__all__: list[str] = []


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
