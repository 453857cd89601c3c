"""The paths below /v2: the Open Inference Protocol over REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, cast

import orjson

from edge_server.config.values import ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import Request, Response, Route
from edge_server.http.routing import Routes
from edge_server.service import Service
from edge_server.v2 import errors

# Triton's names of them.
_EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration"]


def routes(service: Service, config: ServiceConfig, is_ready: Callable[[], bool]) -> Routes:
    """The routes below /v2; with an entry script, only health and the server's own description. Health needs no key,
    the rest is guarded. Every path below /v2 has a route, so that every error there follows V2's schema.
    """
    known = {"name": config.identity.name, "version": config.identity.version}
    described = orjson.dumps({**known, "extensions": [] if config.script else _EXTENSIONS})

    def metadata(request: Request) -> Response:
        return Response(200, described)

    def live(request: Request) -> Response:
        return Response(200, b'{"live":true}')

    def ready(request: Request) -> Response:
        # The status is the answer; the protocol's object has "live" here too, though it means "ready".
        good = is_ready()
        return Response(200 if good else 503, orjson.dumps({"live": True, "ready": good}))

    server = Route("/v2", {"GET": metadata}, write_problem=errors.body)
    own = Routes(
        {
            "/v2": server,
            "/v2/": server,  # so the protocol's OpenAPI document writes it
            "/v2/health/live": Route("/v2/health/live", {"GET": live}, guarded=False, write_problem=errors.body),
            "/v2/health/ready": Route("/v2/health/ready", {"GET": ready}, guarded=False, write_problem=errors.body),
        }
    )
    names = [config.identity.name] if config.script else list(dict.fromkeys(place.name for place in config.models))
    listed = orjson.dumps({"models": names})
    own |= Routes(
        {"/v2/models": Route("/v2/models", {"GET": lambda _: Response(200, listed)}, write_problem=errors.body)}
    )
    others = Routes({}, {"/v2/": Route("/v2/{path}", {"GET": _nothing, "POST": _nothing}, write_problem=errors.body)})
    if config.script is not None:
        return own | _script(config, is_ready) | others
    # Imported here: it needs numpy, which an image with an entry script may lack.
    from edge_server.models.served import Models
    from edge_server.v2.models import ModelRoutes

    return own | ModelRoutes(cast(Models, service), config.limits.body_bytes, is_ready).routes() | others


def _script(config: ServiceConfig, is_ready: Callable[[], bool]) -> Routes:
    """A script as a model of the service's name: whether it is ready, and that it is asked elsewhere."""
    name = config.identity.name
    described = orjson.dumps({"name": name, "versions": [], "platform": "python", "inputs": [], "outputs": []})

    def ready(request: Request) -> Response:
        good = is_ready()
        return Response(200 if good else 503, orjson.dumps({"name": name, "ready": good}))

    def infer(request: Request) -> NoReturn:
        raise BadRequest("an entry script takes no tensors of V2; send its input to /score", 404)

    base = f"/v2/models/{name}"
    return Routes(
        {
            base: Route("/v2/models/{name}", {"GET": lambda _: Response(200, described)}, write_problem=errors.body),
            f"{base}/ready": Route("/v2/models/{name}/ready", {"GET": ready}, write_problem=errors.body),
            f"{base}/infer": Route("/v2/models/{name}/infer", {"POST": infer}, write_problem=errors.body),
        }
    )


def _nothing(request: Request) -> NoReturn:
    raise BadRequest(f"there is nothing at {request.path[:200]}", 404)
