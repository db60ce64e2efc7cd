"""From a GGUF header to a ModelSpec: what planning needs, each value checked.

Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import os
import re
from typing import Any, NoReturn

from snugly.errors import BadModelFile
from snugly.model.ggml_types import FILE_TYPES
from snugly.model.gguf import read_header
from snugly.model.types import Attention, AttentionKind, GgufHeader, ModelSpec, Tensor

# Which layers slide when the header does not say: every `period`-th layer is full, the
# last of each group, or the first where `dense_first`.
# Source: llama.cpp src/models/*.cpp, the arguments of load_swa_pattern.
SLIDING_PERIODS: dict[str, tuple[int, bool]] = {
    "afmoe": (4, False), "cohere2": (4, False), "cohere2moe": (4, True),
    "exaone-moe": (4, False), "exaone4": (4, False), "gemma2": (2, False),
    "gemma3": (6, False), "gemma3n": (5, False), "gpt-oss": (2, False),
    "llama4": (4, False), "olmo2": (4, False), "plamo3": (8, False),
    "smallthinker": (4, True),
}  # fmt: skip

_ENCODERS = ("bert", "modern-bert", "nomic-bert", "jina-bert", "t5encoder", "gemma-embedding")
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_TOKENS = "tokenizer.ggml.tokens"
_MOST_LAYERS = 4096  # far above any model; bounds what a damaged header can make us build


class _Fields:
    """Typed access to metadata; a wrong type or range names the key."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.architecture = self.text("general.architecture")
        if not self.architecture:
            self.fail("general.architecture", "It is missing, so nothing else can be understood")

    def fail(self, key: str, why: str) -> NoReturn:
        name = os.path.basename(self.header.path)
        raise BadModelFile(
            f"{name} is not a usable model: metadata key {key!r}.",
            f"{why} ({self.header.path}).",
            "Fetch it again with `snugly pull`, or ask whoever made the file.",
        )

    def text(self, key: str, default: str = "") -> str:
        value = self.header.metadata.get(key, default)
        if not isinstance(value, str):
            self.fail(key, f"It is {_shown(value)}, not text")
        return str(value)

    def count(self, key: str, default: int | None = None, most: int = 1 << 31) -> int:
        value = self.header.metadata.get(key, default)
        if value is None:
            self.fail(key, "It is missing")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.fail(key, f"It is {_shown(value)}, not a count up to {most}")
        return int(value)

    def own(self, name: str, default: int | None = None, most: int = 1 << 31) -> int:
        return self.count(f"{self.architecture}.{name}", default, most)

    def per_layer(self, name: str, n_layers: int, default: int) -> list[int]:
        """A count that is one number for all layers, or an array with one for each."""
        key = f"{self.architecture}.{name}"
        value = self.header.metadata.get(key)
        if isinstance(value, list) or key in self.header.lengths:
            if not isinstance(value, list) or len(value) < n_layers:
                self.fail(key, f"It has {self.header.lengths.get(key)} values, not {n_layers}")
            if any(isinstance(v, float | str) or not 0 <= v < 1 << 31 for v in value):
                self.fail(key, "One of its values is not a count")
            return [int(v) for v in value[:n_layers]]
        return [self.count(key, default)] * n_layers


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def split_parts(path: str | os.PathLike[str]) -> list[str]:
    """All files of a split model in order, or just `path` when it is whole."""
    where = os.fspath(path)
    match = _SPLIT.search(where)
    if match is None:
        return [where]
    stem = where[: match.start()]
    return [f"{stem}-{n:05d}-of-{match[2]}.gguf" for n in range(1, int(match[2]) + 1)]


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read what planning needs from a GGUF's header, or from all headers of a split one.

    Raises: BadModelFile naming the file and the field.
    """
    parts = split_parts(path)
    if len(parts) > 1:
        missing = [part for part in parts if not os.path.exists(part)]
        if missing:
            raise BadModelFile(
                f"{os.path.basename(parts[0])} is split and not all of it is here.",
                f"{len(missing)} of {len(parts)} parts are missing, such as {missing[0]}.",
                "Fetch it again with `snugly pull`.",
            )
    headers = [read_header(part, frozenset({_TOKENS})) for part in parts]
    return spec_of(headers[0], [tensor for header in headers for tensor in header.tensors],
                   sum(header.file_bytes for header in headers))  # fmt: skip


def spec_of(header: GgufHeader, tensors: list[Tensor], file_bytes: int) -> ModelSpec:
    """The spec of a model from its first header and all its tensors.

    Raises: BadModelFile naming the metadata key that is missing or wrong.
    """
    fields = _Fields(header)
    names = {tensor.name for tensor in tensors}
    return ModelSpec(
        path=header.path,
        name=fields.text("general.name") or os.path.basename(header.path),
        architecture=fields.architecture,
        file_bytes=file_bytes,
        n_params=sum(tensor.n_elements for tensor in tensors),
        weight_bytes=sum(tensor.n_bytes for tensor in tensors),
        file_type=FILE_TYPES.get(fields.count("general.file_type", 1 << 31), "unknown"),
        tensors=tuple(tensors),
        layers=_layers(fields),
        context_train=fields.own("context_length", 0) or 4096,
        embedding_length=fields.own("embedding_length"),
        feed_forward_length=max(fields.per_layer("feed_forward_length", 1, 0)),
        n_heads=max(fields.per_layer("attention.head_count", 1, 0)),
        vocab_size=header.lengths.get(_TOKENS) or fields.own("vocab_size", 0),
        n_merges=header.lengths.get("tokenizer.ggml.merges", 0),
        tied_embeddings="output.weight" not in names,
        chat_template=fields.text("tokenizer.chat_template"),
        licence=fields.text("general.license"),
        special_tokens=_special_tokens(fields),
        experts=fields.own("expert_count", 0),
        experts_used=fields.own("expert_used_count", 0),
        is_causal=fields.architecture not in _ENCODERS
        and header.metadata.get(f"{fields.architecture}.attention.causal", True) is not False,
    )


def _layers(fields: _Fields) -> tuple[Attention, ...]:
    n_layers = fields.own("block_count", most=_MOST_LAYERS)
    embedding = fields.own("embedding_length")
    heads = fields.per_layer("attention.head_count", n_layers, 0)
    kv_heads = fields.per_layer("attention.head_count_kv", n_layers, max(heads, default=0))
    head_length = embedding // max(max(heads, default=1), 1)
    key = fields.own("attention.key_length", head_length)
    value = fields.own("attention.value_length", head_length)
    if f"{fields.architecture}.attention.key_length_mla" in fields.header.metadata:
        # DeepSeek's latent cache: K alone is kept, V is a view of it.
        return (Attention(AttentionKind.LATENT, 1, key, 0),) * n_layers
    sliding = _sliding(fields, n_layers)
    window = fields.own("attention.sliding_window", 0)
    layers = []
    for n_kv, slides in zip(kv_heads, sliding, strict=True):
        if n_kv == 0:
            kind = AttentionKind.RECURRENT if _has_state(fields) else AttentionKind.NONE
            layers.append(Attention(kind, 0, 0, 0))
        elif slides:
            layers.append(Attention(AttentionKind.SLIDING, n_kv, key, value, window))
        else:
            layers.append(Attention(AttentionKind.FULL, n_kv, key, value))
    return tuple(layers)


def _has_state(fields: _Fields) -> bool:
    prefix = fields.architecture
    return any(k.startswith((f"{prefix}.ssm.", f"{prefix}.wkv.")) for k in fields.header.metadata)


def _sliding(fields: _Fields, n_layers: int) -> list[bool]:
    """Which layers keep only a window. Unknown patterns count as full: an upper bound."""
    window = fields.own("attention.sliding_window", 0)
    period, dense_first = SLIDING_PERIODS.get(fields.architecture, (1, False))
    key = f"{fields.architecture}.attention.sliding_window_pattern"
    if window == 0 or fields.architecture == "phi3":  # llama.cpp has phi3's window disabled
        return [False] * n_layers
    if isinstance(fields.header.metadata.get(key), list) or key in fields.header.lengths:
        return [bool(v) for v in fields.per_layer("attention.sliding_window_pattern", n_layers, 0)]
    period = fields.count(key, period)
    full = 0 if dense_first else period - 1
    return [period == 0 or layer % period != full for layer in range(n_layers)]


def _special_tokens(fields: _Fields) -> dict[str, str]:
    """Text of the special tokens, by role: {"bos": "<s>", ...}."""
    tokens = fields.header.metadata.get(_TOKENS)
    found: dict[str, str] = {}
    for key in fields.header.metadata:
        match = re.fullmatch(r"tokenizer\.ggml\.(\w+)_token_id", key)
        if match is None:
            continue
        number = fields.count(key, most=(1 << 32) - 1)
        known = isinstance(tokens, list) and number < len(tokens)
        found[match[1]] = tokens[number] if known and isinstance(tokens, list) else f"#{number}"
    return found
