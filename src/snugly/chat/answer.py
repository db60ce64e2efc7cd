"""A whole answer put together from its pieces."""

from collections.abc import Iterable
from dataclasses import dataclass

from snugly.chat.types import Delta, TokenLogprob, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, whole. `finish_reason` is None when it was broken off."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    stop_word: str = ""
    tokens: tuple[int, ...] = ()


class Gathering:
    """Takes the pieces of one answer as they come and can tell what there is so far."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, list[str]] = {}  # index -> id, name, pieces of arguments
        self._logprobs: list[TokenLogprob] = []
        self._tokens: list[int] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.stop_word = ""

    def put(self, delta: Delta) -> None:
        """Add one piece."""
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        for piece in delta.tool_calls:
            call = self._calls.setdefault(piece.index, ["", ""])
            call[0] = call[0] or piece.id
            call[1] = call[1] or piece.name
            call.append(piece.arguments)
        self._logprobs.extend(delta.logprobs)
        self._tokens.extend(delta.tokens)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self.stop_word = delta.stop_word or self.stop_word

    def answer(self) -> Answer:
        """Everything so far."""
        calls = (self._calls[index] for index in sorted(self._calls))
        return Answer(
            "".join(self._text),
            "".join(self._reasoning),
            tuple(ToolCall(call[0], call[1], "".join(call[2:])) for call in calls),
            self.finish_reason,
            self.usage,
            tuple(self._logprobs),
            self.stop_word,
            tuple(self._tokens),
        )


def gather(deltas: Iterable[Delta]) -> tuple[Answer, ...]:
    """The answers that these pieces make, in order of their `choice`; one at least."""
    found: dict[int, Gathering] = {}
    for delta in deltas:
        found.setdefault(delta.choice, Gathering()).put(delta)
    return tuple(found[choice].answer() for choice in sorted(found)) or (Answer(),)


def total_usage(usages: Iterable[Usage | None], n: int = 1) -> Usage:
    """Counts of several answers together, in order; `n` answers went to each prompt.

    A prompt counts once, however many answers it got.
    """
    known = [(index, usage) for index, usage in enumerate(usages) if usage is not None]
    first = [usage for index, usage in known if index % n == 0]
    prompt_tokens, cached = (
        sum(usage.prompt_tokens for usage in first),
        sum(usage.cached_tokens for usage in first),
    )
    completion_tokens = sum(usage.completion_tokens for _, usage in known)
    prefill_ms = sum(usage.prefill_ms for _, usage in known)
    decode_ms = sum(usage.decode_ms for _, usage in known)
    read = prompt_tokens - cached
    return Usage(
        prompt_tokens,
        completion_tokens,
        cached,
        prefill_ms,
        decode_ms,
        1000 * read / prefill_ms if prefill_ms > 0 else 0.0,
        1000 * completion_tokens / decode_ms if decode_ms > 0 else 0.0,
    )
