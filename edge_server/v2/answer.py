"""The answer to an inference: JSON, followed by the outputs that were requested as binary data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from edge_server.errors import BadRequest
from edge_server.http.messages import JSON, Response
from edge_server.v2 import datatypes, strings
from edge_server.v2.head import Wanted

_BINARY = b"application/octet-stream"


def write(
    name: str,
    version: str,
    request_id: str | None,
    wanted: Sequence[Wanted],
    values: Sequence[Any],
) -> Response:
    """The response of a run; ``values`` are the outputs' arrays in the order of ``wanted``.
    NaN and infinity are null in JSON. Raises BadRequest for FP16 as JSON, which the protocol does not have, and for
    what is not a tensor.
    """
    document: dict[str, Any] = {"model_name": name, "model_version": version}
    if request_id is not None:
        document["id"] = request_id
    outputs: list[dict[str, Any]] = []
    document["outputs"] = outputs
    parts: list[Any] = [b""]
    for output, value in zip(wanted, values, strict=True):
        datatype = datatypes.of(value.dtype) if isinstance(value, np.ndarray) else None
        if datatype is None:
            raise BadRequest(f"the output {output.name!r} has a type for which V2 has no datatype; use /score")
        tensor: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": value.shape}
        if output.binary:
            content = strings.join(value.flat) if datatype == "BYTES" else np.ascontiguousarray(value)
            size = value.nbytes if datatype != "BYTES" else len(content)
            tensor["parameters"] = {"binary_data_size": size}
            parts.append(content)
        elif datatype == "FP16":
            raise BadRequest(f"the output {output.name!r} is FP16, which can only be sent as binary data")
        else:
            # Row-major and flat, as Triton answers; orjson writes numpy's numbers, but not arrays of Python objects.
            tensor["data"] = value.ravel().tolist() if datatype == "BYTES" else value.ravel()
        outputs.append(tensor)
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(parts) == 1:
        return Response(200, header, JSON)
    parts[0] = header
    size = str(len(header)).encode()
    return Response(200, b"".join(parts), _BINARY, [(b"inference-header-content-length", size)])
