"""How fast a model is here: prefill, decode, depth, several at once, energy; beside another."""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from snugly.chat.requests import CompletionRequest
from snugly.engine.types import Running

PROMPT_TOKENS = 512  # one micro-batch of llama.cpp's default
ANSWER_TOKENS = 64
CROWD_TOKENS = 32
DEPTHS = (2048, 8192)  # beside 0
CROWDS = (2, 4)  # beside 1
# Words that are one token each in most vocabularies; drawn at random, so that neither what a
# server remembers nor a guess at what comes next can help.
_WORDS = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work government"
    " number night point home water room mother area money story fact month lot right study book"
    " eye job word business issue side kind head house service friend father power hour game line"
).split()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as whoever asked saw it: seconds from the question on."""

    first_s: float
    whole_s: float
    prompt_tokens: int
    tokens: int


Asks = Callable[[str, int], Awaitable[Answer]]  # a prompt, and how many tokens are wanted


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured: a value per round. `of` is "prefill", "decode", "crowd"."""

    of: str
    at: int  # tokens before it, or answers at once
    values: tuple[float, ...]  # tokens/s

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def words(self) -> str:
        """What it is, for a person."""
        if self.of == "crowd":
            return f"{self.at} answers at once"
        return f"{self.of} after {self.at:,} tokens" if self.at else self.of


def asks(running: Running) -> Asks:
    """Ask one of our engines."""

    async def ask(prompt: str, tokens: int) -> Answer:
        request = CompletionRequest((prompt,), max_tokens=tokens, temperature=0.0)
        begun, first, usage = time.perf_counter(), 0.0, None
        async with aclosing(running.complete(request, prompt)) as deltas:
            async for delta in deltas:
                first = first or time.perf_counter()
                usage = delta.usage or usage
        now = time.perf_counter()
        counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Answer((first or now) - begun, now - begun, *counts)

    return ask


def prompt(tokens: int, seed: int) -> str:
    """About so many tokens of words at random."""
    some = random.Random(seed)
    return " ".join(some.choices(_WORDS, k=tokens))


async def measured(
    ask: Asks, context: int, slots: int, number: int, seconds: float
) -> list[tuple[str, int, float]]:
    """One round: (of, at, tokens/s) each; what would not fit or take too long is left out."""
    begun = time.perf_counter()
    found: list[tuple[str, int, float]] = []
    await ask("Hello", 1)  # loads what is loaded lazily
    for depth in (0, *DEPTHS):
        if depth + PROMPT_TOKENS + ANSWER_TOKENS > context:
            break
        if found and (time.perf_counter() - begun) + depth / found[0][2] > seconds:
            break
        found += await _at(ask, depth, number)
    for count in CROWDS:
        if count <= slots and time.perf_counter() - begun < seconds:
            found.append(("crowd", count, await _crowd(ask, count, number)))
    return found


async def _at(ask: Asks, depth: int, number: int) -> list[tuple[str, int, float]]:
    """A prompt and an answer after `depth` tokens that were read before."""
    before = prompt(depth, 1000 * number + depth)
    known = (await ask(before, 1)).prompt_tokens if depth else 0
    asked = f"{before} {prompt(PROMPT_TOKENS, number)}".strip()
    answer = await ask(asked, ANSWER_TOKENS)
    rates = [("prefill", depth, (answer.prompt_tokens - known) / answer.first_s)]
    if answer.tokens > 1 and answer.whole_s > answer.first_s:
        rate = (answer.tokens - 1) / (answer.whole_s - answer.first_s)
        rates.append(("decode", depth, rate))
    return rates


async def _crowd(ask: Asks, count: int, number: int) -> float:
    begun = time.perf_counter()
    answers = await asyncio.gather(
        *(ask(prompt(64, 77_000 + 100 * number + 10 * count + i), CROWD_TOKENS)
          for i in range(count))
    )  # fmt: skip
    return sum(answer.tokens for answer in answers) / (time.perf_counter() - begun)


def figures(rounds: Sequence[Sequence[tuple[str, int, float]]]) -> tuple[Figure, ...]:
    """What several rounds measured, together."""
    found: dict[tuple[str, int], list[float]] = {}
    for one in rounds:
        for of, at, rate in one:
            found.setdefault((of, at), []).append(rate)
    return tuple(Figure(of, at, tuple(values)) for (of, at), values in found.items())
