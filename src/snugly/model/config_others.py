"""Older and rarer architectures: GPT-2 and its kin, OLMo, Granite, Cohere 2, Mamba and more. Pure.

Sources: llama.cpp conversion/*.py (what is written) and src/models/*.cpp (what is loaded);
class defaults: transformers 5.23 configuration classes.
"""

from snugly.model.config_base import Family, base, metadata_of, with_vocab
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
    POST_NORMS,
    QK_NORM,
    QKV,
    TOP,
    Shape,
    rows,
)

_UNTIED = {"tie_word_embeddings": False}
_TIED = {"tie_word_embeddings": True}
_PLAIN = ATTN_NORM + QKV + FFN_NORM + FFN


def _stablelm(config: Config) -> Shape:
    shape = base(config)
    shape.sizes |= {
        "qkv_bias": int(config.flag("use_qkv_bias")), "o_bias": 0,
        "qk_norm": int(config.flag("qk_layernorm")),
        "apart": int(not config.flag("use_parallel_residual")),
    }  # fmt: skip
    shape.metadata[".rope.dimension_count"] = int(shape.sizes["head"] * config.rotary(0.25))
    return shape


def _fused(config: Config, bias: bool) -> Shape:
    """One matrix for query, key and value; biases everywhere or nowhere."""
    shape = base(config)
    sizes = shape.sizes
    sizes["ff"] = sizes["ff"] or 4 * sizes["embd"]
    sizes |= {"bias": int(bias), "qkv": sizes["q"] + sizes["k"] + sizes["v"]}
    shape.metadata[".feed_forward_length"] = sizes["ff"]
    return shape


def _gpt_neox(config: Config) -> Shape:
    shape = _fused(config, config.flag("attention_bias", default=True))
    shape.metadata[".use_parallel_residual"] = config.flag("use_parallel_residual", default=True)
    shape.metadata[".rope.dimension_count"] = int(shape.sizes["head"] * config.rotary(0.25))
    return shape


def _gpt2(config: Config) -> Shape:
    if config.values["model_type"] == "gpt_bigcode" and config.flag("multi_query", default=True):
        config.values["num_key_value_heads"] = 1
    shape = _fused(config, True)
    shape.sizes["positions"] = config.positive("n_positions", "n_ctx", "max_position_embeddings")
    return shape


def _falcon(config: Config) -> Shape:
    new = config.flag("new_decoder_architecture")
    if not config.flag("parallel_attn", default=True) and not new:
        config.fail("parallel_attn", "llama.cpp loads Falcon with parallel attention only")
    one = config.flag("multi_query", default=True)
    heads = config.positive("num_attention_heads", "n_head")
    config.values["num_key_value_heads"] = (
        config.positive("num_kv_heads", "n_head_kv", default=heads) if new else 1 if one else heads
    )
    shape = _fused(config, config.flag("bias"))
    norms = config.count("num_ln_in_parallel_attn", default=2)
    shape.sizes["second_norm"] = int(new and norms == 2)
    shape.metadata[".context_length"] = 2048  # conversion/falcon.py: not in config.json
    return shape


def _sliding(config: Config) -> Shape:
    """A window in the layers that the config names (EXAONE 4, Cohere 2)."""
    shape, n = base(config), config.layers()
    shape.metadata[".vocab_size"] = shape.sizes["vocab"]
    if config.get("sliding_window") is not None:
        shape.metadata[".attention.sliding_window"] = config.count("sliding_window")
        if (kinds := config.each("layer_types", n)) is not None:
            shape.metadata[".attention.sliding_window_pattern"] = [
                kind == "sliding_attention" for kind in kinds
            ]
    return shape


def _cohere2(config: Config) -> Shape:
    shape = _sliding(config)
    # llama.cpp has the pattern of every fourth layer in its code (src/models/cohere2.cpp).
    shape.metadata.pop(".attention.sliding_window_pattern", None)
    return shape


def _seed(config: Config) -> Shape:
    shape = base(config)
    shape.sizes["o_bias"] = int(config.flag("attention_out_bias"))
    return shape


def _biased(config: Config) -> Shape:
    shape = base(config)
    bias = int(config.flag("use_bias") or config.flag("bias"))
    shape.sizes |= {"qkv_bias": bias, "o_bias": bias, "mlp_bias": bias}
    return shape


def _minicpm(config: Config) -> Shape:
    shape = base(config)
    factors = config.rope().get("long_factor")
    shape.sizes["rope_factors"] = len(factors) if isinstance(factors, list) else 0
    return shape


