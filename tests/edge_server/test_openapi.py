"""swagger.json: valid by real validators, true to what the server does, and its examples work when posted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import openapi_spec_validator as validators
import pytest
from onnx import TensorProto, helper

from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.models.descriptions import describe
from edge_server.openapi.dialects import translated
from edge_server.openapi.documents import document
from edge_server.openapi.page import page
from edge_server.service import Description
from tests.edge_server.support.models import echo, manifest, save, tensor
from tests.edge_server.support.server import Iris, Server, write_golden
from tests.support.http_client import ask
from tests.support.running import run

VALIDATORS = {
    "2": validators.OpenAPIV2SpecValidator,
    "3": validators.OpenAPIV30SpecValidator,
    "3.1": validators.OpenAPIV31SpecValidator,
}
SCRIPT = """
import numpy as np
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[10, 9, 8, 7]])))
@output_schema(NumpyParameterType(np.array([3726.995])))
def run(data):
    return data.sum(axis=1).astype(float)
"""


def place(name: str, folder: Path, file: str = "model.onnx", version: int = 1) -> dict[str, Any]:
    """A model as service.json names it."""
    return {"name": name, "version": version, "path": str(folder), "file": file}


def configured(folder: Path, *models: dict[str, Any], **more: Any) -> Path:
    """A service.json of these models."""
    path = folder / "service.json"
    document = {"schema": "edgepack.service/v1", "host": "127.0.0.1", "port": 0, "models": list(models), **more}
    path.write_text(json.dumps(document))
    return path


def iris_folder(folder: Path, iris: Iris) -> Path:
    """The converted forest with golden vectors."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(iris.onnx)
    golden = {
        "inputs": {"features": iris.rows},
        "outputs": {
            "label": iris.model.predict(iris.rows).tolist(),
            "probabilities": iris.model.predict_proba(iris.rows).tolist(),
        },
    }
    write_golden(folder, golden)
    return folder


def mixed_folder(folder: Path) -> Path:
    """Columns of several types, each an input, echoed."""
    folder.mkdir(parents=True)
    kinds = {"age": (TensorProto.INT64, "int64"), "city": (TensorProto.STRING, "string"), "dose": (1, "float32")}
    names = list(kinds)
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
        [tensor(name, kind, [None, 1]) for name, (kind, _) in kinds.items()],
        [tensor(f"{name}_out", kind, [None, 1]) for name, (kind, _) in kinds.items()],
    )
    inputs: list[dict[str, Any]] = [
        {"name": name, "graph_name": name, "dtype": dtype, "shape": [None, 1]} for name, (_, dtype) in kinds.items()
    ]
    inputs[0] |= {"minimum": 0, "maximum": 120}
    inputs[1] |= {"categories": ["Oslo", "Rome"], "closed": True}
    outputs = [
        {"name": f"{name}_out", "graph_name": f"{name}_out", "dtype": dtype, "shape": [None, 1], "role": "values"}
        for name, (_, dtype) in kinds.items()
    ]
    manifest(folder, inputs, outputs)
    return folder


def gaps_folder(folder: Path) -> Path:
    """A table in which one column may be missing, and a text that may."""
    folder.mkdir(parents=True)
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("table", "city")],
        [tensor("table", 1, [None, 2]), tensor("city", TensorProto.STRING, [None, 1])],
        [tensor("table_out", 1, [None, 2]), tensor("city_out", TensorProto.STRING, [None, 1])],
    )
    table = {"name": "table", "graph_name": "table", "dtype": "float32", "shape": [None, 2], "columns": ["a", "b"]}
    city = {"name": "city", "graph_name": "city", "dtype": "string", "shape": [None, 1], "missing": "?"}
    outputs = [
        {"name": "table_out", "graph_name": "table_out", "dtype": "float32", "shape": [None, 2]},
        {"name": "city_out", "graph_name": "city_out", "dtype": "string", "shape": [None, 1]},
    ]
    closed = {"categories": ["Oslo", "?"], "closed": True}
    manifest(folder, [{**table, "complete": [1]}, {**city, **closed}], outputs)
    return folder


