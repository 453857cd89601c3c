"""The configuration of the agent: what it says, what its schema says, and what a user gets wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.config.configuration import (
    Bandwidth,
    BandwidthWindow,
    Broker,
    Configuration,
    FolderSource,
    NeighbourSource,
    RegistrySource,
    Share,
    Updates,
)  # fmt: skip
from edge_agent.config.document import from_json, to_json
from edge_agent.config.read import find_configuration, read_configuration
from edge_agent.config.rules import schema
from edge_agent.config.windows import Window, is_open, next_opening
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from tests.support.sampling import times

WHOLE = """\
schema: edgepack.agent/v1
device: press-7
groups: [line-2, presses]
state_dir: state
runtime: process
broker:
  url: mqtts://broker.example
  ca_file: ca.pem
  certificate_file: device.pem
  key_file: device.key
  user: press-7
  password_file: password
  keepalive_seconds: 30
inbox: [/media/stick]
sources:
  - registry: registry.example:5000/factory/models
    credential_helper: pass
  - registry: registry.example
    credentials_file: auth.json
    ca_file: ca.pem
  - registry: 127.0.0.1:5000
    plain_http: true
  - folder: bundles
  - neighbour: http://10.0.0.7:5000/
bandwidth:
  bytes_per_second: 100000
  windows:
    - {days: [sat, sun], from: 00:00, to: 24:00}
    - {from: 22:00, to: 06:00, bytes_per_second: 0}
updates:
  windows: [{days: [mon], from: 22:00, to: 06:00}]
  lock_file: /run/production.lock
  power: mains
  free_memory_bytes: 1000000
allow_unsigned_documents: true
allow_unsigned_images: true
share: {address: 10.0.0.2, port: 5001}
disk: {floor_bytes: 1}
report: {interval_seconds: 5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ca.pem", "device.pem", "device.key", "password"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def read(folder: Path, text: str, name: str = "edge-agent.yml") -> Configuration:
    (folder / name).write_text(text)
    return read_configuration(folder / name)


def violations(folder: Path, text: str, name: str = "edge-agent.yml") -> list[str]:
    try:
        read(folder, text, name)
    except InvalidDocumentError as error:
        return list(error.violations)
    return []


def test_every_field_is_read(folder: Path) -> None:
    week = (5, 6)
    assert read(folder, WHOLE) == Configuration(
        device="press-7",
        groups=("line-2", "presses"),
        state_dir=folder / "state",
        runtime="process",
        broker=Broker(
            "broker.example", 8883, True, None, folder / "ca.pem", folder / "device.pem", folder / "device.key",
            "press-7", folder / "password", 30,
        ),
        inbox=(Path("/media/stick"),),
        sources=(
            RegistrySource("registry.example:5000", "factory/models", credential_helper="pass"),
            RegistrySource("registry.example", credentials_file=folder / "auth.json", ca_file=folder / "ca.pem"),
            RegistrySource("127.0.0.1:5000", plain_http=True),
            FolderSource(folder / "bundles"),
            NeighbourSource("http://10.0.0.7:5000"),
        ),
        bandwidth=Bandwidth(
            100000, (BandwidthWindow(Window(0, 1440, week)), BandwidthWindow(Window(1320, 360), 0)),
        ),
        updates=Updates((Window(1320, 360, (0,)),), Path("/run/production.lock"), "mains", 1000000),
        allow_unsigned_documents=True,
        allow_unsigned_images=True,
        share=Share("10.0.0.2", 5001),
        floor_bytes=1,
        report_seconds=5,
    )  # fmt: skip


def test_the_same_in_json_and_handed_on(folder: Path) -> None:
    configuration = read(folder, WHOLE)
    said = yaml.safe_load(WHOLE.replace("22:00", "'22:00'").replace("24:00", "'24:00'"))

    assert read(folder, json.dumps(said), "edge-agent.json") == configuration
    assert from_json(json.loads(json.dumps(to_json(configuration)))) == configuration
    assert read(folder, json.dumps(to_json(configuration)), "again.json") == configuration


def test_an_agent_without_a_file_has_defaults(tmp_path: Path) -> None:
    found = find_configuration(None, tmp_path / "device")

    assert found == Configuration(state_dir=tmp_path / "device")
    assert found.inbox_folders == (tmp_path / "device" / "inbox",)
    assert not found.allow_unsigned_documents
    assert from_json(to_json(found)) == from_json({**to_json(Configuration(state_dir=found.state_dir))})
    assert read(tmp_path, "# nothing but a comment\n") == Configuration()


def test_what_is_typed_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "edge-agent.yml").write_text("state_dir: elsewhere\nruntime: crun\ndevice: one\n")

    assert find_configuration(None, tmp_path) == Configuration("one", state_dir=tmp_path, runtime="crun")
    found = find_configuration(tmp_path / "edge-agent.yml", runtime="process")
    assert found == Configuration("one", state_dir=tmp_path / "elsewhere", runtime="process")


