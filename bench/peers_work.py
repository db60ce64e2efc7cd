"""The pieces of work in `bench/peers.py`. Every round asks something else; all get the same."""

import asyncio
import contextlib
import importlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers_servers import Answer, Client, Contender, serving

DOCS = Path(__file__).parents[1] / "docs"
# Plain modules of the standard library of 1,000 tokens and more, and what is to be changed.
FILES = (
    ("queue", "Rename the parameter `maxsize` of `Queue.__init__` to `limit`."),
    ("textwrap", "Set the default of `width` in the constructor to 80."),
    ("colorsys", "Add a docstring to every function that has none."),
    ("bisect", "Raise a TypeError instead of a ValueError."),
)
THEMES = ("a lighthouse", "a lost key", "the first snow", "a night train", "an old map", "a bridge")


@dataclass(frozen=True, slots=True)
class Texts:
    """What is asked of one model in one round, cut to tokens by its own tokenizer."""

    number: int
    short: tuple[str, ...]  # 200 tokens each
    middle: tuple[str, ...]  # 300
    long: str  # 4,000
    deep: str  # 16,384 and a micro-batch, or what the model was trained for
    deep_tokens: int
    code: str
    change: str
    ends: tuple[int, ...]


async def texts(client: Client, number: int, salt: str, ends: tuple[int, ...], deep: int) -> Texts:
    """Cut them; `salt` keeps what an earlier call left in a cache from helping."""
    told = f"Run {salt}, round {number}. "
    pages = sorted(DOCS.glob("*.md"))
    shift = number * 5 % len(pages)
    book = told + "\n".join(p.read_text() for p in pages[shift:] + pages[:shift])
    lines = [line for line in book.splitlines() if len(line) > 60]
    story = [
        f"{told} Write a long story about {theme}. Use these notes: " + " ".join(lines[i::17])
        for i, theme in enumerate(THEMES + THEMES)
    ]
    name, change = FILES[number % len(FILES)]
    source = inspect.getsource(importlib.import_module(name))
    return Texts(
        number,
        tuple([await client.cut(text, 180) for text in story[:2]]),  # and the template's own 20
        tuple([await client.cut(text, 280) for text in story[:8]]),
        await client.cut(book, 3970),
        await client.cut(book * 4, deep),
        deep,
        (await client.cut(source, 1000)).rpartition("\n")[0],
        change,
        ends,
    )


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]


def told(seconds: float, answers: list[Answer], **more: Any) -> dict[str, Any]:
    """What is written down of one measurement."""
    found = {
        "seconds": seconds, "first_s": answers[-1].first_s,
        "tokens": sum(a.tokens for a in answers), "prompt": sum(a.prompt_tokens for a in answers),
    }  # fmt: skip
    return found | more


async def short(contender: Contender, given: Texts) -> dict[str, Any]:
    """A short chat turn."""
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        answer = await client.ask(user(given.short[0]), 200, given.ends)
    decode = (answer.tokens - 1) / (answer.seconds - answer.first_s)
    return told(answer.seconds, [answer], decode_tps=decode)


async def document(contender: Contender, given: Texts) -> dict[str, Any]:
    """A question on a long document."""
    question = f"{given.long}\n\nWhat is this text about?"
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        answer = await client.ask(user(question), 150, given.ends)
    return told(answer.seconds, [answer])


async def edit(contender: Contender, given: Texts) -> dict[str, Any]:
    """The whole file, with one change."""
    question = (
        f"```python\n{given.code}\n```\n\n{given.change} Answer with the whole changed file,"
        " nothing else."
    )
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        answer = await client.ask(user(question), 1200)
    return told(answer.seconds, [answer], text=answer.text)


async def restart(contender: Contender, given: Texts) -> dict[str, Any]:
    """A second question on the same document, after the server was stopped and started again."""
    asked = [f"{given.long}\n\n{q}" for q in ("What is this text about?", "Name one command.")]
    async with serving(contender) as client:
        await client.ask(user(asked[0]), 32, given.ends)
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        answer = await client.ask(user(asked[1]), 32, given.ends)
    return told(answer.seconds, [answer])


async def turns(contender: Contender, given: Texts) -> dict[str, Any]:
    """Ten turns of a conversation."""
    messages: list[dict[str, str]] = []
    answers = []
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        for number in range(10):
            said = given.short[1][number * 60 : number * 60 + 200]
            messages.append({"role": "user", "content": f"{number + 1}. {said} Go on."})
            answers.append(await client.ask(messages, 60, given.ends))
            messages.append({"role": "assistant", "content": answers[-1].text})
    return told(sum(a.seconds for a in answers), answers)


