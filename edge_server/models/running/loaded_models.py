"""The models in memory and their budget: which are loaded, and which are unloaded to make room for others."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

from edge_server.config.values import ModelPlace
from edge_server.errors import BadRequest
from edge_server.models.running.background import in_thread
from edge_server.models.running.memory import give_back

if TYPE_CHECKING:
    from edge_server.models.running.onnx_model import OnnxModel

# What the catalog's user attaches to a loaded model: what runs its calls.
T = TypeVar("T")

# An unloaded model is freed by then, unless a run is under way or it is in a reference cycle.
_LEAVE_SECONDS = 0.25
_POLL_SECONDS = 0.01
_MIB = 1024 * 1024

_log = logging.getLogger(__name__)
_Key = tuple[str, int]


@dataclass(slots=True, weakref_slot=True)
class Loaded(Generic[T]):
    """A model in memory: ``bytes`` is what its load added to the process, 0 where there is no budget. ``used`` grows
    with each use. A holder of this may run the model after it was unloaded.
    """

    place: ModelPlace
    model: OnnxModel
    attached: T
    golden_values: int
    bytes: int
    used: int = 0


class LoadedModels(Generic[T]):
    """Models in memory; used on the event loop's thread. ``budget`` in bytes, None for no limit.

    ``evicted`` is called with the place of each model that is unloaded for others.
    """

    def __init__(self, budget: int | None, evicted: Callable[[ModelPlace], None]) -> None:
        self.budget = budget
        self._evicted = evicted
        self._loaded: dict[_Key, Loaded[T]] = {}
        # What the models that are being loaded are expected to take.
        self._reserved: dict[_Key, int] = {}
        # What each model took when it was last loaded.
        self._costs: dict[_Key, int] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._ticks = count(1)

    def use(self, name: str, version: int) -> Loaded[T] | None:
        """The model if it is in memory, marked as used now."""
        found = self._loaded.get((name, version))
        if found is not None:
            found.used = next(self._ticks)
        return found

    def all(self) -> tuple[Loaded[T], ...]:
        """All models in memory."""
        return tuple(self._loaded.values())

    def held(self) -> int:
        """Bytes of the models in memory, and of those that are being loaded."""
        return sum(loaded.bytes for loaded in self._loaded.values()) + sum(self._reserved.values())

    @property
    def over(self) -> bool:
        """Whether the budget is exceeded."""
        return self.budget is not None and self.held() > self.budget

    def add(self, loaded: Loaded[T]) -> None:
        """Add a model that was loaded."""
        key = _key(loaded.place)
        loaded.used = next(self._ticks)
        self._reserved.pop(key, None)
        self._loaded[key] = loaded
        self._costs[key] = loaded.bytes

    async def make_room(self, place: ModelPlace, size: int) -> None:
        """Unload what was used least recently until the model, whose file has ``size`` bytes, fits; keep its room.

        BadRequest 507 when it does not fit beside what is pinned.
        """
        if self.budget is None:
            return
        key = _key(place)
        # Before the first load only the file's size is known; afterwards what it took then.
        needed = max(size, self._costs.get(key, 0))
        if needed + self._pinned(None) > self.budget:
            raise self._too_large(place, needed)
        while self.held() + needed > self.budget:
            if self._evict_one(None):
                continue
            if not self._reserved:
                break
            # Models that are being loaded hold the rest; one of them can be unloaded when it is loaded.
            await asyncio.sleep(_POLL_SECONDS)
        self._reserved[key] = needed
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_LEAVE_SECONDS)

    def cancel_room(self, place: ModelPlace) -> None:
        """Release the room that was kept for a model: it could not be loaded."""
        self._reserved.pop(_key(place), None)

    def enforce_budget(self, loaded: Loaded[T]) -> None:
        """Enforce the budget now that the memory of the newest model is known.

        BadRequest 507 when it does not fit beside what is pinned; it is unloaded then, and no other.
        """
        if self.budget is None:
            return
        if loaded.bytes + self._pinned(loaded) > self.budget:
            self.unload(loaded)
            raise self._too_large(loaded.place, loaded.bytes)
        while self.over and self._evict_one(loaded):
            pass

    def unload(self, loaded: Loaded[T]) -> None:
        """Forget the model; its memory is freed when its last run is over."""
        del self._loaded[_key(loaded.place)]
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()

        def left(reference: weakref.ref[OnnxModel]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(gone.set)

        task = loop.create_task(_reclaim(weakref.ref(loaded.model, left), gone))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def clear(self) -> None:
        """Forget all."""
        leaving = tuple(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        self._loaded.clear()

    def _evict_one(self, but: Loaded[T] | None) -> bool:
        """Unload the least recently used model; nothing here refers to it afterwards. False when all must stay."""
        free = (one for one in self._loaded.values() if not one.place.pinned and one is not but)
        victim = min(free, key=lambda one: one.used, default=None)
        if victim is None:
            return False
        _log.info("model unloaded", extra={"model": victim.place.id, "bytes": victim.bytes})
        self._evicted(victim.place)
        self.unload(victim)
        return True

    def _pinned(self, but: Loaded[T] | None) -> int:
        return sum(one.bytes for one in self._loaded.values() if one.place.pinned and one is not but)

    def _too_large(self, place: ModelPlace, needed: int) -> BadRequest:
        budget = self.budget or 0
        return BadRequest(
            f"the model {place.id!r} takes {format_size(needed)}, more than is left of the {format_size(budget)} that "
            "runtime.memory_bytes allows",
            507,
        )


async def _reclaim(reference: weakref.ref[OnnxModel], gone: asyncio.Event) -> None:
    """Wait until the model is freed, and return its memory to the system; ``reference`` lives until then."""
    try:
        await asyncio.wait_for(gone.wait(), _LEAVE_SECONDS)
    except TimeoutError:
        gc.collect()
        await gone.wait()
    await in_thread(give_back)


def _key(place: ModelPlace) -> _Key:
    return place.name, place.version


def format_size(size: int) -> str:
    """A number of bytes for people: in MiB with one decimal, or in bytes where that is too coarse."""
    return f"{size / _MIB:.1f} MiB" if size >= _MIB else f"{size} bytes"
