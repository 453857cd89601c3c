"""The guard with keys: what a request must bring, what it is told otherwise, and keys that change under it."""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.values import Auth
from edge_server.errors import BadRequest, ConfigurationError, MissingFileError
from edge_server.http.messages import Headers, Request
from edge_server.security.guard import Guard
from edge_server.security.keys import digest_of, document, new_key, read_keys

PRIMARY, SECONDARY = "p" * 43, "s" * 43


class Clock:
    """A clock that stands until it is told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def asking(*values: bytes) -> Request:
    headers: Headers = [(b"host", b"x"), *((b"authorization", value) for value in values), (b"accept", b"*/*")]
    return Request("POST", "/score", "/score", "", headers, b"")


def write(path: Path, primary: str = PRIMARY, secondary: str = SECONDARY) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document(digest_of(primary), digest_of(secondary))))
    new.rename(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write(path)
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(file: Path, clock: Clock) -> Guard:
    return Guard(Auth("key", file), clock)


def refusal(guard: Guard, *values: bytes) -> tuple[int, bytes, str]:
    with pytest.raises(BadRequest) as caught:
        guard.check(asking(*values))
    headers = dict(caught.value.headers)
    return caught.value.status, headers[b"www-authenticate"], caught.value.message


def accepts(guard: Guard, key: str) -> bool:
    try:
        guard.check(asking(b"Bearer " + key.encode()))
    except BadRequest:
        return False
    return True


def test_without_keys_everybody_may_ask() -> None:
    Guard(Auth()).check(asking())
    Guard(Auth()).check(asking(b"one", b"two"))


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   "])
def test_either_key_is_taken_whatever_the_case_of_the_scheme(guard: Guard, scheme: bytes) -> None:
    guard.check(asking(scheme + PRIMARY.encode()))
    guard.check(asking(scheme + SECONDARY.encode()))


@pytest.mark.parametrize(
    "value", [None, b"", b"Bearer", b"Basic dXNlcjpwYXNz", PRIMARY.encode(), b"Bearer\t" + b"p" * 43]
)
def test_who_brings_nothing_is_told_how_to_ask_and_gets_no_error_code(guard: Guard, value: bytes | None) -> None:
    status, challenge, message = refusal(guard, *([] if value is None else [value]))
    assert (status, challenge) == (401, b'Bearer realm="scoring"')
    assert "Authorization: Bearer" in message


@pytest.mark.parametrize(
    "key", [b"p" * 42, b"p" * 44, b"P" * 43, b"p" * 43 + b" x", b"\xff\x00", b"x" * 60000, b"sha256:" + b"0" * 64]
)
def test_a_wrong_key_is_an_invalid_token(guard: Guard, key: bytes) -> None:
    status, challenge, message = refusal(guard, b"Bearer " + key)
    assert status == 401
    assert challenge.startswith(b'Bearer realm="scoring", error="invalid_token", error_description="')
    assert key.decode("latin-1") not in message


def test_the_digest_of_a_key_is_no_key(guard: Guard) -> None:
    for written in (sha256(PRIMARY.encode()).hexdigest().encode(), sha256(PRIMARY.encode()).digest()):
        assert refusal(guard, b"Bearer " + written)[0] == 401


def test_several_authorization_headers_are_refused_even_with_a_good_key(guard: Guard) -> None:
    good = b"Bearer " + PRIMARY.encode()
    for values in ((good, b"Bearer x"), (b"Bearer x", good), (good, good)):
        status, challenge, _ = refusal(guard, *values)
        assert status == 400
        assert b'error="invalid_request"' in challenge


@pytest.fixture(scope="module")
def lasting_guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    path = tmp_path_factory.mktemp("lasting") / "keys.json"
    write(path)
    return Guard(Auth("key", path))


@given(st.binary(max_size=100))
def test_noise_is_refused_with_a_challenge_that_can_be_sent(lasting_guard: Guard, value: bytes) -> None:
    status, challenge, _ = refusal(lasting_guard, value)
    assert status == 401
    assert challenge.isascii()
    assert b"\n" not in challenge


def test_a_key_made_anew_is_taken_within_a_second_and_the_former_one_no_more(
    guard: Guard, file: Path, clock: Clock
) -> None:
    fresh = new_key()
    write(file, primary=fresh)
    assert not accepts(guard, fresh)  # the file is looked at once a second, not at each request
    clock.now += 1
    assert accepts(guard, fresh)
    assert accepts(guard, SECONDARY)
    assert not accepts(guard, PRIMARY)


def test_a_clock_that_is_set_back_does_not_stop_the_looking(guard: Guard, file: Path, clock: Clock) -> None:
    fresh = new_key()
    write(file, primary=fresh)
    clock.now -= 86400
    assert accepts(guard, fresh)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"primary": "x"}', None])
def test_a_broken_new_file_keeps_the_keys_and_is_logged_once(
    guard: Guard, file: Path, clock: Clock, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for _ in range(5):
        clock.now += 1
        assert accepts(guard, PRIMARY)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "keys.json" in errors[0].getMessage()
    write(file, primary=(fresh := new_key()))
    clock.now += 1
    assert accepts(guard, fresh)
    assert not accepts(guard, PRIMARY)


def test_an_unchanged_file_is_not_read_again(guard: Guard, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read again"))
    for _ in range(3):
        clock.now += 10
        assert accepts(guard, PRIMARY)


def test_a_service_that_should_be_locked_does_not_start_open(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"keys\.json"):
        Guard(Auth("key", tmp_path / "keys.json"))
    with pytest.raises(ConfigurationError, match="file is missing"):
        Guard(Auth("key"))
    with pytest.raises(ConfigurationError, match="none, key or token"):
        Guard(Auth("keys", tmp_path))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "primary is missing.*secondary is missing"),
        ({"primary": PRIMARY, "secondary": "sha256:" + "0" * 64}, "primary must be sha256:"),
        ({"primary": "sha256:" + "0" * 63, "secondary": "sha256:" + "0" * 64}, "primary must be sha256:"),
        ({"primary": "sha256:" + "A" * 64, "secondary": "sha256:" + "0" * 64}, "primary must be sha256:"),
        ({"schema": "edgepack.keys/v2"}, "edgepack.keys/v1"),
        ({"third": "x"}, "third is not a field"),
    ],
)
def test_a_file_that_breaks_its_rules_is_refused_without_showing_a_key(
    tmp_path: Path, document: dict[str, str], words: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_keys(path)
    assert PRIMARY not in str(caught.value)


def test_new_keys_have_256_bits_and_short_ones_are_refused() -> None:
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    assert {len(key) for key in made} == {43}
    for key in made:
        digest_of(key)
    for short in ("", "x" * 31, "x" * 513):
        with pytest.raises(ConfigurationError, match="32 to 512 characters"):
            digest_of(short)
    for odd in ("x" * 40 + " ", "ключ" * 10, "x" * 40 + "\n"):
        with pytest.raises(ConfigurationError, match="only the letters") as caught:
            digest_of(odd)
        assert odd not in str(caught.value)


def test_nothing_secret_is_shown_by_repr(guard: Guard, file: Path) -> None:
    keys = read_keys(file)
    for shown in (repr(guard), repr(keys), str(vars(guard))):
        assert sha256(PRIMARY.encode()).hexdigest() not in shown
        assert repr(sha256(PRIMARY.encode()).digest()) not in shown
