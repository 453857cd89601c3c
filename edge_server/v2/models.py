"""The paths below /v2/models/: what a model takes and answers, whether it is ready, and inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from edge_server.config.values import ModelPlace
from edge_server.errors import BadRequest
from edge_server.http.encoding import plain
from edge_server.http.messages import Answer, Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.models.served import Models
from edge_server.v2 import errors
from edge_server.v2.calls import call, configuration
from edge_server.v2.calls import describe as metadata
from edge_server.v2.inference import Inference, parse, raw

if TYPE_CHECKING:
    from edge_server.models.running.call import ModelCall
    from edge_server.models.running.onnx_model import OnnxModel

_MOST_TARGETS = 1024
_MODELS = "/v2/models/"

_Describe = Callable[["OnnxModel", str, Sequence[int]], dict[str, Any]]


class ModelRoutes:
    """Answers for the models of ``service``; ``limit`` is the largest body in bytes, also when it was compressed."""

    def __init__(self, service: Models, limit: int, is_ready: Callable[[], bool]) -> None:
        self._service = service
        self._catalog = service.catalog
        self._limit = limit
        self._is_ready = is_ready
        self._targets: dict[tuple[str, str], tuple[Route, ModelPlace, str]] = {}
        # Names of the paths in metrics; chosen by the path's parts, after the route table's prefix.
        self._by_parts = {
            (versioned, action): Route(
                "/v2/models/{name}" + ("/versions/{version}" if versioned else "") + (action and f"/{action}"),
                {"POST": self.post} if action == "infer" else {"GET": self.get},
                cors=True,
                write_problem=errors.body,
            )
            for versioned in (False, True)
            for action in ("", "ready", "infer", "config", "stats")
        }

    def routes(self) -> Routes:
        """The routes for the route table."""
        index = Route("/v2/repository/index", {"POST": self.index}, write_problem=errors.body)
        below = Route("/v2/models/{name}", {"GET": self.get, "POST": self.post}, cors=True, write_problem=errors.body)
        return Routes({"/v2/repository/index": index}, {_MODELS: below})

    def get(self, request: Request) -> Answer:
        """GET of a model's metadata or configuration, or of whether it is ready."""
        place, action = self._target(request)
        if action == "ready":
            # One that is not in memory is ready as well: its first request loads it.
            good = self._is_ready() and self._catalog.available(place)
            return Response(200 if good else 503, orjson.dumps({"name": place.name, "ready": good}))
        if action == "stats":
            raise BadRequest(
                "this server has no statistics of V2; /metrics has the runs, rows and times of models", 404
            )
        describe = configuration if action == "config" else metadata
        loaded = self._catalog.loaded(place)
        if loaded is None:
            return self._load_and_describe(place, describe)
        return self._description(loaded.model, place, describe)

    def post(self, request: Request) -> Answer:
        """POST of an inference."""
        place, _ = self._target(request)
        encoding = header_length = None
        for header, value in request.headers:
            if header == b"inference-header-content-length":
                if header_length is not None:
                    raise BadRequest("the header Inference-Header-Content-Length comes twice")
                header_length = value
            elif header == b"content-encoding":
                encoding = value

        def read(model: OnnxModel) -> ModelCall:
            body = request.body if encoding is None else plain(request.body, encoding, self._limit)
            return call(model, place, parse(body, header_length) or _raw(body, model))

        # A small body may unpack to a large one, which must not block the event loop.
        size = len(request.body) if encoding is None else self._limit
        return self._service.infer(place.name, place.version, read, size=size, request_id=request.request_id)

    def index(self, request: Request) -> Response:
        """POST for the list of models (the index of Triton's "Model Repository Extension")."""
        serving = self._is_ready()
        states = {True: "READY", False: "UNAVAILABLE"}
        entries = [
            {
                "name": place.name,
                "version": str(place.version),
                "state": states[serving and self._catalog.available(place)],
                "reason": "",
            }
            for place in self._catalog.places
        ]
        return Response(200, orjson.dumps(entries))

    def _target(self, request: Request) -> tuple[ModelPlace, str]:
        """What the path names: a model, and ``""`` or what of it: ``ready``, ``infer``, ``config``, ``stats``.

        Raises BadRequest: 404 for an unknown path, 405 for a method that it does not have.
        """
        known = self._targets.get((request.method, request.path))
        if known is not None:
            request.route, place, action = known
            return place, action
        name, *rest = request.path[len(_MODELS) :].split("/")
        version = None
        if len(rest) > 1 and rest[0] == "versions":
            version = rest[1]
            del rest[:2]
        action = rest[0] if rest else ""
        route = self._by_parts.get((version is not None, action))
        if route is None or len(rest) > 1 or rest == [""] or not name:
            raise BadRequest(f"there is nothing at {request.path[:200]}", 404)
        request.route = route
        if (request.method == "POST") != (action == "infer"):
            allowed = "OPTIONS, POST" if action == "infer" else "GET, HEAD, OPTIONS"
            text = f"{request.path[:200]} takes {allowed}, not {request.method}"
            raise BadRequest(text, 405, [(b"allow", allowed.encode())])
        place = self._catalog.find(name, None if version is None else _version(name, version))
        # Only paths that name a model are cached; a version may be written in many ways.
        if len(self._targets) >= _MOST_TARGETS:
            self._targets.clear()
        self._targets[request.method, request.path] = (route, place, action)
        return place, action

    async def _load_and_describe(self, place: ModelPlace, describe: _Describe) -> Response:
        return self._description((await self._catalog.load(place)).model, place, describe)

    def _description(self, model: OnnxModel, place: ModelPlace, describe: _Describe) -> Response:
        return Response(200, orjson.dumps(describe(model, place.name, self._catalog.directory.versions(place.name))))


def _raw(body: bytes, model: OnnxModel) -> Inference:
    spec = model.only_input
    if spec is None:
        raise BadRequest("Inference-Header-Content-Length is 0, and the model has several inputs, which JSON must name")
    return raw(body, spec)


def _version(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise BadRequest(f"there is no version {text[:80]!r} of the model {name[:80]!r}; versions are numbers", 404)
