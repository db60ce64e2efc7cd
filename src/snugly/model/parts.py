"""A model's tensors grouped into the parts that people speak of: pure."""

import re
from collections import Counter
from dataclasses import dataclass

from snugly.model.types import ModelSpec, Tensor

# First match wins. Names as written by llama.cpp's converters (gguf.constants.TENSOR_NAMES).
_PARTS = (
    ("token embedding", r"^(token_embd|per_layer_token_embd|token_types|position_embd)\b"),
    ("output head", r"^output\.(weight|bias)$"),
    ("experts", r"_exps\."),
    ("router", r"ffn_gate_inp"),
    ("normalization", r"norm"),
    ("attention", r"\.(attn_|ssm_|time_mix)"),
    ("feed-forward", r"\.ffn_|channel_mix"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: how many tensors, parameters and bytes, and the types they are kept in.

    `types` maps a ggml type to the bytes that are kept in it.
    """

    name: str
    tensors: int
    parameters: int
    n_bytes: int
    types: dict[str, int]


def part_name(tensor: Tensor) -> str:
    """The part that a tensor belongs to, by its name."""
    for name, pattern in _PARTS:
        if re.search(pattern, tensor.name):
            return name
    return "other"


def parts_of(spec: ModelSpec) -> tuple[Part, ...]:
    """All parts of a model, largest first. Their bytes add up to `spec.weight_bytes`."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in spec.tensors:
        groups.setdefault(part_name(tensor), []).append(tensor)
    parts = []
    for name, tensors in groups.items():
        types: Counter[str] = Counter()
        for tensor in tensors:
            types[tensor.ggml_type] += tensor.n_bytes
        parts.append(
            Part(
                name,
                len(tensors),
                sum(tensor.n_elements for tensor in tensors),
                sum(tensor.n_bytes for tensor in tensors),
                dict(types.most_common()),
            )
        )
    return tuple(sorted(parts, key=lambda part: -part.n_bytes))
