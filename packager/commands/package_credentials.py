"""``edgepack package credentials``"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.errors import AuthenticationError, MissingPartError, NotFoundError
from edgepack.hidden import MASK
from edgepack.host.console import answer, note
from packager.commands.options import common, offline, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.registries.issue import RegistryLogin


@click.command("credentials")
@click.option("--registry", metavar="HOST[/REPOSITORY]", help="A registry, or one of its repositories.  [default: all]")
@click.option("--show-password", is_flag=True, help="Show passwords and tokens.")
@click.option(
    "--write-docker-config", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write them to DIR/config.json, mode 0600, for DOCKER_CONFIG=DIR.",
)  # fmt: skip
@click.option("--no-pull-token", is_flag=True, help="Give the login itself, also where the registry gives pull tokens.")
@offline
@registries
@common
def command(
    registry: str | None,
    show_password: bool,
    folder: Path | None,
    no_pull_token: bool,
    offline: bool,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Show how to log in to a registry: address, user, password (hidden unless asked), where it is from.

    With --registry the registry is asked for a token that only pulls and soon expires: for the repository that is
    named, or for those that the images of the workspace name there. Without, what is known is listed and nobody is
    asked.
    """
    from packager.registries.docker_folder import write_docker_config
    from packager.registries.issue import Registry, login_for

    if registry is not None:
        images = workspace.store.tags() if workspace.exists else ()
        logins = [login_for(Registry.parse(registry, images), access, offline=offline, token=not no_pull_token)]
    else:
        logins = list(_known(access, workspace))
        if not logins:
            hint = "run docker login HOST, or give --registry-credentials FILE"
            raise NotFoundError("no login to a registry is known", hint=hint)
    value: dict[str, Any] = {"logins": [_json(login, show_password) for login in logins]}
    if folder is not None:
        path, kept = write_docker_config(folder, logins)
        value["docker_config"] = str(path)
    answer(output, value, [_row(login, show_password) for login in logins])
    if folder is not None:
        beside = ", beside the other logins there" if kept else ""
        note(f"written to {path}{beside}; use it with DOCKER_CONFIG={shlex.quote(str(folder.absolute()))}")
    elif any(login.token is not None for login in logins):
        note("docker login takes no pull token: --write-docker-config DIR has it for Docker, --no-pull-token the login")


def _known(access: Access, workspace: Workspace) -> Iterator[RegistryLogin]:
    from packager.registries.issue import Registry, login_for

    team = workspace.config.team if workspace.exists else None
    ours = [] if team is None else [team.repository("x").registry]
    for address in dict.fromkeys([*ours, *access.logins.registries()]):
        try:
            yield login_for(Registry(address), access)
        except NotFoundError:
            continue  # a helper that knows no such registry
        except (AuthenticationError, MissingPartError) as error:
            note(f"going on without {address}: {error}")


def _json(login: RegistryLogin, show: bool) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "registry": login.address,
        "username": login.username,
        "password": str(login.secret) if show else None,
        "kind": login.kind,
        "scopes": [] if login.token is None else list(login.token.scopes),
        "source": login.source,
        "expires": None if login.expires is None else login.expires.isoformat(timespec="seconds"),
        "expires_in": None if login.expires is None else max(0, round((login.expires - now).total_seconds())),
    }


def _row(login: RegistryLogin, show: bool) -> dict[str, Any]:
    return {
        "registry": login.address,
        "username": login.username,
        "password": str(login.secret) if show else MASK,
        "kind": login.kind,
        "expires": None if login.expires is None else login.expires.isoformat(sep=" ", timespec="seconds"),
        "from": login.source,
    }
