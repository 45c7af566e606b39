"""`python -m leptonami`."""

from __future__ import annotations

from leptonami.cli import main

main()
