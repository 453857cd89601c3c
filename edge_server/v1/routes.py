"""The paths below /v1: which models there are, whether one is available, and ``:predict``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import orjson

from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import Answer, Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.models.served import Models
from edge_server.service import Service

if TYPE_CHECKING:
    from edge_server.models.running.call import ModelCall
    from edge_server.models.running.onnx_model import OnnxModel

_MODELS = "/v1/models/"
# A model's name may have a colon; that of the action is the last.
_TARGET = re.compile(r"(?P<name>[^/:][^/]*?)(?:/versions/(?P<version>[^/:]+))?(?P<action>:[a-z]+)?")


def routes(service: Service, config: ServiceConfig, is_ready: Callable[[], bool]) -> Routes:
    """The routes below /v1, all guarded. An entry script has none: its bodies are its own."""
    if config.script is not None:
        return Routes()
    models = _V1(cast(Models, service), is_ready)
    names = list(dict.fromkeys(place.name for place in config.models))
    listed = orjson.dumps({"models": names})
    index = Route("/v1/models", {"GET": lambda _: Response(200, listed)}, write_problem=_problem)
    return Routes({"/v1/models": index}, {_MODELS: models.below})


class _V1:
    def __init__(self, service: Models, is_ready: Callable[[], bool]) -> None:
        self._service = service
        self._catalog = service.catalog
        self._is_ready = is_ready
        # Names of the paths in metrics, chosen by the path's parts after the route table's prefix: whether it names a
        # version, and the action.
        self._by_parts = {
            (versioned, action): Route(
                f"/v1/models/{{name}}{part}{action}", handlers, cors=True, write_problem=_problem
            )
            for versioned, part in ((False, ""), (True, "/versions/{version}"))
            for action, handlers in (("", {"GET": self._get}), (":predict", {"POST": self._post}))
        }
        both = {"GET": self._get, "POST": self._post}
        self.below = Route("/v1/models/{name}", both, cors=True, write_problem=_problem, unpacks=True)

    def _get(self, request: Request) -> Response:
        """Whether a model is available: KServe's ``ready``, and the states of TensorFlow Serving."""
        name, version = self._target(request, "")
        place = self._catalog.find(name, version)
        versions = [version] if version is not None else list(self._catalog.directory.versions(name))
        found = [(one, self._available(self._catalog.find(name, one))) for one in versions]
        states = [
            {
                "version": str(one),
                "state": "AVAILABLE" if good else "END",
                "status": {"error_code": "OK" if good else "UNAVAILABLE", "error_message": ""},
            }
            for one, good in found
        ]
        good = self._available(place)
        return Response(200, orjson.dumps({"name": name, "ready": good, "model_version_status": states}))

    def _available(self, place: ModelPlace) -> bool:
        return self._is_ready() and self._catalog.available(place)

    def _post(self, request: Request) -> Answer:
        name, version = self._target(request, ":predict")
        body = request.body

        def read(model: OnnxModel) -> ModelCall:
            from edge_server.v1.predict import call

            return call(model, body)

        return self._service.infer(name, version, read, size=len(body), request_id=request.request_id)

    def _target(self, request: Request, wanted: str) -> tuple[str, int | None]:
        """The model and version that the path names.

        Raises BadRequest: 404 for an unknown path or model, 405 for a method that it does not have.
        """
        found = _TARGET.fullmatch(request.path[len(_MODELS) :])
        if found is None or (found["action"] or "") not in ("", ":predict"):
            raise BadRequest(f"there is nothing at {request.path[:200]}; of V1 there is :predict only", 404)
        name, action = found["name"], found["action"] or ""
        versioned = found["version"] is not None
        request.route = self._by_parts[versioned, action]
        if action != wanted:
            allowed = "OPTIONS, POST" if action else "GET, HEAD, OPTIONS"
            text = f"{request.path[:200]} takes {allowed}, not {request.method}"
            raise BadRequest(text, 405, [(b"allow", allowed.encode())])
        text = found["version"]
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadRequest(f"there is no version {text[:80]!r} of the model {name[:80]!r}; versions are numbers", 404)
        return name, None if text is None else int(text)


def _problem(text: str) -> bytes:
    return orjson.dumps({"error": text})
