"""Models that see: their second file, its bytes, and who is told that a model is blind."""

import base64
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.making import gguf_bytes, plan, text_pair, u32_pair
from tests.server.making import served

from snugly.engine.address import Address
from snugly.engine.llama_cpp import worker_config
from snugly.engine.native import arguments
from snugly.model.projectors import projector_of
from snugly.plan.memory import PROJECTOR_ROOM
from snugly.plan.seeing import seeing
from snugly.units import MiB

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 20).decode()


def bool_pair(key: str, value: bool) -> bytes:
    name = key.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<I?", 7, value)


def projector_file(path: Path, length: int, sees: bool = True) -> None:
    pairs = (
        text_pair("general.architecture", "clip"),
        bool_pair("clip.has_vision_encoder", sees),
        u32_pair("clip.vision.projection_dim", length),
    )
    path.write_bytes(gguf_bytes(pairs))


def test_the_projector_that_fits_is_found_and_f16_comes_first(tmp_path: Path) -> None:
    model = str(tmp_path / "model.gguf")
    assert projector_of(model, 64) == ""
    projector_file(tmp_path / "mmproj-other-F16.gguf", 128)
    projector_file(tmp_path / "mmproj-hears-F16.gguf", 64, sees=False)
    (tmp_path / "mmproj-damaged.gguf").write_bytes(b"GGUF")
    assert projector_of(model, 64) == ""
    projector_file(tmp_path / "mmproj-BF16.gguf", 64)
    projector_file(tmp_path / "mmproj-F32.gguf", 64)
    assert projector_of(model, 64).endswith("mmproj-BF16.gguf")
    projector_file(tmp_path / "mmproj-F16.gguf", 64)
    assert projector_of(model, 64).endswith("mmproj-F16.gguf")


def test_its_bytes_are_counted_and_without_room_it_stays_away() -> None:
    blind = plan()
    sees = seeing(blind, "/m/mmproj.gguf", 10 * MiB)
    assert sees.projector == "/m/mmproj.gguf"
    more = sees.estimate.total_bytes - blind.estimate.total_bytes
    assert more == 10 * MiB + PROJECTOR_ROOM
    large = seeing(blind, "/m/mmproj.gguf", blind.pools[0].free_bytes)
    assert large.projector == ""
    assert "no room for its projector" in large.why[-1]


def test_both_launches_pass_it() -> None:
    sees = seeing(plan(), "/m/mmproj.gguf", MiB)
    assert worker_config(sees, Address("/s", 0, ""))["projector"] == "/m/mmproj.gguf"
    words = arguments(sees, Address("/s", 0, ""))
    assert words[words.index("--mmproj") + 1] == "/m/mmproj.gguf"
    assert "--no-mmproj-offload" in words  # no layer is on a GPU
    assert "--mmproj" not in arguments(plan(), Address("/s", 0, ""))


def picture_requests() -> list[tuple[str, dict[str, Any]]]:
    """The same picture in each dialect."""
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    url = f"data:image/png;base64,{PNG}"
    openai = [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": url}}]
    anthropic = [{"type": "text", "text": "what"}, {"type": "image", "source": source}]
    shown = [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
    return [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": openai}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": anthropic}], "max_tokens": 9}),
        ("/v1/responses", {"input": shown}),
        ("/api/chat", {"messages": [{"role": "user", "content": "what", "images": [PNG]}]}),
        ("/api/generate", {"prompt": "what", "images": [PNG]}),
    ]


@pytest.mark.parametrize(("path", "body"), picture_requests())
async def test_a_blind_model_says_so_and_is_not_loaded_for_it(
    path: str, body: dict[str, Any]
) -> None:
    async with served() as it:
        answer = await it.client.post(path, json={"model": "tiny", "stream": False, **body})
        assert answer.status_code == 400, answer.text
        assert "tiny cannot see pictures" in answer.text
        assert it.service.pool.residents() == ()


async def test_a_model_with_its_projector_gets_the_picture_in_every_dialect() -> None:
    async with served("--show-pictures") as it:
        folder = it.service.config.store / "test" / "tiny"
        volume = await it.service.volume("tiny")
        projector_file(folder / "mmproj-F16.gguf", volume.spec.embedding_length)
        it.service.shelf.forget()
        for path, body in picture_requests():
            answer = await it.client.post(path, json={"model": "tiny", "stream": False, **body})
            assert answer.status_code == 200, answer.text
            assert f"image/png {len(PNG)}" in answer.text, path
        assert it.service.pool.residents()[0].plan.projector.endswith("mmproj-F16.gguf")
        shown = await it.client.post("/api/show", json={"model": "tiny"})
        assert "vision" in shown.json()["capabilities"]


async def test_without_memory_for_the_projector_pictures_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("snugly.plan.seeing.PROJECTOR_ROOM", 1 << 50)
    async with served() as it:
        folder = it.service.config.store / "test" / "tiny"
        volume = await it.service.volume("tiny")
        projector_file(folder / "mmproj-F16.gguf", volume.spec.embedding_length)
        it.service.shelf.forget()
        path, body = picture_requests()[0]
        answer = await it.client.post(path, json={"model": "tiny", **body})
        assert answer.status_code == 507
        assert "no memory for both" in answer.text
