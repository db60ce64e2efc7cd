"""A running llama.cpp that remembers: in its slots, and on the disk when those are gone.

Before an answer the slot is chosen and, where that pays, filled from the disk; afterwards,
when nobody asks anything, and before the engine stops, what it read is saved.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from snugly.chat.requests import CompletionRequest, InfillRequest, Prompt
from snugly.chat.types import ChatRequest, Delta
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.prefix import Heard, Trail, trail_of, words_of, words_of_prompt
from snugly.engine.prefix_entry import Entry
from snugly.engine.prefix_keeper import Keeper, Memory
from snugly.engine.prefix_slots import Slot, choose
from snugly.engine.process import EngineProcess
from snugly.plan.types import Plan

_IDLE_SECONDS = 2.0  # without a question: who talks to it is reading or thinking
_STOP_SECONDS = 5.0  # for saving everything before the engine is stopped
_MOST_SECONDS = 30.0  # for one state: 3 GB at the 100 MB/s of a hard disk
# Saved again when it has grown by so much: all saving together writes five times the last.
_GROWN = 1.25

_Request = TypeVar("_Request", bound=ChatRequest | CompletionRequest | InfillRequest)


class Remembering(LlamaCppRunning):
    """A worker that answers, and goes on from what it has read before, by whomever it may."""

    def __init__(
        self, plan: Plan, process: EngineProcess, silence_seconds: float, memory: Memory | None
    ) -> None:
        super().__init__(plan, process, silence_seconds)
        self._slots = [Slot(number) for number in range(plan.setup.n_seq)]
        self._keeper = None if memory is None else Keeper(plan, memory, self._slots, self._act)
        self._clock = 0
        self._gate = asyncio.Lock()  # held while a slot that nobody uses is saved
        self._saver: asyncio.Task[None] | None = None

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer."""
        return self._answered(request, words_of(request), super().stream)

    def complete(
        self, request: CompletionRequest | InfillRequest, prompt: Prompt
    ) -> AsyncGenerator[Delta, None]:
        """Go on with one prompt as it stands."""
        go_on = super().complete

        def make(
            pinned: CompletionRequest | InfillRequest,
        ) -> AsyncGenerator[Delta, None]:
            return go_on(pinned, prompt)

        return self._answered(request, words_of_prompt(prompt), make)

    async def stop(self) -> None:
        """Save what is worth it, then end the worker. Safe to call twice."""
        try:
            if self.alive and not any(slot.busy for slot in self._slots):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await self.keep()
        finally:
            if self._saver is not None:
                self._saver.cancel()
            try:
                await super().stop()
            finally:
                self._keeper = None  # it holds what holds it

    async def keep(self) -> None:
        """Save what the idle slots hold, where restoring it would pay.

        A worker that is started for the same model afterwards goes on from it.
        """
        keeper = self._keeper
        if keeper is None:
            return
        async with self._gate:
            for slot in self._slots:
                if not slot.busy and keeper.due(slot):
                    await keeper.save(slot)

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
            pinned = replace(request, slot=number, fresh=not known)
            async with aclosing(make(pinned)) as deltas:
                async for delta in deltas:
                    if slot is not None:  # only now: a request that is refused leaves it as it was
                        slot.holder = request.holder
                    heard.feed(delta)
                    yield delta

    @asynccontextmanager
    async def _slot_for(
        self, request: _Request, words: bytes, heard: Heard
    ) -> AsyncIterator[Slot | None]:
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
        recalled: tuple[Entry, int] | None = None
        try:
            if self._keeper is not None:
                recalled = await self._keeper.recall(slot, request.holder, words, trail)
            yield slot
        finally:
            slot.busy = False
            self._learn(slot, request.holder, words, heard)
            if recalled is not None and heard.tokens and self._keeper is not None:
                await self._keeper.judge(*recalled, heard.cached)

    def _chosen(self, request: _Request, trail: Trail) -> Slot | None:
        wanted = [slot for slot in self._slots if slot.number == request.slot]
        return choose(wanted, request.holder, trail) or choose(self._slots, request.holder, trail)

    def _learn(self, slot: Slot, holder: str, words: bytes, heard: Heard) -> None:
        if slot.holder != holder:  # it was never asked
            return
        before, slot.trail = slot.trail, trail_of(holder, words + heard.words)
        slot.kept = slot.kept * before.shared(slot.trail) // max(1, before.n_bytes)
        slot.tokens = heard.tokens
        if self._keeper is None:
            return
        self._keeper.rates.read(heard.read, heard.read_tps)
        if heard.tokens and (self._saver is None or self._saver.done()):
            self._saver = asyncio.create_task(self._save_when_idle(self._keeper))

    async def _save_when_idle(self, keeper: Keeper) -> None:
        while self.alive:
            await asyncio.sleep(_IDLE_SECONDS)
            if any(slot.busy for slot in self._slots):
                continue
            async with self._gate:
                idle = [slot for slot in self._slots if not slot.busy]
                due = [slot for slot in idle if keeper.due(slot, _GROWN)]
                if not due or len(idle) < len(self._slots):
                    return
                await keeper.save(due[0])

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
            return None
        return told if isinstance(told, dict) else None
