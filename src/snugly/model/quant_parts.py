"""The rules themselves: for each part of a model, the type it gets in each mixture. Pure.

A rule takes the pass over the model so far and one tensor, and returns a type, or None
for the mixture's main type.

Source: llama.cpp src/llama-quant.cpp, `llama_tensor_get_type_impl` (vendored in
llama-cpp-python 0.3.36).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from snugly.errors import UserError
from snugly.model.quant_facts import QuantFacts
from snugly.model.quant_names import Part
from snugly.model.types import Tensor

LAYER = re.compile(r"blk\.(\d+)\.")
LOWEST = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
_TWO_BIT_S_M = frozenset({"IQ2_S", "IQ2_M"})


@dataclass(slots=True)
class Pass:
    """One pass over a model's tensors, counting as it goes: quantize_state_impl."""

    name: str  # of the mixture
    main: str  # its main type
    facts: QuantFacts
    imatrix: bool
    n_values: int  # value tensors in all
    values_seen: int = 0  # value tensors that came before
    seen: dict[Part, int] = field(default_factory=lambda: dict.fromkeys(Part, 0))

    @property
    def falcon(self) -> bool:
        """Falcon has rules of its own."""
        return self.facts.architecture == "falcon"

    @property
    def eight_experts(self) -> bool:
        """Mixtral, and whatever else has eight experts, has rules of its own."""
        return self.facts.n_experts == 8

    def layer(self, tensor: Tensor, part: Part) -> int:
        """The layer by count, or by name where a mixture of experts has several per layer.

        Raises: UserError when the name tells no layer.
        """
        if self.facts.n_experts <= 1:
            return self.seen[part]
        match = LAYER.match(tensor.name)
        if match is None or int(match[1]) >= self.facts.n_layers:
            raise UserError(
                "The size of other quantizations of this model cannot be told.",
                f"Its tensor {tensor.name!r} belongs to none of its {self.facts.n_layers} layers.",
                "Fetch the file again, or give another file of the same model.",
            )
        return int(match[1])

    def in_first(self, share: int, layer: int) -> bool:
        """Whether a layer is in the first 1/`share` of all."""
        return layer < self.facts.n_layers // share


def more_bits(index: int, count: int) -> bool:
    """The first and last eighth, and every third between: use_more_bits."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2


Rule = Callable[[Pass, Tensor], str | None]  # None: the mixture's main type

# Embeddings that have an output beside them.
EMBEDDINGS = {
    "IQ1_S": "Q2_K", "IQ1_M": "Q2_K", "IQ2_XXS": "Q2_K", "IQ2_XS": "Q2_K",
    "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S", "TQ1_0": "Q4_K", "TQ2_0": "Q4_K",
    "Q2_0": "Q4_K",
}  # fmt: skip


def rule_for(name: str, part: Part, is_value: bool) -> Rule | None:
    """The rule for a part in a mixture; None where the mixture's main type is meant."""
    if name in LOWEST:
        return _lowest_values if is_value else _LOWEST_RULES.get(part)
    return _values if is_value else _RULES.get(part)


def _lowest_values(so_far: Pass, _tensor: Tensor) -> str:
    if so_far.facts.heads_per_kv >= 4 or so_far.facts.n_experts >= 4:
        return "Q4_K"
    return "IQ3_S" if so_far.name in _TWO_BIT_S_M else "Q2_K"


def _lowest_keys(so_far: Pass, _tensor: Tensor) -> str | None:
    return "Q4_K" if so_far.eight_experts else None


def _lowest_down(so_far: Pass, _tensor: Tensor) -> str | None:
    # By count even for experts, unlike the other mixtures.
    if not so_far.in_first(8, so_far.seen[Part.FFN_DOWN]):
        return None
    return "IQ3_S" if so_far.name in _TWO_BIT_S_M else "Q2_K"


def _lowest_attention_output(so_far: Pass, _tensor: Tensor) -> str | None:
    if so_far.eight_experts:
        return "Q5_K"
    if so_far.name in ("IQ1_S", "IQ1_M"):
        return "IQ2_XXS"
    return "IQ3_S" if so_far.name in _TWO_BIT_S_M else None


# With at least four heads to a value.
_SHARED_VALUES = {
    "Q2_K": "Q4_K", "Q2_K_S": "Q4_K", "IQ3_XXS": "Q4_K", "IQ3_XS": "Q4_K", "IQ3_S": "Q4_K",
    "IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K",
}  # fmt: skip


def _values(so_far: Pass, _tensor: Tensor) -> str | None:
    if so_far.eight_experts:
        return "Q8_0"
    chosen = _values_by_name(so_far) or so_far.main
    if so_far.facts.is_70b and chosen in ("Q3_K", "Q4_K"):
        return "Q5_K"
    return chosen


