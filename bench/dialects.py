"""What a token costs on its way through: from the engine's event to the client's bytes.

    python bench/dialects.py

Processor time per piece, on one core; 64 answers at 50 tokens/s are 3,200 pieces a second.
"""

import json
import time
from collections.abc import Callable

from snugly.engine.pieces import Pieces
from snugly.server.dialects import anthropic, llamacpp, ollama, openai_chat, openai_responses
from snugly.server.dialects.types import Reply, Writer

ROUNDS = 20_000
REPLY = Reply("0123456789abcdef01234567", "model", 1795154210.25)
EVENT = json.dumps(
    {
        "choices": [{"finish_reason": None, "index": 0, "delta": {"content": " word"}}],
        "created": 1795154210,
        "id": "chatcmpl-QAcC7QbOFXzPBoZ5X8qhJ2mnyDnU1k4f",
        "model": "model",
        "system_fingerprint": "b0-unknown",
        "object": "chat.completion.chunk",
    }
)


def microseconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    for _ in range(ROUNDS):
        work()
    return 1e6 * (time.process_time() - began) / ROUNDS


def main() -> None:
    """Print a line for reading, and one for writing in each dialect."""
    pieces = Pieces()
    print(f"{'reading':12}{microseconds(lambda: pieces.read(EVENT)):6.1f} us")
    delta = pieces.read(EVENT)
    writers: dict[str, Writer] = {
        "openai": openai_chat.ChatWriter(REPLY),
        "responses": openai_responses.ResponseWriter(REPLY, openai_responses.read({"input": "x"})),
        "anthropic": anthropic.MessageWriter(REPLY),
        "ollama": ollama.ChatWriter(REPLY),
        "llama.cpp": llamacpp.RawWriter(REPLY),
    }
    for name, writer in writers.items():
        writer.start()
        print(f"{name:12}{microseconds(lambda w=writer: w.feed(delta)):6.1f} us")  # type: ignore[misc]


if __name__ == "__main__":
    main()
