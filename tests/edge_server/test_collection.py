"""Collected rows: a ring of CSV files that stays below its quota and holds whole rows only."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.collection.automatic import Collector
from edge_server.collection.layout import CORRELATIONS, file_path, utc_now
from edge_server.collection.ring import LOCK, Ring
from edge_server.collection.table import encode, whole_length
from edge_server.collection.writer import MOST_ROWS, Rows, Writer
from edge_server.config.values import Collection, Identity, ModelPlace, ServiceConfig
from edge_server.errors import ScoringError
from tests.support.running import Done, finish
from tests.support.waiting import wait_until

HEADER = b"a,b\n"
CELLS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)


def read(path: Path) -> list[list[str]]:
    """Every row of a file, by Python's own reader."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def files(folder: Path) -> list[Path]:
    """Every collected file, oldest first; the names tell the order of those that were written within a clock's tick."""
    return sorted(folder.rglob("*.csv"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def total(folder: Path) -> int:
    """The size of all collected files."""
    return sum(path.stat().st_size for path in folder.rglob("*.csv"))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=8))
def test_a_table_is_read_back_as_it_was_but_for_formulas(rows: list[list[Any]]) -> None:
    data = encode(rows)
    found = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert len(found) == len(rows)
    for row, cells in zip(rows, found, strict=True):
        wanted = ["" if value is None else str(value).replace("\0", "") for value in row]
        assert [cell.removeprefix("'") for cell in cells] == [value.removeprefix("'") for value in wanted]
        assert not any(cell.startswith(("=", "@", "\t", "\r")) for cell in cells)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "\t=1"])
def test_text_that_a_spreadsheet_would_run_is_made_plain_text(text: str) -> None:
    [[cell]] = csv.reader(io.StringIO(encode([[text]]).decode(), newline=""))
    assert cell == "'" + text


def test_negative_numbers_stay_numbers() -> None:
    assert encode([[-1.5, "-2", "+3e5"]]) == b"-1.5,-2,+3e5\r\n"


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=1, max_size=6), st.data())
def test_a_torn_file_keeps_exactly_its_whole_rows(rows: list[list[Any]], data: st.DataObject) -> None:
    lines = [encode([row]) for row in rows]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    torn = whole[:cut] + b"\0" * data.draw(st.integers(0, 3))
    ends = [sum(map(len, lines[:count])) for count in range(len(lines) + 1)]
    assert whole_length(torn) == max(end for end in ends if end <= cut)


