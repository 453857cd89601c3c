"""skl2onnx has our converters while it converts, of what is imported by then, and is afterwards as it was before."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import lightgbm
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from converters.sklearn import recipes
from converters.sklearn.recipes.writing.registry import registries


def _state() -> list[dict[Any, Any]]:
    return [dict(registry) for registry in registries()]


def _with_ours() -> list[dict[Any, Any]]:
    with recipes.registered(ours=True):
        return _state()


def _same(one: list[dict[Any, Any]], other: list[dict[Any, Any]]) -> bool:
    return all(
        left.keys() == right.keys() and all(left[key] is right[key] for key in left)
        for left, right in zip(one, other, strict=True)
    )


def test_they_are_inspected_once_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before, first = _state(), _with_ours()
    assert len(first[0]) > len(before[0])
    monkeypatch.setattr(recipes, "add", None)

    assert _same(_with_ours(), first)
    assert _same(_state(), before)


def test_a_library_that_is_imported_later_is_registered_then(monkeypatch: pytest.MonkeyPatch) -> None:
    name_of = [_with_ours()[3].get(lightgbm.LGBMRegressor)]
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "lightgbm")
        name_of.append(_with_ours()[3].get(lightgbm.LGBMRegressor))
    name_of.append(_with_ours()[3].get(lightgbm.LGBMRegressor))

    assert name_of == ["EdgepackLGBMRegressor", None, "EdgepackLGBMRegressor"]


def test_other_recipes_are_registered_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    every = list(recipes.all_recipes())
    scaler = "sklearn.preprocessing.StandardScaler"
    others = [recipe for recipe in every if scaler not in recipe.estimators]
    whole = _with_ours()
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "all_recipes", partial(iter, others))
        without = _with_ours()

    names = [found[3][StandardScaler] for found in (whole, without)]
    assert names == ["EdgepackStandardScaler", "SklearnScaler"]
    assert [found.keys() for found in _with_ours()] == [found.keys() for found in whole]


def test_what_a_user_registers_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Ridge):
        pass

    _with_ours()
    monkeypatch.setitem(registries()[3], Other, "SklearnLinearRegressor")

    assert _with_ours()[3][Other] == "SklearnLinearRegressor"
    assert registries()[3][Other] == "SklearnLinearRegressor"
