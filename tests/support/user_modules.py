"""What a user's source directory may hold beside the entry script, and what becomes of it: a table for both ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_DOUBLE = "def double(x):\n    return 2 * x\n"
_SCRIPT = "{imports}\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    return {answer}\n"


@dataclass(frozen=True)
class UserModules:
    """A source directory: ``imports`` stands at the head of its score.py, whose run() answers ``answer``.

    ``files`` are its other files. ``refused`` is the top-level name that is refused, "" where the script answers 42.
    """

    name: str
    imports: str
    files: dict[str, str] = field(default_factory=dict)
    answer: str = "double(21)"
    refused: str = ""
    folder: str = "source"

    def write(self, parent: Path) -> Path:
        """Make the directory below ``parent``."""
        folder = parent / self.folder
        for path, text in {**self.files, "score.py": _SCRIPT.format(imports=self.imports, answer=self.answer)}.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder


def _package(name: str, refused: str = "") -> UserModules:
    files = {f"{name}/__init__.py": "", f"{name}/features.py": _DOUBLE}
    return UserModules(f"package {name}", f"from {name}.features import double", files, refused=refused)


def _folder(name: str, refused: str = "") -> UserModules:
    return UserModules(
        f"folder {name}", f"from {name}.features import double", {f"{name}/features.py": _DOUBLE}, refused=refused
    )


def _module(name: str, refused: str = "") -> UserModules:
    return UserModules(f"module {name}", f"from {name} import double", {f"{name}.py": _DOUBLE}, refused=refused)


_FREE = (
    "scoring",
    "converters",
    "packager",
    "edgepack",
    "edge_agent",
    "tests",
    "benchmarks",
    "utils",
    "compat",
    "score2",
)
_STANDARD = ("http", "logging", "types", "queue", "secrets", "asyncio")

USER_MODULES = (
    *map(_package, _FREE),
    *map(_folder, ("scoring", "packager", "edgepack", "tests")),
    *map(_module, ("scoring", "packager", "utils")),
    *(make(name, name) for name in _STANDARD for make in (_package, _folder, _module)),
    *(make(name, name) for name in ("edge_server", "orjson", "inference_schema") for make in (_package, _module)),
    _package("numpy"),
    _module("numpy"),
    # Python takes the installed package before a folder without __init__.py.
    _folder("numpy", "numpy"),
    _package("score"),
    _package("httptools"),
    _module("nt"),
    UserModules(
        "reached by a module", "from helpers.tables import double",
        {"helpers/__init__.py": "", "helpers/tables.py": "import types\n" + _DOUBLE, "types.py": ""}, refused="types",
    ),
    UserModules("inner module of a folder", "from http import mine", {"http/mine.py": ""}, refused="http"),
    UserModules(
        "relative imports", "from helpers import double",
        {"helpers/__init__.py": "from .logging import double\n", "helpers/logging.py": _DOUBLE},
    ),
    UserModules(
        "what nobody imports", "import secrets, queue\nfrom mine import double",
        {"mine.py": _DOUBLE, "types.py": "", "logging/__init__.py": "", "http.py": ""},
    ),
    UserModules(
        "a folder of data", "import json, logging.handlers\nfrom mine import double",
        {"mine.py": _DOUBLE, "json/rows.json": "[]", "logging/a.log": ""},
    ),
    UserModules("azure's names", "from azureml.features import double",
                {"azureml/__init__.py": "", "azureml/features.py": _DOUBLE}),
    UserModules(
        "azure's names that are always ours", "from azureml.contrib.services.aml_request import rawhttp",
        {f"azureml/{path}": "rawhttp = None\n" for path in (
            "__init__.py", "contrib/__init__.py", "contrib/services/__init__.py", "contrib/services/aml_request.py")},
        refused="azureml",
    ),
    *(
        UserModules(
            f"directory {name}", f"from {name}.features import double", {"__init__.py": "", "features.py": _DOUBLE},
            folder=name,
        )
        for name in ("scoring", "packager", "converters", "churn")
    ),
    UserModules(
        "directory code", "from code.features import double", {"features.py": _DOUBLE}, refused="code", folder="code"
    ),
    UserModules("directory json", "import json", {"__init__.py": ""}, answer="json.loads('42')", folder="json"),
)  # fmt: skip
