"""What we compute beside what the engine computes, on random models."""

from pathlib import Path

import pytest
from tests.quantize_making import tiny

from snugly.errors import EngineError
from snugly.quantize import sensitivity_check
from snugly.quantize.reader import read_gguf
from snugly.quantize.sensitivity_check import check

TOKENS = [1, *range(40, 70)]


@pytest.mark.parametrize("layers", [1, 2])  # of two: the first alone, or the whole file
def test_the_engine_computes_the_same_and_nothing_stays(
    layers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(tmp_path / "m.gguf", "qwen2", tied=layers == 2)
    seen: list[int] = []
    difference = sensitivity_check._difference

    def watched(path: str, *rest: object) -> float:
        seen.append(Path(path).stat().st_size)
        return difference(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sensitivity_check, "_LAYERS", layers)
    monkeypatch.setattr(sensitivity_check, "_difference", watched)
    assert check(str(model), read_gguf(model), TOKENS, 1, tmp_path) < 1e-4
    assert len(seen) == 1
    assert (seen[0] < model.stat().st_size) == (layers == 1)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_what_differs_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(tmp_path / "m.gguf", "llama")
    other = read_gguf(tiny(tmp_path / "other.gguf", "llama", seed=1))
    monkeypatch.setattr(sensitivity_check, "_TRUSTED", 1e-3)
    with pytest.raises(EngineError, match="away from the engine"):
        check(str(model), other, TOKENS, 1, tmp_path)
