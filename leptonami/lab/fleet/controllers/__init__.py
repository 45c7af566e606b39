"""The controllers of the fleet: what a cluster's controller manager does, as far as leptonami's clients notice."""

from __future__ import annotations

from leptonami.lab.fleet.controllers.driver import PLURALS, Workloads

__all__ = ["PLURALS", "Workloads"]
