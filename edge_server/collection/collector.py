"""``azureml.monitoring.ModelDataCollector``, which writes to the local ring instead of the cloud."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from edge_server.collection.layout import WORKSPACE, correlations, file_path, utc_now
from edge_server.collection.ring import Ring
from edge_server.collection.writer import Rows, Writer
from edge_server.config.values import Collection
from edge_server.telemetry.logs import request_id

_log = logging.getLogger(__name__)

SETTINGS = "EDGEPACK_WORKER_COLLECTION"
# The documented name, and the one that Azure's server reads.
_SWITCHES = ("AML_MODEL_DC_STORAGE_ENABLED", "AML_MDC_STORAGE_ENABLED")
_OWN_NAMES = ("signals", "general")  # designations whose file has a name of its own

_lock = threading.Lock()
_writers: dict[str, Writer | None] = {}


class ModelDataCollector:
    """Collects rows of one model under one designation: ``inputs``, ``predictions``, ``labels``, ``signals`` or
    ``general``.

    ``feature_names`` are the columns of lists and arrays; a frame brings its own. ``collection_name`` names the file of
    ``signals`` and ``general``; the others have their designation, for which ``identifier`` is an older word.
    Does nothing where collection is off or its folder cannot be written, which is logged once.
    """

    def __init__(
        self,
        model_name: str,
        designation: str = "default",
        feature_names: Sequence[str] | None = None,
        workspace: str = WORKSPACE,
        webservice_name: str = "default",
        model_version: str = "default",
        collection_name: str = "default",
        *,
        identifier: str | None = None,
    ) -> None:
        settings: dict[str, Any] = orjson.loads(os.environ.get(SETTINGS, "{}"))
        self.model_name = model_name
        self.designation = designation = identifier or designation
        self.feature_names = list(feature_names) if feature_names is not None else None
        self.workspace = workspace
        self.webservice_name = _known(webservice_name, settings.get("service"))
        self.model_version = _known(str(model_version), settings.get("versions", {}).get(model_name))
        self._file = collection_name if designation in _OWN_NAMES else designation
        self._writer = _writer(settings)

    def collect(self, input_data: Any, user_correlation_id: str = "") -> dict[str, str]:
        """Queue rows, and return the correlations of this call; an empty dictionary where nothing is collected.

        A flat list or array is one row, a nested one has a row for each item. ``inputs`` get the correlations' columns.
        The data is read at once, so that the script may change it afterwards.
        """
        writer = self._writer
        if writer is None:
            _tell_once()
            return {}
        now = utc_now()
        request = request_id.get() or _identifier()
        found = correlations(
            self.workspace,
            self.webservice_name,
            self.model_name,
            self.model_version,
            user_correlation_id or _identifier(),
            request,
            now,
        )
        header, rows = _table(input_data, self.feature_names)
        if self.designation == "inputs" and "$aml_dc_correlation_id" not in header:
            header = [*header, *found]
            more = list(found.values())
            rows = [[*row, *more] for row in rows]
        path = file_path(
            self.workspace,
            self.webservice_name,
            self.model_name,
            self.model_version,
            self.designation,
            self._file,
            now,
        )
        size = 24 * sum(map(len, rows))
        writer.put(Rows(lambda: [(path, header, rows)], size, len(rows)))
        return found

    def add_correlations(self, input_data: Any, correlations: Mapping[str, str] | None) -> Any:
        """Return the data with the columns of ``correlations``, as ``collect`` has returned them.

        Lists and arrays become lists with the values after each row, frames a new frame with the columns at the end.
        """
        if not correlations:
            return input_data
        if _is_frame(input_data):
            return input_data.assign(**correlations)
        rows = _table(input_data, None)[1]
        return _Correlated([*row, *correlations.values()] for row in rows).of(list(correlations))


class _Correlated(list[Any]):
    """Rows whose last columns are correlations, so that their header is known when they are collected."""

    names: list[str]

    def of(self, names: list[str]) -> _Correlated:
        self.names = names
        return self


def _table(data: Any, names: list[str] | None) -> tuple[list[Any], list[list[Any]]]:
    """Header and rows of a script's data."""
    if _is_frame(data):
        return list(data.columns), [list(row) for row in data.itertuples(index=False, name=None)]
    if hasattr(data, "toPandas"):  # a frame of Spark
        return _table(data.toPandas(), names)
    more = data.names if isinstance(data, _Correlated) else []
    values = data.tolist() if hasattr(data, "tolist") else list(data) if isinstance(data, (list, tuple)) else [data]
    nested = bool(values) and all(isinstance(item, (list, tuple)) for item in values)
    rows = [list(row) for row in values] if nested else [list(values)] if values else []
    width = max(map(len, rows), default=0) - len(more)
    header = [names[i] if names is not None and i < len(names) else str(i) for i in range(width)]
    return [*header, *more], rows


def _is_frame(data: Any) -> bool:
    """Whether it is a frame of pandas, found without importing pandas."""
    return hasattr(data, "itertuples") and hasattr(data, "columns")


def _known(given: str, configured: Any) -> str:
    return given if given != "default" or configured is None else str(configured)


def _identifier() -> str:
    import uuid

    return str(uuid.uuid4())


def _writer(settings: Mapping[str, Any]) -> Writer | None:
    """The process's writer for the configured folder; None where collection is off."""
    folder = settings.get("folder", "")
    if not _switched_on(bool(folder)):
        return None
    with _lock:
        if not folder and folder not in _writers:
            _log.warning("nothing is collected: the environment asks for it, but collection.folder is not configured")
            _writers[folder] = None
        if folder not in _writers:
            quota = int(settings.get("quota_bytes", Collection().quota_bytes))
            try:
                _writers[folder] = Writer(Ring(Path(folder), quota))
            except OSError as error:
                _log.warning("nothing is collected: %s cannot be written (%s)", folder, error.strerror)
                _writers[folder] = None
        return _writers[folder]


def _tell_once() -> None:
    """Warn once that rows are dropped, unless the environment switches collection off or a warning was logged."""
    with _lock:
        if _writers or any(name in os.environ for name in _SWITCHES):
            return
        _writers[""] = None
    _log.warning("nothing is collected: collection.folder is not configured")


def _switched_on(configured: bool) -> bool:
    """The environment's setting by one of Azure's names, else whether a folder is configured."""
    said = [os.environ[name].strip().lower() for name in _SWITCHES if name in os.environ]
    return any(word in ("true", "1") for word in said) if said else configured
