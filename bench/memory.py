"""Predicted beside peak resident memory of the engine.

    python bench/memory.py [MODEL.gguf ...]

Each model at 2k and 8k context, with nearly the whole context filled so that everything
that was planned is touched. Without arguments: the embedded default.
"""

import asyncio
import sys

from workload import default_model, header, plan_for

from snugly.chat.types import ChatRequest, Message
from snugly.engine.llama_cpp import LlamaCpp
from snugly.model.spec import read_spec
from snugly.units import MiB


async def peak(path: str, context: int) -> tuple[float, float]:
    """Predicted and peak MiB of one run."""
    plan = plan_for(path, context)
    request = ChatRequest((Message("user", "word " * (context - 300)),), max_tokens=30)
    running = await LlamaCpp(600, 600).start(plan)
    try:
        async for _ in running.stream(request):
            pass
        measured = running.peak_bytes() or 0
    finally:
        await running.stop()
    return plan.estimate.total_bytes / MiB, measured / MiB


def main() -> None:
    header("memory: predicted / peak")
    print(f"{'model':<34}{'context':>8}{'predicted MiB':>15}{'peak MiB':>10}{'off by':>8}")
    for path in sys.argv[1:] or [default_model()]:
        name = read_spec(path).name[:32]
        for context in (2048, 8192):
            predicted, measured = asyncio.run(peak(path, context))
            off = predicted / measured - 1
            print(f"{name:<34}{context:>8}{predicted:>15.0f}{measured:>10.0f}{off:>+8.1%}")


if __name__ == "__main__":
    main()
