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
    "dockerfiles",
    "packager",
    "edgepack",
    "edge_agent",
    "tests",
    "benchmarks",
    "utils",
    "compat",
    "score2",
)


def _added(call: str, name: str, imports: str, answer: str = "double(21)", refused: str = "") -> UserModules:
    """A module in ``src``, which the script puts into sys.path itself."""
    head = f"import sys\nfrom pathlib import Path\nsys.path.{call}str(Path(__file__).resolve().parent / 'src'))\n"
    return UserModules(f"{call}…) {imports}", head + imports, {f"src/{name}": _DOUBLE}, answer, refused)


_FIRST, _LAST = "insert(0, ", "append("
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
    # A folder without __init__.py: what Python takes has what is imported, or has not.
    UserModules("bare logging.config", "import logging.config", {"logging/config.py": ""},
                answer="42 * callable(logging.config.dictConfig)"),
    UserModules("bare email.message", "from email.message import EmailMessage", {"email/message.py": ""},
                answer="42 * callable(EmailMessage)"),
    UserModules("bare email, inner module", "from email import message", {"email/message.py": ""},
                answer="42 * callable(message.EmailMessage)"),
    UserModules("bare http.HTTPStatus", "from http import HTTPStatus", {"http/HTTPStatus.py": ""},
                answer="HTTPStatus.OK - 158"),
    UserModules("bare numpy.linalg", "from numpy.linalg import norm", {"numpy/linalg.py": ""},
                answer="42 * callable(norm)"),
    UserModules("bare numpy.array", "from numpy import array", {"numpy/array.py": ""}, answer="42 * callable(array)"),
    UserModules("bare email, other name", "from email.message import double", {"email/message.py": _DOUBLE},
                refused="email"),
    UserModules("bare logging beside a module", "import logging.config",
                {"logging/config.py": "", "logging.py": ""}, refused="logging"),
    UserModules("directory email", "from email.message import EmailMessage", {"message.py": ""},
                answer="42 * callable(EmailMessage)", folder="email"),
    *(
        _added(call, f"{name}/features.py", f"from {name}.features import double")
        for call in (_FIRST, _LAST)
        for name in ("packager", "edgepack", "tests", "converters", "dockerfiles", "edge_agent", "benchmarks")
    ),
    *(
        _added(call, file, imports, refused=file.partition("/")[0].partition(".")[0])
        for call in (_FIRST, _LAST)
        for file, imports in (
            ("logging/features.py", "from logging.features import double"),
            ("logging/__init__.py", "from logging import double"),
            ("types.py", "from types import double"),
            ("edge_server/features.py", "from edge_server.features import double"),
        )
    ),
    _added(_FIRST, "types.py", "import types", "42", refused="types"),
    _added(_LAST, "types.py", "import types", "42 * callable(types.SimpleNamespace)"),
    _added(_LAST, "mine.py", "import types, json, numpy\nfrom mine import double"),
    # What the script would do without the module is not what it means to do.
    UserModules(
        "with something else instead",
        "try:\n    from logging import double\nexcept ImportError:\n    def double(x): return 0",
        {"logging.py": _DOUBLE}, refused="logging",
    ),
    UserModules(
        "with something else whatever happens",
        "try:\n    from logging import double\nexcept:\n    def double(x): return 0",
        {"logging.py": _DOUBLE}, refused="logging",
    ),
    UserModules("by import_module", "import importlib\ndouble = importlib.import_module('types').double",
                {"types.py": _DOUBLE}, refused="types"),
    UserModules("import_module of its own", "from importlib import import_module\ntypes = import_module('types')",
                {"mine.py": ""}, answer="42 * callable(types.SimpleNamespace)"),
    UserModules("a __main__.py", "import __main__\nfrom mine import double", {"mine.py": _DOUBLE, "__main__.py": ""}),
    UserModules("below installed packages", "from logging import double", {"logging.py": _DOUBLE}, refused="logging",
                folder="site-packages"),
    UserModules(
        "directory code", "from code.features import double", {"features.py": _DOUBLE}, refused="code", folder="code"
    ),
    UserModules("directory json", "import json", {"__init__.py": ""}, answer="json.loads('42')", folder="json"),
)  # fmt: skip
