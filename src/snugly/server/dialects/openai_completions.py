"""OpenAI's older completions: `/v1/completions`, with `echo` and log probabilities.

Source: https://platform.openai.com/docs/api-reference/completions; what
lm-evaluation-harness reads of an answer: lm_eval/models/openai_completions.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from snugly.chat.answer import Answer, Gathering, total_usage
from snugly.chat.requests import CompletionRequest, InfillRequest, Prompt
from snugly.chat.types import Delta, TokenLogprob
from snugly.errors import SnuglyError
from snugly.server.dialects import sampling
from snugly.server.dialects.faults import BadRequest, openai_error
from snugly.server.dialects.openai_chat import usage_of
from snugly.server.dialects.reading import MAX_INT, Fields, whole_text
from snugly.server.dialects.sending import DONE, SSE, event
from snugly.server.dialects.types import Body, Reply

MAX_PROMPTS = 2048  # OpenAI's bound for lists of inputs
MAX_LOGPROBS = 100


def read(body: Mapping[str, Any]) -> CompletionRequest | InfillRequest:
    """A completion's body; with `suffix` it is one to fill in.

    Raises: BadRequest naming the field.
    """
    fields = Fields(body)
    prompts = prompts_of(fields, "prompt")
    if not prompts:
        raise fields.wrong("prompt", "given")
    n = fields.integer("n", low=1, high=sampling.MAX_N) or 1
    if (fields.integer("best_of", low=1, high=sampling.MAX_N) or n) != n:
        raise fields.wrong("best_of", "left out: no answer is thrown away here")
    echo, suffix = fields.flag("echo"), fields.text("suffix")
    options = fields.inner("stream_options")
    shape = fields.inner("response_format")
    common: dict[str, Any] = (
        sampling.sampling(fields)
        | sampling.options(fields)
        | {
            "model": fields.text("model"),
            "max_tokens": sampling.most_tokens(fields, "max_tokens", "n_predict", low=0),
            "logit_bias": sampling.logit_bias(fields),
            "logprobs": fields.integer("logprobs", low=0, high=MAX_LOGPROBS),
            "schema": None if shape is None else sampling.response_format(shape),
            "grammar": sampling.grammar(fields),
            "n": n,
            "stream": fields.flag("stream"),
            "include_usage": options is not None and options.flag("include_usage"),
            "cache_key": fields.text("prompt_cache_key"),
        }
    )
    common["ignored"] = fields.unread()
    if suffix:
        if len(prompts) != 1 or not isinstance(prompts[0], str):
            raise fields.wrong("prompt", "one text where there is a `suffix`")
        if echo:
            raise fields.wrong("echo", "left out where there is a `suffix`")
        return InfillRequest(prompts[0], suffix, **common)
    return CompletionRequest(prompts, echo=echo, **common)


def prompts_of(fields: Fields, name: str, most: int = MAX_PROMPTS) -> tuple[Prompt, ...]:
    """A text, a list of token ids, or a list of either."""
    value = fields.raw(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return (whole_text(value),)
    if not isinstance(value, list):
        raise fields.wrong(name, "text, ids of tokens, or a list of these")
    if value and all(_is_token(item) for item in value):
        return (tuple(value),)
    if len(value) > most:
        raise fields.wrong(name, f"a list of at most {most:,}")
    return tuple(_prompt(item, f"{fields.at(name)}[{i}]") for i, item in enumerate(value))


def _prompt(item: Any, path: str) -> Prompt:
    if isinstance(item, str):
        return whole_text(item)
    if isinstance(item, list) and item and all(_is_token(token) for token in item):
        return tuple(item)
    raise BadRequest(f"`{path}` must be text or ids of tokens.", path)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT


# ---- writing


def logprobs_of(tokens: Sequence[TokenLogprob], offset: int = 0) -> Body | None:
    """The older arrays; `offset` is how many characters of the answer came before.

    The chosen token is always among its alternatives, as at OpenAI's, and the first token
    of a prompt has neither.
    """
    if not tokens:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": offsets,
    }


def _top(token: TokenLogprob) -> Body | None:
    if token.logprob is None:
        return None
    found: Body = {}
    for other in (*token.top, token):
        found.setdefault(other.token, other.logprob)  # the more probable of equal texts is first
    return found


def _head(reply: Reply) -> Body:
    return {
        "id": f"cmpl-{reply.id}",
        "object": "text_completion",
        "created": int(reply.created),
        "model": reply.model,
    }


def write(reply: Reply, answers: Sequence[Answer], n: int = 1) -> Body:
    """A whole answer; `n` of `answers` belong to each prompt."""
    return _head(reply) | {
        "choices": [
            {
                "text": answer.text,
                "index": index,
                "logprobs": logprobs_of(answer.logprobs),
                "finish_reason": answer.finish_reason or "stop",
            }
            for index, answer in enumerate(answers)
        ],
        "usage": usage_of(total_usage((a.usage for a in answers), n)),
    }


class CompletionWriter:
    """A streamed completion of `choices` answers, `n` to each prompt."""

    media_type = SSE

    def __init__(
        self, reply: Reply, choices: int = 1, n: int = 1, include_usage: bool = False
    ) -> None:
        self._head = _head(reply)
        self._n = n
        self._include_usage = include_usage
        self._found = [Gathering() for _ in range(choices)]
        self._written = [0] * choices  # characters of the tokens told so far

    def start(self) -> list[bytes]:
        """Nothing: the first chunk comes with the first piece."""
        return []

    def feed(self, delta: Delta) -> list[bytes]:
        """One chunk for one piece; why it ended is told by `end`."""
        index = delta.choice
        self._found[index].put(Delta(finish_reason=delta.finish_reason, usage=delta.usage))
        if not delta.text and not delta.logprobs:
            return []
        logprobs = logprobs_of(delta.logprobs, self._written[index])
        self._written[index] += sum(len(token.token) for token in delta.logprobs)
        return [self._chunk(index, delta.text, logprobs)]

    def end(self) -> list[bytes]:
        """Why each choice ended, the counts, and [DONE]."""
        counts = {"usage": usage_of(total_usage((f.usage for f in self._found), self._n))}
        last = len(self._found) - 1
        chunks = [
            self._chunk(
                index,
                finish_reason=found.finish_reason or "stop",
                counts=counts if index == last and not self._include_usage else None,
            )
            for index, found in enumerate(self._found)
        ]
        if self._include_usage:
            chunks.append(event(self._head | {"choices": []} | counts))
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
        text: str = "",
        logprobs: Body | None = None,
        finish_reason: str | None = None,
        counts: Body | None = None,
    ) -> bytes:
        choice = {
            "text": text,
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        if counts is None:
            counts = {"usage": None} if self._include_usage else {}
        return event(self._head | {"choices": [choice]} | counts)
