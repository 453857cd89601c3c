"""The models that are served: found by name, loaded on demand, unloaded when others need their memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from edge_server.config.values import ModelPlace, ServiceConfig
from edge_server.errors import BadRequest, ScoringError
from edge_server.models.directory import Directory
from edge_server.models.files.onnx_file import check_onnx
from edge_server.models.loading import Opened, check_manifest, open_model, settle_runtime
from edge_server.models.running.background import in_thread
from edge_server.models.running.loaded_models import Loaded, LoadedModels, format_size
from edge_server.models.running.memory import Meter, give_back
from edge_server.models.running.threads import threads_per_process
from edge_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edge_server.models.running.onnx_model import OnnxModel

# What the catalog's user attaches to a loaded model: what runs its calls.
T = TypeVar("T")

# A load takes one CPU and, for a moment, several times the memory of its file.
LOADS_AT_ONCE = 4
# How long a model that could not be loaded is refused without another attempt.
RETRY_SECONDS = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    until: float
    status: int
    message: str


class Catalog(Generic[T]):
    """Serves ``config.models``; used on the event loop's thread.

    ``attach`` is called with each model when it is loaded. With a memory budget, the least recently used models are
    unloaded. ``preloaded`` are models by ``name:version`` that the process which started this one has loaded.
    """

    def __init__(
        self,
        config: ServiceConfig,
        metrics: Metrics,
        attach: Callable[[OnnxModel, ModelPlace], T],
        preloaded: Mapping[str, Opened] | None = None,
    ) -> None:
        self.places = config.models
        self.directory = Directory(config.models)
        self.find = self.directory.find
        self._runtime = config.runtime
        self._metrics = metrics
        self._attach = attach
        self._preloaded = dict(preloaded or {})
        self._models: LoadedModels[T] = LoadedModels(
            config.runtime.memory_bytes, lambda place: metrics.count_eviction(place.id)
        )
        self._loading: dict[str, asyncio.Task[Loaded[T]]] = {}
        self._failures: dict[str, _Failure] = {}
        self._slots = asyncio.Semaphore(LOADS_AT_ONCE)
        self._meter = Meter()
        metrics.gauge("edgepack_models_loaded", "Models in memory.", lambda: float(len(self._models.all())))
        if config.runtime.memory_bytes is not None:
            metrics.gauge("edgepack_models_bytes", "Memory of the models.", lambda: float(self._models.held()))

    def loaded(self, place: ModelPlace) -> Loaded[T] | None:
        """The model if it is in memory; counts as a use of it."""
        return self._models.use(place.name, place.version)

    def all_loaded(self) -> tuple[Loaded[T], ...]:
        """All models in memory; does not count as use."""
        return self._models.all()

    def available(self, place: ModelPlace) -> bool:
        """Whether the model is in memory or, as far as is known, can be loaded."""
        return self._failure(place) is None

    async def load(self, place: ModelPlace) -> Loaded[T]:
        """The model, loaded now if it is not in memory; callers that ask meanwhile share the load.

        BadRequest: 507 where it does not fit in the budget, 503 where it cannot be loaded, for a while without another
        attempt. The load goes on when a caller is cancelled.
        """
        found = self.loaded(place)
        if found is not None:
            return found
        task = self._loading.get(place.id)
        if task is None:
            failure = self._failure(place)
            if failure is not None:
                raise _refusal(failure)
            task = asyncio.get_running_loop().create_task(self._load(place))
            self._loading[place.id] = task
            task.add_done_callback(lambda done: self._done(place, done))
        return await asyncio.shield(task)

    async def start(self) -> None:
        """Load what must be in memory: everything, or with a budget what is pinned and as many others as fit.

        Of the others, the manifest is read and the file checked to be whole. Raises ScoringError when any of them is
        wrong.
        """
        models = self._models
        full = False
        if models.budget is not None:
            self._warn_of_large(models.budget)
            await in_thread(settle_runtime)
        # One after the other: loads at the same time would disturb each other's measurements.
        for place in sorted(self.places, key=lambda place: not place.pinned):
            if models.budget is not None and not place.pinned:
                full = full or models.held() + _file_bytes(place) > models.budget
                if full:
                    check_manifest(place.path)
                    check_onnx(place.path)
                    continue
            loaded = await self._open(place)
            if models.over:
                if place.pinned:
                    raise ScoringError(
                        f"the pinned models up to {place.id} take {format_size(models.held())}, runtime.memory_bytes "
                        f"allows {format_size(models.budget or 0)}; pin fewer models or allow more"
                    )
                full = True
                models.unload(loaded)
            del loaded
        if models.budget is None:
            # Memory that loading has freed is returned to the system once, before the first request.
            await in_thread(give_back)

    async def stop(self) -> None:
        """Forget every model; loads that are under way are not waited for."""
        loading = tuple(self._loading.values())
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await self._models.clear()
        self._preloaded.clear()

    async def _load(self, place: ModelPlace) -> Loaded[T]:
        async with self._slots:
            try:
                await self._models.make_room(place, _file_bytes(place))
                loaded = await self._open(place)
                self._models.enforce_budget(loaded)
            except BadRequest as refusal:
                self._fail(place, refusal.status, refusal.message)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this model's and not the server's end
                _log.error(
                    "a model could not be loaded",
                    extra={"model": place.id, "reason": str(error) or type(error).__name__},
                    exc_info=None if isinstance(error, ScoringError) else error,
                )
                self._fail(place, 503, f"the model {place.id!r} cannot be loaded now; the server's log has more")
            finally:
                self._models.cancel_room(place)
        return loaded

    async def _open(self, place: ModelPlace) -> Loaded[T]:
        started = time.perf_counter()
        try:
            preloaded = self._preloaded.pop(place.id, None)
            opened, grown = (preloaded, 0) if preloaded is not None else await in_thread(self._read, place)
        except Exception:
            self._metrics.observe_load(place.id, time.perf_counter() - started, failed=True)
            raise
        model = opened.model
        loaded = Loaded(place, model, self._attach(model, place), opened.golden_values, grown)
        self._models.add(loaded)
        self._failures.pop(place.id, None)
        seconds = time.perf_counter() - started
        self._metrics.observe_load(place.id, seconds, failed=False)
        facts = {"seconds": round(seconds, 4), "threads": model.threads, "joinable": model.joinable}
        measured = {"bytes": grown} if grown else {}
        _log.info("model loaded", extra={"model": place.id, **facts, **measured})
        if model.manifest is None:
            _log.info("the model has no manifest: it answers with the outputs of its graph", extra={"model": place.id})
        return loaded

    def _warn_of_large(self, budget: int) -> None:
        large = [place.id for place in self.places if _file_bytes(place) > budget]
        if large:
            _log.warning(
                "requests for models larger than runtime.memory_bytes will be refused with 507",
                extra={"models": large, "memory_bytes": budget},
            )

    def _read(self, place: ModelPlace) -> tuple[Opened, int]:
        """The model, and with a budget what it adds to the process; called in a thread."""
        threads, measured = threads_per_process(self._runtime), not self._runtime.threads
        if self._models.budget is None:
            return open_model(place.path, threads, measured=measured), 0
        measurement = self._meter.begin(_file_bytes(place))
        try:
            opened = open_model(place.path, threads, measured=measured)
        finally:
            grown = self._meter.end(measurement)
        return opened, grown

    def _done(self, place: ModelPlace, task: asyncio.Task[Loaded[T]]) -> None:
        del self._loading[place.id]
        if not task.cancelled():
            task.exception()  # all who waited for it may have been cancelled

    def _fail(self, place: ModelPlace, status: int, message: str) -> NoReturn:
        failure = _Failure(time.monotonic() + RETRY_SECONDS, status, message)
        self._failures[place.id] = failure
        raise _refusal(failure) from None

    def _failure(self, place: ModelPlace) -> _Failure | None:
        failure = self._failures.get(place.id)
        if failure is not None and failure.until <= time.monotonic():
            del self._failures[place.id]
            return None
        return failure


def preload(config: ServiceConfig) -> dict[str, Opened]:
    """Models by ``name:version`` for the processes that will be forked from this one, which then share their memory.

    Each runs on one thread: a session's own threads do not live on in a fork. Raises ScoringError as ``Catalog.start``
    does.
    """
    opened = {place.id: open_model(place.path, 1) for place in config.models}
    gc.collect()
    give_back()
    # The garbage collector of a child would write to shared pages, and so copy them.
    gc.freeze()
    return opened


def _file_bytes(place: ModelPlace) -> int:
    try:
        return place.path.stat().st_size
    except OSError:
        return 0  # the load itself will report it


def _refusal(failure: _Failure) -> BadRequest:
    left = max(1, round(failure.until - time.monotonic()))
    headers = [(b"retry-after", str(left).encode())] if failure.status == 503 else []
    return BadRequest(failure.message, failure.status, headers)
