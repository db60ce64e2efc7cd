"""Predicted beside peak resident memory of the engine.

    python bench/memory.py [--engine native] [--contexts 2048,8192,32768] [--types F16,Q8_0]
                           [MODEL.gguf ...]
    python bench/memory.py --gateway

Each model at each context that it was trained for and with each type of cache, with nearly
the whole context filled so that everything that was planned is touched. Without models: the
embedded default. `--gateway` prints what our own process takes beside the engine's.
"""

import argparse
import asyncio
import subprocess
import sys
from dataclasses import replace

from workload import default_model, header

from snugly.chat.types import ChatRequest, Message
from snugly.engine.registry import ENGINES
from snugly.machine.detect import detect
from snugly.model.build import build_of
from snugly.model.spec import read_spec
from snugly.model.types import ModelSpec
from snugly.plan.memory import pool_uses
from snugly.plan.threads import threads
from snugly.plan.types import Estimate, Placement, Plan, Setup
from snugly.settings import settings
from snugly.units import MiB

_GATEWAY = """
import uvicorn, httpx2, starlette.applications, starlette.routing, starlette.responses
app = starlette.applications.Starlette(routes=[])
uvicorn.Server(uvicorn.Config(app, log_level="error")).config.load()
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(fields["VmHWM"].split()[0]) * 1024)
"""


def plan_for(spec: ModelSpec, setup: Setup, name: str) -> Plan:
    """A plan with exactly this setup, all in RAM, for the engine of that name."""
    machine = detect(settings().store)
    engine = ENGINES[name][0](machine)
    uses = pool_uses(build_of(spec), setup, Placement(), (machine.ram,), engine)
    n_threads, _ = threads(machine)
    return Plan(
        spec.path, spec.name, setup, Placement(), n_threads, n_threads, 0, (machine.ram,), (0,),
        Estimate(uses), None, (),
    )  # fmt: skip


async def peak(plan: Plan, name: str) -> float:
    """Peak MiB of one run with the context nearly full."""
    request = ChatRequest((Message("user", "word " * (plan.context - 300)),), max_tokens=30)
    # A prompt that fills the context of a slow machine takes its time.
    patient = replace(settings(), engine_silence_seconds=3000.0)
    running = await ENGINES[name][1](patient).start(plan)
    try:
        async for _ in running.stream(request):
            pass
        return (running.peak_bytes() or 0) / MiB
    finally:
        await running.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--contexts", default="2048,8192")
    parser.add_argument("--types", default="F16,Q8_0")
    parser.add_argument("--engine", default="xllamacpp", choices=ENGINES)
    parser.add_argument("--gateway", action="store_true")
    asked = parser.parse_args()
    if asked.gateway:
        told = subprocess.run(
            [sys.executable, "-c", _GATEWAY], capture_output=True, text=True, check=True
        )
        print(f"starlette, uvicorn and httpx2 in one Python: {int(told.stdout) / MiB:.0f} MiB")
        return
    header(f"memory: predicted / peak, {asked.engine}")
    print(f"{'model':<34}{'context':>8}{'cache':>6}{'predicted MiB':>15}{'peak MiB':>10}{'off':>8}")
    for path in asked.models or [default_model()]:
        spec = read_spec(path)
        for context in map(int, asked.contexts.split(",")):
            for kept in asked.types.split(","):
                if context > spec.context_train:
                    continue
                plan = plan_for(spec, Setup(context, kv_type=kept), asked.engine)
                measured = asyncio.run(peak(plan, asked.engine))
                predicted = plan.estimate.total_bytes / MiB
                print(
                    f"{spec.name[:32]:<34}{context:>8}{kept:>6}{predicted:>15.0f}{measured:>10.0f}"
                    f"{predicted / measured - 1:>+8.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
