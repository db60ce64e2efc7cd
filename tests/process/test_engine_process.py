"""Supervision, with a worker that misbehaves on request (tests/fake_engine.py)."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tests.conftest import FAKE_ENGINE
from tests.making import plan

from snugly.chat.types import ChatRequest, Message
from snugly.engine import llama_cpp, starting
from snugly.engine.address import new_address
from snugly.engine.llama_cpp import LlamaCpp
from snugly.engine.llama_http import LlamaCppRunning
from snugly.errors import EngineError, PromptTooLong

HELLO = ChatRequest((Message("user", "hello there"),))


def fake(*switches: str, start: float = 20.0, silence: float = 20.0) -> LlamaCpp:
    return LlamaCpp(start, silence, (sys.executable, str(FAKE_ENGINE), *switches))


@asynccontextmanager
async def running(*switches: str, silence: float = 20.0) -> AsyncIterator[LlamaCppRunning]:
    engine = await fake(*switches, silence=silence).start(plan())
    try:
        yield engine
    finally:
        await engine.stop()
        assert not psutil.pid_exists(engine.pid) or gone(engine.pid)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def text_of(engine: LlamaCppRunning, request: ChatRequest = HELLO) -> str:
    return "".join([delta.text async for delta in engine.stream(request)])


async def test_an_answer_streams_and_ends_with_usage() -> None:
    async with running() as engine:
        deltas = [delta async for delta in engine.stream(HELLO)]
        assert "".join(delta.text for delta in deltas) == "word " * 8
        assert [d.finish_reason for d in deltas if d.finish_reason] == ["stop"]
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.completion_tokens == 8
        assert await engine.count_tokens(HELLO) == 2


async def test_a_loopback_address_with_a_key_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "new_address", lambda: new_address("win32"))
    async with running() as engine:
        assert await text_of(engine) == "word " * 8


@pytest.mark.parametrize(
    ("switches", "cause"),
    [
        (("--crash-after", "0"), "A check inside the engine failed: fake != nullptr"),
        (
            ("--die-loading", "E x: unknown model architecture: 'zebra'"),
            "does not know the architecture 'zebra'",
        ),
    ],
)
async def test_a_death_while_loading_tells_the_cause(switches: tuple[str, ...], cause: str) -> None:
    with pytest.raises(EngineError) as caught:
        await fake(*switches).start(plan())
    assert cause in caught.value.because


async def test_an_engine_that_never_gets_ready_is_stopped_at_the_deadline() -> None:
    own = uuid.uuid4().hex
    with pytest.raises(EngineError, match="did not get ready"):
        await fake("--never-ready", "--words", own, start=1.0).start(plan())
    assert not [p for p in psutil.process_iter(["cmdline"]) if own in str(p.info)]


async def test_a_crash_in_the_middle_keeps_what_came_and_tells_the_cause() -> None:
    async with running("--crash-after", "3") as engine:
        heard = ""
        with pytest.raises(EngineError) as caught:
            async for delta in engine.stream(HELLO):
                heard += delta.text
        assert heard == "word " * 3
        assert "fake != nullptr" in caught.value.because


async def test_a_stream_that_just_ends_is_never_taken_for_a_whole_answer() -> None:
    async with running("--no-done") as engine:
        with pytest.raises(EngineError, match="in the middle"):
            await text_of(engine)


async def test_a_silent_engine_is_stopped() -> None:
    async with running("--hang", silence=0.5) as engine:
        with pytest.raises(EngineError, match="went silent"):
            await text_of(engine)
        assert gone(engine.pid)


async def test_an_engine_that_ignores_term_is_killed() -> None:
    engine = await fake("--ignore-term").start(plan())
    begun = time.monotonic()
    await engine.stop()
    assert gone(engine.pid)
    assert 1.5 < time.monotonic() - begun < 5


async def test_endless_nonsense_can_be_cancelled_and_the_engine_answers_again() -> None:
    async with running("--nan") as engine:
        count = 0
        async with aclosing(engine.stream(HELLO)) as deltas:
            async for _ in deltas:
                count += 1
                if count == 100:
                    break
        assert await engine.count_tokens(HELLO) == 2


async def test_characters_cut_anywhere_arrive_byte_exact() -> None:
    async with running("--split-utf8") as engine:
        assert await text_of(engine) == "\U0001f600é\u4e2d\U0001f44d\U0001f600!"


async def test_line_separators_inside_text_do_not_cut_events() -> None:
    async with running("--separators", "--pieces", "4") as engine:
        assert await text_of(engine) == "a\u2028bc\u0085de\r\nfg\x1bh"


async def test_a_prompt_longer_than_the_context_is_refused_with_both_counts() -> None:
    async with running() as engine:
        with pytest.raises(PromptTooLong) as caught:
            await text_of(engine, ChatRequest((Message("user", "word " * 3000),)))
        assert "3,000" in caught.value.problem
        assert "2,048" in caught.value.problem


async def test_50_kills_in_the_middle_each_give_a_clear_error(soak: bool) -> None:
    for _ in range(50 if soak else 10):
        async with running("--pieces", "100000", "--delay", "0.001") as engine:
            with pytest.raises(EngineError) as caught:
                async for _delta in engine.stream(HELLO):
                    os.kill(engine.pid, signal.SIGKILL)
            assert "SIGKILL" in caught.value.because


@pytest.mark.parametrize("after", [0.0, 0.0005, 0.002, 0.005, 0.01, 0.05, 0.5])
async def test_cancelling_the_start_leaves_nothing_behind(after: float) -> None:
    own = uuid.uuid4().hex
    engine = fake("--never-ready", "--words", own)
    task = asyncio.create_task(engine.start(plan(model_name="cancelled")))
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [p for p in psutil.process_iter(["cmdline"]) if own in str(p.info)]


async def test_a_client_that_cannot_be_imported_leaves_no_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(starting, "import_module", broken)
    with pytest.raises(ImportError):
        await fake("--pieces", "77").start(plan())
    assert not [p for p in psutil.process_iter(["cmdline"]) if "'77'" in str(p.info)]


PARENT = """
import asyncio, sys
from tests.making import plan
from snugly.engine.llama_cpp import LlamaCpp
async def main():
    engine = await LlamaCpp(20, 20, sys.argv[1:]).start(plan())
    print(engine.pid, engine._process.address.socket, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_engines_die_with_their_parent(signal_number: int, soak: bool) -> None:
    for _ in range(50 if soak else 5):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, sys.executable, str(FAKE_ENGINE), "--ignore-term"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        parent.send_signal(signal_number)
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 2
        while not gone(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone(pid)
