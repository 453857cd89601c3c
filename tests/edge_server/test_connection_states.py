"""The tables of a connection's states: each state can be reached, and what is over stays over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from edge_server.http import states

State = TypeVar("State", states.Receiving, states.Answering)

RECEIVING = (states.BEGINS, states.HEAD_IS_WHOLE, states.IS_WHOLE, states.IS_REFUSED, states.NO_MORE)
ANSWERING = (states.IS_HANDED_OVER, states.IS_ANSWERED, states.LAST_IS_WRITTEN, states.IS_LOST)


def reached(first: State, tables: Iterable[Mapping[State, State]]) -> set[State]:
    found = {first}
    while fresh := {table[state] for table in tables for state in found if state in table} - found:
        found |= fresh
    return found


def test_every_state_is_reached_from_the_first() -> None:
    assert reached(states.IDLE, RECEIVING) == set(states.Receiving)
    assert reached(states.FREE, ANSWERING) == set(states.Answering)


def test_a_connection_that_receives_no_more_never_does_again() -> None:
    assert reached(states.OVER, RECEIVING) == {states.OVER}
    assert reached(states.REFUSED, RECEIVING) == {states.REFUSED, states.OVER}
    assert reached(states.CLOSED, ANSWERING) == {states.CLOSED}
    assert reached(states.LINGERING, ANSWERING) == {states.LINGERING, states.CLOSED}


def test_every_event_of_the_parser_may_come_when_a_connection_is_over() -> None:
    # The parser goes on with what was read together with the last request.
    assert all(states.OVER in table and states.REFUSED in table for table in RECEIVING)
