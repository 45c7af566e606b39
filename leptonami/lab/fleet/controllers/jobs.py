"""Jobs: pods that run to their end (pkg/controller/job).

Each pod holds the finalizer `batch.kubernetes.io/job-tracking` until it is counted: once, though its node may go away.
Left out: Indexed completion mode (such a Job fails at once, and says so), pod failure and success policies, CronJobs.
"""

from __future__ import annotations

from leptonami.lab.conditions import condition, holds, is_ready
from leptonami.lab.fleet.controllers.plans import (
    BURST,
    MADE,
    REMOVED,
    Create,
    Delete,
    Object,
    Patch,
    Plan,
    Tell,
    View,
    active,
    controller_of,
    epoch,
    finished,
    leaving,
    phase,
    pod_of,
)

__all__ = ["reconcile", "released", "stray"]

TRACKING = "batch.kubernetes.io/job-tracking"
BACKOFF_S, BACKOFF_MAX_S = 10.0, 600.0  # job_controller.go DefaultJobPodFailureBackOff, MaxJobPodFailureBackOff


def over(job: Object) -> str:
    """Say how a Job ended: Complete or Failed; "" if it has not."""
    return next((kind for kind in ("Complete", "Failed") if holds(job, kind)), "")


def _labels(job: Object) -> dict[str, str]:
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    prefix = "batch.kubernetes.io/"
    return {"controller-uid": uid, "job-name": name, f"{prefix}controller-uid": uid, f"{prefix}job-name": name}


def _tracked(pod: Object) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def released(pod: Object) -> Patch:
    """Give the patch that takes the finalizer from a pod."""
    left = [each for each in pod["metadata"]["finalizers"] if each != TRACKING]
    return Patch("pods", pod, {"metadata": {"finalizers": left or None}})


def reconcile(job: Object, view: View) -> Plan:
    """Count the pods that ended, make those that are missing, and say when it is over."""
    plan, spec, status = Plan(), job["spec"], job.get("status") or {}
    pods = view.children(job, "pods")
    if over(job) or leaving(job):
        _clean(plan, job, pods, view)
        return plan
    tally = _count(plan, job, pods)
    running = active(pods)
    failure = _failure(job, tally["failed"], running, view, plan)
    done = tally["succeeded"]
    completions, parallelism = spec.get("completions"), int(spec.get("parallelism", 1))
    enough = done >= int(completions) if completions is not None else bool(done and not running)
    conditions = list(status.get("conditions") or ())
    suspended = bool(spec.get("suspend"))
    if failure or enough:
        kind, reason, message = ("Failed", *failure) if failure else ("Complete", "CompletionsReached", ENOUGH)
        target = "FailureTarget" if failure else "SuccessCriteriaMet"
        conditions += [_condition(each, "True", reason, message, view) for each in (target, kind)]
        plan.do(Tell(reason, message, "Warning") if failure else Tell("Completed", "Job completed"))
        plan.do(*(Delete("pods", pod, REMOVED) for pod in running))
    elif suspended:
        _drop(plan, running)
    else:
        wanted = min(parallelism, int(completions) - done) if completions is not None else parallelism
        if completions is None and done:
            wanted = len(running)  # one has found that there is nothing left to do, the others finish
        _fill(plan, view, job, pods, wanted)
    conditions = _suspended(plan, conditions, suspended, view)
    started = None if suspended else status.get("startTime") or view.stamp()
    plan.status(
        "jobs",
        job,
        {
            "active": len(running) or None,
            "ready": sum(map(is_ready, running)),
            "terminating": sum(leaving(pod) and not finished(pod) for pod in pods) or None,
            "succeeded": done or None,
            "failed": tally["failed"] or None,
            "startTime": started,
            "completionTime": view.stamp() if enough and not failure else None,
            "conditions": conditions or None,
        },
    )
    return plan


ENOUGH = "Reached expected number of succeeded pods"


def _count(plan: Plan, job: Object, pods: list[Object]) -> dict[str, int]:
    """Count pods that ended, each once: first they are noted in the status, then they lose their finalizer.

    A pod that is being deleted before it ended counts as failed.
    """
    status = job.get("status") or {}
    noted = {key: list((status.get("uncountedTerminatedPods") or {}).get(key) or ()) for key in ("succeeded", "failed")}
    tally = {key: int(status.get(key) or 0) for key in noted}
    here = {pod["metadata"].get("uid"): pod for pod in pods}
    for uids in noted.values():
        for uid in [uid for uid in uids if uid not in here or not _tracked(here[uid])]:
            uids.remove(uid)
    for uid, pod in here.items():
        if not uid or not _tracked(pod) or not (finished(pod) or leaving(pod)):
            continue
        key = "succeeded" if phase(pod) == "Succeeded" else "failed"
        if uid not in noted["succeeded"] + noted["failed"]:
            noted[key].append(uid)
            tally[key] += 1
    uncounted = {key: uids or None for key, uids in noted.items()}
    new = {"uncountedTerminatedPods": uncounted, **tally}
    old = status.get("uncountedTerminatedPods") or {}
    if any((old.get(key) or None) != value for key, value in uncounted.items()):
        plan.do(Patch("jobs", job, {"status": new}, "status"))
    plan.do(*(released(here[uid]) for uids in noted.values() for uid in uids))
    return tally


