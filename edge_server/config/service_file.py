"""Reads service.json (schema ``edgepack.service/v1``) into a ServiceConfig.

docs/reference/service.md lists every field; a test holds it to what is read here.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from edge_server.config.fields import Fields, read_document
from edge_server.config.values import (
    DEFAULT_PORT,
    LEVELS,
    MANIFEST_FILE,
    Auth,
    Batching,
    Collection,
    Cors,
    Identity,
    Limits,
    Logging,
    ModelPlace,
    Runtime,
    ScriptConfig,
    ServiceConfig,
    Tls,
)
from edge_server.errors import ConfigurationError, MissingFileError

SCHEMA = "edgepack.service/v1"
_CONVERTED = "model.onnx"
AUTH_MODES = ("none", "key", "token")
REQUEST_LOGS = ("all", "errors", "none")


def load_config(path: Path) -> ServiceConfig:
    """Read service.json; relative paths count from its folder.

    Raises MissingFileError when the file is not there, ConfigurationError naming the file and every field that
    breaks a rule.
    """
    path = path.absolute()
    base = path.parent.resolve()
    fields = read_document(path, "service configuration", SCHEMA)
    script = _script(fields, base)
    entries = list(fields.objects("models", required=script is None))
    models = tuple(_model(entry, base) for entry in entries)
    _check_models(fields, entries, models, script)
    config = ServiceConfig(
        models=models,
        host=fields.take("host", str, "0.0.0.0", required=False),  # noqa: S104 - a container's own address
        port=_at_least(fields, "port", DEFAULT_PORT, 0, 65535),
        script=script,
        root=_from(base, fields.take("root", str, "/var/azureml-app", required=False)),
        limits=_limits(fields),
        runtime=_runtime(fields),
        tls=_tls(fields, base),
        auth=_auth(fields, base),
        cors=Cors(_strings(fields.object("cors", required=False), "origins")),
        logging=_logging(fields),
        collection=_collection(fields, base),
        identity=_identity(fields, base, models),
        metrics=fields.take("metrics", bool, True, required=False),
        docs=fields.take("docs", bool, True, required=False),
    )
    fields.reject_unknown()
    fields.finish()
    return config


def single_model(model: Path, called: str | None = None) -> ServiceConfig:
    """The configuration of one ONNX file on a laptop; the address is loopback by default.

    A folder stands for its ``model.onnx``, or for the only .onnx file in it; ConfigurationError where it has neither.
    The model is ``called`` so, or as its file, and a converted one as its folder, which may be ``<name>/<version>``.
    """
    path = model.absolute()
    if path.is_dir():
        path = _only_model(path)
    # What a conversion writes has the same file's name in every folder.
    is_converted = path.name == _CONVERTED and (path.parent / MANIFEST_FILE).is_file()
    name, version = (is_converted and path.parent.name) or path.stem, 0
    if is_converted and name.isascii() and name.isdecimal() and path.parent.parent.name:
        name, version = path.parent.parent.name, int(name)  # <name>/<version>, as in images
    name = called or name
    place = ModelPlace(name=name, version=version, folder=path.parent, file=path.name)
    return ServiceConfig((place,), "127.0.0.1", root=path.parent, identity=Identity(name=name))


def single_script(script: Path, model: Path | None, source: Path | None = None) -> ServiceConfig:
    """The configuration of one entry script on a laptop, with the file or folder that it takes its model from.

    ``source`` is the folder that its imports are looked for in, else that of the script; a relative script may count
    from there. As with the specification's server, the application's root is the current folder.
    """
    path = script.absolute()
    if source is not None:
        if not source.is_dir():
            raise MissingFileError(f"there is no source directory at {source}; check the path")
        source = source.absolute()
        path = path if path.exists() else source / script
    if path.is_dir():
        raise ConfigurationError("--entry-script", [f"{path} is a folder; name a .py file in it"])
    return ServiceConfig(
        () if model is None else (_place_of(Path(os.path.normpath(model.absolute()))),),
        "127.0.0.1",
        script=ScriptConfig(path, source or path.parent),
        root=Path.cwd(),
        identity=Identity(name=path.stem),
    )


def _place_of(model: Path) -> ModelPlace:
    """A model in ``azureml-models/<name>/<version>`` has that name and version.

    Any other is called as the specification's local deployment calls what was never registered: by the first 30
    characters of its file's or folder's name, version 0.
    """
    folder, file = (model, "") if model.is_dir() else (model.parent, model.name)
    if folder.parent.parent.name == "azureml-models" and folder.name.isascii() and folder.name.isdecimal():
        return ModelPlace(folder.parent.name, int(folder.name), folder, file)
    return ModelPlace(model.name[:30], 0, folder, file, is_folder=not file)


def _only_model(folder: Path) -> Path:
    usual = folder / _CONVERTED
    found = [usual] if usual.is_file() else [path for path in folder.glob("*.onnx") if path.is_file()]
    if len(found) != 1:
        raise ConfigurationError("--model", [f"{folder} is a folder; name an .onnx file in it"])
    return found[0]


def check_files(config: ServiceConfig) -> None:
    """Raise MissingFileError when a configured model or script is not there."""
    for model in config.models:
        if not (model.path.exists() if config.script is not None else model.path.is_file()):
            raise MissingFileError(f"there is no model file at {model.path}; check the path")
    if config.script is not None and not config.script.file.is_file():
        raise MissingFileError(f"there is no entry script at {config.script.file}; check the path")


def _model(fields: Fields, base: Path) -> ModelPlace:
    name = fields.take("name", str, "")
    version = fields.take("version", int, 0)
    folder = fields.take("path", str, "")
    file = fields.take("file", str, "", required=False)
    _check_inside(fields, "file", file)
    pinned = fields.take("pinned", bool, False, required=False)
    fields.reject_unknown()
    return ModelPlace(name, version, _from(base, folder), file, pinned)


def _check_models(
    fields: Fields, entries: list[Fields], models: tuple[ModelPlace, ...], script: ScriptConfig | None
) -> None:
    known: set[str] = set()
    for position, (entry, model) in enumerate(zip(entries, models, strict=True)):
        if script is None and entry.values.get("file") in (None, ""):
            fields.add_violation(f"models[{position}].file", "is missing; it must be a string")
        # A name or version of a wrong kind is a violation already.
        if entry.values.get("name") != model.name or entry.values.get("version") is not model.version:
            continue
        if model.id in known:
            fields.add_violation(f"models[{position}]", f"repeats {model.id}")
        known.add(model.id)


def _script(fields: Fields, base: Path) -> ScriptConfig | None:
    """``entry_script`` is the file, or an object with the file and how it is run."""
    value = fields.values.get("entry_script")
    if isinstance(value, str):
        fields.has("entry_script")
        file = base / value
        return ScriptConfig(file, file.parent)
    if not fields.has("entry_script"):
        return None
    part = fields.object("entry_script")
    default = ScriptConfig(base, base)
    folder = _from(base, part.take("source_directory", str, ".", required=False))
    file_name = part.take("file", str, "")
    _check_inside(part, "file", file_name)
    script = ScriptConfig(
        file=folder / file_name,
        folder=folder,
        workers=_at_least(part, "workers", default.workers, 1, 256),
        threads=_at_least(part, "threads", default.threads, 1, 256),
        concurrency=_at_least(part, "concurrency", default.concurrency, 1, 100_000),
        start_seconds=_seconds(part, "start_seconds", default.start_seconds),
    )
    part.reject_unknown()
    return script


def _limits(fields: Fields) -> Limits:
    part = fields.object("limits", required=False)
    default = Limits()
    limits = Limits(
        body_bytes=_at_least(part, "body_bytes", default.body_bytes, 1),
        header_bytes=_at_least(part, "header_bytes", default.header_bytes, 1024),
        held_bytes=_at_least(part, "held_bytes", default.held_bytes, 1),
        connections=_at_least(part, "connections", default.connections, 1),
        request_seconds=_seconds(part, "request_seconds", default.request_seconds),
        idle_seconds=_seconds(part, "idle_seconds", default.idle_seconds),
        queue=_at_least(part, "queue", default.queue, 1),
        queue_seconds=_seconds(part, "queue_seconds", default.queue_seconds),
        scoring_seconds=_seconds(part, "scoring_seconds", default.scoring_seconds),
        drain_seconds=_seconds(part, "drain_seconds", default.drain_seconds, zero=True),
        grace_seconds=_seconds(part, "grace_seconds", default.grace_seconds, zero=True),
    )
    part.reject_unknown()
    return limits


def _runtime(fields: Fields) -> Runtime:
    part = fields.object("runtime", required=False)
    batching = part.object("batching", required=False)
    default = Batching()
    runtime = Runtime(
        threads=_at_least(part, "threads", 0, 0, 1024),
        processes=_at_least(part, "processes", 1, 1, 256),
        memory_bytes=_at_least(part, "memory_bytes", 1, 1) if part.has("memory_bytes") else None,
        batching=Batching(
            enabled=batching.take("enabled", bool, default.enabled, required=False),
            window_seconds=_seconds(batching, "window_seconds", default.window_seconds, zero=True),
            rows=_at_least(batching, "rows", default.rows, 1),
        ),
    )
    batching.reject_unknown()
    part.reject_unknown()
    return runtime


def _tls(fields: Fields, base: Path) -> Tls | None:
    if not fields.has("tls"):
        return None
    part = fields.object("tls")
    tls = Tls(base / part.take("certificate", str, ""), base / part.take("key", str, ""))
    part.reject_unknown()
    return tls


def _auth(fields: Fields, base: Path) -> Auth:
    part = fields.object("auth", required=False)
    mode = part.one_of("mode", "none", AUTH_MODES)
    file = base / part.take("file", str, "", required=mode != "none") if mode != "none" or part.has("file") else None
    part.reject_unknown()
    return Auth(mode, file)


def _logging(fields: Fields) -> Logging:
    part = fields.object("logging", required=False)
    default = Logging()
    logging = Logging(
        level=part.one_of("level", default.level, LEVELS),
        requests=part.one_of("requests", default.requests, REQUEST_LOGS),
    )
    part.reject_unknown()
    return logging


def _collection(fields: Fields, base: Path) -> Collection:
    if not fields.has("collection"):
        return Collection()
    part = fields.object("collection")
    default = Collection()
    collection = Collection(
        folder=base / part.take("folder", str, ""),
        quota_bytes=_at_least(part, "quota_bytes", default.quota_bytes, 64 * 1024),
        automatic=part.take("automatic", bool, default.automatic, required=False),
    )
    part.reject_unknown()
    return collection


def _identity(fields: Fields, base: Path, models: tuple[ModelPlace, ...]) -> Identity:
    part = fields.object("service", required=False)
    default = Identity()
    swagger = part.take("swagger", str, "", required=False)
    identity = Identity(
        name=part.take("name", str, models[0].name if len(models) == 1 else default.name, required=False),
        version=part.take("version", str, default.version, required=False),
        path_prefix=part.take("path_prefix", str, default.path_prefix, required=False),
        swagger=base / swagger if swagger else None,
    )
    if identity.path_prefix and not identity.path_prefix.startswith("/"):
        part.add_violation("path_prefix", f"must begin with '/', not {identity.path_prefix!r:.60}")
    part.reject_unknown()
    return identity


def _from(base: Path, given: str) -> Path:
    """The path relative to ``base``, without ``..``: scripts see it, and the specification's has none."""
    return Path(os.path.normpath(base / given))


def _check_inside(fields: Fields, field: str, file: str) -> None:
    parts = PurePosixPath(file).parts
    if file and (not parts or PurePosixPath(file).is_absolute() or ".." in parts):
        fields.add_violation(field, f"must be a path inside of its folder, not {file!r}")


def _at_least(fields: Fields, field: str, fallback: int, least: int, most: int | None = None) -> int:
    value = fields.take(field, int, fallback, required=False)
    if value < least or (most is not None and value > most):
        allowed = f"must be at least {least}" if most is None else f"must be from {least} to {most}"
        fields.add_violation(field, f"{allowed}, not {value}")
        return fallback
    return value


def _seconds(fields: Fields, field: str, fallback: float, *, zero: bool = False) -> float:
    value = float(fields.take(field, float, fallback, required=False))
    if not (0 <= value < float("inf")) or (value == 0 and not zero):
        fields.add_violation(field, f"must be {'0 or more' if zero else 'more than 0'} seconds, not {value:g}")
        return fallback
    return value


def _strings(fields: Fields, field: str) -> tuple[str, ...]:
    values = fields.strings(field, required=False) or ()
    fields.reject_unknown()
    return values
