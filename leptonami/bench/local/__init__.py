"""Nodes on this machine: images, a registry, disks, containerd and CRI. `docs/benchmark.md` has the limits."""
