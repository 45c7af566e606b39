"""A lab with a cluster for the driver `eks`, in which nothing may stay behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rehearsal import Stage, allowed

from leptonami import kube
from leptonami.lab import start


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Start a lab in which nodes come at once."""
    with pytest.MonkeyPatch.context() as patch, start(cluster=True, speed=1200, seed=5) as lab:
        for name, value in lab.environment.items():
            patch.setenv(name, value)
        yield Stage.of(lab)


@pytest.fixture
def nothing_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever became of the trials: no instance, volume, group, template or pod of theirs is left."""
    for name, value in stage.lab.environment.items():
        monkeypatch.setenv(name, value)
    yield
    stage.lab.set_fleet_faults()
    stage.lab.set_faults()
    assert stage.gone() == {}
    with kube.connect(None) as cluster:
        assert cluster.objects("pods") == []
    assert stage.called <= allowed(stage)
