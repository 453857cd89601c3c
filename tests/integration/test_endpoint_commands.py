"""``edgepack endpoint`` on this machine: real models, real HAProxy, asked as any client asks."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.support.images import Commands, Second, Site, rows

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
