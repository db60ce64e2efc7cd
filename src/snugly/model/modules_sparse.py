"""The modules of transformers classes with experts, states or several kinds of layers. Pure.

Source: transformers 5.23 (Apache-2.0), models/*/modeling_*.py, read and held against the real
classes by bench/footprint.py.
"""

from snugly.model.config_fields import Config
from snugly.model.config_rows import Sizes
from snugly.model.modules import (
    AFTER,
    ATTENTION,
    BEFORE,
    EXPERTS,
    GEMMA_NORMS,
    HEAD,
    LATENT,
    MLP,
    NORMS,
    QK_NORM,
    QWEN_SHARED,
    ROTARY_TWO_KINDS,
    SCALED,
    SHARED,
    WIDE_QK_NORM,
    Tree,
    lines,
    rotary,
)
from snugly.model.modules_dense import no_biases

_NORM_AND_HEAD = lines("model.norm: norm embd") + HEAD


def _latent(config: Config, sizes: Sizes) -> None:
    sizes["kv_b"] = sizes["heads"] * (sizes["nope"] + sizes["value"])
    sizes["mlp_bias"] = 0


def _gemma4(config: Config, sizes: Sizes) -> None:
    sizes["rot_full"] = config.positive("global_head_dim") // 2
    sizes["rot"] = sizes["head"] // 2
    sizes["mlp_bias"] = 0


def _mimo(config: Config, sizes: Sizes) -> None:
    sizes["rot_full"] = sizes["rot"]


def _minimax(config: Config, sizes: Sizes) -> None:
    no_biases(config, sizes)
    if config.get("rotary_dim") is not None:
        sizes["rot"] = config.count("rotary_dim") // 2


def _jamba(config: Config, sizes: Sizes) -> None:
    sizes |= {"rot": 0, "mamba_bias": int(config.flag("mamba_proj_bias"))}


def _granite_hybrid(config: Config, sizes: Sizes) -> None:
    if config.get("position_embedding_type") != "rope":
        sizes["rot"] = 0
    sizes["mamba_bias"] = int(config.flag("mamba_proj_bias"))


def _nemotron(config: Config, sizes: Sizes) -> None:
    sizes |= {"rot": 0, "routed_in": sizes.get("routed_in", 0)}
    sizes["mamba_bias"] = int(config.flag("use_bias"))


def _mamba(config: Config, sizes: Sizes) -> None:
    sizes["bias"] = int(config.flag("use_bias"))


