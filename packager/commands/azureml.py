"""``edgepack azureml``"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from pathlib import Path
from types import TracebackType

import click

from edgepack.errors import EdgepackError, NotFoundError
from edgepack.host.commands import debug_option
from edgepack.host.console import note


@click.command("azureml", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--workspace",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="EDGEPACK_WORKSPACE",
    help="Folder of the workspace that Workspace() is.  [default: the user's data folder]",
)
@debug_option
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(workspace: Path | None, script: Path, arguments: tuple[str, ...]) -> None:
    """Run a script written for Azure's SDK, with no line of it changed.

    Imports of azureml are edgepack's own classes in this process: workspaces, models, runs and environments of this
    machine. What exists only in Azure is refused by its name.
    """
    from packager.sdk import azureml_names

    if not script.is_file():
        raise NotFoundError("there is no such script", where=script, hint="check its path")
    if workspace is not None:
        os.environ["EDGEPACK_WORKSPACE"] = str(workspace)
    azureml_names.install()
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent.absolute()))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except EdgepackError as error:
        note(f"in {script}, line {_line(error, script)}:")
        raise
    except Exception as error:  # noqa: BLE001 - of a user's program, which gets the traceback that Python shows
        error.__traceback__ = _own_frames(error.__traceback__, script)
        traceback.print_exception(error)
        raise click.exceptions.Exit(1) from None


def _own_frames(frames: TracebackType | None, script: Path) -> TracebackType | None:
    """The frames from the script on, without those that ran it."""
    found = frames
    while found is not None and found.tb_frame.f_code.co_filename != str(script):
        found = found.tb_next
    return found


def _line(error: BaseException, script: Path) -> int | str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(script)]
    return (lines[-1] if lines else None) or "?"
