"""A cluster of Kubernetes, by ``kubectl`` and server-side apply."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgepack.errors import RuntimeFailedError, UsageError
from packager.exports.kubernetes import Cluster, objects
from packager.exports.secrets import Credentials, secret_objects
from packager.exports.workload import Workload
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.kubectl import Kubectl
from packager.services.targets.pod_states import observed

_MANAGER = "edgepack"
# What a service may have in a cluster, as its labels tell.
_KINDS = (
    "deployments.apps,services,serviceaccounts,configmaps,secrets,horizontalpodautoscalers.autoscaling,"
    "poddisruptionbudgets.policy,networkpolicies.networking.k8s.io"
)
_POLL_SECONDS = 1.0
# A node that is to be started for a pod needs longer; the cluster goes on trying meanwhile.
_UNSCHEDULABLE_SECONDS = 60.0


@dataclass(frozen=True)
class Patience:
    """How long a state may last before it is taken for an answer; ``clock`` and ``sleep`` are the machine's."""

    unschedulable_seconds: float = _UNSCHEDULABLE_SECONDS
    poll_seconds: float = _POLL_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class KubernetesTarget:
    """The namespace that ``kubectl`` names.

    ``workload`` gives what a service is as exports write it, ``send`` has its image in the registry from then on, and
    ``credentials`` are its keys and certificate, where the workstation has them; ``pull_secret`` names a login that the
    namespace has.
    """

    def __init__(
        self,
        kubectl: Kubectl,
        workload: Callable[[Service], Workload],
        send: Callable[[Service], None],
        credentials: Callable[[Service], Credentials] = lambda _: Credentials(),
        patience: Patience | None = None,
        pull_secret: str | None = None,
    ) -> None:
        self._kubectl = kubectl
        self._workload = workload
        self._send = send
        self._credentials = credentials
        self._patience = patience or Patience()
        self._pull_secret = pull_secret

    def settle(self, service: Service) -> Service:
        """See ``ServiceTarget``: the cluster answers, and lets its user deploy."""
        self._workload(service).image  # noqa: B018 - raises where no registry has it
        self._kubectl.check_cluster()
        return service

    def apply(self, service: Service) -> Observation:
        """See ``ServiceTarget``: undone when it fails."""
        there = self._send_objects(service)
        seen = self._wait(service)
        if seen.state is State.HEALTHY:
            return seen
        # Its former pods answer still; no new ones are to be tried for ever. The reason is told in any case.
        left = there and not self._kubectl.succeeds("rollout", "undo", f"deployment/{service.name}")
        note = " (the Deployment could not be set back)" if left else ""
        raise RuntimeFailedError(
            f"{seen.state}: {seen.reason}{note}", where=f"service {service.name}",
            hint=f"see: edgepack service logs {service.name}",
        )  # fmt: skip

    def begin(self, service: Service, lock: int) -> Observation:
        """See ``ServiceTarget``: the cluster goes on by itself."""
        self._send_objects(service)
        return self.observe(service)

    def _send_objects(self, service: Service) -> bool:
        """By server-side apply, which leaves what others manage; returns whether it was there before."""
        workload, credentials = self._workload(service), self._credentials(service)
        self._check_secrets(workload, credentials)
        self._send(service)
        there = bool(self._kubectl.objects("deployments.apps", service.name))
        cluster = Cluster(self._kubectl.namespace, self._pull_secret)
        documents = [*secret_objects(workload, credentials, cluster.namespace), *objects(workload, cluster).values()]
        self._kubectl.run(
            "apply", "--server-side", "--force-conflicts", f"--field-manager={_MANAGER}", "--validate=false",
            "--filename=-", data=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}),
        )  # fmt: skip
        return there

    def _wait(self, service: Service) -> Observation:
        """Until it is healthy, or will not be by itself."""
        since: float | None = None
        while True:
            seen = self.observe(service)
            if seen.state in (State.HEALTHY, State.FAILED, State.DELETED):
                return seen
            if seen.state is not State.UNSCHEDULABLE:
                since = None
            elif since is None:
                since = self._patience.clock()
            elif self._patience.clock() - since >= self._patience.unschedulable_seconds:
                return seen
            self._patience.sleep(self._patience.poll_seconds)

    def _check_secrets(self, workload: Workload, credentials: Credentials) -> None:
        given = {"auth": credentials.auth, "tls": credentials.tls}
        for kind, _ in workload.mounted:
            name = f"{workload.name}-{kind}"
            if not given[kind] and not self._kubectl.objects("secrets", name):
                raise UsageError(
                    f"needs the secret {name}, which the namespace does not have", where=f"service {workload.name}",
                    hint="make it as SECRETS.md says, which is written by: edgepack export kubernetes",
                )  # fmt: skip

    def observe(self, service: Service) -> Observation:
        """See ``ServiceTarget``."""
        found = self._kubectl.objects("deployments.apps", service.name)
        pods = self._kubectl.objects("pods", f"--selector=app.kubernetes.io/instance={service.name}") if found else []
        return observed(found[0] if found else None, pods)

    def observations(self, services: Sequence[Service]) -> list[Observation]:
        """See ``ServiceTarget``."""
        return [self.observe(one) for one in services]

    def logs(self, service: Service, lines: int = 5000) -> str:
        """See ``ServiceTarget``: of all replicas."""
        return "".join(f"{line}\n" for line in self._lines(service, f"--tail={lines}"))

    def follow(self, service: Service, lines: int = 0) -> Iterator[str]:
        """See ``ServiceTarget``."""
        return self._lines(service, f"--tail={lines}", "--follow")

    def _lines(self, service: Service, *words: str) -> Iterator[str]:
        selector = f"--selector=app.kubernetes.io/instance={service.name}"
        return self._kubectl.lines("logs", selector, "--max-log-requests=50", *words)

    def delete(self, service: Service) -> None:
        """See ``ServiceTarget``: what has our label, so that nothing of others is removed."""
        labels = f"app.kubernetes.io/instance={service.name},app.kubernetes.io/managed-by={_MANAGER}"
        self._kubectl.run("delete", _KINDS, f"--selector={labels}", "--ignore-not-found", "--wait=false")

    def address(self, service: Service) -> str | None:
        """See ``ServiceTarget``: inside of the cluster; a route from outside is made by an export."""
        scheme = "https" if self._workload(service).tls else "http"
        return f"{scheme}://{service.name}.{self._kubectl.namespace or 'default'}.svc"
