"""The service configuration: service.json (schema `edgepack.service/v1`), then the environment, then flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from scoring.errors import ConfigurationError, MissingFileError
from scoring.fields import Fields, read_document
from scoring.logs import LEVELS

SCHEMA = "edgepack.service/v1"
DEFAULT_PORT = 5001
DEFAULT_BODY_BYTES = 100 * 1024 * 1024  # what the specification's front end accepts


@dataclass(frozen=True)
class ModelPlace:
    """Where a served model is: `folder` (absolute) holds `file` and, if there is one, its manifest."""

    name: str
    version: int
    folder: Path
    file: str

    @property
    def path(self) -> Path:
        """The model file itself."""
        return self.folder / self.file


@dataclass(frozen=True)
class Limits:
    """What a client may ask for; sizes in bytes."""

    body_bytes: int = DEFAULT_BODY_BYTES


@dataclass(frozen=True)
class ServiceConfig:
    """Everything that the server needs to know before it starts. Port 0 lets the system choose one."""

    models: tuple[ModelPlace, ...]
    host: str
    port: int
    limits: Limits
    log_level: str


def load_config(path: Path, environment: Mapping[str, str]) -> ServiceConfig:
    """Read service.json; relative model paths count from its folder; the environment overrides it.

    Raises MissingFileError when the file or a model is not there, ConfigurationError naming the file and
    every field that breaks a rule.
    """
    path = path.absolute()
    fields = read_document(path, "service configuration", SCHEMA)
    models = tuple(_model(entry, path.parent) for entry in fields.objects("models"))
    if len(models) > 1:
        fields.complain("models", f"has {len(models)} entries; this server serves exactly one model")
    if fields.has("entry_script"):
        fields.complain("entry_script", "must be null: this server runs a model, not a script")
    host = fields.take("host", str, "0.0.0.0", required=False)  # noqa: S104 - a container's own address
    port = fields.take("port", int, DEFAULT_PORT, required=False)
    if not 0 <= port <= 65535:
        fields.complain("port", f"must be from 0 to 65535, not {port}")
    limits = fields.object("limits", required=False)
    body_bytes = limits.take("body_bytes", int, DEFAULT_BODY_BYTES, required=False)
    if body_bytes < 1:
        limits.complain("body_bytes", f"must be at least 1, not {body_bytes}")
    logging = fields.object("logging", required=False)
    level = logging.take("level", str, "info", required=False)
    if level not in LEVELS:
        logging.complain("level", f"must be one of {', '.join(LEVELS)}, not {level!r}")
    for part in (limits, logging, fields):
        part.reject_unknown()
    fields.finish()
    config = ServiceConfig(models, host, port, Limits(body_bytes), level)
    return override(config, environment)


def single_model(model: Path, environment: Mapping[str, str]) -> ServiceConfig:
    """The configuration of one ONNX file on a laptop: loopback only, unless told otherwise."""
    path = model.absolute()
    place = ModelPlace(name=path.stem, version=0, folder=path.parent, file=path.name)
    return override(ServiceConfig((place,), "127.0.0.1", DEFAULT_PORT, Limits(), "info"), environment)


def override(config: ServiceConfig, environment: Mapping[str, str]) -> ServiceConfig:
    """Apply EDGEPACK_HOST, EDGEPACK_PORT and EDGEPACK_LOG_LEVEL; empty ones count as absent.

    Raises ConfigurationError naming every variable that is wrong.
    """
    violations = []
    host = environment.get("EDGEPACK_HOST") or config.host
    port_text = environment.get("EDGEPACK_PORT") or str(config.port)
    port = parse_port(port_text)
    if port is None:
        violations.append(f"EDGEPACK_PORT must be a whole number from 0 to 65535, not {port_text!r}")
    level = (environment.get("EDGEPACK_LOG_LEVEL") or config.log_level).lower()
    if level not in LEVELS:
        violations.append(f"EDGEPACK_LOG_LEVEL must be one of {', '.join(LEVELS)}, not {level!r}")
    if port is None or violations:
        raise ConfigurationError("environment", violations)
    return replace(config, host=host, port=port, log_level=level)


def parse_port(text: str) -> int | None:
    """A TCP port in ASCII digits, or None when the text is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    port = int(text)
    return port if port <= 65535 else None


def check_models(config: ServiceConfig) -> None:
    """Raise MissingFileError when a configured model file is not there."""
    for model in config.models:
        if not model.path.is_file():
            raise MissingFileError(f"there is no model file at {model.path}; check the path")


def _model(fields: Fields, base: Path) -> ModelPlace:
    name = fields.take("name", str, "")
    version = fields.take("version", int, 0)
    folder = fields.take("path", str, "")
    file = fields.take("file", str, "")
    parts = PurePosixPath(file).parts
    if file and (not parts or PurePosixPath(file).is_absolute() or ".." in parts):
        fields.complain("file", f"must be a path inside of the model's folder, not {file!r}")
    fields.reject_unknown()
    return ModelPlace(name, version, base / folder, file)
