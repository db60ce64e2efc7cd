"""The seam: what an engine is to the rest of the house."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

from snugly.chat.requests import (
    CompletionRequest,
    Embeddings,
    EmbedRequest,
    InfillRequest,
    Prompt,
    Ranking,
    RerankRequest,
    TokenizeRequest,
)
from snugly.chat.types import ChatRequest, Delta
from snugly.plan.types import Plan

# What an engine is started for: text, vectors, the relevance of documents, or how probable
# prompts are (for engines that can: `engine.prompt_logprobs`).
Mode = Literal["generate", "embed", "rerank", "score"]


class Running(Protocol):
    """A started engine that answers. It can be killed at any moment and nothing is lost.

    Every request may raise EngineError, when the engine crashes, hangs or refuses, with the
    cause in words; UserError where the request is at fault; PromptTooLong with both counts.
    """

    plan: Plan
    pid: int

    @property
    def alive(self) -> bool:
        """Whether the process is there and was not stopped."""
        ...

    @property
    def last_words(self) -> str:
        """Why it ended, in words; empty while it is alive."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; closing the iterator cancels the answer."""
        ...

    def complete(
        self, request: CompletionRequest | InfillRequest, prompt: Prompt
    ) -> AsyncGenerator[Delta, None]:
        """Go on with one prompt as it stands; for infill it is what the template made."""
        ...

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Vectors of texts."""
        ...

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Documents by relevance."""
        ...

    async def tokenize(self, request: TokenizeRequest) -> tuple[int, ...]:
        """The ids of a text's tokens."""
        ...

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of tokens."""
        ...

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the request after the model's chat template."""
        ...

    def peak_bytes(self) -> int | None:
        """Peak resident memory of the engine's process so far; None where unknown."""
        ...

    def held_bytes(self) -> int | None:
        """RAM of the process that the system does not count as available; None: unknown."""
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

    async def start(self, plan: Plan, mode: Mode = "generate") -> Running:
        """Start a process for `plan` and wait until it answers.

        Raises: EngineError with the cause; nothing is left running then.
        """
        ...
