"""The models that are loaded: on the first request, within free memory, and gone when idle.

Every model has a seat. Whoever waits for memory while holding a seat's lock has no running
engine in it, so the one who has the memory may always wait for a victim's lock.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from snugly.engine import room
from snugly.engine.crash import is_out_of_memory
from snugly.engine.evict import Holding, bytes_by_pool
from snugly.engine.seat import NotNow, Resident, Seat
from snugly.engine.types import Engine, Mode, Running
from snugly.errors import EngineError
from snugly.machine.types import Machine
from snugly.model.types import Installed, ModelSpec
from snugly.plan.choose import or_refuse
from snugly.plan.types import Need, Plan, PoolUse

OOM_STEP = 0.8  # of what was free, for the next attempt after the engine ran out of memory
_ATTEMPTS = 3
_REAP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Lease:
    """A running model while somebody uses it. `load_ms` is what this one waited for it."""

    key: str
    running: Running
    plan: Plan
    spec: ModelSpec
    installed: Installed
    load_ms: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How the pool is to behave. Times in seconds.

    `keep_alive` is how long an idle model stays (negative: for ever), `wait` how long a
    request waits for models in use to make way, `slots` how many answers one model is to
    write at once, `cap_bytes` the RAM that all models together may take, None: what is free.
    """

    keep_alive: float = 300.0
    wait: float = 60.0
    slots: int = 1
    cap_bytes: int | None = None