def _olmoe(config: Config) -> Shape:
    shape = experts_of(config, base(config), "intermediate_size")
    shape.sizes["ff"] = 0
    return shape


def _granitemoe(config: Config) -> Shape:
    shape = with_vocab(base(config))
    sizes = shape.sizes
    shared = config.count("shared_intermediate_size", default=0)
    if config.count("num_local_experts", default=0):
        experts_of(config, shape, "intermediate_size")
        sizes |= {"ff": 0, "ff_shared": shared}
    else:
        sizes["ff"] = shared or sizes["ff"]
    shape.metadata[".expert_shared_feed_forward_length"] = shared
    return shape


def _granitehybrid(config: Config) -> Shape:
    shape, n = _granitemoe(config), config.layers()
    kinds = config.each("layer_types", n) or config.each("layers_block_type", n)
    if kinds is None:
        config.fail("layer_types", "It is missing")
    heads, groups = config.positive("mamba_n_heads"), config.positive("mamba_n_groups", default=1)
    state = config.positive("mamba_d_state")
    _mamba2_sizes(config, shape, heads, groups, state, config.positive("mamba_d_conv"))
    attends = [kind in ("attention", "full_attention") for kind in kinds]
    for layer, has in zip(shape.layers, attends, strict=True):
        layer.update({"state": 0} if has else {"q": 0, "k": 0, "v": 0, "state": 1})
    shape.metadata[".attention.head_count_kv"] = [
        shape.sizes["kv_heads"] if has else 0 for has in attends
    ]
    return shape


def _mamba2_sizes(
    config: Config, shape: Shape, heads: int, groups: int, state: int, taps: int
) -> None:
    expand = config.positive("mamba_expand", "expand", default=2)
    inner = expand * shape.sizes["embd"]
    shape.sizes |= {
        "inner": inner, "ssm_heads": heads, "taps": taps, "groups": groups,
        "group": inner // groups, "mixed": inner + 2 * groups * state,
        "in": 2 * inner + 2 * groups * state + heads,
        "conv_bias": int(config.flag("mamba_conv_bias", default=True)),
    }  # fmt: skip
    shape.metadata |= {
        ".ssm.conv_kernel": taps, ".ssm.state_size": state, ".ssm.group_count": groups,
        ".ssm.inner_size": inner, ".ssm.time_step_rank": heads,
    }  # fmt: skip


def _bare(config: Config) -> Shape:
    """A model without attention: every layer has a state."""
    sizes = {
        "embd": config.positive("hidden_size", "d_model"), "heads": 0, "kv_heads": 0, "head": 0,
        "ff": 0, "vocab": config.positive("vocab_size"), "state": 1,
        "tied": int(config.flag("tie_word_embeddings")),
    }  # fmt: skip
    n = config.layers("num_hidden_layers", "n_layer")
    shape = Shape(sizes, [{} for _ in range(n)], metadata_of(config, sizes, n))
    shape.metadata |= {
        ".context_length": 1 << 20,  # conversion/mamba.py: any length will do
        ".attention.head_count_kv": 0,
    }
    return shape


