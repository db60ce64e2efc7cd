"""Why threads follow the load: decode speed beside a program that keeps one core busy.

    python bench/busy.py [ROUNDS] [MODEL.gguf]

In alternation: one thread per core (the stock default) and one less, with and without
a busy loop beside it.
"""

import asyncio
import dataclasses
import os
import subprocess
import sys
import time

from workload import default_model, header, plan_for, spread

from snugly.chat.types import ChatRequest, Message
from snugly.engine.llama_cpp import LlamaCpp

REQUEST = ChatRequest((Message("user", "Count from 1 to 100."),), max_tokens=48, temperature=0.0)


async def decode_tps(path: str, threads: int) -> float:
    """Tokens per second that the engine tells of one answer of 48 tokens."""
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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    path = sys.argv[2] if len(sys.argv) > 2 else default_model()
    cores = os.cpu_count() or 2
    header(f"decode tokens/s, median (min .. max) of {rounds} rounds")
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for state in ("quiet", "one core busy"):
            spin = None
            if state != "quiet":
                spin = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                time.sleep(0.3)
            for threads in (cores, max(1, cores - 1)):
                tps = asyncio.run(decode_tps(path, threads))
                found.setdefault((state, threads), []).append(tps)
            if spin:
                spin.kill()
                spin.wait()
    for (state, threads), values in found.items():
        print(f"{state:<16}{threads:>3} threads  {spread(values, 1)}")
    a, b = found["one core busy", max(1, cores - 1)], found["one core busy", cores]
    ratios = [one / all_ for one, all_ in zip(a, b, strict=True)]
    print(f"busy: {max(1, cores - 1)} / {cores} threads, pair by pair: {spread(ratios, 2)}")


if __name__ == "__main__":
    main()
