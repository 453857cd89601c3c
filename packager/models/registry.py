"""The model registry: names, integer versions, and the layers that a registration makes, once.

A version number is assigned by one statement in the database, so two registrations at the same time get two; a killed
registration leaves a gap in the numbers, and blobs without a name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
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
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from converters.source.contents import check_model
from converters.source.onnx_file import check_onnx, external_files
from edgepack.errors import EdgepackError, NoSpaceError, NotFoundError, UsageError
from edgepack.names import ModelRef, check_model_name
from edgepack.nearness import did_you_mean, listed
from edgepack.oci.layer import Layer, LayerEntry
from edgepack.oci.store import Store
from packager.layers.folder import left_out_text, read_tree
from packager.layers.paths import model_dir
from packager.models.files import describe_files, framework_of, write_model_layers
from packager.models.model import (
    Conversion,
    Framework,
    Model,
    ModelFile,
    conversion_from_json,
    conversion_to_json,
    onnx_path,
    sample_from_json,
    sample_to_json,
)
from packager.models.samples import keep_sample

# A registration is one short transaction; a lock that is held longer than this belongs to a process that hangs.
_BUSY_SECONDS = 60

_log = logging.getLogger(__name__)
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
        self.store = store
        # No pool: a command is one short transaction, and a pooled connection would outlive a fork.
        self._engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(self._engine, "connect", _durable_sqlite)
        with self._transaction() as connection:
            for table in (_names, _models):
                connection.execute(CreateTable(table, if_not_exists=True))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            raise _explained(error, self._engine.url.database) from error

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

        Raises ``NotFoundError``, ``UsageError`` and, for a file that holds a credential, ``EdgepackError`` before
        anything is written; later ``NoSpaceError``, and ``UsageError`` for files that change meanwhile. Nothing is
        registered then.
        """
        check_model_name(name)
        if framework is None and framework_version is not None:
            raise UsageError("a framework version needs a framework", hint="give --framework too")
        found = framework or framework_of(path)
        tree = read_tree(path)
        entries = list(tree.entries)
        check_model(path, found.value)
        if found is Framework.ONNX:
            _check_onnx(path, entries)
        files = describe_files(entries, path, tree.kept)
        if tree.left_out:
            _log.info("%s: %s", path, left_out_text(tree.left_out))
        sample = None if sample_input is None else keep_sample(sample_input, self.store, "--sample-input")

        version = self._next_version(name)
        model = Model(
            name, version, found, framework_version, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), dict(tags or {}),
            files, write_model_layers(entries, files, model_dir(name, version), self.store, f"{name}:{version}"),
            sample, None,
        )  # fmt: skip
        with self._transaction() as connection:
            connection.execute(insert(_models).values(_row(model)))
        return model

    def _next_version(self, name: str) -> int:
        first = upsert(_names).values(name=name, last_version=1)
        next_one = first.on_conflict_do_update(
            index_elements=[_names.c.name], set_={"last_version": _names.c.last_version + 1}
        ).returning(_names.c.last_version)
        with self._transaction() as connection:
            return int(connection.execute(next_one).scalar_one())

    def get(self, ref: ModelRef) -> Model:
        """The model of that name and version, the latest without a version; raises ``NotFoundError``."""
        wanted = select(_models).where(_models.c.name == ref.name)
        if ref.version is not None:
            wanted = wanted.where(_models.c.version == ref.version)
        with self._transaction() as connection:
            row = connection.execute(wanted.order_by(_models.c.version.desc()).limit(1)).mappings().first()
        if row is None:
            raise NotFoundError(f"model {ref} not found", where="model registry", hint=self._suggestion(ref))
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
            return did_you_mean(ref.name, names, f"registered are {listed(names)}")
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
        with self._transaction() as connection:
            connection.execute(
                update(_models)
                .where(_models.c.name == model.name, _models.c.version == model.version)
                .values(conversion=conversion_to_json(conversion))
            )
        return self.get(ModelRef(model.name, model.version))


def _check_onnx(path: Path, entries: list[LayerEntry]) -> None:
    paths = [PurePosixPath(entry.path) for entry in entries if entry.kind != "dir"]
    main = PurePosixPath(onnx_path([entry.path for entry in entries if entry.kind == "file"], path))
    file = path.joinpath(*main.parts[1:])
    check_onnx(file)
    missing = sorted(name for name in external_files(file) if main.parent / name not in paths)
    if missing:
        raise UsageError(
            f"keeps weights in {', '.join(missing)}, which is not among the files", where=path,
            hint="register the folder that holds both",
        )  # fmt: skip


def _durable_sqlite(connection: Any, _record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        # A commit must survive a power cut, with the removal of the journal that makes it one (pragma "synchronous").
        connection.execute("PRAGMA synchronous=EXTRA")


def _explained(error: DatabaseError, where: str | None) -> EdgepackError:
    """The error that a failure of the database is, by the names of SQLite's result codes."""
    code = str(getattr(error.orig, "sqlite_errorname", ""))
    if code == "SQLITE_FULL":
        return NoSpaceError("no space left on the disk", where=where, hint="free some and run the same command again")
    hint = "check the disk and the file's permissions"
    if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        hint = "put a copy of it back, or move it away and register the models again"
    elif code.startswith("SQLITE_BUSY"):
        hint = "another command has it locked; run this one again"
    return EdgepackError(f"the model registry cannot be used ({error.orig})", where=where, hint=hint)


def _row(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "framework": model.framework.value,
        "framework_version": model.framework_version,
        "created": model.created,
        "tags": dict(model.tags),
        "files": [[file.path, file.size, file.sha256] for file in model.files],
        "layers": [layer.to_json() for layer in model.layers],
        "sample": sample_to_json(model.sample),
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
        tuple(Layer.from_json(layer) for layer in row["layers"]),
        sample_from_json(sample),
        conversion and conversion_from_json(conversion),
    )