def _mamba(config: Config) -> Shape:
    shape = _bare(config)
    sizes = shape.sizes
    rank = config.get("time_step_rank")
    sizes |= {
        "inner": 2 * sizes["embd"], "taps": config.positive("conv_kernel"),
        "ssm": config.positive("state_size"),
        "rank": rank if isinstance(rank, int) else -(sizes["embd"] // -16),
        "conv_bias": int(config.flag("use_conv_bias", default=True)),
    }  # fmt: skip
    if config.count("expand", default=2) != 2:
        config.fail("expand", "llama.cpp loads Mamba with 2 only")
    sizes["x"] = sizes["rank"] + 2 * sizes["ssm"]
    shape.metadata |= {
        ".ssm.conv_kernel": sizes["taps"], ".ssm.inner_size": sizes["inner"],
        ".ssm.state_size": sizes["ssm"], ".ssm.time_step_rank": sizes["rank"],
    }  # fmt: skip
    return shape


def _mamba2(config: Config) -> Shape:
    shape = _bare(config)
    heads, groups = config.positive("num_heads"), config.positive("n_groups")
    _mamba2_sizes(config, shape, heads, groups, config.positive("state_size"),
                  config.positive("conv_kernel"))  # fmt: skip
    return shape


_BIASED_TOP = EMBEDDING + rows("""
    position_embd.weight: embd positions if positions
    output_norm.weight: embd
    output_norm.bias: embd
    output.weight: embd vocab if !tied
""")
_GPT_LAYER = rows("""
    attn_norm.weight: embd
    attn_norm.bias: embd
    attn_norm_2.weight: embd if second_norm
    attn_norm_2.bias: embd if second_norm
    attn_qkv.weight: embd qkv
    attn_qkv.bias: qkv if bias
    attn_output.weight: o embd
    attn_output.bias: embd if bias
    ffn_up.weight: embd ff
    ffn_up.bias: ff if bias
    ffn_down.weight: ff embd
    ffn_down.bias: embd if bias
""")
_NORM_2 = rows("""
    ffn_norm.weight: embd
    ffn_norm.bias: embd
""")
_STABLELM = ATTN_NORM + QKV + rows("""
    attn_norm.bias: embd
    attn_q_norm.weight: head heads if qk_norm
    attn_k_norm.weight: head kv_heads if qk_norm
    ffn_norm.weight: embd if apart
    ffn_norm.bias: embd if apart
""") + FFN  # fmt: skip
_WIDE_QK_NORM = rows("""
    attn_q_norm.weight: q
    attn_k_norm.weight: k
""")
_NO_HEAD = EMBEDDING + rows("output_norm.weight: embd")
_NO_NORM = EMBEDDING + rows("output.weight: embd vocab if !tied")
_SEED = ATTN_NORM + QKV + rows("post_attention_norm.weight: embd") + FFN
_PLAIN_MAMBA = tuple(row for row in MAMBA if not row.name.endswith("_norm.weight"))

OTHERS: tuple[Family, ...] = (
    Family("stablelm", ("stablelm", "stablelm_epoch"), _BIASED_TOP, _STABLELM, _stablelm, _UNTIED),
    Family("gptneox", ("gpt_neox",), _BIASED_TOP, _GPT_LAYER + _NORM_2, _gpt_neox, _UNTIED),
    Family("gpt2", ("gpt2",), _BIASED_TOP, _GPT_LAYER + _NORM_2, _gpt2,
           _TIED | {"n_positions": 1024}),
    Family("starcoder", ("gpt_bigcode",), _BIASED_TOP, _GPT_LAYER + _NORM_2, _gpt2,
           _TIED | {"n_positions": 1024}),
    Family("falcon", ("falcon", "RefinedWeb", "RefinedWebModel"), _BIASED_TOP, _GPT_LAYER,
           _falcon, _TIED),
    Family("olmo", ("olmo",), _NO_NORM, QKV + FFN, base, _UNTIED),
    Family("olmoe", ("olmoe",), TOP, ATTN_NORM + QKV + _WIDE_QK_NORM + FFN_NORM + EXPERTS, _olmoe,
           _UNTIED | {"num_experts": 64}),
    Family("cohere2", ("cohere2",), _NO_HEAD, ATTN_NORM + QKV + FFN, _cohere2,
           _TIED | {"sliding_window": 4096}),
    Family("exaone4", ("exaone4",), TOP, QKV + QK_NORM + POST_NORMS + FFN, _sliding, _UNTIED),
    Family("seed_oss", ("seed_oss",), TOP, _SEED, _seed,
           _UNTIED | {"head_dim": 128, "num_key_value_heads": 8, "attention_bias": True}),
    Family("mistral3", ("ministral3",), TOP, _PLAIN, lambda c: with_vocab(base(c)),
           _UNTIED | {"head_dim": 128, "num_key_value_heads": 8}),
    Family("ernie4_5", ("ernie4_5",), TOP, _PLAIN, _biased,
           _TIED | {"head_dim": 128, "num_key_value_heads": 2}),
    Family("internlm2", ("internlm2",), TOP, _PLAIN, _biased, _UNTIED),
    Family("minicpm", ("minicpm",), TOP, _PLAIN, _minicpm, _TIED),
    Family("granitemoe", ("granitemoe", "granitemoeshared"), TOP, _PLAIN + EXPERTS, _granitemoe,
           _UNTIED),
    Family("granitehybrid", ("granitemoehybrid",), TOP, _PLAIN + EXPERTS + MAMBA2, _granitehybrid,
           _UNTIED | {"mamba_n_heads": 128, "mamba_d_state": 256, "mamba_d_conv": 4,
                      "mamba_expand": 2}),
    Family("mamba", ("mamba",), TOP, ATTN_NORM + _PLAIN_MAMBA, _mamba,
           _TIED | {"conv_kernel": 4, "state_size": 16}),
    Family("mamba2", ("mamba2",), TOP, ATTN_NORM + MAMBA2, _mamba2,
           _UNTIED | {"conv_kernel": 4, "state_size": 128, "n_groups": 8, "num_heads": 128}),
)  # fmt: skip
