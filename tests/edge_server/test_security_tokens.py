"""The guard with tokens: made by another library and by hand, good ones, expired ones, forged ones."""

from __future__ import annotations

import base64
import hmac
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.values import Auth
from edge_server.errors import BadRequest, ConfigurationError, MissingFileError
from edge_server.http.messages import Request
from edge_server.security import jwt
from edge_server.security.guard import Guard
from edge_server.security.token_rules import read_rules
from edge_server.security.tokens import REMEMBERED, WRONG_A_SECOND, Tokens

NOW = 1_800_000_000.0
SECRET = "k" * 43
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
PUBLIC = PRIVATE.public_key()
ALGORITHMS = ["HS256", "EdDSA", "EdDSA in plain Python"]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def base64url(content: bytes | dict[str, Any]) -> str:
    content = json.dumps(content).encode() if isinstance(content, dict) else content
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def by_hand(header: dict[str, Any] | bytes, body: dict[str, Any] | bytes, secret: bytes = SECRET.encode()) -> str:
    signed = f"{base64url(header)}.{base64url(body)}"
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), 'sha256'))}"


def claims(**changes: Any) -> dict[str, Any]:
    made = {"aud": "churn", "iss": "factory", "iat": int(NOW), "exp": int(NOW) + 600, **changes}
    return {name: value for name, value in made.items() if value is not None}


def rules(folder: Path, algorithm: str, /, **changes: Any) -> Path:
    path = folder / "tokens.json"
    (folder / "token.secret").write_text(SECRET + "\n")
    (folder / "token.secret").chmod(0o600)
    how = {"secret_file": "token.secret"} if algorithm == "HS256" else {"public_key": public_pem()}
    common = {"schema": "edgepack.tokens/v1", "algorithm": algorithm, "audience": "churn", "issuer": "factory"}
    path.write_text(json.dumps({**common, **how, **changes}))
    return path


def rules_naming(path: Path, secret: str) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), "secret_file": secret}))
    return path


def public_pem() -> str:
    return PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def asking(token: str | bytes) -> Request:
    value = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    return Request("POST", "/score", "/score", "", [(b"host", b"x"), (b"authorization", value)], b"")


def refusal(guard: Guard, token: str | bytes) -> tuple[int, str]:
    with pytest.raises(BadRequest) as caught:
        guard.check(asking(token))
    headers = dict(caught.value.headers)
    if caught.value.status != 429:
        code = {401: b"invalid_token", 403: b"insufficient_scope"}[caught.value.status]
        assert b'error="%b"' % code in headers[b"www-authenticate"]
    return caught.value.status, caught.value.message


class Issuer:
    """A guard for one algorithm, and a foreign library that makes tokens for it."""

    def __init__(self, folder: Path, algorithm: str) -> None:
        self.name = algorithm.split()[0]
        self.folder = folder
        self.clock = Clock()
        self.guard = self.guarding()
        self._key: Any = SECRET if self.name == "HS256" else PRIVATE

    def guarding(self, **changes: Any) -> Guard:
        return Guard(Auth("token", rules(self.folder, self.name, **changes)), self.clock)

    def make(self, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        return pyjwt.encode(claims(**changes), self._key, self.name, headers)


@pytest.fixture(params=ALGORITHMS)
def issuer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    if request.param.endswith("plain Python"):
        without_cryptography(monkeypatch)
    return Issuer(tmp_path, request.param)


def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)


@pytest.fixture
def hmac_guard(tmp_path: Path) -> Guard:
    return Guard(Auth("token", rules(tmp_path, "HS256")), Clock())


def test_a_token_of_another_library_is_taken_until_it_expires(issuer: Issuer) -> None:
    token = issuer.make()
    for seconds in (0, 599, 659):
        issuer.clock.now = NOW + seconds
        issuer.guard.check(asking(token))
    issuer.clock.now = NOW + 660
    status, message = refusal(issuer.guard, token)
    assert status == 401
    assert "expired, by the clock of this device" in message


def test_plain_python_is_used_only_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rules(tmp_path, "EdDSA")
    assert not read_rules(path).slow
    without_cryptography(monkeypatch)
    assert read_rules(path).slow


@pytest.mark.parametrize("audience", ["churn", ["other", "churn"]])
def test_an_audience_may_be_one_or_a_list(issuer: Issuer, audience: Any) -> None:
    issuer.guard.check(asking(issuer.make(aud=audience)))


