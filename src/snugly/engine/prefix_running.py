"""A running llama.cpp that remembers: in its slots, and on the disk when those are gone.

Before an answer the slot is chosen and, where that pays, filled from the disk; afterwards,
when nobody asks anything, and before the engine stops, what it read is saved.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from snugly.chat.requests import CompletionRequest, InfillRequest, Prompt
from snugly.chat.types import ChatRequest, Delta
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.prefix import Heard, Trail, trail_of, words_of, words_of_prompt
from snugly.engine.prefix_key import key_of, rewinds
from snugly.engine.prefix_slots import LEAST_TOKENS, Rates, Slot, choose
from snugly.engine.prefix_store import Entry, PrefixStore
from snugly.engine.process import EngineProcess
from snugly.errors import BadModelFile
from snugly.plan.types import Plan
from snugly.settings import Settings

_IDLE_SECONDS = 2.0  # without a question: who talks to it is reading or thinking
_STOP_SECONDS = 5.0  # for saving everything before the engine is stopped
_MOST_SECONDS = 30.0  # for one state: 3 GB at the 100 MB/s of a hard disk
# Saved again when it has grown by so much: all saving together writes five times the last.
_GROWN = 1.25

_Request = TypeVar("_Request", bound=ChatRequest | CompletionRequest | InfillRequest)


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a running engine keeps states. `build` tells its version from others."""

    store: PrefixStore
    build: str

    @property
    def slot_folder(self) -> str:
        """The folder that the engine saves to and restores from."""
        return str(self.store.landing)


def memory_of(settings: Settings, build: str) -> Memory | None:
    """The memory of an engine, its folder made; None where it is turned off or cannot be."""
    if settings.prefix_cache_bytes == 0:
        return None
    store = PrefixStore(folder_of(settings.cache), settings.prefix_cache_bytes)
    try:
        store.open()
    except OSError:  # a cache that cannot be written to: everything else works
        return None
    return Memory(store, build)


def folder_of(cache: Path) -> Path:
    """Where saved states lie."""
    return cache / "prefixes"


