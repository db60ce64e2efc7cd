"""Predicted beside peak resident memory of the engine.

    python bench/memory.py [--engine native] [--contexts 2048,8192,32768] [--types F16,Q8_0]
                           [--fill TOKENS] [--keep FILE] [--threads N] [--slots N] [MODEL.gguf ...]
    python bench/memory.py --gateway

Each model at each context that it was trained for and with each type of cache, with nearly
the whole context filled so that everything that was planned is touched. Without models: the
embedded default.

--fill: prompts of so many tokens at most. The engine zeroes the cache when it starts, so all of
it is in memory from then on; what a longer prompt touches more is the mask of the compute
buffer, 2 bytes per cell of the cache and token of a micro-batch.
--slots: the context is filled by so many prompts at once, which share its cells. All of it is in
use then as well, and attention, the longest part of a long prompt, looks at a part of it only.
--threads: where other programs compute too, one thread is quicker than two that wait for each
other; a thread's own memory is some KiB.
--keep: rows are added to this file as they are measured, and those in it are not measured again.

`--gateway` prints what our own process takes beside the engine's.
"""

import argparse
import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from workload import default_model, header

from snugly.chat.types import ChatRequest, Message
from snugly.engine.registry import ENGINES
from snugly.engine.types import Running
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


def plan_for(spec: ModelSpec, setup: Setup, name: str, many: int = 0) -> Plan:
    """A plan with exactly this setup, all in RAM, for the engine of that name.

    With `many` threads; 0: as a plan would have for the machine as it is.
    """
    machine = detect(settings().store)
    engine = ENGINES[name][0](machine)
    uses = pool_uses(build_of(spec), setup, Placement(), (machine.ram,), engine)
    n_threads = many or threads(machine)[0]
    return Plan(
        spec.path, spec.name, setup, Placement(), n_threads, n_threads, 0, (machine.ram,), (0,),
        Estimate(uses), None, (),
    )  # fmt: skip


async def peak(plan: Plan, name: str, fill: int) -> float:
    """Peak MiB of one run with the context nearly full, or `fill` tokens of it."""
    many = plan.setup.n_seq
    words = min(fill, plan.context) // many - 300
    requests = [
        ChatRequest((Message("user", f"{number} " + "word " * words),), max_tokens=30)
        for number in range(many)
    ]
    # A prompt that fills the context of a slow machine takes its time.
    patient = replace(settings(), engine_silence_seconds=3000.0)
    running = await ENGINES[name][1](patient).start(plan)
    try:
        await asyncio.gather(*(_heard(running, request) for request in requests))
        return (running.peak_bytes() or 0) / MiB
    finally:
        await running.stop()


async def _heard(running: Running, request: ChatRequest) -> None:
    async for _ in running.stream(request):
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--contexts", default="2048,8192")
    parser.add_argument("--types", default="F16,Q8_0")
    parser.add_argument("--engine", default="xllamacpp", choices=ENGINES)
    parser.add_argument("--fill", type=int, default=1 << 30)
    parser.add_argument("--keep", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--slots", type=int, default=1)
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
    kept = Path(asked.keep) if asked.keep else None
    done = kept.read_text("utf-8").splitlines() if kept and kept.exists() else []
    for path in asked.models or [default_model()]:
        spec = read_spec(path)
        for context in map(int, asked.contexts.split(",")):
            for type_name in asked.types.split(","):
                start = f"{spec.name[:32]:<34}{context:>8}{type_name:>6}"
                if context > spec.context_train:
                    continue
                line = next((line for line in done if line.startswith(start)), "")
                if not line:
                    setup = Setup(context, asked.slots, kv_type=type_name)
                    line = start + row(spec, setup, asked)
                    if kept:
                        with kept.open("a", encoding="utf-8") as file:
                            file.write(line + "\n")
                print(line, flush=True)


def row(spec: ModelSpec, setup: Setup, asked: argparse.Namespace) -> str:
    """Predicted and measured, as the rest of a line."""
    plan = plan_for(spec, setup, asked.engine, asked.threads)
    measured = asyncio.run(peak(plan, asked.engine, asked.fill))
    predicted = plan.estimate.total_bytes / MiB
    return f"{predicted:>15.0f}{measured:>10.0f}{predicted / measured - 1:>+8.1%}"


if __name__ == "__main__":
    main()
