"""Files of example inputs, kept in the store."""

from __future__ import annotations

from pathlib import Path

from converters.proof.sample_file import check_sample
from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.store import Store
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.model import Sample


def keep_sample(path: Path, store: Store, option: str) -> Sample:
    """Put the file of rows that a user gave by ``option`` into ``store``.

    Raises what ``keep_file`` raises, and ``UsageError`` for a file that has no rows.
    """
    _check_is_file(path, option)
    try:
        check_sample(path)
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint=f"check {option}") from error
    return keep_file(path, store, option)


def _check_is_file(path: Path, option: str) -> None:
    if path.is_dir():
        raise UsageError("is a folder, not a file of rows", where=path, hint=f"check {option}")
    if not path.is_file():
        raise NotFoundError("there is no such file", where=path, hint=f"check {option}")


def keep_file(path: Path, store: Store, option: str) -> Sample:
    """Put the file that a user gave by ``option`` into ``store``, whatever it holds.

    Raises ``NotFoundError``, ``UsageError`` for one that cannot be read or is larger than 1 GiB, ``NoSpaceError``, and
    ``EdgepackError`` for one that holds a credential.
    """
    _check_is_file(path, option)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint=f"check {option}") from error
    with file, disk_errors(store.root), store.writer() as blob:
        search = SecretSearch(known_secrets(), "a model")
        for piece in search.passing(iter(lambda: file.read(LIMITS.chunk_bytes), b""), path):
            blob.write(piece)
            if file.tell() > LIMITS.sample_bytes:
                raise UsageError("is larger than 1 GiB", where=path, hint="some hundred rows are a good sample")
        digest, size = blob.commit()
    return Sample(path.name, Descriptor("application/octet-stream", digest, size))


def write_sample(sample: Sample, store: Store, folder: Path) -> Path:
    """The kept file again, in a folder of its own below ``folder``, by the name that its user knows it by."""
    path = folder / "sample" / sample.filename
    path.parent.mkdir()
    path.write_bytes(store.read(sample.blob, limit=LIMITS.sample_bytes))
    return path
