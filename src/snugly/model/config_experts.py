"""Architectures with experts: one table each. Pure.

Sources: llama.cpp conversion/*.py (what is written) and src/models/*.cpp (what is loaded);
class defaults: transformers 5.23 configuration classes.
"""

from snugly.model.config_base import Family, base
from snugly.model.config_fields import Config
from snugly.model.config_rows import (
    ATTN_NORM,
    EXPERTS,
    FFN,
    FFN_NORM,
    LATENT,
    NEXTN,
    QK_NORM,
    QKV,
    SHARED_GATE,
    TOP,
    Shape,
    rows,
)

_UNTIED = {"tie_word_embeddings": False}


def experts_of(config: Config, shape: Shape, *width: str) -> Shape:
    """Add routed experts to all layers: count, width and the metadata of both."""
    sizes = shape.sizes
    sizes["experts"] = config.positive("num_local_experts", "num_experts", "n_routed_experts")
    sizes["ff_exp"] = config.positive(*(width or ("moe_intermediate_size",)))
    shape.metadata[".expert_feed_forward_length"] = sizes["ff_exp"]
    return shape


def dense_first(config: Config, shape: Shape, first: int) -> Shape:
    """The first layers have a dense network, the others experts."""
    for number, layer in enumerate(shape.layers):
        layer.update({"experts": 0} if number < first else {"ff": 0})
    shape.metadata[".leading_dense_block_count"] = first
    return shape


def _all_sparse(config: Config, shape: Shape) -> Shape:
    if config.get("mlp_only_layers") or config.count("decoder_sparse_step", default=1) != 1:
        config.fail(
            "mlp_only_layers", "llama.cpp loads this architecture with experts in all layers only"
        )
    shape.sizes["ff"] = 0
    return shape


def _qwen2moe(config: Config) -> Shape:
    shape = _all_sparse(config, experts_of(config, base(config)))
    shape.sizes |= {"qkv_bias": int(config.flag("qkv_bias", default=True)), "o_bias": 0}
    shape.sizes["ff_shared"] = config.count("shared_expert_intermediate_size")
    shape.metadata[".expert_shared_feed_forward_length"] = shape.sizes["ff_shared"]
    return shape


def _qwen3moe(config: Config) -> Shape:
    shape = _all_sparse(config, experts_of(config, base(config)))
    vision = config.part("vision_config").get("deepstack_visual_indexes")
    if isinstance(vision, list):
        shape.metadata[".n_deepstack_layers"] = len(vision)
    return shape


def _gpt_oss(config: Config) -> Shape:
    shape = experts_of(config, base(config), "intermediate_size")
    shape.sizes |= {"qkv_bias": 1, "o_bias": 1, "ff": 0}
    shape.metadata[".attention.sliding_window"] = config.count("sliding_window")
    if config.part("quantization_config").get("quant_method") == "mxfp4":
        shape.expert_type = "MXFP4"  # kept as the checkpoint has them (conversion/gpt_oss.py)
    return shape


def _deepseek(config: Config) -> Shape:
    shape = experts_of(config, base(config))
    shared = config.count("n_shared_experts", default=0)
    shape.sizes["ff_shared"] = shape.sizes["ff_exp"] * shared
    shape.metadata |= {
        ".expert_shared_count": shared, ".vocab_size": shape.sizes["vocab"],
        ".rope.dimension_count": shape.sizes["head"], ".expert_weights_scale": 1.0,
    }  # fmt: skip
    return dense_first(config, shape, config.count("first_k_dense_replace", default=0))


def _latent_sizes(config: Config, shape: Shape) -> None:
    sizes, heads = shape.sizes, shape.sizes["heads"]
    if "q_lora_rank" not in config.values:
        # The class default is 1536, but DeepSeek's own configs always write it, null for V2-Lite:
        # a copy without it is one that drops nulls.
        config.note("q_lora_rank is not in the config; taken as null, as in V2-Lite")
    nope, rope = config.positive("qk_nope_head_dim"), config.positive("qk_rope_head_dim")
    value, rank = config.positive("v_head_dim"), config.positive("kv_lora_rank")
    sizes |= {
        "q_rank": config.count("q_lora_rank", default=0), "nope": nope, "rank": rank,
        "value": value, "q": heads * (nope + rope), "o": heads * value, "kv_a": rank + rope,
    }  # fmt: skip
    shape.metadata |= {
        ".attention.head_count_kv": 1, ".attention.kv_lora_rank": rank,
        ".attention.key_length": rank + rope, ".attention.value_length": rank,
        ".attention.key_length_mla": nope + rope, ".attention.value_length_mla": value,
        ".rope.dimension_count": rope, ".vocab_size": sizes["vocab"],
    }  # fmt: skip
    if sizes["q_rank"]:
        shape.metadata[".attention.q_lora_rank"] = sizes["q_rank"]


