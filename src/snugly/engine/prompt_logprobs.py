"""Log probabilities of prompts: an engine's third way to use a model, in a process of its own.

What evaluations ask with `echo` and `logprobs` (lm-evaluation-harness, DSPy): how probable
each token of a given text is. llama-server does not tell; `prompt_logprobs_worker` does.
"""

import codecs
import json
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol, runtime_checkable

from snugly.chat.requests import Prompt
from snugly.chat.types import Delta, TokenLogprob, Usage
from snugly.engine.address import new_address
from snugly.engine.llama_cpp import WORKER, LlamaCpp, worker_config
from snugly.engine.llama_http import LlamaCppRunning
from snugly.engine.process import EngineProcess
from snugly.engine.types import Engine, Mode, Running
from snugly.engine.wire import refusal, unreadable
from snugly.errors import EngineError
from snugly.plan.types import Plan

_WORKER = (sys.executable, "-P", "-m", "snugly.engine.prompt_logprobs_worker")
_ROUTE = "/score"


@runtime_checkable
class Scores(Protocol):
    """A running model that tells how probable prompts are."""

    def score(self, prompt: Prompt, top: int, special: bool) -> AsyncGenerator[Delta, None]:
        """Every token of a prompt with its log probability and `top` alternatives.

        The last piece is the most probable next token, with why an answer of this one
        token would end, and the counts of such an answer.

        Raises: as `Running`.
        """
        ...


class PromptScorer(LlamaCppRunning):
    """The process that scores; beside that it answers nothing."""

    async def score(self, prompt: Prompt, top: int, special: bool) -> AsyncGenerator[Delta, None]:
        """Every token of a prompt with its log probability: see `Scores`."""
        given = prompt if isinstance(prompt, str) else list(prompt)
        body = {"prompt": given, "top": top, "special": special}
        reader, whole = ScoreReader(), False
        async with self._guarded():
            async with self.http.stream("POST", _ROUTE, json=body) as response:
                if response.status_code != 200:
                    raise refusal(_json(await response.aread()), response.status_code)
                async for line in response.aiter_lines():
                    delta = reader.read(line)
                    yield delta
                    whole = delta.finish_reason is not None
            if not whole:
                raise await self._process.failure("The engine stopped in the middle of a prompt.")


class ScoreReader:
    """The lines of `prompt_logprobs_worker` as pieces of an answer. Pure but for the clock."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._began = time.monotonic()

    def read(self, line: str) -> Delta:
        """The piece in one line.

        Raises: EngineError for an error, or for anything that is not a line of this kind.
        """
        try:
            body = json.loads(line)
            if "error" in body:
                raise refusal(body, 500)
            if "next" in body:
                return self._last(body)
            entries = tuple(_entry(entry) for entry in body["places"])
        except (ValueError, TypeError, KeyError, IndexError):
            raise unreadable(line) from None
        return Delta(text=self._decoded(entries), logprobs=entries)

    def _last(self, body: dict[str, Any]) -> Delta:
        entry, read = _entry(body["next"]), int(body["tokens"]) - int(body["cached"])
        ms = 1000 * (time.monotonic() - self._began)
        usage = Usage(
            int(body["tokens"]), 1, int(body["cached"]), ms, 0.0, 1000 * read / ms if ms else 0.0,
            0.0,
        )  # fmt: skip
        text = "" if body["ends"] else entry.raw.decode("utf-8", "replace")
        text = self._text.decode(b"", final=True) + text
        return Delta(
            text=text,
            logprobs=(entry,),
            finish_reason="stop" if body["ends"] else "length",
            usage=usage,
        )

    def _decoded(self, entries: Sequence[TokenLogprob]) -> str:
        return self._text.decode(b"".join(entry.raw for entry in entries))


def _entry(entry: list[Any]) -> TokenLogprob:
    token, text, logprob, top = entry
    others = tuple(_token(t, other, float(p)) for t, other, p in top)
    return _token(token, text, None if logprob is None else float(logprob), others)


def _token(
    token: Any, text: str, logprob: float | None, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    raw = text.encode("latin-1")
    return TokenLogprob(raw.decode("utf-8", "replace"), logprob, raw, int(token), top)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {"error": data[:200].decode(errors="replace")}


class WithScores:
    """An engine that also starts scorers (mode "score"), which run in the wheel's library."""

    scores = True

    def __init__(self, engine: LlamaCpp) -> None:
        self._engine = engine
        self.name = engine.name

    def unusable(self, architecture: str, instructions: Sequence[str]) -> str:
        """Why it cannot run on this processor; empty when it can."""
        return self._engine.unusable(architecture, instructions)

    async def start(self, plan: Plan, mode: Mode = "generate") -> Running:
        """Start a process for `plan` and wait until it answers. Raises: EngineError."""
        if mode != "score":
            return await self._engine.start(plan, mode)
        address = new_address()
        process = EngineProcess(_WORKER, address)
        config = worker_config(plan, address)
        config["compute_bytes"] = plan.estimate.compute_bytes
        await process.start(config, self._engine.start_seconds)
        return PromptScorer(plan, process, self._engine.silence_seconds)


def with_scores(engine: Engine) -> Engine:
    """`engine`, with scorers where it is the wheel: the plan is one for its library then."""
    if isinstance(engine, LlamaCpp) and tuple(engine.command) == WORKER:
        return WithScores(engine)
    return engine


def can_score(engine: Engine) -> bool:
    """Whether an engine starts scorers."""
    return bool(getattr(engine, "scores", False))


def scorer_of(running: Running) -> Scores:
    """A running model as a scorer. Raises: EngineError for one that is none."""
    if not isinstance(running, Scores):
        raise EngineError("This engine does not score prompts.")
    return running