class Pool:
    """Loads, lends and unloads models. Belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        look: Callable[[], Machine],
        planner: room.Planner,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._look = look
        self._planner = planner
        self._limits = limits
        self._clock = clock
        self._seats: dict[str, Seat] = {}
        self._memory = asyncio.Lock()  # one decision about memory at a time
        self._reaper: asyncio.Task[None] | None = None

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
                await self._drain(seat, None)
                await self._end(seat)
        return bool(found)

    def residents(self) -> tuple[Resident, ...]:
        """What is loaded now, the latest used first."""
        seats = sorted(self._seats.values(), key=lambda seat: -seat.last_used)
        known = (seat.resident(self._clock()) for seat in seats)
        return tuple(resident for resident in known if resident is not None)

    async def close(self) -> None:
        """Stop everything at once; answers break off."""
        for seat in self._seats.values():
            seat.closing = True
            if seat.task is not None:
                seat.task.cancel()
        await asyncio.gather(*(self._end(seat) for seat in self._seats.values()))

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
                await self._end(seat)
            if seat.running is not None:
                if not await self._could_grow(seat, wanted):
                    seat.asked_context = max(seat.asked_context, wanted or 0)
                    return
                await self._drain(seat, None)
                await self._end(seat)
            seat.hold_back(self._clock())
            seat.asked_context = max(seat.asked_context, wanted or 0)
            await self._start(seat, wanted)

    async def _could_grow(self, seat: Seat, wanted: int | None) -> bool:
        """Whether a reload would give a longer context."""
        machine = await asyncio.to_thread(self._look)
        others = self._loaded(machine, but=seat)
        own = self._held(seat)
        free = {pool.name: pool.free_bytes + own.get(pool.name, 0) for pool in machine.pools}
        choice = room.decide(
            self._planner,
            machine.with_free(free, "free once this model is stopped"),
            seat.spec,
            self._wants(seat, wanted),
            others,
            self._limits.cap_bytes,
        )
        assert seat.plan is not None
        return isinstance(choice, room.Move) and choice.plan.context > seat.plan.context

    async def _start(self, seat: Seat, wanted: int | None) -> None:
        share = 1.0
        for attempt in range(_ATTEMPTS):
            async with self._memory:
                plan = await self._make_room(seat, wanted, share)
                seat.plan = plan  # from here on its bytes are taken
            began = self._clock()
            try:
                seat.running = await self._engine.start(plan, seat.mode)
            except BaseException as error:
                seat.plan = None
                if is_out_of_memory(error) and attempt + 1 < _ATTEMPTS:
                    share *= OOM_STEP
                    continue
                if isinstance(error, EngineError):
                    seat.crashed(self._clock(), error.because)
                raise
            seat.loaded(self._clock(), 1000 * (self._clock() - began))
            return

    async def _end(self, seat: Seat) -> None:
        running, seat.running = seat.running, None
        seat.closing = False
        try:
            if running is not None:
                await running.stop()
        finally:
            seat.plan = None
            seat.asked_context = 0

    async def _drain(self, seat: Seat, seconds: float | None) -> None:
        """Let nobody in until the last one is out. Raises: TimeoutError."""
        seat.closing = True
        try:
            async with asyncio.timeout(seconds):
                while seat.leases:
                    seat.drained.clear()
                    await seat.drained.wait()
        except BaseException:
            seat.closing = False
            raise

    # ---- memory

    async def _make_room(self, seat: Seat, wanted: int | None, share: float) -> Plan:
        """A plan for the seat, with everything stopped that has to make way."""
        wants = self._wants(seat, wanted)
        deadline = self._clock() + self._limits.wait
        while True:
            machine = await asyncio.to_thread(self._look)
            loaded = self._loaded(machine, but=seat)
            if share < 1.0:
                less = {pool.name: int(pool.free_bytes * share) for pool in machine.pools}
                machine = machine.with_free(less, "less than is free: it was not enough before")
            choice = room.decide(
                self._planner, machine, seat.spec, wants, loaded, self._limits.cap_bytes
            )
            if isinstance(choice, room.Busy):
                await self._stop_busy(choice.victims, deadline)
                continue
            if not isinstance(choice, room.Move):
                or_refuse(choice)
                raise AssertionError("a refusal was no refusal")
            if await self._stopped(choice.victims):
                return choice.plan

    def _wants(self, seat: Seat, wanted: int | None) -> tuple[Need, ...]:
        slots = self._limits.slots if seat.mode == "generate" else 1
        return tuple(room.needs(wanted, slots))

    async def _stopped(self, victims: tuple[str, ...]) -> bool:
        """Stop idle models; False where one of them was taken into use meanwhile."""
        for key in victims:
            seat = self._seats[key]
            async with seat.lock:
                if seat.leases:
                    return False
                seat.closing = True
                await self._end(seat)
        return True

    async def _stop_busy(self, victims: tuple[str, ...], deadline: float) -> None:
        """Stop models in use as soon as their present answers are done.

        Raises: NotNow when that takes too long.
        """
        for key in victims:
            seat = self._seats[key]
            try:
                async with seat.lock:
                    await self._drain(seat, max(0.0, deadline - self._clock()))
                    await self._end(seat)
            except TimeoutError:
                raise NotNow(
                    "There is no memory for this model right now.",
                    f"{key} is in use and needs it.",
                    "Try again when its answers are done, or `snugly stop` it.",
                    retry_after=10,
                ) from None

    def _loaded(self, machine: Machine, but: Seat | None = None) -> list[room.Loaded]:
        """Every model that takes memory, or is about to."""
        found = []
        for seat in self._seats.values():
            if seat is but or seat.plan is None:
                continue
            uses = _called(seat.plan.estimate.uses, machine)
            idle = seat.idle and not seat.pinned
            holding = Holding(seat.key, uses, seat.last_used, idle)
            found.append(room.Loaded(holding, self._held(seat), seat.pinned))
        return found

    def _held(self, seat: Seat) -> Mapping[str, int]:
        """What a model misses from the machine's free bytes, per pool."""
        if seat.running is None or seat.plan is None:
            return {}  # still loading: how far it is, nobody can tell
        held = bytes_by_pool(seat.plan.estimate.uses)
        held["RAM"] = held.pop("unified", 0) + held.get("RAM", 0)
        ram = seat.running.held_bytes()
        return held if ram is None else held | {"RAM": min(ram, held["RAM"])}

    # ---- time

    async def _reap(self) -> None:
        """Stop what nobody has used for long, and notice what died."""
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            for seat in tuple(self._seats.values()):
                if seat.lock.locked() or seat.running is None:
                    continue
                gone = not seat.running.alive
                if (gone or seat.expired(self._clock())) and seat.leases == 0:
                    with contextlib.suppress(Exception):
                        async with seat.lock:
                            await self._bury(seat)

    async def _bury(self, seat: Seat) -> None:
        if seat.running is None or seat.leases:
            return
        if not seat.running.alive:
            seat.crashed(self._clock(), seat.running.last_words)
        elif not seat.expired(self._clock()):
            return
        seat.closing = True
        await self._end(seat)


def _called(uses: tuple[PoolUse, ...], machine: Machine) -> tuple[PoolUse, ...]:
    """Uses by the names of the machine's pools: Apple's "unified" memory is its RAM."""
    names = {pool.name for pool in machine.pools}
    return tuple(use if use.pool in names else replace(use, pool="RAM") for use in uses)
