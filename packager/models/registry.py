"""The model registry: names, integer versions, and the layers that a registration makes, once.

A version number is assigned by one statement in the database, so two registrations at the same time get two; a killed
registration leaves a gap in the numbers, and blobs without a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef
from edgepack.nearness import did_you_mean, listed
from edgepack.oci.store import Store
from packager.database.connection import Connection
from packager.database.database import Database
from packager.database.tables import MODELS, SHARED_BLOBS
from packager.models.model import Conversion, Model, Resources, conversion_to_json, resources_to_json, sample_to_json
from packager.models.query import ModelQuery
from packager.models.rows import model_of, row_of
from packager.models.selection import rows_of
from packager.models.sharing import Shared, Sharing

if TYPE_CHECKING:
    from packager.models.details import ModelDetails

_KIND = "model"


class ModelRegistry:
    """The registry in ``database``, with its layers in ``store``; ``sharing`` gives them to a team."""

    def __init__(self, database: Database, store: Store, sharing: Sharing | None = None) -> None:
        self.store = store
        self._database = database
        self._sharing = sharing

    def register(
        self,
        name: str,
        path: Path | Sequence[Path],
        details: ModelDetails | None = None,
        *,
        child_paths: Sequence[str] = (),
        sample_input: Path | None = None,
        sample_output: Path | None = None,
        progress: Progress = unseen,
    ) -> Model:
        """Give ``path`` (a file, a folder, or several of them) the next version of ``name`` and make its layers.

        Of a folder only ``child_paths`` where any are given. Raises ``NotFoundError``, ``UsageError`` and, for a file
        that holds a credential, ``EdgepackError`` before anything is written; later ``NoSpaceError``, and
        ``UsageError`` for files that change meanwhile. Nothing is registered then.
        """
        from packager.models.registering import registered

        def next_version() -> int:
            return self._database.next_version(_KIND, name)

        model = registered(
            name, path, details, next_version, self.store,
            child_paths=child_paths, sample_input=sample_input, sample_output=sample_output, progress=progress,
        )  # fmt: skip
        shared = None if self._sharing is None else self._sharing.share(model)
        with self._database.writing() as connection:
            _remember(connection, shared)
            connection.insert(MODELS, [row_of(model)])
        return model

    def get(self, ref: ModelRef) -> Model:
        """The model of that name and version, the latest without a version; raises ``NotFoundError``."""
        with self._database.reading() as connection:
            return _read(connection, ref)

    def list(self, query: ModelQuery | None = None) -> tuple[Model, ...]:
        """The models that ``query`` means, all without one, by name and version."""
        query = query or ModelQuery()
        with self._database.reading() as connection:
            wanted, values = rows_of(query, connection.dialect)
            found = connection.select(MODELS, wanted, *values)
        rows = [row for row in found if query.matches(row["tags"], row["properties"])]
        if query.latest:
            rows = list({row["name"]: row for row in rows}.values())
        return tuple(model_of(row) for row in rows)

    def save_conversion(self, model: Model, conversion: Conversion) -> Model:
        """Remember the ONNX form of ``model``."""
        shared = None if self._sharing is None else self._sharing.share_conversion(model, conversion)
        with self._database.writing() as connection:
            _remember(connection, shared)
            connection.update(MODELS, {"conversion": conversion_to_json(conversion)}, _key(model))
        return self.get(model.ref)

    def update(
        self,
        ref: ModelRef,
        *,
        add_tags: Mapping[str, str] | None = None,
        remove_tags: Sequence[str] = (),
        add_properties: Mapping[str, str] | None = None,
        description: str | None = None,
        resources: Resources | None = None,
        sample_input: Path | None = None,
        sample_output: Path | None = None,
    ) -> Model:
        """Change what may change of a model, or add properties; all of it or nothing.

        Raises ``NotFoundError`` for a model or tag that is not there, ``UsageError`` for a tag that breaks a rule and
        for a property that is there with another value: properties never change.
        """
        from packager.layers.secrets import check_record
        from packager.models.details import label_violations, resource_violations, text_violations
        from packager.models.samples import keep_file, keep_sample

        sample = None if sample_input is None else keep_sample(sample_input, self.store, "--sample-input")
        expected = None if sample_output is None else keep_file(sample_output, self.store, "--sample-output")
        with self._database.writing() as connection:
            model = _read(connection, ref)
            for key in remove_tags:
                if key not in model.tags:
                    hint = did_you_mean(key, model.tags, f"it has {listed(sorted(model.tags)) or 'none'}")
                    raise NotFoundError(f"has no tag {key!r}", where=f"model {model.id}", hint=hint)
            tags = {key: value for key, value in model.tags.items() if key not in remove_tags} | dict(add_tags or {})
            properties = {**(add_properties or {}), **model.properties}
            for key, value in (add_properties or {}).items():
                if properties[key] != value:
                    raise UsageError(
                        f"its property {key!r} is {properties[key]!r} and properties do not change",
                        where=f"model {model.id}", hint="use a tag for what changes",
                    )  # fmt: skip
            for wrong in (
                *label_violations("tag", tags),
                *label_violations("property", properties),
                *text_violations(description, "description"),
                *resource_violations(resources or Resources()),
            ):
                raise wrong
            values: dict[str, object] = {"tags": tags, "properties": properties}
            if description is not None:
                values["description"] = description or None
            if resources is not None:
                values["resources"] = resources_to_json(resources)
            if sample is not None:
                values["sample"] = sample_to_json(sample)
            if expected is not None:
                values["sample_output"] = sample_to_json(expected)
            check_record(values, f"model {model.id}")
            connection.update(MODELS, values, _key(model))
            return _read(connection, model.ref)

    def delete(self, ref: ModelRef) -> Model:
        """Remove a model's record and return what it was; its blobs stay until they are collected.

        Its version number is never given again. Raises ``NotFoundError``.
        """
        with self._database.writing() as connection:
            model = _read(connection, ref)
            connection.delete(MODELS, _key(model))
            return model


def _remember(connection: Connection, shared: Shared | None) -> None:
    """Record where a team has blobs."""
    if shared is not None:
        connection.insert(SHARED_BLOBS, shared.rows(), is_missing=True)


def _key(model: Model) -> dict[str, object]:
    return {"name": model.name, "version": model.version}


def _read(connection: Connection, ref: ModelRef) -> Model:
    version, values = ("", (ref.name,)) if ref.version is None else ("AND version = ?", (ref.name, ref.version))
    found = connection.select(MODELS, f"WHERE name = ? {version} ORDER BY version DESC LIMIT 1", *values)
    if not found:
        hint = _suggestion(connection, ref)
        raise NotFoundError(f"model {ref} not found", where="model registry", hint=hint)
    return model_of(found[0])


def _suggestion(connection: Connection, ref: ModelRef) -> str:
    versions = connection.column("SELECT version FROM models WHERE name = ? ORDER BY version", ref.name)
    names = connection.column("SELECT DISTINCT name FROM models ORDER BY name")
    if versions:
        return f"its versions are {', '.join(map(str, versions))}"
    if names:
        return did_you_mean(ref.name, names, f"registered are {listed(names)}")
    return "register one with: edgepack model register -n NAME -p PATH"
