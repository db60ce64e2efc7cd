"""What another program on one core does to decoding, and what Snugly does about it.

    python bench/busy.py [ROUNDS] [MODEL.gguf]

In alternation, with and without a busy loop beside it: one thread per core waiting as
GNU OpenMP does by default (the stock setting), the same waiting as Snugly does, and
one thread less (what the plan chooses when the core is busy before the start).
"""

import asyncio
import dataclasses
import os
import statistics
import subprocess
import sys
import time

from workload import default_model, header, plan_for, spread

from snugly.chat.types import ChatRequest, Message
from snugly.engine.llama_cpp import LlamaCpp

REQUEST = ChatRequest((Message("user", "Count from 1 to 100."),), max_tokens=24, temperature=0.0)
CORES = os.cpu_count() or 2
STOCK_SPIN = "300000"  # libgomp's default where OMP_WAIT_POLICY is not set
SETTINGS = {
    f"{CORES} threads, stock waiting": (CORES, STOCK_SPIN),
    f"{CORES} threads, Snugly's waiting": (CORES, ""),
    f"{max(1, CORES - 1)} threads, Snugly's waiting": (max(1, CORES - 1), ""),
}


async def decode_tps(path: str, threads: int, spin: str) -> float:
    """Tokens per second that the engine tells of one short answer."""
    os.environ.pop("GOMP_SPINCOUNT", None)
    if spin:
        os.environ["GOMP_SPINCOUNT"] = spin
    plan = dataclasses.replace(plan_for(path, 2048), threads=threads, threads_batch=threads)
    running = await LlamaCpp(600, 600).start(plan)
    try:
        usage = None
        async for delta in running.stream(REQUEST):
            usage = delta.usage or usage
    finally:
        await running.stop()
    return usage.decode_tps if usage else 0.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    path = sys.argv[2] if len(sys.argv) > 2 else default_model()
    header(f"decode tokens/s, median (min .. max) of {rounds} rounds")
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for state in ("quiet", "one core busy"):
            spin = None
            if state != "quiet":
                spin = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                time.sleep(0.3)
            for name, setting in SETTINGS.items():
                found.setdefault((state, name), []).append(asyncio.run(decode_tps(path, *setting)))
            if spin:
                spin.kill()
                spin.wait()
    stock = next(iter(SETTINGS))
    for (state, name), values in found.items():
        ratios = [v / s for v, s in zip(values, found[state, stock], strict=True)]
        print(
            f"{state:<15}{name:<29}{spread(values, 1):<26}{statistics.median(ratios):8.2f} x stock"
        )


if __name__ == "__main__":
    main()
