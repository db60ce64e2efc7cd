"""Rows about engines: killed, out of memory, hung, stubborn, in a loop, raced, gone mad."""

import asyncio
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.figure import Figure, p
from tests.making import LLAMA_PAIRS, gguf_bytes, u32_pair
from tests.server.making import TEMPLATE, Served, events, said, served, stock


def forgive(it: Served) -> None:
    """Forget crashes, so that the next restart does not wait."""
    for seat in it.service.pool._seats.values():
        seat.crashes.clear()


def pid_of(it: Served) -> int:
    """The one running engine."""
    return it.service.pool.residents()[0].pid


async def killed_mid_stream(soak: bool) -> Figure:
    """Row 1."""
    kills, wrong = 200 if soak else 5, []
    async with served("--pieces", "1000", "--delay", "0.01") as it:
        for number in range(kills):
            async with asyncio.timeout(30):
                text = ""
                async with it.asking() as answer:
                    async for chunk in answer.aiter_text():
                        if not text:
                            os.kill(pid_of(it), signal.SIGKILL)
                        text += chunk
            last = events(text)[-1]
            if last == "[DONE]" or "error" not in last:
                wrong.append(number)
            forgive(it)
    return Figure(
        1, "engine killed in mid-answer",
        "an error event, never a clean end; the next request starts it again",
        f"{kills} kills, {len(wrong)} clean ends, 0 hung clients", not wrong,
    )  # fmt: skip


async def out_of_memory(soak: bool) -> Figure:
    """Row 13: on every load, while another model goes on answering."""
    rounds, statuses, others = 20 if soak else 3, [], []
    async with served("--most-context", "100", models=("tiny", "other")) as it:
        for _ in range(rounds):
            answer = await it.chat()
            statuses.append(answer.status_code)
            others.append((await it.client.get("/health")).status_code)
            forgive(it)
        cause = "ran out of memory" in answer.text
    ok = set(statuses) == {503} and set(others) == {200} and cause
    return Figure(
        13, "out of memory in an engine", "503 with the cause; the server lives",
        f"{rounds} loads, {statuses.count(503)} answered 503 with the cause, "
        f"{others.count(200)} health checks well", ok,
    )  # fmt: skip


async def out_of_memory_then_smaller(soak: bool) -> Figure:
    """Row 13, where a smaller plan is enough."""
    rounds, good = 10 if soak else 1, 0
    # A cache of 128 KiB per token: the first plan is mostly context.
    wide = {"embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 32}
    pairs = [pair for pair in LLAMA_PAIRS if not any(key.encode() in pair for key in wide)]
    pairs += [u32_pair(f"llama.{key}", value) for key, value in wide.items()]
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            stock(Path(folder), data=gguf_bytes((*pairs, TEMPLATE)))
            async with served("--most-context", "3500", store=Path(folder)) as it:
                good += (await it.chat()).status_code == 200
    return Figure(
        13, "out of memory with the first plan", "a smaller plan is tried",
        f"{good} of {rounds} answered", good == rounds,
    )  # fmt: skip


async def hung(soak: bool) -> Figure:
    """Row 14: stopped by SIGSTOP, silence limit 1 s."""
    rounds, recovered, wrong = 30 if soak else 1, [], 0
    async with served("--delay", "0.02", engine_silence_seconds=1.0) as it:
        await it.chat()
        loop = asyncio.get_running_loop()
        for _ in range(rounds):
            pid = pid_of(it)
            os.kill(pid, signal.SIGSTOP)
            began = loop.time()
            first = await it.chat()
            forgive(it)
            second = await it.chat()
            recovered.append(loop.time() - began)
            wrong += first.status_code != 500 or second.status_code != 200
            wrong += Path(f"/proc/{pid}").exists()
    return Figure(
        14, "hung engine (SIGSTOP)", "time-out, killed, an error; the next request is answered",
        f"{rounds} times; silence limit 1 s: p99 of error, kill, restart and answer"
        f" {p(recovered, 99):.1f} s; {wrong} wrong", wrong == 0,
    )  # fmt: skip


async def ignores_term(soak: bool) -> Figure:
    """Row 15."""
    rounds, survivors = 20 if soak else 1, 0
    async with served("--ignore-term") as it:
        for _ in range(rounds):
            await it.chat()
            pid = pid_of(it)
            await it.service.pool.unload("test/tiny/tiny.gguf")
            survivors += Path(f"/proc/{pid}").exists()
    return Figure(
        15, "engine ignores SIGTERM", "killed after 2 s",
        f"{rounds} times, {survivors} survivors", survivors == 0,
    )  # fmt: skip


async def crash_loop(soak: bool) -> Figure:
    """Row 16: an engine that aborts at its first word, asked without a pause."""
    seconds = 60.0 if soak else 2.5
    statuses: list[int] = []
    with TemporaryDirectory() as folder:
        mark = Path(folder) / "starts"
        async with served("--crash-after", "1", "--mark", str(mark)) as it:
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds
            hinted = True
            while loop.time() < end:
                answer = await it.chat()
                statuses.append(answer.status_code)
                hinted &= answer.status_code != 503 or int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.05)
        starts = mark.read_text().count("start")
    # At once, then after 1, 2, 4, 8, 16, 32 s: at most 8 in a minute.
    ok = starts <= 8 and set(statuses) <= {500, 503} and 503 in statuses and hinted
    return Figure(
        16, "crash loop", "back-off, then 503 with Retry-After",
        f"{starts} starts in {seconds:.0f} s of {len(statuses)} requests,"
        f" {statuses.count(503)} answered 503", ok,
    )  # fmt: skip


