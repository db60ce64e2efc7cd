"""Chat inside the house: requests, messages and pieces of answers.

Every dialect is read into these and written from them; every engine answers in them.
Nothing that a client sends reaches an engine except through a field that stands here.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a message in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message, as the client sent it: never an address to fetch.

    `mime` is "image/png", "image/jpeg", "image/webp", "image/gif" or "image/bmp".
    """

    data: bytes
    mime: str


Part = Text | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model wants called. `arguments` is JSON as the model wrote it, perhaps damaged."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is "system", "user", "assistant" or "tool".

    `content` is words, or parts where a picture stands among them. `reasoning`,
    `tool_calls` belong to the assistant; `tool_call_id` to a tool's result and names
    the call that it answers. A last message of the assistant is continued.
    """

    role: str
    content: str | tuple[Part, ...]
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The words of it, without pictures."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures of it."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are called: at the model's choice, never, or for certain.

    `only` names the tools that may be; empty means all.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much a thinking model thinks. None leaves it to the model.

    `effort` is a word that some chat templates understand ("low", "medium", "high");
    `budget` is a number of tokens after which thinking is ended.
    """

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What every request for text has in common. None leaves a choice to the engine.

    `model` is what the client called it. `repeat_penalty` above 1 makes words of the last
    `repeat_last_n` tokens (256) less likely. `logit_bias` pairs a token with what is added
    to its logit; minus infinity bans it. `logprobs` asks for the log probability of each
    token of the answer and of so many alternatives. `schema` is a JSON schema that the
    answer must satisfy, {} any JSON object; `grammar` is GBNF. `n` answers are wanted.

    `keep_alive` is how many seconds the model stays loaded afterwards: 0 unloads it, a
    negative number keeps it for ever. `context` is the fewest tokens that the context must
    hold. Requests with equal `cache_key` begin alike. `include_usage` asks for token counts
    at the end of a stream. `ignored` names fields that the client sent and nobody uses.

    `holder` says whose request it is: what an engine remembers of one holder's prompts is of
    no use to another's. `slot` pins it to one of the engine's slots, `fresh` to nothing that
    the slot still holds.
    """

    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    schema: dict[str, Any] | None = None
    grammar: str = ""
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    keep_alive: float | None = None
    context: int | None = None
    cache_key: str = ""
    ignored: tuple[str, ...] = ()
    holder: str = ""
    slot: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest(Generation):
    """A conversation to go on with.

    `prediction` is text that the answer will probably repeat. `wants_stop_word` asks for
    `Delta.stop_word`. `trim` allows to leave out the oldest turns where the prompt is too
    long; without it such a request is refused.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = field(default=(), kw_only=True)
    tool_choice: ToolChoice = field(default=ToolChoice(), kw_only=True)
    parallel_tools: bool | None = field(default=None, kw_only=True)
    reasoning: Reasoning = field(default=Reasoning(), kw_only=True)
    prediction: str = field(default="", kw_only=True)
    wants_stop_word: bool = field(default=False, kw_only=True)
    trim: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, and the engine's own times in milliseconds.

    `prompt_tokens` counts the cached ones too. Of `drafted_tokens`, guessed ahead while the
    answer was written, `accepted_tokens` were right.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prefill_ms: float
    decode_ms: float
    prefill_tps: float
    decode_tps: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A piece of the `index`-th tool call of an answer.

    The first piece of a call carries `id` and `name`; `arguments` of all its pieces joined
    are the call's arguments.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token and its natural log probability; None for the first token of a prompt.

    `raw` is the token's bytes, which need not be whole characters. `top` are the most
    probable tokens at this place, best first, without alternatives of their own.
    """

    token: str
    logprob: float | None
    raw: bytes = b""
    id: int | None = None
    top: "tuple[TokenLogprob, ...]" = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. The last one carries `finish_reason` and `usage`.

    `finish_reason` is "stop", "length" or "tool_calls". `reasoning` is text of a thinking
    model that is not part of the answer. `choice` counts the answers where several were
    asked for. `stop_word` is the stop sequence that ended the answer, where that was
    wanted. `tokens` are the ids of this piece, where those were wanted. `more` says that the
    next piece is here already: both may be sent at once.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCallPiece, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    stop_word: str = ""
    tokens: tuple[int, ...] = ()
    more: bool = False
