"""Pictures through the real engine, with real words and a made-up projector."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.eyes import EMBEDDINGS, make_projector, png
from tests.engine.test_llama_cpp import ENGINE
from tests.making import plan

from snugly.chat.types import ChatRequest, Image, Message, Part, Text, Usage
from snugly.engine.types import Running
from snugly.errors import UserError
from snugly.model.projectors import projector_of
from snugly.model.spec import read_spec


async def asked(engine: Running, *images: Image) -> Usage:
    content: tuple[Part, ...] = (Text("What is this?"), *images)
    request = ChatRequest((Message("user", content),), temperature=0.0, max_tokens=4)
    deltas = [delta async for delta in engine.stream(request)]
    usage = deltas[-1].usage
    assert usage is not None
    return usage


async def test_a_picture_is_read_through_the_projector(smollm2: Path, tmp_path: Path) -> None:
    length = read_spec(str(smollm2)).embedding_length
    made = make_projector(tmp_path / "mmproj-made-up.gguf", length)
    assert projector_of(str(tmp_path / "model.gguf"), length) == str(made)
    engine = await ENGINE.start(replace(plan(smollm2, 2048), projector=str(made)))
    try:
        words = await asked(engine)
        seen = await asked(engine, Image(png(), "image/png"))
        assert seen.prompt_tokens >= words.prompt_tokens + EMBEDDINGS
        assert seen.completion_tokens > 0
        with pytest.raises(UserError):
            await asked(engine, Image(b"\x89PNG\r\n\x1a\n damaged", "image/png"))
        assert (await asked(engine)).prompt_tokens == words.prompt_tokens  # it is still there
    finally:
        await engine.stop()
