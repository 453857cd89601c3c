"""Deployment configurations as values, with the defaults of Azure's; one class for each kind of target."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class ComputeType(StrEnum):
    """The kinds of targets, by Azure's names: this machine, a device of the fleet, and Kubernetes."""

    LOCAL = "Local"
    DEVICE = "ACI"
    KUBERNETES = "AKS"


class Auth(StrEnum):
    """What callers show: nothing, one of two keys, or a token."""

    NONE = "none"
    KEY = "key"
    TOKEN = "token"  # noqa: S105 - a name, no secret


@dataclass(frozen=True)
class LocalDeployment:
    """On this machine: the ``port``, a free one without."""

    port: int | None = None
    compute_type: ComputeType = field(default=ComputeType.LOCAL, init=False)

    @property
    def port_asked(self) -> int | None:
        """The port, where it is not the target's to choose."""
        return self.port

    @property
    def auth(self) -> Auth:
        """Nothing: it answers this machine alone."""
        return Auth.NONE


@dataclass(frozen=True)
class Tls:
    """The files of a certificate with its full chain and of its key, in PEM, and the name that it is for."""

    certificate: Path
    key: Path
    name: str | None = None


@dataclass(frozen=True)
class DeviceDeployment:
    """On a device of the fleet: processors, GB of memory, what callers show, TLS and its host name."""

    cpu: float = 0.1
    memory_gb: float = 0.5
    auth: Auth = Auth.NONE
    tls: Tls | None = None
    host_name: str | None = None
    port: int | None = None
    collect_data: bool = False
    compute_type: ComputeType = field(default=ComputeType.DEVICE, init=False)

    @property
    def port_asked(self) -> int | None:
        """The port, where it is not the target's to choose."""
        return self.port


@dataclass(frozen=True)
class Autoscale:
    """From ``min_replicas`` to ``max_replicas``, so that the processors are used to ``target_utilization`` percent."""

    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: int = 70
    refresh_seconds: int = 1


@dataclass(frozen=True)
class Probe:
    """How the life of a container is tried; times in seconds."""

    period_seconds: int = 10
    initial_delay_seconds: int = 310
    timeout_seconds: int = 2
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True)
class KubernetesDeployment:
    """On Kubernetes: ``replicas``, or how they grow by themselves; times in milliseconds as Azure has them."""

    cpu: float = 0.1
    memory_gb: float = 0.5
    cpu_limit: float | None = None
    memory_gb_limit: float | None = None
    gpu: int = 0
    replicas: int | None = None
    autoscale: Autoscale | None = field(default_factory=Autoscale)
    auth: Auth = Auth.KEY
    scoring_timeout_ms: int = 60000
    max_concurrent_requests: int = 1
    max_queue_wait_ms: int = 500
    probe: Probe = field(default_factory=Probe)
    namespace: str | None = None
    collect_data: bool = False
    compute_type: ComputeType = field(default=ComputeType.KUBERNETES, init=False)

    @property
    def port_asked(self) -> int | None:
        """None: every pod listens on the image's own."""
        return None


Deployment = LocalDeployment | DeviceDeployment | KubernetesDeployment
