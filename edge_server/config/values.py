"""The service configuration as values; ``service_file`` reads them from service.json and the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# What a conversion writes beside its model.onnx.
MANIFEST_FILE = "model.manifest.json"

DEFAULT_PORT = 5001
MIB = 1024 * 1024
# Levels of the log.
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class ModelPlace:
    """Where a served model is: ``folder`` (absolute) holds ``file`` and, if there is one, its manifest.

    ``file`` is empty for a model that only an entry script opens. A ``pinned`` model is loaded at the start and never
    leaves memory.
    """

    name: str
    version: int
    folder: Path
    file: str = ""
    pinned: bool = False
    is_folder: bool = False

    @property
    def path(self) -> Path:
        """The model file itself."""
        return self.folder / self.file

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class ScriptConfig:
    """An entry script: ``file`` is absolute, ``folder`` (its source directory) joins ``sys.path``.

    ``workers`` processes run it, each on ``threads`` threads; an ``async def run`` has ``concurrency`` calls at once in
    each worker instead. ``start_seconds`` is how long import and ``init()`` may take.
    """

    file: Path
    folder: Path
    workers: int = 1
    threads: int = 1
    concurrency: int = 64
    start_seconds: float = 600.0


@dataclass(frozen=True)
class Limits:
    """What clients may ask for and how long things may take; sizes in bytes, times in seconds.

    ``held_bytes`` is the limit for the bodies of all requests that are under way. ``queue`` requests may wait for a
    worker or a thread, each for ``queue_seconds`` at most; beyond that the answer is 503. ``scoring_seconds`` is how
    long one call may run. ``request_seconds`` is how long a client may take to send a request, ``idle_seconds`` how
    long a connection may wait for the next one. For ``drain_seconds`` after SIGTERM new requests are still accepted
    while the service is not ready; ``grace_seconds`` is how long requests that have begun may take then.
    """

    body_bytes: int = 100 * MIB  # what the specification's front end accepts
    header_bytes: int = 64 * 1024
    held_bytes: int = 512 * MIB
    connections: int = 1000
    request_seconds: float = 60.0
    idle_seconds: float = 75.0
    queue: int = 256
    queue_seconds: float = 30.0
    scoring_seconds: float = 3600.0  # SCORING_TIMEOUT_MS of the specification's server
    drain_seconds: float = 0.0
    grace_seconds: float = 30.0


@dataclass(frozen=True)
class Batching:
    """How concurrent requests are joined in one run: those of one turn of the event loop, or of ``window_seconds``.

    ``rows`` is the largest joined run.
    """

    enabled: bool = True
    window_seconds: float = 0.0
    rows: int = 1024


@dataclass(frozen=True)
class Runtime:
    """How models run. ``threads`` 0: as many as the container's CPU limit gives.

    ``processes`` share the port. ``memory_bytes`` is the budget for loaded models; None for no budget.
    """

    threads: int = 0
    processes: int = 1
    memory_bytes: int | None = None
    batching: Batching = field(default_factory=Batching)


@dataclass(frozen=True)
class Tls:
    """PEM files: the full chain, and its key; read again when they change."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Auth:
    """Who may send requests. ``mode`` is ``none``, ``key`` or ``token``; the file holds hashes of keys, or what
    verifies tokens.

    The file is read again when it changes.
    """

    mode: str = "none"
    file: Path | None = None


@dataclass(frozen=True)
class Cors:
    """Which other origins' pages may call; without any, no CORS headers are sent. ``*`` is any origin. ``source`` says
    where the origins are configured, for error messages.
    """

    origins: tuple[str, ...] = ()
    source: str = field(default="cors.origins of service.json", compare=False)


@dataclass(frozen=True)
class Logging:
    """``requests`` says which requests get a log line: ``all``, ``errors`` (status 400 and above) or ``none``."""

    level: str = "info"
    requests: str = "errors"


@dataclass(frozen=True)
class Collection:
    """Data collection to a ring of CSV files below ``folder``, of ``quota_bytes`` at most.

    ``automatic`` collects every request's inputs and outputs of models without code; scripts collect by themselves with
    ModelDataCollector. Off when ``folder`` is None.
    """

    folder: Path | None = None
    quota_bytes: int = 100 * MIB
    automatic: bool = False


@dataclass(frozen=True)
class Identity:
    """The service's name in descriptions, metrics and collected data."""

    name: str = "ML service"
    version: str = "1.0"
    path_prefix: str = ""
    swagger: Path | None = None


@dataclass(frozen=True)
class ServiceConfig:
    """Everything that the server needs to know before it starts. Port 0 lets the system choose one.

    ``root`` is the folder below which models are (``AML_APP_ROOT`` of the specification), ``models`` may be none beside
    a script.
    """

    models: tuple[ModelPlace, ...]
    host: str
    port: int = DEFAULT_PORT
    script: ScriptConfig | None = None
    root: Path = Path("/var/azureml-app")
    limits: Limits = field(default_factory=Limits)
    runtime: Runtime = field(default_factory=Runtime)
    tls: Tls | None = None
    auth: Auth = field(default_factory=Auth)
    cors: Cors = field(default_factory=Cors)
    logging: Logging = field(default_factory=Logging)
    collection: Collection = field(default_factory=Collection)
    identity: Identity = field(default_factory=Identity)
    metrics: bool = True
    docs: bool = True
