"""Events that only say how far a prompt was read."""

import json
from typing import Any

from snugly.chat.sse import EventStream
from snugly.engine.llama_http import told


def event(**more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [], **more}).encode() + b"\n\n"


def test_progress_is_passed_over_and_the_rest_is_not() -> None:
    read = event(prompt_progress={"total": 900, "cache": 0, "processed": 128, "time_ms": 9})
    text = event(content='it says "prompt_progress" too')
    stream = EventStream()
    chunks = (read, read + text, text + read + text, read)
    found = [pair for chunk in chunks for pair in told(stream.feed(chunk))]
    said = text.decode().removeprefix("data: ").strip()
    assert found == [(said, False), (said, True), (said, False)]
