"""The modules of transformers classes without experts: one table each. Pure.

Source: transformers 5.23 (Apache-2.0), models/*/modeling_*.py, read and held against the real
classes by bench/footprint.py.
"""

from collections.abc import Callable

from snugly.model.config_fields import Config
from snugly.model.config_rows import Sizes
from snugly.model.modules import (
    AFTER,
    ATTENTION,
    BEFORE,
    FUSED_MLP,
    GEMMA_NORMS,
    HEAD,
    MLP,
    NORMS,
    POST_NORMS,
    QK_NORM,
    ROTARY_TWO_KINDS,
    SCALED,
    WIDE_QK_NORM,
    Tree,
    lines,
    rotary,
)

_PLAIN = ATTENTION + MLP + NORMS
_NORM_AND_HEAD = lines("model.norm: norm embd") + HEAD


def no_biases(config: Config, sizes: Sizes) -> None:
    """This class has none, whatever its config says."""
    sizes |= {"qkv_bias": 0, "o_bias": 0, "mlp_bias": 0}


def _no_mlp_bias(config: Config, sizes: Sizes) -> None:
    sizes["mlp_bias"] = 0


def kinds_of_layers(period: int) -> Callable[[Config, Sizes], None]:
    """Full and sliding layers have frequencies of their own, of the same length.

    Unless the config lists its layers every `period`-th one is full.
    """

    def more(config: Config, sizes: Sizes) -> None:
        n = config.layers()
        every = config.positive("sliding_window_pattern", default=period)
        listed = config.each("layer_types", n)
        full = [listed[i] == "full_attention" if listed else (i + 1) % every == 0 for i in range(n)]
        sizes["rot_full"] = sizes["rot"] if any(full) else 0
        sizes["rot"] = 0 if all(full) else sizes["rot"]
        sizes["mlp_bias"] = 0

    return more


def _falcon(config: Config, sizes: Sizes) -> None:
    sizes["new"] = int(config.flag("new_decoder_architecture"))
    if config.flag("alibi"):
        sizes["rot"] = 0


def _gpt_neox(config: Config, sizes: Sizes) -> None:
    sizes["qkv"] = 3 * sizes["embd"]  # it knows no shared keys and values


def _gpt2(config: Config, sizes: Sizes) -> None:
    sizes["rot"] = 0


def _phi(config: Config, sizes: Sizes) -> None:
    sizes["qk_norm"] = int(config.flag("qk_layernorm"))


_PHI_ATTENTION = lines("""
    self_attn.q_proj: linear embd q +
    self_attn.k_proj: linear embd k +
    self_attn.v_proj: linear embd v +
    self_attn.dense: linear o embd +
    self_attn.q_layernorm: norm head + if qk_norm
    self_attn.k_layernorm: norm head + if qk_norm
""")
_GPT_NORMS = lines("""
    ln_1: norm embd +
    ln_2: norm embd +
""")
_GPT_BEFORE = lines("""
    transformer.wte: table vocab embd
    transformer.wpe: table positions embd
""")
_GPT_AFTER = lines("transformer.ln_f: norm embd +") + HEAD
_BIASED_NORMS = lines("""
    input_layernorm: norm embd +
    post_attention_layernorm: norm embd +
""")
_COHERE_NORMS = lines("""
    self_attn.q_norm: norm heads head if use_qk_norm
    self_attn.k_norm: norm kv_heads head if use_qk_norm
    input_layernorm: norm embd
""")