@pytest.mark.parametrize("audience", ["other", ["other"], [], None, "churn2", {"churn": 1}, 5])
def test_a_genuine_token_for_another_service_is_forbidden(issuer: Issuer, audience: Any) -> None:
    for _ in range(2):
        assert refusal(issuer.guard, issuer.make(aud=audience))[0] == 403


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exp": None}, "no expiry"),
        ({"exp": NOW - 61}, "expired"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"iat": NOW + 61}, "not valid yet"),
        ({"iss": "somebody"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"iss": ["factory"]}, "another issuer"),
        ({"exp": "1900000000"}, "exp is not a number"),
        ({"exp": True}, "exp is not a number"),
        ({"nbf": "0"}, "nbf is not a number"),
        ({"iat": [0]}, "iat is not a number"),
    ],
)
def test_claims_that_do_not_hold_are_told(hmac_guard: Guard, changes: dict[str, Any], words: str) -> None:
    status, message = refusal(hmac_guard, by_hand({"alg": "HS256"}, claims(**changes)))
    assert status == 401
    assert words in message


@pytest.mark.parametrize("changes", [{"exp": NOW - 59}, {"nbf": NOW + 59}, {"iat": NOW + 59.5}, {"iat": None}])
def test_clocks_may_differ_by_the_leeway(hmac_guard: Guard, changes: dict[str, Any]) -> None:
    hmac_guard.check(asking(by_hand({"alg": "HS256"}, claims(**changes))))


def test_the_leeway_can_be_chosen(issuer: Issuer) -> None:
    token = issuer.make(exp=int(NOW) - 100)
    issuer.guarding(leeway_seconds=101).check(asking(token))
    assert refusal(issuer.guarding(leeway_seconds=0), token)[0] == 401
    assert refusal(issuer.guarding(leeway_seconds=0), issuer.make(exp=int(NOW)))[0] == 401


def test_without_an_issuer_in_the_rules_any_is_taken(issuer: Issuer) -> None:
    issuer.guarding(issuer=None).check(asking(issuer.make(iss="whoever")))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt"])
def test_usual_types_are_taken(hmac_guard: Guard, kind: str) -> None:
    hmac_guard.check(asking(by_hand({"alg": "HS256", "typ": kind, "kid": "1"}, claims())))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"alg": "none"}, "not signed by HS256"),
        ({"alg": "hs256"}, "not signed by HS256"),
        ({"alg": "HS512"}, "not signed by HS256"),
        ({"alg": "EdDSA"}, "not signed by HS256"),
        ({"alg": ["HS256"]}, "not signed by HS256"),
        ({}, "not signed by HS256"),
        ({"alg": "HS256", "crit": ["b64"], "b64": False}, "extension"),
        ({"alg": "HS256", "crit": None}, "extension"),
        ({"alg": "HS256", "typ": "JOSE"}, "not JWT"),
        ({"alg": "HS256", "typ": 5}, "not JWT"),
        (b'{"alg": "HS256", "alg": "none"}', "not signed by HS256"),
        (b"[]", "not an object"),
        (b"{", "not JSON"),
        (b'{"alg": "HS256"', "not JSON"),
        (b"[" * 2900, "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_headers_that_are_not_as_configured_are_refused_though_the_signature_fits(
    hmac_guard: Guard, header: dict[str, Any] | bytes, words: str
) -> None:
    status, message = refusal(hmac_guard, by_hand(header, claims()))
    assert status == 401
    assert words in message


def test_of_a_claim_that_comes_twice_the_last_one_counts(hmac_guard: Guard) -> None:
    body = json.dumps(claims())
    late = body[:-1] + f', "exp": {NOW + 600}}}'
    hmac_guard.check(asking(by_hand({"alg": "HS256"}, late.replace(f'"exp": {int(NOW) + 600},', '"exp": 1,').encode())))
    early = body[:-1] + ', "exp": 1}'
    assert "expired" in refusal(hmac_guard, by_hand({"alg": "HS256"}, early.encode()))[1]


def test_the_public_key_is_no_secret(tmp_path: Path) -> None:
    """The old confusion: a token whose HMAC is made with what everybody may know."""
    guard = Guard(Auth("token", rules(tmp_path, "EdDSA")), Clock())
    for secret in (public_pem().encode(), PUBLIC.public_bytes_raw(), b""):
        assert refusal(guard, by_hand({"alg": "HS256"}, claims(), secret))[0] == 401
        assert refusal(guard, by_hand({"alg": "EdDSA"}, claims(), secret))[0] == 401


