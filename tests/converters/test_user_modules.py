"""A user's own modules are imported whatever they are called, or are refused by name before anything is made."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters import Conversion, Options, convert
from converters.software import environments, selection
from converters.source import model_files, traces, user_modules
from edgepack.errors import NotFoundError, UsageError

ENTRY = Options(entry="model:build")
# Names of ours that no process of a conversion has loaded, and what people call their modules.
FREE = ("scoring", "packager", "edge_server", "edge_agent", "utils", "data", "layers", "config", "worker")
LIBRARY = ("types", "logging", "http", "queue", "statistics", "json", "ast", "re", "importlib")
NEEDED = ("torch", "numpy", "onnx", "onnxruntime")


def _folder(tmp_path: Path, **files: str) -> Path:
    """A model's folder; in a name ``__`` stands for a slash."""
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"weights")
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _write(folder: Path, name: str, form: str) -> Path:
    """A module of the user's of that name: a file, a package, or a folder without ``__init__``."""
    if form == "module":
        (folder / f"{name}.py").write_text("value = 1\n")
        return folder / f"{name}.py"
    (folder / name).mkdir()
    (folder / name / ("__init__.py" if form == "package" else "inner.py")).write_text("value = 1\n")
    return folder / name


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("an environment was made")

    monkeypatch.setattr(environments, "ready", made)
    monkeypatch.setattr(selection, "_installed", lambda parts: None)


@pytest.mark.parametrize("form", ["module", "package", "folder"])
@pytest.mark.parametrize("name", FREE)
def test_module_of_a_free_name_belongs_to_the_model(name: str, form: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path, model=f"from {name}{'.inner' if form == 'folder' else ''} import value\n")
    place = _write(folder, name, form)
    assert model_files.find(folder, "PyTorch", ENTRY).path == folder
    found = model_files.find(folder / "weights.pt", "PyTorch", ENTRY)
    assert found.readable == (folder / "weights.pt", folder / "model.py", place)


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize("given", ["folder", "weights"])
@pytest.mark.parametrize("form", ["module", "package"])
@pytest.mark.parametrize("name", [*LIBRARY, *NEEDED, *user_modules.OURS])
def test_module_of_a_taken_name_that_the_source_imports_is_refused_before_anything_is_made(
    name: str, form: str, given: str, tmp_path: Path
) -> None:
    folder = _folder(tmp_path, model=f"from {name} import value\n")
    place = _write(folder, name, form)
    path = folder if given == "folder" else folder / "weights.pt"
    with pytest.raises(UsageError, match=rf"^net/{place.name}: '{place.name}' has the name of .*; rename it") as caught:
        convert(path, framework="PyTorch", output_dir=tmp_path / "out", options=ENTRY)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "source",
    [
        "import logging.handlers",
        "def build():\n    import logging",
        "try:\n    import logging\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('logging')",
        "__import__('logging')",
        "from parts import first",
        "import parts.first",
        "import parts.deep.second",
        "from parts.deep import second as other",
    ],
)
def test_import_is_seen_wherever_it_is(source: str, tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        model=source,
        parts____init__="from . import first\n",
        parts__first="from .deep import second\n",
        parts__deep____init__="",
        parts__deep__second="from logging import value\n",
    )
    (folder / "parts" / "first.py").write_text("from .deep import second\n")
    _write(folder, "logging", "module")
    with pytest.raises(UsageError, match=r"logging\.py.* standard library"):
        model_files.find(folder, "PyTorch", ENTRY)


def test_entry_point_of_a_taken_name_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path, types="", model="", queue="")
    for entry, place in (("types:build", "types.py"), ("queue:build", "queue.py")):
        with pytest.raises(UsageError, match=rf"net/{place}.*rename it"):
            model_files.find(folder, "PyTorch", Options(entry=entry))
    for entry in ("converters.options:Options", "edgepack:build", "os:getcwd"):
        with pytest.raises(NotFoundError, match=r"module '(converters|edgepack|os)' not found beside the weights"):
            model_files.find(folder, "PyTorch", Options(entry=entry))


@pytest.mark.parametrize("name", [*LIBRARY, *NEEDED])
def test_file_of_a_taken_name_that_nothing_imports_is_left_alone(name: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="import os\nfrom utils import value\n", utils="value = 1\n")
    _write(folder, name, "module")
    assert model_files.find(folder, "PyTorch", ENTRY).path == folder
    assert set(user_modules.imported(folder, "model")) == {"model", "utils"}


def test_folder_without_init_does_not_hide_the_library(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="import logging, onnx\n")
    for name in ("logging", "onnx"):
        (folder / name).mkdir()
        (folder / name / "yesterday.txt").touch()
    assert model_files.find(folder, "PyTorch", ENTRY).path == folder


@pytest.mark.parametrize("name", user_modules.OURS)
@pytest.mark.parametrize("form", ["module", "package", "folder"])
def test_our_two_names_are_refused_even_where_nothing_imports_them(name: str, form: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="")
    place = _write(folder, name, form)
    with pytest.raises(UsageError, match=rf"net/{place.name}: .*edgepack's own packages.*; rename it"):
        model_files.find(folder, "PyTorch", ENTRY)


