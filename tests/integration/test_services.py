"""Services on this machine: deployed from a registered model by the command, asked as any client asks."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.host.files import locked
from tests.integration.support.images import Commands, Second, Site, assert_scores, expected, rows
from tests.support import forked
from tests.support.http_client import ask
from tests.support.ports import free_port
from tests.support.running import Done
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def commands(site: Site) -> Commands:
    """The commands of the site, where services are processes."""
    return replace(site.commands, env={**site.commands.env, "EDGEPACK_RUNTIME": "process"})


def crashing(commands: Commands, *words: object) -> Done:
    """Type a command whose script does not start: its traceback is shown, and then one sentence."""
    done = forked.finish("edgepack", *words, cwd=commands.folder, env=commands.environment())
    assert done.code == 1
    *_, last, sentence = done.stderr.splitlines()
    assert (last, done.stderr.count("Traceback")) == ("RuntimeError: no such feature", 1)
    assert sentence.startswith("edgepack: service ")
    return done


@pytest.fixture(scope="module")
def deployed(commands: Commands) -> Iterator[Any]:
    """``mlp:1`` as the service ``mlp``; the same image was signed by a key of the workspace before."""
    commands.edgepack("bundle", "create", "mlp:1", "-o", commands.folder / "signs-it", "--key", "test")
    yield commands.edgepack("service", "deploy", "-n", "mlp", "-m", "mlp:1", "--port", free_port()).json
    commands.edgepack("service", "delete", "mlp")
    assert commands.edgepack("service", "list").json == []


def test_a_service_answers_where_it_says(site: Site, commands: Commands, deployed: Any) -> None:
    assert (deployed["state"], deployed["models"], deployed["reason"]) == ("running", ["mlp:1"], None)
    assert deployed["scoring_uri"] == f"http://127.0.0.1:{deployed['port']}/score"
    assert_scores(deployed["port"], site.models[1])
    assert commands.edgepack("service", "show", "mlp").json == deployed
    assert commands.edgepack("service", "list").json == [deployed]
    assert '"ready"' in commands.edgepack("service", "logs", "mlp").stdout


def test_a_service_of_that_name_is_not_replaced_by_chance(commands: Commands, deployed: Any) -> None:
    done = commands.edgepack("service", "deploy", "-n", "mlp", "-m", "mlp:1", code=2)
    assert "service mlp: is there already; give --overwrite" in done.stderr
    assert commands.edgepack("service", "show", "mlp").json == deployed


def test_an_update_moves_what_changed_and_a_failed_one_leaves_what_runs(
    site: Site, second: Second, commands: Commands, deployed: Any, tmp_path: Path
) -> None:
    assert commands.edgepack("service", "update", "mlp", "-m", "mlp:2").json["models"] == ["mlp:2"]
    assert_scores(deployed["port"], site.models[2])
    script = tmp_path / "score.py"
    script.write_text("def init():\n    raise RuntimeError('no such feature')\n\n\ndef run(data):\n    return data\n")
    done = crashing(commands, "service", "update", "mlp", "--entry-script", script)
    assert "no such feature" in done.stderr
    shown = commands.edgepack("service", "show", "mlp").json
    assert (shown["state"], shown["models"], shown["source"]) == ("running", ["mlp:2"], None)
    assert "rolled back" in shown["reason"]
    assert_scores(deployed["port"], site.models[2])
    commands.edgepack("service", "update", "mlp", "-m", "mlp:1")
    assert commands.edgepack("service", "show", "mlp").json["package"] == deployed["package"]


def test_two_commands_do_not_change_one_service_at_once(site: Site, commands: Commands, deployed: Any) -> None:
    with locked(site.commands.workspace / "services/mlp.lock"):
        done = commands.edgepack("service", "update", "mlp", "--description", "another", code=2)
    assert "service mlp: is being changed by another command" in done.stderr


SCRIPT = """\
import json
import sys
from azureml.core import Model, Workspace
from azureml.core.model import InferenceConfig
from azureml.core.webservice import LocalWebservice, Webservice
from azureml.exceptions import WebserviceException

ws, port, rows = Workspace(), int(sys.argv[1]), sys.argv[2]
deployment_config = LocalWebservice.deploy_configuration(port=port)
service = Model.deploy(ws, "scripted", [Model(ws, "mlp", version=1)], None, deployment_config)
service.wait_for_deployment(show_output=True)
first = service.run(rows)
service.update(models=[Model(ws, "mlp", version=2)])
second = Webservice(ws, "scripted").run(rows)
print(json.dumps([service.state, service.scoring_uri, type(ws.webservices["scripted"]).__name__, first, second]))
for wrong in (
    lambda: service.run("[[1]]"),
    lambda: Webservice(ws, "another"),
    lambda: Model.deploy(ws, "scripted", [Model(ws, "mlp")]),
    lambda: Model.deploy(ws, "broken", [], InferenceConfig("score.py")).wait_for_deployment(True),
):
    try:
        wrong()
    except WebserviceException as error:
        print(json.dumps(error.message))
