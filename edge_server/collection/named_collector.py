"""``azureml.ai.monitoring.Collector``: data frames by the name of what they are, written to the local ring."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from edge_server.collection.collector import SETTINGS, ModelDataCollector

_log = logging.getLogger(__name__)

# What the names that the original documents are called in ours.
_DESIGNATIONS = {"model_inputs": "inputs", "model_outputs": "predictions"}


class CorrelationContext:
    """What ties the data of one call together."""

    def get_id(self) -> str:
        """The id that the rows carry."""
        return ""

    def __str__(self) -> str:
        return self.get_id()


class BasicCorrelationContext(CorrelationContext):
    """A context of an id, a time and headers, each made where it is not given."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - the original's name
        timestamp: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id or str(uuid.uuid4())
        self.timestamp = timestamp or int(time.time())
        self.headers = dict(headers or {})

    def get_id(self) -> str:
        """The id that the rows carry."""
        return self.id

    def get_timestamp(self) -> int:
        """Seconds since 1970."""
        return self.timestamp

    def get_headers(self) -> dict[str, str]:
        """The headers."""
        return self.headers


def get_context() -> CorrelationContext:
    """A new context."""
    return BasicCorrelationContext()


class Collector:
    """Collects data frames under ``name``: ``model_inputs``, ``model_outputs``, or one of the script's own.

    The rows belong to the service's only model, and to ``default`` where there are several. ``on_error`` is called with
    what goes wrong, which is logged without it: the answer does not wait for it.
    """

    def __init__(self, *, name: str, on_error: Callable[[Exception], Any] | None = None) -> None:
        versions = orjson.loads(os.environ.get(SETTINGS, "{}")).get("versions", {})
        model = next(iter(versions)) if len(versions) == 1 else "default"
        designation = _DESIGNATIONS.get(name, "general")
        self._collector = ModelDataCollector(model, designation, collection_name=name)
        self._on_error = on_error

    def collect(self, data: Any, correlation_context: CorrelationContext | None = None) -> CorrelationContext:
        """Queue the frame's rows, and return the context, a new one where none was given."""
        context = correlation_context or BasicCorrelationContext()
        try:
            if not hasattr(data, "itertuples"):
                raise TypeError(f"collect() takes a data frame, not {type(data).__name__}")
            self._collector.collect(data, context.get_id())
        except Exception as error:  # noqa: BLE001 - the script says what becomes of it
            if self._on_error is None:
                _log.error("nothing was collected: %s", error)
            else:
                self._on_error(error)
        return context
