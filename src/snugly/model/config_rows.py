"""The table language for tensors of a model, and the tensors that a filled table gives. Pure.

A row is a GGUF name, a shape in named sizes, and the sizes that must not be 0 for it to exist:

    Row("attn_q.weight", "embd q")                     always, embd x q
    Row("ffn_up.weight", "embd 2*ff", "ff")            where the layer has a dense network
    Row("output.weight", "embd vocab", "!tied")        unless the embeddings serve twice

Shapes are in GGUF order, the row length first. Which types a converter writes in an F16 file:
llama.cpp conversion/base.py, prepare_tensors.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from snugly.model.config_fields import Config
from snugly.model.ggml_types import row_bytes
from snugly.model.gguf import DEFAULT_ALIGNMENT
from snugly.model.types import Tensor

Sizes = dict[str, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of tensors."""

    name: str
    shape: str
    when: str = ""


@dataclass(slots=True)
class Shape:
    """A config read: sizes for all layers, what differs in some, and metadata of the GGUF.

    Metadata keys that start with a dot get the architecture's name in front.
    `expert_type` is the type of the experts' matrices, where a checkpoint has its own.
    """

    sizes: Sizes
    layers: list[Sizes]
    metadata: dict[str, Any] = field(default_factory=dict)
    expert_type: str = "F16"
    architecture: str = ""  # where one table serves several


# Kept in F32 whatever the file type. Source: llama.cpp conversion/base.py, prepare_tensors.
_ALWAYS_F32 = (
    "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ssm_conv1d.weight",
    "shortconv.conv.weight", "position_embd.weight", "token_types.weight",
)  # fmt: skip


def size_of(word: str, sizes: Sizes) -> int:
    """A size such as `embd`, `2*ff` or `3`."""
    product = 1
    for factor in word.split("*"):
        product *= int(factor) if factor.isdecimal() else sizes[factor]
    return product


def applies(row: Row, sizes: Sizes) -> bool:
    """Whether this row exists: all its conditions hold."""
    return all(
        not sizes.get(word[1:]) if word.startswith("!") else bool(sizes.get(word))
        for word in row.when.split()
    )


def type_of(name: str, n_dims: int, expert_type: str) -> str:
    """The type a converter writes this tensor with when asked for F16."""
    if n_dims <= 1 or not name.endswith(".weight") or name.endswith("_norm.weight"):
        return "F32"
    if name.endswith(_ALWAYS_F32) or ".indexer." in name:
        return "F32"
    return expert_type if name.endswith("_exps.weight") else "F16"


def tensors_of(
    top: tuple[Row, ...], layer: tuple[Row, ...], shape: Shape, config: Config
) -> tuple[Tensor, ...]:
    """All tensors of a filled table, offsets laid out one after the other.

    Raises: UserError naming the tensor when one comes out with an extent of 0.
    """
    rows = [(row.name, row.shape, shape.sizes) for row in top if applies(row, shape.sizes)]
    for number, own in enumerate(shape.layers):
        sizes = {**shape.sizes, **own}
        rows += [(f"blk.{number}.{r.name}", r.shape, sizes) for r in layer if applies(r, sizes)]
    tensors: list[Tensor] = []
    offset = 0
    for name, words, sizes in rows:
        extents = tuple(size_of(word, sizes) for word in words.split())
        if not all(extents):
            config.fail(name, f"With these values its shape would be {extents}")
        kind = type_of(name, len(extents), shape.expert_type)
        if extents[0] % 32 and kind == "MXFP4":
            kind = "F16"
        n_bytes = row_bytes(kind, extents[0]) * math.prod(extents[1:])
        tensors.append(Tensor(name, extents, kind, offset, n_bytes))
        offset += n_bytes + -n_bytes % DEFAULT_ALIGNMENT
    return tuple(tensors)


def rows(text: str) -> tuple[Row, ...]:
    """Rows from lines of `name: shape` or `name: shape if conditions`."""
    found = []
    for line in text.strip().splitlines():
        name, _, rest = line.partition(":")
        shape, _, when = rest.partition(" if ")
        found.append(Row(name.strip(), shape.strip(), when.strip()))
    return tuple(found)


