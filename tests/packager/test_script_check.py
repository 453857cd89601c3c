"""An entry script that cannot start in an image is refused when the image is built, and nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_server.compat import azure_names
from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.digest import Digest
from packager.bases.debian.recipe import load_recipe, recipes
from packager.images.build import BuildOptions
from packager.inference.entry_script import check_entry_script, read_entry_script
from packager.inference.script_check import PROVIDED, check_script, standard_library
from packager.wheels.cache import WheelCache
from packager.wheels.groups import WheelGroup
from packager.wheels.stack import modules_of
from tests.packager.support.bases import AMD64
from tests.packager.support.wheels import make_wheel, sha256
from tests.packager.support.workspaces import make_workspace
from tests.support.user_modules import USER_MODULES, UserModules

PACKAGES = frozenset({"numpy", "numpy.linalg", "onnxruntime", "orjson"})
BOTH = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"


def check(script: str, python: str = "3.11", **others: str) -> None:
    """Check ``script`` beside modules that are given by their names."""
    texts = {"score.py": script, **{f"{name.replace('.', '/')}.py": text for name, text in others.items()}}
    sources = {path: text.encode for path, text in texts.items()}
    check_script("score.py", sources, python, PACKAGES)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("x = 1\ndef init(:\n    pass\n", "score.py line 2: not Python (invalid syntax); correct it"),
        ("x = '\0'\n", "score.py: not Python (source code string cannot contain null bytes); correct it"),
        ("(" * 9999, "score.py line 1: not Python (too many nested parentheses); correct it"),
        ("def init():\n    pass\n", "score.py: has no run(); an entry script must define init() and run()"),
        ("def init(): ...\ndef run(): ...\n", "score.py line 2: run() takes no argument for the input data"),
        ("def init(): ...\ndef run(request_headers): ...\n", "score.py line 2: run() takes no argument for the"),
        ("def init(): ...\nasync def run(*data): ...\n", "score.py line 2: run() must not take positional-only"),
        ("from .parts import x\n" + BOTH, "score.py line 1 imports from .parts, which only a module of a package can; "
         "write: from parts import x"),
        ("def init():\n    from . import parts\ndef run(data): ...\n", "line 2 imports from ., which only a module"
         " of a package can; write: import parts"),
        ("class A:\n    def init(self): run = 1\n" + BOTH.replace("init", "start"), "score.py: has no init()"),
        ("\n\nimport joblib\n" + BOTH, "score.py line 3 imports joblib, which the image does not have; "
         "it has numpy, onnxruntime and orjson"),
        ("import numpy, sklearn.svm as svm\n" + BOTH, "score.py line 1 imports sklearn, which"),
        ("from sklearn.externals import joblib\n" + BOTH, "score.py line 1 imports sklearn, which"),
        ("from azureml.core.image import x\n" + BOTH, "score.py line 1 imports azureml.core.image, which"),
        ("def init():\n    import pandas\nasync def run(data): ...\n", "score.py line 2 imports pandas"),
        ("def load():\n    import torch\ndef init(): load()\nrun = print\n", "score.py line 2 imports torch"),
        ("try:\n    import torch\nexcept ValueError:\n    pass\n" + BOTH, "score.py line 2 imports torch"),
        ("try: pass\nexcept ImportError: pass\nfinally:\n    import torch\n" + BOTH, "score.py line 4 imports torch"),
        ("with open('x'):\n    import torch\n" + BOTH, "score.py line 2 imports torch"),
    ],
)  # fmt: skip
def test_what_cannot_start_is_told_with_its_line(script: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        check(script)
    assert str(error.value).startswith(says) or says in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "script",
    [
        BOTH,
        "import json, xml.dom.minidom, numpy as np\nfrom onnxruntime import InferenceSession\n" + BOTH,
        "from __future__ import annotations\n" + BOTH,
        "import azureml.core.model\nfrom azureml.core import Model\nfrom azureml.train import automl\n" + BOTH,
        "from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType\n" + BOTH,
        "try:\n    import pandas as pd\nexcept ImportError:\n    pd = None\n" + BOTH,
        "try:\n    import ujson\nexcept (ValueError, builtins.ModuleNotFoundError):\n    import simplejson\n" + BOTH,
        "try:\n    import ujson\nexcept:\n    pass\nelse:\n    import torch\n" + BOTH,
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import torch\n" + BOTH,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n" + BOTH,
        BOTH + "if __name__ == '__main__':\n    import requests\n",
        "def train():\n    import sklearn\n" + BOTH,
        "import sys\nsys.path.append('/opt/ours')\nimport ours\n" + BOTH,
        "from sys import path\npath.append('/opt/ours')\nimport ours\n" + BOTH,
        "init = print\nfor run in [print]:\n    pass\n",
        "from json import dumps as run, loads as init\n",
        "def setup():\n    global init, run\n    init = run = print\nsetup()\n",
        "x = '\\d'\n" + BOTH,
        "def init(): ...\n@given\ndef run(): ...\n",
        "def init(): ...\nif 1:\n    def run(): ...\n",
        "def init(): ...\ndef run(): ...\nrun = print\n",
        "def init(): ...\ndef run(): ...\nfrom score_parts import run\n",
        "def init(): ...\ndef run(data, request_headers): ...\n",
        "try:\n    from .parts import x\nexcept ImportError:\n    x = 1\n" + BOTH,
        "",
    ],
)
def test_what_may_start_is_left_alone(script: str) -> None:
    check(script or "from score_parts import *\n", score_parts="run = 1\n")


def test_modules_of_the_source_directory_are_looked_at_where_the_script_reaches_them() -> None:
    check("import tables\n" + BOTH, tables="import numpy\n\ndef f():\n    import pandas\n", other="import torch\n")
    with pytest.raises(UsageError, match=r"^tables\.py line 2 imports torch"):
        check("def init():\n    import tables\nrun = init\n", tables="\nimport torch\n")
    package = {"helpers.__init__": "from .inner import x\n", "helpers.inner": "from . import deep\nx = 1\n"}
    check("from helpers import x\n" + BOTH, **package, **{"helpers.deep": ""})
    with pytest.raises(UsageError, match=r"^helpers/deep\.py line 1 imports torch"):
        check("from helpers import x\n" + BOTH, **package, **{"helpers.deep": "import torch\nimport helpers\n"})
    with pytest.raises(UsageError, match=r"^tables\.py line 1: not Python"):
        check("import tables\n" + BOTH, tables="def\n")


def test_the_standard_library_is_that_of_the_image() -> None:
    check("import distutils\n" + BOTH)
    with pytest.raises(UsageError, match="line 1 imports distutils"):
        check("import distutils\n" + BOTH, python="3.12")
    with pytest.raises(UsageError, match="line 1 imports compression"):
        check("import compression\n" + BOTH)
    check_script("score.py", {"score.py": ("import distutils\n" + BOTH).encode}, "3.12", PACKAGES | {"setuptools"})
    assert standard_library(sys.version_info.minor) >= {name for name in sys.stdlib_module_names if name[0] != "_"}


@pytest.mark.parametrize("name", recipes())
def test_what_a_base_leaves_out_of_the_standard_library_is_missing(name: str) -> None:
    recipe = load_recipe(name)

    def build(script: str) -> None:
        sources = {"score.py": (script + BOTH).encode}
        check_script("score.py", sources, recipe.python_minor, PACKAGES, lacks=recipe.lacks_module)

    for module in ("webbrowser", "distutils.version", "telnetlib"):
        with pytest.raises(UsageError, match=rf"imports {module.partition('.')[0]}, .*docker://python:3\.\d+-slim"):
            build(f"import {module}\n")
    build("import dbm, sqlite3, ssl, pydoc, unittest.mock, multiprocessing.pool, zoneinfo\n")


def test_the_syntax_of_a_python_newer_than_this_one_is_not_judged() -> None:
    check("not of this Python\n", python=f"3.{sys.version_info.minor + 1}")


def test_the_server_gives_what_is_taken_for_given() -> None:
    assert frozenset(azure_names.OURS) == PROVIDED


def test_a_source_directory_and_its_links_are_searched_as_the_server_does(tmp_path: Path) -> None:
    code = tmp_path / "ours"
    (code / "real").mkdir(parents=True)
    (code / "real/tables.py").write_text("")
    (code / "linked").symlink_to("real")
    (code / "main.py").write_text("import tables2, linked.tables, ours.real.tables, real.tables\n" + BOTH)
    (code / "score.py").symlink_to("main.py")
    (code / "tables2.py").symlink_to("real/tables.py")
    check_entry_script(read_entry_script("score.py", code), "3.11", PACKAGES)
    (code / "real/tables.py").write_text("import torch\n")
    with pytest.raises(UsageError, match=r"tables2\.py line 1 imports torch"):
        check_entry_script(read_entry_script("score.py", code), "3.11", PACKAGES)


@pytest.mark.parametrize("case", USER_MODULES, ids=lambda case: case.name)
@pytest.mark.parametrize("packages", [PACKAGES, None], ids=["known base", "foreign base"])
def test_a_users_module_is_imported_or_refused_by_name(
    tmp_path: Path, case: UserModules, packages: frozenset[str] | None
) -> None:
    folder = case.write(tmp_path)
    script = read_entry_script("score.py", folder)
    if not case.refused or (case.refused == "numpy" and packages is None):
        check_entry_script(script, "3.11", packages)
        return
    with pytest.raises(UsageError) as error:
        check_entry_script(script, "3.11", packages)
    assert error.value.exit_code == 2
    assert case.refused in str(error.value)
    assert str(error.value).endswith("; rename it")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "helper",
    [
        "def score(x):\n    from http.mine import double\n    return double(x)\n",
        "class Scorer:\n    def score(self, x):\n        if x:\n            import http.mine\n",
        "try:\n    from http.mine import double\nexcept ImportError:\n    double = print\n",
        "def score(x):\n    return importlib.import_module('http.mine').double(x)\n",
        "def score(x):\n    import deep\n",
    ],
)
def test_a_hidden_module_is_refused_wherever_it_is_imported(helper: str) -> None:
    others = {"http.__init__": "", "http.mine": "", "deep": "def f():\n    import http\n", "helper": helper}
    with pytest.raises(
        UsageError, match=r"^http/__init__\.py: cannot be imported in (helper|deep)\.py line \d: the st"
    ):
        check("def run(data):\n    import helper\ninit = run\n", **others)


@pytest.mark.parametrize(
    "adds",
    [
        "sys.path.append(os.path.join(os.path.dirname(__file__), 'lib', 'src'))",
        "sys.path.insert(0, str(Path(__file__).parent / 'lib' / 'src'))",
        "here = os.path.dirname(__file__)\nplace = f'{here}/lib/src'\nsys.path.append(place)",
    ],
)
def test_folders_that_the_script_adds_to_the_path_are_looked_at(adds: str) -> None:
    modules = {"lib.src.mine": "from helper import double\n", "lib.src.logging": "", "other.types": ""}
    script = f"import os, sys, types\nfrom pathlib import Path\n{adds}\nimport mine\n{BOTH}"
    check(script, **modules, **{"lib.src.helper": "double = 1\n"})
    with pytest.raises(UsageError, match=r"^lib/src/logging\.py: cannot be imported in lib/src/helper\.py line 1: the"):
        check(script, **modules, **{"lib.src.helper": "from logging import double\n"})


def test_what_never_runs_in_an_image_is_left_alone() -> None:
    check("import helper\n" + BOTH, helper="if __name__ == '__main__':\n    import types\n", types="")
    check("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import types\n" + BOTH, types="")
    check("def train():\n    import broken\n" + BOTH, broken="def\n")


def test_a_users_module_may_have_a_name_that_the_standard_library_no_longer_has(tmp_path: Path) -> None:
    (tmp_path / "imp.py").write_text("")
    (tmp_path / "score.py").write_text("import imp\n" + BOTH)
    script = read_entry_script("score.py", tmp_path)
    check_entry_script(script, "3.12", PACKAGES)
    with pytest.raises(UsageError, match=r"^imp\.py: cannot be imported in score\.py line 1: the standard library's"):
        check_entry_script(script, "3.11", PACKAGES)


def test_a_script_that_is_called_as_the_server_is_refused(tmp_path: Path) -> None:
    (tmp_path / "edge_server.py").write_text(BOTH)
    with pytest.raises(UsageError, match=r"^edge_server: has the name of the server's own package; rename it"):
        check_entry_script(read_entry_script(str(tmp_path / "edge_server.py"), None), "3.11", PACKAGES)


def test_what_is_not_there_is_told_with_its_own_option(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no such folder; check --source-directory"):
        read_entry_script("score.py", tmp_path / "absent")
    with pytest.raises(NotFoundError, match="there is no such file; check --entry-script"):
        read_entry_script("score.py", tmp_path)
    with pytest.raises(NotFoundError, match="there is no such file; check --entry-script"):
        read_entry_script(str(tmp_path / "score.py"), None)


def test_the_packages_of_an_image_are_those_of_its_wheels(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "cache")
    files = {"ours/__init__.py": b"", "single.py": b"", "fast.cpython-311-x86_64-linux-gnu.so": b"", "ours.libs/x": b"",
             "ours/inner/deep.py": b"", "ours/data/x.csv": b"", "ours/no-module.py": b""}  # fmt: skip
    path = make_wheel(tmp_path, "dist", files=files)
    wheel = cache.add(path, Digest(sha256(path)))
    assert modules_of([WheelGroup("wheel", "dist", (wheel,))]) == {
        "ours", "single", "fast", "ours.inner.deep", "ours.data",
    }  # fmt: skip


def test_a_build_checks_the_script_and_takes_the_imports_of_a_foreign_base_on_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packager.images.build.scoring_wheels", lambda *_, **__: ())
    workspace = make_workspace(tmp_path)
    script = tmp_path / "score.py"

    def plan() -> int:
        return len(
            workspace.builder.plan([], (AMD64,), BuildOptions("tiny:1", script=read_entry_script(str(script), None)))
        )

    script.write_text("import pandas\n" + BOTH)
    assert plan() == 1
    monkeypatch.setattr("packager.images.build.is_recipe", lambda _: True)
    with pytest.raises(UsageError, match=r"line 1 imports pandas, .*; it has the standard library alone"):
        plan()
    script.write_text("def init(: pass\n")
    with pytest.raises(UsageError, match="line 1: not Python"):
        plan()
