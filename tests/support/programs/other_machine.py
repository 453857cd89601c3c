"""Builds the image of ``tests.packager.support.described`` as another machine would; prints its digests.

Folders are listed backwards, the clock is years ahead, the umask is 077.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(folder: Path, user: str) -> None:
    """Build in ``folder``, as another user where ``user`` is given and this is root."""
    os.umask(0o077)
    listdir, clock = os.listdir, time.time
    scandir: Callable[..., Any] = os.scandir
    os.listdir = lambda *path: sorted(listdir(*path), reverse=True)  # type: ignore[assignment, arg-type]
    os.scandir = lambda *path: _Backwards(scandir(*path))  # type: ignore[assignment, misc]
    time.time = lambda: clock() + 3e8  # type: ignore[assignment]

    import pytest

    from tests.packager.support.bases import AMD64, ARM64
    from tests.packager.support.described import build, make_described, write_code

    if user and os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.setgid(65534)
        os.setuid(65534)
    with pytest.MonkeyPatch.context() as patch:
        workspace = make_described(folder, patch)
        built = build(workspace, AMD64, ARM64, source=write_code(folder))
    attached = [str(one.digest) for image in built.images for one in workspace.store.referrers(image.descriptor.digest)]
    sys.stdout.write(json.dumps({"image": str(built.descriptor.digest), "attached": sorted(attached)}))


class _Backwards:
    def __init__(self, entries: Any) -> None:
        self._entries = sorted(entries, key=lambda entry: str(entry.name), reverse=True)
        entries.close()

    def __enter__(self) -> _Backwards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __next__(self) -> Any:
        if not self._entries:
            raise StopIteration
        return self._entries.pop(0)

    def close(self) -> None:
        """Nothing is open."""


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
