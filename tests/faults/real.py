"""Rows on the real engine with SmolLM2, where its weights are on this machine."""

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.conftest import WEIGHTS
from tests.faults.engines import forgive, pid_of
from tests.faults.figure import Figure, median, p, timed
from tests.faults.soak import mixed_work
from tests.server.making import Served, eventually, served

REF = "smollm2"


def weights_are_here() -> bool:
    """Whether SmolLM2 was fetched for the tests."""
    return any(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf"))


def real(**changes: Any) -> Any:
    """A server with the real engine on the tests' weights."""
    how: dict[str, Any] = {"engine_command": (), "store": Path(WEIGHTS), "look": None}
    return served(**how | changes)


async def _leave(it: Served, prompt: str, wait: float) -> float:
    """Seconds from a client's leaving until another's one-token answer is there."""
    body = {"model": REF, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    data = json.dumps(body).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", it.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{it.port}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await eventually(lambda: it.service.admission.running == 1)
    await asyncio.sleep(wait)
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer.close()
    answer = await it.chat("hi", model=REF, max_tokens=1)
    assert answer.status_code == 200, answer.text
    return loop.time() - began


async def real_leavers(soak: bool) -> Figure:
    """Row 17 on the real engine with one slot: in prefill and in decode.

    What the next client's one token takes without a leaver is measured beside each of them,
    and its middle value taken off: on a busy machine that is most of it.
    """
    rounds, freed, usual = 100 if soak else 4, list[float](), list[float]()
    async with real(serve_slots=1) as it:
        for number in range(rounds):
            words = " ".join(f"word{number}x{i}" for i in range(1000))  # nothing of it is cached
            await it.chat("hi", model=REF, max_tokens=1)  # the first one loads
            usual.append(await timed(it.chat("hi", model=REF, max_tokens=1)))
            freed.append(await _leave(it, words, 0.3))
            freed.append(await _leave(it, "Count to one thousand.", 0.3))
    own, late = median(usual), p(freed, 95)
    return Figure(
        17, "client leaves (in prefill and in decode), SmolLM2, one slot", "the slot is free",
        f"{len(freed)} times until the next client's token: p95 {late:.2f} s, most"
        f" {max(freed):.2f} s; without a leaver {own:.2f} s (p95 {p(usual, 95):.2f} s); so the slot"
        f" is free after {late - own:.2f} s (p95)", late - own <= 2.0,
    )  # fmt: skip


async def real_too_long(soak: bool) -> Figure:
    """Row 18: prompts around the length of the context; every count is checked."""
    silent = refused = answered = 0
    async with real(serve_slots=1) as it:
        await it.chat("hi", model=REF, max_tokens=1)
        context = it.service.pool.residents()[0].plan.context
        # SmolLM2's template and system prompt take 31 tokens, each " word" is one.
        lengths = [context + k for k in ((-7000, 5, 3000) if not soak else range(-80, 3000, 97))]
        for length in lengths:
            answer = await it.chat("word " * length, model=REF, max_tokens=4)
            if answer.status_code == 200:
                answered += 1
                silent += answer.json()["usage"]["prompt_tokens"] < length
            else:
                refused += 1
                said = answer.json()["error"]
                silent += said["code"] != "context_length_exceeded" or f"{context:,}" not in str(
                    said
                )
    return Figure(
        18, "prompt longer than the context, SmolLM2", "400 with both counts",
        f"{answered} answered, {refused} refused with both counts, {silent} silent truncations",
        not silent and refused > 0,
    )  # fmt: skip


async def real_endless(soak: bool) -> Figure:
    """Row 18, answers: two clients at once who never want theirs to end share one context."""
    rounds, ends, tokens, room = 5 if soak else 1, list[str](), list[int](), 0
    async with real(serve_slots=2, memory_limit_bytes=200 * 2**20) as it:

        async def endless(number: int) -> None:
            # Half of its share to read; without its end of turn (token 2) it never stops.
            words = " ".join(f"{number}{i:02d}" for i in range(100))
            answer = await it.chat(words, model=REF, logit_bias={"2": -100, "0": -100})
            body = answer.json()
            failed = answer.status_code != 200
            ends.append(str(body["error"]) if failed else body["choices"][0]["finish_reason"])
            tokens.append(0 if failed else body["usage"]["total_tokens"])

        for number in range(rounds):
            await asyncio.gather(endless(2 * number + 1), endless(2 * number + 2))
        room = it.service.pool.residents()[0].plan.context
    return Figure(
        18, "two endless answers beside each other, SmolLM2", "each ends with `length`",
        f"{len(ends)} answers in a context of {room:,}, {ends.count('length')} ended with `length`"
        f" after {min(tokens):,} to {max(tokens):,} tokens", set(ends) == {"length"},
    )  # fmt: skip


async def real_killed(soak: bool) -> Figure:
    """Row 1 on the real engine."""
    kills, clean = 20 if soak else 2, 0
    async with real(serve_slots=1) as it:
        for _ in range(kills):
            text = ""
            async with asyncio.timeout(60), it.asking("Count to 500.", model=REF) as answer:
                async for chunk in answer.aiter_text():
                    if "content" in chunk and not text:
                        os.kill(pid_of(it), signal.SIGKILL)
                    text += chunk
            clean += "[DONE]" in text or "error" not in text
            forgive(it)
    return Figure(
        1, "engine killed in mid-answer, SmolLM2", "an error event, never a clean end",
        f"{kills} kills, {clean} clean ends", not clean,
    )  # fmt: skip


async def real_canaries(soak: bool) -> Figure:
    """Row 19: clients at once, each with a secret word; no answer has another's."""
    count, leaks, wrong = 10_000 if soak else 24, 0, 0
    # Of ten million words: a slip of the model must not look like another's secret.
    secrets = [f"{number * 7_919_077 % 9_999_991:07d}" for number in range(count)]
    known = set(secrets)
    async with real(serve_slots=4) as it:
        gate = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            nonlocal leaks, wrong
            secret = secrets[number]
            async with gate:
                body = {
                    "model": REF,
                    "prompt": f" {secret}" * 6,
                    "max_tokens": 12,
                    "temperature": 0,
                }
                answer = await it.client.post("/v1/completions", json=body, timeout=300)
            text = answer.json()["choices"][0]["text"]
            said = {text[at : at + 7] for at in range(len(text) - 6)}
            leaks += bool((said & known) - {secret})
            wrong += secret not in text

        await asyncio.gather(*(one(number) for number in range(count)))
    return Figure(
        19, "leak between conversations, SmolLM2, 4 slots", "no canary of another",
        f"{count:,} requests, {leaks} leaks ({wrong} did not repeat their own)", not leaks,
    )  # fmt: skip


async def four_models(soak: bool) -> Figure:
    """Row 12: four copies of SmolLM2 in turn, where two fit; the kernel's own count of kills."""
    rounds, most, peaks, planned, statuses = 10 if soak else 2, 0, 0, 0, []
    weights = next(WEIGHTS.glob("HuggingFaceTB/*/SmolLM2-135M-Instruct.Q4_1.gguf"))
    names, killed = ("one", "two", "three", "four"), kernel_kills()
    with TemporaryDirectory() as folder:
        for name in names:
            place = Path(folder) / "test" / name
            place.mkdir(parents=True)
            shutil.copy(weights, place / f"{name}.gguf")
        async with real(store=Path(folder)) as it:
            await it.chat("hi", model="one", max_tokens=1)
            one = it.service.pool.residents()[0].plan.estimate.total_bytes
        cap = one * 5 // 2
        async with real(store=Path(folder), memory_limit_bytes=cap) as it:

            async def watch() -> None:
                nonlocal most, peaks, planned
                me = psutil.Process()
                while True:
                    engines = it.service.pool.residents()
                    planned = max(planned, sum(e.plan.estimate.total_bytes for e in engines))
                    peaks = max(peaks, sum(e.peak_bytes or 0 for e in engines))
                    # Those that are loading or ending too.
                    most = max(most, sum(_resident(c.pid) for c in me.children(recursive=True)))
                    await asyncio.sleep(0.02)

            watching = asyncio.create_task(watch())
            for turn in range(4 * rounds):
                answer = await it.chat("Count to ten.", model=names[turn % 4], max_tokens=8)
                statuses.append(answer.status_code)
                if answer.status_code != 200:
                    print(answer.text)
            watching.cancel()
            held = len(it.service.pool.residents())
    killed = kernel_kills() - killed
    return Figure(
        12, "four models in turn, SmolLM2, room for two and a half",
        "never above the budget; no kills by the kernel",
        f"{len(statuses)} requests, {statuses.count(200)} answered; all engines together at most"
        f" {most / 2**20:.0f} MiB resident, planned {planned / 2**20:.0f}, of a budget of"
        f" {cap / 2**20:.0f} MiB; {held} loaded at the end, {killed} killed by the kernel",
        max(most, peaks, planned) <= cap and set(statuses) == {200} and held == 2 and not killed,
    )  # fmt: skip


def kernel_kills() -> int:
    """Processes that Linux has killed for want of memory since it started (`oom_kill`)."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


ROWS = (
    (four_models, real_leavers, real_too_long, real_endless, real_killed, real_canaries, mixed_work)
    if weights_are_here()
    else ()
)
