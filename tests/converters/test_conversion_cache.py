"""What was converted once is not converted again, unless anything that decides the result has changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from converters import Conversion, Options, conversion, convert
from converters.package import cache
from converters.sandbox import launch
from converters.software import environments, selection
from edgepack.errors import ConversionError
from tests.support.running import python

Save = Callable[..., Path]
Convert = Callable[..., Conversion]
NAME = "0" * 64


@pytest.fixture
def model(save: Save) -> Path:
    return save(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))


def _files(made: Conversion) -> dict[str, bytes]:
    paths = [made.model, made.manifest, made.report, made.golden]
    return {path.name: path.read_bytes() for path in paths if path is not None}


def _never(*arguments: object, **named: object) -> Any:
    raise AssertionError("the model was converted again")


@pytest.mark.usefixtures("without_sandbox")
def test_second_conversion_of_the_same_bytes_is_a_copy(
    model: Path, sklearn_to_onnx: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sklearn_to_onnx(model)
    files = _files(first)
    first.model.write_bytes(b"the user's own now")
    moved = model.rename(tmp_path / "other.joblib")
    monkeypatch.setattr(launch, "run", _never)
    second = sklearn_to_onnx(moved, output_dir=tmp_path / "again")
    assert _files(second) == files
    assert (second.parity, second.warnings, second.framework_version) == (
        first.parity,
        first.warnings,
        first.framework_version,
    )


def test_neither_a_conversion_nor_a_hit_imports_a_framework(model: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from converters import convert
for _ in range(2):
    convert(Path({str(model)!r}), framework="ScikitLearn", output_dir=Path({str(tmp_path / "again")!r}))
print([m for m in ("numpy", "sklearn", "onnx", "joblib") if m in sys.modules])
"""
    done = python(code)
    assert done.strip() == "[]"


def test_everything_that_decides_the_result_is_in_the_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("1,2,3,4\n")
    (tmp_path / "b.csv").write_text("1,2,3,5\n")
    (tmp_path / "a.json").write_text("1,2,3,4\n")
    other = tmp_path / "other.joblib"
    other.write_bytes(model.read_bytes() + b"\0")
    (tmp_path / "copy").mkdir()
    same = shutil.copy(tmp_path / "a.csv", tmp_path / "copy" / "c.csv")

    def name(path: Path = model, **options: Any) -> str:
        given = Options(**options)
        model_file = conversion.model_files.find(path, "ScikitLearn", given)
        environment = selection.choose("ScikitLearn", model_file.path)
        return cache.key(conversion._facts("ScikitLearn", model_file, given, environment))

    names = [
        name(),
        name(other),
        name(sample=tmp_path / "a.csv"),
        name(sample=tmp_path / "b.csv"),
        name(sample=tmp_path / "a.json"),
        name(optimize=True),
        name(allow_unsafe=True),
        name(tolerances={"label": 0.1}),
        name(tolerances={"label": 0.2}),
        name(signature="serve"),
    ]
    beside = selection.installed_version
    monkeypatch.setattr(
        selection, "installed_version", lambda part: "1.28.9" if part == "onnxruntime" else beside(part)
    )
    names.append(name())
    monkeypatch.undo()
    monkeypatch.setattr(cache, "code_digest", lambda: "of other code")
    names.append(name())
    monkeypatch.undo()
    assert len(set(names)) == len(names)
    assert name() == names[0]
    assert name(sample=Path(same)) == names[2]


def test_a_changed_file_of_ours_changes_the_digest_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "converters"
    shutil.copytree(Path(cache.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "package" / "cache.py"))
    before = cache.code_digest.__wrapped__()
    recipe = package / "sklearn" / "recipes" / "writing" / "registry.py"
    recipe.write_text(recipe.read_text() + "#\n")
    assert cache.code_digest.__wrapped__() != before


