"""How probable prompts are, by the real engine with real weights."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.making import plan

from snugly.chat.requests import CompletionRequest, Prompt
from snugly.chat.types import Delta, TokenLogprob
from snugly.engine.llama_cpp import LlamaCpp
from snugly.engine.prompt_logprobs import PromptScorer, Scores, WithScores, can_score, with_scores
from snugly.errors import EngineError, PromptTooLong, UserError

TEXT = "The capital of France is Paris. The capital of Italy is"
IDS = (504, 3575, 282, 4649, 314, 7042)  # "The capital of France is Paris"


@asynccontextmanager
async def scorer(model: Path, context: int = 512) -> AsyncIterator[PromptScorer]:
    running = await WithScores(LlamaCpp(60, 60)).start(plan(model, context), "score")
    assert isinstance(running, PromptScorer)
    try:
        yield running
    finally:
        await running.stop()


async def told(running: Scores, prompt: Prompt, top: int = 1) -> list[Delta]:
    async with aclosing(running.score(prompt, top, True)) as deltas:
        return [delta async for delta in deltas]


def entries(deltas: list[Delta]) -> list[TokenLogprob]:
    return [entry for delta in deltas for entry in delta.logprobs]


async def test_every_token_of_a_prompt_has_its_probability(smollm2: Path) -> None:
    async with scorer(smollm2) as running:
        deltas = await told(running, TEXT, 3)
        assert "".join(delta.text for delta in deltas) == TEXT + " Rome"
        first, *others = entries(deltas)
        assert first.logprob is None
        for entry in others:
            assert entry.logprob is not None
            best = [other.logprob for other in entry.top if other.logprob is not None]
            assert best == sorted(best, reverse=True)
            assert len(best) == 3
            assert entry.logprob <= best[0] <= 0
        usage = deltas[-1].usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(others), 1)
        assert deltas[-1].finish_reason == "length"


async def test_they_are_what_the_server_says_of_tokens_that_it_writes(smollm2: Path) -> None:
    # llama-server tells of what it writes: the same tokens, made to write them by a grammar.
    # Its products of one row differ from those of many by rounding.
    grammar = "root ::= " + " ".join(f"<[{token}]>" for token in IDS[1:])
    request = CompletionRequest((), temperature=0.0, max_tokens=5, logprobs=1, grammar=grammar)
    generating = await LlamaCpp(60, 60).start(plan(smollm2, 512))
    try:
        written = [
            entry
            async for delta in generating.complete(request, IDS[:1])
            for entry in delta.logprobs
        ]
    finally:
        await generating.stop()
    async with scorer(smollm2) as running:
        read = entries(await told(running, IDS))[1:6]
    assert [entry.id for entry in read] == [entry.id for entry in written] == list(IDS[1:])
    assert [e.logprob for e in read] == pytest.approx([e.logprob for e in written], abs=0.1)


async def test_what_is_shared_is_read_once_and_says_the_same(smollm2: Path) -> None:
    async with scorer(smollm2) as running:
        await told(running, IDS)
        shared = await told(running, (*IDS[:5], 9000))
        await told(running, (7, 8, 9))
        alone = await told(running, (*IDS[:5], 9000))
        assert shared[-1].usage is not None
        assert alone[-1].usage is not None
        assert (shared[-1].usage.cached_tokens, alone[-1].usage.cached_tokens) == (4, 0)
        for a, b in zip(entries(shared)[1:], entries(alone)[1:], strict=True):
            assert (a.id, a.token) == (b.id, b.token)
            assert a.logprob == pytest.approx(b.logprob, abs=0.1)
        again = entries(await told(running, (*IDS[:5], 9000)))
        assert [e.logprob for e in again[:6]] == [e.logprob for e in entries(alone)[:6]]
        # More alternatives than are known: nothing of what is known is taken.
        assert len(entries(await told(running, (*IDS[:5], 9000), 4))[1].top) == 4


async def test_an_end_of_turn_is_told_and_is_no_text(smollm2: Path) -> None:
    turn = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\nHi!"
    async with scorer(smollm2) as running:
        last = (await told(running, turn))[-1]
        if last.finish_reason == "stop":
            assert last.text == ""
            assert last.logprobs[0].token == "<|im_end|>"
        assert last.logprobs[0].logprob is not None


async def test_refusals_and_who_leaves(smollm2: Path) -> None:
    async with scorer(smollm2) as running:
        with pytest.raises(UserError, match="no token"):
            await told(running, (1, 49152))
        with pytest.raises(PromptTooLong, match="600 tokens"):
            await told(running, (1,) * 600)
        async with aclosing(running.score((5,) * 500, 1, True)) as deltas:
            await anext(deltas)
        assert len(entries(await told(running, IDS))) == 7
        assert running.alive
        assert running.peak_bytes() is not None
    assert not running.alive


async def test_a_file_that_is_no_model_is_said(smollm2: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(smollm2.read_bytes()[:1_000_000])
    shape = plan(smollm2, 512)
    from dataclasses import replace

    with pytest.raises(EngineError):
        await WithScores(LlamaCpp(60, 60)).start(replace(shape, model_path=str(broken)), "score")


def test_only_the_wheel_scores() -> None:
    assert can_score(with_scores(LlamaCpp(60, 60)))
    assert not can_score(with_scores(LlamaCpp(60, 60, command=("another",))))
