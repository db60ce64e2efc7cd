"""The seam: what an engine is to the rest of the house."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from snugly.chat.types import ChatRequest, Delta
from snugly.plan.types import Plan


class Running(Protocol):
    """A started engine that answers. It can be killed at any moment and nothing is lost."""

    plan: Plan
    pid: int

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer.

        Raises: PromptTooLong before the first piece; EngineError when the engine
        crashes, hangs or refuses, with the cause in words.
        """
        ...

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the request after the model's chat template."""
        ...

    def peak_bytes(self) -> int | None:
        """Peak resident memory of the engine's process so far; None where unknown."""
        ...

    async def stop(self) -> None:
        """End the process: TERM, then KILL. Safe to call twice."""
        ...


class Engine(Protocol):
    """A way of running a plan."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why this engine cannot run on this processor, in words; empty when it can."""
        ...

    async def start(self, plan: Plan) -> Running:
        """Start a process for `plan` and wait until it answers.

        Raises: EngineError with the cause; nothing is left running then.
        """
        ...