def test_a_changed_token_is_refused(issuer: Issuer) -> None:
    header, body, signature = issuer.make().split(".")
    other = issuer.make(exp=int(NOW) + 601).split(".")
    for forged in (
        f"{header}.{other[1]}.{signature}",
        f"{header}.{body}.{other[2]}",
        f"{header}.{body}.{base64url(base64.urlsafe_b64decode(signature + '==')[:-1])}",
        f"{header}.{body}.{base64url(bytes(64))}",
    ):
        assert refusal(issuer.guard, forged) == (401, "the token's signature is wrong")
    for broken in (f"{header}.{body}.", f"{header}.{body}", f".{body}.{signature}", f"{header}.{body}.{signature}.x"):
        assert refusal(issuer.guard, broken)[0] == 401


def test_a_token_can_be_written_in_one_way_only(issuer: Issuer) -> None:
    token = issuer.make()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet:
        if last != token[-1]:
            assert refusal(issuer.guard, token[:-1] + last)[0] in (401, 429)
    for other in (token + "=", token + "==", token.replace(".", ". "), token + "\0"):
        assert refusal(issuer.guard, other)[0] in (401, 429)


def test_a_token_that_is_too_long_is_refused_before_anything_is_decoded(hmac_guard: Guard) -> None:
    token = by_hand({"alg": "HS256"}, claims(more="x" * jwt.LONGEST))
    assert "too long" in refusal(hmac_guard, token)[1]


def test_a_good_token_is_verified_once_and_a_bad_one_is_not_remembered(tmp_path: Path) -> None:
    found = read_rules(rules(tmp_path, "HS256"))
    verified: list[bytes] = []

    def verify(signature: bytes, signed: bytes) -> bool:
        verified.append(signed)
        return len(verified) < 2000

    found = replace(found, verify=verify)
    tokens = Tokens(found)
    token = by_hand({"alg": "HS256"}, claims()).encode()
    for _ in range(3):
        tokens.check(token, NOW)
    assert len(verified) == 1
    for number in range(REMEMBERED + 5):
        tokens.check(by_hand({"alg": "HS256"}, claims(jti=number)).encode(), NOW)
        tokens.check(token, NOW)  # in use, so that it stays
    assert len(tokens._accepted) == REMEMBERED
    assert len(verified) == 1 + REMEMBERED + 5
    verified.extend([b""] * 2000)
    for number in range(20):
        with pytest.raises(BadRequest):
            tokens.check(by_hand({"alg": "HS256"}, claims(wrong=number)).encode(), NOW)
    assert len(tokens._accepted) == REMEMBERED


def test_a_clock_that_is_set_back_makes_a_remembered_token_not_valid_yet(issuer: Issuer) -> None:
    token = issuer.make()
    issuer.guard.check(asking(token))
    issuer.clock.now = NOW - 3600
    assert "not valid yet" in refusal(issuer.guard, token)[1]
    issuer.clock.now = NOW
    issuer.guard.check(asking(token))


def test_wrong_signatures_are_bounded_where_they_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cryptography(monkeypatch)
    issuer = Issuer(tmp_path, "EdDSA")
    known = issuer.make()
    issuer.guard.check(asking(known))
    forged = [f"{issuer.make(jti=number).rsplit('.', 1)[0]}.{base64url(bytes(64))}" for number in range(100)]
    found = [refusal(issuer.guard, token)[0] for token in forged]
    assert found == [401] * int(WRONG_A_SECOND) + [429] * (100 - int(WRONG_A_SECOND))
    issuer.guard.check(asking(known))
    assert refusal(issuer.guard, issuer.make(jti="new"))[0] == 429
    issuer.clock.now += 1
    issuer.guard.check(asking(issuer.make(jti="new")))


def test_good_tokens_are_not_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cryptography(monkeypatch)
    issuer = Issuer(tmp_path, "EdDSA")
    for number in range(int(WRONG_A_SECOND) + 5):
        issuer.guard.check(asking(issuer.make(jti=number)))


def test_a_new_secret_or_new_rules_end_the_tokens_of_the_former(tmp_path: Path) -> None:
    clock = Clock()
    guard = Guard(Auth("token", rules(tmp_path, "HS256")), clock)
    token = by_hand({"alg": "HS256"}, claims())
    guard.check(asking(token))
    (tmp_path / "token.secret").write_text("n" * 43)
    clock.now += 1
    assert refusal(guard, token)[0] == 401
    guard.check(asking(by_hand({"alg": "HS256"}, claims(), b"n" * 43)))
    (tmp_path / "token.secret").write_text("short")
    clock.now += 1
    guard.check(asking(by_hand({"alg": "HS256"}, claims(), b"n" * 43)))
    rules(tmp_path, "HS256", audience="other")
    clock.now += 1
    assert refusal(guard, token)[0] == 403


