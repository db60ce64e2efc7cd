"""What each layer remembers, read from a GGUF header as llama.cpp reads it.

Sources, in llama.cpp at xllamacpp 2026.10: src/llama-hparams.cpp (which layer slides, is
recurrent or keeps anything), src/models/*.cpp (`load_arch_hparams` of each architecture),
src/llama-model.cpp (`create_memory`: which cache). `bench/kv_accuracy.py` holds this to
the engine's own accounting.
"""

from dataclasses import dataclass

from snugly.model.attention_kinds import (
    ALL_RECURRENT,
    CHUNK,
    DEFAULT_WINDOWS,
    FULL_EVERY,
    KEEPS_NEXTN,
    NEMOTRONS,
    NO_CACHE,
    NO_WINDOW,
    SECOND_CACHE,
    SLIDING_PERIODS,
    SMALLTHINKER_WINDOW,
    WIDE_BESIDE_STATE,
)
from snugly.model.fields import Fields
from snugly.model.indexer import compressed, second_caches
from snugly.model.recurrent import is_recurrent_by_heads, state_bytes
from snugly.model.types import Attention, AttentionKind

__all__ = ["NO_CACHE", "layers_of"]

_MOST_LAYERS = 4096  # far above any model; bounds what a damaged header can make us build


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a header says of its layers; lists have one entry per layer."""

    n_layers: int  # with the layers that only draft
    n_trunk: int  # without
    kv_heads: list[int]
    full: tuple[int, int]  # length of a key and of a value per head
    sliding: tuple[int, int]  # the same in sliding layers
    latent: bool
    slides: list[bool]
    window: int
    recurrent: list[bool]
    state_bytes: int  # of one recurrent layer and sequence
    second: list[tuple[int, int]]  # key and value row of an indexer's cache
    n_owners: int  # layers from here on read the cache of an earlier one


def layers_of(fields: Fields) -> tuple[Attention, ...]:
    """Every layer's attention in order; layers that draft several tokens come last.

    Raises: BadModelFile naming the metadata key that is missing or wrong.
    """
    n_layers = fields.own("block_count", most=_MOST_LAYERS)
    if fields.architecture in NO_CACHE:
        return (Attention(AttentionKind.NONE, 0, 0, 0),) * n_layers
    shape = _shape(fields, n_layers)
    layers = tuple(_layer(fields.architecture, shape, layer) for layer in range(n_layers))
    if fields.architecture == "graniteswitch":  # one more head remembers which adapter is on
        layers += (Attention(AttentionKind.FULL, 1, *shape.full),)
    if fields.architecture == "nanbeige":  # the same layers several times, each with a cache
        layers *= fields.own("num_loops", 1, most=_MOST_LAYERS)
    return compressed(fields, layers)


def _shape(fields: Fields, n_layers: int) -> _Shape:
    n_trunk = n_layers - fields.own("nextn_predict_layers", 0, most=n_layers)
    heads = fields.per_layer("attention.head_count", n_layers, 0)
    kv_heads = _kv_heads(fields, n_layers, heads)
    first = heads[0] if heads else 0
    key, value = _lengths(fields, first)
    window = _window(fields, n_trunk)
    recurrent = _recurrent(fields, n_layers, n_trunk, kv_heads)
    return _Shape(
        n_layers=n_layers,
        n_trunk=n_trunk,
        kv_heads=kv_heads,
        full=(key, value),
        sliding=(
            fields.own("attention.key_length_swa", key),
            fields.own("attention.value_length_swa", value),
        ),
        latent=_is_latent(fields),
        slides=_slides(fields, n_trunk, window, recurrent),
        window=window,
        recurrent=recurrent,
        state_bytes=state_bytes(fields, first, key),
        second=second_caches(fields, n_layers, n_trunk, value),
        n_owners=_owners(fields, n_layers),
    )


def _layer(architecture: str, shape: _Shape, layer: int) -> Attention:
    """One layer. Nemotron's feed-forward layers and others without KV heads keep nothing."""
    kv_heads = shape.kv_heads[layer]
    beside = architecture in WIDE_BESIDE_STATE
    if shape.recurrent[layer] and not beside:
        return Attention(AttentionKind.RECURRENT, 0, 0, 0, state_bytes=shape.state_bytes)
    if kv_heads == 0:
        return Attention(AttentionKind.NONE, 0, 0, 0)
    slides = shape.slides[layer]
    key, value = shape.sliding if slides else shape.full
    kind = AttentionKind.SLIDING if slides else AttentionKind.FULL
    if shape.latent:
        kind, value = AttentionKind.LATENT, 0  # K alone is kept, V is a view of it
    drafts = layer >= shape.n_trunk > 0 and architecture not in KEEPS_NEXTN
    second = (0, 0)
    if architecture in SECOND_CACHE and not drafts:
        second = shape.second[layer]
    return Attention(
        kind, kv_heads, key, value,
        window=shape.window if slides else None,
        state_bytes=shape.state_bytes if beside and layer < shape.n_trunk else 0,
        index_key=second[0],
        index_value=second[1],
        cached=layer < shape.n_owners and not drafts,
    )  # fmt: skip