_GPT_OSS = lines("""
    self_attn.sinks: param heads
    mlp.router: router embd experts +
    mlp.experts.gate_up_proj: experts experts embd 2*ff_exp
    mlp.experts.gate_up_proj_bias: experts experts 2*ff_exp
    mlp.experts.down_proj: experts experts ff_exp embd
    mlp.experts.down_proj_bias: experts experts embd
""")
_LLAMA4 = lines("""
    feed_forward.gate_proj: linear embd ff if ff
    feed_forward.up_proj: linear embd ff if ff
    feed_forward.down_proj: linear ff embd if ff
    feed_forward.experts.gate_up_proj: experts experts embd 2*ff_exp if experts
    feed_forward.experts.down_proj: experts experts ff_exp embd if experts
    feed_forward.router: router embd experts if experts
    feed_forward.shared_expert.gate_proj: linear embd ff_shared if experts
    feed_forward.shared_expert.up_proj: linear embd ff_shared if experts
    feed_forward.shared_expert.down_proj: linear ff_shared embd if experts
""")
_GRANITE_EXPERTS = lines("""
    block_sparse_moe.router: router embd experts if experts
    block_sparse_moe.experts.gate_up_proj: experts experts 2*ff_exp embd if experts
    block_sparse_moe.experts.down_proj: experts experts embd ff_exp if experts
    shared_mlp.input_linear: linear embd 2*ff_shared if ff_shared
    shared_mlp.output_linear: linear ff_shared embd if ff_shared
    shared_mlp.input_linear: linear embd 2*ff if ff
    shared_mlp.output_linear: linear ff embd if ff
""")
_MAMBA = """
    {0}.A_log: param inner ssm if state
    {0}.D: param inner if state
    {0}.conv1d: conv inner 1 taps +conv_bias if state
    {0}.in_proj: linear embd 2*inner +{1} if state
    {0}.x_proj: linear inner x if state
    {0}.dt_proj: linear rank inner + if state
    {0}.out_proj: linear inner embd +{1} if state
"""
_MAMBA2 = """
    {0}.dt_bias: param ssm_heads if state
    {0}.A_log: param ssm_heads if state
    {0}.D: param ssm_heads if state
    {0}.conv1d: conv mixed 1 taps +conv_bias if state
    {0}.in_proj: linear embd in +{1} if state
    {0}.norm: norm inner if state
    {0}.out_proj: linear inner embd +{1} if state
"""
_GATED_DELTA = lines("""
    linear_attn.dt_bias: param v_heads if state
    linear_attn.A_log: param v_heads if state
    linear_attn.conv1d: conv mixed 1 taps if state
    linear_attn.norm: norm value if state
    linear_attn.out_proj: linear inner embd if state
""")
_GATED_ATTENTION = lines("""
    self_attn.q_proj: linear embd q_gated if q_gated
    self_attn.k_proj: linear embd k if k
    self_attn.v_proj: linear embd v if v
    self_attn.o_proj: linear o embd if q
""")
_DELTA_APART = lines("""
    linear_attn.in_proj_qkv: linear embd mixed if state
    linear_attn.in_proj_z: linear embd inner if state
    linear_attn.in_proj_b: linear embd v_heads if state
    linear_attn.in_proj_a: linear embd v_heads if state
""")
_DELTA_FUSED = lines("""
    linear_attn.in_proj_qkvz: linear embd mixed_z if state
    linear_attn.in_proj_ba: linear embd 2*v_heads if state
""")
_QWEN_NEXT = (
    _GATED_DELTA + _GATED_ATTENTION + QK_NORM + MLP + EXPERTS + QWEN_SHARED + NORMS
)  # fmt: skip
_GEMMA4_LAYER = lines("""
    per_layer_input_gate: linear embd per if per
    per_layer_projection: linear per embd if per
    post_per_layer_input_norm: norm embd if per
    router.scale: param embd if experts
    router.per_expert_scale: param experts if experts
    router.proj: linear embd experts if experts
    experts.gate_up_proj: experts experts 2*ff_exp embd if experts
    experts.down_proj: experts experts embd ff_exp if experts
    post_feedforward_layernorm_1: norm embd if experts
    post_feedforward_layernorm_2: norm embd if experts
    pre_feedforward_layernorm_2: norm embd if experts
    layer_scalar: buffer 1
""")
_GEMMA4_AFTER = lines("""
    model.norm: norm embd
    model.embed_tokens_per_layer: table per_vocab per_all if per
    model.embed_tokens_per_layer.embed_scale: buffer if per
    model.per_layer_model_projection: linear embd per_all if per
    model.per_layer_projection_norm: norm per if per
""") + HEAD  # fmt: skip
_BACKBONE = lines("backbone.embeddings: table vocab embd")
_BACKBONE_AFTER = lines("backbone.norm_f: norm embd") + HEAD
_NEMOTRON = lines("norm: norm embd") + lines(_MAMBA2.format("mixer", "mamba_bias")) + lines("""
    mixer.q_proj: linear embd q +qkv_bias if q
    mixer.k_proj: linear embd k +qkv_bias if k
    mixer.v_proj: linear embd v +qkv_bias if v
    mixer.o_proj: linear o embd +o_bias if q
    mixer.up_proj: linear embd ff +mlp_bias if ff
    mixer.down_proj: linear ff embd +mlp_bias if ff
    mixer.experts.up_proj: experts experts ff_exp routed_in if experts
    mixer.experts.down_proj: experts experts routed_in ff_exp if experts
    mixer.gate: router embd experts if experts
    mixer.gate.e_score_correction_bias: f32 experts if experts
    mixer.shared_experts.up_proj: linear embd ff_shared if experts ff_shared
    mixer.shared_experts.down_proj: linear ff_shared embd if experts ff_shared
    mixer.fc1_latent_proj: linear embd latent if experts latent
    mixer.fc2_latent_proj: linear latent embd if experts latent
""")  # fmt: skip
_SHORTCONV = lines("""
    conv.conv: conv embd 1 taps +conv_bias if state
    conv.in_proj: linear embd 3*embd +conv_bias if state
    conv.out_proj: linear embd embd +conv_bias if state
    self_attn.q_proj: linear embd q if q
    self_attn.k_proj: linear embd k if k
    self_attn.v_proj: linear embd v if v
    self_attn.out_proj: linear o embd if q
    self_attn.q_layernorm: norm head if q
    self_attn.k_layernorm: norm head if k
    feed_forward.w1: linear embd ff
    feed_forward.w3: linear embd ff
    feed_forward.w2: linear ff embd
    operator_norm: norm embd
    ffn_norm: norm embd
""")


