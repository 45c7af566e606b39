"""What cluster-autoscaler writes: its log, its status, its events and its metrics."""
