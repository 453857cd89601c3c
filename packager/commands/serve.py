"""``edgepack serve``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Number
from edgepack.host.console import answer
from edgepack.host.scratch import scratch_folder
from edgepack.names import ModelRef
from packager.bars import bars
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("serve")
@click.argument("models", nargs=-1, metavar="[MODEL[:VERSION]]...")
@click.option("--entry-script", metavar="FILE", help="A score.py with init() and run(), which opens the models.")
@click.option(
    "--source-directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="The folder of the script's imports; --entry-script is relative to it.",
)  # fmt: skip
@click.option("--port", type=Number(1, 65535, kind=int), help="Where it answers.  [default: 5001, or a free port]")
@common
def command(
    models: tuple[str, ...],
    entry_script: str | None,
    source_directory: Path | None,
    port: int | None,
    workspace: Workspace,
    output: str,
) -> int:
    """Serve models in this terminal until Ctrl-C; no image is built.

    This Python serves them: a script imports what is installed here, and is run where it is.
    """
    from packager.services.service import Source
    from packager.services.serving import check_server, prepare, serve, usable_port

    if source_directory is not None and entry_script is None:
        raise UsageError("is given without a script", where="--source-directory", hint="name one by --entry-script")
    if not models and entry_script is None:
        raise UsageError("has nothing to serve", where="edgepack serve", hint="name a model, such as churn:4")
    source = None
    if entry_script is not None:
        given = Path(entry_script)
        source = (
            Source(given.name, str(given.absolute().parent))
            if source_directory is None
            else Source(entry_script, str(source_directory.absolute()))
        )
    check_server(has_script=source is not None)
    number = usable_port(port)

    def ready() -> None:
        address = f"http://127.0.0.1:{number}"
        found = {"score": f"{address}/score", "docs": f"{address}/docs"}
        answer(output, found, [found])

    with scratch_folder("serve") as folder:
        with bars() as progress:
            refs = [ModelRef.parse(one) for one in models]
            config = prepare(workspace, refs, source, folder, progress)
        return serve(config, models[0].partition(":")[0] if models else Path(entry_script or "").stem, number, ready)
