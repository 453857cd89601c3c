"""A workload: everything that an export says of a service, as one value; no export asks anything else."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgepack.documents import canonical_json
from edgepack.errors import IncompatibleError, UsageError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.reference import Reference
from packager.exports.quantities import MIB

Auth = Literal["none", "key", "token"]
# Where a server finds what proves who may ask, and the certificate; folders that an export mounts.
AUTH_FOLDER = "/run/edgepack/auth"
TLS_FOLDER = "/run/edgepack/tls"
COLLECTION_FOLDER = "/var/lib/edgepack/collected"
AUTH_FILES: Mapping[str, str] = {"key": "keys.json", "token": "tokens.json"}
TLS_FILES = ("tls.crt", "tls.key")
# What the server's own limits.grace_seconds leaves a request after SIGTERM, unless it is told another number.
_GRACE = 30.0
# Until load balancers have heard that a pod ends.
DRAIN = 5
_USER = re.compile(r"([1-9][0-9]{0,9})(?::([0-9]{1,10}))?")
# RFC 1123: a label of a host's name, which names of Kubernetes' namespaces are.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Resources:
    """What a replica is given: ``cpus`` in cores, ``cpu_limit`` ``None`` for no limit, which would only slow it."""

    cpus: float = 0.1
    memory_bytes: int = 512 * MIB
    cpu_limit: float | None = None
    memory_limit_bytes: int | None = None
    gpus: int = 0

    @property
    def most_memory(self) -> int:
        """The limit: what is asked for, where no more is allowed."""
        return self.memory_limit_bytes or self.memory_bytes


@dataclass(frozen=True)
class Probe:
    """How a replica is watched: ``start_seconds`` it may take to answer for the first time."""

    start_seconds: int = 60
    period_seconds: int = 10
    timeout_seconds: int = 2
    successes: int = 1
    failures: int = 3


@dataclass(frozen=True)
class Scale:
    """Replicas between two numbers, by how many percent of the CPU asked for are used.

    Their number may double once in ``step_seconds``.
    """

    least: int = 1
    most: int = 10
    percent: int = 70
    step_seconds: int = 15


@dataclass(frozen=True)
class Workload:
    """A service as exports write it. ``repository`` is where ``digest`` is pulled from, ``None`` for nowhere.

    ``python`` is the interpreter inside, for a probe that is a program; ``env`` are settings and never credentials.
    ``scale`` and ``replicas`` exclude each other: with the one, the other says nothing.
    """

    name: str
    digest: Digest
    repository: str | None
    platforms: tuple[Platform, ...]
    models: tuple[str, ...] = ()
    package: str = ""
    version: str = ""
    user: int = 10001
    group: int = 10001
    python: str = "/usr/bin/python3"
    port: int = 5001
    host_port: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    probe: Probe = Probe()
    replicas: int = 1
    scale: Scale | None = None
    scoring_seconds: float = 60.0
    auth: Auth = "none"
    tls: bool = False
    collects: bool = False
    telemetry: bool = False
    host_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """The image by its digest; raises ``IncompatibleError`` where it is nowhere to be pulled from."""
        if self.repository is None:
            raise IncompatibleError(
                "no registry has the image, and its manifest must say where to pull it from", where=self.package,
                hint=f"push it with: edgepack package push {self.package} REGISTRY/REPOSITORY:TAG, and give"
                " --repository REGISTRY/REPOSITORY",
            )  # fmt: skip
        return f"{self.repository}@{self.digest}"

    @property
    def loaded(self) -> Workload:
        """Itself, as engines of this machine know an image that was loaded and is in no registry."""
        name = self.package.rpartition(":")[0]
        return replace(self, repository=self.repository or Reference.parse(name).name)

    @property
    def end_seconds(self) -> int:
        """How long a replica is given to end: until it gets no more requests, and then the longest request."""
        return DRAIN + math.ceil(max(self.scoring_seconds, _GRACE)) + 5

    @property
    def mounted(self) -> tuple[tuple[str, str], ...]:
        """What must be mounted of files with credentials, and where: ``auth``, ``tls``."""
        found = [("auth", AUTH_FOLDER)] if self.auth != "none" else []
        return tuple([*found, ("tls", TLS_FOLDER)] if self.tls else found)

    @property
    def settings(self) -> dict[str, str]:
        """The whole environment, without credentials: what the deployment asks for, and where files are mounted."""
        found = {"SERVICE_NAME": self.name, "SCORING_TIMEOUT_MS": str(round(self.scoring_seconds * 1000))}
        if self.scoring_seconds > _GRACE:
            found["EDGEPACK_GRACE_SECONDS"] = str(math.ceil(self.scoring_seconds))
        if self.auth != "none":
            found |= {
                "EDGEPACK_AUTH_MODE": self.auth,
                "EDGEPACK_AUTH_FILE": f"{AUTH_FOLDER}/{AUTH_FILES[self.auth]}",
            }
        if self.tls:
            found |= {
                "EDGEPACK_TLS_CERTIFICATE": f"{TLS_FOLDER}/{TLS_FILES[0]}",
                "EDGEPACK_TLS_KEY": f"{TLS_FOLDER}/{TLS_FILES[1]}",
            }
        if self.collects:
            found["EDGEPACK_COLLECTION"] = COLLECTION_FOLDER
        return {**found, **self.env}

    @property
    def least_replicas(self) -> int:
        """How many there are at least."""
        return self.scale.least if self.scale is not None else self.replicas


def replicas_for(requests_per_second: float, seconds: float, *, percent: int = 70, concurrency: int = 1) -> int:
    """How many replicas serve so many requests, each of which takes so long, as Azure computes it; at least one."""
    return max(1, math.ceil(requests_per_second * seconds / (percent / 100) / concurrency))


def numeric_user(text: str, package: str) -> tuple[int, int]:
    """User and group of an image as numbers, since Kubernetes cannot tell of a name that it is not root's."""
    match = _USER.fullmatch(text)
    if match is None:
        raise IncompatibleError(
            f"runs as the user {text or 'root'!r}, and clusters that are secured take numbers other than 0 alone",
            where=package, hint="build the image on a base of: edgepack base list",
        )  # fmt: skip
    return int(match[1]), int(match[2] or match[1])


def check_label(text: str, where: str) -> str:
    """``text`` when it may name a namespace or an object that something else makes; raises ``UsageError``."""
    if not _LABEL.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a name of Kubernetes", where=where,
            hint="use at most 63 lowercase letters, digits and '-', with a letter or digit at both ends",
        )  # fmt: skip
    return text


def content_hash(value: object) -> str:
    """Eight digits that change with ``value``, for a name."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:8]