Webservice(ws, "broken").delete()
service.delete(delete_image=True)
print(json.dumps(sorted(ws.webservices)))
"""


def test_a_script_written_for_azures_sdk_deploys_asks_updates_and_deletes(
    site: Site, second: Second, commands: Commands, deployed: Any, tmp_path: Path
) -> None:
    (tmp_path / "deploy.py").write_text(SCRIPT)
    script = "def init():\n    raise RuntimeError('no weights')\n\n\ndef run(data):\n    return 1\n"
    (tmp_path / "score.py").write_text(script)
    port = free_port()
    body = json.dumps({"data": rows()})
    done = replace(commands, folder=tmp_path).edgepack("azureml", "deploy.py", port, body)
    said, told, *errors, left = done.stdout.splitlines()
    assert said == f"Local webservice is running at http://127.0.0.1:{port}/score"
    state, address, kind, first, after = json.loads(told)
    assert (state, address, kind) == ("running", f"http://127.0.0.1:{port}/score", "LocalWebservice")
    assert_close(first, expected(site.models[1]))
    assert_close(after, expected(site.models[2]))
    refused, missing, taken, broken = map(json.loads, errors)
    assert "answered with code 400" in refused
    assert "WebserviceNotFound" in missing
    assert "is there already" in taken
    assert "no weights" in broken
    assert json.loads(left) == ["mlp"]


def assert_close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-4, atol=1e-6)


GOOD = "def init():\n    pass\n\n\ndef run(data):\n    from src import words\n\n    return words.ANSWER\n"
BROKEN = "def init():\n    raise RuntimeError('no such feature')\n\n\ndef run(data):\n    return data\n"


def test_a_reload_runs_a_changed_script_in_the_same_image_and_a_broken_one_leaves_what_ran(
    commands: Commands, tmp_path: Path
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "score.py").write_text(GOOD)
    (source / "words.py").write_text("ANSWER = 'first'\n")
    given = ("-m", "mlp:1", "--entry-script", "score.py", "--source-directory", source)
    first = commands.edgepack("service", "deploy", "-n", "words", *given).json
    port = first["port"]

    def answer() -> object:
        return ask(port, "POST", "/score", "1").json

    try:
        assert answer() == "first"
        (source / "words.py").write_text("ANSWER = 'second'\n")
        second = commands.edgepack("service", "reload", "words").json
        assert (second["state"], second["image"], answer()) == ("running", first["image"], "second")
        (source / "score.py").write_text(BROKEN)
        done = crashing(commands, "service", "reload", "words")
        assert "service words: has crashed, did its init() fail?; what ran before goes on" in done.stderr
        assert answer() == "second"
        (source / "score.py").write_text("def init(:\n")
        done = commands.edgepack("service", "reload", "words", code=2)
        assert f"{source / 'score.py'}, line 1: is not Python" in done.stderr
        shown = commands.edgepack("service", "show", "words").json
        assert (shown["state"], shown["reload_folder"], answer()) == ("running", second["reload_folder"], "second")
        (source / "score.py").write_text(GOOD)
        commands.edgepack("service", "reload", "words")  # the same again, which is started anew
        assert answer() == "second"
        (source / "words.py").write_text("ANSWER = 'third'\n")
        assert commands.edgepack("service", "update", "words", *given[2:]).json["reload_folder"] is None
        assert answer() == "third"
    finally:
        commands.edgepack("service", "delete", "words")
    assert not (commands.workspace / "services/sources/words").exists()


def test_what_has_no_script_is_not_reloaded(commands: Commands, deployed: Any) -> None:
    done = commands.edgepack("service", "reload", "mlp", code=2)
    assert "service mlp: has no entry script" in done.stderr


def test_a_service_is_begun_and_goes_on_by_itself(site: Site, commands: Commands) -> None:
    begun = commands.edgepack("service", "deploy", "-n", "later", "-m", "mlp:1", "--no-wait").json
    assert begun["state"] == "deploying"
    try:
        wait_until(lambda: commands.edgepack("service", "show", "later").json["state"] != "deploying")
        assert commands.edgepack("service", "show", "later").json["state"] == "running"
        assert_scores(begun["port"], site.models[1])
        # Nothing that it started holds the lock of the service.
        assert commands.edgepack("service", "update", "later", "--description", "d").json["description"] == "d"
    finally:
        commands.edgepack("service", "delete", "later")


def test_a_port_that_is_taken_is_said_and_nothing_is_recorded(commands: Commands, deployed: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for taken, told in ((port, "is taken by another program"), (deployed["port"], "is that of service mlp")):
            done = commands.edgepack("service", "deploy", "-n", "more", "-m", "mlp:1", "--port", taken, code=2)
            assert f"service more: port {taken} {told}" in done.stderr
            done = commands.edgepack(
                "service", "deploy", "-n", "more", "-m", "mlp:1", "--port", taken, "--no-wait", code=2
            )
            assert f"service more: port {taken} {told}" in done.stderr
    assert [one["name"] for one in commands.edgepack("service", "list").json] == ["mlp"]