def test_folder_of_our_name_that_holds_no_modules_is_left_alone(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="")
    (folder / "edgepack").mkdir()
    (folder / "edgepack" / "registry.db").touch()
    assert model_files.find(folder, "PyTorch", ENTRY).path == folder


def test_imports_of_a_module_beside_a_folder_of_the_same_name_belong_to_the_model(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="from layers import Net\n", layers="import blocks\n", blocks="")
    for name in ("model", "layers"):
        (folder / name).mkdir()
        (folder / name / "rows.csv").touch()
    found = model_files.find(folder / "weights.pt", "PyTorch", ENTRY)
    named = ("weights.pt", "model.py", "model", "layers.py", "blocks.py")
    assert found.readable == tuple(folder / name for name in named)
    (folder / "model.py").write_text("import types\n")
    (folder / "types.py").touch()
    for path in (folder, folder / "weights.pt"):
        with pytest.raises(UsageError, match=r"^net/types\.py: .* standard library.*rename it"):
            model_files.find(path, "PyTorch", ENTRY)


_IMPORTED = """
import sys
from pathlib import Path
from converters.source import user_modules
folder = Path(sys.argv[1])
user_modules.make_importable(folder, user_modules.imported(folder, "model"))
import model
print(model.value)
"""


@pytest.mark.parametrize("form", ["module", "package", "folder"])
def test_modules_with_names_of_ours_win_where_ours_are_installed_too(form: str, tmp_path: Path) -> None:
    inner = ".inner" if form == "folder" else ""
    names = sorted(user_modules.UNUSED)
    lines = [f"import {name}{inner}\nfrom {name}{inner} import value\n" for name in names]
    folder = _folder(tmp_path, model="".join(lines))
    for name in names:
        _write(folder, name, form)
    root = Path(user_modules.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORTED, folder],
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_source_that_is_not_python_is_left_to_the_import(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="def build(:\n")
    assert user_modules.imported(folder, "model") == {"model": folder / "model.py"}


def test_name_that_the_process_has_loaded_otherwise_is_refused_too(tmp_path: Path) -> None:
    folder = _folder(tmp_path, model="import pytest\n", pytest="")
    modules = user_modules.imported(folder, "model")
    user_modules.require_free_names(folder, modules)
    with pytest.raises(UsageError, match=r"net/pytest\.py: .* has loaded, .*; rename it"):
        user_modules.require_not_loaded(folder, modules, {name.partition(".")[0] for name in sys.modules})


# Pickles.


def _global(module: str, name: str, protocol: int) -> bytes:
    """A pickle that calls the function ``name`` of ``module``."""
    if protocol < 4:
        return b"\x80\x02" + f"c{module}\n{name}\n)R.".encode()
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() + b"\x94" for text in (module, name))
    return b"\x80\x04" + texts + b"\x93)R."


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("module", ["converters", "converters.features", "edgepack.models.own"])
def test_pickle_of_a_class_in_a_package_of_our_name_is_refused(module: str, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(_global(module, "Double", protocol))
    with pytest.raises(UsageError, match=r"m\.pkl: .*'(converters|edgepack)'.*; rename the package, and save"):
        convert(tmp_path / "m.pkl", framework="ScikitLearn", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickle_that_names_our_package_far_inside_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "CHUNK", 1024)
    monkeypatch.setattr(traces, "HEAD", 2048)
    for before in range(9980, 10250, 13):
        (tmp_path / "m.pkl").write_bytes(b"\0" * before + _global("converters.features", "Double", 4))
        assert "converters" in traces.read(tmp_path / "m.pkl").modules


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_word_in_a_pickle_is_not_a_class(protocol: int, tmp_path: Path) -> None:
    columns = ["converters", "edgepack", "converters.features\nDouble", "edgepack"]
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(columns, protocol=protocol))
    assert not traces.read(tmp_path / "m.pkl").modules & set(user_modules.OURS)


def test_pickle_of_torch_whose_class_is_in_a_package_of_our_name_is_refused(tmp_path: Path) -> None:
    for options in (Options(), Options(allow_unsafe=True)):
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            archive.writestr("m/data.pkl", _global("edgepack.nets", "Net", 2))
        with pytest.raises(UsageError, match=r"m\.pt: .*'edgepack'.*; rename the package"):
            model_files.find(tmp_path / "m.pt", "PyTorch", options)
        (tmp_path / "m.pt").write_bytes(_global("converters.nets", "Net", 2))
        with pytest.raises(UsageError, match=r"m\.pt: .*'converters'.*; rename the package"):
            model_files.find(tmp_path / "m.pt", "PyTorch", options)