def latent(config: Config) -> Shape:
    """Latent attention; V3's prediction layers are left out, as its converter does."""
    shape = base(config)
    _latent_sizes(config, shape)
    if config.get("n_routed_experts") is None:
        return shape
    experts_of(config, shape)
    shared = config.count("n_shared_experts", default=0)
    shape.sizes["ff_shared"] = shape.sizes["ff_exp"] * shared
    kind = config.values.get("model_type")
    corrected = config.get("topk_method") == "noaux_tc" or kind in ("deepseek_v3", "kimi_k2")
    shape.sizes["routing_bias"] = int(corrected)
    shape.metadata[".expert_shared_count"] = shared
    if (scale := config.number("routed_scaling_factor")) is not None:
        shape.metadata[".expert_weights_scale"] = scale
    if config.get("moe_layer_freq") not in (None, 1):
        config.fail("moe_layer_freq", "llama.cpp loads experts in every layer after the dense ones")
    return dense_first(config, shape, config.count("first_k_dense_replace", default=0))


def _llama4(config: Config) -> Shape:
    config.defaults.setdefault("num_local_experts", 16)
    width = config.positive("intermediate_size")
    shape = experts_of(config, base(config), "intermediate_size")
    dense = config.positive("intermediate_size_mlp")
    step = config.positive("interleave_moe_layer_step")
    shape.sizes |= {"ff": dense, "ff_shared": width}
    for number, layer in enumerate(shape.layers):
        layer.update({"ff": 0} if (number + 1) % step == 0 else {"experts": 0})
    shape.metadata |= {
        ".feed_forward_length": dense, ".interleave_moe_layer_step": step,
        ".vocab_size": shape.sizes["vocab"], ".rope.dimension_count": shape.sizes["head"],
    }  # fmt: skip
    return shape


def _glm4moe(config: Config) -> Shape:
    shape = experts_of(config, base(config))
    sizes = shape.sizes
    shared, extra = (
        config.count("n_shared_experts", default=0),
        config.count("num_nextn_predict_layers", default=0),
    )
    sizes |= {
        "ff_shared": sizes["ff_exp"] * shared, "routing_bias": 1, "o_bias": 0,
        "qk_norm": int(config.flag("use_qk_norm")),
        # The checkpoints carry both again in the prediction layer.
        "nextn_embeddings": 1, "nextn_head": 1,
    }  # fmt: skip
    shape.layers += [{"nextn": 1} for _ in range(extra)]
    dense_first(config, shape, config.count("first_k_dense_replace", default=0))
    shape.metadata |= {".block_count": len(shape.layers), ".expert_shared_count": shared}
    if extra:
        shape.metadata[".nextn_predict_layers"] = extra
    shape.metadata[".rope.dimension_count"] = int(sizes["head"] * config.rotary(0.5))
    return shape


def _minimax(config: Config) -> Shape:
    shape = experts_of(config, base(config), "intermediate_size")
    shape.sizes |= {"ff": 0, "routing_bias": 1}
    shape.metadata[".rope.dimension_count"] = config.count(
        "rotary_dim", default=shape.sizes["head"]
    )
    return shape


def _glm4_lite(config: Config) -> Shape:
    """GLM-4.7 Flash: DeepSeek's latent attention, and its prediction layer is kept."""
    shape = latent(config)
    shape.sizes |= {"routing_bias": 1, "nextn_embeddings": 1, "nextn_head": 1}
    extra = config.count("num_nextn_predict_layers", default=0)
    shape.layers += [{"nextn": 1} for _ in range(extra)]
    dense_first(config, shape, config.count("first_k_dense_replace", default=0))
    shape.metadata[".block_count"] = len(shape.layers)
    if extra:
        shape.metadata[".nextn_predict_layers"] = extra
    return shape


def _minimax_m3(config: Config) -> Shape:
    """Full attention beside an indexer that picks blocks (conversion/minimax.py)."""
    shape, n = experts_of(config, base(config), "intermediate_size"), config.layers()
    sparse, index = config.each("moe_layer_freq", n), config.part("sparse_attention_config")
    if sparse is None:
        config.fail("moe_layer_freq", "It is missing")
    shared, sizes = config.count("n_shared_experts"), shape.sizes
    heads, length = index.get("sparse_num_index_heads"), index.get("sparse_index_dim")
    if not isinstance(heads, int) or not isinstance(length, int) or min(heads, length) < 1:
        config.fail("sparse_attention_config", "It does not say what its index is like")
    sizes |= {
        "ff": config.positive("dense_intermediate_size"), "ff_shared": sizes["ff_exp"] * shared,
        "routing_bias": 1, "index": length, "index_q": heads * length,
    }  # fmt: skip
    dense_first(config, shape, next((k for k, routed in enumerate(sparse) if routed), n))
    if config.count("num_nextn_predict_layers", default=0):
        config.note("the prediction layers (MTP) are not counted: llama.cpp leaves them out")
    shape.metadata |= {
        ".feed_forward_length": sizes["ff"], ".expert_shared_count": shared,
        ".rope.dimension_count": config.count("rotary_dim", default=sizes["head"]),
        ".attention.indexer.head_count": heads, ".attention.indexer.key_length": length,
    }  # fmt: skip
    for key, name in _INDEXER_KEYS:
        if isinstance(value := index.get(key), int):
            shape.metadata[f".attention.indexer.{name}"] = value
    return shape


