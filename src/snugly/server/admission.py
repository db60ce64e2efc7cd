"""Who is next: a fair queue per model, with a bound over all of them."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from snugly.server.dialects.faults import HttpFault

_LONGEST_HINT = 60  # seconds; nobody should believe us further ahead
_WEIGHT = 0.2  # of the latest duration in the mean


@dataclass(eq=False, slots=True)
class _Waiting:
    """One who waits, and what they will need of the context."""

    future: "asyncio.Future[None]"
    tokens: int


class Turns:
    """The slots of one model. Clients take turns; each client's own requests keep their order.

    All slots share one context of `room` tokens. An engine whose context overflows breaks off
    every answer, so nobody is let in beside others whose share is not there.
    """

    def __init__(self, slots: int, room: int) -> None:
        self.slots = slots
        self.room = room
        self._taken = 0
        self._tokens = 0
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str, tokens: int = 0) -> AsyncIterator[None]:
        """A slot for as long as the block lasts, for a prompt and answer of so many tokens."""
        await self._take(client, tokens)
        try:
            yield
        finally:
            self._give_back(tokens)

    def _may(self, tokens: int) -> bool:
        if self._taken == 0:
            return True  # alone: whether it fits is the engine's to say, with both counts
        return self._taken < self.slots and self._tokens + tokens <= self.room

    async def _take(self, client: str, tokens: int) -> None:
        if not self._waiting and self._may(tokens):
            self._taken, self._tokens = self._taken + 1, self._tokens + tokens
            return
        one = _Waiting(asyncio.get_running_loop().create_future(), tokens)
        self._waiting.setdefault(client, deque()).append(one)
        self._next()
        try:
            await one.future
        except asyncio.CancelledError:
            if one.future.done() and not one.future.cancelled():  # it was given while we left
                self._give_back(tokens)
            else:
                self._forget(client, one)
                self._next()
            raise

    def _give_back(self, tokens: int) -> None:
        self._taken, self._tokens = self._taken - 1, self._tokens - tokens
        self._next()

    def _forget(self, client: str, one: _Waiting) -> None:
        line = self._waiting.get(client)
        if line is not None and one in line:
            line.remove(one)
            if not line:
                del self._waiting[client]

    def _next(self) -> None:
        while self._waiting:
            client, line = next(iter(self._waiting.items()))
            if not self._may(line[0].tokens):
                return
            one = line.popleft()
            # The client goes to the end of the line of clients.
            del self._waiting[client]
            if line:
                self._waiting[client] = line
            if not one.future.done():
                one.future.set_result(None)
                self._taken, self._tokens = self._taken + 1, self._tokens + one.tokens


class Admission:
    """The queue of the whole server: `bound` requests may wait for a model or a slot."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._turns: dict[str, Turns] = {}
        self._mean_seconds = 1.0
        self.waiting = 0
        self.running = 0

    @contextmanager
    def waits(self) -> Iterator[None]:
        """A place in the queue.

        Raises: HttpFault 503 with Retry-After when it is full.
        """
        if self.waiting >= self.bound:
            raise HttpFault(
                503,
                "The queue is full.",
                f"{self.waiting} requests wait already.",
                "Try again later.",
                retry_after=self.hint(),
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def turns(self, key: str, slots: int, room: int) -> Turns:
        """The slots of a model; as many as it was loaded with the last time."""
        turns = self._turns.setdefault(key, Turns(slots, room))
        turns.slots, turns.room = slots, room
        return turns

    @contextmanager
    def runs(self) -> Iterator[None]:
        """Count a request that is being answered."""
        self.running += 1
        began = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.running -= 1
            took = asyncio.get_running_loop().time() - began
            self._mean_seconds += _WEIGHT * (took - self._mean_seconds)

    def hint(self) -> int:
        """Whole seconds after which there may be room: what the queue takes at present."""
        slots = max(1, sum(turns.slots for turns in self._turns.values()))
        return max(1, min(_LONGEST_HINT, math.ceil(self.waiting * self._mean_seconds / slots)))
