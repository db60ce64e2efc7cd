"""OpenAI's chat completions: `/v1/chat/completions`.

Source: https://platform.openai.com/docs/api-reference/chat, and what the `openai` package
sends and insists on (tests/golden/clients).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from snugly.chat.answer import Answer, Gathering, total_usage
from snugly.chat.turns import settled
from snugly.chat.types import ChatRequest, Delta, TokenLogprob, Usage
from snugly.errors import SnuglyError
from snugly.server.dialects import sampling
from snugly.server.dialects.faults import BadRequest, openai_error
from snugly.server.dialects.openai_messages import (
    message,
    prediction,
    reasoning,
    tool,
    tool_choice,
)
from snugly.server.dialects.reading import Fields
from snugly.server.dialects.sending import DONE, SSE, dump, event
from snugly.server.dialects.types import Body, Reply


def read(body: Mapping[str, Any]) -> ChatRequest:
    """A chat completion's body.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    if "functions" in fields:
        raise BadRequest("`functions` is out of use; send `tools`.", "functions")
    messages = settled(message(m) for m in fields.objects("messages"))
    if not messages:
        raise fields.wrong("messages", "a list of at least one message")
    tools = tuple(tool(t) for t in fields.objects("tools", sampling.MAX_TOOLS))
    shape = fields.inner("response_format")
    stream = fields.flag("stream")
    stream_options = fields.inner("stream_options")
    found: dict[str, Any] = sampling.sampling(fields) | sampling.options(fields)
    return ChatRequest(
        messages,
        model=fields.text("model"),
        max_tokens=sampling.most_tokens(fields, "max_completion_tokens", "max_tokens", "n_predict"),
        logit_bias=sampling.logit_bias(fields),
        logprobs=sampling.chat_logprobs(fields),
        schema=None if shape is None else sampling.response_format(shape),
        grammar=sampling.grammar(fields),
        n=fields.integer("n", low=1, high=sampling.MAX_N) or 1,
        stream=stream,
        include_usage=stream_options is not None and stream_options.flag("include_usage"),
        cache_key=fields.text("prompt_cache_key"),
        tools=tools,
        tool_choice=tool_choice(fields, tools),
        parallel_tools=fields.maybe("parallel_tool_calls"),
        reasoning=reasoning(fields),
        prediction=prediction(fields),
        trim=fields.word("truncation", ("auto", "disabled")) == "auto",
        **found,
        ignored=fields.unread(),
    )


# ---- writing


def usage_of(usage: Usage) -> Body:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def logprob_of(token: TokenLogprob) -> Body:
    """One entry of `logprobs.content`."""
    return _entry(token) | {"top_logprobs": [_entry(other) for other in token.top]}


def _entry(token: TokenLogprob) -> Body:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}


def _logprobs(tokens: Sequence[TokenLogprob]) -> Body | None:
    return {"content": [logprob_of(t) for t in tokens], "refusal": None} if tokens else None


def _only_words(delta: Delta) -> bool:
    told = delta.reasoning or delta.tool_calls or delta.logprobs
    return not (told or delta.finish_reason or delta.usage)


def message_of(answer: Answer) -> Body:
    """The assistant's message."""
    said: Body = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        said["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        said["content"] = answer.text or None
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return said


def write(reply: Reply, answers: Sequence[Answer]) -> Body:
    """A whole answer, one choice for each of `answers`."""
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": "chat.completion",
        "created": int(reply.created),
        "model": reply.model,
        "choices": [
            {
                "index": index,
                "message": message_of(answer),
                "logprobs": _logprobs(answer.logprobs),
                "finish_reason": answer.finish_reason or "stop",
            }
            for index, answer in enumerate(answers)
        ],
        "usage": usage_of(total_usage((a.usage for a in answers), len(answers))),
    }


class ChatWriter:
    """A streamed chat completion."""

    media_type = SSE
    last_delta: Mapping[str, Any] = {}  # what the chunk that ends a choice says

    def __init__(self, reply: Reply, n: int = 1, include_usage: bool = False) -> None:
        self._head = {
            "id": f"chatcmpl-{reply.id}",
            "object": "chat.completion.chunk",
            "created": int(reply.created),
            "model": reply.model,
        }
        self._include_usage = include_usage
        self._found = [Gathering() for _ in range(n)]
        # Nearly every piece is words alone: all but the words is written once.
        mark = "\0"
        before, _, after = self._chunk(0, {"content": mark}).rpartition(dump(mark))
        self._around_words = before, after

    def start(self) -> list[bytes]:
        """The role of each choice."""
        first = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunk(index, dict(first)) for index in range(len(self._found))]

    def feed(self, delta: Delta) -> list[bytes]:
        """One chunk for one piece; why it ended is told by `end`."""
        if delta.text and not delta.choice and _only_words(delta):
            before, after = self._around_words
            return [before + dump(delta.text) + after]
        self._found[delta.choice].put(Delta(finish_reason=delta.finish_reason, usage=delta.usage))
        piece: Body = {}
        if delta.reasoning:
            piece["reasoning_content"] = delta.reasoning
        if delta.text:
            piece["content"] = delta.text
        if delta.tool_calls:
            piece["tool_calls"] = [
                {"index": call.index}
                | ({"id": call.id, "type": "function"} if call.id else {})
                | {
                    "function": ({"name": call.name} if call.name else {})
                    | {"arguments": call.arguments}
                }
                for call in delta.tool_calls
            ]
        if not piece and not delta.logprobs:
            return []
        return [self._chunk(delta.choice, piece, delta.logprobs)]

    def end(self) -> list[bytes]:
        """Why each choice ended, the counts, and [DONE]."""
        usage = total_usage((found.usage for found in self._found), len(self._found))
        last = len(self._found) - 1
        chunks = [
            self._chunk(
                index,
                dict(self.last_delta),
                finish_reason=found.finish_reason or "stop",
                # Where no chunk of its own was asked for, the counts ride on the last one:
                # a chunk without choices would break clients that do not expect it.
                usage=usage if index == last and not self._include_usage else None,
            )
            for index, found in enumerate(self._found)
        ]
        if self._include_usage:
            chunks.append(event(self._head | {"choices": [], "usage": usage_of(usage)}))
        return [*chunks, DONE]

    def fail(self, error: SnuglyError) -> list[bytes]:
        """An error in the stream; [DONE] does not follow, nothing was finished."""
        return [event(openai_error(error))]

    def ping(self) -> bytes:
        """A comment, which every reader of events skips."""
        return b": ping\n\n"

    def _chunk(
        self,
        index: int,
        piece: Body,
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": piece,
            "logprobs": _logprobs(logprobs),
            "finish_reason": finish_reason,
        }
        counts: Body = {} if usage is None else {"usage": usage_of(usage)}
        if self._include_usage:
            counts = {"usage": None}
        return event(self._head | {"choices": [choice]} | counts)
