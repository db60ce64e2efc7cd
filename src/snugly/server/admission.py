"""Who is next: a fair queue per model, with a bound over all of them."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from snugly.server.dialects.faults import HttpFault

_LONGEST_HINT = 60  # seconds; nobody should believe us further ahead
_WEIGHT = 0.2  # of the latest duration in the mean


class Turns:
    """The slots of one model. Clients take turns; each client's own requests keep their order."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._taken = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """A slot for as long as the block lasts."""
        await self._take(client)
        try:
            yield
        finally:
            self._taken -= 1
            self._next()

    async def _take(self, client: str) -> None:
        if self._taken < self.slots and not self._waiting:
            self._taken += 1
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(future)
        self._next()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it was given while we left
                self._taken -= 1
            else:
                self._forget(client, future)
            self._next()
            raise

    def _forget(self, client: str, future: "asyncio.Future[None]") -> None:
        line = self._waiting.get(client)
        if line is not None and future in line:
            line.remove(future)
            if not line:
                del self._waiting[client]

    def _next(self) -> None:
        while self._taken < self.slots and self._waiting:
            client, line = next(iter(self._waiting.items()))
            future = line.popleft()
            # The client goes to the end of the line of clients.
            del self._waiting[client]
            if line:
                self._waiting[client] = line
            if not future.done():
                future.set_result(None)
                self._taken += 1


class Admission:
    """The queue of the whole server: `bound` requests may wait for a model or a slot."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._turns: dict[str, Turns] = {}
        self._mean_seconds = 1.0
        self.waiting = 0
        self.running = 0

    @contextmanager
    def waits(self) -> Iterator[None]:
        """A place in the queue.

        Raises: HttpFault 503 with Retry-After when it is full.
        """
        if self.waiting >= self._bound:
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

    def turns(self, key: str, slots: int) -> Turns:
        """The slots of a model; as many as it was loaded with the last time."""
        turns = self._turns.setdefault(key, Turns(slots))
        turns.slots = slots
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
