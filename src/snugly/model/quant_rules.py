"""Which type llama-quantize gives each tensor, for every named quantization. Pure.

A name such as Q4_K_M is a mixture: values of attention and the way out of the
feed-forward part get more bits in some layers, small rows fall back on other types.

Source: llama.cpp src/llama-quant.cpp (vendored in llama-cpp-python 0.3.36); what that
library answers for many models is in tests/golden/quant.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from snugly.model.ggml_types import TENSOR_TYPES, row_bytes
from snugly.model.quant_facts import QuantFacts
from snugly.model.quant_mixtures import (
    NEED_MATRIX,
    UNQUANTIZED,
    Mixture,
    fitting_type,
    fixed_type,
    mixture_of,
)
from snugly.model.quant_names import GLM5_NEXT, VALUE_PARTS, Part, is_quantizable, part_of
from snugly.model.quant_parts import EMBEDDINGS, LAYER, LOWEST, Pass, rule_for
from snugly.model.types import Tensor

_BLOCKS = {name: block for name, block, _ in TENSOR_TYPES.values()}
_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT; llama-quantize always writes with it


def quantized(
    tensors: Sequence[Tensor],
    facts: QuantFacts,
    type_name: str,
    *,
    imatrix: bool = False,
    embeddings: str | None = None,
    fused_as_values: bool = True,
    file_order: bool = False,
    named: Callable[[str], str | None] | None = None,
) -> tuple[Tensor, ...]:
    """The tensors of the file that llama-quantize would write, in its order.

    `tensors` are those of any GGUF of the model, or made from its config; tensors that
    are never quantized keep the type they have there. `type_name` is "Q4_K_M", "IQ2_XS",
    "F16", ... or a publisher's "Q4_K_L". `imatrix`: with an importance matrix, which
    changes a few types and is implied where nothing can be written without.
    `embeddings` keeps embeddings and output in that type.
    `fused_as_values=False` is the rule of older llama.cpp for models with query, key and
    value in one tensor (Phi-3, GLM-4, Falcon): use it for files published with it.
    `file_order=True` counts layers in the order given, as older llama.cpp did
    (files sorted "blk.1, blk.10, blk.11"): other layers get more bits, as many of them.
    `named` gives tensors a type by name; where it says None the rules decide. A tensor that
    it names does not count as a layer for the rules, as with `llama-quantize --tensor-type`.

    Raises: UserError when the name is not known or rows fit no type.
    """
    mixture = mixture_of(type_name, embeddings)
    ordered = list(tensors) if file_order else sorted(tensors, key=_order)
    rules = _Rules(mixture, facts, imatrix, fused_as_values, ordered)
    rules.named = named or rules.named
    result: list[Tensor] = []
    offset = 0
    for tensor in ordered:
        kind = rules.type_of(tensor)
        n_bytes = row_bytes(kind, tensor.shape[0]) * (tensor.n_elements // tensor.shape[0])
        result.append(replace(tensor, ggml_type=kind, offset=offset, n_bytes=n_bytes))
        offset += n_bytes + -n_bytes % _ALIGNMENT
    return tuple(result)


def _order(tensor: Tensor) -> tuple[int, str]:
    """By layer, then by name. Counterpart: llama_model_loader::weight_name_comparer."""
    match = LAYER.match(tensor.name)
    return (int(match[1]) if match else -1, tensor.name)


class _Rules:
    """The rules at work on one model."""

    def __init__(
        self,
        mixture: Mixture,
        facts: QuantFacts,
        imatrix: bool,
        fused_as_values: bool,
        tensors: Sequence[Tensor],
    ) -> None:
        parts = [part_of(tensor.name) for tensor in tensors]
        n_values = sum(part in VALUE_PARTS for part in parts)
        self.mixture = mixture
        self.named: Callable[[str], str | None] = lambda _: None
        matrix = imatrix or mixture.name in NEED_MATRIX
        self.so_far = Pass(mixture.name, mixture.main, facts, matrix, n_values)
        self.tied = Part.OUTPUT not in parts
        self.values = VALUE_PARTS if fused_as_values else frozenset({Part.ATTENTION_V})

    def type_of(self, tensor: Tensor) -> str:
        """llama_tensor_get_type."""
        if not is_quantizable(tensor, self.so_far.facts.architecture):
            return tensor.ggml_type
        named = self.named(tensor.name)
        if named is not None:
            return fitting_type(named, tensor.shape[0], _BLOCKS)
        part = part_of(tensor.name)
        if self.mixture.embeddings and part in (Part.EMBEDDING, Part.OUTPUT):
            return fixed_type(self.mixture.embeddings, tensor.shape[0], _BLOCKS)
        if self.mixture.main in UNQUANTIZED:
            return self.mixture.main
        return fitting_type(self._chosen(tensor, part), tensor.shape[0], _BLOCKS)

    def _chosen(self, tensor: Tensor, part: Part) -> str:
        """llama_tensor_get_type_impl: the type before small rows fall back."""
        so_far = self.so_far
        if so_far.facts.architecture == GLM5_NEXT and any(
            piece in tensor.name for piece in ("attn_q_a", "attn_q_b", "nextn.eh_proj")
        ):
            return "Q8_0"
        if part is Part.OUTPUT or (self.tied and part is Part.EMBEDDING):
            return _output(so_far, tensor.shape[0])
        if so_far.name == "MXFP4_MOE":
            return _mxfp4(so_far, tensor, part)
        if part is Part.EMBEDDING:
            return EMBEDDINGS.get(so_far.name, so_far.main)
        is_value = part in self.values
        rule = rule_for(so_far.name, part, is_value)
        chosen = rule(so_far, tensor) if rule else None
        so_far.seen[part] += 1
        so_far.values_seen += is_value
        return chosen or so_far.main


def _output(so_far: Pass, row: int) -> str:
    """The output, and embeddings that serve as output too."""
    if so_far.name == "MXFP4_MOE" or so_far.falcon or row % _BLOCKS[so_far.main]:
        return "Q8_0"
    if so_far.name in LOWEST or so_far.name == "IQ3_XXS":
        return "Q5_K"
    return so_far.main if so_far.main == "Q8_0" else "Q6_K"


def _mxfp4(so_far: Pass, tensor: Tensor, part: Part) -> str:
    """Experts in MXFP4, the rest in Q8_0. Bailing MoE 3 has other stacks than experts."""
    stacked = len(tensor.shape) > 2 and tensor.shape[2] > 1
    expert = part in (Part.FFN_UP, Part.FFN_GATE, Part.FFN_DOWN)
    if stacked and (expert or so_far.facts.architecture != "bailingmoe3"):
        return "MXFP4"
    return "Q8_0"
