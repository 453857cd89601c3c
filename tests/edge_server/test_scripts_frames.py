"""Frames between the server and a worker, and the memory that they share."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.scripts import frames
from edge_server.scripts.frames import BrokenStreamError, FrameReader
from edge_server.scripts.worker_memory import WorkerMemory

MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.integers(0, 65535),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=300),
        st.binary(max_size=50),
        st.integers(0, 65535),
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 200), min_size=1, max_size=50))
def test_frames_come_through_however_the_stream_is_cut(
    messages: list[tuple[int, int, int, bytes, bytes, int]], cuts: list[int]
) -> None:
    stream = b"".join(frames.encode(*message, 0.25) for message in messages)
    reader, found, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [(f.kind, f.slot, f.number, f.body, f.meta, f.status) for f in found] == messages
    assert all(frame.seconds == 0.25 for frame in found)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_no_stream_breaks_the_reader_in_another_way_than_it_says(pieces: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces:
            reader.feed(piece)
    except BrokenStreamError:
        pass


def test_a_frame_that_cannot_be_is_no_frame() -> None:
    with pytest.raises(BrokenStreamError):
        FrameReader().feed(b"\xff" * 64)


def test_a_page_shows_both_sides_how_far_each_lane_is() -> None:
    server, descriptor = WorkerMemory.create(3)
    worker = WorkerMemory(descriptor, 3)
    os.close(descriptor)
    assert worker.begin(1, 41)
    assert [server.begun(slot) for slot in range(3)] == [0, 41, 0]
    server.take_back(1, 42, True)
    assert not worker.begin(1, 42)
    assert server.begun(1) == 41
    assert worker.begin(2, 42)
    server.take_back(1, 42, False)
    assert worker.begin(1, 42)
    server.interrupt(2, 42)
    assert (worker.overdue(1), worker.overdue(2)) == (0, 42)
    for memory in (server, worker):
        memory.close()


def test_answers_that_were_not_sent_are_seen_by_the_server() -> None:
    server, descriptor = WorkerMemory.create(1)
    worker = WorkerMemory(descriptor, 1)
    os.close(descriptor)
    assert worker.keep(b"one")
    assert worker.keep(b"two")
    assert server.peek() == bytes(worker.waiting()) == b"onetwo"
    assert not worker.keep(b"x" * 100_000)
    worker.sent()
    assert server.peek() == b""
    assert worker.keep(b"three")
    assert server.peek() == b"three"
    server.close()
