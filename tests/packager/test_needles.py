"""Many texts are found in one pass wherever a search for each finds them, in little data and in much."""

from __future__ import annotations

import builtins
import random
import sys
from typing import Any

import pytest

from packager.layers.needles import Needles
from packager.layers.secrets import Secret, SecretSearch

SIZE = 200_003
TEXTS = (b"sevenby", b"production-password", b"\0s\0e\0c\0r\0e\0t\0", bytes(range(200, 216)), b"aaaaaaaaaa", b"tiny")


@pytest.fixture(scope="module")
def noise() -> bytes:
    return random.Random(1).randbytes(SIZE)  # noqa: S311


def simple(data: bytes, texts: tuple[bytes, ...] = TEXTS) -> list[str]:
    return [repr(text) for text in texts if text in data]


def needles(texts: tuple[bytes, ...] = TEXTS) -> Needles:
    return Needles((text, repr(text)) for text in texts)


def test_every_text_is_found_at_every_place_of_a_group(noise: bytes) -> None:
    search = needles()
    assert search.found(noise) == []
    for text in TEXTS:
        for at in (0, 1, 2, 3, 70_000, 70_001, 70_002, 70_003, *(SIZE - len(text) - back for back in range(5))):
            data = noise[:at] + text + noise[at + len(text) :]
            assert search.found(data) == simple(data) == [repr(text)]


@pytest.mark.parametrize("filling", [b"a", b"\0", b"passwor", b"production-passwore", b"sevenbsevenb", b"bcd efgh\n"])
def test_data_full_of_beginnings_is_searched_too(filling: bytes) -> None:
    plain = filling * (SIZE // len(filling))
    for text in (b"", *TEXTS):
        data = plain[:90_001] + text + plain
        assert needles().found(data) == simple(data)


def test_without_numpy_the_same_is_found(noise: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "numpy":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    data = noise + TEXTS[1]
    assert needles().found(data) == [repr(TEXTS[1])]


def test_little_data_is_searched_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert needles().found(b"x" * 10_000 + TEXTS[0]) == [repr(TEXTS[0])]


def test_the_work_does_not_grow_with_the_credentials(noise: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: no credential of 50 is searched for in the whole of what has none of them in it."""
    from packager.layers import needles as module

    searched = []
    real = module._search

    def counting(texts: Any, data: bytes) -> list[str]:
        found = list(texts)
        searched.append(len(found) * len(data))
        return real(found, data)

    monkeypatch.setattr(module, "_search", counting)
    SecretSearch([Secret("a test", f"pass/word {n}".encode()) for n in range(50)]).check([noise * 2], "file", keys=True)
    assert sum(searched) < 30 * SIZE
