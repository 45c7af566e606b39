"""Launch time of nodes, measured: trials on a driver, statistics, verdicts. `docs/benchmark.md` has the limits."""
