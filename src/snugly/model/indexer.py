"""Second caches: the keys of a sparse attention's indexer, and DeepSeek V4's compressed ones.

Source: llama.cpp src/llama-kv-cache-dsa.cpp, -msa.cpp, -dsv4.cpp, src/llama-memory-hybrid-idx.cpp
and `create_memory` in src/llama-model.cpp.
"""

from dataclasses import replace

from snugly.model.fields import Fields
from snugly.model.types import Attention, AttentionKind

_GLM_5_2_CONTEXT = 1 << 20  # src/models/glm-dsa.cpp: from here on only some layers index
_V4_INDEXED, _V4_COARSE = 4, 128  # DSV4_CSA_RATIO, DSV4_HCA_RATIO
_F32 = 4


def second_caches(fields: Fields, n_layers: int, n_trunk: int, value: int) -> list[tuple[int, int]]:
    """Key and value elements that each layer's indexer keeps per cell; (0, 0) for none."""
    key = fields.own("attention.indexer.key_length", 0)
    if fields.architecture == "minimax-m3":  # its indexer's cache has values too, never used
        dense = fields.own("leading_dense_block_count", 0)
        return [(key, value) if layer >= dense else (0, 0) for layer in range(n_layers)]
    if fields.architecture == "glm5-next" and fields.own("attention.indexer.kpool", 0):
        key *= 3  # key, gate and pooled values
    if fields.architecture == "hy_v4" and fields.own("attention.indexer.top_k", 0) == 0:
        key = 0
    indexes = _indexes(fields, n_trunk)
    return [(key if layer < n_trunk and indexes[layer] else 0, 0) for layer in range(n_layers)]


def _indexes(fields: Fields, n_trunk: int) -> list[bool]:
    """Which layers have an indexer of their own; the others use that of an earlier one."""
    key = f"{fields.architecture}.attention.indexer.types"
    if fields.architecture in ("deepseek32", "qwen4exp"):
        return [True] * n_trunk
    if key in fields.header.metadata or key in fields.header.lengths:
        return [bool(v) for v in fields.per_layer("attention.indexer.types", n_trunk, 1)]
    if fields.architecture == "glm-dsa" and fields.own("context_length", 0) >= _GLM_5_2_CONTEXT:
        return [layer < 2 or layer % 4 == 2 for layer in range(n_trunk)]
    return [True] * n_trunk


def compressed(fields: Fields, layers: tuple[Attention, ...]) -> tuple[Attention, ...]:
    """DeepSeek V4: a window in full, the past compressed 4 or 128 to 1, and their states."""
    if fields.architecture != "deepseek4":
        return layers
    ratios = fields.per_layer("attention.compress_ratios", len(layers), 0)
    index = fields.own("attention.indexer.key_length")
    window = fields.own("attention.sliding_window")
    return tuple(
        _compressed(layer, ratio, index, window)
        for layer, ratio in zip(layers, ratios, strict=True)
    )


def _compressed(layer: Attention, ratio: int, index: int, window: int) -> Attention:
    state = 0  # both a key and a score per row of the compressor
    if ratio == _V4_INDEXED:
        state = 2 * _F32 * 2 * ratio * 2 * (layer.key_length + index)
    elif ratio == _V4_COARSE:
        state = 2 * _F32 * ratio * layer.key_length
    return replace(
        layer,
        kind=AttentionKind.LATENT,
        value_length=0,
        window=window,
        state_bytes=state,
        index_key=index if ratio == _V4_INDEXED else 0,
        compression=ratio,
    )
