"""The pool: loads once, evicts, grows once, backs off, never takes more than there is."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from tests import making

from snugly.engine.pool import Pool
from snugly.engine.room import bucket
from snugly.engine.seat import NotNow
from snugly.engine.space import Limits
from snugly.engine.types import Mode
from snugly.errors import DoesNotFit, EngineError
from snugly.machine.types import Machine
from snugly.model.types import Installed, ModelSpec, Provenance
from snugly.plan.types import Change, Estimate, Need, Plan, PoolUse, Rejected
from snugly.units import GiB

KV_PER_TOKEN = 64 * 1024  # of the made-up models: 8,192 tokens take 512 MiB


def model(name: str, gib: float = 4) -> tuple[Installed, ModelSpec]:
    spec = making.spec(path=f"/{name}.gguf", name=name, weight_bytes=int(gib * GiB))
    installed = Installed(
        f"p/{name}/{name}.gguf", spec.path, (spec.path,), Provenance("", "", "", "", 0, ""), False
    )
    return installed, spec


def planner(machine: Machine, spec: ModelSpec, need: Need) -> Plan | Rejected:
    """Weights and a cache; a context of 8,192 unless asked, halved until it fits."""
    free = min(machine.ram.free_bytes, need.budget_bytes or machine.ram.free_bytes)
    each = KV_PER_TOKEN // (2 if need.kv_type else 1)
    contexts = [need.context] if need.context else [8192, 4096, 2048, 1024, 512]
    for context in contexts:
        total = spec.weight_bytes + context * each
        if total <= free:
            use = PoolUse("RAM", weights_bytes=spec.weight_bytes, kv_bytes=context * each)
            return making.plan(spec.path, context, estimate=Estimate((use,)))
    needed = spec.weight_bytes + contexts[-1] * each
    return Rejected(spec.name, needed, (machine.ram,), (free,), (Change("Take less.", ""),))


@dataclass(eq=False)
class FakeRunning:
    plan: Plan
    owner: "FakeEngine"
    pid: int = 1
    alive: bool = True
    last_words: str = ""

    async def stop(self) -> None:
        await asyncio.sleep(self.owner.stop_delay)
        if self.alive:
            self.alive = False
            self.owner.taken -= self.plan.estimate.total_bytes

    def crash(self) -> None:
        self.alive, self.last_words = False, "It crashed (SIGSEGV)."
        self.owner.taken -= self.plan.estimate.total_bytes

    def held_bytes(self) -> int:
        return self.plan.estimate.total_bytes

    def peak_bytes(self) -> int:
        return self.plan.estimate.total_bytes


@dataclass
class FakeEngine:
    """Engines in a box of `size` bytes; more than that is a failure of the test."""

    size: int = 10 * GiB
    name: str = "fake"
    taken: int = 0
    peak: int = 0
    starts: list[str] = field(default_factory=list)
    fail: list[EngineError] = field(default_factory=list)
    delay: float = 0.0
    stop_delay: float = 0.0
    now: float = 100.0

    def look(self) -> Machine:
        return making.machine(self.size, self.size - self.taken)

    async def start(self, plan: Plan, mode: Mode = "generate") -> Any:
        self.starts.append(plan.model_path)
        await asyncio.sleep(self.delay)
        if self.fail:
            raise self.fail.pop(0)
        self.taken += plan.estimate.total_bytes
        self.peak = max(self.peak, self.taken)
        assert self.taken <= self.size, "more than the box has"
        return FakeRunning(plan, self)


@asynccontextmanager
async def pool_of(engine: FakeEngine, **limits: Any) -> AsyncIterator[Pool]:
    async with Pool(
        engine,  # type: ignore[arg-type]
        engine.look, planner, Limits(**limits), clock=lambda: engine.now,
    ) as pool:  # fmt: skip
        yield pool


async def use(pool: Pool, name: str, gib: float = 4, **how: Any) -> Any:
    async with pool.lease(*model(name, gib), **how) as lease:
        await asyncio.sleep(0)
        return lease


async def test_two_requests_at_once_load_a_model_once() -> None:
    engine = FakeEngine(delay=0.01)
    async with pool_of(engine) as pool:
        await asyncio.gather(*(use(pool, "a") for _ in range(20)))
    assert engine.starts == ["/a.gguf"]
    assert engine.taken == 0  # closed: everything is stopped


async def test_four_models_in_turn_that_cannot_all_fit_never_take_more_than_there_is() -> None:
    engine = FakeEngine(size=10 * GiB)
    async with pool_of(engine) as pool:
        for turn in range(12):
            engine.now += 1
            await use(pool, "abcd"[turn % 4])
        assert engine.peak <= 10 * GiB
        assert len(pool.residents()) == 2


async def test_the_one_used_last_stays() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        for name in "aba":
            engine.now += 1
            await use(pool, name)
        engine.now += 1
        await use(pool, "c")
        assert {r.ref[2] for r in pool.residents()} == {"a", "c"}


async def test_a_pinned_model_is_never_evicted() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        await pool.load(*model("a", 8), pin=True)
        with pytest.raises(DoesNotFit, match="b does not fit"):
            await use(pool, "b", 4)
        engine.now += 1e6
        assert [r.pinned for r in pool.residents()] == [True]


async def test_a_model_in_use_is_waited_for_then_evicted() -> None:
    engine = FakeEngine()
    async with pool_of(engine, wait=5.0) as pool:
        async with pool.lease(*model("a", 8)):
            waiting = asyncio.create_task(use(pool, "b", 8))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 2)
    assert engine.starts == ["/a.gguf", "/b.gguf"]


async def test_a_model_in_use_for_too_long_is_a_503_with_a_time() -> None:
    engine = FakeEngine()
    async with pool_of(engine, wait=0.05) as pool:
        async with pool.lease(*model("a", 8)):
            with pytest.raises(NotNow, match="in use") as caught:
                await use(pool, "b", 8)
        assert caught.value.retry_after > 0
        await use(pool, "a", 8)  # and it may be used again
    assert engine.starts == ["/a.gguf"]


async def test_a_shorter_context_is_tried_before_failing() -> None:
    engine = FakeEngine(size=5 * GiB)
    async with pool_of(engine) as pool:
        # 4 GiB of weights and 16,384 tokens at 64 KiB are 5 GiB; 32,768 would be 6
        lease = await use(pool, "a", 4, context=16384)
        assert lease.plan.context == 16384
        lease = await use(pool, "b", 4, context=30000)
        assert lease.plan.context == 8192


async def test_too_large_is_refused_before_loading() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        with pytest.raises(DoesNotFit, match="12"):
            await use(pool, "a", 12)
    assert engine.starts == []


async def test_growing_reloads_once_and_shrinking_never() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        await use(pool, "a")
        for context in (10000, 11000, 12500, 16384, 2048, 9000):  # aider's habit
            lease = await use(pool, "a", context=context)
            assert lease.plan.context == 16384
    assert len(engine.starts) == 2


async def test_a_context_that_cannot_be_had_is_tried_once() -> None:
    engine = FakeEngine(size=5 * GiB)
    async with pool_of(engine) as pool:
        first = await use(pool, "a", 4.5)
        for _ in range(3):
            again = await use(pool, "a", 4.5, context=32768)
            assert again.running is first.running
    assert len(engine.starts) == 1


async def test_keep_alive() -> None:
    engine = FakeEngine()
    async with pool_of(engine, keep_alive=300) as pool:
        await use(pool, "a", 1)
        await use(pool, "b", 1, keep_alive=0)
        await use(pool, "c", 1, keep_alive=-1.0)
        await asyncio.sleep(0.6)
        assert {r.ref[2] for r in pool.residents()} == {"a", "c"}
        engine.now += 301
        await asyncio.sleep(0.6)
        assert {r.ref[2]: r.expires_in for r in pool.residents()} == {"c": None}


async def test_a_crash_restarts_at_once_a_second_one_waits() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        (await use(pool, "a")).running.crash()
        again = await use(pool, "a")
        again.running.crash()
        with pytest.raises(NotNow, match="crashed 2 times") as caught:
            await use(pool, "a")
        assert caught.value.retry_after == 1
        assert "SIGSEGV" in caught.value.because
        engine.now += 1.1
        (await use(pool, "a")).running.crash()
        with pytest.raises(NotNow) as caught:
            await use(pool, "a")
        assert caught.value.retry_after == 2
        engine.now += 301
        await use(pool, "a")


async def test_out_of_memory_while_loading_is_tried_smaller() -> None:
    oom = EngineError("The engine could not load the model.", "It ran out of memory.", "")
    engine = FakeEngine(size=5 * GiB, fail=[oom])
    async with pool_of(engine) as pool:
        lease = await use(pool, "a", 0.5)  # with 8,192 tokens 1 GiB; 80% of it hold 4,096
        assert lease.plan.context == 4096
    assert len(engine.starts) == 2


async def test_a_requester_that_leaves_does_not_stop_the_loading() -> None:
    engine = FakeEngine(delay=0.1)
    async with pool_of(engine) as pool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(use(pool, "a"), 0.02)
        await use(pool, "a")
    assert len(engine.starts) == 1


async def test_embeddings_stand_beside_chat() -> None:
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        await use(pool, "a", 1)
        await use(pool, "a", 1, mode="embed")
        assert [r.mode for r in pool.residents()] == ["embed", "generate"] or len(
            pool.residents()
        ) == 2


async def test_what_is_stopped_while_we_look_is_no_reason_to_refuse() -> None:
    """The look sees its bytes taken; when it comes back nothing is there that holds them."""
    engine, looking = FakeEngine(), threading.Event()

    def look() -> Machine:
        seen = engine.look()
        looking.set()
        time.sleep(0.05)
        return seen

    async with Pool(engine, look, planner, Limits(), clock=lambda: engine.now) as pool:  # type: ignore[arg-type]
        await use(pool, "a", 8)
        looking.clear()
        asking = asyncio.create_task(use(pool, "b", 8))
        await asyncio.to_thread(looking.wait)
        await pool.unload(model("a")[0].ref)
        await asyncio.wait_for(asking, 5)
    assert engine.starts == ["/a.gguf", "/b.gguf"]


async def test_what_is_slow_to_stop_is_waited_for() -> None:
    engine = FakeEngine(stop_delay=0.1)
    async with pool_of(engine) as pool:
        await use(pool, "a", 8)
        stopping = asyncio.create_task(pool.unload(model("a")[0].ref))
        await asyncio.sleep(0.02)
        await asyncio.wait_for(use(pool, "b", 8), 5)
        await stopping
    assert engine.peak <= engine.size


async def test_what_never_stops_is_a_503_in_the_end() -> None:
    engine = FakeEngine(stop_delay=1e6)
    async with pool_of(engine, wait=5.0) as pool:
        await use(pool, "a", 8)
        stopping = asyncio.create_task(pool.unload(model("a")[0].ref))
        await asyncio.sleep(0.02)
        asking = asyncio.create_task(use(pool, "b", 8))
        await asyncio.sleep(0.1)
        engine.now += 6
        with pytest.raises(NotNow, match="being loaded or stopped"):
            await asyncio.wait_for(asking, 5)
        with pytest.raises(DoesNotFit, match="12"):  # that would not help this one
            await asyncio.wait_for(use(pool, "c", 12), 5)
        engine.stop_delay = 0.0
        stopping.cancel()


async def test_a_dead_engine_holds_no_memory() -> None:
    """Its bytes are free again before anybody notices: counted twice, 12 GiB would seem to fit."""
    engine = FakeEngine()
    async with pool_of(engine) as pool:
        (await use(pool, "a", 8)).running.crash()
        with pytest.raises(DoesNotFit, match="12"):
            await use(pool, "b", 12)
        assert engine.starts == ["/a.gguf"]


@pytest.mark.parametrize("rounds", [200])
async def test_unloading_and_loading_race(rounds: int, soak: bool) -> None:
    """Three models of which two fit, asked for and unloaded without a pause between."""
    engine, random = FakeEngine(delay=0.0005, stop_delay=0.001), Random(20)
    rounds *= 10 if soak else 1
    unloaded = 0

    def look() -> Machine:
        seen = engine.look()
        time.sleep(0.0005)  # the world goes on while somebody looks at it
        return seen

    async with Pool(engine, look, planner, Limits(), clock=lambda: engine.now) as pool:  # type: ignore[arg-type]

        async def asks(name: str) -> None:
            for _ in range(rounds):
                await use(pool, name, 4)
                await asyncio.sleep(0.001 * random.random())

        async def unloads() -> None:
            nonlocal unloaded
            for turn in range(rounds):
                engine.now += 0.001
                unloaded += await pool.unload(model("abc"[turn % 3])[0].ref)
                await asyncio.sleep(0.001 * random.random())

        async with asyncio.timeout(120):
            await asyncio.gather(asks("a"), asks("b"), asks("c"), asks("a"), unloads())
    print(f"{rounds} rounds, {len(engine.starts)} loads, {unloaded} unloads, 0 refused")
    assert engine.taken == 0
    assert engine.peak <= engine.size


@pytest.mark.parametrize(
    ("asked", "size"), [(None, None), (10, 4096), (4097, 8192), (10**7, 32768), (20000, 32768)]
)
def test_contexts_come_in_buckets(asked: int | None, size: int | None) -> None:
    assert bucket(asked, 32768) == size


def test_a_model_of_a_short_context_is_asked_for_no_more() -> None:
    assert bucket(4096, 2048) == 2048
