"""The model registry, asked the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import ModelRef
from edgepack.oci.store import Store
from packager.models.details import ModelDetails
from packager.models.model import Framework, Resources
from packager.models.query import Label, ModelQuery
from packager.models.registry import ModelRegistry
from tests.packager.database.conftest import Open

DETAILS = ModelDetails(
    Framework.SCIKIT_LEARN, "1.5.2", {"area": "churn", "stage": "prod"}, {"auc": "0.91", "data": "2026-11"},
    "Who is about to leave; für alle Kunden", Resources(cpu=0.5, memory_gb=1.5), "churn-study", "churn-study_7",
)  # fmt: skip


@pytest.fixture
def registry(open_database: Open, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(open_database(), Store.create(tmp_path / "store"))


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_text("weights")
    return path


def ids(registry: ModelRegistry, **asked: object) -> list[str]:
    return [model.id for model in registry.list(ModelQuery(**asked))]  # type: ignore[arg-type]


def test_all_that_is_said_of_a_model_is_kept(
    registry: ModelRegistry, open_database: Open, a_file: Path, tmp_path: Path
) -> None:
    rows, expected = tmp_path / "rows.json", tmp_path / "expected.json"
    rows.write_text('{"data": [[1, 2]]}')
    expected.write_text("[0]")
    made = registry.register("churn", a_file, DETAILS, sample_input=rows, sample_output=expected)
    found = ModelRegistry(open_database(), registry.store).get(ModelRef("churn"))
    assert found == made
    assert (found.framework, found.framework_version) == (Framework.SCIKIT_LEARN, "1.5.2")
    assert (found.tags, found.properties) == (DETAILS.tags, DETAILS.properties)
    assert (found.description, found.resources) == (DETAILS.description, DETAILS.resources)
    assert (found.experiment, found.run) == ("churn-study", "churn-study_7")
    assert found.sample is not None
    assert registry.store.read(found.sample.blob) == b'{"data": [[1, 2]]}'
    assert found.sample_output is not None
    assert registry.store.read(found.sample_output.blob) == b"[0]"
    assert found.created_by
    assert found.size == 7


def test_models_are_found_by_what_they_have(registry: ModelRegistry, a_file: Path) -> None:
    registry.register("churn", a_file, ModelDetails(tags={"stage": "dev"}))
    registry.register("churn", a_file, DETAILS)
    registry.register("fraud", a_file, ModelDetails(Framework.CUSTOM, tags={"stage": "prod"}))
    registry.register("fraud", a_file, ModelDetails(run="other", properties={"auc": "0.91"}))
    assert ids(registry) == ["churn:1", "churn:2", "fraud:1", "fraud:2"]
    assert ids(registry, name="churn") == ["churn:1", "churn:2"]
    assert ids(registry, tags=(Label("stage"),)) == ["churn:1", "churn:2", "fraud:1"]
    assert ids(registry, tags=(Label("stage", "prod"),)) == ["churn:2", "fraud:1"]
    assert ids(registry, tags=(Label("stage", "prod"), Label("area"))) == ["churn:2"]
    assert ids(registry, properties=(Label("auc", "0.91"),)) == ["churn:2", "fraud:2"]
    assert ids(registry, framework=Framework.SCIKIT_LEARN) == ["churn:2"]
    assert ids(registry, run="churn-study_7") == ["churn:2"]
    assert ids(registry, latest=True) == ["churn:2", "fraud:2"]
    assert ids(registry, latest=True, tags=(Label("stage", "prod"),)) == ["churn:2", "fraud:1"]
    assert ids(registry, name="nothing") == []


@pytest.mark.parametrize(
    "key", ["a.b", 'a"b', "a'b", "a\\b", "$.a", "a[0]", "0", "ключ", "a b", "a-b", "a/b:c", "a$b", "a%b", "*", " "]
)
def test_keys_of_any_form_are_found(registry: ModelRegistry, a_file: Path, key: str) -> None:
    registry.register("with", a_file, ModelDetails(tags={key: "x"}))
    registry.register("other", a_file, ModelDetails(tags={"a": "x", "b": "x"}))
    assert ids(registry, tags=(Label(key),)) == ["with:1"]
    assert ids(registry, tags=(Label(key, "x"),)) == ["with:1"]
    assert ids(registry, tags=(Label(key, "y"),)) == []


def test_tags_and_the_description_change_and_properties_only_grow(registry: ModelRegistry, a_file: Path) -> None:
    registry.register("churn", a_file, DETAILS)
    changed = registry.update(
        ModelRef("churn"), add_tags={"stage": "old", "new": "1"}, remove_tags=["area"], add_properties={"f1": "0.5"},
        description="another",
    )  # fmt: skip
    assert changed == registry.get(ModelRef("churn", 1))
    assert changed.tags == {"stage": "old", "new": "1"}
    assert changed.properties == {**DETAILS.properties, "f1": "0.5"}
    assert changed.description == "another"
    assert registry.update(ModelRef("churn"), add_properties={"f1": "0.5"}) == changed, "the same again changes nothing"
    with pytest.raises(UsageError, match=r"model churn:1: its property 'auc' is '0\.91' and properties do not change"):
        registry.update(ModelRef("churn"), add_properties={"auc": "0.92"}, add_tags={"never": "kept"})
    with pytest.raises(NotFoundError, match="has no tag 'stge'; did you mean 'stage'"):
        registry.update(ModelRef("churn"), add_tags={"never": "kept"}, remove_tags=["stge"])
    with pytest.raises(UsageError, match="is not the key of a tag"):
        registry.update(ModelRef("churn"), add_tags={"never": "kept", "": "x"})
    assert registry.get(ModelRef("churn")) == changed


def test_a_deleted_number_is_never_given_again(registry: ModelRegistry, a_file: Path) -> None:
    for _ in range(2):
        registry.register("churn", a_file)
    assert registry.delete(ModelRef("churn", 2)).id == "churn:2"
    with pytest.raises(NotFoundError, match=r"model churn:2 not found.*its versions are 1"):
        registry.delete(ModelRef("churn", 2))
    assert registry.register("churn", a_file).version == 3


def test_every_broken_rule_is_told_at_once_and_nothing_is_registered(registry: ModelRegistry, a_file: Path) -> None:
    wrong = ModelDetails(None, "1.5", {"": "x", "a=b": "y"}, {"k": "\x1b[2J"}, "d\0", Resources(-1.0, float("nan"), 0))
    with pytest.raises(InvalidDocumentError) as error:
        registry.register("no/name", a_file, wrong)
    assert len(error.value.violations) == 9
    assert error.value.exit_code == 2
    assert registry.list() == ()
    assert registry.register("name", a_file).version == 1


def _register(open_database: Open, store: Path, path: Path, count: int, found: object) -> None:
    registry = ModelRegistry(open_database(), Store.create(store))
    found.put([registry.register("churn", path).version for _ in range(count)])  # type: ignore[attr-defined]


def test_processes_that_register_at_once_get_each_number_once(
    open_database: Open, a_file: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    # The tables do not exist before: making them is part of the race.
    arguments = (open_database, tmp_path / "store", a_file, 5, found)
    workers = [context.Process(target=_register, args=arguments) for _ in range(8)]
    for worker in workers:
        worker.start()
    versions = [version for _ in workers for version in found.get(timeout=120)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(versions) == list(range(1, 41))
    listed = ModelRegistry(open_database(), Store.create(tmp_path / "store")).list()
    assert [model.version for model in listed] == list(range(1, 41))