def _failure(job: Object, failed: int, running: list[Object], view: View, plan: Plan) -> tuple[str, str] | None:
    """Give reason and message of a Job that is not to go on."""
    spec, limit = job["spec"], int(job["spec"].get("backoffLimit", 6))
    if spec.get("completionMode") == "Indexed":
        return "NotInLab", "leptonami lab: Jobs of completionMode Indexed are not run"
    restarts = sum(
        each.get("restartCount", 0)
        for pod in running
        for each in (pod.get("status") or {}).get("containerStatuses") or ()
    )
    again = spec["template"]["spec"].get("restartPolicy") == "OnFailure"
    if failed > limit or (again and restarts and restarts >= limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline, since = spec.get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if deadline is not None and since and not spec.get("suspend"):
        left = deadline - view.age(since)
        if left <= 0:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        plan.look(left)
    return None


def _fill(plan: Plan, view: View, job: Object, pods: list[Object], wanted: int) -> None:
    running = active(pods)
    _drop(plan, sorted(running, key=is_ready)[: max(0, len(running) - wanted)])
    if len(running) >= wanted:
        return
    ends = [end for pod in pods if phase(pod) == "Failed" and (end := _ended(pod))]
    if ends:
        left = min(BACKOFF_S * 2 ** min(len(ends) - 1, 10), BACKOFF_MAX_S) - view.age(max(ends, key=epoch))
        if left > 0:
            plan.look(left)
            return
    new = pod_of(job, job["spec"]["template"], _labels(job))
    new["metadata"]["finalizers"] = [*new["metadata"].get("finalizers", ()), TRACKING]
    plan.do(*[Create("pods", new, MADE)] * min(wanted - len(running), BURST))


def _drop(plan: Plan, pods: list[Object]) -> None:
    """Remove pods that are not to count as failed."""
    for pod in pods:
        plan.do(*([released(pod)] if _tracked(pod) else []), Delete("pods", pod, REMOVED))


def _ended(pod: Object) -> str:
    """Give the time at which the last container of a pod ended."""
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [((each.get("state") or {}).get("terminated") or {}).get("finishedAt") for each in states]
    return max(filter(None, ends), default="") or str(pod["metadata"].get("creationTimestamp") or "")


def _condition(kind: str, status: str, reason: str, message: str, view: View) -> Object:
    now = view.stamp()
    about = {"type": kind, "status": status, "reason": reason, "message": message}
    return {**about, "lastProbeTime": now, "lastTransitionTime": now}


def _suspended(plan: Plan, conditions: list[Object], suspended: bool, view: View) -> list[Object]:
    old = next((each for each in conditions if each["type"] == "Suspended"), None)
    if suspended == ((old or {}).get("status") == "True"):
        return conditions
    word = "suspended" if suspended else "resumed"
    plan.do(Tell("Suspended" if suspended else "Resumed", f"Job {word}"))
    others = [each for each in conditions if each is not old]
    status = "True" if suspended else "False"
    return [*others, _condition("Suspended", status, f"Job{word.capitalize()}", f"Job {word}", view)]


def _clean(plan: Plan, job: Object, pods: list[Object], view: View) -> None:
    """Let go of the pods of a Job that is over, and remove the Job when its time has come."""
    plan.do(*(released(pod) for pod in pods if _tracked(pod) and (finished(pod) or leaving(pod) or leaving(job))))
    running, keep = active(pods), job["spec"].get("ttlSecondsAfterFinished")
    if leaving(job):
        return
    plan.do(*(Delete("pods", pod, REMOVED) for pod in running))
    plan.status("jobs", job, {"active": None, "ready": 0, "terminating": None, "uncountedTerminatedPods": {}})
    ends = [condition(job, kind).get("lastTransitionTime") for kind in ("Complete", "Failed")]
    if keep is not None and (end := max(filter(None, ends), default="")):
        left = int(keep) - view.age(end)
        if left > 0:
            plan.look(left)
        else:
            plan.do(Delete("jobs", job))


def stray(pod: Object, view: View) -> bool:
    """Tell whether a pod still holds the finalizer of a Job that is gone."""
    reference = controller_of(pod)
    if not _tracked(pod):
        return False
    return reference is None or (
        reference["kind"] == "Job" and view.get("jobs", pod["metadata"]["namespace"], reference["name"]) is None
    )
