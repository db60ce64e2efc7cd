"""What kind of decoder a GGUF holds: the facts that its arithmetic needs. Pure.

Known are decoders of Llama's build: norm, attention, norm, gated feed-forward. What an
architecture does otherwise stands in `_KINDS`; anything else is refused here, and what we
compute is compared with the engine before it is trusted (`sensitivity_check`).

Source: llama.cpp src/models/{llama,qwen2,qwen3,gemma,gemma2,gemma3,phi3,granite}.cpp.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snugly.errors import UserError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Kind:
    halves: bool  # rotary pairs as in NeoX
    gelu: bool = False
    scaled: bool = False  # embeddings times the root of their length
    period: int = 0  # every so many layers one attends to all, the others to a window
    local_base: float = 0.0  # rotary base of layers with a window, when it is another


_KINDS = {
    "llama": _Kind(halves=False),
    "mistral3": _Kind(halves=False),
    "granite": _Kind(halves=False),
    "qwen2": _Kind(halves=True),
    "qwen3": _Kind(halves=True),
    "phi3": _Kind(halves=True),
    "gemma": _Kind(halves=True, gelu=True, scaled=True),
    "gemma2": _Kind(halves=True, gelu=True, scaled=True, period=2),
    "gemma3": _Kind(halves=True, gelu=True, scaled=True, period=6, local_base=10_000.0),
}
_LAYER_PARTS = re.compile(
    r"attn_norm|attn_(q|k|v|qkv|output)(\.bias)?|attn_(q|k)_norm|post_attention_norm|"
    r"ffn_norm|ffn_(gate|up|down)(\.bias)?|post_ffw_norm|attn_rot_embd|rope_freqs"
)
_OTHERS = frozenset({
    "token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight",
    "rope_factors_short.weight", "rope_factors_long.weight",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of Llama's build."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    length: int  # of a head's query and key
    value_length: int
    epsilon: float
    halves: bool
    gelu: bool
    turned: int  # numbers of a head that are turned
    base: float
    local_base: float
    position_scale: float  # of layers without a window
    window: int  # 0: all attend to everything
    period: int
    attention_scale: float
    attention_cap: float
    logit_cap: float
    embedding_scale: float
    residual_scale: float
    logit_scale: float  # logits are divided by it
    rotary_scale: float  # of cosines and sines

    def has_window(self, layer: int) -> bool:
        """Whether a layer attends to the last `window` places alone."""
        return bool(self.window) and bool(self.period) and (layer + 1) % self.period != 0

    def angles(self, places: int, layer: int, factors: Floats | None) -> tuple[Floats, Floats]:
        """Cosines and sines [places, turned / 2]; `factors` divide the frequencies."""
        local = self.has_window(layer) and self.local_base
        base = self.local_base if local else self.base
        steps = base ** (-np.arange(0, self.turned, 2, dtype=np.float64) / self.turned)
        if factors is not None:
            steps /= factors[: len(steps)]
        if not local:
            steps *= self.position_scale
        turns = np.arange(places, dtype=np.float64)[:, None] * steps
        return (
            (np.cos(turns) * self.rotary_scale).astype(np.float32),
            (np.sin(turns) * self.rotary_scale).astype(np.float32),
        )


def shape_of(metadata: Mapping[str, Any], tensors: Iterable[str]) -> Shape:
    """The shape of a model by its metadata and the names of its tensors.

    Raises: UserError when it is no decoder of a build that is known.
    """
    architecture = str(metadata.get("general.architecture"))
    kind = _KINDS.get(architecture)
    strange = next((name for name in tensors if not _known(name)), None)
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind is None or strange or scaling not in ("none", "linear", "longrope"):
        raise _unknown(architecture, strange, scaling)

    def fact(key: str, default: Any = None) -> Any:
        found = metadata.get(f"{architecture}.{key}", default)
        if found is None or isinstance(found, list):
            raise _unknown(architecture, f"{key} is {found}", "none")
        return found

    width, heads = int(fact("embedding_length")), int(fact("attention.head_count"))
    length = int(fact("attention.key_length", width // heads))
    factor = float(fact("rope.scaling.factor", 1.0)) if scaling == "linear" else 1.0
    window = int(fact("attention.sliding_window", 0))
    return Shape(
        layers=int(fact("block_count")),
        width=width,
        heads=heads,
        kv_heads=int(fact("attention.head_count_kv", heads)),
        length=length,
        value_length=int(fact("attention.value_length", length)),
        epsilon=float(fact("attention.layer_norm_rms_epsilon")),
        halves=kind.halves,
        gelu=kind.gelu,
        turned=int(fact("rope.dimension_count", length)),
        base=float(fact("rope.freq_base", 10_000.0)),
        local_base=kind.local_base,
        position_scale=1 / factor,
        window=window if kind.period else 0,
        period=kind.period,
        attention_scale=_attention_scale(architecture, metadata, width, heads, length),
        attention_cap=float(fact("attn_logit_softcapping", 0.0)),
        logit_cap=float(fact("final_logit_softcapping", 0.0)),
        embedding_scale=math.sqrt(width) if kind.scaled else float(fact("embedding_scale", 1.0)),
        residual_scale=float(fact("residual_scale", 1.0)) or 1.0,
        logit_scale=float(fact("logit_scale", 1.0)) or 1.0,
        rotary_scale=float(fact("rope.scaling.attn_factor", 1.0)) or 1.0,
    )


def _attention_scale(
    architecture: str, metadata: Mapping[str, Any], width: int, heads: int, length: int
) -> float:
    """By head length; two models of 27 billion parameters have another (gemma2/3.cpp)."""
    layers = metadata.get(f"{architecture}.block_count")
    if (architecture, layers) in (("gemma2", 46), ("gemma3", 62)):
        return float((width / heads) ** -0.5)
    return float(metadata.get(f"{architecture}.attention.scale") or length**-0.5)


def _known(name: str) -> bool:
    if name in _OTHERS:
        return True
    parts = name.split(".", 2)
    return (
        parts[0] == "blk"
        and len(parts) == 3
        and bool(_LAYER_PARTS.fullmatch(parts[2].removesuffix(".weight")))
    )


def _unknown(architecture: str, strange: str | None, scaling: str) -> UserError:
    why = f"it has {strange}" if strange else f"its rotary embedding is scaled by {scaling}"
    if architecture not in _KINDS:
        why = f"its architecture is {architecture}"
    return UserError(
        "What matters in this model cannot be computed.",
        f"Snugly does so for {', '.join(sorted(_KINDS))} without experts; {why}.",
        "Choose a type with --to instead of a size.",
    )
