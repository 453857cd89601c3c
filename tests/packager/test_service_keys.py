"""Keys and tokens of services: made and kept here, shown to a real server, which has only what verifies them.

What runs the service is a server on this machine that reads the files of a device: how an agent writes them is not
proven here.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import packager
from edgepack.documents import canonical_json
from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UnsafePermissionsError, UsageError
from edgepack.hidden import HiddenText
from edgepack.host.files import atomic_write
from edgepack.oci.digest import Digest
from packager.commands import endpoint_keys, service_keys, service_run, service_show, service_token
from packager.exceptions import WebserviceException
from packager.fleet.reach import UnseenError
from packager.services.calling import score
from packager.services.configuration.rules import Configuration, Keys
from packager.services.configuration.values import Auth, ComputeType, DeviceDeployment
from packager.services.credentials.callers import auth_of, keys_of, shown_to, token_of
from packager.services.credentials.folder import CredentialFolder
from packager.services.credentials.keys import new_key
from packager.services.credentials.tokens import make_token
from packager.services.deploying import Services
from packager.services.endpoint_deploying import Endpoints
from packager.services.endpoints.endpoint import Endpoint
from packager.services.endpoints.store import EndpointStore
from packager.services.plan import Change
from packager.services.registry import ServiceRegistry
from packager.services.service import Service
from packager.services.targets.cluster import kubernetes_target
from packager.webservice import AksWebservice, Webservice
from packager.workspaces.workspace import Workspace
from tests.support.http_client import Answer, ask
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROWS = '{"data": [[1, 2, 3, 4]]}'
KEY_FILES = {Auth.KEY: "keys.json", Auth.TOKEN: "tokens.json"}


@dataclass
class ServerTarget:
    """The place of a service whose server reads ``folder``; ``refusal`` is why it takes no change, ``asked`` how often
    it was asked for one. With a name, it ``refuses`` changes of that service alone."""

    root: Path
    folder: Path
    refusal: EdgepackError | None = None
    asked: int = 0
    refuses: str | None = None

    def settle(self, service: Service) -> Service:
        return service

    def apply(self, service: Service) -> None:
        self.asked += 1
        if self.refusal is not None and self.refuses in (None, service.name):
            raise self.refusal
        auth = auth_of(self.root, service)
        if auth is not None:
            atomic_write(self.folder / auth.file, json.dumps(auth.document()).encode())

    def delete(self, service: Service) -> None:
        return

    def address(self, service: Service) -> str:
        return f"http://127.0.0.1:{service.port}"


@dataclass
class Site:
    """A workspace with the services ``keyed`` and ``tokened``, each with a server that runs."""

    workspace: Workspace
    target: ServerTarget
    ports: dict[str, int]

    def service(self, name: str) -> Service:
        return Services(self.workspace).get(name)

    def shows(self, credential: str | None, name: str = "keyed") -> int:
        return self.answer(credential, name).status

    def answer(self, credential: str | None, name: str = "keyed") -> Answer:
        headers = {} if credential is None else {"authorization": f"Bearer {credential}"}
        return ask(self.ports[name], "POST", "/score", ROWS, {"content-type": "application/json", **headers})

    def run(self, command: click.Command, *words: str, given: str = "") -> Result:
        done = CliRunner().invoke(command, ["--workspace", str(self.workspace.root), *words], input=given)
        assert done.exception is None or isinstance(done.exception, (SystemExit, EdgepackError)), done.exception
        return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    import onnx

    from tests.packager.support.onnx_models import model

    folder = tmp_path_factory.mktemp("with keys")
    onnx.save(model(), folder / "model.onnx")
    workspace = Workspace(folder / "workspace", folder / "cache")
    workspace.keys.create("factory")
    target = ServerTarget(workspace.root, folder)
    patch = pytest.MonkeyPatch()
    for module in ("services.deploying", "services.targets.table", "commands.service_views"):
        patch.setattr(f"packager.{module}.target_of", lambda *_: target)
    records, ports, servers = ServiceRegistry(workspace.database), {}, []
    for name, kind, auth in (("keyed", ComputeType.DEVICE, Auth.KEY), ("tokened", ComputeType.KUBERNETES, Auth.TOKEN)):
        ports[name] = free_port()
        service = Service(name, kind, (), f"services/{name}:1", Digest("1" * 64), {}, port=ports[name], auth=auth)
        records.put(service)
        with CredentialFolder(workspace.root).changed(name, Keys()):
            target.apply(service)
        own = {
            "EDGEPACK_PORT": str(ports[name]), "EDGEPACK_HOST": "127.0.0.1", "EDGEPACK_AUTH_MODE": auth.value,
            "EDGEPACK_AUTH_FILE": str(folder / KEY_FILES[auth]),
        }  # fmt: skip
        servers.append(subprocess.Popen(
            [sys.executable, "-m", "edge_server", "--model", folder / "model.onnx"], stderr=subprocess.DEVNULL,
            env={**os.environ, **own},
        ))  # fmt: skip
    found = Site(workspace, target, ports)
    try:
        for name in ports:
            wait_until(partial(answers, found, name))
        yield found
    finally:
        patch.undo()
        for server in servers:
            server.kill()
            server.wait()


def answers(site: Site, name: str) -> bool:
    try:
        return site.shows(None, name) == 401
    except OSError:
        return False


def keys(site: Site) -> tuple[str, str]:
    found = keys_of(site.workspace.root, site.service("keyed"))
    return found.primary, found.secondary


def takes(site: Site, key: str) -> None:
    """Within the second after which the server looks at its file again."""
    wait_until(lambda: site.shows(key) == 200)


def test_keys_are_kept_for_their_user_alone_and_only_digests_leave(site: Site) -> None:
    file = site.workspace.root / "credentials/keyed.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    primary, secondary = keys(site)
    assert primary != secondary
    assert len(primary) == len(secondary) == 43
    private = json.loads(file.read_bytes())["signing_key"].splitlines()[1]
    others = [path for path in site.workspace.root.rglob("*") if path.is_file() and path != file]
    written = b"".join(path.read_bytes() for path in [*others, *site.target.folder.glob("*.json")])
    assert b"keyed" in written
    for secret in (primary, secondary, private):
        assert secret.encode() not in written
    credentials = CredentialFolder(site.workspace.root).get("keyed")
    assert primary not in repr(credentials) + repr(credentials.keys) + repr(credentials.keys.primary)
    file.chmod(0o644)
    with pytest.raises(UnsafePermissionsError, match="chmod 600"):
        CredentialFolder(site.workspace.root).get("keyed")
    file.chmod(0o600)


def test_one_key_is_replaced_without_a_failed_request_of_the_other(site: Site) -> None:
    primary, secondary = keys(site)
    statuses: list[int] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            statuses.append(site.shows(secondary))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(2):
            done = site.run(service_keys.command, "keyed", "--regenerate", "primary", "--output", "json")
            shown = json.loads(done.stdout)
            assert shown["secondary"] == secondary
            takes(site, shown["primary"])
        assert site.shows(primary) == 401
    finally:
        ended.set()
        caller.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}


def test_a_key_of_ones_own_comes_from_standard_input(site: Site) -> None:
    own = "own-key." * 5
    done = site.run(service_keys.command, "keyed", "--regenerate", "secondary", "--stdin", given=f"{own}\n")
    assert done.stdout == f"primary    {keys(site)[0]}\nsecondary  {own}\n"
    takes(site, own)
    before = keys(site)
    for given, told in (("short\n", "must have 32 to 512 letters"), (f"{own}\n", "is one of its keys already")):
        done = site.run(service_keys.command, "keyed", "--regenerate", "primary", "--stdin", given=given)
        assert isinstance(done.exception, UsageError)
        assert told in str(done.exception)
        assert given.strip() not in str(done.exception)
    assert isinstance(site.run(service_keys.command, "keyed", "--stdin").exception, UsageError)
    assert keys(site) == before


def test_what_the_target_refuses_changes_no_key(site: Site) -> None:
    before = keys(site)
    site.target.refusal = RuntimeFailedError("does not answer", where="device press-7")
    try:
        with pytest.raises(RuntimeFailedError):
            Services(site.workspace).regenerate("keyed", "primary")
        given = Keys(HiddenText("g" * 32))
        configuration = Configuration(DeviceDeployment(auth=Auth.KEY), {"computeType": "aci"}, given)
        with pytest.raises(RuntimeFailedError):
            Services(site.workspace).update("keyed", Change(configuration=configuration))
    finally:
        site.target.refusal = None
    assert keys(site) == before
    assert site.service("keyed").error is not None


def test_an_update_keeps_the_keys_unless_others_are_given(site: Site) -> None:
    before = keys(site)
    Services(site.workspace).update("keyed", Change(description="d"))
    assert keys(site) == before
    configuration = Configuration(
        DeviceDeployment(auth=Auth.KEY), {"computeType": "aci"}, Keys(None, HiddenText("g" * 32))
    )
    Services(site.workspace).update("keyed", Change(configuration=configuration))
    assert keys(site) == (before[0], "g" * 32)
    assert "g" * 32 not in json.dumps(site.service("keyed").to_json())
    takes(site, "g" * 32)


def test_a_workstation_without_the_keys_replaces_none_by_chance(site: Site) -> None:
    file = site.workspace.root / "credentials/keyed.json"
    data = file.read_bytes()
    file.unlink()
    try:
        with pytest.raises(NotFoundError, match="its keys are not on this workstation"):
            Services(site.workspace).update("keyed", Change(description="e"))
        with pytest.raises(NotFoundError, match="its keys are not on this workstation"):
            keys(site)
        assert not file.exists()
    finally:
        atomic_write(file, data, 0o600)


def test_tokens_expire_and_are_for_one_service(site: Site) -> None:
    root, tokened = site.workspace.root, site.service("tokened")
    done = site.run(service_token.command, "tokened", "--output", "json")
    shown = json.loads(done.stdout)
    assert list(shown) == ["access_token", "token_type", "refresh_after", "expiry_on"]
    assert shown["refresh_after"] < shown["expiry_on"]
    assert site.shows(shown["access_token"], "tokened") == 200
    text = site.run(service_token.command, "tokened", "--seconds", "60").stdout
    assert site.shows(text.strip(), "tokened") == 200
    assert site.shows(keys(site)[0], "tokened") == 401
    signing = CredentialFolder(root).get("tokened").signing
    old = make_token(signing, "tokened", datetime(2026, 1, 1, tzinfo=UTC), 3600)
    assert site.shows(old.text, "tokened") == 401
    assert site.shows(make_token(signing, "other", datetime.now(UTC)).text, "tokened") == 403
    other = CredentialFolder(root).get("keyed").signing
    assert site.shows(make_token(other, "tokened", datetime.now(UTC)).text, "tokened") == 401
    assert token_of(root, tokened).text not in repr(token_of(root, tokened))
    for seconds in (0, 10**10):
        with pytest.raises(UsageError, match="seconds"):
            token_of(root, tokened, seconds)


def test_a_service_asks_for_one_of_the_two(site: Site) -> None:
    done = site.run(service_keys.command, "tokened")
    assert "has no keys; it asks for a token; see: edgepack service token tokened" in str(done.exception)
    done = site.run(service_token.command, "keyed")
    assert "has no tokens; it asks for a key; see: edgepack service keys keyed" in str(done.exception)
    local = replace(site.service("keyed"), compute_type=ComputeType.LOCAL, auth=Auth.NONE)
    with pytest.raises(UsageError, match="answers this machine alone"):
        keys_of(site.workspace.root, local)
    assert shown_to(site.workspace.root, local) == ()


def test_a_call_shows_the_key_and_tries_once_more_with_what_is_new(site: Site) -> None:
    address, file = f"http://127.0.0.1:{site.ports['keyed']}/score", site.target.folder / "rows.json"
    file.write_text(ROWS)
    for words, given in (((ROWS,), ""), ((f"@{file}",), ""), (("-",), ROWS)):
        done = site.run(service_run.command, "keyed", "-d", *words, given=given)
        assert len(json.loads(done.stdout)[0]) == 256
    assert isinstance(site.run(service_run.command, "keyed", "-d", "@nowhere").exception, NotFoundError)
    right, rounds = keys(site)[0], []

    def shown(*given: str) -> Callable[[], tuple[str, ...]]:
        def show() -> tuple[str, ...]:
            rounds.append(len(rounds))
            return ("former" * 8,) if len(rounds) == 1 else given

        return show

    assert len(score(address, ROWS, where="service keyed", shown=shown(right))[0]) == 256
    assert len(rounds) == 2
    rounds.clear()
    with pytest.raises(RuntimeFailedError, match="code 401") as told:
        score(address, ROWS, where="service keyed", shown=shown("another" * 8, right))
    assert len(rounds) == 2
    assert "another" not in str(told.value)


def test_scripts_of_azures_sdk_get_keys_and_tokens(site: Site) -> None:
    workspace = packager.Workspace(path=site.workspace.root)
    service: Any = Webservice(workspace, "keyed")
    primary, secondary = service.get_keys()
    assert (primary, secondary) == keys(site)
    assert type(primary) is str
    assert len(service.run(ROWS)[0]) == 256
    service.regen_key("Primary")
    service.regen_key("SECONDARY", "s" * 40)
    assert service.get_keys()[1] == "s" * 40
    assert service.get_keys()[0] != primary
    for call in (service.get_token, lambda: service.regen_key("third"), lambda: service.regen_key("primary", "a")):
        with pytest.raises(WebserviceException):
            call()
    tokened: Any = Webservice(workspace, "tokened")
    assert isinstance(tokened, AksWebservice)
    token, refresh_after = tokened.get_token()
    found = tokened.get_access_token()
    assert (found.token_type, refresh_after.tzinfo) == ("Bearer", None)
    assert found.expiry_on > refresh_after
    assert found.access_token not in repr(found)
    assert site.shows(token, "tokened") == 200
    assert len(tokened.run(ROWS)[0]) == 256


PROGRAMS = {"curl": ("sh",), "python": (sys.executable, "-"), "javascript": ("node",)}


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.parametrize("name", ["keyed", "tokened"])
def test_an_example_works_as_it_is_shown_and_has_no_key_in_it(site: Site, language: str, name: str) -> None:
    program = PROGRAMS[language]
    for needed in (program[0], "curl" if language == "curl" else program[0]):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    done = site.run(service_show.command, name, "--example", language, "--output", "json")
    shown = json.loads(done.stdout)
    credential = str(shown_to(site.workspace.root, site.service(name))[0])
    if name == "keyed":
        takes(site, credential)
    assert shown["variable"] in shown["code"]
    assert credential not in shown["code"]
    env = {**os.environ, shown["variable"]: credential}
    ran = subprocess.run(program, input=shown["code"], capture_output=True, text=True, check=False, env=env)
    assert (ran.returncode, len(json.loads(ran.stdout)[0])) == (0, 256), ran.stderr
    if language == "javascript":  # at node's prompt, which begins a command of its own with a dot
        typed = subprocess.run(
            ["node", "-i"], input=shown["code"], capture_output=True, text=True, check=False, env=env
        )
        assert "Invalid REPL keyword" not in typed.stdout
    plain = site.run(service_show.command, name, "--example", language)
    assert plain.stdout == shown["code"]
    assert f"export {shown['variable']}=" in plain.stderr
    assert credential not in plain.output


def test_a_cluster_gets_what_verifies_and_no_key(site: Site) -> None:
    for name, file in (("keyed", "keys.json"), ("tokened", "tokens.json")):
        service = replace(site.service(name), compute_type=ComputeType.KUBERNETES, deployment={"computeType": "aks"})
        given = kubernetes_target(site.workspace, service)
        found = given._credentials(service).auth
        assert list(found) == [file]
        assert found[file] == canonical_json(json.loads((site.target.folder / file).read_bytes()))
    assert given._credentials(replace(service, auth=Auth.NONE)).auth == {}


def test_keys_that_a_target_was_told_of_stay_though_it_has_not_answered(site: Site) -> None:
    primary, secondary = keys(site)
    site.target.refusal = UnseenError("has not said yet how it goes")
    try:
        with pytest.raises(UnseenError):
            Services(site.workspace).regenerate("keyed", "primary")
    finally:
        site.target.refusal = None
    assert keys(site)[0] != primary
    assert keys(site)[1] == secondary
    site.target.apply(site.service("keyed"))
    takes(site, keys(site)[0])


@pytest.fixture
def endpoint(site: Site) -> Iterator[Endpoints]:
    """The endpoint ``both`` with two versions, whose keys are the same."""
    registry, given = ServiceRegistry(site.workspace.database), Keys(new_key(), new_key())
    for version in ("both-v1", "both-v2"):
        registry.put(replace(site.service("keyed"), name=version, target="press-1"))
        with CredentialFolder(site.workspace.root).changed(version, given):
            pass
    store = EndpointStore(site.workspace.root)
    store.put(Endpoint("both", ComputeType.DEVICE, "press-1", 6789, {"v1": 0, "v2": 20}, "v1"))
    yield Endpoints(site.workspace)
    store.remove("both")
    for version in ("both-v1", "both-v2"):
        Services(site.workspace).delete(version)


def test_all_versions_of_an_endpoint_get_a_new_key_or_none_does(site: Site, endpoint: Endpoints) -> None:
    def shown(*words: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(site.run(endpoint_keys.command, "both", *words, "--output", "json").stdout)
        return found

    before = shown()
    after = shown("--regenerate", "primary")
    assert after["primary"] != before["primary"]
    assert after["secondary"] == before["secondary"]
    assert len(set(endpoint.keys("both").values())) == 1
    own = new_key()
    assert (
        site.run(endpoint_keys.command, "both", "--regenerate", "secondary", "--stdin", given=f"{own}\n").exit_code == 0
    )
    assert {each.secondary for each in endpoint.keys("both").values()} == {own}

    site.target.refusal, site.target.refuses = RuntimeFailedError("refuses it"), "both-v2"
    try:
        with pytest.raises(RuntimeFailedError):
            endpoint.regenerate("both", "primary")
        assert {each.primary for each in endpoint.keys("both").values()} == {after["primary"]}
        site.target.refusal = UnseenError("is not connected")
        with pytest.raises(UnseenError):
            endpoint.regenerate("both", "primary", own := new_key())
        assert {each.primary for each in endpoint.keys("both").values()} == {own}
    finally:
        site.target.refusal = site.target.refuses = None
    Services(site.workspace).regenerate("both-v2", "primary")
    done = site.run(endpoint_keys.command, "both")
    assert "version v2 has keys of its own" in done.stderr
    assert "is given without a key to replace" in str(site.run(endpoint_keys.command, "both", "--stdin").exception)


def test_a_version_asks_for_what_the_others_ask_for(site: Site, endpoint: Endpoints) -> None:
    open_to_all = Configuration(DeviceDeployment(), {"computeType": "aci"})
    with pytest.raises(UsageError, match="asks its callers for something else than the other versions"):
        endpoint.update_version("both", "v2", Change(configuration=open_to_all))
    with pytest.raises(UsageError, match="asks its callers for something else than the other versions"):
        Services(site.workspace).update("both-v2", Change(configuration=open_to_all))


def test_a_service_of_a_device_that_is_gone_is_forgotten(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    gone = replace(site.service("keyed"), name="orphan", target="scrapped")
    ServiceRegistry(site.workspace.database).put(gone)
    Services(site.workspace).delete("orphan")
    assert Services(site.workspace).find("orphan") is None
    assert "device scrapped is not known any more; what it runs goes on there" in caplog.text


def test_deleting_a_service_forgets_its_keys(site: Site) -> None:
    gone = replace(site.service("keyed"), name="gone")
    ServiceRegistry(site.workspace.database).put(gone)
    with CredentialFolder(site.workspace.root).changed("gone", Keys()):
        pass
    assert (site.workspace.root / "credentials/gone.json").exists()
    Services(site.workspace).delete("gone")
    assert not (site.workspace.root / "credentials/gone.json").exists()