def test_the_resident_process_reads_it_without_heavy_imports() -> None:
    code = (
        "import sys, edge_agent.config.document\nprint({'yaml', 'click', 'urllib3', 'cryptography'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- Mistakes -------------------------------------------------------------------------------------------------------

MISTAKES = [
    ("broker: {url: broker.example}", "line 1: broker.url must be an address such as mqtts://broker.example:8883"),
    ("broker: {url: mqtts://b:70000}", "line 1: broker.url must be an address such as"),
    ("broker: {url: mqtt://b, ca_file: ca.pem}", "broker.ca_file is for TLS: give it with an mqtts:// address"),
    ("broker: {url: mqtts://b, password_file: password}", "broker.password_file is given without broker.user"),
    ("broker: {url: mqtts://b, key_file: device.key}", "broker.key_file is given without broker.certificate_file"),
    ("broker: {}", "unix:///run/mosquitto/mosquitto.sock, and is missing"),
    ("broker:", "line 1: broker must be a mapping, is empty"),
    ("brokr: {url: mqtts://b}", "line 1: brokr is not a known field; did you mean 'broker'?"),
    ("broker:\n  url: mqtts://b\n  cafile: x", "line 3: broker.cafile is not a known field; did you mean 'ca_file'?"),
    ("broker: {url: mqtts://b, ca_file: none.pem}", "none.pem is not a file"),
    ("device: press 7", "device must be a name of letters, digits, '.', '_' and '-'"),
    ("device: 7", "device must be text, is 7; write it in quotes"),
    ("groups: line-2", "groups must be a list, is 'line-2'"),
    ("groups: [a, a]", "groups lists 'a' twice"),
    ("groups: [a/b]", "groups[0] must be a name of letters"),
    ("runtime: podman", "runtime must be auto or docker or crun or process, is 'podman'"),
    ("sources: [{registry: a, folder: b}]", "sources[0] must have one of registry, folder, neighbour, and has several"),
    ("sources: [{}]", "sources[0] must have one of registry, folder, neighbour"),
    ("sources: [{folder: b, plain_http: true}]", "sources[0].plain_http is for a registry, and not for a folder"),
    ("sources: [{registry: 'https://r.example/a'}]", "sources[0].registry must be a registry with what its"),
    ("sources: [{registry: r, credential_helper: a, credentials_file: b}]", "leave out one of the two"),
    ("sources: [{neighbour: 10.0.0.7}]", "sources[0].neighbour must be an address such as http://10.0.0.7:5000"),
    ("bandwidth: {bytes_per_second: -1}", "bandwidth.bytes_per_second must be at least 0, is -1"),
    ("bandwidth: {bytes_per_second: 1.5}", "bandwidth.bytes_per_second must be a whole number, is 1.5"),
    ("updates: {windows: [{from: 22:00}]}", "updates.windows[0].to must be a time such as 06:00, and is missing"),
    ("updates: {windows: [{from: 25:00, to: 06:00}]}", "updates.windows[0].from must be a time such as 22:00"),
    ("updates: {windows: [{days: [], from: 22:00, to: 06:00}]}", "updates.windows[0].days must not be empty"),
    ("updates: {windows: [{days: [monday], from: 22:00, to: 06:00}]}", "days[0] must be mon or tue or wed"),
    ("share: {address: everywhere}", "share.address must be an IP address such as 0.0.0.0, is 'everywhere'"),
    ("share: {port: 65536}", "share.port must be at most 65535, is 65536"),
    ("report: {interval_seconds: 0}", "report.interval_seconds must be at least 1, is 0"),
    ("- a", "line 1: the document must be a mapping, is a list"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_a_mistake_is_named_with_its_field_and_line(folder: Path, text: str, says: str) -> None:
    assert says in "\n".join(violations(folder, text))


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    wrong = [text for text, _ in MISTAKES if text.startswith(("brokr", "device: press", "groups: line", "runtime"))]
    wrong += ["share: {address: everywhere}", "updates:", "  power: no", "report: {interval_seconds: 0}"]

    assert len(violations(folder, "\n".join(wrong))) == len(wrong) - 1


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("broker: {url: mqtts://b, user: u, password: hunter2}", "broker.password_file"),
        ("broker: {url: 'mqtts://u:hunter2@b'}", "broker.password_file"),
        ("broker: {url: 'mqtts://hunter2@b'}", "broker.user"),
        ("broker: {url: mqtts://b, user: u, password_file: hunter2}", "it is the path of a file, not the secret"),
        ("broker: {url: mqtts://b, certificate_file: device.pem, key_file: '-----BEGIN PRIVATE KEY-----hunter2'}",
         "keep it in a file of mode 0600"),
        ("broker: {url: mqtts://b, certificate_file: 'PRIVATE KEY hunter2'}", "keep it in a file of mode 0600"),
        ("sources: [{registry: 'u:hunter2@r.example'}]", "docker login"),
        ("sources: [{neighbour: 'http://u:hunter2@r.example'}]", "docker login"),
        ("sources: [{registry: r.example, user: u, password: hunter2}]", "credentials_file"),
        ("sources: [{registry: r.example, credentials: {token: hunter2}}]", "credentials_file"),
        ("mqttPassword: hunter2", "mqttPassword is not a known field"),
        ("api_key: hunter2", "a secret is not kept in this file"),
        ("password: 7215", "a secret is not kept in this file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["edge-agent.yml", "edge-agent.json"])
def test_a_secret_in_the_file_is_refused_with_the_way_out_and_not_shown(
    folder: Path, text: str, way: str, name: str
) -> None:
    found = "\n".join(violations(folder, json.dumps(yaml.safe_load(text)) if name.endswith("json") else text, name))

    assert way in found
    assert "hunter2" not in found
    assert "7215" not in found


def test_a_secret_file_that_every_user_may_read_is_refused(folder: Path) -> None:
    text = "broker: {url: mqtts://b, user: u, password_file: password}"
    assert violations(folder, text) == []

    (folder / "password").chmod(0o644)
    (found,) = violations(folder, text)
    assert found.startswith("line 1: broker.password_file: every user may read")
    assert f"chmod o-rwx {folder}/password" in found


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="write one with: edge-agent init"):
        read_configuration(tmp_path / "none.yml")
    (tmp_path / "a.conf").write_text("")
    with pytest.raises(UsageError, match=r"let it end in \.json, \.yml or \.yaml"):
        read_configuration(tmp_path / "a.conf")
    assert "is not YAML" in violations(tmp_path, "device: [")[0]


# ---- The schema and the reader --------------------------------------------------------------------------------------

WINDOW = st.fixed_dictionaries(
    {"from": st.sampled_from(["22:00", "24:00", "9:00", 5])},
    optional={
        "to": st.sampled_from(["06:00", "24:00", "6", "06:60"]),
        "days": st.sampled_from([["mon"], [], ["mon", "mon"], ["x"], "mon"]),
        "bytes_per_second": st.sampled_from([0, -1, 1.5, "fast"]),
    },
)
SOURCE = st.dictionaries(
    st.sampled_from(["registry", "folder", "neighbour", "credential_helper", "credentials_file", "ca_file",
                     "plain_http", "fldr"]),
    st.sampled_from(["r.example/a", "r.example:5000", "http://10.0.0.7:5000", "ca.pem", True, "", 7, "R/A"]),
    max_size=3,
)  # fmt: skip
BROKER = st.fixed_dictionaries(
    {"url": st.sampled_from(["mqtts://b:8883", "mqtt://[::1]", "unix:///run/b.sock", "unix://b", "b", "mqtts://b:0"])},
    optional={
        "ca_file": st.sampled_from(["ca.pem", ""]), "certificate_file": st.just("device.pem"),
        "key_file": st.just("device.key"), "user": st.sampled_from(["u", "", 7]),
        "password_file": st.just("password"), "keepalive_seconds": st.sampled_from([5, 4, 3600, 3601, True]),
    },
)  # fmt: skip
NAMES = st.sampled_from(["press-7", "7", "-7", "a b", "", "a" * 129])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "$schema": st.sampled_from(["x", 7]),
    "schema": st.sampled_from(["edgepack.agent/v1", "edgepack.agent/v2"]),
    "device": NAMES,
    "groups": st.lists(NAMES, max_size=3) | st.none(),
    "state_dir": st.sampled_from(["state", "", 7]),
    "runtime": st.sampled_from(["auto", "docker", "crun", "process", "podman"]),
    "broker": BROKER | st.none() | st.just({}),
    "inbox": st.lists(st.sampled_from(["/media", "", 7]), max_size=2),
    "sources": st.lists(SOURCE, max_size=2),
    "bandwidth": st.fixed_dictionaries({"windows": st.lists(WINDOW, max_size=1)}),
    "updates": st.fixed_dictionaries(
        {}, optional={"windows": st.lists(WINDOW, max_size=1), "power": st.sampled_from(["any", "mains", "battery"]),
                      "lock_file": st.sampled_from(["/run/l", ""]),
                      "free_memory_bytes": st.sampled_from([0, -1, 2**60])},
    ),
    "allow_unsigned_documents": st.sampled_from([True, "yes"]),
    "allow_unsigned_images": st.sampled_from([False, 0]),
    "share": st.fixed_dictionaries(
        {}, optional={"address": st.sampled_from(["::", "10.0.0.1", "host", "1.2.3"]),
                      "port": st.sampled_from([1, 0, 65535, 65536])},
    ),
    "disk": st.sampled_from([{}, {"floor_bytes": 0}, {"floor_bytes": -1}, {"flor": 1}]),
    "report": st.sampled_from([{}, {"interval_seconds": 86400}, {"interval_seconds": 86401}]),
    "unknown": st.just(1),
}  # fmt: skip
# A few fields each time: with all of them every document has several faults.
DOCUMENTS = st.sets(st.sampled_from(sorted(FIELDS)), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in sorted(names)})
)
OTHER = jsonschema.Draft202012Validator(dict(schema()), format_checker=jsonschema.FormatChecker(["ipv4", "ipv6"]))


