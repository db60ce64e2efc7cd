"""How wide the work on one token is: what a compute buffer is made of.

llama.cpp lays out its compute buffer by going through the graph of the widest micro-batch
and reusing what is no longer needed. What is left at the widest point follows a few rules,
found by asking llama.cpp itself (bench/device_memory.py prints ours beside its own for every
architecture at hand): beside the feed-forward's own rows stand five of the embedding.
Sources: llama.cpp src/llama-graph.cpp (build_ffn, build_moe_ffn, build_attn),
src/models/*.cpp, ggml/src/ggml-alloc.c.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from snugly.model.types import Attention, AttentionKind, Build

_F32 = 4
_BESIDE = 5  # rows of the embedding beside a feed-forward
_CHUNK = 64  # tokens that a gated delta net takes at once; llama.cpp src/models/delta-net-base.cpp
# Rows of the embedding that an architecture keeps beyond those: where attention and
# feed-forward read the same row and are summed last (src/models/falcon.cpp, cohere2.cpp).
# Counted by the oracle.
_MORE_ROWS = {"falcon": 1, "cohere2": 1}
# Pictures go into the first three layers with the words', as rows of their own: the input is
# four rows wide (src/models/qwen3vl.cpp, n_deepstack_layers; 3 in all released models).
DEEP_LAYERS = 3
_DEEP = frozenset({"qwen3vl", "qwen3vlmoe"})


@dataclass(frozen=True, slots=True)
class States:
    """Elements per token at the widest points of layers with a state."""

    widest: int
    on_gpu: int  # the same where the input is a copy
    handed: int  # and where another device hands it on, if all layers have states
    scan_in_ram: bool  # Mamba 1: its scan stays with a state in RAM
    in_ram: int  # what stays with a state in RAM while a GPU does the products
    projected: int  # what goes into a Mamba layer's convolution and gate
    convolved: int  # a convolution's row
    taps: int  # tokens that a convolution reads at once
    inner: int  # what comes out of it
    chunk: int  # tokens that such a layer takes at once, each sequence by itself
    n_bytes: int  # of copies of its state, for each sequence


@dataclass(frozen=True, slots=True)
class Activations:
    """Elements (f32) per token at the widest points of a graph, by what is computed where."""

    embedding: int
    whole: int  # of a layer with all its parts on one device
    attention: int  # of a layer whose feed-forward is elsewhere
    attended: int  # of attention where a cache is widened beside it
    gate: int  # what stands there of queries that come with a gate: both, and themselves turned
    experts: int  # what the routed experts take alone, beside the row they read
    forward: int  # one row of the widest dense feed-forward
    routed: int  # one row of all experts used together
    routed_out: int  # what those give back before they are summed
    scores: int  # query heads: rows of scores where flash attention is off
    beside_scores: int  # what stands beside them
    indexer: int  # rows of scores of an indexer, of the whole cache each
    mask_each: bool  # whether each layer with an indexer looks at the mask by itself
    throughout: int  # what is kept through all layers
    per_layer: int  # of that, what is made for all layers at once, a part for each
    states: States
    gated: bool  # whether the dense feed-forward has a gate
    experts_gated: bool
    experts_biased: bool
    latent: int  # the widest point of latent attention
    input_rows: int  # rows of the embedding in an input: more than one where pictures go deep
    deep: int  # what those take beside a layer on the CPU
    deep_gpu: int  # and on a GPU
    place_row: int  # a row that the place of a token adds to its own, in RAM
    short: bool  # whether other layers are short convolutions (LFM2)
    fused_row: int  # of queries, keys and values from one matrix, where keys are not turned


def activations(build: Build) -> Activations:
    """How wide `build` is."""
    wide = {name: (given, gives) for name, given, gives in build.widths}
    row = build.embedding_length
    keys = max((layer.kv_heads * (layer.key_length + layer.value_length)
                for layer in build.layers), default=0)  # fmt: skip
    query = wide.get("attn_output", (0, 0))[0]
    inner = max(wide.get("ffn_down", (0, 0))[0], wide.get("ffn_down_shexp", (0, 0))[0])
    routed = build.experts_used * wide.get("ffn_down_exps", (0, 0))[0]
    routed_out = build.experts_used * wide.get("ffn_down_exps", (0, 0))[1]
    short = wide.get("shortconv.in_proj", (0, -6 * row))[1]  # src/models/lfm2.cpp
    attention = max(4 * row + 2 * query + keys // 2, _latent(build, wide))
    queries = wide.get("attn_q", (0, 0))[1]  # with a gate beside them in Qwen 3.5 and Next
    key = max((layer.key_length for layer in build.layers), default=0)
    gate = queries + query if queries == 2 * build.n_heads * key > 0 else 0
    attended = max(attention, 4 * row + 2 * query + gate if gate else 0)
    attention = max(attention, short + 6 * row)
    extra = _beside_all(build, wide)
    rows = 1 + DEEP_LAYERS if build.architecture in _DEEP else 1
    deep = _deep(wide, row, rows)
    forward = max(*_dense(wide), _mixture(build, wide))
    return Activations(
        embedding=row,
        whole=max(attention, forward + _BESIDE * row if forward else 0) + extra + deep[0],
        attention=attention + extra + deep[0],
        attended=attended + extra + deep[0],
        gate=gate,
        experts=(3 if _gated(wide, "_exps") else 1) * routed + routed_out,
        forward=inner,
        routed=routed,
        routed_out=routed_out,
        scores=build.n_heads,
        beside_scores=3 * row + 3 * query + keys,
        indexer=_indexer(build, wide),
        mask_each="indexer.q_proj" in wide,
        throughout=extra,
        per_layer=wide.get("per_layer_model_proj", (0, 0))[1],
        states=_states(build, wide, row),
        gated=_gated(wide) or _gated(wide, "_shexp"),
        experts_gated=_gated(wide, "_exps"),
        experts_biased="ffn_down_exps.bias" in wide,
        latent=_latent(build, wide),
        input_rows=rows,
        deep=deep[0],
        deep_gpu=deep[1],
        place_row=row if "position_embd" in wide else 0,
        short="shortconv.in_proj" in wide,
        fused_row=wide.get("attn_qkv", (0, 0))[1] if "position_embd" in wide else 0,
    )


def _states(build: Build, wide: dict[str, tuple[int, int]], row: int) -> States:
    mamba = "ssm_in" in wide  # or Mamba 2; else a gated delta net
    out = wide.get("ssm_out", (0, 0))[0]
    convolved = wide.get("ssm_conv1d", (0, 0))[1]
    widest = _recurrent(wide, row)
    kept = max((layer.state_bytes for layer in build.layers), default=0)
    first = "ssm_x" in wide  # Mamba: its input is a row of the embedding, given back
    return States(
        widest=widest,
        on_gpu=widest - (out + row if first else row if mamba else 0),
        handed=widest - (out + wide["ssm_x"][1] if first else 3 * row if mamba else 0),
        scan_in_ram=first,
        in_ram=3 * (out + row) if first else 0,
        projected=wide.get("ssm_in", (0, 0))[1],
        convolved=convolved,
        taps=wide.get("ssm_conv1d", (0, 0))[0],
        inner=out if mamba else 0,
        chunk=_CHUNK if convolved and not mamba else 1,
        n_bytes=2 * kept if mamba else 0,
    )


def _gated(wide: dict[str, tuple[int, int]], part: str = "") -> bool:
    given, gives = wide.get(f"ffn_down{part}", (0, 0)), wide.get(f"ffn_up{part}", (0, 0))
    fused = f"ffn_gate_up{part}" in wide or (given[0] and gives[1] == 2 * given[0])
    return bool(fused) or f"ffn_gate{part}" in wide


def _dense(wide: dict[str, tuple[int, int]]) -> Iterator[int]:
    """Widest points of feed-forwards that every token goes through."""
    for part in ("", "_shexp"):
        inner = wide.get(f"ffn_down{part}", (0, 0))[0]
        yield (3 if _gated(wide, part) else 1) * inner


def _mixture(build: Build, wide: dict[str, tuple[int, int]]) -> int:
    """Widest point of a mixture.

    What comes out needs room of its own where the rows that are done with are shorter.
    """
    inner, out = wide.get("ffn_down_exps", (0, 0))
    times = 3 if _gated(wide, "_exps") else 1
    rows, back = build.experts_used * inner, build.experts_used * out
    return times * rows + (back if (times - 1) * rows < back else 0)


def _latent(build: Build, wide: dict[str, tuple[int, int]]) -> int:
    """Widest point of latent attention (src/models/deepseek2.cpp).

    Each head's query in the latent space with and without its position, and what it gives.
    """
    key = max((layer.key_length for layer in build.layers
               if layer.kind is AttentionKind.LATENT), default=0)  # fmt: skip
    if not key:
        return 0
    return build.n_heads * (key + 2 * wide.get("attn_v_b", (key, 0))[0]) + build.embedding_length


def _beside_all(build: Build, wide: dict[str, tuple[int, int]]) -> int:
    """What is kept through all layers: per-layer embeddings and rows of the embedding."""
    return wide.get("per_layer_model_proj", (0, 0))[1] + (
        _MORE_ROWS.get(build.architecture, 0) * build.embedding_length
    )


def _deep(wide: dict[str, tuple[int, int]], row: int, rows: int) -> tuple[int, int]:
    """Rows of pictures that are kept for the first layers: on the CPU, on a GPU.

    There the input comes twice, padded and put together; here only the last two are left. A
    row of the feed-forward moves into what is free again, where it fits.
    """
    if rows == 1:
        return 0, 0
    inner = wide.get("ffn_down", (0, 0))[0]
    fits = inner if inner <= rows * row else 0
    return (4 * rows - 2) * row - fits, 2 * rows * row - fits


def _recurrent(wide: dict[str, tuple[int, int]], row: int) -> int:
    """Widest point of a layer with a state. The lengths are the matrices' own."""
    convolved = wide.get("ssm_conv1d", (0, 0))[1]
    inner = wide.get("ssm_out", (0, 0))[0]
    if "ssm_x" in wide:  # Mamba: input and gate, convolution, steps, scan
        return 6 * inner + 3 * row + wide["ssm_x"][1]
    if "ssm_in" in wide:  # Mamba 2
        return wide["ssm_in"][1] + 2 * convolved + 2 * inner + 2 * row
    if convolved:  # gated delta net
        return 4 * convolved
    return 0


