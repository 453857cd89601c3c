"""A model, or the entry script that runs models, served in this terminal by this Python, without an image."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from edgepack.errors import MissingPartError, NotFoundError, UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef
from packager.images.build import BuildOptions
from packager.images.plan import service_document
from packager.inference.entry_script import check_script_name
from packager.layers.paths import APP_ROOT
from packager.models.served import ServedModel
from packager.models.unpack import unpack_layers
from packager.services.service import Source
from packager.workspaces.workspace import Workspace

# What the server itself imports; a model without code needs the last two.
_SERVER = ("httptools", "orjson", "numpy", "onnxruntime")
_CONFIG = "service.json"
PORT = 5001
_ADDRESS = "127.0.0.1"
_POLL_SECONDS = 0.05
# Exit codes that the server and this command have in common; 5 is a script that cannot start.
_CODES = (0, 1, 2, 3)
_FAILED = 1


def check_server(*, has_script: bool) -> None:
    """Raise ``MissingPartError`` by name for the packages that the server lacks in this Python."""
    needed = _SERVER[:2] if has_script else _SERVER
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingPartError(
            f"{'is' if len(missing) == 1 else 'are'} not installed, which the scoring server needs",
            where=", ".join(missing), hint="run: pip install 'edgepack[serve]' in the same environment",
        )  # fmt: skip


def prepare(
    workspace: Workspace, refs: Sequence[ModelRef], source: Source | None, folder: Path, progress: Progress = unseen
) -> Path:
    """Write the models ``refs``, converted unless a script opens them, below ``folder``; returns the configuration.

    The script is not copied: it is run where it is. Raises what finding and converting models raises.
    """
    options = BuildOptions(offline=workspace.is_offline)
    if source is None:
        models = workspace.builder.served_models(refs, options, progress)
    else:
        check_script_name(source.script)
        found = [workspace.models.get(ref) for ref in refs]
        models = tuple(ServedModel(one.name, one.version, "", one.layers) for one in found)
    layers = {layer.descriptor.digest: layer for one in models for layer in one.layers}
    root = folder / "image"
    unpack_layers(workspace.store, list(layers.values()), root, keep_owner=False)
    # As in an image, whose paths count from the configuration's own folder.
    document = service_document(models) | {"host": "127.0.0.1", "root": APP_ROOT}
    for one in document["models"]:
        one["path"] = one["path"].replace("../", "")
    if source is not None:
        script = Path(source.folder or "", source.script)
        if not script.is_file():
            raise NotFoundError("there is no such file", where=script, hint="check --entry-script")
        document["entry_script"] = {"file": source.script, "source_directory": source.folder}
    config = root / _CONFIG
    root.mkdir(exist_ok=True)
    config.write_text(json.dumps(document))
    return config


def usable_port(wanted: int | None) -> int:
    """The port ``wanted``; without one ``PORT``, or a free one where something has that.

    Raises ``UsageError`` for one that is wanted and taken.
    """
    if _is_free(wanted or PORT):
        return wanted or PORT
    if wanted is not None:
        raise UsageError(
            f"port {wanted} is taken by another program", where="--port", hint="give another, or none for a free one"
        )
    with socket.create_server((_ADDRESS, 0)) as free:
        return int(free.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        socket.create_server((_ADDRESS, port)).close()
    except OSError:
        return False
    return True


def serve(config: Path, name: str, port: int, ready: Callable[[], None]) -> int:
    """Run the server until it ends or Ctrl-C is typed, and call ``ready`` when it answers.

    Returns its exit code: 0 after Ctrl-C, 1 for a script that cannot start.
    """
    # -P: what is in the current folder must not take the place of the server's modules.
    command = [sys.executable, "-P", "-m", "edge_server", "--config", str(config), "--port", str(port)]
    environment = {key: text for key, text in os.environ.items() if not key.startswith("EDGEPACK_")}
    process = subprocess.Popen(command, env=environment | {"SERVICE_NAME": name})
    with _as_ctrl_c():
        try:
            while process.poll() is None and not _answers(port):
                time.sleep(_POLL_SECONDS)
            if process.poll() is None:
                ready()
            code = process.wait()
        except KeyboardInterrupt:
            # The terminal has told it too: it finishes the requests that have begun.
            process.terminate()
            process.wait()
            return 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return _FAILED if code not in _CODES else code


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
