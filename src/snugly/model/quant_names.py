"""Which part of a model a tensor is, by its name, as llama-quantize sees it.

Source: llama.cpp src/llama-quant.cpp, `tensor_get_category` and
`tensor_allows_quantization` (vendored in llama-cpp-python 0.3.36).
"""

from enum import Enum, auto

from snugly.model.types import Tensor


class Part(Enum):
    """The parts that the rules tell apart."""

    EMBEDDING = auto()
    OUTPUT = auto()
    ATTENTION_QKV = auto()  # query, key and value in one tensor
    ATTENTION_KV_B = auto()  # DeepSeek's second projection, before it was split in two
    ATTENTION_V = auto()
    ATTENTION_K = auto()
    ATTENTION_Q = auto()
    ATTENTION_OUTPUT = auto()
    FFN_UP = auto()
    FFN_GATE = auto()
    FFN_DOWN = auto()
    OTHER = auto()


# Parts that carry the values of attention, which suffer most from few bits.
VALUE_PARTS = frozenset({Part.ATTENTION_V, Part.ATTENTION_QKV, Part.ATTENTION_KV_B})

_WHOLE_NAMES = {
    "output.weight": Part.OUTPUT,
    "token_embd.weight": Part.EMBEDDING,
    "per_layer_token_embd.weight": Part.EMBEDDING,
}
# The first that occurs in the name decides, so the order counts.
_PIECES = (
    ("attn_qkv.weight", Part.ATTENTION_QKV),
    ("attn_kv_b.weight", Part.ATTENTION_KV_B),
    ("attn_v.weight", Part.ATTENTION_V),
    ("attn_k.weight", Part.ATTENTION_K),
    ("attn_q.weight", Part.ATTENTION_Q),
    ("attn_output.weight", Part.ATTENTION_OUTPUT),
    ("ffn_up", Part.FFN_UP),
    ("ffn_gate", Part.FFN_GATE),
    ("ffn_down", Part.FFN_DOWN),
)

# Names with one of these in them keep the type of the source file.
_NEVER = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",  # norms, routing
    "altup", "laurel", "per_layer_model_proj",  # Gemma 3n and 4
    "ssm_conv1d", "shortconv.conv.weight",  # convolutions of Mamba, Kimi, LFM2
    "indexer.k_proj.weight", "indexer.q_proj.weight",  # MiniMax
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight",  # RWKV, from here
    "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
    "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight",
    "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",  # T5
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",  # pictures and sound
)  # fmt: skip
_NEVER_WHOLE = frozenset({"position_embd.weight", "token_types.weight"})

GLM5_NEXT = "glm5-next"  # one architecture has a list of its own
_NEVER_GLM5_NEXT = (
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
    "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight",
    "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
    "attn_v_b.weight",
)  # fmt: skip


def part_of(name: str) -> Part:
    """The part a tensor's name says it is."""
    whole = _WHOLE_NAMES.get(name)
    if whole is not None:
        return whole
    return next((part for piece, part in _PIECES if piece in name), Part.OTHER)


def is_quantizable(tensor: Tensor, architecture: str) -> bool:
    """Whether llama-quantize changes this tensor's type at all.

    Vectors, norms, routers, convolutions, positions and other small tensors keep theirs.
    """
    name = tensor.name
    if n_dims(tensor.shape) < 2 or not name.endswith("weight") or name in _NEVER_WHOLE:
        return False
    if architecture == GLM5_NEXT and any(piece in name for piece in _NEVER_GLM5_NEXT):
        return False
    return not any(piece in name for piece in _NEVER)


def n_dims(shape: tuple[int, ...]) -> int:
    """Dimensions as ggml counts them: trailing extents of one do not count."""
    count = len(shape)
    while count > 1 and shape[count - 1] == 1:
        count -= 1
    return count
