"""Environment variables that override service.json: ours, and those of the specification's server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge_server.config.nearness import not_one_of
from edge_server.config.service_file import AUTH_MODES, REQUEST_LOGS
from edge_server.config.values import LEVELS, Auth, Cors, ScriptConfig, ServiceConfig, Tls
from edge_server.errors import ConfigurationError


def override(config: ServiceConfig, environment: Mapping[str, str]) -> ServiceConfig:
    """Apply the variables to ``config``; empty ones count as absent.

    Ours: EDGEPACK_HOST, EDGEPACK_PORT, EDGEPACK_LOG_LEVEL, EDGEPACK_LOG_REQUESTS, EDGEPACK_WORKERS,
    EDGEPACK_PROCESSES, EDGEPACK_THREADS, EDGEPACK_MEMORY_BYTES, EDGEPACK_COLLECTION, EDGEPACK_AUTH_MODE,
    EDGEPACK_AUTH_FILE, EDGEPACK_TLS_CERTIFICATE, EDGEPACK_TLS_KEY, EDGEPACK_QUEUE_MS, EDGEPACK_GRACE_SECONDS,
    EDGEPACK_SOURCE_DIRECTORY. The specification's: SERVICE_NAME, SERVICE_VERSION, SERVICE_PATH_PREFIX,
    SCORING_TIMEOUT_MS, WORKER_COUNT, AML_APP_ROOT, AML_CORS_ORIGINS.

    Raises ConfigurationError naming every variable that is wrong.
    """
    reader = _Reader(environment)
    limits, runtime, script, identity = config.limits, config.runtime, config.script, config.identity
    timeout = reader.number("SCORING_TIMEOUT_MS", 1, 10**12)
    if timeout is not None:
        limits = replace(limits, scoring_seconds=timeout / 1000)
    queue = reader.number("EDGEPACK_QUEUE_MS", 0, 10**12)
    if queue is not None:
        limits = replace(limits, queue_seconds=queue / 1000)
    grace = reader.number("EDGEPACK_GRACE_SECONDS", 0, 10**9)
    if grace is not None:
        limits = replace(limits, grace_seconds=float(grace))
    workers = reader.number("EDGEPACK_WORKERS", 1, 256) or reader.number("WORKER_COUNT", 1, 256)
    if workers is not None and script is not None:
        script = replace(script, workers=workers)
    threads = reader.number("EDGEPACK_THREADS", 1, 1024)
    runtime = replace(
        runtime,
        threads=threads or runtime.threads,
        processes=reader.number("EDGEPACK_PROCESSES", 1, 256) or runtime.processes,
        memory_bytes=reader.number("EDGEPACK_MEMORY_BYTES", 1, 1 << 62) or runtime.memory_bytes,
    )
    if threads is not None and script is not None:
        script = replace(script, threads=threads)
    root = config.root
    if (source := reader.path("EDGEPACK_SOURCE_DIRECTORY", None)) is not None:
        script, root = _moved(reader, script, source), source.parent
    identity = replace(
        identity,
        name=reader.text("SERVICE_NAME", identity.name),
        version=reader.text("SERVICE_VERSION", identity.version),
        path_prefix=reader.text("SERVICE_PATH_PREFIX", identity.path_prefix),
    )
    collection = config.collection
    if folder := environment.get("EDGEPACK_COLLECTION"):
        collection = replace(collection, folder=Path(folder))
    origins = _origins(environment.get("AML_CORS_ORIGINS", ""))
    port = reader.number("EDGEPACK_PORT", 0, 65535)
    logging = replace(
        config.logging,
        level=reader.one_of("EDGEPACK_LOG_LEVEL", config.logging.level, LEVELS),
        requests=reader.one_of("EDGEPACK_LOG_REQUESTS", config.logging.requests, REQUEST_LOGS),
    )
    auth, tls = _auth(reader, config.auth), _tls(reader, config.tls)
    if reader.violations:
        raise ConfigurationError("environment", reader.violations)
    return replace(
        config,
        host=reader.text("EDGEPACK_HOST", config.host),
        port=config.port if port is None else port,
        root=Path(reader.text("AML_APP_ROOT", str(root))),
        script=script,
        limits=limits,
        runtime=runtime,
        identity=identity,
        logging=logging,
        collection=collection,
        cors=Cors(tuple(origins), "AML_CORS_ORIGINS") if origins else config.cors,
        auth=auth,
        tls=tls,
    )


def _origins(text: str) -> list[str]:
    """The origins in a list; a host alone, which the specification's server accepts too, means both schemes."""
    found: list[str] = []
    for origin in filter(None, map(str.strip, text.split(","))):
        is_whole = "://" in origin or origin in ("*", "null")
        found += [origin] if is_whole else [f"https://{origin}", f"http://{origin}"]
    return found


def _moved(reader: _Reader, script: ScriptConfig | None, source: Path) -> ScriptConfig | None:
    """The script of another copy of its source directory, which is in the folder ``source``."""
    if script is None:
        reader.violations.append("EDGEPACK_SOURCE_DIRECTORY is for an entry script, and the configuration has none")
    elif not source.is_absolute() or not source.is_dir():
        reader.violations.append(f"EDGEPACK_SOURCE_DIRECTORY must be the path of a folder, not {str(source)!r:.200}")
    else:
        return replace(script, file=source / script.file.relative_to(script.folder), folder=source)
    return script


def _auth(reader: _Reader, auth: Auth) -> Auth:
    mode = reader.one_of("EDGEPACK_AUTH_MODE", auth.mode, AUTH_MODES)
    own = reader.path("EDGEPACK_AUTH_FILE", None)
    if mode == "none" and own is not None:
        # A file of keys with authentication off is almost certainly a mistake.
        reader.violations.append("EDGEPACK_AUTH_MODE must be key or token where EDGEPACK_AUTH_FILE is set")
    elif mode in AUTH_MODES and mode != "none" and (own or auth.file) is None:
        reader.violations.append(f"EDGEPACK_AUTH_FILE must name a file where EDGEPACK_AUTH_MODE is {mode!r}")
    return Auth(mode, own or auth.file)


def _tls(reader: _Reader, tls: Tls | None) -> Tls | None:
    certificate = reader.path("EDGEPACK_TLS_CERTIFICATE", None if tls is None else tls.certificate)
    key = reader.path("EDGEPACK_TLS_KEY", None if tls is None else tls.key)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        reader.violations.append("EDGEPACK_TLS_CERTIFICATE and EDGEPACK_TLS_KEY must be set together")
        return None
    return Tls(certificate, key)


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.violations: list[str] = []

    def text(self, name: str, fallback: str) -> str:
        return self._environment.get(name) or fallback

    def path(self, name: str, fallback: Path | None) -> Path | None:
        text = self._environment.get(name)
        return Path(text) if text else fallback

    def number(self, name: str, least: int, most: int) -> int | None:
        text = self._environment.get(name)
        if not text:
            return None
        value = whole_number(text)
        if value is None or not least <= value <= most:
            self.violations.append(f"{name} must be a whole number from {least} to {most}, not {text!r:.60}")
            return None
        return value

    def one_of(self, name: str, fallback: str, values: tuple[str, ...]) -> str:
        value = (self._environment.get(name) or fallback).lower()
        if value not in values:
            self.violations.append(f"{name} {not_one_of(value, values)}")
        return value


def whole_number(text: str) -> int | None:
    """The number that the text is in ASCII digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
