"""ggml's functions through ctypes, held against llama.cpp's own package and llama-quantize."""

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.golden.quantize.small_model import MATRICES, matrix_of, numbers, weights_of

from snugly.model.quant_facts import QuantFacts
from snugly.model.quant_mixtures import MAIN_TYPES
from snugly.model.quant_rules import quantized
from snugly.model.types import Tensor
from snugly.quantize.kernels import (
    MATRIX_TYPES,
    READABLE,
    WRITABLE,
    dequantize_rows,
    is_valid,
    library_version,
    quantize_rows,
)

GOLDEN = Path(__file__).parents[2] / "golden/quantize/golden.json.gz"
# Types whose tables take seconds to make, once per process: 2 s for IQ1, 1 s for IQ2.
SLOW = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"})
# What gguf 0.19 can quantize too, in numpy.
IN_NUMPY = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
FACTS = QuantFacts("llama", 1, 4, 2)


def golden() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return found


@cache
def digest(name: str, kind: str, with_matrix: bool) -> str:
    weights = weights_of(name)
    matrix = matrix_of(name) / np.float32(7) if with_matrix else None
    data = quantize_rows(np.atleast_2d(weights), kind, matrix).tobytes()
    return f"{kind} {hashlib.sha256(data).hexdigest()[:16]}"


def source() -> list[Tensor]:
    return [Tensor(name, (256, rows), "F32", 0, rows * 1024) for name, rows in MATRICES.items()]


@pytest.mark.parametrize("mixture", MAIN_TYPES)
def test_every_mixture_is_llama_quantizes_byte_for_byte(mixture: str, soak: bool) -> None:
    held = 0
    for name, hashes in golden().items():
        if name.removesuffix("+matrix") != mixture:
            continue
        with_matrix = name.endswith("+matrix")
        for tensor in quantized(source(), FACTS, mixture, imatrix=with_matrix):
            assert hashes[tensor.name].split()[0] == tensor.ggml_type
            if tensor.ggml_type in SLOW and not soak:
                continue
            weighed = with_matrix and tensor.name != "token_embd.weight"
            assert digest(tensor.name, tensor.ggml_type, weighed) == hashes[tensor.name], name
            held += 1
    assert held


@pytest.mark.parametrize("kind", IN_NUMPY)
def test_numpys_bytes_are_ours(kind: str) -> None:
    rows = numbers(16 * 512, 3).reshape(16, 512)
    theirs = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[kind])
    assert quantize_rows(rows, kind).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", sorted(READABLE - SLOW))
def test_decoding_is_that_of_ggufs_numpy(kind: str) -> None:
    if kind == "NVFP4":
        pytest.skip("it can be decoded, but nothing here writes it")
    rows = numbers(4 * 512, 5).reshape(4, 512)
    weighed = np.ones(512, dtype=np.float32) if kind in MATRIX_TYPES else None
    data = quantize_rows(rows, kind, weighed)
    ours = dequantize_rows(data, kind, 512)
    assert ours.shape == rows.shape
    try:
        shaped = data.reshape(4, -1)
        if kind in ("F32", "F16"):
            shaped = shaped.view(np.float32 if kind == "F32" else np.float16)
        theirs = gguf.quants.dequantize(shaped, gguf.GGMLQuantizationType[kind])
    except (NotImplementedError, KeyError):
        pytest.skip(f"gguf has no decoder of {kind}")
    # The same numbers, but for the order of two products in some types.
    np.testing.assert_allclose(ours, theirs.reshape(4, 512), rtol=2e-6, atol=1e-12)


def test_rows_of_a_piece_are_those_of_the_whole() -> None:
    rows = numbers(8 * 256, 9).reshape(8, 256)
    whole = quantize_rows(rows, "Q4_K").reshape(8, -1)
    assert np.array_equal(quantize_rows(rows[3:5], "Q4_K").reshape(2, -1), whole[3:5])


@pytest.mark.parametrize(
    ("kind", "length", "matrix"),
    [
        ("Q8_1", 256, None),  # ggml would end the process
        ("Q9_Z", 256, None),
        ("IQ2_XXS", 256, None),  # asserts a matrix
        ("Q4_K", 128, None),  # not whole blocks
        ("Q4_K", 256, np.ones(128, dtype=np.float32)),
        ("Q4_K", 256, np.ones(256, dtype=np.float64)),
    ],
)
def test_what_would_end_the_process_is_refused(
    kind: str, length: int, matrix: np.ndarray[tuple[int], np.dtype[np.float32]] | None
) -> None:
    with pytest.raises((ValueError, KeyError)):
        quantize_rows(np.zeros((2, length), dtype=np.float32), kind, matrix)


def test_weights_that_do_not_fit_are_refused() -> None:
    rows = np.full((1, 256), 1e30, dtype=np.float32)
    for kind in ("F16", "Q8_0", "Q4_K"):
        with pytest.raises(ValueError, match="does not fit"):
            quantize_rows(rows, kind)
    assert not is_valid(np.array([np.nan], dtype=np.float32).view(np.uint8), "F32")
    with pytest.raises(ValueError, match="cannot be read"):
        dequantize_rows(np.zeros(40, dtype=np.uint8), "Q8_1", 32)
    with pytest.raises(ValueError, match="whole rows"):
        dequantize_rows(np.zeros(40, dtype=np.uint8), "Q8_0", 32)


def test_every_type_of_a_mixture_can_be_written() -> None:
    assert set(MAIN_TYPES.values()) <= WRITABLE
    assert library_version().count(".") == 2
