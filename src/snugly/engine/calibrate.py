"""Measures engines and their settings on this machine with one model, within a time limit."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from snugly.chat.requests import CompletionRequest, TokenizeRequest
from snugly.engine.registry import ENGINES, NATIVE, WHEEL
from snugly.engine.types import Running
from snugly.errors import SnuglyError, UserError
from snugly.machine.host import Host
from snugly.machine.load import Clock, busy_cores
from snugly.machine.types import Machine
from snugly.model.types import ModelSpec
from snugly.plan.calibration import (
    HOUSE_SPIN,
    STOCK_SPIN,
    Calibration,
    Sample,
    Tuning,
    combined,
    survivors,
    variations,
    work_of,
)
from snugly.plan.threads import threads
from snugly.plan.types import Plan
from snugly.settings import Settings

PROMPT_TOKENS = 512  # one micro-batch of the engine's default
LEAST_PROMPT_TOKENS = 64
DECODE_TOKENS = 32
GRACE_SECONDS = 5.0  # past the limit: for a measurement that is nearly done
BUSY_CORES = 0.5  # more than this taken by others, and what is measured is them
MOST_ROUNDS = 4
_TASKS = ("chat", "code", "summarize")  # short, long and very long prompts

Told = Callable[[Tuning, Sample | None, int], None]  # what is measured, what came out, the round
Keep = Callable[[Calibration], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a calibration needs: the plan as it stands, and how long it may take."""

    plan: Plan
    settings: Settings
    machine: Machine
    vocab_size: int
    ends: tuple[str, ...]  # tokens that would end an answer
    seconds: float
    others_busy: Callable[[], float]  # cores that other programs take now

    @property
    def answer_seconds(self) -> float:
        """How long one answer may take: a machine in trouble must not take all the time."""
        return min(10.0, self.seconds / 10)

    @property
    def prompt_tokens(self) -> int:
        """PROMPT_TOKENS, or what a slow machine reads in half of an answer's time."""
        if self.plan.speed is None:
            return PROMPT_TOKENS
        most = int(self.plan.speed.prefill_tps.expected * self.answer_seconds / 2)
        return max(LEAST_PROMPT_TOKENS, min(PROMPT_TOKENS, most // 64 * 64))


def bench_for(
    plan: Plan,
    spec: ModelSpec,
    settings: Settings,
    machine: Machine,
    seconds: float,
    anyway: bool = False,
) -> Bench:
    """What a calibration with one model needs. `anyway`: other programs do not matter."""

    def others_busy() -> float:
        # Between two measurements none of our processes computes.
        return 0.0 if anyway else busy_cores(Host(), Clock.read(Host())).or_else(0.0)

    ends = tuple(t for name, t in spec.special_tokens.items() if name in ("eos", "eot") and t)
    return Bench(plan, settings, machine, spec.vocab_size, ends, seconds, others_busy)


def default_tuning(machine: Machine, engine: str) -> Tuning:
    """What the engine does by itself: a thread per core, stock waiting, copies, 512 at a time.

    Source: llama.cpp common/common.cpp, cpu_get_num_math.
    """
    cpu = machine.cpu
    cores = cpu.physical_cores.or_else(max(1, cpu.logical_cores.or_else(2) // 2))
    return Tuning(engine, cores, cores, STOCK_SPIN)


def usable_engines(settings: Settings, machine: Machine) -> list[str]:
    """The engines that can run here, the best guess first."""
    cpu = machine.cpu
    found = []
    for name in (NATIVE, WHEEL):
        try:
            why = ENGINES[name][1](settings).unusable(
                cpu.architecture.or_else(""), cpu.instructions.or_else(())
            )
        except SnuglyError:
            continue
        if not why:
            found.append(name)
    return found


async def calibrate(
    bench: Bench, known: Calibration | None, model_class: str, told: Told, keep: Keep
) -> Calibration:
    """Measure until the time is up, going on from `known`; `keep` gets every new state.

    Every round begins with the engine's own defaults, so that each is compared with them
    under the same conditions. What was clearly slower is not measured again.

    Raises: UserError when other programs keep the machine busy, or when the model cannot be
    loaded in the time; EngineError when not even the defaults run.
    """
    engines = usable_engines(bench.settings, bench.machine)
    default = default_tuning(bench.machine, engines[0] if engines else WHEEL)
    if known is None or known.default != default:
        known = Calibration(model_class, default)
    run = _Run(bench, known, told, keep, time.monotonic() + bench.seconds)
    first = 1 + max((sample.round for sample in known.samples), default=-1)
    free, _ = threads(bench.machine)
    house = replace(default, threads=free, threads_batch=free, spin_rounds=HOUSE_SPIN)
    for number in range(first, max(first + 1, MOST_ROUNDS)):
        wanted = _wanted(run.calibration, house, engines, bench.machine)
        if not await run.round(number, wanted):
            break
    return run.calibration


def _wanted(
    calibration: Calibration, house: Tuning, engines: Sequence[str], machine: Machine
) -> list[Tuning]:
    """What a round measures: everything at first, later what could win, and what is new."""
    if calibration.rounds == 0:
        cores = max(1, int(machine.cpu.usable_cores.or_else(1.0)))
        others = [replace(house, engine=name) for name in engines if name != house.engine]
        return [calibration.default, *others, *variations(house, cores)]
    works = [work_of(task) for task in _TASKS]
    made = [combined(calibration, work, house) for work in works]
    measured = {sample.tuning for sample in calibration.samples}
    missing = [t for t in variations(house, house.threads) if t not in measured]
    return list(
        dict.fromkeys(
            [*survivors(calibration, works), *(tuning for tuning in made if tuning), *missing]
        )
    )


class _Run:
    """One stretch of measuring: its deadline, and the state as it grows."""

    def __init__(
        self, bench: Bench, known: Calibration, told: Told, keep: Keep, deadline: float
    ) -> None:
        self.calibration = known
        self._bench, self._told, self._keep, self._deadline = bench, told, keep, deadline
        self._longest = 0.0

    async def round(self, number: int, wanted: Sequence[Tuning]) -> bool:
        """Measure each once; False when the time is up."""
        for tuning in wanted:
            if time.monotonic() + self._longest > self._deadline:
                return False
            busy = self._bench.others_busy()
            if busy > BUSY_CORES:
                raise UserError(
                    "Other programs keep this machine busy: nothing can be measured now.",
                    f"They take {busy:.1f} cores.",
                    "Try again when it is quiet, or measure all the same with --anyway.",
                )
            begun = time.monotonic()
            self._told(tuning, None, number)
            try:
                async with asyncio.timeout(self._deadline - begun + GRACE_SECONDS):
                    sample = await measure(self._bench, tuning, number)
            except TimeoutError:
                if not self.calibration.samples:
                    raise _too_large(self._bench.seconds) from None
                return False
            except SnuglyError:
                if tuning == self.calibration.default:
                    raise
                continue  # a setting that does not run here is no candidate
            self._longest = max(self._longest, time.monotonic() - begun)
            self._told(tuning, sample, number)
            self.calibration = replace(
                self.calibration, samples=(*self.calibration.samples, sample)
            )
            self._keep(self.calibration)
        return True


def _too_large(seconds: float) -> UserError:
    return UserError(
        "This model cannot be measured in the time.",
        f"Loading it once and asking it took more than {seconds:.0f} seconds.",
        "Give more --seconds, or measure with a smaller model.",
    )


async def measure(bench: Bench, tuning: Tuning, number: int) -> Sample:
    """Start the engine with `tuning`, read one prompt, write a few tokens.

    Raises: EngineError.
    """
    plan = plan_with(bench.plan, tuning)
    # Tokens at random: neither a cache nor a guess at what comes next can help.
    some = random.Random(number)
    ids = tuple(some.randrange(bench.vocab_size) for _ in range(bench.prompt_tokens))
    # The numbers are the same in every run: what one has read must not help the next.
    forgetful = replace(bench.settings, prefix_cache_bytes=0)
    running = await ENGINES[tuning.engine][1](forgetful).start(plan)
    try:
        ends = [await running.tokenize(TokenizeRequest("", text)) for text in bench.ends]
        request = CompletionRequest(
            (ids,),
            max_tokens=DECODE_TOKENS,
            temperature=0.0,
            logit_bias=tuple((end[0], float("-inf")) for end in ends if len(end) == 1),
        )
        prefill, decode = await _timed(running, request, ids, bench.answer_seconds)
    finally:
        await running.stop()
    return Sample(number, tuning, prefill, decode)


async def _timed(
    running: Running, request: CompletionRequest, ids: tuple[int, ...], seconds: float
) -> tuple[float, float]:
    """Prefill and decode rates as the engine tells them; as seen here when it takes too long.

    What is not done in time is taken for no slower than it could have been: the engine's own
    settings are never made to look worse than they are.
    """
    begun = time.monotonic()
    first, written = 0.0, 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(running.complete(request, ids)) as deltas:
            async for delta in deltas:
                first = first or time.monotonic()
                written += 1
                if delta.usage is not None:
                    return delta.usage.prefill_tps, delta.usage.decode_tps
    now = time.monotonic()
    prefill = len(ids) / ((first or now) - begun)
    return prefill, max(written, 1) / (now - first) if first else prefill


def plan_with(plan: Plan, tuning: Tuning) -> Plan:
    """`plan` as `tuning` has it, with room for what is measured."""
    setup = replace(
        plan.setup,
        context=2 * PROMPT_TOKENS,
        n_seq=1,
        kv_type=tuning.kv_type,
        v_type=None,
        repack=tuning.repack,
        flash_attention=tuning.flash_attention or tuning.kv_type != "F16",
        ubatch=tuning.ubatch,
        batch=max(plan.setup.batch, tuning.ubatch),
    )
    return replace(
        plan,
        setup=setup,
        threads=tuning.threads,
        threads_batch=tuning.threads_batch,
        spin_rounds=tuning.spin_rounds,
    )
