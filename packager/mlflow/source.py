"""Where an MLflow model comes from: a folder, or what MLflow's client fetches."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.errors import EdgepackError, MissingPartError, NotFoundError
from edgepack.host.scratch import scratch_folder
from edgepack.text import redacted
from packager.mlflow.folder import FILE, read_model

_log = logging.getLogger(__name__)
_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/", "s3://", "gs://", "http://", "https://", "file://")


@dataclass(frozen=True)
class Fetched:
    """A folder of MLflow; and of the run that made it, its experiment and the last value of each metric."""

    folder: Path
    experiment: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def fetched(uri: str) -> Iterator[Fetched]:
    """What ``uri`` names: a folder as it is, or ``models:/NAME/VERSION`` or ``runs:/RUN/PATH`` as MLflow reads them.

    MLflow's client finds its server or database by ``MLFLOW_TRACKING_URI``. Raises ``NotFoundError``,
    ``MissingPartError`` without MLflow's client, ``EdgepackError`` with what it says.
    """
    if not uri.startswith(_SCHEMES):
        folder = Path(uri)
        if not (folder / FILE).is_file():
            what = f"is not an MLflow model: it has no {FILE}" if folder.exists() else "there is no such folder"
            hint = "give its folder, or models:/NAME/VERSION or runs:/RUN/PATH with MLFLOW_TRACKING_URI"
            raise NotFoundError(what, where=uri, hint=hint)
        yield Fetched(folder)
        return
    with scratch_folder("mlflow") as folder:
        yield _download(uri, folder)


def _download(uri: str, folder: Path) -> Fetched:
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise MissingPartError(
            "fetching it needs MLflow's client", where=redacted(uri),
            hint="pip install 'edgepack[mlflow]', or give a folder",
        ) from None  # fmt: skip
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except MlflowException as error:
        raise _explained(error, uri, tracking) from error
    except ModuleNotFoundError as error:
        # Its client reads a server and a folder by itself; other places need parts of MLflow that it does not bring.
        raise MissingPartError(
            f"MLflow needs the Python package {error.name} to fetch it from {redacted(tracking) or 'its own database'}",
            where=redacted(uri),
            hint="pip install mlflow" if tracking else f"{_hint(tracking)}, or give a folder",
        ) from error
    except OSError as error:
        raise EdgepackError(f"MLflow cannot fetch it ({error})", where=redacted(uri), hint=_hint(tracking)) from error
    if not (path / FILE).is_file():
        what = f"is not an MLflow model: it has no {FILE}"
        raise NotFoundError(what, where=redacted(uri), hint="name the model's path")
    return _with_run(path)


def _with_run(path: Path) -> Fetched:
    """The folder with what the tracking server knows of its run, as far as it answers."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    run = read_model(path).run
    if run is None:
        return Fetched(path)
    try:
        client = MlflowClient()
        found = client.get_run(run)
        experiment = client.get_experiment(found.info.experiment_id).name
    except (MlflowException, OSError) as error:
        _log.info("what the run %s measured is not known: %s", run, redacted(str(error).splitlines()[0]))
        return Fetched(path)
    return Fetched(path, experiment, dict(found.data.metrics))


def _explained(error: Exception, uri: str, tracking: str) -> EdgepackError:
    text = redacted(" ".join(str(error).split()))
    is_absent = getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
    kind = NotFoundError if is_absent else EdgepackError
    return kind(f"MLflow cannot fetch it ({text})", where=redacted(uri), hint=_hint(tracking))


def _hint(tracking: str) -> str:
    if not tracking:
        return "set MLFLOW_TRACKING_URI to the server or database that has it"
    return f"check it at MLFLOW_TRACKING_URI, {redacted(tracking)}"
