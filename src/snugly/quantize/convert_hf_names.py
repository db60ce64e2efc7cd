"""Which tensor of a checkpoint is which of a GGUF, for decoders of Llama's build. Pure.

Source of the names: `gguf` 0.19, tensor_mapping.py (MIT); each of them is held against it by
a test. A name that stands for nothing in a GGUF gives None.
"""

import re
from dataclasses import dataclass

# What a checkpoint may carry beside the language model, or what is computed instead.
_LEFT_OUT = re.compile(
    r"rotary_emb\.inv_freq$|\.attention\.(masked_)?bias$"
    r"|(^|\.)(vision_tower|vision_model|multi_modal_projector|audio_tower|visual)\."
)
_PREFIX = re.compile(r"^(model\.|language_model\.|text_model\.)+")
_TOP = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
_EXPERTS = {
    "gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
    "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps",
}  # fmt: skip
_EXPERT = re.compile(r"(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)$")
_BLOCK = re.compile(r"layers\.(\d+)\.(.+)$")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stored tensor goes: a tensor's name, and which expert's share of it it is."""

    name: str
    expert: int = -1  # the whole tensor


def place_of(stored: str, gemma: bool) -> Place | None:
    """Where a tensor of a checkpoint belongs; None when it has no place in a GGUF.

    `gemma`: norms stand after attention too, so that one name means another norm.

    Raises: KeyError for a name that is not known.
    """
    if _LEFT_OUT.search(stored):
        return None
    base, _, suffix = _PREFIX.sub("", stored).rpartition(".")
    if base in _TOP:
        return Place(f"{_TOP[base]}.{suffix}")
    block = _BLOCK.match(base)
    if block is None:
        raise KeyError(stored)
    layer, part = block[1], block[2]
    expert = _EXPERT.match(part)
    if expert is not None and expert[2] in _EXPERTS:
        return Place(f"blk.{layer}.{_EXPERTS[expert[2]]}.{suffix}", int(expert[1]))
    if gemma and part == "post_attention_layernorm":
        return Place(f"blk.{layer}.post_attention_norm.{suffix}")
    if part not in _LAYER:
        raise KeyError(stored)
    return Place(f"blk.{layer}.{_LAYER[part]}.{suffix}")
