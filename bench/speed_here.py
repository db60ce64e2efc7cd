"""This machine after one `--measure`, before any run: predicted and measured speed.

    python bench/speed_here.py [ROUNDS] [--threads N] [MODEL.gguf ...]

In each round the kernels are timed, then each model answers one long prompt. Predictions know
nothing of the runs. Other programs disturb both: the load is printed, medians over rounds count.
"""

import asyncio
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from workload import default_model, header, plan_for

from snugly.chat.types import ChatRequest, Message
from snugly.engine.llama_cpp import LlamaCpp
from snugly.machine.detect import detect
from snugly.machine.measure import measure
from snugly.machine.types import Machine
from snugly.model.build import build_of
from snugly.model.spec import read_spec
from snugly.plan.choose import threads
from snugly.plan.speed import run_times
from snugly.plan.speed_processors import cpu_of
from snugly.plan.types import Placement, Processor, Setup

WORDS = "The quick brown fox jumps over the lazy dog near the old stone bridge. "
ANSWER = 48


def timed_machine() -> Machine:
    """This machine with rates taken now."""
    with tempfile.TemporaryDirectory() as folder:
        machine = detect(Path(folder))
        return dataclasses.replace(machine, rates=measure(machine, Path(folder)))


async def run(path: str, count: int, prompt: int) -> tuple[int, int, float, float]:
    """(prompt tokens, answer tokens, decode and prefill tokens per second) of one answer."""
    plan = dataclasses.replace(plan_for(path, 2048), threads=count, threads_batch=count)
    text = WORDS * (prompt // 15) + f"Count from {os.getpid()} upwards."
    request = ChatRequest((Message("user", text),), max_tokens=ANSWER, temperature=0.0)
    running = await LlamaCpp(600, 600).start(plan)
    usage = None
    try:
        async for delta in running.stream(request):
            usage = delta.usage or usage
    finally:
        await running.stop()
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens, usage.decode_tps, usage.prefill_tps


def compare(path: str, place: Processor, count: int) -> dict[str, object]:
    """One run beside its prediction."""
    told, answered, decode, prefill = asyncio.run(run(path, count, 500))
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
        used = count or threads(machine)[0]
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
