"""The real engine with real weights."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.making import gguf_bytes, plan
from tests.process.test_engine_process import gone

from snugly.chat.types import ChatRequest, Message
from snugly.engine import llama_cpp
from snugly.engine.address import new_address
from snugly.engine.llama_cpp import LlamaCpp, facts
from snugly.engine.llama_http import LlamaCppRunning
from snugly.errors import EngineError, PromptTooLong
from snugly.model.spec import read_spec
from snugly.plan.memory import estimate

ENGINE = LlamaCpp(60, 60)
LONG = ChatRequest((Message("user", "Count from 1 to 1000."),), temperature=0.0, max_tokens=500)


@asynccontextmanager
async def running(model: Path, context: int = 2048) -> AsyncIterator[LlamaCppRunning]:
    engine = await ENGINE.start(plan(model, context))
    try:
        yield engine
    finally:
        await engine.stop()
        assert gone(engine.pid)


async def test_it_answers_and_remembers_the_prompt(smollm2: Path) -> None:
    request = ChatRequest((Message("user", "What is 2+2?"),), temperature=0.0, max_tokens=20)
    async with running(smollm2) as engine:
        for seen_before in (False, True):
            deltas = [delta async for delta in engine.stream(request)]
            usage = deltas[-1].usage
            assert "4" in "".join(delta.text for delta in deltas)
            assert usage is not None
            assert usage.prompt_tokens == await engine.count_tokens(request)
            assert (usage.cached_tokens > 0) is seen_before


async def test_the_windows_way_in_is_closed_to_others(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2

    monkeypatch.setattr(llama_cpp, "new_address", lambda: new_address("win32"))
    async with running(smollm2) as engine:
        address = engine._process.address
        assert await engine.count_tokens(LONG) > 0
        async with httpx2.AsyncClient(base_url=address.base_url, trust_env=False) as stranger:
            answer = await stranger.post("/tokenize", json={"content": "x"})
        assert answer.status_code == 401


async def test_a_schema_is_obeyed(smollm2: Path) -> None:
    import json

    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    request = ChatRequest(
        (Message("user", "A city and how many people live there."),),
        temperature=0.0,
        max_tokens=60,
        schema=schema,
    )
    async with running(smollm2) as engine:
        text = "".join([delta.text async for delta in engine.stream(request)])
    value = json.loads(text)
    assert set(value) == {"city", "n"}
    assert isinstance(value["n"], int)


async def test_a_prompt_that_is_too_long_is_refused_with_both_counts(smollm2: Path) -> None:
    request = ChatRequest((Message("user", "word " * 4000),))
    async with running(smollm2) as engine:
        count = await engine.count_tokens(request)
        with pytest.raises(PromptTooLong) as caught:
            await anext(engine.stream(request))
    assert f"{count:,}" in caught.value.problem
    assert "2,048" in caught.value.problem


async def test_cancelling_frees_the_engine(smollm2: Path) -> None:
    """After a cancelled answer the next one need not wait for the rest of it."""
    short = ChatRequest((Message("user", "Hi"),), max_tokens=2)
    async with running(smollm2) as engine:
        begun = time.monotonic()
        whole = len([delta async for delta in engine.stream(LONG) if delta.text])
        whole_seconds = time.monotonic() - begun
        assert whole > 100
        waits = []
        for _ in range(10):
            async with aclosing(engine.stream(LONG)) as deltas:
                async for delta in deltas:
                    if delta.text:
                        break
            begun = time.monotonic()
            assert [delta async for delta in engine.stream(short)]
            waits.append(time.monotonic() - begun)
        assert sorted(waits)[5] < whole_seconds / 2, (waits, whole_seconds)


async def test_killed_in_the_middle_each_time_a_clear_error(smollm2: Path, soak: bool) -> None:
    for _ in range(50 if soak else 5):
        async with running(smollm2) as engine:
            with pytest.raises(EngineError) as caught:
                async for delta in engine.stream(LONG):
                    if delta.text:
                        os.kill(engine.pid, signal.SIGKILL)
            assert "SIGKILL" in caught.value.because


PARENT = """
import asyncio, sys
from tests.making import plan
from snugly.engine.llama_cpp import LlamaCpp
from snugly.chat.types import ChatRequest, Message
async def main():
    engine = await LlamaCpp(60, 60).start(plan(sys.argv[1]))
    async for delta in engine.stream(ChatRequest((Message("user", "Count to 1000."),))):
        print(engine.pid, flush=True)
asyncio.run(main())
"""


def test_the_engine_dies_with_its_parent(smollm2: Path, soak: bool) -> None:
    for _ in range(50 if soak else 5):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(smollm2)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 2
        while not gone(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone(pid)


@pytest.mark.parametrize("context", [2048, 8192])
async def test_peak_memory_is_within_15_percent_of_the_plan(smollm2: Path, context: int) -> None:
    predicted = estimate(read_spec(smollm2), context, 512, facts("linux", "x86_64")).total_bytes
    # Nearly the whole context is filled, so that everything that was planned is touched.
    request = ChatRequest((Message("user", "word " * (context - 100)),), max_tokens=30)
    async with running(smollm2, context) as engine:
        assert [delta async for delta in engine.stream(request)]
        peak = engine.peak_bytes()
    assert peak is not None
    assert abs(peak / predicted - 1) < 0.15, (peak, predicted)


async def test_a_file_that_only_looks_like_a_model_gives_the_engines_reason(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes())
    with pytest.raises(EngineError) as caught:
        await ENGINE.start(plan(path))
    assert caught.value.problem == "The engine could not load the model."
    assert "Failed to init server" not in caught.value.because


def test_a_processor_without_avx2_is_told_before_the_import() -> None:
    assert ENGINE.unusable("x86_64", ("fma",)) == "this processor lacks avx2, bmi2, f16c"
    assert ENGINE.unusable("x86_64", ("avx2", "fma", "bmi2", "f16c")) == ""
    assert ENGINE.unusable("arm64", ("neon",)) == ""