async def races(soak: bool) -> Figure:
    """Row 20: requests while the model is unloaded again and again."""
    rounds, statuses = 2000 if soak else 12, []
    async with served("--pieces", "1", models=("tiny", "other"), serve_slots=2) as it:

        async def asks(name: str) -> None:
            for _ in range(rounds):
                statuses.append((await it.chat(model=name)).status_code)

        async def unloads() -> None:
            for turn in range(rounds):
                name = ("tiny", "other")[turn % 2]
                await it.service.pool.unload(f"test/{name}/{name}.gguf")
                await asyncio.sleep(0.05)

        await asyncio.gather(asks("tiny"), asks("other"), unloads())
    bad = [status for status in statuses if status >= 500]
    return Figure(
        20, "unload and load race", "no 500",
        f"{rounds} rounds of each, {len(statuses)} requests, {len(bad)} failed", not bad,
    )  # fmt: skip


async def split_characters(soak: bool) -> Figure:
    """Row 24: bytes cut inside characters, surrogates in two events."""
    rounds, wrong = 200 if soak else 5, 0
    expected = "\U0001f600\u00e9\u4e2d\U0001f44d\U0001f600!"
    async with served("--split-utf8") as it:
        for _ in range(rounds):
            async with it.asking() as answer:
                text = said((await answer.aread()).decode())
            whole = (await it.chat()).json()["choices"][0]["message"]["content"]
            wrong += text != expected
            wrong += whole != expected
    return Figure(
        24, "characters split over tokens and packets", "byte-exact",
        f"{2 * rounds} answers, {wrong} with a wrong character", wrong == 0,
    )  # fmt: skip


async def gone_mad(soak: bool) -> Figure:
    """Row 38: an engine that repeats itself for ever."""
    async with served("--nan") as it:
        answer = await it.chat()
        found: Any = answer.json()["choices"][0]
        context = it.service.pool.residents()[0].plan.context
    ok = found["finish_reason"] == "length" and len(found["message"]["content"]) <= 4 * (
        context + 1
    )
    return Figure(
        38, "NaN, endless repetition", "an end with a reason",
        f"ended with `{found['finish_reason']}` where the context of {context:,} was full", ok,
    )  # fmt: skip


ROWS = (
    killed_mid_stream, out_of_memory, out_of_memory_then_smaller, hung, ignores_term, crash_loop,
    races, split_characters, gone_mad,
)  # fmt: skip
