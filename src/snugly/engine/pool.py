"""The models that are loaded: on the first request, within free memory, and gone when idle.

Every model has a seat, whose lock is held by whoever starts or stops its engine. A loader
holds its own seat's lock, then the memory; nobody who has the memory waits for another lock.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from snugly.engine import room
from snugly.engine.crash import is_out_of_memory
from snugly.engine.prompt_logprobs import can_score
from snugly.engine.seat import NotNow, Resident, Seat
from snugly.engine.space import Limits, Space
from snugly.engine.steering import Steering, urgent
from snugly.engine.types import Engine, Mode, Running
from snugly.errors import DoesNotFit, EngineError
from snugly.machine.types import Machine
from snugly.model.types import Installed, ModelSpec
from snugly.plan.types import Plan

OOM_STEP = 0.8  # of the plan that ran out of memory, for the next attempt
_ATTEMPTS = 3
_REAP_SECONDS = 0.5
_DRAIN_SECONDS = 60.0  # for answers that stand in the way of starting a model anew
_MEMORY_SECONDS = 30  # after which somebody may have closed another program


@dataclass(frozen=True, slots=True)
class Lease:
    """A running model while somebody uses it. `load_ms` is what this one waited for it."""

    key: str
    running: Running
    plan: Plan
    spec: ModelSpec
    installed: Installed
    load_ms: float


class Pool:
    """Loads, lends and unloads models. Belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        look: Callable[[], Machine],
        planner: room.Planner,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        steering: Steering | None = None,
    ) -> None:
        self._engine = engine
        self.steering = steering
        self._limits = limits
        self._clock = clock
        self._seats: dict[str, Seat] = {}
        self._space = Space(self._seats, look, planner, limits, clock)
        self._memory = asyncio.Lock()  # one decision about memory at a time
        self._reaper: asyncio.Task[None] | None = None

    @property
    def scores(self) -> bool:
        """Whether models can be leased in mode "score"."""
        return can_score(self._engine)

    async def __aenter__(self) -> "Pool":
        self._reaper = asyncio.create_task(self._reap())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        await self.close()

    @asynccontextmanager
    async def lease(
        self,
        installed: Installed,
        spec: ModelSpec,
        mode: Mode = "generate",
        *,
        context: int | None = None,
        keep_alive: float | None = None,
    ) -> AsyncIterator[Lease]:
        """The running model; loaded first where it is not.

        `context` is the fewest tokens it should hold; a longer one than the present is
        loaded once, and only where it fits. `keep_alive` counts from the end of the block.

        Raises: DoesNotFit with numbers, NotNow with a time to wait, EngineError.
        """
        seat = self._seat(installed, spec, mode)
        began = self._clock()
        wanted = room.bucket(context, spec.context_train)
        seat.waiting += 1
        try:
            while not seat.usable(wanted):
                await self._brought(seat, wanted)
            seat.leases += 1  # nothing was awaited since `usable`
        finally:
            seat.waiting -= 1
        running, plan = seat.running, seat.plan
        assert running is not None
        assert plan is not None
        if keep_alive is not None:
            seat.keep_alive = keep_alive
        load_ms = 1000 * (self._clock() - began)
        try:
            yield Lease(seat.key, running, plan, spec, installed, load_ms)
        finally:
            self._returned(seat)

    def _returned(self, seat: Seat) -> None:
        seat.leases -= 1
        seat.last_used = self._clock()
        if seat.leases == 0:
            seat.drained.set()

    def _seat(self, installed: Installed, spec: ModelSpec, mode: Mode) -> Seat:
        key = installed.ref if mode == "generate" else f"{installed.ref} ({mode})"
        seat = self._seats.get(key)
        if seat is None:
            seat = Seat(key, installed, spec, mode, self._limits.keep_alive)
            self._seats[key] = seat
        return seat

    async def load(
        self, installed: Installed, spec: ModelSpec, mode: Mode = "generate", *, pin: bool = False,
        context: int | None = None, keep_alive: float | None = None,
    ) -> None:  # fmt: skip
        """Load a model now; a pinned one is never evicted. Raises: as `lease`."""
        async with self.lease(installed, spec, mode, context=context, keep_alive=keep_alive) as it:
            self._seats[it.key].pinned |= pin

    async def unload(self, ref: str) -> bool:
        """Stop a model once its present answers are done; whether it was running."""
        found = [s for s in self._seats.values() if s.installed.ref == ref and s.running]
        for seat in found:
            seat.pinned = False
            async with seat.lock:
                await seat.drain(None)
                await seat.end()
        return bool(found)

    def residents(self) -> tuple[Resident, ...]:
        """What is loaded now, the latest used first."""
        seats = sorted(self._seats.values(), key=lambda seat: -seat.last_used)
        known = (seat.resident(self._clock()) for seat in seats)
        return tuple(resident for resident in known if resident is not None)

    def limit(self, limits: Limits) -> None:
        """Other limits from now on. How long a client asked a model to stay, stays."""
        for seat in self._seats.values():
            if seat.keep_alive == self._limits.keep_alive:
                seat.keep_alive = limits.keep_alive
        self._limits = limits
        self._space.limit(limits)

    async def close(self) -> None:
        """Stop everything at once; answers break off."""
        for seat in self._seats.values():
            seat.closing = True
            if seat.task is not None:
                seat.task.cancel()
        await asyncio.gather(*(seat.end() for seat in self._seats.values()))

    # ---- one model

    async def _brought(self, seat: Seat, wanted: int | None) -> None:
        """Wait until the seat was made ready, by whoever began it.

        It goes on when the one who began it leaves: a client with a short time-out would
        else have a large model loaded again and again.
        """
        if seat.task is None:
            seat.task = asyncio.create_task(self._bring(seat, wanted))
            seat.task.add_done_callback(seat.task_done)
        await asyncio.shield(seat.task)

    async def _bring(self, seat: Seat, wanted: int | None) -> None:
        async with seat.lock:
            if seat.usable(wanted):
                return
            if seat.running is not None and not seat.running.alive:
                seat.crashed(self._clock(), seat.running.last_words)
                await seat.end()
            if seat.running is not None:
                if not await self._space.could_grow(seat, wanted):
                    seat.asked_context = max(seat.asked_context, wanted or 0)
                    return
                await seat.drain(None)
                await seat.end()
            seat.hold_back(self._clock())
            seat.asked_context = max(seat.asked_context, wanted or 0)
            await self._start(seat, wanted)

    async def _start(self, seat: Seat, wanted: int | None) -> None:
        """Start the seat's engine; with a smaller plan where it ran out of memory."""
        last: EngineError | None = None
        most: int | None = None
        for _ in range(_ATTEMPTS):
            try:
                async with self._memory:
                    plan = await self._space.make_room(seat, wanted, most)
                    seat.plan = plan  # from here on its bytes are taken
            except DoesNotFit:
                if last is None:
                    raise
                break
            began = self._clock()
            try:
                seat.running = await self._engine.start(plan, seat.mode)
            except EngineError as error:
                seat.plan = None
                seat.crashed(self._clock(), error.because)
                if not is_out_of_memory(error):
                    raise
                last, most = error, int(OOM_STEP * plan.estimate.total_bytes)
                continue
            except BaseException:
                seat.plan = None
                raise
            seat.loaded(self._clock(), 1000 * (self._clock() - began))
            return
        raise NotNow(
            f"{seat.key} could not be loaded.",
            f"{last.because if last else ''} A smaller plan did not help, or there is none.",
            "Close other programs, or take a smaller model.",
            retry_after=_MEMORY_SECONDS,
        )

    # ---- time

    async def _reap(self) -> None:
        """Stop what nobody has used for long, and notice what died."""
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            with contextlib.suppress(OSError):  # a load that cannot be read ends nothing
                await self._steer()
            for seat in tuple(self._seats.values()):
                if seat.lock.locked() or seat.running is None:
                    continue
                gone = not seat.running.alive
                if (gone or seat.expired(self._clock())) and seat.leases == 0:
                    with contextlib.suppress(Exception):
                        async with seat.lock:
                            await self._bury(seat)

    async def _steer(self) -> None:
        """Start models anew for which other settings are better now, between their requests."""
        steering, now = self.steering, self._clock()
        if steering is None or steering.paused:
            return
        running = {key: s.running for key, s in self._seats.items() if s.running is not None}
        steering.load.look(now, (one.pid for one in running.values()))
        for key, one in running.items():
            seat = self._seats[key]
            if seat.plan is None or seat.lock.locked() or seat.task or not one.alive:
                continue
            due = steering.due(key, one, seat.plan, now)
            if due is not None and (seat.idle or urgent(due)):
                steering.began(key, now)
                # In a task of its own: while it is drained, others are still looked after.
                seat.task = asyncio.create_task(self._renew(seat))
                seat.task.add_done_callback(seat.task_done)

    async def _renew(self, seat: Seat) -> None:
        """Start a seat's engine again by a new plan; requests that come meanwhile wait.

        An answer that takes longer than that is left alone, and whoever waited gets in.
        """
        async with seat.lock:
            if seat.running is None or seat.closing:
                return
            context = seat.asked_context or None
            try:
                await seat.drain(_DRAIN_SECONDS)
            except TimeoutError:
                return
            await seat.end()
            seat.asked_context = context or 0
            await self._start(seat, context)

    async def _bury(self, seat: Seat) -> None:
        if seat.running is None or seat.leases:
            return
        if not seat.running.alive:
            seat.crashed(self._clock(), seat.running.last_words)
        elif not seat.expired(self._clock()):
            return
        seat.closing = True
        await seat.end()
