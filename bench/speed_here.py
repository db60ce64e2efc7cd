"""This machine after one `--measure`, before any run: predicted and measured speed.

    python bench/speed_here.py [ROUNDS] [--threads N] [--first | --cpu-time] [MODEL.gguf ...]

In each round the kernels are timed, then each model answers one long prompt. Predictions know
nothing of the runs. Other programs disturb both: the load is printed, medians over rounds count.

--first: the kernels and the engine go before all other programs (Linux, as root), which then
stand still for some seconds at a time: a busy machine as if it were quiet.

--cpu-time: one thread, and its processor time instead of the clock, of the kernels as of the
engine (Linux). So it can be told on a busy machine whether the prediction is right: time spent
waiting for a core counts in neither.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from workload import default_model, header, plan_for

from snugly.chat.types import ChatRequest, Message
from snugly.engine.llama_cpp import LlamaCpp
from snugly.machine import kernels
from snugly.machine.detect import detect
from snugly.machine.measure import measure
from snugly.machine.types import Kernel, Machine
from snugly.model.build import build_of
from snugly.model.spec import read_spec
from snugly.plan.speed import run_times
from snugly.plan.speed_processors import cpu_of
from snugly.plan.threads import threads
from snugly.plan.types import Placement, Processor, Setup

WORDS = "The quick brown fox jumps over the lazy dog near the old stone bridge. "
ANSWER = 64
CPU_TIME = "--cpu-time" in sys.argv
FIRST = "--first" in sys.argv


def go_first(pid: int, first: bool = True) -> None:
    """Give all threads of a process real-time priority, or take it back; what they start has it."""
    policy = (os.SCHED_RR, os.sched_param(10)) if first else (os.SCHED_OTHER, os.sched_param(0))
    for task in Path(f"/proc/{pid}/task").iterdir() if FIRST else ():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(task.name), *policy)


def timed_machine() -> Machine:
    """This machine with rates taken now."""
    with tempfile.TemporaryDirectory() as folder:
        machine = detect(Path(folder))
        go_first(os.getpid())
        rates = measure(machine, Path(folder))
        go_first(os.getpid(), False)
    if CPU_TIME:
        l3 = machine.cpu.l3_bytes.or_else(32 << 20)
        told = kernels.measured(l3, 6.0, [1], time.thread_time)
        rates = dataclasses.replace(
            rates,
            kernels=tuple(Kernel(*fields) for fields in told["kernels"]),
            layer_seconds=tuple(told["layers"]),
        )
    return dataclasses.replace(machine, rates=rates)


async def run(path: str, count: int, prompt: int) -> tuple[int, int, float, float]:
    """(prompt tokens, answer tokens, decode and prefill tokens per second) of one answer."""
    plan = dataclasses.replace(plan_for(path, 2048), threads=count, threads_batch=count)
    text = WORDS * (prompt // 15) + f"Count from {os.getpid()} upwards."
    request = ChatRequest((Message("user", text),), max_tokens=ANSWER, temperature=0.0)
    running = await LlamaCpp(600, 600).start(plan)
    usage = None
    go_first(running.pid)
    try:
        async for delta in running.stream(request):
            usage = delta.usage or usage
    finally:
        await running.stop()
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens, usage.decode_tps, usage.prefill_tps


def thread_times(pid: int) -> dict[str, float]:
    """Seconds on a processor of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


async def run_by_cpu(path: str, _: int, prompt: int) -> tuple[int, int, float, float]:
    """As `run`, with the busiest thread's processor time, one thread."""
    plan = dataclasses.replace(plan_for(path, 2048), threads=1, threads_batch=1)
    text = WORDS * (prompt // 15) + "Write a very long story about a ship."
    request = ChatRequest((Message("user", text),), max_tokens=ANSWER, temperature=0.0)
    running = await LlamaCpp(600, 600).start(plan)
    times, seen, usage = [thread_times(running.pid)], 0, None
    try:
        async for delta in running.stream(request):
            seen += 1
            if seen == 2:
                times.append(thread_times(running.pid))
            usage = delta.usage or usage
        times.append(thread_times(running.pid))
    finally:
        await running.stop()
    assert usage is not None
    reading, answering = (
        max(after[name] - before.get(name, 0.0) for name in after)
        for before, after in itertools.pairwise(times)
    )
    count = usage.completion_tokens
    return usage.prompt_tokens, count, (count - 2) / answering, usage.prompt_tokens / reading


def compare(path: str, place: Processor, count: int) -> dict[str, object]:
    """One run beside its prediction."""
    how = run_by_cpu if CPU_TIME else run
    told, answered, decode, prefill = asyncio.run(how(path, count, 500))
    build = build_of(read_spec(path))
    setup = Setup(2048, repack=plan_for(path, 2048).setup.repack)
    expected = run_times(build, setup, Placement(), (place,), told, answered)
    return {
        "model": Path(path).name, "prompt": told, "answer": answered,
        "decode": (expected[0], decode), "prefill": (expected[1], prefill),
    }  # fmt: skip


def main() -> None:
    """Rounds of a measurement and a run of each model."""
    words = sys.argv[1:]
    count = int(words.pop(words.index("--threads") + 1)) if "--threads" in words else 0
    words = [word for word in words if not word.startswith("--")]
    rounds = int(words[0]) if words and words[0].isdigit() else 3
    paths = [word for word in words if word.endswith(".gguf")] or [default_model()]
    header(f"predicted after --measure, measured; {rounds} rounds")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        machine = timed_machine()
        used = 1 if CPU_TIME else count or threads(machine)[0]
        place = cpu_of(machine, used)
        for path in paths:
            one = compare(path, place, used)
            if os.environ.get("SNUGLY_TEST_RAW"):
                print(json.dumps(one | {"threads": used, "place": dataclasses.asdict(place)}))
            for phase in ("decode", "prefill"):
                found.setdefault((one["model"], phase), []).append(one[phase])  # type: ignore[arg-type, index]
    for (model, phase), pairs in found.items():
        expected = statistics.median(a for a, _ in pairs)
        actual = statistics.median(b for _, b in pairs)
        off = statistics.median(a / b - 1 for a, b in pairs)
        print(f"{model:45}{phase:9}{expected:9.1f}{actual:9.1f}  median error {off:+6.1%}")


if __name__ == "__main__":
    main()
