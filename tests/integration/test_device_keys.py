"""Keys of a service on a device: one is replaced while callers with the other go on, whatever runs the service."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from edgepack.signing.keys import create_key
from edgepack.state.service_auth import KeyAuth, ServiceAuth, TokenAuth
from packager.services.credentials.keys import digest_of, new_key
from packager.services.credentials.tokens import ISSUER, make_token
from tests.integration.support.images import Commands, Second, Site, rows
from tests.support.http_client import ask
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RUNTIMES = [
    pytest.param("crun", marks=[pytest.mark.real("crun"), ROOT]),
    pytest.param("docker", marks=[pytest.mark.real("dockerd", "docker", "ip"), ROOT]),
]


class Device:
    """A device of its own with the service ``churn`` on ``port``."""

    def __init__(self, commands: Commands, runtime: str, store: Path) -> None:
        self.port = free_port()
        self._commands, self._runtime = commands, runtime
        commands.device.mkdir(parents=True)
        commands.device.chmod(0o711)
        configuration = {"sources": [{"folder": str(store)}], "allow_unsigned_images": True}
        (commands.device / "edge-agent.yml").write_text(json.dumps(configuration))

    def apply(self, digest: str, auth: ServiceAuth | None, status: str = "running") -> None:
        service = {"name": "churn", "image": digest, "port": self.port, "status": status}
        service |= {} if auth is None else {"auth": auth.to_json()}
        file = self._commands.folder / "desired.json"
        file.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service]}))
        if status == "running":
            self.agent("pull", digest, "--allow-unsigned")
        self.agent("apply", file, "--allow-unsigned")

    def agent(self, *words: object) -> None:
        self._commands.agent(self._runtime, *words)

    def shows(self, key: str | None) -> int:
        headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        return ask(self.port, "POST", "/score", json.dumps({"data": rows()}), headers).status

    def takes(self, key: str) -> bool:
        return self.shows(key) == 200


@pytest.fixture
def device(request: pytest.FixtureRequest, place: Path, site: Site) -> Iterator[Device]:
    env = {"DOCKER_HOST": request.getfixturevalue("engine")} if request.param == "docker" else {}
    folder = Path(tempfile.mkdtemp(prefix="ak-", dir=place))
    folder.chmod(0o755)
    made = Device(Commands(folder, folder / "unused", env), request.param, site.commands.workspace / "store")
    made.agent("trust", place / "test.pub")  # another test may have signed the images of the site
    yield made
    made.agent("remove", "churn")
    assert not list((folder / "device/auth").iterdir())


def assert_other_goes_on(device: Device, digest: str, first: str, other: str, another: str) -> None:
    """Replace ``first`` by ``another`` while a caller shows ``other``, of which no request fails."""
    statuses: list[int] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            try:
                statuses.append(device.shows(other))
            except OSError:
                statuses.append(0)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        device.apply(digest, KeyAuth(digest_of(another), digest_of(other)))
        wait_until(partial(device.takes, another))
        assert device.shows(first) == 401
    finally:
        ended.set()
        caller.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}


@pytest.mark.parametrize("device", ["process"], indirect=True)
def test_keys_are_replaced_and_stay_so_after_a_rollback(site: Site, second: Second, device: Device) -> None:
    first, other, another = new_key(), new_key(), new_key()
    one, two = site.built["digest"], second.built["digest"]
    device.apply(one, KeyAuth(digest_of(first), digest_of(other)))
    assert [device.shows(key) for key in (first, other, another, None)] == [200, 200, 401, 401]
    device.apply(two, KeyAuth(digest_of(first), digest_of(other)))
    assert_other_goes_on(device, two, first, other, another)
    device.agent("rollback", "churn", "--allow-unsigned")
    assert [device.shows(key) for key in (another, first)] == [200, 401], "the version before has the keys of today"

    signing, now = create_key(), datetime.now(UTC)
    device.apply(one, TokenAuth(signing.public.to_pem().decode(), "churn", ISSUER))
    assert device.shows(make_token(signing, "churn", now).text) == 200
    assert device.shows(make_token(signing, "other", now).text) == 403
    assert device.shows(make_token(create_key(), "churn", now).text) == 401
    assert device.shows(another) == 401


@pytest.mark.whole
@pytest.mark.parametrize("device", RUNTIMES, indirect=True)
def test_a_key_is_replaced_in_a_container_too(site: Site, device: Device) -> None:
    first, other = new_key(), new_key()
    device.apply(site.built["digest"], KeyAuth(digest_of(first), digest_of(other)))
    assert_other_goes_on(device, site.built["digest"], first, other, new_key())
