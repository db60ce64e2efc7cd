"""Architectures whose layers attend in different ways: Qwen's gated delta net, Gemma 4, MiMo. Pure.

Sources: llama.cpp conversion/*.py (what is written) and src/models/*.cpp (what is loaded);
class defaults: transformers 5.23 configuration classes.
"""

from snugly.model.config_base import Family, base, metadata_of
from snugly.model.config_experts import experts_of
from snugly.model.config_fields import Config
from snugly.model.config_rows import (
    ATTN_NORM,
    EXPERTS,
    FFN,
    FFN_NORM,
    NEXTN,
    POST_NORMS,
    QK_NORM,
    QKV,
    SHARED_GATE,
    TOP,
    Row,
    Shape,
    rows,
)
from snugly.model.config_states import NO_ATTENTION


def _linear_sizes(config: Config, shape: Shape) -> None:
    """Sizes of Qwen's gated delta net (conversion/qwen.py, Qwen3NextModel)."""
    keys, values = (
        config.positive("linear_num_key_heads"),
        config.positive("linear_num_value_heads"),
    )
    key, value = config.positive("linear_key_head_dim"), config.positive("linear_value_head_dim")
    shape.sizes |= {
        "taps": config.positive("linear_conv_kernel_dim"), "v_heads": values, "value": value,
        "inner": values * value, "mixed": 2 * keys * key + values * value,
    }  # fmt: skip
    shape.metadata |= {
        ".ssm.conv_kernel": shape.sizes["taps"], ".ssm.state_size": key,
        ".ssm.group_count": keys, ".ssm.time_step_rank": values,
        ".ssm.inner_size": shape.sizes["inner"],
    }  # fmt: skip


def _qwen_next(config: Config) -> Shape:
    shape, n = base(config), config.layers()
    shape.sizes |= {"o_bias": 0, "qkv_bias": 0}
    shape.sizes["q_gated"] = 2 * shape.sizes["q"]  # the output gate comes with the query
    _linear_sizes(config, shape)
    period = config.positive("full_attention_interval", default=4)
    kinds = config.each("layer_types", n)
    attends = [
        kinds[layer] == "full_attention" if kinds else (layer + 1) % period == 0
        for layer in range(n)
    ]
    for layer, has in zip(shape.layers, attends, strict=True):
        layer.update({"state": 0} if has else {**NO_ATTENTION, "q_gated": 0, "state": 1})
    if config.get("num_experts"):
        experts_of(config, shape)
        shape.sizes |= {"ff": 0, "ff_shared": config.count("shared_expert_intermediate_size")}
        shape.metadata[".expert_shared_feed_forward_length"] = shape.sizes["ff_shared"]
    extra = config.count("mtp_num_hidden_layers", default=0)
    if config.values.get("model_type", "").startswith("qwen3_next"):
        config.note("prediction layers (MTP) are not in the config; none are counted")
    own = int(config.flag("mtp_use_dedicated_embeddings"))
    shape.layers += [{"nextn": 1, "nextn_embeddings": own} for _ in range(extra)]
    shape.metadata |= {
        ".block_count": len(shape.layers), ".full_attention_interval": period,
        ".attention.recurrent_layers": [not has for has in attends] + [False] * extra,
    }  # fmt: skip
    if extra:
        shape.metadata[".nextn_predict_layers"] = extra
    shape.metadata[".rope.dimension_count"] = int(shape.sizes["head"] * config.rotary(0.25))
    return shape


def _gemma4(config: Config) -> Shape:
    shape, n = base(config), config.layers()
    sizes = shape.sizes
    kinds = config.each("layer_types", n)
    if kinds is None:
        config.fail("layer_types", "It is missing")
    slides = [kind == "sliding_attention" for kind in kinds]
    wide = config.positive("global_head_dim")
    kv_wide = config.positive("num_global_key_value_heads", default=sizes["kv_heads"])
    per = config.count("hidden_size_per_layer_input", default=0)
    shared = config.count("num_kv_shared_layers", default=0)
    sizes |= {
        "rope_freqs": wide // 2, "per": per, "per_all": per * n,
        "per_vocab": config.count("vocab_size_per_layer_input", default=sizes["vocab"]),
    }  # fmt: skip
    if config.flag("enable_moe_block"):
        experts_of(config, shape, "moe_intermediate_size", "expert_intermediate_size")
    double = config.flag("use_double_wide_mlp")
    for number, (layer, sliding) in enumerate(zip(shape.layers, slides, strict=True)):
        # Such a layer looks into another's cache. Its class has no keys and values, but
        # checkpoints have, and a converter writes them: 601 tensors of E2B, 720 of E4B in load
        # logs (animehacker/llama-turboquant issue 3, ggml-org/llama.cpp issue 21328).
        reuses = number >= n - shared
        head, kv = (sizes["head"], sizes["kv_heads"]) if sliding else (wide, kv_wide)
        one = config.flag("attention_k_eq_v") and not sliding  # keys serve as values
        layer.update(
            head=head, q=sizes["heads"] * head, o=sizes["heads"] * head,
            k=0 if reuses else kv * head, v=0 if reuses or one else kv * head,
            k_unused=kv * head if reuses else 0, v_unused=kv * head if reuses and not one else 0,
            ff=sizes["ff"] * (2 if double and reuses else 1),
        )  # fmt: skip
    shape.metadata |= {
        ".attention.shared_kv_layers": shared, ".embedding_length_per_layer_input": per,
        ".attention.sliding_window": config.count("sliding_window"),
        ".attention.sliding_window_pattern": slides,
        ".attention.key_length": wide, ".attention.value_length": wide,
        ".attention.key_length_swa": sizes["head"], ".attention.value_length_swa": sizes["head"],
        ".attention.head_count_kv": [sizes["kv_heads"] if s else kv_wide for s in slides],
        ".feed_forward_length": [layer["ff"] for layer in shape.layers],
    }  # fmt: skip
    return shape


