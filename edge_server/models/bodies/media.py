"""Bodies of /score that are not JSON: raw tensors, .npy files and images, where the model has one input to fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_server.errors import BadRequest
from edge_server.models.bodies.images import TYPES, Layout, read_image

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array, Reader
    from edge_server.models.files.manifest import InputSpec

_BYTES = "application/octet-stream"
_NPY = "application/x-npy"
# What clients send that set no type: it is read as JSON.
_TAKEN_FOR_JSON = {"", "application/json", "text/plain", "text/json", "application/x-www-form-urlencoded"}


def is_json(content_type: bytes) -> bool:
    """Whether a body of that type is read as JSON."""
    name = _name(content_type)
    return name in _TAKEN_FOR_JSON or name.endswith("+json")


class Media:
    """Fills the single input of a model from a body; ``types`` are the media types, none for several inputs."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        needed = [reader for reader in readers.values() if not reader.spec.optional]
        self._reader = needed[0] if len(needed) == 1 else None
        self._layout = None if self._reader is None else Layout.of(self._reader.spec)
        types: tuple[str, ...] = ()
        if self._reader is not None:
            types = (_NPY,) if self._reader.spec.dtype == "string" else (_BYTES, _NPY)
            types += TYPES if self._layout is not None else ()
        self.types = types

    @property
    def spec(self) -> InputSpec | None:
        """The input that is filled."""
        return None if self._reader is None else self._reader.spec

    def read(self, content_type: bytes, body: bytes, query: str) -> tuple[dict[str, Array], str | None]:
        """The array by input name, and the method that the query names.

        The query may have ``shape`` for raw tensors and ``scale`` for images, too. Raises BadRequest 415 for a type
        that the model does not take, 400 for a body that does not fit.
        """
        kind = _name(content_type)
        if self._reader is None or kind not in self.types:
            taken = ", ".join(("application/json", *self.types))
            raise BadRequest(f"content type {kind!r:.80} is not supported; the model takes {taken}", 415)
        options = _options(query)
        array = self._array(kind, body, options, self._reader)
        return {self._reader.spec.name: array}, options.get("method")

    def _array(self, kind: str, body: bytes, options: Mapping[str, str], reader: Reader) -> Array:
        if self._layout is not None and kind in TYPES:
            return read_image(body, reader.spec, self._layout, options.get("scale"))
        from edge_server.models.bodies import raw

        if kind == _NPY:
            return reader.cast(raw.read_npy(body, reader.spec))
        return raw.read_bytes(body, reader.spec, options.get("shape"))


def _name(content_type: bytes) -> str:
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def _options(query: str) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise BadRequest(f"the query cannot be read: {error}") from None
