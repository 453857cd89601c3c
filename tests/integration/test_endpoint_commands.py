"""``edgepack endpoint`` on this machine: real models, real HAProxy, asked as any client asks."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.support.images import Commands, Second, Site, expected, rows
from tests.support import forked

pytestmark = pytest.mark.real("haproxy")


@pytest.fixture(scope="module")
def commands(site: Site, second: Second) -> Commands:
    """The commands of the site, which has two versions of a model, where services are processes."""
    return replace(site.commands, env={**site.commands.env, "EDGEPACK_RUNTIME": "process"})


def callers(uri: str, count: int = 60) -> dict[str, str]:
    """Which version each of so many callers gets."""
    body, found = json.dumps({"data": rows()}).encode(), {}
    for number in range(count):
        headers = {"Content-Type": "application/json", "X-Request-Id": f"caller-{number}"}
        with urllib.request.urlopen(urllib.request.Request(uri, body, headers), timeout=20) as answer:
            found[f"caller-{number}"] = answer.headers["x-edgepack-version"]
            assert answer.status == 200
    return found


def test_from_the_first_version_to_the_promotion_of_the_second(commands: Commands) -> None:
    def endpoint(verb: str, *words: object, code: int = 0) -> Any:
        done = commands.edgepack("endpoint", verb, "mlp", *words, code=code)
        return done.json if code == 0 else done.stderr

    made = endpoint("create", "--version", "v1", "-m", "mlp:1", "--control")
    try:
        assert (made["state"], made["default"], made["control"]) == ("Healthy", "v1", "v1")
        assert set(callers(made["scoring_uri"], 10).values()) == {"mlp-v1"}
        assert "is there already" in endpoint("create", "--version", "v1", "-m", "mlp:1", code=2)
        # Before anything is built: there is no model of that name.
        for name, sentence in (("mlp", "is the name of an endpoint"), ("mlp-v1", "is version v1 of endpoint mlp")):
            done = commands.edgepack("service", "deploy", "-n", name, "-m", "none:1", "--overwrite", code=2)
            assert f"service {name}: {sentence}" in done.stderr
        done = commands.edgepack("service", "show", "mlp", code=3)
        assert "it is an endpoint, see: edgepack endpoint show mlp" in done.stderr
        done = commands.edgepack("endpoint", "show", "mlp-v1", code=3)
        assert "it is version v1 of endpoint mlp" in done.stderr
        commands.edgepack("endpoint", "show", "ab", code=3)
        said = endpoint("create-version", "--version", "v1", "-m", "mlp:1", code=2)
        assert "edgepack endpoint update mlp --version v1" in said

        shared = endpoint("create-version", "--version", "v2", "-m", "mlp:2", "--traffic", 20)
        assert [(one["name"], one["traffic"]) for one in shared["versions"]] == [("v1", 80), ("v2", 20)]
        first = callers(made["scoring_uri"])
        assert set(first.values()) == {"mlp-v1", "mlp-v2"}
        assert Counter(first.values())["mlp-v1"] > 30
        assert "get 130 percent together" in endpoint("set-traffic", "v1=90", "v2=40", code=2)
        assert "still gets 20 percent" in endpoint("delete-version", "v2", code=2)
        assert "version 'v3' not found" in endpoint("set-traffic", "v3=5", code=3)
        assert "'v1' is not VERSION=PERCENT" in endpoint("set-traffic", "v1", code=2)
        done = commands.edgepack("service", "delete", "mlp-v2", code=2)
        assert "is version v2 of endpoint mlp" in done.stderr

        shown = endpoint("show")
        assert sum(one["requests"] for one in shown["versions"]) == 70
        assert shown["versions"][1]["comparison"]["words"] == "too few to say"
        assert [one["name"] for one in commands.edgepack("endpoint", "list").json] == ["mlp"]

        second = endpoint("set-traffic", "v2=50")
        assert [one["traffic"] for one in second["versions"]] == [50, 50]
        after = callers(made["scoring_uri"])
        assert all(after[one] == "mlp-v2" for one, version in first.items() if version == "mlp-v2")

        assert endpoint("update", "--description", "which is better", "--tag", "a=b")["tags"] == {"a": "b"}
        promoted = endpoint("promote", "v2")
        assert (promoted["default"], promoted["control"]) == ("v2", "v2")
        assert set(callers(made["scoring_uri"], 10).values()) == {"mlp-v2"}
        left = endpoint("delete-version", "v1")
        assert [one["name"] for one in left["versions"]] == ["v2"]
        assert [one["name"] for one in commands.edgepack("service", "list").json] == ["mlp-v2"]
        assert set(callers(made["scoring_uri"], 10).values()) == {"mlp-v2"}
    finally:
        commands.edgepack("endpoint", "delete", "mlp")
    assert commands.edgepack("service", "list").json == []
    assert commands.edgepack("endpoint", "list").json == []
    assert "endpoint 'mlp' not found" in commands.edgepack("endpoint", "show", "mlp", code=3).stderr


SCRIPT = """\
import json
import sys
from azureml.core import Model, Workspace
from azureml.core.webservice import AksEndpoint, Webservice
from azureml.exceptions import WebserviceException

