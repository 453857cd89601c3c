"""The model registry: versions, what a registration keeps, what it refuses, and what a killed one leaves."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, InvalidReferenceError, NoSpaceError, NotFoundError, UsageError
from edgepack.names import ModelRef
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from packager.database.database import Database
from packager.models.details import ModelDetails
from packager.models.model import Conversion, Framework
from packager.models.query import ModelQuery
from packager.models.registry import ModelRegistry
from packager.models.unpack import extract
from tests.support.running import run


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return open_registry(tmp_path / "workspace")


def open_registry(folder: Path) -> ModelRegistry:
    return ModelRegistry(Database.beside(folder / "models.db"), Store.create(folder / "store"))


def store_of(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "workspace/store")


def a_file(tmp_path: Path, text: str = "weights", name: str = "model.bin") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def names_in(store: Store, layer: Layer) -> list[str]:
    data = store.read(layer.descriptor, 1 << 30)
    plain = gzip.decompress(data) if layer.descriptor.media_type.endswith("gzip") else data
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return tar.getnames()


def test_how_far_a_registration_is_can_be_watched(registry: ModelRegistry, tmp_path: Path) -> None:
    seen: list[int] = []

    @contextmanager
    def watch(title: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
        seen.append(-total)
        yield seen.append

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.bin").write_bytes(b"a" * 300_000)
    (tmp_path / "folder/b.bin").write_bytes(b"b" * 200_000)
    registry.register("churn", tmp_path / "folder", progress=watch)
    assert seen[0] == -1_000_000
    assert sum(seen[1:]) == 1_000_000


# ---- Versions -----------------------------------------------------------------------------------------------------


def test_versions_count_up_for_each_name_and_the_latest_is_found_without_one(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    path = a_file(tmp_path)
    assert [registry.register("churn", path).version for _ in range(3)] == [1, 2, 3]
    assert registry.register("other", path).id == "other:1"
    assert registry.get(ModelRef("churn")).version == 3
    assert registry.get(ModelRef("churn", 2)).version == 2
    assert [model.id for model in registry.list()] == ["churn:1", "churn:2", "churn:3", "other:1"]
    assert [model.id for model in registry.list(ModelQuery("other"))] == ["other:1"]


def _register_five(folder: Path, path: Path, start: object, found: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    registry = open_registry(folder)
    found.put([registry.register("churn", path).version for _ in range(5)])  # type: ignore[attr-defined]


def test_eight_processes_at_once_never_get_the_same_version(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    context = multiprocessing.get_context("fork")
    start, found = context.Event(), context.Queue()
    # The workspace does not exist before: making the database is part of the race.
    workers = [
        context.Process(target=_register_five, args=(tmp_path / "workspace", path, start, found)) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    start.set()
    versions = [version for _ in workers for version in found.get(timeout=60)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(versions) == list(range(1, 41))
    assert [model.version for model in open_registry(tmp_path / "workspace").list()] == list(range(1, 41))


_REGISTER = """
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from edgepack.oci.store import Store
from packager.database.database import Database
from packager.models.registry import ModelRegistry
root = Path(sys.argv[1])
registry = ModelRegistry(Database.beside(root / "models.db"), Store.create(root / "store"))
print("ready", flush=True)
while True:
    print(registry.register("churn", Path(sys.argv[2])).version, flush=True)
