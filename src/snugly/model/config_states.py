"""Architectures with convolutions or state spaces in some layers: LFM2, Jamba, Nemotron-H. Pure.

Sources: llama.cpp conversion/*.py (what is written) and src/models/*.cpp (what is loaded);
class defaults: transformers 5.23 configuration classes.
"""

from snugly.model.config_base import Family, base
from snugly.model.config_experts import experts_of
from snugly.model.config_fields import Config
from snugly.model.config_rows import (
    ATTN_NORM,
    EMBEDDING,
    EXPERTS,
    FFN,
    FFN_NORM,
    MAMBA,
    MAMBA2,
    QK_NORM,
    QKV,
    TOP,
    Shape,
    Sizes,
    rows,
)

NO_ATTENTION: Sizes = {"q": 0, "k": 0, "v": 0}


def _per_layer_kv(shape: Shape, attends: list[bool]) -> None:
    """Layers without attention have no KV heads; their state is their own."""
    for layer, has in zip(shape.layers, attends, strict=True):
        layer.update({"state": 0} if has else {**NO_ATTENTION, "state": 1})
    shape.metadata[".attention.head_count_kv"] = [
        shape.sizes["kv_heads"] if has else 0 for has in attends
    ]


def _lfm2(config: Config) -> Shape:
    kinds = config.each("layer_types", config.layers())
    if kinds is None:
        indexes = config.get("full_attn_idxs")
        if not isinstance(indexes, list):
            config.fail("layer_types", "It is missing")
        kinds = ["full_attention" if n in indexes else "conv" for n in range(config.layers())]
    shape = base(config)
    sizes = shape.sizes
    sizes |= {"taps": config.positive("conv_L_cache", default=3), "ff": _lfm2_width(config)}
    _per_layer_kv(shape, [kind == "full_attention" for kind in kinds])
    shape.metadata |= {
        ".feed_forward_length": sizes["ff"], ".vocab_size": sizes["vocab"],
        ".shortconv.l_cache": sizes["taps"],
    }  # fmt: skip
    return shape