DENSE: tuple[Tree, ...] = (
    Tree("LlamaForCausalLM", ("llama",), BEFORE, _PLAIN, AFTER),
    Tree("MistralForCausalLM", ("mistral",), BEFORE, _PLAIN, AFTER, more=no_biases),
    Tree("Ministral3ForCausalLM", ("ministral3",), BEFORE, _PLAIN, AFTER, more=no_biases),
    Tree("Mistral3ForCausalLM", ("mistral3",), BEFORE, _PLAIN, AFTER, more=no_biases,
         vision="pixtral", text_class=False),
    Tree("GraniteForCausalLM", ("granite",), BEFORE, _PLAIN, AFTER),
    Tree("SmolLM3ForCausalLM", ("smollm3",), BEFORE, _PLAIN, AFTER),
    Tree("SeedOssForCausalLM", ("seed_oss",), BEFORE, _PLAIN, AFTER),
    Tree("Ernie4_5ForCausalLM", ("ernie4_5",), BEFORE, _PLAIN, AFTER),
    Tree("Qwen2ForCausalLM", ("qwen2",), BEFORE, _PLAIN, AFTER, more=_no_mlp_bias),
    Tree("Qwen3ForCausalLM", ("qwen3",), BEFORE, _PLAIN + QK_NORM, AFTER, more=_no_mlp_bias),
    Tree("Qwen3VLForCausalLM", ("qwen3_vl",), BEFORE, _PLAIN + QK_NORM, AFTER, more=_no_mlp_bias,
         vision="qwen3vl", text_class=False),
    Tree("GemmaForCausalLM", ("gemma",), BEFORE, _PLAIN, AFTER + SCALED, more=_no_mlp_bias),
    Tree("Gemma2ForCausalLM", ("gemma2",), BEFORE, ATTENTION + MLP + GEMMA_NORMS,
         AFTER + SCALED, more=_no_mlp_bias),
    Tree("Gemma3ForCausalLM", ("gemma3", "gemma3_text"), BEFORE,
         ATTENTION + QK_NORM + MLP + GEMMA_NORMS,
         _NORM_AND_HEAD + SCALED + ROTARY_TWO_KINDS, more=kinds_of_layers(6), vision="siglip"),
    Tree("Phi3ForCausalLM", ("phi3",), BEFORE, lines("""
            self_attn.o_proj: linear o embd
            self_attn.qkv_proj: linear embd qkv
         """) + FUSED_MLP + NORMS, AFTER),
    Tree("PhiForCausalLM", ("phi",), BEFORE, _PHI_ATTENTION + lines("""
            mlp.fc1: linear embd ff +
            mlp.fc2: linear ff embd +
            input_layernorm: norm embd +
         """), lines("""
            model.final_layernorm: norm embd +
            lm_head: head embd vocab +
         """) + rotary(), more=_phi, rotated=0.5),
    Tree("Starcoder2ForCausalLM", ("starcoder2",), BEFORE, ATTENTION + lines("""
            mlp.c_fc: linear embd ff +mlp_bias
            mlp.c_proj: linear ff embd +mlp_bias
         """) + _BIASED_NORMS, lines("model.norm: norm embd +") + HEAD + rotary()),
    Tree("OlmoForCausalLM", ("olmo",), BEFORE, ATTENTION + MLP, HEAD + rotary(),
         more=_no_mlp_bias),
    Tree("Olmo2ForCausalLM", ("olmo2",), BEFORE, ATTENTION + WIDE_QK_NORM + MLP + POST_NORMS,
         AFTER, more=_no_mlp_bias),
    Tree("Olmo3ForCausalLM", ("olmo3",), BEFORE, ATTENTION + WIDE_QK_NORM + MLP + POST_NORMS,
         _NORM_AND_HEAD + ROTARY_TWO_KINDS, more=kinds_of_layers(4)),
    Tree("Exaone4ForCausalLM", ("exaone4",), BEFORE, ATTENTION + QK_NORM + MLP + POST_NORMS,
         AFTER, more=no_biases),
    Tree("CohereForCausalLM", ("cohere",), BEFORE, ATTENTION + MLP + _COHERE_NORMS, AFTER,
         more=_no_mlp_bias),
    Tree("Cohere2ForCausalLM", ("cohere2",), BEFORE,
         ATTENTION + MLP + lines("input_layernorm: norm embd"), AFTER, more=_no_mlp_bias),
    Tree("GlmForCausalLM", ("glm",), BEFORE, ATTENTION + FUSED_MLP + NORMS, AFTER, rotated=0.5),
    Tree("Glm4ForCausalLM", ("glm4",), BEFORE, ATTENTION + FUSED_MLP + NORMS + lines("""
            post_self_attn_layernorm: norm embd
            post_mlp_layernorm: norm embd
         """), AFTER, rotated=0.5),
    # The norms of query and key are one module per head; their names here stand for all.
    Tree("StableLmForCausalLM", ("stablelm",), BEFORE, ATTENTION + MLP + lines("""
            self_attn.q_layernorm.norms.*: norm heads head if qk_norm
            self_attn.k_layernorm.norms.*: norm kv_heads head if qk_norm
            input_layernorm: norm embd +
            post_attention_layernorm: norm embd + if apart
         """), lines("model.norm: norm embd +") + HEAD + rotary(), rotated=0.25),
    # Falcon's linear layers are a subclass of nn.Linear, which bitsandbytes leaves alone.
    Tree("FalconForCausalLM", ("falcon",), lines("transformer.word_embeddings: table vocab embd"),
         lines("""
            self_attention.query_key_value: own embd qkv +bias
            self_attention.dense: own o embd +bias
            mlp.dense_h_to_4h: own embd ff +bias
            mlp.dense_4h_to_h: own ff embd +bias
            ln_attn: norm embd + if second_norm
            ln_mlp: norm embd + if second_norm
            input_layernorm: norm embd + if !second_norm
         """), lines("transformer.ln_f: norm embd +") + HEAD + rotary("transformer."),
         layers="transformer.h", more=_falcon),
    Tree("GPTNeoXForCausalLM", ("gpt_neox",), lines("gpt_neox.embed_in: table vocab embd"),
         _BIASED_NORMS + lines("""
            attention.query_key_value: linear embd qkv +bias
            attention.dense: linear o embd +bias
            mlp.dense_h_to_4h: linear embd ff +
            mlp.dense_4h_to_h: linear ff embd +
         """), lines("gpt_neox.final_layer_norm: norm embd +") + HEAD + rotary("gpt_neox."),
         layers="gpt_neox.layers", more=_gpt_neox, rotated=0.25),
    Tree("GPT2LMHeadModel", ("gpt2",), _GPT_BEFORE, _GPT_NORMS + lines("""
            attn.c_attn: conv1d embd qkv +
            attn.c_proj: conv1d embd embd +
            mlp.c_fc: conv1d embd ff +
            mlp.c_proj: conv1d ff embd +
         """), _GPT_AFTER, layers="transformer.h", more=_gpt2),
    Tree("GPTBigCodeForCausalLM", ("gpt_bigcode",), _GPT_BEFORE, _GPT_NORMS + lines("""
            attn.c_attn: linear embd qkv +
            attn.c_proj: linear embd embd +
            mlp.c_fc: linear embd ff +
            mlp.c_proj: linear ff embd +
         """), _GPT_AFTER + lines("transformer.bias: bool positions positions"),
         layers="transformer.h", more=_gpt2),
)  # fmt: skip
