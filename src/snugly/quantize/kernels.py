"""Quantizing and decoding by ggml itself, called by ctypes on rows of numpy arrays.

The library comes from the `libggml-python` wheel. It ends the whole process on an
argument it does not like (`GGML_ASSERT`), so every argument is checked here, and the
module is meant for worker processes (`quantize.jobs_worker`). Calls release the GIL:
threads of one process share its tables (IQ1 and IQ2 take seconds to make theirs).
"""

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snugly.errors import EngineError
from snugly.machine.int8 import library as engine_library
from snugly.model.ggml_types import TENSOR_TYPES, row_bytes

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}

# What `ggml_quantize_chunk` has a case for (ggml/src/ggml.c). NVFP4 is left out: llama-quantize
# has no mixture of it.
WRITABLE = frozenset({
    "F32", "F16", "BF16", "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0",
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
})  # fmt: skip

# Asserted by `ggml_quantize_requires_imatrix`, or garbage without one by
# `tensor_requires_imatrix` of llama.cpp src/llama-quant.cpp.
MATRIX_TYPES = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})

# Types that ggml 0.25 (llama-quantize of the bench) writes otherwise than 0.20.2, that of the
# newest libggml-python: its search is 4.5 times as fast, and 30 of 3 million bytes differ where
# two choices are equally good. `python bench/quantize_types.py` shows both. The others are the
# same in both, and faster where they are compiled for AVX2: Q8_0 by a quarter to a third, IQ3_XXS
# and IQ3_S by a tenth (IQ4_XS is slower by a third).
_NEWER = frozenset({"IQ1_M", "Q8_0", "IQ3_XXS", "IQ3_S"})

# type -> the function that decodes rows of it
_DECODERS = {
    name: f"dequantize_row_{name.lower() if name[-2:] != '_K' else name[:-1].lower() + 'K'}"
    for name in WRITABLE | {"NVFP4"}
    if name not in ("F32", "F16", "BF16")
}
READABLE = WRITABLE | frozenset(_DECODERS)


@lru_cache(maxsize=1)
def library() -> Any:
    """The loaded library.

    Raises: EngineError when the wheel is missing or holds no library for this system.
    """
    path = _library_path()
    if path is None:
        raise EngineError(
            "The library that quantizes is not installed.",
            "The package libggml-python is missing, or has no library for this system.",
            "Install it with `pip install libggml-python`.",
        )
    try:
        ggml = ctypes.CDLL(str(path))
        _declare(ggml)
    except (OSError, AttributeError) as error:
        raise EngineError(
            "The library that quantizes cannot be used.",
            f"{error} ({path}).",
            "Install it again with `pip install --force-reinstall libggml-python`.",
        ) from error
    # Fills the tables that decoding reads; the 16 bytes of memory it takes are never used.
    ggml.ggml_init(_InitParams(16, None, True))
    return ggml


@lru_cache(maxsize=1)
def newer_library() -> Any | None:
    """The engine's wheel, which carries a newer ggml; None where its symbols cannot be used.

    Not on Windows, where an extension shows nothing but its entry, and not on a processor
    without AVX2, for which the wheel is not built.
    """
    path = engine_library()
    try:
        if path is None or not _has_avx2(Path("/proc/cpuinfo").read_text()):
            return None
        ggml = ctypes.CDLL(str(path))
        _declare(ggml)
    except (OSError, AttributeError):
        return None
    ggml.ggml_init(_InitParams(16, None, True))
    return ggml


def library_for(to: str) -> Any:
    """The library that writes a type: the wheel's own but for `_NEWER`."""
    return (newer_library() if to in _NEWER else None) or library()


def _has_avx2(cpuinfo: str) -> bool:
    return " avx2 " in cpuinfo or "flags" not in cpuinfo  # other architectures have no flags line


def library_version() -> str:
    """The version of ggml, such as "0.20.2"."""
    version: bytes = library().ggml_version()
    return version.decode()


def quantize_rows(rows: Floats, to: str, matrix: Floats | None = None) -> Bytes:
    """`rows` [n, row length] in type `to`, as bytes; `matrix` weighs each column.

    Raises: ValueError for a type that cannot be written, rows that are not whole blocks,
    a type that needs a matrix without one, or a result that is not valid (weights that are
    not finite, or too large for the type).
    """
    count, length = rows.shape
    if to not in WRITABLE or (to in MATRIX_TYPES and matrix is None):
        raise ValueError(f"{to} cannot be written" + (" without a matrix" * (to in WRITABLE)))
    size = count * row_bytes(to, length)  # raises for rows that are not whole blocks
    if matrix is not None and (matrix.shape != (length,) or matrix.dtype != np.float32):
        raise ValueError(f"a matrix of {matrix.shape} does not belong to rows of {length}")
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    result = np.empty(size, dtype=np.uint8)
    weights = None if matrix is None else np.ascontiguousarray(matrix).ctypes.data
    ggml = library_for(to)
    ggml.ggml_quantize_chunk(
        _NUMBERS[to], rows.ctypes.data, result.ctypes.data, 0, count, length, weights
    )
    if not is_valid(result, to):
        raise ValueError(f"a weight does not fit {to}")
    return result


def is_valid(data: Bytes, kind: str) -> bool:
    """Whether no number or scale in whole rows of type `kind` is NaN or infinite."""
    known = kind in READABLE
    return not known or bool(
        library().ggml_validate_row_data(_NUMBERS[kind], data.ctypes.data, data.nbytes)
    )


def dequantize_rows(data: Bytes, kind: str, length: int) -> Floats:
    """Weights [n, length] of whole rows in type `kind`.

    Raises: ValueError for a type that cannot be read or bytes that are not whole rows.
    """
    if kind not in READABLE:
        raise ValueError(f"{kind} cannot be read")
    count, rest = divmod(data.nbytes, row_bytes(kind, length))
    if rest:
        raise ValueError(f"{data.nbytes} bytes are not whole rows of {length} {kind}")
    if kind == "F32":
        return data.view(np.float32).reshape(count, length)
    if kind == "F16":
        return data.view(np.float16).astype(np.float32).reshape(count, length)
    result = np.empty((count, length), dtype=np.float32)
    if kind == "BF16":
        np.left_shift(data.view(np.uint16), 16, out=result.view(np.uint32).reshape(-1),
                      dtype=np.uint32)  # fmt: skip
    else:
        decode = getattr(library(), _DECODERS[kind])
        decode(data.ctypes.data, result.ctypes.data, count * length)
    return result


class _InitParams(ctypes.Structure):
    """ggml_init_params of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _library_path() -> Path | None:
    found = importlib.util.find_spec("libggml")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations)))
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll", "libggml-base.dll")
    return next((path for name in names for path in sorted(folder.rglob(name))), None)


def _declare(ggml: Any) -> None:
    """Argument and result types, from ggml.h and ggml-quants.h."""
    pointer, size, whole = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    ggml.ggml_init.argtypes, ggml.ggml_init.restype = [_InitParams], pointer
    ggml.ggml_version.restype = ctypes.c_char_p
    ggml.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, pointer, pointer, whole, whole, whole, pointer,
    ]  # fmt: skip
    ggml.ggml_quantize_chunk.restype = size
    ggml.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, size]
    ggml.ggml_validate_row_data.restype = ctypes.c_bool
    for name in _DECODERS.values():
        decode = getattr(ggml, name)
        decode.argtypes, decode.restype = [pointer, pointer, whole], None