"""


def test_a_registration_that_is_killed_anywhere_leaves_a_whole_registry(tmp_path: Path) -> None:
    folder, root = tmp_path / "model", tmp_path / "workspace"
    folder.mkdir()
    for number in range(4):
        (folder / f"part-{number}.bin").write_bytes(os.urandom(200_000))
    last = 0
    for turn in range(12):
        worker = subprocess.Popen(
            [sys.executable, "-c", _REGISTER, str(root), str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(0.004 * turn)
        worker.send_signal(signal.SIGKILL)
        said = [int(line) for line in worker.stdout.read().split()]
        worker.wait(60)
        worker.stdout.close()

        registry, store = open_registry(root), Store.create(root / "store")
        versions = [model.version for model in registry.list()]
        assert set(said) <= set(versions), "what was answered must be there"
        for model in registry.list():
            for layer in model.layers:
                assert Digest.of(store.read(layer.descriptor, 1 << 30)) == layer.descriptor.digest
        next_one = registry.register("churn", folder).version
        assert next_one > max(versions, default=0)
        assert next_one > last
        last = next_one
    assert not list((root / "store/ingest").glob("*.tmp")), "the next registration sweeps what a killed one left"


# ---- What is kept -------------------------------------------------------------------------------------------------


def test_a_file_lies_in_the_image_by_its_base_name_below_name_and_version(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    model = registry.register("churn", a_file(tmp_path), ModelDetails(tags={"team": "blue"}))
    (layer,) = model.layers
    assert names_in(store_of(tmp_path), layer)[-1] == "var/azureml-app/azureml-models/churn/1/model.bin"
    assert [(file.path, file.size) for file in model.files] == [("model.bin", 7)]
    assert registry.get(ModelRef("churn", 1)) == model
    assert model.tags == {"team": "blue"}
    assert model.framework is Framework.CUSTOM


def test_a_sample_is_kept_by_its_name_and_bytes(registry: ModelRegistry, tmp_path: Path) -> None:
    sample = a_file(tmp_path, "1,2\n", "rows.csv")
    model = registry.register("churn", a_file(tmp_path), sample_input=sample)
    assert model.sample is not None
    assert model.sample.filename == "rows.csv"
    assert store_of(tmp_path).read(model.sample.blob) == b"1,2\n"
    with pytest.raises(NotFoundError, match="--sample-input"):
        registry.register("churn", a_file(tmp_path), sample_input=tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="separated by semicolons"):
        registry.register("churn", a_file(tmp_path), sample_input=a_file(tmp_path, "1;2\n3;4\n", "rows2.csv"))
    assert len(registry.list()) == 1


def test_a_conversion_is_remembered(registry: ModelRegistry, tmp_path: Path) -> None:
    model = registry.register("churn", a_file(tmp_path))
    report = store_of(tmp_path).put_bytes(b"{}", "application/json")
    conversion = Conversion("key", model.layers, report, "model.onnx")
    assert registry.save_conversion(model, conversion).conversion == conversion
    assert registry.get(ModelRef("churn", 1)).conversion == conversion


def test_the_same_files_make_the_same_layer_in_another_folder_at_another_time(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    paths = []
    for number in (1, 2):
        folder = tmp_path / str(number) / "model"
        (folder / "sub").mkdir(parents=True)
        for name in ("b", "a", "sub/c") if number == 1 else ("sub/c", "a", "b"):
            (folder / name).write_text(name)
            (folder / name).chmod(0o600 if number == 1 else 0o644)
            os.utime(folder / name, (number, number))
        paths.append(folder)
    one = registry.register("one", paths[0])
    other = ModelRegistry(Database.beside(tmp_path / "other.db"), Store.create(tmp_path / "other")).register(
        "one", paths[1]
    )
    assert one.layers == other.layers
    assert one.files == other.files


def test_a_big_file_is_a_layer_of_its_own_and_the_whole_model_comes_back(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "assets").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "assets/words.txt").write_text("a b c")
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(64 << 20)
    with (folder / "almost.bin").open("wb") as file:
        file.truncate((64 << 20) - 1)
    store = store_of(tmp_path)
    model = registry.register("big", folder)
    names = [{Path(name).name for name in names_in(store, layer)} for layer in model.layers]
    assert len(names) == 2
    assert "weights.bin" in names[0]
    assert not {"config.json", "almost.bin"} & names[0]
    assert {"config.json", "words.txt", "almost.bin"} <= names[1]

    found = extract(store, model, tmp_path / "extracted")
    assert found.name == "model"
    assert sorted(path.name for path in found.rglob("*") if path.is_file()) == [
        "almost.bin", "config.json", "weights.bin", "words.txt",
    ]  # fmt: skip
    (folder / "config.json").write_text("changed")
    again = registry.register("big", folder)
    assert again.layers[0].unpacked_size == model.layers[0].unpacked_size


# ---- What is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["churn", "Churn_2.final-v1", "9", "a" * 255])
def test_names_by_the_rules_of_azure_are_taken(registry: ModelRegistry, tmp_path: Path, name: str) -> None:
    assert registry.register(name, a_file(tmp_path)).name == name


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "_x", "a b", "a/b", "a:1", "ä", "a\n", "a" * 256, "../a"])
def test_other_names_are_refused(registry: ModelRegistry, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a model name; use letters"):
        registry.register(name, a_file(tmp_path))


@pytest.mark.parametrize(
    ("text", "framework"),
    [("scikitlearn", "ScikitLearn"), ("Scikit-Learn", "ScikitLearn"), ("scikit_learn", "ScikitLearn"),
     ("ONNX", "Onnx"), ("tensorflow", "TensorFlow"), ("PyTorch", "PyTorch"), (" custom ", "Custom")],
)  # fmt: skip
def test_a_framework_is_known_in_any_spelling(text: str, framework: str) -> None:
    assert Framework.parse(text) == framework


def test_an_unknown_framework_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"'sklearn3' .*use one of ScikitLearn, TensorFlow, PyTorch, Onnx, Custom"):
        Framework.parse("sklearn3")


def test_a_framework_version_needs_a_framework(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --framework too"):
        registry.register("churn", a_file(tmp_path), ModelDetails(framework_version="1.5"))
    model = registry.register(
        "churn", a_file(tmp_path), ModelDetails(framework=Framework.SCIKIT_LEARN, framework_version="1.5")
    )
    assert (model.framework_version, model.version) == ("1.5", 1)


def test_a_missing_model_is_told_with_what_there_is(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="register one with: edgepack model register"):
        registry.get(ModelRef("churn"))
    registry.register("churn", a_file(tmp_path))
    with pytest.raises(NotFoundError, match="its versions are 1"):
        registry.get(ModelRef("churn", 2))
    with pytest.raises(NotFoundError, match="registered are churn"):
        registry.get(ModelRef("churm"))


def test_a_refused_registration_gives_no_version_away(registry: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(EdgepackError):
            registry.register("churn", wrong)
    with pytest.raises(UsageError, match="not an ONNX model"):
        registry.register("churn", a_file(tmp_path, name="broken.onnx"))
    assert registry.register("churn", a_file(tmp_path)).version == 1


# ---- A database or a disk that fails ------------------------------------------------------------------------------


def test_a_database_that_is_none_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "models.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(EdgepackError, match=r"models\.db: the workspace's database cannot be used .*copy of it back"):
        ModelRegistry(Database.beside(tmp_path / "models.db"), Store.create(tmp_path / "store"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_one_sentence_and_what_was_registered_stays(tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", root)
    try:
        registry = open_registry(root)
        first = registry.register("churn", a_file(tmp_path))
        big = tmp_path / "big.bin"
        big.write_bytes(os.urandom(4 << 20))
        for _ in range(3):
            with pytest.raises(NoSpaceError, match="no space left"):
                registry.register("churn", big)
        assert registry.list() == (first,)
        assert not list((root / "store/ingest").iterdir())
        assert registry.register("churn", a_file(tmp_path)).version > 1
    finally:
        run("umount", root)
