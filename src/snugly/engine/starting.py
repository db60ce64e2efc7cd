"""Starts a worker that speaks llama-server's HTTP API, whatever computes behind it."""

import asyncio
from importlib import import_module
from typing import Any

from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.prefix_keeper import Memory
from snugly.engine.prefix_running import Remembering
from snugly.engine.process import EngineProcess
from snugly.engine.speculating import Guessed
from snugly.plan.types import Plan
from snugly.settings import settings


async def started(
    plan: Plan,
    process: EngineProcess,
    config: dict[str, Any],
    start_seconds: float,
    silence_seconds: float,
    has_slots: bool = False,
    memory: Memory | None = None,
) -> LlamaCppRunning:
    """Start `process` with `config` on its stdin and wait until it answers.

    With `has_slots` requests go to the slot that knows them, and nobody's to another's; with a
    `memory` it goes on from what was read before it was started.

    Raises: EngineError with the cause; nothing is left running then.
    """
    # Importing the HTTP client takes as long as loading a small model: do both at once.
    client = asyncio.create_task(asyncio.to_thread(import_module, "httpx2"))
    await process.start(config, start_seconds)
    try:
        await client
    except BaseException:
        await process.stop()
        raise
    running = (
        Remembering(plan, process, silence_seconds, memory)
        if has_slots
        else LlamaCppRunning(plan, process, silence_seconds)
    )
    running.guessed = Guessed(plan.model_path, plan.speculation, settings().cache)
    return running