@settings(max_examples=40, deadline=None)
@given(
    quota=st.integers(60, 3000),
    writes=st.lists(st.tuples(st.sampled_from(["x", "y", "z/w"]), st.integers(1, 400)), min_size=1, max_size=60),
)
def test_the_quota_is_never_exceeded_and_every_row_is_whole(
    quota: int, writes: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    ring = Ring(folder, quota)
    for number, (name, size) in enumerate(writes):
        row = encode([[number, "v" * size]])
        left_out = ring.append({(f"{name}.csv", HEADER): row})
        assert left_out == (len(HEADER) + len(row) > quota)
        assert total(folder) <= quota
        assert left_out or any(read(path)[-1] == [str(number), "v" * size] for path in files(folder))
        assert int((folder / LOCK).read_text()) == total(folder)
    for path in files(folder):
        rows = read(path)
        assert rows[0] == ["a", "b"]
        assert all(len(row) == 2 for row in rows)
    ring.close()


def test_the_oldest_files_leave_first(tmp_path: Path) -> None:
    ring = Ring(tmp_path, 800)
    for number in range(40):
        ring.append({("x.csv", HEADER): encode([[number, "v" * 50]])})
    kept = [int(row[0]) for path in files(tmp_path) for row in read(path)[1:]]
    assert kept == list(range(kept[0], 40))
    assert len(kept) >= 10


def test_a_change_of_columns_begins_a_new_file(tmp_path: Path) -> None:
    ring = Ring(tmp_path, 10_000)
    ring.append({("x.csv", HEADER): b"1,2\n"})
    ring.append({("x.csv", b"a,b,c\n"): b"1,2,3\n"})
    assert read(tmp_path / "x.csv") == [["a", "b", "c"], ["1", "2", "3"]]
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("tail", [b'3,"torn', b'3,"torn\nin a cell\n', b"3", b"\0\0\0\0", b'3,4\n5,"x\n\0\0'])
def test_what_a_power_cut_tore_is_cut_off_at_the_next_start(tmp_path: Path, tail: bytes) -> None:
    ring = Ring(tmp_path, 10_000)
    ring.append({("x.csv", HEADER): b"1,2\n", ("other.csv", HEADER): b"1,2\n"})
    ring.close()
    for name in ("x.csv", "other.csv"):
        with (tmp_path / name).open("ab") as file:
            file.write(tail)
    again = Ring(tmp_path, 10_000)
    again.append({("x.csv", HEADER): b"7,8\n"})
    for name in ("x.csv", "other.csv"):
        rows = read(tmp_path / name)
        assert rows[:2] == [["a", "b"], ["1", "2"]]
        assert rows[2:] in ([], [["3", "4"]], [["7", "8"]], [["3", "4"], ["7", "8"]])
    assert read(tmp_path / "x.csv")[-1] == ["7", "8"]


def test_a_row_torn_by_another_process_is_cut_off_before_the_next(tmp_path: Path) -> None:
    ring = Ring(tmp_path, 10_000)
    ring.append({("x.csv", HEADER): b"1,2\n"})
    with (tmp_path / "x.csv").open("ab") as file:
        file.write(b'3,"half of a\n')
    ring.append({("x.csv", HEADER): b"7,8\n"})
    assert read(tmp_path / "x.csv") == [["a", "b"], ["1", "2"], ["7", "8"]]


WRITE = """
import fcntl, sys
from pathlib import Path
from edge_server.collection.ring import LOCK, Ring
from edge_server.collection.table import encode
folder, quota = Path(sys.argv[1]), int(sys.argv[2])
ring = Ring(folder, quota)
for number in range(400):
    ring.append({("d/x.csv", b"who,number,text\\n"): encode([[sys.argv[3], number, "a\\nb,\\"c\\"" * 3]])})
    if number % 20 == 0:
        with (folder / LOCK).open("r+b") as lock:  # the others remove files, and write others, while they are counted
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert sum(path.stat().st_size for path in folder.rglob("*.csv")) <= quota
"""


@pytest.mark.parametrize("quota", [1_000_000, 12_000])
def test_several_processes_write_whole_rows_at_once(tmp_path: Path, quota: int) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), str(quota), name])
        for name in ("one", "two", "three")
    ]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    rows = [row for path in files(tmp_path) for row in read(path)[1:]]
    assert all(len(row) == 3 and row[2] == 'a\nb,"c"' * 3 for row in rows)
    assert total(tmp_path) <= quota
    for name in ("one", "two", "three"):
        numbers = [int(row[1]) for row in rows if row[0] == name]
        assert numbers == sorted(set(numbers))
        if quota == 1_000_000:
            assert numbers == list(range(400))


def test_a_killed_writer_leaves_whole_rows(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), "20000", "one"])
    wait_until((tmp_path / "d/x.csv").exists)
    process.kill()
    process.wait()
    Ring(tmp_path, 20_000).append({("d/x.csv", b"who,number,text\n"): b"me,1,end\n"})
    assert all(len(row) == 3 for path in files(tmp_path) for row in read(path))
    assert total(tmp_path) <= 20_000


PLACE = ModelPlace("m", 1, Path("/models"))


def configured(folder: Path | None) -> ServiceConfig:
    """A service that collects to that folder."""
    return ServiceConfig((PLACE,), "127.0.0.1", collection=Collection(folder), identity=Identity("shop"))


def rows_of(count: int, path: str = "x.csv", size: int = 10) -> Rows:
    return Rows(lambda: [(path, ["a"], [[number] for number in range(count)])], size, count)


