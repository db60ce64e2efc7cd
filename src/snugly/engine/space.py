"""Room in memory for one more model: plans against what is free now, and who makes way."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from snugly.engine import room
from snugly.engine.evict import Holding, bytes_by_pool
from snugly.engine.seat import NotNow, Seat
from snugly.engine.types import Running
from snugly.machine.types import Machine
from snugly.plan.choose import or_refuse
from snugly.plan.types import Need, Plan, PoolUse, Rejected

_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at the memory. `moving` are the planned bytes per pool of what came or went."""

    machine: Machine
    loaded: Sequence[room.Loaded]
    moving: Mapping[str, int]


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


class Space:
    """The memory of all seats. Decisions are `engine.room`'s; this looks and acts.

    `seats` is the pool's own mapping.
    """

    def __init__(
        self,
        seats: Mapping[str, Seat],
        look: Callable[[], Machine],
        planner: room.Planner,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._seats = seats
        self._look = look
        self._planner = planner
        self._limits = limits
        self._clock = clock

    def limit(self, limits: Limits) -> None:
        """Other limits, from the next decision on."""
        self._limits = limits

    async def could_grow(self, seat: Seat, wanted: int | None) -> bool:
        """Whether a reload would give a longer context. What comes and goes is waited for."""
        deadline = self._clock() + self._limits.wait
        seen = await self._seen(but=seat)
        while seen.moving and self._clock() < deadline:
            await self._still(seat, deadline)
            seen = await self._seen(but=seat)
        if seat.plan is None:
            return False
        own = self._held(seat)
        machine = _with(seen.machine, own, "free once this model is stopped")
        choice = await self._choice(seat, self._wants(seat, wanted), replace(seen, machine=machine))
        return isinstance(choice, room.Move) and choice.plan.context > seat.plan.context

    async def make_room(self, seat: Seat, wanted: int | None, most_bytes: int | None) -> Plan:
        """A plan for the seat, with everything stopped that has to make way.

        `most_bytes` bounds the plan where a larger one turned out to be too large.
        """
        wants = [replace(w, budget_bytes=most_bytes) for w in self._wants(seat, wanted)]
        deadline = self._clock() + self._limits.wait
        while True:
            seen = await self._seen(but=seat)
            choice = await self._choice(seat, wants, seen)
            if isinstance(choice, room.Move):
                if await self._stopped(choice.victims):
                    return choice.plan
            elif isinstance(choice, room.Busy) and choice.victims:
                await self._stop_busy(choice.victims, deadline)
            else:
                await self._refuse_surely(seat, wants, seen)
                await self._settled(seat, deadline)

    async def _refuse_surely(self, seat: Seat, wants: Sequence[Need], seen: _Seen) -> None:
        """Refuse what would not fit even with all bytes back that are on the way.

        Of a model that comes or goes nobody can tell how much of it is still, or already,
        missing from the free bytes: a refusal by such numbers might be wrong a moment later.

        Raises: DoesNotFit.
        """
        machine = _with(seen.machine, seen.moving, "free once the others have come or gone")
        choice = await self._choice(seat, wants, replace(seen, machine=machine))
        if isinstance(choice, Rejected):
            or_refuse(choice)

    async def _settled(self, seat: Seat, deadline: float) -> None:
        """Until the others have come or gone. Raises: NotNow when it has taken too long."""
        if self._clock() >= deadline:
            raise NotNow(
                "There is no memory for this model right now.",
                "Other models are being loaded or stopped.",
                "Try again when that is done; `snugly ps` shows what is loaded.",
                retry_after=10,
            )
        await self._still(seat, deadline)

    async def _still(self, seat: Seat, deadline: float) -> None:
        """Wait until no other model comes or goes, without looking at the machine meanwhile."""
        await asyncio.sleep(_LOOK_SECONDS)
        while self._clock() < deadline and any(
            other is not seat and other.running is None and other.plan is not None
            for other in self._seats.values()
        ):
            await asyncio.sleep(_LOOK_SECONDS)

    async def _choice(
        self, seat: Seat, wants: Sequence[Need], seen: _Seen
    ) -> room.Move | room.Busy | Rejected:
        """What to do, thought over in a thread: planning may take longer than a token."""
        cap = self._limits.cap_bytes
        return await asyncio.to_thread(
            room.decide, self._planner, seen.machine, seat.spec, wants, seen.loaded, cap
        )

    async def _seen(self, but: Seat) -> _Seen:
        """What is free, what is loaded, and what came or went while we looked."""
        before = {key: _state(seat) for key, seat in self._seats.items()}
        machine = await asyncio.to_thread(self._look)
        found, moving = [], list[PoolUse]()
        for key, seat in self._seats.items():
            if seat is but:
                continue
            was, now = before.get(key, (None, None)), _state(seat)
            steady = was == now and (now[0] is None) == (now[1] is None)
            if not steady:
                plans = {id(plan): plan for plan in (was[1], now[1]) if plan is not None}
                moving += [use for plan in plans.values() for use in plan.estimate.uses]
            if now[1] is not None:
                uses = _called(now[1].estimate.uses, machine)
                holding = Holding(key, uses, seat.last_used, seat.idle and not seat.pinned)
                held = self._held(seat) if steady else {}
                found.append(room.Loaded(holding, held, seat.pinned))
        return _Seen(machine, found, bytes_by_pool(_called(tuple(moving), machine)))

    def _wants(self, seat: Seat, wanted: int | None) -> tuple[Need, ...]:
        task = {"embed": "embed", "rerank": "rerank"}.get(seat.mode, "chat")
        slots = 1 if seat.mode == "score" else self._limits.slots  # one prompt after the other
        return tuple(room.needs(wanted, slots, task))

    async def _stopped(self, victims: tuple[str, ...]) -> bool:
        """Stop idle models; False where one of them was taken into use meanwhile."""
        for key in victims:
            seat = self._seats[key]
            if seat.leases or seat.waiting:
                return False
            await self._vacate(seat, None)
        return True

    async def _stop_busy(self, victims: tuple[str, ...], deadline: float) -> None:
        """Stop models in use as soon as their present answers are done.

        Raises: NotNow when that takes too long.
        """
        for key in victims:
            try:
                await self._vacate(self._seats[key], deadline)
            except TimeoutError:
                raise NotNow(
                    "There is no memory for this model right now.",
                    f"{key} is in use and needs it.",
                    "Try again when its answers are done, or `snugly stop` it.",
                    retry_after=10,
                ) from None

    async def _vacate(self, seat: Seat, deadline: float | None) -> None:
        """Let nobody into a seat, and stop what runs there once the last one is out.

        It never waits for a lock: whoever holds it may be about to wait for the memory that
        we hold. Raises: TimeoutError.
        """
        seat.closing = True
        try:
            while seat.plan is not None:
                left = None if deadline is None else max(0.0, deadline - self._clock())
                if seat.running is not None and not seat.lock.locked():
                    async with seat.lock:
                        await seat.drain(left)
                        await seat.end()
                elif left == 0.0:
                    raise TimeoutError
                else:
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            seat.closing = False

    def _held(self, seat: Seat) -> Mapping[str, int]:
        """What a model misses from the machine's free bytes, per pool."""
        if seat.running is None or seat.plan is None:
            return {}  # still loading: how far it is, nobody can tell
        held = bytes_by_pool(seat.plan.estimate.uses)
        held["RAM"] = held.pop("unified", 0) + held.get("RAM", 0)
        ram = seat.running.held_bytes()
        return held if ram is None else held | {"RAM": min(ram, held["RAM"])}


def _state(seat: Seat) -> tuple[Running | None, Plan | None]:
    """What a seat takes memory for. What has died takes none, although nobody noticed yet.

    A plan without an engine is on its way: it is being loaded, or stopped.
    """
    if seat.running is not None and not seat.running.alive:
        return None, None
    return seat.running, seat.plan


def _with(machine: Machine, more: Mapping[str, int], why: str) -> Machine:
    """The machine with so much more free."""
    free = {pool.name: pool.free_bytes + more.get(pool.name, 0) for pool in machine.pools}
    return machine.with_free(free, why)


def _called(uses: tuple[PoolUse, ...], machine: Machine) -> tuple[PoolUse, ...]:
    """Uses by the names of the machine's pools: Apple's "unified" memory is its RAM."""
    names = {pool.name for pool in machine.pools}
    return tuple(use if use.pool in names else replace(use, pool="RAM") for use in uses)
