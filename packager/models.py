"""The model registry: names, integer versions, and the layers that a registration makes, once.

A version number is given out by one statement in the database, so two registrations at the same time get two; a
registration that is killed leaves a gap in the numbers and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.names import ModelRef, check_model_name
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from packager.model_files import ModelFile, describe_files, entries_of, write_model_layers
from packager.onnx_file import check_onnx
from packager.paths import model_dir

_metadata = MetaData()
_names = Table(
    "model_names",
    _metadata,
    Column("name", String(255), primary_key=True),
    Column("last_version", Integer, nullable=False),
)
_models = Table(
    "models",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("framework", String(32), nullable=False),
    Column("framework_version", String(64)),
    Column("created", String(32), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("layers", JSON, nullable=False),
    Column("sample", JSON),
    Column("conversion", JSON),
    UniqueConstraint("name", "version"),
)


class ModelRegistry:
    """The registry in the database at ``url``, with its layers in ``store``."""

    def __init__(self, url: str, store: Store) -> None:
        self._store = store
        # No pool: a command is one short conversation, and a pooled connection would outlive a fork.
        self._engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 60})
        event.listen(self._engine, "connect", _durable_sqlite)
        with self._transaction() as connection:
            _metadata.create_all(connection)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise EdgepackError(
                f"the model registry cannot be used ({error.orig})",
                where=self._engine.url.database,
                hint="check the disk and the file's permissions",
            ) from error

    def register(
        self,
        name: str,
        path: Path,
        *,
        framework: Framework | None = None,
        framework_version: str | None = None,
        tags: Mapping[str, str] | None = None,
        sample_input: Path | None = None,
    ) -> Model:
        """Give ``path`` (a file or folder) the next version of ``name`` and make its layers.

        Raises ``NotFoundError`` and ``UsageError`` for what is missing or wrong, before anything is written.
        """
        check_model_name(name)
        if framework is None and framework_version is not None:
            raise UsageError("a framework version needs a framework", hint="give --framework too")
        found = framework or (Framework.ONNX if path.suffix.lower() == ".onnx" else Framework.CUSTOM)
        entries_of(path, "check")
        if found is Framework.ONNX:
            check_onnx(onnx_file(path))
        sample = None if sample_input is None else self._keep_sample(sample_input)

        version = self._next_version(name)
        below = model_dir(name, version)
        entries = entries_of(path, below)
        model = Model(
            name, version, found, framework_version,
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), dict(tags or {}),
            describe_files(entries, below), write_model_layers(entries, self._store, f"{name}:{version}"), sample, None,
        )  # fmt: skip
        with self._transaction() as connection:
            connection.execute(insert(_models).values(_row(model)))
        return model

    def _keep_sample(self, path: Path) -> Sample:
        if not path.is_file():
            raise NotFoundError("there is no such file", where=path, hint="check --sample-input")
        return Sample(path.name, self._store.put_bytes(path.read_bytes(), "application/octet-stream"))

    def _next_version(self, name: str) -> int:
        with self._transaction() as connection:
            bump = update(_names).where(_names.c.name == name).values(last_version=_names.c.last_version + 1)
            if connection.execute(bump).rowcount == 0:
                connection.execute(insert(_names).values(name=name, last_version=1))
            found = connection.scalar(select(_names.c.last_version).where(_names.c.name == name))
        return int(found or 0)

    def get(self, ref: ModelRef) -> Model:
        """The model of that name and version, the latest when there is none; raises ``NotFoundError``."""
        wanted = select(_models).where(_models.c.name == ref.name)
        if ref.version is not None:
            wanted = wanted.where(_models.c.version == ref.version)
        with self._transaction() as connection:
            row = connection.execute(wanted.order_by(_models.c.version.desc()).limit(1)).mappings().first()
        if row is None:
            raise NotFoundError(f"there is no model {ref}", where="model registry", hint=self._suggestion(ref))
        return _model(row)

    def _suggestion(self, ref: ModelRef) -> str:
        with self._transaction() as connection:
            versions = connection.scalars(
                select(_models.c.version).where(_models.c.name == ref.name).order_by(_models.c.version)
            ).all()
            names = connection.scalars(select(_models.c.name).distinct().order_by(_models.c.name)).all()
        if versions:
            return f"its versions are {', '.join(map(str, versions))}"
        if names:
            return f"registered are {', '.join(names[:10])}"
        return "register one with: edgepack model register -n NAME -p PATH"

    def list(self, name: str | None = None) -> tuple[Model, ...]:
        """Every model, by name and version."""
        wanted = select(_models).order_by(_models.c.name, _models.c.version)
        if name is not None:
            wanted = wanted.where(_models.c.name == name)
        with self._transaction() as connection:
            return tuple(_model(row) for row in connection.execute(wanted).mappings())

    def save_conversion(self, model: Model, conversion: Conversion) -> Model:
        """Remember the ONNX form of ``model``."""
        value = {
            "key": conversion.key,
            "layers": [layer_to_json(layer) for layer in conversion.layers],
            "report": conversion.report.to_json(),
            "file": conversion.file,
        }
        with self._transaction() as connection:
            connection.execute(
                update(_models)
                .where(_models.c.name == model.name, _models.c.version == model.version)
                .values(conversion=value)
            )
        return self.get(ModelRef(model.name, model.version))

    def count(self) -> int:
        """How many versions of models there are."""
        with self._transaction() as connection:
            return int(connection.scalar(select(func.count()).select_from(_models)) or 0)


def _durable_sqlite(connection: Any, _record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")


def _row(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "framework": model.framework.value,
        "framework_version": model.framework_version,
        "created": model.created,
        "tags": dict(model.tags),
        "files": [[file.path, file.size, file.sha256] for file in model.files],
        "layers": [layer_to_json(layer) for layer in model.layers],
        "sample": model.sample and {"filename": model.sample.filename, "blob": model.sample.blob.to_json()},
    }


def _model(row: RowMapping) -> Model:
    sample, conversion = row["sample"], row["conversion"]
    return Model(
        row["name"],
        row["version"],
        Framework(row["framework"]),
        row["framework_version"],
        row["created"],
        row["tags"],
        tuple(ModelFile(*file) for file in row["files"]),
        tuple(layer_from_json(layer) for layer in row["layers"]),
        sample and Sample(sample["filename"], Descriptor.from_json(sample["blob"])),
        conversion
        and Conversion(
            conversion["key"],
            tuple(layer_from_json(layer) for layer in conversion["layers"]),
            Descriptor.from_json(conversion["report"]),
            conversion["file"],
        ),
    )