def test_rows_are_written_by_a_thread_in_their_order(tmp_path: Path) -> None:
    writer = Writer(Ring(tmp_path, 100_000))
    for _ in range(50):
        writer.put(rows_of(3))
    writer.close()
    assert read(tmp_path / "x.csv") == [["a"], *([["0"], ["1"], ["2"]] * 50)]


def test_a_slow_disk_drops_rows_and_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = Ring(tmp_path, 100_000_000)
    begun, gate = threading.Event(), threading.Event()
    append = ring.append
    ring.append = lambda parts: (begun.set(), gate.wait(60), append(parts))[2]  # type: ignore[method-assign]
    writer = Writer(ring)
    with caplog.at_level(logging.WARNING):
        writer.put(rows_of(1))
        assert begun.wait(60)  # the thread has it and waits for the disk
        for _ in range(30):
            writer.put(rows_of(MOST_ROWS // 10))
        assert not files(tmp_path)  # it waits still, and nobody has waited with it
        gate.set()
        writer.close()
    assert [vars(record)["rows"] for record in caplog.records] == [2 * MOST_ROWS]
    assert sum(len(read(path)) - 1 for path in files(tmp_path)) == MOST_ROWS + 1


def test_a_disk_that_refuses_is_told_once_and_nothing_breaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = Ring(tmp_path, 100_000)
    (tmp_path / "x.csv").mkdir()
    writer = Writer(ring)
    for _ in range(3):
        writer.put(rows_of(2))
        time.sleep(0.1)
    writer.put(rows_of(2, "y.csv"))
    writer.close()
    assert "does not take them" in caplog.text
    assert len(read(tmp_path / "y.csv")) == 3


def test_values_that_cannot_be_text_do_not_end_the_thread(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    writer = Writer(Ring(tmp_path, 100_000))
    writer.put(Rows(lambda: [("x.csv", ["a"], [[Odd()]])], 1, 1))
    time.sleep(0.1)
    writer.put(rows_of(1))
    writer.close()
    assert read(tmp_path / "x.csv") == [["a"], ["0"]]


@pytest.mark.parametrize("name", ["../../etc", "..", "", "a/b", "m\n\0", "=x"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    path = (tmp_path / file_path(f"{name}/{name}", name, name, name, name, name, utc_now())).resolve()
    assert path.is_relative_to(tmp_path / "modeldata")
    assert len(path.relative_to(tmp_path).parts) == 12


def test_inputs_and_outputs_of_a_call_are_collected_with_its_request_id(tmp_path: Path) -> None:
    collector = Collector(configured(tmp_path))
    arrays = {"x": np.array([[1.5, 2], [3, 4]], np.float32), "color": np.array([["red"], ["=blue"]], object)}
    values = [np.array([7, 8]), [{"a": 0.5}, {"a": 0.25}]]
    collector.collect(ModelPlace("m.x", 3, tmp_path), arrays, ["label", "chances"], values, "request-1")
    collector.close()
    [inputs, predictions] = sorted(tmp_path.rglob("*.csv"))
    day = utc_now().strftime("%Y/%m/%d")
    assert str(inputs.relative_to(tmp_path)) == f"modeldata/default/default/default/shop/m.x/3/inputs/{day}/inputs.csv"
    header, *rows = read(inputs)
    assert header == ["x_0", "x_1", "color", *CORRELATIONS]
    assert [row[:3] for row in rows] == [["1.5", "2.0", "red"], ["3.0", "4.0", "'=blue"]]
    assert all(row[3] == row[-1] == "request-1" and row[7:10] == ["shop", "m.x", "3"] for row in rows)
    header, *rows = read(predictions)
    assert header == ["label", "chances", *CORRELATIONS]
    assert [row[:2] for row in rows] == [["7", "{'a': 0.5}"], ["8", "{'a': 0.25}"]]
    assert {row[-1] for row in rows} == {"request-1"}


def test_images_are_told_by_their_shape(tmp_path: Path) -> None:
    collector = Collector(configured(tmp_path))
    for _ in range(2):
        collector.collect(PLACE, {"image": np.zeros((1, 3, 64, 64), np.float32)}, ["y"], [np.array(2.5)])
    collector.close()
    [inputs, predictions] = sorted(tmp_path.rglob("*.csv"))
    assert read(inputs)[1][0] == "float32[3, 64, 64]"
    assert read(predictions)[1][0] == "2.5"
    identifiers = [[row[1] for row in read(path)[1:]] for path in (inputs, predictions)]
    assert identifiers[0] == identifiers[1]
    assert len(set(identifiers[0])) == 2


def test_a_folder_that_cannot_be_written_stops_automatic_collection_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ScoringError, match=r"collection\.folder .* cannot be written"):
        Collector(configured(tmp_path / "file" / "data"))
    with pytest.raises(ScoringError, match="name a folder"):
        Collector(configured(None))


SCRIPT = """
import sys
import numpy as np
from edge_server.compat.azure import install
install()
from azureml.monitoring import ModelDataCollector
inputs = ModelDataCollector("m", designation="inputs", feature_names=["a", "b"])
outputs = ModelDataCollector("m", designation="predictions", feature_names=["y"], workspace="s/r/w")
found = inputs.collect(np.array([[1, 2.5], [3, 4]]), "mine")
outputs.collect(outputs.add_correlations([[0], [1]], found))
assert "pandas" not in sys.modules
import pandas
inputs.collect([5, "=x"])
frame = outputs.add_correlations(pandas.DataFrame({"z": [1]}), found)
outputs.collect(frame)
print(sorted(found))
"""


def run(environment: dict[str, str]) -> Done:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AML_", "EDGEPACK_"))}
    return finish(sys.executable, "-c", SCRIPT, env={**kept, **environment})


def collected(tmp_path: Path) -> str:
    return json.dumps(
        {"folder": str(tmp_path / "data"), "quota_bytes": 100_000, "service": "shop", "versions": {"m": 7}}
    )


@pytest.mark.parametrize("switch", [{}, {"AML_MODEL_DC_STORAGE_ENABLED": "true"}, {"AML_MDC_STORAGE_ENABLED": "True"}])
def test_a_script_collects_inputs_and_correlated_predictions(tmp_path: Path, switch: dict[str, str]) -> None:
    done = run({"EDGEPACK_WORKER_COLLECTION": collected(tmp_path), **switch})
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == str(sorted(CORRELATIONS))
    [inputs] = (tmp_path / "data/modeldata/default/default/default/shop/m/7/inputs").rglob("inputs.csv")
    header, *rows = read(inputs)
    assert header == ["a", "b", *CORRELATIONS]
    assert [row[:3] for row in rows[:2]] == [["1.0", "2.5", "mine"], ["3.0", "4.0", "mine"]]
    assert rows[2][:2] == ["5", "'=x"]
    outputs = sorted((tmp_path / "data/modeldata/s/r/w/shop/m/7/predictions").rglob("*.csv"))
    tables = sorted((read(path) for path in outputs), key=lambda table: table[0])
    assert tables[0][0] == ["y", *CORRELATIONS]
    assert [row[:2] for row in tables[0][1:]] == [["0", "mine"], ["1", "mine"]]
    assert tables[1][0] == ["z", *CORRELATIONS]


@pytest.mark.parametrize("off", [{}, {"AML_MODEL_DC_STORAGE_ENABLED": "false"}])
def test_collection_that_is_off_does_nothing(tmp_path: Path, off: dict[str, str]) -> None:
    setting = {"EDGEPACK_WORKER_COLLECTION": collected(tmp_path)} if off else {}
    done = run({**setting, **off})
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "data").exists()


def test_a_switch_without_a_folder_is_a_line_in_the_log(tmp_path: Path) -> None:
    done = run({"AML_MODEL_DC_STORAGE_ENABLED": "true"})
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr.count("collection.folder is not configured") == 1


def test_a_folder_that_cannot_be_written_is_a_line_in_the_log_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = run({"EDGEPACK_WORKER_COLLECTION": collected(tmp_path)})
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr.count("nothing is collected") == 1
