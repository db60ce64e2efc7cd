"""A model that needs no engine: what it answers follows from what it is asked.

Run as a program it is `snugly` with this model in the engine's place.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from tests import making

from snugly.chat.types import ChatRequest, Delta, Usage
from snugly.engine.launch import Launched, Prepared, Sampling
from snugly.errors import EngineError, PromptTooLong, UnknownModel
from snugly.model.types import Installed, Provenance
from snugly.plan.types import Estimate, Plan, PoolUse
from snugly.units import MiB

MARKDOWN = "# Head\n\nSome **bold** text.\n\n- one\n- two\n\n```python\nprint('hello')\n```\n\nEnd."
CONTEXT = 2048
# question -> the pieces of its answer; any other is answered with what the model was given
SCRIPT: dict[str, list[str]] = {
    "slow": [f"word{number} " for number in range(2000)],
    "markdown": list(MARKDOWN),
    "many lines": [f"line {number}\n" for number in range(120)],
    "control": ["a\x1b]0;owned\x07b\x1b[2Jc"],
    "nothing": [],
}
PAUSES = {"slow": 0.02, "many lines": 0.002}  # seconds between pieces


def plan_of(name: str) -> Plan:
    use = PoolUse(
        "RAM", weights_bytes=100 * MiB, kv_bytes=40 * MiB, compute_bytes=10 * MiB,
        overhead_bytes=50 * MiB,
    )  # fmt: skip
    return making.plan(
        f"/models/{name}.Q4_1.gguf", CONTEXT, model_name=name, estimate=Estimate((use,))
    )


@dataclass
class FakeRunning:
    """Answers by the last question. `dead` once it has crashed."""

    plan: Plan
    pid: int = 0
    dead: bool = False
    closed: int = 0

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        if self.dead:
            raise EngineError("The engine is not there.")
        question = request.messages[-1].text
        await asyncio.sleep(0.01)
        if question == "too long":
            raise PromptTooLong("The prompt has 9,000 tokens and the context holds 2,048.")
        count = 0
        try:
            async for text in self._words(question, request):
                count += 1
                yield Delta(text=text)
        finally:
            self.closed += 1
        yield Delta(
            finish_reason="length" if question == "cut" else "stop",
            usage=Usage(
                prompt_tokens=30, completion_tokens=count, cached_tokens=10,
                prefill_ms=40.0, decode_ms=count * 10.0, prefill_tps=500.0, decode_tps=100.0,
            ),
        )  # fmt: skip

    async def _words(self, question: str, request: ChatRequest) -> AsyncIterator[str]:
        if question in ("die", "silent death"):
            if question == "die":
                yield "half an "
                yield "answer"
                await asyncio.sleep(0.05)
            self.dead = True
            raise EngineError("The engine died.", "It was killed (SIGKILL).", "Ask again.")
        said = " | ".join(f"{m.role}:{m.text}" for m in request.messages)
        for piece in SCRIPT.get(question, said.split(" ")):
            yield piece if question in SCRIPT else piece + " "
            if question in PAUSES:
                await asyncio.sleep(PAUSES[question])

    async def count_tokens(self, request: ChatRequest) -> int:
        return sum(len(m.text.split()) for m in request.messages)

    def peak_bytes(self) -> int | None:
        return 210 * MiB

    async def stop(self) -> None:
        self.dead = True


def prepare(
    ref: str | None,
    *,
    context: int | None = None,
    polite: bool = False,
    say: Callable[[str], None] = print,
    **_: Any,
) -> Prepared:
    """Any name is a model but `nonesuch`."""
    if ref == "nonesuch":
        raise UnknownModel("There is no model nonesuch.", "", "Try `snugly models`.")
    name = ref or "fake"
    known = Provenance("local", "here", "", "0" * 64, 1, "Apache-2.0")
    installed = Installed(name, f"/models/{name}.Q4_1.gguf", (), known, adopted=False)
    plan = replace(plan_of(name), polite=polite)
    return Prepared(installed, cast(Any, None), plan, Sampling(), name)


@asynccontextmanager
async def launched(prepared: Prepared) -> AsyncIterator[Launched]:
    """A running fake; `STARTED` on stderr tells a test how often one was started."""
    if os.environ.get("FAKE_TELLS"):
        how = "politely" if prepared.plan.polite else ""
        print("STARTED", prepared.installed.ref, how, file=sys.stderr, flush=True)
    running = FakeRunning(prepared.plan)
    try:
        yield Launched(
            cast(Any, running), prepared.plan, prepared.installed, Sampling(), prepared.name, "fake"
        )
    finally:
        await running.stop()


def main() -> int:
    from snugly.cli.app import run
    from snugly.engine import launch

    launch.prepare = prepare
    launch.launched = cast(Any, launched)
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
