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
# feed-forward read the same row and are summed last (src/models/falcon.cpp, cohere2.cpp), and
# those of pictures, which go into the first layers with the words' and are cut out again
# (qwen3vl.cpp). Counted by the oracle.
_MORE_ROWS = {"falcon": 1, "cohere2": 1, "qwen3vl": 11, "qwen3vlmoe": 14}


@dataclass(frozen=True, slots=True)
class Activations:
    """Elements (f32) per token at the widest points of a graph, by what is computed where."""

    embedding: int
    whole: int  # of a layer with all its parts on one device
    attention: int  # of a layer whose feed-forward is elsewhere
    experts: int  # what the routed experts take alone, beside the row they read
    forward: int  # one row of the widest dense feed-forward
    routed: int  # one row of all experts used together
    routed_out: int  # what those give back before they are summed
    scores: int  # query heads: rows of scores where flash attention is off
    beside_scores: int  # what stands beside them
    recurrent: int  # of a layer with a state
    chunk: int  # tokens that such a layer takes at once, each sequence by itself
    state_bytes: int  # of copies of its state, for each sequence
    indexer: int  # rows of scores of an indexer, of the whole cache each
    throughout: int  # what is kept through all layers


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
    attention = max(4 * row + 2 * query + keys // 2, _latent(build, wide))
    extra = _beside_all(build, wide)
    forward = max(*_dense(wide), _mixture(build, wide))
    return Activations(
        embedding=row,
        whole=max(attention, forward + _BESIDE * row if forward else 0) + extra,
        attention=attention + extra,
        experts=(3 if _gated(wide, "_exps") else 1) * routed + routed_out,
        forward=inner,
        routed=routed,
        routed_out=routed_out,
        scores=build.n_heads,
        beside_scores=3 * row + 3 * query + keys,
        recurrent=_recurrent(wide, row),
        chunk=_CHUNK if "ssm_conv1d" in wide and "ssm_in" not in wide else 1,
        state_bytes=(2 if "ssm_in" in wide else 0)
        * max((layer.state_bytes for layer in build.layers), default=0),
        indexer=_indexer(build, wide),
        throughout=extra,
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


def state_room(work: Activations, tokens: int, n_seq: int) -> int:
    """Bytes of the widest point of a layer with a state; each sequence's is copied."""
    if not work.recurrent:
        return 0
    padded = n_seq * (-(-tokens // n_seq // work.chunk) * work.chunk)
    return _F32 * work.recurrent * max(tokens, padded) + n_seq * work.state_bytes


def mask_cells(kinds: tuple[Attention, ...], sizes: tuple[int, ...]) -> int:
    """Cells of all masks: one for layers that keep everything, one for those that slide."""
    full = max((size for layer, size in zip(kinds, sizes, strict=True)
                if layer.kv_heads and not layer.window), default=0)  # fmt: skip
    slide = max((size for layer, size in zip(kinds, sizes, strict=True)
                 if layer.kv_heads and layer.window), default=0)  # fmt: skip
    return full + slide