def test_lock_that_changes_is_another_environment(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x==1\n")
    before = environments.digest(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("x==2\n")
    assert environments.digest(tmp_path / "a.txt") != before


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "index gone", "index no JSON", "index of another form"])
def test_a_damaged_entry_is_dropped(harm: str, tmp_path: Path) -> None:
    cache.put(tmp_path, NAME, {"model.onnx": b"graph", "parity.json": b"{}"})
    assert cache.get(tmp_path, NAME) == {"model.onnx": b"graph", "parity.json": b"{}"}
    folder = tmp_path / "conversions" / NAME
    model, index = folder / "model.onnx", folder / cache.INDEX
    {
        "changed": lambda: model.write_bytes(b"GRAPH"),
        "cut": lambda: model.write_bytes(b"gra"),
        "gone": model.unlink,
        "index gone": index.unlink,
        "index no JSON": lambda: index.write_bytes(b"\xff{"),
        "index of another form": lambda: index.write_text('["model.onnx", 3]'),
    }[harm]()
    assert cache.get(tmp_path, NAME) is None
    assert list((tmp_path / "conversions").iterdir()) == []
    cache.put(tmp_path, NAME, {"model.onnx": b"graph"})
    assert cache.get(tmp_path, NAME) == {"model.onnx": b"graph"}


@pytest.mark.usefixtures("without_sandbox")
def test_damaged_conversion_is_made_again(model: Path, sklearn_to_onnx: Convert, own_cache: Path) -> None:
    files = _files(sklearn_to_onnx(model))
    (entry,) = (own_cache / "conversions").iterdir()
    (entry / "model.onnx").write_bytes(b"not what was kept")
    assert _files(sklearn_to_onnx(model)) == files
    assert cache.get(own_cache, entry.name) == files


@pytest.mark.usefixtures("without_sandbox")
def test_entry_that_vouches_for_something_else_is_not_delivered(
    model: Path, sklearn_to_onnx: Convert, own_cache: Path
) -> None:
    files = _files(sklearn_to_onnx(model))
    (entry,) = (own_cache / "conversions").iterdir()
    manifest = json.loads(files["model.manifest.json"])
    manifest["source"]["digest"] = f"sha256:{'0' * 64}"
    shutil.rmtree(entry)
    cache.put(own_cache, entry.name, {**files, "model.manifest.json": json.dumps(manifest).encode()})
    assert _files(sklearn_to_onnx(model)) == files


def _put(folder: str) -> bool:
    data = {"model.onnx": bytes(1 << 20), "parity.json": b"{}"}
    for _ in range(10):
        cache.put(Path(folder), NAME, data)
        if cache.get(Path(folder), NAME) not in (data, None):
            return False
    return True


def test_processes_that_keep_the_same_at_once_see_it_whole_or_not_at_all(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        assert all(pool.map(_put, [str(tmp_path)] * 3))
    assert [path.name for path in (tmp_path / "conversions").iterdir()] == [NAME]


@pytest.mark.usefixtures("without_sandbox")
def test_refusal_is_not_kept(tmp_path: Path, sklearn_to_onnx: Convert, own_cache: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"}.")
    for _ in range(2):
        with pytest.raises(ConversionError, match="holds a dict"):
            sklearn_to_onnx(path)
    assert not (own_cache / "conversions").exists()


@pytest.mark.usefixtures("without_sandbox")
def test_cache_that_cannot_be_written_spoils_nothing(model: Path, own_cache: Path, tmp_path: Path) -> None:
    (own_cache / "conversions").touch()
    made = convert(model, framework="ScikitLearn", output_dir=tmp_path / "out", cache=own_cache)
    assert made.parity is not None
    assert made.parity.passed


def test_entries_used_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 2500)
    for number in range(3):
        name = str(number) * 64
        cache.put(tmp_path, name, {"model.onnx": bytes(1000)})
        os.utime(tmp_path / "conversions" / name, (1000 + number, 1000 + number))
    cache.put(tmp_path, "3" * 64, {"model.onnx": bytes(1000)})
    assert sorted(path.name[0] for path in (tmp_path / "conversions").iterdir()) == ["2", "3"]
    cache.put(tmp_path, "4" * 64, {"model.onnx": bytes(9000)})
    assert cache.get(tmp_path, "4" * 64) is not None