@settings(max_examples=times(3000, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_the_schema_and_the_reader_agree(folder: Path, said: dict[str, Any]) -> None:
    # Whether a file is there no schema can say.
    said = {**said, "sources": [{**one, **({"ca_file": "ca.pem"} if one.get("ca_file") else {})}
                                for one in said["sources"]]} if "sources" in said else said  # fmt: skip
    keeps = OTHER.is_valid(said)
    assert (violations(folder, json.dumps(said), "c.json") == []) == keeps
    assert (violations(folder, yaml.safe_dump(said), "c.yml") == []) == keeps


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(dict(schema()))
    assert OTHER.is_valid(to_json(Configuration()))


@settings(max_examples=times(1000, 100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(["i.json", "i.yml"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    try:
        found = read_configuration(tmp_path / name)
    except EdgepackError:
        return
    assert found == Configuration()


# ---- Windows --------------------------------------------------------------------------------------------------------

NIGHT = Window(22 * 60, 6 * 60, (0,))  # from Monday evening to Tuesday morning


@pytest.mark.parametrize(
    ("moment", "opened"),
    [
        ("2026-11-30T21:59:59", False),
        ("2026-11-30T22:00:00", True),
        ("2026-12-01T05:59:59", True),
        ("2026-12-01T06:00:00", False),
        ("2026-12-01T23:00:00", False),
        ("2026-11-30T05:00:00", False),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(moment: str, opened: bool) -> None:
    assert is_open([NIGHT], datetime.fromisoformat(moment)) is opened


def test_the_next_window_is_found() -> None:
    now = datetime.fromisoformat("2026-11-30T22:00:00")
    assert next_opening([NIGHT], now) == datetime.fromisoformat("2026-12-07T22:00:00")
    assert next_opening([NIGHT, Window(0, 1440)], now) == datetime.fromisoformat("2026-12-01T00:00:00")
    assert next_opening([], now) is None
    assert is_open([], now)
    assert is_open([Window(600, 600)], now)


def test_the_rate_is_that_of_the_first_window_that_is_open() -> None:
    rates = Bandwidth(1000, (BandwidthWindow(NIGHT), BandwidthWindow(Window(0, 1440), 0)))
    assert rates.at(datetime.fromisoformat("2026-11-30T23:00:00")) is None
    assert rates.at(datetime.fromisoformat("2026-11-30T12:00:00")) == 0
    assert Bandwidth(1000).at(datetime.fromisoformat("2026-11-30T12:00:00")) == 1000
