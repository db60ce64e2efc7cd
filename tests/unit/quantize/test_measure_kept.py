"""Whose measured loss is kept for the planner."""

from pathlib import Path
from typing import Any

import pytest
from tests.making import LLAMA_PAIRS, gguf_bytes, text_pair, u32_pair

from snugly.history.losses import known_loss
from snugly.quantize.measure_kept import keep
from snugly.quantize.measure_loss import Figure, Loss


def file(path: Path, file_type: int, name: str = "Tiny", length: int = 64) -> str:
    changed = {
        "general.name": text_pair("general.name", name),
        "general.file_type": u32_pair("general.file_type", file_type),
        "llama.feed_forward_length": u32_pair("llama.feed_forward_length", 2 * length),
    }
    kept = [pair for pair in LLAMA_PAIRS if not any(key.encode() in pair for key in changed)]
    path.write_bytes(gguf_bytes((*kept, *changed.values())))
    return str(path)


def loss() -> Loss:
    some = Figure(0.5, 0.01)
    return Loss(1, 100, some, some, some, 1.0, some, some, some, some, some, some, (), (0.5,))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, True), ({"name": "Tiny Tuned"}, False), ({"length": 128}, False)],
    ids=["same", "tuned", "larger"],
)
def test_a_loss_counts_against_the_same_model_only(
    tmp_path: Path, changes: dict[str, Any], kept: bool
) -> None:
    base = file(tmp_path / "base.gguf", 1, **changes)
    other = file(tmp_path / "other.gguf", 15)
    assert keep(base, other, loss(), "a text") is kept
    known = known_loss("Tiny", "Q4_K_M", Path(other).stat().st_size)
    assert (known is not None) is kept


def test_a_loss_against_what_is_quantized_itself_is_not_kept(tmp_path: Path) -> None:
    base, other = file(tmp_path / "base.gguf", 7), file(tmp_path / "other.gguf", 15)
    assert not keep(base, other, loss(), "a text")
