"""``edgepack key create``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT
from edgepack.host.console import answer
from packager.commands.options import creating
from packager.workspaces.passphrases import VARIABLE, new_passphrase, read_passphrase
from packager.workspaces.workspace import Workspace


@click.command("create")
@click.argument("given", metavar="[NAME]", required=False)
@click.option("-n", "--name", help="Name of the key.")
@click.option("--passphrase", is_flag=True, envvar=None, help="Ask on the terminal for a passphrase to keep it under.")
@click.option(
    "--passphrase-file", type=INPUT, metavar="FILE", envvar=VARIABLE,
    help="Keep it under the passphrase in this file, - for standard input.",
)  # fmt: skip
@creating
def command(
    given: str | None,
    name: str | None,
    passphrase: bool,
    passphrase_file: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Create an Ed25519 signing key, readable by its owner alone; devices trust its public half.

    What a key is kept under is asked for when it signs, or read from the file that EDGEPACK_KEY_PASSPHRASE_FILE names.
    """
    if given is not None and name not in (None, given):
        raise UsageError(f"the key has two names, {given} and {name}", hint="give one")
    if (name := given or name) is None:
        raise click.UsageError("Missing argument 'NAME'.")
    secret = None
    if passphrase_file is not None:
        secret = read_passphrase(passphrase_file)
    elif passphrase:
        if not sys.stdin.isatty():
            raise UsageError("needs a terminal", where="--passphrase", hint="give a file: --passphrase-file FILE")
        secret = new_passphrase()
    key = workspace.keys.create(name, secret)
    value = {"name": name, "key_id": key.id, "public": str(workspace.keys.public_path(name))}
    answer(output, value, [value])