class Remembering(LlamaCppRunning):
    """A worker that answers, and goes on from what it has read before, by whomever it may."""

    def __init__(
        self, plan: Plan, process: EngineProcess, silence_seconds: float, memory: Memory
    ) -> None:
        super().__init__(plan, process, silence_seconds)
        self._memory = memory
        self._slots = [Slot(number) for number in range(plan.setup.n_seq)]
        self._clock = 0
        self._gate = asyncio.Lock()  # held while a slot that nobody uses is saved
        self._saver: asyncio.Task[None] | None = None
        self._key = ""  # "" until it is known
        self._rewinds: bool | None = None
        self._works = True  # until the engine refuses
        speed = plan.speed
        self._rates = Rates(
            speed.prefill_tps.expected if speed else 0.0,
            plan.estimate.kv_bytes / max(1, plan.context),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer."""
        answer = self._answered(request, words_of(request), super().stream)
        async with aclosing(answer):
            async for delta in answer:
                yield delta

    async def complete(
        self, request: CompletionRequest | InfillRequest, prompt: Prompt
    ) -> AsyncGenerator[Delta, None]:
        """Go on with one prompt as it stands."""
        go_on = super().complete

        def make(
            pinned: CompletionRequest | InfillRequest,
        ) -> AsyncGenerator[Delta, None]:
            return go_on(pinned, prompt)

        answer = self._answered(request, words_of_prompt(prompt), make)
        async with aclosing(answer):
            async for delta in answer:
                yield delta

    async def stop(self) -> None:
        """Save what is worth it, then end the worker. Safe to call twice."""
        if self._saver is not None:
            self._saver.cancel()
        try:
            if self.alive and not any(slot.busy for slot in self._slots):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await self.keep()
        finally:
            await super().stop()

    async def keep(self) -> None:
        """Save what the idle slots hold, where restoring it would pay.

        A worker that is started for the same model afterwards goes on from it.
        """
        async with self._gate:
            for slot in self._slots:
                if not slot.busy and self._due(slot, 1.0):
                    await self._save(slot)

    # ---- one answer

    async def _answered(
        self, request: _Request, words: bytes, make: Callable[[_Request], Any]
    ) -> AsyncGenerator[Delta, None]:
        heard = Heard(request)
        async with self._slot_for(request, words, heard) as slot:
            known = slot is not None and slot.holder == request.holder
            number = None if slot is None else slot.number
            if slot is not None and not known:
                slot.clear()
                slot.holder = request.holder
            pinned = replace(request, slot=number, fresh=not known)
            async with aclosing(make(pinned)) as deltas:
                async for delta in deltas:
                    heard.feed(delta)
                    yield delta

    @asynccontextmanager
    async def _slot_for(self, request: _Request, words: bytes, heard: Heard) -> Any:
        """The slot for a prompt, with as much of it as is remembered; learns what it holds then."""
        trail = trail_of(request.holder, words)
        async with self._gate:
            slot = self._chosen(request, trail)
        if slot is None:
            yield None
            return
        slot.busy = True
        self._clock += 1
        slot.used = self._clock
        try:
            await self._recall(slot, request.holder, words, trail)
            yield slot
        finally:
            slot.busy = False
            self._learn(slot, request.holder, words, heard)

    def _chosen(self, request: _Request, trail: Trail) -> Slot | None:
        wanted = [slot for slot in self._slots if slot.number == request.slot]
        return choose(wanted, request.holder, trail) or choose(self._slots, request.holder, trail)

    def _learn(self, slot: Slot, holder: str, words: bytes, heard: Heard) -> None:
        if slot.holder != holder:  # it was never asked
            return
        before = slot.trail
        slot.trail = trail_of(holder, words + heard.words)
        if not slot.kept or before.shared(slot.trail) < before.n_bytes // 2:
            slot.kept = 0
        slot.tokens = heard.tokens
        self._rates.read(heard.read, heard.read_tps)
        if heard.tokens and (self._saver is None or self._saver.done()):
            self._saver = asyncio.create_task(self._save_when_idle())

    # ---- restoring

    async def _recall(self, slot: Slot, holder: str, words: bytes, trail: Trail) -> None:
        """Fill a slot from the disk, where that serves the prompt and pays."""
        if not self._works or len(words) < LEAST_TOKENS:  # a token is a byte at least
            return
        with suppress(OSError):
            found = await asyncio.to_thread(self._search, holder, words, trail)
            if found is None:
                await self._make_way(slot, holder, trail)
                return
            entry, serves = found
            here = slot.shared(holder, trail) * slot.tokens // max(1, slot.trail.n_bytes)
            if self._rates.pays(serves - here, entry.tokens):
                await self._make_way(slot, holder, trail)
                await self._restore(slot, holder, entry)

    def _search(self, holder: str, words: bytes, trail: Trail) -> tuple[Entry, int] | None:
        if not self._key:
            self._key = key_of(self.plan, self._memory.build)
        return self._memory.store.find(self._key, holder, words, trail)

    async def _make_way(self, slot: Slot, holder: str, trail: Trail) -> None:
        """Save what a slot holds before most of it is lost."""
        lost = slot.trail.n_bytes - slot.shared(holder, trail)
        if lost > slot.trail.n_bytes // 2 and self._due(slot, 1.0):
            await self._save(slot)

    async def _restore(self, slot: Slot, holder: str, entry: Entry) -> None:
        store = self._memory.store
        began = time.monotonic()
        name = await asyncio.to_thread(store.lend, entry)
        if not name:
            return
        filled = bool(slot.trail.n_bytes)
        slot.clear()  # whatever happens from here on, nobody knows what is in it
        try:
            if filled:  # a drafter's cache too, which is not restored
                await self._act(slot, "erase", "")
            told = await self._act(slot, "restore", name)
            if told is None and await self._forget_idle():
                told = await self._act(slot, "restore", name)
            if told is None:
                await asyncio.to_thread(store.remove, entry)
                return
            slot.holder, slot.trail = holder, entry.trail
            slot.tokens = slot.kept = entry.tokens
            self._rates.moved(entry.n_bytes, time.monotonic() - began)
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

    def _due(self, slot: Slot, grown: float) -> bool:
        new = slot.tokens - slot.kept
        return (
            self._works
            and slot.holder is not None
            and slot.tokens >= slot.kept * grown
            and self._rates.pays(new, slot.tokens)
        )

    async def _save_when_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_SECONDS)
            if any(slot.busy for slot in self._slots):
                continue
            async with self._gate:
                due = [slot for slot in self._slots if not slot.busy and self._due(slot, _GROWN)]
                if not due or any(slot.busy for slot in self._slots):
                    return
                await self._save(due[0])

    async def _save(self, slot: Slot) -> None:
        """Have a slot saved, which nobody uses meanwhile."""
        store, holder, trail, tokens = self._memory.store, slot.holder, slot.trail, slot.tokens
        slot.kept = tokens  # also when it fails: not tried again until it has grown
        began, name = time.monotonic(), ""
        try:
            if not await asyncio.to_thread(store.room_for, int(tokens * self._rates.token_bytes)):
                return
            name = await asyncio.to_thread(store.blank)
            told = await self._act(slot, "save", name)
            # An engine that needed the room has dropped what we think it holds.
            if told is None or told.get("n_saved", 0) < 0.9 * tokens or holder is None:
                return
            what = await asyncio.to_thread(self._described, trail, int(told["n_saved"]))
            entry = await asyncio.to_thread(store.take, name, holder, what)
            self._rates.token_bytes = entry.n_bytes / entry.tokens
            self._rates.moved(entry.n_bytes, time.monotonic() - began)
            slot.tokens = slot.kept = entry.tokens
        except (OSError, BadModelFile):
            self._works = False  # a full disk, or one that cannot be written: not our business
        finally:
            if name:
                store.give_back(name)

    def _described(self, trail: Trail, tokens: int) -> Entry:
        path = self.plan.model_path
        if not self._key:
            self._key = key_of(self.plan, self._memory.build)
        if self._rewinds is None:
            self._rewinds = rewinds(path)
        model = self.plan.model_name
        return Entry(Path(), self._key, model, tokens, 0, 0, self._rewinds, trail)

    # ---- the engine

    async def _act(self, slot: Slot, action: str, name: str) -> dict[str, Any] | None:
        """Save, restore or erase a slot. None where the engine refused.

        What only a dead engine does is left to the question that follows to explain.
        """
        import httpx2

        path = f"/slots/{slot.number}?action={action}"
        try:
            response = await self.http.post(path, json={"filename": name}, timeout=_MOST_SECONDS)
            told = response.json() if response.status_code == 200 else None
        except (httpx2.HTTPError, ValueError):
            told = None
        if told is None and action == "save":
            self._works = False  # it has no slots to save, or cannot for this model
        return told if isinstance(told, dict) else None