def _indexer(build: Build, wide: dict[str, tuple[int, int]]) -> int:
    """Rows of scores, as long as the cache: two for each head of an indexer, and their mask.

    Three where one operation does it all (DeepSeek V3.2; ggml's LIGHTNING_INDEXER).
    """
    key = max((layer.index_key for layer in build.layers), default=0)
    if not key:
        return 0
    given = wide.get("indexer.q_proj", (0, 0))[1]
    return 2 * (given // key) + 1 if given else 3


def lends(build: Build) -> tuple[int, ...]:
    """Whose cache each layer reads, where the last ones read earlier ones' (Gemma 3n and 4).

    Source: llama.cpp src/llama-model.cpp, reuse: the last that has one and slides, or does not,
    as the layer itself. Layers that only draft have none.
    """
    drafts = any(name.startswith("nextn.") for name, _, _ in build.widths)
    if drafts or not any(kind.kv_heads and not kind.cached for kind in build.layers):
        return ()
    last: dict[bool, int] = {}
    found = []
    for index, kind in enumerate(build.layers):
        if kind.cached:
            last[bool(kind.window)] = index
        found.append(last.get(bool(kind.window), index))
    return tuple(found)


def state_room(work: Activations, tokens: int, n_seq: int, row: int) -> int:
    """Bytes of the widest point of a layer with a state; each sequence's is copied.

    `row`: elements per token there; one of `work.states`.
    """
    states = work.states
    if not row:
        return 0
    padded = n_seq * (-(-tokens // n_seq // states.chunk) * states.chunk)
    return _F32 * row * max(tokens, padded) + n_seq * states.n_bytes


def mask_cells(kinds: tuple[Attention, ...], sizes: tuple[int, ...]) -> int:
    """Cells of all masks: one for layers that keep everything, one for those that slide."""
    full = max((size for layer, size in zip(kinds, sizes, strict=True)
                if layer.kv_heads and not layer.window), default=0)  # fmt: skip
    slide = max((size for layer, size in zip(kinds, sizes, strict=True)
                 if layer.kv_heads and layer.window), default=0)  # fmt: skip
    return full + slide
