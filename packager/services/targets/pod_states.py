"""The state of a service on Kubernetes, by what the cluster says of its Deployment and pods; without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgepack.errors import InvalidReferenceError
from edgepack.oci.digest import Digest
from packager.services.states import State
from packager.services.targets.base import Observation

_NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_NOT_MADE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASHES = "CrashLoopBackOff"
# docs/reference/service.md: the script cannot be imported, or its init() failed.
_SCRIPT_FAILED = 5
_KILLED = 137
# Which of several pods says most: the first of these.
_ORDER = (State.FAILED, State.UNSCHEDULABLE, State.UNHEALTHY, State.TRANSITIONING)
_Object = Mapping[str, Any]


def observed(deployment: _Object | None, pods: Sequence[_Object]) -> Observation:
    """How the service of ``deployment`` is, of which ``pods`` has all, those of earlier versions too."""
    if deployment is None:
        return Observation(State.DELETED)
    image = _digest(deployment["spec"]["template"]["spec"])
    newest = [one for one in pods if _digest(one.get("spec") or {}) == image and not _ends(one)]
    if _is_complete(deployment):
        return Observation(State.HEALTHY, None, image)
    conditions = {one["type"]: one for one in _of(deployment, "conditions", [])}
    found = sorted((_of_pod(one) for one in newest), key=lambda one: _ORDER.index(one[0]))
    state, reason = found[0] if found else (State.TRANSITIONING, "no pod of it is there yet")
    failure, progress = conditions.get("ReplicaFailure", {}), conditions.get("Progressing", {})
    if failure.get("status") == "True":
        state, reason = State.UNSCHEDULABLE, f"no pod can be made: {_said(failure)}"
    elif progress.get("status") == "False" and state in (State.TRANSITIONING, State.UNHEALTHY):
        state, reason = State.FAILED, f"{reason or _said(progress)}, and its time to start is over"
    return Observation(state, reason, image)


def _is_complete(deployment: _Object) -> bool:
    """Whether all replicas are of the newest version and answer."""
    wanted = deployment["spec"].get("replicas", 1)
    is_seen = _of(deployment, "observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = [_of(deployment, name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas")]
    return bool(is_seen and wanted and counts == [wanted] * 3)


def _of_pod(pod: _Object) -> tuple[State, str | None]:
    for condition in _of(pod, "conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return State.UNSCHEDULABLE, f"no node takes the pod: {_said(condition)}"
    for status in _statuses(pod):
        found = _of_container(pod, status)
        if found is not None:
            return found
    return State.TRANSITIONING, "its pods are starting"


def _of_container(pod: _Object, status: _Object) -> tuple[State, str | None] | None:
    state = status.get("state") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _NOT_PULLED:
        return State.FAILED, f"the image cannot be pulled: {_said(waiting)}"
    if reason in _NOT_MADE:
        return State.FAILED, f"the container cannot be made: {_said(waiting)}"
    if reason == _CRASHES or state.get("terminated"):
        return State.FAILED, _end(pod, ended)
    if "running" not in state:
        return None
    if ended:
        return State.UNHEALTHY, f"it was started {status.get('restartCount', 1)} times again: {_end(pod, ended)}"
    if status.get("started") and not status.get("ready"):
        return State.UNHEALTHY, "it runs, and does not answer the probe of readiness"
    if not status.get("started", True):
        return State.TRANSITIONING, "it does not answer the probe of its start yet"
    return None


def _end(pod: _Object, ended: _Object) -> str:
    """Why a container ended, and what to do."""
    code = ended.get("exitCode")
    if ended.get("reason") == "OOMKilled":
        limits = [one.get("resources", {}).get("limits", {}).get("memory") for one in pod["spec"]["containers"]]
        return f"it needs more memory than its limit of {limits[0]}: raise memoryInGB"
    if code == _SCRIPT_FAILED:
        return "the entry script cannot be imported, or its init() failed: see its logs"
    if code == _KILLED:
        return "it was killed, as when it does not answer the probe of liveness: see its logs"
    return f"it has crashed with exit code {code}, did its init() fail? see its logs"


def _statuses(pod: _Object) -> Iterator[_Object]:
    yield from _of(pod, "initContainerStatuses", [])
    yield from _of(pod, "containerStatuses", [])


def _of(found: _Object, name: str, otherwise: Any) -> Any:
    return (found.get("status") or {}).get(name) or otherwise


def _said(condition: _Object) -> str:
    """What the cluster itself says, on one line."""
    return " ".join(str(condition.get("message") or condition.get("reason") or "no reason is given").split())


def _digest(spec: _Object) -> Digest | None:
    for container in spec.get("containers") or ():
        _, at, text = str(container.get("image", "")).partition("@")
        if at:
            try:
                return Digest.parse(text)
            except InvalidReferenceError:
                return None
    return None


def _ends(pod: _Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
