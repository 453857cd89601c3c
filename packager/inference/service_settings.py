"""The settings of an image's service.json that a user gives: what the build decides is not among them.

The whole document is checked by the server's own reader, in a process of its own: this room imports none of the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.documents import parse_object
from edgepack.errors import InvalidDocumentError, NotFoundError, RuntimeFailedError, UsageError
from edgepack.host.scratch import scratch_folder
from packager.inference.server import server_root

SCHEMA = "edgepack.service/v1"
# Paths, the port and the models of an image are its own; the schema is ours.
_OF_THE_BUILD = ("models", "root", "host", "port")
_OF_THE_SCRIPT = ("file", "source_directory")
_TIMEOUT = 60
_CHECK = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("edge_server.config.check", run_name="__main__")
"""


@dataclass(frozen=True)
class ServiceSettings:
    """What a user's file says, and ``where`` it is."""

    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = "service.json"

    def over(self, built: Mapping[str, Any]) -> dict[str, Any]:
        """The document ``built`` with these settings in it; of an object only the fields that are given change."""
        merged = dict(built)
        for name, value in self.values.items():
            there = merged.get(name)
            both = isinstance(value, Mapping) and isinstance(there, Mapping)
            merged[name] = {**there, **value} if both else value  # type: ignore[dict-item]
        return merged

    def check(self, built: Mapping[str, Any]) -> None:
        """Raise ``InvalidDocumentError`` with every violation of the settings, and of the document that they make."""
        wrong = [f"{name} is decided by the build" for name in _OF_THE_BUILD if name in self.values]
        if self.values.get("schema", SCHEMA) != SCHEMA:
            wrong.append(f"schema must be {SCHEMA}, is {self.values['schema']}")
        script = self.values.get("entry_script")
        if script is not None and built.get("entry_script") is None:
            wrong.append("entry_script is for an image with a script, which --entry-script names")
        elif isinstance(script, Mapping):
            wrong += [f"entry_script.{name} is decided by the build" for name in _OF_THE_SCRIPT if name in script]
        elif "entry_script" in self.values:
            wrong.append('entry_script must be an object, such as {"workers": 2}')
        # What is wrong already is not told again by the server.
        named = {text.partition(" ")[0] for text in wrong}
        left_out = {"entry_script"} if "entry_script" in named else set()
        kept = {name: value for name, value in self.values.items() if name not in {*named, *left_out}}
        if isinstance(script, Mapping) and "entry_script" in kept:
            kept["entry_script"] = {name: value for name, value in script.items() if name not in _OF_THE_SCRIPT}
        wrong += violations(ServiceSettings(kept).over(built))
        if wrong:
            raise InvalidDocumentError(self.where, wrong, hint="docs/reference/service.md lists every field")


def read_settings(path: Path) -> ServiceSettings:
    """Read the user's file; raises ``NotFoundError``, ``UsageError`` and ``InvalidDocumentError``."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=path, hint="check --service-config") from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="check --service-config") from error
    return ServiceSettings(parse_object(data, path), str(path))


def violations(document: Mapping[str, Any]) -> list[str]:
    """What the server would refuse of a service.json, all of it; the files that it names are not looked for."""
    with scratch_folder("service") as folder:
        path = folder / "service.json"
        path.write_text(json.dumps(document), "utf-8")
        command = [sys.executable, "-I", "-c", _CHECK, str(server_root().parent), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeFailedError(
                f"cannot check the service configuration ({error})", where=sys.executable
            ) from error
    if done.returncode not in (0, 2) or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeFailedError(f"cannot check service.json ({said})", where=sys.executable)
    return [str(text) for text in json.loads(done.stdout)]