async def crowd(contender: Contender, given: Texts) -> dict[str, Any]:
    """Eight clients at once."""
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        answers = await asyncio.gather(
            *(client.ask(user(text), 100, given.ends) for text in given.middle)
        )
    return told(max(a.seconds for a in answers), list(answers))


async def cold(contender: Contender, given: Texts) -> dict[str, Any]:
    """From the start of the server's process to the first token of a short question."""
    async with serving(contender) as client:
        asked = time.perf_counter()
        answer = await client.ask(user("Say hello."), 2)
    return told(asked - client.begun + answer.first_s, [answer])


async def deep(contender: Contender, given: Texts) -> dict[str, Any]:
    """Prefill rates of 512 tokens at growing depths."""
    rates, total, answers = {}, 0.0, list[Answer]()
    per_token = len(given.deep) / given.deep_tokens
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        for depth in (d for d in (0, 2048, 8192, 16384) if d + 512 <= given.deep_tokens):
            at, then = int(depth * per_token), int((depth + 512) * per_token)
            if depth:
                answers.append(await client.ask(user(given.deep[:at]), 1))
            known = answers[-1].prompt_tokens if depth else 0
            answers.append(await client.ask(user(given.deep[:then]), 1))
            rates[str(depth)] = (answers[-1].prompt_tokens - known) / answers[-1].first_s
            total += answers[-1].first_s
    return told(total, answers, rates=rates)


async def clients(contender: Contender, given: Texts) -> dict[str, Any]:
    """Throughput of 1 to 16 clients that ask at once, 100 tokens in, 50 out."""
    rates, total, answers = {}, 0.0, []
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        for count in (1, 2, 4, 8, 16):
            asked = [f"{count}/{i} " + given.middle[i % 8][i * 7 :][:400] for i in range(count)]
            begun = time.perf_counter()
            found = await asyncio.gather(*(client.ask(user(t), 50, given.ends) for t in asked))
            seconds = time.perf_counter() - begun
            rates[str(count)] = sum(a.tokens for a in found) / seconds
            answers += found
            total += seconds
    return told(total, answers, rates=rates)


@contextlib.contextmanager
def beside(*words: str, threads: int = 1) -> Iterator[None]:
    """Another program at work while the block runs."""
    few = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    other = subprocess.Popen([sys.executable, "-c", *words], env=os.environ | few)
    try:
        time.sleep(1.0)
        yield
    finally:
        other.kill()
        other.wait()


LOOP = "while True: pass"
NUMERIC = (
    "import numpy as np\na = np.random.rand(1500, 1500)\n"
    "while True: a = a @ a; a /= np.abs(a).max()"
)


async def busy(contender: Contender, given: Texts) -> dict[str, Any]:
    """A short chat turn with one core taken by a busy loop."""
    with beside(LOOP):
        return await short(contender, given)


async def numeric(contender: Contender, given: Texts) -> dict[str, Any]:
    """A short chat turn beside a numeric job with two threads."""
    with beside(NUMERIC, threads=2):
        return await short(contender, given)


async def busy_later(contender: Contender, given: Texts) -> dict[str, Any]:
    """As `busy`, but the loop begins after the model was loaded; the third turn is told."""
    async with serving(contender) as client:
        await client.ask(user("Hello."), 4)
        with beside(LOOP):
            await client.ask(user("Say yes."), 4)
            await asyncio.sleep(15)  # Snugly changes its threads after 5
            answer = await client.ask(user(given.short[0]), 200, given.ends)
    return told(answer.seconds, [answer])


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: how often it is done, and the least ratio that is asked for."""

    run: Callable[[Contender, Texts], Awaitable[dict[str, Any]]]
    words: str
    target: float | None = None
    rounds: int = 3


WORKS = {
    "short": Work(short, "short chat turn (200 in, 200 out)", 1.0),
    "document": Work(document, "long document (4k in, 150 out)", 1.4, 2),
    "edit": Work(edit, "code edit (1k of code in, the file with one change out)", 2.0, 2),
    "restart": Work(restart, "second question on the document after a restart", 10, 2),
    "turns": Work(turns, "ten-turn conversation", 1.1, 2),
    "crowd": Work(crowd, "8 clients at once (300 in, 100 out)", 1.1, 2),
    "busy": Work(busy, "short chat, one core in a busy loop", 1.8, 2),
    "busy_later": Work(busy_later, "the same, the loop begins after loading", None, 1),
    "numeric": Work(numeric, "short chat beside a two-thread numeric job", 1.3, 2),
    "cold": Work(cold, "cold start to the first token", 1.0),
    "deep": Work(deep, "prefill of 512 tokens at depth", None, 1),
    "clients": Work(clients, "tokens/s of clients at once", None, 1),
}