ws, body = Workspace(), sys.argv[1]
first, second = (Model(ws, "mlp", version=number) for number in (1, 2))
configuration = AksEndpoint.deploy_configuration(version_name="v1", traffic_percentile=10, tags={"a": "b"})
endpoint = Model.deploy(ws, "shared", [first], None, configuration)
endpoint.wait_for_deployment(show_output=True)
endpoint.create_version(version_name="v2", models=[second], traffic_percentile=20, is_control_version_type=True)
found = Webservice(ws, "shared")
versions = [
    [name, one.traffic_percentile, one.is_default, one.is_control_version_type, one.version_type]
    for name, one in found.versions.items()
]
print(json.dumps([type(found).__name__, found.scoring_uri, found.tags, [one.id for one in found.models], versions]))
endpoint.update_version("v2", is_default=True, traffic_percentile=100)
endpoint.delete_version("v1")
print(json.dumps([endpoint.run(body), list(endpoint.versions), endpoint.state]))
for wrong in (
    lambda: endpoint.delete_version("v2"),
    lambda: endpoint.update_version("v3", traffic_percentile=5),
    lambda: endpoint.update(auth_enabled=True),
    lambda: Model.deploy(ws, "shared", [first], None, configuration),
    lambda: Model.deploy(ws, "shared", [first], None, configuration, overwrite=True),
    lambda: AksEndpoint(ws, "another"),
):
    try:
        wrong()
    except WebserviceException as error:
        print(json.dumps(error.message))
print(json.dumps(sorted(ws.webservices)))
endpoint.delete()
print(json.dumps(sorted(ws.webservices)))
"""


def test_a_script_written_for_azures_sdk_runs_versions_side_by_side(
    commands: Commands, second: Second, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "ab.py").write_text(SCRIPT)
    body = json.dumps({"data": rows()})
    done = replace(commands, folder=tmp_path).edgepack("azureml", "ab.py", body)
    said, told, after, *errors, there, left = done.stdout.splitlines()
    kind, uri, tags, models, versions = json.loads(told)
    assert said == f"Endpoint shared is healthy at {uri}"
    assert (kind, tags, models) == ("AksEndpoint", {"a": "b"}, ["mlp:1", "mlp:2"])
    assert versions == [["v1", 80, True, False, "Treatment"], ["v2", 20, False, True, "Control"]]
    answer, names, state = json.loads(after)
    np.testing.assert_allclose(np.asarray(answer), np.asarray(expected(site.models[2])), rtol=1e-4, atol=1e-6)
    assert (names, state) == (["v2"], "Healthy")
    sentences = (
        "'v2' is the default", "version 'v3' not found", "what its callers show does not change", "is there already",
        "is not overwritten", "WebserviceNotFound",
    )  # fmt: skip
    for sentence, error in zip(sentences, map(json.loads, errors), strict=True):
        assert sentence in error
    assert (json.loads(there), json.loads(left)) == (["shared"], [])


@pytest.mark.whole
def test_a_version_that_does_not_start_is_deployed_again_by_the_same_command(
    commands: Commands, second: Second, tmp_path: Path
) -> None:
    script = tmp_path / "score.py"
    script.write_text("def init():\n    raise RuntimeError('no weights')\n\n\ndef run(data):\n    return 1\n")
    words = ("endpoint", "create", "again", "--version", "v1", "--entry-script", script)
    done = forked.finish("edgepack", *words, cwd=tmp_path, env=commands.environment())
    assert done.code == 1
    assert "no weights" in done.stderr  # with the script's traceback
    assert commands.edgepack("endpoint", "list").json == []
    script.write_text("def init():\n    pass\n\n\ndef run(data):\n    return 1\n")
    try:
        assert commands.edgepack(*words).json["state"] == "Healthy"
        kept = ("endpoint", "update", "again", "--property", "p=q")
        assert commands.edgepack(*kept).json["properties"] == {"p": "q"}
        done = commands.edgepack("endpoint", "update", "again", "--property", "p=another", code=2)
        assert "property 'p' is 'q' already" in done.stderr
    finally:
        commands.edgepack("endpoint", "delete", "again")
