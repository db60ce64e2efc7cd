"""What the rules of quantization ask of a model beside its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snugly.errors import UserError
from snugly.model.types import ModelSpec

# Architectures whose deepest models share one value tensor among 8 heads:
# (architecture, layers). Source: LLM_TYPE_70B in llama.cpp src/models/*.cpp.
_SEVENTY_B = {("llama", 80), ("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68)}


@dataclass(frozen=True, slots=True)
class QuantFacts:
    """What the rules ask of a model beside its tensors. Heads are those of the first layer."""

    architecture: str  # general.architecture: "llama", "qwen2", ...
    n_layers: int  # block_count, with the layers that predict further tokens
    n_heads: int
    n_kv_heads: int  # 0 where the first layer has no attention
    n_experts: int = 0  # per layer; 0 for a dense model

    @property
    def heads_per_kv(self) -> int:
        """Heads that share one key and value; llama.cpp's n_gqa."""
        return self.n_heads // self.n_kv_heads if self.n_kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp takes the model for a Llama 2 70B or one built like it."""
        if (self.architecture, self.n_layers) not in _SEVENTY_B:
            return False
        shares = self.n_heads != self.n_kv_heads and self.n_experts != 8
        return shares or self.architecture != "llama"


def facts_of(spec: ModelSpec) -> QuantFacts:
    """The facts of a model whose header was read.

    Where heads differ between layers the largest count stands for the first layer's; only
    `facts_from_metadata` is exact then.
    """
    return QuantFacts(
        spec.architecture,
        len(spec.layers),
        spec.n_heads,
        spec.layers[0].kv_heads if spec.layers else 0,
        spec.experts,
    )


def facts_from_metadata(metadata: Mapping[str, Any]) -> QuantFacts:
    """The facts as a GGUF header's metadata has them.

    Raises: UserError when the architecture or the number of layers is not there.
    """
    architecture = metadata.get("general.architecture")
    n_layers = metadata.get(f"{architecture}.block_count")
    if not isinstance(architecture, str) or not isinstance(n_layers, int):
        raise UserError(
            "The size of other quantizations of this model cannot be told.",
            "Its header names no architecture or no number of layers.",
            "Fetch the file again, or give another file of the same model.",
        )
    heads = _first(metadata.get(f"{architecture}.attention.head_count", 0))
    kv_heads = _first(metadata.get(f"{architecture}.attention.head_count_kv", heads))
    experts = _first(metadata.get(f"{architecture}.expert_count", 0))
    return QuantFacts(architecture, n_layers, heads, kv_heads, experts)


def _first(value: Any) -> int:
    found = value[0] if isinstance(value, list) and value else value
    return int(found) if isinstance(found, int) else 0
