"""How many bytes a run takes. First form: one sequence, f16 cache, one pool.

Exact: weights, repacked copy, KV cache. Fitted: compute buffer, overhead; the fit and
its residuals are in docs/journal.md and are printed by `bench/memory.py`.
"""

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, AttentionKind, ModelSpec
from snugly.plan.types import EngineFacts, Estimate
from snugly.units import KiB, MiB

CELL_STEP = 256  # llama.cpp pads every cache to a multiple of this many cells
CACHE_TYPE = "F16"
CHECKPOINTS = 3  # snapshots of the sliding caches that we let the engine keep
_ALLOWANCE = 4 * MiB  # allocator, threads, HTTP buffers: 2..5 MiB seen on four models


def cells(layer: Attention, context: int, ubatch: int) -> int:
    """Cache cells that one layer keeps for one sequence of `context` tokens.

    A sliding layer keeps its window and one micro-batch, never more than the context.
    Source: llama.cpp src/llama-kv-cache-iswa.cpp.
    """
    wanted = context
    if layer.kind is AttentionKind.SLIDING and layer.window:
        wanted = min(context, layer.window + ubatch)
    return -(-wanted // CELL_STEP) * CELL_STEP


def kv_bytes(spec: ModelSpec, context: int, ubatch: int) -> int:
    """Bytes of KV cache for one sequence of `context` tokens in f16.

    K and V are each [cells, kv_heads * length] per layer; a latent layer has K only.
    Recurrent layers count as nothing here: their state is small and fixed, and the
    full planner accounts for it.
    """
    total = 0
    for layer in spec.layers:
        per_cell = row_bytes(CACHE_TYPE, layer.kv_heads * layer.key_length)
        per_cell += row_bytes(CACHE_TYPE, layer.kv_heads * layer.value_length)
        total += cells(layer, context, ubatch) * per_cell
    return total


def repack_bytes(spec: ModelSpec, engine: EngineFacts) -> int:
    """Bytes of the second copy that the engine makes of matrices of some types.

    The token embedding is looked up by row, not multiplied, and stays as it is.
    Source: llama.cpp ggml/src/ggml-cpu/repack.cpp; exact on three measured models.
    """
    return sum(
        tensor.n_bytes
        for tensor in spec.tensors
        if tensor.ggml_type in engine.repacks
        and len(tensor.shape) > 1
        and tensor.name != "token_embd.weight"
    )


def compute_bytes(spec: ModelSpec, context: int, ubatch: int) -> int:
    """Bytes of the compute buffer for micro-batches of `ubatch` tokens, flash attention on.

    Per token: five rows of the embedding and three of the feed-forward width in f32,
    and one f16 mask row per kind of cache. Exact to 1% on four models; llama.cpp
    builds it from the graph, see `bench/memory.py` for how far this is off.
    """
    per_token = 4 * (5 * spec.embedding_length + 3 * spec.feed_forward_length)
    masks = {cells(layer, context, ubatch) for layer in spec.layers if layer.kv_heads}
    logits = 4 * spec.vocab_size
    return ubatch * (per_token + 2 * sum(masks)) + logits


def overhead_bytes(spec: ModelSpec, engine: EngineFacts) -> int:
    """Bytes of the engine itself: code, tokenizer, allowance.

    The tokenizer keeps about 0.21 KiB per token and 0.19 KiB per merge in hash tables.
    """
    tokenizer = 0.2125 * KiB * spec.vocab_size + 0.19 * KiB * spec.n_merges
    header = spec.file_bytes - spec.weight_bytes  # mapped, and read once, with the rest
    return engine.code_bytes + round(tokenizer) + header + _ALLOWANCE


def checkpoint_bytes(spec: ModelSpec, context: int, ubatch: int) -> int:
    """Bytes of the snapshots that the engine keeps of sliding caches, to go back in a chat."""
    sliding = [layer for layer in spec.layers if layer.kind is AttentionKind.SLIDING]
    if not sliding:
        return 0
    one = sum(
        min(context, layer.window or context)
        * row_bytes(CACHE_TYPE, layer.kv_heads * (layer.key_length + layer.value_length))
        for layer in sliding
    )
    return CHECKPOINTS * one


def estimate(
    spec: ModelSpec, context: int, ubatch: int, engine: EngineFacts, repack: bool = True
) -> Estimate:
    """Peak resident bytes of running `spec` with one sequence of `context` tokens."""
    return Estimate(
        weights_bytes=spec.weight_bytes,
        repack_bytes=repack_bytes(spec, engine) if repack else 0,
        kv_bytes=kv_bytes(spec, context, ubatch) + checkpoint_bytes(spec, context, ubatch),
        compute_bytes=compute_bytes(spec, context, ubatch),
        overhead_bytes=overhead_bytes(spec, engine),
    )
