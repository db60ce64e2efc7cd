"""Engines beside each other: start, prefill, decode and peak memory, in alternation.

    python bench/engines.py [--rounds 3] [--tokens 512] [MODEL.gguf ...]

The peer is llama-server with its own defaults (a thread per core, stock waiting), when there
is one (`snugly engine`); else the wheel with the same. Then each engine that is here as
Snugly starts it. Ratios are of the same round; medians with their spread.
"""

import argparse
import asyncio
import statistics
import time
from contextlib import aclosing
from dataclasses import replace

from workload import default_model, header

from snugly.chat.requests import CompletionRequest
from snugly.engine.calibrate import default_tuning, plan_with
from snugly.engine.launch import engine_facts
from snugly.engine.registry import AUTO, ENGINES
from snugly.machine.detect import detect
from snugly.model.spec import read_spec
from snugly.plan.calibration import HOUSE_SPIN
from snugly.plan.choose import choose, or_refuse
from snugly.plan.types import Need, Plan
from snugly.settings import settings
from snugly.units import MiB

DECODE_TOKENS = 64


async def one(name: str, plan: Plan, tokens: int) -> tuple[float, float, float, float]:
    """Seconds to start, prefill and decode rates, peak MiB of one answer."""
    begun = time.perf_counter()
    running = await ENGINES[name][1](settings()).start(plan)
    started = time.perf_counter() - begun
    ids = tuple(100 + 7 * i % 20_000 for i in range(tokens))
    request = CompletionRequest((ids,), temperature=0.0, max_tokens=DECODE_TOKENS)
    usage = None
    try:
        async with aclosing(running.complete(request, ids)) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
        peak = (running.peak_bytes() or 0) / MiB
    finally:
        await running.stop()
    if usage is None:
        raise SystemExit(f"{name} told no times")
    return started, usage.prefill_tps, usage.decode_tps, peak


def compare(path: str, rounds: int, tokens: int) -> None:
    """One model on every engine."""
    machine = detect(settings().store)
    spec = read_spec(path)
    plan = or_refuse(choose(machine, spec, Need(2 * tokens), engine_facts(machine)))
    cpu = machine.cpu
    told = cpu.architecture.or_else(""), cpu.instructions.or_else(())
    makers = {name: make for name, (_, make) in ENGINES.items() if name != AUTO}
    here = [name for name, make in makers.items() if not make(settings()).unusable(*told)]
    here.sort(key=lambda name: name != "native")
    peer = default_tuning(machine, here[0])
    house = replace(peer, spin_rounds=HOUSE_SPIN)
    tunings = {f"{here[0]}, its own defaults": peer}
    tunings |= {name: replace(house, engine=name) for name in here}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in tunings}
    for _ in range(rounds):
        for name, tuning in tunings.items():
            made = plan_with(plan, tuning)
            made = replace(made, setup=replace(made.setup, context=2 * tokens))
            found[name].append(asyncio.run(one(tuning.engine, made, tokens)))
    print(f"\n{spec.name}, {tokens} tokens in, {DECODE_TOKENS} out")
    print(f"{'engine':<28}{'start s':>9}{'prefill':>10}{'ratio':>22}{'decode':>9}{'ratio':>22}"
          f"{'peak MiB':>10}")  # fmt: skip
    base = next(iter(found.values()))
    for name, rows in found.items():
        middle = [statistics.median(column) for column in zip(*rows, strict=True)]
        ratios = [
            _spread([row[at] / other[at] for row, other in zip(rows, base, strict=True)])
            for at in (1, 2)
        ]
        print(f"{name:<28}{middle[0]:>9.2f}{middle[1]:>10.0f}{ratios[0]:>22}{middle[2]:>9.1f}"
              f"{ratios[1]:>22}{middle[3]:>10.0f}")  # fmt: skip


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} .. {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=512)
    asked = parser.parse_args()
    header(f"engines, median (min .. max) of {asked.rounds} alternating rounds")
    for path in asked.models or [default_model()]:
        compare(path, asked.rounds, asked.tokens)


if __name__ == "__main__":
    main()
