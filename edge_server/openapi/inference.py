"""The paths and schemas of the inference protocols, V2 and V1, for OpenAPI 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

_JSON = "application/json"
_OCTETS = "application/octet-stream"
_DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
_DATATYPES.append("BYTES")
_HEADER = "Inference-Header-Content-Length"


def inference_paths(models: Sequence[str], security: Mapping[str, Any]) -> dict[str, Any]:
    """The paths below /v1 and /v2 for models of these names; ``security`` is put into what is guarded."""
    name = _parameter("name", "The model.", {"type": "string", "example": models[0]})
    version = _parameter("version", "Its version.", {"type": "string", "pattern": "^[0-9]{1,9}$"})
    paths: dict[str, Any] = {
        "/v2": _get("ServerMetadata", "Name and version of the server.", "ServerMetadata", security),
        "/v2/health/live": _health("ServerLive", "Whether the server is alive."),
        "/v2/health/ready": _health("ServerReady", "Whether the server is ready for requests."),
    }
    for prefix, parameters, suffix in (
        ("/v2/models/{name}", [name], ""),
        ("/v2/models/{name}/versions/{version}", [name, version], "Version"),
    ):
        described = _get(f"Model{suffix}Metadata", "Inputs and outputs of the model.", "ModelMetadata", security)
        ready = _get(f"Model{suffix}Ready", "Whether the model is ready.", "ModelReady", security)
        ready["get"]["responses"]["503"] = _answer("The model is not ready.", "ModelReady")
        configured = _get(f"Model{suffix}Config", "The model's configuration.", "ModelConfig", security)
        for path in (described, ready, configured):
            path["get"]["responses"] |= {"404": _answer("There is no such model.", "InferenceError")}
            path["parameters"] = parameters
        paths[prefix] = described
        paths[f"{prefix}/ready"] = ready
        paths[f"{prefix}/config"] = configured
        paths[f"{prefix}/infer"] = {**_infer(f"Model{suffix}Infer", security), "parameters": parameters}
    paths["/v1/models"] = _get("V1Models", "The names of the models.", "V1Models", security)
    for prefix, parameters, suffix in (
        ("/v1/models/{name}", [name], ""),
        ("/v1/models/{name}/versions/{version}", [name, version], "Version"),
    ):
        status = _get(f"V1Model{suffix}", "Whether the model is available.", "V1Model", security)
        paths[prefix] = {**status, "parameters": parameters}
        paths[f"{prefix}:predict"] = {**_predict(f"V1Model{suffix}Predict", security), "parameters": parameters}
    return paths


def inference_schemas() -> dict[str, Schema]:
    """The protocol's objects by name, in OpenAPI 3.0's words."""
    text: Schema = {"type": "string"}
    texts: Schema = {"type": "array", "items": text}
    shape: Schema = {"type": "array", "items": {"type": "integer", "format": "int64"}}
    datatype: Schema = {"type": "string", "enum": _DATATYPES}
    parameters: Schema = {"type": "object"}
    data: Schema = {"type": "array", "items": {}, "description": "values in row-major order, nested or flat"}
    described = _object(["name", "datatype", "shape"], name=text, datatype=datatype, shape=shape)
    tensors: Schema = {"type": "array", "items": described}
    given = _object(
        ["name", "shape", "datatype"], name=text, shape=shape, datatype=datatype, parameters=parameters, data=data
    )
    return {
        "InferenceRequest": _object(
            ["inputs"],
            id=text,
            parameters=parameters,
            inputs={"type": "array", "items": given, "minItems": 1},
            outputs={"type": "array", "items": _object(["name"], name=text, parameters=parameters)},
        ),
        "InferenceResponse": _object(
            ["model_name", "outputs"],
            model_name=text,
            model_version=text,
            id=text,
            parameters=parameters,
            outputs={"type": "array", "items": given},
        ),
        "InferenceError": _object(["error"], error=text),
        "ModelConfig": _object(["name", "platform", "max_batch_size", "input", "output"], name=text, platform=text),
        "V1Models": _object(["models"], models=texts),
        "V1Model": _object(["name", "ready"], name=text, ready={"type": "boolean"}),
        "V1Request": {
            "oneOf": [
                _object(["instances"], instances={"type": "array", "items": {}}, signature_name=text),
                _object(["inputs"], inputs={}, signature_name=text),
            ]
        },
        "V1Response": {
            "oneOf": [_object(["predictions"], predictions={"type": "array", "items": {}}), _object(["outputs"])]
        },
        "ServerMetadata": _object(["name", "version", "extensions"], name=text, version=text, extensions=texts),
        "ServerHealth": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "ModelReady": _object(["name", "ready"], name=text, ready={"type": "boolean"}),
        "ModelMetadata": _object(
            ["name", "platform", "inputs", "outputs"],
            name=text,
            versions=texts,
            platform=text,
            inputs=tensors,
            outputs=tensors,
        ),
    }


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


def _infer(operation: str, security: Mapping[str, Any]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    description = f"Binary tensors follow the JSON; {_HEADER} says how long that is."
    answered = _answer("The outputs.", "InferenceResponse")
    answered["content"] |= {_OCTETS: binary}
    return {
        "post": {
            "operationId": operation,
            "description": "Run the model.",
            **security,
            "requestBody": {
                "description": description,
                "required": True,
                "content": {_JSON: {"schema": _reference("InferenceRequest")}, _OCTETS: binary},
            },
            "responses": {"200": answered, "default": _answer("The request was refused.", "InferenceError")},
        }
    }


def _predict(operation: str, security: Mapping[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {_JSON: {"schema": _reference("V1Request")}}}
    answers = {
        "200": _answer("The predictions, or the outputs by name.", "V1Response"),
        "default": _answer("The request was refused.", "InferenceError"),
    }
    told = {"operationId": operation, "description": "Run the model.", **security}
    return {"post": {**told, "requestBody": body, "responses": answers}}


def _get(operation: str, description: str, schema: str, security: Mapping[str, Any]) -> dict[str, Any]:
    responses = {"200": _answer("It is there.", schema), "default": _answer("It was refused.", "InferenceError")}
    return {"get": {"operationId": operation, "description": description, **security, "responses": responses}}


def _health(operation: str, description: str) -> dict[str, Any]:
    responses = {"200": _answer("Yes.", "ServerHealth"), "503": _answer("No.", "ServerHealth")}
    return {"get": {"operationId": operation, "description": description, "responses": responses}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": _reference(schema)}}}


def _parameter(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
