"""What ``edge-agent`` answers to words that are nearly right, and where its options may stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.commands.main import VERBS, cli
from edge_agent.device import Device
from edge_agent.reconcile.status import _order, url
from edgepack.bundle.receipt import Receipt
from edgepack.errors import UsageError
from tests.support.typed import Type, typist


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_STATE_DIR", str(tmp_path / "device"))
    return typist(lambda: cli, "edge-agent", monkeypatch, capfd)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("statsu", "no such command 'statsu'; did you mean 'status'? see: edge-agent --help"),
        ("rolback churn", "did you mean 'rollback'?"),
        ("help aply", "no such command 'aply'; did you mean 'apply'?"),
        ("apply d.json --alow-unsigned", "no such option '--alow-unsigned'; did you mean '--allow-unsigned'?"),
        ("status --state-dri x", "did you mean '--state-dir'? see: edge-agent status --help"),
        (
            "status --runtime podmn",
            "--runtime: 'podmn' is not one of 'auto', 'docker', 'crun', 'process'; see:",
        ),
        (
            "--runtime crn status",
            "--runtime: 'crn' is not one of 'auto', 'docker', 'crun', 'process'; did you mean",
        ),
        ("status --output jason", "did you mean 'json'?"),
        ("--wait long status", "--wait must be a number of at least 0, not 'long'; see: edge-agent --help"),
        ("status --wait -1", "--wait must be a number of at least 0, not '-1'; see: edge-agent status --help"),
    ],
)
def test_a_word_that_is_nearly_right_gets_the_one_that_was_meant(agent: Type, words: str, says: str) -> None:
    ended = agent(*words.split())
    assert says in ended.sentence
    assert ended.code == 2


@pytest.mark.parametrize("words", ["{} status", "status {}"])
def test_options_may_be_given_before_the_verb_and_after_it(agent: Type, tmp_path: Path, words: str) -> None:
    ended = agent(*words.format("--state-dir other --runtime process --output json").split())
    assert (ended.code, ended.out) == (0, '{\n  "services": [],\n  "documents": []\n}\n')
    assert str(tmp_path / "other") in ended.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_its_help_and_the_options_that_it_shares(agent: Type, verb: str) -> None:
    usual = agent(verb, "--help").out
    assert [agent(verb, "-h").out, agent("help", verb).out] == [usual, usual]
    assert {"--state-dir", "--runtime", "--debug"} <= set(usual.split())


def test_the_address_of_a_service_is_one_that_this_device_reaches() -> None:
    assert url("0.0.0.0", 6789) == url("127.0.0.1", 6789) == "http://127.0.0.1:6789"  # noqa: S104 - read, not bound to
    assert url("::", 1) == "http://[::1]:1"
    assert url("192.168.1.7", 1) == "http://192.168.1.7:1"
    assert sorted(["churn:10", "churn:9", "a-2:1", "churn"], key=_order) == ["a-2:1", "churn", "churn:9", "churn:10"]


def test_who_may_not_write_the_devices_folder_is_told_of_the_option_for_another() -> None:
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    try:
        with pytest.raises(UsageError) as caught:
            Device(Path("/usr/of-nobody")).create()
    finally:
        if as_root:
            os.seteuid(0)
    assert str(caught.value) == (
        "/usr/of-nobody: this user cannot write to /usr; run it as root, or give a folder of your own: "
        "edge-agent --state-dir DIR"
    )


def test_a_receipt_of_a_device_that_is_not_there_lists_nothing_and_makes_nothing(agent: Type, tmp_path: Path) -> None:
    ended = agent("receipt", "--state-dir", tmp_path / "mistyped")
    assert (ended.code, Receipt.from_bytes(ended.out.encode()).blobs) == (0, frozenset())
    assert ended.err == f"no images in {tmp_path / 'mistyped'}; import some with: edge-agent import BUNDLE\n"
    assert not (tmp_path / "mistyped").exists()
