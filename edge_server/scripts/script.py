"""Imports an entry script, and finds out how to call its ``run``."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from edge_server.scripts.hidden_modules import HiddenModuleError
from edge_server.scripts.outputs import describe_error
from edge_server.scripts.rawhttp import is_raw
from edge_server.scripts.user_modules import is_free

# How a request becomes arguments.
TEXT, OBJECT, RAW = "text", "object", "raw"
_UNDESCRIBED = {"type": "object", "example": {}}
# The module's name where the script's own is that of a package beside it.
_OTHER_NAME = "__entry_script__"


class StartError(Exception):
    """The script cannot be served: one sentence with the script, the exception and the line; and the traceback."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details


@dataclass(frozen=True)
class EntryScript:
    """A script that was imported. ``parameter`` is the argument that takes the text or the request.

    ``parameters`` are those of a decorated ``run``. ``headers`` says that it takes ``request_headers``.
    """

    file: Path
    run: Callable[..., Any]
    init: Callable[[], Any]
    style: str
    parameter: str
    parameters: Mapping[str, inspect.Parameter]
    headers: bool
    is_async: bool
    code: CodeType | None

    def describe(self) -> dict[str, Any]:
        """What the server is told of the script when it is ready."""
        given: Any = _UNDESCRIBED
        answered: Any = _UNDESCRIBED
        if self.style == OBJECT:
            schemas = _schemas()
            given = schemas.get_input_schema(self.run)
            answered = schemas.get_output_schema(self.run)
        return {"style": self.style, "headers": self.headers, "async": self.is_async, "in": given, "out": answered}

    def reached(self, error: BaseException) -> bool:
        """Whether the script's own code had begun when the error was raised, not only its decorators."""
        step = error.__traceback__
        while step is not None:
            code = step.tb_frame.f_code
            if code is self.code or code.co_filename == str(self.file):
                return True
            step = step.tb_next
        return False


def load(file: Path, folder: Path) -> EntryScript:
    """Import the script of that source folder under its stem and look at its functions; StartError when that fails."""
    module = _import(file, folder)
    for name in ("init", "run"):
        if not callable(getattr(module, name, None)):
            raise StartError(f"{file} has no {name}() function; an entry script must define init() and run()")
    run = module.run
    try:
        signature = inspect.signature(run).parameters
    except (TypeError, ValueError):
        raise StartError(f"the parameters of run() in {file} cannot be read; make it a plain function") from None
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(parameter.kind not in kinds for parameter in signature.values()):
        raise StartError(f"run() in {file} must not take positional-only arguments, *args or **kwargs; name each one")
    parameters = {name: parameter for name, parameter in signature.items() if name != "request_headers"}
    if not parameters:
        raise StartError(f"run() in {file} takes no argument for the input data; give it one")
    raw, decorated = is_raw(run), _has_schema(run)
    if raw and decorated:
        raise StartError(f"run() in {file} has both @rawhttp and @input_schema or @output_schema; keep one of them")
    plain = inspect.unwrap(run)
    return EntryScript(
        file,
        run,
        module.init,
        RAW if raw else OBJECT if decorated else TEXT,
        next(iter(parameters)),
        parameters,
        len(parameters) < len(signature),
        inspect.iscoroutinefunction(plain),
        getattr(plain, "__code__", None),
    )


def failure(file: Path, step: str, error: BaseException) -> StartError:
    """The sentence for an exception at the start; its line is the deepest one in the script itself."""
    try:
        details = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception's own methods may fail
        details = ""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else None
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == str(file):
            line = at.tb_lineno
        at = at.tb_next
    where = f"{file}, line {line}" if line else str(file)
    described = describe_error(error)
    if isinstance(error, SyntaxError) and error.filename == str(file):
        # Its own text names the file and the line once more.
        described = f"{type(error).__name__}: {error.msg}"
    return StartError(f"{step} failed with {described} ({where}); see the log for the traceback", details)


def _import(file: Path, folder: Path) -> ModuleType:
    import importlib.util

    if not file.is_file():
        raise StartError(f"there is no entry script at {file}; check the path")
    name = file.stem if is_free(file.stem, file, folder) else _OTHER_NAME
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise StartError(f"the entry script {file} is not a Python file; its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    # Pickles of the script's own classes need the module by name; a module of the standard library keeps its name.
    sys.modules.setdefault(name, module)
    try:
        spec.loader.exec_module(module)
    except HiddenModuleError as error:
        raise StartError(str(error)) from None
    except BaseException as error:  # noqa: BLE001 - scripts call sys.exit() too
        raise failure(file, "importing the entry script", error) from None
    return module


def _has_schema(run: Callable[..., Any]) -> bool:
    """Whether ``run`` has decorators of inference_schema, which only a script that uses them has imported."""
    schemas = _schemas()
    return schemas is not None and bool(schemas.is_schema_decorated(run))


def _schemas() -> Any:
    return import_module("inference_schema.schema_util") if "inference_schema" in sys.modules else None