def _qwen_next(config: Config, sizes: Sizes) -> None:
    sizes["mixed_z"] = sizes["mixed"] + sizes["inner"]
    sizes["mlp_bias"] = 0


def _lfm2(config: Config, sizes: Sizes) -> None:
    sizes["conv_bias"] = int(config.flag("conv_bias"))


_SCORES = ("e_score_correction_bias",)

SPARSE: tuple[Tree, ...] = (
    Tree("MixtralForCausalLM", ("mixtral",), BEFORE, ATTENTION + EXPERTS + NORMS, AFTER,
         more=no_biases),
    Tree("Qwen2MoeForCausalLM", ("qwen2_moe",), BEFORE,
         ATTENTION + MLP + EXPERTS + QWEN_SHARED + NORMS, AFTER),
    Tree("Qwen3MoeForCausalLM", ("qwen3_moe",), BEFORE,
         ATTENTION + QK_NORM + MLP + EXPERTS + NORMS, AFTER),
    Tree("Qwen3VLMoeForCausalLM", ("qwen3_vl_moe",), BEFORE,
         ATTENTION + QK_NORM + MLP + EXPERTS + NORMS, AFTER, vision="qwen3vl", text_class=False),
    Tree("OlmoeForCausalLM", ("olmoe",), BEFORE, ATTENTION + WIDE_QK_NORM + EXPERTS + NORMS,
         AFTER),
    Tree("MiniMaxM2ForCausalLM", ("minimax_m2",), BEFORE,
         ATTENTION + WIDE_QK_NORM + lines("""
            mlp.gate: router embd experts
            mlp.experts.gate_up_proj: experts experts 2*ff_exp embd
            mlp.experts.down_proj: experts experts embd ff_exp
            mlp.e_score_correction_bias: buffer experts
         """) + NORMS, AFTER, more=_minimax),
    Tree("GptOssForCausalLM", ("gpt_oss",), BEFORE, ATTENTION + _GPT_OSS + NORMS, AFTER,
         float32_in_float16=("input_layernorm", "post_attention_layernorm", "norm")),
    Tree("DeepseekV2ForCausalLM", ("deepseek_v2",), BEFORE,
         LATENT + MLP + EXPERTS + SHARED + NORMS, AFTER, more=_latent),
    Tree("DeepseekV3ForCausalLM", ("deepseek_v3",), BEFORE,
         LATENT + MLP + EXPERTS + SHARED + NORMS, AFTER, more=_latent, float32=_SCORES),
    Tree("Glm4MoeLiteForCausalLM", ("glm4_moe_lite",), BEFORE,
         LATENT + MLP + EXPERTS + SHARED + NORMS, AFTER, more=_latent, float32=_SCORES),
    Tree("Glm4MoeForCausalLM", ("glm4_moe",), BEFORE, ATTENTION + lines("""
            self_attn.q_norm: norm head if qk_norm
            self_attn.k_norm: norm head if qk_norm
         """) + MLP + EXPERTS + SHARED + NORMS, AFTER, float32=_SCORES, rotated=0.5),
    Tree("Llama4ForCausalLM", ("llama4", "llama4_text"), BEFORE, ATTENTION + _LLAMA4 + NORMS,
         AFTER),
    Tree("MiMoV2FlashForCausalLM", ("mimo_v2_flash",), BEFORE, ATTENTION
         + lines("self_attn.sinks: param heads if sinks") + MLP + EXPERTS + NORMS,
         _NORM_AND_HEAD + ROTARY_TWO_KINDS, more=_mimo, float32=_SCORES),
    Tree("GraniteMoeForCausalLM", ("granitemoe",), BEFORE,
         ATTENTION + _GRANITE_EXPERTS + NORMS, AFTER),
    Tree("GraniteMoeSharedForCausalLM", ("granitemoeshared",), BEFORE,
         ATTENTION + _GRANITE_EXPERTS + NORMS, AFTER),
    Tree("GraniteMoeHybridForCausalLM", ("granitemoehybrid",), BEFORE,
         ATTENTION + lines(_MAMBA2.format("mamba", "mamba_bias")) + _GRANITE_EXPERTS + NORMS,
         AFTER, more=_granite_hybrid),
    Tree("Qwen3NextForCausalLM", ("qwen3_next",), BEFORE, _QWEN_NEXT + _DELTA_FUSED, AFTER,
         more=_qwen_next, rotated=0.25),
    Tree("Qwen3_5ForCausalLM", ("qwen3_5", "qwen3_5_text"), BEFORE, _QWEN_NEXT + _DELTA_APART,
         AFTER, more=_qwen_next, rotated=0.25),
    Tree("Qwen3_5MoeForCausalLM", ("qwen3_5_moe", "qwen3_5_moe_text"), BEFORE,
         _QWEN_NEXT + _DELTA_APART, AFTER, more=_qwen_next, rotated=0.25),
    Tree("Gemma4ForCausalLM", ("gemma4", "gemma4_text"), BEFORE,
         ATTENTION + QK_NORM + MLP + GEMMA_NORMS + _GEMMA4_LAYER,
         _GEMMA4_AFTER + SCALED + ROTARY_TWO_KINDS, more=_gemma4, vision="gemma4"),
    Tree("JambaForCausalLM", ("jamba",), BEFORE, ATTENTION
         + lines(_MAMBA.format("mamba", "mamba_bias")) + lines("""
            mamba.dt_layernorm: norm rank if state
            mamba.b_layernorm: norm ssm if state
            mamba.c_layernorm: norm ssm if state
            feed_forward.gate_proj: linear embd ff if ff
            feed_forward.up_proj: linear embd ff if ff
            feed_forward.down_proj: linear ff embd if ff
            feed_forward.router: router embd experts if experts
            feed_forward.experts.gate_up_proj: experts experts 2*ff_exp embd if experts
            feed_forward.experts.down_proj: experts experts embd ff_exp if experts
            input_layernorm: norm embd
            pre_ff_layernorm: norm embd
         """), lines("model.final_layernorm: norm embd") + HEAD, more=_jamba),
    Tree("MambaForCausalLM", ("mamba",), _BACKBONE,
         lines("norm: norm embd") + lines(_MAMBA.format("mixer", "bias")), _BACKBONE_AFTER,
         layers="backbone.layers", more=_mamba),
    Tree("Mamba2ForCausalLM", ("mamba2",), _BACKBONE,
         lines("norm: norm embd") + lines(_MAMBA2.format("mixer", "bias")), _BACKBONE_AFTER,
         layers="backbone.layers", more=_mamba),
    Tree("NemotronHForCausalLM", ("nemotron_h",), lines("model.embeddings: table vocab embd"),
         _NEMOTRON, lines("model.norm_f: norm embd") + HEAD, more=_nemotron, float32=_SCORES),
    Tree("Lfm2ForCausalLM", ("lfm2",), BEFORE, _SHORTCONV,
         rotary() + lines("model.embedding_norm: norm embd") + HEAD, more=_lfm2),
)  # fmt: skip
