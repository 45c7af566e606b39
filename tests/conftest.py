"""What several test modules share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from leptonami.lab import Lab, start

ROOT = Path(__file__).parent.parent

# How long an example takes says how busy the machine is. Everything else stays as it is here, or in CI.
settings.register_profile("leptonami", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leptonami")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may ever reach an account: whatever credentials this machine has are hidden."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LEPTONAMI_")) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of Debian's Chromium. CI must have it; elsewhere the test is skipped."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no chromium: .ci/run must install it")
        pytest.skip("no chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Start a lab for a test module."""
    with start() as running:
        yield running
