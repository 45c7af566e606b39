"""The fleet: EC2 instances become Nodes, and pods run on them. It speaks to AWS and to Kubernetes over HTTP only.

What it makes is simulated, and says so (`docs/lab-fleet.md`).
"""
