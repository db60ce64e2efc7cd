"""What guessing ahead brings by kind of work, and whether greedy answers stay the same.

    python bench/speculation.py MODEL.gguf ... [--rounds 2] [--tokens 400]

On the engine that `snugly engine` chooses, plain and guessing in alternation, with the plan's own
threads. `tokens a step` is a count, so it holds on a busy machine; `decode` is the ratio of
tokens/s, guessing over plain, median (min .. max). About 4 minutes for a 1.5B on two quiet cores.
"""

import argparse
import asyncio
import importlib
import inspect
import statistics
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from workload import header, plan_for

from snugly.chat.types import ChatRequest, Message, Usage
from snugly.engine.registry import DEFAULT, ENGINES
from snugly.engine.speculating import kind_of
from snugly.plan.speculation import LOOKUP
from snugly.plan.speculation_types import NO_SPECULATION
from snugly.plan.types import Plan
from snugly.settings import settings

DOCS = Path(__file__).parents[1] / "docs"


def questions() -> dict[str, str]:
    """Kinds of work; code from the standard library, text from our documentation."""
    source = inspect.getsource(importlib.import_module("textwrap"))[:3800]
    page = (DOCS / "memory.md").read_text()[:6000]
    change = "Rename the parameter `width` to `columns`. Answer with the whole changed file only."
    return {
        "edit": f"```python\n{source}\n```\n\n{change}",
        "summary": f"{page}\n\nSummarise this in five points, with the figures.",
        "story": "Write a short story about a lighthouse keeper who finds a bottle.",
        "explain": "Explain step by step how a bill becomes law.",
        "table": "List twelve European countries as JSON: name, capital, population, currency.",
    }


async def answers(plan: Plan, tokens: int) -> dict[str, tuple[str, Usage]]:
    """Every question once, by an engine that was just started."""
    running = await ENGINES[DEFAULT][1](settings()).start(plan)
    found = {}
    try:
        for name, text in questions().items():
            request = ChatRequest((Message("user", text),), max_tokens=tokens, temperature=0.0)
            written, usage = "", None
            async with aclosing(running.stream(request)) as deltas:
                async for delta in deltas:
                    written += delta.text
                    usage = delta.usage or usage
            if usage is None:
                raise SystemExit("the engine told no usage")
            found[name] = written, usage
    finally:
        await running.stop()
    return found


def compare(path: str, rounds: int, tokens: int) -> None:
    """One model."""
    plan = plan_for(path, 8192)
    plain, guessed = [], []
    for _ in range(rounds):
        plain.append(asyncio.run(answers(replace(plan, speculation=NO_SPECULATION), tokens)))
        guessed.append(asyncio.run(answers(replace(plan, speculation=LOOKUP), tokens)))
    print(f"\n{plan.model_name}, {plan.threads} threads")
    print(f"{'work':<10}{'kind':<10}{'tokens':>7}{'guessed':>9}{'right':>7}{'tokens a step':>15}"
          f"{'decode':>24}  answer")  # fmt: skip
    for name, text in questions().items():
        told = guessed[0][name][1]
        steps = told.completion_tokens - told.accepted_tokens
        ratios = [
            g[name][1].decode_tps / p[name][1].decode_tps
            for g, p in zip(guessed, plain, strict=True)
        ]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        same = {g[name][0] for g in guessed} == {p[name][0] for p in plain}
        kind = kind_of(ChatRequest((Message("user", text),)))
        print(f"{name:<10}{kind:<10}{told.completion_tokens:>7}{told.drafted_tokens:>9}"
              f"{told.accepted_tokens:>7}{told.completion_tokens / max(1, steps):>15.2f}"
              f"{spread:>24}  {'the same' if same else 'differs'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=400)
    asked = parser.parse_args()
    header(f"guessing ahead, {asked.rounds} alternating rounds")
    for path in asked.models:
        compare(path, asked.rounds, asked.tokens)


if __name__ == "__main__":
    main()
