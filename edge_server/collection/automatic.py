"""Inputs and outputs of models without code, collected with every answer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

from edge_server.collection.layout import WORKSPACE, correlations, file_path
from edge_server.collection.ring import Ring
from edge_server.collection.writer import Part, Rows, Writer
from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.errors import ScoringError

# A row of more values is not written out, but described by its shape, such as an image.
MOST_COLUMNS = 1024


class Collector:
    """Writes the inputs and outputs of a model, with the same correlation."""

    def __init__(self, config: ServiceConfig) -> None:
        """Open the ring below ``config.collection.folder``; ScoringError when it cannot be written."""
        folder = config.collection.folder
        if folder is None:
            raise ScoringError("collection.folder is missing, and automatic collection needs one; name a folder")
        try:
            self._writer = Writer(Ring(folder, config.collection.quota_bytes))
        except OSError as error:
            raise ScoringError(
                f"collection.folder {folder} cannot be written ({error.strerror}); mount a folder that can be"
            ) from None
        self._service = config.identity.name
        # Correlates calls whose request's id is not known; cheaper than a UUID each.
        self._calls = (f"{os.urandom(8).hex()}-{number}" for number in itertools.count(1))

    def collect(
        self,
        place: ModelPlace,
        arrays: Mapping[str, Any],
        outputs: Sequence[str],
        values: Sequence[Any],
        request_id: str = "",
    ) -> None:
        """Queue a call's arrays, which must not change any more; the rows are made in the writer's thread.

        ``values`` are those of the ``outputs``: arrays or lists.
        """
        size = 512
        count = 1
        for value in (*arrays.values(), *values):
            size += 64 * len(value) if isinstance(value, list) else value.nbytes
            count = max(count, _length(value))
        now, name = time(), request_id or next(self._calls)
        self._writer.put(Rows(lambda: self._parts(place, now, name, arrays, outputs, values), size, count))

    def close(self) -> None:
        """Write the queued rows, for a few seconds at most."""
        self._writer.close()

    def _parts(
        self,
        place: ModelPlace,
        when: float,
        request_id: str,
        arrays: Mapping[str, Any],
        outputs: Sequence[str],
        values: Sequence[Any],
    ) -> Iterator[Part]:
        now, version = datetime.fromtimestamp(when, UTC), str(place.version)
        found = correlations(WORKSPACE, self._service, place.name, version, request_id, request_id, now)
        more = list(found.values())
        answered = dict(zip(outputs, values, strict=True))
        for designation, columns in (("inputs", arrays), ("predictions", answered)):
            path = file_path(WORKSPACE, self._service, place.name, version, designation, designation, now)
            count = max(map(_length, columns.values()), default=0)
            cells = [_cells(value, count) for value in columns.values()]
            header = [name for key, value in columns.items() for name in _names(key, value)]
            rows = [[*(cell for part in cells for cell in part[row]), *more] for row in range(count)]
            yield path, [*header, *found], rows


def _length(value: Any) -> int:
    """How many rows a value has."""
    return len(value) if isinstance(value, list) or value.ndim else 1


def _width(value: Any) -> int:
    """How many columns a row of the value has; 0 where its shape is written instead."""
    if isinstance(value, list) or value.ndim < 2:
        return 1
    width = 1
    for length in value.shape[1:]:
        width *= length
    return width if width <= MOST_COLUMNS else 0


def _names(key: str, value: Any) -> list[str]:
    width = _width(value)
    return [key] if width < 2 else [f"{key}_{position}" for position in range(width)]


def _cells(value: Any, count: int) -> list[list[Any]]:
    """A list of cells for each of ``count`` rows; a value of fewer rows leaves the rest empty."""
    width = _width(value)
    if isinstance(value, list):
        cells = [[item] for item in value]
    elif width == 0:
        cells = [[f"{value.dtype}{list(value.shape[1:])}"]] * len(value)
    else:
        cells = value.reshape(_length(value), width).tolist()
    return cells + [[None] * max(width, 1)] * (count - len(cells))
