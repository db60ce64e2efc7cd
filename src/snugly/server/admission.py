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


# Tokens: an answer that nobody bounded, and the step by which one goes on beyond its share.
USUAL_ANSWER, _STEP = 1024, 64


@dataclass(eq=False, slots=True)
class Share:
    """What one request may take of the context: its prompt, and `granted` tokens of an answer.

    `wanted` is how long the client lets the answer be, None: as long as it gets.
    """

    turns: "Turns"
    prompt: int
    wanted: int | None
    granted: int = 0

    @property
    def tokens(self) -> int:
        """All that is kept for it."""
        return self.prompt + self.granted

    def holds(self, used: int) -> bool:
        """Whether its answer may have `used` tokens.

        Beyond what was granted it goes on as long as nobody waits and nobody else's is taken.
        """
        return used <= self.granted or self.turns.holds(self, used)


@dataclass(eq=False, slots=True)
class _Waiting:
    """One who waits, and what they will need of the context."""

    future: "asyncio.Future[None]"
    share: Share


class Turns:
    """The slots of one model. Clients take turns; each client's own requests keep their order.

    All slots share one context of `room` tokens. An engine whose context overflows breaks off
    every answer ("Context size has been exceeded.", tools/server/server-context.cpp), so each is
    let in with a share of its own, and takes more only where nobody else may need it.
    """

    def __init__(self, slots: int, room: int) -> None:
        self.slots = slots
        self.room = room
        self._taken = 0
        self._tokens = 0
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    @asynccontextmanager
    async def turn(
        self, client: str, prompt: int = 0, answer: int | None = 0
    ) -> AsyncIterator[Share]:
        """A slot for as long as the block lasts, for a prompt and answer of so many tokens."""
        share = Share(self, prompt, answer)
        await self._take(client, share)
        try:
            yield share
        finally:
            self._give_back(share)

    def _may(self, share: Share) -> bool:
        """Whether there is room for it now; then what it is granted is known.

        An answer gets what its client asked for where that leaves a usual answer for each other
        slot, otherwise an equal part of what is left.
        """
        free = self.room - self._tokens - share.prompt
        others = self.slots - self._taken - 1
        if others < 0:
            return False
        usual = min(USUAL_ANSWER, self.room // 4)
        least = max((self.room - self._tokens) // (others + 1) - share.prompt, usual)
        wanted = share.wanted
        whole = wanted is not None and wanted <= max(least, free - others * usual)
        granted = wanted if whole and wanted is not None else least
        if self._taken == 0:  # alone: whether it fits is the engine's to say, with both counts
            share.granted = max(0, min(granted, free))
            return True
        share.granted = granted
        return granted <= free

    def holds(self, share: Share, used: int) -> bool:
        """Whether an answer may have `used` tokens; more is granted where nobody else needs it.

        What its client wanted, and what a model with one slot writes, ends the engine.
        """
        while used > share.granted:
            if self.slots == 1 or (share.wanted is not None and share.granted >= share.wanted):
                return True
            if self._waiting or (self._taken > 1 and self._tokens + _STEP > self.room):
                return False
            share.granted += _STEP
            self._tokens += _STEP
        return True

    async def _take(self, client: str, share: Share) -> None:
        if not self._waiting and self._may(share):
            self._enter(share)
            return
        one = _Waiting(asyncio.get_running_loop().create_future(), share)
        self._waiting.setdefault(client, deque()).append(one)
        self._next()
        try:
            await one.future
        except asyncio.CancelledError:
            if one.future.done() and not one.future.cancelled():  # it was given while we left
                self._give_back(share)
            else:
                self._forget(client, one)
                self._next()
            raise

    def _enter(self, share: Share) -> None:
        self._taken, self._tokens = self._taken + 1, self._tokens + share.tokens

    def _give_back(self, share: Share) -> None:
        self._taken, self._tokens = self._taken - 1, self._tokens - share.tokens
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
            if not self._may(line[0].share):
                return
            one = line.popleft()
            # The client goes to the end of the line of clients.
            del self._waiting[client]
            if line:
                self._waiting[client] = line
            if not one.future.done():
                one.future.set_result(None)
                self._enter(one.share)


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
