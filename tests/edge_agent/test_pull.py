"""``edge-agent pull`` and ``verify``, with a real registry, and what users write instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepack.errors import UsageError
from edgepack.oci.copy import copy
from edgepack.oci.reference import Reference
from edgepack.oci.remote import RemoteRepository, anonymous
from tests.edge_agent.support.origins import Made, make
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support import forked
from tests.support.parts import docker_registry

Agent = Callable[..., forked.Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Iterator[int]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "data") as port:
        for name in ("churn", "team/churn"):
            remote = RemoteRepository(Reference.parse(f"localhost:{port}/{name}:1"), credentials=anonymous)
            copy(made.store, remote, made.root)
            remote.tag("1", made.root)
            remote.attach_all(made.store.referrers(made.digest), made.store)
        yield port


@pytest.fixture
def agent(tmp_path: Path, made: Made) -> Agent:
    (tmp_path / "key.pub").write_bytes(made.key.public.to_pem())

    def run(*words: object, dev: str = "dev") -> forked.Done:
        return forked.finish("edge-agent", "--state-dir", tmp_path / dev, "--output", "json", *map(str, words))

    assert run("trust", tmp_path / "key.pub").code == 0
    return run


@pytest.mark.real("docker-registry")
def test_an_image_is_pulled_named_verified_and_pulled_again_without_moving(agent: Agent, made: Made, port: int) -> None:
    done = agent("pull", f"localhost:{port}/churn:1")
    assert done.code == 0, done.stderr
    answer = json.loads(done.stdout)
    size = made.root.size + sum(one.size for one in made.store.manifest(made.root).blobs)
    assert answer == {
        "tag": "churn:1", "digest": str(made.digest), "signed_by": [made.key.id], "moved_bytes": answer["moved_bytes"],
        "present_bytes": size - answer["moved_bytes"],
    }  # fmt: skip
    assert answer["moved_bytes"] >= sum(layer.size for layer in made.layers)
    again = json.loads(agent("pull", f"localhost:{port}/churn:1").stdout)
    assert (again["moved_bytes"], again["present_bytes"]) == (0, size)
    verified = json.loads(agent("verify", "churn:1").stdout)
    assert verified == {
        "image": "churn:1", "digest": str(made.digest), "signed_by": [made.key.id], "blobs": 5, "bytes": size,
    }  # fmt: skip


@pytest.mark.real("docker-registry")
def test_the_name_is_the_reference_without_its_registry_or_what_is_given(agent: Agent, made: Made, port: int) -> None:
    assert json.loads(agent("pull", f"docker://localhost:{port}/team/churn:1").stdout)["tag"] == "team/churn:1"
    assert json.loads(agent("pull", f"localhost:{port}/churn:1", "-t", "x").stdout)["tag"] == "x:latest"
    assert json.loads(agent("pull", f"localhost:{port}/churn@{made.digest}").stdout)["tag"] is None
    for name in (
        "team/churn:1",
        f"localhost:{port}/team/churn:1",
        "x",
        made.digest,
        f"localhost:{port}/a@{made.digest}",
    ):
        assert agent("verify", name).code == 0


@pytest.mark.real("docker-registry")
def test_a_name_without_a_registry_is_for_the_configured_sources(
    agent: Agent, made: Made, port: int, tmp_path: Path
) -> None:
    done = agent("pull", "churn:1")
    assert done.code == 2
    assert (
        "does not name a registry, and this device has no sources; write it as registry.example/churn:1" in done.stderr
    )
    (tmp_path / "dev" / "edge-agent.yml").write_text(f"sources:\n  - registry: localhost:{port}\n")
    for name in ("churn:1", "team/churn:1", str(made.digest)):
        assert agent("pull", name).code == 0
    assert agent("pull", "churn:2").code == 3
    other = tmp_path / "other.yml"
    other.write_text(f"sources:\n  - registry: localhost:{port}/team\n")
    assert agent("pull", "churn:1", "--config", other, dev="dev").code == 0


@pytest.mark.real("docker-registry")
def test_what_is_written_wrongly_gets_a_sentence_with_a_way_out(
    agent: Agent, made: Made, port: int, tmp_path: Path
) -> None:
    for words, code, text in [
        (["pull", f"http://localhost:{port}/churn:1"], 2, f"write localhost:{port}/churn:1, and --plain-http"),
        (["pull", f"ann:secret@localhost:{port}/churn:1"], 2, "has no user name and password in it"),
        (["pull", f"localhost:{port}/churn:2"], 3, f"localhost:{port}: does not have churn:2 in churn"),
        (["pull", f"localhost:{port}/Churn:1"], 2, "must be in lower case"),
        (["pull", "localhost:1/churn:1"], 1, "http://localhost:1: cannot be reached"),
        (["pull", tmp_path / "key.pub"], 2, "import it with: edge-agent import"),
        (["pull", f"localhost:{port}/churn:1", "--registry-credentials", tmp_path / "key.pub"], 2, "chmod 600"),
        (["pull", f"localhost:{port}/churn:1", "--ca", "/nowhere"], 2, "/nowhere: there is no such file"),
        (["pull", f"localhost:{port}/churn@{made.root.digest.__class__.of(b'x')}"], 3, "does not have sha256:"),
        (["verify", "churn:1"], 3, "image 'churn:1' not found; import or pull it"),
        (["verify", tmp_path / "key.pub"], 2, "by: edge-agent import"),
        (["verify", made.digest], 3, "is not on this device"),
    ]:  # fmt: skip
        done = agent(*words)
        assert (done.code, text in done.stderr, done.stderr.count("\n")) == (code, True, 1), done.stderr
        assert "secret" not in done.stderr


@pytest.mark.real("docker-registry")
def test_an_image_by_a_stranger_names_the_command_that_trusts_him(agent: Agent, port: int) -> None:
    for words in ([], ["--allow-unsigned"]):
        done = agent("pull", f"localhost:{port}/churn:1", *words, dev="other")
        assert done.code == 4
        assert "run: edge-agent trust KEY.pub" in done.stderr


@pytest.mark.real("docker-registry")
def test_damage_is_found_by_verify_and_mended_by_the_next_pull(
    agent: Agent, made: Made, port: int, tmp_path: Path
) -> None:
    agent("pull", f"localhost:{port}/churn:1")
    blob = tmp_path / "dev" / "store" / "blobs" / "sha256" / made.layers[0].digest.hex
    blob.write_bytes(b"\0" * made.layers[0].size)
    done = agent("verify", "churn:1")
    assert (done.code, f"is damaged on the disk: {made.layers[0].digest}" in done.stderr) == (4, True)
    assert "is not whole" in agent("verify", "churn:1").stderr
    answer = json.loads(agent("pull", f"localhost:{port}/churn:1").stdout)
    assert answer["moved_bytes"] == made.layers[0].size
    assert agent("verify", "churn:1").code == 0


def test_a_login_from_a_file_is_for_the_registry_that_is_named(agent: Agent, made: Made, tmp_path: Path) -> None:
    import base64

    with running(Simulator(auth="basic")) as simulator:
        made.into(simulator)
        reference = f"127.0.0.1:{simulator.port}/churn:1"
        done = agent("pull", reference)
        assert (done.code, "none are stored" in done.stderr) == (1, True)
        logins = tmp_path / "logins.json"
        secret = base64.b64encode(b"ann:open sesame").decode()
        logins.write_text(json.dumps({"auths": {f"127.0.0.1:{simulator.port}": {"auth": secret}}}))
        logins.chmod(0o600)
        assert agent("pull", reference, "--registry-credentials", logins).code == 0


@pytest.mark.real("docker-registry")
def test_an_image_that_is_named_for_a_service_is_found_here_or_at_its_registry_and_gets_its_name(
    made: Made, port: int, tmp_path: Path
) -> None:
    from edge_agent.config.configuration import Configuration, RegistrySource
    from edge_agent.sources.pull import find
    from tests.edge_agent.support.origins import device

    on = device(tmp_path / "dev", made)
    nothing = Configuration(state_dir=on.root)
    with pytest.raises(UsageError, match="does not name a registry, and this device has no sources"):
        find(on, "churn:1", nothing, here=True)
    found = find(on, f"localhost:{port}/team/churn:1", nothing, here=True)
    found.fetch(found.image, names=["churn"])
    assert on.store.tags()["team/churn:1"].digest == made.digest
    assert find(on, "team/churn:1", nothing, here=True).image == made.digest
    configured = Configuration(state_dir=on.root, sources=(RegistrySource(f"localhost:{port}"),))
    found = find(on, "churn:1", configured, here=True)
    found.fetch(found.image)
    assert {"churn:1", "team/churn:1"} == on.store.tags().keys()
