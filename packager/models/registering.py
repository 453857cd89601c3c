"""What a registration makes of files: layers in the store, and the value that is recorded."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgepack.host.progress import Progress
from edgepack.oci.store import Store
from packager.layers.folder import left_out_text
from packager.layers.paths import model_dir
from packager.layers.secrets import check_record
from packager.models.details import ModelDetails
from packager.models.files import write_model_layers
from packager.models.model import Model
from packager.models.progress import size_of, watched
from packager.models.samples import keep_file, keep_sample
from packager.models.sources import Source, described, entries_of, framework_by_files, gather

_log = logging.getLogger(__name__)


def registered(
    name: str,
    path: Path | Sequence[Path],
    details: ModelDetails | None,
    next_version: Callable[[], int],
    store: Store,
    *,
    child_paths: Sequence[str],
    sample_input: Path | None,
    sample_output: Path | None,
    progress: Progress,
) -> Model:
    """The model that ``path`` is, with its layers in ``store``; raises what ``ModelRegistry.register`` raises.

    A version is taken once all that can be known before is known to be good.
    """
    details = details or ModelDetails()
    details.check(name)
    check_record(details, f"model {name}")
    found = gather([path] if isinstance(path, Path) else path, child_paths)
    with progress(f"register {name}", 2 * sum(size_of(source) for source in found)) as advance:
        sources = [watched(source, advance) for source in found]
        return _made(name, sources, details, next_version, store, sample_input, sample_output)


def _made(
    name: str,
    sources: Sequence[Source],
    details: ModelDetails,
    next_version: Callable[[], int],
    store: Store,
    sample_input: Path | None,
    sample_output: Path | None,
) -> Model:
    framework = details.framework or framework_by_files(sources)
    files = described(sources, framework)
    for source in sources:
        if source.tree.left_out:
            _log.info("%s: %s", source.path, left_out_text(source.tree.left_out))
    sample = None if sample_input is None else keep_sample(sample_input, store, "--sample-input")
    expected = None if sample_output is None else keep_file(sample_output, store, "--sample-output")

    version = next_version()
    layers = write_model_layers(entries_of(sources), files, model_dir(name, version), store, f"{name}:{version}")
    return Model(
        name, version, framework, details.framework_version, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        dict(details.tags), files, layers, sample, None, dict(details.properties), details.description,
        details.resources, details.experiment, details.run, _user(), expected,
    )  # fmt: skip


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as containers have
        return str(os.getuid())
