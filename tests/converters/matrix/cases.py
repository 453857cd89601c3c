"""All cases of the matrix by name: those fitted here, and those made in a framework's own environment."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.converters.matrix import estimators, judge, tables, variants
from tests.converters.matrix.case import Case, Made

HERE = Path(__file__).resolve().parent
# Family -> the script that makes its models, and the lock of converters whose environment it runs in.
FOREIGN = {
    "Boosters": ("make_boosters.py", "boosters-1.9"),
    "Boosters as they are used": ("make_boosters_as_used.py", "boosters-1.9"),
    "Boosters by loss and form": ("make_boosters_by_loss.py", "boosters-1.9"),
    "Companions": ("make_companions.py", "companions-1.9"),
    "TensorFlow and Keras": ("make_tensorflow.py", "tensorflow"),
    "PyTorch": ("make_pytorch.py", "pytorch"),
}
# How the scripts write a missing text.
MISSING = "<missing>"
# Of every kind some, quick to convert; the tests run these.
SAMPLE = [
    "BernoulliNB",
    "HistGradientBoostingRegressor",
    "IsolationForest",
    "LogisticRegression, text labels",
    "NMF",
    "Normalizer",
    "OrdinalEncoder",
    "PatchExtractor",
    "RandomForestClassifier, float64 data, missing values, behind a scaler",
    "SplineTransformer",
    "TfidfVectorizer",
    "TunedThresholdClassifierCV",
    "Table: one-hot, scaler, imputer, logistic",
]


@cache
def own() -> tuple[Case, ...]:
    """The cases of scikit-learn, which are fitted in this environment."""
    return (*estimators.cases(), *variants.cases(), *tables.cases())


def every(folder: Path) -> Iterator[Case]:
    """All cases; of the other environments those whose models are in ``folder``."""
    yield from own()
    for family in FOREIGN:
        place = _place(folder, family)
        if (place / "index.json").is_file():
            for entry in json.loads((place / "index.json").read_text()):
                yield Case(f"{family}: {entry['name']}", family, partial(_load, place, entry))


def names(folder: Path, families: Sequence[str] | None) -> list[str]:
    """The names of the cases, all or those of some families."""
    return [case.name for case in every(folder) if families is None or case.family in families]


def find(name: str, folder: Path) -> Case:
    """The case of that name; ``LookupError`` where there is none."""
    found = next((case for case in every(folder) if case.name == name), None)
    if found is None:
        raise LookupError(f"there is no case {name!r}")
    return found


def make_foreign(family: str, folder: Path, say: Callable[[str], None]) -> None:
    """Make the models of a family in their environment, once for each folder; ``say`` is told of a failure.

    What that script said stands in ``make.log`` beside the models.
    """
    from converters.package import cache as caches
    from converters.software import environments, selection
    from edgepack.errors import EdgepackError

    script, lock = FOREIGN[family]
    place = _place(folder, family)
    if (place / "index.json").is_file():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        python = environments.ready(selection.LOCKS / f"{lock}.txt", caches.default_cache()) / "bin" / "python"
    except EdgepackError as error:
        say(f"{family}: {error.what}")
        return
    with (place / "make.log").open("w") as log:
        done = subprocess.run([str(python), str(HERE / script), str(place)], stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        say(f"{family}: its models could not be made, see {place / 'make.log'}")


def _place(folder: Path, family: str) -> Path:
    return folder / "made" / family.replace(" ", "-").lower()


def _load(place: Path, entry: Mapping[str, Any]) -> Made:
    path = place / entry["path"]
    options = dict(entry["options"])
    if "sample" in options:
        options["sample"] = place / options["sample"]
    made = place / entry.get("folder", entry["name"]) / "answers.npz"
    if not made.is_file():  # nothing to compare with: the model is to be refused
        return Made(path, entry["framework"], [], 0, {}, (), options, refusable=True)
    with np.load(made) as stored:
        arrays = {name: _objects(stored[name]) for name in stored.files}
    table = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith("column/")}
    if "rows" in arrays or table:
        answers = {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith("answer/")}
        clean = int(arrays["clean"])
        needed = judge.required(answers)
        rows = _frame(table) if table else list(arrays["rows"]) if arrays["rows"].ndim == 1 else arrays["rows"]
        return Made(path, entry["framework"], rows, clean, answers, needed, options)
    batches: dict[str, dict[str, dict[str, Any]]] = {}
    for name, array in arrays.items():
        number, side, port = name.split("/", 2)
        batches.setdefault(number, {"in": {}, "out": {}})[side][port] = array
    return Made(path, entry["framework"], [], 0, {}, ("predict",), options, batches=tuple(batches.values()))


def _frame(table: Mapping[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {name: [None if cell == MISSING else cell for cell in column] for name, column in table.items()}
    )


def _objects(array: Any) -> Any:
    return array.astype(object) if array.dtype.kind == "U" else array