def _kv_heads(fields: Fields, n_layers: int, heads: list[int]) -> list[int]:
    """As stated, else as many as query heads in each layer."""
    stated = f"{fields.architecture}.attention.head_count_kv"
    header = fields.header
    if stated not in header.metadata and stated not in header.lengths:
        return heads
    kv_heads = fields.per_layer("attention.head_count_kv", n_layers, 0)
    if fields.architecture in NEMOTRONS:  # a layer with a feed-forward has no attention
        feed = fields.per_layer("feed_forward_length", n_layers, 0)
        return [0 if ff else kv for kv, ff in zip(kv_heads, feed, strict=True)]
    return kv_heads


def _lengths(fields: Fields, heads: int) -> tuple[int, int]:
    """Length of a key and of a value per head; a model without heads has neither."""
    if heads == 0 and fields.architecture != "plamo2":
        return 0, 0
    usual = fields.own("embedding_length") // max(heads, 1)
    return (
        fields.own("attention.key_length", usual),
        fields.own("attention.value_length", usual),
    )


def _is_latent(fields: Fields) -> bool:
    """Whether K and V are kept as one short vector (DeepSeek V2 and what follows it)."""
    lengths = (
        fields.own("attention.key_length_mla", 0),
        fields.own("attention.value_length_mla", 0),
    )
    return all(lengths)


def _owners(fields: Fields, n_layers: int) -> int:
    """How many layers, from the first on, keep a cache of their own."""
    if fields.architecture == "gemma3n":
        return 20  # src/models/gemma3n.cpp; E2B has 30 layers, E4B 35
    if fields.architecture == "gemma4-assistant":
        return 0  # it drafts for a Gemma 4 and reads that model's cache
    if fields.architecture == "gemma4":
        return n_layers - fields.own("attention.shared_kv_layers", 0, most=n_layers)
    return n_layers


def _window(fields: Fields, n_trunk: int) -> int:
    """Positions that a sliding layer sees; 0 where none slides."""
    architecture = fields.architecture
    stated = fields.own("attention.sliding_window", DEFAULT_WINDOWS.get(architecture, 0))
    if architecture in NO_WINDOW or (architecture == "exaone4" and n_trunk != 64):
        return 0  # exaone4: only the 32B slides, and llama.cpp knows it by its 64 layers
    if architecture == "smallthinker" and stated:
        return SMALLTHINKER_WINDOW
    if architecture == "llama4" and stated:
        return CHUNK
    return stated


def _slides(fields: Fields, n_trunk: int, window: int, recurrent: list[bool]) -> list[bool]:
    """Which layers keep only a window. Unknown patterns count as full: an upper bound."""
    n_layers = len(recurrent)
    if window == 0:
        return [False] * n_layers
    if fields.architecture == "lfm2":
        return [layer < n_trunk and not state for layer, state in enumerate(recurrent)]
    name = "attention.sliding_window_pattern"
    key = f"{fields.architecture}.{name}"
    if isinstance(fields.header.metadata.get(key), list) or key in fields.header.lengths:
        stated = min(fields.header.lengths.get(key, n_layers), n_layers)  # the rest is full
        return [bool(v) for v in fields.per_layer(name, stated, 0)] + [False] * (n_layers - stated)
    period, dense_first = SLIDING_PERIODS.get(fields.architecture, (1, False))
    period = fields.count(key, period)
    full = 0 if dense_first else period - 1
    return [
        layer < n_trunk and (period == 0 or layer % period != full) for layer in range(n_layers)
    ]


def _recurrent(fields: Fields, n_layers: int, n_trunk: int, kv_heads: list[int]) -> list[bool]:
    """Which layers keep a state of fixed size."""
    architecture = fields.architecture
    trunk = [layer < n_trunk for layer in range(n_layers)]
    if architecture in ALL_RECURRENT or architecture in WIDE_BESIDE_STATE:
        return trunk
    if architecture in FULL_EVERY:
        return _by_interval(fields, n_layers, trunk)
    if architecture in NEMOTRONS:  # neither attention nor feed-forward
        feed = fields.per_layer("feed_forward_length", n_layers, 0)
        return [t and kv == 0 and ff == 0 for t, kv, ff in zip(trunk, kv_heads, feed, strict=True)]
    by_heads = is_recurrent_by_heads(fields)
    return [by_heads and t and kv == 0 for t, kv in zip(trunk, kv_heads, strict=True)]


def _by_interval(fields: Fields, n_layers: int, trunk: list[bool]) -> list[bool]:
    """Qwen3-Next and its kind: every n-th layer has attention, or the header lists them."""
    key = f"{fields.architecture}.attention.recurrent_layers"
    if key in fields.header.metadata or key in fields.header.lengths:
        stated = fields.per_layer("attention.recurrent_layers", n_layers, 0)
        return [t and bool(v) for t, v in zip(trunk, stated, strict=True)]
    every = fields.own("full_attention_interval", FULL_EVERY[fields.architecture])
    if every == 0:
        fields.fail(f"{fields.architecture}.full_attention_interval", "It is 0")
    return [t and (layer + 1) % every != 0 for layer, t in enumerate(trunk)]
