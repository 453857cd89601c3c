"""The states of a connection, as tables from which it moves.

Theory of operation. Each connection has two sides, which move on their own:

- *Receiving* is what the client is doing. Requests come one after the other (``IDLE``, ``HEAD``, ``BODY``, and ``IDLE``
  again), and may come before the earlier ones are answered; those that are whole then wait, and reading pauses (see
  ``flow.py``). A request that cannot be taken moves to ``REFUSED``: nothing of what was read together with it is looked
  at. ``OVER`` is the end: whatever still comes is dropped.
- *Answering* is what the server is doing. It is ``FREE``, or ``AT_WORK`` on one request, in the order in which they
  came. When receiving is ``OVER`` and all that was whole is answered, the refusal is written, if there is one, and the
  connection closes. ``LINGERING`` follows an answer after which the client may still be sending: closing at once would
  reset the connection, and the client would never see that answer.

An answer that is not to be followed by another (``Connection: close``, a drain) ends receiving as well. A pair that the
tables leave out is a defect of the server, and ends the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Receiving(Enum):
    """What the client is doing."""

    __hash__ = object.__hash__  # Enum's own is written in Python

    IDLE = "nothing of a next request has come"
    HEAD = "the head of a request is coming"
    BODY = "its head was read, and its body is coming"
    REFUSED = "the request that is coming will be refused"
    OVER = "what still comes is dropped"


class Answering(Enum):
    """What the server is doing."""

    __hash__ = object.__hash__

    FREE = "no request is at work"
    AT_WORK = "the app has a request"
    LINGERING = "the last answer was written, and the client may still be sending"
    CLOSED = "the connection is gone"


IDLE, HEAD, BODY, REFUSED, OVER = Receiving
FREE, AT_WORK, LINGERING, CLOSED = Answering

# One table for each event: the state before, and the state after.
BEGINS: Mapping[Receiving, Receiving] = {IDLE: HEAD, REFUSED: REFUSED, OVER: OVER}
HEAD_IS_WHOLE: Mapping[Receiving, Receiving] = {HEAD: BODY, REFUSED: REFUSED, OVER: OVER}
IS_WHOLE: Mapping[Receiving, Receiving] = {BODY: IDLE, REFUSED: REFUSED, OVER: OVER}
IS_REFUSED: Mapping[Receiving, Receiving] = {IDLE: REFUSED, HEAD: REFUSED, BODY: REFUSED, REFUSED: REFUSED, OVER: OVER}
NO_MORE: Mapping[Receiving, Receiving] = dict.fromkeys(Receiving, OVER)

IS_HANDED_OVER: Mapping[Answering, Answering] = {FREE: AT_WORK}
IS_ANSWERED: Mapping[Answering, Answering] = {AT_WORK: FREE}
LAST_IS_WRITTEN: Mapping[Answering, Answering] = {FREE: LINGERING}
IS_LOST: Mapping[Answering, Answering] = dict.fromkeys(Answering, CLOSED)