def test_source_of_the_classes_in_a_pickle_of_torch_belongs_to_it_where_it_is_to_be_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(_global("scoring.nets", "Net", 2))
    (tmp_path / "scoring").mkdir()
    (tmp_path / "scoring" / "nets.py").write_text("from utils import value\n")
    (tmp_path / "utils.py").write_text("value = 1\n")
    (tmp_path / "secret.key").touch()
    assert model_files.find(path, "PyTorch", Options()).readable == (path,)
    found = model_files.find(path, "PyTorch", Options(allow_unsafe=True))
    assert found.readable == (path, tmp_path / "scoring", tmp_path / "utils.py")
    (tmp_path / "utils.py").write_text("from types import value\n")
    assert model_files.find(path, "PyTorch", Options(allow_unsafe=True)).digest != found.digest
    (tmp_path / "types.py").touch()
    with pytest.raises(UsageError, match=r"types\.py.*standard library"):
        model_files.find(path, "PyTorch", Options(allow_unsafe=True))


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["module", "package", "folder"])
@pytest.mark.parametrize("name", [*LIBRARY, *NEEDED])
def test_pickle_of_a_class_in_a_module_of_a_taken_name_is_refused_before_anything_is_made(
    name: str, form: str, protocol: int, tmp_path: Path
) -> None:
    folder = _folder(tmp_path)
    place = _write(folder, name, form)
    module = f"{name}.inner" if form == "folder" else name
    source = {"module": place, "package": place / "__init__.py", "folder": place / "inner.py"}[form]
    source.write_text("class Net: ...\n")
    (folder / "m.pt").write_bytes(_global(module, "Net", protocol))
    options = Options(allow_unsafe=True)
    with pytest.raises(
        UsageError, match=rf"^net/{place.name}: the class Net is in '{place.name}'.*; rename it"
    ) as caught:
        convert(folder / "m.pt", framework="PyTorch", output_dir=tmp_path / "out", options=options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_module_of_a_taken_name_that_does_not_define_the_pickled_class_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(_global("collections", "OrderedDict", 2))
    (tmp_path / "collections.py").write_text("def count(): ...\n")
    assert model_files.find(path, "PyTorch", Options(allow_unsafe=True)).readable == (path,)


_RESTORE = """
from edge_server.parts import two
from packager.parts import one
from utils import three

def restore():
    from sklearn.linear_model import LinearRegression
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = three([one, two]), 0.5, 2
    return model
"""


def test_classes_of_packages_installed_beside_us_open_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sklearn_to_onnx: Callable[..., Conversion]
) -> None:
    packages = tmp_path / "site-packages"
    for name, text in {
        "scoring/features": _RESTORE,
        "packager/parts": "one = 1.0",
        "edge_server/parts": "two = 2.0",
        "utils": "import numpy\nthree = numpy.array",
    }.items():
        path = packages / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parent != packages:
            (path.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(packages)
    (tmp_path / "m.pkl").write_bytes(_global("scoring.features", "restore", 4))
    conversion = sklearn_to_onnx(tmp_path / "m.pkl")
    assert conversion.parity is not None
    assert conversion.parity.passed


def test_pickle_whose_module_of_our_name_is_found_when_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sklearn_to_onnx: Callable[..., Conversion]
) -> None:
    monkeypatch.setattr(selection.user_modules, "require_not_named", lambda file, modules: None)
    (tmp_path / "m.pkl").write_bytes(_global("converters.features", "Double", 4))
    with pytest.raises(UsageError, match=r"m\.pkl: .*'converters'.*; rename the package"):
        sklearn_to_onnx(tmp_path / "m.pkl")


# PyTorch's conversions, in the sandbox.

_MODEL = """
import torch
from scoring.features import one
from packager.parts import two
from edge_server import three
import converting, edge_agent, utils

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(3))
    def forward(self, x):
        return x * self.scale + one + two + three + utils.four

def build():
    return Net()

def example_inputs():
    return torch.ones(4, 3)
"""


def _safetensors(path: Path, **tensors: list[float]) -> None:
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_entry_point_imports_what_lies_beside_it_whatever_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    for name, text in {
        "model": _MODEL,
        "scoring/features": "one = 1.0",
        "packager/__init__": "",
        "packager/parts": "from .deep import two",
        "packager/deep": "two = 2.0",
        "edge_server": "three = 3.0",
        "edge_agent": "",
        "converting": "",
        "utils": "four = 4.0",
        **dict.fromkeys(("profile", "queue", "onnx", "logging", "test", "sympy"), "raise ImportError('of the user')"),
    }.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _safetensors(folder / "weights.safetensors", scale=[1.0, 2.0, 3.0])
    for path in (folder, folder / "weights.safetensors"):
        conversion = convert(path, framework="PyTorch", output_dir=tmp_path / "out", options=ENTRY)
        golden = json.loads((conversion.golden or Path()).read_text())
        (answers,) = golden["outputs"].values()
        (rows,) = golden["inputs"].values()
        assert answers[0] == pytest.approx([10 + rows[0][0], 10 + 2 * rows[0][1], 10 + 3 * rows[0][2]], rel=1e-4)
