"""The nouns of a model, as read from a GGUF header."""

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. `shape` is in GGUF order: the row length comes first."""

    name: str
    shape: tuple[int, ...]
    ggml_type: str  # "Q4_K", "F16", ... as in gguf.GGMLQuantizationType
    offset: int  # from the start of the data section
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class AttentionKind(StrEnum):
    """How one layer remembers the past."""

    FULL = "full"  # multi-head, grouped or multi-query: every position is kept
    SLIDING = "sliding"  # only the last `window` positions are kept
    LATENT = "latent"  # DeepSeek's compressed cache
    RECURRENT = "recurrent"  # a state of fixed size
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Attention:
    """What one layer remembers: KV heads, length of a key and of a value per head, and more.

    `window` is set wherever only the last positions are kept, in latent layers too.
    `index_key` and `index_value` are the elements per position of a second cache, that of
    an indexer (DeepSeek V3.2, GLM-5, MiniMax M3). With `compression` c (DeepSeek V4), one
    more entry of the key's length, and of the indexer's, stands for each c positions.
    """

    kind: AttentionKind
    kv_heads: int
    key_length: int
    value_length: int
    window: int | None = None
    state_bytes: int = 0  # f32 state of a recurrent layer, per sequence
    index_key: int = 0
    index_value: int = 0
    compression: int | None = None  # 0: V4, but this layer does not compress
    cached: bool = True  # False: reads an earlier layer's cache, or is there only to draft


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A GGUF file's header, checked against the file's size.

    `metadata` maps keys to Python values; arrays of more than 4096 elements are
    kept as their length only, in `lengths`.
    """

    path: str
    version: int
    file_bytes: int
    data_offset: int
    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What planning needs to know of one GGUF. Lengths are counts of elements."""

    path: str
    name: str
    architecture: str
    file_bytes: int
    n_params: int
    weight_bytes: int  # sum over tensors
    file_type: str  # "Q4_K_M", "Q4_1", ... or "unknown"
    tensors: tuple[Tensor, ...]
    layers: tuple[Attention, ...]
    context_train: int
    embedding_length: int
    feed_forward_length: int
    n_heads: int
    vocab_size: int
    n_merges: int  # merge rules of a byte-pair tokenizer; 0 for others
    tied_embeddings: bool
    chat_template: str
    licence: str
    special_tokens: dict[str, str]
    experts: int  # per layer of a mixture; 0 for a dense model
    experts_used: int  # of them per token
    is_causal: bool  # False for encoders (BERT) and other models that cannot chat
    # How vectors are made of tokens: llama.cpp's LLAMA_POOLING_TYPE; 0: it is made to write,
    # 4: it ranks documents, others: it makes vectors.
    pooling: int = 0

    @property
    def own_name(self) -> str:
        """What its header calls it; empty where only the file has a name."""
        return "" if self.name == os.path.basename(self.path) else self.name

    @property
    def made_for(self) -> str:
        """The one task that it can do, "embed" or "rerank"; empty: what writes can do."""
        if self.pooling == 4:
            return "rerank"
        return "" if self.is_causal and not self.pooling else "embed"


Bytes = tuple[tuple[str, int], ...]  # (ggml type, bytes) of one or more tensors, by type


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights of one layer, by how a plan can place them.

    `experts` are the routed experts of a mixture, of which a token reads
    `experts_used / experts`; a plan may leave them in RAM (`--n-cpu-moe`).
    """

    dense: Bytes  # read by every token: attention, norms, feed-forward, shared experts, router
    experts: Bytes = ()


@dataclass(frozen=True, slots=True)
class Build:
    """One model in one quantization, in the few numbers that a search over many needs.

    Made of a ModelSpec by `model.build.build_of`, or read from the catalogue. Everything a
    plan may place or a token may read is in it once: `embedding` is only looked up by row
    and stays in RAM; `output` is the head and what follows the last layer. Of a model with
    tied embeddings `output` repeats the embedding, which the loader duplicates where the
    two live in different places.
    """

    name: str
    architecture: str
    file_type: str
    file_bytes: int
    n_params: int
    layers: tuple[Attention, ...]
    weights: tuple[LayerWeights, ...]  # one per layer, in order
    embedding: Bytes
    output: Bytes
    tied_embeddings: bool
    context_train: int
    embedding_length: int
    feed_forward_length: int
    n_heads: int
    vocab_size: int
    n_merges: int
    experts: int
    experts_used: int
    is_causal: bool
    # (name without "blk.N." and ".weight", elements in, elements out) of each matrix, the
    # widest of all layers: what a compute buffer is made of
    widths: tuple[tuple[str, int, int], ...] = ()
    tied_bytes: int = 0  # that stand both in `embedding` and in `output`


@dataclass(frozen=True, slots=True)
class Outline:
    """A build in its sums: enough to say how fast it can be at most, and what it cannot fit in.

    Bytes are those of all layers that are loaded, and of what follows the last one.
    """

    file_bytes: int
    context_train: int
    dense: Bytes
    experts: Bytes
    output: Bytes
    kinds: tuple[tuple[Attention, int], ...]  # each kind of layer, and how many there are
    mixtures: int  # layers with routed experts
    experts_share: float  # of these, what a token reads
    n_heads: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a stored file came from; kept as JSON beside it."""

    source: str  # "hub", "pypi", "local", "ollama", "lmstudio", "gpt4all", "jan", "hf-cache"
    origin: str  # repository, package or path
    revision: str  # commit, version or ""
    sha256: str
    n_bytes: int
    licence: str


@dataclass(frozen=True, slots=True)
class Installed:
    """One model that can be run now. `parts` are all files of a split model, in order."""

    ref: str  # "publisher/model/file", what `snugly models` prints and `-m` accepts
    path: str
    parts: tuple[str, ...]
    provenance: Provenance
    adopted: bool  # the file belongs to another program and is never deleted by us
