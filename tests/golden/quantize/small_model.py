"""A model of 0.4 million weights that is the same wherever it is made: no random numbers."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Tensor
from snugly.quantize import writer

WIDTH, HEADS, KV_HEADS, INNER, WORDS = 256, 4, 2, 256, 32

# name -> rows of WIDTH weights
MATRICES = {
    "token_embd.weight": WORDS,
    "output.weight": WORDS,
    "blk.0.attn_q.weight": WIDTH,
    "blk.0.attn_k.weight": WIDTH // HEADS * KV_HEADS,
    "blk.0.attn_v.weight": WIDTH // HEADS * KV_HEADS,
    "blk.0.attn_output.weight": WIDTH,
    "blk.0.ffn_gate.weight": INNER,
    "blk.0.ffn_up.weight": INNER,
    "blk.0.ffn_down.weight": WIDTH,
}
VECTORS = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")


def numbers(count: int, seed: int) -> NDArray[np.float32]:
    """Numbers between -1 and 1, most of them small: cubes of a multiplicative sequence."""
    places = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003)
    places = (places * np.uint64(2_654_435_761)) & np.uint64(0xFFFFFFFF)  # Knuth's multiplier
    places = (places ^ (places >> np.uint64(15))) * np.uint64(2_246_822_519)
    between = (places & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**31 - 1.0
    return np.asarray(between * between * between, dtype=np.float32)


def weights_of(name: str) -> NDArray[np.float32]:
    """The weights of one tensor."""
    names = [*MATRICES, *VECTORS]
    if name in MATRICES:
        return numbers(MATRICES[name] * WIDTH, names.index(name)).reshape(-1, WIDTH)
    return np.float32(1) + numbers(WIDTH, names.index(name)) / np.float32(4)


def pairs() -> dict[str, bytes]:
    """Metadata that llama-quantize asks for."""
    words = [f"w{n}" for n in range(WORDS)]
    counts = {
        "block_count": 1, "context_length": 128, "embedding_length": WIDTH,
        "feed_forward_length": INNER, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "vocab_size": WORDS,
    }  # fmt: skip
    return {
        "general.architecture": writer.pair("STRING", "llama"),
        "general.name": writer.pair("STRING", "small"),
        **{f"llama.{key}": writer.pair("UINT32", value) for key, value in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": writer.pair("FLOAT32", 1e-5),
        "tokenizer.ggml.model": writer.pair("STRING", "llama"),
        "tokenizer.ggml.tokens": writer.pair("STRING", words),
        "tokenizer.ggml.scores": writer.pair("FLOAT32", [0.0] * WORDS),
        "tokenizer.ggml.token_type": writer.pair("INT32", [1] * WORDS),
        "general.file_type": writer.pair("UINT32", 0),
    }


def write_model(path: Path, kind: str = "F32", names: tuple[str, ...] = ()) -> Path:
    """The model, or some of its tensors, as a GGUF in F32 or F16."""
    tensors, pieces, offset = [], [], 0
    for name in names or (*MATRICES, *VECTORS):
        weights = weights_of(name)
        used = kind if name in MATRICES else "F32"
        data = weights.astype("<f2" if used == "F16" else "<f4").tobytes()
        shape = tuple(reversed(weights.shape))
        assert len(data) == row_bytes(used, shape[0]) * (weights.size // shape[0])
        tensors.append(Tensor(name, shape, used, offset, len(data)))
        pieces.append(data + bytes(-len(data) % 32))
        offset += len(pieces[-1])
    path.write_bytes(writer.header(pairs(), tensors) + b"".join(pieces))
    return path


def matrix_of(name: str) -> NDArray[np.float32]:
    """Column weights for one matrix, as sums over 7 calls."""
    return np.abs(numbers(WIDTH, len(name))) * 40 + np.float32(0.5)


def write_legacy_matrix(path: Path) -> Path:
    """An importance matrix in llama-imatrix's older format."""
    names = [name for name in MATRICES if name != "token_embd.weight"]
    out = struct.pack("<i", len(names))
    for name in names:
        values = matrix_of(name).astype("<f4")
        out += struct.pack("<i", len(name)) + name.encode()
        out += struct.pack("<ii", 7, len(values)) + values.tobytes()
    path.write_bytes(out + struct.pack("<ii", 7, 4) + b"text")
    return path


def write_matrix(path: Path) -> Path:
    """The same in the GGUF format."""
    tensors, pieces, offset = [], [], 0
    for name in (name for name in MATRICES if name != "token_embd.weight"):
        for suffix, values in (
            (".in_sum2", matrix_of(name)),
            (".counts", np.array([7], dtype=np.float32)),
        ):
            data = values.astype("<f4").tobytes()
            tensors.append(Tensor(name + suffix, (len(values),), "F32", offset, len(data)))
            pieces.append(data + bytes(-len(data) % 32))
            offset += len(pieces[-1])
    stated = {
        "general.type": writer.pair("STRING", "imatrix"),
        "imatrix.datasets": writer.pair("STRING", ["text"]),
        "imatrix.chunk_count": writer.pair("UINT32", 7),
        "imatrix.chunk_size": writer.pair("UINT32", 512),
    }
    path.write_bytes(writer.header(stated, tensors) + b"".join(pieces))
    return path
