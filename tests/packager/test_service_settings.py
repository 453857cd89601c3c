"""A user's settings of the server in an image: checked whole, by the server's own reader, before anything is built."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import edge_server
from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.images.build import BuildOptions
from packager.images.plan import FilesLayer, LayerPlan, service_config, service_document
from packager.inference.entry_script import EntryScript
from packager.inference.service_settings import ServiceSettings, read_settings, violations
from packager.models.served import ServedModel
from tests.packager.support.bases import AMD64
from tests.packager.support.workspaces import make_workspace
from tests.support.running import finish

MODELS = (ServedModel("churn", 1, "m.onnx", ()),)
SCRIPT = EntryScript("score.py", "var/azureml-app", ())


def merged(values: dict[str, Any], script: EntryScript | None = None) -> dict[str, Any]:
    settings = ServiceSettings(values)
    settings.check(service_document(MODELS, script))
    found = json.loads(service_config(MODELS, script, settings))
    assert isinstance(found, dict)
    return found


def refused(values: dict[str, Any], script: EntryScript | None = None) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        ServiceSettings(values, "mine.json").check(service_document(MODELS, script))
    assert caught.value.where == "mine.json"
    return caught.value.violations


def test_what_is_given_changes_and_the_rest_stays() -> None:
    assert merged({}) == json.loads(service_config(MODELS))
    found = merged(
        {
            "schema": "edgepack.service/v1", "limits": {"queue": 7}, "collection": {"folder": "/data"},
            "auth": {"mode": "key", "file": "/run/keys.json"}, "docs": False,
        }
    )  # fmt: skip
    assert found["limits"] == {"body_bytes": 100 << 20, "queue": 7}
    assert (found["auth"], found["docs"]) == ({"mode": "key", "file": "/run/keys.json"}, False)
    assert found["port"] == 5001
    script = merged({"entry_script": {"workers": 2, "threads": 3}}, SCRIPT)["entry_script"]
    assert script == {"file": "score.py", "source_directory": "../../var/azureml-app", "workers": 2, "threads": 3}


def test_every_violation_is_told_at_once_whoever_finds_it() -> None:
    wrong = {
        "entry_script": {"workers": "two", "file": "x.py"}, "limits": {"body_bytes": "5", "queu": 3}, "port": 80,
        "auth": {"mode": "kye"}, "collection": {}, "foo": 1, "models": [], "schema": "v2",
    }  # fmt: skip
    assert refused(wrong, SCRIPT) == (
        "models is decided by the build",
        "port is decided by the build",
        "schema must be edgepack.service/v1, is v2",
        "entry_script.file is decided by the build",
        "entry_script.workers must be a whole number, not 'two'",
        "limits.body_bytes must be a whole number, not '5'",
        "limits.queu is not a field that this server knows; did you mean 'queue'?",
        "auth.mode must be one of none, key, token, not 'kye'; did you mean 'key'?",
        "collection.folder is missing; it must be a string",
        "foo is not a field that this server knows",
    )


@pytest.mark.parametrize("value", ["score.py", 5, None, []])
def test_the_script_is_named_on_the_command_line(value: object) -> None:
    assert refused({"entry_script": value}, SCRIPT) == ('entry_script must be an object, such as {"workers": 2}',)


def test_workers_need_a_script() -> None:
    said = "entry_script is for an image with a script, which --entry-script names"
    assert refused({"entry_script": {"workers": 2}}) == (said,)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="check --service-config"):
        read_settings(tmp_path / "absent")
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path)
    for text in ("[]", "{", '{"docs": true, "docs": false}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(InvalidDocumentError):
            read_settings(tmp_path / "s.json")


def test_the_standard_library_is_enough_to_check(tmp_path: Path) -> None:
    """A workstation need not have the packages of the server."""
    (tmp_path / "s.json").write_text(json.dumps(service_document(MODELS)))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from edge_server.config.check import main; main(sys.argv[2:])"
    root = Path(edge_server.__file__).parent.parent
    argv = [sys.executable, "-I", "-S", "-c", code, str(root), str(tmp_path / "s.json")]
    done = finish(*argv)
    assert (done.stdout, done.stderr) == ("[]", "")
    assert violations(service_document(MODELS)) == []


def test_a_build_has_them_and_refuses_them_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packager.images.build.scoring_wheels", lambda *_, **__: ())
    workspace = make_workspace(tmp_path)

    def plan(values: dict[str, Any]) -> LayerPlan:
        options = BuildOptions("tiny:1", settings=ServiceSettings(values, "mine.json"))
        (found,) = workspace.builder.plan([ModelRef("churn")], (AMD64,), options)
        return found

    layer = next(one for one in plan({"limits": {"queue": 5}}).layers if one.kind == "config")
    assert isinstance(layer, FilesLayer)
    content = layer.entries[0].content
    assert content is not None
    with content() as stream:
        assert json.load(stream)["limits"]["queue"] == 5
    monkeypatch.setattr("packager.images.build.find_base", lambda *_, **__: pytest.fail("nothing is fetched"))
    with pytest.raises(InvalidDocumentError, match=r"limits\.queue must be at least 1"):
        plan({"limits": {"queue": 0}})
