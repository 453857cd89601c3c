"""Logins to registries: where they come from, that nothing shows them, and what is handed on."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgepack.errors import AuthenticationError, EdgepackError, NotFoundError, UsageError
from edgepack.hidden import HiddenBytes, HiddenObject, HiddenText
from edgepack.host.credentials import Credentials, PullToken
from edgepack.oci.docker_config import DockerConfig
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Policy, RemoteRepository
from packager.layers.secrets import known_secrets
from packager.places.table import find_file, find_source
from packager.registries.access import Access
from packager.registries.docker_folder import write_docker_config
from packager.registries.issue import Registry, RegistryLogin, expiry_of, login_for
from packager.registries.logins import GivenLogins
from packager.sdk.container_registry import ContainerRegistry
from packager.workspaces.workspace import Workspace
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.packager.support.bases import debian, make_base
from tests.support.forked import finish

SECRET = "open-sesame/7!+"
ENCODED = base64.b64encode(f"ann:{SECRET}".encode()).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without logins."""
    for name in ("EDGEPACK_REGISTRY", "EDGEPACK_REGISTRY_USERNAME", "EDGEPACK_REGISTRY_PASSWORD", "REGISTRY_AUTH_FILE",
                 "EDGEPACK_REGISTRY_CREDENTIALS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running(Simulator(auth="bearer", password=SECRET)) as simulator:
        yield simulator


def logins_file(path: Path, **hosts: str) -> Path:
    entries = {host: {"auth": base64.b64encode(text.encode()).decode()} for host, text in hosts.items()}
    path.write_text(json.dumps({"auths": entries}))
    path.chmod(0o600)
    return path


# ---- Nothing shows them -------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Holder:
    login: Credentials
    token: PullToken
    registry: ContainerRegistry


def holder() -> Holder:
    token = PullToken(SECRET, ("repository:x:pull",), datetime.now(UTC))
    registry = ContainerRegistry(address="r.lan", username="ann", password=SECRET)
    return Holder(Credentials("ann", SECRET, SECRET, source="a test"), token, registry)


@pytest.mark.parametrize(
    "show",
    [
        repr, str, "{}".format, "%s".__mod__, "%r".__mod__, ascii, pprint.pformat,
        lambda it: json.dumps(dataclasses.asdict(it), default=repr),
        lambda it: json.dumps(copy.deepcopy(it), default=vars_or_text),
        lambda it: str([dataclasses.astuple(it), {"x": it.login}, vars(it), vars(it.registry)]),
        lambda it: f"{it.login} {it.login!r} {it.token} {it.registry} {copy.copy(it.login)}",
    ],
)  # fmt: skip
def test_what_prints_a_login_shows_nothing_of_it(show: Callable[[object], str]) -> None:
    shown = show(holder())
    assert SECRET not in shown
    assert ENCODED not in shown


def vars_or_text(value: object) -> object:
    return vars(value) if hasattr(value, "__dict__") else repr(value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_login_is_not_pickled(protocol: int) -> None:
    it = holder()
    for value in (it, it.login, it.token, it.registry, it.login.password, it.login.basic, HiddenBytes(b"x")):
        with pytest.raises(TypeError):
            pickle.dumps(value, protocol)
    with pytest.raises(TypeError):
        json.dumps(dataclasses.asdict(it))


def test_a_login_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    it = holder()
    logging.getLogger("x").error("%s %r %(y)s" if False else "%s %r", it, it.login)
    logging.getLogger("x").error("%(a)s", {"a": it.token})
    assert SECRET not in caplog.text


def test_a_login_does_not_change_and_equals_by_what_it_opens() -> None:
    one = Credentials("ann", SECRET, source="here")
    assert one == Credentials("ann", SECRET, source="there")
    assert len({one, Credentials("ann", SECRET), Credentials("ann", "x")}) == 2
    with pytest.raises(AttributeError):
        one.username = "bob"
    assert (one.password, one.known_from("z").source) == (SECRET, "z")
    assert repr(HiddenText(SECRET)) == repr(HiddenObject(a=SECRET)) == "***"


def shown_with_locals(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("fault", ["refused", "forbidden", "no-token", "broken", "token-service-broken"])
def test_a_traceback_with_all_variables_shows_no_login(sim: Simulator, auth: str, fault: str) -> None:
    sim.auth = auth
    credentials = [Credentials("ann", SECRET)]
    policy = Policy(attempts=1, backoff=0.01)
    remote = RemoteRepository(
        Reference.parse(f"127.0.0.1:{sim.port}/x:1"), credentials=lambda _: credentials[0], policy=policy
    )
    secrets = [SECRET, ENCODED, "token-0", "token-1"]
    match fault:
        case "refused":
            sim.password = "another"
        case "forbidden":
            sim.forbid = True
        case "no-token":
            sim.token_field = "nothing"
        case "broken":
            sim.manifest_drops = [1] * 9
            sim.put_manifest("x", "1", b'{"schemaVersion":2}', "application/vnd.oci.image.manifest.v1+json")
        case _:
            sim.realm = "http://127.0.0.1:1/token"
    with pytest.raises(EdgepackError) as failed:
        remote.resolve()
    shown = shown_with_locals(failed.value)
    # The test's own frame has them, and is no part of the program.
    ours = shown.partition("remote.resolve()")[2].partition("edgepack/oci/remote")[2]
    assert [secret for secret in secrets if secret in ours] == []


@pytest.mark.parametrize("content", [{"auths": {"r.lan": {"auth": "bm8tY29sb24tMTIzNDU="}}}, {"credsStore": "broken"}])
def test_a_traceback_of_a_broken_file_or_helper_shows_nothing_of_it(
    home: Path, content: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = home / "docker-credential-broken"
    program.write_text(f"#!/bin/sh\necho '{SECRET}'\necho '{SECRET}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    (home / "config.json").write_text(json.dumps(content))
    with pytest.raises(EdgepackError) as failed:
        DockerConfig.default()("r.lan")
    shown = shown_with_locals(failed.value).partition("docker_config.py")[2]
    for secret in (SECRET, "bm8tY29sb24tMTIzNDU=", "no-colon-12345"):
        assert secret not in shown


# ---- Where they come from -----------------------------------------------------------------------------------------


def test_what_is_given_comes_before_what_is_kept(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins_file(home / "config.json", **{"a.lan": "u:kept", "b.lan": "u:kept", "c.lan": "u:kept", "d.lan": "u:kept"})
    given = logins_file(tmp_path / "given.json", **{"a.lan": "u:file", "b.lan": "u:file"})
    monkeypatch.setenv("EDGEPACK_REGISTRY", "c.lan")
    monkeypatch.setenv("EDGEPACK_REGISTRY_USERNAME", "u")
    monkeypatch.setenv("EDGEPACK_REGISTRY_PASSWORD", "variable")
    lookup = GivenLogins.of(given, "u", "typed").lookup("a.lan")
    found = [lookup(host) for host in ("a.lan", "b.lan", "c.lan", "d.lan", "e.lan")]
    assert [one.password if one else None for one in found] == ["typed", "file", "variable", "kept", None]
    assert [one.source for one in found if one] == [
        "standard input", str(given), "the variable EDGEPACK_REGISTRY_PASSWORD", str(home / "config.json"),
    ]  # fmt: skip
    # What is typed is for the registry that the command names alone.
    other = GivenLogins.of(None, "u", "typed").lookup("a.lan")("b.lan")
    assert other is not None
    assert other.password == "kept"
    monkeypatch.setenv("EDGEPACK_REGISTRY_CREDENTIALS", str(given))
    assert GivenLogins().registries() == ("a.lan", "b.lan", "c.lan", "d.lan")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777, 0o610])
def test_a_file_that_others_can_read_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    path = logins_file(tmp_path / "with space.json", **{"a.lan": "u:x"})
    path.chmod(mode)
    with pytest.raises(UsageError, match=rf"mode {mode:04o}.*chmod 600 '.*with space\.json'"):
        GivenLogins.of(path, None, None)
    for closed in (0o600, 0o400):
        path.chmod(closed)
        assert GivenLogins.of(path, None, None).lookup()("a.lan") == Credentials("u", "x")


@pytest.mark.parametrize("lacking", ["EDGEPACK_REGISTRY", "EDGEPACK_REGISTRY_USERNAME", "EDGEPACK_REGISTRY_PASSWORD"])
def test_variables_that_are_half_a_login_are_refused(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"EDGEPACK_REGISTRY", "EDGEPACK_REGISTRY_USERNAME", "EDGEPACK_REGISTRY_PASSWORD"} - {lacking}:
        monkeypatch.setenv(name, "a.lan")
    with pytest.raises(UsageError, match=f"lacks {lacking}"):
        GivenLogins().lookup()("a.lan")


def test_what_was_found_is_searched_for_in_what_is_written(tmp_path: Path) -> None:
    typed = GivenLogins.of(None, "ann", "typed-password")
    file = GivenLogins.of(logins_file(tmp_path / "f.json", **{"a.lan": "u:password-of-the-file"}), None, None)
    file.lookup()("a.lan")
    assert typed.typed is not None
    known = {secret.value for secret in known_secrets()}
    assert {b"typed-password", b"password-of-the-file"} <= known


# ---- As a user types it -------------------------------------------------------------------------------------------


def edgepack(home: Path, *words: object, given: str = "", code: int = 0, **env: str) -> str:
    """What the command printed, all of it."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": str(home)}
    variables |= {"XDG_CONFIG_HOME": str(home), "EDGEPACK_WORKSPACE": str(home / "w"), **env}
    done = finish("edgepack", *words, env=variables, given=given, cwd=home)
    assert done.code == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_logins_are_listed_and_shown_only_when_asked(home: Path) -> None:
    assert "no login to a registry is known" in edgepack(home, "package", "credentials", code=3)
    logins_file(home / "config.json", **{"a.lan": f"ann:{SECRET}", "https://index.docker.io/v1/": "bob:hub-password"})
    for words in ((), ("--output", "json"), ("--registry", "a.lan"), ("--debug",)):
        assert SECRET not in edgepack(home, "package", "credentials", *words)
    listed = json.loads(edgepack(home, "package", "credentials", "--show-password", "--output", "json"))["logins"]
    assert [(one["registry"], one["username"], one["password"]) for one in listed] == [
        ("a.lan", "ann", SECRET), ("docker.io", "bob", "hub-password"),
    ]  # fmt: skip
    assert "docker login b.lan" in edgepack(home, "package", "credentials", "--registry", "b.lan", code=3)


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (("--password-stdin",), SECRET, "--username"),
        (("--username", "ann"), "", "--password-stdin"),
        (("--username", "ann", "--password-stdin"), "", "has no password"),
        (("--username", "ann", "--password-stdin"), f"{SECRET}\nmore", "on one line"),
        (("--username", "ann", "--password-stdin"), "\n", "has no password"),
        (("--registry-credentials", "none.json"), "", "no such file of credentials"),
        (("--registry", f"ann:{SECRET}@a.lan"), "", "no user name in it"),
        (("--registry", "churn"), "", "names no host"),
    ],
)
def test_half_a_login_is_refused_and_not_repeated(home: Path, words: tuple[str, ...], given: str, said: str) -> None:
    shown = edgepack(home, "package", "credentials", *words, given=given, code=2)
    assert said in shown
    assert SECRET not in shown


def test_every_command_that_speaks_to_registries_takes_logins_in_the_same_ways(home: Path) -> None:
    for words in (
        ("package", "push"), ("package", "pull"), ("package", "load"), ("package", "build"), ("package", "inspect"),
        ("package", "credentials"), ("model", "register"), ("model", "convert"), ("model", "download"),
        ("workspace", "migrate"), ("bundle", "create"),
    ):  # fmt: skip
        shown = edgepack(home, *words, "--help")
        options = ("--registry-credentials", "--username", "--password-stdin")
        assert [name for name in options if name not in shown] == []


def test_a_push_and_a_pull_log_in_by_each_way(home: Path, sim: Simulator) -> None:
    workspace = Workspace(home / "w", home / "cache")
    workspace.store.tag("churn:1", make_base(workspace.store, [debian()]))
    host = f"127.0.0.1:{sim.port}"
    name = f"{host}/churn:1"
    file = logins_file(home / "f.json", **{host: f"ann:{SECRET}"})
    variables = {
        "EDGEPACK_REGISTRY": host, "EDGEPACK_REGISTRY_USERNAME": "ann", "EDGEPACK_REGISTRY_PASSWORD": SECRET,
    }  # fmt: skip
    ways: list[tuple[tuple[object, ...], str, dict[str, str]]] = [
        (("--username", "ann", "--password-stdin"), SECRET, {}),
        (("--registry-credentials", file), "", {}),
        ((), "", {"EDGEPACK_REGISTRY_CREDENTIALS": str(file)}),
        ((), "", variables),
    ]
    for words, given, env in ways:
        edgepack(home, "package", "push", "churn:1", name, *words, given=given, **env)
        edgepack(home, "package", "pull", name, "-t", "again:1", *words, given=given, **env)
    refused = edgepack(home, "package", "pull", name, code=1)
    assert "asks for credentials, and none are stored" in refused
    wrong = edgepack(
        home, "package", "pull", name, "--username", "ann", "--password-stdin", "--debug", given="wrong-one-7", code=1
    )
    assert "refused the credentials" in wrong
    assert "wrong-one-7" not in wrong


@pytest.mark.parametrize("reference", ["ann:{}@r.lan/x:1", "https://ann:{}@r.lan/x:1", "docker://ann:{}@r.lan/x:1"])
def test_a_password_in_a_reference_is_refused_and_not_repeated(home: Path, reference: str) -> None:
    workspace = Workspace(home / "w", home / "cache")
    workspace.store.tag("churn:1", make_base(workspace.store, [debian()]))
    (home / "m.onnx").write_bytes(b"x")
    for secret in ("sekret-99", "sek/ret-99"):
        text = reference.format(secret)
        for words in (
            ("package", "pull", text), ("package", "push", "churn:1", text), ("package", "load", text),
            ("package", "inspect", text), ("package", "credentials", "--registry", text),
            ("workspace", "init", "--database", "postgresql://ann@db.lan/x", "--registry", text),
            ("package", "pull", "r.lan/x:1", "--plain-http", text),
        ):  # fmt: skip
            assert "ret-99" not in edgepack(home, *words, "--debug", code=2)
    for find in (find_source, find_file):
        with pytest.raises(UsageError, match="--password-stdin") as failed:
            find(reference.format("sekret-99"), *([workspace.store] if find is find_source else []))  # type: ignore[operator]
        assert "sekret-99" not in str(failed.value)


# ---- Handed on ----------------------------------------------------------------------------------------------------


def test_a_registry_that_can_is_asked_for_a_token_that_only_pulls(sim: Simulator) -> None:
    host = f"127.0.0.1:{sim.port}"
    access = Access.of((), None, GivenLogins.of(None, "ann", SECRET))
    registry = Registry.parse(host, [f"{host}/team/churn:1", "churn:1", "other.lan/x:1", f"{host}/b:2"])
    assert registry.repositories == ("b", "team/churn")
    found = login_for(registry, access)
    assert found.token is not None
    assert (found.kind, found.username, found.token.scopes) == (
        "pull-token", None, ("repository:b:pull", "repository:team/churn:pull"),
    )  # fmt: skip
    assert found.secret in sim.tokens
    assert found.expires is not None
    assert 290 < (found.expires - datetime.now(UTC)).total_seconds() <= 300
    plain = login_for(registry, access, token=False)
    assert (plain.kind, plain.username, plain.secret) == ("password", "ann", SECRET)
    assert login_for(Registry(host), access).kind == "password"  # of no repository there is no token
    sim.auth = "basic"
    assert login_for(registry, access).secret == SECRET
    sim.password = "another"
    with pytest.raises(AuthenticationError):
        login_for(registry, access)
    with pytest.raises(NotFoundError):
        login_for(Registry("nowhere.lan"), Access())


def test_passwords_that_say_when_they_expire_are_read() -> None:
    def coded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert expiry_of(f"{coded({'alg': 'RS256'})}.{coded({'exp': moment.timestamp()})}.x") == moment
    assert expiry_of(coded({"payload": "x", "expiration": moment.timestamp()})) == moment  # as Amazon's ECR
    for other in ("", "open sesame", "a.b.c", coded({"exp": 1}), f"x.{coded({'exp': 'soon'})}.y",
                  f"x.{coded({'exp': 1e300})}.y", f"x.{coded({'exp': True})}.y", coded([1])):  # fmt: skip
        assert expiry_of(other) is None


def login(host: str = "a.lan", **more: str) -> RegistryLogin:
    return RegistryLogin(host, Credentials("ann", SECRET, **more))


def test_docker_gets_a_file_that_it_can_read_and_others_cannot(tmp_path: Path) -> None:
    token = PullToken("token-1", (), datetime.now(UTC))
    logins = [login(), login("docker.io"), RegistryLogin("b.lan", None, token), login("c.lan", identity_token="idt")]
    path, kept = write_docker_config(tmp_path / "new" / "dir", logins)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777, kept) == (0o600, 0o700, False)
    auths = json.loads(path.read_text())["auths"]
    assert auths["a.lan"] == auths["https://index.docker.io/v1/"] == {"auth": ENCODED}
    assert auths["b.lan"] == {"registrytoken": "token-1"}
    assert auths["c.lan"]["identitytoken"] == "idt"
    assert DockerConfig(path)("docker.io") == Credentials("ann", SECRET)
    path, kept = write_docker_config(path.parent, [login("d.lan")])
    assert kept
    assert set(json.loads(path.read_text())["auths"]) == {*auths, "d.lan"}


@pytest.mark.parametrize("name", ["Dockerfile", "Containerfile", ".dockerignore", "Dockerfile.dev", "web.Dockerfile"])
def test_no_login_is_written_into_a_build_context(tmp_path: Path, name: str) -> None:
    (tmp_path / "context/a").mkdir(parents=True)
    (tmp_path / "context" / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "context/a")
    for folder in (tmp_path / "context", tmp_path / "context/a/b", tmp_path / "link" / "c"):
        with pytest.raises(UsageError, match=f"build context.*{name}"):
            write_docker_config(folder, [login()])
    assert not (tmp_path / "context/a/b").exists()


def test_what_is_more_than_logins_or_open_to_others_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o755)
    with pytest.raises(UsageError, match=f"mode 0755.*chmod 700 {folder}"):
        write_docker_config(folder, [login()])
    folder.chmod(0o700)
    for text, said in (('{"credsStore": "x", "auths": {}}', "has credsStore"), ("[]", "not a configuration"),
                       ("{", "not a configuration"), ('{"auths": 7}', "not a configuration")):  # fmt: skip
        (folder / "config.json").write_text(text)
        with pytest.raises(UsageError, match=said):
            write_docker_config(folder, [login()])
        assert (folder / "config.json").read_text() == text
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match="is a link"):
        write_docker_config(folder, [login()])


def test_python_gets_a_registry_with_its_login() -> None:
    found = ContainerRegistry.of(login())
    assert (found.address, found.username, found.password) == ("a.lan", "ann", SECRET)
    assert found.password == str(found.password)
    found.password = None
    assert found.password is None
    assert "password=None" in repr(found)