EMBEDDING = rows("token_embd.weight: embd vocab")
TOP = EMBEDDING + rows("""
    output_norm.weight: embd
    output.weight: embd vocab if !tied
    rope_freqs.weight: rope_freqs if rope_freqs
    rope_factors_long.weight: rope_factors if rope_factors
    rope_factors_short.weight: rope_factors if rope_factors
""")
ATTN_NORM = rows("attn_norm.weight: embd")
QKV = rows("""
    attn_q.weight: embd q if q
    attn_q.bias: q if q qkv_bias
    attn_k.weight: embd k if k
    attn_k.bias: k if k qkv_bias
    attn_v.weight: embd v if v
    attn_v.bias: v if v qkv_bias
    attn_output.weight: o embd if q
    attn_output.bias: embd if q o_bias
""")
QK_NORM = rows("""
    attn_q_norm.weight: head if q
    attn_k_norm.weight: head if k
""")
FFN_NORM = rows("ffn_norm.weight: embd")
FFN = rows("""
    ffn_gate.weight: embd ff if ff
    ffn_gate.bias: ff if ff mlp_bias
    ffn_down.weight: ff embd if ff
    ffn_down.bias: embd if ff mlp_bias
    ffn_up.weight: embd ff if ff
    ffn_up.bias: ff if ff mlp_bias
""")
EXPERTS = rows("""
    ffn_gate_inp.weight: embd experts if experts
    exp_probs_b.bias: experts if experts routing_bias
    ffn_gate_exps.weight: embd ff_exp experts if experts
    ffn_down_exps.weight: ff_exp embd experts if experts
    ffn_up_exps.weight: embd ff_exp experts if experts
    ffn_gate_shexp.weight: embd ff_shared if experts ff_shared
    ffn_down_shexp.weight: ff_shared embd if experts ff_shared
    ffn_up_shexp.weight: embd ff_shared if experts ff_shared
""")
SHARED_GATE = rows("ffn_gate_inp_shexp.weight: embd 1 if experts ff_shared")
NEXTN = rows("""
    nextn.eh_proj.weight: 2*embd embd if nextn
    nextn.enorm.weight: embd if nextn
    nextn.hnorm.weight: embd if nextn
    nextn.embed_tokens.weight: embd vocab if nextn nextn_embeddings
    nextn.shared_head_head.weight: embd vocab if nextn nextn_head
    nextn.shared_head_norm.weight: embd if nextn
""")
POST_NORMS = rows("""
    post_attention_norm.weight: embd
    post_ffw_norm.weight: embd
""")
LATENT = rows("""
    attn_q.weight: embd q if !q_rank
    attn_q_a.weight: embd q_rank if q_rank
    attn_q_a_norm.weight: q_rank if q_rank
    attn_q_b.weight: q_rank q if q_rank
    attn_kv_a_mqa.weight: embd kv_a
    attn_kv_a_norm.weight: rank
    attn_k_b.weight: nope rank heads
    attn_v_b.weight: rank value heads
    attn_output.weight: o embd
""")
MAMBA = rows("""
    ssm_in.weight: embd 2*inner if state
    ssm_conv1d.weight: taps inner if state
    ssm_conv1d.bias: inner if state conv_bias
    ssm_x.weight: inner x if state
    ssm_dt_norm.weight: rank if state
    ssm_dt.weight: rank inner if state
    ssm_dt.bias: inner if state
    ssm_b_norm.weight: ssm if state
    ssm_c_norm.weight: ssm if state
    ssm_a: ssm inner if state
    ssm_d: inner if state
    ssm_out.weight: inner embd if state
""")
MAMBA2 = rows("""
    ssm_in.weight: embd in if state
    ssm_conv1d.weight: taps mixed if state
    ssm_conv1d.bias: mixed if state conv_bias
    ssm_dt.bias: ssm_heads if state
    ssm_a: 1 ssm_heads if state
    ssm_d: 1 ssm_heads if state
    ssm_norm.weight: group groups if state
    ssm_out.weight: inner embd if state
""")
