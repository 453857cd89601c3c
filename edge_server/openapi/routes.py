"""GET /swagger.json and GET /docs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from edge_server.config.fields import read_document
from edge_server.config.values import ServiceConfig
from edge_server.errors import BadRequest, ConfigurationError
from edge_server.http.messages import Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.service import Description, Service

# Other words for the versions, which the specification's server takes too.
_SHORT = {"2.0": "2", "3.0": "3"}

_log = logging.getLogger(__name__)


def routes(service: Service, config: ServiceConfig) -> Routes:
    """The two routes, open to who has no key: a description tells how to ask, and the contract puts no key on it.

    Raises ConfigurationError or MissingFileError when the user's own document, which goes before ours, is none.
    """
    documents = _Documents(service, config)
    found = {"/swagger.json": Route("/swagger.json", {"GET": documents.swagger}, guarded=False, cors=True)}
    if config.docs:
        found["/docs"] = Route("/docs", {"GET": documents.page}, guarded=False)
    return Routes(found)


class _Documents:
    def __init__(self, service: Service, config: ServiceConfig) -> None:
        self._service = service
        self._config = config
        own = _own(config)
        self._own = None if own is None else orjson.dumps(own, option=orjson.OPT_INDENT_2)
        self._own_version = None if own is None else _version_of(own)
        # Made of a description, and kept until there is another.
        self._made_of: Description | None = None
        self._made: dict[str, bytes] = {}

    async def swagger(self, request: Request) -> Response:
        """The document of ``?version=``; 404 for a version that there is none of."""
        version = _query_value(request.query, "version")
        if self._own is not None and (version is None or _SHORT.get(version, version) == self._own_version):
            return Response(200, self._own)
        # Few ever ask: what makes documents is imported for them.
        from edge_server.openapi.documents import VERSIONS

        version = "2" if version is None else _SHORT.get(version, version)
        if version not in VERSIONS:
            raise BadRequest(
                f"there is no swagger.json of version {version[:40]!r}; there are {', '.join(VERSIONS)}", 404
            )
        # In a thread: the first one asks the models.
        return Response(200, await asyncio.to_thread(self._document, version))

    async def page(self, request: Request) -> Response:
        """The page; of the model of ``?model=`` where there are several."""
        from edge_server.openapi.page import page

        description = await asyncio.to_thread(self._service.describe)
        return page(description, self._config, _query_value(request.query, "model"))

    def _document(self, version: str) -> bytes:
        from edge_server.openapi.documents import document

        description = self._service.describe()
        if description != self._made_of:
            self._made_of, self._made = description, {}
        made = self._made.get(version)
        if made is None:
            written = document(description, self._config, version)
            made = self._made[version] = orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        return made


def _own(config: ServiceConfig) -> Mapping[str, Any] | None:
    """The user's own document: the one that is named, or swagger.json beside the entry script or in the root."""
    if config.identity.swagger is not None:
        return _read(config.identity.swagger)
    folders = [] if config.script is None else [config.script.file.parent, config.script.folder]
    for folder in (*folders, config.root):
        path = folder / "swagger.json"
        if not path.is_file():
            continue
        try:
            return _read(path)
        except ConfigurationError as error:
            # Nobody named it: the service is worth more than its description.
            _log.warning("a description is made instead of the file's: %s", error)
    return None


def _read(path: Path) -> Mapping[str, Any]:
    fields = read_document(path, "swagger document", None)
    if _version_of(fields.values) is None:
        fields.add_violation("swagger", "must be '2.0', or openapi a version that begins with 3.0 or 3.1")
    fields.finish()
    return fields.values


def _version_of(document: Mapping[str, Any]) -> str | None:
    version = str(document.get("openapi", ""))
    if version.startswith("3.1"):
        return "3.1"
    if version.startswith("3.0"):
        return "3"
    return "2" if document.get("swagger") == "2.0" else None


def _query_value(query: str, name: str) -> str | None:
    """The last value of a parameter of the query."""
    if not query:
        return None
    from urllib.parse import parse_qs

    values = parse_qs(query, keep_blank_values=True, max_num_fields=None).get(name)
    return values[-1] if values else None
