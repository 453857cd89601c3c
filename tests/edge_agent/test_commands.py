"""``edge-agent`` as a user meets it: every command, every mistake, real images and the process runtime."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_agent.commands.main import VERBS, cli
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import create_key
from edgepack.state.desired import PAYLOAD_TYPE
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.ports import free_port
from tests.support.running import finish, run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def new(images: Images, tmp_path: Path) -> Iterator[Agent]:
    """A device that is not there yet."""
    agent = Agent(tmp_path / "device", images, free_port())
    yield agent
    agent.close()


@pytest.fixture(scope="module")
def stock(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = Agent(tmp_path_factory.mktemp("stock") / "device", images, 0)
    agent.take_in("v1", "v2", "ill", "crash")
    agent.take_in("unsigned")
    return agent.root


@pytest.fixture
def agent(new: Agent, stock: Path) -> Agent:
    """A device that holds every image but one, and runs nothing."""
    shutil.copytree(stock, new.root)
    return new


def sentence(text: str) -> str:
    """The one line of an error, without what was logged before it."""
    lines = [line for line in text.splitlines() if line.startswith("edge-agent: ")]
    assert "Traceback" not in text
    return lines[-1]


def test_the_whole_life_of_a_service(agent: Agent) -> None:
    v1, v2 = str(agent.images.digests["v1"]), str(agent.images.digests["v2"])
    usual = {
        "name": "churn", "port": agent.port, "runtime": "process", "reason": None, "models": [],
        "url": f"http://127.0.0.1:{agent.port}", "stage": "Done", "percent": None, "restarts": 0, "exit_code": None,
        "memory_kills": 0, "origin": "command", "serial": None, "status": 200,
    }  # fmt: skip
    first = {"state": "Healthy", "digest": v1, "last_good": None, "tag": "v1:1", "last_good_tag": None}
    second = {"state": "Healthy", "digest": v2, "last_good": v1, "tag": "v2:1", "last_good_tag": "v1:1"}

    done = agent.apply("v1")
    assert (done.code, done.services) == (0, [usual | first])
    assert agent.answer() == "v1"

    assert agent.apply("v2").services == [usual | second]
    assert agent.answer() == "v2"

    done = agent.apply("ill")
    assert (done.code, done.out) == (1, "")
    assert sentence(done.err).startswith("edge-agent: service churn: not healthy within 6 seconds: GET / on")
    assert "answered 503" in done.err
    assert f"rolled back to {v2}" in done.err
    found = agent.status()
    assert (found["state"], found["digest"], found["last_good"]) == ("Healthy", v2, v1)
    assert str(agent.images.digests["ill"]) in found["reason"]
    assert agent.answer() == "v2"

    done = agent.apply("crash")
    assert done.code == 1
    assert "it exited with code 7; it last wrote: no model \\x1b[31mhere; rolled back to" in sentence(done.err)

    done = agent.run("rollback", "churn")
    assert (done.code, done.services) == (0, [usual | first])
    assert (agent.answer(), len(agent.processes())) == ("v1", 1)

    done = agent.run("rollback", "churn")
    assert done.code == 3
    assert sentence(done.err) == (
        "edge-agent: service churn: has no earlier image that was healthy; apply another image"
    )
    assert agent.answer() == "v1"

    done = agent.apply("v1", status="stopped")
    assert done.services == [usual | first | {"state": "Stopped", "url": None}]
    assert agent.processes() == []


def test_a_device_that_is_not_there_has_no_services_and_is_not_made(new: Agent) -> None:
    done = new.ok("status")

    assert json.loads(done.out) == {"services": [], "documents": []}
    assert f"no services in {new.root}" in done.err
    assert new.run("rollback", "churn").code == 3
    assert not new.root.exists()


def test_a_folder_that_was_there_keeps_its_mode(new: Agent) -> None:
    new.root.mkdir(mode=0o750)
    new.take_in("v1")

    assert new.root.stat().st_mode & 0o777 == 0o750
    assert (new.root / "state").exists() or (new.root / "store").stat().st_mode & 0o777 == 0o700


def test_an_import_tells_what_came(new: Agent) -> None:
    new.ok("trust", str(new.images.folder / "key.pub"))
    first = json.loads(new.ok("import", str(new.images.bundle("v1"))).out)
    again = json.loads(new.ok("import", str(new.images.bundle("v1"))).out)

    assert first["images"] == [
        {"name": "v1:1", "digest": str(new.images.digests["v1"]), "signed_by": [new.images.key.id]}
    ]
    assert first["moved_bytes"] > 0
    assert (again["moved_bytes"], again["present_bytes"]) == (0, first["moved_bytes"])


def test_a_receipt_names_what_is_held(agent: Agent, tmp_path: Path) -> None:
    agent.ok("receipt", "-o", str(tmp_path / "receipt.json"))
    written = json.loads((tmp_path / "receipt.json").read_text())
    printed = json.loads(agent.ok("receipt").out)

    assert {**written, "free_bytes": 0} == {**printed, "free_bytes": 0}  # of a disk that others use too
    assert 0 < written["free_bytes"] <= shutil.disk_usage(tmp_path).total
    assert written["schema"] == "edgepack.receipt/v1"
    assert str(agent.images.digests["v1"]) in written["blobs"]
    assert str(agent.images.digests["absent"]) not in written["blobs"]
    assert agent.run("receipt", "-o", str(tmp_path / "no" / "receipt.json")).code == 3
    assert agent.run("receipt", "-o", str(tmp_path)).code == 2


def test_an_image_that_was_not_imported_is_not_found(agent: Agent) -> None:
    assert agent.apply("v1").code == 0
    done = agent.apply("absent")

    assert done.code == 3
    assert sentence(done.err) == (
        f"edge-agent: image {agent.images.digests['absent']}: is not on this device; "
        "import the bundle that contains it with: edge-agent import"
    )
    assert agent.answer() == "v1"


def test_an_unsigned_image_runs_only_when_that_is_said(agent: Agent) -> None:
    done = agent.apply("unsigned")
    assert done.code == 4
    assert sentence(done.err).endswith("sign the image with a key that this device trusts, or give --allow-unsigned")
    assert agent.processes() == []
    done = agent.apply("unsigned", "--allow-unsigned")
    assert done.code == 0
    assert "without a trusted signature, because of --allow-unsigned" in done.err
    assert agent.answer() == "unsigned"


def test_an_unsigned_bundle_comes_in_only_when_that_is_said(new: Agent) -> None:
    new.take_in("v1")
    bundle = str(new.images.bundle("unsigned"))

    assert new.run("import", bundle).code == 4
    assert new.run("import", bundle, "--allow-unsigned").code == 0


def test_without_its_key_a_signed_image_does_not_run(agent: Agent) -> None:
    shutil.rmtree(agent.root / "trust")
    done = agent.apply("v1")

    assert done.code == 4
    assert agent.processes() == []


def test_an_altered_blob_is_found_before_anything_is_stopped(agent: Agent) -> None:
    assert agent.apply("v1").code == 0
    store = Store.open_existing(agent.root / "store")
    layer = store.manifest(store.describe(agent.images.digests["v2"])).layers[-1]
    path = store.path(layer.digest)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    done = agent.apply("v2")

    assert done.code == 4
    assert "sha256:" in sentence(done.err)
    assert "again" in sentence(done.err)
    assert (agent.answer(), agent.status()["state"]) == ("v1", "Healthy")
    agent.ok("import", str(agent.images.bundle("v1", "v2", "ill", "crash")))
    assert agent.apply("v2").code == 0


def test_a_port_that_is_taken_is_named(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", agent.port)):
        done = agent.apply("v1")

    assert done.code == 1
    assert f"port {agent.port} on 127.0.0.1 cannot be used (Address already in use)" in sentence(done.err)
    assert sentence(done.err).count("service churn") == 1
    assert agent.status()["state"] == "Failed"
    assert agent.apply("v1").code == 0


def test_every_wrong_field_is_told_at_once(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    service = {"name": "No", "image": "latest", "port": 70000, "helth": {}, "env": {"A": 1}}
    path.write_text(json.dumps({"schema": "edgepack.desired/v2", "services": [service], "serial": "one"}))
    done = agent.run("apply", str(path))

    assert done.code == 2
    for part in (str(path), "schema", "[0].name", "[0].image", "[0].port", "helth", "env.A", "serial"):
        assert part in sentence(done.err)


def test_a_serial_that_goes_back_is_refused(agent: Agent) -> None:
    assert agent.apply("v1", serial=7).code == 0
    done = agent.apply("v2", serial=6)

    assert done.code == 4
    assert sentence(done.err) == (
        "edge-agent: desired state: serial 6 is older than serial 7, which this device has accepted; "
        "give it a serial above 7"
    )
    assert agent.answer() == "v1"


def test_a_document_in_an_envelope_must_verify(agent: Agent, tmp_path: Path) -> None:
    document = Path(agent.document("v1")).read_bytes()
    path = tmp_path / "signed.json"
    for key, code in ((create_key(), 4), (agent.images.key, 0)):
        path.write_bytes(envelope.sign(document, PAYLOAD_TYPE, key))
        done = agent.run("apply", str(path), "--allow-unsigned")
        assert done.code == code, done.err
    path.write_bytes(envelope.sign(document, "application/other", agent.images.key))
    assert agent.run("apply", str(path)).code == 4


def test_an_old_signed_document_is_not_taken_again(agent: Agent, tmp_path: Path) -> None:
    for name, serial in (("old", None), ("new", 7)):
        document = Path(agent.document("v1", serial=serial, env={"N": name})).read_bytes()
        (tmp_path / name).write_bytes(envelope.sign(document, PAYLOAD_TYPE, agent.images.key))
        assert agent.run("apply", str(tmp_path / name)).code == 0
    done = agent.run("apply", str(tmp_path / "old"))
    assert done.code == 4
    assert "it has no serial, and this device has accepted serial 7; give it a serial above 7" in sentence(done.err)
    assert agent.run("apply", "--reset-serial", str(tmp_path / "old")).code == 0


def test_a_document_for_another_device_is_refused(agent: Agent, tmp_path: Path) -> None:
    value = json.loads(Path(agent.document("v1", serial=1)).read_bytes())
    (agent.root / "edge-agent.yml").write_text("schema: edgepack.agent/v1\ndevice: press-1\ngroups: [line-a]\n")
    path = tmp_path / "desired.json"
    for address, code in (({"device": "press-2"}, 4), ({"group": "line-b"}, 4), ({"group": "line-a"}, 0)):
        path.write_text(json.dumps(value | address))
        done = agent.run("apply", str(path))
        assert done.code == code, done.err
        if code:
            assert sentence(done.err).startswith(f"edge-agent: {path}: it is for ")
            assert "press-1" in done.err
    path.write_text(json.dumps(value | {"serial": 2, "device": "press-1"}))
    assert agent.run("apply", str(path)).code == 0
    assert agent.answer() == "v1"


def test_status_for_people_is_a_table(agent: Agent) -> None:
    agent.apply("v1")
    lines = agent.run("status", EDGEPACK_OUTPUT="table").out.splitlines()

    assert lines[0].split() == ["NAME", "STATE", "IMAGE", "MODEL", "URL", "LAST", "GOOD", "RUNTIME"]
    assert lines[1].split()[:2] == ["churn", "Healthy"]


def test_flags_may_be_variables(agent: Agent, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "edge_agent"]
    more = {
        "EDGEPACK_STATE_DIR": str(agent.root), "EDGEPACK_RUNTIME": "process",
        "EDGEPACK_RECEIPT_PATH": str(tmp_path / "receipt.json"),
    }  # fmt: skip
    run(*words, "receipt", env=agent.environment(**more))
    assert (tmp_path / "receipt.json").exists()
    for name in ("EDGEPACK_ALLOW_UNSIGNED", "EDGEPACK_APPLY_ALLOW_UNSIGNED"):
        run(*words, "apply", agent.document("unsigned"), env=agent.environment(**more, **{name: "1"}))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    done = CliRunner().invoke(cli, [verb, "--help"])

    assert done.exit_code == 0
    assert "--debug" in done.stdout
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert (command.name, command.short_help) == (verb, VERBS[verb])


MISTAKES = {
    "no such verb": (["aply"], 2, "no such command 'aply'"),
    "no such flag": (["status", "--colour"], 2, "no such option"),
    "no argument": (["apply"], 2, "missing argument 'file'; see: edge-agent apply --help"),
    "an output that is none": (["status", "--output", "xml"], 2, "'xml' is not one of 'table', 'json'"),
    "no such file": (["apply", "no.json"], 3, "no.json: there is no such file; write a desired state"),
    "a folder as document": (["apply", "{here}"], 2, "is a folder"),
    "garbage as document": (["apply", "{here}/garbage"], 2, "garbage: not json"),
    "what is no document": (["apply", "{here}/garbage"], 2, "; give a desired state in json, or a signed one"),
    "a list as document": (["apply", "{here}/list"], 2, "must be a json object"),
    "too long a document": (["apply", "{here}/long"], 2, "long: is longer than 4.2 mb"),
    "a bundle as document": (["apply", "{bundle}"], 2, "bundle: is a bundle; import it with: edge-agent import"),
    "no services": (["apply", "{here}/empty"], 2, "services is missing"),
    "garbage in an envelope": (["apply", "{here}/envelope"], 4, "is not a dsse envelope"),
    "no such bundle": (["import", "no.bundle"], 3, "no.bundle: there is no such bundle"),
    "garbage as bundle": (["import", "{here}/garbage"], 4, "garbage: is not a bundle"),
    "a desired state as bundle": (
        ["import", "{here}/empty"],
        4,
        "is not a bundle: a tar whose first member is",
    ),
    "a bundle of an unknown key": (
        ["import", "{bundle}"],
        4,
        "owner of that key, run: edge-agent trust key.pub",
    ),
    "a folder without a bundle": (["import", "{here}"], 3, "has no bundle, and no part of one"),
    "no such key": (["trust", "no.pub"], 3, "no.pub: there is no such file; write one with: edgepack key export"),
    "garbage as key": (["trust", "{here}/garbage"], 2, "garbage: is not a public key in pem"),
    "a private key": (["trust", "{here}/private"], 2, "private: is a private key"),
    "an unknown service": (["rollback", "churn"], 3, "no services are recorded; check --state-dir"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_sentence_and_its_code(name: str, new: Agent, tmp_path: Path) -> None:
    for file, data in {
        "garbage": b"\x00\x01garbage\x1b[2J", "list": b"[]", "empty": b'{"schema": "edgepack.desired/v1"}',
        "long": b" " * (5 << 20), "envelope": b'{"payloadType": 1}', "private": new.images.key.to_pem(),
    }.items():  # fmt: skip
        (tmp_path / file).write_bytes(data)
    words, code, text = MISTAKES[name]
    bundle = str(new.images.bundle("v1"))
    done = new.run(*[word.replace("{here}", str(tmp_path)).replace("{bundle}", bundle) for word in words])

    assert (done.code, done.out) == (code, ""), done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert text in sentence(done.err).lower()
    assert "\x1b" not in done.err


def test_a_state_dir_that_is_a_file_is_wrong_usage(new: Agent, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        for words in (["status"], ["trust", str(new.images.folder / "key.pub")]):
            new.root = root
            done = new.run(*words)
            if root.name == "below" and words == ["status"]:
                assert done.code == 0  # nothing is there, and nothing can be
            else:
                assert (done.code, len(done.err.splitlines())) == (2, 1), done.err


# Everything is imported before, for the Python that runs the tests may be out of another user's reach.
AS_NOBODY = """
import os, sys
import edge_agent.commands.main, edge_agent.commands.apply, edge_agent.commands.receipt, edge_agent.commands.rollback
import edge_agent.commands.status, edge_agent.reconcile.runner, edge_agent.reconcile.status, edge_agent.runtimes.process
import edgepack.bundle.receipt, edgepack.signing.envelope, edgepack.signing.statement, encodings.idna, sqlite3
os.setgroups([]), os.setgid(65534), os.setuid(65534)
edge_agent.commands.main.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_else_may_not_use_the_device(agent: Agent) -> None:
    document = agent.document("v1")
    agent.apply("v1")
    for part in (agent.root, *agent.root.parents):
        if not part.stat().st_mode & 0o001:
            part.chmod(part.stat().st_mode | 0o011)
    for words in (["status"], ["apply", document], ["rollback", "churn"], ["receipt"]):
        argv = (sys.executable, "-c", AS_NOBODY, "--state-dir", agent.root, "--runtime", "process", *words)
        done = finish(*argv, env=agent.environment(), cwd=Path("/"))
        assert (done.code, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "Permission denied" in done.stderr
        assert "check its permissions" in done.stderr


def test_a_damaged_state_is_told_of(agent: Agent) -> None:
    agent.apply("v1")
    for path in [path for path in (agent.root / "state").iterdir() if path.is_file()]:
        path.write_bytes(b"garbage" * 1000)
    done = agent.run("status")

    assert done.code == 1
    assert "the device's state is damaged" in sentence(done.err)


def test_a_traceback_appears_only_with_debug(new: Agent) -> None:
    assert "Traceback" not in new.run("apply", "no.json").err
    assert "Traceback" in new.run("apply", "no.json", "--debug").err
    assert "Traceback" in new.run("--debug", "apply", "no.json").err
    assert "Traceback" in new.run("apply", "no.json", EDGEPACK_DEBUG="1").err


def test_what_keeps_a_change_from_starting_is_found_before_anything_stops(agent: Agent) -> None:
    agent.take_in("v1", "v2")
    assert agent.apply("v1").code == 0
    running = agent.processes()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for image, fields, said in (
            ("v2", {"port": port}, f"port {port} on 127.0.0.1 cannot be used (Address already in use); stop what"),
            ("v1", {"port": port}, "stop what listens there, or give the service another port"),
            (
                "v2",
                {"address": "192.0.2.7"},
                "address 192.0.2.7 cannot be used (Cannot assign requested address)",
            ),
            ("v1", {"address": "2001:db8::7"}, "address 2001:db8::7 cannot be used"),
        ):
            done = agent.apply(image, **fields)
            assert done.code == 1
            assert said in sentence(done.err)
            assert "roll" not in done.err
            assert agent.processes() == running
    assert agent.status()["state"] == "Healthy"
    assert agent.answer() == "v1"
    # Its own port is no obstacle.
    assert agent.apply("v2").code == 0
    assert agent.answer() == "v2"


def test_settings_that_fail_are_not_blamed_on_the_image(agent: Agent) -> None:
    agent.take_in("v1")
    assert agent.apply("v1").code == 0
    done = agent.apply("v1", health={"path": "/", "timeout_seconds": 4}, env={"PYTHONPATH": "/nowhere", "SECRET": "x"})
    assert done.code == 1
    assert "rolled back to its earlier settings" in sentence(done.err)
    status = agent.status()
    assert status["state"] == "Healthy"
    assert status["reason"].startswith(
        "the change of health_timeout_seconds 60.0 to 4.0, env.PYTHONPATH, env.SECRET failed (it exited with code 1; "
    )
    assert status["reason"].endswith("; rolled back to its earlier settings")
    assert agent.answer() == "v1"


def test_the_agents_own_image_is_upgraded_to_and_run_as_no_service(agent: Agent) -> None:
    store = Store.open_existing(agent.root / "store")
    file = store.put_bytes(b"a zip application", mediatypes.AGENT)
    config = store.put_bytes(ImageConfig(Platform.host(), (file.digest,)).to_bytes(), mediatypes.CONFIG)
    image = store.put_bytes(Manifest(config, (file,)).to_bytes(), mediatypes.MANIFEST)
    store.tag("edge-agent:0.1.0", image)
    document = agent.root.parent / "agent.json"
    service = {"name": "edge-agent", "image": str(image.digest), "port": agent.port}
    document.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service]}))
    for words, named in (
        (("deploy", "edge-agent:0.1.0"), "edge-agent:0.1.0"),
        (("apply", str(document), "--allow-unsigned"), str(image.digest)),
    ):
        done = agent.run(*words)
        assert done.code == 2
        assert "is the agent itself, and no service" in done.err
        assert f"edge-agent upgrade {named}, or name it as agent in the desired state" in done.err
    assert agent.ok("status").services == []
