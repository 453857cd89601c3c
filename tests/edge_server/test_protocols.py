"""V1 of KServe and TensorFlow Serving, and Triton's extensions of V2: raw requests, classification, configuration."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from tests.edge_server.support import models
from tests.edge_server.support.live_server import ROW, Server, post, send, write_config, write_iris, write_script
from tests.support.http_client import ask

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def server(start_for_module: Start, tmp_path_factory: pytest.TempPathFactory, iris: Any) -> Server:
    """Iris in two versions; ``pair``: a text and two numbers beside each other; ``texts``; ``ints``."""
    folder = tmp_path_factory.mktemp("protocols")
    for name in ("pair", "texts", "ints"):
        (folder / name).mkdir()
    text, number = TensorProto.STRING, TensorProto.FLOAT
    models.save(
        folder / "pair" / "model.onnx",
        [helper.make_node("Identity", ["word"], ["said"]), helper.make_node("ReduceSum", ["xy"], ["sum"], keepdims=0)],
        [models.tensor("word", text, ["n"]), models.tensor("xy", number, ["n", 2])],
        [models.tensor("said", text, ["n"]), models.tensor("sum", number, [])],
    )
    same = [helper.make_node("Identity", ["x"], ["y"])]
    models.save(folder / "texts" / "model.onnx", same, [models.tensor("x", text, ["n", 1])],
                [models.tensor("y", text, ["n", 1])])  # fmt: skip
    models.save(folder / "ints" / "model.onnx", same, [models.tensor("x", TensorProto.INT64, ["n", 3])],
                [models.tensor("y", TensorProto.INT64, ["n", 3])])  # fmt: skip
    places = {"iris:1": write_iris(folder / "iris1", iris.onnx), "iris:2": write_iris(folder / "iris2", iris.onnx)}
    places |= {f"{name}:1": folder / name for name in ("pair", "texts", "ints")}
    config = write_config(folder / "service.json", places, cors={"origins": ["https://a.example"]})
    return start_for_module("--config", config)


def predict(server: Server, model: str, body: Any, **headers: str) -> tuple[int, Any]:
    answer = post(server, body, f"/v1/models/{model}:predict", **headers)
    return answer.status, answer.json


def test_v1_tells_which_models_there_are(server: Server) -> None:
    assert ask(server.port, "GET", "/v1/models").json == {"models": ["iris", "pair", "texts", "ints"]}
    status = ask(server.port, "GET", "/v1/models/iris").json
    assert (status["name"], status["ready"]) == ("iris", True)
    assert [(one["version"], one["state"]) for one in status["model_version_status"]] == [
        ("1", "AVAILABLE"),
        ("2", "AVAILABLE"),
    ]
    one = ask(server.port, "GET", "/v1/models/iris/versions/1").json
    assert [entry["version"] for entry in one["model_version_status"]] == ["1"]
    assert ask(server.port, "HEAD", "/v1/models/iris").status == 200


def test_v1_answers_rows_and_columns_in_their_own_form(server: Server, iris: Any) -> None:
    wanted = iris.model.predict_proba([ROW])
    forms = [{"instances": rows} for rows in ([ROW], [{"features": ROW}], [dict(zip(COLUMNS, ROW, strict=True))])]
    for body in (*forms, {"signature_name": "serving_default", "instances": [ROW]}):
        status, answer = predict(server, "iris", body)
        assert (status, list(answer)) == (200, ["predictions"])
        assert np.allclose(answer["predictions"], wanted, atol=1e-5)
    for inputs in ([ROW], {"features": [ROW]}):
        status, answer = predict(server, "iris/versions/1", {"inputs": inputs})
        assert (status, list(answer)) == (200, ["outputs"])
        assert np.allclose(answer["outputs"], wanted, atol=1e-5)
    label = iris.model.predict([ROW]).tolist()
    assert predict(server, "iris", {"instances": [ROW], "signature_name": "predict"}) == (200, {"predictions": label})
    body = {"inputs": {"word": ["a", "b"], "xy": [[1, 2], [3, 4]]}}
    assert predict(server, "pair", body) == (200, {"outputs": {"said": ["a", "b"], "sum": 10.0}})
    for model in ("texts", "iris"):
        assert predict(server, model, {"instances": []}) == (200, {"predictions": []})
    compressed = gzip.compress(json.dumps({"instances": [["é"]]}).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answered = ask(server.port, "POST", "/v1/models/texts:predict", compressed, headers)
    assert (answered.status, answered.json) == (200, {"predictions": [["é"]]})
    value = {"b64": base64.b64encode("é".encode()).decode()}
    for given in ({"instances": [value]}, {"instances": [{"x": [value]}]}):
        assert predict(server, "texts", given) == (200, {"predictions": [["é"]]})


COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


@pytest.mark.parametrize(
    ("model", "body", "status", "told"),
    [
        ("iris", {"instances": [ROW], "inputs": [ROW]}, 400, "either 'instances' or 'inputs'"),
        ("iris", {}, 400, "either 'instances' or 'inputs'"),
        ("iris", {"instances": ROW}, 400, "row 0"),
        ("iris", {"instances": 5}, 400, "must be a list"),
        ("iris", {"instances": [ROW], "more": 1}, 400, "unknown field 'more'"),
        ("iris", {"instances": [ROW], "signature_name": "transform"}, 400, "unknown method 'transform'"),
        ("iris", {"instances": [ROW], "signature_name": 5}, 400, "must be a string"),
        ("iris", {"instances": [ROW, [1, 2]]}, 400, "row 1"),
        ("iris", [ROW], 400, 'must be a JSON object such as {"instances"'),
        ("", {"instances": [ROW]}, 404, "there is nothing at"),
        ("pair", {"inputs": [[1, 2]]}, 400, "several inputs"),
        ("pair", {"instances": [{"word": "a", "xy": [1, 2]}]}, 400, "ask by 'inputs'"),
        ("pair", {"instances": [{"word": "a", "xy": [1, 2]}, {"word": "b"}]}, 400, "the same inputs"),
        ("texts", {"instances": [{"b64": "!"}]}, 400, "is not base64"),
        ("texts", {"instances": [{"b64": "/w=="}]}, 400, "is not UTF-8"),
        ("absent", {"instances": [ROW]}, 404, "there is no model 'absent'"),
        ("iris/versions/7", {"instances": [ROW]}, 404, "no version 7"),
        ("iris/versions/x", {"instances": [ROW]}, 404, "versions are numbers"),
        ("iris/labels/x", {"instances": [ROW]}, 404, "there is nothing at"),
    ],
)
def test_v1_refuses_in_its_own_form(server: Server, model: str, body: Any, status: int, told: str) -> None:
    found, answer = predict(server, model, body)
    assert (found, list(answer)) == (status, ["error"])
    assert told in answer["error"]


def test_v1_has_the_methods_headers_and_metrics_of_every_route(server: Server) -> None:
    refused = ask(server.port, "GET", "/v1/models/iris:predict")
    assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS, POST")
    assert ask(server.port, "POST", "/v1/models/iris", b"{}").status == 405
    assert ask(server.port, "POST", "/v1/models/iris:classify", b"{}").status == 404
    answered = post(server, {"instances": [ROW]}, "/v1/models/iris:predict", origin="https://a.example")
    assert answered.headers["access-control-allow-origin"] == "https://a.example"
    assert answered.headers["x-request-id"]
    shown = ask(server.port, "GET", "/metrics").body.decode()
    assert 'route="/v1/models/{name}:predict",method="POST",code="200"' in shown
    assert 'route="/v1/models/{name}/versions/{version}:predict"' in shown
    assert "/v1/models/absent" not in shown


@pytest.fixture
def client(server: Server) -> Any:
    asking = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield asking
    asking.close()


def raw(server: Server, model: str, body: bytes, length: str = "0") -> Any:
    headers = {"inference-header-content-length": length, "content-type": "application/octet-stream"}
    return ask(server.port, "POST", f"/v2/models/{model}/infer", body, headers)


def test_a_whole_body_is_the_only_input(server: Server, iris: Any) -> None:
    rows = np.array([ROW, [6, 3, 5, 2]], np.float32)
    answer = raw(server, "iris", rows.tobytes())
    assert answer.status == 200
    # Read by the client's own reader of binary answers.
    found = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    assert np.allclose(found.as_numpy("probabilities"), iris.model.predict_proba(rows), atol=1e-5)
    answer = raw(server, "texts", "é\0".encode())
    found = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    assert found.as_numpy("y").tolist() == [["é\0".encode()]]
    for model, body, told in (
        ("iris", b"", "no values"),
        ("iris", b"123", "not a multiple of 4"),
        ("iris", bytes(12), "do not fill the shape"),
        ("iris", np.full(4, np.nan, np.float32).tobytes(), "NaN"),
        ("texts", b"\xff", "is not UTF-8"),
        ("pair", b"12345678", "several inputs"),
    ):
        answer = raw(server, model, body)
        assert (answer.status, list(answer.json)) == (400, ["error"])
        assert told in answer.json["error"]
    twice = [("Inference-Header-Content-Length", "0"), ("Inference-Header-Content-Length", "16")]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (("Host", "a"), *twice, ("Connection", "close")))
    sent = f"POST /v2/models/iris/infer HTTP/1.1\r\n{lines}Content-Length: 16\r\n\r\n".encode() + rows[:1].tobytes()
    assert b"comes twice" in send(server, sent)
    for length in ("", "-1", "00x", "9" * 30, "+0"):
        assert raw(server, "iris", rows.tobytes(), length).status == 400


def test_the_largest_classes_are_texts(client: Any, iris: Any) -> None:
    rows = np.array([ROW, [6, 3, 5, 2]], np.float32)
    given = triton.InferInput("features", [2, 4], "FP32").set_data_from_numpy(rows)
    wanted = iris.model.predict_proba(rows)
    for binary in (True, False):
        output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        found = client.infer("iris", [given], outputs=[output]).as_numpy("probabilities")
        assert found.shape == (2, 2)
        for row, expected in zip(found, wanted, strict=True):
            texts = [item.decode() if isinstance(item, bytes) else item for item in row]
            values, places = zip(*[(float(text.split(":")[0]), int(text.split(":")[1])) for text in texts], strict=True)
            assert list(places) == np.argsort(-expected, kind="stable")[:2].tolist()
            assert np.allclose(values, expected[list(places)], atol=1e-5)
    numbers = np.array([[3, 3, -(2**63)], [1, 2**63 - 1, 5]])
    given = triton.InferInput("x", [2, 3], "INT64").set_data_from_numpy(numbers)
    output = triton.InferRequestedOutput("y", binary_data=True, class_count=9)
    found = client.infer("ints", [given], outputs=[output]).as_numpy("y").tolist()
    assert found == [[b"3:0", b"3:1", b"-9223372036854775808:2"], [b"9223372036854775807:1", b"5:2", b"1:0"]]
    text = triton.InferInput("x", [1, 1], "BYTES").set_data_from_numpy(np.array([["a"]], object))
    with pytest.raises(InferenceServerException, match="no numbers"):
        client.infer("texts", [text], outputs=[triton.InferRequestedOutput("y", class_count=1)])


def test_classes_have_their_names_where_the_output_has_as_many() -> None:
    from edge_server.v2.classification import largest
    from edge_server.v2.head import Wanted

    values = np.array([[0.25, np.nan, 0.5], [0.1, 0.1, np.inf]], np.float32)
    found = largest(values, Wanted("p", False, 3), ("red", "blue", "green")).tolist()
    assert found[0] == ["0.500000:2:green", "0.250000:0:red", "nan:1:blue"]
    assert found[1] == ["inf:2:green", "0.100000:0:red", "0.100000:1:blue"]
    assert largest(np.zeros((0, 3)), Wanted("p", False, 2), ()).shape == (0, 2)


def test_the_configuration_is_what_the_metadata_says(client: Any) -> None:
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "classification", "model_configuration"]
    for name in ("iris", "pair"):
        told, described = client.get_model_config(name), client.get_model_metadata(name)
        assert (told["name"], told["platform"], told["max_batch_size"]) == (name, described["platform"], 0)
        for ports, known in ((told["input"], described["inputs"]), (told["output"], described["outputs"])):
            assert [(port["name"], port["dims"]) for port in ports] == [(one["name"], one["shape"]) for one in known]
    assert [port["data_type"] for port in client.get_model_config("pair")["input"]] == ["TYPE_STRING", "TYPE_FP32"]
    assert client.get_model_config("iris", "1")["version_policy"] == {"specific": {"versions": [1, 2]}}
    with pytest.raises(InferenceServerException, match="/metrics"):
        client.get_inference_statistics("iris")


def test_each_model_has_a_description_of_its_own(server: Server) -> None:
    for version in ("2", "3", "3.1"):
        found = ask(server.port, "GET", f"/swagger.json?version={version}&model=iris").json
        chosen = found["paths"]["/score"]["post"]["parameters"]
        assert [entry.get("enum") or entry["schema"].get("enum") for entry in chosen if entry["name"] == "model"] == [
            ["iris"]
        ]
        assert "petal width" in json.dumps(found)
        assert "xy" not in json.dumps(found)
    absent = ask(server.port, "GET", "/swagger.json?model=absent")
    assert (absent.status, "'iris'" in absent.json["message"]) == (404, True)


def test_an_entry_script_has_no_v1(start: Start, tmp_path: Path) -> None:
    code = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"
    server = start("--entry-script", write_script(tmp_path / "code", code), "--port", "0")
    assert post(server, {"instances": []}, "/v1/models/score:predict").status == 404
    assert ask(server.port, "GET", "/swagger.json?model=score").status == 404
