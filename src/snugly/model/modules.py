"""What a transformers model is made of: its parameters and buffers, and a table language. Pure.

A line of a table is a module's path, what it is, and its sizes by name:

    self_attn.q_proj: linear embd q +qkv_bias     weight [q, embd]; a bias where qkv_bias is not 0
    mlp.experts.down_proj: experts experts embd ff_exp if experts
    rotary_emb.inv_freq: f32 rot                  a buffer that is float32 whatever the model is

The named sizes are those that `model.config` reads out of a config.json. Names, shapes and
kinds: transformers 5.23, models/*/modeling_*.py; `bench/footprint.py` holds them against the
real classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from snugly.model.config_fields import Config
from snugly.model.config_rows import Sizes, size_of


class Kind(StrEnum):
    """What a weight is; it decides which quantizers touch it."""

    LINEAR = "linear layers"  # torch.nn.Linear and GPT-2's Conv1D: bitsandbytes replaces these
    KEPT_LINEAR = "linear layers of a class of their own"  # subclasses: left as they are
    EXPERTS = "experts"  # one 3-D parameter for all experts of a layer
    ROUTER = "routers"
    EMBEDDING = "embeddings"
    HEAD = "output head"
    NORM = "norms"
    BIAS = "biases"
    OTHER = "other parameters"  # convolutions, sinks, state-space parameters, scales
    BUFFER = "buffers"


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter or buffer, by its name in the model. `shape` as torch prints it."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    dtype: str = ""  # fixed: "float32", "int64", "bool"; empty: that of the model
    inputs_first: bool = False  # GPT-2's Conv1D keeps [inputs, outputs]

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table."""

    path: str
    word: str
    sizes: tuple[str, ...]
    bias: str  # the size that decides about a bias; "" none, "1" always
    when: tuple[str, ...]


def nothing_more(config: Config, sizes: Sizes) -> None:
    """Adds no sizes."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The modules of one transformers class, in the order of its own parameters.

    `float32` are parts of names that stay float32 in float16 and bfloat16, `float32_in_float16`
    in float16 alone (`_keep_in_fp32_modules_strict` and `_keep_in_fp32_modules`).
    `more` adds sizes that only transformers needs. `vision` is what becomes of a config's
    `vision_config`.
    """

    class_name: str
    model_types: tuple[str, ...]
    before: tuple[Line, ...]
    layer: tuple[Line, ...]
    after: tuple[Line, ...]
    layers: str = "model.layers"
    more: Callable[[Config, Sizes], None] = nothing_more
    float32: tuple[str, ...] = ()
    float32_in_float16: tuple[str, ...] = ()
    rotated: float = 1.0  # the part of a head that is rotated, where a config does not say
    vision: str = "apart"  # one of modules_vision.TOWERS; apart: AutoModelForCausalLM leaves it out
    text_class: bool = True  # without a vision_config the language model has a class of its own


_DTYPES = {"f32": "float32", "i64": "int64", "bool": "bool", "buffer": ""}
_BARE = {"experts": Kind.EXPERTS, "param": Kind.OTHER}
_OWNERS = {
    "linear": Kind.LINEAR, "conv1d": Kind.LINEAR, "own": Kind.KEPT_LINEAR, "head": Kind.HEAD,
    "router": Kind.ROUTER, "table": Kind.EMBEDDING, "norm": Kind.NORM, "conv": Kind.OTHER,
}  # fmt: skip
# Written with inputs first, as people do; torch keeps [outputs, inputs].
_TURNED = frozenset({"linear", "own", "head", "router"})


def lines(text: str) -> tuple[Line, ...]:
    """Lines of a table: `path: word sizes [+bias] [if conditions]`."""
    found = []
    for row in text.strip().splitlines():
        path, _, rest = row.strip().partition(": ")
        what, _, when = rest.partition(" if ")
        word, *sizes = what.split()
        bias = ""
        if sizes and sizes[-1].startswith("+"):
            bias = sizes.pop()[1:] or "1"
        found.append(Line(path, word, tuple(sizes), bias, tuple(when.split())))
    return tuple(found)


