"""What a pass through a model costs, term by term: the features of the speed prediction. Pure.

Each term is a time at full data-sheet rate (bytes over bandwidth, operations over rate) or a
count in microseconds. A prediction is their sum, each times one coefficient of the fitted
table; `scripts/fit_speed.py` fits the coefficients on these same terms.
"""

from dataclasses import dataclass
from functools import cache

from snugly.model.ggml_types import TENSOR_TYPES
from snugly.model.types import Attention, AttentionKind, Build, Bytes, LayerWeights, Outline

# Terms of one token of an answer, and of a prompt. Of a prompt "low" and "grid" are what unpacking
# those types takes beyond "quant", in which their weights are counted too.
DECODE = (
    "dense", "experts", "float", "q8", "k", "low", "grid",
    "cache", "plain", "layer", "mixture", "hop",
)  # fmt: skip
PREFILL = (
    "float", "quant", "low", "grid", "flat", "experts", "read", "attention", "plain", "layer",
    "fill", "flow", "cache",
)  # fmt: skip

_REST = (0.0,) * (len(PREFILL) - 6)  # of which parts of a model know nothing
# A micro-batch costs as if some tokens more were in it: kernels compute in tiles, of which the
# last is not full, and few tokens leave matrix units idle. Of 128 the coefficient is a share.
FILL = 128
# Between matrices a token's activations are written and read: norms, rotations, sums, halves
# of the feed-forward, some 20 times the embedding's width in f32 per layer.
FLOW = 20 * 4
# Flash attention reads keys and values, f16 by then, once per tile of queries (ggml-cuda/fattn.cu,
# ggml-vulkan.cpp and ggml-cpu: 64 of them, less for wide heads). Query heads of one group do so
# together: where a tile holds them all it has fewer positions, and its neighbours run beside it.
TILE = 64
FAMILIES = ("float", "q8", "k", "low", "grid")
_BYTES_PER_WEIGHT = {name: size / count for name, count, size in TENSOR_TYPES.values()}
_FLOATS = ("F64", "F32", "F16", "BF16")
_EIGHTS = ("Q8_0", "Q8_1", "Q8_K", "I8")
# Blocks of 32 with one scale, which i8mm multiplies as they are (ggml-cpu/arch/arm/quants.c). Of
# the super-blocks only Q4_K and Q6_K have such kernels, and scales within that slow them.
_FLAT = ("Q4_0", "Q4_1", "Q8_0", "IQ4_NL")
_LOW = ("Q2_K", "Q3_K", "TQ", "Q1", "Q2_0")  # two or three bits, unpacked in several steps
_GRID = ("IQ1", "IQ2", "IQ3")  # looked up in tables


@dataclass(frozen=True, slots=True)
class Rates:
    """What one processor can do at most, per second: bytes, vector and matrix operations."""

    bandwidth: float
    vector: float  # 32-bit floating point, without matrix units
    matrix: float  # 16-bit floating point, with matrix units where there are any
    flat: float  # the same for types of flat blocks, which i8mm multiplies twice as fast


def bytes_per_weight(type_name: str) -> float:
    """Bytes of one weight, its share of its block's scales included."""
    return _BYTES_PER_WEIGHT[type_name]


@cache
def family(type_name: str) -> str:
    """Which of "float", "q8", "k", "low" and "grid" a tensor type costs like."""
    if type_name in _FLOATS:
        return "float"
    if type_name in _EIGHTS:
        return "q8"
    if type_name.startswith(_GRID):
        return "grid"
    return "low" if type_name.startswith(_LOW) else "k"


def weights_in(part: Bytes) -> dict[str, float]:
    """Number of weights by family; "bytes" is their bytes, "flat" how many lie in flat blocks."""
    found = {"float": 0.0, "q8": 0.0, "k": 0.0, "low": 0.0, "grid": 0.0, "bytes": 0.0, "flat": 0.0}
    for type_name, n_bytes in part:
        count = n_bytes / _BYTES_PER_WEIGHT[type_name]
        found[family(type_name)] += count
        found["bytes"] += n_bytes
        if type_name in _FLAT:
            found["flat"] += count
    return found


