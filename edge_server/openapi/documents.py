"""The service's description as Swagger 2, OpenAPI 3.0 or 3.1."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from edge_server.config.values import ServiceConfig
from edge_server.openapi.dialects import translated
from edge_server.openapi.inference import inference_paths, inference_schemas
from edge_server.service import Description

# The values of `?version=`, and the version in the document.
VERSIONS: Mapping[str, str] = {"2": "2.0", "3": "3.0.3", "3.1": "3.1.0"}

_JSON = "application/json"
_HTML = "text/html"

# Texts of the specification's example.
_HEALTH = "Simple health check endpoint to ensure the service is up at any given point."
_HEALTHY = "If service is up and running, this response will be returned with the content 'Healthy'"
_RUN = "Run web service's model and get the prediction output"
_INPUT = "The input payload for executing the real-time machine learning service."
_OUTPUT = "The service processed the input correctly and provided a result prediction, if applicable."
_FAILED = "The service failed to execute due to an error."
_BEARER = "For example: Bearer abc123"
_ERROR: Mapping[str, Any] = {
    "type": "object",
    "properties": {"status_code": {"type": "integer", "format": "int32"}, "message": {"type": "string"}},
}

_QUERY: Mapping[str, tuple[str, dict[str, Any]]] = {
    "shape": ("Of a raw tensor, where the model leaves it open.", {"type": "string", "example": "1,3,224,224"}),
    "scale": ("What white is in an image.", {"type": "string", "enum": ["1", "255"], "default": "1"}),
}


def document(description: Description, config: ServiceConfig, version: str, model: str | None = None) -> dict[str, Any]:
    """The document of ``version``, one of VERSIONS; of one of several models where ``model`` is its name."""
    if version == "2":
        return _swagger_2(description, config, model)
    return _openapi_3(description, config, version, model)


def _swagger_2(description: Description, config: ServiceConfig, model: str | None) -> dict[str, Any]:
    """In the form of the specification's example."""
    error = {"schema": {"$ref": "#/definitions/ErrorResponse"}}
    parameter = {
        "name": "serviceInputPayload",
        "in": "body",
        "description": _INPUT,
        "schema": {"$ref": "#/definitions/ServiceInput"},
    }
    responses = {
        "200": {"description": _OUTPUT, "schema": {"$ref": "#/definitions/ServiceOutput"}},
        **{status: {"description": text, **error} for status, text in _refusals(description, config).items()},
        "default": {"description": _FAILED, **error},
    }
    run = {"operationId": "RunMLService", "description": _RUN, **_security(config)}
    chosen = [{**rest, **schema} for rest, schema in _model_parameter(description, config, model)]
    score: dict[str, Any] = {"post": {**run, "parameters": [parameter, *chosen], "responses": responses}}
    if description.takes_get:
        score["get"] = {**run, "operationId": "RunMLServiceByQuery", "responses": responses}
    health = {
        "operationId": "ServiceHealthCheck",
        "description": _HEALTH,
        "produces": [_HTML],
        "responses": {
            "200": {"description": _HEALTHY, "schema": {"type": "string"}, "examples": {_HTML: "Healthy"}},
            "default": {"description": _FAILED, **error},
        },
    }
    return {
        "swagger": VERSIONS["2"],
        "info": _info(config),
        **({"basePath": config.identity.path_prefix} if config.identity.path_prefix else {}),
        "schemes": ["http" if config.tls is None else "https"],
        "consumes": [_JSON],
        "produces": [_JSON],
        "securityDefinitions": {
            "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header", "description": _BEARER}
        },
        "paths": {"/": {"get": health}, "/score": score},
        "definitions": {
            "ServiceInput": translated(description.input_schema, "2"),
            "ServiceOutput": translated(description.output_schema, "2"),
            "ErrorResponse": dict(_ERROR),
        },
    }


