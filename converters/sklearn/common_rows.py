"""The rows that a scikit-learn estimator and its graph are compared on, and rows that the original refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.options import Options
from converters.proof import sample_text, samples
from converters.proof.samples import Table
from converters.sklearn import inputs as inputs_of
from converters.sklearn import rows, training_columns
from converters.sklearn.original import Expected, Original
from edgepack.errors import ConversionError

TRAINING_ROWS = 300
# Of a table that is refused, so many rows are looked at one by one.
REFUSED_ROWS = 64
MOST_QUESTIONS = 160


@dataclass(frozen=True)
class Rows:
    """What a conversion is compared on, by kind: ``sample``, ``generated``, ``training``, ``boundary``.

    ``refused`` holds rows of which the original refuses some or all.
    """

    tables: Mapping[str, Table]
    columns: Sequence[training_columns.Column]
    refused: Sequence[Table] = ()

    @property
    def every(self) -> Table:
        """All of them in one table."""
        first, *rest = self.tables.values()
        for table in rest:
            first = first.stack(table)
        return first

    def ends(self) -> Iterator[tuple[str, int]]:
        """Every kind with the number of the row in ``every`` after its last one."""
        end = 0
        for kind, table in self.tables.items():
            end += len(table)
            yield kind, end


def gather(original: Original, options: Options) -> Rows:
    """The user's rows if there are any, rows like them or like the training data, and rows on thresholds."""
    columns = training_columns.columns(original.model, original.names)
    tables: dict[str, Table] = {}
    refused: list[Table] = []
    if options.sample is not None:
        tables["sample"] = _sample(original, options.sample, columns)
        tables["generated"] = rows.resample(tables["sample"])
    else:
        tables["generated"] = _accepted(original, columns, refused)
    training = training_columns.training(original.model, original.names, TRAINING_ROWS)
    for kind, table in (("training", training), ("boundary", rows.edges(columns, tables["generated"]))):
        if table is None:
            continue
        taken, others = _split(original, columns, table)
        if len(taken):
            tables[kind] = taken
        if len(others):
            refused.append(others)
    return Rows(tables, columns, tuple(refused))


def _sample(original: Original, path: Path, columns: Sequence[training_columns.Column]) -> Table:
    """The user's rows. Raises ``UsageError`` for a cell of text, where it alone keeps the original from answering."""
    given = samples.read(path)
    chosen = original.select(given)
    written = original.select(samples.read(path, as_written=True))
    for index, column in enumerate(columns):
        if column.is_text and path.suffix.lower() == ".csv":
            chosen = chosen.replaced(index, written.columns[index])
    table = training_columns.as_trained(chosen, columns)
    cells = sample_text.text_cells(path)
    if cells and not _takes(original, columns, table):
        mended = given.numbered([cell.column for cell in cells])
        if _takes(original, columns, training_columns.as_trained(original.select(mended), columns)):
            raise cells[0].error(path.name)
    return table


def _accepted(original: Original, columns: Sequence[training_columns.Column], refused: list[Table]) -> Table:
    """The first of the generated tables that the original answers; rows that it refuses go to ``refused``.

    Raises ``ConversionError`` where it takes none.
    """
    refusal: ConversionError | None = None
    for table in rows.candidates(columns, original.names):
        try:
            _answer_once(original, columns, table)
        except ConversionError as error:
            refusal = refusal or error
            refused.append(table.take(slice(0, REFUSED_ROWS)))
        else:
            return table
    raise refusal or ConversionError("no rows could be made up", hint="give a sample with some rows of its inputs")


def _takes(original: Original, columns: Sequence[training_columns.Column], table: Table) -> bool:
    try:
        _answer_once(original, columns, table)
    except ConversionError:
        return False
    return True


def _answer_once(original: Original, columns: Sequence[training_columns.Column], table: Table) -> None:
    method = next((name for name in ("predict", "transform") if original.has(name)), "predict")
    Expected(original, inputs_of.plan(table, columns, original.by_name, "float64"), table).answer(method)


def _split(original: Original, columns: Sequence[training_columns.Column], table: Table) -> tuple[Table, Table]:
    """The rows that the original answers, and those that it refuses, found by halving; the rest is left out."""
    import numpy as np

    taken: list[int] = []
    refused: list[int] = []
    waiting, questions = [np.arange(len(table))], 0
    while waiting and questions < MOST_QUESTIONS:
        part = waiting.pop(0)
        questions += 1
        if _takes(original, columns, table.take(part)):
            taken += part.tolist()
        elif len(part) == 1:
            refused += part.tolist()
        else:
            waiting += np.array_split(part, 2)
    return table.take(sorted(taken)), table.take(sorted(refused))
