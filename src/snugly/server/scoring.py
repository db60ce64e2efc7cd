"""How probable each token of a prompt is: what `echo` with `logprobs` asks for.

llama-server tells log probabilities of tokens that it writes, not of those that it reads. A
process of its own tells those (`engine.prompt_logprobs`). Where the engine has none, it is
made to write the prompt, one token after the other: a grammar of token ids leaves it no
choice, and the probabilities that it tells are the model's own, from before the grammar.
Source: llama.cpp grammars/README.md (tokens), tools/server populate_token_probs.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from snugly.chat.requests import CompletionRequest, Prompt, TokenizeRequest
from snugly.chat.types import Delta, TokenLogprob
from snugly.engine.pool import Pool
from snugly.engine.prompt_logprobs import scorer_of
from snugly.engine.types import Running
from snugly.errors import EngineError
from snugly.server.service import Lent

_AT_ONCE = 256  # tokens per request: a grammar of that many rules is read in a moment


def to_be_scored(pool: Pool, request: CompletionRequest) -> bool:
    """Whether a process that scores prompts is to answer."""
    return request.echo and request.logprobs is not None and pool.scores


def ends_with_prompt(request: CompletionRequest) -> bool:
    """Whether that process can answer alone: no token is wanted, or the most probable one.

    That is what evaluations ask; anything that changes what is probable is the engine's.
    """
    if request.max_tokens == 0:
        return True
    changed = (
        request.presence_penalty, request.frequency_penalty, request.logit_bias, request.grammar,
        request.schema is not None, (request.repeat_penalty or 1.0) != 1.0, request.stop,
    )  # fmt: skip
    return request.max_tokens == 1 and request.temperature == 0 and not any(changed)


async def prompt_scores(lent: Lent, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
    """Every prompt of a request, scored; with its next token where that is all that is wanted."""
    scorer = scorer_of(lent.lease.running)
    assert request.logprobs is not None
    for index, prompt in enumerate(request.prompts):
        async with aclosing(scorer.score(prompt, request.logprobs, request.special)) as told:
            async for delta in told:
                kept = _ending(delta, request) if delta.finish_reason else delta
                if kept is not None:
                    for choice in range(index * request.n, (index + 1) * request.n):
                        yield replace(kept, choice=choice)


def _ending(delta: Delta, request: CompletionRequest) -> Delta | None:
    """The last piece of a scored prompt, which is the next token, as far as it is wanted."""
    if not ends_with_prompt(request):
        return None
    if request.max_tokens == 0:
        usage = delta.usage and replace(delta.usage, completion_tokens=0)
        return Delta(finish_reason="length", usage=usage)
    return delta


async def scored(
    lent: Lent, request: CompletionRequest, prompt: Prompt
) -> AsyncGenerator[Delta, None]:
    """The prompt as pieces of the answer, with log probabilities where those are wanted."""
    running = lent.lease.running
    if request.logprobs is None:
        text = prompt if isinstance(prompt, str) else await running.detokenize(prompt)
        yield Delta(text=text)
        return
    ids = prompt
    if isinstance(ids, str):
        ids = await running.tokenize(TokenizeRequest("", ids, add_special=True))
    if not ids:
        return
    first = await running.detokenize(ids[:1])
    yield Delta(text=first, logprobs=(TokenLogprob(first, None, first.encode(), ids[0]),))
    done = 1
    while done < len(ids):
        before = done
        async for delta in _forced(running, request, ids, done):
            done += len(delta.logprobs)
            yield delta
        if done == before:
            raise EngineError("The engine did not follow the prompt.", "It wrote nothing.")


async def _forced(
    running: Running, request: CompletionRequest, ids: tuple[int, ...], start: int
) -> AsyncGenerator[Delta, None]:
    """Have the engine write `ids` from `start` on. It stops early after an end-of-turn token."""
    wanted = ids[start : start + _AT_ONCE]
    grammar = "root ::= " + " ".join(f"<[{token}]>" for token in wanted)
    forced = CompletionRequest(
        (),
        max_tokens=len(wanted),
        temperature=0.0,
        logprobs=request.logprobs,
        grammar=grammar,
        wants_tokens=True,
        holder=request.holder,
    )
    done = start
    async with aclosing(running.complete(forced, ids[:start])) as deltas:
        async for delta in deltas:
            for entry in delta.logprobs:
                if done >= len(ids) or (entry.id is not None and entry.id != ids[done]):
                    raise EngineError("The engine did not follow the prompt.", "")
                done += 1
            if delta.text or delta.logprobs:
                yield replace(delta, finish_reason=None, usage=None, stop_word="")