def decode_terms(part: Bytes, rates: Rates, share: float | None = None) -> tuple[float, ...]:
    """Terms of one token through `part`. `share`: of experts, the part that a token uses."""
    found = weights_in(part)
    used = 1.0 if share is None else share
    read = used * found["bytes"] / rates.bandwidth
    vector = [used * found[name] / rates.vector for name in FAMILIES]
    dense, experts = (read, 0.0) if share is None else (0.0, read)
    return (dense, experts, *vector, 0.0, 0.0, 0.0, 0.0, 0.0)


def prefill_terms(part: Bytes, rates: Rates, share: float | None = None) -> tuple[float, ...]:
    """Terms of one token of a prompt through `part`, but for reading it (see `read_term`)."""
    found = weights_in(part)
    if share is not None:
        count = share * sum(found[name] for name in FAMILIES)
        return (0.0, 0.0, 0.0, 0.0, 0.0, 2 * count / rates.matrix, *_REST)
    quant = sum(found[name] for name in FAMILIES if name != "float") - found["flat"]
    times = [2 * n / rates.matrix for n in (found["float"], quant, found["low"], found["grid"])]
    return (*times, 2 * found["flat"] / rates.flat, 0.0, *_REST)


def read_term(part: Bytes, rates: Rates) -> float:
    """Seconds in which the bytes of `part` cross the memory bus once."""
    return sum(n_bytes for _, n_bytes in part) / rates.bandwidth


def fill_term(part: Bytes, rates: Rates) -> float:
    """Seconds of FILL tokens more through `part`."""
    found = weights_in(part)
    return 2 * FILL * sum(found[name] for name in FAMILIES) / rates.matrix


def flow_term(embedding_length: int, rates: Rates) -> float:
    """Seconds in which a token's activations of one layer cross the memory bus."""
    return FLOW * embedding_length / rates.bandwidth


def cache_term(elements: float, rates: Rates) -> float:
    """Seconds in which a token of a prompt reads its share of `elements` of the cache."""
    return 2 * elements / TILE / rates.bandwidth


def overlap(batches: int, stages: int, together: int) -> float:
    """Seconds of a prompt on several GPUs, over those on one of as much memory.

    GPUs work side by side on the micro-batches of one batch, `together` of them; the next
    batch begins when the last is through (llama-context.cpp, decode).
    """
    groups = -(-batches // max(1, together))
    return (batches + groups * (stages - 1)) / (batches * stages)


def touched(share: float, tokens: int) -> float:
    """Of all experts, how many some token of a batch uses, were each drawn by chance."""
    return 1.0 - (1.0 - share) ** max(1, tokens)


def cache_row(layer: Attention) -> float:
    """Elements that attention reads per position it looks back on."""
    if layer.kind in (AttentionKind.RECURRENT, AttentionKind.NONE):
        return 0.0
    if layer.kind is AttentionKind.LATENT:
        row = float(layer.key_length)
    else:
        row = float(layer.kv_heads * (layer.key_length + layer.value_length))
    return row / layer.compression if layer.compression else row


def attention_ops(build: Build | Outline, layer: Attention) -> float:
    """Operations of attention per token and position looked back on: 2 for QK, 2 for AV."""
    if layer.kind in (AttentionKind.RECURRENT, AttentionKind.NONE):
        return 0.0
    width = layer.key_length + (layer.value_length or layer.key_length)
    return 2.0 * build.n_heads * width / (layer.compression or 1)


def experts_share(build: Build) -> float:
    """Of a mixture's routed experts, the part that a token uses."""
    return build.experts_used / build.experts if build.experts else 1.0


def is_mixture(layer: LayerWeights) -> bool:
    """Whether a layer has routed experts."""
    return bool(layer.experts)
