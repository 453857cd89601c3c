"""The service without code: finds the model of a request, loads it if needed, and has the batcher run it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from edge_server.config.sizes import SIZES
from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import Answer, Request, Response
from edge_server.models.catalog import Catalog
from edge_server.models.descriptions import Descriptions
from edge_server.models.running.batching import Batcher
from edge_server.models.running.call import MadeUpCall, ModelCall
from edge_server.models.running.run_queue import RunQueue
from edge_server.models.running.threads import threads_per_process
from edge_server.service import Description
from edge_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edge_server.collection.automatic import Collector
    from edge_server.models.loading import Opened
    from edge_server.models.running.onnx_model import OnnxModel

# Larger bodies are parsed in a thread.
_INLINE_BYTES = SIZES.inline_body
_EXPIRE_SECONDS = 0.5

_log = logging.getLogger(__name__)


class ModelService:
    """Serves ``config.models``."""

    methods = frozenset({"POST"})

    def __init__(self, config: ServiceConfig, metrics: Metrics, preloaded: Mapping[str, Opened] | None = None) -> None:
        self._config = config
        self._waiting = RunQueue(config.limits, metrics)
        self._threads = threads_per_process(config.runtime)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="score")
        self._collector = _collector(config)
        # Large bodies are parsed one after the other, while models run.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        # Also those of unloaded models, while they have calls.
        self._batchers: WeakSet[Batcher] = WeakSet()
        self._expiry: asyncio.TimerHandle | None = None
        self._only: Batcher | None = None
        self.catalog = Catalog(config, metrics, self._attach, preloaded)
        # Descriptions are readable without a key.
        self._descriptions = Descriptions(self.catalog, private=config.auth.mode != "none")

    async def start(self) -> None:
        """Load, check and warm the models; ScoringError when one cannot be served."""
        await self.catalog.start()
        self._only = self._find_only()
        self._expire(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Write the collected data, and end the threads."""
        if self._expiry is not None:
            self._expiry.cancel()
        for batcher in list(self._batchers):
            batcher.stop()
        for pool in (self._pool, self._reader):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._collector is not None:
            self._collector.close()

    def ready(self) -> bool:
        """Always True: models that are not loaded yet are loaded by their first request."""
        return True

    def score(self, request: Request) -> Answer:
        """Answer POST /score, or /score?model=NAME[:VERSION] where there are several."""
        only = self._only
        size = len(request.body)
        if only is not None and size <= _INLINE_BYTES and not request.query:
            # Nearly every request.
            return only.submit(only.model.read(request))
        kind = request.content_type
        if kind is not None and kind.startswith(b"image/"):
            size = _INLINE_BYTES + 1  # few bytes may hold many pixels
        name, version = _wanted(request.query) if request.query else (None, None)
        return self.infer(name, version, lambda model: model.read(request), size=size, request_id=request.request_id)

    def infer(
        self,
        name: str | None,
        version: int | None,
        read: Callable[[OnnxModel], ModelCall],
        *,
        size: int = 0,
        request_id: str = "",
    ) -> Answer:
        """Run the call that ``read`` makes of a request of ``size`` bytes, for the model ``name``.

        BadRequest, raised here or by the coroutine: 404 for an unknown model, 400 for what ``read`` refuses, 503 where
        too many wait or the model cannot be loaded.
        """
        place = self.catalog.find(name, version)
        loaded = self.catalog.loaded(place)
        if loaded is None or size > _INLINE_BYTES:
            return self._infer(place, read, size, request_id)
        return loaded.attached.submit(read(loaded.model), self._seen(place, request_id))

    async def _infer(
        self, place: ModelPlace, read: Callable[[OnnxModel], ModelCall], size: int, request_id: str
    ) -> Response:
        loaded = self.catalog.loaded(place) or await self.catalog.load(place)
        loop = asyncio.get_running_loop()
        if size > _INLINE_BYTES:
            self._waiting.enter()
            try:
                call = await loop.run_in_executor(self._reader, read, loaded.model)
            finally:
                self._waiting.leave(1)
        else:
            call = read(loaded.model)
        reply = loaded.attached.submit(call, self._seen(place, request_id))
        answered: asyncio.Future[Response] = loop.create_future()
        reply.then(lambda response: None if answered.done() else answered.set_result(response))
        try:
            return await answered
        finally:
            reply.abandoned = True

    def describe(self) -> Description:
        """The inputs and outputs of the models."""
        return self._descriptions.describe()

    def facts(self) -> Mapping[str, Any]:
        """Facts for the log: the models, and how many golden values agreed."""
        loaded = self.catalog.all_loaded()
        return {
            "models": [place.id for place in self.catalog.places],
            "threads": self._threads,
            "golden_values": sum(one.golden_values for one in loaded),
        }

    def _find_only(self) -> Batcher | None:
        """The batcher of the only model, if that stays loaded, takes no images, and its calls are not collected."""
        if len(self.catalog.places) > 1 or self._config.runtime.memory_bytes is not None or self._collector is not None:
            return None
        batcher = self.catalog.all_loaded()[0].attached
        return None if any(kind.startswith("image/") for kind in batcher.model.formats) else batcher

    def _seen(self, place: ModelPlace, request_id: str) -> Callable[[ModelCall, list[Any]], None] | None:
        collector = self._collector
        if collector is None:
            return None

        def seen(call: ModelCall, values: list[Any]) -> None:
            if not isinstance(call, MadeUpCall):
                collector.collect(place, call.arrays, call.outputs, values, request_id)

        return seen

    def _attach(self, model: OnnxModel, place: ModelPlace) -> Batcher:
        threads = max(1, self._threads // model.threads)
        batcher = Batcher(model, place.id, self._waiting, self._config.runtime.batching, self._pool, threads)
        self._batchers.add(batcher)
        return batcher

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        for batcher in list(self._batchers):
            batcher.expire()
        self._expiry = loop.call_later(_EXPIRE_SECONDS, self._expire, loop)


def _collector(config: ServiceConfig) -> Collector | None:
    if config.collection.folder is None:
        return None
    if not config.collection.automatic:
        _log.warning("nothing is collected: collection.folder needs collection.automatic for models without code")
        return None
    from edge_server.collection.automatic import Collector

    return Collector(config)


def _wanted(query: str) -> tuple[str | None, int | None]:
    """The model that ``?model=NAME[:VERSION]`` names; BadRequest for a version that is not a number."""
    from urllib.parse import parse_qs

    names = parse_qs(query).get("model")
    if not names:
        return None, None
    name, colon, version = names[-1].rpartition(":")
    if not colon:
        return names[-1], None
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise BadRequest(f"{names[-1][:80]!r} names no model; write ?model=NAME or ?model=NAME:VERSION")
    return name, int(version)
