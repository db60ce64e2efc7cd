"""How many bytes a run takes. First form: one sequence, f16 cache, one pool.

Exact: weights, repacked copy, KV cache and recurrent state of every kind of attention.
Fitted: compute buffer, overhead; the fit and its residuals are in docs/journal.md and are
printed by `bench/memory.py`.
"""

from collections import Counter
from dataclasses import replace

from snugly.model.ggml_types import row_bytes
from snugly.model.types import Attention, ModelSpec
from snugly.plan.types import EngineFacts, Estimate, PoolUse
from snugly.units import KiB, MiB

CELL_STEP = 256  # llama.cpp pads every cache to a multiple of this many cells
CACHE_TYPE = "F16"
# Source: llama.cpp common/arg.cpp, kv_cache_types.
CACHE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")
CHECKPOINTS = 3  # snapshots of the sliding caches that we let the engine keep
_ALLOWANCE = 4 * MiB  # allocator, threads, HTTP buffers: 2..5 MiB seen on four models


def cells(
    layer: Attention,
    context: int,
    ubatch: int,
    n_seq: int = 1,
    *,
    unified: bool = True,
    swa_full: bool = False,
) -> int:
    """Cache cells that one layer keeps for `n_seq` sequences with `context` tokens in all.

    Unified, the sequences share one cache; else each has its part of the context to
    itself. A layer with a window keeps it (for each sequence where they share) and one
    micro-batch, never more than the context, unless `swa_full`.
    Source: llama.cpp src/llama-context.cpp, src/llama-kv-cache-iswa.cpp.
    """
    whole = _padded(context)
    streams = 1 if unified else n_seq
    size = whole if unified else _padded(whole // n_seq)
    if layer.compression is not None:  # DeepSeek V4 never shares between sequences
        streams = n_seq
    if layer.window and not swa_full:
        sharing = n_seq if streams == 1 else 1
        return streams * _padded(min(size, layer.window * sharing + ubatch))
    return streams * size


def kv_bytes(
    spec: ModelSpec,
    context: int,
    ubatch: int,
    kv_type: str = CACHE_TYPE,
    v_type: str | None = None,
    n_seq: int = 1,
    *,
    unified: bool = True,
    swa_full: bool = False,
) -> int:
    """Bytes of all that a model remembers of `context` tokens: KV cache and recurrent state.

    K is kept in `kv_type`, V in `v_type` (or as K); states in f32. For `n_seq` sequences
    the context is shared (`unified`) or divided. Flash attention on; layers that only
    draft are not counted. Exact: `bench/kv_accuracy.py` prints it beside llama.cpp's own.

    Raises: ValueError for a type that the engine does not take, or one whose blocks do
    not divide the length of a head.
    Source: llama.cpp src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp.
    """
    types = (kv_type, v_type or kv_type)
    for kept in types:
        if kept not in CACHE_TYPES:
            raise ValueError(f"{kept!r} is no cache type; there are {', '.join(CACHE_TYPES)}")
    total = 0
    for layer, count in Counter(spec.layers).items():  # most layers are alike
        one = n_seq * layer.state_bytes
        if layer.cached and layer.kv_heads:
            size = cells(layer, context, ubatch, n_seq, unified=unified, swa_full=swa_full)
            one += size * _cell_bytes(layer, types)
        if layer.cached and (layer.index_key or layer.compression):
            size = cells(replace(layer, window=None), context, ubatch, n_seq, unified=unified)
            one += _second_bytes(layer, types, size, n_seq)
        total += count * one
    return total


def _padded(wanted: int) -> int:
    return -(-wanted // CELL_STEP) * CELL_STEP


def _cell_bytes(layer: Attention, types: tuple[str, str]) -> int:
    """Bytes of one cell. A head must be whole blocks, as llama_init_from_model demands."""
    return layer.kv_heads * (
        row_bytes(types[0], layer.key_length) + row_bytes(types[1], layer.value_length)
    )


def _second_bytes(layer: Attention, types: tuple[str, str], whole: int, n_seq: int) -> int:
    """Bytes of a layer's second cache; without a window the first would have `whole` cells."""
    row = row_bytes(types[0], layer.index_key) + row_bytes(types[1], layer.index_value)
    if not layer.compression:
        return whole * row
    row += layer.kv_heads * row_bytes(types[0], layer.key_length)
    return n_seq * _padded(-(-whole // n_seq // layer.compression)) * row


def repack_bytes(spec: ModelSpec, engine: EngineFacts) -> int:
    """Bytes of the second copy that the engine makes of matrices of some types.

    What is only looked up by row stays as it is: per-layer embeddings, and the token
    embedding unless it is the output head too (tied), which is multiplied.
    Source: llama.cpp ggml/src/ggml-cpu/repack.cpp, llama-model-loader.cpp (a duplicated
    token_embd is loaded as output).
    """
    looked_up = {"per_layer_token_embd.weight"}
    if not spec.tied_embeddings:
        looked_up.add("token_embd.weight")
    return sum(
        tensor.n_bytes
        for tensor in spec.tensors
        if tensor.ggml_type in engine.repacks
        and len(tensor.shape) > 1
        and tensor.name not in looked_up
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


def checkpoint_bytes(
    spec: ModelSpec, context: int, ubatch: int, kv_type: str = CACHE_TYPE, v_type: str | None = None
) -> int:
    """Bytes of the snapshots that the engine keeps to go back in a chat.

    A snapshot holds what cannot be cut: sliding caches and recurrent states.
    Source: llama.cpp tools/server (LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY).
    """
    types = (kv_type, v_type or kv_type)
    one = sum(layer.state_bytes for layer in spec.layers)
    one += sum(
        min(context, layer.window) * _cell_bytes(layer, types)
        for layer in spec.layers
        if layer.window and layer.cached
    )
    return CHECKPOINTS * one


def estimate(
    spec: ModelSpec, context: int, ubatch: int, engine: EngineFacts, repack: bool = True
) -> Estimate:
    """Peak resident bytes of running `spec` with one sequence of `context` tokens."""
    return Estimate(
        (
            PoolUse(
                "RAM",
                weights_bytes=spec.weight_bytes,
                repack_bytes=repack_bytes(spec, engine) if repack else 0,
                kv_bytes=kv_bytes(spec, context, ubatch) + checkpoint_bytes(spec, context, ubatch),
                compute_bytes=compute_bytes(spec, context, ubatch),
                overhead_bytes=overhead_bytes(spec, engine),
            ),
        )
    )
