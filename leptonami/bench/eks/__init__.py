"""The driver `eks`: instances that join a cluster, by the seams to AWS and Kubernetes, in an account or the lab."""

from __future__ import annotations

from leptonami.bench.eks.driver import open_driver

__all__ = ["open_driver"]