def _mimo2(config: Config) -> Shape:
    """MiMo V2: full and sliding layers of different widths (conversion/mimo.py)."""
    shape = experts_of(config, base(config))
    sizes, n = shape.sizes, config.layers()
    value = config.positive("v_head_dim")
    slides = config.each("hybrid_layer_pattern", n)
    sparse = config.each("moe_layer_freq", n)
    if slides is None or sparse is None:
        config.fail("hybrid_layer_pattern", "It or moe_layer_freq is missing")
    sizes |= {"o": sizes["heads"] * value, "routing_bias": 1, "ff_shared": 0}
    wide = config.positive("swa_num_key_value_heads")
    for layer, sliding, routed in zip(shape.layers, slides, sparse, strict=True):
        kv = wide if sliding else sizes["kv_heads"]
        key = "add_swa_attention_sink_bias" if sliding else "add_full_attention_sink_bias"
        layer.update(k=kv * sizes["head"], v=kv * value, sinks=int(config.flag(key)))
        layer.update({"ff": 0} if routed else {"experts": 0})
    config.note("prediction layers (MTP) are not in the config; none are counted")
    shape.metadata |= metadata_of(config, sizes, n) | {
        ".attention.head_count_kv": [wide if s else sizes["kv_heads"] for s in slides],
        ".attention.value_length": value,
        ".attention.sliding_window": config.count("sliding_window"),
        ".attention.sliding_window_pattern": [bool(s) for s in slides],
    }
    return shape


_GATED_DELTA = rows("""
    attn_qkv.weight: embd mixed if state
    attn_gate.weight: embd inner if state
    ssm_conv1d.weight: taps mixed if state
    ssm_dt.bias: v_heads if state
    ssm_a: v_heads if state
    ssm_norm.weight: value if state
    ssm_out.weight: inner embd if state
""")
_GATED_QUERY = rows("attn_q.weight: embd q_gated if q_gated")
_KVO: tuple[Row, ...] = tuple(row for row in QKV if row.name != "attn_q.weight")
_QWEN_NEXT = (
    ATTN_NORM + _GATED_QUERY + _KVO + QK_NORM + _GATED_DELTA
    + rows("post_attention_norm.weight: embd") + FFN + EXPERTS + SHARED_GATE + NEXTN
)  # fmt: skip
_ALPHA_BETA = rows("""
    ssm_alpha.weight: embd v_heads if state
    ssm_beta.weight: embd v_heads if state
""")
_GEMMA4_LAYER = rows("""
    attn_k.weight: embd k_unused if k_unused
    attn_v.weight: embd v_unused if v_unused
    attn_k_norm.weight: head if k_unused
    ffn_gate_inp.weight: embd experts if experts
    ffn_gate_inp.scale: embd if experts
    pre_ffw_norm_2.weight: embd if experts
    post_ffw_norm_1.weight: embd if experts
    post_ffw_norm_2.weight: embd if experts
    ffn_gate_up_exps.weight: embd 2*ff_exp experts if experts
    ffn_down_exps.weight: ff_exp embd experts if experts
    ffn_down_exps.scale: experts if experts
    layer_output_scale.weight: 1
    inp_gate.weight: embd per if per
    proj.weight: per embd if per
    post_norm.weight: embd if per
""")
_GEMMA4_TOP = rows("""
    per_layer_token_embd.weight: per_all per_vocab if per
    per_layer_model_proj.weight: embd per_all if per
    per_layer_proj_norm.weight: per if per
""")

HYBRIDS: tuple[Family, ...] = (
    Family("qwen3next", ("qwen3_next",), TOP,
           _QWEN_NEXT + rows("ssm_ba.weight: embd 2*v_heads if state"), _qwen_next,
           {"tie_word_embeddings": False, "head_dim": 256, "num_key_value_heads": 2}),
    Family("qwen35", ("qwen3_5", "qwen3_5_text"), TOP, _QWEN_NEXT + _ALPHA_BETA, _qwen_next,
           {"tie_word_embeddings": False, "head_dim": 256, "num_key_value_heads": 4}),
    Family("qwen35moe", ("qwen3_5_moe", "qwen3_5_moe_text"), TOP, _QWEN_NEXT + _ALPHA_BETA,
           _qwen_next,
           {"tie_word_embeddings": False, "head_dim": 256, "num_key_value_heads": 2}),
    Family("gemma4", ("gemma4", "gemma4_text"), TOP + _GEMMA4_TOP,
           ATTN_NORM + QKV + QK_NORM + FFN_NORM + FFN + POST_NORMS + _GEMMA4_LAYER, _gemma4,
           {
            "tie_word_embeddings": True, "global_head_dim": 512, "head_dim": 256,
            "num_key_value_heads": 4,
            "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144,
            "sliding_window": 512,
        },
    ),
    Family("mimo2", ("mimo_v2_flash",), TOP,
           ATTN_NORM + QKV + rows("attn_sinks.weight: heads if sinks") + FFN_NORM + FFN + EXPERTS,
           _mimo2, {"tie_word_embeddings": False}),
)  # fmt: skip
