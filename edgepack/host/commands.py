"""What both commands are made of: groups that import a verb when it is called, and the options that every verb has."""

from __future__ import annotations

import importlib
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from edgepack.host.console import UnknownWordError
from edgepack.nearness import did_you_mean

_F = TypeVar("_F", bound=Callable[..., Any])
# Habits of other programs: with these, every command shows its help.
SETTINGS: Mapping[str, Any] = {"help_option_names": ["-h", "--help"]}
_HELP = "help"


class Choice(click.Choice):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.2
    """One of a few words, whatever its capitals; the error for another one names the nearest."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word."""
        words = [str(word) for word in self.choices]
        if str(value).lower() not in words:
            name = param.opts[-1] if param is not None else "the value"
            what = f"{name}: {value!r} is not one of {', '.join(map(repr, words))}"
            raise UnknownWordError(what, did_you_mean(str(value), words), ctx)
        return super().convert(value, param, ctx)


class Number(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # as above
    """A number, whole or not, from ``least`` to ``most``; the error for anything else says what it must be."""

    name = "number"

    def __init__(
        self, least: float, most: float = math.inf, *, kind: Callable[[str], float] = float, above: bool = False
    ) -> None:
        self._least, self._most, self._kind, self._above = least, most, kind, above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            number = self._kind(value)
        except ValueError:
            number = math.nan
        if self._least <= number <= self._most and not (self._above and number == self._least):
            return number
        kind = "a whole number" if self._kind is int else "a number"
        least, most = (str(end) if abs(end) >= 1e6 else f"{end:g}" for end in (self._least, self._most))
        limits = f"from {least} to {most}" if self._most < math.inf else f"of at least {least}"
        if self._above:
            limits = f"above {least}"
        name = param.opts[-1] if param is not None else "the value"
        raise UnknownWordError(f"{name} must be {kind} {limits}, not {value!r}", "", ctx)


class StreamOrPath(click.Path):
    """A path; ``-`` is a standard stream, which is a path too, so that no file is written by that name."""

    def __init__(self, stream: Path, **settings: Any) -> None:
        super().__init__(path_type=Path, **settings)
        self._stream = stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        return self._stream if value == "-" else super().convert(value, param, ctx)


# A file to read, and a file to write.
INPUT = StreamOrPath(Path("/dev/stdin"))
OUTPUT = StreamOrPath(Path("/dev/stdout"), dir_okay=False)


@dataclass(frozen=True)
class SharedOption:
    """An option of verbs that their groups have too: it may be given before the verb and after it.

    The one that is given nearest to the verb counts. ``finish`` makes what the command gets of the value.
    """

    name: str
    settings: Mapping[str, Any]
    finish: Callable[[Any], Any] | None = None

    def __call__(self, function: _F) -> _F:
        """Add it to a verb."""
        return click.option(self.name, callback=self._value, **self.settings)(function)

    def of_group(self, *, hidden: bool = True) -> click.Option:
        """The same option for a group, whose help shows it unless it is ``hidden``."""
        return click.Option([self.name], **{**self.settings, "expose_value": True, "hidden": hidden})

    def finished_by(self, finish: Callable[[Any], Any]) -> SharedOption:
        """The same option with another ``finish``."""
        return replace(self, finish=finish)

    def _value(self, context: click.Context, param: click.Parameter, value: Any) -> Any:
        name = str(param.name)
        outer: click.Context | None = context
        while outer is not None:
            if outer.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                value = value if outer is context else outer.params[name]
                break
            outer = outer.parent
        return value if self.finish is None else self.finish(value)


debug_option = SharedOption(
    "--debug", {"is_flag": True, "expose_value": False, "help": "Show a traceback with an error."}
)
output_option = SharedOption(
    "--output",
    {
        "type": Choice(["table", "json"]),
        "default": "table",
        "envvar": "EDGEPACK_OUTPUT",
        "help": "How to print the answer; JSON is the stable interface.",
    },
)


class LazyGroup(click.Group):
    """A group that knows the names and help lines of its verbs, and imports a verb's module when it is called.

    ``verbs`` has the line that the group's help shows for each verb. A verb is the object ``command`` of the module
    whose name is ``modules`` and the verb's, with ``_`` for ``-``; a verb that is a keyword of Python has an underscore
    at its end there.
    ``help VERB`` is ``VERB --help``. ``options`` are those that verbs share; ``--output``
    and ``--debug`` are always among them.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        verbs: Mapping[str, str],
        modules: str,
        options: Sequence[click.Option],
        **settings: Any,
    ) -> None:
        super().__init__(name, no_args_is_help=True, context_settings=dict(SETTINGS), **settings)
        self._verbs = verbs
        self._modules = modules
        given = {option.name for option in options}
        usual = (output_option.of_group(), debug_option.of_group())
        self.params += [*options, *(option for option in usual if option.name not in given)]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table, then the groups below this one."""
        return [*self._verbs, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self._verbs:
            found = super().get_command(ctx, cmd_name)
            return self._help() if found is None and cmd_name == _HELP else found
        suffix = "_" if keyword.iskeyword(cmd_name) else ""
        command = importlib.import_module(f"{self._modules}{cmd_name.replace('-', '_')}{suffix}").command
        assert isinstance(command, click.Command)  # noqa: S101
        command.short_help = self._verbs[cmd_name]
        if ctx.auto_envvar_prefix is not None:  # in documentation there is none, and a command is made once
            _name_variables(command, f"{ctx.auto_envvar_prefix}_{cmd_name}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error about its options that does not know of which command it is gets that verb's."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            verb = ctx.invoked_subcommand
            command = None if error.ctx is not None or verb is None else self.get_command(ctx, verb)
            if command is not None:
                error.ctx = click.Context(command, info_name=verb, parent=ctx)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first of ``args`` names; raises ``UnknownWordError``, with the one that was meant."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            whole = " or ".join(repr(f"{noun} {name}") for noun in self._nouns_with(name))
            meant = f"did you mean {whole}?" if whole else did_you_mean(name, self.list_commands(ctx))
            raise UnknownWordError(f"no such command {name!r}", meant, ctx)
        return super().resolve_command(ctx, args)

    def _nouns_with(self, verb: str) -> list[str]:
        """The groups below this one that have a verb of that name."""
        groups = [one for one in self.commands.values() if isinstance(one, LazyGroup)]
        return [str(group.name) for group in groups if verb in group._verbs]

    def _help(self) -> click.Command:
        @click.command(_HELP, context_settings=dict(SETTINGS))
        @click.argument("words", nargs=-1, metavar="[COMMAND]...")
        @click.pass_context
        def show(context: click.Context, words: Sequence[str]) -> None:
            """Show the help of a command."""
            found: click.Command = self
            inner = context.parent
            for word in words:
                if inner is None or not isinstance(found, click.Group):
                    break
                name, command, _ = found.resolve_command(inner, [word])
                assert command is not None  # noqa: S101 - else it has raised
                found, inner = command, click.Context(command, info_name=name, parent=inner)
            if inner is not None:
                click.echo(found.get_help(inner))

        return show

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        lines = {name: command.get_short_help_str() for name, command in self.commands.items()} | dict(self._verbs)
        with formatter.section("Commands"):
            formatter.write_dl([(name, lines[name]) for name in self.list_commands(ctx)])


def _name_variables(command: click.Command, prefix: str) -> None:
    """Let an option's environment variable bear the option's own name, whatever the function calls its value."""
    for option in command.params:
        name = next((name for name in option.opts if name.startswith("--")), None)
        if isinstance(option, click.Option) and option.envvar is None and name is not None:
            option.envvar = f"{prefix}_{name.removeprefix('--')}".replace("-", "_").upper()
