"""What a server keeps of a request once it is answered, by kind: nothing that adds up."""

import ctypes
import gc
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from tests.server.making import TOKEN, Served, served

KEY = {"authorization": f"Bearer {TOKEN}"}
WARM_UP, COUNT = 6, 10
# Per request. What stays is a row in SQLite's page cache (2 MB at most) and noise; planning kept
# 300 blocks with each load, an engine's TLS context was 800 KB.
MOST_BLOCKS, MOST_BYTES = 80, 100_000


class _Mallinfo2(ctypes.Structure):
    _fields_ = [  # noqa: RUF012
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def bytes_in_use() -> int:
    """What malloc has given out; 0 where it cannot say (glibc before 2.33, other systems)."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if ask is None:
        return 0
    ask.restype = _Mallinfo2
    info = ask()
    return int(info.uordblks + info.hblkhd)


async def _stream(it: Served) -> None:
    async with it.asking() as answer:
        async for _ in answer.aiter_text():
            pass


async def _leave(it: Served) -> None:
    async with it.asking() as answer:
        async for _ in answer.aiter_text():
            break


async def _embed(it: Served) -> None:
    await it.client.post("/v1/embeddings", json={"model": "tiny", "input": ["a", "b"]})


async def _refused(it: Served) -> None:
    assert (await it.chat(temperature="hot")).status_code == 400


async def _unknown(it: Served) -> None:
    assert (await it.chat(model="nobody")).status_code == 404


async def _tools(it: Served) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    await it.chat(tools=[{"type": "function", "function": function}])


async def _come_and_go(it: Served) -> None:
    """Loaded, asked in a way of its own, and stopped."""

    async def post(path: str, body: dict[str, Any]) -> httpx2.Response:
        answer = await it.client.post(path, json={"model": "other"} | body, headers=KEY, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer

    await post("/snugly/load", {})
    await post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hi"}]})
    await post("/snugly/stop", {})


async def _saved(it: Served) -> None:
    """What it has read is saved when it stops."""
    words = " ".join(secrets.token_hex(4) for _ in range(300))
    answer = await it.chat(words, model="other")
    assert answer.status_code == 200, answer.text
    answer = await it.client.post("/snugly/stop", json={"model": "other"}, headers=KEY, timeout=60)
    assert answer.status_code == 200, answer.text


KINDS: tuple[Callable[[Served], Awaitable[None]], ...] = (
    _stream, _leave, _embed, _refused, _unknown, _tools, _come_and_go,
    _saved,
)  # fmt: skip


async def test_no_kind_of_request_leaves_anything_behind() -> None:
    grown = {}
    async with served("--pieces", "3", "--slots", models=("tiny", "other")) as it:
        for kind in KINDS:
            for _ in range(WARM_UP):
                await kind(it)
            gc.collect()
            gc.disable()  # what waits for a collection is held meanwhile, and counts as bytes
            try:
                blocks, held = sys.getallocatedblocks(), bytes_in_use()
                for _ in range(COUNT):
                    await kind(it)
                held = bytes_in_use() - held
                gc.collect()
            finally:
                gc.enable()
            grown[kind.__name__] = (sys.getallocatedblocks() - blocks) // COUNT, held // COUNT
    # The last kind did what it is for.
    assert len(list(it.service.config.cache.glob("prefixes/*/*.kv"))) >= COUNT
    assert all(blocks <= MOST_BLOCKS for blocks, _ in grown.values()), grown
    assert all(held <= MOST_BYTES for _, held in grown.values()), grown