def _lfm2_width(config: Config) -> int:
    """The real width: two thirds, rounded up, where the config says that it adjusts it."""
    width = config.positive("block_ff_dim", "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = int(2 * width / 3)
    if (factor := config.number("block_ffn_dim_multiplier", default=1.0)) is not None:
        width = int(factor * width)
    step = config.positive("block_multiple_of", default=256)
    return step * ((width + step - 1) // step)


def _jamba(config: Config) -> Shape:
    shape = base(config)
    sizes, n = shape.sizes, config.layers()
    inner = config.positive("mamba_expand") * sizes["embd"]
    rank = config.get("mamba_dt_rank")
    sizes |= {
        "inner": inner, "taps": config.positive("mamba_d_conv"),
        "ssm": config.positive("mamba_d_state"), "ff_exp": sizes["ff"],
        "rank": rank if isinstance(rank, int) else -(sizes["embd"] // -16),
        "conv_bias": int(config.flag("mamba_conv_bias", default=True)),
        "experts": config.positive("num_experts", "num_local_experts"),
    }  # fmt: skip
    sizes["x"] = sizes["rank"] + 2 * sizes["ssm"]
    period, at = config.positive("attn_layer_period"), config.count("attn_layer_offset")
    _per_layer_kv(shape, [layer >= at and (layer - at) % period == 0 for layer in range(n)])
    period, at = config.positive("expert_layer_period"), config.count("expert_layer_offset")
    for number, layer in enumerate(shape.layers):
        routed = sizes["experts"] > 1 and number >= at and (number - at) % period == 0
        layer.update({"ff": 0} if routed else {"experts": 0})
    shape.metadata |= {
        ".ssm.conv_kernel": sizes["taps"], ".ssm.inner_size": inner,
        ".ssm.state_size": sizes["ssm"], ".ssm.time_step_rank": sizes["rank"],
    }  # fmt: skip
    return shape


def _nemotron_h(config: Config) -> Shape:
    pattern = config.get("hybrid_override_pattern", "layers_block_type")
    if not isinstance(pattern, str | list) or not pattern:
        config.fail("hybrid_override_pattern", "It is missing")
    config.values["num_hidden_layers"] = len(pattern)
    config.values.setdefault("head_dim", config.get("attention_head_dim"))
    shape = base(config)
    sizes = shape.sizes
    heads, each = config.positive("mamba_num_heads"), config.positive("mamba_head_dim")
    groups, state = config.positive("n_groups", default=1), config.positive("ssm_state_size")
    inner = heads * each
    sizes |= {
        "inner": inner, "ssm_heads": heads, "taps": config.positive("conv_kernel", default=4),
        "groups": groups, "group": inner // groups, "mixed": inner + 2 * groups * state,
        "in": 2 * inner + 2 * groups * state + heads,
        "conv_bias": int(config.flag("use_conv_bias", default=True)),
        "vocab": sizes["vocab"] + -sizes["vocab"] % 8,
    }  # fmt: skip
    kinds = [_NEMOTRON_KINDS.get(str(kind), "") for kind in pattern]
    if "" in kinds:
        config.fail("hybrid_override_pattern", "It has a kind of layer that is not known")
    _per_layer_kv(shape, [kind == "attention" for kind in kinds])
    routed = config.get("num_experts_per_tok") is not None
    shape.architecture = "nemotron_h_moe" if routed else "nemotron_h"
    if routed:
        _nemotron_experts(config, shape)
    for layer, kind in zip(shape.layers, kinds, strict=True):
        layer["state"] = int(kind == "mamba")
        layer["ff"] = sizes["ff"] if kind == "mlp" else 0
        layer["experts"] = sizes.get("experts", 0) if kind == "moe" else 0
    width = sizes["ff_exp"] if routed else sizes["ff"]
    shape.metadata |= {
        ".feed_forward_length": [width if k in ("mlp", "moe") else 0 for k in kinds],
        ".attention.key_length": sizes["head"], ".attention.value_length": sizes["head"],
        ".ssm.conv_kernel": sizes["taps"], ".ssm.state_size": state, ".ssm.group_count": groups,
        ".ssm.inner_size": inner, ".ssm.time_step_rank": heads, ".vocab_size": sizes["vocab"],
    }  # fmt: skip
    return shape


def _nemotron_experts(config: Config, shape: Shape) -> None:
    experts_of(config, shape)
    sizes = shape.sizes
    latent = config.count("moe_latent_size", default=0)
    sizes |= {
        "ff_shared": config.count("moe_shared_expert_intermediate_size", default=0),
        "latent": latent, "routed_in": latent or sizes["embd"],
    }  # fmt: skip
    shape.metadata[".expert_shared_feed_forward_length"] = sizes["ff_shared"]
    if latent:
        shape.metadata[".moe_latent_size"] = latent
    if config.count("num_nextn_predict_layers", default=0):
        config.note("the prediction layer (MTP) is not counted")


# hybrid_override_pattern's letters, and layers_block_type's words
_NEMOTRON_KINDS = {
    "M": "mamba", "*": "attention", "-": "mlp", "E": "moe", "mamba": "mamba", "moe": "moe",
    "linear_attention": "mamba", "attention": "attention", "full_attention": "attention",
    "mlp": "mlp",
}  # fmt: skip


_SHORTCONV = rows("""
    shortconv.conv.weight: taps embd if state
    shortconv.in_proj.weight: embd 3*embd if state
    shortconv.out_proj.weight: embd embd if state
""")
_NEMOTRON_MLP = rows("""
    ffn_up.weight: embd ff if ff
    ffn_up.bias: ff if ff mlp_bias
    ffn_down.weight: ff embd if ff
    ffn_down.bias: embd if ff mlp_bias
    ffn_gate_inp.weight: embd experts if experts
    exp_probs_b.bias: experts if experts
    ffn_latent_down.weight: embd latent if experts latent
    ffn_latent_up.weight: latent embd if experts latent
    ffn_up_exps.weight: routed_in ff_exp experts if experts
    ffn_down_exps.weight: ff_exp routed_in experts if experts
    ffn_up_shexp.weight: embd ff_shared if experts ff_shared
    ffn_down_shexp.weight: ff_shared embd if experts ff_shared
""")

STATES: tuple[Family, ...] = (
    Family("lfm2", ("lfm2", "lfm2_vl"), EMBEDDING + rows("""
        token_embd_norm.weight: embd
        output.weight: embd vocab if !tied
        """), ATTN_NORM + QKV + QK_NORM + _SHORTCONV + FFN_NORM + FFN, _lfm2,
        {"tie_word_embeddings": True, "num_key_value_heads": 8}),
    Family("jamba", ("jamba",), TOP, ATTN_NORM + QKV + MAMBA + FFN_NORM + FFN + EXPERTS, _jamba,
           {"tie_word_embeddings": False, "num_key_value_heads": 8, "mamba_d_conv": 4,
            "mamba_d_state": 16, "mamba_expand": 2, "attn_layer_period": 8,
            "attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1}),
    Family("nemotron_h", ("nemotron_h",), TOP, ATTN_NORM + QKV + MAMBA2 + _NEMOTRON_MLP,
           _nemotron_h, {"tie_word_embeddings": False, "num_key_value_heads": 8}),
)  # fmt: skip
