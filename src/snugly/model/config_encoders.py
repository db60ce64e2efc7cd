"""Encoders, for embeddings and reranking: BERT, XLM-RoBERTa and Nomic's BERT. Pure.

Source: llama.cpp conversion/bert.py (what is written) and src/models/bert.cpp, nomic-bert.cpp
(what is loaded). The pooling layer is left out, as there; a reranker keeps its head.
"""

from snugly.model.config_base import Family, base
from snugly.model.config_fields import Config
from snugly.model.config_rows import Row, Shape, rows

_TOP = rows("""
    token_embd.weight: embd vocab
    token_types.weight: embd kinds
    position_embd.weight: embd positions if positions
    token_embd_norm.weight: embd
    token_embd_norm.bias: embd
    cls.weight: embd embd if labels
    cls.bias: embd if labels
    cls.output.weight: embd labels if labels
    cls.output.bias: labels if labels
""")
_NORMS = rows("""
    attn_output_norm.weight: embd
    attn_output_norm.bias: embd
    layer_output_norm.weight: embd
    layer_output_norm.bias: embd
""")
_PLAIN = rows("""
    attn_q.weight: embd embd
    attn_q.bias: embd
    attn_k.weight: embd embd
    attn_k.bias: embd
    attn_v.weight: embd embd
    attn_v.bias: embd
    attn_output.weight: embd embd
    attn_output.bias: embd
    ffn_up.weight: embd ff
    ffn_up.bias: ff
    ffn_down.weight: ff embd
    ffn_down.bias: embd
""")
_NOMIC: tuple[Row, ...] = rows("""
    attn_qkv.weight: embd 3*embd
    attn_output.weight: embd embd
    ffn_up.weight: embd ff
    ffn_gate.weight: embd ff
    ffn_down.weight: ff embd
""")


def _encoder(config: Config) -> Shape:
    shape = base(config)
    shape.sizes |= {"kinds": config.positive("type_vocab_size", default=1), "labels": 0}
    if any("SequenceClassification" in str(name) for name in config.get("architectures") or ()):
        shape.sizes["labels"] = config.positive("num_labels", default=1)
    shape.metadata |= {
        ".attention.causal": False, "tokenizer.ggml.token_type_count": shape.sizes["kinds"],
    }  # fmt: skip
    return shape


def _bert(config: Config) -> Shape:
    shape = _encoder(config)
    if config.values["model_type"] == "xlm-roberta":
        # Positions start behind the padding: 514 rows are 512 positions.
        shape.metadata[".context_length"] -= 1 + config.count("pad_token_id", default=1)
    shape.sizes["positions"] = shape.metadata[".context_length"]
    return shape


def _nomic(config: Config) -> Shape:
    if config.count("num_experts", default=0):
        config.fail("num_experts", "Nomic's mixtures have no table")
    shape = _encoder(config)
    if (shape.metadata[".context_length"], config.get("max_trained_positions")) == (8192, 2048):
        shape.metadata[".context_length"] = 2048  # what it was trained for
    return shape


ENCODERS: tuple[Family, ...] = (
    Family("bert", ("bert", "xlm-roberta"), _TOP, _PLAIN + _NORMS, _bert,
           {"type_vocab_size": 2, "tie_word_embeddings": True}),
    Family("nomic-bert", ("nomic_bert",), _TOP, _NOMIC + _NORMS, _nomic,
           {"type_vocab_size": 2, "tie_word_embeddings": True, "max_trained_positions": 2048}),
)  # fmt: skip
