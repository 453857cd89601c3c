"""What the verbs share that read bundles: the files, whose signatures count, and the bundles while they are open."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from edgepack.errors import NotFoundError, UntrustedKeyError
from edgepack.host.commands import INPUT
from edgepack.limits import LIMITS
from edgepack.signing.keys import PublicKey
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from edgepack.bundle.blobs import BundleSet

_F = TypeVar("_F", bound=Callable[..., Any])


def reading(function: _F) -> _F:
    """Add ``PATH...``, ``--trust`` and ``--allow-unsigned``; the command gets ``paths``, ``trusted`` and the flag."""

    @functools.wraps(function)
    def command(*args: Any, trust: tuple[Path, ...], workspace: Workspace, **rest: Any) -> Any:
        keys = [] if workspace.is_unused or not workspace.exists else list(workspace.keys.list().values())
        given = [PublicKey.from_pem(_pem(path), path) for path in trust]
        return function(*args, trusted=[*keys, *given], workspace=workspace, **rest)

    for option in (
        click.option(
            "--allow-unsigned", is_flag=True, envvar="EDGEPACK_ALLOW_UNSIGNED",
            help="Accept what nobody has signed. Anybody could have made it.",
        ),
        click.option(
            "--trust", type=INPUT, multiple=True, metavar="KEY.pub",
            help="Trust this public key too; the keys of the workspace are trusted.",
        ),
        click.argument("paths", type=INPUT, nargs=-1, required=True, metavar="PATH..."),
    ):  # fmt: skip
        command = option(command)
    return cast(_F, command)


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.key_file_bytes)
    except FileNotFoundError:
        raise NotFoundError("there is no such key", where=path, hint="edgepack key export writes one") from None


@contextmanager
def opened(
    paths: Sequence[Path], trusted: Sequence[PublicKey], allow_unsigned: bool
) -> Iterator[tuple[BundleSet, ...]]:
    """The bundles at ``paths``, files and folders, while the block lasts.

    Raises ``VerificationError`` for one whose list no trusted key has signed, ``NotFoundError``.
    """
    from edgepack.bundle.blobs import BundleBlobs, sets
    from edgepack.bundle.media import find_media

    media = find_media(paths, trusted, allow_unsigned=allow_unsigned)
    for error in media.bad.values():
        raise _named(error)
    files = [*media.bundles, *(path for one in media.parts for copies in one.files.values() for path in copies[:1])]
    with ExitStack() as stack:
        try:
            found = [stack.enter_context(BundleBlobs(path, trusted, allow_unsigned=allow_unsigned)) for path in files]
        except FileNotFoundError as error:
            raise NotFoundError("there is no such bundle", where=error.filename, hint="check the path") from None
        except UntrustedKeyError as error:
            raise _named(error) from error
        yield sets(found)


def _named(error: Exception) -> Exception:
    """The refusal of what an unknown key has signed, with the option that trusts a key."""
    if isinstance(error, UntrustedKeyError):
        return UntrustedKeyError(error.what, where=error.where, hint="if you know its owner, give --trust KEY.pub")
    return error
