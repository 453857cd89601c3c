"""Write the reference pages that are generated: ``docs/reference/cli.md``. A test fails when they have drifted."""

from __future__ import annotations

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent


def cli_page() -> str:
    """Every command with its help text."""
    from edge_agent.commands import cli as agent
    from packager.commands.main import build_cli

    parts = [
        "# Commands\n",
        "Generated from the help texts by `scripts/reference.py`.\n",
        "Every flag is an `EDGEPACK_…` variable too, such as `EDGEPACK_PACKAGE_BUILD_TAG`.\n",
    ]
    for command, name in ((build_cli(), "edgepack"), (agent, "edge-agent")):
        parts += _pages(command, click.Context(command, info_name=name), name)
    return "\n".join(parts)


def _pages(command: click.Command, context: click.Context, name: str) -> list[str]:
    context.terminal_width = 100
    depth = "#" * min(4, 1 + len(name.split()))
    parts = [f"{depth} {name}\n", f"```\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            child = command.get_command(context, verb)
            if child is not None:
                parts += _pages(child, click.Context(child, info_name=verb, parent=context), f"{name} {verb}")
    return parts


def main() -> None:
    """Write the pages."""
    target = ROOT / "docs" / "reference"
    target.mkdir(parents=True, exist_ok=True)
    (target / "cli.md").write_text(cli_page())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
