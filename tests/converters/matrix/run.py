"""One case from fit to verdict: make the model file, convert it, judge what is delivered."""

from __future__ import annotations

import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters import conversion
from edgepack.errors import ConversionError, UsageError
from tests.converters.matrix import cases, judge
from tests.converters.matrix.case import Case, Fitted, Made

SECONDS = 300
# They stop by a norm over the whole batch, so that the answer for a row depends on the others.
ANSWERING_BY_THE_BATCH = ("NMF", "MiniBatchNMF")


def run(name: str, folder: Path, *, in_process: bool = False) -> dict[str, Any]:
    """The result of the case ``name`` with ``status`` match, wrong, partial, refused or failed, and what shows it.

    ``partial`` is right in what it has and lacks a method that the original has; ``failed`` is neither delivered nor
    refused as it should be. ``folder`` keeps the model and the package.
    """
    entry: dict[str, Any] = {"name": name, "family": "", "estimator": None, "kind": ""}
    started = time.monotonic()
    try:
        with _limit(SECONDS):
            case = cases.find(name, folder)
            entry |= {"family": case.family, "estimator": case.estimator, "kind": case.kind}
            entry |= _judged(case, folder, in_process)
    except Exception as error:  # noqa: BLE001 - one case must not end the run of the others
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno})"
        entry |= {"status": "failed", "reason": reason}
    return entry | {"seconds": round(time.monotonic() - started, 2)}


def _judged(case: Case, folder: Path, in_process: bool) -> dict[str, Any]:
    work = folder / "cases" / "".join(letter if letter.isalnum() else "-" for letter in case.name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    fitted = case.fit()
    made = fitted if isinstance(fitted, Made) else make(fitted, work)
    package = work / "package"
    started = time.monotonic()
    try:
        if in_process and made.framework == "ScikitLearn":
            _convert_here(made, package)
        else:
            _convert(made, package)
    except (ConversionError, UsageError) as error:
        return {"status": "refused", "reason": error.what, "hint": error.hint or ""}
    took = round(time.monotonic() - started, 2)
    if made.refusable:
        return {"status": "failed", "reason": "delivered, although nothing could be compared"}
    judgement = judge.judge(made, package)
    status = "wrong" if judgement.problems else "partial" if judgement.missing else "match"
    if judgement.rejected and len(judgement.problems) == 1:
        status = "partial"
    return {"status": status, "conversion_seconds": took, **judgement.to_json()}


def make(fitted: Fitted, folder: Path) -> Made:
    """Save a scikit-learn model as a user would, with the answers of the original on all rows."""
    import joblib

    path = folder / "model.joblib"
    joblib.dump(fitted.model, path)
    rows = stack(fitted.rows, fitted.boundary)
    answers = judge.answers(fitted.model, rows)
    by_batch = type(fitted.model).__name__ in ANSWERING_BY_THE_BATCH
    ask = partial(judge.answers, fitted.model) if by_batch else None
    required = judge.required(answers)
    return Made(path, "ScikitLearn", rows, len(fitted.rows), answers, required, ask=ask)


def stack(rows: Any, more: Any) -> Any:
    """Some rows below others, of whatever kind they are."""
    if isinstance(rows, list):
        return rows + list(more)
    if hasattr(rows, "iloc"):
        import pandas as pd

        return pd.concat([rows, more], ignore_index=True)
    return np.concatenate([rows, more]) if len(more) else rows


def _convert(made: Made, package: Path) -> None:
    """As a user calls it, without options but those that the form of a file needs (an entry point, a signature)."""
    from converters.options import Options

    # Never what an earlier run has left in the cache.
    conversion.convert(
        made.path, framework=made.framework, output_dir=package, options=Options(**made.options), again=True
    )


def _convert_here(made: Made, package: Path) -> None:
    """The recipe itself, in this process, with no sandbox: for quick trials."""
    from converters.options import Options
    from converters.package import manifest
    from converters.sklearn import convert as converter

    warnings.simplefilter("ignore")
    converted = converter.convert(made.path, "sha256:" + "0" * 64, Options(**made.options))
    document, _ = manifest.finish(converted.manifest, converted.golden)
    package.mkdir()
    (package / manifest.MODEL_FILE).write_bytes(converted.model)
    (package / manifest.MANIFEST_FILE).write_bytes(document)


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise ``TimeoutError`` in this thread after so many seconds: a converter may hang."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"the case took longer than {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