_GPT_OSS_EXPERTS = rows("""
    attn_sinks.weight: heads
    post_attention_norm.weight: embd
    ffn_gate_inp.bias: experts
    ffn_gate_exps.bias: ff_exp experts
    ffn_down_exps.bias: embd experts
    ffn_up_exps.bias: ff_exp experts
""")
_WIDE_QK_NORM = rows("""
    attn_q_norm.weight: q
    attn_k_norm.weight: k
""")
_INDEXER_KEYS = (
    ("sparse_topk_blocks", "top_k"), ("sparse_block_size", "block_size"),
    ("sparse_local_block", "local_blocks"),
)  # fmt: skip
_INDEXER = rows("""
    indexer.q_proj.weight: embd index_q if experts
    indexer.k_proj.weight: embd index if experts
    indexer.q_norm.weight: index if experts
    indexer.k_norm.weight: index if experts
""")
_QK_NORM_IF = rows("""
    attn_q_norm.weight: head if qk_norm
    attn_k_norm.weight: head if qk_norm
""")
_POST_NORM = rows("post_attention_norm.weight: embd")

SPARSE: tuple[Family, ...] = (
    Family("qwen2moe", ("qwen2_moe",), TOP, ATTN_NORM + QKV + FFN_NORM + EXPERTS + SHARED_GATE,
           _qwen2moe, _UNTIED | {"num_key_value_heads": 16}),
    Family("qwen3moe", ("qwen3_moe",), TOP, ATTN_NORM + QKV + QK_NORM + FFN_NORM + EXPERTS,
           _qwen3moe, _UNTIED | {"num_key_value_heads": 4}),
    Family("qwen3vlmoe", ("qwen3_vl_moe", "qwen3_vl_moe_text"), TOP,
           ATTN_NORM + QKV + QK_NORM + FFN_NORM + EXPERTS, _qwen3moe,
           _UNTIED | {"num_key_value_heads": 16}),
    Family("gpt-oss", ("gpt_oss",), TOP, ATTN_NORM + QKV + EXPERTS + _GPT_OSS_EXPERTS, _gpt_oss,
           _UNTIED | {"head_dim": 64, "num_key_value_heads": 8, "sliding_window": 128}),
    Family("deepseek", ("deepseek",), TOP, ATTN_NORM + QKV + FFN_NORM + FFN + EXPERTS, _deepseek,
           _UNTIED),
    Family("deepseek2", ("deepseek_v2",), TOP,
           ATTN_NORM + LATENT + FFN_NORM + FFN + EXPERTS, latent, _UNTIED),
    Family("deepseek2", ("deepseek_v3", "kimi_k2"), TOP,
           ATTN_NORM + LATENT + FFN_NORM + FFN + EXPERTS, latent,
           _UNTIED | {"first_k_dense_replace": 3}),
    Family("llama4", ("llama4", "llama4_text"), TOP, ATTN_NORM + QKV + FFN_NORM + FFN + EXPERTS,
           _llama4, _UNTIED | {"interleave_moe_layer_step": 1, "intermediate_size_mlp": 16384,
                               "head_dim": 128, "num_key_value_heads": 8}),
    Family("glm4moe", ("glm4_moe", "glm4v_moe_text"), TOP,
           ATTN_NORM + QKV + _QK_NORM_IF + _POST_NORM + FFN + EXPERTS + NEXTN, _glm4moe,
           _UNTIED | {"first_k_dense_replace": 1, "num_key_value_heads": 8}),
    Family("minimax-m2", ("minimax_m2",), TOP,
           ATTN_NORM + QKV + _WIDE_QK_NORM + FFN_NORM + EXPERTS, _minimax,
           _UNTIED | {"head_dim": 128, "num_key_value_heads": 8}),
    Family("deepseek2", ("glm4_moe_lite",), TOP,
           ATTN_NORM + LATENT + FFN_NORM + FFN + EXPERTS + NEXTN, _glm4_lite,
           _UNTIED | {"first_k_dense_replace": 1}),
    Family("minimax-m3", ("minimax_m3",), TOP,
           ATTN_NORM + QKV + QK_NORM + FFN_NORM + FFN + EXPERTS + _INDEXER, _minimax_m3, _UNTIED),
)  # fmt: skip
