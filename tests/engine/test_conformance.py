"""One suite for all engines: each passes, or declares what it cannot and refuses it in words."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.engine import engines
from tests.making import plan
from tests.process.test_engine_process import gone

from snugly.chat.requests import CompletionRequest, TokenizeRequest
from snugly.chat.types import ChatRequest, Delta, Message, Tool
from snugly.engine.conformance import ABILITIES, LACKS
from snugly.engine.registry import AUTO, ENGINES
from snugly.engine.types import Running
from snugly.errors import EngineError, PromptTooLong, SnuglyError

ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("name", engines.NAMES)
HELLO = ChatRequest((Message("user", "Say hello."),), temperature=0.0, max_tokens=12)
LONG = ChatRequest((Message("user", "Count from 1 to 1000."),), temperature=0.0, max_tokens=400)


@pytest.fixture
def here(name: str, smollm2: Path) -> Callable[..., Any]:
    """Starts the engine under test; skips where it is not on this machine."""
    if why := engines.why_not_here(name):
        pytest.skip(why)

    @asynccontextmanager
    async def started(context: int = 2048, slots: int = 1, **how: Any) -> AsyncIterator[Running]:
        base = plan(smollm2, context)
        made = plan(smollm2, context, setup=_with_slots(base.setup, slots))
        running = await engines.engine(name, **how).start(made)
        try:
            yield running
        finally:
            await running.stop()
            assert gone(running.pid)

    return started


def _with_slots(setup: Any, slots: int) -> Any:
    import dataclasses

    return dataclasses.replace(setup, n_seq=slots)


def needs(name: str, ability: str) -> None:
    """Skip what the engine declares not to be able to."""
    assert ability in ABILITIES
    if ability in engines.lacks(name):
        pytest.skip(f"{name} declares that it cannot: {LACKS.get(name, {}).get(ability, '')}")


async def heard(running: Running, request: ChatRequest) -> list[Delta]:
    return [delta async for delta in running.stream(request)]


async def text_of(running: Running, request: ChatRequest) -> str:
    return "".join(delta.text for delta in await heard(running, request))


async def go_on(running: Running, prompt: str, **how: Any) -> list[Delta]:
    request = CompletionRequest((prompt,), temperature=0.0, **how)
    return [delta async for delta in running.complete(request, prompt)]


@each
async def test_it_answers_piece_by_piece_and_counts_the_tokens(name: str, here: Any) -> None:
    async with here() as running:
        deltas = await heard(running, HELLO)
        usage = deltas[-1].usage
        assert len([delta for delta in deltas if delta.text]) > 3
        assert [d.finish_reason for d in deltas if d.finish_reason]
        assert usage is not None
        assert usage.prompt_tokens == await running.count_tokens(HELLO)
        assert usage.decode_tps > 0


@each
async def test_it_goes_on_with_a_prompt_as_it_stands(name: str, here: Any) -> None:
    needs(name, "complete")
    async with here() as running:
        deltas = await go_on(running, "1, 2, 3, 4, 5, 6, 7, 8,", max_tokens=4)
        assert "9" in "".join(delta.text for delta in deltas)
        assert deltas[-1].finish_reason == "length"
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.completion_tokens == 4


@each
async def test_it_stops_before_a_stop_string_wherever_tokens_end(name: str, here: Any) -> None:
    needs(name, "stop")
    async with here() as running:
        whole = "".join(d.text for d in await go_on(running, "One, two, three,", max_tokens=12))
        for at in (2, 5, 7):
            stop = whole[at : at + 4]
            deltas = await go_on(running, "One, two, three,", max_tokens=12, stop=(stop,))
            assert "".join(delta.text for delta in deltas) == whole[: whole.index(stop)]
            assert deltas[-1].finish_reason == "stop"


@each
async def test_it_stops_at_the_limit_and_says_so(name: str, here: Any) -> None:
    needs(name, "limit")
    async with here() as running:
        deltas = await heard(running, long_of(7))
        assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.completion_tokens == 7


def long_of(tokens: int) -> ChatRequest:
    return ChatRequest(LONG.messages, temperature=0.0, max_tokens=tokens)


@each
async def test_a_schema_is_obeyed(name: str, here: Any) -> None:
    needs(name, "schema")
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    request = ChatRequest(
        (Message("user", "A city and how many people live there."),),
        temperature=0.0, max_tokens=60, schema=schema,
    )  # fmt: skip
    async with here() as running:
        value = json.loads(await text_of(running, request))
    assert set(value) == {"city", "n"}
    assert isinstance(value["n"], int)


@each
async def test_a_grammar_is_obeyed(name: str, here: Any) -> None:
    needs(name, "grammar")
    request = ChatRequest(HELLO.messages, max_tokens=8, grammar='root ::= "yes" | "no"')
    async with here() as running:
        assert await text_of(running, request) in ("yes", "no")


@each
async def test_texts_and_tokens_go_both_ways(name: str, here: Any) -> None:
    needs(name, "tokenize")
    text = "Tokens: naïve 漢字 👍\n"
    async with here() as running:
        tokens = await running.tokenize(TokenizeRequest("", text))
        assert len(tokens) > 5
        assert await running.detokenize(tokens) == text


@each
async def test_too_long_a_prompt_is_refused_with_both_counts(name: str, here: Any) -> None:
    request = ChatRequest((Message("user", "word " * 3000),))
    async with here() as running:
        count = await running.count_tokens(request)
        with pytest.raises(PromptTooLong) as caught:
            await heard(running, request)
        assert f"{count:,}" in caught.value.problem
        assert "2,048" in caught.value.problem
        assert await heard(running, HELLO)  # and goes on


@each
async def test_a_prefix_is_not_read_twice(name: str, here: Any) -> None:
    needs(name, "prefix")
    document = "The quick brown fox jumps over the lazy dog. " * 100
    ask = [
        ChatRequest((Message("user", f"{document}\n{question}"),), temperature=0.0, max_tokens=1)
        for question in ("What jumps?", "Over what?")
    ]
    async with here() as running:
        first = (await heard(running, ask[0]))[-1].usage
        second = (await heard(running, ask[1]))[-1].usage
        assert first is not None
        assert second is not None
        assert second.prefill_ms < first.prefill_ms / 3
        if "cached" not in engines.lacks(name):
            assert second.cached_tokens > 800


def test_only_what_has_slots_on_disk_goes_on_after_a_restart() -> None:
    """What keeps is tested in test_prefix_cache.py; here that the others say so."""
    assert [name for name in sorted(LACKS) if "kept" not in LACKS[name]] == ["native", "xllamacpp"]


@each
async def test_the_same_seed_says_the_same(name: str, here: Any) -> None:
    needs(name, "seed")
    wild = ChatRequest((Message("user", "Invent a word."),), temperature=1.5, seed=7, max_tokens=12)
    async with here() as running:
        # The first reads the prompt as a whole, later ones its last token: sums of other shapes,
        # which with Snugly's products for many columns at once round differently.
        await text_of(running, wild)
        said = [await text_of(running, wild) for _ in range(2)]
    assert said[0] == said[1]


@each
async def test_a_cancelled_answer_frees_the_engine(name: str, here: Any) -> None:
    needs(name, "cancel")
    async with here() as running:
        begun = time.monotonic()
        await heard(running, LONG)
        whole_seconds = time.monotonic() - begun
        waits = []
        for _ in range(3):
            async with aclosing(running.stream(LONG)) as deltas:
                async for delta in deltas:
                    if delta.text:
                        break
            begun = time.monotonic()
            assert await heard(running, long_of(1))
            waits.append(time.monotonic() - begun)
    assert sorted(waits)[1] < whole_seconds / 2, (waits, whole_seconds)


@each
async def test_several_answers_at_once(name: str, here: Any) -> None:
    needs(name, "at_once")
    # Not word for word as alone: which rows are computed together shows in the last digits.
    ask = ChatRequest((Message("user", "Capital of France?"),), temperature=0.0, max_tokens=24)
    async with here(slots=3) as running:
        said = await asyncio.gather(*(text_of(running, ask) for _ in range(3)))
    assert all("France" in text for text in said), said


@each
async def test_log_probabilities_are_told(name: str, here: Any) -> None:
    needs(name, "logprobs")
    request = ChatRequest(HELLO.messages, temperature=0.0, max_tokens=3, logprobs=2)
    async with here() as running:
        told = [p for delta in await heard(running, request) for p in delta.logprobs]
    assert len(told) == 3
    assert all(p.logprob is not None and p.logprob <= 0 and len(p.top) == 2 for p in told)


@pytest.mark.parametrize(
    ("ability", "request_of"),
    [
        ("grammar", lambda: ChatRequest(HELLO.messages, grammar='root ::= "a"')),
        ("logprobs", lambda: ChatRequest(HELLO.messages, logprobs=1)),
        ("tools", lambda: ChatRequest(HELLO.messages, tools=(Tool("f", "does it", {}),))),
    ],
)
@each
async def test_what_it_cannot_it_refuses_in_the_declared_words(
    name: str, ability: str, request_of: Callable[[], ChatRequest], here: Any
) -> None:
    if name == "fake" or ability not in engines.lacks(name):
        pytest.skip("it can")
    async with here() as running:
        with pytest.raises(SnuglyError) as caught:
            await heard(running, request_of())
        assert LACKS[name][ability] in caught.value.because
        assert await heard(running, HELLO)


@each
async def test_a_crash_in_the_middle_is_told_in_words(name: str, here: Any) -> None:
    async with here() as running:
        with pytest.raises(EngineError) as caught:
            async for delta in running.stream(LONG):
                if delta.text:
                    os.kill(running.pid, signal.SIGABRT)
        assert "SIGABRT" in caught.value.because or "abort" in caught.value.because
        assert not running.alive
        assert running.last_words


@each
async def test_one_that_hangs_is_stopped(name: str, here: Any) -> None:
    async with here(silence=1.5) as running:
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="went silent"):
            await heard(running, LONG)
        assert gone(running.pid)


PARENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from tests.engine import engines
from tests.making import plan
async def main():
    running = await engines.engine(sys.argv[1]).start(plan(sys.argv[2], 1024))
    print(running.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@each
def test_it_dies_with_its_parent(name: str, smollm2: Path) -> None:
    if why := engines.why_not_here(name):
        pytest.skip(why)
    words = [sys.executable, "-c", PARENT, name, str(smollm2), str(ROOT)]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 3
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)


@each
async def test_it_tells_its_memory(name: str, here: Any) -> None:
    async with here() as running:
        await heard(running, long_of(2))
        peak, held = running.peak_bytes(), running.held_bytes()
    assert peak is not None
    assert held is not None
    assert 0 < held <= peak


@each
async def test_it_leaves_nothing_behind(name: str, here: Any) -> None:
    """No process of its session, no socket folder."""
    async with here() as running:
        session = os.getsid(running.pid)
        folder = os.path.dirname(running._process.address.socket)
        assert os.path.isdir(folder)
    await asyncio.sleep(0.3)
    left = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True)
    assert left.stdout.split() == []
    assert not os.path.exists(folder)


def test_every_engine_declares_its_abilities() -> None:
    assert set(LACKS) == set(ENGINES) - {AUTO}
    assert all(set(lacking) <= set(ABILITIES) for lacking in LACKS.values())
    assert all(why for lacking in LACKS.values() for why in lacking.values())
