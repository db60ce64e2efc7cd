"""What nearly every architecture shares: sizes and metadata out of common config keys. Pure.

Key names and order of preference: llama.cpp conversion/base.py, TextModel.set_gguf_parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snugly.model.config_fields import Config
from snugly.model.config_rows import Row, Shape, Sizes


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture: its tables of tensors, how its config is read, and its class's defaults.

    `defaults` are those of the transformers configuration class (5.x), for keys that a config
    may leave out; `model_types` are the configs that this family reads.
    """

    architecture: str
    model_types: tuple[str, ...]
    top: tuple[Row, ...]
    layer: tuple[Row, ...]
    read: Callable[[Config], Shape]
    defaults: dict[str, Any] = field(default_factory=dict)


# config keys -> metadata key, for values that a converter copies as they are
_COPIED_COUNTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("num_local_experts", "num_experts", "n_routed_experts"), ".expert_count"),
    (("num_experts_per_tok", "num_experts_per_token", "top_k_experts"), ".expert_used_count"),
    (("n_group",), ".expert_group_count"),
    (("topk_group",), ".expert_group_used_count"),
)
_COPIED_NUMBERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("rms_norm_eps", "norm_eps"), ".attention.layer_norm_rms_epsilon"),
    (("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"), ".attention.layer_norm_epsilon"),
)
_CONTEXT = ("max_position_embeddings", "n_ctx", "n_positions", "seq_length", "model_max_length")


def heads_of(config: Config) -> Sizes:
    """Sizes of plain grouped attention: heads, head length, widths of q, k, v and o."""
    embedding = config.positive("hidden_size", "n_embd")
    heads = config.positive("num_attention_heads", "n_head")
    kv_heads = config.positive(
        "num_key_value_heads", "n_head_kv", "multi_query_group_num", default=heads
    )
    if "num_key_value_heads" not in config.values and heads % kv_heads:
        kv_heads = heads  # a class default that cannot be: copies drop it when it equals heads
    head = config.positive("head_dim", "kv_channels", default=embedding // heads)
    return {
        "embd": embedding,
        "heads": heads,
        "kv_heads": kv_heads,
        "head": head,
        "q": heads * head,
        "k": kv_heads * head,
        "v": kv_heads * head,
        "o": heads * head,
    }


def base(config: Config) -> Shape:
    """A dense decoder with grouped attention, as most configs describe it."""
    sizes = heads_of(config)
    bias = int(config.flag("attention_bias"))
    sizes |= {
        "ff": config.count("intermediate_size", "ffn_hidden_size", "n_inner", default=0),
        "vocab": config.positive("vocab_size", "padded_vocab_size"),
        "tied": int(config.flag("tie_word_embeddings")),
        "qkv_bias": bias,
        "o_bias": bias,
        "mlp_bias": int(config.flag("mlp_bias")),
    }
    layers = config.layers()
    shape = Shape(sizes, [{} for _ in range(layers)], metadata_of(config, sizes, layers))
    if str(config.rope().get("rope_type", "")).lower() == "llama3":
        # Llama 3's scaling is written as a factor per pair of a head (generate_extra_tensors).
        sizes["rope_freqs"] = sizes["head"] // 2
    return shape


def metadata_of(config: Config, sizes: Sizes, layers: int) -> dict[str, Any]:
    """Metadata that a converter writes for every architecture."""
    metadata: dict[str, Any] = {
        ".block_count": layers,
        ".context_length": config.positive(*_CONTEXT, default=4096),
        ".embedding_length": sizes["embd"],
        ".feed_forward_length": sizes["ff"],
        ".attention.head_count": sizes["heads"],
    }
    if config.get("num_key_value_heads", "multi_query_group_num", "n_head_kv") is not None:
        metadata[".attention.head_count_kv"] = sizes["kv_heads"]
    if config.get("head_dim") is not None or sizes["head"] * sizes["heads"] != sizes["embd"]:
        metadata[".attention.key_length"] = sizes["head"]
        metadata[".attention.value_length"] = sizes["head"]
    for keys, name in _COPIED_COUNTS:
        if config.get(*keys) is not None:
            metadata[name] = config.count(*keys)
    for keys, name in _COPIED_NUMBERS:
        if (number := config.number(*keys)) is not None:
            metadata[name] = number
    metadata.update(_rope_metadata(config))
    return metadata


def _rope_metadata(config: Config) -> dict[str, Any]:
    rope = config.rope()
    metadata: dict[str, Any] = {}
    kind = str(rope.get("rope_type", ""))
    factor = rope.get("factor")
    if kind in ("linear", "yarn") and isinstance(factor, int | float):
        metadata[".rope.scaling.type"] = kind
        metadata[".rope.scaling.factor"] = float(factor)
    if kind in ("su", "longrope"):
        metadata[".rope.scaling.type"] = "longrope"
    original = rope.get("original_max_position_embeddings")
    if kind == "yarn" and isinstance(original, int):
        metadata[".rope.scaling.original_context_length"] = original
    if isinstance(rope.get("rope_theta"), int | float):
        metadata[".rope.freq_base"] = float(rope["rope_theta"])
    return metadata


def with_vocab(shape: Shape) -> Shape:
    """Add the vocabulary's size and the rotary width, as the Llama converter does."""
    shape.metadata[".vocab_size"] = shape.sizes["vocab"]
    shape.metadata[".rope.dimension_count"] = shape.sizes["head"]
    return shape
