"""Events that only say how far a prompt was read."""

import json
from typing import Any, cast

from snugly.engine.llama_http import _events
from snugly.engine.streamed import Streamed


class Answer:
    """Chunks as they come."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def read(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


def event(**more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [], **more}).encode() + b"\n\n"


async def test_progress_is_passed_over_and_the_rest_is_not() -> None:
    read = event(prompt_progress={"total": 900, "cache": 0, "processed": 128, "time_ms": 9})
    text = event(content='it says "prompt_progress" too')
    answer = Answer(read, read + text, text + read + text, read)
    found = [pair async for pair in _events(cast(Streamed, answer))]
    said = text.decode().removeprefix("data: ").strip()
    assert found == [(said, False), (said, True), (said, False)]