Written = Callable[[], str]


@pytest.mark.parametrize(
    "written",
    [
        public_pem,
        lambda: base64.b64encode(PUBLIC.public_bytes_raw()).decode(),
        lambda: base64url(PUBLIC.public_bytes_raw()),
        lambda: base64.b64encode(PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode(),
    ],
)
def test_a_public_key_may_be_written_in_the_usual_ways(tmp_path: Path, written: Written) -> None:
    issuer = Issuer(tmp_path, "EdDSA")
    issuer.guarding(public_key=written()).check(asking(issuer.make()))


@pytest.mark.parametrize(
    ("algorithm", "changes", "words"),
    [
        ("HS256", {"algorithm": ""}, "algorithm must not be empty"),
        ("HS256", {"algorithm": "none"}, "algorithm must be HS256 or EdDSA"),
        ("HS256", {"algorithm": None}, "algorithm is missing"),
        ("HS256", {"secret_file": ""}, "secret_file must not be empty"),
        ("HS256", {"secret_file": None}, "secret_file is missing"),
        ("HS256", {"audience": ""}, "audience must not be empty"),
        ("HS256", {"audience": None}, "audience is missing"),
        ("HS256", {"audience": ["churn"]}, "audience must be a string"),
        ("HS256", {"leeway_seconds": -1}, "leeway_seconds must be 0 to 86400"),
        ("HS256", {"leeway_seconds": 1e9}, "leeway_seconds must be 0 to 86400"),
        ("HS256", {"secret": "x"}, "secret is not a field"),
        ("HS256", {"public_key": "x"}, "public_key is not a field"),
        ("EdDSA", {"public_key": ""}, "public_key must not be empty"),
        ("EdDSA", {"public_key": "AAAA"}, "must be an Ed25519 public key"),
        ("EdDSA", {"public_key": "-----BEGIN PUBLIC KEY-----"}, "must be an Ed25519 public key"),
        ("EdDSA", {"public_key": base64url(b"\1" + b"\0" * 31)}, "small order"),
        ("EdDSA", {"public_key": base64url(b"\0" * 44)}, "must be an Ed25519 public key"),
        ("EdDSA", {"schema": "edgepack.keys/v1"}, "edgepack.tokens/v1"),
    ],
)
def test_rules_that_are_wrong_are_named(tmp_path: Path, algorithm: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_rules(rules(tmp_path, algorithm, **changes))


def test_a_secret_must_be_there_be_long_and_be_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = rules(tmp_path, "HS256")
    secret = tmp_path / "token.secret"
    read_rules(path)
    assert not caplog.records
    secret.chmod(0o644)
    read_rules(path)
    assert "open to all users" in caplog.text
    secret.write_text("x" * 31 + "\n\n")
    with pytest.raises(ConfigurationError, match="31 bytes; a secret needs at least 32"):
        read_rules(path)
    secret.unlink()
    for name in ("token.secret", "zero\0byte", "."):
        with pytest.raises(MissingFileError, match="token secret FILE"):
            read_rules(rules_naming(path, name))


def test_no_secret_is_shown_by_repr_or_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    path = rules(tmp_path, "HS256")
    found = read_rules(path)
    guard = Guard(Auth("token", path), Clock())
    token = by_hand({"alg": "HS256"}, claims())
    guard.check(asking(token))
    refusal(guard, token[:-2])
    for shown in (repr(found), repr(guard), repr(Tokens(found)), caplog.text):
        assert SECRET not in shown
        assert token[:30] not in shown


@given(st.binary(max_size=200))
def test_noise_is_no_token(noise: bytes) -> None:
    with pytest.raises(ValueError, match="the token"):
        jwt.parse(noise)


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=5))
def test_what_is_made_can_be_taken_apart_by_both(body: dict[str, Any]) -> None:
    token = jwt.make("HS256", body, lambda signed: hmac.digest(SECRET.encode(), signed, "sha256"))
    assert jwt.parse(token.encode()).claims == body
    options: Any = {"verify_signature": False}
    assert pyjwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert pyjwt.decode_complete(token, options=options)["payload"] == body
