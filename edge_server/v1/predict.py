"""The bodies of ``:predict``: rows in ``instances`` or inputs by name in ``inputs``, answered in the same form.

The form is that of "RESTful API" of TensorFlow Serving, "Predict API", which is KServe's V1 protocol.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_server.errors import BadRequest
from edge_server.http.messages import Response
from edge_server.models.bodies.answers import dump
from edge_server.models.bodies.payload import load

if TYPE_CHECKING:
    from edge_server.models.running.call import ModelCall
    from edge_server.models.running.onnx_model import OnnxModel

_FIELDS = ("instances", "inputs", "signature_name")
_EXAMPLE = '{"instances": [[1, 2, 3]]}'
# What clients name that have no signatures to choose from.
_USUAL = (None, "", "serving_default")


def call(model: OnnxModel, body: bytes) -> ModelCall:
    """The call that a body asks for; BadRequest for what breaks the form, or does not fit the model."""
    document = load(body, _EXAMPLE)
    if b'"b64"' in body:
        document = _decoded(document)
    unknown = sorted(document.keys() - set(_FIELDS))
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r:.80}; a body has {', '.join(map(repr, _FIELDS))}")
    if ("instances" in document) == ("inputs" in document):
        raise BadRequest("the body must have either 'instances' or 'inputs'")
    method = document.get("signature_name")
    if method is not None and not isinstance(method, str):
        raise BadRequest("'signature_name' must be a string")
    method = None if method in _USUAL else method
    if "instances" in document:
        return model.call(_rows(model, document["instances"]), method, _by_row)
    return model.call(_columns(model, document["inputs"]), method, _by_name)


def _rows(model: OnnxModel, instances: Any) -> Any:
    if not isinstance(instances, list):
        raise BadRequest("'instances' must be a list")
    names = {spec.name for spec in model.inputs}
    if instances and all(isinstance(one, dict) and one.keys() <= names for one in instances):
        keys = set(instances[0])
        if any(one.keys() != keys for one in instances):
            raise BadRequest("all of 'instances' must have the same inputs")
        # An instance has an input's values without the axis of rows.
        return model.named({name: [one[name] for one in instances] for name in instances[0]})
    return model.rows(instances, "instances")


def _columns(model: OnnxModel, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model.named(inputs)
    only = model.only_input
    if only is None:
        raise BadRequest("'inputs' must be an object of input names and values: the model has several inputs")
    return model.named({only.name: inputs})


def _by_row(names: Sequence[str], values: Sequence[Any]) -> Response:
    if len(names) == 1:
        return Response(200, dump({"predictions": _listed(names[0], values[0])}))
    rows = [_listed(name, value) for name, value in zip(names, values, strict=True)]
    if len(set(map(len, rows))) > 1:
        raise BadRequest("the outputs have different numbers of rows; ask by 'inputs' in place of 'instances'")
    return Response(200, dump({"predictions": [dict(zip(names, row, strict=True)) for row in zip(*rows, strict=True)]}))


def _by_name(names: Sequence[str], values: Sequence[Any]) -> Response:
    return Response(200, dump({"outputs": values[0] if len(names) == 1 else dict(zip(names, values, strict=True))}))


def _listed(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) and not value.ndim:
        raise BadRequest(f"the output {name!r:.80} has no rows; ask by 'inputs' in place of 'instances'")
    found: Sequence[Any] = value
    return found


def _decoded(value: Any) -> Any:
    """The value with the texts in place of ``{"b64": …}``, the form for bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            text = (
                "is not base64" if isinstance(error, binascii.Error) else "is not UTF-8, and the engine's strings are"
            )
            raise BadRequest(f"a value of 'b64' {text}") from None
    return {key: _decoded(item) for key, item in value.items()}
