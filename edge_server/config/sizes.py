"""Sizes in bytes that no setting changes: how much is handled at once or kept at most."""

from __future__ import annotations

from dataclasses import dataclass

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True)
class Sizes:
    """One value for the whole server, ``SIZES``."""

    # Read at once from a client, and from a worker.
    received: int = 256 * _KIB
    # The body of a request that was refused by its head, which is still read so that the connection can stay.
    read_in_vain: int = 64 * _KIB
    # What the system keeps between the server and a worker.
    worker_socket: int = 1 * _MIB
    # Answers of a worker that wait to be sent together.
    worker_answers: int = 64 * _KIB
    # What of a streamed answer may wait for its client.
    stream_window: int = 256 * _KIB
    # Read at once of what a script prints, and the longest line of it.
    printed: int = 32 * _KIB
    printed_line: int = 16 * _KIB
    # The longest message of a script's log record, and the longest record with all its fields.
    log_message: int = 64 * _KIB
    log_record: int = 512 * _KIB
    # Lines of the log that wait for a reader; those beyond are dropped.
    log_lines: int = 4 * _MIB
    # Collected rows that wait to be written.
    collected: int = 32 * _MIB
    # The memory in which the processes of a service share their metrics.
    metrics: int = 2 * _MIB
    # The head of one part of a multipart form.
    form_part_head: int = 16 * _KIB
    # Bodies above these sizes are not parsed on the event loop, or are read piece by piece.
    inline_body: int = 128 * _KIB
    large_body: int = 1 * _MIB
    piece: int = 256 * _KIB
    # The longest example that the API's description repeats.
    example: int = 16 * _KIB
    # Larger model files are not searched for operators whose cost depends on a value.
    searched_model: int = 64 * _MIB


SIZES = Sizes()
