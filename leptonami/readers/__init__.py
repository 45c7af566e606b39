"""Readers: bytes in, typed values out; one module a format.

Readers are pure: they call no AWS and no Kubernetes, open no file and ask no clock (`leptonami.sources` opens files,
`leptonami.kube` asks clusters). What they are given is untrusted: whatever the bytes, a reader ends, in time linear in
them, and raises nothing but `LeptonamiError`. What a reader does not understand it counts and keeps reachable.
"""