def weights_of(line: Line, sizes: Sizes, prefix: str = "") -> Iterator[Weight]:
    """The parameters or the buffer of one line; none where its conditions do not hold.

    Raises: ValueError when a size comes out as 0.
    """
    for condition in line.when:
        wanted = not condition.startswith("!")
        if bool(sizes.get(condition.removeprefix("!"))) is not wanted:
            return
    path = prefix + line.path
    shape = tuple(size_of(word, sizes) for word in line.sizes)
    if not all(shape):
        raise ValueError(f"{path} would have the shape {shape}")
    if line.word in _DTYPES:
        yield Weight(path, shape, Kind.BUFFER, _DTYPES[line.word])
        return
    if line.word in _BARE:
        yield Weight(path, shape, _BARE[line.word])
        return
    turned = shape[::-1] if line.word in _TURNED else shape
    inputs_first = line.word == "conv1d"
    yield Weight(f"{path}.weight", turned, _OWNERS[line.word], inputs_first=inputs_first)
    if line.bias == "1" or sizes.get(line.bias):
        width = shape[1] if line.word in _TURNED or inputs_first else shape[0]
        yield Weight(f"{path}.bias", (width,), Kind.BIAS)


def rotary(prefix: str = "model.") -> tuple[Line, ...]:
    """The frequencies of rotary positions; they are kept twice."""
    return lines(f"""
        {prefix}rotary_emb.inv_freq: f32 rot if rot
        {prefix}rotary_emb.original_inv_freq: f32 rot if rot
    """)


ROTARY_TWO_KINDS = lines("""
    model.rotary_emb.full_attention_inv_freq: f32 rot_full if rot_full
    model.rotary_emb.full_attention_original_inv_freq: f32 rot_full if rot_full
    model.rotary_emb.sliding_attention_inv_freq: f32 rot if rot
    model.rotary_emb.sliding_attention_original_inv_freq: f32 rot if rot
""")
BEFORE = lines("model.embed_tokens: table vocab embd")
SCALED = lines("model.embed_tokens.embed_scale: buffer")  # Gemma's, a single number
HEAD = lines("lm_head: head embd vocab if !tied")
AFTER = lines("model.norm: norm embd") + HEAD + rotary()
ATTENTION = lines("""
    self_attn.q_proj: linear embd q +qkv_bias if q
    self_attn.k_proj: linear embd k +qkv_bias if k
    self_attn.v_proj: linear embd v +qkv_bias if v
    self_attn.o_proj: linear o embd +o_bias if q
""")
QK_NORM = lines("""
    self_attn.q_norm: norm head if q
    self_attn.k_norm: norm head if k
""")
WIDE_QK_NORM = lines("""
    self_attn.q_norm: norm q
    self_attn.k_norm: norm k
""")
MLP = lines("""
    mlp.gate_proj: linear embd ff +mlp_bias if ff
    mlp.up_proj: linear embd ff +mlp_bias if ff
    mlp.down_proj: linear ff embd +mlp_bias if ff
""")
FUSED_MLP = lines("""
    mlp.gate_up_proj: linear embd 2*ff
    mlp.down_proj: linear ff embd
""")
NORMS = lines("""
    input_layernorm: norm embd
    post_attention_layernorm: norm embd
""")
POST_NORMS = lines("""
    post_attention_layernorm: norm embd
    post_feedforward_layernorm: norm embd
""")
GEMMA_NORMS = NORMS + lines("""
    pre_feedforward_layernorm: norm embd
    post_feedforward_layernorm: norm embd
""")
EXPERTS = lines("""
    mlp.experts.gate_up_proj: experts experts 2*ff_exp embd if experts
    mlp.experts.down_proj: experts experts embd ff_exp if experts
    mlp.gate: router embd experts if experts
    mlp.gate.e_score_correction_bias: f32 experts if experts routing_bias
""")
SHARED = lines("""
    mlp.shared_experts.gate_proj: linear embd ff_shared if experts ff_shared
    mlp.shared_experts.up_proj: linear embd ff_shared if experts ff_shared
    mlp.shared_experts.down_proj: linear ff_shared embd if experts ff_shared
""")
QWEN_SHARED = lines("""
    mlp.shared_expert.gate_proj: linear embd ff_shared if experts ff_shared
    mlp.shared_expert.up_proj: linear embd ff_shared if experts ff_shared
    mlp.shared_expert.down_proj: linear ff_shared embd if experts ff_shared
    mlp.shared_expert_gate: linear embd 1 if experts ff_shared
""")
LATENT = lines("""
    self_attn.q_proj: linear embd q if !q_rank
    self_attn.q_a_proj: linear embd q_rank +qkv_bias if q_rank
    self_attn.q_a_layernorm: norm q_rank if q_rank
    self_attn.q_b_proj: linear q_rank q if q_rank
    self_attn.kv_a_proj_with_mqa: linear embd kv_a +qkv_bias
    self_attn.kv_a_layernorm: norm rank
    self_attn.kv_b_proj: linear rank kv_b
    self_attn.o_proj: linear o embd +o_bias
""")