def image_folder(folder: Path) -> Path:
    """A graph without a manifest that takes an image."""
    folder.mkdir(parents=True)
    node = helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0)
    axes = onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    shape = [None, 3, 4, 4]
    save(folder / "model.onnx", [node], [tensor("pixels", 1, shape)], [tensor("mean", 1, [None])], [axes])
    return folder


@dataclass
class Service:
    """A running server and what it is asked."""

    server: Server
    name: str

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        """Post a document as JSON; return status and parsed answer."""
        answer = ask(self.server.port, "POST", path, json.dumps(document), {"content-type": "application/json"})
        return answer.status, answer.json

    def document(self, version: str) -> dict[str, Any]:
        status, headers, body = self.server.request("GET", f"/swagger.json?version={version}")
        assert (status, headers["content-type"]) == (200, "application/json")
        return dict(json.loads(body))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all services of this module."""
    return tmp_path_factory.mktemp("openapi")


@pytest.fixture(scope="module")
def services(folder: Path, iris: Iris, start_for_module: Callable[..., Server]) -> Iterator[Callable[[str], Service]]:
    """Services by name, each started once."""
    running: dict[str, Service] = {}

    def launch(name: str) -> Server:
        home = folder / name
        home.mkdir()
        if name == "script":
            (home / "score.py").write_text(SCRIPT)
            return start_for_module("--entry-script", home / "score.py", "--port", "0")
        if name == "plain-script":
            (home / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
            return start_for_module("--entry-script", home / "score.py", "--port", "0")
        made = {
            "iris": lambda: place("iris", iris_folder(home / "iris", iris)),
            "mixed": lambda: place("mixed", mixed_folder(home / "mixed")),
            "gaps": lambda: place("gaps", gaps_folder(home / "gaps")),
            "image": lambda: place("image", image_folder(home / "image")),
        }
        if name in made:
            return start_for_module("--config", configured(home, made[name]()))
        assert name == "several"
        models = (made["iris"](), {**made["mixed"](), "name": 'a<b> "c"'}, made["image"]())
        return start_for_module("--config", configured(home, *models))

    def give(name: str) -> Service:
        if name not in running:
            running[name] = Service(launch(name), name)
        return running[name]

    return give


ALL = ("iris", "mixed", "gaps", "image", "several", "script", "plain-script")


@pytest.mark.parametrize("version", VALIDATORS)
@pytest.mark.parametrize("name", ALL)
def test_documents_are_valid(services: Callable[[str], Service], name: str, version: str) -> None:
    document = services(name).document(version)
    VALIDATORS[version](document).validate()
    assert document["paths"]["/score"]["post"]["operationId"] == "RunMLService"


def schema_of(document: Mapping[str, Any], name: str) -> jsonschema.Draft202012Validator:
    """A component of an OpenAPI 3.1 document as a validator."""
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


@pytest.mark.parametrize("name", ["iris", "mixed", "gaps", "image", "script"])
def test_the_example_works_when_posted_and_its_answer_is_the_examples(
    services: Callable[[str], Service], name: str
) -> None:
    service = services(name)
    document = service.document("2")
    example = document["definitions"]["ServiceInput"]["example"]
    status, answer = service.post("/score", example)
    assert status == 200, answer
    if name != "script":
        assert answer == document["definitions"]["ServiceOutput"]["example"]
    latest = service.document("3.1")
    assert latest["components"]["schemas"]["ServiceInput"]["examples"] == [example]
    schema_of(latest, "ServiceInput").validate(example)
    schema_of(latest, "ServiceOutput").validate(answer)


def test_each_of_several_models_has_an_example_that_works(services: Callable[[str], Service]) -> None:
    service = services("several")
    document = service.document("3")
    post = document["paths"]["/score"]["post"]
    assert [(p["name"], p["required"]) for p in post["parameters"] if p["name"] == "model"] == [("model", True)]
    examples = post["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"iris", "image", "model-0"}
    for example in examples.values():
        status, answer = service.post(example["summary"], example["value"])
        assert status == 200, answer
        schema_of(service.document("3.1"), "ServiceOutput").validate(answer)
    assert service.document("2")["paths"]["/score"]["post"]["parameters"][1]["name"] == "model"


def test_version_2_has_the_shape_of_the_specifications_example(services: Callable[[str], Service]) -> None:
    status, _, body = services("script").server.request("GET", "/swagger.json")
    assert status == 200
    document = json.loads(body)
    assert document == services("script").document("2")
    assert list(document) == [
        "swagger", "info", "schemes", "consumes", "produces", "securityDefinitions", "paths", "definitions",
    ]  # fmt: skip
    assert document["info"]["description"] == f"API specification for {document['info']['title']}"
    assert document["securityDefinitions"] == {
        "Bearer": {
            "type": "apiKey",
            "name": "Authorization",
            "in": "header",
            "description": "For example: Bearer abc123",
        }
    }
    assert list(document["paths"]) == ["/", "/score"]
    assert document["paths"]["/"]["get"]["operationId"] == "ServiceHealthCheck"
    post = document["paths"]["/score"]["post"]
    # Nothing asks for a key here.
    assert "security" not in post
    assert post["parameters"] == [
        {
            "name": "serviceInputPayload",
            "in": "body",
            "description": "The input payload for executing the real-time machine learning service.",
            "schema": {"$ref": "#/definitions/ServiceInput"},
        }
    ]
    assert post["responses"]["200"]["schema"] == {"$ref": "#/definitions/ServiceOutput"}
    assert post["responses"]["default"]["schema"] == {"$ref": "#/definitions/ErrorResponse"}
    assert "get" in document["paths"]["/score"]
    assert document["definitions"]["ServiceInput"]["properties"]["data"] == {
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer", "format": "int64"}},
        "format": "numpy.ndarray",
    }
    assert document["definitions"]["ServiceInput"]["example"] == {"data": [[10, 9, 8, 7]]}
    assert document["definitions"]["ServiceOutput"] == {
        "type": "array",
        "items": {"type": "number", "format": "double"},
        "format": "numpy.ndarray",
        "example": [3726.995],
    }
    assert document["definitions"]["ErrorResponse"]["properties"] == {
        "status_code": {"type": "integer", "format": "int32"},
        "message": {"type": "string"},
    }


def test_an_undecorated_script_takes_any_object(services: Callable[[str], Service]) -> None:
    definitions = services("plain-script").document("2")["definitions"]
    assert definitions["ServiceInput"] == {"type": "object", "example": {}}
    assert definitions["ServiceOutput"] == {"type": "object", "example": {}}


def test_methods_columns_and_widths_are_told(services: Callable[[str], Service]) -> None:
    document = services("iris").document("2")
    taken = document["definitions"]["ServiceInput"]["properties"]
    assert taken["method"] == {
        "type": "string",
        "enum": ["predict_proba", "predict", "both"],
        "default": "predict_proba",
    }
    row = taken["data"]["items"]
    assert (row["minItems"], row["maxItems"], row["items"]) == (4, 4, {"type": "number", "format": "float"})
    assert row["description"] == "columns: sepal length, sepal width, petal length, petal width"


BODIES: list[tuple[str, Any]] = [
    ("iris", {"data": [[1, 2, 3, 4.5]]}),
    ("iris", {"data": [[1, 2, 3, 4.5]], "method": "predict"}),
    ("iris", {"data": [[1, 2, 3, 4.5]], "method": "guess"}),
    ("iris", {"data": [[1, 2, 3]]}),
    ("iris", {"data": [[1, 2, 3, 4, 5]]}),
    ("iris", {"data": [[1, 2, 3, None]]}),
    ("iris", {"data": [[1, 2, 3, "4"]]}),
    ("iris", {"data": []}),
    ("iris", {"data": [[1, 2, 3, 4]], "more": 1}),
    ("iris", {"inputs": {"features": [[1, 2, 3, 4]]}}),
    ("iris", {"inputs": {"others": [[1, 2, 3, 4]]}}),
    ("iris", {"data": [{"sepal length": 1, "sepal width": 2, "petal length": 3, "petal width": 4}]}),
    ("iris", {"data": [{"sepal length": 1, "sepal width": 2, "petal length": 3}]}),
    ("iris", {}),
    ("mixed", {"data": [{"age": 33, "city": "Oslo", "dose": 0.5}]}),
    ("mixed", {"data": [{"age": 33, "city": "Oslo", "dose": None}]}),
    ("mixed", {"data": [{"age": 33, "city": None, "dose": 0.5}]}),
    ("mixed", {"data": [{"age": None, "city": "Oslo", "dose": 0.5}]}),
    ("mixed", {"data": [{"age": 121, "city": "Oslo", "dose": 0.5}]}),
    ("mixed", {"data": [{"age": 33.5, "city": "Oslo", "dose": 0.5}]}),
    ("mixed", {"data": [{"age": 33, "city": "Bonn", "dose": 0.5}]}),
    ("mixed", {"data": [{"age": 33, "city": "Oslo", "dose": 0.5, "more": 1}]}),
    ("mixed", {"data": [[33, "Rome", 0.5]]}),
    ("mixed", {"data": [[33, "Rome"]]}),
    ("mixed", {"inputs": {"age": [[33]], "city": [["Rome"]], "dose": [[0.5]]}}),
    ("gaps", {"data": [{"a": 1, "b": 2, "city": "Oslo"}]}),
    ("gaps", {"data": [{"a": None, "b": 2, "city": None}]}),
    ("gaps", {"data": [{"a": 1, "b": None, "city": "Oslo"}]}),
    ("gaps", {"data": [{"a": 1, "b": 2, "city": "Rome"}]}),
    ("gaps", {"data": [[None, 2, "Oslo"]]}),
    ("gaps", {"inputs": {"table": [[1, 2]], "city": [[None]]}}),
    ("image", {"data": [[[[0.5] * 4] * 4] * 3]}),
    ("image", {"data": [[[[0.5] * 4] * 4] * 2]}),
]


@pytest.mark.parametrize(("name", "body"), BODIES)
def test_what_the_document_allows_is_what_the_server_takes(
    services: Callable[[str], Service], name: str, body: Any
) -> None:
    service = services(name)
    document = service.document("3.1")
    status, answer = service.post("/score", body)
    allowed = schema_of(document, "ServiceInput").is_valid(body)
    assert status == (200 if allowed else 400), answer
    schema_of(document, "ServiceOutput" if allowed else "ErrorResponse").validate(answer)


def test_bodies_that_are_no_json_are_told(services: Callable[[str], Service]) -> None:
    service = services("image")
    post = service.document("3")["paths"]["/score"]["post"]
    content = post["requestBody"]["content"]
    assert set(content) == {
        "application/json", "application/octet-stream", "application/x-npy", "image/png", "image/jpeg",
    }  # fmt: skip
    assert {parameter["name"] for parameter in post["parameters"]} == {"shape", "scale"}


def test_other_versions_are_not_found(services: Callable[[str], Service]) -> None:
    for version in ("4", "3.2", "", "%00"):
        status, _, body = services("iris").server.request("GET", f"/swagger.json?version={version}")
        assert status == 404
        assert "there are 2, 3, 3.1" in json.loads(body)["message"]
    assert services("iris").server.request("POST", "/swagger.json")[0] == 405
    assert services("iris").document("2.0") == services("iris").document("2")
    assert services("iris").document("3.0") == services("iris").document("3")


def test_the_inference_protocol_is_told_for_models_only(services: Callable[[str], Service]) -> None:
    assert not any(path.startswith("/v2") for path in services("script").document("3")["paths"])
    service = services("iris")
    document = service.document("3.1")
    paths = [path for path in document["paths"] if path.startswith("/v2")]
    assert len(paths) == 11
    for path in paths:
        url = path.replace("{name}", "iris").replace("{version}", "1")
        for method, operation in document["paths"][path].items():
            if method != "get":
                continue
            status, headers, body = service.server.request("GET", url)
            assert (status, headers["content-type"]) == (200, "application/json"), url
            reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
            schema_of(document, reference.rpartition("/")[2]).validate(json.loads(body))
    asked = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    schema_of(document, "InferenceRequest").validate(asked)
    status, _, body = service.server.request("POST", "/v2/models/iris/infer", json.dumps(asked).encode())
    assert status == 200
    schema_of(document, "InferenceResponse").validate(json.loads(body))
    status, _, body = service.server.request("POST", "/v2/models/iris/infer", b"{}")
    assert status == 400
    schema_of(document, "InferenceError").validate(json.loads(body))


def test_a_prefix_stands_before_every_path(tmp_path: Path, iris: Iris, start: Callable[..., Server]) -> None:
    model = place("iris", iris_folder(tmp_path / "iris", iris))
    identity = {"name": "flowers", "version": "7", "path_prefix": "/api/v1/service/flowers"}
    server = start("--config", configured(tmp_path, model, service=identity))
    old, new = (
        json.loads(server.request("GET", f"/api/v1/service/flowers/swagger.json?version={version}")[2])
        for version in ("2", "3")
    )
    assert (old["info"]["title"], old["info"]["version"]) == ("flowers", "7")
    assert old["basePath"] == "/api/v1/service/flowers"
    assert new["servers"] == [{"url": "/api/v1/service/flowers"}]
    assert server.request("POST", f"{old['basePath']}/score", b'{"data": [[1, 2, 3, 4]]}')[0] == 200


def test_with_keys_a_description_is_open_and_shows_nobodys_data(
    tmp_path: Path, iris: Iris, start: Callable[..., Server]
) -> None:
    made = run(sys.executable, "-m", "edge_server.security", "keys", "new", tmp_path / "keys.json")
    key = json.loads(made)["primary"]
    model = place("iris", iris_folder(tmp_path / "iris", iris))
    auth = {"mode": "key", "file": "keys.json"}
    server = start("--config", configured(tmp_path, model, auth=auth))
    assert server.request("POST", "/score", b"{}")[0] == 401
    status, _, body = server.request("GET", "/swagger.json?version=3")
    assert status == 200
    document = json.loads(body)
    VALIDATORS["3"](document).validate()
    post = document["paths"]["/score"]["post"]
    by_version_2 = json.loads(server.request("GET", "/swagger.json")[2])["paths"]["/score"]["post"]
    assert post["security"] == by_version_2["security"] == [{"Bearer": []}]
    assert {"401", "403"} <= set(post["responses"])
    example = document["components"]["schemas"]["ServiceInput"]["example"]
    assert example == {"data": [[0.5, 0.5, 0.5, 0.5]]}
    assert "example" not in document["components"]["schemas"]["ServiceOutput"]
    assert key.encode() not in body
    page = server.request("GET", "/docs")
    assert page[0] == 200
    assert b'id="key"' in page[2]


def test_a_model_that_is_not_loaded_is_told_by_its_manifest(
    tmp_path: Path, iris: Iris, start: Callable[..., Server]
) -> None:
    models = [place(name, iris_folder(tmp_path / name, iris)) for name in ("one", "two")]
    models.append(place("three", image_folder(tmp_path / "three")))
    server = start("--config", configured(tmp_path, *models, runtime={"memory_bytes": 1}))
    document = json.loads(server.request("GET", "/swagger.json?version=3")[2])
    VALIDATORS["3"](document).validate()
    schemas = document["components"]["schemas"]
    assert schemas["ServiceInput.one"]["oneOf"] == schemas["ServiceInput.two"]["oneOf"]
    # Nothing is known of a graph without a manifest before it is loaded.
    assert "ServiceInput.three" not in schemas
    assert schemas["ServiceInput"]["anyOf"][-1] == {"type": "object"}


def test_the_users_own_document_goes_first(tmp_path: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    own = {"swagger": "2.0", "info": {"title": "mine", "version": "9"}, "paths": {}}
    (tmp_path / "swagger.json").write_text(json.dumps(own))
    server = start("--entry-script", tmp_path / "score.py", "--port", "0")
    for query in ("", "?version=2"):
        assert json.loads(server.request("GET", f"/swagger.json{query}")[2]) == own
    assert json.loads(server.request("GET", "/swagger.json?version=3")[2])["openapi"] == "3.0.3"


def test_documents_of_each_version_may_lie_beside_the_script(tmp_path: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    words = {"swagger2.json": ("swagger", "2.0"), "swagger3.json": ("openapi", "3.0.1")}
    for name, (word, number) in words.items():
        own = {word: number, "info": {"title": name, "version": "9"}, "paths": {}}
        (tmp_path / name).write_text(json.dumps(own))
    (tmp_path / "swagger3.1.json").write_text('{"openapi": "3.0.0", "info": {"title": "no"}}')
    server = start("--entry-script", tmp_path / "score.py", "--port", "0")

    def title(query: str) -> str:
        return str(json.loads(server.request("GET", f"/swagger.json{query}")[2])["info"]["title"])

    assert [title(query) for query in ("", "?version=2", "?version=2.0")] == ["swagger2.json"] * 3
    assert [title(query) for query in ("?version=3", "?version=3.0")] == ["swagger3.json"] * 2
    # One that is not what its name says is told of, and not given.
    assert title("?version=3.1") == "score"
    assert any("swagger3.1.json" in line and '"warning"' in line for line in server.lines)


def test_a_document_that_is_none_is_told_and_replaced(tmp_path: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    (tmp_path / "swagger.json").write_text("{")
    server = start("--entry-script", tmp_path / "score.py", "--port", "0")
    assert json.loads(server.request("GET", "/swagger.json")[2])["swagger"] == "2.0"
    assert any("swagger.json" in line and '"warning"' in line for line in server.lines)


@pytest.mark.parametrize(("content", "code"), [(None, 3), ('{"swagger": "1.2"}', 2)])
def test_a_document_that_is_named_must_be_one(
    tmp_path: Path, iris: Iris, refused: Callable[..., Any], content: str | None, code: int
) -> None:
    if content is not None:
        (tmp_path / "own.json").write_text(content)
    model = place("iris", iris_folder(tmp_path / "iris", iris))
    done = refused("--config", configured(tmp_path, model, service={"swagger": "own.json"}))
    assert done.code == code
    assert "own.json" in done.stderr


def test_a_users_openapi_3_is_given_for_its_version(tmp_path: Path, iris: Iris, start: Callable[..., Server]) -> None:
    own = {"openapi": "3.1.0", "info": {"title": "mine", "version": "9"}, "paths": {}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    model = place("iris", iris_folder(tmp_path / "iris", iris))
    server = start("--config", configured(tmp_path, model, service={"swagger": "own.json"}))
    for query in ("", "?version=3.1"):
        assert json.loads(server.request("GET", f"/swagger.json{query}")[2]) == own
    assert json.loads(server.request("GET", "/swagger.json?version=2")[2])["swagger"] == "2.0"


KINDS = [1, 10, 11, 2, 3, 4, 5, 6, 7, 12, 13, 8, 9]
SHAPES: list[list[Any] | None] = [None, [], ["n"], [3], ["n", 3], ["n", "m"], [1, 2], ["n", 3, 8, 8], [2, 2, 2]]


def test_graphs_of_any_type_and_shape_are_described(tmp_path: Path) -> None:
    models = {
        f"{kind}-{number}": describe(echo(tmp_path, kind, shape))
        for kind in KINDS
        for number, shape in enumerate(SHAPES)
    }
    for name, model in models.items():
        schema = jsonschema.Draft202012Validator(translated(model.input_schema, "3.1"))
        assert schema.is_valid(model.input_schema["example"]), (name, model.input_schema)
        answer = jsonschema.Draft202012Validator(translated(model.output_schema, "3.1"))
        assert answer.is_valid(model.output_schema["example"]), (name, model.output_schema)
    first = next(iter(models.values()))
    several = Description(first.input_schema, first.output_schema, models=models)
    config = ServiceConfig((ModelPlace("x", 1, tmp_path),), "127.0.0.1")
    for version, validator in VALIDATORS.items():
        validator(document(several, config, version)).validate()
        assert page(several, config, "8-4").status == 200
