"""Large tables of numbers, read piece by piece.

The JSON parser blocks the interpreter until it is done, two seconds for 100 MB, and its lists take ten times the body's
memory. Piece by piece, other threads can run, and only the array is kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import orjson

from edge_server.config.sizes import SIZES
from edge_server.errors import BadRequest

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array, Reader

# Below this size, reading at once is short and takes little memory.
LARGE_BYTES = SIZES.large_body
_PIECE = SIZES.piece
_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*\[')
_TAIL = re.compile(rb"\]\s*\}\s*\Z")
_TAIL_BYTES = 64


def read_rows(body: bytes, reader: Reader) -> Array | None:
    """The table of a body ``{"data": [[…], …]}`` that holds no text; None where it is another one, or invalid. An
    invalid one has to be read whole, for an error that names the row.
    """
    head = _HEAD.match(body)
    tail = _TAIL.search(body, max(0, len(body) - _TAIL_BYTES))
    # The quotes of "data" are the only ones, so no bracket is in a text, and there is no other field.
    if head is None or tail is None or body.count(b'"') != 2:
        return None
    position, end = head.end(), tail.start()
    arrays = []
    while position < end:
        # In a table, a bracket and a comma are the end of a row. In anything deeper the piece is not a table.
        cut = body.find(b"],", min(position + _PIECE, end), end)
        until = end if cut < 0 else cut + 1
        try:
            rows = orjson.loads(b"".join((b"[", memoryview(body)[position:until], b"]")))
            # A plain list alone is a table of one column; beside rows it is not.
            if not rows or type(rows[0]) is not list:
                return None
            arrays.append(reader.read(rows))
        except (orjson.JSONDecodeError, BadRequest):
            return None
        position = until + 1
    # A piece of a table of any width may have another width; after a last comma nothing may be missing.
    if position == end or len({array.shape[1:] for array in arrays}) != 1:
        return None
    return np.concatenate(arrays)
