"""Architectures without experts: one table each. Pure.

Sources: llama.cpp conversion/*.py (what is written) and src/models/*.cpp (what is loaded);
class defaults: transformers 5.23 configuration classes.
"""

from typing import Any

from snugly.model.config_base import Family, base, with_vocab
from snugly.model.config_fields import Config
from snugly.model.config_rows import (
    ATTN_NORM,
    EMBEDDING,
    EXPERTS,
    FFN,
    FFN_NORM,
    POST_NORMS,
    QK_NORM,
    QKV,
    TOP,
    Shape,
    Sizes,
    rows,
)

_UNTIED = {"tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
_PLAIN = ATTN_NORM + QKV + FFN_NORM + FFN


def _llama(config: Config) -> Shape:
    shape = with_vocab(base(config))
    experts = config.get("num_local_experts", "num_experts")
    if experts and config.values["model_type"] != "mixtral":
        config.fail("num_local_experts", "This architecture has no experts")
    return shape


def _mixtral(config: Config) -> Shape:
    shape = _llama(config)
    experts = config.positive("num_local_experts", "num_experts")
    shape.sizes |= {"experts": experts, "ff_exp": shape.sizes["ff"], "ff": 0}
    return shape


def _qwen2(config: Config) -> Shape:
    shape = base(config)
    shape.sizes |= {"qkv_bias": 1, "o_bias": 0}  # transformers modeling_qwen2.py, Qwen2Attention
    return shape


def _qwen3vl(config: Config) -> Shape:
    shape = base(config)
    vision = config.part("vision_config").get("deepstack_visual_indexes")
    if isinstance(vision, list):
        shape.metadata[".n_deepstack_layers"] = len(vision)
    return shape


def _gemma(config: Config) -> Shape:
    shape = base(config)
    shape.metadata[".attention.key_length"] = shape.sizes["head"]
    shape.metadata[".attention.value_length"] = shape.sizes["head"]
    return shape


def _gemma2(config: Config) -> Shape:
    shape = _gemma(config)
    shape.metadata[".attention.sliding_window"] = config.count("sliding_window")
    return shape


def _gemma3(config: Config) -> Shape:
    shape = _gemma(config)
    if config.get("sliding_window_pattern") != 1:
        shape.metadata[".attention.sliding_window"] = config.count("sliding_window")
    image = config.get("image_token_index", "image_token_id")
    if isinstance(image, int) and image >= shape.sizes["vocab"]:
        # The published 4B, 12B and 27B have 262208 rows, the class default, and give 262144
        # here: too few for their own image token (shared/data/README.md).
        config.note(f"vocab_size {shape.sizes['vocab']} has no row for image token {image};"
                    " the class default 262208")  # fmt: skip
        shape.sizes["vocab"] = 262208
    return shape


def _phi3(config: Config) -> Shape:
    shape = base(config)
    sizes = shape.sizes
    sizes |= {"qkv": sizes["q"] + sizes["k"] + sizes["v"]}
    factors = config.rope().get("long_factor")
    sizes["rope_factors"] = len(factors) if isinstance(factors, list) else 0
    shape.metadata[".attention.sliding_window"] = config.count("sliding_window", default=0)
    original = config.get("original_max_position_embeddings")
    shape.metadata[".rope.scaling.original_context_length"] = (
        original if isinstance(original, int) else config.positive("max_position_embeddings")
    )
    rotary = config.rotary(1.0)
    shape.metadata[".rope.dimension_count"] = int(rotary * sizes["embd"]) // sizes["heads"]
    return shape


def _phi2(config: Config) -> Shape:
    shape = base(config)
    sizes = shape.sizes
    fused = config.values.get("model_type") == "phi-msft"  # its own code has Wqkv in one
    sizes["ff"] = sizes["ff"] or 4 * sizes["embd"]
    sizes |= {
        "qkv": sizes["q"] + sizes["k"] + sizes["v"] if fused else 0,
        "qkv_bias": 1, "o_bias": 1, "mlp_bias": 1, "tied": 0,
    }  # fmt: skip
    if fused:
        sizes |= {"apart": 0}
    shape.metadata[".feed_forward_length"] = sizes["ff"]
    shape.metadata[".attention.head_count_kv"] = sizes["kv_heads"]
    rotary = config.count("rotary_dim", default=0)
    shape.metadata[".rope.dimension_count"] = rotary or int(config.rotary(0.5) * sizes["head"])
    return shape


def _starcoder2(config: Config) -> Shape:
    shape = base(config)
    bias = int(config.flag("use_bias", default=True))
    shape.sizes |= {"qkv_bias": bias, "o_bias": bias, "mlp_bias": bias}
    return shape


def _olmo2(config: Config) -> Shape:
    shape = base(config)
    if config.get("sliding_window") is not None:  # OLMo 3
        n = config.layers()
        kinds = config.each("layer_types", n)
        shape.metadata[".attention.sliding_window"] = config.count("sliding_window")
        shape.metadata[".attention.sliding_window_pattern"] = [
            kind == "sliding_attention" for kind in kinds
        ] if kinds else [(layer + 1) % 4 != 0 for layer in range(n)]  # fmt: skip
    return shape


def _glm4(config: Config) -> Shape:
    shape = base(config)
    shape.sizes["o_bias"] = 0  # transformers modeling_glm4.py and modeling_glm.py
    shape.metadata[".rope.dimension_count"] = int(shape.sizes["head"] * config.rotary(0.5))
    return shape


def _cohere(config: Config) -> Shape:
    shape = base(config)
    shape.sizes["use_qk_norm"] = int(config.flag("use_qk_norm"))
    return shape


def _chatglm(config: Config) -> Shape:
    shape = base(config)
    sizes = shape.sizes
    bias = int(config.flag("add_bias_linear"))
    qkv_bias = int(config.flag("add_qkv_bias") or config.flag("add_bias_linear"))
    if not config.flag("multi_query_attention", default=True):
        sizes |= {"kv_heads": sizes["heads"], "k": sizes["q"], "v": sizes["q"]}
    sizes |= {"qkv": sizes["q"] + 2 * sizes["k"], "qkv_bias": qkv_bias, "o_bias": bias}
    sizes |= {"mlp_bias": bias}
    shape.metadata[".attention.head_count_kv"] = sizes["kv_heads"]
    shape.metadata[".rope.dimension_count"] = sizes["head"] // 2  # half of a head is rotated
    epsilon = config.number("layernorm_epsilon", default=1e-5)
    shape.metadata[".attention.layer_norm_rms_epsilon"] = epsilon
    shape.metadata[".rope.freq_base"] = 10000.0 * (config.number("rope_ratio", default=1.0) or 1.0)
    return shape


def _deci(config: Config) -> Shape:
    """Nemotron NAS: each layer has its own heads and width, or none (conversion/deci.py)."""
    blocks = config.each("block_configs", config.layers())
    if blocks is None:
        config.fail("block_configs", "It is missing, so no layer's shape is known")
    config.values["intermediate_size"] = 0
    shape = with_vocab(base(config))
    sizes = shape.sizes
    for layer, block in zip(shape.layers, blocks, strict=True):
        layer.update(_deci_layer(config, sizes, block))
    all_heads = [layer["attends"] for layer in shape.layers]
    kv_heads = [layer["kv_heads"] for layer in shape.layers]
    widths = [layer["ff"] for layer in shape.layers]
    shape.metadata |= {
        ".attention.head_count": all_heads, ".attention.head_count_kv": kv_heads,
        ".feed_forward_length": widths, ".attention.key_length": sizes["head"],
        ".attention.value_length": sizes["head"],
    }  # fmt: skip
    return shape


def _deci_layer(config: Config, sizes: Sizes, block: Any) -> Sizes:
    try:
        attention, network = block["attention"], block["ffn"]
        group, linear = attention["n_heads_in_group"], bool(attention["replace_with_linear"])
        kv = sizes["heads"] // group if group else 0
        wide = int(2 * (network["ffn_mult"] or 0.0) * sizes["embd"] / 3)
    except (TypeError, KeyError, ValueError, ZeroDivisionError, OverflowError):
        config.fail("block_configs", "One of its entries is not a layer's attention and ffn")
    return {
        "kv_heads": kv, "q": sizes["q"] if kv else 0, "k": kv * sizes["head"],
        "v": kv * sizes["head"], "ff": wide + -wide % 256,
        "linear": int(linear and not kv), "attends": sizes["heads"] if kv or linear else 0,
    }  # fmt: skip


_FUSED_UP = rows("""
    ffn_up.weight: embd 2*ff
    ffn_up.bias: 2*ff if mlp_bias
    ffn_down.weight: ff embd
    ffn_down.bias: embd if mlp_bias
""")
_FUSED_QKV = rows("""
    attn_qkv.weight: embd qkv
    attn_qkv.bias: qkv if qkv_bias
    attn_output.weight: o embd
    attn_output.bias: embd if o_bias
""")
_PLAIN_UP = rows("""
    ffn_up.weight: embd ff
    ffn_up.bias: ff if mlp_bias
    ffn_down.weight: ff embd
    ffn_down.bias: embd if mlp_bias
""")
_NORM_BIASES = rows("""
    attn_norm.bias: embd
    ffn_norm.bias: embd
""")
_WIDE_QK_NORM = rows("""
    attn_q_norm.weight: q
    attn_k_norm.weight: k
""")

DENSE: tuple[Family, ...] = (
    Family("llama", ("llama",), TOP, _PLAIN, _llama, _UNTIED),
    Family("llama", ("mistral",), TOP, _PLAIN, _llama, _UNTIED | {"num_key_value_heads": 8}),
    Family("llama", ("mixtral",), TOP, ATTN_NORM + QKV + FFN_NORM + EXPERTS, _mixtral,
           _UNTIED | {"num_local_experts": 8, "num_experts_per_tok": 2,
                      "num_key_value_heads": 8}),
    Family("granite", ("granite",), TOP, _PLAIN, lambda c: with_vocab(base(c)), _UNTIED),
    Family("smollm3", ("smollm3",), TOP, _PLAIN, lambda c: with_vocab(base(c)),
           _TIED | {"num_key_value_heads": 4}),
    Family("deci", ("nemotron-nas",), TOP,
           rows("attn_norm.weight: embd if attends") + QKV
           + rows("attn_output.weight: embd embd if linear")
           + rows("ffn_norm.weight: embd if ff") + FFN, _deci, _UNTIED),
    Family("qwen2", ("qwen2",), TOP, _PLAIN, _qwen2,
           _UNTIED | {"num_key_value_heads": 32}),
    Family("qwen3", ("qwen3",), TOP, ATTN_NORM + QKV + QK_NORM + FFN_NORM + FFN, base,
           _UNTIED | {"head_dim": 128, "num_key_value_heads": 32}),
    Family("qwen3vl", ("qwen3_vl", "qwen3_vl_text"), TOP,
           ATTN_NORM + QKV + QK_NORM + FFN_NORM + FFN, _qwen3vl,
           _UNTIED | {"head_dim": 128, "num_key_value_heads": 32}),
    Family("gemma", ("gemma",), TOP, _PLAIN, _gemma,
           _TIED | {"head_dim": 256, "num_key_value_heads": 16}),
    Family("gemma2", ("gemma2",), TOP, _PLAIN + POST_NORMS, _gemma2,
           _TIED | {"head_dim": 256, "num_key_value_heads": 4, "sliding_window": 4096}),
    Family("gemma3", ("gemma3", "gemma3_text"), TOP, _PLAIN + QK_NORM + POST_NORMS, _gemma3,
           _TIED | {"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
                    "sliding_window": 4096, "vocab_size": 262208, "hidden_size": 2304,
                    "intermediate_size": 9216, "num_hidden_layers": 26,
                    "max_position_embeddings": 131072}),
    Family("phi3", ("phi3", "phi3_v"), TOP,
           ATTN_NORM + _FUSED_QKV + FFN_NORM + _FUSED_UP, _phi3, _UNTIED),
    Family("phi2", ("phi", "phi-msft"),
           EMBEDDING + rows("""
               output_norm.weight: embd
               output_norm.bias: embd
               output.weight: embd vocab
               output.bias: vocab
           """),
           ATTN_NORM + rows("attn_norm.bias: embd") + rows("""
               attn_qkv.weight: embd qkv if qkv
               attn_qkv.bias: qkv if qkv
               attn_q.weight: embd q if !qkv
               attn_q.bias: q if !qkv
               attn_k.weight: embd k if !qkv
               attn_k.bias: k if !qkv
               attn_v.weight: embd v if !qkv
               attn_v.bias: v if !qkv
               attn_output.weight: o embd
               attn_output.bias: embd
           """) + _PLAIN_UP, _phi2, _UNTIED),
    Family("starcoder2", ("starcoder2",), TOP + rows("output_norm.bias: embd"),
           ATTN_NORM + QKV + FFN_NORM + _NORM_BIASES + _PLAIN_UP, _starcoder2,
           _TIED | {"num_key_value_heads": 2, "use_bias": True}),
    Family("olmo2", ("olmo2", "olmo3"), TOP, QKV + _WIDE_QK_NORM + POST_NORMS + FFN,
           _olmo2, _UNTIED),
    Family("command-r", ("cohere",), EMBEDDING + rows("output_norm.weight: embd"),
           ATTN_NORM + QKV + rows("""
               attn_q_norm.weight: head heads if use_qk_norm
               attn_k_norm.weight: head kv_heads if use_qk_norm
           """) + FFN, _cohere, _TIED),
    Family("chatglm", ("chatglm",), TOP, ATTN_NORM + _FUSED_QKV + FFN_NORM + _FUSED_UP,
           _chatglm, _UNTIED),
    Family("chatglm", ("glm",), TOP, ATTN_NORM + QKV + FFN_NORM + _FUSED_UP, _glm4,
           _UNTIED | {"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True}),
    Family("glm4", ("glm4",), TOP, ATTN_NORM + QKV + FFN_NORM + POST_NORMS + _FUSED_UP, _glm4,
           _UNTIED | {"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True}),
)  # fmt: skip
