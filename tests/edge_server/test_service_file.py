"""service.json and the environment: every field is read, documented, and held to its rules."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge_server.config.environment import override
from edge_server.config.service_file import check_files, load_config, single_model, single_script
from edge_server.config.values import LEVELS, Auth, Cors, ScriptConfig, ServiceConfig, Tls
from edge_server.errors import ConfigurationError, MissingFileError
from edge_server.main import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "service.md"
FULL: dict[str, Any] = {
    "schema": "edgepack.service/v1",
    "models": [{"name": "a", "version": 2, "path": "models/a", "file": "m.onnx", "pinned": True}],
    "entry_script": {
        "file": "score.py", "source_directory": "code", "workers": 2, "threads": 3, "concurrency": 4,
        "start_seconds": 5.5,
    },
    "root": "app",
    "host": "127.0.0.1",
    "port": 6001,
    "limits": {
        "body_bytes": 1, "held_bytes": 2, "header_bytes": 2048, "connections": 3, "request_seconds": 4,
        "idle_seconds": 5, "queue": 6, "queue_seconds": 7, "scoring_seconds": 8, "drain_seconds": 9,
        "grace_seconds": 10,
    },
    "runtime": {
        "threads": 1, "processes": 2, "memory_bytes": 3,
        "batching": {"enabled": False, "window_seconds": 0.5, "rows": 9},
    },
    "tls": {"certificate": "c.pem", "key": "k.pem"},
    "auth": {"mode": "key", "file": "keys.json"},
    "cors": {"origins": ["https://a.example"]},
    "service": {"name": "n", "version": "2", "path_prefix": "/p", "swagger": "s.json"},
    "logging": {"level": "debug", "requests": "all"},
    "collection": {"folder": "data", "quota_bytes": 100000, "automatic": True},
    "metrics": False,
    "docs": False,
}  # fmt: skip


def read(tmp_path: Path, document: dict[str, Any]) -> ServiceConfig:
    path = tmp_path / "service.json"
    path.write_text(json.dumps(document))
    return load_config(path)


def names(document: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in document.items():
        if isinstance(value, dict):
            found |= names(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found |= names(value[0], f"{prefix}{name}[].")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_every_field_is_read_and_none_is_as_by_default(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    default = ServiceConfig((), "x")
    for field in dataclasses.fields(ServiceConfig):
        assert getattr(config, field.name) != getattr(default, field.name), field.name
    for part, empty in ((config.limits, default.limits), (config.runtime, default.runtime),
                        (config.runtime.batching, default.runtime.batching), (config.identity, default.identity),
                        (config.logging, default.logging), (config.collection, default.collection)):  # fmt: skip
        for field in dataclasses.fields(part):
            assert getattr(part, field.name) != getattr(empty, field.name), field.name
    assert config.script == ScriptConfig(tmp_path / "code" / "score.py", tmp_path / "code", 2, 3, 4, 5.5)
    assert config.tls == Tls(tmp_path / "c.pem", tmp_path / "k.pem")
    assert config.auth == Auth("key", tmp_path / "keys.json")
    assert config.cors == Cors(("https://a.example",))
    assert config.models[0].path == tmp_path / "models" / "a" / "m.onnx"


def test_the_reference_page_names_every_field_and_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert told == names(FULL) | {"models", "entry_script"}


@pytest.mark.parametrize("field", sorted(names(FULL) - {"schema"}))
def test_a_value_of_a_wrong_kind_is_told_by_its_field(tmp_path: Path, field: str) -> None:
    document = json.loads(json.dumps(FULL))
    *above, last = field.replace("[]", "").split(".")
    part = document
    for name in above:
        part = part[name][0] if isinstance(part[name], list) else part[name]
    part[last] = [["wrong"]]
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, document)
    assert field.replace("[]", "[0]") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"limits": {"queue": 0}}, "limits.queue must be at least 1"),
        ({"limits": {"idle_seconds": 0}}, "limits.idle_seconds must be more than 0 seconds"),
        ({"limits": {"grace_seconds": -1}}, "limits.grace_seconds must be 0 or more seconds"),
        ({"limits": {"bodybytes": 5}}, "limits.bodybytes is not a field"),
        ({"port": 65536}, "port must be from 0 to 65535"),
        ({"auth": {"mode": "key"}}, "auth.file is missing"),
        ({"auth": {"mode": "password", "file": "x"}}, "auth.mode must be one of none, key, token"),
        ({"tls": {"certificate": "x"}}, "tls.key is missing"),
        ({"service": {"path_prefix": "x"}}, "service.path_prefix must begin with '/'"),
        ({"entry_script": {"file": "../x.py"}}, "entry_script.file must be a path inside"),
        ({"models": []}, "models must not be empty"),
        ({"models": [FULL["models"][0], FULL["models"][0]]}, "models[1] repeats a:2"),
        ({"models": [{"name": "a", "version": 1, "path": "x"}]}, "models[0].file is missing"),
    ],
)
def test_a_value_that_breaks_a_rule_is_told(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    document = {"schema": FULL["schema"], "models": FULL["models"], **changes}
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, document)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"models": [{"name": "a", "version": text, "path": "x", "file": "y"} for text in "12"]},
            ["models[0].version must be a whole number, not '1'", "models[1].version must be a whole number, not '2'"],
        ),
        ({"runtime": {"memory_bytes": "1GB"}}, ["runtime.memory_bytes must be a whole number, not '1GB'"]),
        (
            {"models": [{"name": "a", "version": 1, "path": "x", "file": 5}]},
            ["models[0].file must be a string, not 5"],
        ),
        ({"tls": "chain.pem"}, ["tls must be an object, not 'chain.pem'"]),
        (
            {"runtime": {"memory_byte": 5}},
            ["runtime.memory_byte is not a field that this server knows; did you mean 'memory_bytes'?"],
        ),
        ({"quux": 5}, ["quux is not a field that this server knows"]),
        ({"prot": 5001}, ["prot is not a field that this server knows; did you mean 'port'?"]),
        (
            {"logging": {"level": "warnign"}},
            [f"logging.level must be one of {', '.join(LEVELS)}, not 'warnign'; did you mean 'warning'?"],
        ),
    ],
)
def test_one_fault_is_told_once_and_with_what_may_be_meant(
    tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, {"schema": FULL["schema"], "models": FULL["models"], **changes})
    assert list(caught.value.violations) == says


def test_a_folder_in_place_of_the_file_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder; give the service configuration's file in it"):
        load_config(tmp_path)


def test_the_pages_example_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```json\n(\{.*?\n\})\n```", PAGE.read_text(), re.DOTALL)
    config = read(tmp_path, json.loads(example))
    assert config.models[0].file == "model.onnx"


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    config = override(
        read(tmp_path, FULL),
        {
            "EDGEPACK_HOST": "::1", "EDGEPACK_PORT": "7", "EDGEPACK_LOG_LEVEL": "ERROR",
            "EDGEPACK_LOG_REQUESTS": "none", "EDGEPACK_WORKERS": "11", "EDGEPACK_PROCESSES": "12",
            "EDGEPACK_THREADS": "13", "EDGEPACK_MEMORY_BYTES": "14", "EDGEPACK_COLLECTION": "/c",
            "SERVICE_NAME": "N", "SERVICE_VERSION": "V", "SERVICE_PATH_PREFIX": "/P", "SCORING_TIMEOUT_MS": "1500",
            "AML_APP_ROOT": "/r", "AML_CORS_ORIGINS": "https://b, c.example:8080,, *", "WORKER_COUNT": "99",
            "EDGEPACK_AUTH_MODE": "token", "EDGEPACK_AUTH_FILE": "/t.json", "EDGEPACK_TLS_CERTIFICATE": "/c.pem",
            "EDGEPACK_TLS_KEY": "/k.pem", "EDGEPACK_QUEUE_MS": "250", "EDGEPACK_GRACE_SECONDS": "90",
        },
    )  # fmt: skip
    assert (config.host, config.port, config.root) == ("::1", 7, Path("/r"))
    assert (config.logging.level, config.logging.requests) == ("error", "none")
    assert config.script is not None
    assert (config.script.workers, config.script.threads) == (11, 13)
    assert (config.runtime.processes, config.runtime.threads, config.runtime.memory_bytes) == (12, 13, 14)
    assert (config.identity.name, config.identity.version, config.identity.path_prefix) == ("N", "V", "/P")
    limits = config.limits
    assert (limits.scoring_seconds, limits.queue_seconds, limits.grace_seconds) == (1.5, 0.25, 90.0)
    assert config.cors.origins == ("https://b", "https://c.example:8080", "http://c.example:8080", "*")
    assert config.collection.folder == Path("/c")
    assert config.auth == Auth("token", Path("/t.json"))
    assert config.tls == Tls(Path("/c.pem"), Path("/k.pem"))


def test_empty_variables_change_nothing_and_wrong_ones_are_told_together(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    assert override(config, {"EDGEPACK_PORT": "", "SERVICE_NAME": "", "AML_CORS_ORIGINS": " "}) == config
    with pytest.raises(ConfigurationError) as caught:
        override(config, {"EDGEPACK_PORT": "70000", "SCORING_TIMEOUT_MS": "soon", "EDGEPACK_LOG_LEVEL": "loud"})
    assert len(caught.value.violations) == 3


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"EDGEPACK_AUTH_MODE": "key"}, "EDGEPACK_AUTH_FILE must name a file"),
        ({"EDGEPACK_AUTH_FILE": "/keys.json"}, "EDGEPACK_AUTH_MODE must be key or token"),
        ({"EDGEPACK_AUTH_FILE": "/keys.json", "EDGEPACK_AUTH_MODE": "none"}, "must be key or token"),
        ({"EDGEPACK_AUTH_MODE": "password", "EDGEPACK_AUTH_FILE": "/keys.json"}, "must be one of none, key, token"),
        ({"EDGEPACK_TLS_KEY": "/k.pem"}, "must be set together"),
        ({"EDGEPACK_TLS_CERTIFICATE": "/c.pem"}, "must be set together"),
    ],
)
def test_half_of_what_secures_a_service_is_refused(tmp_path: Path, environment: dict[str, str], told: str) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=told):
        override(single_model(tmp_path / "m.onnx"), environment)


def test_a_script_may_be_run_from_another_copy_of_its_source(tmp_path: Path) -> None:
    for folder in ("src", "copy/src"):
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "inner/score.py").write_text("")
    config = single_script(Path("inner/score.py"), None, tmp_path / "src")
    copy = tmp_path / "copy/src"
    moved = override(config, {"EDGEPACK_SOURCE_DIRECTORY": str(copy)})
    assert moved.script is not None
    assert (moved.script.file, moved.script.folder, moved.root) == (copy / "inner/score.py", copy, copy.parent)
    assert override(config, {"EDGEPACK_SOURCE_DIRECTORY": str(copy), "AML_APP_ROOT": "/r"}).root == Path("/r")
    (tmp_path / "m.onnx").write_bytes(b"")
    for one, folder, told in (
        (config, str(tmp_path / "absent"), "must be the path of a folder"), (config, "src", "must be the path of a"),
        (single_model(tmp_path / "m.onnx"), str(copy), "is for an entry script"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=told):
            override(one, {"EDGEPACK_SOURCE_DIRECTORY": folder})


def test_what_a_script_opens_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("")
    (tmp_path / "model").mkdir()
    check_files(single_script(tmp_path / "score.py", tmp_path / "model"))
    with pytest.raises(MissingFileError, match="no model file"):
        check_files(single_script(tmp_path / "score.py", tmp_path / "absent"))
    with pytest.raises(MissingFileError, match="no entry script"):
        check_files(single_script(tmp_path / "absent.py", None))


def test_a_field_that_is_there_twice_is_refused_by_name(tmp_path: Path) -> None:
    from edge_server.security.keys import read_keys

    text = '{"schema": "edgepack.service/v1", "models": [], "auth": {"mode": "key", "file": "k", "mode": "none"}}'
    (tmp_path / "service.json").write_text(text)
    with pytest.raises(ConfigurationError, match="has the field 'mode' twice"):
        load_config(tmp_path / "service.json")
    (tmp_path / "keys.json").write_text('{"schema": "edgepack.keys/v1", "primary": "a", "primary": "b"}')
    with pytest.raises(ConfigurationError, match="has the field 'primary' twice"):
        read_keys(tmp_path / "keys.json")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--modle", "m.onnx"], "unrecognized arguments: --modle m.onnx; did you mean '--model'?"),
        (["--entryscript=score.py"], "did you mean '--entry-script'?"),
        (["--no-such-thing"], "unrecognized arguments: --no-such-thing; see: edge-server --help\n"),
        (
            ["--entry-scrip", "score.py"],
            "-scrip score.py; did you mean '--entry-script'? see: edge-server --help",
        ),
        (["churn.onnx"], "name the file by an option, such as --model churn.onnx; see: edge-server --help"),
        (["score.py", "--port", "1"], "such as --entry-script score.py;"),
        (["--port", "abc", "--model", "m.onnx"], "edge-server: argument --port: must be a whole number"),
        ([], "edge-server: one of --model, --entry-script and --config is needed; see: edge-server --help"),
    ],
)
def test_an_option_that_is_nearly_right_gets_the_one_that_was_meant(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_server.main.signal.signal", lambda *_: None)
    monkeypatch.setattr("edge_server.main.settle_heap", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
