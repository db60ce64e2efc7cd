"""Saves slots of one running engine to the disk and restores them, where that pays."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snugly.engine.prefix import Trail
from snugly.engine.prefix_entry import Entry
from snugly.engine.prefix_key import key_of, rewinds
from snugly.engine.prefix_slots import LEAST_TOKENS, Rates, Slot
from snugly.engine.prefix_store import PrefixStore
from snugly.errors import BadModelFile
from snugly.plan.types import Plan
from snugly.settings import Settings

# What an engine is to do with a slot: (slot, "save" | "restore" | "erase", file name) -> what
# it tells of it, None where it refused.
Act = Callable[[Slot, str, str], Awaitable[dict[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a running engine keeps states. `build` tells its version from others."""

    store: PrefixStore
    build: str

    @property
    def slot_folder(self) -> str:
        """The folder that the engine saves to and restores from."""
        return str(self.store.landing)

    def there(self) -> "Memory | None":
        """Itself where its folder is there, or could be made again; else None."""
        try:
            self.store.open()
        except OSError:  # a cache that cannot be written to: everything else works
            return None
        return self


def memory_of(settings: Settings, build: str) -> Memory | None:
    """The memory of an engine, its folder made; None where it is turned off or cannot be."""
    if settings.prefix_cache_bytes == 0:
        return None
    store = PrefixStore(folder_of(settings.cache), settings.prefix_cache_bytes)
    return Memory(store, build).there()


def folder_of(cache: Path) -> Path:
    """Where saved states lie."""
    return cache / "prefixes"


class Keeper:
    """What is on the disk for one running engine. `slots` are all that it has.

    The slots that it is given nobody else may use meanwhile.
    """

    def __init__(self, plan: Plan, memory: Memory, slots: Sequence[Slot], act: Act) -> None:
        self._plan = plan
        self._memory = memory
        self._slots = slots
        self._act = act
        self._key = ""  # "" until it is known
        self._rewinds: bool | None = None
        self._works = True  # until the engine refuses
        # Whether it goes on from a part of what cannot be gone back in: newer builds of
        # llama.cpp save snapshots with a state (11549 does, what llama-cpp-python 0.3.36
        # brings does not). Believed until it is seen not to.
        self._partly = True
        speed = plan.speed
        self.rates = Rates(
            speed.prefill_tps.expected if speed else 0.0,
            plan.estimate.kv_bytes / max(1, plan.context),
        )

    # ---- restoring

    async def recall(
        self, slot: Slot, holder: str, words: bytes, trail: Trail
    ) -> tuple[Entry, int] | None:
        """Fill a slot from the disk, where that serves the prompt and pays.

        What was restored, and how many of its tokens are expected to be of use.
        """
        if not self._works or len(words) < LEAST_TOKENS:  # a token is a byte at least
            return None
        with suppress(OSError):
            found = await asyncio.to_thread(self._search, holder, words, trail)
            if found is None:
                await self._make_way(slot, holder, trail)
                return None
            entry, serves = found
            here = slot.shared(holder, trail) * slot.tokens // max(1, slot.trail.n_bytes)
            fits = entry.tokens < self._plan.context
            if fits and self.rates.pays(serves - here, entry.tokens):
                await self._make_way(slot, holder, trail)
                if await self._restore(slot, holder, entry):
                    return found
        return None

    async def judge(self, entry: Entry, serves: int, cached: int) -> None:
        """See whether the engine made use of what was restored for it."""
        if 4 * cached >= serves:
            return
        if not entry.rewinds and serves < entry.tokens:
            self._partly = False
            return
        if not entry.rewinds:
            self._works = False
        await asyncio.to_thread(self._memory.store.remove, entry)

    def _search(self, holder: str, words: bytes, trail: Trail) -> tuple[Entry, int] | None:
        return self._memory.store.find(self._own_key(), holder, words, trail, self._partly)

    def _own_key(self) -> str:
        if not self._key:
            self._key = key_of(self._plan, self._memory.build)
        return self._key

    async def _make_way(self, slot: Slot, holder: str, trail: Trail) -> None:
        """Save what a slot holds before most of it is lost."""
        lost = slot.trail.n_bytes - slot.shared(holder, trail)
        if lost > slot.trail.n_bytes // 2 and self.due(slot):
            await self.save(slot)

    async def _restore(self, slot: Slot, holder: str, entry: Entry) -> bool:
        store = self._memory.store
        began = time.monotonic()
        name = await asyncio.to_thread(store.lend, entry)
        if not name:
            return False
        filled = bool(slot.trail.n_bytes)
        slot.clear()  # whatever happens from here on, nobody knows what is in it
        try:
            if filled:  # a drafter's cache too, which is not restored
                await self._act(slot, "erase", "")
            told = await self._act(slot, "restore", name)
            if told is None and await self._forget_idle():
                told = await self._act(slot, "restore", name)
            if told is None:
                if not any(other.busy for other in self._slots if other is not slot):
                    await asyncio.to_thread(store.remove, entry)  # it was not for want of cells
                return False
            slot.holder, slot.trail = holder, entry.trail
            slot.tokens = slot.kept = entry.tokens
            self.rates.moved(entry.n_bytes, time.monotonic() - began)
            return True
        finally:
            store.give_back(name)

    async def _forget_idle(self) -> bool:
        """Empty the other idle slots: all share the cells of one context."""
        others = [slot for slot in self._slots if not slot.busy and slot.trail.n_bytes]
        for slot in others:
            slot.clear()
            await self._act(slot, "erase", "")
        return bool(others)

    # ---- saving

    def due(self, slot: Slot, grown: float = 1.0) -> bool:
        """Whether what a slot holds is to be saved, once it has grown by a factor."""
        return (
            self._works
            and slot.holder is not None
            and slot.tokens >= slot.kept * grown
            and self.rates.pays(slot.tokens - slot.kept, slot.tokens)
        )

    async def save(self, slot: Slot) -> None:
        """Have a slot saved."""
        store, holder, trail, tokens = self._memory.store, slot.holder, slot.trail, slot.tokens
        before, slot.kept = slot.kept, tokens  # also when it fails: not tried again at once
        began, name = time.monotonic(), ""
        try:
            if not await asyncio.to_thread(store.room_for, int(tokens * self.rates.token_bytes)):
                return
            name = await asyncio.to_thread(store.blank)
            told = await self._act(slot, "save", name)
            if told is None:
                self._works = False  # it has no slots to save, or cannot for this model
                return
            saved = int(told.get("n_saved", 0))
            if saved < 0.9 * tokens or holder is None:
                return  # an engine that needed the room has dropped what we think it holds
            what = await asyncio.to_thread(self._described, trail, saved)
            entry = await asyncio.to_thread(store.take, name, holder, what)
            self.rates.token_bytes = entry.n_bytes / entry.tokens
            self.rates.moved(entry.n_bytes, time.monotonic() - began)
            slot.tokens = slot.kept = entry.tokens
        except asyncio.CancelledError:
            slot.kept = before
            raise
        except (OSError, BadModelFile):
            self._works = False  # a full disk, or one that cannot be written: not our business
        finally:
            if name:
                store.give_back(name)

    def _described(self, trail: Trail, tokens: int) -> Entry:
        if self._rewinds is None:
            self._rewinds = rewinds(self._plan.model_path)
        model = self._plan.model_name
        return Entry(Path(), self._own_key(), model, tokens, 0, 0, self._rewinds, trail)
