"""Encoders with random weights: small enough to be made when a test needs one.

What they say means nothing; that it arrives whole, in order and the same each time is what
the tests of embeddings and reranking hold clients to.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH = 64
_HIDDEN, _LAYERS, _HEADS, _CONTEXT = 128, 2, 2, 512
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?!-'"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_encoder(path: Path, *, ranks: bool = False, seed: int = 7) -> Path:
    """Write a BERT with random weights; one that `ranks` ends in a single relevance."""
    # A mark before a letter says that a word begins there (llama.cpp's WordPiece).
    words = [*_SPECIAL, *(f"\u2581{letter}" for letter in _LETTERS), *_LETTERS]
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("random encoder")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_block_count(_LAYERS)
    writer.add_head_count(_HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if ranks else gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(words)
    writer.add_token_types([3] * len(_SPECIAL) + [1] * (len(words) - len(_SPECIAL)))
    writer.add_token_type_count(2)
    for role, number in (("pad", 0), ("unk", 1), ("bos", 2), ("sep", 3), ("mask", 4)):
        getattr(writer, f"add_{role}_token_id")(number)
    random = np.random.default_rng(seed)
    for name, shape in _tensors(len(words), ranks).items():
        weight = name.endswith("norm.weight")
        values = np.ones(shape) if weight else random.normal(0.0, 0.2, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(n_words: int, ranks: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes, the outer dimension first: llama.cpp src/models/bert.cpp."""
    found: dict[str, Any] = {
        "token_embd.weight": (n_words, WIDTH),
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (_CONTEXT, WIDTH),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
    }
    for layer in range(_LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found[f"blk.{layer}.{part}.weight"] = (WIDTH, WIDTH)
            found[f"blk.{layer}.{part}.bias"] = (WIDTH,)
        for part in ("attn_output_norm", "layer_output_norm"):
            found[f"blk.{layer}.{part}.weight"] = (WIDTH,)
            found[f"blk.{layer}.{part}.bias"] = (WIDTH,)
        found[f"blk.{layer}.ffn_up.weight"] = (_HIDDEN, WIDTH)
        found[f"blk.{layer}.ffn_up.bias"] = (_HIDDEN,)
        found[f"blk.{layer}.ffn_down.weight"] = (WIDTH, _HIDDEN)
        found[f"blk.{layer}.ffn_down.bias"] = (WIDTH,)
    if ranks:
        found |= {"cls.weight": (WIDTH, WIDTH), "cls.bias": (WIDTH,)}
        found |= {"cls.output.weight": (1, WIDTH), "cls.output.bias": (1,)}
    return found