def _openapi_3(description: Description, config: ServiceConfig, version: str, model: str | None) -> dict[str, Any]:
    error = {"content": {_JSON: {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}}
    schemas, bodies, answers = _components(description, version)
    content: dict[str, Any] = {_JSON: bodies}
    content |= {kind: {"schema": translated(schema, version)} for kind, schema in description.formats.items()}
    responses = {
        "200": {"description": _OUTPUT, "content": {_JSON: answers}},
        **{status: {"description": text, **error} for status, text in _refusals(description, config).items()},
        "default": {"description": _FAILED, **error},
    }
    run = {"operationId": "RunMLService", "description": _RUN, **_security(config)}
    chosen = [
        {**rest, "schema": translated(schema, version)}
        for rest, schema in (*_model_parameter(description, config, model), *_format_parameters(description))
    ]
    score: dict[str, Any] = {
        "post": {
            **run,
            **({"parameters": chosen} if chosen else {}),
            "requestBody": {"description": _INPUT, "required": True, "content": content},
            "responses": responses,
        }
    }
    if description.takes_get:
        score["get"] = {**run, "operationId": "RunMLServiceByQuery", "responses": responses}
    health = {
        "operationId": "ServiceHealthCheck",
        "description": _HEALTH,
        "responses": {
            "200": {
                "description": _HEALTHY,
                "content": {_HTML: {"schema": {"type": "string"}, "example": "Healthy"}},
            },
            "default": {"description": _FAILED, **error},
        },
    }
    paths: dict[str, Any] = {"/": {"get": health}, "/score": score}
    schemas["ErrorResponse"] = dict(_ERROR)
    if config.script is None:
        names = [model] if model is not None else sorted({place.name for place in config.models})
        paths |= inference_paths(names, _security(config))
        schemas |= {name: translated(schema, version) for name, schema in inference_schemas().items()}
    schemas = _apart(schemas)
    return {
        "openapi": VERSIONS[version],
        "info": _info(config),
        "servers": [{"url": config.identity.path_prefix or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        },
    }


def _components(description: Description, version: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The schemas, and those of request and answer in JSON: one each, or one for each model."""
    if not description.models:
        schemas = {
            "ServiceInput": translated(description.input_schema, version),
            "ServiceOutput": translated(description.output_schema, version),
        }
        return schemas, _referred("ServiceInput"), _referred("ServiceOutput")
    # Unknown ones share a schema that takes anything.
    known = {_key(name, number): one for number, (name, one) in enumerate(description.models.items()) if one.inputs}
    schemas = {f"ServiceInput.{name}": translated(one.input_schema, version) for name, one in known.items()}
    schemas |= {f"ServiceOutput.{name}": translated(one.output_schema, version) for name, one in known.items()}
    taken: list[dict[str, Any]] = [_referred(f"ServiceInput.{name}")["schema"] for name in known]
    given: list[dict[str, Any]] = [_referred(f"ServiceOutput.{name}")["schema"] for name in known]
    if len(known) < len(description.models):
        taken.append({"type": "object"})
        given.append({})
    schemas |= {"ServiceInput": {"anyOf": taken}, "ServiceOutput": {"anyOf": given}}
    examples = {
        _key(name, number): {"summary": f"/score?model={quote(name, safe='')}", "value": one.input_schema["example"]}
        for number, (name, one) in enumerate(description.models.items())
        if "example" in one.input_schema
    }
    bodies = _referred("ServiceInput")
    return schemas, {**bodies, **({"examples": examples} if examples else {})}, _referred("ServiceOutput")


def _apart(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """``schemas`` with the titled choices of each as schemas of their own, equal ones once.

    Generators of clients name what they write by the schemas' names, and some lose a choice that has none.
    """
    found = dict(schemas)
    for name, schema in schemas.items():
        choices = [_moved(found, one) for one in schema.get("oneOf", ())]
        if choices:
            found[name] = {**schema, "oneOf": choices}
    return found


def _moved(schemas: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A reference to ``schema`` among ``schemas``, where it has a title to be called by."""
    title = "".join(word[:1].upper() + word[1:] for word in re.findall("[A-Za-z0-9]+", schema.get("title", "")))
    if not title:
        return schema
    names = (f"{title}{number or ''}" for number in itertools.count())
    name = next(one for one in names if schemas.get(one, schema) == schema)
    schemas[name] = schema
    return dict(_referred(name)["schema"])


def _key(name: str, number: int) -> str:
    """A model's name where OpenAPI allows it for a component, else its number."""
    return name if re.fullmatch(r"[a-zA-Z0-9._-]+", name) else f"model-{number}"


def _referred(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _model_parameter(
    description: Description, config: ServiceConfig, model: str | None
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """``?model=`` without its schema, and the schema, where there are several models."""
    if model is not None and len({place.name for place in config.models}) > 1:
        described = {"name": "model", "in": "query", "required": True, "description": "The model."}
        return [(described, {"type": "string", "enum": [model]})]
    if not description.models:
        return []
    names = sorted(description.models)
    text = "The model, NAME or NAME:VERSION; the highest version by default."
    return [
        (
            {"name": "model", "in": "query", "required": True, "description": f"{text} {', '.join(names)}"},
            {"type": "string"},
        )
    ]


def _format_parameters(description: Description) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the query says of bodies that are not JSON."""
    if not description.formats:
        return []
    names = ["shape"] if "application/octet-stream" in description.formats else []
    names += ["scale"] if any(kind.startswith("image/") for kind in description.formats) else []
    found = [({"name": name, "in": "query", "description": _QUERY[name][0]}, _QUERY[name][1]) for name in names]
    if description.methods:
        text = "What to answer to a body that is not JSON."
        found.append(
            (
                {"name": "method", "in": "query", "description": text},
                {"type": "string", "enum": list(description.methods)},
            )
        )
    return found


def _refusals(description: Description, config: ServiceConfig) -> dict[str, str]:
    found = {"400": "The request does not fit; the message names row and column."}
    if config.auth.mode != "none":
        found["401"] = "The key or token is missing or not valid."
        found["403"] = "The token does not allow this."
    if description.models:
        found["404"] = "There is no such model."
    found["413"] = f"The body is larger than {config.limits.body_bytes} bytes."
    found["415"] = "The content type is not supported."
    if config.script is not None:
        found["500"] = "The entry script failed."
    found["503"] = "Too many requests wait; the header Retry-After says when to come again."
    return found


def _info(config: ServiceConfig) -> dict[str, Any]:
    name = config.identity.name
    return {"title": name, "description": f"API specification for {name}", "version": config.identity.version}


def _security(config: ServiceConfig) -> dict[str, Any]:
    return {} if config.auth.mode == "none" else {"security": [{"Bearer": []}]}
