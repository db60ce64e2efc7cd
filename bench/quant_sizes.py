"""Predicted beside published sizes of GGUF files, from shapes and the type's name alone.

    python bench/quant_sizes.py

Rows: tests/golden/quant/sizes.csv. The header is estimated from the vocabulary, as if no
file of the model were at hand; `tensors` rows hold no header. All of them follow older
llama.cpp's rule for fused query, key and value. An importance matrix is told from
the publisher's habit, marked +i: it decides whether Q4_0 has Q4_1 in its first layers.
"""

import csv
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.golden.quant.models import Made, plain

from snugly.model.ggml_types import row_bytes
from snugly.model.quant_facts import QuantFacts
from snugly.model.quant_rules import quantized
from snugly.model.quant_size import estimated_header_bytes, file_bytes, tensor_bytes
from snugly.model.types import Tensor

ROWS = Path(__file__).parents[1] / "tests/golden/quant/sizes.csv"
# Publishers who quantize everything with an importance matrix.
WITH_MATRIX = ("bartowski", "DeepSeek-R1-Distill", ".i1-", "Meta-Llama-3.1-8B-Instruct-Q8_0")


def _llama(width: int, layers: int, heads: int, kv: int, ff: int, vocab: int, **more: bool) -> Made:
    return plain("", width, layers, heads, kv, ff, vocab, tied=more.get("tied", False))


def _with(made: Made, *, rope: int = 0, vectors: int = 0) -> Made:
    """The same with vectors of `vectors` numbers in each layer, and long-context factors."""
    if rope:
        made.add("rope_freqs", rope)
    for layer in range(int(str(made.metadata["block_count"])) if vectors else 0):
        made.add(f"blk.{layer}.vectors", vectors)
    return made


def shapes() -> dict[str, tuple[Made, int]]:
    """Shape -> its tensors and merge rules. Source: config.json of each (data/models)."""
    gemma2 = plain("", 3584, 42, 16, 8, 14336, 256000, True, "gemma2", head=256)
    return {
        "llama-3.1-8b": (_with(_llama(4096, 32, 32, 8, 14336, 128256), rope=64), 280147),
        "llama-3-8b": (_llama(4096, 32, 32, 8, 14336, 128256), 280147),
        "llama-3.3-70b": (_with(_llama(8192, 80, 64, 8, 28672, 128256), rope=64), 280147),
        "llama-3.2-1b": (_with(_llama(2048, 16, 32, 8, 8192, 128256, tied=True), rope=32), 280147),
        "llama-3.2-3b": (_with(_llama(3072, 28, 24, 8, 8192, 128256, tied=True), rope=64), 280147),
        "llama-2-7b": (_llama(4096, 32, 32, 32, 11008, 32000), 0),
        "llama-2-7b-32003": (_llama(4096, 32, 32, 32, 11008, 32003), 0),
        "codellama-7b": (_llama(4096, 32, 32, 32, 11008, 32016), 0),
        "mistral-7b": (_llama(4096, 32, 32, 8, 14336, 32000), 0),
        "mistral-7b-32002": (_llama(4096, 32, 32, 8, 14336, 32002), 0),
        "mistral-7b-32032": (_llama(4096, 32, 32, 8, 14336, 32032), 0),
        # Biases of query, key and value.
        "qwen2-1.5b": (_with(plain("", 1536, 28, 12, 2, 8960, 151936, True, architecture="qwen2"),
                             vectors=2048), 151387),
        "qwen2.5-7b": (_with(plain("", 3584, 28, 28, 4, 18944, 152064, architecture="qwen2"),
                             vectors=4608), 151387),
        "qwen2.5-14b": (_with(plain("", 5120, 48, 40, 8, 13824, 152064, architecture="qwen2"),
                              vectors=7168), 151387),
        "qwen1.5-7b": (_with(plain("", 4096, 32, 32, 32, 11008, 151936, architecture="qwen2"),
                             vectors=12288), 151387),
        # Norms of query and key.
        "qwen3-32b": (_with(plain("", 5120, 64, 64, 8, 25600, 151936, head=128,
                                  architecture="qwen3"), vectors=256), 151387),
        # Two more norms than Llama.
        "gemma-2-9b": (_with(gemma2, vectors=2 * 3584), 0),
        "gemma-2b": (plain("", 2048, 18, 8, 1, 16384, 256128, True, "gemma", head=256), 0),
        "phi-3-mini": (_phi(plain("", 3072, 32, 32, 32, 8192, 32064, architecture="phi3",
                                  fused=True)), 0),
        "phi-2": (_phi(plain("", 2560, 32, 32, 32, 10240, 51200, architecture="phi2",
                             fused=True), 2560), 50000),
    }  # fmt: skip


def _phi(made: Made, biases: int = 0) -> Made:
    """Phi-3 has gate and up in one tensor, Phi-2 no gate, and biases everywhere."""
    tensors, made.tensors = made.tensors, []
    for name, shape, kind in tensors:
        wide = (shape[0], 2 * shape[1]) if name.endswith("ffn_up.weight") and not biases else shape
        if "ffn_gate" not in name and not (biases and "ffn_norm" in name):
            made.tensors.append((name, wide, kind))
    if biases:
        _with(made, vectors=biases * (1 + 3 + 1 + 4 + 1))
        made.tensors.append(("output.bias", (51200,), "F32"))
        made.tensors.append(("output_norm.bias", (biases,), "F32"))
    return made


def predict(row: dict[str, str], made: Made, merges: int) -> int:
    metadata = made.metadata
    facts = QuantFacts(
        made.architecture, *(int(str(metadata[key])) for key in
        ("block_count", "attention.head_count", "attention.head_count_kv")),
    )  # fmt: skip
    tensors = [
        Tensor(name, shape, kind, 0, row_bytes(kind, shape[0]) * (shape[1] if shape[1:] else 1))
        for name, shape, kind in made.tensors
    ]
    matrix = any(sign in row["file"] + row["source"] for sign in WITH_MATRIX)
    found = quantized(tensors, facts, row["quant"], imatrix=matrix, fused_as_values=False)
    if row["bytes_kind"].startswith("tensors"):
        return tensor_bytes(found)
    vocab = next(shape[1] for name, shape, _ in made.tensors if name == "token_embd.weight")
    return file_bytes(found, estimated_header_bytes(found, vocab, merges))


def main() -> None:
    known = shapes()
    errors: dict[str, list[float]] = {}
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        guess, actual = predict(row, *known[row["shape"]]), int(row["bytes"])
        error = guess / actual - 1
        errors.setdefault(row["bytes_kind"], []).append(abs(error))
        print(f"{row['file']:52} {row['quant']:8} {row['bytes_kind'][:18]:18}"
              f" {guess:>14,} / {actual:>14,} {100 * error:+8.4f}%")  # fmt: skip
    for kind, found in errors.items():
        print(f"{kind}: {len(found)} rows, median {100 * statistics.median(found):.4f}%,"
              f" worst {100 * max(found):.4f}%")  # fmt: skip


if __name__ == "__main__":
    main()
