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

# Other names of the versions, which the specification's server accepts too.
_SHORT = {"2.0": "2", "3.0": "3"}

# Stands for the version where a request names none.
_USUAL = "usual"
# Files that are looked for, and what version each must be; None is any.
_FILES = {"swagger.json": None, "swagger2.json": "2", "swagger3.json": "3", "swagger3.1.json": "3.1"}

_log = logging.getLogger(__name__)


def routes(service: Service, config: ServiceConfig) -> Routes:
    """The two routes, which need no key: clients need a description before they can call, and the contract asks for no
    key. Raises ConfigurationError or MissingFileError when the user's own document, which takes precedence, is invalid.
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
        self._own = {version: orjson.dumps(written, option=orjson.OPT_INDENT_2) for version, written in own.items()}
        # Made from a description, and cached until it changes.
        self._made_of: Description | None = None
        self._made: dict[str, bytes] = {}

    async def swagger(self, request: Request) -> Response:
        """The document of ``?version=``, or of the one model of ``?model=``; 404 for an unknown version or model."""
        version = _query_value(request.query, "version")
        version = _USUAL if version is None else _SHORT.get(version, version)
        model = _query_value(request.query, "model")
        if version in self._own and model is None:
            return Response(200, self._own[version])
        # Rarely requested, so the modules that make documents are imported here.
        from edge_server.openapi.documents import VERSIONS

        version = "2" if version == _USUAL else version
        if version not in VERSIONS:
            raise BadRequest(
                f"there is no swagger.json of version {version[:40]!r}; there are {', '.join(VERSIONS)}", 404
            )
        # In a thread: the first description may have to read the models.
        return Response(200, await asyncio.to_thread(self._document, version, model))

    async def page(self, request: Request) -> Response:
        """The page; of the model of ``?model=`` where there are several."""
        from edge_server.openapi.page import page

        description = await asyncio.to_thread(self._service.describe)
        return page(description, self._config, _query_value(request.query, "model"))

    def _document(self, version: str, model: str | None) -> bytes:
        from edge_server.openapi.documents import document

        description = self._service.describe()
        if model is not None:
            described = document(_of_model(description, model, self._config), self._config, version, model)
            return orjson.dumps(described, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        if description != self._made_of:
            self._made_of, self._made = description, {}
        made = self._made.get(version)
        if made is None:
            written = document(description, self._config, version)
            made = self._made[version] = orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        return made


def _of_model(description: Description, name: str, config: ServiceConfig) -> Description:
    """The description of one model; BadRequest 404 where there is none of that name."""
    found = description.models.get(name)
    names = [place.name for place in config.models] if config.script is None else []
    if found is None and not description.models and name in names:
        found = description
    if found is None:
        shown = ", ".join(map(repr, list(dict.fromkeys(names))[:20])) or "none, but an entry script"
        raise BadRequest(f"there is no model {name[:80]!r}; there are {shown}", 404)
    return found


def _own(config: ServiceConfig) -> dict[str, Mapping[str, Any]]:
    """The user's own documents by version, and the default one.

    The one that is named; or swagger.json, swagger2.json and so on beside the entry script or in the root, of which
    swagger.json is the usual one.
    """
    if config.identity.swagger is not None:
        return _usual(_read(config.identity.swagger))
    folders = [] if config.script is None else [config.script.file.parent, config.script.folder]
    found: dict[str, Mapping[str, Any]] = {}
    for folder in dict.fromkeys((*folders, config.root)):
        for file, version in _FILES.items():
            path = folder / file
            if not path.is_file():
                continue
            try:
                document = _read(path, version)
            except ConfigurationError as error:
                # It was not named in the configuration, so it does not stop the service.
                _log.warning("a description is made instead of the file's: %s", error)
                continue
            of_its_own = _usual(document) if version is None else {version: document}
            found = {**of_its_own, **found}
    if "2" in found:
        found.setdefault(_USUAL, found["2"])
    return found


def _usual(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(_version_of(document)): document, _USUAL: document}


def _read(path: Path, wanted: str | None = None) -> Mapping[str, Any]:
    fields = read_document(path, "swagger document", None)
    version = _version_of(fields.values)
    if version is None:
        fields.add_violation("swagger", "must be '2.0', or openapi a version that begins with 3.0 or 3.1")
    elif wanted not in (None, version):
        fields.add_violation(
            "swagger" if version == "2" else "openapi", f"must be version {wanted} in a file of its name"
        )
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
