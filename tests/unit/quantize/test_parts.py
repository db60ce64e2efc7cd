"""What is done in parts or by threads is what is done at once."""

from pathlib import Path

import numpy as np
import pytest
from tests.quantize_making import tiny

from snugly.quantize import sensitivity_parts, sensitivity_weights
from snugly.quantize.reader import read_gguf
from snugly.quantize.sensitivity_parts import gelu, silu
from snugly.quantize.sensitivity_weights import Weights


def test_curves_in_parts_are_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(-9, 9, 3 * 77, dtype=np.float32).reshape(3, 77)
    whole = silu(x), gelu(x)
    monkeypatch.setattr(sensitivity_parts, "_PART", 50)
    for found, expected in zip((silu(x), gelu(x)), whole, strict=True):
        for part, once in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, once, rtol=1e-6, atol=1e-7)
    left, right = np.split(np.concatenate([x, x], axis=-1), 2, axis=-1)  # not in one piece
    np.testing.assert_array_equal(silu(left)[0], silu(right)[0])
    np.testing.assert_allclose(silu(x)[0], x / (1 + np.exp(-x.astype(float))), rtol=1e-5)


def test_threads_decode_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_gguf(tiny(tmp_path / "m.gguf", "llama"))
    monkeypatch.setattr(sensitivity_weights, "_MANY", 1)
    monkeypatch.setattr(sensitivity_weights, "_PIECE", 100)
    for item in source.tensors:
        name = item.tensor.name
        np.testing.assert_array_equal(Weights(source, 3).matrix(name), Weights(source).matrix(name))
    rows = Weights(source, 2).rows("token_embd.weight", 3, 5)
    np.testing.assert_array_equal(rows, Weights(source).matrix("token_embd.weight")[3:8])
