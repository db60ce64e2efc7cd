"""Hearing one answer: pieces come in at the engine's pace, drawing never holds them up."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from snugly.chat.types import Delta, Usage
from snugly.cli.chat_draw import Screen
from snugly.errors import HistoryError

# Twelve frames a second read as motion; more only takes time from the engine, which
# shares the processor with us.
FRAME_SECONDS = 1 / 12
# At most one part in twenty of the time goes into drawing, however long a block is.
DRAWING_SHARE = 1 / 20
# An answer that is being written is kept this often, so that a crash of ours or a power
# cut loses no more. Each time costs a synced write, off the event loop.
KEEP_SECONDS = 1.0


class Stopped(Exception):
    """The person pressed Ctrl-C."""


@dataclass(slots=True)
class Answer:
    """What was heard so far. Times are of `time.perf_counter`, in seconds."""

    asked_at: float = field(default_factory=time.perf_counter)
    first_at: float | None = None
    last_at: float | None = None
    pieces: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.pieces)

    @property
    def ttft_ms(self) -> float | None:
        """Time to first token as the person saw it."""
        return None if self.first_at is None else (self.first_at - self.asked_at) * 1000

    @property
    def seen_tps(self) -> float | None:
        """Tokens per second as the person saw them, the first one left out."""
        if self.usage is None or self.first_at is None or self.last_at is None:
            return None
        seconds = self.last_at - self.first_at
        return (self.usage.completion_tokens - 1) / seconds if seconds > 0 else None

    def add(self, delta: Delta) -> None:
        """Take in one piece."""
        # The last one counts too: it comes when the token that ends the answer is decoded.
        self.last_at = time.perf_counter()
        if self.first_at is None and (delta.text or delta.reasoning):
            self.first_at = self.last_at
        if delta.text:
            self.pieces.append(delta.text)
        if delta.reasoning:
            self.thoughts.append(delta.reasoning)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage


@asynccontextmanager
async def stoppable() -> AsyncIterator[None]:
    """Ctrl-C inside this block cancels what it awaits and leaves it with `Stopped`."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    pressed = False

    def press() -> None:
        nonlocal pressed
        if not pressed:  # a second time would cut the tidying up
            pressed = True
            task.cancel()

    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, press)
    except NotImplementedError:  # Windows
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(press))
    try:
        yield
    except asyncio.CancelledError:
        if not pressed or task.uncancel():
            raise
        raise Stopped from None
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        if before is not None:  # None: not set from Python, and then not ours to restore
            signal.signal(signal.SIGINT, before)


async def hear(
    deltas: AsyncGenerator[Delta, None], answer: Answer, screen: Screen, keep: Callable[[str], None]
) -> None:
    """Fill `answer` from `deltas` while it is drawn, and kept once a second, beside.

    `screen` and `keep` are called from worker threads, one at a time, and no more once
    this has returned or raised. Cancelling stops the engine's answer.

    Raises: what `deltas` raises, and what drawing raises (a closed pipe).
    """
    grew, over = asyncio.Event(), asyncio.Event()
    beside = asyncio.create_task(_tend(answer, screen, keep, grew, over))
    try:
        async for delta in deltas:
            answer.add(delta)
            grew.set()
            if beside.done():  # drawing failed: nobody is there to answer to
                break
    finally:
        over.set()
        grew.set()
        await deltas.aclose()
        await beside


async def _tend(
    answer: Answer,
    screen: Screen,
    keep: Callable[[str], None],
    grew: asyncio.Event,
    over: asyncio.Event,
) -> None:
    kept_at = time.perf_counter()
    try:
        while True:
            last = over.is_set()
            grew.clear()
            text, thoughts = answer.text, "".join(answer.thoughts)
            begun = time.perf_counter()
            await asyncio.to_thread(screen.draw, text, thoughts)
            cost = time.perf_counter() - begun
            if last:
                return
            if text and time.perf_counter() - kept_at >= KEEP_SECONDS:
                # A full disk must not cut the answer; keeping it at the end says so.
                with contextlib.suppress(HistoryError):
                    await asyncio.to_thread(keep, text)
                kept_at = time.perf_counter()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), max(FRAME_SECONDS, cost / DRAWING_SHARE))
            await grew.wait()
    finally:
        await asyncio.to_thread(screen.end)