def _values_by_name(so_far: Pass) -> str | None:
    name, index = so_far.name, so_far.values_seen
    if name in _SHARED_VALUES and so_far.facts.heads_per_kv >= 4:
        return _SHARED_VALUES[name]
    if name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if more_bits(index, so_far.n_values) else None
    return {
        "Q2_K": "Q3_K",
        "IQ3_XXS": "IQ3_XXS" if so_far.imatrix else "IQ3_S",
        "IQ3_M": "Q4_K",
        "Q3_K_M": "Q5_K" if index < 2 else "Q4_K",
        "Q3_K_L": "Q5_K",
        "Q4_K_S": "Q5_K" if index < 4 else None,
    }.get(name)


def _keys(so_far: Pass, tensor: Tensor) -> str | None:
    return "Q8_0" if so_far.eight_experts else _queries(so_far, tensor)


def _queries(so_far: Pass, _tensor: Tensor) -> str | None:
    return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(so_far.name)


def _down(so_far: Pass, tensor: Tensor) -> str | None:
    layer = so_far.layer(tensor, Part.FFN_DOWN)
    if so_far.name.startswith(("Q2_K", "Q3_K", "IQ3")):
        return _down_below_four(so_far, layer)
    return _down_from_four(so_far, layer)


def _down_below_four(so_far: Pass, layer: int) -> str | None:
    first = so_far.in_first(8, layer)
    more = more_bits(layer, so_far.facts.n_layers)
    if so_far.name == "IQ3_XXS" and so_far.imatrix:
        return None
    if so_far.name == "Q3_K_M" and so_far.in_first(16, layer):
        return "Q5_K"
    return {
        "Q2_K": "Q3_K",
        "Q2_K_S": "Q4_K" if first else None,
        "IQ3_XXS": "Q4_K" if first else "Q3_K",
        "IQ3_M": "Q4_K" if first or (so_far.eight_experts and more) else None,
        "Q3_K_M": "Q4_K" if not so_far.falcon or more else "Q3_K",
        "Q3_K_L": "Q4_K" if so_far.falcon else "Q5_K",
    }.get(so_far.name)


def _down_from_four(so_far: Pass, layer: int) -> str | None:
    first = so_far.in_first(8, layer)
    more = more_bits(layer, so_far.facts.n_layers)
    if so_far.name == "Q4_K_M" and so_far.falcon:
        return "Q6_K" if so_far.in_first(16, layer) else "Q5_K" if more else None
    if so_far.name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if more else None
    if not first:
        return None
    if so_far.name == "Q4_K_S":
        return None if so_far.falcon else "Q5_K"
    if so_far.imatrix:
        return {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}.get(so_far.name)
    return "Q5_K" if so_far.name in ("IQ4_NL", "IQ4_XS") else None


_EIGHT_EXPERTS_OUTPUT = frozenset({
    "Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S",
    "IQ3_M", "IQ4_XS",
})  # fmt: skip


def _attention_output(so_far: Pass, _tensor: Tensor) -> str | None:
    if so_far.falcon:
        return "Q4_K" if so_far.name == "Q3_K_L" else None
    if so_far.eight_experts:
        return "Q5_K" if so_far.name in _EIGHT_EXPERTS_OUTPUT else None
    return {
        "Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K",
    }.get(so_far.name)  # fmt: skip


def _fused(so_far: Pass, _tensor: Tensor) -> str | None:
    """Query, key and value in one tensor, in older llama.cpp."""
    return {
        "Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K",
    }.get(so_far.name)  # fmt: skip


def _gate(so_far: Pass, tensor: Tensor) -> str | None:
    return _middle(so_far, tensor, Part.FFN_GATE)


def _up(so_far: Pass, tensor: Tensor) -> str | None:
    return _middle(so_far, tensor, Part.FFN_UP)


def _middle(so_far: Pass, tensor: Tensor, part: Part) -> str | None:
    layer = so_far.layer(tensor, part)
    n_layers = so_far.facts.n_layers
    middle = n_layers // 8 <= layer < 7 * n_layers // 8
    return "IQ3_XXS" if so_far.name == "IQ3_XS" and middle else None


_LOWEST_RULES: dict[Part, Rule] = {
    Part.ATTENTION_K: _lowest_keys,
    Part.FFN_DOWN: _lowest_down,
    Part.ATTENTION_OUTPUT: _lowest_attention_output,
}
_RULES: dict[Part, Rule] = {
    Part.ATTENTION_K: _keys,
    Part.ATTENTION_Q: _queries,
    Part.ATTENTION_QKV: _fused,
    Part.ATTENTION_OUTPUT: _attention_output,
    Part.FFN_DOWN: _down,
    Part.FFN_GATE: _gate,
    Part.FFN_UP: _up,
}
