"""What commands about the keys of services and endpoints take and print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgepack.errors import UsageError
from edgepack.hidden import HiddenText
from edgepack.host.console import answer
from packager.commands.options import read_password

if TYPE_CHECKING:
    from packager.services.credentials.keys import ServiceKeys


def new_key_of(regenerate: str | None, *, is_given: bool) -> HiddenText | None:
    """The key of the user's own that standard input has where it ``is_given``, in place of ``regenerate``."""
    from packager.services.credentials.keys import given_key

    if not is_given:
        return None
    if regenerate is None:
        raise UsageError("is given without a key to replace", where="--stdin", hint="add --regenerate primary")
    return given_key(read_password(), "standard input")


def answer_keys(output: str, found: ServiceKeys) -> None:
    """Print both keys."""
    value = {"primary": str(found.primary), "secondary": str(found.secondary)}
    if output == "json":
        answer(output, value, [])
    else:  # not as a table: a line is cut nowhere, and `awk` finds the key
        click.echo("".join(f"{which:9}  {key}\n" for which, key in value.items()), nl=False)
