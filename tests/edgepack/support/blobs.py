"""A blob, a source of it, and a client's policy that does not wait."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.remote import Policy

QUICK = Policy(attempts=3, backoff=0.01, longest_wait=0.05, connect_timeout=60, read_timeout=60)


BLOB = bytes(range(256)) * 12_000  # 3 MB


def blob(data: bytes = BLOB) -> Descriptor:
    return Descriptor(mediatypes.LAYER, Digest.of(data), len(data))


class Bytes:
    """A source of one blob; ``opened`` lists the offsets at which it was read."""

    def __init__(self, data: bytes = BLOB) -> None:
        self.data = data
        self.opened: list[int] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.opened.append(offset)
        yield io.BytesIO(self.data[offset:])
