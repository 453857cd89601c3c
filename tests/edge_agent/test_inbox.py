"""Inbox folders, as a stick comes and goes, and the row of what is to be judged."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from edge_agent.daemon import inbox as module
from edge_agent.daemon.inbox import Inbox
from edge_agent.daemon.incoming import Came, Queue
from edge_agent.daemon.taken import FILE, Taken

BUNDLE = b"edgepack.bundle.json\0" + bytes(600)


def looks(inbox: Inbox, count: int = 2) -> list[tuple[str, str]]:
    return [(one.kind, one.path.name) for _ in range(count) for one in inbox.look()]


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "media" / "a stick"
    folder.mkdir(parents=True)
    return folder


def test_what_comes_is_taken_once_and_bundles_first(stick: Path) -> None:
    inbox = Inbox([stick], "press-7", ["line-2"])
    (stick / "desired.json").write_text("{}")
    (stick / "zz").write_bytes(BUNDLE)
    (stick / "readme.txt").write_text("for people")
    (stick / ".desired.json.part").write_text("{}")
    (stick / "folder.json").mkdir()

    assert looks(inbox) == [("bundle", "zz"), ("document", "desired.json")]
    assert looks(inbox, 5) == []


def test_only_what_is_for_this_device_and_its_groups_is_looked_for(stick: Path) -> None:
    for place in ("devices/press-7", "devices/press-8", "groups/line-2", "groups/line-3"):
        (stick / place).mkdir(parents=True)
        (stick / place / f"{place.replace('/', '-')}.json").write_text("{}")

    assert looks(Inbox([stick], "press-7", ["line-2"])) == [
        ("document", "devices-press-7.json"), ("document", "groups-line-2.json")
    ]  # fmt: skip


def test_a_file_that_still_grows_is_not_taken(stick: Path) -> None:
    inbox = Inbox([stick], "d", [])
    for size in (30, 60, 90):
        (stick / "b").write_bytes(BUNDLE[:size])
        assert looks(inbox, 1) == []

    assert looks(inbox) == [("bundle", "b")]


def test_a_stick_that_is_pulled_out_and_put_in_again_is_taken_again(stick: Path) -> None:
    inbox = Inbox([stick, stick.parent / "never"], "d", [])
    (stick / "b").write_bytes(BUNDLE)
    assert looks(inbox) == [("bundle", "b")]

    shutil.move(stick, stick.with_name("away"))
    assert looks(inbox) == []
    shutil.move(stick.with_name("away"), stick)
    assert looks(inbox) == [("bundle", "b")]


def test_a_changed_file_is_taken_again(stick: Path) -> None:
    inbox = Inbox([stick], "d", [])
    (stick / "desired.json").write_text("{}")
    assert looks(inbox) == [("document", "desired.json")]

    (stick / "desired.json").write_text('{"serial": 2}')
    assert looks(inbox) == [("document", "desired.json")]


def test_a_bundle_that_could_not_be_taken_is_tried_again_later_and_later(
    stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, inbox = [1000.0], Inbox([stick], "d", [])
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    (stick / "b").write_bytes(BUNDLE)
    found: list[float] = []
    for _ in range(10_000):
        for one in inbox.look():
            found.append(now[0])
            inbox.failed(one)
        now[0] += 1

    assert [later - sooner for sooner, later in itertools.pairwise(found)] == [
        60,
        120,
        240,
        480,
        960,
        1920,
        3600,
    ]


def test_a_refused_document_is_judged_again_when_another_key_is_trusted(stick: Path) -> None:
    inbox = Inbox([stick], "d", [])
    (stick / "desired.json").write_text("{}")
    (find,) = [one for _ in range(2) for one in inbox.look()]
    inbox.failed(find)
    assert looks(inbox, 3) == []

    inbox.retry()

    assert looks(inbox, 3) == [("document", "desired.json")]


def test_what_is_remembered_of_a_folder_is_what_is_in_it(stick: Path) -> None:
    inbox = Inbox([stick], "d", [])
    for number in range(50):
        path = stick / f"{number}.json"
        path.write_text("{}")
        for one in [*inbox.look(), *inbox.look()]:
            inbox.failed(one)
        path.unlink()
    inbox.look()

    assert [len(part) for part in (inbox._seen, inbox._taken, inbox._failed)] == [0, 0, 0]


def restarted(stick: Path, state: Path, *groups: str, anew: bool = False) -> Inbox:
    return Inbox([stick], "d", groups, Taken(state, ("d", *groups), anew=anew))


def test_what_was_taken_is_not_taken_again_by_the_next_start_of_the_agent(stick: Path, tmp_path: Path) -> None:
    (stick / "b").write_bytes(BUNDLE)
    (stick / "refused.json").write_text("{}")
    (stick / "good.json").write_text("{ }")
    first = restarted(stick, tmp_path)
    for find in [*first.look(), *first.look()]:
        (first.failed if find.path.name == "refused.json" else first.took)(find)
    first.look()

    # A boot gives files of a stick other numbers.
    data = (stick / "b").read_bytes()
    stat = (stick / "b").stat()
    (stick / "copy").write_bytes(data)
    (stick / "copy").replace(stick / "b")
    os.utime(stick / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert looks(restarted(stick, tmp_path), 4) == [("document", "refused.json")]
    everything = [("bundle", "b"), ("document", "good.json"), ("document", "refused.json")]
    assert looks(restarted(stick, tmp_path, anew=True), 4) == everything
    assert looks(restarted(stick, tmp_path, "line-2"), 4) == everything, "another group may take what this one did not"


def test_what_changed_or_was_put_in_again_is_taken_whatever_was_before(stick: Path, tmp_path: Path) -> None:
    def take() -> list[tuple[str, str]]:
        inbox = restarted(stick, tmp_path)
        found = [one for _ in range(3) for one in inbox.look()]
        for one in found:
            inbox.took(one)
        inbox.look()
        return [(one.kind, one.path.name) for one in found]

    (stick / "b").write_bytes(BUNDLE)
    assert (take(), take()) == ([("bundle", "b")], [])
    stat = (stick / "b").stat()
    (stick / "b").write_bytes(BUNDLE[:-1] + b"x")
    os.utime(stick / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a clock of 1970 would
    assert (take(), take()) == ([("bundle", "b")], [])

    shutil.move(stick, stick.with_name("away"))
    assert take() == []
    shutil.move(stick.with_name("away"), stick)
    assert take() == [("bundle", "b")]

    (tmp_path / FILE).write_bytes(b'{"taken": 3')
    assert take() == [("bundle", "b")]


def came(where: str, data: bytes, heard: list[str] | None = None) -> Came:
    said = [] if heard is None else heard
    return Came(
        where, "device", data=data, done=lambda: said.append(f"done {where}"),
        failed=lambda: said.append(f"failed {where}"),
    )  # fmt: skip


def test_a_newer_document_of_a_topic_replaces_one_that_was_not_judged_yet() -> None:
    queue, heard = Queue(), list[str]()
    queue.put(came("a", b"1", heard))
    queue.put(came("b", b"1", heard))
    queue.put(came("a", b"2", heard))

    assert heard == ["done a"], "the broker need not send it again"
    assert [(one.where, one.data) for one in (queue.next(), queue.next()) if one is not None] == [
        ("b", b"1"),
        ("a", b"2"),
    ]
    assert queue.next() is None


def test_what_was_taken_is_not_judged_again_with_every_connection_and_what_was_refused_is() -> None:
    queue, heard = Queue(), list[str]()
    for data, taken, row in ((b"1", True, 1), (b"1", True, 0), (b"2", False, 1), (b"2", False, 1), (b"1", True, 1)):
        queue.put(came("a", data, heard))
        assert len(queue) == row, data
        if (one := queue.next()) is not None:
            queue.judged(one, taken=taken)
    assert heard == ["done a", "done a", "failed a", "done a", "failed a", "done a", "done a"]


def test_what_was_refused_can_be_judged_again() -> None:
    queue, heard = Queue(), list[str]()
    queue.judged(came("a", b"1", heard), taken=False)
    queue.retry()

    again = queue.next()
    assert again is not None
    queue.judged(again, taken=True)
    queue.retry()
    assert queue.next() is None
    assert heard == ["failed a", "done a"], "once"


def test_a_flood_is_bounded() -> None:
    queue, heard = Queue(), list[str]()
    for number in range(1500):
        queue.put(came(str(number), b"1", heard))

    assert (len(queue), len(heard)) == (1000, 500)
