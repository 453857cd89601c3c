"""A module of the user's own that is certainly not there, or a name in one, is refused by name at build."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.errors import UsageError
from packager.inference.entry_script import check_entry_script, read_entry_script
from packager.inference.script_check import check_script

BOTH = "\ndef init(): ...\ndef run(data): ...\n"
PACKAGES = frozenset({"numpy", "numpy.linalg"})
FILES = {
    "features/__init__.py": "from .scaling import Scaler\nVERSION = 1\n",
    "features/scaling.py": "import numpy\nclass Scaler: ...\nif numpy:\n    LIMIT = 5\n",
    "features/_fast.cpython-311-x86_64-linux-gnu.so": "",
    "features/old.pyc": "",
    "helpers.py": "def load(): ...\n",
    "plain/reading.py": "def read(): ...\n",
    "open.py": "def __getattr__(name): return name\n",
    "star.py": "from helpers import *\n",
    "linked/": "",
    "made/__init__.py": "__path__ = []\n",
}


def check(script: str, **more: str) -> None:
    texts = {"score.py": script + BOTH, **FILES, **{f"{name}.py": text for name, text in more.items()}}
    check_script("score.py", {path: text.encode for path, text in texts.items()}, "3.11", PACKAGES)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import features.scalng", "score.py line 1 imports features.scalng, which the source directory does not have; "
         "did you mean 'scaling'? check the name"),
        ("from features.scalng import Scaler", "imports features.scalng, which"),
        ("from features import scalng", "imports scalng from features, which the source directory does not have; did"),
        ("from features import Scalar", "did you mean 'Scaler'?"),
        ("from features.scaling import Scalr", "imports Scalr from features.scaling"),
        ("from helpers import laod", "imports laod from helpers, which the source directory does not have; did you"),
        ("from plain import writing", "imports writing from plain"),
        ("import plain.writing", "imports plain.writing"),
        ("def load():\n    from helpers import nothing\nload()", "score.py line 2 imports nothing from helpers"),
    ],
)  # fmt: skip
def test_what_the_users_own_modules_do_not_have_is_named(script: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(script)
    assert says in str(caught.value)


def test_a_module_that_the_script_comes_to_is_looked_at_too() -> None:
    with pytest.raises(UsageError, match=r"helpers2\.py line 1 imports nmae from helpers"):
        check("import helpers2", helpers2="from helpers import nmae\n")


@pytest.mark.parametrize(
    "script",
    [
        "import features, features.scaling, features.old, features._fast, plain.reading, plain",
        "from features import Scaler, VERSION, scaling, old, _fast, __version__",
        "from features.scaling import Scaler, LIMIT, numpy",
        "from plain import reading",
        "from helpers import *",
        "from star import anything",
        "from open import anything",
        "import linked.anything",
        "from linked import anything",
        "import made.anything",
        "from made import anything",
        "try:\n    import features.gone\nexcept ImportError: ...",
        "def never(): import features.gone",
        "import sys\nsys.path.append('/x')\nimport features.gone",
        "from numpy.linalg import anything",
    ],
)
def test_what_may_be_there_is_left_alone(script: str) -> None:
    check(script)


def test_a_module_beside_a_script_that_is_shipped_alone_is_said_to_need_its_folder(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("import helpers" + BOTH)
    (tmp_path / "helpers.py").write_text("")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "__init__.py").write_text("")
    for name in ("helpers", "features"):
        (tmp_path / "score.py").write_text(f"import {name}.inner{BOTH}")
        with pytest.raises(UsageError, match=f"imports {name}, which .* it is beside the script: .* --source"):
            check_entry_script(read_entry_script(str(tmp_path / "score.py"), None), "3.11", PACKAGES)
    (tmp_path / "score.py").write_text("import other" + BOTH)
    with pytest.raises(UsageError, match="imports other, which the image does not have; it has numpy"):
        check_entry_script(read_entry_script(str(tmp_path / "score.py"), None), "3.11", PACKAGES)


def test_a_script_whose_name_python_cannot_import_is_given_one_that_it_can(tmp_path: Path) -> None:
    for name, better in (("my-score.py", "my_score"), ("1.py", "score"), ("class.py", "score"), ("score.txt", "score")):
        (tmp_path / name).write_text(BOTH)
        with pytest.raises(UsageError, match=rf"whose name Python can import; call it {better}\.py, for example"):
            read_entry_script(str(tmp_path / name), None)
