"""What both commands are made of: groups that import a verb when it is called, and the options that every verb has."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click

debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    envvar="EDGEPACK_OUTPUT",
    help="How to print the answer; JSON is the stable interface.",
)


class LazyGroup(click.Group):
    """A group that knows the names and help lines of its verbs, and imports a verb's module when it is called.

    ``verbs`` has the line that the group's help shows for each verb. A verb is the object ``command`` of the module
    whose name is ``modules`` and the verb's; a verb that is a keyword of Python has an underscore at its end there.
    """

    def __init__(self, name: str | None = None, *, verbs: Mapping[str, str], modules: str, **settings: Any) -> None:
        super().__init__(name, no_args_is_help=True, **settings)
        self._verbs = verbs
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table, then the groups below this one."""
        return [*self._verbs, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self._verbs:
            return super().get_command(ctx, cmd_name)
        suffix = "_" if keyword.iskeyword(cmd_name) else ""
        command = importlib.import_module(f"{self._modules}{cmd_name}{suffix}").command
        assert isinstance(command, click.Command)  # noqa: S101
        command.short_help = self._verbs[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        lines = {name: command.get_short_help_str() for name, command in self.commands.items()} | dict(self._verbs)
        with formatter.section("Commands"):
            formatter.write_dl([(name, lines[name]) for name in self.list_commands(ctx)])
