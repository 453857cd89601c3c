"""What is wrong with the text of a sample is said of the sample, where it is wrong, and not of the model."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from converters import Options, convert
from converters.proof import feeds, sample_text, samples
from converters.proof.sample_file import check_sample
from converters.proof.specs import Spec
from converters.pytorch import examples
from converters.sklearn import convert as of_sklearn
from edgepack.errors import UsageError

ROWS = "age,income,city\n40,3000.5,ulm\n41,2500,bonn\n42,2100.25,ulm\n"


def written(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            ROWS.replace(",", ";"),
            "rows.csv: its cells are separated by semicolons, not by commas; write it with commas",
        ),
        (ROWS.replace(",", "\t"), r"separated by tabs, not by commas; .* pandas.read_csv(FILE, sep='\t').to_csv(FILE,"),
        (ROWS.replace(",", "|"), "separated by '|', not by commas"),
        ("\ufeff" + ROWS.replace(",", ";"), "separated by semicolons"),
        (ROWS.replace(",", ";").replace(".", ","), "and numbers are written with a decimal comma; .* decimal=','"),
        ("1,5;2,5\n3,5;4,5\n", "separated by semicolons, not by commas and numbers are written with a decimal comma"),
        ("1;2\n3;4\n", "separated by semicolons"),
    ],
)
def test_a_table_without_commas_is_said_to_be_one_and_how_to_write_it(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        samples.read(written(tmp_path, text))
    for part in says.split(" .* "):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (ROWS, (3, 3)),
        ("text\nthe pump; it leaks\n\"oil, everywhere\"\n", (2, 1)),
        ("text\nno sign\n", (1, 1)),
        ('a,b\n1,"x; y"\n2,"z; w"\n', (2, 2)),
        ('tags,n\n"a;b",1\n"c;d",2\n', (2, 2)),
        ("1\n2\n", (2, 1)),
        ("", (0, 0)),
    ],
)  # fmt: skip
def test_a_table_with_commas_is_read(text: str, shape: tuple[int, int], tmp_path: Path) -> None:
    path = written(tmp_path, text)
    if shape == (0, 0):
        with pytest.raises(UsageError, match="has no rows"):
            samples.read(path)
    else:
        table = samples.read(path)
        assert (len(table), len(table.names)) == shape


def test_text_among_numbers_is_found_with_its_line_and_column(tmp_path: Path) -> None:
    text = 'age,income,city,code\n40,3000,ulm,1\n\n41,n/a,bonn,A1\n"42",,7,B2\n43,"2,5",9,C3\n'
    found = sample_text.text_cells(written(tmp_path, text))
    assert [(cell.place, cell.column, cell.value) for cell in found] == [("line 4", "income", "n/a")]
    assert str(found[0].error("rows.csv")) == (
        "rows.csv line 4: 'n/a' in column 'income' is not a number; correct it, or leave the cell empty where the value"
        " is missing"
    )
    quoted = sample_text.text_cells(written(tmp_path, 'a,b\n"1,5","2,5"\n'))
    assert [cell.column for cell in quoted] == ["a", "b"]
    assert str(quoted[0].error("x")).endswith("write numbers with a decimal point, such as 1.5")
    rows = {"data": [{"a": 1, "b": "x"}, {"a": "1", "b": "y"}, {"a": None, "b": "z"}, {"a": 3, "b": "z"}]}
    (cell,) = sample_text.text_cells(written(tmp_path, json.dumps(rows), "rows.json"))
    assert str(cell.error("rows.json")) == "rows.json row 2: '1' in column 'a' is not a number; write it without quotes"


@pytest.mark.usefixtures("without_sandbox")
def test_the_cell_is_blamed_where_it_alone_keeps_a_model_from_answering(tmp_path: Path) -> None:
    x = np.array([[40.0, 3000.0], [41.0, 2500.0], [50.0, 1000.0]])
    joblib.dump(LinearRegression().fit(x, [0.0, 1.0, 2.0]), tmp_path / "m.joblib")
    rows = "".join(f"{age},{'?' if age == 43 else 100 * age}\n" for age in range(40, 50))
    sample = written(tmp_path, f"age,income\n{rows}")
    with pytest.raises(UsageError, match=r"rows\.csv line 5: '\?' in column 'income' is not a number"):
        convert(tmp_path / "m.joblib", framework="ScikitLearn", output_dir=tmp_path / "out", sample=sample)


@pytest.mark.usefixtures("without_sandbox")
def test_a_column_of_codes_that_the_model_takes_as_text_is_no_fault(tmp_path: Path) -> None:
    import pandas as pd

    codes = ["1", "2", "3", "A1", "5"] * 4
    frame = pd.DataFrame({"code": codes, "n": [float(number) for number in range(20)]})
    encoder = make_column_transformer((OneHotEncoder(), ["code"]), remainder="passthrough")
    joblib.dump(make_pipeline(encoder, LinearRegression()).fit(frame, frame.n), tmp_path / "m.joblib")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    assert sample_text.text_cells(tmp_path / "rows.csv")
    found = convert(
        tmp_path / "m.joblib", framework="ScikitLearn", output_dir=tmp_path / "out", sample=tmp_path / "rows.csv"
    )
    assert found.parity is not None


def test_inputs_of_numbers_name_the_cell_for_every_framework(tmp_path: Path) -> None:
    sample = written(tmp_path, "age,income\n40,3000\n41,?\n42,2000\n43,2000\n")
    says = r"rows\.csv line 3: '\?' in column 'income' is not a number"
    separate = [Spec(name, "float32", (None, 1)) for name in ("age", "income")]
    for specs in (separate, [Spec("x", "float32", (None, 2))]):
        with pytest.raises(UsageError, match=says):
            feeds.sample_feeds(specs, sample)
    for parameters in ([examples.Parameter("income", True)], [examples.Parameter("x", True)]):
        with pytest.raises(UsageError, match=says):
            list(examples._from_sample(parameters, sample, "float32"))
    assert set(feeds.sample_feeds([separate[0]], sample)) == {"age"}


def test_codes_with_leading_zeros_stay_as_they_are_written_where_the_model_knows_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"zip": ["01234", "02345", "1e5", "True"] * 10, "n": np.arange(40.0)})
    columns = ColumnTransformer([("z", OneHotEncoder(), ["zip"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 1, 0] * 10)
    joblib.dump(model, tmp_path / "m.joblib")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    # The encoder takes no unknown category, so that 1234 in place of 01234 would be refused.
    converted = of_sklearn.convert(tmp_path / "m.joblib", "sha256:" + "0" * 64, Options(sample=tmp_path / "rows.csv"))
    assert converted.golden is not None
    assert [cell for (cell,) in converted.golden["inputs"]["zip"]][:4] == ["01234", "02345", "1e5", "True"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.txt", b"1,2\n", "unsupported kind of sample file; give a .csv, .json, .npy, .npz or .parquet file"),
        ("rows", b"1,2\n", "unsupported kind"),
        ("rows.csv", b"", "the sample has no rows"),
        ("rows.csv", b"age,income\n", "the sample has no rows"),
        ("rows.csv", b"a;b\n1;2\n", "separated by semicolons, not by commas"),
        ("rows.csv", b"1,2\n3\n", "row 2 has 1 columns, expected 2"),
        ("rows.csv", "é,b\n1,2\n".encode("latin-1"), "is not text in UTF-8; save it in that encoding"),
        ("rows.csv", "a,b\n1,2\n".encode("utf-16"), "is not text in UTF-8"),
        ("rows.json", b"", "cannot be read"),
        ("rows.json", b"[]", "no rows"),
        ("rows.json", b'{"data": []}', "no rows"),
        ("rows.json", b"{}", "no rows"),
        ("rows.json", b'{"input": []}', "no rows"),
        ("rows.json", b"7", "no rows"),
        ("rows.json", b"[[1, 2], [3]]", "row 2 has 1 columns"),
        ("rows.json", b"[1, 2]", "row 1 is not a list of cells"),
        ("rows.json", b"[" * 100_000, "nested too deeply"),
        ("rows.npy", b"1,2\n", "it is not an array of numpy"),
        ("rows.npy", npy(np.zeros((0, 4))), "no rows"),
        ("rows.npy", npy(np.array([{}, None])), "it holds Python objects"),
        ("rows.npz", b"PK", "cannot be read"),
        ("rows.npz", npz(a=np.zeros((0, 4))), "no rows"),
        ("rows.npz", npz(), "no rows"),
        ("rows.parquet", b"", "not a whole Parquet file"),
        ("rows.parquet", b"PAR1 and nothing else", "not a whole Parquet file"),
    ],
)
def test_a_sample_that_no_conversion_could_read_is_refused_before_any(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(says)):
        check_sample(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"1,2\n3,4\n"),
        ("ROWS.CSV", b"\xef\xbb\xbfage,town\n1,Ulm\n"),
        ("rows.csv", b"age\n1\n"),
        ("rows.json", b"[[1, null], [NaN, 2]]"),
        ("rows.json", b'\xef\xbb\xbf[{"a": 1}]'),
        ("rows.json", b'{"columns": ["a"], "data": [[1]]}'),
        ("rows.json", b'{"input": [[[1.0]]], "alpha": 0.5}'),
        ("rows.npy", npy(np.float32(3))),
        ("rows.npy", npy(np.array([(1.0, 2)], dtype=[("Ozone", "f4"), ("O", "i4")]))),
        ("rows.npz", npz(a=np.zeros((2, 3)), b=np.array(["x", "y"]))),
        ("rows.parquet", b"PAR1....PAR1"),
    ],
)
def test_a_sample_that_a_conversion_may_read_passes(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    check_sample(path)
