"""A real server with keys or tokens, over TLS, asked by browsers of other origins."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_server.security.command import main
from tests.support.http_client import Answer, ask_on
from tests.support.running import Done
from tests.support.waiting import wait_until

Server = Any  # conftest.Server
ROWS = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]})
PAGE = "https://page.example"


@pytest.fixture
def configured(converted: Path) -> Callable[..., Path]:
    """Write a service.json beside the model, with those sections."""

    def write(**sections: Any) -> Path:
        path = converted / "service.json"
        models = [{"name": "iris", "version": 1, "path": ".", "file": "model.onnx"}]
        document = {"schema": "edgepack.service/v1", "host": "127.0.0.1", "port": 0, "models": models, **sections}
        path.write_text(json.dumps(document))
        return path

    return write


def new_pair(folder: Path, name: str) -> None:
    """Make a certificate for localhost and its key by the command of the guide, and put them in place."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.new"), "-out", str(folder / "chain.new")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "key.new").rename(folder / "key.pem")
    (folder / "chain.new").rename(folder / "chain.pem")


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None, **headers: str
) -> Answer:
    return ask_on(connection, method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})


def plain(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)


def secure(server: Server, trusted: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(trusted))
    return http.client.HTTPSConnection("localhost", server.port, timeout=60, context=context)


def shown(connection: http.client.HTTPSConnection) -> Any:
    assert isinstance(connection.sock, ssl.SSLSocket)
    certificate: Any = connection.sock.getpeercert()
    return certificate["subject"][0][0][1]


def test_keys_guard_scoring_and_leave_health_open(
    start: Callable[..., Server], configured: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(
        auth={"mode": "key", "file": "keys.json"},
        cors={"origins": [PAGE]},
        logging={"level": "debug", "requests": "all"},
    )
    keys = path.parent / "keys.json"
    assert main(["keys", "new", str(keys)]) == 0
    made = json.loads(capsys.readouterr().out)
    server = start("--config", path)
    with closing(plain(server)) as connection:
        for open_path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert ask(connection, "GET", open_path)[0] == 200
        guarded_paths = ["/score"] + [f"/v{n}/models/iris{a}" for n, a in ((1, ":predict"), (2, "/infer"))]
        for guarded in (*guarded_paths, "/v1/models/iris/versions/1:predict"):
            status, headers, _ = ask(connection, "POST", guarded, ROWS, Origin=PAGE)
            assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="scoring"')
        models = [f"/v{n}/models{more}" for n in (1, 2) for more in ("", "/iris")]
        for guarded in ("/metrics", *models, "/v2", "/v2/models/iris/config", "/v2/models/iris/stats"):
            assert ask(connection, "GET", guarded)[0] == 401
        status, headers, body = ask(connection, "POST", "/score", ROWS, Authorization="Bearer " + "x" * 43, Origin=PAGE)
        assert status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]
        assert headers["access-control-allow-origin"] == PAGE  # so that the page can read why
        assert json.loads(body) == {"message": "the key is not one of this service", "status_code": 401}
        for key in made.values():
            assert ask(connection, "POST", "/score", ROWS, Authorization=f"bearer {key}")[0] == 200
        status, headers, body = ask(
            connection, "OPTIONS", "/score", None, Origin=PAGE, Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization",
        )  # fmt: skip
        assert (status, body) == (200, b"")
        assert headers["access-control-allow-headers"] == "authorization"

        assert main(["keys", "regenerate", str(keys), "primary"]) == 0
        fresh = json.loads(capsys.readouterr().out)["primary"]
        wait_until(lambda: ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {fresh}")[0] == 200)
        assert ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {made['secondary']}")[0] == 200
        assert ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {made['primary']}")[0] == 401
    assert server.stop() == 0
    log = "".join(server.lines)
    assert '"path":"/score"' in log
    for secret in (*made.values(), fresh):
        assert secret not in log


def test_tokens_guard_scoring(
    start: Callable[..., Server], configured: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(auth={"mode": "token", "file": "tokens.json"})
    folder = path.parent
    assert main(["token", "secret", str(folder / "token.secret")]) == 0
    rules = {"schema": "edgepack.tokens/v1", "algorithm": "HS256", "secret_file": "token.secret", "audience": "iris"}
    (folder / "other.json").write_text(json.dumps({**rules, "audience": "other"}))
    (folder / "tokens.json").write_text(json.dumps(rules))
    tokens = []
    for name in ("tokens.json", "other.json"):
        assert main(["token", "new", str(folder / name), "--seconds", "60"]) == 0
        tokens.append(capsys.readouterr().out.strip())
    server = start("--config", path)
    with closing(plain(server)) as connection:
        for _ in range(2):
            assert ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {tokens[0]}")[0] == 200
        status, headers, body = ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {tokens[1]}")
        assert (status, json.loads(body)) == (403, {"message": "the token is for another service", "status_code": 403})
        assert 'error="insufficient_scope"' in headers["www-authenticate"]
        assert ask(connection, "POST", "/score", ROWS, Authorization=f"Bearer {tokens[0][:-2]}")[0] == 401
        assert ask(connection, "POST", "/score", ROWS)[0] == 401


@pytest.mark.real("openssl")
def test_a_new_certificate_is_shown_while_a_connection_goes_on(
    start: Callable[..., Server], configured: Callable[..., Path], tmp_path: Path
) -> None:
    path = configured(tls={"certificate": "chain.pem", "key": "key.pem"})
    folder = path.parent
    new_pair(folder, "first")
    trusted = tmp_path / "first.pem"
    trusted.write_bytes((folder / "chain.pem").read_bytes())
    server = start("--config", path)
    with closing(secure(server, trusted)) as lasting:
        assert ask(lasting, "POST", "/score", ROWS)[0] == 200
        assert shown(lasting) == "first"
        new_pair(folder, "second")
        end = time.monotonic() + 60
        name = ""
        while name != "second" and time.monotonic() < end:
            time.sleep(0.2)
            with closing(secure(server, folder / "chain.pem")) as other:
                try:
                    assert ask(other, "POST", "/score", ROWS)[0] == 200
                except ssl.SSLCertVerificationError:  # the first one, still
                    continue
                name = shown(other)
        assert name == "second"
        assert ask(lasting, "POST", "/score", ROWS)[0] == 200
        assert shown(lasting) == "first"
    with closing(plain(server)) as unaware, pytest.raises((http.client.HTTPException, OSError)):
        ask(unaware, "GET", "/")
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("sections", "code", "words"),
    [
        ({"auth": {"mode": "key", "file": "keys.json"}}, 3, "there is no keys file at"),
        ({"auth": {"mode": "key", "file": "model.onnx"}}, 2, "is not JSON"),
        ({"auth": {"mode": "token", "file": "tokens.json"}}, 3, "there is no tokens file at"),
        ({"tls": {"certificate": "chain.pem", "key": "key.pem"}}, 3, "there is no certificate at"),
        ({"cors": {"origins": ["page.example"]}}, 2, "page.example"),
    ],
)
def test_a_service_that_cannot_be_secured_does_not_start(
    refused: Callable[..., Done],
    configured: Callable[..., Path],
    sections: dict[str, Any],
    code: int,
    words: str,
) -> None:
    done = refused("--config", configured(**sections))
    assert done.code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
