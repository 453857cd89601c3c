"""Calls of a service in the languages that its callers write, which work when they are pasted.

A key or token comes from an environment variable: it is never in what is shown, pasted, or kept in a shell's history.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from edgepack.errors import EdgepackError
from packager.services.configuration.values import Auth
from packager.services.service import Service

VARIABLES: Mapping[Auth, str | None] = {Auth.NONE: None, Auth.KEY: "SERVICE_KEY", Auth.TOKEN: "SERVICE_TOKEN"}
_NO_EXAMPLE = {"data": []}  # type: ignore[var-annotated]


def example(language: str, service: Service, address: str | None, body: Any) -> str:
    """A call of ``service`` at ``address`` with ``body`` in ``curl``, ``python`` or ``javascript``.

    Raises ``EdgepackError`` where its address is not known.
    """
    if address is None:
        raise EdgepackError(
            "has no address that is known here", where=f"service {service.name}", hint="see: edgepack service show"
        )
    return _LANGUAGES[language](address, json.dumps(body or _NO_EXAMPLE), VARIABLES[service.auth])


def _curl(address: str, body: str, variable: str | None) -> str:
    lines = [f"curl {shlex.quote(address)}", "-H 'Content-Type: application/json'"]
    if variable is not None:
        lines.append(f'-H "Authorization: Bearer ${variable}"')
    return " \\\n  ".join([*lines, f"-d {shlex.quote(body)}"]) + "\n"


def _python(address: str, body: str, variable: str | None) -> str:
    headers = ['"Content-Type": "application/json"']
    if variable is not None:
        headers.append(f'"Authorization": "Bearer " + os.environ["{variable}"]')
    return (
        ("import os\n" if variable is not None else "")
        + "import urllib.request\n\n"
        + f"body = {body!r}\n"
        + f"headers = {{{', '.join(headers)}}}\n"
        + f"request = urllib.request.Request({address!r}, body.encode(), headers)\n"
        + "print(urllib.request.urlopen(request).read().decode())\n"
    )


def _javascript(address: str, body: str, variable: str | None) -> str:
    headers = ['"Content-Type": "application/json"']
    if variable is not None:
        headers.append(f'"Authorization": "Bearer " + process.env.{variable}')
    return (
        f"fetch({json.dumps(address)}, {{\n"
        '  method: "POST",\n'
        f"  headers: {{{', '.join(headers)}}},\n"
        f"  body: JSON.stringify({body}),\n"
        "}).then((answer) => answer.text()).then((text) => console.log(text));\n"  # one line, which a prompt takes
    )


_LANGUAGES: Mapping[str, Callable[[str, str, str | None], str]] = {
    "curl": _curl,
    "python": _python,
    "javascript": _javascript,
}
