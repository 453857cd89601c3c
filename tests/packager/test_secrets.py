"""Known credentials are found in what a build writes, as they are and in base64, and never shown."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import EdgepackError
from edgepack.oci.layer import LayerEntry
from packager.layers.secrets import MIN_LENGTH, Secret, SecretSearch, known_secrets
from packager.workspaces.workspace import Workspace

SECRET = Secret("a test", b"s3cr3t/+~value")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any credential."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path


def values(home: Path, **variables: str) -> dict[str, str]:
    found = known_secrets({"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), **variables})
    return {secret.value.decode(): secret.source for secret in found if str(home) in secret.source
            or secret.source.startswith("the variable")}  # fmt: skip


# ---- Searching ----------------------------------------------------------------------------------------------------


@given(
    value=st.binary(min_size=MIN_LENGTH, max_size=40),
    before=st.binary(max_size=50),
    after=st.binary(max_size=50),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    form=st.sampled_from([lambda data: data, base64.b64encode, base64.urlsafe_b64encode]),
)
def test_a_credential_is_found_in_any_form_however_the_stream_is_cut(
    value: bytes, before: bytes, after: bytes, cuts: list[int], form: object
) -> None:
    data = form(before + value + after)  # type: ignore[operator]
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    with pytest.raises(EdgepackError, match="contains the credential"):
        SecretSearch([Secret("a test", value)]).check(pieces, "file")


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_what_holds_no_credential_passes_unchanged(pieces: list[bytes]) -> None:
    search = SecretSearch([Secret("a test", b"never-in-there-0123456789")])
    assert list(search.passing(pieces, "file")) == pieces


def test_the_error_names_file_and_source_and_never_the_value() -> None:
    with pytest.raises(EdgepackError) as error:
        SecretSearch([SECRET]).check([b"password: s3cr3t/+~value"], "model/notes.txt")
    assert str(error.value) == (
        "model/notes.txt: contains the credential from a test, which must not get into an image; "
        "remove it there, or remove it from its source if it is not a secret"
    )
    assert "s3cr3t" not in repr(SECRET)


def test_a_docker_auth_of_user_and_password_is_found() -> None:
    auth = base64.b64encode(b"someone:" + SECRET.value)
    with pytest.raises(EdgepackError, match="contains the credential"):
        SecretSearch([SECRET]).check([b'{"auths":{"r.example":{"auth":"' + auth + b'"}}}'], "config.json")


def test_entries_of_a_layer_are_searched() -> None:
    entries = [LayerEntry("etc", "dir"), LayerEntry.of_bytes("etc/a", b"x" * 3_000_000 + SECRET.value)]
    with pytest.raises(EdgepackError, match="etc/a: contains the credential"):
        SecretSearch([SECRET]).check_entries(entries)
    SecretSearch([]).check_entries(entries)


def _wrapped(width: int, end: bytes) -> Callable[[bytes], bytes]:
    def wrap(data: bytes) -> bytes:
        letters = base64.b64encode(b"user:" + data + b":rest")
        return end.join(letters[at : at + width] for at in range(0, len(letters), width))

    return wrap


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "percent": lambda data: quote(data, safe="").encode(),
    "percent in lower case": lambda data: re.sub(b"%..", lambda code: code[0].lower(), quote(data, safe="").encode()),
    "percent in a path": lambda data: quote(data).encode(),
    "percent in a form": lambda data: quote_plus(data).encode(),
    "percent, every byte": lambda data: b"".join(b"%%%02X" % byte for byte in data),
    "JSON": lambda data: json.dumps({"a": data.decode()}).encode(),
    "JSON with its letters": lambda data: json.dumps(data.decode(), ensure_ascii=False).encode(),
    "JSON as Go writes it": lambda data: re.sub(
        "[&<>]", lambda tag: f"\\u{ord(tag[0]):04x}", json.dumps(data.decode(), ensure_ascii=False)
    ).encode(),
    "JSON as PHP writes it": lambda data: json.dumps(data.decode()).replace("/", "\\/").encode(),
    "JSON as .NET writes it": lambda data: re.sub(
        "[\"&'+<>`é-ÿ]", lambda tag: f"\\u{ord(tag[0]):04X}", data.decode().replace("\\", "\\\\")
    ).encode(),
    "properties of Java": lambda data: re.sub(
        "[é-ÿ]", lambda tag: f"\\u{ord(tag[0]):04X}", re.sub(r"[\\:=#!]", r"\\\g<0>", data.decode())
    ).encode(),
    "a word of bash": lambda data: (
        subprocess.run(
            ["bash", "-c", 'printf %q "$1"', "-", data], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
        ).stdout
    ),
    "a word of a shell": lambda data: shlex.quote(data.decode()).encode(),
    "in double quotes of a shell": lambda data: re.sub(r'["$`\\]', r"\\\g<0>", data.decode()).encode(),
    "single quotes of YAML": lambda data: data.replace(b"'", b"''"),
    "a cell of CSV": lambda data: data.replace(b'"', b'""'),
    "a compose file": lambda data: data.replace(b"$", b"$$"),
    "an INI file": lambda data: data.replace(b"%", b"%%"),
    "a regular expression": lambda data: re.escape(data.decode()).encode(),
    "ASCII of Python": lambda data: ascii(data.decode()).encode(),
    "bytes of Python": lambda data: repr(data).encode(),
    "bytes of JavaScript": lambda data: json.dumps(list(data)).encode(),
    "octal escapes": lambda data: "".join(f"\\{byte:03o}" for byte in data).encode(),
    "XML, every letter": lambda data: "".join(f"&#{byte};" for byte in data).encode(),
    "XML in ASCII": lambda data: html.escape(data.decode(), quote=False).encode("ascii", "xmlcharrefreplace"),
    "XML with &apos;": lambda data: saxutils.escape(data.decode(), {'"': "&quot;", "'": "&apos;"}).encode(),
    "XML as Jinja writes it": lambda data: (
        html.escape(data.decode()).replace("&#x27;", "&#39;").replace("&quot;", "&#34;").encode()
    ),
    "XML": lambda data: html.escape(data.decode()).encode(),
    "Python": lambda data: repr(data.decode()).encode(),
    "base64 in lines of 76": _wrapped(76, b"\n"),
    "base64 in lines of 64": _wrapped(64, b"\r\n"),
    "base64 in short, indented lines": _wrapped(5, b"\n        "),
    "base64 in a JSON text": _wrapped(7, b"\\n"),
    "base64 in Python's texts": _wrapped(8, b'"\n    "'),
    "base64 for URLs": lambda data: base64.urlsafe_b64encode(b"x" + data),
    "base64 twice": lambda data: base64.b64encode(b'{"auth": "' + base64.b64encode(b"me:" + data) + b'"}'),
    "hex": lambda data: data.hex().encode(),
    "hex in capitals": lambda data: data.hex().upper().encode(),
    "hex with colons": lambda data: data.hex(":").encode(),
    "hex in lines of 60": lambda data: b"\n".join(
        [(b"ab" * 20 + data).hex().encode()[at : at + 60] for at in range(0, 999, 60)]
    ),
    "hex escapes": lambda data: "".join(f"\\x{byte:02x}" for byte in data).encode(),
    "hex in a list": lambda data: ", ".join(f"0x{byte:02X}" for byte in data).encode(),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16, big end first": lambda data: data.decode().encode("utf-16-be"),
    "UTF-16 in base64": lambda data: base64.b64encode(("x" + data.decode()).encode("utf-16-le")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "value",
    ["s3cr3t/+~value", 'pass wörd&<"x">%20', "ghp_0123456789abcdefABCDEF", "a b+c=d/e?f&g", "it's $1 \\ é:#100%!"],
)
def test_a_credential_is_found_in_every_common_encoding(form: str, value: str) -> None:
    search = SecretSearch([Secret("a test", value.encode())])
    data = b"x" * 777 + FORMS[form](value.encode()) + b"\nand more"
    for size in (len(data), 3, 64):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        with pytest.raises(EdgepackError, match="contains the credential"):
            search.check(pieces, "file")


@pytest.mark.parametrize("form", ["percent", "base64 for URLs", "hex", "JSON with its letters"])
def test_a_credential_in_a_name_is_found_and_not_shown(form: str) -> None:
    value = "tok_0123456789+abc"
    name = FORMS[form](value.encode()).decode().strip('"')
    search = SecretSearch([Secret("a test", value.encode())])
    for entry in (
        LayerEntry(f"app/{name}.txt"),
        LayerEntry(f"app/{name}/x"),
        LayerEntry("app/l", linkname=f"app/{name}"),
    ):
        with pytest.raises(EdgepackError, match="app: a name here contains the credential from a test") as error:
            search.check_entries([entry])
        assert name not in str(error.value)


def test_a_model_whose_file_is_named_like_a_credential_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_TOKEN", "tok_0123456789abc")
    (home / "m").mkdir()
    (home / "m/weights-tok_0123456789abc.bin").write_text("x")
    with pytest.raises(EdgepackError, match="m: a name here contains the credential from the variable EDGEPACK_TOKEN"):
        Workspace(home / "ws", home / "cache").models.register("m", home / "m")


# ---- What is known ------------------------------------------------------------------------------------------------


def test_docker_knows_passwords_and_tokens(home: Path) -> None:
    (home / "docker").mkdir()
    auths = {
        "r.example:5000": {"auth": base64.b64encode(b"me:docker-password").decode()},
        "https://index.docker.io/v1/": {"identitytoken": "an-identity-token"},
        "short.example": {"auth": base64.b64encode(b"me:short").decode()},
        "broken.example": {"auth": "%%%"},
    }
    (home / "docker/config.json").write_text(json.dumps({"auths": auths, "credsStore": "must-not-be-run"}))
    found = values(home)
    assert set(found) == {"docker-password", "an-identity-token"}
    assert found["docker-password"].endswith("config.json for r.example:5000")


def test_passwords_of_netrc_are_known_as_pip_and_uv_use_them(home: Path) -> None:
    (home / ".netrc").write_text("machine pypi.example login me password netrc-password\ndefault login a password b\n")
    assert values(home) == {"netrc-password": f"{home}/.netrc for pypi.example"}
    (home / "other").write_text("machine a.example login me password other-password")
    assert set(values(home, NETRC=str(home / "other"))) == {"other-password"}
    (home / "other").write_text("machine")
    assert values(home, NETRC=str(home / "other")) == {}


def test_a_docker_configuration_that_cannot_be_read_stops_no_build(home: Path) -> None:
    (home / "docker").mkdir()
    (home / "docker/config.json").write_text("{")
    assert values(home) == {}


def test_addresses_of_package_indexes_give_their_passwords(home: Path) -> None:
    found = values(
        home,
        PIP_EXTRA_INDEX_URL="https://me:index%2Fpassword@pypi.example/simple https://other.example/simple",
        UV_INDEX="corp=https://a-token-of-some-length-0001@pypi.example/simple",
        UV_INDEX_CORP_PASSWORD="uv-password",
        UV_DEFAULT_INDEX="https://justauser@pypi.example/simple",
        EDGEPACK_REGISTRY_TOKEN="registry-token",
        EDGEPACK_PASSWORD="short",
        OTHER_PASSWORD="not-of-ours",
    )
    assert found == {
        "index%2Fpassword": "the variable PIP_EXTRA_INDEX_URL",
        "index/password": "the variable PIP_EXTRA_INDEX_URL",
        "a-token-of-some-length-0001": "the variable UV_INDEX",
        "uv-password": "the variable UV_INDEX_CORP_PASSWORD",
        "registry-token": "the variable EDGEPACK_REGISTRY_TOKEN",
    }


@pytest.mark.parametrize("where", [".config/pip/pip.conf", ".pip/pip.conf", "xdg/pip/pip.conf", "own.conf"])
def test_settings_files_of_pip_give_their_passwords(home: Path, where: str) -> None:
    path = home / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[global]\nindex-url = https://me:file-password@pypi.example/simple\n")
    assert values(home, PIP_CONFIG_FILE=str(home / "own.conf")) == {"file-password": str(path)}


def test_a_user_without_a_home_can_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert known_secrets({"UV_PUBLISH_TOKEN": "publish-token"})[0].value == b"publish-token"


def test_what_podman_keeps_is_known_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "auth.json"))
    coded = base64.b64encode(b"ann:a long password of ann").decode()
    (home / "auth.json").write_text(json.dumps({"auths": {"r.lan": {"auth": coded}}}))
    assert values(home)["a long password of ann"] == f"{home}/auth.json for r.lan"
