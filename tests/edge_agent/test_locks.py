"""The device's locks between processes: two services change side by side, what concerns all of them waits."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from edge_agent.device import Device
from edgepack.errors import EdgepackError
from edgepack.oci.store import Store

Hold = Callable[[Device], AbstractContextManager[None]]


def use(*services: str, patience: float | None = None) -> Hold:
    return lambda device: device.using(*services, patience_seconds=patience)


def change(device: Device) -> AbstractContextManager[None]:
    return device.changing(0)


def receive(device: Device) -> AbstractContextManager[None]:
    return device.receiving()


@contextmanager
def held_elsewhere(root: Path, hold: Hold) -> Iterator[None]:
    """Let another process hold a lock of the device."""
    context = multiprocessing.get_context("fork")
    ready, over = context.Event(), context.Event()

    def run() -> None:
        with hold(Device(root, patience_seconds=0)):
            ready.set()
            over.wait()

    process = context.Process(target=run)
    process.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        over.set()
        process.join()


@pytest.mark.parametrize(
    ("theirs", "ours", "free"),
    [
        (use("one"), use("two"), True),
        (use("one"), use("one"), False),
        (use("one", "two"), use("two", "three"), False),
        (use("one"), use(), True),
        (use(), use(), True),
        (use(), change, False),
        (use("one"), change, False),
        (change, use("one"), False),
        (change, use(), False),
        (receive, use("one"), True),
        (receive, receive, False),
        (receive, change, False),
    ],
)
def test_who_excludes_whom(tmp_path: Path, theirs: Hold, ours: Hold, free: bool) -> None:
    root = tmp_path / "device"
    with held_elsewhere(root, theirs):
        device = Device(root, patience_seconds=0)
        if free:
            with ours(device):
                pass
        else:
            with pytest.raises(EdgepackError, match="has been locked by process"), ours(device):
                raise AssertionError


def test_a_service_is_busy_while_it_or_the_whole_device_is_changed(tmp_path: Path) -> None:
    root = tmp_path / "device"
    device = Device(root)
    device.create()
    assert (device.busy, device.busy_with("one")) == (False, False)
    with held_elsewhere(root, use("one")):
        assert (device.busy, device.busy_with("one"), device.busy_with("two")) == (True, True, False)
    with held_elsewhere(root, use()):
        assert (device.busy, device.busy_with("one")) == (False, False)
    with held_elsewhere(root, change):
        assert (device.busy, device.busy_with("one")) == (True, True)
    assert not device.busy


def test_a_damaged_index_is_written_anew_by_one_alone_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    device = Device(tmp_path / "device", patience_seconds=0)
    index = device.root / "store/index.json"
    with device.using("one"):
        device.store.put_bytes(b"{}", "application/json")
    with held_elsewhere(device.root, use("two")):
        index.write_text("damaged")
        with device.using("one"):
            assert index.read_text() == "damaged"
    with device.using("one"):
        assert Store.open_existing(device.root / "store").tags() == {}
