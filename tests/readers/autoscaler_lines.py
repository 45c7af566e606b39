"""Messages of cluster-autoscaler in all their wordings. SYNTHETIC: written from the facts, not recorded."""

from __future__ import annotations

from leptonami.readers.autoscaler.catalogue import Kind

N = "ip-192-0-2-7.us-west-2.compute.internal"
SINCE = "2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344"

# (message, kind, fields that must be found)
WORDINGS: tuple[tuple[str, Kind, dict[str, str]], ...] = (
    ("Cluster Autoscaler 1.30.7", Kind.STARTED, {"value": "1.30.7"}),
    ('FLAG: --scale-down-unneeded-time="10m0s"', Kind.FLAG, {"name": "scale-down-unneeded-time", "value": "10m0s"}),
    ("Starting main loop", Kind.LOOP, {}),
    ("Cluster is not ready for autoscaling", Kind.NOT_READY, {}),
    (f"Overriding status of node {N}, which seems to have unready GPU", Kind.GPU_OVERRIDE, {"node": N}),
    (f"node {N} has unready GPU", Kind.GPU_UNREADY, {"node": N}),  # to 1.26
    (f"node {N} has unready GPU resource: nvidia.com/gpu", Kind.GPU_UNREADY, {"resource": "nvidia.com/gpu"}),
    (f"Skipping {N} - node group min size reached", Kind.MIN_SIZE, {"node": N}),  # to 1.25
    (f"Skipping {N} - node group min size reached (current: 1, min: 1)", Kind.MIN_SIZE, {"count": "1", "value": "1"}),
    (
        f"Node {N} should not be processed by cluster autoscaler (no node group config)",
        Kind.NOT_AUTOSCALED,
        {"node": N},
    ),
    (f"Skipped {N} from delete consideration - the node is not autoscaled", Kind.NOT_AUTOSCALED, {"node": N}),
    (f"Skipping {N} - no node group config", Kind.NOT_AUTOSCALED, {"node": N}),
    (f"Skipping {N} from delete consideration - the node is currently being deleted", Kind.BEING_DELETED, {"node": N}),
    (f"Skipping {N} from delete consideration - the node is marked as no scale down", Kind.ANNOTATED, {"node": N}),
    (f"Skipping {N} - scale down disabled annotation found", Kind.ANNOTATED, {"node": N}),
    (
        f"Skipping unready node {N} from delete consideration - scale-down of unready nodes is disabled",
        Kind.UNREADY_DISABLED,
        {"node": N},
    ),
    (
        "Scale-down calculation: ignoring 1 nodes unremovable in the last 5m0s",
        Kind.RECENTLY_UNREMOVABLE,
        {"count": "1"},
    ),
    (
        "Scale-down calculation: ignoring 3 nodes, that were unremovable in the last 5m0s",
        Kind.RECENTLY_UNREMOVABLE,
        {"count": "3", "duration": "5m0s"},
    ),
    (f"Node {N} - utilization 0.112500", Kind.UTILIZATION, {"node": N, "value": "0.112500"}),  # to 1.14
    (f"Node {N} - nvidia.com/gpu utilization 0.000000", Kind.UTILIZATION, {"resource": "nvidia.com/gpu"}),  # to 1.28
    (f"Node {N} - cpu requested is 5.12821% of allocatable", Kind.UTILIZATION, {"resource": "cpu", "value": "5.12821"}),
    ("Skipped logging utilization for 12 other nodes", Kind.NOT_ALL_UTILIZATION, {"count": "12"}),
    (f"Node {N} is not suitable for removal - utilization too big (0.612500)", Kind.TOO_BIG, {"value": "0.612500"}),
    (
        f"Node {N} is not suitable for removal - memory utilization too big (0.812500)",
        Kind.TOO_BIG,
        {"resource": "memory", "value": "0.812500"},
    ),
    (
        f"Node {N} unremovable: nvidia.com/gpu requested (100% of allocatable) is above the threshold",
        Kind.TOO_BIG,
        {"resource": "nvidia.com/gpu", "value": "100"},
    ),
    (f"Fast evaluation: {N} for removal", Kind.SIMULATING, {"node": N}),  # to 1.23
    (f"Detailed evaluation: {N} for removal", Kind.SIMULATING, {"node": N}),  # to 1.23
    (f"{N} for removal", Kind.SIMULATING, {"node": N}),  # 1.24 to 1.28
    (f"Simulating node {N} removal", Kind.SIMULATING, {"node": N}),
    (f"Fast evaluation: node {N} cannot be removed: default/a is not replicated", Kind.CANNOT_BE_REMOVED, {"node": N}),
    (f"node {N} cannot be removed: default/a is not replicated", Kind.CANNOT_BE_REMOVED, {"node": N}),
    (
        f"Node {N} cannot be removed: default/a is not replicated",  # from 1.33
        Kind.CANNOT_BE_REMOVED,
        {"reason": "default/a is not replicated"},
    ),
    (f"node {N} is not suitable for removal: can reschedule only 0 out of 2 pods", Kind.NO_PLACE, {"node": N}),
    (f"Detailed evaluation: node {N} is not suitable for removal: no room", Kind.NO_PLACE, {"reason": "no room"}),
    (f"Fast evaluation: node {N} may be removed", Kind.MAY_BE_REMOVED, {"node": N}),
    (f"node {N} may be removed", Kind.MAY_BE_REMOVED, {"node": N}),
    (f"Node {N} may be removed", Kind.MAY_BE_REMOVED, {"node": N}),  # from 1.33
    (f"Pod grafana/grafana-1 can be moved to {N}", Kind.POD_MOVABLE, {"pod": "grafana/grafana-1", "node": N}),
    ("failed to find place for default/a: cannot put pod a on any node", Kind.POD_HAS_NO_PLACE, {"pod": "default/a"}),
    (
        "failed to find place for default/a based on similar pods scheduling",
        Kind.POD_HAS_NO_PLACE,
        {"pod": "default/a"},
    ),
    (f"2 nodes found to be unremovable in simulation, will re-check them at {SINCE}", Kind.RECHECK, {"count": "2"}),
    (
        f"{N} is unneeded since {SINCE} duration 3m45.769776521s",
        Kind.UNNEEDED_SINCE,
        {"node": N, "since": "2023-06-24 20:38:45.129539464 +0000 UTC", "duration": "3m45.769776521s"},
    ),
    (f"{N} is unneeded since 2018-02-01 10:00:00 +0000 UTC duration 1m0s", Kind.UNNEEDED_SINCE, {"duration": "1m0s"}),
    (f"{N} was unneeded for 3m45.7s", Kind.WAS_UNNEEDED, {"node": N, "duration": "3m45.7s"}),
    (
        f"Scale down status: unneededOnly=false lastScaleUpTime={SINCE} lastScaleDownDeleteTime={SINCE} "
        f"lastScaleDownFailTime={SINCE} scaleDownForbidden=false isDeleteInProgress=false scaleDownInCooldown=true",
        Kind.SCALE_DOWN_STATUS,
        {"name": "false"},
    ),
    (
        f"Scale down status: lastScaleUpTime={SINCE} lastScaleDownDeleteTime={SINCE} lastScaleDownFailTime={SINCE} "
        "scaleDownForbidden=false scaleDownInCooldown=false",
        Kind.SCALE_DOWN_STATUS,
        {},
    ),
    ("Starting scale down", Kind.SCALE_DOWN_START, {}),
    ("Starting scale down: no scale down candidates. skipping...", Kind.SCALE_DOWN_START, {}),
    (f"Skipping {N} - minimal limit exceeded for [cpu]", Kind.RESOURCE_LIMIT, {"node": N}),
    (f"Skipping scale down of {N} in this batch - limit exceeded", Kind.RESOURCE_LIMIT, {"node": N}),
    (f"Successfully added ToBeDeletedTaint on node {N}", Kind.TAINTED, {"node": N}),  # to 1.29
    (f"Successfully added ToBeDeletedByClusterAutoscaler on node {N}", Kind.TAINTED, {"node": N}),
    (f"Successfully added DeletionCandidateTaint on node {N}", Kind.SOFT_TAINTED, {"node": N}),  # to 1.29
    (f"Successfully added DeletionCandidateOfClusterAutoscaler on node {N}", Kind.SOFT_TAINTED, {"node": N}),
    (f"Successfully released ToBeDeletedTaint on node {N}", Kind.UNTAINTED, {"node": N}),
    (f"Scale-down: removing empty node {N}", Kind.REMOVING_EMPTY, {"node": N}),  # to 1.24
    (f'Scale-down: removing empty node "{N}"', Kind.REMOVING_EMPTY, {"node": N}),
    (
        f"Scale-down: removing node {N}, utilization: {{0 0 0 nvidia.com/gpu 0}}, pods to reschedule: a,b",
        Kind.REMOVING,
        {"node": N, "reason": "a,b"},
    ),
    (
        f"Scale-down: removing node {N}, utilization: {{0.1 0.2 0 0 cpu 0.1}}, pods to reschedule: ",  # from 1.32
        Kind.REMOVING,
        {"node": N},
    ),
    ("Scale-down: waiting 5s before trying to delete nodes", Kind.WAITING, {"duration": "5s"}),
    (f"All pods removed from {N}", Kind.DRAINED, {"node": N}),
    ("Failed to evict pod a, error: too many requests", Kind.EVICTION_FAILED, {"pod": "a"}),
    ("Terminating EC2 instance: i-0123456789abcdef0", Kind.TERMINATING, {"name": "i-0123456789abcdef0"}),
    (f'Scale-down: couldn\'t delete empty node "{N}", new pods got scheduled', Kind.DELETE_FAILED, {"node": N}),
    (f'Scale-down: couldn\'t delete node "{N}", status error: timeout', Kind.DELETE_FAILED, {"node": N}),
    ("Pod default/trainer-1 is unschedulable", Kind.UNSCHEDULABLE, {"pod": "default/trainer-1"}),
    (
        "Pod trainer-1 can't be scheduled on gpu, predicate checking error: Insufficient nvidia.com/gpu",  # to 1.27
        Kind.POD_DOES_NOT_FIT,
        {"pod": "trainer-1", "group": "gpu", "reason": "Insufficient nvidia.com/gpu"},
    ),
    ("Upcoming 2 nodes", Kind.UPCOMING, {"count": "2"}),
    ("No expansion options", Kind.NO_OPTIONS, {}),
    ("Skipping node group gpu - max size reached", Kind.MAX_SIZE, {"group": "gpu"}),
    ("Best option to resize: gpu", Kind.BEST_OPTION, {"group": "gpu"}),
    ("Estimated 2 nodes needed in gpu", Kind.ESTIMATED, {"count": "2", "group": "gpu"}),
    ("Final scale-up plan: [{gpu 0->2 (max: 6)}]", Kind.SCALE_UP_PLAN, {"reason": "{gpu 0->2 (max: 6)}"}),
    ("Scale-up: setting group gpu size to 2", Kind.SET_SIZE, {"group": "gpu", "count": "2"}),
    ("Scale up in group gpu finished successfully in 15m0.6s", Kind.SCALE_UP_DONE, {"group": "gpu"}),
    ("Scale-up timed out for node group gpu after 15m0s", Kind.SCALE_UP_TIMED_OUT, {"group": "gpu"}),
    (f"Disabling scale-up for node group gpu until {SINCE}", Kind.BACKOFF, {"group": "gpu"}),
    ("Node group gpu is not ready for scaleup - backoff", Kind.GROUP_NOT_READY, {"reason": "backoff"}),
    ("2 unregistered nodes present", Kind.UNREGISTERED, {"count": "2"}),
)

# Near misses: other components' messages, or the same words elsewhere.
OTHERS: tuple[str, ...] = (
    "",
    "Starting reflector *v1.Node (0s) from k8s.io/client-go/informers/factory.go:160",
    "the node group min size reached",
    "Node is unneeded",
    "Successfully bound pod to node",
    "Filtering out schedulables",
    "loop is over: Starting main loop",
)


def line(message: str, site: str = "somewhere.go:1", at: str = "0624 20:42:30.904516", severity: str = "I") -> bytes:
    """Put a klog header before a message."""
    return f"{severity}{at}       1 {site}] {message}".encode()
